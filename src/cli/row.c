/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the rows that our own control socket writes: objects of strings, numbers, words, and
 * objects of such. */
#include <stdlib.h>
#include "cli/common.h"
#include "net/net.h"

static size_t skip_blanks(struct slice s, size_t at)
{
    while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t' || s.p[at] == '\n' || s.p[at] == '\r'))
        at++;
    return at;
}

/* A string at s[at], which is its quote; *ret_end is behind the closing one. */
static int take_string(struct slice s, size_t at, struct slice *ret_text, size_t *ret_end)
{
    size_t begin = ++at;
    while (at < s.n && s.p[at] != '"')
        at += s.p[at] == '\\' ? 2 : 1;
    if (at >= s.n)
        return -1;
    *ret_text = slice_of(s.p + begin, at - begin);
    *ret_end = at + 1;
    return 0;
}

/* An object at s[at], its braces included. */
static int take_object(struct slice s, size_t at, struct slice *ret_text, size_t *ret_end)
{
    size_t begin = at, depth = 0;
    struct slice ignored;
    while (at < s.n) {
        if (s.p[at] == '"') {
            if (take_string(s, at, &ignored, &at) != 0)
                return -1;
            continue;
        }
        depth += s.p[at] == '{';
        depth -= s.p[at] == '}';
        at++;
        if (depth == 0)
            break;
    }
    *ret_text = slice_of(s.p + begin, at - begin);
    *ret_end = at;
    return depth == 0 ? 0 : -1;
}

static int take_value(struct slice s, size_t at, struct slice *ret_text, size_t *ret_end)
{
    if (at < s.n && s.p[at] == '"')
        return take_string(s, at, ret_text, ret_end);
    if (at < s.n && s.p[at] == '{')
        return take_object(s, at, ret_text, ret_end);
    size_t begin = at;
    while (at < s.n && s.p[at] != ',' && s.p[at] != '}' && s.p[at] != '{' && s.p[at] != '[')
        at++;
    if (at == begin || at >= s.n || s.p[at] == '{' || s.p[at] == '[')
        return -1;
    *ret_text = slice_trim(slice_of(s.p + begin, at - begin));
    *ret_end = at;
    return 0;
}

int row_parse(struct slice line, struct row *ret_row)
{
    struct slice s = slice_trim(line);
    ret_row->count = 0;
    if (s.n < 2 || s.p[0] != '{' || s.p[s.n - 1] != '}')
        return -1;
    size_t at = skip_blanks(s, 1);
    while (s.p[at] != '}') {
        struct slice key, value;
        if (s.p[at] != '"' || take_string(s, at, &key, &at) != 0)
            return -1;
        at = skip_blanks(s, at);
        if (at >= s.n || s.p[at] != ':')
            return -1;
        if (take_value(s, skip_blanks(s, at + 1), &value, &at) != 0)
            return -1;
        if (ret_row->count < ROW_FIELDS_MAX) {
            ret_row->key[ret_row->count] = key;
            ret_row->value[ret_row->count++] = value;
        }
        at = skip_blanks(s, at);
        if (at < s.n && s.p[at] == ',')
            at = skip_blanks(s, at + 1);
        else if (at >= s.n || s.p[at] != '}')
            return -1;
        if (at >= s.n)
            return -1;
    }
    return 0;
}

struct slice row_get(const struct row *r, const char *key)
{
    for (unsigned i = 0; i < r->count; i++)
        if (slice_equal(r->key[i], slice_cstr(key)))
            return r->value[i];
    return SLICE_NONE;
}

uint64_t row_number(const struct row *r, const char *key)
{
    uint64_t v = 0;
    return text_parse_u64(row_get(r, key), UINT64_MAX, &v) == 0 ? v : 0;
}

bool row_true(const struct row *r, const char *key)
{
    return slice_equal(row_get(r, key), SLICE("true"));
}

/* ---- answers --------------------------------------------------------------------------------- */

static int parse_rows(struct rows *a, size_t n)
{
    struct slice rest = slice_of(a->text, n);
    size_t cap = 0;
    while (rest.n > 0) {
        size_t line = slice_find(rest, '\n');
        if (a->count == cap) {
            cap = cap * 2 + 32;
            struct row *grown = (struct row *)realloc(a->row, cap * sizeof a->row[0]);
            if (grown == NULL)
                return -1;
            a->row = grown;
        }
        if (row_parse(slice_take(rest, line), &a->row[a->count]) != 0)
            return -1;
        a->count++;
        rest = slice_drop(rest, line + 1);
    }
    return 0;
}

int rows_fetch(const char *path, const char *request, struct rows *ret_rows)
{
    size_t n = 0;
    *ret_rows = (struct rows){0};
    FILE *f = open_memstream(&ret_rows->text, &n);
    if (f == NULL)
        return CLI_FAILED;
    int status = control_call(path, request, f, stderr);
    fclose(f);
    if (status == CLI_OK && parse_rows(ret_rows, n) != 0) {
        fputs("weir: the answer cannot be read\n", stderr);
        status = CLI_FAILED;
    }
    return status;
}

void rows_free(struct rows *r)
{
    free(r->row);
    free(r->text);
}
