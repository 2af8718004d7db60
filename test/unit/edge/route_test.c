/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a request goes, who may say so, and what keeps it from going in circles.
 * covers: address.c, branch.c */
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

static void send_to(struct world *w, const char *from, const char *method, const char *uri,
                    const char *branch, const char *extra)
{
    char *text = world_request(method, uri, from, branch, extra);
    bool inside = strcmp(from, "proxy") == 0 || (from[1] == '\0' && from[0] <= 'd');
    world_udp(w, inside ? 2 : 0, from, text);
    free(text);
}

/* A call between alice outside and a inside; its two Record-Route values as the callee sees them.
 */
static struct world *with_call(char top[256], char below[256])
{
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    const char *m = world_last_request(w, "a", "INVITE");
    snprintf(top, 256, "%s", world_header(m, "Record-Route", 0));
    snprintf(below, 256, "%s", world_header(m, "Record-Route", 1));
    world_answer(w, "a", "INVITE", 200, NULL);
    char *ack = world_in_dialog(w, "alice", "a", true, "ACK", "2");
    world_udp(w, 0, "alice", ack);
    free(ack);
    world_forget(w);
    return w;
}

/* Alice's BYE, with these Route lines and this Request-URI. */
static void bye(struct world *w, uint8_t listener, const char *from, const char *uri,
                const char *routes, const char *tags)
{
    char text[4096];
    snprintf(text, sizeof text,
             "BYE %s SIP/2.0\n"
             "Via: SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK-bye%u\n"
             "%s"
             "Max-Forwards: 70\n"
             "%s"
             "Call-ID: call-1@alice\n"
             "CSeq: 2 BYE\n\n",
             uri, w->message_count, routes, tags);
    world_udp(w, listener, from, text);
}

static const char by_alice[] = "From: <sip:alice@example.com>;tag=t-alice\n"
                               "To: <sip:service@example.com>;tag=a\n";
static const char by_a[] = "From: <sip:service@example.com>;tag=a\n"
                           "To: <sip:alice@example.com>;tag=t-alice\n";

/* ---- tokens ---------------------------------------------------------------------------------- */

static void token_is_bound_to_its_dialog(void **state)
{
    (void)state;
    char top[256], below[256], routes[600], text[2048];
    struct world *w = with_call(top, below);
    snprintf(routes, sizeof routes, "Route: %s, %s\n", below, top);
    bye(w, 0, "alice", "sip:a@10.1.0.1:5070", routes, by_alice);
    EXPECT(w, "0 udp2 a BYE");
    /* The same in another dialog. */
    snprintf(text, sizeof text, "Route: %s, %s\n", below, top);
    send_to(w, "mallory", "BYE", "sip:a@10.1.0.1:5070", "x", text);
    EXPECT(w, "0 udp0 mallory 403 BYE");
    assert_int_equal(engine_counters(w->engine)->tokens_bad, 1);
    assert_int_equal(engine_counters(w->engine)->routes_refused, 1);
    drained(w);
}

static void every_changed_character_of_a_token_is_refused(void **state)
{
    (void)state;
    char top[256], below[256], routes[600];
    struct world *w = with_call(top, below);
    size_t begin = (size_t)(strchr(below, ':') - below) + 1;
    size_t end = (size_t)(strchr(below, '@') - below);
    assert_true(end - begin > 40);
    for (size_t i = begin; i < end; i++) {
        char changed[256];
        snprintf(changed, sizeof changed, "%s", below);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        snprintf(routes, sizeof routes, "Route: %s\n", changed);
        bye(w, 0, "alice", "sip:a@10.1.0.1:5070", routes, by_alice);
        EXPECT(w, "0 udp0 alice 403 BYE");
    }
    drained(w);
}

/* Somebody outside who heard the token poses as the callee, which is inside. */
static void token_is_bound_to_its_sides(void **state)
{
    (void)state;
    char top[256], below[256], routes[600];
    struct world *w = with_call(top, below);
    snprintf(routes, sizeof routes, "Route: %s, %s\n", below, top);
    bye(w, 0, "mallory", "sip:alice@198.51.100.1", routes, by_a);
    EXPECT(w, "0 udp0 mallory 403 BYE");
    bye(w, 2, "a", "sip:alice@198.51.100.1", routes, by_a);
    EXPECT(w, "0 udp0 alice BYE");
    drained(w);
}

/* An outsider's dialog leads to its callee's network, and nowhere else. */
static void token_leads_only_inside(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *line;
    } rows[] = {
        {"sip:a@10.1.0.1:5070", "0 udp2 a BYE"},
        {"sip:b@10.1.0.2:5070", "0 udp2 b BYE"},
        {"sip:x@203.0.113.9", "0 udp0 alice 403 BYE"},
        {"sip:x@127.0.0.1:22", "0 udp0 alice 403 BYE"},
        {"sip:x@10.0.0.1;maddr=203.0.113.9", "0 udp0 alice 403 BYE"},
        {"sip:x@224.0.0.1", "0 udp0 alice 403 BYE"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char top[256], below[256], routes[600];
        struct world *w = with_call(top, below);
        snprintf(routes, sizeof routes, "Route: %s, %s\n", below, top);
        bye(w, 0, "alice", rows[i].uri, routes, by_alice);
        EXPECT(w, rows[i].line);
        drained(w);
    }
}

