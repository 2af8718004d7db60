/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests, in the order of the decisions: sanity, known transaction, loops, Route trust, where. */
#include "edge/edge_int.h"

static struct relay *find_by(const struct edge *e, const struct map *map, struct txn_key key,
                             bool merge)
{
    uint32_t cursor = MAP_END, slot;
    while ((slot = map_find(map, key.a, &cursor)) != MAP_END) {
        handle h = {slot, e->relays.gen[slot]};
        struct relay *r = slab_get(&e->relays, h);
        if (r != NULL && (merge ? r->merge == key.a : txn_key_equal(r->key, key)))
            return r;
    }
    return NULL;
}

static void refuse_request(struct edge *e, const struct origin *from, const struct sip_fault *fault,
                           struct slice extra, char who)
{
    answer_stateless(e, from, fault, extra);
    log_refused(e, from, fault, who);
}

/* ---- messages that cannot be read ---------------------------------------------------------------
 */

/* A clear answer when that is safe: to a request other than ACK that says where it came from. */
static void refuse_unreadable(struct edge *e, const struct origin *from,
                              const struct sip_fault *fault)
{
    const struct sip_msg *m = &e->msg;
    bool answerable =
        m->is_request && m->method != SIP_M_ACK && sip_header_value(m, SIP_H_VIA).n > 0;
    if (!answerable) {
        if (m->is_request)
            e->count.requests_bad_dropped++;
        else
            e->count.responses_bad++;
        return;
    }
    e->count.requests_bad++;
    struct slice extra = SLICE_NONE;
    struct text t = scratch_text(e, 1024);
    if (fault->status == 420) {
        TEXT_LIT(&t, "Unsupported: ");
        /* A cut within a fold must leave no half of a line end. */
        text_put(&t, slice_trim(slice_take(sip_header_value(m, SIP_H_PROXY_REQUIRE), 900)));
        TEXT_LIT(&t, "\r\n");
        scratch_keep(e, &t);
        extra = text_slice(&t);
    }
    refuse_request(e, from, fault, extra, 'P');
}

static struct origin origin_of(struct edge *e, const struct event *ev)
{
    return (struct origin){.flow = ev->flow,
                           .source = ev->source,
                           .listener = ev->listener,
                           .transport = ev->transport,
                           .side = side_of(e, ev->listener, &ev->source, ev->flow)};
}

static void note_arrival(struct edge *e, const struct event *ev)
{
    e->count.messages_in++;
    if (ev->kind == EV_DATAGRAM)
        phones_heard(e->phones, ev->listener, &ev->source, e->now);
    struct flow *w = ev->flow.gen != 0 ? flow_get(e->flows, ev->flow) : NULL;
    if (w == NULL)
        return;
    w->messages_in++;
    w->last_in = e->now;
}

void edge_on_message(struct edge *e, const struct event *ev, unsigned hops)
{
    if (ev->kind == EV_DATAGRAM)
        e->count.datagrams_in++;
    note_arrival(e, ev);
    if (hops == 0) /* what another worker hands over says nothing of how long ours has to wait */
        guard_waited(e->guard, ev->listener < LISTENERS_MAX ? ev->listener : LISTENERS_MAX,
                     ev->waited, e->now);
    struct origin from = origin_of(e, ev);
    if (ev->kind == EV_DATAGRAM && hops == 0)
        from.flow.worker = e->worker; /* that heard it */
    struct sip_fault fault;
    /* A WebSocket message is whole, as a datagram is: Content-Length says nothing new (RFC 7118 5).
     */
    bool whole = ev->transport != TP_TCP && ev->transport != TP_TLS;
    int err = sip_index(&e->msg, ev->bytes.p, ev->bytes.n, whole, &fault);
    if (err < 0) {
        shed_note(e, &from, GUARD_MALFORMED);
        refuse_unreadable(e, &from, &fault);
        if (err <= SIP_E_FATAL && !whole && ev->flow.worker == e->worker)
            emit_close(e, ev->flow);
        return;
    }
    struct flow *w = ev->flow.gen != 0 ? flow_get(e->flows, ev->flow) : NULL;
    if (w != NULL)
        keepalive_begin(e, w);
    if (e->msg.is_request)
        edge_on_request(e, &from, ev, hops);
    else
        edge_on_response(e, ev, hops);
}

