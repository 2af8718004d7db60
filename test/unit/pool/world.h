/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the room share: pools of numbered targets on a clock of their own. Targets are
 * named after their place: pool 1's third is "udp://10.0.1.3:5060" with member index 2. */
#ifndef WEIR_TEST_POOL_WORLD_H
#define WEIR_TEST_POOL_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "pool/pool.h"
#include "support/support.h"

enum { WORLD_POOLS = 4 };

struct world {
    struct arena mem;
    struct pools *p;
    mono_ns now;
    struct pool_opts opts[WORLD_POOLS];
    struct pool_target_opts targets[WORLD_POOLS][POOL_TARGETS_MAX];
    char uris[WORLD_POOLS][POOL_TARGETS_MAX][40];
    char names[WORLD_POOLS][16];
};

static inline void world_start(struct world *w, uint32_t targets_max)
{
    memset(w, 0, sizeof *w);
    w->mem = test_arena(pools_memory(WORLD_POOLS, targets_max));
    w->p = pools_new(&w->mem, WORLD_POOLS, targets_max, 42);
    w->now = 1000 * NS_S;
    assert_non_null(w->p);
}

static inline void world_end(struct world *w)
{
    test_arena_free(&w->mem);
}

static inline void world_name(struct world *w, unsigned pool, unsigned m, unsigned number)
{
    char *uri = w->uris[pool][m];
    int n = snprintf(uri, sizeof w->uris[pool][m], "udp://10.0.%u.%u:5060", pool, number);
    w->targets[pool][m].uri = slice_of(uri, (size_t)n);
    w->targets[pool][m].addr =
        (struct addr){.ip = {10, 0, (uint8_t)pool, (uint8_t)number}, .port = 5060, .family = 4};
}

/* Pool number `pool` with `n` targets of weight 1; no health checks unless the test wants them. */
static inline struct pool_opts *world_pool(struct world *w, unsigned pool, uint8_t balance,
                                           unsigned n)
{
    struct pool_opts *o = &w->opts[pool];
    pool_opts_default(o);
    int len = snprintf(w->names[pool], sizeof w->names[pool], "pool-%u", pool);
    o->name = slice_of(w->names[pool], (size_t)len);
    o->balance = balance;
    o->health.on = false;
    o->targets = w->targets[pool];
    o->target_count = (uint16_t)n;
    for (unsigned m = 0; m < n; m++) {
        w->targets[pool][m] = (struct pool_target_opts){.weight = 1, .transport = TP_UDP};
        world_name(w, pool, m, m + 1);
    }
    return o;
}

static inline void world_adopt(struct world *w, uint16_t count)
{
    assert_int_equal(pools_adopt(w->p, w->opts, count, SLICE("a"), w->now), 0);
}

/* A started world with one pool. */
static inline struct pool_opts *world_one(struct world *w, uint8_t balance, unsigned n)
{
    world_start(w, 512);
    return world_pool(w, 0, balance, n);
}

static inline handle world_target(const struct world *w, uint16_t m)
{
    return pool_member(w->p, 0, m);
}

static inline void world_pass(struct world *w, dur_ns span)
{
    w->now += span;
}

static inline bool world_fit(const struct world *w, uint16_t m)
{
    return pool_is_fit(w->p, world_target(w, m), w->now);
}

static inline struct pool_status world_status(const struct world *w, uint16_t m)
{
    struct pool_status s;
    assert_true(pool_status(w->p, world_target(w, m), w->now, &s));
    return s;
}

/* A call at member m that ends like this. Returns whether it was ejected by it. */
static inline bool world_try(struct world *w, uint16_t m, enum pool_outcome o)
{
    pool_begin(w->p, world_target(w, m), w->now);
    return pool_end(w->p, world_target(w, m), o, 0, w->now);
}

static inline void world_fail(struct world *w, uint16_t m, enum pool_outcome o, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        (void)world_try(w, m, o);
}

/* The member chosen in pool 0, or -1. */
static inline int world_choose(struct world *w, uint64_t key, const struct pool_tried *tried)
{
    struct pool_pick pick;
    if (pool_choose(w->p, 0, key, tried, w->now, &pick) < 0)
        return -1;
    assert_true(handle_equal(pick.target, world_target(w, pick.member)));
    return pick.member;
}

static inline void world_tried(struct pool_tried *tried, uint16_t m)
{
    tried->bits[m / 64] |= 1ULL << (m % 64);
}

/* How often each member is chosen in `n` choices. Keys are spread. */
static inline void world_count(struct world *w, unsigned n, unsigned counts[POOL_TARGETS_MAX])
{
    memset(counts, 0, POOL_TARGETS_MAX * sizeof counts[0]);
    for (unsigned i = 0; i < n; i++) {
        int m = world_choose(w, i * 0x9e3779b97f4a7c15ULL, NULL);
        assert_true(m >= 0);
        counts[m]++;
    }
}

/* Probes that are due, answered as `alive` says by member (bit); others get no answer. Returns the
 * number of probes sent. */
static inline unsigned world_probe(struct world *w, uint64_t alive)
{
    struct pool_pick pick;
    uint16_t pool;
    unsigned sent = 0;
    while (pool_probe_next(w->p, w->now, &pick, &pool)) {
        sent++;
        if (pool == 0 && (alive >> pick.member & 1) != 0)
            pool_probe_result(w->p, pick.target, true, w->now);
        assert_true(sent < 100000);
    }
    return sent;
}

/* Lets time pass, probing every 10 ms. */
static inline unsigned world_run(struct world *w, dur_ns span, uint64_t alive)
{
    unsigned sent = 0;
    for (mono_ns end = w->now + span; w->now < end;) {
        world_pass(w, 10 * NS_MS);
        sent += world_probe(w, alive);
    }
    return sent;
}

static inline void assert_near(double got, double want, double off_max)
{
    if (got < want - off_max || got > want + off_max) {
        print_message("got %f, want %f within %f\n", got, want, off_max);
        fail();
    }
}

#endif
