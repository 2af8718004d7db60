/* SPDX-License-Identifier: Apache-2.0
 *
 * An edge's process: what `net` does with sockets, done with occurrences. An event is stepped, the
 * actions are executed, and a tick is scheduled for the engine's deadline. Nothing that an action
 * does comes back before the queue has been through it: a step never causes a step at once. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "memory.h"
#include "sim.h"

enum {
    TICKS_PER_MS_MAX = 200, /* more steps by timer in one millisecond are a busy loop */
    IDLE_TICKS_MAX = 3,
    PAGES_MAX = 200, /* pages of one `show` */
};

/* Scratch of the one step that is under way. */
static struct actions actions;
static char *scratch;

mono_ns edge_now(const struct world *w, unsigned edge)
{
    return w->now + w->edge[edge].skew;
}

static uint64_t tick_name(const struct world *w, unsigned edge, const struct sim_worker *k)
{
    return k->tick_at ^ (uint64_t)w->node[NODE_EDGE + edge].life << 56;
}

/* Schedules the step that the deadline asks for; a tick that is early enough already will do. */
static void schedule_tick(struct world *w, unsigned edge, unsigned worker)
{
    struct sim_worker *k = &w->edge[edge].worker[worker];
    mono_ns deadline = engine_deadline(k->engine);
    if (deadline == MONO_NONE)
        return;
    mono_ns at = deadline > w->edge[edge].skew ? deadline - w->edge[edge].skew : 0;
    at = at < w->now ? w->now : at;
    /* epoll wakes up late, never early. */
    at += draw(w, RND_EDGE + edge, NS_MS);
    if (k->tick_at != MONO_NONE && k->tick_at <= at)
        return;
    k->tick_at = at;
    world_at(w, at, W_TICK, NODE_EDGE + edge, worker, 0, tick_name(w, edge, k), NULL);
}

/* ---- actions ----------------------------------------------------------------------------------
 */

static size_t flatten(const struct action *a, char *dst, size_t cap)
{
    size_t n = 0;
    for (uint32_t i = 0; i < a->iov_count; i++) {
        const struct iovec *v = &actions.iov[a->iov + i];
        MUST(a->iov + i < actions.iov_count && v->iov_len <= cap - n);
        if (v->iov_len > 0)
            memcpy(dst + n, v->iov_base, v->iov_len);
        n += v->iov_len;
    }
    return n;
}

static struct conn *conn_of_flow(struct world *w, unsigned edge, struct flow_id id,
                                 unsigned *ret_side)
{
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &w->conn[i];
        for (unsigned side = 0; side < 2 && c->state != CONN_FREE; side++) {
            if (c->end[side].node == NODE_EDGE + edge && !c->end[side].gone &&
                flow_id_equal(c->end[side].flow, id)) {
                *ret_side = side;
                return c;
            }
        }
    }
    return NULL;
}

static void do_send(struct world *w, unsigned edge, unsigned worker, const struct action *a,
                    const char *p, size_t n)
{
    const struct edge_listener *l =
        &w->edge[edge].conf[w->edge[edge].conf_now].opts.edge.listener[a->listener];
    if (a->listener >= LISTENERS_MAX || !l->used || l->transport != TP_UDP) {
        world_fail(w, "send: a datagram from listener %u, which is none of UDP", a->listener);
        return;
    }
    if (n > UDP_DATAGRAM_BYTES_MAX) {
        world_fail(w, "send: a datagram of %zu bytes", n);
        return;
    }
    check_edge_out(w, edge, &a->dest, false, FLOW_NONE, p, n);
    net_datagram(w, NODE_EDGE + edge, worker, a->listener, packet_new(&l->bind, &a->dest, p, n));
}

static void do_send_flow(struct world *w, unsigned edge, const struct action *a, const char *p,
                         size_t n)
{
    unsigned side;
    struct conn *c = conn_of_flow(w, edge, a->flow, &side);
    if (c == NULL) /* it died a moment ago; the engine hears about it */
        return;
    check_edge_out(w, edge, &c->end[1 - side].addr, true, a->flow, p, n);
    trace_message(w, NODE_EDGE + edge, "=>", &c->end[1 - side].addr, p, n);
    stream_send(w, (unsigned)(c - w->conn), side, p, n);
}

