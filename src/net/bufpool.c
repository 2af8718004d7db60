/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "net/net_int.h"

static const struct {
    uint32_t bytes, count;
} class_sizes[BUF_CLASSES] = {{4096, 4096}, {20480, 1024}, {131072, 256}, {262144, 64}};

static size_t pool_bytes(void)
{
    size_t n = 4096;
    for (unsigned i = 0; i < BUF_CLASSES; i++)
        n += slab_memory(class_sizes[i].bytes, class_sizes[i].count);
    return n;
}

int bufpool_init(struct bufpool *b)
{
    size_t n = pool_bytes();
    void *p = memory_map(n);
    if (p == NULL)
        return -1;
    struct arena mem = arena_over(p, n);
    for (unsigned i = 0; i < BUF_CLASSES; i++)
        MUST(slab_init(&b->class[i], &mem, class_sizes[i].bytes, class_sizes[i].count) == 0);
    b->memory = p;
    return 0;
}

void bufpool_done(struct bufpool *b)
{
    if (b->memory == NULL)
        return;
    for (unsigned i = 0; i < BUF_CLASSES; i++)
        slab_done(&b->class[i]);
    memory_unmap(b->memory, pool_bytes());
    b->memory = NULL;
}

/* The smallest class that holds `n` and has one left. */
static void *take(struct bufpool *b, size_t n, uint32_t *ret_class)
{
    for (uint32_t i = 0; i < BUF_CLASSES; i++) {
        if (class_sizes[i].bytes < n)
            continue;
        handle h;
        void *p = slab_take_uncleared(&b->class[i], &h);
        if (p != NULL) {
            *ret_class = i;
            return p;
        }
    }
    return NULL;
}

int buf_room(struct bufpool *b, struct buf *buf, size_t more, size_t max)
{
    size_t held = buf->len - buf->off;
    if (more > max || held > max - more)
        return -1;
    if (buf->p != NULL && held + more <= buf->cap) {
        if (buf->cap - buf->len < more) {
            memmove(buf->p, buf->p + buf->off, held);
            buf->off = 0;
            buf->len = (uint32_t)held;
        }
        return 0;
    }
    uint32_t class = 0;
    char *p = (char *)take(b, held + more, &class);
    if (p == NULL)
        return -1;
    if (held > 0)
        memcpy(p, buf->p + buf->off, held);
    buf_release(b, buf);
    *buf = (struct buf){p, (uint32_t)held, 0, class_sizes[class].bytes, class};
    return 0;
}

void buf_release(struct bufpool *b, struct buf *buf)
{
    if (buf->p != NULL)
        slab_release(&b->class[buf->class], buf -> p);
    *buf = (struct buf){0};
}
