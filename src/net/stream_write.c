/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing to connections, and closing them. Bytes go to the kernel at once when nothing waits;
 * what it does not take is copied into the connection's queue, which is bounded: a peer that does
 * not read loses its connection, not our memory. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

enum { PIECES_MAX = 1024 }; /* UIO_MAXIOV */

static size_t queued(const struct conn *c)
{
    return c->out.len - c->out.off;
}

/* Queues the pieces without their first `skip` bytes. */
static void queue_pieces(struct worker *w, struct conn *c, const struct iovec *iov, size_t count,
                         size_t skip)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = iov[i].iov_len;
        if (skip >= n) {
            skip -= n;
            continue;
        }
        const char *from = (const char *)iov[i].iov_base + skip;
        n -= skip;
        skip = 0;
        if (buf_room(&w->streams.pool, &c->out, n, STREAM_QUEUE_BYTES_MAX) != 0) {
            w->count.streams_overrun++;
            conn_doom(w, c, ENOBUFS);
            return;
        }
        memcpy(c->out.p + c->out.len, from, n);
        c->out.len += (uint32_t)n;
    }
}

static void write_pieces(struct worker *w, struct conn *c, struct iovec *iov, size_t count)
{
    if (c->state == CONN_DOOMED || count == 0)
        return;
    size_t sent = 0;
    if (c->state == CONN_OPEN && queued(c) == 0) {
        struct msghdr h = {.msg_iov = iov, .msg_iovlen = count};
        ssize_t n = sendmsg(c->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            conn_doom(w, c, errno);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    queue_pieces(w, c, iov, count, sent);
    if (c->state != CONN_DOOMED)
        conn_watch(w, c);
}

/* Sends what this batch has for the flow of action `first`, up to its close, in as few calls as
 * can be: many messages for one target leave together. */
void stream_send(struct worker *w, uint32_t first)
{
    struct actions *out = &w->out;
    struct flow_id flow = out->a[first].flow;
    struct conn *c = conn_find(w, flow);
    struct iovec pieces[PIECES_MAX];
    size_t count = 0;
    for (uint32_t i = first; i < out->count; i++) {
        struct action *a = &out->a[i];
        if (!flow_id_equal(a->flow, flow))
            continue;
        if (a->kind == ACT_CLOSE)
            break;
        if (a->kind != ACT_SEND_FLOW)
            continue;
        a->kind = ACT_DONE;
        if (c == NULL || (c->state != CONN_OPEN && c->state != CONN_CONNECTING)) {
            w->count.sends_lost++;
            continue;
        }
        MUST(a->iov_count <= PIECES_MAX);
        if (count + a->iov_count > PIECES_MAX) {
            write_pieces(w, c, pieces, count);
            count = 0;
        }
        if (a->iov_count > 0)
            memcpy(pieces + count, out->iov + a->iov, a->iov_count * sizeof pieces[0]);
        count += a->iov_count;
    }
    if (c != NULL)
        write_pieces(w, c, pieces, count);
}

/* Our side says that it is through; the peer's end, or a moment, ends the connection. Closing at
 * once would make the kernel answer unread bytes with a reset that overtakes our last message. */
static void begin_linger(struct worker *w, struct conn *c)
{
    if (shutdown(c->fd, SHUT_WR) != 0) {
        conn_doom(w, c, 0);
        return;
    }
    c->state = CONN_LINGERING;
}

void conn_write_queue(struct worker *w, struct conn *c)
{
    if (queued(c) > 0) {
        ssize_t n = send(c->fd, c->out.p + c->out.off, queued(c), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            conn_doom(w, c, errno);
            return;
        }
        c->out.off += n > 0 ? (uint32_t)n : 0;
        if (queued(c) == 0)
            buf_release(&w->streams.pool, &c->out);
    }
    if (queued(c) == 0 && c->state == CONN_FLUSHING)
        begin_linger(w, c);
    if (c->state != CONN_DOOMED)
        conn_watch(w, c);
}

void stream_close(struct worker *w, struct flow_id flow)
{
    struct conn *c = conn_find(w, flow);
    if (c == NULL)
        return;
    if (c->state == CONN_CONNECTING) {
        conn_doom(w, c, ECANCELED);
        return;
    }
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_FLUSHING;
    c->began = MONO_NONE;
    c->until = mono_add(w->now, STREAM_CLOSE_WITHIN);
    conn_write_queue(w, c);
    if (c->state != CONN_DOOMED)
        conn_arm(w, c);
}
