/* SPDX-License-Identifier: Apache-2.0
 *
 * Pings of phones over UDP: to whom, when, for how long, and what an answer is worth.
 * covers: keepalive.c, path.c, role.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/world.h"

static const char nat[] = "203.0.113.9:40001", nat2[] = "203.0.113.9:40002";
static const char contact[] = "<sip:phone@192.168.1.9:5060>";

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

/* An edge in front of one registrar, a. */
static struct world *planned(uint8_t jitter)
{
    struct world *w = world_plan();
    w->pool.target_count = 1;
    w->workers = 1;
    w->opts.edge.keepalive = (struct edge_keepalive){.udp = 24 * NS_S, .jitter_percent = jitter};
    return w;
}

static struct world *fresh(void)
{
    struct world *w = planned(0);
    world_start(w);
    return w;
}

static void done(struct world *w)
{
    world_forget(w);
    world_drain(w, 250000);
    world_free(w);
}

static char *registration(const char *user, const char *contacts)
{
    static unsigned serial;
    unsigned n = ++serial;
    return print("REGISTER sip:example.com SIP/2.0\n"
                 "Via: SIP/2.0/UDP 192.168.1.9:5060;branch=z9hG4bK-k%u;rport\n"
                 "Max-Forwards: 70\n"
                 "From: <sip:%s@example.com>;tag=r%u\n"
                 "To: <sip:%s@example.com>\n"
                 "Call-ID: reg-%u@phone\n"
                 "CSeq: 1 REGISTER\n"
                 "%s\n",
                 n, user, n, user, n, contacts);
}

/* The registrar's answer, with these Contact lines and no other. */
static void grant(struct world *w, int status, const char *contacts)
{
    char *text = world_response(w, "a", "REGISTER", status, "a", contacts);
    char *own = strstr(text, "Contact: ");
    assert_non_null(own);
    char *end = strchr(own, '\n') + 1;
    memmove(own, end, strlen(end) + 1);
    world_reply(w, "a", text);
    free(text);
}

/* A REGISTER and its answer; what that did is forgotten, and time begins anew. */
static void asked(struct world *w, const char *from, const char *user, const char *contacts,
                  int status, const char *granted)
{
    char *text = registration(user, contacts);
    world_udp(w, 0, from, text);
    free(text);
    grant(w, status, granted);
    world_forget(w);
    world_restart_clock(w);
}

static void registered(struct world *w, const char *from, const char *user, unsigned seconds)
{
    char *want = print("Contact: %s;expires=%u\n", contact, seconds);
    asked(w, from, user, want, 200, seconds > 0 ? want : "");
    free(want);
}

/* Runs, and answers each ping when it has come. */
static void run_answering(struct world *w, unsigned seconds, int status)
{
    for (unsigned i = 0; i < seconds; i++) {
        unsigned lines = w->line_count;
        world_run(w, 1000);
        if (w->line_count > lines && strstr(w->line[w->line_count - 1], "OPTIONS") != NULL)
            world_answer(w, nat, "OPTIONS", status, NULL);
    }
}

static const struct counters *counted(const struct world *w)
{
    return engine_counters(w->engine);
}

static void a_silent_phone_is_pinged(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 600);
    run_answering(w, 100, 200);
    EXPECT(w, "24000 udp0 203.0.113.9:40001 OPTIONS", "48000 udp0 203.0.113.9:40001 OPTIONS",
           "72000 udp0 203.0.113.9:40001 OPTIONS", "96000 udp0 203.0.113.9:40001 OPTIONS");
    assert_int_equal(counted(w)->udp_pings, 4);
    assert_int_equal(counted(w)->udp_pongs, 4);
    struct addr a = world_peer(nat); /* it is really there: no datagrams in its name can ban it */
    assert_true(guard_is_known(engine_guard(w->engine), &a, w->now));
    assert_int_equal(counted(w)->responses_stray, 0);
    const char *m = world_last_request(w, nat, "OPTIONS");
    assert_true(strlen(m) < 400);
    assert_true(world_has(m, "OPTIONS sip:203.0.113.9:40001 SIP/2.0"));
    assert_true(world_has(world_header(m, "Via", 0), "192.0.2.1:5060;branch=z9hG4bK"));
    assert_true(world_has(world_header(m, "From", 0), ";tag="));
    assert_string_equal(world_header(m, "CSeq", 0), "1 OPTIONS");
    done(w);
}

