/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <cmocka.h>

#include "support/support.h"
#include "support/world.h"

static const struct {
    const char *name, *address;
} peers[] = {
    {"alice", "198.51.100.1:5060"}, {"bob", "198.51.100.2:5060"},
    {"carol", "198.51.100.3:5060"}, {"mallory", "203.0.113.66:5060"},
    {"a", "10.1.0.1:5070"},         {"b", "10.1.0.2:5070"},
    {"c", "10.1.0.3:5070"},         {"d", "10.1.0.4:5070"},
    {"proxy", "10.1.0.99:5060"},    {"alice6", "[2001:db8:1::1]:5060"},
    {"a6", "[fd00::1:1]:5070"},     {"us-out", "192.0.2.1:5060"},
    {"us-in", "10.0.0.1:5060"},     {"elsewhere", "203.0.113.9:5060"},
};

static struct addr address(const char *s)
{
    struct addr a;
    if (addr_parse(slice_cstr(s), &a) != 0)
        fail_msg("no address: %s", s);
    return a;
}

struct addr world_peer(const char *name)
{
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (strcmp(peers[i].name, name) == 0)
            return address(peers[i].address);
    return address(name);
}

static const char *peer_address(const char *name)
{
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (strcmp(peers[i].name, name) == 0)
            return peers[i].address;
    return name;
}

static void peer_name(const struct addr *a, char *dst, size_t cap)
{
    char text[ADDR_TEXT_MAX + 1] = {0};
    struct text t = text_into(text, ADDR_TEXT_MAX);
    addr_put(&t, a);
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (strcmp(peers[i].address, text) == 0) {
            snprintf(dst, cap, "%s", peers[i].name);
            return;
        }
    snprintf(dst, cap, "%s", text);
}

/* ---- birth ----------------------------------------------------------------------------------- */

static void seeded_fill(void *ctx, void *dst, size_t n)
{
    struct world *w = ctx;
    unsigned char *p = dst;
    for (size_t i = 0; i < n; i++) {
        w->seed = w->seed * 6364136223846793005ULL + 1442695040888963407ULL;
        p[i] = (unsigned char)(w->seed >> 56);
    }
}

static void plan_listener(struct world *w, unsigned id, const char *name, const char *bind,
                          const char *host, bool tcp, enum side side)
{
    w->opts.edge.listener[id] = (struct edge_listener){.used = true,
                                                       .name = slice_cstr(name),
                                                       .uri = slice_cstr(bind),
                                                       .bind = address(bind),
                                                       .transport = tcp ? TP_TCP : TP_UDP,
                                                       .side = (uint8_t)side,
                                                       .host = slice_cstr(host),
                                                       .port = 5060};
}

static void plan_pool(struct world *w)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static const char *const uris[] = {"udp://10.1.0.1:5070", "udp://10.1.0.2:5070",
                                       "udp://10.1.0.3:5070", "udp://10.1.0.4:5070"};
    pool_opts_default(&w->pool);
    w->pool.name = SLICE("border");
    w->pool.balance = POOL_ROUND_ROBIN;
    w->pool.targets = w->target;
    w->pool.target_count = 3;
    for (unsigned i = 0; i < 4; i++)
        w->target[i] = (struct pool_target_opts){
            .uri = slice_cstr(uris[i]), .addr = world_peer(names[i]), .weight = 1};
    w->pool.health.on = false;
    w->pool.outlier.slow_start = 0;
}

struct world *world_plan(void)
{
    static const char secret[] = "a secret of the unit tests";
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->seed = 1;
    w->workers = 2;
    w->now = 1000 * NS_S;
    w->next_gen = 1;
    w->fault.countdown = UINT64_MAX;
    plan_listener(w, 0, "out", "192.0.2.1:5060", "192.0.2.1", false, SIDE_OUTSIDE);
    plan_listener(w, 1, "out-tcp", "192.0.2.1:5060", "192.0.2.1", true, SIDE_OUTSIDE);
    plan_listener(w, 2, "in", "10.0.0.1:5060", "10.0.0.1", false, SIDE_INSIDE);
    plan_listener(w, 3, "in-tcp", "10.0.0.1:5060", "10.0.0.1", true, SIDE_INSIDE);
    plan_listener(w, 4, "out6", "[2001:db8::1]:5060", "[2001:db8::1]", false, SIDE_OUTSIDE);
    plan_listener(w, 5, "in6", "[fd00::1]:5060", "[fd00::1]", false, SIDE_INSIDE);
    plan_pool(w);
    struct edge_opts *e = &w->opts.edge;
    e->node_name = SLICE("edge-1");
    e->node_id = 1;
    assert_int_equal(prefix_parse(SLICE("10.1.0.0/16"), &w->trusted[0]), 0);
    e->trusted = w->trusted;
    e->trusted_count = 1;
    w->rule[0] = (struct edge_rule){.from = SIDE_OUTSIDE, .pool = 0};
    e->rules = w->rule;
    e->rule_count = 1;
    e->pools = &w->pool;
    e->pool_count = 1;
    e->keys.count = 1;
    assert_int_equal(token_key_init(&e->keys.key[0], slice_cstr(secret)), 0);
    e->hops_max = 70;
    e->timers = TXN_TIMERS_DEFAULT;
    e->timer_c = 185 * NS_S;
    e->connect_timeout = 2 * NS_S;
    e->connections_per_target = 4;
    e->log_transactions = true;
    w->opts.limits = (struct edge_limits){.transactions = 256,
                                          .flows = 64,
                                          .target_flows = 64,
                                          .blocks = {512, 256, 64, 8},
                                          .targets = 16,
                                          .pools = 4};
    return w;
}

