/* SPDX-License-Identifier: Apache-2.0
 *
 * Keep-alives that we send: to whom, when, and how often.
 * covers: keepalive.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

static struct world *pinging(uint64_t every_s, uint64_t max_s, uint8_t jitter)
{
    struct world *w = world_plan();
    w->opts.edge.keepalive = (struct edge_keepalive){
        .every = every_s * NS_S, .max = max_s * NS_S, .jitter_percent = jitter};
    world_start(w);
    world_restart_clock(w);
    return w;
}

static void say(struct world *w, struct flow_id flow, const char *branch)
{
    char *text = world_request("OPTIONS", "sip:192.0.2.1", "alice", branch, NULL);
    world_tcp(w, flow, text);
    free(text);
    world_forget(w);
}

static void alive(struct world *w, struct flow_id flow)
{
    world_step(w, &(struct event){.kind = EV_ALIVE, .transport = TP_TCP, .flow = flow});
}

static void done(struct world *w)
{
    world_drain(w, 250000);
    world_free(w);
}

static void pauses_grow_up_to_a_maximum(void **state)
{
    (void)state;
    struct world *w = pinging(20, 60, 0);
    struct flow_id flow = world_accept(w, 1, "alice");
    say(w, flow, "1");
    for (unsigned i = 0; i < 400; i++) {
        world_run(w, 1000);
        alive(w, flow); /* the pong comes within the second */
    }
    /* A pong a second is a client that speaks: it is never pinged. */
    EXPECT_NOTHING(w);
    world_restart_clock(w);
    world_run(w, 250000);
    EXPECT(w, "20000 ping alice", "50000 ping alice", "95000 ping alice", "155000 ping alice",
           "215000 ping alice");
    assert_int_equal(engine_counters(w->engine)->pings_sent, 5);
    done(w);
}

/* A client that pings by itself more often than we would. */
static void who_speaks_is_not_pinged(void **state)
{
    (void)state;
    struct world *w = pinging(30, 60, 0);
    struct flow_id flow = world_accept(w, 1, "alice");
    say(w, flow, "1");
    for (unsigned i = 0; i < 100; i++) {
        world_run(w, 25000);
        world_step(w, &(struct event){.kind = EV_PING,
                                      .listener = 1,
                                      .transport = TP_TCP,
                                      .flow = flow,
                                      .source = world_peer("alice")});
    }
    for (unsigned i = 0; i < w->line_count; i++)
        assert_null(strstr(w->line[i], "ping"));
    assert_int_equal(engine_counters(w->engine)->pings_sent, 0);
    world_forget(w);
    done(w);
}

/* An old client answers no ping; that alone never closes its connection. */
static void silence_kills_nobody(void **state)
{
    (void)state;
    struct world *w = pinging(20, 20, 0);
    struct flow_id flow = world_accept(w, 1, "alice");
    say(w, flow, "1");
    world_run(w, 3600000);
    assert_int_equal(w->line_count, 180);
    for (unsigned i = 0; i < w->line_count; i++)
        assert_non_null(strstr(w->line[i], "ping alice"));
    world_forget(w);
    world_command(w, CMD_SHOW_FLOWS, "");
    assert_non_null(strstr(w->page, "\"pings\":180"));
    done(w);
}

static void only_phones_are_pinged(void **state)
{
    (void)state;
    struct world *w = pinging(20, 20, 0);
    struct flow_id inside = world_accept(w, 3, "proxy"), dumb = world_accept(w, 1, "bob");
    char *text = world_request("OPTIONS", "sip:10.0.0.1", "proxy", "1", NULL);
    world_tcp(w, inside, text);
    free(text);
    world_step(w, &(struct event){.kind = EV_PING, /* it has said nothing in SIP */
                                  .listener = 1,
                                  .transport = TP_TCP,
                                  .flow = dumb,
                                  .source = world_peer("bob")});
    world_forget(w);
    world_run(w, 600000);
    EXPECT_NOTHING(w);
    done(w);
}

static void a_closed_connection_is_not_pinged(void **state)
{
    (void)state;
    struct world *w = pinging(20, 20, 0);
    struct flow_id flow = world_accept(w, 1, "alice"), other = world_accept(w, 1, "bob");
    say(w, flow, "1");
    say(w, other, "2");
    world_close(w, flow, 0);
    world_restart_clock(w);
    world_run(w, 30000);
    EXPECT(w, "19999 ping bob");
    done(w);
}

