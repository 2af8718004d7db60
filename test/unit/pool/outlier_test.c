/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

/* ---- what ejects ----------------------------------------------------------------------------- */

/* A letter an outcome at member 0 of three. */
static enum pool_outcome outcome_of(char c)
{
    switch (c) {
    case 'a':
        return POOL_ANSWERED;
    case 'c':
        return POOL_CANCELLED;
    case 'n':
        return POOL_NO_ANSWER;
    case 'r':
        return POOL_REFUSED;
    case 'o':
        return POOL_OVERLOADED;
    case 't':
        return POOL_TIMED_OUT;
    default:
        return POOL_LOST;
    }
}

static const struct {
    const char *name;
    uint32_t eject_after;
    const char *outcomes;
    bool ejected; /* by the last one, not before */
} eject_cases[] = {
    {"five without answer", 5, "nnnnn", true},
    {"four without answer", 5, "nnnn", false},
    {"an answer starts the count anew", 5, "nnnnannnn", false},
    {"and then five again", 5, "nnnnannnnn", true},
    {"failures of all kinds add up", 5, "notnr", true},
    {"503 without Retry-After", 5, "ooooo", true},
    {"408", 5, "ttttt", true},
    {"430 says nothing", 5, "nnnnllllllll", false},
    {"nor does it start the count anew", 5, "nnnnlln", true},
    {"a caller that went away says nothing", 5, "nnnncccccccn", true},
    {"two refusals are enough", 5, "rr", true},
    {"one is not", 5, "r", false},
    {"refusals with silence between", 5, "rnr", false},
    {"refusals with an answer between", 5, "rarar", false},
    {"eject_after one", 1, "n", true},
    {"eject_after one, refused", 1, "r", true},
    {"never, when switched off", 0, "nnnnnnnnnnrrrr", false},
};

static void failures_in_a_row_eject(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof eject_cases / sizeof eject_cases[0]; i++) {
        struct world w;
        world_one(&w, POOL_LEAST_BUSY, 3)->outlier.eject_after = eject_cases[i].eject_after;
        world_adopt(&w, 1);
        print_message("%s\n", eject_cases[i].name);
        const char *o = eject_cases[i].outcomes;
        for (; *o != '\0'; o++) {
            assert_true(world_fit(&w, 0));
            bool ejected = world_try(&w, 0, outcome_of(*o));
            assert_int_equal(ejected, o[1] == '\0' && eject_cases[i].ejected);
            world_pass(&w, NS_MS);
        }
        assert_int_equal(world_fit(&w, 0), !eject_cases[i].ejected);
        assert_true(world_fit(&w, 1));
        assert_int_equal(world_status(&w, 0).open, 0);
        world_end(&w);
    }
}

/* Hundreds of tries hang on a target that died; when they fail after its ejection, they neither
 * eject again nor prolong it. */
static void late_failures_say_nothing_new(void **state)
{
    (void)state;
    struct world w;
    unsigned ejections = 0;
    world_one(&w, POOL_LEAST_BUSY, 3);
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 300; i++)
        pool_begin(w.p, world_target(&w, 0), w.now);
    mono_ns start = w.now;
    for (unsigned i = 0; i < 300; i++) {
        ejections += pool_end(w.p, world_target(&w, 0), POOL_NO_ANSWER, 0, w.now);
        world_pass(&w, 6 * NS_MS);
    }
    assert_int_equal(ejections, 1);
    assert_int_equal(world_status(&w, 0).open, 0);
    assert_int_equal(world_status(&w, 0).failed, 300);
    w.now = start + 4 * 6 * NS_MS + 5 * NS_S;
    assert_true(world_fit(&w, 0));
    world_end(&w);
}

/* ---- for how long ---------------------------------------------------------------------------- */

static dur_ns ejected_for(struct world *w)
{
    mono_ns start = w->now;
    while (!world_fit(w, 0)) {
        assert_int_not_equal(world_choose(w, 0, NULL), 0);
        world_pass(w, 10 * NS_MS);
    }
    return w->now - start;
}

static void each_ejection_is_longer(void **state)
{
    (void)state;
    static const unsigned spans_s[] = {5, 10, 20, 40, 60, 60, 60};
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 3);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    for (unsigned i = 0; i < sizeof spans_s / sizeof spans_s[0]; i++) {
        assert_int_equal(ejected_for(&w), spans_s[i] * NS_S);
        assert_true(world_try(&w, 0, POOL_NO_ANSWER)); /* on probation one is enough */
    }
    world_end(&w);
}

