/* SPDX-License-Identifier: Apache-2.0
 *
 * The record layer against OpenSSL, suite by suite and version by version; then records that no
 * honest peer writes, sealed here with the peer's keys; then vectors of RFC 8448. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include "support/support.h"
#include "support/tls_peer.h"

enum { STREAM_BYTES_MAX = 1 << 20 };

static const struct kind {
    const char *name;
    int version;
    const char *suite;
    bool is_rsa;
} kinds[] = {
    {"1.3 AES-128", TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", false},
    {"1.3 AES-256", TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", false},
    {"1.3 ChaCha20", TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", false},
    {"1.2 AES-128", TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", false},
    {"1.2 AES-256", TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", false},
    {"1.2 ChaCha20", TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", false},
    {"1.2 AES-128 RSA", TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", true},
    {"1.2 AES-256 RSA", TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", true},
    {"1.2 ChaCha20 RSA", TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0], KIND_13 = 0, KIND_12 = 3, KIND_12_CHACHA = 5 };

static struct cert ec, rsa;
static struct tls_server *ec_server, *rsa_server;
static struct tls_codec codec;

static int begin(void **state)
{
    (void)state;
    static const char secret[32] = "0123456789abcdef0123456789abcdef";
    ec = cert_make(&(struct cert_spec){.cn = "edge.example.com", .san = "DNS:edge.example.com"});
    rsa = cert_make(&(struct cert_spec){.cn = "edge.example.com", .is_rsa = true});
    ec_server = server_make(&ec, 1, TLS_USE_SIP, slice_of(secret, sizeof secret));
    rsa_server = server_make(&rsa, 1, TLS_USE_SIP, slice_of(secret, sizeof secret));
    return tls_codec_init(&codec);
}

static int end(void **state)
{
    (void)state;
    tls_codec_done(&codec);
    tls_server_release(ec_server);
    tls_server_release(rsa_server);
    cert_free(&ec);
    cert_free(&rsa);
    return 0;
}

static struct peer meet(const struct kind *k, struct tls_flow *ret_flow)
{
    struct peer p = peer_new(k->version, k->suite);
    peer_begin(&p);
    int r = peer_shake(&p, k->is_rsa ? rsa_server : ec_server, 0, ret_flow, NULL);
    if (r != TLS_STEP_DONE)
        fail_msg("%s: no handshake", k->name);
    return p;
}

/* What the peer has written, in a buffer of its own size. */
static char *sent(struct peer *p, size_t *ret_n)
{
    char *from = NULL;
    long n = BIO_get_mem_data(p->out, &from);
    char *copy = (char *)malloc(n > 0 ? (size_t)n : 1);
    assert_non_null(copy);
    memcpy(copy, from, (size_t)n);
    (void)BIO_reset(p->out);
    *ret_n = (size_t)n;
    return copy;
}

static void fill(char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(seed + i * 131 + (i >> 8) * 7);
}

/* Gives the peer bytes, and reads `n` of data from it. */
static void peer_takes(struct peer *p, const char *bytes, size_t bytes_n, const char *want,
                       size_t n)
{
    static char got[STREAM_BYTES_MAX];
    size_t at = 0;
    assert_int_equal(bytes_n, BIO_write(p->in, bytes, (int)bytes_n));
    while (at < n) {
        int r = SSL_read(p->ssl, got + at, (int)(sizeof got - at));
        if (r <= 0)
            fail_msg("the peer read %zu of %zu bytes", at, n);
        at += (size_t)r;
    }
    assert_int_equal(n, at);
    assert_memory_equal(want, got, n);
}

static size_t seal(struct tls_flow *flow, const char *p, size_t n, char *dst, size_t cap)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    int64_t r = tls_seal(&codec, flow, &iov, 1, dst, cap);
    assert_true(r >= 0);
    return (size_t)r;
}

/* ---- against OpenSSL ------------------------------------------------------------------------- */

static const size_t sizes[] = {1,    2,    4,     15,    16,    17,    31,    500,   1400,
                               4096, 8191, 16383, 16384, 16385, 16400, 32768, 40000, 100000};

static void test_both_ways(void **state)
{
    (void)state;
    static char data[STREAM_BYTES_MAX], wire[STREAM_BYTES_MAX];
    for (unsigned k = 0; k < KINDS; k++) {
        struct tls_flow flow;
        struct peer p = meet(&kinds[k], &flow);
        for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            fill(data, sizes[s], s);
            assert_int_equal(sizes[s], SSL_write(p.ssl, data, (int)sizes[s]));
            size_t n = 0, kept = 0;
            char *got = sent(&p, &n);
            if (tls_read(&codec, &flow, got, &kept, &n) != 0 || kept != sizes[s] || n != kept ||
                memcmp(got, data, kept) != 0)
                fail_msg("%s: %zu bytes came as %zu", kinds[k].name, sizes[s], kept);
            free(got);
            n = seal(&flow, data, sizes[s], wire, sizeof wire);
            assert_true(n <= tls_seal_room(&flow, sizes[s]));
            peer_takes(&p, wire, n, data, sizes[s]);
        }
        peer_free(&p);
    }
}

