/* SPDX-License-Identifier: Apache-2.0
 *
 * TCP as a program sees it: bytes in order, in pieces of any size, late, and sometimes no more. A
 * lost segment is a late one; a partition holds everything up until it ends.
 *
 *      SYN ──(refused: closed port │ nothing: black hole, sent again each second)
 *       └─▶ OPEN ──▶ segments, each cut where chance says ──▶ one end hangs up, or a reset: DEAD */
#include <errno.h>
#include <stdlib.h>
#include "sim.h"

#define HELD_UP (250 * NS_MS) /* until a segment is tried again over a cut link */

static struct conn *conn_of(struct world *w, uint32_t i, uint64_t gen)
{
    struct conn *c = &w->conn[i];
    return c->state != CONN_FREE && c->gen == gen ? c : NULL;
}

static unsigned index_of(const struct world *w, const struct conn *c)
{
    return (unsigned)(c - w->conn);
}

bool stream_is_open(const struct world *w, struct conn_ref r)
{
    return r.i >= 0 && w->conn[r.i].gen == r.gen && w->conn[r.i].state == CONN_OPEN;
}

static void release_if_over(struct conn *c)
{
    if (!c->end[0].gone || !c->end[1].gone || c->state == CONN_FREE)
        return;
    free(c->early);
    free(c->end[0].in);
    free(c->end[1].in);
    *c = (struct conn){.gen = c->gen + 1};
}

static dur_ns draw_delay(struct world *w, unsigned from, unsigned to)
{
    struct link *l = &w->link[from][to];
    dur_ns d = l->latency + prng_below(&l->rnd, l->jitter + 1);
    if (prng_below(&l->rnd, 1000) < l->lost_permille)
        d += 200 * NS_MS + prng_below(&l->rnd, 800 * NS_MS);
    return d;
}

int stream_connect(struct world *w, unsigned node, const struct addr *src, const struct addr *dst,
                   dur_ns patience)
{
    for (int i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &w->conn[i];
        if (c->state != CONN_FREE)
            continue;
        c->state = CONN_SYN;
        c->opened_at = w->now;
        c->end[0].node = (uint16_t)node;
        c->end[0].addr = *src;
        c->end[1].addr = *dst;
        int to = net_node_at(w, dst);
        c->end[1].gone = true; /* until it accepts */
        c->end[1].node = (uint16_t)(to == NONE ? NODES_MAX : to);
        if (to != NONE)
            world_at(w, w->now + draw_delay(w, node, (unsigned)to), W_SYN, (unsigned)to,
                     (uint32_t)i, 0, c->gen, NULL);
        world_at(w, w->now + patience, W_CONNECT_LATE, node, (uint32_t)i, 0, c->gen, NULL);
        TRACE(w, node, "connects #%d to node %d", i, to);
        return i;
    }
    world_fail(w, "the simulated network ran out of connections");
    return NONE;
}

/* One piece of what `side` wrote, on its way to the other. */
static void send_piece(struct world *w, struct conn *c, unsigned side, const char *p, size_t n)
{
    struct conn_end *to = &c->end[1 - side];
    mono_ns at = w->now + draw_delay(w, c->end[side].node, to->node);
    if (at <= to->last_at)
        at = to->last_at + 1;
    to->last_at = at;
    world_at(w, at, W_SEGMENT, to->node, index_of(w, c), to->sent++ << 1 | (1 - side), c->gen,
             packet_new(&c->end[side].addr, &to->addr, p, n));
}

void stream_send(struct world *w, unsigned conn, unsigned side, const void *p, size_t n)
{
    struct conn *c = &w->conn[conn];
    trace_mix(w, (uint64_t)conn << 32 | n);
    trace_mix_bytes(w, p, n);
    if (c->state == CONN_SYN && side == 0) {
        c->early = realloc(c->early, c->early_n + n);
        MUST(c->early != NULL);
        memcpy(c->early + c->early_n, p, n);
        c->early_n += (uint32_t)n;
        return;
    }
    if (c->state != CONN_OPEN || c->end[side].gone)
        return;
    const char *at = p;
    uint64_t manner = draw(w, RND_STREAMS, 100);
    unsigned tiny = manner < 5 ? 64 : 0; /* byte by byte for a while */
    while (n > 0) {
        size_t piece = n;
        if (tiny > 0) {
            piece = 1;
            tiny--;
        } else if (manner < 40) {
            piece = 1 + draw(w, RND_STREAMS, n);
        }
        send_piece(w, c, side, at, piece);
        at += piece;
        n -= piece;
    }
}

