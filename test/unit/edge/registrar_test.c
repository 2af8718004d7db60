/* SPDX-License-Identifier: Apache-2.0
 *
 * The registrar inside the edge: REGISTER and its storing, calls to registered phones, forks.
 * covers: role.c, fork.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

static const struct slice domains[] = {{"example.com", 11}};

static struct world *plan(void)
{
    struct world *w = world_plan();
    w->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    w->opts.edge.registrar = (struct registrar_opts){.on = true,
                                                     .domains = domains,
                                                     .domain_count = 1,
                                                     .expires_min_s = 60,
                                                     .expires_max_s = 7200,
                                                     .expires_default_s = 3600,
                                                     .contacts_max = 40};
    w->opts.limits.bindings = 128;
    w->workers = 1;
    return w;
}

static struct world *fresh(void)
{
    struct world *w = plan();
    world_start(w);
    return w;
}

static void drained(struct world *w)
{
    world_drain(w, 600000);
    world_free(w);
}

/* REGISTER of service@example.com. `contact`: parameters behind the Contact; `extra`: lines. */
static char *registration(const char *from, const char *branch, const char *contact,
                          const char *extra)
{
    char *text = NULL;
    if (asprintf(&text,
                 "REGISTER sip:example.com SIP/2.0\n"
                 "Via: SIP/2.0/UDP phone.invalid;branch=z9hG4bK-r%s;rport\n"
                 "Max-Forwards: 70\n"
                 "From: <sip:service@example.com>;tag=r-%s\n"
                 "To: <sip:service@example.com>\n"
                 "Call-ID: reg-%s\n"
                 "CSeq: 1 REGISTER\n"
                 "Contact: <sip:%s@192.168.1.2:5060>%s\n"
                 "%s\n",
                 branch, branch, branch, from, contact, extra != NULL ? extra : "") < 0)
        fail_msg("no memory");
    return text;
}

static void register_tcp(struct world *w, struct flow_id flow, const char *user, const char *branch,
                         const char *contact)
{
    char *text = registration(user, branch, contact, "Supported: path, outbound\n");
    world_tcp(w, flow, text);
    free(text);
}

/* A phone on a connection of its own, registered; what that did is forgotten. */
static struct flow_id phone(struct world *w, const char *address, const char *branch,
                            const char *contact)
{
    struct flow_id flow = world_accept(w, 1, address);
    register_tcp(w, flow, address, branch, contact);
    const char *m = world_last(w, address);
    assert_non_null(m);
    if (strncmp(m, "SIP/2.0 200", 11) != 0)
        fail_msg("not registered: %s", m);
    world_forget(w);
    return flow;
}

static const char instance_one[] =
    ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";

static struct flow_id outbound(struct world *w, const char *address, const char *branch,
                               unsigned reg_id)
{
    char contact[200];
    snprintf(contact, sizeof contact, "%s;reg-id=%u", instance_one, reg_id);
    return phone(w, address, branch, contact);
}

static void answer_tag(struct world *w, const char *peer, int status)
{
    world_answer(w, peer, "INVITE", status, NULL);
}

/* ---- REGISTER -------------------------------------------------------------------------------- */

static void register_and_call(void **state)
{
    (void)state;
    struct world *w = fresh();
    w->show_log = true;
    struct flow_id bob = world_accept(w, 1, "bob");
    register_tcp(w, bob, "bob", "1", "");
    EXPECT(w, "0 store", "0 log REGISTER 200 -D 0", "0 tcp bob 200 REGISTER");
    const char *m = world_last(w, "bob");
    assert_true(
        world_has(world_header(m, "Contact", 0), "<sip:bob@192.168.1.2:5060>;expires=3600"));
    assert_true(world_has(world_header(m, "To", 0), ";tag=w."));
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp bob INVITE");
    m = world_last_request(w, "bob", "INVITE");
    assert_true(world_has(m, "INVITE sip:bob@192.168.1.2:5060 SIP/2.0\r\n"));
    assert_string_equal(world_header(m, "Max-Breadth", 0), "60");
    assert_string_equal(world_header(m, "Route", 0), "");
    assert_true(world_has(world_header(m, "Record-Route", 0), ";transport=tcp;lr>"));
    answer_tag(w, "bob", 180);
    answer_tag(w, "bob", 200);
    EXPECT(w, "0 udp0 alice 180 INVITE", "0 log INVITE 200 -D 1", "0 udp0 alice 200 INVITE");
    assert_int_equal(engine_load(w->engine).blocks, 0); /* nobody asks for anything again */
    char *text = world_in_dialog(w, "alice", "bob", true, "ACK", "a");
    world_udp(w, 0, "alice", text);
    free(text);
    EXPECT(w, "0 tcp bob ACK");
    text = world_in_dialog(w, "alice", "bob", false, "BYE", "b");
    world_tcp(w, bob, text);
    free(text);
    EXPECT(w, "0 udp0 alice BYE");
    world_answer(w, "alice", "BYE", 200, NULL);
    EXPECT(w, "0 log BYE 200 -D 1", "0 tcp bob 200 BYE");
    drained(w);
}

static void register_over_udp(void **state)
{
    (void)state;
    struct world *w = fresh();
    char *text = registration("bob", "1", "", NULL);
    world_udp(w, 0, "bob", text);
    EXPECT(w, "0 store", "0 udp0 bob 200 REGISTER");
    world_udp(w, 0, "bob", text); /* repeated: the same answer, nothing stored again */
    EXPECT(w, "0 udp0 bob 200 REGISTER");
    free(text);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp0 bob INVITE");
    answer_tag(w, "bob", 486);
    EXPECT(w, "0 udp0 bob ACK", "0 udp0 alice 486 INVITE");
    const char *ack = world_last_request(w, "bob", "ACK");
    const char *invite = world_last_request(w, "bob", "INVITE");
    assert_true(world_has(ack, "ACK sip:bob@192.168.1.2:5060 SIP/2.0"));
    assert_string_equal(world_header(ack, "Via", 0), world_header(invite, "Via", 0));
    answer_tag(w, "bob", 486);
    EXPECT(w, "0 udp0 bob ACK");
    world_ack(w, "alice", "1");
    drained(w);
}

/* RFC 7118 5: a WebSocket message is whole, and needs no Content-Length. */
static void register_over_websocket(void **state)
{
    (void)state;
    static const char text[] = "REGISTER sip:example.com SIP/2.0\r\n"
                               "Via: SIP/2.0/WSS x.invalid;branch=z9hG4bK-1\r\n"
                               "From: <sip:service@example.com>;tag=a\r\n"
                               "To: <sip:service@example.com>\r\n"
                               "Call-ID: 1\r\n"
                               "CSeq: 1 REGISTER\r\n"
                               "Contact: <sip:web@x.invalid;transport=ws>\r\n\r\n";
    struct world *w = fresh();
    struct flow_id web = world_accept(w, 1, "bob");
    struct event ev = {.kind = EV_MESSAGE,
                       .listener = 1,
                       .transport = TP_WSS,
                       .flow = web,
                       .source = world_peer("bob"),
                       .bytes = slice_of(text, sizeof text - 1)};
    world_step(w, &ev);
    EXPECT(w, "0 store", "0 tcp bob 200 REGISTER");
    drained(w);
}

