/* SPDX-License-Identifier: Apache-2.0
 *
 * Which target takes the next request.
 *
 * A choice must not look at 256 targets. So each pool keeps order[], rebuilt when something changed
 * or when time itself changes something (valid_until: an ejection or a Retry-After ends, a slow
 * start goes one step on):
 *
 *      order[]   first choices      │ other fit ones │ unfit, but ready │
 *                0 ─────────── first ────────────── fit ──────────── usable
 *
 *      first choices   while at least half of our zone (by weight) is fit: the fit ones of our
 * zone. Below that its survivors would be crushed by the share of the dead: then all fit ones. In a
 * panic all usable ones, of whatever zone. a retry         untried first choices, then the other
 * fit ones; in a panic fit ones, then the rest. Never an unfit one without a panic.
 *
 * Who sent a Retry-After is never used before it has passed, not even in a panic (RFC 3261 21.5.4):
 * it is alive and asks for less. Nor does it count as a reason to panic.
 *
 *      round-robin   the first choices are a heap by the virtual time of their next turn, which
 *                    comes every 1/share: interleaved, deterministic, O(log n)
 *      least-busy    two draws by share (binary search in sums[]); the one with fewer open tries
 * per share; O(log n) call-id       weighted rendezvous hashing: every (key, target) pair has a
 * score that nobody else changes, the highest wins. One target less moves its own keys only, evenly
 *                    over the others, and they come home with it; O(n) */
#include "pool/pool_int.h"

#include <stddef.h>

/* Virtual time between two turns of a target with a share of one. Large against the largest share
 * (1000 × 100), and 2^64 is far away: one lightest target in slow start moves on by less than 2^27
 * a turn. */
#define RR_TURN (1ULL << 30)

static uint64_t interval(const struct target *t)
{
    return RR_TURN / t->share;
}

/* ---- rebuild --------------------------------------------------------------------------------- */

static uint32_t share_now(const struct pool *pool, struct target *t, mono_ns now)
{
    dur_ns span = pool->opts->outlier.slow_start;
    uint32_t weight = t->opts->weight > 0 ? t->opts->weight : 1;
    if (t->slow_from != MONO_NONE && (span == 0 || mono_since(now, t->slow_from) >= span))
        t->slow_from = MONO_NONE;
    if (t->slow_from == MONO_NONE)
        return weight * POOL_SHARE_FULL;
    dur_ns passed_ppm = mono_since(now, t->slow_from) / (span / 1000000 + 1);
    dur_ns grown = passed_ppm * (POOL_SHARE_FULL - POOL_SHARE_FIRST) / 1000000;
    uint32_t percent = POOL_SHARE_FIRST + (uint32_t)grown;
    return weight * (percent < POOL_SHARE_FULL ? percent : POOL_SHARE_FULL);
}

static enum pool_rank rank_now(const struct pool *pool, const struct target *t, mono_ns now)
{
    if (!pool__is_ready(t) || t->advice_until > now)
        return RANK_NONE;
    if (!pool__is_fit(pool, t, now))
        return RANK_UNFIT;
    return t->own_zone ? RANK_OWN_FIT : RANK_OTHER_FIT;
}

/* When the clock alone changes the rank of this target. */
static mono_ns next_change(const struct target *t, mono_ns now)
{
    mono_ns at = MONO_NONE;
    if (t->ejected && t->eject_until > now)
        at = t->eject_until;
    if (t->advice_until > now)
        at = mono_min(at, t->advice_until);
    return at;
}

/* Sums by which the zones and the panic are decided. */
struct tally {
    uint64_t own_ready_weight, own_fit_weight;
    uint16_t of[RANK_NONE + 1]; /* members by rank */
};

