/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole calls through one edge, as event logs: set-up, dialogs by token, ACK, retransmissions.
 * covers: ack.c, answer.c, edge.c, emit.c, request.c, response.c */
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
    world_drain(w, 300000);
    world_free(w);
}

/* INVITE, 100, 180, 200: the caller is outside, so both sides get a Record-Route (RFC 5658). */
static void call_up(struct world *w)
{
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 100, NULL);
    world_answer(w, "a", "INVITE", 180, NULL);
    world_answer(w, "a", "INVITE", 200, NULL);
}

static void in_dialog(struct world *w, const char *caller, const char *callee, bool by_caller,
                      const char *method, const char *branch)
{
    char *text = world_in_dialog(w, caller, callee, by_caller, method, branch);
    const char *self = by_caller ? caller : callee;
    world_udp(w, self[0] == 'a' && self[1] == '\0' ? 2 : 0, self, text);
    free(text);
}

static void simple_call(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->show_log = true;
    call_up(w);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE", "0 udp0 alice 180 INVITE",
           "0 log INVITE 200 -D 1", "0 udp0 alice 200 INVITE");
    in_dialog(w, "alice", "a", true, "ACK", "2");
    EXPECT(w, "0 udp2 a ACK");
    in_dialog(w, "alice", "a", true, "BYE", "3");
    EXPECT(w, "0 udp2 a BYE");
    world_answer(w, "a", "BYE", 200, NULL);
    EXPECT(w, "0 log BYE 200 -D 1", "0 udp0 alice 200 BYE");
    drained(w);
}

static void request_as_forwarded(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_send(w, "alice", "INVITE", "1", "X-Odd:  kept  as it is\n");
    const char *m = world_last_request(w, "a", "INVITE");
    assert_non_null(m);
    assert_true(world_has(m, "INVITE sip:service@example.com SIP/2.0\r\n"));
    assert_true(world_has(world_header(m, "Via", 0), "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK"));
    assert_string_equal(world_header(m, "Via", 1),
                        "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-1;rport=5060;"
                        "received=198.51.100.1");
    assert_string_equal(world_header(m, "Via", 2), "");
    assert_string_equal(world_header(m, "Max-Forwards", 0), "69");
    assert_true(world_has(m, "X-Odd:  kept  as it is\r\n"));
    assert_true(world_has(world_header(m, "Record-Route", 0), "@10.0.0.1:5060;lr>"));
    assert_true(world_has(world_header(m, "Record-Route", 1), "@192.0.2.1:5060;lr>"));
    assert_string_equal(world_header(m, "Record-Route", 2), "");
    assert_string_equal(world_header(m, "Route", 0), "");
    drained(w);
}

/* A datagram needs no Content-Length; a stream does, or its body is the next message there. */
static void length_is_added(void **state)
{
    (void)state;
    static const char invite[] = "RAW:INVITE sip:service@example.com SIP/2.0\r\n"
                                 "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-1;rport\r\n"
                                 "From: <sip:alice@example.com>;tag=a\r\n"
                                 "To: <sip:service@example.com>\r\n"
                                 "Call-ID: 1\r\n"
                                 "CSeq: 1 INVITE\r\n\r\n"
                                 "BYE sip:x SIP/2.0\r\n";
    struct world *w = world_plan();
    w->target[0].transport = TP_TCP;
    world_start(w);
    world_udp(w, 0, "alice", invite);
    const char *m = world_last_request(w, "a", "INVITE");
    assert_non_null(m);
    assert_string_equal(world_header(m, "Content-Length", 0), "19");
    char *text = world_response(w, "a", "INVITE", 200, "a", NULL);
    world_tcp(w, world_flow_to(w, "a"), text);
    free(text);
    drained(w);
}

