/* SPDX-License-Identifier: Apache-2.0
 *
 * Draft -> snapshot: what no single value can tell. Names that must exist, values that must agree,
 * addresses that must be reachable, identities that must survive a reload. */
#include "config/config_int.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

static struct draft_listener *listeners_of(const struct draft *d)
{
    return (struct draft_listener *)d->listeners.items;
}
static struct draft_pool *pools_of(const struct draft *d)
{
    return (struct draft_pool *)d->pools.items;
}
static struct draft_target *targets_of(const struct draft_pool *p)
{
    return (struct draft_target *)p->targets.items;
}
static struct draft_route *routes_of(const struct draft *d)
{
    return (struct draft_route *)d->routes.items;
}

static const char *show(const struct judgement *j, struct slice s)
{
    return report_show(j->report, s);
}

static struct slice addr_text(const struct judgement *j, const struct addr *a, bool with_port)
{
    char room[ADDR_TEXT_MAX];
    struct text t = text_into(room, sizeof room);
    if (with_port)
        addr_put(&t, a);
    else
        addr_put_host(&t, a);
    return mem_copy(j->report->mem, text_slice(&t));
}

/* 0.0.0.0 or [::]: every address of the machine. */
static bool is_wildcard(const struct addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof zero) == 0;
}

/* ---- listeners ------------------------------------------------------------------------------- */

static void check_bind(struct judgement *j, const struct draft_listener *l)
{
    struct place at = node_place(l->head.node, "bind");
    const struct addr *a = &l->bind.addr;
    if (is_wildcard(a)) {
        if (l->advertise.text.p == NULL && node_get(l->head.node, "advertise") == NULL)
            report_at(j->report, at,
                      "`%s` is every address of this machine, and others need one of them to "
                      "answer to; add advertise: \"HOST:%u\", or bind one address",
                      show(j, l->bind.text), l->bind.port);
    } else if (!addr_is_unicast(a)) {
        report_at(j->report, at, "`%s` is no address of a machine; write one that is",
                  show(j, l->bind.text));
    }
}

/* tcp, tls, ws and wss share the ports of TCP. */
static bool same_socket(const struct endpoint *a, const struct endpoint *b)
{
    return transport_is_reliable((enum transport)a->transport) ==
               transport_is_reliable((enum transport)b->transport) &&
           addr_equal(&a->addr, &b->addr);
}

static void check_listener_twins(struct judgement *j, uint32_t index)
{
    const struct draft_listener *all = listeners_of(j->draft), *l = &all[index];
    for (uint32_t i = 0; i < index; i++) {
        const struct draft_listener *other = &all[i];
        if (l->name.n > 0 && slice_equal(l->name, other->name))
            report_at(j->report, node_place(l->head.node, "name"),
                      "a listener on line %u has the name `%s` already; write another",
                      node_place(other->head.node, "name").line, show(j, l->name));
        if (l->bind.text.p != NULL && other->bind.text.p != NULL &&
            same_socket(&l->bind, &other->bind)) {
            report_at(j->report, node_place(l->head.node, "bind"),
                      "`%s` is bound by the listener on line %u already; take one of them out",
                      show(j, l->bind.text), node_place(other->head.node, "bind").line);
            return;
        }
    }
}

/* The id that a listener had before; LISTENERS_MAX when it is new. */
static unsigned previous_id(const struct judgement *j, struct slice uri)
{
    for (unsigned id = 0; j->previous != NULL && id < LISTENERS_MAX; id++) {
        const struct edge_listener *l = &j->previous->engine.edge.listener[id];
        if (l->used && slice_equal(l->uri, uri))
            return id;
    }
    return LISTENERS_MAX;
}

/* A new listener gets an id that none had before the reload, if there is one: what still travels
 * with the id of a listener that went must not be taken for the new one's. */
