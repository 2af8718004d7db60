/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of connections, against a plain model of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "flow/flow.h"
#include "support/support.h"

enum { ACCEPTED = 8, OPENED = 8, WORKER = 3 };

static const struct hash_seed seed = {1, 2};

static struct addr peer(unsigned i)
{
    struct addr a = {.ip = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}, .family = 4, .port = 5060};
    return a;
}

struct scene {
    struct arena mem;
    struct flows *flows;
};

static struct scene begin(void)
{
    struct scene s = {.mem = test_arena(flows_memory(ACCEPTED, OPENED))};
    s.flows = flows_new(&s.mem, ACCEPTED, OPENED, seed, WORKER);
    assert_non_null(s.flows);
    return s;
}

static void end(struct scene *s)
{
    test_arena_free(&s->mem);
}

static struct flow *accept_at(struct flows *f, uint32_t slot, uint64_t gen)
{
    struct addr a = peer(slot);
    return flow_accepted(f, (struct flow_id){gen, slot, WORKER}, &a, 1, TP_TCP, SIDE_OUTSIDE, 5);
}

static struct flow *open_to(struct flows *f, unsigned i)
{
    struct addr a = peer(i);
    return flow_open(f, &a, 2, TP_TCP, SIDE_INSIDE, 0, 5);
}

