/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker thread with real sockets on loopback and an engine of our own that does what messages
 * tell it, and notes down every event:
 *
 *      datagram "to PORT …"            sends it to that port of loopback
 *               "work N …"             the same as any other, N milliseconds later
 *      any other datagram              back to its source
 *      stream message, body "close"    back on its flow, then closes it
 *                      "connect PORT"  opens a flow to that port, and sends the message there
 *                      "flood N"       N copies back
 *                      anything else   back on its flow */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"
#include "support/support.h"
#include "stub_engine.h"
#include "stub_guard.h"

/* ---- the engine -------------------------------------------------------------------------------
 */

struct seen {
    uint8_t kind;
    int error;
    struct flow_id flow;
    struct addr source;
    size_t n;
    dur_ns waited;
    char bytes[64];
};

enum { SEEN_MAX = 4096 };

struct engine {
    struct seen seen[SEEN_MAX];
    unsigned count;
    pthread_mutex_t lock;
    uint64_t next_gen;
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

static struct action *emit(struct actions *out, uint8_t kind, const struct event *ev)
{
    struct action *a = &out->a[out->count++];
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->listener = ev->listener;
    a->transport = ev->transport;
    a->flow = ev->flow;
    a->dest = ev->source;
    return a;
}

static void put_bytes(struct actions *out, struct action *a, struct slice s)
{
    a->iov = out->iov_count;
    a->iov_count = 3; /* in pieces, as a real one has them */
    size_t half = s.n / 2;
    out->iov[out->iov_count++] = (struct iovec){(void *)(uintptr_t)s.p, half};
    out->iov[out->iov_count++] = (struct iovec){(void *)(uintptr_t)s.p, 0};
    out->iov[out->iov_count++] = (struct iovec){(void *)(uintptr_t)(s.p + half), s.n - half};
}

static bool takes_word(struct slice s, const char *word, uint64_t *ret_number)
{
    struct slice w = slice_cstr(word);
    if (!slice_starts_with(s, w))
        return false;
    s = slice_drop(s, w.n);
    return text_parse_u64(slice_take(s, slice_find(s, ' ')), 1 << 20, ret_number) == 0;
}

static void on_message(struct engine *e, const struct event *ev, struct actions *out)
{
    uint64_t number;
    const char *blank = (const char *)memmem(ev->bytes.p, ev->bytes.n, "\r\n\r\n", 4);
    struct slice body = slice_drop(ev->bytes, (size_t)(blank - ev->bytes.p) + 4);
    if (takes_word(body, "connect ", &number)) {
        struct action *a = emit(out, ACT_CONNECT, ev);
        a->flow = (struct flow_id){.gen = ++e->next_gen, .slot = FLOW_OUT, .worker = 0};
        a->listener = LISTENER_NONE;
        a->dest.port = (uint16_t)number;
        a->timeout_ns = NS_S;
        struct flow_id flow = a->flow;
        a = emit(out, ACT_SEND_FLOW, ev);
        a->flow = flow;
        put_bytes(out, a, ev->bytes);
        return;
    }
    uint64_t copies = takes_word(body, "flood ", &number) ? number : 1;
    for (uint64_t i = 0; i < copies; i++)
        put_bytes(out, emit(out, ACT_SEND_FLOW, ev), ev->bytes);
    if (slice_equal(body, SLICE("close")))
        emit(out, ACT_CLOSE, ev);
}

static void on_datagram(const struct event *ev, struct actions *out)
{
    uint64_t port;
    struct action *a = emit(out, ACT_SEND, ev);
    if (takes_word(ev->bytes, "work ", &port))
        usleep((useconds_t)port * 1000);
    if (takes_word(ev->bytes, "to ", &port))
        a->dest.port = (uint16_t)port;
    put_bytes(out, a, ev->bytes);
}

int engine_step(struct engine *e, const struct event *ev, mono_ns now, struct actions *out)
{
    (void)now;
    assert_true(actions_have_room(out));
    if (ev->kind == EV_DATAGRAM)
        on_datagram(ev, out);
    else if (ev->kind == EV_MESSAGE)
        on_message(e, ev, out);
    else if (ev->kind == EV_FRAME_FAULT)
        emit(out, ACT_CLOSE, ev);
    pthread_mutex_lock(&e->lock);
    if (e->count < SEEN_MAX) {
        struct seen *s = &e->seen[e->count++];
        *s = (struct seen){ev->kind, ev->error, ev->flow, ev->source, ev->bytes.n, ev->waited, {0}};
        size_t k = ev->bytes.n < sizeof s->bytes ? ev->bytes.n : sizeof s->bytes;
        if (k > 0)
            memcpy(s->bytes, ev->bytes.p, k);
    }
    pthread_mutex_unlock(&e->lock);
    return 0;
}

/* ---- the world around it ----------------------------------------------------------------------
 */

struct world {
    struct net net;
    struct config config;
    struct worker *w;
    uint16_t udp_port, tcp_port;
};

static uint16_t port_of(int fd)
{
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    assert_int_equal(0, getsockname(fd, (struct sockaddr *)&sa, &len));
    return addr_from_sockaddr(&sa).port;
}

static struct addr loopback(uint16_t port)
{
    return (struct addr){.ip = {127, 0, 0, 1}, .port = port, .family = 4};
}

static int begin_with(void **state, uint32_t flows)
{
    struct world *x = (struct world *)calloc(1, sizeof *x);
    struct addr any = loopback(0);
    struct hash_seed seed = {1, 2};
    memset(&the_engine, 0, sizeof the_engine);
    new_guard(64, mono_now());
    pthread_mutex_init(&the_engine.lock, NULL);
    x->config.workers = 1;
    x->config.engine.limits = (struct edge_limits){.flows = flows, .target_flows = 2};
    for (unsigned i = 0; i < 2; i++)
        x->config.engine.edge.listener[i] = (struct edge_listener){
            .used = true, .transport = i == 0 ? TP_UDP : TP_TCP, .bind = any};
    x->net.config = &x->config;
    x->net.workers = 1;
    assert_int_equal(0, inbox_init(&x->net.inbox));
    x->w = x->net.worker[0] = worker_new(&x->net, 0, &x->config, flows);
    assert_non_null(x->w);
    int udp = udp_open(&any, false), tcp = tcp_listen(&any, false);
    assert_true(udp >= 0 && tcp >= 0);
    x->udp_port = port_of(udp);
    x->tcp_port = port_of(tcp);
    assert_int_equal(0, worker_adopt(x->w, &x->config, 0, udp));
    assert_int_equal(0, worker_adopt(x->w, &x->config, 1, tcp));
    assert_int_equal(0, worker_birth(x->w, &seed, 1));
    assert_int_equal(0, worker_start(x->w));
    *state = x;
    return 0;
}

static int begin(void **state)
{
    return begin_with(state, 8);
}

enum { CROWD = 300 }; /* more than epoll tells of at once */

static int begin_crowd(void **state)
{
    return begin_with(state, CROWD);
}

static int end(void **state)
{
    struct world *x = (struct world *)*state;
    const struct order stop = {.kind = ORDER_STOP};
    assert_int_equal(0, order_send(&x->net, 0, &stop, SLICE_NONE));
    pthread_join(x->w->thread, NULL);
    worker_free(x->w);
    close(x->net.inbox.wake_fd);
    pthread_mutex_destroy(&the_engine.lock);
    free(x);
    return 0;
}

/* Waits for the `nth` event of a kind. */
static struct seen await(uint8_t kind, unsigned nth)
{
    for (unsigned tries = 0; tries < 500; tries++) {
        unsigned found = 0;
        pthread_mutex_lock(&the_engine.lock);
        for (unsigned i = 0; i < the_engine.count; i++) {
            if (the_engine.seen[i].kind != kind || found++ != nth)
                continue;
            struct seen s = the_engine.seen[i];
            pthread_mutex_unlock(&the_engine.lock);
            return s;
        }
        pthread_mutex_unlock(&the_engine.lock);
        usleep(10000);
    }
    fail_msg("event %u of kind %u did not come", nth, kind);
    return (struct seen){0};
}

static unsigned count_of(uint8_t kind)
{
    unsigned n = 0;
    pthread_mutex_lock(&the_engine.lock);
    for (unsigned i = 0; i < the_engine.count; i++)
        n += the_engine.seen[i].kind == kind;
    pthread_mutex_unlock(&the_engine.lock);
    return n;
}

static int client(int type, uint16_t port)
{
    struct sockaddr_in6 sa;
    struct addr to = loopback(port);
    struct timeval patience = {5, 0};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(0, connect(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&to, &sa)));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static size_t sip(char *to, size_t cap, const char *body)
{
    int n = snprintf(to, cap, "OPTIONS sip:x SIP/2.0\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    assert_true(n > 0 && (size_t)n < cap);
    return (size_t)n;
}

static void read_exactly(int fd, const char *want, size_t n)
{
    char got[4096];
    size_t have = 0;
    while (have < n) {
        ssize_t k = read(fd, got + have, n - have);
        if (k <= 0)
            fail_msg("read: %zd after %zu of %zu bytes: %s", k, have, n, strerror(errno));
        have += (size_t)k;
    }
    assert_memory_equal(want, got, n);
}

/* ---- datagrams --------------------------------------------------------------------------------
 */

static void test_datagrams_come_back_in_order(void **state)
{
    struct world *x = (struct world *)*state;
    int fd = client(SOCK_DGRAM, x->udp_port);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 100; i++) {
            char text[32];
            int n = snprintf(text, sizeof text, "message %u of %u", i, round);
            assert_int_equal(n, send(fd, text, (size_t)n, 0));
        }
        for (unsigned i = 0; i < 100; i++) {
            char text[32], got[64];
            int n = snprintf(text, sizeof text, "message %u of %u", i, round);
            assert_int_equal(n, recv(fd, got, sizeof got, 0));
            assert_memory_equal(text, got, (size_t)n);
        }
    }
    close(fd);
}

