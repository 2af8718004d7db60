/* SPDX-License-Identifier: Apache-2.0
 *
 * RFC 1035 4.1 packets. Every read is bounded by the packet; a compression pointer must lead
 * backwards, so that no chain of them can run in a circle. */
#include "net/dns.h"

enum { HEADER_BYTES = 12, TYPE_SOA = 6, CLASS_IN = 1, RCODE_NXDOMAIN = 3 };
enum { LABEL_BYTES_MAX = 63, NEGATIVE_TTL_DEFAULT_S = 10 };

struct reader {
    const unsigned char *p;
    size_t n;
    size_t at;
    bool broken;
};

static unsigned u16(struct reader *r)
{
    if (r->n - r->at < 2) {
        r->broken = true;
        return 0;
    }
    unsigned v = (unsigned)r->p[r->at] << 8 | r->p[r->at + 1];
    r->at += 2;
    return v;
}

static uint32_t u32(struct reader *r)
{
    uint32_t high = u16(r);
    return high << 16 | u16(r);
}

static bool is_name_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* Appends a label; false when the name gets too long or has a byte that no host name has. */
static bool put_label(struct dns_name *name, const unsigned char *p, size_t n)
{
    size_t dot = name->len > 0 ? 1 : 0;
    if (name->len + dot + n > DNS_NAME_BYTES_MAX - 2)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_name_byte(p[i]))
            return false;
    if (dot > 0)
        name->text[name->len++] = '.';
    memcpy(name->text + name->len, p, n);
    name->len = (uint8_t)(name->len + n);
    return true;
}

/* Reads a name, leaving the reader behind it. Returns whether it is one that we would ask for;
 * r->broken says that the packet is malformed. */
static bool read_name(struct reader *r, struct dns_name *ret_name)
{
    struct dns_name name = {0};
    bool sane = true, jumped = false;
    size_t at = r->at, bound = r->at; /* pointers must lead before `bound` */
    for (;;) {
        if (at >= r->n)
            goto broken;
        size_t len = r->p[at];
        if (len == 0) {
            at++;
            break;
        }
        if ((len & 0xc0) == 0xc0) {
            if (r->n - at < 2)
                goto broken;
            size_t to = (len & 0x3f) << 8 | r->p[at + 1];
            if (!jumped)
                r->at = at + 2;
            jumped = true;
            if (to >= bound || to < HEADER_BYTES)
                goto broken;
            at = bound = to;
            continue;
        }
        if (len > LABEL_BYTES_MAX || r->n - at - 1 < len)
            goto broken;
        sane = sane && put_label(&name, r->p + at + 1, len);
        at += 1 + len;
    }
    if (!jumped)
        r->at = at;
    name.text[name.len] = '\0';
    *ret_name = name;
    return sane;
broken:
    r->broken = true;
    return false;
}

/* A character string (RFC 1035 3.3). */
static struct slice read_string(struct reader *r)
{
    if (r->at >= r->n || r->n - r->at - 1 < r->p[r->at]) {
        r->broken = true;
        return SLICE_NONE;
    }
    struct slice s = slice_of(r->p + r->at + 1, r->p[r->at]);
    r->at += 1 + s.n;
    return s;
}

static void read_srv(struct reader *r, struct dns_answer *a)
{
    struct dns_record rec = {0};
    rec.priority = (uint16_t)u16(r);
    rec.weight = (uint16_t)u16(r);
    rec.port = (uint16_t)u16(r);
    bool sane = read_name(r, &rec.name);
    if (r->broken || !sane)
        return;
    if (rec.name.len == 0)
        a->refuses = true;
    else if (a->count < DNS_RECORDS_MAX && rec.port != 0)
        a->record[a->count++] = rec;
}

