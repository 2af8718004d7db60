/* SPDX-License-Identifier: Apache-2.0
 *
 * Words of the command line, and which places may be loaded. */
#include "load/load_int.h"

int load__span(struct slice s, dur_ns *ret_span)
{
    static const struct {
        struct slice name;
        dur_ns ns;
    } units[] = {{{"ms", 2}, NS_MS},
                 {{"us", 2}, NS_US},
                 {{"s", 1}, NS_S},
                 {{"m", 1}, 60 * NS_S},
                 {{"h", 1}, 3600 * NS_S}};
    size_t digits = 0;
    uint64_t v = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    if (text_parse_u64(slice_take(s, digits), 1000000, &v) != 0)
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (slice_equal(slice_drop(s, digits), units[i].name)) {
            *ret_span = v * units[i].ns;
            return 0;
        }
    return -1;
}

int load__rate(struct slice s, uint32_t *ret_rate)
{
    uint64_t v;
    if (slice_equal(s, SLICE("max"))) {
        *ret_rate = 0;
        return 0;
    }
    if (s.n > 2 && s.p[s.n - 2] == '/' && s.p[s.n - 1] == 's')
        s = slice_take(s, s.n - 2);
    if (text_parse_u64(s, 10000000, &v) != 0 || v == 0)
        return -1;
    *ret_rate = (uint32_t)v;
    return 0;
}

int load__permille(struct slice s, uint32_t *ret_permille)
{
    uint64_t whole = 0, tenth = 0;
    if (s.n > 0 && s.p[s.n - 1] == '%')
        s.n--;
    size_t dot = slice_find(s, '.');
    if (text_parse_u64(slice_take(s, dot), 100, &whole) != 0 ||
        (dot < s.n && text_parse_u64(slice_drop(s, dot + 1), 9, &tenth) != 0))
        return -1;
    if (whole * 10 + tenth > 1000)
        return -1;
    *ret_permille = (uint32_t)(whole * 10 + tenth);
    return 0;
}

static uint16_t default_port(int transport)
{
    static const uint16_t ports[TP__COUNT] = {5060, 5060, 5061, 80, 443};
    return transport >= 0 && transport < TP__COUNT ? ports[transport] : 0;
}

/* Sets the scheme's transport and drops it; -1 when another stands there. */
static int take_scheme(struct slice *s)
{
    for (int tp = 0; tp < TP__COUNT; tp++) {
        struct slice name = transport_name((enum transport)tp);
        if (slice_starts_with(*s, name) &&
            slice_starts_with(slice_drop(*s, name.n), SLICE("://"))) {
            *s = slice_drop(*s, name.n + 3);
            return tp;
        }
    }
    return memmem(s->p, s->n, "://", 3) == NULL ? TP_UDP : -1;
}

static int numeric(struct slice host, uint16_t port, struct addr *ret_addr)
{
    if (slice_equal(host, SLICE("localhost")))
        host = SLICE("127.0.0.1");
    return addr_parse_host(host, port, ret_addr);
}

int load__place(struct slice s, struct load_place *ret_place)
{
    struct load_place p = {0};
    struct sip_uri uri;
    if (slice_starts_with(s, SLICE("sip:")) || slice_starts_with(s, SLICE("sips:"))) {
        if (sip_uri_parse(s, &uri) != 0)
            return -1;
        int tp = sip_uri_transport(&uri, TP_UDP);
        uint16_t port = uri.port != 0 ? uri.port : default_port(tp);
        if (tp < 0 || numeric(uri.host, port, &p.addr) != 0)
            return -1;
        p.transport = (uint8_t)tp;
        *ret_place = p;
        return 0;
    }
    int tp = s.n > 0 ? take_scheme(&s) : -1;
    if (tp < 0)
        return -1;
    p.transport = (uint8_t)tp;
    if (slice_starts_with(s, SLICE("localhost:")) ? true : addr_parse(s, &p.addr) != 0) {
        uint64_t port = default_port(tp);
        size_t colon = slice_find(s, ':');
        if (slice_starts_with(s, SLICE("localhost:"))) {
            if (text_parse_u64(slice_drop(s, colon + 1), 65535, &port) != 0)
                return -1;
            s = slice_take(s, colon);
        }
        if (numeric(s, (uint16_t)port, &p.addr) != 0)
            return -1;
    }
    *ret_place = p;
    return 0;
}

bool load__is_private(const struct addr *a)
{
    static const struct {
        uint8_t ip[4];
        uint8_t bits, family;
    } nets[] = {{{127, 0, 0, 0}, 8, 4},     {{10, 0, 0, 0}, 8, 4},     {{172, 16, 0, 0}, 12, 4},
                {{192, 168, 0, 0}, 16, 4},  {{169, 254, 0, 0}, 16, 4}, {{0xfc, 0, 0, 0}, 7, 6},
                {{0xfe, 0x80, 0, 0}, 10, 6}};
    static const uint8_t loopback[16] = {[15] = 1};
    if (a->family == 6 && memcmp(a->ip, loopback, 16) == 0)
        return true;
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        struct prefix p = {.bits = nets[i].bits};
        p.net.family = nets[i].family;
        memcpy(p.net.ip, nets[i].ip, 4);
        if (p.net.family == a->family && prefix_holds(&p, a))
            return true;
    }
    return false;
}

struct addr load__source(const struct prefix *p, uint64_t n)
{
    struct addr a = p->net;
    unsigned bytes = a.family == 4 ? 4 : 16;
    unsigned host_bits = bytes * 8 - p->bits;
    uint64_t size = host_bits >= 32 ? 1ULL << 32 : 1ULL << host_bits;
    uint64_t first = size > 2 ? 1 : 0, usable = size > 2 ? size - 2 : size;
    uint64_t k = first + n % usable;
    for (unsigned i = 0; i < 8 && i < bytes; i++)
        a.ip[bytes - 1 - i] = (uint8_t)(a.ip[bytes - 1 - i] | (uint8_t)(k >> (8 * i)));
    return a;
}

void load__put_place(struct text *t, const struct load_place *p)
{
    text_put(t, transport_name((enum transport)p->transport));
    TEXT_LIT(t, "://");
    addr_put(t, &p->addr);
}
