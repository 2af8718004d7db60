/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tls files of this room share. */
#ifndef WEIR_NET_TLS_INT_H
#define WEIR_NET_TLS_INT_H

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include "flow/flow.h"
#include "net/tls.h"

/* ---- tls_ticket.c: session tickets (RFC 5077, RFC 8446 4.6.1) that a fleet shares --------------
 */

struct tls_ticket_key {
    uint8_t name[16];
    uint8_t cipher_key[32];
    uint8_t mac_key[32];
    struct token_key mac; /* the same, for a look at a ticket that allocates nothing */
};
struct tls_tickets {
    struct tls_ticket_key *key; /* newest first */
    size_t count;
    EVP_CIPHER *cipher;
};

/* Derives keys from secrets. 0, or -1 when memory is short or OpenSSL has no AES. */
int tls_tickets_init(struct tls_tickets *t, struct slice secrets);
void tls_tickets_done(struct tls_tickets *t);

/* Lets `ctx` seal and open tickets with its server's keys, or none when there are none. */
void tls_tickets_use(const struct tls_tickets *t, SSL_CTX *ctx);

/* ---- tls_name.c: who a certificate is for ------------------------------------------------------
 */

/* Calls `each` for the names of `x` by RFC 5922 7.1, lower case. */
void tls_names(X509 *x, void (*each)(void *ctx, struct slice name), void *ctx);

/* Calls `each` for what SNI may say to choose `x`: its DNS names (wildcards too) and the hosts of
 * its SIP URIs; without any subjectAltName its CN. Lower case. */
void tls_server_names(X509 *x, void (*each)(void *ctx, struct slice name), void *ctx);

/* Whether a pattern of a certificate (lower case, perhaps "*.example.com") is `name`, in any case.
 * The asterisk stands for one label. */
bool tls_name_matches(struct slice pattern, struct slice name);

/* Whether the extended key usage of a peer's certificate allows for a SIP connection: none at all,
 * client, server, any, or sipDomain (RFC 5924). A server's own certificate is what proves its
 * domain when it connects to us, whatever end it is of this connection. */
bool tls_usage_is_fit(X509 *x);

/* ---- tls.c -----------------------------------------------------------------------------------
 */

struct tls_identity {
    SSL_CTX *ctx;
    char *names; /* patterns, each with a newline behind it */
    size_t names_n;
};

/* What both ends of a handshake need. */
struct tls_common {
    BIO_METHOD *bio;
    _Atomic uint32_t count;
};

struct tls_server {
    struct tls_common common;
    struct tls_identity *identity;
    size_t identity_count;
    enum tls_use use;
    struct tls_tickets tickets;
    bool asks_client;
};

struct tls_client {
    struct tls_common common;
    SSL_CTX *ctx;
};

/* ---- tls_handshake.c --------------------------------------------------------------------------
 */

/* BIO over the bytes of a step; NULL when memory is short. */
BIO_METHOD *tls_bio_method(void);

/* Takes the traffic secrets from what OpenSSL would write to a key log. */
void tls_keylog(const SSL *ssl, const char *line);

/* The server of a handshake. */
const struct tls_server *tls_server_of(const SSL *ssl);

#endif
