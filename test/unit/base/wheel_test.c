/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

enum { NODES = 60 };

static const uint64_t tick_max = (MONO_NONE - 1) / NS_MS;

static uint64_t due_tick(mono_ns at)
{
    return at / NS_MS + (at % NS_MS != 0);
}

/* The invariants of the structure itself: bitmaps tell the truth, lists are sound, and the count
 * is right. */
static void check_structure(const struct wheel *w)
{
    uint32_t armed = 0;
    for (unsigned level = 0; level < 4; level++) {
        for (unsigned cell = 0; cell < 256; cell++) {
            const struct wheel_node *head = &w->cell[level][cell];
            bool used = (w->used[level][cell / 64] >> (cell % 64) & 1) != 0;
            assert_int_equal(used, head->next != head);
            for (const struct wheel_node *n = head->next; n != head; n = n->next) {
                assert_ptr_equal(n->next->prev, n);
                assert_ptr_equal(n->prev->next, n);
                armed++;
            }
        }
    }
    assert_int_equal(armed, w->armed);
}

/* Distances of every scale: now, within a tick, each level, beyond the last, and never. */
static mono_ns some_deadline(struct prng *prng, mono_ns now)
{
    static const dur_ns scale[] = {
        1,        NS_MS,           3 * NS_MS,    300 * NS_MS,       70 * NS_S,
        2 * NS_S, 6 * 3600 * NS_S, 86400 * NS_S, 60 * 86400 * NS_S, 400 * 86400 * NS_S,
    };
    switch (prng_below(prng, 12)) {
    case 0:
        return now - prng_below(prng, now < 5 * NS_S ? now + 1 : 5 * NS_S);
    case 1:
        return MONO_NONE - 1 - prng_below(prng, 3);
    case 2: /* at a border of ticks, which is where rounding errs */
        return (now / NS_MS + prng_below(prng, 600)) * NS_MS + prng_below(prng, 3) - 1;
    default:
        return mono_add(now, prng_below(prng, scale[prng_below(prng, 10)]));
    }
}

static dur_ns some_jump(struct prng *prng)
{
    static const dur_ns scale[] = {
        NS_US,    NS_MS,     20 * NS_MS,      300 * NS_MS,
        2 * NS_S, 70 * NS_S, 5 * 3600 * NS_S, 90 * 86400 * NS_S,
    };
    return prng_below(prng, scale[prng_below(prng, prng_below(prng, 4) == 0 ? 8 : 5)] + 1);
}

struct world {
    struct wheel wheel;
    struct wheel_node node[NODES];
    mono_ns model[NODES]; /* MONO_NONE = not armed */
    mono_ns now;
};

static uint64_t earliest_tick(const struct world *x)
{
    uint64_t first = UINT64_MAX;
    for (unsigned i = 0; i < NODES; i++) {
        if (x->model[i] != MONO_NONE && due_tick(x->model[i]) < first)
            first = due_tick(x->model[i]);
    }
    return first;
}

static void expire_all(struct world *x)
{
    /* What was due already when it was armed comes first, then tick by tick. */
    uint64_t first = x->wheel.tick, last = first;
    for (struct wheel_node *n; (n = wheel_expire(&x->wheel, x->now)) != NULL;) {
        size_t i = (size_t)(n - x->node);
        assert_true(i < NODES);
        assert_true(x->model[i] != MONO_NONE);
        assert_true(x->model[i] <= x->now); /* never early */
        assert_false(wheel_is_armed(n));
        assert_true(n->at == MONO_NONE);
        uint64_t due = due_tick(x->model[i]);
        assert_true(due >= last || last == first);
        last = due > last ? due : last;
        x->model[i] = MONO_NONE;
    }
    assert_true(earliest_tick(x) > x->now / NS_MS); /* never more than a tick late */
    assert_true(x->wheel.tick == x->now / NS_MS);
}

static void check_deadline(const struct world *x)
{
    mono_ns deadline = wheel_deadline(&x->wheel);
    uint64_t first = earliest_tick(x);
    if (first == UINT64_MAX) {
        assert_true(deadline == MONO_NONE);
        return;
    }
    assert_true(deadline != MONO_NONE);
    uint64_t fires = first > x->wheel.tick ? first : x->wheel.tick;
    if (fires > tick_max) /* the last tick has no end: it never fires */
        assert_true(deadline <= MONO_NONE - 1);
    else if (fires / 256 == x->wheel.tick / 256)
        assert_true(deadline == fires * NS_MS); /* exact on level 0 */
    else
        assert_true(deadline <= fires * NS_MS);
}

static void check_nodes(const struct world *x)
{
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(wheel_is_armed(&x->node[i]), x->model[i] != MONO_NONE);
        if (x->model[i] != MONO_NONE)
            assert_true(x->node[i].at == x->model[i]);
    }
}

static void run_model(struct prng *prng, mono_ns start, unsigned steps)
{
    static struct world x;
    memset(&x, 0, sizeof x);
    x.now = start;
    wheel_init(&x.wheel, start);
    for (unsigned i = 0; i < NODES; i++)
        x.model[i] = MONO_NONE;
    for (unsigned step = 0; step < steps; step++) {
        unsigned i = (unsigned)prng_below(prng, NODES);
        switch (prng_below(prng, 8)) {
        case 0:
            wheel_disarm(&x.wheel, &x.node[i]);
            x.model[i] = MONO_NONE;
            break;
        case 1:
            wheel_arm(&x.wheel, &x.node[i], MONO_NONE);
            x.model[i] = MONO_NONE;
            break;
        case 2:
        case 3:
            x.now = mono_add(x.now, some_jump(prng));
            expire_all(&x);
            break;
        case 4: /* exactly to the deadline, as the driver does */
            if (x.model[i] != MONO_NONE && wheel_deadline(&x.wheel) < MONO_NONE - NS_MS) {
                x.now = x.now > wheel_deadline(&x.wheel) ? x.now : wheel_deadline(&x.wheel);
                expire_all(&x);
            }
            break;
        default:
            x.model[i] = some_deadline(prng, x.now);
            wheel_arm(&x.wheel, &x.node[i], x.model[i]);
        }
        check_deadline(&x);
        if (step % 64 == 0) {
            check_structure(&x.wheel);
            check_nodes(&x);
        }
    }
}

