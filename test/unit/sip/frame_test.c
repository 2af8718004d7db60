/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sip/sample.h"

#include <stdlib.h>

/* ---- one stream, cut in any way ------------------------------------------------------------- */

struct step {
    int result;
    size_t len;
};
struct steps {
    size_t count;
    struct step s[64];
};

/* Feeds `s` with the given cuts (ascending offsets) and notes every result but MORE. */
static void run(struct slice s, const size_t *cuts, size_t cut_count, struct steps *ret_steps)
{
    struct sip_framer f = {0};
    size_t at = 0;
    ret_steps->count = 0;
    for (size_t i = 0; i <= cut_count; i++) {
        size_t end = i < cut_count ? cuts[i] : s.n;
        for (;;) {
            size_t len = 0;
            int rc = sip_frame(&f, s.p + at, end - at, &len);
            if (rc == SIP_FRAME_MORE) {
                assert_int_equal(len, 0);
                break;
            }
            assert_true(ret_steps->count < COUNT(ret_steps->s));
            ret_steps->s[ret_steps->count++] = (struct step){rc, len};
            if (rc < 0)
                return;
            assert_true(len > 0 && len <= end - at);
            at += len;
        }
    }
}

static void same(const char *name, const struct steps *a, const struct steps *b)
{
    want_int(name, (long long)b->count, (long long)a->count);
    for (size_t i = 0; i < a->count; i++) {
        want_int(name, b->s[i].result, a->s[i].result);
        want_int(name, (long long)b->s[i].len, (long long)a->s[i].len);
    }
}

#define TINY "A sip:b SIP/2.0\r\nl:1\r\n\r\nx"
#define HEAD "OPTIONS sip:a SIP/2.0\r\n"

