/* SPDX-License-Identifier: Apache-2.0
 *
 * Tickets in ClientHellos: in those that OpenSSL makes, whole, at every cut and with every length
 * changed; and in ones put together here, each odd in one way.
 *
 * covers: client_hello.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "support/support.h"
#include "support/tls_peer.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* Asked with a copy that ends at an unreadable page: where the ticket stands, and how long it is.
 */
static size_t find(const char *p, size_t n, size_t *ret_at)
{
    char *copy = guard_copy(p, n);
    struct slice ticket = client_hello_ticket(copy, n);
    size_t at = ticket.n > 0 ? (size_t)(ticket.p - copy) : 0;
    guard_free(copy);
    assert_true(at + ticket.n <= n);
    *ret_at = at;
    return ticket.n;
}

/* ---- OpenSSL's -------------------------------------------------------------------------------
 */

static SSL_SESSION *sessions[2];

static int begin(void **state)
{
    (void)state;
    struct cert cert = cert_make(&(struct cert_spec){.cn = "edge.example.com"});
    struct tls_server *s =
        server_make(&cert, 1, TLS_USE_SIP, SLICE("0123456789abcdef0123456789abcdef"));
    for (unsigned v = 0; v < 2; v++)
        sessions[v] = peer_session(s, versions[v]);
    tls_server_release(s);
    cert_free(&cert);
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 2; v++)
        SSL_SESSION_free(sessions[v]);
    return 0;
}

static void test_no_session_no_ticket(void **state)
{
    (void)state;
    char hello[PEER_HELLO_BYTES_MAX];
    size_t at;
    for (unsigned v = 0; v < 2; v++)
        assert_int_equal(0, find(hello, peer_hello(versions[v], NULL, hello), &at));
}

static void test_the_ticket_of_a_session(void **state)
{
    (void)state;
    char hello[PEER_HELLO_BYTES_MAX + 8];
    for (unsigned v = 0; v < 2; v++) {
        const unsigned char *ticket;
        size_t ticket_n, at;
        SSL_SESSION_get0_ticket(sessions[v], &ticket, &ticket_n);
        size_t n = peer_hello(versions[v], sessions[v], hello);
        assert_int_equal(ticket_n, find(hello, n, &at));
        assert_memory_equal(ticket, hello + at, ticket_n);
        for (size_t cut = 0; cut < n; cut++) {
            size_t cut_at;
            assert_int_equal(0, find(hello, cut, &cut_at));
        }
        memset(hello + n, 0x17, 8); /* what comes behind the record is nobody's affair yet */
        size_t again;
        assert_int_equal(ticket_n, find(hello, n + 8, &again));
        assert_int_equal(at, again);
    }
}

/* Any byte may be anything: it is the ticket, elsewhere or as it was, or none; never beyond. */
static void test_bytes_that_change(void **state)
{
    (void)state;
    static const unsigned char other[] = {0, 1, 0x7f, 0x80, 0xff};
    char hello[PEER_HELLO_BYTES_MAX];
    for (unsigned v = 0; v < 2; v++) {
        size_t n = peer_hello(versions[v], sessions[v], hello), at;
        for (size_t i = 0; i < n; i++) {
            char was = hello[i];
            for (unsigned k = 0; k < sizeof other; k++) {
                hello[i] = (char)other[k];
                (void)find(hello, n, &at);
            }
            hello[i] = was;
        }
        /* The lengths of the record and of the message. */
        for (size_t i = 3; i < 9; i++)
            for (unsigned bit = 0; bit < 8 && i != 5; bit++) {
                hello[i] ^= (char)(1 << bit);
                assert_int_equal(0, find(hello, n, &at));
                hello[i] ^= (char)(1 << bit);
            }
    }
}

/* ---- ours ------------------------------------------------------------------------------------
 */

/* A hello in parts, each as it is to be sent; the lengths around them are made. */
struct hello {
    const char *name;
    struct slice extensions;
    const char *ticket;
    /* What is not as it should be; 0 = as it should. */
    int type, version, message, hello_version;
    int id_bytes;     /* of the session id */
    int suite_bytes;  /* -1 = none */
    int no_methods;   /* of compression */
    int record_extra; /* bytes behind the message, within the record */
    int hello_extra;  /* bytes behind the extensions, within the message */
    int longer;       /* what is added to the length of the extensions */
    int padding;      /* bytes of another extension in front */
};

