/* SPDX-License-Identifier: Apache-2.0
 *
 * The door: who is let in, who has to wait, who goes, and whose handshake is next. The test is the
 * clients, the clock and the engine; sockets are of loopback.
 *
 * covers: door.c */
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
#include <openssl/x509.h>
#include "net/net_int.h"
#include "support/support.h"
#include "support/tls_peer.h"
#include "stub_engine.h"
#include "stub_guard.h"

/* ---- the engine: counts ------------------------------------------------------------------------
 */

struct engine {
    unsigned seen[32]; /* by kind of event */
    mono_ns spare[64]; /* of each slot: idle since then, and of no use; 0 = of use */
    unsigned asked;    /* whether one is */
    struct addr source;
    char bytes[256];
};

static struct engine the_engine;

struct engine *engine_new(void *mem, size_t size, const struct engine_opts *o,
                          const struct engine_birth *birth, mono_ns now)
{
    (void)mem, (void)size, (void)o, (void)birth, (void)now;
    return &the_engine;
}

bool engine_flow_is_spare(struct engine *e, struct flow_id flow, mono_ns *ret_last_in)
{
    assert_true(flow.slot < 64);
    e->asked++;
    *ret_last_in = e->spare[flow.slot];
    return e->spare[flow.slot] > 0;
}

int engine_step(struct engine *e, const struct event *ev, mono_ns now, struct actions *out)
{
    (void)now, (void)out;
    assert_true(ev->kind < 32);
    e->seen[ev->kind]++;
    e->source = ev->source;
    assert_true(ev->bytes.n < sizeof e->bytes);
    if (ev->bytes.n > 0)
        memcpy(e->bytes, ev->bytes.p, ev->bytes.n);
    e->bytes[ev->bytes.n] = '\0';
    return 0;
}

/* ---- the world around it ----------------------------------------------------------------------
 */

enum { PLAIN, SECURE, PROXIED, PROXIED_SECURE, INSIDE, LISTENERS, FLOWS = 8 };

struct world {
    struct net net;
    struct config config;
    struct worker *w;
    uint16_t port[LISTENERS];
    struct config_cert cert;
    char folder[64], cert_path[96], key_path[96];
};

static struct world *x;

static void make_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"weir.test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *f = fopen(x->cert_path, "w");
    assert_non_null(f);
    PEM_write_X509(f, cert);
    fclose(f);
    f = fopen(x->key_path, "w");
    assert_non_null(f);
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static struct addr loopback(uint8_t last, uint16_t port)
{
    return (struct addr){.ip = {127, 0, 0, last}, .port = port, .family = 4};
}

static void listen_at(unsigned id)
{
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    struct addr any = loopback(1, 0);
    int fd = tcp_listen(&any, false);
    assert_true(fd >= 0);
    assert_int_equal(0, getsockname(fd, (struct sockaddr *)&sa, &len));
    x->port[id] = addr_from_sockaddr(&sa).port;
    assert_int_equal(0, worker_adopt(x->w, &x->config, (uint8_t)id, fd));
}

