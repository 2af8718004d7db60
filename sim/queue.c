/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "queue.h"

void queue_init(struct queue *q)
{
    *q = (struct queue){0};
}

void queue_done(struct queue *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        free(q->heap[i].packet);
    free(q->heap);
    *q = (struct queue){0};
}

static bool is_before(const struct occurrence *x, const struct occurrence *y)
{
    return x->at != y->at ? x->at < y->at : x->order < y->order;
}

void queue_push(struct queue *q, const struct occurrence *o)
{
    if (q->count == q->cap) {
        q->cap = q->cap == 0 ? 256 : q->cap * 2;
        q->heap = realloc(q->heap, q->cap * sizeof *q->heap);
        MUST(q->heap != NULL);
    }
    struct occurrence late = *o;
    late.order = q->pushed++;
    uint32_t i = q->count++;
    while (i > 0 && is_before(&late, &q->heap[(i - 1) / 2])) {
        q->heap[i] = q->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    q->heap[i] = late;
}

bool queue_pop(struct queue *q, struct occurrence *ret_o)
{
    if (q->count == 0)
        return false;
    *ret_o = q->heap[0];
    struct occurrence last = q->heap[--q->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= q->count)
            break;
        if (child + 1 < q->count && is_before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!is_before(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    q->heap[i] = last;
    return true;
}