static unsigned fresh_id(const struct judgement *j)
{
    const struct edge_listener *now = j->draft->c.engine.edge.listener;
    unsigned reused = LISTENERS_MAX;
    for (unsigned id = 0; id < LISTENERS_MAX; id++) {
        if (now[id].used)
            continue;
        if (j->previous == NULL || !j->previous->engine.edge.listener[id].used)
            return id;
        if (reused == LISTENERS_MAX)
            reused = id;
    }
    return reused;
}

static void place_listener(struct judgement *j, const struct draft_listener *l, unsigned id)
{
    judge__secure(j, l, &j->draft->c.listener[id]);
    bool advertised = l->advertise.text.p != NULL;
    j->draft->c.engine.edge.listener[id] = (struct edge_listener){
        .used = true,
        .name = l->name.n > 0 ? l->name : l->bind.text,
        .uri = l->bind.text,
        .bind = l->bind.addr,
        .transport = l->bind.transport,
        .side = l->side,
        .host = advertised ? l->advertise.host : addr_text(j, &l->bind.addr, false),
        .port = advertised && l->advertise.port != 0 ? l->advertise.port : l->bind.port,
        .proxy = j->draft->c.listener[id].proxy,
        .vouchers = vouchers_hash(j->draft->c.listener[id].client_ca),
    };
}

static void judge_listeners(struct judgement *j)
{
    const struct draft_listener *all = listeners_of(j->draft);
    uint32_t count = j->draft->listeners.count;
    for (uint32_t i = 0; i < count; i++) {
        check_listener_twins(j, i);
        if (all[i].bind.text.p == NULL)
            continue;
        check_bind(j, &all[i]);
        unsigned id = previous_id(j, all[i].bind.text);
        if (id < LISTENERS_MAX)
            place_listener(j, &all[i], id);
    }
    for (uint32_t i = 0; i < count; i++)
        if (all[i].bind.text.p != NULL && previous_id(j, all[i].bind.text) == LISTENERS_MAX)
            place_listener(j, &all[i], fresh_id(j));
}

/* ---- pools and targets ----------------------------------------------------------------------- */

/* What the name led to when this target was resolved last; family 0: never. */
static struct addr address_before(const struct judgement *j, struct slice pool, struct slice uri)
{
    const struct edge_opts *o = j->previous != NULL ? &j->previous->engine.edge : NULL;
    for (uint16_t i = 0; o != NULL && i < o->pool_count; i++) {
        const struct pool_opts *p = &o->pools[i];
        for (uint16_t k = 0; slice_equal(p->name, pool) && k < p->target_count; k++)
            if (slice_equal(p->targets[k].uri, uri))
                return p->targets[k].addr;
    }
    return (struct addr){0};
}

/* `before`: what it is when nobody can say now; NULL: then it is an error. */
static void resolve(struct judgement *j, struct place at, struct endpoint *e,
                    const struct addr *before)
{
    const char *host = mem_copy(j->report->mem, e->host).p;
    if (j->world->closed) {
        report_at(j->report, at, "`%s` is a name, and none is resolved here; write an address",
                  show(j, e->host));
        return;
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int error = j->world->dns_away ? EAI_AGAIN : getaddrinfo(host, NULL, &hints, &found);
    if (error == EAI_AGAIN && before != NULL) {
        /* A name server that is away, or a network that comes up after us, says nothing against
         * the file. */
        e->addr = *before;
        return;
    }
    const struct addrinfo *best = NULL;
    for (const struct addrinfo *a = found; error == 0 && a != NULL; a = a->ai_next)
        if (a->ai_family == AF_INET || (a->ai_family == AF_INET6 && best == NULL)) {
            best = a;
            if (a->ai_family == AF_INET)
                break;
        }
    if (best == NULL) {
        report_at(j->report, at,
                  "`%s` cannot be resolved: %s; correct the name, or write an address",
                  show(j, e->host), error != 0 ? gai_strerror(error) : "it has no address");
    } else if (best->ai_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)best->ai_addr;
        e->addr = (struct addr){.family = 4, .port = e->port};
        memcpy(e->addr.ip, &in->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)best->ai_addr;
        uint8_t ip[16];
        memcpy(ip, &in->sin6_addr, sizeof ip);
        e->addr = addr_from_ip6(ip, in->sin6_scope_id, e->port);
    }
    if (found != NULL)
        freeaddrinfo(found);
}

