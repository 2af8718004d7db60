/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <limits.h>

int text_parse_u64(struct slice s, uint64_t max, uint64_t *ret_value)
{
    if (s.n == 0)
        return -1;
    uint64_t tens = max / 10;
    unsigned ones = (unsigned)(max % 10);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';
        if (digit > 9 || v > tens || (v == tens && digit > ones))
            return -1;
        v = v * 10 + digit;
    }
    *ret_value = v;
    return 0;
}

static unsigned decimal_digits(uint64_t v)
{
    unsigned digits = 1;
    for (; v >= 10000; v /= 10000)
        digits += 4;
    return digits + (v >= 10) + (v >= 100) + (v >= 1000);
}

/* Two digits at a time halve the divisions. */
static const char digit_pairs[201] = "00010203040506070809101112131415161718192021222324"
                                     "25262728293031323334353637383940414243444546474849"
                                     "50515253545556575859606162636465666768697071727374"
                                     "75767778798081828384858687888990919293949596979899";

void text_put_u64(struct text *t, uint64_t v)
{
    unsigned digits = decimal_digits(v);
    size_t end = t->n + digits;
    t->n = end;
    if (UNLIKELY(end > t->cap))
        return;
    char *p = t->p + end;
    while (v >= 100) {
        p -= 2;
        memcpy(p, &digit_pairs[v % 100 * 2], 2);
        v /= 100;
    }
    if (v >= 10)
        memcpy(p - 2, &digit_pairs[v * 2], 2);
    else
        p[-1] = (char)('0' + v);
}

void text_put_escaped(struct text *t, struct slice s, size_t max)
{
    static const char hex[] = "0123456789abcdef";
    s = slice_take(s, max);
    size_t plain = 0; /* start of the run not yet copied */
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x7f && c != '\\')
            continue;
        char escape[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
        text_put(t, slice_of(s.p + plain, i - plain));
        text_put(t, slice_of(escape, sizeof escape));
        plain = i + 1;
    }
    if (plain < s.n)
        text_put(t, slice_drop(s, plain));
}

static const char base64url_letter[65] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void text_base64url_encode(const void *src, size_t n, char *dst)
{
    const unsigned char *p = (const unsigned char *)src;
    for (; n >= 3; n -= 3, p += 3, dst += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        dst[0] = base64url_letter[v >> 18];
        dst[1] = base64url_letter[v >> 12 & 63];
        dst[2] = base64url_letter[v >> 6 & 63];
        dst[3] = base64url_letter[v & 63];
    }
    if (n == 0)
        return;
    uint32_t v = (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0);
    dst[0] = base64url_letter[v >> 18];
    dst[1] = base64url_letter[v >> 12 & 63];
    if (n == 2)
        dst[2] = base64url_letter[v >> 6 & 63];
}

#define XX 0xff /* not in the alphabet: the two high bits tell it from every value */

static const uint8_t base64url_value[256] = {
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0x00 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0x10 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, 62, XX, XX, /* 0x20 '-' */
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, XX, XX, XX, XX, XX, XX, /* 0x30 '0' */
    XX, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, /* 0x40 'A' */
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, XX, XX, XX, XX, 63, /* 0x50 '_' */
    XX, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, /* 0x60 'a' */
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, XX, XX, XX, XX, XX, /* 0x70 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0x80 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0x90 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0xa0 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0xb0 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0xc0 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0xd0 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0xe0 */
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, /* 0xf0 */
};

int text_base64url_decode(struct slice s, void *dst, size_t cap)
{
    size_t tail = s.n % 4; /* 0, 2 or 3 characters stand for 0, 1 or 2 last bytes */
    size_t bytes = s.n / 4 * 3 + (tail > 0 ? tail - 1 : 0);
    if (tail == 1 || bytes > cap || bytes > INT_MAX)
        return -1;
    const unsigned char *p = (const unsigned char *)s.p;
    unsigned char *out = (unsigned char *)dst;
    unsigned seen = 0; /* all values or'ed: above 63 when one was not in the alphabet */
    for (size_t quads = s.n / 4; quads > 0; quads--, p += 4, out += 3) {
        uint32_t a = base64url_value[p[0]], b = base64url_value[p[1]];
        uint32_t c = base64url_value[p[2]], d = base64url_value[p[3]];
        seen |= a | b | c | d;
        out[0] = (unsigned char)(a << 2 | b >> 4);
        out[1] = (unsigned char)(b << 4 | c >> 2);
        out[2] = (unsigned char)(c << 6 | d);
    }
    if (tail >= 2) {
        uint32_t a = base64url_value[p[0]], b = base64url_value[p[1]];
        uint32_t c = tail == 3 ? base64url_value[p[2]] : 0;
        seen |= a | b | c;
        if ((tail == 2 ? b & 15 : c & 3) != 0)
            return -1; /* spare bits: a second spelling of the same value */
        out[0] = (unsigned char)(a << 2 | b >> 4);
        if (tail == 3)
            out[1] = (unsigned char)(b << 4 | c >> 2);
    }
    return seen > 63 ? -1 : (int)bytes;
}

enum { DISTANCE_BYTES_MAX = 32 };

unsigned text_distance(struct slice a, struct slice b)
{
    a = slice_take(a, DISTANCE_BYTES_MAX);
    b = slice_take(b, DISTANCE_BYTES_MAX);
    /* cost[i][j]: from the first i bytes of a to the first j of b. Besides insert, delete and
     * replace, two swapped neighbours count as one slip, as typists make it. */
    unsigned cost[DISTANCE_BYTES_MAX + 1][DISTANCE_BYTES_MAX + 1];
    for (size_t i = 0; i <= a.n; i++) {
        for (size_t j = 0; j <= b.n; j++) {
            if (i == 0 || j == 0) {
                cost[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned best = cost[i - 1][j - 1] + (a.p[i - 1] != b.p[j - 1]);
            if (cost[i - 1][j] + 1 < best)
                best = cost[i - 1][j] + 1;
            if (cost[i][j - 1] + 1 < best)
                best = cost[i][j - 1] + 1;
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] &&
                cost[i - 2][j - 2] + 1 < best)
                best = cost[i - 2][j - 2] + 1;
            cost[i][j] = best;
        }
    }
    return cost[a.n][b.n];
}
