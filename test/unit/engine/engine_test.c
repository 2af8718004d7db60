/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker's brain as a whole: hand-over, reloads, commands, what is shown, probes, connections.
 * covers: edge/probe.c, edge/show.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

static void drained(struct world *w)
{
    world_drain(w, 250000);
    world_free(w);
}

/* ---- hand-over ------------------------------------------------------------------------------- */

static void two_workers(struct world *w[2])
{
    for (unsigned i = 0; i < 2; i++) {
        w[i] = world_plan();
        w[i]->worker = i;
        world_start(w[i]);
    }
}

static void response_on_the_wrong_worker(void **state)
{
    (void)state;
    struct world *w[2];
    two_workers(w);
    world_invite(w[0], "alice", "1");
    world_forget(w[0]);
    char *ringing = world_response(w[0], "a", "INVITE", 180, "a", NULL);
    world_udp(w[1], 2, "a", ringing);
    EXPECT(w[1], "0 hand 0 180 INVITE");
    world_hand(w[1], w[0]);
    EXPECT(w[0], "0 udp0 alice 180 INVITE");
    free(ringing);
    drained(w[0]);
    drained(w[1]);
}

static void cancel_on_the_wrong_worker(void **state)
{
    (void)state;
    struct world *w[2];
    two_workers(w);
    world_invite(w[0], "alice", "1");
    world_answer(w[0], "a", NULL, 180, NULL);
    world_forget(w[0]);
    world_cancel(w[1], "alice", "1");
    EXPECT(w[1], "0 hand 0 CANCEL");
    world_hand(w[1], w[0]);
    EXPECT(w[0], "0 udp0 alice 200 CANCEL", "0 udp2 a CANCEL");
    assert_int_equal(engine_counters(w[1]->engine)->cancels, 1);
    assert_int_equal(engine_counters(w[0]->engine)->cancels, 0);
    drained(w[0]);
    drained(w[1]);
}

/* Each worker looks once; then there is no such transaction. */
static void cancel_goes_round_once(void **state)
{
    (void)state;
    struct world *w[3];
    for (unsigned i = 0; i < 3; i++) {
        w[i] = world_plan();
        w[i]->worker = i;
        w[i]->workers = 3;
        world_start(w[i]);
    }
    world_cancel(w[1], "alice", "1");
    EXPECT(w[1], "0 hand 2 CANCEL");
    world_hand(w[1], w[2]);
    EXPECT(w[2], "0 hand 0 CANCEL");
    world_hand(w[2], w[0]);
    EXPECT(w[0], "0 udp0 alice 481 CANCEL");
    assert_int_equal(engine_counters(w[0]->engine)->cancels_unmatched, 1);
    for (unsigned i = 0; i < 3; i++)
        drained(w[i]);
}

/* A dialog's request lands on one worker, the caller's connection belongs to another. */
static void bytes_for_a_connection_of_another_worker(void **state)
{
    (void)state;
    struct world *w[2];
    two_workers(w);
    struct flow_id alice = world_accept(w[0], 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w[0], alice, text);
    free(text);
    world_answer(w[0], "a", NULL, 200, NULL);
    text = world_in_dialog(w[0], "alice", "a", false, "BYE", "9");
    world_forget(w[0]);
    world_udp(w[1], 2, "a", text);
    EXPECT(w[1], "0 hand 0 BYE");
    world_hand(w[1], w[0]);
    EXPECT(w[0], "0 tcp alice BYE");
    /* Its answer comes to worker 0, and belongs to worker 1. */
    world_answer(w[0], "alice", "BYE", 200, NULL);
    EXPECT(w[0], "0 hand 1 200 BYE");
    world_hand(w[0], w[1]);
    EXPECT(w[1], "0 hand 0 ?", "0 udp2 a 200 BYE"); /* the call over that connection is over */
    world_hand(w[1], w[0]);
    free(text);
    drained(w[0]);
    drained(w[1]);
}