static void do_connect(struct world *w, unsigned edge, unsigned worker, const struct action *a)
{
    struct node *n = &w->node[NODE_EDGE + edge];
    struct addr src = n->addr[w->plan.one_sided ? 0 : 1];
    if (a->listener < LISTENERS_MAX)
        src = w->edge[edge].conf[w->edge[edge].conf_now].opts.edge.listener[a->listener].bind;
    src.port = (uint16_t)(40000 + n->port_next++ % 20000);
    int to = net_node_at(w, &a->dest);
    if (to >= NODE_AGENT) {
        world_fail(w, "connect: an edge connects to an agent");
        return;
    }
    int i = stream_connect(w, NODE_EDGE + edge, &src, &a->dest, a->timeout_ns);
    if (i == NONE)
        return;
    w->conn[i].end[0].flow = a->flow;
    w->conn[i].end[0].worker = (uint8_t)worker;
    w->conn[i].end[0].listener = a->listener;
}

static void do_handover(struct world *w, unsigned edge, const struct action *a, const char *p,
                        size_t n)
{
    if (a->worker >= w->plan.workers || a->hand.len != n) {
        world_fail(w, "hand-over: to worker %u, %u bytes of %zu", a->worker, a->hand.len, n);
        return;
    }
    struct packet *k = packet_new(&a->hand.source, &a->hand.source, NULL, 0);
    k = realloc(k, sizeof *k + sizeof a->hand + n);
    MUST(k != NULL);
    k->n = (uint32_t)(sizeof a->hand + n);
    memcpy(k->bytes, &a->hand, sizeof a->hand);
    memcpy(k->bytes + sizeof a->hand, p, n);
    if (!w->plan.clean && w->phase < PHASE_HEALED && draw_chance(w, RND_EDGE + edge, 5)) {
        free(k); /* the ring was full */
        return;
    }
    world_at(w, w->now + 10 * NS_US + draw(w, RND_EDGE + edge, 200 * NS_US), W_HANDED,
             NODE_EDGE + edge, a->worker, 0, w->node[NODE_EDGE + edge].life, k);
}

static void do_resolve(struct world *w, unsigned edge, unsigned worker, const struct action *a)
{
    TRACE(w, NODE_EDGE + edge, "resolves %.*s", SLICE_ARG(a->text));
    struct packet *k =
        packet_new(&w->node[edge].addr[0], &w->node[edge].addr[0], a->text.p, a->text.n);
    world_at(w, w->now + NS_MS + draw(w, RND_RESOLVER, 300 * NS_MS), W_RESOLVED, NODE_EDGE + edge,
             worker, w->node[NODE_EDGE + edge].life, a->id, k);
}

static void do_reply(struct world *w, unsigned edge, unsigned worker, const struct action *a)
{
    TRACE(w, NODE_EDGE + edge, "replies to command %u: error %d, cursor %u", (unsigned)a->id,
          a->error, (unsigned)a->cursor);
    if (a->cursor == 0)
        return;
    uint64_t page = a->id >> 8 & 0xffff;
    if (page > PAGES_MAX) {
        world_fail(w, "show: more than %d pages", PAGES_MAX);
        return;
    }
    /* The next page's id keeps the command in its low byte. */
    struct packet *k =
        packet_new(&w->node[edge].addr[0], &w->node[edge].addr[0], &a->cursor, sizeof a->cursor);
    world_at(w, w->now + NS_MS, W_OPERATOR, NODE_EDGE + edge, worker,
             w->node[NODE_EDGE + edge].life, a->id + 256, k);
}

/* A driver may step several events before it executes what they want done: now and then a step
 * finds as little room as it was promised at least. Returns the first action that is its own. */
static uint32_t begin_actions(struct world *w, unsigned edge)
{
    actions_reset(&actions);
    if (draw_chance(w, RND_EDGE + edge, 100)) {
        actions.count = STEP_ACTIONS_MAX - STEP_ACTIONS_ROOM;
        actions.iov_count = STEP_IOV_MAX - STEP_IOV_ROOM;
        actions.scratch.used = actions.scratch.cap - STEP_SCRATCH_ROOM;
    }
    return actions.count;
}