static const struct {
    const char *name;
    struct slice stream;
    struct steps want;
} streams[] = {
    {"one message", SLICE(SAMPLE), {1, {{SIP_FRAME_MESSAGE, sizeof SAMPLE - 1}}}},
    {"tiny and tiny", SLICE(TINY TINY), {2, {{1, 25}, {1, 25}}}},
    {"no length, no body", SLICE(HEAD "\r\n" TINY), {2, {{1, 25}, {1, 25}}}},
    {"ping", SLICE("\r\n\r\n"), {2, {{SIP_FRAME_SKIP, 2}, {SIP_FRAME_PING, 2}}}},
    {"pong", SLICE("\r\n"), {1, {{SIP_FRAME_SKIP, 2}}}},
    {"ping, message, ping",
     SLICE("\r\n\r\n" TINY "\r\n\r\n"),
     {5, {{3, 2}, {2, 2}, {1, 25}, {3, 2}, {2, 2}}}},
    {"three blank lines", SLICE("\r\n\r\n\r\n" TINY), {4, {{3, 2}, {2, 2}, {3, 2}, {1, 25}}}},
    {"blank line, message, blank line", SLICE("\r\n" TINY "\r\n"), {3, {{3, 2}, {1, 25}, {3, 2}}}},
    {"folded length", SLICE(HEAD "Content-Length:\r\n 3\r\n\r\nabc"), {1, {{1, 49}}}},
    {"blank before colon", SLICE(HEAD "l \t : 2\r\n\r\nab"), {1, {{1, 36}}}},
    {"length in odd case", SLICE(HEAD "cOnTeNt-LeNgTh:1\r\n\r\nx"), {1, {{1, 44}}}},
    {"a length in a body is none",
     SLICE(HEAD "l:6\r\n\r\nl:9\r\n\r" TINY),
     {2, {{1, 36}, {1, 25}}}},
    {"a length in a fold is none",
     SLICE(HEAD "X: a\r\n l: 9\r\n\r\n" TINY),
     {2, {{1, 38}, {1, 25}}}},
    {"almost the name",
     SLICE(HEAD "Content-Lengt: 9\r\nContent-Lengthy: 9\r\nxl:9\r\n\r\n"),
     {1, {{1, 69}}}},
    {"NUL in a quoted pair", SLICE(HEAD "T: \"\\\0\"\r\n\r\n"), {1, {{1, 34}}}},
    {"length twice", SLICE(HEAD "l: 1\r\nContent-Length: 2\r\n\r\n"), {1, {{SIP_E_LENGTH, 50}}}},
    {"length twice, the same", SLICE(HEAD "l: 1\r\nL : 1\r\n\r\nx"), {1, {{SIP_E_LENGTH, 38}}}},
    {"length negative", SLICE(HEAD "l: -1\r\n\r\n"), {1, {{SIP_E_LENGTH, 32}}}},
    {"length empty", SLICE(HEAD "l:\r\n\r\n"), {1, {{SIP_E_LENGTH, 29}}}},
    {"length with a plus", SLICE(HEAD "l: +1\r\n\r\n"), {1, {{SIP_E_LENGTH, 32}}}},
    {"length in two words", SLICE(HEAD "l: 1 1\r\n\r\n"), {1, {{SIP_E_LENGTH, 33}}}},
    {"length in hex", SLICE(HEAD "l: 0x1\r\n\r\n"), {1, {{SIP_E_LENGTH, 33}}}},
    {"length with a comma", SLICE(HEAD "l: 1,1\r\n\r\n"), {1, {{SIP_E_LENGTH, 33}}}},
    /* CVE-2026-45103, CVE-2026-39863: the number must not wrap, in no width. */
    {"length 2^32", SLICE(HEAD "l: 4294967296\r\n\r\n"), {1, {{SIP_E_TOO_LONG, 40}}}},
    {"length 2^32 + 1", SLICE(HEAD "l: 4294967297\r\n\r\nx"), {1, {{SIP_E_TOO_LONG, 40}}}},
    {"length 2^64", SLICE(HEAD "l: 18446744073709551616\r\n\r\n"), {1, {{SIP_E_TOO_LONG, 50}}}},
    {"length 2^64 + 1",
     SLICE(HEAD "l: 18446744073709551617\r\n\r\nx"),
     {1, {{SIP_E_TOO_LONG, 50}}}},
    {"length one above", SLICE(HEAD "l: 65537\r\n\r\n"), {1, {{SIP_E_TOO_LONG, 35}}}},
    {"length of many zeros",
     SLICE(HEAD "l: 00000000000000000000000000001\r\n\r\nx"),
     {1, {{1, 60}}}},
    {"huge and not digits",
     SLICE(HEAD "l: 99999999999999999999999x\r\n\r\n"),
     {1, {{SIP_E_LENGTH, 54}}}},
    {"lone LF in the head", SLICE(HEAD "A: b\nC: d\r\n\r\n"), {1, {{SIP_E_HEAD, 23}}}},
    {"lone CR in the head", SLICE(HEAD "A: b\rC: d\r\n\r\n"), {1, {{SIP_E_HEAD, 23}}}},
    {"CR CR LF", SLICE(HEAD "A: b\r\r\n\r\n"), {1, {{SIP_E_HEAD, 23}}}},
    {"blank line of LF", SLICE(HEAD "A: b\r\n\n"), {1, {{SIP_E_HEAD, 29}}}},
    {"NUL in the head", SLICE(HEAD "A: b\0\r\n\r\n"), {1, {{SIP_E_HEAD, 23}}}},
    {"NUL behind two backslashes", SLICE(HEAD "A: \"\\\\\0\"\r\n\r\n"), {1, {{SIP_E_HEAD, 23}}}},
    {"folded start line", SLICE(HEAD " l: 5\r\n\r\nabcde"), {1, {{SIP_E_HEAD, 23}}}},
    {"lone LF behind the start line",
     SLICE("OPTIONS sip:a SIP/2.0\nl:1\r\n\r\nx"),
     {1, {{SIP_E_START_LINE, 0}}}},
    {"CR and no LF before a message",
     SLICE("\rA sip:b SIP/2.0\r\n\r\n"),
     {1, {{SIP_E_START_LINE, 0}}}},
    {"LF before a message", SLICE("\n" TINY), {1, {{SIP_E_START_LINE, 0}}}},
    {"HTTP request", SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), {1, {{SIP_E_START_LINE, 0}}}},
    /* NAT slipstreaming: a REGISTER in the body of a browser's POST is never looked for. */
    {"SIP in the body of a POST",
     SLICE("POST /x HTTP/1.1\r\nContent-Length: 25\r\n\r\n" TINY),
     {1, {{SIP_E_START_LINE, 0}}}},
    {"HTTP response", SLICE("HTTP/1.1 200 OK\r\n\r\n"), {1, {{SIP_E_START_LINE, 0}}}},
    {"HTTP/2 preface", SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), {1, {{SIP_E_START_LINE, 0}}}},
    {"TLS ClientHello", SLICE("\x16\x03\x01\x02\x00\x01"), {1, {{SIP_E_START_LINE, 0}}}},
    {"words", SLICE("hello world\r\n"), {1, {{SIP_E_START_LINE, 0}}}},
    {"no version", SLICE("INVITE sip:a@b\r\nl:0\r\n\r\n"), {1, {{SIP_E_START_LINE, 0}}}},
    {"header first", SLICE("Via: SIP/2.0/UDP x\r\n\r\n"), {1, {{SIP_E_START_LINE, 0}}}},
    {"out of step", SLICE(TINY "y" TINY), {2, {{1, 25}, {1, 26}}}}, /* "yA" is a method, too */
    {"out of step by a byte", SLICE(TINY ":" TINY), {2, {{1, 25}, {SIP_E_START_LINE, 0}}}},
    {"other versions are framed", SLICE("A sip:b SIP/7.0\r\n\r\n"), {1, {{1, 19}}}},
    {"a bad line is the index's matter", SLICE(HEAD "what is this\r\n\r\n"), {1, {{1, 39}}}},
    {"response", SLICE("SIP/2.0 200 OK\r\nl:2\r\n\r\nab"), {1, {{1, 25}}}},
};

