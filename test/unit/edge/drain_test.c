/* SPDX-License-Identifier: Apache-2.0
 *
 * A drain: phones leave at an even pace, calls stay, who follows a 302 is sent to another edge. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

static const struct slice agents[] = {{"Follower", 8}};

static struct world *world_with_moving(bool learn)
{
    struct world *w = world_plan();
    guard_opts_default(&w->opts.edge.guard);
    w->opts.limits.guard.sources = 256;
    w->workers = 1;
    w->opts.edge.moving = (struct edge_moving){.to = SLICE("<sip:edge2.example.com;transport=tcp>"),
                                               .agents = agents,
                                               .agent_count = 1,
                                               .learn = learn,
                                               .within = 10 * NS_S};
    world_start(w);
    return w;
}

static unsigned serial;

static void registers(struct world *w, struct flow_id flow, const char *user, const char *agent,
                      const char *extra)
{
    char text[1024];
    unsigned n = ++serial;
    snprintf(text, sizeof text,
             "REGISTER sip:example.com SIP/2.0\n"
             "Via: SIP/2.0/TCP 192.168.1.9:5060;branch=z9hG4bK-reg%u\n"
             "Max-Forwards: 70\n"
             "From: <sip:%s@example.com>;tag=r%u\n"
             "To: <sip:%s@example.com>\n"
             "Call-ID: reg-%u@phone\n"
             "CSeq: 1 REGISTER\n"
             "User-Agent: %s\n"
             "Contact: <sip:%s@192.168.1.9:5060>\n"
             "%s\n",
             n, user, n, user, n, agent, user, extra);
    world_tcp(w, flow, text);
}

static unsigned closes(const struct world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->line_count; i++)
        n += strstr(w->line[i], " close ") != NULL;
    return n;
}

static void phones_leave_at_an_even_pace(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    for (unsigned i = 0; i < 40; i++)
        (void)world_accept(w, 1, "alice");
    world_forget(w);
    world_command(w, CMD_DRAIN, "");
    for (unsigned s = 1; s <= 10; s++) {
        world_run(w, 1000);
        assert_in_range(closes(w), s * 4 - 1, s * 4 + 1);
    }
    world_run(w, 100);
    assert_int_equal(closes(w), 40);
    assert_int_equal(engine_counters(w->engine)->flows_moved, 40);
    world_free(w);
}

/* Phones that come back at once are not closed again and again, in the place of others. */
static void who_comes_back_takes_nobodys_turn(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    for (unsigned i = 0; i < 20; i++)
        (void)world_accept(w, 1, "alice");
    world_forget(w);
    world_command(w, CMD_DRAIN, "");
    unsigned back = 0;
    for (unsigned s = 1; s <= 12; s++) {
        world_run(w, 1000);
        if (s < 10)
            assert_in_range(closes(w), s * 2 - 1, s * 2 + 1);
        for (; back < closes(w); back++)
            (void)world_accept(w, 1, "bob");
    }
    assert_int_equal(closes(w), 20);
    world_command(w, CMD_SHOW_DRAIN, "");
    assert_non_null(memmem(w->page, w->page_n, "\"flows\":0,", 10));
    world_free(w);
}

static void a_drain_can_be_called_off(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    for (unsigned i = 0; i < 20; i++)
        (void)world_accept(w, 1, "alice");
    world_forget(w);
    world_command(w, CMD_DRAIN, "4000");
    world_run(w, 2000);
    unsigned by_then = closes(w);
    assert_in_range(by_then, 9, 11);
    world_command(w, CMD_UNDRAIN, "");
    world_run(w, 10000);
    assert_int_equal(closes(w), by_then);
    world_invite(w, "bob", "welcome");
    assert_non_null(world_last_request(w, "a", "INVITE"));
    world_answer(w, "a", "INVITE", 486, NULL);
    world_free(w);
}

/* ---- calls ------------------------------------------------------------------------------------
 */