/* The engine's own copy: the test may go on changing what it planned. */
static const struct engine_opts *snapshot(struct world *w)
{
    unsigned i = w->snapshot_count++ % 4;
    w->snapshot[i].opts = w->opts;
    if (w->opts.edge.pools == &w->pool) {
        w->snapshot[i].pool = w->pool;
        memcpy(w->snapshot[i].target, w->target, sizeof w->target);
        w->snapshot[i].pool.targets = w->snapshot[i].target;
        w->snapshot[i].opts.edge.pools = &w->snapshot[i].pool;
    }
    return &w->snapshot[i].opts;
}

void world_start(struct world *w)
{
    size_t size = engine_memory(&w->opts);
    w->memory = test_arena(size);
    w->scratch = test_arena(STEP_SCRATCH_BYTES);
    w->out = calloc(1, sizeof *w->out);
    assert_non_null(w->out);
    w->out->scratch = arena_over(w->scratch.p, STEP_SCRATCH_BYTES);
    struct engine_birth birth = {.worker = w->worker,
                                 .workers = w->workers,
                                 .process_generation = 0x01020304,
                                 .shared_seed = {7, 8},
                                 .rng = {seeded_fill, w},
                                 .prng_seed = 9,
                                 .fault = &w->fault};
    w->began = w->now;
    w->engine = engine_new(w->memory.p, size, snapshot(w), &birth, w->now);
    assert_non_null(w->engine);
}

struct world *world_new(void)
{
    struct world *w = world_plan();
    world_start(w);
    return w;
}

void world_free(struct world *w)
{
    for (unsigned i = 0; i < w->message_count; i++)
        free(w->message[i].p);
    for (unsigned i = 0; i < w->handed_count; i++)
        free(w->handed[i].p);
    free(w->page);
    free(w->out);
    test_arena_free(&w->memory);
    test_arena_free(&w->scratch);
    free(w);
}

/* ---- what the engine does -------------------------------------------------------------------- */

static void say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct world *w, const char *format, ...)
{
    if (w->line_count == WORLD_LINES_MAX)
        fail_msg("more than %d lines: forget some", WORLD_LINES_MAX);
    char *dst = w->line[w->line_count++];
    int n =
        snprintf(dst, WORLD_LINE_BYTES, "%llu ", (unsigned long long)((w->now - w->began) / NS_MS));
    va_list ap;
    va_start(ap, format);
    vsnprintf(dst + n, WORLD_LINE_BYTES - (size_t)n, format, ap);
    va_end(ap);
}

/* "INVITE", "180 INVITE", or "pong". */
static void what_is(const char *p, size_t n, char *dst, size_t cap)
{
    if (n == 2 || n == 4) {
        snprintf(dst, cap, "pong");
        return;
    }
    char *copy = strndup(p, n);
    int status = 0;
    char word[32] = "?";
    const char *cseq = strstr(copy, "CSeq: ");
    if (sscanf(copy, "SIP/2.0 %d", &status) == 1) {
        if (cseq != NULL)
            (void)sscanf(cseq, "CSeq: %*u %31s", word);
        snprintf(dst, cap, "%d %s", status, word);
    } else {
        (void)sscanf(copy, "%31s", word);
        snprintf(dst, cap, "%s", word);
    }
    free(copy);
}

static bool is_ours(struct slice host)
{
    return slice_equal(host, SLICE("192.0.2.1")) || slice_equal(host, SLICE("10.0.0.1")) ||
           slice_equal(host, SLICE("2001:db8::1")) || slice_equal(host, SLICE("fd00::1"));
}

