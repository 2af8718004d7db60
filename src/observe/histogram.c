/* SPDX-License-Identifier: Apache-2.0
 *
 * A log-linear histogram. Below 16 each value has its cell; above, an octave has 16:
 *
 *   value   0 1 … 15 │ 16 17 … 31 │ 32-33 34-35 … 62-63 │ 64-67 … 124-127 │ …
 *   cell    0 1 … 15 │ 16 17 … 31 │ 32    33    … 47    │ 48    … 63      │ … 511
 *
 * so a cell is at most 1/16 as wide as its lower edge. The last cell takes what lies above. */
#include "observe/observe.h"

enum { STEP_BITS = 4, STEPS = 1 << STEP_BITS };

static unsigned cell_of(uint64_t value)
{
    if (value < STEPS)
        return (unsigned)value;
    unsigned octave = 63 - (unsigned)__builtin_clzll(value);
    unsigned shift = octave - STEP_BITS;
    unsigned cell = (shift + 1) * STEPS + ((unsigned)(value >> shift) & (STEPS - 1));
    return cell < HISTOGRAM_CELLS ? cell : HISTOGRAM_CELLS - 1;
}

/* The largest value that belongs to `cell`. */
static uint64_t upper_edge(unsigned cell)
{
    if (cell < STEPS)
        return cell;
    unsigned shift = cell / STEPS - 1;
    return ((uint64_t)(STEPS + cell % STEPS + 1) << shift) - 1;
}

static uint32_t sum_u32(uint32_t a, uint32_t b)
{
    return a <= UINT32_MAX - b ? a + b : UINT32_MAX;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    uint32_t *cell = &h->cell[cell_of(value)];
    *cell = sum_u32(*cell, 1);
    h->count++;
    if (value > h->max)
        h->max = value;
}

uint64_t histogram_quantile(const struct histogram *h, unsigned permille)
{
    uint64_t share = permille < 1000 ? permille : 1000;
    /* Rounded up, in two parts so that no count can overflow. */
    uint64_t rank = h->count / 1000 * share + (h->count % 1000 * share + 999) / 1000;
    uint64_t seen = 0;
    if (rank == 0)
        rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_CELLS - 1; i++) {
        seen += h->cell[i];
        if (seen >= rank) {
            uint64_t edge = upper_edge(i);
            return edge < h->max ? edge : h->max;
        }
    }
    return h->max; /* the last cell has no edge; an empty histogram has max 0 */
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
        into->cell[i] = sum_u32(into->cell[i], from->cell[i]);
    into->count += from->count;
    if (from->max > into->max)
        into->max = from->max;
}
