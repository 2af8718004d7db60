/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: tls.c, tls_handshake.c, tls_name.c, tls_ticket.c
 *
 * Handshakes with OpenSSL's client in memory: cut anywhere, resumed on another server, with names
 * and certificates of all kinds, and with what is no TLS. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "net/tls_int.h"
#include "support/support.h"
#include "support/tls_peer.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
static const char secrets[] = "new: 0123456789abcdef0123456789a"
                              "old: 0123456789abcdef0123456789a";
static struct tls_codec codec;
static struct cert plain_cert;

static int begin(void **state)
{
    (void)state;
    plain_cert = cert_make(
        &(struct cert_spec){.cn = "edge.example.com",
                            .san = "DNS:edge.example.com,URI:sip:sip.example.com,IP:192.0.2.7"});
    return tls_codec_init(&codec);
}

static int end(void **state)
{
    (void)state;
    cert_free(&plain_cert);
    tls_codec_done(&codec);
    return 0;
}

/* Says something both ways, so that keys and sequence numbers are right. */
static void chat(struct peer *p, struct tls_flow *flow)
{
    char wire[1024], got[16];
    struct iovec iov = {.iov_base = "hello phone", .iov_len = 11};
    for (int i = 0; i < 3; i++) {
        size_t kept = 0;
        assert_int_equal(10, SSL_write(p->ssl, "hello edge", 10));
        int r = BIO_read(p->out, wire, sizeof wire);
        size_t n = r > 0 ? (size_t)r : 0;
        assert_int_equal(0, tls_read(&codec, flow, wire, &kept, &n));
        assert_int_equal(10, kept);
        assert_memory_equal("hello edge", wire, 10);
        int64_t sealed = tls_seal(&codec, flow, &iov, 1, wire, sizeof wire);
        assert_true(sealed > 0);
        assert_int_equal(sealed, BIO_write(p->in, wire, (int)sealed));
        assert_int_equal(11, SSL_read(p->ssl, got, sizeof got));
        assert_memory_equal("hello phone", got, 11);
    }
}

/* ---- cut anywhere ---------------------------------------------------------------------------- */

static void test_cut_anywhere(void **state)
{
    (void)state;
    struct tls_server *s = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    for (unsigned v = 0; v < 2; v++)
        for (size_t cut = 0; cut < 400; cut += cut < 12 ? 1 : 97) {
            struct peer p = peer_new(versions[v], NULL);
            struct tls_flow flow;
            struct tls_info info;
            peer_begin(&p);
            int r = peer_shake(&p, s, cut, &flow, &info);
            if (r != TLS_STEP_DONE)
                fail_msg("cut into %zu: %s", cut, info.failure_text);
            assert_false(info.is_resumed);
            chat(&p, &flow);
            peer_free(&p);
        }
    tls_server_release(s);
}

/* ---- tickets --------------------------------------------------------------------------------- */

/* A client with a session, if it has one. Returns whether it was resumed, and its new session. */
static bool visit(struct tls_server *s, int version, SSL_SESSION **session)
{
    struct peer p = peer_new(version, NULL);
    struct tls_flow flow;
    struct tls_info info;
    peer_begin(&p);
    if (*session != NULL)
        assert_int_equal(1, SSL_set_session(p.ssl, *session));
    assert_int_equal(TLS_STEP_DONE, peer_shake(&p, s, 0, &flow, &info));
    chat(&p, &flow); /* tickets of TLS 1.3 are read on the way */
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(p.ssl);
    bool resumed = SSL_session_reused(p.ssl) == 1;
    assert_int_equal(resumed, info.is_resumed);
    peer_free(&p);
    return resumed;
}

static void test_tickets_of_a_fleet(void **state)
{
    (void)state;
    struct tls_server *here = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets + 32, 32));
    struct tls_server *there = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets + 32, 32));
    struct tls_server *rotated = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 64));
    struct tls_server *newest = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    struct tls_server *none = server_make(&plain_cert, 1, TLS_USE_SIP, SLICE_NONE);
    for (unsigned v = 0; v < 2; v++) {
        SSL_SESSION *session = NULL;
        assert_false(visit(here, versions[v], &session));
        assert_true(visit(here, versions[v], &session));
        assert_true(visit(there, versions[v], &session));
        SSL_SESSION *old = session;
        SSL_SESSION_up_ref(old);
        assert_false(visit(newest, versions[v], &session)); /* does not know the old key */
        SSL_SESSION_free(session);
        session = old;
        assert_true(visit(rotated, versions[v], &session)); /* opens the old, seals with the new */
        assert_true(visit(newest, versions[v], &session));
        assert_false(visit(here, versions[v], &session));
        assert_false(visit(none, versions[v], &session));
        assert_false(visit(none, versions[v], &session));
        SSL_SESSION_free(session);
    }
    tls_server_release(here);
    tls_server_release(there);
    tls_server_release(rotated);
    tls_server_release(newest);
    tls_server_release(none);
}

