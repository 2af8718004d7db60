/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is at an address over UDP, and who is not there any more; who is pinged there.
 * covers: phone.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "flow/flow.h"

static const mono_ns start = 1000 * NS_S;

struct scene {
    void *memory;
    struct phones *p;
};

static struct scene scene(uint32_t max)
{
    struct scene s;
    size_t size = phones_memory(max);
    s.memory = aligned_alloc(64, (size + 63) / 64 * 64);
    assert_non_null(s.memory);
    memset(s.memory, 0, (size + 63) / 64 * 64);
    struct arena a = arena_over(s.memory, size);
    s.p = phones_new(&a, max, (struct hash_seed){1, 2}, start);
    assert_non_null(s.p);
    return s;
}

static struct addr at(uint16_t port)
{
    struct addr a;
    assert_int_equal(addr_parse_host(SLICE("203.0.113.9"), port, &a), 0);
    return a;
}

static void unknown_addresses_may_be_anybodys(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(1);
    assert_true(phones_match(s.p, 0, &a, 77));
    assert_int_equal(phones_at(s.p, 0, &a), 0);
    phones_heard(s.p, 0, &a, start);
    assert_true(phones_match(s.p, 0, &a, 77));
    phones_note(s.p, 0, &a, 77, start);
    assert_true(phones_match(s.p, 0, &a, 77));
    assert_true(phones_match(s.p, 0, &a, 0));
    assert_false(phones_match(s.p, 0, &a, 78));
    assert_int_equal(phones_at(s.p, 0, &a), 77);
    assert_true(phones_match(s.p, 1, &a, 78)); /* by another listener it is another address */
    free(s.memory);
}

/* What happens at one address, and who is believed to be there then. */
static void silence_decides(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned heard_s[4]; /* seconds after alice's registration; 0 ends */
        unsigned bob_s;
        bool alice_is_there;
    } rows[] = {
        {"bob at once: a second line", {0}, 1, true},
        {"bob within a mapping's life", {0}, 24, true},
        {"bob after it", {0}, 27, false},
        {"kept open until bob", {20, 40, 60}, 80, true},
        {"kept open, then silent", {20, 40}, 80, false},
        {"heard again after a silence, by whomever", {60, 70}, 80, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scene s = scene(64);
        struct addr a = at(5060);
        phones_note(s.p, 0, &a, 1, start);
        for (unsigned k = 0; k < 4 && rows[i].heard_s[k] != 0; k++)
            phones_heard(s.p, 0, &a, start + rows[i].heard_s[k] * NS_S);
        phones_note(s.p, 0, &a, 2, start + rows[i].bob_s * NS_S);
        if (!phones_match(s.p, 0, &a, 2) || phones_match(s.p, 0, &a, 1) != rows[i].alice_is_there)
            fail_msg("%s", rows[i].name);
        free(s.memory);
    }
}

/* An instance is of one phone: a NAT that was restarted gives its ports away at once. */
static void instances_do_not_share_an_address(void **state)
{
    (void)state;
    uint32_t one = phone_hash(SLICE("\"<urn:uuid:1>\""), true),
             two = phone_hash(SLICE("\"<urn:uuid:2>\""), true),
             none = phone_hash(SLICE("sip:carol@example.com"), false);
    const uint32_t turns[] = {one, two, one, none, two};
    struct scene s = scene(64);
    struct addr a = at(5060);
    for (unsigned i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        phones_note(s.p, 0, &a, turns[i], start + i * NS_S);
        phones_note(s.p, 0, &a, turns[i], start + i * NS_S); /* its other line */
        assert_int_equal(phones_match(s.p, 0, &a, one), turns[i] == one);
        assert_int_equal(phones_match(s.p, 0, &a, two), turns[i] == two);
        assert_int_equal(phones_match(s.p, 0, &a, none), turns[i] == none);
    }
    free(s.memory);
}

static void a_refresh_needs_no_traffic_in_between(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(5060);
    phones_note(s.p, 0, &a, 1, start);
    phones_note(s.p, 0, &a, 2, start + 5 * NS_S);
    phones_note(s.p, 0, &a, 1, start + 3600 * NS_S);
    assert_true(phones_match(s.p, 0, &a, 1));
    assert_true(phones_match(s.p, 0, &a, 2));
    free(s.memory);
}