static void test_pieces_become_records(void **state)
{
    (void)state;
    static char data[100000], wire[120000];
    struct tls_flow flow;
    struct peer p = meet(&kinds[KIND_13], &flow);
    fill(data, sizeof data, 9);
    struct iovec iov[64];
    size_t count = 0, at = 0;
    for (; count < 63; count++) {
        size_t n = count % 5 == 0 ? 0 : count * 37;
        iov[count] = (struct iovec){.iov_base = n > 0 ? data + at : NULL, .iov_len = n};
        at += n;
    }
    iov[count++] = (struct iovec){.iov_base = data + at, .iov_len = sizeof data - at};
    int64_t n = tls_seal(&codec, &flow, iov, count, wire, sizeof wire);
    assert_int_equal(sizeof data + 7 * 22, n); /* 7 records of 5 + 1 + 16 */
    peer_takes(&p, wire, (size_t)n, data, sizeof data);
    assert_int_equal(0, tls_seal(&codec, &flow, iov, 1, wire, sizeof wire)); /* nothing to say */
    peer_free(&p);
}

static void test_seal_needs_room(void **state)
{
    (void)state;
    char data[100], wire[300];
    struct tls_flow flow, before;
    struct peer p = meet(&kinds[KIND_13], &flow);
    struct iovec iov = {.iov_base = data, .iov_len = sizeof data};
    fill(data, sizeof data, 1);
    before = flow;
    assert_int_equal(-1, tls_seal(&codec, &flow, &iov, 1, wire, tls_seal_room(&flow, 100) - 1));
    assert_memory_equal(&before, &flow, sizeof flow);
    char *tight = (char *)malloc(tls_seal_room(&flow, 100));
    size_t n = seal(&flow, data, sizeof data, tight, tls_seal_room(&flow, 100));
    peer_takes(&p, tight, n, data, sizeof data);
    free(tight);
    peer_free(&p);
}

/* A stream of what an OpenSSL client may say: data of all sizes, padding, new keys twice, an empty
 * message is not among it (OpenSSL writes none). */
static char *client_says(struct peer *p, const struct kind *k, char *plain, size_t *ret_plain,
                         size_t *ret_n)
{
    static const size_t said[] = {1, 4, 700, 2, 33, 1500};
    size_t at = 0;
    for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
        fill(plain + at, said[i], i);
        if (i == 2 && k->version == TLS1_3_VERSION)
            assert_int_equal(1, SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED));
        if (i == 3)
            assert_int_equal(1, SSL_set_block_padding(p->ssl, 64));
        if (i == 4 && k->version == TLS1_3_VERSION)
            assert_int_equal(1, SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED));
        assert_int_equal(said[i], SSL_write(p->ssl, plain + at, (int)said[i]));
        at += said[i];
    }
    *ret_plain = at;
    return sent(p, ret_n);
}

/* Feeds a stream in pieces that end at `first`, then after each `step` bytes. */
static void feed_cut(const struct kind *k, struct tls_flow flow, const char *wire, size_t wire_n,
                     size_t first, size_t step, const char *plain, size_t plain_n)
{
    char *buf = (char *)malloc(wire_n);
    size_t kept = 0, n = 0, at = 0, next = first;
    while (at < wire_n) {
        size_t more = next < wire_n ? next - at : wire_n - at;
        /* All that lies behind the bytes that came is somebody else's. */
        char *tight = guard_copy(buf, n + more);
        memcpy(tight + n, wire + at, more);
        n += more;
        int r = tls_read(&codec, &flow, tight, &kept, &n);
        if (r != 0)
            fail_msg("%s: cut at %zu, then every %zu: %d", k->name, first, step, r);
        memcpy(buf, tight, n);
        guard_free(tight);
        at += more;
        next = at + step;
    }
    if (kept != plain_n || n != kept || memcmp(buf, plain, kept) != 0)
        fail_msg("%s: cut at %zu, then every %zu: other bytes", k->name, first, step);
    free(buf);
}

static void test_cut_and_joined_anywhere(void **state)
{
    (void)state;
    static char plain[8192];
    for (unsigned k = 0; k < 6; k++) {
        struct tls_flow flow;
        struct peer p = meet(&kinds[k], &flow);
        size_t plain_n = 0, n = 0;
        char *wire = client_says(&p, &kinds[k], plain, &plain_n, &n);
        for (size_t cut = 1; cut < n; cut++)
            feed_cut(&kinds[k], flow, wire, n, cut, n, plain, plain_n);
        for (size_t step = 1; step < 40; step++)
            feed_cut(&kinds[k], flow, wire, n, step, step, plain, plain_n);
        free(wire);
        peer_free(&p);
    }
}

