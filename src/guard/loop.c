/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/guard.h"

int guard_hops(int received, int cap)
{
    if (received == 0)
        return -1;
    if (received < 0 || received > cap)
        return cap;
    return received - 1;
}

uint64_t guard_loop_hash(const struct hash_seed *seed, const struct slice *parts, unsigned count)
{
    return siphash_parts(seed, parts, count);
}
