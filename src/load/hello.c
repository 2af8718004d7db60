/* SPDX-License-Identifier: Apache-2.0
 *
 * A handshake for crowds: TLS 1.3 as a client (RFC 8446 4), X25519 and AES-128-GCM-SHA256 alone,
 * for --insecure. What the server must do is the same; what we do is a fifth of what OpenSSL would:
 *
 *   one key for all     our half of X25519 is made once, so a handshake is one multiplication
 *   no certificate      nothing of it is read, nor its signature: nobody asked who it is
 *   400 bytes           of state while the server is busy, where OpenSSL holds 45 KB
 *
 *      client_hello ──▶
 *                    ◀── ServerHello ── secrets of the handshake
 *                    ◀── {EncryptedExtensions Certificate CertificateVerify} ── hashed, not read
 *                    ◀── {Finished} ── verified, secrets of the traffic
 *      {Finished}   ──▶ a struct tls_flow
 *
 * A server that wants anything else (TLS 1.2, another group or suite, a certificate of ours) ends
 * as OTHER: then OpenSSL has to do it.
 *
 * That all connections have one key would be a sin for anybody who has something to hide; here it
 * is a number that the same machine made up for itself. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include "load/load_int.h"

enum {
    HASH_BYTES = 32,
    KEY_BYTES = 16,
    IV_BYTES = 12,
    TAG_BYTES = 16,
    RANDOM_AT = 5 + 4 + 2, /* in our record: behind its head, the message's head, the version */
    SERVER_HELLO_BYTES_MAX = 512,
    SUITE = 0x1301,
    GROUP = 0x001d,
    TYPE_CHANGE_CIPHER_SPEC = 20,
    TYPE_ALERT = 21,
    TYPE_HANDSHAKE = 22,
    TYPE_DATA = 23,
    HS_SERVER_HELLO = 2,
    HS_NEW_SESSION_TICKET = 4,
    HS_CERTIFICATE_REQUEST = 13,
    HS_FINISHED = 20,
    EXT_PRE_SHARED_KEY = 41,
    EXT_SUPPORTED_VERSIONS = 43,
    EXT_KEY_SHARE = 51,
};

struct hello_env {
    EVP_PKEY *key;
    EVP_PKEY_CTX *derive;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *open, *seal;
    uint8_t derived[HASH_BYTES]; /* RFC 8446 7.1: what the handshake's secret is extracted with */
    size_t n, extensions_at;
    uint8_t record[512];                       /* our ClientHello, but for its random */
    uint8_t sent[512 + TICKET_BYTES_MAX + 64]; /* the last one as it left */
};

enum state { WAITS_SERVER_HELLO, WAITS_FINISHED, IS_DONE };

struct hello {
    struct hello_env *env;
    SHA256_CTX transcript;
    uint8_t state;
    uint8_t head_n;  /* of the message's head that have come */
    uint8_t head[4]; /* type, length */
    uint8_t body[HASH_BYTES];
    uint32_t left; /* of the message's body */
    uint32_t body_n;
    uint8_t before_finished[HASH_BYTES]; /* hash of all before the server's Finished */
    uint8_t handshake[HASH_BYTES], client[HASH_BYTES], server[HASH_BYTES];
    uint8_t derived[HASH_BYTES]; /* of our ticket's key, when one was offered */
    uint8_t resumption[HASH_BYTES];
    bool has_offered, is_resumed;
    uint8_t key[KEY_BYTES], iv[IV_BYTES];
    uint64_t seq;
    struct tls_flow flow;
};

/* ---- hashes (RFC 5869, RFC 8446 7.1) ------------------------------------------------------------
 */

static void hmac(const uint8_t key[HASH_BYTES], const void *p, size_t n, uint8_t out[HASH_BYTES])
{
    uint8_t pad[64];
    SHA256_CTX c;
    memset(pad, 0x36, sizeof pad);
    for (int i = 0; i < HASH_BYTES; i++)
        pad[i] ^= key[i];
    SHA256_Init(&c);
    SHA256_Update(&c, pad, sizeof pad);
    SHA256_Update(&c, p, n);
    SHA256_Final(out, &c);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&c);
    SHA256_Update(&c, pad, sizeof pad);
    SHA256_Update(&c, out, HASH_BYTES);
    SHA256_Final(out, &c);
}

