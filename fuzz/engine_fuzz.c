/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a program for one engine: messages from templates (then bent), answers to what it sent,
 * connections that come and go, names, a store, reloads, commands, clock jumps, slabs that fail.
 *
 *      byte 0     what happens (enum op)
 *      bytes 1-3  arguments
 *
 * What must hold: nothing crashes, every byte that is sent can be read, a deadline always makes
 * headway, each transaction leaves its record, and 500 s after the last occurrence nothing is
 * left: the last of several addresses may be asked just before Timer C, and say no more than 100.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SENT_MAX = 16,
    FLOWS_MAX = 48,
    HANDED_MAX = 4,
    STORED_MAX = 4,
    PLANS = 3,
    TEXT_BYTES = 4096,
    STEPS_MAX = 300
};

enum op {
    OP_REQUEST,
    OP_ANSWER,
    OP_CLOCK,
    OP_ACCEPT,
    OP_CLOSE,
    OP_CONNECT,
    OP_UNREACHABLE,
    OP_RESOLVED,
    OP_CONFIG,
    OP_COMMAND,
    OP_FAULT,
    OP_RAW,
    OP_FRAME_FAULT,
    OP_HANDED,
    OP_IN_DIALOG,
    OP_REPLAY,
    OP_STORED,
    OP_BINDING,
    OP_ALIVE,
    OP__COUNT
};

struct sent {
    char p[TEXT_BYTES];
    size_t n;
    struct addr to;
    struct flow_id flow;
};

struct program {
    const uint8_t *at, *end;
    struct engine *engine;
    struct actions *out;
    mono_ns now;
    uint64_t random, next_gen, records;
    unsigned adopted; /* which of opts */
    struct fault fault;
    struct engine_opts opts[PLANS];
    struct pool_opts pool[PLANS][2];
    struct pool_target_opts target[4];
    struct edge_rule rule[3];
    struct prefix trusted;
    struct sent sent[SENT_MAX];
    unsigned sent_count;
    struct {
        struct flow_id id;
        struct addr peer;
        uint8_t listener, transport;
        bool open, connecting;
    } flow[FLOWS_MAX];
    uint64_t resolve_id;
    char handed[HANDED_MAX][sizeof(struct hand) + TEXT_BYTES];
    size_t handed_n[HANDED_MAX];
    unsigned handed_count;
    struct {
        uint64_t id; /* 0: answered, or nobody waits */
        char records[TEXT_BYTES];
        size_t n;
    } stored[STORED_MAX];
    unsigned stored_count;
};

static uint8_t take(struct program *x)
{
    return x->at < x->end ? *x->at++ : 0;
}

static void fill(void *ctx, void *dst, size_t n)
{
    struct program *x = ctx;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) {
        x->random = x->random * 6364136223846793005ULL + 1442695040888963407ULL;
        p[i] = (uint8_t)(x->random >> 56);
    }
}

static struct addr address(const char *s)
{
    struct addr a;
    MUST(addr_parse(slice_cstr(s), &a) == 0);
    return a;
}

static struct addr peer(unsigned i)
{
    static const char *const names[] = {"198.51.100.1:5060", "198.51.100.2:5062", "10.1.0.1:5070",
                                        "10.1.0.2:5070",     "10.1.0.3:5070",     "10.1.0.99:5060",
                                        "192.0.2.1:5060",    "[2001:db8::7]:5060"};
    return address(names[i % 8]);
}

static const struct slice domains[] = {{"example.com", 11}, {"b", 1}};

/* ---- birth ----------------------------------------------------------------------------------- */

/* Snapshots: 0 sends what comes from outside to its pools, and 2 as well, with tokens in Contacts
 * and a neighbour; 1 is a registrar. */
