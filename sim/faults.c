/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong, when, and for how long. A clean plan keeps to what an edge must be able to hide:
 * servers that die or misbehave, and clocks that jump. */
#include "sim.h"

static bool is_clean_fault(unsigned kind)
{
    return kind == FAULT_SERVER_DOWN || kind == FAULT_JUMP || kind == FAULT_SERVER_SILENT ||
           kind == FAULT_SERVER_FAILS;
}

static unsigned draw_server(struct world *w)
{
    return NODE_SERVER + (unsigned)draw(w, RND_FAULTS, SERVERS);
}

static void draw_fault(struct world *w, struct planned_fault *f)
{
    unsigned live = NODE_AGENT + w->plan.agents;
    f->from = draw_between(w, RND_FAULTS, 2 * NS_S, w->plan.heal_at - NS_S);
    f->lasts = draw_between(w, RND_FAULTS, 100 * NS_MS, 15 * NS_S);
    f->flag = draw_chance(w, RND_FAULTS, 500);
    f->amount = draw_between(w, RND_FAULTS, NS_MS, 10 * NS_S);
    f->node = (uint16_t)draw(w, RND_FAULTS, EDGES);
    f->peer = (uint16_t)draw(w, RND_FAULTS, live);
    switch (f->kind) {
    case FAULT_SERVER_DOWN:
    case FAULT_SERVER_SILENT:
    case FAULT_SERVER_FAILS:
        /* A clean plan has one server that fails, so that there is always one that does not. */
        f->node = (uint16_t)(w->plan.clean ? NODE_SERVER : draw_server(w));
        break;
    case FAULT_CUT:
        f->node = (uint16_t)draw(w, RND_FAULTS, NODE_AGENT);
        break;
    case FAULT_STALL:
    case FAULT_JUMP:
        f->lasts = f->lasts / 3;
        break;
    case FAULT_SLAB:
        f->amount = draw(w, RND_FAULTS, 40);
        break;
    default:
        break;
    }
}

void faults_schedule(struct world *w)
{
    struct plan *p = &w->plan;
    p->fault_count = (uint8_t)draw(w, RND_FAULTS, FAULTS_MAX / 2 + 1);
    for (unsigned i = 0; i < p->fault_count; i++) {
        struct planned_fault *f = &p->fault[i];
        do
            f->kind = (uint8_t)draw(w, RND_FAULTS, FAULT__COUNT);
        while (p->clean && !is_clean_fault(f->kind));
        draw_fault(w, f);
        world_at(w, f->from, W_FAULT, NODES_MAX, i, 0, 0, NULL);
        if (f->from + f->lasts < p->heal_at)
            world_at(w, f->from + f->lasts, W_FAULT, NODES_MAX, i, 1, 0, NULL);
    }
}

static void server_down(struct world *w, const struct planned_fault *f, bool ends)
{
    struct node *n = &w->node[f->node];
    TRACE(w, f->node, "%s", ends ? "comes back" : f->flag ? "goes dark" : "dies");
    if (!ends && n->up) {
        n->silent = f->flag;
        n->up = false;
        stream_node_died(w, f->node);
        endpoint_died(w, f->node);
    } else if (ends && !n->up) {
        n->up = true;
        n->life++;
    }
}

static void edge_down(struct world *w, const struct planned_fault *f, bool ends)
{
    struct node *n = &w->node[f->node];
    if (!ends && n->up) {
        n->silent = f->flag;
        edge_kill(w, f->node);
    } else if (ends && !n->up) {
        edge_boot(w, f->node);
    }
}

static void cut(struct world *w, const struct planned_fault *f, bool ends)
{
    if (f->node == f->peer)
        return;
    int by = ends ? -1 : 1;
    struct link *there = &w->link[f->node][f->peer], *back = &w->link[f->peer][f->node];
    TRACE(w, f->node, "%s %s", ends ? "reaches again" : "is cut off from", w->node[f->peer].name);
    there->cuts = (uint8_t)(there->cuts + by);
    if (f->flag) /* both ways; else one */
        back->cuts = (uint8_t)(back->cuts + by);
}

static void reset_streams(struct world *w, const struct planned_fault *f)
{
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &w->conn[i];
        if (c->state == CONN_OPEN && (c->end[0].node == f->node || c->end[1].node == f->node) &&
            draw_chance(w, RND_STREAMS, 500))
            stream_reset(w, i);
    }
}

static void stall(struct world *w, const struct planned_fault *f, bool ends)
{
    if (ends || !w->node[f->node].up)
        return;
    TRACE(w, f->node, "stands still for %llu ms", f->lasts / NS_MS);
    mono_ns until = w->now + f->lasts;
    if (until > w->edge[f->node].stalled_until)
        w->edge[f->node].stalled_until = until;
}

void faults_happen(struct world *w, unsigned fault, bool ends)
{
    const struct planned_fault *f = &w->plan.fault[fault];
    switch ((enum fault_kind)f->kind) {
    case FAULT_SERVER_DOWN:
        server_down(w, f, ends);
        break;
    case FAULT_EDGE_DOWN:
        edge_down(w, f, ends);
        break;
    case FAULT_CUT:
        cut(w, f, ends);
        break;
    case FAULT_STALL:
        stall(w, f, ends);
        break;
    case FAULT_JUMP:
        if (ends)
            break;
        TRACE(w, f->node, "its clock jumps by %llu ms", (unsigned long long)f->amount / NS_MS);
        w->edge[f->node].skew += f->amount;
        if (w->edge[f->node].stalled_until <= w->now)
            edge_wake(w, f->node);
        break;
    case FAULT_SLAB:
        for (unsigned i = 0; i < EDGE_WORKERS_MAX; i++)
            w->edge[f->node].worker[i].fault =
                (struct fault){.countdown = ends ? UINT64_MAX : f->amount, .forever = f->flag};
        break;
    case FAULT_RESET:
        if (!ends)
            reset_streams(w, f);
        break;
    case FAULT_SERVER_SILENT:
        w->server[f->node - NODE_SERVER].silent = !ends;
        break;
    default:
        w->server[f->node - NODE_SERVER].fails_permille = ends ? 0 : (uint16_t)(f->amount % 1000);
        break;
    }
}

/* From here on the world is a good place: what is down comes back, nothing is lost. */
void faults_heal(struct world *w)
{
    for (unsigned i = 0; i < EDGES; i++) {
        if (!w->node[NODE_EDGE + i].up)
            edge_boot(w, i);
        for (unsigned k = 0; k < EDGE_WORKERS_MAX; k++)
            w->edge[i].worker[k].fault = (struct fault){.countdown = UINT64_MAX};
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        if (!w->node[NODE_SERVER + i].up)
            w->node[NODE_SERVER + i].life++;
        w->node[NODE_SERVER + i].up = true;
        w->server[i].silent = false;
        w->server[i].fails_permille = 0;
    }
    for (unsigned from = 0; from < NODES_MAX; from++) {
        for (unsigned to = 0; to < NODES_MAX; to++) {
            struct link *l = &w->link[from][to];
            l->cuts = 0;
            l->lost_permille = 0;
            l->late_permille = 0;
        }
    }
}