static size_t put_hello(const struct hello *h, char *to)
{
    uint8_t *p = (uint8_t *)to, *record, *message, *extensions;
    *p++ = (uint8_t)(h->type != 0 ? h->type : 22);
    p = bytes_put_be(p, (uint64_t)(h->version != 0 ? h->version : 0x0301), 2);
    record = p;
    p += 2;
    *p++ = (uint8_t)(h->message != 0 ? h->message : 1);
    message = p;
    p += 3;
    p = bytes_put_be(p, (uint64_t)(h->hello_version != 0 ? h->hello_version : 0x0303), 2);
    memset(p, 'R', 32);
    p += 32;
    *p++ = (uint8_t)h->id_bytes;
    memset(p, 'I', (size_t)h->id_bytes);
    p += h->id_bytes;
    size_t suites = h->suite_bytes < 0 ? 0 : h->suite_bytes > 0 ? (size_t)h->suite_bytes : 2;
    p = bytes_put_be(p, suites, 2);
    memset(p, 0x13, suites);
    p += suites;
    p = bytes_put_be(p, h->no_methods != 0 ? 0 : 0x100, h->no_methods != 0 ? 1 : 2);
    extensions = p;
    p += 2;
    if (h->padding > 0) {
        p = bytes_put_be(bytes_put_be(p, 21, 2), (uint64_t)h->padding, 2);
        memset(p, 0, (size_t)h->padding);
        p += h->padding;
    }
    memcpy(p, h->extensions.p, h->extensions.n);
    p += h->extensions.n;
    (void)bytes_put_be(extensions, (uint64_t)(p - extensions - 2 + h->longer), 2);
    memset(p, 0, (size_t)h->hello_extra);
    p += h->hello_extra;
    (void)bytes_put_be(message, (uint64_t)(p - message - 3), 3);
    memset(p, 0, (size_t)h->record_extra);
    p += h->record_extra;
    (void)bytes_put_be(record, (uint64_t)(p - record - 2), 2);
    return (size_t)(p - (uint8_t *)to);
}

#define BINDER                                                                                     \
    "\x20"                                                                                         \
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define TICKET "\0\x23\0\4tick"
#define IS(lit)                                                                                    \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }
/* identities: one "tick", two "tick" and "other" */
#define ONE "\0\x0a\0\4tickAGE."
#define TWO "\0\x15\0\4tickAGE.\0\5otherAGE."

