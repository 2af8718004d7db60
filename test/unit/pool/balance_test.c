/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

/* ---- round-robin ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint16_t weights[4];
    unsigned n;
    const char *turns; /* one letter a turn, two rounds */
} turn_cases[] = {
    {"equal ones take turns", {1, 1, 1}, 3, "abcabc"},
    {"one alone", {7}, 1, "aaaa"},
    {"the heavy one is interleaved", {2, 1, 1}, 3, "abcaabca"},
    {"weights have no common unit", {3, 2}, 2, "ababaababa"},
    {"light ones do not come at the end", {5, 1, 1}, 3, "aaabcaaaaabcaa"},
};

static void round_robin_turns(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof turn_cases / sizeof turn_cases[0]; i++) {
        struct world w;
        world_one(&w, POOL_ROUND_ROBIN, turn_cases[i].n);
        for (unsigned m = 0; m < turn_cases[i].n; m++)
            w.targets[0][m].weight = turn_cases[i].weights[m];
        world_adopt(&w, 1);
        char got[32] = "";
        size_t len = strlen(turn_cases[i].turns);
        unsigned counts[2][4] = {0};
        for (size_t turn = 0; turn < len; turn++) {
            int m = world_choose(&w, 0, NULL);
            assert_in_range(m, 0, 3);
            got[turn] = (char)('a' + m);
            counts[turn * 2 / len][m]++;
        }
        print_message("%s: %s\n", turn_cases[i].name, got);
        assert_memory_equal(counts[0], counts[1], sizeof counts[0]);
        for (unsigned m = 0; m < turn_cases[i].n && turn_cases[i].n > 1; m++)
            assert_int_equal(counts[0][m], turn_cases[i].weights[m]);
        assert_string_equal(got, turn_cases[i].turns);
        world_end(&w);
    }
}

/* In any window of the length of the sum of weights, no target is off by more than one turn. */
static void round_robin_is_smooth(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 40);
    unsigned sum = 0, counts[40] = {0};
    for (unsigned m = 0; m < 40; m++) {
        w.targets[0][m].weight = (uint16_t)(m % 7 + 1);
        sum += m % 7 + 1;
    }
    world_adopt(&w, 1);
    for (unsigned turn = 1; turn <= 5 * sum; turn++) {
        counts[world_choose(&w, 0, NULL)]++;
        for (unsigned m = 0; m < 40; m++) {
            double due = (double)turn * (m % 7 + 1) / sum;
            assert_true((double)counts[m] > due - 1.5 && (double)counts[m] < due + 1.5);
        }
    }
    world_end(&w);
}

static void round_robin_returns_without_burst(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 3)->outlier.slow_start = 0;
    world_adopt(&w, 1);
    assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][1].uri, POOL_MAINT, w.now),
                     1);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_not_equal(world_choose(&w, 0, NULL), 1);
    assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][1].uri, POOL_READY, w.now),
                     1);
    unsigned counts[POOL_TARGETS_MAX];
    world_count(&w, 30, counts);
    for (unsigned m = 0; m < 3; m++)
        assert_int_equal(counts[m], 10);
    world_end(&w);
}

/* ---- shares ---------------------------------------------------------------------------------- */

/* An idle pool too is loaded by weight. */
static void every_balance_heeds_weights(void **state)
{
    (void)state;
    for (uint8_t balance = POOL_ROUND_ROBIN; balance <= POOL_CALL_ID; balance++) {
        struct world w;
        world_one(&w, balance, 4);
        for (unsigned m = 0; m < 4; m++)
            w.targets[0][m].weight = (uint16_t)(10 * (m + 1));
        world_adopt(&w, 1);
        unsigned counts[POOL_TARGETS_MAX];
        world_count(&w, 100000, counts);
        for (unsigned m = 0; m < 4; m++)
            assert_near(counts[m] / 100000.0, 0.1 * (m + 1), 0.006);
        world_end(&w);
    }
}

static void least_busy_shuns_the_busy(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 3);
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 50; i++)
        pool_begin(w.p, world_target(&w, 0), w.now);
    unsigned counts[POOL_TARGETS_MAX];
    world_count(&w, 3000, counts);
    assert_int_equal(counts[0], 0); /* of any two, the other one is less busy */
    assert_near(counts[1] / 3000.0, 0.5, 0.05);
    world_end(&w);
}

