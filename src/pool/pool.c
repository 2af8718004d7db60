/* SPDX-License-Identifier: Apache-2.0
 *
 * Boot, adoption of a configuration, look-up, admin states and notices. */
#include "pool/pool_int.h"

/* Fixed on purpose: every edge, and the next run of this one, must send a call-id to the same
 * target. Who may choose a Call-ID is the caller's matter: `key` is a keyed hash. */
static const struct hash_seed salt_seed = {0x70f2a11c9d3be845, 0x1b873593cc9e2d51};

void pool_opts_default(struct pool_opts *o)
{
    *o = (struct pool_opts){0};
    o->balance = POOL_LEAST_BUSY;
    o->health.on = true;
    o->health.every = 2 * NS_S;
    o->health.timeout = 1 * NS_S;
    o->health.fall = 3;
    o->health.rise = 2;
    o->outlier.eject_after = 5;
    o->outlier.eject_base = 5 * NS_S;
    o->outlier.eject_max = 60 * NS_S;
    /* Less than 20 %: in a pool of up to five, a single live target is still preferred to the dead
     * ones, and only "none is fit" is a panic. In larger pools a tenth of the targets cannot carry
     * what all of them did: spreading the load is then worth more than believing our probes. */
    o->outlier.panic_percent = 20;
    o->outlier.slow_start = 10 * NS_S;
    o->failover.on[0] = 408;
    o->failover.on[1] = 503;
    o->failover.on[2] = 430;
    o->failover.on_count = 3;
    o->failover.try_timeout = 2 * NS_S;
    o->failover.within = 8 * NS_S;
    o->failover.tries = 3;
    o->failover.budget_percent = 20;
    o->failover.retryable = false;
}

/* ---- boot ------------------------------------------------------------------------------------ */

static size_t part(size_t bytes)
{
    return bytes + 64; /* room to align */
}

size_t pools_memory(uint16_t pools_max, uint32_t targets_max)
{
    size_t table = part(sizeof(struct pool) * pools_max) +
                   part(sizeof(struct target *) * targets_max) +
                   part(sizeof(uint16_t) * targets_max) + part(sizeof(uint32_t) * targets_max);
    return part(sizeof(struct pools)) + 2 * table +
           part(slab_memory(sizeof(struct target), 2 * targets_max));
}

static int carve_table(struct pool_table *tab, struct arena *mem, uint16_t pools_max,
                       uint32_t targets_max)
{
    tab->pools = ARENA_ARRAY(mem, struct pool, pools_max);
    tab->members = ARENA_ARRAY(mem, struct target *, targets_max);
    tab->order = ARENA_ARRAY(mem, uint16_t, targets_max);
    tab->sums = ARENA_ARRAY(mem, uint32_t, targets_max);
    if (tab->pools == NULL || tab->members == NULL || tab->order == NULL || tab->sums == NULL)
        return -1;
    tab->count = 0;
    return 0;
}

struct pools *pools_new(struct arena *mem, uint16_t pools_max, uint32_t targets_max,
                        uint64_t prng_seed_value)
{
    struct pools *p = ARENA_NEW(mem, struct pools);
    if (p == NULL || targets_max > UINT32_MAX / 2)
        return NULL;
    memset(p, 0, sizeof *p);
    p->pools_max = pools_max;
    p->targets_max = targets_max;
    prng_seed(&p->prng, prng_seed_value);
    if (carve_table(&p->table[0], mem, pools_max, targets_max) < 0 ||
        carve_table(&p->table[1], mem, pools_max, targets_max) < 0 ||
        slab_init(&p->targets, mem, sizeof(struct target), 2 * targets_max) < 0)
        return NULL;
    return p;
}

/* ---- adoption -------------------------------------------------------------------------------- */

static bool is_too_much(const struct pools *p, const struct pool_opts *opts, uint16_t count)
{
    uint64_t total = 0;
    for (uint16_t i = 0; i < count; i++) {
        if (opts[i].target_count > POOL_TARGETS_MAX)
            return true;
        total += opts[i].target_count;
    }
    return count > p->pools_max || total > p->targets_max;
}

