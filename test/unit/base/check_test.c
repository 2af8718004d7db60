/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

static void break_a_must(void *ctx)
{
    const int *two = (const int *)ctx;
    MUST(*two + *two == 5);
}

static void keep_a_must(void *ctx)
{
    const int *two = (const int *)ctx;
    MUST(*two + *two == 4);
}

static void die_at_length(void *ctx)
{
    base_die((const char *)ctx, "a/file.c", 7);
}

static void test_a_broken_must_aborts_and_says_where(void **state)
{
    (void)state;
    int two = 2;
    char said[512];
    assert_true(dies(break_a_must, &two, said, sizeof said));
    assert_non_null(strstr(said, "check_test.c:"));
    assert_non_null(strstr(said, ": broken: *two + *two == 5\n"));
    assert_false(dies(keep_a_must, &two, said, sizeof said));
    assert_string_equal(said, "");
}

static void test_a_long_condition_is_cut(void **state)
{
    (void)state;
    char cond[2000];
    memset(cond, 'x', sizeof cond);
    cond[sizeof cond - 1] = '\0';
    char said[1024];
    assert_true(dies(die_at_length, cond, said, sizeof said));
    assert_int_equal(strlen(said), strlen("a/file.c:7: broken: ") + 256 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_broken_must_aborts_and_says_where),
        cmocka_unit_test(test_a_long_condition_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
