/* SPDX-License-Identifier: Apache-2.0
 *
 * STUN as a keep-alive: the vectors of RFC 5769, and what is not answered. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "support/support.h"
#include "wire/wire.h"

#define COOKIE "\x21\x12\xa4\x42"
#define ID     "\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"

/* RFC 5769 2.1: PRIORITY is an attribute of ICE that has to be understood, and is not. */
static const char sample_request[] = //
    "\x00\x01\x00\x58" COOKIE ID     //
    "\x80\x22\x00\x10STUN test client"
    "\x00\x24\x00\x04\x6e\x00\x01\xff"
    "\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36"
    "\x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20"
    "\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71"
    "\xa2"
    "\x80\x28\x00\x04\xe5\x7a\x3b\xcf";

/* RFC 5769 2.2 and 2.3: the same transaction seen from 192.0.2.1 and 2001:db8:... */
static const char sample_v4[] =  //
    "\x01\x01\x00\x3c" COOKIE ID //
    "\x80\x22\x00\x0btest vector "
    "\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"
    "\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7"
    "\xd7"
    "\x80\x28\x00\x04\xc0\x7d\x4c\x96";
static const char sample_v6[] =  //
    "\x01\x01\x00\x48" COOKIE ID //
    "\x80\x22\x00\x0btest vector "
    "\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9"
    "\xd9"
    "\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed"
    "\x41"
    "\x80\x28\x00\x04\xc8\xfb\x0b\x4c";

/* CRC-32 by a table, and so not as the code under test has it. */
static uint32_t crc_of(const void *p, size_t n)
{
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = (c & 1) != 0 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++)
        c = table[(c ^ ((const uint8_t *)p)[i]) & 0xff] ^ c >> 8;
    return c ^ 0xffffffffu;
}

static void check_fingerprint(const char *p, size_t n)
{
    const uint8_t *at = (const uint8_t *)p + n - 4;
    assert_memory_equal(p + n - 8, "\x80\x28\x00\x04", 4);
    assert_int_equal(bytes_get_be(&at, 4), crc_of(p, n - 8) ^ 0x5354554e);
}

static struct addr address(const char *s)
{
    struct addr a;
    assert_int_equal(addr_parse(slice_cstr(s), &a), 0);
    return a;
}

static const char *const near4 = "192.0.2.1:32853";
static const char *const near6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";

/* A request with `attributes`, whose length is filled in. Returns its size. */
static size_t request(char *dst, const char *attributes, size_t n)
{
    memcpy(dst, "\x00\x01\x00\x00" COOKIE ID, STUN_HEAD_BYTES);
    (void)bytes_put_be((uint8_t *)dst + 2, n, 2);
    memcpy(dst + STUN_HEAD_BYTES, attributes, n);
    return STUN_HEAD_BYTES + n;
}

static size_t add_fingerprint(char *p, size_t n)
{
    (void)bytes_put_be((uint8_t *)p + 2, n + 8 - STUN_HEAD_BYTES, 2);
    memcpy(p + n, "\x80\x28\x00\x04", 4);
    (void)bytes_put_be((uint8_t *)p + n + 4, crc_of(p, n) ^ 0x5354554e, 4);
    return n + 8;
}

/* The answer to `n` bytes at the end of a page, into exactly as much room as it is said to need. */
static int ask(const char *p, size_t n, const char *source, char dst[STUN_ANSWER_BYTES_MAX])
{
    struct addr a = address(source);
    char *copy = guard_copy(p, n);
    int got = stun_answer(copy, n, &a, dst, STUN_ANSWER_BYTES_MAX);
    guard_free(copy);
    assert_in_range(got, 0, STUN_ANSWER_BYTES_MAX);
    if (got > 0) {
        assert_in_range(got, STUN_HEAD_BYTES, n + 24);
        assert_true(stun_is(dst, (size_t)got));
        assert_int_equal(stun_answer(p, n, &a, dst, (size_t)got), got);
        assert_int_equal(stun_answer(p, n, &a, dst, (size_t)got - 1), 0);
    }
    return got;
}

