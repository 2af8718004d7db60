/* SPDX-License-Identifier: Apache-2.0
 *
 * Birth of an edge, and the lifetime of relays and tries. */
#include "edge/edge_int.h"

void edge_limits_default(struct edge_limits *l)
{
    *l = (struct edge_limits){
        .transactions = 262144,
        .flows = 20000,
        .target_flows = 1024,
        .blocks = {262144, 131072, 16384, 512},
        .targets = 4096,
        .pools = POOLS_MAX,
        .guard = {.sources = 131072},
    };
}

/* A relay has one try at a time, an abandoned one now and then, and perhaps a CANCEL; most linger
 * with one. */
static uint32_t tries_max(const struct edge_limits *l)
{
    return l->transactions + l->transactions / 2 + 64;
}

/* Places of targets: while a reload goes on there are those of both configurations. */
uint32_t target_slots(const struct edge_limits *l)
{
    return 2 * l->targets;
}

size_t edge_memory(const struct edge_limits *l)
{
    return sizeof(struct edge) + slab_memory(sizeof(struct relay), l->transactions) +
           slab_memory(sizeof(struct try), tries_max(l)) + 2 * map_memory(l->transactions) +
           blocks_memory(l->blocks) + flows_memory(l->flows, l->target_flows) +
           pools_memory(l->pools, l->targets) + phones_memory(l->flows) +
           (l->bindings > 0 ? registrar_memory(l->bindings) : 0) + guard_memory(&l->guard) +
           target_slots(l) * sizeof(struct overload) + 4096;
}

static int edge_carve(struct edge *e, struct arena *mem, const struct edge_birth *b)
{
    const struct edge_limits *l = &e->limits;
    if (slab_init(&e->relays, mem, sizeof(struct relay), l->transactions) != 0 ||
        slab_init(&e->tries, mem, sizeof(struct try), tries_max(l)) != 0 ||
        map_init(&e->by_key, mem, l->transactions) != 0 ||
        map_init(&e->by_merge, mem, l->transactions) != 0 ||
        blocks_init(&e->blocks, mem, l->blocks) != 0)
        return -1;
    e->flows = flows_new(mem, l->flows, l->target_flows, b->seed, b->worker);
    e->pools = pools_new(mem, l->pools, l->targets, b->prng_seed);
    e->phones = phones_new(mem, l->flows, b->seed, e->now);
    e->overload = ARENA_ARRAY(mem, struct overload, target_slots(l));
    if (e->overload == NULL || e->flows == NULL || e->pools == NULL || e->phones == NULL)
        return -1;
    if (l->bindings > 0)
        e->registrar = registrar_new(mem, l->bindings, b->seed, b->prng_seed);
    if (l->bindings > 0 && e->registrar == NULL)
        return -1;
    if (e->registrar != NULL)
        registrar_fault(e->registrar, b->fault);
    e->storing = FLOW_END;
    for (int i = 0; i < REMOTE_FLOWS; i++)
        e->remote[i] = (struct remote){FLOW_END, FLOW_END};
    e->relays.fault = b->fault;
    e->tries.fault = b->fault;
    for (int i = 0; i < BLOCK_CLASSES; i++)
        e->blocks.class[i].fault = b->fault;
    return 0;
}

struct edge *edge_new(struct arena *mem, const struct edge_opts *opts, const struct edge_limits *l,
                      const struct edge_birth *b, mono_ns now)
{
    struct edge *e = ARENA_NEW(mem, struct edge);
    if (e == NULL)
        return NULL;
    e->limits = *l;
    e->worker = b->worker;
    e->workers = b->workers;
    e->process_generation = b->process_generation;
    e->seed = b->seed;
    e->rng = b->rng;
    e->now = now;
    wheel_init(&e->wheel, now);
    e->guard = guard_new(mem, &opts->guard, &l->guard, b->workers, b->seed, b->prng_seed, now);
    if (e->guard == NULL || edge_carve(e, mem, b) != 0 || edge_adopt(e, opts, now) != 0)
        return NULL;
    return e;
}

static uint16_t pool_by_name(const struct edge_opts *o, struct slice name)
{
    for (uint16_t i = 0; i < o->pool_count; i++)
        if (slice_equal(o->pools[i].name, name))
            return i;
    return NO_POOL;
}

