/* SPDX-License-Identifier: Apache-2.0
 *
 * What handshakes are made from: a thread's ciphers, and the certificates and rules of a listener
 * in one SSL_CTX for each certificate. All of it is fetched and parsed once, when it is loaded. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "net/tls_int.h"

enum { PATH_BYTES_MAX = 4096 };

/* AES-128 first: the cheapest where the processor has AES, and it has here. A client without puts
 * ChaCha20 at the head of its list, and gets that. */
static const char suites_12[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char suites_13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                "TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256:P-384";

/* How long a ticket is good. A client that proved who it is must prove it again sooner: its
 * certificate may have ended meanwhile. */
enum { TICKET_SECONDS = 12 * 3600, TICKET_OF_PROVEN_SECONDS = 3600 };

/* ---- ciphers of a thread ---------------------------------------------------------------------
 */

int tls_codec_init(struct tls_codec *codec)
{
    static const char *const name[TLS_SUITES] = {
        [TLS_AES_128_GCM_SHA256] = "AES-128-GCM",
        [TLS_AES_256_GCM_SHA384] = "AES-256-GCM",
        [TLS_CHACHA20_POLY1305_SHA256] = "ChaCha20-Poly1305",
    };
    *codec = (struct tls_codec){0};
    for (int i = 0; i < TLS_SUITES; i++) {
        EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name[i], NULL);
        bool ok = cipher != NULL;
        for (int way = 0; ok && way < 2; way++) {
            EVP_CIPHER_CTX *c = codec->cipher[i][way] = EVP_CIPHER_CTX_new();
            ok = c != NULL && EVP_CipherInit_ex2(c, cipher, NULL, NULL, way, NULL) == 1;
        }
        EVP_CIPHER_free(cipher);
        if (!ok) {
            tls_codec_done(codec);
            return -1;
        }
    }
    return 0;
}

void tls_codec_done(struct tls_codec *codec)
{
    for (int i = 0; i < TLS_SUITES; i++)
        for (int way = 0; way < 2; way++)
            EVP_CIPHER_CTX_free(codec->cipher[i][way]);
    OPENSSL_cleanse(codec, sizeof *codec);
}

/* ---- what went wrong -------------------------------------------------------------------------
 */

__attribute__((format(printf, 2, 3))) static void say(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, TLS_WHY_BYTES_MAX, format, args);
    va_end(args);
}

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text != NULL ? text : "refused";
}

/* A path of the configuration as the libraries want it, if the file can be read. */
static bool readable(struct slice path, char *ret_path, char *why)
{
    if (path.n == 0 || path.n >= PATH_BYTES_MAX || slice_find(path, '\0') < path.n) {
        say(why, "no path of a file");
        return false;
    }
    memcpy(ret_path, path.p, path.n);
    ret_path[path.n] = '\0';
    FILE *f = fopen(ret_path, "re");
    if (f == NULL) {
        say(why, "%s: %s", ret_path, strerror(errno));
        return false;
    }
    fclose(f);
    return true;
}

/* ---- an SSL_CTX ------------------------------------------------------------------------------
 */

/* A key that is encrypted is an error: nobody sits at a server's terminal. */
static int on_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static SSL_CTX *ctx_new(const SSL_METHOD *method)
{
    SSL_CTX *c = SSL_CTX_new(method);
    if (c == NULL)
        return NULL;
    SSL_CTX_set_options(c, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                               SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS); /* those who wait for the peer hold 32 KB less */
    SSL_CTX_set_default_passwd_cb(c, on_passphrase);
    SSL_CTX_set_keylog_callback(c, tls_keylog);
    if (SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(c, suites_12) != 1 || SSL_CTX_set_ciphersuites(c, suites_13) != 1 ||
        SSL_CTX_set1_groups_list(c, groups) != 1) {
        SSL_CTX_free(c);
        return NULL;
    }
    return c;
}

static int alpn_choose(const unsigned char *list, unsigned n, struct slice wanted,
                       const unsigned char **out, unsigned char *out_n)
{
    for (unsigned at = 0; at < n && list[at] < n - at; at += 1U + list[at])
        if (slice_equal(slice_of(list + at + 1, list[at]), wanted)) {
            *out = list + at + 1;
            *out_n = list[at];
            return 1;
        }
    return 0;
}

