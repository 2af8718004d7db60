/* SPDX-License-Identifier: Apache-2.0 */
#include "base/addr.h"

_Static_assert(sizeof(struct addr) == 24, "addr_equal compares the bytes: no padding");

/* ::ffff:0:0/96, RFC 4291 2.5.5.2 */
static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct addr addr_from_ip6(const uint8_t ip[16], uint32_t scope, uint16_t port)
{
    struct addr a = {.port = port};
    if (memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0) {
        memcpy(a.ip, ip + sizeof mapped_prefix, 4);
        a.family = 4;
    } else {
        memcpy(a.ip, ip, sizeof a.ip);
        a.scope = scope;
        a.family = 6;
    }
    return a;
}

/* Four decimal parts of one to three digits without leading zeros. A leading zero is refused
 * because others read it as octal: one text, two hosts. */
static int parse_ip4(struct slice s, uint8_t ret_ip[4])
{
    uint8_t ip[4];
    size_t at = 0;
    for (unsigned part = 0; part < 4; part++) {
        if (part > 0 && (at == s.n || s.p[at++] != '.'))
            return -1;
        size_t begin = at;
        unsigned v = 0;
        while (at < s.n && s.p[at] >= '0' && s.p[at] <= '9' && at - begin < 3)
            v = v * 10 + (unsigned)(s.p[at++] - '0');
        if (at == begin || v > 255 || (s.p[begin] == '0' && at - begin > 1))
            return -1;
        ip[part] = (uint8_t)v;
    }
    if (at != s.n)
        return -1;
    memcpy(ret_ip, ip, sizeof ip);
    return 0;
}

/* The value of a hex digit, 16 when it is none. */
static inline unsigned hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    unsigned low = (unsigned)(unsigned char)c | 0x20;
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : 16;
}

/* How many colons stand at `at`, counted up to four. */
static size_t colons_at(struct slice s, size_t at)
{
    size_t n = 0;
    while (at + n < s.n && n < 4 && s.p[at + n] == ':')
        n++;
    return n;
}

#define NO_GAP 17 /* beyond any place that "::" can have */

/* Up to eight groups into ip[]; *ret_bytes tells how many bytes were read, *ret_gap where in them
 * "::" stood, or NO_GAP. */
static int parse_groups(struct slice s, uint8_t ip[16], size_t *ret_bytes, size_t *ret_gap)
{
    size_t bytes = 0, gap = NO_GAP, at = 0;
    while (at < s.n) {
        size_t colons = colons_at(s, at);
        if (colons > 3 || (colons == 1 && at == 0) || (colons == 0 && at > 0))
            return -1;
        if (colons >= 2) {
            if (gap != NO_GAP)
                return -1;
            gap = bytes;
        }
        at += colons;
        if (at == s.n) {
            if (colons == 1)
                return -1;
            break;
        }
        size_t begin = at;
        unsigned v = 0;
        for (unsigned digit; at < s.n && at - begin < 4 && (digit = hex_value(s.p[at])) < 16; at++)
            v = v << 4 | digit;
        if (at < s.n && s.p[at] == '.') { /* the last four bytes as IPv4, RFC 4291 2.2 (3) */
            if (bytes > 12 || parse_ip4(slice_drop(s, begin), ip + bytes) != 0)
                return -1;
            bytes += 4;
            break;
        }
        if (at == begin || bytes > 14)
            return -1;
        ip[bytes++] = (uint8_t)(v >> 8);
        ip[bytes++] = (uint8_t)v;
    }
    *ret_bytes = bytes;
    *ret_gap = gap;
    return 0;
}

static int parse_ip6(struct slice s, uint8_t ret_ip[16])
{
    uint8_t read[16];
    size_t bytes, gap;
    if (parse_groups(s, read, &bytes, &gap) != 0)
        return -1;
    /* "::" stands for one group at least (RFC 4291 2.2). */
    if (gap == NO_GAP ? bytes != 16 : bytes > 14)
        return -1;
    size_t front = gap == NO_GAP ? 16 : gap;
    memset(ret_ip, 0, 16);
    memcpy(ret_ip, read, front);
    memcpy(ret_ip + 16 - (bytes - front), read + front, bytes - front);
    return 0;
}

int addr_parse_host(struct slice host, uint16_t port, struct addr *ret_addr)
{
    bool bracketed = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (bracketed)
        host = slice_of(host.p + 1, host.n - 2);
    struct addr a = {.port = port, .family = 4};
    if (!bracketed && parse_ip4(host, a.ip) == 0) {
        *ret_addr = a;
        return 0;
    }
    uint8_t ip6[16];
    if (parse_ip6(host, ip6) != 0)
        return -1;
    *ret_addr = addr_from_ip6(ip6, 0, port);
    return 0;
}

