/* SPDX-License-Identifier: Apache-2.0
 *
 * A message and a program of edits on it. Holds: what comes out can be indexed again, has exactly
 * the headers that were not dropped, with the values that they had or were given, in their order;
 * both ways of serialising agree; the body is untouched. */
#include "sip_fuzz.h"

enum { OPS_MAX = 12 };

/* A line as it should come out. NULL value: it was dropped. */
struct line {
    uint8_t id;
    struct slice value;
};

struct model {
    unsigned count;
    struct line l[SIP_HEADERS_MAX + OPS_MAX];
};

static struct sip_msg m, again;
static struct sip_edits e;
static struct model model;
static char scratch[4096];
static char out[UDP_DATAGRAM_BYTES_MAX];

static void model_insert(unsigned at, uint8_t id, struct slice value)
{
    memmove(&model.l[at + 1], &model.l[at], (model.count - at) * sizeof model.l[0]);
    model.l[at] = (struct line){id, value};
    model.count++;
}

/* Where the first line (or behind the last one) of `id` stands that came with the message; lines
 * that were pushed before keep above. */
static unsigned model_find(uint8_t id, bool is_last, unsigned otherwise)
{
    for (unsigned i = 0; i < model.count; i++) {
        unsigned k = is_last ? model.count - 1 - i : i;
        struct slice v = model.l[k].value;
        if (model.l[k].id == id && v.p >= m.p && v.p <= m.p + m.n)
            return is_last ? k + 1 : k;
    }
    return otherwise;
}

static void op_push(struct choices *c)
{
    switch (choose(c, 2)) {
    case 0:
        if (sip_has(&m, SIP_H_VIA)) {
            sip_push_via(&e, SLICE("Via: pushed\r\n"));
            model_insert(model_find(SIP_H_VIA, false, 0), SIP_H_VIA, SLICE("pushed"));
        }
        break;
    default:
        sip_push_header(&e, SLICE("Q: pushed\r\n"));
        model_insert(model.count, SIP_H_OTHER, SLICE("pushed"));
    }
}

/* `touched`: bit per id that an operation has changed already; a second one would be a bug of the
 * caller's. */
static void op_headers(struct choices *c, uint64_t *touched)
{
    uint8_t id = (uint8_t)(1 + choose(c, SIP_H__COUNT - 1));
    if ((*touched >> id & 1) != 0 || id == SIP_H_CONTENT_LENGTH || id == SIP_H_VIA)
        return;
    *touched |= UINT64_C(1) << id;
    bool is_set = choose(c, 2) == 0;
    bool is_first = true;
    if (is_set) {
        struct arena a = arena_over(scratch, sizeof scratch);
        static char kept[OPS_MAX][64];
        static unsigned used;
        a = arena_over(kept[used++ % OPS_MAX], sizeof kept[0]);
        sip_set_header(&e, (enum sip_header_id)id, SLICE("set"), &a);
        if (!sip_has(&m, (enum sip_header_id)id)) {
            model_insert(model.count, id, SLICE("set"));
            return;
        }
    } else {
        sip_drop_headers(&e, (enum sip_header_id)id);
    }
    for (unsigned i = 0; i < model.count; i++) {
        if (model.l[i].id != id)
            continue;
        model.l[i].value = is_set && is_first ? SLICE("set") : SLICE_NONE;
        is_first = false;
    }
}

/* Drops the first `k` values of a list; the rest must be what is left of it. */
static unsigned op_values(struct choices *c, uint64_t *touched, enum sip_header_id id)
{
    unsigned k = choose(c, 5);
    unsigned done = 0;
    if ((*touched >> id & 1) != 0)
        return 0;
    *touched |= UINT64_C(1) << id;
    struct sip_values v = sip_values(&m, id);
    while (done < k && sip_next_value(&v)) {
        sip_drop_value(&e, &v);
        done++;
    }
    return done;
}

static void same_values(enum sip_header_id id, unsigned dropped)
{
    struct sip_values a = sip_values(&m, id);
    struct sip_values b = sip_values(&again, id);
    for (unsigned i = 0; i < dropped; i++)
        HOLDS(sip_next_value(&a));
    for (;;) {
        bool is_there = sip_next_value(&a);
        HOLDS(is_there == sip_next_value(&b));
        if (!is_there)
            break;
        HOLDS(slice_equal(sip_slice(&m, a.value), sip_slice(&again, b.value)));
    }
    HOLDS((a.err != 0) == (b.err != 0));
}