/* RFC 7301. A client that only knows other protocols is not sent away: many SIP stacks offer what
 * their TLS library offers. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *ctx)
{
    const struct tls_server *s = (const struct tls_server *)ctx;
    (void)ssl;
    if (s->use == TLS_USE_HTTP)
        return alpn_choose(in, in_n, SLICE("http/1.1"), out, out_n) ? SSL_TLSEXT_ERR_OK
                                                                    : SSL_TLSEXT_ERR_NOACK;
    if (alpn_choose(in, in_n, SLICE("sip/2"), out, out_n) ||
        alpn_choose(in, in_n, SLICE("sip"), out, out_n))
        return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_NOACK;
}

static bool identity_has(const struct tls_identity *id, struct slice name)
{
    struct slice rest = slice_of(id->names, id->names_n);
    while (rest.n > 0) {
        struct slice pattern = slice_take(rest, slice_find(rest, '\n'));
        if (tls_name_matches(pattern, name))
            return true;
        rest = slice_drop(rest, pattern.n + 1);
    }
    return false;
}

static int on_server_name(SSL *ssl, int *alert, void *ctx)
{
    const struct tls_server *s = (const struct tls_server *)ctx;
    struct slice name = slice_cstr(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    (void)alert;
    if (name.n == 0)
        return SSL_TLSEXT_ERR_NOACK;
    for (size_t i = 0; i < s->identity_count; i++)
        if (identity_has(&s->identity[i], name)) {
            if (i > 0 && SSL_set_SSL_CTX(ssl, s->identity[i].ctx) == NULL)
                return SSL_TLSEXT_ERR_ALERT_FATAL;
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_NOACK; /* the first certificate is for those */
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
    if (ok == 1 && X509_STORE_CTX_get_error_depth(store) == 0 &&
        !tls_usage_is_fit(X509_STORE_CTX_get_current_cert(store))) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE);
        return 0;
    }
    return ok;
}

/* Who may sign the peer is whom the operator listed, a chain need not go on to a root; and what it
 * may be used for is tls_usage_is_fit()'s matter. */
static void trust(SSL_CTX *ctx, X509_STORE *store)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    (void)X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY);
    if (store != NULL)
        SSL_CTX_set1_cert_store(ctx, store);
}

/* ---- certificates ----------------------------------------------------------------------------
 */

static void add_name(void *ctx, struct slice name)
{
    struct tls_identity *id = (struct tls_identity *)ctx;
    char *more = (char *)realloc(id->names, id->names_n + name.n + 1);
    if (more == NULL)
        return;
    memcpy(more + id->names_n, name.p, name.n);
    id->names = more;
    id->names_n += name.n;
    id->names[id->names_n++] = '\n';
}

static void warn_of_dates(X509 *x, const char *path, char *why)
{
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        say(why, "%s: the certificate has expired", path);
    else if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
        say(why, "%s: the certificate is not valid yet", path);
}

/* Gives `ctx` a certificate and its key; says in `why` what is wrong, or a warning. */
static bool use_cert(SSL_CTX *ctx, const struct config_cert *files, char *why)
{
    char cert[PATH_BYTES_MAX], key[PATH_BYTES_MAX];
    if (!readable(files->cert, cert, why) || !readable(files->key, key, why))
        return false;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        say(why, "%s: no usable certificate in PEM: %s", cert, reason());
        return false;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
            ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH)
            say(why, "%s: not the key of the certificate in %s", key, cert);
        else
            say(why, "%s: no usable private key in PEM, without a passphrase: %s", key, reason());
        return false;
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        say(why, "%s: not the key of the certificate in %s", key, cert);
        return false;
    }
    warn_of_dates(SSL_CTX_get0_certificate(ctx), cert, why);
    return true;
}

static bool identity_load(struct tls_identity *id, const struct config_cert *files, char *why)
{
    id->ctx = ctx_new(TLS_server_method());
    if (id->ctx == NULL) {
        say(why, "TLS cannot be set up: %s", reason());
        return false;
    }
    if (!use_cert(id->ctx, files, why))
        return false;
    tls_server_names(SSL_CTX_get0_certificate(id->ctx), add_name, id);
    return true;
}

/* ---- clients that must say who they are ------------------------------------------------------
 */

