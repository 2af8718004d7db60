/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything that is settled before time begins: who there is, how the edges are configured, how
 * good the network is, who calls when, and what will go wrong. */
#include "sim.h"

static struct addr address(bool ipv6, unsigned net, unsigned host, uint16_t port)
{
    struct addr a = {.port = port, .family = ipv6 ? 6 : 4};
    if (ipv6) {
        const uint8_t ip[16] = {0x20, 1, 0x0d, 0xb8, 0, (uint8_t)net, 0, 0, 0, 0,
                                0,    0, 0,    0,    0, (uint8_t)host};
        memcpy(a.ip, ip, sizeof ip);
    } else {
        const uint8_t outside[4] = {198, 51, 100, (uint8_t)host};
        const uint8_t inside[4] = {10, 0, (uint8_t)net, (uint8_t)host};
        memcpy(a.ip, net == 0 ? outside : inside, 4);
    }
    return a;
}

static void draw_nodes(struct world *w)
{
    struct plan *p = &w->plan;
    for (unsigned i = 0; i < EDGES; i++) {
        struct node *n = &w->node[NODE_EDGE + i];
        snprintf(n->name, sizeof n->name, "edge-%c", 'a' + (int)i);
        n->addr[0] = address(p->ipv6, 0, 1 + i, SIP_PORT);
        n->addr[1] = address(false, 1, 1 + i, SIP_PORT);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        struct node *n = &w->node[NODE_SERVER + i];
        snprintf(n->name, sizeof n->name, "srv-%u", i + 1);
        n->addr[0] = address(false, 2, 1 + i, SIP_PORT);
        n->up = true;
        unsigned rnd = RND_SERVER + i;
        /* One draw a statement: the order within an initialiser is the compiler's. */
        struct server *srv = &w->server[i];
        if (draw_chance(w, rnd, 300))
            srv->fails_permille = (uint16_t)draw(w, rnd, 400);
        srv->rejects_options = draw_chance(w, rnd, 200);
        srv->skips_trying = draw_chance(w, rnd, 200);
        srv->uses_sent_by = draw_chance(w, rnd, 300);
        srv->has_name = draw_chance(w, rnd, 150);
        srv->fails_by_nature = srv->fails_permille > 0;
    }
}

static void draw_agents(struct world *w)
{
    struct plan *p = &w->plan;
    for (unsigned i = 0; i < p->agents; i++) {
        unsigned rnd = RND_AGENT + i;
        struct node *n = &w->node[NODE_AGENT + i];
        struct agent *a = &w->agent[i];
        snprintf(n->name, sizeof n->name, "ua-%u", i + 1);
        n->up = true;
        a->hostile = i > 0 && draw_chance(w, rnd, 180);
        a->tcp = draw_chance(w, rnd, 350);
        a->nat = draw_chance(w, rnd, 400);
        a->edge = (uint8_t)(p->topology == TOPO_FLAT ? draw(w, rnd, EDGES) : 0);
        /* All behind one address translator share its address, and what they call their own. */
        n->addr[0] = a->nat ? address(p->ipv6, 0, 200, (uint16_t)(20000 + i))
                            : address(p->ipv6, 0, 100 + i, SIP_PORT);
        struct addr told = a->nat ? address(p->ipv6, 9, 9, SIP_PORT) : n->addr[0];
        struct text t = text_into(a->host, sizeof a->host - 1);
        addr_put(&t, &told);
    }
}

