/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

enum { EVERY_MS = 2000, TIMEOUT_MS = 1000 };

/* `n` targets that are probed: every 2 s, timeout 1 s, fall 3, rise 2. */
static struct pool_opts *probed(struct world *w, unsigned n)
{
    struct pool_opts *o = world_one(w, POOL_LEAST_BUSY, n);
    o->health.on = true;
    return o;
}

/* ---- when probes go out ---------------------------------------------------------------------- */

static void probes_are_spread(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    uint16_t pool;
    mono_ns last[100] = {0};
    unsigned by_tenth[10] = {0}, sent[100] = {0};
    probed(&w, 100);
    world_adopt(&w, 1);
    mono_ns start = w.now;
    while (w.now < start + 20 * NS_S) {
        world_pass(&w, NS_MS);
        while (pool_probe_next(w.p, w.now, &pick, &pool)) {
            assert_int_equal(pool, 0);
            assert_true(addr_equal(&pick.addr, &w.targets[0][pick.member].addr));
            if (sent[pick.member]++ > 0)
                assert_near((double)(w.now - last[pick.member]) / NS_MS, EVERY_MS, 1.1);
            last[pick.member] = w.now;
            by_tenth[(w.now - start) / (200 * NS_MS) % 10]++;
            pool_probe_result(w.p, pick.target, true, w.now + NS_MS / 2);
        }
    }
    for (unsigned m = 0; m < 100; m++)
        assert_int_equal(sent[m], 10);
    for (unsigned i = 0; i < 10; i++)
        assert_near(by_tenth[i], 100, 12);
    world_end(&w);
}

/* Whoever sleeps until pool_deadline() misses nothing, and does not spin. */
static void the_deadline_tells_when(void **state)
{
    (void)state;
    struct world w;
    unsigned sent = 0, woken = 0;
    probed(&w, 5);
    world_adopt(&w, 1);
    mono_ns end = w.now + 60 * NS_S;
    for (; w.now < end; woken++) {
        mono_ns at = pool_deadline(w.p);
        assert_true(at != MONO_NONE);
        w.now = at > w.now ? at : w.now + NS_MS;
        sent += world_probe(&w, 0x0f);
    }
    assert_near(sent, 5 * 30, 5);
    assert_true(woken < 1500);
    assert_false(world_fit(&w, 4));
    world_end(&w);
}

static void without_health_checks_there_is_no_deadline(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 3);
    assert_true(pool_deadline(w.p) == MONO_NONE);
    world_adopt(&w, 1);
    assert_true(pool_deadline(w.p) == MONO_NONE);
    pool_probe_soon(w.p, world_target(&w, 0), w.now);
    pool_probe_result(w.p, world_target(&w, 0), false, w.now);
    assert_true(pool_deadline(w.p) == MONO_NONE);
    assert_int_equal(world_run(&w, 60 * NS_S, 0), 0);
    assert_true(world_fit(&w, 0));
    world_end(&w);
}

static void an_extra_probe_goes_out_at_once_but_not_often(void **state)
{
    (void)state;
    struct world w;
    probed(&w, 1)->health.every = 3600 * NS_S;
    world_adopt(&w, 1);
    unsigned sent = 0;
    pool_probe_soon(w.p, world_target(&w, 0), w.now);
    world_pass(&w, NS_MS);
    assert_int_equal(world_probe(&w, 1), 1);
    for (unsigned i = 0; i < 1000; i++) {
        pool_probe_soon(w.p, world_target(&w, 0), w.now);
        world_pass(&w, NS_MS);
        sent += world_probe(&w, 1);
    }
    assert_in_range(sent, 4, 5);
    world_end(&w);
}

static void an_extra_probe_keeps_the_phase(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    uint16_t pool;
    probed(&w, 1);
    world_adopt(&w, 1);
    while (!pool_probe_next(w.p, w.now, &pick, &pool))
        world_pass(&w, NS_MS);
    mono_ns first = w.now;
    pool_probe_result(w.p, pick.target, true, w.now);
    world_pass(&w, 700 * NS_MS);
    pool_probe_soon(w.p, pick.target, w.now);
    assert_int_equal(world_run(&w, 10 * NS_MS, 1), 1);
    while (!pool_probe_next(w.p, w.now, &pick, &pool))
        world_pass(&w, NS_MS);
    assert_near((double)(w.now - first) / NS_MS, EVERY_MS, 1.1);
    world_end(&w);
}

/* ---- fall and rise --------------------------------------------------------------------------- */

/* What comes of each probe in turn: a alive, f a failing answer, - none, h none but something is
 * heard after it went out, c none but a call is answered. Upper-case where it must be up after. */
