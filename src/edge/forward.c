/* SPDX-License-Identifier: Apache-2.0
 *
 * Forwarding and failing over (RFC 3261 16.6, 16.7, 16.9).
 *
 *   relay_begin ─▶ pool ─────▶ launch ─▶ try ── no answer, 503 … ─▶ relay_next ─▶ launch ─▶ …
 *               ├▶ one hop ──▶ launch                                     └▶ all options spent: say
 * so └▶ name ─────▶ resolver ─▶ launch
 *
 * What is kept of a request is the bytes as they last left: our Via line and Record-Route lines on
 * top of what came in. The next try takes them off and puts its own on. */
#include "edge/edge_int.h"

/* ---- lines of our own ------------------------------------------------------------------------ */

static struct slice upper_transport(uint8_t tp)
{
    static const struct slice name[TP__COUNT] = {
        {"UDP", 3}, {"TCP", 3}, {"TLS", 3}, {"WS", 2}, {"WSS", 3}};
    return name[tp];
}

/* Up to where more parameters, or the end of the line, may follow. */
void put_via(struct edge *e, struct text *t, uint8_t transport, uint8_t listener,
             const struct branch *b)
{
    TEXT_LIT(t, "Via: SIP/2.0/");
    text_put(t, upper_transport(transport));
    text_put_char(t, ' ');
    put_listener(t, &e->opts->listener[listener]);
    TEXT_LIT(t, ";branch=");
    branch_put(t, b);
    if (b->alias)
        TEXT_LIT(t, ";alias");
}

/* The Via line of a try: the same each time it is asked for. */
struct slice via_line(struct edge *e, const struct try *t)
{
    const struct relay *r = relay_of(e, t);
    struct branch b = {.worker = e->worker,
                       .process_generation = e->process_generation,
                       .of = slab_handle(&e->tries, t),
                       .nonce = t->nonce,
                       .loop_hash = r != NULL ? r->loop_hash : 0,
                       .alias = t->hop.alias};
    struct text out = scratch_text(e, 512);
    put_via(e, &out, t->hop.transport, t->hop.listener, &b);
    if (e->opts->overload && !handle_is_none(t->hop.target))
        put_oc(&out);
    TEXT_LIT(&out, "\r\n");
    scratch_keep(e, &out);
    return text_slice(&out);
}

/* ---- what is kept ---------------------------------------------------------------------------- */

/* Reads the kept request again into e->kept. False when it is gone. */
bool relay_index_kept(struct edge *e, struct relay *r)
{
    struct slice kept = blocks_slice(&e->blocks, r->request);
    struct sip_fault fault;
    return kept.n > 0 && sip_index(&e->kept, kept.p, kept.n, true, &fault) == 0;
}

/* The same for the request that a try sent. False when it is gone: its final has been ACKed, and
 * nothing is left to say. */
bool try_index_sent(struct edge *e, struct relay *r, const struct try *t)
{
    if (t->way == NO_WAY)
        return relay_index_kept(e, r);
    struct slice sent = blocks_slice(&e->blocks, t->sent);
    struct sip_fault fault;
    return !t->acked && sent.n > 0 && sip_index(&e->kept, sent.p, sent.n, true, &fault) == 0;
}

/* RFC 3261 18.3: what came without a length, and ended with its datagram, gets one. On a stream its
 * body would be read as the next message, of somebody whom nobody has checked. */
void edit_length(struct edge *e)
{
    const struct sip_msg *m = e->edits.m;
    if (sip_has(m, SIP_H_CONTENT_LENGTH))
        return;
    struct text t = scratch_text(e, 8);
    text_put_u64(&t, m->body.len);
    scratch_keep(e, &t);
    sip_set_header(&e->edits, SIP_H_CONTENT_LENGTH, text_slice(&t), &e->out->scratch);
}

