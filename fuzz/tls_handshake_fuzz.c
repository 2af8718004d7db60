/* SPDX-License-Identifier: Apache-2.0
 *
 * A handshake of ours with OpenSSL's client, whose bytes the input's program changes on the way:
 * bits flip, bytes are put in and taken out; then the program's own bytes come, as they are. What
 * our side read is read by a second one of the same random numbers, cut into small pieces.
 *   - Nothing but DONE and FAILED leaves bytes behind, and FAILED says why.
 *   - However it is cut, it ends the same, after as many bytes, and with as many of its own.
 *   - An honest handshake is DONE, and its flow and the client understand each other. */
#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_set_rand_method() */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "net/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIRE_BYTES_MAX = 1 << 16, TURNS_MAX = 16, PIECES_MAX = 64 };

/* The first byte of a program. */
enum { KIND_MUTUAL = 1, KIND_TLS12 = 2, KIND_CERT = 4, KIND_NAME = 8, KIND_ALPN = 16 };
enum { KIND_TICKETS_OFF = 32, KIND_RAW = 64, KIND_NO_GROUP = 128 };

static struct tls_codec codec;
static struct tls_server *plain, *mutual;
static X509 *cert;
static EVP_PKEY *key;

/* ---- random numbers, the same ones each time ------------------------------------------------- */

static uint64_t streams[2], *stream = &streams[0]; /* the client's, ours */

static int random_bytes(unsigned char *to, int n)
{
    for (int i = 0; i < n; i++) {
        *stream = *stream * 6364136223846793005U + 1442695040888963407U;
        to[i] = (unsigned char)(*stream >> 56);
    }
    return 1;
}

static int random_status(void)
{
    return 1;
}

/* ---- certificates: made at start, so that none in the tree ever expires ---------------------- */

static void write_pem(char path[64], bool is_key)
{
    strcpy(path, "/tmp/weir-fuzz-XXXXXX");
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    MUST(f != NULL);
    MUST((is_key ? PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL)
                 : PEM_write_X509(f, cert)) == 1);
    MUST(fclose(f) == 0);
}

static void make_cert(void)
{
    X509V3_CTX ctx;
    cert = X509_new();
    key = EVP_EC_gen("P-256");
    MUST(cert != NULL && key != NULL && X509_set_version(cert, X509_VERSION_3) == 1);
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1);
    MUST(X509_gmtime_adj(X509_getm_notBefore(cert), -86400) != NULL);
    MUST(X509_gmtime_adj(X509_getm_notAfter(cert), 86400L * 30) != NULL);
    X509_NAME *name = X509_get_subject_name(cert);
    MUST(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"edge", -1,
                                    -1, 0) == 1);
    MUST(X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name,
                                                "URI:sip:example.com,DNS:edge.example.com");
    X509_EXTENSION *is_ca = X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints, "CA:TRUE");
    MUST(X509_add_ext(cert, names, -1) == 1 && X509_add_ext(cert, is_ca, -1) == 1);
    X509_EXTENSION_free(names);
    X509_EXTENSION_free(is_ca);
    MUST(X509_sign(cert, key, EVP_sha256()) > 0);
}

static void begin(void)
{
    static RAND_METHOD method = {
        .bytes = random_bytes, .pseudorand = random_bytes, .status = random_status};
    static const char secret[] = "0123456789abcdef0123456789abcdef";
    char cert_path[64], key_path[64], why[TLS_WHY_BYTES_MAX];
    make_cert();
    write_pem(cert_path, false);
    write_pem(key_path, true);
    struct config_cert files = {slice_cstr(cert_path), slice_cstr(key_path)};
    struct config_listener l = {.certs = &files, .cert_count = 1};
    plain = tls_server_new(&l, TLS_USE_SIP, slice_of(secret, TLS_TICKET_SECRET_BYTES), why);
    l.client_ca = files.cert;
    mutual = tls_server_new(&l, TLS_USE_HTTP, SLICE_NONE, why);
    MUST(plain != NULL && mutual != NULL && tls_codec_init(&codec) == 0);
    MUST(unlink(cert_path) == 0 && unlink(key_path) == 0);
    MUST(RAND_set_rand_method(&method) == 1);
}

