/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: pool.c */
#include "world.h"

/* Inside, to make the slab fail on purpose. */
#include "pool/pool_int.h"

static void the_defaults(void **state)
{
    (void)state;
    struct pool_opts o;
    memset(&o, 0xff, sizeof o);
    pool_opts_default(&o);
    assert_int_equal(o.balance, POOL_LEAST_BUSY);
    assert_true(o.health.on);
    assert_int_equal(o.health.every, 2 * NS_S);
    assert_int_equal(o.health.timeout, NS_S);
    assert_int_equal(o.failover.on_count, 3);
    assert_int_equal(o.failover.on[0], 408);
    assert_int_equal(o.failover.on[1], 503);
    assert_int_equal(o.failover.on[2], 430);
    assert_int_equal(o.failover.within, 8 * NS_S);
    assert_int_equal(o.failover.tries, 3);
    assert_false(o.failover.retryable);
    assert_null(o.targets);
    /* A try that is never answered must leave time for another one within the deadline. */
    assert_true(o.failover.try_timeout * o.failover.tries <= o.failover.within);
    /* A single live target of five is no panic. */
    assert_true(100 >= 5 * o.outlier.panic_percent);
}

/* ---- boot ------------------------------------------------------------------------------------ */

static const struct {
    uint16_t pools;
    uint32_t targets;
} boot_cases[] = {{1, 1}, {1, 0}, {3, 7}, {POOLS_MAX, 4096}, {0, 0}};

static void pools_memory_is_enough(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof boot_cases / sizeof boot_cases[0]; i++) {
        size_t need = pools_memory(boot_cases[i].pools, boot_cases[i].targets);
        for (size_t off = 0; off < 70; off += 23) { /* whatever stands before it in the arena */
            struct arena mem = test_arena(need + off);
            char *base = mem.p;
            mem.used = off;
            assert_non_null(pools_new(&mem, boot_cases[i].pools, boot_cases[i].targets, 1));
            mem.p = base;
            test_arena_free(&mem);
        }
        struct arena small = test_arena(need / 2);
        assert_null(pools_new(&small, boot_cases[i].pools, boot_cases[i].targets, 1));
        test_arena_free(&small);
    }
}

static void before_the_first_adoption(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    struct pool_change change;
    uint16_t pool;
    world_start(&w, 4);
    assert_int_equal(pools_count(w.p), 0);
    assert_null(pools_opts(w.p, 0));
    assert_true(handle_is_none(pool_member(w.p, 0, 0)));
    assert_int_equal(pool_choose(w.p, 0, 1, NULL, w.now, &pick), -1);
    assert_false(pool_probe_next(w.p, w.now, &pick, &pool));
    assert_false(pool_next_change(w.p, &change));
    assert_int_equal(pool_set_admin(w.p, SLICE("x"), SLICE("*"), POOL_MAINT, w.now), -1);
    world_adopt(&w, 0);
    assert_int_equal(pools_count(w.p), 0);
    world_end(&w);
}

static const struct {
    const char *name;
    unsigned pools;
    unsigned n[WORLD_POOLS];
    int result;
} room_cases[] = {
    {"all that fit", 3, {4, 3, 3}, 0},
    {"one too many", 3, {4, 4, 3}, -1},
    {"empty pools", 4, {0, 0, 10, 0}, 0},
    {"one pool too many", 5, {1, 1, 1, 1}, -1},
};

static void adoption_has_its_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof room_cases / sizeof room_cases[0]; i++) {
        struct world w;
        world_start(&w, 10);
        for (unsigned k = 0; k < WORLD_POOLS; k++)
            world_pool(&w, k, POOL_ROUND_ROBIN, room_cases[i].n[k]);
        print_message("%s\n", room_cases[i].name);
        assert_int_equal(pools_adopt(w.p, w.opts, (uint16_t)room_cases[i].pools, SLICE_NONE, w.now),
                         room_cases[i].result);
        assert_int_equal(pools_count(w.p), room_cases[i].result == 0 ? room_cases[i].pools : 0);
        world_end(&w);
    }
}