/* What an outsider sends to one of our own addresses by another name would come back from inside,
 * and be believed: the strict route makes the next Route lead anywhere. */
static void outsiders_are_not_introduced_by_us(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *routes;
    } rows[] = {
        {"sip:x@other.test;maddr=10.0.0.1", ""},
        {"sip:x@other.test:5060;maddr=10.0.0.1;transport=tcp", ""},
        {"sip:x@other.test;maddr=192.0.2.1", ""},
        {"sip:a@10.1.0.1:5070", ", <sip:other.test;maddr=10.0.0.1>, <sip:203.0.113.9;lr>"},
        {"sip:a@10.1.0.1:5070", ", <sip:other.test;maddr=10.0.0.1;lr>, <sip:203.0.113.9;lr>"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char top[256], below[256], routes[900];
        struct world *w = with_call(top, below);
        assert_int_equal(prefix_parse(SLICE("10.0.0.0/8"), &w->trusted[0]), 0);
        world_adopt(w, 0);
        snprintf(routes, sizeof routes, "Route: %s, %s%s\n", below, top, rows[i].routes);
        bye(w, 0, "alice", rows[i].uri, routes, by_alice);
        EXPECT(w, "0 udp0 alice 403 BYE");
        drained(w);
    }
    char top[256], below[256], routes[600];
    struct world *w = with_call(top, below);
    assert_int_equal(prefix_parse(SLICE("10.0.0.0/8"), &w->trusted[0]), 0);
    world_adopt(w, 0);
    snprintf(routes, sizeof routes, "Route: %s, %s\n", below, top);
    bye(w, 0, "alice", "sip:x@other.test", routes, by_alice);
    EXPECT(w, "0 resolve other.test:0/255");
    world_resolved(w, (const char *const[]){"us-in"}, 1);
    EXPECT(w, "0 udp0 alice 500 BYE");
    drained(w);
}

/* The outside end of a dialog that began inside reaches its caller's host, none by maddr. */
static void maddr_does_not_leave_the_callers_host(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *line;
    } rows[] = {
        {"sip:x@10.9.0.9:5080", "0 udp2 10.9.0.9:5080 BYE"},
        {"sip:x@other.test;maddr=10.9.0.9", "0 udp2 10.9.0.9:5060 BYE"},
        {"sip:x@10.9.0.9;maddr=10.8.8.8", "0 udp0 bob 403 BYE"},
        {"sip:x@10.9.0.9;maddr=203.0.113.9", "0 udp0 bob 403 BYE"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_new();
        char *text = world_request("INVITE", "sip:bob@198.51.100.2", "proxy", "1", NULL);
        world_udp(w, 2, "10.9.0.9:5060", text); /* inside by its listener alone */
        free(text);
        const char *m = world_last_request(w, "bob", "INVITE");
        char routes[600], to[256];
        snprintf(routes, sizeof routes, "Route: %s, %s\n", world_header(m, "Record-Route", 0),
                 world_header(m, "Record-Route", 1));
        snprintf(to, sizeof to, "From: <sip:bob@example.com>;tag=bob\nTo: %s\n",
                 world_header(m, "From", 0));
        char bytes[2048];
        snprintf(bytes, sizeof bytes,
                 "BYE %s SIP/2.0\nVia: SIP/2.0/UDP 198.51.100.2;branch=z9hG4bK-m\n%s"
                 "Max-Forwards: 70\n%sCall-ID: %s\nCSeq: 1 BYE\n\n",
                 rows[i].uri, routes, to, world_header(m, "Call-ID", 0));
        world_answer(w, "bob", "INVITE", 200, NULL);
        world_forget(w);
        world_udp(w, 0, "bob", bytes);
        EXPECT(w, rows[i].line);
        drained(w);
    }
}

/* Beyond our own: what elements inside have recorded is followed, but stays inside. */
static void routes_behind_a_token(void **state)
{
    (void)state;
    char top[256], below[256], routes[900];
    struct world *w = with_call(top, below);
    snprintf(routes, sizeof routes, "Route: %s, %s\nRoute: <sip:10.1.0.99;lr>, <sip:x.y;lr>\n",
             below, top);
    bye(w, 0, "alice", "sip:a@10.1.0.1:5070", routes, by_alice);
    EXPECT(w, "0 udp2 proxy BYE");
    assert_string_equal(world_header(world_last(w, "proxy"), "Route", 0),
                        "<sip:10.1.0.99;lr>, <sip:x.y;lr>");
    snprintf(routes, sizeof routes, "Route: %s, %s, <sip:203.0.113.9;lr>\n", below, top);
    bye(w, 0, "alice", "sip:a@10.1.0.1:5070", routes, by_alice);
    EXPECT(w, "0 udp0 alice 403 BYE");
    drained(w);
}

