/* SPDX-License-Identifier: Apache-2.0
 *
 * SIP and SIPS URIs (RFC 3261 19.1, 25.1); of tel: and of strangers only the scheme.
 *
 *      sip:user;par=u%40x:pass@[2001:db8::1]:5060;transport=tcp;lr?Subject=x
 *          └──── user ───────┘ └─ host ───┘ port  └─── params ───┘ headers
 *
 * An '@' is legal in one place only, so everything before it is the user part, semicolons and
 * all (RFC 4475 3.1.1.9). A second one would make the host a matter of opinion: refused. */
#include "sip/sip_int.h"

/* Digits, letters up to f, colons and dots: how the address is composed is for the one who
 * converts it. */
bool sip__is_ipv6_text(struct slice s)
{
    bool has_colon = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool is_hex = sip__is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
        if (!is_hex && c != ':' && c != '.')
            return false;
        has_colon |= c == ':';
    }
    return has_colon;
}

static unsigned hex(char c)
{
    if (sip__is_digit(c))
        return (unsigned)(c - '0');
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? (unsigned)(l - 'a' + 10) : 16;
}

/* Visible, none of <>"@, and every '%' followed by two hex digits. The place where that ends. */
static const char *skip_text(const char *p, const char *end, const char *limit)
{
    for (;;) {
        p = sip__until(p, end, limit, SIP__UNTIL_USER_END);
        if (LIKELY(p == end || *p != '%') || end - p < 3 || (hex(p[1]) | hex(p[2])) > 15)
            return p;
        p += 3;
    }
}

static const char *scheme(struct slice s, struct sip_uri *u)
{
    const char *end = s.p + s.n;
    if (LIKELY(s.n > 4 && sip__same4(s.p, "\x20\x20\x20\0", "sip:"))) {
        u->scheme_name = (struct slice){s.p, 3};
        u->scheme = SIP_SCHEME_SIP;
        return s.p + 4;
    }
    const char *q = sip__skip(s.p, end, SIP__SCHEME);
    if (q == s.p || q == end || *q != ':' || !sip__is_alpha(*s.p))
        return NULL;
    u->scheme_name = (struct slice){s.p, (size_t)(q - s.p)};
    if (SIP__EQUAL(u->scheme_name, "sip"))
        u->scheme = SIP_SCHEME_SIP;
    else if (SIP__EQUAL(u->scheme_name, "sips"))
        u->scheme = SIP_SCHEME_SIPS;
    else if (SIP__EQUAL(u->scheme_name, "tel"))
        u->scheme = SIP_SCHEME_TEL;
    return q + 1;
}

/* host [":" port]. The place behind, or NULL. */
static const char *hostport(const char *p, const char *end, struct sip_uri *u)
{
    const char *host = p;
    if (p < end && *p == '[') {
        host = p + 1;
        p = memchr(host, ']', (size_t)(end - host));
        if (p == NULL)
            return NULL;
        u->host_is_ipv6 = true;
    } else {
        p = sip__skip(p, end, SIP__HOST);
    }
    u->host = (struct slice){host, (size_t)(p - host)};
    if (u->host.n == 0 || (u->host_is_ipv6 && !sip__is_ipv6_text(u->host)))
        return NULL;
    if (u->host_is_ipv6)
        p++;
    if (p == end || *p != ':')
        return p;
    p++;
    uint64_t port = 0;
    if (sip__take_digits(&p, end, 65535, &port) != SIP_OK || port == 0)
        return NULL;
    u->port = (uint16_t)port;
    return p;
}

int sip__uri(struct slice s, const char *limit, struct sip_uri *ret_uri)
{
    struct sip_uri *u = ret_uri;
    *u = (struct sip_uri){.scheme = SIP_SCHEME_OTHER};
    const char *p = s.n > 0 ? scheme(s, u) : NULL;
    if (p == NULL)
        return SIP_E_SYNTAX;
    const char *end = s.p + s.n;
    if (u->scheme != SIP_SCHEME_SIP && u->scheme != SIP_SCHEME_SIPS)
        return p < end && sip__until(p, end, limit, SIP__UNTIL_WORD_END) == end ? SIP_OK
                                                                                : SIP_E_SYNTAX;
    const char *at = memchr(p, '@', (size_t)(end - p));
    if (at != NULL) {
        if (at == p || skip_text(p, at, limit) != at)
            return SIP_E_SYNTAX;
        u->user = (struct slice){p, (size_t)(at - p)};
        p = at + 1;
    }
    p = hostport(p, end, u);
    if (p == NULL || (p < end && *p != ';' && *p != '?') || skip_text(p, end, limit) != end)
        return SIP_E_SYNTAX;
    if (p < end) {
        const char *mark = memchr(p, '?', (size_t)(end - p));
        const char *params_end = mark != NULL ? mark : end;
        if (params_end > p)
            u->params = (struct slice){p, (size_t)(params_end - p)};
        if (mark != NULL)
            u->headers = (struct slice){mark + 1, (size_t)(end - mark - 1)};
    }
    return SIP_OK;
}

int sip_uri_parse(struct slice s, struct sip_uri *ret_uri)
{
    struct sip_uri u;
    if (s.n == 0 || sip__uri(s, s.p + s.n, &u) != SIP_OK)
        return SIP_E_SYNTAX;
    *ret_uri = u;
    return SIP_OK;
}

/* Is `written`, its escapes taken for what they stand for, `name` without regard to case? */
static bool same_name(struct slice written, struct slice name)
{
    size_t k = 0;
    for (size_t i = 0; i < written.n; i++, k++) {
        char c = written.p[i];
        if (c == '%' && written.n - i >= 3 &&
            (hex(written.p[i + 1]) | hex(written.p[i + 2])) < 16) {
            c = (char)(hex(written.p[i + 1]) << 4 | hex(written.p[i + 2]));
            i += 2;
        }
        if (k == name.n ||
            !slice_equal_nocase((struct slice){&c, 1}, (struct slice){name.p + k, 1}))
            return false;
    }
    return k == name.n;
}

bool sip_uri_param(struct slice params, struct slice name, struct slice *ret_value)
{
    if (params.n == 0)
        return false;
    const char *end = params.p + params.n;
    for (const char *p = params.p; p < end;) {
        const char *begin = *p == ';' ? p + 1 : p;
        const char *stop = memchr(begin, ';', (size_t)(end - begin));
        if (stop == NULL)
            stop = end;
        struct slice one = {begin, (size_t)(stop - begin)};
        size_t eq = slice_find(one, '=');
        if (same_name(slice_take(one, eq), name)) {
            if (ret_value != NULL)
                *ret_value = slice_drop(one, eq < one.n ? eq + 1 : eq);
            return true;
        }
        p = stop;
    }
    return false;
}

int sip_uri_transport(const struct sip_uri *u, enum transport fallback)
{
    bool is_secure = u->scheme == SIP_SCHEME_SIPS;
    struct slice t = SLICE_NONE;
    if (!sip_uri_param(u->params, SLICE("transport"), &t))
        return is_secure ? TP_TLS : (int)fallback;
    if (SIP__EQUAL(t, "udp"))
        return is_secure ? -1 : TP_UDP; /* RFC 3261 26.2.2: sips asks for TLS on every hop */
    if (SIP__EQUAL(t, "tcp"))
        return is_secure ? TP_TLS : TP_TCP;
    if (SIP__EQUAL(t, "tls"))
        return TP_TLS;
    if (SIP__EQUAL(t, "ws"))
        return is_secure ? TP_WSS : TP_WS;
    return SIP__EQUAL(t, "wss") ? TP_WSS : -1;
}
