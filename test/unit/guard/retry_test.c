/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rig.h"

enum { SECONDS_MAX = 1000 };

/* Work done at this rate; `refuses`: there was more to do, and the worker sheds for its delay. */
static mono_ns work(struct rig *r, enum guard_class class, uint32_t per_second, dur_ns lasts,
                    bool refuses, mono_ns now)
{
    mono_ns end = now + lasts;
    for (; now < end; now += NS_S / per_second) {
        guard_waited(r->g, 0, refuses ? 100 * NS_MS : 0, now);
        while (guard_sheds(r->g, class, 0, now)) {
            now += 2 * NS_US;
            (void)guard_retry_after_s(r->g, class, now);
        }
        guard_done(r->g, class, now);
    }
    return end;
}

/* 100,000 are refused within a fifth of a second, which is before any of them can come back. They
 * come as fast as work was done, in no second by a tenth faster, and the last when all others are
 * through. */
static void a_crowd_comes_back(void **state)
{
    (void)state;
    static const struct {
        uint32_t rate, crowd;
    } rows[] = {{500, 100000}, {2000, 100000}, {20000, 100000}, {1000, 20000}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_open(&r);
        mono_ns now = work(&r, CLASS_REGISTER, rows[i].rate, 5 * NS_S, false, NS_S), start = now;
        uint32_t back[SECONDS_MAX] = {0}, most = 0, last = 0;
        for (uint32_t k = 0; k < rows[i].crowd; k++) {
            uint32_t s = guard_retry_after_s(r.g, CLASS_REGISTER, now);
            assert_in_range(s, 2, 300);
            uint64_t at = (now - start + s * NS_S) / NS_S;
            assert_true(at < SECONDS_MAX);
            back[at]++;
            last = at > last ? (uint32_t)at : last;
            now += 2 * NS_US;
        }
        for (unsigned s = 0; s < SECONDS_MAX; s++)
            most = back[s] > most ? back[s] : most;
        if (getenv("WEIR_TEST_SAYS") != NULL)
            printf("%u/s, %u refused: at most %u in a second, the last after %u s\n", rows[i].rate,
                   rows[i].crowd, most, last);
        if (rows[i].crowd / rows[i].rate <= 200) {
            assert_true(most * 10 <= rows[i].rate * 11);
            /* No slower than needed, either. */
            assert_true(last <= 3 + rows[i].crowd / rows[i].rate * 12 / 10);
        }
        rig_close(&r);
    }
}

enum { RATE = 2000, CROWD = 100000, MS_MAX = SECONDS_MAX * 1000 };

struct course {
    uint32_t in, ms, most; /* registered, until when, offered in a second after the first two */
};

/* A worker that has a queue and sheds by its delay; the crowd is there at once, and who is refused
 * comes when it was told, and up to `late_ms` later. */
static struct course run(struct rig *r, uint64_t late_ms)
{
    static uint32_t due[MS_MAX + 400000];
    memset(due, 0, sizeof due);
    due[0] = CROWD;
    struct prng prng;
    prng_seed(&prng, 2);
    struct course c = {0};
    uint32_t offered = 0;
    mono_ns now = NS_S;
    for (; c.ms < MS_MAX && c.in < CROWD; c.ms++) {
        mono_ns came = NS_S + c.ms * NS_MS;
        if (came > now) {
            now = came;
            guard_waited(r->g, 0, 0, now);
        }
        for (uint32_t k = due[c.ms]; k > 0; k--) {
            offered++;
            guard_waited(r->g, 0, now - came, now);
            if (!guard_sheds(r->g, CLASS_REGISTER, now - came, now)) {
                now += NS_S / RATE;
                guard_done(r->g, CLASS_REGISTER, now);
                c.in++;
                continue;
            }
            now += 2 * NS_US;
            uint32_t s = guard_retry_after_s(r->g, CLASS_REGISTER, now);
            due[(now - NS_S) / NS_MS + s * 1000 + 1 + prng_below(&prng, late_ms)]++;
        }
        if (c.ms % 1000 == 999) {
            if (c.ms > 2000)
                c.most = offered > c.most ? offered : c.most;
            offered = 0;
        }
    }
    return c;
}

/* The same with the clients in the loop. Once the first rush is over the worker is not offered more
 * than it can do. Phones that are spread over a second by themselves are all in soon after the
 * earliest possible end. Those that count to the millisecond come in one clot each second, as
 * Retry-After knows no parts of one: that takes longer, but it is no second wave either. */
static void until_all_are_in(void **state)
{
    (void)state;
    static const struct {
        uint64_t late_ms;
        uint32_t times_tenths; /* of CROWD / RATE */
    } rows[] = {{1000, 13}, {500, 20}, {100, 60}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_open(&r);
        struct course c = run(&r, rows[i].late_ms);
        if (getenv("WEIR_TEST_SAYS") != NULL)
            printf("all in after %u ms, at most %u offered in a second\n", c.ms, c.most);
        assert_int_equal(c.in, CROWD);
        assert_true(c.ms < 100 * rows[i].times_tenths * (CROWD / RATE));
        assert_true(c.most * 10 <= RATE * 13);
        rig_close(&r);
    }
}

