/* SPDX-License-Identifier: Apache-2.0
 *
 * The other end of TLS for tests: OpenSSL as a client or a server in memory, and certificates made
 * on the spot, so that no file in the tree ever expires. Whatever fails here aborts the test. */
#ifndef WEIR_TEST_TLS_PEER_H
#define WEIR_TEST_TLS_PEER_H

#include <openssl/ssl.h>
#include "base/base.h"
#include "config/config.h"
#include "net/tls.h"
#include "wire/wire.h"

/* ---- certificates ---------------------------------------------------------------------------- */

struct cert {
    EVP_PKEY *key;
    X509 *x;
    char cert_path[128], key_path[128]; /* PEM files below the test's folder */
};
struct cert_spec {
    const char *cn;
    const char *san;           /* "DNS:a.example.com,URI:sip:example.com"; NULL = none */
    const char *usage;         /* "clientAuth"; NULL = none */
    int days_from, days_until; /* 0, 0 = yesterday to tomorrow */
    bool is_ca, is_rsa;
    const struct cert *issuer; /* NULL = self-signed */
};
struct cert cert_make(const struct cert_spec *spec);
void cert_free(struct cert *c);

/* A file below the test's folder, which is made with the first and removed at exit. */
void test_path(char ret_path[128], const char *name);
void test_file(char ret_path[128], const char *name, const void *bytes, size_t n);

/* A server of ours with `count` certificates. */
struct tls_server *server_make(const struct cert *certs, size_t count, enum tls_use use,
                               struct slice ticket_secret);

/* ---- OpenSSL as the peer --------------------------------------------------------------------- */

struct peer {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out; /* what it reads and writes; the SSL object's */
};

/* A client that believes anybody: set up `ctx`, then peer_begin(). `version`: TLS1_2_VERSION... */
struct peer peer_new(int version, const char *suite);
void peer_begin(struct peer *p);
void peer_free(struct peer *p);

/* Runs the handshake of `p` against `s`, our input cut into pieces of `cut` bytes (0 = whole).
 * Returns the enum tls_step that it ended with. `ret_flow` (may be NULL) is set with DONE; what
 * the peer wrote behind its last handshake message stays in p->out. What `ret_info` (may be NULL)
 * points into lives until the next call and peer_free(). */
int peer_shake(struct peer *p, struct tls_server *s, size_t cut, struct tls_flow *ret_flow,
               struct tls_info *ret_info);

/* The session that a client gets of `s` in a whole handshake; freed by SSL_SESSION_free(). */
SSL_SESSION *peer_session(struct tls_server *s, int version);

/* The ClientHello of a client with that session (NULL = none), in a record. Returns its size. */
enum { PEER_HELLO_BYTES_MAX = 4096 };
size_t peer_hello(int version, SSL_SESSION *session, char ret_hello[PEER_HELLO_BYTES_MAX]);

#endif
