/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections: accepting, connecting, reading. Writing and closing are in stream_write.c.
 *
 *      FREE ─ accept ────────────────▶ OPEN ─ ACT_CLOSE ▶ FLUSHING ▶ LINGERING ─┐
 *      FREE ─ ACT_CONNECT ▶ CONNECTING ──┘                                      ▼
 *         ▲                     └───────────── end, error, too slow ─────────▶ DOOMED
 *         └──────────────── engine told: EV_FLOW_CLOSED or EV_CONNECT_FAILED ◀──┘
 *
 * Bytes are read into one area that all connections share; only the beginning of a message that
 * is not whole yet moves into a buffer of its own, where the rest is read behind it. What a
 * transport above TCP would put in between is a filter on the bytes of stream_feed(). */
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

enum { ACCEPTS_PER_TURN = 32 };
#define ACCEPT_PAUSE_NS (100 * NS_MS)

static size_t table_bytes(uint32_t n)
{
    return sizeof(struct conn) * ((size_t)n + 1);
}

int streams_init(struct worker *w, const struct config *c, uint32_t accepted_max)
{
    struct streams *s = &w->streams;
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        s->listen_fd[i] = -1;
    s->accepted_max = accepted_max;
    s->ours_max = c->engine.limits.target_flows;
    s->accepted = (struct conn *)memory_map(table_bytes(s->accepted_max));
    s->ours = (struct conn *)memory_map(table_bytes(s->ours_max));
    s->read_area = (char *)memory_map(STREAM_READ_BYTES_MAX + STUB_BYTES_MAX);
    s->doomed_end = &s->doomed;
    /* Nanoseconds since 1970: no connection of an earlier process had one of these. */
    s->next_gen = wall_now();
    s->accept_again = MONO_NONE;
    wheel_init(&s->wheel, mono_now());
    if (s->accepted == NULL || s->ours == NULL || s->read_area == NULL)
        return -1;
    return bufpool_init(&s->pool);
}

void streams_done(struct worker *w)
{
    struct streams *s = &w->streams;
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        if (s->listen_fd[i] >= 0)
            close(s->listen_fd[i]);
    for (uint32_t i = 0; s->accepted != NULL && i < s->fresh; i++)
        if (s->accepted[i].state != CONN_FREE)
            close(s->accepted[i].fd);
    for (uint32_t i = 0; s->ours != NULL && i < s->ours_max; i++)
        if (s->ours[i].state != CONN_FREE)
            close(s->ours[i].fd);
    bufpool_done(&s->pool);
    memory_unmap(s->accepted, table_bytes(s->accepted_max));
    memory_unmap(s->ours, table_bytes(s->ours_max));
    memory_unmap(s->read_area, STREAM_READ_BYTES_MAX + STUB_BYTES_MAX);
}

struct flow_id conn_id(const struct worker *w, const struct conn *c)
{
    return (struct flow_id){.gen = c->gen, .slot = c->slot, .worker = w->index};
}

static struct conn *conn_at(struct worker *w, uint32_t slot)
{
    struct streams *s = &w->streams;
    if (slot >= FLOW_OUT)
        return slot - FLOW_OUT < s->ours_max ? &s->ours[slot - FLOW_OUT] : NULL;
    return slot < s->fresh ? &s->accepted[slot] : NULL;
}

struct conn *conn_find(struct worker *w, struct flow_id flow)
{
    struct conn *c = flow.worker == w->index ? conn_at(w, flow.slot) : NULL;
    return c != NULL && c->state != CONN_FREE && c->gen == flow.gen ? c : NULL;
}

/* Tells epoll what this state waits for, if that has changed. */
void conn_watch(struct worker *w, struct conn *c)
{
    uint32_t want = 0;
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
        want = EPOLLOUT;
        break;
    case CONN_OPEN:
        want = c->deaf ? 0 : EPOLLIN;
        break;
    case CONN_FLUSHING:
    case CONN_LINGERING:
        want = EPOLLIN;
        break;
    case CONN_FREE:
    case CONN_DOOMED:
        break;
    }
    if (c->out.len > c->out.off)
        want |= EPOLLOUT;
    if (want == c->armed)
        return;
    struct epoll_event ev = {.events = want, .data.u64 = ep_tag(EP_CONN, c->gen, c->slot)};
    if (epoll_ctl(w->epfd, EPOLL_CTL_MOD, c->fd, &ev) == 0)
        c->armed = want;
}