static void test_model(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    for (unsigned world = 0; world < 40; world++) {
        /* Ticks just before a digit turns over, and times near the end of the clock too. */
        static const uint64_t ticks[] = {0, 255, 65535, 0xffffff, 0xffffffff, 0x1ffffff00};
        mono_ns start = ticks[prng_below(&prng, 6)] * NS_MS + prng_below(&prng, NS_S);
        if (prng_below(&prng, 10) == 0)
            start = MONO_NONE - 1 - prng_below(&prng, 86400 * NS_S);
        run_model(&prng, start, 4000);
    }
}

/* Following wheel_deadline() alone, a lonely node is reached in a few steps from any distance. */
static void test_deadline_leads_to_the_node(void **state)
{
    (void)state;
    static const dur_ns spans[] = {
        0,
        1,
        NS_MS,
        255 * NS_MS,
        256 * NS_MS,
        65536 * NS_MS,
        32 * NS_S,
        3600 * NS_S,
        5 * 3600 * NS_S,
        48 * 86400 * NS_S,
        (1ULL << 32) * NS_MS,
        (5ULL << 32) * NS_MS,
        500 * 86400 * NS_S,
    };
    static struct wheel w;
    for (unsigned i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        mono_ns now = 1234567 * NS_MS + 1;
        wheel_init(&w, now);
        struct wheel_node n = {0};
        mono_ns at = now + spans[i];
        wheel_arm(&w, &n, at);
        unsigned steps = 0;
        while (wheel_expire(&w, now) == NULL) {
            mono_ns next = wheel_deadline(&w);
            assert_true(next > now);
            now = next;
            assert_true(++steps < 16);
        }
        assert_true(now >= at && now - at < NS_MS);
        assert_true(wheel_deadline(&w) == MONO_NONE);
    }
}

static void test_order_within_a_tick_is_that_of_arming(void **state)
{
    (void)state;
    static struct wheel w;
    wheel_init(&w, 0);
    struct wheel_node n[5] = {0};
    for (unsigned i = 0; i < 5; i++) /* from level 1 they come down together */
        wheel_arm(&w, &n[i], 700 * NS_MS - i);
    for (unsigned i = 0; i < 5; i++)
        assert_ptr_equal(wheel_expire(&w, NS_S), &n[i]);
    assert_null(wheel_expire(&w, NS_S));
}

static void test_arming_anew_in_place_leaves_the_lists_alone(void **state)
{
    (void)state;
    static struct wheel w;
    wheel_init(&w, 0);
    struct wheel_node a = {0}, b = {0};
    wheel_arm(&w, &a, 1000 * NS_MS);
    wheel_arm(&w, &b, 1010 * NS_MS);
    wheel_arm(&w, &a, 1020 * NS_MS); /* 768 to 1023 ms are one cell of level 1 */
    assert_ptr_equal(a.next, &b);
    assert_int_equal(w.armed, 2);
    assert_null(wheel_expire(&w, 1005 * NS_MS));
    assert_ptr_equal(wheel_expire(&w, 1015 * NS_MS), &b);
    assert_null(wheel_expire(&w, 1015 * NS_MS));
    assert_ptr_equal(wheel_expire(&w, 1020 * NS_MS), &a);
}

/* A node that arms itself for the present time fires again in the same pass: the caller sees it. */
static void test_due_at_once(void **state)
{
    (void)state;
    static struct wheel w;
    mono_ns now = 77 * NS_MS;
    wheel_init(&w, now);
    struct wheel_node n = {0};
    for (unsigned i = 0; i < 3; i++) {
        wheel_arm(&w, &n, now - i);
        assert_true(wheel_deadline(&w) <= now);
        assert_ptr_equal(wheel_expire(&w, now), &n);
    }
    wheel_arm(&w, &n, now + 1);
    assert_null(wheel_expire(&w, now + 1)); /* within the tick: late by less than one */
    assert_ptr_equal(wheel_expire(&w, now + NS_MS), &n);
}

static void test_disarm_of_the_next_while_expiring(void **state)
{
    (void)state;
    static struct wheel w;
    wheel_init(&w, 0);
    struct wheel_node n[3] = {0};
    for (unsigned i = 0; i < 3; i++)
        wheel_arm(&w, &n[i], 10 * NS_MS);
    assert_ptr_equal(wheel_expire(&w, NS_S), &n[0]);
    wheel_disarm(&w, &n[1]);
    wheel_disarm(&w, &n[1]);
    assert_ptr_equal(wheel_expire(&w, NS_S), &n[2]);
    assert_null(wheel_expire(&w, NS_S));
    assert_int_equal(w.armed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_deadline_leads_to_the_node),
        cmocka_unit_test(test_order_within_a_tick_is_that_of_arming),
        cmocka_unit_test(test_arming_anew_in_place_leaves_the_lists_alone),
        cmocka_unit_test(test_due_at_once),
        cmocka_unit_test(test_disarm_of_the_next_while_expiring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