static void plan(struct program *x, unsigned snapshot)
{
    static const struct edge_neighbour fleet[] = {
        {.id = 9, .transport = TP_UDP, .addr = {.ip = {10, 1, 0, 99}, .port = 5060, .family = 4}}};
    const unsigned which = snapshot % 2;
    struct edge_opts *e = &x->opts[snapshot].edge;
    struct pool_opts *p = x->pool[snapshot];
    memset(&x->opts[snapshot], 0, sizeof x->opts[snapshot]);
    for (uint8_t i = 0; i < 4; i++)
        e->listener[i] =
            (struct edge_listener){.used = true,
                                   .name = SLICE("l"),
                                   .uri = SLICE("l"),
                                   .bind = address(i < 2 ? "192.0.2.1:5060" : "10.0.0.1:5060"),
                                   .transport = i % 2 == 0 ? TP_UDP : TP_TCP,
                                   .side = i < 2 ? SIDE_OUTSIDE : SIDE_INSIDE,
                                   .host = i < 2 ? SLICE("192.0.2.1") : SLICE("10.0.0.1"),
                                   .port = 5060};
    e->listener[2].used = which == 0;
    for (uint8_t i = 4; i < 6; i++) {
        e->listener[i] = e->listener[1];
        e->listener[i].transport = i == 4 ? TP_TLS : TP_WS;
    }
    for (unsigned i = 0; i < 2; i++) {
        pool_opts_default(&p[i]);
        p[i].name = (which + i) % 2 == 0 ? SLICE("one") : SLICE("two");
        p[i].balance = POOL_ROUND_ROBIN;
        p[i].targets = x->target + (which == 0 ? 0 : 1);
        p[i].target_count = 3;
        p[i].health.on = which == 0;
    }
    e->node_name = SLICE("n");
    e->node_id = 1;
    e->trusted = &x->trusted;
    e->trusted_count = 1;
    e->rules = x->rule + (which == 0 ? 0 : 2);
    e->rule_count = which == 0 ? 2 : 1;
    e->registrar = (struct registrar_opts){.on = true,
                                           .domains = domains,
                                           .domain_count = 2,
                                           .expires_max_s = 100,
                                           .expires_default_s = 50,
                                           .contacts_max = 6,
                                           .fork = (uint8_t)which};
    e->pools = p;
    e->pool_count = which == 0 ? 2 : 1;
    e->keys.count = 1;
    MUST(token_key_init(&e->keys.key[0], SLICE("0123456789abcdef")) == 0);
    e->path = snapshot == 2 ? PATH_CONTACT : PATH_HEADER;
    e->keepalive = (struct edge_keepalive){.every = snapshot * 20 * NS_S,
                                           .max = 60 * NS_S,
                                           .jitter_percent = 10,
                                           .udp = which * 10 * NS_S,
                                           .mobile_every = 300 * NS_S};
    e->fleet = fleet;
    e->fleet_count = snapshot == 2;
    e->strip_foreign_routes = which == 1;
    e->hops_max = 70;
    e->timers = TXN_TIMERS_DEFAULT;
    e->timer_c = 185 * NS_S;
    e->trying_delay = which * 100 * NS_MS;
    e->trying_delay = 100 * NS_MS;
    e->connect_timeout = 2 * NS_S;
    e->connections_per_target = 2;
    e->log_transactions = true;
    x->opts[snapshot].limits = (struct edge_limits){.transactions = 24,
                                                    .flows = FLOWS_MAX / 2,
                                                    .target_flows = FLOWS_MAX / 4,
                                                    .blocks = {48, 24, 4, 1},
                                                    .targets = 12,
                                                    .pools = 2,
                                                    .bindings = 12};
}