static int begin(void **state)
{
    (void)state;
    memset(&the_engine, 0, sizeof the_engine);
    x = (struct world *)calloc(1, sizeof *x);
    snprintf(x->folder, sizeof x->folder, "/tmp/weir-door-XXXXXX");
    assert_non_null(mkdtemp(x->folder));
    snprintf(x->cert_path, sizeof x->cert_path, "%s/cert.pem", x->folder);
    snprintf(x->key_path, sizeof x->key_path, "%s/key.pem", x->folder);
    make_certificate();
    x->cert = (struct config_cert){slice_cstr(x->cert_path), slice_cstr(x->key_path)};
    x->config.workers = 1;
    x->config.handshakes_max = 1;
    x->config.ticket_secret = SLICE("0123456789abcdef0123456789abcdef");
    x->config.handshake_within = 5 * NS_S;
    x->config.engine.limits = (struct edge_limits){.flows = FLOWS, .target_flows = 2};
    for (unsigned i = 0; i < LISTENERS; i++) {
        bool secure = i == SECURE || i == PROXIED_SECURE;
        x->config.engine.edge.listener[i] =
            (struct edge_listener){.used = true,
                                   .transport = secure ? TP_TLS : TP_TCP,
                                   .bind = loopback(1, 0),
                                   .side = i == INSIDE ? SIDE_INSIDE : SIDE_OUTSIDE};
        x->config.listener[i].proxy = i == PROXIED || i == PROXIED_SECURE;
        x->config.listener[i].backlog = 64;
        if (secure) {
            x->config.listener[i].certs = &x->cert;
            x->config.listener[i].cert_count = 1;
        }
    }
    x->net.config = &x->config;
    x->net.workers = 1;
    x->net.tls = listeners_tls_load(&x->config, stderr);
    assert_non_null(x->net.tls);
    x->w = x->net.worker[0] = worker_new(&x->net, 0, &x->config, FLOWS);
    assert_non_null(x->w);
    x->w->engine = engine_new(NULL, 0, NULL, NULL, 0);
    new_guard(256, x->w->now);
    for (unsigned i = 0; i < LISTENERS; i++)
        listen_at(i);
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

static void limits_changed(void)
{
    guard_adopt(the_guard, &guard_opts);
}

static struct streams *streams(void)
{
    return &x->w->streams;
}

/* One turn of the worker, without waiting; then another as long as something happens. */
static void turns(void)
{
    for (int n = 1; n > 0;) {
        struct epoll_event events[64];
        n = epoll_wait(x->w->epfd, events, 64, 0);
        for (int i = 0; i < n; i++) {
            uint64_t tag = events[i].data.u64;
            if (tag >> 56 == EP_LISTEN) {
                streams()->ready |= 1ULL << (uint8_t)tag;
                streams()->accept_at = 0;
            } else if (tag >> 56 == EP_CONN) {
                stream_event(x->w, tag, events[i].events);
            }
        }
        door_accept(x->w);
        door_shake(x->w);
        worker_settle(x->w);
    }
}

static void pass(dur_ns t)
{
    x->w->now = mono_add(x->w->now, t);
    stream_timers(x->w);
    worker_settle(x->w);
    turns();
}

static uint16_t port_of(int fd, int (*name)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    memset(&sa, 0, sizeof sa);
    return name(fd, (struct sockaddr *)&sa, &len) == 0 ? addr_from_sockaddr(&sa).port : 0;
}

/* The worker's end of a client's connection, as long as it is open. */
static struct conn *other_end(int fd)
{
    uint16_t port = port_of(fd, getsockname);
    for (uint32_t i = 0; i < streams()->fresh; i++) {
        struct conn *c = &streams()->accepted[i];
        if ((c->state == CONN_SHAKING || c->state == CONN_OPEN) && !c->deaf &&
            port_of(c->fd, getpeername) == port)
            return c;
    }
    return NULL;
}

/* Loopback delivers when it has time for it: nothing is asked before it has. */
static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 5000) == 1;
}

static int client(unsigned listener, uint8_t last)
{
    struct sockaddr_in6 sa;
    struct addr from = loopback(last, 0), to = loopback(1, x->port[listener]);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(0, bind(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&from, &sa)));
    assert_int_equal(0, connect(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&to, &sa)));
    assert_true(wait_for(streams()->listen_fd[listener], POLLIN));
    turns();
    return fd;
}

static void put(int fd, const char *bytes, size_t n)
{
    const struct conn *c = other_end(fd);
    int there = 0;
    assert_non_null(c);
    assert_int_equal(n, send(fd, bytes, n, MSG_NOSIGNAL));
    for (unsigned tries = 0; tries < 5000 && there < (int)n; tries++) {
        assert_int_equal(0, ioctl(c->fd, FIONREAD, &there));
        if (there < (int)n)
            usleep(1000);
    }
}

static void say(int fd, const char *bytes, size_t n)
{
    put(fd, bytes, n);
    turns();
}

static void say_message(int fd)
{
    static const char m[] = "OPTIONS sip:x SIP/2.0\r\nl: 0\r\n\r\n";
    say(fd, m, sizeof m - 1);
}

static bool is_closed(int fd)
{
    return other_end(fd) == NULL && wait_for(fd, POLLRDHUP);
}

static void hang_up(int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct conn *c = other_end(fds[i]);
        close(fds[i]);
        if (c != NULL)
            assert_true(wait_for(c->fd, POLLRDHUP));
    }
    turns();
}

static void hang_up_one(int fd)
{
    hang_up(&fd, 1);
}

/* ---- who is let in ----------------------------------------------------------------------------
 */

