/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS records after the handshake. OpenSSL computes; what may come when, how long it may be and
 * which key it has, is decided here. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include "wire/tls_record.h"

enum { OPENING = 0, SEALING = 1 };
enum { MINOR_12 = 3, MINOR_13 = 4 };
enum { TAG_BYTES = 16, EXPLICIT_BYTES = 8, NONCE_BYTES = 12 };
enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };
enum { HS_NEW_SESSION_TICKET = 4, HS_KEY_UPDATE = 24, HS_HEAD_BYTES = 4, KEY_UPDATE_BYTES = 5 };
enum { LEVEL_WARNING = 1, LEVEL_FATAL = 2 };

/* AES-GCM stays safe for 2^24.5 full records of one key (RFC 8446 5.5), which is about this much;
 * ChaCha20-Poly1305 has no limit that anybody would reach. */
#define GCM_BYTES_MAX (1ULL << 38)

/* ---- derivation: HMAC by hand, as OpenSSL's would allocate ----------------------------------- */

union digest {
    SHA256_CTX sha256;
    SHA512_CTX sha384;
};
enum { BLOCK_BYTES_MAX = 128, HASH_BYTES_MAX = 48 };

static bool is_sha384(enum tls_suite suite)
{
    return suite == TLS_AES_256_GCM_SHA384;
}

static size_t hash_bytes(enum tls_suite suite)
{
    return is_sha384(suite) ? 48 : 32;
}

static size_t key_bytes(enum tls_suite suite)
{
    return suite == TLS_AES_128_GCM_SHA256 ? 16 : 32;
}

static void digest_begin(union digest *d, enum tls_suite suite)
{
    if (is_sha384(suite))
        SHA384_Init(&d->sha384);
    else
        SHA256_Init(&d->sha256);
}

static void digest_add(union digest *d, enum tls_suite suite, const void *p, size_t n)
{
    if (is_sha384(suite))
        SHA384_Update(&d->sha384, p, n);
    else
        SHA256_Update(&d->sha256, p, n);
}

static void digest_end(union digest *d, enum tls_suite suite, uint8_t out[HASH_BYTES_MAX])
{
    if (is_sha384(suite))
        SHA384_Final(out, &d->sha384);
    else
        SHA256_Final(out, &d->sha256);
}

