/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blocks.h"

const uint32_t block_class_bytes[BLOCK_CLASSES] = {512, 2048, 8192, 98560};

size_t blocks_memory(const uint32_t counts[BLOCK_CLASSES])
{
    size_t bytes = 0;
    for (unsigned i = 0; i < BLOCK_CLASSES; i++)
        bytes += slab_memory(block_class_bytes[i], counts[i]);
    return bytes;
}

int blocks_init(struct blocks *b, struct arena *mem, const uint32_t counts[BLOCK_CLASSES])
{
    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        if (slab_init(&b->class[i], mem, block_class_bytes[i], counts[i]) != 0)
            return -1;
    }
    return 0;
}

void blocks_done(struct blocks *b)
{
    for (unsigned i = 0; i < BLOCK_CLASSES; i++)
        slab_done(&b->class[i]);
}

int blocks_keep(struct blocks *b, struct slice s, block_ref *ret_ref)
{
    for (uint32_t i = 0; i < BLOCK_CLASSES; i++) {
        if (s.n > block_class_bytes[i])
            continue;
        handle h;
        void *block = slab_take_uncleared(&b->class[i], &h);
        if (block == NULL)
            continue;
        if (s.n > 0)
            memcpy(block, s.p, s.n);
        *ret_ref = (block_ref){h.slot, h.gen, (uint32_t)s.n, i};
        return 0;
    }
    return -1;
}

static void *block_of(const struct blocks *b, block_ref ref)
{
    if (ref.class >= BLOCK_CLASSES || ref.len > block_class_bytes[ref.class])
        return NULL;
    return slab_get(
        &b->class [ref.class], (handle) { ref.slot, ref.gen });
}

struct slice blocks_slice(const struct blocks *b, block_ref ref)
{
    const void *block = block_of(b, ref);
    return block != NULL ? slice_of(block, ref.len) : SLICE_NONE;
}

void blocks_release(struct blocks *b, block_ref *ref)
{
    void *block = block_of(b, *ref);
    if (block != NULL)
        slab_release(&b->class[ref->class], block);
    *ref = BLOCK_NONE;
}