/* An INVITE that was lost, or its 180, is repeated after the caller has left: a phone that rings
 * unheard is called back. */
static void cancel_while_nothing_is_heard(void **state)
{
    (void)state;
    struct world *w = fresh();
    char *text = registration("bob", "1", "", NULL);
    world_udp(w, 0, "bob", text);
    free(text);
    world_invite(w, "alice", "1");
    world_forget(w);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp0 alice 487 INVITE");
    world_ack(w, "alice", "1");
    world_run(w, 600);
    EXPECT(w, "500 udp0 bob INVITE");
    answer_tag(w, "bob", 180);
    EXPECT(w, "600 udp0 bob CANCEL");
    world_answer(w, "bob", "CANCEL", 200, NULL);
    answer_tag(w, "bob", 487);
    EXPECT(w, "600 udp0 bob ACK");
    drained(w);
}

/* The same when the caller's connection goes, and nobody is left to say CANCEL. */
static void caller_goes_while_nothing_is_heard(void **state)
{
    (void)state;
    struct world *w = fresh();
    char *text = registration("bob", "1", "", NULL);
    world_udp(w, 0, "bob", text);
    free(text);
    struct flow_id alice = world_accept(w, 1, "alice");
    text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    free(text);
    world_forget(w);
    world_close(w, alice, 104);
    world_run(w, 600);
    EXPECT(w, "500 udp0 bob INVITE");
    answer_tag(w, "bob", 180);
    EXPECT(w, "601 udp0 bob CANCEL");
    world_answer(w, "bob", "CANCEL", 200, NULL);
    answer_tag(w, "bob", 487);
    EXPECT(w, "601 udp0 bob ACK");
    drained(w);
}

