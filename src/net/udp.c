/* SPDX-License-Identifier: Apache-2.0
 *
 * Datagrams. One socket per listener and worker; a turn reads them all into one row of slots, and
 * what the engine wants sent leaves in one sendmmsg per listener.
 *
 *      slots  │ datagram 0   ·· │ datagram 1   ·· │ … UDP_BATCH      each 64 KiB of address space,
 *             └─ from listener 0 ┴─ from listener 3                  of which one page is touched
 *
 * IP_RECVERR makes the kernel report ICMP errors with the bytes that we had sent, so that a dead
 * target is noticed in a millisecond and not by a timer. Its price: an error that waits makes the
 * next send or receive on that socket fail although that one could be done; it is done again. */
#include <errno.h>
#include <time.h> /* before errqueue.h, which uses struct timespec */
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

/* Of a turn, for reading on while there is more. */
#define UDP_TURN_NS (2 * NS_MS)

enum { ERRORS_PER_TURN = 32, PING_BYTES_MAX = 4, FLAT_PIECES_MIN = 3 };

int udp_init(struct worker *w)
{
    struct udp *u = &w->udp;
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        u->sock[i].fd = -1;
        u->bye[i].fd = -1;
    }
    u->slots = (char *)memory_map((size_t)UDP_BATCH * UDP_SLOT_BYTES);
    u->flat = (char *)memory_map(UDP_FLAT_BYTES);
    if (u->slots == NULL || u->flat == NULL)
        return -1;
    for (unsigned i = 0; i < UDP_BATCH; i++) {
        u->in_iov[i] = (struct iovec){u->slots + (size_t)i * UDP_SLOT_BYTES, 65536};
        u->in[i].msg_hdr = (struct msghdr){.msg_name = &u->in_name[i],
                                           .msg_namelen = sizeof u->in_name[i],
                                           .msg_iov = &u->in_iov[i],
                                           .msg_iovlen = 1};
    }
    return 0;
}

void udp_done(struct worker *w)
{
    struct udp *u = &w->udp;
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        if (u->sock[i].fd >= 0)
            close(u->sock[i].fd);
        if (u->bye[i].fd >= 0)
            close(u->bye[i].fd);
    }
    memory_unmap(u->slots, (size_t)UDP_BATCH * UDP_SLOT_BYTES);
    memory_unmap(u->flat, UDP_FLAT_BYTES);
}

static int watch(struct worker *w, uint8_t listener)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = ep_tag(EP_UDP, 0, listener)};
    return epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->udp.sock[listener].fd, &ev);
}

int udp_adopt(struct worker *w, uint8_t listener, int fd)
{
    struct udp *u = &w->udp;
    MUST(listener < LISTENERS_MAX && u->sock[listener].fd < 0);
    if (u->bye[listener].fd >= 0) { /* the number has a new tenant */
        close(u->bye[listener].fd);
        u->bye[listener].fd = -1;
    }
    u->sock[listener] = (struct udp_socket){.fd = fd};
    filter_forget(w);
    if (listener >= u->high)
        u->high = listener + 1u;
    return watch(w, listener);
}

void udp_drop(struct worker *w, uint8_t listener)
{
    static struct sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {1, drop_all};
    struct udp_socket *s = &w->udp.sock[listener];
    if (s->fd < 0)
        return;
    if (!s->hot)
        (void)epoll_ctl(w->epfd, EPOLL_CTL_DEL, s->fd, NULL);
    if (setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0) {
        w->udp.bye[listener] = (struct udp_farewell){s->fd, mono_add(w->now, FAREWELL_NS)};
        w->udp.bye_any = true;
    } else {
        close(s->fd); /* deaf or gone: it must not collect what nobody reads */
    }
    *s = (struct udp_socket){.fd = -1};
}

int udp_revive(struct worker *w, uint8_t from, uint8_t to)
{
    struct udp_farewell *b = &w->udp.bye[from];
    int fd = b->fd, unused = 0;
    if (fd < 0)
        return -1;
    b->fd = -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    return udp_adopt(w, to, fd);
}

void udp_close_farewells(struct worker *w)
{
    w->udp.bye_any = false;
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        struct udp_farewell *b = &w->udp.bye[i];
        if (b->fd >= 0 && b->close_at <= w->now) {
            close(b->fd);
            b->fd = -1;
        }
        w->udp.bye_any |= b->fd >= 0;
    }
}

mono_ns udp_deadline(const struct worker *w)
{
    mono_ns at = MONO_NONE;
    for (unsigned i = 0; i < LISTENERS_MAX && w->udp.bye_any; i++)
        if (w->udp.bye[i].fd >= 0)
            at = mono_min(at, w->udp.bye[i].close_at);
    return at;
}

