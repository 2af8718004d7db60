/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator sees: rows of JSON lines, a page at a time, so that a full table never makes a
 * worker miss its messages. */
#include "edge/edge_int.h"

enum { ROW_BYTES_MAX = 2048 };

static struct slice side_name(uint8_t side)
{
    return side == SIDE_INSIDE ? SLICE("inside") : SLICE("outside");
}

/* ---- pools ----------------------------------------------------------------------------------- */

static void pool_row(struct edge *e, struct text *t, uint16_t pool, handle target)
{
    static const char *admin[] = {"ready", "drain", "maint"};
    struct pool_status s;
    if (!pool_status(e->pools, target, e->now, &s))
        return;
    char why_bytes[256];
    struct text why = text_into(why_bytes, sizeof why_bytes);
    pool_explain(e->pools, target, e->now, &why);
    text_put_char(t, '{');
    json_text(t, "pool", s.pool);
    json_text(t, "target", s.uri);
    json_addr(t, "address", &s.addr);
    json_text(t, "transport", transport_name((enum transport)s.transport));
    json_text(t, "zone", s.zone);
    json_bool(t, "own_zone", s.own_zone);
    json_text(t, "admin", slice_cstr(admin[s.admin]));
    json_bool(t, "fit", s.fit);
    json_bool(t, "up", s.up);
    json_bool(t, "ejected", s.ejected);
    json_bool(t, "panic", pool_panics(e->pools, pool));
    json_u64(t, "weight", s.weight);
    json_u64(t, "open", s.open);
    json_u64(t, "begun", s.begun);
    json_u64(t, "answered", s.answered);
    json_u64(t, "failed", s.failed);
    if (s.heard_ago != MONO_NONE)
        json_u64(t, "heard_ms_ago", s.heard_ago / NS_MS);
    json_text(t, "why", text_slice(&why));
    json_u64(t, "worker", e->worker);
    TEXT_LIT(t, "}\n");
}

/* The cursor counts targets over all pools. */
static void show_pools(struct edge *e, uint64_t *cursor, struct text *t)
{
    uint64_t at = 0;
    for (uint16_t p = 0; p < pools_count(e->pools); p++) {
        for (uint16_t i = 0; i < pools_opts(e->pools, p)->target_count; i++, at++) {
            if (at < *cursor)
                continue;
            if (t->n + ROW_BYTES_MAX > t->cap) {
                *cursor = at;
                return;
            }
            pool_row(e, t, p, pool_member(e->pools, p, i));
        }
    }
    *cursor = 0;
}

/* ---- transactions ---------------------------------------------------------------------------- */

static void relay_row(struct edge *e, struct text *t, const struct relay *r)
{
    text_put_char(t, '{');
    json_text(t, "method", sip_method_name((enum sip_method)r->method));
    json_text(t, "state", slice_cstr(txn_state_name((enum txn_state)r->server.state)));
    json_u64(t, "age_ms", mono_since(e->now, r->arrived) / NS_MS);
    json_addr(t, "source", &r->from.source);
    json_text(t, "transport", transport_name((enum transport)r->from.transport));
    json_text(t, "side", side_name(r->from.side));
    if (r->dest.family != 0)
        json_addr(t, "dest", &r->dest);
    if (r->pool != NO_POOL)
        json_text(t, "pool", pools_opts(e->pools, r->pool)->name);
    json_u64(t, "tries", r->tries);
    json_bool(t, "ringing", r->ringing);
    json_bool(t, "cancelled", r->cancelled);
    json_bool(t, "answered", r->answered);
    struct slice log = blocks_slice(&e->blocks, r->log);
    if (log.n > 0) {
        _Alignas(8) char copy[LOG_RECORD_BYTES_MAX];
        memcpy(copy, log.p, log.n);
        const struct log_record *rec = (const struct log_record *)(const void *)copy;
        json_text(t, "call_id", log_text_of(rec, LOG_CALL_ID));
        json_text(t, "ruri", log_text_of(rec, LOG_RURI));
    }
    json_u64(t, "worker", e->worker);
    TEXT_LIT(t, "}\n");
}

static void show_transactions(struct edge *e, uint64_t *cursor, struct text *t)
{
    uint32_t at = *cursor < UINT32_MAX ? (uint32_t)*cursor : UINT32_MAX;
    const struct relay *r;
    while (t->n + ROW_BYTES_MAX <= t->cap) {
        r = slab_next(&e->relays, &at);
        if (r == NULL) {
            *cursor = 0;
            return;
        }
        relay_row(e, t, r);
    }
    *cursor = at;
}

/* ---- flows ----------------------------------------------------------------------------------- */