static void nothing_is_acknowledged_that_is_not_stored(void **state)
{
    (void)state;
    struct world *w = plan();
    w->store_error = 28;
    w->show_log = true;
    world_start(w);
    struct flow_id bob = world_accept(w, 1, "bob");
    register_tcp(w, bob, "bob", "1", "");
    EXPECT(w, "0 store", "0 log REGISTER 500 RQ 0", "0 tcp bob 500 REGISTER");
    assert_true(world_has(world_last(w, "bob"), "500 Bindings Not Stored"));
    assert_int_equal(engine_counters(w->engine)->registrations_unstored, 1);
    assert_string_equal(world_header(world_last(w, "bob"), "Retry-After", 0), "10");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 log INVITE 404 PQ 0", "0 udp0 alice 404 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void a_silent_store(void **state)
{
    (void)state;
    struct world *w = plan();
    w->store_hangs = true;
    world_start(w);
    struct flow_id bob = world_accept(w, 1, "bob");
    register_tcp(w, bob, "bob", "1", "");
    EXPECT(w, "0 store");
    world_run(w, 5100);
    EXPECT(w, "5000 tcp bob 500 REGISTER");
    /* Late, but durable: it counts. */
    world_stored(w);
    EXPECT_NOTHING(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "5100 udp0 alice 100 INVITE", "5100 tcp bob INVITE");
    answer_tag(w, "bob", 486);
    world_ack(w, "alice", "1");
    drained(w);
}

static void a_store_that_never_answers(void **state)
{
    (void)state;
    struct world *w = plan();
    w->store_hangs = true;
    world_start(w);
    struct flow_id bob = world_accept(w, 1, "bob");
    register_tcp(w, bob, "bob", "1", "");
    world_run(w, 70000);
    assert_int_equal(engine_load(w->engine).relays, 0);
    world_stored(w);
    drained(w);
}

/* The phone is gone before its bindings are durable: they are stored, and end at once. */
static void a_flow_that_dies_while_storing(void **state)
{
    (void)state;
    struct world *w = plan();
    w->store_hangs = true;
    world_start(w);
    struct flow_id bob = world_accept(w, 1, "bob");
    register_tcp(w, bob, "bob", "1", "");
    world_close(w, bob, 104);
    EXPECT(w, "0 store");
    world_stored(w);
    EXPECT(w, "1 store end");
    world_invite(w, "alice", "1");
    EXPECT(w, "1 udp0 alice 100 INVITE", "1 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void strangers(void **state)
{
    (void)state;
    struct world *w = fresh();
    char *text = world_request("INVITE", "sip:bob@elsewhere.test", "alice", "1", NULL);
    world_udp(w, 0, "alice", text);
    free(text);
    EXPECT(w, "0 udp0 alice 404 INVITE");
    text = world_request("OPTIONS", "sip:example.com", "alice", "2", NULL);
    world_udp(w, 0, "alice", text);
    free(text);
    EXPECT(w, "0 udp0 alice 200 OPTIONS");
    world_send(w, "alice", "MESSAGE", "3", NULL);
    EXPECT(w, "0 udp0 alice 404 MESSAGE");
    drained(w);
}

static void query_and_unregister(void **state)
{
    (void)state;
    struct world *w = fresh();
    struct flow_id bob = phone(w, "bob", "1", "");
    world_command(w, CMD_SHOW_BINDINGS, "");
    assert_true(w->page_n > 0 && strstr(w->page, "service@example.com") != NULL);
    world_command(w, CMD_SHOW_BINDINGS, "nobody@example.com");
    assert_int_equal(w->page_n, 0);
    register_tcp(w, bob, "bob", "2", ";expires=0");
    EXPECT(w, "0 store", "0 tcp bob 200 REGISTER");
    assert_string_equal(world_header(world_last(w, "bob"), "Contact", 0), "");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void unbind_by_command(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    world_command(w, CMD_UNBIND, "sip:service@example.com");
    EXPECT(w, "0 store end");
    assert_string_equal(w->page, "{\"removed\":1,\"worker\":0}\n");
    world_command(w, CMD_UNBIND, "service@example.com");
    assert_string_equal(w->page, "{\"removed\":0,\"worker\":0}\n");
    drained(w);
}

static void bindings_expire(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", ";expires=60");
    world_run(w, 61000);
    assert_int_equal(w->line_count, 1);
    assert_true(world_has(w->line[0], "store end"));
    world_forget(w);
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "61000 udp0 alice 480 MESSAGE");
    drained(w);
}

/* ---- forks ----------------------------------------------------------------------------------- */

static void all_phones_ring_and_one_answers(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    phone(w, "carol", "2", "");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp carol INVITE", "0 tcp bob INVITE");
    assert_string_equal(world_header(world_last(w, "bob"), "Max-Breadth", 0), "30");
    assert_true(world_has(world_last(w, "bob"), "INVITE sip:bob@192.168.1.2:5060 "));
    assert_true(world_has(world_last(w, "carol"), "INVITE sip:carol@192.168.1.2:5060 "));
    answer_tag(w, "bob", 180);
    answer_tag(w, "carol", 180);
    EXPECT(w, "0 udp0 alice 180 INVITE", "0 udp0 alice 180 INVITE");
    answer_tag(w, "carol", 200);
    EXPECT(w, "0 udp0 alice 200 INVITE", "0 tcp bob CANCEL");
    assert_true(world_has(world_last(w, "bob"), "CANCEL sip:bob@192.168.1.2:5060 "));
    world_answer(w, "bob", "CANCEL", 200, NULL);
    answer_tag(w, "bob", 487);
    EXPECT(w, "0 tcp bob ACK");
    drained(w);
}

static void the_best_final_goes_up(void **state)
{
    (void)state;
    static const struct {
        int first, second, up;
    } rows[] = {{486, 404, 486}, {500, 486, 486}, {486, 500, 486}, {486, 401, 401},
                {302, 404, 302}, {503, 404, 404}, {408, 486, 486}, {503, 408, 480},
                {430, 430, 480}, {404, 603, 603}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = fresh();
        char want[64];
        phone(w, "bob", "1", "");
        phone(w, "carol", "2", "");
        world_invite(w, "alice", "1");
        answer_tag(w, "bob", rows[i].first);
        assert_false(world_has(world_last(w, "alice"), "SIP/2.0 4"));
        answer_tag(w, "carol", rows[i].second);
        snprintf(want, sizeof want, "SIP/2.0 %d ", rows[i].up);
        if (strncmp(world_last(w, "alice"), want, strlen(want)) != 0)
            fail_msg("%d and %d: %.20s", rows[i].first, rows[i].second, world_last(w, "alice"));
        world_ack(w, "alice", "1");
        drained(w);
    }
}

static void answer_challenge(struct world *w, const char *peer, int status, const char *lines)
{
    world_answer(w, peer, "INVITE", status, lines);
}

/* Whoever is to log in at several phones is told so by one answer (RFC 3261 16.7 step 7). */
static void the_challenges_of_all_go_up(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    phone(w, "carol", "2", "");
    phone(w, "elsewhere", "3", "");
    world_invite(w, "alice", "1");
    answer_challenge(w, "bob", 407,
                     "Proxy-Authenticate: Digest realm=\"b\", nonce=\"1\",\n algorithm=MD5\n");
    answer_challenge(w, "carol", 401,
                     "WWW-Authenticate: Digest realm=\"c\", nonce=\"2\"\n"
                     "X-Else: 1\n"
                     "proxy-authenticate: Digest realm=\"d\", nonce=\"3\"\n");
    answer_challenge(w, "elsewhere", 486, "WWW-Authenticate: Digest realm=\"e\", nonce=\"4\"\n");
    const char *up = world_last(w, "alice");
    assert_true(world_has(up, "SIP/2.0 407 "));
    assert_true(world_has(up, "\r\nProxy-Authenticate: Digest realm=\"b\", nonce=\"1\",\r\n algo"));
    assert_true(world_has(up, "\r\nWWW-Authenticate: Digest realm=\"c\", nonce=\"2\"\r\n"));
    assert_true(world_has(up, "\r\nproxy-authenticate: Digest realm=\"d\", nonce=\"3\"\r\n"));
    assert_false(world_has(up, "realm=\"e\""));
    assert_false(world_has(up, "X-Else"));
    world_ack(w, "alice", "1");
    drained(w);
}

/* A phone whose challenges would burst the answer adds those that fit, and none in part. */
static void the_challenges_are_bounded(void **state)
{
    (void)state;
    static const struct {
        unsigned lines;
        int nonce_bytes;
        const char *fits, *too_many;
    } rows[] = {{150, 4, "realm=\"80\"", "realm=\"96\""},
                {40, 400, "realm=\"10\"", "realm=\"20\""}};
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        struct world *w = fresh();
        char lines[32000];
        size_t n = 0;
        for (unsigned i = 0; i < rows[k].lines; i++)
            n += (size_t)snprintf(lines + n, sizeof lines - n,
                                  "WWW-Authenticate: Digest realm=\"%u\", nonce=\"%0*u\"\n", i,
                                  rows[k].nonce_bytes, i);
        phone(w, "bob", "1", "");
        phone(w, "carol", "2", "");
        world_invite(w, "alice", "1");
        answer_challenge(w, "bob", 401, "WWW-Authenticate: Digest realm=\"b\", nonce=\"1\"\n");
        answer_challenge(w, "carol", 401, lines);
        const char *up = world_last(w, "alice");
        assert_true(world_has(up, "SIP/2.0 401 "));
        assert_true(world_has(up, "realm=\"b\""));
        assert_true(world_has(up, rows[k].fits));
        assert_false(world_has(up, rows[k].too_many));
        assert_true(strlen(up) <= 8192);
        world_ack(w, "alice", "1");
        drained(w);
    }
}

static void a_6xx_ends_it(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", ";q=0.1");
    phone(w, "bob", "1", "");
    phone(w, "elsewhere", "3", "");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp elsewhere INVITE", "0 tcp bob INVITE");
    answer_tag(w, "elsewhere", 180);
    answer_tag(w, "bob", 603);
    EXPECT(w, "0 udp0 alice 180 INVITE", "0 tcp bob ACK", "0 tcp elsewhere CANCEL");
    answer_tag(w, "elsewhere", 487);
    EXPECT(w, "0 tcp elsewhere ACK", "0 udp0 alice 603 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void by_q_one_group_after_the_other(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", ";q=0.5");
    phone(w, "bob", "1", ";q=0.9");
    phone(w, "elsewhere", "3", ";q=0.5");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp bob INVITE");
    answer_tag(w, "bob", 180);
    answer_tag(w, "bob", 486);
    EXPECT(w, "0 udp0 alice 180 INVITE", "0 tcp bob ACK", "0 tcp elsewhere INVITE",
           "0 tcp carol INVITE");
    answer_tag(w, "carol", 404);
    answer_tag(w, "elsewhere", 200);
    EXPECT(w, "0 tcp carol ACK", "0 udp0 alice 200 INVITE");
    drained(w);
}

static void narrow_breadth_is_serial(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", "");
    phone(w, "bob", "1", "");
    world_send(w, "alice", "INVITE", "1", "Max-Breadth: 1\n");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp bob INVITE");
    assert_string_equal(world_header(world_last(w, "bob"), "Max-Breadth", 0), "1");
    answer_tag(w, "bob", 486);
    EXPECT(w, "0 tcp bob ACK", "0 tcp carol INVITE");
    answer_tag(w, "carol", 200);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    drained(w);
}

static void cancel_calls_everybody_back(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", "");
    phone(w, "bob", "1", "");
    world_invite(w, "alice", "1");
    answer_tag(w, "bob", 180);
    world_forget(w);
    world_cancel(w, "alice", "1"); /* of carol nothing was heard: nobody waits for her */
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 tcp bob CANCEL");
    answer_tag(w, "bob", 487);
    EXPECT(w, "0 tcp bob ACK", "0 udp0 alice 487 INVITE");
    answer_tag(w, "carol", 180);
    EXPECT(w, "0 tcp carol CANCEL");
    answer_tag(w, "carol", 487);
    EXPECT(w, "0 tcp carol ACK");
    world_ack(w, "alice", "1");
    drained(w);
}

static void a_message_goes_to_all(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", "");
    phone(w, "bob", "1", "");
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "0 tcp bob MESSAGE", "0 tcp carol MESSAGE");
    world_answer(w, "carol", "MESSAGE", 486, NULL);
    EXPECT_NOTHING(w);
    world_answer(w, "bob", "MESSAGE", 200, NULL);
    EXPECT(w, "0 udp0 alice 200 MESSAGE");
    drained(w);
}

static void more_phones_than_a_step_has_room_for(void **state)
{
    (void)state;
    struct world *w = fresh();
    char address[32], branch[8];
    for (unsigned i = 0; i < 32; i++) {
        snprintf(address, sizeof address, "203.0.113.9:%u", 1000 + i);
        snprintf(branch, sizeof branch, "%u", i);
        phone(w, address, branch, "");
    }
    w->batch_is_full = true;
    world_invite(w, "alice", "1");
    assert_true(w->line_count < STEP_ACTIONS_ROOM);
    world_run(w, 10);
    unsigned asked = 0;
    for (unsigned i = 0; i < w->line_count; i++)
        asked += strstr(w->line[i], "INVITE") != NULL && strstr(w->line[i], "tcp") != NULL;
    assert_int_equal(asked, 32);
    assert_string_equal(world_header(world_last(w, address), "Max-Breadth", 0), "1");
    for (unsigned i = 0; i < 32; i++) {
        snprintf(address, sizeof address, "203.0.113.9:%u", 1000 + i);
        answer_tag(w, address, 180);
    }
    world_forget(w);
    world_cancel(w, "alice", "1");
    world_run(w, 10);
    unsigned cancelled = 0;
    for (unsigned i = 0; i < w->line_count; i++)
        cancelled += strstr(w->line[i], "CANCEL") != NULL && strstr(w->line[i], "tcp") != NULL;
    assert_int_equal(cancelled, 32);
    drained(w);
}

/* ---- ways of one phone ----------------------------------------------------------------------- */

static void one_ringing_per_phone(void **state)
{
    (void)state;
    struct world *w = fresh();
    outbound(w, "bob", "1", 1);
    outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp carol INVITE");
    answer_tag(w, "carol", 180);
    answer_tag(w, "carol", 486);
    EXPECT(w, "0 udp0 alice 180 INVITE", "0 tcp carol ACK", "0 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

/* Busy is busy on every flow, whether it rang or not. */
static void busy_without_ringing(void **state)
{
    (void)state;
    struct world *w = fresh();
    outbound(w, "bob", "1", 1);
    outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    world_forget(w);
    answer_tag(w, "carol", 486);
    EXPECT(w, "0 tcp carol ACK", "0 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

/* A place that another phone leaves is not for the second flow of one that rings. */
static void a_free_place_is_for_no_second_way(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "elsewhere", "3", "");
    outbound(w, "bob", "1", 1);
    outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp carol INVITE", "0 tcp elsewhere INVITE");
    answer_tag(w, "elsewhere", 486);
    EXPECT(w, "0 tcp elsewhere ACK");
    answer_tag(w, "carol", 200);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    drained(w);
}

static void the_next_flow_after_430(void **state)
{
    (void)state;
    struct world *w = fresh();
    outbound(w, "bob", "1", 1);
    outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    world_forget(w);
    answer_tag(w, "carol", 430);
    EXPECT(w, "0 tcp carol ACK", "0 store end", "0 tcp bob INVITE");
    assert_int_equal(engine_counters(w->engine)->registrations, 2);
    assert_int_equal(engine_counters(w->engine)->calls_to_phones, 1);
    assert_int_equal(engine_counters(w->engine)->ways_failed, 1);
    answer_tag(w, "bob", 180);
    answer_tag(w, "bob", 200);
    EXPECT(w, "0 udp0 alice 180 INVITE", "0 udp0 alice 200 INVITE");
    drained(w);
}

static void the_next_flow_when_one_breaks(void **state)
{
    (void)state;
    struct world *w = fresh();
    outbound(w, "bob", "1", 1);
    struct flow_id second = outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    world_forget(w);
    world_close(w, second, 104); /* under the attempt */
    EXPECT(w, "0 store end", "0 tcp bob INVITE");
    answer_tag(w, "bob", 200);
    EXPECT(w, "1 udp0 alice 200 INVITE");
    drained(w);
}

static void a_flow_that_broke_before(void **state)
{
    (void)state;
    struct world *w = fresh();
    struct flow_id first = outbound(w, "bob", "1", 1);
    struct flow_id second = outbound(w, "carol", "2", 2);
    world_close(w, second, 104);
    EXPECT(w, "0 store end");
    world_invite(w, "alice", "1");
    EXPECT(w, "1 udp0 alice 100 INVITE", "1 tcp bob INVITE");
    world_close(w, first, 104);
    EXPECT(w, "1 store end", "1 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

/* Who rings on a connection that then breaks may come back; no other way rings beside. */
static void a_flow_that_breaks_while_ringing(void **state)
{
    (void)state;
    struct world *w = fresh();
    outbound(w, "bob", "1", 1);
    struct flow_id second = outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    answer_tag(w, "carol", 180);
    world_forget(w);
    world_close(w, second, 104);
    EXPECT(w, "0 store end");
    world_run(w, 2100);
    EXPECT(w, "2000 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void a_silent_flow_has_five_seconds(void **state)
{
    (void)state;
    struct world *w = fresh();
    outbound(w, "bob", "1", 1);
    outbound(w, "carol", "2", 2);
    world_invite(w, "alice", "1");
    world_forget(w);
    world_run(w, 5500);
    EXPECT(w, "5000 tcp bob INVITE");
    answer_tag(w, "carol", 180); /* too late */
    EXPECT(w, "5500 tcp carol CANCEL");
    answer_tag(w, "bob", 180);
    answer_tag(w, "bob", 200);
    EXPECT(w, "5500 udp0 alice 180 INVITE", "5500 udp0 alice 200 INVITE");
    answer_tag(w, "carol", 487);
    drained(w);
}

static void a_silent_phone_ends_after_timer_b(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    world_invite(w, "alice", "1");
    world_forget(w);
    world_run(w, 32100);
    EXPECT(w, "32000 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void timer_c_ends_endless_ringing(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    world_invite(w, "alice", "1");
    answer_tag(w, "bob", 180);
    world_forget(w);
    world_run(w, 185100);
    EXPECT(w, "185000 tcp bob CANCEL", "185000 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

/* The caller has cancelled; the phone has just answered: the caller hears of both. */
static void a_late_2xx_is_passed(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    world_invite(w, "alice", "1");
    world_forget(w);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp0 alice 487 INVITE");
    world_ack(w, "alice", "1");
    answer_tag(w, "bob", 200);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    drained(w);
}

/* Two phones answer at once: the second one's 2xx goes up, too. */
static void two_answers_at_once(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    phone(w, "carol", "2", "");
    world_invite(w, "alice", "1");
    answer_tag(w, "bob", 180);
    answer_tag(w, "carol", 180);
    world_forget(w);
    answer_tag(w, "bob", 200);
    EXPECT(w, "0 udp0 alice 200 INVITE", "0 tcp carol CANCEL");
    char *text = world_response(w, "carol", "INVITE", 200, "carol", NULL);
    world_tcp(w, world_flow_to(w, "carol"), text);
    free(text);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    drained(w);
}

/* An ACK by somebody who ignores Record-Route goes down the flow, never to the phone's address. */
static void ack_without_route(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", "");
    phone(w, "bob", "1", "");
    world_invite(w, "alice", "1");
    answer_tag(w, "carol", 200);
    world_forget(w);
    world_ack(w, "alice", "1");
    EXPECT(w, "0 tcp carol ACK");
    drained(w);
}

static void the_caller_leaves(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "carol", "2", "");
    phone(w, "bob", "1", "");
    struct flow_id alice = world_accept(w, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(w, alice, text);
    free(text);
    answer_tag(w, "bob", 180);
    world_forget(w);
    world_close(w, alice, 104);
    EXPECT(w, "0 tcp bob CANCEL");
    answer_tag(w, "carol", 100);
    EXPECT(w, "1 tcp carol CANCEL");
    drained(w);
}

/* RFC 4320: an answer after the asker's own timer F is of no use. */
static void a_message_that_nobody_takes(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    world_send(w, "alice", "MESSAGE", "1", NULL);
    world_forget(w);
    world_run(w, 40000);
    EXPECT_NOTHING(w);
    drained(w);
}

static void a_reload_under_a_fork(void **state)
{
    (void)state;
    struct world *w = fresh();
    phone(w, "bob", "1", "");
    phone(w, "carol", "2", "");
    world_invite(w, "alice", "1");
    answer_tag(w, "bob", 180);
    world_adopt(w, 0);
    world_command(w, CMD_SHOW_TRANSACTIONS, "");
    assert_non_null(strstr(w->page, "\"tries\":2"));
    world_command(w, CMD_SHOW_COUNTERS, "");
    assert_non_null(strstr(w->page, "\"bindings_now\":2"));
    world_forget(w);
    answer_tag(w, "carol", 486);
    answer_tag(w, "bob", 200);
    EXPECT(w, "0 tcp carol ACK", "0 udp0 alice 200 INVITE");
    drained(w);
}

/* Two phones behind one NAT with the same private address and port, each its own flow. */
static void equal_private_addresses(void **state)
{
    (void)state;
    struct world *w = fresh();
    struct flow_id one = world_accept(w, 1, "203.0.113.9:1001");
    struct flow_id two = world_accept(w, 1, "203.0.113.9:1002");
    static const char i1[] = ";+sip.instance=\"<urn:x:1>\";reg-id=1";
    static const char i2[] = ";+sip.instance=\"<urn:x:2>\";reg-id=1";
    register_tcp(w, one, "bob", "1", i1);
    register_tcp(w, two, "bob", "2", i2);
    world_forget(w);
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "0 tcp 203.0.113.9:1002 MESSAGE", "0 tcp 203.0.113.9:1001 MESSAGE");
    world_close(w, one, 104);
    /* The same NAT port, another phone: it is not rung in the first one's place. */
    struct flow_id reused = world_accept(w, 1, "203.0.113.9:1001");
    (void)reused;
    world_forget(w);
    world_send(w, "alice", "MESSAGE", "2", NULL);
    EXPECT(w, "1 tcp 203.0.113.9:1002 MESSAGE");
    drained(w);
}

/* A request too large for a datagram goes by a stream; where that is refused, by UDP after all. */
static void large_by_tcp_or_else_udp(void **state)
{
    (void)state;
    char *body = malloc(2000);
    char *text = registration("bob", "1", "", "Supported: path\nPath: <sip:10.1.0.99;lr>\n");
    struct world *w = plan();
    w->connects_fail = true;
    world_start(w);
    world_udp(w, 2, "proxy", text);
    free(text);
    world_forget(w);
    memset(body, 'x', 1999);
    body[1999] = '\0';
    char *extra = NULL;
    if (asprintf(&extra, "X-Large: %s\n", body) < 0)
        fail_msg("no memory");
    world_send(w, "alice", "INVITE", "1", extra);
    world_run(w, 1);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect proxy", "0 tcp proxy INVITE",
           "0 udp2 proxy INVITE");
    assert_true(world_has(world_header(world_last(w, "proxy"), "Route", 0), "10.1.0.99;lr"));
    answer_tag(w, "proxy", 486);
    world_ack(w, "alice", "1");
    free(extra);
    free(body);
    drained(w);
}

/* ---- other ways ------------------------------------------------------------------------------ */

static void register_inside(struct world *w, const char *branch, const char *path)
{
    char *text = registration("bob", branch, "", path);
    world_udp(w, 2, "proxy", text);
    free(text);
    if (strncmp(world_last(w, "proxy"), "SIP/2.0 200", 11) != 0)
        fail_msg("not registered: %s", world_last(w, "proxy"));
    world_forget(w);
}

static void by_path(void **state)
{
    (void)state;
    struct world *w = fresh();
    register_inside(w, "1",
                    "Supported: path\nPath: <sip:x@10.1.0.99:5060;lr;ob>, <sip:10.9.9.9;lr>\n");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 proxy INVITE");
    const char *m = world_last_request(w, "proxy", "INVITE");
    assert_true(world_has(world_header(m, "Route", 0), "<sip:x@10.1.0.99:5060;lr;ob>"));
    assert_true(world_has(world_header(m, "Route", 0), "<sip:10.9.9.9;lr>"));
    assert_true(world_has(m, "INVITE sip:bob@192.168.1.2:5060 "));
    answer_tag(w, "proxy", 430);
    EXPECT(w, "0 udp2 proxy ACK", "0 store end", "0 udp0 alice 480 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void by_a_path_with_a_name(void **state)
{
    (void)state;
    struct world *w = fresh();
    register_inside(w, "1", "Supported: path\nPath: <sip:edge.test;lr>\n");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 resolve edge.test:0/255");
    world_resolved(w, (const char *const[]){"proxy"}, 1);
    EXPECT(w, "0 udp2 proxy INVITE");
    answer_tag(w, "proxy", 486);
    EXPECT(w, "0 udp2 proxy ACK", "0 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    world_send(w, "alice", "MESSAGE", "2", NULL);
    world_forget(w);
    world_resolved(w, NULL, 0);
    EXPECT(w, "0 udp0 alice 480 MESSAGE");
    drained(w);
}

/* The names of several phones are asked for at the same time; the answers come in any order. */
static void by_paths_with_names(void **state)
{
    (void)state;
    struct world *w = fresh();
    register_inside(w, "1", "Supported: path\nPath: <sip:one.test;lr>\n");
    char *text = registration("carol", "2", "", "Supported: path\nPath: <sip:two.test;lr>\n");
    world_udp(w, 2, "proxy", text);
    free(text);
    world_forget(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 resolve two.test:0/255", "0 resolve one.test:0/255");
    uint64_t second = w->resolve_id_before;
    world_resolved(w, (const char *const[]){"a"}, 1);
    EXPECT(w, "0 udp2 a INVITE");
    world_resolved(w, (const char *const[]){"b"}, 1); /* twice: ignored */
    EXPECT_NOTHING(w);
    answer_tag(w, "a", 486);
    EXPECT(w, "0 udp2 a ACK"); /* the other one is still waited for */
    w->resolve_id = second;
    world_resolved(w, (const char *const[]){"b"}, 1);
    EXPECT(w, "0 udp2 b INVITE");
    assert_true(world_has(world_last(w, "a"), "sip:bob@"));
    assert_true(world_has(world_last_request(w, "b", "INVITE"), "INVITE sip:carol@"));
    answer_tag(w, "b", 404);
    EXPECT(w, "0 udp2 b ACK", "0 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

/* One name that nobody answers for keeps the call from ending for 64·T1, and no other phone. */
static void by_a_path_with_a_name_that_nobody_answers_for(void **state)
{
    (void)state;
    struct world *w = fresh();
    register_inside(w, "1", "Supported: path\nPath: <sip:one.test;lr>\n");
    phone(w, "carol", "2", "");
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp carol INVITE", "0 resolve one.test:0/255");
    answer_tag(w, "carol", 486);
    EXPECT(w, "0 tcp carol ACK");
    world_run(w, 32100);
    EXPECT(w, "32000 udp0 alice 486 INVITE");
    world_ack(w, "alice", "1");
    world_resolved(w, (const char *const[]){"b"}, 1);
    EXPECT_NOTHING(w);
    drained(w);
}

/* Phones that are silent are asked one after the other until Timer C, and no longer. */
static void silent_phones_have_one_deadline(void **state)
{
    (void)state;
    static const char *const names[] = {"bob", "carol", "elsewhere", "mallory", "a", "b", "c", "d"};
    struct world *w = fresh();
    for (unsigned i = 0; i < 8; i++) {
        char branch[8], q[16];
        snprintf(branch, sizeof branch, "%u", i);
        snprintf(q, sizeof q, ";q=0.%u", 9 - i);
        phone(w, names[i], branch, q);
    }
    world_invite(w, "alice", "1");
    world_run(w, 300000);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 tcp bob INVITE", "32000 tcp carol INVITE",
           "64000 tcp elsewhere INVITE", "96000 tcp mallory INVITE", "128000 tcp a INVITE",
           "160000 tcp b INVITE", "192000 udp0 alice 480 INVITE", "192500 udp0 alice 480 INVITE",
           "193500 udp0 alice 480 INVITE", "195500 udp0 alice 480 INVITE",
           "199500 udp0 alice 480 INVITE", "203500 udp0 alice 480 INVITE",
           "207500 udp0 alice 480 INVITE", "211500 udp0 alice 480 INVITE",
           "215500 udp0 alice 480 INVITE", "219500 udp0 alice 480 INVITE",
           "223500 udp0 alice 480 INVITE");
    drained(w);
}

/* ---- workers --------------------------------------------------------------------------------- */

/* w[owner]: whose service@example.com is; w[0] hears the phones. */
static unsigned two_workers(struct world *w[2])
{
    for (unsigned i = 0; i < 2; i++) {
        w[i] = plan();
        w[i]->worker = i;
        w[i]->workers = 2;
        world_start(w[i]);
    }
    struct hash_seed seed = {7, 8};
    return registrar_owner(&seed, SLICE("service@example.com"), 2);
}

static void on_the_worker_that_owns_the_name(void **state)
{
    (void)state;
    struct world *w[2];
    unsigned owner = two_workers(w), other = 1 - owner;
    struct world *o = w[owner], *x = w[other];
    struct flow_id bob = world_accept(x, 1, "bob");
    register_tcp(x, bob, "bob", "1", "");
    assert_int_equal(x->line_count, 1);
    assert_true(world_has(x->line[0], "REGISTER") && world_has(x->line[0], "hand"));
    world_forget(x);
    world_hand(x, o);
    assert_int_equal(o->line_count, 2); /* stored; the answer goes back */
    world_forget(o);
    world_hand(o, x);
    EXPECT(x, "0 tcp bob 200 REGISTER");

    world_invite(x, "alice", "1");
    world_forget(x);
    world_hand(x, o);
    assert_int_equal(o->line_count, 2);
    assert_string_equal(o->line[0], "0 udp0 alice 100 INVITE");
    world_forget(o);
    world_hand(o, x);
    EXPECT(x, "0 tcp bob INVITE");
    answer_tag(x, "bob", 486);
    world_forget(x);
    world_hand(x, o);
    assert_int_equal(o->line_count, 2); /* the ACK handed back, and the 486 */
    world_hand(o, x);
    EXPECT(x, "0 tcp bob ACK");
    assert_true(world_has(world_last(o, "alice"), "SIP/2.0 486"));
    world_forget(o);

    /* The ACK comes where the INVITE came. */
    char *text = world_request("ACK", "sip:service@example.com", "alice", "1", NULL);
    world_udp(x, 0, "alice", text);
    free(text);
    world_hand(x, o);
    world_run(o, 2000);
    EXPECT_NOTHING(o); /* no 486 again */
    world_forget(x);

    /* The connection ends: its worker says so. */
    world_close(x, bob, 104);
    assert_int_equal(x->line_count, 1);
    world_hand(x, o);
    EXPECT(o, "2000 store end");
    drained(o);
    drained(x);
}

static void a_remote_flow_that_breaks_under_an_attempt(void **state)
{
    (void)state;
    struct world *w[2];
    unsigned owner = two_workers(w), other = 1 - owner;
    struct world *o = w[owner], *x = w[other];
    struct flow_id first = world_accept(o, 1, "bob");
    char contact[200];
    snprintf(contact, sizeof contact, "%s;reg-id=1", instance_one);
    register_tcp(o, first, "bob", "1", contact);
    struct flow_id second = world_accept(x, 1, "carol");
    snprintf(contact, sizeof contact, "%s;reg-id=2", instance_one);
    register_tcp(x, second, "carol", "2", contact);
    world_hand(x, o);
    world_hand(o, x);
    world_forget(o);
    world_forget(x);
    world_invite(o, "alice", "1");
    world_hand(o, x);
    EXPECT(x, "0 tcp carol INVITE");
    world_forget(o);
    world_close(x, second, 104);
    world_hand(x, o);
    world_run(o, 1);
    EXPECT(o, "0 store end", "0 tcp bob INVITE");
    answer_tag(o, "bob", 486);
    world_ack(o, "alice", "1");
    drained(o);
    drained(x);
}

static void a_remote_caller_that_leaves(void **state)
{
    (void)state;
    struct world *w[2];
    unsigned owner = two_workers(w), other = 1 - owner;
    struct world *o = w[owner], *x = w[other];
    phone(o, "bob", "1", "");
    struct flow_id alice = world_accept(x, 1, "alice");
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    world_tcp(x, alice, text);
    free(text);
    world_hand(x, o);
    answer_tag(o, "bob", 180);
    world_hand(o, x);
    world_forget(o);
    world_close(x, alice, 104);
    world_hand(x, o);
    world_run(o, 1);
    EXPECT(o, "0 tcp bob CANCEL");
    answer_tag(o, "bob", 487);
    drained(o);
    drained(x);
}

/* A phone over UDP is heard by one worker, and its name is another's. */
static void a_phone_over_udp_on_another_worker(void **state)
{
    (void)state;
    struct world *w[2];
    unsigned owner = two_workers(w), other = 1 - owner;
    struct world *o = w[owner], *x = w[other];
    char *text = registration("bob", "1", "", NULL);
    world_udp(x, 0, "bob", text);
    free(text);
    world_hand(x, o);
    assert_int_equal(o->line_count, 3); /* store; who it is, to its worker; 200 */
    world_hand(o, x);
    world_forget(o);
    world_forget(x);
    world_invite(o, "alice", "1");
    assert_int_equal(o->line_count, 2);
    assert_true(world_has(o->line[1], "hand"));
    world_hand(o, x);
    EXPECT(x, "0 udp0 bob INVITE");
    /* The NAT gives its port to another phone, which registers: no call of the first one's. */
    world_run(x, 60000);
    world_run(o, 60000);
    text = registration("carol", "2", instance_one, NULL);
    world_udp(x, 0, "bob", text);
    free(text);
    world_hand(x, o);
    world_hand(o, x);
    world_forget(o);
    world_forget(x);
    world_send(o, "alice", "MESSAGE", "2", NULL);
    world_hand(o, x);
    assert_int_equal(x->line_count, 2); /* one is sent, one comes back */
    assert_true(world_has(world_last(x, "bob"), "MESSAGE sip:carol@"));
    world_hand(x, o);
    drained(o);
    drained(x);
}

/* Whoever is told of a connection's end first tells the others that one step has no room for. */
static void many_workers_hear_of_the_end(void **state)
{
    (void)state;
    struct world *w = plan();
    w->workers = 20;
    world_start(w);
    struct flow_id trunk = world_accept(w, 1, "bob");
    char uri[64], branch[8];
    for (unsigned i = 0; i < 14; i++) {
        snprintf(uri, sizeof uri, "sip:line%u@example.com", i);
        snprintf(branch, sizeof branch, "%u", i);
        char *text = world_request("MESSAGE", uri, "bob", branch, NULL);
        world_tcp(w, trunk, text);
        free(text);
    }
    for (unsigned i = 0; i < w->handed_count; i++)
        free(w->handed[i].p);
    uint64_t told = 0, handed = 0;
    for (unsigned i = 0; i < w->handed_count; i++)
        handed |= 1ULL << w->handed[i].worker;
    w->handed_count = 0;
    world_close(w, trunk, 104);
    assert_int_equal(w->handed_count, 8);
    for (unsigned i = 0; i < w->handed_count; i++) {
        struct hand head;
        memcpy(&head, w->handed[i].p, sizeof head);
        told |= 1ULL << w->handed[i].worker | head.arrived_wall_ns;
    }
    assert_true(told == handed);
    drained(w);
}

static void forget_hands(struct world *w)
{
    for (unsigned i = 0; i < w->handed_count; i++)
        free(w->handed[i].p);
    w->handed_count = 0;
}

/* Who hears a phone tells all others, once, and in bounded steps. */
static void many_workers_hear_of_a_phone(void **state)
{
    (void)state;
    struct world *w = plan(), *x = plan();
    w->workers = x->workers = 20;
    x->worker = 5;
    world_start(w);
    world_start(x);
    struct hand head = {.kind = HAND_PHONE,
                        .listener = 0,
                        .transport = TP_UDP,
                        .flow = {.slot = 77},
                        .source = world_peer("bob")};
    struct event ev = {.kind = EV_HANDED, .bytes = slice_of(&head, sizeof head)};
    uint64_t told = 0;
    world_step(w, &ev);
    assert_int_equal(w->handed_count, 8);
    for (unsigned i = 0; i < w->handed_count; i++) {
        struct hand copy;
        memcpy(&copy, w->handed[i].p, sizeof copy);
        told |= 1ULL << w->handed[i].worker | copy.arrived_wall_ns;
        assert_int_equal(copy.reserved, PHONES_ALONE);
        assert_int_equal(copy.flow.slot, 77);
    }
    assert_true(told == ((1ULL << 20) - 2));
    /* One of them tells the rest; no other repeats it. */
    memcpy(&head, w->handed[7].p, sizeof head);
    world_step(x, &ev);
    assert_int_equal(x->handed_count, 8);
    forget_hands(x);
    memcpy(&head, w->handed[0].p, sizeof head);
    world_step(x, &ev);
    assert_int_equal(x->handed_count, 0);
    forget_hands(w);
    head.reserved = 0; /* the same again is no news */
    world_step(w, &ev);
    assert_int_equal(w->handed_count, 0);
    drained(w);
    drained(x);
}

/* Each worker sees all of them, and takes its own. */
static void records_at_start(void **state)
{
    (void)state;
    struct world *w[2];
    struct world *before = plan();
    before->store_hangs = true;
    world_start(before);
    struct flow_id bob = world_accept(before, 1, "bob");
    char *text = registration("bob", "1", "", "Supported: path\nPath: <sip:10.1.0.99;lr>\n");
    actions_reset(before->out);
    world_tcp(before, bob, text);
    free(text);
    char records[4096];
    size_t n = 0;
    for (uint32_t i = 0; i < before->out->count; i++)
        if (before->out->a[i].kind == ACT_STORE) {
            const struct iovec *v = &before->out->iov[before->out->a[i].iov];
            n = v->iov_len;
            assert_true(n < sizeof records);
            memcpy(records, v->iov_base, n);
        }
    assert_true(n > 0);
    unsigned owner = two_workers(w);
    for (unsigned i = 0; i < 2; i++) {
        world_step(w[i], &(struct event){.kind = EV_BINDING, .bytes = slice_of(records, n)});
        world_command(w[i], CMD_SHOW_BINDINGS, "");
        assert_int_equal(w[i]->page_n > 0, i == owner);
    }
    world_stored(before);
    drained(before);
    drained(w[0]);
    drained(w[1]);
}

/* After a restart nobody was heard: what two bindings say of one address is not believed. */
static void records_that_contradict_each_other(void **state)
{
    (void)state;
    struct world *before = plan(), *w = plan();
    char records[2][2048];
    size_t n[2] = {0};
    before->store_hangs = true;
    world_start(before);
    world_start(w);
    for (unsigned k = 0; k < 2; k++) {
        char *text = registration(k == 0 ? "bob" : "carol", k == 0 ? "1" : "2",
                                  k == 0 ? "" : instance_one, NULL);
        world_udp(before, 0, "bob", text);
        free(text);
        for (uint32_t i = 0; i < before->out->count; i++)
            if (before->out->a[i].kind == ACT_STORE) {
                const struct iovec *v = &before->out->iov[before->out->a[i].iov];
                n[k] = v->iov_len;
                assert_true(n[k] < sizeof records[k]);
                memcpy(records[k], v->iov_base, n[k]);
            }
    }
    world_step(w, &(struct event){.kind = EV_BINDING, .bytes = slice_of(records[0], n[0])});
    world_send(w, "alice", "MESSAGE", "1", NULL);
    EXPECT(w, "0 udp0 bob MESSAGE"); /* one says so: he is there */
    world_step(w, &(struct event){.kind = EV_BINDING, .bytes = slice_of(records[1], n[1])});
    world_send(w, "alice", "MESSAGE", "2", NULL);
    EXPECT(w, "0 udp0 alice 480 MESSAGE");
    world_command(w, CMD_SHOW_BINDINGS, "");
    assert_non_null(strstr(w->page, "carol")); /* it may be true: they stay */
    char *text = registration("carol", "3", instance_one, NULL);
    world_udp(w, 0, "bob", text);
    free(text);
    world_forget(w);
    world_send(w, "alice", "MESSAGE", "3", NULL);
    EXPECT(w, "0 udp0 bob MESSAGE", "0 store end"); /* now it is known who is not there */
    assert_true(world_has(world_last(w, "bob"), "MESSAGE sip:carol@"));
    world_stored(before);
    drained(before);
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register_and_call),
        cmocka_unit_test(register_over_udp),
        cmocka_unit_test(register_over_websocket),
        cmocka_unit_test(cancel_while_nothing_is_heard),
        cmocka_unit_test(caller_goes_while_nothing_is_heard),
        cmocka_unit_test(nothing_is_acknowledged_that_is_not_stored),
        cmocka_unit_test(a_silent_store),
        cmocka_unit_test(a_store_that_never_answers),
        cmocka_unit_test(a_flow_that_dies_while_storing),
        cmocka_unit_test(strangers),
        cmocka_unit_test(query_and_unregister),
        cmocka_unit_test(unbind_by_command),
        cmocka_unit_test(bindings_expire),
        cmocka_unit_test(all_phones_ring_and_one_answers),
        cmocka_unit_test(the_best_final_goes_up),
        cmocka_unit_test(the_challenges_of_all_go_up),
        cmocka_unit_test(the_challenges_are_bounded),
        cmocka_unit_test(a_6xx_ends_it),
        cmocka_unit_test(by_q_one_group_after_the_other),
        cmocka_unit_test(narrow_breadth_is_serial),
        cmocka_unit_test(cancel_calls_everybody_back),
        cmocka_unit_test(a_message_goes_to_all),
        cmocka_unit_test(more_phones_than_a_step_has_room_for),
        cmocka_unit_test(one_ringing_per_phone),
        cmocka_unit_test(busy_without_ringing),
        cmocka_unit_test(a_free_place_is_for_no_second_way),
        cmocka_unit_test(the_next_flow_after_430),
        cmocka_unit_test(the_next_flow_when_one_breaks),
        cmocka_unit_test(a_flow_that_broke_before),
        cmocka_unit_test(a_flow_that_breaks_while_ringing),
        cmocka_unit_test(a_silent_flow_has_five_seconds),
        cmocka_unit_test(a_silent_phone_ends_after_timer_b),
        cmocka_unit_test(timer_c_ends_endless_ringing),
        cmocka_unit_test(a_late_2xx_is_passed),
        cmocka_unit_test(two_answers_at_once),
        cmocka_unit_test(ack_without_route),
        cmocka_unit_test(the_caller_leaves),
        cmocka_unit_test(a_message_that_nobody_takes),
        cmocka_unit_test(a_reload_under_a_fork),
        cmocka_unit_test(equal_private_addresses),
        cmocka_unit_test(large_by_tcp_or_else_udp),
        cmocka_unit_test(by_path),
        cmocka_unit_test(by_a_path_with_a_name),
        cmocka_unit_test(by_paths_with_names),
        cmocka_unit_test(by_a_path_with_a_name_that_nobody_answers_for),
        cmocka_unit_test(silent_phones_have_one_deadline),
        cmocka_unit_test(on_the_worker_that_owns_the_name),
        cmocka_unit_test(a_remote_flow_that_breaks_under_an_attempt),
        cmocka_unit_test(a_remote_caller_that_leaves),
        cmocka_unit_test(a_phone_over_udp_on_another_worker),
        cmocka_unit_test(many_workers_hear_of_the_end),
        cmocka_unit_test(many_workers_hear_of_a_phone),
        cmocka_unit_test(records_at_start),
        cmocka_unit_test(records_that_contradict_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