/* The stream is out of step: say what is wrong once, then close. There is no resync. */
void edge_on_frame_fault(struct edge *e, const struct event *ev)
{
    e->count.frames_bad++;
    struct origin from = origin_of(e, ev);
    struct sip_fault fault = {0};
    int err = sip_index(&e->msg, ev->bytes.p, ev->bytes.n, false, &fault);
    if (err == 0 || fault.status == 0) {
        fault.status = ev->error == SIP_E_TOO_LONG ? 513 : 400;
        fault.reason =
            ev->error == SIP_E_TOO_LONG ? SLICE("Message Too Large") : SLICE("Bad Framing");
    }
    if (ev->bytes.n > 0 && ev->error != SIP_E_START_LINE)
        refuse_unreadable(e, &from, &fault);
    emit_close(e, ev->flow);
}

void edge_on_ping(struct edge *e, const struct event *ev)
{
    struct origin from = origin_of(e, ev);
    e->count.pings++;
    edge_on_alive(e, ev);
    emit_to(e, &from, SLICE("\r\n"));
}

/* ---- known transactions ---------------------------------------------------------------------- */

/* A client repeats a request at most ten times (17.1.2.2 with the timers of RFC 3261). What goes on
 * beyond this bound is somebody who lets our answers, which may be much larger than what asks for
 * them, go to an address that is not his. */
enum { REPEATS_ANSWERED_MAX = 16 };

static void on_repeat(struct edge *e, struct relay *r)
{
    e->count.requests_repeated++;
    if (r->resent_in < UINT8_MAX)
        r->resent_in++;
    unsigned todo = txn_recv_request(&r->server, false, &e->opts->timers, e->now);
    if (!(todo & TXN_DO_RESEND) || r->resent_in > REPEATS_ANSWERED_MAX)
        return;
    if (!relay_resend(e, r) && !r->answered && r->method == SIP_M_INVITE)
        relay_answer_100(e, r);
}

/* The branch of a fork that was answered. */
static const struct try *accepted_try(const struct edge *e, const struct relay *r)
{
    for (uint32_t slot = r->first_try; slot != NO_TRY;) {
        const struct try *t = try_at(e, slot);
        if (t->kind == TRY_REQUEST && t->client.state == TXN_ACCEPTED)
            return t;
        slot = t->older;
    }
    return NULL;
}

/* A client that ignores Record-Route sends the ACK of a 2xx to where its INVITE went. It follows
 * that INVITE while it lingers; any other ACK is dropped for the price of a look. */
static void on_ack_without_route(struct edge *e, const struct origin *from)
{
    struct txn_key key = txn_merge_key(&e->seed, &e->msg, &e->facts, SIP_M_INVITE);
    const struct relay *r = find_by(e, &e->by_merge, key, true);
    if (r == NULL || r->server.state != TXN_ACCEPTED || r->dest.family == 0) {
        e->count.acks_unmatched++;
        shed_note(e, from, GUARD_REQUESTS);
        return;
    }
    const struct try *t = r->forks ? accepted_try(e, r) : NULL;
    struct hop hop = {.addr = r->dest,
                      .transport = r->transport_out,
                      .side = r->side_out,
                      .listener = LISTENER_NONE};
    ack_follow(e, from, t != NULL ? &t->hop : &hop);
}