/* Begins edits that put no line of ours on top yet; `own_vias` Via lines of ours stand in `m`. */
void edits_begin(struct edge *e, const struct sip_msg *m, uint8_t own_vias)
{
    sip_edits_init(&e->edits, m);
    e->edits_vias = 0;
    e->edits_routes = 0;
    e->edits_path = false;
    e->edits_contacts = false;
    e->edits_drop_vias = own_vias;
    edit_length(e);
}

/* Begins edits on the kept request that take our own lines off. The bytes are copied to scratch:
 * the block will be written over by the next try. */
bool edits_from_kept(struct edge *e, struct relay *r)
{
    struct slice kept = scratch_copy(e, blocks_slice(&e->blocks, r->request));
    struct sip_fault fault;
    if (kept.n == 0 || sip_index(&e->kept, kept.p, kept.n, true, &fault) != 0)
        return false;
    edits_begin(e, &e->kept, r->own_vias);
    uint8_t h = e->kept.first[SIP_H_VIA];
    for (unsigned i = 0; i < r->own_vias && h != SIP_NO_HEADER; i++, h = e->kept.h[h].next)
        sip_drop_header(&e->edits, h);
    h = e->kept.first[SIP_H_RECORD_ROUTE];
    for (unsigned i = 0; i < r->own_routes && h != SIP_NO_HEADER; i++, h = e->kept.h[h].next)
        sip_drop_header(&e->edits, h);
    drop_path(e, r);
    return true;
}

/* e->edits carried out, on scratch; empty: no room. */
struct slice serialise_edited(struct edge *e)
{
    size_t size = sip_edits_size(&e->edits);
    char *p = arena_take(&e->out->scratch, size, 1);
    int n = p != NULL ? sip_serialise_flat(&e->edits, p, size) : -1;
    return n < 0 ? SLICE_NONE : slice_of(p, (size_t)n);
}

/* Serialises e->edits to scratch and keeps a copy. -1: no room for either. */
int keep_edited(struct edge *e, struct relay *r, struct slice *ret_bytes)
{
    *ret_bytes = serialise_edited(e);
    if (ret_bytes->n == 0)
        return -1;
    r->own_vias = e->edits_vias;
    r->own_routes = e->edits_routes;
    r->own_path = e->edits_path;
    r->own_contacts = e->edits_contacts;
    blocks_release(&e->blocks, &r->request);
    return blocks_keep(&e->blocks, *ret_bytes, &r->request);
}

/* ---- hops ------------------------------------------------------------------------------------ */

enum { FLOW_BUSY_TRIES = 64 };

/* The table of our connections is full, perhaps of such as somebody led us to once and that their
 * peers never close. The one that nobody uses makes room: for others, since this step's message
 * will not wait for it. */
static void flow_make_room(struct edge *e)
{
    if (e->out->count + STEP_ACTIONS_ROOM + 2 > STEP_ACTIONS_MAX)
        return; /* a step that tries many targets has no more to give */
    emit_notice(e, NOTICE_TABLE_FULL, SLICE("connections to targets"));
    struct flow *idle = flow_idle(e->flows);
    if (idle != NULL)
        emit_close(e, idle->id);
}

static struct flow *flow_connect(struct edge *e, const struct hop *hop,
                                 const struct edge_peer *peer)
{
    uint64_t expects = peer != NULL ? peer->expects : 0;
    if (!flow_may_connect(e->flows, &hop->addr, hop->transport, expects, e->now))
        return NULL;
    struct flow *w =
        flow_open(e->flows, &hop->addr, hop->listener, hop->transport, hop->side, expects, e->now);
    if (w == NULL) {
        flow_make_room(e);
        return NULL;
    }
    struct action *a = emit(e, ACT_CONNECT);
    a->flow = w->id;
    a->dest = hop->addr;
    a->transport = hop->transport;
    a->listener = hop->listener;
    a->timeout_ns = e->opts->connect_timeout;
    if (peer != NULL) {
        a->text = peer->name;
        a->id = peer->client;
    }
    e->count.connects++;
    return w;
}

