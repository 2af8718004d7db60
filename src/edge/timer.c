/* SPDX-License-Identifier: Apache-2.0
 *
 * What time brings: retransmissions, tries without an answer, deadlines, ends of linger; and what
 * became of connections and datagrams. */
#include "edge/edge_int.h"

#define CONTAINER(node, type, field) ((type *)(void *)((char *)(node)-offsetof(type, field)))

mono_ns edge_deadline(const struct edge *e)
{
    mono_ns at = mono_min(wheel_deadline(&e->wheel), pool_deadline(e->pools));
    if (e->registrar != NULL)
        at = mono_min(at, registrar_deadline(e->registrar));
    return mono_min(at, mono_min(keepalive_deadline(e), drain_deadline(e)));
}

/* ---- relays ---------------------------------------------------------------------------------- */

/* One deadline over all tries has passed, or Timer C. */
static void relay_gives_up(struct edge *e, struct relay *r)
{
    if (r->forks) {
        fork_gives_up(e, r);
        return;
    }
    bool timer_c = e->now >= r->timer_c_at;
    r->give_up_at = MONO_NONE;
    r->timer_c_at = MONO_NONE;
    struct try *t = newest_try(e, r);
    if (r->cancelled) {
        relay_next(e, r, SLICE("Cancelled"), 0);
        return;
    }
    bool thinking = t != NULL && !t->abandoned && t->heard_100;
    if (thinking && !timer_c) {
        /* The target works on it: only Timer C or silence ends that. */
        r->timer_c_at = mono_add(r->arrived, e->opts->timer_c);
        return;
    }
    if (t != NULL && !t->abandoned) {
        try_judge(e, t, timer_c ? POOL_CANCELLED : POOL_NO_ANSWER, 0);
        if (r->method == SIP_M_INVITE)
            try_cancel(e, t);
        try_outlive(e, t);
    }
    if (timer_c) {
        log_end(e, r, 408, 'T', phase_of(e, r), SLICE("Timer C"));
        relay_answer(e, r, 408, SLICE_NONE, SLICE_NONE);
        return;
    }
    relay_next(e, r, r->resolving ? SLICE("No Answer From DNS") : SLICE("No Answer"), 0);
}

/* The connection that the request came by is gone, and answers go nowhere else: as if cancelled,
 * but with nobody to tell. */
static void caller_left(struct edge *e, struct relay *r)
{
    r->caller_gone = false;
    if (r->answered)
        return;
    log_end(e, r, 0, 'C', phase_of(e, r), SLICE("Caller Gone"));
    relay_ends_silently(e, r);
    relay_cancel_tries(e, r, NULL);
}

static void relay_due(struct edge *e, struct relay *r)
{
    handle h = slab_handle(&e->relays, r);
    if (r->storing && e->now >= r->give_up_at)
        role_store_silent(e, r);
    if (r->caller_gone && !r->storing)
        caller_left(e, r);
    if (r->fork_due && !r->answered)
        fork_go(e, r);
    if (!r->answered && !r->storing && (e->now >= r->give_up_at || e->now >= r->timer_c_at))
        relay_gives_up(e, r);
    r = slab_get(&e->relays, h);
    if (r == NULL)
        return;
    if (r->trying_due && !r->answered && e->now >= mono_add(r->arrived, e->opts->trying_delay)) {
        r->trying_due = false;
        relay_answer(e, r, 100, SLICE_NONE, SLICE_NONE);
    }
    unsigned todo = 0;
    if (e->now >= txn_deadline(&r->server))
        todo = txn_expire(&r->server, &e->opts->timers, e->now);
    if (todo & TXN_DO_RESEND)
        (void)relay_resend(e, r);
    if (relay_is_over(r))
        relay_free(e, r);
    else
        relay_arm(e, r);
}

/* ---- tries ----------------------------------------------------------------------------------- */

/* After a 100 a try lasts while its target shows signs of life. Half a try timeout of silence earns
 * the target a probe; a whole one without a word from it, on anything, ends the try. A target that
 * is killed right after its 100 costs a call one try timeout, and a slow one costs nothing. */
