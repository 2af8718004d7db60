/* SPDX-License-Identifier: Apache-2.0
 *
 * Shedding by value: see guard.h. What is steered is the admitted share, by the shortest wait of
 * each interval, which is as long as the target, in the queue where it is longest:
 *
 *      share × (1 − x),   x = ½ (excess − excess before) + 1/16 (wait − target)    in intervals
 *
 * A wait grows by at most one second in a second, and by as much more as the admitted share is too
 * large in proportion. So a factor on that share acts on the wait the same at twice as at ten times
 * the load, and these two weights damp it critically: no swinging at either. The excess is what is
 * over the target, so nothing is shed below it; from an empty queue the share grows by 1/16, or by
 * 1/8 in an interval in which nobody waited at all.
 *
 * The shed share of all goes to the classes as water fills a vessel, by how many of each came
 * lately:
 *
 *      probes ▓▓▓▓▓▓▓▓ all | calls ▓▓▓▓▓░░░ this part of them | registrations ░░ none | …       */
#include "guard/guard_int.h"

#define ONE (1U << 20) /* a share of 1 */

enum {
    IDLE_STEPS_MAX = 128, /* (1 + 1/8)^128 is more than any share needs to be 1 again */
    IN_DIALOG_AGES = 8,   /* × T1: UDP has sent it again four times, RFC 3261 17.1.2.2 */
    TOLD_MAX = ONE / 100 * 95,
    UNHEARD_PASS_MIN = ONE / 128,
};

#define INTERVAL_MIN  (5 * NS_MS)
#define INTERVAL_MAX  (100 * NS_MS)
#define UNHEARD_EVERY (100 * NS_MS)
#define REVIEW_EVERY  (500 * NS_MS) /* the default of oc-validity, RFC 7339 4.3 */

static dur_ns interval_of(const struct guard *g)
{
    dur_ns t = g->opts->delay_target;
    return t < INTERVAL_MIN ? INTERVAL_MIN : t > INTERVAL_MAX ? INTERVAL_MAX : t;
}

/* (a − b) / 2^shift intervals as a share, within ±1. */
static int64_t share_of(dur_ns a, dur_ns b, dur_ns interval, unsigned shift)
{
    dur_ns gap = a > b ? a - b : b - a;
    if (gap >= interval << shift)
        return a > b ? ONE : -(int64_t)ONE;
    int64_t part = (int64_t)(gap * ONE / (interval << shift));
    return a > b ? part : -part;
}

/* What may be shed by level at all: the rest of what came is served whatever the delay. */
static uint32_t sheddable(const struct delay *d)
{
    uint64_t all = 0, low = 0;
    for (unsigned c = 0; c < CLASSES; c++) {
        all += d->usual[c];
        low += c < CLASS_IN_DIALOG ? d->usual[c] : 0;
    }
    return all == 0 ? ONE - ONE / 1024 : (uint32_t)(low * (ONE - ONE / 1024) / all);
}

static void pour(struct delay *d)
{
    uint64_t all = 0;
    for (unsigned c = 0; c < CLASSES; c++)
        all += d->usual[c];
    uint64_t left = all * d->shed; /* in ONEs of messages */
    for (unsigned c = 0; c < CLASS_IN_DIALOG; c++) {
        uint64_t of_class = (uint64_t)d->usual[c] * ONE;
        uint64_t part = left < of_class ? left : of_class;
        /* Of a class that did not come lately nothing is known: it goes with the one below it. */
        if (d->usual[c] > 0)
            d->drop[c] = (uint32_t)(part / d->usual[c]);
        else
            d->drop[c] = left > 0 ? ONE : 0;
        left -= part;
    }
}