static void rank_members(struct pools *p, struct pool *pool, mono_ns now, struct tally *tally)
{
    dur_ns slow_step = pool->opts->outlier.slow_start / 64 + NS_MS;
    for (uint16_t i = 0; i < pool->count; i++) {
        struct target *t = pool->members[i];
        pool__end_ejection_if_due(p, pool, t, now);
        t->share = share_now(pool, t, now);
        t->rank = (uint8_t)rank_now(pool, t, now);
        tally->of[t->rank]++;
        if (t->own_zone && pool__is_ready(t))
            tally->own_ready_weight += t->opts->weight;
        if (t->rank == RANK_OWN_FIT)
            tally->own_fit_weight += t->opts->weight;
        pool->ready = (uint16_t)(pool->ready + pool__is_ready(t));
        mono_ns change = next_change(t, now);
        pool->valid_until = mono_min(pool->valid_until, change);
        if (t->slow_from != MONO_NONE)
            pool->valid_until = mono_min(pool->valid_until, mono_add(now, slow_step));
        if (change != t->change_node.at)
            wheel_arm(&p->wheel, &t->change_node, change);
    }
}

static void fill_order(struct pool *pool, const struct tally *tally)
{
    uint16_t at[RANK_NONE];
    at[RANK_OWN_FIT] = 0;
    at[RANK_OTHER_FIT] = tally->of[RANK_OWN_FIT];
    at[RANK_UNFIT] = (uint16_t)(at[RANK_OTHER_FIT] + tally->of[RANK_OTHER_FIT]);
    for (uint16_t i = 0; i < pool->count; i++) {
        uint8_t rank = pool->members[i]->rank;
        if (rank != RANK_NONE)
            pool->order[at[rank]++] = i;
    }
    pool->fit = at[RANK_OTHER_FIT];
    pool->usable = at[RANK_UNFIT];
}

static void decide_first(struct pools *p, struct pool *pool, const struct tally *tally)
{
    bool own_zone_stands =
        tally->of[RANK_OWN_FIT] > 0 && tally->own_fit_weight * 2 >= tally->own_ready_weight;
    bool was = pool->panics;
    pool->panics =
        pool->usable > 0 &&
        (uint32_t)pool->fit * 100 < (uint32_t)pool->opts->outlier.panic_percent * pool->usable;
    if (pool->panics)
        pool->first = pool->usable;
    else
        pool->first = own_zone_stands ? tally->of[RANK_OWN_FIT] : pool->fit;
    if (was != pool->panics)
        p->panics_unsaid =
            (uint16_t)(p->panics_unsaid + (pool->panics != pool->said_panics ? 1 : -1));
}

static void sum_shares(struct pool *pool)
{
    uint32_t sum = 0;
    pool->equal_shares = true;
    for (uint16_t i = 0; i < pool->first; i++) {
        uint32_t share = pool->members[pool->order[i]]->share;
        sum += share;
        pool->sums[i] = sum;
        pool->equal_shares = pool->equal_shares && share == pool->members[pool->order[0]]->share;
    }
}

/* ---- round-robin ----------------------------------------------------------------------------- */

static bool turn_is_before(const struct pool *pool, uint16_t a, uint16_t b)
{
    uint64_t due_a = pool->members[a]->rr_due, due_b = pool->members[b]->rr_due;
    return due_a != due_b ? due_a < due_b : a < b;
}

static void sift_down(struct pool *pool, uint32_t i)
{
    uint16_t *heap = pool->order;
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        for (uint32_t child = left; child < left + 2 && child < pool->first; child++) {
            if (turn_is_before(pool, heap[child], heap[least]))
                least = child;
        }
        if (least == i)
            return;
        uint16_t swap = heap[i];
        heap[i] = heap[least];
        heap[least] = swap;
        i = least;
    }
}

/* Who was away, or is new, gets its first turn half an interval from now: no burst to catch up
 * with, and the heavy ones do not all come before the light ones. */
static void heap_turns(struct pool *pool)
{
    for (uint16_t i = 0; i < pool->first; i++) {
        struct target *t = pool->members[pool->order[i]];
        if (t->rr_due < pool->rr_clock || t->rr_due == 0)
            t->rr_due = pool->rr_clock + interval(t) / 2;
        if (t->rr_due > pool->rr_clock + interval(t))
            t->rr_due = pool->rr_clock + interval(t);
    }
    for (uint32_t i = pool->first / 2U; i-- > 0;)
        sift_down(pool, i);
}

