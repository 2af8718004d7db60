/* SPDX-License-Identifier: Apache-2.0
 *
 * What is refused when not all can be done, whose requests are too many, and circles through an
 * agent that resets everything. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

static struct world *guarded(void)
{
    struct world *w = world_plan();
    guard_opts_default(&w->opts.edge.guard);
    w->opts.limits.guard.sources = 1024;
    return w;
}

static void drained(struct world *w)
{
    world_drain(w, 250000);
    world_free(w);
}

/* ---- too much to do ---------------------------------------------------------------------------
 */

/* Messages have waited for long, and go on doing so: the worker is behind. */
static void fall_behind(struct world *w)
{
    w->waited = 400 * NS_MS;
    for (unsigned i = 0; i < 400; i++) {
        char branch[32];
        snprintf(branch, sizeof branch, "behind-%u", i);
        world_send(w, "mallory", "OPTIONS", branch, NULL);
        world_run(w, 10);
    }
    world_forget(w);
    world_restart_clock(w);
}

static void the_least_goes_first(void **state)
{
    (void)state;
    struct world *w = guarded();
    world_start(w);
    world_invite(w, "alice", "before");
    world_answer(w, "a", "INVITE", 200, NULL);
    world_ack(w, "alice", "before");
    world_forget(w);
    fall_behind(w);
    world_forget(w);
    world_send(w, "bob", "OPTIONS", "probe", NULL);
    EXPECT(w, "0 udp0 bob 503 OPTIONS");
    const char *m = world_last(w, "bob");
    unsigned wait = (unsigned)atoi(world_header(m, "Retry-After", 0));
    assert_in_range(wait, 2, 300);
    char *bye = world_in_dialog(w, "alice", "a", true, "BYE", "bye");
    world_udp(w, 0, "alice", bye);
    free(bye);
    EXPECT(w, "0 udp2 a BYE");
    world_answer(w, "a", "BYE", 200, NULL);
    assert_true(engine_counters(w->engine)->requests_shed > 0);
    w->waited = 0;
    world_run(w, 20000);
    drained(w);
}

/* Only what has no class above a call's is too old by then. */
static const dur_ns too_old = 600 * NS_MS;

static void an_emergency_is_never_shed(void **state)
{
    (void)state;
    static const struct slice numbers[] = {{"112", 3}};
    struct world *w = guarded();
    w->opts.edge.emergency = numbers;
    w->opts.edge.emergency_count = 1;
    w->pool.target_count = 1;
    world_start(w);
    fall_behind(w);
    char *sos = world_request("INVITE", "urn:service:sos.fire", "alice", "sos", NULL);
    char *number = world_request("INVITE", "sip:112@example.com", "bob", "112", NULL);
    w->waited = too_old;
    uint64_t before = engine_counters(w->engine)->transactions;
    world_udp(w, 0, "bob", number);
    world_udp(w, 0, "alice", sos);
    free(number);
    free(sos);
    assert_int_equal(engine_counters(w->engine)->transactions, before + 2);
    char *longer = world_request("INVITE", "sip:1129@example.com", "carol", "1129", NULL);
    world_udp(w, 0, "carol", longer);
    free(longer);
    assert_int_equal(engine_counters(w->engine)->transactions, before + 2);
    assert_true(engine_counters(w->engine)->requests_shed > 0);
    world_answer(w, "a", "INVITE", 486, NULL);
    w->waited = 0;
    world_forget(w);
    drained(w);
}

static uint64_t begun(const struct world *w)
{
    return engine_counters(w->engine)->transactions;
}

static void sends(struct world *w, const char *method, const char *uri, unsigned n,
                  const char *to_tag)
{
    char text[1024];
    snprintf(text, sizeof text,
             "%s %s SIP/2.0\n"
             "Via: SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bK-new%u\n"
             "Max-Forwards: 70\n"
             "From: <sip:m@example.com>;tag=m%u\n"
             "To: <sip:bob@example.com>%s\n"
             "Call-ID: new-%u\n"
             "CSeq: 1 %s\n"
             "Contact: <sip:m@198.51.100.66>\n\n",
             method, uri, n, n, to_tag, n, method);
    world_udp(w, 0, "mallory", text);
}