/* A datagram needs a socket of its own family to leave by; a connection at least somebody to be in
 * its Via. */
static void check_reachable(struct judgement *j, struct place at, const struct endpoint *e)
{
    const struct draft_listener *all = listeners_of(j->draft);
    for (uint32_t i = 0; i < j->draft->listeners.count; i++) {
        const struct endpoint *b = &all[i].bind;
        if (b->text.p == NULL) /* it has an error of its own */
            return;
        if (b->addr.family == e->addr.family &&
            (b->transport == e->transport || b->transport == TP_UDP))
            return;
    }
    if (j->draft->listeners.count == 0)
        return;
    const char *tp = e->transport == TP_UDP ? "udp" : e->transport == TP_TCP ? "tcp" : "tls";
    report_at(j->report, at,
              "no listener can send to `%s`; add one for %s over IPv%u, such as %s://%s",
              show(j, e->text), tp, e->addr.family, tp,
              e->addr.family == 6 ? "[2001:db8::5]:5060" : "10.0.0.5:5060");
}

/* Somebody else than ourselves, and reachable. False is reported. */
static bool check_address(struct judgement *j, struct place at, const struct endpoint *e)
{
    if (!addr_is_unicast(&e->addr)) {
        report_at(j->report, at, "nobody can be reached at `%s`; write the address of a server",
                  show(j, e->text));
        return false;
    }
    const struct draft_listener *l = listeners_of(j->draft);
    for (uint32_t i = 0; i < j->draft->listeners.count; i++)
        if (l[i].bind.text.p != NULL && same_socket(&l[i].bind, e)) {
            report_at(j->report, at,
                      "`%s` is our own listener of line %u: requests would run in a "
                      "circle; write the address of a server",
                      show(j, e->text), node_place(l[i].head.node, "bind").line);
            return false;
        }
    check_reachable(j, at, e);
    return true;
}

static void judge_address(struct judgement *j, struct place at, struct endpoint *e,
                          const struct addr *before)
{
    if (e->addr.family == 0)
        resolve(j, at, e, before);
    if (e->addr.family != 0)
        (void)check_address(j, at, e);
}

void judge__address(struct judgement *j, struct place at, struct endpoint *e)
{
    judge_address(j, at, e, NULL);
}

/* Is it in this pool twice? */
static void check_target_twins(struct judgement *j, const struct draft_pool *pool, uint32_t index)
{
    const struct draft_target *all = targets_of(pool), *t = &all[index];
    const struct endpoint *e = &t->uri;
    for (uint32_t i = 0; i < index; i++) {
        const struct endpoint *other = &all[i].uri;
        if (other->addr.family != 0 && other->transport == e->transport &&
            addr_equal(&other->addr, &e->addr)) {
            report_at(j->report, node_place(t->head.node, "uri"),
                      "`%s` is in this pool already, on line %u; take one out, or "
                      "give it a weight",
                      show(j, e->text), node_place(all[i].head.node, "uri").line);
            return;
        }
    }
}

void judge__order(struct judgement *j, const struct node *section, const char *small_key,
                  dur_ns small, const char *large_key, dur_ns large)
{
    if (small <= large || large == 0)
        return;
    char room[32];
    struct text t = text_into(room, sizeof room);
    text_put_duration(&t, large);
    const struct node *n = node_get(section, small_key);
    struct place at = n != NULL ? n->at : node_place(section, large_key);
    report_at(j->report, at, "`%s` is longer than `%s`; write at most %.*s, or a longer `%s`",
              small_key, large_key, SLICE_ARG(text_slice(&t)), large_key);
}

const struct node *judge__section(const struct node *record, const char *key)
{
    const struct node *n = node_get(record, key);
    return n != NULL && n->kind == NODE_MAP ? n : record;
}