/* Two crowds, a second apart: the second comes after the first. Calls have a line of their own. */
static void no_two_crowds_at_once(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = work(&r, CLASS_REFRESH, 1000, 5 * NS_S, false, NS_S);
    now = work(&r, CLASS_CALL, 200, 5 * NS_S, false, now);
    uint32_t back[SECONDS_MAX] = {0}, calls[SECONDS_MAX] = {0};
    for (unsigned crowd = 0; crowd < 2; crowd++)
        for (unsigned k = 0; k < 20000; k++)
            back[crowd + guard_retry_after_s(r.g, CLASS_REGISTER, now + crowd * NS_S)]++;
    for (unsigned k = 0; k < 2000; k++)
        calls[guard_retry_after_s(r.g, CLASS_CALL, now)]++;
    for (unsigned s = 0; s < SECONDS_MAX; s++) {
        assert_true(back[s] <= 1100);
        assert_true(calls[s] <= 220);
    }
    uint32_t both = 0;
    for (unsigned s = 0; s < 52; s++)
        both += back[s];
    assert_int_equal(both, 40000);
    rig_close(&r);
}

/* Larger than the longest wait: the rest is spread over all of it, and none is told more. */
static void more_than_the_line_holds(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    r.opts.retry_after_min = 5 * NS_S;
    r.opts.retry_after_max = 60 * NS_S;
    mono_ns now = work(&r, CLASS_REGISTER, 1000, 5 * NS_S, false, NS_S);
    uint32_t back[SECONDS_MAX] = {0};
    for (unsigned k = 0; k < 255000; k++) {
        uint32_t s = guard_retry_after_s(r.g, CLASS_REGISTER, now);
        assert_in_range(s, 5, 60);
        back[s]++;
    }
    for (unsigned s = 7; s < 59; s++)
        assert_in_range(back[s], 4200, 5000);
    r.opts.retry_after_max = 0; /* less than the minimum: that one is meant */
    assert_int_equal(guard_retry_after_s(r.g, CLASS_REGISTER, now), 5);
    r.opts.retry_after_min = 0;
    assert_int_equal(guard_retry_after_s(r.g, CLASS_REGISTER, now), 1);
    rig_close(&r);
}

/* Seconds that 1,000 refused are spread over, which tells the rate that is believed in. */
static uint32_t spread(struct rig *r, mono_ns now)
{
    uint32_t last = 0;
    now += 400 * NS_S; /* an empty line */
    for (unsigned k = 0; k < 1000; k++) {
        uint32_t s = guard_retry_after_s(r->g, CLASS_REGISTER, now);
        last = s > last ? s : last;
    }
    return last - 2;
}

/* A quiet hour says nothing of what can be done; a refusal does. Before anything was measured the
 * line moves slowly, and slower than that never. */
static void capacity_is_what_was_done_under_load(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    assert_in_range(spread(&r, NS_S), 9, 11);
    mono_ns now = work(&r, CLASS_REGISTER, 500, 5 * NS_S, false, 1000 * NS_S);
    assert_in_range(spread(&r, now), 2, 3);
    now = work(&r, CLASS_REGISTER, 10, 3600 * NS_S, false, now + 1000 * NS_S);
    assert_in_range(spread(&r, now), 2, 3);
    now = work(&r, CLASS_REGISTER, 150, 10 * NS_S, true, now + 1000 * NS_S);
    assert_in_range(spread(&r, now), 6, 9);
    now = work(&r, CLASS_REGISTER, 4000, 10 * NS_S, true, now + 1000 * NS_S);
    assert_in_range(spread(&r, now), 0, 1);
    now = work(&r, CLASS_REGISTER, 10, 60 * NS_S, true, now + 1000 * NS_S);
    assert_in_range(spread(&r, now), 9, 11);
    rig_close(&r);
}

/* A registration is two requests, as the first is challenged: of 2,000 requests a second 1,000 are
 * done, and so many may come. */
static void a_challenge_is_nothing_done(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = NS_S, end = 31 * NS_S;
    for (unsigned i = 0; now < end; now += NS_S / 2000, i++) {
        assert_false(guard_sheds(r.g, CLASS_REGISTER, 0, now));
        if (i % 2 == 0)
            guard_done(r.g, CLASS_REGISTER, now);
        guard_done(r.g, CLASS_FINISHES, now); /* of another line, and nothing that is begun */
    }
    uint32_t last = 0;
    for (unsigned k = 0; k < 20000; k++) {
        uint32_t s = guard_retry_after_s(r.g, CLASS_REGISTER, now);
        last = s > last ? s : last;
    }
    assert_in_range(last, 22, 25);
    rig_close(&r);
}

/* The worker was slow, and is no longer: while all that the line lets in is admitted, its pace
 * grows, though nobody else shows how much could be done. */
static void grows_while_all_is_done(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = work(&r, CLASS_REGISTER, 1500, 10 * NS_S, true, NS_S) + 400 * NS_S;
    uint32_t before = 0, after = 0;
    for (unsigned k = 0; k < 100000; k++)
        before = guard_retry_after_s(r.g, CLASS_REGISTER, now);
    now += NS_S;
    uint32_t let_in = 100000 / (before - 2);
    now = work(&r, CLASS_REGISTER, let_in, 15 * NS_S, false, now) + 400 * NS_S;
    for (unsigned k = 0; k < 100000; k++)
        after = guard_retry_after_s(r.g, CLASS_REGISTER, now);
    assert_in_range(before, 60, 150);
    assert_true(after * 20 < before * 19);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_comes_back),
        cmocka_unit_test(until_all_are_in),
        cmocka_unit_test(no_two_crowds_at_once),
        cmocka_unit_test(more_than_the_line_holds),
        cmocka_unit_test(capacity_is_what_was_done_under_load),
        cmocka_unit_test(a_challenge_is_nothing_done),
        cmocka_unit_test(grows_while_all_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
