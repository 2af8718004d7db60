/* SPDX-License-Identifier: Apache-2.0
 *
 * A datagram of any bytes. Holds: what the index says lies within the message and covers it
 * without gaps; names are matched as by a plain scan of the table; serialising without edits gives
 * the same bytes; what is checked is readable again on its own; whatever it was, an answer can be
 * written, and the answer can be read. */
#include "sip_fuzz.h"

static enum sip_header_id scan_names(struct slice name)
{
    static const char compact[] = "vftimlceksorbuxyajd";
    static const uint8_t ids[] = {
        SIP_H_VIA,
        SIP_H_FROM,
        SIP_H_TO,
        SIP_H_CALL_ID,
        SIP_H_CONTACT,
        SIP_H_CONTENT_LENGTH,
        SIP_H_CONTENT_TYPE,
        SIP_H_CONTENT_ENCODING,
        SIP_H_SUPPORTED,
        SIP_H_SUBJECT,
        SIP_H_EVENT,
        SIP_H_REFER_TO,
        SIP_H_REFERRED_BY,
        SIP_H_ALLOW_EVENTS,
        SIP_H_SESSION_EXPIRES,
        SIP_H_IDENTITY,
        SIP_H_ACCEPT_CONTACT,
        SIP_H_REJECT_CONTACT,
        SIP_H_REQUEST_DISPOSITION,
    };
    for (size_t i = 0; i < sizeof ids; i++)
        if (slice_equal_nocase(name, slice_of(&compact[i], 1)))
            return (enum sip_header_id)ids[i];
    for (unsigned i = 1; i < SIP_H__COUNT; i++)
        if (slice_equal_nocase(name, sip_header_name((enum sip_header_id)i)))
            return (enum sip_header_id)i;
    return SIP_H_OTHER;
}

static void index_holds(const struct sip_msg *m, int rc)
{
    uint32_t at = m->headers_off;
    unsigned per_id[SIP_H__COUNT] = {0};
    for (unsigned i = 0; i < m->header_count; i++) {
        const struct sip_header *h = &m->h[i];
        HOLDS(rc == SIP_OK ? h->line == at : h->line >= at);
        HOLDS(h->line_end > h->line && h->line_end <= m->n);
        HOLDS(h->value.off > h->line && h->value.off + h->value.len <= h->line_end - 2);
        HOLDS(memcmp(m->p + h->line_end - 2, "\r\n", 2) == 0);
        HOLDS(h->id == scan_names(slice_of(m->p + h->line, h->name_len)));
        at = h->line_end;
        per_id[h->id]++;
    }
    for (unsigned id = 0; id < SIP_H__COUNT; id++) {
        unsigned count = 0;
        for (uint8_t i = m->first[id]; i != SIP_NO_HEADER; i = m->h[i].next) {
            HOLDS(i < m->header_count && m->h[i].id == id);
            count++;
        }
        HOLDS(count == per_id[id]);
        HOLDS((m->seen >> id & 1) == (count > 0) && (m->doubled >> id & 1) == (count > 1));
    }
    if (rc == SIP_OK) {
        HOLDS(at == m->headers_end && m->body.off == at + 2);
        HOLDS(m->body.off + m->body.len == m->n);
    }
}

static void facts_hold(const struct sip_msg *m, const struct sip_facts *f)
{
    struct slice whole = slice_of(m->p, m->n);
    struct sip_via via;
    HOLDS(sip_via_parse(sip_slice(m, f->via_value), &via) == SIP_OK);
    HOLDS(slice_equal(via.branch, f->via.branch) && slice_equal(via.host, f->via.host));
    HOLDS(via.host.n > 0 && is_within(via.branch, whole) && is_within(via.params, whole));
    struct sip_nameaddr na;
    struct slice tag = SLICE_NONE;
    HOLDS(sip_nameaddr_parse(f->to, &na) == SIP_OK && slice_equal(na.uri, f->to_uri));
    sip_param(na.params, SLICE("tag"), &tag);
    HOLDS(slice_equal(tag, f->to_tag));
    HOLDS(f->call_id.n > 0 && f->method_name.n > 0 && f->cseq <= INT32_MAX);
    HOLDS(f->max_forwards >= -1 && f->max_forwards <= 255);
    struct sip_values v = sip_values(m, SIP_H_VIA);
    HOLDS(sip_next_value(&v));
    HOLDS(v.value.off == f->via_value.off && v.value.len == f->via_value.len);
}

static void answer_holds(const struct sip_msg *m)
{
    static char room[2 * UDP_DATAGRAM_BYTES_MAX];
    static struct sip_msg again;
    struct addr source = {.family = 6, .port = 5061, .ip = {0x20, 1, 0xd, 0xb8}};
    struct sip_reply r = {.status = 400, .to_tag = SLICE("t"), .received = &source};
    struct text t = text_into(room, sizeof room);
    struct sip_fault fault;
    HOLDS(sip_write_reply(&t, m, &r) == SIP_OK);
    if (t.n <= SIP_HEAD_BYTES_MAX && m->header_count < SIP_HEADERS_MAX)
        HOLDS(sip_index(&again, room, t.n, false, &fault) == SIP_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sip_msg m;
    static struct sip_edits e;
    static char out[UDP_DATAGRAM_BYTES_MAX];
    if (size > UDP_DATAGRAM_BYTES_MAX)
        return 0;
    const char *p = (const char *)data;
    struct sip_fault fault = {0, SLICE_NONE, 0};
    int rc = sip_index(&m, p, size, true, &fault);
    HOLDS(rc == SIP_OK || (fault.status >= 400 && fault.reason.n > 0 && fault.offset <= size));
    index_holds(&m, rc);
    answer_holds(&m);
    if (rc != SIP_OK)
        return 0;
    sip_edits_init(&e, &m);
    HOLDS(sip_serialise_flat(&e, out, sizeof out) == (int)m.n && memcmp(out, p, m.n) == 0);
    struct sip_facts f;
    rc = m.is_request ? sip_check_request(&m, &f, &fault) : sip_check_response(&m, &f, &fault);
    HOLDS(rc == SIP_OK || (fault.status >= 400 && fault.reason.n > 0 && fault.offset <= size));
    struct sip_values v = sip_values(&m, SIP_H_VIA);
    if (rc == SIP_OK && m.first[SIP_H_VIA] != SIP_NO_HEADER) {
        /* The top value alone: an odd one further down may end the walk where it stands. */
        struct sip_values walk = v;
        if (sip_next_value(&walk))
            facts_hold(&m, &f);
    }
    return 0;
}