static void test_who_is_denied_never_comes_in(void **state)
{
    (void)state;
    struct slice why;
    assert_int_equal(0, guard_edit(the_guard, SLICE("deny 127.0.0.9"), x->w->now, &why));
    int denied = client(PLAIN, 9), other = client(PLAIN, 8), inside = client(INSIDE, 9);
    assert_true(is_closed(denied));
    assert_false(is_closed(other));
    assert_false(is_closed(inside)); /* it is none of the guard's */
    assert_int_equal(1, x->w->count.accepts_denied);
    assert_int_equal(2, the_engine.seen[EV_FLOW_OPENED]);
    assert_int_equal(2, streams()->live);
    char got;
    assert_int_equal(-1, recv(denied, &got, 1, 0));
    assert_int_equal(ECONNRESET, errno);
    hang_up((int[]){denied, other, inside}, 3);
}

static void test_who_is_trusted_is_let_in_by_any_door(void **state)
{
    (void)state;
    struct slice why;
    struct prefix trusted[1];
    assert_int_equal(0, prefix_parse(SLICE("127.0.0.9"), &trusted[0]));
    x->config.engine.edge.trusted = trusted;
    x->config.engine.edge.trusted_count = 1;
    assert_int_equal(0, guard_edit(the_guard, SLICE("deny 127.0.0.0/24"), x->w->now, &why));
    int fds[2] = {client(PLAIN, 9), client(PLAIN, 8)};
    assert_false(is_closed(fds[0]));
    assert_true(is_closed(fds[1]));
    hang_up(fds, 2);
}

static void test_a_source_has_its_share(void **state)
{
    (void)state;
    guard_opts.per_source_max = 2;
    limits_changed();
    int fds[4] = {client(PLAIN, 2), client(PLAIN, 2), client(PLAIN, 2), client(PLAIN, 3)};
    assert_true(is_closed(fds[2]));
    assert_false(is_closed(fds[3]));
    hang_up(fds, 1); /* one less: one more */
    fds[0] = client(PLAIN, 2);
    assert_false(is_closed(fds[0]));
    assert_int_equal(1, x->w->count.accepts_denied);
    guard_opts.report_only = true;
    limits_changed();
    int more = client(PLAIN, 2);
    assert_false(is_closed(more));
    assert_int_equal(1, x->w->count.accepts_denied);
    assert_int_equal(2, guard_counters(the_guard)->refused[GUARD_SOURCE_FULL]);
    hang_up(fds, 4);
    hang_up_one(more);
    assert_int_equal(0, streams()->live);
    guard_opts.report_only = false;
    limits_changed();
    int again[2] = {client(PLAIN, 2), client(PLAIN, 2)}; /* all that went were counted off */
    assert_false(is_closed(again[0]) || is_closed(again[1]));
    hang_up(again, 2);
}

/* Who comes too early stays in the backlog, unharmed, and comes in when there is a token. */
static void test_accepts_are_paced(void **state)
{
    (void)state;
    int fds[6];
    guard_opts.accepts[TP_TCP] = (struct rate_opts){.per_second = 10, .burst = 4};
    limits_changed();
    for (unsigned i = 0; i < 6; i++)
        fds[i] = client(PLAIN, (uint8_t)(2 + i));
    unsigned at_once = the_engine.seen[EV_FLOW_OPENED];
    assert_true(at_once >= 1 && at_once < 6);
    assert_int_equal(1, x->w->count.accepts_paced);
    int inside = client(INSIDE, 2);
    assert_int_equal(at_once + 1, the_engine.seen[EV_FLOW_OPENED]);
    mono_ns next = stream_deadline(x->w);
    assert_true(next > x->w->now && next <= mono_add(x->w->now, NS_S));
    pass(mono_since(next, x->w->now));
    assert_true(the_engine.seen[EV_FLOW_OPENED] > at_once + 1);
    for (unsigned i = 0; i < 5000 && the_engine.seen[EV_FLOW_OPENED] < 7; i++) {
        pass(i < 20 ? NS_S : 0);
        usleep(i < 20 ? 0 : 1000); /* the last may not even have been delivered */
    }
    assert_int_equal(7, the_engine.seen[EV_FLOW_OPENED]);
    assert_int_equal(0, x->w->count.accepts_denied);
    assert_int_equal(0, streams()->resting);
    hang_up(fds, 6);
    hang_up_one(inside);
}

