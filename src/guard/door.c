/* SPDX-License-Identifier: Apache-2.0
 *
 * Who comes in, and what is charged to whom: see guard.h.
 *
 * The pace of a transport is two buckets of half its tokens each, so that a flood of strangers
 * never takes all of them, and none is left unused:
 *
 *      known ─────▶ kept ───┐ empty ───▶ common          a stranger takes from what is kept only
 *      stranger ──▶ common ─┘ empty ───▶ kept, if full   what would run over
 *
 * Before accept() nobody knows who comes next: strangers wait in the backlog for a token that they
 * may take. Only while known ones are among those who come, we go on looking for them with the
 * tokens that are kept, and then a stranger hears GUARD_PACE. */
#include "guard/guard_int.h"

/* Known ones are looked for among strangers for this long after the last one. */
static const dur_ns looking = NS_S;

/* ---- this worker's share --------------------------------------------------------------------- */

static uint32_t root(uint32_t v)
{
    uint32_t r = 0;
    while ((uint64_t)(r + 1) * (r + 1) <= v)
        r++;
    return r;
}

/* The kernel spreads connections by chance: a source that keeps to its limit may have a few more
 * than its share here. Three times the usual deviation (1 in 1000) is let pass. */
static uint32_t share_of(uint32_t limit, uint32_t workers)
{
    if (limit == 0 || workers == 1)
        return limit;
    uint32_t share = limit / workers + (limit % workers != 0);
    uint64_t most = (uint64_t)share + 3 * (uint64_t)root(share);
    return most < limit ? (uint32_t)most : limit;
}

static struct rate connects_of(struct rate_opts o, uint32_t workers)
{
    struct rate r = rate_of(o.per_second, o.burst, workers);
    uint32_t burst = share_of(o.burst, workers);
    return (struct rate){r.every, burst > 0 ? burst : 1};
}

void door__adopt(struct guard *g)
{
    const struct guard_opts *o = g->opts;
    struct door *d = &g->door;
    uint32_t n = g->workers;
    d->connections_max = o->connections_max / n + (o->connections_max % n != 0);
    d->per_source_max = share_of(o->per_source_max, n);
    d->per_prefix_max = share_of(o->per_prefix_max, n);
    /* What was owed to another pace is forgiven. */
    memset(d->pace, 0, sizeof d->pace);
    d->handshakes_full_at = 0;
    for (unsigned i = 0; i < TP__COUNT; i++)
        d->half[i] = rate_of(o->accepts[i].per_second, o->accepts[i].burst, 2 * n);
    d->handshakes = rate_of(o->handshakes.per_second, o->handshakes.burst, n);
    for (unsigned i = 0; i < GUARD_WHATS; i++) {
        d->per_source[i] = rate_of(o->per_source[i].per_second, o->per_source[i].burst, 1);
        d->per_prefix[i] = rate_of(o->per_prefix[i].per_second, o->per_prefix[i].burst, 1);
    }
    d->per_source[GUARD_CONNECTS] = connects_of(o->per_source[GUARD_CONNECTS], n);
    d->per_prefix[GUARD_CONNECTS] = connects_of(o->per_prefix[GUARD_CONNECTS], n);
}

/* ---- pace ------------------------------------------------------------------------------------ */

static bool pace_take(struct pace *p, struct rate half, bool known, mono_ns now)
{
    if (known) {
        p->known_came = now;
        return rate_take(&p->kept_full_at, half, now) || rate_take(&p->common_full_at, half, now);
    }
    return rate_take(&p->common_full_at, half, now) ||
           (p->kept_full_at <= now && rate_take(&p->kept_full_at, half, now));
}

mono_ns guard_accept_at(const struct guard *g, uint8_t transport, mono_ns now)
{
    MUST(transport < TP__COUNT);
    const struct pace *p = &g->door.pace[transport];
    struct rate half = g->door.half[transport];
    if (g->opts->report_only || half.every == 0)
        return now;
    mono_ns at = rate_ready_at(p->common_full_at, half, now);
    at = mono_min(at, p->kept_full_at > now ? p->kept_full_at : now);
    if (p->known_came != 0 && mono_since(now, p->known_came) < looking)
        at = mono_min(at, rate_ready_at(p->kept_full_at, half, now));
    return at;
}