/* RFC 3261 11: whoever answers is there, whatever he says. */
static void any_answer_will_do(void **state)
{
    (void)state;
    static const int statuses[] = {200, 302, 401, 404, 405, 481, 486, 500, 503, 603};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct world *w = fresh();
        registered(w, nat, "alice", 3600);
        run_answering(w, 480, statuses[i]);
        assert_int_equal(w->line_count, 20);
        assert_int_equal(counted(w)->udp_pongs, 20);
        done(w);
    }
    struct world *w = fresh();
    registered(w, nat, "alice", 3600);
    world_run(w, 24500);
    world_answer(w, nat, "OPTIONS", 100, NULL); /* a sign of life, but the answer is to come */
    world_answer(w, nat, "OPTIONS", 200, NULL);
    assert_int_equal(counted(w)->udp_pongs, 1);
    done(w);
}

static void without_an_answer_it_ends(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 7200);
    world_run(w, 24000);
    world_answer(w, nat, "OPTIONS", 200, NULL); /* one, that proves it */
    world_forget(w);
    world_restart_clock(w);
    world_run(w, 3600000);
    EXPECT(w, "24000 udp0 203.0.113.9:40001 OPTIONS", "26000 udp0 203.0.113.9:40001 OPTIONS",
           "28000 udp0 203.0.113.9:40001 OPTIONS", "52000 udp0 203.0.113.9:40001 OPTIONS",
           "76000 udp0 203.0.113.9:40001 OPTIONS");
    /* It speaks again, in whatever way. */
    world_step(w, &(struct event){.kind = EV_ALIVE, .listener = 0, .source = world_peer(nat)});
    world_restart_clock(w);
    world_run(w, 25000);
    EXPECT(w, "24000 udp0 203.0.113.9:40001 OPTIONS");
    /* One that was lost is made good; then it goes on as ever. */
    world_run(w, 1500);
    EXPECT(w, "26000 udp0 203.0.113.9:40001 OPTIONS");
    world_answer(w, nat, "OPTIONS", 200, NULL);
    world_run(w, 30000);
    EXPECT(w, "50500 udp0 203.0.113.9:40001 OPTIONS", "52500 udp0 203.0.113.9:40001 OPTIONS",
           "54500 udp0 203.0.113.9:40001 OPTIONS");
    done(w);
}

/* Somebody else may have put that address into the REGISTER, and may go on to do so. */
static void who_never_answered_is_asked_twice(void **state)
{
    (void)state;
    struct world *w = fresh();
    for (unsigned k = 0; k < 2; k++) {
        registered(w, nat, "alice", 7200);
        for (unsigned i = 0; i < 100; i++) {
            world_run(w, 30000);
            world_step(w,
                       &(struct event){.kind = EV_ALIVE, .listener = 0, .source = world_peer(nat)});
        }
        EXPECT(w, "24000 udp0 203.0.113.9:40001 OPTIONS", "26000 udp0 203.0.113.9:40001 OPTIONS");
    }
    done(w);
}

/* A phone that keeps itself alive, by CRLF CRLF, by STUN (EV_ALIVE) or by SIP. */
static void who_speaks_is_not_pinged(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 7200);
    for (unsigned i = 0; i < 60; i++) {
        world_run(w, 23500);
        if (i % 3 == 2) {
            char *text = world_request("OPTIONS", "sip:192.0.2.1", nat, "x", NULL);
            world_udp(w, 0, nat, text);
            free(text);
            continue;
        }
        world_step(w, &(struct event){.kind = i % 3 == 0 ? EV_PING : EV_ALIVE,
                                      .listener = 0,
                                      .transport = TP_UDP,
                                      .source = world_peer(nat)});
    }
    assert_int_equal(counted(w)->udp_pings, 0);
    done(w);
}

