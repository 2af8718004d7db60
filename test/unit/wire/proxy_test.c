/* SPDX-License-Identifier: Apache-2.0
 *
 * Headers of the PROXY protocol: whole, at every cut, with more behind them; and what is none.
 *
 * covers: proxy.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/support.h"
#include "wire/wire.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4        "\xc0\x00\x02\x09\xc6\x33\x64\x01\x9c\x41\x13\xc5" /* 192.0.2.9:40001 */
#define V6                                                                                         \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"                                                   \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x08"                                                   \
    "\x9c\x41\x13\xc5"
#define MAPPED                                                                                     \
    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x09"                                                 \
    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x08"                                                 \
    "\x9c\x41\x13\xc5"

struct sample {
    const char *name, *bytes;
    size_t n;
    const char *source; /* NULL: stays as it was */
    int result;         /* of the whole; positive ones are its length */
};
#define SAMPLE(name, bytes, source, result)                                                        \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1, source, result                                             \
    }

static const struct sample samples[] = {
    SAMPLE("tcp4", SIGNATURE "\x21\x11\0\x0c" V4, "192.0.2.9:40001", 28),
    SAMPLE("tcp6", SIGNATURE "\x21\x21\0\x24" V6, "[2001:db8::7]:40001", 52),
    SAMPLE("mapped is IPv4", SIGNATURE "\x21\x21\0\x24" MAPPED, "192.0.2.9:40001", 52),
    SAMPLE("with TLVs", SIGNATURE "\x21\x11\0\x13" V4 "\x03\0\x04\x01\x02\x03\x04",
           "192.0.2.9:40001", 35),
    SAMPLE("local", SIGNATURE "\x20\0\0\0", NULL, 16),
    SAMPLE("local with an address that says nothing", SIGNATURE "\x20\x11\0\x0c" V4, NULL, 28),
    SAMPLE("text", "PROXY TCP4 192.0.2.9 198.51.100.1 40001 5061\r\n", NULL, PROXY_E_TEXT),
    SAMPLE("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00", NULL,
           PROXY_E_NONE),
    SAMPLE("SIP", "REGISTER sip:example.com SIP/2.0\r\n", NULL, PROXY_E_NONE),
    SAMPLE("a keep-alive", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", NULL, PROXY_E_NONE),
    SAMPLE("version 1 in a head of version 2", SIGNATURE "\x11\x11\0\x0c" V4, NULL, PROXY_E_FORM),
    SAMPLE("version 3", SIGNATURE "\x31\x11\0\x0c" V4, NULL, PROXY_E_FORM),
    SAMPLE("another command", SIGNATURE "\x22\x11\0\x0c" V4, NULL, PROXY_E_FORM),
    SAMPLE("UDP", SIGNATURE "\x21\x12\0\x0c" V4, NULL, PROXY_E_FORM),
    SAMPLE("a socket of a machine", SIGNATURE "\x21\x31\0\x0c" V4, NULL, PROXY_E_FORM),
    SAMPLE("not said what", SIGNATURE "\x21\x00\0\0", NULL, PROXY_E_FORM),
    SAMPLE("tcp4 too short", SIGNATURE "\x21\x11\0\x0b" V4, NULL, PROXY_E_FORM),
    SAMPLE("tcp6 too short", SIGNATURE "\x21\x21\0\x23" V6, NULL, PROXY_E_FORM),
    SAMPLE("from nobody", SIGNATURE "\x21\x11\0\x0c\0\0\0\0\xc6\x33\x64\x01\x9c\x41\x13\xc5", NULL,
           PROXY_E_FORM),
    SAMPLE("from no port", SIGNATURE "\x21\x11\0\x0c\xc0\0\x02\x09\xc6\x33\x64\x01\0\0\x13\xc5",
           NULL, PROXY_E_FORM),
    SAMPLE("too long", SIGNATURE "\x21\x11\x02\x19" V4, NULL, PROXY_E_LENGTH),
    SAMPLE("local, too long", SIGNATURE "\x20\x00\xff\xff", NULL, PROXY_E_LENGTH),
};

static int ask(const char *bytes, size_t n, size_t *ret_need, struct addr *ret_source)
{
    char *p = guard_copy(bytes, n);
    *ret_need = 0;
    memset(ret_source, 0, sizeof *ret_source);
    return proxy_read(p, n, ret_need, ret_source);
}

static void check_source(const struct sample *s, const struct addr *got)
{
    struct addr want = {0};
    if (s->source != NULL)
        assert_int_equal(0, addr_parse(slice_cstr(s->source), &want));
    if (!addr_equal(&want, got))
        fail_msg("%s: another source", s->name);
}

static void test_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct addr source;
        size_t need;
        int r = ask(samples[i].bytes, samples[i].n, &need, &source);
        if (r != samples[i].result)
            fail_msg("%s: got %d, want %d", samples[i].name, r, samples[i].result);
        check_source(&samples[i], &source);
    }
}

/* What is whole needs every byte of it; what is bad is known to be at some cut, and stays so. */
static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const struct sample *s = &samples[i];
        size_t whole = s->result > 0 ? (size_t)s->result : s->n;
        bool is_bad = false;
        for (size_t n = 0; n < whole; n++) {
            struct addr source;
            size_t need;
            int r = ask(s->bytes, n, &need, &source);
            if (r == 0 && !is_bad && need > n && (s->result < 0 || need <= whole))
                continue;
            is_bad = r < 0;
            if (r != s->result || s->result > 0)
                fail_msg("%s: cut at %zu: got %d, need %zu", s->name, n, r, need);
            assert_int_equal(0, source.family);
        }
    }
}

static void test_what_follows_is_not_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct addr source;
        char bytes[256];
        size_t need, n = samples[i].n;
        if (samples[i].result < 0)
            continue;
        memcpy(bytes, samples[i].bytes, n);
        memcpy(bytes + n, "\x16\x03\x01", 3);
        assert_int_equal(samples[i].result, ask(bytes, n + 3, &need, &source));
        check_source(&samples[i], &source);
    }
}

static void test_the_longest(void **state)
{
    (void)state;
    char bytes[PROXY_BYTES_MAX + 1] = SIGNATURE "\x21\x11\x02\x18" V4;
    struct addr source;
    size_t need;
    assert_int_equal(0, ask(bytes, PROXY_BYTES_MAX - 1, &need, &source));
    assert_int_equal(PROXY_BYTES_MAX, need);
    assert_int_equal(PROXY_BYTES_MAX, ask(bytes, PROXY_BYTES_MAX, &need, &source));
    assert_int_equal(40001, source.port);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_what_follows_is_not_taken),
        cmocka_unit_test(test_the_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
