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

/* ---- delay.c, retry.c, session.c ---------------------------------------------------------------
 */
struct delay {
    uint32_t shed_permille;
};
struct line {
    mono_ns next_free;
};
struct sessions {
    uint32_t mask;
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
    struct line line;
    struct sessions sessions;
};

#endif