/* How long they waited is known once there is more to do than a turn should take. */
static void test_what_waits_says_how_long(void **state)
{
    struct world *x = (struct world *)*state;
    static const char work[] = "work 20 ";
    dur_ns datagram = 0, message = 0;
    char got[256], m[128];
    int fd = client(SOCK_DGRAM, x->udp_port), stream = client(SOCK_STREAM, x->tcp_port);
    size_t n = sip(m, sizeof m, "late");
    for (unsigned i = 0; i < 50 && (datagram < NS_MS || message < NS_MS); i++) {
        assert_int_equal(8, send(fd, work, 8, 0)); /* a long turn, and one that others wait for */
        assert_int_equal(8, recv(fd, got, sizeof got, 0));
        assert_int_equal(8, send(fd, work, 8, 0));
        assert_int_equal(4, send(fd, "late", 4, 0));
        assert_int_equal(n, send(stream, m, n, 0));
        dur_ns waited = await(EV_DATAGRAM, 3 * i + 2).waited;
        datagram = waited > datagram ? waited : datagram;
        waited = await(EV_MESSAGE, i).waited;
        message = waited > message ? waited : message;
        assert_int_equal(8, recv(fd, got, sizeof got, 0));
        assert_int_equal(4, recv(fd, got, sizeof got, 0));
        read_exactly(stream, m, n);
    }
    assert_true(datagram >= NS_MS && datagram < 10 * NS_S);
    assert_true(message < 10 * NS_S);
#ifndef __SANITIZE_THREAD__ /* slow as it makes us, what is sent in between comes behind the long  \
                               turn */
    assert_true(message >= NS_MS);
#endif
    close(fd);
    close(stream);
}

