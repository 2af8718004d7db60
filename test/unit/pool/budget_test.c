/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

static unsigned spend_all(struct world *w, unsigned most)
{
    unsigned n = 0;
    while (n < most && pool_budget_spend(w->p, 0, w->now))
        n++;
    return n;
}

/* A pool of three with two dead: retries are counted. */
static void in_trouble(struct world *w, uint8_t percent)
{
    world_one(w, POOL_LEAST_BUSY, 3)->failover.budget_percent = percent;
    world_adopt(w, 1);
    world_fail(w, 0, POOL_REFUSED, 2);
    world_fail(w, 1, POOL_REFUSED, 2);
}

static const struct {
    const char *name;
    uint8_t percent;
    unsigned requests; /* at once */
    unsigned wait_s;
    unsigned retries;
} bucket_cases[] = {
    {"ten at the start", 20, 0, 0, 10},
    {"one a second", 20, 0, 7, 17},
    {"not more than the store holds", 20, 0, 3600, 30},
    {"a fifth of the requests", 20, 50, 0, 20},
    {"a tenth of the requests", 10, 50, 0, 15},
    {"no more than the store holds", 20, 100000, 0, 30},
    {"no budget: the burst only", 0, 1000, 0, 10},
    {"all of them", 100, 40, 0, 50},
    {"the largest", 255, 100, 0, 265},
};

static void the_bucket(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bucket_cases / sizeof bucket_cases[0]; i++) {
        struct world w;
        in_trouble(&w, bucket_cases[i].percent);
        print_message("%s\n", bucket_cases[i].name);
        for (unsigned n = 0; n < bucket_cases[i].requests; n++)
            pool_budget_earn(w.p, 0, w.now);
        world_pass(&w, bucket_cases[i].wait_s * NS_S);
        /* The wait ends the ejections: back to trouble. */
        world_fail(&w, 0, POOL_REFUSED, 2);
        world_fail(&w, 1, POOL_REFUSED, 2);
        assert_int_equal(spend_all(&w, 1000), bucket_cases[i].retries);
        world_end(&w);
    }
}

static void a_quiet_pool_may_retry_each_second(void **state)
{
    (void)state;
    struct world w;
    in_trouble(&w, 0);
    assert_int_equal(spend_all(&w, 1000), 10);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(spend_all(&w, 1000), 0);
        world_pass(&w, 999 * NS_MS);
        assert_int_equal(spend_all(&w, 1000), 0);
        world_pass(&w, NS_MS);
        assert_int_equal(spend_all(&w, 1000), 1);
    }
    world_end(&w);
}

/* One of `n` targets dies at 500 calls/s, silently or with refusals. Each call is tried at most
 * three times; a silent try takes 2 s. Returns the calls that were lost. */
struct call {
    mono_ns ends_at;
    uint16_t member;
    uint8_t tries;
    struct pool_tried tried;
};

enum { CALLS_PER_S = 500, TRY_MS = 2000, CALLS_MAX = 20 * CALLS_PER_S };

struct outage {
    struct call calls[CALLS_MAX];
    unsigned started, lost, late_start, retries;
};

static bool next_try(struct world *w, struct call *c, uint64_t dead, bool refuses)
{
    int m = world_choose(w, w->now, &c->tried);
    if (m < 0)
        return false;
    bool hit = (dead >> m & 1) != 0;
    c->member = (uint16_t)m;
    c->tries++;
    world_tried(&c->tried, c->member);
    pool_begin(w->p, world_target(w, c->member), w->now);
    c->ends_at = w->now + (hit && !refuses ? TRY_MS : 10) * NS_MS;
    return true;
}

static void play(struct world *w, struct outage *o, uint64_t dead, bool refuses, unsigned ms)
{
    for (unsigned at = 0; at < ms; at += 2) {
        struct call *c = &o->calls[o->started++];
        *c = (struct call){0};
        pool_budget_earn(w->p, 0, w->now);
        if (!next_try(w, c, dead, refuses))
            o->lost++;
        else if ((dead >> c->member & 1) != 0)
            o->late_start = at;
        world_pass(w, 2 * NS_MS);
        for (unsigned i = 0; i < o->started; i++) {
            c = &o->calls[i];
            if (c->ends_at == 0 || c->ends_at > w->now)
                continue;
            c->ends_at = 0;
            bool hit = (dead >> c->member & 1) != 0;
            enum pool_outcome bad = refuses ? POOL_REFUSED : POOL_NO_ANSWER;
            (void)pool_end(w->p, world_target(w, c->member), hit ? bad : POOL_ANSWERED, 0, w->now);
            if (!hit)
                continue;
            bool again = c->tries < 3 && pool_budget_spend(w->p, 0, w->now);
            o->retries += again;
            if (!again || !next_try(w, c, dead, refuses))
                o->lost++;
        }
    }
}