/* ---- one handshake --------------------------------------------------------------------------- */

struct run {
    struct slice program;
    struct tls_handshake *h;
    int end; /* an enum tls_step */
    size_t used, said;
    bool is_changed;
};

static char wire[WIRE_BYTES_MAX]; /* what our side has read */
static size_t wire_n;

static uint8_t next(struct slice *program)
{
    uint8_t c = program->n > 0 ? (uint8_t)program->p[0] : 0;
    *program = slice_drop(*program, 1);
    return c;
}

/* What has come in goes to our side in memory of its own size, its answer to `to`, if any. */
static void feed(struct run *r, const char *bytes, size_t n, BIO *to)
{
    struct slice out = SLICE_NONE;
    size_t used = 0;
    char *piece = (char *)malloc(n > 0 ? n : 1);
    MUST(piece != NULL);
    memcpy(piece, bytes, n);
    stream = &streams[1];
    r->end = tls_handshake_step(r->h, piece, n, &used, &out);
    stream = &streams[0];
    free(piece);
    MUST(used == n || (used < n && r->end != TLS_STEP_MORE));
    r->used += used;
    r->said += out.n;
    MUST(to == NULL || out.n == 0 || BIO_write(to, out.p, (int)out.n) == (int)out.n);
}

/* Changes the `n` bytes at `at` as the program says, and returns how many they are now. */
static size_t change(struct run *r, char *at, size_t n, size_t room)
{
    for (uint8_t op; n > 0 && ((op = next(&r->program)) & 3) != 0; r->is_changed = true) {
        size_t where = next(&r->program);
        where = (where << 8 | next(&r->program)) % n;
        size_t size = (size_t)(op >> 3) + 1;
        struct slice more = slice_take(r->program, size);
        switch (op & 3) {
        case 1:
            at[where] ^= (char)(1 << (op >> 5));
            break;
        case 2:
            if (more.n == 0 || more.n > room - n)
                break;
            memmove(at + where + more.n, at + where, n - where);
            memcpy(at + where, more.p, more.n);
            n += more.n;
            r->program = slice_drop(r->program, more.n);
            break;
        default:
            size = size < n - where ? size : n - where;
            memmove(at + where, at + where + size, n - where - size);
            n -= size;
        }
    }
    return n;
}

static SSL *client_new(uint8_t kind)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    const int version = kind & KIND_TLS12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    MUST(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, version) == 1);
    MUST(SSL_CTX_set_max_proto_version(ctx, version) == 1);
    if (kind & KIND_TICKETS_OFF)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (kind & KIND_CERT)
        MUST(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
    if (kind & KIND_NO_GROUP) /* our side asks again, or cannot */
        MUST(SSL_CTX_set1_groups_list(ctx, "P-521:P-256") == 1);
    SSL *ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    MUST(ssl != NULL && in != NULL && out != NULL);
    BIO_set_mem_eof_return(in, -1);
    BIO_set_mem_eof_return(out, -1);
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    if (kind & KIND_NAME)
        MUST(SSL_set_tlsext_host_name(ssl, "edge.example.com") == 1);
    if (kind & KIND_ALPN)
        MUST(SSL_set_alpn_protos(ssl, (const unsigned char *)"\5sip/2\10http/1.1", 15) == 0);
    return ssl;
}

/* The client's bytes, changed; when it has none, the program's own. */
static void shake(struct run *r, SSL *client)
{
    for (int turn = 0; turn < TURNS_MAX && r->end == TLS_STEP_MORE; turn++) {
        char *at = wire + wire_n;
        const size_t room = (WIRE_BYTES_MAX - wire_n) / 2;
        int got = 0;
        if (client != NULL) {
            (void)SSL_do_handshake(client);
            got = BIO_read(SSL_get_wbio(client), at, (int)room);
        }
        size_t n = got > 0 ? change(r, at, (size_t)got, 2 * room) : 0;
        if (got <= 0) {
            struct slice own = slice_take(r->program, room);
            r->program = slice_drop(r->program, own.n);
            r->is_changed = true;
            n = own.n;
            if (n == 0)
                break;
            memcpy(at, own.p, n);
        }
        wire_n += n;
        feed(r, at, n, client != NULL ? SSL_get_rbio(client) : NULL);
    }
    if (client != NULL)
        (void)SSL_do_handshake(client);
    ERR_clear_error();
}