static void expected_results(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(streams); i++) {
        struct steps got;
        char *p = guard_copy(streams[i].stream.p, streams[i].stream.n);
        run(slice_of(p, streams[i].stream.n), NULL, 0, &got);
        same(streams[i].name, &streams[i].want, &got);
        guard_free(p);
    }
}

static void every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(streams); i++) {
        struct slice s = streams[i].stream;
        struct steps got;
        size_t bytes[512];
        assert_true(s.n < COUNT(bytes));
        for (size_t k = 0; k < s.n; k++)
            bytes[k] = k + 1;
        run(s, bytes, s.n - 1, &got);
        same(streams[i].name, &streams[i].want, &got);
        for (size_t a = 1; a < s.n; a++) {
            run(s, &a, 1, &got);
            same(streams[i].name, &streams[i].want, &got);
            for (size_t b = a + 1; b < s.n && s.n < 120; b++) {
                size_t pair[2] = {a, b};
                run(s, pair, 2, &got);
                same(streams[i].name, &streams[i].want, &got);
            }
        }
    }
}

/* Each proper prefix of a message, against an unreadable page, is never a message. */
static void prefix_law(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof SAMPLE - 1; n++) {
        char *p = guard_copy(SAMPLE, n);
        struct sip_framer f = {0};
        size_t len = 0;
        assert_int_equal(sip_frame(&f, p, n, &len), SIP_FRAME_MORE);
        guard_free(p);
    }
}

/* Is the fault known at the first byte that shows it, and not later? */
static void decided_early(void **state)
{
    (void)state;
    static const struct {
        struct slice bytes;
        size_t at; /* bytes that must do */
    } cases[] = {
        {SLICE("GET / HTTP/1.1"), 5},        {SLICE("POST /"), 6},
        {SLICE("\x16\x03\x01"), 1},          {SLICE("HTTP/1.1 200"), 5},
        {SLICE("{\"json\": 1}"), 1},         {SLICE("\0\0\0\0"), 1},
        {SLICE("SSH-2.0-x\r\n"), 10},        {SLICE("Via: SIP/2.0"), 4},
        {SLICE("INVITE sip:a@b\r\n"), 16},   {SLICE("<xml/>"), 1},
        {SLICE(" INVITE sip:a SIP/2.0"), 1}, {SLICE("\xff\xfb"), 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_framer f = {0};
        size_t len;
        for (size_t n = 0; n < cases[i].at; n++)
            want_int(cases[i].bytes.p, sip_frame(&f, cases[i].bytes.p, n, &len), SIP_FRAME_MORE);
        want_int(cases[i].bytes.p, sip_frame(&f, cases[i].bytes.p, cases[i].at, &len),
                 SIP_E_START_LINE);
    }
    /* A method that never ends. */
    char many[SIP_START_LINE_BYTES_MAX];
    memset(many, 'A', sizeof many);
    struct sip_framer f = {0};
    size_t len;
    assert_int_equal(sip_frame(&f, many, 64, &len), SIP_FRAME_MORE);
    assert_int_equal(sip_frame(&f, many, 65, &len), SIP_E_START_LINE);
}

/* ---- maxima --------------------------------------------------------------------------------- */

/* "A sip:b SIP/2.0" with the URI filled up to a line of `line` bytes, then `headers` header lines,
 * then one that fills the head up to `head` bytes (0: none). Returns the bytes of the head. */
static size_t build(char *p, size_t line, unsigned headers, size_t head)
{
    struct text t = text_into(p, SIP_MESSAGE_BYTES_MAX * 2);
    TEXT_LIT(&t, "A sip:b");
    while (t.n + 10 < line)
        text_put_char(&t, 'b');
    TEXT_LIT(&t, " SIP/2.0\r\n");
    for (unsigned i = 0; i < headers; i++)
        TEXT_LIT(&t, "X:y\r\n");
    if (head > 0) {
        TEXT_LIT(&t, "F:");
        while (t.n + 4 < head)
            text_put_char(&t, 'f');
        TEXT_LIT(&t, "\r\n");
    }
    TEXT_LIT(&t, "\r\n");
    return t.n;
}

static void maxima(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t line;
        unsigned headers;
        size_t head;
        int want;
    } cases[] = {
        {"start line at its maximum", SIP_START_LINE_BYTES_MAX, 0, 0, SIP_FRAME_MESSAGE},
        {"start line above", SIP_START_LINE_BYTES_MAX + 1, 0, 0, SIP_E_TOO_LONG},
        {"headers at their maximum", 0, SIP_HEADERS_MAX, 0, SIP_FRAME_MESSAGE},
        {"headers above", 0, SIP_HEADERS_MAX + 1, 0, SIP_E_TOO_LONG},
        {"head at its maximum", 0, 0, SIP_HEAD_BYTES_MAX, SIP_FRAME_MESSAGE},
        {"head above by one", 0, 0, SIP_HEAD_BYTES_MAX + 1, SIP_E_TOO_LONG},
        {"head above by two", 0, 0, SIP_HEAD_BYTES_MAX + 2, SIP_E_TOO_LONG},
        {"head above by three", 0, 0, SIP_HEAD_BYTES_MAX + 3, SIP_E_TOO_LONG},
        {"head far above", 0, 0, SIP_HEAD_BYTES_MAX + 5000, SIP_E_TOO_LONG},
    };
    char *p = malloc(SIP_MESSAGE_BYTES_MAX * 2);
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = build(p, cases[i].line, cases[i].headers, cases[i].head);
        struct steps whole;
        run(slice_of(p, n), NULL, 0, &whole);
        want_int(cases[i].name, (long long)whole.count, 1);
        want_int(cases[i].name, whole.s[0].result, cases[i].want);
        size_t *cuts = malloc(n * sizeof *cuts);
        for (size_t k = 0; k < n; k++)
            cuts[k] = k + 1;
        struct steps bytes;
        run(slice_of(p, n), cuts, n - 1, &bytes);
        same(cases[i].name, &whole, &bytes);
        free(cuts);
        /* What the framing takes, the index takes, and the other way round. */
        static struct sip_msg m;
        struct sip_fault fault;
        int rc = sip_index(&m, p, n, false, &fault);
        want_int(cases[i].name, rc, cases[i].want < 0 ? cases[i].want : SIP_OK);
    }
    free(p);
}