/* A ticket is looked at without a handshake: what is said of it is what the handshake does. */
static void test_tickets_of_ours(void **state)
{
    (void)state;
    static const char foreign[] = "old: 0123456789abcdef0123456789b";
    struct tls_server *here = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets + 32, 32));
    struct tls_server *there = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets + 32, 32));
    struct tls_server *rotated = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 64));
    struct tls_server *newest = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    struct tls_server *none = server_make(&plain_cert, 1, TLS_USE_SIP, SLICE_NONE);
    struct tls_server *other = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(foreign, 32));
    for (unsigned v = 0; v < 2; v++) {
        SSL_SESSION *session = peer_session(here, versions[v]);
        const unsigned char *p;
        size_t n;
        SSL_SESSION_get0_ticket(session, &p, &n);
        assert_true(n > 0);
        assert_true(tls_ticket_is_ours(here, slice_of(p, n)));
        assert_true(tls_ticket_is_ours(there, slice_of(p, n)));
        assert_true(tls_ticket_is_ours(rotated, slice_of(p, n)));
        assert_false(tls_ticket_is_ours(newest, slice_of(p, n)));
        assert_false(tls_ticket_is_ours(none, slice_of(p, n)));
        assert_false(tls_ticket_is_ours(other, slice_of(p, n)));
        char *copy = guard_copy(p, n);
        memcpy(copy, other->tickets.key[0].name, 16); /* another's name does not help */
        assert_false(tls_ticket_is_ours(other, slice_of(copy, n)));
        assert_false(tls_ticket_is_ours(here, slice_of(copy, n)));
        memcpy(copy, p, n);
        for (size_t bit = 0; bit < n * 8; bit++) {
            copy[bit / 8] ^= (char)(1 << bit % 8);
            assert_false(tls_ticket_is_ours(rotated, slice_of(copy, n)));
            copy[bit / 8] ^= (char)(1 << bit % 8);
        }
        guard_free(copy);
        for (size_t cut = 0; cut < n; cut++) {
            copy = guard_copy(p, cut);
            assert_false(tls_ticket_is_ours(here, slice_of(copy, cut)));
            guard_free(copy);
        }
        SSL_SESSION_free(session);
    }
    tls_server_release(here);
    tls_server_release(there);
    tls_server_release(rotated);
    tls_server_release(newest);
    tls_server_release(none);
    tls_server_release(other);
}

/* ---- SNI ------------------------------------------------------------------------------------- */

static void test_sni(void **state)
{
    (void)state;
    const struct cert certs[] = {
        cert_make(&(struct cert_spec){.cn = "one", .san = "DNS:one.example.com"}),
        cert_make(&(struct cert_spec){.cn = "two", .san = "DNS:two.example.com,DNS:*.example.net"}),
        cert_make(&(struct cert_spec){.cn = "three", .san = "URI:sip:example.org"}),
        cert_make(&(struct cert_spec){.cn = "four.example.com"}),
    };
    static const struct {
        const char *sni, *cn;
    } cases[] = {
        {NULL, "one"},
        {"one.example.com", "one"},
        {"two.example.com", "two"},
        {"TWO.Example.COM", "two"},
        {"a.example.net", "two"},
        {"a.b.example.net", "one"},
        {"example.net", "one"},
        {"example.org", "three"},
        {"four.example.com", "four.example.com"},
        {"five.example.com", "one"},
    };
    struct tls_server *s = server_make(certs, 4, TLS_USE_SIP, slice_of(secrets, 32));
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (unsigned v = 0; v < 2; v++) {
            struct peer p = peer_new(versions[v], NULL);
            struct tls_flow flow;
            struct tls_info info;
            char cn[64] = "";
            peer_begin(&p);
            if (cases[i].sni != NULL)
                assert_int_equal(1, SSL_set_tlsext_host_name(p.ssl, cases[i].sni));
            assert_int_equal(TLS_STEP_DONE, peer_shake(&p, s, 0, &flow, &info));
            X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(p.ssl)),
                                      NID_commonName, cn, sizeof cn);
            if (strcmp(cn, cases[i].cn) != 0)
                fail_msg("%s: %s", cases[i].sni, cn);
            assert_int_equal(cases[i].sni != NULL ? strlen(cases[i].sni) : 0, info.server_name.n);
            chat(&p, &flow);
            peer_free(&p);
        }
    tls_server_release(s);
    for (unsigned i = 0; i < 4; i++) {
        struct cert c = certs[i];
        cert_free(&c);
    }
}