static void switched_off_and_on(void **state)
{
    (void)state;
    struct world *w = pinging(0, 0, 0);
    struct flow_id flow = world_accept(w, 1, "alice");
    say(w, flow, "1");
    world_run(w, 600000);
    EXPECT_NOTHING(w);
    w->opts.edge.keepalive = (struct edge_keepalive){.every = 20 * NS_S, .max = 20 * NS_S};
    world_adopt(w, 0);
    say(w, flow, "2");
    world_restart_clock(w);
    world_run(w, 30000);
    EXPECT(w, "20000 ping alice");
    w->opts.edge.keepalive.every = 0;
    world_adopt(w, 0);
    world_run(w, 600000);
    EXPECT_NOTHING(w);
    say(w, flow, "3");
    w->opts.edge.keepalive.every = 20 * NS_S;
    world_adopt(w, 0);
    say(w, flow, "4");
    world_restart_clock(w);
    world_run(w, 25000);
    EXPECT(w, "20000 ping alice");
    done(w);
}

/* Those that came together are not pinged together. */
static void jitter_spreads_them(void **state)
{
    (void)state;
    enum { PHONES = 40 };
    struct world *w = pinging(100, 100, 20);
    for (unsigned i = 0; i < PHONES; i++) {
        char address[40], branch[20];
        snprintf(address, sizeof address, "203.0.113.9:%u", 40000 + i);
        snprintf(branch, sizeof branch, "%u", i);
        say(w, world_accept(w, 1, address), branch);
    }
    world_restart_clock(w);
    world_run(w, 130000);
    unsigned in_second[130] = {0}, most = 0;
    assert_int_equal(w->line_count, PHONES);
    for (unsigned i = 0; i < w->line_count; i++) {
        unsigned ms = (unsigned)atoi(w->line[i]);
        assert_in_range(ms, 79000, 121000);
        if (++in_second[ms / 1000] > most)
            most = in_second[ms / 1000];
    }
    assert_true(most < PHONES / 4);
    world_forget(w);
    done(w);
}

/* ---- mobile clients -------------------------------------------------------------------------- */

static const struct slice agents[] = {{"iOS", 3}, {"Acro-Phone", 10}};

static struct world *with_mobiles(void)
{
    struct world *w = world_plan();
    w->pool.target_count = 1;
    w->opts.edge.keepalive = (struct edge_keepalive){.every = 20 * NS_S,
                                                     .max = 40 * NS_S,
                                                     .mobile_every = 600 * NS_S,
                                                     .mobile_agents = agents,
                                                     .mobile_agent_count = 2};
    world_start(w);
    world_restart_clock(w);
    return w;
}

/* `contact`: a Contact value. The registrar refuses, which tells nothing about the client. */
static void register_as(struct world *w, struct flow_id flow, const char *contact,
                        const char *agent)
{
    static unsigned serial;
    char branch[16], *extra = NULL;
    snprintf(branch, sizeof branch, "m%u", serial++);
    if (asprintf(&extra, "Contact: %s\nUser-Agent: %s\n", contact, agent) < 0)
        fail_msg("no memory");
    char *text = world_request("REGISTER", "sip:example.com", "alice", branch, extra);
    world_tcp(w, flow, text);
    free(text);
    free(extra);
    world_answer(w, "a", "REGISTER", 403, NULL);
    world_forget(w);
}