static void execute(struct world *w, unsigned edge, unsigned worker, uint32_t from)
{
    static char flat[SIP_MESSAGE_BYTES_MAX + 65536];
    for (uint32_t i = from; i < actions.count && !w->failed; i++) {
        const struct action *a = &actions.a[i];
        size_t n = flatten(a, flat, sizeof flat);
        unsigned side;
        struct conn *c;
        switch (a->kind) {
        case ACT_SEND:
            do_send(w, edge, worker, a, flat, n);
            break;
        case ACT_SEND_FLOW:
            do_send_flow(w, edge, a, flat, n);
            break;
        case ACT_CONNECT:
            do_connect(w, edge, worker, a);
            break;
        case ACT_CLOSE:
            c = conn_of_flow(w, edge, a->flow, &side);
            if (c != NULL)
                stream_close(w, (unsigned)(c - w->conn), side);
            break;
        case ACT_HANDOVER:
            do_handover(w, edge, a, flat, n);
            break;
        case ACT_RESOLVE:
            do_resolve(w, edge, worker, a);
            break;
        case ACT_REPLY:
            do_reply(w, edge, worker, a);
            break;
        case ACT_NOTICE:
            TRACE(w, NODE_EDGE + edge, "notice %u: %.*s", a->notice, SLICE_ARG(a->text));
            trace_mix(w, a->notice);
            break;
        case ACT_LOG:
            check_log(w, edge, a->text);
            break;
        default:
            world_fail(w, "action of unknown kind %u", a->kind);
            break;
        }
    }
}

/* ---- events -----------------------------------------------------------------------------------
 */

/* Where the message behind an event came from, looking through a hand-over. */
static struct addr source_of(const struct event *ev)
{
    if (ev->kind != EV_HANDED)
        return ev->source;
    struct hand h;
    MUST(ev->bytes.n >= sizeof h);
    memcpy(&h, ev->bytes.p, sizeof h);
    return h.source;
}

/* A step by timer either does something or moves the deadline; and there are not too many. */
static void check_headway(struct world *w, unsigned edge, struct sim_worker *k, bool by_timer,
                          bool acted)
{
    uint64_t ms = k->last_now / NS_MS;
    const char *name = w->node[NODE_EDGE + edge].name;
    if (ms != k->ticks_ms) {
        k->ticks_ms = ms;
        k->ticks = 0;
    }
    if (by_timer && ++k->ticks > TICKS_PER_MS_MAX)
        world_fail(w, "busy loop: %u timer steps of %s in one millisecond", k->ticks, name);
    bool idle = by_timer && !acted && engine_deadline(k->engine) <= k->last_now;
    k->idle_ticks = idle ? k->idle_ticks + 1 : 0;
    if (k->idle_ticks > IDLE_TICKS_MAX)
        world_fail(w, "busy loop: %u timer steps of %s did nothing and left a deadline in the past",
                   k->idle_ticks, name);
}

static void step(struct world *w, unsigned edge, unsigned worker, struct event *ev)
{
    struct sim_worker *k = &w->edge[edge].worker[worker];
    mono_ns now = edge_now(w, edge);
    if (w->failed || k->engine == NULL)
        return;
    MUST(now >= k->last_now);
    k->last_now = now;
    w->sum.steps++;
    ev->wall_ns = w->now + 1700000000ULL * NS_S;
    uint32_t from = begin_actions(w, edge);
    w->event = ev;
    w->event_source = source_of(ev);
    check_edge_in(w, edge, ev);
    int r = engine_step(k->engine, ev, now, &actions);
    trace_mix(w, (uint64_t)ev->kind << 32 | (actions.count - from));
    execute(w, edge, worker, from);
    if (r != 0)
        world_fail(w, "step: event %u was refused", ev->kind);
    check_step_end(w, edge);
    check_headway(w, edge, k, ev->kind == EV_TIMER, actions.count > from);
    schedule_tick(w, edge, worker);
    w->event = NULL;
}

/* SO_REUSEPORT: the same four numbers, the same worker, for as long as the process lives. */
static unsigned steer(const struct world *w, unsigned edge, const struct packet *k)
{
    struct hash_seed seed = {w->seed, w->node[NODE_EDGE + edge].life};
    struct slice parts[2] = {slice_of(&k->src, sizeof k->src), slice_of(&k->dst, sizeof k->dst)};
    return (unsigned)(siphash_parts(&seed, parts, 2) % w->plan.workers);
}

