/* SPDX-License-Identifier: Apache-2.0
 *
 * One handshake. OpenSSL reads the caller's bytes through a BIO of ours that has no buffer, and it
 * reads exactly a record's head and then its rest: so what stands behind the last record of the
 * handshake is never touched. What it writes is gathered for the caller; the records in it are
 * counted, because those that were sent under the new keys belong to the flow's sequence.
 *
 *      TLS 1.3   ◀ ClientHello    ▶ ServerHello..Finished   ◀ Finished   ▶ tickets: counted
 *      TLS 1.2   ... ▶ change_cipher_spec, Finished: its explicit nonce is where ours go on */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include "net/tls_int.h"

enum {
    HEAD_BYTES = 5,
    RECORD_PAYLOAD_MAX = 16384 + 256,
    OUT_BYTES_FIRST = 4096,
    OUT_BYTES_MAX = 256 * 1024, /* a chain of certificates is far below */
    TYPE_CHANGE_CIPHER_SPEC = 20,
    TYPE_HANDSHAKE = 22,
    PEER_NAMES_BYTES_MAX = 1024,
};

enum state { STATE_HEAD, STATE_TALKING, STATE_DONE, STATE_FAILED };

struct tls_handshake {
    struct tls_server *server; /* one of the two */
    struct tls_client *client;
    SSL *ssl;
    const char *in; /* the step's bytes, while it lasts */
    size_t in_n, in_at;
    char *out;
    size_t out_n, out_cap;
    const char *failure_text;
    char *names; /* SNI, then the peer's names */
    uint16_t sni_n, peer_n;
    uint8_t head[HEAD_BYTES]; /* before there is an SSL object, and until it has read them */
    uint8_t head_n, head_at;
    uint8_t state, failure;
    bool is_resumed, has_alpn;
    bool has_client_secret, has_server_secret;
    bool is_after_ccs;   /* the next record of ours is sealed */
    uint32_t sent_later; /* records sent under the flow's keys */
    uint64_t finished_nonce;
    uint8_t client_secret[48], server_secret[48];
    struct tls_flow flow;
};

/* ---- the BIO ---------------------------------------------------------------------------------
 */

static int bio_read(BIO *b, char *to, size_t n, size_t *ret_n)
{
    struct tls_handshake *h = (struct tls_handshake *)BIO_get_data(b);
    size_t held = (size_t)(h->head_n - h->head_at);
    BIO_clear_retry_flags(b);
    if (held > 0) {
        n = n < held ? n : held;
        memcpy(to, h->head + h->head_at, n);
        h->head_at = (uint8_t)(h->head_at + n);
    } else if (h->in_at < h->in_n) {
        n = n < h->in_n - h->in_at ? n : h->in_n - h->in_at;
        memcpy(to, h->in + h->in_at, n);
        h->in_at += n;
    } else {
        BIO_set_retry_read(b);
        return -1;
    }
    *ret_n = n;
    return 1;
}

static int bio_write(BIO *b, const char *from, size_t n, size_t *ret_n)
{
    struct tls_handshake *h = (struct tls_handshake *)BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (n > OUT_BYTES_MAX - h->out_n)
        return -1;
    if (h->out_n + n > h->out_cap) {
        size_t cap = h->out_cap > 0 ? h->out_cap : OUT_BYTES_FIRST;
        while (cap < h->out_n + n)
            cap *= 2;
        char *more = (char *)realloc(h->out, cap);
        if (more == NULL)
            return -1;
        h->out = more;
        h->out_cap = cap;
    }
    memcpy(h->out + h->out_n, from, n);
    h->out_n += n;
    *ret_n = n;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *tls_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "weir");
    if (m == NULL)
        return NULL;
    (void)BIO_meth_set_read_ex(m, bio_read);
    (void)BIO_meth_set_write_ex(m, bio_write);
    (void)BIO_meth_set_ctrl(m, bio_ctrl);
    return m;
}

/* ---- secrets ---------------------------------------------------------------------------------
 */

