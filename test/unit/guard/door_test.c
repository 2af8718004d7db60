/* SPDX-License-Identifier: Apache-2.0
 *
 * Each limit of the door, when it bites and in report-only mode, when it only counts. */
#include "place.h"

static void adopt(struct place *p)
{
    guard_adopt(p->g, &p->opts);
}

/* ---- totals ---------------------------------------------------------------------------------- */

static void all_together(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.connections_max = 10;
        adopt(&p);
        unsigned in = 0;
        for (uint32_t i = 0; i < 15; i++)
            in += come(&p, ip4(i << 8)) == GUARD_FINE;
        assert_int_equal(in, report ? 15 : 10);
        assert_int_equal(refused(&p, GUARD_FULL), 5);
        assert_int_equal(refused(&p, GUARD_FINE), 10);
        for (uint32_t i = 0; i < in; i++)
            go(&p, ip4(i << 8));
        assert_int_equal(come(&p, ip4(99)), GUARD_FINE);
        place_end(&p);
    }
}

static void of_one_source(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.per_source_max = 3;
        adopt(&p);
        assert_int_equal(come_all(&p, ip4(1), 5), report ? 5 : 3);
        assert_int_equal(come_all(&p, ip4(2), 3), 3); /* its neighbour is another one */
        assert_int_equal(refused(&p, GUARD_SOURCE_FULL), 2);
        for (int i = 0; i < (report ? 5 : 3); i++)
            go(&p, ip4(1));
        assert_int_equal(come_all(&p, ip4(1), 3), 3);
        assert_int_equal(refused(&p, GUARD_SOURCE_FULL), 2);
        place_end(&p);
    }
}

