/* SPDX-License-Identifier: Apache-2.0
 *
 * Why a target takes calls, or not, for somebody who was woken up by it. One line: first the state,
 * then the reason in the order in which it is decided (admin, health, ejection, advice), then what
 * else matters, and what would change it. */
#include "pool/pool_int.h"

/* "0.8 s", "12 s", "3 min", "5 h": two digits are enough. */
static void put_span(struct text *t, dur_ns span)
{
    dur_ns tenths = (span + NS_S / 20) / (NS_S / 10);
    if (tenths < 100) {
        text_put_u64(t, tenths / 10);
        text_put_char(t, '.');
        text_put_u64(t, tenths % 10);
        TEXT_LIT(t, " s");
    } else if (span < 100 * NS_S) {
        text_put_u64(t, (span + NS_S / 2) / NS_S);
        TEXT_LIT(t, " s");
    } else if (span < 100 * 60 * NS_S) {
        text_put_u64(t, span / (60 * NS_S));
        TEXT_LIT(t, " min");
    } else {
        text_put_u64(t, span / (3600 * NS_S));
        TEXT_LIT(t, " h");
    }
}

static void put_ago(struct text *t, mono_ns now, mono_ns at)
{
    if (at == 0) {
        TEXT_LIT(t, "never");
        return;
    }
    put_span(t, mono_since(now, at));
    TEXT_LIT(t, " ago");
}

static void put_count(struct text *t, uint64_t n, struct slice one, struct slice many)
{
    text_put_u64(t, n);
    text_put_char(t, ' ');
    text_put(t, n == 1 ? one : many);
}

static struct slice outcome_words(uint8_t o)
{
    switch (o) {
    case POOL_NO_ANSWER:
        return SLICE("no answer");
    case POOL_REFUSED:
        return SLICE("refused");
    case POOL_OVERLOADED:
        return SLICE("503");
    case POOL_TIMED_OUT:
        return SLICE("408");
    default:
        return SLICE("unknown");
    }
}

static void put_fails(struct text *t, uint32_t fails, uint8_t last)
{
    put_count(t, fails, SLICE("failure"), SLICE("failures in a row"));
    TEXT_LIT(t, ", last: ");
    text_put(t, outcome_words(last));
}

static void put_probe_fails(struct text *t, const struct target *it)
{
    if (it->probe_silent)
        put_count(t, it->probe_fails, SLICE("probe unanswered"),
                  SLICE("probes in a row unanswered"));
    else
        put_count(t, it->probe_fails, SLICE("probe failed"), SLICE("probes in a row failed"));
}

static void put_down(struct text *t, const struct pool *pool, const struct target *it, mono_ns now)
{
    TEXT_LIT(t, "down for ");
    put_span(t, mono_since(now, it->down_at));
    TEXT_LIT(t, ": ");
    if (it->probe_fails > 0)
        put_probe_fails(t, it);
    else
        TEXT_LIT(t, "was down before its maintenance");
    TEXT_LIT(t, ", last heard ");
    put_ago(t, now, it->heard_at);
    TEXT_LIT(t, "; up again after ");
    put_count(t, pool->opts->health.rise, SLICE("answered probe"),
              SLICE("answered probes in a row"));
    if (it->probe_oks > 0) {
        TEXT_LIT(t, ", ");
        text_put_u64(t, it->probe_oks);
        TEXT_LIT(t, " so far");
    }
}

static void put_ejected(struct text *t, const struct target *it, mono_ns now)
{
    if (it->eject_until > now) {
        TEXT_LIT(t, "ejected for ");
        put_span(t, it->eject_until - now);
        TEXT_LIT(t, " more: ");
    } else {
        TEXT_LIT(t, "ejected until it answers a probe: ");
    }
    put_fails(t, it->eject_fails, it->last_failure);
    if (it->eject_level > 1) {
        TEXT_LIT(t, "; ejected ");
        text_put_u64(t, it->eject_level);
        TEXT_LIT(t, " times lately, each time for longer");
    }
    TEXT_LIT(t, "; last heard ");
    put_ago(t, now, it->heard_at);
}

