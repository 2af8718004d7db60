/* SPDX-License-Identifier: Apache-2.0
 *
 * Retry-After as a place in a line: see guard.h. Registrations and all else have a line each, for
 * their capacities differ. What a window saw done is the capacity when somebody was refused in it;
 * without, it was only what there was to do, and the capacity is at least that. */
#include "guard/guard_int.h"

#define WINDOW (200 * NS_MS)

enum {
    RATE_MIN = 100,       /* per second: of a worker that has done nothing yet */
    RATE_MAX = 100000000, /* a bound for the arithmetic */
    SPARE_NUM = 15,       /* the line moves by 15/16 of the capacity: who comes for the first */
    SPARE_DEN = 16,       /* time needs a part, and an estimate is an estimate */
    WEIGHT = 4,           /* of a window in the average: 1/4 */
};

static struct line *line_of(struct guard *g, enum guard_class class)
{
    return &g->line[class == CLASS_REGISTER || class == CLASS_REFRESH];
}

static void roll(struct line *l, mono_ns now)
{
    if (l->window_began == 0) {
        l->window_began = now;
        return;
    }
    dur_ns took = mono_since(now, l->window_began);
    if (took < WINDOW)
        return;
    uint64_t rate = (uint64_t)l->done * NS_S / took;
    rate = rate < RATE_MAX ? rate : RATE_MAX;
    /* A window that went on without a call was an idle one: it says nothing of what can be done. */
    bool idle = took > 4 * WINDOW;
    if (l->rate == 0 || rate > l->rate)
        l->rate = l->rate == 0 ? (uint32_t)rate : l->rate + (uint32_t)(rate - l->rate) / WEIGHT;
    else if (l->refused && !idle)
        l->rate -= (l->rate - (uint32_t)rate) / WEIGHT;
    l->done = 0;
    l->refused = false;
    l->window_began = now;
}

void guard_done(struct guard *g, enum guard_class class, mono_ns now)
{
    struct line *l = line_of(g, class);
    roll(l, now);
    l->done++;
}

uint32_t guard_retry_after_s(struct guard *g, enum guard_class class, mono_ns now)
{
    struct line *l = line_of(g, class);
    roll(l, now);
    l->refused = true;
    dur_ns min = g->opts->retry_after_min, max = g->opts->retry_after_max;
    max = max > min ? max : min;
    uint64_t rate = (uint64_t)l->rate * SPARE_NUM / SPARE_DEN;
    dur_ns step = NS_S / (rate > RATE_MIN ? rate : RATE_MIN);
    mono_ns place = l->next_free;
    if (place < mono_add(now, min))
        place = mono_add(now, min);
    dur_ns wait = place - now;
    if (wait <= max)
        l->next_free = mono_add(place, step);
    else /* longer than the longest: spread over all of it, thinly */
        wait = min + prng_below(&g->prng, max - min + 1);
    /* The second is drawn of the two that the place lies between, so that the crowd does not come
     * in steps; but never before the minimum. */
    uint64_t s = (wait + prng_below(&g->prng, NS_S)) / NS_S;
    uint64_t least = (min + NS_S - 1) / NS_S, most = max / NS_S;
    s = s > most ? most : s;
    s = s < least ? least : s;
    return s > 0 ? (uint32_t)s : 1;
}