/* Arms the one deadline that a connection has. */
void conn_arm(struct worker *w, struct conn *c)
{
    mono_ns at = MONO_NONE;
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
    case CONN_FLUSHING:
    case CONN_LINGERING:
        at = c->until;
        break;
    case CONN_OPEN:
        if (c->deaf)
            at = c->until;
        else if (c->began != MONO_NONE)
            at = mono_add(c->began, STREAM_MESSAGE_WITHIN);
        else if (!c->sensible && c->slot < FLOW_OUT)
            at = mono_add(c->opened, STREAM_SENSIBLE_WITHIN);
        break;
    case CONN_FREE:
    case CONN_DOOMED:
        break;
    }
    if (at != c->node.at)
        wheel_arm(&w->streams.wheel, &c->node, at);
}

void conn_doom(struct worker *w, struct conn *c, int error)
{
    if (c->state == CONN_DOOMED)
        return;
    c->state = CONN_DOOMED;
    c->error = error;
    c->next = NULL;
    *w->streams.doomed_end = c;
    w->streams.doomed_end = &c->next;
}

static void conn_release(struct worker *w, struct conn *c)
{
    struct streams *s = &w->streams;
    wheel_disarm(&s->wheel, &c->node);
    buf_release(&s->pool, &c->in);
    buf_release(&s->pool, &c->out);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = CONN_FREE;
    s->live--;
    if (c->slot < FLOW_OUT) {
        c->next = s->free;
        s->free = c;
    }
}

bool stream_tell_doomed(struct worker *w)
{
    struct streams *s = &w->streams;
    struct conn *c = s->doomed;
    if (c == NULL)
        return false;
    s->doomed = c->next;
    if (s->doomed == NULL)
        s->doomed_end = &s->doomed;
    struct event ev = {
        .kind = c->announced ? EV_FLOW_CLOSED : EV_CONNECT_FAILED,
        .listener = c->listener,
        .transport = c->transport,
        .error = c->error,
        .flow = conn_id(w, c),
        .source = c->peer,
    };
    conn_release(w, c);
    worker_step(w, &ev);
    return true;
}

static struct conn *conn_begin(struct worker *w, struct conn *c, int fd)
{
    uint32_t slot = c->slot;
    *c = (struct conn){.fd = fd, .slot = slot, .began = MONO_NONE, .until = MONO_NONE};
    c->node.at = MONO_NONE;
    c->opened = w->now;
    w->streams.live++;
    return c;
}

static void tell_opened(struct worker *w, struct conn *c)
{
    struct event ev = {
        .kind = EV_FLOW_OPENED,
        .listener = c->listener,
        .transport = c->transport,
        .flow = conn_id(w, c),
        .source = c->peer,
    };
    c->announced = true;
    worker_step(w, &ev);
}

/* A connection whose peer is gone without a word is noticed by probes, or by bytes that nobody
 * acknowledges. Failing to set any of these costs comfort, not correctness. */
static void set_stream_options(int fd)
{
    static const int yes = 1, idle_s = 60, every_s = 15, probes = 4, unacked = STREAM_UNACKED_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof unacked);
}

/* ---- accepting ------------------------------------------------------------------------------- */

int stream_adopt(struct worker *w, uint8_t listener, int fd)
{
    struct streams *s = &w->streams;
    MUST(listener < LISTENERS_MAX && s->listen_fd[listener] < 0);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ep_tag(EP_LISTEN, 0, listener)};
    s->listen_fd[listener] = fd;
    return epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev);
}

void stream_drop(struct worker *w, uint8_t listener)
{
    int *fd = &w->streams.listen_fd[listener];
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    /* Its connections go on without it: its number may become that of another, of another side. */
    struct streams *s = &w->streams;
    for (uint32_t i = 0; i < s->fresh; i++)
        if (s->accepted[i].listener == listener)
            s->accepted[i].listener = LISTENER_NONE;
    for (uint32_t i = 0; i < s->ours_max; i++)
        if (s->ours[i].listener == listener)
            s->ours[i].listener = LISTENER_NONE;
}