static void keys_rotate(void **state)
{
    (void)state;
    char top[256], below[256], routes[600];
    struct world *w = with_call(top, below);
    w->opts.edge.keys.key[1] = w->opts.edge.keys.key[0];
    w->opts.edge.keys.count = 2;
    assert_int_equal(token_key_init(&w->opts.edge.keys.key[0], SLICE("the next secret of us")), 0);
    world_adopt(w, 0);
    snprintf(routes, sizeof routes, "Route: %s, %s\n", below, top);
    bye(w, 0, "alice", "sip:a@10.1.0.1:5070", routes, by_alice);
    EXPECT(w, "0 udp2 a BYE");
    w->opts.edge.keys.count = 1;
    world_adopt(w, 0);
    bye(w, 0, "alice", "sip:a@10.1.0.1:5070", routes, by_alice);
    EXPECT(w, "0 udp0 alice 403 BYE");
    drained(w);
}

/* The smallest file: one side, one listener, no trusted network. A target is known by its address.
 */
static void one_listener_for_everybody(void **state)
{
    (void)state;
    struct world *w = world_plan();
    for (unsigned i = 1; i < 6; i++)
        w->opts.edge.listener[i].used = false;
    w->opts.edge.trusted_count = 0;
    world_start(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp0 a INVITE");
    char *ok = world_response(w, "a", "INVITE", 200, "a", NULL);
    world_udp(w, 0, "a", ok);
    free(ok);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    char *text = world_in_dialog(w, "alice", "a", true, "ACK", "2");
    world_udp(w, 0, "alice", text);
    free(text);
    EXPECT(w, "0 udp0 a ACK");
    text = world_in_dialog(w, "alice", "a", false, "BYE", "3");
    world_udp(w, 0, "mallory", text);
    EXPECT(w, "0 udp0 mallory 403 BYE");
    world_udp(w, 0, "a", text);
    free(text);
    EXPECT(w, "0 udp0 alice BYE");
    text = world_in_dialog(w, "alice", "a", true, "BYE", "4");
    world_udp(w, 0, "alice", text);
    free(text);
    EXPECT(w, "0 udp0 a BYE");
    drained(w);
}

/* ---- Route from outside ---------------------------------------------------------------------- */

static void foreign_routes_are_refused(void **state)
{
    (void)state;
    static const char *const routes[] = {
        "Route: <sip:10.1.0.99;lr>\n",
        "Route: <sip:192.0.2.1;lr>, <sip:10.1.0.99;lr>\n",
        "Route: <sip:192.0.2.1;lr>\nRoute: <sip:10.1.0.99;lr>\n",
        "Route: <sip:token@192.0.2.1;lr>\n",
        "Route: <sip:203.0.113.9>\n",
        "Route: <tel:+1555>\n",
    };
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        struct world *w = world_new();
        w->show_notices = true;
        send_to(w, "mallory", "INVITE", "sip:x@example.com", "1", routes[i]);
        if (w->line_count != 2 || !world_has(w->line[0], "notice"))
            world_expect(w, __FILE__, __LINE__, (const char *const[]){routes[i], NULL});
        assert_string_equal(w->line[1], "0 udp0 mallory 403 INVITE");
        drained(w);
    }
}

static void foreign_routes_are_stripped(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.edge.strip_foreign_routes = true;
    world_start(w);
    send_to(w, "mallory", "INVITE", "sip:x@example.com", "1",
            "Route: <sip:192.0.2.1;lr>, <sip:203.0.113.9;lr>\nX-A: 1\nRoute: <sip:10.1.0.99>\n");
    EXPECT(w, "0 udp0 mallory 100 INVITE", "0 udp2 a INVITE");
    const char *m = world_last(w, "a");
    assert_string_equal(world_header(m, "Route", 0), "");
    assert_true(world_has(m, "X-A: 1\r\n"));
    assert_int_equal(engine_counters(w->engine)->routes_stripped, 1);
    drained(w);
}

static void preloaded_own_route_is_popped(void **state)
{
    (void)state;
    static const char *const routes[] = {
        "Route: <sip:192.0.2.1;lr>\n",
        "Route: <sip:192.0.2.1:5060;lr>\n",
        "Route: \"Edge\" <sip:192.0.2.1;lr;transport=udp>;x=y\n",
        "Route: <sip:192.0.2.1;lr>,<sip:10.0.0.1;lr>\n",
    };
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        struct world *w = world_new();
        send_to(w, "alice", "INVITE", "sip:x@example.com", "1", routes[i]);
        EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
        assert_string_equal(world_header(world_last(w, "a"), "Route", 0), "");
        drained(w);
    }
}

