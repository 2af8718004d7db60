/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "cli/common.h"

enum { COLUMNS_MAX = 16, GAP = 2 };

struct cell {
    char *text;
    uint8_t mark;
};

struct table {
    const char *const *heads;
    unsigned columns;
    size_t count, cap;
    struct cell *cells;
    bool is_number[COLUMNS_MAX];
};

static void *or_die(void *p)
{
    if (p == NULL) {
        fputs("weir: no memory\n", stderr);
        exit(CLI_FAILED);
    }
    return p;
}

struct table *table_new(const char *const *heads, unsigned columns)
{
    struct table *t = (struct table *)or_die(calloc(1, sizeof *t));
    MUST(columns > 0 && columns <= COLUMNS_MAX);
    t->heads = heads;
    t->columns = columns;
    for (unsigned i = 0; i < columns; i++)
        t->is_number[i] = true;
    return t;
}

static bool looks_like_number(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return true;
}

void table_add(struct table *t, struct slice cell)
{
    if (t->count == t->cap) {
        t->cap = t->cap * 2 + 64;
        t->cells = (struct cell *)or_die(realloc(t->cells, t->cap * sizeof t->cells[0]));
    }
    char *text = (char *)or_die(malloc(cell.n + 1));
    size_t n = 0;
    for (size_t i = 0; i < cell.n; i++) { /* JSON's escapes of quotes and backslashes */
        if (cell.p[i] == '\\' && i + 1 < cell.n && (cell.p[i + 1] == '"' || cell.p[i + 1] == '\\'))
            i++;
        text[n++] = cell.p[i];
    }
    text[n] = '\0';
    if (!looks_like_number(cell))
        t->is_number[t->count % t->columns] = false;
    t->cells[t->count++] = (struct cell){text, MARK_NONE};
}

void table_add_u64(struct table *t, uint64_t v)
{
    char bytes[24];
    struct text text = text_into(bytes, sizeof bytes);
    text_put_u64(&text, v);
    table_add(t, text_slice(&text));
}

void table_mark(struct table *t, enum mark m)
{
    MUST(t->count > 0);
    t->cells[t->count - 1].mark = (uint8_t)m;
}

static void print_cell(FILE *out, const char *text, int width, bool right, bool last,
                       const char *colour)
{
    int pad = width - (int)strlen(text);
    if (right)
        fprintf(out, "%*s", pad, "");
    fprintf(out, "%s%s%s", colour, text, colour[0] != '\0' ? "\033[0m" : "");
    if (!last)
        fprintf(out, "%*s", (right ? 0 : pad) + GAP, "");
}

static void print_rows(const struct table *t, FILE *out)
{
    static const char *const colours[] = {"", "\033[32m", "\033[31m", "\033[33m"};
    bool colourful = people_wants_colours(out);
    int width[COLUMNS_MAX];
    for (unsigned i = 0; i < t->columns; i++)
        width[i] = (int)strlen(t->heads[i]);
    for (size_t i = 0; i < t->count; i++) {
        int n = (int)strlen(t->cells[i].text);
        if (n > width[i % t->columns])
            width[i % t->columns] = n;
    }
    for (unsigned i = 0; i < t->columns; i++)
        print_cell(out, t->heads[i], width[i], t->is_number[i], i + 1 == t->columns,
                   colourful ? "\033[1m" : "");
    fputc('\n', out);
    for (size_t i = 0; i < t->count; i++) {
        unsigned column = (unsigned)(i % t->columns);
        print_cell(out, t->cells[i].text, width[column], t->is_number[column],
                   column + 1 == t->columns, colourful ? colours[t->cells[i].mark] : "");
        if (column + 1 == t->columns)
            fputc('\n', out);
    }
}

void table_print(struct table *t, FILE *out, const char *empty)
{
    if (t->count == 0)
        fprintf(stderr, "%s\n", empty);
    else
        print_rows(t, out);
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i].text);
    free(t->cells);
    free(t);
}
