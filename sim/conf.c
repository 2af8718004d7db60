/* SPDX-License-Identifier: Apache-2.0
 *
 * What a configuration file would have said, filled in C: the simulator knows no files. Everything
 * that is free is drawn from the seed. */
#include "sim.h"

static struct slice keep_text(struct conf *c, const char *s)
{
    size_t n = strlen(s);
    MUST(c->text_n + n <= sizeof c->text);
    memcpy(c->text + c->text_n, s, n);
    c->text_n += n;
    return slice_of(c->text + c->text_n - n, n);
}

static struct slice keep_host(struct conf *c, const struct addr *a)
{
    char buf[ADDR_TEXT_MAX + 1];
    struct text t = text_into(buf, ADDR_TEXT_MAX);
    addr_put_host(&t, a);
    buf[text_slice(&t).n] = '\0';
    return keep_text(c, buf);
}

static struct slice keep_uri(struct conf *c, const struct addr *a, bool tcp)
{
    char buf[ADDR_TEXT_MAX + 8];
    struct text t = text_into(buf, sizeof buf - 1);
    text_put(&t, tcp ? SLICE("tcp://") : SLICE("udp://"));
    addr_put(&t, a);
    buf[text_slice(&t).n] = '\0';
    return keep_text(c, buf);
}

static void fill_listener(struct world *w, unsigned edge, struct conf *c, unsigned id)
{
    struct edge_listener *l = &c->opts.edge.listener[id];
    const struct addr *a = &w->node[NODE_EDGE + edge].addr[id / 2];
    bool tcp = id % 2 == 1;
    *l = (struct edge_listener){
        .used = true,
        .name = keep_text(c, id / 2 == 0 ? "outside" : "inside"),
        .uri = keep_uri(c, a, tcp),
        .bind = *a,
        .transport = tcp ? TP_TCP : TP_UDP,
        .side = id / 2 == 0 ? SIDE_OUTSIDE : SIDE_INSIDE,
        .host = keep_host(c, a),
        .port = a->port,
    };
    /* edge-b may meet edge-a as one of its own instead of as a stranger. */
    if (w->plan.topology == TOPO_CHAIN && edge == 1)
        l->side = id / 2 == 0 ? w->plan.chain_side : SIDE_INSIDE;
}

/* Which nodes an edge's pool leads to; `without` is a server that is left out, or NONE. */
static unsigned targets_of(const struct world *w, unsigned edge, int without,
                           unsigned nodes[SERVERS])
{
    unsigned count = 0;
    if (w->plan.topology == TOPO_FACING || (w->plan.topology == TOPO_CHAIN && edge == 0)) {
        nodes[0] = NODE_EDGE + (1 - edge);
        return 1;
    }
    for (int i = 0; i < SERVERS; i++) {
        if (i != without)
            nodes[count++] = NODE_SERVER + (unsigned)i;
    }
    return count;
}

static void fill_pool(struct world *w, unsigned edge, struct conf *c, bool health, int without)
{
    const struct plan *plan = &w->plan;
    struct pool_opts *p = &c->pool[0];
    unsigned nodes[SERVERS];
    unsigned count = targets_of(w, edge, without, nodes);
    pool_opts_default(p);
    p->name = keep_text(c, "border");
    p->balance = plan->pool.balance;
    p->targets = c->target;
    p->target_count = (uint16_t)count;
    for (unsigned i = 0; i < count; i++) {
        c->target[i] = (struct pool_target_opts){
            .uri = keep_uri(c, &w->node[nodes[i]].addr[0], plan->target_tcp == 1),
            .addr = w->node[nodes[i]].addr[0],
            .transport = plan->target_tcp == 1 ? TP_TCP : TP_UDP,
            .weight = (uint16_t)(1 + nodes[i] % 2),
            .has_tcp = plan->target_tcp == 2,
            .zone = plan->pool.zones && count > 1 ? keep_text(c, nodes[i] % 2 == 0 ? "a" : "b")
                                                  : SLICE_NONE,
        };
    }
    p->health.on = health;
    p->health.every = plan->pool.health_every;
    p->health.timeout = plan->pool.health_timeout;
    p->health.fall = 3;
    p->health.rise = 2;
    p->outlier.eject_after = plan->pool.eject_after;
    p->outlier.eject_base = 2 * NS_S;
    p->outlier.eject_max = 8 * NS_S;
    p->outlier.slow_start = plan->pool.slow_start;
    p->failover.try_timeout = plan->pool.try_timeout;
    p->failover.within = plan->pool.within;
    p->failover.tries = plan->pool.tries;
    p->failover.budget_percent = plan->pool.budget_percent;
    p->failover.retryable = plan->pool.retryable;
}

static void fill_limits(const struct world *w, struct edge_limits *l)
{
    edge_limits_default(l);
    uint32_t t = w->plan.transactions;
    l->transactions = t;
    l->flows = FLOW_SLOTS;
    l->target_flows = 32;
    l->blocks[0] = t;
    l->blocks[1] = t;
    l->blocks[2] = t / 4;
    l->blocks[3] = 4;
    l->targets = 8;
    l->pools = 2;
}

void conf_fill(struct world *w, unsigned edge, struct conf *c, bool health, int without)
{
    static const char secret[] = "the simulator's only token key, shared by its fleet";
    struct edge_opts *e = &c->opts.edge;
    memset(c, 0, sizeof *c);
    fill_limits(w, &c->opts.limits);
    e->node_name = keep_text(c, w->node[NODE_EDGE + edge].name);
    e->region = keep_text(c, "r1");
    e->zone = w->plan.pool.zones ? keep_text(c, edge == 0 ? "a" : "b") : SLICE_NONE;
    e->node_id = (uint16_t)(edge + 1);
    for (unsigned id = 0; id < (w->plan.one_sided ? 2 : 4); id++)
        fill_listener(w, edge, c, id);
    e->rules = c->rule;
    e->rule_count = 1;
    bool any = w->plan.topology == TOPO_CHAIN && edge == 1 && w->plan.chain_side == SIDE_INSIDE;
    c->rule[0] = (struct edge_rule){.from = any ? RULE_ANY : SIDE_OUTSIDE, .pool = 0};
    fill_pool(w, edge, c, health, without);
    e->pools = c->pool;
    e->pool_count = 1;
    e->keys.count = 1;
    int r = token_key_init(&e->keys.key[0], slice_of(secret, TOKEN_KEY_BYTES_MAX > sizeof secret - 1
                                                                 ? sizeof secret - 1
                                                                 : TOKEN_KEY_BYTES_MAX));
    MUST(r == 0);
    if (w->plan.trusts) {
        int bad = prefix_parse(SLICE("10.0.2.0/24"), &c->trusted[0]);
        MUST(bad == 0);
        e->trusted = c->trusted;
        e->trusted_count = 1;
    }
    e->strip_foreign_routes = w->plan.strip_routes;
    e->hops_max = 70;
    e->timers = TXN_TIMERS_DEFAULT;
    e->timer_c = w->plan.timer_c;
    e->trying_delay = 100 * NS_MS;
    e->connect_timeout = w->plan.connect_timeout;
    e->connections_per_target = w->plan.connections_per_target;
    e->log_transactions = true;
}
