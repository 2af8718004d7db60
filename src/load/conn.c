/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of our own: UDP, TCP, TLS, WebSocket and both. Nothing is kept of one that rests but
 * its struct: bytes are read into buffers that all share, and only half messages are copied. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "load/load_int.h"

enum { UDP_BATCH = 64, UDP_SOCKET_BYTES = 4 << 20, OUT_BYTES_MAX = 1 << 20, BACKLOG = 1024 };

/* ---- sockets --------------------------------------------------------------------------------- */

struct addr load__conn_local(int fd)
{
    struct sockaddr_in6 sa = {0};
    socklen_t n = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &n) != 0)
        return (struct addr){0};
    return addr_from_sockaddr(&sa);
}

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

static int socket_for(uint8_t family, uint8_t transport)
{
    int kind = transport == TP_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(family == 4 ? AF_INET : AF_INET6, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && transport != TP_UDP)
        (void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return fd;
}

static bool is_ws(const struct conn *c)
{
    return c->transport == TP_WS || c->transport == TP_WSS;
}

static bool is_tls(const struct conn *c)
{
    return c->transport == TP_TLS || c->transport == TP_WSS;
}

/* ---- what is kept of half a message -----------------------------------------------------------
 */

static void keep(struct conn *c, const char *raw, size_t raw_n, const char *plain, size_t plain_n)
{
    if (raw_n + plain_n == 0) {
        free(c->kept);
        c->kept = NULL;
        c->kept_raw = c->kept_plain = 0;
        return;
    }
    char *p = (char *)realloc(c->kept, raw_n + plain_n);
    MUST(p != NULL);
    if (raw_n > 0)
        memcpy(p, raw, raw_n);
    if (plain_n > 0)
        memcpy(p + raw_n, plain, plain_n);
    c->kept = p;
    c->kept_raw = (uint32_t)raw_n;
    c->kept_plain = (uint32_t)plain_n;
}

/* ---- closing ----------------------------------------------------------------------------------
 */

void load__conn_close(struct load *l, struct conn *c, bool hard)
{
    (void)l;
    if (c->fd >= 0 && c->state != CONN_CLOSED) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        if (hard && c->transport != TP_UDP)
            (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(c->fd);
    }
    tls_handshake_free(c->shake);
    load__hello_free(c->hello);
    c->shake = NULL;
    c->hello = NULL;
    free(c->kept);
    free(c->out);
    c->kept = c->out = NULL;
    c->kept_raw = c->kept_plain = c->out_n = 0;
    c->fd = -1;
    c->state = CONN_CLOSED;
    c->life++;
}

static void ended(struct load *l, struct conn *c, enum conn_end end)
{
    const struct conn_user *user = c->user;
    load__conn_close(l, c, end != CONN_BROKEN);
    user->closed(l, c, end);
}

/* ---- sending ----------------------------------------------------------------------------------
 */

/* Bytes as they go over the wire. What the socket does not take waits in `out`. */
static int put_bytes(struct conn *c, const char *p, size_t n)
{
    size_t sent = 0;
    while (c->out_n == 0 && sent < n) {
        ssize_t r = send(c->fd, p + sent, n - sent, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno != EAGAIN)
            return -1;
        if (r < 0)
            break;
        sent += (size_t)r;
    }
    if (sent == n)
        return 0;
    if (c->out_n + (n - sent) > OUT_BYTES_MAX)
        return -1;
    char *more = (char *)realloc(c->out, c->out_n + (n - sent));
    if (more == NULL)
        return -1;
    memcpy(more + c->out_n, p + sent, n - sent);
    c->out = more;
    c->out_n += (uint32_t)(n - sent);
    return 0;
}

static int flush(struct conn *c)
{
    char *waiting = c->out;
    size_t n = c->out_n;
    c->out = NULL;
    c->out_n = 0;
    int r = put_bytes(c, waiting, n);
    free(waiting);
    return r;
}

/* Plain bytes of a stream: sealed when it is one of TLS. */
static int put_plain(struct load *l, struct conn *c, const struct iovec *iov, size_t count)
{
    if (!is_tls(c)) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            memcpy(l->sealed + n, iov[i].iov_base, iov[i].iov_len);
            n += iov[i].iov_len;
        }
        return put_bytes(c, l->sealed, n);
    }
    int64_t n = tls_seal(&l->codec, &c->flow, iov, count, l->sealed, BUFFER_BYTES);
    return n < 0 ? -1 : put_bytes(c, l->sealed, (size_t)n);
}

