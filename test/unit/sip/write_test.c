/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sip/sample.h"

static char room[8192];

static struct slice reply(const struct sip_msg *m, struct sip_reply r)
{
    struct text t = text_into(room, sizeof room);
    assert_int_equal(sip_write_reply(&t, m, &r), SIP_OK);
    return text_slice(&t);
}

static void a_reply(void **state)
{
    (void)state;
    struct indexed x;
    struct addr source;
    assert_int_equal(addr_parse(SLICE("198.51.100.7:4000"), &source), 0);
    index_text(&x,
               SLICE(SAMPLE_START "v : SIP/2.0/UDP 192.0.2.1;rport,SIP/2.0/UDP g\r\n"
                                  "Timestamp: 54\r\nVia: SIP/2.0/TCP\r\n f\r\n" SAMPLE_REST
                                  "Record-Route: <sip:x>\r\n" SAMPLE_END),
               false);
    assert_int_equal(x.rc, SIP_OK);
    want_text("404",
              reply(&x.m, (struct sip_reply){.status = 404,
                                             .to_tag = SLICE("T9"),
                                             .extra = SLICE("Retry-After: 5\r\n"),
                                             .received = &source}),
              "SIP/2.0 404 Not Found\r\n"
              "Via: SIP/2.0/UDP 192.0.2.1;rport=4000;received=198.51.100.7,SIP/2.0/UDP g\r\n"
              "Via: SIP/2.0/TCP\r\n f\r\n"
              "From: \"Alice\" <sip:alice@example.org>;tag=f1\r\n"
              "To: <sip:bob@example.net>;tag=T9\r\n"
              "Call-ID: c1@192.0.2.1\r\n"
              "CSeq: 7 INVITE\r\n"
              "Retry-After: 5\r\n"
              "Content-Length: 0\r\n\r\n");
    want_text("100", reply(&x.m, (struct sip_reply){.status = 100, .skip_vias = 1}),
              "SIP/2.0 100 Trying\r\n"
              "Via: SIP/2.0/TCP\r\n f\r\n"
              "From: \"Alice\" <sip:alice@example.org>;tag=f1\r\n"
              "To: <sip:bob@example.net>\r\n"
              "Call-ID: c1@192.0.2.1\r\n"
              "CSeq: 7 INVITE\r\n"
              "Timestamp: 54\r\n"
              "Content-Length: 0\r\n\r\n");
    index_done(&x);
}

