/* SPDX-License-Identifier: Apache-2.0
 *
 * Overload control with neighbours, both ways (RFC 7339). */
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
    w->opts.limits.guard.sources = 256;
    w->opts.edge.overload = true;
    return w;
}

static void drained(struct world *w)
{
    world_drain(w, 250000);
    world_free(w);
}

/* `peer` answers its last request, and says in the Via what it wants less of. */
static void answer_with(struct world *w, const char *peer, const char *method, int status,
                        const char *oc)
{
    static const char asked[] = ";oc;oc-algo=\"loss\"";
    char *plain = world_response(w, peer, method, status, peer, NULL);
    char *at = strstr(plain, asked);
    assert_non_null(at);
    char *text;
    int n = asprintf(&text, "%.*s%s%s", (int)(at - plain), plain, oc, at + sizeof asked - 1);
    assert_true(n > 0);
    world_reply(w, peer, text);
    free(text);
    free(plain);
}

static void we_ask_for_it(void **state)
{
    (void)state;
    struct world *w = guarded();
    world_start(w);
    world_send(w, "alice", "MESSAGE", "m", NULL);
    const char *via = world_header(world_last_request(w, "a", "MESSAGE"), "Via", 0);
    assert_non_null(strstr(via, ";oc;oc-algo=\"loss\""));
    world_answer(w, "a", "MESSAGE", 200, NULL);
    world_forget(w);
    drained(w);
}

static void who_wants_nothing_is_passed_over(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->pool.target_count = 2;
    world_start(w);
    world_send(w, "alice", "REGISTER", "m1", NULL);
    answer_with(w, "a", "REGISTER", 200, ";oc=100;oc-algo=\"loss\";oc-validity=2000;oc-seq=5.1");
    for (unsigned i = 0; i < 6; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "n%u", i);
        world_forget(w);
        world_send(w, "alice", "MESSAGE", branch, NULL);
        EXPECT(w, "0 udp2 b MESSAGE");
        world_answer(w, "b", "MESSAGE", 200, NULL);
    }
    assert_true(engine_counters(w->engine)->requests_held_back > 0);
    world_forget(w);
    world_run(w, 2001); /* its word has run out */
    world_restart_clock(w);
    unsigned to_a = 0;
    for (unsigned i = 0; i < 4; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "o%u", i);
        world_forget(w);
        world_send(w, "alice", "MESSAGE", branch, NULL);
        bool is_a = strstr(w->line[w->line_count - 1], " a MESSAGE") != NULL;
        to_a += is_a;
        world_answer(w, is_a ? "a" : "b", "MESSAGE", 200, NULL);
    }
    assert_int_equal(to_a, 2);
    world_forget(w);
    drained(w);
}

static void when_all_want_nothing_the_asker_is_told(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->pool.target_count = 1;
    world_start(w);
    world_send(w, "alice", "REGISTER", "m1", NULL);
    answer_with(w, "a", "REGISTER", 200, ";oc=100;oc-validity=5000;oc-seq=1.0");
    world_forget(w);
    world_send(w, "alice", "MESSAGE", "m2", NULL);
    EXPECT(w, "0 udp0 alice 503 MESSAGE");
    assert_string_not_equal(world_header(world_last(w, "alice"), "Retry-After", 0), "");
    drained(w);
}

static void nonsense_is_not_heard(void **state)
{
    (void)state;
    static const char *const words[] = {
        ";oc=101", ";oc=-1", ";oc=", ";oc=9x", ";oc=100;oc-validity=no", ";oc=100;oc-validity=0"};
    struct world *w = guarded();
    w->pool.target_count = 1;
    world_start(w);
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        char branch[16];
        snprintf(branch, sizeof branch, "w%u", i);
        world_forget(w);
        world_send(w, "alice", "REGISTER", branch, NULL);
        EXPECT(w, "0 udp2 a REGISTER");
        answer_with(w, "a", "REGISTER", 200, words[i]);
    }
    world_forget(w);
    drained(w);
}

