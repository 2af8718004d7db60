/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "guard/guard.h"

/* RFC 3261 16.6 step 3: one less, 70 when there was none, never raised, never above the cap. */
static void hops(void **state)
{
    (void)state;
    static const struct {
        int received, cap, expected;
    } rows[] = {
        {-1, 70, 70}, {0, 70, -1},  {1, 70, 0},    {2, 70, 1},   {69, 70, 68}, {70, 70, 69},
        {71, 70, 70}, {72, 70, 70}, {255, 70, 70}, {-1, 10, 10}, {70, 10, 10}, {10, 10, 9},
        {11, 10, 10}, {0, 10, -1},  {1, 1, 0},     {-1, 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(guard_hops(rows[i].received, rows[i].cap), rows[i].expected);
}

/* However often a request comes by, it comes to an end. */
static void hops_always_end(void **state)
{
    (void)state;
    for (int cap = 1; cap <= 255; cap++) {
        int at = 255, passed = 0;
        while ((at = guard_hops(at, cap)) >= 0)
            passed++;
        assert_true(passed <= cap + 1);
    }
}

static void loop_hash(void **state)
{
    (void)state;
    static const struct hash_seed one = {1, 2}, two = {1, 3};
    struct slice parts[8] = {SLICE("sip:a@b"), SLICE("f"), SLICE(""), SLICE("c"), SLICE("1")};
    uint64_t h = guard_loop_hash(&one, parts, 8);
    assert_true(h == guard_loop_hash(&one, parts, 8));
    assert_true(h != guard_loop_hash(&two, parts, 8)); /* nobody else can compute it */
    for (unsigned i = 0; i < 8; i++) {
        struct slice changed[8];
        for (unsigned k = 0; k < 8; k++)
            changed[k] = parts[k];
        changed[i] = SLICE("x");
        assert_true(h != guard_loop_hash(&one, changed, 8));
    }
    /* What one part loses, the next one must not make up for. */
    struct slice left[2] = {SLICE("ab"), SLICE("c")}, right[2] = {SLICE("a"), SLICE("bc")};
    assert_true(guard_loop_hash(&one, left, 2) != guard_loop_hash(&one, right, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hops),
        cmocka_unit_test(hops_always_end),
        cmocka_unit_test(loop_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