static void bytes_for_a_connection_that_is_gone_there(void **state)
{
    (void)state;
    struct world *w[2];
    two_workers(w);
    struct flow_id alice = world_accept(w[0], 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w[0], alice, text);
    free(text);
    world_answer(w[0], "a", NULL, 200, NULL);
    text = world_in_dialog(w[0], "alice", "a", false, "BYE", "9");
    world_close(w[0], alice, 0);
    world_forget(w[0]);
    world_udp(w[1], 2, "a", text);
    free(text);
    world_hand(w[1], w[0]);
    EXPECT(w[0], "1 hand 1 BYE");
    assert_int_equal(engine_counters(w[0]->engine)->sends_failed, 1);
    world_forget(w[1]);
    world_hand(w[0], w[1]);
    world_run(w[1], 1);
    EXPECT(w[1], "0 udp2 a 430 BYE");
    drained(w[0]);
    drained(w[1]);
}

/* A token of a life in which there were more workers. */
static void connection_of_a_worker_that_is_not_there(void **state)
{
    (void)state;
    struct world *before = world_plan(), *now = world_new();
    before->worker = 5;
    before->workers = 6;
    world_start(before);
    struct flow_id alice = world_accept(before, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(before, alice, text);
    free(text);
    world_answer(before, "a", NULL, 200, NULL);
    text = world_in_dialog(before, "alice", "a", false, "BYE", "9");
    world_udp(now, 2, "a", text);
    free(text);
    EXPECT(now, "0 udp2 a 430 BYE");
    drained(before);
    drained(now);
}

/* The callee's request is under way when the caller's connection breaks. */
static void connection_breaks_under_a_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id alice = world_accept(w, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    free(text);
    world_answer(w, "a", NULL, 200, NULL);
    text = world_in_dialog(w, "alice", "a", false, "BYE", "9");
    world_udp(w, 2, "a", text);
    free(text);
    world_forget(w);
    world_close(w, alice, 0);
    EXPECT(w, "0 udp2 a 430 BYE");
    drained(w);
}

static void unreachable_on_the_wrong_worker(void **state)
{
    (void)state;
    struct world *w[2];
    two_workers(w);
    world_invite(w[0], "alice", "1");
    world_forget(w[0]);
    const char *m = world_last(w[0], "a");
    world_step(w[1], &(struct event){.kind = EV_UNREACHABLE,
                                     .listener = 2,
                                     .source = world_peer("a"),
                                     .bytes = slice_cstr(m),
                                     .error = 111});
    EXPECT(w[1], "0 hand 0 INVITE");
    world_hand(w[1], w[0]);
    world_run(w[0], 1);
    EXPECT(w[0], "0 udp2 b INVITE");
    drained(w[0]);
    drained(w[1]);
}

/* A ring's block that is cut short, or lies about its length, is our own bug; but it harms nothing.
 */
static void broken_hand_over(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct hand head = {.kind = EV_DATAGRAM, .len = 1000};
    world_step(w, &(struct event){.kind = EV_HANDED, .bytes = slice_of(&head, 10)});
    world_step(w, &(struct event){.kind = EV_HANDED, .bytes = slice_of(&head, sizeof head)});
    EXPECT_NOTHING(w);
    drained(w);
}

/* Another life of this process had the same slots and generations, but not the same branches. */
static void response_of_another_life(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    char *text = world_response(w, "a", "INVITE", 180, "a", NULL);
    world_forget(w);
    char *branch = strstr(text, "branch=z9hG4bK") + 14;
    branch[3] = branch[3] == 'A' ? 'B' : 'A'; /* in the process generation */
    world_udp(w, 2, "a", text);
    EXPECT_NOTHING(w);
    assert_int_equal(engine_counters(w->engine)->responses_stray, 1);
    free(text);
    drained(w);
}

static void guessed_branches_match_nothing(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    for (unsigned i = 0; i < 25; i++) { /* what follows is the loop hash */
        char *text = world_response(w, "a", "INVITE", 200, "a", NULL);
        char *c = strstr(text, "branch=z9hG4bK") + 14 + i;
        *c = *c == 'A' ? 'B' : 'A';
        world_udp(w, 2, "a", text);
        free(text);
        if (w->line_count != 0 && !world_has(w->line[0], "hand"))
            fail_msg("character %u may be anything: %s", i, w->line[0]);
        world_forget(w);
    }
    drained(w);
}

/* ---- reloads --------------------------------------------------------------------------------- */

static void reload_in_the_middle_of_a_call(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 180, NULL);
    world_adopt(w, 0);
    world_forget(w);
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    drained(w);
}

