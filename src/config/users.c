/* SPDX-License-Identifier: Apache-2.0
 *
 * The file of credentials: one a line, as htdigest writes them, with a second hash behind.
 *
 *      alice:example.com:5f4d…32 digits
 *      bob:example.com:a0b1…32 digits:77c2…64 digits
 *      carol:example.com::01fe…64 digits            SHA-256 only
 *
 * What is kept are names and hashes; the text itself is wiped. */
#include "config/config_int.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct entry {
    struct registrar_user user;
    uint32_t line;
};
struct reading {
    struct report *report;
    struct slice file;
    struct slice realm;
    struct entry *entries;
    uint32_t count;
    struct slice other_realm; /* of the first line that is not of ours */
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Exactly `bytes` bytes in hex. */
static bool read_hex(struct slice s, uint8_t *ret, size_t bytes)
{
    if (s.n != 2 * bytes)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        int high = hex_digit(s.p[2 * i]), low = hex_digit(s.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_user_name(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f || s.p[i] == '"' || s.p[i] == '\\')
            return false;
    return s.n >= 1 && s.n <= USER_BYTES_MAX;
}

/* The hashes behind user and realm. Their text is never shown. */
static const char *read_hashes(struct slice s, struct registrar_user *u)
{
    struct slice md5 = slice_take(s, slice_find(s, ':'));
    struct slice sha256 = slice_drop(s, md5.n + 1);
    u->has_md5 = md5.n > 0;
    u->has_sha256 = sha256.n > 0;
    if (!u->has_md5 && !u->has_sha256)
        return "a user without a hash; write USER:REALM:HA1";
    if (u->has_md5 && !read_hex(md5, u->ha1_md5, sizeof u->ha1_md5))
        return "the hash is not one of MD5; write 32 hex digits, never a password";
    if (u->has_sha256 && !read_hex(sha256, u->ha1_sha256, sizeof u->ha1_sha256))
        return "the second hash is not one of SHA-256; write 64 hex digits, or nothing";
    return NULL;
}

static void read_line(struct reading *g, struct slice line, struct place at)
{
    struct slice name = slice_take(line, slice_find(line, ':'));
    struct slice rest = slice_drop(line, name.n + 1);
    struct slice realm = slice_take(rest, slice_find(rest, ':'));
    if (name.n == line.n || realm.n == rest.n) {
        report_in(g->report, g->file, at, "no credentials; write USER:REALM:HA1");
        return;
    }
    if (!is_user_name(name)) {
        report_in(g->report, g->file, at,
                  "`%s` is not a user; write 1 to %d letters without quotes, backslashes and "
                  "control characters",
                  report_show(g->report, name), USER_BYTES_MAX);
        return;
    }
    if (!slice_equal(realm, g->realm)) {
        if (g->other_realm.p == NULL)
            g->other_realm = realm;
        return;
    }
    struct registrar_user *u = &g->entries[g->count].user;
    *u = (struct registrar_user){.name = name};
    at.column += (uint32_t)(name.n + 1 + realm.n + 1);
    const char *trouble = read_hashes(slice_drop(rest, realm.n + 1), u);
    if (trouble != NULL) {
        report_in(g->report, g->file, at, "%s", trouble);
        return;
    }
    g->entries[g->count++].line = at.line;
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = (const struct entry *)a, *y = (const struct entry *)b;
    int order = slice_compare(x->user.name, y->user.name);
    return order != 0 ? order : x->line < y->line ? -1 : x->line > y->line;
}

/* By name, each once. */
static void sort(struct reading *g)
{
    if (g->count < 2)
        return;
    qsort(g->entries, g->count, sizeof g->entries[0], by_name);
    for (uint32_t i = 1; i < g->count && g->report->count <= ERRORS_MAX; i++) {
        const struct entry *e = &g->entries[i];
        if (slice_equal(e->user.name, e[-1].user.name))
            report_in(g->report, g->file, (struct place){e->line, 1},
                      "`%s` has a line already, line %u; keep one of them",
                      report_show(g->report, e->user.name), e[-1].line);
    }
}

/* Out of the memory of the reading into that of the snapshot. */
static void keep(const struct reading *g, struct mem *m, struct registrar_opts *o)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < g->count; i++)
        bytes += g->entries[i].user.name.n;
    m->max = (m->max != 0 ? m->max : MEMORY_BYTES_MAX) + bytes +
             (sizeof(struct registrar_user) + 1) * g->count + 64;
    struct registrar_user *users = MEM_ARRAY(m, struct registrar_user, g->count);
    char *p = (char *)mem_take(m, bytes);
    if (users == NULL || p == NULL)
        return;
    for (uint32_t i = 0; i < g->count; i++) {
        struct slice name = g->entries[i].user.name;
        memcpy(p, name.p, name.n);
        users[i] = g->entries[i].user;
        users[i].name = slice_of(p, name.n);
        p += name.n;
    }
    o->users = users;
    o->user_count = g->count;
}

static bool read_lines(struct reading *g, struct slice text, struct place at)
{
    struct slice rest = text;
    for (struct place here = {1, 1}; rest.n > 0 && g->report->count <= ERRORS_MAX; here.line++) {
        size_t end = slice_find(rest, '\n');
        struct slice line = slice_trim(slice_take(rest, end));
        rest = slice_drop(rest, end + 1);
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (g->count == USERS_MAX) {
            report_in(g->report, g->file, here, "more than %d users; spread them over registrars",
                      USERS_MAX);
            return false;
        }
        read_line(g, line, here);
    }
    if (g->count > 0 || g->other_realm.p == NULL || g->report->count > 0)
        return true;
    report_at(g->report, at,
              "`%s` has nobody of the realm `%s`, its first line is of `%s`; correct one of them",
              report_show(g->report, g->file), report_show(g->report, g->realm),
              report_show(g->report, g->other_realm));
    return false;
}

static uint32_t lines_in(struct slice s)
{
    uint32_t lines = 1;
    for (; s.n > 0; s = slice_drop(s, slice_find(s, '\n') + 1))
        lines++;
    return lines;
}

void users_read(struct report *r, struct slice path, struct place at, struct registrar_opts *o)
{
    /* Not the snapshot's memory: the text goes when it has been read. */
    struct mem m = {.max = 2 * (size_t)USERS_FILE_BYTES_MAX};
    struct slice text;
    unsigned mode;
    int error = file_read(&m, path.p, USERS_FILE_BYTES_MAX, &text, &mode);
    if (error != 0) {
        const char *why = file_trouble(error);
        report_at(r, at, "`%s` cannot be read: %s; write a readable file of USER:REALM:HA1 lines",
                  report_show(r, path), why);
    } else if ((mode & S_IRWXO) != 0) {
        report_at(r, at,
                  "`%s` is open to every user of this machine (mode %03o); chmod o= it, and "
                  "change its passwords",
                  report_show(r, path), mode & 0777);
    } else {
        uint32_t lines = lines_in(text);
        struct reading g = {.report = r, .file = path, .realm = o->realm};
        g.entries = MEM_ARRAY(&m, struct entry, lines < USERS_MAX ? lines : USERS_MAX);
        if (g.entries == NULL)
            r->mem->exhausted = true;
        else if (read_lines(&g, text, at))
            sort(&g);
        if (g.entries != NULL)
            keep(&g, r->mem, o);
        explicit_bzero((void *)(uintptr_t)text.p, text.n);
    }
    mem_free(m.first);
}
