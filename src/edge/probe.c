/* SPDX-License-Identifier: Apache-2.0
 *
 * Health probes: an OPTIONS to each target, over the transport that calls take. */
#include "edge/edge_int.h"

/* An OPTIONS to whoever is there (RFC 3261 11), from `user` of ours. */
void put_options(struct text *t, const struct addr *to, uint8_t transport, struct slice via,
                 struct slice user, struct slice host, uint64_t tag, uint64_t call_id)
{
    TEXT_LIT(t, "OPTIONS sip:");
    addr_put(t, to);
    if (transport != TP_UDP) {
        TEXT_LIT(t, ";transport=");
        text_put(t, transport_name((enum transport)transport));
    }
    TEXT_LIT(t, " SIP/2.0\r\n");
    text_put(t, via);
    TEXT_LIT(t, "Max-Forwards: 70\r\nFrom: <sip:");
    text_put(t, user);
    text_put_char(t, '@');
    text_put(t, host);
    TEXT_LIT(t, ">;tag=");
    text_put_u64(t, tag);
    TEXT_LIT(t, "\r\nTo: <sip:");
    addr_put(t, to);
    TEXT_LIT(t, ">\r\nCall-ID: ");
    text_put(t, user);
    text_put_char(t, '-');
    text_put_u64(t, call_id);
    TEXT_LIT(t, "\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
}

static struct slice probe_text(struct edge *e, const struct try *t)
{
    struct slice via = via_line(e, t);
    struct text out = scratch_text(e, 1024);
    put_options(&out, &t->hop.addr, t->hop.transport, via, SLICE("probe"),
                e->opts->listener[t->hop.listener].host, t->nonce, rng_u64(&e->rng));
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
