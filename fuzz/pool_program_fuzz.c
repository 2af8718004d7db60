/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a program for the pools: adoptions, choices, outcomes, probes, admin states, failing
 * slabs and a clock that jumps. After every step the caches must say what the targets' states say,
 * and no choice may be one that was tried, that takes nothing, or that asked for quiet. */
#include "pool/pool_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { POOLS = 3, TARGETS_MAX = 40, URIS = 12, STEPS_MAX = 2000, OPEN_MAX = 64 };

struct config {
    struct pool_opts opts[POOLS];
    struct pool_target_opts targets[POOLS][URIS];
    uint16_t count;
};

struct play {
    const uint8_t *data;
    size_t size, at;
    struct pools *p;
    mono_ns now;
    struct config config[2];
    unsigned current;
    handle open[OPEN_MAX]; /* tries under way; none in a free place */
    struct fault fault;
};

static char memory[1 << 20];
static char uris[URIS][4];
static const struct slice pool_names[POOLS] = {{"x", 1}, {"y", 1}, {"z", 1}};
static const struct slice zones[3] = {{NULL, 0}, {"a", 1}, {"b", 1}};

static uint8_t byte(struct play *g)
{
    return g->at < g->size ? g->data[g->at++] : 0;
}

static dur_ns span(struct play *g)
{
    static const dur_ns spans[8] = {
        0, 1, NS_MS, 300 * NS_MS, 2 * NS_S, 11 * NS_S, 3600 * NS_S, 1000000 * NS_S,
    };
    return spans[byte(g) % 8] * (1 + byte(g) % 4);
}

/* ---- what must hold -------------------------------------------------------------------------- */

static void check_target(const struct play *g, const struct pool *pool, const struct target *t)
{
    struct pool_status s;
    handle h = slab_handle(&g->p->targets, t);
    MUST(pool_status(g->p, h, g->now, &s));
    unsigned open = 0;
    for (unsigned i = 0; i < OPEN_MAX; i++)
        open += handle_equal(g->open[i], h);
    MUST(s.open == open);
    MUST(s.answered + s.failed <= s.begun && s.open <= s.begun);
    MUST(s.fit == pool_is_fit(g->p, h, g->now));
    MUST(!s.fit || (s.up && !s.ejected && s.admin == POOL_READY));
    MUST(pool->opts->health.on || s.up);
    MUST(pool->opts->outlier.eject_after > 0 || !t->ejected);
    char said[600];
    struct text text = text_into(said, sizeof said);
    pool_explain(g->p, h, g->now, &text);
    MUST(text_fits(&text) && text.n > 0);
}

static bool is_choice(const struct play *g, const struct target *t, bool panics)
{
    bool usable = t->admin == POOL_READY && t->advice_until <= g->now;
    return usable && (panics || pool__is_fit(pool__of(g->p, t), t, g->now));
}

/* After a settle at `now`. */
static void check_order(const struct play *g, const struct pool *pool)
{
    bool seen[POOL_TARGETS_MAX] = {false};
    unsigned usable = 0, fit = 0;
    uint32_t sum = 0;
    for (uint16_t i = 0; i < pool->count; i++) {
        usable += is_choice(g, pool->members[i], true);
        fit += is_choice(g, pool->members[i], false);
    }
    MUST(pool->usable == usable && pool->fit == fit);
    MUST(pool->first <= usable && (pool->first > 0) == (fit > 0 || pool->panics));
    MUST(pool->panics ? pool->first == usable : pool->first <= fit);
    for (uint16_t i = 0; i < usable; i++) {
        MUST(pool->order[i] < pool->count && !seen[pool->order[i]]);
        seen[pool->order[i]] = true;
        const struct target *t = pool->members[pool->order[i]];
        MUST(is_choice(g, t, pool->panics || i >= fit));
        if (i >= pool->first)
            continue;
        sum += t->share;
        if (pool->opts->balance != POOL_ROUND_ROBIN) {
            MUST(pool->sums[i] == sum);
            continue;
        }
        const struct target *parent = pool->members[pool->order[i == 0 ? 0 : (i - 1) / 2]];
        MUST(parent->rr_due <= t->rr_due);
        MUST(t->rr_due >= pool->rr_clock);
    }
}

