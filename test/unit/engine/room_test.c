/* SPDX-License-Identifier: Apache-2.0
 *
 * Running out of room: every table and block pool fails at every point of whole calls, once and for
 * good. Nothing crashes, something is answered or counted, and in the end nothing is left. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "edge/edge_int.h"
#include "support/world.h"

enum { LADDER_STEPS_MAX = 400 };

static bool got(const struct world *w, const char *peer, const char *method)
{
    return world_last_request(w, peer, method) != NULL;
}

/* Answers if it was asked: with faults it may not have been. */
static void answer(struct world *w, const char *peer, const char *method, int status)
{
    if (got(w, peer, method))
        world_answer(w, peer, method, status, NULL);
}

static void dialog_request(struct world *w, bool by_caller, const char *method, const char *branch)
{
    bool up = false;
    for (unsigned i = 0; i < w->message_count && !up; i++) {
        struct addr alice = world_peer("alice");
        up = addr_equal(&w->message[i].peer, &alice) &&
             strncmp(w->message[i].p, "SIP/2.0 200", 11) == 0 &&
             world_has(w->message[i].p, "INVITE");
    }
    if (!up || !got(w, "b", "INVITE"))
        return;
    char *text = world_in_dialog(w, "alice", "b", by_caller, method, branch);
    world_udp(w, by_caller ? 0 : 2, by_caller ? "alice" : "b", text);
    free(text);
}

/* A 503, a call at the second target, its BYE. */
static void scene_call(struct world *w)
{
    world_invite(w, "alice", "1");
    answer(w, "a", "INVITE", 503);
    answer(w, "b", "INVITE", 180);
    world_invite(w, "alice", "1");
    answer(w, "b", "INVITE", 200);
    dialog_request(w, true, "ACK", "2");
    dialog_request(w, false, "BYE", "3");
    if (got(w, "alice", "BYE"))
        world_answer(w, "alice", "BYE", 200, NULL);
}

/* Silence, a late ringing, a CANCEL. */
static void scene_cancel(struct world *w)
{
    world_invite(w, "alice", "1");
    world_run(w, 2100);
    answer(w, "a", "INVITE", 180);
    answer(w, "c", "INVITE", 180);
    answer(w, "b", "INVITE", 180);
    world_cancel(w, "alice", "1");
    world_run(w, 600);
    answer(w, "a", "CANCEL", 200);
    answer(w, "b", "CANCEL", 200);
    answer(w, "c", "CANCEL", 200);
    answer(w, "a", "INVITE", 487);
    answer(w, "b", "INVITE", 487);
    answer(w, "c", "INVITE", 487);
    if (world_last(w, "alice") != NULL)
        world_ack(w, "alice", "1");
}

/* All targets fail. */
static void scene_exhausted(struct world *w)
{
    world_invite(w, "alice", "1");
    answer(w, "a", "INVITE", 503);
    world_run(w, 2100);
    answer(w, "b", "INVITE", 408);
    answer(w, "c", "INVITE", 408);
    answer(w, "b", "INVITE", 408);
    world_run(w, 10000);
    world_send(w, "alice", "MESSAGE", "2", NULL);
    world_run(w, 10000);
}

/* By name, to two addresses. */
static void scene_name(struct world *w)
{
    char *text = world_request("INVITE", "sip:bob@name.test", "proxy", "1", NULL);
    world_udp(w, 2, "proxy", text);
    free(text);
    if (w->resolve_id != 0)
        world_resolved(w, (const char *const[]){"bob", "carol"}, 2);
    answer(w, "bob", "INVITE", 503);
    answer(w, "carol", "INVITE", 486);
}

/* The ACK of a call whose callee is a name. */
static void scene_ack(struct world *w)
{
    world_invite(w, "alice", "1");
    answer(w, "a", "INVITE", 200);
    char *text = world_request("ACK", "sip:bob@name.test", "proxy", "1", NULL);
    for (unsigned i = 0; i < 2; i++) {
        world_udp(w, 2, "proxy", text);
        if (w->resolve_id != 0)
            world_resolved(w, (const char *const[]){"bob"}, 1);
    }
    world_udp(w, 2, "proxy", text); /* never resolved */
    free(text);
}

static void scene_connections(struct world *w)
{
    for (unsigned i = 0; i < 3; i++)
        w->target[i].transport = TP_TCP;
    w->opts.edge.strip_foreign_routes = true;
    world_adopt(w, 0);
    world_invite(w, "alice", "1");
    for (unsigned i = 0; i < w->flow_count; i++)
        if (w->flow[i].open)
            world_close(w, w->flow[i].id, 104);
    world_run(w, 100);
    answer(w, "b", "INVITE", 100);
    world_run(w, 30000);
}

static bool something_was_done(const struct world *w)
{
    const struct counters *c = engine_counters(w->engine);
    return w->message_count > 0 || c->transactions_refused + c->requests_bad_dropped > 0 ||
           w->records > 0;
}

/* ---- phones that register -------------------------------------------------------------------- */

static void registers(struct world *w, const char *who, unsigned reg_id)
{
    char *text = NULL;
    struct flow_id flow = world_accept(w, 1, who);
    if (asprintf(&text,
                 "REGISTER sip:example.com SIP/2.0\n"
                 "Via: SIP/2.0/TCP phone.invalid;branch=z9hG4bK-r%s\n"
                 "Max-Forwards: 70\n"
                 "From: <sip:service@example.com>;tag=r-%s\n"
                 "To: <sip:service@example.com>\n"
                 "Call-ID: reg-%s\n"
                 "CSeq: 1 REGISTER\n"
                 "Contact: <sip:%s@192.168.1.2>;+sip.instance=\"<urn:x:%u>\";reg-id=%u\n"
                 "Supported: outbound\n\n",
                 who, who, who, who, reg_id / 2, reg_id) < 0)
        fail_msg("no memory");
    world_tcp(w, flow, text);
    free(text);
}