/* Whatever leaves must be readable, and answer for itself: a request carries our Via on top, a
 * response does not. */
static void check_message(const struct world *w, const char *p, size_t n)
{
    static struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault = {0};
    if (n <= 4)
        return;
    if (sip_index(&m, p, n, false, &fault) != 0)
        fail_msg("sent unreadable (%.*s):\n%.*s", (int)fault.reason.n, fault.reason.p, (int)n, p);
    if (m.is_request) {
        if (sip_check_request(&m, &f, &fault) != 0)
            fail_msg("sent a bad request (%.*s):\n%.*s", (int)fault.reason.n, fault.reason.p,
                     (int)n, p);
        if (!is_ours(f.via.host) || !f.via.is_rfc3261)
            fail_msg("sent a request without our Via:\n%.*s", (int)n, p);
    } else {
        /* To a request that lacks something the answer lacks it too, but never its Via. */
        if (sip_check_response(&m, &f, &fault) != 0 &&
            (m.status != 400 || sip_header_value(&m, SIP_H_VIA).n == 0))
            fail_msg("sent a bad response (%.*s):\n%.*s", (int)fault.reason.n, fault.reason.p,
                     (int)n, p);
        if (is_ours(f.via.host) && f.via.branch.n == 43 && !w->is_its_own_peer)
            fail_msg("sent a response with our Via:\n%.*s", (int)n, p);
    }
}

static void keep_message(struct world *w, const struct addr *peer, struct flow_id flow,
                         const char *p, size_t n)
{
    check_message(w, p, n);
    if (w->message_count == WORLD_MESSAGES_MAX) {
        for (unsigned i = 0; i < WORLD_MESSAGES_MAX / 2; i++)
            free(w->message[i].p);
        memmove(w->message, w->message + WORLD_MESSAGES_MAX / 2,
                sizeof w->message[0] * WORLD_MESSAGES_MAX / 2);
        w->message_count = WORLD_MESSAGES_MAX / 2;
    }
    char *copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    copy[n] = '\0';
    w->message[w->message_count++] =
        (struct world_message){.peer = *peer, .flow = flow, .p = copy, .n = n};
}

/* One action's bytes, flat; freed by the caller. */
static char *flat(const struct world *w, const struct action *a, size_t *ret_n)
{
    size_t n = 0;
    for (uint32_t i = 0; i < a->iov_count; i++)
        n += w->out->iov[a->iov + i].iov_len;
    char *p = malloc(n + 1), *at = p;
    assert_non_null(p);
    for (uint32_t i = 0; i < a->iov_count; i++) {
        const struct iovec *v = &w->out->iov[a->iov + i];
        if (v->iov_len > 0)
            memcpy(at, v->iov_base, v->iov_len);
        at += v->iov_len;
    }
    *at = '\0';
    *ret_n = n;
    return p;
}

static int flow_index(const struct world *w, struct flow_id id)
{
    for (unsigned i = 0; i < w->flow_count; i++)
        if (flow_id_equal(w->flow[i].id, id))
            return (int)i;
    return -1;
}

static void on_send(struct world *w, const struct action *a)
{
    size_t n;
    char *p = flat(w, a, &n);
    char peer[64], what[64];
    what_is(p, n, what, sizeof what);
    if (a->kind == ACT_SEND) {
        peer_name(&a->dest, peer, sizeof peer);
        say(w, "udp%u %s %s", a->listener, peer, what);
        assert_true(a->listener < LISTENERS_MAX && w->opts.edge.listener[a->listener].used);
        assert_int_equal(w->opts.edge.listener[a->listener].transport, TP_UDP);
        keep_message(w, &a->dest, FLOW_NONE, p, n);
    } else {
        int i = flow_index(w, a->flow);
        if (i < 0 || !w->flow[i].open)
            fail_msg("sent on a connection that is not there: %s", what);
        peer_name(&w->flow[i].peer, peer, sizeof peer);
        say(w, "tcp %s %s", peer, what);
        keep_message(w, &w->flow[i].peer, a->flow, p, n);
    }
    free(p);
}

static void on_connect(struct world *w, const struct action *a)
{
    char peer[64];
    peer_name(&a->dest, peer, sizeof peer);
    say(w, "connect %s", peer);
    assert_true(w->flow_count < sizeof w->flow / sizeof w->flow[0]);
    w->flow[w->flow_count].id = a->flow;
    w->flow[w->flow_count].peer = a->dest;
    w->flow[w->flow_count].listener = a->listener;
    w->flow[w->flow_count].open = true;
    w->flow_count++;
}