/* ---- reload ---------------------------------------------------------------------------------- */

/* Each reload hands in memory of its own, and the one before is gone after it. */
struct house {
    struct pool_opts opts[WORLD_POOLS];
    struct pool_target_opts targets[WORLD_POOLS][8];
    char uris[WORLD_POOLS][8][40];
    char names[WORLD_POOLS][16];
};
struct reload {
    struct world w;
    struct house house[2];
    unsigned next;
};

static struct pool_opts *next_opts(struct reload *r, unsigned pool)
{
    return &r->house[r->next].opts[pool];
}

/* The targets of pool `pool` after the next reload, by number; all else as the world has it. */
static void retarget(struct reload *r, unsigned pool, const char *numbers)
{
    struct house *h = &r->house[r->next];
    struct pool_opts *o = &h->opts[pool];
    *o = r->w.opts[pool];
    int len = snprintf(h->names[pool], sizeof h->names[pool], "pool-%u", pool);
    o->name = slice_of(h->names[pool], (size_t)len);
    o->targets = h->targets[pool];
    o->target_count = (uint16_t)strlen(numbers);
    for (unsigned m = 0; numbers[m] != '\0'; m++) {
        int n = snprintf(h->uris[pool][m], sizeof h->uris[pool][m], "udp://10.0.%u.%c:5060", pool,
                         numbers[m]);
        h->targets[pool][m] = (struct pool_target_opts){.weight = 1};
        h->targets[pool][m].uri = slice_of(h->uris[pool][m], (size_t)n);
        h->targets[pool][m].addr = (struct addr){
            .ip = {10, 0, (uint8_t)pool, (uint8_t)(numbers[m] - '0')}, .port = 5060, .family = 4};
    }
}

static void readopt(struct reload *r, uint16_t count)
{
    struct house *h = &r->house[r->next];
    assert_int_equal(pools_adopt(r->w.p, h->opts, count, SLICE("a"), r->w.now), 0);
    r->next ^= 1;
    memset(&r->house[r->next], 0xee, sizeof r->house[r->next]); /* whoever looks there is seen */
    memset(r->w.targets, 0xee, sizeof r->w.targets);
    memset(r->w.uris, 0xee, sizeof r->w.uris);
}

static void a_reload_keeps_state_by_name(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    world_one(w, POOL_ROUND_ROBIN, 4); /* 1 2 3 4 */
    w->opts[0].health.on = true;
    world_adopt(w, 1);
    world_run(w, 10 * NS_S, 0x7);        /* 4 is down */
    world_fail(w, 0, POOL_TIMED_OUT, 5); /* 1 is ejected */
    handle one = world_target(w, 0), two = world_target(w, 1), four = world_target(w, 3);
    for (unsigned i = 0; i < 3; i++)
        pool_begin(w->p, two, w->now);
    assert_int_equal(
        pool_set_admin(w->p, SLICE("pool-0"), w->targets[0][1].uri, POOL_DRAIN, w->now), 1);
    retarget(&r, 0, "4215");
    readopt(&r, 1);
    assert_true(handle_equal(world_target(w, 0), four));
    assert_true(handle_equal(world_target(w, 1), two));
    assert_true(handle_equal(world_target(w, 2), one));
    assert_false(world_status(w, 0).up);
    assert_int_equal(world_status(w, 1).open, 3);
    assert_int_equal(world_status(w, 1).admin, POOL_DRAIN);
    assert_true(world_status(w, 2).ejected);
    assert_true(world_fit(w, 3));
    assert_int_equal(world_choose(w, 0, NULL), 3);
    assert_false(pool_end(w->p, two, POOL_ANSWERED, 0, w->now));
    assert_int_equal(world_status(w, 1).open, 2);
    world_end(w);
}