static void steer(struct delay *d, dur_ns wait, dur_ns target, dur_ns interval)
{
    dur_ns excess = mono_since(wait, target);
    int64_t x = share_of(excess, d->excess, interval, 1) + share_of(wait, target, interval, 4);
    if (wait == 0)
        x -= ONE / 16;
    int64_t most = ONE / 2, least = -(int64_t)ONE / 4;
    x = x > most ? most : x < least ? least : x;
    int64_t admitted = (int64_t)(ONE - d->shed);
    admitted -= admitted * x / ONE;
    int64_t shed = (int64_t)ONE - admitted;
    int64_t cap = sheddable(d);
    d->shed = shed < 0 ? 0 : (uint32_t)(shed > cap ? cap : shed);
    d->excess = excess;
    d->wait = wait;
}

/* What neighbours are asked to keep back follows what is shed in spite of it, and leaks, so that
 * those who obey are never pressed out by those who do not:
 *
 *      told + ½ (shed × (1 − told) − ¼ told)                                                  */
static void review(struct delay *d, mono_ns now)
{
    uint32_t shed = d->reviewed > 0 ? (uint32_t)(d->shed_sum / d->reviewed) : 0;
    int64_t push = (int64_t)((uint64_t)shed * (ONE - d->told) / ONE);
    int64_t told = (int64_t)d->told + (push - (int64_t)d->told / 4) / 2;
    if (told < (int64_t)ONE / 100)
        told = shed > ONE / 100 ? told : 0;
    uint32_t before = d->told;
    d->told = (uint32_t)(told > TOLD_MAX ? TOLD_MAX : told);
    uint64_t seq = now / NS_US;
    if ((uint64_t)before * 100 / ONE != (uint64_t)d->told * 100 / ONE)
        d->told_seq = seq > d->told_seq ? seq : d->told_seq + 1;
    d->shed_sum = 0;
    d->reviewed = 0;
}

static void end_interval(struct delay *d, dur_ns wait, dur_ns target, dur_ns interval)
{
    for (unsigned c = 0; c < CLASSES; c++) {
        uint64_t came = (uint64_t)d->came[c] << 8;
        d->usual[c] =
            (uint32_t)((came < UINT32_MAX ? came : UINT32_MAX) / 4 + (uint64_t)d->usual[c] * 3 / 4);
        d->came[c] = 0;
    }
    steer(d, wait, target, interval);
    d->shed_sum += d->shed;
    d->reviewed++;
}

static void begin_interval(struct delay *d, mono_ns ends)
{
    for (unsigned i = 0; i < GUARD_QUEUES; i++)
        d->least[i] = MONO_NONE;
    d->interval_ends = ends;
}

/* The longest of the queues' shortest waits: the others are read all the while, and say nothing of
 * that one. */
static dur_ns standing(const struct delay *d)
{
    dur_ns most = 0;
    for (unsigned i = 0; i < GUARD_QUEUES; i++)
        if (d->least[i] != MONO_NONE && d->least[i] > most)
            most = d->least[i];
    return most;
}

/* To refuse costs a fifth of a call, most of it in the kernel: at five times the load that is all
 * the time there is. So when more than a quarter has to be refused for long, a share of new INVITEs
 * is dropped before it is read, as large as leaves about a quarter to refuse:
 *
 *      offered ──▶ kernel ── passes ──▶ read ── shed, 503 ──▶ worked on
 *                    └ dropped, unheard     └ an eighth to a quarter of what is read             */
static void steer_unheard(struct delay *d, mono_ns now)
{
    if (now < d->unheard_at)
        return;
    dur_ns steps = d->unheard_at == 0 ? 1 : 1 + (now - d->unheard_at) / UNHEARD_EVERY;
    uint32_t pass = ONE - d->unheard;
    for (dur_ns i = 0; i < steps && i < IDLE_STEPS_MAX; i++) {
        if (d->shed > ONE / 4)
            pass -= pass / 6;
        else if (d->shed < ONE / 8)
            pass += pass / 8 + 1;
        pass = pass < UNHEARD_PASS_MIN ? UNHEARD_PASS_MIN : pass > ONE ? ONE : pass;
    }
    d->unheard = ONE - pass;
    d->unheard_at = mono_add(now, UNHEARD_EVERY);
}