/* The connection for a hop: one that its peer opened and proved to be his, one of ours that is
 * there, or a new one when all are busy. */
struct flow *flow_for(struct edge *e, struct hop *hop)
{
    const struct edge_peer *peer = hop->transport == TP_TLS ? peer_of(e, hop) : NULL;
    struct flow *w = peer != NULL ? reuse_for(e, peer) : NULL;
    if (w != NULL)
        return w;
    uint32_t count;
    w = flow_to(e->flows, &hop->addr, hop->transport, peer != NULL ? peer->expects : 0, &count);
    hop->alias =
        peer != NULL && peer->shows_cert && e->opts->listener[hop->listener].transport == TP_TLS;
    bool more =
        w == NULL || (w->open >= FLOW_BUSY_TRIES && count < e->opts->connections_per_target);
    if (!more)
        return w;
    struct flow *fresh = flow_connect(e, hop, peer);
    return fresh != NULL ? fresh : w;
}

/* Chooses listener and connection of a try. -1: this hop cannot be reached now. */
int hop_open(struct edge *e, struct try *t)
{
    struct hop *hop = &t->hop;
    if (hop->listener == LISTENER_NONE)
        hop->listener = egress_for(e, &hop->addr, hop->transport, hop->side);
    if (hop->listener == LISTENER_NONE)
        return -1;
    if (hop->transport == TP_UDP && hop->fixed_flow &&
        !phones_match(e->phones, hop->listener, &hop->addr, hop->flow.slot))
        return -1;
    if (hop->transport == TP_UDP)
        return addr_is_unicast(&hop->addr) ? 0 : -1;
    if (hop->fixed_flow && hop->flow.worker != e->worker) {
        if (hop->flow.worker >= e->workers)
            return -1;
        try_join_remote(e, t); /* its worker will see: edge_on_send() */
        return 0;
    }
    struct flow *w = hop->fixed_flow ? flow_get(e->flows, hop->flow) : flow_for(e, hop);
    if (w == NULL || w->closing)
        return -1;
    try_join_flow(e, t, w);
    return 0;
}

void try_send_bytes(struct edge *e, struct try *t, struct slice bytes)
{
    if (t->hop.transport == TP_UDP && t->hop.fixed_flow)
        emit_phone(e, &t->hop, bytes);
    else if (t->hop.transport == TP_UDP)
        emit_udp(e, t->hop.listener, &t->hop.addr, bytes);
    else
        emit_flow(e, t->hop.flow, bytes);
}

/* ---- launching ------------------------------------------------------------------------------- */

enum { OWN_LINES_BYTES = 300 }; /* what our Via and Record-Route come to, about */

/* RFC 3261 18.1.1: a request near the size of a path's MTU goes by a stream. */
static void move_to_tcp(struct edge *e, struct try *t)
{
    if (t->hop.transport != TP_UDP || !t->hop.has_tcp ||
        sip_edits_size(&e->edits) + OWN_LINES_BYTES <= UDP_REQUEST_BYTES_SAFE)
        return;
    t->hop.transport = TP_TCP;
    t->hop.listener = LISTENER_NONE;
    if (hop_open(e, t) == 0) {
        t->tcp_by_size = true;
        e->count.udp_to_tcp++;
        return;
    }
    t->hop.transport = TP_UDP;
    t->hop.listener = LISTENER_NONE;
}

static void try_clock(struct edge *e, struct relay *r, struct try *t)
{
    txn_start(&t->client, r->method == SIP_M_INVITE ? TXN_INVITE_CLIENT : TXN_OTHER_CLIENT,
              transport_is_reliable(t->hop.transport), &e->opts->timers, e->now);
    if (r->pool != NO_POOL)
        t->no_answer_at = mono_add(e->now, pools_opts(e->pools, r->pool)->failover.try_timeout);
    if (r->method == SIP_M_INVITE)
        r->timer_c_at = mono_add(e->now, e->opts->timer_c);
    if (r->queue_us == UINT32_MAX)
        r->queue_us = since_us(e->now, r->arrived);
    r->dest = t->hop.addr;
    r->transport_out = t->hop.transport;
    r->side_out = t->hop.side;
    try_arm(e, t);
    relay_arm(e, r);
}