static void of_one_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *a[4], *outside;
    } rows[] = {
        {{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.255"}, "192.0.3.1"},
        {{"2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:ffff::1"},
         "2001:db8:2:1::1"},
    };
    for (int report = 0; report < 2; report++) {
        for (unsigned i = 0; i < 2; i++) {
            struct place p;
            place_begin(&p, 1000, 1);
            p.opts.report_only = report;
            p.opts.per_source_max = 10;
            p.opts.per_prefix_max = 3;
            adopt(&p);
            for (unsigned k = 0; k < 3; k++)
                assert_int_equal(come(&p, addr_of(rows[i].a[k])), GUARD_FINE);
            assert_int_equal(come(&p, addr_of(rows[i].a[3])),
                             report ? GUARD_FINE : GUARD_PREFIX_FULL);
            assert_int_equal(refused(&p, GUARD_PREFIX_FULL), 1);
            assert_int_equal(come(&p, addr_of(rows[i].outside)), GUARD_FINE);
            go(&p, addr_of(rows[i].a[0]));
            if (report)
                go(&p, addr_of(rows[i].a[3]));
            assert_int_equal(come(&p, addr_of(rows[i].a[3])), GUARD_FINE);
            assert_int_equal(refused(&p, GUARD_PREFIX_FULL), 1);
            place_end(&p);
        }
    }
}

/* A customer has a /64: its addresses are one source. */
static void ip6_of_one_customer(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source_max = 2;
    adopt(&p);
    assert_int_equal(come(&p, addr_of("2001:db8:1:1::1")), GUARD_FINE);
    assert_int_equal(come(&p, addr_of("2001:db8:1:1:9::1")), GUARD_FINE);
    assert_int_equal(come(&p, addr_of("2001:db8:1:1::2")), GUARD_SOURCE_FULL);
    assert_int_equal(come(&p, addr_of("2001:db8:1:2::1")), GUARD_FINE);
    place_end(&p);
}

static void counts_never_fall_below_zero(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source_max = 2;
    adopt(&p);
    for (int i = 0; i < 5; i++)
        go(&p, ip4(1));
    assert_int_equal(come_all(&p, ip4(1), 4), 2);
    for (int i = 0; i < 5; i++)
        go(&p, ip4(1));
    assert_int_equal(come_all(&p, ip4(1), 4), 2);
    struct addr none = {0};
    assert_int_equal(come(&p, none), GUARD_FINE);
    go(&p, none);
    place_end(&p);
}

/* Who keeps to the limit of the process is let in wherever chance puts his connections. */
static void limits_are_split_over_workers(void **state)
{
    (void)state;
    enum { WORKERS = 4, LIMIT = 40, TIMES = 50 };
    struct prng r = test_seed();
    struct place p[WORKERS];
    for (unsigned w = 0; w < WORKERS; w++) {
        place_begin(&p[w], 10000, WORKERS);
        p[w].opts.per_source_max = p[w].opts.per_prefix_max = LIMIT;
        p[w].opts.connections_max = 4000;
        adopt(&p[w]);
    }
    unsigned refusals = 0;
    for (uint32_t source = 0; source < TIMES; source++)
        for (unsigned i = 0; i < LIMIT; i++)
            refusals += come(&p[prng_below(&r, WORKERS)], ip4(source << 8)) != GUARD_FINE;
    assert_true(refusals <= 2);
    unsigned in = 0;
    for (unsigned w = 0; w < WORKERS; w++)
        in += come_all(&p[w], ip4(99 << 16), 10 * LIMIT);
    assert_true(in >= LIMIT && in <= 2 * LIMIT);
    for (unsigned w = 0; w < WORKERS; w++) {
        p[w].opts.per_source_max = p[w].opts.per_prefix_max = 0;
        adopt(&p[w]);
        for (uint32_t i = 0; i < 4000; i++)
            (void)come(&p[w], ip4(0x20000000 + i));
        assert_int_equal(p[w].g->door.connections, 1000);
        place_end(&p[w]);
    }
}

/* ---- rates ----------------------------------------------------------------------------------- */

static void connects_of_a_source(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.per_source[GUARD_CONNECTS] = (struct rate_opts){10, 5};
        adopt(&p);
        assert_int_equal(come_all(&p, ip4(1), 8), report ? 8 : 5);
        assert_int_equal(refused(&p, GUARD_SOURCE_RATE), 3);
        assert_int_equal(guard_counters(p.g)->over[GUARD_CONNECTS], 3);
        assert_int_equal(come(&p, ip4(2)), GUARD_FINE);
        p.now += NS_S / 10;
        assert_int_equal(come_all(&p, ip4(1), 2), report ? 2 : 1);
        /* A crowd behind one NAT that lost its edge is not banned for coming back. */
        assert_int_equal(guard_counters(p.g)->bans, 0);
        assert_int_equal(barred(&p, ip4(1)), GUARD_FINE);
        place_end(&p);
    }
}

static void connects_of_a_prefix(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.per_prefix[GUARD_CONNECTS] = (struct rate_opts){10, 5};
        adopt(&p);
        struct addr known = ip4(200);
        guard_known(p.g, &known, p.now);
        unsigned in = 0;
        for (uint32_t i = 0; i < 8; i++)
            in += come(&p, ip4(i)) == GUARD_FINE;
        assert_int_equal(in, report ? 8 : 5);
        assert_int_equal(refused(&p, GUARD_PREFIX_RATE), 3);
        assert_int_equal(come(&p, ip4(0x100)), GUARD_FINE);
        assert_int_equal(come(&p, known), GUARD_FINE); /* not for what its neighbours do */
        assert_int_equal(refused(&p, GUARD_PREFIX_RATE), 3);
        place_end(&p);
    }
}

