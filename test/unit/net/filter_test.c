/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel's list of sources: what the program says of a packet, by a machine of the test's own
 * for all prefixes, and by the kernel for addresses of loopback.
 *
 * covers: filter.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/filter.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

/* What is used of the machine: loads from the network header, "and", "jeq", "ret". */
static bool takes(const struct sock_filter *code, unsigned n, const uint8_t *header,
                  size_t header_n)
{
    uint32_t a = 0;
    for (unsigned pc = 0; pc < n; pc++) {
        const struct sock_filter *i = &code[pc];
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS: {
            size_t at = i->k - (uint32_t)SKF_NET_OFF;
            assert_true(at + 4 <= header_n);
            a = (uint32_t)header[at] << 24 | (uint32_t)header[at + 1] << 16 |
                (uint32_t)header[at + 2] << 8 | header[at + 3];
            break;
        }
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == i->k ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k != 0;
        default:
            fail_msg("instruction %u: code %u", pc, i->code);
        }
    }
    fail_msg("ran off the end");
    return false;
}

static struct prefix prefix_of(const char *text)
{
    struct prefix p;
    assert_int_equal(0, prefix_parse(slice_cstr(text), &p));
    return p;
}

static struct addr addr_of(const char *text)
{
    struct addr a;
    assert_int_equal(0, addr_parse_host(slice_cstr(text), 0, &a));
    return a;
}

static bool takes_from(const struct prefix *list, unsigned count, const char *source)
{
    struct sock_filter code[FILTER_CODE_MAX];
    struct addr a = addr_of(source);
    uint8_t header[40];
    memset(header, 0xee, sizeof header);
    memcpy(header + (a.family == 4 ? 12 : 8), a.ip, a.family == 4 ? 4 : 16);
    unsigned n = filter_write(code, list, count, a.family);
    assert_true(n <= FILTER_CODE_MAX);
    return takes(code, n, header, a.family == 4 ? 20 : 40);
}

static void test_every_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *in[2], *out[3];
    } cases[] = {
        {"203.0.113.9", {"203.0.113.9"}, {"203.0.113.8", "203.0.113.11", "203.0.112.9"}},
        {"203.0.113.0/24", {"203.0.113.0", "203.0.113.255"}, {"203.0.112.255", "203.0.114.0"}},
        {"10.0.0.0/8", {"10.255.255.255", "10.0.0.0"}, {"11.0.0.0", "9.255.255.255"}},
        {"2001:db8::7", {"2001:db8::7"}, {"2001:db8::6", "2001:db8:1::7", "2001:db8::1:0:7"}},
        {"2001:db8:1:2::/64",
         {"2001:db8:1:2::", "2001:db8:1:2:ffff::1"},
         {"2001:db8:1:3::", "2001:db8:0:2::", "2001:db9:1:2::"}},
        {"2001:db8:1::/48",
         {"2001:db8:1::", "2001:db8:1:ffff::1"},
         {"2001:db8:2::", "2001:db8::", "2001:db9:1::"}},
        {"2001::/16", {"2001::1", "2001:ffff::"}, {"2002::", "2000:ffff::"}},
    };
    struct prefix all[sizeof cases / sizeof cases[0]];
    unsigned count = sizeof cases / sizeof cases[0];
    for (unsigned i = 0; i < count; i++)
        all[i] = prefix_of(cases[i].prefix);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < 2 && cases[i].in[k] != NULL; k++) {
            if (takes_from(&all[i], 1, cases[i].in[k]) || takes_from(all, count, cases[i].in[k]))
                fail_msg("%s let %s in", cases[i].prefix, cases[i].in[k]);
        }
        for (unsigned k = 0; k < 3 && cases[i].out[k] != NULL; k++)
            if (!takes_from(&all[i], 1, cases[i].out[k]))
                fail_msg("%s kept %s out", cases[i].prefix, cases[i].out[k]);
        assert_true(takes_from(&all[i], 1, i < 3 ? "2001:db8::9" : "203.0.113.9"));
    }
}

/* As many as there may be, each the longest; the last counts like the first. */
static void test_a_full_list(void **state)
{
    (void)state;
    struct prefix list[FILTER_PREFIXES_MAX];
    for (unsigned i = 0; i < FILTER_PREFIXES_MAX; i++) {
        list[i] = prefix_of("2001:db8::");
        list[i].bits = 128;
        list[i].net.ip[15] = (uint8_t)i;
    }
    assert_false(takes_from(list, FILTER_PREFIXES_MAX, "2001:db8::"));
    assert_false(takes_from(list, FILTER_PREFIXES_MAX, "2001:db8::3f"));
    assert_true(takes_from(list, FILTER_PREFIXES_MAX, "2001:db8::40"));
}