/* What leaves is kept for the relay; or, as one branch of a fork, with the try: what a sibling
 * sends is another request. */
static int keep_sent(struct edge *e, struct relay *r, struct try *t, struct slice *ret_bytes)
{
    if (t->way == NO_WAY)
        return keep_edited(e, r, ret_bytes);
    *ret_bytes = serialise_edited(e);
    return ret_bytes->n > 0 ? blocks_keep(&e->blocks, *ret_bytes, &t->sent) : -1;
}

/* Sends e->edits plus lines of our own to one hop; `way`: of a fork, or NO_WAY. */
enum launch launch(struct edge *e, struct relay *r, const struct hop *hop, uint8_t way)
{
    handle h;
    struct try *t = try_new(e, r, TRY_REQUEST, &h);
    if (t == NULL)
        return LAUNCH_NO_ROOM;
    t->hop = *hop;
    t->way = way;
    t->method = r->method;
    move_to_tcp(e, t);
    bool too_large = t->hop.transport == TP_UDP &&
                     sip_edits_size(&e->edits) + 2 * OWN_LINES_BYTES > UDP_DATAGRAM_BYTES_MAX;
    if (too_large || (!t->tcp_by_size && hop_open(e, t) != 0)) {
        t->judged = true;
        try_free(e, t);
        return too_large ? LAUNCH_TOO_LARGE : LAUNCH_UNREACHABLE;
    }
    if (r->record_route)
        push_record_routes(e, r, t);
    if (r->method == SIP_M_REGISTER)
        push_path(e, r, t);
    sip_push_via(&e->edits, via_line(e, t));
    e->edits_vias = 1;
    struct slice bytes;
    if (keep_sent(e, r, t, &bytes) != 0) {
        t->judged = true;
        try_free(e, t);
        return LAUNCH_NO_ROOM;
    }
    if (!handle_is_none(hop->target))
        pool_begin(e->pools, hop->target, e->now);
    else
        t->judged = true;
    if (r->tries < UINT8_MAX)
        r->tries++;
    try_clock(e, r, t);
    try_send_bytes(e, t, bytes);
    return LAUNCHED;
}

void answer_no_room(struct edge *e, struct relay *r)
{
    e->count.transactions_refused++;
    emit_notice(e, NOTICE_TABLE_FULL, SLICE("messages or tries"));
    log_end(e, r, 503, 'R', phase_of(e, r), SLICE("Out Of Room"));
    relay_answer(e, r, 503, SLICE("Too Many Transactions"), SLICE("Retry-After: 5\r\n"));
}

/* No datagram can carry it, and the next hop takes nothing else. */
static void answer_too_large(struct edge *e, struct relay *r)
{
    static const struct slice reason = {"Message Too Large", 17};
    log_end(e, r, 513, 'P', phase_of(e, r), reason);
    relay_answer(e, r, 513, reason, SLICE_NONE);
}

/* ---- pools ----------------------------------------------------------------------------------- */

/* "the node closest to the problem knows best; if it fails, it says so": what was tried, and that
 * repeating it elsewhere is (final) or may be (retryable) of use. `last`: the last target's answer,
 * 0 none came, -1 transport error (which is as good as a 503: RFC 3261 16.9). */