static const struct pool *find_pool(const struct pool_table *tab, struct slice name, uint16_t guess)
{
    for (uint16_t i = 0; i < tab->count; i++) {
        const struct pool *pool = &tab->pools[(i + guess) % tab->count];
        if (slice_equal(pool->opts->name, name))
            return pool;
    }
    return NULL;
}

static struct target *find_target(const struct pool *pool, struct slice uri, uint64_t salt,
                                  uint16_t guess)
{
    for (uint16_t i = 0; i < pool->count; i++) {
        struct target *t = pool->members[(i + guess) % pool->count];
        if (t->salt == salt && !t->kept && slice_equal(t->opts->uri, uri))
            return t;
    }
    return NULL;
}

/* Members of the new pool: the old target where there is one, else one from the slab. */
static int lay_out_members(struct pools *p, struct pool *pool, const struct pool *old)
{
    for (pool->count = 0; pool->count < pool->opts->target_count; pool->count++) {
        struct slice uri = pool->opts->targets[pool->count].uri;
        uint64_t salt = siphash(&salt_seed, uri.p, uri.n);
        struct target *t = old != NULL ? find_target(old, uri, salt, pool->count) : NULL;
        if (t == NULL) {
            handle h;
            t = (struct target *)slab_take(&p->targets, &h);
            if (t == NULL)
                return -1;
            t->salt = salt;
            t->fresh = true;
            t->up = true;
            t->slow_from = MONO_NONE;
            t->probe_node.at = MONO_NONE;
            t->change_node.at = MONO_NONE;
        }
        t->kept = true;
        pool->members[pool->count] = t;
    }
    return 0;
}

static int lay_out(struct pools *p, struct pool_table *next, const struct pool_table *old,
                   const struct pool_opts *opts, uint16_t count, mono_ns now)
{
    uint32_t at = 0;
    for (next->count = 0; next->count < count;) {
        struct pool *pool = &next->pools[next->count];
        const struct pool *before = find_pool(old, opts[next->count].name, next->count);
        *pool = (struct pool){.dirty = true};
        pool__budget_init(pool, now);
        if (before != NULL) {
            pool->panics = before->panics;
            pool->said_panics = before->said_panics;
            pool->rr_clock = before->rr_clock;
            pool->tokens_milli = before->tokens_milli;
            pool->refilled_at = before->refilled_at;
            pool->success = before->success;
        }
        pool->opts = &opts[next->count];
        pool->members = next->members + at;
        pool->order = next->order + at;
        pool->sums = next->sums + at;
        at += pool->opts->target_count;
        next->count++;
        if (lay_out_members(p, pool, before) < 0)
            return -1;
    }
    return 0;
}

static void undo(struct pools *p, struct pool_table *next)
{
    for (uint16_t i = 0; i < next->count; i++) {
        for (uint16_t m = 0; m < next->pools[i].count; m++) {
            struct target *t = next->pools[i].members[m];
            t->kept = false;
            if (t->fresh)
                slab_release(&p->targets, t);
        }
    }
    next->count = 0;
}

static void release_removed(struct pools *p, struct pool_table *old)
{
    for (uint16_t i = 0; i < old->count; i++) {
        for (uint16_t m = 0; m < old->pools[i].count; m++) {
            struct target *t = old->pools[i].members[m];
            if (t->kept)
                continue;
            wheel_disarm(&p->wheel, &t->probe_node);
            wheel_disarm(&p->wheel, &t->change_node);
            slab_release(&p->targets, t);
        }
    }
    old->count = 0;
}

/* Gives a member its place in the new table. What the new options switched off is undone: nothing
 * else could end it. */
static void settle_in(struct pools *p, struct pool *pool, uint16_t pool_i, uint16_t member,
                      struct slice own_zone, mono_ns now)
{
    struct target *t = pool->members[member];
    const struct pool_target_opts *opts = &pool->opts->targets[member];
    bool new_after_start = t->fresh && p->adopted;
    bool was_fresh = t->fresh;
    bool found = !was_fresh && t->opts->addr.family == 0 && opts->addr.family != 0;
    t->opts = opts;
    t->pool = pool_i;
    t->member = member;
    t->own_zone = own_zone.n == 0 || opts->zone.n == 0 || slice_equal(opts->zone, own_zone);
    t->kept = false;
    t->fresh = false;
    t->queued = false;
    t->next_queued = NULL;
    if (new_after_start || found)
        t->slow_from = now;
    if (pool->opts->outlier.eject_after == 0 && t->ejected)
        pool__forgive(p, t);
    if (!pool->opts->health.on) {
        t->up = true;
        pool__stop_probes(p, t);
    } else if (was_fresh || !wheel_is_armed(&t->probe_node) ||
               (!t->probe_open && t->probe_due > mono_add(now, pool->opts->health.every))) {
        pool__plan_probe(p, pool, t, now);
    }
}