static void hang_up_at(struct world *w, struct conn *c, unsigned side, int error, dur_ns delay)
{
    mono_ns at = w->now + delay;
    if (error == 0 && at <= c->end[side].last_at)
        at = c->end[side].last_at + 1;
    world_at(w, at, W_HUNG_UP, c->end[side].node, index_of(w, c), (uint32_t)error << 1 | side,
             c->gen, NULL);
}

void stream_close(struct world *w, unsigned conn, unsigned side)
{
    struct conn *c = &w->conn[conn];
    if (c->state == CONN_FREE || c->end[side].gone)
        return;
    /* A driver hears of its own close as well: only then is the flow gone. */
    hang_up_at(w, c, side, 0, 0);
    if (!c->end[1 - side].gone)
        hang_up_at(w, c, 1 - side, 0, draw_delay(w, c->end[side].node, c->end[1 - side].node));
    c->end[side].deaf = true;
}

void stream_reset(struct world *w, unsigned conn)
{
    struct conn *c = &w->conn[conn];
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_DEAD;
    for (unsigned side = 0; side < 2; side++) {
        if (!c->end[side].gone)
            hang_up_at(w, c, side, ECONNRESET,
                       draw_delay(w, c->end[1 - side].node, c->end[side].node));
    }
}

void stream_node_died(struct world *w, unsigned node)
{
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &w->conn[i];
        for (unsigned side = 0; side < 2 && c->state != CONN_FREE; side++) {
            if (c->end[side].node != node || c->end[side].gone)
                continue;
            c->end[side].gone = true;
            dur_ns notice = w->node[node].silent ? 10 * NS_S : 0;
            if (!c->end[1 - side].gone)
                hang_up_at(w, c, 1 - side, ECONNRESET,
                           notice + draw_delay(w, node, c->end[1 - side].node));
            release_if_over(c);
        }
    }
}

static void on_syn(struct world *w, struct occurrence *o, struct conn *c)
{
    unsigned from = c->end[0].node;
    struct node *n = &w->node[o->node];
    bool cut = w->link[from][o->node].cuts > 0 || w->link[o->node][from].cuts > 0;
    if (c->state != CONN_SYN)
        return;
    if (cut || (!n->up && n->silent)) {
        world_at(w, w->now + NS_S, W_SYN, o->node, o->a, 0, o->c, NULL);
        return;
    }
    dur_ns back = draw_delay(w, o->node, from);
    if (!n->up) {
        world_at(w, w->now + back, W_REFUSED, from, o->a, 0, o->c, NULL);
        return;
    }
    c->end[1].gone = false;
    c->state = CONN_OPEN;
    world_at(w, w->now + back, W_SYN_ACK, from, o->a, 0, o->c, NULL);
    c->end[0].last_at = w->now + back; /* nothing overtakes it */
    if (node_is_edge(o->node))
        edge_stream_opened(w, o->a, 1);
}

static void on_syn_ack(struct world *w, struct occurrence *o, struct conn *c)
{
    if (c->end[0].gone)
        return;
    if (node_is_edge(c->end[0].node))
        edge_stream_opened(w, o->a, 0);
    if (c->early_n > 0 && c->state == CONN_OPEN) {
        char *early = c->early;
        uint32_t n = c->early_n;
        c->early = NULL;
        c->early_n = 0;
        stream_send(w, o->a, 0, early, n);
        free(early);
    }
}

static void on_failure(struct world *w, struct occurrence *o, struct conn *c, int error)
{
    if (c->state != CONN_SYN)
        return;
    bool to_edge = node_is_edge(c->end[0].node) && !c->end[0].gone;
    TRACE(w, o->node, "connection #%u failed: %d", o->a, error);
    if (to_edge)
        edge_stream_failed(w, o->a, error);
    c->end[0].gone = true;
    release_if_over(c);
}