static void to_tags(void **state)
{
    (void)state;
    static const struct {
        const char *to, *want;
    } cases[] = {
        {"sip:a@b", "To: sip:a@b;tag=T\r\n"},
        {"<sip:a@b>", "To: <sip:a@b>;tag=T\r\n"},
        {"<sip:a@b>;tag=old", "To: <sip:a@b>;tag=old\r\n"},
        {"<sip:a@b>;x;TAG = old", "To: <sip:a@b>;x;TAG = old\r\n"},
        {"<sip:a@b;tag=inside>", "To: <sip:a@b;tag=inside>;tag=T\r\n"},
        {"\";tag=1\" <sip:a@b>", "To: \";tag=1\" <sip:a@b>;tag=T\r\n"},
        {"\"open <sip:a@b>", "To: \"open <sip:a@b>\r\n"}, /* CVE-2023-27599 */
        {"", "To: \r\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, "A sip:b SIP/2.0\r\nTo:");
        text_put(&t, slice_cstr(cases[i].to));
        TEXT_LIT(&t, "\r\nTo: <sip:second@x>;tag=\r\n\r\n"); /* CVE-2018-14767 */
        struct indexed x;
        index_text(&x, text_slice(&t), true);
        char want[256];
        snprintf(want, sizeof want, "SIP/2.0 400 Bad Request\r\n%sContent-Length: 0\r\n\r\n",
                 cases[i].want);
        want_text(cases[i].to, reply(&x.m, (struct sip_reply){.status = 400, .to_tag = SLICE("T")}),
                  want);
        index_done(&x);
    }
}

/* Whatever could be read of a broken request is answered with, and nothing else. */
static void faulty(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice text;
        const char *want;
    } cases[] = {
        {"nothing", SLICE("\x16\x03"), ""},
        {"a bad Via stays as it is", SLICE("A sip:b SIP/2.0\r\nVia: ;;,;,,\r\nCSeq: x\r\n\r\n"),
         "Via: ;;,;,,\r\nCSeq: x\r\n"},
        {"an empty Via", SLICE("A sip:b SIP/2.0\r\nVia:\r\n\r\n"), "Via: \r\n"},
        {"up to the bad line", SLICE("A sip:b SIP/2.0\r\nVia: q\r\ni: 1\r\nX\nf: 2\r\n\r\n"),
         "Via: q\r\nCall-ID: 1\r\n"},
        {"around the bad line", SLICE("A sip:b SIP/2.0\r\nVia: q\r\nX\r\ni: 1\r\n\r\n"),
         "Via: q\r\nCall-ID: 1\r\n"},
        {"no blank line", SLICE("A sip:b SIP/2.0\r\nVia: q\r\n"), "Via: q\r\n"},
        {"half a line", SLICE("A sip:b SIP/2.0\r\nVia: q\r\nTo: <sip"), "Via: q\r\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct addr source = {.family = 4, .port = 1, .ip = {192, 0, 2, 1}};
        struct indexed x;
        index_text(&x, cases[i].text, true);
        char want[256];
        snprintf(want, sizeof want, "SIP/2.0 400 Why\r\n%sContent-Length: 0\r\n\r\n",
                 cases[i].want);
        want_text(
            cases[i].name,
            reply(&x.m,
                  (struct sip_reply){.status = 400, .reason = SLICE("Why"), .received = &source}),
            want);
        index_done(&x);
    }
}

/* A text that is too small is said to be, and is not overrun. */
static void no_room(void **state)
{
    (void)state;
    struct indexed x;
    struct addr source = {.family = 4, .port = 1, .ip = {192, 0, 2, 1}};
    index_text(&x, SLICE(SAMPLE), false);
    struct sip_reply r = {.status = 503, .to_tag = SLICE("T"), .received = &source};
    struct slice whole = reply(&x.m, r);
    for (size_t cap = 0; cap <= whole.n; cap++) {
        char *p = guard_copy(room, cap);
        struct text t = text_into(p, cap);
        int rc = sip_write_reply(&t, &x.m, &r);
        assert_int_equal(rc, cap < whole.n ? SIP_E_ROOM : SIP_OK);
        assert_int_equal(t.n, whole.n);
        guard_free(p);
    }
    index_done(&x);
}

static void ack_and_cancel(void **state)
{
    (void)state;
    static const struct slice sent = SLICE(
        "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP me;branch=z9hG4bK1, SIP/2.0/UDP peer\r\n"
        "Via: SIP/2.0/UDP far\r\nRoute: <sip:r1;lr>, <sip:r2;lr>\r\nMax-Forwards: 69\r\n"
        "Route: <sip:r3>\r\nf: <sip:a@b>;tag=1\r\nt: <sip:b@h>\r\ni: c\r\nCSeq: 0042\r\n INVITE\r\n"
        "Record-Route: <sip:me>\r\nContent-Type: a/b\r\nl: 1\r\n\r\nx");
    struct indexed x;
    index_text(&x, sent, false);
    assert_int_equal(x.rc, SIP_OK);
    struct text t = text_into(room, sizeof room);
    assert_int_equal(sip_write_ack(&t, &x.m, SLICE_NONE, SLICE("<sip:b@h>;tag=2")), SIP_OK);
    want_text("ACK", text_slice(&t),
              "ACK sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP me;branch=z9hG4bK1\r\n"
              "Route: <sip:r1;lr>, <sip:r2;lr>\r\nRoute: <sip:r3>\r\nMax-Forwards: 69\r\n"
              "From: <sip:a@b>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 0042 ACK\r\n"
              "Content-Length: 0\r\n\r\n");
    t = text_into(room, sizeof room);
    assert_int_equal(sip_write_cancel(&t, &x.m, SLICE("Via: SIP/2.0/TCP me;branch=z9hG4bK2\r\n")),
                     SIP_OK);
    want_text("CANCEL", text_slice(&t),
              "CANCEL sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP me;branch=z9hG4bK2\r\n"
              "Route: <sip:r1;lr>, <sip:r2;lr>\r\nRoute: <sip:r3>\r\nMax-Forwards: 69\r\n"
              "From: <sip:a@b>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 0042 CANCEL\r\n"
              "Content-Length: 0\r\n\r\n");
    struct indexed again;
    index_text(&again, text_slice(&t), false);
    struct sip_facts f;
    struct sip_fault fault;
    assert_int_equal(again.rc, SIP_OK);
    assert_int_equal(sip_check_request(&again.m, &f, &fault), SIP_OK);
    index_done(&again);
    t = text_into(room, 40);
    assert_int_equal(sip_write_cancel(&t, &x.m, SLICE_NONE), SIP_E_ROOM);
    index_done(&x);
}

static void reasons(void **state)
{
    (void)state;
    want_text("486", sip_reason(486), "Busy Here");
    want_text("100", sip_reason(100), "Trying");
    want_text("599", sip_reason(599), "Unknown");
    want_text("-1", sip_reason(-1), "Unknown");
    for (int status = 0; status < 1000; status++) {
        struct slice s = sip_reason(status);
        assert_true(s.n > 0 && strlen(s.p) == s.n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply), cmocka_unit_test(to_tags),        cmocka_unit_test(faulty),
        cmocka_unit_test(no_room), cmocka_unit_test(ack_and_cancel), cmocka_unit_test(reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