static int put_frame(struct load *l, struct conn *c, enum ws_opcode op, struct slice payload)
{
    uint8_t head[WS_HEAD_BYTES_MAX], mask[4];
    char body[MESSAGE_BYTES_MAX];
    uint64_t chance = prng_u64(&l->prng);
    if (payload.n > sizeof body)
        return -1;
    memcpy(mask, &chance, sizeof mask);
    size_t n = ws_put_head_masked(head, op, payload.n, mask);
    ws_mask(body, payload.p, payload.n, mask);
    struct iovec iov[2] = {{head, n}, {body, payload.n}};
    return put_plain(l, c, iov, 2);
}

int load__conn_send(struct load *l, struct conn *c, struct slice bytes, const struct addr *to)
{
    if (c->state != CONN_OPEN || bytes.n > MESSAGE_BYTES_MAX)
        return -1;
    if (c->transport == TP_UDP) {
        struct sockaddr_in6 sa;
        const struct addr *dest = to != NULL ? to : &c->peer;
        if (c->is_connected_udp)
            return send(c->fd, bytes.p, bytes.n, 0) < 0 ? -1 : 0;
        socklen_t n = addr_to_sockaddr(dest, &sa);
        return sendto(c->fd, bytes.p, bytes.n, 0, (struct sockaddr *)&sa, n) < 0 ? -1 : 0;
    }
    if (is_ws(c))
        return put_frame(l, c, WS_OP_TEXT, bytes);
    struct iovec iov = {(void *)(uintptr_t)bytes.p, bytes.n};
    return put_plain(l, c, &iov, 1);
}

int load__conn_ping(struct load *l, struct conn *c)
{
    if (is_ws(c) && c->state == CONN_OPEN)
        return put_frame(l, c, WS_OP_PING, SLICE("weir"));
    c->awaits_pong = true;
    return load__conn_send(l, c, SLICE("\r\n\r\n"), NULL);
}

/* ---- getting open -----------------------------------------------------------------------------
 */

static void opened(struct load *l, struct conn *c)
{
    c->state = CONN_OPEN;
    c->user->opened(l, c);
}

