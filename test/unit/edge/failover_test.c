/* SPDX-License-Identifier: Apache-2.0
 *
 * What moves a request to another target, what does not, and what is said when none is left.
 * covers: forward.c, timer.c */
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

static struct world *with_invite(void)
{
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
    return w;
}

static void codes_that_move_on(void **state)
{
    (void)state;
    static const int codes[] = {408, 430, 503};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct world *w = with_invite();
        world_answer(w, "a", "INVITE", codes[i], NULL);
        EXPECT(w, "0 udp2 a ACK", "0 udp2 b INVITE");
        const char *m = world_last_request(w, "b", "INVITE");
        assert_string_equal(world_header(m, "Via", 2), "");
        assert_string_equal(world_header(m, "Record-Route", 2), "");
        assert_string_equal(world_header(m, "Max-Forwards", 0), "69");
        world_answer(w, "b", "INVITE", 200, NULL);
        EXPECT(w, "0 udp0 alice 200 INVITE");
        assert_int_equal(engine_counters(w->engine)->failovers, 1);
        drained(w);
    }
}

static void codes_that_do_not(void **state)
{
    (void)state;
    static const int codes[] = {300, 302, 400, 401, 404, 407, 480, 486, 488, 500, 504, 600, 604};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct world *w = with_invite();
        world_answer(w, "a", "INVITE", codes[i], NULL);
        char line[64];
        snprintf(line, sizeof line, "0 udp0 alice %d INVITE", codes[i]);
        EXPECT(w, "0 udp2 a ACK", line);
        world_ack(w, "alice", "1");
        drained(w);
    }
}

static void never_after_ringing(void **state)
{
    (void)state;
    static const int provisional[] = {180, 181, 183, 199};
    for (size_t i = 0; i < 4; i++) {
        struct world *w = with_invite();
        world_answer(w, "a", "INVITE", provisional[i], NULL);
        world_forget(w);
        world_answer(w, "a", "INVITE", 503, NULL);
        EXPECT(w, "0 udp2 a ACK", "0 udp0 alice 500 INVITE"); /* 503 is never passed on */
        assert_true(world_has(world_last(w, "alice"), "Reason: SIP;cause=503"));
        drained(w);
    }
}

static void ringing_outlasts_every_deadline(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    world_forget(w);
    world_run(w, 100000);
    EXPECT_NOTHING(w);
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "100000 udp0 alice 200 INVITE");
    drained(w);
}

static void no_answer_moves_on(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_run(w, 2600);
    EXPECT(w, "500 udp2 a INVITE", "1500 udp2 a INVITE", "2000 udp2 b INVITE",
           "2500 udp2 b INVITE");
    world_answer(w, "b", "INVITE", 180, NULL);
    EXPECT(w, "2600 udp0 alice 180 INVITE");
    drained(w);
}

/* The first target wakes up when the second is being asked: it must not ring as well. */
static void late_provisional_is_cancelled(void **state)
{
    (void)state;
    struct world *w = with_invite();
    char *ringing = world_response(w, "a", "INVITE", 180, "a", NULL);
    char *ended = world_response(w, "a", "INVITE", 487, "a", NULL);
    world_run(w, 2000);
    world_forget(w);
    world_udp(w, 2, "a", ringing);
    EXPECT(w, "2000 udp2 a CANCEL");
    const char *cancel = world_last_request(w, "a", "CANCEL");
    const char *invite = world_last_request(w, "a", "INVITE");
    assert_string_equal(world_header(cancel, "Via", 0), world_header(invite, "Via", 0));
    assert_string_equal(world_header(cancel, "CSeq", 0), "1 CANCEL");
    assert_string_equal(world_header(cancel, "To", 0), world_header(invite, "To", 0));
    world_udp(w, 2, "a", ringing);
    EXPECT_NOTHING(w); /* one CANCEL is enough */
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_udp(w, 2, "a", ended);
    EXPECT(w, "2000 udp2 a ACK");
    world_answer(w, "b", "INVITE", 200, NULL);
    EXPECT(w, "2000 udp0 alice 200 INVITE");
    free(ringing);
    free(ended);
    drained(w);
}