static void accepted_by_slot(void **state)
{
    (void)state;
    struct scene s = begin();
    struct flow *w = accept_at(s.flows, 3, 77);
    assert_non_null(w);
    assert_ptr_equal(flow_get(s.flows, (struct flow_id){77, 3, WORKER}), w);
    static const struct flow_id others[] = {
        {78, 3, WORKER},        {76, 3, WORKER},          {77, 4, WORKER},
        {77, 3, WORKER + 1},    {0, 3, WORKER},           {77, 3 | FLOW_OUT, WORKER},
        {77, ACCEPTED, WORKER}, {77, UINT32_MAX, WORKER}, {77, FLOW_OUT - 1, WORKER},
        {0, 0, WORKER},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_null(flow_get(s.flows, others[i]));
    assert_int_equal(w->side, SIDE_OUTSIDE);
    assert_int_equal(w->listener, 1);
    assert_false(w->connecting);
    /* Never by its address. */
    struct addr a = peer(3);
    uint32_t count = 9;
    assert_null(flow_to(s.flows, &a, TP_TCP, 0, &count));
    assert_int_equal(count, 0);
    flow_forget(s.flows, w);
    assert_null(flow_get(s.flows, (struct flow_id){77, 3, WORKER}));
    /* The slot's next tenant is another. */
    assert_non_null(accept_at(s.flows, 3, 78));
    assert_null(flow_get(s.flows, (struct flow_id){77, 3, WORKER}));
    assert_null(accept_at(s.flows, ACCEPTED, 79));
    assert_int_equal(flows_live(s.flows), 1);
    end(&s);
}

static void idle_ones_make_room(void **state)
{
    (void)state;
    struct scene s = begin();
    assert_null(flow_idle(s.flows));
    struct flow *w[OPENED];
    for (unsigned i = 0; i < OPENED; i++) {
        w[i] = open_to(s.flows, i);
        assert_non_null(w[i]);
    }
    assert_null(flow_idle(s.flows)); /* all connect still */
    for (unsigned i = 0; i < OPENED; i++) {
        w[i]->connecting = false;
        w[i]->last_in = 100 + i;
    }
    w[0]->users = 1;
    w[1]->askers = 1;
    w[2]->closing = true;
    w[6]->last_in = 50;
    assert_ptr_equal(flow_idle(s.flows), w[6]);
    w[6]->closing = true;
    assert_ptr_equal(flow_idle(s.flows), w[3]);
    end(&s);
}

static void ids_are_never_used_twice(void **state)
{
    (void)state;
    struct scene s = begin();
    uint64_t last = 0;
    struct flow_id old[64];
    for (unsigned round = 0; round < 64; round++) {
        struct flow *w = open_to(s.flows, 1);
        assert_non_null(w);
        assert_true(w->connecting);
        assert_true(w->id.slot & FLOW_OUT);
        assert_int_equal(w->id.worker, WORKER);
        assert_true(w->id.gen > last);
        last = w->id.gen;
        old[round] = w->id;
        for (unsigned i = 0; i < round; i++)
            assert_null(flow_get(s.flows, old[i]));
        assert_ptr_equal(flow_get(s.flows, w->id), w);
        flow_forget(s.flows, w);
        assert_null(flow_get(s.flows, old[round]));
    }
    end(&s);
}

static void table_of_ours_is_bounded(void **state)
{
    (void)state;
    struct scene s = begin();
    struct flow *w[OPENED];
    for (unsigned i = 0; i < OPENED; i++)
        assert_non_null(w[i] = open_to(s.flows, i));
    assert_null(open_to(s.flows, 99));
    flow_forget(s.flows, w[4]);
    assert_non_null(open_to(s.flows, 99));
    assert_null(open_to(s.flows, 100));
    assert_int_equal(flows_live(s.flows), OPENED);
    end(&s);
}

static void least_busy_of_a_peer(void **state)
{
    (void)state;
    struct scene s = begin();
    struct addr a = peer(1);
    uint32_t count;
    struct flow *one = open_to(s.flows, 1), *two = open_to(s.flows, 1),
                *other = open_to(s.flows, 2);
    one->open = 5;
    two->open = 4;
    other->open = 0;
    assert_ptr_equal(flow_to(s.flows, &a, TP_TCP, 0, &count), two);
    assert_int_equal(count, 2);
    two->closing = true;
    assert_ptr_equal(flow_to(s.flows, &a, TP_TCP, 0, &count), one);
    assert_int_equal(count, 1);
    assert_null(flow_to(s.flows, &a, TP_TLS, 0, &count));
    a.port++;
    assert_null(flow_to(s.flows, &a, TP_TCP, 0, &count));
    end(&s);
}

static void iteration_meets_each_once(void **state)
{
    (void)state;
    struct scene s = begin();
    assert_non_null(accept_at(s.flows, 0, 1));
    assert_non_null(accept_at(s.flows, 6, 2));
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(open_to(s.flows, i));
    uint32_t cursor = 0;
    unsigned seen = 0;
    for (struct flow *w; (w = flow_next(s.flows, &cursor)) != NULL; seen++)
        assert_ptr_equal(flow_get(s.flows, w->id), w);
    assert_int_equal(seen, 5);
    assert_null(flow_next(s.flows, &cursor));
    end(&s);
}

static void random_walk(void **state)
{
    (void)state;
    struct scene s = begin();
    struct prng prng = test_seed();
    struct {
        struct flow_id id;
        unsigned peer;
    } live[ACCEPTED + OPENED];
    unsigned n = 0;
    uint64_t gen = 1000;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned what = (unsigned)prng_below(&prng, 3), i = (unsigned)prng_below(&prng, 4);
        if (what == 0 && n < ACCEPTED + OPENED) {
            struct flow *w = open_to(s.flows, i);
            if (w != NULL) {
                live[n].id = w->id;
                live[n++].peer = i;
            }
        } else if (what == 1) {
            uint32_t slot = (uint32_t)prng_below(&prng, ACCEPTED);
            bool taken = false;
            for (unsigned k = 0; k < n; k++)
                taken |= live[k].id.slot == slot;
            if (!taken) {
                live[n].id = accept_at(s.flows, slot, gen++)->id;
                live[n++].peer = UINT32_MAX;
            }
        } else if (n > 0) {
            unsigned k = (unsigned)prng_below(&prng, n);
            flow_forget(s.flows, flow_get(s.flows, live[k].id));
            assert_null(flow_get(s.flows, live[k].id));
            live[k] = live[--n];
        }
        assert_int_equal(flows_live(s.flows), n);
        unsigned expected = 0;
        for (unsigned k = 0; k < n; k++) {
            assert_non_null(flow_get(s.flows, live[k].id));
            expected += live[k].peer == i;
        }
        uint32_t count;
        struct addr a = peer(i);
        assert_true((flow_to(s.flows, &a, TP_TCP, 0, &count) != NULL) == (expected > 0));
        assert_int_equal(count, expected);
    }
    end(&s);
}