static struct tls_handshake *handshake_of(const SSL *ssl)
{
    return (struct tls_handshake *)SSL_get_ex_data(ssl, 0);
}

const struct tls_server *tls_server_of(const SSL *ssl)
{
    const struct tls_handshake *h = handshake_of(ssl);
    return h != NULL ? h->server : NULL;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : 0;
}

/* "LABEL client_random secret", both in hexadecimal, as OpenSSL writes it. */
void tls_keylog(const SSL *ssl, const char *line)
{
    struct tls_handshake *h = handshake_of(ssl);
    struct slice rest = slice_cstr(line);
    struct slice label = slice_take(rest, slice_find(rest, ' '));
    bool is_client = slice_equal(label, SLICE("CLIENT_TRAFFIC_SECRET_0"));
    if (h == NULL || (!is_client && !slice_equal(label, SLICE("SERVER_TRAFFIC_SECRET_0"))))
        return;
    rest = slice_drop(rest, label.n + 1);
    rest = slice_drop(rest, slice_find(rest, ' ') + 1);
    uint8_t *secret = is_client ? h->client_secret : h->server_secret;
    if (rest.n != 64 && rest.n != 96)
        return;
    for (size_t i = 0; i < rest.n / 2; i++)
        secret[i] = (uint8_t)(hex_value(rest.p[2 * i]) << 4 | hex_value(rest.p[2 * i + 1]));
    if (is_client)
        h->has_client_secret = true;
    else
        h->has_server_secret = true;
}

/* Looks at the records that a step has written. `later`: all are under the flow's keys. */
static void count_records(struct tls_handshake *h, bool later)
{
    const uint8_t *p = (const uint8_t *)h->out;
    for (size_t at = 0; h->out_n - at >= HEAD_BYTES;) {
        size_t n = (size_t)p[at + 3] << 8 | p[at + 4];
        if (n > h->out_n - at - HEAD_BYTES)
            return;
        if (later)
            h->sent_later++;
        if (h->is_after_ccs && p[at] == TYPE_HANDSHAKE && n >= 8) {
            const uint8_t *nonce = p + at + HEAD_BYTES;
            h->finished_nonce = bytes_get_be(&nonce, 8);
            h->is_after_ccs = false;
        }
        if (p[at] == TYPE_CHANGE_CIPHER_SPEC)
            h->is_after_ccs = true;
        at += HEAD_BYTES + n;
    }
}

static int suite_of(const SSL_CIPHER *c)
{
    switch (c != NULL ? SSL_CIPHER_get_protocol_id(c) : 0) {
    case 0x1301: /* TLS 1.3 */
    case 0xc02b: /* ECDHE-ECDSA */
    case 0xc02f: /* ECDHE-RSA */
        return TLS_AES_128_GCM_SHA256;
    case 0x1302:
    case 0xc02c:
    case 0xc030:
        return TLS_AES_256_GCM_SHA384;
    case 0x1303:
    case 0xcca9:
    case 0xcca8:
        return TLS_CHACHA20_POLY1305_SHA256;
    default:
        return -1;
    }
}

static bool make_flow(struct tls_handshake *h)
{
    const int suite = suite_of(SSL_get_current_cipher(h->ssl));
    const SSL_SESSION *session = SSL_get_session(h->ssl);
    const bool is_client = h->client != NULL;
    if (suite < 0 || session == NULL)
        return false;
    if (SSL_version(h->ssl) == TLS1_3_VERSION) {
        if (!h->has_client_secret || !h->has_server_secret)
            return false;
        tls_flow_init_13(&h->flow, (enum tls_suite)suite, is_client, h->client_secret,
                         h->server_secret);
        h->flow.seal.seq += h->sent_later;
    } else {
        uint8_t master[48], client_random[32], server_random[32];
        if (SSL_SESSION_get_master_key(session, master, sizeof master) != sizeof master ||
            SSL_get_client_random(h->ssl, client_random, 32) != 32 ||
            SSL_get_server_random(h->ssl, server_random, 32) != 32)
            return false;
        tls_flow_init_12(&h->flow, (enum tls_suite)suite, is_client, master, client_random,
                         server_random, h->finished_nonce);
        OPENSSL_cleanse(master, sizeof master);
    }
    uint8_t code = SSL_SESSION_get_max_fragment_length(session);
    if (code >= TLSEXT_max_fragment_length_512 && code <= TLSEXT_max_fragment_length_4096)
        h->flow.record_max = (uint16_t)(256U << code);
    return true;
}

