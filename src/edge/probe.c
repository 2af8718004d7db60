/* SPDX-License-Identifier: Apache-2.0
 *
 * Health probes: an OPTIONS to each target, over the transport that calls take. */
#include "edge/edge_int.h"

static struct slice probe_text(struct edge *e, const struct try *t)
{
    const struct edge_listener *l = &e->opts->listener[t->hop.listener];
    struct slice via = via_line(e, t);
    struct text out = scratch_text(e, 1024);
    TEXT_LIT(&out, "OPTIONS sip:");
    addr_put(&out, &t->hop.addr);
    if (t->hop.transport != TP_UDP) {
        TEXT_LIT(&out, ";transport=");
        text_put(&out, transport_name((enum transport)t->hop.transport));
    }
    TEXT_LIT(&out, " SIP/2.0\r\n");
    text_put(&out, via);
    TEXT_LIT(&out, "Max-Forwards: 70\r\nFrom: <sip:probe@");
    text_put(&out, l->host);
    TEXT_LIT(&out, ">;tag=");
    text_put_u64(&out, t->nonce);
    TEXT_LIT(&out, "\r\nTo: <sip:");
    addr_put(&out, &t->hop.addr);
    TEXT_LIT(&out, ">\r\nCall-ID: probe-");
    text_put_u64(&out, rng_u64(&e->rng));
    TEXT_LIT(&out, "\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
    scratch_keep(e, &out);
    return text_slice(&out);
}

static void probe(struct edge *e, const struct pool_pick *pick, dur_ns timeout)
{
    handle h;
    struct try *t = try_new(e, NULL, TRY_PROBE, &h);
    if (t == NULL)
        return; /* a full table says nothing about the target: the pool's own timer decides */
    t->method = SIP_M_OPTIONS;
    t->hop = (struct hop){.addr = pick->addr,
                          .target = pick->target,
                          .transport = pick->transport,
                          .side = SIDE_INSIDE,
                          .listener = LISTENER_NONE};
    e->count.probes++;
    if (hop_open(e, t) != 0) {
        probe_failed(e, t);
        return;
    }
    txn_start(&t->client, TXN_OTHER_CLIENT, transport_is_reliable(t->hop.transport),
              &e->opts->timers, e->now);
    t->no_answer_at = mono_add(e->now, timeout);
    struct slice bytes = probe_text(e, t);
    if (!t->client.reliable && blocks_keep(&e->blocks, bytes, &t->sent) != 0)
        t->sent = BLOCK_NONE;
    try_arm(e, t);
    try_send_bytes(e, t, bytes);
}

void probes_run(struct edge *e)
{
    if (pool_deadline(e->pools) > e->now)
        return;
    struct pool_pick pick;
    uint16_t pool;
    while (actions_have_room(e->out) && pool_probe_next(e->pools, e->now, &pick, &pool))
        probe(e, &pick, pools_opts(e->pools, pool)->health.timeout);
}

/* Any final answer but 503 and 408 shows life: a target that knows no OPTIONS is alive. */
void probe_answered(struct edge *e, struct try *t, int status)
{
    bool alive = status != 503 && status != 408;
    if (!alive)
        e->count.probes_failed++;
    pool_probe_result(e->pools, t->hop.target, alive, e->now);
    try_free(e, t);
}

void probe_failed(struct edge *e, struct try *t)
{
    e->count.probes_failed++;
    pool_probe_result(e->pools, t->hop.target, false, e->now);
    try_free(e, t);
}