static void charges_of_a_source(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        for (unsigned what = GUARD_CONNECTS + 1; what < GUARD_WHATS; what++) {
            struct place p;
            place_begin(&p, 1000, 1);
            p.opts.report_only = report;
            p.opts.per_source[what] = (struct rate_opts){10, 5};
            adopt(&p);
            for (int i = 0; i < 5; i++)
                assert_int_equal(did(&p, ip4(1), (enum guard_what)what, true), GUARD_FINE);
            assert_int_equal(did(&p, ip4(1), (enum guard_what)what, true),
                             report ? GUARD_FINE : GUARD_SOURCE_RATE);
            assert_int_equal(guard_counters(p.g)->over[what], 1);
            assert_int_equal(guard_counters(p.g)->bans, 1);
            /* Now it is refused everything, or would be. */
            enum guard_why banned = report ? GUARD_FINE : GUARD_BANNED;
            assert_int_equal(barred(&p, ip4(1)), banned);
            assert_int_equal(come(&p, ip4(1)), banned);
            assert_int_equal(did(&p, ip4(1), (enum guard_what)what, true), banned);
            assert_int_equal(refused(&p, GUARD_BANNED), 3);
            assert_int_equal(barred(&p, ip4(2)), GUARD_FINE);
            p.now += 11 * NS_S;
            assert_int_equal(barred(&p, ip4(1)), GUARD_FINE);
            assert_int_equal(come(&p, ip4(1)), GUARD_FINE);
            assert_int_equal(refused(&p, GUARD_BANNED), 3);
            place_end(&p);
        }
    }
}

static void charges_of_a_prefix(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.per_prefix[GUARD_AUTH] = (struct rate_opts){10, 5};
        adopt(&p);
        struct addr known = ip4(200);
        guard_known(p.g, &known, p.now);
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(did(&p, ip4(i), GUARD_AUTH, true), GUARD_FINE);
        assert_int_equal(did(&p, ip4(6), GUARD_AUTH, true),
                         report ? GUARD_FINE : GUARD_PREFIX_RATE);
        assert_int_equal(barred(&p, ip4(7)), report ? GUARD_FINE : GUARD_BANNED);
        assert_int_equal(come(&p, ip4(7)), report ? GUARD_FINE : GUARD_BANNED);
        assert_int_equal(refused(&p, GUARD_PREFIX_RATE), 1);
        assert_int_equal(refused(&p, GUARD_BANNED), 2);
        assert_int_equal(barred(&p, ip4(0x100)), GUARD_FINE);
        assert_int_equal(barred(&p, known), GUARD_FINE);
        assert_int_equal(come(&p, known), GUARD_FINE);
        assert_int_equal(did(&p, known, GUARD_AUTH, true), GUARD_FINE);
        assert_int_equal(refused(&p, GUARD_BANNED), 2);
        place_end(&p);
    }
}

/* ---- bans ------------------------------------------------------------------------------------ */

/* How long it is banned from now on, in whole seconds; moves the clock to the end of it. */
static unsigned sit_out(struct place *p, struct addr a)
{
    unsigned s = 0;
    while (s < 10000 && barred(p, a) == GUARD_BANNED) {
        p->now += NS_S;
        s++;
    }
    return s;
}

static void offend(struct place *p, struct addr a, bool proven)
{
    if (!proven)
        flooded(p);
    for (int i = 0; i < 100 && did(p, a, GUARD_REQUESTS, proven) == GUARD_FINE; i++)
        ;
}

static void bans_escalate_and_decay(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 1};
    adopt(&p);
    static const unsigned expected[] = {11, 21, 41, 81, 101, 101, 101};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        offend(&p, ip4(1), true);
        assert_in_range(sit_out(&p, ip4(1)), expected[i] - 1, expected[i]);
    }
    /* Seven times: 640 s before the top is cut. Two steps less after two spans of good conduct. */
    p.now += 5 * 60 * NS_S;
    offend(&p, ip4(1), true);
    assert_in_range(sit_out(&p, ip4(1)), 40, 41);
    p.now += 3600 * NS_S;
    offend(&p, ip4(1), true);
    assert_in_range(sit_out(&p, ip4(1)), 10, 11);
    place_end(&p);
}

static void no_bans_when_they_are_off(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 1};
    p.opts.ban_first = 0;
    adopt(&p);
    offend(&p, ip4(1), true);
    assert_int_equal(did(&p, ip4(1), GUARD_REQUESTS, true), GUARD_SOURCE_RATE);
    assert_int_equal(barred(&p, ip4(1)), GUARD_FINE);
    assert_int_equal(guard_counters(p.g)->bans, 0);
    place_end(&p);
}

