/* SPDX-License-Identifier: Apache-2.0
 *
 * Retry-After as a place in a line: see guard.h. Registrations and all else have a line each, for
 * their capacities differ.
 *
 * How many requests were admitted in a window is the capacity when there was clearly more to do:
 * when the worker sheds for its delay, and at least one in eight was refused. Else it was only what
 * there was to do, and the capacity is at least that. As the line itself then brings no more than
 * the estimate, an estimate that was too low would stay so; it grows slowly while what it lets in
 * is all admitted. Of the requests only a part ends well: a registration is two, as the first is
 * challenged. That part is known over longer, for at the head of a crowd nothing is done yet. */
#include "guard/guard_int.h"

#define WINDOW       (200 * NS_MS)
#define REFUSAL_COST (2 * NS_US)

enum {
    RATE_MIN = 100,       /* per second: of a worker that has done nothing yet */
    RATE_MAX = 100000000, /* a bound for the arithmetic */
    SPARE_NUM = 15,       /* the line moves by 15/16 of the capacity: who comes for the first */
    SPARE_DEN = 16,       /* time needs a part, and an estimate is an estimate */
    WEIGHT = 4,           /* of a window in the average: 1/4 */
    REFUSED_PART = 7,     /* one refused for seven admitted */
    ADMITTED_TELLS = 16,  /* in a part of a window: fewer are chance */
    PART_MEMORY = 1 << 14,
    PART_UNKNOWN = 64, /* requests that the first guess is worth */
    PART_LEAST = 3,
    GROWTH = 64, /* by 1/64 in a window: twice as much in nine seconds */
};

static struct line *line_of(struct guard *g, enum guard_class class)
{
    return &g->line[class == CLASS_REGISTER || class == CLASS_REFRESH];
}

/* Of the time of a window, refusals took some: those who come at their time need not be refused.
 * But that is reckoned, not measured: not more than three quarters of it. */
static uint64_t rate_of_window(const struct line *l, dur_ns took)
{
    dur_ns refusing = l->refused * REFUSAL_COST, most = took / 4 * 3;
    dur_ns worked = took - (refusing < most ? refusing : most);
    uint64_t rate = (uint64_t)l->admitted * NS_S / worked;
    return rate < RATE_MAX ? rate : RATE_MAX;
}

static uint32_t part_way(uint32_t from, uint64_t to)
{
    return to > from ? from + (uint32_t)(to - from) / WEIGHT
                     : from - (from - (uint32_t)to) / WEIGHT;
}

static void roll(const struct guard *g, struct line *l, mono_ns now)
{
    if (l->window_began == 0) {
        l->window_began = now;
        return;
    }
    dur_ns took = mono_since(now, l->window_began);
    if (took < WINDOW)
        return;
    uint64_t rate = rate_of_window(l, took);
    /* A window that went on without a call was an idle one: it says nothing. */
    bool busy = took < 4 * WINDOW && g->delay.shed > 0 && l->refused >= l->admitted / REFUSED_PART;
    if (l->rate == 0)
        l->rate = (uint32_t)rate;
    else if (rate > l->rate || busy)
        l->rate = part_way(l->rate, rate);
    else if (l->next_free > now && rate >= l->rate - l->rate / 8)
        l->rate += l->rate / GROWTH + 1;
    l->admitted = 0;
    l->refused = 0;
    l->window_began = now;
}

void line__admitted(struct guard *g, enum guard_class class, mono_ns now)
{
    struct line *l = line_of(g, class);
    roll(g, l, now);
    l->admitted++;
    if (++l->asked >= PART_MEMORY) {
        l->asked /= 2;
        l->done /= 2;
    }
}

void guard_done(struct guard *g, enum guard_class class, mono_ns now)
{
    struct line *l = line_of(g, class);
    roll(g, l, now);
    if (class < CLASS_IN_DIALOG)
        l->done++;
}

/* Of so many requests, how many end well: a third at least, and half before anything is known. */
static uint64_t part_done(const struct line *l, uint64_t rate)
{
    uint64_t done = l->done + PART_UNKNOWN / 2, asked = l->asked + PART_UNKNOWN;
    uint64_t part = rate * done / asked, least = rate / PART_LEAST;
    return part > rate ? rate : part > least ? part : least;
}

/* Per second. A crowd comes and is refused within less than a window: the one that has begun counts
 * when it has seen more than all before. */
static uint64_t rate_known(const struct line *l, mono_ns now)
{
    dur_ns took = mono_since(now, l->window_began);
    if (took < WINDOW / 10 || l->admitted < ADMITTED_TELLS)
        return l->rate;
    uint64_t rate = rate_of_window(l, took);
    return rate > l->rate ? rate : l->rate;
}

uint32_t guard_retry_after_s(struct guard *g, enum guard_class class, mono_ns now)
{
    struct line *l = line_of(g, class);
    roll(g, l, now);
    l->refused++;
    dur_ns min = g->opts->retry_after_min, max = g->opts->retry_after_max;
    max = max > min ? max : min;
    uint64_t rate = part_done(l, rate_known(l, now)) * SPARE_NUM / SPARE_DEN;
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
