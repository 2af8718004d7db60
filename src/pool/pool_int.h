/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the room: the memory, and what its files ask of each other.
 *
 *      pools ─┬─ slab of targets (twice targets_max: a reload takes the new before it gives back
 *             │                   the old, so that it can still say no and change nothing)
 *             ├─ wheel: two nodes a target (its next probe or its probe's end; its next change of
 *             │         fitness that only time brings)
 *             └─ table[2]: one in use, the other is laid out by the next reload
 *                  pool 0     pool 1     …
 *                  ├──────────┼───────┐
 *        members[] │ t t t t  │ t t   │   by member index, as configured
 *        order[]   │ 2 0 3 1  │ 1 0   │   fit and of our zone, fit, unfit but usable; rebuilt
 *        sums[]    │ 4 5 9 9  │ …     │   lazily; sums of the shares of the first choices
 *                  └──────────┴───────┘ */
#ifndef WEIR_POOL_INT_H
#define WEIR_POOL_INT_H

#include "pool/pool.h"

enum {
    POOL_SHARE_FULL = 100,      /* share of a target past its slow start, per unit of weight */
    POOL_SHARE_FIRST = 10,      /* and at the start of it */
    POOL_REFUSALS_TO_EJECT = 2, /* nobody listens there: no need to see five of them */
    POOL_PARDON_ANSWERS = 3,    /* answers in a row that end an ejection early */
    POOL_EJECT_LEVEL_MAX = 16,
};

/* A datagram that was under way when its sender died is no sign that it lives. */
#define POOL_ECHO_NS       NS_S
#define POOL_ADVICE_NS_MAX (60 * NS_S)

enum pool_rank {
    RANK_OWN_FIT,   /* fit, of our zone */
    RANK_OTHER_FIT, /* fit, of another zone */
    RANK_UNFIT,     /* ready, but unfit: for a panic only */
    RANK_NONE,      /* not ready, or it asked for quiet */
};

struct target {
    /* Balancing: read for every call. */
    uint32_t open;
    uint32_t share;  /* weight × 10..100; as of the last rebuild */
    uint64_t salt;   /* of its uri: the same on every edge and after every restart */
    uint64_t rr_due; /* virtual time of its next turn */
    const struct pool_target_opts *opts;
    uint16_t pool, member;
    uint8_t admin; /* enum pool_admin */
    uint8_t rank;  /* enum pool_rank; as of the last rebuild */
    bool own_zone;
    bool kept; /* during an adoption: it stands in the new list too */
    bool fresh;

    mono_ns heard_at;    /* 0 = never */
    mono_ns answered_at; /* a call; 0 = never */
    uint64_t begun, answered, failed;

    /* Outlier. */
    bool ejected;
    bool eject_silent;    /* for silence: comes back on a sign of life only */
    bool probation;       /* back from an ejection, no answer yet: one failure ejects it again */
    uint8_t last_failure; /* enum pool_outcome */
    uint8_t eject_level;  /* ejections in a row, forgotten one by one */
    uint32_t fails, refusals, pardons;
    uint32_t eject_fails; /* failures in a row that led to the ejection */
    mono_ns ejected_at, eject_until, back_at;
    mono_ns advice_until; /* end of a Retry-After; 0 = none */
    mono_ns slow_from;    /* MONO_NONE = at full share */

    /* Health. */
    bool up;
    bool probe_open;
    bool probe_answered; /* ever */
    bool probe_silent;   /* the last failed one: no answer, or a bad one */
    uint16_t probe_fails, probe_oks;
    mono_ns probe_due;     /* of the regular phase */
    mono_ns probe_sent_at; /* 0 = never */
    mono_ns probe_ok_at;   /* 0 = never */
    mono_ns down_at;

    /* Notices: what the caller has been told, and the queue of those with news. */
    bool said_down, said_ejected, queued;
    struct target *next_queued;

    struct wheel_node probe_node, change_node;
};

/* An operator lets it take requests, and there is an address to send them to. */
static inline bool pool__is_ready(const struct target *t)
{
    return t->admin == POOL_READY && t->opts->addr.family != 0;
}

struct pool {
    const struct pool_opts *opts;
    struct target **members;
    uint16_t *order;
    uint32_t *sums;
    uint16_t count;
    uint16_t first, fit, usable; /* ends in order[]: first choices, fit ones, usable ones */
    uint16_t ready;
    bool dirty;
    bool panics, said_panics;
    bool equal_shares; /* among the first choices */
    mono_ns valid_until;
    uint64_t rr_clock;

    /* Retry budget. */
    uint64_t tokens_milli;
    mono_ns refilled_at;
    uint32_t success; /* moving share of tries that were answered, BUDGET_ONE = all */
};

struct pool_table {
    struct pool *pools;
    struct target **members;
    uint16_t *order;
    uint32_t *sums;
    uint16_t count;
};

struct pools {
    struct slab targets;
    struct wheel wheel;
    struct prng prng;
    struct pool_table table[2];
    uint8_t active;
    bool adopted;
    uint16_t pools_max;
    uint32_t targets_max;
    struct target *queue_head, *queue_tail;
    uint16_t panics_unsaid; /* pools whose panic began or ended since it was last told */
};

#define POOL_BUDGET_ONE (1U << 24)

static inline struct pool *pool__at(const struct pools *p, uint16_t pool)
{
    const struct pool_table *tab = &p->table[p->active];
    return pool < tab->count ? &tab->pools[pool] : NULL;
}

static inline struct target *pool__target(const struct pools *p, handle h)
{
    return (struct target *)slab_get(&p->targets, h);
}

static inline struct pool *pool__of(const struct pools *p, const struct target *t)
{
    return &p->table[p->active].pools[t->pool];
}

/* pool.c */

/* The caller is told when what it knows of `t` is no longer so. Marks its pool for a rebuild. */
void pool__changed(struct pools *p, struct target *t);
void pool__pick(const struct pools *p, const struct target *t, struct pool_pick *ret_pick);

/* balance.c */

/* Brings order[], sums[] and the panic up to `now`, if anything changed. */
void pool__settle(struct pools *p, struct pool *pool, mono_ns now);

/* outlier.c */
bool pool__is_fit(const struct pool *pool, const struct target *t, mono_ns now);
bool pool__is_ejected(const struct pool *pool, const struct target *t, mono_ns now);
/* Ends an ejection whose conditions are met. */
void pool__end_ejection_if_due(struct pools *p, const struct pool *pool, struct target *t,
                               mono_ns now);
/* Forgets ejection, failures and advice: the operator, or a reload, starts it anew. */
void pool__forgive(struct pools *p, struct target *t);

/* health.c */

/* True when silence on a probe means something: not for a target that has answered calls, but
 * never one of our OPTIONS. */
bool pool__probes_tell(const struct target *t);
/* An answered call of a target that is down counts like an answered probe. */
void pool__sign_of_life(struct pools *p, const struct pool *pool, struct target *t, mono_ns now);
/* Plans the first probe of a target: member i of n gets the i-th part of `every`. */
void pool__plan_probe(struct pools *p, const struct pool *pool, struct target *t, mono_ns now);
void pool__stop_probes(struct pools *p, struct target *t);

/* budget.c */
void pool__budget_init(struct pool *pool, mono_ns now);
void pool__count_outcome(struct pool *pool, bool answered);

#endif