static struct target *next_turn(struct pool *pool)
{
    struct target *t = pool->members[pool->order[0]];
    pool->rr_clock = t->rr_due;
    t->rr_due += interval(t);
    sift_down(pool, 0);
    return t;
}

void pool__settle(struct pools *p, struct pool *pool, mono_ns now)
{
    if (LIKELY(!pool->dirty && now < pool->valid_until))
        return;
    struct tally tally = {0};
    pool->ready = 0;
    pool->valid_until = MONO_NONE;
    rank_members(p, pool, now, &tally);
    fill_order(pool, &tally);
    decide_first(p, pool, &tally);
    if (pool->opts->balance == POOL_ROUND_ROBIN)
        heap_turns(pool);
    sum_shares(pool);
    pool->dirty = false;
}

/* ---- least-busy ------------------------------------------------------------------------------ */

/* Places (in `order`) to choose from, with the running sums of their shares. */
struct field {
    const uint16_t *order;
    const uint32_t *sums;
    uint16_t n;
};

static uint16_t place_at(const struct field *f, uint64_t point)
{
    uint16_t low = 0, high = (uint16_t)(f->n - 1);
    while (low < high) {
        uint16_t mid = (uint16_t)((low + high) / 2);
        if (f->sums[mid] > point)
            high = mid;
        else
            low = (uint16_t)(mid + 1);
    }
    return low;
}

/* Both draws follow the shares, and a tie goes to the first: an idle pool is loaded by share too,
 * not always on its heaviest target. */
static struct target *less_busy(struct pools *p, const struct pool *pool, const struct field *f)
{
    uint64_t sum = f->sums[f->n - 1];
    uint16_t one = place_at(f, prng_below(&p->prng, sum));
    struct target *a = pool->members[f->order[one]];
    if (f->n == 1)
        return a;
    uint64_t before = f->sums[one] - a->share;
    uint64_t point = prng_below(&p->prng, sum - a->share);
    struct target *b =
        pool->members[f->order[place_at(f, point < before ? point : point + a->share)]];
    return (uint64_t)b->open * a->share < (uint64_t)a->open * b->share ? b : a;
}

/* ---- call-id --------------------------------------------------------------------------------- */

