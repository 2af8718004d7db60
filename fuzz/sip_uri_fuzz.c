/* SPDX-License-Identifier: Apache-2.0
 *
 * A URI of any bytes. Holds: the parts lie within, in order, and put together again they are the
 * URI; no part holds what would end it; a parameter that is found by name stands there. */
#include "sip_fuzz.h"

static void put_together(const struct sip_uri *u, struct slice s)
{
    static char room[4096];
    struct text t = text_into(room, sizeof room);
    text_put(&t, u->scheme_name);
    text_put_char(&t, ':');
    if (u->user.p != NULL) {
        text_put(&t, u->user);
        text_put_char(&t, '@');
    }
    if (u->host_is_ipv6)
        text_put_char(&t, '[');
    text_put(&t, u->host);
    if (u->host_is_ipv6)
        text_put_char(&t, ']');
    if (u->port != 0) {
        /* As written: leading zeros are the writer's. */
        const char *digits = u->host.p + u->host.n + (u->host_is_ipv6 ? 2 : 1);
        const char *end = digits;
        while (end < s.p + s.n && *end >= '0' && *end <= '9')
            end++;
        uint64_t port = 0;
        HOLDS(text_parse_u64(slice_of(digits, (size_t)(end - digits)), 65535, &port) == 0);
        HOLDS(port == u->port);
        text_put_char(&t, ':');
        text_put(&t, slice_of(digits, (size_t)(end - digits)));
    }
    text_put(&t, u->params);
    if (u->headers.p != NULL) {
        text_put_char(&t, '?');
        text_put(&t, u->headers);
    }
    HOLDS(slice_equal(text_slice(&t), s));
}

static void parameters(const struct sip_uri *u)
{
    static const struct slice names[] = {{"lr", 2}, {"transport", 9}, {"maddr", 5}, {"ob", 2}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct slice v = SLICE_NONE;
        if (sip_uri_param(u->params, names[i], &v))
            HOLDS(is_within(v, u->params) && slice_find(v, ';') == v.n);
    }
    int tp = sip_uri_transport(u, TP_UDP);
    HOLDS(tp >= -1 && tp < TP__COUNT);
    HOLDS(u->scheme != SIP_SCHEME_SIPS || tp == -1 || tp == TP_TLS || tp == TP_WSS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = {(const char *)data, size};
    struct sip_uri u;
    if (size > 4096 || sip_uri_parse(s, &u) != SIP_OK)
        return 0;
    HOLDS(u.scheme_name.n > 0 && u.scheme_name.p == s.p);
    for (size_t i = 0; i < s.n; i++)
        HOLDS((uint8_t)s.p[i] > ' ');
    if (u.scheme != SIP_SCHEME_SIP && u.scheme != SIP_SCHEME_SIPS)
        return 0;
    HOLDS(u.host.n > 0 && is_within(u.host, s) && is_within(u.user, s));
    HOLDS(slice_find(u.host, '@') == u.host.n && slice_find(u.user, '@') == u.user.n);
    HOLDS(slice_find(u.host, ';') == u.host.n && slice_find(u.params, '?') == u.params.n);
    HOLDS(u.host_is_ipv6 || slice_find(u.host, ':') == u.host.n);
    put_together(&u, s);
    parameters(&u);
    return 0;
}
