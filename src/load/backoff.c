/* SPDX-License-Identifier: Apache-2.0
 *
 * When a phone that behaves well comes back. */
#include "load/load_int.h"

dur_ns load__some_of(dur_ns span, struct prng *prng)
{
    return prng_below(prng, span);
}

dur_ns load__backoff(unsigned failures, dur_ns base, dur_ns cap, struct prng *prng)
{
    if (failures == 0)
        return 0;
    dur_ns upper = base;
    for (unsigned i = 0; i < failures && upper < cap; i++)
        upper *= 2; /* cap is far below half of what fits */
    if (upper > cap)
        upper = cap;
    return upper / 2 + load__some_of(upper / 2 + 1, prng);
}