static void on_handover(struct world *w, const struct action *a)
{
    size_t n;
    char *p = flat(w, a, &n);
    char what[64];
    what_is(p, n, what, sizeof what);
    say(w, "hand %u %s", a->worker, what);
    assert_int_equal(a->hand.len, n);
    assert_true(w->handed_count < WORLD_HANDED_MAX);
    char *block = malloc(sizeof a->hand + n);
    assert_non_null(block);
    memcpy(block, &a->hand, sizeof a->hand);
    memcpy(block + sizeof a->hand, p, n);
    w->handed[w->handed_count].worker = a->worker;
    w->handed[w->handed_count].p = block;
    w->handed[w->handed_count].n = sizeof a->hand + n;
    w->handed_count++;
    free(p);
}

const struct log_record *world_record(const struct world *w)
{
    return (const struct log_record *)(const void *)w->record;
}

static void on_log(struct world *w, const struct action *a)
{
    assert_true(a->text.n >= sizeof(struct log_record) && a->text.n <= sizeof w->record);
    memcpy(w->record, a->text.p, a->text.n);
    const struct log_record *rec = world_record(w);
    w->end[0] = rec->end_who;
    w->end[1] = rec->end_phase;
    w->records++;
    /* Whatever it says can be written. */
    static char line[LOG_LINE_BYTES_MAX];
    struct text t = text_into(line, sizeof line);
    struct log_names names = {SLICE("edge-1"), SLICE_NONE, SLICE_NONE};
    assert_int_equal(log_write_json(&t, rec, &names), 0);
    if (w->show_log) {
        struct slice method = rec->method != 0 ? sip_method_name((enum sip_method)rec->method)
                                               : log_text_of(rec, LOG_METHOD_NAME);
        say(w, "log %.*s %u %s %u", (int)method.n, method.p, rec->status, w->end, rec->tries);
    }
}

/* Whatever is to be stored are whole records. */
static void on_store(struct world *w, const struct action *a)
{
    size_t n;
    char *p = flat(w, a, &n);
    struct slice rest = slice_of(p, n);
    struct record one;
    unsigned count = 0;
    while (record_next(&rest, &one) == 1)
        count++;
    assert_true(count > 0);
    assert_int_equal(rest.n, 0);
    free(p);
    say(w, a->id != 0 ? "store" : "store end");
    if (a->id == 0)
        return;
    assert_true(w->store_count < WORLD_STORES_MAX);
    w->store_id[w->store_count++] = a->id;
}

static void on_action(struct world *w, const struct action *a)
{
    char peer[64];
    int i;
    switch ((enum action_kind)a->kind) {
    case ACT_SEND:
    case ACT_SEND_FLOW:
        on_send(w, a);
        break;
    case ACT_CONNECT:
        on_connect(w, a);
        break;
    case ACT_CLOSE:
        i = flow_index(w, a->flow);
        assert_true(i >= 0);
        peer_name(&w->flow[i].peer, peer, sizeof peer);
        say(w, "close %s", peer);
        break;
    case ACT_HANDOVER:
        on_handover(w, a);
        break;
    case ACT_RESOLVE:
        say(w, "resolve %.*s:%u/%u", (int)a->text.n, a->text.p, a->port, a->transport);
        w->resolve_id_before = w->resolve_id;
        w->resolve_id = a->id;
        break;
    case ACT_LOG:
        on_log(w, a);
        break;
    case ACT_STORE:
        on_store(w, a);
        break;
    case ACT_PING:
        i = flow_index(w, a->flow);
        assert_true(i >= 0 && w->flow[i].open);
        peer_name(&w->flow[i].peer, peer, sizeof peer);
        say(w, "ping %s", peer);
        break;
    case ACT_NOTICE:
        if (w->show_notices)
            say(w, "notice %u", a->notice);
        break;
    case ACT_REPLY:
        free(w->page);
        w->page = flat(w, a, &w->page_n);
        w->page_error = a->error;
        w->page_cursor = a->cursor;
        break;
    }
}

