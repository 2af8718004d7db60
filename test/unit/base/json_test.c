/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/base.h"
#include "support/support.h"

static void a_row(void **state)
{
    (void)state;
    char bytes[256];
    struct text t = text_into(bytes, sizeof bytes);
    struct addr a;
    assert_int_equal(addr_parse(SLICE("[2001:db8::1]:5060"), &a), 0);
    text_put_char(&t, '{');
    json_u64(&t, "n", 18446744073709551615ULL);
    json_bool(&t, "yes", true);
    json_bool(&t, "no", false);
    json_key(&t, "in");
    text_put_char(&t, '{');
    json_u64(&t, "one", 1);
    json_u64(&t, "two", 2);
    text_put_char(&t, '}');
    json_text(&t, "s", SLICE("a\"b\\c\n\x7f\xc3"));
    json_text(&t, "none", SLICE_NONE);
    json_addr(&t, "at", &a);
    TEXT_LIT(&t, "}");
    static const char want[] =
        "{\"n\":18446744073709551615,\"yes\":true,\"no\":false,\"in\":{\"one\":1,\"two\":2},"
        "\"s\":\"a\\\"b\\\\c\\u000a\\u007f\\u00c3\",\"none\":\"\",\"at\":\"[2001:db8::1]:5060\"}";
    assert_int_equal(t.n, sizeof want - 1);
    assert_memory_equal(bytes, want, sizeof want - 1);
}

/* With any room: nothing is written, or read, beyond it, and the size is counted on. */
static void without_room(void **state)
{
    (void)state;
    for (size_t room = 0; room < 40; room++) {
        char *at = guard_copy("                                        ", room);
        struct text t = text_into(at, room);
        text_put_char(&t, '{');
        json_text(&t, "why", SLICE("none is left"));
        json_u64(&t, "n", 12345);
        TEXT_LIT(&t, "}");
        assert_int_equal(text_fits(&t), room >= t.n);
        assert_in_range(t.n, 32, 33); /* who cannot look back writes a comma more */
        guard_free(at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row),
        cmocka_unit_test(without_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