static void on_segment(struct world *w, struct occurrence *o, struct conn *c)
{
    unsigned side = o->b & 1;
    struct conn_end *to = &c->end[side];
    if (c->state != CONN_OPEN || to->gone)
        return;
    if (w->link[c->end[1 - side].node][to->node].cuts > 0 || to->seen != o->b >> 1) {
        world_at(w, w->now + HELD_UP, W_SEGMENT, o->node, o->a, o->b, o->c, o->packet);
        o->packet = NULL;
        return;
    }
    to->seen++;
    stream_feed(w, o->a, side, o->packet->bytes, o->packet->n);
}

static void on_hung_up(struct world *w, struct occurrence *o, struct conn *c)
{
    unsigned side = o->b & 1;
    int error = (int)(o->b >> 1);
    if (c->end[side].gone)
        return;
    if (error == 0 && c->state == CONN_OPEN && c->end[side].seen != c->end[side].sent &&
        !c->end[side].deaf) {
        world_at(w, w->now + HELD_UP, W_HUNG_UP, o->node, o->a, o->b, o->c, NULL);
        return;
    }
    TRACE(w, c->end[side].node, "connection #%u is gone: %d", o->a, error);
    c->end[side].gone = true;
    if (node_is_edge(c->end[side].node))
        edge_stream_closed(w, o->a, side, error);
    if (!c->end[1 - side].gone)
        hang_up_at(w, c, 1 - side, error, draw_delay(w, c->end[side].node, c->end[1 - side].node));
    release_if_over(c);
}

void stream_happen(struct world *w, struct occurrence *o)
{
    struct conn *c = conn_of(w, o->a, o->c);
    if (c != NULL) {
        switch (o->what) {
        case W_SYN:
            on_syn(w, o, c);
            break;
        case W_SYN_ACK:
            on_syn_ack(w, o, c);
            break;
        case W_REFUSED:
            on_failure(w, o, c, ECONNREFUSED);
            break;
        case W_CONNECT_LATE:
            on_failure(w, o, c, ETIMEDOUT);
            break;
        case W_SEGMENT:
            on_segment(w, o, c);
            break;
        default:
            on_hung_up(w, o, c);
            break;
        }
    }
    free(o->packet);
}

/* What a result of the framing means to an agent or a server. */
static void endpoint_result(struct world *w, unsigned conn, unsigned side, int result,
                            const char *p, size_t n)
{
    struct conn *c = &w->conn[conn];
    struct conn_ref ref = {(int32_t)conn, c->gen};
    if (result == SIP_FRAME_MESSAGE)
        endpoint_message(w, c->end[side].node, p, n, &c->end[1 - side].addr, ref);
    else if (result == SIP_FRAME_PING)
        stream_send(w, conn, side, "\r\n", 2);
    else if (result < 0)
        stream_reset(w, conn);
}

void stream_feed(struct world *w, unsigned conn, unsigned side, const void *p, size_t n)
{
    struct conn *c = &w->conn[conn];
    struct conn_end *e = &c->end[side];
    uint32_t gen = c->gen;
    if (e->deaf)
        return;
    if (e->in_n + n > e->in_cap) {
        e->in_cap = (uint32_t)(e->in_n + n + 2048);
        e->in = realloc(e->in, e->in_cap);
        MUST(e->in != NULL);
    }
    memcpy(e->in + e->in_n, p, n);
    e->in_n += (uint32_t)n;
    /* Ours while results are taken: the connection may die under them. */
    char *in = e->in;
    uint32_t have = e->in_n, cap = e->in_cap, at = 0;
    e->in = NULL;
    e->in_n = e->in_cap = 0;
    while (at < have && !w->failed) {
        size_t len = 0;
        int r = sip_frame(&e->framer, in + at, have - at, &len);
        if (r == SIP_FRAME_MORE)
            break;
        if (r < 0)
            e->deaf = true;
        if (node_is_edge(e->node))
            edge_stream_result(w, conn, side, r, in + at, len);
        else
            endpoint_result(w, conn, side, r, in + at, len);
        if (c->gen != gen || e->gone || e->deaf)
            break;
        at += (uint32_t)len;
    }
    if (c->gen == gen && !e->gone && !e->deaf && c->state != CONN_FREE) {
        memmove(in, in + at, have - at);
        e->in = in;
        e->in_n = have - at;
        e->in_cap = cap;
    } else {
        free(in);
    }
}