static void test_garbage_is_charged(void **state)
{
    (void)state;
    static const char *const bad[] = {"GET / HTTP/1.1\r\n\r\n", "garbage that is no TLS"};
    guard_opts.per_source[GUARD_MALFORMED] = (struct rate_opts){.per_second = 1, .burst = 1};
    limits_changed();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(GUARD_FINE,
                         guard_refused_connected(the_guard,
                                                 &(struct addr){.ip = {127, 0, 0, 7}, .family = 4},
                                                 x->w->now));
        int fd = client(SECURE, 7);
        say(fd, bad[i], strlen(bad[i]));
        assert_true(is_closed(fd));
        hang_up_one(fd);
    }
    int banned = client(PLAIN, 7), other = client(PLAIN, 8);
    assert_true(is_closed(banned));
    assert_false(is_closed(other));
    hang_up((int[]){banned, other}, 2);
}

/* ---- who goes for others ----------------------------------------------------------------------
 */

static void test_the_silent_make_room(void **state)
{
    (void)state;
    int fds[FLOWS];
    for (unsigned i = 0; i < FLOWS; i++)
        fds[i] = client(PLAIN, (uint8_t)(2 + i));
    say_message(fds[0]);
    say_message(fds[1]);
    say(fds[2], "\r\n\r\n", 4); /* a keep-alive is no message */
    int soon = client(PLAIN, 20);
    assert_true(is_closed(soon)); /* all have had no time to speak */
    assert_int_equal(1, x->w->count.accepts_refused);
    pass(2 * NS_S);
    struct addr known = loopback(2 + 2, 0);
    guard_known(the_guard, &known, x->w->now);
    int next = client(PLAIN, 21);
    assert_false(is_closed(next));
    assert_int_equal(1, x->w->count.evicted);
    assert_false(is_closed(fds[0]) || is_closed(fds[1]) || is_closed(fds[2]));
    assert_true(is_closed(fds[3])); /* the oldest stranger of those who said nothing */
    assert_int_equal(1, the_engine.seen[EV_FLOW_CLOSED]);
    assert_int_equal(FLOWS, streams()->live);
    close(fds[3]);
    fds[3] = next;
    for (unsigned i = 0; i < FLOWS; i++)
        say_message(fds[i]);
    assert_int_equal(0, streams()->list[LIST_SILENT].count);
    pass(2 * NS_S);
    int last = client(PLAIN, 22);
    assert_true(is_closed(last));
    assert_int_equal(1, x->w->count.evicted);
    hang_up((int[]){soon, last}, 2);
    hang_up(fds, FLOWS);
}

/* All have spoken: who is of no use, and idle for longest, goes; never one that was heard lately.
 */
static void test_the_useless_make_room(void **state)
{
    (void)state;
    int fds[FLOWS];
    for (unsigned i = 0; i < FLOWS; i++) {
        fds[i] = client(PLAIN, (uint8_t)(2 + i));
        say_message(fds[i]);
    }
    x->w->now = mono_add(x->w->now, 20 * NS_S);
    the_engine.spare[2] = x->w->now - 11 * NS_S;
    the_engine.spare[5] = x->w->now - 15 * NS_S;
    the_engine.spare[6] = x->w->now - 2 * NS_S;
    int next[4];
    for (unsigned i = 0; i < 2; i++) {
        next[i] = client(PLAIN, (uint8_t)(20 + i));
        assert_false(is_closed(next[i]));
        say_message(next[i]);
        assert_true(is_closed(fds[i == 0 ? 5 : 2]));
        the_engine.spare[i == 0 ? 5 : 2] = 0;
    }
    unsigned asked = the_engine.asked;
    next[2] = client(PLAIN, 22);
    assert_true(is_closed(next[2]));
    assert_true(the_engine.asked > asked);
    asked = the_engine.asked;
    next[3] = client(PLAIN, 23); /* it is not looked for again at once */
    assert_true(is_closed(next[3]));
    assert_int_equal(asked, the_engine.asked);
    assert_int_equal(2, x->w->count.evicted);
    hang_up(fds, FLOWS);
    hang_up(next, 4);
}

static void test_the_silent_make_room_in_the_total(void **state)
{
    (void)state;
    guard_opts.connections_max = 2;
    limits_changed();
    int fds[3] = {client(PLAIN, 2), client(PLAIN, 3), 0};
    say_message(fds[0]);
    pass(2 * NS_S);
    fds[2] = client(PLAIN, 4);
    assert_false(is_closed(fds[2]));
    assert_true(is_closed(fds[1]));
    say_message(fds[2]);
    pass(2 * NS_S);
    int last = client(PLAIN, 5);
    assert_true(is_closed(last));
    hang_up(fds, 3);
    hang_up_one(last);
}

