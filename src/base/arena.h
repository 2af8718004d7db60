/* SPDX-License-Identifier: Apache-2.0
 *
 * A bump allocator over memory that somebody else owns: boot memory (carved once) and scratch
 * (reset after every batch). Running out returns NULL; nothing grows. */
#ifndef WEIR_BASE_ARENA_H
#define WEIR_BASE_ARENA_H

#include "check.h"

struct arena {
    char *p;
    size_t used;
    size_t cap;
};

static inline struct arena arena_over(void *p, size_t cap)
{
    return (struct arena){(char *)p, 0, cap};
}

/* `n` bytes aligned to `align` (a power of two), not cleared; NULL when they do not fit. */
static inline void *arena_take(struct arena *a, size_t n, size_t align)
{
    size_t at = (a->used + (align - 1)) & ~(align - 1);
    if (UNLIKELY(at > a->cap || n > a->cap - at))
        return NULL;
    a->used = at + n;
    return a->p + at;
}

#define ARENA_NEW(a, type)        ((type *)arena_take((a), sizeof(type), _Alignof(type)))
#define ARENA_ARRAY(a, type, cnt) \
    ((type *)arena_take((a), sizeof(type) * (size_t)(cnt), _Alignof(type)))

static inline void arena_reset(struct arena *a)
{
    a->used = 0;
}

#endif
