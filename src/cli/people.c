/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers, spans of time and bars as people read them. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "cli/common.h"

void people_count(struct text *t, uint64_t v)
{
    char digits[24];
    struct text plain = text_into(digits, sizeof digits);
    text_put_u64(&plain, v);
    for (size_t i = 0; i < plain.n; i++) {
        if (i > 0 && (plain.n - i) % 3 == 0)
            text_put_char(t, ',');
        text_put_char(t, digits[i]);
    }
}

void people_things(struct text *t, uint64_t v, const char *thing)
{
    people_count(t, v);
    text_put_char(t, ' ');
    text_put(t, slice_cstr(thing));
    if (v != 1)
        text_put_char(t, 's');
}

static void put_two_digits(struct text *t, uint64_t v)
{
    text_put_char(t, (char)('0' + v / 10 % 10));
    text_put_char(t, (char)('0' + v % 10));
}

void people_clock(struct text *t, uint64_t ms)
{
    uint64_t s = ms / 1000 + (ms % 1000 != 0);
    if (s >= 3600) {
        people_count(t, s / 3600);
        text_put_char(t, ':');
        put_two_digits(t, s / 60 % 60);
    } else {
        text_put_u64(t, s / 60);
    }
    text_put_char(t, ':');
    put_two_digits(t, s % 60);
}

/* The locale as its variables say it, the strongest first (POSIX, XBD 8.2). */
static bool is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *v = getenv(names[i]);
        if (v != NULL && v[0] != '\0')
            return strcasestr(v, "utf-8") != NULL || strcasestr(v, "utf8") != NULL;
    }
    return false;
}

void people_bar(struct text *t, uint64_t done, uint64_t all)
{
    enum { CELLS = 20 };
    bool utf8 = is_utf8();
    uint64_t full = all > 0 ? (done < all ? done : all) * CELLS / all : CELLS;
    for (uint64_t i = 0; i < CELLS; i++)
        text_put(t, i < full ? (utf8 ? SLICE("▓") : SLICE("#")) : (utf8 ? SLICE("░") : SLICE(".")));
}

size_t people_width(struct slice s)
{
    size_t columns = 0;
    for (size_t i = 0; i < s.n; i++)
        columns += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return columns;
}

bool people_wants_colours(FILE *out)
{
    const char *no = getenv("NO_COLOR");
    return (no == NULL || no[0] == '\0') && people_redraws(out);
}

bool people_redraws(FILE *out)
{
    const char *term = getenv("TERM");
    return isatty(fileno(out)) != 0 && term != NULL && strcmp(term, "dumb") != 0;
}

int people_parse_span(const char *word, uint64_t *ret_ms)
{
    static const struct {
        struct slice unit;
        uint32_t ms;
    } units[] = {
        {{"ms", 2}, 1},      {{"s", 1}, 1000},     {{"m", 1}, 60000},
        {{"h", 1}, 3600000}, {{"d", 1}, 86400000},
    };
    size_t digits = strspn(word, "0123456789");
    uint64_t count;
    if (text_parse_u64(slice_of(word, digits), 100000, &count) != 0 || count == 0)
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!slice_equal(slice_cstr(word + digits), units[i].unit))
            continue;
        *ret_ms = count * units[i].ms;
        return 0;
    }
    return -1;
}
