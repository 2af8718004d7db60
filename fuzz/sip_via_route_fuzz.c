/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of lists: the input stands as a Via, a Route, a Contact. Holds: walking the list and
 * reading it from end to end agree on how many values there are and which; each part lies within
 * its value; a value by itself is read as it was within its list. */
#include "sip_fuzz.h"

#include "sip/sip_int.h"

static void nameaddr_holds(struct slice s)
{
    struct sip_nameaddr na;
    if (sip_nameaddr_parse(s, &na) != SIP_OK)
        return;
    HOLDS(na.uri.n > 0 && is_within(na.uri, s) && is_within(na.params, s));
    HOLDS(is_within(na.display, s) && slice_find(na.uri, '>') == na.uri.n);
    HOLDS(slice_find(na.uri, ' ') == na.uri.n);
    if (!na.bracketed)
        HOLDS(slice_find(na.uri, ';') == na.uri.n && slice_find(na.uri, '?') == na.uri.n);
    struct slice v = SLICE_NONE;
    if (sip_param(na.params, SLICE("tag"), &v))
        HOLDS(is_within(v, na.params));
}

static void via_holds(struct slice s)
{
    struct sip_via via;
    if (sip_via_parse(s, &via) != SIP_OK)
        return;
    struct slice v = SLICE_NONE;
    HOLDS(via.host.n > 0 && is_within(via.host, s) && is_within(via.params, s));
    HOLDS(sip_param(via.params, SLICE("branch"), &v) == (via.branch.p != NULL));
    HOLDS(slice_equal(v, via.branch) && is_within(v, s));
    HOLDS(sip_param(via.params, SLICE("rport"), NULL) == via.has_rport);
    HOLDS(sip_param(via.params, SLICE("received"), NULL) == (via.received_param.p != NULL));
}

/* Reads a line of name-addrs (or Vias) to its end. The values, or -1 when one is bad. */
static int read_through(const struct sip_msg *m, enum sip_header_id id)
{
    int count = 0;
    for (uint8_t i = m->first[id]; i != SIP_NO_HEADER; i = m->h[i].next) {
        struct slice s = sip_slice(m, m->h[i].value);
        const char *p = s.p;
        const char *end = s.p + s.n;
        while (s.n > 0) {
            struct sip_nameaddr na;
            struct sip_via via;
            struct slice tag;
            const char *span_end;
            const char *stop;
            int rc = id == SIP_H_VIA ? sip__via(p, end, m->p + m->n, &via, &span_end, &stop)
                                     : sip__nameaddr(p, end, m->p + m->n, true, &na, &tag, &stop);
            if (rc != SIP_OK)
                return -1;
            count++;
            if (stop == end)
                break;
            p = sip__skip_blanks(stop + 1, end);
            if (p == end)
                return -1;
        }
    }
    return count;
}

static void walk(const struct sip_msg *m, enum sip_header_id id)
{
    int count = 0;
    bool is_good = true;
    struct sip_values v = sip_values(m, id);
    while (sip_next_value(&v)) {
        struct slice s = sip_slice(m, v.value);
        struct sip_via via;
        struct sip_nameaddr na;
        HOLDS(s.n > 0 && v.header < m->header_count && m->h[v.header].id == id);
        HOLDS(is_within(s, sip_slice(m, m->h[v.header].value)));
        HOLDS(v.whole == (s.n == m->h[v.header].value.len));
        id == SIP_H_VIA ? via_holds(s) : nameaddr_holds(s);
        is_good &=
            (id == SIP_H_VIA ? sip_via_parse(s, &via) : sip_nameaddr_parse(s, &na)) == SIP_OK;
        count++;
    }
    is_good &= v.err == 0;
    HOLDS(read_through(m, id) == (is_good ? count : -1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char room[16384];
    static struct sip_msg m;
    static const struct {
        struct slice name;
        enum sip_header_id id;
    } lists[] = {
        {{"Via:", 4}, SIP_H_VIA}, {{"Route:", 6}, SIP_H_ROUTE}, {{"m:", 2}, SIP_H_CONTACT}};
    struct slice s = {(const char *)data, size};
    if (size > 4096)
        return 0;
    via_holds(s);
    nameaddr_holds(s);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct text t = text_into(room, sizeof room);
        struct sip_fault fault;
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\n");
        text_put(&t, lists[i].name);
        text_put(&t, s);
        TEXT_LIT(&t, "\r\n\r\n");
        if (sip_index(&m, room, t.n, true, &fault) == SIP_OK)
            walk(&m, lists[i].id);
    }
    return 0;
}
