/* SPDX-License-Identifier: Apache-2.0
 *
 * A slice is a view of bytes that somebody else owns. Never assumed NUL-terminated. */
#ifndef WEIR_BASE_SLICE_H
#define WEIR_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

#define SLICE(lit)     ((struct slice){"" lit "", sizeof(lit) - 1})
#define SLICE_NONE     ((struct slice){NULL, 0})
#define SLICE_ARG(s)   (int)(s).n, (s).p /* for printf's %.*s */

/* Wraps `n` bytes at `p`. The bytes stay the caller's. */
static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){(const char *)p, n};
}

/* Wraps a NUL-terminated string of our own (config, tables): never wire text. */
static inline struct slice slice_cstr(const char *s)
{
    return (struct slice){s, s != NULL ? strlen(s) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Compares ASCII letters without case, every other byte exactly. */
bool slice_equal_nocase(struct slice a, struct slice b);

/* Total order by bytes, shorter first on a common prefix: <0, 0, >0. */
int slice_compare(struct slice a, struct slice b);

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* Drops the first `n` bytes (at most all of them). */
static inline struct slice slice_drop(struct slice s, size_t n)
{
    size_t k = n < s.n ? n : s.n;
    return (struct slice){s.p + k, s.n - k};
}

/* The first `n` bytes (at most all of them). */
static inline struct slice slice_take(struct slice s, size_t n)
{
    return (struct slice){s.p, n < s.n ? n : s.n};
}

/* Index of the first `c`, or s.n when there is none. */
static inline size_t slice_find(struct slice s, char c)
{
    const char *hit = s.n > 0 ? (const char *)memchr(s.p, c, s.n) : NULL;
    return hit != NULL ? (size_t)(hit - s.p) : s.n;
}

/* Without blanks (SP, HTAB, CR, LF) at either end. */
struct slice slice_trim(struct slice s);

#endif
