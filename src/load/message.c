/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces of messages that calls and phones share. */
#include "load/load_int.h"

struct slice load__via_name(uint8_t transport)
{
    static const struct slice names[TP__COUNT] = {
        {"UDP", 3}, {"TCP", 3}, {"TLS", 3}, {"WS", 2}, {"WSS", 3}};
    return names[transport];
}

struct slice load__uri_name(uint8_t transport)
{
    return transport == TP_WSS ? SLICE("ws") : transport_name((enum transport)transport);
}

void load__routes(const struct sip_msg *m, struct text *t)
{
    struct slice value[SIP_ROUTE_VALUES_MAX];
    struct sip_values v = sip_values(m, SIP_H_RECORD_ROUTE);
    unsigned count = 0;
    while (count < SIP_ROUTE_VALUES_MAX && sip_next_value(&v))
        value[count++] = sip_slice(m, v.value);
    while (count-- > 0) {
        TEXT_LIT(t, "Route: ");
        text_put(t, value[count]);
        TEXT_LIT(t, "\r\n");
    }
}

struct slice load__contact(const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_CONTACT);
    struct sip_nameaddr na;
    if (!sip_next_value(&v) || sip_nameaddr_parse(sip_slice(m, v.value), &na) != 0)
        return SLICE_NONE;
    return na.uri;
}

void load__put_via(struct text *t, const struct conn *c)
{
    TEXT_LIT(t, "Via: SIP/2.0/");
    text_put(t, load__via_name(c->transport));
    text_put_char(t, ' ');
    addr_put(t, &c->local);
    TEXT_LIT(t, ";rport;branch=");
}

void load__put_sdp(struct text *t, const struct conn *c)
{
    char bytes[256], host[ADDR_TEXT_MAX];
    struct text sdp = text_into(bytes, sizeof bytes), h = text_into(host, sizeof host);
    const bool is_v6 = c->local.family == 6;
    struct slice in = is_v6 ? SLICE("IP6 ") : SLICE("IP4 ");
    addr_put_host(&h, &c->local);
    struct slice name = text_slice(&h);
    if (is_v6) /* without its brackets */
        name = slice_of(name.p + 1, name.n - 2);
    TEXT_LIT(&sdp, "v=0\r\no=- 1 1 IN ");
    text_put(&sdp, in);
    text_put(&sdp, name);
    TEXT_LIT(&sdp, "\r\ns=-\r\nc=IN ");
    text_put(&sdp, in);
    text_put(&sdp, name);
    TEXT_LIT(&sdp, "\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\n");
    TEXT_LIT(t, "Content-Type: application/sdp\r\nContent-Length: ");
    text_put_u64(t, sdp.n);
    TEXT_LIT(t, "\r\n\r\n");
    text_put(t, text_slice(&sdp));
}

void load__write_ack(struct text *t, const struct sip_msg *m, const struct sip_facts *f,
                     struct slice uri, const struct conn *c)
{
    TEXT_LIT(t, "ACK ");
    text_put(t, uri);
    TEXT_LIT(t, " SIP/2.0\r\n");
    load__put_via(t, c);
    text_put(t, f->via.branch);
    TEXT_LIT(t, "\r\nMax-Forwards: 70\r\nFrom: ");
    text_put(t, sip_header_value(m, SIP_H_FROM));
    TEXT_LIT(t, "\r\nTo: ");
    text_put(t, sip_header_value(m, SIP_H_TO));
    TEXT_LIT(t, "\r\nCall-ID: ");
    text_put(t, f->call_id);
    TEXT_LIT(t, "\r\nCSeq: ");
    text_put_u64(t, f->cseq);
    TEXT_LIT(t, " ACK\r\nContent-Length: 0\r\n\r\n");
}

uint32_t load__retry_after(const struct sip_msg *m)
{
    struct slice s = sip_header_value(m, SIP_H_RETRY_AFTER);
    size_t digits = 0;
    uint64_t v = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    if (text_parse_u64(slice_take(s, digits), 24 * 3600, &v) != 0)
        return 0;
    return (uint32_t)v;
}