static void test_data_behind_the_handshake_is_left(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        struct tls_flow flow;
        struct peer p = peer_new(kinds[k].version, kinds[k].suite);
        struct tls_server *s = kinds[k].is_rsa ? rsa_server : ec_server;
        struct tls_handshake *h = tls_handshake_new(s);
        static char wire[65536];
        peer_begin(&p);
        int r = TLS_STEP_MORE;
        size_t n = 0, at = 0;
        for (int turn = 0; turn < 8 && r == TLS_STEP_MORE; turn++) {
            struct slice out;
            if (SSL_do_handshake(p.ssl) == 1)
                assert_int_equal(5, SSL_write(p.ssl, "hello", 5));
            int got = BIO_read(p.out, wire, sizeof wire);
            n = got > 0 ? (size_t)got : 0;
            r = tls_handshake_step(h, wire, n, &at, &out);
            if (out.n > 0)
                assert_int_equal(out.n, BIO_write(p.in, out.p, (int)out.n));
        }
        assert_int_equal(TLS_STEP_DONE, r);
        tls_handshake_flow(h, &flow);
        tls_handshake_free(h);
        if (kinds[k].version == TLS1_2_VERSION) {
            /* There the server has the last word. */
            assert_int_equal(n, at);
            assert_int_equal(1, SSL_do_handshake(p.ssl));
            assert_int_equal(5, SSL_write(p.ssl, "hello", 5));
            n = (size_t)BIO_read(p.out, wire, sizeof wire);
            at = 0;
        }
        size_t kept = 0, rest = n - at;
        assert_int_equal(0, tls_read(&codec, &flow, wire + at, &kept, &rest));
        assert_int_equal(5, kept);
        assert_memory_equal("hello", wire + at, 5);
        peer_free(&p);
    }
}

/* ---- new keys -------------------------------------------------------------------------------- */

static void test_key_updates(void **state)
{
    (void)state;
    char wire[512], data[64];
    for (unsigned k = 0; k < 3; k++) {
        struct tls_flow flow;
        struct peer p = meet(&kinds[k], &flow);
        for (unsigned round = 0; round < 5; round++) {
            /* The peer asks twice; one answer is enough, and it comes before our next data. */
            for (int i = 0; i < 2; i++) {
                assert_int_equal(1, SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED));
                assert_int_equal(2, SSL_write(p.ssl, "hi", 2));
            }
            size_t n = 0, kept = 0;
            char *got = sent(&p, &n);
            assert_int_equal(0, tls_read(&codec, &flow, got, &kept, &n));
            assert_int_equal(4, kept);
            free(got);
            assert_true(flow.owes_update);
            fill(data, sizeof data, round);
            n = seal(&flow, data, sizeof data, wire, sizeof wire);
            assert_false(flow.owes_update);
            assert_int_equal(sizeof data + 22 + 22 + 5, n);
            peer_takes(&p, wire, n, data, sizeof data);
            /* We ask: the peer changes its keys before it says the next. */
            struct tls_keys before = flow.open;
            n = tls_key_update(&codec, &flow, true, wire);
            assert_int_equal(22 + 5, n);
            n += seal(&flow, data, sizeof data, wire + n, sizeof wire - n);
            peer_takes(&p, wire, n, data, sizeof data);
            assert_int_equal(3, SSL_write(p.ssl, "yes", 3));
            kept = 0;
            got = sent(&p, &n);
            assert_int_equal(0, tls_read(&codec, &flow, got, &kept, &n));
            assert_int_equal(3, kept);
            free(got);
            assert_memory_not_equal(before.key, flow.open.key, sizeof before.key);
        }
        peer_free(&p);
    }
}

static void test_worn_keys(void **state)
{
    (void)state;
    char wire[512];
    struct iovec iov = {.iov_base = "hello", .iov_len = 5};
    struct tls_flow flow;
    struct peer p = meet(&kinds[KIND_13], &flow);
    flow.sealed = (1ULL << 38) - 10;
    size_t n = seal(&flow, "hello", 5, wire, sizeof wire);
    assert_int_equal(27 + 27, n); /* KeyUpdate, then data */
    assert_int_equal(27, flow.sealed);
    peer_takes(&p, wire, n, "hello", 5);
    peer_free(&p);
    p = meet(&kinds[KIND_12], &flow);
    flow.sealed = (1ULL << 38) - 10;
    assert_int_equal(-1, tls_seal(&codec, &flow, &iov, 1, wire, sizeof wire));
    assert_int_equal(0, tls_key_update(&codec, &flow, true, wire));
    peer_free(&p);
    p = meet(&kinds[KIND_12_CHACHA], &flow);
    flow.sealed = (1ULL << 38) - 10;
    n = seal(&flow, "hello", 5, wire, sizeof wire);
    peer_takes(&p, wire, n, "hello", 5);
    peer_free(&p);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static int open_one(struct tls_flow *flow, char *p, size_t n, struct slice *ret_plain)
{
    size_t used = 0;
    int r = tls_open(&codec, flow, p, n, &used, ret_plain);
    assert_true(used <= n);
    assert_true(r != TLS_MORE || used == 0 || flow->is_over);
    return r;
}

static void test_close_and_alerts(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KINDS; k++) {
        struct tls_flow flow;
        struct peer p = meet(&kinds[k], &flow);
        char wire[TLS_ALERT_BYTES_MAX];
        struct slice plain = SLICE_NONE;
        size_t n = 0;
        assert_int_equal(0, SSL_shutdown(p.ssl));
        char *got = sent(&p, &n);
        assert_int_equal(TLS_CLOSE, open_one(&flow, got, n, &plain));
        assert_true(flow.is_over);
        assert_int_equal(TLS_MORE, open_one(&flow, got, n, &plain)); /* and nothing more */
        free(got);
        n = tls_alert(&codec, &flow, TLS_A_CLOSE_NOTIFY, wire);
        assert_int_equal(n, BIO_write(p.in, wire, (int)n));
        assert_int_equal(1, SSL_shutdown(p.ssl));
        peer_free(&p);

        p = meet(&kinds[k], &flow);
        n = tls_alert(&codec, &flow, TLS_A_BAD_RECORD_MAC, wire);
        assert_int_equal(n, BIO_write(p.in, wire, (int)n));
        char byte;
        assert_true(SSL_read(p.ssl, &byte, 1) <= 0);
        assert_int_equal(SSL_R_SSLV3_ALERT_BAD_RECORD_MAC, ERR_GET_REASON(ERR_get_error()));
        ERR_clear_error();
        peer_free(&p);

        /* The peer's own: it cannot read what we sent. */
        p = meet(&kinds[k], &flow);
        assert_int_equal(30, BIO_write(p.in, "\x17\x03\x03\0\x19garbage_garbage_garbage__", 30));
        assert_true(SSL_read(p.ssl, &byte, 1) <= 0);
        ERR_clear_error();
        got = sent(&p, &n);
        assert_int_equal(TLS_ALERT, open_one(&flow, got, n, &plain));
        assert_int_equal(2, plain.n);
        assert_int_equal(2, plain.p[0]);
        assert_int_equal(TLS_A_BAD_RECORD_MAC, plain.p[1]);
        free(got);
        peer_free(&p);
    }
}