bool guard_handshake(struct guard *g, mono_ns now, mono_ns *ret_at)
{
    struct door *d = &g->door;
    if (rate_take(&d->handshakes_full_at, d->handshakes, now))
        return true;
    if (g->opts->report_only) {
        g->count.refused[GUARD_PACE]++;
        return true;
    }
    *ret_at = rate_ready_at(d->handshakes_full_at, d->handshakes, now);
    return false;
}

/* ---- connections ----------------------------------------------------------------------------- */

static bool has_token(mono_ns *full_at, struct rate r, mono_ns now)
{
    rate__settle(full_at, r, now);
    return rate_ready_at(*full_at, r, now) <= now;
}

/* What its own conduct and its neighbourhood say; takes nothing yet. */
static enum guard_why judge(struct guard *g, struct sight at, mono_ns now)
{
    const struct door *d = &g->door;
    struct source *self = at.self, *net = at.net;
    if (source__barred(g, at, true, now) != NULL)
        return GUARD_BANNED;
    if (self != NULL && d->per_source_max > 0 && self->connections >= d->per_source_max)
        return GUARD_SOURCE_FULL;
    if (net != NULL && d->per_prefix_max > 0 && net->connections >= d->per_prefix_max)
        return GUARD_PREFIX_FULL;
    if (self != NULL &&
        !has_token(&self->full_at[GUARD_CONNECTS], d->per_source[GUARD_CONNECTS], now))
        return GUARD_SOURCE_RATE;
    if (net != NULL && !(self != NULL && source__is_known(g, self, now)) &&
        !has_token(&net->full_at[GUARD_CONNECTS], d->per_prefix[GUARD_CONNECTS], now))
        return GUARD_PREFIX_RATE;
    return GUARD_FINE;
}

static void take_rates(struct guard *g, struct sight at, mono_ns now)
{
    const struct door *d = &g->door;
    if (at.self != NULL)
        (void)rate_take(&at.self->full_at[GUARD_CONNECTS], d->per_source[GUARD_CONNECTS], now);
    if (at.net != NULL)
        (void)rate_take(&at.net->full_at[GUARD_CONNECTS], d->per_prefix[GUARD_CONNECTS], now);
}

/* Counts the answer; it is another one in report-only mode. */
static enum guard_why answer(struct guard *g, struct sight at, enum guard_why why)
{
    g->count.refused[why]++;
    if (why == GUARD_FINE)
        return why;
    source__refused(at.self);
    if (why == GUARD_PREFIX_FULL || why == GUARD_PREFIX_RATE)
        source__refused(at.net);
    return g->opts->report_only ? GUARD_FINE : why;
}

static void over_rate(struct guard *g, enum guard_what what, enum guard_why why)
{
    g->count.over[what] += why == GUARD_SOURCE_RATE || why == GUARD_PREFIX_RATE;
}

enum guard_why guard_accept(struct guard *g, uint8_t transport, const struct addr *source,
                            mono_ns now)
{
    MUST(transport < TP__COUNT);
    struct door *d = &g->door;
    enum list_word word = list__word(g, source, now);
    source__review(g, now);
    if (word == LIST_DENIES) {
        g->count.refused[GUARD_DENIED]++;
        return GUARD_DENIED;
    }
    struct sight at = source__claim(g, source, WORTH_REAL, now);
    enum guard_why why = GUARD_FINE;
    if (word == LIST_SILENT) {
        why = judge(g, at, now);
        if (why != GUARD_BANNED && d->connections_max > 0 && d->connections >= d->connections_max)
            why = GUARD_FULL;
        bool known = at.self != NULL && source__is_known(g, at.self, now);
        if (why == GUARD_FINE && !pace_take(&d->pace[transport], d->half[transport], known, now))
            why = GUARD_PACE;
        if (why == GUARD_FINE)
            take_rates(g, at, now);
        over_rate(g, GUARD_CONNECTS, why);
    }
    if (why == GUARD_SOURCE_RATE || why == GUARD_SOURCE_FULL)
        held__refused(g, at.self, now);
    why = answer(g, at, why);
    if (why == GUARD_FINE) {
        d->connections++;
        source__connect(g, at.self);
        source__connect(g, at.net);
    }
    return why;
}

void guard_closed(struct guard *g, const struct addr *source)
{
    struct sight at = source__find(g, source);
    g->door.connections -= g->door.connections > 0;
    source__disconnect(g, at.self);
    source__disconnect(g, at.net);
}

