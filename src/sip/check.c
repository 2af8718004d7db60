/* SPDX-License-Identifier: Apache-2.0
 *
 * Sanity of a message as a whole (RFC 3261 16.3, 8.2; RFC 4475 section 3). What an element in the
 * middle reads is read here, once, and handed on as facts; what only the final reader cares about
 * (a Date, an Expires, a body) is passed as it came: it is not for a forwarder to refuse.
 *
 * Order: what costs nothing first, then the headers in the order in which the ways to answer
 * depend on them (no Via, no answer). */
#include "sip/sip_int.h"

struct check {
    const struct sip_msg *m;
    struct sip_facts *facts;
    struct sip_fault *fault;
};

static int refuse(const struct check *c, int status, struct slice reason, uint32_t offset)
{
    *c->fault = (struct sip_fault){status, reason, offset};
    return SIP_E_SYNTAX;
}
#define REFUSE(c, status, lit, offset) refuse((c), (status), SLICE(lit), (offset))

static const struct sip_header *first_of(const struct sip_msg *m, enum sip_header_id id)
{
    return &m->h[m->first[id]];
}

static int refuse_header(const struct check *c, struct slice reason, enum sip_header_id id)
{
    return refuse(c, 400, reason, first_of(c->m, id)->value.off);
}
#define REFUSE_HEADER(c, lit, id) refuse_header((c), SLICE(lit), (id))

#define BIT(id) (UINT64_C(1) << (id))

/* Every mandatory header there, none of the single ones twice. */
static int presence(const struct check *c)
{
    uint64_t missing = ~c->m->seen & (BIT(SIP_H_VIA) | BIT(SIP_H_FROM) | BIT(SIP_H_TO) |
                                      BIT(SIP_H_CALL_ID) | BIT(SIP_H_CSEQ));
    uint64_t repeated = c->m->doubled & SIP_H_ONCE;
    if (LIKELY((missing | repeated) == 0))
        return SIP_OK;
    if ((missing & BIT(SIP_H_VIA)) != 0)
        return REFUSE(c, 400, "Missing Via", c->m->headers_off);
    if (repeated != 0) {
        enum sip_header_id id = (enum sip_header_id)__builtin_ctzll(repeated);
        return refuse(c, 400, sip__repeated(id), c->m->h[c->m->last[id]].line);
    }
    if ((missing & BIT(SIP_H_FROM)) != 0)
        return REFUSE(c, 400, "Missing From", c->m->headers_off);
    if ((missing & BIT(SIP_H_TO)) != 0)
        return REFUSE(c, 400, "Missing To", c->m->headers_off);
    if ((missing & BIT(SIP_H_CALL_ID)) != 0)
        return REFUSE(c, 400, "Missing Call-ID", c->m->headers_off);
    return REFUSE(c, 400, "Missing CSeq", c->m->headers_off);
}

/* More values than `max` in the list? Commas are counted first, which never counts too few. */
static bool is_too_long(const struct sip_msg *m, enum sip_header_id id, unsigned max)
{
    unsigned at_most = 0;
    for (uint8_t i = m->first[id]; i != SIP_NO_HEADER; i = m->h[i].next) {
        struct slice s = sip_slice(m, m->h[i].value);
        at_most++;
        for (size_t k; (k = slice_find(s, ',')) < s.n; s = slice_drop(s, k + 1))
            at_most++;
    }
    if (LIKELY(at_most <= max))
        return false;
    unsigned count = 0;
    struct sip_values v = sip_values(m, id);
    while (sip_next_value(&v))
        count++;
    return count > max || v.err != 0;
}

static int via(const struct check *c)
{
    const struct sip_msg *m = c->m;
    struct sip_span at = first_of(m, SIP_H_VIA)->value;
    const char *p = m->p + at.off;
    const char *end;
    const char *stop;
    if (sip__via(p, p + at.len, m->p + m->n, &c->facts->via, &end, &stop) != SIP_OK ||
        stop == p + at.len - 1)
        return REFUSE_HEADER(c, "Bad Via", SIP_H_VIA);
    c->facts->via_value = (struct sip_span){at.off, (uint32_t)(end - p)};
    bool is_only = stop == p + at.len && (m->doubled & BIT(SIP_H_VIA)) == 0;
    if (!is_only && is_too_long(m, SIP_H_VIA, SIP_VIA_VALUES_MAX))
        return REFUSE_HEADER(c, "Too many Via values", SIP_H_VIA);
    if (sip_has(m, SIP_H_ROUTE) && is_too_long(m, SIP_H_ROUTE, SIP_ROUTE_VALUES_MAX))
        return REFUSE_HEADER(c, "Too many Route values", SIP_H_ROUTE);
    return SIP_OK;
}

