/* SPDX-License-Identifier: Apache-2.0
 *
 * A process in the world of phones: its engines, its disk, its sockets. See flows.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "flows.h"
#include "memory.h"

/* Listeners of an edge by id; the registrar of the split topology has the last alone. */
enum { L_UDP, L_TCP, L_TLS, L_WSS, L_INSIDE, L__COUNT };

#define FORGOTTEN_AFTER (2 * NS_S)

static struct actions actions;
static char *scratch;

/* ---- configuration --------------------------------------------------------------------------- */

static struct slice keep(struct fl_node *n, const char *s)
{
    size_t len = strlen(s);
    MUST(n->text_n + len <= sizeof n->text);
    memcpy(n->text + n->text_n, s, len);
    n->text_n += len;
    return slice_of(n->text + n->text_n - len, len);
}

static struct slice keep_host(struct fl_node *n, const struct addr *a)
{
    char buf[ADDR_TEXT_MAX + 1] = "";
    struct text t = text_into(buf, ADDR_TEXT_MAX);
    addr_put_host(&t, a);
    return keep(n, buf);
}

static void fill_listeners(struct fl_world *w, struct fl_node *n, bool registrar_alone)
{
    static const uint8_t transport[L__COUNT] = {TP_UDP, TP_TCP, TP_TLS, TP_WSS, TP_UDP};
    static const uint16_t port[L__COUNT] = {5060, 5060, 5061, 443, 5060};
    static const char *const name[L__COUNT] = {"udp", "tcp", "tls", "wss", "inside"};
    (void)w;
    for (unsigned id = registrar_alone ? L_INSIDE : 0; id < L__COUNT; id++) {
        struct addr a = id == L_INSIDE ? n->inside : n->outside;
        a.port = port[id];
        n->opts.edge.listener[id] = (struct edge_listener){
            .used = true,
            .name = keep(n, name[id]),
            .uri = keep(n, name[id]),
            .bind = a,
            .transport = transport[id],
            .side = id == L_INSIDE ? SIDE_INSIDE : SIDE_OUTSIDE,
            .host = keep_host(n, &a),
            .port = a.port,
        };
    }
}

static void fill_limits(struct edge_limits *l, bool registrar)
{
    edge_limits_default(l);
    l->transactions = 2048;
    l->flows = FL_SLOTS;
    l->target_flows = 16;
    l->blocks[0] = l->blocks[1] = 4096;
    l->blocks[2] = 512;
    l->blocks[3] = 8;
    l->targets = 8;
    l->pools = 2;
    l->bindings = registrar ? 256 : 0;
}

static void fill_rules(struct fl_world *w, struct fl_node *n, bool registrar)
{
    struct edge_opts *e = &n->opts.edge;
    e->rules = n->rule;
    e->rule_count = 1;
    n->rule[0] =
        (struct edge_rule){.from = RULE_ANY, .role = registrar ? ROLE_REGISTRAR : ROLE_NONE};
    if (registrar)
        return;
    struct addr to = w->node[FL_REGISTRAR].inside;
    n->target[0] = (struct pool_target_opts){
        .uri = keep(n, "udp://registrar"), .addr = to, .transport = TP_UDP, .weight = 1};
    pool_opts_default(&n->pool[0]);
    n->pool[0].name = keep(n, "registrars");
    n->pool[0].targets = n->target;
    n->pool[0].target_count = 1;
    n->pool[0].health.on = false;
    n->pool[0].outlier.eject_after = 0;
    e->pools = n->pool;
    e->pool_count = 1;
}

static void fill_registrar(struct fl_node *n, struct registrar_opts *r)
{
    n->domain[0] = keep(n, "example.com");
    *r = (struct registrar_opts){
        .on = true,
        .domains = n->domain,
        .domain_count = 1,
        .expires_min_s = 10,
        .expires_max_s = 120,
        .expires_default_s = 60,
        .expires_jitter_percent = 10,
        .contacts_max = 8,
        .flow_timer_s = 30,
        .nonce_life_s = 300,
        .realm = n->domain[0],
        .keys = &n->opts.edge.keys,
    };
}