static void reload_that_takes_the_pool(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_invite(w, "bob", "2");
    world_answer(w, "b", "INVITE", 100, NULL);
    w->opts.edge.pool_count = 0;
    w->opts.edge.rule_count = 0;
    world_adopt(w, 0);
    world_forget(w);
    world_invite(w, "carol", "3");
    EXPECT(w, "0 udp0 carol 404 INVITE");
    world_command(w, CMD_SHOW_TRANSACTIONS, "");
    world_answer(w, "a", "INVITE", 503, NULL);
    EXPECT(w, "0 udp2 a ACK", "0 udp0 alice 500 INVITE");
    world_run(w, 200000);
    drained(w);
}

static void reload_that_moves_the_pool(void **state)
{
    (void)state;
    static struct pool_opts pools[2];
    static struct pool_target_opts target;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    pools[0] = pools[1] = w->pool;
    target = (struct pool_target_opts){
        .uri = SLICE("udp://10.1.0.4:5070"), .addr = world_peer("d"), .weight = 1};
    pools[0].name = SLICE("first");
    pools[0].targets = &target;
    pools[0].target_count = 1;
    w->opts.edge.pools = pools;
    w->opts.edge.pool_count = 2;
    world_adopt(w, 0);
    world_answer(w, "a", "INVITE", 503, NULL);
    EXPECT(w, "0 udp2 a ACK", "0 udp2 b INVITE"); /* never the other pool's d, nor a again */
    drained(w);
}

/* A listener goes while requests wait on it: the next try leaves by another, nothing by none. */
static void reload_that_takes_a_listener(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_send(w, "bob", "MESSAGE", "2", NULL);
    world_forget(w);
    w->opts.edge.listener[2].used = false;
    world_adopt(w, 0);
    world_run(w, 2000);
    EXPECT(w, "2000 udp0 c INVITE", "2000 udp0 a MESSAGE");
    w->opts.edge.listener[0].used = false;
    world_adopt(w, 0);
    world_answer(w, "c", "INVITE", 200, NULL);
    world_run(w, 60000);
    EXPECT_NOTHING(w);
    assert_true(engine_counters(w->engine)->sends_failed > 0);
    drained(w);
}

/* Who was tried before a reload is not tried again after it. */
static void reload_forgets_no_try(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_adopt(w, 0);
    world_command(w, CMD_TARGET, "border udp://10.1.0.2:5070 maint");
    world_command(w, CMD_TARGET, "border udp://10.1.0.3:5070 maint");
    world_forget(w);
    world_answer(w, "a", "INVITE", 503, NULL);
    EXPECT(w, "0 udp2 a ACK", "0 udp0 alice 500 INVITE");
    drained(w);
}

static void reload_that_does_not_fit(void **state)
{
    (void)state;
    static struct pool_opts pools[5];
    struct world *w = world_new();
    for (unsigned i = 0; i < 5; i++) {
        pools[i] = w->pool;
        pools[i].target_count = 3;
    }
    w->opts.edge.pools = pools;
    w->opts.edge.pool_count = 5;
    world_adopt(w, -1);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
    drained(w);
}

/* ---- commands -------------------------------------------------------------------------------- */