/* Members may have moved as well: what was tried is told anew from the tries that are left. */
static void mark_tried(struct edge *e, struct relay *r, const struct edge_opts *opts)
{
    memset(&r->tried, 0, sizeof r->tried);
    for (uint32_t slot = r->first_try; slot != NO_TRY && r->pool != NO_POOL;) {
        const struct try *t = try_at(e, slot);
        slot = t->older;
        for (uint16_t i = 0; i < opts->pools[r->pool].target_count; i++)
            if (handle_equal(pool_member(e->pools, r->pool, i), t->hop.target))
                r->tried.bits[i / 64] |= 1ULL << (i % 64);
    }
}

/* Relays name their pool by its index: after a reload it may stand elsewhere, or be gone. */
static void relays_follow_pools(struct edge *e, const struct edge_opts *opts)
{
    uint16_t now_at[POOLS_MAX];
    for (uint16_t i = 0; i < e->opts->pool_count; i++)
        now_at[i] = pool_by_name(opts, e->opts->pools[i].name);
    uint32_t cursor = 0;
    struct relay *r;
    while ((r = slab_next(&e->relays, &cursor)) != NULL) {
        if (r->pool == NO_POOL)
            continue;
        r->pool = now_at[r->pool];
        mark_tried(e, r, opts);
    }
}

int edge_adopt(struct edge *e, const struct edge_opts *opts, mono_ns now)
{
    if (opts->pool_count > POOLS_MAX)
        return -1;
    if (pools_adopt(e->pools, opts->pools, opts->pool_count, opts->zone, now) != 0)
        return -1;
    if (e->opts != NULL)
        relays_follow_pools(e, opts);
    e->opts = opts;
    guard_adopt(e->guard, &opts->guard);
    if (e->registrar != NULL)
        registrar_adopt(e->registrar, &opts->registrar);
    egress_build(e);
    own_names_build(e);
    oc_forget(e);
    return 0;
}

void edge_step_begin(struct edge *e, mono_ns now, uint64_t wall_ns, struct actions *out)
{
    MUST(now >= e->now);
    e->now = now;
    e->wall_ns = wall_ns;
    e->out = out;
    e->verified.user = SLICE_NONE;
}

const struct counters *edge_counters(const struct edge *e)
{
    return &e->count;
}

struct edge_load edge_load(const struct edge *e)
{
    struct edge_load l = {.relays = e->relays.live,
                          .tries = e->tries.live,
                          .flows = flows_live(e->flows),
                          .relays_open = e->relays_open};
    for (int i = 0; i < BLOCK_CLASSES; i++)
        l.blocks += e->blocks.class[i].live;
    return l;
}

bool edge_flow_is_spare(struct edge *e, struct flow_id flow, mono_ns *ret_last_in)
{
    const struct flow *w = flow_get(e->flows, flow);
    if (w == NULL || w->side != SIDE_OUTSIDE || w->registered || w->asked_register ||
        w->calls > 0 || w->users != FLOW_END || w->askers != FLOW_END || w->name != 0)
        return false;
    *ret_last_in = w->last_in;
    return true;
}

struct guard *edge_guard(struct edge *e)
{
    return e->guard;
}

uint32_t since_us(mono_ns later, mono_ns earlier)
{
    dur_ns us = mono_since(later, earlier) / NS_US;
    return us < UINT32_MAX - 1 ? (uint32_t)us : UINT32_MAX - 1;
}

/* ---- relays ------------------------------------------------------------------------------------
 */

/* A relay outlives its server transaction while tries of it are left: their finals still have to
 * be ACKed. */
bool relay_is_over(const struct relay *r)
{
    return r->server.state == TXN_TERMINATED && r->first_try == NO_TRY && !r->storing;
}

static mono_ns relay_deadline(const struct edge *e, const struct relay *r)
{
    if (relay_is_over(r))
        return e->now;
    mono_ns at = txn_deadline(&r->server);
    if (r->storing)
        return mono_min(at, r->give_up_at);
    if (r->answered)
        return at;
    if (r->fork_due || r->caller_gone)
        return e->now;
    if (r->trying_due)
        at = mono_min(at, mono_add(r->arrived, e->opts->trying_delay));
    return mono_min(at, mono_min(r->give_up_at, r->timer_c_at));
}

/* Timers are lazy: one that moved later is found early and armed again then, which is cheaper than
 * moving it at each message. */
static void arm_lazily(struct edge *e, struct wheel_node *n, mono_ns at)
{
    if (!wheel_is_armed(n) || at < n->at)
        wheel_arm(&e->wheel, n, at);
}

/* Once only the lingering is left, the timer goes straight to its end: found early it would have to
 * be moved then, when nothing of this relay is in the caches any more. */