int pools_adopt(struct pools *p, const struct pool_opts *opts, uint16_t count,
                struct slice own_zone, mono_ns now)
{
    struct pool_table *old = &p->table[p->active];
    struct pool_table *next = &p->table[p->active ^ 1];
    if (is_too_much(p, opts, count))
        return -1;
    if (lay_out(p, next, old, opts, count, now) < 0) {
        undo(p, next);
        return -1;
    }
    if (!p->adopted)
        wheel_init(&p->wheel, now);
    release_removed(p, old);
    p->active ^= 1;
    p->queue_head = NULL;
    p->queue_tail = NULL;
    p->panics_unsaid = 0;
    for (uint16_t i = 0; i < next->count; i++) {
        struct pool *pool = &next->pools[i];
        p->panics_unsaid = (uint16_t)(p->panics_unsaid + (pool->panics != pool->said_panics));
        for (uint16_t m = 0; m < pool->count; m++)
            settle_in(p, pool, i, m, own_zone, now);
    }
    for (uint16_t i = 0; i < next->count; i++) {
        for (uint16_t m = 0; m < next->pools[i].count; m++)
            pool__changed(p, next->pools[i].members[m]);
        pool__settle(p, &next->pools[i], now);
    }
    p->adopted = true;
    return 0;
}

/* ---- look-up --------------------------------------------------------------------------------- */

const struct pool_opts *pools_opts(const struct pools *p, uint16_t pool)
{
    const struct pool *it = pool__at(p, pool);
    return it != NULL ? it->opts : NULL;
}

uint16_t pools_count(const struct pools *p)
{
    return p->table[p->active].count;
}

handle pool_member(const struct pools *p, uint16_t pool, uint16_t i)
{
    const struct pool *it = pool__at(p, pool);
    if (it == NULL || i >= it->count)
        return HANDLE_NONE;
    return slab_handle(&p->targets, it->members[i]);
}

void pool__pick(const struct pools *p, const struct target *t, struct pool_pick *ret_pick)
{
    *ret_pick = (struct pool_pick){
        .target = slab_handle(&p->targets, t),
        .member = t->member,
        .addr = t->opts->addr,
        .transport = t->opts->transport,
        .has_tcp = t->opts->has_tcp,
    };
}

uint32_t pool_target_peer(const struct pools *p, handle target)
{
    const struct target *t = pool__target(p, target);
    return t != NULL ? t->opts->peer : 0;
}

void pool_heard(struct pools *p, handle target, mono_ns now)
{
    struct target *t = pool__target(p, target);
    if (t == NULL)
        return;
    t->heard_at = now > 0 ? now : 1;
    if (UNLIKELY(t->ejected))
        pool__of(p, t)->dirty = true;
}

bool pool_last_heard(const struct pools *p, handle target, mono_ns *ret_at)
{
    const struct target *t = pool__target(p, target);
    if (t == NULL)
        return false;
    *ret_at = t->heard_at;
    return true;
}

bool pool_is_fit(const struct pools *p, handle target, mono_ns now)
{
    const struct target *t = pool__target(p, target);
    return t != NULL && pool__is_fit(pool__of(p, t), t, now);
}

bool pool_panics(const struct pools *p, uint16_t pool)
{
    const struct pool *it = pool__at(p, pool);
    return it != NULL && it->panics;
}

