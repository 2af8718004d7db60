/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines: exact ones, dates, escapes; and for any bytes at all, read back by a reader that
 * knows the grammar of RFC 8259 and of logfmt and nothing of the writers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "observe/observe.h"
#include "sip/sip.h"

/* ---- a record ----------------------------------------------------------------------------------
 */

static struct log_record *record(void)
{
    static union {
        struct log_record r;
        char room[LOG_RECORD_BYTES_MAX];
    } u;
    memset(&u, 0, sizeof u);
    u.r.first_us = u.r.final_us = u.r.queue_us = UINT32_MAX;
    u.r.transport_in = u.r.transport_out = u.r.side_in = u.r.side_out = 255;
    return &u.r;
}

/* Texts are added in their order. */
static void pack(struct log_record *r, enum log_text which, struct slice s)
{
    struct slice at = log_text_of(r, which);
    assert_true(s.n <= LOG_TEXT_BYTES_MAX);
    memcpy(r->text + (at.p - r->text), s.p, s.n);
    r->len[which] = (uint16_t)s.n;
}

static struct log_record *full_record(void)
{
    struct log_record *r = record();
    r->wall_ns = 1777639357000000000ULL + 123456789;
    r->first_us = 1500;
    r->final_us = 4200000;
    r->queue_us = 0;
    r->status = 200;
    r->target_status = 486;
    r->method = SIP_M_INVITE;
    r->tries = 2;
    r->resent_in = 1;
    r->resent_out = 255;
    r->end_who = '-';
    r->end_phase = 'D';
    r->transport_in = TP_UDP;
    r->transport_out = TP_WSS;
    r->side_in = 0;
    r->side_out = 1;
    r->worker = 10;
    r->flags = LOG_IN_DIALOG;
    assert_int_equal(addr_parse(SLICE("192.0.2.7:5060"), &r->source), 0);
    assert_int_equal(addr_parse(SLICE("[2001:db8::1]:5061"), &r->dest), 0);
    pack(r, LOG_CALL_ID, SLICE("a84b4c76e66710"));
    pack(r, LOG_CSEQ, SLICE("314159"));
    pack(r, LOG_RURI, SLICE("sip:bob@example.com;transport=tcp"));
    pack(r, LOG_FROM, SLICE("sip:alice@example.com"));
    pack(r, LOG_TO, SLICE("sip:bob@example.com"));
    pack(r, LOG_POOL, SLICE("border"));
    pack(r, LOG_REASON, SLICE("say \"no\""));
    return r;
}

static const struct log_names names = {{"edge-1", 6}, {"us-east-1", 9}, {"a", 1}};
static const struct log_names nameless = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

static char json[LOG_LINE_BYTES_MAX + 1], logfmt[LOG_LINE_BYTES_MAX + 1];

static void write_both(const struct log_record *r, const struct log_names *n)
{
    struct text j = text_into(json, LOG_LINE_BYTES_MAX), l = text_into(logfmt, LOG_LINE_BYTES_MAX);
    assert_int_equal(log_write_json(&j, r, n), 0);
    assert_int_equal(log_write_logfmt(&l, r, n), 0);
    json[j.n] = logfmt[l.n] = '\0';
}

/* ---- readers -----------------------------------------------------------------------------------
 */

struct pair {
    char name[32];
    char value[LOG_TEXT_BYTES_MAX * 3 + 1];
    size_t n;
    bool quoted;
};
struct line_read {
    struct pair pair[64];
    unsigned count;
};

static unsigned hex4(const char *p)
{
    static const char hex[] = "0123456789abcdef";
    unsigned v = 0;
    for (unsigned i = 0; i < 4; i++) {
        const char *at = strchr(hex, p[i]);
        assert_true(p[i] != '\0' && at != NULL);
        v = v * 16 + (unsigned)(at - hex);
    }
    return v;
}

static void put_utf8(struct pair *to, uint32_t c)
{
    static const unsigned lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    assert_true(to->n + n < sizeof to->value);
    for (unsigned i = n; i-- > 0; c >>= 6)
        to->value[to->n + i] = (char)(i > 0 ? 0x80 | (c & 0x3f) : n == 1 ? c : lead[n] | c);
    to->n += n;
}