static void who_is_mobile(void **state)
{
    (void)state;
    static const struct {
        const char *contact, *agent;
        bool mobile;
    } rows[] = {
        {"<sip:a@x>", "Desk Phone", false},
        {"<sip:a@x;pn-provider=apns;pn-param=T.b;pn-prid=abc>", "Any", true},
        {"<sip:a@x;PN-Provider=fcm>", "Any", true},
        {"<sip:a@x;pn-prid=1>", "Any", true},
        {"<sip:a@x>, <sip:b@x;pn-prid=1>", "Any", true},
        {"<sip:a@x>;pn-prid=1", "Any", false}, /* of the Contact, not of its URI */
        {"<sip:pn-prid@x;xpn-prid=1>", "Any", false},
        {"<sip:a@x>", "Nice Phone for ios 17", true},
        {"<sip:a@x>", "ACRO-PHONE", true},
        {"<sip:a@x>", "Acro-Phon", false},
        {"<sip:a@x>", "", false},
        {"*", "Any", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = with_mobiles();
        struct flow_id flow = world_accept(w, 1, "alice");
        register_as(w, flow, rows[i].contact, rows[i].agent);
        world_run(w, 599000);
        uint64_t sent = engine_counters(w->engine)->pings_sent;
        if ((sent == 0) != rows[i].mobile)
            fail_msg("%s from %s: %llu pings", rows[i].contact, rows[i].agent,
                     (unsigned long long)sent);
        world_forget(w);
        done(w);
    }
}

static void mobiles_have_a_pause_of_their_own(void **state)
{
    (void)state;
    struct world *w = with_mobiles();
    struct flow_id flow = world_accept(w, 1, "alice");
    say(w, flow, "1"); /* until it has registered it is as any other */
    world_run(w, 30000);
    world_forget(w);
    register_as(w, flow, "<sip:a@x;pn-prid=1>", "x");
    world_restart_clock(w);
    world_run(w, 1900000);
    assert_int_equal(engine_counters(w->engine)->pings_sent, 1 + 3);
    world_forget(w);
    say(w, flow, "2"); /* what is no REGISTER says nothing about it */
    world_restart_clock(w);
    world_run(w, 590000);
    EXPECT_NOTHING(w);
    register_as(w, flow, "<sip:a@x>", "x"); /* it no longer wants pushes */
    world_restart_clock(w);
    world_run(w, 100000);
    EXPECT(w, "20000 ping alice", "50000 ping alice", "90000 ping alice");
    done(w);
}

/* The pause of the others is a lower bound. */
static void mobiles_are_not_pinged_more_often(void **state)
{
    (void)state;
    struct world *w = with_mobiles();
    w->opts.edge.keepalive.mobile_every = 5 * NS_S;
    world_adopt(w, 0);
    struct flow_id flow = world_accept(w, 1, "alice");
    register_as(w, flow, "<sip:a@x;pn-prid=1>", "x");
    world_restart_clock(w);
    world_run(w, 50000);
    EXPECT(w, "20000 ping alice", "40000 ping alice");
    done(w);
}

/* One that keeps itself alive never is, mobile or not. */
static void a_mobile_that_speaks_is_not_pinged(void **state)
{
    (void)state;
    struct world *w = with_mobiles();
    struct flow_id flow = world_accept(w, 1, "alice");
    register_as(w, flow, "<sip:a@x;pn-prid=1>", "x");
    for (unsigned i = 0; i < 20; i++) {
        world_run(w, 590000);
        alive(w, flow);
    }
    assert_int_equal(engine_counters(w->engine)->pings_sent, 0);
    world_forget(w);
    done(w);
}

static void names_are_shown(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_step(w, &(struct event){.kind = EV_FLOW_OPENED,
                                  .listener = 1,
                                  .transport = TP_TLS,
                                  .flow = {500, 7, 0},
                                  .source = world_peer("bob"),
                                  .bytes = SLICE("trunk.example.com")});
    world_command(w, CMD_SHOW_FLOWS, "");
    assert_non_null(strstr(w->page, "\"transport\":\"tls\""));
    assert_non_null(strstr(w->page, "\"name\":\"trunk.example.com\""));
    assert_non_null(strstr(w->page, "\"side\":\"outside\""));
    assert_non_null(strstr(w->page, "\"idle_ms\":0"));
    done(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_grow_up_to_a_maximum),
        cmocka_unit_test(who_speaks_is_not_pinged),
        cmocka_unit_test(silence_kills_nobody),
        cmocka_unit_test(only_phones_are_pinged),
        cmocka_unit_test(a_closed_connection_is_not_pinged),
        cmocka_unit_test(switched_off_and_on),
        cmocka_unit_test(jitter_spreads_them),
        cmocka_unit_test(who_is_mobile),
        cmocka_unit_test(mobiles_have_a_pause_of_their_own),
        cmocka_unit_test(mobiles_are_not_pinged_more_often),
        cmocka_unit_test(a_mobile_that_speaks_is_not_pinged),
        cmocka_unit_test(names_are_shown),
    };
    return cmocka_run_group_tests_name("keepalive", tests, NULL, NULL);
}