static void test_renegotiation_is_refused(void **state)
{
    (void)state;
    struct tls_flow flow;
    struct peer p = meet(&kinds[KIND_12], &flow);
    struct slice plain = SLICE_NONE;
    size_t n = 0;
    assert_int_equal(1, SSL_renegotiate(p.ssl));
    (void)SSL_do_handshake(p.ssl);
    char *got = sent(&p, &n);
    assert_true(n > 0);
    assert_int_equal(-TLS_A_NO_RENEGOTIATION, open_one(&flow, got, n, &plain));
    free(got);
    peer_free(&p);
}

static void test_small_fragments_are_honoured(void **state)
{
    (void)state;
    static char data[5000], wire[10000];
    for (unsigned k = 0; k < 6; k += 3) {
        struct tls_flow flow;
        struct peer p = peer_new(kinds[k].version, kinds[k].suite);
        assert_int_equal(
            1, SSL_CTX_set_tlsext_max_fragment_length(p.ctx, TLSEXT_max_fragment_length_512));
        peer_begin(&p);
        assert_int_equal(TLS_STEP_DONE, peer_shake(&p, ec_server, 0, &flow, NULL));
        assert_int_equal(512, flow.record_max);
        fill(data, sizeof data, 3);
        size_t n = seal(&flow, data, sizeof data, wire, tls_seal_room(&flow, sizeof data));
        peer_takes(&p, wire, n, data, sizeof data);
        peer_free(&p);
    }
}

/* ---- records that no honest peer writes ------------------------------------------------------ */

/* Seals as the peer of `flow` would, by another way than the code under test: its keys are those
 * that the flow opens with. `inner` < 0: no inner type (TLS 1.2, or a lie). */
static size_t craft(const struct tls_flow *flow, uint8_t outer, int inner, const void *payload,
                    size_t n, size_t padding, char *dst)
{
    const struct tls_keys *k = &flow->open;
    const bool is_13 = flow->minor == 4, chacha = flow->suite == TLS_CHACHA20_POLY1305_SHA256;
    static const char *const name[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    uint8_t nonce[12], aad[13], *at = (uint8_t *)dst + 5;
    memcpy(nonce, k->iv, 12);
    if (is_13 || chacha) {
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= (uint8_t)(k->seq >> (56 - 8 * i));
    } else {
        memcpy(nonce + 4, "anything", 8);
        memcpy(at, nonce + 4, 8);
        at += 8;
    }
    if (n > 0)
        memcpy(at, payload, n);
    if (inner >= 0) {
        at[n++] = (uint8_t)inner;
        memset(at + n, 0, padding);
        n += padding;
    }
    size_t size = (size_t)(at - (uint8_t *)dst) - 5 + n + 16;
    dst[0] = (char)outer;
    memcpy(dst + 1, "\3\3", 2);
    dst[3] = (char)(size >> 8);
    dst[4] = (char)size;
    int aad_n = 5, got = 0;
    if (is_13) {
        memcpy(aad, dst, 5);
    } else {
        for (int i = 0; i < 8; i++)
            aad[i] = (uint8_t)(k->seq >> (56 - 8 * i));
        memcpy(aad + 8, dst, 3);
        aad[11] = (uint8_t)(n >> 8);
        aad[12] = (uint8_t)n;
        aad_n = 13;
    }
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name[flow->suite], NULL);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    assert_int_equal(1, EVP_EncryptInit_ex(c, cipher, NULL, k->key, nonce));
    assert_int_equal(1, EVP_EncryptUpdate(c, NULL, &got, aad, aad_n));
    if (n > 0)
        assert_int_equal(1, EVP_EncryptUpdate(c, at, &got, at, (int)n));
    assert_int_equal(1, EVP_EncryptFinal_ex(c, at + n, &got));
    assert_int_equal(1, EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, at + n));
    EVP_CIPHER_CTX_free(c);
    EVP_CIPHER_free(cipher);
    return size + 5;
}

