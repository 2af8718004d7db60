/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sip/sample.h"

/* A request in which one part is different. NULL: as in the sample; "": left out. */
struct request {
    const char *start, *via, *max_forwards, *from, *to, *call_id, *cseq, *more;
};

static void put_part(struct text *t, const char *own, const char *usual)
{
    text_put(t, slice_cstr(own != NULL ? own : usual));
}

static void put_request(struct text *t, const struct request *r)
{
    put_part(t, r->start, "INVITE sip:bob@example.net SIP/2.0\r\n");
    put_part(t, r->via, SAMPLE_VIA);
    put_part(t, r->max_forwards, "Max-Forwards: 70\r\n");
    put_part(t, r->from, "From: <sip:alice@example.org>;tag=f1\r\n");
    put_part(t, r->to, "To: <sip:bob@example.net>\r\n");
    put_part(t, r->call_id, "Call-ID: c1@192.0.2.1\r\n");
    put_part(t, r->cseq, "CSeq: 7 INVITE\r\n");
    put_part(t, r->more, "");
    TEXT_LIT(t, "Content-Length: 0\r\n\r\n");
}

static const struct {
    const char *name;
    struct request r;
    int status; /* 0: accepted */
    const char *reason;
} cases[] = {
    {"as it is", {0}, 0, ""},
    {"no Via", {.via = ""}, 400, "Missing Via"},
    {"no From", {.from = ""}, 400, "Missing From"},
    {"no To", {.to = ""}, 400, "Missing To"},
    {"no Call-ID", {.call_id = ""}, 400, "Missing Call-ID"},
    {"no CSeq", {.cseq = ""}, 400, "Missing CSeq"},
    {"no Max-Forwards", {.max_forwards = ""}, 0, ""},
    {"compact forms",
     {.via = "v: SIP/2.0/UDP h\r\n",
      .from = "f: sip:a@b;tag=1\r\n",
      .to = "t: sip:c@d\r\n",
      .call_id = "i: 1\r\n"},
     0,
     ""},
    {"From twice", {.more = "f: sip:a@b;tag=1\r\n"}, 400, "Repeated From"},
    /* CVE-2018-14767: two To, one with an empty tag. */
    {"To twice", {.more = "To: <sip:x@y>;tag=\r\n"}, 400, "Repeated To"},
    {"To twice, blank before the colon", {.more = "t : <sip:x@y>\r\n"}, 400, "Repeated To"},
    {"Call-ID twice, the same", {.more = "i: c1@192.0.2.1\r\n"}, 400, "Repeated Call-ID"},
    {"CSeq twice", {.more = "CSEQ: 7 INVITE\r\n"}, 400, "Repeated CSeq"},
    {"Max-Forwards twice", {.more = "Max-Forwards: 5\r\n"}, 400, "Repeated Max-Forwards"},
    {"Content-Type twice", {.more = "c: a/b\r\nc: c/d\r\n"}, 400, "Repeated Content-Type"},
    {"two Contacts", {.more = "m: <sip:a@b>\r\nm: <sip:c@d>, sip:e@f\r\n"}, 0, ""},

    {"Via empty", {.via = "Via:\r\n"}, 400, "Bad Via"},
    {"Via with separators only", {.via = "Via: SIP/2.0/UDP h;;,;,,\r\n"}, 400, "Bad Via"},
    {"Via with a comma at the end", {.via = "Via: SIP/2.0/UDP h,\r\n"}, 400, "Bad Via"},
    {"Via in three values", {.via = "Via: SIP/2.0/UDP h , SIP/2.0/X g,SIP/2.0/UDP f\r\n"}, 0, ""},
    {"a strange Via further down", {.more = "Via: FOO/9 bar\r\n"}, 0, ""},
    {"Via without a branch", {.via = "Via: SIP/2.0/UDP h\r\n"}, 0, ""},

    {"CSeq 0", {.cseq = "CSeq: 0 INVITE\r\n"}, 0, ""},
    {"CSeq with zeros", {.cseq = "CSeq: 0000000000000000000000009 INVITE\r\n"}, 0, ""},
    {"CSeq 2^31 - 1", {.cseq = "CSeq: 2147483647 INVITE\r\n"}, 0, ""},
    {"CSeq 2^31", {.cseq = "CSeq: 2147483648 INVITE\r\n"}, 400, "Bad CSeq number"},
    {"CSeq 2^32", {.cseq = "CSeq: 4294967296 INVITE\r\n"}, 400, "Bad CSeq number"},
    {"CSeq 2^64 + 7", {.cseq = "CSeq: 18446744073709551623 INVITE\r\n"}, 400, "Bad CSeq number"},
    {"CSeq negative", {.cseq = "CSeq: -1 INVITE\r\n"}, 400, "Bad CSeq number"},
    {"CSeq empty", {.cseq = "CSeq:\r\n"}, 400, "Bad CSeq number"},
    {"CSeq without a method", {.cseq = "CSeq: 7\r\n"}, 400, "Bad CSeq method"},
    {"CSeq in one word", {.cseq = "CSeq: 7INVITE\r\n"}, 400, "Bad CSeq method"},
    {"CSeq folded", {.cseq = "CSeq: 7\r\n INVITE\r\n"}, 0, ""},
    {"CSeq with more", {.cseq = "CSeq: 7 INVITE x\r\n"}, 400, "Bad CSeq method"},
    {"CSeq of another", {.cseq = "CSeq: 7 ACK\r\n"}, 400, "CSeq method is not the request's"},
    {"CSeq in lower case", {.cseq = "CSeq: 7 invite\r\n"}, 400, "CSeq method is not the request's"},
    {"an unknown method", {.start = "FOO sip:a SIP/2.0\r\n", .cseq = "CSeq: 7 FOO\r\n"}, 0, ""},
    {"unknown methods that differ",
     {.start = "FOO sip:a SIP/2.0\r\n", .cseq = "CSeq: 7 BAR\r\n"},
     400,
     "CSeq method is not the request's"},

    {"Max-Forwards 0", {.max_forwards = "Max-Forwards: 0\r\n"}, 0, ""},
    {"Max-Forwards 255", {.max_forwards = "Max-Forwards: 0255\r\n"}, 0, ""},
    {"Max-Forwards 256", {.max_forwards = "Max-Forwards: 256\r\n"}, 400, "Bad Max-Forwards"},
    {"Max-Forwards huge",
     {.max_forwards = "Max-Forwards: 4294967366\r\n"},
     400,
     "Bad Max-Forwards"},
    {"Max-Forwards negative", {.max_forwards = "Max-Forwards: -1\r\n"}, 400, "Bad Max-Forwards"},
    {"Max-Forwards empty", {.max_forwards = "Max-Forwards:\r\n"}, 400, "Bad Max-Forwards"},
    {"Max-Forwards in words", {.max_forwards = "Max-Forwards: 7 0\r\n"}, 400, "Bad Max-Forwards"},
    {"Max-Breadth", {.more = "Max-Breadth: 60\r\n"}, 0, ""},
    {"Max-Breadth in words", {.more = "Max-Breadth: many\r\n"}, 400, "Bad Max-Breadth"},

    {"From without a tag", {.from = "From: sip:a@b\r\n"}, 0, ""},
    {"From with two tags", {.from = "From: sip:a@b;tag=1;tag=2\r\n"}, 400, "Bad From"},
    {"From in two values", {.from = "From: <sip:a@b>, <sip:c@d>\r\n"}, 400, "Bad From"},
    /* CVE-2023-27599 */
    {"To malformed", {.to = "To: <sip:a@b;tag=1\r\n"}, 400, "Bad To"},
    {"To empty", {.to = "To:\r\n"}, 400, "Bad To"},
    {"To with an open quote", {.to = "To: \"Mr. J <sip:a@b>\r\n"}, 400, "Bad To"},
    {"To of another scheme", {.to = "To: isbn:2983792873\r\n"}, 0, ""},
    {"To without a scheme", {.to = "To: alan@example.com\r\n"}, 400, "Bad To"},

    {"Call-ID empty", {.call_id = "Call-ID:\r\n"}, 400, "Bad Call-ID"},
    {"Call-ID with a blank", {.call_id = "Call-ID: a b\r\n"}, 400, "Bad Call-ID"},
    {"Call-ID folded", {.call_id = "Call-ID: a\r\n b\r\n"}, 400, "Bad Call-ID"},
    {"Call-ID of odd marks", {.call_id = "Call-ID: %ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\n"}, 0, ""},

    {"unknown scheme", {.start = "INVITE nobody:x SIP/2.0\r\n"}, 416, "Unsupported URI Scheme"},
    {"tel", {.start = "INVITE tel:+123 SIP/2.0\r\n"}, 0, ""},
    {"sips", {.start = "INVITE sips:a@b SIP/2.0\r\n"}, 0, ""},
    {"URI in brackets", {.start = "INVITE <sip:a@b> SIP/2.0\r\n"}, 400, "Bad Request-URI"},
    /* CVE-2023-27597 */
    {"URI malformed", {.start = "INVITE sip:a@b:0 SIP/2.0\r\n"}, 400, "Bad Request-URI"},
    {"URI with a Route",
     {.start = "INVITE sip:a@b?Route=%3Csip:c%3E SIP/2.0\r\n"},
     400,
     "Headers in Request-URI"},
    {"URI with nothing behind the mark",
     {.start = "INVITE sip:a@b? SIP/2.0\r\n"},
     400,
     "Headers in Request-URI"},

    {"Proxy-Require", {.more = "Proxy-Require: x, y\r\n"}, 420, "Bad Extension"},
    {"Proxy-Require empty", {.more = "Proxy-Require:\r\n"}, 0, ""},
    {"Proxy-Require in an ACK",
     {.start = "ACK sip:a SIP/2.0\r\n", .cseq = "CSeq: 7 ACK\r\n", .more = "Proxy-Require: x\r\n"},
     0,
     ""},
    {"Require is the far end's matter", {.more = "Require: nothing\r\n"}, 0, ""},

    {"Contact with separators only", {.more = "m: \"J\" <sip:a@b>;;;;\r\n"}, 400, "Bad Contact"},
    {"Contact without brackets", {.more = "m: sip:a@b?Route=%3Csip:c%3E\r\n"}, 400, "Bad Contact"},
    {"Contact, the second one bad", {.more = "m: sip:a@b, <sip:c\r\n"}, 400, "Bad Contact"},
    {"Contact with a comma at the end", {.more = "m: sip:a@b,\r\n"}, 400, "Bad Contact"},
    {"Contacts with blanks about the comma",
     {.more = "m: sip:a@b , <sip:c@d>\r\n , e:f\r\n"},
     0,
     ""},
    {"Contact empty", {.more = "m:\r\n"}, 400, "Bad Contact"},
    {"Contact * in an INVITE", {.more = "m: *\r\n"}, 400, "Bad Contact"},
    {"Contact * in a REGISTER",
     {.start = "REGISTER sip:b SIP/2.0\r\n", .cseq = "CSeq: 7 REGISTER\r\n", .more = "m: *\r\n"},
     0,
     ""},
    {"Contact of a MESSAGE is not read",
     {.start = "MESSAGE sip:b SIP/2.0\r\n", .cseq = "CSeq: 7 MESSAGE\r\n", .more = "m: ?\r\n"},
     0,
     ""},

    /* Only their final reader could object. */
    {"a bad Date", {.more = "Date: Fri, 01 Jan 2010 16:00:00 EST\r\n"}, 0, ""},
    {"a bad Expires", {.more = "Expires: 99999999999999999999\r\n"}, 0, ""},
    {"a bad Authorization", {.more = "Authorization: Digest \"\r\n"}, 0, ""},
    {"a bad Content-Type", {.more = "Content-Type: ;;;\r\n"}, 0, ""},
    {"a bad Record-Route", {.more = "Record-Route: <<<\r\n"}, 0, ""},
};