static int bound(int type, const char *host, uint16_t port)
{
    struct addr a = addr_of(host);
    struct sockaddr_in6 sa;
    a.port = port;
    int fd = socket(a.family == 4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&a, &sa)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool comes(int from, int to)
{
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    char got[8];
    assert_int_equal(0, getsockname(to, (struct sockaddr *)&sa, &len));
    assert_int_equal(4, sendto(from, "four", 4, 0, (struct sockaddr *)&sa, len));
    struct pollfd p = {.fd = to, .events = POLLIN};
    return poll(&p, 1, 100) == 1 && recv(to, got, sizeof got, 0) == 4;
}

static void attach(int fd, const struct prefix *list, unsigned count, uint8_t family)
{
    struct sock_filter code[FILTER_CODE_MAX];
    struct sock_fprog program = {(unsigned short)filter_write(code, list, count, family), code};
    assert_int_equal(0, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

static void test_the_kernel_understands_it(void **state)
{
    (void)state;
    struct prefix list[] = {prefix_of("127.9.9.0/24"), prefix_of("127.8.8.8"), prefix_of("::1")};
    int to = bound(SOCK_DGRAM, "127.0.0.1", 0), in = bound(SOCK_DGRAM, "127.9.9.9", 0);
    int other = bound(SOCK_DGRAM, "127.9.8.9", 0);
    assert_true(to >= 0 && in >= 0 && other >= 0);
    assert_true(comes(in, to));
    attach(to, list, 3, 4);
    assert_false(comes(in, to));
    assert_true(comes(other, to));
    close(to);
    close(in);
    close(other);
    to = bound(SOCK_DGRAM, "::1", 0);
    in = bound(SOCK_DGRAM, "::1", 0);
    if (to >= 0 && in >= 0) { /* a machine may have no IPv6 */
        assert_true(comes(in, to));
        attach(to, list, 3, 6);
        assert_false(comes(in, to));
        attach(to, list, 2, 6);
        assert_true(comes(in, to));
    }
    close(to);
    close(in);
}

/* ---- INVITEs ----------------------------------------------------------------------------------
 */

/* How many of `times` copies pass, when `share` of INVITEs is to be dropped. */
static unsigned passes(const char *text, size_t n, uint32_t share, unsigned times)
{
    static const struct slice numbers[] = {{"112", 3}, {"sos", 3}, {"12345678", 8}};
    struct sock_filter code[FILTER_CODE_MAX];
    unsigned instructions = filter_write_drop(code, numbers, 3, share), passed = 0;
    assert_true(instructions <= FILTER_DROP_CODE_MAX);
    struct sock_fprog program = {(unsigned short)instructions, code};
    int to = bound(SOCK_DGRAM, "127.0.0.1", 0), from = bound(SOCK_DGRAM, "127.0.0.1", 0);
    assert_int_equal(0, setsockopt(to, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    char got[512];
    assert_int_equal(0, getsockname(to, (struct sockaddr *)&sa, &len));
    for (unsigned i = 0; i < times; i++) {
        assert_int_equal(n, sendto(from, text, n, 0, (struct sockaddr *)&sa, len));
        passed += recv(to, got, sizeof got, MSG_DONTWAIT) == (ssize_t)n; /* loopback is at once */
    }
    close(to);
    close(from);
    return passed;
}

#define REST " SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK-1\r\nMax-Forwards: 70\r\n\r\n"

static void test_invites_are_dropped_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool dropped;
    } cases[] = {
        {"INVITE sip:bob@example.com" REST, true},
        {"INVITE sip:1123@example.com" REST, true},
        {"INVITE sip:11@example.com" REST, true},
        {"INVITE tel:112" REST, true},
        {"INVITE sip:112@example.com" REST, false},
        {"INVITE sip:sos@example.com" REST, false},
        {"INVITE sip:12345678@example.com" REST, false},
        {"INVITE urn:service:sos" REST, false},
        {"ACK sip:bob@example.com" REST, false},
        {"BYE sip:bob@example.com" REST, false},
        {"CANCEL sip:bob@example.com" REST, false},
        {"REGISTER sip:example.com" REST, false},
        {"SIP/2.0 200 OK" REST, false},
        {"\r\n\r\n", false},
        {"\r\n", false},
        {"x", false},
        {"INVI", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        if (passes(cases[i].text, n, UINT32_MAX, 3) != (cases[i].dropped ? 0 : 3) ||
            passes(cases[i].text, n, 0, 3) != 3)
            fail_msg("%.40s", cases[i].text);
    }
    static const char invite[] = "INVITE sip:bob@example.com" REST;
    assert_in_range(passes(invite, sizeof invite - 1, 3U << 30, 2000), 350, 650);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_a_full_list),
        cmocka_unit_test(test_the_kernel_understands_it),
        cmocka_unit_test(test_invites_are_dropped_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
