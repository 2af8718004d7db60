/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_peer.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];
static int files;

#define NEED(c) ((c) ? (void)0 : need_failed(#c, __LINE__))

_Noreturn static void need_failed(const char *what, int line)
{
    fprintf(stderr, "tls_peer.c:%d: %s\n", line, what);
    ERR_print_errors_fp(stderr);
    abort();
}

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[sizeof folder + 256];
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.')
            (void)unlink(path);
    }
    if (d != NULL)
        closedir(d);
    (void)rmdir(folder);
}

void test_path(char ret_path[128], const char *name)
{
    if (folder[0] == '\0') {
        strcpy(folder, "/tmp/weir-tls-XXXXXX");
        NEED(mkdtemp(folder) != NULL);
        NEED(atexit(remove_folder) == 0);
    }
    int n = snprintf(ret_path, 128, "%s/%s", folder, name);
    NEED(n > 0 && n < 128);
}

void test_file(char ret_path[128], const char *name, const void *bytes, size_t n)
{
    test_path(ret_path, name);
    FILE *f = fopen(ret_path, "wb");
    NEED(f != NULL && fwrite(bytes, 1, n, f) == n);
    NEED(fclose(f) == 0);
}

/* ---- certificates ---------------------------------------------------------------------------- */

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    NEED(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static void write_pem(struct cert *c)
{
    char name[32];
    (void)snprintf(name, sizeof name, "cert%d.pem", files);
    test_path(c->cert_path, name);
    (void)snprintf(name, sizeof name, "key%d.pem", files++);
    test_path(c->key_path, name);
    FILE *f = fopen(c->cert_path, "wb");
    NEED(f != NULL && PEM_write_X509(f, c->x) == 1 && fclose(f) == 0);
    f = fopen(c->key_path, "wb");
    NEED(f != NULL && PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL) == 1 &&
         fclose(f) == 0);
}

struct cert cert_make(const struct cert_spec *spec)
{
    static long serial = 1;
    struct cert c = {.x = X509_new()};
    c.key = spec->is_rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *issuer = spec->issuer != NULL ? spec->issuer->x : c.x;
    NEED(c.x != NULL && c.key != NULL);
    long from = spec->days_from == 0 && spec->days_until == 0 ? -1 : spec->days_from;
    long until = spec->days_from == 0 && spec->days_until == 0 ? 1 : spec->days_until;
    NEED(X509_set_version(c.x, X509_VERSION_3) == 1);
    NEED(ASN1_INTEGER_set(X509_get_serialNumber(c.x), serial++) == 1);
    NEED(X509_gmtime_adj(X509_getm_notBefore(c.x), from * 86400) != NULL);
    NEED(X509_gmtime_adj(X509_getm_notAfter(c.x), until * 86400) != NULL);
    NEED(X509_set_pubkey(c.x, c.key) == 1);
    NEED(X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x), "CN", MBSTRING_UTF8,
                                    (const unsigned char *)spec->cn, -1, -1, 0) == 1);
    NEED(X509_set_issuer_name(c.x, X509_get_subject_name(issuer)) == 1);
    add_extension(c.x, issuer, NID_basic_constraints,
                  spec->is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (spec->san != NULL)
        add_extension(c.x, issuer, NID_subject_alt_name, spec->san);
    if (spec->usage != NULL)
        add_extension(c.x, issuer, NID_ext_key_usage, spec->usage);
    NEED(X509_sign(c.x, spec->issuer != NULL ? spec->issuer->key : c.key, EVP_sha256()) > 0);
    write_pem(&c);
    return c;
}

void cert_free(struct cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
    *c = (struct cert){0};
}

struct tls_server *server_make(const struct cert *certs, size_t count, enum tls_use use,
                               struct slice ticket_secret)
{
    struct config_cert files_of[CONFIG_CERTS_MAX];
    char why[TLS_WHY_BYTES_MAX];
    NEED(count <= CONFIG_CERTS_MAX);
    for (size_t i = 0; i < count; i++)
        files_of[i] = (struct config_cert){.cert = slice_cstr(certs[i].cert_path),
                                           .key = slice_cstr(certs[i].key_path)};
    struct config_listener l = {.certs = files_of, .cert_count = (uint16_t)count};
    struct tls_server *s = tls_server_new(&l, use, ticket_secret, why);
    if (s == NULL)
        need_failed(why, __LINE__);
    return s;
}

