/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is remembered, and who makes room: floods of pretences, full sets, what persists. */
#include "place.h"

static void adopt(struct place *p)
{
    guard_adopt(p->g, &p->opts);
}

static struct source *self_of(struct place *p, struct addr a)
{
    return source__find(p->g, &a).self;
}

static void offend(struct place *p, struct addr a, bool proven)
{
    if (!proven)
        flooded(p);
    for (int i = 0; i < 100 && did(p, a, GUARD_REQUESTS, proven) == GUARD_FINE; i++)
        ;
}

/* Ten million sources that are none: who is connected, banned or known is not forgotten for them,
 * and no memory is taken. */
static void a_spoofed_flood_forgets_nobody(void **state)
{
    (void)state;
    enum { CONNECTED = 3000, BANNED = 300, KNOWN = 3000, FLOOD = 10 * 1000 * 1000 };
    struct place p;
    struct prng r = test_seed();
    place_begin(&p, 16384, 1);
    p.opts.per_source[GUARD_REQUESTS] = p.opts.per_prefix[GUARD_REQUESTS] =
        (struct rate_opts){100, 10};
    p.opts.per_source_max = 1;
    p.opts.ban_first = p.opts.ban_max = 3600 * NS_S;
    adopt(&p);
    size_t used = p.mem.used;
    for (uint32_t i = 0; i < CONNECTED; i++)
        assert_int_equal(come(&p, ip4(0x0a000000 + (i << 8))), GUARD_FINE);
    for (uint32_t i = 0; i < BANNED; i++)
        offend(&p, ip4(0x0b000000 + (i << 8)), true);
    for (uint32_t i = 0; i < KNOWN; i++) {
        struct addr a = ip4(0x0c000000 + (i << 8));
        guard_known(p.g, &a, p.now);
    }
    uint64_t forgotten = guard_counters(p.g)->sources_forgotten;
    for (unsigned i = 0; i < FLOOD; i++) {
        (void)did(&p, ip4((uint32_t)prng_u64(&r) | 0x20000000), GUARD_REQUESTS, false);
        p.now += 1000; /* a million each second */
    }
    assert_true(guard_counters(p.g)->sources_forgotten > forgotten + FLOOD / 2);
    unsigned lost = 0;
    for (uint32_t i = 0; i < CONNECTED; i++)
        lost += come(&p, ip4(0x0a000000 + (i << 8))) != GUARD_SOURCE_FULL;
    for (uint32_t i = 0; i < BANNED; i++)
        lost += barred(&p, ip4(0x0b000000 + (i << 8))) != GUARD_BANNED;
    for (uint32_t i = 0; i < KNOWN; i++) {
        struct addr a = ip4(0x0c000000 + (i << 8));
        lost += !guard_is_known(p.g, &a, p.now);
    }
    /* A set of eight that was full of those who are kept could not take the next of them in. */
    assert_true(lost <= 5);
    assert_true(p.mem.used == used);
    assert_true(p.g->sources.used <= p.g->sources.sets * SOURCE_WAYS);
    place_end(&p);
}

/* A set of 8 places and nothing else: who gives way to whom. */
static void who_makes_room_for_whom(void **state)
{
    (void)state;
    enum { PRETENCE, SILENCED, REAL, KNOWN, CONNECTED, BANNED, KINDS };
    static const bool gives_way[KINDS][3] = {
        /* to a pretence, a connection, a known one */
        [PRETENCE] = {true, true, true},     [SILENCED] = {true, true, true},
        [REAL] = {false, true, true},        [KNOWN] = {false, false, true},
        [CONNECTED] = {false, false, false}, [BANNED] = {false, false, false},
    };
    for (unsigned kind = 0; kind < KINDS; kind++) {
        for (unsigned comer = 0; comer < 3; comer++) {
            struct place p;
            place_begin(&p, 1, 1);
            assert_int_equal(p.g->sources.sets, 1);
            p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
            adopt(&p);
            for (uint32_t i = 0; i < SOURCE_WAYS; i++) {
                struct addr a = ip4(i << 8);
                if (kind == PRETENCE || kind == SILENCED)
                    (void)source__claim(p.g, &a, WORTH_PRETENCE, p.now);
                if (kind == SILENCED)
                    offend(&p, a, false);
                if (kind == REAL || kind == CONNECTED || kind == BANNED)
                    (void)source__claim(p.g, &a, WORTH_REAL, p.now);
                if (kind == CONNECTED)
                    source__connect(p.g, self_of(&p, a));
                if (kind == BANNED)
                    offend(&p, a, true);
                if (kind == KNOWN)
                    guard_known(p.g, &a, p.now);
                p.now += NS_S / 10;
            }
            static const enum source_worth worth[] = {WORTH_PRETENCE, WORTH_REAL, WORTH_KNOWN};
            struct addr a = ip4(0x7f000001);
            struct sight at = source__claim(p.g, &a, worth[comer], p.now);
            assert_int_equal(at.self != NULL, gives_way[kind][comer]);
            assert_ptr_equal(self_of(&p, a), at.self);
            place_end(&p);
        }
    }
}