static void fill(struct fl_world *w, unsigned node)
{
    static const char secret[] = "one key that the whole fleet of phones' edges shares";
    struct fl_node *n = &w->node[node];
    struct edge_opts *e = &n->opts.edge;
    bool alone = w->split && node == FL_REGISTRAR, registrar = alone || !w->split;
    memset(&n->opts, 0, sizeof n->opts);
    n->text_n = 0;
    fill_limits(&n->opts.limits, registrar);
    e->node_name = keep(n, node == FL_REGISTRAR ? "registrar" : node == 0 ? "edge-1" : "edge-2");
    e->node_id = (uint16_t)(node + 1);
    fill_listeners(w, n, alone);
    fill_rules(w, n, registrar);
    e->keys.count = 1;
    MUST(token_key_init(&e->keys.key[0], slice_of(secret, sizeof secret - 1)) == 0);
    MUST(prefix_parse(SLICE("10.0.0.0/8"), &n->trusted[0]) == 0);
    e->trusted = n->trusted;
    e->trusted_count = 1;
    if (w->split && !alone) {
        unsigned other = 1 - node;
        n->fleet[0] = (struct edge_neighbour){
            .id = (uint16_t)(other + 1), .transport = TP_UDP, .addr = w->node[other].inside};
        e->fleet = n->fleet;
        e->fleet_count = 1;
    }
    e->hops_max = 70;
    e->timers = TXN_TIMERS_DEFAULT;
    e->timer_c = 185 * NS_S;
    e->trying_delay = 100 * NS_MS;
    e->connect_timeout = 3 * NS_S;
    e->connections_per_target = 2;
    e->log_transactions = true;
    e->keepalive =
        (struct edge_keepalive){.every = 20 * NS_S, .max = 60 * NS_S, .jitter_percent = 20};
    if (w->pings_udp)
        e->keepalive.udp = 8 * NS_S;
    if (registrar)
        fill_registrar(n, &e->registrar);
}

/* ---- disk ------------------------------------------------------------------------------------ */

static void disk_apply(struct fl_world *w, struct fl_node *n, struct slice records)
{
    struct record r;
    while (record_next(&records, &r) == 1) {
        struct fl_record *free_one = NULL, *at = NULL;
        fl_trace(w, "node %u stores: %s %.*s", (unsigned)(n - w->node),
                 r.op == RECORD_DELETE ? "delete" : "put", SLICE_ARG(r.key));
        for (unsigned i = 0; i < FL_DISK; i++) {
            struct fl_record *d = &n->disk[i];
            if (d->whole == NULL)
                free_one = free_one == NULL ? d : free_one;
            else if (slice_equal(slice_of(d->key, d->key_n), r.key))
                at = d;
        }
        if (at != NULL) {
            free(at->whole);
            at->whole = NULL;
        } else {
            at = free_one;
        }
        if (r.op == RECORD_DELETE)
            continue;
        if (at == NULL || r.key.n > sizeof at->key) {
            fl_fail(w, "the disk is full of records");
            return;
        }
        memcpy(at->key, r.key.p, r.key.n);
        at->key_n = r.key.n;
        at->whole = fl_packet(NULL, NULL, r.whole);
    }
}

bool fl_on_disk(const struct fl_world *w, unsigned node, struct slice aor)
{
    for (unsigned i = 0; i < FL_DISK; i++) {
        const struct fl_record *d = &w->node[node].disk[i];
        if (d->whole != NULL && d->key_n > aor.n && d->key[aor.n] == '\0' &&
            memcmp(d->key, aor.p, aor.n) == 0)
            return true;
    }
    return false;
}

/* ---- stepping -------------------------------------------------------------------------------- */

static void schedule_tick(struct fl_world *w, unsigned node, unsigned worker)
{
    struct fl_worker *k = &w->node[node].worker[worker];
    mono_ns at = engine_deadline(k->engine);
    dur_ns skew = w->node[node].skew;
    if (at == MONO_NONE)
        return;
    at = at > skew ? at - skew : 0;
    at = (at < w->now ? w->now : at) + fl_below(w, NS_MS);
    if (k->tick_at != MONO_NONE && k->tick_at <= at)
        return;
    k->tick_at = at;
    fl_at(w, at - w->now, FL_TICK, node, worker, w->node[node].life, at, NULL);
}

