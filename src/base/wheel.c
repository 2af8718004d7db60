/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a node stands follows from its due tick and the wheel's tick alone. Written in base 256,
 * the two first differ in some digit; that digit is the level, the due tick's digit the cell:
 *
 *      tick  …  12 │  7 │ 200 │ 31
 *      due   …  12 │  7 │ 203 │ 90     differ first in digit 1: level 1, cell 203
 *
 * So a lower level is always due before a higher one, the cells of one level are due in their
 * order, and the next node is found by four bitmaps. When the tick enters a cell of level 1 or
 * above, the nodes there are placed anew, on lower levels. Level 3 alone goes round (its cells
 * count from the tick's), and a node beyond its reach waits in its last cell. */
#include "base/wheel.h"

enum {
    LEVELS = 4,
    CELLS = 256,
    DIGIT_BITS = 8,
    TOP = LEVELS - 1,
    TOP_SHIFT = TOP * DIGIT_BITS,
};

/* The next cell to look at, and the tick at which it begins. */
struct spot {
    uint64_t tick;
    unsigned level;
    unsigned cell;
};

void wheel_init(struct wheel *w, mono_ns now)
{
    for (unsigned level = 0; level < LEVELS; level++) {
        for (unsigned cell = 0; cell < CELLS; cell++) {
            struct wheel_node *head = &w->cell[level][cell];
            *head = (struct wheel_node){head, head, MONO_NONE};
        }
        for (unsigned word = 0; word < CELLS / 64; word++)
            w->used[level][word] = 0;
    }
    w->tick = now / NS_MS;
    w->armed = 0;
}

/* The first tick at which `at` has passed: rounded up, so that no node fires early. */
static inline uint64_t due_tick(mono_ns at)
{
    return at / NS_MS + (at % NS_MS != 0);
}

/* The number (level × 256 + cell) of the cell for a due tick. What is due already goes to the
 * cell of the current tick. */
static inline unsigned cell_number(const struct wheel *w, uint64_t due)
{
    if (due <= w->tick)
        return (unsigned)(w->tick % CELLS);
    uint64_t differ = due ^ w->tick;
    if (differ >> TOP_SHIFT == 0) {
        unsigned level = (63 - (unsigned)__builtin_clzll(differ)) / DIGIT_BITS;
        return level * CELLS + (unsigned)((due >> (level * DIGIT_BITS)) % CELLS);
    }
    uint64_t top = w->tick >> TOP_SHIFT;
    uint64_t ahead = (due >> TOP_SHIFT) - top;
    if (ahead > CELLS - 1)
        ahead = CELLS - 1;
    return TOP * CELLS + (unsigned)((top + ahead) % CELLS);
}

static inline void link_last(struct wheel *w, struct wheel_node *n, unsigned number)
{
    struct wheel_node *head = &w->cell[number / CELLS][number % CELLS];
    n->next = head;
    n->prev = head->prev;
    head->prev->next = n;
    head->prev = n;
    w->used[number / CELLS][number % CELLS / 64] |= 1ULL << (number % 64);
}

static inline void unlink_node(struct wheel *w, struct wheel_node *n)
{
    n->next->prev = n->prev;
    n->prev->next = n->next;
    if (n->next == n->prev) { /* both are the head: the cell is empty now */
        size_t number = (size_t)(n->next - &w->cell[0][0]);
        w->used[number / CELLS][number % CELLS / 64] &= ~(1ULL << (number % 64));
    }
}

void wheel_arm(struct wheel *w, struct wheel_node *n, mono_ns at)
{
    if (UNLIKELY(at == MONO_NONE)) {
        wheel_disarm(w, n);
        return;
    }
    unsigned number = cell_number(w, due_tick(at));
    if (wheel_is_armed(n)) {
        /* One that was beyond reach when it came may stand before its cell: early enough. */
        if (number == cell_number(w, due_tick(n->at))) {
            n->at = at;
            return;
        }
        unlink_node(w, n);
    } else {
        w->armed++;
    }
    n->at = at;
    link_last(w, n, number);
}

void wheel_disarm(struct wheel *w, struct wheel_node *n)
{
    if (!wheel_is_armed(n))
        return;
    unlink_node(w, n);
    *n = (struct wheel_node){NULL, NULL, MONO_NONE};
    w->armed--;
}

/* The first used cell at or after `from`, CELLS when there is none. */
static inline unsigned first_used(const uint64_t used[CELLS / 64], unsigned from)
{
    unsigned word = from / 64;
    if (word >= CELLS / 64)
        return CELLS;
    uint64_t bits = used[word] & ~0ULL << (from % 64);
    while (bits == 0) {
        if (++word == CELLS / 64)
            return CELLS;
        bits = used[word];
    }
    return word * 64 + (unsigned)__builtin_ctzll(bits);
}

/* The cell of the next node, which must exist. */
static struct spot next_spot(const struct wheel *w)
{
    for (unsigned level = 0; level < TOP; level++) {
        unsigned cell = first_used(w->used[level], 0);
        if (cell < CELLS) {
            unsigned shift = level * DIGIT_BITS;
            uint64_t digits = w->tick >> shift;
            uint64_t begin = (digits - digits % CELLS + cell) << shift;
            return (struct spot){begin, level, cell};
        }
    }
    uint64_t top = w->tick >> TOP_SHIFT;
    unsigned here = (unsigned)(top % CELLS);
    unsigned cell = first_used(w->used[TOP], here + 1);
    if (cell == CELLS)
        cell = first_used(w->used[TOP], 0);
    MUST(cell < CELLS);
    uint64_t begin = (top + (cell - here) % CELLS) << TOP_SHIFT;
    return (struct spot){begin, TOP, cell};
}

/* Empties a cell that the tick has entered and places its nodes anew, in their order. */
static void spread(struct wheel *w, unsigned level, unsigned cell)
{
    struct wheel_node *head = &w->cell[level][cell];
    struct wheel_node *n = head->next;
    *head = (struct wheel_node){head, head, MONO_NONE};
    w->used[level][cell / 64] &= ~(1ULL << (cell % 64));
    while (n != head) {
        struct wheel_node *next = n->next;
        link_last(w, n, cell_number(w, due_tick(n->at)));
        n = next;
    }
}

struct wheel_node *wheel_expire(struct wheel *w, mono_ns now)
{
    uint64_t tick = now / NS_MS;
    while (w->armed > 0) {
        struct spot spot = next_spot(w);
        if (spot.tick > tick)
            break;
        w->tick = spot.tick;
        if (spot.level == 0) {
            struct wheel_node *n = w->cell[0][spot.cell].next;
            wheel_disarm(w, n);
            return n;
        }
        spread(w, spot.level, spot.cell);
    }
    if (tick > w->tick)
        w->tick = tick;
    return NULL;
}

mono_ns wheel_deadline(const struct wheel *w)
{
    if (w->armed == 0)
        return MONO_NONE;
    uint64_t tick = next_spot(w).tick;
    return tick <= (MONO_NONE - 1) / NS_MS ? tick * NS_MS : MONO_NONE - 1;
}
