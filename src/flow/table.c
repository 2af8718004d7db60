/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of stream connections.
 *
 *      accepted: by the driver's slot        opened: a slab of ours, found by (transport, peer,
 *      ┌───┬───┬───┬───┐                     whom we expect)
 *      │   │   │   │   │                     map ──▶ flow ──next──▶ flow   (several to one peer)
 *      └───┴───┴───┴───┘
 *        ▲       ▲
 *        └───────┴── map of aliases: what the flow's certificate proves
 * Accepted connections are never found by their address: only by their id, or by an alias. */
#include "flow/flow.h"

enum {
    BACKOFF_SETS = 64,
    BACKOFF_WAYS = 4,
    IDLE_LOOKS = 64,
    NAMES_MAX = 4096,
    ALIAS_LOOKS = 8,
    PING_CELLS = 1024, /* a second each; more than FLOW_PING_AHEAD_S */
};

static const dur_ns backoff_first = 100 * NS_MS, backoff_max = 5 * NS_S;

struct backoff {
    mono_ns until;
    uint32_t tag; /* high bits of the peer's hash */
    uint32_t failures;
};

struct flow_name {
    uint64_t alias[FLOW_ALIASES_MAX];
    uint8_t aliases;
    uint8_t n;
    char text[FLOW_NAME_BYTES_MAX];
};

struct flows {
    struct flow *accepted;
    uint32_t accepted_max, accepted_live, accepted_high;
    struct slab opened;
    struct map by_peer;
    struct hash_seed seed;
    uint32_t worker;
    uint32_t idle_at; /* where flow_idle() goes on to look */
    uint64_t next_gen;
    struct backoff backoff[BACKOFF_SETS * BACKOFF_WAYS];
    struct slab names;
    struct map by_alias;  /* alias → slot of an accepted flow */
    uint64_t ping_second; /* up to this one all pings were taken */
    uint32_t ping_armed;
    uint64_t ping_used[PING_CELLS / 64]; /* cells that hold flows */
    uint32_t ping_cell[PING_CELLS];      /* slot of the first flow; FLOW_END: none */
};

static uint32_t names_max(uint32_t accepted_max)
{
    return accepted_max < NAMES_MAX ? accepted_max : NAMES_MAX;
}

size_t flows_memory(uint32_t accepted_max, uint32_t opened_max)
{
    return sizeof(struct flows) + sizeof(struct flow) * accepted_max +
           slab_memory(sizeof(struct flow), opened_max) + map_memory(opened_max) +
           slab_memory(sizeof(struct flow_name), names_max(accepted_max)) +
           map_memory(names_max(accepted_max)) + 256;
}

struct flows *flows_new(struct arena *mem, uint32_t accepted_max, uint32_t opened_max,
                        struct hash_seed seed, uint32_t worker)
{
    struct flows *f = ARENA_NEW(mem, struct flows);
    if (f == NULL)
        return NULL;
    f->accepted = ARENA_ARRAY(mem, struct flow, accepted_max);
    if (f->accepted == NULL || slab_init(&f->opened, mem, sizeof(struct flow), opened_max) != 0 ||
        map_init(&f->by_peer, mem, opened_max) != 0 ||
        slab_init(&f->names, mem, sizeof(struct flow_name), names_max(accepted_max)) != 0 ||
        map_init(&f->by_alias, mem, names_max(accepted_max)) != 0)
        return NULL;
    f->accepted_max = accepted_max;
    f->seed = seed;
    f->worker = worker;
    memset(f->ping_cell, 0xff, sizeof f->ping_cell);
    /* A token may outlive the process that made it: generations begin somewhere else each time. */
    f->next_gen = siphash(&seed, "generation", 10) >> 1 | 1;
    return f;
}

static uint64_t peer_hash(const struct flows *f, const struct addr *peer, uint8_t transport,
                          uint64_t expects)
{
    struct slice parts[3] = {slice_of(peer, sizeof *peer), slice_of(&transport, 1),
                             slice_of(&expects, sizeof expects)};
    return siphash_parts(&f->seed, parts, 3);
}

static uint64_t hash_of(const struct flows *f, const struct flow *w)
{
    return peer_hash(f, &w->peer, w->transport, w->expects);
}