void udp_note_drops(struct worker *w)
{
    for (uint32_t i = 0; i < w->udp.high; i++) {
        uint32_t info[SK_MEMINFO_VARS] = {0};
        socklen_t len = sizeof info;
        struct udp_socket *s = &w->udp.sock[i];
        if (s->fd < 0 || getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0 ||
            len <= SK_MEMINFO_DROPS * sizeof info[0])
            continue;
        uint32_t more = info[SK_MEMINFO_DROPS] - s->drops;
        s->drops = info[SK_MEMINFO_DROPS];
        if (s->filtered)
            w->count.filtered += more;
        else
            s->lost += more;
    }
}

uint64_t udp_lost(struct worker *w)
{
    uint64_t lost = 0;
    udp_note_drops(w);
    for (uint32_t i = 0; i < w->udp.high; i++)
        lost += w->udp.sock[i].lost;
    return lost;
}

void udp_window(struct worker *w, bool hot)
{
    for (uint32_t i = 0; i < w->udp.high; i++) {
        struct udp_socket *s = &w->udp.sock[i];
        bool want = hot && s->recent > 0;
        s->recent = 0;
        if (s->fd < 0 || want == s->hot)
            continue;
        if (want)
            (void)epoll_ctl(w->epfd, EPOLL_CTL_DEL, s->fd, NULL);
        else
            (void)watch(w, (uint8_t)i);
        s->hot = want;
    }
}

/* ---- in -------------------------------------------------------------------------------------- */

/* CR and LF alone: a keep-alive. Only the double CRLF asks for an answer (RFC 5626 3.5.1); one CRLF
 * is such an answer. To answer that too would let one forged datagram keep two edges, or an edge
 * and an echo service, busy with each other for ever. */
