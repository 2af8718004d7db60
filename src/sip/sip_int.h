/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the room share. Never included from outside, except by their tests. */
#ifndef WEIR_SIP_INT_H
#define WEIR_SIP_INT_H

#include "sip/sip.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Bounds of single tokens. A method is copied into keys and CSeq lines; RFC 4475 has 43 bytes. */
enum { SIP__METHOD_BYTES_MAX = 64 };

/* Classes of bytes (RFC 3261 25.1), several a byte. */
enum {
    SIP__TOKEN = 1,  /* token */
    SIP__BLANK = 2,  /* SP HTAB CR LF: a fold is blank, the index has checked its shape */
    SIP__HOST = 4,   /* hostname, IPv4address; '_' is common in private names */
    SIP__SCHEME = 8, /* ALPHA DIGIT + - . */
};

extern const uint8_t sip__class[256];

static inline bool sip__is(char c, unsigned class)
{
    return (sip__class[(uint8_t)c] & class) != 0;
}

static inline bool sip__is_digit(char c)
{
    return (uint8_t)(c - '0') <= 9;
}

static inline bool sip__is_alpha(char c)
{
    return (uint8_t)((c | 0x20) - 'a') < 26;
}

static inline bool sip__is_blank(char c) /* SP HTAB: the only ones inside a line */
{
    return UNLIKELY((uint8_t)c <= ' ') && (c == ' ' || c == '\t');
}

static inline const char *sip__skip(const char *p, const char *end, unsigned class)
{
    while (p < end && sip__is(*p, class))
        p++;
    return p;
}

/* Passes blanks: mostly there are none, or one. */
static inline const char *sip__skip_blanks(const char *p, const char *end)
{
    if (LIKELY(p < end && (uint8_t)*p > ' '))
        return p;
    if (LIKELY(end - p > 1 && *p == ' ' && (uint8_t)p[1] > ' '))
        return p + 1;
    return sip__skip(p, end, SIP__BLANK);
}

/* The first CR, LF or NUL at or behind p, or `end`. */
static inline const char *sip__line_stop_scalar(const char *p, const char *end)
{
    while (p < end && *p != '\r' && *p != '\n' && *p != '\0')
        p++;
    return p;
}

#ifdef __SSE2__
/* The same, sixteen bytes a step: everything up to CR is looked at, the other controls (HTAB
 * mostly) are passed. Reads nothing at or behind `end`. */
static inline const char *sip__line_stop(const char *p, const char *end)
{
    const __m128i cr = _mm_set1_epi8('\r');
    if (UNLIKELY(end - p < 16))
        return sip__line_stop_scalar(p, end);
    for (const char *last = end - 16; p <= last; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned hits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(x, cr), x));
        while (hits != 0) {
            const char *at = p + __builtin_ctz(hits);
            if (LIKELY(*at == '\r') || *at == '\n' || *at == '\0')
                return at;
            hits &= hits - 1;
        }
    }
    return sip__line_stop_scalar(p, end);
}
#else
static inline const char *sip__line_stop(const char *p, const char *end)
{
    return sip__line_stop_scalar(p, end);
}
#endif

/* Runs of bytes that are known by what ends them. They are wider than the grammar where real
 * networks are and only the final reader could care: a user part is any visible ASCII but <>"@
 * ("*86#" is dialled), a parameter's value anything up to what could end it ("tag=x/y=="), a
 * Call-ID anything visible. */
enum {
    SIP__STOP_QUOTE = 1,   /* '"' */
    SIP__STOP_ANGLE = 2,   /* '<' '>' */
    SIP__STOP_LIST = 4,    /* ';' ',' */
    SIP__STOP_URI = 8,     /* '@' '%' DEL and everything from 0x80 on */
    SIP__STOP_BLANK = 16,  /* everything up to SP */
    SIP__STOP_ESCAPE = 32, /* '\\' */
};
enum {
    SIP__UNTIL_QUOTE_END = SIP__STOP_QUOTE | SIP__STOP_ESCAPE,
    SIP__UNTIL_WORD_END = SIP__STOP_BLANK,
    SIP__UNTIL_URI_END = SIP__STOP_BLANK | SIP__STOP_QUOTE | SIP__STOP_ANGLE,
    SIP__UNTIL_PARAM_END = SIP__UNTIL_URI_END | SIP__STOP_LIST,
    SIP__UNTIL_USER_END = SIP__UNTIL_URI_END | SIP__STOP_URI,
};

