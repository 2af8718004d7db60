/* SPDX-License-Identifier: Apache-2.0
 *
 * Responses (RFC 3261 16.7): matched by our branch, passed up without their top Via, or a reason to
 * fail over. */
#include "edge/edge_int.h"

/* ---- matching -------------------------------------------------------------------------------- */

static struct try *match(struct edge *e, const struct event *ev, unsigned hops)
{
    struct branch b;
    if (branch_parse(e->facts.via.branch, &b) != 0 || b.process_generation != e->process_generation)
        return NULL;
    if (b.worker != e->worker) {
        if (b.worker < e->workers && hops == 0) {
            emit_handover(e, ev, b.worker, 1);
            return NULL;
        }
        return NULL;
    }
    struct try *t = slab_get(&e->tries, b.of);
    if (t == NULL || t->nonce != b.nonce || t->kind == TRY_CANCEL)
        return NULL;
    if (e->facts.method == SIP_M_CANCEL && t->method != SIP_M_CANCEL)
        return slab_get(&e->tries, t->cancel);
    return e->facts.method == t->method ? t : NULL;
}

/* ---- up
 * -----------------------------------------------------------------------------------------------
 */

static struct slice without_via(struct edge *e)
{
    sip_edits_init(&e->edits, &e->msg);
    sip_pop_via(&e->edits, &e->facts);
    restore_contacts(e);
    edit_length(e);
    size_t size = sip_edits_size(&e->edits);
    char *p = arena_take(&e->out->scratch, size, 1);
    int n = p != NULL ? sip_serialise_flat(&e->edits, p, size) : -1;
    return n < 0 ? SLICE_NONE : slice_of(p, (size_t)n);
}

/* The target's 100 is hop by hop. Ours, if it has not gone yet, says the same and goes now: in its
 * words, if nobody outside has written them, for what its Vias say would be taken for ours (oc, RFC
 * 7339). */
static void pass_trying(struct edge *e, struct relay *r, const struct try *t)
{
    if (!r->trying_due || r->answered)
        return;
    if (t->hop.side == SIDE_OUTSIDE) {
        relay_answer(e, r, 100, SLICE_NONE, SLICE_NONE);
        return;
    }
    struct slice bytes = without_via(e);
    if (bytes.n > 0)
        relay_send_up(e, r, 100, bytes);
}

static void pass_provisional(struct edge *e, struct relay *r, struct try *t)
{
    int status = e->msg.status;
    if (r->method == SIP_M_INVITE && status > 100)
        r->timer_c_at = mono_add(e->now, e->opts->timer_c);
    if (t->want_cancel)
        try_cancel(e, t);
    if (status == 100) {
        /* Alive, but nothing rings yet: from now on the try lasts as long as its target shows signs
         * of life (see timer.c). */
        if (!t->heard_100 && !t->abandoned && t->no_answer_at != MONO_NONE && r->pool != NO_POOL) {
            dur_ns half = pools_opts(e->pools, r->pool)->failover.try_timeout / 2;
            t->no_answer_at = mono_add(e->now, half);
        }
        if (r->forks && !t->abandoned)
            t->no_answer_at = MONO_NONE; /* the phone itself says so */
        t->heard_100 = true;
        pass_trying(e, r, t);
        return;
    }
    if (t->abandoned) {
        /* We gave this one up: it must not ring beside the other. */
        if (r->method == SIP_M_INVITE)
            try_cancel(e, t);
        return;
    }
    t->heard_100 = true;
    t->rings = true;
    t->no_answer_at = MONO_NONE;
    if (r->forks)
        fork_rings(e, r, t);
#ifndef WEIR_PLANTED_BUG /* a build of the tests alone, which the simulator has to find out */
    r->ringing = true;
#endif
    r->give_up_at = r->cancelled ? r->give_up_at : MONO_NONE;
    if (r->first_us == UINT32_MAX)
        r->first_us = since_us(e->now, r->arrived);
    struct slice bytes = without_via(e);
    if (bytes.n > 0)
        relay_send_up(e, r, status, bytes);
}