/* Strict enough for what we write: one value, then nothing but blanks. */
static const char *json_value(const char *p);

static const char *json_string(const char *p)
{
    for (p++; *p != '"'; p++) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            return NULL;
        if (*p != '\\')
            continue;
        p++;
        if (*p == 'u') {
            if (strspn(p + 1, "0123456789abcdef") < 4)
                return NULL;
            p += 4;
        } else if (strchr("\"\\/bfnrt", *p) == NULL) {
            return NULL;
        }
    }
    return p + 1;
}

static const char *json_object(const char *p)
{
    p++;
    if (*p == '}')
        return p + 1;
    for (;; p++) {
        if (*p != '"' || (p = json_string(p)) == NULL || *p != ':' ||
            (p = json_value(p + 1)) == NULL)
            return NULL;
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return NULL;
    }
}

static const char *json_value(const char *p)
{
    if (*p == '{')
        return json_object(p);
    if (*p == '"')
        return json_string(p);
    if (strncmp(p, "true", 4) == 0)
        return p + 4;
    if (strncmp(p, "false", 5) == 0)
        return p + 5;
    size_t n = strspn(p, "0123456789");
    return n > 0 && (n == 1 || *p != '0') ? p + n : NULL;
}

static unsigned rows_of(struct world *w, enum command_kind what)
{
    unsigned rows = 0;
    w->page_cursor = 0;
    do {
        world_command(w, (uint8_t)what, "");
        assert_int_equal(w->page_error, 0);
        for (const char *p = w->page; *p != '\0'; p++, rows++) {
            const char *end = json_value(p);
            if (end == NULL || *end != '\n')
                fail_msg("no JSON: %.300s", p);
            p = end;
        }
    } while (w->page_cursor != 0);
    return rows;
}

static void what_is_shown_is_json(void **state)
{
    (void)state;
    struct world *w = world_new();
    (void)world_accept(w, 1, "alice");
    for (unsigned i = 0; i < 3; i++) {
        char text[8192], ugly[400];
        for (size_t k = 0; k < sizeof ugly - 1; k++)
            ugly[k] = k % 2 == 0 ? '\\' : '"'; /* a word may be this: RFC 3261 25.1 */
        ugly[sizeof ugly - 1] = '\0';
        snprintf(text, sizeof text,
                 "X-ODD sip:%%00;x=%.*s@example.com SIP/2.0\n"
                 "Via: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK-%u\n"
                 "From: <sip:a@x>;tag=1\nTo: <sip:x@y>\nCall-ID: %s%u\n"
                 "CSeq: 1 X-ODD\n\n",
                 200, "a", i, ugly, i);
        world_udp(w, 0, "alice", text);
    }
    assert_int_equal(engine_counters(w->engine)->transactions, 3);
    world_invite(w, "alice", "9");
    world_answer(w, "a", "INVITE", 180, NULL);
    assert_int_equal(rows_of(w, CMD_SHOW_POOLS), 3);
    assert_int_equal(rows_of(w, CMD_SHOW_TRANSACTIONS), 4);
    assert_int_equal(rows_of(w, CMD_SHOW_FLOWS), 1);
    assert_int_equal(rows_of(w, CMD_SHOW_COUNTERS), 1);
    drained(w);
}

static void pages_of_pools(void **state)
{
    (void)state;
    enum { MANY = 200 };
    static struct pool_target_opts targets[MANY];
    static char uris[MANY][40];
    struct world *w = world_plan();
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(uris[i], sizeof uris[i], "udp://10.1.2.%u:5070", i);
        targets[i] = w->target[0];
        targets[i].uri = slice_cstr(uris[i]);
        targets[i].addr.ip[2] = 2;
        targets[i].addr.ip[3] = (uint8_t)i;
    }
    static struct pool_opts pools[2];
    pools[0] = pools[1] = w->pool;
    pools[0].targets = targets;
    pools[0].target_count = MANY;
    pools[1].name = SLICE("other");
    w->opts.edge.pools = pools;
    w->opts.edge.pool_count = 2;
    w->opts.limits.targets = 256;
    world_start(w);
    assert_int_equal(rows_of(w, CMD_SHOW_POOLS), MANY + 3);
    world_free(w);
}

