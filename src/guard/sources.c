/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of who sends: see guard.h.
 *
 *      hash ──▶ head   │ seen ×8 │ tag ×8 │ kind ×8 │ worth ×8 │    found or not: one cache line
 *           └─▶ all    │ source │ source │ … ×8                     and one more, asked for at the
 *                                                                   same time
 *
 * An address and its prefix are two places in the same table. Both are fetched at once, so that a
 * lookup waits for memory twice at most, however many sources there are. */
#include "guard/guard_int.h"

enum { KNOWN_HOURS = 24 };
/* Who was real and is not heard of for this long makes room like a pretence. */
static const uint32_t real_ticks = (uint32_t)(600 * NS_S >> SOURCE_TICK_SHIFT);

struct key {
    uint64_t net, hash;
    enum source_kind kind;
};

/* ---- memory ---------------------------------------------------------------------------------- */

/* Two places for each: its own and its prefix's. */
static uint32_t sets_for(const struct guard_limits *l)
{
    uint64_t places = 2 * (uint64_t)l->sources;
    return (uint32_t)(places / SOURCE_WAYS + 1);
}

size_t sources_memory(const struct guard_limits *l)
{
    size_t set = sizeof(struct source_head) + SOURCE_WAYS * sizeof(struct source);
    return sets_for(l) * set + 128;
}

int sources_init(struct sources *s, struct arena *mem, const struct guard_limits *l, mono_ns now)
{
    s->sets = sets_for(l);
    s->born = now;
    s->heads = arena_take(mem, s->sets * sizeof *s->heads, 64);
    s->all = arena_take(mem, (size_t)s->sets * SOURCE_WAYS * sizeof *s->all, 64);
    return s->heads != NULL && s->all != NULL ? 0 : -1;
}

/* ---- names and places ------------------------------------------------------------------------ */

static uint64_t bits_of(const struct addr *a, unsigned bits)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bits / 8; i++)
        v = v << 8 | a->ip[i];
    return v << (a->family == 6 ? 64 - bits : 32 - bits);
}

static struct key key_of(const struct guard *g, const struct addr *a, bool net)
{
    struct key k = {.kind = SOURCE_NONE};
    if (a->family == 4)
        k = (struct key){bits_of(a, net ? 24 : 32), 0, net ? SOURCE_NET4 : SOURCE_IP4};
    else if (a->family == 6)
        k = (struct key){bits_of(a, net ? 48 : 64), 0, net ? SOURCE_NET6 : SOURCE_IP6};
    uint64_t words[2] = {k.net, k.kind};
    k.hash = siphash(&g->seed, words, sizeof words);
    return k;
}

static uint32_t set_of(const struct sources *s, uint64_t hash)
{
    return (uint32_t)((hash >> 32) * s->sets >> 32);
}

static unsigned first_way(uint64_t hash)
{
    return (unsigned)(hash >> 16) & (SOURCE_WAYS - 1);
}

/* The places that may be its own, as bits; no branch to be foreseen wrongly. */
static unsigned matches(const struct source_head *h, const struct key *k)
{
    unsigned bits = 0;
    for (unsigned w = 0; w < SOURCE_WAYS; w++)
        bits |= (unsigned)((h->tag[w] == (uint16_t)k->hash) & (h->kind[w] == k->kind)) << w;
    return bits;
}

/* Asks memory for what both lookups will want, before either waits for it. */
static void fetch(const struct sources *s, const struct key *self, const struct key *net)
{
    size_t a = set_of(s, self->hash), b = set_of(s, net->hash);
    __builtin_prefetch(&s->heads[a], 1);
    __builtin_prefetch(&s->heads[b], 1);
    __builtin_prefetch(&s->all[a * SOURCE_WAYS + first_way(self->hash)], 1);
    __builtin_prefetch(&s->all[b * SOURCE_WAYS + first_way(net->hash)], 1);
    unsigned in_a = matches(&s->heads[a], self), in_b = matches(&s->heads[b], net);
    __builtin_prefetch(&s->all[a * SOURCE_WAYS + (unsigned)__builtin_ctz(in_a | 1U << 7)], 1);
    __builtin_prefetch(&s->all[b * SOURCE_WAYS + (unsigned)__builtin_ctz(in_b | 1U << 7)], 1);
}