/* Loads those who may sign clients. NULL after saying why. */
static X509_STORE *store_load(struct slice ca, STACK_OF(X509_NAME) * *ret_names, char *why)
{
    char path[PATH_BYTES_MAX];
    if (!readable(ca, path, why))
        return NULL;
    X509_STORE *store = X509_STORE_new();
    *ret_names = SSL_load_client_CA_file(path);
    if (store == NULL || *ret_names == NULL || X509_STORE_load_file(store, path) != 1) {
        say(why, "%s: no certificates in PEM: %s", path, reason());
        X509_STORE_free(store);
        sk_X509_NAME_pop_free(*ret_names, X509_NAME_free);
        *ret_names = NULL;
        return NULL;
    }
    return store;
}

/* The certificates of a store, in whatever order. */
static bool store_digest(X509_STORE *store, uint8_t ret_sum[SHA256_DIGEST_LENGTH])
{
    const STACK_OF(X509_OBJECT) *all = store != NULL ? X509_STORE_get0_objects(store) : NULL;
    bool ok = true;
    memset(ret_sum, 0, SHA256_DIGEST_LENGTH);
    for (int i = 0; ok && all != NULL && i < sk_X509_OBJECT_num(all); i++) {
        X509 *x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
        uint8_t one[EVP_MAX_MD_SIZE] = {0};
        ok = x == NULL || X509_digest(x, EVP_sha256(), one, NULL) == 1;
        for (size_t k = 0; k < SHA256_DIGEST_LENGTH; k++)
            ret_sum[k] ^= one[k];
    }
    return ok;
}

/* A ticket is only good where the same was asked of its client: else one from a listener that asks
 * nobody, or trusts others, would open another that does not. */
static bool session_context(SSL_CTX *ctx, const struct tls_server *s, bool required,
                            X509_STORE *store)
{
    uint8_t digest[EVP_MAX_MD_SIZE], trusted[SHA256_DIGEST_LENGTH];
    unsigned size = 0;
    const uint8_t kind[3] = {(uint8_t)s->use, s->asks_client, required};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, kind, sizeof kind) == 1;
    ok = ok && store_digest(store, trusted) && EVP_DigestUpdate(md, trusted, sizeof trusted) == 1;
    ok = ok && EVP_DigestFinal_ex(md, digest, &size) == 1 &&
         SSL_CTX_set_session_id_context(ctx, digest, SSL_MAX_SSL_SESSION_ID_LENGTH) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

static bool identity_finish(struct tls_server *s, SSL_CTX *ctx, X509_STORE *store,
                            const STACK_OF(X509_NAME) * names, bool required)
{
    tls_tickets_use(&s->tickets, ctx);
    SSL_CTX_set_timeout(ctx, s->asks_client ? TICKET_OF_PROVEN_SECONDS : TICKET_SECONDS);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, s);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, s);
    if (s->asks_client) {
        STACK_OF(X509_NAME) *own = SSL_dup_CA_list(names);
        if (own == NULL)
            return false;
        trust(ctx, store);
        SSL_CTX_set_client_CA_list(ctx, own);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           on_verify);
    }
    return session_context(ctx, s, required, store);
}

static bool server_load(struct tls_server *s, const struct config_listener *l,
                        struct slice ticket_secret, char *why)
{
    X509_STORE *store = NULL;
    STACK_OF(X509_NAME) *names = NULL;
    bool ok = true;
    for (size_t i = 0; ok && i < l->cert_count; i++, s->identity_count++)
        ok = identity_load(&s->identity[i], &l->certs[i], why);
    if (ok && s->asks_client) {
        store = store_load(l->client_ca, &names, why);
        ok = store != NULL;
    }
    if (!ok)
        return false;
    ok = tls_tickets_init(&s->tickets, ticket_secret) == 0;
    for (size_t i = 0; ok && i < s->identity_count; i++)
        ok = identity_finish(s, s->identity[i].ctx, store, names, l->client_required);
    if (!ok)
        say(why, "TLS cannot be set up: %s", reason());
    X509_STORE_free(store);
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return ok;
}

static void server_free(struct tls_server *s)
{
    for (size_t i = 0; s->identity != NULL && i < s->identity_count; i++) {
        SSL_CTX_free(s->identity[i].ctx);
        free(s->identity[i].names);
    }
    free(s->identity);
    tls_tickets_done(&s->tickets);
    BIO_meth_free(s->common.bio);
    free(s);
}

