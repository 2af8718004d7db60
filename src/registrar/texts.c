/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts of bindings and AORs, packed in blocks of a few sizes. Which sizes, was counted: a
 * contact of 90 bytes and an instance of 45 fit 192 or 256, with a Path of 150 they fit 336. */
#include "registrar/registrar_int.h"

static const uint32_t class_bytes[TEXT_CLASSES] = {64, 128, 192, 256, 336, 512, 1024, 3072};
/* Blocks of a class for each binding: one, or one of so many. A full class spills into the next. */
static const uint32_t class_share[TEXT_CLASSES] = {1, 2, 1, 1, 1, 2, 4, 16};

static uint32_t class_count(unsigned class, uint32_t count)
{
    return count / class_share[class] + 16;
}

size_t registrar__texts_memory(uint32_t count)
{
    size_t n = 0;
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        n += slab_memory(class_bytes[c], class_count(c, count));
    return n;
}

int registrar__texts_init(struct texts *t, struct arena *mem, uint32_t count)
{
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        if (slab_init(&t->class[c], mem, class_bytes[c], class_count(c, count)) != 0)
            return -1;
    return 0;
}

static size_t parts_bytes(const struct slice *parts, unsigned count)
{
    size_t n = 0;
    for (unsigned i = 0; i < count; i++)
        n += parts[i].n;
    return n;
}

int registrar__texts_keep(struct texts *t, const struct slice *parts, unsigned count,
                          struct text_ref *ret_ref)
{
    size_t n = parts_bytes(parts, count);
    for (unsigned c = 0; c < TEXT_CLASSES; c++) {
        if (class_bytes[c] < n)
            continue;
        struct text_ref ref = {.class = (uint8_t)c};
        char *p = slab_take_uncleared(&t->class[c], &ref.block);
        if (p == NULL)
            continue;
        struct text out = text_into(p, class_bytes[c]);
        for (unsigned i = 0; i < count; i++)
            text_put(&out, parts[i]);
        *ret_ref = ref;
        return 0;
    }
    return -1;
}

bool registrar__texts_have(const struct texts *t, size_t n)
{
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        if (class_bytes[c] >= n && t->class[c].live < t->class[c].count)
            return true;
    return false;
}

void registrar__texts_release(struct texts *t, struct text_ref ref)
{
    slab_release(&t->class[ref.class], slab_get(&t->class[ref.class], ref.block));
}