/* As many as may be are all taken off; one more is the sender's fault, not our lack of room. */
static void many_route_lines(void **state)
{
    (void)state;
    static const char own[] = "Route: <sip:192.0.2.1;lr>\n", none[] = "Route:\n";
    static char routes[SIP_ROUTE_VALUES_MAX * sizeof own + sizeof none];
    for (unsigned i = 0; i < SIP_ROUTE_VALUES_MAX; i++)
        memcpy(routes + i * (sizeof own - 1), own, sizeof own);
    struct world *w = world_new();
    send_to(w, "alice", "INVITE", "sip:x@example.com", "1", routes);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
    assert_string_equal(world_header(world_last(w, "a"), "Route", 0), "");
    memcpy(routes + SIP_ROUTE_VALUES_MAX * (sizeof own - 1), none, sizeof none);
    send_to(w, "alice", "INVITE", "sip:y@example.com", "2", routes);
    EXPECT(w, "0 udp0 alice 400 INVITE");
    drained(w);
}

static void unreadable_routes(void **state)
{
    (void)state;
    static const char *const routes[] = {"Route: <sip:192.0.2.1;lr\n", "Route: <>\n",
                                         "Route: <sip:>\n", "Route: \"x <sip:192.0.2.1;lr>\n"};
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        struct world *w = world_new();
        send_to(w, "proxy", "INVITE", "sip:x@203.0.113.9", "1", routes[i]);
        EXPECT(w, "0 udp2 proxy 400 INVITE");
        drained(w);
    }
}

/* ---- from inside ----------------------------------------------------------------------------- */

static void inside_follows_the_request_uri(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *line;
    } rows[] = {
        {"sip:bob@198.51.100.2", "0 udp0 bob INVITE"},
        {"sip:bob@198.51.100.2:5060;user=phone", "0 udp0 bob INVITE"},
        {"sip:b@10.1.0.2:5070", "0 udp2 b INVITE"},
        {"sip:x@nowhere.test;maddr=198.51.100.2", "0 udp0 bob INVITE"},
        {"sip:bob@name.test", "0 resolve name.test:0/255"},
        {"sip:bob@name.test:5080;transport=tcp", "0 resolve name.test:5080/1"},
        {"sip:bob@198.51.100.2;transport=sctp", "0 udp2 proxy 500 INVITE"},
        {"sip:bob@255.255.255.255", "0 udp2 proxy 403 INVITE"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_new();
        send_to(w, "proxy", "INVITE", rows[i].uri, "1", NULL);
        if (world_has(rows[i].line, "proxy"))
            EXPECT(w, rows[i].line);
        else
            EXPECT(w, "0 udp2 proxy 100 INVITE", rows[i].line);
        drained(w);
    }
}

static void inside_over_tcp(void **state)
{
    (void)state;
    struct world *w = world_new();
    send_to(w, "proxy", "INVITE", "sip:bob@198.51.100.2;transport=tcp", "1", NULL);
    EXPECT(w, "0 udp2 proxy 100 INVITE", "0 connect bob", "0 tcp bob INVITE");
    assert_true(world_has(world_header(world_last(w, "bob"), "Via", 0), "SIP/2.0/TCP 192.0.2.1"));
    assert_true(world_has(world_header(world_last(w, "bob"), "Record-Route", 0),
                          "@192.0.2.1:5060;transport=tcp;lr>"));
    drained(w);
}

/* Connections that nobody closes do not keep us from opening others. */
static void idle_connections_make_room(void **state)
{
    (void)state;
    struct world *w = world_new();
    unsigned refused = 0;
    for (unsigned i = 0; i < 70; i++) {
        char uri[64], branch[16], peer[32], *answer;
        snprintf(peer, sizeof peer, "203.0.113.%u:5060", 100 + i);
        snprintf(uri, sizeof uri, "sip:x@%s;transport=tcp", peer);
        snprintf(branch, sizeof branch, "%u", i);
        send_to(w, "proxy", "OPTIONS", uri, branch, NULL);
        if (world_last_request(w, peer, "OPTIONS") == NULL) {
            refused++;
            char closed[32] = "";
            for (unsigned k = 0; k < w->line_count; k++)
                (void)sscanf(w->line[k], "%*u close %31s", closed);
            world_close(w, world_flow_to(w, closed), 0);
            continue;
        }
        answer = world_response(w, peer, "OPTIONS", 200, "x", NULL);
        world_reply(w, peer, answer);
        free(answer);
        world_run(w, 1);
        world_forget(w);
    }
    assert_in_range(refused, 1, 4); /* of 64 places */
    drained(w);
}

static void inside_follows_routes(void **state)
{
    (void)state;
    struct world *w = world_new();
    send_to(w, "proxy", "INVITE", "sip:bob@example.net", "1",
            "Route: <sip:10.0.0.1;lr>, <sip:198.51.100.3;lr>, <sip:far.test;lr>\n");
    EXPECT(w, "0 udp2 proxy 100 INVITE", "0 udp0 carol INVITE");
    const char *m = world_last(w, "carol");
    assert_string_equal(world_header(m, "Route", 0), "<sip:198.51.100.3;lr>, <sip:far.test;lr>");
    assert_true(world_has(m, "INVITE sip:bob@example.net SIP/2.0\r\n"));
    drained(w);
}

