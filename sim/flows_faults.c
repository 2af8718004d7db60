/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong in the world of phones, until it heals. */
#include "flows.h"

enum kind {
    VANISHES, /* a connection dies, and only its phone knows */
    RESETS,
    NAT_FORGETS,
    DISK,
    KILLED,
    STALLS, /* a process stands still: what comes meanwhile waits */
    JUMPS,  /* its clock does, forward; to it that is the same as a stall without a queue */
    WALL,   /* the wall's clock is set, either way */
    TAKES,  /* slabs have nothing to give: the n-th take fails, or all from then on */
    TAKES_LIFTED,
    NOISE,
};

/* Of a hundred. */
static const struct {
    uint8_t share, kind;
} odds[] = {{18, VANISHES}, {20, RESETS}, {10, NAT_FORGETS}, {8, DISK},  {9, KILLED},
            {10, STALLS},   {7, JUMPS},   {5, WALL},         {9, TAKES}, {4, NOISE}};

void fl_faults_plan(struct fl_world *w)
{
    unsigned count = (unsigned)fl_below(w, 30);
    for (unsigned i = 0; i < count; i++) {
        dur_ns in = 2 * NS_S + fl_below(w, w->healed_at - 2 * NS_S);
        unsigned draw = (unsigned)fl_below(w, 100), at = 0;
        while (draw >= odds[at].share)
            draw -= odds[at++].share;
        fl_at(w, in, FL_FAULT, 0, odds[at].kind, 0, fl_below(w, UINT32_MAX), NULL);
    }
}

static int living_conn(const struct fl_world *w, uint64_t which)
{
    for (unsigned i = 0; i < FL_CONNS; i++) {
        unsigned at = (unsigned)((which + i) % FL_CONNS);
        if (w->conn[at].used && w->conn[at].phone_has && !w->conn[at].dying)
            return (int)at;
    }
    return FL_NONE;
}

/* Until `at`, who rings may ring in vain, or twice. */
static void upset(struct fl_world *w, mono_ns at)
{
    w->upset_at = at > w->upset_at ? at : w->upset_at;
}

/* Until `at`, and a bit longer, what is wanted may not be done. */
static void trouble(struct fl_world *w, mono_ns at)
{
    w->trouble_at = at > w->trouble_at ? at : w->trouble_at;
}

static void nat_forgets(struct fl_world *w, unsigned n)
{
    fl_trace(w, "nat %u forgets its ports", n);
    upset(w, w->now);
    for (unsigned i = 0; i < FL_PORTS; i++)
        w->nat[n].owner[i] = FL_NONE;
}

static void killed(struct fl_world *w, unsigned node)
{
    fl_trace(w, "node %u is killed", node);
    upset(w, w->now);
    trouble(w, w->now);
    fl_kill(w, node);
    for (unsigned i = 0; i < FL_CONNS; i++)
        if (w->conn[i].used && w->conn[i].node == node)
            fl_reset(w, i, false);
    fl_boot(w, node);
}

static void takes_fail(struct fl_world *w, unsigned node, uint64_t draw, bool ends)
{
    struct fault f = {.countdown = ends ? UINT64_MAX : draw / FL_NODES % 40,
                      .forever = (draw >> 16 & 1) != 0};
    fl_trace(w, "takes of node %u %s", node, ends ? "work" : f.forever ? "fail" : "fail once");
    for (unsigned i = 0; i < FL_WORKERS; i++)
        w->node[node].worker[i].fault = f;
    dur_ns lasts = 50 * NS_MS + fl_below(w, 8 * NS_S);
    if (ends)
        return;
    trouble(w, w->now + lasts);
    fl_at(w, lasts, FL_FAULT, 0, TAKES_LIFTED, 0, draw, NULL);
}

static void time_faults(struct fl_world *w, enum kind kind, unsigned node)
{
    struct fl_node *n = &w->node[node];
    dur_ns by = 50 * NS_MS + fl_below(w, 6 * NS_S);
    if (kind == WALL) {
        int64_t s = (int64_t)fl_below(w, 4 * 3600) - 2 * 3600;
        fl_trace(w, "the wall's clock of node %u is set by %lld s", node, (long long)s);
        n->wall_off_s += s;
        return;
    }
    fl_trace(w, "node %u %s %llu ms", node, kind == JUMPS ? "jumps" : "stalls",
             (unsigned long long)(by / NS_MS));
    if (kind == JUMPS)
        n->skew += by;
    else if (n->stalled_until < w->now + by)
        n->stalled_until = w->now + by;
    upset(w, kind == JUMPS ? w->now : n->stalled_until);
    trouble(w, w->upset_at);
    fl_node_wake(w, node);
}

void fl_faults_happen(struct fl_world *w, const struct occurrence *o)
{
    unsigned node = (unsigned)(o->c % (w->split ? FL_NODES : 1));
    struct fl_node *n = &w->node[node];
    int conn = living_conn(w, o->c);
    if (w->phase >= FL_HEALED)
        return;
    switch ((enum kind)o->a) {
    case VANISHES:
    case RESETS:
        if (conn != FL_NONE)
            fl_reset(w, (unsigned)conn, o->a == VANISHES);
        break;
    case NAT_FORGETS:
        nat_forgets(w, (unsigned)(o->c % FL_NATS));
        break;
    case DISK:
        fl_trace(w, "the disk of node %u %s", node, n->disk_fails ? "works" : "fails");
        n->disk_fails = !n->disk_fails;
        trouble(w, w->now);
        break;
    case KILLED:
        if (n->up)
            killed(w, node);
        break;
    case STALLS:
    case JUMPS:
    case WALL:
        time_faults(w, (enum kind)o->a, node);
        break;
    case TAKES:
    case TAKES_LIFTED:
        takes_fail(w, node, o->c, o->a == TAKES_LIFTED);
        break;
    case NOISE:
        if (conn != FL_NONE)
            fl_stream_spoil(w, (unsigned)conn);
        break;
    }
}

void fl_faults_heal(struct fl_world *w)
{
    for (unsigned n = 0; n < FL_NODES; n++) {
        w->node[n].disk_fails = false;
        for (unsigned k = 0; k < FL_WORKERS; k++)
            w->node[n].worker[k].fault = (struct fault){.countdown = UINT64_MAX};
    }
}