static const struct {
    const char *name;
    const char *probes;
    const char *up; /* + or - after each */
} probe_cases[] = {
    {"three unanswered", "a---", "+++-"},
    {"two unanswered", "a--a--", "++++++"},
    {"three failing answers", "afff", "+++-"},
    {"mixed", "a-f-", "+++-"},
    {"never answered anything", "---", "++-"},
    {"two answered bring it back", "a---aa", "+++--+"},
    {"one is not enough", "a---a-aa", "+++----+"},
    {"heard since: no failure", "a--h--h--", "+++++++++"},
    {"a call answered since: no failure", "a--c--c--", "+++++++++"},
    {"answered calls bring it back", "a---cc", "+++--+"},
    {"being heard does not", "a---hhhhh", "+++------"},
    {"knows no OPTIONS, answers calls", "cccccc------", "++++++++++++"},
    {"then it answers one, and then counts", "cca---", "+++++-"},
};

static void next_probe(struct world *w, struct pool_pick *pick)
{
    uint16_t pool;
    while (!pool_probe_next(w->p, w->now, pick, &pool))
        world_pass(w, NS_MS);
}

static void play_probe(struct world *w, char c)
{
    struct pool_pick pick, none;
    uint16_t pool;
    next_probe(w, &pick);
    world_pass(w, 100 * NS_MS);
    if (c == 'a' || c == 'f')
        pool_probe_result(w->p, pick.target, c == 'a', w->now);
    if (c == 'h')
        pool_heard(w->p, pick.target, w->now);
    if (c == 'c')
        (void)world_try(w, 0, POOL_ANSWERED);
    world_pass(w, (TIMEOUT_MS - 100) * NS_MS - 1);
    assert_false(pool_probe_next(w->p, w->now, &none, &pool));
    world_pass(w, 2 * NS_MS);
    assert_false(pool_probe_next(w->p, w->now, &none, &pool));
}

static void fall_and_rise(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof probe_cases / sizeof probe_cases[0]; i++) {
        struct world w;
        char got[16] = "";
        probed(&w, 1);
        world_adopt(&w, 1);
        print_message("%s\n", probe_cases[i].name);
        for (size_t k = 0; probe_cases[i].probes[k] != '\0'; k++) {
            play_probe(&w, probe_cases[i].probes[k]);
            got[k] = world_status(&w, 0).up ? '+' : '-';
            assert_int_equal(world_fit(&w, 0), got[k] == '+');
        }
        assert_string_equal(got, probe_cases[i].up);
        world_end(&w);
    }
}

/* 503 to OPTIONS, but 200 to calls: the calls are what matters. */
static void a_bad_answer_does_not_outweigh_answered_calls(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    probed(&w, 1)->health.fall = 1;
    world_adopt(&w, 1);
    next_probe(&w, &pick);
    pool_probe_result(w.p, pick.target, true, w.now);
    for (unsigned i = 0; i < 10; i++) {
        next_probe(&w, &pick);
        world_pass(&w, NS_MS);
        (void)world_try(&w, 0, POOL_ANSWERED);
        pool_probe_result(w.p, pick.target, false, w.now);
        assert_true(world_fit(&w, 0));
    }
    world_end(&w);
}

/* A caller may time the probe itself: its word at the end of the time is silence, not an answer,
 * and silence is nothing against a target that was heard. */
static void a_result_at_the_timeout_is_silence(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    probed(&w, 1)->health.fall = 1;
    world_adopt(&w, 1);
    next_probe(&w, &pick);
    pool_probe_result(w.p, pick.target, true, w.now);
    next_probe(&w, &pick);
    pool_heard(w.p, pick.target, w.now + NS_MS);
    world_pass(&w, TIMEOUT_MS * NS_MS);
    pool_probe_result(w.p, pick.target, false, w.now);
    assert_true(world_fit(&w, 0));
    next_probe(&w, &pick);
    pool_heard(w.p, pick.target, w.now + NS_MS);
    world_pass(&w, (TIMEOUT_MS - 1) * NS_MS);
    pool_probe_result(w.p, pick.target, false, w.now);
    assert_false(world_fit(&w, 0));
    world_end(&w);
}

static void results_that_nobody_waits_for(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    probed(&w, 1);
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 10; i++)
        pool_probe_result(w.p, world_target(&w, 0), false, w.now);
    assert_true(world_fit(&w, 0));
    /* One probe has one result. */
    next_probe(&w, &pick);
    for (unsigned i = 0; i < 10; i++)
        pool_probe_result(w.p, pick.target, false, w.now);
    assert_true(world_fit(&w, 0));
    /* Late is still alive. */
    world_run(&w, 10 * NS_S, 0);
    assert_false(world_fit(&w, 0));
    world_pass(&w, NS_S);
    pool_probe_result(w.p, pick.target, true, w.now);
    pool_probe_result(w.p, pick.target, true, w.now);
    assert_true(world_fit(&w, 0));
    world_end(&w);
}

static void it_starts_slowly_when_it_comes_up(void **state)
{
    (void)state;
    struct world w;
    unsigned counts[POOL_TARGETS_MAX];
    probed(&w, 2)->balance = POOL_ROUND_ROBIN;
    world_adopt(&w, 1);
    world_run(&w, 10 * NS_S, 2);
    assert_false(world_fit(&w, 0));
    assert_int_equal(world_choose(&w, 0, NULL), 1);
    while (!world_fit(&w, 0))
        world_run(&w, 10 * NS_MS, 3);
    world_count(&w, 1100, counts);
    assert_near(counts[0], 100, 5);
    world_run(&w, 10 * NS_S, 3);
    world_count(&w, 1100, counts);
    assert_near(counts[0], 550, 5);
    world_end(&w);
}