/* A flow of each kind, without a handshake: keys that count up. */
static struct tls_flow bare(unsigned kind, bool is_client)
{
    struct tls_flow flow;
    uint8_t one[48], two[48];
    for (unsigned i = 0; i < 48; i++) {
        one[i] = (uint8_t)i;
        two[i] = (uint8_t)(i + 100);
    }
    enum tls_suite suite = (enum tls_suite)(kind % 3);
    if (kind < 3)
        tls_flow_init_13(&flow, suite, is_client, one, two);
    else
        tls_flow_init_12(&flow, suite, is_client, one, two, one, 77);
    return flow;
}

static int open_crafted(struct tls_flow *flow, uint8_t outer, int inner, const void *payload,
                        size_t n, size_t padding, struct slice *ret_plain)
{
    static char wire[40000];
    size_t size = craft(flow, outer, inner, payload, n, padding, wire);
    char *tight = (char *)malloc(size);
    memcpy(tight, wire, size);
    int r = open_one(flow, tight, size, ret_plain);
    if (r == TLS_DATA && ret_plain->n > 0)
        assert_memory_equal(payload, ret_plain->p, n);
    free(tight);
    return r;
}

static const struct {
    const char *name;
    unsigned kind; /* 0: TLS 1.3, 3: TLS 1.2 */
    uint8_t outer;
    int inner;
    const char *payload; /* NULL: zeroes */
    size_t n, padding;
    int want;
    bool as_client;
} crafted[] = {
    {"data", 0, 23, 23, "abc", 3, 0, TLS_DATA, false},
    {"padded data", 0, 23, 23, "abc", 3, 700, TLS_DATA, false},
    {"empty", 0, 23, 23, "", 0, 0, TLS_DATA, false},
    {"empty and padded", 0, 23, 23, "", 0, 900, TLS_DATA, false},
    {"largest", 0, 23, 23, NULL, 16384, 0, TLS_DATA, false},
    {"one more", 0, 23, 23, NULL, 16385, 0, -TLS_A_RECORD_OVERFLOW, false},
    {"padded to the largest", 0, 23, 23, "abc", 3, 16381, TLS_DATA, false},
    {"padded above it", 0, 23, 23, "abc", 3, 16382, -TLS_A_RECORD_OVERFLOW, false},
    {"record too long", 0, 23, 23, NULL, 16384, 240, -TLS_A_RECORD_OVERFLOW, false},
    {"only padding", 0, 23, 0, "\0\0", 2, 5, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a type that is none", 0, 23, 99, "abc", 3, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"inner change_cipher_spec", 0, 23, 20, "\1", 1, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"outer alert", 0, 21, 21, "\1\0", 2, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"outer handshake", 0, 22, 22, "\30\0\0\1\0", 5, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"key update", 0, 23, 22, "\30\0\0\1\0", 5, 0, TLS_QUIET, false},
    {"key update, padded", 0, 23, 22, "\30\0\0\1\1", 5, 99, TLS_QUIET, false},
    {"key update of 2", 0, 23, 22, "\30\0\0\1\2", 5, 0, -TLS_A_ILLEGAL_PARAMETER, false},
    {"key update, long", 0, 23, 22, "\30\0\0\2\1\1", 6, 0, -TLS_A_DECODE_ERROR, false},
    {"key update, without body", 0, 23, 22, "\30\0\0\0", 4, 0, -TLS_A_DECODE_ERROR, false},
    {"key update, cut", 0, 23, 22, "\30\0\0\1", 4, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a cut head", 0, 23, 22, "\30\0", 2, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"two key updates", 0, 23, 22, "\30\0\0\1\0\30\0\0\1\0", 10, 0, -TLS_A_UNEXPECTED_MESSAGE,
     false},
    {"no handshake message", 0, 23, 22, "", 0, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a ClientHello", 0, 23, 22, "\1\0\0\1x", 5, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a Certificate", 0, 23, 22, "\13\0\0\1x", 5, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a Finished", 0, 23, 22, "\24\0\0\1x", 5, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a ticket of a client", 0, 23, 22, "\4\0\0\1x", 5, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"a ticket of a server", 0, 23, 22, "\4\0\0\1x", 5, 0, TLS_QUIET, true},
    {"tickets, then new keys", 0, 23, 22, "\4\0\0\1x\4\0\0\0\30\0\0\1\1", 14, 0, TLS_QUIET, true},
    {"new keys, then a ticket", 0, 23, 22, "\30\0\0\1\1\4\0\0\1x", 10, 0, -TLS_A_UNEXPECTED_MESSAGE,
     true},
    {"a CertificateRequest", 0, 23, 22, "\15\0\0\1x", 5, 0, -TLS_A_UNEXPECTED_MESSAGE, true},
    {"close_notify", 0, 23, 21, "\1\0", 2, 0, TLS_CLOSE, false},
    {"close_notify as fatal", 0, 23, 21, "\2\0", 2, 30, TLS_CLOSE, false},
    {"user_canceled", 0, 23, 21, "\1\x5a", 2, 0, TLS_QUIET, false},
    {"an alert as a warning", 0, 23, 21, "\1\x14", 2, 0, TLS_ALERT, false},
    {"a short alert", 0, 23, 21, "\1", 1, 0, -TLS_A_DECODE_ERROR, false},
    {"a long alert", 0, 23, 21, "\1\0\0", 3, 0, -TLS_A_DECODE_ERROR, false},
    {"no alert", 0, 23, 21, "", 0, 0, -TLS_A_DECODE_ERROR, false},
    {"1.2 data", 3, 23, -1, "abc", 3, 0, TLS_DATA, false},
    {"1.2 empty", 3, 23, -1, "", 0, 0, TLS_DATA, false},
    {"1.2 largest", 3, 23, -1, NULL, 16384, 0, TLS_DATA, false},
    {"1.2 one more", 3, 23, -1, NULL, 16385, 0, -TLS_A_RECORD_OVERFLOW, false},
    {"1.2 change_cipher_spec", 3, 20, -1, "\1", 1, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"1.2 heartbeat", 3, 24, -1, "\1\0\1x", 4, 0, -TLS_A_UNEXPECTED_MESSAGE, false},
    {"1.2 close_notify", 3, 21, -1, "\1\0", 2, 0, TLS_CLOSE, false},
    {"1.2 a warning", 3, 21, -1, "\1\x64", 2, 0, TLS_QUIET, false},
    {"1.2 fatal", 3, 21, -1, "\2\x28", 2, 0, TLS_ALERT, false},
    {"1.2 no level", 3, 21, -1, "\3\x28", 2, 0, -TLS_A_ILLEGAL_PARAMETER, false},
    {"1.2 ClientHello", 3, 22, -1, "\1\0\0\1x", 5, 0, -TLS_A_NO_RENEGOTIATION, false},
    {"1.2 HelloRequest to us", 3, 22, -1, "\0\0\0\0", 4, 0, -TLS_A_NO_RENEGOTIATION, false},
    {"1.2 HelloRequest to a client", 3, 22, -1, "\0\0\0\0", 4, 0, TLS_QUIET, true},
    {"1.2 key update", 3, 22, -1, "\30\0\0\1\0", 5, 0, -TLS_A_NO_RENEGOTIATION, true},
};

static void test_crafted(void **state)
{
    (void)state;
    static char big[20000];
    for (unsigned i = 0; i < sizeof crafted / sizeof crafted[0]; i++)
        for (unsigned suite = 0; suite < 3; suite++) {
            struct tls_flow flow = bare(crafted[i].kind + suite, crafted[i].as_client);
            struct slice plain = SLICE_NONE;
            int r = open_crafted(&flow, crafted[i].outer, crafted[i].inner,
                                 crafted[i].payload != NULL ? crafted[i].payload : big,
                                 crafted[i].n, crafted[i].padding, &plain);
            if (r != crafted[i].want)
                fail_msg("%s, suite %u: %d", crafted[i].name, suite, r);
            if (r == TLS_DATA && plain.n != crafted[i].n)
                fail_msg("%s: %zu bytes", crafted[i].name, plain.n);
            assert_int_equal(r < 0 || r == TLS_CLOSE || r == TLS_ALERT, flow.is_over);
        }
}

static void test_idle_records_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned kind;
        int inner;
        uint8_t outer;
        const char *payload;
        size_t n;
    } cases[] = {
        {"empty", 0, 23, 23, "", 0},
        {"new keys", 0, 22, 23, "\30\0\0\1\1", 5},
        {"user_canceled", 0, 21, 23, "\1\x5a", 2},
        {"1.2 empty", 3, -1, 23, "", 0},
        {"1.2 warnings", 3, -1, 21, "\1\x64", 2},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_flow flow = bare(cases[i].kind, false);
        struct slice plain;
        for (int round = 0; round < 2; round++) {
            for (int n = 0; n < TLS_IDLE_RECORDS_MAX; n++)
                assert_true(open_crafted(&flow, cases[i].outer, cases[i].inner, cases[i].payload,
                                         cases[i].n, 0, &plain) > 0);
            if (round == 0)
                assert_int_equal(TLS_DATA, open_crafted(&flow, 23, cases[i].inner < 0 ? -1 : 23,
                                                        "x", 1, 0, &plain));
        }
        int r = open_crafted(&flow, cases[i].outer, cases[i].inner, cases[i].payload, cases[i].n, 0,
                             &plain);
        if (r != -TLS_A_UNEXPECTED_MESSAGE)
            fail_msg("%s: %d", cases[i].name, r);
    }
}

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned kind;
        const char *head;
        size_t n;
        int want;
    } cases[] = {
        {"not yet", 0, "\x17\3\3\0", 4, TLS_MORE},
        {"garbage, not yet", 0, "GET ", 4, TLS_MORE},
        {"nothing", 0, "", 0, TLS_MORE},
        {"HTTP", 0, "GET / HTTP", 10, -TLS_A_UNEXPECTED_MESSAGE},
        {"1.2 HTTP", 3, "GET / HTTP", 10, -TLS_A_UNEXPECTED_MESSAGE},
        {"plain alert", 0, "\x15\3\3\0\2\1\0", 7, -TLS_A_UNEXPECTED_MESSAGE},
        {"change_cipher_spec", 0, "\x14\3\3\0\1\1", 6, -TLS_A_UNEXPECTED_MESSAGE},
        {"1.2 change_cipher_spec", 3, "\x14\3\3\0\1\1", 6, -TLS_A_UNEXPECTED_MESSAGE},
        {"too short for a tag", 0, "\x17\3\3\0\x10", 5, -TLS_A_DECODE_ERROR},
        {"just long enough", 0, "\x17\3\3\0\x11", 5, TLS_MORE},
        {"empty", 0, "\x17\3\3\0\0", 5, -TLS_A_DECODE_ERROR},
        {"largest", 0, "\x17\3\3\x41\0", 5, TLS_MORE},
        {"one more", 0, "\x17\3\3\x41\1", 5, -TLS_A_RECORD_OVERFLOW},
        {"version does not matter", 0, "\x17\3\1\0\x20", 5, TLS_MORE},
        {"1.2 other version", 3, "\x17\3\4\0\x20", 5, -TLS_A_PROTOCOL_VERSION},
        {"1.2 largest", 3, "\x17\3\3\x40\x18", 5, TLS_MORE},
        {"1.2 one more", 3, "\x17\3\3\x40\x19", 5, -TLS_A_RECORD_OVERFLOW},
        {"1.2 too short", 3, "\x17\3\3\0\x17", 5, -TLS_A_DECODE_ERROR},
        {"1.2 just long enough", 3, "\x17\3\3\0\x18", 5, TLS_MORE},
        {"1.2 ChaCha largest", 5, "\x17\3\3\x40\x10", 5, TLS_MORE},
        {"1.2 ChaCha one more", 5, "\x17\3\3\x40\x11", 5, -TLS_A_RECORD_OVERFLOW},
        {"1.2 ChaCha too short", 5, "\x17\3\3\0\x0f", 5, -TLS_A_DECODE_ERROR},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_flow flow = bare(cases[i].kind, false);
        struct slice plain;
        char *tight = guard_copy(cases[i].head, cases[i].n);
        int r = open_one(&flow, tight, cases[i].n, &plain);
        if (r != cases[i].want)
            fail_msg("%s: %d", cases[i].name, r);
        guard_free(tight);
    }
}