/* One listener for both ends: one Record-Route. */
static void single_record_route(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.edge.listener[2].used = false;
    w->opts.edge.listener[3].used = false;
    world_start(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp0 a INVITE");
    const char *m = world_last_request(w, "a", "INVITE");
    assert_true(world_has(world_header(m, "Record-Route", 0), "@192.0.2.1:5060;lr>"));
    assert_string_equal(world_header(m, "Record-Route", 1), "");
    drained(w);
}

static void record_route_only_where_dialogs_begin(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        bool expected;
    } rows[] = {{"INVITE", true},   {"SUBSCRIBE", true}, {"REFER", true},    {"NOTIFY", true},
                {"OPTIONS", false}, {"MESSAGE", false},  {"PUBLISH", false}, {"X-NEW", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_new();
        world_send(w, "alice", rows[i].method, "1", NULL);
        const char *m = world_last(w, "a");
        assert_non_null(m);
        if (world_has(m, "Record-Route:") != rows[i].expected)
            fail_msg("%s: Record-Route", rows[i].method);
        drained(w);
    }
}

static void bye_by_callee_over_udp(void **state)
{
    (void)state;
    struct world *w = world_new();
    call_up(w);
    in_dialog(w, "alice", "a", true, "ACK", "2");
    world_forget(w);
    in_dialog(w, "alice", "a", false, "BYE", "9");
    EXPECT(w, "0 udp0 alice BYE");
    const char *m = world_last(w, "alice");
    assert_string_equal(world_header(m, "Route", 0), "");
    assert_true(world_has(world_header(m, "Via", 0), "192.0.2.1:5060"));
    world_answer(w, "alice", "BYE", 200, NULL);
    EXPECT(w, "0 udp2 a 200 BYE");
    drained(w);
}

/* The caller's own connection, although its Contact says otherwise; none other when it is gone. */
static void bye_by_callee_over_tcp(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id alice = world_accept(w, 1, "198.51.100.1:40001");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    free(text);
    EXPECT(w, "0 tcp 198.51.100.1:40001 100 INVITE", "0 udp2 a INVITE");
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "0 tcp 198.51.100.1:40001 200 INVITE");
    text = world_in_dialog(w, "198.51.100.1:40001", "a", false, "BYE", "9");
    world_udp(w, 2, "a", text);
    EXPECT(w, "0 tcp 198.51.100.1:40001 BYE");
    world_close(w, alice, 0);
    world_forget(w);
    struct flow_id other = world_accept(w, 1, "198.51.100.1:40001");
    (void)other;
    char *second = strstr(text, "z9hG4bK-9");
    second[8] = '8';
    world_udp(w, 2, "a", text);
    EXPECT(w, "1 udp2 a 430 BYE");
    free(text);
    drained(w);
}

static void ack_goes_by_route_and_repeats_alike(void **state)
{
    (void)state;
    struct world *w = world_new();
    call_up(w);
    world_forget(w);
    char *ack = world_in_dialog(w, "alice", "a", true, "ACK", "2");
    world_udp(w, 0, "alice", ack);
    char *first = strdup(world_last(w, "a"));
    world_udp(w, 0, "alice", ack);
    EXPECT(w, "0 udp2 a ACK", "0 udp2 a ACK");
    assert_string_equal(first, world_last(w, "a")); /* RFC 3261 16.11: the same branch */
    assert_string_equal(world_header(first, "Route", 0), "");
    free(first);
    free(ack);
    assert_int_equal(engine_counters(w->engine)->acks_forwarded, 2);
    drained(w);
}

static void stray_ack_is_dropped(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_send(w, "alice", "ACK", "1", NULL);
    EXPECT_NOTHING(w);
    assert_int_equal(engine_counters(w->engine)->acks_unmatched, 1);
    assert_int_equal(w->records, 0);
    world_send(w, "mallory", "ACK", "1", "Route: <sip:10.0.0.1;lr>, <sip:10.1.0.1:5070;lr>\n");
    EXPECT_NOTHING(w);
    drained(w);
}

