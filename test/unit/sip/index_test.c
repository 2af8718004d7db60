/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: chars.c, header_table.c */
#include "unit/sip/sample.h"

#include <stdlib.h>
#include "sip/sip_int.h"

static void request_parts(void **state)
{
    (void)state;
    struct indexed x;
    index_text(&x, SLICE(SAMPLE), false);
    assert_int_equal(x.rc, SIP_OK);
    assert_true(x.m.is_request);
    assert_int_equal(x.m.method, SIP_M_INVITE);
    want_text("method", sip_slice(&x.m, x.m.method_name), "INVITE");
    want_text("uri", sip_slice(&x.m, x.m.uri), "sip:bob@example.net;transport=tcp");
    want_text("body", sip_slice(&x.m, x.m.body), "body");
    assert_int_equal(x.m.header_count, 7);
    assert_int_equal(x.m.n, sizeof SAMPLE - 1);
    assert_int_equal(x.m.headers_off, sizeof SAMPLE_START - 1);
    assert_memory_equal(x.p + x.m.headers_end, "\r\nbody", 6);
    want_text("From", sip_header_value(&x.m, SIP_H_FROM),
              "\"Alice\" <sip:alice@example.org>;tag=f1");
    want_text("absent", sip_header_value(&x.m, SIP_H_ROUTE), "");
    assert_null(sip_header_value(&x.m, SIP_H_ROUTE).p);
    index_done(&x);
}

static void status_lines(void **state)
{
    (void)state;
    static const struct {
        struct slice line;
        int rc, status;
        const char *reason;
    } cases[] = {
        {SLICE("SIP/2.0 200 OK"), SIP_OK, 200, "OK"},
        {SLICE("sip/2.0 200 OK"), SIP_OK, 200, "OK"},
        {SLICE("SIP/2.0 100 "), SIP_OK, 100, ""},
        {SLICE("SIP/2.0 100"), SIP_OK, 100, ""},
        {SLICE("SIP/2.0 699 \xd0\xbd = 2**3"), SIP_OK, 699, "\xd0\xbd = 2**3"},
        {SLICE("SIP/2.0 099 x"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/2.0 700 x"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/2.0 20 x"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/2.0 2000 x"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/2.0 4294967496 x"), SIP_E_SYNTAX, 0, ""}, /* 200 modulo 2^32 */
        {SLICE("SIP/2.0 -20 x"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/2.0  200 x"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/2.0"), SIP_E_SYNTAX, 0, ""},
        {SLICE("SIP/3.0 200 OK"), SIP_E_SYNTAX, 200, "OK"},
        {SLICE("SIP/2.0x 200 OK"), SIP_E_SYNTAX, 0, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128];
        struct text t = text_into(text, sizeof text);
        text_put(&t, cases[i].line);
        TEXT_LIT(&t, "\r\n\r\n");
        struct indexed x;
        index_text(&x, text_slice(&t), false);
        want_int(cases[i].line.p, x.rc, cases[i].rc);
        want_int(cases[i].line.p, x.m.status, cases[i].status);
        want_text(cases[i].line.p, sip_slice(&x.m, x.m.reason), cases[i].reason);
        assert_false(x.m.is_request);
        index_done(&x);
    }
}