static size_t flatten(const struct action *a, char *dst, size_t cap)
{
    size_t n = 0;
    for (uint32_t i = 0; i < a->iov_count; i++) {
        const struct iovec *v = &actions.iov[a->iov + i];
        MUST(v->iov_len <= cap - n);
        if (v->iov_len > 0)
            memcpy(dst + n, v->iov_base, v->iov_len);
        n += v->iov_len;
    }
    return n;
}

/* The number of the phone in "sip:p7@…" or "sip:p7-…"; FL_NONE. */
int fl_phone_named(struct slice uri)
{
    struct sip_uri u;
    uint64_t n;
    if (sip_uri_parse(uri, &u) != 0 || u.user.n < 2 || u.user.p[0] != 'p')
        return FL_NONE;
    struct slice digits = slice_take(slice_drop(u.user, 1), slice_find(slice_drop(u.user, 1), '-'));
    return text_parse_u64(digits, FL_PHONES - 1, &n) == 0 ? (int)n : FL_NONE;
}

static bool was_sent(struct fl_world *w, const struct sip_msg *m)
{
    static const struct hash_seed seed = {1, 2};
    struct slice via = sip_header_value(m, SIP_H_VIA);
    uint64_t hash = siphash(&seed, via.p, via.n);
    for (unsigned i = 0; i < FL_SENT; i++)
        if (w->sent[i] == hash)
            return true;
    w->sent[w->sent_next++ % FL_SENT] = hash;
    return false;
}

/* A call over UDP goes to where its phone registered last; a retransmission goes where its INVITE
 * went, whoever has that port by now. */
static void check_call_out(struct fl_world *w, const struct sip_msg *m, const struct addr *dest)
{
    for (unsigned n = 0; n < FL_NATS; n++) {
        unsigned i = dest->port - 1000u;
        if (!addr_same_host(&w->nat[n].addr, dest) || i >= FL_PORTS || was_sent(w, m))
            continue;
        int spoke = w->nat[n].spoke[i], named = fl_phone_named(sip_slice(m, m->uri));
        if (spoke != FL_NONE && named != spoke)
            fl_fail(w, "a call for phone %d is sent to where phone %d registered since", named,
                    spoke);
    }
}

/* A message leaves a process: what must be true of it. */
static void check_out(struct fl_world *w, unsigned node, const struct addr *dest,
                      struct slice bytes)
{
    static struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    if (sip_index(&m, bytes.p, bytes.n, true, &fault) != 0)
        return;
    if (m.is_request) {
        if (dest != NULL && m.method == SIP_M_INVITE)
            check_call_out(w, &m, dest);
        return;
    }
    bool stores = node == FL_REGISTRAR || !w->split;
    if (!stores || m.status != 200 || was_sent(w, &m) || sip_check_response(&m, &f, &fault) != 0 ||
        f.method != SIP_M_REGISTER)
        return;
    struct sip_nameaddr na;
    struct sip_uri u;
    if (sip_nameaddr_parse(f.to, &na) != 0 || sip_uri_parse(na.uri, &u) != 0)
        return;
    char aor[64];
    int n = snprintf(aor, sizeof aor, "%.*s@example.com", SLICE_ARG(u.user));
    if (sip_has(&m, SIP_H_CONTACT) && !fl_on_disk(w, node, slice_of(aor, (size_t)n)))
        fl_fail(w, "a REGISTER of %s is acknowledged that is not on disk", aor);
    int named = fl_phone_named(na.uri);
    for (unsigned i = 0; dest != NULL && i < FL_NATS && !w->split; i++)
        if (addr_same_host(&w->nat[i].addr, dest) && dest->port - 1000u < FL_PORTS)
            w->nat[i].spoke[dest->port - 1000u] = (int16_t)named;
}

/* The first line of what a process sends, for those who read the trace. */
static void trace_out(struct fl_world *w, unsigned node, const struct addr *dest,
                      struct slice bytes)
{
    char to[ADDR_TEXT_MAX + 1] = "a flow";
    struct text t = text_into(to, ADDR_TEXT_MAX);
    if (dest != NULL) {
        addr_put(&t, dest);
        to[text_slice(&t).n] = '\0';
    }
    fl_trace(w, "node %u -> %s: %.*s", node, to,
             SLICE_ARG(slice_take(bytes, slice_find(bytes, '\r'))));
}

