/* SPDX-License-Identifier: Apache-2.0
 *
 * Classes of bytes, and the few primitives on them that framing, index and decoders share. */
#include "sip/sip_int.h"

#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')
#define IS_ALPHA(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define IS_ALNUM(c) (IS_DIGIT(c) || IS_ALPHA(c))
#define IS_TOKEN(c)                                                                                \
    (IS_ALNUM(c) || (c) == '-' || (c) == '.' || (c) == '!' || (c) == '%' || (c) == '*' ||          \
     (c) == '_' || (c) == '+' || (c) == '`' || (c) == '\'' || (c) == '~')
#define IS_BLANK(c) ((c) == ' ' || (c) == '\t' || (c) == '\r' || (c) == '\n')

#define CLASS(c)                                                                                   \
    (IS_TOKEN(c) ? SIP__TOKEN : 0) | (IS_BLANK(c) ? SIP__BLANK : 0) |                              \
        (IS_ALNUM(c) || (c) == '-' || (c) == '.' || (c) == '_' ? SIP__HOST : 0) |                  \
        (IS_ALNUM(c) || (c) == '+' || (c) == '-' || (c) == '.' ? SIP__SCHEME : 0)
#define FOUR(c)    CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define SIXTEEN(c) FOUR(c), FOUR((c) + 4), FOUR((c) + 8), FOUR((c) + 12)

const uint8_t sip__class[256] = {
    SIXTEEN(0x00), SIXTEEN(0x10), SIXTEEN(0x20), SIXTEEN(0x30), SIXTEEN(0x40), SIXTEEN(0x50),
    SIXTEEN(0x60), SIXTEEN(0x70), SIXTEEN(0x80), SIXTEEN(0x90), SIXTEEN(0xa0), SIXTEEN(0xb0),
    SIXTEEN(0xc0), SIXTEEN(0xd0), SIXTEEN(0xe0), SIXTEEN(0xf0),
};

int sip__content_length(struct slice value, uint32_t *ret_bytes)
{
    uint64_t v = 0;
    int rc = sip__digits(value, SIP_BODY_BYTES_MAX, &v);
    if (rc == SIP_E_LIMIT)
        return SIP_E_TOO_LONG;
    if (rc != SIP_OK)
        return SIP_E_LENGTH;
    *ret_bytes = (uint32_t)v;
    return SIP_OK;
}

static bool is_sip_slash(const char *p, size_t n)
{
    return n >= 4 && (p[0] | 0x20) == 's' && (p[1] | 0x20) == 'i' && (p[2] | 0x20) == 'p' &&
           p[3] == '/';
}

bool sip__start_is_possible(const char *p, size_t n)
{
    const char *end = p + n;
    const char *cap = n > SIP__METHOD_BYTES_MAX ? p + SIP__METHOD_BYTES_MAX : end;
    const char *q = sip__skip(p, cap, SIP__TOKEN);
    if (q == end)
        return true;
    if (q == p)
        return false;
    if (*q == '/')
        return q - p == 3 && is_sip_slash(p, n);
    if (*q != ' ')
        return false;
    return q + 1 == end || q[1] != '/'; /* "GET /": HTTP, known before the line is whole */
}

bool sip__start_is_sip(const char *p, size_t n)
{
    if (n == 0 || !sip__start_is_possible(p, n))
        return false;
    if (is_sip_slash(p, n))
        return true;
    const char *end = p + n;
    while (end > p && sip__is_blank(end[-1]))
        end--;
    const char *word = end;
    while (word > p && !sip__is_blank(word[-1]))
        word--;
    return word > p && is_sip_slash(word, (size_t)(end - word));
}
