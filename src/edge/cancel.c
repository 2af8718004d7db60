/* SPDX-License-Identifier: Apache-2.0
 *
 * Ending tries that are not wanted any more (RFC 3261 9.1, 16.10). A CANCEL may leave only after a
 * provisional has come; until then the wish is remembered. What waits for a connection that is only
 * being made has not left at all: nobody has to be told. */
#include "edge/edge_int.h"

enum { CANCEL_ACTIONS_ROOM = 8 };

/* Is its request still in the queue of a connection that is being made? */
static bool has_not_left(struct edge *e, const struct try *t)
{
    const struct flow *w = t->on_flow ? flow_get(e->flows, t->hop.flow) : NULL;
    return t->client.state == TXN_CALLING && w != NULL && w->connecting;
}

/* Nobody else waits for that connection: without it the request never leaves. Else it does, and its
 * CANCEL follows the first provisional. */
static void withdraw(struct edge *e, struct try *t)
{
    struct flow *w = flow_get(e->flows, t->hop.flow);
    if (w == NULL || w->closing || w->open != 1 ||
        e->out->count + CANCEL_ACTIONS_ROOM > STEP_ACTIONS_MAX)
        return;
    emit_close(e, w->id);
}

void try_cancel(struct edge *e, struct try *t)
{
    if (t->client.state == TXN_CALLING) {
        t->want_cancel = true;
        if (has_not_left(e, t))
            withdraw(e, t);
        return;
    }
    struct relay *r = relay_of(e, t);
    if (t->client.state != TXN_PROCEEDING || t->cancel_sent || r == NULL)
        return;
    if (e->out->count + CANCEL_ACTIONS_ROOM > STEP_ACTIONS_MAX) {
        /* A fork has more branches than a step has room: this one's timer sees to it. */
        t->want_cancel = true;
        wheel_arm(&e->wheel, &t->timer, e->now);
        return;
    }
    if (!try_index_sent(e, r, t))
        return;
    t->want_cancel = false;
    t->cancel_sent = true;
    struct slice line = via_line(e, t);
    struct text out = scratch_text(e, SIP_HEAD_BYTES_MAX);
    if (sip_write_cancel(&out, &e->kept, line) != 0)
        return;
    scratch_keep(e, &out);
    handle h;
    struct try *c = try_new(e, r, TRY_CANCEL, &h);
    if (c != NULL) {
        c->hop = t->hop;
        c->method = SIP_M_CANCEL;
        t->cancel = h;
        txn_start(&c->client, TXN_OTHER_CLIENT, transport_is_reliable(t->hop.transport),
                  &e->opts->timers, e->now);
        if (!c->client.reliable && blocks_keep(&e->blocks, text_slice(&out), &c->sent) != 0)
            c->sent = BLOCK_NONE;
        try_arm(e, c);
    }
    /* Without room for a transaction it is sent once: better than ringing on. */
    try_send_bytes(e, t, text_slice(&out));
}

/* Of no use any more. A branch of a fork that was not heard of yet goes on asking for as long as it
 * is kept: perhaps its provisional was lost, and then nothing else tells the phone to stop ringing
 * (RFC 3261 9.1). */
static void outlive(struct edge *e, struct try *t)
{
    mono_ns again = t->client.retransmit_at;
    try_outlive(e, t);
    if (t->way == NO_WAY || !t->want_cancel)
        return;
    t->client.retransmit_at = again;
    try_arm(e, t);
}

void relay_cancel_tries(struct edge *e, struct relay *r, const struct try *except)
{
    if (r->method != SIP_M_INVITE && !r->forks)
        return;
    uint32_t slot = r->first_try;
    while (slot != NO_TRY) {
        struct try *t = try_at(e, slot);
        slot = t->older;
        if (t != except && t->kind == TRY_REQUEST && !txn_is_final(&t->client)) {
            if (r->method == SIP_M_INVITE)
                try_cancel(e, t);
            if (r->answered)
                outlive(e, t);
            else if (!t->abandoned)
                t->no_answer_at = MONO_NONE;
        }
    }
}

/* Upstream has cancelled. What was sent gets a CANCEL; if nothing was, there is nothing to wait
 * for. RFC 3261 9.1: 64·T1 later the matter is closed even if no 487 came. */
void relay_cancelled(struct edge *e, struct relay *r)
{
    struct try *t = newest_try(e, r);
    if (r->method != SIP_M_INVITE)
        return;
    if (r->forks) {
        fork_cancelled(e, r);
        return;
    }
    if (t == NULL || t->abandoned || has_not_left(e, t)) {
        log_end(e, r, 487, 'C', phase_of(e, r), SLICE_NONE);
        relay_answer(e, r, 487, SLICE_NONE, SLICE_NONE);
        relay_cancel_tries(e, r, NULL);
        return;
    }
    r->give_up_at = mono_add(e->now, 64 * e->opts->timers.t1);
    bool waits = t->client.state == TXN_CALLING && r->pool != NO_POOL;
    mono_ns no_answer_at = t->no_answer_at;
    relay_cancel_tries(e, r, NULL);
    if (waits)
        t->no_answer_at = no_answer_at; /* silent so far: the try timeout still ends it */
    relay_arm(e, r);
}