/* HMAC (RFC 2104) of three pieces, with a key that is not longer than a block. */
static void hmac(enum tls_suite suite, const uint8_t *key, size_t key_n,
                 const struct slice pieces[3], uint8_t out[HASH_BYTES_MAX])
{
    union digest d;
    uint8_t pad[BLOCK_BYTES_MAX];
    size_t block = is_sha384(suite) ? 128 : 64;
    memset(pad, 0x36, sizeof pad);
    for (size_t i = 0; i < key_n; i++)
        pad[i] ^= key[i];
    digest_begin(&d, suite);
    digest_add(&d, suite, pad, block);
    for (int i = 0; i < 3; i++)
        if (pieces[i].n > 0)
            digest_add(&d, suite, pieces[i].p, pieces[i].n);
    digest_end(&d, suite, out);
    for (size_t i = 0; i < block; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    digest_begin(&d, suite);
    digest_add(&d, suite, pad, block);
    digest_add(&d, suite, out, hash_bytes(suite));
    digest_end(&d, suite, out);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(&d, sizeof d);
}

/* HKDF-Expand-Label (RFC 8446 7.1) without context, of at most one hash's length: then its first
 * block is all there is. */
static void expand_label(enum tls_suite suite, const uint8_t *secret, struct slice label,
                         uint8_t *out, size_t n)
{
    uint8_t hash[HASH_BYTES_MAX];
    const uint8_t head[3] = {0, (uint8_t)n, (uint8_t)(6 + label.n)};
    char name[24];
    struct text t = text_into(name, sizeof name);
    TEXT_LIT(&t, "tls13 ");
    text_put(&t, label);
    const struct slice info[3] = {slice_of(head, sizeof head), text_slice(&t), SLICE("\0\1")};
    hmac(suite, secret, hash_bytes(suite), info, hash);
    memcpy(out, hash, n);
    OPENSSL_cleanse(hash, sizeof hash);
}

/* The keys that belong to a TLS 1.3 traffic secret (RFC 8446 7.3). */
static void keys_from_secret(struct tls_keys *k, enum tls_suite suite)
{
    expand_label(suite, k->secret, SLICE("key"), k->key, key_bytes(suite));
    expand_label(suite, k->secret, SLICE("iv"), k->iv, sizeof k->iv);
    k->seq = 0;
}

/* RFC 8446 7.2. */
static void keys_next(struct tls_keys *k, enum tls_suite suite)
{
    expand_label(suite, k->secret, SLICE("traffic upd"), k->secret, hash_bytes(suite));
    keys_from_secret(k, suite);
}

static void flow_begin(struct tls_flow *flow, enum tls_suite suite, bool is_client, uint8_t minor)
{
    *flow = (struct tls_flow){
        .suite = (uint8_t)suite,
        .is_client = is_client,
        .minor = minor,
        .record_max = TLS_PLAIN_BYTES_MAX,
    };
}

void tls_flow_init_13(struct tls_flow *flow, enum tls_suite suite, bool is_client,
                      const uint8_t *client_secret, const uint8_t *server_secret)
{
    flow_begin(flow, suite, is_client, MINOR_13);
    memcpy(flow->open.secret, is_client ? server_secret : client_secret, hash_bytes(suite));
    memcpy(flow->seal.secret, is_client ? client_secret : server_secret, hash_bytes(suite));
    keys_from_secret(&flow->open, suite);
    keys_from_secret(&flow->seal, suite);
}

/* The PRF of TLS 1.2 (RFC 5246 5): `n` bytes of P_hash(secret, label + seed). */
static void prf_12(enum tls_suite suite, const uint8_t master[48], struct slice label,
                   const uint8_t seed[64], uint8_t *out, size_t n)
{
    uint8_t a[HASH_BYTES_MAX], block[HASH_BYTES_MAX];
    const size_t hash = hash_bytes(suite);
    const struct slice first[3] = {label, slice_of(seed, 64), SLICE_NONE};
    hmac(suite, master, 48, first, a);
    while (n > 0) {
        const struct slice pieces[3] = {slice_of(a, hash), label, slice_of(seed, 64)};
        const struct slice again[3] = {slice_of(a, hash), SLICE_NONE, SLICE_NONE};
        size_t took = n < hash ? n : hash;
        hmac(suite, master, 48, pieces, block);
        memcpy(out, block, took);
        out += took;
        n -= took;
        hmac(suite, master, 48, again, a);
    }
    OPENSSL_cleanse(a, sizeof a);
    OPENSSL_cleanse(block, sizeof block);
}

void tls_flow_init_12(struct tls_flow *flow, enum tls_suite suite, bool is_client,
                      const uint8_t master[48], const uint8_t client_random[32],
                      const uint8_t server_random[32], uint64_t sealed_nonce)
{
    uint8_t seed[64], block[2 * 32 + 2 * NONCE_BYTES];
    const size_t key = key_bytes(suite), iv = suite == TLS_CHACHA20_POLY1305_SHA256 ? 12 : 4;
    memcpy(seed, server_random, 32);
    memcpy(seed + 32, client_random, 32);
    prf_12(suite, master, SLICE("key expansion"), seed, block, 2 * key + 2 * iv);
    flow_begin(flow, suite, is_client, MINOR_12);
    struct tls_keys *client = is_client ? &flow->seal : &flow->open;
    struct tls_keys *server = is_client ? &flow->open : &flow->seal;
    memcpy(client->key, block, key);
    memcpy(server->key, block + key, key);
    memcpy(client->iv, block + 2 * key, iv);
    memcpy(server->iv, block + 2 * key + iv, iv);
    if (suite != TLS_CHACHA20_POLY1305_SHA256)
        (void)bytes_put_be(flow->seal.iv + iv, sealed_nonce, EXPLICIT_BYTES);
    client->seq = server->seq = 1;
    OPENSSL_cleanse(block, sizeof block);
}

void tls_flow_wipe(struct tls_flow *flow)
{
    OPENSSL_cleanse(flow, sizeof *flow);
    flow->is_over = true;
}

/* ---- the cipher ------------------------------------------------------------------------------ */

static bool has_explicit_nonce(const struct tls_flow *flow)
{
    return flow->minor == MINOR_12 && flow->suite != TLS_CHACHA20_POLY1305_SHA256;
}

static size_t extra_bytes(const struct tls_flow *flow)
{
    return TLS_HEAD_BYTES + TAG_BYTES +
           (has_explicit_nonce(flow)  ? EXPLICIT_BYTES
            : flow->minor == MINOR_13 ? 1
                                      : 0);
}

/* The nonce of the next record where both ends know it: RFC 8446 5.3, RFC 7905 2. */
static void implicit_nonce(const struct tls_keys *k, uint8_t nonce[NONCE_BYTES])
{
    uint8_t seq[8];
    (void)bytes_put_be(seq, k->seq, 8);
    memcpy(nonce, k->iv, NONCE_BYTES);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= seq[i];
}

/* What is authenticated beside the bytes. Returns its size. */
static int additional_data(const struct tls_flow *flow, uint64_t seq, const char *head, size_t n,
                           uint8_t aad[13])
{
    if (flow->minor == MINOR_13) { /* the record's head, RFC 8446 5.2 */
        memcpy(aad, head, TLS_HEAD_BYTES);
        return TLS_HEAD_BYTES;
    }
    (void)bytes_put_be(aad, seq, 8); /* RFC 5246 6.2.3.3 */
    memcpy(aad + 8, head, 3);
    (void)bytes_put_be(aad + 11, n, 2);
    return 13;
}

/* The cipher of a flow's direction, ready for one record. A thread serves many flows, and one flow
 * many records: the key's schedule is only computed when the key is another than last time. */
static EVP_CIPHER_CTX *cipher_ready(struct tls_codec *codec, const struct tls_flow *flow, int way,
                                    const uint8_t nonce[NONCE_BYTES])
{
    const struct tls_keys *k = way == OPENING ? &flow->open : &flow->seal;
    EVP_CIPHER_CTX *c = codec->cipher[flow->suite][way];
    uint8_t *last = codec->key[flow->suite][way];
    bool same = codec->has_key[flow->suite][way] &&
                CRYPTO_memcmp(last, k->key, key_bytes(flow->suite)) == 0;
    if (EVP_CipherInit_ex(c, NULL, NULL, same ? NULL : k->key, nonce, -1) != 1) {
        codec->has_key[flow->suite][way] = false;
        return NULL;
    }
    if (!same) {
        memcpy(last, k->key, key_bytes(flow->suite));
        codec->has_key[flow->suite][way] = true;
    }
    return c;
}

/* Decrypts the payload of a record in place: `n` bytes at `p` with the tag behind them. 0 or minus
 * an alert. */
static int decrypt(struct tls_codec *codec, struct tls_flow *flow, const char *head, char *p,
                   size_t n, const uint8_t nonce[NONCE_BYTES])
{
    uint8_t aad[13], *bytes = (uint8_t *)p, none[TAG_BYTES];
    int aad_n = additional_data(flow, flow->open.seq, head, n, aad), got = 0;
    EVP_CIPHER_CTX *c = cipher_ready(codec, flow, OPENING, nonce);
    if (c == NULL || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, bytes + n) != 1 ||
        EVP_DecryptUpdate(c, NULL, &got, aad, aad_n) != 1)
        return -TLS_A_INTERNAL_ERROR;
    if (n > 0 && EVP_DecryptUpdate(c, bytes, &got, bytes, (int)n) != 1)
        return -TLS_A_BAD_RECORD_MAC;
    if (EVP_DecryptFinal_ex(c, none, &got) != 1)
        return -TLS_A_BAD_RECORD_MAC;
    flow->open.seq++;
    return 0;
}

