/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sip/sample.h"

static int parse(struct slice s, struct sip_uri *u)
{
    static char *copy;
    if (copy != NULL)
        guard_free(copy);
    copy = guard_copy(s.p, s.n);
    return sip_uri_parse(slice_of(copy, s.n), u);
}

static void good(void **state)
{
    (void)state;
    static const struct {
        const char *text, *user, *host;
        int port;
        const char *params, *headers;
        enum sip_scheme scheme;
    } cases[] = {
        {"sip:example.com", "", "example.com", 0, "", "", SIP_SCHEME_SIP},
        {"SIP:a@b", "a", "b", 0, "", "", SIP_SCHEME_SIP},
        {"sips:a@b:5061", "a", "b", 5061, "", "", SIP_SCHEME_SIPS},
        {"sip:a:secret@b", "a:secret", "b", 0, "", "", SIP_SCHEME_SIP},
        {"sip:a;x=u%40v@b;lr", "a;x=u%40v", "b", 0, ";lr", "", SIP_SCHEME_SIP},
        {"sip:a?b/c@d", "a?b/c", "d", 0, "", "", SIP_SCHEME_SIP},
        {"sip:*86#@pbx_1.local", "*86#", "pbx_1.local", 0, "", "", SIP_SCHEME_SIP},
        {"sip:%00@b", "%00", "b", 0, "", "", SIP_SCHEME_SIP},
        {"sip:a@b;transport=tcp;lr?Subject=x&a=b", "a", "b", 0, ";transport=tcp;lr",
         "Subject=x&a=b", SIP_SCHEME_SIP},
        {"sip:b?Subject=x", "", "b", 0, "", "Subject=x", SIP_SCHEME_SIP},
        {"sip:[2001:db8::10]", "", "2001:db8::10", 0, "", "", SIP_SCHEME_SIP},
        {"sip:a@[::ffff:192.0.2.1]:5070;lr", "a", "::ffff:192.0.2.1", 5070, ";lr", "",
         SIP_SCHEME_SIP},
        {"sip:[2001:db8::10:5070]", "", "2001:db8::10:5070", 0, "", "", SIP_SCHEME_SIP},
        {"sip:192.0.2.1:05060", "", "192.0.2.1", 5060, "", "", SIP_SCHEME_SIP},
        {"sip:a@b:65535", "a", "b", 65535, "", "", SIP_SCHEME_SIP},
        {"tel:+1-201-555-0123;x=y", "", "", 0, "", "", SIP_SCHEME_TEL},
        {"isbn:2983792873", "", "", 0, "", "", SIP_SCHEME_OTHER},
        {"soap.beep://192.0.2.103:3002", "", "", 0, "", "", SIP_SCHEME_OTHER},
        {"sipx:a@b@c", "", "", 0, "", "", SIP_SCHEME_OTHER},
        {"x+y-z.1:o", "", "", 0, "", "", SIP_SCHEME_OTHER},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_uri u;
        want_int(cases[i].text, parse(slice_cstr(cases[i].text), &u), SIP_OK);
        want_int(cases[i].text, u.scheme, cases[i].scheme);
        want_text(cases[i].text, u.user, cases[i].user);
        want_text(cases[i].text, u.host, cases[i].host);
        want_int(cases[i].text, u.port, cases[i].port);
        want_text(cases[i].text, u.params, cases[i].params);
        want_text(cases[i].text, u.headers, cases[i].headers);
        if (u.scheme == SIP_SCHEME_SIP && cases[i].user[0] == '\0')
            assert_null(u.user.p);
    }
}