static void test_every_changed_bit_is_seen(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 6; kind++) {
        struct tls_flow flow = bare(kind, false);
        char wire[128], copy[128];
        size_t n = craft(&flow, 23, kind < 3 ? 23 : -1, "REGISTER", 8, 3, wire);
        for (size_t bit = 0; bit < n * 8; bit++) {
            struct tls_flow f = flow;
            struct slice plain;
            memcpy(copy, wire, n);
            copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
            int r = open_one(&f, copy, n, &plain);
            /* A length that grew only waits for more; nothing else may pass. */
            bool grew = r == TLS_MORE && (bit / 8 == 3 || bit / 8 == 4);
            if (r >= 0 && !grew)
                fail_msg("kind %u, bit %zu: %d", kind, bit, r);
            if (bit / 8 >= 5)
                assert_int_equal(-TLS_A_BAD_RECORD_MAC, r);
        }
        /* And a record that comes a second time. */
        struct slice plain;
        memcpy(copy, wire, n);
        assert_int_equal(TLS_DATA, open_one(&flow, copy, n, &plain));
        assert_int_equal(-TLS_A_BAD_RECORD_MAC, open_one(&flow, wire, n, &plain));
    }
}

/* Two flows of one codec take turns, and one opens what the other end sealed. */
static void test_flows_share_a_codec(void **state)
{
    (void)state;
    char wire[3][128];
    for (unsigned kind = 0; kind < 6; kind++) {
        struct tls_flow here[3], there[3];
        for (unsigned i = 0; i < 3; i++) {
            here[i] = bare(kind, true);
            here[i].seal.key[0] ^= (uint8_t)i;
            there[i] = bare(kind, false);
            there[i].open.key[0] ^= (uint8_t)i;
        }
        for (unsigned round = 0; round < 20; round++) {
            size_t n[3];
            for (unsigned i = 0; i < 3; i++) {
                char said = (char)('a' + i);
                n[i] = seal(&here[i], &said, 1, wire[i], sizeof wire[i]);
            }
            for (unsigned i = 0; i < 3; i++) {
                struct slice plain = SLICE_NONE;
                assert_int_equal(TLS_DATA, open_one(&there[i], wire[i], n[i], &plain));
                assert_int_equal('a' + (int)i, plain.p[0]);
            }
        }
        assert_int_equal(kind < 3 ? 20 : 21, there[0].open.seq);
    }
}

