/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded ring of byte records between exactly one producer and one consumer thread. A full
 * ring refuses (the caller counts and sheds); nobody ever waits.
 *
 *      ┌──────────────────────────────────────────┐   head: next byte to read  (consumer writes)
 *      │  len | record … pad to 8 | len | record  │   tail: next byte to write (producer writes)
 *      └──────────────────────────────────────────┘   a record never wraps: a filler closes the end */
#ifndef WEIR_BASE_RING_H
#define WEIR_BASE_RING_H

#include <stdatomic.h>
#include "check.h"
#include "slice.h"

struct ring {
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) char *bytes;
    uint32_t size;           /* power of two */
    _Atomic uint64_t refused; /* records that did not fit; written by the producer */
};

/* `size` is a power of two and at least twice the largest record; `bytes` is aligned to 8. */
void ring_init(struct ring *r, void *bytes, uint32_t size);

/* Producer: room for `n` bytes, aligned to 8, or NULL (counted in `refused`). Becomes visible
 * with ring_push(). */
void *ring_reserve(struct ring *r, uint32_t n);
void ring_push(struct ring *r, uint32_t n);

/* Consumer: the oldest record, or a slice with p NULL. Valid until ring_pop(). */
struct slice ring_peek(struct ring *r);
void ring_pop(struct ring *r);

bool ring_is_empty(const struct ring *r);

#endif