static void answer_exhausted(struct edge *e, struct relay *r, int last, struct slice why)
{
    const struct pool_opts *o = pools_opts(e->pools, r->pool);
    uint64_t cause = last > 0 ? (uint64_t)last : last == 0 ? 408 : 503;
    struct text t = scratch_text(e, 1024);
    TEXT_LIT(&t, "Reason: SIP;cause=");
    text_put_u64(&t, cause);
    TEXT_LIT(&t, ";text=\"pool ");
    text_put(&t, o->name);
    TEXT_LIT(&t, " has no target left\"\r\nWarning: 399 ");
    text_put(&t, e->opts->node_name);
    TEXT_LIT(&t, " \"pool ");
    text_put(&t, o->name);
    TEXT_LIT(&t, ": ");
    text_put_u64(&t, r->tries);
    text_put(&t, r->tries == 1 ? SLICE(" try, last result ") : SLICE(" tries, last result "));
    text_put_u64(&t, cause);
    TEXT_LIT(&t, "\"\r\n");
    scratch_keep(e, &t);
    e->count.pools_exhausted++;
    int status = o->failover.retryable ? 503 : 500;
    char who = r->tries == 0 ? 'P' : last > 0 ? 'S' : last == 0 ? 'T' : 'N';
    if (r->tries == 0)
        emit_notice(e, NOTICE_POOL_EMPTY, o->name);
    log_end(e, r, status, who, phase_of(e, r), why);
    relay_answer(e, r, status, SLICE("All Targets Failed"), text_slice(&t));
    relay_cancel_tries(e, r, NULL);
}

/* Tries targets until one takes the request in. e->edits are ready. Returns what the last attempt
 * came to; LAUNCH_UNREACHABLE when there is no target left. */
static enum launch try_pool(struct edge *e, struct relay *r)
{
    const struct pool_opts *o = pools_opts(e->pools, r->pool);
    enum launch none = LAUNCH_UNREACHABLE;
    while (r->tries < o->failover.tries) {
        struct pool_pick pick;
        if (pool_choose(e->pools, r->pool, r->call_hash, &r->tried, e->now, &pick) != 0)
            return none;
        r->tried.bits[pick.member / 64] |= 1ULL << (pick.member % 64);
        if (!oc_admits(e, r, pick.target)) {
            none = LAUNCH_HELD_BACK;
            continue;
        }
        struct hop hop = {.addr = pick.addr,
                          .target = pick.target,
                          .transport = pick.transport,
                          .side = SIDE_INSIDE,
                          .has_tcp = pick.has_tcp,
                          .listener = LISTENER_NONE};
        enum launch result = launch(e, r, &hop, NO_WAY);
        if (result == LAUNCH_TOO_LARGE) {
            none = result; /* the message's fault, not the target's */
            continue;
        }
        if (result != LAUNCH_UNREACHABLE)
            return result;
        r->tries++;
        pool_begin(e->pools, pick.target, e->now);
        (void)pool_end(e->pools, pick.target, POOL_REFUSED, 0, e->now);
    }
    return LAUNCH_UNREACHABLE;
}

/* Keeps the request as it came (prepared, without lines of ours), so that an answer can be built.
 */
bool keep_prepared(struct edge *e, struct relay *r)
{
    struct slice bytes;
    return keep_edited(e, r, &bytes) == 0;
}

void refuse_unkept(struct edge *e, struct relay *r)
{
    struct sip_fault full = {.status = 503, .reason = SLICE("Too Many Transactions")};
    e->count.transactions_refused++;
    log_end(e, r, 503, 'R', 'R', full.reason);
    answer_edited(e, &r->from, &full, SLICE("Retry-After: 5\r\n"));
    relay_free(e, r);
}

/* All that could take it want less: whoever asked hears it, and when to come back (RFC 7339 5.3).
 */
static void answer_held_back(struct edge *e, struct relay *r)
{
    struct slice later = retry_after(e, guard_retry_after_s(e->guard, CLASS_CALL, e->now));
    log_end(e, r, 503, 'S', phase_of(e, r), SLICE("Targets Want Less"));
    relay_answer(e, r, 503, SLICE("Overloaded"), later);
}