/* Messages of connections that were seen before the `nth` datagram. */
static unsigned messages_before(unsigned nth)
{
    unsigned messages = 0, datagrams = 0;
    pthread_mutex_lock(&the_engine.lock);
    for (unsigned i = 0; i < the_engine.count && datagrams <= nth; i++) {
        datagrams += the_engine.seen[i].kind == EV_DATAGRAM;
        messages += the_engine.seen[i].kind == EV_MESSAGE && datagrams <= nth;
    }
    pthread_mutex_unlock(&the_engine.lock);
    return messages;
}

/* Not when all connections that were ready before have had their turn. */
static void test_datagrams_are_read_beside_a_crowd(void **state)
{
    struct world *x = (struct world *)*state;
    char got[256], m[128];
    int fd = client(SOCK_DGRAM, x->udp_port), stream[CROWD];
    size_t n = sip(m, sizeof m, "hello");
    unsigned before = CROWD;
    for (unsigned i = 0; i < CROWD; i++)
        stream[i] = client(SOCK_STREAM, x->tcp_port);
    await(EV_FLOW_OPENED, CROWD - 1);
    for (unsigned round = 0; round < 10 && before == CROWD; round++) {
        assert_int_equal(9, send(fd, "work 200 ", 9, 0)); /* all of this comes in one turn */
        usleep(50000);
        for (unsigned i = 0; i < CROWD; i++)
            assert_int_equal(n, send(stream[i], m, n, 0));
        assert_int_equal(4, send(fd, "late", 4, 0));
        await(EV_MESSAGE, (round + 1) * CROWD - 1);
        before = messages_before(2 * round + 1) - round * CROWD;
        assert_int_equal(9, recv(fd, got, sizeof got, 0));
        assert_int_equal(4, recv(fd, got, sizeof got, 0));
    }
    assert_true(before < CROWD);
    for (unsigned i = 0; i < CROWD; i++)
        close(stream[i]);
    close(fd);
}

