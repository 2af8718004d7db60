/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of every transport, in one thread: the test is the peer at the other end of a
 * loopback connection, the clock, and the engine, which notes down what comes up. So every cut can
 * be tried, and no time passes.
 *
 * covers: stream.c stream_read.c stream_write.c stream_tls.c stream_ws.c listeners_tls.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include "net/net_int.h"
#include "support/support.h"
#include "stub_engine.h"
#include "stub_guard.h"

/* ---- the engine: a list of what it was told ----------------------------------------------------
 */

enum { NOTES_BYTES = 32768 };

struct engine {
    char notes[NOTES_BYTES];
    size_t n;
    struct flow_id flow; /* of the last event */
};

static struct engine the_engine;

struct engine *engine_new(void *mem, size_t size, const struct engine_opts *opts,
                          const struct engine_birth *birth, mono_ns now)
{
    (void)mem, (void)size, (void)opts, (void)birth, (void)now;
    return &the_engine;
}

bool engine_flow_is_spare(struct engine *e, struct flow_id flow, mono_ns *ret_last_in)
{
    (void)e, (void)flow, (void)ret_last_in;
    return false;
}

static void note(struct engine *e, const char *what, size_t n, uint32_t sum)
{
    assert_true(e->n + 64 < NOTES_BYTES);
    int k = snprintf(e->notes + e->n, NOTES_BYTES - e->n, "%s %zu %08x\n", what, n, sum);
    e->n += (size_t)k;
}

static uint32_t sum_of(struct slice s)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (uint8_t)s.p[i]) * 16777619u;
    return h;
}

static void act(struct actions *out, uint8_t kind, struct flow_id flow, struct slice bytes)
{
    struct action *a = &out->a[out->count++];
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->flow = flow;
    if (bytes.n == 0)
        return;
    a->iov = out->iov_count;
    a->iov_count = 2; /* in pieces, as a real one has them */
    size_t half = bytes.n / 2;
    out->iov[out->iov_count++] = (struct iovec){(void *)(uintptr_t)bytes.p, half};
    out->iov[out->iov_count++] =
        (struct iovec){(void *)(uintptr_t)(bytes.p + half), bytes.n - half};
}

/* A message comes back as it is; one whose body is "close" closes. */
int engine_step(struct engine *e, const struct event *ev, mono_ns now, struct actions *out)
{
    static const char *const names[] = {
        [EV_MESSAGE] = "message",       [EV_FRAME_FAULT] = "fault",  [EV_PING] = "ping",
        [EV_FLOW_OPENED] = "opened",    [EV_FLOW_CLOSED] = "closed", [EV_ALIVE] = "alive",
        [EV_CONNECT_FAILED] = "failed",
    };
    (void)now;
    assert_true(ev->kind < sizeof names / sizeof names[0] && names[ev->kind] != NULL);
    note(e, names[ev->kind], ev->bytes.n, sum_of(ev->bytes));
    e->flow = ev->flow;
    if (ev->kind == EV_PING)
        act(out, ACT_SEND_FLOW, ev->flow, SLICE("\r\n"));
    if (ev->kind == EV_MESSAGE)
        act(out, ACT_SEND_FLOW, ev->flow, ev->bytes);
    if (ev->kind == EV_FRAME_FAULT || (ev->kind == EV_MESSAGE && ev->bytes.n > 5 &&
                                       memcmp(ev->bytes.p + ev->bytes.n - 5, "close", 5) == 0))
        act(out, ACT_CLOSE, ev->flow, SLICE_NONE);
    return 0;
}

static const char *notes(void)
{
    the_engine.notes[the_engine.n] = '\0';
    return the_engine.notes;
}

static void forget_notes(void)
{
    the_engine.n = 0;
}