static void begin_pool(struct edge *e, struct relay *r)
{
    const struct pool_opts *o = pools_opts(e->pools, r->pool);
    r->give_up_at = mono_add(e->now, o->failover.within);
    pool_budget_earn(e->pools, r->pool, e->now);
    enum launch result = try_pool(e, r);
    if (result == LAUNCHED)
        return;
    if (blocks_slice(&e->blocks, r->request).n == 0 && !keep_prepared(e, r)) {
        refuse_unkept(e, r);
        return;
    }
    if (result == LAUNCH_NO_ROOM)
        answer_no_room(e, r);
    else if (result == LAUNCH_TOO_LARGE)
        answer_too_large(e, r);
    else if (result == LAUNCH_HELD_BACK && r->tries == 0)
        answer_held_back(e, r);
    else
        answer_exhausted(e, r, -1, SLICE("pool exhausted"));
}

/* ---- hops by address and by name ------------------------------------------------------------- */

static void answer_unreachable(struct edge *e, struct relay *r, const struct hop *hop)
{
    bool flow_gone = hop->fixed_flow;
    if (flow_gone)
        e->count.flows_failed++;
    int status = flow_gone ? 430 : 500;
    struct slice reason = flow_gone ? SLICE("Flow Failed") : SLICE("Next Hop Unreachable");
    log_end(e, r, status, 'N', phase_of(e, r), reason);
    relay_answer(e, r, status, reason, SLICE_NONE);
}

static void begin_hop(struct edge *e, struct relay *r, const struct hop *hop)
{
    enum launch result = launch(e, r, hop, NO_WAY);
    if (result == LAUNCHED)
        return;
    if (blocks_slice(&e->blocks, r->request).n == 0 && !keep_prepared(e, r)) {
        refuse_unkept(e, r);
        return;
    }
    if (result == LAUNCH_NO_ROOM)
        answer_no_room(e, r);
    else if (result == LAUNCH_TOO_LARGE)
        answer_too_large(e, r);
    else
        answer_unreachable(e, r, hop);
}

/* What comes back with the addresses: whose they are, and for which way of a fork.
 *
 *      63   59 58                32 31             0
 *      | way | slot of the relay   | its generation | */
enum { SLOT_BITS = 32 - WAY_BITS };

/* Asks for the addresses of a name; the answer is an event. `way`: of a fork, else 0. */
void relay_resolve(struct edge *e, struct relay *r, const struct where *w, unsigned way)
{
    handle h = slab_handle(&e->relays, r);
    MUST(h.slot < 1U << SLOT_BITS);
    struct text t = scratch_text(e, 256);
    text_put(&t, slice_take(w->name, 256));
    scratch_keep(e, &t);
    r->resolving = true;
    r->give_up_at = mono_add(e->now, 64 * e->opts->timers.t1);
    struct action *a = emit(e, ACT_RESOLVE);
    a->id = (uint64_t)(way << SLOT_BITS | h.slot) << 32 | h.gen;
    a->text = text_slice(&t);
    a->port = w->port;
    a->transport = w->name_transport;
    relay_arm(e, r);
}

static void begin_name(struct edge *e, struct relay *r, const struct where *w)
{
    if (!keep_prepared(e, r)) {
        refuse_unkept(e, r);
        return;
    }
    relay_resolve(e, r, w, 0);
}

/* RFC 3261 17.2.1 wants a 100 within 200 ms unless something better comes. Most targets answer in a
 * few: then ours would be one message more for everybody, and it is left out. When the target says
 * 100 itself, ours goes at once (pass_trying). */
void relay_begin(struct edge *e, struct relay *r, const struct where *w)
{
    if (r->method == SIP_M_INVITE && e->opts->trying_delay == 0)
        relay_answer_100(e, r);
    else
        r->trying_due = r->method == SIP_M_INVITE;
    relay_arm(e, r);
    if (w->kind == WHERE_POOL)
        begin_pool(e, r);
    else if (w->kind == WHERE_HOP)
        begin_hop(e, r, &w->hop);
    else if (w->kind == WHERE_ROLE)
        fork_begin(e, r, w);
    else
        begin_name(e, r, w);
}