/* The same the other way; writes the tag. False when OpenSSL could not. */
static bool encrypt(struct tls_codec *codec, struct tls_flow *flow, const char *head, char *p,
                    size_t n, const uint8_t nonce[NONCE_BYTES])
{
    uint8_t aad[13], *bytes = (uint8_t *)p;
    int aad_n = additional_data(flow, flow->seal.seq, head, n, aad), got = 0;
    EVP_CIPHER_CTX *c = cipher_ready(codec, flow, SEALING, nonce);
    if (c == NULL || EVP_EncryptUpdate(c, NULL, &got, aad, aad_n) != 1 ||
        (n > 0 && EVP_EncryptUpdate(c, bytes, &got, bytes, (int)n) != 1) ||
        EVP_EncryptFinal_ex(c, bytes + n, &got) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, bytes + n) != 1)
        return false;
    flow->seal.seq++;
    return true;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What the first 5 bytes of a record say. 0 or minus an alert. */
static int head_check(const struct tls_flow *flow, const uint8_t *p, size_t *ret_payload)
{
    const size_t n = (size_t)p[3] << 8 | p[4];
    if (flow->minor == MINOR_13) { /* its version is to be ignored: RFC 8446 5.1 */
        if (p[0] != TYPE_DATA)
            return -TLS_A_UNEXPECTED_MESSAGE;
        if (n > TLS_PLAIN_BYTES_MAX + 256)
            return -TLS_A_RECORD_OVERFLOW;
    } else {
        if (p[0] < TYPE_ALERT || p[0] > TYPE_DATA)
            return -TLS_A_UNEXPECTED_MESSAGE;
        if (p[1] != 3 || p[2] != MINOR_12)
            return -TLS_A_PROTOCOL_VERSION;
        if (n > TLS_PLAIN_BYTES_MAX + extra_bytes(flow) - TLS_HEAD_BYTES)
            return -TLS_A_RECORD_OVERFLOW;
    }
    if (n < extra_bytes(flow) - TLS_HEAD_BYTES)
        return -TLS_A_DECODE_ERROR;
    *ret_payload = n;
    return 0;
}