static inline bool sip__stops(char c, unsigned stops)
{
    return ((stops & SIP__STOP_BLANK) != 0 && (uint8_t)c <= ' ') ||
           ((stops & SIP__STOP_ESCAPE) != 0 && c == '\\') ||
           ((stops & SIP__STOP_QUOTE) != 0 && c == '"') ||
           ((stops & SIP__STOP_ANGLE) != 0 && (c == '<' || c == '>')) ||
           ((stops & SIP__STOP_LIST) != 0 && (c == ';' || c == ',')) ||
           ((stops & SIP__STOP_URI) != 0 && (c == '@' || c == '%' || (uint8_t)c >= 0x7f));
}

static inline const char *sip__until_scalar(const char *p, const char *end, unsigned stops)
{
    while (p < end && !sip__stops(*p, stops))
        p++;
    return p;
}

/* The first byte at or behind p that `stops` (a constant), or `end`. Up to `limit` bytes may be
 * read, so that a value in the middle of a message needs no slow last step. */
static inline __attribute__((always_inline)) const char *
sip__until(const char *p, const char *end, const char *limit, const unsigned stops)
{
#ifdef __SSE2__
    while (p < end && limit - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_setzero_si128();
        if ((stops & SIP__STOP_BLANK) != 0)
            hit = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(' ')), x);
        if ((stops & SIP__STOP_ESCAPE) != 0)
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
        if ((stops & SIP__STOP_QUOTE) != 0)
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8('"')));
        if ((stops & SIP__STOP_ANGLE) != 0) /* '<' and '>' differ in one bit */
            hit = _mm_or_si128(
                hit, _mm_cmpeq_epi8(_mm_or_si128(x, _mm_set1_epi8(2)), _mm_set1_epi8('>')));
        if ((stops & SIP__STOP_LIST) != 0) {
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8(';')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8(',')));
        }
        if ((stops & SIP__STOP_URI) != 0) {
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8('@')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(x, _mm_set1_epi8('%')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_max_epu8(x, _mm_set1_epi8(0x7f)), x));
        }
        unsigned hits = (unsigned)_mm_movemask_epi8(hit);
        if (hits != 0) {
            p += __builtin_ctz(hits);
            return p < end ? p : end;
        }
        p += 16;
    }
    if (p >= end)
        return end;
#else
    (void)limit;
#endif
    return sip__until_scalar(p, end, stops);
}

/* Is the NUL at `at` the second byte of a quoted-pair (RFC 3261 25.1; RFC 4475 3.1.1.2)? Only
 * such a one may stand in a head. `begin` is the start of the line. */
static inline bool sip__nul_is_quoted(const char *begin, const char *at)
{
    const char *p = at;
    while (p > begin && p[-1] == '\\')
        p--;
    return ((at - p) & 1) != 0;
}

/* The bytes at p equal `want` once those under `mask` are folded to lower case. Only letters may
 * be under the mask: then the fold is exact, for x | 0x20 is a letter for no other x. */
static inline bool sip__same2(const char *p, const char *mask, const char *want)
{
    uint16_t a, m, w;
    memcpy(&a, p, 2);
    memcpy(&m, mask, 2);
    memcpy(&w, want, 2);
    return (a | m) == w;
}

static inline bool sip__same4(const char *p, const char *mask, const char *want)
{
    uint32_t a, m, w;
    memcpy(&a, p, 4);
    memcpy(&m, mask, 4);
    memcpy(&w, want, 4);
    return (a | m) == w;
}

static inline bool sip__same8(const char *p, const char *mask, const char *want)
{
    uint64_t a, m, w;
    memcpy(&a, p, 8);
    memcpy(&m, mask, 8);
    memcpy(&w, want, 8);
    return (a | m) == w;
}

/* Case-insensitive compare with a literal of `n` lower-case letters (constant, 2 to 8). */
static inline bool sip__equal_letters(struct slice s, const char *want, size_t n)
{
    static const char fold[] = "\x20\x20\x20\x20\x20\x20\x20\x20";
    if (s.n != n)
        return false;
    if (n == 8)
        return sip__same8(s.p, fold, want);
    if (n >= 4)
        return sip__same4(s.p, fold, want) && sip__same4(s.p + n - 4, fold, want + n - 4);
    return sip__same2(s.p, fold, want) && sip__same2(s.p + n - 2, fold, want + n - 2);
}
#define SIP__EQUAL(s, lit) sip__equal_letters((s), "" lit "", sizeof(lit) - 1)

/* The decimal digits at *pp, which is moved behind them. 0; SIP_E_SYNTAX: none; SIP_E_LIMIT:
 * above `max` (at most UINT64_MAX / 10 - 1; looked at before each multiply, so no length of digits
 * can wrap). */
static inline int sip__take_digits(const char **pp, const char *end, uint64_t max,
                                   uint64_t *ret_value)
{
    const char *p = *pp;
    uint64_t v = 0;
    for (; p < end && sip__is_digit(*p); p++)
        if (v <= max)
            v = v * 10 + (uint64_t)(*p - '0');
    if (p == *pp)
        return SIP_E_SYNTAX;
    *pp = p;
    if (v > max)
        return SIP_E_LIMIT;
    *ret_value = v;
    return SIP_OK;
}