static void test_a_clock_that_was_set_is_no_wait(void **state)
{
    (void)state;
    uint64_t now = wall_now();
    assert_int_equal(0, waited_since(0));
    assert_int_equal(0, waited_since(now + 10 * NS_S));
    assert_int_equal(0, waited_since(now - 3600 * NS_S));
    assert_true(waited_since(now - NS_S) >= NS_S);
}

static void test_the_largest_datagram(void **state)
{
    struct world *x = (struct world *)*state;
    static char big[UDP_DATAGRAM_BYTES_MAX], got[UDP_DATAGRAM_BYTES_MAX + 1];
    int fd = client(SOCK_DGRAM, x->udp_port);
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 'z';
    assert_int_equal(sizeof big, send(fd, big, sizeof big, 0));
    assert_int_equal(sizeof big, recv(fd, got, sizeof got, 0));
    assert_memory_equal(big, got, sizeof big);
    close(fd);
}

static void test_crlf_is_a_ping(void **state)
{
    struct world *x = (struct world *)*state;
    int fd = client(SOCK_DGRAM, x->udp_port);
    assert_int_equal(0, send(fd, "", 0, 0)); /* of no interest to anybody */
    assert_int_equal(4, send(fd, "\r\n\r\n", 4, 0));
    assert_int_equal(4, await(EV_PING, 0).n);
    /* What an answer to a ping looks like gets none: two that answer would never end. */
    static const char *const others[] = {"\r\n", "\n", "\r\n\r", "\n\n\n\n", "\r\n\r\n"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_true(send(fd, others[i], strlen(others[i]), 0) > 0);
    await(EV_PING, 1);
    assert_int_equal(2, count_of(EV_PING));
    assert_int_equal(0, count_of(EV_DATAGRAM));
    close(fd);
}

/* A port where nobody listens: the engine learns so, with what it had sent and where to, and the
 * messages after it are not lost to the error that waits. */
static void test_a_dead_port_is_reported(void **state)
{
    struct world *x = (struct world *)*state;
    char text[64], got[64];
    int probe = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in6 sa;
    struct addr any = loopback(0);
    assert_int_equal(0, bind(probe, (struct sockaddr *)&sa, addr_to_sockaddr(&any, &sa)));
    uint16_t dead = port_of(probe);
    close(probe);
    int fd = client(SOCK_DGRAM, x->udp_port);
    for (unsigned round = 0; round < 10; round++) {
        int n = snprintf(text, sizeof text, "to %u round %u", dead, round);
        assert_int_equal(n, send(fd, text, (size_t)n, 0));
        for (unsigned i = 0; i < 20; i++) /* at once, so that some share a batch with it */
            assert_int_equal(5, send(fd, "alive", 5, 0));
        for (unsigned i = 0; i < 20; i++)
            assert_int_equal(5, recv(fd, got, sizeof got, 0));
        struct seen s = await(EV_UNREACHABLE, round);
        assert_int_equal(ECONNREFUSED, s.error);
        assert_int_equal(dead, s.source.port);
        assert_int_equal(n, s.n);
        assert_memory_equal(text, s.bytes, (size_t)n);
    }
    close(fd);
}

static void test_nothing_goes_to_port_0(void **state)
{
    struct world *x = (struct world *)*state;
    char got[8];
    int fd = client(SOCK_DGRAM, x->udp_port);
    assert_int_equal(4, send(fd, "to 0", 4, 0));
    assert_int_equal(4, send(fd, "next", 4, 0));
    assert_int_equal(4, recv(fd, got, sizeof got, 0));
    assert_memory_equal("next", got, 4);
    close(fd);
}

/* ---- streams ----------------------------------------------------------------------------------
 */

static void test_a_message_in_single_bytes(void **state)
{
    struct world *x = (struct world *)*state;
    char m[256];
    size_t n = sip(m, sizeof m, "hello");
    int fd = client(SOCK_STREAM, x->tcp_port);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(1, send(fd, m + i, 1, 0));
    read_exactly(fd, m, n);
    assert_int_equal(1, count_of(EV_MESSAGE));
    close(fd);
    assert_int_equal(0, await(EV_FLOW_CLOSED, 0).error);
    assert_int_equal(1, count_of(EV_FLOW_OPENED));
    assert_int_equal(1, count_of(EV_FLOW_CLOSED));
}

/* However the stream is cut, the same messages come out. */
static void test_many_messages_in_any_pieces(void **state)
{
    struct world *x = (struct world *)*state;
    struct prng prng = test_seed();
    static char all[64 * 1024];
    size_t n = 0, at = 0, back = 0;
    unsigned messages = 0;
    while (n < sizeof all - 4096) {
        char body[2048];
        size_t k = prng_below(&prng, sizeof body - 1);
        memset(body, 'b', k);
        body[k] = '\0';
        n += sip(all + n, sizeof all - n, body);
        messages++;
    }
    int fd = client(SOCK_STREAM, x->tcp_port);
    while (back < n) {
        size_t k = prng_below(&prng, 3000);
        k = k < n - at ? k : n - at;
        if (k > 0)
            assert_int_equal(k, send(fd, all + at, k, 0));
        at += k;
        char got[4096];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, at == n ? 5000 : 0) == 0) {
            assert_true(at < n);
            continue;
        }
        ssize_t r = read(fd, got, sizeof got);
        assert_true(r > 0);
        assert_memory_equal(all + back, got, (size_t)r);
        back += (size_t)r;
    }
    assert_int_equal(messages, count_of(EV_MESSAGE));
    close(fd);
}