static void failure_is_acked_here_and_there(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_answer(w, "a", "INVITE", 486, NULL);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE", "0 udp2 a ACK",
           "0 udp0 alice 486 INVITE");
    const char *invite = world_last_request(w, "a", "INVITE");
    const char *ack = world_last_request(w, "a", "ACK");
    assert_string_equal(world_header(ack, "Via", 0), world_header(invite, "Via", 0));
    assert_string_equal(world_header(ack, "Via", 1), "");
    assert_string_equal(world_header(ack, "To", 0), "<sip:service@example.com>;tag=a");
    assert_string_equal(world_header(ack, "CSeq", 0), "1 ACK");
    assert_true(world_has(ack, "ACK sip:service@example.com SIP/2.0\r\n"));
    /* The target repeats: our ACK was lost. The caller does not see it. */
    char *busy = world_response(w, "a", "INVITE", 486, "a", NULL);
    world_udp(w, 2, "a", busy);
    EXPECT(w, "0 udp2 a ACK");
    /* The caller's ACK ends our repeats; a repeat of it costs nothing. */
    world_run(w, 500);
    EXPECT(w, "500 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    world_ack(w, "alice", "1");
    world_run(w, 4000);
    EXPECT_NOTHING(w);
    /* Even after the caller's transaction has gone, the target may repeat (Timer D). */
    world_run(w, 10000);
    world_udp(w, 2, "a", busy);
    EXPECT(w, "14500 udp2 a ACK");
    free(busy);
    drained(w);
}

static void invite_is_repeated_on_schedule(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.target_count = 1;
    w->pool.failover.within = 60 * NS_S;
    world_start(w);
    world_invite(w, "alice", "1");
    world_run(w, 40000);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE", "500 udp2 a INVITE",
           "1500 udp2 a INVITE", "3500 udp2 a INVITE", "7500 udp2 a INVITE", "15500 udp2 a INVITE",
           "31500 udp2 a INVITE", "32000 udp0 alice 500 INVITE", "32500 udp0 alice 500 INVITE",
           "33500 udp0 alice 500 INVITE", "35500 udp0 alice 500 INVITE",
           "39500 udp0 alice 500 INVITE");
    drained(w);
}

static void repeats_of_the_invite(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE");
    world_answer(w, "a", "INVITE", 180, NULL);
    world_forget(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 180 INVITE");
    world_answer(w, "a", "INVITE", 200, NULL);
    world_forget(w);
    world_invite(w, "alice", "1"); /* RFC 6026: absorbed, the target repeats its 2xx */
    EXPECT_NOTHING(w);
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    assert_int_equal(engine_counters(w->engine)->requests_repeated, 3);
    drained(w);
}

static void repeats_of_another_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "0 udp2 a MESSAGE");
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT_NOTHING(w);
    world_run(w, 1600);
    EXPECT(w, "500 udp2 a MESSAGE", "1500 udp2 a MESSAGE");
    world_answer(w, "a", NULL, 202, NULL);
    EXPECT(w, "1600 udp0 alice 202 MESSAGE");
    world_answer(w, "a", NULL, 202, NULL);
    EXPECT_NOTHING(w);
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "1600 udp0 alice 202 MESSAGE");
    /* More often than any client repeats: somebody aims our answers at alice. */
    for (unsigned i = 0; i < 100; i++)
        world_send(w, "alice", "MESSAGE", "1", NULL);
    assert_true(w->line_count > 10 && w->line_count < 20);
    world_forget(w);
    drained(w);
}

static void forked_2xx(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    char *one = world_response(w, "a", "INVITE", 200, "fork1", NULL);
    char *two = world_response(w, "a", "INVITE", 200, "fork2", NULL);
    world_udp(w, 2, "a", one);
    world_udp(w, 2, "a", two);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE", "0 udp0 alice 200 INVITE",
           "0 udp0 alice 200 INVITE");
    assert_true(world_has(world_last(w, "alice"), "fork2"));
    world_run(w, 31000);
    world_udp(w, 2, "a", two);
    EXPECT(w, "31000 udp0 alice 200 INVITE");
    world_run(w, 2000);
    world_udp(w, 2, "a", two);
    EXPECT_NOTHING(w);
    assert_int_equal(engine_counters(w->engine)->responses_stray, 1);
    free(one);
    free(two);
    drained(w);
}