int world_step(struct world *w, const struct event *ev)
{
    actions_reset(w->out);
    uint32_t first = w->batch_is_full ? STEP_ACTIONS_MAX - STEP_ACTIONS_ROOM : 0;
    w->out->count = first;
    int result = engine_step(w->engine, ev, w->now, w->out);
    struct flow_id opened[STEP_ACTIONS_MAX];
    unsigned opened_count = 0;
    for (uint32_t i = first; i < w->out->count; i++) {
        on_action(w, &w->out->a[i]);
        if (w->out->a[i].kind == ACT_CONNECT)
            opened[opened_count++] = w->out->a[i].flow;
    }
    for (unsigned i = 0; i < opened_count && !w->connects_hang; i++) {
        if (w->connects_fail)
            world_connect_failed(w, opened[i]);
        else
            world_connected(w, opened[i]);
    }
    if (!w->store_hangs && w->store_count > 0)
        world_stored(w);
    return result;
}

void world_stored(struct world *w)
{
    uint64_t id[WORLD_STORES_MAX];
    unsigned count = w->store_count;
    memcpy(id, w->store_id, sizeof id);
    w->store_count = 0;
    for (unsigned i = 0; i < count; i++)
        world_step(w, &(struct event){.kind = EV_STORED, .id = id[i], .error = w->store_error});
}

/* ---- time ------------------------------------------------------------------------------------ */

void world_run(struct world *w, uint64_t ms)
{
    mono_ns until = w->now + ms * NS_MS;
    unsigned still = 0;
    for (;;) {
        mono_ns at = engine_deadline(w->engine);
        if (at > until)
            break;
        still = at > w->now ? 0 : still + 1;
        if (still > 1000)
            fail_msg("the deadline makes no headway");
        w->now = at > w->now ? at : w->now;
        world_step(w, &(struct event){.kind = EV_TIMER, .listener = LISTENER_NONE});
    }
    w->now = until;
}

/* Each transaction leaves its line. */
static void check_records(const struct world *w)
{
    const struct counters *c = engine_counters(w->engine);
    if (w->opts.edge.log_transactions && w->records + c->log_dropped < c->transactions)
        fail_msg("%llu transactions, %llu records", (unsigned long long)c->transactions,
                 (unsigned long long)w->records);
}

void world_drain(struct world *w, uint64_t ms)
{
    struct engine_load l = engine_load(w->engine);
    for (uint64_t i = 0; i < ms && l.relays + l.tries + l.blocks != 0; i += 1000) {
        world_run(w, 1000);
        l = engine_load(w->engine);
    }
    if (l.relays + l.tries + l.blocks + l.relays_open != 0)
        fail_msg("left after %llu ms: %u relays (%u open), %u tries, %u blocks",
                 (unsigned long long)ms, l.relays, l.relays_open, l.tries, l.blocks);
    check_records(w);
}

void world_restart_clock(struct world *w)
{
    w->began = w->now;
}

/* ---- what happens to the engine -------------------------------------------------------------- */

/* LF to CRLF, and Content-Length when there is none. */
static char *wire_text(const char *text, size_t *ret_n)
{
    const char *blank = strstr(text, "\n\n");
    const char *body = blank != NULL ? blank + 2 : text + strlen(text);
    size_t head_n = blank != NULL ? (size_t)(blank + 1 - text) : strlen(text);
    char *out = malloc(2 * strlen(text) + 64), *at = out;
    assert_non_null(out);
    bool has_length = false;
    for (size_t i = 0; i < head_n; i++) {
        if (strncasecmp(text + i, "\nContent-Length:", 16) == 0)
            has_length = true;
        if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
            *at++ = '\r';
        *at++ = text[i];
    }
    if (blank == NULL && head_n > 0 && text[head_n - 1] != '\n')
        at += sprintf(at, "\r\n");
    if (!has_length)
        at += sprintf(at, "Content-Length: %zu\r\n", strlen(body));
    at += sprintf(at, "\r\n%s", body);
    *ret_n = (size_t)(at - out);
    return out;
}

static void step_bytes(struct world *w, struct event ev, const char *text)
{
    size_t n;
    char *wire = strncmp(text, "RAW:", 4) == 0 ? NULL : wire_text(text, &n);
    const char *p = wire != NULL ? wire : text + 4;
    if (wire == NULL)
        n = strlen(p);
    char *copy = guard_copy(p, n);
    free(wire);
    ev.bytes = slice_of(copy, n);
    ev.waited = w->waited;
    world_step(w, &ev);
    guard_free(copy);
}

void world_udp(struct world *w, uint8_t listener, const char *from, const char *text)
{
    step_bytes(w,
               (struct event){.kind = EV_DATAGRAM,
                              .listener = listener,
                              .transport = TP_UDP,
                              .source = world_peer(from)},
               text);
}