/* HKDF-Expand-Label for at most 32 bytes; the context has as many at most. */
static void expand_with(const uint8_t secret[HASH_BYTES], const char *label, const uint8_t *context,
                        size_t context_n, uint8_t *out, size_t n)
{
    uint8_t info[80], block[HASH_BYTES];
    char bytes[32];
    struct text t = text_into(bytes, sizeof bytes);
    TEXT_LIT(&t, "tls13 ");
    text_put(&t, slice_cstr(label));
    size_t at = 0;
    info[at++] = 0;
    info[at++] = (uint8_t)n;
    info[at++] = (uint8_t)t.n;
    memcpy(info + at, bytes, t.n);
    at += t.n;
    info[at++] = (uint8_t)context_n;
    if (context_n > 0)
        memcpy(info + at, context, context_n);
    at += context_n;
    info[at++] = 1;
    hmac(secret, info, at, block);
    memcpy(out, block, n);
}

/* The same with a hash, or NULL for none. */
static void expand(const uint8_t secret[HASH_BYTES], const char *label, const uint8_t *hash,
                   uint8_t *out, size_t n)
{
    expand_with(secret, label, hash, hash != NULL ? HASH_BYTES : 0, out, n);
}

static void hash_so_far(const struct hello *h, uint8_t out[HASH_BYTES])
{
    SHA256_CTX c = h->transcript;
    SHA256_Final(out, &c);
}

static void hash_of_nothing(uint8_t out[HASH_BYTES])
{
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Final(out, &c);
}

static void keys_of(const uint8_t secret[HASH_BYTES], uint8_t key[KEY_BYTES], uint8_t iv[IV_BYTES])
{
    expand(secret, "key", NULL, key, KEY_BYTES);
    expand(secret, "iv", NULL, iv, IV_BYTES);
}

/* ---- our ClientHello ----------------------------------------------------------------------------
 */

struct out {
    uint8_t *p;
    size_t n;
};

static void put(struct out *o, uint64_t v, int bytes)
{
    (void)bytes_put_be(o->p + o->n, v, bytes);
    o->n += (size_t)bytes;
}