static void read_naptr(struct reader *r, struct dns_answer *a)
{
    struct dns_record rec = {0};
    rec.priority = (uint16_t)u16(r);
    rec.weight = (uint16_t)u16(r);
    struct slice flags = read_string(r);
    struct slice service = read_string(r);
    (void)read_string(r); /* the regular expression: not for us (RFC 3263 4.1) */
    bool sane = !r->broken && read_name(r, &rec.name);
    if (r->broken || !sane || rec.name.len == 0 || !slice_equal_nocase(flags, SLICE("s")))
        return;
    if (slice_equal_nocase(service, SLICE("SIP+D2U")))
        rec.transport = TP_UDP;
    else if (slice_equal_nocase(service, SLICE("SIP+D2T")))
        rec.transport = TP_TCP;
    else
        return;
    if (a->count < DNS_RECORDS_MAX)
        a->record[a->count++] = rec;
}

struct record_head {
    unsigned type, class;
    uint32_t ttl;
    size_t end;
};

static bool read_head(struct reader *r, struct record_head *h)
{
    struct dns_name owner;
    (void)read_name(r, &owner);
    h->type = u16(r);
    h->class = u16(r);
    h->ttl = u32(r);
    size_t len = u16(r);
    if (r->broken || r->n - r->at < len)
        return false;
    h->end = r->at + len;
    return true;
}

static int read_answers(struct reader *r, unsigned count, enum dns_type type, struct dns_answer *a)
{
    for (unsigned i = 0; i < count; i++) {
        struct record_head h;
        if (!read_head(r, &h))
            return -1;
        if (h.type == (unsigned)type && h.class == CLASS_IN) {
            struct reader body = {r->p, h.end, r->at, false};
            if (type == DNS_SRV)
                read_srv(&body, a);
            else
                read_naptr(&body, a);
            if (body.broken || body.at != h.end)
                return -1;
        }
        /* Aliases on the way count too: the answer is as old as its oldest part. A TTL with the
         * high bit set is zero (RFC 2181 8). */
        uint32_t ttl = h.ttl > INT32_MAX ? 0 : h.ttl;
        if (ttl < a->ttl_s)
            a->ttl_s = ttl;
        r->at = h.end;
    }
    return 0;
}

/* The SOA of a negative answer tells how long it holds: the lesser of its TTL and MINIMUM. */
static void read_negative_ttl(struct reader *r, unsigned count, struct dns_answer *a)
{
    a->ttl_s = NEGATIVE_TTL_DEFAULT_S;
    for (unsigned i = 0; i < count; i++) {
        struct record_head h;
        if (!read_head(r, &h))
            return;
        if (h.type == TYPE_SOA && h.class == CLASS_IN) {
            struct reader body = {r->p, h.end, r->at, false};
            struct dns_name skipped;
            (void)read_name(&body, &skipped);
            (void)read_name(&body, &skipped);
            for (unsigned field = 0; field < 4; field++)
                (void)u32(&body);
            uint32_t minimum = u32(&body);
            if (!body.broken)
                a->ttl_s = minimum < h.ttl ? minimum : h.ttl;
            return;
        }
        r->at = h.end;
    }
}

int dns_parse(struct slice packet, enum dns_type type, struct dns_answer *ret_answer)
{
    struct reader r = {(const unsigned char *)packet.p, packet.n, 0, false};
    struct dns_answer a = {.ttl_s = UINT32_MAX};
    (void)u16(&r); /* id: the resolver has matched it */
    unsigned flags = u16(&r);
    unsigned questions = u16(&r);
    unsigned answers = u16(&r);
    unsigned authorities = u16(&r);
    (void)u16(&r);
    unsigned rcode = flags & 15;
    if (r.broken || (flags & 0x8000) == 0 || (rcode != 0 && rcode != RCODE_NXDOMAIN))
        return -1;
    for (unsigned i = 0; i < questions; i++) {
        struct dns_name asked;
        (void)read_name(&r, &asked);
        (void)u32(&r);
        if (r.broken)
            return -1;
    }
    if (read_answers(&r, answers, type, &a) != 0)
        return -1;
    a.exists_not = a.count == 0;
    if (a.exists_not && !a.refuses)
        read_negative_ttl(&r, authorities, &a);
    *ret_answer = a;
    return 0;
}

bool dns_name_is_sane(struct slice name)
{
    size_t label = 0;
    if (name.n == 0 || name.n > DNS_NAME_BYTES_MAX - 2)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_name_byte((unsigned char)name.p[i]) || ++label > LABEL_BYTES_MAX) {
            return false;
        }
    }
    return true;
}