static void late_2xx_wins(void **state)
{
    (void)state;
    struct world *w = with_invite();
    char *ok = world_response(w, "a", "INVITE", 200, "a", NULL);
    world_run(w, 2000);
    world_answer(w, "b", "INVITE", 100, NULL);
    world_forget(w);
    world_udp(w, 2, "a", ok);
    EXPECT(w, "2000 udp0 alice 200 INVITE", "2000 udp2 b CANCEL");
    world_answer(w, "b", "CANCEL", 200, NULL);
    world_answer(w, "b", "INVITE", 487, NULL);
    EXPECT(w, "2000 udp2 b ACK");
    free(ok);
    drained(w);
}

/* Both answer: the caller sees both 2xx and decides (RFC 3261 13.2.2.4). */
static void two_2xx(void **state)
{
    (void)state;
    struct world *w = with_invite();
    char *ok = world_response(w, "a", "INVITE", 200, "a", NULL);
    world_run(w, 2000);
    world_answer(w, "b", "INVITE", 200, NULL);
    world_forget(w);
    world_udp(w, 2, "a", ok);
    EXPECT(w, "2000 udp0 alice 200 INVITE");
    free(ok);
    drained(w);
}

/* What an abandoned target says in the end moves nothing. */
static void late_failure_is_only_acked(void **state)
{
    (void)state;
    struct world *w = with_invite();
    char *busy = world_response(w, "a", "INVITE", 486, "a", NULL);
    world_run(w, 2000);
    world_forget(w);
    world_udp(w, 2, "a", busy);
    EXPECT(w, "2000 udp2 a ACK");
    world_answer(w, "b", "INVITE", 200, NULL);
    EXPECT(w, "2000 udp0 alice 200 INVITE");
    free(busy);
    drained(w);
}

static void refused_moves_on_at_once(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_unreachable(w, "a");
    EXPECT(w, "0 udp2 b INVITE");
    world_unreachable(w, "b");
    EXPECT(w, "1 udp2 c INVITE");
    world_unreachable(w, "c");
    EXPECT(w, "2 udp0 alice 500 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

/* An ICMP message that names a branch of ours, but not the address it went to, is a forgery. */
static void refusal_must_name_the_address(void **state)
{
    (void)state;
    struct world *w = with_invite();
    const char *m = world_last(w, "a");
    world_step(w, &(struct event){.kind = EV_UNREACHABLE,
                                  .transport = TP_UDP,
                                  .source = world_peer("b"),
                                  .bytes = slice_cstr(m)});
    world_run(w, 10);
    EXPECT_NOTHING(w);
    char *copy = strdup(m), *branch = strstr(copy, "z9hG4bK");
    branch[30] = branch[30] == 'A' ? 'B' : 'A'; /* in the nonce */
    world_step(w, &(struct event){.kind = EV_UNREACHABLE,
                                  .transport = TP_UDP,
                                  .source = world_peer("a"),
                                  .bytes = slice_cstr(copy)});
    world_run(w, 10);
    EXPECT_NOTHING(w);
    free(copy);
    drained(w);
}

static struct world *over_tcp(bool fail, bool hang)
{
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    w->connects_fail = fail;
    w->connects_hang = hang;
    world_start(w);
    return w;
}

static void connect_failed_moves_on(void **state)
{
    (void)state;
    struct world *w = over_tcp(false, true);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE");
    world_connect_failed(w, world_flow_to(w, "a"));
    world_run(w, 1);
    EXPECT(w, "0 connect b", "0 tcp b INVITE");
    world_connected(w, world_flow_to(w, "b"));
    world_answer(w, "b", NULL, 200, NULL);
    EXPECT(w, "1 udp0 alice 200 INVITE");
    drained(w);
}

static void every_connect_fails(void **state)
{
    (void)state;
    struct world *w = over_tcp(true, false);
    w->show_log = true;
    world_invite(w, "alice", "1");
    world_run(w, 10);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE", "0 connect b",
           "0 tcp b INVITE", "0 connect c", "0 tcp c INVITE", "0 log INVITE 500 NH 3",
           "0 udp0 alice 500 INVITE");
    world_ack(w, "alice", "1");
    /* While the connects back off nobody is asked. */
    world_invite(w, "alice", "2");
    EXPECT(w, "10 udp0 alice 100 INVITE", "10 log INVITE 500 NQ 3", "10 udp0 alice 500 INVITE");
    drained(w);
}

static void connection_lost_moves_on(void **state)
{
    (void)state;
    struct world *w = over_tcp(false, false);
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 100, NULL);
    world_forget(w);
    world_close(w, world_flow_to(w, "a"), 104);
    EXPECT(w, "0 connect b", "0 tcp b INVITE");
    world_answer(w, "b", NULL, 200, NULL);
    EXPECT(w, "1 udp0 alice 200 INVITE");
    drained(w);
}