static void requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[1024];
        struct text t = text_into(text, sizeof text);
        put_request(&t, &cases[i].r);
        struct indexed x;
        index_text(&x, text_slice(&t), true);
        want_int(cases[i].name, x.rc, SIP_OK);
        struct sip_facts f;
        struct sip_fault fault = {0, SLICE_NONE, 0};
        int rc = sip_check_request(&x.m, &f, &fault);
        want_int(cases[i].name, rc, cases[i].status == 0 ? SIP_OK : SIP_E_SYNTAX);
        want_int(cases[i].name, fault.status, cases[i].status);
        want_text(cases[i].name, fault.reason, cases[i].reason);
        assert_true(fault.offset <= x.m.n);
        index_done(&x);
    }
}

static void facts(void **state)
{
    (void)state;
    struct indexed x;
    index_text(&x, SLICE(SAMPLE), false);
    struct sip_facts f;
    struct sip_fault fault;
    assert_int_equal(sip_check_request(&x.m, &f, &fault), SIP_OK);
    want_text("via", sip_slice(&x.m, f.via_value),
              "SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa1;rport");
    want_text("branch", f.via.branch, "z9hG4bKa1");
    assert_true(f.via.has_rport && f.via.is_rfc3261);
    assert_int_equal(f.via.port, 5062);
    want_text("host", f.uri.host, "example.net");
    want_text("call-id", f.call_id, "c1@192.0.2.1");
    want_text("from", f.from, "\"Alice\" <sip:alice@example.org>;tag=f1");
    want_text("from uri", f.from_uri, "sip:alice@example.org");
    want_text("from tag", f.from_tag, "f1");
    want_text("to uri", f.to_uri, "sip:bob@example.net");
    want_text("to tag", f.to_tag, "");
    want_text("method", f.method_name, "INVITE");
    assert_int_equal(f.method, SIP_M_INVITE);
    assert_int_equal(f.cseq, 7);
    assert_int_equal(f.max_forwards, 70);
    assert_int_equal(f.max_breadth, -1);
    index_done(&x);
}

