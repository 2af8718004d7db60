/* SPDX-License-Identifier: Apache-2.0
 *
 * Session tickets: a server gives a client its session, sealed, and keeps nothing. Whoever derives
 * the same keys from the fleet's secrets can go on with it, so a phone that loses its edge resumes
 * on another.
 *
 *      secret (32 bytes) ─ HMAC-SHA-256 "name"   ─▶ 16 bytes that a ticket begins with
 *                        ─ HMAC-SHA-256 "cipher" ─▶ AES-256-CBC
 *                        ─ HMAC-SHA-256 "mac"    ─▶ HMAC-SHA-256 over all of it
 *
 *      ticket (RFC 5077 4)   name (16) │ iv (16) │ sealed session (n × 16) │ MAC (32) */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include "net/tls_int.h"

enum {
    NAME_BYTES = 16,
    BLOCK_BYTES = 16, /* of AES: the iv's as well */
    MAC_BYTES = 32,
    TICKET_BYTES_MIN = NAME_BYTES + BLOCK_BYTES + BLOCK_BYTES + MAC_BYTES,
};

static bool derive(const uint8_t *secret, const char *label, uint8_t *out, size_t n)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    bool ok = HMAC(EVP_sha256(), secret, TLS_TICKET_SECRET_BYTES, (const unsigned char *)label,
                   strlen(label), mac, &size) != NULL &&
              size >= n;
    if (ok)
        memcpy(out, mac, n);
    OPENSSL_cleanse(mac, sizeof mac);
    return ok;
}

int tls_tickets_init(struct tls_tickets *t, struct slice secrets)
{
    *t = (struct tls_tickets){.count = secrets.n / TLS_TICKET_SECRET_BYTES};
    if (t->count == 0)
        return 0;
    t->key = (struct tls_ticket_key *)calloc(t->count, sizeof *t->key);
    t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    bool ok = t->key != NULL && t->cipher != NULL;
    for (size_t i = 0; ok && i < t->count; i++) {
        const uint8_t *secret = (const uint8_t *)secrets.p + i * TLS_TICKET_SECRET_BYTES;
        struct tls_ticket_key *k = &t->key[i];
        ok = derive(secret, "weir ticket name", k->name, sizeof k->name) &&
             derive(secret, "weir ticket cipher", k->cipher_key, sizeof k->cipher_key) &&
             derive(secret, "weir ticket mac", k->mac_key, sizeof k->mac_key) &&
             token_key_init(&k->mac, slice_of(k->mac_key, sizeof k->mac_key)) == 0;
    }
    if (!ok)
        tls_tickets_done(t);
    return ok ? 0 : -1;
}

void tls_tickets_done(struct tls_tickets *t)
{
    if (t->key != NULL)
        OPENSSL_cleanse(t->key, t->count * sizeof *t->key);
    free(t->key);
    EVP_CIPHER_free(t->cipher);
    *t = (struct tls_tickets){0};
}

bool tls_ticket_is_ours(const struct tls_server *s, struct slice ticket)
{
    const struct tls_tickets *t = &s->tickets;
    uint8_t mac[MAC_BYTES];
    if (ticket.n < TICKET_BYTES_MIN || (ticket.n - MAC_BYTES - NAME_BYTES) % BLOCK_BYTES != 0)
        return false;
    struct slice sealed = slice_take(ticket, ticket.n - MAC_BYTES);
    for (size_t i = 0; i < t->count; i++) {
        const struct tls_ticket_key *k = &t->key[i];
        if (memcmp(ticket.p, k->name, sizeof k->name) != 0)
            continue;
        flow_mac(&k->mac, &sealed, 1, mac);
        return flow_mac_equal(mac, (const uint8_t *)ticket.p + sealed.n, MAC_BYTES);
    }
    return false;
}

static bool mac_begin(EVP_MAC_CTX *mac, const struct tls_ticket_key *k)
{
    uint8_t key[sizeof k->mac_key];
    char digest[] = "SHA256";
    memcpy(key, k->mac_key, sizeof key);
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key, sizeof key),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(key, sizeof key);
    return ok;
}

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb(3) wants it: 0 = no ticket, or a full handshake; 2 =
 * good, and the client should have a newer one. */
static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int enc)
{
    const struct tls_server *s = tls_server_of(ssl);
    const struct tls_tickets *t = s != NULL ? &s->tickets : NULL;
    if (t == NULL || t->count == 0)
        return 0;
    if (enc == 1) {
        const struct tls_ticket_key *k = &t->key[0];
        memcpy(name, k->name, sizeof k->name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(t->cipher)) != 1 ||
            EVP_EncryptInit_ex2(cipher, t->cipher, k->cipher_key, iv, NULL) != 1 ||
            !mac_begin(mac, k))
            return -1;
        return 1;
    }
    for (size_t i = 0; i < t->count; i++) {
        const struct tls_ticket_key *k = &t->key[i];
        if (memcmp(name, k->name, sizeof k->name) != 0)
            continue;
        if (EVP_DecryptInit_ex2(cipher, t->cipher, k->cipher_key, iv, NULL) != 1 ||
            !mac_begin(mac, k))
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}

void tls_tickets_use(const struct tls_tickets *t, SSL_CTX *ctx)
{
    /* A ticket holds all; a cache would only hold what no other edge has. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (t->count == 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(ctx, 0);
        return;
    }
    (void)SSL_CTX_set_num_tickets(ctx, 1);
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}