static void rules_come_before_the_request_uri(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->rule[0] = (struct edge_rule){.from = SIDE_INSIDE, .method = SLICE("REGISTER"), .pool = 0};
    w->rule[1] = (struct edge_rule){.from = RULE_ANY, .method = SLICE("MESSAGE"), .pool = 0};
    w->opts.edge.rule_count = 2;
    world_start(w);
    send_to(w, "proxy", "REGISTER", "sip:203.0.113.9", "1", NULL);
    EXPECT(w, "0 udp2 a REGISTER");
    send_to(w, "proxy", "OPTIONS", "sip:bob@198.51.100.2", "2", NULL);
    EXPECT(w, "0 udp0 bob OPTIONS");
    send_to(w, "alice", "MESSAGE", "sip:203.0.113.9", "3", NULL);
    EXPECT(w, "0 udp2 b MESSAGE");
    send_to(w, "alice", "INVITE", "sip:203.0.113.9", "4", NULL);
    EXPECT(w, "0 udp0 alice 404 INVITE");
    send_to(w, "proxy", "INVITE", "sip:someone@10.0.0.1", "5", NULL);
    EXPECT(w, "0 udp2 proxy 404 INVITE");
    assert_int_equal(engine_counters(w->engine)->unroutable, 2);
    drained(w);
}

/* RFC 3261 16.6 step 6: a strict router comes next. */
static void strict_router_after_us(void **state)
{
    (void)state;
    struct world *w = world_new();
    send_to(w, "proxy", "INVITE", "sip:bob@example.net", "1",
            "Route: <sip:10.0.0.1;lr>, <sip:strict@198.51.100.3>, <sip:far.test;lr>\n");
    EXPECT(w, "0 udp2 proxy 100 INVITE", "0 udp0 carol INVITE");
    const char *m = world_last(w, "carol");
    assert_true(world_has(m, "INVITE sip:strict@198.51.100.3 SIP/2.0\r\n"));
    assert_string_equal(world_header(m, "Route", 0), "<sip:far.test;lr>, <sip:bob@example.net>");
    drained(w);
}