/* Who floods with calls for help is not served before all others. */
static void so_many_emergencies_are_believed(void **state)
{
    (void)state;
    struct world *w = guarded();
    world_start(w);
    w->waited = too_old;
    for (unsigned i = 0; i < 150; i++)
        sends(w, "INVITE", "urn:service:sos", i, "");
    assert_int_equal(begun(w), 100);
    world_run(w, 1000);
    for (unsigned i = 150; i < 200; i++)
        sends(w, "INVITE", "urn:service:sos", i, "");
    assert_int_equal(begun(w), 120);
    world_run(w, 10000);
    sends(w, "SUBSCRIBE", "urn:service:sos", 200, ""); /* is no call */
    assert_int_equal(begun(w), 120);
    w->waited = 0;
    world_forget(w);
    world_run(w, 60000);
    world_drain(w, 400000);
    world_free(w);
}

/* A To tag alone makes no dialog: our token does. */
static void an_invented_dialog_is_new(void **state)
{
    (void)state;
    static const char *const methods[] = {"INVITE", "BYE", "INFO", "REGISTER", "PRACK"};
    struct world *w = guarded();
    w->opts.edge.guard.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 6};
    w->opts.edge.guard.ban_first = 0;
    w->workers = 1;
    world_start(w);
    world_invite(w, "alice", "real");
    world_answer(w, "a", "INVITE", 200, NULL);
    world_ack(w, "alice", "real");
    uint64_t before = begun(w);
    w->waited = too_old;
    for (unsigned i = 0; i < 5; i++)
        sends(w, methods[i], "sip:bob@example.com", i, ";tag=invented");
    assert_int_equal(begun(w), before);
    assert_int_equal(guard_counters(engine_guard(w->engine))->aged, 5);
    char *bye = world_in_dialog(w, "alice", "a", true, "BYE", "bye");
    world_udp(w, 0, "alice", bye);
    free(bye);
    assert_int_equal(begun(w), before + 1);
    world_answer(w, "a", "BYE", 200, NULL);
    w->waited = 0;
    for (unsigned i = 5; i < 10; i++) /* and it is counted: one of these is let in */
        sends(w, "INFO", "sip:bob@example.com", i, ";tag=invented");
    assert_int_equal(begun(w), before + 2);
    world_forget(w);
    world_run(w, 60000);
    drained(w);
}

/* What was handed over has not waited here: it does not say that nobody has to. */
static void what_is_handed_over_hides_no_delay(void **state)
{
    (void)state;
    struct world *w[2];
    for (unsigned i = 0; i < 2; i++) {
        w[i] = guarded();
        w[i]->worker = i;
        w[i]->workers = 2;
        world_start(w[i]);
    }
    w[1]->waited = 400 * NS_MS;
    for (unsigned i = 0; i < 100; i++) {
        char branch[32];
        snprintf(branch, sizeof branch, "behind-%u", i);
        world_send(w[1], "mallory", "OPTIONS", branch, NULL);
        world_cancel(w[0], "alice", branch); /* nobody's: it is passed on */
        world_hand(w[0], w[1]);
        world_run(w[1], 10);
    }
    assert_true(guard_delay(engine_guard(w[1]->engine)) >= 400 * NS_MS);
    for (unsigned i = 0; i < 2; i++) {
        w[i]->waited = 0;
        world_forget(w[i]);
        world_run(w[i], 20000);
        drained(w[i]);
    }
}

/* What is under way is not killed by its own repetition. */
static void a_repeat_is_not_shed(void **state)
{
    (void)state;
    struct world *w = guarded();
    world_start(w);
    world_invite(w, "alice", "one");
    world_forget(w);
    w->waited = 5 * NS_S;
    world_invite(w, "alice", "one");
    for (unsigned i = 0; i < w->line_count; i++)
        assert_null(strstr(w->line[i], "503"));
    w->waited = 0;
    world_answer(w, "a", "INVITE", 486, NULL);
    world_forget(w);
    drained(w);
}

static void an_old_call_is_not_begun(void **state)
{
    (void)state;
    struct world *w = guarded();
    world_start(w);
    w->waited = 600 * NS_MS; /* older than T1: it has been sent again already */
    world_invite(w, "alice", "old");
    assert_null(world_last_request(w, "a", "INVITE"));
    assert_int_equal(guard_counters(engine_guard(w->engine))->aged, 1);
    w->waited = 0;
    world_invite(w, "alice", "old");
    assert_non_null(world_last_request(w, "a", "INVITE"));
    world_answer(w, "a", "INVITE", 486, NULL);
    world_forget(w);
    drained(w);
}