/* Whether a note is there, and how often. */
static unsigned noted(const char *what)
{
    unsigned n = 0;
    for (const char *p = notes(); (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

/* ---- the world around it ----------------------------------------------------------------------
 */

enum { FIRST_TP = TP_TCP, FLOWS = 8 };
static const char *const tp_name[] = {"udp", "tcp", "tls", "ws", "wss"};

struct world {
    struct net net;
    struct config config;
    struct worker *w;
    uint16_t port[TP__COUNT]; /* a listener's id is its transport's number */
    struct config_cert cert;
    char folder[64], cert_path[96], key_path[96];
};

static struct world *x;

static struct addr loopback(uint16_t port)
{
    return (struct addr){.ip = {127, 0, 0, 1}, .port = port, .family = 4};
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    assert_int_equal(0, getsockname(fd, (struct sockaddr *)&sa, &len));
    return addr_from_sockaddr(&sa).port;
}

/* A certificate for "weir.test", signed by itself. */
static void make_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:weir.test");
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"weir.test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    X509_add_ext(cert, names, -1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *f = fopen(x->cert_path, "w");
    assert_non_null(f);
    PEM_write_X509(f, cert);
    fclose(f);
    f = fopen(x->key_path, "w");
    assert_non_null(f);
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_EXTENSION_free(names);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int begin(void **state)
{
    (void)state;
    struct addr any = loopback(0);
    memset(&the_engine, 0, sizeof the_engine);
    x = (struct world *)calloc(1, sizeof *x);
    snprintf(x->folder, sizeof x->folder, "/tmp/weir-stream-XXXXXX");
    assert_non_null(mkdtemp(x->folder));
    snprintf(x->cert_path, sizeof x->cert_path, "%s/cert.pem", x->folder);
    snprintf(x->key_path, sizeof x->key_path, "%s/key.pem", x->folder);
    make_certificate();
    x->cert = (struct config_cert){slice_cstr(x->cert_path), slice_cstr(x->key_path)};
    x->config.workers = 1;
    x->config.handshakes_max = 4;
    x->config.handshake_within = 5 * NS_S;
    x->config.engine.limits = (struct edge_limits){.flows = FLOWS, .target_flows = 2};
    for (uint8_t tp = FIRST_TP; tp < TP__COUNT; tp++) {
        x->config.engine.edge.listener[tp] =
            (struct edge_listener){.used = true, .transport = tp, .bind = any};
        x->config.listener[tp].certs = &x->cert;
        x->config.listener[tp].cert_count = 1;
    }
    x->net.config = &x->config;
    x->net.workers = 1;
    x->net.tls = listeners_tls_load(&x->config, stderr);
    assert_non_null(x->net.tls);
    x->w = x->net.worker[0] = worker_new(&x->net, 0, &x->config, FLOWS);
    assert_non_null(x->w);
    x->w->engine = engine_new(NULL, 0, NULL, NULL, 0);
    new_guard(64, x->w->now);
    for (uint8_t tp = FIRST_TP; tp < TP__COUNT; tp++) {
        int fd = tcp_listen(&any, false);
        assert_true(fd >= 0);
        x->port[tp] = port_of(fd);
        assert_int_equal(0, worker_adopt(x->w, &x->config, tp, fd));
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    worker_free(x->w);
    listeners_tls_free(x->net.tls);
    unlink(x->cert_path);
    unlink(x->key_path);
    rmdir(x->folder);
    free(x);
    return 0;
}

/* The worker does all that it can do now. */
static void pump(void)
{
    struct streams *s = &x->w->streams;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < s->fresh + s->ours_max; i++) {
            struct conn *c = i < s->fresh ? &s->accepted[i] : &s->ours[i - s->fresh];
            if (c->state == CONN_FREE)
                continue;
            struct pollfd p = {.fd = c->fd, .events = (short)c->armed};
            if (poll(&p, 1, 0) <= 0)
                continue;
            stream_event(x->w, ep_tag(EP_CONN, c->gen, c->slot), (uint32_t)p.revents);
            more = c->state != CONN_DOOMED;
        }
        door_shake(x->w);
        worker_settle(x->w);
    }
}

static void pass(dur_ns t)
{
    x->w->now = mono_add(x->w->now, t);
    stream_timers(x->w);
    worker_settle(x->w);
}

static unsigned work_live(void)
{
    return x->w->streams.work.live;
}

/* ---- the peer ---------------------------------------------------------------------------------
 */

struct peer {
    int fd;
    uint8_t tp;
    SSL_CTX *ctx;
    SSL *ssl; /* over memory: NULL when plain */
};

static void put(const struct peer *p, const char *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = send(p->fd, bytes + at, n - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno == EAGAIN)
            pump();
        else if (k < 0)
            return; /* the edge has closed: for the test to find */
        at += k > 0 ? (size_t)k : 0;
    }
}

/* What SSL wants sent, in pieces of `cut` bytes. */
static void put_sealed(struct peer *p, size_t cut)
{
    char *bytes;
    long n = BIO_get_mem_data(SSL_get_wbio(p->ssl), &bytes);
    for (long at = 0; at < n; at += (long)cut) {
        put(p, bytes + at, (size_t)(n - at) < cut ? (size_t)(n - at) : cut);
        pump();
    }
    (void)BIO_reset(SSL_get_wbio(p->ssl));
}

/* Moves what has come into SSL. False at the end of the stream. */
static bool fetch(struct peer *p)
{
    char bytes[16384];
    ssize_t n;
    while ((n = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        BIO_write(SSL_get_rbio(p->ssl), bytes, (int)n);
    return n != 0;
}

/* Connects, and puts a pair of local sockets in the place of the connection: what one end sends is
 * at the other when send() returns, which loopback does not promise. */
static void connect_to(struct peer *p, uint8_t tp)
{
    struct sockaddr_in6 sa;
    struct streams *s = &x->w->streams;
    struct addr to = loopback(x->port[tp]);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), pair[2];
    assert_int_equal(0, connect(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&to, &sa)));
    struct pollfd wait = {.fd = s->listen_fd[tp], .events = POLLIN};
    assert_int_equal(1, poll(&wait, 1, 5000));
    uint64_t gen = s->next_gen;
    stream_accept(x->w, tp);
    worker_settle(x->w);
    close(fd);
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
    *p = (struct peer){.fd = pair[1], .tp = tp};
    for (uint32_t i = 0; i < s->fresh; i++) {
        struct conn *c = &s->accepted[i];
        if (c->state == CONN_FREE || c->gen != gen)
            continue;
        struct epoll_event ev = {.events = c->armed, .data.u64 = ep_tag(EP_CONN, gen, c->slot)};
        assert_int_equal(c->fd, dup2(pair[0], c->fd));
        assert_int_equal(0, epoll_ctl(x->w->epfd, EPOLL_CTL_ADD, c->fd, &ev));
    }
    close(pair[0]);
}

static bool with_certificate;

static void shake(struct peer *p, int version, size_t cut)
{
    p->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(p->ctx, version);
    SSL_CTX_set_max_proto_version(p->ctx, version);
    if (with_certificate) {
        SSL_CTX_use_certificate_file(p->ctx, x->cert_path, SSL_FILETYPE_PEM);
        SSL_CTX_use_PrivateKey_file(p->ctx, x->key_path, SSL_FILETYPE_PEM);
    }
    p->ssl = SSL_new(p->ctx);
    SSL_set_bio(p->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(p->ssl);
    for (unsigned round = 0; round < 5 && SSL_do_handshake(p->ssl) != 1; round++) {
        put_sealed(p, cut);
        fetch(p);
    }
    put_sealed(p, cut);
    assert_true(SSL_is_init_finished(p->ssl));
}

static const char upgrade[] = "GET / HTTP/1.1\r\nHost: weir.test\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Protocol: sip\r\n\r\n";

/* Puts bytes through what lies above TCP and returns them as they go onto the wire. */
static size_t seal(struct peer *p, const char *bytes, size_t n, char *to, size_t cap)
{
    if (p->ssl == NULL) {
        assert_true(n <= cap);
        memcpy(to, bytes, n);
        return n;
    }
    for (size_t at = 0; at < n;) {
        size_t k = n - at < 16384 ? n - at : 16384;
        assert_int_equal(k, SSL_write(p->ssl, bytes + at, (int)k));
        at += k;
    }
    int k = BIO_read(SSL_get_wbio(p->ssl), to, (int)cap);
    assert_true(k >= 0 && BIO_pending(SSL_get_wbio(p->ssl)) == 0);
    return (size_t)k;
}

static size_t take(struct peer *p, char *to, size_t cap)
{
    size_t have = 0;
    if (p->ssl == NULL) {
        ssize_t n;
        while (have < cap && (n = recv(p->fd, to + have, cap - have, MSG_DONTWAIT)) > 0)
            have += (size_t)n;
        return have;
    }
    fetch(p);
    for (int n; have < cap && (n = SSL_read(p->ssl, to + have, (int)(cap - have))) > 0;)
        have += (size_t)n;
    return have;
}

static void put_plain(struct peer *p, const char *bytes, size_t n)
{
    static char wire[400000];
    put(p, wire, seal(p, bytes, n, wire, sizeof wire));
    pump();
}

static void open_peer_cut(struct peer *p, uint8_t tp, int version, size_t cut)
{
    char answer[1024];
    connect_to(p, tp);
    if (transport_has_tls(tp))
        shake(p, version, cut);
    if (!transport_has_ws(tp))
        return;
    put_plain(p, upgrade, sizeof upgrade - 1);
    size_t n = take(p, answer, sizeof answer - 1);
    answer[n] = '\0';
    assert_non_null(strstr(answer, "HTTP/1.1 101 "));
}

static void open_peer(struct peer *p, uint8_t tp)
{
    open_peer_cut(p, tp, TLS1_3_VERSION, 1 << 20);
    assert_int_equal(1, noted("opened 0 "));
    assert_int_equal(0, work_live());
}

static void close_peer(struct peer *p)
{
    close(p->fd);
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    pump();
    pass(0);
    assert_int_equal(0, x->w->streams.live);
    assert_int_equal(0, work_live());
    assert_int_equal(0, x->w->streams.tls_flows.live);
    assert_int_equal(0, x->w->streams.shaking);
    for (unsigned i = 0; i < BUF_CLASSES; i++)
        assert_int_equal(0, x->w->streams.pool.class[i].live);
}

/* ---- what peers say ---------------------------------------------------------------------------
 */

struct script {
    char bytes[200000];
    size_t n;
    bool is_ws;
};

/* One frame, masked. */
static void say_frame(struct script *s, enum ws_opcode op, bool is_last, const char *p, size_t n)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t head[WS_HEAD_BYTES_MAX];
    size_t k = ws_put_head_masked(head, op, n, mask);
    if (!is_last)
        head[0] &= 0x7f;
    assert_true(s->n + k + n <= sizeof s->bytes);
    memcpy(s->bytes + s->n, head, k);
    ws_mask(s->bytes + s->n + k, p, n, mask);
    s->n += k + n;
}

static void say(struct script *s, const char *p, size_t n)
{
    if (s->is_ws) {
        say_frame(s, WS_OP_TEXT, true, p, n);
        return;
    }
    assert_true(s->n + n <= sizeof s->bytes);
    memcpy(s->bytes + s->n, p, n);
    s->n += n;
}

static size_t sip(char *to, size_t cap, const char *body, size_t n)
{
    int k = snprintf(to, cap, "OPTIONS sip:x SIP/2.0\r\nContent-Length: %zu\r\n\r\n", n);
    assert_true(k > 0 && (size_t)k + n < cap);
    memcpy(to + k, body, n);
    return (size_t)k + n;
}

/* All that a peer may say, and an end. */
static void write_script(struct script *s, bool is_ws)
{
    static const char long_body[200] = "b";
    char m[512];
    s->n = 0;
    s->is_ws = is_ws;
    size_t n = sip(m, sizeof m, "hello", 5);
    say(s, m, n);
    say(s, "\r\n\r\n", 4);
    if (is_ws) {
        say_frame(s, WS_OP_TEXT, false, m, 10);
        say_frame(s, WS_OP_PING, true, "are you there", 13);
        say_frame(s, WS_OP_CONTINUATION, false, m + 10, 20);
        say_frame(s, WS_OP_CONTINUATION, true, m + 30, n - 30);
    } else {
        say(s, m, n);
    }
    n = sip(m, sizeof m, long_body, sizeof long_body);
    say(s, m, n);
    n = sip(m, sizeof m, "close", 5);
    say(s, m, n);
}

/* ---- cuts -------------------------------------------------------------------------------------
 */

static const struct {
    uint8_t tp;
    int version;
} kinds[] = {
    {TP_TCP, 0}, {TP_TLS, TLS1_3_VERSION}, {TP_TLS, TLS1_2_VERSION},
    {TP_WS, 0},  {TP_WSS, TLS1_3_VERSION}, {TP_WSS, TLS1_2_VERSION},
};

/* Sends the script with one cut and returns what came of it. An "alive" is told at most once for
 * each read, so it depends on the reads, and does not count. */
static void run_script(unsigned kind, size_t first, size_t step, char *ret_notes, size_t *ret_n)
{
    static struct script s;
    static char wire[300000], back[4096];
    struct peer p;
    forget_notes();
    open_peer_cut(&p, kinds[kind].tp, kinds[kind].version, 1 << 20);
    write_script(&s, transport_has_ws(p.tp));
    size_t n = seal(&p, s.bytes, s.n, wire, sizeof wire);
    *ret_n = n;
    for (size_t at = 0; at < n;) {
        size_t k = at == 0 && first > 0 ? first : step;
        k = k < n - at ? k : n - at;
        put(&p, wire + at, k);
        pump();
        at += k;
    }
    while (take(&p, back, sizeof back) > 0)
        continue;
    close_peer(&p);
    char *to = ret_notes;
    for (const char *q = notes(); *q != '\0';) {
        size_t line = (size_t)(strchr(q, '\n') + 1 - q);
        if (strncmp(q, "alive", 5) != 0) {
            memcpy(to, q, line);
            to += line;
        }
        q += line;
    }
    *to = '\0';
}

static void test_every_cut_gives_the_same(void **state)
{
    (void)state;
    static char want[NOTES_BYTES], got[NOTES_BYTES];
    for (unsigned kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        size_t n, same;
        run_script(kind, 0, SIZE_MAX, want, &n);
        assert_non_null(strstr(want, "opened 0 "));
        assert_non_null(strstr(want, "ping "));
        assert_non_null(strstr(want, "closed 0 "));
        for (size_t cut = 1; cut < n; cut++) {
            run_script(kind, cut, SIZE_MAX, got, &same);
            if (strcmp(want, got) != 0)
                fail_msg("%s cut at %zu of %zu: got\n%swant\n%s", tp_name[kinds[kind].tp], cut, n,
                         got, want);
        }
        for (size_t step = 1; step < 40; step += 3) {
            run_script(kind, 0, step, got, &same);
            assert_string_equal(want, got);
        }
    }
}

static void test_a_handshake_in_single_bytes(void **state)
{
    (void)state;
    static const uint8_t tps[] = {TP_TLS, TP_WSS};
    for (unsigned i = 0; i < 4; i++) {
        struct peer p;
        forget_notes();
        open_peer_cut(&p, tps[i / 2], i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION, 1);
        assert_int_equal(1, noted("opened 0 "));
        close_peer(&p);
        assert_int_equal(1, noted("closed 0 "));
    }
    assert_int_equal(4, x->w->count.tls_handshakes);
    assert_int_equal(2, x->w->count.ws_upgrades);
}

/* Large messages both ways, over every transport; an idle connection holds nothing afterwards. */
static void test_large_messages_come_back(void **state)
{
    (void)state;
    static char body[SIP_BODY_BYTES_MAX], m[SIP_MESSAGE_BYTES_MAX], back[400000];
    static struct script s;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 7 % 251);
    for (uint8_t tp = FIRST_TP; tp < TP__COUNT; tp++) {
        static const size_t sizes[] = {1, 4000, 16384, 16385, 40000, SIP_BODY_BYTES_MAX};
        struct peer p;
        forget_notes();
        open_peer(&p, tp);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t n = sip(m, sizeof m, body, sizes[i]), have = 0;
            s.n = 0;
            s.is_ws = transport_has_ws(tp);
            say(&s, m, n);
            put_plain(&p, s.bytes, s.n);
            size_t want = n + (s.is_ws ? (n < 126 ? 2u : n < 65536 ? 4u : 10u) : 0);
            for (unsigned tries = 0; tries < 1000 && have < want; tries++) {
                pump();
                have += take(&p, back + have, sizeof back - have);
            }
            assert_int_equal(want, have);
            assert_memory_equal(m, back + (want - n), n);
            assert_int_equal(0, work_live());
        }
        close_peer(&p);
    }
}