/* It rings: nobody else may be asked. The target has 4·T1 to come back, then the call fails. */
static void connection_lost_while_ringing(void **state)
{
    (void)state;
    struct world *w = over_tcp(false, false);
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 180, NULL);
    world_forget(w);
    world_close(w, world_flow_to(w, "a"), 104);
    EXPECT_NOTHING(w);
    world_run(w, 3000);
    EXPECT(w, "2000 udp0 alice 500 INVITE", "2500 udp0 alice 500 INVITE");
    drained(w);
}

/* A connection that the target opens to us brings the rest of the call. */
static void answer_on_another_connection(void **state)
{
    (void)state;
    struct world *w = over_tcp(false, false);
    world_invite(w, "alice", "1");
    world_answer(w, "a", NULL, 180, NULL);
    char *ok = world_response(w, "a", "INVITE", 200, "a", NULL);
    world_close(w, world_flow_to(w, "a"), 104);
    world_forget(w);
    struct flow_id other = world_accept(w, 3, "10.1.0.1:45000");
    world_tcp(w, other, ok);
    EXPECT(w, "1 udp0 alice 200 INVITE");
    world_run(w, 5000);
    EXPECT_NOTHING(w);
    free(ok);
    drained(w);
}

static void busy_connections_are_joined_by_more(void **state)
{
    (void)state;
    struct world *w = over_tcp(false, false);
    w->show_log = false;
    for (unsigned i = 0; i < 210; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "m%u", i);
        world_send(w, "alice", "MESSAGE", branch, NULL);
    }
    unsigned connects = 0;
    for (unsigned i = 0; i < w->line_count; i++)
        connects += strstr(w->line[i], "connect") != NULL;
    assert_int_equal(connects, 6); /* 70 each, 64 to a connection */
    world_forget(w);
    world_run(w, 60000);
    world_forget(w);
    drained(w);
}

static void exhausted_final_names_pool_and_tries(void **state)
{
    (void)state;
    struct world *w = with_invite();
    w->show_log = true;
    world_answer(w, "a", "INVITE", 503, NULL);
    world_answer(w, "b", "INVITE", 408, NULL);
    world_forget(w);
    world_answer(w, "c", "INVITE", 503, NULL);
    EXPECT(w, "0 udp2 c ACK", "0 log INVITE 500 SH 3", "0 udp0 alice 500 INVITE");
    const char *m = world_last(w, "alice");
    assert_string_equal(world_header(m, "Reason", 0),
                        "SIP;cause=503;text=\"pool border has no target left\"");
    assert_string_equal(world_header(m, "Warning", 0),
                        "399 edge-1 \"pool border: 3 tries, last result 503\"");
    assert_string_equal(world_header(m, "Via", 1), "");
    assert_true(world_has(world_header(m, "Via", 0), "z9hG4bK-1;"));
    drained(w);
}

static void exhausted_retryable(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.failover.retryable = true;
    w->pool.target_count = 1;
    world_start(w);
    world_invite(w, "alice", "1");
    world_forget(w);
    world_answer(w, "a", "INVITE", 503, NULL);
    EXPECT(w, "0 udp2 a ACK", "0 udp0 alice 503 INVITE");
    assert_true(world_has(world_last(w, "alice"), "Reason: SIP;cause=503"));
    drained(w);
}

static void pool_without_a_usable_target(void **state)
{
    (void)state;
    struct world *w = world_plan();
    world_start(w);
    w->show_log = true;
    world_command(w, CMD_TARGET, "border * maint");
    assert_int_equal(w->page_error, 0);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 log INVITE 500 PQ 0", "0 udp0 alice 500 INVITE");
    assert_true(world_has(world_last(w, "alice"), "0 tries"));
    drained(w);
}

