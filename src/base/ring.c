/* SPDX-License-Identifier: Apache-2.0
 *
 * head and tail count bytes from the start of time; modulo the size they are places. Each side
 * writes one of them with release and reads the other with acquire, and nothing else is shared:
 * the record's bytes travel between the two. */
#include "base/ring.h"

enum { HEAD_BYTES = 8 };

#define FILLER UINT32_MAX /* a length that says: the rest up to the end is empty */

static inline uint64_t record_bytes(uint32_t n)
{
    return HEAD_BYTES + ((uint64_t)n + 7) / 8 * 8;
}

static inline char *place(const struct ring *r, uint64_t at)
{
    return r->bytes + (at & (r->size - 1));
}

static inline uint32_t length_at(const struct ring *r, uint64_t at)
{
    uint32_t n;
    memcpy(&n, place(r, at), sizeof n);
    return n;
}

static inline void set_length_at(const struct ring *r, uint64_t at, uint32_t n)
{
    memcpy(place(r, at), &n, sizeof n);
}

static inline uint64_t to_end(const struct ring *r, uint64_t at)
{
    return r->size - (at & (r->size - 1));
}

void ring_init(struct ring *r, void *bytes, uint32_t size)
{
    MUST(size >= 2 * HEAD_BYTES && (size & (size - 1)) == 0);
    MUST((uintptr_t)bytes % HEAD_BYTES == 0);
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
    atomic_init(&r->refused, 0);
    r->tail_seen = 0;
    r->head_seen = 0;
    r->reserved_at = 0;
    r->reserved = 0;
    r->bytes = (char *)bytes;
    r->size = size;
}

static inline bool has_room(struct ring *r, uint64_t tail, uint64_t bytes)
{
    if (r->size - (tail - r->head_seen) >= bytes)
        return true;
    r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
    return r->size - (tail - r->head_seen) >= bytes;
}

void *ring_reserve(struct ring *r, uint32_t n)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint64_t bytes = record_bytes(n);
    uint64_t end = to_end(r, tail);
    uint64_t filler = bytes > end ? end : 0;
    /* Above half the size a record could wait for ever for a place that does not wrap. */
    if (bytes > r->size / 2 || !has_room(r, tail, filler + bytes)) {
        uint64_t refused = atomic_load_explicit(&r->refused, memory_order_relaxed);
        atomic_store_explicit(&r->refused, refused + 1, memory_order_relaxed);
        return NULL;
    }
    if (filler > 0)
        set_length_at(r, tail, FILLER);
    r->reserved_at = tail + filler;
    r->reserved = n;
    return place(r, r->reserved_at) + HEAD_BYTES;
}

void ring_push(struct ring *r, uint32_t n)
{
    MUST(n <= r->reserved);
    set_length_at(r, r->reserved_at, n);
    atomic_store_explicit(&r->tail, r->reserved_at + record_bytes(n), memory_order_release);
    r->reserved = 0;
}

struct slice ring_peek(struct ring *r)
{
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == r->tail_seen) {
        r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
        if (head == r->tail_seen)
            return SLICE_NONE;
    }
    uint32_t n = length_at(r, head);
    if (n == FILLER) { /* published together with the record that follows it */
        head += to_end(r, head);
        atomic_store_explicit(&r->head, head, memory_order_release);
        n = length_at(r, head);
    }
    return slice_of(place(r, head) + HEAD_BYTES, n);
}

void ring_pop(struct ring *r)
{
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    MUST(head != r->tail_seen);
    uint32_t n = length_at(r, head);
    MUST(n != FILLER);
    atomic_store_explicit(&r->head, head + record_bytes(n), memory_order_release);
}

bool ring_is_empty(const struct ring *r)
{
    return atomic_load_explicit(&r->head, memory_order_acquire) ==
           atomic_load_explicit(&r->tail, memory_order_acquire);
}