static void flow_fill(struct flow *w, struct flow_id id, const struct addr *peer, uint8_t listener,
                      uint8_t transport, uint8_t side, mono_ns now)
{
    memset(w, 0, sizeof *w);
    w->id = id;
    w->peer = *peer;
    w->listener = listener;
    w->transport = transport;
    w->side = side;
    w->users = FLOW_END;
    w->askers = FLOW_END;
    w->opened_s = (uint32_t)(now / NS_S);
    w->ping_cell = FLOW_PING_NONE;
    w->last_in = now;
}

struct flow *flow_accepted(struct flows *f, struct flow_id id, const struct addr *peer,
                           uint8_t listener, uint8_t transport, uint8_t side, mono_ns now)
{
    MUST(id.gen != 0 && (id.slot & FLOW_OUT) == 0);
    if (id.slot >= f->accepted_max)
        return NULL;
    struct flow *w = &f->accepted[id.slot];
    MUST(w->id.gen == 0);
    flow_fill(w, id, peer, listener, transport, side, now);
    f->accepted_live++;
    if (id.slot >= f->accepted_high)
        f->accepted_high = id.slot + 1;
    return w;
}

struct flow *flow_open(struct flows *f, const struct addr *peer, uint8_t listener,
                       uint8_t transport, uint8_t side, uint64_t expects, mono_ns now)
{
    handle h;
    struct flow *w = slab_take(&f->opened, &h);
    if (w == NULL)
        return NULL;
    struct flow_id id = {f->next_gen++, h.slot | FLOW_OUT, f->worker};
    flow_fill(w, id, peer, listener, transport, side, now);
    w->connecting = true;
    w->expects = expects;
    if (map_add(&f->by_peer, hash_of(f, w), h.slot) != 0) {
        slab_release(&f->opened, w);
        return NULL;
    }
    return w;
}

static struct flow *opened_at(const struct flows *f, uint32_t slot)
{
    handle h = {slot, slot < f->opened.count ? f->opened.gen[slot] : 0};
    return slab_get(&f->opened, h);
}

struct flow *flow_get(struct flows *f, struct flow_id id)
{
    if (id.gen == 0 || id.worker != f->worker)
        return NULL;
    struct flow *w = NULL;
    if (id.slot & FLOW_OUT)
        w = opened_at(f, id.slot & ~(uint32_t)FLOW_OUT);
    else if (id.slot < f->accepted_max)
        w = &f->accepted[id.slot];
    return w != NULL && w->id.gen == id.gen ? w : NULL;
}

struct flow *flow_to(struct flows *f, const struct addr *peer, uint8_t transport, uint64_t expects,
                     uint32_t *ret_count)
{
    struct flow *best = NULL;
    uint32_t count = 0, cursor = MAP_END, slot;
    uint64_t hash = peer_hash(f, peer, transport, expects);
    while ((slot = map_find(&f->by_peer, hash, &cursor)) != MAP_END) {
        struct flow *w = opened_at(f, slot);
        if (w == NULL || w->closing || w->transport != transport || w->expects != expects ||
            !addr_equal(&w->peer, peer))
            continue;
        count++;
        if (best == NULL || w->open < best->open)
            best = w;
    }
    *ret_count = count;
    return best;
}

struct flow *flow_idle(struct flows *f)
{
    struct flow *idle = NULL;
    for (unsigned i = 0; i < IDLE_LOOKS && i < f->opened.count; i++) {
        f->idle_at = (f->idle_at + 1) % f->opened.count;
        struct flow *w = opened_at(f, f->idle_at);
        if (w == NULL || w->connecting || w->closing || w->users != FLOW_END ||
            w->askers != FLOW_END)
            continue;
        if (idle == NULL || w->last_in < idle->last_in)
            idle = w;
    }
    return idle;
}

/* ---- names ----------------------------------------------------------------------------------- */

static struct flow_name *name_at(const struct flows *f, uint16_t name)
{
    if (name == 0)
        return NULL;
    uint32_t slot = name - 1u;
    handle h = {slot, slot < f->names.count ? f->names.gen[slot] : 0};
    return slab_get(&f->names, h);
}

static void name_release(struct flows *f, struct flow *w)
{
    struct flow_name *name = name_at(f, w->name);
    w->name = 0;
    if (name == NULL)
        return;
    for (unsigned i = 0; i < name->aliases; i++)
        (void)map_remove(&f->by_alias, name->alias[i], w->id.slot);
    slab_release(&f->names, name);
}