static void test_keep_alives(void **state)
{
    struct world *x = (struct world *)*state;
    int fd = client(SOCK_STREAM, x->tcp_port);
    assert_int_equal(4, send(fd, "\r\n\r\n", 4, 0));
    await(EV_PING, 0);
    assert_int_equal(2, send(fd, "\r\n", 2, 0));
    usleep(50000);
    assert_int_equal(1, count_of(EV_PING));
    assert_int_equal(2, send(fd, "\r\n", 2, 0));
    await(EV_PING, 1);
    close(fd);
    await(EV_FLOW_CLOSED, 0);
}

static void test_a_framing_fault_ends_it(void **state)
{
    struct world *x = (struct world *)*state;
    char got[16];
    int fd = client(SOCK_STREAM, x->tcp_port);
    static const char bad[] = "GET / HTTP/1.1\r\n\r\nOPTIONS sip:x SIP/2.0\r\n\r\n";
    assert_int_equal(sizeof bad - 1, send(fd, bad, sizeof bad - 1, 0));
    assert_true(await(EV_FRAME_FAULT, 0).error < SIP_E_FATAL);
    assert_int_equal(0, read(fd, got, sizeof got)); /* an end, not a reset */
    close(fd);
    await(EV_FLOW_CLOSED, 0);
    assert_int_equal(0, count_of(EV_MESSAGE));
    assert_int_equal(1, count_of(EV_FRAME_FAULT));
}

static void test_close_flushes_first(void **state)
{
    struct world *x = (struct world *)*state;
    char m[256], got[16];
    size_t n = sip(m, sizeof m, "close");
    int fd = client(SOCK_STREAM, x->tcp_port);
    m[n] = 'x'; /* bytes that nobody reads make no reset */
    assert_int_equal(n + 1, send(fd, m, n + 1, 0));
    read_exactly(fd, m, n);
    assert_int_equal(0, read(fd, got, sizeof got));
    close(fd);
    await(EV_FLOW_CLOSED, 0);
    assert_int_equal(1, count_of(EV_FLOW_CLOSED));
}

static void test_a_peer_that_does_not_read_is_dropped(void **state)
{
    struct world *x = (struct world *)*state;
    char m[4096], body[2048];
    snprintf(body, sizeof body, "flood 20 %01900d", 0);
    size_t n = sip(m, sizeof m, body);
    int fd = client(SOCK_STREAM, x->tcp_port);
    for (unsigned i = 0; i < 200000 && count_of(EV_FLOW_CLOSED) == 0; i++)
        if (send(fd, m, n, MSG_NOSIGNAL) < 0)
            break;
    assert_int_equal(ENOBUFS, await(EV_FLOW_CLOSED, 0).error);
    close(fd);
}

