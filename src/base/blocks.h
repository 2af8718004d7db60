/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte blocks in a few size classes, for what must be kept of a message: a request while it can
 * still fail over, a response while it can still be asked for again.
 *
 *      class   bytes     typical tenant
 *      0         512     a final response of a transaction that lingers
 *      1       2,048     an INVITE without ICE
 *      2       8,192     an INVITE with ICE candidates
 *      3      98,560     the largest message that we take (SIP_MESSAGE_BYTES_MAX and a little) */
#ifndef WEIR_BASE_BLOCKS_H
#define WEIR_BASE_BLOCKS_H

#include "slab.h"
#include "slice.h"

enum { BLOCK_CLASSES = 4 };

typedef struct block_ref {
    uint32_t slot;
    uint32_t gen;
    uint32_t len;   /* bytes used */
    uint32_t class; /* 0..3; BLOCK_CLASSES = none */
} block_ref;

#define BLOCK_NONE ((block_ref){0, 0, 0, BLOCK_CLASSES})

struct blocks {
    struct slab class[BLOCK_CLASSES];
};

extern const uint32_t block_class_bytes[BLOCK_CLASSES];

/* Boot memory that blocks_init() will take from its arena, in bytes. */
size_t blocks_memory(const uint32_t counts[BLOCK_CLASSES]);
/* Carves `counts` blocks of each class out of `mem`. 0, or -1 when the arena is too small. */
MUST_USE int blocks_init(struct blocks *b, struct arena *mem, const uint32_t counts[BLOCK_CLASSES]);

/* To be called before the memory is used for something else; see slab_done(). */
void blocks_done(struct blocks *b);

/* Copies `s` into the smallest class with room (a fuller class spills into the next).
 * Returns 0, or -1 when nothing fits; `ret_ref` is untouched then. */
MUST_USE int blocks_keep(struct blocks *b, struct slice s, block_ref *ret_ref);

/* The bytes kept; empty for BLOCK_NONE or a stale reference. Valid until released. */
struct slice blocks_slice(const struct blocks *b, block_ref ref);

/* Releases and sets *ref to BLOCK_NONE. Harmless on BLOCK_NONE. */
void blocks_release(struct blocks *b, block_ref *ref);

#endif
