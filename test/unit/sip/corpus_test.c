/* SPDX-License-Identifier: Apache-2.0
 *
 * Our own torture messages (test/corpus/sip): each one is treated as its line in MANIFEST.tsv
 * says, as a datagram and on a stream, in front of another message and in pieces; and each file
 * has its line. Run from the root of the project, or with WEIR_CORPUS naming the folder. */
#include "unit/sip/sample.h"

#include <dirent.h>
#include <stdlib.h>

enum { FILE_BYTES_MAX = 16384, ROWS_MAX = 256 };

struct row {
    char name[64];
    char expect[16];
    char stream[16];
};

static struct row rows[ROWS_MAX];
static size_t row_count;
static const char *dir;

static size_t load(const char *name, const char *suffix, char *room)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    size_t n = fread(room, 1, FILE_BYTES_MAX, f);
    fclose(f);
    return n;
}

static void read_manifest(void)
{
    static char text[FILE_BYTES_MAX + 1];
    text[load("MANIFEST.tsv", "", text)] = '\0';
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (line[0] == '#')
            continue;
        assert_true(row_count < ROWS_MAX);
        struct row *r = &rows[row_count++];
        if (sscanf(line, "%63[^\t]\t%15[^\t]\t%15[^\t]\t", r->name, r->expect, r->stream) != 3)
            fail_msg("MANIFEST.tsv: %s", line);
    }
}

static bool next_via_is_unsendable(const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_VIA);
    struct sip_via via;
    struct addr a;
    return sip_next_value(&v) && sip_next_value(&v) &&
           sip_via_parse(sip_slice(m, v.value), &via) == SIP_OK &&
           addr_parse_host(via.host, 5060, &a) == 0 && !addr_is_unicast(&a);
}

static void treat(const char *name, const char *expect, struct slice s, bool is_datagram)
{
    struct indexed x;
    index_text(&x, s, is_datagram);
    struct sip_facts f;
    int rc = x.rc;
    if (rc == SIP_OK)
        rc = x.m.is_request ? sip_check_request(&x.m, &f, &x.fault)
                            : sip_check_response(&x.m, &f, &x.fault);
    char got[16] = "accept";
    bool is_response = x.m.headers_off > 0 && !x.m.is_request;
    if (is_response && (rc != SIP_OK || next_via_is_unsendable(&x.m)))
        snprintf(got, sizeof got, "drop");
    else if (rc != SIP_OK)
        snprintf(got, sizeof got, "%d", x.fault.status);
    if (strcmp(got, expect) != 0)
        fail_msg("%s: %s, not %s (%.*s)", name, got, expect, SLICE_ARG(x.fault.reason));
    /* Whatever it is, an answer to it can be written. */
    static char room[2 * FILE_BYTES_MAX];
    struct text t = text_into(room, sizeof room);
    struct sip_reply r = {.status = 400, .to_tag = SLICE("t")};
    assert_int_equal(sip_write_reply(&t, &x.m, &r), SIP_OK);
    index_done(&x);
}

static void datagrams(void **state)
{
    (void)state;
    static char room[FILE_BYTES_MAX];
    for (size_t i = 0; i < row_count; i++) {
        size_t n = load(rows[i].name, ".sip", room);
        treat(rows[i].name, rows[i].expect, slice_of(room, n), true);
    }
}

/* Feeds in pieces of `piece` bytes; the first result that is not MORE. */
static int frame(struct slice s, size_t piece, size_t *ret_len)
{
    struct sip_framer f = {0};
    int rc = SIP_FRAME_MORE;
    for (size_t n = 0; n < s.n && rc == SIP_FRAME_MORE;) {
        n = s.n - n < piece ? s.n : n + piece;
        rc = sip_frame(&f, s.p, n, ret_len);
    }
    return rc;
}

static void streams(void **state)
{
    (void)state;
    static char room[FILE_BYTES_MAX];
    for (size_t i = 0; i < row_count; i++) {
        const struct row *r = &rows[i];
        struct slice s = slice_of(room, load(r->name, ".sip", room));
        size_t len = 0;
        int rc = frame(s, s.n, &len);
        for (size_t piece = 1; piece < 20; piece++) {
            size_t again = 0;
            want_int(r->name, frame(s, piece, &again), rc);
            want_int(r->name, (long long)again, (long long)len);
        }
        if (strcmp(r->stream, "waits") == 0) {
            want_int(r->name, rc, SIP_FRAME_MORE);
        } else if (strcmp(r->stream, "fatal") == 0) {
            struct sip_fault fault;
            assert_true(rc <= SIP_E_FATAL);
            sip_frame_fault(rc, &fault);
            want_int(r->name, fault.status, atoi(r->expect));
        } else {
            want_int(r->name, rc, SIP_FRAME_MESSAGE);
            want_int(r->stream, strcmp(r->stream, "same") != 0, strcmp(r->stream, "bodiless") == 0);
            treat(r->name, r->expect, slice_take(s, len), false);
        }
    }
}

static void every_file_has_its_line(void **state)
{
    (void)state;
    DIR *d = opendir(dir);
    assert_non_null(d);
    size_t files = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct slice name = slice_cstr(e->d_name);
        if (name.n < 5 || strcmp(e->d_name + name.n - 4, ".sip") != 0)
            continue;
        files++;
        size_t i = 0;
        while (i < row_count &&
               !slice_equal(slice_take(name, name.n - 4), slice_cstr(rows[i].name)))
            i++;
        if (i == row_count)
            fail_msg("%s is not in MANIFEST.tsv", e->d_name);
    }
    closedir(d);
    assert_int_equal(files, row_count);
    assert_true(row_count >= 61); /* as many as the RFCs' own */
}

int main(void)
{
    dir = getenv("WEIR_CORPUS") != NULL ? getenv("WEIR_CORPUS") : "test/corpus/sip";
    read_manifest();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams),
        cmocka_unit_test(streams),
        cmocka_unit_test(every_file_has_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
