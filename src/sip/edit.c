/* SPDX-License-Identifier: Apache-2.0
 *
 * A message on its way out: the bytes that came in, and what is to be different about them.
 *
 *      in    Via: …\r\nRoute: <a>, <b>\r\nMax-Forwards: 70\r\n…
 *            ▲              └─┬──┘                      └┬┘
 *            insert        delete                     replace
 *
 * The edits are few and mostly made in the order of the message, so the list is kept sorted by
 * insertion from its end. A deletion never covers another edit: two owners of one byte is a bug of
 * ours, not of a peer. */
#include "sip/sip_int.h"

void sip_edits_init(struct sip_edits *e, const struct sip_msg *m)
{
    e->m = m;
    e->count = 0;
    e->overflow = false;
}

static void add(struct sip_edits *e, uint32_t off, uint32_t del, struct slice ins)
{
    MUST(off <= e->m->n && del <= e->m->n - off);
    if (e->count == SIP_EDITS_MAX) {
        e->overflow = true;
        return;
    }
    uint32_t k = e->count;
    while (k > 0 && e->e[k - 1].off > off)
        k--;
    if (k > 0) {
        const struct sip_edit *before = &e->e[k - 1];
        MUST(before->off + before->del <= off || (before->off == off && del == 0));
    }
    if (k < e->count) {
        MUST(off + del <= e->e[k].off);
        memmove(&e->e[k + 1], &e->e[k], (e->count - k) * sizeof e->e[0]);
    }
    e->e[k] = (struct sip_edit){off, del, ins};
    e->count++;
}

void sip_edit_insert(struct sip_edits *e, uint32_t off, struct slice ins)
{
    add(e, off, 0, ins);
}

void sip_edit_replace(struct sip_edits *e, struct sip_span at, struct slice ins)
{
    add(e, at.off, at.len, ins);
}

static void cut(struct sip_edits *e, uint32_t off, uint32_t end)
{
    add(e, off, end - off, SLICE_NONE);
}

/* ---- typed helpers --------------------------------------------------------------------------- */

void sip_push_via(struct sip_edits *e, struct slice line)
{
    const struct sip_msg *m = e->m;
    uint8_t i = m->first[SIP_H_VIA];
    add(e, i != SIP_NO_HEADER ? m->h[i].line : m->headers_off, 0, line);
}

void sip_push_record_route(struct sip_edits *e, struct slice line)
{
    const struct sip_msg *m = e->m;
    uint32_t at = m->headers_off;
    if (sip_has(m, SIP_H_RECORD_ROUTE))
        at = m->h[m->first[SIP_H_RECORD_ROUTE]].line;
    else if (sip_has(m, SIP_H_VIA))
        at = m->h[m->last[SIP_H_VIA]].line_end;
    add(e, at, 0, line);
}

void sip_push_header(struct sip_edits *e, struct slice line)
{
    MUST(e->m->headers_end != 0);
    add(e, e->m->headers_end, 0, line);
}

void sip_drop_header(struct sip_edits *e, uint8_t header)
{
    MUST(header < e->m->header_count);
    cut(e, e->m->h[header].line, e->m->h[header].line_end);
}

void sip_drop_headers(struct sip_edits *e, enum sip_header_id id)
{
    for (uint8_t i = e->m->first[id]; i != SIP_NO_HEADER; i = e->m->h[i].next)
        sip_drop_header(e, i);
}

/* The least offset from which on everything up to `off` is deleted already. */
static uint32_t deleted_from(const struct sip_edits *e, uint32_t off)
{
    for (uint32_t k = e->count; k > 0; k--) {
        const struct sip_edit *x = &e->e[k - 1];
        if (x->del > 0 && x->off < off && x->off + x->del == off)
            off = x->off;
    }
    return off;
}

void sip_drop_value(struct sip_edits *e, const struct sip_values *v)
{
    const struct sip_msg *m = e->m;
    const struct sip_header *h = &m->h[v->header];
    const char *end = m->p + h->value.off + h->value.len;
    uint32_t value_end = v->value.off + v->value.len;
    const char *comma = sip__skip_blanks(m->p + value_end, end);
    if (comma < end) {
        /* Not the last: with the comma and the blanks behind it. */
        const char *next = sip__skip_blanks(comma + 1, end);
        cut(e, v->value.off, (uint32_t)(next - m->p));
        return;
    }
    uint32_t from = deleted_from(e, v->value.off);
    if (from == h->value.off) {
        /* Nothing of the list is left: the line goes. What is deleted in between stays so. */
        cut(e, h->line, from == v->value.off ? h->line_end : from);
        if (from != v->value.off)
            cut(e, v->value.off, h->line_end);
        return;
    }
    /* The last of some: with the comma before it. */
    uint32_t left = from;
    while (left > h->value.off && sip__is(m->p[left - 1], SIP__BLANK))
        left--;
    if (left > h->value.off && m->p[left - 1] == ',')
        left--;
    if (from == v->value.off) {
        cut(e, left, value_end);
    } else {
        cut(e, left, from);
        cut(e, v->value.off, value_end);
    }
}

void sip_pop_via(struct sip_edits *e, const struct sip_facts *f)
{
    struct sip_values v = {.m = e->m, .header = e->m->first[SIP_H_VIA], .value = f->via_value};
    MUST(v.header != SIP_NO_HEADER);
    sip_drop_value(e, &v);
}