static bool is_keep_alive(const char *p, size_t n)
{
    if (n > PING_BYTES_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (p[i] != '\r' && p[i] != '\n')
            return false;
    return true;
}

/* A phone's keep-alive (RFC 5626 4.4.2). Nobody waits for the engine's turn; an answer that the
 * kernel does not take is asked for again. */
static void answer_stun(struct worker *w, uint8_t listener, const struct addr *source,
                        struct slice request)
{
    char answer[STUN_ANSWER_BYTES_MAX];
    struct sockaddr_in6 to;
    int n = stun_answer(request.p, request.n, source, answer, sizeof answer);
    if (n <= 0 || !addr_is_unicast(source))
        return;
    socklen_t len = addr_to_sockaddr(source, &to);
    ssize_t sent = sendto(w->udp.sock[listener].fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&to, len);
    w->count.stun_answered += sent > 0;
}

static void step_datagram(struct worker *w, uint8_t listener, unsigned slot)
{
    struct mmsghdr *m = &w->udp.in[slot];
    if (m->msg_len == 0)
        return;
    struct event ev = {
        .kind = EV_DATAGRAM,
        .listener = listener,
        .transport = TP_UDP,
        .source = addr_from_sockaddr(&w->udp.in_name[slot]),
        .bytes = slice_of(w->udp.in_iov[slot].iov_base, m->msg_len),
    };
    if (is_outside(w, listener) &&
        guard_refused(engine_guard(w->engine), &ev.source, w->now) != GUARD_FINE &&
        is_guarded(w, listener, &ev.source)) {
        w->count.udp_denied++;
        return;
    }
    if (m->msg_hdr.msg_controllen > 0)
        ev.waited = waited_since(arrival_of(&m->msg_hdr));
    if (stun_is(ev.bytes.p, ev.bytes.n)) {
        answer_stun(w, listener, &ev.source, ev.bytes);
        return;
    }
    if (is_keep_alive(ev.bytes.p, ev.bytes.n)) {
        if (!slice_equal(ev.bytes, SLICE("\r\n\r\n")))
            return;
        ev.kind = EV_PING;
    }
    worker_step(w, &ev);
}

/* The original destination of a datagram that came back, and why. */
static bool read_error(struct msghdr *h, int *ret_error)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
        if (!(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) &&
            !(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
            continue;
        struct sock_extended_err e;
        memcpy(&e, CMSG_DATA(c), sizeof e);
        /* "Fragmentation needed" says nothing of the target: the kernel has taken note, and the
         * next copy of the message goes in fragments. */
        if (e.ee_errno == EMSGSIZE && e.ee_origin != SO_EE_ORIGIN_LOCAL)
            return false;
        *ret_error = (int)e.ee_errno;
        return true;
    }
    return false;
}

static void read_error_queue(struct worker *w, uint8_t listener)
{
    struct udp_socket *s = &w->udp.sock[listener];
    s->failing = false;
    for (unsigned i = 0; i < ERRORS_PER_TURN; i++) {
        char bytes[2048];
        _Alignas(struct cmsghdr) char control[512];
        struct sockaddr_in6 name;
        memset(&name, 0, sizeof name);
        struct iovec iov = {bytes, sizeof bytes};
        struct msghdr h = {.msg_name = &name,
                           .msg_namelen = sizeof name,
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
        ssize_t n = recvmsg(s->fd, &h, MSG_ERRQUEUE | MSG_DONTWAIT);
        if (n < 0)
            return;
        int error;
        w->count.udp_errors++;
        if (!read_error(&h, &error))
            continue;
        struct event ev = {
            .kind = EV_UNREACHABLE,
            .listener = listener,
            .transport = TP_UDP,
            .source = addr_from_sockaddr(&name),
            .bytes = slice_of(bytes, (size_t)n),
            .error = error,
        };
        worker_step(w, &ev);
        worker_execute(w); /* `bytes` goes out of scope */
    }
    s->failing = true; /* more next turn */
    w->again = true;
}

/* Room for the time of arrival, when that matters; none is less work for the kernel. */
static void ask_arrivals(struct worker *w, unsigned at)
{
    bool asks = worker_is_pressed(w);
    for (unsigned i = at; i < UDP_BATCH; i++) {
        struct msghdr *h = &w->udp.in[i].msg_hdr;
        h->msg_control = asks ? w->udp.in_control[i] : NULL;
        h->msg_controllen = asks ? sizeof w->udp.in_control[i] : 0;
    }
}

/* Reads what fits behind slot `at`; returns the slots taken. */
static unsigned receive(struct worker *w, uint8_t listener, unsigned at)
{
    struct udp *u = &w->udp;
    struct udp_socket *s = &u->sock[listener];
    unsigned room = UDP_BATCH - at;
    int n = -1;
    ask_arrivals(w, at);
    /* An error that waits is reported once and then gone: the next try reads. */
    for (unsigned attempt = 0; n < 0 && attempt < 4; attempt++) {
        w->count.udp_reads++;
        n = recvmmsg(s->fd, u->in + at, room, MSG_DONTWAIT, NULL);
        if (n < 0 && errno == EAGAIN) {
            s->ready = false;
            return 0;
        }
        if (n < 0)
            s->failing = true;
    }
    if (n <= 0)
        return 0;
    s->ready = (unsigned)n == room; /* a batch that is not full has emptied the socket */
    w->count.udp_in += (uint64_t)n;
    w->window_messages += (uint32_t)n;
    s->recent += (uint32_t)n;
    w->again |= s->ready;
    if (s->ready)
        w->pressed_until = mono_add(w->now, PRESSED_FOR);
    for (unsigned i = at; i < at + (unsigned)n; i++) {
        step_datagram(w, listener, i);
        u->in[i].msg_hdr.msg_namelen = sizeof u->in_name[i];
    }
    return (unsigned)n;
}

/* Epoll tells of sockets in turn: behind some thousand connections that are ready, ours would be
 * heard of a tenth of a second late. A read that finds nothing costs less than a microsecond. */
static bool is_worth_a_read(const struct worker *w, const struct udp_socket *s)
{
    return s->fd >= 0 && (s->hot || s->ready || s->failing || w->crowded);
}

/* A batch of each socket that has something. Returns whether one of them may have more. */
static bool receive_all(struct worker *w)
{
    struct udp *u = &w->udp;
    unsigned used = 0;
    bool more = false;
    for (uint32_t i = 0; i < u->high; i++) {
        struct udp_socket *s = &u->sock[i];
        if (!is_worth_a_read(w, s))
            continue;
        if (s->failing)
            read_error_queue(w, (uint8_t)i);
        if (used == UDP_BATCH) { /* all slots hold bytes that actions may point into */
            worker_execute(w);
            used = 0;
        }
        used += receive(w, (uint8_t)i, used);
        more |= s->ready;
    }
    return more;
}

/* Handshakes have some milliseconds of a turn: with one batch for each of those, datagrams would
 * starve beside them. */
void udp_receive(struct worker *w)
{
    mono_ns until = mono_add(mono_now(), UDP_TURN_NS);
    while (receive_all(w)) {
        mono_ns now = mono_now();
        if (now >= until)
            break;
        worker_execute(w);
        w->now = now;
    }
}

/* ---- out ------------------------------------------------------------------------------------- */

static void remember_failed(struct worker *w, const struct action *a, const struct msghdr *h,
                            int error)
{
    struct udp *u = &w->udp;
    w->count.udp_refused++;
    if (u->failed_count == UDP_FAILED_MAX)
        return; /* its timer will notice */
    struct udp_failed *f = &u->failed[u->failed_count++];
    f->dest = a->dest;
    f->listener = a->listener;
    f->error = error;
    f->len = 0;
    for (size_t i = 0; i < h->msg_iovlen && f->len < sizeof f->bytes; i++) {
        size_t k = h->msg_iov[i].iov_len;
        if (k > sizeof f->bytes - f->len)
            k = sizeof f->bytes - f->len;
        memcpy(f->bytes + f->len, h->msg_iov[i].iov_base, k);
        f->len += (uint32_t)k;
    }
}

void udp_tell_failed(struct worker *w)
{
    struct udp *u = &w->udp;
    uint32_t count = u->failed_count;
    for (uint32_t i = 0; i < count; i++) {
        struct udp_failed *f = &u->failed[i];
        struct event ev = {
            .kind = EV_UNREACHABLE,
            .listener = f->listener,
            .transport = TP_UDP,
            .source = f->dest,
            .bytes = slice_of(f->bytes, f->len),
            .error = f->error,
        };
        worker_step(w, &ev);
    }
    worker_execute(w);
    /* Failures of these last sends come behind `count`: they move to the front. */
    uint32_t rest = u->failed_count - count;
    memmove(u->failed, u->failed + count, rest * sizeof u->failed[0]);
    u->failed_count = rest;
}

/* sendmmsg stops at the first message that fails and tells why only when that is the first. */
static void send_batch(struct worker *w, int fd, struct udp_socket *s, unsigned count)
{
    struct udp *u = &w->udp;
    unsigned at = 0;
    bool again = false;
    while (at < count) {
        w->count.udp_writes++;
        int n = sendmmsg(fd, u->out + at, count - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            w->count.udp_out += (uint64_t)n;
            at += (unsigned)n;
            again = false;
            continue;
        }
        int error = errno;
        if (s != NULL)
            s->failing = true;
        if (!again && error != EAGAIN && error != EMSGSIZE) {
            again = true; /* most likely an older datagram's error, not this one's */
            continue;
        }
        again = false;
        if (error == EAGAIN || error == ENOBUFS)
            w->count.udp_refused++; /* says nothing of the target: as if lost on the way */
        else
            remember_failed(w, &w->out.a[u->out_action[at]], &u->out[at].msg_hdr, error);
        at++;
    }
}

/* A message of dozens of pieces: one copy here is cheaper than the kernel's walk over them. */
static void set_pieces(struct worker *w, const struct action *a, unsigned slot, size_t *flat_used)
{
    struct udp *u = &w->udp;
    struct msghdr *h = &u->out[slot].msg_hdr;
    struct iovec *iov = &w->out.iov[a->iov];
    size_t total = 0;
    for (uint32_t i = 0; i < a->iov_count; i++)
        total += iov[i].iov_len;
    if (a->iov_count < FLAT_PIECES_MIN || total > UDP_FLAT_BYTES - *flat_used) {
        h->msg_iov = iov;
        h->msg_iovlen = a->iov_count;
        return;
    }
    char *to = u->flat + *flat_used;
    u->out_iov[slot] = (struct iovec){to, total};
    for (uint32_t i = 0; i < a->iov_count; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    *flat_used += total;
    h->msg_iov = &u->out_iov[slot];
    h->msg_iovlen = 1;
}

static void send_listener(struct worker *w, uint8_t listener, uint32_t first)
{
    struct udp *u = &w->udp;
    struct udp_socket *s = listener < LISTENERS_MAX ? &u->sock[listener] : NULL;
    int fd = s != NULL && s->fd >= 0 ? s->fd : -1;
    if (fd < 0 && s != NULL)
        fd = u->bye[listener].fd;
    unsigned count = 0;
    size_t flat_used = 0;
    for (uint32_t i = first; i < w->out.count; i++) {
        struct action *a = &w->out.a[i];
        if (a->kind != ACT_SEND || a->listener != listener)
            continue;
        a->kind = ACT_DONE;
        if (fd < 0 || !addr_is_unicast(&a->dest)) {
            w->count.dest_refused++;
            continue;
        }
        struct msghdr *h = &u->out[count].msg_hdr;
        *h = (struct msghdr){.msg_name = &u->out_name[count]};
        h->msg_namelen = addr_to_sockaddr(&a->dest, &u->out_name[count]);
        set_pieces(w, a, count, &flat_used);
        u->out_action[count++] = i;
    }
    if (count > 0)
        send_batch(w, fd, s->fd >= 0 ? s : NULL, count);
}

void udp_send(struct worker *w)
{
    for (uint32_t i = 0; i < w->out.count; i++)
        if (w->out.a[i].kind == ACT_SEND)
            send_listener(w, w->out.a[i].listener, i);
}
