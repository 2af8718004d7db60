/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers and encodings to and from text, each with a bound, and a writer that never overruns:
 * it keeps counting instead, so that "did it fit?" is one question at the end. */
#ifndef WEIR_BASE_TEXT_H
#define WEIR_BASE_TEXT_H

#include "check.h"
#include "slice.h"

/* Parses decimal digits, all of `s`, at most `max`. The maximum is checked before each multiply,
 * so no length of digits can wrap. Returns 0, or -1 (empty, a non-digit, above `max`);
 * `ret_value` is untouched then. */
MUST_USE int text_parse_u64(struct slice s, uint64_t max, uint64_t *ret_value);

/* A bounded writer over the caller's memory. Writes past `cap` are counted, not made. */
struct text {
    char *p;
    size_t n;   /* bytes that were asked for; may exceed cap */
    size_t cap;
};

static inline struct text text_into(void *p, size_t cap)
{
    return (struct text){(char *)p, 0, cap};
}

static inline bool text_fits(const struct text *t)
{
    return t->n <= t->cap;
}

/* What was written; only meaningful when text_fits(). */
static inline struct slice text_slice(const struct text *t)
{
    return (struct slice){t->p, t->n <= t->cap ? t->n : t->cap};
}

static inline void text_put(struct text *t, struct slice s)
{
    if (LIKELY(t->n + s.n <= t->cap) && s.n > 0)
        memcpy(t->p + t->n, s.p, s.n);
    t->n += s.n;
}

static inline void text_put_char(struct text *t, char c)
{
    if (LIKELY(t->n < t->cap))
        t->p[t->n] = c;
    t->n++;
}

/* For literals only: TEXT_LIT(&t, "SIP/2.0 "). */
#define TEXT_LIT(t, lit) text_put((t), SLICE(lit))

/* Appends `v` in decimal. */
void text_put_u64(struct text *t, uint64_t v);

/* Appends `s`, at most `max` bytes of it, with control bytes, DEL, bytes >= 0x80 and the
 * backslash as \xNN: what an attacker chose may be shown, but not obeyed by a terminal. */
void text_put_escaped(struct text *t, struct slice s, size_t max);

/* base64url without padding (RFC 4648 section 5): every byte of it is a SIP token character
 * except that '-' and '_' are too. text_base64url_size(n) characters come out of n bytes. */
static inline size_t text_base64url_size(size_t n)
{
    return n / 3 * 4 + (n % 3 == 0 ? 0 : n % 3 + 1);
}
void text_base64url_encode(const void *src, size_t n, char *dst);

/* Strict: refuses other alphabets, padding and non-zero spare bits, so that one value has one
 * spelling. `dst` holds `cap` bytes. Returns the number of bytes, or -1. */
MUST_USE int text_base64url_decode(struct slice s, void *dst, size_t cap);

/* Edit distance of two names, for did-you-mean; both are cut at 32 bytes. */
unsigned text_distance(struct slice a, struct slice b);

#endif
