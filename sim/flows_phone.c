/* SPDX-License-Identifier: Apache-2.0
 *
 * Phones: they register over their flows, call each other, ring, answer, hang up, and register anew
 * when a flow is lost. All of them believe to have the same address, as phones behind NATs do. */
#include <stdarg.h>
#include <stdlib.h>
#include "flows.h"

#define PRIVATE_ADDRESS "192.168.0.10:5060"

enum { RESENDS_MAX = 7, BODY_BYTES_MAX = 80 };

/* Timer C (RFC 3261 16.6) of two ways to a phone, one after the other, and what it takes to hear
 * of it. */
#define CALL_NS_MAX ((2 * 185 + 45) * NS_S)

static const char *transport_param(const struct fl_phone *p)
{
    static const char *const name[TP__COUNT] = {"udp", "tcp", "tls", "ws", "wss"};
    return name[p->transport];
}

static struct addr edge_addr(const struct fl_world *w, const struct fl_phone *p, unsigned edge)
{
    struct addr a = w->node[edge].outside;
    a.port = p->transport == TP_TLS ? 5061 : p->transport == TP_WSS ? 443 : 5060;
    return a;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* A port of the NAT for this phone: its own, or any that is free, or has been idle for long. */
static unsigned nat_port(struct fl_world *w, unsigned phone)
{
    unsigned n = w->phone[phone].nat;
    unsigned start = (unsigned)fl_below(w, FL_PORTS);
    for (unsigned i = 0; i < FL_PORTS; i++) {
        if (w->nat[n].owner[i] == (int)phone) {
            w->nat[n].idle[i] = w->now + 60 * NS_S;
            return i;
        }
    }
    for (unsigned i = 0; i < FL_PORTS; i++) {
        unsigned at = (start + i) % FL_PORTS;
        if (w->nat[n].owner[at] != FL_NONE && w->nat[n].idle[at] > w->now)
            continue;
        /* Two phones without an instance that follow each other closely cannot be told from one
         * with two lines: no NAT here gives a port away so fast. */
        int before = w->nat[n].spoke[at];
        if (before != FL_NONE && before != (int)phone && !w->phone[phone].instance &&
            !w->phone[before].instance && w->nat[n].idle[at] > w->now + 30 * NS_S)
            continue;
        w->nat[n].owner[at] = (int16_t)phone;
        w->nat[n].idle[at] = w->now + 60 * NS_S;
        return at;
    }
    return FL_PORTS;
}

static bool source_is_taken(const struct fl_world *w, const struct addr *a)
{
    for (unsigned i = 0; i < FL_CONNS; i++)
        if (w->conn[i].used && addr_equal(&w->conn[i].source, a))
            return true;
    return false;
}

/* Opens a connection; from a port that others have had, as soon as they are gone. */
static bool open_conn(struct fl_world *w, unsigned phone, unsigned flow)
{
    struct fl_phone *p = &w->phone[phone];
    struct fl_flow *f = &p->flow[flow];
    unsigned i = 0;
    while (i < FL_CONNS && w->conn[i].used)
        i++;
    if (i == FL_CONNS || !w->node[f->edge].up)
        return false;
    struct fl_conn *c = &w->conn[i];
    *c = (struct fl_conn){.used = true,
                          .phone_has = true,
                          .gen = ++w->conn_gen,
                          .phone = (uint16_t)phone,
                          .flow = (uint16_t)flow,
                          .node = f->edge,
                          .worker = (uint16_t)fl_below(w, w->workers),
                          .listener = (uint8_t)(p->transport == TP_TCP   ? 1
                                                : p->transport == TP_TLS ? 2
                                                                         : 3),
                          .source = w->nat[p->nat].addr};
    c->used = false;
    do
        c->source.port = (uint16_t)(2000 + fl_below(w, 24));
    while (source_is_taken(w, &c->source));
    c->used = true;
    f->conn = (int)i;
    f->registered = false;
    dur_ns in = 5 * NS_MS + fl_below(w, 40 * NS_MS);
    c->pipe[FL_UP].last_at = w->now + in;
    fl_at(w, in, FL_OPENED, c->node, i, 0, c->gen, NULL);
    return true;
}

static bool send_up(struct fl_world *w, unsigned phone, unsigned flow, struct slice bytes)
{
    struct fl_phone *p = &w->phone[phone];
    struct fl_flow *f = &p->flow[flow];
    if (p->transport == TP_UDP) {
        unsigned i = nat_port(w, phone);
        if (i == FL_PORTS || (w->phase < FL_HEALED && fl_chance(w, 30)))
            return i != FL_PORTS;
        struct addr src = w->nat[p->nat].addr, dst = edge_addr(w, p, f->edge);
        src.port = (uint16_t)(1000 + i);
        fl_at(w, NS_MS + fl_below(w, 40 * NS_MS), FL_DATAGRAM, f->edge, 0, 0, 0,
              fl_packet(&src, &dst, bytes));
        return true;
    }
    if (f->conn == FL_NONE)
        return false;
    if (w->conn[f->conn].spoilt)
        return false;
    if (fl_chance(w, 100)) /* RFC 5626 3.5.1 */
        fl_stream_send(w, (unsigned)f->conn, FL_UP, SLICE("\r\n\r\n"));
    fl_stream_send(w, (unsigned)f->conn, FL_UP, bytes);
    return true;
}

/* ---- client transactions --------------------------------------------------------------------- */

static struct fl_ask *ask_new(struct fl_world *w, unsigned phone, unsigned flow,
                              enum sip_method method)
{
    for (unsigned i = 0; i < FL_ASKS; i++) {
        struct fl_ask *a = &w->ask[i];
        if (a->used)
            continue;
        uint32_t gen = a->gen + 1;
        free(a->sent);
        *a = (struct fl_ask){.used = true,
                             .gen = gen,
                             .phone = (uint16_t)phone,
                             .flow = (uint16_t)flow,
                             .method = (uint8_t)method,
                             .to = FL_NONE,
                             .at = w->now,
                             .until = w->now + 40 * NS_S};
        snprintf(a->branch, sizeof a->branch, "z9hG4bK%u", ++w->words);
        snprintf(a->tag, sizeof a->tag, "t%u", ++w->words);
        return a;
    }
    fl_fail(w, "phones have too many requests open");
    return NULL;
}

static unsigned ask_index(const struct fl_world *w, const struct fl_ask *a)
{
    return (unsigned)(a - w->ask);
}

/* What a call says, and no other does: as many digits as its number wants, blank lines within. */
static struct slice body_of(struct slice call_id, char dst[BODY_BYTES_MAX])
{
    static const struct hash_seed seed = {3, 4};
    uint64_t hash = siphash(&seed, call_id.p, call_id.n);
    size_t n = hash % BODY_BYTES_MAX;
    for (size_t i = 0; i < n; i++)
        dst[i] = "0123456789\r\n\r\n"[(hash >> (i % 48)) % 14];
    return slice_of(dst, n);
}

/* Writes and sends the request of `a`: `more` = further header lines. */
static bool ask_send(struct fl_world *w, struct fl_ask *a, const char *uri, const char *to,
                     const char *more)
{
    static const char *const up[TP__COUNT] = {"UDP", "TCP", "TLS", "WS", "WSS"};
    const struct fl_phone *p = &w->phone[a->phone];
    struct slice name = sip_method_name((enum sip_method)a->method);
    char text[FL_TEXT], said[BODY_BYTES_MAX];
    struct slice body =
        a->method == SIP_M_INVITE ? body_of(slice_cstr(a->call_id), said) : SLICE_NONE;
    int n = snprintf(text, sizeof text,
                     "%.*s %s SIP/2.0\r\n"
                     "Via: SIP/2.0/%s " PRIVATE_ADDRESS ";rport;branch=%s\r\n"
                     "Max-Forwards: 70\r\nFrom: <sip:p%u@example.com>;tag=%s\r\nTo: %s\r\n"
                     "Call-ID: %s\r\nCSeq: %u %.*s\r\n%sContent-Length: %zu\r\n\r\n",
                     SLICE_ARG(name), uri, up[p->transport], a->branch, a->phone, a->tag, to,
                     a->call_id, a->cseq, SLICE_ARG(name), more, body.n);
    MUST(n > 0 && (size_t)n + body.n < sizeof text);
    memcpy(text + n, said, body.n);
    n += (int)body.n;
    if (a->method != SIP_M_ACK) {
        free(a->sent);
        a->sent = fl_packet(NULL, NULL, slice_of(text, (size_t)n));
        fl_at(w, 500 * NS_MS, FL_PHONE, 0, a->phone, FL_DO_RESEND,
              (uint64_t)a->gen << 16 | ask_index(w, a), NULL);
    }
    fl_trace(w, "phone %u flow %u sends %.*s %s %s", a->phone, a->flow, SLICE_ARG(name), uri,
             a->call_id);
    return send_up(w, a->phone, a->flow, slice_of(text, (size_t)n));
}

static void put_contact(char *dst, size_t cap, const struct fl_phone *p, unsigned phone,
                        unsigned flow)
{
    int n = snprintf(dst, cap, "Contact: <sip:p%u-%u@" PRIVATE_ADDRESS ";transport=%s>", phone,
                     flow, transport_param(p));
    if (p->instance)
        n += snprintf(dst + n, cap - (size_t)n,
                      ";+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-0000000000%02u>\"%s",
                      phone, p->flows == 2 ? flow == 0 ? ";reg-id=1" : ";reg-id=2" : "");
    snprintf(dst + n, cap - (size_t)n, "\r\n");
}

static void do_register(struct fl_world *w, unsigned phone, unsigned flow, unsigned expires_s)
{
    struct fl_phone *p = &w->phone[phone];
    struct fl_flow *f = &p->flow[flow];
    if (p->transport != TP_UDP && f->conn == FL_NONE && !open_conn(w, phone, flow)) {
        fl_at(w, NS_S, FL_PHONE, 0, phone, FL_DO_REGISTER, flow, NULL);
        return;
    }
    struct fl_ask *a = ask_new(w, phone, flow, SIP_M_REGISTER);
    if (a == NULL)
        return;
    char more[512], to[64];
    snprintf(a->call_id, sizeof a->call_id, "%s", f->call_id);
    a->cseq = ++f->cseq;
    snprintf(to, sizeof to, "<sip:p%u@example.com>", phone);
    int n = snprintf(more, sizeof more, "Supported: path, outbound\r\nExpires: %u\r\n", expires_s);
    put_contact(more + n, sizeof more - (size_t)n, p, phone, flow);
    f->asked = true;
    (void)ask_send(w, a, "sip:example.com", to, more);
}

static void do_call(struct fl_world *w, unsigned phone, unsigned callee, bool must)
{
    struct fl_phone *p = &w->phone[phone];
    unsigned flow = (unsigned)fl_below(w, p->flows);
    if ((p->transport != TP_UDP && p->flow[flow].conn == FL_NONE) || !p->flow[flow].registered)
        return;
    struct fl_ask *a = ask_new(w, phone, flow, SIP_M_INVITE);
    if (a == NULL)
        return;
    char uri[64], to[64], more[256];
    snprintf(a->call_id, sizeof a->call_id, "call-%u", ++w->words);
    a->cseq = 1;
    a->to = (int)callee;
    a->must = must && w->phone[callee].answers && callee != phone;
    snprintf(uri, sizeof uri, "sip:p%u@example.com", callee);
    snprintf(to, sizeof to, "<sip:p%u@example.com>", callee);
    put_contact(more, sizeof more, p, phone, flow);
    a->until = w->now + (must ? 90 * NS_S : CALL_NS_MAX);
    w->sum.calls++;
    if (!ask_send(w, a, uri, to, more))
        a->used = false;
    else if (!must && fl_chance(w, 200))
        fl_at(w, 300 * NS_MS + fl_below(w, 2 * NS_S), FL_PHONE, 0, phone, FL_DO_CANCEL,
              (uint64_t)a->gen << 16 | ask_index(w, a), NULL);
    else if (!w->phone[callee].answers)
        fl_at(w, 10 * NS_S, FL_PHONE, 0, phone, FL_DO_CANCEL,
              (uint64_t)a->gen << 16 | ask_index(w, a), NULL);
}

static struct fl_ask *ask_at(struct fl_world *w, uint64_t c)
{
    struct fl_ask *a = &w->ask[c & 0xffff];
    return a->used && a->gen == (uint32_t)(c >> 16) ? a : NULL;
}

/* CANCEL has the INVITE's branch, URI, CSeq number. */
static void do_cancel(struct fl_world *w, struct fl_ask *invite)
{
    if (invite->done)
        return;
    if (!invite->rang) { /* RFC 3261 9.1: not before something is heard */
        fl_at(w, NS_S, FL_PHONE, 0, invite->phone, FL_DO_CANCEL,
              (uint64_t)invite->gen << 16 | ask_index(w, invite), NULL);
        return;
    }
    struct fl_ask *a = ask_new(w, invite->phone, invite->flow, SIP_M_CANCEL);
    if (a == NULL)
        return;
    char uri[64], to[64];
    memcpy(a->branch, invite->branch, sizeof a->branch);
    memcpy(a->tag, invite->tag, sizeof a->tag);
    memcpy(a->call_id, invite->call_id, sizeof a->call_id);
    a->cseq = invite->cseq;
    invite->must = false;
    snprintf(uri, sizeof uri, "sip:p%d@example.com", invite->to);
    snprintf(to, sizeof to, "<sip:p%d@example.com>", invite->to);
    (void)ask_send(w, a, uri, to, "");
}

static void ack_failure(struct fl_world *w, const struct fl_ask *invite, struct slice to)
{
    struct fl_ask a = *invite;
    char uri[64], to_text[256];
    a.method = SIP_M_ACK;
    a.sent = NULL;
    snprintf(uri, sizeof uri, "sip:p%d@example.com", invite->to);
    snprintf(to_text, sizeof to_text, "%.*s", SLICE_ARG(to));
    (void)ask_send(w, &a, uri, to_text, "");
}

static void in_dialog(struct fl_world *w, const struct fl_ask *invite, enum sip_method method)
{
    struct fl_ask local = *invite, *a = &local;
    if (method != SIP_M_ACK) {
        a = ask_new(w, invite->phone, invite->flow, method);
        if (a == NULL)
            return;
    }
    char to[128];
    memcpy(a->tag, invite->tag, sizeof a->tag);
    memcpy(a->call_id, invite->call_id, sizeof a->call_id);
    a->method = (uint8_t)method;
    a->cseq = invite->cseq + (method == SIP_M_ACK ? 0 : 1);
    a->to = invite->to;
    if (method == SIP_M_ACK)
        a->sent = NULL;
    snprintf(a->branch, sizeof a->branch, "z9hG4bK%u", ++w->words);
    snprintf(to, sizeof to, "<sip:p%d@example.com>;tag=%s", invite->to, invite->to_tag);
    (void)ask_send(w, a, invite->remote, to, invite->routes);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void registered(struct fl_world *w, const struct fl_ask *a, int status)
{
    struct fl_flow *f = &w->phone[a->phone].flow[a->flow];
    f->asked = false;
    if (status == 200) {
        f->registered = true;
    }
    if (w->phase >= FL_QUIET)
        return;
    dur_ns again =
        status == 200 ? 5 * NS_S + fl_below(w, 20 * NS_S) : 500 * NS_MS + fl_below(w, 3 * NS_S);
    fl_at(w, again, FL_PHONE, 0, a->phone, FL_DO_REGISTER, a->flow, NULL);
}

static void make_dialog(struct fl_ask *a, const struct sip_msg *m, const struct sip_facts *f)
{
    struct slice values[16];
    unsigned count = 0;
    snprintf(a->to_tag, sizeof a->to_tag, "%.*s", SLICE_ARG(f->to_tag));
    struct sip_values v = sip_values(m, SIP_H_RECORD_ROUTE);
    while (count < 16 && sip_next_value(&v))
        values[count++] = sip_slice(m, v.value);
    size_t n = 0;
    a->routes[0] = '\0';
    while (count > 0) {
        count--;
        n += (size_t)snprintf(a->routes + n, sizeof a->routes - n, "Route: %.*s\r\n",
                              SLICE_ARG(values[count]));
    }
    struct sip_nameaddr na;
    if (sip_nameaddr_parse(sip_header_value(m, SIP_H_CONTACT), &na) == 0)
        snprintf(a->remote, sizeof a->remote, "%.*s", SLICE_ARG(na.uri));
}

static void on_response(struct fl_world *w, unsigned phone, const struct sip_msg *m,
                        const struct sip_facts *f)
{
    struct fl_ask *a = NULL;
    for (unsigned i = 0; i < FL_ASKS && a == NULL; i++) {
        struct fl_ask *x = &w->ask[i];
        if (x->used && x->phone == phone && x->method == f->method &&
            slice_equal(f->via.branch, slice_cstr(x->branch)))
            a = x;
    }
    fl_trace(w, "phone %u hears %u to %.*s %.*s", phone, m->status, SLICE_ARG(f->method_name),
             SLICE_ARG(f->call_id));
    if (a == NULL)
        return;
    if (m->status < 200) {
        a->rang = true;
        return;
    }
    bool first = !a->done;
    a->done = true;
    a->status = m->status;
    if (a->method == SIP_M_REGISTER && first)
        registered(w, a, m->status);
    if (a->method != SIP_M_INVITE) {
        a->used = false;
        return;
    }
    if (m->status >= 300) {
        ack_failure(w, a, f->to);
        if (first && a->must)
            fl_fail(w, "all is well, but call %s of phone %u to phone %d gets %u", a->call_id,
                    phone, a->to, m->status);
        return;
    }
    if (first)
        make_dialog(a, m, f);
    in_dialog(w, a, SIP_M_ACK);
    if (!first)
        return;
    w->sum.answered++;
    fl_at(w, NS_S + fl_below(w, 3 * NS_S), FL_PHONE, 0, phone, FL_DO_BYE,
          (uint64_t)a->gen << 16 | ask_index(w, a), NULL);
}

/* ---- ringing --------------------------------------------------------------------------------- */

static void answer(struct fl_world *w, struct fl_ring *r, const struct packet *request,
                   unsigned phone, unsigned flow, int status, const char *tag)
{
    static struct sip_msg m;
    struct sip_fault fault;
    char text[FL_TEXT], lines[1024] = "";
    if (sip_index(&m, request->bytes, request->n, true, &fault) != 0)
        return;
    if (m.method == SIP_M_INVITE && status > 100 && status < 300) {
        size_t n = 0;
        struct sip_values v = sip_values(&m, SIP_H_RECORD_ROUTE);
        while (sip_next_value(&v))
            n += (size_t)snprintf(lines + n, sizeof lines - n, "Record-Route: %.*s\r\n",
                                  SLICE_ARG(sip_slice(&m, v.value)));
        put_contact(lines + n, sizeof lines - n, &w->phone[phone], phone, flow);
    }
    struct text t = text_into(text, sizeof text);
    struct sip_reply reply = {
        .status = status, .to_tag = slice_cstr(tag), .extra = slice_cstr(lines)};
    MUST(sip_write_reply(&t, &m, &reply) == 0);
    if (r != NULL) {
        free(r->last);
        r->last = fl_packet(NULL, NULL, text_slice(&t));
    }
    fl_trace(w, "phone %u flow %u says %d", phone, flow, status);
    (void)send_up(w, phone, flow, text_slice(&t));
}

/* Who called it may be dead since, or was when the call arrived, or cannot reach it any more. */
static bool rings_in_vain(const struct fl_world *w, const struct fl_ring *r)
{
    int conn = w->phone[r->phone].flow[r->flow].conn;
    return (w->upset_at != 0 && r->at <= w->upset_at + NS_S) ||
           (conn != FL_NONE && w->conn[conn].dying);
}

/* An INVITE over UDP may have been repeated for long. */
static mono_ns call_began(const struct fl_world *w, struct slice call_id)
{
    for (unsigned i = 0; i < FL_ASKS; i++)
        if (w->ask[i].method == SIP_M_INVITE && slice_equal(call_id, slice_cstr(w->ask[i].call_id)))
            return w->ask[i].at;
    return w->now;
}

static void check_rings_once(struct fl_world *w, unsigned phone, struct slice call_id)
{
    for (unsigned i = 0; i < FL_RINGS; i++) {
        const struct fl_ring *r = &w->ring[i];
        if (r->used && !r->over && !rings_in_vain(w, r) && r->phone == phone &&
            slice_equal(call_id, slice_cstr(r->call_id)))
            fl_fail(w, "phone %u rings twice for %s", phone, r->call_id);
    }
}

static void on_invite(struct fl_world *w, unsigned phone, unsigned flow, const struct sip_msg *m,
                      const struct sip_facts *f, const struct packet *k)
{
    struct fl_ring *r = NULL, *vacant = NULL;
    for (unsigned i = 0; i < FL_RINGS; i++) {
        struct fl_ring *x = &w->ring[i];
        if (!x->used)
            vacant = vacant == NULL ? x : vacant;
        else if (x->phone == phone && slice_equal(f->via.branch, slice_cstr(x->branch)))
            r = x;
    }
    if (r != NULL) {
        if (r->last != NULL)
            (void)send_up(w, phone, flow, slice_of(r->last->bytes, r->last->n));
        return;
    }
    if (fl_phone_named(sip_slice(m, m->uri)) != (int)phone) {
        if (w->phone[phone].transport != TP_UDP)
            fl_fail(w, "phone %u gets a call for %.*s", phone, SLICE_ARG(sip_slice(m, m->uri)));
        answer(w, NULL, k, phone, flow, 404, "stranger");
        return;
    }
    char said[BODY_BYTES_MAX];
    if (!slice_equal(sip_slice(m, m->body), body_of(f->call_id, said)))
        fl_fail(w, "phone %u gets call %.*s with another body", phone, SLICE_ARG(f->call_id));
    check_rings_once(w, phone, f->call_id);
    if (vacant == NULL) {
        fl_fail(w, "too many calls ring");
        return;
    }
    uint32_t gen = vacant->gen + 1;
    free(vacant->request);
    free(vacant->last);
    *vacant = (struct fl_ring){.used = true,
                               .gen = gen,
                               .at = call_began(w, f->call_id),
                               .phone = (uint16_t)phone,
                               .flow = (uint16_t)flow};
    snprintf(vacant->branch, sizeof vacant->branch, "%.*s", SLICE_ARG(f->via.branch));
    snprintf(vacant->call_id, sizeof vacant->call_id, "%.*s", SLICE_ARG(f->call_id));
    snprintf(vacant->tag, sizeof vacant->tag, "r%u", ++w->words);
    vacant->request = fl_packet(NULL, NULL, slice_of(k->bytes, k->n));
    answer(w, vacant, k, phone, flow, 180, vacant->tag);
    if (w->phone[phone].answers)
        fl_at(w, 200 * NS_MS + fl_below(w, 2 * NS_S), FL_PHONE, 0, phone, FL_DO_ANSWER,
              (uint64_t)gen << 16 | (uint64_t)(vacant - w->ring), NULL);
}

static struct fl_ring *ring_of(struct fl_world *w, unsigned phone, const struct sip_facts *f,
                               bool by_branch)
{
    for (unsigned i = 0; i < FL_RINGS; i++) {
        struct fl_ring *r = &w->ring[i];
        if (r->used && r->phone == phone &&
            (by_branch ? slice_equal(f->via.branch, slice_cstr(r->branch))
                       : slice_equal(f->call_id, slice_cstr(r->call_id)) &&
                             slice_equal(f->to_tag, slice_cstr(r->tag))))
            return r;
    }
    return NULL;
}

static void on_other(struct fl_world *w, unsigned phone, unsigned flow, const struct sip_msg *m,
                     const struct sip_facts *f, const struct packet *k)
{
    if (m->method == SIP_M_OPTIONS) { /* is it there? */
        answer(w, NULL, k, phone, flow, 200, "there");
        return;
    }
    struct fl_ring *r = ring_of(w, phone, f, m->method == SIP_M_CANCEL);
    if (r == NULL && m->method == SIP_M_ACK) /* of a failure: the branch tells */
        r = ring_of(w, phone, f, true);
    if (r == NULL && w->phone[phone].transport != TP_UDP && m->method != SIP_M_CANCEL)
        fl_fail(w, "phone %u gets a %.*s of a call %.*s that it never had", phone,
                SLICE_ARG(f->method_name), SLICE_ARG(f->call_id));
    if (m->method == SIP_M_ACK) {
        if (r != NULL)
            r->acked = true;
        return;
    }
    answer(w, NULL, k, phone, flow, r != NULL ? 200 : 481, r != NULL ? r->tag : "none");
    if (r == NULL)
        return;
    if (m->method == SIP_M_CANCEL && !r->answered) {
        r->answered = r->over = true;
        answer(w, r, r->request, phone, flow, 487, r->tag);
    }
    r->over = true;
}

void fl_phone_message(struct fl_world *w, unsigned phone, unsigned flow, struct slice bytes)
{
    static struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    if (sip_index(&m, bytes.p, bytes.n, true, &fault) != 0) {
        fl_fail(w, "phone %u gets what is no message", phone);
        return;
    }
    if (!m.is_request) {
        if (sip_check_response(&m, &f, &fault) == 0)
            on_response(w, phone, &m, &f);
        else
            fl_fail(w, "phone %u gets a bad response", phone);
        return;
    }
    if (sip_check_request(&m, &f, &fault) != 0) {
        fl_fail(w, "phone %u gets a bad request: %.*s", phone, SLICE_ARG(fault.reason));
        return;
    }
    fl_trace(w, "phone %u flow %u gets %.*s %.*s %.*s", phone, flow, SLICE_ARG(f.method_name),
             SLICE_ARG(sip_slice(&m, m.uri)), SLICE_ARG(f.call_id));
    struct packet *k = fl_packet(NULL, NULL, bytes);
    if (m.method == SIP_M_INVITE)
        on_invite(w, phone, flow, &m, &f, k);
    else
        on_other(w, phone, flow, &m, &f, k);
    free(k);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* A flow is gone: what rang over it rings no more, what was asked over it gets no answer. */
void fl_phone_lost(struct fl_world *w, unsigned phone, unsigned flow)
{
    struct fl_flow *f = &w->phone[phone].flow[flow];
    f->conn = FL_NONE;
    f->registered = false;
    f->asked = false;
    for (unsigned i = 0; i < FL_RINGS; i++)
        if (w->ring[i].used && w->ring[i].phone == phone && w->ring[i].flow == flow)
            w->ring[i].over = w->ring[i].answered = true;
    for (unsigned i = 0; i < FL_ASKS; i++)
        if (w->ask[i].used && w->ask[i].phone == phone && w->ask[i].flow == flow)
            w->ask[i].used = false;
    if (w->phase < FL_QUIET)
        fl_at(w, fl_below(w, 5 * NS_S), FL_PHONE, 0, phone, FL_DO_REGISTER, flow, NULL);
}

static void resend(struct fl_world *w, struct fl_ask *a)
{
    if (a->done && a->method != SIP_M_INVITE) {
        a->used = false;
        return;
    }
    if (w->now >= a->until) {
        bool ends = a->must || w->phone[a->phone].transport != TP_UDP;
        if (ends && a->method == SIP_M_INVITE && !a->done)
            fl_fail(w, "call %s of phone %u to phone %d is never answered", a->call_id, a->phone,
                    a->to);
        if (a->method == SIP_M_REGISTER)
            registered(w, a, 408);
        a->used = false;
        return;
    }
    bool again =
        w->phone[a->phone].transport == TP_UDP && !a->done && !a->rang && a->resends < RESENDS_MAX;
    if (again)
        (void)send_up(w, a->phone, a->flow, slice_of(a->sent->bytes, a->sent->n));
    a->resends++;
    dur_ns next = a->resends < 4 ? 500 * NS_MS << a->resends : 4 * NS_S;
    fl_at(w, next, FL_PHONE, 0, a->phone, FL_DO_RESEND, (uint64_t)a->gen << 16 | ask_index(w, a),
          NULL);
}

static void pick_up(struct fl_world *w, uint64_t c)
{
    struct fl_ring *r = &w->ring[c & 0xffff];
    if (!r->used || r->gen != (uint32_t)(c >> 16) || r->over)
        return;
    if (!r->answered) {
        r->answered = true;
        bool busy = w->phase < FL_FINAL && fl_chance(w, 100);
        answer(w, r, r->request, r->phone, r->flow, busy ? 486 : 200, r->tag);
        if (busy) {
            r->over = true;
            return;
        }
    } else if (!r->acked && r->resends < RESENDS_MAX) {
        (void)send_up(w, r->phone, r->flow, slice_of(r->last->bytes, r->last->n));
        r->resends++;
    } else {
        return;
    }
    fl_at(w, NS_S, FL_PHONE, 0, r->phone, FL_DO_ANSWER, c, NULL);
}

static void on_register(struct fl_world *w, unsigned phone, unsigned flow)
{
    if (w->phase >= FL_QUIET || w->phone[phone].flow[flow].asked)
        return;
    do_register(w, phone, flow, 60);
}

void fl_phone_step(struct fl_world *w, unsigned phone, enum fl_step step, uint64_t c)
{
    struct fl_ask *a =
        step == FL_DO_BYE || step == FL_DO_RESEND || step == FL_DO_CANCEL ? ask_at(w, c) : NULL;
    switch (step) {
    case FL_DO_REGISTER:
        on_register(w, phone, (unsigned)c);
        break;
    case FL_DO_CALL:
        do_call(w, phone, (unsigned)(c & 0xffff), (c >> 16 & 1) != 0);
        break;
    case FL_DO_ANSWER:
        pick_up(w, c);
        break;
    case FL_DO_BYE:
        if (a != NULL)
            in_dialog(w, a, SIP_M_BYE);
        break;
    case FL_DO_RESEND:
        if (a != NULL)
            resend(w, a);
        break;
    case FL_DO_CANCEL:
        if (a != NULL)
            do_cancel(w, a);
        break;
    }
}

void fl_phones_end(struct fl_world *w)
{
    for (unsigned i = 0; i < FL_RINGS; i++)
        if (w->ring[i].used && !w->ring[i].over && !w->ring[i].acked && !w->ring[i].answered &&
            !rings_in_vain(w, &w->ring[i]))
            fl_fail(w, "phone %u still rings for %s", w->ring[i].phone, w->ring[i].call_id);
}
