/* SPDX-License-Identifier: Apache-2.0
 *
 * The opening handshake: what is let in, and how everything else is refused, in every cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "support/support.h"
#include "wire/wire.h"

static const struct slice origins[] = {{"https://phone.example.com", 25},
                                       {"http://localhost:8080", 21}};
static const struct ws_policy any = {.origins = NULL};
static const struct ws_policy listed = {.origins = origins, .origin_count = 2};

#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13  "Sec-WebSocket-Version: 13\r\n"
#define SIP  "Sec-WebSocket-Protocol: sip\r\n"
#define UP   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define GET  "GET / HTTP/1.1\r\n"
#define HOST "Host: edge.example.com\r\n"
#define END  "\r\n"

struct row {
    const char *name;
    const char *request;
    const char *answer;             /* how it begins; "" = more is waited for */
    const struct ws_policy *policy; /* NULL = any */
    const char *holds;              /* somewhere in the answer */
    size_t decided;                 /* if set: the answer stands after that many bytes */
};

static const struct row rows[] = {
    {.name = "RFC 6455 1.3: the sample key",
     .request = GET HOST UP KEY V13 SIP END,
     .answer = "HTTP/1.1 101 Switching Protocols\r\n",
     .holds = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"},
    {.name = "RFC 7118 8.1: SIP over WebSocket",
     .request = "GET / HTTP/1.1\r\nHost: sip-ws.example.com\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Origin: http://www.example.com\r\nSec-WebSocket-Protocol: sip\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n",
     .answer = "HTTP/1.1 101 ",
     .holds = "Sec-WebSocket-Protocol: sip\r\n"},
    {.name = "as Firefox sends it",
     .request = "GET /ws?a=b HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nUser-Agent: Mozilla/5.0\r\n"
                "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nSec-WebSocket-Version: 13\r\n"
                "Origin: https://phone.example.com\r\nSec-WebSocket-Protocol: sip\r\n"
                "Sec-WebSocket-Extensions: permessage-deflate\r\n" KEY
                "Connection: keep-alive, Upgrade\r\nCookie: a=\x80\xff\r\n"
                "Pragma: no-cache\r\nUpgrade: websocket\r\n\r\n",
     .answer = "HTTP/1.1 101 ",
     .policy = &listed},
    {.name = "names and tokens in any case, no blanks",
     .request = GET "HOST:x\r\nUPGRADE:WebSocket\r\nconnection:UPGRADE\r\n"
                    "sec-websocket-KEY:dGhlIHNhbXBsZSBub25jZQ==\r\nSEC-websocket-version:13\r\n"
                    "sec-websocket-protocol:sip\r\n\r\n",
     .answer = "HTTP/1.1 101 "},
    {.name = "sip among others, as it was spelt",
     .request = GET HOST UP KEY V13 "Sec-WebSocket-Protocol: msrp, SIP ,xmpp\r\n" END,
     .answer = "HTTP/1.1 101 ",
     .holds = "Sec-WebSocket-Protocol: SIP\r\n"},
    {.name = "sip in the second line",
     .request = GET HOST UP KEY V13 "Sec-WebSocket-Protocol: msrp\r\n" SIP END,
     .answer = "HTTP/1.1 101 "},
    {.name = "Upgrade and Connection in two lines each",
     .request = GET HOST "Upgrade: h2c\r\nConnection: keep-alive\r\n" UP KEY V13 SIP END,
     .answer = "HTTP/1.1 101 "},
    {.name = "an absolute target",
     .request = "GET http://edge/ HTTP/1.1\r\n" HOST UP KEY V13 SIP END,
     .answer = "HTTP/1.1 101 "},
    {.name = "HTTP/1.2",
     .request = "GET / HTTP/1.2\r\n" HOST UP KEY V13 SIP END,
     .answer = "HTTP/1.1 101 "},
    {.name = "Content-Length: 0",
     .request = GET HOST UP KEY V13 SIP "Content-Length: 0\r\n" END,
     .answer = "HTTP/1.1 101 "},
    {.name = "a key with plus, slash and spare bits",
     .request = GET HOST UP V13 SIP "Sec-WebSocket-Key: +/AZaz09+/AZaz09+/AZa9==\r\n" END,
     .answer = "HTTP/1.1 101 "},

    {.name = "no Origin, no list",
     .request = GET HOST UP KEY V13 SIP END,
     .answer = "HTTP/1.1 101 "},
    {.name = "no Origin, but a list",
     .request = GET HOST UP KEY V13 SIP END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "an Origin of the list",
     .request = GET HOST UP KEY V13 SIP "Origin: http://LocalHost:8080\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 101 "},
    {.name = "another Origin",
     .request = GET HOST UP KEY V13 SIP "Origin: https://evil.example.com\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "an Origin that only begins well",
     .request = GET HOST UP KEY V13 SIP "Origin: https://phone.example.com.evil\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "another scheme",
     .request = GET HOST UP KEY V13 SIP "Origin: http://phone.example.com\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "another port",
     .request = GET HOST UP KEY V13 SIP "Origin: http://localhost\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "Origin: null",
     .request = GET HOST UP KEY V13 SIP "Origin: null\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "an empty Origin",
     .request = GET HOST UP KEY V13 SIP "Origin:\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},
    {.name = "two Origins",
     .request = GET HOST UP KEY V13 SIP "Origin: http://localhost:8080\r\n"
                                        "Origin: http://localhost:8080\r\n" END,
     .policy = &listed,
     .answer = "HTTP/1.1 403 "},

    {.name = "no Host", .request = GET UP KEY V13 SIP END, .answer = "HTTP/1.1 400 "},
    {.name = "two Hosts", .request = GET HOST HOST UP KEY V13 SIP END, .answer = "HTTP/1.1 400 "},
    {.name = "an empty Host",
     .request = GET "Host: \r\n" UP KEY V13 SIP END,
     .answer = "HTTP/1.1 400 "},
    {.name = "a body",
     .request = GET HOST UP KEY V13 SIP "Content-Length: 3\r\n" END "abc",
     .answer = "HTTP/1.1 400 "},
    {.name = "a body in chunks",
     .request = GET HOST UP KEY V13 SIP "Transfer-Encoding: chunked\r\n" END,
     .answer = "HTTP/1.1 400 "},
    {.name = "no subprotocol",
     .request = GET HOST UP KEY V13 END,
     .answer = "HTTP/1.1 400 ",
     .holds = "sip"},
    {.name = "another subprotocol",
     .request = GET HOST UP KEY V13 "Sec-WebSocket-Protocol: sips, xsip\r\n" END,
     .answer = "HTTP/1.1 400 "},
    {.name = "no key", .request = GET HOST UP V13 SIP END, .answer = "HTTP/1.1 400 "},
    {.name = "two keys", .request = GET HOST UP KEY KEY V13 SIP END, .answer = "HTTP/1.1 400 "},
    {.name = "a key of 15 bytes",
     .request = GET HOST UP V13 SIP "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n" END,
     .answer = "HTTP/1.1 400 "},
    {.name = "a key of 17 bytes",
     .request = GET HOST UP V13 SIP "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=\r\n" END,
     .answer = "HTTP/1.1 400 "},
    {.name = "a key of another alphabet",
     .request = GET HOST UP V13 SIP "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-_==\r\n" END,
     .answer = "HTTP/1.1 400 "},
    {.name = "no Upgrade",
     .request = GET HOST "Connection: Upgrade\r\n" KEY V13 SIP END,
     .answer = "HTTP/1.1 426 ",
     .holds = "Sec-WebSocket-Version: 13\r\n"},
    {.name = "no Connection",
     .request = GET HOST "Upgrade: websocket\r\n" KEY V13 SIP END,
     .answer = "HTTP/1.1 426 "},
    {.name = "a browser that looks",
     .request = GET HOST "Accept: text/html\r\n" END,
     .answer = "HTTP/1.1 426 ",
     .holds = "This is a WebSocket server for SIP.\n"},
    {.name = "no version", .request = GET HOST UP KEY SIP END, .answer = "HTTP/1.1 426 "},
    {.name = "version 8",
     .request = GET HOST UP KEY SIP "Sec-WebSocket-Version: 8\r\n" END,
     .answer = "HTTP/1.1 426 ",
     .holds = "Sec-WebSocket-Version: 13\r\n"},
    {.name = "version 130",
     .request = GET HOST UP KEY SIP "Sec-WebSocket-Version: 130\r\n" END,
     .answer = "HTTP/1.1 426 "},
    {.name = "two versions", .request = GET HOST UP KEY SIP V13 V13 END, .answer = "HTTP/1.1 426 "},

    {.name = "HTTP/1.0", .request = "GET / HTTP/1.0\r\n", .answer = "HTTP/1.1 505 ", .decided = 16},
    {.name = "HTTP/2.0", .request = "GET / HTTP/2.0\r\n", .answer = "HTTP/1.1 505 ", .decided = 16},
    {.name = "HTTP/0.9", .request = "GET /\r\n", .answer = "HTTP/1.1 400 ", .decided = 7},
    {.name = "HTTP/11", .request = "GET / HTTP/11\r\n", .answer = "HTTP/1.1 400 ", .decided = 15},
    {.name = "HTTP/1.1 and more", .request = "GET / HTTP/1.1 x\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "two blanks", .request = "GET  / HTTP/1.1\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "no target", .request = "GET  HTTP/1.1\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "a SIP target", .request = "GET sip:bob HTTP/1.1\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "a SIP version", .request = "GET /x SIP/2.0\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "POST",
     .request = "POST / HTTP/1.1\r\n",
     .answer = "HTTP/1.1 405 ",
     .holds = "Allow: GET\r\n",
     .decided = 5},
    {.name = "HEAD", .request = "HEAD / HTTP/1.1\r\n", .answer = "HTTP/1.1 405 ", .decided = 5},
    {.name = "HTTP OPTIONS", .request = "OPTIONS / HTTP/1.1\r\n", .answer = "HTTP/1.1 405 "},
    {.name = "CONNECT", .request = "CONNECT a:1 HTTP/1.1\r\n", .answer = "HTTP/1.1 405 "},
    {.name = "get in small letters",
     .request = "get / HTTP/1.1\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 1},
    {.name = "SIP REGISTER",
     .request = "REGISTER sip:example.com SIP/2.0\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 1},
    {.name = "SIP OPTIONS",
     .request = "OPTIONS sip:example.com SIP/2.0\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 9},
    {.name = "a SIP response",
     .request = "SIP/2.0 200 OK\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 1},
    {.name = "SIP PUBLISH",
     .request = "PUBLISH sip:x SIP/2.0\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 3},
    {.name = "a TLS ClientHello",
     .request = "\x16\x03\x01\x02\x01\x01",
     .answer = "HTTP/1.1 400 ",
     .decided = 1},
    {.name = "an empty line first",
     .request = "\r\nGET / HTTP/1.1\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 1},
    {.name = "HTTP/2's preface",
     .request = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 2},

    {.name = "a bare LF",
     .request = "GET / HTTP/1.1\nHost: x\n\n",
     .answer = "HTTP/1.1 400 ",
     .decided = 15},
    {.name = "a bare LF later", .request = GET HOST "A: b\n", .answer = "HTTP/1.1 400 "},
    {.name = "a bare CR", .request = GET "Host: a\rb\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "a control byte", .request = GET "Host: a\x01\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "DEL", .request = GET "Host: a\x7f\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "a folded line", .request = GET HOST " folded: x\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "a blank before the colon", .request = GET "Host : x\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "no colon", .request = GET "Host\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "no name", .request = GET ": x\r\n", .answer = "HTTP/1.1 400 "},
    {.name = "the first fault counts",
     .request = GET "Host : x\r\n" UP END "\x01",
     .answer = "HTTP/1.1 400 ",
     .decided = 26},

    {.name = "nothing yet", .request = "", .answer = ""},
    {.name = "GE", .request = "GE", .answer = ""},
    {.name = "P may become POST", .request = "P", .answer = ""},
    {.name = "OPTIONS alone may be either", .request = "OPTIONS ", .answer = ""},
    {.name = "half a line", .request = "GET / HTTP/1.1\r", .answer = ""},
    {.name = "no end of the head", .request = GET HOST UP KEY V13 SIP "\r", .answer = ""},
};

static const struct ws_policy *policy_of(const struct row *row)
{
    return row->policy != NULL ? row->policy : &any;
}

/* The result for the first `n` bytes, at the end of a page. */
static int ask(const struct row *row, size_t n, char *answer, size_t *ret_answer, size_t *ret_used)
{
    char *copy = guard_copy(row->request, n);
    struct text t = text_into(answer, WS_ANSWER_BYTES_MAX);
    *ret_used = SIZE_MAX;
    int result = ws_upgrade(copy, n, policy_of(row), &t, ret_used);
    guard_free(copy);
    assert_true(text_fits(&t));
    *ret_answer = t.n;
    return result;
}

static int wanted(const struct row *row)
{
    if (row->answer[0] == '\0')
        return WS_UPGRADE_MORE;
    return strstr(row->answer, " 101 ") != NULL ? WS_UPGRADE_OPEN : WS_UPGRADE_REFUSED;
}

static void check_form(const struct row *row, struct slice answer)
{
    static const struct slice blank = {"\r\n\r\n", 4};
    const char *end = memmem(answer.p, answer.n, blank.p, blank.n);
    assert_non_null(end);
    size_t body = answer.n - (size_t)(end + 4 - answer.p);
    char length[48];
    snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", body);
    bool has_length = memmem(answer.p, answer.n, length, strlen(length)) != NULL;
    bool closes = memmem(answer.p, answer.n, "\r\nConnection: close\r\n", 21) != NULL;
    if (wanted(row) == WS_UPGRADE_OPEN)
        assert_true(body == 0 && !closes);
    else
        assert_true(body > 0 && has_length && closes);
    assert_null(memmem(answer.p, answer.n, "Extensions", 10));
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        char whole[WS_ANSWER_BYTES_MAX], part[WS_ANSWER_BYTES_MAX];
        size_t n = strlen(row->request), answered, used, decided = 0;
        int result = ask(row, n, whole, &answered, &used);
        if (result != wanted(row) || answered < strlen(row->answer) ||
            memcmp(whole, row->answer, strlen(row->answer)) != 0)
            fail_msg("%s: result %d, answer '%.*s'", row->name, result, (int)answered, whole);
        if (row->holds != NULL && memmem(whole, answered, row->holds, strlen(row->holds)) == NULL)
            fail_msg("%s: no '%s' in '%.*s'", row->name, row->holds, (int)answered, whole);
        if (result == WS_UPGRADE_MORE) {
            assert_int_equal(answered, 0);
            continue;
        }
        check_form(row, slice_of(whole, answered));
        assert_int_equal(used, result == WS_UPGRADE_OPEN ? n : SIZE_MAX);
        /* Fewer bytes: first more is wanted, then the same is said from some place on. */
        for (size_t cut = 0; cut <= n; cut++) {
            size_t part_answered;
            int part_result = ask(row, cut, part, &part_answered, &used);
            if (part_result == WS_UPGRADE_MORE && decided == 0)
                continue;
            if (decided == 0)
                decided = cut;
            if (part_result != result || part_answered != answered ||
                memcmp(part, whole, answered) != 0)
                fail_msg("%s: cut at %zu: result %d, '%.*s'", row->name, cut, part_result,
                         (int)part_answered, part);
        }
        if (row->decided > 0 && decided != row->decided)
            fail_msg("%s: decided after %zu bytes, not %zu", row->name, decided, row->decided);
        if (result == WS_UPGRADE_OPEN)
            assert_int_equal(decided, n);
    }
}

/* Frames may come in the same read as the request. */
static void test_frames_behind(void **state)
{
    (void)state;
    static const char request[] = GET HOST UP KEY V13 SIP END "\x81\x80\0\0\0\0\n\r\n\r\n";
    char answer[WS_ANSWER_BYTES_MAX];
    struct text t = text_into(answer, sizeof answer);
    size_t used = 0;
    assert_int_equal(ws_upgrade(request, sizeof request - 1, &any, &t, &used), WS_UPGRADE_OPEN);
    assert_int_equal(used, sizeof request - 1 - 11);
}

static int ask_long(struct text *head, struct text *answer)
{
    size_t used = 0;
    answer->n = 0;
    return ws_upgrade(head->p, head->n, &any, answer, &used);
}

static void test_limits(void **state)
{
    (void)state;
    static char p[2 * WS_UPGRADE_BYTES_MAX], said[WS_ANSWER_BYTES_MAX];
    struct text answer = text_into(said, sizeof said);
    /* The request line is a line too. */
    for (unsigned more = 0; more < 2; more++) {
        struct text head = text_into(p, sizeof p);
        TEXT_LIT(&head, GET HOST UP KEY V13 SIP);
        for (unsigned i = 7; i < WS_UPGRADE_LINES_MAX + more; i++)
            TEXT_LIT(&head, "a: b\r\n");
        TEXT_LIT(&head, END);
        assert_int_equal(ask_long(&head, &answer), more ? WS_UPGRADE_REFUSED : WS_UPGRADE_OPEN);
        assert_memory_equal(said, more ? "HTTP/1.1 431 " : "HTTP/1.1 101 ", 13);
    }
    for (unsigned more = 0; more < 2; more++) {
        struct text head = text_into(p, sizeof p);
        TEXT_LIT(&head, GET HOST UP KEY V13 SIP "Cookie: ");
        while (head.n < WS_UPGRADE_BYTES_MAX - 4 + more)
            text_put_char(&head, 'c');
        TEXT_LIT(&head, END END);
        assert_int_equal(ask_long(&head, &answer), more ? WS_UPGRADE_REFUSED : WS_UPGRADE_OPEN);
        assert_memory_equal(said, more ? "HTTP/1.1 431 " : "HTTP/1.1 101 ", 13);
        /* Whether the end has come or not. */
        head.n = WS_UPGRADE_BYTES_MAX;
        assert_int_equal(ask_long(&head, &answer), more ? WS_UPGRADE_REFUSED : WS_UPGRADE_OPEN);
        head.n = WS_UPGRADE_BYTES_MAX - 1;
        assert_int_equal(ask_long(&head, &answer), WS_UPGRADE_MORE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_frames_behind),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
