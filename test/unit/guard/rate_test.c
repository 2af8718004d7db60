/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "guard/guard.h"
#include "support/support.h"

static void shares(void **state)
{
    (void)state;
    static const struct {
        uint32_t per_second, burst, share;
        dur_ns every;
        uint32_t tokens;
    } rows[] = {
        {0, 10, 1, 0, 1},
        {10, 5, 1, NS_S / 10, 5},
        {10, 5, 2, NS_S / 5, 3},
        {10, 0, 1, NS_S / 10, 1},
        {1, 1, 64, 64 * NS_S, 1},
        {10, 5, 0, NS_S / 10, 5},
        {UINT32_MAX, UINT32_MAX, 1, 1, UINT32_MAX},
        {1, UINT32_MAX, UINT32_MAX, NS_S * UINT32_MAX, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rate r = rate_of(rows[i].per_second, rows[i].burst, rows[i].share);
        assert_true(r.every == rows[i].every);
        assert_int_equal(r.burst, rows[i].tokens);
    }
}

static unsigned take_all(mono_ns *full_at, struct rate r, mono_ns now)
{
    unsigned n = 0;
    while (n < 100000 && rate_take(full_at, r, now))
        n++;
    return n;
}

static void a_burst_then_one_by_one(void **state)
{
    (void)state;
    struct rate r = rate_of(10, 5, 1);
    mono_ns full_at = 0, now = 1000 * NS_S;
    assert_int_equal(take_all(&full_at, r, now), 5);
    assert_int_equal(take_all(&full_at, r, now + NS_S / 10 - 1), 0);
    assert_int_equal(take_all(&full_at, r, now + NS_S / 10), 1);
    assert_int_equal(take_all(&full_at, r, now + NS_S / 10 + 3 * NS_S / 10), 3);
    assert_int_equal(take_all(&full_at, r, now + 3600 * NS_S), 5);
}

static void no_limit(void **state)
{
    (void)state;
    mono_ns full_at = 7;
    assert_int_equal(take_all(&full_at, rate_of(0, 0, 1), 1), 100000);
    assert_true(full_at == 7);
    assert_true(rate_ready_at(full_at, rate_of(0, 0, 1), 5) == 5);
}

/* It is ready when it says so, and not before; and a refusal takes nothing. */
static void ready_is_when_it_can_be_taken(void **state)
{
    (void)state;
    struct prng p = test_seed();
    for (unsigned i = 0; i < 20000; i++) {
        struct rate r = rate_of((uint32_t)prng_below(&p, 1000), (uint32_t)prng_below(&p, 20), 1);
        mono_ns now = prng_below(&p, 100 * NS_S), full_at = prng_below(&p, 120 * NS_S);
        mono_ns at = rate_ready_at(full_at, r, now), copy = full_at;
        assert_true(at >= now);
        assert_true(rate_take(&copy, r, now) == (at == now));
        if (at == now)
            continue;
        /* A refusal may have forgiven what was owed to a slower rate. */
        mono_ns then = rate_ready_at(copy, r, now);
        assert_true(then > now && then <= at && then - now <= r.every);
        assert_false(rate_take(&copy, r, then - 1));
        assert_true(rate_take(&copy, r, then));
    }
}

/* What a slower rate had emptied is empty, and no more, for a faster one. */
static void a_new_rate_holds_at_once(void **state)
{
    (void)state;
    struct rate slow = rate_of(1, 1000, 1), fast = rate_of(100, 10, 1);
    mono_ns full_at = 0, now = NS_S;
    assert_int_equal(take_all(&full_at, slow, now), 1000);
    assert_false(rate_take(&full_at, fast, now));
    assert_true(rate_ready_at(full_at, fast, now) == now + NS_S / 100);
    assert_true(rate_take(&full_at, fast, now + NS_S / 100));
}

static void ends_of_time(void **state)
{
    (void)state;
    struct rate huge = rate_of(1, UINT32_MAX, 1), slow = {MONO_NONE, 1}, many = {NS_S, UINT32_MAX};
    mono_ns full_at = 0;
    assert_true(rate_take(&full_at, huge, MONO_NONE - 2));
    full_at = MONO_NONE;
    (void)rate_take(&full_at, many, NS_S);
    assert_true(rate_ready_at(full_at, many, NS_S) >= NS_S);
    full_at = 0;
    assert_true(rate_take(&full_at, slow, NS_S));
    assert_false(rate_take(&full_at, slow, 2 * NS_S));
    assert_true(rate_ready_at(full_at, slow, 2 * NS_S) > 3600 * NS_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares),
        cmocka_unit_test(a_burst_then_one_by_one),
        cmocka_unit_test(no_limit),
        cmocka_unit_test(ready_is_when_it_can_be_taken),
        cmocka_unit_test(a_new_rate_holds_at_once),
        cmocka_unit_test(ends_of_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
