/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "base/base.h"
#include "support/support.h"

/* The printed form, "refused" when it does not parse. */
static struct slice host_again(const char *host, char *out, size_t cap)
{
    size_t n = strlen(host);
    char *copy = guard_copy(host, n);
    struct addr a;
    struct text t = text_into(out, cap);
    if (addr_parse_host(slice_of(copy, n), 5060, &a) != 0)
        TEXT_LIT(&t, "refused");
    else
        addr_put_host(&t, &a);
    guard_free(copy);
    assert_true(text_fits(&t));
    return text_slice(&t);
}

static const struct {
    const char *in, *out;
} hosts[] = {
    {"0.0.0.0", "0.0.0.0"},
    {"255.255.255.255", "255.255.255.255"},
    {"10.1.2.3", "10.1.2.3"},
    {"256.1.1.1", "refused"},
    {"1.2.3", "refused"},
    {"1.2.3.4.5", "refused"},
    {"1.2.3.4.", "refused"},
    {".1.2.3.4", "refused"},
    {"1..2.3", "refused"},
    {"01.2.3.4", "refused"},
    {"1.2.3.04", "refused"},
    {"1.2.3.00", "refused"},
    {"1.2.3.0004", "refused"},
    {"0x1.2.3.4", "refused"},
    {"16909060", "refused"},
    {"1.2.3.4 ", "refused"},
    {" 1.2.3.4", "refused"},
    {"+1.2.3.4", "refused"},
    {"1.2.3.-4", "refused"},
    {"[1.2.3.4]", "refused"},
    {"", "refused"},
    {"[]", "refused"},
    {"example.com", "refused"},
    {"::", "[::]"},
    {"[::]", "[::]"},
    {"::1", "[::1]"},
    {"1::", "[1::]"},
    {"[::1", "refused"},
    {"::1]", "refused"},
    {"[[::1]]", "refused"},
    {"2001:DB8::A", "[2001:db8::a]"},
    {"2001:0db8:0000:0000:0000:0000:0000:0001", "[2001:db8::1]"},
    {"1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]"},
    {"1:2:3:4:5:6:7", "refused"},
    {"1:2:3:4:5:6:7:8:9", "refused"},
    {"1:2:3:4:5:6:7::", "[1:2:3:4:5:6:7:0]"},
    {"::2:3:4:5:6:7:8", "[0:2:3:4:5:6:7:8]"},
    {"1:2:3:4:5:6:7:8::", "refused"},
    {"::1:2:3:4:5:6:7:8", "refused"},
    {"1:2:3:4::5:6:7:8", "refused"},
    {"1::2::3", "refused"},
    {"1:2", "refused"},
    {":", "refused"},
    {":1", "refused"},
    {"1:", "refused"},
    {":1::", "refused"},
    {"::1:", "refused"},
    {"12345::", "refused"},
    {"::00001", "refused"},
    {"::g", "refused"},
    {"::-1", "refused"},
    {"1.2.3.4::", "refused"},
    {"::1.2.3.4:5", "refused"},
    /* RFC 5952: the first of the longest runs, never a single group */
    {"1:0:0:2:0:0:0:3", "[1:0:0:2::3]"},
    {"1:0:0:2:3:0:0:4", "[1::2:3:0:0:4]"},
    {"1:0:2:3:4:5:6:7", "[1:0:2:3:4:5:6:7]"},
    {"1:2:3:4:5:6:0:0", "[1:2:3:4:5:6::]"},
    {"0:0:3:4:5:6:0:0", "[::3:4:5:6:0:0]"},
    /* embedded IPv4 */
    {"64:ff9b::192.0.2.33", "[64:ff9b::c000:221]"},
    {"::1.2.3.4", "[::102:304]"},
    {"1:2:3:4:5:6:1.2.3.4", "[1:2:3:4:5:6:102:304]"},
    {"1:2:3:4:5:6:7:1.2.3.4", "refused"},
    {"1:2:3:4:5:1.2.3.4", "refused"},
    {"1:2:3:4:5:6::1.2.3.4", "refused"},
    {"::1.2.3", "refused"},
    {"::01.2.3.4", "refused"},
    {"::abc.2.3.4", "refused"},
    /* mapped: one host, one spelling */
    {"::ffff:1.2.3.4", "1.2.3.4"},
    {"::FFFF:0102:0304", "1.2.3.4"},
    {"[0:0:0:0:0:ffff:1.2.3.4]", "1.2.3.4"},
    {"::fffe:1.2.3.4", "[::fffe:102:304]"},
    /* RFC 5118 4.10 */
    {"2001:db8:::192.0.2.1", "[2001:db8::c000:201]"},
    {":::1", "[::1]"},
    {"1:::", "[1::]"},
    {"1::::2", "refused"},
    {"1:::2:::3", "refused"},
    {"1:::2::3", "refused"},
    /* a scope id means another interface on each machine */
    {"fe80::1%eth0", "refused"},
    {"[fe80::1%1]", "refused"},
    {"[fe80::1%251]", "refused"},
};