/* ---- whose connection it is -------------------------------------------------------------------
 */

static const char header[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x09\xc6\x33\x64\x01"
                             "\x9c\x41\x13\xc5\x04\0\0";
enum { HEADER_BYTES = sizeof header - 1 };

static void test_a_proxy_names_the_source(void **state)
{
    (void)state;
    for (unsigned cut = 0; cut <= HEADER_BYTES; cut++) {
        int fd = client(PROXIED, 2);
        assert_int_equal(cut, the_engine.seen[EV_FLOW_OPENED]);
        if (cut > 0)
            say(fd, header, cut);
        if (cut < HEADER_BYTES)
            say(fd, header + cut, HEADER_BYTES - cut);
        assert_int_equal(cut + 1, the_engine.seen[EV_FLOW_OPENED]);
        say_message(fd);
        assert_int_equal(cut + 1, the_engine.seen[EV_MESSAGE]);
        assert_memory_equal("OPTIONS ", the_engine.bytes, 8);
        assert_memory_equal("\xc0\0\x02\x09", the_engine.source.ip, 4);
        assert_int_equal(40001, the_engine.source.port);
        hang_up_one(fd);
        assert_int_equal(0, streams()->work.live);
    }
    assert_int_equal(HEADER_BYTES + 1, x->w->count.proxy_taken);
}

static void test_limits_are_of_who_is_named(void **state)
{
    (void)state;
    static const char local[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    struct slice why;
    assert_int_equal(0, guard_edit(the_guard, SLICE("deny 192.0.2.9"), x->w->now, &why));
    int denied = client(PROXIED, 2), own = client(PROXIED, 2);
    say(denied, header, HEADER_BYTES);
    assert_true(is_closed(denied));
    assert_int_equal(1, x->w->count.accepts_denied);
    assert_int_equal(0, the_engine.seen[EV_FLOW_OPENED]);
    say(own, local, sizeof local - 1);
    assert_int_equal(1, the_engine.seen[EV_FLOW_OPENED]);
    assert_int_equal(2, the_engine.source.ip[3]);
    hang_up((int[]){denied, own}, 2);
    guard_opts.per_source_max = 2;
    limits_changed();
    assert_int_equal(0, guard_edit(the_guard, SLICE("forget 192.0.2.9"), x->w->now, &why));
    assert_int_equal(0, guard_edit(the_guard, SLICE("allow 127.0.0.2"), x->w->now, &why));
    for (unsigned round = 0; round < 3; round++) { /* what is counted is counted off */
        int fds[3];
        for (unsigned i = 0; i < 3; i++) {
            fds[i] = client(PROXIED, 2);
            say(fds[i], header, HEADER_BYTES);
            assert_int_equal(i == 2, is_closed(fds[i]));
        }
        hang_up(fds, 3);
    }
}

/* The balancer is trusted, or whom it names: neither changes who is counted. */
static void test_a_balancer_that_is_trusted(void **state)
{
    (void)state;
    struct prefix trusted[1];
    guard_opts.per_source_max = 2;
    limits_changed();
    x->config.engine.edge.trusted = trusted;
    x->config.engine.edge.trusted_count = 1;
    for (unsigned round = 0; round < 4; round++) {
        bool names_trusted = round % 2 == 1;
        assert_int_equal(0,
                         prefix_parse(names_trusted ? SLICE("192.0.2.0/24") : SLICE("127.0.0.0/8"),
                                      &trusted[0]));
        int fds[3];
        for (unsigned i = 0; i < 3; i++) {
            fds[i] = client(PROXIED, 2);
            say(fds[i], header, HEADER_BYTES);
            assert_int_equal(i == 2, is_closed(fds[i])); /* the balancer says so, and is not us */
        }
        hang_up(fds, 3);
        assert_int_equal(0, streams()->live);
    }
}

static void test_what_is_no_header_is_closed(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x16\x03\x01\x02\x01\x01", "PROXY TCP4 192.0.2.9",
                                      "OPTIONS sip:x SIP/2.0\r\n", "\r\n\r\n\r\n\r\n\r\n\r\n"};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned listener = PROXIED; listener <= PROXIED_SECURE; listener++) {
            int fd = client(listener, 2);
            say(fd, bad[i], strlen(bad[i]));
            assert_true(is_closed(fd));
            hang_up_one(fd);
        }
    }
    assert_int_equal(8, x->w->count.proxy_bad);
    assert_int_equal(2, x->w->count.proxy_text);
    int slow[2] = {client(PROXIED, 2), client(PROXIED_SECURE, 2)};
    say(slow[0], header, 20);
    pass(x->config.handshake_within + 2 * NS_MS);
    assert_true(is_closed(slow[0]) && is_closed(slow[1]));
    assert_int_equal(2, x->w->count.handshakes_slow);
    hang_up(slow, 2);
    assert_int_equal(0, streams()->live);
    assert_int_equal(0, the_engine.seen[EV_FLOW_OPENED]);
}