/* Every input bit reaches every output bit (the finisher of splitmix64). */
static uint64_t mixed(uint64_t key, uint64_t salt)
{
    uint64_t x = key ^ salt;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/* -ln(u) for u = (h + 1) / 2^64, to about 1e-8: with u drawn evenly, -ln(u) / weight is least for a
 * target with a chance of weight / sum of weights. u = f / 2^k with f in (1/2, 1], and
 * -ln(f) = 2 atanh((1 - f) / (1 + f)), whose series converges fast there. 1 - f is taken in whole
 * numbers, so that a u close to one keeps its digits. */
static double minus_ln(uint64_t h)
{
    const double ln2 = 0.69314718055994530942, two64 = 18446744073709551616.0;
    int k = h == UINT64_MAX ? 0 : __builtin_clzll(h + 1);
    uint64_t f = h == UINT64_MAX ? 0 : (h + 1) << k; /* 0 stands for 2^64 */
    double gap = (double)(0 - f) / two64;
    double z = gap / (2.0 - gap), zz = z * z;
    double tail = 1.0 / 9 + zz * (1.0 / 11 + zz * (1.0 / 13 + zz / 15));
    double series = 1.0 + zz * (1.0 / 3 + zz * (1.0 / 5 + zz * (1.0 / 7 + zz * tail)));
    return (double)k * ln2 + 2.0 * z * series;
}

static struct target *home_of(const struct pool *pool, const struct field *f, uint64_t key,
                              bool equal)
{
    struct target *best = pool->members[f->order[0]];
    uint64_t best_hash = mixed(key, best->salt);
    double best_score = equal ? 0 : minus_ln(best_hash) / best->share;
    for (uint16_t i = 1; i < f->n; i++) {
        struct target *t = pool->members[f->order[i]];
        uint64_t hash = mixed(key, t->salt);
        double score = equal ? 0 : minus_ln(hash) / t->share;
        if (equal ? hash > best_hash : score < best_score) {
            best = t;
            best_hash = hash;
            best_score = score;
        }
    }
    return best;
}

/* ---- choice ---------------------------------------------------------------------------------- */

static struct target *first_choice(struct pools *p, struct pool *pool, uint64_t key)
{
    struct field f = {pool->order, pool->sums, pool->first};
    if (pool->first == 0)
        return NULL;
    switch (pool->opts->balance) {
    case POOL_ROUND_ROBIN:
        return next_turn(pool);
    case POOL_CALL_ID:
        return home_of(pool, &f, key, pool->equal_shares);
    default:
        return less_busy(p, pool, &f);
    }
}

static bool is_tried(const struct pool_tried *tried, uint16_t member)
{
    return (tried->bits[member / 64] >> (member % 64) & 1) != 0;
}

/* 0 = ask it first, 1 = then, 2 = not at all. */
static unsigned retry_class(const struct pool *pool, uint16_t place)
{
    bool is_fit = pool->members[pool->order[place]]->rank < RANK_UNFIT;
    if (pool->panics)
        return is_fit ? 0 : 1;
    if (!is_fit)
        return 2;
    return place < pool->first ? 0 : 1;
}

static struct target *earliest_turn(struct pool *pool, const struct field *f,
                                    const uint16_t *places)
{
    uint16_t best = 0;
    for (uint16_t i = 1; i < f->n; i++) {
        if (turn_is_before(pool, f->order[i], f->order[best]))
            best = i;
    }
    struct target *t = pool->members[f->order[best]];
    uint64_t due = t->rr_due > pool->rr_clock ? t->rr_due : pool->rr_clock;
    t->rr_due = due + interval(t);
    if (places[best] < pool->first)
        sift_down(pool, places[best]);
    return t;
}

/* Rare, so it may look at all: the same policies over the untried ones of the best class. */
static struct target *retry_choice(struct pools *p, struct pool *pool, uint64_t key,
                                   const struct pool_tried *tried)
{
    uint16_t order[POOL_TARGETS_MAX], places[POOL_TARGETS_MAX], n = 0;
    uint32_t sums[POOL_TARGETS_MAX], sum = 0;
    for (unsigned wanted = 0; wanted < 2 && n == 0; wanted++) {
        for (uint16_t place = 0; place < pool->usable; place++) {
            uint16_t member = pool->order[place];
            if (retry_class(pool, place) != wanted || is_tried(tried, member))
                continue;
            sum += pool->members[member]->share;
            sums[n] = sum;
            places[n] = place;
            order[n++] = member;
        }
    }
    struct field f = {order, sums, n};
    if (n == 0)
        return NULL;
    switch (pool->opts->balance) {
    case POOL_ROUND_ROBIN:
        return earliest_turn(pool, &f, places);
    case POOL_CALL_ID:
        return home_of(pool, &f, key, false);
    default:
        return less_busy(p, pool, &f);
    }
}

int pool_choose(struct pools *p, uint16_t pool, uint64_t key, const struct pool_tried *tried,
                mono_ns now, struct pool_pick *ret_pick)
{
    struct pool *it = pool__at(p, pool);
    if (it == NULL)
        return -1;
    pool__settle(p, it, now);
    uint64_t any = 0;
    for (unsigned i = 0; tried != NULL && i < POOL_TARGETS_MAX / 64; i++)
        any |= tried->bits[i];
    struct target *t = any == 0 ? first_choice(p, it, key) : retry_choice(p, it, key, tried);
    if (t == NULL)
        return -1;
    pool__pick(p, t, ret_pick);
    return 0;
}