void guard_known(struct guard *g, const struct addr *source, mono_ns now)
{
    source__know(g, source__claim(g, source, WORTH_KNOWN, now).self, now);
}

bool guard_is_known(const struct guard *g, const struct addr *source, mono_ns now)
{
    const struct source *self = source__find(g, source).self;
    return self != NULL && source__is_known(g, self, now);
}

/* ---- what they do ---------------------------------------------------------------------------- */

static enum guard_why refused(struct guard *g, const struct addr *source, bool proven, mono_ns now)
{
    enum list_word word = list__word(g, source, now);
    source__review(g, now);
    if (word == LIST_DENIES) {
        g->count.refused[GUARD_DENIED]++;
        return GUARD_DENIED;
    }
    if (word == LIST_ALLOWS || g->sources.bans_end <= source__tick(g, now))
        return GUARD_FINE;
    struct sight at = source__find(g, source);
    if (source__barred(g, at, proven, now) == NULL)
        return GUARD_FINE;
    return answer(g, at, GUARD_BANNED);
}

enum guard_why guard_refused(struct guard *g, const struct addr *source, mono_ns now)
{
    return refused(g, source, false, now);
}

enum guard_why guard_refused_connected(struct guard *g, const struct addr *source, mono_ns now)
{
    return refused(g, source, true, now);
}

/* What may be a pretence takes no more than the upper half of a neighbourhood's tokens. */
static bool net_take(mono_ns *full_at, struct rate r, bool proven, mono_ns now)
{
    struct rate half = {r.every, r.burst > 1 ? r.burst / 2 : 1};
    rate__settle(full_at, r, now);
    return (proven || rate_ready_at(*full_at, half, now) <= now) && rate_take(full_at, r, now);
}

/* Excess of unproven datagrams that a worker bears, of all sources together: to read it costs 1 %.
 */
static const struct rate bearable = {NS_S / 5000, 5000};

/* Of others the excess alone is refused: of who connects too often; of known ones, but for guessed
 * passwords: an office has one phone that is mad, and a hundred that are not; and of who may be a
 * pretence, unless it is a flood: a ban silences whoever it pretends to be. */
static bool earns_ban(struct guard *g, const struct source *self, enum guard_what what, bool proven,
                      mono_ns now)
{
    if (what == GUARD_CONNECTS)
        return false;
    if (!proven)
        return !rate_take(&g->door.excess_full_at, bearable, now);
    return what == GUARD_AUTH || !source__is_known(g, self, now);
}

static enum guard_why charge(struct guard *g, struct sight at, enum guard_what what, bool proven,
                             mono_ns now)
{
    const struct door *d = &g->door;
    if (source__barred(g, at, proven, now) != NULL)
        return GUARD_BANNED;
    if (at.self != NULL && !rate_take(&at.self->full_at[what], d->per_source[what], now)) {
        if (earns_ban(g, at.self, what, proven, now))
            source__ban(g, at.self, proven, now);
        return GUARD_SOURCE_RATE;
    }
    if (at.net == NULL || (at.self != NULL && source__is_known(g, at.self, now)) ||
        net_take(&at.net->full_at[what], d->per_prefix[what], proven, now))
        return GUARD_FINE;
    if (what != GUARD_CONNECTS && proven)
        source__ban(g, at.net, true, now);
    return GUARD_PREFIX_RATE;
}

enum guard_why guard_charge(struct guard *g, const struct addr *source, enum guard_what what,
                            bool proven, mono_ns now)
{
    MUST((unsigned)what < GUARD_WHATS);
    const struct door *d = &g->door;
    enum list_word word = list__word(g, source, now);
    source__review(g, now);
    if (word == LIST_DENIES) {
        g->count.refused[GUARD_DENIED]++;
        return GUARD_DENIED;
    }
    if (word == LIST_ALLOWS || (d->per_source[what].every == 0 && d->per_prefix[what].every == 0))
        return GUARD_FINE;
    struct sight at = source__claim(g, source, proven ? WORTH_REAL : WORTH_PRETENCE, now);
    enum guard_why why = charge(g, at, what, proven, now);
    over_rate(g, what, why);
    return why == GUARD_FINE ? why : answer(g, at, why);
}