static void plan_targets(struct program *x)
{
    static const char *const uris[] = {"udp://10.1.0.1:5070", "tcp://10.1.0.2:5070",
                                       "udp://10.1.0.3:5070", "tcp://10.1.0.1:5070"};
    for (unsigned i = 0; i < 4; i++)
        x->target[i] = (struct pool_target_opts){.uri = slice_cstr(uris[i]),
                                                 .addr = peer(i == 3 ? 2 : 2 + i),
                                                 .transport = i % 2 == 0 ? TP_UDP : TP_TCP,
                                                 .has_tcp = i == 0,
                                                 .weight = 1};
    x->rule[0] = (struct edge_rule){.from = SIDE_OUTSIDE, .pool = 0};
    x->rule[1] = (struct edge_rule){.from = SIDE_INSIDE, .method = SLICE("REGISTER"), .pool = 0};
    x->rule[2] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    MUST(prefix_parse(SLICE("10.1.0.0/16"), &x->trusted) == 0);
}

/* ---- what the engine does -------------------------------------------------------------------- */

static int flow_index(const struct program *x, struct flow_id id)
{
    for (int i = 0; i < FLOWS_MAX; i++)
        if (x->flow[i].id.gen != 0 && flow_id_equal(x->flow[i].id, id))
            return i;
    return -1;
}

/* Reads every byte of an action; a copy of what fits. */
static size_t flat(struct program *x, const struct action *a, char *dst, size_t cap)
{
    size_t n = 0;
    unsigned sum = 0;
    for (uint32_t i = 0; i < a->iov_count; i++) {
        const struct iovec *v = &x->out->iov[a->iov + i];
        for (size_t k = 0; k < v->iov_len; k++) {
            char c = ((const char *)v->iov_base)[k];
            sum += (unsigned char)c;
            if (n < cap)
                dst[n++] = c;
        }
    }
    x->random ^= sum;
    return n;
}

static void on_connect(struct program *x, const struct action *a)
{
    for (unsigned i = 0; i < FLOWS_MAX; i++) {
        if (x->flow[i].id.gen != 0)
            continue;
        x->flow[i].id = a->flow;
        x->flow[i].peer = a->dest;
        x->flow[i].listener = 3;
        x->flow[i].transport = a->transport;
        x->flow[i].open = x->flow[i].connecting = true;
        return;
    }
}

static void on_handover(struct program *x, const struct action *a)
{
    unsigned i = x->handed_count++ % HANDED_MAX;
    struct hand head = a->hand;
    size_t n = flat(x, a, x->handed[i] + sizeof head, TEXT_BYTES);
    head.len = (uint32_t)n;
    memcpy(x->handed[i], &head, sizeof head);
    x->handed_n[i] = sizeof head + n;
}

static void on_store(struct program *x, const struct action *a)
{
    unsigned i = x->stored_count++ % STORED_MAX;
    x->stored[i].id = a->id;
    x->stored[i].n = flat(x, a, x->stored[i].records, sizeof x->stored[i].records);
}

static void on_action(struct program *x, const struct action *a)
{
    if (a->kind == ACT_SEND)
        MUST(x->opts[x->adopted].edge.listener[a->listener].used && addr_is_unicast(&a->dest));
    if (a->kind == ACT_SEND || a->kind == ACT_SEND_FLOW) {
        struct sent *s = &x->sent[x->sent_count++ % SENT_MAX];
        s->n = flat(x, a, s->p, sizeof s->p);
        s->flow = a->kind == ACT_SEND ? FLOW_NONE : a->flow;
        int i = flow_index(x, a->flow);
        s->to = a->kind == ACT_SEND ? a->dest : i >= 0 ? x->flow[i].peer : peer(2);
    } else if (a->kind == ACT_CONNECT) {
        on_connect(x, a);
    } else if (a->kind == ACT_HANDOVER) {
        on_handover(x, a);
    } else if (a->kind == ACT_RESOLVE) {
        x->resolve_id = a->id;
    } else if (a->kind == ACT_STORE) {
        on_store(x, a);
    } else if (a->kind == ACT_REPLY) {
        static char page[512 * 1024];
        (void)flat(x, a, page, sizeof page);
    } else if (a->kind == ACT_LOG) {
        static char line[LOG_LINE_BYTES_MAX];
        _Alignas(8) char copy[LOG_RECORD_BYTES_MAX];
        struct text t = text_into(line, sizeof line);
        struct log_names names = {SLICE("n"), SLICE("r"), SLICE("z")};
        x->records++;
        MUST(a->text.n <= sizeof copy);
        memcpy(copy, a->text.p, a->text.n);
        MUST(log_write_json(&t, (const struct log_record *)(const void *)copy, &names) == 0);
    }
}

