/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers to STUN Binding requests (RFC 5389 6, 7.3, 15).
 *
 *       0                 2                 4                 8                20
 *      ┌─────────────────┬─────────────────┬─────────────────┬────────────────┬──────────────┐
 *      │ 00, type        │ length behind   │ magic cookie    │ transaction id │ attributes:  │
 *      │                 │ these 20 bytes  │ 2112A442        │ of 12 bytes    │ type, length,│
 *      └─────────────────┴─────────────────┴─────────────────┴────────────────┤ value, 0..3  │
 *                                                                             └──────────────┘ */
#include "wire/stun.h"

enum {
    BINDING_REQUEST = 0x0001,
    BINDING_SUCCESS = 0x0101,
    BINDING_ERROR = 0x0111,

    MAPPED_ADDRESS = 0x0001,
    USERNAME = 0x0006,
    MESSAGE_INTEGRITY = 0x0008,
    ERROR_CODE = 0x0009,
    UNKNOWN_ATTRIBUTES = 0x000a,
    REALM = 0x0014,
    NONCE = 0x0015,
    XOR_MAPPED_ADDRESS = 0x0020,
    FINGERPRINT = 0x8028,
    OPTIONAL = 0x8000, /* types from here on may be ignored (15) */

    ATTRIBUTE_HEAD = 4,
    FINGERPRINT_BYTES = 8,
    UNKNOWN_MAX = 4, /* named in an error; RFC 5389 15.9 wants all, but an answer stays small */
};

#define MAGIC           0x2112a442u
#define FINGERPRINT_XOR 0x5354554eu

struct attributes {
    uint16_t unknown[UNKNOWN_MAX];
    unsigned unknown_count;
    bool has_fingerprint;
};

static unsigned get16(const char *p)
{
    return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

static uint32_t get32(const char *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

bool stun_is(const char *p, size_t n)
{
    return n >= STUN_HEAD_BYTES && ((uint8_t)p[0] & 0xc0) == 0 && get32(p + 4) == MAGIC &&
           get16(p + 2) % 4 == 0 && get16(p + 2) == n - STUN_HEAD_BYTES;
}

/* The CRC-32 of ITU V.42, a bit at a time: keep-alives are small and few. */
static uint32_t crc32(const char *p, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint8_t)p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

/* Comprehension-required attributes that mean nothing to an answer without authentication. */
static bool is_known(unsigned type)
{
    switch (type) {
    case MAPPED_ADDRESS:
    case USERNAME:
    case MESSAGE_INTEGRITY:
    case ERROR_CODE:
    case UNKNOWN_ATTRIBUTES:
    case REALM:
    case NONCE:
    case XOR_MAPPED_ADDRESS:
        return true;
    default:
        return type >= OPTIONAL;
    }
}

static void unknown_note(struct attributes *a, unsigned type)
{
    for (unsigned i = 0; i < a->unknown_count; i++)
        if (a->unknown[i] == type)
            return;
    if (a->unknown_count < UNKNOWN_MAX)
        a->unknown[a->unknown_count++] = (uint16_t)type;
}

/* 0, or -1 when the attributes do not add up or the fingerprint is wrong. */
static int attributes_read(const char *p, size_t n, struct attributes *ret_attributes)
{
    struct attributes a = {.unknown_count = 0};
    bool is_signed = false;
    for (size_t at = STUN_HEAD_BYTES; at < n;) {
        if (n - at < ATTRIBUTE_HEAD)
            return -1;
        unsigned type = get16(p + at);
        size_t length = get16(p + at + 2), padded = (length + 3) & ~(size_t)3;
        if (padded > n - at - ATTRIBUTE_HEAD)
            return -1;
        if (type == FINGERPRINT) { /* is the last one (15.5) */
            if (length != 4 || at + FINGERPRINT_BYTES != n ||
                get32(p + at + ATTRIBUTE_HEAD) != (crc32(p, at) ^ FINGERPRINT_XOR))
                return -1;
            a.has_fingerprint = true;
        } else if (!is_known(type) && !is_signed) {
            unknown_note(&a, type); /* behind MESSAGE-INTEGRITY they do not count (15.4) */
        }
        is_signed |= type == MESSAGE_INTEGRITY;
        at += ATTRIBUTE_HEAD + padded;
    }
    *ret_attributes = a;
    return 0;
}

/* XOR-MAPPED-ADDRESS (15.2). The key for an address is the cookie and the transaction id. */
static uint8_t *mapped_put(uint8_t *p, const struct addr *source, const char *key)
{
    int bytes = source->family == 6 ? 16 : 4;
    p = bytes_put_be(p, XOR_MAPPED_ADDRESS, 2);
    p = bytes_put_be(p, (uint64_t)(4 + bytes), 2);
    p = bytes_put_be(p, source->family == 6 ? 2 : 1, 2);
    p = bytes_put_be(p, source->port ^ MAGIC >> 16, 2);
    for (int i = 0; i < bytes; i++)
        *p++ = (uint8_t)(source->ip[i] ^ (uint8_t)key[i]);
    return p;
}

/* ERROR-CODE 420 (15.6), without a phrase that nobody reads, and UNKNOWN-ATTRIBUTES (15.9). */
static uint8_t *unknown_put(uint8_t *p, const struct attributes *a)
{
    p = bytes_put_be(p, ERROR_CODE, 2);
    p = bytes_put_be(p, 4, 2);
    p = bytes_put_be(p, 4 << 8 | 20, 4);
    p = bytes_put_be(p, UNKNOWN_ATTRIBUTES, 2);
    p = bytes_put_be(p, 2 * a->unknown_count, 2);
    for (unsigned i = 0; i < a->unknown_count; i++)
        p = bytes_put_be(p, a->unknown[i], 2);
    return a->unknown_count % 2 == 0 ? p : bytes_put_be(p, 0, 2);
}

int stun_answer(const char *p, size_t n, const struct addr *source, char *dst, size_t cap)
{
    struct attributes a;
    if (!stun_is(p, n) || get16(p) != BINDING_REQUEST || source->family == 0 ||
        attributes_read(p, n, &a) != 0)
        return 0;
    uint8_t out[STUN_ANSWER_BYTES_MAX];
    bool is_error = a.unknown_count > 0;
    (void)bytes_put_be(out, is_error ? BINDING_ERROR : BINDING_SUCCESS, 2);
    memcpy(out + 4, p + 4, STUN_HEAD_BYTES - 4);
    uint8_t *end = out + STUN_HEAD_BYTES;
    end = is_error ? unknown_put(end, &a) : mapped_put(end, source, p + 4);
    size_t size = (size_t)(end - out);

    size_t whole = size + (a.has_fingerprint ? FINGERPRINT_BYTES : 0);
    if (whole > cap)
        return 0;
    (void)bytes_put_be(out + 2, whole - STUN_HEAD_BYTES, 2);
    if (a.has_fingerprint) {
        end = bytes_put_be(end, FINGERPRINT, 2);
        end = bytes_put_be(end, 4, 2);
        (void)bytes_put_be(end, crc32((const char *)out, size) ^ FINGERPRINT_XOR, 4);
    }
    memcpy(dst, out, whole);
    return (int)whole;
}
