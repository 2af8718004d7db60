/* SPDX-License-Identifier: Apache-2.0
 *
 * The log-linear histogram, against sorted samples. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "observe/observe.h"

static struct histogram h, other;

static void reset(void)
{
    memset(&h, 0, sizeof h);
    memset(&other, 0, sizeof other);
}

static void test_empty_says_zero(void **state)
{
    (void)state;
    reset();
    assert_int_equal(histogram_quantile(&h, 0), 0);
    assert_int_equal(histogram_quantile(&h, 500), 0);
    assert_int_equal(histogram_quantile(&h, 1000), 0);
}

/* A sample alone with a far larger one: the median is the upper edge of its cell. */
static uint64_t edge_of(uint64_t value)
{
    reset();
    histogram_add(&h, value);
    histogram_add(&h, UINT64_MAX);
    return histogram_quantile(&h, 500);
}

static void test_edges(void **state)
{
    (void)state;
    static const struct {
        uint64_t value, edge;
    } cases[] = {
        {0, 0},
        {1, 1},
        {15, 15},
        {16, 16},
        {31, 31},
        {32, 33},
        {33, 33},
        {34, 35},
        {63, 63},
        {64, 67},
        {127, 127},
        {128, 135},
        {1000, 1023},
        {1024, 1087},
        {1000000, 1015807},
        {(1ULL << 35) - 1, UINT64_MAX},
        {1ULL << 35, UINT64_MAX},
        {(1ULL << 34) - 1, (1ULL << 34) - 1},
        {UINT64_MAX, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (edge_of(cases[i].value) != cases[i].edge)
            fail_msg("%llu: edge %llu", (unsigned long long)cases[i].value,
                     (unsigned long long)edge_of(cases[i].value));
}

static void test_error_is_at_most_a_sixteenth(void **state)
{
    (void)state;
    struct prng p;
    uint64_t before = 0;
    prng_seed(&p, 3);
    for (uint64_t v = 0; v < 100000; v++) {
        uint64_t edge = edge_of(v);
        assert_true(edge >= v && edge - v <= v / 16 && edge >= before);
        before = edge;
    }
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t v = prng_u64(&p) >> (30 + prng_below(&p, 30));
        uint64_t edge = edge_of(v);
        assert_true(edge >= v && edge - v <= v / 16);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static void test_quantiles_against_sorted_samples(void **state)
{
    (void)state;
    static uint64_t sample[2500];
    static const unsigned ask[] = {0, 1, 10, 250, 500, 900, 990, 999, 1000, 5000};
    struct prng p;
    prng_seed(&p, 4);
    for (size_t n = 1; n <= 2500; n = n * 3 / 2 + 1) {
        reset();
        for (size_t i = 0; i < n; i++) {
            sample[i] = prng_u64(&p) >> (34 + prng_below(&p, 30));
            histogram_add(i % 3 == 0 ? &other : &h, sample[i]);
        }
        histogram_merge(&h, &other);
        qsort(sample, n, sizeof sample[0], by_value);
        assert_int_equal(h.count, n);
        assert_int_equal(h.max, sample[n - 1]);
        for (size_t k = 0; k < sizeof ask / sizeof ask[0]; k++) {
            unsigned share = ask[k] < 1000 ? ask[k] : 1000;
            size_t rank = (n * share + 999) / 1000;
            uint64_t truth = sample[rank > 0 ? rank - 1 : 0];
            uint64_t said = histogram_quantile(&h, ask[k]);
            assert_true(said >= truth && said - truth <= truth / 16 && said <= h.max);
        }
        assert_int_equal(histogram_quantile(&h, 1000), sample[n - 1]);
    }
}

static void test_rank_is_rounded_up(void **state)
{
    (void)state;
    reset();
    histogram_add(&h, 1);
    for (unsigned i = 0; i < 1000; i++)
        histogram_add(&h, 5);
    assert_int_equal(histogram_quantile(&h, 0), 1);
    assert_int_equal(histogram_quantile(&h, 1), 5);
}

static void test_cells_saturate(void **state)
{
    (void)state;
    reset();
    histogram_add(&h, 5);
    h.cell[5] = UINT32_MAX;
    h.count = UINT32_MAX;
    histogram_add(&h, 5);
    assert_int_equal(h.cell[5], UINT32_MAX);
    assert_int_equal(h.count, 1ULL << 32);
    other = h;
    histogram_merge(&h, &other);
    assert_int_equal(h.cell[5], UINT32_MAX);
    assert_int_equal(h.count, 1ULL << 33);
    assert_int_equal(histogram_quantile(&h, 1000), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_says_zero),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_error_is_at_most_a_sixteenth),
        cmocka_unit_test(test_quantiles_against_sorted_samples),
        cmocka_unit_test(test_rank_is_rounded_up),
        cmocka_unit_test(test_cells_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