/* Behind a backslash. Returns what follows the escape. */
static const char *read_escape(struct pair *to, const char *p)
{
    static const char letters[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    if (*p != 'u') {
        const char *at = strchr(letters, *p);
        assert_true(*p != '\0' && at != NULL);
        put_utf8(to, (unsigned char)means[at - letters]);
        return p + 1;
    }
    uint32_t c = hex4(p + 1);
    p += 5;
    assert_false(c >= 0xdc00 && c <= 0xdfff);
    if (c >= 0xd800 && c <= 0xdbff) {
        assert_true(p[0] == '\\' && p[1] == 'u');
        uint32_t low = hex4(p + 2);
        assert_true(low >= 0xdc00 && low <= 0xdfff);
        c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
        p += 6;
    }
    put_utf8(to, c);
    return p;
}

/* At the opening quote. Returns what follows the closing one. */
static const char *read_quoted(struct pair *to, const char *p)
{
    assert_int_equal(*p++, '"');
    while (*p != '"') {
        assert_true(*p >= 0x20 && *p < 0x7f);
        if (*p == '\\')
            p = read_escape(to, p + 1);
        else
            put_utf8(to, (unsigned char)*p++);
    }
    to->quoted = true;
    return p + 1;
}

/* true, false, or a number without leading zeros. */
static const char *read_bare(struct pair *to, const char *p, const char *ends)
{
    size_t n = strcspn(p, ends);
    assert_true(n > 0 && n < sizeof to->value);
    memcpy(to->value, p, n);
    to->value[n] = '\0';
    to->n = n;
    return p + n;
}

static void read_json(struct line_read *to, const char *p)
{
    to->count = 0;
    assert_int_equal(*p++, '{');
    for (;;) {
        struct pair *it = &to->pair[to->count++], name = {.n = 0};
        assert_true(to->count < 64);
        *it = (struct pair){.n = 0};
        p = read_quoted(&name, p);
        assert_true(name.n < sizeof it->name);
        memcpy(it->name, name.value, name.n);
        assert_int_equal(*p++, ':');
        if (*p == '"') {
            p = read_quoted(it, p);
        } else {
            p = read_bare(it, p, ",}");
            bool digits = strspn(it->value, "0123456789") == it->n;
            assert_true(digits || strcmp(it->value, "true") == 0 ||
                        strcmp(it->value, "false") == 0);
            assert_true(!digits || it->n == 1 || it->value[0] != '0');
        }
        if (*p != ',')
            break;
        p++;
    }
    assert_string_equal(p, "}\n");
}

static void read_logfmt(struct line_read *to, const char *p)
{
    to->count = 0;
    for (;;) {
        struct pair *it = &to->pair[to->count++];
        assert_true(to->count < 64);
        *it = (struct pair){.n = 0};
        size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz_");
        assert_true(n > 0 && n < sizeof it->name);
        memcpy(it->name, p, n);
        p += n;
        assert_int_equal(*p++, '=');
        p = *p == '"' ? read_quoted(it, p) : read_bare(it, p, " \n\"\\=");
        if (*p != ' ')
            break;
        p++;
    }
    assert_string_equal(p, "\n");
}

static const struct pair *find(const struct line_read *in, const char *name)
{
    for (unsigned i = 0; i < in->count; i++)
        if (strcmp(in->pair[i].name, name) == 0)
            return &in->pair[i];
    return NULL;
}

static struct line_read from_json, from_logfmt;

/* Both lines are well formed and say the same, in the same order. */
static void read_both(void)
{
    read_json(&from_json, json);
    read_logfmt(&from_logfmt, logfmt);
    assert_int_equal(from_json.count, from_logfmt.count);
    for (unsigned i = 0; i < from_json.count; i++) {
        assert_string_equal(from_json.pair[i].name, from_logfmt.pair[i].name);
        assert_int_equal(from_json.pair[i].n, from_logfmt.pair[i].n);
        assert_memory_equal(from_json.pair[i].value, from_logfmt.pair[i].value,
                            from_json.pair[i].n);
    }
}

/* ---- exact lines -------------------------------------------------------------------------------
 */

static void test_full_record(void **state)
{
    (void)state;
    write_both(full_record(), &names);
    assert_string_equal(
        json,
        "{\"time\":\"2026-05-01T12:42:37.123456Z\",\"node\":\"edge-1\",\"region\":\"us-east-1\","
        "\"zone\":\"a\",\"worker\":10,\"method\":\"INVITE\",\"status\":200,\"end\":\"-D\","
        "\"call_id\":\"a84b4c76e66710\",\"cseq\":\"314159\","
        "\"ruri\":\"sip:bob@example.com;transport=tcp\",\"from\":\"sip:alice@example.com\","
        "\"to\":\"sip:bob@example.com\",\"source\":\"192.0.2.7:5060\",\"transport\":\"udp\","
        "\"side\":\"outside\",\"dest\":\"[2001:db8::1]:5061\",\"dest_transport\":\"wss\","
        "\"dest_side\":\"inside\",\"pool\":\"border\",\"tries\":2,\"target_status\":486,"
        "\"queue_us\":0,\"first_us\":1500,\"final_us\":4200000,\"resent_in\":1,"
        "\"resent_out\":255,\"in_dialog\":true,\"via_token\":false,"
        "\"reason\":\"say \\\"no\\\"\"}\n");
    assert_string_equal(
        logfmt, "time=2026-05-01T12:42:37.123456Z node=edge-1 region=us-east-1 zone=a worker=10 "
                "method=INVITE status=200 end=-D call_id=a84b4c76e66710 cseq=314159 "
                "ruri=\"sip:bob@example.com;transport=tcp\" from=sip:alice@example.com "
                "to=sip:bob@example.com source=192.0.2.7:5060 transport=udp side=outside "
                "dest=[2001:db8::1]:5061 dest_transport=wss dest_side=inside pool=border tries=2 "
                "target_status=486 queue_us=0 first_us=1500 final_us=4200000 resent_in=1 "
                "resent_out=255 in_dialog=true via_token=false reason=\"say \\\"no\\\"\"\n");
    read_both();
    assert_int_equal(from_json.count, 30);
}

static void test_what_is_absent_has_no_field(void **state)
{
    (void)state;
    write_both(record(), &nameless);
    assert_string_equal(json, "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"worker\":0,\"tries\":0,"
                              "\"resent_in\":0,\"resent_out\":0,\"in_dialog\":false,"
                              "\"via_token\":false}\n");
    assert_string_equal(logfmt, "time=1970-01-01T00:00:00.000000Z worker=0 tries=0 resent_in=0 "
                                "resent_out=0 in_dialog=false via_token=false\n");
}

static void test_methods(void **state)
{
    (void)state;
    static const char *const method[SIP_M__COUNT] = {
        [SIP_M_OTHER] = NULL,          [SIP_M_INVITE] = "INVITE",       [SIP_M_ACK] = "ACK",
        [SIP_M_BYE] = "BYE",           [SIP_M_CANCEL] = "CANCEL",       [SIP_M_OPTIONS] = "OPTIONS",
        [SIP_M_REGISTER] = "REGISTER", [SIP_M_PRACK] = "PRACK",         [SIP_M_UPDATE] = "UPDATE",
        [SIP_M_INFO] = "INFO",         [SIP_M_SUBSCRIBE] = "SUBSCRIBE", [SIP_M_NOTIFY] = "NOTIFY",
        [SIP_M_REFER] = "REFER",       [SIP_M_MESSAGE] = "MESSAGE",     [SIP_M_PUBLISH] = "PUBLISH",
    };
    for (unsigned m = 0; m < 256; m++) {
        struct log_record *r = record();
        const char *want = m < SIP_M__COUNT && m > 0 ? method[m] : "DANCE";
        r->method = (uint8_t)m;
        pack(r, LOG_METHOD_NAME, SLICE("DANCE"));
        pack(r, LOG_CALL_ID, SLICE("c1"));
        write_both(r, &nameless);
        read_both();
        assert_string_equal(find(&from_json, "call_id")->value, "c1");
        assert_string_equal(find(&from_json, "method")->value, want);
    }
}

/* ---- time --------------------------------------------------------------------------------------
 */

static void check_time(uint64_t wall_ns)
{
    struct log_record *r = record();
    char want[64];
    time_t s = (time_t)(wall_ns / 1000000000);
    struct tm tm;
    assert_non_null(gmtime_r(&s, &tm));
    size_t n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(want + n, sizeof want - n, ".%06uZ", (unsigned)(wall_ns / 1000 % 1000000));
    r->wall_ns = wall_ns;
    write_both(r, &nameless);
    read_both();
    assert_string_equal(find(&from_json, "time")->value, want);
}

static void test_time_agrees_with_the_calendar(void **state)
{
    (void)state;
    static const uint64_t days[] = {0,     58,    59,    60,    364,   365,   11016, 11015,
                                    11017, 19782, 47540, 47541, 47542, 24855, 184467};
    struct prng p;
    prng_seed(&p, 1);
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        check_time(days[i] * 86400000000000ULL);
        check_time(days[i] * 86400000000000ULL + 86399999999999ULL);
    }
    for (uint64_t day = 0; day < 213503; day += 13)
        check_time(day * 86400000000000ULL + prng_below(&p, 86400000000000ULL));
    check_time(UINT64_MAX);
}