/* ---- OpenSSL as the peer --------------------------------------------------------------------- */

struct peer peer_new(int version, const char *suite)
{
    struct peer p = {.ctx = SSL_CTX_new(TLS_client_method())};
    NEED(p.ctx != NULL);
    NEED(SSL_CTX_set_min_proto_version(p.ctx, version) == 1);
    NEED(SSL_CTX_set_max_proto_version(p.ctx, version) == 1);
    if (suite != NULL)
        NEED((version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(p.ctx, suite)
                                        : SSL_CTX_set_cipher_list(p.ctx, suite)) == 1);
    return p;
}

void peer_begin(struct peer *p)
{
    p->ssl = SSL_new(p->ctx);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    NEED(p->ssl != NULL && p->in != NULL && p->out != NULL);
    BIO_set_mem_eof_return(p->in, -1);
    BIO_set_mem_eof_return(p->out, -1);
    SSL_set_bio(p->ssl, p->in, p->out);
    SSL_set_connect_state(p->ssl);
}

static struct tls_handshake *last;

void peer_free(struct peer *p)
{
    tls_handshake_free(last);
    last = NULL;
    if (p->ssl != NULL) /* else its session would count as spoilt */
        SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    *p = (struct peer){0};
}

/* Feeds what the peer wrote, as long as there is any. Leaves behind what was not taken. */
static int feed(struct peer *p, struct tls_handshake *h, size_t cut)
{
    static char bytes[1 << 20];
    int n = BIO_read(p->out, bytes, sizeof bytes), r = TLS_STEP_MORE;
    size_t at = 0, have = n > 0 ? (size_t)n : 0;
    while (at < have && r == TLS_STEP_MORE) {
        size_t size = cut > 0 && cut < have - at ? cut : have - at, used = 0;
        struct slice out = SLICE_NONE;
        char *piece = (char *)malloc(size); /* its own, so that reading past it is seen */
        NEED(piece != NULL);
        memcpy(piece, bytes + at, size);
        r = tls_handshake_step(h, piece, size, &used, &out);
        free(piece);
        NEED(used == size || r != TLS_STEP_MORE);
        NEED(out.n == 0 || BIO_write(p->in, out.p, (int)out.n) == (int)out.n);
        at += used;
    }
    NEED(at == have || BIO_write(p->out, bytes + at, (int)(have - at)) == (int)(have - at));
    return r;
}

int peer_shake(struct peer *p, struct tls_server *s, size_t cut, struct tls_flow *ret_flow,
               struct tls_info *ret_info)
{
    tls_handshake_free(last);
    last = tls_handshake_new(s);
    NEED(last != NULL);
    int r = TLS_STEP_MORE;
    for (int turn = 0; turn < 10 && r == TLS_STEP_MORE; turn++) {
        (void)SSL_do_handshake(p->ssl);
        r = feed(p, last, cut);
    }
    (void)SSL_do_handshake(p->ssl);
    ERR_clear_error();
    if (ret_info != NULL)
        *ret_info = tls_handshake_info(last);
    if (r == TLS_STEP_DONE && ret_flow != NULL)
        tls_handshake_flow(last, ret_flow);
    return r;
}

SSL_SESSION *peer_session(struct tls_server *s, int version)
{
    struct peer p = peer_new(version, NULL);
    char none;
    peer_begin(&p);
    NEED(peer_shake(&p, s, 0, NULL, NULL) == TLS_STEP_DONE);
    NEED(SSL_read(p.ssl, &none, 1) <= 0); /* tickets of TLS 1.3 are read on the way */
    ERR_clear_error();
    SSL_SESSION *session = SSL_get1_session(p.ssl);
    NEED(session != NULL);
    peer_free(&p);
    return session;
}

size_t peer_hello(int version, SSL_SESSION *session, char ret_hello[PEER_HELLO_BYTES_MAX])
{
    struct peer p = peer_new(version, NULL);
    peer_begin(&p);
    NEED(session == NULL || SSL_set_session(p.ssl, session) == 1);
    (void)SSL_do_handshake(p.ssl);
    ERR_clear_error();
    int n = BIO_read(p.out, ret_hello, PEER_HELLO_BYTES_MAX);
    NEED(n > 0 && n < PEER_HELLO_BYTES_MAX);
    peer_free(&p);
    return (size_t)n;
}
