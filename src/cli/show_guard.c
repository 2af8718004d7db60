/* SPDX-License-Identifier: Apache-2.0
 *
 * weir show guard: totals on top, then what an operator said, then sources and neighbourhoods, the
 * most important first. Every worker tells its own: they are put together here. */
#include <stdlib.h>
#include <string.h>
#include "cli/common.h"

/* More are for machines to read. */
enum { SOURCES_SHOWN = 40 };

static bool is_row(const struct row *r, const char *kind)
{
    return slice_equal(row_get(r, "row"), slice_cstr(kind));
}

/* ---- totals ----------------------------------------------------------------------------------
 */

static uint64_t sum_of(const struct rows *rows, const char *key)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < rows->count; i++)
        if (is_row(&rows->row[i], "totals"))
            sum += row_number(&rows->row[i], key);
    return sum;
}

static uint64_t most_of(const struct rows *rows, const char *key)
{
    uint64_t most = 0;
    for (size_t i = 0; i < rows->count; i++) {
        uint64_t v = is_row(&rows->row[i], "totals") ? row_number(&rows->row[i], key) : 0;
        most = v > most ? v : most;
    }
    return most;
}

static void put_name(struct text *t, struct slice key)
{
    for (size_t i = 0; i < key.n; i++)
        text_put_char(t, key.p[i] == '_' ? ' ' : key.p[i]);
}

/* Of an object of numbers in each row of totals their sum by name: "12: source full 7, banned 5".
 */
static void put_sums(struct text *t, const struct rows *rows, const char *object)
{
    struct row sum = {0};
    uint64_t number[ROW_FIELDS_MAX] = {0}, all = 0;
    for (size_t i = 0; i < rows->count; i++) {
        struct row r;
        if (!is_row(&rows->row[i], "totals") || row_parse(row_get(&rows->row[i], object), &r) != 0)
            continue;
        sum = r; /* all have the same keys */
        for (unsigned k = 0; k < r.count; k++) {
            uint64_t v = 0;
            if (text_parse_u64(r.value[k], UINT64_MAX, &v) == 0)
                number[k] += v;
            all += v;
        }
    }
    people_count(t, all);
    struct slice before = SLICE(": ");
    for (unsigned k = 0; k < sum.count; k++) {
        if (number[k] == 0)
            continue;
        text_put(t, before);
        put_name(t, sum.key[k]);
        text_put_char(t, ' ');
        people_count(t, number[k]);
        before = SLICE(", ");
    }
}

static void print_line(const char *head, const struct text *t)
{
    printf("%-13s %.*s\n", head, SLICE_ARG(text_slice(t)));
}

static bool is_report_only(const struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        if (is_row(&rows->row[i], "totals") && row_true(&rows->row[i], "report_only"))
            return true;
    return false;
}

static void print_mode(bool report_only)
{
    const char *on = report_only && people_wants_colours(stdout) ? "\033[33m" : "";
    printf("%-13s %s%s%s\n", "mode", on,
           report_only ? "REPORT ONLY: what is over a limit is counted, and let in all the same"
                       : "enforcing: what is over a limit is refused",
           on[0] != '\0' ? "\033[0m" : "");
}

static void print_connections(const struct rows *rows)
{
    char bytes[128];
    struct text t = text_into(bytes, sizeof bytes);
    uint64_t most = sum_of(rows, "connections_max");
    people_count(&t, sum_of(rows, "connections"));
    if (most > 0) {
        TEXT_LIT(&t, " of at most ");
        people_count(&t, most);
    }
    TEXT_LIT(&t, ", ");
    people_count(&t, sum_of(rows, "let_in"));
    TEXT_LIT(&t, " let in since the start");
    print_line("connections", &t);
}