/* ---- too many from one ------------------------------------------------------------------------
 */

static unsigned calls_that_pass(bool report_only)
{
    struct world *w = guarded();
    w->opts.edge.guard.per_source[GUARD_REQUESTS].per_second = 2;
    w->opts.edge.guard.per_source[GUARD_REQUESTS].burst = 6;
    w->opts.edge.guard.ban_first = 0;
    w->opts.edge.guard.report_only = report_only;
    w->workers = 1;
    world_start(w);
    for (unsigned i = 0; i < 10; i++) {
        char branch[32];
        snprintf(branch, sizeof branch, "call-%u", i);
        world_invite(w, "mallory", branch);
    }
    const char *m = world_last(w, "mallory");
    assert_int_equal(m != NULL && strncmp(m, "SIP/2.0 503", 11) == 0, !report_only);
    uint64_t calls = engine_counters(w->engine)->transactions;
    world_invite(w, "alice", "hers");
    assert_int_equal(engine_counters(w->engine)->transactions, calls + 1);
    assert_int_equal(guard_counters(engine_guard(w->engine))->over[GUARD_REQUESTS], 4);
    world_forget(w);
    world_run(w, 60000);
    world_drain(w, 400000);
    world_free(w);
    return (unsigned)calls;
}

static void a_source_has_its_share(void **state)
{
    (void)state;
    assert_int_equal(calls_that_pass(false), 6);
    assert_int_equal(calls_that_pass(true), 10);
}

/* Who is refused for what he does himself makes nobody else wait. */
static void who_is_over_his_limit_stands_in_no_line(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->opts.edge.guard.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 1};
    w->opts.edge.guard.ban_first = 0;
    w->workers = 1;
    world_start(w);
    for (unsigned i = 0; i < 1000; i++)
        sends(w, "MESSAGE", "sip:bob@example.com", i, "");
    assert_string_equal(world_header(world_last(w, "mallory"), "Retry-After", 0), "2");
    w->waited = too_old;
    world_send(w, "alice", "MESSAGE", "hers", NULL);
    const char *hers = world_header(world_last(w, "alice"), "Retry-After", 0);
    assert_in_range((unsigned)atoi(hers), 2, 3);
    w->waited = 0;
    world_forget(w);
    drained(w);
}

/* Somebody else floods with datagrams that prove nothing: now such datagrams earn bans. */
static void flooded(struct world *w)
{
    struct addr other = world_peer("carol");
    for (unsigned i = 0; i < 7000; i++)
        (void)guard_charge(engine_guard(w->engine), &other, GUARD_MALFORMED, false, w->now);
}

/* The owner of an address-of-record hears nothing from its users itself. */
static void who_is_banned_where_a_user_is_is_refused_there(void **state)
{
    (void)state;
    static const struct slice domains[] = {{"example.com", 11}};
    struct world *w[2];
    for (unsigned i = 0; i < 2; i++) {
        w[i] = guarded();
        w[i]->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
        w[i]->opts.edge.registrar = (struct registrar_opts){
            .on = true, .domains = domains, .domain_count = 1, .contacts_max = 4};
        w[i]->opts.limits.bindings = 16;
        w[i]->worker = i;
        w[i]->workers = 2;
        world_start(w[i]);
    }
    struct hash_seed seed = {7, 8};
    unsigned owner = registrar_owner(&seed, SLICE("bob@example.com"), 2);
    struct world *o = w[owner], *x = w[1 - owner];
    struct addr mallory = world_peer("mallory");
    sends(x, "MESSAGE", "sip:bob@example.com", 1, "");
    world_hand(x, o);
    assert_int_equal(begun(o), 1);
    flooded(o);
    for (unsigned i = 0; i < 1001; i++)
        (void)guard_charge(engine_guard(o->engine), &mallory, GUARD_MALFORMED, false, o->now);
    sends(x, "MESSAGE", "sip:bob@example.com", 2, "");
    world_hand(x, o);
    assert_int_equal(begun(o), 1);
    for (unsigned i = 0; i < 2; i++) {
        world_forget(w[i]);
        drained(w[i]);
    }
}