static void judge_pool(struct judgement *j, struct draft_pool *p)
{
    struct pool_opts *o = &p->opts;
    const struct node *health = judge__section(p->head.node, "health");
    const struct node *failover = judge__section(p->head.node, "failover");
    const struct node *outlier = judge__section(p->head.node, "outlier");
    if (o->health.on)
        judge__order(j, health, "timeout", o->health.timeout, "every", o->health.every);
    judge__order(j, failover, "try", o->failover.try_timeout, "within", o->failover.within);
    if (o->outlier.eject_after != 0)
        judge__order(j, outlier, "eject_base", o->outlier.eject_base, "eject_max",
                     o->outlier.eject_max);
    if (p->on.count > 0)
        memcpy(o->failover.on, p->on.items, sizeof(uint16_t) * p->on.count);
    o->failover.on_count = (uint8_t)p->on.count;

    struct pool_target_opts *out =
        MEM_ARRAY(j->report->mem, struct pool_target_opts, p->targets.count);
    if (out == NULL)
        return;
    o->targets = out;
    o->target_count = (uint16_t)p->targets.count;
    for (uint32_t i = 0; i < p->targets.count; i++) {
        struct draft_target *t = &targets_of(p)[i];
        if (t->uri.text.p == NULL)
            continue;
        uint32_t errors_before = j->report->count;
        struct addr before = address_before(j, o->name, t->uri.text);
        judge_address(j, node_place(t->head.node, "uri"), &t->uri, &before);
        if (t->uri.addr.family != 0 && j->report->count == errors_before)
            check_target_twins(j, p, i);
        out[i] = (struct pool_target_opts){
            .uri = t->uri.text,
            .addr = t->uri.addr,
            .transport = t->uri.transport,
            .weight = t->weight,
            .has_tcp = t->uri.transport == TP_UDP && t->tcp,
            .zone = t->zone,
        };
    }
}

static void judge_pools(struct judgement *j)
{
    struct draft *d = j->draft;
    const struct edge_limits *limits = &d->c.engine.limits;
    struct pool_opts *out = MEM_ARRAY(j->report->mem, struct pool_opts, d->pools.count);
    if (out == NULL)
        return;
    uint32_t targets = 0;
    for (uint32_t i = 0; i < d->pools.count; i++) {
        judge_pool(j, &pools_of(d)[i]);
        out[i] = pools_of(d)[i].opts;
        targets += out[i].target_count;
    }
    d->c.engine.edge.pools = out;
    d->c.engine.edge.pool_count = (uint16_t)d->pools.count;
    if (limits->pools != 0 && d->pools.count > limits->pools)
        report_at(j->report, node_place(d->head.node, "pools"),
                  "%u pools are more than limits.pools; write a limit of at least that",
                  d->pools.count);
    if (limits->targets != 0 && targets > limits->targets)
        report_at(j->report, node_place(d->head.node, "pools"),
                  "%u targets are more than limits.targets; write a limit of at least that",
                  targets);
}

/* ---- routes ---------------------------------------------------------------------------------- */

/* The role that a name means, or ROLE_NONE. */
static enum edge_role role_of(struct slice name)
{
    return slice_equal(name, SLICE("registrar")) ? ROLE_REGISTRAR : ROLE_NONE;
}