static void put_bytes(struct out *o, const void *p, size_t n)
{
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

/* Writes what was put since `at` as a length of `bytes` at `at`, which was left free. */
static void close_length(struct out *o, size_t at, int bytes)
{
    (void)bytes_put_be(o->p + at, o->n - at - (size_t)bytes, bytes);
}

static void put_server_name(struct out *o, struct slice name)
{
    if (name.n == 0 || name.n > 200)
        return;
    put(o, 0, 2);
    put(o, name.n + 5, 2);
    put(o, name.n + 3, 2);
    put(o, 0, 1);
    put(o, name.n, 2);
    put_bytes(o, name.p, name.n);
}

static void put_extensions(struct out *o, const uint8_t share[32], struct slice name)
{
    static const uint16_t signatures[] = {0x0403, 0x0804, 0x0401, 0x0503, 0x0805,
                                          0x0501, 0x0806, 0x0601, 0x0807};
    enum { SIGNATURES = sizeof signatures / sizeof signatures[0] };
    put_server_name(o, name);
    put(o, EXT_SUPPORTED_VERSIONS, 2);
    put(o, 0x0003020304, 5);
    put(o, 10, 2); /* supported_groups */
    put(o, 0x00040002, 4);
    put(o, GROUP, 2);
    put(o, 13, 2); /* signature_algorithms */
    put(o, 2 * SIGNATURES + 2, 2);
    put(o, 2 * SIGNATURES, 2);
    for (int i = 0; i < SIGNATURES; i++)
        put(o, signatures[i], 2);
    put(o, 45, 2); /* psk_key_exchange_modes: we take tickets, as phones do */
    put(o, 0x00020101, 4);
    put(o, EXT_KEY_SHARE, 2);
    put(o, 38, 2);
    put(o, 36, 2);
    put(o, GROUP, 2);
    put(o, 32, 2);
    put_bytes(o, share, 32);
}

static void close_lengths(struct out *o, size_t extensions_at)
{
    close_length(o, extensions_at, 2);
    close_length(o, 6, 3);
    close_length(o, 3, 2);
}

static void write_client_hello(struct hello_env *e, const uint8_t share[32], struct slice name)
{
    struct out o = {e->record, 0};
    put(&o, 0x160301, 3);
    put(&o, 0, 2);
    put(&o, 1, 1);
    put(&o, 0, 3);
    put(&o, 0x0303, 2);
    o.n += 32; /* random */
    put(&o, 0, 1);
    put(&o, 2, 2);
    put(&o, SUITE, 2);
    put(&o, 0x0100, 2); /* no compression */
    e->extensions_at = o.n;
    put(&o, 0, 2);
    put_extensions(&o, share, name);
    close_lengths(&o, e->extensions_at);
    e->n = o.n;
}

/* RFC 8446 4.2.11: the ticket and its age, and the proof that we have its key, which is over all
 * that stands before it. Gives h->derived. */
static void offer_ticket(struct hello *h, const struct ticket *t, mono_ns now, struct out *o)
{
    static const uint8_t zeros[HASH_BYTES];
    uint8_t early[HASH_BYTES], nothing[HASH_BYTES], key[HASH_BYTES], hash[HASH_BYTES];
    SHA256_CTX c;
    hash_of_nothing(nothing);
    hmac(zeros, t->key, HASH_BYTES, early);
    expand(early, "derived", nothing, h->derived, HASH_BYTES);
    h->has_offered = true;
    put(o, EXT_PRE_SHARED_KEY, 2);
    put(o, 2 + 2 + t->n + 4U + 2 + 1 + HASH_BYTES, 2);
    put(o, 2 + t->n + 4U, 2);
    put(o, t->n, 2);
    put_bytes(o, t->bytes, t->n);
    put(o, t->age_add + (uint32_t)(mono_since(now, t->came) / NS_MS), 4);
    size_t at = o->n;
    o->n += 2 + 1 + HASH_BYTES;
    close_lengths(o, h->env->extensions_at);
    SHA256_Init(&c);
    SHA256_Update(&c, o->p + 5, at - 5);
    SHA256_Final(hash, &c);
    expand(early, "res binder", nothing, key, HASH_BYTES);
    expand(key, "finished", NULL, key, HASH_BYTES);
    o->n = at;
    put(o, 1 + HASH_BYTES, 2);
    put(o, HASH_BYTES, 1);
    hmac(key, hash, HASH_BYTES, o->p + o->n);
    o->n += HASH_BYTES;
}

/* ---- what all share -----------------------------------------------------------------------------
 */

struct hello_env *load__hello_env_new(struct slice name)
{
    static const uint8_t zeros[HASH_BYTES];
    uint8_t early[HASH_BYTES], nothing[HASH_BYTES], share[32];
    size_t n = sizeof share;
    struct hello_env *e = (struct hello_env *)calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    e->derive = e->key != NULL ? EVP_PKEY_CTX_new(e->key, NULL) : NULL;
    e->cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    e->open = EVP_CIPHER_CTX_new();
    e->seal = EVP_CIPHER_CTX_new();
    if (e->derive == NULL || e->cipher == NULL || e->open == NULL || e->seal == NULL ||
        EVP_PKEY_derive_init(e->derive) != 1 ||
        EVP_PKEY_get_raw_public_key(e->key, share, &n) != 1 || n != sizeof share ||
        EVP_DecryptInit_ex(e->open, e->cipher, NULL, NULL, NULL) != 1 ||
        EVP_EncryptInit_ex(e->seal, e->cipher, NULL, NULL, NULL) != 1) {
        load__hello_env_free(e);
        return NULL;
    }
    hmac(zeros, zeros, HASH_BYTES, early);
    hash_of_nothing(nothing);
    expand(early, "derived", nothing, e->derived, HASH_BYTES);
    write_client_hello(e, share, name);
    return e;
}

void load__hello_env_free(struct hello_env *e)
{
    if (e == NULL)
        return;
    EVP_CIPHER_CTX_free(e->open);
    EVP_CIPHER_CTX_free(e->seal);
    EVP_CIPHER_free(e->cipher);
    EVP_PKEY_CTX_free(e->derive);
    EVP_PKEY_free(e->key);
    free(e);
}

struct hello *load__hello_new(struct hello_env *e, struct prng *prng, const struct ticket *t,
                              mono_ns now, struct slice *ret_out)
{
    struct hello *h = (struct hello *)calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->env = e;
    memcpy(e->sent, e->record, e->n);
    for (size_t i = 0; i < 32; i += 8) {
        uint64_t v = prng_u64(prng);
        memcpy(e->sent + RANDOM_AT + i, &v, 8);
    }
    struct out o = {e->sent, e->n};
    if (t != NULL && t->n > 0)
        offer_ticket(h, t, now, &o);
    SHA256_Init(&h->transcript);
    SHA256_Update(&h->transcript, e->sent + 5, o.n - 5);
    *ret_out = slice_of(e->sent, o.n);
    return h;
}

void load__hello_free(struct hello *h)
{
    free(h);
}

void load__hello_flow(const struct hello *h, struct tls_flow *ret_flow)
{
    *ret_flow = h->flow;
}

bool load__hello_is_resumed(const struct hello *h)
{
    return h->is_resumed;
}

void load__hello_ticket(const struct hello *h, struct ticket *ret_ticket)
{
    memcpy(ret_ticket->resumption, h->resumption, HASH_BYTES);
}

void load__ticket_take(struct ticket *t, struct slice message, mono_ns now)
{
    const uint8_t *at = (const uint8_t *)message.p;
    size_t n = message.n;
    if (n < 4 + 4 + 4 + 1 || at[0] != HS_NEW_SESSION_TICKET)
        return;
    at += 4 + 4;
    uint32_t age_add = (uint32_t)bytes_get_be(&at, 4);
    size_t nonce_n = (size_t)bytes_get_be(&at, 1);
    const uint8_t *nonce = at;
    if (nonce_n > HASH_BYTES || n < 13 + nonce_n + 2)
        return;
    at += nonce_n;
    size_t ticket_n = (size_t)bytes_get_be(&at, 2);
    if (ticket_n == 0 || ticket_n > TICKET_BYTES_MAX || n < 15 + nonce_n + ticket_n)
        return;
    expand_with(t->resumption, "resumption", nonce, nonce_n, t->key, HASH_BYTES);
    memcpy(t->bytes, at, ticket_n);
    t->n = (uint16_t)ticket_n;
    t->age_add = age_add;
    t->came = now;
}

/* ---- ServerHello --------------------------------------------------------------------------------
 */

/* Finds the version and the server's half of the key. False: something else than what we do. */
static bool read_extensions(struct hello *h, const uint8_t *p, size_t n, const uint8_t **ret_share)
{
    bool is_13 = false;
    *ret_share = NULL;
    while (n >= 4) {
        const uint8_t *at = p;
        uint64_t type = bytes_get_be(&at, 2), len = bytes_get_be(&at, 2);
        if (len > n - 4)
            return false;
        if (type == EXT_SUPPORTED_VERSIONS && len == 2)
            is_13 = at[0] == 3 && at[1] == 4;
        if (type == EXT_KEY_SHARE && len == 36) {
            bool is_ours = bytes_get_be(&at, 2) == GROUP && bytes_get_be(&at, 2) == 32;
            *ret_share = is_ours ? at : NULL;
        }
        if (type == EXT_PRE_SHARED_KEY) {
            if (!h->has_offered || len != 2 || at[0] != 0 || at[1] != 0)
                return false;
            h->is_resumed = true;
        }
        p += 4 + len;
        n -= 4 + len;
    }
    return is_13 && *ret_share != NULL;
}

static const uint8_t *share_of(struct hello *h, const uint8_t *p, size_t n)
{
    const uint8_t *share;
    if (n < 2 + 32 + 1 || n < 2U + 32 + 1 + p[34] + 5)
        return NULL;
    const uint8_t *at = p + 35 + p[34];
    if (bytes_get_be(&at, 2) != SUITE || bytes_get_be(&at, 1) != 0)
        return NULL;
    uint64_t len = bytes_get_be(&at, 2);
    if (len != n - (size_t)(at - p))
        return NULL;
    return read_extensions(h, at, len, &share) ? share : NULL;
}

static bool agree(struct hello_env *e, const uint8_t share[32], uint8_t out[32])
{
    size_t n = 32;
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, share, 32);
    bool ok = peer != NULL && EVP_PKEY_derive_set_peer(e->derive, peer) == 1 &&
              EVP_PKEY_derive(e->derive, out, &n) == 1 && n == 32;
    EVP_PKEY_free(peer);
    return ok;
}

