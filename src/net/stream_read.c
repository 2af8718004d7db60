/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading from connections: bytes go up through the layers that a connection has, and come out as
 * events.
 *
 *      TCP ──▶ handshake, then records ──▶ upgrade, then frames ──▶ EV_MESSAGE     tls: left half
 *                  (stream_tls.c)              (stream_ws.c)                       ws:  right half
 *
 * Bytes are read into one area that all connections share, and each layer works in place; only
 * the beginning of what is not whole yet moves into a buffer of the connection's own, where the
 * rest is read behind it. That buffer has two parts: plain bytes of a message that is not whole,
 * and a record that is not. Every byte is looked at once, so that small pieces cost no more than
 * large ones. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

/* ---- messages on plain streams ----------------------------------------------------------------
 */

/* The place of the next message is unknown: nothing more is read, and the engine, which answers
 * and closes, has a moment for that. */
static void framing_failed(struct worker *w, struct conn *c, struct slice bytes, int error)
{
    c->deaf = true;
    c->work->began = MONO_NONE;
    c->until = mono_add(w->now, STREAM_CLOSE_WITHIN);
    conn_step(w, c, EV_FRAME_FAULT, bytes, error);
}

/* Takes messages off the front of `p`; returns the bytes that are done with. */
static size_t take_messages(struct worker *w, struct conn *c, const char *p, size_t n)
{
    struct conn_work *k = c->work;
    size_t at = 0;
    bool spoke = false, alive = false;
    while (at < n && c->state == CONN_OPEN && !c->deaf) {
        size_t took = 0;
        int r = sip_frame(&k->framer, p + at, n - at, &took);
        if (r == SIP_FRAME_MORE)
            break;
        struct slice bytes = slice_of(p + at, took);
        if (r < 0) {
            conn_charge_garbage(w, c);
            framing_failed(w, c, bytes, r);
            return n;
        }
        if (r != SIP_FRAME_SKIP) {
            spoke = c->sensible = true;
            if (r != SIP_FRAME_PING)
                conn_spoke(w, c);
            w->window_streams++;
            conn_step(w, c, r == SIP_FRAME_PING ? EV_PING : EV_MESSAGE, bytes, 0);
        }
        alive |= r == SIP_FRAME_SKIP;
        at += took;
        k->began = MONO_NONE;
    }
    if (alive && !spoke && c->state == CONN_OPEN)
        conn_step(w, c, EV_ALIVE, SLICE_NONE, 0);
    return at;
}

/* ---- what is not whole yet --------------------------------------------------------------------
 */

enum { EVICT_LOOKS = 256 };

/* Of some connections, the one that has waited longest for the rest of its message, with a buffer
 * of at least `cap` bytes. NULL: none. */
static struct conn *longest_waiting(struct streams *s, const struct conn *but, size_t cap)
{
    struct conn *found = NULL;
    for (uint32_t i = 0; i < EVICT_LOOKS && i < s->fresh; i++) {
        struct conn *c = &s->accepted[s->evict_next++ % s->fresh];
        bool waits = (c->state == CONN_OPEN || c->state == CONN_SHAKING) && c != but &&
                     c->work != NULL && c->work->in.p != NULL && c->work->in.cap >= cap;
        if (waits && (found == NULL || c->work->began < found->work->began))
            found = c;
    }
    return found;
}

/* Room for `more` bytes that come in. When no buffer is left, it is at the cost of somebody who is
 * slow: else many who send one byte and wait would keep all from speaking whose messages come in
 * two pieces. */
static int room_to_read(struct worker *w, struct conn *c, size_t more, size_t max)
{
    struct streams *s = &w->streams;
    struct buf *in = &c->work->in;
    size_t held = in->len - in->off;
    if (buf_room(&s->pool, in, more, max) == 0)
        return 0;
    struct conn *slow =
        more <= max && held <= max - more ? longest_waiting(s, c, held + more) : NULL;
    if (slow != NULL) {
        w->count.streams_slow++;
        buf_release(&s->pool, &slow->work->in);
        slow->work->began = MONO_NONE;
        conn_doom(w, slow, ETIMEDOUT);
    }
    if (slow != NULL && buf_room(&s->pool, in, more, max) == 0)
        return 0;
    w->count.buffers_refused++;
    conn_doom(w, c, ENOBUFS);
    return -1;
}

static bool is_stub(const char *p, size_t n)
{
    for (size_t i = 0; i < n && i <= STUB_BYTES_MAX; i++)
        if (p[i] != '\r' && p[i] != '\n')
            return false;
    return n <= STUB_BYTES_MAX;
}

/* Keeps p[0, n), of which the first `plain` bytes have gone through the records, for next time.
 * They lie in the connection's own buffer already (`own`), or in the area that all share. */
static void keep_rest(struct worker *w, struct conn *c, const char *p, size_t n, size_t plain,
                      bool own)
{
    struct streams *s = &w->streams;
    struct conn_work *k = c->work;
    bool is_ws = transport_has_ws(c->transport);
    bool is_idle = n == plain && (is_ws ? ws_is_idle(&k->ws, n) : is_stub(p, n));
    c->stub_len = 0;
    if (is_idle)
        k->began = MONO_NONE;
    else if (k->began == MONO_NONE)
        k->began = w->now;
    if (is_idle || n == 0) { /* half a keep-alive perhaps: it may rest, and costs no buffer */
        memcpy(c->stub, p, n);
        c->stub_len = (uint8_t)n;
        k->plain = 0;
        buf_release(&s->pool, &k->in);
        return;
    }
    k->plain = (uint32_t)plain;
    if (own) {
        k->in.off = (uint32_t)(p - k->in.p);
        k->in.len = k->in.off + (uint32_t)n;
        return;
    }
    if (room_to_read(w, c, n, SIP_MESSAGE_BYTES_MAX + STREAM_READ_BYTES_MAX) != 0)
        return;
    memcpy(k->in.p, p, n);
    k->in.len = (uint32_t)n;
}