static void on_datagram(struct world *w, unsigned edge, const struct packet *k)
{
    bool inside = addr_equal(&k->dst, &w->node[NODE_EDGE + edge].addr[1]);
    struct event ev = {
        .kind = EV_DATAGRAM,
        .listener = inside ? 2 : 0,
        .transport = TP_UDP,
        .source = k->src,
        .bytes = slice_of(k->bytes, k->n),
    };
    if (slice_trim(ev.bytes).n == 0)
        ev.kind = EV_PING;
    trace_message(w, NODE_EDGE + edge, "<-", &k->src, k->bytes, k->n);
    step(w, edge, steer(w, edge, k), &ev);
}

static void on_icmp(struct world *w, struct occurrence *o)
{
    struct event ev = {
        .kind = EV_UNREACHABLE,
        .listener = (uint8_t)o->b,
        .transport = TP_UDP,
        .source = o->packet->dst,
        .bytes = slice_of(o->packet->bytes, o->packet->n),
        .error = ECONNREFUSED,
    };
    TRACE(w, o->node, "ICMP: port unreachable, %u bytes quoted", o->packet->n);
    if (w->node[o->node].life == o->c)
        step(w, o->node - NODE_EDGE, o->a, &ev);
}

static void on_handed(struct world *w, struct occurrence *o)
{
    struct hand h;
    memcpy(&h, o->packet->bytes, sizeof h);
    struct event ev = {
        .kind = EV_HANDED,
        .listener = h.listener,
        .transport = h.transport,
        .hops = h.hops,
        .flow = h.flow,
        .source = h.source,
        .bytes = slice_of(o->packet->bytes, o->packet->n),
    };
    if (w->node[o->node].life == o->c)
        step(w, o->node - NODE_EDGE, o->a, &ev);
}

static void on_resolved(struct world *w, struct occurrence *o)
{
    struct resolved found = {0};
    struct event ev = {.kind = EV_RESOLVED, .id = o->c, .addrs = &found};
    struct slice name = slice_of(o->packet->bytes, o->packet->n);
    for (unsigned i = 0; i < SERVERS; i++) {
        char host[24];
        int n = snprintf(host, sizeof host, "%s.sim", w->node[NODE_SERVER + i].name);
        if (slice_equal(name, slice_of(host, (size_t)n))) {
            found.addr = w->node[NODE_SERVER + i].addr[0];
            found.transport = w->plan.target_tcp == 1 ? TP_TCP : TP_UDP;
            ev.addr_count = 1;
        }
    }
    if (w->phase < PHASE_HEALED && draw_chance(w, RND_RESOLVER, 50)) {
        ev.addr_count = 0;
        ev.error = ETIMEDOUT;
    }
    if (w->node[o->node].life == o->b)
        step(w, o->node - NODE_EDGE, o->a, &ev);
}

static void on_tick(struct world *w, struct occurrence *o)
{
    struct sim_worker *k = &w->edge[o->node - NODE_EDGE].worker[o->a];
    if (k->engine == NULL || k->tick_at == MONO_NONE || tick_name(w, o->node, k) != o->c)
        return;
    k->tick_at = MONO_NONE;
    struct event ev = {.kind = EV_TIMER};
    step(w, o->node - NODE_EDGE, o->a, &ev);
}

static void on_operator(struct world *w, struct occurrence *o)
{
    struct event ev = {.kind = EV_COMMAND, .command = (uint8_t)(o->c & 255), .id = o->c};
    char text[64];
    if (o->packet != NULL)
        memcpy(&ev.cursor, o->packet->bytes, sizeof ev.cursor);
    if (w->node[o->node].life != o->b)
        return;
    if (ev.command >= COMMAND_RELOAD) {
        edge_reconfigure(w, o->node - NODE_EDGE, w->plan.health,
                         ev.command == COMMAND_RELOAD ? NONE : (int)(o->c >> 8 & 255));
        return;
    }
    if (ev.command == CMD_TARGET) {
        struct slice uri = w->edge[o->node].conf[w->edge[o->node].conf_now].target[0].uri;
        int n = snprintf(text, sizeof text, "border %.*s %s", SLICE_ARG(uri),
                         o->c >> 8 & 1 ? "drain" : "ready");
        ev.bytes = slice_of(text, (size_t)n);
    }
    TRACE(w, o->node, "command %u", ev.command);
    step(w, o->node - NODE_EDGE, o->a, &ev);
}