/* A name that could not be resolved: nothing goes there, not even in a panic, until a reload finds
 * an address; then it begins slowly. */
static void a_target_without_an_address(void **state)
{
    (void)state;
    for (unsigned probed = 0; probed < 2; probed++) {
        static struct reload r;
        struct world *w = &r.w;
        world_one(w, POOL_ROUND_ROBIN, 2);
        w->opts[0].health.on = probed == 1;
        w->opts[0].outlier.panic_percent = 100;
        w->targets[0][1].addr = (struct addr){0};
        world_adopt(w, 1);
        unsigned counts[POOL_TARGETS_MAX];
        world_count(w, 40, counts);
        assert_int_equal(counts[1], 0);
        assert_false(world_status(w, 1).up);
        assert_false(world_fit(w, 1));
        world_run(w, 10 * NS_S, 0x3);
        world_fail(w, 0, POOL_NO_ANSWER, 5);
        assert_int_equal(world_choose(w, 0, NULL), 0);
        assert_int_equal(pool_set_admin(w->p, SLICE("pool-0"), SLICE("*"), POOL_MAINT, w->now), 2);
        assert_int_equal(pool_set_admin(w->p, SLICE("pool-0"), SLICE("*"), POOL_READY, w->now), 2);
        world_run(w, 10 * NS_S, 0x3);
        char why[400];
        struct text t = text_into(why, sizeof why);
        pool_explain(w->p, world_target(w, 1), w->now, &t);
        assert_true(slice_starts_with(text_slice(&t), SLICE("down: its name could not be")));
        handle before = world_target(w, 1);
        retarget(&r, 0, "12");
        readopt(&r, 1);
        assert_true(handle_equal(world_target(w, 1), before));
        assert_true(world_status(w, 1).up);
        assert_true(world_fit(w, 1));
        world_count(w, 100, counts);
        assert_true(counts[1] > 0 && counts[1] < counts[0]);
        world_end(w);
        memset(&r, 0, sizeof r);
    }
}

static void the_same_uri_in_another_pool_is_another_target(void **state)
{
    (void)state;
    struct world w;
    world_start(&w, 8);
    world_pool(&w, 0, POOL_ROUND_ROBIN, 2);
    world_pool(&w, 1, POOL_ROUND_ROBIN, 2);
    w.targets[1][0].uri = w.targets[0][0].uri;
    world_adopt(&w, 2);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    handle first = pool_member(w.p, 0, 0), second = pool_member(w.p, 1, 0);
    assert_false(handle_equal(first, second));
    assert_true(pool_is_fit(w.p, second, w.now));
    /* Pools change places: state follows the names. */
    struct pool_opts swapped[2] = {w.opts[1], w.opts[0]};
    assert_int_equal(pools_adopt(w.p, swapped, 2, SLICE_NONE, w.now), 0);
    assert_true(handle_equal(pool_member(w.p, 1, 0), first));
    assert_true(handle_equal(pool_member(w.p, 0, 0), second));
    assert_false(pool_is_fit(w.p, first, w.now));
    world_end(&w);
}

/* Each place keeps a target of its own, wherever the places move. */
static void a_uri_that_stands_twice(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    world_one(w, POOL_CALL_ID, 3);
    world_name(w, 0, 2, 1); /* 1 2 1 */
    world_adopt(w, 1);
    handle first = world_target(w, 0), two = world_target(w, 1), second = world_target(w, 2);
    assert_false(handle_equal(first, second));
    retarget(&r, 0, "211");
    readopt(&r, 1);
    assert_true(handle_equal(world_target(w, 0), two));
    handle a = world_target(w, 1), b = world_target(w, 2);
    assert_true(handle_equal(a, first) ? handle_equal(b, second)
                                       : handle_equal(a, second) && handle_equal(b, first));
    world_end(w);
}