static void test_the_vectors_of_rfc_5769(void **state)
{
    (void)state;
    assert_int_equal(crc_of("123456789", 9), 0xcbf43926);
    assert_true(stun_is(sample_request, sizeof sample_request - 1));
    assert_true(stun_is(sample_v4, sizeof sample_v4 - 1));
    assert_true(stun_is(sample_v6, sizeof sample_v6 - 1));
    check_fingerprint(sample_request, sizeof sample_request - 1);
    check_fingerprint(sample_v4, sizeof sample_v4 - 1);
    check_fingerprint(sample_v6, sizeof sample_v6 - 1);

    char plain[64], answer[STUN_ANSWER_BYTES_MAX];
    size_t n = request(plain, "", 0);
    assert_int_equal(ask(plain, n, near4, answer), 32);
    assert_memory_equal(answer, "\x01\x01\x00\x0c" COOKIE ID, 20);
    assert_memory_equal(answer + 20, sample_v4 + 36, 12);
    assert_int_equal(ask(plain, n, near6, answer), 44);
    assert_memory_equal(answer, "\x01\x01\x00\x18" COOKIE ID, 20);
    assert_memory_equal(answer + 20, sample_v6 + 36, 24);
}

static void test_fingerprint(void **state)
{
    (void)state;
    char p[64], answer[STUN_ANSWER_BYTES_MAX];
    size_t n = add_fingerprint(p, request(p, "", 0));
    assert_int_equal(ask(p, n, near4, answer), 40);
    check_fingerprint(answer, 40);
    assert_int_equal(ask(p, n, near6, answer), 52);
    check_fingerprint(answer, 52);
    for (size_t i = 8; i < n; i++) {
        if (i == n - 8 || i == n - 7)
            continue; /* its type: then it is another attribute */
        p[i] ^= 4;
        assert_int_equal(ask(p, n, near4, answer), 0);
        p[i] ^= 4;
    }
    /* Behind it there is nothing, even when the sum is right; and it has four bytes. */
    n = request(p, "", 0);
    (void)bytes_put_be((uint8_t *)p + 2, 12, 2);
    memcpy(p + n, "\x80\x28\x00\x04", 4);
    (void)bytes_put_be((uint8_t *)p + n + 4, crc_of(p, n) ^ 0x5354554e, 4);
    memcpy(p + n + 8, "\x80\x22\x00\x00", 4);
    assert_int_equal(ask(p, n + 12, near4, answer), 0);
    n = request(p,
                "\x80\x28\x00\x05"
                "abcdefgh",
                12);
    assert_int_equal(ask(p, n, near4, answer), 0);
    n = request(p, "\x80\x28\x00\x00", 4);
    assert_int_equal(ask(p, n, near4, answer), 0);
}

static void test_unknown_attributes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *attributes;
        size_t n;
        const char *answer; /* behind the transaction id; NULL = success */
        size_t answer_n;
    } rows[] = {
#define ROW(name, a, r) {name, a, sizeof a - 1, r, sizeof r - 1}
#define ERROR_420       "\x00\x09\x00\x04\x00\x00\x04\x14"
        ROW("one",
            "\x00\x24\x00\x04"
            "abcd",
            ERROR_420 "\x00\x0a\x00\x02\x00\x24\x00\x00"),
        ROW("two",
            "\x00\x24\x00\x00\x7f\xff\x00\x01"
            "a   ",
            ERROR_420 "\x00\x0a\x00\x04\x00\x24\x7f\xff"),
        ROW("one of them twice", "\x00\x24\x00\x00\x00\x25\x00\x00\x00\x24\x00\x00",
            ERROR_420 "\x00\x0a\x00\x04\x00\x24\x00\x25"),
        ROW("more than are named",
            "\x00\x31\x00\x00\x00\x32\x00\x00\x00\x33\x00\x00\x00\x34\x00\x00\x00\x35\x00\x00",
            ERROR_420 "\x00\x0a\x00\x08\x00\x31\x00\x32\x00\x33\x00\x34"),
        ROW("CHANGE-REQUEST of RFC 3489", "\x00\x03\x00\x04\x00\x00\x00\x06",
            ERROR_420 "\x00\x0a\x00\x02\x00\x03\x00\x00"),
#undef ROW
#define ROW(name, a) {name, a, sizeof a - 1, NULL, 0}
        ROW("optional ones", "\x80\x22\x00\x03"
                             "abc "
                             "\xff\xff\x00\x00"),
        ROW("credentials", "\x00\x06\x00\x04user\x00\x14\x00\x01r   \x00\x15\x00\x01n   "),
        ROW("behind MESSAGE-INTEGRITY", "\x00\x08\x00\x14"
                                        "abcdefghijklmnopqrst"
                                        "\x00\x24\x00\x00"),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char p[128], answer[STUN_ANSWER_BYTES_MAX];
        size_t n = request(p, rows[i].attributes, rows[i].n);
        int got = ask(p, n, near4, answer);
        if (rows[i].answer == NULL) {
            if (got != 32 || answer[1] != 1 || answer[0] != 1)
                fail_msg("%s: %d bytes, type %02x%02x", rows[i].name, got, answer[0], answer[1]);
            continue;
        }
        if (got != (int)(STUN_HEAD_BYTES + rows[i].answer_n) ||
            memcmp(answer, "\x01\x11\x00", 3) != 0 || memcmp(answer + 8, ID, 12) != 0 ||
            memcmp(answer + STUN_HEAD_BYTES, rows[i].answer, rows[i].answer_n) != 0)
            fail_msg("%s: %d bytes", rows[i].name, got);
        n = add_fingerprint(p, n);
        got = ask(p, n, near4, answer);
        assert_int_equal(got, STUN_HEAD_BYTES + rows[i].answer_n + 8);
        check_fingerprint(answer, (size_t)got);
    }
    char answer[STUN_ANSWER_BYTES_MAX];
    int got = ask(sample_request, sizeof sample_request - 1, near4, answer);
    assert_int_equal(got, 44);
    assert_memory_equal(answer + 20, ERROR_420 "\x00\x0a\x00\x02\x00\x24\x00\x00", 16);
    check_fingerprint(answer, 44);
}

