/* SPDX-License-Identifier: Apache-2.0
 *
 * The layer of TLS records on a connection: OpenSSL's handshake first (tls.h), then our own record
 * layer on plain data (wire/tls_record.h). A handshake begins with the peer's first byte: who only
 * connects costs no more than on TCP. */
#include <errno.h>
#include <string.h>
#include "net/net_int.h"

enum { SEAL_PIECES_MAX = 256 };
#define SHAKE_SILENCE NS_S /* of a server to our handshake, before it is worth a word */

/* ---- handshakes -------------------------------------------------------------------------------
 */

void conn_drop_shake(struct worker *w, struct conn *c)
{
    struct conn_work *k = c->work;
    if (k == NULL || k->shake == NULL)
        return;
    tls_handshake_free(k->shake);
    k->shake = NULL;
    w->streams.shaking--;
}

/* When most places are taken, a client has less time: who begins handshakes and leaves them keeps
 * out others for a shorter while. */
static void shorten_shake(struct worker *w, struct conn *c)
{
    if (w->streams.shaking > w->config->handshakes_max / 2)
        c->until = mono_min(c->until, mono_add(w->now, w->config->handshake_within / 4));
}

static void begin_shake(struct worker *w, struct conn *c)
{
    struct streams *s = &w->streams;
    struct tls_server *server = w->tls != NULL ? w->tls->server[c->listener] : NULL;
    c->work->shake = server != NULL ? tls_handshake_new(server) : NULL;
    if (c->work->shake == NULL) {
        w->count.tls_failed++;
        conn_doom(w, c, ENOMEM);
        return;
    }
    s->shaking++;
    shorten_shake(w, c);
}

/* Whose fault it is when calls do not go where they should: the operator's, mostly. */
static void tell_of_failure(struct worker *w, const struct conn *c, struct slice name,
                            const char *why)
{
    char bytes[512];
    struct text t = text_into(bytes, sizeof bytes);
    if (c->slot < FLOW_OUT)
        return;
    TEXT_LIT(&t, "tls://");
    addr_put(&t, &c->peer);
    if (name.n > 0) {
        TEXT_LIT(&t, " as ");
        text_put(&t, slice_take(name, 255));
    }
    TEXT_LIT(&t, ": ");
    text_put(&t, slice_cstr(why));
    log_notice(w, NOTICE_TLS_FAILED, text_slice(&t));
}

void conn_tell_shake_broke(struct worker *w, const struct conn *c, int error)
{
    const dur_ns within = w->config->engine.edge.connect_timeout;
    if (c->work == NULL || c->work->shake == NULL)
        return;
    if (error == ECANCELED) { /* taken back: the caller gave up, or we did, after a silence */
        if (mono_since(c->until, w->now) + SHAKE_SILENCE > within)
            return;
        error = ETIMEDOUT;
    }
    tell_of_failure(w, c, tls_handshake_info(c->work->shake).server_name,
                    error == 0           ? "it ended the connection within the handshake"
                    : error == ETIMEDOUT ? "no handshake in time"
                                         : strerror(error));
}

static void shake_done(struct worker *w, struct conn *c)
{
    struct conn_work *k = c->work;
    struct tls_info info = tls_handshake_info(k->shake);
    handle h;
    c->tls = (struct tls_flow *)slab_take(&w->streams.tls_flows, &h);
    MUST(c->tls != NULL); /* there is one for each */
    tls_handshake_flow(k->shake, c->tls);
    w->count.tls_handshakes++;
    w->count.tls_resumed += info.is_resumed;
    if (transport_has_ws(c->transport)) {
        if (info.peer_names.n == 0) /* else they wait there for the upgrade */
            conn_drop_shake(w, c);
        return;
    }
    conn_opened(w, c, info.peer_names);
    worker_execute(w); /* the names go */
    conn_drop_shake(w, c);
    conn_send_held(w, c);
}

