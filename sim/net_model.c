/* SPDX-License-Identifier: Apache-2.0
 *
 * Datagrams. Each link draws from a stream of its own: what befalls a datagram here does not depend
 * on how many were sent elsewhere. */
#include <errno.h>
#include <stdlib.h>
#include "sim.h"

enum { ICMP_QUOTE_BYTES_MAX = 520 }; /* what a router gives back of a datagram */

struct packet *packet_new(const struct addr *src, const struct addr *dst, const void *p, size_t n)
{
    struct packet *k = malloc(sizeof *k + n);
    MUST(k != NULL && n <= SIP_MESSAGE_BYTES_MAX + sizeof(struct hand));
    k->src = *src;
    k->dst = *dst;
    k->n = (uint32_t)n;
    if (n > 0)
        memcpy(k->bytes, p, n);
    return k;
}

int net_node_at(const struct world *w, const struct addr *a)
{
    for (int i = 0; i < NODES_MAX; i++) {
        if (w->node[i].addr[0].family != 0 && addr_equal(&w->node[i].addr[0], a))
            return i;
        if (w->node[i].addr[1].family != 0 && addr_equal(&w->node[i].addr[1], a))
            return i;
    }
    return NONE;
}

static dur_ns draw_delay(struct link *l)
{
    dur_ns d = l->latency + prng_below(&l->rnd, l->jitter + 1);
    if (prng_below(&l->rnd, 1000) < l->late_permille)
        d += prng_below(&l->rnd, 900 * NS_MS);
    return d;
}

void net_datagram(struct world *w, unsigned sender, unsigned worker, unsigned listener,
                  struct packet *packet)
{
    w->sum.datagrams++;
    trace_mix(w, (uint64_t)sender << 32 | packet->n);
    trace_mix_bytes(w, packet->bytes, packet->n);
    int to = net_node_at(w, &packet->dst);
    if (to == NONE) {
        trace_message(w, sender, "-x", &packet->dst, packet->bytes, packet->n);
        free(packet);
        return;
    }
    struct link *l = &w->link[sender][to];
    uint32_t from = (uint32_t)(sender << 16 | worker << 8 | listener);
    bool lost = prng_below(&l->rnd, 1000) < l->lost_permille;
    bool doubled = prng_below(&l->rnd, 1000) < l->doubled_permille;
    dur_ns delay = draw_delay(l), delay_twin = draw_delay(l);
    if (l->cuts > 0 || lost) {
        trace_message(w, sender, l->cuts > 0 ? "-|" : "-?", &packet->dst, packet->bytes, packet->n);
        free(packet);
        return;
    }
    trace_message(w, sender, "->", &packet->dst, packet->bytes, packet->n);
    if (doubled)
        world_at(w, w->now + delay_twin, W_DATAGRAM, (unsigned)to, from, 0, 0,
                 packet_new(&packet->src, &packet->dst, packet->bytes, packet->n));
    world_at(w, w->now + delay, W_DATAGRAM, (unsigned)to, from, 0, 0, packet);
}

/* Nobody listens there: an edge hears about it, if the way back is open. */
static void tell_unreachable(struct world *w, struct occurrence *o)
{
    unsigned sender = o->a >> 16;
    struct link *back = &w->link[o->node][sender];
    if (!node_is_edge(sender) || w->node[o->node].silent || back->cuts > 0) {
        free(o->packet);
        return;
    }
    if (o->packet->n > ICMP_QUOTE_BYTES_MAX)
        o->packet->n = ICMP_QUOTE_BYTES_MAX;
    world_at(w, w->now + draw_delay(back), W_ICMP, sender, o->a >> 8 & 255, o->a & 255,
             w->node[sender].life, o->packet);
}

void net_arrive(struct world *w, struct occurrence *o)
{
    if (!w->node[o->node].up) {
        tell_unreachable(w, o);
        return;
    }
    if (node_is_edge(o->node)) {
        edge_happen(w, o);
        return;
    }
    endpoint_message(w, o->node, o->packet->bytes, o->packet->n, &o->packet->src,
                     (struct conn_ref){NONE, 0});
    free(o->packet);
}
