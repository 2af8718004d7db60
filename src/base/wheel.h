/* SPDX-License-Identifier: Apache-2.0
 *
 * A hierarchical timer wheel: O(1) to arm, move and cancel; one millisecond ticks; 4 levels of
 * 256 cells reach 49 days. Nodes are intrusive and named by slot, so that the wheel can live in
 * memory that moves.
 *
 *      level 0  1 ms ×256     level 1  256 ms ×256     level 2  65 s ×256     level 3  4.6 h ×256
 *
 * A node never fires early; it fires at most one tick late (plus the caller's lateness). */
#ifndef WEIR_BASE_WHEEL_H
#define WEIR_BASE_WHEEL_H

#include "arena.h"
#include "check.h"
#include "time.h"

struct wheel_node {
    struct wheel_node *next; /* NULL = not armed */
    struct wheel_node *prev;
    mono_ns at;              /* deadline; MONO_NONE when not armed */
};

struct wheel {
    struct wheel_node cell[4][256]; /* list heads */
    uint64_t used[4][4];            /* bitmap of cells that may hold nodes */
    uint64_t tick;                  /* ticks (ms) expired so far */
    uint32_t armed;
};

/* An empty wheel whose time begins at `now`. */
void wheel_init(struct wheel *w, mono_ns now);

/* Arms `n` for `at`, moving it if it was armed. MONO_NONE disarms. The node stays the caller's
 * and must not move or be freed while armed. */
void wheel_arm(struct wheel *w, struct wheel_node *n, mono_ns at);
void wheel_disarm(struct wheel *w, struct wheel_node *n);

static inline bool wheel_is_armed(const struct wheel_node *n)
{
    return n->next != NULL;
}

/* Takes one node whose time has come, disarmed; NULL when there is none up to `now`. Call until
 * NULL. A clock that jumps far ahead costs one pass over the cells, not one step per tick. */
struct wheel_node *wheel_expire(struct wheel *w, mono_ns now);

/* When to call wheel_expire() at the latest: the tick at which the next node fires when that is
 * near (level 0), else a time before it at which its cell is opened; calling then always makes
 * headway. MONO_NONE when nothing is armed. */
mono_ns wheel_deadline(const struct wheel *w);

#endif
