/* SPDX-License-Identifier: Apache-2.0
 *
 * The light handshake against our own server, whole and in every cut, with bytes that were changed,
 * and against OpenSSL's server where it wants something else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "load/load_int.h"
#include "support/support.h"
#include "support/tls_peer.h"

enum { BYTES_MAX = 32768 };

static struct cert ec, rsa;
static struct tls_codec codec;
static struct hello_env *env;
static struct prng prng;
static struct ticket ticket, *offered; /* what comes is kept; offered when not NULL */

static int setup(void **state)
{
    (void)state;
    ec = cert_make(&(struct cert_spec){.cn = "edge", .san = "DNS:edge.example.com"});
    rsa = cert_make(&(struct cert_spec){.cn = "edge", .is_rsa = true});
    prng = test_seed();
    env = load__hello_env_new(SLICE("edge.example.com"));
    return env != NULL ? tls_codec_init(&codec) : -1;
}

static int teardown(void **state)
{
    (void)state;
    cert_free(&ec);
    cert_free(&rsa);
    load__hello_env_free(env);
    tls_codec_done(&codec);
    return 0;
}

/* What the server says to our first bytes, and the handshake that made it. */
static size_t first_flight(struct tls_server *s, struct hello **ret_hello,
                           struct tls_handshake **ret_server, char *out)
{
    struct slice first, said;
    size_t used = 0;
    *ret_hello = load__hello_new(env, &prng, offered, 0, &first);
    *ret_server = tls_handshake_new(s);
    assert_non_null(*ret_hello);
    assert_non_null(*ret_server);
    /* The server looks at a record's head first. */
    assert_int_equal(tls_handshake_step(*ret_server, first.p, first.n, &used, &said),
                     TLS_STEP_MORE);
    assert_int_equal(used, first.n);
    assert_true(said.n > 0 && said.n <= BYTES_MAX);
    memcpy(out, said.p, said.n);
    return said.n;
}

/* Feeds `n` bytes in pieces of `cut`, as a connection does: what was left stands before the next.
 */
static int feed(struct hello *h, const char *in, size_t n, size_t cut, uint8_t *out,
                size_t *ret_out)
{
    static char held[BYTES_MAX];
    size_t held_n = 0, used = 0;
    int r = HELLO_MORE;
    for (size_t at = 0; at < n && r == HELLO_MORE; at += cut) {
        size_t take = n - at < cut ? n - at : cut;
        memcpy(held + held_n, in + at, take);
        held_n += take;
        char *copy = guard_copy(held, held_n);
        r = load__hello_step(h, copy, held_n, &used, out, ret_out);
        assert_true(used <= held_n);
        guard_free(copy);
        memmove(held, held + used, held_n - used);
        held_n -= used;
    }
    return r;
}

/* The server's flow after our Finished, and a message each way. */
static void talk(struct tls_handshake *server, const struct hello *h, const uint8_t *finished,
                 size_t n)
{
    struct tls_flow ours, theirs;
    struct slice said, plain;
    size_t used = 0, at = 0;
    char bytes[BYTES_MAX];
    assert_int_equal(tls_handshake_step(server, (const char *)finished, n, &used, &said),
                     TLS_STEP_DONE);
    assert_int_equal(used, n);
    load__hello_flow(h, &ours);
    tls_handshake_flow(server, &theirs);
    load__hello_ticket(h, &ticket);
    memcpy(bytes, said.p, said.n);
    while (at < said.n) {
        assert_int_equal(tls_open(&codec, &ours, bytes + at, said.n - at, &used, &plain),
                         TLS_QUIET);
        load__ticket_take(&ticket, plain, 0);
        at += used;
    }
    for (int i = 0; i < 3; i++) {
        struct tls_flow *from = i % 2 == 0 ? &ours : &theirs, *to = i % 2 == 0 ? &theirs : &ours;
        char text[] = "OPTIONS sip:a SIP/2.0";
        struct iovec iov = {text, sizeof text};
        int64_t sealed = tls_seal(&codec, from, &iov, 1, bytes, sizeof bytes);
        assert_true(sealed > 0);
        assert_int_equal(tls_open(&codec, to, bytes, (size_t)sealed, &used, &plain), TLS_DATA);
        assert_true(slice_equal(plain, slice_of(text, sizeof text)));
    }
}