/* A stream's transaction ends with its answer (Timers J, K of 0): nothing may be left. */
static void over_tcp_on_both_sides(void **state)
{
    (void)state;
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    world_start(w);
    struct flow_id alice = world_accept(w, 1, "alice");
    char *text = world_request("MESSAGE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    EXPECT(w, "0 connect a", "0 tcp a MESSAGE");
    world_answer(w, "a", NULL, 200, NULL);
    EXPECT(w, "0 tcp alice 200 MESSAGE");
    world_run(w, 10);
    struct engine_load l = engine_load(w->engine);
    assert_int_equal(l.relays + l.tries + l.blocks, 0);
    assert_int_equal(l.flows, 2);
    free(text);
    text = world_request("INVITE", "sip:service@example.com", "alice", "2", NULL);
    world_tcp(w, alice, text);
    free(text);
    EXPECT(w, "10 tcp alice 100 INVITE", "10 connect b", "10 tcp b INVITE");
    world_answer(w, "b", NULL, 486, NULL);
    EXPECT(w, "10 tcp b ACK", "10 tcp alice 486 INVITE");
    assert_int_equal(engine_load(w->engine).blocks, 0); /* nothing can be asked for again */
    world_run(w, 20000);
    EXPECT_NOTHING(w);
    drained(w);
}

/* A target over UDP may repeat its failure long after a caller over TCP is done with it. */
static void udp_failure_is_acked_after_tcp_caller_left(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id alice = world_accept(w, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    free(text);
    char *busy = world_response(w, "a", "INVITE", 486, "a", NULL);
    world_udp(w, 2, "a", busy);
    world_forget(w);
    text = world_request("ACK", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    free(text);
    world_close(w, alice, 0);
    world_run(w, 10000);
    EXPECT_NOTHING(w);
    world_udp(w, 2, "a", busy);
    EXPECT(w, "10001 udp2 a ACK");
    free(busy);
    drained(w);
}

static void over_ipv6(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->target[0].addr = world_peer("a6");
    w->pool.target_count = 1;
    world_start(w);
    char *text = world_request("INVITE", "sip:service@example.com", "alice6", "1", NULL);
    world_udp(w, 4, "alice6", text);
    free(text);
    EXPECT(w, "0 udp4 alice6 100 INVITE", "0 udp5 a6 INVITE");
    const char *m = world_last(w, "a6");
    assert_true(world_has(world_header(m, "Via", 0), "SIP/2.0/UDP [fd00::1]:5060;branch="));
    assert_true(world_has(world_header(m, "Record-Route", 1), "@[2001:db8::1]:5060;lr>"));
    world_answer(w, "a6", NULL, 200, NULL);
    EXPECT(w, "0 udp4 alice6 200 INVITE");
    text = world_in_dialog(w, "alice6", "a6", false, "BYE", "9");
    world_udp(w, 5, "a6", text);
    free(text);
    EXPECT(w, "0 udp4 alice6 BYE");
    drained(w);
}

static void rport_is_obeyed_for_everybody(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *text = world_request("MESSAGE", "sip:service@example.com", "alice", "1", NULL);
    memcpy(strstr(text, ";rport"), "      ", 6);
    world_udp(w, 0, "203.0.113.5:1234", text);
    free(text);
    world_answer(w, "a", NULL, 200, NULL);
    EXPECT(w, "0 udp2 a MESSAGE", "0 udp0 203.0.113.5:1234 200 MESSAGE");
    drained(w);
}

static void nothing_is_sent_to_forged_sources(void **state)
{
    (void)state;
    struct world *w = world_new();
    static const char *const from[] = {"255.255.255.255:5060", "0.0.0.0:5060", "224.0.0.1:5060",
                                       "198.51.100.1:0", "[ff02::1]:5060"};
    for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) {
        char *text = world_request("OPTIONS", "sip:192.0.2.1", "alice", "1", NULL);
        world_udp(w, 0, from[i], text);
        free(text);
    }
    EXPECT_NOTHING(w);
    drained(w);
}

/* Everything that lasts for 32 s after an answer: at most 1 KiB with what it keeps. */
static void lingering_is_small(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.edge.log_transactions = false;
    world_start(w);
    static const int status[] = {200, 486};
    for (size_t i = 0; i < 2; i++) {
        world_send(w, "alice", "MESSAGE", i == 0 ? "1" : "2", NULL);
        world_answer(w, i == 0 ? "a" : "b", NULL, status[i], NULL);
        struct engine_load l = engine_load(w->engine);
        assert_int_equal(l.relays, i + 1);
        assert_int_equal(l.tries, i + 1);
        assert_int_equal(l.blocks, i + 1); /* the response */
    }
    world_invite(w, "alice", "3");
    world_answer(w, "c", NULL, 200, NULL);
    assert_int_equal(engine_load(w->engine).blocks, 2); /* a 2xx is repeated by its target */
    drained(w);
}

/* The kept request goes with the answer, also when the answer is ours. */
static void an_answer_of_our_own_keeps_no_request(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.edge.log_transactions = false;
    world_start(w);
    world_command(w, CMD_TARGET, "border * maint");
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "0 udp0 alice 500 MESSAGE");
    assert_int_equal(engine_load(w->engine).blocks, 1);
    world_command(w, CMD_TARGET, "border * ready");
    world_invite(w, "alice", "2");
    world_unreachable(w, "a");
    world_unreachable(w, "b");
    world_unreachable(w, "c");
    world_run(w, 10);
    assert_int_equal(engine_load(w->engine).blocks, 2);
    drained(w);
}

/* ---- a 100 that waits (RFC 3261 17.2.1)
 * ---------------------------------------------------------- */

static struct world *with_delay(void)
{
    struct world *w = world_plan();
    w->opts.edge.trying_delay = 100 * NS_MS;
    world_start(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp2 a INVITE");
    return w;
}

static void a_100_waits_for_something_better(void **state)
{
    (void)state;
    struct world *w = with_delay();
    world_run(w, 99);
    world_answer(w, "a", NULL, 180, NULL);
    EXPECT(w, "99 udp0 alice 180 INVITE");
    world_run(w, 300);
    EXPECT_NOTHING(w);
    drained(w);
}

static void a_100_goes_in_time(void **state)
{
    (void)state;
    struct world *w = with_delay();
    world_run(w, 300);
    EXPECT(w, "100 udp0 alice 100 INVITE");
    const char *m = world_last(w, "alice");
    assert_string_equal(world_header(m, "To", 0), "<sip:service@example.com>");
    assert_true(world_has(world_header(m, "Via", 0), "rport=5060"));
    assert_string_equal(world_header(m, "Via", 1), "");
    assert_string_equal(world_header(m, "Record-Route", 0), "");
    world_run(w, 400);
    EXPECT(w, "500 udp2 a INVITE");
    drained(w);
}

/* A repeat of the INVITE asks for it, the target's own 100 calls it. */
static void a_100_goes_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = with_delay();
        world_run(w, 10);
        if (i == 0)
            world_invite(w, "alice", "1");
        else
            world_answer(w, "a", NULL, 100, NULL);
        EXPECT(w, "10 udp0 alice 100 INVITE");
        assert_string_equal(world_header(world_last(w, "alice"), "Via", 1), "");
        world_run(w, 300);
        EXPECT_NOTHING(w);
        drained(w);
    }
}