static void on_ack(struct edge *e, const struct origin *from, const struct event *ev, unsigned hops)
{
    struct txn_key key = txn_server_key(&e->seed, &e->msg, &e->facts, SIP_M_INVITE);
    struct relay *r = find_by(e, &e->by_key, key, false);
    unsigned todo = TXN_DO_PASS;
    if (r != NULL)
        todo = txn_recv_request(&r->server, true, &e->opts->timers, e->now);
    if (r == NULL && (role_takes_ack(e, ev, hops) || acks_our_refusal(e)))
        return;
    if (todo & TXN_DO_PASS) {
        if (from->side == SIDE_OUTSIDE && !sip_has(&e->msg, SIP_H_ROUTE))
            on_ack_without_route(e, from);
        else
            ack_forward(e, from);
    }
    if (r == NULL)
        return;
    if (r->server.state == TXN_CONFIRMED)
        blocks_release(&e->blocks, &r->response);
    relay_arm(e, r);
}

/* CANCEL is hop by hop: it is answered here, and what it cancels gets one of our own. Without its
 * INVITE on this worker it is passed around the others once. RFC 3261 9.2, 16.10. */
void edge_on_cancel(struct edge *e, const struct origin *from, const struct event *ev,
                    unsigned hops)
{
    if (hops == 0)
        e->count.cancels++;
    struct txn_key key = txn_server_key(&e->seed, &e->msg, &e->facts, SIP_M_INVITE);
    struct relay *r = find_by(e, &e->by_key, key, false);
    if (r == NULL && hops + 1 < e->workers) {
        emit_handover(e, ev, (e->worker + 1) % e->workers, hops + 1);
        return;
    }
    struct sip_fault answer = {.status = r != NULL ? 200 : 481};
    answer_stateless(e, from, &answer, SLICE_NONE);
    if (r == NULL) {
        e->count.cancels_unmatched++;
        shed_note(e, from, GUARD_REQUESTS);
        return;
    }
    if (r->answered || r->cancelled)
        return;
    r->cancelled = true;
    relay_cancelled(e, r);
}

/* A request that is new here. */
struct arrival {
    const struct event *ev;
    unsigned hops;
    struct txn_key key;
    uint64_t merge; /* 0: takes no part */
    uint64_t loop_hash;
};

/* ---- new requests ---------------------------------------------------------------------------- */

/* Addressed to this edge itself, by host (or a domain that it answers for) and without a user. */
static bool is_for_us(const struct edge *e)
{
    const struct sip_facts *f = &e->facts;
    return f->uri.scheme != SIP_SCHEME_OTHER && f->uri.scheme != SIP_SCHEME_TEL &&
           f->uri.user.n == 0 &&
           (is_own_host(e, f->uri.host, f->uri.port) || role_has_domain(e, &f->uri)) &&
           !sip_has(&e->msg, SIP_H_ROUTE);
}

static struct sip_fault answer_options(const struct edge *e)
{
    if (e->draining)
        return (struct sip_fault){.status = 503, .reason = SLICE("Draining")};
    return (struct sip_fault){.status = 200};
}

static bool breadth_is_spent(const struct sip_msg *m)
{
    uint64_t breadth;
    return sip_has(m, SIP_H_MAX_BREADTH) &&
           text_parse_u64(sip_header_value(m, SIP_H_MAX_BREADTH), UINT32_MAX, &breadth) == 0 &&
           breadth == 0;
}

/* Loops and limits. Returns the fault to answer, or status 0. */
static struct sip_fault guard_request(struct edge *e, uint64_t loop_hash)
{
    if (loops_here(&e->msg, loop_hash)) {
        e->count.loops++;
        emit_notice(e, NOTICE_LOOP, e->facts.call_id);
        return (struct sip_fault){.status = 482, .reason = SLICE("Loop Detected")};
    }
    if (guard_hops(e->facts.max_forwards, e->opts->hops_max) < 0) {
        e->count.hops_exhausted++;
        return (struct sip_fault){.status = 483, .reason = SLICE("Too Many Hops")};
    }
    if (session_circles(e))
        return (struct sip_fault){.status = 482, .reason = SLICE("Session Goes In Circles")};
    if (breadth_is_spent(&e->msg)) {
        e->count.breadth_exhausted++;
        return (struct sip_fault){.status = 440, .reason = SLICE("Max-Breadth Exceeded")};
    }
    if (e->draining && e->facts.to_tag.n == 0 && e->facts.method != SIP_M_REGISTER)
        return (struct sip_fault){.status = 503, .reason = SLICE("Draining")};
    return (struct sip_fault){0};
}