static void test_slots_are_bounded_and_come_back(void **state)
{
    struct world *x = (struct world *)*state;
    int fds[8];
    char got[4];
    for (unsigned i = 0; i < 8; i++)
        fds[i] = client(SOCK_STREAM, x->tcp_port);
    await(EV_FLOW_OPENED, 7);
    int ninth = client(SOCK_STREAM, x->tcp_port);
    assert_true(read(ninth, got, sizeof got) <= 0);
    close(ninth);
    for (unsigned i = 0; i < 8; i++)
        close(fds[i]);
    await(EV_FLOW_CLOSED, 7);
    int again = client(SOCK_STREAM, x->tcp_port);
    struct seen s = await(EV_FLOW_OPENED, 8);
    assert_true(s.flow.slot < 8);
    for (unsigned i = 0; i < 8; i++)
        assert_true(await(EV_FLOW_OPENED, i).flow.gen != s.flow.gen);
    close(again);
}

/* ---- connecting -------------------------------------------------------------------------------
 */

static void test_a_flow_of_ours(void **state)
{
    struct world *x = (struct world *)*state;
    char m[256], body[32];
    struct addr any = loopback(0);
    int server = tcp_listen(&any, false);
    snprintf(body, sizeof body, "connect %u", port_of(server));
    size_t n = sip(m, sizeof m, body);
    int fd = client(SOCK_STREAM, x->tcp_port);
    assert_int_equal(n, send(fd, m, n, 0));
    struct seen s = await(EV_FLOW_OPENED, 1);
    assert_int_equal(FLOW_OUT, s.flow.slot);
    struct pollfd p = {.fd = server, .events = POLLIN};
    assert_int_equal(1, poll(&p, 1, 5000));
    int taken = accept(server, NULL, NULL);
    read_exactly(taken, m, n); /* what was sent while it was connecting */
    close(taken);
    struct seen closed = await(EV_FLOW_CLOSED, 0);
    assert_true(flow_id_equal(closed.flow, s.flow));
    close(server);
    close(fd);
}

static void test_a_refused_connection(void **state)
{
    struct world *x = (struct world *)*state;
    char m[256], body[32];
    struct addr any = loopback(0);
    int server = tcp_listen(&any, false);
    snprintf(body, sizeof body, "connect %u", port_of(server));
    close(server);
    size_t n = sip(m, sizeof m, body);
    int fd = client(SOCK_STREAM, x->tcp_port);
    assert_int_equal(n, send(fd, m, n, 0));
    assert_int_equal(ECONNREFUSED, await(EV_CONNECT_FAILED, 0).error);
    assert_int_equal(1, count_of(EV_FLOW_OPENED)); /* the client's */
    assert_int_equal(n, send(fd, m, n, 0));        /* the slot is free again */
    assert_int_equal(ECONNREFUSED, await(EV_CONNECT_FAILED, 1).error);
    close(fd);
}

/* A backlog that is full drops connects without a word. */
static void test_a_connect_that_takes_too_long(void **state)
{
    struct world *x = (struct world *)*state;
    char m[256], body[32];
    struct sockaddr_in6 sa;
    struct addr any = loopback(0);
    int server = socket(AF_INET, SOCK_STREAM, 0), fill[4];
    assert_int_equal(0, bind(server, (struct sockaddr *)&sa, addr_to_sockaddr(&any, &sa)));
    assert_int_equal(0, listen(server, 0));
    any.port = port_of(server);
    for (unsigned i = 0; i < 4; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&sa, addr_to_sockaddr(&any, &sa));
    }
    snprintf(body, sizeof body, "connect %u", any.port);
    size_t n = sip(m, sizeof m, body);
    int fd = client(SOCK_STREAM, x->tcp_port);
    assert_int_equal(n, send(fd, m, n, 0));
    assert_int_equal(ETIMEDOUT, await(EV_CONNECT_FAILED, 0).error);
    for (unsigned i = 0; i < 4; i++)
        close(fill[i]);
    close(server);
    close(fd);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_datagrams_come_back_in_order),
        TEST(test_the_largest_datagram),
        TEST(test_what_waits_says_how_long),
        cmocka_unit_test_setup_teardown(test_datagrams_are_read_beside_a_crowd, begin_crowd, end),
        TEST(test_a_clock_that_was_set_is_no_wait),
        TEST(test_crlf_is_a_ping),
        TEST(test_a_dead_port_is_reported),
        TEST(test_nothing_goes_to_port_0),
        TEST(test_a_message_in_single_bytes),
        TEST(test_many_messages_in_any_pieces),
        TEST(test_keep_alives),
        TEST(test_a_framing_fault_ends_it),
        TEST(test_close_flushes_first),
        TEST(test_a_peer_that_does_not_read_is_dropped),
        TEST(test_slots_are_bounded_and_come_back),
        TEST(test_a_flow_of_ours),
        TEST(test_a_refused_connection),
        TEST(test_a_connect_that_takes_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