static void answered_elsewhere(struct world *w, struct flow_id flow, const char *status,
                               const char *cseq)
{
    char bytes[1024];
    struct hand head = {.kind = HAND_SEND, .flow = flow};
    int n = snprintf(bytes + sizeof head, sizeof bytes - sizeof head,
                     "SIP/2.0 %s\r\n"
                     "Via: SIP/2.0/TCP 192.168.1.9;branch=z9hG4bK-x\r\n"
                     "From: <sip:bob@example.com>;tag=c\r\nTo: <sip:REGISTER>;tag=w\r\n"
                     "Call-ID: x\r\nCSeq: %s\r\nContent-Length: 17\r\n\r\nCSeq: 1 REGISTER\n",
                     status, cseq);
    head.len = (uint32_t)n;
    memcpy(bytes, &head, sizeof head);
    world_step(w, &(struct event){.kind = EV_HANDED,
                                  .flow = flow,
                                  .bytes = slice_of(bytes, sizeof head + head.len)});
}

/* It asks another worker to register it, in vain, and is answered when it calls somebody. */
static void an_answer_to_a_call_makes_nobody_known(void **state)
{
    (void)state;
    static const struct slice domains[] = {{"example.com", 11}};
    struct hash_seed seed = {7, 8};
    struct world *w = guarded();
    w->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    w->opts.edge.registrar = (struct registrar_opts){
        .on = true, .domains = domains, .domain_count = 1, .contacts_max = 4};
    w->opts.limits.bindings = 16;
    w->worker = 1 - registrar_owner(&seed, SLICE("bob@example.com"), 2);
    w->workers = 2;
    world_start(w);
    struct addr carol = world_peer("carol");
    struct flow_id flow = world_accept(w, 1, "carol");
    world_tcp(w, flow,
              "REGISTER sip:example.com SIP/2.0\n"
              "Via: SIP/2.0/TCP 192.168.1.9;branch=z9hG4bK-vain\nMax-Forwards: 70\n"
              "From: <sip:bob@example.com>;tag=c\nTo: <sip:bob@example.com>\n"
              "Call-ID: vain\nCSeq: 1 REGISTER\nContact: <sip:c@192.168.1.9>\n\n");
    assert_int_equal(w->handed_count, 1);
    answered_elsewhere(w, flow, "200 OK", "7 INVITE");
    answered_elsewhere(w, flow, "401 Unauthorized", "1 REGISTER");
    assert_false(guard_is_known(engine_guard(w->engine), &carol, w->now));
    answered_elsewhere(w, flow, "200 OK", "2 REGISTER");
    assert_true(guard_is_known(engine_guard(w->engine), &carol, w->now));
    world_free(w);
}

/* Whoever writes the address of a phone into his datagrams gets its connections refused as little
 * as anybody's. */
static void a_datagram_proves_nothing(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->opts.edge.guard.per_source[GUARD_MALFORMED] = (struct rate_opts){1, 5};
    w->pool.target_count = 1;
    w->workers = 1;
    world_start(w);
    sends(w, "REGISTER", "sip:example.com", 0, "");
    world_answer(w, "a", "REGISTER", 200, NULL);
    struct addr a = world_peer("mallory");
    flooded(w);
    for (unsigned i = 0; i < 10; i++)
        world_udp(w, 0, "mallory", "INVITE nonsense\n\n");
    struct guard *g = engine_guard(w->engine);
    assert_int_equal(guard_refused(g, &a, w->now), GUARD_BANNED);
    assert_int_equal(guard_refused_connected(g, &a, w->now), GUARD_FINE);
    world_forget(w);
    drained(w);
}

/* What belongs to no call of ours is read for nothing, and counts. */
static void strays_are_charged(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->opts.edge.guard.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 6};
    w->workers = 1;
    world_start(w);
    struct addr a = world_peer("mallory");
    struct guard *g = engine_guard(w->engine);
    flooded(w);
    for (unsigned i = 0; i < 3; i++)
        sends(w, "ACK", "sip:bob@example.com", i, ";tag=invented");
    for (unsigned i = 3; i < 6; i++)
        sends(w, "CANCEL", "sip:bob@example.com", i, "");
    assert_int_equal(guard_refused(g, &a, w->now), GUARD_FINE);
    sends(w, "ACK", "sip:bob@example.com", 6, ";tag=invented");
    assert_int_equal(guard_refused(g, &a, w->now), GUARD_BANNED);
    world_forget(w);
    drained(w);
}

/* ---- circles ----------------------------------------------------------------------------------
 */