static const struct hello hellos[] = {
    {.name = "session_ticket", .extensions = IS(TICKET), .ticket = "tick"},
    {.name = "between others",
     .extensions = IS("\0\x17\0\0" TICKET "\0\x0b\0\2\1\0"),
     .ticket = "tick"},
    {.name = "an empty one", .extensions = IS("\0\x23\0\0")},
    {.name = "no extension", .extensions = IS("")},
    {.name = "another extension", .extensions = IS("\0\x22\0\4tick")},
    {.name = "one of a high number", .extensions = IS("\1\x23\0\4tick")},
    {.name = "twice", .extensions = IS(TICKET TICKET)},
    {.name = "an empty one and another", .extensions = IS("\0\x23\0\0" TICKET)},
    {.name = "pre_shared_key",
     .extensions = IS("\0\x29\0\x2f" ONE "\0\x21" BINDER),
     .ticket = "tick"},
    {.name = "behind an empty session_ticket",
     .extensions = IS("\0\x23\0\0"
                      "\0\x29\0\x2f" ONE "\0\x21" BINDER),
     .ticket = "tick"},
    {.name = "before a session_ticket of its own",
     .extensions = IS("\0\x23\0\4take"
                      "\0\x29\0\x2f" ONE "\0\x21" BINDER),
     .ticket = "tick"},
    {.name = "several identities",
     .extensions = IS("\0\x29\0\x5b" TWO "\0\x42" BINDER BINDER),
     .ticket = "tick"},
    {.name = "not the last", .extensions = IS("\0\x29\0\x2f" ONE "\0\x21" BINDER "\0\x17\0\0")},
    {.name = "too few binders", .extensions = IS("\0\x29\0\x3a" TWO "\0\x21" BINDER)},
    {.name = "too many binders", .extensions = IS("\0\x29\0\x50" ONE "\0\x42" BINDER BINDER)},
    {.name = "no binders", .extensions = IS("\0\x29\0\x0e" ONE "\0\0")},
    {.name = "nothing behind the identities", .extensions = IS("\0\x29\0\x0c" ONE)},
    {.name = "no identities", .extensions = IS("\0\x29\0\4\0\0\0\0")},
    {.name = "nothing in it", .extensions = IS("\0\x29\0\0")},
    {.name = "nothing in it, nor in session_ticket", .extensions = IS(TICKET "\0\x29\0\0")},
    {.name = "an empty identity",
     .extensions = IS("\0\x29\0\x2b"
                      "\0\6\0\0AGE."
                      "\0\x21" BINDER)},
    {.name = "an empty identity behind the first",
     .extensions = IS("\0\x29\0\x56"
                      "\0\x10\0\4tickAGE.\0\0AGE."
                      "\0\x42" BINDER BINDER)},
    {.name = "a short binder",
     .extensions = IS("\0\x29\0\x2e" ONE "\0\x20"
                      "\x1f"
                      "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")},
    {.name = "no whole age",
     .extensions = IS("\0\x29\0\x2e"
                      "\0\x09\0\4tickAGE"
                      "\0\x21" BINDER)},
    {.name = "a byte behind the binders", .extensions = IS("\0\x29\0\x30" ONE "\0\x21" BINDER "x")},
    {.name = "an identity that is longer than all",
     .extensions = IS("\0\x29\0\x2f"
                      "\0\x0a\xff\xfftickAGE."
                      "\0\x21" BINDER)},
    {.name = "identities that are longer than all",
     .extensions = IS("\0\x29\0\x2f"
                      "\xff\xff\0\4tickAGE."
                      "\0\x21" BINDER)},
    {.name = "an extension that is longer than all", .extensions = IS("\0\x23\xff\xfftick")},
    {.name = "an extension that is one too long", .extensions = IS("\0\x23\0\5tick")},
    {.name = "half an extension behind it", .extensions = IS(TICKET "\0\x17\0")},
    {.name = "one byte behind it", .extensions = IS(TICKET "\0")},
    {.name = "extensions too short", .extensions = IS(TICKET), .longer = -1},
    {.name = "extensions too long", .extensions = IS(TICKET), .longer = 1},
    {.name = "more behind the extensions", .extensions = IS(TICKET), .hello_extra = 1},
    {.name = "more behind the message", .extensions = IS(TICKET), .record_extra = 4},
    {.name = "no handshake", .extensions = IS(TICKET), .type = 23},
    {.name = "another protocol", .extensions = IS(TICKET), .version = 0x0201},
    {.name = "no ClientHello", .extensions = IS(TICKET), .message = 2},
    {.name = "SSL", .extensions = IS(TICKET), .hello_version = 0x0300},
    {.name = "TLS 1.1", .extensions = IS(TICKET), .hello_version = 0x0302},
    {.name = "a version that is none", .extensions = IS(TICKET), .hello_version = 0x0304},
    {.name = "a session id", .extensions = IS(TICKET), .id_bytes = 32, .ticket = "tick"},
    {.name = "a session id too long", .extensions = IS(TICKET), .id_bytes = 33},
    {.name = "many suites", .extensions = IS(TICKET), .suite_bytes = 200, .ticket = "tick"},
    {.name = "half a suite", .extensions = IS(TICKET), .suite_bytes = 3},
    {.name = "no suite", .extensions = IS(TICKET), .suite_bytes = -1},
    {.name = "no compression, not even none", .extensions = IS(TICKET), .no_methods = 1},
    {.name = "as long as may be", .extensions = IS(TICKET), .padding = 4032, .ticket = "tick"},
    {.name = "one byte longer", .extensions = IS(TICKET), .padding = 4033},
    {.name = "as long as a record may be", .extensions = IS(TICKET), .padding = 16000},
};

static void test_hellos(void **state)
{
    (void)state;
    static char bytes[20000];
    for (size_t i = 0; i < sizeof hellos / sizeof hellos[0]; i++) {
        const struct hello *h = &hellos[i];
        size_t n = put_hello(h, bytes), at, want = h->ticket != NULL ? strlen(h->ticket) : 0;
        size_t got = find(bytes, n, &at);
        if (got != want || (want > 0 && memcmp(bytes + at, h->ticket, want) != 0))
            fail_msg("%s: %zu bytes of %zu", h->name, got, n);
        if (h->padding > 0)
            assert_int_equal(h->ticket != NULL, n == CLIENT_HELLO_BYTES_MAX);
        for (size_t cut = 0; cut < n && n < 1000; cut++)
            if (find(bytes, cut, &at) != 0)
                fail_msg("%s: cut at %zu of %zu", h->name, cut, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_session_no_ticket),
        cmocka_unit_test(test_the_ticket_of_a_session),
        cmocka_unit_test(test_bytes_that_change),
        cmocka_unit_test(test_hellos),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