static void back_off_doubles_to_its_ceiling(void **state)
{
    (void)state;
    struct scene s = begin();
    struct addr a = peer(1);
    struct flow w = {.peer = a, .transport = TP_TCP};
    mono_ns now = 100 * NS_S;
    static const uint64_t expected_ms[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    assert_true(flow_may_connect(s.flows, &a, TP_TCP, 0, now));
    for (size_t i = 0; i < sizeof expected_ms / sizeof expected_ms[0]; i++) {
        flow_connect_result(s.flows, &w, false, now);
        assert_false(flow_may_connect(s.flows, &a, TP_TCP, 0, now));
        assert_false(flow_may_connect(s.flows, &a, TP_TCP, 0, now + expected_ms[i] * NS_MS - 1));
        assert_true(flow_may_connect(s.flows, &a, TP_TLS, 0, now));
        assert_true(flow_may_connect(s.flows, &a, TP_TCP, 1, now)); /* another one there */
        now += expected_ms[i] * NS_MS;
        assert_true(flow_may_connect(s.flows, &a, TP_TCP, 0, now));
    }
    flow_connect_result(s.flows, &w, true, now);
    flow_connect_result(s.flows, &w, false, now);
    assert_true(flow_may_connect(s.flows, &a, TP_TCP, 0, now + 100 * NS_MS));
    end(&s);
}

/* Some dozens of dead peers at once: each backs off, none is let through by another. */
static void back_off_of_many(void **state)
{
    (void)state;
    enum { DEAD = 60 };
    struct scene s = begin();
    mono_ns now = 100 * NS_S;
    for (unsigned i = 0; i < DEAD; i++) {
        struct flow w = {.peer = peer(i), .transport = TP_TCP};
        flow_connect_result(s.flows, &w, false, now);
    }
    unsigned held = 0;
    for (unsigned i = 0; i < DEAD; i++) {
        struct addr a = peer(i);
        held += !flow_may_connect(s.flows, &a, TP_TCP, 0, now);
    }
    assert_true(held >= DEAD - 1);
    struct addr other = peer(1000);
    assert_true(flow_may_connect(s.flows, &other, TP_TCP, 0, now));
    end(&s);
}

static void too_little_memory(void **state)
{
    (void)state;
    size_t need = flows_memory(ACCEPTED, OPENED);
    for (size_t n = 0; n < need - 512; n += 97) {
        struct arena mem = test_arena(n + 1);
        mem.cap = n;
        assert_null(flows_new(&mem, ACCEPTED, OPENED, seed, WORKER));
        test_arena_free(&mem);
    }
}

/* Pings against a model: each comes in its second, once, whatever is armed, disarmed and forgotten
 * in between. */
static void pings_come_in_their_second(void **state)
{
    (void)state;
    struct scene s = begin();
    uint64_t due[ACCEPTED] = {0};
    struct flow *w[ACCEPTED];
    uint64_t random = 42, gen = 1;
    for (uint32_t i = 0; i < ACCEPTED; i++)
        w[i] = accept_at(s.flows, i, gen++);
    assert_true(flow_ping_deadline(s.flows) == MONO_NONE);
    unsigned came = 0;
    uint64_t second = 1;
    for (unsigned step = 0; step < 40000; step++, second++) {
        mono_ns now = second * NS_S + random % NS_S;
        mono_ns earliest = MONO_NONE;
        for (uint32_t i = 0; i < ACCEPTED; i++)
            if (due[i] != 0 && due[i] * NS_S < earliest)
                earliest = due[i] * NS_S;
        /* It may be asked too early, but never too late, and not for nothing. */
        mono_ns asked = flow_ping_deadline(s.flows);
        assert_true(asked <= earliest);
        assert_true(earliest != MONO_NONE || asked == MONO_NONE);
        struct flow *due_now;
        while ((due_now = flow_ping_due(s.flows, now)) != NULL) {
            uint32_t slot = due_now->id.slot;
            assert_true(due[slot] != 0 && due[slot] <= second);
            due[slot] = 0;
            came++;
        }
        for (uint32_t i = 0; i < ACCEPTED; i++)
            assert_true(due[i] == 0 || due[i] > second);
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t slot = (uint32_t)(random >> 33) % ACCEPTED;
        uint32_t ahead = (uint32_t)(random >> 40) % (random >> 20 & 1 ? 1300 : 20);
        if (random >> 62 == 0) {
            flow_forget(s.flows, w[slot]);
            due[slot] = 0;
            w[slot] = accept_at(s.flows, slot, gen++);
        } else if (random >> 62 == 1) {
            flow_ping_in(s.flows, w[slot], ahead, now);
            due[slot] = second + (ahead == 0 ? 1 : ahead < 1000 ? ahead : 1000);
        } else if (random >> 54 == 0x3ff) {
            second += 5000; /* a machine that slept */
        }
    }
    assert_true(came > 1000);
    end(&s);
}

static void names_of_peers(void **state)
{
    (void)state;
    struct scene s = begin();
    struct flow *w = accept_at(s.flows, 1, 9), *other = accept_at(s.flows, 2, 10);
    assert_int_equal(flow_name(s.flows, w).n, 0);
    flow_set_name(s.flows, w, SLICE("trunk.example.com"));
    assert_true(slice_equal(flow_name(s.flows, w), SLICE("trunk.example.com")));
    assert_int_equal(flow_name(s.flows, other).n, 0);
    char text[400];
    memset(text, 'n', sizeof text);
    flow_set_name(s.flows, w, slice_of(text, FLOW_NAME_BYTES_MAX));
    assert_int_equal(flow_name(s.flows, w).n, FLOW_NAME_BYTES_MAX);
    /* Of more than there is room for, whole names or none: half of one is somebody else's. */
    flow_set_name(s.flows, w, slice_of(text, FLOW_NAME_BYTES_MAX + 1));
    assert_int_equal(flow_name(s.flows, w).n, 0);
    text[FLOW_NAME_BYTES_MAX] = ' ';
    flow_set_name(s.flows, w, slice_of(text, sizeof text));
    assert_int_equal(flow_name(s.flows, w).n, FLOW_NAME_BYTES_MAX);
    text[FLOW_NAME_BYTES_MAX] = 'n';
    text[100] = text[200] = ' ';
    flow_set_name(s.flows, w, slice_of(text, sizeof text));
    assert_int_equal(flow_name(s.flows, w).n, 200);
    /* They go with their flow, and none is lost. */
    for (unsigned i = 0; i < 100; i++) {
        flow_forget(s.flows, w);
        w = accept_at(s.flows, 1, 100 + i);
        assert_int_equal(flow_name(s.flows, w).n, 0);
        flow_set_name(s.flows, w, slice_of(text, i + 1));
        assert_int_equal(flow_name(s.flows, w).n, i + 1);
    }
    struct flow *ours = open_to(s.flows, 1);
    flow_set_name(s.flows, ours, SLICE("peer.example.com"));
    assert_true(slice_equal(flow_name(s.flows, ours), SLICE("peer.example.com")));
    end(&s);
}

/* At one address there may be several, told apart by whom a certificate must name. */
static void others_at_the_same_address(void **state)
{
    (void)state;
    struct scene s = begin();
    struct addr a = peer(1);
    uint32_t count;
    struct flow *one = flow_open(s.flows, &a, 2, TP_TLS, SIDE_INSIDE, 11, 5);
    struct flow *two = flow_open(s.flows, &a, 2, TP_TLS, SIDE_INSIDE, 22, 5);
    assert_ptr_equal(flow_to(s.flows, &a, TP_TLS, 11, &count), one);
    assert_int_equal(count, 1);
    assert_ptr_equal(flow_to(s.flows, &a, TP_TLS, 22, &count), two);
    assert_null(flow_to(s.flows, &a, TP_TLS, 0, &count));
    flow_forget(s.flows, one);
    assert_null(flow_to(s.flows, &a, TP_TLS, 11, &count));
    assert_ptr_equal(flow_to(s.flows, &a, TP_TLS, 22, &count), two);
    end(&s);
}

static void aliases(void **state)
{
    (void)state;
    struct scene s = begin();
    struct flow *w = accept_at(s.flows, 1, 9), *newer = accept_at(s.flows, 2, 10);
    flow_add_alias(s.flows, w, 7); /* without a proven name: none */
    assert_null(flow_of_alias(s.flows, 7));
    flow_set_name(s.flows, w, SLICE("trunk.example.com"));
    assert_null(flow_of_alias(s.flows, 7));
    flow_add_alias(s.flows, w, 7);
    flow_add_alias(s.flows, w, 7);
    assert_int_equal(flow_aliases(s.flows, w), 1);
    assert_ptr_equal(flow_of_alias(s.flows, 7), w);
    assert_null(flow_of_alias(s.flows, 8));

    /* Who spoke last has it. */
    flow_set_name(s.flows, newer, SLICE("trunk.example.com"));
    flow_add_alias(s.flows, newer, 7);
    newer->last_in = w->last_in + 1;
    assert_ptr_equal(flow_of_alias(s.flows, 7), newer);
    w->last_in = newer->last_in + 1;
    assert_ptr_equal(flow_of_alias(s.flows, 7), w);
    w->closing = true;
    assert_ptr_equal(flow_of_alias(s.flows, 7), newer);

    /* It ends with the flow, and does not come to the next one in its place. */
    flow_forget(s.flows, newer);
    assert_null(flow_of_alias(s.flows, 7));
    newer = accept_at(s.flows, 2, 11);
    assert_null(flow_of_alias(s.flows, 7));
    flow_set_name(s.flows, newer, SLICE("trunk.example.com"));
    assert_null(flow_of_alias(s.flows, 7));

    /* Bounded. */
    for (uint64_t i = 0; i < 100; i++)
        flow_add_alias(s.flows, newer, 1000 + i);
    assert_int_equal(flow_aliases(s.flows, newer), FLOW_ALIASES_MAX);
    flow_forget(s.flows, newer);
    flow_forget(s.flows, w);
    for (unsigned i = 0; i < 100; i++) { /* none is left in the table */
        w = accept_at(s.flows, 1, 100 + i);
        flow_set_name(s.flows, w, SLICE("trunk.example.com"));
        flow_add_alias(s.flows, w, 5000 + i);
        assert_ptr_equal(flow_of_alias(s.flows, 5000 + i), w);
        flow_forget(s.flows, w);
    }

    /* A connection of ours has none: it is found by whom it was opened to. */
    struct flow *ours = open_to(s.flows, 1);
    flow_set_name(s.flows, ours, SLICE("peer.example.com"));
    flow_add_alias(s.flows, ours, 3);
    assert_null(flow_of_alias(s.flows, 3));
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_at_the_same_address),
        cmocka_unit_test(aliases),
        cmocka_unit_test(accepted_by_slot),
        cmocka_unit_test(ids_are_never_used_twice),
        cmocka_unit_test(table_of_ours_is_bounded),
        cmocka_unit_test(idle_ones_make_room),
        cmocka_unit_test(least_busy_of_a_peer),
        cmocka_unit_test(iteration_meets_each_once),
        cmocka_unit_test(random_walk),
        cmocka_unit_test(back_off_doubles_to_its_ceiling),
        cmocka_unit_test(back_off_of_many),
        cmocka_unit_test(too_little_memory),
        cmocka_unit_test(pings_come_in_their_second),
        cmocka_unit_test(names_of_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