static void do_send(struct fl_world *w, unsigned node, const struct action *a, struct slice bytes)
{
    const struct edge_listener *l = &w->node[node].opts.edge.listener[a->listener];
    MUST(a->listener < L__COUNT && l->used && l->transport == TP_UDP);
    check_out(w, node, &a->dest, bytes);
    trace_out(w, node, &a->dest, bytes);
    dur_ns late = NS_MS + fl_below(w, 40 * NS_MS);
    if (w->phase < FL_HEALED && fl_chance(w, 20))
        return;
    unsigned to = FL_NODES;
    for (unsigned n = 0; n < FL_NODES; n++)
        if (addr_equal(&a->dest, &w->node[n].inside) || addr_equal(&a->dest, &w->node[n].outside))
            to = n;
    fl_at(w, late, FL_DATAGRAM, to, 0, 0, 0, fl_packet(&l->bind, &a->dest, bytes));
}

static struct fl_conn *conn_of(struct fl_world *w, unsigned node, struct flow_id id)
{
    for (unsigned i = 0; i < FL_CONNS; i++)
        if (w->conn[i].used && w->conn[i].open && w->conn[i].node == node &&
            flow_id_equal(w->conn[i].id, id))
            return &w->conn[i];
    return NULL;
}

static void do_send_flow(struct fl_world *w, unsigned node, const struct action *a,
                         struct slice bytes)
{
    struct fl_conn *c = conn_of(w, node, a->flow);
    check_out(w, node, NULL, bytes);
    trace_out(w, node, NULL, bytes);
    if (c != NULL)
        fl_stream_send(w, (unsigned)(c - w->conn), FL_DOWN, bytes);
}

static void do_store(struct fl_world *w, unsigned node, unsigned worker, const struct action *a,
                     struct slice records)
{
    mono_ns *last = &w->node[node].stored_at, at = w->now + NS_MS + fl_below(w, 30 * NS_MS);
    *last = at <= *last ? *last + 1 : at;
    int error = w->node[node].disk_fails ? ENOSPC : 0;
    fl_at(w, *last - w->now, FL_STORED, node, worker | w->node[node].life << 8, (uint32_t)error,
          a->id, fl_packet(NULL, NULL, records));
}

static void do_handover(struct fl_world *w, unsigned node, const struct action *a,
                        struct slice bytes)
{
    MUST(a->worker < w->workers && a->hand.len == bytes.n);
    struct packet *k = calloc(1, sizeof *k + sizeof a->hand + bytes.n);
    MUST(k != NULL);
    k->n = (uint32_t)(sizeof a->hand + bytes.n);
    memcpy(k->bytes, &a->hand, sizeof a->hand);
    if (bytes.n > 0)
        memcpy(k->bytes + sizeof a->hand, bytes.p, bytes.n);
    fl_at(w, fl_below(w, 100 * NS_US), FL_HANDED, node, a->worker, w->node[node].life, 0, k);
}

static void do_one(struct fl_world *w, unsigned node, unsigned worker, const struct action *a)
{
    static char flat[SIP_MESSAGE_BYTES_MAX + 65536];
    struct slice bytes = slice_of(flat, flatten(a, flat, sizeof flat));
    struct fl_conn *c;
    switch ((enum action_kind)a->kind) {
    case ACT_SEND:
        do_send(w, node, a, bytes);
        break;
    case ACT_SEND_FLOW:
        do_send_flow(w, node, a, bytes);
        break;
    case ACT_CONNECT:
        fl_fail(w, "node %u opens a connection: nobody here may be connected to", node);
        break;
    case ACT_CLOSE:
        if ((c = conn_of(w, node, a->flow)) != NULL)
            fl_reset(w, (unsigned)(c - w->conn), false);
        break;
    case ACT_PING: /* every client here pongs */
        if ((c = conn_of(w, node, a->flow)) != NULL && c->phone_has)
            fl_at(w, 80 * NS_MS, FL_PIECE, node, (uint32_t)(c - w->conn), FL_UP, c->gen,
                  fl_packet(NULL, NULL, SLICE_NONE));
        break;
    case ACT_STORE:
        do_store(w, node, worker, a, bytes);
        break;
    case ACT_HANDOVER:
        do_handover(w, node, a, bytes);
        break;
    case ACT_RESOLVE:
        fl_fail(w, "node %u asks for the name %.*s", node, SLICE_ARG(a->text));
        break;
    case ACT_LOG:
    case ACT_NOTICE:
    case ACT_REPLY:
        break;
    }
}