/* ---- strings -----------------------------------------------------------------------------------
 */

static void test_escapes(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct slice in;
        const char *json, *logfmt;
    } cases[] = {
        {"plain", {"abc", 3}, "\"abc\"", "abc"},
        {"all of a word", {"abcdefgh", 8}, "\"abcdefgh\"", "abcdefgh"},
        {"blank", {"a b", 3}, "\"a b\"", "\"a b\""},
        {"equals", {"a=b", 3}, "\"a=b\"", "\"a=b\""},
        {"late equals", {"abcdefghijklmno=", 16}, "\"abcdefghijklmno=\"", "\"abcdefghijklmno=\""},
        {"quote", {"\"", 1}, "\"\\\"\"", "\"\\\"\""},
        {"backslash", {"a\\", 2}, "\"a\\\\\"", "\"a\\\\\""},
        {"line end", {"a\r\nb", 4}, "\"a\\r\\nb\"", "\"a\\r\\nb\""},
        {"tab", {"\t", 1}, "\"\\t\"", "\"\\t\""},
        {"NUL", {"a\0b", 3}, "\"a\\u0000b\"", "\"a\\u0000b\""},
        {"escape", {"\x1b[2J", 4}, "\"\\u001b[2J\"", "\"\\u001b[2J\""},
        {"DEL", {"\x7f", 1}, "\"\\u007f\"", "\"\\u007f\""},
        {"two bytes", {"\xc3\xa9", 2}, "\"\\u00e9\"", "\"\\u00e9\""},
        {"C1 control", {"\xc2\x9b", 2}, "\"\\u009b\"", "\"\\u009b\""},
        {"three bytes", {"\xe2\x82\xac", 3}, "\"\\u20ac\"", "\"\\u20ac\""},
        {"four bytes", {"\xf0\x9f\x93\x9e!", 5}, "\"\\ud83d\\udcde!\"", "\"\\ud83d\\udcde!\""},
        {"last code point", {"\xf4\x8f\xbf\xbf", 4}, "\"\\udbff\\udfff\"", "\"\\udbff\\udfff\""},
        {"above it",
         {"\xf4\x90\x80\x80", 4},
         "\"\\u00f4\\u0090\\u0080\\u0080\"",
         "\"\\u00f4\\u0090\\u0080\\u0080\""},
        {"surrogate",
         {"\xed\xa0\x80", 3},
         "\"\\u00ed\\u00a0\\u0080\"",
         "\"\\u00ed\\u00a0\\u0080\""},
        {"overlong", {"\xc0\xaf", 2}, "\"\\u00c0\\u00af\"", "\"\\u00c0\\u00af\""},
        {"overlong of three",
         {"\xe0\x80\xaf", 3},
         "\"\\u00e0\\u0080\\u00af\"",
         "\"\\u00e0\\u0080\\u00af\""},
        {"overlong of four",
         {"\xf0\x80\x80\xaf", 4},
         "\"\\u00f0\\u0080\\u0080\\u00af\"",
         "\"\\u00f0\\u0080\\u0080\\u00af\""},
        {"cut", {"a\xe2\x82", 3}, "\"a\\u00e2\\u0082\"", "\"a\\u00e2\\u0082\""},
        {"stray", {"\x80\xff", 2}, "\"\\u0080\\u00ff\"", "\"\\u0080\\u00ff\""},
        {"lead before ASCII", {"\xc3(", 2}, "\"\\u00c3(\"", "\"\\u00c3(\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct log_record *r = record();
        char want[256];
        pack(r, LOG_REASON, cases[i].in);
        write_both(r, &nameless);
        snprintf(want, sizeof want, "\"reason\":%s}\n", cases[i].json);
        if (strstr(json, want) == NULL)
            fail_msg("%s: %s", cases[i].what, json);
        snprintf(want, sizeof want, " reason=%s\n", cases[i].logfmt);
        if (strstr(logfmt, want) == NULL)
            fail_msg("%s: %s", cases[i].what, logfmt);
    }
}