/* A record that holds one ServerHello. Returns an enum hello_step. */
static int on_server_hello(struct hello *h, const uint8_t *p, size_t n)
{
    uint8_t shared[32], hash[HASH_BYTES];
    const uint8_t *at = p + 1;
    if (n < 4 || n > SERVER_HELLO_BYTES_MAX || p[0] != HS_SERVER_HELLO ||
        bytes_get_be(&at, 3) != n - 4)
        return HELLO_OTHER;
    const uint8_t *share = share_of(h, p + 4, n - 4);
    if (share == NULL || !agree(h->env, share, shared))
        return HELLO_OTHER;
    SHA256_Update(&h->transcript, p, n);
    hash_so_far(h, hash);
    hmac(h->is_resumed ? h->derived : h->env->derived, shared, sizeof shared, h->handshake);
    expand(h->handshake, "c hs traffic", hash, h->client, HASH_BYTES);
    expand(h->handshake, "s hs traffic", hash, h->server, HASH_BYTES);
    keys_of(h->server, h->key, h->iv);
    h->state = WAITS_FINISHED;
    return HELLO_MORE;
}

/* ---- what is sealed
 * ------------------------------------------------------------------------------ */

static void nonce_of(const uint8_t iv[IV_BYTES], uint64_t seq, uint8_t out[IV_BYTES])
{
    memcpy(out, iv, IV_BYTES);
    for (int i = 0; i < 8; i++)
        out[IV_BYTES - 1 - i] ^= (uint8_t)(seq >> (8 * i));
}

