/* SPDX-License-Identifier: Apache-2.0
 *
 * Circles that reset everything but the session's name: see guard.h.
 *
 *      hash ──▶ a set of 8 ──▶ { whole hash, when first, how often }
 *
 * The whole hash is kept, so nobody is broken for another's circles. When a set is full, the one
 * goes whose value is least: when it was first seen, plus an eighth of the time for each time that
 * it came again. So crowds that cross once push each other out and not one that circles, and yet no
 * set can be taken for good by sessions that came twice. */
#include "guard/guard_int.h"

enum { SETS = 8192, WAYS = 8 }; /* 1 MiB */

struct session {
    uint64_t hash;
    uint32_t began_ms; /* of the clock, cut: differences only */
    uint16_t crossings;
    uint16_t used;
};

size_t sessions_memory(void)
{
    return sizeof(struct session) * SETS * WAYS + _Alignof(struct session);
}

int sessions_init(struct sessions *s, struct arena *mem)
{
    s->sets = ARENA_ARRAY(mem, struct session, SETS * WAYS);
    if (s->sets == NULL)
        return -1;
    memset(s->sets, 0, sizeof(struct session) * SETS * WAYS);
    return 0;
}

/* What remains of one's value, in ms: 0 when it is over. */
static uint64_t worth(const struct session *e, uint32_t now_ms, uint64_t within_ms)
{
    uint64_t age = now_ms - e->began_ms;
    if (e->used == 0 || age >= within_ms)
        return 0;
    return within_ms - age + (uint64_t)e->crossings * (within_ms / 8 + 1);
}

bool guard_session_crosses(struct guard *g, uint64_t session_hash, mono_ns now)
{
    const struct guard_opts *o = g->opts;
    if (o->session_crossings_max == 0 || o->session_within == 0)
        return false;
    uint32_t now_ms = (uint32_t)(now / NS_MS);
    uint64_t within_ms = o->session_within / NS_MS + 1;
    struct session *set = g->sessions.sets + (session_hash % SETS) * WAYS, *victim = set;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < WAYS; i++) {
        struct session *e = &set[i];
        uint64_t value = worth(e, now_ms, within_ms);
        if (value > 0 && e->hash == session_hash) {
            e->crossings = (uint16_t)(e->crossings < UINT16_MAX ? e->crossings + 1 : UINT16_MAX);
            if (e->crossings <= o->session_crossings_max)
                return false;
            g->count.sessions_broken++;
            return !o->report_only;
        }
        if (value < least) {
            least = value;
            victim = e;
        }
    }
    *victim = (struct session){session_hash, now_ms, 1, 1};
    return false;
}