/* Anybody can send datagrams in anybody's name. */
static void pretences_harm_little(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){10, 2};
    p.opts.per_prefix[GUARD_REQUESTS] = (struct rate_opts){100, 40};
    adopt(&p);
    struct addr victim = ip4(1), known = ip4(2);
    guard_known(p.g, &known, p.now);
    for (int i = 0; i < 5; i++) {
        offend(&p, victim, false);
        assert_int_equal(barred(&p, victim), GUARD_BANNED);
        /* Not what comes over a connection. */
        assert_int_equal(guard_refused_connected(p.g, &victim, p.now), GUARD_FINE);
        assert_int_equal(come(&p, victim), GUARD_FINE);
        /* Not longer and longer. */
        assert_in_range(sit_out(&p, victim), 10, 11);
    }
    offend(&p, known, false);
    assert_int_equal(did(&p, known, GUARD_REQUESTS, false), GUARD_SOURCE_RATE);
    assert_int_equal(barred(&p, known), GUARD_FINE);
    /* The neighbourhood: not banned, and half of its tokens are left to who is real. */
    p.now += 10 * NS_S;
    unsigned fine = 0;
    for (uint32_t i = 0; i < 60; i++)
        fine += did(&p, ip4(100 + i), GUARD_REQUESTS, false) == GUARD_FINE;
    assert_int_equal(fine, 20);
    assert_int_equal(barred(&p, ip4(90)), GUARD_FINE);
    assert_int_equal(did(&p, ip4(91), GUARD_REQUESTS, true), GUARD_FINE);
    /* Who proves to be the one: it is banned for real. */
    offend(&p, ip4(1), false);
    offend(&p, ip4(1), true);
    struct addr same = ip4(1);
    assert_int_equal(guard_refused_connected(p.g, &same, p.now), GUARD_BANNED);
    assert_int_equal(come(&p, same), GUARD_BANNED);
    place_end(&p);
}

/* Who becomes known is not held to what came in his name before. */
static void known_lifts_a_ban_for_pretences(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){10, 2};
    adopt(&p);
    struct addr a = ip4(1);
    offend(&p, a, false);
    assert_int_equal(barred(&p, a), GUARD_BANNED);
    guard_known(p.g, &a, p.now);
    assert_int_equal(barred(&p, a), GUARD_FINE);
    p.opts.per_source[GUARD_AUTH] = (struct rate_opts){1, 1};
    adopt(&p);
    for (int i = 0; i < 2; i++)
        (void)did(&p, a, GUARD_AUTH, true);
    guard_known(p.g, &a, p.now);
    assert_int_equal(barred(&p, a), GUARD_BANNED);
    assert_true(guard_is_known(p.g, &a, p.now + 24 * 3600 * NS_S));
    assert_false(guard_is_known(p.g, &a, p.now + 26 * 3600 * NS_S));
    place_end(&p);
}

/* What only would have been refused is refused from when the mode changes. */
static void report_only_ends(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.report_only = true;
    p.opts.per_source_max = 2;
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){10, 2};
    adopt(&p);
    assert_int_equal(come_all(&p, ip4(1), 3), 3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(did(&p, ip4(2), GUARD_REQUESTS, true), GUARD_FINE);
    p.opts.report_only = false;
    adopt(&p);
    assert_int_equal(come(&p, ip4(1)), GUARD_SOURCE_FULL);
    assert_int_equal(barred(&p, ip4(2)), GUARD_BANNED);
    place_end(&p);
}

/* ---- exempt ---------------------------------------------------------------------------------- */