int addr_parse(struct slice s, struct addr *ret_addr)
{
    size_t colon = s.n;
    while (colon > 0 && s.p[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return -1;
    struct slice host = slice_take(s, colon - 1);
    uint64_t port;
    if (text_parse_u64(slice_drop(s, colon), UINT16_MAX, &port) != 0)
        return -1;
    /* Without brackets nobody can tell an IPv6 group from a port. */
    if (slice_find(host, ':') != host.n && host.p[0] != '[')
        return -1;
    return addr_parse_host(host, (uint16_t)port, ret_addr);
}

static void put_ip4(struct text *t, const uint8_t *ip)
{
    for (unsigned i = 0; i < 4; i++) {
        if (i > 0)
            text_put_char(t, '.');
        text_put_u64(t, ip[i]);
    }
}

static inline unsigned group_at(const uint8_t *ip, unsigned i)
{
    return (unsigned)ip[2 * i] << 8 | ip[2 * i + 1];
}

static void put_hex(struct text *t, unsigned v)
{
    bool begun = false;
    for (int shift = 12; shift >= 0; shift -= 4) {
        unsigned digit = v >> shift & 15;
        if (digit != 0 || begun || shift == 0) {
            text_put_char(t, "0123456789abcdef"[digit]);
            begun = true;
        }
    }
}

/* RFC 5952 4: lower case, no leading zeros, the first of the longest runs of two or more zero
 * groups as "::". */
static void put_ip6(struct text *t, const uint8_t *ip)
{
    unsigned run = 8, run_groups = 1;
    for (unsigned i = 0, zeros = 0; i < 8; i++) {
        zeros = group_at(ip, i) == 0 ? zeros + 1 : 0;
        if (zeros > run_groups) {
            run_groups = zeros;
            run = i + 1 - zeros;
        }
    }
    text_put_char(t, '[');
    for (unsigned i = 0; i < 8; i++) {
        if (i == run) {
            TEXT_LIT(t, "::");
            i += run_groups - 1;
            continue;
        }
        if (i > 0 && i != run + run_groups)
            text_put_char(t, ':');
        put_hex(t, group_at(ip, i));
    }
    text_put_char(t, ']');
}

void addr_put_host(struct text *t, const struct addr *a)
{
    if (a->family == 4)
        put_ip4(t, a->ip);
    else if (a->family == 6)
        put_ip6(t, a->ip);
    else
        text_put_char(t, '-');
}

void addr_put(struct text *t, const struct addr *a)
{
    addr_put_host(t, a);
    if (a->family == 0)
        return;
    text_put_char(t, ':');
    text_put_u64(t, a->port);
}

bool addr_is_unicast(const struct addr *a)
{
    static const uint8_t zero[16];
    if (a->port == 0 || memcmp(a->ip, zero, sizeof zero) == 0)
        return false;
    if (a->family == 4)
        return a->ip[0] < 224; /* above: multicast, class E, 255.255.255.255 */
    return a->family == 6 && a->ip[0] != 0xff;
}

/* Whether the first `bits` bits agree. */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0;
}

/* Whether all bits after the first `bits` are zero. */
static bool rest_is_zero(const uint8_t ip[16], unsigned bits)
{
    for (unsigned i = bits / 8; i < 16; i++) {
        unsigned byte = ip[i];
        if (i == bits / 8)
            byte &= 0xffu >> (bits % 8);
        if (byte != 0)
            return false;
    }
    return true;
}

int prefix_parse(struct slice s, struct prefix *ret_prefix)
{
    size_t slash = slice_find(s, '/');
    struct slice host = slice_take(s, slash);
    struct prefix p = {0};
    if (addr_parse_host(host, 0, &p.net) != 0)
        return -1;
    /* A mapped address was written with 96 bits in front that are gone now. */
    unsigned written = slice_find(host, ':') < host.n ? 128 : 32;
    unsigned gone = written == 128 && p.net.family == 4 ? 96 : 0;
    uint64_t bits = written;
    if (slash < s.n && text_parse_u64(slice_drop(s, slash + 1), written, &bits) != 0)
        return -2;
    if (bits < gone)
        return -2;
    p.bits = (uint8_t)(bits - gone);
    if (!rest_is_zero(p.net.ip, p.bits))
        return -3;
    *ret_prefix = p;
    return 0;
}

bool prefix_holds(const struct prefix *p, const struct addr *a)
{
    return p->net.family == a->family && same_bits(p->net.ip, a->ip, p->bits);
}

struct slice transport_name(enum transport tp)
{
    static const struct slice names[TP__COUNT] = {
        [TP_UDP] = {"udp", 3}, [TP_TCP] = {"tcp", 3}, [TP_TLS] = {"tls", 3},
        [TP_WS] = {"ws", 2},   [TP_WSS] = {"wss", 3},
    };
    MUST((unsigned)tp < TP__COUNT);
    return names[tp];
}
