/* SPDX-License-Identifier: Apache-2.0
 *
 * What a target's answers to calls say about it (passive health).
 *
 *             eject_after failures in a row, or 2 refusals in a row
 *      ┌────┐ ───────────────────────────────────▶ ┌─────────┐  span doubles each time,
 *      │ in │                                      │ ejected │  eject_base … eject_max
 *      └────┘ ◀── answers ── ┌───────────┐ ◀────── └─────────┘
 *                            │ probation │ span over (and a sign of life, if it was silent),
 *                            └───────────┘ or 3 answers in a row
 *                                  └── one failure ──▶ ejected
 *
 * Refusals. A closed port, a reset or an ICMP error means that nobody is there, which a lost
 * datagram or a slow answer does not. Two of them in a row eject, whatever eject_after says (one
 * could be a reset of a connection that had idled too long), and a probe goes out at once.
 *
 * Silence. Who was ejected for silence or refusals (rather than for a 408 or 503, which somebody
 * has to send) would come back dead as often as not, and each time some callers would wait for
 * `try`. So with health checks on it needs a sign of life besides: a probe answered since, or a
 * message.
 *
 * Probation. The first calls after an ejection are the experiment: one failure is its result.
 *
 * Memory. Each eject_max without an ejection takes one doubling back.
 *
 * Failures that come in while it is ejected are those of tries begun before: they say nothing new.
 */
#include "pool/pool_int.h"

static bool has_shown_life(const struct target *t)
{
    return t->probe_ok_at > t->ejected_at || t->heard_at > mono_add(t->ejected_at, POOL_ECHO_NS);
}

static bool is_ejection_over(const struct pool *pool, const struct target *t, mono_ns now)
{
    if (now < t->eject_until)
        return false;
    return !t->eject_silent || !pool->opts->health.on || !pool__probes_tell(t) || has_shown_life(t);
}

bool pool__is_ejected(const struct pool *pool, const struct target *t, mono_ns now)
{
    return t->ejected && !is_ejection_over(pool, t, now);
}

bool pool__is_fit(const struct pool *pool, const struct target *t, mono_ns now)
{
    return pool__is_ready(t) && t->up && t->advice_until <= now &&
           !pool__is_ejected(pool, t, now);
}

static void take_back(struct pools *p, struct target *t, mono_ns now)
{
    t->ejected = false;
    t->fails = 0;
    t->refusals = 0;
    t->pardons = 0;
    t->back_at = now;
    t->slow_from = now;
    pool__changed(p, t);
}

void pool__end_ejection_if_due(struct pools *p, const struct pool *pool, struct target *t,
                               mono_ns now)
{
    if (!t->ejected || !is_ejection_over(pool, t, now))
        return;
    take_back(p, t, now);
    t->probation = true;
}

void pool__forgive(struct pools *p, struct target *t)
{
    t->ejected = false;
    t->probation = false;
    t->eject_level = 0;
    t->fails = 0;
    t->refusals = 0;
    t->pardons = 0;
    t->advice_until = 0;
    pool__changed(p, t);
}

static void forget_old_ejections(const struct pool *pool, struct target *t, mono_ns now)
{
    dur_ns per_level = pool->opts->outlier.eject_max > 0 ? pool->opts->outlier.eject_max : NS_S;
    uint64_t forgotten = mono_since(now, t->back_at) / per_level;
    t->eject_level = (uint8_t)(forgotten < t->eject_level ? t->eject_level - forgotten : 0);
}

static void eject(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    dur_ns span = pool->opts->outlier.eject_base, span_max = pool->opts->outlier.eject_max;
    forget_old_ejections(pool, t, now);
    for (uint8_t i = 0; i < t->eject_level && span < span_max; i++)
        span *= 2;
    if (t->eject_level < POOL_EJECT_LEVEL_MAX)
        t->eject_level++;
    t->ejected = true;
    t->eject_silent = t->last_failure == POOL_REFUSED || t->last_failure == POOL_NO_ANSWER;
    t->eject_fails = t->fails;
    t->probation = false;
    t->pardons = 0;
    t->ejected_at = now;
    t->eject_until = mono_add(now, span < span_max ? span : span_max);
    pool__changed(p, t);
    pool_probe_soon(p, slab_handle(&p->targets, t), now);
}

/* Returns whether this one ejected it. */
static bool note_failure(struct pools *p, const struct pool *pool, struct target *t,
                         enum pool_outcome o, mono_ns now)
{
    uint32_t limit = pool->opts->outlier.eject_after;
    t->failed++;
    if (t->ejected)
        return false;
    t->last_failure = (uint8_t)o;
    t->fails++;
    t->refusals = o == POOL_REFUSED ? t->refusals + 1 : 0;
    if (limit == 0)
        return false;
    if (t->fails < limit && t->refusals < POOL_REFUSALS_TO_EJECT && !t->probation)
        return false;
    eject(p, pool, t, now);
    return true;
}

static void note_answer(struct pools *p, const struct pool *pool, struct target *t, mono_ns now)
{
    t->answered++;
    t->answered_at = now > 0 ? now : 1;
    t->fails = 0;
    t->refusals = 0;
    t->probation = false;
    if (t->ejected && ++t->pardons >= POOL_PARDON_ANSWERS)
        take_back(p, t, now);
    pool__sign_of_life(p, pool, t, now);
}

/* The jitter keeps a fleet of edges from coming back in the same moment. */
static void heed_advice(struct pools *p, struct target *t, dur_ns retry_after, mono_ns now)
{
    dur_ns span = retry_after < POOL_ADVICE_NS_MAX ? retry_after : POOL_ADVICE_NS_MAX;
    mono_ns until = mono_add(now, span + prng_below(&p->prng, span / 5 + 1));
    t->failed++;
    if (until > t->advice_until)
        t->advice_until = until;
    pool__changed(p, t);
}

void pool_begin(struct pools *p, handle target, mono_ns now)
{
    struct target *t = pool__target(p, target);
    (void)now;
    if (t == NULL)
        return;
    t->open++;
    t->begun++;
}

bool pool_end(struct pools *p, handle target, enum pool_outcome o, dur_ns retry_after_ns,
              mono_ns now)
{
    struct target *t = pool__target(p, target);
    bool ejected = false;
    if (t == NULL)
        return false;
    struct pool *pool = pool__of(p, t);
    pool__end_ejection_if_due(p, pool, t, now);
    if (t->open > 0)
        t->open--;
    if (o == POOL_CANCELLED)
        return false;
    if (o != POOL_NO_ANSWER && o != POOL_REFUSED)
        pool_heard(p, target, now);
    if (o != POOL_LOST)
        pool__count_outcome(pool, o == POOL_ANSWERED);
    if (o == POOL_LOST)
        t->answered++;
    else if (o == POOL_ANSWERED)
        note_answer(p, pool, t, now);
    else if (o == POOL_OVERLOADED && retry_after_ns > 0)
        heed_advice(p, t, retry_after_ns, now);
    else
        ejected = note_failure(p, pool, t, o, now);
    pool__settle(p, pool, now);
    return ejected;
}