static void removed_handles_are_stale(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    struct pool_status s;
    mono_ns at;
    world_one(w, POOL_LEAST_BUSY, 3);
    w->opts[0].health.on = true;
    world_adopt(w, 1);
    handle two = world_target(w, 1);
    pool_begin(w->p, two, w->now);
    pool_probe_soon(w->p, two, w->now);
    world_pass(w, NS_MS);
    struct pool_pick pick;
    uint16_t pool;
    while (pool_probe_next(w->p, w->now, &pick, &pool)) {
    }
    pool_heard(w->p, two, w->now);
    retarget(&r, 0, "13");
    readopt(&r, 1);
    assert_false(pool_end(w->p, two, POOL_REFUSED, 0, w->now));
    assert_false(pool_status(w->p, two, w->now, &s));
    assert_false(pool_last_heard(w->p, two, &at));
    assert_false(pool_is_fit(w->p, two, w->now));
    pool_begin(w->p, two, w->now);
    pool_heard(w->p, two, w->now);
    pool_probe_soon(w->p, two, w->now);
    pool_probe_result(w->p, two, true, w->now);
    /* It comes back as somebody else. */
    retarget(&r, 0, "123");
    readopt(&r, 1);
    assert_false(handle_equal(world_target(w, 1), two));
    assert_int_equal(world_status(w, 1).open, 0);
    assert_false(pool_end(w->p, two, POOL_ANSWERED, 0, w->now));
    assert_int_equal(world_status(w, 1).answered, 0);
    world_run(w, 30 * NS_S, 7);
    assert_true(world_fit(w, 1));
    world_end(w);
}

static void new_ones_start_slowly_but_not_at_boot(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    unsigned counts[POOL_TARGETS_MAX];
    world_one(w, POOL_ROUND_ROBIN, 2);
    world_adopt(w, 1);
    world_count(w, 100, counts);
    assert_int_equal(counts[0], 50);
    retarget(&r, 0, "123");
    readopt(&r, 1);
    world_count(w, 2100, counts);
    assert_near(counts[2], 100, 3);
    world_pass(w, 10 * NS_S);
    world_count(w, 2100, counts);
    assert_near(counts[2], 700, 3);
    world_end(w);
}

static void what_is_switched_off_is_undone(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    world_one(w, POOL_ROUND_ROBIN, 3);
    w->opts[0].health.on = true;
    world_adopt(w, 1);
    world_run(w, 10 * NS_S, 6);
    world_fail(w, 1, POOL_REFUSED, 2);
    assert_false(world_fit(w, 0));
    assert_false(world_fit(w, 1));
    retarget(&r, 0, "123");
    next_opts(&r, 0)->health.on = false;
    next_opts(&r, 0)->outlier.eject_after = 0;
    readopt(&r, 1);
    assert_true(world_fit(w, 0));
    assert_true(world_fit(w, 1));
    assert_true(pool_deadline(w->p) == MONO_NONE);
    /* And on again: probes go out within one `every`. */
    retarget(&r, 0, "123");
    readopt(&r, 1);
    assert_in_range(world_run(w, 2 * NS_S + 10 * NS_MS, 7), 3, 4);
    world_end(w);
}

static void a_shorter_interval_holds_at_once(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    world_one(w, POOL_ROUND_ROBIN, 2);
    w->opts[0].health.on = true;
    w->opts[0].health.every = 3600 * NS_S;
    world_adopt(w, 1);
    retarget(&r, 0, "12");
    next_opts(&r, 0)->health.every = NS_S;
    readopt(&r, 1);
    assert_near(world_run(w, 10 * NS_S, 3), 20, 2);
    world_end(w);
}

