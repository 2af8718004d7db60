/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

static void test_arena_aligns_and_ends(void **state)
{
    (void)state;
    _Alignas(64) char mem[128];
    struct arena a = arena_over(mem, sizeof mem);
    assert_ptr_equal(arena_take(&a, 1, 1), mem);
    assert_ptr_equal(arena_take(&a, 8, 8), mem + 8);
    assert_ptr_equal(arena_take(&a, 0, 64), mem + 64);
    assert_ptr_equal(ARENA_ARRAY(&a, uint64_t, 8), mem + 64);
    size_t used = a.used;
    assert_null(arena_take(&a, 1, 1));
    assert_null(arena_take(&a, SIZE_MAX, 1));
    assert_null(arena_take(&a, SIZE_MAX - 8, 16));
    assert_int_equal(a.used, used);
    assert_ptr_equal(arena_take(&a, 0, 1), mem + 128);
    arena_reset(&a);
    assert_ptr_equal(arena_take(&a, sizeof mem, 1), mem);
    assert_null(arena_take(&a, 1, 64));
}

static void test_time_saturates(void **state)
{
    (void)state;
    static const struct {
        mono_ns at;
        dur_ns span;
        mono_ns sum;
    } cases[] = {
        {0, 0, 0},
        {5, 7, 12},
        {MONO_NONE - 2, 0, MONO_NONE - 2},
        {MONO_NONE - 2, 1, MONO_NONE - 1},
        {MONO_NONE - 2, 2, MONO_NONE - 1},
        {MONO_NONE - 1, 0, MONO_NONE - 1},
        {MONO_NONE - 1, UINT64_MAX, MONO_NONE - 1},
        {MONO_NONE, 0, MONO_NONE - 1},
        {1, UINT64_MAX, MONO_NONE - 1},
        {0, UINT64_MAX, MONO_NONE - 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(mono_add(cases[i].at, cases[i].span) == cases[i].sum);
    assert_true(mono_since(5, 3) == 2);
    assert_true(mono_since(3, 5) == 0);
    assert_true(mono_min(3, MONO_NONE) == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_aligns_and_ends),
        cmocka_unit_test(test_time_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