/* Calls that last: open tries settle in proportion to the weights, far closer than by chance. */
static void least_busy_levels(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 10);
    for (unsigned m = 0; m < 10; m++)
        w.targets[0][m].weight = m < 5 ? 100 : 200;
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 3000; i++)
        pool_begin(w.p, world_target(&w, (uint16_t)world_choose(&w, i, NULL)), w.now);
    for (uint16_t m = 0; m < 10; m++)
        assert_near(world_status(&w, m).open, m < 5 ? 200 : 400, 10);
    world_end(&w);
}

static void least_busy_of_two_takes_the_other(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_LEAST_BUSY, 2);
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 100; i++)
        pool_begin(w.p, world_target(&w, (uint16_t)world_choose(&w, i, NULL)), w.now);
    assert_int_equal(world_status(&w, 0).open, 50);
    assert_int_equal(world_status(&w, 1).open, 50);
    world_end(&w);
}

/* ---- call-id --------------------------------------------------------------------------------- */

enum { KEYS = 20000 };

static void homes(struct world *w, int home[KEYS])
{
    struct prng prng;
    prng_seed(&prng, 7);
    for (unsigned i = 0; i < KEYS; i++)
        home[i] = world_choose(w, prng_u64(&prng), NULL);
}

static const struct {
    const char *name;
    unsigned n;
    bool weighted;
} move_cases[] = {
    {"two", 2, false},
    {"three", 3, false},
    {"ten", 10, false},
    {"ten, weighted", 10, true},
    {"two hundred and fifty-six", 256, false},
};

/* A target that leaves moves its own keys only, evenly; they come home with it. */
static void call_id_moves_one_nth(void **state)
{
    (void)state;
    static int before[KEYS], without[KEYS], after[KEYS];
    for (size_t c = 0; c < sizeof move_cases / sizeof move_cases[0]; c++) {
        struct world w;
        unsigned n = move_cases[c].n, moved = 0, weights = 0, got[POOL_TARGETS_MAX] = {0};
        world_one(&w, POOL_CALL_ID, n)->outlier.slow_start = 0;
        for (unsigned m = 0; m < n; m++) {
            w.targets[0][m].weight = (uint16_t)(move_cases[c].weighted ? m + 1 : 1);
            weights += w.targets[0][m].weight;
        }
        print_message("%s\n", move_cases[c].name);
        world_adopt(&w, 1);
        homes(&w, before);
        assert_int_equal(
            pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][1].uri, POOL_MAINT, w.now), 1);
        homes(&w, without);
        for (unsigned i = 0; i < KEYS; i++) {
            assert_int_not_equal(without[i], 1);
            if (before[i] != without[i]) {
                assert_int_equal(before[i], 1);
                got[without[i]]++;
                moved++;
            }
        }
        double share = (double)w.targets[0][1].weight / weights;
        assert_near((double)moved / KEYS, share, 0.012);
        for (unsigned m = 0; m < n && n <= 10; m++) {
            double want = m == 1 ? 0 : moved * w.targets[0][m].weight / (weights * (1 - share));
            assert_near(got[m], want, 0.25 * want + 5);
        }
        assert_int_equal(
            pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][1].uri, POOL_READY, w.now), 1);
        homes(&w, after);
        assert_memory_equal(before, after, sizeof before);
        world_end(&w);
    }
}

/* Another edge, another order in its file, another seed: the same homes. */
static void call_id_is_the_same_everywhere(void **state)
{
    (void)state;
    struct world w, other;
    world_one(&w, POOL_CALL_ID, 5);
    world_adopt(&w, 1);
    world_one(&other, POOL_CALL_ID, 5);
    for (unsigned m = 0; m < 5; m++)
        world_name(&other, 0, m, 5 - m);
    world_adopt(&other, 1);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t key = i * 0x9e3779b97f4a7c15ULL;
        assert_int_equal(world_choose(&w, key, NULL), 4 - world_choose(&other, key, NULL));
    }
    world_end(&w);
    world_end(&other);
}

/* Keys that differ in one bit, or count up, are no worse than random ones. */
static void call_id_spreads_poor_keys(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_CALL_ID, 8);
    world_adopt(&w, 1);
    unsigned counts[8] = {0};
    for (uint64_t key = 0; key < 8000; key++)
        counts[world_choose(&w, key, NULL)]++;
    for (unsigned m = 0; m < 8; m++)
        assert_near(counts[m], 1000, 150);
    world_end(&w);
}

/* ---- retries --------------------------------------------------------------------------------- */