static void step(struct program *x, const struct event *ev)
{
    actions_reset(x->out);
    (void)engine_step(x->engine, ev, x->now, x->out);
    for (uint32_t i = 0; i < x->out->count; i++)
        on_action(x, &x->out->a[i]);
}

/* The event's bytes end where their allocation ends. */
static void step_bytes(struct program *x, struct event ev, const char *p, size_t n)
{
    char *copy = malloc(n > 0 ? n : 1);
    MUST(copy != NULL);
    memcpy(copy, p, n);
    ev.bytes = slice_of(copy, n);
    step(x, &ev);
    free(copy);
}

static void run(struct program *x, dur_ns span)
{
    mono_ns until = x->now + span;
    unsigned still = 0;
    for (;;) {
        mono_ns at = engine_deadline(x->engine);
        if (at > until)
            break;
        still = at > x->now ? 0 : still + 1;
        MUST(still < 2000);
        x->now = at > x->now ? at : x->now;
        step(x, &(struct event){.kind = EV_TIMER});
    }
    x->now = until;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* By datagram, or on the connection that `how` chooses. */
static void deliver(struct program *x, unsigned from, uint8_t how, const char *p, size_t n)
{
    struct event ev = {.kind = EV_DATAGRAM, .transport = TP_UDP, .source = peer(from)};
    ev.listener = from % 8 >= 2 && from % 8 <= 5 ? 2 : 0;
    int i = how % FLOWS_MAX;
    if (how >= 128 && x->flow[i].id.gen != 0 && !x->flow[i].connecting) {
        ev.kind = EV_MESSAGE;
        ev.transport = x->flow[i].transport;
        ev.flow = x->flow[i].id;
        ev.source = x->flow[i].peer;
        ev.listener = x->flow[i].listener;
    }
    step_bytes(x, ev, p, n);
}

static void bend(struct program *x, struct text *t, uint8_t how)
{
    size_t n = text_slice(t).n;
    for (unsigned i = 0; i < (how & 3U) && n > 0; i++) {
        size_t at = (size_t)(take(x) << 8 | take(x)) % n;
        t->p[at] = (char)take(x);
    }
}

static void put_first_of(struct text *t, struct slice s, const char *name)
{
    static struct sip_msg m;
    struct sip_fault fault;
    if (sip_index(&m, s.p, s.n, true, &fault) != 0)
        return;
    struct slice v = sip_header_value(&m, sip_header_id_of(slice_cstr(name)));
    if (v.n > 0) {
        text_put(t, slice_cstr(name));
        TEXT_LIT(t, ": ");
        text_put(t, v);
        TEXT_LIT(t, "\r\n");
    }
}

static const char *const methods[] = {"INVITE", "ACK",       "BYE",    "CANCEL",   "OPTIONS",
                                      "INVITE", "SUBSCRIBE", "NOTIFY", "REGISTER", "X-ANY"};
static const char *const uris[] = {"sip:bob@example.com",
                                   "sip:10.1.0.1:5070",
                                   "sip:b@b",
                                   "sip:192.0.2.1",
                                   "sip:203.0.113.7",
                                   "tel:+15551234",
                                   "sip:bob@name.test",
                                   "sip:b@10.1.0.99;transport=tcp"};
static const char *const extras[] = {
    "",
    "Route: <sip:10.0.0.1;lr>\r\n",
    "Route: <sip:10.1.0.99;lr>, <sip:name.test;lr>\r\n",
    "Route: <sip:10.1.0.99>\r\n",
    "Max-Forwards: 0\r\n",
    "Max-Forwards: 255\r\nMax-Breadth: 0\r\n",
    "Proxy-Require: x\r\n",
    "Record-Route: <sip:10.1.0.99;lr>\r\nRetry-After: 9\r\n",
    "Path: <sip:10.1.0.99;lr>\r\nSupported: path\r\n",
    "Path: <sip:name.test;lr>\r\nSupported: path\r\n",
    "Expires: 0\r\n",
    "Max-Breadth: 2\r\nContact: <sip:c@10.1.0.2:5070>;q=0.5\r\n",
    "Supported: path, outbound, gruu\r\n",
    "Path: <sip:10.1.0.99;lr;ob>\r\nSupported: path, outbound\r\nContact: *\r\n",
    "Contact: \"x\" <sip:c@10.1.0.2:5070;ob>;expires=0\r\n",
    "Require: path\r\n",
};

/* Two phones with two flows each, and others. */
static void contact(struct text *t, uint8_t a, uint8_t b)
{
    TEXT_LIT(t, "Contact: <sip:a");
    text_put_u64(t, a / 10 % 3);
    TEXT_LIT(t, "@198.51.100.1>");
    if (b & 128) {
        TEXT_LIT(t, ";+sip.instance=\"<urn:x:");
        text_put_u64(t, b / 8 % 2);
        TEXT_LIT(t, ">\";reg-id=");
        text_put_u64(t, a / 10 % 2 + 1);
    }
    TEXT_LIT(t, "\r\n");
}

static void request(struct program *x, struct text *t, uint8_t a, uint8_t b, struct slice route)
{
    const char *method = methods[a % 10];
    text_put(t, slice_cstr(method));
    text_put_char(t, ' ');
    text_put(t, slice_cstr(uris[b % 8]));
    TEXT_LIT(t, " SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=");
    text_put(t, b & 64 ? SLICE("old") : SLICE("z9hG4bK-"));
    text_put_u64(t, a / 10 % 8);
    TEXT_LIT(t, ";rport\r\nFrom: <sip:a@b>;tag=f\r\nTo: <sip:b@b>");
    if (route.n > 0 || a >= 200)
        TEXT_LIT(t, ";tag=t");
    TEXT_LIT(t, "\r\nCall-ID: c");
    text_put_u64(t, b / 8 % 4);
    TEXT_LIT(t, "\r\nCSeq: 1 ");
    text_put(t, slice_cstr(method));
    TEXT_LIT(t, "\r\n");
    contact(t, a, b);
    text_put(t, route);
    uint8_t extra = take(x);
    text_put(t, slice_cstr(extras[extra % 16]));
    size_t body = extra >= 200 ? 1400 : 0;
    TEXT_LIT(t, "Content-Length: ");
    text_put_u64(t, body);
    TEXT_LIT(t, "\r\n\r\n");
    for (size_t i = 0; i < body; i++)
        text_put_char(t, 'b');
}

static void op_request(struct program *x)
{
    char buf[TEXT_BYTES];
    struct text t = text_into(buf, sizeof buf);
    uint8_t a = take(x), b = take(x), how = take(x);
    request(x, &t, a, b, SLICE_NONE);
    bend(x, &t, how >> 4);
    deliver(x, a % 2 == 0 && b < 192 ? 0 : b, how, buf, text_slice(&t).n);
}

/* A request by the last Record-Route that was sent, as a dialog's end would send it. */
static void op_in_dialog(struct program *x)
{
    char buf[TEXT_BYTES], line[1024];
    struct text t = text_into(buf, sizeof buf), route = text_into(line, sizeof line);
    uint8_t a = take(x), b = take(x), how = take(x);
    const struct sent *s = &x->sent[take(x) % SENT_MAX];
    struct text rr = text_into(buf, sizeof buf);
    put_first_of(&rr, slice_of(s->p, s->n), "Record-Route");
    if (text_slice(&rr).n > 14 && text_fits(&rr)) {
        TEXT_LIT(&route, "Route: ");
        text_put(&route, slice_drop(text_slice(&rr), 14));
    }
    request(x, &t, a, b, text_fits(&route) ? text_slice(&route) : SLICE_NONE);
    bend(x, &t, how >> 4);
    deliver(x, b, how, buf, text_slice(&t).n);
}

static void op_answer(struct program *x)
{
    static const uint16_t codes[] = {100, 180, 183, 200, 202, 302, 404, 408,
                                     430, 481, 486, 487, 500, 503, 600, 199};
    static struct sip_msg m;
    char buf[TEXT_BYTES];
    uint8_t which = take(x), code = take(x), how = take(x);
    const struct sent *s = &x->sent[which % SENT_MAX];
    struct sip_fault fault;
    if (s->n == 0 || sip_index(&m, s->p, s->n, true, &fault) != 0 || !m.is_request)
        return;
    struct text t = text_into(buf, sizeof buf);
    struct sip_reply reply = {.status = codes[code % 16],
                              .to_tag = code >= 128 ? SLICE("x") : SLICE("y"),
                              .extra = code % 32 == 13 ? SLICE("Retry-After: 3\r\n") : SLICE_NONE};
    if (sip_write_reply(&t, &m, &reply) != 0)
        return;
    bend(x, &t, how >> 4);
    int i = s->flow.gen != 0 ? flow_index(x, s->flow) : -1;
    if (i >= 0 && x->flow[i].connecting)
        return;
    deliver(x, which, i >= 0 ? (uint8_t)(3 * FLOWS_MAX + i) : how & 127, buf, text_slice(&t).n);
}

/* What was sent comes back: a loop, or somebody who repeats what was heard. */
static void op_replay(struct program *x)
{
    const struct sent *s = &x->sent[take(x) % SENT_MAX];
    uint8_t from = take(x), how = take(x);
    char buf[TEXT_BYTES];
    struct text t = text_into(buf, sizeof buf);
    text_put(&t, slice_of(s->p, s->n));
    bend(x, &t, how >> 4);
    deliver(x, from, how, buf, text_slice(&t).n);
}

static void op_raw(struct program *x)
{
    size_t n = take(x);
    if (n > (size_t)(x->end - x->at))
        n = (size_t)(x->end - x->at);
    deliver(x, 0, 0, (const char *)x->at, n);
    x->at += n;
}

/* ---- connections and the rest ---------------------------------------------------------------- */

static void op_accept(struct program *x)
{
    unsigned i = take(x) % (FLOWS_MAX / 2);
    if (x->flow[i].id.gen != 0)
        return;
    x->flow[i].id = (struct flow_id){x->next_gen++, i, 0};
    x->flow[i].peer = peer(take(x));
    x->flow[i].listener = i % 4 < 2 ? 1 : i % 4 == 2 ? 4 : 5;
    x->flow[i].transport = i % 4 < 2 ? TP_TCP : i % 4 == 2 ? TP_TLS : TP_WS;
    x->flow[i].open = true;
    x->flow[i].connecting = false;
    step(x, &(struct event){.kind = EV_FLOW_OPENED,
                            .listener = x->flow[i].listener,
                            .transport = x->flow[i].transport,
                            .flow = x->flow[i].id,
                            .source = x->flow[i].peer});
}

static void close_flow(struct program *x, unsigned i, uint8_t kind)
{
    if (x->flow[i].id.gen == 0)
        return;
    struct event ev = {.kind = kind, .flow = x->flow[i].id, .error = 104};
    memset(&x->flow[i], 0, sizeof x->flow[i]);
    step(x, &ev);
}

static void op_connect(struct program *x)
{
    unsigned i = take(x) % FLOWS_MAX;
    uint8_t how = take(x);
    if (x->flow[i].id.gen == 0 || !x->flow[i].connecting)
        return;
    if (how % 2 == 0) {
        close_flow(x, i, EV_CONNECT_FAILED);
        return;
    }
    x->flow[i].connecting = false;
    step(x, &(struct event){.kind = EV_FLOW_OPENED,
                            .listener = x->flow[i].listener,
                            .transport = x->flow[i].transport,
                            .flow = x->flow[i].id,
                            .source = x->flow[i].peer});
}

static void op_unreachable(struct program *x)
{
    const struct sent *s = &x->sent[take(x) % SENT_MAX];
    step_bytes(x, (struct event){.kind = EV_UNREACHABLE, .source = s->to, .error = 111}, s->p,
               s->n);
}

static void op_resolved(struct program *x)
{
    struct resolved to[EVENT_ADDRS_MAX];
    uint8_t count = take(x);
    for (unsigned i = 0; i < EVENT_ADDRS_MAX; i++)
        to[i] = (struct resolved){peer(take(x)), i % 3 == 0 ? TP_TCP : TP_UDP};
    step(x, &(struct event){.kind = EV_RESOLVED,
                            .id = x->resolve_id,
                            .addrs = to,
                            .addr_count = count % (EVENT_ADDRS_MAX + 1)});
}

static void op_command(struct program *x)
{
    static const char *const arguments[] = {
        "one * ready", "one udp://10.1.0.1:5070 maint", "two * drain", "", "b@b", "sip:b@b"};
    uint8_t what = take(x);
    if (what % 8 == CMD_DRAIN && what < 200)
        return; /* drains rarely: nothing new begins after it */
    struct slice argument = slice_cstr(arguments[take(x) % 6]);
    step(x, &(struct event){
                .kind = EV_COMMAND, .command = what % 8, .cursor = take(x) % 4, .bytes = argument});
}

static void op_stored(struct program *x)
{
    unsigned i = take(x) % STORED_MAX;
    uint8_t how = take(x);
    uint64_t id = x->stored[i].id;
    x->stored[i].id = how % 8 == 0 ? id : 0; /* now and then twice */
    if (id != 0)
        step(x, &(struct event){.kind = EV_STORED, .id = id, .error = how % 4 == 3 ? 28 : 0});
}

static void op_binding(struct program *x)
{
    unsigned i = take(x) % STORED_MAX;
    uint8_t how = take(x);
    size_t n = x->stored[i].n;
    step_bytes(x, (struct event){.kind = EV_BINDING}, x->stored[i].records,
               how < 200 ? n : n * (how - 200) / 56);
}

static void op_frame_fault(struct program *x)
{
    static const int errors[] = {SIP_E_START_LINE, SIP_E_LENGTH, SIP_E_TOO_LONG, SIP_E_HEAD};
    unsigned i = take(x) % FLOWS_MAX;
    const struct sent *s = &x->sent[take(x) % SENT_MAX];
    uint8_t how = take(x);
    if (x->flow[i].id.gen == 0 || x->flow[i].connecting)
        return;
    struct event ev = {.kind = how % 5 == 4 ? EV_PING : EV_FRAME_FAULT,
                       .listener = x->flow[i].listener,
                       .transport = x->flow[i].transport,
                       .flow = x->flow[i].id,
                       .source = x->flow[i].peer,
                       .error = errors[how % 4]};
    step_bytes(x, ev, s->p, s->n * (how / 8U) / 32);
}

static void op_alive(struct program *x)
{
    unsigned i = take(x) % FLOWS_MAX;
    if (x->flow[i].id.gen != 0 && !x->flow[i].connecting)
        step(x, &(struct event){.kind = EV_ALIVE, .flow = x->flow[i].id});
}

static void op_handed(struct program *x)
{
    unsigned i = take(x) % HANDED_MAX;
    if (x->handed_n[i] > 0)
        step_bytes(x, (struct event){.kind = EV_HANDED}, x->handed[i], x->handed_n[i]);
}

static void op_config(struct program *x)
{
    /* The snapshots are constant: each may be adopted at any time. */
    x->adopted = take(x) % PLANS;
    step(x, &(struct event){.kind = EV_CONFIG, .opts = &x->opts[x->adopted]});
}

static void op_clock(struct program *x)
{
    static const uint64_t ms[] = {1, 10, 100, 500, 1000, 2000, 4000, 9000, 33000, 190000};
    run(x, ms[take(x) % 10] * NS_MS);
}

static void op_fault(struct program *x)
{
    uint8_t after = take(x), how = take(x);
    x->fault = (struct fault){.countdown = after % 16, .forever = how % 8 == 0};
}

static void one_op(struct program *x)
{
    static void (*const ops[OP__COUNT])(struct program *) = {
        [OP_REQUEST] = op_request,   [OP_ANSWER] = op_answer,
        [OP_CLOCK] = op_clock,       [OP_ACCEPT] = op_accept,
        [OP_CONNECT] = op_connect,   [OP_UNREACHABLE] = op_unreachable,
        [OP_RESOLVED] = op_resolved, [OP_CONFIG] = op_config,
        [OP_COMMAND] = op_command,   [OP_FAULT] = op_fault,
        [OP_RAW] = op_raw,           [OP_FRAME_FAULT] = op_frame_fault,
        [OP_HANDED] = op_handed,     [OP_IN_DIALOG] = op_in_dialog,
        [OP_REPLAY] = op_replay,     [OP_STORED] = op_stored,
        [OP_BINDING] = op_binding,   [OP_ALIVE] = op_alive};
    uint8_t op = take(x) % OP__COUNT;
    if (op == OP_CLOSE)
        close_flow(x, take(x) % FLOWS_MAX, EV_FLOW_CLOSED);
    else
        ops[op](x);
}

static void end(struct program *x)
{
    x->fault = (struct fault){.countdown = UINT64_MAX};
    /* Without health checks no probe is under way in the end. */
    x->adopted = 1;
    step(x, &(struct event){.kind = EV_CONFIG, .opts = &x->opts[1]});
    run(x, 500 * NS_S);
    struct engine_load l = engine_load(x->engine);
    MUST(l.relays == 0 && l.relays_open == 0);
    MUST(l.tries == 0);
    MUST(l.blocks == 0);
    const struct counters *c = engine_counters(x->engine);
    MUST(x->records + c->log_dropped >= c->transactions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program *x = calloc(1, sizeof *x);
    static struct actions *out;
    static char *scratch;
    if (out == NULL) {
        out = calloc(1, sizeof *out);
        scratch = calloc(1, STEP_SCRATCH_BYTES);
        MUST(out != NULL && scratch != NULL);
        out->scratch = arena_over(scratch, STEP_SCRATCH_BYTES);
    }
    MUST(x != NULL);
    x->at = data;
    x->end = data + size;
    x->out = out;
    x->now = 1000 * NS_S;
    x->next_gen = 1;
    x->fault.countdown = UINT64_MAX;
    plan_targets(x);
    for (unsigned i = 0; i < PLANS; i++)
        plan(x, i);
    size_t bytes = engine_memory(&x->opts[0]);
    void *memory = calloc(1, bytes);
    MUST(memory != NULL);
    struct engine_birth birth = {.workers = 2,
                                 .process_generation = 7,
                                 .shared_seed = {1, 2},
                                 .rng = {fill, x},
                                 .prng_seed = 3,
                                 .fault = &x->fault};
    x->engine = engine_new(memory, bytes, &x->opts[0], &birth, x->now);
    MUST(x->engine != NULL);
    for (unsigned i = 0; i < STEPS_MAX && x->at < x->end; i++)
        one_op(x);
    end(x);
    free(memory);
    free(x);
    return 0;
}