void flow_set_name(struct flows *f, struct flow *w, struct slice name)
{
    name_release(f, w);
    handle h;
    if (name.n > FLOW_NAME_BYTES_MAX) { /* what is cut in two would be a name of somebody else */
        name.n = FLOW_NAME_BYTES_MAX + 1;
        while (name.n > 0 && name.p[name.n - 1] != ' ')
            name.n--;
        name.n -= name.n > 0;
    }
    struct flow_name *at = name.n > 0 ? slab_take(&f->names, &h) : NULL;
    if (at == NULL)
        return;
    at->aliases = 0;
    at->n = (uint8_t)name.n;
    memcpy(at->text, name.p, at->n);
    w->name = (uint16_t)(h.slot + 1);
}

struct slice flow_name(const struct flows *f, const struct flow *w)
{
    const struct flow_name *at = name_at(f, w->name);
    return at != NULL ? slice_of(at->text, at->n) : SLICE_NONE;
}

/* ---- aliases --------------------------------------------------------------------------------- */

static bool has_alias(const struct flow_name *name, uint64_t alias)
{
    for (unsigned i = 0; i < name->aliases; i++)
        if (name->alias[i] == alias)
            return true;
    return false;
}

void flow_add_alias(struct flows *f, struct flow *w, uint64_t alias)
{
    struct flow_name *name = name_at(f, w->name);
    if (name == NULL || (w->id.slot & FLOW_OUT) != 0 || name->aliases == FLOW_ALIASES_MAX ||
        has_alias(name, alias) || map_add(&f->by_alias, alias, w->id.slot) != 0)
        return;
    name->alias[name->aliases++] = alias;
}

unsigned flow_aliases(const struct flows *f, const struct flow *w)
{
    const struct flow_name *name = name_at(f, w->name);
    return name != NULL ? name->aliases : 0;
}

struct flow *flow_of_alias(struct flows *f, uint64_t alias)
{
    struct flow *best = NULL;
    uint32_t cursor = MAP_END, slot;
    for (unsigned i = 0; i < ALIAS_LOOKS; i++) {
        slot = map_find(&f->by_alias, alias, &cursor);
        if (slot == MAP_END)
            break;
        struct flow *w = &f->accepted[slot];
        const struct flow_name *name = name_at(f, w->name);
        if (name == NULL || !has_alias(name, alias) || w->closing)
            continue;
        if (best == NULL || w->last_in > best->last_in)
            best = w;
    }
    return best;
}

/* ---- pings -------------------------------------------------------------------------------------
 *
 *      ping_cell   … │ 17 │ 18 │ 19 │ …        second mod PING_CELLS
 *                      │         └─▶ flow 5 ⇄ flow 91
 *                      └─▶ flow 7                                        */

static void ping_disarm(struct flows *f, struct flow *w)
{
    uint16_t cell = w->ping_cell;
    if (cell == FLOW_PING_NONE)
        return;
    if (w->ping_prev != FLOW_END)
        f->accepted[w->ping_prev].ping_next = w->ping_next;
    else
        f->ping_cell[cell] = w->ping_next;
    if (w->ping_next != FLOW_END)
        f->accepted[w->ping_next].ping_prev = w->ping_prev;
    if (f->ping_cell[cell] == FLOW_END)
        f->ping_used[cell / 64] &= ~(1ULL << cell % 64);
    w->ping_cell = FLOW_PING_NONE;
    f->ping_armed--;
}

void flow_ping_in(struct flows *f, struct flow *w, uint32_t seconds, mono_ns now)
{
    MUST((w->id.slot & FLOW_OUT) == 0);
    ping_disarm(f, w);
    if (f->ping_armed == 0)
        f->ping_second = now / NS_S;
    uint32_t ahead = seconds < FLOW_PING_AHEAD_S ? seconds : FLOW_PING_AHEAD_S;
    uint64_t second = now / NS_S + (ahead > 0 ? ahead : 1);
    if (second - f->ping_second >= PING_CELLS) /* those that are due were not taken yet */
        second = f->ping_second + PING_CELLS - 1;
    uint16_t cell = (uint16_t)(second % PING_CELLS);
    w->ping_cell = cell;
    w->ping_prev = FLOW_END;
    w->ping_next = f->ping_cell[cell];
    if (w->ping_next != FLOW_END)
        f->accepted[w->ping_next].ping_prev = w->id.slot;
    f->ping_cell[cell] = w->id.slot;
    f->ping_used[cell / 64] |= 1ULL << cell % 64;
    f->ping_armed++;
}