/* More rows than a page holds: every one is shown, once. */
static void pages_of_transactions(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.limits.transactions = 2000;
    w->opts.limits.blocks[0] = w->opts.limits.blocks[1] = 3000;
    world_start(w);
    for (unsigned i = 0; i < 1500; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "m%u", i);
        world_send(w, "alice", "MESSAGE", branch, NULL);
        world_forget(w);
    }
    assert_int_equal(rows_of(w, CMD_SHOW_TRANSACTIONS), 1500);
    world_free(w);
}

static void targets_by_command(void **state)
{
    (void)state;
    static const struct {
        const char *argument;
        bool fine;
    } rows[] = {
        {"border udp://10.1.0.1:5070 drain", true},
        {"border * ready", true},
        {"border udp://10.1.0.1:5070 maint", true},
        {"border * up", false},
        {"nobody * ready", false},
        {"border udp://10.9.9.9:1 maint", false},
        {"", false},
        {"border", false},
    };
    struct world *w = world_new();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        world_command(w, CMD_TARGET, rows[i].argument);
        if ((w->page_error == 0) != rows[i].fine)
            fail_msg("\"%s\": %d", rows[i].argument, w->page_error);
        if (!rows[i].fine)
            assert_true(w->page_n > 0);
    }
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 b INVITE");
    drained(w);
}

static void draining(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 180, NULL);
    world_command(w, CMD_DRAIN, "");
    world_forget(w);
    world_invite(w, "bob", "2");
    EXPECT(w, "0 udp0 bob 503 INVITE");
    assert_true(world_has(world_last(w, "bob"), "Retry-After:"));
    char *text = world_request("OPTIONS", "sip:192.0.2.1", "carol", "3", NULL);
    world_udp(w, 0, "carol", text);
    free(text);
    EXPECT(w, "0 udp0 carol 503 OPTIONS");
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    text = world_in_dialog(w, "alice", "a", true, "BYE", "4");
    world_udp(w, 0, "alice", text);
    free(text);
    EXPECT(w, "0 udp2 a BYE");
    drained(w);
}

/* ---- to us, and of us ------------------------------------------------------------------------ */

static void options_to_us(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *line;
    } rows[] = {
        {"sip:192.0.2.1", "0 udp0 alice 200 OPTIONS"},
        {"sip:192.0.2.1:5060", "0 udp0 alice 200 OPTIONS"},
        {"sip:10.0.0.1", "0 udp0 alice 200 OPTIONS"},
        {"sip:bob@192.0.2.1", "0 udp2 a OPTIONS"},
        {"sip:192.0.2.1:5062", "0 udp2 a OPTIONS"},
        {"sip:example.com", "0 udp2 a OPTIONS"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_new();
        char *text = world_request("OPTIONS", rows[i].uri, "alice", "1", NULL);
        world_udp(w, 0, "alice", text);
        free(text);
        EXPECT(w, rows[i].line);
        drained(w);
    }
}

static void probes(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.health.on = true;
    w->pool.target_count = 1;
    w->pool.outlier.panic_percent = 0;
    w->show_notices = true;
    world_start(w);
    for (unsigned i = 0; i < 30 && w->line_count == 0; i++)
        world_run(w, 100);
    assert_true(w->line_count == 1 && world_has(w->line[0], "udp2 a OPTIONS"));
    const char *m = world_last(w, "a");
    assert_true(world_has(m, "OPTIONS sip:10.1.0.1:5070 SIP/2.0\r\n"));
    world_answer(w, "a", "OPTIONS", 404, NULL); /* any answer shows life */
    assert_int_equal(engine_counters(w->engine)->probes_failed, 0);
    world_forget(w);
    world_run(w, 20000);
    bool down = false;
    for (unsigned i = 0; i < w->line_count; i++)
        down |= world_has(w->line[i], "notice 1");
    assert_true(down);
    world_invite(w, "alice", "1");
    assert_true(world_has(w->line[w->line_count - 1], "alice 500 INVITE"));
    assert_string_equal(w->end, "PQ");
    w->pool.health.on = false;
    world_adopt(w, 0);
    world_forget(w);
    drained(w);
}