static void draw_links(struct world *w)
{
    struct prng r;
    prng_seed(&r, prng_u64(&w->rnd[RND_PLAN]));
    bool clean = w->plan.clean;
    uint16_t lost_outside = (uint16_t)(prng_below(&r, 3) == 0 ? 0 : prng_below(&r, 150));
    uint16_t lost_inside = (uint16_t)(prng_below(&r, 2) == 0 ? 0 : prng_below(&r, 80));
    uint16_t doubled = (uint16_t)prng_below(&r, 60), late = (uint16_t)prng_below(&r, 100);
    dur_ns far = prng_below(&r, 150 * NS_MS), near = prng_below(&r, 5 * NS_MS);
    for (unsigned from = 0; from < NODES_MAX; from++) {
        for (unsigned to = 0; to < NODES_MAX; to++) {
            struct link *l = &w->link[from][to];
            bool outside = from >= NODE_AGENT || to >= NODE_AGENT;
            prng_seed(&l->rnd, w->seed * 4096 + from * 64 + to);
            l->latency = 100 * NS_US + (outside ? far / 4 + prng_below(&r, far + 1) : near);
            l->jitter = outside ? 20 * NS_MS : NS_MS;
            l->lost_permille = clean ? 0 : outside ? lost_outside : lost_inside;
            l->doubled_permille = doubled;
            l->late_permille = clean ? 0 : late;
        }
    }
}

static void draw_pool(struct world *w)
{
    struct plan *p = &w->plan;
    p->pool.balance = (uint8_t)draw(w, RND_PLAN, 3);
    p->pool.tries = (uint8_t)draw_between(w, RND_PLAN, 2, 4);
    p->pool.zones = draw_chance(w, RND_PLAN, 300);
    p->pool.retryable = draw_chance(w, RND_PLAN, 200);
    p->pool.eject_after =
        draw_chance(w, RND_PLAN, 200) ? 0 : (uint32_t)draw_between(w, RND_PLAN, 2, 5);
    p->pool.health_every = draw_between(w, RND_PLAN, NS_S, 4 * NS_S);
    p->pool.health_timeout = draw_between(w, RND_PLAN, 500 * NS_MS, NS_S);
    p->pool.slow_start = draw_chance(w, RND_PLAN, 300) ? 5 * NS_S : 0;
    p->pool.try_timeout = draw_between(w, RND_PLAN, 1500 * NS_MS, 4 * NS_S);
    p->pool.budget_percent =
        (uint8_t)(p->clean || draw_chance(w, RND_PLAN, 500) ? 100 : draw(w, RND_PLAN, 30));
    p->pool.within = p->pool.try_timeout * 2 + draw(w, RND_PLAN, 8 * NS_S);
}

static void draw_shape(struct world *w)
{
    struct plan *p = &w->plan;
    uint64_t topology = draw(w, RND_PLAN, 100);
    p->topology = topology < 58 ? TOPO_FLAT : topology < 95 ? TOPO_CHAIN : TOPO_FACING;
    p->workers = (uint8_t)draw_between(w, RND_PLAN, 1, EDGE_WORKERS_MAX);
    p->agents = (uint8_t)draw_between(w, RND_PLAN, 2, AGENTS_MAX);
    p->chain_side = draw_chance(w, RND_PLAN, 500) ? SIDE_OUTSIDE : SIDE_INSIDE;
    p->ipv6 = draw_chance(w, RND_PLAN, 200);
    p->clean = draw_chance(w, RND_PLAN, 250);
    p->tiny = draw_chance(w, RND_PLAN, 150);
    p->health = draw_chance(w, RND_PLAN, 750);
    p->target_tcp = (uint8_t)draw(w, RND_PLAN, 3);
    p->strip_routes = draw_chance(w, RND_PLAN, 250);
    p->one_sided = !p->ipv6 && draw_chance(w, RND_PLAN, 250);
    p->trusts = draw_chance(w, RND_PLAN, 500);
    p->connections_per_target = (uint8_t)draw_between(w, RND_PLAN, 1, 3);
    p->transactions = (uint32_t)(p->tiny ? draw_between(w, RND_PLAN, 32, 64) : 512);
    p->timer_c = draw_between(w, RND_PLAN, 20 * NS_S, 40 * NS_S);
    p->connect_timeout = draw_between(w, RND_PLAN, NS_S, 4 * NS_S);
}