/* As a driver that steps several events before it executes: now and then there is as little room as
 * a step was promised. Returns the first action that is its own. */
static uint32_t begin_actions(struct fl_world *w)
{
    actions_reset(&actions);
    if (fl_chance(w, 100)) {
        actions.count = STEP_ACTIONS_MAX - STEP_ACTIONS_ROOM;
        actions.iov_count = STEP_IOV_MAX - STEP_IOV_ROOM;
        actions.scratch.used = actions.scratch.cap - STEP_SCRATCH_ROOM;
    }
    return actions.count;
}

static void step(struct fl_world *w, unsigned node, unsigned worker, struct event *ev)
{
    struct fl_worker *k = &w->node[node].worker[worker];
    if (w->failed || !w->node[node].up)
        return;
    mono_ns now = w->now + w->node[node].skew;
    MUST(now >= k->last_now);
    k->last_now = now;
    w->sum.steps++;
    ev->wall_ns = now + (uint64_t)(1700000000LL + w->node[node].wall_off_s) * NS_S;
    if (scratch == NULL) {
        scratch = malloc(STEP_SCRATCH_BYTES);
        MUST(scratch != NULL);
        actions.scratch = arena_over(scratch, STEP_SCRATCH_BYTES);
    }
    uint32_t from = begin_actions(w);
    (void)engine_step(k->engine, ev, now, &actions);
    for (uint32_t i = from; i < actions.count && !w->failed; i++)
        do_one(w, node, worker, &actions.a[i]);
    schedule_tick(w, node, worker);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void fill_random(void *ctx, void *dst, size_t n)
{
    struct fl_world *w = ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)dst)[i] = (uint8_t)fl_below(w, 256);
}

static void load(struct fl_world *w, unsigned node)
{
    for (unsigned i = 0; i < FL_DISK; i++) {
        const struct fl_record *d = &w->node[node].disk[i];
        if (d->whole == NULL)
            continue;
        struct event ev = {.kind = EV_BINDING, .bytes = slice_of(d->whole->bytes, d->whole->n)};
        for (unsigned k = 0; k < w->workers; k++)
            step(w, node, k, &ev);
    }
}