static void no_balance_repeats_a_tried_one(void **state)
{
    (void)state;
    for (uint8_t balance = POOL_ROUND_ROBIN; balance <= POOL_CALL_ID; balance++) {
        struct world w;
        world_one(&w, balance, 130);
        world_adopt(&w, 1);
        for (unsigned round = 0; round < 20; round++) {
            struct pool_tried tried = {0};
            bool seen[130] = {false};
            for (unsigned i = 0; i < 130; i++) {
                int m = world_choose(&w, round, &tried);
                assert_in_range(m, 0, 129);
                assert_false(seen[m]);
                seen[m] = true;
                world_tried(&tried, (uint16_t)m);
            }
            assert_int_equal(world_choose(&w, round, &tried), -1);
        }
        world_end(&w);
    }
}

static void retries_spread_evenly(void **state)
{
    (void)state;
    for (uint8_t balance = POOL_ROUND_ROBIN; balance <= POOL_CALL_ID; balance++) {
        struct world w;
        world_one(&w, balance, 5);
        world_adopt(&w, 1);
        struct pool_tried tried = {0};
        unsigned counts[5] = {0};
        world_tried(&tried, 2);
        for (uint64_t i = 0; i < 4000; i++)
            counts[world_choose(&w, i * 0x9e3779b97f4a7c15ULL, &tried)]++;
        for (unsigned m = 0; m < 5; m++)
            assert_near(counts[m], m == 2 ? 0 : 1000, 120);
        world_end(&w);
    }
}

/* Retries take turns of their targets, whose next ones come later for it: the sums stay even. */
static void retries_keep_round_robin_even(void **state)
{
    (void)state;
    struct world w;
    unsigned counts[16] = {0};
    world_one(&w, POOL_ROUND_ROBIN, 16);
    world_adopt(&w, 1);
    for (unsigned i = 1; i <= 800; i++) {
        struct pool_tried tried = {0};
        world_tried(&tried, (uint16_t)(i * i % 16));
        world_tried(&tried, (uint16_t)(i % 16));
        counts[world_choose(&w, 0, i % 3 == 0 ? &tried : NULL)]++;
        for (unsigned m = 0; m < 16; m++)
            assert_near(counts[m], i / 16.0, 2.01);
    }
    world_end(&w);
}

static void a_retry_never_takes_an_unfit_one(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 3);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    struct pool_tried tried = {0};
    for (unsigned i = 0; i < 2; i++) {
        int m = world_choose(&w, 0, &tried);
        assert_in_range(m, 1, 2);
        world_tried(&tried, (uint16_t)m);
    }
    assert_int_equal(world_choose(&w, 0, &tried), -1);
    world_end(&w);
}

/* ---- zones ----------------------------------------------------------------------------------- */

/* Members 0-3 are ours (zone a), 4-5 of zone b. `out`: bits of members in maintenance or ejected.
 */
static const struct {
    const char *name;
    unsigned ejected, maint;
    unsigned first;       /* members that first choices come from */
    unsigned after_first; /* and retries, once all of those are tried */
} zone_cases[] = {
    {"ours alone while it is whole", 0, 0, 0x0f, 0x30},
    {"one of ours is out", 0x01, 0, 0x0e, 0x30},
    {"half of ours is out", 0x03, 0, 0x0c, 0x30},
    {"most of ours is out: everybody helps", 0x07, 0, 0x38, 0},
    {"all of ours is out", 0x0f, 0, 0x30, 0},
    {"ours is being worked on: what is left of it counts", 0, 0x07, 0x08, 0x30},
    {"ours is wholly in maintenance", 0, 0x0f, 0x30, 0},
    {"the others are out", 0x30, 0, 0x0f, 0},
};

static unsigned seen_choices(struct world *w, const struct pool_tried *tried)
{
    unsigned seen = 0;
    for (uint64_t i = 0; i < 300; i++) {
        int m = world_choose(w, i * 0x9e3779b97f4a7c15ULL, tried);
        if (m >= 0)
            seen |= 1U << m;
    }
    return seen;
}

static void own_zone_first(void **state)
{
    (void)state;
    for (size_t c = 0; c < 3 * sizeof zone_cases / sizeof zone_cases[0]; c++) {
        size_t i = c / 3;
        struct world w;
        world_one(&w, (uint8_t)(c % 3), 6);
        for (unsigned m = 0; m < 6; m++)
            w.targets[0][m].zone = m < 4 ? SLICE("a") : SLICE("b");
        world_adopt(&w, 1);
        print_message("%s\n", zone_cases[i].name);
        for (uint16_t m = 0; m < 6; m++) {
            if (zone_cases[i].ejected >> m & 1)
                world_fail(&w, m, POOL_NO_ANSWER, 5);
            if (zone_cases[i].maint >> m & 1)
                assert_int_equal(
                    pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][m].uri, POOL_MAINT, w.now),
                    1);
        }
        assert_int_equal(seen_choices(&w, NULL), zone_cases[i].first);
        struct pool_tried tried = {{zone_cases[i].first}};
        assert_int_equal(seen_choices(&w, &tried), zone_cases[i].after_first);
        world_end(&w);
    }
}