static void many_lines(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(5060);
    for (uint32_t line = 1; line <= 4; line++)
        phones_note(s.p, 0, &a, line, start);
    assert_false(phones_match(s.p, 0, &a, 5));
    phones_note(s.p, 0, &a, 5, start);
    for (uint32_t line = 1; line <= 5; line++)
        assert_true(phones_match(s.p, 0, &a, line));
    free(s.memory);
}

/* A full table forgets whom it has heard least lately, and never says anything wrong of another. */
static void full_table(void **state)
{
    (void)state;
    struct scene s = scene(16);
    for (uint16_t i = 1; i <= 1000; i++) {
        struct addr a = at(i);
        phones_note(s.p, 0, &a, i, start + i * NS_S);
        for (uint16_t k = 1; k <= i; k++) {
            struct addr b = at(k);
            assert_true(phones_match(s.p, 0, &b, k));
        }
        assert_false(phones_match(s.p, 0, &a, 5000));
    }
    free(s.memory);
}

/* What was stored by another process: believed as long as it does not contradict itself. */
static void claims_of_another_process(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(1), b = at(2);
    const uint32_t one = PHONE_BY_INSTANCE | 1, two = PHONE_BY_INSTANCE | 2;
    phones_claim(s.p, 0, &a, one);
    phones_claim(s.p, 0, &a, one);
    assert_true(phones_match(s.p, 0, &a, one));
    assert_false(phones_match(s.p, 0, &a, two));
    phones_claim(s.p, 0, &a, two);
    assert_false(phones_match(s.p, 0, &a, one));
    assert_false(phones_match(s.p, 0, &a, two));
    phones_claim(s.p, 0, &a, one); /* still nobody */
    assert_false(phones_match(s.p, 0, &a, one));
    assert_int_equal(phones_at(s.p, 0, &a), 0);
    phones_note(s.p, 0, &a, two, start);
    assert_true(phones_match(s.p, 0, &a, two));
    assert_false(phones_match(s.p, 0, &a, one));
    for (uint32_t line = 1; line <= 6; line++) /* lines without an instance: any of them */
        phones_claim(s.p, 0, &b, line);
    assert_true(phones_match(s.p, 0, &b, 1));
    assert_true(phones_match(s.p, 0, &b, 6));
    free(s.memory);
}

/* ---- pings ----------------------------------------------------------------------------------- */

/* A phone that registers and is kept. */
static void kept(struct scene *s, uint16_t port, uint32_t aor, uint32_t life_s, mono_ns now)
{
    struct addr a = at(port);
    phones_note(s->p, 0, &a, port, now);
    phones_keep(s->p, 0, &a, aor, life_s, now);
}

/* How many are due, each at its next pause of 24 s. */
static unsigned due(struct scene *s, mono_ns now)
{
    unsigned n = 0;
    struct phone_ping *ping;
    while ((ping = phones_ping_due(s->p, now)) != NULL) {
        mono_ns next = ping->heard + 24 * NS_S;
        n += next <= now;
        phones_ping_at(s->p, ping, next <= now ? now + 24 * NS_S : next);
    }
    return n;
}

static void nobody_is_due(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(1);
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    phones_keep(s.p, 0, &a, 7, 600, start); /* nobody was noted there */
    phones_note(s.p, 0, &a, 77, start);
    phones_heard(s.p, 0, &a, start);
    phones_keep(s.p, 0, &a, 7, 0, start); /* ended what never was */
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    assert_null(phones_ping_due(s.p, start + 3600 * NS_S));
    free(s.memory);
}

static void due_until_the_last_line_ends(void **state)
{
    (void)state;
    struct scene s = scene(64);
    kept(&s, 1, 7, 100, start);
    kept(&s, 1, 8, 200, start);
    kept(&s, 1, 7, 50, start); /* shortened */
    unsigned n = 0;
    for (unsigned i = 0; i < 300; i++)
        n += due(&s, start + i * NS_S);
    assert_int_equal(n, 8); /* at 24, …, 192 */
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    kept(&s, 1, 7, 100, start + 300 * NS_S);
    kept(&s, 1, 8, 100, start + 300 * NS_S);
    kept(&s, 1, 8, 0, start + 300 * NS_S);
    assert_false(phones_ping_deadline(s.p) == MONO_NONE);
    kept(&s, 1, 7, 0, start + 300 * NS_S);
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    kept(&s, 1, 7, 100, start + 300 * NS_S);
    struct addr a = at(1);
    phones_unkeep(s.p, 1, &a);
    assert_false(phones_ping_deadline(s.p) == MONO_NONE);
    phones_unkeep(s.p, 0, &a);
    phones_unkeep(s.p, 0, &a);
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    free(s.memory);
}

