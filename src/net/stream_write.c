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

/* Queues the pieces without their first `skip` bytes. */
static void queue_pieces(struct worker *w, struct conn *c, struct buf *queue,
                         const struct iovec *iov, size_t count, size_t skip)
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
        if (buf_room(&w->streams.pool, queue, n, STREAM_QUEUE_BYTES_MAX) != 0) {
            w->count.streams_overrun++;
            conn_doom(w, c, ENOBUFS);
            return;
        }
        memcpy(queue->p + queue->len, from, n);
        queue->len += (uint32_t)n;
    }
}

static size_t total_of(const struct iovec *iov, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

void conn_send_raw(struct worker *w, struct conn *c, const struct iovec *iov, size_t count)
{
    size_t total = total_of(iov, count), sent = 0;
    if (c->state == CONN_DOOMED || total == 0)
        return;
    if (c->state != CONN_CONNECTING && conn_queued(c) == 0) {
        struct msghdr h = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
        ssize_t n = sendmsg(c->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            conn_doom(w, c, errno);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent < total)
        queue_pieces(w, c, &conn_work(w, c)->out, iov, count, sent);
    if (c->state != CONN_DOOMED)
        conn_watch(w, c);
}

void conn_send(struct worker *w, struct conn *c, const struct iovec *iov, size_t count)
{
    if (c->state == CONN_DOOMED || count == 0)
        return;
    if (!transport_has_tls(c->transport))
        conn_send_raw(w, c, iov, count);
    else if (c->tls != NULL)
        conn_send_tls(w, c, iov, count);
    else
        queue_pieces(w, c, &conn_work(w, c)->held, iov, count, 0);
}

void conn_send_held(struct worker *w, struct conn *c)
{
    struct buf *held = &c->work->held;
    if (held->p != NULL && c->state == CONN_OPEN) {
        struct iovec iov = {held->p + held->off, held->len - held->off};
        conn_send(w, c, &iov, 1);
    }
    buf_release(&w->streams.pool, held);
}

/* Whether what the engine sends on it has a chance. It knows of connections that are open, and of
 * those that it asked for. */
static bool takes_messages(const struct conn *c)
{
    return c != NULL && (c->state == CONN_OPEN || c->state == CONN_CONNECTING ||
                         (c->state == CONN_SHAKING && c->slot >= FLOW_OUT));
}

/* Each message in a frame of its own (RFC 7118 5). Text where it is text: there are clients that
 * know nothing else. */
static size_t put_frame_head(const struct actions *out, const struct action *a,
                             uint8_t head[WS_HEAD_BYTES_MAX])
{
    const struct iovec *iov = out->iov + a->iov;
    enum ws_opcode op = pieces_are_utf8(iov, a->iov_count) ? WS_OP_TEXT : WS_OP_BINARY;
    return ws_put_head(head, op, total_of(iov, a->iov_count));
}

/* Sends what this batch has for the flow of action `first`, up to its close, in as few calls as
 * can be: many messages for one target leave together. */
void stream_send(struct worker *w, uint32_t first)
{
    struct actions *out = &w->out;
    struct flow_id flow = out->a[first].flow;
    struct conn *c = conn_find(w, flow);
    struct iovec pieces[PIECES_MAX];
    uint8_t heads[STEP_ACTIONS_MAX][WS_HEAD_BYTES_MAX];
    size_t count = 0, head_count = 0;
    for (uint32_t i = first; i < out->count; i++) {
        struct action *a = &out->a[i];
        if (!flow_id_equal(a->flow, flow))
            continue;
        if (a->kind == ACT_CLOSE)
            break;
        if (a->kind != ACT_SEND_FLOW)
            continue;
        a->kind = ACT_DONE;
        if (!takes_messages(c)) {
            w->count.sends_lost++;
            continue;
        }
        MUST(a->iov_count < PIECES_MAX);
        if (count + a->iov_count + 1 > PIECES_MAX) {
            conn_send(w, c, pieces, count);
            count = 0;
        }
        if (transport_has_ws(c->transport)) {
            uint8_t *head = heads[head_count++];
            pieces[count++] = (struct iovec){head, put_frame_head(out, a, head)};
        }
        if (a->iov_count > 0)
            memcpy(pieces + count, out->iov + a->iov, a->iov_count * sizeof pieces[0]);
        count += a->iov_count;
    }
    if (c != NULL)
        conn_send(w, c, pieces, count);
}

void stream_ping(struct worker *w, struct flow_id flow)
{
    static const char crlfs[4] = {'\r', '\n', '\r', '\n'};
    struct conn *c = conn_find(w, flow);
    if (c == NULL || c->state != CONN_OPEN)
        return;
    uint8_t head[WS_HEAD_BYTES_MAX];
    struct iovec iov = {(void *)(uintptr_t)crlfs, sizeof crlfs};
    if (transport_has_ws(c->transport))
        iov = (struct iovec){head, ws_put_head(head, WS_OP_PING, 0)};
    conn_send(w, c, &iov, 1);
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
    size_t n = conn_queued(c);
    if (n > 0) {
        struct buf *out = &c->work->out;
        ssize_t sent = send(c->fd, out->p + out->off, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            conn_doom(w, c, errno);
            return;
        }
        out->off += sent > 0 ? (uint32_t)sent : 0;
        if (conn_queued(c) == 0)
            buf_release(&w->streams.pool, out);
    }
    if (conn_queued(c) == 0 && c->state == CONN_FLUSHING)
        begin_linger(w, c);
    if (c->state != CONN_DOOMED)
        conn_watch(w, c);
}

void conn_flush(struct worker *w, struct conn *c)
{
    if (c->state == CONN_DOOMED)
        return;
    conn_leave_lists(w, c);
    c->state = CONN_FLUSHING;
    if (c->work != NULL)
        c->work->began = MONO_NONE;
    c->until = mono_add(w->now, STREAM_CLOSE_WITHIN);
    conn_write_queue(w, c);
    if (c->state != CONN_DOOMED)
        conn_arm(w, c);
}

void stream_close(struct worker *w, struct flow_id flow)
{
    struct conn *c = conn_find(w, flow);
    if (c == NULL)
        return;
    if (c->state == CONN_CONNECTING || c->state == CONN_SHAKING) {
        conn_doom(w, c, ECANCELED);
        return;
    }
    if (c->state != CONN_OPEN)
        return;
    if (transport_has_ws(c->transport)) {
        uint8_t frame[4];
        struct iovec iov = {frame, ws_put_close(frame, WS_CODE_NORMAL)};
        conn_send(w, c, &iov, 1);
    }
    conn_send_close_notify(w, c);
    conn_flush(w, c);
}