static void a_100_waits_while_it_fails_over(void **state)
{
    (void)state;
    struct world *w = with_delay();
    world_answer(w, "a", NULL, 503, NULL);
    EXPECT(w, "0 udp2 a ACK", "0 udp2 b INVITE");
    world_unreachable(w, "b");
    EXPECT(w, "0 udp2 c INVITE");
    world_run(w, 200);
    EXPECT(w, "100 udp0 alice 100 INVITE");
    assert_string_equal(world_header(world_last(w, "alice"), "Via", 1), "");
    world_cancel(w, "alice", "1");
    world_answer(w, "c", NULL, 487, NULL);
    EXPECT(w, "201 udp0 alice 200 CANCEL", "201 udp2 c ACK", "201 udp0 alice 487 INVITE");
    drained(w);
}

static void no_100_after_the_end(void **state)
{
    (void)state;
    struct world *w = with_delay();
    world_cancel(w, "alice", "1");
    world_answer(w, "a", NULL, 486, NULL);
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp2 a ACK", "0 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    world_run(w, 1000);
    EXPECT_NOTHING(w);
    drained(w);
    w = world_plan();
    w->opts.edge.trying_delay = 100 * NS_MS;
    world_start(w);
    struct flow_id f = world_accept(w, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, f, text);
    free(text);
    world_close(w, f, 0);
    world_forget(w);
    world_run(w, 1000);
    EXPECT_NOTHING(w);
    drained(w);
}