/* ---- names -----------------------------------------------------------------------------------
 */

static void put_name(void *ctx, struct slice name)
{
    struct text *t = (struct text *)ctx;
    if (t->n + 1 + name.n > t->cap)
        return;
    if (t->n > 0)
        text_put_char(t, ' ');
    text_put(t, name);
}

/* Keeps what will be asked for when the SSL object is gone. False when memory is short: then a
 * client could not be told from one without a certificate. */
static bool keep_names(struct tls_handshake *h)
{
    char peer[PEER_NAMES_BYTES_MAX];
    struct text t = text_into(peer, sizeof peer);
    struct slice sni = slice_cstr(SSL_get_servername(h->ssl, TLSEXT_NAMETYPE_host_name));
    X509 *x = SSL_get0_peer_certificate(h->ssl);
    if (x != NULL && SSL_get_verify_result(h->ssl) == X509_V_OK)
        tls_names(x, put_name, &t);
    if (sni.n > 255)
        sni.n = 255;
    if (sni.n + t.n == 0)
        return true;
    h->names = (char *)malloc(sni.n + t.n);
    if (h->names == NULL)
        return false;
    if (sni.n > 0)
        memcpy(h->names, sni.p, sni.n);
    memcpy(h->names + sni.n, peer, t.n);
    h->sni_n = (uint16_t)sni.n;
    h->peer_n = (uint16_t)t.n;
    return true;
}

/* ---- ends ------------------------------------------------------------------------------------
 */

