/* SPDX-License-Identifier: Apache-2.0
 *
 * Circles that reset everything but the session's name: see guard.h. */
#include "guard/guard_int.h"

size_t sessions_memory(void)
{
    return 0;
}

int sessions_init(struct sessions *s, struct arena *mem)
{
    (void)mem;
    s->mask = 0;
    return 0;
}