/* ---- clients that ignore Record-Route -------------------------------------------------------- */

static void ack_without_route_follows_its_invite(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    char *late = world_response(w, "a", "INVITE", 200, "a", NULL);
    world_run(w, 2000); /* b is asked, but a answers */
    world_udp(w, 2, "a", late);
    free(late);
    world_forget(w);
    char *ack = world_request("ACK", "sip:service@example.com", "alice", "1", NULL);
    memcpy(strstr(ack, "z9hG4bK-1"), "z9hG4bK-2", 9);
    world_udp(w, 0, "alice", ack);
    free(ack);
    EXPECT(w, "2000 udp2 a ACK");
    assert_string_equal(world_header(world_last(w, "a"), "Max-Forwards", 0), "69");
    world_ack(w, "alice", "1"); /* under the INVITE's branch, as before RFC 3261 */
    EXPECT(w, "2000 udp2 a ACK");
    /* Not for anybody else, and not for ever. */
    char *text = world_request("ACK", "sip:service@example.com", "mallory", "2", NULL);
    world_udp(w, 0, "mallory", text);
    free(text);
    EXPECT_NOTHING(w);
    world_run(w, 33000);
    world_forget(w);
    world_ack(w, "alice", "1");
    EXPECT_NOTHING(w);
    drained(w);
}

/* ---- callers that leave ---------------------------------------------------------------------- */

static void caller_leaves_while_it_rings(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id f = world_accept(w, 1, "alice");
    for (unsigned i = 0; i < 3; i++) {
        char branch[8];
        snprintf(branch, sizeof branch, "%u", i);
        char *text = world_request("INVITE", "sip:service@example.com", "alice", branch, NULL);
        world_tcp(w, f, text);
        free(text);
    }
    world_answer(w, "a", NULL, 180, NULL);
    world_answer(w, "b", NULL, 486, NULL); /* one of the three is over already */
    world_forget(w);
    world_close(w, f, 104);
    EXPECT(w, "0 udp2 a CANCEL");
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "1 udp2 a ACK");
    world_answer(w, "c", "INVITE", 180, NULL);
    EXPECT(w, "1 udp2 c CANCEL");
    assert_int_equal(engine_load(w->engine).relays_open, 0);
    drained(w);
}

/* What was asked for goes on, as a BYE must; the answer finds nobody. */
static void caller_leaves_another_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id f = world_accept(w, 1, "alice");
    char *text = world_request("MESSAGE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, f, text);
    free(text);
    world_close(w, f, 0);
    world_forget(w);
    world_run(w, 2000);
    EXPECT(w, "500 udp2 a MESSAGE", "1500 udp2 a MESSAGE", "2000 udp2 b MESSAGE");
    world_answer(w, "b", NULL, 200, NULL);
    EXPECT_NOTHING(w);
    assert_int_equal(engine_counters(w->engine)->sends_failed, 1);
    drained(w);
}

/* ---- streams --------------------------------------------------------------------------------- */

static void whole_call_over_tcp(void **state)
{
    (void)state;
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    world_start(w);
    struct flow_id f = world_accept(w, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, f, text);
    free(text);
    world_answer(w, "a", NULL, 180, NULL);
    text = world_response(w, "a", "INVITE", 200, "a", NULL);
    memcpy(strstr(text, "Contact: <sip:a@10.1.0.1:5070>"), "Contact:<sip:10.1.0.1:5070;tp>", 30);
    char *tp = strstr(text, ";tp>");
    char *with = NULL;
    if (asprintf(&with, "%.*s;transport=tcp>%s", (int)(tp - text), text, tp + 4) < 0)
        fail_msg("no memory");
    world_reply(w, "a", with);
    free(text);
    free(with);
    EXPECT(w, "0 tcp alice 100 INVITE", "0 connect a", "0 tcp a INVITE", "0 tcp alice 180 INVITE",
           "0 tcp alice 200 INVITE");
    const char *m = world_last_request(w, "a", "INVITE");
    assert_true(world_has(world_header(m, "Record-Route", 0), "@10.0.0.1:5060;transport=tcp;lr>"));
    assert_true(world_has(world_header(m, "Record-Route", 1), "@192.0.2.1:5060;transport=tcp;lr>"));
    text = world_in_dialog(w, "alice", "a", true, "ACK", "2");
    world_tcp(w, f, text);
    free(text);
    EXPECT(w, "0 tcp a ACK"); /* on the connection that is there */
    text = world_in_dialog(w, "alice", "a", true, "BYE", "3");
    world_tcp(w, f, text);
    free(text);
    EXPECT(w, "0 tcp a BYE");
    world_answer(w, "a", NULL, 200, NULL);
    EXPECT(w, "0 tcp alice 200 BYE");
    drained(w);
}

