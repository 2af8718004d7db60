/* SPDX-License-Identifier: Apache-2.0
 *
 * guard_int: what the files of this room share. Never included from outside it. Each struct is of
 * the file that is named beside it. */
#ifndef WEIR_GUARD_INT_H
#define WEIR_GUARD_INT_H

#include "guard/guard.h"

/* ---- sources.c -------------------------------------------------------------------------------
 */
struct sources {
    uint32_t sets_mask;
};
size_t sources_memory(const struct guard_limits *l);
MUST_USE int sources_init(struct sources *s, struct arena *mem, const struct guard_limits *l);

/* ---- list.c ----------------------------------------------------------------------------------
 */
struct lists {
    uint32_t count;
};

/* ---- door.c: rates of all together -------------------------------------------------------------
 */
struct door {
    mono_ns accepts_full_at[TP__COUNT];
    mono_ns handshakes_full_at;
    uint32_t connections;
};

/* ---- delay.c, retry.c, session.c: all zero is how they begin -----------------------------------
 */
struct delay {
    mono_ns interval_ends, review_at; /* 0: none has begun */
    dur_ns least;                     /* wait of this interval so far; MONO_NONE: nobody waited */
    dur_ns wait, excess;              /* of the last interval; and over the target */
    uint32_t shed;                    /* of all that comes, in 2^-20 */
    uint32_t came[CLASSES];           /* in this interval */
    uint32_t usual[CLASSES];          /* the average of it, in 2^-8 */
    uint32_t drop[CLASSES];           /* of each class, in 2^-20 */
    uint64_t shed_sum;                /* since the last review */
    uint32_t reviewed;                /* intervals in it */
    uint32_t told;                    /* to neighbours, in 2^-20 */
    uint64_t told_seq;
};
struct line {
    mono_ns next_free;
    mono_ns window_began; /* 0: none has */
    uint32_t done;        /* in this window */
    uint32_t rate;        /* per second */
    uint32_t refused;     /* in this window */
};
struct session;
struct sessions {
    struct session *sets;
};
size_t sessions_memory(void);
MUST_USE int sessions_init(struct sessions *s, struct arena *mem);

struct guard {
    const struct guard_opts *opts;
    struct guard_limits limits;
    uint32_t workers;
    struct hash_seed seed;
    struct prng prng;
    struct guard_counters count;
    struct sources sources;
    struct lists lists;
    struct door door;
    struct delay delay;
    struct line line[2]; /* registrations: 1 */
    struct sessions sessions;
};

#endif
