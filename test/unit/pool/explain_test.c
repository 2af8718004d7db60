/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static void assert_explained(const struct world *w, uint16_t m, const char *want)
{
    char said[400];
    struct text t = text_into(said, sizeof said - 1);
    pool_explain(w->p, world_target(w, m), w->now, &t);
    assert_true(text_fits(&t));
    said[t.n] = '\0';
    assert_string_equal(said, want);
}

static void start(struct world *w)
{
    struct pool_opts *o = world_one(w, POOL_LEAST_BUSY, 6);
    o->health.on = true;
    o->outlier.panic_percent = 0;
    world_adopt(w, 1);
}

static void admin(struct world *w, enum pool_admin to)
{
    assert_int_equal(pool_set_admin(w->p, SLICE("pool-0"), w->targets[0][0].uri, to, w->now), 1);
}

static void not_heard(struct world *w)
{
    assert_explained(w, 0, "up: nothing heard from it yet, and nothing against it");
}

static void answered_a_probe(struct world *w)
{
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    world_pass(w, 840 * NS_MS);
    assert_explained(w, 0, "up: answered a probe 0.8 s ago");
    world_pass(w, 9 * NS_S + 110 * NS_MS);
    assert_explained(w, 0, "up: answered a probe 10 s ago");
}

static void answered_a_call(struct world *w)
{
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    world_pass(w, NS_S);
    (void)world_try(w, 0, POOL_ANSWERED);
    world_pass(w, 60 * 60 * NS_S);
    assert_explained(w, 0, "up: answered a call 60 min ago");
    world_pass(w, 60 * 60 * NS_S);
    assert_explained(w, 0, "up: answered a call 2 h ago");
}

static void was_heard(struct world *w)
{
    pool_heard(w->p, world_target(w, 0), w->now);
    world_pass(w, 99 * NS_S);
    assert_explained(w, 0, "up: last heard 99 s ago");
    world_pass(w, 2 * NS_S);
    assert_explained(w, 0, "up: last heard 1 min ago");
}

static void some_failures(struct world *w)
{
    pool_heard(w->p, world_target(w, 0), w->now);
    world_fail(w, 0, POOL_TIMED_OUT, 1);
    assert_explained(w, 0, "up: last heard 0.0 s ago; 1 failure, last: 408, ejected at 5");
    world_fail(w, 0, POOL_NO_ANSWER, 2);
    assert_explained(
        w, 0, "up: last heard 0.0 s ago; 3 failures in a row, last: no answer, ejected at 5");
}

static void some_probes_failed(struct world *w)
{
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    world_pass(w, NS_S);
    unsigned sent = 0;
    mono_ns heard = w->now;
    while (sent < 2) {
        struct pool_pick pick;
        uint16_t pool;
        world_pass(w, 10 * NS_MS);
        while (pool_probe_next(w->p, w->now, &pick, &pool)) {
            sent += pick.member == 0;
            pool_probe_result(w->p, pick.target, pick.member != 0, w->now);
        }
    }
    w->now = heard + 4 * NS_S;
    assert_explained(w, 0, "up: answered a probe 5.0 s ago; 2 probes in a row failed, down at 3");
}

static void down(struct world *w)
{
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    mono_ns heard = w->now;
    while (world_status(w, 0).up)
        world_run(w, 10 * NS_MS, 0x3e);
    mono_ns fell = w->now;
    w->now += NS_S;
    char want[200];
    double ago = (double)(w->now - heard) / NS_S;
    snprintf(
        want, sizeof want,
        "down for 1.0 s: 3 probes in a row unanswered, last heard %.1f s ago; up again after 2 "
        "answered probes in a row",
        ago);
    assert_explained(w, 0, want);
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    w->now = fell + 3 * NS_S;
    assert_explained(w, 0,
                     "down for 3.0 s: 3 probes in a row unanswered, last heard 2.0 s ago; up again "
                     "after 2 answered probes in a row, 1 so far");
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    assert_explained(w, 0, "up: answered a probe 0.0 s ago; slow start, full share in 10 s");
}

static void ejected(struct world *w)
{
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    world_pass(w, 9 * NS_S);
    world_fail(w, 0, POOL_NO_ANSWER, 3);
    world_fail(w, 0, POOL_REFUSED, 2);
    assert_explained(w, 0,
                     "ejected for 5.0 s more: 5 failures in a row, last: refused; last heard 9.0 s "
                     "ago");
    world_pass(w, 6 * NS_S);
    assert_explained(w, 0,
                     "ejected until it answers a probe: 5 failures in a row, last: refused; last "
                     "heard 15 s ago");
    pool_probe_result(w->p, world_target(w, 0), true, w->now);
    assert_explained(w, 0,
                     "up: answered a probe 0.0 s ago; on probation after an ejection, one failure "
                     "ejects it again; slow start, full share in 10 s");
    world_fail(w, 0, POOL_OVERLOADED, 1);
    assert_explained(
        w, 0,
        "ejected for 10 s more: 1 failure, last: 503; ejected 2 times lately, each time "
        "for longer; last heard 0.0 s ago");
}