static void watch_listeners(struct worker *w, uint32_t events)
{
    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        struct epoll_event ev = {.events = events, .data.u64 = ep_tag(EP_LISTEN, 0, i)};
        if (w->streams.listen_fd[i] >= 0)
            (void)epoll_ctl(w->epfd, EPOLL_CTL_MOD, w->streams.listen_fd[i], &ev);
    }
}

static struct conn *free_slot(struct streams *s)
{
    struct conn *c = s->free;
    if (c != NULL) {
        s->free = c->next;
        return c;
    }
    if (s->fresh == s->accepted_max)
        return NULL;
    c = &s->accepted[s->fresh];
    c->slot = s->fresh++;
    return c;
}

static void give_back_slot(struct streams *s, struct conn *c)
{
    c->next = s->free;
    s->free = c;
}

static void accepted(struct worker *w, uint8_t listener, int fd, const struct sockaddr_in6 *name)
{
    struct streams *s = &w->streams;
    struct conn *c = free_slot(s);
    if (c == NULL) {
        w->count.accepts_refused++;
        close(fd);
        return;
    }
    uint64_t gen = s->next_gen++;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ep_tag(EP_CONN, gen, c->slot)};
    if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        w->count.accepts_refused++;
        close(fd);
        give_back_slot(s, c);
        return;
    }
    conn_begin(w, c, fd);
    c->gen = gen;
    c->state = CONN_OPEN;
    c->armed = EPOLLIN;
    c->listener = listener;
    c->transport = w->config->engine.edge.listener[listener].transport;
    c->peer = addr_from_sockaddr(name);
    set_stream_options(fd);
    conn_arm(w, c);
    tell_opened(w, c);
}