/* ---- whose handshake is next ------------------------------------------------------------------
 */

static const char hello[] = "\x16\x03\x01\x02"; /* it has begun, and goes no further */

/* Fills the only place there is; the others wait. */
static void wait_behind(int *fds, unsigned n)
{
    fds[0] = client(SECURE, 2);
    say(fds[0], hello, 4);
    assert_int_equal(1, streams()->shaking);
    for (unsigned i = 1; i < n; i++) {
        fds[i] = client(SECURE, (uint8_t)(2 + i));
        say(fds[i], hello, 4);
    }
    assert_int_equal(1, streams()->shaking);
    assert_int_equal(n - 1, x->w->count.handshakes_waited);
}

/* Which of these is in its handshake: by its source. */
static unsigned who_shakes(void)
{
    unsigned found = 0;
    for (uint32_t i = 0; i < streams()->fresh; i++) {
        const struct conn *c = &streams()->accepted[i];
        if (c->state != CONN_SHAKING || c->work == NULL || c->work->shake == NULL)
            continue;
        assert_int_equal(0, found);
        found = c->peer.ip[3];
    }
    return found;
}

static void next_place(int fd)
{
    hang_up_one(fd);
    assert_int_equal(1, streams()->shaking);
}

static void test_in_order_while_nobody_is_impatient(void **state)
{
    (void)state;
    int fds[4];
    wait_behind(fds, 4);
    for (unsigned i = 0; i < 3; i++) {
        next_place(fds[i]);
        assert_int_equal(2 + i + 1, who_shakes());
    }
    hang_up(fds + 3, 1);
    assert_int_equal(0, streams()->shaking);
    assert_int_equal(0, streams()->live);
}

static void test_newest_first_in_a_crowd(void **state)
{
    (void)state;
    int fds[4];
    wait_behind(fds, 4);
    x->w->now = mono_add(x->w->now, NS_S);
    next_place(fds[0]);
    assert_int_equal(5, who_shakes());
    next_place(fds[3]);
    assert_int_equal(4, who_shakes());
    hang_up(fds + 1, 2);
}

static void test_known_ones_first(void **state)
{
    (void)state;
    int fds[5];
    struct addr known[2] = {loopback(4, 0), loopback(5, 0)};
    guard_known(the_guard, &known[0], x->w->now);
    guard_known(the_guard, &known[1], x->w->now);
    wait_behind(fds, 5);
    assert_int_equal(2, streams()->list[LIST_KNOWN].count);
    next_place(fds[0]);
    assert_int_equal(4, who_shakes());
    next_place(fds[2]);
    assert_int_equal(5, who_shakes());
    next_place(fds[3]);
    assert_int_equal(3, who_shakes());
    hang_up((int[]){fds[1], fds[4]}, 2);
}

/* A client's session: made in memory, with nobody's connection. */
static SSL_SESSION *session_of(unsigned listener, int version)
{
    return peer_session(x->net.tls->server[listener], version);
}

static int client_with(unsigned listener, uint8_t last, const char *bytes, size_t n)
{
    int fd = client(listener, last);
    say(fd, bytes, n);
    return fd;
}

/* Of any version, and on another listener than its own: but one that is no ticket of ours, or of
 * which half has come, is worth nothing. And nothing is remembered. */