/* ---- bounds -----------------------------------------------------------------------------------
 */

static void test_slow_handshakes_end(void **state)
{
    (void)state;
    static const char *const begins[] = {"", "\x16", "\x16\x03\x01\x02\x00\x01",
                                         "GET / HTTP/1.1\r\n"};
    for (unsigned i = 0; i < 4; i++) {
        for (uint8_t tp = TP_TLS; tp < TP__COUNT; tp++) {
            struct peer p;
            char got[16];
            if (i > 0 && (i == 3) != (tp == TP_WS))
                continue;
            uint64_t before = x->w->count.handshakes_slow;
            connect_to(&p, tp);
            put(&p, begins[i], strlen(begins[i]) + (i == 2));
            pump();
            pass(x->config.handshake_within - NS_S);
            assert_int_equal(1, x->w->streams.live);
            pass(NS_S + 2 * NS_MS);
            assert_int_equal(before + 1, x->w->count.handshakes_slow);
            assert_true(recv(p.fd, got, sizeof got, MSG_DONTWAIT) <= 0);
            close_peer(&p);
        }
    }
    assert_string_equal("", notes()); /* the engine never heard of them */
}

static void test_what_is_no_tls_is_closed(void **state)
{
    (void)state;
    static const char *const bad[] = {"OPTIONS sip:x SIP/2.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
                                      "\r\n\r\n\r\n\r\n", "garbage that is long enough",
                                      "\x16\x03\x01\xff\xff\x01\x00\x00\x00\x00\x00"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (uint8_t tp = TP_TLS; tp <= TP_WSS; tp += TP_WSS - TP_TLS) {
            struct peer p;
            uint64_t before = x->w->count.tls_failed;
            connect_to(&p, tp);
            put(&p, bad[i], strlen(bad[i]));
            pump();
            assert_int_equal(before + 1, x->w->count.tls_failed);
            assert_int_equal(0, x->w->streams.shaking);
            close_peer(&p);
        }
    }
    assert_string_equal("", notes());
}