/* RFC 3261 16.4: one before us has put our own URI into the Request-URI. */
static void strict_router_before_us(void **state)
{
    (void)state;
    char top[256], below[256], uri[256], routes[600];
    struct world *w = with_call(top, below);
    snprintf(uri, sizeof uri, "%.*s", (int)(strchr(top, '>') - top - 1), top + 1);
    snprintf(routes, sizeof routes, "Route: %s, <sip:alice@198.51.100.1>\n", below);
    bye(w, 2, "a", uri, routes, by_a);
    EXPECT(w, "0 udp0 alice BYE");
    const char *m = world_last(w, "alice");
    assert_true(world_has(m, "BYE sip:alice@198.51.100.1 SIP/2.0\r\n"));
    assert_string_equal(world_header(m, "Route", 0), "");
    /* And from outside. */
    snprintf(uri, sizeof uri, "%.*s", (int)(strchr(below, '>') - below - 1), below + 1);
    snprintf(routes, sizeof routes, "Route: %s, <sip:a@10.1.0.1:5070>\n", top);
    bye(w, 0, "alice", uri, routes, by_alice);
    EXPECT(w, "0 udp2 a BYE");
    assert_true(world_has(world_last(w, "a"), "BYE sip:a@10.1.0.1:5070 SIP/2.0\r\n"));
    drained(w);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void by_name(void **state)
{
    (void)state;
    struct world *w = world_new();
    send_to(w, "proxy", "INVITE", "sip:bob@name.test", "1", NULL);
    world_forget(w);
    world_resolved(w, (const char *const[]){"bob", "carol"}, 2);
    EXPECT(w, "0 udp0 bob INVITE");
    world_resolved(w, (const char *const[]){"carol"}, 1); /* twice: ignored */
    EXPECT_NOTHING(w);
    world_answer(w, "bob", "INVITE", 503, NULL); /* RFC 3263 4.3 */
    EXPECT(w, "0 udp0 bob ACK", "0 udp0 carol INVITE");
    assert_string_equal(world_header(world_last(w, "carol"), "Via", 2), "");
    world_answer(w, "carol", "INVITE", 503, NULL);
    EXPECT(w, "0 udp0 carol ACK", "0 udp2 proxy 500 INVITE");
    drained(w);
}

static void name_not_found(void **state)
{
    (void)state;
    struct world *w = world_new();
    send_to(w, "proxy", "INVITE", "sip:bob@name.test", "1", NULL);
    world_forget(w);
    world_resolved(w, NULL, 0);
    EXPECT(w, "0 udp2 proxy 500 INVITE");
    assert_string_equal(w->end, "NQ");
    drained(w);
}

static void name_without_an_answer(void **state)
{
    (void)state;
    struct world *w = world_new();
    send_to(w, "proxy", "INVITE", "sip:bob@name.test", "1", NULL);
    world_forget(w);
    world_run(w, 32100);
    EXPECT(w, "32000 udp2 proxy 408 INVITE");
    world_ack(w, "proxy", "1");
    world_resolved(w, (const char *const[]){"bob"}, 1);
    EXPECT_NOTHING(w);
    drained(w);
    w = world_new();
    send_to(w, "proxy", "MESSAGE", "sip:bob@name.test", "1", NULL);
    world_forget(w);
    world_run(w, 40000);
    EXPECT_NOTHING(w); /* RFC 4320: too late to be said */
    drained(w);
}

/* A name must not lead an outsider's dialog out of the inside. */
static void name_in_an_outsiders_dialog(void **state)
{
    (void)state;
    char top[256], below[256], routes[600];
    struct world *w = with_call(top, below);
    snprintf(routes, sizeof routes, "Route: %s, %s\n", below, top);
    bye(w, 0, "alice", "sip:a@name.test", routes, by_alice);
    EXPECT(w, "0 resolve name.test:0/255");
    world_resolved(w, (const char *const[]){"elsewhere"}, 1);
    EXPECT(w, "0 udp0 alice 500 BYE");
    bye(w, 0, "alice", "sip:a@name.test", routes, by_alice);
    world_forget(w);
    world_resolved(w, (const char *const[]){"elsewhere", "b"}, 2);
    EXPECT(w, "0 udp2 b BYE");
    drained(w);
}

static void ack_by_name(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    char *ok = world_response(w, "a", "INVITE", 200, "a", NULL);
    char *contact = strstr(ok, "a@10.1.0.1:5070");
    memcpy(contact, "a@name.test    ", 15);
    memcpy(contact, "a@name.test>\nX:", 15); /* Contact: <sip:a@name.test> */
    world_udp(w, 2, "a", ok);
    free(ok);
    world_forget(w);
    char *ack = world_in_dialog(w, "alice", "a", true, "ACK", "2");
    assert_non_null(strstr(ack, "ACK sip:a@name.test SIP/2.0"));
    world_udp(w, 0, "alice", ack);
    EXPECT(w, "0 resolve name.test:0/255");
    world_resolved(w, (const char *const[]){"a"}, 1);
    EXPECT(w, "0 udp2 a ACK");
    world_udp(w, 0, "alice", ack);
    EXPECT(w, "0 resolve name.test:0/255");
    world_resolved(w, NULL, 0);
    EXPECT_NOTHING(w);
    world_udp(w, 0, "alice", ack); /* never answered */
    free(ack);
    world_forget(w);
    drained(w);
}

/* ---- size ------------------------------------------------------------------------------------ */

static char *large_body(void)
{
    char *body = calloc(1, 1500);
    memset(body, 'v', 1400);
    return body;
}

static void send_large(struct world *w, const char *branch)
{
    char *body = large_body(), extra[2000];
    snprintf(extra, sizeof extra, "X-Long: %s\n", body);
    world_send(w, "alice", "INVITE", branch, extra);
    free(body);
}

static void large_requests_go_by_tcp(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->target[0].has_tcp = true;
    w->pool.target_count = 1;
    world_start(w);
    send_large(w, "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE");
    assert_true(world_has(world_header(world_last(w, "a"), "Via", 0), "SIP/2.0/TCP"));
    assert_int_equal(engine_counters(w->engine)->udp_to_tcp, 1);
    world_answer(w, "a", NULL, 200, NULL);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    drained(w);
}

static void large_requests_fall_back_to_udp(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->target[0].has_tcp = true;
    w->pool.target_count = 1;
    w->connects_fail = true;
    world_start(w);
    send_large(w, "1");
    world_run(w, 1);
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE", "0 udp2 a INVITE");
    const char *m = world_last(w, "a");
    assert_true(world_has(world_header(m, "Via", 0), "SIP/2.0/UDP"));
    assert_string_equal(world_header(m, "Via", 2), "");
    assert_string_equal(world_header(m, "Record-Route", 2), "");
    /* The same target: no failover was needed, none is counted. */
    assert_int_equal(engine_counters(w->engine)->failovers, 0);
    world_answer(w, "a", NULL, 200, NULL);
    EXPECT(w, "1 udp0 alice 200 INVITE");
    assert_int_equal(world_record(w)->tries, 1);
    /* While TCP backs off, a datagram at once. */
    send_large(w, "2");
    EXPECT(w, "1 udp0 alice 100 INVITE", "1 udp2 a INVITE");
    drained(w);
}

static void small_requests_stay_with_udp(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->target[0].has_tcp = true;
    world_start(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
    drained(w);
}

/* 64 KiB of SDP, and as much header as is allowed. */
static char *huge_invite(const char *branch)
{
    char *head = world_request("INVITE", "sip:service@example.com", "alice", branch, NULL);
    size_t n = strlen(head);
    char *text = malloc(n + SIP_BODY_BYTES_MAX + 1);
    assert_non_null(text);
    memcpy(text, head, n);
    memset(text + n, 'v', SIP_BODY_BYTES_MAX);
    text[n + SIP_BODY_BYTES_MAX] = '\0';
    free(head);
    return text;
}

static void huge_requests_over_tcp(void **state)
{
    (void)state;
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    world_start(w);
    struct flow_id f = world_accept(w, 1, "alice");
    char *text = huge_invite("1");
    world_tcp(w, f, text);
    EXPECT(w, "0 tcp alice 100 INVITE", "0 connect a", "0 tcp a INVITE");
    world_answer(w, "a", NULL, 503, NULL);
    EXPECT(w, "0 tcp a ACK", "0 connect b", "0 tcp b INVITE");
    const char *body = strstr(world_last_request(w, "b", "INVITE"), "\r\n\r\n");
    assert_int_equal(strspn(body + 4, "v"), SIP_BODY_BYTES_MAX);
    free(text);
    drained(w);
}

/* No target can get it: the message's fault, for which no target may pay. */
static void huge_requests_for_udp(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct flow_id f = world_accept(w, 1, "alice");
    for (unsigned i = 0; i < 20; i++) {
        char branch[8];
        snprintf(branch, sizeof branch, "%u", i);
        char *text = huge_invite(branch);
        world_forget(w);
        world_tcp(w, f, text);
        EXPECT(w, "0 tcp alice 100 INVITE", "0 tcp alice 513 INVITE");
        free(text);
    }
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "ok", NULL);
    world_tcp(w, f, text);
    free(text);
    assert_true(world_has(w->line[1], "udp2"));
    drained(w);
}

/* ---- loops ----------------------------------------------------------------------------------- */

/* What the target got comes back to us, `times` times, from inside or outside. */
static void send_back(struct world *w, const char *peer, uint8_t listener, const char *from,
                      const char *via)
{
    const char *m = world_last_request(w, peer, "INVITE");
    assert_non_null(m);
    const char *rest = strstr(m, "\r\n") + 2;
    char *text = NULL;
    if (asprintf(&text, "RAW:%.*s%s\r\n%s", (int)(rest - m), m, via, rest) < 0)
        fail_msg("no memory");
    world_udp(w, listener, from, text);
    free(text);
}

static void loop_is_482(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    send_back(w, "a", 0, "mallory", "Via: SIP/2.0/UDP 203.0.113.66;branch=z9hG4bK-l1");
    EXPECT(w, "0 udp0 mallory 482 INVITE");
    assert_int_equal(engine_counters(w->engine)->loops, 1);
    drained(w);
}

/* Changed on its way, it may come again (RFC 5393 4.2). */
static void spiral_is_welcome(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    const char *m = world_last_request(w, "a", "INVITE");
    char *text = NULL;
    const char *rest = strstr(m, "\r\n") + 2;
    if (asprintf(&text, "RAW:INVITE sip:other@198.51.100.2 SIP/2.0\r\n%s\r\n%s",
                 "Via: SIP/2.0/UDP 10.1.0.1:5070;branch=z9hG4bK-s1", rest) < 0)
        fail_msg("no memory");
    world_udp(w, 2, "a", text);
    free(text);
    EXPECT(w, "0 udp2 a 100 INVITE", "0 udp0 bob INVITE");
    drained(w);
}

/* The same Request-URI with another Route: an outbound proxy behind us. No loop, and no merge: it
 * did not come by two ways, it came back on its one. */
static void spiral_by_route(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    send_back(w, "a", 2, "a",
              "Via: SIP/2.0/UDP 10.1.0.1:5070;branch=z9hG4bK-s1\r\nRoute: <sip:198.51.100.2;lr>");
    EXPECT(w, "0 udp2 a 100 INVITE", "0 udp0 bob INVITE");
    drained(w);
}

static void merged_is_482(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_invite(w, "alice", "1");
    world_forget(w);
    char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
    memcpy(strstr(text, "z9hG4bK-1"), "z9hG4bK-2", 9);
    world_udp(w, 0, "carol", text); /* the same request by another way */
    free(text);
    EXPECT(w, "0 udp0 carol 482 INVITE");
    assert_int_equal(engine_counters(w->engine)->merged, 1);
    drained(w);
}

static void max_forwards(void **state)
{
    (void)state;
    static const struct {
        const char *line, *expected;
    } rows[] = {{"70", "69"}, {"1", "0"}, {"0", NULL}, {"71", "70"}, {"255", "70"}, {NULL, "70"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = world_new();
        char *text = world_request("INVITE", "sip:service@example.com", "alice", "1", NULL);
        char *line = strstr(text, "Max-Forwards: 70\n");
        memset(line, ' ', 17);
        char with[20] = "X-Max-Forwards: 0\n";
        if (rows[i].line != NULL)
            snprintf(with, sizeof with, "Max-Forwards:%3s", rows[i].line);
        else
            snprintf(with, sizeof with, "X-Forwards: 00  ");
        memcpy(line, with, strlen(with));
        line[16] = '\n';
        world_udp(w, 0, "alice", text);
        free(text);
        if (rows[i].expected == NULL) {
            EXPECT(w, "0 udp0 alice 483 INVITE");
            assert_int_equal(engine_counters(w->engine)->hops_exhausted, 1);
        } else {
            EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
            assert_string_equal(world_header(world_last(w, "a"), "Max-Forwards", 0),
                                rows[i].expected);
        }
        drained(w);
    }
}

static void max_breadth(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_send(w, "alice", "INVITE", "1", "Max-Breadth: 0\n");
    EXPECT(w, "0 udp0 alice 440 INVITE");
    world_send(w, "alice", "INVITE", "2", "Max-Breadth: 1\n");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp2 a INVITE");
    drained(w);
}

/* Two edges facing each other: whatever one sends the other gets. */
static void two_edges_facing(void **state)
{
    (void)state;
    struct world *edge[2];
    for (unsigned i = 0; i < 2; i++) {
        edge[i] = world_plan();
        edge[i]->pool.target_count = 1;
        edge[i]->seed = 77 + i;
        edge[i]->is_its_own_peer = true;
        world_start(edge[i]);
    }
    world_invite(edge[0], "alice", "1");
    unsigned forwards = 0, at = 0;
    for (;; forwards++) {
        struct world *from = edge[at], *to = edge[1 - at];
        const char *m = world_last_request(from, "a", "INVITE");
        if (from->line_count == 0 || !world_has(from->line[from->line_count - 1], "a INVITE"))
            break;
        char *text = NULL;
        if (asprintf(&text, "RAW:%s", m) < 0)
            fail_msg("no memory");
        world_forget(to);
        world_udp(to, 0, "203.0.113.200:5060", text);
        free(text);
        at = 1 - at;
    }
    assert_true(forwards <= 70);
    world_expect(edge[at], __FILE__, __LINE__,
                 (const char *const[]){"0 udp0 203.0.113.200:5060 482 INVITE", NULL});
    drained(edge[0]);
    drained(edge[1]);
}

/* A driver reads message after message into the same place: what was found true of the bytes there
 * is true of one message alone. */
static void no_token_is_true_by_where_it_lies(void **state)
{
    (void)state;
    char top[256], below[256], bytes[2048];
    struct world *w = with_call(top, below);
    char *text = world_in_dialog(w, "alice", "a", true, "INFO", "7");
    size_t n = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\n')
            bytes[n++] = '\r';
        bytes[n++] = *p;
    }
    bytes[n] = '\0';
    free(text);
    struct event ev = {.kind = EV_DATAGRAM,
                       .transport = TP_UDP,
                       .source = world_peer("alice"),
                       .bytes = slice_of(bytes, n)};
    world_forget(w);
    world_step(w, &ev);
    EXPECT(w, "0 udp2 a INFO");
    world_answer(w, "a", "INFO", 200, NULL);
    strstr(bytes, "z9hG4bK-7")[8] = '8'; /* another request, … */
    char *at = strstr(bytes, "Route: <sip:") + strlen("Route: <sip:");
    at[20] = at[20] == 'A' ? 'B' : 'A'; /* … with another token at the very same place */
    world_forget(w);
    world_step(w, &ev);
    EXPECT(w, "0 udp0 alice 403 INFO");
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token_is_bound_to_its_dialog),
        cmocka_unit_test(every_changed_character_of_a_token_is_refused),
        cmocka_unit_test(token_is_bound_to_its_sides),
        cmocka_unit_test(token_leads_only_inside),
        cmocka_unit_test(outsiders_are_not_introduced_by_us),
        cmocka_unit_test(maddr_does_not_leave_the_callers_host),
        cmocka_unit_test(routes_behind_a_token),
        cmocka_unit_test(keys_rotate),
        cmocka_unit_test(one_listener_for_everybody),
        cmocka_unit_test(foreign_routes_are_refused),
        cmocka_unit_test(foreign_routes_are_stripped),
        cmocka_unit_test(preloaded_own_route_is_popped),
        cmocka_unit_test(no_token_is_true_by_where_it_lies),
        cmocka_unit_test(many_route_lines),
        cmocka_unit_test(unreadable_routes),
        cmocka_unit_test(inside_follows_the_request_uri),
        cmocka_unit_test(inside_over_tcp),
        cmocka_unit_test(idle_connections_make_room),
        cmocka_unit_test(inside_follows_routes),
        cmocka_unit_test(rules_come_before_the_request_uri),
        cmocka_unit_test(strict_router_after_us),
        cmocka_unit_test(strict_router_before_us),
        cmocka_unit_test(by_name),
        cmocka_unit_test(name_not_found),
        cmocka_unit_test(name_without_an_answer),
        cmocka_unit_test(name_in_an_outsiders_dialog),
        cmocka_unit_test(ack_by_name),
        cmocka_unit_test(large_requests_go_by_tcp),
        cmocka_unit_test(large_requests_fall_back_to_udp),
        cmocka_unit_test(small_requests_stay_with_udp),
        cmocka_unit_test(huge_requests_over_tcp),
        cmocka_unit_test(huge_requests_for_udp),
        cmocka_unit_test(loop_is_482),
        cmocka_unit_test(spiral_is_welcome),
        cmocka_unit_test(spiral_by_route),
        cmocka_unit_test(merged_is_482),
        cmocka_unit_test(max_forwards),
        cmocka_unit_test(max_breadth),
        cmocka_unit_test(two_edges_facing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