static void print_delay(const struct rows *rows)
{
    char bytes[128];
    struct text t = text_into(bytes, sizeof bytes);
    uint64_t us = most_of(rows, "delay_us"), permille = most_of(rows, "shed_permille");
    text_put_u64(&t, us / 1000);
    text_put_char(&t, '.');
    text_put_u64(&t, us / 100 % 10);
    TEXT_LIT(&t, " ms, ");
    if (permille == 0) {
        TEXT_LIT(&t, "nothing is shed");
    } else {
        TEXT_LIT(&t, "of what comes ");
        text_put_u64(&t, permille / 10);
        text_put_char(&t, '.');
        text_put_u64(&t, permille % 10);
        TEXT_LIT(&t, " % is shed");
    }
    print_line("delay", &t);
}

static void print_totals(const struct rows *rows)
{
    char bytes[1024];
    bool report_only = is_report_only(rows);
    print_mode(report_only);
    print_connections(rows);
    struct text t = text_into(bytes, sizeof bytes);
    put_sums(&t, rows, "refused");
    print_line(report_only ? "would refuse" : "refused", &t);
    t = text_into(bytes, sizeof bytes);
    put_sums(&t, rows, "over");
    print_line("over a rate", &t);
    t = text_into(bytes, sizeof bytes);
    people_count(&t, sum_of(rows, "bans"));
    TEXT_LIT(&t, " begun since the start");
    print_line(report_only ? "would ban" : "bans", &t);
    t = text_into(bytes, sizeof bytes);
    people_count(&t, sum_of(rows, "sources"));
    TEXT_LIT(&t, " of at most ");
    people_count(&t, sum_of(rows, "sources_max"));
    TEXT_LIT(&t, ", ");
    people_count(&t, sum_of(rows, "sources_forgotten"));
    TEXT_LIT(&t, " forgotten for want of room");
    print_line("remembered", &t);
    print_delay(rows);
    t = text_into(bytes, sizeof bytes);
    put_sums(&t, rows, "shed");
    TEXT_LIT(&t, "; ");
    people_count(&t, sum_of(rows, "aged"));
    TEXT_LIT(&t, " too old to be worked on");
    print_line(report_only ? "would shed" : "shed", &t);
}

/* ---- an operator's lists ---------------------------------------------------------------------
 */

static bool same_item(const struct row *a, const struct row *b)
{
    return is_row(a, "list") && is_row(b, "list") &&
           slice_equal(row_get(a, "prefix"), row_get(b, "prefix"));
}

static void print_lists(const struct rows *rows)
{
    static const char *const heads[] = {"SAID", "PREFIX", "FOR", "REFUSED"};
    struct table *t = NULL;
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *r = &rows->row[i];
        char bytes[32];
        struct text left = text_into(bytes, sizeof bytes);
        uint64_t refused = 0;
        bool first = is_row(r, "list");
        for (size_t k = 0; first && k < i; k++)
            first = !same_item(r, &rows->row[k]);
        if (!first)
            continue;
        if (t == NULL) {
            putchar('\n');
            t = table_new(heads, 4);
        }
        for (size_t k = i; k < rows->count; k++)
            if (same_item(r, &rows->row[k]))
                refused += row_number(&rows->row[k], "refused");
        if (row_get(r, "for_s").p != NULL)
            people_clock(&left, row_number(r, "for_s") * 1000);
        table_add(t, row_get(r, "list"));
        table_add(t, row_get(r, "prefix"));
        table_add(t, left.n > 0 ? text_slice(&left) : SLICE("good"));
        table_add_u64(t, refused);
    }
    if (t != NULL)
        table_print(t, stdout, "");
}

/* ---- sources ---------------------------------------------------------------------------------
 */

struct seen {
    struct slice prefix;
    uint64_t connections, refused, banned_ms, ban_level;
    bool host, known, proven;
};

static int by_prefix(const void *left, const void *right)
{
    const struct seen *a = (const struct seen *)left, *b = (const struct seen *)right;
    size_t n = a->prefix.n < b->prefix.n ? a->prefix.n : b->prefix.n;
    int order = memcmp(a->prefix.p, b->prefix.p, n);
    return order != 0 ? order : (a->prefix.n > b->prefix.n) - (a->prefix.n < b->prefix.n);
}

