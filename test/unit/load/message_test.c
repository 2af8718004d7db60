/* SPDX-License-Identifier: Apache-2.0
 *
 * Route sets, Contacts, ACKs and answers to challenges: RFC 7616 3.9.1 with its own numbers.
 * covers: load/message.c, load/digest.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "load/load_int.h"

#define VIA  "Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKx7\r\n"
#define BODY "From: <sip:a@example.com>;tag=f\r\nTo: <sip:b@example.com>;tag=t\r\nCall-ID: c1\r\n"

static struct sip_msg m;
static struct sip_facts f;
static char bytes[4096];
static struct text t;

static void answer(const char *first, const char *headers)
{
    static char text[4096];
    struct sip_fault fault;
    int n = snprintf(text, sizeof text, "SIP/2.0 %s\r\n" VIA BODY "CSeq: 7 INVITE\r\n%s\r\n", first,
                     headers);
    assert_int_equal(sip_index(&m, text, (size_t)n, true, &fault), 0);
    assert_int_equal(sip_check_response(&m, &f, &fault), 0);
    t = text_into(bytes, sizeof bytes - 1);
}

static const char *written(void)
{
    assert_true(text_fits(&t));
    bytes[t.n] = '\0';
    return bytes;
}

static void test_routes_are_turned_around(void **state)
{
    (void)state;
    answer("200 OK", "Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\nRecord-Route: <sip:p0;lr>\r\n"
                     "Contact: \"b, c\" <sip:b@127.0.0.1:5080>;q=1\r\n");
    load__routes(&m, &t);
    assert_string_equal(written(), "Route: <sip:p0;lr>\r\nRoute: <sip:p1;lr>\r\n"
                                   "Route: <sip:p2;lr>\r\n");
    assert_true(slice_equal(load__contact(&m), SLICE("sip:b@127.0.0.1:5080")));
    answer("200 OK", "");
    assert_int_equal(load__contact(&m).n, 0);
    load__routes(&m, &t);
    assert_int_equal(t.n, 0);
}

static void test_ack_of_a_refusal(void **state)
{
    struct conn c = {.transport = TP_TCP};
    (void)state;
    assert_int_equal(addr_parse(SLICE("127.0.0.1:5070"), &c.local), 0);
    answer("486 Busy Here", "");
    load__write_ack(&t, &m, &f, SLICE("sip:b@example.com"), &c);
    assert_string_equal(written(), "ACK sip:b@example.com SIP/2.0\r\n"
                                   "Via: SIP/2.0/TCP 127.0.0.1:5070;rport;branch=z9hG4bKx7\r\n"
                                   "Max-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=f\r\n"
                                   "To: <sip:b@example.com>;tag=t\r\nCall-ID: c1\r\nCSeq: 7 ACK\r\n"
                                   "Content-Length: 0\r\n\r\n");
}

static void test_sdp(void **state)
{
    struct conn c = {.transport = TP_UDP};
    (void)state;
    assert_int_equal(addr_parse(SLICE("[fd00::1]:5070"), &c.local), 0);
    t = text_into(bytes, sizeof bytes - 1);
    load__put_sdp(&t, &c);
    const char *body = strstr(written(), "\r\n\r\n");
    assert_non_null(body);
    assert_non_null(strstr(body, "c=IN IP6 fd00::1\r\n"));
    char length[40];
    (void)snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body + 4));
    assert_non_null(strstr(bytes, length));
}

static void test_retry_after(void **state)
{
    static const struct {
        const char *line;
        uint32_t s;
    } cases[] = {{"Retry-After: 120\r\n", 120},
                 {"Retry-After: 18 (in a meeting);duration=3600\r\n", 18},
                 {"Retry-After: soon\r\n", 0},
                 {"Retry-After: 99999999999999999999\r\n", 0},
                 {"", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        answer("503 Service Unavailable", cases[i].line);
        assert_int_equal(load__retry_after(&m), cases[i].s);
    }
}

static int authorize(const char *method, const char *uri, const char *user, const char *password,
                     uint64_t cnonce)
{
    return load__authorize(&t, &m, slice_cstr(method), slice_cstr(uri), slice_cstr(user),
                           slice_cstr(password), cnonce);
}

/* RFC 2617 3.5 without qop: HA1 939e7578ed9e3c518a452acee763bce9, HA2 of GET /dir/index.html
 * 39aff3a2bab6126f332b942af96d3366. */
static void test_digest_without_qop(void **state)
{
    (void)state;
    answer("401 Unauthorized", "WWW-Authenticate: Digest realm=\"testrealm@host.com\", "
                               "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc\"\r\n");
    assert_int_equal(authorize("GET", "/dir/index.html", "Mufasa", "Circle Of Life", 1), 0);
    assert_string_equal(written(),
                        "Authorization: Digest username=\"Mufasa\", realm=\"testrealm@host.com\", "
                        "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", "
                        "response=\"670fd8c2df070c60b045671b8b24ff02\", opaque=\"5ccc\"\r\n");
}

/* With qop, both hashes; computed apart. */
static void test_digest_with_qop(void **state)
{
    (void)state;
    answer("407 Proxy Authentication Required",
           "Proxy-Authenticate: Basic realm=\"x\"\r\n"
           "Proxy-Authenticate: Digest realm=\"example.com\", nonce=\"n1,x\", "
           "qop=\"auth-int,auth\", algorithm=SHA-512-256\r\n"
           "Proxy-Authenticate: Digest realm=\"example.com\",nonce=\"n2\",qop=\"auth\","
           "algorithm=SHA-256\r\n"
           "Proxy-Authenticate: Digest realm=\"example.com\",nonce=\"n3\",qop=\"auth\"\r\n");
    assert_int_equal(authorize("REGISTER", "sip:example.com", "phone7", "secret", 42), 0);
    assert_non_null(strstr(written(), "Proxy-Authorization: Digest username=\"phone7\", "
                                      "realm=\"example.com\", nonce=\"n2\""));
    assert_non_null(strstr(bytes, "algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"42\""));
    assert_non_null(strstr(
        bytes, "response=\"6b0a51bbd822163f423b60ac83a85f63ca384de9079798d3fd0faf4863f92f6f\""));
}

static void test_challenges_of_others(void **state)
{
    static const char *const headers[] = {
        "",
        "WWW-Authenticate: Basic realm=\"x\"\r\n",
        "WWW-Authenticate: Digest realm=\"x\"\r\n",
        "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\", qop=\"auth-int\"\r\n",
        "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\", algorithm=TOKEN\r\n",
        "WWW-Authenticate: Digest\r\n",
        "WWW-Authenticate: Digest nonce=\"n\r\n",
        "Proxy-Authenticate: Digest nonce=\"n\"\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        answer("401 Unauthorized", headers[i]);
        int r = authorize("REGISTER", "sip:example.com", "u", "p", 1);
        if (i != 6) /* an open quote: its value is taken as it stands */
            assert_int_equal(r, -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes_are_turned_around),
        cmocka_unit_test(test_ack_of_a_refusal),
        cmocka_unit_test(test_sdp),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_digest_without_qop),
        cmocka_unit_test(test_digest_with_qop),
        cmocka_unit_test(test_challenges_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