static void only_who_is_registered_from_outside(void **state)
{
    (void)state;
    static const struct {
        const char *name, *contacts;
        int status;
        const char *granted;
    } rows[] = {
        {"refused", "Contact: <sip:p@x>;expires=600\n", 403, "Contact: <sip:p@x>;expires=600\n"},
        {"challenged", "Contact: <sip:p@x>\n", 401, ""},
        {"a question", "", 200, "Contact: <sip:p@x>;expires=600\n"},
        {"ended by its Contact", "Contact: <sip:p@x>;expires=0\n", 200,
         "Contact: <sip:other@y>;expires=600\n"},
        {"ended by the header", "Contact: <sip:p@x>\nExpires: 0\n", 200, ""},
        {"all ended", "Contact: *\nExpires: 0\n", 200, ""},
        {"not granted", "Contact: <sip:p@x>\nExpires: 600\n", 200, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = fresh();
        asked(w, nat, "alice", rows[i].contacts, rows[i].status, rows[i].granted);
        world_run(w, 600000);
        if (w->line_count != 0)
            fail_msg("%s: %s", rows[i].name, w->line[0]);
        done(w);
    }
    struct world *w = planned(0);
    w->rule[0].from = RULE_ANY;
    world_start(w);
    char *text = registration("alice", "Contact: <sip:p@x>;expires=600\n");
    world_udp(w, 2, "proxy", text);
    free(text);
    grant(w, 200, "Contact: <sip:p@x>;expires=600\n");
    world_forget(w);
    world_run(w, 600000);
    EXPECT_NOTHING(w);
    done(w);
}

/* Seconds after which it is pinged no more, whatever it answers. */
static void no_longer_than_its_binding(void **state)
{
    (void)state;
    static const struct {
        const char *name, *contacts, *granted;
        unsigned life_s;
    } rows[] = {
        {"as asked", "Contact: <sip:p@x>;expires=300\n", "Contact: <sip:p@x>;expires=300\n", 300},
        {"shortened", "Contact: <sip:p@x>;expires=900\n", "Contact: <sip:p@x>;expires=120\n", 120},
        {"lengthened", "Contact: <sip:p@x>;expires=60\n", "Contact: <sip:p@x>;expires=240\n", 240},
        {"by the header", "Contact: <sip:p@x>\nExpires: 200\n",
         "Contact: <sip:p@x>\nExpires: 150\n", 150},
        {"nothing said in the answer", "Contact: <sip:p@x>\nExpires: 200\n", "Contact: <sip:p@x>\n",
         200},
        {"nothing said at all", "Contact: <sip:p@x>\n", "Contact: <sip:p@x>\n", 3600},
        {"of others", "Contact: <sip:p@x>;expires=300\n",
         "Contact: <sip:o@y>;expires=3000, <sip:p@x>;expires=100\n", 100},
        {"not known again", "Contact: <sip:p@x>;expires=300\n", "Contact: <sip:p@X>;expires=250\n",
         250},
        {"not known again, beside others", "Contact: <sip:p@x>;expires=300\n",
         "Contact: <sip:p@X>;expires=250, <sip:o@y>;expires=3000\n", 300},
        {"in quotes", "Contact: <sip:p@x>;expires=300\n", "Contact: <sip:p@x>;expires=\"100\"\n",
         100},
        {"no number", "Contact: <sip:p@x>;expires=300\n", "Contact: <sip:p@x>;expires=1e9\n", 300},
        {"two", "Contact: <sip:p@x>;expires=100, <sip:q@x>;expires=200\n",
         "Contact: <sip:p@x>;expires=100, <sip:q@x>;expires=200\n", 200},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = fresh();
        asked(w, nat, "alice", rows[i].contacts, 200, rows[i].granted);
        run_answering(w, 5000, 200);
        /* One falls due at each 24 s; with the answer a second later at most. */
        unsigned pings = w->line_count, last_ms = (unsigned)atoi(w->line[pings - 1]);
        if (last_ms >= rows[i].life_s * 1000 || last_ms + 25000 < rows[i].life_s * 1000)
            fail_msg("%s: %u pings, the last one after %u ms", rows[i].name, pings, last_ms);
        done(w);
    }
}

/* For registrars that know no Path the Contact is ours in what they see and say. */
static void contacts_that_we_wrote(void **state)
{
    (void)state;
    struct world *w = planned(0);
    w->opts.edge.path = PATH_CONTACT;
    world_start(w);
    char *text = registration("alice", "Contact: <sip:p@192.168.1.9>;expires=900\n");
    world_udp(w, 0, nat, text);
    free(text);
    const char *ours = world_header(world_last_request(w, "a", "REGISTER"), "Contact", 0);
    assert_true(world_has(ours, ";wc="));
    char *uri = print("%.*s", (int)(strchr(ours, '>') + 1 - ours), ours);
    char *said = print("Contact: <sip:o@y>;expires=800, %s;expires=100\n", uri);
    grant(w, 200, said);
    world_forget(w);
    run_answering(w, 1000, 200);
    assert_int_equal(w->line_count, 4);
    free(uri);
    free(said);
    done(w);
}

static void lines_end_one_by_one(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 7200);
    registered(w, nat, "bob", 7200);
    registered(w, nat, "alice", 0);
    run_answering(w, 50, 200);
    assert_int_equal(w->line_count, 2);
    registered(w, nat, "carol", 0); /* never was */
    run_answering(w, 50, 200);
    assert_int_equal(w->line_count, 2);
    registered(w, nat, "bob", 0);
    run_answering(w, 500, 200);
    EXPECT_NOTHING(w);
    registered(w, nat, "bob", 60);
    run_answering(w, 500, 200);
    assert_int_equal(w->line_count, 2);
    done(w);
}