static struct source_head *head_of(const struct sources *s, const struct source *x)
{
    return &s->heads[(size_t)(x - s->all) / SOURCE_WAYS];
}

static unsigned way_of(const struct sources *s, const struct source *x)
{
    return (unsigned)((size_t)(x - s->all) % SOURCE_WAYS);
}

static enum source_kind kind_of(const struct sources *s, const struct source *x)
{
    return (enum source_kind)head_of(s, x)->kind[way_of(s, x)];
}

enum source_kind source__kind(const struct guard *g, const struct source *x)
{
    return kind_of(&g->sources, x);
}

static bool is_net(enum source_kind kind)
{
    return kind == SOURCE_NET4 || kind == SOURCE_NET6;
}

uint32_t source__tick(const struct guard *g, mono_ns now)
{
    uint64_t tick = mono_since(now, g->sources.born) >> SOURCE_TICK_SHIFT;
    return tick < UINT32_MAX ? (uint32_t)tick : UINT32_MAX;
}

/* The tick by which `at` is over for sure. */
static uint32_t tick_after(const struct guard *g, mono_ns at)
{
    uint32_t tick = source__tick(g, at);
    return tick < UINT32_MAX ? tick + 1 : tick;
}

static uint32_t hour(const struct guard *g, mono_ns now)
{
    uint64_t h = mono_since(now, g->sources.born) / (3600 * NS_S);
    return h < UINT16_MAX ? (uint32_t)h : UINT16_MAX - 1;
}

/* ---- what a source is worth ------------------------------------------------------------------ */

bool source__is_known(const struct guard *g, const struct source *x, mono_ns now)
{
    return x->known_hours > hour(g, now);
}

bool source__is_banned(const struct guard *g, const struct source *x, bool proven, mono_ns now)
{
    return x->ban_ends > source__tick(g, now) && !(proven && (x->flags & SOURCE_BAN_BELOW));
}

static enum source_worth worth_now(const struct guard *g, const struct source *x, mono_ns now)
{
    const struct source_head *h = head_of(&g->sources, x);
    if (x->connections > 0 || source__is_banned(g, x, true, now))
        return WORTH_KEPT;
    if (source__is_known(g, x, now))
        return WORTH_KNOWN;
    uint32_t idle = source__tick(g, now) - h->seen[way_of(&g->sources, x)];
    if ((x->flags & SOURCE_PROVEN) && idle < real_ticks)
        return WORTH_REAL;
    return source__is_banned(g, x, false, now) ? WORTH_SILENCED : WORTH_PRETENCE;
}

/* The most that it can be worth until something is changed, for the head. */
static void weigh(struct guard *g, const struct source *x)
{
    enum source_worth w = WORTH_PRETENCE;
    if (x->connections > 0 || (x->ban_ends > 0 && !(x->flags & SOURCE_BAN_BELOW)))
        w = WORTH_KEPT;
    else if (x->known_hours > 0)
        w = WORTH_KNOWN;
    else if (x->flags & SOURCE_PROVEN)
        w = WORTH_REAL;
    else if (x->ban_ends > 0)
        w = WORTH_SILENCED;
    head_of(&g->sources, x)->worth[way_of(&g->sources, x)] = (uint8_t)w;
}

/* ---- find, and make room --------------------------------------------------------------------- */

static struct source *find(const struct sources *s, const struct key *k)
{
    uint32_t set = set_of(s, k->hash);
    struct source *all = &s->all[(size_t)set * SOURCE_WAYS];
    for (unsigned left = matches(&s->heads[set], k); left != 0; left &= left - 1) {
        struct source *x = &all[__builtin_ctz(left)];
        if (x->net == k->net)
            return x;
    }
    return NULL;
}

/* A free place, or of those that the head alone shows to be worth nothing the longest idle. */
static int cheap_place(const struct source_head *h, unsigned first, int spared, uint32_t tick)
{
    int found = -1;
    uint32_t longest = 0;
    for (unsigned i = 0, w = first; i < SOURCE_WAYS; i++, w = (w + 1) % SOURCE_WAYS) {
        if (h->kind[w] == SOURCE_NONE)
            return (int)w;
        if ((int)w == spared)
            continue;
        uint32_t idle = tick - h->seen[w];
        if (h->worth[w] != WORTH_PRETENCE && !(h->worth[w] == WORTH_REAL && idle >= real_ticks))
            continue;
        if (found < 0 || idle > longest) {
            found = (int)w;
            longest = idle;
        }
    }
    return found;
}