/* Returns whether a session was resumed, as both ends must say. */
static bool shake(const struct cert *cert, struct slice tickets, size_t cut)
{
    static char said[BYTES_MAX];
    uint8_t out[HELLO_OUT_BYTES_MAX];
    size_t out_n = 0;
    struct hello *h;
    struct tls_handshake *server;
    struct tls_server *s = server_make(cert, 1, TLS_USE_SIP, tickets);
    size_t n = first_flight(s, &h, &server, said);
    assert_int_equal(feed(h, said, n, cut, out, &out_n), HELLO_DONE);
    assert_int_equal(out_n, HELLO_OUT_BYTES_MAX);
    talk(server, h, out, out_n);
    bool is_resumed = load__hello_is_resumed(h);
    assert_int_equal(tls_handshake_info(server).is_resumed, is_resumed);
    load__hello_free(h);
    tls_handshake_free(server);
    tls_server_release(s);
    return is_resumed;
}

static void test_it_is_understood(void **state)
{
    static const char secret[TLS_TICKET_SECRET_BYTES] = "0123456789abcdef0123456789abcde";
    (void)state;
    assert_false(shake(&ec, SLICE_NONE, BYTES_MAX));
    assert_int_equal(ticket.n, 0);
    assert_false(shake(&ec, slice_of(secret, sizeof secret), BYTES_MAX));
    assert_true(ticket.n > 0);
    assert_false(shake(&rsa, SLICE_NONE, BYTES_MAX));
}

/* Again and again, each time with the ticket of the last time; in cuts; and one that the server has
 * no key for is no harm. */
static void test_sessions_are_resumed(void **state)
{
    static const char secret[TLS_TICKET_SECRET_BYTES] = "0123456789abcdef0123456789abcde";
    static const char other[TLS_TICKET_SECRET_BYTES] = "abcdef0123456789abcdef012345678";
    struct slice ours = slice_of(secret, sizeof secret);
    struct ticket last;
    (void)state;
    assert_false(shake(&ec, ours, BYTES_MAX));
    offered = &last;
    for (size_t cut = 1; cut < 2000; cut = cut * 3 + 1) {
        last = ticket;
        assert_true(last.n > 0);
        assert_true(shake(&ec, ours, cut));
    }
    last = ticket;
    assert_false(shake(&ec, slice_of(other, sizeof other), BYTES_MAX));
    last.n = 0;
    assert_false(shake(&ec, ours, BYTES_MAX));
    offered = NULL;
}

static void test_tickets_that_are_none(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        bool is_taken;
    } cases[] = {
        {"\4\0\0\x10"
         "\0\0\1\0"
         "\0\0\0\7"
         "\1n"
         "\0\3tkt"
         "\0\0",
         21, true},
        {"\4\0\0\x10"
         "\0\0\1\0"
         "\0\0\0\7"
         "\1n"
         "\0\7tkt"
         "\0\0",
         21, false},
        {"\4\0\0\x10"
         "\0\0\1\0"
         "\0\0\0\7"
         "\1n"
         "\0\0tkt"
         "\0\0",
         21, false},
        {"\4\0\0\x10"
         "\0\0\1\0"
         "\0\0\0\7"
         "\x30n"
         "\0\3tkt"
         "\0\0",
         21, false},
        {"\x18\0\0\x10"
         "\0\0\1\0"
         "\0\0\0\7"
         "\1n"
         "\0\3tkt"
         "\0\0",
         21, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t n = 0; n <= cases[i].n; n++) {
            struct ticket t = {.n = 0};
            char *copy = guard_copy(cases[i].bytes, n);
            load__ticket_take(&t, slice_of(copy, n), 5);
            guard_free(copy);
            if ((t.n > 0) != (cases[i].is_taken && n >= 19))
                fail_msg("case %zu at %zu", i, n);
        }
}

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 300; cut += cut < 16 ? 1 : 37)
        shake(&ec, SLICE_NONE, cut);
}