static void same_lines(enum sip_header_id without)
{
    unsigned k = 0;
    for (unsigned i = 0; i < model.count; i++) {
        if (model.l[i].value.p == NULL || model.l[i].id == without)
            continue;
        while (k < again.header_count && again.h[k].id == without)
            k++;
        HOLDS(k < again.header_count && again.h[k].id == model.l[i].id);
        HOLDS(slice_equal(sip_slice(&again, again.h[k].value), model.l[i].value));
        k++;
    }
    while (k < again.header_count && again.h[k].id == without)
        k++;
    HOLDS(k == again.header_count);
}

static void begin(void)
{
    model.count = m.header_count;
    for (unsigned i = 0; i < m.header_count; i++)
        model.l[i] = (struct line){m.h[i].id, sip_slice(&m, m.h[i].value)};
    sip_edits_init(&e, &m);
}

/* Serialises both ways and indexes again; false when it does not fit. */
static bool serialised(void)
{
    struct iovec iov[SIP_IOV_MAX];
    struct sip_fault fault;
    int count = sip_serialise(&e, iov, SIP_IOV_MAX);
    if (e.overflow) {
        HOLDS(count == SIP_E_ROOM);
        return false;
    }
    HOLDS(count >= 0 && count <= SIP_IOV_MAX);
    int n = sip_serialise_flat(&e, out, sizeof out);
    HOLDS(n < 0 || (size_t)n == sip_edits_size(&e));
    size_t at = 0;
    for (int i = 0; n >= 0 && i < count; i++) {
        HOLDS(memcmp(out + at, iov[i].iov_base, iov[i].iov_len) == 0);
        at += iov[i].iov_len;
    }
    if (n < 0 || sip_index(&again, out, (size_t)n, true, &fault) != SIP_OK) {
        HOLDS(n < 0 || n > SIP_HEAD_BYTES_MAX / 2 || m.header_count > SIP_HEADERS_MAX - OPS_MAX);
        return false;
    }
    HOLDS(slice_equal(sip_slice(&m, m.body), sip_slice(&again, again.body)));
    return true;
}

static void stamp(void)
{
    struct sip_facts f;
    struct sip_fault fault;
    struct sip_via via;
    struct arena a = arena_over(scratch, sizeof scratch);
    struct addr source = {.family = 4, .port = 5099, .ip = {192, 0, 2, 99}};
    if (!m.is_request || sip_check_request(&m, &f, &fault) != SIP_OK)
        return;
    sip_edits_init(&e, &m);
    sip_stamp_via(&e, &f, &source, &a);
    if (!serialised())
        return;
    struct sip_values v = sip_values(&again, SIP_H_VIA);
    HOLDS(sip_next_value(&v) && sip_via_parse(sip_slice(&again, v.value), &via) == SIP_OK);
    struct slice got = SLICE_NONE;
    if (sip_param(via.params, SLICE("received"), &got))
        HOLDS(slice_equal(got, SLICE("192.0.2.99")));
    HOLDS(via.has_rport == f.via.has_rport && slice_equal(via.branch, f.via.branch));
    if (sip_param(via.params, SLICE("rport"), &got))
        HOLDS(slice_equal(got, SLICE("5099")));
    sip_edits_init(&e, &m);
    sip_pop_via(&e, &f);
    if (serialised())
        same_values(SIP_H_VIA, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sip_fault fault;
    size_t ops = size > 0 ? data[0] % (3 * OPS_MAX) : 0;
    if (size < ops + 1 || size > UDP_DATAGRAM_BYTES_MAX)
        return 0;
    struct choices c = {data + 1, ops};
    if (sip_index(&m, (const char *)data + 1 + ops, size - 1 - ops, true, &fault) != SIP_OK)
        return 0;
    begin();
    uint64_t touched = UINT64_C(1) << SIP_H_ROUTE;
    for (unsigned i = 0; i < OPS_MAX && c.n > 0; i++)
        choose(&c, 2) == 0 ? op_push(&c) : op_headers(&c, &touched);
    touched &= ~(UINT64_C(1) << SIP_H_ROUTE);
    unsigned dropped = op_values(&c, &touched, SIP_H_ROUTE);
    if (serialised()) {
        same_lines(SIP_H_ROUTE);
        same_values(SIP_H_ROUTE, dropped);
    }
    stamp();
    return 0;
}