/* Finds the inner type at the end of a TLS 1.3 payload, before its padding (RFC 8446 5.4). */
static int inner_type(struct slice *plain)
{
    size_t n = plain->n;
    if (n > TLS_PLAIN_BYTES_MAX + 1)
        return -TLS_A_RECORD_OVERFLOW;
    while (n > 0 && plain->p[n - 1] == 0)
        n--;
    if (n == 0)
        return -TLS_A_UNEXPECTED_MESSAGE;
    plain->n = n - 1;
    return (uint8_t)plain->p[n - 1];
}

static int take_alert(const struct tls_flow *flow, struct slice plain)
{
    if (plain.n != 2)
        return -TLS_A_DECODE_ERROR;
    const uint8_t level = (uint8_t)plain.p[0], code = (uint8_t)plain.p[1];
    if (code == TLS_A_CLOSE_NOTIFY)
        return TLS_CLOSE;
    if (flow->minor == MINOR_13) /* the level has no meaning any more: RFC 8446 6 */
        return code == TLS_A_USER_CANCELED ? TLS_QUIET : TLS_ALERT;
    if (level != LEVEL_WARNING && level != LEVEL_FATAL)
        return -TLS_A_ILLEGAL_PARAMETER;
    return level == LEVEL_WARNING ? TLS_QUIET : TLS_ALERT;
}

/* RFC 8446 4.6.3, and 5.1: nothing may stand behind a message that changes keys. */
static int take_key_update(struct tls_flow *flow, const uint8_t *body, size_t n, bool is_last)
{
    if (n != 1)
        return -TLS_A_DECODE_ERROR;
    if (body[0] > 1)
        return -TLS_A_ILLEGAL_PARAMETER;
    if (!is_last)
        return -TLS_A_UNEXPECTED_MESSAGE;
    keys_next(&flow->open, flow->suite);
    if (body[0] == 1)
        flow->owes_update = true;
    return TLS_QUIET;
}

/* A record of handshake messages. None may go on in another record: those that are allowed are
 * small, and whoever cuts them wants to see what we keep. */