static void quiet_time_takes_doublings_back(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 3);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    for (unsigned i = 0; i < 3; i++) { /* 5, 10, 20 */
        ejected_for(&w);
        assert_true(world_try(&w, 0, POOL_NO_ANSWER));
    }
    assert_int_equal(ejected_for(&w), 40 * NS_S);
    (void)world_try(&w, 0, POOL_ANSWERED);
    world_pass(&w, 125 * NS_S); /* two of eject_max: two doublings less */
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    assert_int_equal(ejected_for(&w), 20 * NS_S);
    (void)world_try(&w, 0, POOL_ANSWERED);
    world_pass(&w, 3600 * NS_S);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    assert_int_equal(ejected_for(&w), 5 * NS_S);
    world_end(&w);
}

static void an_answer_ends_probation(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 3);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_TIMED_OUT, 5);
    ejected_for(&w);
    assert_false(world_try(&w, 0, POOL_ANSWERED));
    for (unsigned i = 0; i < 4; i++)
        assert_false(world_try(&w, 0, POOL_TIMED_OUT));
    assert_true(world_try(&w, 0, POOL_TIMED_OUT));
    world_end(&w);
}

/* In a panic, or by requests that are bound to it, an ejected target may prove that it works. */
static void three_answers_end_an_ejection(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 1);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    assert_true(pool_panics(w.p, 0));
    (void)world_try(&w, 0, POOL_ANSWERED);
    (void)world_try(&w, 0, POOL_ANSWERED);
    assert_false(world_fit(&w, 0));
    (void)world_try(&w, 0, POOL_ANSWERED);
    assert_true(world_fit(&w, 0));
    assert_false(pool_panics(w.p, 0));
    world_end(&w);
}

/* ---- silence and signs of life --------------------------------------------------------------- */

static const struct {
    const char *name;
    enum pool_outcome outcome;
    bool health;
    bool knows_options; /* it has answered a probe before */
    char sign;          /* during the ejection: p probe answered, h heard, e echo at once, - none */
    bool back;          /* when the time is over */
} silence_cases[] = {
    {"refused, no sign", POOL_REFUSED, true, true, '-', false},
    {"refused, answers a probe", POOL_REFUSED, true, true, 'p', true},
    {"refused, heard", POOL_REFUSED, true, true, 'h', true},
    {"refused, a last datagram was under way", POOL_REFUSED, true, true, 'e', false},
    {"refused, no health checks", POOL_REFUSED, false, false, '-', true},
    {"no answer, no sign", POOL_NO_ANSWER, true, true, '-', false},
    {"no answer, answers a probe", POOL_NO_ANSWER, true, true, 'p', true},
    {"503: it is there", POOL_OVERLOADED, true, true, '-', true},
    {"408: it is there", POOL_TIMED_OUT, true, true, '-', true},
    {"knows no OPTIONS: probes mean nothing", POOL_NO_ANSWER, true, false, '-', true},
};

static void a_silent_one_needs_a_sign_of_life(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof silence_cases / sizeof silence_cases[0]; i++) {
        struct world w;
        struct pool_opts *o = world_one(&w, POOL_LEAST_BUSY, 3);
        o->health.on = silence_cases[i].health;
        o->health.fall = 1000; /* only the ejection is looked at */
        world_adopt(&w, 1);
        print_message("%s\n", silence_cases[i].name);
        (void)world_try(&w, 0, POOL_ANSWERED);
        world_run(&w, 5 * NS_S, silence_cases[i].knows_options ? 7 : 6);
        world_fail(&w, 0, silence_cases[i].outcome, 5);
        assert_false(world_fit(&w, 0));
        if (silence_cases[i].sign == 'e')
            pool_heard(w.p, world_target(&w, 0), w.now + 100 * NS_MS);
        world_run(&w, 3 * NS_S, silence_cases[i].sign == 'p' ? 7 : 6);
        if (silence_cases[i].sign == 'h')
            pool_heard(w.p, world_target(&w, 0), w.now);
        assert_false(world_fit(&w, 0));
        world_run(&w, 2 * NS_S, 6);
        assert_int_equal(world_fit(&w, 0), silence_cases[i].back);
        world_end(&w);
    }
}