bool pool_status(const struct pools *p, handle target, mono_ns now, struct pool_status *ret_status)
{
    const struct target *t = pool__target(p, target);
    if (t == NULL)
        return false;
    const struct pool *pool = pool__of(p, t);
    *ret_status = (struct pool_status){
        .pool = pool->opts->name,
        .uri = t->opts->uri,
        .zone = t->opts->zone,
        .addr = t->opts->addr,
        .transport = t->opts->transport,
        .admin = t->admin,
        .fit = pool__is_fit(pool, t, now),
        .up = t->up && t->opts->addr.family != 0,
        .ejected = pool__is_ejected(pool, t, now),
        .own_zone = t->own_zone,
        .weight = t->opts->weight,
        .open = t->open,
        .begun = t->begun,
        .answered = t->answered,
        .failed = t->failed,
        .heard_ago = t->heard_at == 0 ? MONO_NONE : mono_since(now, t->heard_at),
    };
    return true;
}

/* ---- admin ----------------------------------------------------------------------------------- */

/* Who leaves maintenance was worked on: nothing of before is held against it, and it warms up. */
static void set_admin(struct pools *p, const struct pool *pool, struct target *t,
                      enum pool_admin to, mono_ns now)
{
    if (to == POOL_MAINT) {
        pool__stop_probes(p, t);
    } else if (t->admin == POOL_MAINT) {
        pool__forgive(p, t);
        t->slow_from = now;
        if (pool->opts->health.on)
            pool__plan_probe(p, pool, t, now);
    }
    t->admin = (uint8_t)to;
    pool__changed(p, t);
    pool_probe_soon(p, slab_handle(&p->targets, t), now);
}

int pool_set_admin(struct pools *p, struct slice pool, struct slice uri, enum pool_admin to,
                   mono_ns now)
{
    const struct pool_table *tab = &p->table[p->active];
    bool all = slice_equal(uri, SLICE("*"));
    bool found = false;
    int changed = 0;
    for (uint16_t i = 0; i < tab->count; i++) {
        struct pool *it = &tab->pools[i];
        if (!slice_equal(it->opts->name, pool))
            continue;
        found = found || all;
        for (uint16_t m = 0; m < it->count; m++) {
            struct target *t = it->members[m];
            if (!all && !slice_equal(t->opts->uri, uri))
                continue;
            found = true;
            if (t->admin == (uint8_t)to)
                continue;
            set_admin(p, it, t, to, now);
            changed++;
        }
        pool__settle(p, it, now);
    }
    return found ? changed : -1;
}

/* ---- notices --------------------------------------------------------------------------------- */

/* A target stands in the queue at most once, and what is told is the difference between what was
 * last told and what is so now: flapping between two calls cannot overflow anything. */
void pool__changed(struct pools *p, struct target *t)
{
    pool__of(p, t)->dirty = true;
    if (t->queued || (t->said_down == !t->up && t->said_ejected == t->ejected))
        return;
    t->queued = true;
    t->next_queued = NULL;
    if (p->queue_tail != NULL)
        p->queue_tail->next_queued = t;
    else
        p->queue_head = t;
    p->queue_tail = t;
}

static bool next_panic(struct pools *p, struct pool_change *ret_change)
{
    const struct pool_table *tab = &p->table[p->active];
    for (uint16_t i = 0; p->panics_unsaid > 0 && i < tab->count; i++) {
        struct pool *pool = &tab->pools[i];
        if (pool->panics == pool->said_panics)
            continue;
        pool->said_panics = pool->panics;
        p->panics_unsaid--;
        *ret_change = (struct pool_change){
            .pool = i,
            .target = HANDLE_NONE,
            .what = pool->panics ? POOL_PANICS : POOL_CALMED,
        };
        return true;
    }
    return false;
}

bool pool_next_change(struct pools *p, struct pool_change *ret_change)
{
    while (p->queue_head != NULL) {
        struct target *t = p->queue_head;
        uint8_t what = 0;
        if (t->said_ejected != t->ejected) {
            t->said_ejected = t->ejected;
            what = t->ejected ? POOL_EJECTED : POOL_BACK;
        } else if (t->said_down != !t->up) {
            t->said_down = !t->up;
            what = t->up ? POOL_CAME_UP : POOL_WENT_DOWN;
        } else {
            p->queue_head = t->next_queued;
            if (p->queue_head == NULL)
                p->queue_tail = NULL;
            t->queued = false;
            continue;
        }
        *ret_change = (struct pool_change){t->pool, slab_handle(&p->targets, t), what};
        return true;
    }
    return next_panic(p, ret_change);
}