static void draw_times(struct world *w)
{
    struct plan *p = &w->plan;
    p->storm = draw_chance(w, RND_PLAN, 100);
    p->call_count = (uint16_t)draw_between(w, RND_PLAN, p->storm ? 60 : 8, p->storm ? 84 : 40);
    p->final_count = (uint16_t)(p->tiny ? 3 : draw_between(w, RND_PLAN, 3, 8));
    p->heal_at = draw_between(w, RND_PLAN, 20 * NS_S, 60 * NS_S);
    /* Ejections, Retry-After, slow starts, lingering transactions and dead connections are over. */
    p->final_from = p->heal_at + 60 * NS_S;
    p->quiet_at = p->final_from + p->final_count * 6 * NS_S + 30 * NS_S;
    /* Timer C, then timers H and B of what it ended; patience of agents twice. */
    p->hung_up_at = p->quiet_at + p->timer_c + 150 * NS_S;
    p->end_at = p->hung_up_at + 70 * NS_S;
}

static void draw_call(struct world *w, unsigned call, mono_ns at, bool must_succeed)
{
    struct call *c = &w->call[call];
    unsigned agent = (unsigned)draw(w, RND_PLAN, w->plan.agents);
    while (w->agent[agent].hostile)
        agent = (agent + 1) % w->plan.agents;
    unsigned rnd = RND_AGENT + agent;
    uint64_t kind = draw(w, rnd, 100);
    *c = (struct call){
        .used = true,
        .must_succeed = must_succeed,
        .kind = kind < 85   ? CALL_INVITE
                : kind < 93 ? CALL_OPTIONS
                            : CALL_MESSAGE,
        .agent = (uint16_t)(NODE_AGENT + agent),
        .start = at,
        .patience = w->plan.pool.within + w->plan.timer_c + 40 * NS_S,
        .invite = NONE,
    };
    c->hangs_up = draw_chance(w, rnd, 650);
    c->again = draw_chance(w, rnd, 50);
    c->middle = (uint8_t)draw(w, rnd, 3);
    c->talk = draw_between(w, rnd, 100 * NS_MS, 8 * NS_S);
    c->is_long = !must_succeed && draw_chance(w, rnd, 80);
    if (c->is_long) {
        c->hangs_up = true;
        c->talk = w->plan.final_from - at + draw(w, rnd, 20 * NS_S);
    }
    bool gives_up = draw_chance(w, rnd, 150);
    dur_ns after = draw_between(w, rnd, 10 * NS_MS, 5 * NS_S);
    c->cancel_after = gives_up && !must_succeed ? after : 0;
    snprintf(c->tag, sizeof c->tag, "t%u", call);
    snprintf(c->dialog.call_id, sizeof c->dialog.call_id, "c%u-%llx@ua-%u", call,
             (unsigned long long)(w->seed & 0xffffff), agent + 1);
    c->dialog.cseq = 1 + (uint32_t)draw(w, rnd, 1000);
    world_at(w, at, W_CALL, c->agent, call, STEP_START, 0, NULL);
}

static void draw_calls(struct world *w)
{
    struct plan *p = &w->plan;
    for (unsigned i = 0; i < p->call_count; i++)
        draw_call(w, w->call_count++,
                  NS_S + draw(w, RND_PLAN, p->storm ? 2 * NS_S : p->heal_at - NS_S), false);
    for (unsigned i = 0; i < p->final_count; i++)
        draw_call(w, w->call_count++, p->final_from + i * 6 * NS_S + draw(w, RND_PLAN, 5 * NS_S),
                  true);
    for (unsigned i = 0; i < p->agents; i++) {
        if (w->agent[i].hostile)
            world_at(w, NS_S + draw(w, RND_HOSTILE, 5 * NS_S), W_HOSTILE, NODE_AGENT + i, 0, 0, 0,
                     NULL);
    }
}