static void bad(void **state)
{
    (void)state;
    static const struct slice cases[] = {
        SLICE(""),
        SLICE("sip"),
        SLICE("sip:"),
        SLICE(":a@b"),
        SLICE("1sip:a@b"),
        SLICE("+sip:a@b"),
        SLICE("s ip:a@b"),
        SLICE("sip:@b"),
        SLICE("sip:a@"),
        SLICE("sip:a@@b"),
        SLICE("sip:a@b@c"),     /* whose host? */
        SLICE("sip:a@b;x=c@d"), /* the same, further on */
        SLICE("sip:a@b:"),
        SLICE("sip:a@b:0"),
        SLICE("sip:a@b:65536"),
        SLICE("sip:a@b:4294967297"),
        SLICE("sip:a@b:18446744073709556676"), /* 5060 modulo 2^64 */
        SLICE("sip:a@b:-1"),
        SLICE("sip:a@b:x"),
        SLICE("sip:a@b:5060x"),
        SLICE("sip:2001:db8::10"),
        SLICE("sip:[2001:db8::10"),
        SLICE("sip:2001:db8::10]"),
        SLICE("sip:[]"),
        SLICE("sip:[1.2.3.4]"),
        SLICE("sip:[fe80::1%eth0]"),
        SLICE("sip:[::1]x"),
        SLICE("sip:a@b c"),
        SLICE("sip:a b@c"),
        SLICE("sip:a\tb@c"),
        SLICE("sip:a\0@b"),
        SLICE("sip:a@b\0"),
        SLICE("sip:a@b\r\n x"),
        SLICE("sip:<a>@b"),
        SLICE("sip:\"a\"@b"),
        SLICE("<sip:a@b>"),
        SLICE("sip:%zz@b"),
        SLICE("sip:%4@b"),
        SLICE("sip:a%"),
        SLICE("sip:a@b;x=%4"),
        SLICE("sip:a@b;x=%"),
        SLICE("sip:a@b,c"),
        SLICE("sip:\xc3\xa9@b"),
        SLICE("sip:a@\xc3\xa9"),
        SLICE("tel:"),
        SLICE("tel:1 2"),
        SLICE("http:\r\n"),
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_uri u = {.port = 77};
        want_int(cases[i].p, parse(cases[i], &u), SIP_E_SYNTAX);
        want_int("untouched on failure", u.port, 77);
    }
}

static void transports(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
    } cases[] = {
        {"sip:b", TP_UDP},
        {"sips:b", TP_TLS},
        {"sip:b;transport=tcp", TP_TCP},
        {"sip:b;Transport=TCP", TP_TCP},
        {"sip:b;lr;transport=tls", TP_TLS},
        {"sip:b;transport=ws", TP_WS},
        {"sips:b;transport=ws", TP_WSS},
        {"sips:b;transport=tcp", TP_TLS},
        {"sips:b;transport=udp", -1},
        {"sip:b;transport=wss;lr", TP_WSS},
        {"sip:b;transport=sctp", -1},
        {"sip:b;transport=", -1},
        {"sip:b;transport", -1},
        {"sip:b;tr%61nsport=udp", TP_UDP},
        {"sip:transport=tcp@b", TP_UDP},
        {"sip:b;x-transport=tcp", TP_UDP},
        {"sip:b;transports=tcp", TP_UDP},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sip_uri u;
        assert_int_equal(parse(slice_cstr(cases[i].text), &u), SIP_OK);
        want_int(cases[i].text, sip_uri_transport(&u, TP_UDP), cases[i].want);
    }
}

static void uri_params(void **state)
{
    (void)state;
    struct slice v = SLICE("none");
    assert_true(sip_uri_param(SLICE(";a=1;%6C%72;b=x=y"), SLICE("lr"), &v));
    want_text("flag", v, "");
    assert_true(sip_uri_param(SLICE(";a=1;lr;b=x=y"), SLICE("B"), &v));
    want_text("value", v, "x=y");
    assert_true(sip_uri_param(SLICE("a=1"), SLICE("a"), NULL));
    assert_false(sip_uri_param(SLICE(";lrx;xlr;l;%6C"), SLICE("lr"), &v));
    assert_false(sip_uri_param(SLICE(";;;"), SLICE("lr"), &v));
    assert_false(sip_uri_param(SLICE(";l%7;l%"), SLICE("lr"), &v));
    assert_false(sip_uri_param(SLICE_NONE, SLICE("lr"), &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(bad),
        cmocka_unit_test(transports),
        cmocka_unit_test(uri_params),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
