/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

struct pair {
    uint64_t hash;
    uint32_t value;
};

static bool same_upper_half(uint64_t a, uint64_t b)
{
    return a >> 32 == b >> 32;
}

/* What a walk finds under `hash` is, as a multiset, what the model holds under its upper half. */
static void compare(const struct map *m, const struct pair *model, unsigned n, uint64_t hash)
{
    unsigned want = 0, got = 0;
    uint64_t want_sum = 0, got_sum = 0;
    for (unsigned i = 0; i < n; i++) {
        if (same_upper_half(model[i].hash, hash)) {
            want++;
            want_sum += (uint64_t)model[i].value * model[i].value + 1;
        }
    }
    uint32_t cursor = MAP_END;
    for (uint32_t v; (v = map_find(m, hash, &cursor)) != MAP_END;) {
        got++;
        got_sum += (uint64_t)v * v + 1;
        assert_true(got <= want);
    }
    assert_int_equal(got, want);
    assert_true(got_sum == want_sum);
}

/* Hashes of few homes, so that probe runs are long, meet, and wrap round the table's end. */
static uint64_t crowded_hash(struct prng *prng)
{
    uint64_t home = prng_below(prng, 5) == 0 ? prng_below(prng, 256) : 250 + prng_below(prng, 9);
    return (home + (prng_below(prng, 3) << 20)) << 32 | prng_below(prng, 2);
}

static void run_model(uint32_t count_max, bool crowded)
{
    struct prng prng = test_seed();
    struct arena mem = test_arena(map_memory(count_max));
    struct map m;
    assert_int_equal(map_init(&m, &mem, count_max), 0);
    static struct pair model[512];
    unsigned n = 0;
    for (unsigned step = 0; step < 40000; step++) {
        uint64_t hash = crowded ? crowded_hash(&prng) : prng_u64(&prng);
        uint64_t what = prng_below(&prng, 8);
        if (what < 4) {
            uint32_t value = (uint32_t)prng_below(&prng, 4) == 0 ? (uint32_t)prng_u64(&prng) / 2
                                                                 : (uint32_t)prng_below(&prng, 3);
            int result = map_add(&m, hash, value);
            assert_int_equal(result, n < count_max ? 0 : -1);
            if (result == 0)
                model[n++] = (struct pair){hash, value};
        } else if (what < 7 && n > 0) {
            unsigned pick = (unsigned)prng_below(&prng, n);
            struct pair p = model[pick];
            assert_true(map_remove(&m, p.hash, p.value));
            model[pick] = model[--n];
            compare(&m, model, n, p.hash);
        } else {
            bool there = false;
            for (unsigned i = 0; i < n; i++)
                there |= same_upper_half(model[i].hash, hash) && model[i].value == 77;
            assert_int_equal(map_remove(&m, hash, 77), there);
            assert_false(there);
        }
        compare(&m, model, n, hash);
        assert_int_equal(m.live, n);
        if (step % 500 == 0) {
            for (unsigned i = 0; i < n; i++)
                compare(&m, model, n, model[i].hash);
        }
    }
    while (n > 0) {
        n--;
        assert_true(map_remove(&m, model[n].hash, model[n].value));
    }
    for (uint32_t i = 0; i <= m.mask; i++)
        assert_int_equal(m.cells[i].value, 0);
    test_arena_free(&mem);
}

static void test_model_crowded(void **state)
{
    (void)state;
    run_model(128, true);
}

static void test_model_spread(void **state)
{
    (void)state;
    run_model(300, false);
}

static void test_model_tiny(void **state)
{
    (void)state;
    run_model(1, true);
    run_model(3, true);
}

static void test_empty_and_full(void **state)
{
    (void)state;
    struct arena mem = test_arena(map_memory(0) + map_memory(1));
    struct map none, one;
    assert_int_equal(map_init(&none, &mem, 0), 0);
    assert_int_equal(map_init(&one, &mem, 1), 0);
    uint32_t cursor = MAP_END;
    assert_true(map_find(&none, 5, &cursor) == MAP_END);
    assert_int_equal(map_add(&none, 5, 5), -1);
    assert_false(map_remove(&none, 5, 5));
    assert_int_equal(map_add(&one, 5, MAP_END - 1), 0);
    assert_int_equal(map_add(&one, 6, 0), -1);
    cursor = MAP_END;
    assert_true(map_find(&one, 5, &cursor) == MAP_END - 1);
    assert_true(map_find(&one, 5, &cursor) == MAP_END);
    struct map big;
    assert_int_equal(map_init(&big, &mem, 1000), -1);
    test_arena_free(&mem);
}

/* The table takes dirty memory, as a reused arena is, and holds its load. */
static void test_sizes(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 4, 5, 1000, 1024, 1025, 100000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct arena mem = test_arena(map_memory(counts[i]) + 3);
        memset(mem.p, 0xa5, mem.cap);
        mem.used = 3;
        struct map m;
        assert_int_equal(map_init(&m, &mem, counts[i]), 0);
        assert_true((uint64_t)m.mask + 1 >= 2 * (uint64_t)counts[i]);
        assert_int_equal(m.mask & (m.mask + 1), 0);
        uint32_t cursor = MAP_END;
        assert_true(map_find(&m, 0xa5a5a5a5a5a5a5a5, &cursor) == MAP_END);
        test_arena_free(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_crowded), cmocka_unit_test(test_model_spread),
        cmocka_unit_test(test_model_tiny),    cmocka_unit_test(test_empty_and_full),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
