/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "support/support.h"

static void test_equal_nocase(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"", "", true},          {"Call-ID", "cALL-id", true},
        {"abc", "abd", false},   {"abc", "ab", false},
        {"[", "{", false}, /* 0x20 apart, but no letters */
        {"@", "`", false},       {"1", "\x11", false},
        {"\xc4", "\xe4", false}, /* ASCII only */
        {"aZ", "Az", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice a = slice_cstr(cases[i].a), b = slice_cstr(cases[i].b);
        assert_int_equal(slice_equal_nocase(a, b), cases[i].equal);
        assert_int_equal(slice_equal_nocase(b, a), cases[i].equal);
    }
}

/* Every pair of bytes against the plain definition. */
static void test_equal_nocase_of_all_bytes(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            unsigned low_a = a >= 'A' && a <= 'Z' ? a + 32 : a;
            unsigned low_b = b >= 'A' && b <= 'Z' ? b + 32 : b;
            char x = (char)a, y = (char)b;
            assert_int_equal(slice_equal_nocase(slice_of(&x, 1), slice_of(&y, 1)), low_a == low_b);
        }
    }
}

static void test_compare(void **state)
{
    (void)state;
    static const char *const ordered[] = {"", "a", "aa", "ab", "b", "\x7f", "\x80", "\xff"};
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 8; j++) {
            int order = slice_compare(slice_cstr(ordered[i]), slice_cstr(ordered[j]));
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
    assert_int_equal(slice_compare(SLICE_NONE, SLICE_NONE), 0);
}

static void test_parts(void **state)
{
    (void)state;
    struct slice s = SLICE("sip:alice");
    assert_true(slice_equal(slice_drop(s, 4), SLICE("alice")));
    assert_int_equal(slice_drop(s, 99).n, 0);
    assert_true(slice_equal(slice_take(s, 3), SLICE("sip")));
    assert_true(slice_equal(slice_take(s, 99), s));
    assert_int_equal(slice_find(s, ':'), 3);
    assert_int_equal(slice_find(s, '@'), s.n);
    assert_int_equal(slice_find(SLICE_NONE, 'x'), 0);
    assert_true(slice_starts_with(s, SLICE("sip:")));
    assert_true(slice_starts_with(s, SLICE_NONE));
    assert_false(slice_starts_with(SLICE("si"), SLICE("sip")));
}

static void test_trim(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""}, {" ", ""}, {" \t\r\n ", ""}, {"a", "a"}, {"\r\n a b \t", "a b"}, {"\v a", "\v a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *in = guard_copy(cases[i].in, strlen(cases[i].in));
        struct slice out = slice_trim(slice_of(in, strlen(cases[i].in)));
        assert_true(slice_equal(out, slice_cstr(cases[i].out)));
        guard_free(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_nocase), cmocka_unit_test(test_equal_nocase_of_all_bytes),
        cmocka_unit_test(test_compare),      cmocka_unit_test(test_parts),
        cmocka_unit_test(test_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
