/* SPDX-License-Identifier: Apache-2.0
 *
 * The upper half of a hash is kept in the cell and also chooses the cell, so that a delete can
 * tell where its neighbours belong without asking the caller. */
#include <string.h>
#include "base/map.h"

static inline uint32_t kept(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

/* Cells for a load of at most one half, a power of two; 0 when that is too many. */
static uint64_t cell_count(uint32_t count_max)
{
    uint64_t cells = 2;
    while (cells < (uint64_t)count_max * 2)
        cells *= 2;
    return cells <= (uint64_t)UINT32_MAX + 1 ? cells : 0;
}

size_t map_memory(uint32_t count_max)
{
    return (size_t)cell_count(count_max) * sizeof(struct map_cell) + _Alignof(struct map_cell);
}

int map_init(struct map *m, struct arena *mem, uint32_t count_max)
{
    uint64_t count = cell_count(count_max);
    struct map_cell *cells = count > 0 ? ARENA_ARRAY(mem, struct map_cell, count) : NULL;
    if (cells == NULL)
        return -1;
    /* Written even where it is empty: entries fall all over a map, so the first of them would pay
     * for its pages one fault after another. */
    memset(cells, 0, count * sizeof *cells);
    *m = (struct map){.cells = cells, .mask = (uint32_t)(count - 1), .count_max = count_max};
    return 0;
}

int map_add(struct map *m, uint64_t hash, uint32_t value)
{
    MUST(value != MAP_END);
    if (m->live >= m->count_max)
        return -1;
    uint32_t at = kept(hash) & m->mask;
    while (m->cells[at].value != 0)
        at = (at + 1) & m->mask;
    m->cells[at] = (struct map_cell){kept(hash), value + 1};
    m->live++;
    return 0;
}

uint32_t map_find(const struct map *m, uint64_t hash, uint32_t *cursor)
{
    uint32_t want = kept(hash);
    uint32_t at = (*cursor == MAP_END ? want : *cursor + 1) & m->mask;
    for (; m->cells[at].value != 0; at = (at + 1) & m->mask) {
        if (m->cells[at].hash == want) {
            *cursor = at;
            return m->cells[at].value - 1;
        }
    }
    return MAP_END;
}

/* Empties the cell, and moves up whoever was pushed past it: no tombstones, so that a table that
 * turns over for months stays as fast as on its first day. */
static void close_gap(struct map *m, uint32_t gap)
{
    uint32_t at = gap;
    for (;;) {
        at = (at + 1) & m->mask;
        if (m->cells[at].value == 0)
            break;
        uint32_t home = m->cells[at].hash & m->mask;
        uint32_t pushed = (at - home) & m->mask;
        if (pushed >= ((at - gap) & m->mask)) {
            m->cells[gap] = m->cells[at];
            gap = at;
        }
    }
    m->cells[gap].value = 0;
}

bool map_remove(struct map *m, uint64_t hash, uint32_t value)
{
    uint32_t want = kept(hash);
    for (uint32_t at = want & m->mask; m->cells[at].value != 0; at = (at + 1) & m->mask) {
        if (m->cells[at].hash == want && m->cells[at].value == value + 1) {
            close_gap(m, at);
            m->live--;
            return true;
        }
    }
    return false;
}
