/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sip/sample.h"

/* ---- comma lists ----------------------------------------------------------------------------- */

static void values(void **state)
{
    (void)state;
    static const struct {
        const char *lines; /* header lines of Contact */
        const char *want;  /* values joined by '|'; '!' at the end: malformed; '=' before: whole */
    } cases[] = {
        {"Contact: a\r\n", "=a"},
        {"Contact: a,b\r\n", "a|b"},
        {"Contact: a , b\r\n ,\r\n c \r\n", "a|b|c"},
        {"Contact: a\r\nm: b, c\r\nX: y\r\nCONTACT:d\r\n", "=a|b|c|=d"},
        {"Contact: <a,b>, c\r\n", "<a,b>|c"},
        {"Contact: \"x, \\\", <\" <a>;p=\",\", c\r\n", "\"x, \\\", <\" <a>;p=\",\"|c"},
        {"Contact: a (x, y), b\r\n", "a (x|y)|b"},
        {"Contact: sip:a(b@c, d\r\n", "sip:a(b@c|d"},
        {"Contact:\r\nm: a\r\nm:\r\n", "=a"},
        {"Contact:\r\n", ""},
        {"X: y\r\n", ""},
        {"Contact: ,a\r\n", "!"},
        {"Contact: a,\r\n", "!"},
        {"Contact: a,,b\r\n", "a|!"},
        {"Contact: a, \r\n ,b\r\n", "a|!"},
        {"Contact: a, \"b\r\n", "a|!"},
        {"Contact: a, <b\r\n", "a|!"},
        {"Contact: a, (b\r\n", "a|(b"},
        {"Contact: a, \"b\\\"\r\n", "a|!"},
        {"Contact: ,\r\n", "!"},
        {"Contact: a\r\nm: \"b\r\nm: c\r\n", "=a|!"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\n");
        text_put(&t, slice_cstr(cases[i].lines));
        TEXT_LIT(&t, "\r\n");
        struct indexed x;
        index_text(&x, text_slice(&t), true);
        assert_int_equal(x.rc, SIP_OK);
        char got_room[256];
        struct text got = text_into(got_room, sizeof got_room);
        struct sip_values v = sip_values(&x.m, SIP_H_CONTACT);
        while (sip_next_value(&v)) {
            if (got.n > 0)
                text_put_char(&got, '|');
            if (v.whole)
                text_put_char(&got, '=');
            text_put(&got, sip_slice(&x.m, v.value));
        }
        if (v.err != 0 && got.n > 0)
            text_put_char(&got, '|');
        if (v.err != 0)
            text_put_char(&got, '!');
        want_text(cases[i].lines, text_slice(&got), cases[i].want);
        assert_false(sip_next_value(&v)); /* the end stays the end */
        index_done(&x);
    }
}

static void params(void **state)
{
    (void)state;
    static const struct {
        const char *params, *name;
        const char *want; /* NULL: not there */
    } cases[] = {
        {";tag=1", "tag", "1"},
        {";tag=1", "TAG", "1"},
        {" ; tag\t= 1 ", "tag", "1"},
        {"\r\n ;\r\n tag\r\n =\r\n 1", "tag", "1"},
        {";a;tag", "tag", ""},
        {";a;tag=;b", "tag", ""},
        {";x=\"a;tag=2\";tag=1", "tag", "1"},
        {";x=\"a\\\";tag=2\";tag=1", "tag", "1"},
        {";tag=\"a b\"", "tag", "\"a b\""},
        {";tag=x/y==", "tag", "x/y=="},
        {";received=[2001:db8::1];tag=1", "received", "[2001:db8::1]"},
        {";received=2001:db8::1", "received", "2001:db8::1"},
        {";tags=1;atag=2", "tag", NULL},
        {";;tag=1", "tag", NULL},
        {"tag=1", "tag", NULL},
        {";a b;tag=1", "tag", NULL},
        {";a=\"b;tag=1", "tag", NULL},
        {"", "tag", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct slice v = SLICE("none");
        struct slice s = slice_cstr(cases[i].params);
        char *p = guard_copy(s.p, s.n);
        bool is_there = sip_param(slice_of(p, s.n), slice_cstr(cases[i].name), &v);
        want_int(cases[i].params, is_there, cases[i].want != NULL);
        want_text(cases[i].params, v, cases[i].want != NULL ? cases[i].want : "none");
        guard_free(p);
    }
    assert_true(sip_param(SLICE(";lr"), SLICE("lr"), NULL));
    assert_false(sip_param(SLICE_NONE, SLICE("lr"), NULL));
}

static void vias(void **state)
{
    (void)state;
    static const struct {
        const char *text, *transport_name;
        int transport;
        const char *host;
        int port;
        const char *params, *branch;
        bool has_rport, is_rfc3261;
    } cases[] = {
        {"SIP/2.0/UDP h", "UDP", TP_UDP, "h", 0, "", "", false, false},
        {"SIP/2.0/TCP h:5060;branch=z9hG4bKx", "TCP", TP_TCP, "h", 5060, ";branch=z9hG4bKx",
         "z9hG4bKx", false, true},
        {"SIP/2.0/tls 192.0.2.1 : 5061 ; rport", "tls", TP_TLS, "192.0.2.1", 5061, "; rport", "",
         true, false},
        {"SIP/2.0/WSS x.invalid;rport=99;branch=z9hG4bK", "WSS", TP_WSS, "x.invalid", 0,
         ";rport=99;branch=z9hG4bK", "z9hG4bK", true, false},
        {"SIP/2.0/WS x;branch=abc", "WS", TP_WS, "x", 0, ";branch=abc", "abc", false, false},
        {"SIP/2.0/SCTP h;ttl=1", "SCTP", -1, "h", 0, ";ttl=1", "", false, false},
        {"sip / 2.0 \r\n / UDP\r\n\t[2001:db8::1]:9;BRANCH\r\n =\r\n z9hG4bKq", "UDP", TP_UDP,
         "2001:db8::1", 9, ";BRANCH\r\n =\r\n z9hG4bKq", "z9hG4bKq", false, true},
        {"SIP/2.0/UDP h;x=\"a,b\";branch=z9hG4bKx;y ", "UDP", TP_UDP, "h", 0,
         ";x=\"a,b\";branch=z9hG4bKx;y", "z9hG4bKx", false, true},
        {"SIP/2.0/UDP [::1];received=::2", "UDP", TP_UDP, "::1", 0, ";received=::2", "", false,
         false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_via v;
        struct slice s = slice_cstr(cases[i].text);
        char *p = guard_copy(s.p, s.n);
        want_int(cases[i].text, sip_via_parse(slice_of(p, s.n), &v), SIP_OK);
        want_text(cases[i].text, v.transport_name, cases[i].transport_name);
        want_int(cases[i].text, v.transport, cases[i].transport);
        want_text(cases[i].text, v.host, cases[i].host);
        want_int(cases[i].text, v.port, cases[i].port);
        want_text(cases[i].text, v.params, cases[i].params);
        want_text(cases[i].text, v.branch, cases[i].branch);
        want_int(cases[i].text, v.has_rport, cases[i].has_rport);
        want_int(cases[i].text, v.is_rfc3261, cases[i].is_rfc3261);
        guard_free(p);
    }
}

/* CVE-2018-16657, CVE-2023-27598: a Via that is accepted has all its pieces. */
static void bad_vias(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "SIP",
        "SIP/2.0",
        "SIP/2.0/",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0/ UDP",
        "SIP/2.0 UDP h",
        "SIP/2.0/UDP/h x",
        "SIP//UDP h",
        "SIP/1.0/UDP h",
        "SIP/7.0/UDP h",
        "SIPS/2.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP ;branch=z9hG4bKx",
        "SIP/2.0/UDP :5060",
        "SIP/2.0/UDP h:",
        "SIP/2.0/UDP h:0",
        "SIP/2.0/UDP h:65536",
        "SIP/2.0/UDP h:5x",
        "SIP/2.0/UDP h:99999999999999999999",
        "SIP/2.0/UDP [::1",
        "SIP/2.0/UDP []",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/UDP h;",
        "SIP/2.0/UDP h;=x",
        "SIP/2.0/UDP h;a=\"x",
        "SIP/2.0/UDP h;a=<x>",
        "SIP/2.0/UDP h x",
        "SIP/2.0/UDP h, SIP/2.0/UDP g", /* two values are not one */
        "SIP/2.0/UDP h,",
        "SIP/2.0/UDP h;branch=a;branch=b",
        "SIP/2.0/UDP h;branch=a;Branch=a",
        "SIP/2.0/UDP h;rport;rport=1",
        "SIP/2.0/UDP h;received=1.2.3.4;received=5.6.7.8",
        "SIP/2.0/UDP h;branch;branch",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_via v = {.port = 77};
        struct slice s = slice_cstr(cases[i]);
        char *p = guard_copy(s.p, s.n);
        want_int(cases[i], sip_via_parse(slice_of(p, s.n), &v), SIP_E_SYNTAX);
        want_int("untouched on failure", v.port, 77);
        guard_free(p);
    }
}

static void nameaddrs(void **state)
{
    (void)state;
    static const struct {
        const char *text, *display, *uri, *params;
        bool bracketed;
    } cases[] = {
        {"<sip:a@b>", "", "sip:a@b", "", true},
        {"sip:a@b", "", "sip:a@b", "", false},
        {"sip:a@b;tag=1", "", "sip:a@b", ";tag=1", false},
        {"sip:a@b ;\r\n tag = 1", "", "sip:a@b", ";\r\n tag = 1", false},
        {"caller<sip:a@b>;tag=3", "caller", "sip:a@b", ";tag=3", true},
        {"A. B <sip:a@b;lr>;x", "A. B", "sip:a@b;lr", ";x", true},
        {"\"J \\\\\\\"\"  <sip:a@b>\r\n ;tag=9", "\"J \\\\\\\"\"", "sip:a@b", ";tag=9", true},
        {"\"<sip:no@x>, \" <sip:a@b?x=y>", "\"<sip:no@x>, \"", "sip:a@b?x=y", "", true},
        {"\"\" <sip:a@b>", "\"\"", "sip:a@b", "", true},
        {"J\xc3\xbcrgen <sip:a@b>", "J\xc3\xbcrgen", "sip:a@b", "", true},
        {"sip:a@b;x=\"<sip:c@d>\"", "", "sip:a@b", ";x=\"<sip:c@d>\"", false},
        {"isbn:2983792873", "", "isbn:2983792873", "", false},
        {"<http://www.example.com>;tag=3", "", "http://www.example.com", ";tag=3", true},
        {"<sip:a;b,c?d@e>", "", "sip:a;b,c?d@e", "", true},
        {" <sip:a@b> ", "", "sip:a@b", "", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_nameaddr n;
        struct slice s = slice_cstr(cases[i].text);
        char *p = guard_copy(s.p, s.n);
        want_int(cases[i].text, sip_nameaddr_parse(slice_of(p, s.n), &n), SIP_OK);
        want_text(cases[i].text, n.display, cases[i].display);
        want_text(cases[i].text, n.uri, cases[i].uri);
        want_text(cases[i].text, n.params, cases[i].params);
        want_int(cases[i].text, n.bracketed, cases[i].bracketed);
        guard_free(p);
    }
}

static void bad_nameaddrs(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "*",
        "a@b",
        "sip:",
        "<>",
        "<sip:>",
        "<sip:a@b",
        "sip:a@b>",
        "< sip:a@b>",
        "<sip:a@b >",
        "<sip:a b@c>",
        "<<sip:a@b>>",
        "\"a <sip:a@b>",
        "\"a\\\" <sip:a@b>",
        "\"a\" \"b\" <sip:a@b>",
        "\"a\" sip:a@b",
        "\"a\"",
        "a, b <sip:a@b>",
        "a; b <sip:a@b>",
        "a\\b <sip:a@b>",
        "a\"b\" <sip:a@b>",
        "sip:a@b?x=y",
        "sip:a@b,sip:c@d",
        "<sip:a@b>,",
        "<sip:a@b> x",
        "<sip:a@b>;;",
        "<sip:a@b>;;;;",
        "<sip:a@b>;",
        "<sip:a@b>;tag=\"x",
        "<sip:a@b>;tag=1;tag=2", /* CVE-2018-14767: which of them? */
        "<sip:a@b>;tag;TAG=2",
        "sip:a b",
        "1x:a",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_nameaddr n = {.bracketed = true};
        struct slice s = slice_cstr(cases[i]);
        char *p = guard_copy(s.p, s.n);
        want_int(cases[i], sip_nameaddr_parse(slice_of(p, s.n), &n), SIP_E_SYNTAX);
        want_int("untouched on failure", n.bracketed, true);
        guard_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),   cmocka_unit_test(params),    cmocka_unit_test(vias),
        cmocka_unit_test(bad_vias), cmocka_unit_test(nameaddrs), cmocka_unit_test(bad_nameaddrs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
