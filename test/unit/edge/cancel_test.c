/* SPDX-License-Identifier: Apache-2.0
 *
 * CANCEL in every phase of an INVITE (RFC 3261 9, 16.10). */
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

/* Nothing was heard: the CANCEL has to wait for a provisional (9.1). */
static void before_any_answer(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL");
    world_run(w, 600);
    EXPECT(w, "500 udp2 a INVITE");
    world_answer(w, "a", "INVITE", 100, NULL);
    EXPECT(w, "600 udp2 a CANCEL");
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "600 udp2 a ACK", "600 udp0 alice 487 INVITE");
    world_ack(w, "alice", "1");
    assert_string_equal(w->end, "CH");
    drained(w);
}

/* Nothing comes at all: the try timeout ends it, and nobody else is asked. */
static void of_a_dead_target(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_cancel(w, "alice", "1");
    world_run(w, 2100);
    EXPECT(w, "0 udp0 alice 200 CANCEL", "500 udp2 a INVITE", "1500 udp2 a INVITE",
           "2000 udp0 alice 487 INVITE");
    world_ack(w, "alice", "1");
    /* It wakes up too late: told to stop, all the same. */
    world_answer(w, "a", "INVITE", 180, NULL);
    EXPECT(w, "2100 udp2 a CANCEL");
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "2100 udp2 a ACK");
    drained(w);
}

static void after_a_100(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 100, NULL);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp2 a CANCEL");
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "0 udp2 a ACK", "0 udp0 alice 487 INVITE");
    drained(w);
}

static void while_it_rings(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    world_forget(w);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp2 a CANCEL");
    /* Lost: it is repeated as any request, until something comes. */
    world_run(w, 1600);
    EXPECT(w, "500 udp2 a CANCEL", "1500 udp2 a CANCEL");
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_run(w, 10000);
    EXPECT_NOTHING(w);
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "11600 udp2 a ACK", "11600 udp0 alice 487 INVITE");
    assert_string_equal(w->end, "CP");
    drained(w);
}

static void repeated(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    world_forget(w);
    world_cancel(w, "alice", "1");
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp2 a CANCEL", "0 udp0 alice 200 CANCEL");
    drained(w);
}

/* No 487 ever: 64·T1 after the CANCEL the matter is closed (9.1). */
static void without_a_487(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    world_cancel(w, "alice", "1");
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_forget(w);
    world_run(w, 32100);
    EXPECT(w, "32000 udp0 alice 487 INVITE");
    world_ack(w, "alice", "1");
    drained(w);
}

static void crossed_by_a_2xx(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 180, NULL);
    world_cancel(w, "alice", "1");
    world_forget(w);
    world_answer(w, "a", "INVITE", 200, NULL);
    EXPECT(w, "0 udp0 alice 200 INVITE");
    world_answer(w, "a", "CANCEL", 481, NULL);
    EXPECT_NOTHING(w);
    drained(w);
}

static void after_the_final(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 200, NULL);
    world_forget(w);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL");
    drained(w);
}

/* The caller gave up: a failure that would have moved on becomes a 487, and nobody else rings. */
static void failing_over(void **state)
{
    (void)state;
    static const int codes[] = {408, 430, 503};
    for (size_t i = 0; i < 3; i++) {
        struct world *w = with_invite();
        world_cancel(w, "alice", "1");
        world_forget(w);
        world_answer(w, "a", "INVITE", codes[i], NULL);
        EXPECT(w, "0 udp2 a ACK", "0 udp0 alice 487 INVITE");
        drained(w);
    }
}

static void when_the_second_is_being_asked(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_answer(w, "a", "INVITE", 503, NULL);
    world_answer(w, "b", "INVITE", 100, NULL);
    world_forget(w);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 200 CANCEL", "0 udp2 b CANCEL");
    world_answer(w, "b", "INVITE", 487, NULL);
    EXPECT(w, "0 udp2 b ACK", "0 udp0 alice 487 INVITE");
    drained(w);
}

static void when_refused(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_cancel(w, "alice", "1");
    world_forget(w);
    world_unreachable(w, "a");
    EXPECT(w, "0 udp0 alice 487 INVITE");
    drained(w);
}

static struct world *with_hanging_connections(void)
{
    struct world *w = world_plan();
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    w->connects_hang = true;
    world_start(w);
    return w;
}

/* The INVITE has not left: the caller hears at once, and the connection with what waits for it is
 * given up. */