static void flow_row(struct edge *e, struct text *t, const struct flow *w)
{
    text_put_char(t, '{');
    json_addr(t, "peer", &w->peer);
    json_text(t, "transport", transport_name((enum transport)w->transport));
    json_text(t, "side", side_name(w->side));
    if (w->listener != LISTENER_NONE)
        json_text(t, "listener", e->opts->listener[w->listener].name);
    json_text(t, "opened_by", w->id.slot & FLOW_OUT ? SLICE("us") : SLICE("peer"));
    json_text(t, "state",
              w->connecting ? SLICE("connecting")
              : w->closing  ? SLICE("closing")
                            : SLICE("open"));
    json_u64(t, "age_ms", mono_since(e->now, (mono_ns)w->opened_s * NS_S) / NS_MS);
    json_u64(t, "idle_ms", mono_since(e->now, w->last_in) / NS_MS);
    json_u64(t, "messages_in", w->messages_in);
    json_u64(t, "messages_out", w->messages_out);
    json_u64(t, "open", w->open);
    json_u64(t, "pings", w->pings);
    json_bool(t, "registered", w->registered);
    json_u64(t, "calls", w->calls);
    if (flow_name(e->flows, w).n > 0)
        json_text(t, "name", flow_name(e->flows, w));
    json_u64(t, "slot", w->id.slot & ~(uint32_t)FLOW_OUT);
    json_u64(t, "generation", w->id.gen);
    json_u64(t, "worker", e->worker);
    TEXT_LIT(t, "}\n");
}

static void show_flows(struct edge *e, uint64_t *cursor, struct text *t)
{
    uint32_t at = *cursor < UINT32_MAX ? (uint32_t)*cursor : UINT32_MAX;
    while (t->n + ROW_BYTES_MAX <= t->cap) {
        const struct flow *w = flow_next(e->flows, &at);
        if (w == NULL) {
            *cursor = 0;
            return;
        }
        flow_row(e, t, w);
    }
    *cursor = at;
}

/* ---- bindings -------------------------------------------------------------------------------- */

static void show_bindings(struct edge *e, struct slice argument, uint64_t *cursor, struct text *t)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text canonical = text_into(bytes, sizeof bytes);
    registrar_show(e->registrar, role_typed_aor(e, argument, &canonical), cursor, e->now, t);
}

/* ---- counters -------------------------------------------------------------------------------- */

static void show_counters(struct edge *e, uint64_t *cursor, struct text *t)
{
    text_put_char(t, '{');
#define X(name, help) json_u64(t, #name, e->count.name);
    OBSERVE_COUNTERS(X)
#undef X
    struct edge_load load = edge_load(e);
    json_u64(t, "relays_now", load.relays);
    json_u64(t, "relays_open_now", load.relays_open);
    json_u64(t, "tries_now", load.tries);
    json_u64(t, "blocks_now", load.blocks);
    json_u64(t, "flows_now", load.flows);
    struct registrar_load bound = {0};
    if (e->registrar != NULL)
        bound = registrar_load(e->registrar);
    json_u64(t, "aors_now", bound.aors);
    json_u64(t, "bindings_now", bound.bindings);
    json_u64(t, "worker", e->worker);
    TEXT_LIT(t, "}\n");
    *cursor = 0;
}

void edge_show(struct edge *e, enum command_kind what, struct slice argument, uint64_t *cursor,
               struct text *t)
{
    if (what == CMD_SHOW_POOLS)
        show_pools(e, cursor, t);
    else if (what == CMD_SHOW_TRANSACTIONS)
        show_transactions(e, cursor, t);
    else if (what == CMD_SHOW_FLOWS)
        show_flows(e, cursor, t);
    else if (what == CMD_SHOW_BINDINGS && e->registrar != NULL)
        show_bindings(e, argument, cursor, t);
    else if (what == CMD_SHOW_BINDINGS)
        *cursor = 0;
    else if (what == CMD_SHOW_GUARD)
        guard_show(e->guard, cursor, t, e->now);
    else if (what == CMD_SHOW_DRAIN) {
        drain_show(e, t);
        *cursor = 0;
    } else
        show_counters(e, cursor, t);
}

/* ---- commands -------------------------------------------------------------------------------- */

static struct slice next_word(struct slice *rest)
{
    *rest = slice_trim(*rest);
    size_t n = slice_find(*rest, ' ');
    struct slice word = slice_take(*rest, n);
    *rest = slice_drop(*rest, n);
    return word;
}

int edge_set_target(struct edge *e, struct slice argument, struct slice *ret_why)
{
    struct slice pool = next_word(&argument), uri = next_word(&argument),
                 state = next_word(&argument);
    enum pool_admin to;
    if (slice_equal(state, SLICE("ready")))
        to = POOL_READY;
    else if (slice_equal(state, SLICE("drain")))
        to = POOL_DRAIN;
    else if (slice_equal(state, SLICE("maint")))
        to = POOL_MAINT;
    else {
        *ret_why = SLICE("the state is ready, drain or maint");
        return -1;
    }
    if (pool_set_admin(e->pools, pool, uri, to, e->now) < 0) {
        *ret_why = SLICE("no such pool or target");
        return -1;
    }
    return 0;
}
