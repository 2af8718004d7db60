/* SPDX-License-Identifier: Apache-2.0
 *
 * A slab holds `count` objects of one size. Objects are named by handles, never by pointers that
 * outlive a step: a handle is slot + generation, and a stale one resolves to NULL.
 *
 *      memory handed in at boot (mapped, touched only when first used)
 *      ┌────────┬────────┬────────┬─ ─ ─┐      gen[]: even = free, odd = taken
 *      │ slot 0 │ slot 1 │ slot 2 │     │      next[]: free list, last released first,
 *      └────────┴────────┴────────┴─ ─ ─┘              so that the working set stays small
 *
 * Built with SLAB_OFF (asan), a released object is poisoned until it is taken again, and release
 * goes to the tail of the free list, so that a use after release is seen at once. */
#ifndef WEIR_BASE_SLAB_H
#define WEIR_BASE_SLAB_H

#include "arena.h"
#include "check.h"

typedef struct handle {
    uint32_t slot;
    uint32_t gen; /* odd for a live object; 0 in "no handle" */
} handle;

#define HANDLE_NONE ((handle){0, 0})

static inline bool handle_is_none(handle h)
{
    return h.gen == 0;
}
static inline bool handle_equal(handle a, handle b)
{
    return a.slot == b.slot && a.gen == b.gen;
}

/* Makes takes fail on purpose, for the out-of-memory ladder and the simulator. NULL in life. */
struct fault {
    uint64_t countdown; /* takes that still succeed */
    bool forever;       /* then all fail; otherwise one */
    bool spent;         /* set by the first failure */
};

/* One take's question to the fault: true = fail now. `f` may be NULL. */
bool fault_hits(struct fault *f);

struct slab {
    char *objects;
    uint32_t *gen;
    uint32_t *next;
    uint32_t size;      /* bytes per object, rounded up to 16 */
    uint32_t count;
    uint32_t fresh;     /* slots never used so far: memory beyond it is untouched */
    uint32_t free_head; /* UINT32_MAX = empty */
    uint32_t free_tail;
    uint32_t live;
    uint32_t live_max;  /* high-water mark */
    struct fault *fault;
};

/* Boot memory that slab_init() will take from its arena, in bytes. */
size_t slab_memory(uint32_t size, uint32_t count);

/* Carves the slab out of `mem`, of which nothing is touched yet (so an unused slab of a fresh
 * mapping costs nothing). Returns 0, or -1 when the arena is too small or the objects take
 * 64 GiB or more together. */
MUST_USE int slab_init(struct slab *s, struct arena *mem, uint32_t size, uint32_t count);

/* To be called before the memory is used for something else: lifts the poison of a SLAB_OFF
 * build. Objects that are still live die with it. */
void slab_done(struct slab *s);

/* A cleared object, or NULL when all are taken (an answered condition, not a crash). */
MUST_USE void *slab_take(struct slab *s, handle *ret_handle);

/* The same, but with whatever bytes the last tenant left: for one that overwrites them anyway. */
MUST_USE void *slab_take_uncleared(struct slab *s, handle *ret_handle);

/* The live object, or NULL if the handle is stale or none. Safe on any bits from the wire. */
void *slab_get(const struct slab *s, handle h);

/* Gives an object back; its handle is stale from now on. NULL is ignored. */
void slab_release(struct slab *s, void *object);

/* The handle of a live object of this slab. */
handle slab_handle(const struct slab *s, const void *object);

/* Iteration over live objects, for `show` and for reload: start with *cursor = 0; NULL ends. */
void *slab_next(const struct slab *s, uint32_t *cursor);

#endif