/* The least worthy that is worth no more than `worth`; of those the longest idle. */
static int dear_place(const struct guard *g, uint32_t set, enum source_worth worth, int spared,
                      mono_ns now)
{
    const struct source_head *h = &g->sources.heads[set];
    uint32_t tick = source__tick(g, now), longest = 0;
    enum source_worth least = WORTH_KEPT;
    int found = -1;
    for (unsigned w = 0; w < SOURCE_WAYS; w++) {
        const struct source *x = &g->sources.all[(size_t)set * SOURCE_WAYS + w];
        enum source_worth its = worth_now(g, x, now);
        uint32_t idle = tick - h->seen[w];
        if (its > worth || its > least || its == WORTH_KEPT || (int)w == spared)
            continue;
        if (found < 0 || its < least || idle > longest) {
            found = (int)w;
            least = its;
            longest = idle;
        }
    }
    return found;
}

/* `spared` makes no room: the prefix must not take the place of what it stands for. */
static struct source *claim(struct guard *g, const struct key *k, enum source_worth worth,
                            const struct source *spared, mono_ns now)
{
    struct sources *s = &g->sources;
    struct source *x = find(s, k);
    uint32_t set = set_of(s, k->hash), tick = source__tick(g, now);
    struct source_head *h = &s->heads[set];
    if (x == NULL) {
        int not_it = spared != NULL && head_of(s, spared) == h ? (int)way_of(s, spared) : -1;
        enum source_worth up_to = worth == WORTH_PRETENCE ? WORTH_SILENCED : worth;
        int w = cheap_place(h, first_way(k->hash), not_it, tick);
        if (w < 0)
            w = dear_place(g, set, up_to, not_it, now);
        if (w < 0)
            return NULL;
        if (h->kind[w] != SOURCE_NONE)
            g->count.sources_forgotten++;
        else
            s->used++;
        x = &s->all[(size_t)set * SOURCE_WAYS + (unsigned)w];
        *x = (struct source){.net = k->net};
        h->tag[w] = (uint16_t)k->hash;
        h->kind[w] = (uint8_t)k->kind;
        h->worth[w] = WORTH_PRETENCE;
    }
    h->seen[way_of(s, x)] = tick;
    if (worth >= WORTH_REAL && !(x->flags & SOURCE_PROVEN)) {
        x->flags |= SOURCE_PROVEN;
        weigh(g, x);
    }
    return x;
}

struct sight source__find(const struct guard *g, const struct addr *a)
{
    if (a->family != 4 && a->family != 6)
        return (struct sight){NULL, NULL};
    struct key self = key_of(g, a, false), net = key_of(g, a, true);
    fetch(&g->sources, &self, &net);
    return (struct sight){find(&g->sources, &self), find(&g->sources, &net)};
}

struct sight source__claim(struct guard *g, const struct addr *a, enum source_worth worth,
                           mono_ns now)
{
    if (a->family != 4 && a->family != 6)
        return (struct sight){NULL, NULL};
    struct key self = key_of(g, a, false), net = key_of(g, a, true);
    fetch(&g->sources, &self, &net);
    struct source *x = claim(g, &self, worth, NULL, now);
    /* A prefix is never known itself, and pushes out nobody who is. */
    worth = worth < WORTH_REAL ? worth : WORTH_REAL;
    return (struct sight){x, claim(g, &net, worth, x, now)};
}

/* ---- connections ----------------------------------------------------------------------------- */

static uint32_t *busy_place(struct guard *g, const struct source *x)
{
    unsigned row = is_net(kind_of(&g->sources, x));
    unsigned at = x->connections == 0 ? 0 : 32 - (unsigned)__builtin_clz(x->connections);
    return &g->sources.busy[row][at];
}

void source__connect(struct guard *g, struct source *x)
{
    if (x == NULL || x->connections == UINT32_MAX - 1)
        return;
    if (x->connections > 0)
        --*busy_place(g, x);
    x->connections++;
    ++*busy_place(g, x);
    if (x->connections == 1)
        weigh(g, x);
}