static void tries_are_bounded(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.failover.tries = 2;
    world_start(w);
    world_invite(w, "alice", "1");
    world_answer(w, "a", "INVITE", 503, NULL);
    world_forget(w);
    world_answer(w, "b", "INVITE", 503, NULL);
    EXPECT(w, "0 udp2 b ACK", "0 udp0 alice 500 INVITE");
    drained(w);
}

/* One deadline over all tries. */
static void within_is_kept(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.failover.within = 3 * NS_S;
    world_start(w);
    world_invite(w, "alice", "1");
    world_run(w, 3400);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE", "500 udp2 a INVITE",
           "1500 udp2 a INVITE", "2000 udp2 b INVITE", "2500 udp2 b INVITE",
           "3000 udp0 alice 500 INVITE");
    drained(w);
}

/* When nobody else is left the last one is given until the deadline. */
static void last_target_has_all_the_time_that_is_left(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.target_count = 1;
    world_start(w);
    world_invite(w, "alice", "1");
    world_run(w, 5000);
    world_forget(w);
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "5000 udp0 alice 200 INVITE");
    drained(w);
}

static void budget_is_kept(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.failover.budget_percent = 0;
    w->pool.outlier.eject_after = 0;
    world_start(w);
    unsigned denied = 0;
    for (unsigned i = 0; i < 200; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "m%u", i);
        world_send(w, "alice", "MESSAGE", branch, NULL);
        for (unsigned k = 0; k < 3; k++) {
            static const char *const names[] = {"a", "b", "c"};
            for (unsigned n = 0; n < 3; n++) {
                const char *m = world_last_request(w, names[n], "MESSAGE");
                if (m != NULL && world_has(m, branch))
                    world_answer(w, names[n], "MESSAGE", 503, NULL);
            }
        }
        world_forget(w);
        denied = (unsigned)engine_counters(w->engine)->failovers_denied;
    }
    assert_true(denied > 50);
    assert_true(engine_counters(w->engine)->failovers < 350);
    drained(w);
}

static void non_invite_fails_over(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_send(w, "alice", "MESSAGE", "1", NULL);
    world_run(w, 2000);
    EXPECT(w, "0 udp2 a MESSAGE", "500 udp2 a MESSAGE", "1500 udp2 a MESSAGE",
           "2000 udp2 b MESSAGE");
    world_answer(w, "b", NULL, 503, NULL);
    EXPECT(w, "2000 udp2 c MESSAGE");
    world_answer(w, "c", NULL, 408, NULL);
    EXPECT(w, "2000 udp0 alice 500 MESSAGE");
    drained(w);
}

/* RFC 4320: nobody waits for the answer of a non-INVITE after 64·T1. */
static void non_invite_408_is_never_passed(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.failover.on_count = 0;
    world_start(w);
    world_send(w, "alice", "MESSAGE", "1", NULL);
    world_forget(w);
    world_answer(w, "a", NULL, 408, NULL);
    EXPECT(w, "0 udp0 alice 500 MESSAGE");
    drained(w);
}

/* After a 100 a try lasts while its target shows signs of life: half a try timeout of silence earns
 * it a probe, a whole one ends the try. */
static struct world *with_health(void)
{
    struct world *w = world_plan();
    w->pool.health.on = true;
    w->pool.health.every = 600 * NS_S;
    w->pool.outlier.eject_after = 0;
    world_start(w);
    /* The first probes are answered, then none is due for a long time. */
    for (unsigned i = 0; i < 700; i++) {
        world_run(w, 1000);
        static const char *const names[] = {"a", "b", "c"};
        for (unsigned n = 0; n < 3; n++) {
            struct addr at = world_peer(names[n]);
            if (w->message_count > 0 && addr_equal(&w->message[w->message_count - 1].peer, &at))
                world_answer(w, names[n], "OPTIONS", 200, NULL);
        }
    }
    world_forget(w);
    world_restart_clock(w);
    return w;
}

