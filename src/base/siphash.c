/* SPDX-License-Identifier: Apache-2.0
 *
 * One round per word and three at the end ("1-3"): the short form that hash tables use, where
 * the attacker never sees a hash value. */
#include "base/siphash.h"

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t v, unsigned bits)
{
    return v << bits | v >> (64 - bits);
}

static inline uint64_t load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline uint64_t load32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

static inline void round_once(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v1 = rotl(s->v1, 13) ^ s->v0;
    s->v0 = rotl(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotl(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotl(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotl(s->v1, 17) ^ s->v2;
    s->v2 = rotl(s->v2, 32);
}

static inline struct sip_state start(const struct hash_seed *seed)
{
    return (struct sip_state){
        .v0 = seed->k0 ^ 0x736f6d6570736575ULL,
        .v1 = seed->k1 ^ 0x646f72616e646f6dULL,
        .v2 = seed->k0 ^ 0x6c7967656e657261ULL,
        .v3 = seed->k1 ^ 0x7465646279746573ULL,
    };
}

static inline void absorb(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    round_once(s);
    s->v0 ^= word;
}

static inline uint64_t finish(struct sip_state *s)
{
    s->v2 ^= 0xff;
    round_once(s);
    round_once(s);
    round_once(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static inline const unsigned char *absorb_words(struct sip_state *s, const unsigned char *p,
                                                size_t n)
{
    for (size_t words = n / 8; words > 0; words--, p += 8)
        absorb(s, load64(p));
    return p;
}

/* The last n % 8 bytes as a little-endian number, without a byte loop: a wide load that ends at
 * the last byte where there is room before it, else overlapping narrow ones. `p` is the first of
 * the n % 8 bytes. */
static inline uint64_t tail_word(const unsigned char *p, size_t n)
{
    size_t rest = n & 7;
    if (rest == 0)
        return 0;
    if (n > 8)
        return load64(p + rest - 8) >> (64 - 8 * rest);
    if (rest >= 4)
        return load32(p) | load32(p + rest - 4) << (8 * (rest - 4));
    return p[0] | (uint64_t)p[rest >> 1] << (8 * (rest >> 1)) |
           (uint64_t)p[rest - 1] << (8 * (rest - 1));
}

uint64_t siphash(const struct hash_seed *seed, const void *p, size_t n)
{
    struct sip_state s = start(seed);
    const unsigned char *rest = absorb_words(&s, (const unsigned char *)p, n);
    absorb(&s, (uint64_t)n << 56 | tail_word(rest, n));
    return finish(&s);
}

uint64_t siphash_parts(const struct hash_seed *seed, const struct slice *parts, unsigned count)
{
    struct sip_state s = start(seed);
    size_t words = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t n = parts[i].n;
        absorb(&s, n);
        const unsigned char *rest = absorb_words(&s, (const unsigned char *)parts[i].p, n);
        if ((n & 7) != 0)
            absorb(&s, tail_word(rest, n));
        words += 1 + (n + 7) / 8;
    }
    absorb(&s, (uint64_t)(words * 8) << 56);
    return finish(&s);
}