static void test_what_is_no_upgrade_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"OPTIONS sip:x SIP/2.0\r\n", "POST / HTTP/1.1\r\n\r\n",
                                      "\x16\x03\x01\x02\x01\x01",
                                      "GET / HTTP/1.1\r\nHost: x\r\n\r\n"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct peer p;
        char got[600];
        connect_to(&p, TP_WS);
        put(&p, bad[i], strlen(bad[i]));
        pump();
        assert_int_equal(i + 1, x->w->count.ws_refused);
        size_t n = take(&p, got, sizeof got - 1);
        got[n] = '\0';
        assert_memory_equal("HTTP/1.1 4", got, 10);
        assert_int_equal(0, recv(p.fd, got, 1, MSG_DONTWAIT)); /* an end, not a reset */
        close_peer(&p);
    }
    assert_string_equal("", notes());
}

/* The second half of the places is lent for a shorter time. */
static void test_a_crowd_has_less_time(void **state)
{
    (void)state;
    struct peer p[4];
    for (unsigned i = 0; i < 4; i++) {
        connect_to(&p[i], TP_TLS);
        put(&p[i], "\x16\x03\x01\x02", 4);
        pump();
    }
    pass(x->config.handshake_within / 4 + 2 * NS_MS);
    assert_int_equal(2, x->w->streams.shaking);
    assert_int_equal(2, x->w->count.handshakes_slow);
    pass(x->config.handshake_within);
    assert_int_equal(0, x->w->streams.shaking);
    for (unsigned i = 1; i < 4; i++)
        close(p[i].fd);
    close_peer(&p[0]);
}