void fl_boot(struct fl_world *w, unsigned node)
{
    struct fl_node *n = &w->node[node];
    fill(w, node);
    n->life++;
    n->up = true;
    n->stalled_until = 0;
    struct hash_seed shared = {w->seed ^ n->life, node + 1};
    for (unsigned i = 0; i < w->workers; i++) {
        struct fl_worker *k = &n->worker[i];
        *k = (struct fl_worker){.tick_at = MONO_NONE,
                                .flow_gen = (uint64_t)n->life << 32,
                                .fault = {.countdown = UINT64_MAX}};
        k->mem_size = engine_memory(&n->opts);
        k->mem = mmap(NULL, k->mem_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        MUST(k->mem != MAP_FAILED);
        struct engine_birth birth = {.worker = i,
                                     .workers = w->workers,
                                     .process_generation =
                                         (uint32_t)(w->seed * 31 + n->life * 8 + node),
                                     .shared_seed = shared,
                                     .rng = {fill_random, w},
                                     .prng_seed = w->seed + node + i,
                                     .fault = &k->fault};
        k->engine = engine_new(k->mem, k->mem_size, &n->opts, &birth, w->now + n->skew);
        MUST(k->engine != NULL);
    }
    load(w, node);
}

void fl_kill(struct fl_world *w, unsigned node)
{
    struct fl_node *n = &w->node[node];
    n->up = false;
    for (unsigned i = 0; i < w->workers; i++) {
        sim_unmap(n->worker[i].mem, n->worker[i].mem_size);
        n->worker[i].engine = NULL;
    }
    for (unsigned i = 0; i < FL_CONNS; i++)
        if (w->conn[i].node == node)
            w->conn[i].open = false;
}

/* ---- what comes in --------------------------------------------------------------------------- */

static unsigned steer(const struct fl_world *w, unsigned node, const struct packet *k)
{
    struct hash_seed seed = {w->seed, w->node[node].life};
    struct slice parts[2] = {slice_of(&k->src, sizeof k->src), slice_of(&k->dst, sizeof k->dst)};
    return (unsigned)(siphash_parts(&seed, parts, 2) % w->workers);
}

static void on_datagram(struct fl_world *w, struct occurrence *o)
{
    struct packet *k = o->packet;
    const struct fl_node *n = &w->node[o->node];
    struct event ev = {.kind = EV_DATAGRAM,
                       .listener = addr_equal(&k->dst, &n->inside) ? L_INSIDE : L_UDP,
                       .transport = TP_UDP,
                       .source = k->src,
                       .bytes = slice_of(k->bytes, k->n)};
    if (n->up && n->opts.edge.listener[ev.listener].used)
        step(w, o->node, steer(w, o->node, k), &ev);
}

static struct event event_of(const struct fl_conn *c, enum event_kind kind)
{
    static const uint8_t transport[L__COUNT] = {TP_UDP, TP_TCP, TP_TLS, TP_WSS, TP_UDP};
    return (struct event){.kind = (uint8_t)kind,
                          .listener = c->listener,
                          .transport = transport[c->listener],
                          .flow = c->id,
                          .source = c->source};
}

static void on_opened(struct fl_world *w, struct occurrence *o)
{
    struct fl_conn *c = &w->conn[o->a];
    if (!c->used || c->gen != o->c || !c->phone_has)
        return;
    struct fl_worker *k = &w->node[c->node].worker[c->worker];
    uint32_t slot = 0;
    while (slot < FL_SLOTS && k->slot_taken[slot])
        slot++;
    if (slot == FL_SLOTS || !w->node[c->node].up) {
        fl_reset(w, o->a, false);
        return;
    }
    k->slot_taken[slot] = true;
    c->id = (struct flow_id){.gen = ++k->flow_gen, .slot = slot, .worker = c->worker};
    c->open = true;
    struct event ev = event_of(c, EV_FLOW_OPENED);
    step(w, c->node, c->worker, &ev);
}

void fl_node_framed(struct fl_world *w, struct fl_conn *c, int result, struct slice bytes)
{
    struct event ev = event_of(c, result < 0                    ? EV_FRAME_FAULT
                                  : result == SIP_FRAME_PING    ? EV_PING
                                  : result == SIP_FRAME_MESSAGE ? EV_MESSAGE
                                                                : EV_ALIVE);
    ev.error = result < 0 ? result : 0;
    ev.bytes = bytes;
    step(w, c->node, c->worker, &ev);
}

static void on_gone(struct fl_world *w, struct occurrence *o)
{
    struct fl_conn *c = &w->conn[o->a];
    if (c->open) {
        c->open = false;
        w->node[c->node].worker[c->worker].slot_taken[c->id.slot] = false;
        struct event ev = event_of(c, EV_FLOW_CLOSED);
        ev.error = (int)(o->b >> 1);
        step(w, c->node, c->worker, &ev);
        if (!w->split)
            fl_at(w, FORGOTTEN_AFTER, FL_FORGOTTEN, c->node, c->phone, 0, w->now, NULL);
    }
    if (!c->phone_has)
        fl_stream_over(c);
}

static bool has_open_conn(const struct fl_world *w, unsigned phone)
{
    for (unsigned i = 0; i < FL_CONNS; i++)
        if (w->conn[i].used && w->conn[i].open && w->conn[i].phone == phone)
            return true;
    return false;
}

/* RFC 5626 4.2.2: a binding ends with its flow. Of a phone that has one, and no other since. */
static void on_forgotten(struct fl_world *w, const struct occurrence *o)
{
    const struct fl_phone *p = &w->phone[o->a];
    char aor[64];
    int n = snprintf(aor, sizeof aor, "p%u@example.com", o->a);
    /* A put that failed may cost the deletes of two minutes. */
    bool calm = w->trouble_at == 0 || w->trouble_at + 125 * NS_S < o->c;
    if (calm && p->flows == 1 && !has_open_conn(w, o->a) &&
        fl_on_disk(w, o->node, slice_of(aor, (size_t)n)))
        fl_fail(w, "%s is on disk, but its connection is gone", aor);
}

static void on_handed(struct fl_world *w, struct occurrence *o)
{
    struct hand h;
    memcpy(&h, o->packet->bytes, sizeof h);
    struct event ev = {.kind = EV_HANDED,
                       .listener = h.listener,
                       .transport = h.transport,
                       .hops = h.hops,
                       .flow = h.flow,
                       .source = h.source,
                       .bytes = slice_of(o->packet->bytes, o->packet->n)};
    if (w->node[o->node].life == o->b)
        step(w, o->node, o->a, &ev);
}

static void on_stored(struct fl_world *w, struct occurrence *o)
{
    if (w->node[o->node].life != o->a >> 8)
        return; /* it was killed before the commit */
    if (o->b == 0)
        disk_apply(w, &w->node[o->node], slice_of(o->packet->bytes, o->packet->n));
    if (o->c != 0)
        fl_at(w, 0, FL_TOLD, o->node, o->a, o->b, o->c, NULL);
}

static void on_told(struct fl_world *w, struct occurrence *o)
{
    struct event ev = {.kind = EV_STORED, .id = o->c, .error = (int)o->b};
    if (w->node[o->node].life == o->a >> 8)
        step(w, o->node, o->a & 255, &ev);
}

static void on_tick(struct fl_world *w, struct occurrence *o)
{
    struct fl_worker *k = &w->node[o->node].worker[o->a];
    if (w->node[o->node].life != o->b || k->tick_at != o->c)
        return;
    k->tick_at = MONO_NONE;
    struct event ev = {.kind = EV_TIMER};
    step(w, o->node, o->a, &ev);
}

bool fl_node_waits(struct fl_world *w, struct occurrence *o)
{
    bool waits = o->what == FL_DATAGRAM || o->what == FL_OPENED || o->what == FL_TICK ||
                 o->what == FL_HANDED || o->what == FL_TOLD ||
                 (o->what == FL_PIECE && o->b == FL_UP) || (o->what == FL_CLOSED && !(o->b & 1));
    if (!waits || o->node >= FL_NODES || w->node[o->node].stalled_until <= w->now)
        return false;
    struct occurrence late = *o;
    late.at = w->node[o->node].stalled_until;
    queue_push(&w->queue, &late);
    return true;
}

void fl_node_wake(struct fl_world *w, unsigned node)
{
    if (w->node[node].stalled_until > w->now)
        return;
    for (unsigned i = 0; i < w->workers; i++) {
        struct event ev = {.kind = EV_TIMER};
        step(w, node, i, &ev);
    }
}

void fl_node_happen(struct fl_world *w, struct occurrence *o)
{
    switch ((enum fl_what)o->what) {
    case FL_DATAGRAM:
        on_datagram(w, o);
        break;
    case FL_OPENED:
        on_opened(w, o);
        break;
    case FL_CLOSED:
        on_gone(w, o);
        break;
    case FL_HANDED:
        on_handed(w, o);
        break;
    case FL_STORED:
        on_stored(w, o);
        break;
    case FL_TOLD:
        on_told(w, o);
        break;
    case FL_FORGOTTEN:
        on_forgotten(w, o);
        break;
    case FL_TICK:
        on_tick(w, o);
        break;
    case FL_PIECE:
    case FL_PHONE:
    case FL_FAULT:
    case FL_PHASE:
        break;
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

void fl_node_end(struct fl_world *w, unsigned node)
{
    for (unsigned i = 0; i < w->workers; i++) {
        struct engine_load l = engine_load(w->node[node].worker[i].engine);
        if (l.relays + l.tries + l.blocks + l.flows != 0)
            fl_fail(w, "in the end node %u, worker %u has %u relays, %u tries, %u blocks, %u flows",
                    node, i, l.relays, l.tries, l.blocks, l.flows);
    }
}

void fl_node_sums(const struct fl_world *w, unsigned node, struct counters *sums)
{
    for (unsigned i = 0; i < w->workers; i++) {
        const struct counters *c = engine_counters(w->node[node].worker[i].engine);
#define X(name, help) sums->name += c->name;
        OBSERVE_COUNTERS(X)
#undef X
    }
}