static void test_name_matches(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool want;
    } cases[] = {
        {"a.example.com", "A.Example.Com", true},
        {"a.example.com", "a.example.com.", true},
        {"a.example.com", "b.example.com", false},
        {"*.example.com", "b.example.com", true},
        {"*.example.com", "example.com", false},
        {"*.example.com", ".example.com", false},
        {"*.example.com", "a.b.example.com", false},
        {"*.example.com", "b.example.com.", true},
        {"*.example.com", "b.example.org", false},
        {"", "a", false},
        {"*.", "a.", false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (tls_name_matches(slice_cstr(cases[i].pattern), slice_cstr(cases[i].name)) !=
            cases[i].want)
            fail_msg("%s, %s", cases[i].pattern, cases[i].name);
}

/* ---- clients that say who they are ----------------------------------------------------------- */

static const struct {
    const char *name, *cn, *san, *usage;
    int from, until;
    bool foreign;
    const char *names; /* NULL: refused */
} mutual[] = {
    {"sip URIs", "x", "DNS:a.example.com,URI:sip:Example.com,URI:sip:example.net:5061;x=y", NULL, 0,
     0, false, "example.com example.net"},
    {"DNS", "x", "DNS:A.example.com,DNS:b.example.com", NULL, 0, 0, false,
     "a.example.com b.example.com"},
    {"a person's URI", "x", "DNS:a.example.com,URI:sip:bob@example.com", NULL, 0, 0, false,
     "a.example.com"},
    {"CN only", "cn.example.com", NULL, NULL, 0, 0, false, "cn.example.com"},
    {"CN beside a SAN", "cn.example.com", "email:a@example.com", NULL, 0, 0, false, ""},
    {"wildcard", "x", "DNS:*.example.com", NULL, 0, 0, false, ""},
    {"odd", "x", "DNS:a b.example.com,DNS:good.example.com", NULL, 0, 0, false, "good.example.com"},
    {"for clients", "a.example.com", NULL, "clientAuth", 0, 0, false, "a.example.com"},
    {"for servers", "a.example.com", NULL, "serverAuth", 0, 0, false, "a.example.com"},
    {"for SIP", "a.example.com", NULL, "1.3.6.1.5.5.7.3.20", 0, 0, false, "a.example.com"},
    {"for code", "a.example.com", NULL, "codeSigning", 0, 0, false, NULL},
    {"expired", "a.example.com", NULL, NULL, -3, -2, false, NULL},
    {"not yet", "a.example.com", NULL, NULL, 2, 3, false, NULL},
    {"unknown CA", "a.example.com", NULL, NULL, 0, 0, true, NULL},
};

static void test_mutual(void **state)
{
    (void)state;
    const struct cert ca = cert_make(&(struct cert_spec){.cn = "trunk CA", .is_ca = true});
    const struct cert other_ca = cert_make(&(struct cert_spec){.cn = "other CA", .is_ca = true});
    struct config_cert files = {slice_cstr(plain_cert.cert_path), slice_cstr(plain_cert.key_path)};
    struct config_listener l = {
        .certs = &files, .cert_count = 1, .client_ca = slice_cstr(ca.cert_path)};
    char why[TLS_WHY_BYTES_MAX];
    struct tls_server *optional = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 32), why);
    l.client_required = true;
    struct tls_server *required = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 32), why);
    assert_non_null(optional);
    assert_non_null(required);
    for (unsigned i = 0; i < sizeof mutual / sizeof mutual[0]; i++)
        for (unsigned round = 0; round < 4; round++) {
            struct cert c =
                cert_make(&(struct cert_spec){.cn = mutual[i].cn,
                                              .san = mutual[i].san,
                                              .usage = mutual[i].usage,
                                              .days_from = mutual[i].from,
                                              .days_until = mutual[i].until,
                                              .issuer = mutual[i].foreign ? &other_ca : &ca});
            struct peer p = peer_new(versions[round % 2], NULL);
            struct tls_flow flow;
            struct tls_info info;
            assert_int_equal(1, SSL_CTX_use_certificate(p.ctx, c.x));
            assert_int_equal(1, SSL_CTX_use_PrivateKey(p.ctx, c.key));
            peer_begin(&p);
            int r = peer_shake(&p, round < 2 ? optional : required, 0, &flow, &info);
            if ((r == TLS_STEP_DONE) != (mutual[i].names != NULL))
                fail_msg("%s: %d, %s", mutual[i].name, r, info.failure_text);
            if (r == TLS_STEP_DONE && !slice_equal(slice_cstr(mutual[i].names), info.peer_names))
                fail_msg("%s: %.*s", mutual[i].name, SLICE_ARG(info.peer_names));
            if (r == TLS_STEP_DONE)
                chat(&p, &flow);
            else
                assert_int_equal(TLS_FAIL_PEER, info.failure);
            peer_free(&p);
            cert_free(&c);
        }
    for (unsigned v = 0; v < 2; v++) {
        struct peer p = peer_new(versions[v], NULL);
        struct tls_flow flow;
        struct tls_info info;
        peer_begin(&p);
        assert_int_equal(TLS_STEP_FAILED, peer_shake(&p, required, 0, &flow, &info));
        assert_int_equal(TLS_FAIL_PEER, info.failure);
        peer_free(&p);
        p = peer_new(versions[v], NULL);
        peer_begin(&p);
        assert_int_equal(TLS_STEP_DONE, peer_shake(&p, optional, 0, &flow, &info));
        assert_int_equal(0, info.peer_names.n);
        peer_free(&p);
    }
    tls_server_release(optional);
    tls_server_release(required);
    struct cert a = ca, b = other_ca;
    cert_free(&a);
    cert_free(&b);
}

