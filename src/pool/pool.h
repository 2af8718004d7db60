/* SPDX-License-Identifier: Apache-2.0
 *
 * pool: groups of equal targets. Which one takes the next request, which are fit to, and whether a
 * failed try may be repeated elsewhere. It never sees a SIP message: addresses, hashes, outcomes.
 *
 *      pool ──▶ members (handles)          target: lives in a slab, survives a reload by its
 *               ┌──┬──┬──┐                         (pool name, uri): health, ejection, counts stay
 *               │  │  │  │
 *               └──┴──┴──┘
 * A target takes new requests when all of these hold:
 *      admin    ready (drain: only requests that are bound to it; maint: none, and no probes)
 *      health   up: fewer than `fall` probes in a row failed, or `rise` succeeded since.
 *               Live answers count as signs of life: a target that answers calls is not marked
 *               down because it knows no OPTIONS.
 *      outlier  not ejected: fewer than `eject_after` transport errors / timeouts / 408 / 503 in a
 *               row, and fewer than two refusals in a row; ejection doubles from eject_base to
 *               eject_max, and ends by itself; for one that was silent, with health checks on, not
 *               before it gave a sign of life. After it the first failure ejects again.
 *      advice   no Retry-After of a 503 is running
 * When less than `panic_percent` of a pool's targets are fit, fitness is ignored (all ready ones
 * are used, of every zone; a retry still prefers the fit): then it is more likely that we, or
 * something that all of them share, is at fault. Only advice is heeded even then (RFC 3261 21.5.4),
 * and targets that gave one count neither for nor against a panic: a pool whose every target asked
 * for quiet has no target.
 * Targets of our own zone come first. While less than half of the zone (by weight) is fit, all fit
 * ones share the load, so that its survivors are not crushed; retries go to any zone. */
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include "base/base.h"

enum pool_balance { POOL_ROUND_ROBIN, POOL_LEAST_BUSY, POOL_CALL_ID };

struct pool_target_opts {
    struct slice uri;      /* as configured, for names and identity across reloads */
    struct addr addr;      /* family 0: its name could not be resolved; it takes nothing */
    uint8_t transport;     /* enum transport */
    uint16_t weight;       /* 1..1000 */
    bool has_tcp;          /* UDP target that may also be reached by TCP on the same port */
    struct slice zone;     /* empty: every zone's */
    uint32_t peer;         /* the caller's own: who is expected there; 0 = whoever */
};

struct pool_opts {
    struct slice name;
    uint8_t balance;       /* enum pool_balance */
    const struct pool_target_opts *targets;
    uint16_t target_count;
    struct {
        bool on;
        dur_ns every, timeout;
        uint16_t fall, rise;
    } health;
    struct {
        uint32_t eject_after;      /* consecutive failures; 0 = never eject */
        dur_ns eject_base, eject_max;
        uint8_t panic_percent;     /* 0 = never panic */
        dur_ns slow_start;         /* share grows from 10 % to full over this time; 0 = off */
    } outlier;
    struct {
        uint16_t on[8];            /* status codes that move a try on: 408, 503, 430 by default */
        uint8_t on_count;
        dur_ns try_timeout;        /* without any answer */
        dur_ns within;             /* one deadline over all tries */
        uint8_t tries;             /* targets at most, first one included */
        uint8_t budget_percent;    /* retries per 100 requests, and 10 in a burst; counted only
                                      while the pool is in trouble: see pool_budget_spend() */
        bool retryable;            /* on_exhausted: 503 instead of 500 */
    } failover;
};

/* Defaults, in one place: config starts from these. */
void pool_opts_default(struct pool_opts *o);

enum pool_admin { POOL_READY, POOL_DRAIN, POOL_MAINT };

/* What became of one try at a target. */
enum pool_outcome {
    POOL_ANSWERED,     /* any final answer that is not a failure of the target itself */
    POOL_CANCELLED,    /* no verdict: the caller went away */
    POOL_NO_ANSWER,    /* try timeout, timer B or F */
    POOL_REFUSED,      /* transport error: refused, reset, unreachable, connect timeout */
    POOL_OVERLOADED,   /* 503 */
    POOL_TIMED_OUT,    /* 408 from the target */
    POOL_LOST,         /* 430: the flow behind it is gone; says nothing about the target */
};

struct pools; /* opaque; lives in boot memory */

/* Boot memory for at most `pools_max` pools with `targets_max` targets in total. */
size_t pools_memory(uint16_t pools_max, uint32_t targets_max);

/* Never fails on enough memory; NULL otherwise. */
struct pools *pools_new(struct arena *mem, uint16_t pools_max, uint32_t targets_max,
                        uint64_t prng_seed);

/* Adopts a list of pools (the first time and on every reload). Targets with the same pool name and
 * uri keep their state; others are new (up, no slow start at first adoption; after a reload they
 * slow-start) or go (their handles turn stale). `own_zone` may be empty. The options, and the text
 * that they point to, must outlive the next adoption. Returns 0, or -1 when the slabs are too small
 * (nothing is changed then). */
MUST_USE int pools_adopt(struct pools *p, const struct pool_opts *opts, uint16_t count,
                         struct slice own_zone, mono_ns now);

