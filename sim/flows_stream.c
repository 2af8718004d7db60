/* SPDX-License-Identifier: Apache-2.0
 *
 * The connections of the world of phones: bytes in order, in pieces of any size, until both ends or
 * one of them has heard that it is over. What comes out at the other end went through the framing;
 * half a message dies with its connection.
 *
 *   message ──cut──▶ piece  piece  piece ─▶ pipe ─▶ sip_frame() ─▶ an event, or a phone that hears
 *                             └─ reset: whoever had the first piece gets no second */
#include <errno.h>
#include <stdlib.h>
#include "flows.h"

#define PIECE_LATE_MAX (40 * NS_MS)
#define BYTE_LATE_MAX  (100 * NS_US)

void fl_stream_send(struct fl_world *w, unsigned conn, enum fl_way way, struct slice bytes)
{
    struct fl_conn *c = &w->conn[conn];
    mono_ns *last = &c->pipe[way].last_at;
    uint64_t manner = fl_below(w, 100);
    bool tiny = manner < 4; /* byte by byte */
    mono_ns at = w->now + NS_MS + fl_below(w, PIECE_LATE_MAX);
    do {
        size_t n = bytes.n;
        if (tiny)
            n = n < 1 ? n : 1;
        else if (manner < 40 && n > 0)
            n = 1 + fl_below(w, n);
        *last = at <= *last ? *last + 1 : at;
        fl_at(w, *last - w->now, FL_PIECE, c->node, conn, way, c->gen,
              fl_packet(NULL, NULL, slice_take(bytes, n)));
        bytes = slice_drop(bytes, n);
        at = tiny ? *last + fl_below(w, BYTE_LATE_MAX)
                  : w->now + NS_MS + fl_below(w, PIECE_LATE_MAX);
    } while (bytes.n > 0);
    if (w->phase < FL_HEALED && fl_chance(w, 4)) /* in the middle of what it says, perhaps */
        fl_reset(w, conn, fl_chance(w, 300));
}

/* A whole message came out at the end of a pipe, or that there will be none. */
static void take_result(struct fl_world *w, struct fl_conn *c, enum fl_way way, int result,
                        struct slice bytes)
{
    if (way == FL_UP) {
        fl_node_framed(w, c, result, bytes);
    } else if (result == SIP_FRAME_MESSAGE) {
        if (!c->spoilt)
            fl_phone_message(w, c->phone, c->flow, bytes);
    } else if (result < 0) {
        fl_fail(w, "phone %u gets what cannot be framed", c->phone);
    }
}

void fl_stream_feed(struct fl_world *w, struct occurrence *o)
{
    struct fl_conn *c = &w->conn[o->a];
    enum fl_way way = (enum fl_way)o->b;
    struct fl_pipe *p = &c->pipe[way];
    bool hears = way == FL_UP ? c->open : c->phone_has;
    if (!c->used || c->gen != o->c || !hears || p->deaf)
        return;
    uint32_t n = o->packet->n, at = 0;
    if (n == 0 && way == FL_UP)
        fl_node_framed(w, c, SIP_FRAME_SKIP, SLICE_NONE);
    if (n == 0)
        return;
    p->in = realloc(p->in, p->n + n);
    MUST(p->in != NULL);
    memcpy(p->in + p->n, o->packet->bytes, n);
    p->n += n;
    while (at < p->n && !p->deaf && !w->failed) {
        size_t len = 0;
        int r = sip_frame(&p->framer, p->in + at, p->n - at, &len);
        if (r == SIP_FRAME_MORE)
            break;
        p->deaf = r < 0; /* there is no way back into step */
        take_result(w, c, way, r, slice_of(p->in + at, len));
        at += (uint32_t)len;
    }
    memmove(p->in, p->in + at, p->n - at);
    p->n -= at;
}

void fl_stream_over(struct fl_conn *c)
{
    for (unsigned way = 0; way < 2; way++) {
        free(c->pipe[way].in);
        c->pipe[way] = (struct fl_pipe){0};
    }
    c->used = false;
}

/* The connection dies; the phone hears of it at once (it is told of a reset, or walks out of reach
 * and knows), the edge with it or, silently, only when its own patience is over. */
void fl_reset(struct fl_world *w, unsigned conn, bool silent)
{
    struct fl_conn *c = &w->conn[conn];
    if (!c->used)
        return;
    c->dying = true;
    fl_trace(w, "connection %u of phone %u dies%s", conn, c->phone, silent ? " silently" : "");
    if (c->phone_has)
        fl_at(w, 1 + fl_below(w, 20 * NS_MS), FL_CLOSED, 0, conn, 1, c->gen, NULL);
    dur_ns notice = silent ? 5 * NS_S + fl_below(w, 25 * NS_S) : fl_below(w, 30 * NS_MS);
    fl_at(w, 1 + notice, FL_CLOSED, c->node, conn, (uint32_t)(silent ? ETIMEDOUT : ECONNRESET) << 1,
          c->gen, NULL);
}

/* Something that is no SIP comes out of a phone, and soon it leaves: nothing that it hears from now
 * on counts. */
void fl_stream_spoil(struct fl_world *w, unsigned conn)
{
    struct fl_conn *c = &w->conn[conn];
    char noise[200];
    size_t n = 1 + fl_below(w, sizeof noise);
    for (size_t i = 0; i < n; i++)
        noise[i] = (char)fl_below(w, 256);
    c->spoilt = true;
    fl_trace(w, "phone %u writes %zu bytes of noise", c->phone, n);
    fl_stream_send(w, conn, FL_UP, slice_of(noise, n));
    fl_at(w, NS_S, FL_CLOSED, 0, conn, 1, c->gen, NULL);
    fl_at(w, NS_S + fl_below(w, 30 * NS_MS), FL_CLOSED, c->node, conn, (uint32_t)ECONNRESET << 1,
          c->gen, NULL);
}