/* From and To. Their URIs may be of any scheme (RFC 4475 3.3.4). */
static int parties(const struct check *c)
{
    struct sip_facts *f = c->facts;
    const char *limit = c->m->p + c->m->n;
    struct sip_nameaddr na;
    const char *stop;
    f->from = sip_header_value(c->m, SIP_H_FROM);
    if (sip__nameaddr(f->from.p, f->from.p + f->from.n, limit, false, &na, &f->from_tag, &stop) !=
        SIP_OK)
        return REFUSE_HEADER(c, "Bad From", SIP_H_FROM);
    f->from_uri = na.uri;
    f->to = sip_header_value(c->m, SIP_H_TO);
    if (sip__nameaddr(f->to.p, f->to.p + f->to.n, limit, false, &na, &f->to_tag, &stop) != SIP_OK)
        return REFUSE_HEADER(c, "Bad To", SIP_H_TO);
    f->to_uri = na.uri;
    return SIP_OK;
}

static int call_id(const struct check *c)
{
    struct slice s = sip_header_value(c->m, SIP_H_CALL_ID);
    c->facts->call_id = s;
    if (s.n == 0 || sip__until(s.p, s.p + s.n, c->m->p + c->m->n, SIP__UNTIL_WORD_END) != s.p + s.n)
        return REFUSE_HEADER(c, "Bad Call-ID", SIP_H_CALL_ID);
    return SIP_OK;
}

/* 1*DIGIT LWS Method, the number below 2^31 (RFC 3261 8.1.1.5). */
static int cseq(const struct check *c)
{
    struct slice s = sip_header_value(c->m, SIP_H_CSEQ);
    const char *end = s.p + s.n;
    const char *p = s.p;
    uint64_t number = 0;
    if (sip__take_digits(&p, end, INT32_MAX, &number) != SIP_OK)
        return REFUSE_HEADER(c, "Bad CSeq number", SIP_H_CSEQ);
    const char *method = sip__skip_blanks(p, end);
    size_t n = (size_t)(end - method);
    struct slice own = sip_slice(c->m, c->m->method_name);
    bool is_own = n == own.n && memcmp(method, own.p, n) == 0;
    if (method == p || n == 0 || n > SIP__METHOD_BYTES_MAX ||
        (!is_own && sip__skip(method, end, SIP__TOKEN) != end))
        return REFUSE_HEADER(c, "Bad CSeq method", SIP_H_CSEQ);
    c->facts->cseq = (uint32_t)number;
    c->facts->method_name = (struct slice){method, n};
    return SIP_OK;
}

/* Max-Forwards is 0..255 (RFC 3261 20.22); Max-Breadth any number (RFC 5393 5.3.3). */
static int hops(const struct check *c)
{
    uint64_t v = 0;
    c->facts->max_forwards = -1;
    c->facts->max_breadth = -1;
    if (sip_has(c->m, SIP_H_MAX_FORWARDS)) {
        if (sip__digits(sip_header_value(c->m, SIP_H_MAX_FORWARDS), 255, &v) != SIP_OK)
            return REFUSE_HEADER(c, "Bad Max-Forwards", SIP_H_MAX_FORWARDS);
        c->facts->max_forwards = (int16_t)v;
    }
    if (sip_has(c->m, SIP_H_MAX_BREADTH)) {
        if (sip__digits(sip_header_value(c->m, SIP_H_MAX_BREADTH), INT32_MAX, &v) != SIP_OK)
            return REFUSE_HEADER(c, "Bad Max-Breadth", SIP_H_MAX_BREADTH);
        c->facts->max_breadth = (int32_t)v;
    }
    return SIP_OK;
}

/* Headers in a Request-URI have no meaning (RFC 3261 19.1.1) and could smuggle a Route to one who
 * gives them one (RFC 4475 3.1.2.11). */
