/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that goes as a whole, errors with places, and did-you-mean. */
#include "config/config_int.h"

#include <stdarg.h>
#include <stdlib.h>

/* ---- memory ---------------------------------------------------------------------------------- */

struct chunk {
    struct chunk *next;
    size_t used, cap;
    _Alignas(max_align_t) char bytes[];
};

enum { CHUNK_BYTES = 16 * 1024 - sizeof(struct chunk) };

void *mem_take(struct mem *m, size_t n)
{
    size_t align = _Alignof(max_align_t);
    n = n == 0 ? align : (n + (align - 1)) & ~(align - 1);
    size_t max = m->max != 0 ? m->max : MEMORY_BYTES_MAX;
    if (n > max - m->taken) {
        m->exhausted = true;
        return NULL;
    }
    struct chunk *c = m->first;
    if (c == NULL || c->cap - c->used < n) {
        size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        c = (struct chunk *)calloc(1, sizeof(struct chunk) + cap);
        if (c == NULL) {
            m->exhausted = true;
            return NULL;
        }
        c->cap = cap;
        c->next = m->first;
        m->first = c;
    }
    void *p = c->bytes + c->used;
    c->used += n;
    m->taken += n;
    return p;
}

struct slice mem_copy(struct mem *m, struct slice s)
{
    char *p = (char *)mem_take(m, s.n + 1); /* NUL-terminated, for paths */
    if (p == NULL)
        return SLICE("");
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return slice_of(p, s.n);
}

void mem_free(struct chunk *first)
{
    while (first != NULL) {
        struct chunk *next = first->next;
        free(first);
        first = next;
    }
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void add_line(struct report *r, struct slice file, struct place at, const char *what,
                     va_list args)
{
    if (r->count++ >= ERRORS_MAX)
        return;
    char text[1024];
    int n = vsnprintf(text, sizeof text, what, args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    struct report_line *line = MEM_NEW(r->mem, struct report_line);
    if (line == NULL)
        return;
    *line = (struct report_line){.file = file, .at = at};
    line->text = mem_copy(r->mem, slice_of(text, len)).p;
    *r->last = line;
    r->last = &line->next;
}

void report_at(struct report *r, struct place at, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    add_line(r, r->file, at, what, args);
    va_end(args);
}

void report_in(struct report *r, struct slice file, struct place at, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    add_line(r, file, at, what, args);
    va_end(args);
}

const char *report_show(struct report *r, struct slice s)
{
    char room[4 * SHOWN_BYTES_MAX + 4];
    struct text t = text_into(room, sizeof room);
    text_put_escaped(&t, s, SHOWN_BYTES_MAX);
    if (s.n > SHOWN_BYTES_MAX)
        TEXT_LIT(&t, "...");
    return mem_copy(r->mem, text_slice(&t)).p;
}

/* The file itself before others that it names; then by place; then as found. */
static bool goes_before(const struct report *r, const struct report_line *a,
                        const struct report_line *b)
{
    bool a_here = slice_equal(a->file, r->file), b_here = slice_equal(b->file, r->file);
    if (a_here != b_here)
        return a_here;
    if (a->at.line != b->at.line)
        return a->at.line < b->at.line;
    return a->at.column < b->at.column;
}

void report_write(struct report *r, FILE *errors)
{
    struct report_line *sorted = NULL;
    for (struct report_line *line = r->first, *next; line != NULL; line = next) {
        next = line->next;
        struct report_line **at = &sorted;
        while (*at != NULL && !goes_before(r, line, *at))
            at = &(*at)->next;
        line->next = *at;
        *at = line;
    }
    r->first = sorted;
    for (const struct report_line *line = sorted; line != NULL; line = line->next)
        fprintf(errors, "%.*s:%u:%u: %s\n", SLICE_ARG(line->file), line->at.line, line->at.column,
                line->text);
    if (r->count > ERRORS_MAX)
        fprintf(errors, "%.*s: and %u errors more\n", SLICE_ARG(r->file), r->count - ERRORS_MAX);
}

/* ---- did you mean ---------------------------------------------------------------------------- */

struct guess guess_begin(struct slice typed)
{
    return (struct guess){.typed = typed, .distance = UINT32_MAX};
}

void guess_try(struct guess *g, struct slice candidate)
{
    unsigned d = text_distance(g->typed, candidate);
    if (g->typed.n >= 3 && d > 1 && slice_starts_with(candidate, g->typed))
        d = 1; /* cut short, which is no more than one slip */
    if (d < g->distance) {
        g->distance = d;
        g->best = candidate;
    }
}

bool guess_found(const struct guess *g)
{
    /* One slip in three letters is a slip; more is another word. */
    size_t longer = g->typed.n > g->best.n ? g->typed.n : g->best.n;
    size_t allowed = longer < 3 ? 1 : longer / 3;
    return g->distance <= (allowed > 3 ? 3 : allowed) && g->distance < longer;
}