static void pass_success(struct edge *e, struct relay *r, struct try *t)
{
    struct slice bytes = without_via(e);
    if (bytes.n == 0)
        return;
    r->target_status = e->msg.status;
    if (!r->answered) {
        shed_done(e, r);
        drain_note_answer(e, r, t);
    }
    if (r->method == SIP_M_REGISTER && r->phone != 0)
        phone_registered(e, r);
    if (r->first_us == UINT32_MAX)
        r->first_us = since_us(e->now, r->arrived);
    if (!r->answered) {
        /* Perhaps not the newest: the log and an ACK without a route follow who answered. */
        r->dest = t->hop.addr;
        r->transport_out = t->hop.transport;
        r->side_out = t->hop.side;
        log_end(e, r, e->msg.status, '-', 'D', SLICE_NONE);
        relay_send_up(e, r, e->msg.status, bytes);
    } else if (r->method == SIP_M_INVITE) {
        /* A 2xx more: of a fork downstream, repeated, or late. The caller must see each of them
         * (16.7 step 5), whatever became of the server transaction. */
        emit_to(e, &r->from, bytes);
    }
    if (r->method == SIP_M_INVITE || r->forks)
        relay_cancel_tries(e, r, t);
}

static bool moves_on(const struct edge *e, const struct relay *r, int status)
{
    if (r->pool == NO_POOL)
        return status == 503 && r->hop_next < r->hop_count;
    const struct pool_opts *o = pools_opts(e->pools, r->pool);
    for (int i = 0; i < o->failover.on_count; i++)
        if (o->failover.on[i] == status)
            return true;
    return false;
}

static enum pool_outcome outcome_of(int status)
{
    switch (status) {
    case 503:
        return POOL_OVERLOADED;
    case 408:
        return POOL_TIMED_OUT;
    case 430:
        return POOL_LOST;
    default:
        return POOL_ANSWERED;
    }
}

/* Retry-After in seconds, its comment and parameters ignored; 0 when absent or unreadable. */
static dur_ns retry_after_of(const struct sip_msg *m)
{
    enum { RETRY_AFTER_MAX_S = 3600 };
    struct slice v = sip_header_value(m, SIP_H_RETRY_AFTER);
    size_t n = 0;
    while (n < v.n && v.p[n] >= '0' && v.p[n] <= '9')
        n++;
    uint64_t seconds;
    if (text_parse_u64(slice_take(v, n), RETRY_AFTER_MAX_S, &seconds) != 0)
        return 0;
    return seconds * NS_S;
}

/* A final that is not a success, of the newest try. */
static void pass_failure(struct edge *e, struct relay *r, struct try *t)
{
    int status = e->msg.status;
    if (r->answered || t->abandoned) {
        try_judge(e, t, outcome_of(status), 0);
        return;
    }
    if (r->forks) {
        try_judge(e, t, outcome_of(status), 0);
        fork_failed(e, r, t, without_via(e));
        return;
    }
    /* Cancelled, it moves nowhere either, but then the answer is 487. */
    if (!r->ringing && moves_on(e, r, status)) {
        try_failed(e, t, outcome_of(status), retry_after_of(&e->msg), status);
        return;
    }
    try_judge(e, t, outcome_of(status), retry_after_of(&e->msg));
    if (r->method == SIP_M_BYE) /* refused or not, that call is over */
        drain_note_answer(e, r, t);
    if (status == 404)
        shed_note(e, &r->from, GUARD_SCANS);
    r->target_status = (uint16_t)status;
    char who = r->cancelled ? 'C' : 'S';
    /* Never passed as they are: 503 would make upstream shun us for a target's trouble (16.7), and
     * 408 to a non-INVITE may come too late to be of use (RFC 4320). */
    if (status == 503 || (status == 408 && r->method != SIP_M_INVITE)) {
        log_end(e, r, 500, who, phase_of(e, r), SLICE_NONE);
        struct slice reason =
            status == 503 ? SLICE("Reason: SIP;cause=503\r\n") : SLICE("Reason: SIP;cause=408\r\n");
        relay_answer(e, r, 500, SLICE_NONE, reason);
        return;
    }
    struct slice bytes = without_via(e);
    if (bytes.n == 0)
        return;
    log_end(e, r, status, who, phase_of(e, r), SLICE_NONE);
    relay_send_up(e, r, status, bytes);
}