/* Who was let in without a certificate does not come back, with a ticket, where one is required;
 * and who showed one is still known by it after resuming. */
static void test_tickets_prove_nothing_new(void **state)
{
    (void)state;
    struct cert ca = cert_make(&(struct cert_spec){.cn = "CA", .is_ca = true});
    struct cert trunk =
        cert_make(&(struct cert_spec){.cn = "x", .san = "URI:sip:example.com", .issuer = &ca});
    struct config_cert files = {slice_cstr(plain_cert.cert_path), slice_cstr(plain_cert.key_path)};
    struct config_listener l = {.certs = &files, .cert_count = 1};
    char why[TLS_WHY_BYTES_MAX];
    struct tls_server *open = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 32), why);
    l.client_ca = slice_cstr(ca.cert_path);
    struct tls_server *optional = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 32), why);
    l.client_required = true;
    struct tls_server *required = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 32), why);
    for (unsigned v = 0; v < 2; v++) {
        struct tls_server *lax[] = {open, optional};
        for (unsigned i = 0; i < 2; i++) {
            SSL_SESSION *session = NULL;
            assert_false(visit(lax[i], versions[v], &session));
            struct peer p = peer_new(versions[v], NULL);
            struct tls_info info;
            peer_begin(&p);
            assert_int_equal(1, SSL_set_session(p.ssl, session));
            assert_int_equal(TLS_STEP_FAILED, peer_shake(&p, required, 0, NULL, &info));
            peer_free(&p);
            SSL_SESSION_free(session);
        }
        SSL_SESSION *session = NULL;
        for (unsigned round = 0; round < 2; round++) {
            struct peer p = peer_new(versions[v], NULL);
            struct tls_flow flow;
            struct tls_info info;
            assert_int_equal(1, SSL_CTX_use_certificate(p.ctx, trunk.x));
            assert_int_equal(1, SSL_CTX_use_PrivateKey(p.ctx, trunk.key));
            peer_begin(&p);
            if (session != NULL)
                assert_int_equal(1, SSL_set_session(p.ssl, session));
            assert_int_equal(TLS_STEP_DONE, peer_shake(&p, required, 0, &flow, &info));
            assert_int_equal(round == 1, info.is_resumed);
            assert_true(slice_equal(SLICE("example.com"), info.peer_names));
            chat(&p, &flow);
            SSL_SESSION_free(session);
            session = SSL_get1_session(p.ssl);
            peer_free(&p);
        }
        SSL_SESSION_free(session);
    }
    tls_server_release(open);
    tls_server_release(optional);
    tls_server_release(required);
    cert_free(&ca);
    cert_free(&trunk);
}

/* An authority that is another one, though it has the same name, does not stand for those whom the
 * first has signed. */
static void test_tickets_of_another_authority(void **state)
{
    (void)state;
    struct cert ca = cert_make(&(struct cert_spec){.cn = "CA", .is_ca = true});
    struct cert namesake = cert_make(&(struct cert_spec){.cn = "CA", .is_ca = true});
    struct cert trunk =
        cert_make(&(struct cert_spec){.cn = "x", .san = "URI:sip:example.com", .issuer = &ca});
    struct config_cert files = {slice_cstr(plain_cert.cert_path), slice_cstr(plain_cert.key_path)};
    struct config_listener l = {.certs = &files, .cert_count = 1, .client_required = true};
    char why[TLS_WHY_BYTES_MAX];
    struct tls_server *s[3];
    for (unsigned i = 0; i < 3; i++) {
        l.client_ca = slice_cstr(i == 2 ? namesake.cert_path : ca.cert_path);
        s[i] = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 32), why);
        assert_non_null(s[i]);
    }
    for (unsigned v = 0; v < 2; v++) {
        SSL_SESSION *session = NULL;
        for (unsigned round = 0; round < 3; round++) {
            struct peer p = peer_new(versions[v], NULL);
            struct tls_flow flow;
            struct tls_info info;
            assert_int_equal(1, SSL_CTX_use_certificate(p.ctx, trunk.x));
            assert_int_equal(1, SSL_CTX_use_PrivateKey(p.ctx, trunk.key));
            peer_begin(&p);
            if (session != NULL)
                assert_int_equal(1, SSL_set_session(p.ssl, session));
            int r = peer_shake(&p, s[round], 0, &flow, &info);
            assert_int_equal(round == 2 ? TLS_STEP_FAILED : TLS_STEP_DONE, r);
            if (round < 2) {
                assert_int_equal(round == 1, info.is_resumed); /* elsewhere with the same */
                chat(&p, &flow);
                SSL_SESSION_free(session);
                session = SSL_get1_session(p.ssl);
            }
            peer_free(&p);
        }
        SSL_SESSION_free(session);
    }
    for (unsigned i = 0; i < 3; i++)
        tls_server_release(s[i]);
    cert_free(&ca);
    cert_free(&namesake);
    cert_free(&trunk);
}