/* The next address that a name led to. False when there is none left that can be reached. */
static bool try_resolved(struct edge *e, struct relay *r)
{
    while (r->hop_next < r->hop_count) {
        struct resolved one;
        struct slice all = blocks_slice(&e->blocks, r->hops);
        size_t at = sizeof one * r->hop_next++;
        if (at + sizeof one > all.n)
            return false;
        memcpy(&one, all.p + at, sizeof one);
        if (!addr_is_unicast(&one.addr) || (r->inside_only && !outsider_may_reach(e, &one.addr)))
            continue;
        struct hop hop = {.addr = one.addr,
                          .transport = one.transport,
                          .side = is_trusted(e, &one.addr) ? SIDE_INSIDE : SIDE_OUTSIDE,
                          .has_tcp = true,
                          .listener = LISTENER_NONE};
        if (edits_from_kept(e, r) && launch(e, r, &hop, NO_WAY) == LAUNCHED)
            return true;
    }
    return false;
}

void relay_resolved(struct edge *e, const struct event *ev)
{
    uint32_t slot = (uint32_t)(ev->id >> 32);
    struct relay *r =
        slab_get(&e->relays, (handle){slot & ((1U << SLOT_BITS) - 1), (uint32_t)ev->id});
    if (r == NULL)
        return;
    if (r->method == SIP_M_ACK) {
        ack_resolved(e, r, ev);
        return;
    }
    if (!r->resolving || r->answered)
        return;
    if (r->forks) {
        fork_resolved(e, r, slot >> SLOT_BITS, ev);
        return;
    }
    r->resolving = false;
    r->give_up_at = MONO_NONE;
    unsigned n = ev->addr_count < RESOLVED_MAX ? ev->addr_count : RESOLVED_MAX;
    r->hop_count = (uint8_t)n;
    if (n > 0 &&
        blocks_keep(&e->blocks, slice_of(ev->addrs, n * sizeof *ev->addrs), &r->hops) != 0) {
        answer_no_room(e, r);
        return;
    }
    if (n > 0 && try_resolved(e, r))
        return;
    struct slice reason = n == 0 ? SLICE("Name Not Found") : SLICE("Next Hop Unreachable");
    log_end(e, r, 500, 'N', 'Q', reason);
    relay_answer(e, r, 500, reason, SLICE_NONE);
}

/* ---- failing over ---------------------------------------------------------------------------- */

static void answer_cancelled(struct edge *e, struct relay *r)
{
    struct try *t = newest_try(e, r);
    if (t != NULL && !txn_is_final(&t->client))
        try_outlive(e, t);
    log_end(e, r, 487, 'C', phase_of(e, r), SLICE_NONE);
    relay_answer(e, r, 487, SLICE_NONE, SLICE_NONE);
}

/* Without other options: what is the truth for upstream? `status` 0 = nothing was heard. */
static void answer_spent(struct edge *e, struct relay *r, struct slice why, int status)
{
    if (status == 0 && r->method != SIP_M_INVITE &&
        e->now >= mono_add(r->arrived, 64 * e->opts->timers.t1)) {
        /* RFC 4320: the asker has given up already; a late 408 would only do harm. */
        log_end(e, r, 0, 'T', phase_of(e, r), why);
        relay_ends_silently(e, r);
        return;
    }
    const struct try *t = newest_try(e, r);
    if (status < 0 && !r->ringing && t != NULL && t->hop.fixed_flow) {
        answer_unreachable(e, r, &t->hop);
        return;
    }
    int up = status == 0 ? 408 : 500;
    if (status == 0 && r->method != SIP_M_INVITE)
        up = 500;
    log_end(e, r, up, status == 0 ? 'T' : 'N', phase_of(e, r), why);
    relay_answer(e, r, up, status == 0 ? SLICE_NONE : why, SLICE_NONE);
}

/* Timer C is the one deadline over all tries where no pool sets a shorter one: a caller who has
 * waited that long without any ringing is told so. Each try has a Timer C of its own (RFC 3261 16.6
 * step 11), and eight addresses that say 100 and then nothing would take eight of them. */
