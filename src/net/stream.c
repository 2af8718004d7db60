/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections: accepting, connecting, what becomes of them. Reading is in stream_read.c, with the
 * layers of stream_tls.c and stream_ws.c; writing and closing in stream_write.c.
 *
 *      FREE ─ accept ─────────────────▶ OPEN ─ ACT_CLOSE ▶ FLUSHING ▶ LINGERING ─┐
 *        │      └──▶ SHAKING (tls, ws) ──┘ ▲                                     │
 *        └ ACT_CONNECT ▶ CONNECTING ───────┘                                     ▼
 *         ▲                     └───────────── end, error, too slow ─────────▶ DOOMED
 *         └──────────────── engine told: EV_FLOW_CLOSED or EV_CONNECT_FAILED ◀──┘
 *
 * A connection that is accepted exists for the engine only once it is OPEN. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

static size_t table_bytes(uint32_t n)
{
    return sizeof(struct conn) * ((size_t)n + 1);
}

static uint32_t connections_max(const struct streams *s)
{
    return s->accepted_max + s->ours_max;
}

static size_t slabs_bytes(const struct streams *s)
{
    uint32_t n = connections_max(s);
    return slab_memory(sizeof(struct conn_work), n) + slab_memory(sizeof(struct tls_flow), n) + 128;
}

static int slabs_init(struct streams *s)
{
    s->memory = memory_map(slabs_bytes(s));
    if (s->memory == NULL)
        return -1;
    struct arena mem = arena_over(s->memory, slabs_bytes(s));
    MUST(slab_init(&s->work, &mem, sizeof(struct conn_work), connections_max(s)) == 0);
    MUST(slab_init(&s->tls_flows, &mem, sizeof(struct tls_flow), connections_max(s)) == 0);
    return 0;
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
    s->seal_area = (char *)memory_map(STREAM_SEAL_BYTES);
    s->doomed_end = &s->doomed;
    /* Nanoseconds since 1970: no connection of an earlier process had one of these. */
    s->next_gen = wall_now();
    s->accept_again = s->accept_at = MONO_NONE;
    wheel_init(&s->wheel, mono_now());
    if (s->accepted == NULL || s->ours == NULL || s->read_area == NULL || s->seal_area == NULL ||
        tls_codec_init(&s->codec) != 0 || slabs_init(s) != 0)
        return -1;
    return bufpool_init(&s->pool);
}

struct flow_id conn_id(const struct worker *w, const struct conn *c)
{
    return (struct flow_id){.gen = c->gen, .slot = c->slot, .worker = w->index};
}

struct conn *conn_at(struct worker *w, uint32_t slot)
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
    case CONN_SHAKING:
        want = c->waits ? EPOLLRDHUP : EPOLLIN;
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
    if (conn_queued(c) > 0)
        want |= EPOLLOUT;
    if (want == c->armed)
        return;
    struct epoll_event ev = {.events = want, .data.u64 = ep_tag(EP_CONN, c->gen, c->slot)};
    if (epoll_ctl(w->epfd, EPOLL_CTL_MOD, c->fd, &ev) == 0)
        c->armed = (uint16_t)want;
}

/* Arms the one deadline that a connection has. */
void conn_arm(struct worker *w, struct conn *c)
{
    mono_ns at = MONO_NONE;
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
    case CONN_SHAKING:
    case CONN_FLUSHING:
    case CONN_LINGERING:
        at = c->until;
        break;
    case CONN_OPEN:
        if (!c->deaf && conn_began(c) != MONO_NONE)
            at = mono_add(conn_began(c), STREAM_MESSAGE_WITHIN);
        else if (c->deaf || (!c->sensible && c->slot < FLOW_OUT))
            at = c->until;
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
    conn_leave_lists(w, c);
    if (c->state == CONN_SHAKING)
        conn_tell_shake_broke(w, c, error);
    c->state = CONN_DOOMED;
    c->error = error;
    c->next = NULL;
    *w->streams.doomed_end = c;
    w->streams.doomed_end = &c->next;
}

static struct event conn_event(const struct worker *w, const struct conn *c, uint8_t kind)
{
    return (struct event){
        .kind = kind,
        .listener = c->listener,
        .transport = c->transport,
        .flow = conn_id(w, c),
        .source = c->peer,
    };
}