/* OpenSSL's clock, for tickets. */
static int64_t later_s;

time_t time(time_t *ret)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    time_t t = now.tv_sec + (time_t)later_s;
    if (ret != NULL)
        *ret = t;
    return t;
}

/* Each resumption brings a new ticket, but no new hour for what was proven once: the certificate
 * may have ended since. */
static void test_tickets_of_the_proven_end(void **state)
{
    (void)state;
    struct cert ca = cert_make(&(struct cert_spec){.cn = "CA", .is_ca = true});
    struct cert trunk =
        cert_make(&(struct cert_spec){.cn = "x", .san = "URI:sip:example.com", .issuer = &ca});
    struct config_cert files = {slice_cstr(plain_cert.cert_path), slice_cstr(plain_cert.key_path)};
    struct config_listener l = {.certs = &files, .cert_count = 1, .client_required = true};
    char why[TLS_WHY_BYTES_MAX];
    l.client_ca = slice_cstr(ca.cert_path);
    struct tls_server *s = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 64), why);
    for (unsigned v = 0; v < 2; v++) {
        SSL_SESSION *session = NULL;
        for (unsigned round = 0; round < 5; round++) {
            static const bool resumed[] = {false, true, true, false, true};
            struct peer p = peer_new(versions[v], NULL);
            struct tls_flow flow;
            struct tls_info info;
            later_s = (int64_t)round * 25 * 60;
            assert_int_equal(1, SSL_CTX_use_certificate(p.ctx, trunk.x));
            assert_int_equal(1, SSL_CTX_use_PrivateKey(p.ctx, trunk.key));
            peer_begin(&p);
            if (session != NULL)
                assert_int_equal(1, SSL_set_session(p.ssl, session));
            assert_int_equal(TLS_STEP_DONE, peer_shake(&p, s, 0, &flow, &info));
            assert_int_equal(resumed[round], info.is_resumed);
            assert_true(slice_equal(SLICE("example.com"), info.peer_names));
            chat(&p, &flow);
            SSL_SESSION_free(session);
            session = SSL_get1_session(p.ssl);
            peer_free(&p);
        }
        SSL_SESSION_free(session);
    }
    later_s = 0;
    tls_server_release(s);
    cert_free(&ca);
    cert_free(&trunk);
}

/* ---- ALPN ------------------------------------------------------------------------------------ */