static void a_sign_after_the_time_is_over_brings_it_back(void **state)
{
    (void)state;
    for (unsigned probed = 0; probed < 2; probed++) {
        struct world w;
        struct pool_opts *o = world_one(&w, POOL_ROUND_ROBIN, 2);
        o->health.on = true;
        o->health.fall = 1000;
        world_adopt(&w, 1);
        world_run(&w, 3 * NS_S, 3);
        world_fail(&w, 0, POOL_REFUSED, 2);
        world_run(&w, 60 * NS_S, 2);
        assert_false(world_fit(&w, 0));
        if (probed == 1)
            pool_probe_result(w.p, world_target(&w, 0), true, w.now);
        else
            pool_heard(w.p, world_target(&w, 0), w.now);
        assert_true(world_fit(&w, 0));
        unsigned counts[POOL_TARGETS_MAX];
        world_count(&w, 110, counts);
        assert_near(counts[0], 10, 1); /* slow start begins now, not when the time was over */
        world_end(&w);
    }
}

/* A call that had hung on it all the time is answered at last, even if only by a 430. */
static void a_late_answer_is_a_sign_of_life(void **state)
{
    (void)state;
    static const enum pool_outcome answers[] = {POOL_LOST, POOL_ANSWERED, POOL_TIMED_OUT};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct world w;
        struct pool_opts *o = world_one(&w, POOL_ROUND_ROBIN, 2);
        o->health.on = true;
        o->health.fall = 1000;
        world_adopt(&w, 1);
        pool_begin(w.p, world_target(&w, 0), w.now);
        world_fail(&w, 0, POOL_NO_ANSWER, 5);
        world_run(&w, 10 * NS_S, 2);
        assert_false(world_fit(&w, 0));
        (void)pool_end(w.p, world_target(&w, 0), answers[i], 0, w.now);
        assert_true(world_fit(&w, 0));
        unsigned counts[POOL_TARGETS_MAX];
        world_count(&w, 110, counts);
        assert_near(counts[0], 10, 1);
        world_end(&w);
    }
}

/* Nobody is there: find out at once when that changes. */
static void an_ejection_sends_a_probe(void **state)
{
    (void)state;
    struct world w;
    struct pool_opts *o = world_one(&w, POOL_LEAST_BUSY, 2);
    o->health.on = true;
    o->health.every = 3600 * NS_S;
    world_adopt(&w, 1);
    world_run(&w, NS_S, 3);
    world_fail(&w, 0, POOL_REFUSED, 2);
    assert_true(pool_deadline(w.p) <= w.now + NS_MS);
    assert_int_equal(world_run(&w, 10 * NS_MS, 3), 1);
    world_end(&w);
}