/* Two phones, one with two flows; one flow says 430, one phone is busy, one is called back. */
static void scene_phones(struct world *w)
{
    static const struct slice domains[] = {{"example.com", 11}};
    w->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    w->opts.edge.registrar = (struct registrar_opts){.on = true,
                                                     .domains = domains,
                                                     .domain_count = 1,
                                                     .expires_max_s = 3600,
                                                     .expires_default_s = 100,
                                                     .contacts_max = 10};
    world_adopt(w, 0);
    registers(w, "bob", 2);
    registers(w, "carol", 3);
    registers(w, "elsewhere", 4);
    world_invite(w, "alice", "1");
    answer(w, "carol", "INVITE", 430);
    answer(w, "bob", "INVITE", 180);
    answer(w, "elsewhere", "INVITE", 180);
    answer(w, "bob", "INVITE", 486);
    world_cancel(w, "alice", "1");
    answer(w, "elsewhere", "CANCEL", 200);
    answer(w, "elsewhere", "INVITE", 487);
    world_send(w, "alice", "MESSAGE", "2", NULL);
    for (unsigned i = 0; i < w->flow_count; i++)
        if (w->flow[i].open)
            world_close(w, w->flow[i].id, 104);
    world_run(w, 40000);
}

/* ---- climbing -------------------------------------------------------------------------------- */

static void climb(void (*scene)(struct world *), bool forever)
{
    for (uint64_t at = 0;; at++) {
        if (at > LADDER_STEPS_MAX)
            fail_msg("the ladder does not end");
        struct world *w = world_plan();
        w->opts.limits.bindings = 8;
        world_start(w);
        w->fault = (struct fault){.countdown = at, .forever = forever};
        scene(w);
        bool spent = w->fault.spent;
        bool done = something_was_done(w);
        w->fault = (struct fault){.countdown = UINT64_MAX};
        if (!done)
            fail_msg("fault %u: neither answered nor counted", (unsigned)at);
        world_drain(w, 200000);
        world_free(w);
        if (!spent)
            return;
    }
}

#define LADDER(name)                                                                               \
    static void name##_once(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        climb(scene_##name, false);                                                                \
    }                                                                                              \
    static void name##_forever(void **state)                                                       \
    {                                                                                              \
        (void)state;                                                                               \
        climb(scene_##name, true);                                                                 \
    }

LADDER(call)
LADDER(cancel)
LADDER(exhausted)
LADDER(name)
LADDER(connections)
LADDER(ack)
LADDER(phones)

/* ---- full tables ----------------------------------------------------------------------------- */

static void full_table_says_503(void **state)
{
    (void)state;
    struct world *w = world_plan();
    w->opts.limits.transactions = 4;
    world_start(w);
    for (unsigned i = 0; i < 5; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "m%u", i);
        world_forget(w);
        world_send(w, "alice", "MESSAGE", branch, NULL);
    }
    EXPECT(w, "0 udp0 alice 503 MESSAGE");
    assert_string_equal(world_header(world_last(w, "alice"), "Retry-After", 0), "5");
    assert_int_equal(engine_counters(w->engine)->transactions_refused, 1);
    assert_int_equal(engine_load(w->engine).relays, 4);
    world_drain(w, 200000);
    world_forget(w);
    world_send(w, "alice", "MESSAGE", "again", NULL);
    assert_int_equal(w->line_count, 1);
    assert_true(world_has(w->line[0], "udp2"));
    world_drain(w, 200000);
    world_free(w);
}

static void full_blocks_say_503(void **state)
{
    (void)state;
    struct world *w = world_plan();
    memset(w->opts.limits.blocks, 0, sizeof w->opts.limits.blocks);
    world_start(w);
    world_invite(w, "alice", "1");
    EXPECT(w, "0 udp0 alice 100 INVITE", "0 udp0 alice 503 INVITE");
    world_drain(w, 200000);
    world_free(w);
}

/* What lasts 32 s of each transaction: relay, try, and a small block. */
static void a_lingering_transaction_takes_at_most_1_kib(void **state)
{
    (void)state;
    size_t relay = (sizeof(struct relay) + 15) / 16 * 16; /* as a slab holds them */
    size_t try = (sizeof(struct try) + 15) / 16 * 16;
    size_t all = relay + try + block_class_bytes[0];
    print_message("relay %zu + try %zu + block %u = %zu\n", relay, try, block_class_bytes[0], all);
    assert_true(all <= 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_once),
        cmocka_unit_test(call_forever),
        cmocka_unit_test(cancel_once),
        cmocka_unit_test(cancel_forever),
        cmocka_unit_test(exhausted_once),
        cmocka_unit_test(exhausted_forever),
        cmocka_unit_test(name_once),
        cmocka_unit_test(name_forever),
        cmocka_unit_test(connections_once),
        cmocka_unit_test(connections_forever),
        cmocka_unit_test(ack_once),
        cmocka_unit_test(ack_forever),
        cmocka_unit_test(phones_once),
        cmocka_unit_test(phones_forever),
        cmocka_unit_test(full_table_says_503),
        cmocka_unit_test(full_blocks_say_503),
        cmocka_unit_test(a_lingering_transaction_takes_at_most_1_kib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