static void test_no_explicit_nonce_twice(void **state)
{
    (void)state;
    char wire[128];
    struct tls_flow flow;
    tls_flow_init_12(&flow, TLS_AES_128_GCM_SHA256, false, (const uint8_t[48]){1},
                     (const uint8_t[32]){2}, (const uint8_t[32]){3}, UINT64_MAX - 1);
    static const uint64_t want[] = {UINT64_MAX, 0, 1, 2};
    for (unsigned i = 0; i < 4; i++) {
        (void)seal(&flow, "x", 1, wire, sizeof wire);
        const uint8_t *p = (const uint8_t *)wire + 5;
        assert_true(want[i] == bytes_get_be(&p, 8));
    }
}

/* Ours go on behind the one of our Finished, which OpenSSL chose. */
static void test_explicit_nonces_go_on(void **state)
{
    (void)state;
    char wire[128], *finished = NULL;
    struct tls_flow flow;
    struct peer p = peer_new(TLS1_2_VERSION, kinds[KIND_12].suite);
    struct tls_handshake *h = tls_handshake_new(ec_server);
    struct slice out = SLICE_NONE;
    peer_begin(&p);
    for (int r = TLS_STEP_MORE; r == TLS_STEP_MORE;) {
        size_t n = 0, used = 0;
        (void)SSL_do_handshake(p.ssl);
        char *got = sent(&p, &n);
        r = tls_handshake_step(h, got, n, &used, &out);
        free(got);
        assert_int_not_equal(TLS_STEP_FAILED, r);
        assert_int_equal(out.n, BIO_write(p.in, out.p, (int)out.n));
    }
    /* The last record: 5 of head, 8 of nonce, 16 of Finished, 16 of tag. */
    finished = guard_copy(out.p + out.n - 45, 45);
    assert_int_equal(22, finished[0]);
    tls_handshake_flow(h, &flow);
    tls_handshake_free(h);
    (void)seal(&flow, "x", 1, wire, sizeof wire);
    const uint8_t *theirs = (const uint8_t *)finished + 5, *ours = (const uint8_t *)wire + 5;
    assert_true(bytes_get_be(&theirs, 8) + 1 == bytes_get_be(&ours, 8));
    guard_free(finished);
    peer_free(&p);
}