/* ---- up through the layers --------------------------------------------------------------------
 */

/* p[0, n) has come, of which `plain` bytes had gone through the records before. */
static void came(struct worker *w, struct conn *c, char *p, size_t n, size_t plain, bool own)
{
    struct conn_work *k = c->work;
    int ended = 0;
    if (transport_has_tls(c->transport)) {
        if (c->tls == NULL) {
            size_t used = conn_shake(w, c, p, n);
            if (c->tls == NULL)
                return;
            p += used;
            n -= used;
        }
        ended = tls_read(&w->streams.codec, c->tls, p, &plain, &n);
    } else {
        plain = n;
    }
    if (c->state == CONN_SHAKING) {
        size_t used = conn_take_upgrade(w, c, p, plain);
        p += used;
        n -= used;
        plain -= used;
    }
    if (c->state == CONN_OPEN && transport_has_ws(c->transport)) {
        size_t left = conn_take_frames(w, c, p, plain);
        memmove(p + left, p + plain, n - plain);
        n -= plain - left;
        plain = left;
    } else if (c->state == CONN_OPEN) {
        size_t done = take_messages(w, c, p, plain);
        p += done;
        n -= done;
        plain -= done;
    }
    worker_execute(w); /* the bytes may move or go now */
    if (ended != 0)
        conn_tls_ended(w, c, ended);
    if (c->state == CONN_SHAKING || (c->state == CONN_OPEN && !c->deaf)) {
        keep_rest(w, c, p, n, plain, own);
    } else {
        k->began = MONO_NONE;
        buf_release(&w->streams.pool, &k->in);
    }
}

/* read(), and when what it got came, as far as that matters. */
static ssize_t read_timed(struct worker *w, const struct conn *c, char *to, size_t room)
{
    struct streams *s = &w->streams;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec iov = {to, room};
    struct msghdr h = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    /* What comes with the end of a handshake waited for the door, which has a pace of its own: to
     * refuse requests for that would shorten nothing, and waste the handshake. */
    s->came_wall = c->state == CONN_SHAKING ? w->wall : 0;
    if (!worker_is_pressed(w) || c->state == CONN_SHAKING)
        return read(c->fd, to, room);
    ssize_t n = recvmsg(c->fd, &h, 0);
    if (n > 0)
        s->came_wall = arrival_of(&h);
    return n;
}

void conn_read(struct worker *w, struct conn *c)
{
    if (c->proxied && !conn_take_proxy(w, c))
        return;
    if (!conn_must_wait(w, c))
        conn_read_on(w, c);
}

static void read_on(struct worker *w, struct conn *c)
{
    struct streams *s = &w->streams;
    struct conn_work *k = conn_work(w, c);
    bool own = k->in.p != NULL;
    char *to = s->read_area;
    size_t have = c->stub_len, room = STREAM_READ_BYTES_MAX;
    size_t plain = own ? k->plain : have;
    if (own) {
        have = k->in.len - k->in.off;
        /* Each layer refuses what is longer than a message may be, so there is always room for
         * its last byte within this bound. */
        if (room_to_read(w, c, have < 4096 ? 4096 - have : have / 2 + 1,
                         SIP_MESSAGE_BYTES_MAX * 2) != 0)
            return;
        to = k->in.p + k->in.off;
        room = k->in.cap - k->in.len;
        if (room > STREAM_READ_BYTES_MAX)
            room = STREAM_READ_BYTES_MAX;
    } else {
        memcpy(to, c->stub, have);
    }
    ssize_t n = read_timed(w, c, to + have, room);
    if (n > 0) {
        if (own)
            k->in.len += (uint32_t)n;
        came(w, c, to, have + (size_t)n, plain, own);
        if (c->state != CONN_DOOMED) {
            conn_watch(w, c);
            conn_arm(w, c);
        }
    } else if (n == 0) {
        conn_doom(w, c, 0);
    } else if (errno != EAGAIN && errno != EINTR) {
        conn_doom(w, c, errno);
    }
}

void conn_read_on(struct worker *w, struct conn *c)
{
    bool shakes = c->state == CONN_SHAKING && c->tls == NULL && transport_has_tls(c->transport);
    mono_ns before = shakes ? mono_now() : 0;
    read_on(w, c);
    if (shakes)
        w->streams.shaken += mono_since(mono_now(), before);
}

void conn_too_slow(struct worker *w, struct conn *c)
{
    struct conn_work *k = c->work;
    w->count.streams_slow++;
    if (transport_has_ws(c->transport)) {
        conn_end_ws(w, c, WS_CODE_POLICY, ETIMEDOUT);
    } else {
        size_t n = k->in.p != NULL ? k->plain : 0;
        framing_failed(w, c, slice_of(n > 0 ? k->in.p + k->in.off : "", n), SIP_E_LENGTH);
    }
    worker_execute(w);
    k->began = MONO_NONE;
    buf_release(&w->streams.pool, &k->in);
    if (c->state != CONN_DOOMED) {
        conn_watch(w, c);
        conn_arm(w, c);
    }
}
