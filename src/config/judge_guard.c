/* SPDX-License-Identifier: Apache-2.0
 *
 * The flood guard's numbers, as the guard wants them: tokens and how many may come at once. */
#include "config/config_int.h"

/* Accepts and handshakes come as fast as the machine can, but for a breath. */
static const dur_ns pace_burst = NS_S / 5;

static struct rate_opts rate(uint32_t per_second, dur_ns burst)
{
    uint64_t tokens = (uint64_t)per_second * (burst / NS_MS) / 1000;
    if (per_second > 0 && tokens < 1)
        tokens = 1;
    return (struct rate_opts){per_second, tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX};
}

static void judge_moving(struct judgement *j)
{
    struct edge_moving *m = &j->draft->c.engine.edge.moving;
    const struct node *drain = judge__section(j->draft->head.node, "drain");
    m->agents = (const struct slice *)j->draft->agents.items;
    m->agent_count = (uint16_t)j->draft->agents.count;
    if (m->agent_count > 0 && m->to.n == 0)
        report_at(j->report, node_place(drain, "agents"),
                  "`agents` follow to `move_to`; add move_to: \"<sip:edge2.example.com>\"");
}

void judge__guard(struct judgement *j)
{
    const struct draft *d = j->draft;
    struct guard_opts *o = &j->draft->c.engine.edge.guard;
    const struct node *guard = judge__section(d->head.node, "guard");
    for (unsigned i = 0; i < TP__COUNT; i++)
        o->accepts[i] = rate(d->guard.accepts[i], pace_burst);
    o->handshakes = rate(d->guard.handshakes, pace_burst);
    for (unsigned i = 0; i < GUARD_WHATS; i++) {
        o->per_source[i] = rate(d->guard.per_source[i], d->guard.burst);
        o->per_prefix[i] = rate(d->guard.per_prefix[i], d->guard.burst);
    }
    o->exempt = (const struct prefix *)d->exempt.items;
    o->exempt_count = (uint16_t)d->exempt.count;
    j->draft->c.engine.edge.emergency = (const struct slice *)d->emergency.items;
    j->draft->c.engine.edge.emergency_count = (uint16_t)d->emergency.count;
    judge__order(j, judge__section(guard, "ban"), "first", o->ban_first, "max", o->ban_max);
    judge__order(j, judge__section(guard, "retry_after"), "min", o->retry_after_min, "max",
                 o->retry_after_max);
    judge_moving(j);
}