/* Too much, or no slab left in the middle of it: nothing has changed, and nothing leaks. */
static void a_refused_reload_changes_nothing(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    world_start(w, 8);
    world_pool(w, 0, POOL_ROUND_ROBIN, 4);
    world_pool(w, 1, POOL_ROUND_ROBIN, 2);
    world_adopt(w, 2);
    handle one = world_target(w, 0);
    pool_begin(w->p, one, w->now);
    world_fail(w, 1, POOL_NO_ANSWER, 5);
    retarget(&r, 0, "15678");
    retarget(&r, 1, "34");
    for (uint64_t takes = 0; takes < 6; takes++) {
        struct fault fault = {.countdown = takes, .forever = true};
        w->p->targets.fault = &fault;
        assert_int_equal(pools_adopt(w->p, next_opts(&r, 0), 2, SLICE_NONE, w->now), -1);
        w->p->targets.fault = NULL;
        assert_int_equal(w->p->targets.live, 6);
        assert_int_equal(pools_count(w->p), 2);
        assert_ptr_equal(pools_opts(w->p, 0), &w->opts[0]);
        assert_true(handle_equal(world_target(w, 0), one));
        assert_int_equal(world_status(w, 0).open, 1);
        assert_false(world_fit(w, 1));
        assert_true(world_fit(w, 2));
        assert_in_range(world_choose(w, 0, NULL), 0, 3);
    }
    readopt(&r, 2);
    assert_int_equal(w->p->targets.live, 7);
    assert_true(handle_equal(world_target(w, 0), one));
    world_end(w);
}

/* A full house may change every target at once, as often as it likes. */
static void a_full_house_may_change_all(void **state)
{
    (void)state;
    static struct reload r;
    struct world *w = &r.w;
    world_start(w, 4);
    world_pool(w, 0, POOL_ROUND_ROBIN, 4);
    world_adopt(w, 1);
    for (unsigned i = 0; i < 20; i++) {
        retarget(&r, 0, i % 2 == 0 ? "5678" : "1234");
        readopt(&r, 1);
        assert_int_equal(w->p->targets.live, 4);
        for (uint16_t m = 0; m < 4; m++)
            pool_begin(w->p, world_target(w, m), w->now);
    }
    world_end(w);
}

/* A panic, and what was not yet told, outlive a reload. */
static void notices_outlive_a_reload(void **state)
{
    (void)state;
    struct world w;
    struct pool_change c;
    world_one(&w, POOL_ROUND_ROBIN, 2);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_NO_ANSWER, 5);
    world_fail(&w, 1, POOL_NO_ANSWER, 5);
    world_adopt(&w, 1);
    assert_true(pool_next_change(w.p, &c));
    assert_int_equal(c.what, POOL_EJECTED);
    world_adopt(&w, 1);
    assert_true(pool_next_change(w.p, &c));
    assert_int_equal(c.what, POOL_EJECTED);
    assert_true(handle_equal(c.target, world_target(&w, 1)));
    world_adopt(&w, 1);
    assert_true(pool_next_change(w.p, &c));
    assert_int_equal(c.what, POOL_PANICS);
    assert_false(pool_next_change(w.p, &c));
    world_adopt(&w, 1);
    assert_true(pool_panics(w.p, 0));
    assert_false(pool_next_change(w.p, &c));
    world_end(&w);
}

/* ---- admin ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *pool, *uri;
    enum pool_admin to;
    int result;
    const char *states; /* of pool 0's three targets, after it; the cases build on each other */
} admin_cases[] = {
    {"one", "pool-0", "udp://10.0.0.2:5060", POOL_MAINT, 1, "rmr"},
    {"again", "pool-0", "udp://10.0.0.2:5060", POOL_MAINT, 0, "rmr"},
    {"another state", "pool-0", "udp://10.0.0.2:5060", POOL_DRAIN, 1, "rdr"},
    {"all", "pool-0", "*", POOL_DRAIN, 2, "ddd"},
    {"no such pool", "pool", "*", POOL_READY, -1, "ddd"},
    {"no such target", "pool-0", "udp://10.0.0.2", POOL_READY, -1, "ddd"},
    {"of another pool", "pool-0", "udp://10.0.1.1:5060", POOL_READY, -1, "ddd"},
    {"an empty pool", "pool-2", "*", POOL_READY, 0, "ddd"},
    {"ready again", "pool-0", "*", POOL_READY, 3, "rrr"},
};

