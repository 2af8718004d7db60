/* SPDX-License-Identifier: Apache-2.0
 *
 * Time: takes the next occurrence, gives it to whom it concerns, until the plan's end or the first
 * broken invariant. */
#include <stdarg.h>
#include <stdlib.h>
#include "sim.h"

void world_fail(struct world *w, const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    int n =
        snprintf(w->why, sizeof w->why, "at %llu.%06llu s: ", w->now / NS_S, w->now % NS_S / NS_US);
    va_list args;
    va_start(args, format);
    vsnprintf(w->why + n, sizeof w->why - (size_t)n, format, args);
    va_end(args);
    TRACE(w, NODES_MAX, "BROKEN %s", w->why);
}

void world_at(struct world *w, mono_ns at, enum what what, unsigned node, uint32_t a, uint32_t b,
              uint64_t c, struct packet *packet)
{
    queue_push(&w->queue, &(struct occurrence){.at = at,
                                               .what = (uint16_t)what,
                                               .node = (uint16_t)node,
                                               .a = a,
                                               .b = b,
                                               .c = c,
                                               .packet = packet});
}

struct world *world_new(uint64_t seed, FILE *trace)
{
    struct world *w = calloc(1, sizeof *w);
    MUST(w != NULL);
    w->seed = seed;
    w->trace = trace;
    w->now = NS_S; /* no clock starts at nothing */
    queue_init(&w->queue);
    check_init(w);
    for (unsigned i = 0; i < RND__COUNT; i++)
        prng_seed(&w->rnd[i], seed * 1000003 + i);
    plan_draw(w);
    for (unsigned i = 0; i < EDGES; i++)
        edge_boot(w, i);
    return w;
}

void world_free(struct world *w, struct counters *sums)
{
    for (unsigned i = 0; i < EDGES; i++)
        edge_kill(w, i);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        stream_node_died(w, i);
        endpoint_died(w, i);
    }
#define X(name, help) sums->name += w->counters.name;
    OBSERVE_COUNTERS(X)
#undef X
    queue_done(&w->queue);
    check_done(w);
    free(w);
}

/* Agents and servers leave, and the edges stop asking after the servers' health: what is left then
 * is what an edge keeps for nobody. */
static void everybody_leaves(struct world *w)
{
    for (unsigned i = 0; i < EDGES; i++)
        edge_reconfigure(w, i, false, NONE);
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        stream_close(w, i, 0);
        if (w->conn[i].state == CONN_SYN || w->conn[i].state == CONN_OPEN)
            stream_close(w, i, 1);
    }
}

static void enter(struct world *w, enum phase phase)
{
    w->phase = (uint8_t)phase;
    TRACE(w, NODES_MAX, "phase %d", phase);
    if (phase == PHASE_HEALED) {
        faults_heal(w);
        for (unsigned i = 0; i < EDGES; i++)
            edge_reconfigure(w, i, w->plan.health, NONE);
    } else if (phase == PHASE_HUNG_UP) {
        everybody_leaves(w);
    } else if (phase == PHASE_END) {
        check_end(w);
    }
}

/* Whoever stands still hears of it when it wakes up. */
static bool has_to_wait(struct world *w, const struct occurrence *o)
{
    if (!node_is_edge(o->node) || o->what == W_CALL || o->what == W_CONNECT_LATE)
        return false;
    struct edge_node *e = &w->edge[o->node - NODE_EDGE];
    if (e->stalled_until <= w->now)
        return false;
    struct occurrence late = *o;
    late.at = e->stalled_until;
    queue_push(&w->queue, &late);
    return true;
}

static void happen(struct world *w, struct occurrence *o)
{
    switch ((enum what)o->what) {
    case W_DATAGRAM:
        net_arrive(w, o);
        return;
    case W_ICMP:
    case W_TICK:
    case W_HANDED:
    case W_RESOLVED:
    case W_OPERATOR:
        edge_happen(w, o);
        return;
    case W_SYN:
    case W_SYN_ACK:
    case W_REFUSED:
    case W_CONNECT_LATE:
    case W_SEGMENT:
    case W_HUNG_UP:
        stream_happen(w, o);
        return;
    case W_CLIENT:
        client_timer(w, o->a, o->c);
        break;
    case W_SERVING:
        uas_timer(w, o->a, o->c);
        break;
    case W_CALL:
        uac_step(w, o->a, (enum call_step)o->b);
        break;
    case W_HOSTILE:
        hostile_act(w, o->node);
        break;
    case W_FAULT:
        faults_happen(w, o->a, o->b == 1);
        break;
    case W_PHASE:
        enter(w, (enum phase)o->a);
        break;
    case W__COUNT:
        break;
    }
    free(o->packet);
}

void world_run(struct world *w)
{
    struct occurrence o;
    while (!w->failed && w->phase != PHASE_END && queue_pop(&w->queue, &o)) {
        MUST(o.at >= w->now || w->sum.occurrences == 0 || o.at + NS_S >= w->now);
        w->now = o.at > w->now ? o.at : w->now;
        if (has_to_wait(w, &o))
            continue;
        w->sum.occurrences++;
        trace_mix(w, w->now);
        trace_mix(w, (uint64_t)o.what << 48 | (uint64_t)o.node << 32 | o.a);
        happen(w, &o);
    }
}
