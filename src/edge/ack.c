/* SPDX-License-Identifier: Apache-2.0
 *
 * The ACK of a 2xx is end to end (RFC 3261 13.2.2.4): it is forwarded by the dialog's route,
 * without a transaction. Its branch is the same for each repeat (16.11) and names no try. An ACK
 * that no dialog of ours can have brought here costs one hash probe and is dropped. */
#include "edge/edge_int.h"

enum { STATELESS_WORKER = 255 };

/* Sends e->edits plus a Via of ours to one hop. */
static void ack_send(struct edge *e, struct hop hop, uint64_t loop_hash, uint64_t nonce)
{
    if (hop.listener == LISTENER_NONE)
        hop.listener = egress_for(e, &hop.addr, hop.transport, hop.side);
    if (hop.listener == LISTENER_NONE)
        return;
    if (hop.transport == TP_UDP && hop.fixed_flow &&
        !phones_match(e->phones, hop.listener, &hop.addr, hop.flow.slot)) {
        e->count.sends_failed++;
        return;
    }
    if (hop.transport != TP_UDP && !hop.fixed_flow) {
        struct flow *flow = flow_for(e, &hop);
        if (flow == NULL) {
            e->count.sends_failed++;
            return;
        }
        hop.flow = flow->id;
    }
    struct branch b = {.worker = STATELESS_WORKER,
                       .process_generation = e->process_generation,
                       .of = {UINT32_MAX, 0},
                       .nonce = nonce & 0xffffffffffffULL,
                       .loop_hash = loop_hash,
                       .alias = hop.alias};
    struct text line = scratch_text(e, 512);
    put_via(e, &line, hop.transport, hop.listener, &b);
    TEXT_LIT(&line, "\r\n");
    scratch_keep(e, &line);
    sip_push_via(&e->edits, text_slice(&line));
    size_t size = sip_edits_size(&e->edits);
    char *p = arena_take(&e->out->scratch, size, 1);
    int n = p != NULL ? sip_serialise_flat(&e->edits, p, size) : -1;
    if (n < 0)
        return;
    e->count.acks_forwarded++;
    struct try t = {.hop = hop, .kind = TRY_REQUEST};
    try_send_bytes(e, &t, slice_of(p, (size_t)n));
}

/* The dialog's other end is a name: the ACK waits for the resolver in a relay of its own, which
 * matches nothing and answers nobody. */
static void ack_by_name(struct edge *e, const struct where *w, uint64_t loop_hash, uint64_t nonce)
{
    handle h;
    struct relay *r = slab_take(&e->relays, &h);
    if (r == NULL) {
        e->count.transactions_refused++;
        return;
    }
    r->timer.at = MONO_NONE;
    r->request = r->response = r->log = r->hops = BLOCK_NONE;
    r->first_try = NO_TRY;
    r->pool = NO_POOL;
    r->method = SIP_M_ACK;
    r->inside_only = w->inside_only;
    r->answered = true;
    r->loop_hash = loop_hash;
    r->call_hash = nonce;
    r->server = (struct txn){.kind = TXN_INVITE_SERVER,
                             .state = TXN_ACCEPTED,
                             .retransmit_at = MONO_NONE,
                             .timeout_at = mono_add(e->now, 64 * e->opts->timers.t1)};
    struct slice bytes;
    if (keep_edited(e, r, &bytes) != 0) {
        relay_free(e, r);
        return;
    }
    relay_resolve(e, r, w, 0);
}

void ack_resolved(struct edge *e, struct relay *r, const struct event *ev)
{
    for (unsigned i = 0; i < ev->addr_count; i++) {
        const struct resolved *to = &ev->addrs[i];
        if (!addr_is_unicast(&to->addr) || (r->inside_only && !outsider_may_reach(e, &to->addr)))
            continue;
        struct hop hop = {.addr = to->addr,
                          .transport = to->transport,
                          .side = is_trusted(e, &to->addr) ? SIDE_INSIDE : SIDE_OUTSIDE,
                          .listener = LISTENER_NONE};
        if (edits_from_kept(e, r))
            ack_send(e, hop, r->loop_hash, r->call_hash);
        break;
    }
    relay_free(e, r);
}

/* What keeps ACKs from going in circles. False: it goes no further. */
static bool ack_may_go(struct edge *e, uint64_t *ret_loop_hash, uint64_t *ret_nonce)
{
    *ret_loop_hash = loop_hash_of(e, &e->msg, &e->facts);
    *ret_nonce = siphash(&e->seed, e->facts.via.branch.p, e->facts.via.branch.n);
    if (guard_hops(e->facts.max_forwards, e->opts->hops_max) >= 0 &&
        !loops_here(&e->msg, *ret_loop_hash))
        return true;
    e->count.loops++;
    return false;
}

/* By the dialog's route: its Route set, checked as that of any request. */
void ack_forward(struct edge *e, const struct origin *from)
{
    uint64_t loop_hash, nonce;
    if (!ack_may_go(e, &loop_hash, &nonce))
        return;
    struct where w;
    route_request(e, from, &w);
    if (w.kind == WHERE_REFUSED || w.kind == WHERE_POOL || w.kind == WHERE_ROLE) {
        e->count.acks_unmatched++;
        shed_note(e, from, GUARD_REQUESTS);
        return;
    }
    edit_hops(e);
    if (w.kind == WHERE_NAME)
        ack_by_name(e, &w, loop_hash, nonce);
    else
        ack_send(e, w.hop, loop_hash, nonce);
}

/* To where its INVITE went. */
void ack_follow(struct edge *e, const struct origin *from, const struct hop *hop)
{
    uint64_t loop_hash, nonce;
    if (!ack_may_go(e, &loop_hash, &nonce))
        return;
    edits_begin(e, &e->msg, 0);
    sip_stamp_via(&e->edits, &e->facts, &from->source, &e->out->scratch);
    edit_hops(e);
    ack_send(e, *hop, loop_hash, nonce);
}
