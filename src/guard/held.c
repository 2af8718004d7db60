/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources that are held off. A connection that is refused costs an accept and a close all the same,
 * so one that goes on and on is worth a filter in the kernel: for some seconds its SYNs are dropped
 * there. TCP sends them again after 1, 2, 4 s, and the bucket fills meanwhile, so that a crowd
 * behind one address gets in as many as its rate allows, in portions:
 *
 *      refused │▓▓▓▓ 64 within a second ─▶ held: half of what fills the bucket, 1 to 5 s ─▶ again
 */
#include "guard/guard_int.h"

#define WITHIN  NS_S
#define HOLD_LE (5 * NS_S)
#define HOLD_GE NS_S

enum { HELD_FROM = 64 };

static bool same(const struct prefix *a, const struct prefix *b)
{
    return a->bits == b->bits && addr_same_host(&a->net, &b->net);
}

/* Its place, or the one that is worth least: not held, and longest ago. NULL: all are held. */
static struct held *place_of(struct helds *h, const struct prefix *p, mono_ns now)
{
    struct held *least = NULL;
    for (unsigned i = 0; i < HELD_MAX; i++) {
        struct held *x = &h->at[i];
        if (same(&x->prefix, p))
            return x;
        if (x->until <= now && (least == NULL || x->since < least->since))
            least = x;
    }
    if (least != NULL)
        *least = (struct held){.prefix = *p, .since = now};
    return least;
}

static dur_ns span(struct rate r)
{
    dur_ns half = r.every * r.burst / 2;
    return half < HOLD_GE ? HOLD_GE : half > HOLD_LE ? HOLD_LE : half;
}

void held__refused(struct guard *g, const struct source *x, mono_ns now)
{
    if (x == NULL || g->opts->report_only)
        return;
    struct prefix p = source__prefix(g, x);
    struct held *h = place_of(&g->helds, &p, now);
    if (h == NULL || h->until > now)
        return;
    if (mono_since(now, h->since) > WITHIN) {
        h->since = now;
        h->refused = 0;
    }
    if (++h->refused < HELD_FROM)
        return;
    h->refused = 0;
    h->until = mono_add(now, span(g->door.per_source[GUARD_CONNECTS]));
    g->helds.version++;
}

unsigned held__list(const struct guard *g, struct prefix *ret_prefixes, unsigned max, mono_ns now)
{
    unsigned n = 0;
    for (unsigned i = 0; !g->opts->report_only && i < HELD_MAX && n < max; i++)
        if (g->helds.at[i].until > now)
            ret_prefixes[n++] = g->helds.at[i].prefix;
    return n;
}