struct tls_server *tls_server_new(const struct config_listener *l, enum tls_use use,
                                  struct slice ticket_secret, char *why)
{
    why[0] = '\0';
    ERR_clear_error();
    if (l->cert_count == 0) {
        say(why, "no certificate");
        return NULL;
    }
    struct tls_server *s = (struct tls_server *)calloc(1, sizeof *s);
    if (s != NULL) {
        atomic_init(&s->common.count, 1);
        s->use = use;
        s->asks_client = l->client_ca.n > 0;
        s->common.bio = tls_bio_method();
        s->identity = (struct tls_identity *)calloc(l->cert_count, sizeof *s->identity);
    }
    if (s == NULL || s->common.bio == NULL || s->identity == NULL) {
        say(why, "TLS cannot be set up: out of memory");
    } else if (server_load(s, l, ticket_secret, why)) {
        ERR_clear_error();
        return s;
    }
    ERR_clear_error();
    if (s != NULL)
        server_free(s);
    return NULL;
}

struct tls_server *tls_server_take(struct tls_server *s)
{
    (void)atomic_fetch_add_explicit(&s->common.count, 1, memory_order_relaxed);
    return s;
}

void tls_server_release(struct tls_server *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->common.count, 1, memory_order_acq_rel) == 1)
        server_free(s);
}

/* ---- clients: connections of ours ------------------------------------------------------------
 */

/* The host of a sip: URI in a certificate names its server too (RFC 5922 7.1, 7.2), where the
 * library only looks at DNS names. */
struct wanted {
    struct slice name;
    bool found;
};

static void is_wanted(void *ctx, struct slice name)
{
    struct wanted *w = (struct wanted *)ctx;
    w->found |= slice_equal_nocase(name, w->name);
}

static int on_verify_server(int ok, X509_STORE_CTX *store)
{
    X509 *x = X509_STORE_CTX_get_current_cert(store);
    if (ok == 0 && X509_STORE_CTX_get_error(store) == X509_V_ERR_HOSTNAME_MISMATCH) {
        const SSL *ssl =
            (const SSL *)X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct wanted w = {.name = slice_cstr(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name))};
        tls_names(X509_STORE_CTX_get0_cert(store), is_wanted, &w);
        if (!w.found)
            return 0;
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    if (ok == 1 && X509_STORE_CTX_get_error_depth(store) == 0 && !tls_usage_is_fit(x)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE);
        return 0;
    }
    return ok;
}

static bool client_trust(struct tls_client *c, struct slice ca, char *why)
{
    if (ca.n == 0) {
        trust(c->ctx, NULL);
        if (SSL_CTX_set_default_verify_paths(c->ctx) == 1)
            return true;
        say(why, "the system's certificates cannot be loaded: %s", reason());
        return false;
    }
    STACK_OF(X509_NAME) *names = NULL;
    X509_STORE *store = store_load(ca, &names, why);
    if (store == NULL)
        return false;
    trust(c->ctx, store);
    X509_STORE_free(store);
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return true;
}

static bool client_load(struct tls_client *c, const struct config_tls_client *from, char *why)
{
    c->ctx = ctx_new(TLS_client_method());
    if (c->ctx == NULL || c->common.bio == NULL) {
        say(why, "TLS cannot be set up: %s", reason());
        return false;
    }
    (void)SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
    if (from->verify) {
        SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, on_verify_server);
        if (!client_trust(c, from->ca, why))
            return false;
    }
    const struct config_cert own = {from->cert, from->key};
    return from->cert.n == 0 || use_cert(c->ctx, &own, why);
}

static void client_free(struct tls_client *c)
{
    SSL_CTX_free(c->ctx);
    BIO_meth_free(c->common.bio);
    free(c);
}

struct tls_client *tls_client_new(const struct config_tls_client *from, char *why)
{
    why[0] = '\0';
    ERR_clear_error();
    struct tls_client *c = (struct tls_client *)calloc(1, sizeof *c);
    if (c == NULL) {
        say(why, "TLS cannot be set up: out of memory");
        return NULL;
    }
    atomic_init(&c->common.count, 1);
    c->common.bio = tls_bio_method();
    bool ok = client_load(c, from, why);
    ERR_clear_error();
    if (ok)
        return c;
    client_free(c);
    return NULL;
}

struct tls_client *tls_client_take(struct tls_client *c)
{
    (void)atomic_fetch_add_explicit(&c->common.count, 1, memory_order_relaxed);
    return c;
}

void tls_client_release(struct tls_client *c)
{
    if (c != NULL && atomic_fetch_sub_explicit(&c->common.count, 1, memory_order_acq_rel) == 1)
        client_free(c);
}
