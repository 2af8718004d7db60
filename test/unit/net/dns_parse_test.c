/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "net/dns.h"
#include "support/support.h"

#define BYTES(lit)                                                                                 \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }

/* Header: id 1, an answer, the given code and counts. */
#define HEAD(code, an, ns) "\0\1\x81" code "\0\1\0" an "\0" ns "\0\0"
#define ASKED              "\4_sip\4_udp\1a\4test\0" /* at 12; "a.test" at 22 */
#define SRV_Q              ASKED "\0\x21\0\1"
#define NAPTR_Q            "\1a\4test\0\0\x23\0\1" /* at 12 */
#define RR(type, ttl, len) "\xc0\x0c\0" type "\0\1\0\0\0" ttl "\0" len

static const struct {
    const char *name;
    struct slice packet;
    enum dns_type type;
    int result;
    unsigned count;
    uint32_t ttl_s;
    bool refuses;
    const char *first;
    uint16_t port;
    uint8_t transport;
} cases[] = {
    {"one srv, compressed target",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x0a") "\0\1\0\2\x13\xc4\1b\xc0\x16"),
     DNS_SRV, 0, 1, 30, false, "b.a.test", 5060, 0},
    {"least ttl of two",
     BYTES(HEAD("\0", "\2", "\0") SRV_Q RR("\x21", "\x1e", "\x08") "\0\1\0\2\x13\xc4\xc0\x16" RR(
         "\x21", "\5", "\x08") "\0\1\0\2\x13\xc4\xc0\x16"),
     DNS_SRV, 0, 2, 5, false, "a.test", 5060, 0},
    {"an alias counts for the ttl only",
     BYTES(HEAD("\0", "\2", "\0") SRV_Q RR("\5", "\3", "\2") "\xc0\x16" RR(
         "\x21", "\x1e", "\x08") "\0\1\0\2\x13\xc4\xc0\x16"),
     DNS_SRV, 0, 1, 3, false, "a.test", 5060, 0},
    {"target root: not offered",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\7") "\0\0\0\0\0\0\0"), DNS_SRV, 0, 0,
     30, true, NULL, 0, 0},
    {"no such name, soa minimum",
     BYTES(HEAD("\3", "\0", "\1")
               SRV_Q RR("\6", "\x3c", "\x16") "\0\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\7"),
     DNS_SRV, 0, 0, 7, false, NULL, 0, 0},
    {"no such name, no soa", BYTES(HEAD("\3", "\0", "\0") SRV_Q), DNS_SRV, 0, 0, 10, false, NULL, 0,
     0},
    {"naptr to srv over tcp",
     BYTES(HEAD("\0", "\1", "\0")
               NAPTR_Q RR("\x23", "\x1e", "\x1b") "\0\1\0\2\1s\7SIP+D2T\0\4_sip\4_tcp\xc0\x0c"),
     DNS_NAPTR, 0, 0, 0, false, NULL, 0, 0},
    {"a server failure", BYTES(HEAD("\2", "\0", "\0") SRV_Q), DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"a question", BYTES("\0\1\1\0\0\1\0\0\0\0\0\0" SRV_Q), DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"a pointer at itself",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x08") "\0\1\0\2\x13\xc4\xc0\x2f"),
     DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"a pointer forward",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x08") "\0\1\0\2\x13\xc4\xc0\xff"),
     DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"a pointer into the header",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x08") "\0\1\0\2\x13\xc4\xc0\4"),
     DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"a name that no host has",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x0b") "\0\1\0\2\x13\xc4\3a b\0"),
     DNS_SRV, 0, 0, 10, false, NULL, 0, 0},
    {"data shorter than its length",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x0f") "\0\1\0\2\x13\xc4\xc0\x16"),
     DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"data longer than its record",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x09") "\0\1\0\2\x13\xc4\xc0\x16\0"),
     DNS_SRV, -1, 0, 0, false, NULL, 0, 0},
    {"port 0 leads nowhere",
     BYTES(HEAD("\0", "\1", "\0") SRV_Q RR("\x21", "\x1e", "\x08") "\0\1\0\2\0\0\xc0\x16"), DNS_SRV,
     0, 0, 10, false, NULL, 0, 0},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_answer a = {.count = 77};
        struct slice in = cases[i].packet;
        char *p = guard_copy(in.p, in.n);
        int result = dns_parse(slice_of(p, in.n), cases[i].type, &a);
        bool same = result == cases[i].result;
        if (result != 0)
            same = same && a.count == 77;
        else if (cases[i].type == DNS_SRV)
            same = same && a.count == cases[i].count && a.ttl_s == cases[i].ttl_s &&
                   a.refuses == cases[i].refuses;
        if (same && result == 0 && cases[i].first != NULL)
            same = slice_equal(slice_of(a.record[0].name.text, a.record[0].name.len),
                               slice_cstr(cases[i].first)) &&
                   a.record[0].port == cases[i].port;
        guard_free(p);
        if (!same)
            fail_msg("%s: result %d, count %u, ttl %u, first %s", cases[i].name, result, a.count,
                     a.ttl_s, a.record[0].name.text);
    }
}

#define NAPTR(flag, service, text)                                                                 \
    RR("\x23", "\x1e", "\x1b") "\0\1\0\2\1" flag "\7" service "\0\4_sip\4" text "\xc0\x0c"

static void test_naptr(void **state)
{
    (void)state;
    static const char packet[] =
        HEAD("\0", "\4", "\0") NAPTR_Q /* flags and services without case */
            NAPTR("S", "sip+d2t", "_tcp") NAPTR("s", "SIP+D2U", "_udp")
                NAPTR("u", "SIP+D2T", "_xxx") NAPTR("s", "ENM+D2T", "_yyy");
    struct dns_answer a;
    assert_int_equal(0, dns_parse(slice_of(packet, sizeof packet - 1), DNS_NAPTR, &a));
    assert_int_equal(2, a.count);
    assert_int_equal(TP_TCP, a.record[0].transport);
    assert_string_equal("_sip._tcp.a.test", a.record[0].name.text);
    assert_int_equal(TP_UDP, a.record[1].transport);
    assert_int_equal(1, a.record[1].priority);
    assert_int_equal(2, a.record[1].weight);
    assert_int_equal(30, a.ttl_s);
}

/* No beginning of a packet is read beyond its end, and none but the whole is taken. */
static void test_every_prefix(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice in = cases[i].packet;
        for (size_t n = 0; n < in.n; n++) {
            struct dns_answer a;
            char *p = guard_copy(in.p, n);
            int result = dns_parse(slice_of(p, n), cases[i].type, &a);
            guard_free(p);
            if (result == 0 && cases[i].count > 0)
                fail_msg("%s: %zu of %zu bytes were taken", cases[i].name, n, in.n);
        }
    }
}

static void test_names(void **state)
{
    (void)state;
    char label[65];
    memset(label, 'a', sizeof label - 1);
    label[64] = '\0';
    assert_true(dns_name_is_sane(SLICE("a.example.com")));
    assert_true(dns_name_is_sane(SLICE("_sip._udp.x-1")));
    assert_false(dns_name_is_sane(SLICE("")));
    assert_false(dns_name_is_sane(SLICE(".a")));
    assert_false(dns_name_is_sane(SLICE("a..b")));
    assert_false(dns_name_is_sane(SLICE("a b")));
    assert_false(dns_name_is_sane(SLICE("a\0b")));
    assert_true(dns_name_is_sane(slice_of(label, 63)));
    assert_false(dns_name_is_sane(slice_of(label, 64)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_naptr),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