static bool makes_dialog(const struct sip_facts *f)
{
    return f->to_tag.n == 0 && (f->method == SIP_M_INVITE || f->method == SIP_M_SUBSCRIBE ||
                                f->method == SIP_M_REFER || f->method == SIP_M_NOTIFY);
}

/* Every edge of a fleet, and each after a restart, sends a call to the same target: this hash has
 * no secret. Who chooses Call-IDs to meet one target gains no more than by sending it as many
 * calls. */
static const struct hash_seed call_seed = {0x776569722063616cULL, 0x6c2062616c616e63ULL};

static void relay_fill(struct edge *e, struct relay *r, const struct origin *from,
                       struct txn_key key, uint64_t loop_hash, const struct where *w)
{
    const struct sip_facts *f = &e->facts;
    r->timer.at = MONO_NONE;
    r->key = key;
    r->from = *from;
    r->request = BLOCK_NONE;
    r->response = BLOCK_NONE;
    r->log = BLOCK_NONE;
    r->hops = BLOCK_NONE;
    r->arrived = e->now;
    r->give_up_at = MONO_NONE;
    r->timer_c_at = MONO_NONE;
    r->loop_hash = loop_hash;
    r->call_hash = siphash(&call_seed, f->call_id.p, f->call_id.n);
    r->first_try = NO_TRY;
    if (f->method != SIP_M_REGISTER)
        r->from_tag = token_tag_hash(f->from_tag);
    r->pool = w->kind == WHERE_POOL ? w->pool : NO_POOL;
    r->method = f->method;
    r->record_route = makes_dialog(f);
    r->in_dialog = f->to_tag.n > 0;
    r->by_token = w->by_token;
    r->inside_only = w->inside_only;
    r->first_us = UINT32_MAX;
    r->queue_us = UINT32_MAX;
    txn_start(&r->server, f->method == SIP_M_INVITE ? TXN_INVITE_SERVER : TXN_OTHER_SERVER,
              transport_is_reliable(from->transport), &e->opts->timers, e->now);
}

/* Enters a new relay into the tables; NULL when one of them is full. */
static struct relay *relay_new(struct edge *e, const struct origin *from, struct txn_key key,
                               uint64_t merge, uint64_t loop_hash, const struct where *w)
{
    handle h;
    struct relay *r = slab_take(&e->relays, &h);
    if (r == NULL)
        return NULL;
    if (map_add(&e->by_key, key.a, h.slot) != 0) {
        slab_release(&e->relays, r);
        return NULL;
    }
    relay_fill(e, r, from, key, loop_hash, w);
    if (merge != 0 && map_add(&e->by_merge, merge, h.slot) == 0)
        r->merge = merge;
    e->relays_open++;
    e->count.transactions++;
    relay_join_flow(e, r);
    return r;
}

static void refuse_full(struct edge *e, const struct origin *from)
{
    static const struct sip_fault full = {.status = 503, .reason = {"Too Many Transactions", 21}};
    e->count.transactions_refused++;
    emit_notice(e, NOTICE_TABLE_FULL, SLICE("transactions"));
    refuse_request(e, from, &full, SLICE("Retry-After: 5\r\n"), 'R');
}

void edit_hops(struct edge *e)
{
    struct text t = scratch_text(e, 4);
    text_put_u64(&t, (uint64_t)guard_hops(e->facts.max_forwards, e->opts->hops_max));
    scratch_keep(e, &t);
    sip_set_header(&e->edits, SIP_H_MAX_FORWARDS, text_slice(&t), &e->out->scratch);
}

/* A REGISTER that is ours. One that needs no storing is answered without a relay: asked again, it
 * gets the same answer. */