static void test_wipe(void **state)
{
    (void)state;
    struct tls_flow flow = bare(0, false), zero = {.is_over = true};
    tls_flow_wipe(&flow);
    assert_memory_equal(&zero.open, &flow.open, sizeof flow.open);
    assert_memory_equal(&zero.seal, &flow.seal, sizeof flow.seal);
    assert_true(flow.is_over);
    assert_int_equal(224, sizeof flow);
}

/* ---- RFC 8448 section 3 ---------------------------------------------------------------------- */

static void from_hex(const char *hex, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
}

static void test_rfc_8448(void **state)
{
    (void)state;
    static const char client_hex[] =
        "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    static const char server_hex[] =
        "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
    static const char record_hex[] =
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20"
        "441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
    uint8_t client[32], server[32], record[72], key[16], iv[12];
    struct tls_flow flow;
    struct slice plain = SLICE_NONE;
    from_hex(client_hex, client, 32);
    from_hex(server_hex, server, 32);
    tls_flow_init_13(&flow, TLS_AES_128_GCM_SHA256, false, client, server);
    from_hex("17422dda596ed5d9acd890e3c63f5051", key, 16);
    from_hex("5b78923dee08579033e523d9", iv, 12);
    assert_memory_equal(key, flow.open.key, 16);
    assert_memory_equal(iv, flow.open.iv, 12);
    from_hex("9f02283b6c9c07efc26bb9f2ac92e356", key, 16);
    from_hex("cf782b88dd83549aadf1e984", iv, 12);
    assert_memory_equal(key, flow.seal.key, 16);
    assert_memory_equal(iv, flow.seal.iv, 12);
    from_hex(record_hex, record, sizeof record);
    assert_int_equal(TLS_DATA, open_one(&flow, (char *)record, sizeof record, &plain));
    assert_int_equal(50, plain.n);
    for (int i = 0; i < 50; i++)
        assert_int_equal(i, plain.p[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_8448),
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_pieces_become_records),
        cmocka_unit_test(test_seal_needs_room),
        cmocka_unit_test(test_cut_and_joined_anywhere),
        cmocka_unit_test(test_data_behind_the_handshake_is_left),
        cmocka_unit_test(test_key_updates),
        cmocka_unit_test(test_worn_keys),
        cmocka_unit_test(test_close_and_alerts),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_small_fragments_are_honoured),
        cmocka_unit_test(test_crafted),
        cmocka_unit_test(test_idle_records_are_bounded),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_every_changed_bit_is_seen),
        cmocka_unit_test(test_flows_share_a_codec),
        cmocka_unit_test(test_no_explicit_nonce_twice),
        cmocka_unit_test(test_explicit_nonces_go_on),
        cmocka_unit_test(test_wipe),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