static void test_hosts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char out[ADDR_TEXT_MAX];
        struct slice got = host_again(hosts[i].in, out, sizeof out);
        if (!slice_equal(got, slice_cstr(hosts[i].out)))
            fail_msg("'%s': '%.*s', not '%s'", hosts[i].in, SLICE_ARG(got), hosts[i].out);
    }
}

static void test_host_and_port(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"10.0.0.5:5060", "10.0.0.5:5060"},
        {"10.0.0.5:0", "10.0.0.5:0"},
        {"10.0.0.5:65535", "10.0.0.5:65535"},
        {"10.0.0.5:65536", NULL},
        {"10.0.0.5:", NULL},
        {"10.0.0.5", NULL},
        {"10.0.0.5:5060:", NULL},
        {"10.0.0.5:-1", NULL},
        {":5060", NULL},
        {"[2001:db8::1]:5061", "[2001:db8::1]:5061"},
        {"[::ffff:10.0.0.1]:5061", "10.0.0.1:5061"},
        {"[2001:db8::1]", NULL},
        {"2001:db8::1:5061", NULL},
        {"[2001:db8::1]5061", NULL},
        {"[2001:db8::1]:506a", NULL},
        {"localhost:5060", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct addr a, untouched = {.port = 77, .family = 4};
        memcpy(&a, &untouched, sizeof a);
        int result = addr_parse(slice_cstr(cases[i].in), &a);
        char out[ADDR_TEXT_MAX];
        struct text t = text_into(out, sizeof out);
        addr_put(&t, &a);
        if ((result == 0) != (cases[i].out != NULL))
            fail_msg("'%s': %d", cases[i].in, result);
        if (result == 0)
            assert_true(slice_equal(text_slice(&t), slice_cstr(cases[i].out)));
        else
            assert_true(addr_equal(&a, &untouched));
    }
}

/* Random addresses with many zeros: our text is what the C library prints (but for the embedded
 * IPv4 forms, which it prefers), and reads back as the same value. */
static void test_ip6_against_the_c_library(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t ip[16] = {0x20, 0x01};
        for (unsigned k = 2; k < 16; k++)
            ip[k] = prng_below(&prng, 3) == 0 ? (uint8_t)prng_u64(&prng) : 0;
        struct addr a = addr_from_ip6(ip, 0, 5060), back;
        char ours[ADDR_TEXT_MAX], theirs[INET6_ADDRSTRLEN];
        struct text t = text_into(ours, sizeof ours);
        addr_put_host(&t, &a);
        assert_non_null(inet_ntop(AF_INET6, ip, theirs, sizeof theirs));
        struct slice inner = slice_of(ours + 1, t.n - 2);
        assert_true(slice_equal(inner, slice_cstr(theirs)));
        assert_int_equal(addr_parse_host(inner, 5060, &back), 0);
        assert_true(addr_equal(&a, &back));
    }
}

/* Random strings of the right letters: we take what the C library takes, and besides it only the
 * three-colon form and nothing else. */
static void test_random_text_against_the_c_library(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    unsigned taken = 0;
    for (unsigned i = 0; i < 300000; i++) {
        static const char letters[] = "::::::1fA0.";
        char text[24];
        size_t n = prng_below(&prng, 20);
        for (size_t k = 0; k < n; k++)
            text[k] = letters[prng_below(&prng, sizeof letters - 1)];
        text[n] = '\0';
        uint8_t theirs[16];
        bool known = inet_pton(AF_INET6, text, theirs) == 1;
        struct addr a;
        int got = addr_parse_host(slice_of(text, n), 0, &a);
        if (strstr(text, ":::") != NULL || (got == 0 && a.family == 4))
            continue;
        if ((got == 0) != known)
            fail_msg("'%s': we %d, the library %d", text, got, known);
        taken += known;
        if (known)
            assert_memory_equal(a.ip, theirs, 16);
    }
    assert_true(taken > 1000);
}

static void test_widest_text_fits(void **state)
{
    (void)state;
    uint8_t ip[16];
    memset(ip, 0xff, sizeof ip);
    struct addr a = addr_from_ip6(ip, UINT32_MAX, UINT16_MAX);
    char out[ADDR_TEXT_MAX];
    struct text t = text_into(out, sizeof out);
    addr_put(&t, &a);
    assert_true(text_fits(&t));
    struct addr none = {0};
    t = text_into(out, sizeof out);
    addr_put(&t, &none);
    assert_true(slice_equal(text_slice(&t), SLICE("-")));
}