static void on_register(struct edge *e, const struct origin *from, const struct arrival *a,
                        const struct where *w)
{
    struct slice records;
    if (!role_judge(e, from, &records))
        return;
    edit_hops(e);
    struct relay *r = relay_new(e, from, a->key, a->merge, a->loop_hash, w);
    if (r == NULL) {
        refuse_full(e, from);
        return;
    }
    log_begin(e, r);
    role_store(e, r, records);
}

static void new_request(struct edge *e, const struct origin *from, struct arrival *a)
{
    struct sip_fault fault;
    if (shed_request(e, from, a->ev, a->hops))
        return;
    if (a->hops == 0 && drain_takes_register(e, from))
        return;
    if (e->msg.method == SIP_M_OPTIONS && is_for_us(e)) {
        fault = answer_options(e);
        answer_stateless(e, from, &fault, SLICE_NONE);
        return;
    }
    struct txn_key way = {0, 0};
    if (e->facts.to_tag.n == 0) {
        way = txn_merge_key(&e->seed, &e->msg, &e->facts, (enum sip_method)e->facts.method);
        map_prefetch(&e->by_merge, way.a);
    }
    fault = guard_request(e, a->loop_hash);
    if (fault.status != 0) {
        refuse_request(e, from, &fault,
                       fault.status == 503 ? SLICE("Retry-After: 5\r\n") : SLICE_NONE, 'P');
        return;
    }
    if (e->facts.to_tag.n == 0) {
        bool known = find_by(e, &e->by_merge, way, true) != NULL;
        if (known && !passed_here(e, &e->msg)) {
            e->count.merged++;
            fault = (struct sip_fault){.status = 482, .reason = SLICE("Merged Request")};
            refuse_request(e, from, &fault, SLICE_NONE, 'P');
            return;
        }
        if (!known) /* else a spiral */
            a->merge = way.a;
    }
    struct where w;
    route_request(e, from, &w);
    if (w.kind == WHERE_REFUSED) {
        if (w.refused.status == 404)
            shed_note(e, from, GUARD_SCANS);
        refuse_request(e, from, &w.refused, SLICE_NONE, 'P');
        return;
    }
    if (w.kind == WHERE_ROLE && !role_is_here(e, from, a->ev, a->hops, &w))
        return;
    if (w.kind == WHERE_ROLE && e->msg.method == SIP_M_REGISTER) {
        on_register(e, from, a, &w);
        return;
    }
    edit_hops(e);
    edit_session(e);
    struct relay *r = relay_new(e, from, a->key, a->merge, a->loop_hash, &w);
    if (r == NULL) {
        refuse_full(e, from);
        return;
    }
    log_begin(e, r);
    relay_begin(e, r, &w);
}

void edge_on_request(struct edge *e, const struct origin *from, const struct event *ev,
                     unsigned hops)
{
    e->count.requests_in++;
    struct sip_fault fault;
    if (sip_check_request(&e->msg, &e->facts, &fault) != 0) {
        shed_note(e, from, GUARD_MALFORMED);
        refuse_unreadable(e, from, &fault);
        return;
    }
    if (ev->transport == TP_TLS)
        reuse_note(e, ev);
    if (e->msg.method == SIP_M_ACK) {
        on_ack(e, from, ev, hops);
        return;
    }
    if (e->msg.method == SIP_M_CANCEL) {
        edge_on_cancel(e, from, ev, hops);
        return;
    }
    struct txn_key key =
        txn_server_key(&e->seed, &e->msg, &e->facts, (enum sip_method)e->msg.method);
    map_prefetch(&e->by_key, key.a);
    uint64_t loop_hash = loop_hash_of(e, &e->msg, &e->facts); /* meanwhile */
    struct relay *r = find_by(e, &e->by_key, key, false);
    if (r != NULL) {
        on_repeat(e, r);
        return;
    }
    struct arrival a = {.ev = ev, .hops = hops, .key = key, .loop_hash = loop_hash};
    new_request(e, from, &a);
}