/* More lines than are kept: what lasts longest is. */
static void the_longest_lines_are_kept(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(1);
    for (uint32_t i = 1; i <= 9; i++)
        kept(&s, 1, i, i * 100, start);
    phones_keep(s.p, 0, &a, 1, 0, start); /* not among them */
    for (uint32_t i = 6; i <= 8; i++)
        phones_keep(s.p, 0, &a, i, 0, start);
    assert_false(phones_ping_deadline(s.p) == MONO_NONE);
    phones_keep(s.p, 0, &a, 9, 0, start);
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    free(s.memory);
}

/* Who is heard is not due; who slept is looked at again. */
static void what_is_heard_counts(void **state)
{
    (void)state;
    struct scene s = scene(64);
    struct addr a = at(1);
    kept(&s, 1, 7, 6000, start);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(due(&s, start + i * 20 * NS_S), 0);
        phones_heard(s.p, 0, &a, start + i * 20 * NS_S);
    }
    struct phone_ping *ping = phones_ping_due(s.p, start + 3000 * NS_S);
    assert_non_null(ping);
    assert_true(addr_equal(&ping->addr, &a) && ping->listener == 0);
    ping->unanswered = 5;
    assert_true(phones_ping_deadline(s.p) == MONO_NONE); /* asleep */
    phones_heard(s.p, 0, &a, start + 3000 * NS_S);       /* whoever says so */
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    assert_int_equal(ping->unanswered, 5);
    phones_answered(s.p, 0, &a, start + 3000 * NS_S); /* an answer to an earlier one, late */
    ping = phones_ping_due(s.p, start + 3000 * NS_S);
    assert_non_null(ping);
    assert_int_equal(ping->unanswered, 0);
    ping->unanswered = 5;
    phones_heard(s.p, 1, &a, start + 3001 * NS_S); /* by another listener */
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    phones_heard(s.p, 0, &a, start + 3001 * NS_S);
    assert_ptr_equal(phones_ping_due(s.p, start + 3002 * NS_S), ping);
    assert_int_equal(ping->unanswered, 0);
    assert_true(ping->heard == start + 3001 * NS_S);
    phones_heard(s.p, 0, &a, start + 7000 * NS_S); /* its time is over */
    assert_null(phones_ping_due(s.p, start + 7001 * NS_S));
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    free(s.memory);
}

/* With its address another phone's, or forgotten, it is not pinged for what was. */
static void displaced_is_not_pinged(void **state)
{
    (void)state;
    struct scene s = scene(16);
    struct addr a = at(1);
    kept(&s, 1, 7, 6000, start);
    phones_note(s.p, 0, &a, 2, start + 60 * NS_S); /* another one, after a silence */
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    kept(&s, 1, 7, 6000, start + 60 * NS_S);
    phones_copy(s.p, 0, &a, 3, PHONES_ALONE, start + 61 * NS_S); /* another worker hears it */
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    for (uint16_t i = 1; i <= 1000; i++)
        kept(&s, i, i, 6000, start + 100 * NS_S);
    unsigned n = due(&s, start + 200 * NS_S);
    assert_in_range(n, 4, 16);
    assert_int_equal(due(&s, start + 225 * NS_S), n);
    assert_int_equal(due(&s, start + 6100 * NS_S), 0);
    assert_true(phones_ping_deadline(s.p) == MONO_NONE);
    free(s.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_addresses_may_be_anybodys),
        cmocka_unit_test(claims_of_another_process),
        cmocka_unit_test(silence_decides),
        cmocka_unit_test(instances_do_not_share_an_address),
        cmocka_unit_test(a_refresh_needs_no_traffic_in_between),
        cmocka_unit_test(many_lines),
        cmocka_unit_test(full_table),
        cmocka_unit_test(nobody_is_due),
        cmocka_unit_test(due_until_the_last_line_ends),
        cmocka_unit_test(the_longest_lines_are_kept),
        cmocka_unit_test(what_is_heard_counts),
        cmocka_unit_test(displaced_is_not_pinged),
    };
    return cmocka_run_group_tests_name("phone", tests, NULL, NULL);
}