static void test_handshakes_are_bounded(void **state)
{
    (void)state;
    struct peer p[6];
    for (unsigned i = 0; i < 4; i++) {
        connect_to(&p[i], TP_TLS);
        put(&p[i], "\x16\x03\x01\x02", 4);
        pump();
    }
    assert_int_equal(4, x->w->streams.shaking);
    struct conn *c = &x->w->streams.accepted[0];
    close(p[0].fd); /* one goes: there is room again */
    stream_event(x->w, ep_tag(EP_CONN, c->gen, c->slot), EPOLLIN);
    worker_settle(x->w);
    assert_int_equal(3, x->w->streams.shaking);
    for (unsigned i = 4; i < 6; i++) {
        connect_to(&p[i], TP_TLS);
        put(&p[i], "\x16", 1); /* the fifth waits */
        pump();
    }
    assert_int_equal(1, x->w->count.handshakes_waited);
    assert_int_equal(4, x->w->streams.shaking);
    close(p[1].fd);
    pump(); /* one goes */
    pump(); /* its turn comes */
    assert_int_equal(4, x->w->streams.shaking);
    assert_int_equal(0, x->w->streams.list[LIST_STRANGERS].count);
    for (unsigned i = 2; i < 6; i++)
        close(p[i].fd);
    pump();
    assert_int_equal(0, x->w->streams.shaking);
    assert_int_equal(0, x->w->streams.live);
}

static void test_the_silent_and_the_slow_go(void **state)
{
    (void)state;
    for (uint8_t tp = FIRST_TP; tp < TP__COUNT; tp++) {
        struct peer p;
        static struct script s;
        char m[256];
        forget_notes();
        open_peer(&p, tp); /* says nothing */
        pass(STREAM_SENSIBLE_WITHIN + 2 * NS_MS);
        assert_int_equal(1, noted("closed 0 "));
        close_peer(&p);
        forget_notes();
        open_peer(&p, tp); /* says the beginning of something */
        s.n = 0;
        s.is_ws = transport_has_ws(tp);
        say(&s, m, sip(m, sizeof m, "hello", 5));
        put_plain(&p, s.bytes, s.n - 3);
        assert_int_equal(1, work_live());
        pass(STREAM_MESSAGE_WITHIN + 2 * NS_MS);
        pump();
        assert_int_equal(!s.is_ws, noted("fault "));
        close_peer(&p);
        assert_int_equal(1, noted("closed 0 "));
    }
    assert_int_equal(4, x->w->count.streams_slow);
}

/* Many who began a message and wait do not keep others from speaking: when no buffer is left, the
 * slowest gives its own. */