static void admin_states(void **state)
{
    (void)state;
    struct world w;
    world_start(&w, 16);
    world_pool(&w, 0, POOL_ROUND_ROBIN, 3);
    world_pool(&w, 1, POOL_ROUND_ROBIN, 3);
    world_pool(&w, 2, POOL_ROUND_ROBIN, 0);
    world_adopt(&w, 3);
    for (size_t i = 0; i < sizeof admin_cases / sizeof admin_cases[0]; i++) {
        print_message("%s\n", admin_cases[i].name);
        assert_int_equal(pool_set_admin(w.p, slice_cstr(admin_cases[i].pool),
                                        slice_cstr(admin_cases[i].uri), admin_cases[i].to, w.now),
                         admin_cases[i].result);
        char got[4] = "";
        for (uint16_t m = 0; m < 3; m++) {
            got[m] = "rdm"[world_status(&w, m).admin];
            assert_int_equal(world_fit(&w, m), got[m] == 'r');
        }
        assert_string_equal(got, admin_cases[i].states);
        int m = world_choose(&w, 0, NULL);
        assert_true(m < 0 ? strchr(got, 'r') == NULL : got[m] == 'r');
    }
    world_end(&w);
}

static void maintenance_clears_the_record(void **state)
{
    (void)state;
    struct world w;
    unsigned counts[POOL_TARGETS_MAX];
    world_one(&w, POOL_ROUND_ROBIN, 2);
    world_adopt(&w, 1);
    world_fail(&w, 0, POOL_REFUSED, 2);
    assert_false(world_fit(&w, 0));
    assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][0].uri, POOL_MAINT, w.now),
                     1);
    assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][0].uri, POOL_READY, w.now),
                     1);
    assert_true(world_fit(&w, 0));
    world_count(&w, 110, counts);
    assert_near(counts[0], 10, 1);
    world_end(&w);
}

static void a_pick_tells_where(void **state)
{
    (void)state;
    struct world w;
    struct pool_pick pick;
    world_one(&w, POOL_ROUND_ROBIN, 1);
    w.targets[0][0].transport = TP_TLS;
    w.targets[0][0].has_tcp = true;
    world_adopt(&w, 1);
    assert_int_equal(pool_choose(w.p, 0, 1, NULL, w.now, &pick), 0);
    assert_int_equal(pick.transport, TP_TLS);
    assert_true(pick.has_tcp);
    assert_true(addr_equal(&pick.addr, &w.targets[0][0].addr));
    assert_int_equal(pool_choose(w.p, 1, 1, NULL, w.now, &pick), -1);
    assert_true(handle_is_none(pool_member(w.p, 0, 1)));
    assert_true(handle_is_none(pool_member(w.p, 1, 0)));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults),
        cmocka_unit_test(pools_memory_is_enough),
        cmocka_unit_test(before_the_first_adoption),
        cmocka_unit_test(adoption_has_its_bounds),
        cmocka_unit_test(a_reload_keeps_state_by_name),
        cmocka_unit_test(a_target_without_an_address),
        cmocka_unit_test(the_same_uri_in_another_pool_is_another_target),
        cmocka_unit_test(a_uri_that_stands_twice),
        cmocka_unit_test(removed_handles_are_stale),
        cmocka_unit_test(new_ones_start_slowly_but_not_at_boot),
        cmocka_unit_test(what_is_switched_off_is_undone),
        cmocka_unit_test(a_shorter_interval_holds_at_once),
        cmocka_unit_test(a_refused_reload_changes_nothing),
        cmocka_unit_test(a_full_house_may_change_all),
        cmocka_unit_test(notices_outlive_a_reload),
        cmocka_unit_test(admin_states),
        cmocka_unit_test(maintenance_clears_the_record),
        cmocka_unit_test(a_pick_tells_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
