/* SPDX-License-Identifier: Apache-2.0
 *
 * What threads say to a worker and it to them. A full ring loses the message and counts it;
 * nobody waits for a ring. */
#include <errno.h>
#include <string.h>
#include "net/net_int.h"

enum { HANDS_PER_TURN = 256 };

static char *copy_pieces(char *to, const struct iovec *iov, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    return to;
}

static size_t pieces_bytes(const struct iovec *iov, uint32_t count)
{
    size_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

/* ---- between workers ------------------------------------------------------------------------- */

void hand_over(struct worker *w, const struct action *a)
{
    const struct iovec *iov = w->out.iov + a->iov;
    size_t n = pieces_bytes(iov, a->iov_count);
    MUST(a->worker < w->net->workers && a->worker != w->index);
    struct worker *to = w->net->worker[a->worker];
    struct ring *ring = to->hand_in[w->index];
    char *record = n <= HAND_RING_BYTES / 2
                       ? (char *)ring_reserve(ring, (uint32_t)(sizeof(struct hand) + n))
                       : NULL;
    if (record == NULL) {
        w->count.hands_lost++;
        return;
    }
    struct hand head = a->hand;
    head.len = (uint32_t)n;
    memcpy(record, &head, sizeof head);
    copy_pieces(record + sizeof head, iov, a->iov_count);
    ring_push(ring, (uint32_t)(sizeof head + n));
    inbox_knock_worker(&to->inbox, w->index);
}

/* Records are copied out of the ring, so that a whole batch of them can be stepped before the
 * first of what they cause is sent. Returns false when the copies' area is full. */
static bool take_one(struct worker *w, struct ring *ring, struct slice record)
{
    size_t at = (w->hands_used + 7) & ~(size_t)7;
    if (record.n > HANDS_BYTES - at)
        return false;
    char *copy = w->hands + at;
    memcpy(copy, record.p, record.n);
    w->hands_used = at + record.n;
    ring_pop(ring);
    struct hand head;
    MUST(record.n >= sizeof head);
    memcpy(&head, copy, sizeof head);
    struct event ev = {
        .kind = EV_HANDED,
        .listener = head.listener,
        .transport = head.transport,
        .hops = head.hops,
        .flow = head.flow,
        .source = head.source,
        .bytes = slice_of(copy, record.n),
    };
    w->window_messages++;
    worker_step(w, &ev);
    return true;
}

void hands_take(struct worker *w)
{
    uint64_t from = atomic_load_explicit(&w->inbox.from_workers, memory_order_relaxed);
    if (from == 0)
        return;
    from = atomic_exchange(&w->inbox.from_workers, 0);
    while (from != 0) {
        unsigned i = (unsigned)__builtin_ctzll(from);
        from &= from - 1;
        struct ring *ring = w->hand_in[i];
        unsigned taken = 0;
        for (struct slice r; (r = ring_peek(ring)).p != NULL;) {
            if (taken == HANDS_PER_TURN) { /* the other has more than we can do at once */
                atomic_fetch_or(&w->inbox.from_workers, 1ULL << i);
                break;
            }
            if (take_one(w, ring, r)) {
                taken++;
                continue;
            }
            worker_execute(w);
            w->hands_used = 0;
        }
    }
}

/* ---- orders of main -------------------------------------------------------------------------- */

void worker_answer(struct worker *w, uint64_t id, uint64_t cursor, int error,
                   const struct iovec *iov, uint32_t iov_count)
{
    size_t n = pieces_bytes(iov, iov_count);
    struct answer head = {.id = id, .cursor = cursor, .error = error, .len = (uint32_t)n};
    char *record = n < ANSWER_RING_BYTES / 2
                       ? (char *)ring_reserve(w->answers, (uint32_t)(sizeof head + n))
                       : NULL;
    if (record == NULL) { /* main will not wait for ever: it times such a request out */
        head = (struct answer){.id = id, .error = ENOBUFS};
        n = 0;
        record = (char *)ring_reserve(w->answers, sizeof head);
        if (record == NULL)
            return;
    } else {
        copy_pieces(record + sizeof head, iov, iov_count);
    }
    memcpy(record, &head, sizeof head);
    ring_push(w->answers, (uint32_t)(sizeof head + n));
    inbox_knock_worker(&w->net->inbox, w->index);
}

/* One row of what the driver and the engine of this worker are at. */
static void answer_status(struct worker *w, uint64_t id)
{
    char bytes[4096];
    struct text t = text_into(bytes, sizeof bytes);
    struct engine_load load = engine_load(w->engine);
    text_put_char(&t, '{');
    json_u64(&t, "worker", w->index);
    json_u64(&t, "relays", load.relays);
    json_u64(&t, "relays_open", load.relays_open);
    json_u64(&t, "tries", load.tries);
    json_u64(&t, "blocks", load.blocks);
    json_u64(&t, "flows", load.flows);
    json_u64(&t, "connections", w->streams.live);
    json_bool(&t, "draining", w->draining);
    json_bool(&t, "busy", w->busy);
    json_bool(&t, "gathering", w->hot);
    json_u64(&t, "udp_lost", udp_lost(w));
    json_u64(&t, "log_lost", atomic_load_explicit(&w->log->refused, memory_order_relaxed));
    json_u64(&t, "stored_p50_us", histogram_quantile(&w->kept_us, 500));
    json_u64(&t, "stored_p99_us", histogram_quantile(&w->kept_us, 990));
    json_u64(&t, "stored_max_us", w->kept_us.max);
#define X(name, help) json_u64(&t, #name, w->count.name);
    DRIVER_COUNTERS(X)
#undef X
    TEXT_LIT(&t, "}\n");
    struct slice row = text_slice(&t);
    struct iovec iov = {(void *)(uintptr_t)row.p, row.n};
    worker_answer(w, id, 0, 0, &iov, 1);
}

int worker_adopt(struct worker *w, const struct config *c, uint8_t id, int fd)
{
    return c->engine.edge.listener[id].transport == TP_UDP ? udp_adopt(w, id, fd)
                                                           : stream_adopt(w, id, fd);
}

/* Options first: an engine that refuses them keeps everything as it was. */
static void switch_config(struct worker *w, const struct order *o)
{
    struct switching *s = o->switching;
    struct event ev = {.kind = EV_CONFIG, .opts = &s->config->engine};
    worker_settle(w);
    ev.wall_ns = w->wall;
    if (engine_step(w->engine, &ev, w->now, &w->out) != 0) {
        worker_settle(w);
        worker_answer(w, o->id, 0, ENOSPC, NULL, 0);
        return;
    }
    worker_settle(w);
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        if (!s->drop[i])
            continue;
        udp_drop(w, (uint8_t)i);
        stream_drop(w, (uint8_t)i);
    }
    w->config = s->config;
    w->tls = s->tls;
    w->gather = s->config->gather_us * NS_US;
    streams_set_backlogs(w);
    int failed = 0;
    for (unsigned i = 0; i < LISTENERS_MAX; i++) /* before their numbers find new tenants */
        if (s->revive[i] != LISTENER_NONE)
            failed |= udp_revive(w, s->revive[i], (uint8_t)i);
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        if (s->fd[w->index][i] >= 0)
            failed |= worker_adopt(w, s->config, (uint8_t)i, s->fd[w->index][i]);
    worker_answer(w, o->id, 0, failed != 0 ? EIO : 0, NULL, 0);
}