/* ---- clocks, maintenance, notices ------------------------------------------------------------ */

/* A machine that slept has not lost its targets: each missed at most the probe under way. */
static void a_clock_jump_counts_once(void **state)
{
    (void)state;
    struct world w;
    probed(&w, 3);
    world_adopt(&w, 1);
    world_run(&w, 5 * NS_S, 7);
    for (unsigned i = 0; i < 20; i++) {
        world_pass(&w, 86400 * NS_S);
        assert_true(world_probe(&w, 7) <= 6);
        world_run(&w, 5 * NS_S, 7);
        for (uint16_t m = 0; m < 3; m++)
            assert_true(world_fit(&w, m));
    }
    world_end(&w);
}

static void maintenance_is_not_probed(void **state)
{
    (void)state;
    struct world w;
    probed(&w, 1);
    world_adopt(&w, 1);
    world_run(&w, 5 * NS_S, 1);
    assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), SLICE("*"), POOL_MAINT, w.now), 1);
    assert_int_equal(world_run(&w, 20 * NS_S, 0), 0);
    pool_probe_soon(w.p, world_target(&w, 0), w.now);
    assert_int_equal(world_run(&w, 20 * NS_S, 0), 0);
    assert_true(world_status(&w, 0).up);
    assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), SLICE("*"), POOL_DRAIN, w.now), 1);
    assert_int_equal(world_run(&w, 10 * NS_MS, 1), 1); /* at once */
    assert_near(world_run(&w, 20 * NS_S, 1), 10, 1);
    world_end(&w);
}

static void changes(struct world *w, char *got)
{
    struct pool_change c;
    for (; pool_next_change(w->p, &c); *got++ = "?duebpc"[c.what]) {
        assert_in_range(c.what, POOL_WENT_DOWN, POOL_CALMED);
        assert_int_equal(c.pool, 0);
        assert_int_equal(handle_is_none(c.target), c.what >= POOL_PANICS);
    }
    *got = '\0';
}

static void changes_are_told_once(void **state)
{
    (void)state;
    struct world w;
    char got[16];
    probed(&w, 2);
    world_adopt(&w, 1);
    changes(&w, got);
    assert_string_equal(got, "");
    world_run(&w, 10 * NS_S, 2);
    changes(&w, got);
    assert_string_equal(got, "d");
    world_run(&w, 10 * NS_S, 0);
    changes(&w, got);
    assert_string_equal(got, "dp");
    world_run(&w, 10 * NS_S, 3);
    changes(&w, got);
    assert_string_equal(got, "uuc");
    world_fail(&w, 0, POOL_REFUSED, 2);
    changes(&w, got);
    assert_string_equal(got, "e");
    world_run(&w, 10 * NS_S, 3); /* its end is told without a call that would ask */
    changes(&w, got);
    assert_string_equal(got, "b");
    /* Down and up again between two looks is no news. */
    world_run(&w, 10 * NS_S, 1);
    world_run(&w, 10 * NS_S, 3);
    changes(&w, got);
    assert_string_equal(got, "");
    world_end(&w);
}

/* Time alone brings a target back; who asks for changes hears of it without a call or a probe. */
static void time_alone_is_told(void **state)
{
    (void)state;
    struct world w;
    char got[16];
    world_one(&w, POOL_LEAST_BUSY, 2);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_REFUSED, 2);
    changes(&w, got);
    assert_string_equal(got, "e");
    mono_ns at = pool_deadline(w.p);
    assert_true(at > w.now && at <= w.now + 5 * NS_S);
    assert_int_equal(world_run(&w, 5 * NS_S, 0), 0);
    changes(&w, got);
    assert_string_equal(got, "b");
    assert_true(pool_deadline(w.p) == MONO_NONE);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_are_spread),
        cmocka_unit_test(the_deadline_tells_when),
        cmocka_unit_test(without_health_checks_there_is_no_deadline),
        cmocka_unit_test(an_extra_probe_goes_out_at_once_but_not_often),
        cmocka_unit_test(an_extra_probe_keeps_the_phase),
        cmocka_unit_test(fall_and_rise),
        cmocka_unit_test(a_bad_answer_does_not_outweigh_answered_calls),
        cmocka_unit_test(a_result_at_the_timeout_is_silence),
        cmocka_unit_test(results_that_nobody_waits_for),
        cmocka_unit_test(it_starts_slowly_when_it_comes_up),
        cmocka_unit_test(a_clock_jump_counts_once),
        cmocka_unit_test(maintenance_is_not_probed),
        cmocka_unit_test(changes_are_told_once),
        cmocka_unit_test(time_alone_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