static void test_the_slowest_gives_its_buffer(void **state)
{
    (void)state;
    enum { ALL = 8192 };
    static struct buf taken[ALL];
    static const char half[] = "OPTIONS sip:a SIP/2.0\r\n", rest[] = "l: 0\r\n\r\n";
    struct bufpool *pool = &x->w->streams.pool;
    struct peer slow, other, third;
    unsigned n = 0;
    connect_to(&slow, TP_TCP);
    connect_to(&other, TP_TCP);
    connect_to(&third, TP_TCP);
    put(&slow, half, 10);
    pump();
    pass(NS_S);
    put(&other, half, sizeof half - 1);
    pump();
    while (n < ALL && buf_room(pool, &taken[n], 1, 4096) == 0)
        n++;
    assert_true(n > 0 && n < ALL);
    forget_notes();
    put(&third, half, sizeof half - 1);
    pump();
    assert_int_equal(1, noted("closed 0 ")); /* the slow one */
    put(&third, rest, sizeof rest - 1);
    put(&other, rest, sizeof rest - 1);
    pump();
    assert_int_equal(2, noted("message "));
    assert_int_equal(1, noted("closed 0 "));
    assert_int_equal(0, x->w->count.buffers_refused);
    /* With nobody to give one, it is the newcomer's end. */
    put(&slow, half, 1);
    while (n < ALL && buf_room(pool, &taken[n], 1, 4096) == 0)
        n++;
    put(&third, half, sizeof half - 1);
    pump();
    assert_int_equal(1, x->w->count.buffers_refused);
    while (n > 0)
        buf_release(pool, &taken[--n]);
    close(slow.fd);
    close(third.fd);
    close_peer(&other);
}

/* ---- each layer's own words -------------------------------------------------------------------
 */

static void test_pings_of_a_websocket(void **state)
{
    (void)state;
    struct peer p;
    static struct script s;
    char got[64];
    open_peer(&p, TP_WSS);
    s.n = 0;
    say_frame(&s, WS_OP_PING, true, "abc", 3);
    put_plain(&p, s.bytes, s.n);
    assert_int_equal(5, take(&p, got, sizeof got));
    assert_memory_equal("\x8a\x03"
                        "abc",
                        got, 5);
    assert_int_equal(1, noted("alive "));
    s.n = 0; /* a flood is answered by a few */
    for (unsigned i = 0; i < 1000; i++)
        say_frame(&s, WS_OP_PING, true, (const char *)&i, 2);
    put_plain(&p, s.bytes, s.n);
    static char flood[8192];
    size_t n = take(&p, flood, sizeof flood);
    assert_true(n > 0 && n <= 4 * 4 * 9);
    assert_memory_equal("\x8a\x02\xe7\x03", flood + n - 4, 4);
    forget_notes();
    s.n = 0; /* so is one of keep-alives of RFC 5626, which go up to the engine */
    for (unsigned i = 0; i < 1000; i++)
        say_frame(&s, WS_OP_TEXT, true, "\r\n\r\n", 4);
    put_plain(&p, s.bytes, s.n);
    assert_true(noted("ping ") > 0 && noted("ping ") <= 4 * 8);
    (void)take(&p, flood, sizeof flood);
    forget_notes();
    s.n = 0;
    say_frame(&s, WS_OP_PONG, true, "", 0);
    say_frame(&s, WS_OP_PONG, true, "x", 1);
    say_frame(&s, WS_OP_TEXT, true, "\r\n", 2);
    put_plain(&p, s.bytes, s.n);
    assert_int_equal(1, noted("alive ")); /* once for a read */
    stream_ping(x->w, the_engine.flow);
    assert_int_equal(2, take(&p, got, sizeof got));
    assert_memory_equal("\x89\x00", got, 2);
    close_peer(&p);
}

static void test_pings_of_a_stream(void **state)
{
    (void)state;
    static const uint8_t tps[] = {TP_TCP, TP_TLS};
    for (unsigned i = 0; i < 2; i++) {
        struct peer p;
        char got[64];
        forget_notes();
        open_peer(&p, tps[i]);
        put_plain(&p, "\r\n", 2); /* a pong */
        assert_int_equal(1, noted("alive "));
        assert_int_equal(0, work_live());
        put_plain(&p, "\r", 1);
        put_plain(&p, "\n", 1);
        assert_int_equal(1, noted("ping "));
        assert_int_equal(2, take(&p, got, sizeof got));
        stream_ping(x->w, the_engine.flow);
        assert_int_equal(4, take(&p, got, sizeof got));
        assert_memory_equal("\r\n\r\n", got, 4);
        assert_int_equal(0, work_live());
        close_peer(&p);
    }
}

static void test_text_and_binary(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        uint8_t head;
    } cases[] = {
        {"plain", 0x81},
        {"gr\xc3\xbc\xc3\x9f", 0x81},
        {"\xff\xfe", 0x82},
        {"\xc3", 0x82},
        {"\xe2\x82\xac", 0x81},
        {"\xed\xa0\x80", 0x82},
        {"\xf0\x9f\x98\x80", 0x81},
        {"\xc0\xaf", 0x82},
        {"\xf4\x90\x80\x80", 0x82},
    };
    struct peer p;
    open_peer(&p, TP_WS);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct script s;
        char m[256], got[256];
        s.n = 0;
        size_t n = sip(m, sizeof m, cases[i].bytes, strlen(cases[i].bytes));
        say_frame(&s, WS_OP_BINARY, true, m, n);
        put_plain(&p, s.bytes, s.n);
        assert_int_equal(n + 2, take(&p, got, sizeof got));
        assert_int_equal(cases[i].head, (uint8_t)got[0]);
        assert_memory_equal(m, got + 2, n);
    }
    close_peer(&p);
}

