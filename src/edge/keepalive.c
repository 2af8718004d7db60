/* SPDX-License-Identifier: Apache-2.0
 *
 * Keep-alives that we send to phones (RFC 5626 4.4 the other way round), and signs of life that are
 * not SIP. A connection is pinged after a silence, so that a client which pings by itself never is;
 * each ping that it lives through makes the next pause longer. Nobody is cut off for not answering:
 * an old client does not, and TCP knows better whether it is there. */
#include "edge/edge_int.h"

/* The pause until the next ping, in seconds, with its jitter: phones that came together shall not
 * be called together. */
static uint16_t jittered(struct edge *e, uint32_t pause_s)
{
    uint64_t spread = (uint64_t)pause_s * e->opts->keepalive.jitter_percent / 100;
    uint64_t s = pause_s - spread + rng_u64(&e->rng) % (2 * spread + 1);
    return (uint16_t)(s < 1 ? 1 : s < UINT16_MAX ? s : UINT16_MAX);
}

static uint32_t whole_seconds(dur_ns d)
{
    uint64_t s = d / NS_S;
    return (uint32_t)(s < 1 ? 1 : s < UINT16_MAX ? s : UINT16_MAX);
}

/* A connection from outside has said something in SIP: from now on it is kept open. */
void keepalive_begin(struct edge *e, struct flow *w)
{
    if (w->ping_s != 0 || e->opts->keepalive.every == 0 || w->side != SIDE_OUTSIDE ||
        (w->id.slot & FLOW_OUT))
        return;
    w->ping_s = jittered(e, whole_seconds(e->opts->keepalive.every));
    flow_ping_in(e->flows, w, w->ping_s, e->now);
}

void edge_on_alive(struct edge *e, const struct event *ev)
{
    if (ev->flow.gen == 0) {
        phones_heard(e->phones, ev->listener, &ev->source, e->now);
        return;
    }
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w != NULL)
        w->last_in = e->now;
}

mono_ns keepalive_deadline(const struct edge *e)
{
    return flow_ping_deadline(e->flows);
}

static void ping(struct edge *e, struct flow *w)
{
    emit(e, ACT_PING)->flow = w->id;
    e->count.pings_sent++;
    if (w->pings < UINT16_MAX)
        w->pings++;
    uint32_t longer = w->ping_s + w->ping_s / 2u, max = whole_seconds(e->opts->keepalive.max);
    w->ping_s = longer < max ? jittered(e, longer) : jittered(e, max);
    flow_ping_in(e->flows, w, w->ping_s, e->now);
}

void keepalive_run(struct edge *e)
{
    struct flow *w;
    while (actions_have_room(e->out) && (w = flow_ping_due(e->flows, e->now)) != NULL) {
        uint32_t silent = whole_seconds(mono_since(e->now, w->last_in));
        if (e->opts->keepalive.every == 0 || w->closing)
            w->ping_s = 0; /* switched off; a message may begin it again */
        else if (silent < w->ping_s)
            flow_ping_in(e->flows, w, w->ping_s - silent, e->now);
        else
            ping(e, w);
    }
}