/* What a reader must find: valid UTF-8 as it is, any other byte as the character of its value.
 * Written from the table of RFC 3629 4, unlike the writer. */
static void expect(struct pair *to, struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    *to = (struct pair){.n = 0};
    for (size_t i = 0; i < s.n;) {
        unsigned a = p[i], b = i + 1 < s.n ? p[i + 1] : 0;
        bool c = i + 2 < s.n && p[i + 2] >> 6 == 2, d = i + 3 < s.n && p[i + 3] >> 6 == 2;
        size_t n = 1;
        if (a >= 0xc2 && a <= 0xdf && b >> 6 == 2)
            n = 2;
        else if (((a == 0xe0 && b >= 0xa0 && b <= 0xbf) || (a == 0xed && b >= 0x80 && b <= 0x9f) ||
                  (a >= 0xe1 && a <= 0xef && a != 0xed && b >> 6 == 2)) &&
                 c)
            n = 3;
        else if (((a == 0xf0 && b >= 0x90 && b <= 0xbf) || (a == 0xf4 && b >= 0x80 && b <= 0x8f) ||
                  (a >= 0xf1 && a <= 0xf3 && b >> 6 == 2)) &&
                 c && d)
            n = 4;
        if (n == 1) {
            put_utf8(to, a);
        } else {
            memcpy(to->value + to->n, p + i, n);
            to->n += n;
        }
        i += n;
    }
}