static void a_call_stays(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    struct flow_id flow = world_accept(w, 1, "alice");
    char *invite = world_request("INVITE", "sip:bob@example.com", "alice", "call", NULL);
    world_tcp(w, flow, invite);
    free(invite);
    world_answer(w, "a", "INVITE", 200, NULL);
    world_forget(w);
    world_command(w, CMD_DRAIN, "4000");
    world_run(w, 3900);
    assert_int_equal(closes(w), 0);
    char *bye = world_in_dialog(w, "alice", "a", true, "BYE", "bye");
    world_tcp(w, flow, bye);
    free(bye);
    world_answer(w, "a", "BYE", 200, NULL);
    world_run(w, 90);
    assert_int_equal(closes(w), 1);
    world_free(w);
}

static void a_call_that_rings_stays(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    struct flow_id caller = world_accept(w, 1, "alice");
    char *invite = world_request("INVITE", "sip:bob@example.com", "alice", "call", NULL);
    world_tcp(w, caller, invite);
    free(invite);
    world_answer(w, "a", "INVITE", 180, NULL);
    world_forget(w);
    world_command(w, CMD_DRAIN, "4000");
    world_run(w, 3900);
    assert_int_equal(closes(w), 0);
    world_answer(w, "a", "INVITE", 486, NULL);
    world_run(w, 90);
    assert_int_equal(closes(w), 1);
    world_free(w);
}

static void time_is_up_for_calls_too(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    struct flow_id flow = world_accept(w, 1, "alice");
    char *invite = world_request("INVITE", "sip:bob@example.com", "alice", "call", NULL);
    world_tcp(w, flow, invite);
    free(invite);
    world_answer(w, "a", "INVITE", 200, NULL);
    world_forget(w);
    world_command(w, CMD_DRAIN, "4000");
    world_run(w, 4100);
    assert_int_equal(closes(w), 1);
    world_free(w);
}

/* ---- REGISTER ---------------------------------------------------------------------------------
 */

static int status_of(const struct world *w, const char *peer)
{
    const char *m = world_last(w, peer);
    return m != NULL && strncmp(m, "SIP/2.0 ", 8) == 0 ? atoi(m + 8) : 0;
}

static void who_follows_is_sent_elsewhere(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    struct flow_id flow = world_accept(w, 1, "alice");
    world_command(w, CMD_DRAIN, "");
    registers(w, flow, "alice", "Follower/2.1", "");
    assert_int_equal(status_of(w, "alice"), 302);
    assert_string_equal(world_header(world_last(w, "alice"), "Contact", 0),
                        "<sip:edge2.example.com;transport=tcp>");
    /* It came back regardless: not in circles. */
    registers(w, flow, "alice", "Follower/2.1", "");
    assert_int_equal(status_of(w, "alice"), 503);
    struct flow_id other = world_accept(w, 1, "bob");
    registers(w, other, "bob", "Stubborn/1", "");
    assert_int_equal(status_of(w, "bob"), 503);
    assert_string_not_equal(world_header(world_last(w, "bob"), "Retry-After", 0), "");
    registers(w, other, "bob", "Stubborn/1", "Expires: 0\n"); /* who leaves may */
    assert_non_null(world_last_request(w, "a", "REGISTER"));
    world_answer(w, "a", "REGISTER", 200, NULL);
    assert_int_equal(engine_counters(w->engine)->phones_moved, 1);
    world_free(w);
}

static void a_registered_phone_is_served_until_its_turn(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    struct flow_id flow = world_accept(w, 1, "bob");
    registers(w, flow, "bob", "Stubborn/1", "");
    world_answer(w, "a", "REGISTER", 200, NULL);
    world_command(w, CMD_DRAIN, "");
    registers(w, flow, "bob", "Stubborn/1", "");
    assert_int_not_equal(status_of(w, "bob"), 503);
    world_answer(w, "b", "REGISTER", 200, NULL);
    assert_int_equal(status_of(w, "bob"), 200);
    world_free(w);
}

