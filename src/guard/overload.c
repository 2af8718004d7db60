/* SPDX-License-Identifier: Apache-2.0
 *
 * Overload control by loss, the side that sends: see guard.h. The two categories of RFC 7339
 * 5.10.1: what begins something is kept back first; only when that does not suffice, because too
 * little of what goes there is of that kind, in-dialog requests make up the rest. What ends
 * something and emergencies are always sent (5.10.2). */
#include "guard/guard_int.h"

enum {
    VALIDITY_DEFAULT_MS = 500,     /* RFC 7339 4.3 */
    VALIDITY_MAX_MS = 3600 * 1000, /* a slip of a neighbour's pen is no ban for ever */
    ONE = 1 << 16,
    MEMORY = 256, /* requests over which the mix is averaged */
};

void overload_heard(struct overload *o, uint32_t loss_percent, uint32_t validity_ms, uint64_t seq,
                    mono_ns now)
{
    /* An old one that was overtaken says nothing new; but once what was heard has run out, a
     * neighbour that began anew may count from anywhere. */
    if (now < o->until && seq < o->seq)
        return;
    o->seq = seq;
    o->loss_percent = (uint8_t)(loss_percent < 100 ? loss_percent : 100);
    uint64_t ms = validity_ms < VALIDITY_MAX_MS ? validity_ms : VALIDITY_MAX_MS;
    /* 0: no more control, RFC 7339 4.3. */
    o->until = ms == 0 ? 0 : mono_add(now, ms * NS_MS);
}

bool overload_admits(struct overload *o, enum guard_class class, uint64_t draw, mono_ns now)
{
    bool can_wait = class < CLASS_IN_DIALOG;
    int32_t to = can_wait ? 0 : ONE - 1;
    o->high = (uint16_t)(o->high + (to - o->high) / MEMORY);
    if (now >= o->until || o->loss_percent == 0 || class >= CLASS_FINISHES)
        return true;
    uint32_t loss = (uint32_t)o->loss_percent * ONE / 100;
    uint32_t high = o->high, low = ONE - high, of_class;
    if (can_wait)
        of_class = loss >= low ? ONE : (uint32_t)((uint64_t)loss * ONE / low);
    else if (loss <= low)
        of_class = 0;
    else /* high > 0, as this one has counted */
        of_class = (uint32_t)((uint64_t)(loss - low) * ONE / high);
    return draw >> 48 >= of_class;
}