/* Whatever is changed in what the server says: it never ends as if all were well. */
static void test_changed_bytes(void **state)
{
    static char said[BYTES_MAX];
    (void)state;
    struct tls_server *s = server_make(&ec, 1, TLS_USE_SIP, SLICE_NONE);
    unsigned done = 0, checked = 0;
    for (size_t at = 0;; at += 1 + prng_below(&prng, 7)) {
        uint8_t out[HELLO_OUT_BYTES_MAX];
        size_t out_n = 0;
        struct hello *h;
        struct tls_handshake *server;
        size_t n = first_flight(s, &h, &server, said);
        if (at < n) {
            said[at] = (char)((uint8_t)said[at] ^ (1U << prng_below(&prng, 8)));
            /* Record versions are not looked at (RFC 8446 5.1), and the ServerHello's is hashed. */
            int r = feed(h, said, n, BYTES_MAX, out, &out_n);
            done += r == HELLO_DONE;
            checked++;
        }
        load__hello_free(h);
        tls_handshake_free(server);
        if (at >= n)
            break;
    }
    tls_server_release(s);
    assert_true(checked > 100);
    assert_true(done <= 4); /* the version bytes of records in the clear */
}

static void test_half_is_never_done(void **state)
{
    static char said[BYTES_MAX];
    (void)state;
    struct tls_server *s = server_make(&ec, 1, TLS_USE_SIP, SLICE_NONE);
    for (size_t short_of = 1; short_of < 400; short_of += 13) {
        uint8_t out[HELLO_OUT_BYTES_MAX];
        size_t out_n = 0;
        struct hello *h;
        struct tls_handshake *server;
        size_t n = first_flight(s, &h, &server, said);
        assert_int_equal(feed(h, said, n - short_of, BYTES_MAX, out, &out_n), HELLO_MORE);
        assert_int_equal(out_n, 0);
        load__hello_free(h);
        tls_handshake_free(server);
    }
    tls_server_release(s);
}

/* OpenSSL's server: TLS 1.2 only, another suite, another group, one that wants a certificate. */
static SSL_CTX *other_server(int kind)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, ec.x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, ec.key), 1);
    if (kind == 0)
        SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    else if (kind == 1)
        assert_int_equal(SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384"), 1);
    else if (kind == 2)
        assert_int_equal(SSL_CTX_set1_groups_list(ctx, "P-256"), 1);
    else if (kind == 3)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

static void test_servers_that_want_something_else(void **state)
{
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        static char said[BYTES_MAX];
        uint8_t out[HELLO_OUT_BYTES_MAX];
        size_t out_n = 0;
        struct slice first;
        SSL_CTX *ctx = other_server(kind);
        SSL *ssl = SSL_new(ctx);
        BIO *in = BIO_new(BIO_s_mem()), *from = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl, in, from);
        SSL_set_accept_state(ssl);
        struct hello *h = load__hello_new(env, &prng, offered, 0, &first);
        assert_int_equal(BIO_write(in, first.p, (int)first.n), (int)first.n);
        (void)SSL_do_handshake(ssl);
        int n = BIO_read(from, said, sizeof said);
        assert_true(n > 0);
        int r = feed(h, said, (size_t)n, BYTES_MAX, out, &out_n);
        if (r != (kind == 4 ? HELLO_DONE : HELLO_OTHER))
            fail_msg("kind %d: %d", kind, r);
        load__hello_free(h);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_understood),
        cmocka_unit_test(test_sessions_are_resumed),
        cmocka_unit_test(test_tickets_that_are_none),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_half_is_never_done),
        cmocka_unit_test(test_servers_that_want_something_else),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