static void report_no_pool(struct judgement *j, const struct draft_route *route)
{
    const struct draft_pool *pools = pools_of(j->draft);
    struct place at = node_place(route->head.node, "to");
    bool registrar = j->draft->c.engine.edge.registrar.on;
    struct guess g = guess_begin(route->to);
    char room[256];
    struct text all = text_into(room, sizeof room);
    for (uint32_t i = 0; i < j->draft->pools.count; i++) {
        guess_try(&g, pools[i].opts.name);
        text_put(&all, i == 0 ? SLICE("") : SLICE(", "));
        text_put(&all, pools[i].opts.name);
    }
    if (registrar)
        guess_try(&g, SLICE("registrar"));
    if (role_of(route->to) != ROLE_NONE)
        report_at(j->report, at,
                  "no %s runs here; add roles: {%s: {...}}, or write the name of a pool",
                  show(j, route->to), show(j, route->to));
    else if (guess_found(&g))
        report_at(j->report, at, "no pool is called `%s`; did you mean `%.*s`?", show(j, route->to),
                  SLICE_ARG(g.best));
    else if (j->draft->pools.count == 0)
        report_at(j->report, at,
                  "no pool is called `%s`; add pools: {%s: {targets: [\"udp://...\"]}}%s",
                  show(j, route->to), show(j, route->to), registrar ? ", or write registrar" : "");
    else if (text_fits(&all))
        report_at(j->report, at, "no pool is called `%s`; there are: %.*s", show(j, route->to),
                  SLICE_ARG(text_slice(&all)));
    else
        report_at(j->report, at, "no pool is called `%s`; write the name of one of the %u pools",
                  show(j, route->to), j->draft->pools.count);
}

/* Fills in who takes what the route names, or reports that there is nobody of that name. */
static void find_taker(struct judgement *j, const struct draft_route *route, struct edge_rule *rule)
{
    const struct draft_pool *pools = pools_of(j->draft);
    enum edge_role role = role_of(route->to);
    if (role == ROLE_REGISTRAR && j->draft->c.engine.edge.registrar.on) {
        rule->role = (uint8_t)role;
        return;
    }
    for (uint32_t i = 0; i < j->draft->pools.count; i++)
        if (slice_equal(pools[i].opts.name, route->to)) {
            rule->pool = (uint16_t)i;
            return;
        }
    const struct node *written = node_get(j->draft->head.node, "pools");
    bool unread = written != NULL && j->draft->pools.count == 0; /* it has an error of its own */
    if (!unread || role != ROLE_NONE)
        report_no_pool(j, route);
}

static void check_pool_names(struct judgement *j)
{
    for (uint32_t i = 0; i < j->draft->pools.count; i++) {
        const struct draft_pool *p = &pools_of(j->draft)[i];
        if (role_of(p->opts.name) != ROLE_NONE)
            report_at(j->report, p->head.node->key_at,
                      "`%s` is the name of a role, and a route could mean either; write another",
                      show(j, p->opts.name));
    }
}

/* Does the earlier rule take everything that the later one could? */
static bool covers(const struct draft_route *earlier, const struct draft_route *later)
{
    if (earlier->head.broken || later->head.broken)
        return false;
    return (earlier->from == RULE_ANY || earlier->from == later->from) &&
           (earlier->method.n == 0 || slice_equal(earlier->method, later->method));
}

static bool has_side(const struct judgement *j, uint8_t side)
{
    const struct draft *d = j->draft;
    if (side == SIDE_INSIDE && d->trusted.count > 0)
        return true;
    for (uint32_t i = 0; i < d->listeners.count; i++)
        if (listeners_of(d)[i].side == side || listeners_of(d)[i].head.broken)
            return true;
    return d->listeners.count == 0;
}

static void check_route(struct judgement *j, uint32_t index)
{
    const struct draft_route *all = routes_of(j->draft), *route = &all[index];
    struct place at = node_place(route->head.node, "from");
    if (route->head.broken)
        return;
    if (route->from == SIDE_INSIDE && !has_side(j, SIDE_INSIDE))
        report_at(j->report, at,
                  "no request comes from inside: no listener has side: inside, and `trusted` is "
                  "empty; add one of the two, or write from: outside");
    if (route->from == SIDE_OUTSIDE && !has_side(j, SIDE_OUTSIDE))
        report_at(j->report, at,
                  "no request comes from outside: every listener has side: inside; "
                  "add one with side: outside, or write from: inside");
    for (uint32_t i = 0; i < index; i++) {
        if (!covers(&all[i], route))
            continue;
        report_at(j->report, route->head.node->at,
                  "this route is never reached: the one on line %u takes all that it could; put "
                  "this one first, or take it out",
                  all[i].head.node->at.line);
        return;
    }
}

