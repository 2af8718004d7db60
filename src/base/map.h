/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash table from a 64-bit keyed hash to a 32-bit value (a slab slot). It stores no keys: the
 * caller compares what the slot holds, and walks on when it is another's.
 *
 *      cells, power of two, linear probing, backward-shift delete (no tombstones)
 *      ┌──────────────┬───────────┐
 *      │ hash (high)  │ value + 1 │   0 = empty cell; 8 bytes a cell
 *      └──────────────┴───────────┘
 *
 * The hash must be keyed (siphash with a secret seed) when an outsider can choose the key. */
#ifndef WEIR_BASE_MAP_H
#define WEIR_BASE_MAP_H

#include "arena.h"
#include "check.h"

struct map_cell {
    uint32_t hash;
    uint32_t value; /* +1; 0 = empty */
};

struct map {
    struct map_cell *cells;
    uint32_t mask;
    uint32_t live;
    uint32_t count_max;
};

#define MAP_END UINT32_MAX

/* Boot memory that map_init() will take from its arena, in bytes. */
size_t map_memory(uint32_t count_max);

/* Room for `count_max` entries at a load of at most one half. 0, or -1 when the arena is small. */
MUST_USE int map_init(struct map *m, struct arena *mem, uint32_t count_max);

/* Adds (hash, value). Equal pairs may stand twice. Returns 0, or -1 when full. */
MUST_USE int map_add(struct map *m, uint64_t hash, uint32_t value);

/* Walks all values under `hash`: start with *cursor = MAP_END; returns the next value, or
 * MAP_END when there is none. The map must not change during a walk. */
uint32_t map_find(const struct map *m, uint64_t hash, uint32_t *cursor);

/* Asks the processor for the first cell of `hash`: a look-up a few hundred instructions later finds
 * it there. A table of many thousands is in no cache by itself. */
static inline void map_prefetch(const struct map *m, uint64_t hash)
{
    __builtin_prefetch(&m->cells[(uint32_t)(hash >> 32) & m->mask], 1);
}

/* Removes the pair; returns whether it was there. */
bool map_remove(struct map *m, uint64_t hash, uint32_t value);

#endif