static void silence_after_a_100(void **state)
{
    (void)state;
    struct world *w = with_health();
    world_invite(w, "alice", "1");
    const char *to = world_has(w->line[1], " a ") ? "a" : world_has(w->line[1], " b ") ? "b" : "c";
    world_run(w, 100);
    world_answer(w, to, "INVITE", 100, NULL);
    world_forget(w);
    world_run(w, 2000);
    /* At 1100 a probe, at 2100 the CANCEL and the next target. */
    assert_true(w->line_count >= 2);
    char line[64];
    snprintf(line, sizeof line, "1100 udp2 %s OPTIONS", to);
    assert_string_equal(w->line[0], line);
    snprintf(line, sizeof line, "2100 udp2 %s CANCEL", to);
    unsigned at = 0;
    while (at < w->line_count && strcmp(w->line[at], line) != 0)
        at++;
    assert_true(at + 1 < w->line_count);
    assert_true(world_has(w->line[at + 1], "INVITE"));
    world_free(w);
}

static void slow_but_alive_after_a_100(void **state)
{
    (void)state;
    struct world *w = with_health();
    world_invite(w, "alice", "1");
    const char *to = world_has(w->line[1], " a ") ? "a" : world_has(w->line[1], " b ") ? "b" : "c";
    world_answer(w, to, "INVITE", 100, NULL);
    world_forget(w);
    unsigned invites = 0, cancels = 0, probes = 0;
    for (unsigned i = 0; i < 300; i++) {
        world_run(w, 100);
        for (unsigned k = 0; k < w->line_count; k++) {
            invites += world_has(w->line[k], "INVITE");
            cancels += world_has(w->line[k], "CANCEL");
            if (!world_has(w->line[k], "OPTIONS"))
                continue;
            probes++;
            world_answer(w,
                         world_has(w->line[k], " a ")   ? "a"
                         : world_has(w->line[k], " b ") ? "b"
                                                        : "c",
                         "OPTIONS", 200, NULL);
        }
        world_forget(w);
    }
    assert_int_equal(invites, 0);
    assert_int_equal(cancels, 0);
    assert_true(probes > 10);
    world_answer(w, to, "INVITE", 180, NULL);
    EXPECT(w, "30000 udp0 alice 180 INVITE");
    world_free(w);
}

static void timer_c(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    world_forget(w);
    world_run(w, 184000);
    EXPECT_NOTHING(w);
    world_answer(w, "a", "INVITE", 183, NULL); /* starts it anew (16.7 step 2) */
    world_forget(w);
    world_run(w, 184000);
    EXPECT_NOTHING(w);
    world_run(w, 1100);
    EXPECT(w, "369000 udp2 a CANCEL", "369000 udp0 alice 408 INVITE");
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "369100 udp2 a ACK");
    drained(w);
}

/* A 100 is not among the provisionals that start Timer C anew. */
static void timer_c_is_not_moved_by_a_100(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    for (unsigned i = 0; i < 4; i++) {
        world_run(w, 45000);
        world_answer(w, "a", "INVITE", 100, NULL);
    }
    world_forget(w);
    world_run(w, 6000);
    EXPECT(w, "185000 udp2 a CANCEL", "185000 udp0 alice 408 INVITE", "185500 udp2 a CANCEL",
           "185500 udp0 alice 408 INVITE");
    drained(w);
}

static struct world *by_name(const char *const *addresses, unsigned count)
{
    struct world *w = world_new();
    char *text = world_request("INVITE", "sip:bob@example.net", "proxy", "1", NULL);
    world_udp(w, 2, "proxy", text);
    free(text);
    world_resolved(w, addresses, count);
    return w;
}

/* A name with many addresses: Timer C is the deadline of the call, not of each of them. */
static void timer_c_ends_what_a_name_leads_to(void **state)
{
    (void)state;
    struct world *w = by_name((const char *const[]){"bob", "carol", "mallory"}, 3);
    EXPECT(w, "0 udp2 proxy 100 INVITE", "0 resolve example.net:0/255", "0 udp0 bob INVITE");
    world_answer(w, "bob", "INVITE", 100, NULL);
    world_run(w, 185100);
    EXPECT(w, "185000 udp0 bob CANCEL", "185000 udp2 proxy 408 INVITE");
    world_ack(w, "proxy", "1");
    drained(w);
}