/* The NAT gave the port to another phone: what is pinged is what that one has registered. */
static void another_phone_takes_over(void **state)
{
    (void)state;
    struct world *w = fresh();
    char *one = print("Contact: %s;+sip.instance=\"<urn:uuid:1>\";expires=3600\n", contact);
    char *two = print("Contact: %s;+sip.instance=\"<urn:uuid:2>\";expires=60\n", contact);
    asked(w, nat, "alice", one, 200, one);
    asked(w, nat, "bob", two, 200, two);
    run_answering(w, 1000, 200);
    assert_int_equal(w->line_count, 2);
    free(one);
    free(two);
    done(w);
}

/* What is no answer of who was asked: matches nothing, goes nowhere, and counts for nothing but
 * what any datagram from there does. */
static void forged_answers(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 7200);
    registered(w, nat2, "bob", 7200);
    world_run(w, 24500);
    char *good = world_response(w, nat, "OPTIONS", 200, "x", NULL);
    const char *branch = strstr(good, "branch=z9hG4bK");
    assert_non_null(branch);
    size_t at = (size_t)(branch - good) + 14;
    world_forget(w);
    for (size_t i = 0; i < 36; i++) {
        char *bad = strdup(good);
        bad[at + i] = bad[at + i] == 'A' ? 'B' : 'A';
        world_udp(w, 0, nat, bad);
        free(bad);
    }
    uint64_t pongs = counted(w)->udp_pongs; /* worker, process and loop hash are not looked at */
    assert_true(pongs <= 36 - 16);
    assert_true(counted(w)->responses_stray >= 13);
    world_udp(w, 0, nat2, good);                   /* from somebody else */
    world_udp(w, 4, "[2001:db8::9]:5060", good);   /* by another listener */
    world_udp(w, 2, "proxy", good);                /* from inside */
    struct flow_id flow = world_accept(w, 1, nat); /* not by a datagram */
    world_tcp(w, flow, good);
    assert_int_equal(counted(w)->udp_pongs, pongs);
    char *other = print("%s", good), *cseq = strstr(other, "1 OPTIONS");
    memcpy(cseq, "1 MESSAGE", 9);
    world_udp(w, 0, nat, other); /* to another question */
    assert_int_equal(counted(w)->udp_pongs, pongs);
    EXPECT_NOTHING(w);
    assert_int_equal(counted(w)->messages_out, 6); /* two REGISTERs, two 200s, two pings */
    world_udp(w, 0, nat, good);
    assert_int_equal(counted(w)->udp_pongs, pongs + 1);
    EXPECT_NOTHING(w);
    free(good);
    free(other);
    done(w);
}

/* An answer does not make another phone the one that is there. */
static void an_answer_proves_nobody(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 7200);
    world_run(w, 60000); /* longer than NATs wait */
    world_answer(w, nat, "OPTIONS", 200, NULL);
    registered(w, nat, "bob", 60); /* he has her port */
    run_answering(w, 500, 200);
    assert_int_equal(w->line_count, 2); /* for his 60 s, not for her 7,200 */
    done(w);
}