/* ---- Retry-After ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    dur_ns advice, least, most;
} advice_cases[] = {
    {"one second", NS_S, NS_S, 6 * NS_S / 5},
    {"ten seconds", 10 * NS_S, 10 * NS_S, 12 * NS_S},
    {"a minute", 60 * NS_S, 60 * NS_S, 72 * NS_S},
    {"an hour is too much", 3600 * NS_S, 60 * NS_S, 72 * NS_S},
    {"the largest number", UINT64_MAX, 60 * NS_S, 72 * NS_S},
    {"a nanosecond", 1, 1, 1},
};

static void retry_after_is_heeded(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof advice_cases / sizeof advice_cases[0]; i++) {
        struct world w;
        world_one(&w, POOL_ROUND_ROBIN, 3);
        world_adopt(&w, 1);
        print_message("%s\n", advice_cases[i].name);
        mono_ns start = w.now;
        pool_begin(w.p, world_target(&w, 0), w.now);
        assert_false(
            pool_end(w.p, world_target(&w, 0), POOL_OVERLOADED, advice_cases[i].advice, w.now));
        w.now = start + advice_cases[i].least - 1;
        assert_false(world_fit(&w, 0));
        for (unsigned n = 0; n < 6; n++)
            assert_int_not_equal(world_choose(&w, 0, NULL), 0);
        w.now = start + advice_cases[i].most + 1;
        assert_true(world_fit(&w, 0));
        unsigned counts[POOL_TARGETS_MAX];
        world_count(&w, 300, counts);
        assert_int_equal(counts[0], 100);
        world_end(&w);
    }
}

static void advice_differs_from_edge_to_edge(void **state)
{
    (void)state;
    struct world w;
    unsigned back = 0;
    world_one(&w, POOL_ROUND_ROBIN, 200);
    world_adopt(&w, 1);
    for (uint16_t m = 0; m < 200; m++) {
        pool_begin(w.p, world_target(&w, m), w.now);
        (void)pool_end(w.p, world_target(&w, m), POOL_OVERLOADED, 10 * NS_S, w.now);
    }
    world_pass(&w, 11 * NS_S);
    for (uint16_t m = 0; m < 200; m++)
        back += world_fit(&w, m);
    assert_near(back, 100, 30);
    world_end(&w);
}

static void advice_does_not_eject_and_the_longest_counts(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 3);
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 20; i++) {
        pool_begin(w.p, world_target(&w, 0), w.now);
        assert_false(
            pool_end(w.p, world_target(&w, 0), POOL_OVERLOADED, i == 3 ? 30 * NS_S : NS_S, w.now));
    }
    assert_false(world_status(&w, 0).ejected);
    world_pass(&w, 29 * NS_S);
    assert_false(world_fit(&w, 0));
    world_pass(&w, 8 * NS_S);
    assert_true(world_fit(&w, 0));
    world_end(&w);
}

/* All asked for quiet: they are alive, and to go on would be what they asked us not to do. */
static void a_pool_that_asked_for_quiet_gets_it(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 2);
    world_adopt(&w, 1);
    for (uint16_t m = 0; m < 2; m++) {
        pool_begin(w.p, world_target(&w, m), w.now);
        (void)pool_end(w.p, world_target(&w, m), POOL_OVERLOADED, 5 * NS_S, w.now);
    }
    assert_int_equal(world_choose(&w, 0, NULL), -1);
    assert_false(pool_panics(w.p, 0));
    /* One is quiet, the other dead: the dead one is tried. */
    world_fail(&w, 1, POOL_NO_ANSWER, 5);
    world_pass(&w, 6 * NS_S);
    pool_begin(w.p, world_target(&w, 0), w.now);
    (void)pool_end(w.p, world_target(&w, 0), POOL_OVERLOADED, 5 * NS_S, w.now);
    world_fail(&w, 1, POOL_NO_ANSWER, 5);
    assert_true(pool_panics(w.p, 0));
    assert_int_equal(world_choose(&w, 0, NULL), 1);
    world_end(&w);
}

/* ---- counts ---------------------------------------------------------------------------------- */

static void tries_are_counted(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 1);
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 9; i++)
        pool_begin(w.p, world_target(&w, 0), w.now);
    assert_int_equal(world_status(&w, 0).open, 9);
    assert_true(world_status(&w, 0).heard_ago == MONO_NONE);
    (void)pool_end(w.p, world_target(&w, 0), POOL_NO_ANSWER, 0, w.now);
    (void)pool_end(w.p, world_target(&w, 0), POOL_CANCELLED, 0, w.now);
    assert_true(world_status(&w, 0).heard_ago == MONO_NONE);
    (void)pool_end(w.p, world_target(&w, 0), POOL_ANSWERED, 0, w.now);
    (void)pool_end(w.p, world_target(&w, 0), POOL_LOST, 0, w.now);
    world_pass(&w, NS_S);
    struct pool_status s = world_status(&w, 0);
    assert_int_equal(s.open, 5);
    assert_int_equal(s.begun, 9);
    assert_int_equal(s.answered, 2);
    assert_int_equal(s.failed, 1);
    assert_int_equal(s.heard_ago, NS_S);
    /* More ends than begins are a fault of the caller's, but no wrap. */
    for (unsigned i = 0; i < 7; i++)
        (void)pool_end(w.p, world_target(&w, 0), POOL_CANCELLED, 0, w.now);
    assert_int_equal(world_status(&w, 0).open, 0);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_a_row_eject),
        cmocka_unit_test(late_failures_say_nothing_new),
        cmocka_unit_test(each_ejection_is_longer),
        cmocka_unit_test(quiet_time_takes_doublings_back),
        cmocka_unit_test(an_answer_ends_probation),
        cmocka_unit_test(three_answers_end_an_ejection),
        cmocka_unit_test(a_silent_one_needs_a_sign_of_life),
        cmocka_unit_test(a_sign_after_the_time_is_over_brings_it_back),
        cmocka_unit_test(a_late_answer_is_a_sign_of_life),
        cmocka_unit_test(an_ejection_sends_a_probe),
        cmocka_unit_test(retry_after_is_heeded),
        cmocka_unit_test(advice_differs_from_edge_to_edge),
        cmocka_unit_test(advice_does_not_eject_and_the_longest_counts),
        cmocka_unit_test(a_pool_that_asked_for_quiet_gets_it),
        cmocka_unit_test(tries_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