/* Who is refused altogether, who is refused most, who holds most. */
static int by_importance(const void *left, const void *right)
{
    const struct seen *a = (const struct seen *)left, *b = (const struct seen *)right;
    if ((a->banned_ms > 0) != (b->banned_ms > 0))
        return a->banned_ms > 0 ? -1 : 1;
    if (a->refused != b->refused)
        return a->refused > b->refused ? -1 : 1;
    if (a->connections != b->connections)
        return a->connections > b->connections ? -1 : 1;
    return by_prefix(left, right);
}

static void merge(struct seen *into, const struct seen *more)
{
    into->connections += more->connections;
    into->refused += more->refused;
    into->known |= more->known;
    into->proven |= more->proven;
    if (more->banned_ms > into->banned_ms)
        into->banned_ms = more->banned_ms;
    if (more->ban_level > into->ban_level)
        into->ban_level = more->ban_level;
}

/* Returns how many there are, each once; NULL in *ret_seen when there is no memory. */
static size_t collect(const struct rows *rows, struct seen **ret_seen)
{
    struct seen *all = (struct seen *)calloc(rows->count + 1, sizeof *all);
    size_t count = 0, kept = 0;
    *ret_seen = all;
    for (size_t i = 0; all != NULL && i < rows->count; i++) {
        const struct row *r = &rows->row[i];
        if (!is_row(r, "source") && !is_row(r, "prefix"))
            continue;
        all[count++] = (struct seen){.prefix = row_get(r, "prefix"),
                                     .connections = row_number(r, "connections"),
                                     .refused = row_number(r, "refused"),
                                     .banned_ms = row_number(r, "banned_for_ms"),
                                     .ban_level = row_number(r, "ban_level"),
                                     .host = is_row(r, "source"),
                                     .known = row_true(r, "known"),
                                     .proven = row_true(r, "proven")};
    }
    if (count == 0)
        return 0;
    qsort(all, count, sizeof *all, by_prefix);
    for (size_t i = 1; i < count; i++) {
        if (by_prefix(&all[kept], &all[i]) == 0)
            merge(&all[kept], &all[i]);
        else
            all[++kept] = all[i];
    }
    qsort(all, kept + 1, sizeof *all, by_importance);
    return kept + 1;
}

static void add_ban(struct table *t, const struct seen *s)
{
    char bytes[64];
    struct text text = text_into(bytes, sizeof bytes);
    if (s->banned_ms == 0) {
        table_add(t, SLICE("-"));
        return;
    }
    people_clock(&text, s->banned_ms);
    if (!s->proven)
        TEXT_LIT(&text, ", datagrams only");
    table_add(t, text_slice(&text));
    table_mark(t, MARK_BAD);
}

static void print_sources(const struct rows *rows, bool report_only)
{
    static const char *const enforced[] = {"SOURCE", "CONNECTIONS", "REFUSED",
                                           "KNOWN",  "BANNED FOR",  "BANS"};
    static const char *const reported[] = {"SOURCE", "CONNECTIONS",   "WOULD REFUSE",
                                           "KNOWN",  "WOULD BAN FOR", "BANS"};
    struct seen *seen;
    size_t count = collect(rows, &seen);
    if (count > 0) {
        putchar('\n');
        struct table *t = table_new(report_only ? reported : enforced, 6);
        for (size_t i = 0; i < count && i < SOURCES_SHOWN; i++) {
            const struct seen *s = &seen[i];
            bool whole = s->prefix.n > 3 && memcmp(s->prefix.p + s->prefix.n - 3, "/32", 3) == 0;
            table_add(t, s->host && whole ? slice_take(s->prefix, s->prefix.n - 3) : s->prefix);
            table_add_u64(t, s->connections);
            table_add_u64(t, s->refused);
            table_add(t, s->known ? SLICE("yes") : SLICE("-"));
            add_ban(t, s);
            table_add_u64(t, s->ban_level);
        }
        table_print(t, stdout, "");
        if (count > SOURCES_SHOWN)
            printf("… and %zu more: -o json\n", count - SOURCES_SHOWN);
    }
    free(seen);
}

void show_guard(const struct rows *rows)
{
    print_totals(rows);
    print_lists(rows);
    print_sources(rows, is_report_only(rows));
}