static void while_connecting(void **state)
{
    (void)state;
    struct world *w = with_hanging_connections();
    world_invite(w, "alice", "1");
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE", "0 udp0 alice 200 CANCEL",
           "0 udp0 alice 487 INVITE", "0 close a");
    assert_string_equal(w->end, "CC");
    world_ack(w, "alice", "1");
    world_connect_failed(w, world_last_flow(w));
    world_run(w, 1);
    EXPECT_NOTHING(w);
    /* That says nothing about the target: its next connection need not wait. */
    world_invite(w, "bob", "2");
    world_invite(w, "carol", "3");
    world_forget(w);
    world_invite(w, "mallory", "4");
    EXPECT(w, "1 udp0 mallory 100 INVITE", "1 connect a", "1 tcp a INVITE");
    drained(w);
}

/* Somebody else's request waits for it, too: it is made, and the INVITE that leaves is called back
 * as soon as that may be (RFC 3261 9.1). */
static void while_connecting_for_another_as_well(void **state)
{
    (void)state;
    struct world *w = with_hanging_connections();
    w->opts.edge.connections_per_target = 1;
    world_adopt(w, 0);
    world_invite(w, "alice", "1");
    world_invite(w, "bob", "2");
    world_invite(w, "carol", "3");
    world_invite(w, "bob", "4");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 connect a", "0 tcp a INVITE", "0 udp0 bob 100 INVITE",
           "0 connect b", "0 tcp b INVITE", "0 udp0 carol 100 INVITE", "0 connect c",
           "0 tcp c INVITE", "0 udp0 bob 100 INVITE", "0 tcp a INVITE");
    world_cancel(w, "bob", "4");
    EXPECT(w, "0 udp0 bob 200 CANCEL", "0 udp0 bob 487 INVITE");
    world_ack(w, "bob", "4");
    world_connected(w, world_flow_to(w, "a"));
    world_answer(w, "a", "INVITE", 100, NULL);
    EXPECT(w, "0 tcp a CANCEL");
    world_answer(w, "a", "CANCEL", 200, NULL);
    world_answer(w, "a", "INVITE", 487, NULL);
    EXPECT(w, "0 tcp a ACK");
    world_connect_failed(w, world_flow_to(w, "b"));
    world_connect_failed(w, world_flow_to(w, "c"));
    world_run(w, 1);
    drained(w);
}

static void while_resolving(void **state)
{
    (void)state;
    struct world *w = world_new();
    char *text = world_request("INVITE", "sip:bob@example.net", "proxy", "1", NULL);
    world_udp(w, 2, "proxy", text);
    free(text);
    EXPECT(w, "0 udp2 proxy 100 INVITE", "0 resolve example.net:0/255");
    world_cancel(w, "proxy", "1");
    EXPECT(w, "0 udp2 proxy 200 CANCEL", "0 udp2 proxy 487 INVITE");
    world_resolved(w, (const char *const[]){"bob"}, 1);
    EXPECT_NOTHING(w);
    drained(w);
}

static void of_nothing(void **state)
{
    (void)state;
    struct world *w = world_plan();
    world_start(w);
    world_cancel(w, "alice", "1");
    /* Perhaps the other worker has it. */
    EXPECT(w, "0 hand 1 CANCEL");
    struct world *other = world_plan();
    other->worker = 1;
    world_start(other);
    world_hand(w, other);
    EXPECT(other, "0 udp0 alice 481 CANCEL");
    drained(other);
    drained(w);
}

/* A CANCEL of somebody else's: another host in sent-by is another transaction. */
static void of_another_sender(void **state)
{
    (void)state;
    struct world *w = with_invite();
    world_cancel(w, "mallory", "1");
    EXPECT(w, "0 hand 1 CANCEL");
    drained(w);
}

static void of_a_non_invite(void **state)
{
    (void)state;
    struct world *w = world_new();
    world_send(w, "alice", "MESSAGE", "1", NULL);
    world_forget(w);
    world_cancel(w, "alice", "1");
    EXPECT(w, "0 hand 1 CANCEL"); /* there is no such INVITE here */
    drained(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_any_answer),
        cmocka_unit_test(of_a_dead_target),
        cmocka_unit_test(after_a_100),
        cmocka_unit_test(while_it_rings),
        cmocka_unit_test(repeated),
        cmocka_unit_test(without_a_487),
        cmocka_unit_test(crossed_by_a_2xx),
        cmocka_unit_test(after_the_final),
        cmocka_unit_test(failing_over),
        cmocka_unit_test(when_the_second_is_being_asked),
        cmocka_unit_test(when_refused),
        cmocka_unit_test(while_connecting),
        cmocka_unit_test(while_connecting_for_another_as_well),
        cmocka_unit_test(while_resolving),
        cmocka_unit_test(of_nothing),
        cmocka_unit_test(of_another_sender),
        cmocka_unit_test(of_a_non_invite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