/* What it was last known by. */
static void put_up(struct text *t, const struct target *it, mono_ns now)
{
    TEXT_LIT(t, "up: ");
    if (it->heard_at == 0) {
        TEXT_LIT(t, "nothing heard from it yet, and nothing against it");
    } else if (it->answered_at >= it->heard_at) {
        TEXT_LIT(t, "answered a call ");
        put_ago(t, now, it->answered_at);
    } else if (it->probe_ok_at >= it->heard_at) {
        TEXT_LIT(t, "answered a probe ");
        put_ago(t, now, it->probe_ok_at);
    } else {
        TEXT_LIT(t, "last heard ");
        put_ago(t, now, it->heard_at);
    }
}

static void put_worries(struct text *t, const struct pool *pool, const struct target *it)
{
    if (it->probation)
        TEXT_LIT(t, "; on probation after an ejection, one failure ejects it again");
    if (it->fails > 0) {
        TEXT_LIT(t, "; ");
        put_fails(t, it->fails, it->last_failure);
        if (pool->opts->outlier.eject_after > 0) {
            TEXT_LIT(t, ", ejected at ");
            text_put_u64(t, pool->opts->outlier.eject_after);
        }
    }
    if (it->probe_fails > 0 && pool->opts->health.on) {
        TEXT_LIT(t, "; ");
        put_probe_fails(t, it);
        TEXT_LIT(t, ", down at ");
        text_put_u64(t, pool->opts->health.fall);
    }
    if (pool->opts->health.on && !pool__probes_tell(it) && it->probe_sent_at != 0)
        TEXT_LIT(t, "; has answered no OPTIONS yet, so it is judged by its calls alone");
}

static void put_slow_start(struct text *t, const struct pool *pool, const struct target *it,
                           mono_ns now)
{
    dur_ns span = pool->opts->outlier.slow_start;
    if (it->slow_from == MONO_NONE || mono_since(now, it->slow_from) >= span)
        return;
    TEXT_LIT(t, "; slow start, full share in ");
    put_span(t, span - mono_since(now, it->slow_from));
}

static void put_use(struct text *t, const struct pool *pool, const struct target *it, bool fit)
{
    if (!fit && pool->panics)
        TEXT_LIT(t, "; used all the same: too few targets of the pool are fit (panic)");
    if (fit && !it->own_zone) {
        TEXT_LIT(t, "; of zone ");
        text_put_escaped(t, it->opts->zone, POOL_NAME_BYTES_MAX);
        TEXT_LIT(t, ", used when our own zone is not fit");
    }
}

void pool_explain(const struct pools *p, handle target, mono_ns now, struct text *t)
{
    const struct target *it = pool__target(p, target);
    if (it == NULL) {
        TEXT_LIT(t, "gone: no longer in the configuration");
        return;
    }
    const struct pool *pool = pool__of(p, it);
    if (it->admin == POOL_MAINT) {
        TEXT_LIT(t, "in maintenance by an operator: takes nothing, is not probed");
        if (it->open > 0) {
            TEXT_LIT(t, "; ");
            put_count(t, it->open, SLICE("try"), SLICE("tries"));
            TEXT_LIT(t, " still open");
        }
        return;
    }
    if (it->opts->addr.family == 0) {
        TEXT_LIT(t, "down: its name could not be resolved when the file was read; weir reload asks "
                    "again");
        return;
    }
    if (it->admin == POOL_DRAIN) {
        TEXT_LIT(t, "draining by an operator: takes only requests that are bound to it, ");
        put_count(t, it->open, SLICE("try"), SLICE("tries"));
        TEXT_LIT(t, " open; ");
    }
    if (!it->up)
        put_down(t, pool, it, now);
    else if (pool__is_ejected(pool, it, now))
        put_ejected(t, it, now);
    else if (it->advice_until > now) {
        TEXT_LIT(t, "alive, but asked for quiet (503 with Retry-After) for ");
        put_span(t, it->advice_until - now);
        TEXT_LIT(t, " more: takes nothing");
        return;
    } else {
        put_up(t, it, now);
        put_worries(t, pool, it);
        put_slow_start(t, pool, it, now);
    }
    if (it->admin == POOL_READY)
        put_use(t, pool, it, pool__is_fit(pool, it, now));
}