void relay_arm_exactly(struct edge *e, struct relay *r)
{
    wheel_arm(&e->wheel, &r->timer, relay_deadline(e, r));
}

void try_arm_exactly(struct edge *e, struct try *t)
{
    wheel_arm(&e->wheel, &t->timer, mono_min(txn_deadline(&t->client), t->no_answer_at));
}

void relay_arm(struct edge *e, struct relay *r)
{
    arm_lazily(e, &r->timer, relay_deadline(e, r));
}

struct relay *relay_of(const struct edge *e, const struct try *t)
{
    return slab_get(&e->relays, t->relay);
}

struct relay *relay_at(const struct edge *e, uint32_t slot)
{
    handle h = {slot, slot < e->relays.count ? e->relays.gen[slot] : 0};
    struct relay *r = slab_get(&e->relays, h);
    MUST(r != NULL);
    return r;
}

/* Heads of the lists of those that hang on a connection: in the flow, where it is ours. */
static struct remote *remote_of(struct edge *e, struct flow_id flow)
{
    return &e->remote[flow.gen % REMOTE_FLOWS];
}

static uint32_t *askers_of(struct edge *e, struct flow_id flow)
{
    if (flow.gen != 0 && flow.worker != e->worker)
        return &remote_of(e, flow)->askers;
    struct flow *w = flow_get(e->flows, flow);
    return w != NULL ? &w->askers : NULL;
}

static uint32_t *users_of(struct edge *e, struct flow_id flow)
{
    if (flow.gen != 0 && flow.worker != e->worker)
        return &remote_of(e, flow)->users;
    struct flow *w = flow_get(e->flows, flow);
    return w != NULL ? &w->users : NULL;
}

/* An INVITE is found again when the connection that it came over breaks. */
void relay_join_flow(struct edge *e, struct relay *r)
{
    uint32_t *head = r->method == SIP_M_INVITE ? askers_of(e, r->from.flow) : NULL;
    if (head == NULL)
        return;
    uint32_t slot = slab_handle(&e->relays, r).slot;
    r->on_flow = true;
    r->flow_prev = FLOW_END;
    r->flow_next = *head;
    if (*head != FLOW_END)
        relay_at(e, *head)->flow_prev = slot;
    *head = slot;
}

void relay_leave_flow(struct edge *e, struct relay *r)
{
    if (!r->on_flow)
        return;
    r->on_flow = false;
    uint32_t *head = askers_of(e, r->from.flow);
    MUST(head != NULL);
    if (r->flow_prev != FLOW_END)
        relay_at(e, r->flow_prev)->flow_next = r->flow_next;
    else
        *head = r->flow_next;
    if (r->flow_next != FLOW_END)
        relay_at(e, r->flow_next)->flow_prev = r->flow_prev;
}

void relay_free(struct edge *e, struct relay *r)
{
    relay_leave_flow(e, r);
    role_unlink(e, r);
    while (r->first_try != NO_TRY) {
        struct try *t = try_at(e, r->first_try);
        r->first_try = t->older;
        try_free(e, t);
    }
    uint32_t slot = slab_handle(&e->relays, r).slot;
    (void)map_remove(&e->by_key, r->key.a, slot);
    if (r->merge != 0)
        (void)map_remove(&e->by_merge, r->merge, slot);
    wheel_disarm(&e->wheel, &r->timer);
    blocks_release(&e->blocks, &r->request);
    blocks_release(&e->blocks, &r->response);
    blocks_release(&e->blocks, &r->log);
    blocks_release(&e->blocks, &r->hops);
    if (r->forks)
        blocks_release(&e->blocks, &r->fork.best);
    if (!r->answered)
        e->relays_open--;
    slab_release(&e->relays, r);
}

/* The kept request goes when no try can need it any more: to be ACKed, cancelled or sent again. */
void relay_settle(struct edge *e, struct relay *r)
{
    if (!r->answered)
        return;
    for (uint32_t slot = r->first_try; slot != NO_TRY && !r->forks;) {
        const struct try *t = try_at(e, slot);
        if (t->kind == TRY_REQUEST && !txn_is_final(&t->client))
            return;
        slot = t->older;
    }
    blocks_release(&e->blocks, &r->request);
}

/* ---- tries -------------------------------------------------------------------------------------
 */

struct try *try_at(const struct edge *e, uint32_t slot)
{
    handle h = {slot, slot < e->tries.count ? e->tries.gen[slot] : 0};
    struct try *t = slab_get(&e->tries, h);
    MUST(t != NULL);
    return t;
}