static void check_string(const char *name, struct slice s)
{
    struct pair want;
    const struct pair *got = find(&from_json, name);
    expect(&want, s);
    if (s.n == 0) {
        assert_null(got);
        return;
    }
    assert_non_null(got);
    assert_true(got->quoted);
    assert_int_equal(got->n, want.n);
    assert_memory_equal(got->value, want.value, want.n);
}

static void test_every_pair_of_bytes(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 65536; v++) {
        char s[] = {'a', 'b', 'c', 'd', 'e', 'f', (char)(v >> 8), (char)(v & 0xff), 'i', 'j'};
        struct log_record *r = record();
        pack(r, LOG_CALL_ID, slice_of(s + v % 7, sizeof s - v % 7 - v % 3));
        write_both(r, &nameless);
        read_both();
        check_string("call_id", slice_of(s + v % 7, sizeof s - v % 7 - v % 3));
    }
}

/* One special byte at each place of each length: the writer looks at 16, 8, 4 and 1 at a time. The
 * name ends where its memory does. */
static void test_every_length_and_place(void **state)
{
    (void)state;
    static const char special[] = {' ',  '=',  '"',        '\\',       '\n', 0,
                                   0x1f, 0x7f, (char)0x80, (char)0xff, 'x'};
    for (size_t n = 1; n < 52; n++) {
        char *name = malloc(n);
        assert_non_null(name);
        for (size_t at = 0; at < n; at++) {
            for (size_t k = 0; k < sizeof special; k++) {
                memset(name, '~', n);
                name[at] = special[k];
                write_both(record(),
                           &(struct log_names){slice_of(name, n), SLICE_NONE, SLICE_NONE});
                read_both();
                check_string("node", slice_of(name, n));
                assert_int_equal(find(&from_logfmt, "node")->quoted, special[k] != 'x');
            }
        }
        free(name);
    }
}