static void exempt_networks(void **state)
{
    (void)state;
    struct place p;
    struct prefix exempt[2];
    place_begin(&p, 1000, 1);
    assert_int_equal(prefix_parse(SLICE("10.0.0.0/8"), &exempt[0]), 0);
    assert_int_equal(prefix_parse(SLICE("2001:db8::/32"), &exempt[1]), 0);
    p.opts.exempt = exempt;
    p.opts.exempt_count = 2;
    p.opts.connections_max = 1;
    p.opts.per_source_max = p.opts.per_prefix_max = 1;
    p.opts.accepts[TP_TCP] = (struct rate_opts){1, 1};
    for (unsigned i = 0; i < GUARD_WHATS; i++)
        p.opts.per_source[i] = p.opts.per_prefix[i] = (struct rate_opts){1, 1};
    adopt(&p);
    assert_int_equal(come_all(&p, addr_of("10.1.2.3"), 50), 50);
    assert_int_equal(come_all(&p, addr_of("2001:db8:ffff::1"), 50), 50);
    for (int i = 0; i < 50; i++)
        assert_int_equal(did(&p, addr_of("10.1.2.3"), GUARD_REQUESTS, true), GUARD_FINE);
    assert_int_equal(barred(&p, addr_of("10.1.2.3")), GUARD_FINE);
    assert_int_equal(come(&p, addr_of("11.0.0.1")), GUARD_FULL); /* they count, though */
    for (int i = 0; i < 50; i++)
        go(&p, addr_of("10.1.2.3"));
    assert_int_equal(p.g->door.connections, 50);
    place_end(&p);
}

/* ---- pace ------------------------------------------------------------------------------------ */

static void pace_by_transport(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.accepts[TP_TCP] = (struct rate_opts){10, 4};
        adopt(&p);
        /* Three: of the half that is kept a stranger takes what runs over. */
        assert_int_equal(come_all(&p, ip4(1), 10), report ? 10 : 3);
        assert_int_equal(refused(&p, GUARD_PACE), 7);
        mono_ns at = guard_accept_at(p.g, TP_TCP, p.now);
        assert_true(report ? at == p.now : at > p.now && at <= p.now + NS_S / 5);
        struct addr a = ip4(1);
        assert_true(guard_accept_at(p.g, TP_TLS, p.now) == p.now);
        assert_int_equal(guard_accept(p.g, TP_TLS, &a, p.now), GUARD_FINE);
        p.now = at;
        assert_int_equal(come(&p, ip4(1)), GUARD_FINE);
        place_end(&p);
    }
}

/* As many come in as the pace says, strangers alone as well as known ones alone. */
static void no_token_is_lost(void **state)
{
    (void)state;
    for (int known = 0; known < 2; known++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.accepts[TP_TCP] = (struct rate_opts){100, 20};
        adopt(&p);
        struct addr a = ip4(1);
        if (known)
            guard_known(p.g, &a, p.now);
        unsigned in = 0, paced = 0;
        for (mono_ns end = p.now + 10 * NS_S; p.now < end;) {
            mono_ns at = guard_accept_at(p.g, TP_TCP, p.now);
            if (at > p.now) {
                p.now = at;
                continue;
            }
            enum guard_why why = come(&p, a);
            in += why == GUARD_FINE;
            paced += why == GUARD_PACE;
            p.now += NS_S / 100000;
        }
        assert_in_range(in, 1000 - 10, 1000 + 20);
        assert_int_equal(paced, 0); /* who asks first waits in the backlog */
        place_end(&p);
    }
}

/* One known among a hundred strangers is let in, as long as known ones do not fill half the pace.
 */
static void known_before_strangers(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 100000, 1);
    p.opts.accepts[TP_TCP] = (struct rate_opts){100, 20};
    adopt(&p);
    struct addr known = ip4(1);
    guard_known(p.g, &known, p.now);
    unsigned came[2] = {0}, in[2] = {0};
    for (uint32_t i = 0; i < 50000; i++) { /* 5,000/s for 10 s, of them 45/s known */
        bool is_known = i % 111 == 0;
        came[is_known]++;
        in[is_known] += come(&p, is_known ? known : ip4(0x01000000 + i)) == GUARD_FINE;
        p.now += NS_S / 5000;
    }
    assert_int_equal(in[1], came[1]);
    assert_in_range(in[0], 490, 1020 - in[1]);
    place_end(&p);
}