struct try *newest_try(struct edge *e, const struct relay *r)
{
    uint32_t slot = r->first_try;
    while (slot != NO_TRY) {
        struct try *t = try_at(e, slot);
        if (t->kind == TRY_REQUEST)
            return t;
        slot = t->older;
    }
    return NULL;
}

struct try *try_new(struct edge *e, struct relay *r, enum try_kind kind, handle *ret_handle)
{
    struct try *t = slab_take(&e->tries, ret_handle);
    if (t == NULL)
        return NULL;
    t->kind = (uint8_t)kind;
    t->way = NO_WAY;
    t->sent = BLOCK_NONE;
    t->no_answer_at = MONO_NONE;
    t->client.retransmit_at = MONO_NONE;
    t->client.timeout_at = MONO_NONE;
    t->timer.at = MONO_NONE;
    t->sent_at = e->now;
    t->older = NO_TRY;
    t->nonce = rng_u64(&e->rng) & 0xffffffffffffULL;
    if (r != NULL) {
        t->relay = slab_handle(&e->relays, r);
        t->older = r->first_try;
        r->first_try = ret_handle->slot;
    }
    return t;
}

/* Takes the try out of its relay's list. */
static void try_unlink(struct edge *e, struct try *t)
{
    struct relay *r = relay_of(e, t);
    if (r == NULL)
        return;
    uint32_t slot = slab_handle(&e->tries, t).slot;
    uint32_t *at = &r->first_try;
    while (*at != NO_TRY && *at != slot)
        at = &try_at(e, *at)->older;
    if (*at == slot)
        *at = t->older;
    relay_settle(e, r);
    relay_arm(e, r);
}

void try_free(struct edge *e, struct try *t)
{
    try_judge(e, t, POOL_CANCELLED, 0);
    try_unlink(e, t);
    try_leave_flow(e, t);
    wheel_disarm(&e->wheel, &t->timer);
    blocks_release(&e->blocks, &t->sent);
    slab_release(&e->tries, t);
}

/* The relay has no more use for this try, but its target may: a late provisional has to be
 * cancelled, a late final ACKed. 64·T1 from now that is over (RFC 3261 9.1), whatever state it is
 * in. */
void try_outlive(struct edge *e, struct try *t)
{
    t->abandoned = true;
    t->client.retransmit_at = MONO_NONE; /* the kept bytes belong to the next try now */
    t->no_answer_at = mono_add(e->now, 64 * e->opts->timers.t1);
    try_arm(e, t);
}

void try_arm(struct edge *e, struct try *t)
{
    arm_lazily(e, &t->timer, mono_min(txn_deadline(&t->client), t->no_answer_at));
}

/* Tells the pool once what became of a try. */
void try_judge(struct edge *e, struct try *t, enum pool_outcome o, dur_ns retry_after)
{
    if (t->judged || t->kind != TRY_REQUEST || handle_is_none(t->hop.target))
        return;
    t->judged = true;
    (void)pool_end(e->pools, t->hop.target, o, retry_after, e->now);
}

/* Does its answer still matter to the relay? */
bool try_is_live(const struct try *t)
{
    return t->kind == TRY_REQUEST && !t->abandoned && !txn_is_final(&t->client);
}

static void try_join(struct edge *e, struct try *t, uint32_t *head)
{
    uint32_t slot = slab_handle(&e->tries, t).slot;
    t->on_flow = true;
    t->flow_prev = FLOW_END;
    t->flow_next = *head;
    if (*head != FLOW_END)
        try_at(e, *head)->flow_prev = slot;
    *head = slot;
}

void try_join_flow(struct edge *e, struct try *t, struct flow *w)
{
    t->hop.flow = w->id;
    try_join(e, t, &w->users);
    w->open++;
}

/* The connection is another worker's, which tells when it is gone (edge_on_flow_gone). */
void try_join_remote(struct edge *e, struct try *t)
{
    try_join(e, t, &remote_of(e, t->hop.flow)->users);
}

void try_leave_flow(struct edge *e, struct try *t)
{
    if (!t->on_flow)
        return;
    t->on_flow = false;
    uint32_t *head = users_of(e, t->hop.flow);
    if (head == NULL)
        return;
    if (t->flow_prev != FLOW_END)
        try_at(e, t->flow_prev)->flow_next = t->flow_next;
    else
        *head = t->flow_next;
    if (t->flow_next != FLOW_END)
        try_at(e, t->flow_next)->flow_prev = t->flow_prev;
    struct flow *w = flow_get(e->flows, t->hop.flow);
    if (w != NULL)
        w->open--;
}
