/* SPDX-License-Identifier: Apache-2.0
 *
 * A token bucket as one point in time (GCRA): see guard.h. Eight bytes, no timer, nothing that has
 * to be filled up. */
#include "guard/guard_int.h"

/* Spans stop here, so that their sums with a time cannot wrap. */
static const dur_ns span_max = MONO_NONE / 4;

/* What a bucket holds, as a span. */
static dur_ns window_of(struct rate r)
{
    return r.every > span_max / r.burst ? span_max : r.every * r.burst;
}

/* Where the bucket stands now: full ones are full at `now`; one that a slower rate had emptied owes
 * no more than this one can. */
static mono_ns settled(mono_ns full_at, dur_ns window, mono_ns now)
{
    if (full_at <= now)
        return now;
    return full_at - now > window ? mono_add(now, window) : full_at;
}

struct rate rate_of(uint32_t per_second, uint32_t burst, uint32_t share)
{
    if (per_second == 0)
        return (struct rate){0, 1};
    if (share == 0)
        share = 1;
    dur_ns every = NS_S * share / per_second;
    burst = burst / share + (burst % share != 0);
    return (struct rate){every > 0 ? every : 1, burst > 0 ? burst : 1};
}

void rate__settle(mono_ns *full_at, struct rate r, mono_ns now)
{
    if (r.every > 0)
        *full_at = settled(*full_at, window_of(r), now);
}

bool rate_take(mono_ns *full_at, struct rate r, mono_ns now)
{
    if (r.every == 0)
        return true;
    dur_ns window = window_of(r);
    mono_ns from = settled(*full_at, window, now);
    if (from - now > window - (r.every < window ? r.every : window)) {
        *full_at = from;
        return false;
    }
    *full_at = mono_add(from, r.every);
    return true;
}

mono_ns rate_ready_at(mono_ns full_at, struct rate r, mono_ns now)
{
    if (r.every == 0)
        return now;
    dur_ns window = window_of(r);
    dur_ns room = window - (r.every < window ? r.every : window);
    dur_ns taken = mono_since(full_at, now);
    return taken > room ? mono_add(now, taken - room) : now;
}
