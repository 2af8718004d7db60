/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "support/support.h"

static void test_parse_u64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        int result;
        uint64_t value;
    } cases[] = {
        {"0", 0, 0, 0},
        {"1", 0, -1, 0},
        {"", 10, -1, 0},
        {"7", 7, 0, 7},
        {"8", 7, -1, 0},
        {"99", 99, 0, 99},
        {"100", 99, -1, 0},
        {"65535", 65535, 0, 65535},
        {"65536", 65535, -1, 0},
        {"0000000000000000000000000000065535", 65535, 0, 65535},
        {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, -1, 0},
        {"18446744073709551625", UINT64_MAX, -1, 0},
        {"28446744073709551615", UINT64_MAX, -1, 0},
        {"184467440737095516150", UINT64_MAX, -1, 0},
        {"9223372036854775808", INT64_MAX, -1, 0},
        {"4294967297", 4294967296, -1, 0}, /* 2^32 + 1 must not read as 1 */
        {"-1", 10, -1, 0},
        {"+1", 10, -1, 0},
        {" 1", 10, -1, 0},
        {"1 ", 10, -1, 0},
        {"0x1", 10, -1, 0},
        {"1:", 100, -1, 0},
        {"/", 100, -1, 0},
        {"\xb1", 100, -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        char *text = guard_copy(cases[i].text, n);
        uint64_t value = 4242;
        int result = text_parse_u64(slice_of(text, n), cases[i].max, &value);
        if (result != cases[i].result || value != (result == 0 ? cases[i].value : 4242))
            fail_msg("'%s' up to %" PRIu64, cases[i].text, cases[i].max);
        guard_free(text);
    }
}

/* Near every bound, the parser and the printed form must agree. */
static void test_numbers_there_and_back(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t v = prng_u64(&prng) >> prng_below(&prng, 64);
        char expected[32], got[32];
        size_t n = (size_t)snprintf(expected, sizeof expected, "%" PRIu64, v);
        struct text t = text_into(got, sizeof got);
        text_put_u64(&t, v);
        assert_true(slice_equal(text_slice(&t), slice_of(expected, n)));
        uint64_t back = 0;
        assert_int_equal(text_parse_u64(text_slice(&t), v, &back), 0);
        assert_true(back == v);
        if (v > 0)
            assert_int_equal(text_parse_u64(text_slice(&t), v - 1, &back), -1);
    }
    for (uint64_t v = 1; v < UINT64_MAX / 10; v *= 10) {
        for (uint64_t w = v - 1; w <= v + 1; w++) {
            char expected[32], got[32];
            size_t n = (size_t)snprintf(expected, sizeof expected, "%" PRIu64, w);
            struct text t = text_into(got, sizeof got);
            text_put_u64(&t, w);
            assert_true(slice_equal(text_slice(&t), slice_of(expected, n)));
        }
    }
}

/* Whatever the room, a writer stays inside it, and its count is the one of a wide one. */
static void test_writer_never_overruns(void **state)
{
    (void)state;
    static const char full[] = "SIP/2.0 4294967296\\x0d\\x5c!ok-";
    for (size_t cap = 0; cap <= sizeof full; cap++) {
        char blank[sizeof full] = {0};
        char *room = guard_copy(blank, cap);
        struct text t = text_into(room, cap);
        TEXT_LIT(&t, "SIP/2.0 ");
        text_put_u64(&t, 4294967296);
        text_put_escaped(&t, SLICE("\r\\!"), 3);
        text_put(&t, SLICE("ok"));
        text_put(&t, SLICE_NONE);
        text_put_char(&t, '-');
        assert_int_equal(t.n, sizeof full - 1);
        assert_int_equal(text_fits(&t), cap >= sizeof full - 1);
        if (text_fits(&t))
            assert_true(slice_equal(text_slice(&t), slice_cstr(full)));
        assert_true(text_slice(&t).n <= cap);
        guard_free(room);
    }
}