/* What the network says of a ping changes nothing. */
static void unreachable_is_as_silent(void **state)
{
    (void)state;
    struct world *w = fresh();
    registered(w, nat, "alice", 7200);
    world_run(w, 24500);
    world_unreachable(w, nat);
    world_run(w, 200000);
    EXPECT(w, "24000 udp0 203.0.113.9:40001 OPTIONS", "26000 udp0 203.0.113.9:40001 OPTIONS");
    done(w);
}

static void switched_off_and_on(void **state)
{
    (void)state;
    struct world *w = planned(0);
    w->opts.edge.keepalive.udp = 0;
    world_start(w);
    registered(w, nat, "alice", 7200);
    world_run(w, 100000);
    EXPECT_NOTHING(w);
    w->opts.edge.keepalive.udp = 10 * NS_S;
    world_adopt(w, 0);
    registered(w, nat, "alice", 7200);
    run_answering(w, 25, 200);
    EXPECT(w, "10000 udp0 203.0.113.9:40001 OPTIONS", "20000 udp0 203.0.113.9:40001 OPTIONS");
    w->opts.edge.keepalive.udp = 0;
    world_adopt(w, 0);
    run_answering(w, 100, 200);
    EXPECT_NOTHING(w);
    w->opts.edge.keepalive.udp = 10 * NS_S;
    world_adopt(w, 0);
    registered(w, nat, "alice", 7200);
    w->opts.edge.listener[0].used = false; /* its listener goes with a reload */
    world_adopt(w, 0);
    world_run(w, 100000);
    EXPECT_NOTHING(w);
    assert_int_equal(counted(w)->sends_failed, 0);
    done(w);
}

/* Never later than the pause, and not all together. */
static void jitter_only_shortens(void **state)
{
    (void)state;
    enum { PHONES = 60 };
    struct world *w = planned(20);
    w->opts.limits.flows = 1024;
    world_start(w);
    for (unsigned i = 0; i < PHONES; i++) {
        char *from = print("203.0.113.9:%u", 40000 + i);
        registered(w, from, "alice", 600);
        free(from);
    }
    unsigned in_second[25] = {0}, most = 0;
    for (unsigned i = 0; i < 24; i++) {
        unsigned lines = w->line_count;
        world_run(w, 1000);
        in_second[i] = w->line_count - lines;
        most = in_second[i] > most ? in_second[i] : most;
    }
    unsigned first = 0, pinged[PHONES] = {0};
    for (unsigned i = 0; i < w->line_count; i++) {
        unsigned port;
        assert_int_equal(sscanf(w->line[i], "%*u udp0 203.0.113.9:%u OPTIONS", &port), 1);
        first += pinged[port - 40000]++ == 0;
        assert_true(atoi(w->line[i]) >= 19200);
    }
    assert_int_equal(first, PHONES);
    assert_true(most < PHONES);
    done(w);
}

/* ---- a registrar of ours --------------------------------------------------------------------- */

static const struct slice domains[] = {{"example.com", 11}};

static struct world *with_registrar(uint32_t worker, uint32_t workers)
{
    struct world *w = planned(0);
    w->rule[0] = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    w->opts.edge.registrar = (struct registrar_opts){.on = true,
                                                     .domains = domains,
                                                     .domain_count = 1,
                                                     .expires_min_s = 60,
                                                     .expires_max_s = 100,
                                                     .expires_default_s = 60,
                                                     .contacts_max = 10};
    w->opts.limits.bindings = 128;
    w->worker = worker;
    w->workers = workers;
    world_start(w);
    return w;
}

static void role_register(struct world *w, const char *contacts)
{
    char *text = registration("alice", contacts);
    world_udp(w, 0, nat, text);
    free(text);
}