/* A fault leaves what was read before it, so that the caller knows whether it can answer. */
static void facts_of_a_faulty_one(void **state)
{
    (void)state;
    struct indexed x;
    struct sip_facts f;
    struct sip_fault fault;
    index_text(&x, SLICE("INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=1\r\n\r\n"), true);
    assert_int_equal(sip_check_request(&x.m, &f, &fault), SIP_E_SYNTAX);
    assert_int_equal(f.via_value.len, 0);
    index_done(&x);
    char text[1024];
    struct text t = text_into(text, sizeof text);
    put_request(&t, &(struct request){.to = "To: <\r\n"});
    index_text(&x, text_slice(&t), true);
    assert_int_equal(sip_check_request(&x.m, &f, &fault), SIP_E_SYNTAX);
    want_text("via", f.via.host, "192.0.2.1");
    assert_int_equal(fault.offset, x.m.h[x.m.first[SIP_H_TO]].value.off);
    index_done(&x);
}

static void responses(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct request r;
        const char *reason;
    } drops[] = {
        {"as it is", {0}, ""},
        {"method unknown", {.cseq = "CSeq: 7 FOO\r\n"}, ""},
        {"no Via", {.via = ""}, "Missing Via"},
        {"bad CSeq", {.cseq = "CSeq: 9292394834772304023312 OPTIONS\r\n"}, "Bad CSeq number"},
        {"CSeq without method", {.cseq = "CSeq: 7\r\n"}, "Bad CSeq method"},
        {"two To", {.more = "To: <sip:a@b>;tag=2\r\n"}, "Repeated To"},
        {"bad Call-ID", {.call_id = "Call-ID:\r\n"}, "Bad Call-ID"},
        {"a bad Retry-After", {.more = "Retry-After: 949302838503028349304023988\r\n"}, ""},
        {"a bad Contact", {.more = "Contact: ;;;\r\n"}, ""},
        {"Proxy-Require", {.more = "Proxy-Require: x\r\n"}, ""},
    };
    for (size_t i = 0; i < COUNT(drops); i++) {
        char text[1024];
        struct text t = text_into(text, sizeof text);
        struct request r = drops[i].r;
        r.start = "SIP/2.0 200 OK\r\n";
        put_request(&t, &r);
        struct indexed x;
        index_text(&x, text_slice(&t), true);
        struct sip_facts f;
        struct sip_fault fault = {0, SLICE_NONE, 0};
        int rc = sip_check_response(&x.m, &f, &fault);
        want_text(drops[i].name, fault.reason, drops[i].reason);
        want_int(drops[i].name, rc, drops[i].reason[0] == '\0' ? SIP_OK : SIP_E_SYNTAX);
        if (rc == SIP_OK) {
            want_int(drops[i].name, x.m.method, i == 1 ? SIP_M_OTHER : SIP_M_INVITE);
            want_text(drops[i].name, sip_slice(&x.m, x.m.method_name), i == 1 ? "FOO" : "INVITE");
        }
        index_done(&x);
    }
}