/* A callee sees our Via, and answers as he likes: by way of a target that passes it up as it is, or
 * straight to us. Only what a target says itself is heard. */
static void a_callee_has_no_say(void **state)
{
    (void)state;
    static const char oc[] = ";oc=100;oc-validity=3600000;oc-seq=9.0";
    struct world *w = guarded();
    w->pool.target_count = 1;
    world_start(w);
    world_invite(w, "alice", "forged");
    answer_with(w, "a", "INVITE", 180, oc);
    answer_with(w, "a", "INVITE", 486, oc);
    world_ack(w, "alice", "forged");
    world_send(w, "alice", "MESSAGE", "m", NULL);
    answer_with(w, "a", "MESSAGE", 200, oc);
    world_invite(w, "alice", "open");
    char *plain = world_response(w, "a", "INVITE", 100, "", NULL);
    char *at = strstr(plain, ";oc;"), *text;
    assert_non_null(at);
    assert_true(asprintf(&text, "%.*s%s%s", (int)(at - plain), plain, oc, at + 3) > 0);
    world_udp(w, 2, "b", text);
    world_udp(w, 0, "a", text); /* as if from there, to where outsiders come */
    assert_int_equal(engine_counters(w->engine)->overloads_heard, 0);
    world_udp(w, 2, "a", text);
    assert_int_equal(engine_counters(w->engine)->overloads_heard, 1);
    free(text);
    free(plain);
    world_answer(w, "a", "INVITE", 486, NULL);
    world_ack(w, "alice", "open");
    world_forget(w);
    drained(w);
}

static void a_target_is_not_held_to_the_word_of_one_before_it(void **state)
{
    (void)state;
    struct world *w = guarded();
    w->pool.target_count = 1;
    w->opts.limits.targets = 1; /* and as many that are on their way out */
    world_start(w);
    world_send(w, "alice", "REGISTER", "m1", NULL);
    answer_with(w, "a", "REGISTER", 200, ";oc=100;oc-validity=3600000;oc-seq=1.0");
    struct pool_target_opts all[3];
    memcpy(all, w->target, sizeof all);
    for (unsigned i = 0; i < 40; i++) { /* one of these takes the place of the first */
        const char *name = i % 2 == 0 ? "b" : "c", *line = i % 2 == 0 ? " b MESSAGE" : " c MESSAGE";
        char branch[16];
        snprintf(branch, sizeof branch, "t%u", i);
        w->target[0] = all[i % 2 + 1];
        world_adopt(w, 0);
        world_forget(w);
        world_send(w, "alice", "MESSAGE", branch, NULL);
        assert_true(w->line_count == 1 && strstr(w->line[0], line) != NULL);
        world_answer(w, name, "MESSAGE", 200, NULL);
    }
    world_forget(w);
    drained(w);
}

/* ---- what we say ------------------------------------------------------------------------------
 */

static const char *answer_to(struct world *w, const char *from, uint8_t listener, const char *via)
{
    static unsigned serial;
    char text[1024];
    snprintf(text, sizeof text,
             "OPTIONS sip:10.0.0.1 SIP/2.0\n"
             "Via: SIP/2.0/UDP 10.1.0.99:5060;branch=z9hG4bK-oc%u%s\n"
             "Max-Forwards: 70\n"
             "From: <sip:edge@example.com>;tag=1\n"
             "To: <sip:10.0.0.1>\n"
             "Call-ID: oc-%u\n"
             "CSeq: 1 OPTIONS\n\n",
             serial, via, serial);
    serial++;
    world_udp(w, listener, from, text);
    return world_header(world_last(w, from), "Via", 0);
}