static const char session[] = "ab30317f1a784dc48ff824d0d3715d86";

/* Returns whether it is broken there. */
static bool crosses_to(struct world *w, unsigned n, const char *id, const char *user)
{
    char text[1024];
    snprintf(text, sizeof text,
             "MESSAGE sip:%s@example.com SIP/2.0\n"
             "Via: SIP/2.0/UDP 10.1.0.99:5060;branch=z9hG4bK-leg%u\n"
             "Max-Forwards: 70\n"
             "From: <sip:agent@example.com>;tag=leg%u\n"
             "To: <sip:bob@example.com>\n"
             "Call-ID: leg-%u\n"
             "CSeq: 1 MESSAGE\n"
             "Session-ID: %s;remote=%032d\n\n",
             user, n, n, n, id, 0);
    world_forget(w);
    world_udp(w, 2, "proxy", text);
    bool refused = false;
    for (unsigned i = 0; i < w->line_count; i++)
        refused |= strstr(w->line[i], " 482 MESSAGE") != NULL;
    return refused;
}

static bool crosses(struct world *w, unsigned n, const char *id)
{
    return crosses_to(w, n, id, "bob");
}

/* An agent rings all of a group in the session of the one call to it. */
static void a_group_is_no_circle(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->opts.edge.guard.session_crossings_max = 3;
    w->rule[0].from = RULE_ANY;
    world_start(w);
    for (unsigned i = 0; i < 30; i++) {
        char user[8];
        snprintf(user, sizeof user, "g%u", i % 10);
        assert_false(crosses_to(w, i, session, user));
    }
    assert_true(crosses_to(w, 30, session, "g4"));
    world_forget(w);
    drained(w);
}

static void a_circle_is_broken(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->opts.edge.guard.session_crossings_max = 3;
    w->rule[0].from = RULE_ANY;
    w->show_notices = true;
    world_start(w);
    for (unsigned i = 0; i < 3; i++)
        assert_false(crosses(w, i, session));
    assert_true(crosses(w, 3, "AB30317F1A784DC48FF824D0D3715D86"));
    assert_false(crosses(w, 4, "bb30317f1a784dc48ff824d0d3715d86"));
    assert_int_equal(engine_counters(w->engine)->sessions_circling, 1);
    world_run(w, 61000); /* session_within */
    assert_false(crosses(w, 5, session));
    world_forget(w);
    drained(w);
}

static void a_session_gets_a_name(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->opts.edge.session_id = true;
    world_start(w);
    world_send(w, "alice", "MESSAGE", "bare", NULL);
    char first[128];
    snprintf(first, sizeof first, "%s",
             world_header(world_last_request(w, "a", "MESSAGE"), "Session-ID", 0));
    assert_int_equal(strlen(first), 32 + strlen(";remote=") + 32);
    assert_string_equal(first + 32, ";remote=00000000000000000000000000000000");
    char extra[128];
    snprintf(extra, sizeof extra, "Session-ID: %s;remote=%032d\n", session, 0);
    world_send(w, "alice", "MESSAGE", "named", extra);
    const char *m = world_last_request(w, "b", "MESSAGE");
    assert_int_equal(strncmp(world_header(m, "Session-ID", 0), session, 32), 0);
    world_answer(w, "a", "MESSAGE", 200, NULL);
    world_answer(w, "b", "MESSAGE", 200, NULL);
    world_forget(w);
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_goes_first),
        cmocka_unit_test(an_emergency_is_never_shed),
        cmocka_unit_test(a_repeat_is_not_shed),
        cmocka_unit_test(an_old_call_is_not_begun),
        cmocka_unit_test(strays_are_charged),
        cmocka_unit_test(a_source_has_its_share),
        cmocka_unit_test(a_circle_is_broken),
        cmocka_unit_test(a_session_gets_a_name),
        cmocka_unit_test(a_group_is_no_circle),
        cmocka_unit_test(so_many_emergencies_are_believed),
        cmocka_unit_test(an_invented_dialog_is_new),
        cmocka_unit_test(what_is_handed_over_hides_no_delay),
        cmocka_unit_test(who_is_banned_where_a_user_is_is_refused_there),
        cmocka_unit_test(a_datagram_proves_nothing),
        cmocka_unit_test(an_answer_to_a_call_makes_nobody_known),
        cmocka_unit_test(who_is_over_his_limit_stands_in_no_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