static bool target_is_alive(struct edge *e, struct relay *r, struct try *t)
{
    if (r->pool == NO_POOL)
        return false; /* its pool went with a reload */
    const struct pool_opts *o = pools_opts(e->pools, r->pool);
    mono_ns heard = 0;
    bool known = pool_last_heard(e->pools, t->hop.target, &heard);
    if (!o->health.on || !known) {
        t->no_answer_at = MONO_NONE; /* nothing to judge by: its 100 counts as an answer */
        return true;
    }
    mono_ns last = heard > t->sent_at ? heard : t->sent_at;
    dur_ns silent = mono_since(e->now, last);
    if (silent >= o->failover.try_timeout)
        return false;
    if (silent >= o->failover.try_timeout / 2) {
        pool_probe_soon(e->pools, t->hop.target, e->now);
        t->no_answer_at = mono_add(last, o->failover.try_timeout);
    } else {
        t->no_answer_at = mono_add(last, o->failover.try_timeout / 2);
    }
    return true;
}

/* Is there anybody else to ask? If not, this try may go on until the relay's deadline. Only looked
 * at: to choose one here would take its turn from it. */
static bool has_alternative(struct edge *e, const struct relay *r)
{
    if (r->pool == NO_POOL || r->tries >= pools_opts(e->pools, r->pool)->failover.tries)
        return false;
    bool panics = pool_panics(e->pools, r->pool);
    for (uint16_t i = 0; i < pools_opts(e->pools, r->pool)->target_count; i++) {
        struct pool_status s;
        if ((r->tried.bits[i / 64] >> (i % 64) & 1) == 0 &&
            pool_status(e->pools, pool_member(e->pools, r->pool, i), e->now, &s) &&
            (s.fit || (panics && s.admin == POOL_READY && s.addr.family != 0)))
            return true;
    }
    return false;
}

static void no_answer(struct edge *e, struct relay *r, struct try *t)
{
    if (t->abandoned) {
        try_free(e, t);
        return;
    }
    if (t->rings) {
        try_failed(e, t, POOL_REFUSED, 0, -1);
        return;
    }
    if (r->forks) {
        t->no_answer_at = MONO_NONE;
        if (!t->heard_100 && fork_has_alternative(e, r, t))
            try_failed(e, t, POOL_NO_ANSWER, 0, 0);
        return;
    }
    if (t->heard_100 && target_is_alive(e, r, t))
        return;
    t->no_answer_at = MONO_NONE;
    bool cancel = t->heard_100 && r->method == SIP_M_INVITE;
    if (!cancel && !r->cancelled && !has_alternative(e, r)) {
        try_judge(e, t, POOL_NO_ANSWER, 0);
        return;
    }
    if (cancel)
        try_cancel(e, t);
    try_failed(e, t, POOL_NO_ANSWER, 0, 0);
}

/* Its connection broke, or never came to be. */
static void broken(struct edge *e, struct relay *r, struct try *t)
{
    t->broken = false;
    if (txn_is_final(&t->client))
        return;
    if (t->rings && !t->abandoned) {
        /* It may come back on another connection; but not for long. */
        t->no_answer_at = mono_add(e->now, 4 * e->opts->timers.t1);
        return;
    }
    handle h = slab_handle(&e->tries, t);
    if (t->tcp_by_size && !t->heard_100 && !t->abandoned && !r->answered && !r->cancelled) {
        if (relay_retry_udp(e, r, t))
            return;
    }
    try_failed(e, t, POOL_REFUSED, 0, -1);
    t = slab_get(&e->tries, h);
    if (t != NULL)
        try_free(e, t);
}

static void request_due(struct edge *e, struct relay *r, struct try *t)
{
    handle h = slab_handle(&e->tries, t);
    if (t->broken)
        broken(e, r, t);
    else if (e->now >= t->no_answer_at)
        no_answer(e, r, t);
    t = slab_get(&e->tries, h);
    if (t == NULL)
        return;
    if (t->want_cancel && t->client.state == TXN_PROCEEDING)
        try_cancel(e, t);
    unsigned todo = 0;
    if (e->now >= txn_deadline(&t->client))
        todo = txn_expire(&t->client, &e->opts->timers, e->now);
    if (todo & TXN_DO_RESEND)
        try_resend(e, t);
    if (todo & TXN_DO_TIMEOUT)
        try_failed(e, t, POOL_NO_ANSWER, 0, 0);
    t = slab_get(&e->tries, h);
    if (t == NULL)
        return;
    if (todo & TXN_DO_GONE)
        try_free(e, t);
    else
        try_arm(e, t);
}