static void for_as_long_as_our_registrar_granted(void **state)
{
    (void)state;
    struct world *w = with_registrar(0, 1);
    w->store_hangs = true;
    role_register(w, "Contact: <sip:p@x>;expires=900\n");
    world_run(w, 3000);
    world_forget(w);
    world_stored(w);
    w->store_hangs = false;
    world_restart_clock(w);
    world_forget(w);
    run_answering(w, 500, 200);
    assert_int_equal(counted(w)->udp_pings, 4); /* 100 s */
    role_register(w, "Contact: <sip:p@x>;expires=900\n");
    role_register(w, "Contact: <sip:p@x>;expires=0\n");
    run_answering(w, 500, 200);
    assert_int_equal(counted(w)->udp_pings, 4);
    role_register(w, ""); /* a question */
    run_answering(w, 100, 200);
    assert_int_equal(counted(w)->udp_pings, 4);
    w->store_error = 28;
    role_register(w, "Contact: <sip:p@x>;expires=900\n");
    run_answering(w, 100, 200);
    assert_int_equal(counted(w)->udp_pings, 4); /* not stored, not registered */
    done(w);
}

/* The worker whose registrar answers is not the one that hears the phone, which alone pings. */
static void by_the_worker_that_hears_it(void **state)
{
    (void)state;
    struct world *w[2] = {with_registrar(0, 2), with_registrar(1, 2)};
    struct hash_seed seed = {7, 8};
    uint32_t owner = registrar_owner(&seed, SLICE("alice@example.com"), 2);
    struct world *o = w[owner], *x = w[1 - owner];
    role_register(x, "Contact: <sip:p@x>;expires=900\n");
    world_hand(x, o);
    world_hand(o, x);
    assert_true(world_has(world_last(o, nat), "SIP/2.0 200"));
    world_forget(o);
    world_forget(x);
    world_restart_clock(x);
    world_run(o, 500000);
    assert_int_equal(counted(o)->udp_pings, 0);
    run_answering(x, 500, 200);
    EXPECT(x, "24000 udp0 203.0.113.9:40001 OPTIONS", "48000 udp0 203.0.113.9:40001 OPTIONS",
           "72000 udp0 203.0.113.9:40001 OPTIONS", "96000 udp0 203.0.113.9:40001 OPTIONS");
    assert_int_equal(counted(x)->udp_pongs, 4);
    done(o);
    done(x);
}

/* What a REGISTER of alice's was stored as. */
static size_t stored_record(char *record, size_t cap, const char *contacts)
{
    struct world *before = with_registrar(0, 1);
    size_t n = 0;
    before->store_hangs = true;
    role_register(before, contacts);
    for (uint32_t i = 0; i < before->out->count; i++)
        if (before->out->a[i].kind == ACT_STORE) {
            const struct iovec *v = &before->out->iov[before->out->a[i].iov];
            n = v->iov_len;
            assert_true(n < cap);
            memcpy(record, v->iov_base, n);
        }
    assert_true(n > 0);
    world_stored(before);
    done(before);
    return n;
}

static void load(struct world *w, const char *record, size_t n)
{
    world_step(w, &(struct event){.kind = EV_BINDING, .bytes = slice_of(record, n)});
    world_restart_clock(w);
}

/* A record may have been written by a program that has more listeners than we do. */
static void a_listener_that_cannot_be_is_not_pinged_from(void **state)
{
    (void)state;
    enum { LISTENER_AT = 78 };
    char record[4096];
    size_t n = stored_record(record, sizeof record, "Contact: <sip:p@x>;expires=100\n");
    struct slice rest = slice_of(record, n);
    struct record one;
    assert_int_equal(record_next(&rest, &one), 1);
    char *listener = record + (one.value.p - record) + LISTENER_AT;
    assert_int_equal(*listener, 0);
    *listener = (char)200;
    struct world *w = with_registrar(0, 1);
    load(w, record, n);
    world_run(w, 60000);
    assert_int_equal(counted(w)->udp_pings, 0);
    done(w);
}

/* Whose registrar it is pings those that it finds in the store, until one registers with the worker
 * that hears it. */