static void request_lines(void **state)
{
    (void)state;
    static const struct {
        struct slice line;
        int rc, status;
    } cases[] = {
        {SLICE("INVITE sip:a@b SIP/2.0"), SIP_OK, 0},
        {SLICE("INVITE sip:a@b sip/2.0"), SIP_OK, 0},
        {SLICE("!x'%~ sip:a@b SIP/2.0"), SIP_OK, 0},
        {SLICE("INVITE sip:a@b SIP/1.0"), SIP_E_SYNTAX, 505},
        {SLICE("INVITE sip:a@b SIP/2.00"), SIP_E_SYNTAX, 505},
        {SLICE("INVITE sip:a@b SIP/20.0"), SIP_E_SYNTAX, 505},
        {SLICE("INVITE sip:a@b SIP/2"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b SIP/"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b SIP/2.0x"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b SIP/2.0 "), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b SIP/2.0\t"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE  sip:a@b SIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b  SIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b\tSIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a@b\t SIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE sip:a b SIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE SIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE  SIP/2.0"), SIP_E_SYNTAX, 400},
        {SLICE("INVITE\tsip:a@b SIP/2.0"), SIP_E_START_LINE, 400},
        {SLICE("INVITE sip:a@b HTTP/1.1"), SIP_E_START_LINE, 400},
        {SLICE("INVITE /a SIP/2.0"), SIP_E_START_LINE, 400},
        {SLICE(" INVITE sip:a@b SIP/2.0"), SIP_E_START_LINE, 400},
        {SLICE("IN,VITE sip:a@b SIP/2.0"), SIP_E_START_LINE, 400},
        {SLICE("a123456789b123456789c123456789d123456789e123456789f123456789g123 sip:a SIP/2.0"),
         SIP_OK, 0},
        {SLICE("a123456789b123456789c123456789d123456789e123456789f123456789g1234 sip:a SIP/2.0"),
         SIP_E_START_LINE, 400},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128];
        struct text t = text_into(text, sizeof text);
        text_put(&t, cases[i].line);
        TEXT_LIT(&t, "\r\nl: 0\r\n\r\n");
        struct indexed x;
        index_text(&x, text_slice(&t), false);
        want_int(cases[i].line.p, x.rc, cases[i].rc);
        want_int(cases[i].line.p, x.fault.status, cases[i].status);
        /* A fault of the first line alone leaves the headers readable. */
        if (x.rc > SIP_E_FATAL)
            assert_int_equal(x.m.header_count, 1);
        index_done(&x);
    }
}

static void methods(void **state)
{
    (void)state;
    for (unsigned i = 1; i < SIP_M__COUNT; i++) {
        struct slice name = sip_method_name((enum sip_method)i);
        assert_int_equal(sip_method_of(name), i);
        assert_int_equal(sip_method_of(slice_take(name, name.n - 1)), SIP_M_OTHER);
    }
    assert_int_equal(sip_method_of(SLICE("invite")), SIP_M_OTHER);
    assert_int_equal(sip_method_of(SLICE("INVITED")), SIP_M_OTHER);
    assert_int_equal(sip_method_of(SLICE("")), SIP_M_OTHER);
    assert_int_equal(sip_method_name(SIP_M_OTHER).n, 0);
}

/* Header lines: what is found of the one between two known ones. */
static void header_lines(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice line; /* with its CRLF */
        int rc;
        int id;
        const char *value;
    } cases[] = {
        {"plain", SLICE("Subject: x\r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        {"compact", SLICE("s:x\r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        {"case", SLICE("sUBJECt:x\r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        /* CVE-2020-28361: blanks before the colon do not make it another header. */
        {"blank before the colon", SLICE("Subject : x\r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        {"blanks before the colon", SLICE("s \t : x\r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        {"blanks around", SLICE("Subject:  \t x y \t \r\n"), SIP_OK, SIP_H_SUBJECT, "x y"},
        {"fold", SLICE("Subject:\r\n x\r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        {"folds inside", SLICE("Subject: x\r\n\ty\r\n  z\r\n"), SIP_OK, SIP_H_SUBJECT,
         "x\r\n\ty\r\n  z"},
        {"fold at the end", SLICE("Subject: x\r\n \r\n"), SIP_OK, SIP_H_SUBJECT, "x"},
        {"empty", SLICE("Subject:\r\n"), SIP_OK, SIP_H_SUBJECT, ""},
        {"empty and blank", SLICE("Subject:   \r\n"), SIP_OK, SIP_H_SUBJECT, ""},
        {"only folds", SLICE("Subject:\r\n \r\n \r\n"), SIP_OK, SIP_H_SUBJECT, ""},
        {"colons in the value", SLICE("Subject: a:b: c\r\n"), SIP_OK, SIP_H_SUBJECT, "a:b: c"},
        {"other", SLICE("X-Any_thing.~: v\r\n"), SIP_OK, SIP_H_OTHER, "v"},
        {"8-bit value", SLICE("Q: \xd0\xbd\xff\r\n"), SIP_OK, SIP_H_OTHER, "\xd0\xbd\xff"},
        {"control bytes in a value", SLICE("Q: \x01\x7f\r\n"), SIP_OK, SIP_H_OTHER, "\x01\x7f"},
        {"almost Via", SLICE("Via\x0c: v\r\n"), SIP_E_SYNTAX, -1, ""},
        {"CR folded to '-'", SLICE("Call\x0dID: v\r\n"), SIP_E_HEAD, -1, ""},
        {"'@' is not '`'", SLICE("Subjec@: v\r\n"), SIP_E_SYNTAX, -1, ""},
        {"no colon", SLICE("Foobar roobar\r\n"), SIP_E_SYNTAX, -1, ""},
        {"no name", SLICE(": v\r\n"), SIP_E_SYNTAX, -1, ""},
        {"two words", SLICE("Two words: v\r\n"), SIP_E_SYNTAX, -1, ""},
        {"comma in the name", SLICE("A,B: v\r\n"), SIP_E_SYNTAX, -1, ""},
        {"8-bit in the name", SLICE("A\xd0: v\r\n"), SIP_E_SYNTAX, -1, ""},
        {"lone LF", SLICE("A: b\nc: d\r\n"), SIP_E_HEAD, -1, ""},
        {"lone CR", SLICE("A: b\rc: d\r\n"), SIP_E_HEAD, -1, ""},
        {"NUL", SLICE("A: b\0c\r\n"), SIP_E_HEAD, -1, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[512];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\nAllow: z\r\n");
        text_put(&t, cases[i].line);
        TEXT_LIT(&t, "Server: q\r\n\r\n");
        struct indexed x;
        index_text(&x, text_slice(&t), true);
        want_int(cases[i].name, x.rc, cases[i].rc);
        want_text(cases[i].name, sip_header_value(&x.m, SIP_H_ALLOW), "z");
        if (cases[i].rc > SIP_E_FATAL)
            want_text(cases[i].name, sip_header_value(&x.m, SIP_H_SERVER), "q");
        if (cases[i].id >= 0) {
            want_int(cases[i].name, x.m.h[1].id, cases[i].id);
            want_text(cases[i].name, sip_slice(&x.m, x.m.h[1].value), cases[i].value);
            want_int(cases[i].name, x.m.h[1].line_end - x.m.h[1].line, (long long)cases[i].line.n);
        } else {
            want_int(cases[i].name, x.fault.status, 400);
        }
        index_done(&x);
    }
}

static void lists_of_one_id(void **state)
{
    (void)state;
    struct indexed x;
    index_text(&x,
               SLICE("A sip:b SIP/2.0\r\nVia: 1\r\nQ: 2\r\nv: 3\r\nZ: 4\r\nVIA:5\r\nTo: 6\r\n\r\n"),
               true);
    assert_int_equal(x.rc, SIP_OK);
    assert_int_equal(x.m.first[SIP_H_VIA], 0);
    assert_int_equal(x.m.h[0].next, 2);
    assert_int_equal(x.m.h[2].next, 4);
    assert_int_equal(x.m.h[4].next, SIP_NO_HEADER);
    assert_int_equal(x.m.last[SIP_H_VIA], 4);
    assert_int_equal(x.m.h[1].next, 3);
    assert_int_equal(x.m.first[SIP_H_TO], x.m.last[SIP_H_TO]);
    assert_true(x.m.doubled == ((UINT64_C(1) << SIP_H_VIA) | (UINT64_C(1) << SIP_H_OTHER)));
    index_done(&x);
}

static void lengths(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice text;
        bool is_datagram;
        int rc, status;
        const char *body;
    } cases[] = {
        {"datagram, all of it", SLICE("\r\nabc"), true, SIP_OK, 0, "abc"},
        {"stream, none", SLICE("\r\n"), false, SIP_OK, 0, ""},
        {"stream, bytes left", SLICE("\r\nabc"), false, SIP_E_LENGTH, 400, ""},
        {"datagram, trailing octets", SLICE("l: 1\r\n\r\nabc"), true, SIP_OK, 0, "a"},
        {"datagram, exact", SLICE("l: 3\r\n\r\nabc"), true, SIP_OK, 0, "abc"},
        {"datagram, too few", SLICE("l: 4\r\n\r\nabc"), true, SIP_E_LENGTH, 400, "abc"},
        {"stream, too few", SLICE("l: 4\r\n\r\nabc"), false, SIP_E_LENGTH, 400, "abc"},
        {"stream, too many", SLICE("l: 2\r\n\r\nabc"), false, SIP_E_LENGTH, 400, "ab"},
        {"zero", SLICE("l: 0\r\n\r\nabc"), true, SIP_OK, 0, ""},
        {"negative", SLICE("l: -1\r\n\r\nabc"), true, SIP_E_LENGTH, 400, ""},
        {"twice, the same", SLICE("l: 3\r\nl: 3\r\n\r\nabc"), true, SIP_E_LENGTH, 400, "abc"},
        {"2^32 + 3", SLICE("l: 4294967299\r\n\r\nabc"), true, SIP_E_TOO_LONG, 513, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\n");
        text_put(&t, cases[i].text);
        struct indexed x;
        index_text(&x, text_slice(&t), cases[i].is_datagram);
        want_int(cases[i].name, x.rc, cases[i].rc);
        want_int(cases[i].name, x.fault.status, cases[i].status);
        want_text(cases[i].name, sip_slice(&x.m, x.m.body), cases[i].body);
        index_done(&x);
    }
}

/* Each proper prefix is refused, and what is filled in then can still be walked and answered. */
static void prefix_law(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof SAMPLE - 1; n++) {
        for (int is_datagram = 0; is_datagram < 2; is_datagram++) {
            struct indexed x;
            index_text(&x, slice_of(SAMPLE, n), is_datagram != 0);
            assert_true(x.rc < 0);
            assert_true(x.fault.status >= 400 && x.fault.reason.n > 0);
            char room[2048];
            struct text t = text_into(room, sizeof room);
            struct sip_reply r = {.status = 400, .to_tag = SLICE("t")};
            assert_int_equal(sip_write_reply(&t, &x.m, &r), SIP_OK);
            index_done(&x);
        }
    }
}

static void no_bytes(void **state)
{
    (void)state;
    static struct sip_msg m;
    struct sip_fault fault = {0, SLICE_NONE, 0};
    assert_int_equal(sip_index(&m, NULL, 0, true, &fault), SIP_E_START_LINE);
    assert_int_equal(fault.status, 400);
    assert_int_equal(sip_slice(&m, m.uri).n, 0);
}

/* CVE-2026-45538, CVE-2018-7284: long names and many headers meet a maximum, not a buffer. */
static void maxima(void **state)
{
    (void)state;
    static char text[8192];
    struct text t = text_into(text, sizeof text);
    TEXT_LIT(&t, "A sip:b SIP/2.0\r\n");
    for (unsigned i = 0; i < SIP_HEADERS_MAX; i++)
        TEXT_LIT(&t, "Accept: a\r\n");
    size_t n = t.n;
    TEXT_LIT(&t, "\r\n");
    struct indexed x;
    index_text(&x, text_slice(&t), true);
    assert_int_equal(x.rc, SIP_OK);
    assert_int_equal(x.m.header_count, SIP_HEADERS_MAX);
    index_done(&x);
    t.n = n;
    TEXT_LIT(&t, "Accept: a\r\n\r\n");
    index_text(&x, text_slice(&t), true);
    assert_int_equal(x.rc, SIP_E_TOO_LONG);
    assert_int_equal(x.fault.status, 513);
    index_done(&x);
    for (size_t len = SIP_HEADER_NAME_BYTES_MAX; len < SIP_HEADER_NAME_BYTES_MAX + 2; len++) {
        t = text_into(text, sizeof text);
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\n");
        for (size_t k = 0; k < len; k++)
            text_put_char(&t, 'n');
        TEXT_LIT(&t, ":v\r\n\r\n");
        index_text(&x, text_slice(&t), true);
        assert_int_equal(x.rc, len <= SIP_HEADER_NAME_BYTES_MAX ? SIP_OK : SIP_E_LIMIT);
        index_done(&x);
    }
}

/* ---- the matcher and the vector twins -------------------------------------------------------- */

static enum sip_header_id scan_names(struct slice name)
{
    static const struct {
        char name;
        enum sip_header_id id;
    } compact[] = {
        {'v', SIP_H_VIA},
        {'f', SIP_H_FROM},
        {'t', SIP_H_TO},
        {'i', SIP_H_CALL_ID},
        {'m', SIP_H_CONTACT},
        {'l', SIP_H_CONTENT_LENGTH},
        {'c', SIP_H_CONTENT_TYPE},
        {'e', SIP_H_CONTENT_ENCODING},
        {'k', SIP_H_SUPPORTED},
        {'s', SIP_H_SUBJECT},
        {'o', SIP_H_EVENT},
        {'r', SIP_H_REFER_TO},
        {'b', SIP_H_REFERRED_BY},
        {'u', SIP_H_ALLOW_EVENTS},
        {'x', SIP_H_SESSION_EXPIRES},
        {'y', SIP_H_IDENTITY},
        {'a', SIP_H_ACCEPT_CONTACT},
        {'j', SIP_H_REJECT_CONTACT},
        {'d', SIP_H_REQUEST_DISPOSITION},
    };
    for (size_t i = 0; i < COUNT(compact); i++)
        if (slice_equal_nocase(name, slice_of(&compact[i].name, 1)))
            return compact[i].id;
    for (unsigned i = 1; i < SIP_H__COUNT; i++)
        if (slice_equal_nocase(name, sip_header_name((enum sip_header_id)i)))
            return (enum sip_header_id)i;
    return SIP_H_OTHER;
}

static void matcher(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char one = (char)c;
        assert_int_equal(sip_header_id_of(slice_of(&one, 1)), scan_names(slice_of(&one, 1)));
    }
    for (unsigned i = 1; i < SIP_H__COUNT; i++) {
        struct slice name = sip_header_name((enum sip_header_id)i);
        char *p = guard_copy(name.p, name.n);
        assert_int_equal(sip_header_id_of(slice_of(p, name.n)), i);
        /* Every byte at every place: only its own two cases may pass. */
        for (size_t k = 0; k < name.n; k++) {
            for (unsigned c = 0; c < 256; c++) {
                p[k] = (char)c;
                assert_int_equal(sip_header_id_of(slice_of(p, name.n)),
                                 scan_names(slice_of(p, name.n)));
            }
            p[k] = name.p[k];
        }
        guard_free(p);
    }
    assert_int_equal(sip_header_id_of(SLICE("")), SIP_H_OTHER);
}

static void twins(void **state)
{
    (void)state;
    struct prng r = test_seed();
    static const char picks[] = "\r\n\0\t \",;\\<>@%:\x7f\x80\xff=()ab/";
    for (unsigned round = 0; round < 20000; round++) {
        char room[80];
        size_t n = (size_t)prng_below(&r, sizeof room + 1);
        for (size_t i = 0; i < n; i++)
            room[i] = prng_below(&r, 24) == 0 ? picks[prng_below(&r, sizeof picks - 1)] : 'x';
        size_t from = (size_t)prng_below(&r, n + 1);
        size_t end = from + (size_t)prng_below(&r, n - from + 1);
        char *copy = malloc(n + 1);
        memcpy(copy, room, n);
        const char *p = copy + from;
        const char *e = copy + end;
        assert_ptr_equal(sip__line_stop(p, e), sip__line_stop_scalar(p, e));
#define TWIN(stops)                                                                                \
    assert_ptr_equal(sip__until(p, e, copy + n, (stops)), sip__until_scalar(p, e, (stops)))
        TWIN(SIP__UNTIL_WORD_END);
        TWIN(SIP__UNTIL_URI_END);
        TWIN(SIP__UNTIL_PARAM_END);
        TWIN(SIP__UNTIL_USER_END);
        TWIN(SIP__UNTIL_QUOTE_END);
#undef TWIN
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_parts), cmocka_unit_test(status_lines),
        cmocka_unit_test(request_lines), cmocka_unit_test(methods),
        cmocka_unit_test(header_lines),  cmocka_unit_test(lists_of_one_id),
        cmocka_unit_test(lengths),       cmocka_unit_test(prefix_law),
        cmocka_unit_test(maxima),        cmocka_unit_test(no_bytes),
        cmocka_unit_test(matcher),       cmocka_unit_test(twins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