/* Sources only, no prefixes: charges of a source without a limit for prefixes. */
static void the_longest_idle_goes_first(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1, 1);
    for (uint32_t i = 0; i < 3; i++) { /* with their prefixes six of eight places */
        struct addr a = ip4(i << 8);
        (void)source__claim(p.g, &a, WORTH_PRETENCE, p.now);
        p.now += NS_S;
    }
    struct addr first = ip4(0), fourth = ip4(3 << 8), fifth = ip4(4 << 8);
    (void)source__claim(p.g, &first, WORTH_PRETENCE, p.now);
    p.now += NS_S;
    (void)source__claim(p.g, &fourth, WORTH_PRETENCE, p.now);
    assert_non_null(self_of(&p, ip4(1 << 8)));
    (void)source__claim(p.g, &fifth, WORTH_PRETENCE, p.now);
    assert_null(self_of(&p, ip4(1 << 8)));
    assert_non_null(self_of(&p, ip4(2 << 8)));
    assert_non_null(self_of(&p, first));
    assert_int_equal(guard_counters(p.g)->sources_forgotten, 2);
    place_end(&p);
}

/* Who was real and went away does not hold his place for ever. */
static void the_real_grow_old(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1, 1);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(come(&p, ip4(i << 8)), GUARD_FINE);
        go(&p, ip4(i << 8));
    }
    struct addr a = ip4(0x7f000001);
    p.now += 300 * NS_S;
    assert_null(source__claim(p.g, &a, WORTH_PRETENCE, p.now).self);
    p.now += 400 * NS_S;
    assert_non_null(source__claim(p.g, &a, WORTH_PRETENCE, p.now).self);
    place_end(&p);
}

/* What is not remembered is let in, is not limited by itself, and upsets no count. */
static void a_full_set_cuts_off_nobody(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1, 1);
    p.opts.per_source_max = 1;
    p.opts.connections_max = 100;
    adopt(&p);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(come(&p, ip4(i << 8)), GUARD_FINE);
    assert_int_equal(come_all(&p, ip4(0x7f000001), 200), 96);
    assert_int_equal(refused(&p, GUARD_FULL), 104);
    for (unsigned i = 0; i < 96; i++)
        go(&p, ip4(0x7f000001));
    assert_int_equal(come(&p, ip4(0)), GUARD_SOURCE_FULL);
    for (uint32_t i = 0; i < 4; i++)
        go(&p, ip4(i << 8));
    assert_int_equal(p.g->door.connections, 0);
    assert_int_equal(come(&p, ip4(0)), GUARD_FINE);
    place_end(&p);
}

/* The prefix of a source may be of the same set: it does not push it out. */
static void a_prefix_spares_its_source(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1, 1);
    for (uint32_t i = 0; i < 1000; i++) {
        struct addr a = ip4(i << 8);
        struct sight at = source__claim(p.g, &a, WORTH_REAL, p.now);
        assert_non_null(at.self);
        assert_ptr_equal(self_of(&p, a), at.self);
        assert_ptr_not_equal(at.self, at.net);
    }
    place_end(&p);
}

/* ---- what persists --------------------------------------------------------------------------- */