static void test_alpn(void **state)
{
    (void)state;
    static const struct {
        const char *offer;
        enum tls_use use;
        const char *want;
    } cases[] = {
        {"", TLS_USE_SIP, ""},
        {"\5sip/2", TLS_USE_SIP, "sip/2"},
        {"\3sip\5sip/2", TLS_USE_SIP, "sip/2"},
        {"\3sip", TLS_USE_SIP, "sip"},
        {"\2h2\10http/1.1", TLS_USE_SIP, ""},
        {"\2h2\10http/1.1", TLS_USE_HTTP, "http/1.1"},
        {"\5sip/2", TLS_USE_HTTP, ""},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (unsigned v = 0; v < 2; v++) {
            struct tls_server *s = server_make(&plain_cert, 1, cases[i].use, SLICE_NONE);
            struct peer p = peer_new(versions[v], NULL);
            struct tls_flow flow;
            struct tls_info info;
            const unsigned char *got = NULL;
            unsigned n = 0;
            assert_int_equal(0,
                             SSL_CTX_set_alpn_protos(p.ctx, (const unsigned char *)cases[i].offer,
                                                     (unsigned)strlen(cases[i].offer)));
            peer_begin(&p);
            assert_int_equal(TLS_STEP_DONE, peer_shake(&p, s, 0, &flow, &info));
            SSL_get0_alpn_selected(p.ssl, &got, &n);
            if (!slice_equal(slice_of(got, n), slice_cstr(cases[i].want)))
                fail_msg("%s: %.*s", cases[i].offer, (int)n, (const char *)got);
            assert_int_equal(n > 0, info.alpn);
            chat(&p, &flow);
            peer_free(&p);
            tls_server_release(s);
        }
}

/* ---- what is no handshake -------------------------------------------------------------------- */

static void test_no_tls(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t n;
        int step;
        enum tls_failure failure;
    } cases[] = {
        {"nothing", "", 0, TLS_STEP_MORE, TLS_FAIL_NONE},
        {"a letter", "G", 1, TLS_STEP_MORE, TLS_FAIL_NONE},
        {"HTTP", "GET / HTTP/1.1\r\n", 16, TLS_STEP_FAILED, TLS_FAIL_HTTP},
        {"HTTP/2", "PRI * HTTP/2.0\r\n", 16, TLS_STEP_FAILED, TLS_FAIL_HTTP},
        {"REGISTER", "REGISTER sip:", 13, TLS_STEP_FAILED, TLS_FAIL_PLAIN},
        {"OPTIONS", "OPTIONS sip:", 12, TLS_STEP_FAILED, TLS_FAIL_PLAIN},
        {"a response", "SIP/2.0 200 OK", 14, TLS_STEP_FAILED, TLS_FAIL_PLAIN},
        {"SSH", "SSH-2.0-x", 9, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"zero", "\0", 1, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"keep-alive", "\r\n\r\n", 4, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"SSLv2", "\x80\x2e\1\0\2", 5, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"data first", "\x17\3\3\0\x20", 5, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"alert first", "\x15\3\3\0\2\1\0", 7, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"SSLv9", "\x16\x09\0\0\x20", 5, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"empty record", "\x16\3\1\0\0", 5, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"too long", "\x16\3\1\x41\1", 5, TLS_STEP_FAILED, TLS_FAIL_GARBAGE},
        {"no ClientHello", "\x16\3\1\0\4\2\0\0\0", 9, TLS_STEP_FAILED, TLS_FAIL_PROTOCOL},
        {"an empty ClientHello", "\x16\3\1\0\4\1\0\0\0", 9, TLS_STEP_FAILED, TLS_FAIL_PROTOCOL},
        {"a huge ClientHello", "\x16\3\1\0\4\1\xff\xff\xff", 9, TLS_STEP_FAILED, TLS_FAIL_PROTOCOL},
        {"half a head", "\x16\3\1", 3, TLS_STEP_MORE, TLS_FAIL_NONE},
        {"a head", "\x16\3\1\1\0", 5, TLS_STEP_MORE, TLS_FAIL_NONE},
    };
    struct tls_server *s = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t cut = 1; cut <= 16; cut += 15) {
            struct tls_handshake *h = tls_handshake_new(s);
            struct slice out = SLICE_NONE;
            size_t used = 0;
            int r = TLS_STEP_MORE;
            for (size_t at = 0; at < cases[i].n && r == TLS_STEP_MORE; at += used) {
                size_t n = cases[i].n - at < cut ? cases[i].n - at : cut;
                char *tight = guard_copy(cases[i].bytes + at, n);
                r = tls_handshake_step(h, tight, n, &used, &out);
                guard_free(tight);
                assert_true(used == n || r == TLS_STEP_FAILED);
            }
            struct tls_info info = tls_handshake_info(h);
            if (r != cases[i].step || info.failure != cases[i].failure)
                fail_msg("%s: %d, %s: %s", cases[i].name, r, tls_failure_name(info.failure),
                         info.failure_text);
            if (info.failure != TLS_FAIL_PROTOCOL)
                assert_int_equal(0, out.n);
            if (r == TLS_STEP_FAILED) /* and so it stays */
                assert_int_equal(TLS_STEP_FAILED, tls_handshake_step(h, "x", 1, &used, &out));
            tls_handshake_free(h);
        }
    tls_server_release(s);
}

static void test_no_agreement(void **state)
{
    (void)state;
    struct tls_server *s = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    struct tls_info info;
    struct peer p = peer_new(TLS1_2_VERSION, "AES128-SHA:ECDHE-ECDSA-AES128-SHA256");
    peer_begin(&p);
    assert_int_equal(TLS_STEP_FAILED, peer_shake(&p, s, 0, NULL, &info));
    assert_int_equal(TLS_FAIL_CIPHER, info.failure);
    peer_free(&p);
    p = peer_new(TLS1_1_VERSION, "ALL@SECLEVEL=0");
    peer_begin(&p);
    assert_int_equal(TLS_STEP_FAILED, peer_shake(&p, s, 0, NULL, &info));
    assert_int_equal(TLS_FAIL_VERSION, info.failure);
    peer_free(&p);
    p = peer_new(TLS1_3_VERSION, NULL);
    assert_int_equal(1, SSL_CTX_set1_groups_list(p.ctx, "P-521"));
    peer_begin(&p);
    assert_int_equal(TLS_STEP_FAILED, peer_shake(&p, s, 0, NULL, &info));
    assert_int_equal(TLS_FAIL_CIPHER, info.failure);
    peer_free(&p);
    for (unsigned v = 0; v < 2; v++) { /* the client does not believe us, and says so */
        p = peer_new(versions[v], NULL);
        SSL_CTX_set_verify(p.ctx, SSL_VERIFY_PEER, NULL);
        peer_begin(&p);
        assert_int_equal(TLS_STEP_FAILED, peer_shake(&p, s, 0, NULL, &info));
        assert_int_equal(TLS_FAIL_REFUSED, info.failure);
        peer_free(&p);
    }
    tls_server_release(s);
}