struct flow_id world_accept(struct world *w, uint8_t listener, const char *from)
{
    unsigned i = w->flow_count++;
    assert_true(i < 60);
    w->flow[i].id = (struct flow_id){1000 + w->next_gen++, i, w->worker};
    w->flow[i].peer = world_peer(from);
    w->flow[i].listener = listener;
    w->flow[i].open = true;
    world_step(w, &(struct event){.kind = EV_FLOW_OPENED,
                                  .listener = listener,
                                  .transport = TP_TCP,
                                  .flow = w->flow[i].id,
                                  .source = w->flow[i].peer});
    return w->flow[i].id;
}

void world_tcp(struct world *w, struct flow_id flow, const char *text)
{
    int i = flow_index(w, flow);
    assert_true(i >= 0);
    step_bytes(w,
               (struct event){.kind = EV_MESSAGE,
                              .listener = w->flow[i].listener,
                              .transport = TP_TCP,
                              .flow = flow,
                              .source = w->flow[i].peer},
               text);
}

void world_close(struct world *w, struct flow_id flow, int error)
{
    int i = flow_index(w, flow);
    assert_true(i >= 0);
    w->flow[i].open = false;
    world_step(w, &(struct event){.kind = EV_FLOW_CLOSED, .flow = flow, .error = error});
    world_run(w, 1);
}

void world_connected(struct world *w, struct flow_id flow)
{
    int i = flow_index(w, flow);
    assert_true(i >= 0);
    world_step(w, &(struct event){.kind = EV_FLOW_OPENED,
                                  .listener = w->flow[i].listener,
                                  .transport = TP_TCP,
                                  .flow = flow,
                                  .source = w->flow[i].peer});
}

void world_connect_failed(struct world *w, struct flow_id flow)
{
    int i = flow_index(w, flow);
    assert_true(i >= 0);
    w->flow[i].open = false;
    world_step(w, &(struct event){.kind = EV_CONNECT_FAILED, .flow = flow, .error = 111});
}

struct flow_id world_last_flow(const struct world *w)
{
    assert_true(w->flow_count > 0);
    return w->flow[w->flow_count - 1].id;
}

struct flow_id world_flow_to(const struct world *w, const char *peer)
{
    struct addr a = world_peer(peer);
    for (unsigned i = w->flow_count; i-- > 0;)
        if (addr_equal(&w->flow[i].peer, &a) && w->flow[i].open)
            return w->flow[i].id;
    fail_msg("no connection with %s", peer);
    return FLOW_NONE;
}

static const struct world_message *last_to(const struct world *w, const char *peer,
                                           const char *word)
{
    struct addr a = world_peer(peer);
    for (unsigned i = w->message_count; i-- > 0;) {
        const struct world_message *m = &w->message[i];
        if (!addr_equal(&m->peer, &a))
            continue;
        if (word == NULL || (strncmp(m->p, word, strlen(word)) == 0 && m->p[strlen(word)] == ' '))
            return m;
    }
    return NULL;
}

void world_unreachable(struct world *w, const char *peer)
{
    const struct world_message *m = last_to(w, peer, NULL);
    assert_non_null(m);
    world_step(w, &(struct event){.kind = EV_UNREACHABLE,
                                  .listener = 2,
                                  .transport = TP_UDP,
                                  .source = m->peer,
                                  .bytes = slice_of(m->p, m->n < 548 ? m->n : 548),
                                  .error = 111});
    world_run(w, 1);
}

void world_resolved(struct world *w, const char *const *names, unsigned count)
{
    struct resolved to[EVENT_ADDRS_MAX];
    for (unsigned i = 0; i < count; i++)
        to[i] = (struct resolved){world_peer(names[i]), TP_UDP};
    world_step(w, &(struct event){.kind = EV_RESOLVED,
                                  .id = w->resolve_id,
                                  .addrs = to,
                                  .addr_count = (uint16_t)count});
}

void world_adopt(struct world *w, int expected)
{
    const struct engine_opts *opts = snapshot(w);
    assert_int_equal(world_step(w, &(struct event){.kind = EV_CONFIG, .opts = opts}), expected);
}

void world_command(struct world *w, uint8_t command, const char *argument)
{
    world_step(w, &(struct event){.kind = EV_COMMAND,
                                  .command = command,
                                  .id = 1,
                                  .cursor = w->page_cursor,
                                  .bytes = slice_cstr(argument)});
}

