/* SPDX-License-Identifier: Apache-2.0
 *
 * Two kinds of randomness, never mixed up:
 *   rng   unpredictable bytes, handed in by the driver: branches, tags, hash seeds, keys.
 *   prng  fast and seeded (xoshiro256**): jitter and balancing picks. Guessing it gains
 *         nothing. */
#ifndef WEIR_BASE_PRNG_H
#define WEIR_BASE_PRNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    void (*fill)(void *ctx, void *dst, size_t n);
    void *ctx;
};

static inline uint64_t rng_u64(const struct rng *r)
{
    uint64_t v;
    r->fill(r->ctx, &v, sizeof v);
    return v;
}

struct prng {
    uint64_t s[4];
};

/* Spreads one 64-bit seed over the state (splitmix64). Any seed is good. */
void prng_seed(struct prng *p, uint64_t seed);
uint64_t prng_u64(struct prng *p);

/* Uniform in [0, n); 0 when n is 0. Without modulo bias. */
uint64_t prng_below(struct prng *p, uint64_t n);

#endif