static void test_tickets_go_before_strangers(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    char bytes[PEER_HELLO_BYTES_MAX], forged[PEER_HELLO_BYTES_MAX];
    for (unsigned v = 0; v < 2; v++) {
        SSL_SESSION *session = session_of(PROXIED_SECURE, versions[v]);
        size_t n = peer_hello(versions[v], session, bytes);
        struct slice ticket = client_hello_ticket(bytes, n);
        assert_true(ticket.n > 0);
        memcpy(forged, bytes, n);
        forged[ticket.p - bytes + (ptrdiff_t)ticket.n - 1] ^= 1;
        int fds[6];
        x->w->count.handshakes_waited = 0;
        wait_behind(fds, 2);
        fds[2] = client_with(SECURE, 4, forged, n);
        fds[3] = client_with(SECURE, 5, bytes, n - 1);
        assert_int_equal(0, streams()->list[LIST_TICKETS].count);
        fds[4] = client_with(SECURE, 6, bytes, n);
        fds[5] = client_with(SECURE, 7, bytes, n);
        assert_int_equal(2, streams()->list[LIST_TICKETS].count);
        assert_int_equal(3, streams()->list[LIST_STRANGERS].count);
        static const struct {
            uint8_t goes, next;
        } order[] = {{0, 6}, {4, 7}, {5, 3}, {1, 4}, {2, 5}};
        for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++) {
            next_place(fds[order[i].goes]);
            assert_int_equal(order[i].next, who_shakes());
        }
        hang_up_one(fds[3]);
        assert_int_equal(0, streams()->live);
        for (uint8_t i = 2; i <= 7; i++) {
            struct addr source = loopback(i, 0);
            assert_false(guard_is_known(the_guard, &source, x->w->now));
        }
        SSL_SESSION_free(session);
    }
}

/* A listener that knows no tickets, and one whose header of a proxy comes first. */
static void test_tickets_at_other_doors(void **state)
{
    (void)state;
    char bytes[HEADER_BYTES + PEER_HELLO_BYTES_MAX], why[TLS_WHY_BYTES_MAX];
    SSL_SESSION *session = session_of(SECURE, TLS1_3_VERSION);
    memcpy(bytes, header, HEADER_BYTES);
    size_t n = HEADER_BYTES + peer_hello(TLS1_3_VERSION, session, bytes + HEADER_BYTES);
    int fds[4];
    wait_behind(fds, 2);
    fds[2] = client(PROXIED_SECURE, 4);
    say(fds[2], bytes, n);
    assert_int_equal(1, streams()->list[LIST_TICKETS].count);
    struct tls_server *server = x->net.tls->server[SECURE];
    x->net.tls->server[SECURE] =
        tls_server_new(&x->config.listener[SECURE], TLS_USE_SIP, SLICE_NONE, why);
    fds[3] = client_with(SECURE, 5, bytes + HEADER_BYTES, n - HEADER_BYTES);
    tls_server_release(x->net.tls->server[SECURE]);
    x->net.tls->server[SECURE] = server;
    assert_int_equal(1, streams()->list[LIST_TICKETS].count);
    next_place(fds[0]);
    assert_int_equal(9, who_shakes());
    hang_up(fds + 1, 3);
    SSL_SESSION_free(session);
}

/* A handshake to its end: resumed, and its source is as unknown as before. */
static void test_who_resumes_is_not_known(void **state)
{
    (void)state;
    struct addr source = loopback(2, 0);
    struct peer p = peer_new(TLS1_3_VERSION, NULL);
    SSL_SESSION *session = session_of(SECURE, TLS1_3_VERSION);
    int fd = client(SECURE, 2);
    char bytes[8192];
    peer_begin(&p);
    assert_int_equal(1, SSL_set_session(p.ssl, session));
    while (SSL_do_handshake(p.ssl) != 1) {
        int n = BIO_read(p.out, bytes, sizeof bytes);
        if (n > 0)
            say(fd, bytes, (size_t)n);
        assert_true(wait_for(fd, POLLIN));
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        assert_true(got > 0);
        assert_int_equal(got, BIO_write(p.in, bytes, (int)got));
    }
    int n = BIO_read(p.out, bytes, sizeof bytes);
    assert_true(n > 0);
    say(fd, bytes, (size_t)n);
    assert_int_equal(1, x->w->count.tls_resumed);
    assert_int_equal(1, the_engine.seen[EV_FLOW_OPENED]);
    assert_false(guard_is_known(the_guard, &source, x->w->now));
    hang_up_one(fd);
    peer_free(&p);
    SSL_SESSION_free(session);
}