static void upgrade(struct load *l, struct conn *c)
{
    char bytes[512];
    struct text t = text_into(bytes, sizeof bytes);
    TEXT_LIT(&t, "GET / HTTP/1.1\r\nHost: ");
    addr_put(&t, &c->peer);
    TEXT_LIT(&t, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Protocol: sip\r\n\r\n");
    struct iovec iov = {bytes, t.n};
    c->state = CONN_UPGRADING;
    ws_reader_init(&c->ws, true);
    if (put_plain(l, c, &iov, 1) != 0)
        ended(l, c, CONN_REFUSED);
}

static void ready(struct load *l, struct conn *c)
{
    if (is_ws(c))
        upgrade(l, c);
    else
        opened(l, c);
}

/* The server wants what hello.c does not do: everybody connects again, for OpenSSL. */
static void begin_again(struct load *l, struct conn *c)
{
    struct load_place to = {c->peer, c->transport};
    struct addr source = c->local;
    source.port = 0;
    l->is_plain_hello = true;
    load__conn_close(l, c, true);
    if (load__conn_open(l, c, &to, &source, c->user) != 0)
        c->user->closed(l, c, CONN_REFUSED);
}

/* As shake() below, by hello.c. */
static ssize_t shake_lightly(struct load *l, struct conn *c, char *p, size_t n)
{
    uint8_t out[HELLO_OUT_BYTES_MAX];
    size_t used = 0, out_n = 0;
    int r = load__hello_step(c->hello, p, n, &used, out, &out_n);
    if (r == HELLO_MORE)
        return (ssize_t)used;
    if (r == HELLO_OTHER) {
        begin_again(l, c);
        return -1;
    }
    if (r == HELLO_FAILED || put_bytes(c, (const char *)out, out_n) != 0) {
        ended(l, c, CONN_TLS);
        return -1;
    }
    load__hello_flow(c->hello, &c->flow);
    if (load__hello_is_resumed(c->hello))
        l->stats.n[COUNT_resumed]++;
    if (c->ticket != NULL)
        load__hello_ticket(c->hello, c->ticket);
    load__hello_free(c->hello);
    c->hello = NULL;
    uint32_t life = c->life;
    ready(l, c);
    return c->life == life ? (ssize_t)used : -1;
}

/* Goes on with a handshake. How many of the bytes were taken; -1 when it ended the connection. */
static ssize_t shake(struct load *l, struct conn *c, const char *p, size_t n)
{
    size_t used = 0;
    struct slice out;
    int r = tls_handshake_step(c->shake, p, n, &used, &out);
    if (out.n > 0 && put_bytes(c, out.p, out.n) != 0)
        r = TLS_STEP_FAILED;
    if (r == TLS_STEP_FAILED) {
        ended(l, c, CONN_TLS);
        return -1;
    }
    if (r == TLS_STEP_MORE)
        return (ssize_t)n;
    tls_handshake_flow(c->shake, &c->flow);
    tls_handshake_free(c->shake);
    c->shake = NULL;
    uint32_t life = c->life;
    ready(l, c);
    return c->life == life ? (ssize_t)used : -1;
}

static void begin_tls(struct load *l, struct conn *c)
{
    char bytes[LOAD_TEXT_BYTES_MAX + ADDR_TEXT_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    struct slice name = slice_cstr(l->o->server);
    if (name.n == 0) {
        addr_put_host(&t, &c->peer);
        name = text_slice(&t);
        if (c->peer.family == 6) /* without its brackets */
            name = slice_of(name.p + 1, name.n - 2);
    }
    c->state = CONN_SHAKING;
    if (l->hello != NULL && !l->is_plain_hello) {
        struct slice first;
        c->hello = load__hello_new(l->hello, &l->prng, c->ticket, l->now, &first);
        if (c->hello == NULL || put_bytes(c, first.p, first.n) != 0)
            ended(l, c, CONN_TLS);
        return;
    }
    c->shake = tls_handshake_connect(l->client, name);
    if (c->shake == NULL)
        ended(l, c, CONN_TLS);
    else
        (void)shake(l, c, NULL, 0);
}

static void connected(struct load *l, struct conn *c)
{
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0 || error != 0) {
        ended(l, c, CONN_REFUSED);
        return;
    }
    if (c->local.port == 0)
        c->local = load__conn_local(c->fd);
    if (is_tls(c))
        begin_tls(l, c);
    else
        ready(l, c);
}

static void on_event(struct load *l, struct io *io, uint32_t events);

int load__conn_begin(const struct load_place *to, const struct addr *source)
{
    struct sockaddr_in6 sa;
    int fd = socket_for(to->addr.family, to->transport), error;
    if (fd < 0)
        return -1;
    if (source->family != 0) {
        socklen_t n = addr_to_sockaddr(source, &sa);
        (void)set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (bind(fd, (struct sockaddr *)&sa, n) != 0)
            goto fail;
    }
    socklen_t n = addr_to_sockaddr(&to->addr, &sa);
    if (connect(fd, (struct sockaddr *)&sa, n) == 0 || errno == EINPROGRESS)
        return fd;
fail:
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

int load__conn_open(struct load *l, struct conn *c, const struct load_place *to,
                    const struct addr *source, const struct conn_user *user)
{
    int fd = load__conn_begin(to, source);
    if (fd < 0)
        return -1;
    if (load__watch(l, fd, &c->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) != 0) {
        close(fd);
        return -1;
    }
    c->io.fn = on_event;
    c->user = user;
    c->fd = fd;
    c->peer = to->addr;
    c->local = (struct addr){0};
    c->transport = to->transport;
    c->is_connected_udp = to->transport == TP_UDP;
    c->state = CONN_CONNECTING;
    c->awaits_pong = false;
    memset(&c->framer, 0, sizeof c->framer);
    return 0;
}

int load__conn_adopt(struct load *l, struct conn *c, int fd, uint8_t transport,
                     const struct conn_user *user)
{
    struct sockaddr_in6 sa = {0};
    socklen_t n = sizeof sa;
    c->io.fn = on_event;
    c->user = user;
    c->fd = fd;
    c->transport = transport;
    c->state = CONN_OPEN;
    c->local = load__conn_local(fd);
    memset(&c->framer, 0, sizeof c->framer);
    if (transport == TP_UDP) {
        (void)set_int(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
        (void)set_int(fd, SOL_SOCKET, SO_RCVBUF, UDP_SOCKET_BYTES);
        (void)set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, UDP_SOCKET_BYTES);
    } else if (getpeername(fd, (struct sockaddr *)&sa, &n) == 0) {
        c->peer = addr_from_sockaddr(&sa);
    }
    return load__watch(l, fd, &c->io,
                       transport == TP_UDP ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

int load__conn_listen(const struct load_place *at, struct addr *ret_at)
{
    struct sockaddr_in6 sa;
    int fd = socket_for(at->addr.family, at->transport);
    if (fd < 0)
        return -1;
    socklen_t n = addr_to_sockaddr(&at->addr, &sa);
    if (at->transport != TP_UDP)
        (void)set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (struct sockaddr *)&sa, n) != 0 ||
        (at->transport != TP_UDP && listen(fd, BACKLOG) != 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *ret_at = load__conn_local(fd);
    return fd;
}

int load__conn_route(const struct addr *to, struct addr *ret_source)
{
    struct sockaddr_in6 sa;
    int fd = socket_for(to->family, TP_UDP);
    if (fd < 0)
        return -1;
    socklen_t n = addr_to_sockaddr(to, &sa);
    int r = connect(fd, (struct sockaddr *)&sa, n), error = errno;
    struct addr source = load__conn_local(fd);
    close(fd);
    errno = error;
    if (r != 0)
        return -1;
    source.port = 0;
    *ret_source = source;
    return 0;
}

/* ---- receiving --------------------------------------------------------------------------------
 */

/* Each returns how many bytes of `plain` are done with, or -1 when the connection has ended, or is
 * another one already. */
static ssize_t take_stream(struct load *l, struct conn *c, size_t n)
{
    const uint32_t life = c->life;
    size_t at = 0;
    while (at < n) {
        size_t len = 0;
        int r = sip_frame(&c->framer, l->plain + at, n - at, &len);
        if (r < 0) {
            ended(l, c, CONN_PROTOCOL);
            return -1;
        }
        if (r == SIP_FRAME_MORE)
            break;
        if (r == SIP_FRAME_MESSAGE) {
            c->user->message(l, c, slice_of(l->plain + at, len), &c->peer);
        } else if (c->awaits_pong) {
            c->awaits_pong = false;
            c->framer.blanks = 0; /* else the next blank line would be half of a ping */
            c->user->pong(l, c);
        } else if (r == SIP_FRAME_PING) {
            (void)load__conn_send(l, c, SLICE("\r\n"), NULL);
        }
        if (c->life != life)
            return -1;
        at += len;
    }
    return (ssize_t)at;
}

static ssize_t take_frames(struct load *l, struct conn *c, size_t *n)
{
    const uint32_t life = c->life;
    for (;;) {
        struct slice payload = SLICE_NONE;
        int r = ws_read(&c->ws, l->plain, n, SIP_MESSAGE_BYTES_MAX, &payload);
        if (r == WS_MORE)
            return 0;
        if (r == WS_MESSAGE && payload.n > 4)
            c->user->message(l, c, payload, &c->peer);
        else if (r == WS_PING)
            (void)put_frame(l, c, WS_OP_PONG, payload);
        else if (r == WS_MESSAGE || r == WS_PONG)
            c->user->pong(l, c);
        else
            ended(l, c, r == WS_CLOSE ? CONN_BROKEN : CONN_PROTOCOL);
        if (c->life != life)
            return -1;
    }
}

/* The answer to our opening handshake; the bytes of it, 0 while it is not whole, or -1. */
static ssize_t take_upgrade(struct load *l, struct conn *c, size_t n)
{
    const uint32_t life = c->life;
    const char *end = (const char *)memmem(l->plain, n, "\r\n\r\n", 4);
    if (end == NULL && n <= WS_UPGRADE_BYTES_MAX)
        return 0;
    if (end == NULL || !slice_starts_with(slice_of(l->plain, n), SLICE("HTTP/1.1 101"))) {
        ended(l, c, CONN_REFUSED);
        return -1;
    }
    opened(l, c);
    return c->life == life ? end + 4 - l->plain : -1;
}

/* `n` plain bytes stand at l->plain. Returns what is left of them, at l->plain, or -1. */
static ssize_t take_plain(struct load *l, struct conn *c, size_t n)
{
    ssize_t used = 0;
    if (c->state == CONN_UPGRADING) {
        used = take_upgrade(l, c, n);
        if (used <= 0)
            return used < 0 ? -1 : (ssize_t)n;
        n -= (size_t)used;
        memmove(l->plain, l->plain + used, n);
    }
    used = is_ws(c) ? take_frames(l, c, &n) : take_stream(l, c, n);
    if (used < 0)
        return -1;
    n -= (size_t)used;
    memmove(l->plain, l->plain + used, n);
    return (ssize_t)n;
}

/* tls_read(), which also hands tickets to the connection that wants them. */
static int open_records(struct load *l, struct conn *c, char *p, size_t *kept, size_t *n)
{
    size_t at = 0, end = *n;
    int r = TLS_DATA;
    if (c->ticket == NULL)
        return tls_read(&l->codec, &c->flow, p, kept, n);
    while (r == TLS_DATA || r == TLS_QUIET) {
        size_t used = 0;
        struct slice plain = SLICE_NONE;
        r = tls_open(&l->codec, &c->flow, p + at, end - at, &used, &plain);
        at += used;
        if (r == TLS_QUIET)
            load__ticket_take(c->ticket, plain, l->now);
        if (r == TLS_DATA && plain.n > 0) {
            memmove(p + *kept, plain.p, plain.n);
            *kept += plain.n;
        }
    }
    memmove(p + *kept, p + at, end - at);
    *n = *kept + (end - at);
    return r;
}

/* `n` bytes of the wire stand at l->raw. False when the connection is not the same any more. */
static bool take_raw(struct load *l, struct conn *c, size_t n)
{
    size_t plain = c->kept_plain, at = 0, opened_n = n;
    int r = 0;
    if (plain > 0)
        memcpy(l->plain, c->kept + c->kept_raw, plain);
    if (c->state == CONN_SHAKING) {
        ssize_t used = c->hello != NULL ? shake_lightly(l, c, l->raw, n) : shake(l, c, l->raw, n);
        if (used < 0)
            return false;
        at = (size_t)used;
        if (c->state == CONN_SHAKING) {
            keep(c, l->raw + at, n - at, NULL, 0);
            return true;
        }
        n -= at;
        opened_n = n;
    }
    if (is_tls(c)) {
        opened_n = 0;
        r = open_records(l, c, l->raw + at, &opened_n, &n);
    }
    MUST(plain + opened_n <= BUFFER_BYTES);
    memcpy(l->plain + plain, l->raw + at, opened_n);
    ssize_t left = take_plain(l, c, plain + opened_n);
    if (left < 0)
        return false;
    keep(c, l->raw + at + opened_n, n - opened_n, l->plain, (size_t)left);
    if (r == 0)
        return true;
    ended(l, c, r > 0 ? CONN_BROKEN : CONN_PROTOCOL);
    return false;
}

static void receive(struct load *l, struct conn *c, bool is_ending)
{
    for (;;) {
        size_t kept = c->kept_raw;
        if (kept > 0)
            memcpy(l->raw, c->kept, kept);
        ssize_t r = recv(c->fd, l->raw + kept, RECEIVE_BYTES, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN)
            return;
        if (r <= 0) {
            ended(l, c,
                  c->state == CONN_OPEN      ? CONN_BROKEN
                  : c->state == CONN_SHAKING ? CONN_TLS
                                             : CONN_REFUSED);
            return;
        }
        l->arrival = load__wall();
        if (!take_raw(l, c, kept + (size_t)r))
            return;
        if (!is_ending && r < RECEIVE_BYTES)
            return;
    }
}

static void receive_datagrams(struct load *l, struct conn *c)
{
    const uint32_t life = c->life;
    for (int i = 0; c->is_connected_udp || i < UDP_BATCH; i++) {
        char control[128];
        struct sockaddr_in6 sa = {0};
        struct iovec iov = {l->plain, UDP_DATAGRAM_BYTES_MAX};
        struct msghdr m = {.msg_name = &sa,
                           .msg_namelen = sizeof sa,
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
        ssize_t n = recvmsg(c->fd, &m, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 && c->is_connected_udp) {
            ended(l, c, CONN_REFUSED);
            return;
        }
        if (n < 0)
            continue; /* an ICMP error of some datagram: its timer will tell */
        struct addr from = addr_from_sockaddr(&sa);
        uint64_t arrival = arrival_of(&m);
        l->arrival = arrival != 0 ? arrival : load__wall();
        load__now(l);
        if (n > 4)
            c->user->message(l, c, slice_of(l->plain, (size_t)n), &from);
        else
            c->user->pong(l, c);
        if (c->life != life)
            return;
    }
}

static void on_event(struct load *l, struct io *io, uint32_t events)
{
    struct conn *c = (struct conn *)io;
    uint32_t life = c->life;
    if (c->state == CONN_CLOSED)
        return;
    if (c->state == CONN_CONNECTING) {
        if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0)
            return;
        connected(l, c);
        if (c->life != life || c->state == CONN_CONNECTING)
            return;
    }
    if ((events & EPOLLOUT) != 0 && c->out_n > 0 && flush(c) != 0) {
        ended(l, c, CONN_BROKEN);
        return;
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP)) == 0)
        return;
    if (c->transport == TP_UDP)
        receive_datagrams(l, c);
    else
        receive(l, c, (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0);
}