/* ---- what must hold -------------------------------------------------------------------------- */

static void chat(const struct run *r, SSL *client)
{
    struct tls_flow flow;
    char bytes[1024], got[16];
    struct iovec iov = {.iov_base = "hello phone", .iov_len = 11};
    size_t kept = 0;
    MUST(SSL_is_init_finished(client));
    tls_handshake_flow(r->h, &flow);
    MUST(SSL_write(client, "hello edge", 10) == 10);
    int n = BIO_read(SSL_get_wbio(client), bytes, sizeof bytes);
    size_t left = n > 0 ? (size_t)n : 0;
    MUST(tls_read(&codec, &flow, bytes, &kept, &left) == 0);
    MUST(kept == 10 && memcmp(bytes, "hello edge", 10) == 0);
    int64_t sealed = tls_seal(&codec, &flow, &iov, 1, bytes, sizeof bytes);
    MUST(sealed > 0 && BIO_write(SSL_get_rbio(client), bytes, (int)sealed) == (int)sealed);
    MUST(SSL_read(client, got, sizeof got) == 11 && memcmp(got, "hello phone", 11) == 0);
}

static void check_info(const struct run *r, uint8_t kind)
{
    struct tls_info info = tls_handshake_info(r->h);
    MUST(info.failure_text != NULL && tls_failure_name(info.failure) != NULL);
    MUST((r->end == TLS_STEP_FAILED) == (info.failure != TLS_FAIL_NONE));
    if (r->end == TLS_STEP_DONE && !r->is_changed) {
        const bool is_known = kind & KIND_MUTUAL && kind & KIND_CERT;
        MUST(slice_equal(info.peer_names, is_known ? SLICE("example.com") : SLICE_NONE));
        MUST(slice_equal(info.server_name,
                         kind & KIND_NAME ? SLICE("edge.example.com") : SLICE_NONE));
    }
}

/* The same bytes again, in pieces of `size`. */
static void check_cut(const struct run *whole, struct tls_server *server, size_t size)
{
    struct run r = {.h = tls_handshake_new(server)};
    size = size < wire_n / PIECES_MAX ? wire_n / PIECES_MAX : size;
    streams[1] = 2;
    for (size_t at = 0; at < wire_n && r.end == TLS_STEP_MORE; at += size)
        feed(&r, wire + at, size < wire_n - at ? size : wire_n - at, NULL);
    MUST(r.end == whole->end && r.said == whole->said);
    MUST(r.used == whole->used || r.end == TLS_STEP_FAILED);
    MUST(tls_handshake_info(r.h).failure == tls_handshake_info(whole->h).failure);
    tls_handshake_free(r.h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.program = slice_of(data, size)};
    if (plain == NULL)
        begin();
    const uint8_t kind = next(&r.program);
    const size_t piece = 1 + (size_t)next(&r.program);
    struct tls_server *server = kind & KIND_MUTUAL ? mutual : plain;
    streams[0] = 1;
    streams[1] = 2;
    wire_n = 0;
    SSL *client = kind & KIND_RAW ? NULL : client_new(kind);
    r.h = tls_handshake_new(server);
    MUST(r.h != NULL);
    shake(&r, client);
    check_info(&r, kind);
    check_cut(&r, server, piece);
    if (!r.is_changed) {
        MUST(r.end == TLS_STEP_DONE);
        chat(&r, client);
    }
    tls_handshake_free(r.h);
    if (client != NULL)
        SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(client);
    ERR_clear_error();
    return 0;
}