/* A second ClientHello is needed when the client guessed the wrong group. */
static void test_hello_retry(void **state)
{
    (void)state;
    struct tls_server *s = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    struct peer p = peer_new(TLS1_3_VERSION, NULL);
    struct tls_flow flow;
    assert_int_equal(1, SSL_CTX_set1_groups_list(p.ctx, "P-521:X25519"));
    peer_begin(&p);
    assert_int_equal(TLS_STEP_DONE, peer_shake(&p, s, 3, &flow, NULL));
    chat(&p, &flow);
    peer_free(&p);
    tls_server_release(s);
}

/* The listener is reloaded while somebody shakes hands. */
static void test_server_goes_first(void **state)
{
    (void)state;
    struct tls_server *s = server_make(&plain_cert, 1, TLS_USE_SIP, slice_of(secrets, 32));
    struct tls_handshake *h = tls_handshake_new(s);
    tls_server_release(s);
    struct slice out;
    size_t used;
    assert_int_equal(TLS_STEP_MORE, tls_handshake_step(h, "\x16\3\1\1\0", 5, &used, &out));
    tls_handshake_free(h);
    tls_handshake_free(NULL);
    tls_server_release(NULL);
}

/* ---- loading --------------------------------------------------------------------------------- */

static void test_loading(void **state)
{
    (void)state;
    char none[128], garbage[128], locked[128];
    struct cert other = cert_make(&(struct cert_spec){.cn = "other"});
    struct cert rsa = cert_make(&(struct cert_spec){.cn = "rsa", .is_rsa = true});
    struct cert old = cert_make(&(struct cert_spec){.cn = "o", .days_from = -9, .days_until = -2});
    struct cert early = cert_make(&(struct cert_spec){.cn = "e", .days_from = 2, .days_until = 9});
    test_path(none, "none.pem");
    test_file(garbage, "garbage.pem", "hello", 5);
    test_path(locked, "locked.pem");
    FILE *f = fopen(locked, "wb");
    assert_int_equal(1, PEM_write_PrivateKey(f, other.key, EVP_aes_128_cbc(),
                                             (const unsigned char *)"secret", 6, NULL, NULL));
    fclose(f);
    const struct {
        const char *name, *cert, *key, *ca, *why; /* why: part of it; ca: NULL = none */
        bool works;
    } cases[] = {
        {"good", other.cert_path, other.key_path, NULL, "", true},
        {"good, with clients", other.cert_path, other.key_path, other.cert_path, "", true},
        {"no certificate", none, other.key_path, NULL, "none.pem: No such file", false},
        {"no key", other.cert_path, none, NULL, "none.pem: No such file", false},
        {"a certificate of garbage", garbage, other.key_path, NULL, "garbage.pem: no usable",
         false},
        {"a key of garbage", other.cert_path, garbage, NULL, "garbage.pem: no usable", false},
        {"a key that is locked", other.cert_path, locked, NULL, "without a passphrase", false},
        {"another key", other.cert_path, old.key_path, NULL, "not the key of", false},
        {"another kind of key", other.cert_path, rsa.key_path, NULL, "not the key of", false},
        {"no CA", other.cert_path, other.key_path, none, "none.pem: No such file", false},
        {"a CA of garbage", other.cert_path, other.key_path, garbage, "garbage.pem: no cert",
         false},
        {"expired", old.cert_path, old.key_path, NULL, "has expired", true},
        {"not valid yet", early.cert_path, early.key_path, NULL, "not valid yet", true},
        {"no path", "", other.key_path, NULL, "no path", false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_cert files = {slice_cstr(cases[i].cert), slice_cstr(cases[i].key)};
        struct config_listener l = {
            .certs = &files, .cert_count = 1, .client_ca = slice_cstr(cases[i].ca)};
        char why[TLS_WHY_BYTES_MAX] = "left over";
        struct tls_server *s = tls_server_new(&l, TLS_USE_SIP, slice_of(secrets, 64), why);
        if ((s != NULL) != cases[i].works || strstr(why, cases[i].why) == NULL ||
            (cases[i].why[0] == '\0' && why[0] != '\0'))
            fail_msg("%s: %s", cases[i].name, why);
        tls_server_release(s);
    }
    char why[TLS_WHY_BYTES_MAX];
    assert_null(tls_server_new(&(struct config_listener){0}, TLS_USE_SIP, SLICE_NONE, why));
    assert_int_equal(0, ERR_peek_error());
    cert_free(&other);
    cert_free(&rsa);
    cert_free(&old);
    cert_free(&early);
}

/* ---- connections of ours --------------------------------------------------------------------- */

/* Our client against our server, in pieces of `cut` bytes. */
static int meet(struct tls_handshake *a, struct tls_handshake *b, size_t cut)
{
    struct tls_handshake *end[2] = {a, b};
    char *pipe[2] = {NULL, NULL}; /* what is on the way to each */
    size_t pipe_n[2] = {0, 0};
    int step[2] = {TLS_STEP_MORE, TLS_STEP_MORE};
    bool begun = false;
    for (int turn = 0; turn < 20000; turn++) {
        int i = turn % 2;
        size_t n = pipe_n[i] < cut ? pipe_n[i] : cut, used = 0;
        struct slice out = SLICE_NONE;
        if (step[i] != TLS_STEP_MORE || (n == 0 && (begun || i == 1)))
            continue;
        begun = true;
        step[i] = tls_handshake_step(end[i], pipe[i], n, &used, &out);
        if (used > 0)
            memmove(pipe[i], pipe[i] + used, pipe_n[i] - used);
        pipe_n[i] -= used;
        if (out.n > 0) {
            pipe[!i] = (char *)realloc(pipe[!i], pipe_n[!i] + out.n);
            memcpy(pipe[!i] + pipe_n[!i], out.p, out.n);
            pipe_n[!i] += out.n;
        }
    }
    free(pipe[0]);
    free(pipe[1]);
    return step[0];
}

static void test_our_clients(void **state)
{
    (void)state;
    struct cert foreign = cert_make(&(struct cert_spec){.cn = "foreign"});
    struct cert code =
        cert_make(&(struct cert_spec){.cn = "edge.example.com", .usage = "codeSigning"});
    const struct {
        const char *name;
        const struct cert *ca, *server;
        const char *host;
        bool works;
    } cases[] = {
        {"DNS name", &plain_cert, &plain_cert, "edge.example.com", true},
        {"sip URI", &plain_cert, &plain_cert, "SIP.example.com", true},
        {"address", &plain_cert, &plain_cert, "192.0.2.7", true},
        {"other address", &plain_cert, &plain_cert, "192.0.2.8", false},
        {"other name", &plain_cert, &plain_cert, "other.example.com", false},
        {"unknown issuer", &foreign, &plain_cert, "edge.example.com", false},
        {"for code", &code, &code, "edge.example.com", false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t cut = 7; cut < 9000; cut += 8000) {
            char why[TLS_WHY_BYTES_MAX], wire[256];
            struct tls_server *s =
                server_make(cases[i].server, 1, TLS_USE_SIP, slice_of(secrets, 32));
            struct tls_client *c =
                tls_client_new(&(struct config_tls_client){.ca = slice_cstr(cases[i].ca->cert_path),
                                                           .verify = true},
                               why);
            struct tls_handshake *a = tls_handshake_connect(c, slice_cstr(cases[i].host));
            struct tls_handshake *b = tls_handshake_new(s);
            tls_client_release(c);
            int r = meet(a, b, cut);
            if ((r == TLS_STEP_DONE) != cases[i].works)
                fail_msg("%s: %d, %s", cases[i].name, r, tls_handshake_info(a).failure_text);
            if (r == TLS_STEP_DONE) {
                struct tls_flow here, there;
                tls_handshake_flow(a, &here);
                tls_handshake_flow(b, &there);
                assert_int_equal(here.open.seq + 1, there.seal.seq); /* a ticket is on its way */
                here.open.seq++;
                struct iovec iov = {.iov_base = "hello", .iov_len = 5};
                for (int k = 0; k < 4; k++) {
                    size_t kept = 0;
                    int64_t n = tls_seal(&codec, k % 2 ? &here : &there, &iov, 1, wire, 256);
                    size_t got = (size_t)n;
                    assert_int_equal(0,
                                     tls_read(&codec, k % 2 ? &there : &here, wire, &kept, &got));
                    assert_int_equal(5, kept);
                }
            } else {
                assert_int_equal(TLS_FAIL_PEER, tls_handshake_info(a).failure);
            }
            tls_handshake_free(a);
            tls_handshake_free(b);
            tls_server_release(s);
        }
    char why[TLS_WHY_BYTES_MAX];
    assert_null(tls_client_new(
        &(struct config_tls_client){.ca = SLICE("/nonexistent/ca.pem"), .verify = true}, why));
    struct tls_client *c = tls_client_new(&(struct config_tls_client){.verify = true}, why);
    assert_non_null(c);
    assert_null(tls_handshake_connect(c, SLICE("")));
    assert_null(tls_handshake_connect(c, SLICE("a\0b")));
    tls_client_release(c);
    cert_free(&foreign);
    cert_free(&code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_tickets_of_a_fleet),
        cmocka_unit_test(test_tickets_of_ours),
        cmocka_unit_test(test_sni),
        cmocka_unit_test(test_name_matches),
        cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_tickets_prove_nothing_new),
        cmocka_unit_test(test_tickets_of_the_proven_end),
        cmocka_unit_test(test_tickets_of_another_authority),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_no_tls),
        cmocka_unit_test(test_no_agreement),
        cmocka_unit_test(test_hello_retry),
        cmocka_unit_test(test_server_goes_first),
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_our_clients),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