/* The first second after `ping_second` that has a flow in it. */
static uint64_t ping_first(const struct flows *f)
{
    uint64_t second = f->ping_second + 1;
    for (unsigned i = 0; i <= PING_CELLS / 64; i++) {
        unsigned cell = (unsigned)(second % PING_CELLS);
        uint64_t word = f->ping_used[cell / 64] >> cell % 64;
        if (word != 0)
            return second + (unsigned)__builtin_ctzll(word);
        second += 64 - cell % 64;
    }
    return second;
}

struct flow *flow_ping_due(struct flows *f, mono_ns now)
{
    if (f->ping_armed == 0)
        return NULL;
    uint64_t second = ping_first(f);
    if (second > now / NS_S) {
        f->ping_second = now / NS_S;
        return NULL;
    }
    f->ping_second = second - 1;
    struct flow *w = &f->accepted[f->ping_cell[second % PING_CELLS]];
    ping_disarm(f, w);
    return w;
}

mono_ns flow_ping_deadline(const struct flows *f)
{
    return f->ping_armed > 0 ? ping_first(f) * NS_S : MONO_NONE;
}

void flow_forget(struct flows *f, struct flow *flow)
{
    if (flow == NULL)
        return;
    name_release(f, flow);
    if (flow->id.slot & FLOW_OUT) {
        uint32_t slot = flow->id.slot & ~(uint32_t)FLOW_OUT;
        (void)map_remove(&f->by_peer, hash_of(f, flow), slot);
        slab_release(&f->opened, flow);
        return;
    }
    ping_disarm(f, flow);
    memset(flow, 0, sizeof *flow);
    f->accepted_live--;
}

/* The entry of a peer; NULL when it has none. */
static struct backoff *backoff_of(const struct flows *f, uint64_t hash)
{
    struct backoff *set = (struct backoff *)&f->backoff[hash % BACKOFF_SETS * BACKOFF_WAYS];
    for (unsigned i = 0; i < BACKOFF_WAYS; i++)
        if (set[i].failures > 0 && set[i].tag == (uint32_t)(hash >> 32))
            return &set[i];
    return NULL;
}

/* A new entry: in the place of the one that is over first. */
static struct backoff *backoff_new(struct flows *f, uint64_t hash)
{
    struct backoff *set = &f->backoff[hash % BACKOFF_SETS * BACKOFF_WAYS], *oldest = set;
    for (unsigned i = 1; i < BACKOFF_WAYS; i++)
        if (set[i].until < oldest->until)
            oldest = &set[i];
    *oldest = (struct backoff){.tag = (uint32_t)(hash >> 32)};
    return oldest;
}

bool flow_may_connect(const struct flows *f, const struct addr *peer, uint8_t transport,
                      uint64_t expects, mono_ns now)
{
    const struct backoff *b = backoff_of(f, peer_hash(f, peer, transport, expects));
    return b == NULL || now >= b->until;
}

void flow_connect_result(struct flows *f, const struct flow *w, bool connected, mono_ns now)
{
    uint64_t hash = hash_of(f, w);
    struct backoff *b = backoff_of(f, hash);
    if (connected) {
        if (b != NULL)
            *b = (struct backoff){0};
        return;
    }
    if (b == NULL)
        b = backoff_new(f, hash);
    dur_ns wait = b->failures < 6 ? backoff_first << b->failures : backoff_max;
    b->until = mono_add(now, wait < backoff_max ? wait : backoff_max);
    if (b->failures < UINT32_MAX)
        b->failures++;
}

struct flow *flow_next(struct flows *f, uint32_t *cursor)
{
    for (; *cursor < f->accepted_high; (*cursor)++)
        if (f->accepted[*cursor].id.gen != 0)
            return &f->accepted[(*cursor)++];
    uint32_t at = *cursor - f->accepted_high;
    struct flow *w = slab_next(&f->opened, &at);
    *cursor = at + f->accepted_high;
    return w;
}

uint32_t flows_live(const struct flows *f)
{
    return f->accepted_live + f->opened.live;
}