/* All of `s`, in the same way; SIP_E_SYNTAX too when other bytes follow the digits. */
static inline int sip__digits(struct slice s, uint64_t max, uint64_t *ret_value)
{
    if (s.n == 0)
        return SIP_E_SYNTAX;
    const char *p = s.p;
    int rc = sip__take_digits(&p, s.p + s.n, max, ret_value);
    return p != s.p + s.n ? SIP_E_SYNTAX : rc;
}

/* header-name *(SP / HTAB) ":" at the start of a line. Returns the place behind the colon and
 * sets the name's length and id, or NULL. The framer and the index both use this one, so that no
 * blank can hide a header from one of them (CVE-2020-28361). */
static inline const char *sip__header_colon(const char *p, const char *end, size_t *ret_len,
                                            enum sip_header_id *ret_id)
{
#ifdef __SSE2__
    if (LIKELY(end - p >= 16)) {
        /* A colon near, and exactly a known name before it: nothing else needs a look. */
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned hits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8(':')));
        if (LIKELY(hits != 0)) {
            *ret_len = (size_t)__builtin_ctz(hits);
            *ret_id = sip_header_id_of((struct slice){p, *ret_len});
            if (*ret_id != SIP_H_OTHER)
                return p + *ret_len + 1;
        }
    }
#endif
    const char *q = sip__skip(p, end, SIP__TOKEN);
    *ret_len = (size_t)(q - p);
    while (q < end && sip__is_blank(*q))
        q++;
    if (q == end || *q != ':' || *ret_len == 0)
        return NULL;
    *ret_id = sip_header_id_of((struct slice){p, *ret_len});
    return q + 1;
}

/* Is the beginning of a first line still possible SIP? False as soon as it cannot be: a method
 * token and a blank not followed by '/', or "SIP/". `n` bytes are there, perhaps not the line. */
bool sip__start_is_possible(const char *p, size_t n);

/* Is a whole first line, without CRLF, SIP of any version? (Not: is it well formed.) */
bool sip__start_is_sip(const char *p, size_t n);

/* Value of Content-Length. 0, SIP_E_LENGTH, or SIP_E_TOO_LONG. */
int sip__content_length(struct slice value, uint32_t *ret_bytes);

/* Could `s` be an IPv6 address? (Its bytes are, and one is a colon.) */
bool sip__is_ipv6_text(struct slice s);

struct slice sip__repeated(enum sip_header_id id); /* "Repeated Call-ID" */

/* ---- decoding -------------------------------------------------------------------------------- */

/* `end` ends the value, `limit` what may be read: the message's end, or `end` again. */

/* p stands on '"'. The place behind the closing quote, or NULL when there is none. */
const char *sip__quoted(const char *p, const char *end, const char *limit);

/* sip_uri_parse() within a message. */
int sip__uri(struct slice s, const char *limit, struct sip_uri *ret_uri);

/* One ";name=value" of a header. */
struct sip__param {
    struct slice name;
    struct slice value; /* quotes kept; empty for a flag */
    const char *stop;   /* behind the last byte of name or value */
};

/* Reads the parameter at *pp (blanks, ';', …). 1: read, *pp behind it; 0: none here, *pp at `end`
 * or at a byte that is neither blank nor ';'; SIP_E_SYNTAX. */
int sip__next_param(const char **pp, const char *end, const char *limit,
                    struct sip__param *ret_param);

/* One Via value at p; *ret_stop is `end` or the comma behind it. `ret_span_end`: behind its last
 * byte that is not blank. On a fault *ret_via holds something, too. */
int sip__via(const char *p, const char *end, const char *limit, struct sip_via *ret_via,
             const char **ret_span_end, const char **ret_stop);

/* One name-addr or addr-spec at p, up to `end` or, `in_list`, a comma; its tag if there is one.
 * On a fault *ret_na and *ret_tag hold something, too. */
int sip__nameaddr(const char *p, const char *end, const char *limit, bool in_list,
                  struct sip_nameaddr *ret_na, struct slice *ret_tag, const char **ret_stop);

/* What sip_stamp_via() changes within one Via value: at most two replacements, ascending. */
struct sip__stamp {
    unsigned count;
    struct {
        const char *at;
        size_t del;
        struct text ins;
    } e[2];
};
enum { SIP__STAMP_TEXT = ADDR_TEXT_MAX + 32 };

/* `room`: 2 × SIP__STAMP_TEXT bytes for the texts. `value`: the Via value that `via` is of. */
void sip__stamp(const struct sip_via *via, struct slice value, const struct addr *source,
                char *room, struct sip__stamp *ret_stamp);

#endif