static void probes_over_tcp(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.health.on = true;
    w->pool.target_count = 1;
    w->target[0].transport = TP_TCP;
    w->connects_fail = true;
    world_start(w);
    world_run(w, 10000);
    assert_true(engine_counters(w->engine)->probes >= 3);
    assert_int_equal(engine_counters(w->engine)->probes, engine_counters(w->engine)->probes_failed);
    assert_int_equal(engine_load(w->engine).flows, 0);
    world_free(w);
}

/* ---- streams --------------------------------------------------------------------------------- */

static void ping_and_framing_faults(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id f = world_accept(w, 1, "alice");
    struct event ev = {.kind = EV_PING,
                       .listener = 1,
                       .transport = TP_TCP,
                       .flow = f,
                       .source = world_peer("alice")};
    world_step(w, &ev);
    EXPECT(w, "0 tcp alice pong");
    ev.kind = EV_FRAME_FAULT;
    ev.error = SIP_E_LENGTH;
    ev.bytes = SLICE("INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\n"
                     "From: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
                     "Content-Length: x\r\n\r\n");
    world_step(w, &ev);
    EXPECT(w, "0 tcp alice 400 INVITE", "0 close alice");
    ev.error = SIP_E_START_LINE;
    ev.bytes = SLICE("GET / HTTP/1.1\r\n");
    world_step(w, &ev);
    EXPECT(w, "0 close alice");
    ev.error = SIP_E_TOO_LONG;
    ev.bytes = SLICE("INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\n"
                     "From: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
                     "Content-Length: 0\r\n\r\n");
    world_step(w, &ev);
    EXPECT(w, "0 tcp alice 513 INVITE", "0 close alice");
    assert_int_equal(engine_counters(w->engine)->frames_bad, 3);
    /* A message whose end is unknown is the last one of its stream. */
    world_tcp(w, f,
              "OPTIONS sip:x@y SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\nFrom: <sip:a@b>;tag=1\n"
              "To: <sip:x@y>\nCall-ID: c\nCSeq: 1 OPTIONS\nContent-Length: 9999\n\n");
    EXPECT(w, "0 tcp alice 400 OPTIONS", "0 close alice");
    drained(w);
}

