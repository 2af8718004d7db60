/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes (active health).
 *
 *      due ──▶ probe out ──▶ answered ──▶ next due        due: a grid of `every`, each target at
 * its └──────▶ timeout  ──▶ next due             own phase, so that probes (and what they find) do
 * not come in bursts
 *
 * A probe may go out between two dues when something asks for a sign of life (pool_probe_soon);
 * then PROBE_GAP_NS lies between two, however often it is asked.
 *
 * Silence on a probe says less than an answer to a call says. It is not held against a target that
 *   - was heard since the probe went out (the probe was lost, or OPTIONS is nothing it knows),
 *   - has answered calls, but never one probe since we know it: it is judged by its calls alone. */
#include "pool/pool_int.h"

#include <stddef.h>

#define PROBE_GAP_NS (200 * NS_MS)
#define PROBE_NS_MIN (10 * NS_MS) /* whatever the options say: never a busy loop */

static dur_ns every_of(const struct pool *pool)
{
    dur_ns every = pool->opts->health.every;
    return every > PROBE_NS_MIN ? every : PROBE_NS_MIN;
}

static dur_ns timeout_of(const struct pool *pool)
{
    dur_ns timeout = pool->opts->health.timeout;
    return timeout > PROBE_NS_MIN ? timeout : PROBE_NS_MIN;
}

bool pool__probes_tell(const struct target *t)
{
    return t->probe_answered || t->answered == 0;
}

void pool__plan_probe(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    dur_ns slice = every_of(pool) / (pool->count > 0 ? pool->count : 1);
    t->probe_open = false;
    t->probe_due = mono_add(now, slice * t->member + prng_below(&p->prng, slice));
    if (t->admin != POOL_MAINT && t->opts->addr.family != 0)
        wheel_arm(&p->wheel, &t->probe_node, t->probe_due);
}

void pool__stop_probes(struct pools *p, struct target *t)
{
    t->probe_open = false;
    t->probe_fails = 0;
    t->probe_oks = 0;
    wheel_disarm(&p->wheel, &t->probe_node);
}

/* The next point of the grid after `now`; how many were missed (a clock that jumped) is no matter.
 */
static void arm_next_due(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    dur_ns every = every_of(pool);
    if (t->probe_due <= now)
        t->probe_due = mono_add(t->probe_due, (mono_since(now, t->probe_due) / every + 1) * every);
    wheel_arm(&p->wheel, &t->probe_node, t->probe_due);
}

static void mark_up(struct pools *p, struct target *t, mono_ns now)
{
    t->up = true;
    t->probe_fails = 0;
    t->probe_oks = 0;
    t->slow_from = now;
    pool__changed(p, t);
}

static void count_ok(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    if (t->up) {
        t->probe_fails = 0;
        return;
    }
    t->probe_oks++;
    if (t->probe_oks >= pool->opts->health.rise)
        mark_up(p, t, now);
}

static void count_failure(struct pools *p, const struct pool *pool, struct target *t, bool silent,
                          mono_ns now)
{
    t->probe_oks = 0;
    t->probe_silent = silent;
    if (t->probe_fails < UINT16_MAX)
        t->probe_fails++;
    if (!t->up || t->probe_fails < pool->opts->health.fall)
        return;
    t->up = false;
    t->down_at = now;
    pool__changed(p, t);
}

void pool__sign_of_life(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    if (pool->opts->health.on)
        count_ok(p, pool, t, now);
}

/* A bad answer is itself something heard: against it, only an answered call tells. */
static void count_unless_alive(struct pools *p, const struct pool *pool, struct target *t,
                               bool silent, mono_ns now)
{
    mono_ns sign = silent ? t->heard_at : t->answered_at;
    if (sign > t->probe_sent_at)
        t->probe_fails = 0;
    else if (pool__probes_tell(t))
        count_failure(p, pool, t, silent, now);
}

static void time_out(struct pools *p, struct pool *pool, struct target *t, mono_ns now)
{
    t->probe_open = false;
    count_unless_alive(p, pool, t, true, now);
    arm_next_due(p, pool, t, now);
}

static void send_probe(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    t->probe_open = true;
    t->probe_sent_at = now > 0 ? now : 1;
    if (t->probe_due <= now)
        t->probe_due = mono_add(t->probe_due, every_of(pool));
    wheel_arm(&p->wheel, &t->probe_node, mono_add(now, timeout_of(pool)));
}

mono_ns pool_deadline(const struct pools *p)
{
    return p->adopted ? wheel_deadline(&p->wheel) : MONO_NONE;
}

static struct target *target_of(const struct pools *p, const struct wheel_node *n, bool *ret_probe)
{
    size_t at = (size_t)((const char *)n - p->targets.objects) % p->targets.size;
    *ret_probe = at == offsetof(struct target, probe_node);
    const char *object = (const char *)n - at;
    return (struct target *)(uintptr_t)object;
}

bool pool_probe_next(struct pools *p, mono_ns now, struct pool_pick *ret_pick, uint16_t *ret_pool)
{
    struct wheel_node *n;
    while (p->adopted && (n = wheel_expire(&p->wheel, now)) != NULL) {
        bool is_probe;
        struct target *t = target_of(p, n, &is_probe);
        struct pool *pool = pool__of(p, t);
        if (is_probe && !t->probe_open) {
            send_probe(p, pool, t, now);
            pool__pick(p, t, ret_pick);
            *ret_pool = t->pool;
            return true;
        }
        if (is_probe)
            time_out(p, pool, t, now);
        pool__settle(p, pool, now);
    }
    return false;
}

void pool_probe_soon(struct pools *p, handle target, mono_ns now)
{
    struct target *t = pool__target(p, target);
    if (t == NULL || t->probe_open || t->admin == POOL_MAINT || t->opts->addr.family == 0)
        return;
    mono_ns at = t->probe_sent_at == 0 ? now : mono_add(t->probe_sent_at, PROBE_GAP_NS);
    if (at < now)
        at = now;
    if (pool__of(p, t)->opts->health.on && at < t->probe_node.at)
        wheel_arm(&p->wheel, &t->probe_node, at);
}

void pool_probe_result(struct pools *p, handle target, bool alive, mono_ns now)
{
    struct target *t = pool__target(p, target);
    if (t == NULL)
        return;
    struct pool *pool = pool__of(p, t);
    bool awaited = t->probe_open;
    if (!pool->opts->health.on || t->admin == POOL_MAINT)
        return;
    if (alive) {
        t->heard_at = now > 0 ? now : 1;
        t->probe_ok_at = t->heard_at;
        t->probe_answered = true;
        count_ok(p, pool, t, now);
    } else if (awaited) {
        count_unless_alive(p, pool, t, mono_since(now, t->probe_sent_at) >= timeout_of(pool), now);
    }
    if (awaited) {
        t->probe_open = false;
        arm_next_due(p, pool, t, now);
    }
    if (t->ejected)
        pool->dirty = true;
    pool__settle(p, pool, now);
}
