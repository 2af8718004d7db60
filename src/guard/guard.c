/* SPDX-License-Identifier: Apache-2.0
 *
 * A guard's birth, and what it goes by. */
#include "guard/guard_int.h"

/* Limits of rates are off by default: how many phones sit behind one address is for the operator to
 * know. What is on by default protects the machine, not a policy. */
void guard_opts_default(struct guard_opts *o)
{
    *o = (struct guard_opts){
        /* Garbage: no office sends as much, and a known one is not banned for what comes over UDP.
         */
        .per_source[GUARD_MALFORMED] = {.per_second = 100, .burst = 1000},
        .ban_first = 10 * NS_S,
        .ban_max = 3600 * NS_S,
        .ban_decay = 600 * NS_S,
        .delay_target = 20 * NS_MS,
        .drops_unheard = true,
        .request_age_max = 500 * NS_MS,
        .retry_after_min = 2 * NS_S,
        .retry_after_max = 300 * NS_S,
        .session_crossings_max = 10,
        .session_within = 60 * NS_S,
    };
}

size_t guard_memory(const struct guard_limits *l)
{
    return sizeof(struct guard) + sources_memory(l) + sessions_memory() + 256;
}

struct guard *guard_new(struct arena *mem, const struct guard_opts *opts,
                        const struct guard_limits *l, uint32_t workers, struct hash_seed seed,
                        uint64_t seed_of_prng, mono_ns now)
{
    struct guard *g = ARENA_NEW(mem, struct guard);
    if (g == NULL)
        return NULL;
    memset(g, 0, sizeof *g);
    g->limits = *l;
    g->workers = workers > 0 ? workers : 1;
    g->seed = seed;
    prng_seed(&g->prng, seed_of_prng);
    if (sources_init(&g->sources, mem, l, now) != 0 || sessions_init(&g->sessions, mem) != 0)
        return NULL;
    guard_adopt(g, opts);
    return g;
}

void guard_adopt(struct guard *g, const struct guard_opts *opts)
{
    g->opts = opts;
    door__adopt(g);
    list__exempt(g);
    g->sources.persistent_version++; /* report_only decides what it holds */
}

struct slice guard_why_name(enum guard_why why)
{
    static const struct slice names[GUARD_WHYS] = {
        [GUARD_FINE] = {"fine", 4},
        [GUARD_DENIED] = {"denied", 6},
        [GUARD_BANNED] = {"banned", 6},
        [GUARD_FULL] = {"full", 4},
        [GUARD_SOURCE_FULL] = {"source_full", 11},
        [GUARD_PREFIX_FULL] = {"prefix_full", 11},
        [GUARD_SOURCE_RATE] = {"source_rate", 11},
        [GUARD_PREFIX_RATE] = {"prefix_rate", 11},
        [GUARD_PACE] = {"pace", 4},
    };
    MUST((unsigned)why < GUARD_WHYS);
    return names[why];
}

struct slice guard_what_name(enum guard_what what)
{
    static const struct slice names[GUARD_WHATS] = {
        [GUARD_CONNECTS] = {"connects", 8}, [GUARD_REQUESTS] = {"requests", 8},
        [GUARD_AUTH] = {"auth", 4},         [GUARD_MALFORMED] = {"malformed", 9},
        [GUARD_SCANS] = {"scans", 5},
    };
    MUST((unsigned)what < GUARD_WHATS);
    return names[what];
}

const struct guard_counters *guard_counters(const struct guard *g)
{
    return &g->count;
}