/* We may connect from where we take no streams: what we record must still lead to us. */
static void tcp_target_without_a_tcp_listener(void **state)
{
    (void)state;
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    w->opts.edge.listener[1].used = false;
    w->opts.edge.listener[3].used = false;
    world_start(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE");
    const char *m = world_last(w, "a");
    assert_true(world_has(world_header(m, "Via", 0), "SIP/2.0/TCP 10.0.0.1:5060"));
    assert_true(world_has(world_header(m, "Record-Route", 0), "@10.0.0.1:5060;lr>"));
    drained(w);
}

/* A request that comes on a connection that we opened: inside, as its target is. */
static void request_on_a_connection_of_ours(void **state)
{
    (void)state;
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    world_start(w);
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 200, NULL);
    world_forget(w);
    char *text = world_request("INVITE", "sip:bob@198.51.100.2", "a", "9", NULL);
    world_tcp(w, world_flow_to(w, "a"), text);
    free(text);
    EXPECT(w, "0 tcp a 100 INVITE", "0 udp0 bob INVITE");
    world_answer(w, "bob", NULL, 200, NULL);
    EXPECT(w, "0 tcp a 200 INVITE");
    drained(w);
}

/* Without health checks there is nothing to judge a silent target by: its 100 is an answer. */
static void a_100_counts_without_health_checks(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 100, NULL);
    world_forget(w);
    world_run(w, 7000);
    for (unsigned i = 0; i < w->line_count; i++)
        fail_msg("%s", w->line[i]);
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "7000 udp0 alice 200 INVITE");
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simple_call),
        cmocka_unit_test(request_as_forwarded),
        cmocka_unit_test(length_is_added),
        cmocka_unit_test(single_record_route),
        cmocka_unit_test(record_route_only_where_dialogs_begin),
        cmocka_unit_test(bye_by_callee_over_udp),
        cmocka_unit_test(bye_by_callee_over_tcp),
        cmocka_unit_test(ack_goes_by_route_and_repeats_alike),
        cmocka_unit_test(stray_ack_is_dropped),
        cmocka_unit_test(failure_is_acked_here_and_there),
        cmocka_unit_test(invite_is_repeated_on_schedule),
        cmocka_unit_test(repeats_of_the_invite),
        cmocka_unit_test(repeats_of_another_request),
        cmocka_unit_test(forked_2xx),
        cmocka_unit_test(over_tcp_on_both_sides),
        cmocka_unit_test(udp_failure_is_acked_after_tcp_caller_left),
        cmocka_unit_test(over_ipv6),
        cmocka_unit_test(rport_is_obeyed_for_everybody),
        cmocka_unit_test(nothing_is_sent_to_forged_sources),
        cmocka_unit_test(a_100_waits_for_something_better),
        cmocka_unit_test(a_100_goes_in_time),
        cmocka_unit_test(a_100_goes_once),
        cmocka_unit_test(a_100_waits_while_it_fails_over),
        cmocka_unit_test(no_100_after_the_end),
        cmocka_unit_test(ack_without_route_follows_its_invite),
        cmocka_unit_test(caller_leaves_while_it_rings),
        cmocka_unit_test(caller_leaves_another_request),
        cmocka_unit_test(whole_call_over_tcp),
        cmocka_unit_test(tcp_target_without_a_tcp_listener),
        cmocka_unit_test(request_on_a_connection_of_ours),
        cmocka_unit_test(a_100_counts_without_health_checks),
        cmocka_unit_test(lingering_is_small),
        cmocka_unit_test(an_answer_of_our_own_keeps_no_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
