/* SPDX-License-Identifier: Apache-2.0
 *
 * The called party. Requests are answered as they come; only a 200 to an INVITE is remembered,
 * until its ACK, and only over UDP, where it may be lost:
 *
 *      INVITE ──▶ 180, 200 ──▶ pending ── ACK ──▶ forgotten
 *                                 │ T1, 2·T1, … T2, at most 64·T1: again (RFC 3261 13.3.1.4) */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "load/load_int.h"

enum { PENDING_MAX = 1 << 16, FINAL_BYTES_MAX = 2048, ACCEPTED_MAX = 1024 };
#define T1_NS (500 * NS_MS)
#define T2_NS (4 * NS_S)

struct pending {
    struct timer timer;
    struct conn *conn;
    uint32_t life; /* of the connection */
    uint32_t slot;
    uint64_t key;
    struct addr to;
    dur_ns wait;
    mono_ns until;
    uint32_t n;
    char bytes[FINAL_BYTES_MAX];
};

struct listener {
    struct io io;
    int fd;
    struct answers *answers;
};

struct answers {
    struct slab pending;
    struct map by_call;
    struct hash_seed seed;
    void *memory;
    struct conn *udp;
    struct listener tcp[LOAD_ANSWERS_MAX];
    uint32_t udp_count, tcp_count;
    struct conn *accepted[ACCEPTED_MAX];
};

/* ---- 200s that wait for their ACK ---------------------------------------------------------------
 */

static uint64_t key_of(const struct answers *a, const struct sip_msg *m)
{
    struct sip_nameaddr from;
    struct slice tag = SLICE_NONE;
    if (sip_nameaddr_parse(sip_header_value(m, SIP_H_FROM), &from) == 0)
        (void)sip_param(from.params, SLICE("tag"), &tag);
    struct slice parts[2] = {sip_header_value(m, SIP_H_CALL_ID), tag};
    return siphash_parts(&a->seed, parts, 2);
}

static struct pending *find(const struct answers *a, uint64_t key)
{
    uint32_t cursor = MAP_END, slot;
    while ((slot = map_find(&a->by_call, key, &cursor)) != MAP_END) {
        struct pending *p =
            (struct pending *)slab_get(&a->pending, (handle){slot, a->pending.gen[slot]});
        if (p != NULL && p->key == key)
            return p;
    }
    return NULL;
}

static void forget(struct load *l, struct answers *a, struct pending *p)
{
    wheel_disarm(&l->wheel, &p->timer.node);
    (void)map_remove(&a->by_call, p->key, p->slot);
    slab_release(&a->pending, p);
}

static void again(struct load *l, struct timer *t)
{
    struct pending *p = (struct pending *)t;
    if (p->conn->life != p->life || l->now >= p->until) {
        forget(l, l->answers, p);
        return;
    }
    (void)load__conn_send(l, p->conn, slice_of(p->bytes, p->n), &p->to);
    load__stats_count(&l->stats, COUNT_retries, l->now);
    p->wait = 2 * p->wait < T2_NS ? 2 * p->wait : T2_NS;
    load__arm(l, t, mono_add(l->now, p->wait));
}

static void remember(struct load *l, struct answers *a, struct conn *c, uint64_t key,
                     const struct addr *to, struct slice final)
{
    handle h;
    if (c->transport != TP_UDP || final.n > FINAL_BYTES_MAX)
        return;
    struct pending *p = (struct pending *)slab_take_uncleared(&a->pending, &h);
    if (p == NULL)
        return;
    memset(p, 0, offsetof(struct pending, bytes));
    if (map_add(&a->by_call, key, h.slot) != 0) {
        slab_release(&a->pending, p);
        return;
    }
    p->timer.fn = again;
    p->conn = c;
    p->life = c->life;
    p->slot = h.slot;
    p->key = key;
    p->to = *to;
    p->wait = T1_NS;
    p->until = mono_add(l->now, 64 * T1_NS);
    p->n = (uint32_t) final.n;
    memcpy(p->bytes, final.p, final.n);
    load__arm(l, &p->timer, mono_add(l->now, p->wait));
}

/* ---- answers ------------------------------------------------------------------------------------
 */

/* A reply ends with an empty body: it gets one. */
static void answer_offer(struct text *t, const struct conn *c)
{
    static const struct slice end = {"Content-Length: 0\r\n\r\n", 21};
    if (t->n < end.n || !slice_equal(slice_of(t->p + t->n - end.n, end.n), end))
        return;
    t->n -= end.n;
    load__put_sdp(t, c);
}

static void reply(struct load *l, struct conn *c, const struct sip_msg *m, const struct addr *from,
                  int status, struct slice extra, struct text *t)
{
    static const char tag[] = "called";
    struct sip_reply r = {.status = status, .extra = extra, .received = from};
    if (status > 100)
        r.to_tag = slice_of(tag, sizeof tag - 1);
    if (sip_write_reply(t, m, &r) != 0 || !text_fits(t)) {
        l->stats.n[COUNT_unread]++;
        return;
    }
    if (m->method == SIP_M_INVITE && m->body.len > 0 && status == 200)
        answer_offer(t, c);
    (void)load__conn_send(l, c, text_slice(t), from);
}

static void put_dialog_headers(struct text *t, const struct conn *c, const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_RECORD_ROUTE);
    while (sip_next_value(&v)) {
        TEXT_LIT(t, "Record-Route: ");
        text_put(t, sip_slice(m, v.value));
        TEXT_LIT(t, "\r\n");
    }
    TEXT_LIT(t, "Contact: <sip:called@");
    addr_put(t, &c->local);
    TEXT_LIT(t, ";transport=");
    text_put(t, load__uri_name(c->transport));
    TEXT_LIT(t, ">\r\n");
}

