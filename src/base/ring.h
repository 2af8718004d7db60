/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded ring of byte records between exactly one producer and one consumer thread. A full
 * ring refuses (the caller counts and sheds); nobody ever waits.
 *
 *      ┌──────────────────────────────────────────┐   head: next byte to read  (consumer writes)
 *      │  len | record … pad to 8 | len | record  │   tail: next byte to write (producer writes)
 *      └──────────────────────────────────────────┘   a record never wraps: a filler ends it */
#ifndef WEIR_BASE_RING_H
#define WEIR_BASE_RING_H

#include <stdatomic.h>
#include "check.h"
#include "slice.h"

struct ring {
    /* The consumer's line. */
    _Alignas(64) _Atomic uint64_t head;
    uint64_t tail_seen;       /* the tail as last read: the other's line is touched when needed */
    /* The producer's line. */
    _Alignas(64) _Atomic uint64_t tail;
    uint64_t head_seen;
    uint64_t reserved_at;     /* where the record under way begins, its length word included */
    uint32_t reserved;        /* and its room in bytes */
    _Atomic uint64_t refused; /* records that did not fit; written by the producer */
    /* Read by both. */
    _Alignas(64) char *bytes;
    uint32_t size;            /* power of two */
};

/* `size` is a power of two and at least twice the largest record, which takes 8 bytes more than
 * its length and is filled up to 8; `bytes` is aligned to 8. */
void ring_init(struct ring *r, void *bytes, uint32_t size);

/* Producer: room for `n` bytes, aligned to 8, or NULL (counted in `refused`). Becomes visible
 * with ring_push(), which may make it shorter; without one, the next reserve takes its place. */
void *ring_reserve(struct ring *r, uint32_t n);
void ring_push(struct ring *r, uint32_t n);

/* Consumer: the oldest record, or a slice with p NULL. Valid until ring_pop(), which must follow
 * a peek that found one. */
struct slice ring_peek(struct ring *r);
void ring_pop(struct ring *r);

/* Either side may ask; the answer may be old by the time it is read. */
bool ring_is_empty(const struct ring *r);

#endif