size_t conn_shake(struct worker *w, struct conn *c, const char *p, size_t n)
{
    struct conn_work *k = c->work;
    struct slice out = SLICE_NONE;
    size_t used = n;
    if (k->shake == NULL)
        begin_shake(w, c);
    if (k->shake == NULL)
        return n;
    int result = tls_handshake_step(k->shake, p, n, &used, &out);
    if (out.n > 0) {
        struct iovec iov = {(void *)(uintptr_t)out.p, out.n};
        conn_send_raw(w, c, &iov, 1);
    }
    if (c->state != CONN_SHAKING)
        return n;
    if (result == TLS_STEP_DONE) {
        shake_done(w, c);
        return used;
    }
    if (result == TLS_STEP_FAILED) {
        struct tls_info info = tls_handshake_info(k->shake);
        tell_of_failure(w, c, info.server_name, info.failure_text);
        w->count.tls_failed++;
        if (info.failure == TLS_FAIL_GARBAGE || info.failure == TLS_FAIL_HTTP ||
            info.failure == TLS_FAIL_PLAIN)
            conn_charge_garbage(w, c);
        conn_drop_shake(w, c);
        conn_end(w, c, EPROTO);
    }
    return n;
}

/* ---- records out ------------------------------------------------------------------------------
 */

/* Seals what fits at once and sends it. */
static void send_sealed(struct worker *w, struct conn *c, const struct iovec *iov, size_t count)
{
    struct streams *s = &w->streams;
    int64_t n = tls_seal(&s->codec, c->tls, iov, count, s->seal_area, STREAM_SEAL_BYTES);
    if (n < 0) { /* TLS 1.2 has no new keys to give */
        conn_doom(w, c, ENOKEY);
        return;
    }
    struct iovec records = {s->seal_area, (size_t)n};
    conn_send_raw(w, c, &records, 1);
}

void conn_send_tls(struct worker *w, struct conn *c, const struct iovec *iov, size_t count)
{
    struct iovec part[SEAL_PIECES_MAX];
    size_t i = 0, skip = 0;
    while (i < count && c->state != CONN_DOOMED) {
        size_t pieces = 0, total = 0;
        while (i < count && pieces < SEAL_PIECES_MAX && total < STREAM_SEAL_PLAIN_MAX) {
            size_t n = iov[i].iov_len - skip;
            if (n > STREAM_SEAL_PLAIN_MAX - total)
                n = STREAM_SEAL_PLAIN_MAX - total;
            part[pieces++] = (struct iovec){(char *)iov[i].iov_base + skip, n};
            total += n;
            skip += n;
            if (skip == iov[i].iov_len) {
                i++;
                skip = 0;
            }
        }
        if (total > 0)
            send_sealed(w, c, part, pieces);
    }
}

static void send_alert(struct worker *w, struct conn *c, enum tls_alert code)
{
    char bytes[TLS_ALERT_BYTES_MAX];
    struct iovec iov = {bytes, tls_alert(&w->streams.codec, c->tls, code, bytes)};
    conn_send_raw(w, c, &iov, 1);
}

void conn_send_close_notify(struct worker *w, struct conn *c)
{
    if (c->tls != NULL)
        send_alert(w, c, TLS_A_CLOSE_NOTIFY);
}

/* ---- the end ----------------------------------------------------------------------------------
 */

void conn_tls_ended(struct worker *w, struct conn *c, int result)
{
    if (c->state != CONN_OPEN && c->state != CONN_SHAKING)
        return;
    if (result == TLS_ALERT) {
        w->count.tls_alerts++;
        tell_of_failure(w, c, SLICE_NONE,
                        "it ended the connection with an alert; perhaps it does not believe the "
                        "certificate that we showed, or wants one");
        conn_doom(w, c, ECONNRESET);
        return;
    }
    if (result == TLS_CLOSE) {
        conn_send_close_notify(w, c);
        conn_end(w, c, 0);
        return;
    }
    conn_charge_garbage(w, c);
    w->count.tls_bad++;
    send_alert(w, c, (enum tls_alert) - result);
    conn_end(w, c, EPROTO);
}