static unsigned persistent(struct place *p, struct prefix *out, unsigned max)
{
    return guard_persistent(p->g, out, max, p->now);
}

static void knock(struct place *p, struct addr a, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        (void)barred(p, a);
}

static void the_persistent_are_listed(void **state)
{
    (void)state;
    struct place p;
    struct prefix out[PERSISTENT_MAX];
    place_begin(&p, 10000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    adopt(&p);
    uint64_t version = guard_persistent_version(p.g);
    for (uint32_t i = 1; i <= 3; i++)
        offend(&p, ip4(i), true);
    offend(&p, ip4(9), false);
    offend(&p, addr_of("2001:db8:1:2::3"), true);
    knock(&p, ip4(1), 63);
    assert_int_equal(persistent(&p, out, 8), 0);
    assert_true(guard_persistent_version(p.g) == version);
    knock(&p, ip4(1), 1);
    assert_int_equal(persistent(&p, out, 8), 1);
    assert_true(guard_persistent_version(p.g) != version);
    knock(&p, ip4(2), 500);
    knock(&p, ip4(9), 5000); /* it may be a pretence: a filter would hit the true one */
    knock(&p, addr_of("2001:db8:1:2::3"), 100);
    assert_int_equal(persistent(&p, out, 8), 3);
    struct addr nine = ip4(9);
    assert_int_equal(guard_persistent_datagrams(p.g, out, 8, p.now), 4);
    assert_true(prefix_holds(&out[0], &nine)); /* of datagrams it hits what is refused anyway */
    assert_int_equal(persistent(&p, out, 8), 3);
    struct addr two = ip4(2), one = ip4(1), six = addr_of("2001:db8:1:2::99");
    assert_true(prefix_holds(&out[0], &two) && out[0].bits == 32);
    assert_true(prefix_holds(&out[1], &six) && out[1].bits == 64);
    assert_true(prefix_holds(&out[2], &one) && out[2].bits == 32);
    assert_int_equal(persistent(&p, out, 1), 1);
    assert_true(prefix_holds(&out[0], &two));
    assert_int_equal(persistent(&p, out, 0), 0);
    /* Report-only: a filter must not refuse either. */
    p.opts.report_only = true;
    version = guard_persistent_version(p.g);
    adopt(&p);
    assert_true(guard_persistent_version(p.g) != version);
    assert_int_equal(persistent(&p, out, 8), 0);
    p.opts.report_only = false;
    adopt(&p);
    assert_int_equal(persistent(&p, out, 8), 3);
    /* Their bans end: whoever comes next makes it known. */
    version = guard_persistent_version(p.g);
    p.now += 12 * NS_S;
    assert_int_equal(persistent(&p, out, 8), 0);
    assert_int_equal(barred(&p, ip4(77)), GUARD_FINE);
    assert_true(guard_persistent_version(p.g) != version);
    place_end(&p);
}

/* For a whole host: only what is refused for everybody in it, and how long that is. */
static void persistent_until(void **state)
{
    (void)state;
    struct place p;
    struct prefix out[8], one, net, six, four, rest, exempt;
    const char *const texts[] = {"10.0.0.1", "10.0.0.0/24", "2001:db8:1:2::/64", "10.1.0.4",
                                 "198.51.100.0/24"};
    struct prefix *const all[] = {&one, &net, &six, &four, &rest};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(prefix_parse(slice_cstr(texts[i]), all[i]), 0);
    place_begin(&p, 10000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    adopt(&p);
    assert_true(guard_persistent_until(p.g, &one, p.now) == 0);
    offend(&p, ip4(0x0a000001), true);
    offend(&p, ip4(0x0a010004), false);
    offend(&p, addr_of("2001:db8:1:2::3"), true);
    assert_true(guard_persistent_until(p.g, &one, p.now) == 0); /* it does not go on */
    knock(&p, ip4(0x0a000001), 64);
    knock(&p, ip4(0x0a010004), 64);
    knock(&p, addr_of("2001:db8:1:2::3"), 64);
    assert_int_equal(persistent(&p, out, 8), 2);
    mono_ns until = guard_persistent_until(p.g, &one, p.now);
    assert_true(until > p.now + 9 * NS_S && until < p.now + 11 * NS_S);
    assert_true(guard_persistent_until(p.g, &six, p.now) == until);
    assert_true(guard_persistent_until(p.g, &four, p.now) == 0); /* a pretence, maybe */
    assert_true(guard_persistent_until(p.g, &net, p.now) == 0);
    /* A denial has an end of its own, or none; but not for those who are allowed in it. */
    edit(&p, "deny 10.0.0.1 for 5s");
    assert_true(guard_persistent_until(p.g, &one, p.now) == until);
    edit(&p, "deny 10.0.0.1 for 1h");
    assert_true(guard_persistent_until(p.g, &one, p.now) == p.now + 3600 * NS_S);
    edit(&p, "deny 198.51.100.0/24");
    edit(&p, "allow 198.51.0.0/16");
    assert_true(guard_persistent_until(p.g, &rest, p.now) == MONO_NONE);
    edit(&p, "allow 198.51.100.7 for 10s");
    assert_true(guard_persistent_until(p.g, &rest, p.now) == 0);
    assert_true(guard_persistent_until(p.g, &rest, p.now + 11 * NS_S) == MONO_NONE);
    /* Nor is anybody banned who is allowed, or exempt by a reload; or when it is only reported. */
    edit(&p, "allow 2001:db8::/32");
    assert_true(guard_persistent_until(p.g, &six, p.now) == 0);
    edit(&p, "forget 10.0.0.1");
    offend(&p, ip4(0x0a000001), true);
    knock(&p, ip4(0x0a000001), 64);
    assert_true(guard_persistent_until(p.g, &one, p.now) > p.now);
    assert_int_equal(prefix_parse(SLICE("10.0.0.0/8"), &exempt), 0);
    p.opts.exempt = &exempt;
    p.opts.exempt_count = 1;
    adopt(&p);
    assert_true(guard_persistent_until(p.g, &one, p.now) == 0);
    p.opts.exempt_count = 0;
    p.opts.report_only = true;
    adopt(&p);
    assert_true(guard_persistent_until(p.g, &one, p.now) == 0);
    assert_true(guard_persistent_until(p.g, &rest, p.now + 11 * NS_S) == MONO_NONE);
    p.opts.report_only = false;
    adopt(&p);
    assert_true(guard_persistent_until(p.g, &one, p.now) > p.now);
    assert_true(guard_persistent_until(p.g, &one, p.now + 12 * NS_S) == 0);
    place_end(&p);
}

/* Known sources do not feel the ban of a neighbourhood: it is nothing for the kernel, which would
 * drop them as well. Nor is a denied network in which somebody is allowed. */
static void the_kernel_hears_of_no_neighbourhood(void **state)
{
    (void)state;
    struct place p;
    struct prefix out[8];
    place_begin(&p, 10000, 1);
    p.opts.per_prefix[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    adopt(&p);
    for (uint32_t i = 1; i < 20; i++)
        offend(&p, ip4(0x0a000000 + i), true);
    knock(&p, ip4(0x0a0000fe), 64);
    struct addr stranger = ip4(0x0a0000fe);
    assert_int_equal(guard_refused_connected(p.g, &stranger, p.now), GUARD_BANNED);
    assert_int_equal(persistent(&p, out, 8), 0);
    edit(&p, "deny 192.0.2.0/24");
    knock(&p, ip4(0xc0000201), 64);
    assert_int_equal(persistent(&p, out, 8), 1);
    edit(&p, "allow 192.0.2.7");
    assert_int_equal(persistent(&p, out, 8), 0);
    place_end(&p);
}

static void the_list_of_the_persistent_is_bounded(void **state)
{
    (void)state;
    struct place p;
    struct prefix out[PERSISTENT_MAX + 10];
    place_begin(&p, 10000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    adopt(&p);
    for (uint32_t i = 0; i < PERSISTENT_MAX + 1; i++) {
        offend(&p, ip4(i << 8), true);
        knock(&p, ip4(i << 8), 100);
    }
    assert_int_equal(persistent(&p, out, PERSISTENT_MAX + 10), PERSISTENT_MAX);
    struct addr late = ip4(PERSISTENT_MAX << 8);
    unsigned seen = 0;
    for (unsigned i = 0; i < PERSISTENT_MAX; i++)
        seen += prefix_holds(&out[i], &late);
    assert_int_equal(seen, 0);
    offend(&p, ip4(200 << 8), false); /* a pretence takes no place */
    knock(&p, ip4(200 << 8), 30000);
    assert_int_equal(guard_persistent_datagrams(p.g, out, PERSISTENT_MAX + 10, p.now),
                     PERSISTENT_MAX);
    assert_int_equal(persistent(&p, out, PERSISTENT_MAX + 10), PERSISTENT_MAX);
    knock(&p, late, 100); /* more often than any: it takes the place of one */
    assert_int_equal(persistent(&p, out, PERSISTENT_MAX + 10), PERSISTENT_MAX);
    assert_true(prefix_holds(&out[0], &late));
    place_end(&p);
}

/* ---- forget ---------------------------------------------------------------------------------- */

static void forget_lifts_bans(void **state)
{
    (void)state;
    struct place p;
    struct prefix out[8];
    place_begin(&p, 10000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    p.opts.per_prefix[GUARD_AUTH] = (struct rate_opts){1, 1};
    p.opts.per_source_max = 1;
    adopt(&p);
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2"), c = addr_of("198.51.100.1");
    assert_int_equal(come(&p, a), GUARD_FINE);
    guard_known(p.g, &b, p.now);
    offend(&p, a, true);
    offend(&p, b, true);
    offend(&p, c, true);
    knock(&p, a, 100);
    (void)did(&p, addr_of("192.0.2.3"), GUARD_AUTH, true);
    (void)did(&p, addr_of("192.0.2.3"), GUARD_AUTH, true);
    assert_int_equal(barred(&p, addr_of("192.0.2.99")), GUARD_BANNED);
    uint64_t version = guard_persistent_version(p.g);
    assert_int_equal(persistent(&p, out, 8), 1);
    edit(&p, "forget 192.0.2.0/24");
    assert_int_equal(persistent(&p, out, 8), 0);
    assert_true(guard_persistent_version(p.g) != version);
    assert_int_equal(barred(&p, a), GUARD_FINE);
    assert_int_equal(barred(&p, b), GUARD_FINE);
    assert_int_equal(barred(&p, addr_of("192.0.2.99")), GUARD_FINE);
    assert_int_equal(barred(&p, c), GUARD_BANNED);
    assert_int_equal(come(&p, a), GUARD_SOURCE_FULL); /* it is still connected */
    assert_true(guard_is_known(p.g, &b, p.now));
    edit(&p, "forget 0.0.0.0/0");
    assert_int_equal(barred(&p, c), GUARD_FINE);
    go(&p, a);
    assert_int_equal(come(&p, a), GUARD_FINE);
    place_end(&p);
}

/* Time since the guard's birth is kept short: nothing of it may come to life again. */
static void years_later(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source[GUARD_REQUESTS] = (struct rate_opts){1, 2};
    adopt(&p);
    offend(&p, ip4(1), true);
    struct addr a = ip4(2);
    guard_known(p.g, &a, p.now);
    for (unsigned year = 0; year < 40; year++) {
        p.now += 365ULL * 86400 * NS_S;
        assert_int_equal(barred(&p, ip4(1)), GUARD_FINE);
        assert_int_equal(come(&p, ip4(1)), GUARD_FINE);
        assert_false(guard_is_known(p.g, &a, p.now));
    }
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spoofed_flood_forgets_nobody),
        cmocka_unit_test(who_makes_room_for_whom),
        cmocka_unit_test(the_longest_idle_goes_first),
        cmocka_unit_test(the_real_grow_old),
        cmocka_unit_test(a_full_set_cuts_off_nobody),
        cmocka_unit_test(a_prefix_spares_its_source),
        cmocka_unit_test(the_persistent_are_listed),
        cmocka_unit_test(persistent_until),
        cmocka_unit_test(the_kernel_hears_of_no_neighbourhood),
        cmocka_unit_test(the_list_of_the_persistent_is_bounded),
        cmocka_unit_test(forget_lifts_bans),
        cmocka_unit_test(years_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
