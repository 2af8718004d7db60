/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"

#include <string.h>

#ifdef SLAB_OFF
#include <sanitizer/asan_interface.h> /* its macros do nothing without -fsanitize=address */
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n)   ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

enum {
    OBJECT_ALIGN = 16,
    SLAB_ALIGN = 64, /* a cache line */
};

#define SLOT_NONE UINT32_MAX

bool fault_hits(struct fault *f)
{
    if (LIKELY(f == NULL))
        return false;
    if (f->countdown > 0) {
        f->countdown--;
        return false;
    }
    if (f->spent && !f->forever)
        return false;
    f->spent = true;
    return true;
}

static uint64_t object_bytes(uint32_t size)
{
    uint64_t padded = ((uint64_t)size + OBJECT_ALIGN - 1) / OBJECT_ALIGN * OBJECT_ALIGN;
    return padded > 0 ? padded : OBJECT_ALIGN;
}

size_t slab_memory(uint32_t size, uint32_t count)
{
    return (size_t)object_bytes(size) * count + 2 * sizeof(uint32_t) * (size_t)count + SLAB_ALIGN;
}

int slab_init(struct slab *s, struct arena *mem, uint32_t size, uint32_t count)
{
    uint64_t each = object_bytes(size);
    /* Counted in units of 16 bytes, an offset fits 32 bits, and slot_of() divides quickly. */
    if (each > UINT32_MAX || each / OBJECT_ALIGN * count > UINT32_MAX)
        return -1;
    char *objects = (char *)arena_take(mem, (size_t)each * count, SLAB_ALIGN);
    uint32_t *gen = ARENA_ARRAY(mem, uint32_t, count);
    uint32_t *next = ARENA_ARRAY(mem, uint32_t, count);
    if (objects == NULL || gen == NULL || next == NULL)
        return -1;
    POISON(objects, (size_t)each * count);
    *s = (struct slab){
        .objects = objects,
        .gen = gen,
        .next = next,
        .size = (uint32_t)each,
        .count = count,
        .free_head = SLOT_NONE,
        .free_tail = SLOT_NONE,
    };
    return 0;
}

void slab_done(struct slab *s)
{
    UNPOISON(s->objects, (size_t)s->size * s->count);
    *s = (struct slab){.free_head = SLOT_NONE, .free_tail = SLOT_NONE};
}

static inline char *object_at(const struct slab *s, uint32_t slot)
{
    return s->objects + (size_t)slot * s->size;
}

static inline uint32_t slot_of(const struct slab *s, const void *object)
{
    size_t offset = (size_t)((const char *)object - s->objects);
    MUST(offset < (size_t)s->size * s->fresh);
    uint32_t slot = (uint32_t)(offset / OBJECT_ALIGN) / (s->size / OBJECT_ALIGN);
    DCHECK(object_at(s, slot) == (const char *)object);
    return slot;
}

static inline uint32_t take_fresh(struct slab *s)
{
    if (s->fresh == s->count)
        return SLOT_NONE;
    uint32_t slot = s->fresh++;
    s->gen[slot] = 0;
    return slot;
}

static inline uint32_t take_released(struct slab *s)
{
    uint32_t slot = s->free_head;
    if (slot == SLOT_NONE)
        return SLOT_NONE;
    s->free_head = s->next[slot];
    if (s->free_head == SLOT_NONE)
        s->free_tail = SLOT_NONE;
    return slot;
}

/* What was released last is still in the cache. To catch a use after release, the other way
 * round: as long as possible before a slot is seen again. */
static inline uint32_t take_slot(struct slab *s)
{
#ifdef SLAB_OFF
    uint32_t slot = take_fresh(s);
    return slot != SLOT_NONE ? slot : take_released(s);
#else
    uint32_t slot = take_released(s);
    return slot != SLOT_NONE ? slot : take_fresh(s);
#endif
}

static inline void give_slot(struct slab *s, uint32_t slot)
{
#ifdef SLAB_OFF
    s->next[slot] = SLOT_NONE;
    if (s->free_tail == SLOT_NONE)
        s->free_head = slot;
    else
        s->next[s->free_tail] = slot;
    s->free_tail = slot;
#else
    s->next[slot] = s->free_head;
    if (s->free_head == SLOT_NONE)
        s->free_tail = slot;
    s->free_head = slot;
#endif
}

void *slab_take_uncleared(struct slab *s, handle *ret_handle)
{
    if (UNLIKELY(fault_hits(s->fault)))
        return NULL;
    uint32_t slot = take_slot(s);
    if (UNLIKELY(slot == SLOT_NONE))
        return NULL;
    DCHECK((s->gen[slot] & 1) == 0);
    s->gen[slot]++;
    s->live++;
    if (s->live > s->live_max)
        s->live_max = s->live;
    char *object = object_at(s, slot);
    UNPOISON(object, s->size);
    *ret_handle = (handle){slot, s->gen[slot]};
    return object;
}

void *slab_take(struct slab *s, handle *ret_handle)
{
    void *object = slab_take_uncleared(s, ret_handle);
    if (LIKELY(object != NULL))
        memset(object, 0, s->size);
    return object;
}

void *slab_get(const struct slab *s, handle h)
{
    /* Slots from `fresh` on have no generation yet: their memory is untouched. */
    if (h.slot >= s->fresh || (h.gen & 1) == 0 || s->gen[h.slot] != h.gen)
        return NULL;
    return object_at(s, h.slot);
}

void slab_release(struct slab *s, void *object)
{
    if (object == NULL)
        return;
    uint32_t slot = slot_of(s, object);
    MUST((s->gen[slot] & 1) == 1);
    s->gen[slot]++;
    s->live--;
    POISON(object, s->size);
    give_slot(s, slot);
}

handle slab_handle(const struct slab *s, const void *object)
{
    uint32_t slot = slot_of(s, object);
    MUST((s->gen[slot] & 1) == 1);
    return (handle){slot, s->gen[slot]};
}

void *slab_next(const struct slab *s, uint32_t *cursor)
{
    for (uint32_t slot = *cursor; slot < s->fresh; slot++) {
        if ((s->gen[slot] & 1) == 1) {
            *cursor = slot + 1;
            return object_at(s, slot);
        }
    }
    *cursor = s->fresh;
    return NULL;
}
