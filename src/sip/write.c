/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages of our own about another's: a response, an ACK, a CANCEL. The other's message may be
 * faulty when it is answered: what could be indexed is copied as it was written, and only what
 * can be read is changed. */
#include "sip/sip_int.h"

struct phrase {
    int status;
    struct slice text;
};

/* RFC 3261 21 and the codes that later documents registered and we may meet. */
static const struct phrase phrases[] = {
    {100, {"Trying", 6}},
    {180, {"Ringing", 7}},
    {181, {"Call Is Being Forwarded", 23}},
    {182, {"Queued", 6}},
    {183, {"Session Progress", 16}},
    {200, {"OK", 2}},
    {202, {"Accepted", 8}},
    {300, {"Multiple Choices", 16}},
    {301, {"Moved Permanently", 17}},
    {302, {"Moved Temporarily", 17}},
    {305, {"Use Proxy", 9}},
    {380, {"Alternative Service", 19}},
    {400, {"Bad Request", 11}},
    {401, {"Unauthorized", 12}},
    {402, {"Payment Required", 16}},
    {403, {"Forbidden", 9}},
    {404, {"Not Found", 9}},
    {405, {"Method Not Allowed", 18}},
    {406, {"Not Acceptable", 14}},
    {407, {"Proxy Authentication Required", 29}},
    {408, {"Request Timeout", 15}},
    {410, {"Gone", 4}},
    {413, {"Request Entity Too Large", 24}},
    {414, {"Request-URI Too Long", 20}},
    {415, {"Unsupported Media Type", 22}},
    {416, {"Unsupported URI Scheme", 22}},
    {420, {"Bad Extension", 13}},
    {421, {"Extension Required", 18}},
    {423, {"Interval Too Brief", 18}},
    {430, {"Flow Failed", 11}},
    {439, {"First Hop Lacks Outbound Support", 32}},
    {440, {"Max-Breadth Exceeded", 20}},
    {480, {"Temporarily Unavailable", 23}},
    {481, {"Call/Transaction Does Not Exist", 31}},
    {482, {"Loop Detected", 13}},
    {483, {"Too Many Hops", 13}},
    {484, {"Address Incomplete", 18}},
    {485, {"Ambiguous", 9}},
    {486, {"Busy Here", 9}},
    {487, {"Request Terminated", 18}},
    {488, {"Not Acceptable Here", 19}},
    {491, {"Request Pending", 15}},
    {493, {"Undecipherable", 14}},
    {500, {"Server Internal Error", 21}},
    {501, {"Not Implemented", 15}},
    {502, {"Bad Gateway", 11}},
    {503, {"Service Unavailable", 19}},
    {504, {"Server Time-out", 15}},
    {505, {"Version Not Supported", 21}},
    {513, {"Message Too Large", 17}},
    {600, {"Busy Everywhere", 15}},
    {603, {"Decline", 7}},
    {604, {"Does Not Exist Anywhere", 23}},
    {606, {"Not Acceptable", 14}},
};

struct slice sip_reason(int status)
{
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
        if (phrases[i].status == status)
            return phrases[i].text;
    return SLICE("Unknown");
}

static void put_line(struct text *t, enum sip_header_id id, struct slice value)
{
    text_put(t, sip_header_name(id));
    TEXT_LIT(t, ": ");
    text_put(t, value);
    TEXT_LIT(t, "\r\n");
}

static void put_header(struct text *t, const struct sip_msg *m, enum sip_header_id id)
{
    if (sip_has(m, id))
        put_line(t, id, sip_header_value(m, id));
}

/* A Via line of which the topmost value gets received= and rport=, if it can be read. */
static void put_stamped_via(struct text *t, struct slice line, const struct addr *source)
{
    char room[2 * SIP__STAMP_TEXT];
    struct sip__stamp s = {.count = 0};
    struct sip_via via;
    const char *end;
    const char *stop;
    if (sip__via(line.p, line.p + line.n, line.p + line.n, &via, &end, &stop) == SIP_OK)
        sip__stamp(&via, (struct slice){line.p, (size_t)(end - line.p)}, source, room, &s);
    text_put(t, sip_header_name(SIP_H_VIA));
    TEXT_LIT(t, ": ");
    const char *at = line.p;
    for (unsigned i = 0; i < s.count; i++) {
        text_put(t, (struct slice){at, (size_t)(s.e[i].at - at)});
        text_put(t, text_slice(&s.e[i].ins));
        at = s.e[i].at + s.e[i].del;
    }
    text_put(t, (struct slice){at, (size_t)(line.p + line.n - at)});
    TEXT_LIT(t, "\r\n");
}