static void test_transports_and_sides(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        struct log_record *r = record();
        r->transport_in = r->side_out = (uint8_t)i;
        write_both(r, &nameless);
        read_both();
        const struct pair *tp = find(&from_json, "transport"),
                          *side = find(&from_json, "dest_side");
        assert_int_equal(tp != NULL, i < TP__COUNT);
        assert_int_equal(side != NULL, i < 2);
        if (tp != NULL)
            assert_true(slice_equal(slice_of(tp->value, tp->n), transport_name((enum transport)i)));
        if (side != NULL)
            assert_string_equal(side->value, i == 1 ? "inside" : "outside");
    }
}

static void test_numbers_and_ipv4(void **state)
{
    (void)state;
    static const uint32_t edges[20] = {1,        9,         10,        99,         100,
                                       999,      1000,      9999,      10000,      99999,
                                       100000,   999999,    1000000,   9999999,    10000000,
                                       99999999, 100000000, 999999999, 1000000000, UINT32_MAX - 1};
    char want[64];
    for (unsigned i = 0; i < 65536; i++) {
        struct log_record *r = record();
        r->source = (struct addr){.family = 4, .port = (uint16_t)i};
        for (unsigned k = 0; k < 4; k++)
            r->source.ip[k] = (uint8_t)(i >> 8 ^ i * (k + 1));
        r->status = (uint16_t)i;
        r->final_us = i < 20 ? edges[i] : i * 65521;
        write_both(r, &nameless);
        read_both();
        snprintf(want, sizeof want, "%u.%u.%u.%u:%u", r->source.ip[0], r->source.ip[1],
                 r->source.ip[2], r->source.ip[3], i);
        assert_string_equal(find(&from_json, "source")->value, want);
        snprintf(want, sizeof want, "%u", r->final_us);
        assert_string_equal(find(&from_json, "final_us")->value, want);
        snprintf(want, sizeof want, "%u", i);
        if (i > 0)
            assert_string_equal(find(&from_json, "status")->value, want);
    }
}

/* A byte that is often special. */
static char odd_byte(struct prng *p)
{
    static const char odd[] = "\"\\ =\n\x7f\x1f\xc3\xa9\xe2\x82\xac\xf0\x9f\x93\x9e\xed\xa0{},:";
    uint64_t pick = prng_below(p, 4);
    if (pick == 0)
        return odd[prng_below(p, sizeof odd)];
    return (char)(pick == 1 ? prng_below(p, 256) : 'a' + prng_below(p, 26));
}

static void test_any_bytes_in_every_string(void **state)
{
    (void)state;
    static const char *const field[] = {"method", "call_id", "cseq", "ruri",
                                        "from",   "to",      "pool", "reason"};
    struct prng p;
    prng_seed(&p, 7);
    for (unsigned round = 0; round < 5000; round++) {
        char bytes[11][LOG_TEXT_BYTES_MAX];
        struct slice s[11];
        struct log_record *r = record();
        for (unsigned i = 0; i < 11; i++) {
            s[i] = slice_of(bytes[i], (size_t)prng_below(&p, LOG_TEXT_BYTES_MAX + 1));
            for (size_t k = 0; k < s[i].n; k++)
                bytes[i][k] = odd_byte(&p);
        }
        for (unsigned i = 0; i < 8; i++)
            pack(r, (enum log_text)i, s[i]);
        r->end_who = odd_byte(&p);
        r->end_phase = odd_byte(&p);
        r->wall_ns = prng_u64(&p);
        r->transport_in = (uint8_t)prng_below(&p, 256);
        r->side_out = (uint8_t)prng_below(&p, 256);
        write_both(r, &(struct log_names){s[8], s[9], s[10]});
        read_both();
        for (unsigned i = 0; i < 8; i++)
            check_string(field[i], s[i]);
        check_string("node", s[8]);
        check_string("zone", s[10]);
    }
}

