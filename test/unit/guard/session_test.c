/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "rig.h"

/* Ten times is fine, more within the minute is a circle, and after it all is forgotten. */
static void counts(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = NS_S;
    for (unsigned i = 0; i < 10; i++)
        assert_false(guard_session_crosses(r.g, 77, now += NS_MS));
    assert_false(guard_session_crosses(r.g, 78, now));
    for (unsigned i = 0; i < 70000; i++)
        assert_true(guard_session_crosses(r.g, 77, now));
    assert_int_equal(guard_counters(r.g)->sessions_broken, 70000);
    now += 61 * NS_S;
    for (unsigned i = 0; i < 10; i++)
        assert_false(guard_session_crosses(r.g, 77, now));
    assert_true(guard_session_crosses(r.g, 77, now));
    r.opts.report_only = true;
    assert_false(guard_session_crosses(r.g, 77, now));
    assert_int_equal(guard_counters(r.g)->sessions_broken, 70002);
    r.opts.report_only = false;
    r.opts.session_crossings_max = 0;
    assert_false(guard_session_crosses(r.g, 77, now));
    r.opts.session_crossings_max = 10;
    r.opts.session_within = 0;
    assert_false(guard_session_crosses(r.g, 77, now));
    rig_close(&r);
}

/* A worker's clock is cut to 32 bits of milliseconds: 49 days. Around its turn all is as ever. */
static void clock_turns(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns turn = (1ULL << 32) * NS_MS;
    for (unsigned i = 0; i < 10; i++)
        assert_false(guard_session_crosses(r.g, 5, turn - 5 * NS_MS + i * NS_MS));
    assert_true(guard_session_crosses(r.g, 5, turn + 6 * NS_MS));
    assert_false(guard_session_crosses(r.g, 5, turn + 61 * NS_S));
    rig_close(&r);
}

/* Ten million sessions in a minute, each of which crosses once or, one of eight, three times within
 * half a second; and among them twenty that circle every 50 ms. These are found, all, and soon, and
 * of the others none is broken. */
static void among_ten_million(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    enum { SESSIONS = 10000000, CIRCLES = 20, AGAIN = 1 << 17 };
    static uint64_t again[AGAIN]; /* who crosses once more, later */
    struct prng prng;
    prng_seed(&prng, 9);
    uint64_t circle[CIRCLES];
    unsigned circled[CIRCLES] = {0};
    bool found[CIRCLES] = {false};
    for (unsigned k = 0; k < CIRCLES; k++)
        circle[k] = prng_u64(&prng);
    mono_ns now = NS_S;
    const dur_ns gap = 60 * NS_S / SESSIONS, round = 50 * NS_MS;
    mono_ns next[CIRCLES];
    for (unsigned k = 0; k < CIRCLES; k++)
        next[k] = now + (k + 1) * round / CIRCLES + k * NS_S;
    for (unsigned i = 0; i < SESSIONS; i++) {
        now += gap;
        uint64_t h = prng_u64(&prng);
        assert_false(guard_session_crosses(r.g, h, now));
        uint64_t *later = &again[i % AGAIN];
        if (*later != 0 && i % 8 == 0)
            assert_false(guard_session_crosses(r.g, *later, now));
        if (*later != 0 && i % 16 == 0)
            assert_false(guard_session_crosses(r.g, *later, now));
        *later = h;
        for (unsigned k = i % 64; k < CIRCLES; k += 64)
            if (!found[k] && now >= next[k]) {
                next[k] += round;
                circled[k]++;
                found[k] = guard_session_crosses(r.g, circle[k], now);
            }
    }
    for (unsigned k = 0; k < CIRCLES; k++) {
        assert_true(found[k]);
        assert_true(circled[k] <= 40); /* two seconds of circling */
    }
    assert_int_equal(guard_counters(r.g)->sessions_broken, CIRCLES);
    rig_close(&r);
}

/* A set full of sessions that came twice is not theirs for good. */
static void no_set_is_taken_for_good(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = NS_S;
    for (uint64_t k = 0; k < 64; k++)
        for (unsigned twice = 0; twice < 2; twice++)
            assert_false(guard_session_crosses(r.g, k << 32 | 3, now));
    now += 10 * NS_S;
    bool found = false;
    for (uint64_t k = 0; k < 20; k++) {
        assert_false(guard_session_crosses(r.g, k << 40 | 3, now += 10 * NS_MS));
        found = guard_session_crosses(r.g, 0xabcdef0000000003, now);
    }
    assert_true(found);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(clock_turns),
        cmocka_unit_test(among_ten_million),
        cmocka_unit_test(no_set_is_taken_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
