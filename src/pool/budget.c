/* SPDX-License-Identifier: Apache-2.0
 *
 * The retry budget of a pool.
 *
 * What it is against: everything behind us fails, each request is tried three times, and so a pool
 * that is short of capacity gets three times the load. What it must not be against: one of three
 * targets dies silently at 500 calls/s. Nobody can know before the first try times out, 2 s later;
 * by then 333 calls hang on the dead one, and each is owed its second try within the next 2 s. A
 * bucket of 20 % would refuse two thirds of them, although the two live targets could take all.
 *
 * The two differ in what retries do: those of the second case go to targets that answer, once each,
 * and load them with no more than the calls that the pool was given. So a retry costs nothing while
 *      at least half of the pool's ready targets are fit, and
 *      at least 60 % of the recent tries were answered (moving share over some 256 tries: one dead
 *      target of two costs it a few percent until it is ejected, a pool that fails as a whole is
 *      below within a few hundred tries).
 * Otherwise it costs a token:
 *      10 at the start, 1 more each second (a quiet pool can always retry),
 *      budget_percent / 100 more for each first request,
 *      never more than 10 + budget_percent in store. */
#include "pool/pool_int.h"

enum {
    TOKEN_MILLI = 1000,
    TOKENS_FREE = 10,
    SUCCESS_PERCENT_MIN = 60,
    SUCCESS_SHIFT = 8, /* each outcome counts 1/256 */
};

static uint64_t tokens_max(const struct pool *pool)
{
    return (uint64_t)(TOKENS_FREE + pool->opts->failover.budget_percent) * TOKEN_MILLI;
}

static void add_tokens(struct pool *pool, uint64_t milli)
{
    uint64_t most = tokens_max(pool);
    pool->tokens_milli += milli < most ? milli : most;
    if (pool->tokens_milli > most)
        pool->tokens_milli = most;
}

static void refill(struct pool *pool, mono_ns now)
{
    uint64_t passed_ms = mono_since(now, pool->refilled_at) / NS_MS;
    add_tokens(pool, passed_ms);
    pool->refilled_at += passed_ms * NS_MS;
}

static bool retries_are_harmless(const struct pool *pool)
{
    const uint32_t enough = POOL_BUDGET_ONE / 100 * SUCCESS_PERCENT_MIN;
    return (uint32_t)pool->fit * 2 >= pool->ready && pool->fit > 0 && pool->success >= enough;
}

void pool__budget_init(struct pool *pool, mono_ns now)
{
    pool->tokens_milli = (uint64_t)TOKENS_FREE * TOKEN_MILLI;
    pool->refilled_at = now;
    pool->success = POOL_BUDGET_ONE;
}

void pool__count_outcome(struct pool *pool, bool answered)
{
    pool->success -= pool->success >> SUCCESS_SHIFT;
    if (answered)
        pool->success += POOL_BUDGET_ONE >> SUCCESS_SHIFT;
}

void pool_budget_earn(struct pools *p, uint16_t pool, mono_ns now)
{
    struct pool *it = pool__at(p, pool);
    if (it == NULL)
        return;
    refill(it, now);
    add_tokens(it, (uint64_t)it->opts->failover.budget_percent * (TOKEN_MILLI / 100));
}

bool pool_budget_spend(struct pools *p, uint16_t pool, mono_ns now)
{
    struct pool *it = pool__at(p, pool);
    if (it == NULL)
        return false;
    pool__settle(p, it, now);
    if (retries_are_harmless(it))
        return true;
    refill(it, now);
    if (it->tokens_milli < TOKEN_MILLI)
        return false;
    it->tokens_milli -= TOKEN_MILLI;
    return true;
}