static void try_due(struct edge *e, struct try *t)
{
    struct relay *r = relay_of(e, t);
    if (t->kind == TRY_REQUEST && r != NULL) {
        request_due(e, r, t);
        return;
    }
    if (t->kind == TRY_PROBE && (t->broken || e->now >= t->no_answer_at)) {
        probe_failed(e, t);
        return;
    }
    unsigned todo = 0;
    if (e->now >= txn_deadline(&t->client))
        todo = txn_expire(&t->client, &e->opts->timers, e->now);
    if (todo & TXN_DO_RESEND)
        try_resend(e, t);
    if (todo & TXN_DO_GONE)
        try_free(e, t);
    else
        try_arm(e, t);
}

/* ---- everything that is due ------------------------------------------------------------------ */

static void tell_changes(struct edge *e)
{
    struct pool_change c;
    while (actions_have_room(e->out) && pool_next_change(e->pools, &c)) {
        struct text t = scratch_text(e, 400);
        text_put(&t, pools_opts(e->pools, c.pool)->name);
        if (!handle_is_none(c.target)) {
            struct pool_status s;
            if (!pool_status(e->pools, c.target, e->now, &s))
                continue;
            bool is_back = c.what == POOL_CAME_UP || c.what == POOL_BACK;
            if (is_back && (!s.up || s.ejected))
                continue; /* back from one, still held by the other: that one's end is told */
            text_put_char(&t, ' ');
            text_put(&t, s.uri);
            text_put_char(&t, ' ');
            pool_explain(e->pools, c.target, e->now, &t);
        }
        scratch_keep(e, &t);
        static const enum notice id[] = {
            [POOL_WENT_DOWN] = NOTICE_TARGET_DOWN,  [POOL_CAME_UP] = NOTICE_TARGET_UP,
            [POOL_EJECTED] = NOTICE_TARGET_EJECTED, [POOL_BACK] = NOTICE_TARGET_UP,
            [POOL_PANICS] = NOTICE_POOL_PANIC,      [POOL_CALMED] = NOTICE_POOL_CALM};
        emit_notice(e, id[c.what], text_slice(&t));
    }
}

void edge_on_timer(struct edge *e)
{
    struct wheel_node *n;
    while (actions_have_room(e->out) && (n = wheel_expire(&e->wheel, e->now)) != NULL) {
        /* Both kinds begin with their timer; the slab that holds the node tells which it is. */
        const char *at = (const char *)n;
        bool is_relay = at >= e->relays.objects &&
                        at < e->relays.objects + (size_t)e->relays.size * e->relays.count;
        if (is_relay)
            relay_due(e, CONTAINER(n, struct relay, timer));
        else
            try_due(e, CONTAINER(n, struct try, timer));
    }
    probes_run(e);
    role_expire(e);
    keepalive_run(e);
    drain_run(e);
    tell_changes(e);
}

enum { OWNERS_AT_ONCE = 8 };

/* ---- connections ----------------------------------------------------------------------------- */

/* What a certificate proved about the peer. */
static void name_flow(struct edge *e, const struct event *ev)
{
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w != NULL && ev->bytes.n > 0)
        flow_set_name(e->flows, w, ev->bytes);
}

void edge_on_flow_opened(struct edge *e, const struct event *ev)
{
    if (ev->flow.slot & FLOW_OUT) {
        struct flow *w = flow_get(e->flows, ev->flow);
        if (w == NULL)
            return;
        w->connecting = false;
        name_flow(e, ev);
        flow_connect_result(e->flows, w, true, e->now);
        return;
    }
    uint8_t side = side_of(e, ev->listener, &ev->source, ev->flow);
    if (flow_accepted(e->flows, ev->flow, &ev->source, ev->listener, ev->transport, side, e->now) ==
        NULL)
        emit(e, ACT_CLOSE)->flow = ev->flow;
    else
        e->count.flows_accepted++;
    name_flow(e, ev);
}

/* Tells the workers that were handed what came over it: their bindings and calls end with it. The
 * last one that a step has room for tells the rest. */
static void tell_owners(struct edge *e, struct flow_id flow, uint64_t owners)
{
    for (unsigned told = 0; owners != 0 && told < OWNERS_AT_ONCE; told++) {
        uint32_t to = (uint32_t)__builtin_ctzll(owners);
        owners &= owners - 1;
        struct hand head = {.kind = HAND_FLOW_GONE,
                            .flow = flow,
                            .arrived_wall_ns = told + 1 == OWNERS_AT_ONCE ? owners : 0};
        emit_hand(e, to, head, SLICE_NONE);
    }
}

/* A connection may carry thousands of tries: each is marked here and judged by its timer, so that
 * one step stays short. */