static void we_tell_who_asks(void **state)
{
    (void)state;
    struct world *w = guarded();
    world_start(w);
    assert_null(strstr(answer_to(w, "proxy", 2, ";oc;oc-algo=\"loss\""), "oc="));
    w->waited = 400 * NS_MS;
    for (unsigned i = 0; i < 400; i++) {
        char branch[32];
        snprintf(branch, sizeof branch, "behind-%u", i);
        world_send(w, "mallory", "OPTIONS", branch, NULL);
        world_run(w, 10);
    }
    world_forget(w);
    const char *via = answer_to(w, "proxy", 2, ";oc;oc-algo=\"loss\"");
    const char *oc = strstr(via, ";oc=");
    assert_non_null(oc);
    assert_in_range(atoi(oc + 4), 1, 100);
    assert_non_null(strstr(via, ";oc-validity=500;oc-seq="));
    assert_null(strstr(answer_to(w, "proxy", 2, ""), "oc="));
    assert_null(strstr(answer_to(w, "proxy", 2, ";ocean"), "oc="));
    /* An outsider is told nothing. */
    assert_null(strstr(answer_to(w, "alice", 0, ";oc;oc-algo=\"loss\""), "oc="));
    w->waited = 0;
    world_forget(w);
    world_run(w, 20000);
    drained(w);
}

/* What a phone writes into the Via of who stands before us does not go there as our word. */
static void a_phone_does_not_speak_for_us(void **state)
{
    (void)state;
    static const struct slice domains[] = {{"example.com", 11}};
    struct world *w = guarded();
    w->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    w->opts.edge.registrar = (struct registrar_opts){.on = true,
                                                     .domains = domains,
                                                     .domain_count = 1,
                                                     .expires_max_s = 7200,
                                                     .expires_default_s = 3600,
                                                     .contacts_max = 4};
    w->opts.limits.bindings = 16;
    w->opts.edge.trying_delay = 100 * NS_MS;
    w->workers = 1;
    world_start(w);
    world_udp(w, 0, "bob",
              "REGISTER sip:example.com SIP/2.0\n"
              "Via: SIP/2.0/UDP 192.168.1.2;branch=z9hG4bK-reg;rport\n"
              "Max-Forwards: 70\nFrom: <sip:bob@example.com>;tag=r\n"
              "To: <sip:bob@example.com>\nCall-ID: reg\nCSeq: 1 REGISTER\n"
              "Contact: <sip:bob@192.168.1.2>\n\n");
    world_udp(w, 2, "proxy",
              "INVITE sip:bob@example.com SIP/2.0\n"
              "Via: SIP/2.0/UDP 10.1.0.99:5060;branch=z9hG4bK-up;oc;oc-algo=\"loss\"\n"
              "Max-Forwards: 70\nFrom: <sip:a@example.com>;tag=a\n"
              "To: <sip:bob@example.com>\nCall-ID: up\nCSeq: 1 INVITE\n"
              "Contact: <sip:a@10.1.0.99>\n\n");
    char *plain = world_response(w, "bob", "INVITE", 100, "", NULL), *text;
    char *at = strstr(plain, ";oc;");
    assert_non_null(at);
    assert_true(
        asprintf(&text, "%.*s;oc=100;oc-validity=3600000%s", (int)(at - plain), plain, at + 3) > 0);
    world_udp(w, 0, "bob", text);
    free(text);
    free(plain);
    const char *m = world_last(w, "proxy");
    assert_int_equal(strncmp(m, "SIP/2.0 100", 11), 0);
    assert_null(strstr(m, "oc=100"));
    world_answer(w, "bob", "INVITE", 486, NULL);
    world_forget(w);
    world_drain(w, 8000000);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(we_ask_for_it),
        cmocka_unit_test(who_wants_nothing_is_passed_over),
        cmocka_unit_test(when_all_want_nothing_the_asker_is_told),
        cmocka_unit_test(nonsense_is_not_heard),
        cmocka_unit_test(a_callee_has_no_say),
        cmocka_unit_test(a_target_is_not_held_to_the_word_of_one_before_it),
        cmocka_unit_test(we_tell_who_asks),
        cmocka_unit_test(a_phone_does_not_speak_for_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