static void test_a_bad_frame_ends_it(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        uint16_t code;
    } cases[] = {
        {"\x81\x01x", 3, WS_CODE_PROTOCOL},                          /* unmasked */
        {"\xc1\x80\0\0\0\0", 6, WS_CODE_PROTOCOL},                   /* an extension */
        {"\x83\x80\0\0\0\0", 6, WS_CODE_PROTOCOL},                   /* no such opcode */
        {"\x81\xff\0\0\0\0\0\x10\0\0\1\2\3\4", 14, WS_CODE_TOO_BIG}, /* 1 MiB */
        {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14, WS_CODE_PROTOCOL},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer p;
        char got[64];
        forget_notes();
        open_peer(&p, i % 2 == 0 ? TP_WS : TP_WSS);
        put_plain(&p, cases[i].bytes, cases[i].n);
        assert_int_equal(1, noted("closed 0 "));
        assert_int_equal(4, take(&p, got, sizeof got));
        assert_int_equal(0x88, (uint8_t)got[0]);
        assert_int_equal(cases[i].code, (uint8_t)got[2] << 8 | (uint8_t)got[3]);
        assert_int_equal(i + 1, x->w->count.ws_bad);
        close_peer(&p);
        assert_int_equal(1, noted("closed 0 "));
    }
}

static void test_ends_are_orderly(void **state)
{
    (void)state;
    static struct script s;
    char m[256], got[256];
    struct peer p;
    open_peer(&p, TP_WSS); /* the peer's close frame */
    s.n = 0;
    say_frame(&s, WS_OP_CLOSE, true, "\x03\xe9going", 7);
    put_plain(&p, s.bytes, s.n);
    assert_int_equal(1, noted("closed 0 "));
    assert_int_equal(4, take(&p, got, sizeof got));
    assert_memory_equal("\x88\x02\x03\xe9", got, 4);
    assert_int_equal(SSL_RECEIVED_SHUTDOWN, SSL_get_shutdown(p.ssl));
    close_peer(&p);
    forget_notes();
    open_peer(&p, TP_TLS); /* the peer's close_notify */
    SSL_shutdown(p.ssl);
    put_sealed(&p, 1 << 20);
    assert_int_equal(1, noted("closed 0 "));
    fetch(&p);
    assert_int_equal(1, SSL_shutdown(p.ssl)); /* answered */
    close_peer(&p);
    forget_notes();
    open_peer(&p, TP_TLS); /* ours */
    put_plain(&p, m, sip(m, sizeof m, "close", 5));
    assert_true(take(&p, got, sizeof got) > 0);
    assert_int_equal(SSL_RECEIVED_SHUTDOWN, SSL_get_shutdown(p.ssl));
    close_peer(&p);
    assert_int_equal(1, noted("closed 0 "));
}

static void test_a_bad_record_ends_it(void **state)
{
    (void)state;
    struct peer p;
    char m[256], wire[600], got[64];
    open_peer(&p, TP_TLS);
    size_t n = seal(&p, m, sip(m, sizeof m, "hello", 5), wire, sizeof wire / 2);
    wire[n + 10] = 0;
    n += seal(&p, m, sip(m, sizeof m, "hello", 5), wire + n, sizeof wire / 2);
    wire[n - 1] ^= 1;
    put(&p, wire, n);
    pump();
    assert_int_equal(1, noted("message ")); /* what came before it counts */
    assert_int_equal(1, noted("closed 0 "));
    assert_int_equal(1, x->w->count.tls_bad);
    while (take(&p, got, sizeof got) > 0)
        continue;
    assert_true(SSL_get_shutdown(p.ssl) != 0);
    close_peer(&p);
}