static int request_uri(const struct check *c)
{
    const struct sip_msg *m = c->m;
    if (sip__uri(sip_slice(m, m->uri), m->p + m->n, &c->facts->uri) != SIP_OK)
        return REFUSE(c, 400, "Bad Request-URI", m->uri.off);
    /* urn:service:sos (RFC 5031): where it goes, a rule says. */
    if (c->facts->uri.scheme == SIP_SCHEME_OTHER &&
        !slice_equal_nocase(c->facts->uri.scheme_name, SLICE("urn")))
        return REFUSE(c, 416, "Unsupported URI Scheme", m->uri.off);
    if (c->facts->uri.headers.p != NULL)
        return REFUSE(c, 400, "Headers in Request-URI", m->uri.off);
    return SIP_OK;
}

/* Contacts decide where a dialog's or a binding's requests go: readable, or "*" alone. */
static int contacts(const struct check *c)
{
    const struct sip_msg *m = c->m;
    struct sip_nameaddr na;
    for (uint8_t i = m->first[SIP_H_CONTACT]; i != SIP_NO_HEADER; i = m->h[i].next) {
        struct sip_span at = m->h[i].value;
        const char *p = m->p + at.off;
        const char *end = p + at.len;
        if (at.len == 1 && *p == '*' && m->method == SIP_M_REGISTER)
            continue;
        for (;;) {
            struct slice tag;
            const char *stop;
            if (sip__nameaddr(p, end, m->p + m->n, true, &na, &tag, &stop) != SIP_OK)
                return refuse(c, 400, SLICE("Bad Contact"), (uint32_t)(p - m->p));
            if (stop == end)
                break;
            p = sip__skip_blanks(stop + 1, end);
        }
    }
    return SIP_OK;
}

/* We support no option that a proxy must know (RFC 3261 16.3 step 5). In an ACK, which cannot be
 * answered, and in a CANCEL the header says nothing (8.2.2.3). */
static int proxy_require(const struct check *c)
{
    const struct sip_msg *m = c->m;
    if (m->method == SIP_M_ACK || m->method == SIP_M_CANCEL)
        return SIP_OK;
    for (uint8_t i = m->first[SIP_H_PROXY_REQUIRE]; i != SIP_NO_HEADER; i = m->h[i].next)
        if (m->h[i].value.len > 0)
            return refuse(c, 420, SLICE("Bad Extension"), m->h[i].value.off);
    return SIP_OK;
}

/* What requests and responses have in common. */
static int common(const struct check *c)
{
    int rc = presence(c);
    if (rc == SIP_OK)
        rc = via(c);
    if (rc == SIP_OK)
        rc = cseq(c);
    if (rc == SIP_OK)
        rc = parties(c);
    if (rc == SIP_OK)
        rc = call_id(c);
    if (rc == SIP_OK)
        rc = hops(c);
    return rc;
}

int sip_check_request(const struct sip_msg *m, struct sip_facts *ret_facts,
                      struct sip_fault *ret_fault)
{
    const struct check c = {m, ret_facts, ret_fault};
    *ret_facts = (struct sip_facts){.cseq = 0};
    int rc = common(&c);
    if (rc != SIP_OK)
        return rc;
    if (!slice_equal(ret_facts->method_name, sip_slice(m, m->method_name)))
        return REFUSE_HEADER(&c, "CSeq method is not the request's", SIP_H_CSEQ);
    ret_facts->method = m->method;
    rc = request_uri(&c);
    if (rc == SIP_OK && (m->method == SIP_M_INVITE || m->method == SIP_M_REGISTER))
        rc = contacts(&c);
    if (rc == SIP_OK && sip_has(m, SIP_H_PROXY_REQUIRE))
        rc = proxy_require(&c);
    return rc;
}

int sip_check_response(struct sip_msg *m, struct sip_facts *ret_facts, struct sip_fault *ret_fault)
{
    const struct check c = {m, ret_facts, ret_fault};
    *ret_facts = (struct sip_facts){.cseq = 0};
    int rc = common(&c);
    if (rc != SIP_OK)
        return rc;
    ret_facts->method = (uint8_t)sip_method_of(ret_facts->method_name);
    m->method = ret_facts->method;
    m->method_name = (struct sip_span){(uint32_t)(ret_facts->method_name.p - m->p),
                                       (uint32_t)ret_facts->method_name.n};
    return SIP_OK;
}