static void command(struct worker *w, const struct order *o, struct slice argument)
{
    struct event ev = {
        .kind = EV_COMMAND,
        .command = o->command,
        .id = o->id,
        .cursor = o->cursor,
        .bytes = argument,
    };
    if (o->command == CMD_DRAIN || o->command == CMD_UNDRAIN)
        w->draining = o->command == CMD_DRAIN;
    worker_step(w, &ev);
    worker_execute(w); /* the argument lies in the ring */
}

static void take_order(struct worker *w, struct slice record)
{
    struct order o;
    MUST(record.n >= sizeof o);
    memcpy(&o, record.p, sizeof o);
    switch ((enum order_kind)o.kind) {
    case ORDER_COMMAND:
        command(w, &o, slice_of(record.p + sizeof o, o.len));
        break;
    case ORDER_CONFIG:
        switch_config(w, &o);
        break;
    case ORDER_STATUS:
        answer_status(w, o.id);
        break;
    case ORDER_STOP:
        w->stop = true;
        break;
    }
}

static void take_told(struct worker *w, struct slice record)
{
    struct told t;
    MUST(record.n == sizeof t);
    memcpy(&t, record.p, sizeof t);
    struct event ev = {
        .kind = EV_RESOLVED,
        .id = t.id,
        .error = t.error,
        .addrs = t.addr,
        .addr_count = (uint16_t)t.count,
    };
    worker_step(w, &ev);
    worker_execute(w); /* `t` goes out of scope */
}

void worker_orders(struct worker *w)
{
    uint32_t from = atomic_load_explicit(&w->inbox.from_others, memory_order_relaxed);
    if (from == 0)
        return;
    from = atomic_exchange(&w->inbox.from_others, 0);
    struct slice r;
    while ((from & INBOX_MAIN) != 0 && (r = ring_peek(w->orders)).p != NULL) {
        take_order(w, r);
        ring_pop(w->orders);
    }
    while ((from & INBOX_RESOLVER) != 0 && (r = ring_peek(w->told)).p != NULL) {
        take_told(w, r);
        ring_pop(w->told);
    }
    if ((from & INBOX_STORE) != 0)
        keep_tell_stored(w);
}