static void test_new_keys_both_ways(void **state)
{
    (void)state;
    struct peer p;
    char m[256], got[256];
    size_t n = sip(m, sizeof m, "hello", 5);
    open_peer(&p, TP_TLS);
    for (unsigned round = 0; round < 6; round++) {
        SSL_key_update(p.ssl, round % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
        put_plain(&p, m, n);
        assert_int_equal(n, take(&p, got, sizeof got));
        assert_memory_equal(m, got, n);
    }
    close_peer(&p);
}

/* One that reads nothing loses its connection, not our memory. */
static void test_a_peer_that_does_not_read(void **state)
{
    (void)state;
    static char body[8000], m[8200];
    size_t n = sip(m, sizeof m, body, sizeof body);
    for (uint8_t tp = FIRST_TP; tp < TP__COUNT; tp++) {
        static struct script s;
        struct peer p;
        forget_notes();
        open_peer(&p, tp);
        for (unsigned i = 0; i < 20000 && noted("closed 0 ") == 0; i++) {
            forget_notes();
            s.n = 0;
            s.is_ws = transport_has_ws(tp);
            say(&s, m, n);
            put_plain(&p, s.bytes, s.n);
        }
        assert_int_equal(1, noted("closed 0 "));
        close_peer(&p);
    }
    assert_int_equal(4, x->w->count.streams_overrun);
}

/* ---- connections of ours over TLS --------------------------------------------------------------
 */

/* The other end: a TLS server with the certificate of "weir.test". */
static void accept_shake(struct peer *p, int listener)
{
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    assert_int_equal(1, poll(&wait, 1, 5000));
    *p = (struct peer){.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), .tp = TP_TLS};
    p->ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(1, SSL_CTX_use_certificate_file(p->ctx, x->cert_path, SSL_FILETYPE_PEM));
    assert_int_equal(1, SSL_CTX_use_PrivateKey_file(p->ctx, x->key_path, SSL_FILETYPE_PEM));
    p->ssl = SSL_new(p->ctx);
    SSL_set_bio(p->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(p->ssl);
    for (unsigned tries = 0; tries < 500 && the_engine.n == 0; tries++) {
        pump();
        fetch(p);
        (void)SSL_do_handshake(p->ssl);
        put_sealed(p, 1 << 20);
        if (the_engine.n == 0)
            usleep(10000);
    }
}

static struct flow_id connect_ours(int listener, const char *name)
{
    static char m[256];
    struct action a = {
        .kind = ACT_CONNECT,
        .transport = TP_TLS,
        .listener = LISTENER_NONE,
        .flow = {.gen = x->w->streams.next_gen++, .slot = FLOW_OUT, .worker = 0},
        .dest = loopback(port_of(listener)),
        .timeout_ns = 5 * NS_S,
        .text = slice_cstr(name),
    };
    forget_notes();
    stream_connect(x->w, &a);
    act(&x->w->out, ACT_SEND_FLOW, a.flow, slice_of(m, sip(m, sizeof m, "waits", 5)));
    worker_settle(x->w);
    return a.flow;
}

static void take_what_waited(struct peer *p)
{
    char m[256], got[256];
    size_t n = sip(m, sizeof m, "waits", 5), have = 0;
    for (unsigned tries = 0; tries < 500 && have < n; tries++) {
        have += take(p, got + have, sizeof got - have);
        if (have < n)
            usleep(10000);
    }
    assert_int_equal(n, have);
    assert_memory_equal(m, got, n);
}

static void test_a_connection_of_ours(void **state)
{
    (void)state;
    struct peer p;
    char why[TLS_WHY_BYTES_MAX];
    struct addr any = loopback(0);
    int listener = tcp_listen(&any, false), other = tcp_listen(&any, false);
    (void)connect_ours(other, "weir.test"); /* nobody says whom to believe */
    assert_string_equal("failed 0 811c9dc5\n", notes());
    const struct config_tls_client whom = {.ca = slice_cstr(x->cert_path), .verify = true};
    x->w->tls->client = (struct tls_client **)calloc(1, sizeof(struct tls_client *));
    x->w->tls->client[0] = tls_client_new(&whom, why);
    x->w->tls->client_count = 1;
    assert_non_null(x->w->tls->client[0]);
    struct flow_id flow = connect_ours(listener, "weir.test");
    accept_shake(&p, listener);
    assert_int_equal(1, noted("opened 9 ")); /* with the name that it proved */
    ;
    take_what_waited(&p);
    assert_int_equal(0, work_live());
    stream_close(x->w, flow);
    close_peer(&p);
    assert_int_equal(1, noted("closed 0 "));
    flow = connect_ours(listener, "another.test");
    accept_shake(&p, listener);
    assert_string_equal("failed 0 811c9dc5\n", notes());
    assert_int_equal(1, x->w->count.tls_failed);
    assert_null(conn_find(x->w, flow));
    close_peer(&p);
    close(listener);
    close(other);
}

/* A client's certificate: its names come with the flow; those that came over WebSocket wait for
 * the upgrade. */
static void test_names_of_a_certificate(void **state)
{
    (void)state;
    static const char name[] = "weir.test";
    char want[64];
    snprintf(want, sizeof want, "opened %zu %08x", sizeof name - 1,
             sum_of(slice_of(name, sizeof name - 1)));
    listeners_tls_free(x->net.tls);
    for (uint8_t tp = TP_TLS; tp <= TP_WSS; tp += TP_WSS - TP_TLS) {
        x->config.listener[tp].client_ca = slice_cstr(x->cert_path);
        x->config.listener[tp].client_required = true;
    }
    x->w->tls = x->net.tls = listeners_tls_load(&x->config, stderr);
    assert_non_null(x->net.tls);
    with_certificate = true;
    for (unsigned i = 0; i < 4; i++) {
        struct peer p;
        forget_notes();
        open_peer_cut(&p, i % 2 ? TP_WSS : TP_TLS, i / 2 ? TLS1_2_VERSION : TLS1_3_VERSION, 100);
        assert_int_equal(1, noted(want));
        assert_int_equal(0, work_live());
        close_peer(&p);
    }
    with_certificate = false;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_cut_gives_the_same),
        TEST(test_a_handshake_in_single_bytes),
        TEST(test_large_messages_come_back),
        TEST(test_slow_handshakes_end),
        TEST(test_what_is_no_tls_is_closed),
        TEST(test_what_is_no_upgrade_is_refused),
        TEST(test_handshakes_are_bounded),
        TEST(test_the_silent_and_the_slow_go),
        TEST(test_the_slowest_gives_its_buffer),
        TEST(test_a_crowd_has_less_time),
        TEST(test_pings_of_a_websocket),
        TEST(test_pings_of_a_stream),
        TEST(test_text_and_binary),
        TEST(test_a_bad_frame_ends_it),
        TEST(test_ends_are_orderly),
        TEST(test_a_bad_record_ends_it),
        TEST(test_new_keys_both_ways),
        TEST(test_a_peer_that_does_not_read),
        TEST(test_a_connection_of_ours),
        TEST(test_names_of_a_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