/* Opens a record of the handshake in place. The bytes inside, or -1. */
static int open_record(struct hello *h, uint8_t *p, size_t n, uint8_t *ret_type)
{
    EVP_CIPHER_CTX *c = h->env->open;
    uint8_t nonce[IV_BYTES];
    int got = 0, last = 0;
    if (n < 5 + 1 + TAG_BYTES)
        return -1;
    int sealed = (int)(n - 5 - TAG_BYTES);
    nonce_of(h->iv, h->seq++, nonce);
    if (EVP_DecryptInit_ex(c, NULL, NULL, h->key, nonce) != 1 ||
        EVP_DecryptUpdate(c, NULL, &got, p, 5) != 1 ||
        EVP_DecryptUpdate(c, p + 5, &got, p + 5, sealed) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, p + n - TAG_BYTES) != 1 ||
        EVP_DecryptFinal_ex(c, p + 5 + got, &last) != 1)
        return -1;
    while (got > 0 && p[5 + got - 1] == 0) /* padding */
        got--;
    if (got == 0)
        return -1;
    *ret_type = p[5 + got - 1];
    return got - 1;
}

/* Our Finished (RFC 8446 4.4.4), as a record. */
static bool write_finished(struct hello *h, const uint8_t hash[HASH_BYTES],
                           uint8_t out[HELLO_OUT_BYTES_MAX])
{
    EVP_CIPHER_CTX *c = h->env->seal;
    uint8_t secret[HASH_BYTES], key[KEY_BYTES], iv[IV_BYTES], plain[4 + HASH_BYTES + 1];
    int n = 0, last = 0;
    static const uint8_t head[] = {HS_FINISHED, 0, 0, HASH_BYTES};
    memcpy(plain, head, 4);
    expand(h->client, "finished", NULL, secret, HASH_BYTES);
    hmac(secret, hash, HASH_BYTES, plain + 4);
    SHA256_Update(&h->transcript, plain, 4 + HASH_BYTES);
    plain[4 + HASH_BYTES] = TYPE_HANDSHAKE;
    keys_of(h->client, key, iv);
    uint8_t *p = bytes_put_be(out, 0x170303, 3);
    p = bytes_put_be(p, sizeof plain + TAG_BYTES, 2);
    return EVP_EncryptInit_ex(c, NULL, NULL, key, iv) == 1 &&
           EVP_EncryptUpdate(c, NULL, &n, out, 5) == 1 &&
           EVP_EncryptUpdate(c, p, &n, plain, (int)sizeof plain) == 1 &&
           EVP_EncryptFinal_ex(c, p + n, &last) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, p + n) == 1;
}