static void try_breaks(struct edge *e, struct try *t)
{
    try_leave_flow(e, t);
    t->broken = true;
    wheel_arm(&e->wheel, &t->timer, e->now);
}

static void asker_breaks(struct edge *e, struct relay *r)
{
    relay_leave_flow(e, r);
    r->caller_gone = true;
    wheel_arm(&e->wheel, &r->timer, e->now);
}

static void flow_breaks(struct edge *e, struct flow *w)
{
    w->closing = true;
    while (w->users != FLOW_END)
        try_breaks(e, try_at(e, w->users));
    while (w->askers != FLOW_END)
        asker_breaks(e, relay_at(e, w->askers));
    tell_owners(e, w->id, w->owners);
    role_flow_gone(e, w->id);
    flow_forget(e->flows, w);
}

/* What was handed to us from there, and what we sent there. */
void edge_on_flow_gone(struct edge *e, struct flow_id flow, uint64_t others)
{
    if (flow.worker == e->worker)
        return;
    tell_owners(e, flow, others);
    const struct remote *at = &e->remote[flow.gen % REMOTE_FLOWS];
    for (uint32_t slot = at->users; slot != FLOW_END;) {
        struct try *t = try_at(e, slot);
        slot = t->flow_next;
        if (flow_id_equal(t->hop.flow, flow))
            try_breaks(e, t);
    }
    for (uint32_t slot = at->askers; slot != FLOW_END;) {
        struct relay *r = relay_at(e, slot);
        slot = r->flow_next;
        if (flow_id_equal(r->from.flow, flow))
            asker_breaks(e, r);
    }
    role_flow_gone(e, flow);
}

void edge_on_flow_closed(struct edge *e, const struct event *ev)
{
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w != NULL)
        flow_breaks(e, w);
}

void edge_on_connect_failed(struct edge *e, const struct event *ev)
{
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w == NULL)
        return;
    if (!w->closing) { /* else we took it back ourselves, which says nothing about the peer */
        e->count.connects_failed++;
        flow_connect_result(e->flows, w, false, e->now);
    }
    flow_breaks(e, w);
}

/* The first branch of ours in the beginning of a message. */
static int branch_within(struct slice s, struct branch *ret_branch)
{
    while (s.n > 0) {
        s = slice_drop(s, slice_find(s, ';') + 1);
        if (slice_starts_with(s, SLICE("branch=")) &&
            branch_parse(slice_take(slice_drop(s, 7), BRANCH_TEXT_BYTES), ret_branch) == 0)
            return 0;
    }
    return -1;
}

/* The network says that nobody listens there. The echoed datagram begins with our request, and so
 * our Via with the branch: the very try is known. */
void edge_on_unreachable(struct edge *e, const struct event *ev)
{
    struct branch b;
    if (branch_within(slice_take(ev->bytes, 1024), &b) != 0 ||
        b.process_generation != e->process_generation)
        return;
    if (b.worker != e->worker) {
        if (b.worker < e->workers)
            emit_handover(e, ev, b.worker, 1);
        return;
    }
    struct try *t = slab_get(&e->tries, b.of);
    if (t == NULL || t->nonce != b.nonce)
        return;
    bool by_flow = ev->flow.gen != 0 && flow_id_equal(t->hop.flow, ev->flow);
    bool by_udp =
        ev->flow.gen == 0 && t->hop.transport == TP_UDP && addr_equal(&t->hop.addr, &ev->source);
    if (!by_flow && !by_udp)
        return;
    t->broken = true;
    wheel_arm(&e->wheel, &t->timer, e->now);
}

/* When that connection is gone, whoever wants to send there has to hear of it; or that phone. */
void edge_on_send(struct edge *e, const struct event *ev)
{
    bool there;
    if (ev->flow.gen == 0) {
        there = phones_match(e->phones, ev->listener, &ev->source, ev->flow.slot);
        if (there)
            emit_udp(e, ev->listener, &ev->source, ev->bytes);
    } else {
        emit_flow(e, ev->flow, ev->bytes);
        shed_done_elsewhere(e, ev->flow, ev->bytes);
        there = flow_get(e->flows, ev->flow) != NULL;
    }
    if (there)
        return;
    struct event gone = {.kind = EV_UNREACHABLE,
                         .flow = ev->flow,
                         .source = ev->source,
                         .bytes = slice_take(ev->bytes, 1024)};
    edge_on_unreachable(e, &gone);
}

void edge_on_resolved(struct edge *e, const struct event *ev)
{
    relay_resolved(e, ev);
}