void sip_set_header(struct sip_edits *e, enum sip_header_id id, struct slice value, struct arena *a)
{
    const struct sip_msg *m = e->m;
    uint8_t first = m->first[id];
    if (first != SIP_NO_HEADER) {
        add(e, m->h[first].value.off, m->h[first].value.len, value);
        for (uint8_t i = m->h[first].next; i != SIP_NO_HEADER; i = m->h[i].next)
            sip_drop_header(e, i);
        return;
    }
    struct slice name = sip_header_name(id);
    size_t n = name.n + 2 + value.n + 2;
    char *room = arena_take(a, n, 1);
    if (room == NULL) {
        e->overflow = true;
        return;
    }
    struct text t = text_into(room, n);
    text_put(&t, name);
    TEXT_LIT(&t, ": ");
    text_put(&t, value);
    TEXT_LIT(&t, "\r\n");
    sip_push_header(e, text_slice(&t));
}

/* ---- received and rport ---------------------------------------------------------------------- */

/* Appends the address without the brackets that a URI would want: via-received is a bare
 * IPv6address (RFC 3261 25.1, RFC 5118 4.5). */
static void put_received(struct text *t, const struct addr *source)
{
    char room[ADDR_TEXT_MAX];
    struct text host = text_into(room, sizeof room);
    addr_put_host(&host, source);
    struct slice s = text_slice(&host);
    if (s.n > 2 && s.p[0] == '[')
        s = (struct slice){s.p + 1, s.n - 2};
    TEXT_LIT(t, "received=");
    text_put(t, s);
}

static void put_rport(struct text *t, const struct addr *source)
{
    TEXT_LIT(t, "rport=");
    text_put_u64(t, source->port);
}

static struct text *stamp_at(struct sip__stamp *s, const char *at, size_t del, char *room)
{
    unsigned i = s->count++;
    s->e[i].at = at;
    s->e[i].del = del;
    s->e[i].ins = text_into(room + i * SIP__STAMP_TEXT, SIP__STAMP_TEXT);
    return &s->e[i].ins;
}

void sip__stamp(const struct sip_via *via, struct slice value, const struct addr *source,
                char *room, struct sip__stamp *ret_stamp)
{
    struct slice rport = via->rport_param;
    struct slice received = via->received_param;
    struct addr sent_by;
    ret_stamp->count = 0;
    bool rport_is_first = rport.p != NULL && (received.p == NULL || rport.p < received.p);
    if (rport_is_first)
        put_rport(stamp_at(ret_stamp, rport.p, rport.n, room), source);
    if (received.p != NULL) {
        put_received(stamp_at(ret_stamp, received.p, received.n, room), source);
    } else if (rport.p != NULL || addr_parse_host(via->host, source->port, &sent_by) != 0 ||
               !addr_same_host(&sent_by, source)) {
        struct text *t = stamp_at(ret_stamp, value.p + value.n, 0, room);
        text_put_char(t, ';');
        put_received(t, source);
    }
    if (rport.p != NULL && !rport_is_first)
        put_rport(stamp_at(ret_stamp, rport.p, rport.n, room), source);
}

void sip_stamp_via(struct sip_edits *e, const struct sip_facts *f, const struct addr *source,
                   struct arena *a)
{
    char *room = arena_take(a, 2 * SIP__STAMP_TEXT, 1);
    if (room == NULL) {
        e->overflow = true;
        return;
    }
    struct sip__stamp s;
    sip__stamp(&f->via, sip_slice(e->m, f->via_value), source, room, &s);
    for (unsigned i = 0; i < s.count; i++)
        add(e, (uint32_t)(s.e[i].at - e->m->p), (uint32_t)s.e[i].del, text_slice(&s.e[i].ins));
}

/* ---- out ------------------------------------------------------------------------------------- */

size_t sip_edits_size(const struct sip_edits *e)
{
    size_t n = e->m->n;
    for (uint32_t k = 0; k < e->count; k++)
        n = n - e->e[k].del + e->e[k].ins.n;
    return n;
}

struct out {
    struct iovec *iov;
    int count;
    int cap;
};

static void put(struct out *o, const char *p, size_t n)
{
    if (n == 0)
        return;
    if (o->count < o->cap)
        o->iov[o->count] = (struct iovec){(void *)(uintptr_t)p, n};
    o->count++;
}

int sip_serialise(const struct sip_edits *e, struct iovec *iov, int cap)
{
    struct out o = {iov, 0, cap};
    const struct sip_msg *m = e->m;
    uint32_t at = 0;
    if (e->overflow)
        return SIP_E_ROOM;
    for (uint32_t k = 0; k < e->count; k++) {
        const struct sip_edit *x = &e->e[k];
        if (x->off > at) {
            put(&o, m->p + at, x->off - at);
            at = x->off;
        }
        put(&o, x->ins.p, x->ins.n);
        at = x->off + x->del > at ? x->off + x->del : at;
    }
    put(&o, m->p + at, m->n - at);
    return o.count <= cap ? o.count : SIP_E_ROOM;
}

int sip_serialise_flat(const struct sip_edits *e, char *dst, size_t cap)
{
    struct iovec iov[SIP_IOV_MAX];
    int count = sip_serialise(e, iov, SIP_IOV_MAX);
    if (count < 0)
        return count;
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > cap - n)
            return SIP_E_ROOM;
        memcpy(dst + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    return (int)n;
}
