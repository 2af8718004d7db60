/* SPDX-License-Identifier: Apache-2.0
 *
 * The way back to a phone: a REGISTER's Path or Contact, and that nothing which leads to one phone
 * ever reaches another.
 * covers: path.c, record.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

/* Two mappings of one NAT. */
static const char nat1[] = "203.0.113.9:40001", nat2[] = "203.0.113.9:40002";
static const char same_contact[] = "<sip:phone@192.168.1.9:5060>";

static void drained(struct world *w)
{
    world_drain(w, 250000);
    world_free(w);
}

static char *print(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *print(const char *format, ...)
{
    char *s;
    va_list args;
    va_start(args, format);
    if (vasprintf(&s, format, args) < 0)
        fail_msg("no memory");
    va_end(args);
    return s;
}

static unsigned serial;

/* REGISTER of a user. `extra`: header lines. */
static char *registration(const char *user, const char *contact, const char *extra)
{
    unsigned n = ++serial;
    return print("REGISTER sip:example.com SIP/2.0\n"
                 "Via: SIP/2.0/UDP 192.168.1.9:5060;branch=z9hG4bK-reg%u;rport\n"
                 "Max-Forwards: 70\n"
                 "From: <sip:%s@example.com>;tag=r%u\n"
                 "To: <sip:%s@example.com>\n"
                 "Call-ID: reg-%u@phone\n"
                 "CSeq: 1 REGISTER\n"
                 "Contact: %s\n"
                 "%s\n",
                 n, user, n, user, n, contact, extra);
}

/* Who of the pool got the last REGISTER. */
static const char *registrar_of(struct world *w)
{
    static const char *const names[] = {"a", "b", "c"};
    const char *last = NULL;
    unsigned at = 0;
    for (unsigned i = 0; i < 3; i++) {
        struct addr a = world_peer(names[i]);
        for (unsigned k = at; k < w->message_count; k++)
            if (addr_equal(&w->message[k].peer, &a) &&
                strncmp(w->message[k].p, "REGISTER ", 9) == 0) {
                at = k;
                last = names[i];
            }
    }
    assert_non_null(last);
    return last;
}

/* Registers a phone, over UDP (flow gen 0) or on its connection; the registrar says 200. What the
 * Path says comes back, to be freed. */
static char *registered(struct world *w, const char *address, struct flow_id flow, const char *user,
                        const char *contact, const char *extra)
{
    char *text = registration(user, contact, extra);
    if (flow.gen != 0)
        world_tcp(w, flow, text);
    else
        world_udp(w, 0, address, text);
    free(text);
    const char *registrar = registrar_of(w);
    char *path = print("%s", world_header(world_last_request(w, registrar, "REGISTER"), "Path", 0));
    world_answer(w, registrar, "REGISTER", 200, NULL);
    world_run(w, 40000);
    world_forget(w);
    world_restart_clock(w);
    return path;
}

/* A request from inside that follows a Path. */
static void call(struct world *w, const char *method, const char *route, const char *uri)
{
    unsigned n = ++serial;
    char *text = print("%s %s SIP/2.0\n"
                       "Via: SIP/2.0/UDP 10.1.0.99:5060;branch=z9hG4bK-call%u\n"
                       "Max-Forwards: 70\n"
                       "%s%s%s"
                       "From: <sip:caller@example.com>;tag=caller\n"
                       "To: <sip:phone@example.com>\n"
                       "Call-ID: call-%u@proxy\n"
                       "CSeq: 1 %s\n"
                       "Contact: <sip:caller@10.1.0.99:5060>\n\n",
                       method, uri, n, route[0] != '\0' ? "Route: " : "", route,
                       route[0] != '\0' ? "\n" : "", n, method);
    world_udp(w, 2, "proxy", text);
    free(text);
}

static void message(struct world *w, const char *route)
{
    call(w, "MESSAGE", route, "sip:phone@192.168.1.9:5060");
}

/* ---- Path ------------------------------------------------------------------------------------ */

static void path_names_the_connection(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow = world_accept(w, 1, "alice");
    char *path = registered(w, "alice", flow, "alice", same_contact, "");
    assert_true(strncmp(path, "<sip:", 5) == 0);
    assert_non_null(strstr(path, "@10.0.0.1:5060;lr;ob>"));
    message(w, path);
    EXPECT(w, "0 tcp alice MESSAGE");
    const char *m = world_last_request(w, "alice", "MESSAGE");
    assert_true(strncmp(m, "MESSAGE sip:phone@192.168.1.9:5060 SIP/2.0", 42) == 0);
    assert_string_equal(world_header(m, "Route", 0), "");
    world_answer(w, "alice", "MESSAGE", 200, NULL);
    EXPECT(w, "0 udp2 proxy 200 MESSAGE");
    free(path);
    drained(w);
}

static void path_names_the_address_over_udp(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *path = registered(w, nat1, FLOW_NONE, "alice", same_contact, "");
    message(w, path);
    EXPECT(w, "0 udp0 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    EXPECT(w, "0 udp2 proxy 200 MESSAGE");
    free(path);
    drained(w);
}

static void path_stands_on_top_once(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow = world_accept(w, 1, "alice");
    char *text = registration("alice", same_contact,
                              "Path: <sip:one.example.com;lr>\nSupported: path\n"
                              "Path: <sip:two.example.com;lr>\n");
    world_tcp(w, flow, text);
    free(text);
    EXPECT(w, "0 udp2 a REGISTER");
    world_unreachable(w, "a");
    EXPECT(w, "0 udp2 b REGISTER");
    const char *m = world_last_request(w, "b", "REGISTER");
    assert_non_null(strstr(world_header(m, "Path", 0), "@10.0.0.1:5060;lr;ob>"));
    assert_string_equal(world_header(m, "Path", 1), "<sip:one.example.com;lr>");
    assert_string_equal(world_header(m, "Path", 2), "<sip:two.example.com;lr>");
    assert_string_equal(world_header(m, "Path", 3), "");
    assert_string_equal(world_header(m, "Supported", 0), "path");
    world_answer(w, "b", "REGISTER", 200, NULL);
    EXPECT(w, "1 tcp alice 200 REGISTER");
    drained(w);
}

static void no_path_when_off_or_from_inside(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.edge.path = PATH_OFF;
    w->rule[0].from = RULE_ANY;
    world_start(w);
    char *path = registered(w, nat1, FLOW_NONE, "alice", same_contact, "");
    assert_string_equal(path, "");
    free(path);
    w->opts.edge.path = PATH_HEADER;
    world_adopt(w, 0);
    char *text = registration("alice", same_contact, "");
    world_udp(w, 2, "proxy", text);
    free(text);
    assert_string_equal(world_header(world_last_request(w, registrar_of(w), "REGISTER"), "Path", 0),
                        "");
    world_answer(w, registrar_of(w), "REGISTER", 200, NULL);
    drained(w);
}

/* ---- the wrong phone ------------------------------------------------------------------------- */

static void equal_private_addresses_over_udp(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *one = registered(w, nat1, FLOW_NONE, "alice", same_contact, "");
    char *two = registered(w, nat2, FLOW_NONE, "bob", same_contact, "");
    message(w, one);
    EXPECT(w, "0 udp0 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    world_forget(w);
    message(w, two);
    EXPECT(w, "0 udp0 203.0.113.9:40002 MESSAGE");
    world_answer(w, nat2, "MESSAGE", 200, NULL);
    free(one);
    free(two);
    drained(w);
}

static void equal_private_addresses_over_tcp(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow1 = world_accept(w, 1, nat1), flow2 = world_accept(w, 1, nat2);
    char *one = registered(w, nat1, flow1, "alice", same_contact, "");
    char *two = registered(w, nat2, flow2, "bob", same_contact, "");
    message(w, two);
    EXPECT(w, "0 tcp 203.0.113.9:40002 MESSAGE");
    world_answer(w, nat2, "MESSAGE", 200, NULL);
    world_forget(w);
    message(w, one);
    EXPECT(w, "0 tcp 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    free(one);
    free(two);
    drained(w);
}

/* The old mapping has timed out, and the NAT gave its port to bob's phone. */
static void nat_gives_a_port_to_another_phone(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *one = registered(w, nat1, FLOW_NONE, "alice", same_contact, "");
    char *two = registered(w, nat1, FLOW_NONE, "bob", same_contact, "");
    message(w, one);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE");
    message(w, two);
    EXPECT(w, "0 udp0 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    assert_int_equal(engine_counters(w->engine)->flows_failed, 1);
    free(one);
    free(two);
    drained(w);
}

/* Not believed before the registrar has said so: an address can be forged in a datagram. */
static void refused_registration_takes_no_port(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *path = registered(w, nat1, FLOW_NONE, "alice", same_contact, "");
    char *text = registration("bob", same_contact, "");
    world_udp(w, 0, nat1, text);
    free(text);
    world_answer(w, registrar_of(w), "REGISTER", 401, NULL);
    world_run(w, 40000);
    world_forget(w);
    world_restart_clock(w);
    message(w, path);
    EXPECT(w, "0 udp0 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    free(path);
    drained(w);
}

/* One phone, two lines, one socket: told by the instance, or by there being no silence. */
static void two_lines_of_one_phone(void **state)
{
    (void)state;
    static const char with[] = "<sip:phone@192.168.1.9:5060>;+sip.instance=\"<urn:uuid:1>\"";
    struct world *w = world_new();
    char *one = registered(w, nat1, FLOW_NONE, "alice", with, "");
    char *two = registered(w, nat1, FLOW_NONE, "bob", with, "");
    message(w, one);
    message(w, two);
    EXPECT(w, "0 udp0 203.0.113.9:40001 MESSAGE", "0 udp0 203.0.113.9:40001 MESSAGE");
    char *text1 = registration("carol", same_contact, ""),
         *text2 = registration("dave", same_contact, "");
    char *paths[2];
    world_udp(w, 0, nat2, text1);
    paths[0] =
        print("%s", world_header(world_last_request(w, registrar_of(w), "REGISTER"), "Path", 0));
    world_answer(w, registrar_of(w), "REGISTER", 200, NULL);
    world_run(w, 20000);
    world_udp(w, 0, nat2, text2);
    paths[1] =
        print("%s", world_header(world_last_request(w, registrar_of(w), "REGISTER"), "Path", 0));
    world_answer(w, registrar_of(w), "REGISTER", 200, NULL);
    world_run(w, 60000);
    world_forget(w);
    world_restart_clock(w);
    message(w, paths[0]);
    message(w, paths[1]);
    EXPECT(w, "0 udp0 203.0.113.9:40002 MESSAGE", "0 udp0 203.0.113.9:40002 MESSAGE");
    free(text1);
    free(text2);
    free(paths[0]);
    free(paths[1]);
    free(one);
    free(two);
    drained(w);
}

/* Somebody's proxy at one address: all of its phones are behind it. At a second try of ours it is
 * still the proxy, and not our own Via that makes it one. */
static void phones_behind_a_proxy(void **state)
{
    (void)state;
    static const char *const users[] = {"alice", "bob"};
    struct world *w = world_new();
    char *paths[4];
    for (unsigned i = 0; i < 4; i++) {
        char *contact = print("%s;+sip.instance=\"<urn:uuid:%u>\"", same_contact, i);
        char *text = registration(users[i % 2], contact, "Via: SIP/2.0/UDP 10.9.9.9\n");
        if (i >= 2) { /* and two phones of their own elsewhere */
            char *via = strstr(text, "Via: SIP/2.0/UDP 10.9.9.9\n");
            memmove(via, strchr(via, '\n') + 1, strlen(strchr(via, '\n')));
        }
        world_udp(w, 0, i < 2 ? nat1 : nat2, text);
        world_unreachable(w, registrar_of(w));
        const char *registrar = registrar_of(w);
        paths[i] =
            print("%s", world_header(world_last_request(w, registrar, "REGISTER"), "Path", 0));
        world_answer(w, registrar, "REGISTER", 200, NULL);
        world_run(w, 1000);
        free(text);
        free(contact);
    }
    world_run(w, 40000);
    world_forget(w);
    world_restart_clock(w);
    message(w, paths[0]);
    message(w, paths[1]);
    EXPECT(w, "0 udp0 203.0.113.9:40001 MESSAGE", "0 udp0 203.0.113.9:40001 MESSAGE");
    message(w, paths[2]);
    message(w, paths[3]);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE", "0 udp0 203.0.113.9:40002 MESSAGE");
    for (unsigned i = 0; i < 4; i++)
        free(paths[i]);
    drained(w);
}

static void reconnect_from_the_same_port(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow = world_accept(w, 1, nat1);
    char *old = registered(w, nat1, flow, "alice", same_contact, "");
    world_close(w, flow, 104);
    world_forget(w);
    world_restart_clock(w);
    message(w, old);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE");
    flow = world_accept(w, 1, nat1);
    message(w, old);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE");
    char *new = registered(w, nat1, flow, "alice", same_contact, "");
    message(w, old);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE");
    message(w, new);
    EXPECT(w, "0 tcp 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    free(old);
    free(new);
    drained(w);
}

static void forged_and_foreign_tokens(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow = world_accept(w, 1, nat1);
    char *paths[2] = {registered(w, nat1, flow, "alice", same_contact, ""),
                      registered(w, nat2, FLOW_NONE, "bob", same_contact, "")};
    for (unsigned k = 0; k < 2; k++) {
        size_t end = (size_t)(strchr(paths[k], '@') - paths[k]);
        for (size_t i = 5; i < end; i++) {
            char was = paths[k][i];
            paths[k][i] = was == 'A' ? 'B' : 'A';
            message(w, paths[k]);
            EXPECT(w, "0 udp2 proxy 430 MESSAGE");
            paths[k][i] = was;
        }
    }
    assert_int_equal(token_key_init(&w->opts.edge.keys.key[0], SLICE("a key of somebody else")), 0);
    world_adopt(w, 0);
    message(w, paths[0]);
    message(w, paths[1]);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE", "0 udp2 proxy 430 MESSAGE");
    free(paths[0]);
    free(paths[1]);
    drained(w);
}

static void keys_rotate_while_flows_live(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow = world_accept(w, 1, nat1);
    char *path = registered(w, nat1, flow, "alice", same_contact, "");
    w->opts.edge.keys.key[1] = w->opts.edge.keys.key[0];
    w->opts.edge.keys.count = 2;
    assert_int_equal(token_key_init(&w->opts.edge.keys.key[0], SLICE("the key of next month")), 0);
    world_adopt(w, 0);
    message(w, path);
    EXPECT(w, "0 tcp 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    char *new = registered(w, nat1, flow, "alice", same_contact, "");
    assert_string_not_equal(path, new);
    message(w, new);
    EXPECT(w, "0 tcp 203.0.113.9:40001 MESSAGE");
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    free(path);
    free(new);
    drained(w);
}

/* Its worker knows whether that phone is still there. */
static void phone_of_another_worker(void **state)
{
    (void)state;
    struct world *w = world_new(), *other = world_plan();
    other->worker = 1;
    world_start(other);
    char *one = registered(other, nat1, FLOW_NONE, "alice", same_contact, "");
    message(w, one);
    EXPECT(w, "0 hand 1 MESSAGE");
    world_hand(w, other);
    EXPECT(other, "0 udp0 203.0.113.9:40001 MESSAGE");
    char *two = registered(other, nat1, FLOW_NONE, "bob", same_contact, "");
    message(w, one);
    EXPECT(w, "0 hand 1 MESSAGE");
    world_hand(w, other);
    EXPECT(other, "0 hand 0 MESSAGE");
    world_hand(other, w);
    world_run(w, 1);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE");
    free(one);
    free(two);
    drained(other);
    drained(w);
}

/* ---- from outside ---------------------------------------------------------------------------- */

static void from_outside(struct world *w, const char *from, struct flow_id flow, const char *route)
{
    unsigned n = ++serial;
    char *text = print("MESSAGE sip:service@example.com SIP/2.0\n"
                       "Via: SIP/2.0/TCP 192.168.1.9:5060;branch=z9hG4bK-out%u\n"
                       "Max-Forwards: 70\n"
                       "Route: %s\n"
                       "From: <sip:alice@example.com>;tag=x\n"
                       "To: <sip:service@example.com>\n"
                       "Call-ID: out-%u\n"
                       "CSeq: 1 MESSAGE\n\n",
                       n, route, n);
    if (flow.gen != 0)
        world_tcp(w, flow, text);
    else
        world_udp(w, 0, from, text);
    free(text);
}

static void a_phone_may_name_its_own_flow_only(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->pool.target_count = 1;
    world_start(w);
    struct flow_id flow = world_accept(w, 1, nat1), bobs = world_accept(w, 1, nat2);
    char *alice = registered(w, nat1, flow, "alice", same_contact, "");
    char *bob = registered(w, nat2, bobs, "bob", same_contact, "");
    char *carol = registered(w, "carol", FLOW_NONE, "carol", same_contact, "");
    from_outside(w, nat1, flow, alice);
    EXPECT(w, "0 udp2 a MESSAGE");
    assert_string_equal(world_header(world_last_request(w, "a", "MESSAGE"), "Route", 0), "");
    from_outside(w, "carol", FLOW_NONE, carol);
    EXPECT(w, "0 udp2 a MESSAGE");
    from_outside(w, nat2, bobs, alice);
    EXPECT(w, "0 tcp 203.0.113.9:40002 403 MESSAGE");
    from_outside(w, "mallory", FLOW_NONE, alice);
    from_outside(w, "mallory", FLOW_NONE, carol);
    EXPECT(w, "0 udp0 mallory 403 MESSAGE", "0 udp0 mallory 403 MESSAGE");
    free(alice);
    free(bob);
    free(carol);
    drained(w);
}

/* ---- dialogs --------------------------------------------------------------------------------- */

/* BYE of a call that the proxy began, in either direction. */
static void bye(struct world *w, bool by_caller, struct flow_id flow, const char *rr0,
                const char *rr1)
{
    unsigned n = ++serial;
    char *text = print("BYE %s SIP/2.0\n"
                       "Via: SIP/2.0/UDP x;branch=z9hG4bK-bye%u\n"
                       "Max-Forwards: 70\n"
                       "Route: %s, %s\n"
                       "From: %s\nTo: %s\n"
                       "Call-ID: call-dialog\n"
                       "CSeq: 2 BYE\n\n",
                       by_caller ? "sip:phone@192.168.1.9:5060" : "sip:caller@10.1.0.99:5060", n,
                       by_caller ? rr1 : rr0, by_caller ? rr0 : rr1,
                       by_caller ? "<sip:c@x>;tag=caller" : "<sip:p@x>;tag=phone",
                       by_caller ? "<sip:p@x>;tag=phone" : "<sip:c@x>;tag=caller");
    if (by_caller)
        world_udp(w, 2, "proxy", text);
    else
        world_tcp(w, flow, text);
    free(text);
}

static void invite(struct world *w, const char *route)
{
    char *text = print("INVITE sip:phone@192.168.1.9:5060 SIP/2.0\n"
                       "Via: SIP/2.0/UDP 10.1.0.99:5060;branch=z9hG4bK-dialog%u\n"
                       "Max-Forwards: 70\n"
                       "Route: %s\n"
                       "From: <sip:c@x>;tag=caller\nTo: <sip:p@x>\n"
                       "Call-ID: call-dialog\nCSeq: 1 INVITE\n"
                       "Contact: <sip:caller@10.1.0.99:5060>\n\n",
                       ++serial, route);
    world_udp(w, 2, "proxy", text);
    free(text);
}

static void dialog_comes_back_down_the_callees_flow(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id flow = world_accept(w, 1, nat1);
    char *path = registered(w, nat1, flow, "alice", same_contact, "");
    invite(w, path);
    EXPECT(w, "0 udp2 proxy 100 INVITE", "0 tcp 203.0.113.9:40001 INVITE");
    const char *m = world_last_request(w, nat1, "INVITE");
    char *rr0 = print("%s", world_header(m, "Record-Route", 0));
    char *rr1 = print("%s", world_header(m, "Record-Route", 1));
    assert_non_null(strstr(rr0, "@192.0.2.1:5060;transport=tcp;lr>"));
    assert_non_null(strstr(rr1, "@10.0.0.1:5060;lr>"));
    world_answer(w, nat1, "INVITE", 200, NULL);
    EXPECT(w, "0 udp2 proxy 200 INVITE");
    bye(w, true, flow, rr0, rr1);
    EXPECT(w, "0 tcp 203.0.113.9:40001 BYE");
    world_answer(w, nat1, "BYE", 200, NULL);
    EXPECT(w, "0 udp2 proxy 200 BYE");
    bye(w, false, flow, rr0, rr1);
    EXPECT(w, "0 udp2 proxy BYE");
    world_answer(w, "proxy", "BYE", 200, NULL);
    EXPECT(w, "0 tcp 203.0.113.9:40001 200 BYE");
    world_close(w, flow, 0);
    world_forget(w);
    flow = world_accept(w, 1, nat1);
    bye(w, true, flow, rr0, rr1);
    EXPECT(w, "1 udp2 proxy 430 BYE");
    free(rr0);
    free(rr1);
    free(path);
    drained(w);
}

static void dialog_with_a_phone_over_udp(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *path = registered(w, nat1, FLOW_NONE, "alice", same_contact, "");
    invite(w, path);
    const char *m = world_last_request(w, nat1, "INVITE");
    char *rr0 = print("%s", world_header(m, "Record-Route", 0));
    char *rr1 = print("%s", world_header(m, "Record-Route", 1));
    world_answer(w, nat1, "INVITE", 200, NULL);
    world_forget(w);
    bye(w, true, FLOW_NONE, rr0, rr1);
    EXPECT(w, "0 udp0 203.0.113.9:40001 BYE");
    world_answer(w, nat1, "BYE", 200, NULL);
    /* Another phone has the port now. */
    char *other = registered(w, nat1, FLOW_NONE, "bob", same_contact, "");
    bye(w, true, FLOW_NONE, rr0, rr1);
    EXPECT(w, "0 udp2 proxy 430 BYE");
    free(rr0);
    free(rr1);
    free(other);
    free(path);
    drained(w);
}

/* ---- registrars without Path ----------------------------------------------------------------- */

static struct world *contact_world(void)
{
    struct world *w = world_plan();
    w->opts.edge.path = PATH_CONTACT;
    world_start(w);
    return w;
}

/* The URI between <>. */
static char *uri_of(const char *value)
{
    const char *open = strchr(value, '<'), *end = strchr(value, '>');
    assert_true(open != NULL && end != NULL);
    return print("%.*s", (int)(end - open - 1), open + 1);
}

static void contact_stands_for_what_the_phone_wrote(void **state)
{
    (void)state;
    struct world *w = contact_world();
    struct flow_id flow = world_accept(w, 1, nat1);
    char *text = registration("alice",
                              "\"Al\" <sip:alice@192.168.1.9:5060;ob>;expires=600;q=0.5, "
                              "sip:al@192.168.1.9;expires=60, <tel:+123>",
                              "");
    world_tcp(w, flow, text);
    free(text);
    EXPECT(w, "0 udp2 a REGISTER");
    world_unreachable(w, "a"); /* at the second try it is not written twice */
    EXPECT(w, "0 udp2 b REGISTER");
    const char *m = world_last_request(w, "b", "REGISTER");
    assert_string_equal(world_header(m, "Path", 0), "");
    char *contact = print("%s", world_header(m, "Contact", 0));
    assert_true(strncmp(contact, "\"Al\" <sip:", 10) == 0);
    assert_non_null(strstr(contact, "@10.0.0.1:5060;wc="));
    assert_non_null(strstr(contact, ">;expires=600;q=0.5"));
    assert_non_null(strstr(contact, ">;expires=60, <tel:+123>"));
    assert_null(strstr(contact, "192.168.1.9"));
    char *uri = uri_of(contact);
    char *extra = print("Contact: %s\n", contact);
    world_answer(w, "b", "REGISTER", 200, extra);
    EXPECT(w, "1 tcp 203.0.113.9:40001 200 REGISTER");
    assert_string_equal(world_header(world_last(w, nat1), "Contact", 1),
                        "\"Al\" <sip:alice@192.168.1.9:5060;ob>;expires=600;q=0.5, "
                        "<sip:al@192.168.1.9>;expires=60, <tel:+123>");
    call(w, "MESSAGE", "", uri);
    EXPECT(w, "1 tcp 203.0.113.9:40001 MESSAGE");
    const char *out = world_last_request(w, nat1, "MESSAGE");
    assert_true(strncmp(out, "MESSAGE sip:alice@192.168.1.9:5060;ob SIP/2.0", 45) == 0);
    world_answer(w, nat1, "MESSAGE", 200, NULL);
    world_close(w, flow, 0);
    world_forget(w);
    call(w, "MESSAGE", "", uri);
    EXPECT(w, "2 udp2 proxy 430 MESSAGE");
    free(uri);
    free(contact);
    free(extra);
    drained(w);
}

/* A Contact that is of ours by its look only. */
static void forged_contacts(void **state)
{
    (void)state;
    struct world *w = contact_world();
    struct flow_id flow = world_accept(w, 1, nat1);
    char *text = registration("alice", same_contact, "");
    world_tcp(w, flow, text);
    free(text);
    char *uri = uri_of(world_header(world_last_request(w, "a", "REGISTER"), "Contact", 0));
    world_answer(w, "a", "REGISTER", 200, NULL);
    world_run(w, 40000);
    world_forget(w);
    world_restart_clock(w);
    size_t end = (size_t)(strchr(uri, '@') - uri);
    for (size_t i = 4; i < end; i += 7) {
        char was = uri[i];
        uri[i] = was == 'A' ? 'B' : 'A';
        call(w, "MESSAGE", "", uri);
        EXPECT(w, "0 udp2 proxy 430 MESSAGE");
        uri[i] = was;
    }
    /* What it stands for cannot break out of the line: CR LF, ">", nothing, no URI. */
    static const char *const bad[] = {"c2lwOmENCkI6Yw", "c2lwOmE-Yg", "", "AAAA", "!"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *other = print("%.*swc=%s", (int)(strstr(uri, "wc=") - uri), uri, bad[i]);
        call(w, "MESSAGE", "", other);
        EXPECT(w, "0 udp2 proxy 430 MESSAGE");
        free(other);
    }
    free(uri);
    drained(w);
}

static void star_is_left_alone(void **state)
{
    (void)state;
    struct world *w = contact_world();
    char *text = registration("alice", "*", "Expires: 0\n");
    world_udp(w, 0, nat1, text);
    free(text);
    assert_string_equal(world_header(world_last_request(w, "a", "REGISTER"), "Contact", 0), "*");
    world_answer(w, "a", "REGISTER", 200, NULL);
    drained(w);
}

static void too_many_contacts(void **state)
{
    (void)state;
    struct world *w = contact_world();
    char list[4096] = "<sip:a@1.1.1.1>";
    for (unsigned i = 0; i < 40; i++)
        strcat(list, ", <sip:a@1.1.1.1>");
    char *text = registration("alice", list, "");
    world_udp(w, 0, nat1, text);
    free(text);
    EXPECT(w, "0 udp0 203.0.113.9:40001 403 REGISTER");
    drained(w);
}

/* What cannot be written over does not reach the registrar: it would call there. */
static void contacts_that_would_stay(void **state)
{
    (void)state;
    struct world *w = contact_world();
    char long_one[1100] = "<sip:x@10.0.0.9;p=";
    memset(long_one + strlen(long_one), 'a', 1050);
    strcat(long_one, ">");
    const char *const bad[] = {long_one, "<sip:x@10.0.0.9:99999>", "<sip:x@>",
                               "<sip:a@192.168.1.9>, <sip:x@10.0.0.9:99999>"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text = registration("alice", bad[i], "");
        world_udp(w, 0, nat1, text);
        free(text);
        EXPECT(w, "0 udp0 203.0.113.9:40001 403 REGISTER");
        world_forget(w);
    }
    drained(w);
}

/* Where we write no Path, nobody outside writes one either. */
static void path_of_an_outsider(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        struct world *w = world_plan();
        w->opts.edge.path = mode == 0 ? PATH_CONTACT : PATH_OFF;
        world_start(w);
        char *text =
            registration("alice", same_contact, "Path: <sip:10.0.0.9;lr>\nPath: <sip:b;lr>\n");
        world_udp(w, 0, nat1, text);
        EXPECT(w, "0 udp2 a REGISTER");
        world_unreachable(w, "a");
        EXPECT(w, "0 udp2 b REGISTER");
        const char *m = world_last_request(w, "b", "REGISTER");
        assert_string_equal(world_header(m, "Path", 0), "");
        world_answer(w, "b", "REGISTER", 200, NULL);
        free(text);
        drained(w);
    }
}

/* ---- fleet ----------------------------------------------------------------------------------- */

static const struct edge_neighbour *neighbour(uint16_t id)
{
    static struct edge_neighbour n;
    n = (struct edge_neighbour){.id = id, .transport = TP_UDP, .addr = world_peer("proxy")};
    return &n;
}

/* What `from` sent to the other edge, without the Via that it put on top. */
static void pass_on(struct world *from, struct world *to, const char *method)
{
    const char *m = world_last_request(from, "proxy", method);
    const char *first = strstr(m, "\r\n") + 2, *second = strstr(first, "\r\n") + 2;
    char *text = print("RAW:%.*s%s", (int)(first - m), m, second);
    world_udp(to, 2, "proxy", text);
    free(text);
}

static void token_of_another_edge(void **state)
{
    (void)state;
    struct world *holder = world_plan(), *w = world_plan();
    holder->opts.edge.node_id = 2;
    world_start(holder);
    w->opts.edge.fleet = neighbour(2);
    w->opts.edge.fleet_count = 1;
    world_start(w);
    struct flow_id flow = world_accept(holder, 1, nat1);
    struct flow_id same = world_accept(w, 1, nat1); /* as another phone's connection is numbered */
    assert_true(flow_id_equal(flow, same));
    char *path = registered(holder, nat1, flow, "alice", same_contact, "");
    message(w, path);
    EXPECT(w, "0 udp2 proxy MESSAGE");
    assert_string_equal(world_header(world_last_request(w, "proxy", "MESSAGE"), "Route", 0), path);
    assert_int_equal(engine_counters(w->engine)->to_fleet, 1);
    pass_on(w, holder, "MESSAGE");
    EXPECT(holder, "0 tcp 203.0.113.9:40001 MESSAGE");
    world_answer(holder, nat1, "MESSAGE", 200, NULL);
    world_answer(w, "proxy", "MESSAGE", 200, NULL);
    /* An edge that is not of the fleet any more. */
    w->opts.edge.fleet_count = 0;
    world_adopt(w, 0);
    world_forget(w);
    world_restart_clock(w);
    message(w, path);
    EXPECT(w, "0 udp2 proxy 430 MESSAGE");
    from_outside(w, "mallory", FLOW_NONE, path);
    EXPECT(w, "0 udp0 mallory 403 MESSAGE");
    free(path);
    drained(holder);
    drained(w);
}

/* The neighbour's address stands in what it passes on; the token says whose it is. */
static void a_neighbour_passes_on_its_own_address(void **state)
{
    (void)state;
    static const uint8_t ways[] = {PATH_HEADER, PATH_CONTACT};
    for (unsigned how = 0; how < 2; how++) {
        struct world *w = world_plan();
        w->opts.edge.path = ways[how];
        w->opts.edge.fleet = neighbour(2);
        w->opts.edge.fleet_count = 1;
        world_start(w);
        struct flow_id flow = world_accept(w, 1, nat1);
        free(registered(w, nat1, flow, "alice", same_contact, ""));
        const char *m = world_last_request(w, registrar_of(w), "REGISTER");
        char *way = print("%s", world_header(m, how == 0 ? "Path" : "Contact", 0));
        char *host = strstr(way, "@10.0.0.1:");
        assert_non_null(host);
        host[8] = '7';
        if (how == 0) {
            message(w, way);
        } else {
            char *uri = uri_of(way);
            call(w, "MESSAGE", "", uri);
            free(uri);
        }
        EXPECT(w, "0 tcp 203.0.113.9:40001 MESSAGE");
        assert_true(strncmp(world_last_request(w, nat1, "MESSAGE"),
                            "MESSAGE sip:phone@192.168.1.9:5060 SIP/2.0", 42) == 0);
        world_answer(w, nat1, "MESSAGE", 200, NULL);
        free(way);
        drained(w);
    }
}

/* In a dialog as well, and for an outsider only where nothing else can be meant. */
static void dialog_of_another_edge(void **state)
{
    (void)state;
    struct world *holder = world_plan(), *w = world_plan();
    holder->opts.edge.node_id = 2;
    world_start(holder);
    w->opts.edge.fleet = neighbour(2);
    w->opts.edge.fleet_count = 1;
    world_start(w);
    struct flow_id flow = world_accept(holder, 1, nat1);
    char *path = registered(holder, nat1, flow, "alice", same_contact, "");
    invite(holder, path);
    const char *m = world_last_request(holder, nat1, "INVITE");
    char *rr0 = print("%s", world_header(m, "Record-Route", 0));
    char *rr1 = print("%s", world_header(m, "Record-Route", 1));
    world_answer(holder, nat1, "INVITE", 200, NULL);
    world_forget(holder);
    bye(w, true, FLOW_NONE, rr0, rr1);
    EXPECT(w, "0 udp2 proxy BYE");
    pass_on(w, holder, "BYE");
    EXPECT(holder, "0 tcp 203.0.113.9:40001 BYE");
    world_answer(holder, nat1, "BYE", 200, NULL);
    world_answer(w, "proxy", "BYE", 200, NULL);
    /* The callee speaks to this edge: the caller is inside, and this edge may lead there. */
    struct flow_id here = world_accept(w, 1, nat1);
    world_forget(w);
    bye(w, false, here, rr0, rr1);
    EXPECT(w, "0 udp2 proxy BYE");
    world_answer(w, "proxy", "BYE", 200, NULL);
    /* Somebody who heard the token poses as the caller, with a way of his own behind it. */
    world_forget(w);
    char *text = print("BYE sip:phone@192.168.1.9 SIP/2.0\n"
                       "Via: SIP/2.0/UDP x;branch=z9hG4bK-m\nMax-Forwards: 70\n"
                       "Route: %s, <sip:10.1.0.7;lr>\n"
                       "From: <sip:p@x>;tag=caller\nTo: <sip:c@x>;tag=phone\n"
                       "Call-ID: call-dialog\nCSeq: 9 BYE\n\n",
                       rr0);
    world_udp(w, 0, "mallory", text);
    free(text);
    EXPECT(w, "0 udp0 mallory 403 BYE");
    free(rr0);
    free(rr1);
    free(path);
    drained(holder);
    drained(w);
}

/* A client writes the address of its edge into the first Route as its user typed it. */
static void own_addresses_without_a_port(void **state)
{
    (void)state;
    static const struct {
        uint8_t transport;
        uint16_t port;
        const char *route;
        const char *line;
    } rows[] = {
        {TP_TLS, 5061, "<sip:192.0.2.77;transport=tls;lr>", "0 udp2 a MESSAGE"},
        {TP_WSS, 443, "<sip:192.0.2.77;transport=ws;lr>", "0 udp2 a MESSAGE"},
        {TP_WS, 80, "<sip:192.0.2.77;transport=ws;lr>", "0 udp2 a MESSAGE"},
        {TP_TLS, 5061, "<sip:192.0.2.77:5061;transport=tls;lr>", "0 udp2 a MESSAGE"},
        {TP_TLS, 5071, "<sip:192.0.2.77;transport=tls;lr>", "0 udp0 mallory 403 MESSAGE"},
        {TP_TLS, 5061, "<sip:192.0.2.78;transport=tls;lr>", "0 udp0 mallory 403 MESSAGE"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_plan();
        w->opts.edge.listener[6] = w->opts.edge.listener[1];
        w->opts.edge.listener[6].transport = rows[i].transport;
        w->opts.edge.listener[6].host = SLICE("192.0.2.77");
        w->opts.edge.listener[6].bind.ip[3] = 77;
        w->opts.edge.listener[6].port = w->opts.edge.listener[6].bind.port = rows[i].port;
        world_start(w);
        from_outside(w, "mallory", FLOW_NONE, rows[i].route);
        EXPECT(w, rows[i].line);
        if (world_last_request(w, "a", "MESSAGE") != NULL)
            world_answer(w, "a", "MESSAGE", 200, NULL);
        drained(w);
    }
}

/* ---- what no token names --------------------------------------------------------------------- */

static void browsers_are_not_called_without_a_token(void **state)
{
    (void)state;
    struct world *w = world_new();
    call(w, "MESSAGE", "", "sip:alice@d3adbeef.invalid;transport=ws");
    call(w, "MESSAGE", "", "sip:alice@198.51.100.1;transport=wss");
    EXPECT(w, "0 udp2 proxy 480 MESSAGE", "0 udp2 proxy 480 MESSAGE");
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_names_the_connection),
        cmocka_unit_test(path_names_the_address_over_udp),
        cmocka_unit_test(path_stands_on_top_once),
        cmocka_unit_test(no_path_when_off_or_from_inside),
        cmocka_unit_test(equal_private_addresses_over_udp),
        cmocka_unit_test(equal_private_addresses_over_tcp),
        cmocka_unit_test(nat_gives_a_port_to_another_phone),
        cmocka_unit_test(refused_registration_takes_no_port),
        cmocka_unit_test(two_lines_of_one_phone),
        cmocka_unit_test(phones_behind_a_proxy),
        cmocka_unit_test(reconnect_from_the_same_port),
        cmocka_unit_test(forged_and_foreign_tokens),
        cmocka_unit_test(keys_rotate_while_flows_live),
        cmocka_unit_test(phone_of_another_worker),
        cmocka_unit_test(a_phone_may_name_its_own_flow_only),
        cmocka_unit_test(dialog_comes_back_down_the_callees_flow),
        cmocka_unit_test(dialog_with_a_phone_over_udp),
        cmocka_unit_test(contact_stands_for_what_the_phone_wrote),
        cmocka_unit_test(forged_contacts),
        cmocka_unit_test(star_is_left_alone),
        cmocka_unit_test(too_many_contacts),
        cmocka_unit_test(contacts_that_would_stay),
        cmocka_unit_test(path_of_an_outsider),
        cmocka_unit_test(token_of_another_edge),
        cmocka_unit_test(a_neighbour_passes_on_its_own_address),
        cmocka_unit_test(dialog_of_another_edge),
        cmocka_unit_test(own_addresses_without_a_port),
        cmocka_unit_test(browsers_are_not_called_without_a_token),
    };
    return cmocka_run_group_tests_name("outbound", tests, NULL, NULL);
}