static void test_unicast(void **state)
{
    (void)state;
    static const struct {
        const char *at;
        bool unicast;
    } cases[] = {
        {"10.0.0.1:5060", true},
        {"10.0.0.1:0", false},
        {"0.0.0.0:5060", false},
        {"127.0.0.1:5060", true},
        {"223.255.255.255:1", true},
        {"224.0.0.1:5060", false},
        {"239.255.255.250:1", false},
        {"240.0.0.1:5060", false},
        {"255.255.255.255:1", false},
        {"[::]:5060", false},
        {"[::1]:5060", true},
        {"[2001:db8::1]:5060", true},
        {"[2001:db8::1]:0", false},
        {"[ff02::1]:5060", false},
        {"[fe80::1]:5060", true},
        {"[::ffff:224.0.0.1]:5060", false},
        {"[::ffff:0.0.0.0]:5060", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct addr a;
        assert_int_equal(addr_parse(slice_cstr(cases[i].at), &a), 0);
        if (addr_is_unicast(&a) != cases[i].unicast)
            fail_msg("%s", cases[i].at);
    }
    struct addr none = {.port = 5060};
    assert_false(addr_is_unicast(&none));
    none.ip[0] = 10;
    assert_false(addr_is_unicast(&none));
}

static void test_prefix_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        uint8_t family, bits;
    } cases[] = {
        {"10.0.0.0/8", 0, 4, 8},
        {"0.0.0.0/0", 0, 4, 0},
        {"10.0.0.1", 0, 4, 32},
        {"10.0.0.1/32", 0, 4, 32},
        {"10.0.0.1/33", -2, 0, 0},
        {"10.0.0.1/", -2, 0, 0},
        {"10.0.0.1/x", -2, 0, 0},
        {"10.0.0.1/8/8", -2, 0, 0},
        {"10.0.0.1/8", -3, 0, 0},
        {"10.0.0.128/25", 0, 4, 25},
        {"10.0.0.128/24", -3, 0, 0},
        {"128.0.0.0/1", 0, 4, 1},
        {"128.0.0.0/0", -3, 0, 0},
        {"10.0.0/8", -1, 0, 0},
        {"/8", -1, 0, 0},
        {"", -1, 0, 0},
        {"2001:db8::/32", 0, 6, 32},
        {"[2001:db8::]/32", 0, 6, 32},
        {"2001:db8::/31", 0, 6, 31},
        {"2001:db8::/28", -3, 0, 0},
        {"::/0", 0, 6, 0},
        {"::1", 0, 6, 128},
        {"::1/127", -3, 0, 0},
        {"::1/129", -2, 0, 0},
        {"::ffff:10.0.0.0/104", 0, 4, 8},
        {"::ffff:10.0.0.1", 0, 4, 32},
        {"::ffff:10.0.0.0/95", -2, 0, 0},
        {"::ffff:0.0.0.0/96", 0, 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct prefix p = {.bits = 99};
        int result = prefix_parse(slice_cstr(cases[i].text), &p);
        if (result != cases[i].result)
            fail_msg("'%s': %d", cases[i].text, result);
        assert_int_equal(p.bits, result == 0 ? cases[i].bits : 99);
        assert_int_equal(p.net.family, cases[i].family);
    }
}

static void test_prefix_holds(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *host;
        bool holds;
    } cases[] = {
        {"10.0.0.0/8", "10.255.1.2", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "::ffff:10.1.1.1", true}, /* no way around by spelling */
        {"10.0.0.0/8", "a00::", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "::1", true},
        {"::/0", "1.2.3.4", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.129", true},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.0", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"2001:db8::1", "2001:db8::1", true},
        {"2001:db8::1", "2001:db8::", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct prefix p;
        struct addr a;
        assert_int_equal(prefix_parse(slice_cstr(cases[i].prefix), &p), 0);
        assert_int_equal(addr_parse_host(slice_cstr(cases[i].host), 5060, &a), 0);
        if (prefix_holds(&p, &a) != cases[i].holds)
            fail_msg("%s in %s", cases[i].host, cases[i].prefix);
    }
}

static void test_scope_and_transport(void **state)
{
    (void)state;
    uint8_t ip[16] = {0xfe, 0x80, [15] = 1};
    struct addr a = addr_from_ip6(ip, 3, 5060), b = addr_from_ip6(ip, 4, 5060);
    assert_false(addr_same_host(&a, &b));
    b.scope = 3;
    b.port = 5061;
    assert_true(addr_same_host(&a, &b));
    assert_false(addr_equal(&a, &b));
    static const char *const names[] = {"udp", "tcp", "tls", "ws", "wss"};
    for (int tp = 0; tp < TP__COUNT; tp++) {
        assert_true(slice_equal(transport_name((enum transport)tp), slice_cstr(names[tp])));
        assert_int_equal(transport_is_reliable((enum transport)tp), tp != TP_UDP);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_host_and_port),
        cmocka_unit_test(test_ip6_against_the_c_library),
        cmocka_unit_test(test_random_text_against_the_c_library),
        cmocka_unit_test(test_widest_text_fits),
        cmocka_unit_test(test_unicast),
        cmocka_unit_test(test_prefix_parse),
        cmocka_unit_test(test_prefix_holds),
        cmocka_unit_test(test_scope_and_transport),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
