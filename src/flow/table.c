/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of stream connections.
 *
 *      accepted: by the driver's slot        opened: a slab of ours, found by (transport, peer)
 *      ┌───┬───┬───┬───┐                     map ──▶ flow ──next──▶ flow   (several to one peer)
 *      │   │   │   │   │
 *      └───┴───┴───┴───┘
 * Accepted connections are never found by their address: only by their id. */
#include "flow/flow.h"

enum { BACKOFF_SETS = 64, BACKOFF_WAYS = 4, IDLE_LOOKS = 64 };

static const dur_ns backoff_first = 100 * NS_MS, backoff_max = 5 * NS_S;

struct backoff {
    mono_ns until;
    uint32_t tag; /* high bits of the peer's hash */
    uint32_t failures;
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
};

size_t flows_memory(uint32_t accepted_max, uint32_t opened_max)
{
    return sizeof(struct flows) + sizeof(struct flow) * accepted_max +
           slab_memory(sizeof(struct flow), opened_max) + map_memory(opened_max) + 256;
}

struct flows *flows_new(struct arena *mem, uint32_t accepted_max, uint32_t opened_max,
                        struct hash_seed seed, uint32_t worker)
{
    struct flows *f = ARENA_NEW(mem, struct flows);
    if (f == NULL)
        return NULL;
    f->accepted = ARENA_ARRAY(mem, struct flow, accepted_max);
    if (f->accepted == NULL || slab_init(&f->opened, mem, sizeof(struct flow), opened_max) != 0 ||
        map_init(&f->by_peer, mem, opened_max) != 0)
        return NULL;
    f->accepted_max = accepted_max;
    f->seed = seed;
    f->worker = worker;
    /* A token may outlive the process that made it: generations begin somewhere else each time. */
    f->next_gen = siphash(&seed, "generation", 10) >> 1 | 1;
    return f;
}

static uint64_t peer_hash(const struct flows *f, const struct addr *peer, uint8_t transport)
{
    struct slice parts[2] = {slice_of(peer, sizeof *peer), slice_of(&transport, 1)};
    return siphash_parts(&f->seed, parts, 2);
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
    w->next = FLOW_END;
    w->users = FLOW_END;
    w->askers = FLOW_END;
    w->opened = now;
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
                       uint8_t transport, uint8_t side, mono_ns now)
{
    handle h;
    struct flow *w = slab_take(&f->opened, &h);
    if (w == NULL)
        return NULL;
    struct flow_id id = {f->next_gen++, h.slot | FLOW_OUT, f->worker};
    flow_fill(w, id, peer, listener, transport, side, now);
    w->connecting = true;
    if (map_add(&f->by_peer, peer_hash(f, peer, transport), h.slot) != 0) {
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

struct flow *flow_to(struct flows *f, const struct addr *peer, uint8_t transport,
                     uint32_t *ret_count)
{
    struct flow *best = NULL;
    uint32_t count = 0, cursor = MAP_END, slot;
    uint64_t hash = peer_hash(f, peer, transport);
    while ((slot = map_find(&f->by_peer, hash, &cursor)) != MAP_END) {
        struct flow *w = opened_at(f, slot);
        if (w == NULL || w->closing || w->transport != transport || !addr_equal(&w->peer, peer))
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

void flow_forget(struct flows *f, struct flow *flow)
{
    if (flow == NULL)
        return;
    if (flow->id.slot & FLOW_OUT) {
        uint32_t slot = flow->id.slot & ~(uint32_t)FLOW_OUT;
        (void)map_remove(&f->by_peer, peer_hash(f, &flow->peer, flow->transport), slot);
        slab_release(&f->opened, flow);
        return;
    }
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
                      mono_ns now)
{
    const struct backoff *b = backoff_of(f, peer_hash(f, peer, transport));
    return b == NULL || now >= b->until;
}

void flow_connect_result(struct flows *f, const struct addr *peer, uint8_t transport,
                         bool connected, mono_ns now)
{
    uint64_t hash = peer_hash(f, peer, transport);
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