void source__disconnect(struct guard *g, struct source *x)
{
    if (x == NULL || x->connections == 0)
        return;
    --*busy_place(g, x);
    x->connections--;
    if (x->connections > 0)
        ++*busy_place(g, x);
    else
        weigh(g, x);
}

void source__refused(struct source *x)
{
    if (x != NULL && x->refused < UINT16_MAX)
        x->refused++;
}

void source__know(struct guard *g, struct source *x, mono_ns now)
{
    if (x == NULL)
        return;
    x->known_hours =
        (uint16_t)(hour(g, now) + KNOWN_HOURS + 1 < UINT16_MAX ? hour(g, now) + KNOWN_HOURS + 1
                                                               : UINT16_MAX);
    if (x->flags & SOURCE_BAN_BELOW) {
        x->flags &= (uint8_t)~SOURCE_BAN_BELOW;
        x->ban_ends = 0;
    }
    weigh(g, x);
}

/* ---- bans ------------------------------------------------------------------------------------ */

/* One step less for each ban_decay since the last ban's end. */
static unsigned level_now(const struct guard *g, const struct source *x, mono_ns now)
{
    uint32_t tick = source__tick(g, now);
    if (x->ban_level == 0 || x->ban_ends > tick)
        return x->ban_level;
    uint64_t quiet = (uint64_t)(tick - x->ban_ends) << SOURCE_TICK_SHIFT;
    uint64_t steps = g->opts->ban_decay > 0 ? quiet / g->opts->ban_decay : x->ban_level;
    return steps < x->ban_level ? x->ban_level - (unsigned)steps : 0;
}

static dur_ns doubled(dur_ns first, unsigned times, dur_ns max)
{
    while (times-- > 0 && first < max)
        first = first <= max / 2 ? first * 2 : max;
    return first < max ? first : max;
}

void source__ban(struct guard *g, struct source *x, bool proven, mono_ns now)
{
    const struct guard_opts *o = g->opts;
    if (x == NULL || o->ban_first == 0 || source__is_banned(g, x, proven, now))
        return;
    /* Who is known is not banned for what somebody may have sent in his name. */
    if (!proven && source__is_known(g, x, now))
        return;
    unsigned level = level_now(g, x, now);
    if (level == 0)
        x->persistence = 0;
    dur_ns max = o->ban_max > o->ban_first ? o->ban_max : o->ban_first;
    x->ban_ends = tick_after(g, mono_add(now, doubled(o->ban_first, proven ? level : 0, max)));
    x->ban_level = (uint8_t)(proven && level < 63 ? level + 1 : level);
    x->flags = (uint8_t)(proven ? x->flags & ~SOURCE_BAN_BELOW : x->flags | SOURCE_BAN_BELOW);
    if (x->ban_ends > g->sources.bans_end)
        g->sources.bans_end = x->ban_ends;
    g->count.bans++;
    weigh(g, x);
}

/* ---- the persistent --------------------------------------------------------------------------
 *
 * A short list beside the table, so that a filter in the kernel never makes a worker look through
 * all. A source comes to it at 64, 128, 256 … refusals, if there is room or somebody was refused
 * less often. A ban for pretences never does: the filter would stop the true one's connections. */

struct prefix source__prefix(const struct guard *g, const struct source *x)
{
    static const uint8_t bits[] = {0, 32, 64, 24, 48};
    enum source_kind kind = kind_of(&g->sources, x);
    struct prefix p = {.bits = bits[kind]};
    bool ip4 = kind == SOURCE_IP4 || kind == SOURCE_NET4;
    p.net.family = ip4 ? 4 : 6;
    (void)bytes_put_be(p.net.ip, x->net, ip4 ? 4 : 8);
    return p;
}

static struct source *by_prefix(const struct guard *g, const struct prefix *p)
{
    struct key k = key_of(g, &p->net, p->bits == 24 || p->bits == 48);
    struct source *x = find(&g->sources, &k);
    return x != NULL && (x->flags & SOURCE_PERSISTENT) ? x : NULL;
}