static int on_finished(struct hello *h, uint8_t out[HELLO_OUT_BYTES_MAX], size_t *ret_out)
{
    static const uint8_t zeros[HASH_BYTES];
    uint8_t secret[HASH_BYTES], wanted[HASH_BYTES], hash[HASH_BYTES], nothing[HASH_BYTES];
    uint8_t derived[HASH_BYTES], master[HASH_BYTES], client[HASH_BYTES], server[HASH_BYTES];
    expand(h->server, "finished", NULL, secret, HASH_BYTES);
    hmac(secret, h->before_finished, HASH_BYTES, wanted);
    if (CRYPTO_memcmp(wanted, h->body, HASH_BYTES) != 0)
        return HELLO_FAILED;
    hash_so_far(h, hash);
    hash_of_nothing(nothing);
    expand(h->handshake, "derived", nothing, derived, HASH_BYTES);
    hmac(derived, zeros, HASH_BYTES, master);
    expand(master, "c ap traffic", hash, client, HASH_BYTES);
    expand(master, "s ap traffic", hash, server, HASH_BYTES);
    if (!write_finished(h, hash, out))
        return HELLO_FAILED;
    *ret_out = HELLO_OUT_BYTES_MAX;
    hash_so_far(h, hash);
    expand(master, "res master", hash, h->resumption, HASH_BYTES);
    tls_flow_init_13(&h->flow, TLS_AES_128_GCM_SHA256, true, client, server);
    h->state = IS_DONE;
    return HELLO_DONE;
}

/* A message's head is whole. False: it is one that OpenSSL has to answer, or too long. */
static bool begin_message(struct hello *h)
{
    const uint8_t *at = h->head + 1;
    h->left = (uint32_t)bytes_get_be(&at, 3);
    h->body_n = 0;
    if (h->head[0] == HS_CERTIFICATE_REQUEST ||
        (h->head[0] == HS_FINISHED && h->left != HASH_BYTES))
        return false;
    if (h->head[0] == HS_FINISHED)
        hash_so_far(h, h->before_finished);
    SHA256_Update(&h->transcript, h->head, sizeof h->head);
    return true;
}

/* Bytes of messages, however they are cut. */
static int on_messages(struct hello *h, const uint8_t *p, size_t n,
                       uint8_t out[HELLO_OUT_BYTES_MAX], size_t *ret_out)
{
    while (n > 0) {
        if (h->head_n < sizeof h->head) {
            h->head[h->head_n++] = *p++;
            n--;
            if (h->head_n == sizeof h->head && !begin_message(h))
                return HELLO_OTHER;
        }
        size_t take = h->head_n < sizeof h->head ? 0 : n < h->left ? n : h->left;
        if (take > 0) {
            SHA256_Update(&h->transcript, p, take);
            if (h->head[0] == HS_FINISHED)
                memcpy(h->body + h->body_n, p, take);
            h->body_n += (uint32_t)take;
            h->left -= (uint32_t)take;
            p += take;
            n -= take;
        }
        if (h->head_n < sizeof h->head || h->left > 0)
            continue;
        h->head_n = 0;
        if (h->head[0] == HS_FINISHED)
            return n == 0 ? on_finished(h, out, ret_out) : HELLO_FAILED;
    }
    return HELLO_MORE;
}

static int on_record(struct hello *h, uint8_t *p, size_t n, uint8_t out[HELLO_OUT_BYTES_MAX],
                     size_t *ret_out)
{
    uint8_t type = 0;
    if (p[0] == TYPE_CHANGE_CIPHER_SPEC) /* RFC 8446 5: without meaning */
        return HELLO_MORE;
    if (h->state == WAITS_SERVER_HELLO)
        return p[0] == TYPE_HANDSHAKE ? on_server_hello(h, p + 5, n - 5) : HELLO_OTHER;
    if (p[0] != TYPE_DATA)
        return HELLO_FAILED;
    int inside = open_record(h, p, n, &type);
    if (inside < 0 || type != TYPE_HANDSHAKE)
        return HELLO_FAILED;
    return on_messages(h, p + 5, (size_t)inside, out, ret_out);
}

int load__hello_step(struct hello *h, char *in, size_t n, size_t *ret_used,
                     uint8_t out[HELLO_OUT_BYTES_MAX], size_t *ret_out)
{
    uint8_t *p = (uint8_t *)in;
    size_t at = 0;
    *ret_out = 0;
    int r = h->state == IS_DONE ? HELLO_DONE : HELLO_MORE;
    while (r == HELLO_MORE && n - at >= 5) {
        const uint8_t *length = p + at + 3;
        size_t whole = 5 + (size_t)bytes_get_be(&length, 2);
        if (whole > TLS_RECORD_BYTES_MAX || (p[at] < TYPE_CHANGE_CIPHER_SPEC) || p[at] > TYPE_DATA)
            r = HELLO_FAILED;
        else if (whole > n - at)
            break;
        else
            r = on_record(h, p + at, whole, out, ret_out);
        at += r == HELLO_FAILED ? 0 : whole;
    }
    *ret_used = at;
    return r;
}
