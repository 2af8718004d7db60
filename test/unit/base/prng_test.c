/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

/* splitmix64 from 0 is published (0xe220a8397b1dcdaf, …), and xoshiro256** gives 11520, 0,
 * 1509978240 from the state 1, 2, 3, 4. */
static void test_known_values(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 0);
    static const uint64_t spread[4] = {0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f,
                                       0xf88bb8a8724c81ec};
    assert_memory_equal(p.s, spread, sizeof spread);
    p = (struct prng){{1, 2, 3, 4}};
    static const uint64_t drawn[] = {11520, 0, 1509978240, 1215971899390074240};
    for (unsigned i = 0; i < 4; i++)
        assert_true(prng_u64(&p) == drawn[i]);
}

static void test_same_seed_same_draws(void **state)
{
    (void)state;
    struct prng a, b, c;
    prng_seed(&a, 7);
    prng_seed(&b, 7);
    prng_seed(&c, 8);
    unsigned differ = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t v = prng_u64(&a);
        assert_true(v == prng_u64(&b));
        differ += v != prng_u64(&c);
    }
    assert_int_equal(differ, 100);
}

static void test_below_stays_below_and_is_fair(void **state)
{
    (void)state;
    struct prng p = test_seed();
    assert_true(prng_below(&p, 0) == 0);
    assert_true(prng_below(&p, 1) == 0);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t n = prng_u64(&p) >> prng_below(&p, 64);
        assert_true(n == 0 || prng_below(&p, n) < n);
    }
    unsigned hits[7] = {0};
    for (unsigned i = 0; i < 70000; i++)
        hits[prng_below(&p, 7)]++;
    for (unsigned i = 0; i < 7; i++) /* 10,000 each; 6 sigma are 556 */
        assert_in_range(hits[i], 9444, 10556);
    /* Of n = 3/4 × 2^64 a biased pick would give every third value twice as often. */
    unsigned third = 0;
    for (unsigned i = 0; i < 30000; i++)
        third += prng_below(&p, 3ULL << 62) % 3 == 0;
    assert_in_range(third, 9500, 10500);
}

static void fill_counting(void *ctx, void *dst, size_t n)
{
    unsigned char *next = (unsigned char *)ctx;
    memset(dst, (*next)++, n);
}

static void test_rng_asks_its_source(void **state)
{
    (void)state;
    unsigned char next = 1;
    const struct rng r = {fill_counting, &next};
    assert_true(rng_u64(&r) == 0x0101010101010101);
    assert_true(rng_u64(&r) == 0x0202020202020202);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_same_seed_same_draws),
        cmocka_unit_test(test_below_stays_below_and_is_fair),
        cmocka_unit_test(test_rng_asks_its_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