static void handshakes(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        place_begin(&p, 1000, 1);
        p.opts.report_only = report;
        p.opts.handshakes = (struct rate_opts){10, 4};
        adopt(&p);
        unsigned in = 0;
        mono_ns at = 0;
        for (unsigned i = 0; i < 10; i++)
            in += guard_handshake(p.g, p.now, &at);
        assert_int_equal(in, report ? 10 : 4);
        assert_int_equal(refused(&p, GUARD_PACE), report ? 6 : 0); /* nobody is: they wait */
        assert_true(report ? at == 0 : at == p.now + NS_S / 10);
        if (!report) {
            assert_false(guard_handshake(p.g, at - 1, &at));
            assert_true(guard_handshake(p.g, at, &at));
        }
        place_end(&p);
    }
}

/* An office is not cut off for one phone of its that is mad; but for one that guesses passwords. */
static void known_ones_are_banned_for_passwords_alone(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    p.opts.per_source[GUARD_AUTH] = (struct rate_opts){1, 2};
    adopt(&p);
    struct addr office = ip4(7);
    guard_known(p.g, &office, p.now);
    offend(&p, office, true);
    assert_int_equal(did(&p, office, GUARD_REQUESTS, true), GUARD_SOURCE_RATE);
    assert_int_equal(barred(&p, office), GUARD_FINE);
    for (int i = 0; i < 3; i++)
        (void)did(&p, office, GUARD_AUTH, true);
    assert_int_equal(barred(&p, office), GUARD_BANNED);
    place_end(&p);
}

/* Nothing is limited but what nobody sends who is well. */
static void defaults(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    guard_opts_default(&p.opts);
    adopt(&p);
    assert_int_equal(come_all(&p, ip4(1), 20000), 20000);
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(did(&p, ip4(1), GUARD_REQUESTS, true), GUARD_FINE);
        assert_int_equal(did(&p, ip4(1), GUARD_AUTH, true), GUARD_FINE);
        assert_int_equal(did(&p, ip4(1), GUARD_SCANS, true), GUARD_FINE);
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(did(&p, ip4(2), GUARD_MALFORMED, false), GUARD_FINE);
    /* As long as it is no flood, nobody is silenced by what may be written in his name. */
    for (int i = 0; i < 5000; i++)
        assert_int_equal(did(&p, ip4(2), GUARD_MALFORMED, false), GUARD_SOURCE_RATE);
    assert_int_equal(barred(&p, ip4(2)), GUARD_FINE);
    assert_int_equal(did(&p, ip4(2), GUARD_MALFORMED, false), GUARD_SOURCE_RATE);
    assert_int_equal(barred(&p, ip4(2)), GUARD_BANNED);
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ones_are_banned_for_passwords_alone),
        cmocka_unit_test(all_together),
        cmocka_unit_test(of_one_source),
        cmocka_unit_test(of_one_prefix),
        cmocka_unit_test(ip6_of_one_customer),
        cmocka_unit_test(counts_never_fall_below_zero),
        cmocka_unit_test(limits_are_split_over_workers),
        cmocka_unit_test(connects_of_a_source),
        cmocka_unit_test(connects_of_a_prefix),
        cmocka_unit_test(charges_of_a_source),
        cmocka_unit_test(charges_of_a_prefix),
        cmocka_unit_test(bans_escalate_and_decay),
        cmocka_unit_test(no_bans_when_they_are_off),
        cmocka_unit_test(pretences_harm_little),
        cmocka_unit_test(known_lifts_a_ban_for_pretences),
        cmocka_unit_test(report_only_ends),
        cmocka_unit_test(exempt_networks),
        cmocka_unit_test(pace_by_transport),
        cmocka_unit_test(no_token_is_lost),
        cmocka_unit_test(known_before_strangers),
        cmocka_unit_test(handshakes),
        cmocka_unit_test(defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