void world_hand(struct world *from, struct world *to)
{
    for (unsigned i = 0; i < from->handed_count; i++) {
        assert_int_equal(from->handed[i].worker, to->worker);
        world_step(to, &(struct event){.kind = EV_HANDED,
                                       .bytes = slice_of(from->handed[i].p, from->handed[i].n)});
        free(from->handed[i].p);
    }
    from->handed_count = 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

static char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *format_text(const char *format, ...)
{
    va_list ap;
    char *out = NULL;
    va_start(ap, format);
    if (vasprintf(&out, format, ap) < 0)
        fail_msg("no memory");
    va_end(ap);
    return out;
}

char *world_request(const char *method, const char *uri, const char *from, const char *branch,
                    const char *extra)
{
    return format_text("%s %s SIP/2.0\n"
                       "Via: SIP/2.0/UDP %s;branch=z9hG4bK-%s;rport\n"
                       "Max-Forwards: 70\n"
                       "From: \"%s\" <sip:%s@example.com>;tag=t-%s\n"
                       "To: <sip:service@example.com>\n"
                       "Call-ID: call-%s@%s\n"
                       "CSeq: 1 %s\n"
                       "Contact: <sip:%s@%s>\n"
                       "%s\n",
                       method, uri, peer_address(from), branch, from, from, from, branch, from,
                       method, from, peer_address(from), extra != NULL ? extra : "");
}

static uint8_t listener_for(const struct world *w, const char *from)
{
    struct addr a = world_peer(from);
    bool inside = prefix_holds(&w->trusted[0], &a) || (a.family == 6 && a.ip[0] == 0xfd);
    if (a.family == 6)
        return inside ? 5 : 4;
    return inside ? 2 : 0;
}

void world_send(struct world *w, const char *from, const char *method, const char *branch,
                const char *extra)
{
    char *text = world_request(method, "sip:service@example.com", from, branch, extra);
    world_udp(w, listener_for(w, from), from, text);
    free(text);
}

void world_invite(struct world *w, const char *from, const char *branch)
{
    world_send(w, from, "INVITE", branch, NULL);
}

void world_cancel(struct world *w, const char *from, const char *branch)
{
    world_send(w, from, "CANCEL", branch, NULL);
}

void world_ack(struct world *w, const char *from, const char *branch)
{
    const char *last = world_last(w, from);
    assert_non_null(last);
    char *to = strdup(world_header(last, "To", 0));
    char *text = format_text("ACK sip:service@example.com SIP/2.0\n"
                             "Via: SIP/2.0/UDP %s;branch=z9hG4bK-%s;rport\n"
                             "Max-Forwards: 70\n"
                             "From: \"%s\" <sip:%s@example.com>;tag=t-%s\n"
                             "To: %s\n"
                             "Call-ID: call-%s@%s\n"
                             "CSeq: 1 ACK\n\n",
                             peer_address(from), branch, from, from, from, to, branch, from);
    world_udp(w, listener_for(w, from), from, text);
    free(text);
    free(to);
}

static void uri_of(const char *value, char *dst, size_t cap)
{
    const char *a = strchr(value, '<'), *b = a != NULL ? strchr(a, '>') : NULL;
    dst[0] = '\0';
    if (b != NULL)
        snprintf(dst, cap, "%.*s", (int)(b - a - 1), a + 1);
}

char *world_in_dialog(struct world *w, const char *caller, const char *callee, bool by_caller,
                      const char *method, const char *branch)
{
    const struct world_message *m = NULL;
    struct addr at = world_peer(caller);
    for (unsigned i = w->message_count; i-- > 0 && m == NULL;)
        if (addr_equal(&w->message[i].peer, &at) && strncmp(w->message[i].p, "SIP/2.0 2", 9) == 0 &&
            world_has(w->message[i].p, "INVITE"))
            m = &w->message[i];
    assert_non_null(m);
    const char *invite = world_last_request(w, callee, "INVITE");
    char *routes = strdup(""), target[512];
    const char *of = by_caller ? m->p : invite;
    for (unsigned i = 0; world_header(of, "Record-Route", i)[0] != '\0'; i++) {
        char *line = format_text("Route: %s\n", world_header(of, "Record-Route", i));
        char *all =
            by_caller ? format_text("%s%s", line, routes) : format_text("%s%s", routes, line);
        free(line);
        free(routes);
        routes = all;
    }
    uri_of(world_header(of, "Contact", 0), target, sizeof target);
    char *from = strdup(world_header(m->p, by_caller ? "From" : "To", 0));
    char *to = strdup(world_header(m->p, by_caller ? "To" : "From", 0));
    char *call_id = strdup(world_header(m->p, "Call-ID", 0));
    const char *self = by_caller ? caller : callee;
    char *text = format_text("%s %s SIP/2.0\n"
                             "Via: SIP/2.0/UDP %s;branch=z9hG4bK-%s;rport\n"
                             "%s"
                             "Max-Forwards: 70\n"
                             "From: %s\n"
                             "To: %s\n"
                             "Call-ID: %s\n"
                             "CSeq: %d %s\n\n",
                             method, target, peer_address(self), branch, routes, from, to, call_id,
                             strcmp(method, "ACK") == 0 ? 1 : 2, method);
    free(routes);
    free(from);
    free(to);
    free(call_id);
    return text;
}

/* ---- answers --------------------------------------------------------------------------------- */

char *world_response(struct world *w, const char *peer, const char *method, int status,
                     const char *tag, const char *extra)
{
    const char *request = NULL;
    if (method != NULL)
        request = world_last_request(w, peer, method);
    else
        request = world_last(w, peer);
    if (request == NULL)
        fail_msg("%s got no %s", peer, method != NULL ? method : "request");
    char *lines = strdup("");
    static const char *const copied[] = {"Via", "Record-Route"};
    for (unsigned k = 0; k < 2; k++)
        for (unsigned i = 0; world_header(request, copied[k], i)[0] != '\0'; i++) {
            char *all =
                format_text("%s%s: %s\n", lines, copied[k], world_header(request, copied[k], i));
            free(lines);
            lines = all;
        }
    char *to = strdup(world_header(request, "To", 0));
    char *from = strdup(world_header(request, "From", 0));
    char *call_id = strdup(world_header(request, "Call-ID", 0));
    char *cseq = strdup(world_header(request, "CSeq", 0));
    bool tagged = strstr(to, ";tag=") != NULL || status == 100;
    char *text = format_text("SIP/2.0 %d Text\n"
                             "%s"
                             "From: %s\n"
                             "To: %s%s%s\n"
                             "Call-ID: %s\n"
                             "CSeq: %s\n"
                             "Contact: <sip:%s@%s>\n"
                             "%s\n",
                             status, lines, from, to, tagged ? "" : ";tag=", tagged ? "" : tag,
                             call_id, cseq, peer, peer_address(peer), extra != NULL ? extra : "");
    free(lines);
    free(to);
    free(from);
    free(call_id);
    free(cseq);
    return text;
}

void world_reply(struct world *w, const char *peer, const char *text)
{
    const struct world_message *m = last_to(w, peer, NULL);
    assert_non_null(m);
    if (m->flow.gen != 0)
        world_tcp(w, m->flow, text);
    else
        world_udp(w, listener_for(w, peer), peer, text);
}

void world_answer(struct world *w, const char *peer, const char *method, int status,
                  const char *extra)
{
    char *text = world_response(w, peer, method, status, peer, extra);
    world_reply(w, peer, text);
    free(text);
}

/* ---- looking at messages --------------------------------------------------------------------- */

const char *world_last(const struct world *w, const char *peer)
{
    const struct world_message *m = last_to(w, peer, NULL);
    return m != NULL ? m->p : NULL;
}

const char *world_last_request(const struct world *w, const char *peer, const char *method)
{
    const struct world_message *m = last_to(w, peer, method);
    return m != NULL ? m->p : NULL;
}

const char *world_header(const char *message, const char *name, unsigned n)
{
    static char value[8][2048];
    static unsigned turn;
    char *dst = value[turn++ % 8];
    size_t len = strlen(name);
    dst[0] = '\0';
    for (const char *line = strstr(message, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncmp(line, "\r\n", 2) == 0)
            break;
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        if (n-- > 0)
            continue;
        const char *from = line + len + 1 + strspn(line + len + 1, " ");
        snprintf(dst, sizeof value[0], "%.*s", (int)(strstr(from, "\r\n") - from), from);
        break;
    }
    return dst;
}

bool world_has(const char *message, const char *needle)
{
    return strstr(message, needle) != NULL;
}

/* ---- comparing ------------------------------------------------------------------------------- */

void world_forget(struct world *w)
{
    w->line_count = 0;
}

void world_expect(struct world *w, const char *file, int line, const char *const *lines)
{
    unsigned i = 0;
    while (lines[i] != NULL && i < w->line_count && strcmp(lines[i], w->line[i]) == 0)
        i++;
    if (lines[i] == NULL && i == w->line_count) {
        world_forget(w);
        return;
    }
    print_error("%s:%d: what happened (! = first difference, expected \"%s\"):\n", file, line,
                lines[i] != NULL ? lines[i] : "nothing more");
    for (unsigned k = 0; k < w->line_count; k++)
        print_error("  %c \"%s\",\n", k == i ? '!' : ' ', w->line[k]);
    _fail(file, line);
}
