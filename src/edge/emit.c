/* SPDX-License-Identifier: Apache-2.0
 *
 * Actions: what this step wants done. */
#include "edge/edge_int.h"

struct action *emit(struct edge *e, enum action_kind kind)
{
    MUST(e->out->count < STEP_ACTIONS_MAX);
    struct action *a = &e->out->a[e->out->count++];
    memset(a, 0, offsetof(struct action, hand));
    a->kind = (uint8_t)kind;
    return a;
}

/* A writer on the step's scratch, at most `cap` bytes; scratch_keep() claims what was written. */
struct text scratch_text(struct edge *e, size_t cap)
{
    struct arena *a = &e->out->scratch;
    size_t left = a->cap - a->used;
    return text_into(a->p + a->used, left < cap ? left : cap);
}

void scratch_keep(struct edge *e, const struct text *t)
{
    e->out->scratch.used += text_slice(t).n;
}

/* Kept bytes, copied to where they live until they are sent: a block may be written over in the
 * same batch. Empty when there is no room, or nothing to copy. */
struct slice scratch_copy(struct edge *e, struct slice bytes)
{
    struct text t = scratch_text(e, bytes.n);
    text_put(&t, bytes);
    if (!text_fits(&t))
        return SLICE_NONE;
    scratch_keep(e, &t);
    return text_slice(&t);
}

void emit_bytes(struct edge *e, struct action *a, struct slice bytes)
{
    MUST(e->out->iov_count < STEP_IOV_MAX);
    a->iov = e->out->iov_count;
    a->iov_count = 1;
    e->out->iov[e->out->iov_count++] = (struct iovec){(void *)(uintptr_t)bytes.p, bytes.n};
}

void emit_udp(struct edge *e, uint8_t listener, const struct addr *dest, struct slice bytes)
{
    /* A listener may have gone with a reload since. */
    if (!addr_is_unicast(dest) || bytes.n > UDP_DATAGRAM_BYTES_MAX || listener >= LISTENERS_MAX ||
        !e->opts->listener[listener].used) {
        e->count.sends_failed++;
        return;
    }
    struct action *a = emit(e, ACT_SEND);
    a->listener = listener;
    a->dest = *dest;
    emit_bytes(e, a, bytes);
    e->count.messages_out++;
}

/* Gives `head`, and the bytes behind it, to another worker. */
void emit_hand(struct edge *e, uint32_t to, struct hand head, struct slice bytes)
{
    struct action *a = emit(e, ACT_HANDOVER);
    a->worker = (uint8_t)to;
    a->hand = head;
    a->hand.from_worker = (uint8_t)e->worker;
    a->hand.len = (uint32_t)bytes.n;
    emit_bytes(e, a, bytes);
    e->count.handed_over++;
}

void emit_flow(struct edge *e, struct flow_id flow, struct slice bytes)
{
    if (flow.worker != e->worker) {
        if (flow.worker >= e->workers)
            return;
        emit_hand(e, flow.worker, (struct hand){.kind = HAND_SEND, .flow = flow}, bytes);
        return;
    }
    struct flow *w = flow_get(e->flows, flow);
    if (w == NULL) {
        e->count.sends_failed++;
        return;
    }
    struct action *a = emit(e, ACT_SEND_FLOW);
    a->flow = flow;
    emit_bytes(e, a, bytes);
    w->messages_out++;
    e->count.messages_out++;
}

/* To the phone that a flow over UDP names: by the worker that hears it, which knows whether it is
 * still there (see edge_on_send()). */
void emit_phone(struct edge *e, const struct hop *hop, struct slice bytes)
{
    if (hop->flow.worker == e->worker || hop->flow.worker >= e->workers) {
        emit_udp(e, hop->listener, &hop->addr, bytes);
        return;
    }
    struct hand head = {.kind = HAND_SEND,
                        .listener = hop->listener,
                        .transport = TP_UDP,
                        .flow = hop->flow,
                        .source = hop->addr};
    emit_hand(e, hop->flow.worker, head, bytes);
}

/* Back to where something came from: the same connection for streams; the source address, whatever
 * the Via says, for datagrams (RFC 3581 for everybody). */
void emit_to(struct edge *e, const struct origin *to, struct slice bytes)
{
    if (to->transport == TP_UDP)
        emit_udp(e, to->listener, &to->source, bytes);
    else
        emit_flow(e, to->flow, bytes);
}

void emit_notice(struct edge *e, enum notice n, struct slice text)
{
    struct action *a = emit(e, ACT_NOTICE);
    a->notice = (uint16_t)n;
    struct text t = scratch_text(e, 512);
    text_put(&t, slice_take(text, 512));
    scratch_keep(e, &t);
    a->text = text_slice(&t);
}

void emit_close(struct edge *e, struct flow_id flow)
{
    struct flow *w = flow_get(e->flows, flow);
    if (w != NULL)
        w->closing = true;
    emit(e, ACT_CLOSE)->flow = flow;
}

/* Gives an event to another worker as it came. */
void emit_handover(struct edge *e, const struct event *ev, uint32_t to, unsigned hops)
{
    struct hand head = {.kind = ev->kind,
                        .listener = ev->listener,
                        .transport = ev->transport,
                        .hops = (uint16_t)hops,
                        .flow = ev->flow,
                        .source = ev->source,
                        .arrived_wall_ns = ev->wall_ns};
    emit_hand(e, to, head, ev->bytes);
}
