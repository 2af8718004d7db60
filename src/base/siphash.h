/* SPDX-License-Identifier: Apache-2.0
 *
 * SipHash-1-3 (Aumasson, Bernstein): the keyed hash for every table whose keys an outsider
 * chooses. Not a MAC for tokens: those use HMAC-SHA-256. */
#ifndef WEIR_BASE_SIPHASH_H
#define WEIR_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include "slice.h"

struct hash_seed {
    uint64_t k0, k1;
};

/* Hash of `n` bytes. Same seed and bytes, same value, on every machine. */
uint64_t siphash(const struct hash_seed *seed, const void *p, size_t n);

/* The same over several parts, as if each were preceded by its length in eight little-endian
 * bytes and filled up with zeros to a multiple of eight (so "ab","c" differs from "a","bc"). */
uint64_t siphash_parts(const struct hash_seed *seed, const struct slice *parts, unsigned count);

#endif