static void ssl_end(struct tls_handshake *h)
{
    if (h->ssl == NULL)
        return;
    /* Else it would look for the session in a table under a lock, to throw it out. */
    SSL_set_shutdown(h->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(h->ssl);
    h->ssl = NULL;
    OPENSSL_cleanse(h->client_secret, sizeof h->client_secret);
    OPENSSL_cleanse(h->server_secret, sizeof h->server_secret);
}

static int failed(struct tls_handshake *h, enum tls_failure f, const char *text)
{
    h->state = STATE_FAILED;
    h->failure = (uint8_t)f;
    h->failure_text = text;
    ssl_end(h);
    return TLS_STEP_FAILED;
}

static enum tls_failure failure_of(unsigned long error)
{
    const int reason = ERR_GET_REASON(error);
    if (reason == ERR_R_MALLOC_FAILURE)
        return TLS_FAIL_MEMORY;
    if (ERR_GET_LIB(error) != ERR_LIB_SSL)
        return TLS_FAIL_PROTOCOL;
    if (reason > SSL_AD_REASON_OFFSET)
        return TLS_FAIL_REFUSED;
    switch (reason) {
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_CIPHERS_SPECIFIED:
        return TLS_FAIL_CIPHER;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_INAPPROPRIATE_FALLBACK:
        return TLS_FAIL_VERSION;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TLS_FAIL_PEER;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return TLS_FAIL_HTTP;
    default:
        return TLS_FAIL_PROTOCOL;
    }
}

/* What OpenSSL's queue of errors says: the first is where it went wrong. */
static int failed_in_ssl(struct tls_handshake *h)
{
    unsigned long error = ERR_peek_error();
    const char *text = ERR_reason_error_string(error);
    if (h->client != NULL) /* for the log: whom did we expect? */
        (void)keep_names(h);
    if (error != 0 && ERR_GET_LIB(error) == ERR_LIB_SSL &&
        ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        text = X509_verify_cert_error_string(SSL_get_verify_result(h->ssl));
    ERR_clear_error();
    return failed(h, failure_of(error), text != NULL ? text : "handshake failed");
}

static int done(struct tls_handshake *h)
{
    if (!make_flow(h))
        return failed(h, TLS_FAIL_PROTOCOL, "no secrets");
    if (!keep_names(h))
        return failed(h, TLS_FAIL_MEMORY, "out of memory");
    const unsigned char *alpn = NULL;
    unsigned alpn_n = 0;
    SSL_get0_alpn_selected(h->ssl, &alpn, &alpn_n);
    h->has_alpn = alpn_n > 0;
    h->is_resumed = SSL_session_reused(h->ssl) == 1;
    h->state = STATE_DONE;
    ssl_end(h);
    return TLS_STEP_DONE;
}

/* ---- steps -----------------------------------------------------------------------------------
 */

/* Who sends text to a TLS port mostly took the wrong port. */
static int failed_on_text(struct tls_handshake *h)
{
    static const char http[][4] = {"GET ", "HEAD", "POST", "PUT ", "DELE",
                                   "CONN", "PATC", "TRAC", "PRI "};
    for (size_t i = 0; i < sizeof http / sizeof http[0]; i++)
        if (memcmp(h->head, http[i], 4) == 0)
            return failed(h, TLS_FAIL_HTTP, "HTTP without TLS");
    for (size_t i = 0; i < 4; i++)
        if ((h->head[i] < 'A' || h->head[i] > 'Z') && h->head[i] != '/' && h->head[i] != ' ')
            return failed(h, TLS_FAIL_GARBAGE, "not TLS");
    return failed(h, TLS_FAIL_PLAIN, "SIP without TLS");
}

static SSL *ssl_begin(struct tls_handshake *h, SSL_CTX *ctx, const struct tls_common *common)
{
    SSL *ssl = SSL_new(ctx);
    BIO *bio = BIO_new(common->bio);
    if (ssl == NULL || bio == NULL || SSL_set_ex_data(ssl, 0, h) != 1) {
        SSL_free(ssl);
        BIO_free(bio);
        return NULL;
    }
    BIO_set_data(bio, h);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

/* Waits for a record's head, which costs nobody 40 KB: whoever connects and says nothing, or not
 * TLS, never gets an SSL object. MORE or FAILED. */
static int begin_with_head(struct tls_handshake *h)
{
    while (h->head_n < HEAD_BYTES && h->in_at < h->in_n)
        h->head[h->head_n++] = (uint8_t)h->in[h->in_at++];
    if (h->head_n == 0)
        return TLS_STEP_MORE;
    if (h->head[0] >= 'A' && h->head[0] <= 'Z')
        return h->head_n < 4 ? TLS_STEP_MORE : failed_on_text(h);
    if (h->head[0] != TYPE_HANDSHAKE || (h->head_n > 1 && h->head[1] != 3))
        return failed(h, TLS_FAIL_GARBAGE, "not TLS");
    if (h->head_n < HEAD_BYTES)
        return TLS_STEP_MORE;
    size_t n = (size_t)h->head[3] << 8 | h->head[4];
    if (n == 0 || n > RECORD_PAYLOAD_MAX)
        return failed(h, TLS_FAIL_GARBAGE, "not TLS");
    h->ssl = ssl_begin(h, h->server->identity[0].ctx, &h->server->common);
    if (h->ssl == NULL)
        return failed(h, TLS_FAIL_MEMORY, "out of memory");
    SSL_set_accept_state(h->ssl);
    h->state = STATE_TALKING;
    return TLS_STEP_MORE;
}

static int talk(struct tls_handshake *h)
{
    const bool later = h->server != NULL && h->has_server_secret;
    ERR_clear_error();
    int r = SSL_do_handshake(h->ssl);
    count_records(h, later);
    if (r == 1)
        return done(h);
    if (SSL_get_error(h->ssl, r) == SSL_ERROR_WANT_READ)
        return TLS_STEP_MORE;
    return failed_in_ssl(h);
}

int tls_handshake_step(struct tls_handshake *h, const char *in, size_t n, size_t *ret_used,
                       struct slice *ret_out)
{
    int r = h->state == STATE_DONE ? TLS_STEP_DONE : TLS_STEP_FAILED;
    h->in = in;
    h->in_n = n;
    h->in_at = 0;
    h->out_n = 0;
    if (h->state == STATE_HEAD)
        r = begin_with_head(h);
    if (h->state == STATE_TALKING)
        r = talk(h);
    h->in = NULL;
    *ret_used = h->in_at;
    *ret_out = slice_of(h->out, h->out_n);
    return r;
}

/* ---- beginning, asking, ending ---------------------------------------------------------------
 */

struct tls_handshake *tls_handshake_new(struct tls_server *s)
{
    struct tls_handshake *h = (struct tls_handshake *)calloc(1, sizeof *h);
    if (h != NULL) {
        h->server = tls_server_take(s);
        h->failure_text = "";
    }
    return h;
}

struct tls_handshake *tls_handshake_connect(struct tls_client *c, struct slice name)
{
    char host[256];
    struct tls_handshake *h = (struct tls_handshake *)calloc(1, sizeof *h);
    if (h == NULL || name.n == 0 || name.n >= sizeof host || slice_find(name, '\0') < name.n) {
        free(h);
        return NULL;
    }
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';
    h->client = tls_client_take(c);
    h->failure_text = "";
    h->state = STATE_TALKING;
    h->ssl = ssl_begin(h, c->ctx, &c->common);
    bool ok = h->ssl != NULL;
    if (ok) {
        SSL_set_connect_state(h->ssl);
        SSL_set_hostflags(h->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(h->ssl), host) == 1 ||
             (SSL_set1_host(h->ssl, host) == 1 && SSL_set_tlsext_host_name(h->ssl, host) == 1);
        ERR_clear_error();
    }
    if (ok)
        return h;
    tls_handshake_free(h);
    return NULL;
}

void tls_handshake_flow(const struct tls_handshake *h, struct tls_flow *ret_flow)
{
    MUST(h->state == STATE_DONE);
    *ret_flow = h->flow;
}

struct tls_info tls_handshake_info(const struct tls_handshake *h)
{
    const bool asks = h->client != NULL && h->ssl != NULL; /* nothing is kept yet */
    return (struct tls_info){
        .server_name = asks ? slice_cstr(SSL_get_servername(h->ssl, TLSEXT_NAMETYPE_host_name))
                            : slice_of(h->names, h->sni_n),
        .peer_names = slice_of(h->names != NULL ? h->names + h->sni_n : NULL, h->peer_n),
        .failure = (enum tls_failure)h->failure,
        .failure_text = h->failure_text,
        .is_resumed = h->is_resumed,
        .alpn = h->has_alpn,
    };
}

const char *tls_failure_name(enum tls_failure f)
{
    static const char *const name[TLS_FAILURES] = {
        [TLS_FAIL_NONE] = "none",         [TLS_FAIL_GARBAGE] = "garbage",
        [TLS_FAIL_HTTP] = "http",         [TLS_FAIL_PLAIN] = "plain",
        [TLS_FAIL_VERSION] = "version",   [TLS_FAIL_CIPHER] = "cipher",
        [TLS_FAIL_PEER] = "peer",         [TLS_FAIL_REFUSED] = "refused",
        [TLS_FAIL_PROTOCOL] = "protocol", [TLS_FAIL_MEMORY] = "memory",
    };
    return f < TLS_FAILURES ? name[f] : "?";
}

void tls_handshake_free(struct tls_handshake *h)
{
    if (h == NULL)
        return;
    ssl_end(h);
    tls_server_release(h->server);
    tls_client_release(h->client);
    free(h->names);
    free(h->out);
    OPENSSL_cleanse(h, sizeof *h);
    free(h);
}