/* The options of pool number `pool`, as adopted; NULL when there is no such pool. */
const struct pool_opts *pools_opts(const struct pools *p, uint16_t pool);

/* Target that takes this request, or none. `key` is a hash of the Call-ID; `tried` holds a bit per
 * member index already tried (POOL_TARGETS_MAX bits). Never returns a tried one. Does not count. */
struct pool_pick {
    handle target;
    uint16_t member;        /* index in the pool, for `tried` */
    struct addr addr;
    uint8_t transport;
    bool has_tcp;
};
struct pool_tried {
    uint64_t bits[POOL_TARGETS_MAX / 64];
};
MUST_USE int pool_choose(struct pools *p, uint16_t pool, uint64_t key,
                         const struct pool_tried *tried, mono_ns now, struct pool_pick *ret_pick);

/* A try begins / ends. `retry_after_ns` only with POOL_OVERLOADED (0 = none given; capped at 60 s,
 * and up to a fifth longer, so that a fleet does not return as one).
 * Stale handles are ignored. Returns for pool_end: true when this just ejected the target. */
void pool_begin(struct pools *p, handle target, mono_ns now);
bool pool_end(struct pools *p, handle target, enum pool_outcome o, dur_ns retry_after_ns,
              mono_ns now);

/* Any message came from this target just now. */
void pool_heard(struct pools *p, handle target, mono_ns now);

/* When was it last heard; 0 = never. `false` for a stale handle. */
MUST_USE bool pool_last_heard(const struct pools *p, handle target, mono_ns *ret_at);

/* Its pool_target_opts.peer; 0 for a stale handle. */
uint32_t pool_target_peer(const struct pools *p, handle target);

/* Is it (still) fit in the sense above, panic not considered? */
bool pool_is_fit(const struct pools *p, handle target, mono_ns now);

/* The pool's first request is counted by the caller through pool_budget_earn(); every retry asks.
 * Returns whether one more retry is within the budget, and spends it. While at least half of the
 * pool's ready targets are fit and most of the recent tries were answered, retries cost nothing:
 * they go to targets that answer. */
void pool_budget_earn(struct pools *p, uint16_t pool, mono_ns now);
MUST_USE bool pool_budget_spend(struct pools *p, uint16_t pool, mono_ns now);

/* ---- active health --------------------------------------------------------------------------- */

/* Next time to call pool_probe_next(): a probe is due or times out, or time alone changes who is
 * fit. MONO_NONE when there is no such time: no health checks, and nobody ejected or quiet. */
mono_ns pool_deadline(const struct pools *p);

/* A target to probe now (call until false): its timeout counts from now and ends by
 * pool_probe_result() or by itself as a failure. Phases are spread over `every`. Also times out
 * earlier probes. `ret_pick` tells where. */
bool pool_probe_next(struct pools *p, mono_ns now, struct pool_pick *ret_pick, uint16_t *ret_pool);

/* Asks for an extra probe of this target at once (a call waits for a sign of life). */
void pool_probe_soon(struct pools *p, handle target, mono_ns now);

/* `alive`: any final answer but 503 and 408. Not alive after `timeout` is silence, as if the probe
 * had timed out by itself; a result that nobody waits for any more counts only when alive. */
void pool_probe_result(struct pools *p, handle target, bool alive, mono_ns now);

/* Changes of fitness since the last call, for notices: false when there are no more. */
struct pool_change {
    uint16_t pool;
    handle target;
    uint8_t what;           /* enum: POOL_WENT_DOWN … */
};
enum { POOL_WENT_DOWN = 1, POOL_CAME_UP, POOL_EJECTED, POOL_BACK, POOL_PANICS, POOL_CALMED };
bool pool_next_change(struct pools *p, struct pool_change *ret_change);

/* ---- operation ------------------------------------------------------------------------------- */

/* Sets the admin state by names; "*" as uri means every target of the pool.
 * Returns the number of targets changed, or -1 when pool or target do not exist. */
MUST_USE int pool_set_admin(struct pools *p, struct slice pool, struct slice uri,
                            enum pool_admin to, mono_ns now);

/* Pools are numbered from 0 in the order of adoption. */
uint16_t pools_count(const struct pools *p);
/* Handle of member i, or HANDLE_NONE. */
handle pool_member(const struct pools *p, uint16_t pool, uint16_t i);
struct pool_status {
    struct slice pool, uri, zone;
    struct addr addr;
    uint8_t transport;
    uint8_t admin;
    bool fit, up, ejected, own_zone;
    uint16_t weight;
    uint32_t open;              /* tries under way */
    uint64_t begun, answered, failed;
    dur_ns heard_ago;           /* MONO_NONE = never */
};
MUST_USE bool pool_status(const struct pools *p, handle target, mono_ns now,
                          struct pool_status *ret_status);

/* Why it is up or down, in words, without a line end: "up: answered a probe 0.8 s ago", "ejected
 * for 12 s more: 5 failures in a row, last: refused; last heard 9 s ago". */
void pool_explain(const struct pools *p, handle target, mono_ns now, struct text *t);

/* Is the pool's fitness ignored, as of its last change? */
bool pool_panics(const struct pools *p, uint16_t pool);

#endif