static void an_edge_without_zone_knows_no_strangers(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 3);
    w.targets[0][1].zone = SLICE("b");
    w.targets[0][2].zone = SLICE("c");
    assert_int_equal(pools_adopt(w.p, w.opts, 1, SLICE_NONE, w.now), 0);
    assert_int_equal(seen_choices(&w, NULL), 7);
    /* With a zone, a target without one is everybody's. */
    assert_int_equal(pools_adopt(w.p, w.opts, 1, SLICE("b"), w.now), 0);
    assert_int_equal(seen_choices(&w, NULL), 3);
    assert_true(world_status(&w, 0).own_zone);
    assert_false(world_status(&w, 2).own_zone);
    world_end(&w);
}

/* ---- panic ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned n, dead; /* members 0 … dead - 1 */
    uint8_t percent;
    bool panics;
} panic_cases[] = {
    {"one of three dead", 3, 1, 20, false},
    {"two of three dead: the live one is preferred", 3, 2, 20, false},
    {"three of three dead", 3, 3, 20, true},
    {"the only one", 1, 1, 20, true},
    {"four of five", 5, 4, 20, false},
    {"nine of ten", 10, 9, 20, true},
    {"eight of ten", 10, 8, 20, false},
    {"never", 3, 3, 0, false},
    {"soon", 4, 3, 50, true},
};

static void panic_below_the_threshold(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof panic_cases / sizeof panic_cases[0]; c++) {
        struct world w;
        unsigned n = panic_cases[c].n, dead = panic_cases[c].dead;
        world_one(&w, POOL_LEAST_BUSY, n)->outlier.panic_percent = panic_cases[c].percent;
        world_adopt(&w, 1);
        for (uint16_t m = 0; m < dead; m++)
            world_fail(&w, m, POOL_NO_ANSWER, 5);
        print_message("%s\n", panic_cases[c].name);
        assert_int_equal(pool_panics(w.p, 0), panic_cases[c].panics);
        unsigned all = (1U << n) - 1, fit = all & ~((1U << dead) - 1);
        assert_int_equal(seen_choices(&w, NULL), panic_cases[c].panics ? all : fit);
        if (panic_cases[c].panics && fit != 0) {
            /* A retry prefers the fit ones, and goes on with the rest. */
            struct pool_tried tried = {{1}};
            assert_int_equal(seen_choices(&w, &tried), fit);
            tried.bits[0] |= fit;
            assert_int_equal(seen_choices(&w, &tried), all & ~(fit | 1));
        }
        world_end(&w);
    }
}

/* ---- slow start ------------------------------------------------------------------------------ */

static void slow_start_grows(void **state)
{
    (void)state;
    for (uint8_t balance = POOL_ROUND_ROBIN; balance <= POOL_CALL_ID; balance++) {
        struct world w;
        world_one(&w, balance, 2);
        world_adopt(&w, 1);
        unsigned counts[POOL_TARGETS_MAX];
        world_fail(&w, 0, POOL_NO_ANSWER, 5);
        world_pass(&w, 5 * NS_S);
        for (unsigned s = 0; s <= 11; s++) {
            double share = s >= 10 ? 1.0 : 0.1 + 0.9 * s / 10;
            world_count(&w, 20000, counts);
            assert_near(counts[0] / 20000.0, share / (1 + share), 0.015);
            world_pass(&w, NS_S);
        }
        world_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_turns),
        cmocka_unit_test(round_robin_is_smooth),
        cmocka_unit_test(round_robin_returns_without_burst),
        cmocka_unit_test(every_balance_heeds_weights),
        cmocka_unit_test(least_busy_shuns_the_busy),
        cmocka_unit_test(least_busy_levels),
        cmocka_unit_test(least_busy_of_two_takes_the_other),
        cmocka_unit_test(call_id_moves_one_nth),
        cmocka_unit_test(call_id_is_the_same_everywhere),
        cmocka_unit_test(call_id_spreads_poor_keys),
        cmocka_unit_test(no_balance_repeats_a_tried_one),
        cmocka_unit_test(retries_spread_evenly),
        cmocka_unit_test(retries_keep_round_robin_even),
        cmocka_unit_test(a_retry_never_takes_an_unfit_one),
        cmocka_unit_test(own_zone_first),
        cmocka_unit_test(an_edge_without_zone_knows_no_strangers),
        cmocka_unit_test(panic_below_the_threshold),
        cmocka_unit_test(slow_start_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