void conn_step(struct worker *w, struct conn *c, uint8_t kind, struct slice bytes, int error)
{
    struct event ev = conn_event(w, c, kind);
    ev.bytes = bytes;
    ev.error = error;
    if (kind == EV_MESSAGE)
        ev.waited = waited_since(w->streams.came_wall);
    worker_step(w, &ev);
}

struct conn_work *conn_work(struct worker *w, struct conn *c)
{
    if (c->work == NULL) {
        handle h;
        c->work = (struct conn_work *)slab_take(&w->streams.work, &h);
        MUST(c->work != NULL); /* there is one for each */
        c->work->began = MONO_NONE;
        c->work->framer.blanks = c->blank;
    }
    return c->work;
}

void conn_rest(struct worker *w, struct conn *c)
{
    struct conn_work *k = c->work;
    if (k == NULL || k->shake != NULL || k->began != MONO_NONE || k->in.p != NULL ||
        k->out.p != NULL || k->held.p != NULL)
        return;
    c->blank = k->framer.blanks != 0;
    slab_release(&w->streams.work, k);
    c->work = NULL;
}

static void conn_release(struct worker *w, struct conn *c)
{
    struct streams *s = &w->streams;
    struct conn_work *k = c->work;
    wheel_disarm(&s->wheel, &c->node);
    conn_leave_lists(w, c);
    conn_uncount(w, c);
    if (k != NULL) {
        conn_drop_shake(w, c);
        buf_release(&s->pool, &k->in);
        buf_release(&s->pool, &k->out);
        buf_release(&s->pool, &k->held);
        slab_release(&s->work, k);
        c->work = NULL;
    }
    if (c->tls != NULL) {
        tls_flow_wipe(c->tls);
        slab_release(&s->tls_flows, c->tls);
        c->tls = NULL;
    }
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

void streams_done(struct worker *w)
{
    struct streams *s = &w->streams;
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        if (s->listen_fd[i] >= 0)
            close(s->listen_fd[i]);
    for (uint32_t i = 0; s->accepted != NULL && i < s->fresh; i++)
        if (s->accepted[i].state != CONN_FREE)
            conn_release(w, &s->accepted[i]);
    for (uint32_t i = 0; s->ours != NULL && i < s->ours_max; i++)
        if (s->ours[i].state != CONN_FREE)
            conn_release(w, &s->ours[i]);
    bufpool_done(&s->pool);
    if (s->memory != NULL) {
        slab_done(&s->work);
        slab_done(&s->tls_flows);
        memory_unmap(s->memory, slabs_bytes(s));
    }
    tls_codec_done(&s->codec);
    memory_unmap(s->seal_area, STREAM_SEAL_BYTES);
    memory_unmap(s->accepted, table_bytes(s->accepted_max));
    memory_unmap(s->ours, table_bytes(s->ours_max));
    memory_unmap(s->read_area, STREAM_READ_BYTES_MAX + STUB_BYTES_MAX);
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
    struct event ev = conn_event(w, c, c->announced ? EV_FLOW_CLOSED : EV_CONNECT_FAILED);
    bool is_known = c->announced || c->slot >= FLOW_OUT;
    ev.error = c->error;
    conn_release(w, c);
    if (is_known)
        worker_step(w, &ev);
    return true;
}

void conn_begin(struct worker *w, struct conn *c, int fd)
{
    uint32_t slot = c->slot;
    *c = (struct conn){.fd = fd, .slot = slot, .until = MONO_NONE};
    c->node.at = MONO_NONE;
    w->streams.live++;
}

void conn_opened(struct worker *w, struct conn *c, struct slice names)
{
    c->state = CONN_OPEN;
    c->until = mono_add(w->now, STREAM_SENSIBLE_WITHIN);
    c->announced = true;
    conn_step(w, c, EV_FLOW_OPENED, names, 0);
}

void conn_end(struct worker *w, struct conn *c, int error)
{
    if (c->state != CONN_OPEN && c->state != CONN_SHAKING)
        return;
    if (c->slot >= FLOW_OUT) { /* its slot is the engine's to use again, once it knows */
        conn_doom(w, c, error);
        return;
    }
    if (c->announced) {
        conn_step(w, c, EV_FLOW_CLOSED, SLICE_NONE, error);
        c->announced = false;
    }
    conn_flush(w, c);
}

/* A connection whose peer is gone without a word is noticed by probes, or by bytes that nobody
 * acknowledges. Failing to set any of these costs comfort, not correctness. */
void set_stream_options(int fd)
{
    static const int yes = 1, idle_s = 60, every_s = 15, probes = 4, unacked = STREAM_UNACKED_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof unacked);
}