/* Ends the intervals that are over. A message that is read now and waited says that nobody was idle
 * since it came: a worker that stood still is not one with nothing to do. */
static void roll(struct guard *g, dur_ns waited, mono_ns now)
{
    struct delay *d = &g->delay;
    if (LIKELY(now < d->interval_ends))
        return;
    dur_ns interval = interval_of(g), target = g->opts->delay_target;
    if (d->interval_ends == 0) {
        begin_interval(d, mono_add(now, interval));
        d->review_at = mono_add(now, REVIEW_EVERY);
        return;
    }
    end_interval(d, standing(d), target, interval);
    dur_ns idle = mono_since(mono_since(now, waited), d->interval_ends) / interval;
    for (dur_ns i = 0; i < idle && i < IDLE_STEPS_MAX; i++) {
        steer(d, 0, target, interval);
        d->reviewed++;
        d->shed_sum += d->shed;
    }
    dur_ns reviews = now < d->review_at ? 0 : 1 + (now - d->review_at) / REVIEW_EVERY;
    for (dur_ns i = 0; i < reviews && i < IDLE_STEPS_MAX; i++)
        review(d, now);
    if (reviews > 0)
        d->review_at = mono_add(now, REVIEW_EVERY);
    steer_unheard(d, now);
    pour(d);
    begin_interval(d, mono_add(now, interval));
}

void guard_waited(struct guard *g, unsigned queue, dur_ns waited, mono_ns now)
{
    MUST(queue < GUARD_QUEUES);
    if (g->opts->delay_target == 0)
        return;
    roll(g, waited, now);
    if (waited < g->delay.least[queue])
        g->delay.least[queue] = waited;
}

/* Older than T1: over UDP it has been sent again and lies behind us in the queue, over a stream its
 * sender is about to give up. What is in a dialog waits longer, for its repeats are few and its
 * failure ends a call; what makes the load smaller, or saves a life, is worked on at any age. */
static bool is_too_old(const struct guard_opts *o, enum guard_class class, dur_ns waited)
{
    if (o->request_age_max == 0 || class >= CLASS_FINISHES)
        return false;
    if (class == CLASS_IN_DIALOG)
        return waited / IN_DIALOG_AGES > o->request_age_max;
    return waited > o->request_age_max;
}

static bool is_shed(struct guard *g, enum guard_class class, dur_ns waited)
{
    struct delay *d = &g->delay;
    if (is_too_old(g->opts, class, waited)) {
        g->count.aged++;
        return true;
    }
    if (g->opts->delay_target == 0 || d->shed == 0 || d->drop[class] == 0)
        return false;
    if (prng_below(&g->prng, ONE) >= d->drop[class])
        return false;
    g->count.shed[class]++;
    return true;
}

bool guard_sheds(struct guard *g, enum guard_class class, dur_ns waited, mono_ns now)
{
    if (g->opts->delay_target > 0)
        roll(g, waited, now);
    if ((unsigned)class >= CLASSES)
        return false;
    g->delay.came[class]++;
    if (is_shed(g, class, waited) && !g->opts->report_only)
        return true;
    if (class < CLASS_IN_DIALOG)
        line__admitted(g, class, now);
    return false;
}

uint32_t guard_unheard(struct guard *g, mono_ns now)
{
    const struct guard_opts *o = g->opts;
    if (o->delay_target == 0 || !o->drops_unheard || o->report_only)
        return 0;
    roll(g, 0, now);
    return g->delay.unheard << 12; /* 2^-20 to 2^-32 */
}

dur_ns guard_delay(const struct guard *g)
{
    return g->delay.wait;
}

uint32_t guard_shed_permille(const struct guard *g)
{
    return (uint32_t)(((uint64_t)g->delay.shed * 1000 + ONE / 2) / ONE);
}

uint32_t guard_loss_percent(const struct guard *g, uint64_t *ret_seq)
{
    *ret_seq = g->delay.told_seq;
    return (uint32_t)((uint64_t)g->delay.told * 100 / ONE);
}