static void after_a_restart(void **state)
{
    (void)state;
    char record[4096];
    size_t n = stored_record(record, sizeof record, "Contact: <sip:p@x>;expires=100\n");
    struct world *w[2] = {with_registrar(0, 2), with_registrar(1, 2)};
    struct hash_seed seed = {7, 8};
    uint32_t owner = registrar_owner(&seed, SLICE("alice@example.com"), 2);
    struct world *o = w[owner], *x = w[1 - owner];
    load(o, record, n);
    load(x, record, n);
    unsigned pings = 0;
    for (unsigned i = 0; i < 50; i++) {
        world_run(x, 1000);
        world_run(o, 1000);
        if (counted(o)->udp_pings == pings)
            continue;
        pings = (unsigned)counted(o)->udp_pings;
        char *pong = world_response(o, nat, "OPTIONS", 200, "x", NULL);
        world_udp(x, 0, nat, pong); /* it is heard elsewhere */
        world_hand(x, o);
        free(pong);
    }
    assert_int_equal(counted(x)->udp_pings, 0);
    assert_in_range(pings, 2, 3); /* the first within 24 s, then each after as many */
    assert_int_equal(counted(o)->udp_pongs, pings);
    world_forget(x);
    world_forget(o);
    role_register(x, "Contact: <sip:p@x>;expires=100\n");
    world_hand(x, o);
    world_hand(o, x);
    world_forget(x);
    run_answering(x, 90, 200);
    world_run(o, 90000);
    assert_int_equal(counted(o)->udp_pings, pings);
    assert_int_equal(counted(x)->udp_pings, 3);
    done(o);
    done(x);
}

static void after_a_restart_not_for_longer(void **state)
{
    (void)state;
    char record[4096];
    size_t n = stored_record(record, sizeof record, "Contact: <sip:p@x>;expires=60\n");
    struct world *w = with_registrar(0, 1);
    load(w, record, n);
    run_answering(w, 1000, 200);
    assert_in_range(counted(w)->udp_pings, 1, 3);
    done(w);
    w = with_registrar(0, 1);
    load(w, record, n); /* it registers, and ends its registration: of the same line */
    role_register(w, "Contact: <sip:p@x>;expires=100\n");
    role_register(w, "Contact: <sip:p@x>;expires=0\n");
    run_answering(w, 1000, 200);
    assert_int_equal(counted(w)->udp_pings, 0);
    done(w);
    w = with_registrar(0, 1);
    w->opts.edge.keepalive.udp = 0;
    world_adopt(w, 0);
    load(w, record, n);
    run_answering(w, 1000, 200);
    assert_int_equal(counted(w)->udp_pings, 0);
    done(w);
}

/* Two phones claim one address: neither is pinged before it registers. */
static void after_a_restart_nobody_twice(void **state)
{
    (void)state;
    char one[4096], two[4096];
    size_t n1 = stored_record(one, sizeof one,
                              "Contact: <sip:p@x>;+sip.instance=\"<urn:uuid:1>\";expires=100\n");
    size_t n2 = stored_record(two, sizeof two,
                              "Contact: <sip:p@x>;+sip.instance=\"<urn:uuid:2>\";expires=100\n");
    struct world *w = with_registrar(0, 1);
    load(w, one, n1);
    load(w, two, n2);
    load(w, one, n1);
    run_answering(w, 100, 200);
    assert_int_equal(counted(w)->udp_pings, 0);
    done(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_phone_is_pinged),
        cmocka_unit_test(any_answer_will_do),
        cmocka_unit_test(without_an_answer_it_ends),
        cmocka_unit_test(who_never_answered_is_asked_twice),
        cmocka_unit_test(who_speaks_is_not_pinged),
        cmocka_unit_test(only_who_is_registered_from_outside),
        cmocka_unit_test(no_longer_than_its_binding),
        cmocka_unit_test(contacts_that_we_wrote),
        cmocka_unit_test(lines_end_one_by_one),
        cmocka_unit_test(another_phone_takes_over),
        cmocka_unit_test(forged_answers),
        cmocka_unit_test(an_answer_proves_nobody),
        cmocka_unit_test(unreachable_is_as_silent),
        cmocka_unit_test(switched_off_and_on),
        cmocka_unit_test(jitter_only_shortens),
        cmocka_unit_test(for_as_long_as_our_registrar_granted),
        cmocka_unit_test(by_the_worker_that_hears_it),
        cmocka_unit_test(a_listener_that_cannot_be_is_not_pinged_from),
        cmocka_unit_test(after_a_restart),
        cmocka_unit_test(after_a_restart_not_for_longer),
        cmocka_unit_test(after_a_restart_nobody_twice),
    };
    return cmocka_run_group_tests_name("keepalive_udp", tests, NULL, NULL);
}
