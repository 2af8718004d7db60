/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers in network order, for what we pack ourselves (branches, tokens). */
#ifndef WEIR_BASE_BYTES_H
#define WEIR_BASE_BYTES_H

#include <stdint.h>

/* Writes the low `bytes` bytes of `v`, most significant first. Returns the place behind them. */
static inline uint8_t *bytes_put_be(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) {
        p[i] = (uint8_t)v;
        v >>= 8;
    }
    return p + bytes;
}

/* Reads `bytes` bytes and moves *p behind them. */
static inline uint64_t bytes_get_be(const uint8_t **p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | *(*p)++;
    return v;
}

#endif