static int take_handshake(struct tls_flow *flow, struct slice plain)
{
    const uint8_t *p = (const uint8_t *)plain.p;
    if (flow->minor == MINOR_12) {
        static const uint8_t hello_request[HS_HEAD_BYTES];
        bool may_pass = flow->is_client && plain.n == HS_HEAD_BYTES &&
                        memcmp(p, hello_request, HS_HEAD_BYTES) == 0;
        return may_pass ? TLS_QUIET : -TLS_A_NO_RENEGOTIATION;
    }
    int r = -TLS_A_UNEXPECTED_MESSAGE;
    for (size_t at = 0; at < plain.n;) {
        if (plain.n - at < HS_HEAD_BYTES)
            return -TLS_A_UNEXPECTED_MESSAGE;
        const uint8_t type = p[at];
        const size_t n = (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        at += HS_HEAD_BYTES;
        if (type != HS_KEY_UPDATE && !(type == HS_NEW_SESSION_TICKET && flow->is_client))
            return -TLS_A_UNEXPECTED_MESSAGE;
        if (n > plain.n - at)
            return -TLS_A_UNEXPECTED_MESSAGE;
        r = type == HS_KEY_UPDATE ? take_key_update(flow, p + at, n, at + n == plain.n) : TLS_QUIET;
        if (r < 0)
            return r;
        at += n;
    }
    return r;
}

/* What an opened record means. */
static int take_plain(struct tls_flow *flow, int type, struct slice plain)
{
    if (type == TYPE_DATA && plain.n > 0) {
        flow->idle = 0;
        return TLS_DATA;
    }
    if (++flow->idle > TLS_IDLE_RECORDS_MAX)
        return -TLS_A_UNEXPECTED_MESSAGE;
    switch (type) {
    case TYPE_DATA:
        return TLS_DATA;
    case TYPE_ALERT:
        return take_alert(flow, plain);
    case TYPE_HANDSHAKE:
        return take_handshake(flow, plain);
    default:
        return -TLS_A_UNEXPECTED_MESSAGE;
    }
}

/* Opens the record at `p`, which is whole, with a payload of `n` bytes. */
static int open_whole(struct tls_codec *codec, struct tls_flow *flow, char *p, size_t n,
                      struct slice *ret_plain)
{
    uint8_t nonce[NONCE_BYTES];
    char *payload = p + TLS_HEAD_BYTES;
    if (has_explicit_nonce(flow)) {
        memcpy(nonce, flow->open.iv, NONCE_BYTES - EXPLICIT_BYTES);
        memcpy(nonce + NONCE_BYTES - EXPLICIT_BYTES, payload, EXPLICIT_BYTES);
        payload += EXPLICIT_BYTES;
        n -= EXPLICIT_BYTES;
    } else {
        implicit_nonce(&flow->open, nonce);
    }
    n -= TAG_BYTES;
    int type = decrypt(codec, flow, p, payload, n, nonce);
    if (type < 0)
        return type;
    *ret_plain = slice_of(payload, n);
    type = flow->minor == MINOR_13 ? inner_type(ret_plain) : (uint8_t)p[0];
    return type < 0 ? type : take_plain(flow, type, *ret_plain);
}

int tls_open(struct tls_codec *codec, struct tls_flow *flow, char *p, size_t n, size_t *ret_used,
             struct slice *ret_plain)
{
    size_t payload = 0;
    struct slice plain = SLICE_NONE;
    *ret_used = 0;
    if (flow->is_over) {
        *ret_used = n;
        return TLS_MORE;
    }
    if (n < TLS_HEAD_BYTES)
        return TLS_MORE;
    int r = head_check(flow, (const uint8_t *)p, &payload);
    if (r == 0) {
        if (n - TLS_HEAD_BYTES < payload)
            return TLS_MORE;
        r = open_whole(codec, flow, p, payload, &plain);
    }
    if (r < 0 || r == TLS_CLOSE || r == TLS_ALERT) {
        flow->is_over = true;
        *ret_used = n;
    } else {
        *ret_used = TLS_HEAD_BYTES + payload;
    }
    if (r > 0)
        *ret_plain = plain;
    return r;
}

int tls_read(struct tls_codec *codec, struct tls_flow *flow, char *p, size_t *kept, size_t *n)
{
    size_t at = *kept, end = *n;
    int r = TLS_DATA;
    while (r == TLS_DATA || r == TLS_QUIET) {
        size_t used = 0;
        struct slice plain = SLICE_NONE;
        r = tls_open(codec, flow, p + at, end - at, &used, &plain);
        at += used;
        if (r == TLS_DATA && plain.n > 0) {
            memmove(p + *kept, plain.p, plain.n);
            *kept += plain.n;
        }
    }
    if (end > at && at > *kept)
        memmove(p + *kept, p + at, end - at);
    *n = *kept + (end - at);
    return r;
}

/* ---- sealing --------------------------------------------------------------------------------- */

/* Seals `n` bytes that stand at payload_place(dst) already: a whole record. */
static char *payload_place(const struct tls_flow *flow, char *dst)
{
    return dst + TLS_HEAD_BYTES + (has_explicit_nonce(flow) ? EXPLICIT_BYTES : 0);
}

/* Returns the record's size, 0 when OpenSSL could not. */
static size_t seal_record(struct tls_codec *codec, struct tls_flow *flow, uint8_t type, char *dst,
                          size_t n)
{
    uint8_t nonce[NONCE_BYTES], *head = (uint8_t *)dst;
    char *payload = payload_place(flow, dst);
    const size_t size = n + extra_bytes(flow);
    head[0] = type;
    if (flow->minor == MINOR_13) {
        payload[n++] = (char)type;
        head[0] = TYPE_DATA;
    }
    head[1] = 3;
    head[2] = MINOR_12; /* TLS 1.3 says so too: RFC 8446 5.1 */
    (void)bytes_put_be(head + 3, size - TLS_HEAD_BYTES, 2);
    if (has_explicit_nonce(flow)) {
        const uint8_t *base = flow->seal.iv + NONCE_BYTES - EXPLICIT_BYTES;
        uint64_t at = bytes_get_be(&base, EXPLICIT_BYTES) + flow->seal.seq;
        memcpy(nonce, flow->seal.iv, NONCE_BYTES - EXPLICIT_BYTES);
        (void)bytes_put_be(nonce + NONCE_BYTES - EXPLICIT_BYTES, at, EXPLICIT_BYTES);
        memcpy(head + TLS_HEAD_BYTES, nonce + NONCE_BYTES - EXPLICIT_BYTES, EXPLICIT_BYTES);
    } else {
        implicit_nonce(&flow->seal, nonce);
    }
    if (!encrypt(codec, flow, dst, payload, n, nonce))
        return 0;
    flow->sealed += size;
    return size;
}

static size_t plain_max(const struct tls_flow *flow)
{
    return flow->record_max > 0 && flow->record_max < TLS_PLAIN_BYTES_MAX ? flow->record_max
                                                                          : TLS_PLAIN_BYTES_MAX;
}

size_t tls_seal_room(const struct tls_flow *flow, size_t n)
{
    const size_t max = plain_max(flow);
    return n + (n / max + 1) * extra_bytes(flow) + TLS_UPDATE_BYTES_MAX;
}

/* Takes `n` bytes off the front of the pieces to `dst`. */
static void gather(const struct iovec *iov, size_t *piece, size_t *off, char *dst, size_t n)
{
    while (n > 0) {
        size_t left = iov[*piece].iov_len - *off;
        size_t took = left < n ? left : n;
        if (took > 0)
            memcpy(dst, (const char *)iov[*piece].iov_base + *off, took);
        dst += took;
        n -= took;
        *off += took;
        if (took == left) {
            ++*piece;
            *off = 0;
        }
    }
}

int64_t tls_seal(struct tls_codec *codec, struct tls_flow *flow, const struct iovec *iov,
                 size_t iov_count, char *dst, size_t cap)
{
    size_t total = 0, piece = 0, off = 0, at = 0;
    for (size_t i = 0; i < iov_count; i++)
        total += iov[i].iov_len;
    if (total == 0)
        return 0;
    const size_t room = tls_seal_room(flow, total);
    if (cap < room)
        return -1;
    bool is_worn =
        flow->suite != TLS_CHACHA20_POLY1305_SHA256 && flow->sealed + room > GCM_BYTES_MAX;
    if (is_worn && flow->minor == MINOR_12)
        return -1;
    if (is_worn || flow->owes_update)
        at = tls_key_update(codec, flow, false, dst);
    while (total > 0) {
        size_t n = total < plain_max(flow) ? total : plain_max(flow);
        gather(iov, &piece, &off, payload_place(flow, dst + at), n);
        size_t size = seal_record(codec, flow, TYPE_DATA, dst + at, n);
        if (size == 0)
            return -1;
        at += size;
        total -= n;
    }
    return (int64_t)at;
}

size_t tls_alert(struct tls_codec *codec, struct tls_flow *flow, enum tls_alert code, char *dst)
{
    bool is_warning =
        code == TLS_A_CLOSE_NOTIFY || code == TLS_A_USER_CANCELED || code == TLS_A_NO_RENEGOTIATION;
    char *payload = payload_place(flow, dst);
    payload[0] = is_warning ? LEVEL_WARNING : LEVEL_FATAL;
    payload[1] = (char)code;
    return seal_record(codec, flow, TYPE_ALERT, dst, 2);
}

size_t tls_key_update(struct tls_codec *codec, struct tls_flow *flow, bool ask, char *dst)
{
    if (flow->minor != MINOR_13)
        return 0;
    const char message[KEY_UPDATE_BYTES] = {HS_KEY_UPDATE, 0, 0, 1, (char)ask};
    memcpy(payload_place(flow, dst), message, sizeof message);
    size_t n = seal_record(codec, flow, TYPE_HANDSHAKE, dst, sizeof message);
    keys_next(&flow->seal, flow->suite);
    flow->sealed = 0;
    flow->owes_update = false;
    return n;
}