/* ---- listeners that go ------------------------------------------------------------------------
 */

static void lose_listener(struct worker *w, struct conn *c)
{
    c->listener = LISTENER_NONE;
    if (c->state == CONN_SHAKING) /* it would need the rules of the one that goes */
        conn_doom(w, c, ECANCELED);
}

void stream_drop(struct worker *w, uint8_t listener)
{
    int *fd = &w->streams.listen_fd[listener];
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    w->streams.ready &= ~(1ULL << listener);
    w->streams.resting &= ~(1ULL << listener);
    /* Its connections go on without it: its number may become that of another, of another side. */
    struct streams *s = &w->streams;
    for (uint32_t i = 0; i < s->fresh; i++)
        if (s->accepted[i].state != CONN_FREE && s->accepted[i].listener == listener)
            lose_listener(w, &s->accepted[i]);
    for (uint32_t i = 0; i < s->ours_max; i++)
        if (s->ours[i].listener == listener)
            s->ours[i].listener = LISTENER_NONE;
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

/* Whom we expect: the name that the target was configured by, or its address. */
static bool prepare_shake(struct worker *w, struct conn *c, const struct action *a)
{
    char text[ADDR_TEXT_MAX];
    struct text t = text_into(text, sizeof text);
    addr_put_host(&t, &a->dest);
    if (a->transport != TP_TLS || w->tls == NULL || a->id >= w->tls->client_count ||
        w->tls->client[a->id] == NULL)
        return false;
    struct slice name = text_slice(&t);
    if (a->dest.family == 6) /* without its brackets */
        name = slice_of(name.p + 1, name.n - 2);
    if (a->text.n > 0)
        name = a->text;
    conn_work(w, c)->shake = tls_handshake_connect(w->tls->client[a->id], name);
    w->streams.shaking += c->work->shake != NULL;
    return c->work->shake != NULL;
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
    if (fd >= 0 && transport_has_tls(a->transport) && !prepare_shake(w, c, a))
        fd = -EPROTONOSUPPORT;
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
    if (transport_has_tls(c->transport)) { /* by the deadline of the connect */
        c->state = CONN_SHAKING;
        (void)conn_shake(w, c, NULL, 0);
    } else {
        conn_opened(w, c, SLICE_NONE);
    }
    if (c->state != CONN_DOOMED)
        conn_write_queue(w, c);
    if (c->state != CONN_DOOMED)
        conn_arm(w, c);
}

/* ---- events ---------------------------------------------------------------------------------- */

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
        conn_rest(w, c);
        return;
    }
    if ((events & EPOLLOUT) != 0 && c->state != CONN_DOOMED)
        conn_write_queue(w, c);
    if (c->waits && (events & ~(uint32_t)EPOLLIN) != 0) { /* an end: nobody has to shake hands */
        w->count.handshakes_left++;
        conn_doom(w, c, ECONNRESET);
    } else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && c->state != CONN_DOOMED) {
        if (c->state == CONN_SHAKING || (c->state == CONN_OPEN && !c->deaf))
            conn_read(w, c);
        else
            read_to_discard(w, c);
    }
    conn_rest(w, c);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void conn_expired(struct worker *w, struct conn *c)
{
    c->node.at = MONO_NONE;
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
        conn_doom(w, c, ETIMEDOUT);
        break;
    case CONN_SHAKING:
        w->count.handshakes_slow++;
        conn_doom(w, c, ETIMEDOUT);
        break;
    case CONN_OPEN:
        if (c->deaf || conn_began(c) == MONO_NONE)
            conn_doom(w, c, ETIMEDOUT);
        else
            conn_too_slow(w, c);
        break;
    case CONN_FLUSHING:
    case CONN_LINGERING:
        conn_doom(w, c, 0);
        break;
    case CONN_FREE:
    case CONN_DOOMED:
        break;
    }
    conn_rest(w, c);
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
}

mono_ns stream_deadline(const struct worker *w)
{
    return mono_min(wheel_deadline(&w->streams.wheel),
                    mono_min(door_deadline(w), filter_deadline(w)));
}