void stream_accept(struct worker *w, uint8_t listener)
{
    struct streams *s = &w->streams;
    for (unsigned i = 0; i < ACCEPTS_PER_TURN && s->listen_fd[listener] >= 0; i++) {
        struct sockaddr_in6 name;
        socklen_t len = sizeof name;
        memset(&name, 0, sizeof name);
        int fd = accept4(s->listen_fd[listener], (struct sockaddr *)&name, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted(w, listener, fd, &name);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The peer stays in the backlog; without a pause this would spin. */
            w->count.accepts_refused++;
            s->accept_again = mono_add(w->now, ACCEPT_PAUSE_NS);
            watch_listeners(w, 0);
            return;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        /* Anything else is that one connection's end (accept(2)): look at the next. */
    }
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int begin_connect(const struct worker *w, const struct action *a)
{
    const struct edge_listener *l =
        a->listener < LISTENERS_MAX ? &w->config->engine.edge.listener[a->listener] : NULL;
    int fd = socket(a->dest.family == 4 ? AF_INET : AF_INET6,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_in6 sa;
    if (l != NULL && l->used && l->bind.family == a->dest.family) {
        static const int yes = 1;
        struct addr from = l->bind;
        from.port = 0;
        socklen_t len = addr_to_sockaddr(&from, &sa);
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(fd, (struct sockaddr *)&sa, len) != 0) {
            int error = errno;
            close(fd);
            return -error;
        }
    }
    set_stream_options(fd);
    socklen_t len = addr_to_sockaddr(&a->dest, &sa);
    if (connect(fd, (struct sockaddr *)&sa, len) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

void stream_connect(struct worker *w, const struct action *a)
{
    struct streams *s = &w->streams;
    MUST(a->flow.slot >= FLOW_OUT && a->flow.worker == w->index);
    MUST(a->flow.slot - FLOW_OUT < s->ours_max);
    struct conn *c = &s->ours[a->flow.slot - FLOW_OUT];
    MUST(c->state == CONN_FREE);
    c->slot = a->flow.slot;
    int fd = addr_is_unicast(&a->dest) ? begin_connect(w, a) : -EADDRNOTAVAIL;
    conn_begin(w, c, fd < 0 ? -1 : fd);
    c->gen = a->flow.gen;
    c->listener = a->listener;
    c->transport = a->transport;
    c->peer = a->dest;
    c->state = CONN_CONNECTING;
    c->until = mono_add(w->now, a->timeout_ns);
    struct epoll_event ev = {.events = EPOLLOUT, .data.u64 = ep_tag(EP_CONN, c->gen, c->slot)};
    if (fd >= 0 && epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) != 0)
        fd = -errno;
    if (fd < 0) {
        conn_doom(w, c, -fd);
        return;
    }
    c->armed = EPOLLOUT;
    conn_arm(w, c);
}

static void connected(struct worker *w, struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error != 0) {
        conn_doom(w, c, error);
        return;
    }
    c->state = CONN_OPEN;
    c->opened = w->now;
    c->until = MONO_NONE;
    tell_opened(w, c);
    conn_write_queue(w, c);
    conn_arm(w, c);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void step_frame(struct worker *w, struct conn *c, uint8_t kind, struct slice bytes,
                       int error)
{
    struct event ev = {
        .kind = kind,
        .listener = c->listener,
        .transport = c->transport,
        .flow = conn_id(w, c),
        .source = c->peer,
        .bytes = bytes,
        .error = error,
    };
    worker_step(w, &ev);
}

/* The place of the next message is unknown: nothing more is read, and the engine, which answers
 * and closes, has a moment for that. */
static void framing_failed(struct worker *w, struct conn *c, struct slice bytes, int error)
{
    c->deaf = true;
    c->began = MONO_NONE;
    c->until = mono_add(w->now, STREAM_CLOSE_WITHIN);
    step_frame(w, c, EV_FRAME_FAULT, bytes, error);
}

/* Takes messages off the front of `p`; returns the bytes that are done with. */
static size_t take_messages(struct worker *w, struct conn *c, const char *p, size_t n)
{
    size_t at = 0;
    while (at < n && c->state == CONN_OPEN && !c->deaf) {
        size_t took = 0;
        int r = sip_frame(&c->framer, p + at, n - at, &took);
        if (r == SIP_FRAME_MORE)
            break;
        struct slice bytes = slice_of(p + at, took);
        if (r < 0) {
            framing_failed(w, c, bytes, r);
            return n;
        }
        if (r != SIP_FRAME_SKIP) {
            c->sensible = true;
            w->window_streams++;
            step_frame(w, c, r == SIP_FRAME_PING ? EV_PING : EV_MESSAGE, bytes, 0);
        }
        at += took;
        c->began = MONO_NONE;
    }
    return at;
}

static bool is_stub(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != '\r' && p[i] != '\n')
            return false;
    return n <= STUB_BYTES_MAX;
}

/* Keeps the rest of what was read for next time. It lies in the connection's own buffer already
 * (`own`), or in the area that all share. */
static void keep_rest(struct worker *w, struct conn *c, const char *p, size_t n, bool own)
{
    struct streams *s = &w->streams;
    c->stub_len = 0;
    if (is_stub(p, n)) { /* perhaps half a keep-alive: it may rest, and costs no buffer */
        memcpy(c->stub, p, n);
        c->stub_len = (uint8_t)n;
        c->began = MONO_NONE;
        buf_release(&s->pool, &c->in);
        return;
    }
    if (c->began == MONO_NONE)
        c->began = w->now;
    if (own) {
        c->in.off = (uint32_t)(c->in.len - n);
        return;
    }
    if (buf_room(&s->pool, &c->in, n, SIP_MESSAGE_BYTES_MAX + STREAM_READ_BYTES_MAX) != 0) {
        w->count.buffers_refused++;
        conn_doom(w, c, ENOBUFS);
        return;
    }
    memcpy(c->in.p, p, n);
    c->in.len = (uint32_t)n;
}

static void stream_feed(struct worker *w, struct conn *c, const char *p, size_t n, bool own)
{
    size_t done = take_messages(w, c, p, n);
    worker_execute(w); /* the bytes may move or go now */
    if (c->state == CONN_OPEN && !c->deaf) {
        keep_rest(w, c, p + done, n - done, own);
    } else {
        c->began = MONO_NONE;
        buf_release(&w->streams.pool, &c->in);
    }
    if (c->state != CONN_DOOMED) {
        conn_watch(w, c);
        conn_arm(w, c);
    }
}

static void read_message_bytes(struct worker *w, struct conn *c)
{
    struct streams *s = &w->streams;
    bool own = c->in.p != NULL;
    char *to = s->read_area;
    size_t have = 0, room = STREAM_READ_BYTES_MAX;
    if (own) {
        have = c->in.len - c->in.off;
        /* The framer refuses what is longer than a message may be, so there is always room for
         * its last byte within this bound. */
        if (buf_room(&s->pool, &c->in, have < 4096 ? 4096 - have : have / 2 + 1,
                     SIP_MESSAGE_BYTES_MAX * 2) != 0) {
            w->count.buffers_refused++;
            conn_doom(w, c, ENOBUFS);
            return;
        }
        to = c->in.p + c->in.off;
        room = c->in.cap - c->in.len;
        if (room > STREAM_READ_BYTES_MAX)
            room = STREAM_READ_BYTES_MAX;
    } else {
        memcpy(to, c->stub, c->stub_len);
        have = c->stub_len;
    }
    ssize_t n = read(c->fd, to + have, room);
    if (n > 0) {
        if (own)
            c->in.len += (uint32_t)n;
        stream_feed(w, c, to, have + (size_t)n, own);
    } else if (n == 0) {
        conn_doom(w, c, 0);
    } else if (errno != EAGAIN && errno != EINTR) {
        conn_doom(w, c, errno);
    }
}

static void read_to_discard(struct worker *w, struct conn *c)
{
    ssize_t n = read(c->fd, w->streams.read_area, STREAM_READ_BYTES_MAX);
    if (n > 0) {
        c->discarded += (uint32_t)n;
        if (c->discarded > STREAM_DISCARD_BYTES_MAX)
            conn_doom(w, c, 0);
    } else if (n == 0) {
        conn_doom(w, c, 0);
    } else if (errno != EAGAIN && errno != EINTR) {
        conn_doom(w, c, errno);
    }
}

void stream_event(struct worker *w, uint64_t tag, uint32_t events)
{
    struct conn *c = conn_at(w, (uint32_t)tag);
    if (c == NULL || c->state == CONN_FREE || ((c->gen ^ tag >> 32) & 0xffffff) != 0)
        return; /* closed earlier in this turn */
    if (c->state == CONN_CONNECTING) {
        connected(w, c);
        return;
    }
    if ((events & EPOLLOUT) != 0 && c->state != CONN_DOOMED)
        conn_write_queue(w, c);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0 || c->state == CONN_DOOMED)
        return;
    if (c->state == CONN_OPEN && !c->deaf)
        read_message_bytes(w, c);
    else
        read_to_discard(w, c);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void conn_expired(struct worker *w, struct conn *c)
{
    c->node.at = MONO_NONE;
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
        conn_doom(w, c, ETIMEDOUT);
        break;
    case CONN_OPEN:
        if (c->deaf || c->began == MONO_NONE) {
            conn_doom(w, c, ETIMEDOUT);
            break;
        }
        w->count.streams_slow++;
        framing_failed(w, c, slice_of(c->in.p + c->in.off, c->in.len - c->in.off), SIP_E_LENGTH);
        worker_execute(w);
        buf_release(&w->streams.pool, &c->in);
        if (c->state != CONN_DOOMED) {
            conn_watch(w, c);
            conn_arm(w, c);
        }
        break;
    case CONN_FLUSHING:
    case CONN_LINGERING:
        conn_doom(w, c, 0);
        break;
    case CONN_FREE:
    case CONN_DOOMED:
        break;
    }
}

void stream_timers(struct worker *w)
{
    struct streams *s = &w->streams;
    for (;;) {
        struct wheel_node *n = wheel_expire(&s->wheel, w->now);
        if (n == NULL)
            break;
        conn_expired(w, (struct conn *)((char *)n - offsetof(struct conn, node)));
    }
    if (s->accept_again <= w->now) {
        s->accept_again = MONO_NONE;
        watch_listeners(w, EPOLLIN);
    }
}

mono_ns stream_deadline(const struct worker *w)
{
    return mono_min(wheel_deadline(&w->streams.wheel), w->streams.accept_again);
}