static const struct {
    const char *name;
    uint8_t balance;
    unsigned n;
    bool refuses;
} outage_cases[] = {
    {"one of three goes silent", POOL_ROUND_ROBIN, 3, false},
    {"one of three refuses", POOL_ROUND_ROBIN, 3, true},
    {"one of three, least busy", POOL_LEAST_BUSY, 3, false},
    {"one of three, by call-id", POOL_CALL_ID, 3, false},
    {"one of two goes silent", POOL_ROUND_ROBIN, 2, false},
    {"one of two refuses", POOL_LEAST_BUSY, 2, true},
};

static void the_death_of_one_loses_no_call(void **state)
{
    (void)state;
    static struct outage o;
    for (size_t i = 0; i < sizeof outage_cases / sizeof outage_cases[0]; i++) {
        struct world w;
        memset(&o, 0, sizeof o);
        world_one(&w, outage_cases[i].balance, outage_cases[i].n);
        world_adopt(&w, 1);
        play(&w, &o, 0, false, 2000);
        assert_int_equal(o.retries, 0);
        play(&w, &o, 1, outage_cases[i].refuses, 4500);
        print_message("%s: %u retries, last call to it after %u ms\n", outage_cases[i].name,
                      o.retries, o.late_start);
        assert_int_equal(o.lost, 0);
        assert_true(o.retries > 0);
        assert_true(o.late_start < (outage_cases[i].refuses ? 100 : TRY_MS + 100));
        world_end(&w);
    }
}

/* All are dead: what goes out stays close to what came in. */
static void the_death_of_all_makes_no_storm(void **state)
{
    (void)state;
    static struct outage o;
    struct world w;
    memset(&o, 0, sizeof o);
    world_one(&w, POOL_ROUND_ROBIN, 3);
    world_adopt(&w, 1);
    play(&w, &o, 0, false, 2000);
    play(&w, &o, 7, true, 6000);
    print_message("%u retries for 3000 calls\n", o.retries);
    assert_true(o.retries <= 3000 * 20 / 100 + 10 + 20 + 10);
    world_end(&w);
}

/* All are up, but most of what they are asked fails (something that they share): a brake. */
static void a_failing_pool_brakes_even_when_all_are_fit(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 3)->outlier.eject_after = 0;
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 100; i++)
        world_fail(&w, (uint16_t)(i % 3), POOL_OVERLOADED, 1);
    assert_int_equal(spend_all(&w, 1000), 1000); /* a hundred are not yet a trend */
    for (unsigned i = 0; i < 100; i++)
        world_fail(&w, (uint16_t)(i % 3), POOL_OVERLOADED, 1);
    assert_int_equal(spend_all(&w, 1000), 10);
    for (unsigned i = 0; i < 200; i++)
        (void)world_try(&w, (uint16_t)(i % 3), POOL_ANSWERED);
    assert_int_equal(spend_all(&w, 1000), 1000);
    world_end(&w);
}

/* Calls that say nothing about targets do not change the trend. */
static void verdicts_only(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 3)->outlier.eject_after = 0;
    world_adopt(&w, 1);
    for (unsigned i = 0; i < 2000; i++)
        world_fail(&w, 0, i % 2 == 0 ? POOL_CANCELLED : POOL_LOST, 1);
    assert_int_equal(spend_all(&w, 1000), 1000);
    world_end(&w);
}

/* However often it is asked, no part of a second is lost. */
static void small_steps_add_up(void **state)
{
    (void)state;
    struct world w;
    unsigned got = 0;
    in_trouble(&w, 0);
    assert_int_equal(spend_all(&w, 1000), 10);
    for (unsigned i = 0; i < 10000; i++) {
        world_pass(&w, 400 * NS_US);
        pool_budget_earn(w.p, 0, w.now);
        got += pool_budget_spend(w.p, 0, w.now);
    }
    assert_int_equal(got, 4);
    world_end(&w);
}

static void drained_targets_do_not_count(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 4);
    world_adopt(&w, 1);
    for (unsigned m = 0; m < 3; m++)
        assert_int_equal(pool_set_admin(w.p, SLICE("pool-0"), w.targets[0][m].uri,
                                        m == 0 ? POOL_DRAIN : POOL_MAINT, w.now),
                         1);
    assert_int_equal(spend_all(&w, 1000), 1000);
    world_fail(&w, 3, POOL_REFUSED, 2);
    assert_int_equal(spend_all(&w, 1000), 10);
    world_end(&w);
}

static void no_such_pool(void **state)
{
    (void)state;
    struct world w;
    world_one(&w, POOL_ROUND_ROBIN, 1);
    world_adopt(&w, 1);
    pool_budget_earn(w.p, 9, w.now);
    assert_false(pool_budget_spend(w.p, 9, w.now));
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bucket),
        cmocka_unit_test(a_quiet_pool_may_retry_each_second),
        cmocka_unit_test(the_death_of_one_loses_no_call),
        cmocka_unit_test(the_death_of_all_makes_no_storm),
        cmocka_unit_test(a_failing_pool_brakes_even_when_all_are_fit),
        cmocka_unit_test(verdicts_only),
        cmocka_unit_test(small_steps_add_up),
        cmocka_unit_test(drained_targets_do_not_count),
        cmocka_unit_test(no_such_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