/* ---- ACK of a failure ------------------------------------------------------------------------ */

/* RFC 3261 17.1.1.3: built once from the request and this response, sent again for each repeat. */
static void ack_failure(struct edge *e, struct relay *r, struct try *t)
{
    bool forked = t->way != NO_WAY;
    if (blocks_slice(&e->blocks, t->sent).n > 0 && (!forked || t->acked)) {
        try_resend(e, t);
        return;
    }
    if (!try_index_sent(e, r, t))
        return;
    struct slice line = via_line(e, t);
    struct text out = scratch_text(e, SIP_HEAD_BYTES_MAX);
    if (sip_write_ack(&out, &e->kept, line, e->facts.to) != 0)
        return;
    scratch_keep(e, &out);
    t->acked = forked;
    blocks_release(&e->blocks, &t->sent);
    if (!t->client.reliable && blocks_keep(&e->blocks, text_slice(&out), &t->sent) != 0)
        t->sent = BLOCK_NONE;
    try_send_bytes(e, t, text_slice(&out));
}

void edge_on_response(struct edge *e, const struct event *ev, unsigned hops)
{
    e->count.responses_in++;
    struct sip_fault fault;
    if (sip_check_response(&e->msg, &e->facts, &fault) != 0) {
        e->count.responses_bad++;
        return;
    }
    if (keepalive_takes_pong(e, ev, hops))
        return;
    uint64_t handed = e->count.handed_over;
    struct try *t = match(e, ev, hops);
    if (t == NULL) {
        e->count.responses_stray += e->count.handed_over == handed;
        return;
    }
    oc_heard(e, t, ev);
    if (!handle_is_none(t->hop.target))
        pool_heard(e->pools, t->hop.target, e->now);
    unsigned todo = txn_recv_response(&t->client, e->msg.status, &e->opts->timers, e->now);
    struct relay *r = relay_of(e, t);
    if (t->kind == TRY_PROBE && (todo & TXN_DO_PASS) && e->msg.status >= 200) {
        probe_answered(e, t, e->msg.status);
        return;
    }
    if (t->kind == TRY_REQUEST && r != NULL) {
        handle h = slab_handle(&e->tries, t), of = slab_handle(&e->relays, r);
        if (todo & TXN_DO_ACK)
            ack_failure(e, r, t);
        if ((todo & TXN_DO_PASS) && e->msg.status < 200)
            pass_provisional(e, r, t);
        else if ((todo & TXN_DO_PASS) && e->msg.status < 300) {
            try_judge(e, t, POOL_ANSWERED, 0);
            pass_success(e, r, t);
        } else if (todo & TXN_DO_PASS)
            pass_failure(e, r, t);
        t = slab_get(&e->tries, h); /* a relay that ran out of room has taken its tries along */
        if (t != NULL && txn_is_final(&t->client)) {
            t->no_answer_at = MONO_NONE;
            try_leave_flow(e, t);
            if (t->way != NO_WAY && !t->acked) /* a 2xx, or no INVITE: nobody asks for it again */
                blocks_release(&e->blocks, &t->sent);
        }
        r = slab_get(&e->relays, of);
        if (r != NULL)
            relay_settle(e, r);
    }
    if (t == NULL)
        return;
    if (todo & TXN_DO_GONE)
        try_free(e, t);
    else if (txn_is_final(&t->client))
        try_arm_exactly(e, t);
    else
        try_arm(e, t);
}