void edge_happen(struct world *w, struct occurrence *o)
{
    unsigned edge = o->node - NODE_EDGE;
    if (w->node[o->node].up) {
        switch (o->what) {
        case W_DATAGRAM:
            on_datagram(w, edge, o->packet);
            break;
        case W_ICMP:
            on_icmp(w, o);
            break;
        case W_HANDED:
            on_handed(w, o);
            break;
        case W_RESOLVED:
            on_resolved(w, o);
            break;
        case W_OPERATOR:
            on_operator(w, o);
            break;
        default:
            on_tick(w, o);
            break;
        }
    }
    free(o->packet);
}

/* For whoever reads the trace of a leak: what is still there. Nothing that counts happens. */
void edge_dump(struct world *w, unsigned edge)
{
    for (unsigned i = 0; i < w->plan.workers && w->trace != NULL; i++) {
        struct sim_worker *k = &w->edge[edge].worker[i];
        struct event ev = {.kind = EV_COMMAND, .command = CMD_SHOW_TRANSACTIONS};
        if (k->engine == NULL)
            continue;
        actions_reset(&actions);
        (void)engine_step(k->engine, &ev, edge_now(w, edge), &actions);
        for (uint32_t a = 0; a < actions.count; a++) {
            if (actions.a[a].kind == ACT_REPLY)
                TRACE(w, NODE_EDGE + edge, "keeps %.*s", (int)actions.iov[actions.a[a].iov].iov_len,
                      (const char *)actions.iov[actions.a[a].iov].iov_base);
        }
    }
}

/* ---- streams ----------------------------------------------------------------------------------
 */

static struct event stream_event(struct world *w, unsigned conn, unsigned side, uint8_t kind)
{
    const struct conn_end *e = &w->conn[conn].end[side];
    return (struct event){
        .kind = kind,
        .listener = e->listener,
        .transport = TP_TCP,
        .flow = e->flow,
        .source = w->conn[conn].end[1 - side].addr,
    };
}

void edge_stream_opened(struct world *w, unsigned conn, unsigned side)
{
    struct conn_end *e = &w->conn[conn].end[side];
    unsigned edge = e->node - NODE_EDGE;
    if (side == 1) { /* accepted: ours to number */
        e->worker = (uint8_t)draw(w, RND_STREAMS, w->plan.workers);
        e->listener = addr_equal(&e->addr, &w->node[e->node].addr[1]) ? 3 : 1;
        struct sim_worker *k = &w->edge[edge].worker[e->worker];
        uint32_t slot = 0;
        while (slot < FLOW_SLOTS && k->slot_taken[slot])
            slot++;
        if (slot == FLOW_SLOTS) {
            e->gone = true;
            stream_reset(w, conn);
            return;
        }
        k->slot_taken[slot] = true;
        /* Unlike any of the process before: a token may outlive it. */
        e->flow = (struct flow_id){(uint64_t)w->edge[edge].generation << 32 | ++k->flow_gen, slot,
                                   e->worker};
    }
    TRACE(w, e->node, "connection #%u is open", conn);
    struct event ev = stream_event(w, conn, side, EV_FLOW_OPENED);
    step(w, edge, e->worker, &ev);
}

void edge_stream_failed(struct world *w, unsigned conn, int error)
{
    struct event ev = stream_event(w, conn, 0, EV_CONNECT_FAILED);
    ev.error = error;
    step(w, w->conn[conn].end[0].node - NODE_EDGE, w->conn[conn].end[0].worker, &ev);
}

void edge_stream_closed(struct world *w, unsigned conn, unsigned side, int error)
{
    struct conn_end *e = &w->conn[conn].end[side];
    struct event ev = stream_event(w, conn, side, EV_FLOW_CLOSED);
    ev.error = error;
    if (side == 1)
        w->edge[e->node].worker[e->worker].slot_taken[e->flow.slot] = false;
    step(w, e->node - NODE_EDGE, e->worker, &ev);
}