static void who_leaves_may_say_so_at_the_contact(void **state)
{
    (void)state;
    struct world *w = world_with_moving(false);
    struct flow_id flow = world_accept(w, 1, "bob");
    world_command(w, CMD_DRAIN, "");
    char text[512];
    snprintf(text, sizeof text,
             "REGISTER sip:example.com SIP/2.0\n"
             "Via: SIP/2.0/TCP 192.168.1.9:5060;branch=z9hG4bK-gone\n"
             "From: <sip:bob@example.com>;tag=g\nTo: <sip:bob@example.com>\n"
             "Call-ID: gone\nCSeq: 1 REGISTER\nMax-Forwards: 70\n"
             "Contact: <sip:bob@192.168.1.9:5060>;expires=0\nExpires: 3600\n\n");
    world_tcp(w, flow, text);
    assert_non_null(world_last_request(w, "a", "REGISTER"));
    world_answer(w, "a", "REGISTER", 200, NULL);
    world_free(w);
}

/* A connection is known by the worker that holds it: the one that answers for the user does not
 * judge by what it does not know. */
static void who_is_handed_over_is_judged_once(void **state)
{
    (void)state;
    static const struct slice domains[] = {{"example.com", 11}};
    struct world *w[2];
    for (unsigned i = 0; i < 2; i++) {
        w[i] = world_plan();
        w[i]->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
        w[i]->opts.edge.registrar = (struct registrar_opts){.on = true,
                                                            .domains = domains,
                                                            .domain_count = 1,
                                                            .expires_max_s = 7200,
                                                            .expires_default_s = 3600,
                                                            .contacts_max = 4};
        w[i]->opts.limits.bindings = 16;
        w[i]->opts.edge.moving.within = 100 * NS_S;
        w[i]->worker = i;
        w[i]->workers = 2;
        world_start(w[i]);
    }
    struct hash_seed seed = {7, 8};
    unsigned owner = registrar_owner(&seed, SLICE("bob@example.com"), 2);
    struct world *o = w[owner], *x = w[1 - owner];
    struct flow_id flow = world_accept(x, 1, "bob");
    (void)world_accept(x, 1, "carol");
    registers(x, flow, "bob", "Stubborn/1", "");
    world_hand(x, o);
    world_hand(o, x);
    assert_int_equal(status_of(x, "bob"), 200);
    world_command(o, CMD_DRAIN, "");
    world_command(x, CMD_DRAIN, "");
    registers(x, flow, "bob", "Stubborn/1", "");
    world_hand(x, o);
    world_hand(o, x);
    assert_int_equal(status_of(x, "bob"), 200);
    world_free(o);
    world_free(x);
}

static void what_follows_is_learnt(void **state)
{
    (void)state;
    static const char *const users[] = {"u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"};
    struct world *w = world_with_moving(true);
    struct flow_id flow = world_accept(w, 1, "alice");
    world_command(w, CMD_DRAIN, "");
    unsigned sent = 0;
    for (unsigned i = 0; i < 8; i++) { /* each is sent away, and each comes back */
        registers(w, flow, users[i], "Unknown/7", "");
        if (status_of(w, "alice") != 302)
            continue;
        sent++;
        registers(w, flow, users[i], "Unknown/7", "");
        assert_int_equal(status_of(w, "alice"), 503);
    }
    assert_int_equal(sent, 4);
    world_free(w);
}

/* ---- recycling --------------------------------------------------------------------------------
 */

enum { PHONES = 40 };

static struct world *world_with_phones(dur_ns keepalive, dur_ns recycle_after)
{
    struct world *w = world_with_moving(false);
    w->opts.edge.keepalive = (struct edge_keepalive){
        .every = keepalive, .max = 2 * keepalive, .mobile_every = keepalive, .jitter_percent = 10};
    w->opts.edge.moving.recycle_after = recycle_after;
    w->opts.edge.moving.recycle_jitter_percent = 20;
    w->pool.target_count = 1;
    world_adopt(w, 0);
    for (unsigned i = 0; i < PHONES; i++) {
        registers(w, world_accept(w, 1, "alice"), "alice", "Phone/1", "");
        world_answer(w, "a", "REGISTER", 200, NULL);
    }
    world_forget(w);
    return w;
}