/* ---- room --------------------------------------------------------------------------------------
 */

static void test_longest_line_fits(void **state)
{
    (void)state;
    char bytes[LOG_TEXT_BYTES_MAX * 2];
    struct log_record *r = full_record();
    memset(bytes, 0xff, sizeof bytes);
    for (unsigned i = 0; i < 8; i++)
        pack(r, (enum log_text)i, slice_of(bytes, LOG_TEXT_BYTES_MAX));
    r->method = 0;
    r->wall_ns = UINT64_MAX;
    r->status = r->target_status = UINT16_MAX;
    r->first_us = r->final_us = r->queue_us = UINT32_MAX - 1;
    r->tries = r->resent_in = r->worker = 255;
    r->end_who = r->end_phase = (char)0xff;
    memset(r->source.ip, 0xff, 16);
    r->source.family = 6;
    r->source.scope = UINT32_MAX;
    r->source.port = UINT16_MAX;
    r->dest = r->source;
    struct slice long_name = slice_of(bytes, sizeof bytes);
    char *exact = malloc(LOG_LINE_BYTES_MAX);
    assert_non_null(exact);
    struct text t = text_into(exact, LOG_LINE_BYTES_MAX);
    assert_int_equal(log_write_json(&t, r, &(struct log_names){long_name, long_name, long_name}),
                     0);
    assert_true(t.n > 11 * LOG_TEXT_BYTES_MAX * 6);
    free(exact);
    write_both(r, &(struct log_names){long_name, long_name, long_name});
    read_both();
    assert_int_equal(find(&from_json, "node")->n, 2 * LOG_TEXT_BYTES_MAX);
}

static void test_too_little_room_changes_nothing(void **state)
{
    (void)state;
    write_both(full_record(), &names);
    size_t size = strlen(json);
    for (size_t cap = 0; cap < size + 5; cap++) {
        char *exact = malloc(cap + 2);
        assert_non_null(exact);
        memset(exact, '#', cap + 2);
        struct text t = text_into(exact, cap + 2);
        t.n = 2;
        bool fits = cap >= size;
        assert_int_equal(log_write_json(&t, full_record(), &names), fits ? 0 : -1);
        assert_int_equal(t.n, fits ? 2 + size : 2);
        assert_memory_equal(exact, "##", 2);
        if (fits)
            assert_memory_equal(exact + 2, json, size);
        free(exact);
    }
    struct text over = text_into(NULL, 0);
    over.n = 1;
    assert_int_equal(log_write_logfmt(&over, full_record(), &names), -1);
    assert_int_equal(over.n, 1);
}

static void test_lines_follow_each_other(void **state)
{
    (void)state;
    static char many[3 * LOG_LINE_BYTES_MAX];
    struct text t = text_into(many, sizeof many);
    write_both(full_record(), &names);
    size_t n = strlen(logfmt);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(log_write_logfmt(&t, full_record(), &names), 0);
    assert_int_equal(t.n, 3 * n);
    for (unsigned i = 0; i < 3; i++)
        assert_memory_equal(many + i * n, logfmt, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_record),
        cmocka_unit_test(test_what_is_absent_has_no_field),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_time_agrees_with_the_calendar),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_every_pair_of_bytes),
        cmocka_unit_test(test_every_length_and_place),
        cmocka_unit_test(test_transports_and_sides),
        cmocka_unit_test(test_numbers_and_ipv4),
        cmocka_unit_test(test_any_bytes_in_every_string),
        cmocka_unit_test(test_longest_line_fits),
        cmocka_unit_test(test_too_little_room_changes_nothing),
        cmocka_unit_test(test_lines_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
