/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

/* SipHash-c-d as the paper writes it (section 2), byte by byte: slow, and nothing in common with
 * the code under test but the constants. */
static uint64_t paper_siphash(unsigned c, unsigned d, const uint8_t key[16], const uint8_t *m,
                              size_t n)
{
    uint64_t k[2] = {0, 0};
    for (unsigned i = 0; i < 16; i++)
        k[i / 8] += (uint64_t)key[i] << (8 * (i % 8));
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d,
                     k[0] ^ 0x6c7967656e657261, k[1] ^ 0x7465646279746573};
    size_t words = n / 8 + 1;
    for (size_t w = 0; w <= words; w++) {
        uint64_t word = 0;
        for (size_t i = 0; i < 8 && w < words; i++) {
            size_t at = w * 8 + i;
            uint64_t byte = at < n ? m[at] : at == words * 8 - 1 ? n % 256 : 0;
            word += byte << (8 * i);
        }
        if (w == words)
            v[2] ^= 0xff;
        v[3] ^= word;
        for (unsigned r = 0; r < (w == words ? d : c); r++) {
            v[0] += v[1];
            v[2] += v[3];
            v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0];
            v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
            v[0] = v[0] << 32 | v[0] >> 32;
            v[2] += v[1];
            v[0] += v[3];
            v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2];
            v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
            v[2] = v[2] << 32 | v[2] >> 32;
        }
        v[0] ^= word;
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void fill_key(uint8_t key[16], struct hash_seed *seed, struct prng *prng)
{
    seed->k0 = prng_u64(prng);
    seed->k1 = prng_u64(prng);
    for (unsigned i = 0; i < 8; i++) {
        key[i] = (uint8_t)(seed->k0 >> (8 * i));
        key[8 + i] = (uint8_t)(seed->k1 >> (8 * i));
    }
}

/* The oracle itself: the example of the paper's appendix A, SipHash-2-4. */
static void test_the_oracle(void **state)
{
    (void)state;
    uint8_t key[16], message[15];
    for (uint8_t i = 0; i < 16; i++)
        key[i] = i;
    memcpy(message, key, sizeof message);
    assert_true(paper_siphash(2, 4, key, message, 15) == 0xa129ca6149be45e5);
}

/* Bytes 0, 1, 2, … under the zero key; CPython's bytes hash with PYTHONHASHSEED=0 prints them. */
static void test_known_values(void **state)
{
    (void)state;
    static const uint64_t known[] = {
        0xd1fba762150c532c, 0x68a914128e01e473, 0x010bac45c41e3669, 0x4d4c9a4a8ef6e0ad,
        0x7cc43f98813e4dbd, 0x5abe2169dff36275, 0xe3c25f87624f1cdb, 0x2f098ab0c751325a,
        0xead411e67ebe2eea, 0x75927f9d95124362, 0xaf9f77a65ab51a1d, 0xfe64ce8b6617fcff,
        0xa6baf4fb0f9fe1c2, 0xa0cf3211850f8e0d, 0x7f86049379fbfe67, 0xf30eb725bb91c9ea,
        0x8972188433a5c5b7, 0x4883c49a2c009c1d,
    };
    const struct hash_seed zero = {0, 0};
    uint8_t bytes[32];
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i;
    for (size_t n = 0; n < sizeof known / sizeof known[0]; n++)
        assert_true(siphash(&zero, bytes, n) == known[n]);
}

static void test_against_the_paper(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    uint8_t bytes[300];
    for (size_t n = 0; n <= sizeof bytes; n++) {
        uint8_t key[16];
        struct hash_seed seed;
        fill_key(key, &seed, &prng);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)prng_u64(&prng);
        char *copy = guard_copy(bytes, n);
        assert_true(siphash(&seed, copy, n) == paper_siphash(1, 3, key, bytes, n));
        guard_free(copy);
    }
}

/* Parts hash like one message in which each part's length and a fill to eight bytes stand. */
static void test_parts_against_the_paper(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    for (unsigned round = 0; round < 500; round++) {
        uint8_t key[16], whole[5 * 48] = {0};
        struct hash_seed seed;
        struct slice parts[5];
        fill_key(key, &seed, &prng);
        size_t n = 0;
        unsigned count = (unsigned)prng_below(&prng, 6);
        for (unsigned i = 0; i < count; i++) {
            size_t bytes = prng_below(&prng, 40);
            whole[n] = (uint8_t)bytes;
            for (size_t k = 0; k < bytes; k++)
                whole[n + 8 + k] = (uint8_t)prng_u64(&prng);
            parts[i] = slice_of(guard_copy(whole + n + 8, bytes), bytes);
            n += 8 + (bytes + 7) / 8 * 8;
        }
        assert_true(siphash_parts(&seed, parts, count) == paper_siphash(1, 3, key, whole, n));
        for (unsigned i = 0; i < count; i++)
            guard_free((char *)(uintptr_t)parts[i].p);
    }
}

static void test_parts_keep_their_borders(void **state)
{
    (void)state;
    const struct hash_seed seed = {1, 2};
    const struct slice a[] = {{"ab", 2}, {"c", 1}}, b[] = {{"a", 1}, {"bc", 2}};
    const struct slice c[] = {{"abc", 3}}, d[] = {{"abc", 3}, {"", 0}}, e[] = {{"abc\0", 4}};
    uint64_t seen[] = {siphash_parts(&seed, a, 2), siphash_parts(&seed, b, 2),
                       siphash_parts(&seed, c, 1), siphash_parts(&seed, d, 2),
                       siphash_parts(&seed, e, 1), siphash_parts(&seed, NULL, 0)};
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned k = 0; k < i; k++)
            assert_true(seen[i] != seen[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_oracle),
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_against_the_paper),
        cmocka_unit_test(test_parts_against_the_paper),
        cmocka_unit_test(test_parts_keep_their_borders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