static void test_who_leaves_costs_no_handshake(void **state)
{
    (void)state;
    int fds[4];
    wait_behind(fds, 4);
    hang_up(&fds[2], 1);
    assert_int_equal(1, x->w->count.handshakes_left);
    assert_int_equal(3, streams()->live);
    assert_int_equal(2, streams()->list[LIST_STRANGERS].count);
    /* One that has left, and of whom epoll has not said so yet. */
    struct conn *c = other_end(fds[1]);
    close(fds[1]);
    assert_true(wait_for(c->fd, POLLRDHUP));
    streams()->shaking = 0;
    door_shake(x->w);
    assert_int_equal(2, x->w->count.handshakes_left);
    streams()->shaking++;
    worker_settle(x->w);
    hang_up((int[]){fds[0], fds[3]}, 2);
    assert_int_equal(0, streams()->live);
    assert_int_equal(0, x->w->count.tls_failed);
}

static void test_who_waits_too_long_is_closed(void **state)
{
    (void)state;
    int fds[2];
    wait_behind(fds, 2);
    streams()->shaking = 2; /* and nobody goes */
    pass(10 * x->config.handshake_within + 2 * NS_MS);
    assert_true(is_closed(fds[1]));
    assert_int_equal(2, x->w->count.handshakes_slow);
    streams()->shaking--;
    hang_up(fds, 2);
}

static void test_handshakes_have_a_pace(void **state)
{
    (void)state;
    int fds[3];
    x->config.handshakes_max = 100;
    guard_opts.handshakes = (struct rate_opts){.per_second = 1, .burst = 1};
    limits_changed();
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = client(SECURE, (uint8_t)(2 + i));
        say(fds[i], hello, 4);
    }
    assert_int_equal(1, streams()->shaking);
    mono_ns next = stream_deadline(x->w);
    assert_true(next > x->w->now && next <= mono_add(x->w->now, NS_S));
    pass(NS_S);
    assert_int_equal(2, streams()->shaking);
    guard_opts.report_only = true;
    limits_changed();
    pass(0);
    assert_int_equal(3, streams()->shaking);
    hang_up(fds, 3);
}

static void tell(unsigned slot)
{
    struct conn *c = &streams()->accepted[slot];
    stream_event(x->w, ep_tag(EP_CONN, c->gen, c->slot), EPOLLIN);
}

/* What a turn has no time for is done in the next, and the worker does not sleep before it. */
static void test_a_turn_has_an_end(void **state)
{
    (void)state;
    int fds[2];
    x->config.handshakes_max = 100;
    for (unsigned i = 0; i < 2; i++)
        fds[i] = client(SECURE, (uint8_t)(2 + i));
    put(fds[0], hello, 4);
    streams()->shaken = 3 * NS_MS; /* none begins any more */
    tell(0);
    assert_int_equal(1, streams()->list[LIST_STRANGERS].count);
    assert_true(stream_deadline(x->w) <= x->w->now);
    door_shake(x->w); /* this turn's */
    assert_int_equal(0, streams()->shaking);
    door_shake(x->w);
    assert_int_equal(1, streams()->shaking);
    put(fds[0], "\x00\x01\x00\x01", 4);
    streams()->shaken = 20 * NS_MS; /* none goes on either */
    x->w->again = false;
    tell(0);
    assert_true(x->w->again);
    int there = 0;
    assert_int_equal(0, ioctl(streams()->accepted[0].fd, FIONREAD, &there));
    assert_int_equal(4, there);
    door_shake(x->w);
    tell(0);
    assert_int_equal(0, ioctl(streams()->accepted[0].fd, FIONREAD, &there));
    assert_int_equal(0, there);
    hang_up(fds, 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_who_is_denied_never_comes_in),
        TEST(test_who_is_trusted_is_let_in_by_any_door),
        TEST(test_a_source_has_its_share),
        TEST(test_accepts_are_paced),
        TEST(test_garbage_is_charged),
        TEST(test_the_silent_make_room),
        TEST(test_the_useless_make_room),
        TEST(test_the_silent_make_room_in_the_total),
        TEST(test_a_proxy_names_the_source),
        TEST(test_limits_are_of_who_is_named),
        TEST(test_a_balancer_that_is_trusted),
        TEST(test_what_is_no_header_is_closed),
        TEST(test_in_order_while_nobody_is_impatient),
        TEST(test_newest_first_in_a_crowd),
        TEST(test_known_ones_first),
        TEST(test_tickets_go_before_strangers),
        TEST(test_tickets_at_other_doors),
        TEST(test_who_resumes_is_not_known),
        TEST(test_who_leaves_costs_no_handshake),
        TEST(test_who_waits_too_long_is_closed),
        TEST(test_handshakes_have_a_pace),
        TEST(test_a_turn_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