bool relay_is_late(const struct edge *e, const struct relay *r)
{
    return !r->ringing && e->now >= mono_add(r->arrived, e->opts->timer_c);
}

/* The newest try came to nothing (`status`: the target's answer, 0 none, -1 transport error): the
 * next one, or the end. RFC 3261 16.7 steps 4 to 6, 16.8, 16.9. */
void relay_next(struct edge *e, struct relay *r, struct slice why, int status)
{
    if (r->answered)
        return;
    if (status > 0)
        r->target_status = (uint16_t)status;
    if (r->cancelled) {
        answer_cancelled(e, r);
        return;
    }
    if (r->pool == NO_POOL || r->ringing) {
        if (!r->ringing && !relay_is_late(e, r) && try_resolved(e, r))
            return;
        answer_spent(e, r, why, status);
        return;
    }
    const struct pool_opts *o = pools_opts(e->pools, r->pool);
    bool time_left = e->now < mono_add(r->arrived, o->failover.within);
    struct slice why_spent = SLICE("pool exhausted");
    if (time_left && r->tries < o->failover.tries) {
        if (!pool_budget_spend(e->pools, r->pool, e->now)) {
            e->count.failovers_denied++;
            why_spent = SLICE("retry budget spent");
        } else if (!edits_from_kept(e, r)) {
            answer_no_room(e, r);
            return;
        } else {
            enum launch result = try_pool(e, r);
            if (result == LAUNCHED) {
                e->count.failovers++;
                return;
            }
            if (blocks_slice(&e->blocks, r->request).n == 0 && !keep_prepared(e, r)) {
                refuse_unkept(e, r);
                return;
            }
        }
    }
    answer_exhausted(e, r, status, why_spent);
}

/* RFC 3261 18.1.1: the stream that we chose for the size alone was refused; the datagram is what
 * the next hop asked for. The same target again: no failover. False when that cannot be sent
 * either. */
bool relay_retry_udp(struct edge *e, struct relay *r, struct try *t)
{
    if (t->way != NO_WAY)
        return fork_retry_udp(e, r, t);
    struct hop hop = t->hop;
    hop.transport = TP_UDP;
    hop.listener = LISTENER_NONE;
    hop.flow = FLOW_NONE;
    hop.has_tcp = false;
    if (newest_try(e, r) != t || !edits_from_kept(e, r))
        return false;
    try_judge(e, t, POOL_CANCELLED, 0);
    try_free(e, t);
    r->tries--;
    if (launch(e, r, &hop, NO_WAY) != LAUNCHED)
        relay_next(e, r, SLICE("Next Hop Unreachable"), -1);
    return true;
}

/* One try failed for good or is given up. */
void try_failed(struct edge *e, struct try *t, enum pool_outcome o, dur_ns retry_after, int status)
{
    struct relay *r = relay_of(e, t);
    try_judge(e, t, o, retry_after);
    if (r != NULL && t->way != NO_WAY && !t->abandoned) {
        fork_way_failed(e, r, t, status);
        return;
    }
    bool was_newest = r != NULL && newest_try(e, r) == t;
    if (t->abandoned || !was_newest)
        return;
    try_outlive(e, t);
    relay_next(e, r, o == POOL_REFUSED ? SLICE("Next Hop Unreachable") : SLICE("No Answer"),
               status);
}

/* A timer asks for the bytes again. */
void try_resend(struct edge *e, struct try *t)
{
    struct relay *r = relay_of(e, t);
    struct slice kept = blocks_slice(&e->blocks, t->sent);
    if (kept.n == 0 && r != NULL && t->kind == TRY_REQUEST && !t->abandoned && t->way == NO_WAY)
        kept = blocks_slice(&e->blocks, r->request);
    kept = scratch_copy(e, kept);
    if (kept.n == 0)
        return;
    try_send_bytes(e, t, kept);
    e->count.resends++;
    if (r != NULL && r->resent_out < UINT8_MAX)
        r->resent_out++;
}