static void test_what_is_not_answered(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t n;
        bool is_stun;
    } rows[] = {
#define ROW(name, b, s) {name, b, sizeof b - 1, s}
        ROW("nothing", "", false),
        ROW("CRLF CRLF", "\r\n\r\n", false),
        ROW("SIP", "REGISTER sip:example.com SIP/2.0\r\n\r\n", false),
        ROW("RFC 3489, without the cookie",
            "\x00\x01\x00\x00"
            "abcd" ID,
            false),
        ROW("19 bytes", "\x00\x01\x00\x00" COOKIE "\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf",
            false),
        ROW("the highest bit", "\x80\x01\x00\x00" COOKIE ID, false),
        ROW("the second bit", "\x40\x01\x00\x00" COOKIE ID, false),
        ROW("a length of 2", "\x00\x01\x00\x02" COOKIE ID "\0\0", false),
        ROW("more than the length says", "\x00\x01\x00\x00" COOKIE ID "\x80\x22\x00\x00", false),
        ROW("less than the length says", "\x00\x01\x00\x08" COOKIE ID "\x80\x22\x00\x00", false),
        ROW("a Binding indication", "\x00\x11\x00\x00" COOKIE ID, true),
        ROW("a Binding success", "\x01\x01\x00\x00" COOKIE ID, true),
        ROW("a Binding error", "\x01\x11\x00\x00" COOKIE ID, true),
        ROW("TURN's Allocate", "\x00\x03\x00\x00" COOKIE ID, true),
        ROW("an attribute that is too long", "\x00\x01\x00\x04" COOKIE ID "\x80\x22\x00\x01", true),
        ROW("far too long",
            "\x00\x01\x00\x08" COOKIE ID "\x80\x22\xff\xff"
            "abcd",
            true),
        ROW("the second one too long",
            "\x00\x01\x00\x08" COOKIE ID "\x80\x22\x00\x00\x80\x22\x00\x04", true),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char answer[STUN_ANSWER_BYTES_MAX];
        char *copy = guard_copy(rows[i].bytes, rows[i].n);
        if (stun_is(copy, rows[i].n) != rows[i].is_stun)
            fail_msg("%s: STUN or not?", rows[i].name);
        guard_free(copy);
        if (ask(rows[i].bytes, rows[i].n, near4, answer) != 0)
            fail_msg("%s: answered", rows[i].name);
    }
    struct addr none = {.family = 0};
    char p[STUN_HEAD_BYTES], answer[STUN_ANSWER_BYTES_MAX];
    size_t n = request(p, "", 0);
    assert_int_equal(stun_answer(p, n, &none, answer, sizeof answer), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vectors_of_rfc_5769),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_unknown_attributes),
        cmocka_unit_test(test_what_is_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
