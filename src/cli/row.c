/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the rows that our own control socket writes: flat objects of strings, numbers and words. */
#include "cli/common.h"

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

static int take_value(struct slice s, size_t at, struct slice *ret_text, size_t *ret_end)
{
    if (at < s.n && s.p[at] == '"')
        return take_string(s, at, ret_text, ret_end);
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