static void judge_routes(struct judgement *j)
{
    struct draft *d = j->draft;
    struct edge_rule *out = MEM_ARRAY(j->report->mem, struct edge_rule, d->routes.count);
    if (out == NULL)
        return;
    for (uint32_t i = 0; i < d->routes.count; i++) {
        const struct draft_route *route = &routes_of(d)[i];
        if (route->to.p == NULL)
            continue;
        check_route(j, i);
        out[i] = (struct edge_rule){.from = route->from, .method = route->method};
        find_taker(j, route, &out[i]);
    }
    d->c.engine.edge.rules = out;
    d->c.engine.edge.rule_count = (uint16_t)d->routes.count;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void judge_tokens(struct judgement *j, const uint8_t random_key[32])
{
    struct config *c = &j->draft->c;
    uint8_t tickets[TOKEN_KEYS_MAX][TICKET_SECRET_BYTES];
    struct token_keys *keys = &c->engine.edge.keys;
    if (j->draft->tokens.p != NULL) {
        struct place at = node_place(node_get(j->draft->head.node, "secrets"), "tokens");
        if (j->world->closed)
            report_at(j->report, at, "no file is read here; leave `secrets` out");
        else
            secrets_read(j->report, j->draft->tokens, at, keys, tickets);
    } else {
        c->tokens_are_random = true;
        if (j->previous != NULL && j->previous->tokens_are_random) {
            *keys = j->previous->engine.edge.keys;
            c->ticket_secret = mem_copy(j->report->mem, j->previous->ticket_secret);
            return;
        }
        keys->count = 1;
        MUST(token_key_init(&keys->key[0], slice_of(random_key, 32)) == 0);
        secret_for_tickets(slice_of(random_key, 32), tickets[0]);
    }
    c->ticket_secret =
        mem_copy(j->report->mem, slice_of(tickets, (size_t)keys->count * TICKET_SECRET_BYTES));
    explicit_bzero(tickets, sizeof tickets);
}

static uint32_t usable_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > WORKERS_MAX ? WORKERS_MAX : (uint32_t)count;
}

static void derive(struct judgement *j)
{
    struct config *c = &j->draft->c;
    if (c->workers == 0)
        c->workers = usable_processors();
    c->engine.edge.log_transactions = c->log.on;

    struct edge_limits *l = &c->engine.limits;
    if (!c->engine.edge.registrar.on)
        l->bindings = 0;
    static const struct {
        uint32_t share, least;
    } blocks[BLOCK_CLASSES] = {{1, 16}, {2, 16}, {16, 16}, {512, 8}};
    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        uint32_t count = l->transactions / blocks[i].share;
        if (l->blocks[i] == 0)
            l->blocks[i] = count < blocks[i].least ? blocks[i].least : count;
    }
    if (c->control.p == NULL) {
        char room[SOCKET_PATH_BYTES_MAX];
        struct text t = text_into(room, sizeof room);
        bool root = geteuid() == 0;
        text_put(&t, root ? SLICE("/run/weir/") : SLICE("/tmp/weir-"));
        text_put(&t, c->engine.edge.node_name);
        TEXT_LIT(&t, ".sock");
        c->control = mem_copy(j->report->mem, text_slice(&t));
    }
    c->engine.edge.trusted = (const struct prefix *)j->draft->trusted.items;
    c->engine.edge.trusted_count = (uint16_t)j->draft->trusted.count;
}

/* ---- what only a restart can change ---------------------------------------------------------- */