/* Phones that came together leave over all of after ± jitter, each once. */
static void phones_are_recycled(dur_ns keepalive, unsigned late_s)
{
    struct world *w = world_with_phones(keepalive, 600 * NS_S);
    char *options = world_request("OPTIONS", "sip:example.com", "bob", "no phone", NULL);
    world_tcp(w, world_accept(w, 1, "bob"), options); /* registers not */
    free(options);
    world_forget(w);
    world_run(w, 478 * 1000);
    assert_int_equal(closes(w), 0);
    world_run(w, 122 * 1000 + late_s * 500);
    assert_in_range(closes(w), PHONES / 2 - 8, PHONES / 2 + 8);
    world_run(w, 125 * 1000 + late_s * 1000);
    assert_int_equal(closes(w), PHONES);
    assert_int_equal(engine_counters(w->engine)->flows_moved, PHONES);
    world_free(w);
}

static void who_came_together_leaves_one_by_one(void **state)
{
    (void)state;
    phones_are_recycled(30 * NS_S, 60);
}

static void recycling_needs_no_keepalives(void **state)
{
    (void)state;
    phones_are_recycled(0, 0);
}

static void no_call_is_recycled(void **state)
{
    (void)state;
    struct world *w = world_with_phones(30 * NS_S, 0);
    struct flow_id flow = world_accept(w, 1, "bob");
    registers(w, flow, "bob", "Phone/1", "");
    world_answer(w, "a", "REGISTER", 200, NULL);
    char *invite = world_request("INVITE", "sip:carol@example.com", "bob", "call", NULL);
    world_tcp(w, flow, invite);
    free(invite);
    world_answer(w, "a", "INVITE", 200, NULL);
    w->opts.edge.moving.recycle_after = 60 * NS_S;
    world_adopt(w, 0);
    world_forget(w);
    world_run(w, 600 * 1000);
    assert_int_equal(closes(w), PHONES);
    char *bye = world_in_dialog(w, "bob", "a", true, "BYE", "bye");
    world_tcp(w, flow, bye);
    free(bye);
    world_answer(w, "a", "BYE", 200, NULL);
    world_run(w, 120 * 1000);
    assert_int_equal(closes(w), PHONES + 1);
    world_free(w);
}

/* The option comes when all are older than it says. */
static void many_who_are_too_old_do_not_leave_at_once(void **state)
{
    (void)state;
    struct world *w = world_with_phones(30 * NS_S, 0);
    world_run(w, 3600 * 1000);
    assert_int_equal(closes(w), 0);
    w->opts.edge.moving.recycle_after = 600 * NS_S;
    world_adopt(w, 0);
    world_run(w, 75 * 1000);
    assert_in_range(closes(w), 4, 4 + 75 / 3);
    world_run(w, 600 * 1000);
    assert_int_equal(closes(w), PHONES);
    world_free(w);
}

static void a_drain_recycles_nobody_twice(void **state)
{
    (void)state;
    struct world *w = world_with_phones(30 * NS_S, 600 * NS_S);
    world_command(w, CMD_DRAIN, "3600000");
    world_run(w, 800 * 1000);
    assert_in_range(closes(w), PHONES * 800 / 3600 - 1, PHONES * 800 / 3600 + 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phones_leave_at_an_even_pace),
        cmocka_unit_test(a_drain_can_be_called_off),
        cmocka_unit_test(a_call_stays),
        cmocka_unit_test(a_call_that_rings_stays),
        cmocka_unit_test(time_is_up_for_calls_too),
        cmocka_unit_test(who_follows_is_sent_elsewhere),
        cmocka_unit_test(a_registered_phone_is_served_until_its_turn),
        cmocka_unit_test(what_follows_is_learnt),
        cmocka_unit_test(who_came_together_leaves_one_by_one),
        cmocka_unit_test(recycling_needs_no_keepalives),
        cmocka_unit_test(no_call_is_recycled),
        cmocka_unit_test(many_who_are_too_old_do_not_leave_at_once),
        cmocka_unit_test(a_drain_recycles_nobody_twice),
        cmocka_unit_test(who_comes_back_takes_nobodys_turn),
        cmocka_unit_test(who_leaves_may_say_so_at_the_contact),
        cmocka_unit_test(who_is_handed_over_is_judged_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