/* Lists longer than any path can be: commas in quotes are not values. */
static void long_lists(void **state)
{
    (void)state;
    for (unsigned values = SIP_VIA_VALUES_MAX; values <= SIP_VIA_VALUES_MAX + 1; values++) {
        static char text[16384];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\nVia: SIP/2.0/UDP h;x=\",,,,,,\"");
        for (unsigned i = 1; i < values; i++)
            TEXT_LIT(&t, ",SIP/2.0/UDP h");
        TEXT_LIT(&t, "\r\nf: sip:a@b\r\nt: sip:a@b\r\ni: 1\r\nCSeq: 1 A\r\n\r\n");
        struct indexed x;
        index_text(&x, text_slice(&t), true);
        struct sip_facts f;
        struct sip_fault fault;
        int rc = sip_check_request(&x.m, &f, &fault);
        want_int("values", rc, values <= SIP_VIA_VALUES_MAX ? SIP_OK : SIP_E_SYNTAX);
        index_done(&x);
    }
}

/* CVE-2018-8828, CVE-2017-9372: long branches, tags and methods meet no buffer. */
static void long_values(void **state)
{
    (void)state;
    static char text[32768];
    struct text t = text_into(text, sizeof text);
    TEXT_LIT(&t, "A sip:b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK");
    for (unsigned i = 0; i < 9000; i++)
        text_put_char(&t, 'b');
    TEXT_LIT(&t, "\r\nt: sip:a@b\r\ni: 1\r\nCSeq: 1 A\r\nf: sip:a@b;tag=");
    for (unsigned i = 0; i < 9000; i++)
        text_put_char(&t, 't');
    TEXT_LIT(&t, "\r\n\r\n");
    struct indexed x;
    index_text(&x, text_slice(&t), true);
    struct sip_facts f;
    struct sip_fault fault;
    assert_int_equal(sip_check_request(&x.m, &f, &fault), SIP_OK);
    assert_int_equal(f.via.branch.n, 9007);
    assert_int_equal(f.from_tag.n, 9000);
    index_done(&x);
    t = text_into(text, sizeof text);
    TEXT_LIT(&t,
             "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP h\r\nf: sip:a@b\r\nt: sip:a@b\r\ni: 1\r\nCSeq: 1 ");
    for (unsigned i = 0; i < 65; i++)
        text_put_char(&t, 'M');
    TEXT_LIT(&t, "\r\n\r\n");
    index_text(&x, text_slice(&t), true);
    assert_int_equal(sip_check_response(&x.m, &f, &fault), SIP_E_SYNTAX);
    index_done(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(facts),
        cmocka_unit_test(facts_of_a_faulty_one),
        cmocka_unit_test(responses),
        cmocka_unit_test(long_lists),
        cmocka_unit_test(long_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