void source__review(struct guard *g, mono_ns now)
{
    struct sources *s = &g->sources;
    uint32_t left = 0, tick = source__tick(g, now);
    if (s->persistent_count == 0 || tick < s->persistent_ends)
        return;
    s->persistent_ends = UINT32_MAX;
    for (uint32_t i = 0; i < s->persistent_count; i++) {
        struct source *x = by_prefix(g, &s->persistent[i]);
        if (x == NULL)
            continue;
        if (!source__is_banned(g, x, false, now)) {
            x->flags &= (uint8_t)~SOURCE_PERSISTENT;
            continue;
        }
        s->persistent_ends = x->ban_ends < s->persistent_ends ? x->ban_ends : s->persistent_ends;
        s->persistent[left++] = s->persistent[i];
    }
    s->persistent_version += left != s->persistent_count;
    s->persistent_count = left;
}

/* What may be a pretence never takes the place of what is none. */
static uint32_t rank(const struct source *x)
{
    return x->persistence + ((x->flags & SOURCE_BAN_BELOW) ? 0 : UINT16_MAX + 1u);
}

static void enlist(struct guard *g, struct source *x, mono_ns now)
{
    struct sources *s = &g->sources;
    if ((x->flags & SOURCE_PERSISTENT) || !source__is_banned(g, x, false, now))
        return;
    source__review(g, now);
    uint32_t at = s->persistent_count;
    if (at == PERSISTENT_MAX) {
        struct source *least = x;
        for (uint32_t i = 0; i < PERSISTENT_MAX; i++) {
            struct source *y = by_prefix(g, &s->persistent[i]);
            if (y == NULL || rank(y) >= rank(least))
                continue;
            least = y;
            at = i;
        }
        if (least == x)
            return;
        least->flags &= (uint8_t)~SOURCE_PERSISTENT;
    } else if (s->persistent_count++ == 0) {
        s->persistent_ends = UINT32_MAX;
    }
    s->persistent[at] = source__prefix(g, x);
    s->persistent_ends = x->ban_ends < s->persistent_ends ? x->ban_ends : s->persistent_ends;
    x->flags |= SOURCE_PERSISTENT;
    s->persistent_version++;
}

uint64_t guard_persistent_version(const struct guard *g)
{
    return g->sources.persistent_version + g->lists.persistent_version + g->helds.version;
}

/* Puts it where it belongs by its count; the least falls off the end. */
static unsigned insert(struct prefix *to, uint64_t *counts, unsigned n, unsigned max,
                       const struct prefix *p, uint64_t count)
{
    unsigned at = n;
    while (at > 0 && counts[at - 1] < count)
        at--;
    if (at == max)
        return n;
    if (n == max)
        n--;
    for (unsigned i = n; i > at; i--) {
        to[i] = to[i - 1];
        counts[i] = counts[i - 1];
    }
    to[at] = *p;
    counts[at] = count;
    return n + 1;
}

static bool touches(const struct prefix *p, const struct prefix *q)
{
    return p->bits <= q->bits ? prefix_holds(p, &q->net) : prefix_holds(q, &p->net);
}

/* Until when all of it is denied. */
static mono_ns denied_until(const struct list *l, const struct prefix *p, mono_ns now)
{
    mono_ns until = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        const struct list_item *item = &l->item[i];
        if (item->until <= now || item->at.bits < p->bits || !prefix_holds(p, &item->at.net))
            continue;
        if (!item->deny)
            return 0;
        if (item->at.bits == p->bits)
            until = item->until;
    }
    return until;
}

/* Is somebody in it who does not feel its ban? In a neighbourhood those are all who are known. */
static bool spares_some(const struct guard *g, const struct prefix *p, mono_ns now)
{
    const struct list *l = &g->lists.operators, *exempt = &g->lists.exempt;
    if (p->bits != 32 && p->bits != 64)
        return true;
    for (uint32_t i = 0; i < l->count; i++)
        if (!l->item[i].deny && l->item[i].until > now && touches(&l->item[i].at, p))
            return true;
    for (uint32_t i = 0; i < exempt->count; i++)
        if (touches(&exempt->item[i].at, p))
            return true;
    return false;
}