static void silent_addresses_have_one_deadline(void **state)
{
    (void)state;
    struct world *w = by_name(
        (const char *const[]){"bob", "carol", "mallory", "elsewhere", "alice", "a", "b", "c"}, 8);
    unsigned asked = 0, answered = 0;
    world_run(w, 192100);
    for (unsigned i = 0; i < w->line_count; i++) {
        asked += strncmp(w->line[i], "192", 3) == 0 && world_has(w->line[i], " INVITE") &&
                 !world_has(w->line[i], " 408 ");
        answered += world_has(w->line[i], "192000 udp2 proxy 408 INVITE");
    }
    assert_int_equal(asked, 0);
    assert_int_equal(answered, 1);
    assert_null(world_last(w, "b"));
    world_ack(w, "proxy", "1");
    drained(w);
}

/* A process that was stopped for a while has missed its times: it says so once, and bursts nothing.
 */
static void late_timers_make_no_burst(void **state)
{
    (void)state;
    static const uint64_t late_s[] = {3, 9, 33, 100, 400, 100000};
    for (size_t i = 0; i < sizeof late_s / sizeof late_s[0]; i++) {
        for (unsigned rings = 0; rings < 2; rings++) {
            struct world *w = with_invite();
            world_send(w, "bob", "MESSAGE", "2", NULL);
            if (rings)
                world_answer(w, "a", "INVITE", 180, NULL);
            world_forget(w);
            w->now += late_s[i] * NS_S;
            world_run(w, 0);
            unsigned to_targets = 0, up = 0;
            for (unsigned k = 0; k < w->line_count; k++) {
                to_targets += world_has(w->line[k], " udp2 ");
                up += world_has(w->line[k], " udp0 ");
            }
            if (to_targets > 4 || up > 2) {
                for (unsigned k = 0; k < w->line_count; k++)
                    print_error("%s\n", w->line[k]);
                fail_msg("%u s late: %u to targets, %u to callers", (unsigned)late_s[i], to_targets,
                         up);
            }
            drained(w);
        }
    }
}

static void retry_after_is_heeded(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 503, "Retry-After: 30 (tired)\n");
    EXPECT(w, "0 udp2 a ACK", "0 udp2 b INVITE");
    world_answer(w, "b", "INVITE", 486, NULL);
    world_forget(w);
    for (unsigned i = 0; i < 6; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "m%u", i);
        world_send(w, "alice", "MESSAGE", branch, NULL);
    }
    for (unsigned i = 0; i < w->line_count; i++)
        assert_false(world_has(w->line[i], " a MESSAGE"));
    world_forget(w);
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_that_move_on),
        cmocka_unit_test(codes_that_do_not),
        cmocka_unit_test(never_after_ringing),
        cmocka_unit_test(ringing_outlasts_every_deadline),
        cmocka_unit_test(no_answer_moves_on),
        cmocka_unit_test(late_provisional_is_cancelled),
        cmocka_unit_test(late_2xx_wins),
        cmocka_unit_test(two_2xx),
        cmocka_unit_test(late_failure_is_only_acked),
        cmocka_unit_test(refused_moves_on_at_once),
        cmocka_unit_test(refusal_must_name_the_address),
        cmocka_unit_test(connect_failed_moves_on),
        cmocka_unit_test(every_connect_fails),
        cmocka_unit_test(connection_lost_moves_on),
        cmocka_unit_test(connection_lost_while_ringing),
        cmocka_unit_test(answer_on_another_connection),
        cmocka_unit_test(busy_connections_are_joined_by_more),
        cmocka_unit_test(exhausted_final_names_pool_and_tries),
        cmocka_unit_test(exhausted_retryable),
        cmocka_unit_test(pool_without_a_usable_target),
        cmocka_unit_test(tries_are_bounded),
        cmocka_unit_test(within_is_kept),
        cmocka_unit_test(last_target_has_all_the_time_that_is_left),
        cmocka_unit_test(budget_is_kept),
        cmocka_unit_test(non_invite_fails_over),
        cmocka_unit_test(non_invite_408_is_never_passed),
        cmocka_unit_test(silence_after_a_100),
        cmocka_unit_test(slow_but_alive_after_a_100),
        cmocka_unit_test(timer_c),
        cmocka_unit_test(timer_c_is_not_moved_by_a_100),
        cmocka_unit_test(timer_c_ends_what_a_name_leads_to),
        cmocka_unit_test(silent_addresses_have_one_deadline),
        cmocka_unit_test(late_timers_make_no_burst),
        cmocka_unit_test(retry_after_is_heeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