void edge_stream_result(struct world *w, unsigned conn, unsigned side, int result, const char *p,
                        size_t n)
{
    struct conn_end *e = &w->conn[conn].end[side];
    if (result == SIP_FRAME_SKIP)
        return;
    uint8_t kind = result == SIP_FRAME_PING      ? EV_PING
                   : result == SIP_FRAME_MESSAGE ? EV_MESSAGE
                                                 : EV_FRAME_FAULT;
    struct event ev = stream_event(w, conn, side, kind);
    ev.error = result < 0 ? result : 0;
    ev.bytes = slice_of(p, n);
    if (kind != EV_PING)
        trace_message(w, e->node, kind == EV_MESSAGE ? "<=" : "<!", &ev.source, p, n);
    step(w, e->node - NODE_EDGE, e->worker, &ev);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void fill_random(void *ctx, void *dst, size_t n)
{
    struct prng *p = ctx;
    char *at = dst;
    while (n > 0) {
        uint64_t v = prng_u64(p);
        size_t k = n < sizeof v ? n : sizeof v;
        memcpy(at, &v, k);
        at += k;
        n -= k;
    }
}

void edge_boot(struct world *w, unsigned edge)
{
    struct edge_node *e = &w->edge[edge];
    struct prng *rnd = &w->rnd[RND_EDGE + edge];
    if (scratch == NULL) {
        scratch = malloc(STEP_SCRATCH_BYTES);
        MUST(scratch != NULL);
        actions.scratch = arena_over(scratch, STEP_SCRATCH_BYTES);
    }
    e->conf_now = 0;
    conf_fill(w, edge, &e->conf[0], w->plan.health, NONE);
    e->generation = (uint32_t)prng_u64(rnd) | 1;
    struct hash_seed shared = {.k0 = prng_u64(rnd)};
    shared.k1 = prng_u64(rnd);
    w->node[NODE_EDGE + edge].up = true;
    w->node[NODE_EDGE + edge].life++;
    for (unsigned i = 0; i < w->plan.workers; i++) {
        struct sim_worker *k = &e->worker[i];
        struct engine_birth birth = {
            .worker = i,
            .workers = w->plan.workers,
            .process_generation = e->generation,
            .shared_seed = shared,
            .rng = {fill_random, rnd},
            .prng_seed = prng_u64(rnd),
            .fault = &k->fault,
        };
        *k = (struct sim_worker){.tick_at = MONO_NONE, .fault = {.countdown = UINT64_MAX}};
        k->mem_size = engine_memory(&e->conf[0].opts);
        k->mem = mmap(NULL, k->mem_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        MUST(k->mem != MAP_FAILED);
        k->engine = engine_new(k->mem, k->mem_size, &e->conf[0].opts, &birth, edge_now(w, edge));
        if (k->engine == NULL) {
            world_fail(w, "birth: the engine does not fit its own memory");
            return;
        }
        schedule_tick(w, edge, i);
    }
    TRACE(w, NODE_EDGE + edge, "boots, generation %08x", e->generation);
}

static void add_counters(struct world *w, const struct counters *c)
{
#define X(name, help) w->counters.name += c->name;
    OBSERVE_COUNTERS(X)
#undef X
}

void edge_kill(struct world *w, unsigned edge)
{
    TRACE(w, NODE_EDGE + edge, "dies");
    w->node[NODE_EDGE + edge].up = false;
    stream_node_died(w, NODE_EDGE + edge);
    for (unsigned i = 0; i < EDGE_WORKERS_MAX; i++) {
        struct sim_worker *k = &w->edge[edge].worker[i];
        if (k->engine != NULL)
            add_counters(w, engine_counters(k->engine));
        if (k->mem != NULL)
            sim_unmap(k->mem, k->mem_size);
        *k = (struct sim_worker){.tick_at = MONO_NONE};
    }
    w->edge[edge].stalled_until = 0;
}

void edge_reconfigure(struct world *w, unsigned edge, bool health, int without)
{
    struct edge_node *e = &w->edge[edge];
    if (!w->node[NODE_EDGE + edge].up)
        return;
    struct conf *next = &e->conf[1 - e->conf_now];
    conf_fill(w, edge, next, health, without);
    e->conf_now = (uint8_t)(1 - e->conf_now);
    TRACE(w, NODE_EDGE + edge, "takes a new configuration");
    for (unsigned i = 0; i < w->plan.workers; i++) {
        struct event ev = {.kind = EV_CONFIG, .opts = &next->opts};
        step(w, edge, i, &ev);
    }
}

void edge_wake(struct world *w, unsigned edge)
{
    for (unsigned i = 0; i < w->plan.workers && w->node[NODE_EDGE + edge].up; i++) {
        struct event ev = {.kind = EV_TIMER};
        step(w, edge, i, &ev);
    }
}