static void check_all(struct play *g)
{
    for (uint16_t i = 0; i < pools_count(g->p); i++) {
        struct pool *pool = pool__at(g->p, i);
        for (uint16_t m = 0; m < pool->count; m++)
            check_target(g, pool, pool->members[m]);
        MUST(pool->success <= POOL_BUDGET_ONE);
        MUST(pool->tokens_milli <= 1000ULL * (10 + 255));
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void fill_pool(struct play *g, struct config *c, unsigned i)
{
    struct pool_opts *o = &c->opts[i];
    uint8_t flags = byte(g);
    pool_opts_default(o);
    o->name = pool_names[(i + (flags >> 6)) % POOLS];
    o->balance = flags % 3;
    o->health.on = (flags & 4) != 0;
    o->outlier.panic_percent = (flags & 8) != 0 ? 20 : 60;
    o->outlier.eject_after = (flags & 16) != 0 ? 0 : 3;
    o->outlier.slow_start = (flags & 32) != 0 ? 0 : 10 * NS_S;
    o->targets = c->targets[i];
    o->target_count = byte(g) % (URIS + 1);
    uint8_t first = byte(g);
    for (unsigned m = 0; m < o->target_count; m++) {
        char *uri = uris[(first + m) % URIS];
        uint8_t kind = byte(g);
        c->targets[i][m] = (struct pool_target_opts){
            .uri = slice_of(uri, 3),
            .weight = (uint16_t)(1 + (kind & 15) * 66),
            .zone = zones[(kind >> 4) % 3],
            .addr = {.family = 4, .port = (uint16_t)(1 + m)},
        };
    }
}

static void adopt(struct play *g)
{
    struct config *next = &g->config[g->current ^ 1];
    struct pools *p = g->p;
    uint8_t flags = byte(g);
    next->count = flags % (POOLS + 1);
    for (unsigned i = 0; i < next->count; i++)
        fill_pool(g, next, i);
    g->fault = (struct fault){.countdown = flags >> 4, .forever = true};
    p->targets.fault = (flags & 8) != 0 ? &g->fault : NULL;
    uint32_t live = p->targets.live;
    int result = pools_adopt(p, next->opts, next->count, zones[flags % 3], g->now);
    p->targets.fault = NULL;
    if (result < 0) {
        MUST(p->targets.live == live);
        return;
    }
    g->current ^= 1;
    MUST(p->targets.live <= TARGETS_MAX);
    for (unsigned i = 0; i < OPEN_MAX; i++) {
        if (slab_get(&p->targets, g->open[i]) == NULL)
            g->open[i] = HANDLE_NONE;
    }
}

static void call(struct play *g)
{
    uint16_t pool_i = byte(g) % (POOLS + 1);
    struct pool *pool = pool__at(g->p, pool_i);
    struct pool_tried tried = {0};
    struct pool_pick pick;
    uint64_t key = byte(g) * 0x9e3779b97f4a7c15ULL;
    for (unsigned n = 0; n <= URIS; n++) {
        bool chosen = pool_choose(g->p, pool_i, key, &tried, g->now, &pick) == 0;
        if (pool != NULL)
            check_order(g, pool);
        if (!chosen)
            break;
        const struct target *t = pool__target(g->p, pick.target);
        MUST(t != NULL && t->pool == pool_i && t->member == pick.member);
        MUST((tried.bits[pick.member / 64] >> pick.member % 64 & 1) == 0);
        MUST(is_choice(g, t, pool->panics));
        tried.bits[pick.member / 64] |= 1ULL << pick.member % 64;
        uint8_t place = byte(g);
        if (place % 2 == 0 || !handle_is_none(g->open[place % OPEN_MAX]))
            continue;
        g->open[place % OPEN_MAX] = pick.target;
        pool_begin(g->p, pick.target, g->now);
    }
}

static void end_call(struct play *g)
{
    static const dur_ns advices[4] = {0, 1, 7 * NS_S, UINT64_MAX};
    uint8_t place = byte(g) % OPEN_MAX, how = byte(g);
    handle h = g->open[place];
    bool ejected = pool_end(g->p, h, (enum pool_outcome)(how % 7), advices[(how >> 4) % 4], g->now);
    const struct target *t = pool__target(g->p, h);
    MUST(!ejected || (t != NULL && t->ejected && !pool_is_fit(g->p, h, g->now)));
    g->open[place] = HANDLE_NONE;
}

static handle some_target(struct play *g)
{
    uint8_t which = byte(g);
    return pool_member(g->p, which % POOLS, (uint16_t)(which / POOLS % URIS));
}

static void probe(struct play *g)
{
    struct pool_pick pick;
    uint16_t pool;
    unsigned n = 0;
    while (pool_probe_next(g->p, g->now, &pick, &pool)) {
        const struct target *t = pool__target(g->p, pick.target);
        MUST(t != NULL && t->pool == pool && t->probe_open && t->admin != POOL_MAINT);
        MUST(pool__at(g->p, pool)->opts->health.on);
        MUST(++n <= TARGETS_MAX); /* one probe a target, however long the clock stood still */
        uint8_t how = byte(g);
        if (how % 4 != 0)
            pool_probe_result(g->p, pick.target, how % 4 != 1, g->now);
    }
    mono_ns next = pool_deadline(g->p);
    MUST(next > g->now || next == MONO_NONE || next / NS_MS >= g->now / NS_MS);
}

static void set_admin(struct play *g, struct slice pool, bool all)
{
    struct slice uri = all ? SLICE("*") : slice_of(uris[byte(g) % URIS], 3);
    int changed = pool_set_admin(g->p, pool, uri, (enum pool_admin)(byte(g) % 3), g->now);
    MUST(changed >= -1 && changed <= TARGETS_MAX); /* a name may stand twice */
}

static void step(struct play *g, uint8_t what)
{
    struct pool_change change;
    switch (what % 16) {
    case 0:
        adopt(g);
        break;
    case 1:
        g->now += span(g);
        break;
    case 2:
        pool_heard(g->p, some_target(g), g->now);
        break;
    case 3:
        pool_probe_soon(g->p, some_target(g), g->now);
        break;
    case 4:
        pool_probe_result(g->p, some_target(g), what >= 128, g->now);
        break;
    case 5:
        set_admin(g, pool_names[what / 16 % POOLS], what >= 128);
        break;
    case 6:
        pool_budget_earn(g->p, what / 16 % POOLS, g->now);
        if (pool_budget_spend(g->p, what / 32 % POOLS, g->now))
            MUST(what / 32 % POOLS < pools_count(g->p));
        break;
    case 7:
        for (unsigned n = 0; pool_next_change(g->p, &change); n++)
            MUST(n < 3 * TARGETS_MAX && change.pool < pools_count(g->p));
        break;
    case 8:
    case 9:
        probe(g);
        break;
    case 10:
    case 11:
    case 12:
        call(g);
        break;
    default:
        end_call(g);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play g;
    memset(memory, 0, sizeof memory);
    struct arena mem = arena_over(memory, sizeof memory);
    MUST(pools_memory(POOLS, TARGETS_MAX) <= sizeof memory);
    g = (struct play){.data = data, .size = size};
    for (unsigned i = 0; i < URIS; i++)
        memcpy(uris[i], (char[]){'u', ':', (char)('a' + i), '\0'}, 4);
    g.now = byte(&g) * NS_S;
    g.p = pools_new(&mem, POOLS, TARGETS_MAX, byte(&g));
    MUST(g.p != NULL);
    adopt(&g);
    for (unsigned n = 0; n < STEPS_MAX && g.at < g.size; n++) {
        step(&g, byte(&g));
        check_all(&g);
    }
    slab_done(&g.p->targets);
    return 0;
}