static void check_state_same(struct judgement *j)
{
    const struct config *now = &j->draft->c, *before = j->previous;
    const struct node *root = j->draft->head.node;
    const struct node *registrar = judge__section(judge__section(root, "roles"), "registrar");
    if (now->engine.edge.registrar.on != before->engine.edge.registrar.on) {
        report_at(j->report, registrar == root ? root->at : registrar->at,
                  "roles.registrar cannot %s while it runs; %s, or restart",
                  before->engine.edge.registrar.on ? "end" : "begin",
                  before->engine.edge.registrar.on ? "leave it in" : "take it out");
        return;
    }
    if (!slice_equal(now->state, before->state))
        report_at(j->report, node_place(registrar, "state"),
                  "roles.registrar.state cannot change while it runs; write `%s` as before, or "
                  "restart",
                  show(j, before->state));
    if (now->state_bytes_max != before->state_bytes_max) {
        char room[32];
        struct text t = text_into(room, sizeof room);
        text_put_size(&t, before->state_bytes_max);
        report_at(j->report, node_place(registrar, "state_size"),
                  "roles.registrar.state_size cannot change while it runs; write %.*s as before, "
                  "or restart",
                  SLICE_ARG(text_slice(&t)));
    }
}

static void check_same(struct judgement *j, const char *section, const char *key, uint64_t now,
                       uint64_t before)
{
    if (now == before)
        return;
    const struct node *map = judge__section(j->draft->head.node, section);
    report_at(j->report, node_place(map, key),
              "%s.%s cannot change while it runs; write %llu as before, or restart", section, key,
              (unsigned long long)before);
}

static void check_restart(struct judgement *j)
{
    const struct config *now = &j->draft->c, *before = j->previous;
    const struct edge_limits *a = &now->engine.limits, *b = &before->engine.limits;
    static const char *const blocks[BLOCK_CLASSES] = {"small", "medium", "large", "huge"};
    check_same(j, "node", "id", now->engine.edge.node_id, before->engine.edge.node_id);
    check_same(j, "node", "workers", now->workers, before->workers);
    check_same(j, "limits", "transactions", a->transactions, b->transactions);
    check_same(j, "limits", "flows", a->flows, b->flows);
    check_same(j, "limits", "target_flows", a->target_flows, b->target_flows);
    check_same(j, "limits", "targets", a->targets, b->targets);
    check_same(j, "limits", "pools", a->pools, b->pools);
    check_same(j, "guard", "sources", a->guard.sources, b->guard.sources);
    if (now->engine.edge.registrar.on && before->engine.edge.registrar.on)
        check_same(j, "limits", "bindings", a->bindings, b->bindings);
    check_state_same(j);
    const struct node *limits = judge__section(j->draft->head.node, "limits");
    const struct node *messages = judge__section(limits, "messages");
    for (unsigned i = 0; i < BLOCK_CLASSES; i++)
        if (a->blocks[i] != b->blocks[i] && a->transactions == b->transactions)
            report_at(j->report, node_place(messages, blocks[i]),
                      "limits.messages.%s cannot change while it runs; write %u as before, or "
                      "restart",
                      blocks[i], b->blocks[i]);
    if (!slice_equal(now->control, before->control))
        report_at(j->report, node_place(j->draft->head.node, "control"),
                  "control cannot change while it runs; write `%s` as before, or restart",
                  show(j, before->control));
}

void judge(struct report *r, struct draft *d, const struct config *previous,
           const uint8_t random_key[32], const struct world *world)
{
    struct judgement j = {r, d, previous, world};
    const struct node *timers = judge__section(d->head.node, "timers");
    uint32_t found_before = r->count;
    derive(&j);
    judge_listeners(&j);
    judge_pools(&j);
    check_pool_names(&j);
    judge_routes(&j);
    judge_tokens(&j, random_key);
    judge__registrar(&j);
    judge__fleet(&j);
    judge__peers(&j);
    judge__guard(&j);
    struct edge_keepalive *keepalive = &d->c.engine.edge.keepalive;
    keepalive->mobile_agents = (const struct slice *)d->mobile_agents.items;
    keepalive->mobile_agent_count = (uint16_t)d->mobile_agents.count;
    judge__order(&j, judge__section(d->head.node, "keepalive"), "every", keepalive->every, "max",
                 keepalive->max);
    judge__order(&j, timers, "t1", d->c.engine.edge.timers.t1, "t2", d->c.engine.edge.timers.t2);
    /* A value that could not be read would only seem to have changed. */
    if (previous != NULL && found_before == 0)
        check_restart(&j);
}
