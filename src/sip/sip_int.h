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

/* Classes of bytes (RFC 3261 25.1), several a byte. Where the grammar is narrower than what is
 * seen on real networks, and only the final reader could care, the class is the wider one. */
enum {
    SIP__TOKEN = 1,   /* token */
    SIP__BLANK = 2,   /* SP HTAB CR LF: a fold is blank, the index has checked its shape */
    SIP__HOST = 4,    /* hostname, IPv4address; '_' is common in private names */
    SIP__USER = 8,    /* userinfo; wider: any visible ASCII but <>"@ ('#' of a dialled code) */
    SIP__PVALUE = 16, /* value of a header parameter; wider: "tag=x/y==" is real */
    SIP__ALNUM = 32,  /* with SIP__SCHEME: scheme of a URI */
    SIP__SCHEME = 64, /* ALPHA DIGIT + - . */
    SIP__WORD = 128,  /* Call-ID; wider: anything visible */
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

static inline bool sip__is_blank(char c) /* SP HTAB: the only ones inside a line */
{
    return c == ' ' || c == '\t';
}

static inline const char *sip__skip(const char *p, const char *end, unsigned class)
{
    while (p < end && sip__is(*p, class))
        p++;
    return p;
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
    while (end - p >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned hits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(x, cr), x));
        while (hits != 0) {
            const char *at = p + __builtin_ctz(hits);
            if (LIKELY(*at == '\r' || *at == '\n' || *at == '\0'))
                return at;
            hits &= hits - 1;
        }
        p += 16;
    }
    return sip__line_stop_scalar(p, end);
}
#else
static inline const char *sip__line_stop(const char *p, const char *end)
{
    return sip__line_stop_scalar(p, end);
}
#endif

/* Is the NUL at `at` the second byte of a quoted-pair (RFC 3261 25.1; RFC 4475 3.1.1.2)? Only
 * such a one may stand in a head. `begin` is the start of the line. */
static inline bool sip__nul_is_quoted(const char *begin, const char *at)
{
    const char *p = at;
    while (p > begin && p[-1] == '\\')
        p--;
    return ((at - p) & 1) != 0;
}

/* Case-insensitive compare with a lower-case literal of letters and '-'. */
static inline bool sip__equal_lower(struct slice s, const char *lower, size_t n)
{
    if (s.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = s.p[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 0x20);
        if (c != lower[i])
            return false;
    }
    return true;
}
#define SIP__EQUAL(s, lit) sip__equal_lower((s), "" lit "", sizeof(lit) - 1)

/* All of `s` as decimal digits. 0; SIP_E_SYNTAX: empty or not digits; SIP_E_LIMIT: above max. */
int sip__digits(struct slice s, uint64_t max, uint64_t *ret_value);

/* header-name *(SP / HTAB) ":" at the start of a line. Returns the place behind the colon and
 * sets *ret_len to the bytes of the name, or NULL. The framer, the index and whoever looks for a
 * name use this one, so that no blank can hide a header from one of them (CVE-2020-28361). */
static inline const char *sip__header_colon(const char *p, const char *end, size_t *ret_len)
{
    const char *q = sip__skip(p, end, SIP__TOKEN);
    *ret_len = (size_t)(q - p);
    while (q < end && sip__is_blank(*q))
        q++;
    return q < end && *q == ':' && *ret_len > 0 ? q + 1 : NULL;
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

/* ---- decoding ------------------------------------------------------------------------------ */

/* p stands on '"'. The place behind the closing quote, or NULL when there is none. */
const char *sip__quoted(const char *p, const char *end);

/* One ";name=value" of a header. */
struct sip__param {
    struct slice name;
    struct slice value; /* quotes kept; empty for a flag */
    const char *stop;   /* behind the last byte of name or value */
};

/* Reads the parameter at *pp (blanks, ';', …). 1: read, *pp behind it; 0: none here, *pp at `end`
 * or at a byte that is neither blank nor ';'; SIP_E_SYNTAX. */
int sip__next_param(const char **pp, const char *end, struct sip__param *ret_param);

/* One Via value at p; *ret_stop is `end` or the comma behind it. `ret_span_end`: behind its last
 * byte that is not blank. */
int sip__via(const char *p, const char *end, struct sip_via *ret_via, const char **ret_span_end,
             const char **ret_stop);

/* One name-addr or addr-spec at p, up to `end` or, `in_list`, a comma; its tag if there is one. */
int sip__nameaddr(const char *p, const char *end, bool in_list, struct sip_nameaddr *ret_na,
                  struct slice *ret_tag, const char **ret_stop);

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