/* The largest body in segments of one byte. What was looked at is overwritten: a second look at
 * it would change the result, so the cost of a byte does not grow with those before it. */
static void one_byte_segments(void **state)
{
    (void)state;
    char *p = malloc(SIP_MESSAGE_BYTES_MAX);
    struct text t = text_into(p, SIP_MESSAGE_BYTES_MAX);
    TEXT_LIT(&t, HEAD "X-Long: ");
    while (t.n < 20000)
        text_put_char(&t, 'v');
    TEXT_LIT(&t, "\r\nContent-Length: 65536\r\n\r\n");
    size_t n = t.n + SIP_BODY_BYTES_MAX;
    memset(p + t.n, '\n', SIP_BODY_BYTES_MAX);
    struct sip_framer f = {0};
    size_t len = 0;
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(sip_frame(&f, p, k, &len), SIP_FRAME_MORE);
        memset(p, 'z', f.line_start);
        if (f.line_start > 0 && f.scanned > f.line_start + 64)
            memset(p + f.line_start + 32, 'z', f.scanned - f.line_start - 64);
        assert_true(f.scanned <= k && (f.head_bytes > 0 || f.scanned + 3 >= k));
    }
    assert_int_equal(sip_frame(&f, p, n, &len), SIP_FRAME_MESSAGE);
    assert_int_equal(len, n);
    free(p);
}

/* The head in front of a fault can be indexed, and answered. */
static void what_is_left_to_answer(void **state)
{
    (void)state;
    static const char text[] = SAMPLE_START SAMPLE_VIA "l: 5\r\n" SAMPLE_REST SAMPLE_END;
    struct sip_framer f = {0};
    size_t len = 0;
    assert_int_equal(sip_frame(&f, text, sizeof text - 1, &len), SIP_E_LENGTH);
    struct indexed x;
    index_text(&x, slice_of(text, len), false);
    assert_int_equal(x.rc, SIP_E_LENGTH);
    assert_int_equal(x.m.header_count, 8);
    assert_true(sip_has(&x.m, SIP_H_CSEQ));
    index_done(&x);
    struct sip_fault fault;
    sip_frame_fault(SIP_E_TOO_LONG, &fault);
    assert_int_equal(fault.status, 513);
    sip_frame_fault(SIP_E_HEAD, &fault);
    assert_int_equal(fault.status, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expected_results),
        cmocka_unit_test(every_cut),
        cmocka_unit_test(prefix_law),
        cmocka_unit_test(decided_early),
        cmocka_unit_test(maxima),
        cmocka_unit_test(one_byte_segments),
        cmocka_unit_test(what_is_left_to_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