static void asked_for_quiet(struct world *w)
{
    pool_begin(w->p, world_target(w, 0), w->now);
    (void)pool_end(w->p, world_target(w, 0), POOL_OVERLOADED, 60 * NS_S, w->now);
    char said[200];
    struct text t = text_into(said, sizeof said);
    pool_explain(w->p, world_target(w, 0), w->now, &t);
    assert_true(slice_starts_with(text_slice(&t),
                                  SLICE("alive, but asked for quiet (503 with Retry-After) for ")));
}

static void maintenance(struct world *w)
{
    pool_begin(w->p, world_target(w, 0), w->now);
    admin(w, POOL_MAINT);
    assert_explained(w, 0,
                     "in maintenance by an operator: takes nothing, is not probed; 1 try still "
                     "open");
    (void)pool_end(w->p, world_target(w, 0), POOL_CANCELLED, 0, w->now);
    assert_explained(w, 0, "in maintenance by an operator: takes nothing, is not probed");
    admin(w, POOL_READY);
    assert_explained(
        w, 0,
        "up: nothing heard from it yet, and nothing against it; slow start, full share "
        "in 10 s");
}

static void draining(struct world *w)
{
    pool_begin(w->p, world_target(w, 0), w->now);
    pool_begin(w->p, world_target(w, 0), w->now);
    pool_heard(w->p, world_target(w, 0), w->now);
    admin(w, POOL_DRAIN);
    assert_explained(w, 0,
                     "draining by an operator: takes only requests that are bound to it, 2 tries "
                     "open; up: last heard 0.0 s ago");
}

static void no_options(struct world *w)
{
    (void)world_try(w, 0, POOL_ANSWERED);
    mono_ns start_at = w->now;
    world_run(w, 20 * NS_S, 0x3e);
    w->now = start_at + 20 * NS_S;
    assert_explained(
        w, 0,
        "up: answered a call 20 s ago; has answered no OPTIONS yet, so it is judged by "
        "its calls alone");
}

static void panic(struct world *w)
{
    w->opts[0].outlier.panic_percent = 20;
    world_adopt(w, 1);
    for (uint16_t m = 0; m < 6; m++)
        world_fail(w, m, POOL_TIMED_OUT, 5);
    assert_explained(
        w, 0,
        "ejected for 5.0 s more: 5 failures in a row, last: 408; last heard 0.0 s ago; "
        "used all the same: too few targets of the pool are fit (panic)");
}

static void other_zone(struct world *w)
{
    w->targets[0][0].zone = SLICE("b\033[2J");
    world_adopt(w, 1);
    assert_explained(
        w, 0,
        "up: nothing heard from it yet, and nothing against it; of zone b\\x1b[2J, used "
        "when our own zone is not fit");
}

static void gone(struct world *w)
{
    char said[100];
    struct text t = text_into(said, sizeof said);
    pool_explain(w->p, (handle){7, 77}, w->now, &t);
    assert_true(slice_equal(text_slice(&t), SLICE("gone: no longer in the configuration")));
}

static const struct {
    const char *name;
    void (*play)(struct world *w);
} explain_cases[] = {
    {"not heard", not_heard},
    {"answered a probe", answered_a_probe},
    {"answered a call", answered_a_call},
    {"was heard", was_heard},
    {"some failures", some_failures},
    {"some probes failed", some_probes_failed},
    {"down", down},
    {"ejected", ejected},
    {"asked for quiet", asked_for_quiet},
    {"maintenance", maintenance},
    {"draining", draining},
    {"no OPTIONS", no_options},
    {"panic", panic},
    {"other zone", other_zone},
    {"gone", gone},
};

static void each_state_in_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof explain_cases / sizeof explain_cases[0]; i++) {
        struct world w;
        print_message("%s\n", explain_cases[i].name);
        start(&w);
        explain_cases[i].play(&w);
        world_end(&w);
    }
}

/* A small buffer is counted, not overrun. */
static void a_small_buffer(void **state)
{
    (void)state;
    struct world w;
    start(&w);
    char *few = guard_copy("0123456789", 10);
    struct text t = text_into(few, 10);
    pool_explain(w.p, world_target(&w, 0), w.now, &t);
    assert_false(text_fits(&t));
    guard_free(few);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_in_words),
        cmocka_unit_test(a_small_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
