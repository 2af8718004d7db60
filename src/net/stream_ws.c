/* SPDX-License-Identifier: Apache-2.0
 *
 * The layer of WebSocket on a connection (RFC 6455, RFC 7118): the upgrade, then frames. One
 * message is one SIP message, so nothing is framed twice; what is in it is the engine's to judge,
 * like a datagram. */
#include <errno.h>
#include <string.h>
#include "net/net_int.h"

enum { PONGS_PER_READ = 8 };

/* ---- upgrade ----------------------------------------------------------------------------------
 */

static void send_text(struct worker *w, struct conn *c, struct slice s)
{
    struct iovec iov = {(void *)(uintptr_t)s.p, s.n};
    conn_send(w, c, &iov, 1);
}

static void granted(struct worker *w, struct conn *c)
{
    struct conn_work *k = c->work;
    struct slice names = SLICE_NONE;
    w->count.ws_upgrades++;
    ws_reader_init(&k->ws, false);
    if (k->shake != NULL)
        names = tls_handshake_info(k->shake).peer_names;
    k->began = MONO_NONE; /* the upgrade is no message */
    conn_opened(w, c, names);
    if (k->shake == NULL)
        return;
    worker_execute(w); /* the names go */
    conn_drop_shake(w, c);
}

size_t conn_take_upgrade(struct worker *w, struct conn *c, const char *p, size_t n)
{
    char bytes[WS_ANSWER_BYTES_MAX];
    struct text answer = text_into(bytes, sizeof bytes);
    const struct config_listener *l = &w->config->listener[c->listener];
    const struct ws_policy policy = {.origins = l->origins, .origin_count = l->origin_count};
    size_t used = 0;
    int result = ws_upgrade(p, n, &policy, &answer, &used);
    if (result == WS_UPGRADE_MORE)
        return 0;
    send_text(w, c, text_slice(&answer));
    if (c->state != CONN_SHAKING)
        return n;
    if (result == WS_UPGRADE_OPEN) {
        granted(w, c);
        return used;
    }
    conn_charge_garbage(w, c);
    w->count.ws_refused++;
    conn_send_close_notify(w, c);
    conn_end(w, c, EPROTO);
    return n;
}

/* ---- frames -----------------------------------------------------------------------------------
 */

void conn_end_ws(struct worker *w, struct conn *c, uint16_t code, int error)
{
    uint8_t frame[4];
    send_text(w, c, slice_of((const char *)frame, ws_put_close(frame, code)));
    conn_send_close_notify(w, c);
    conn_end(w, c, error);
}

static void answer_ping(struct worker *w, struct conn *c, struct slice payload)
{
    uint8_t head[WS_HEAD_BYTES_MAX];
    struct iovec iov[2] = {{head, ws_put_head(head, WS_OP_PONG, payload.n)},
                           {(void *)(uintptr_t)payload.p, payload.n}};
    conn_send(w, c, iov, payload.n > 0 ? 2 : 1);
}

/* A message: SIP, or a keep-alive of RFC 5626 as some clients send it here too: `*keep_alives` of
 * them came before. Returns whether it only says that the peer is alive. */
static bool take_message(struct worker *w, struct conn *c, struct slice m, unsigned *keep_alives)
{
    if (m.n == 0 || slice_equal(m, SLICE("\r\n")))
        return true;
    bool is_ping = slice_equal(m, SLICE("\r\n\r\n"));
    c->sensible = true;
    if (!is_ping)
        conn_spoke(w, c);
    if (is_ping &&
        ++*keep_alives > PONGS_PER_READ) /* 10 bytes, and each answer a call of its own */
        return true;
    w->window_streams++;
    conn_step(w, c, is_ping ? EV_PING : EV_MESSAGE, m, 0);
    return false;
}

size_t conn_take_frames(struct worker *w, struct conn *c, char *p, size_t n)
{
    struct conn_work *k = c->work;
    bool spoke = false, alive = false;
    char ping[WS_CONTROL_BYTES_MAX];
    unsigned pings = 0, keep_alives = 0;
    struct slice payload, last_ping = SLICE_NONE;
    int r = WS_MORE;
    while (c->state == CONN_OPEN &&
           (r = ws_read(&k->ws, p, &n, SIP_MESSAGE_BYTES_MAX, &payload)) > WS_MORE) {
        switch ((enum ws_result)r) {
        case WS_MESSAGE:
            if (take_message(w, c, payload, &keep_alives))
                alive = true;
            else
                spoke = true;
            k->began = MONO_NONE;
            worker_execute(w); /* the next frame may take the place of this message */
            break;
        case WS_PING:
            alive = c->sensible = true;
            if (++pings <= PONGS_PER_READ) {
                answer_ping(w, c, payload);
                break;
            }
            memcpy(ping, payload.p, payload.n);
            last_ping = slice_of(ping, payload.n);
            break;
        case WS_PONG:
            alive = true;
            break;
        case WS_CLOSE:
            conn_end_ws(w, c, ws_close_code(payload), 0); /* said back */
            break;
        case WS_MORE:
            break;
        }
    }
    if (r < 0) {
        conn_charge_garbage(w, c);
        w->count.ws_bad++;
        conn_end_ws(w, c, (uint16_t)-r, EPROTO);
    }
    if (pings > PONGS_PER_READ && c->state == CONN_OPEN) /* of many the last: RFC 6455 5.5.3 */
        answer_ping(w, c, last_ping);
    if (alive && !spoke && c->state == CONN_OPEN)
        conn_step(w, c, EV_ALIVE, SLICE_NONE, 0);
    return c->state == CONN_OPEN ? n : 0;
}

/* ---- text or binary ---------------------------------------------------------------------------
 */

/* How many bytes follow this one in a character, and what the first of them lies between; -1 when
 * no character begins so (Unicode 15, table 3-7). */
static int utf8_follows(uint8_t b, uint8_t *ret_low, uint8_t *ret_high)
{
    *ret_low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    *ret_high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    return b < 0x80 ? 0 : b < 0xc2 ? -1 : b < 0xe0 ? 1 : b < 0xf0 ? 2 : b < 0xf5 ? 3 : -1;
}

bool pieces_are_utf8(const struct iovec *iov, size_t count)
{
    int follow = 0;
    uint8_t low = 0, high = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = (const uint8_t *)iov[i].iov_base, *end = p + iov[i].iov_len;
        for (; p < end; p++) {
            if (follow == 0) {
                if (*p < 0x80)
                    continue;
                follow = utf8_follows(*p, &low, &high);
                if (follow < 0)
                    return false;
                continue;
            }
            if (*p < low || *p > high)
                return false;
            low = 0x80;
            high = 0xbf;
            follow--;
        }
    }
    return follow == 0;
}