static void put_vias(struct text *t, const struct sip_msg *m, const struct sip_reply *r)
{
    unsigned skip = r->skip_vias;
    const struct addr *source = r->received;
    for (uint8_t i = m->first[SIP_H_VIA]; i != SIP_NO_HEADER; i = m->h[i].next) {
        if (skip > 0) {
            skip--;
            continue;
        }
        struct slice line = sip_slice(m, m->h[i].value);
        if (source != NULL && line.n > 0)
            put_stamped_via(t, line, source);
        else
            put_line(t, SIP_H_VIA, line);
        source = NULL;
    }
}

/* To, with our tag when it has none. One that cannot be read stays as it is: what is appended to
 * an open quote would be part of the quote. */
static void put_to(struct text *t, const struct sip_msg *m, struct slice to_tag)
{
    if (!sip_has(m, SIP_H_TO))
        return;
    struct slice value = sip_header_value(m, SIP_H_TO);
    struct sip_nameaddr na;
    struct slice tag = SLICE_NONE;
    const char *stop;
    bool is_read = value.n > 0 && sip__nameaddr(value.p, value.p + value.n, value.p + value.n,
                                                false, &na, &tag, &stop) == SIP_OK;
    text_put(t, sip_header_name(SIP_H_TO));
    TEXT_LIT(t, ": ");
    text_put(t, value);
    if (to_tag.n > 0 && is_read && tag.p == NULL) {
        TEXT_LIT(t, ";tag=");
        text_put(t, to_tag);
    }
    TEXT_LIT(t, "\r\n");
}

int sip_write_reply(struct text *t, const struct sip_msg *m, const struct sip_reply *r)
{
    TEXT_LIT(t, "SIP/2.0 ");
    text_put_u64(t, (uint64_t)r->status);
    text_put_char(t, ' ');
    text_put(t, r->reason.n > 0 ? r->reason : sip_reason(r->status));
    TEXT_LIT(t, "\r\n");
    put_vias(t, m, r);
    put_header(t, m, SIP_H_FROM);
    put_to(t, m, r->to_tag);
    put_header(t, m, SIP_H_CALL_ID);
    put_header(t, m, SIP_H_CSEQ);
    if (r->status == 100)
        put_header(t, m, SIP_H_TIMESTAMP);
    text_put(t, r->extra);
    TEXT_LIT(t, "Content-Length: 0\r\n\r\n");
    return text_fits(t) ? SIP_OK : SIP_E_ROOM;
}

/* The number of `sent`'s CSeq: a request that we forwarded, so it has one. */
static struct slice cseq_number(const struct sip_msg *sent)
{
    struct slice s = sip_header_value(sent, SIP_H_CSEQ);
    size_t n = 0;
    while (n < s.n && sip__is_digit(s.p[n]))
        n++;
    return slice_take(s, n);
}

/* A request of `method` that goes the way of `sent`. */
static int put_request(struct text *t, const struct sip_msg *sent, struct slice method,
                       struct slice via_line, struct slice to)
{
    text_put(t, method);
    text_put_char(t, ' ');
    text_put(t, sip_slice(sent, sent->uri));
    TEXT_LIT(t, " SIP/2.0\r\n");
    if (via_line.n > 0) {
        text_put(t, via_line);
    } else {
        struct sip_values v = sip_values(sent, SIP_H_VIA);
        if (sip_next_value(&v))
            put_line(t, SIP_H_VIA, sip_slice(sent, v.value));
    }
    for (uint8_t i = sent->first[SIP_H_ROUTE]; i != SIP_NO_HEADER; i = sent->h[i].next)
        put_line(t, SIP_H_ROUTE, sip_slice(sent, sent->h[i].value));
    if (sip_has(sent, SIP_H_MAX_FORWARDS))
        put_header(t, sent, SIP_H_MAX_FORWARDS);
    else
        TEXT_LIT(t, "Max-Forwards: 70\r\n");
    put_header(t, sent, SIP_H_FROM);
    put_line(t, SIP_H_TO, to.n > 0 ? to : sip_header_value(sent, SIP_H_TO));
    put_header(t, sent, SIP_H_CALL_ID);
    TEXT_LIT(t, "CSeq: ");
    text_put(t, cseq_number(sent));
    text_put_char(t, ' ');
    text_put(t, method);
    TEXT_LIT(t, "\r\nContent-Length: 0\r\n\r\n");
    return text_fits(t) ? SIP_OK : SIP_E_ROOM;
}

int sip_write_ack(struct text *t, const struct sip_msg *sent, struct slice via_line,
                  struct slice to)
{
    return put_request(t, sent, SLICE("ACK"), via_line, to);
}

int sip_write_cancel(struct text *t, const struct sip_msg *sent, struct slice via_line)
{
    return put_request(t, sent, SLICE("CANCEL"), via_line, SLICE_NONE);
}