static void invite(struct load *l, struct answers *a, struct conn *c, const struct sip_msg *m,
                   const struct addr *from, int status)
{
    char extra[2048], bytes[MESSAGE_BYTES_MAX];
    struct text e = text_into(extra, sizeof extra), t = text_into(bytes, sizeof bytes);
    const uint64_t key = key_of(a, m), came = l->arrival;
    struct pending *p = find(a, key);
    if (p != NULL) { /* it came again: the 200 is on its way, or lost */
        (void)load__conn_send(l, c, slice_of(p->bytes, p->n), from);
        return;
    }
    put_dialog_headers(&e, c, m);
    if (!text_fits(&e))
        e.n = 0;
    if (status == 200)
        reply(l, c, m, from, 180, text_slice(&e), &t);
    t.n = 0;
    load__calls_saw_invite(l, sip_header_value(m, SIP_H_CALL_ID), came, load__wall());
    reply(l, c, m, from, status, text_slice(&e), &t);
    if (text_fits(&t) && status == 200)
        remember(l, a, c, key, from, text_slice(&t));
}

void load__answers_take(struct load *l, struct answers *a, struct conn *c, const struct sip_msg *m,
                        const struct addr *from, int status)
{
    char bytes[MESSAGE_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    struct pending *p;
    load__stats_count(&l->stats, COUNT_requests_in, l->now);
    switch (m->method) {
    case SIP_M_INVITE:
        invite(l, a, c, m, from, status);
        break;
    case SIP_M_ACK:
        p = find(a, key_of(a, m));
        if (p != NULL)
            forget(l, a, p);
        break;
    default:
        reply(l, c, m, from, 200, SLICE_NONE, &t);
        break;
    }
}

/* ---- where calls come in ------------------------------------------------------------------------
 */

static void on_message(struct load *l, struct conn *c, struct slice bytes, const struct addr *from)
{
    struct sip_msg m;
    struct sip_fault fault;
    if (sip_index(&m, bytes.p, bytes.n, c->transport == TP_UDP, &fault) != 0) {
        l->stats.n[COUNT_unread]++;
        return;
    }
    if (m.is_request)
        load__answers_take(l, l->answers, c, &m, from, 200);
}

static void on_nothing(struct load *l, struct conn *c)
{
    (void)l;
    (void)c;
}

static void on_closed(struct load *l, struct conn *c, enum conn_end end)
{
    (void)l;
    (void)c; /* its place is free again: its state says so */
    (void)end;
}

static const struct conn_user called = {on_nothing, on_message, on_nothing, on_closed};

static void on_accept(struct load *l, struct io *io, uint32_t events)
{
    struct listener *at = (struct listener *)io;
    struct conn *c = NULL;
    (void)events;
    int fd = accept4(at->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; c == NULL && i < ACCEPTED_MAX; i++) {
        struct conn **place = &at->answers->accepted[i];
        if (*place == NULL)
            *place = (struct conn *)calloc(1, sizeof **place);
        if (*place != NULL && (*place)->state == CONN_CLOSED)
            c = *place;
    }
    if (c == NULL || load__conn_adopt(l, c, fd, TP_TCP, &called) != 0)
        close(fd);
}

static int listen_at(struct load *l, struct answers *a, const struct load_place *at)
{
    char bytes[128];
    struct text t = text_into(bytes, sizeof bytes);
    struct addr local;
    int fd = load__conn_listen(at, &local), r = -1;
    if (fd >= 0 && at->transport == TP_UDP) {
        r = load__conn_adopt(l, &a->udp[a->udp_count++], fd, TP_UDP, &called);
    } else if (fd >= 0) {
        struct listener *tcp = &a->tcp[a->tcp_count++];
        *tcp = (struct listener){.io = {on_accept}, .fd = fd, .answers = a};
        r = load__watch(l, fd, &tcp->io, EPOLLIN);
    }
    if (r == 0)
        return 0;
    load__put_place(&t, at);
    fprintf(l->err, "weir load: --answer %.*s: %s\n", SLICE_ARG(text_slice(&t)), strerror(errno));
    return -1;
}

struct answers *load__answers_new(struct load *l)
{
    struct answers *a = (struct answers *)calloc(1, sizeof *a);
    size_t n = slab_memory(sizeof(struct pending), PENDING_MAX) + map_memory(PENDING_MAX) + 4096;
    if (a == NULL)
        return NULL;
    a->memory = load__map(n);
    a->udp = (struct conn *)calloc(LOAD_ANSWERS_MAX, sizeof *a->udp);
    struct arena arena = arena_over(a->memory, n);
    a->seed = (struct hash_seed){prng_u64(&l->prng), prng_u64(&l->prng)};
    bool ok = a->memory != NULL && a->udp != NULL &&
              slab_init(&a->pending, &arena, sizeof(struct pending), PENDING_MAX) == 0 &&
              map_init(&a->by_call, &arena, PENDING_MAX) == 0;
    for (uint32_t i = 0; ok && i < l->o->answer_count; i++)
        ok = listen_at(l, a, &l->o->answer[i]) == 0;
    if (ok)
        return a;
    load__answers_free(l, a);
    return NULL;
}

void load__answers_free(struct load *l, struct answers *a)
{
    if (a == NULL)
        return;
    for (uint32_t i = 0; i < a->udp_count; i++)
        load__conn_close(l, &a->udp[i], false);
    for (uint32_t i = 0; i < a->tcp_count; i++)
        close(a->tcp[i].fd);
    for (size_t i = 0; i < ACCEPTED_MAX; i++) {
        if (a->accepted[i] != NULL)
            load__conn_close(l, a->accepted[i], false);
        free(a->accepted[i]);
    }
    slab_done(&a->pending);
    free(a->udp);
    free(a);
}
