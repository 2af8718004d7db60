/* SPDX-License-Identifier: Apache-2.0
 *
 * The order in which things happen in the simulated world: a binary heap by time, and by the
 * order of scheduling where times are equal, so that one seed has exactly one history. */
#ifndef WEIR_SIM_QUEUE_H
#define WEIR_SIM_QUEUE_H

#include "base/base.h"

/* Bytes under way. One owner at a time: whoever holds the occurrence. */
struct packet {
    struct addr src, dst;
    uint32_t n;
    char bytes[];
};

/* Something that will happen. `what` is an enum what of the world; the rest is for it to read. */
struct occurrence {
    mono_ns at;
    uint64_t order; /* set by queue_push() */
    uint16_t what;
    uint16_t node;
    uint32_t a, b;
    uint64_t c;
    struct packet *packet; /* owned; may be NULL */
};

/*            0           children of i: 2i+1, 2i+2
 *         1     2        invariant: no child comes before its parent
 *        3 4   5 6 …                                                      */
struct queue {
    struct occurrence *heap;
    uint32_t count, cap;
    uint64_t pushed;
};

void queue_init(struct queue *q);
void queue_done(struct queue *q); /* frees the packets of what never happened, too */

/* Schedules a copy of *o. */
void queue_push(struct queue *q, const struct occurrence *o);

/* Takes the earliest; false when nothing is scheduled. The packet is the caller's now. */
bool queue_pop(struct queue *q, struct occurrence *ret_o);

#endif