static void test_escape(void **state)
{
    (void)state;
    static const struct {
        struct slice in;
        size_t max;
        const char *out;
    } cases[] = {
        {{"", 0}, 9, ""},
        {{"plain text~", 11}, 99, "plain text~"},
        {{"plain", 5}, 2, "pl"},
        {{"plain", 5}, 0, ""},
        {{"\x1b[2J", 4}, 99, "\\x1b[2J"},
        {{"a\0b", 3}, 99, "a\\x00b"},
        {{"\x7f\x80\xff", 3}, 99, "\\x7f\\x80\\xff"},
        {{"\\x41", 4}, 99, "\\x5cx41"},
        {{"\r\nInjected: 1", 13}, 2, "\\x0d\\x0a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        struct text t = text_into(out, sizeof out);
        text_put_escaped(&t, cases[i].in, cases[i].max);
        assert_true(slice_equal(text_slice(&t), slice_cstr(cases[i].out)));
    }
}

static void test_base64url_vectors(void **state)
{
    (void)state;
    static const struct {
        struct slice bytes;
        const char *text;
    } cases[] = {
        /* RFC 4648 section 10 without its padding, and the two letters of its own */
        {{"", 0}, ""},
        {{"f", 1}, "Zg"},
        {{"fo", 2}, "Zm8"},
        {{"foo", 3}, "Zm9v"},
        {{"foob", 4}, "Zm9vYg"},
        {{"fooba", 5}, "Zm9vYmE"},
        {{"foobar", 6}, "Zm9vYmFy"},
        {{"\xfb\xff\xfe", 3}, "-__-"},
        {{"\0\0", 2}, "AAA"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        assert_int_equal(text_base64url_size(cases[i].bytes.n), n);
        char *text = guard_copy(cases[i].text, n);
        memset(text, 0, n);
        text_base64url_encode(cases[i].bytes.p, cases[i].bytes.n, text);
        assert_memory_equal(text, cases[i].text, n);
        char out[16];
        assert_int_equal(text_base64url_decode(slice_of(text, n), out, sizeof out),
                         cases[i].bytes.n);
        assert_memory_equal(out, cases[i].bytes.p, cases[i].bytes.n);
        guard_free(text);
    }
}

static void test_base64url_is_strict(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "A",    "AAAAA",  "Zg==",     "Zm9v=",   "Zm8=",    "+__-",  "-/_-",
        "Zm 9", "Zm9v\n", "Zh",       "ZI",      "Zj",      "Zv",    "Zm9",
        "Zm-",  "Z.",     "Zm9v.AAA", "Zm9\xff", "\x80m9v", "AAAB_", "Zm9vYh",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char out[16];
        if (text_base64url_decode(slice_cstr(refused[i]), out, sizeof out) != -1)
            fail_msg("'%s' was taken", refused[i]);
    }
    char out[4];
    assert_int_equal(text_base64url_decode(SLICE("Zm9vYg"), out, 4), 4);
    assert_int_equal(text_base64url_decode(SLICE("Zm9vYg"), out, 3), -1);
}

/* Every text of one to four characters from a small alphabet either is refused or is exactly
 * what its bytes encode to: one value, one spelling. */
static void test_base64url_has_one_spelling(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    unsigned taken = 0;
    for (unsigned i = 0; i < 200000; i++) {
        static const char letters[] = "ABIQgwxyz0459-_+/=";
        char text[7], bytes[8], again[8];
        size_t n = prng_below(&prng, sizeof text + 1);
        for (size_t k = 0; k < n; k++)
            text[k] = letters[prng_below(&prng, sizeof letters - 1)];
        int got = text_base64url_decode(slice_of(text, n), bytes, sizeof bytes);
        if (got < 0)
            continue;
        taken++;
        assert_int_equal(text_base64url_size((size_t)got), n);
        text_base64url_encode(bytes, (size_t)got, again);
        assert_memory_equal(again, text, n);
    }
    assert_true(taken > 10000);
}

static void test_base64url_there_and_back(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    for (size_t n = 0; n < 200; n++) {
        uint8_t bytes[200], back[200];
        char text[300];
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)prng_u64(&prng);
        size_t letters = text_base64url_size(n);
        text_base64url_encode(bytes, n, text);
        char *copy = guard_copy(text, letters);
        char *room = guard_copy(back, n);
        assert_int_equal(text_base64url_decode(slice_of(copy, letters), room, n), n);
        assert_memory_equal(room, bytes, n);
        guard_free(copy);
        guard_free(room);
    }
}

static void test_distance(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        unsigned distance;
    } cases[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"abc", "abc", 0},
        {"bind", "bnd", 1},
        {"bind", "bindd", 1},
        {"bind", "bond", 1},
        {"side", "sdie", 1},
        {"kitten", "sitting", 3},
        {"pools", "routes", 4},
        {"listeners", "lisetners", 1},
        {"0123456789abcdef0123456789abcdefAA", "0123456789abcdef0123456789abcdefBBBB", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice a = slice_cstr(cases[i].a), b = slice_cstr(cases[i].b);
        assert_int_equal(text_distance(a, b), cases[i].distance);
        assert_int_equal(text_distance(b, a), cases[i].distance);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_u64),
        cmocka_unit_test(test_numbers_there_and_back),
        cmocka_unit_test(test_writer_never_overruns),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_base64url_vectors),
        cmocka_unit_test(test_base64url_is_strict),
        cmocka_unit_test(test_base64url_has_one_spelling),
        cmocka_unit_test(test_base64url_there_and_back),
        cmocka_unit_test(test_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