static void unreadable_messages(void **state)
{
    (void)state;
    static const char head[] = "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-1\n"
                               "From: <sip:a@b>;tag=1\nTo: <sip:x@y>\n";
    static const struct {
        const char *start, *rest, *line;
    } rows[] = {
        {"INVITE sip:x@y SIP/2.0\n", "CSeq: 1 INVITE\n", "0 udp0 alice 400 INVITE"},
        {"INVITE sip:x@y SIP/7.0\n", "Call-ID: c\nCSeq: 1 INVITE\n", "0 udp0 alice 505 INVITE"},
        {"INVITE odd:x@y SIP/2.0\n", "Call-ID: c\nCSeq: 1 INVITE\n", "0 udp0 alice 416 INVITE"},
        {"INVITE sip:x@y SIP/2.0\n", "Call-ID: c\nCSeq: 1 INVITE\nProxy-Require: foo, bar\n",
         "0 udp0 alice 420 INVITE"},
        {"INVITE sip:x@y SIP/2.0\n", "Call-ID: c\nCSeq: 1 BYE\n", "0 udp0 alice 400 BYE"},
        {"ACK sip:x@y SIP/2.0\n", "CSeq: 1 ACK\n", NULL},
        {"SIP/2.0 200 OK\n", "CSeq: 1 INVITE\n", NULL},
        {"SIP/2.0 200 OK\n", "Call-ID: c\nCSeq: 1 INVITE\n", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_new();
        char text[2048];
        snprintf(text, sizeof text, "%s%s%s\n", rows[i].start, head, rows[i].rest);
        world_udp(w, 0, "alice", text);
        if (rows[i].line != NULL)
            EXPECT(w, rows[i].line);
        else
            EXPECT_NOTHING(w);
        if (i == 3)
            assert_string_equal(world_header(world_last(w, "alice"), "Unsupported", 0), "foo, bar");
        drained(w);
    }
    /* A folded list is cut somewhere, but what leaves can be read. */
    for (unsigned n = 880; n < 910; n++) {
        struct world *w = world_new();
        char text[4096];
        snprintf(
            text, sizeof text,
            "INVITE sip:x@y SIP/2.0\n%sCall-ID: c\nCSeq: 1 INVITE\nProxy-Require: %0*d,\n b\n\n",
            head, (int)n, 7);
        world_udp(w, 0, "alice", text);
        EXPECT(w, "0 udp0 alice 420 INVITE");
        drained(w);
    }
}

/* A listed trusted network is inside, wherever it comes in; the header is never asked. */
static void sides(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *text = world_request("INVITE", "sip:bob@198.51.100.2", "proxy", "1", NULL);
    world_udp(w, 0, "proxy", text);
    EXPECT(w, "0 udp0 proxy 100 INVITE", "0 udp0 bob INVITE");
    assert_int_equal(world_record(w)->side_in, 0); /* no record yet */
    free(text);
    drained(w);
}

/* Everything that this engine does follows from its inputs. */
static void same_inputs_same_outputs(void **state)
{
    (void)state;
    char *said[2];
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = world_new();
        world_invite(w, "alice", "1");
        world_run(w, 2500);
        world_answer(w, "b", "INVITE", 180, NULL);
        said[i] = strdup(world_last(w, "alice"));
        world_run(w, 1000);
        world_free(w);
    }
    assert_string_equal(said[0], said[1]);
    free(said[0]);
    free(said[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(response_on_the_wrong_worker),
        cmocka_unit_test(cancel_on_the_wrong_worker),
        cmocka_unit_test(cancel_goes_round_once),
        cmocka_unit_test(bytes_for_a_connection_of_another_worker),
        cmocka_unit_test(bytes_for_a_connection_that_is_gone_there),
        cmocka_unit_test(connection_of_a_worker_that_is_not_there),
        cmocka_unit_test(connection_breaks_under_a_request),
        cmocka_unit_test(unreachable_on_the_wrong_worker),
        cmocka_unit_test(broken_hand_over),
        cmocka_unit_test(response_of_another_life),
        cmocka_unit_test(guessed_branches_match_nothing),
        cmocka_unit_test(reload_in_the_middle_of_a_call),
        cmocka_unit_test(reload_that_takes_the_pool),
        cmocka_unit_test(reload_that_moves_the_pool),
        cmocka_unit_test(reload_that_takes_a_listener),
        cmocka_unit_test(reload_forgets_no_try),
        cmocka_unit_test(reload_that_does_not_fit),
        cmocka_unit_test(what_is_shown_is_json),
        cmocka_unit_test(pages_of_pools),
        cmocka_unit_test(pages_of_transactions),
        cmocka_unit_test(targets_by_command),
        cmocka_unit_test(draining),
        cmocka_unit_test(options_to_us),
        cmocka_unit_test(probes),
        cmocka_unit_test(probes_over_tcp),
        cmocka_unit_test(ping_and_framing_faults),
        cmocka_unit_test(unreadable_messages),
        cmocka_unit_test(sides),
        cmocka_unit_test(same_inputs_same_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