static unsigned persistent(const struct guard *g, bool proven, struct prefix *ret_prefixes,
                           unsigned max, mono_ns now)
{
    uint64_t counts[PERSISTENT_MAX + LIST_ITEMS_MAX];
    unsigned n = 0;
    if (max > PERSISTENT_MAX + LIST_ITEMS_MAX)
        max = PERSISTENT_MAX + LIST_ITEMS_MAX;
    const struct list *l = &g->lists.operators;
    for (uint32_t i = 0; i < l->count; i++) {
        const struct list_item *item = &l->item[i];
        if (item->deny && denied_until(l, &item->at, now) > 0 && item->refused >= PERSISTENT_FROM)
            n = insert(ret_prefixes, counts, n, max, &item->at, item->refused);
    }
    for (uint32_t i = 0; !g->opts->report_only && i < g->sources.persistent_count; i++) {
        const struct prefix *p = &g->sources.persistent[i];
        const struct source *x = by_prefix(g, p);
        if (x != NULL && source__is_banned(g, x, proven, now) && !spares_some(g, p, now))
            n = insert(ret_prefixes, counts, n, max, p, x->persistence);
    }
    return n;
}

unsigned guard_persistent(const struct guard *g, struct prefix *ret_prefixes, unsigned max,
                          mono_ns now)
{
    unsigned n = persistent(g, true, ret_prefixes, max, now);
    return n + held__list(g, ret_prefixes + n, max - n, now);
}

unsigned guard_persistent_datagrams(const struct guard *g, struct prefix *ret_prefixes,
                                    unsigned max, mono_ns now)
{
    return persistent(g, false, ret_prefixes, max, now);
}

/* The same of its ban, which nobody feels who is allowed or exempt. */
static mono_ns banned_until(const struct guard *g, const struct prefix *p, mono_ns now)
{
    const struct source *x = by_prefix(g, p);
    if (x == NULL || g->opts->report_only || !source__is_banned(g, x, true, now) ||
        p->bits != source__prefix(g, x).bits || spares_some(g, p, now))
        return 0;
    return mono_add(g->sources.born, (dur_ns)x->ban_ends << SOURCE_TICK_SHIFT);
}

mono_ns guard_persistent_until(const struct guard *g, const struct prefix *p, mono_ns now)
{
    mono_ns denied = denied_until(&g->lists.operators, p, now), banned = banned_until(g, p, now);
    return denied > banned ? denied : banned;
}

struct source *source__barred(struct guard *g, struct sight at, bool proven, mono_ns now)
{
    struct source *x = NULL;
    if (at.self != NULL && source__is_banned(g, at.self, proven, now))
        x = at.self;
    else if (at.net != NULL && source__is_banned(g, at.net, proven, now) &&
             (at.self == NULL || !source__is_known(g, at.self, now)))
        x = at.net;
    if (x == NULL)
        return NULL;
    head_of(&g->sources, x)->seen[way_of(&g->sources, x)] = source__tick(g, now);
    if (x->persistence < UINT16_MAX)
        x->persistence++;
    if (x->persistence >= PERSISTENT_FROM && (x->persistence & (x->persistence - 1)) == 0)
        enlist(g, x, now);
    return x;
}

/* ---- forget ---------------------------------------------------------------------------------- */

static void forget_one(struct guard *g, struct source *x)
{
    struct sources *s = &g->sources;
    struct source left = {
        .net = x->net,
        .connections = x->connections,
        .known_hours = x->known_hours,
        .flags = x->flags & SOURCE_PROVEN,
    };
    *x = left;
    if (left.connections > 0 || left.known_hours > 0) {
        weigh(g, x);
        return;
    }
    head_of(s, x)->kind[way_of(s, x)] = SOURCE_NONE;
    s->used--;
}

void source__forget(struct guard *g, const struct prefix *p)
{
    struct sources *s = &g->sources;
    for (size_t i = 0; i < (size_t)s->sets * SOURCE_WAYS; i++) {
        enum source_kind kind = kind_of(s, &s->all[i]);
        bool ip4 = kind == SOURCE_IP4 || kind == SOURCE_NET4;
        if (kind == SOURCE_NONE || ip4 != (p->net.family == 4))
            continue;
        struct prefix of = source__prefix(g, &s->all[i]);
        if (touches(p, &of))
            forget_one(g, &s->all[i]);
    }
    /* Who stands among the persistent is not banned any more. */
    s->persistent_ends = 0;
}