/* A command, and what takes it back. */
static void draw_command(struct world *w, unsigned edge)
{
    static const uint8_t kinds[] = {
        CMD_SHOW_POOLS, CMD_SHOW_TRANSACTIONS, CMD_SHOW_FLOWS,        CMD_SHOW_COUNTERS,
        CMD_TARGET,     COMMAND_RELOAD,        COMMAND_RELOAD_WITHOUT};
    unsigned node = NODE_EDGE + edge;
    uint64_t command = kinds[draw(w, RND_OPERATOR, sizeof kinds)];
    uint64_t server = draw(w, RND_OPERATOR, SERVERS) << 8;
    mono_ns at = draw_between(w, RND_OPERATOR, NS_S, w->plan.heal_at - NS_MS);
    mono_ns back = at + draw(w, RND_OPERATOR, w->plan.heal_at - at);
    /* In a clean plan nothing may hide a healthy target. */
    bool hides = command == CMD_TARGET || command == COMMAND_RELOAD_WITHOUT;
    if (hides && w->plan.clean)
        command = CMD_SHOW_POOLS;
    /* A server in no pool is a stranger, unless its net is trusted. */
    if (command == COMMAND_RELOAD_WITHOUT && !w->plan.trusts)
        command = COMMAND_RELOAD;
    if (command == CMD_TARGET) {
        world_at(w, at, W_OPERATOR, node, 0, 1, command | 256, NULL);
        world_at(w, back, W_OPERATOR, node, 0, 1, command, NULL);
    } else if (command == COMMAND_RELOAD_WITHOUT) {
        world_at(w, at, W_OPERATOR, node, 0, 1, command | server, NULL);
        world_at(w, back, W_OPERATOR, node, 0, 1, COMMAND_RELOAD, NULL);
    } else {
        world_at(w, at, W_OPERATOR, node, 0, 1, command, NULL);
    }
}

static void draw_operator(struct world *w)
{
    uint64_t count = draw(w, RND_OPERATOR, 6);
    for (uint64_t i = 0; i < count; i++)
        draw_command(w, (unsigned)draw(w, RND_OPERATOR, EDGES));
}

static void tell_plan(struct world *w)
{
    static const char *const shapes[] = {"flat", "chain", "facing"};
    static const char *const faults[] = {"server down", "edge down",     "cut",
                                         "stall",       "jump",          "slab",
                                         "reset",       "server silent", "server fails"};
    const struct plan *p = &w->plan;
    TRACE(w, NODES_MAX,
          "plan: %s%s, %u workers, %u agents, ipv6 %d, clean %d, health %d, target tcp %u, "
          "%u transactions, tries %u, try %llu ms, within %llu ms, timer C %llu ms",
          shapes[p->topology], p->one_sided ? ", one-sided" : "", p->workers, p->agents, p->ipv6,
          p->clean, p->health, p->target_tcp, p->transactions, p->pool.tries,
          p->pool.try_timeout / NS_MS, p->pool.within / NS_MS, p->timer_c / NS_MS);
    for (unsigned i = 0; i < p->fault_count; i++)
        TRACE(w, p->fault[i].node, "plan: %s from %llu ms for %llu ms, %d, %llu",
              faults[p->fault[i].kind], p->fault[i].from / NS_MS, p->fault[i].lasts / NS_MS,
              p->fault[i].flag, (unsigned long long)p->fault[i].amount);
}

void plan_draw(struct world *w)
{
    draw_shape(w);
    draw_pool(w);
    draw_times(w);
    draw_nodes(w);
    draw_agents(w);
    draw_links(w);
    draw_calls(w);
    draw_operator(w);
    faults_schedule(w);
    tell_plan(w);
    world_at(w, w->plan.heal_at, W_PHASE, NODES_MAX, PHASE_HEALED, 0, 0, NULL);
    world_at(w, w->plan.final_from, W_PHASE, NODES_MAX, PHASE_FINAL, 0, 0, NULL);
    world_at(w, w->plan.quiet_at, W_PHASE, NODES_MAX, PHASE_QUIET, 0, 0, NULL);
    world_at(w, w->plan.hung_up_at, W_PHASE, NODES_MAX, PHASE_HUNG_UP, 0, 0, NULL);
    world_at(w, w->plan.end_at, W_PHASE, NODES_MAX, PHASE_END, 0, 0, NULL);
}
