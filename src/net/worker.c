/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker: a loop that waits, reads everything that has come, steps the engine, and sends
 * everything that it wants sent.
 *
 *      ┌─▶ wait ─▶ datagrams ─▶ streams ─▶ hand-overs, orders ─▶ timers ─▶ execute ─┐
 *      └────────────────────────────────────────────────────────────────────────────┘
 *
 * A worker has two gaits.
 *   calm   It sleeps in epoll until something comes: one wake-up per message or so.
 *   busy   More than one message is to be expected within `gather_us`. Its datagram sockets leave
 *          epoll, and it sleeps for that time instead, whatever comes: no wake-up per datagram for
 *          the sender to pay, several messages per recvmmsg and sendmmsg, one look at the clock
 *          and one pass over the timers for all of them. epoll_pwait2(2) is the sleep, so that
 *          connections are still served at once. */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include "net/net_int.h"

enum { EPOLL_BATCH = 128 };

#define WINDOW_NS (20 * NS_MS)

/* ---- birth and death ------------------------------------------------------------------------ */

static int map_rings(struct worker *w, uint32_t workers)
{
    w->orders = ring_map(ORDER_RING_BYTES);
    w->answers = ring_map(ANSWER_RING_BYTES);
    w->ask = ring_map(ASK_RING_BYTES);
    w->told = ring_map(ASK_RING_BYTES);
    w->log = ring_map(LOG_RING_BYTES);
    w->hands = (char *)memory_map(HANDS_BYTES);
    bool whole = w->orders != NULL && w->answers != NULL && w->ask != NULL && w->told != NULL &&
                 w->log != NULL && w->hands != NULL;
    for (uint32_t i = 0; i < workers && whole; i++) {
        if (i == w->index)
            continue;
        w->hand_in[i] = ring_map(HAND_RING_BYTES);
        whole = w->hand_in[i] != NULL;
    }
    return whole ? 0 : -1;
}

struct worker *worker_new(struct net *net, uint32_t index, const struct config *c,
                          uint32_t accepted_max)
{
    struct worker *w = (struct worker *)memory_map(sizeof *w);
    if (w == NULL)
        return NULL;
    w->net = net;
    w->index = index;
    w->config = c;
    w->gather = c->gather_us * NS_US;
    w->now = mono_now();
    atomic_init(&w->relays_open, UINT32_MAX); /* not known before the first look */
    void *scratch = memory_map(STEP_SCRATCH_BYTES);
    w->out.scratch = arena_over(scratch, STEP_SCRATCH_BYTES);
    w->engine_mem_bytes = engine_memory(&c->engine);
    w->engine_mem = memory_map(w->engine_mem_bytes);
    w->epfd = epoll_create1(EPOLL_CLOEXEC);
    w->inbox.wake_fd = -1;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ep_tag(EP_WAKE, 0, 0)};
    int failed = udp_init(w);
    failed |= streams_init(w, c, accepted_max);
    if (failed != 0 || scratch == NULL || w->engine_mem == NULL || w->epfd < 0 ||
        map_rings(w, c->workers) != 0 || inbox_init(&w->inbox) != 0 ||
        epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->inbox.wake_fd, &ev) != 0) {
        worker_free(w);
        return NULL;
    }
    return w;
}

static void unmap_ring(struct ring *r, uint32_t size)
{
    memory_unmap(r, (sizeof *r + 63) / 64 * 64 + size);
}

void worker_free(struct worker *w)
{
    if (w == NULL)
        return;
    udp_done(w);
    streams_done(w);
    unmap_ring(w->orders, ORDER_RING_BYTES);
    unmap_ring(w->answers, ANSWER_RING_BYTES);
    unmap_ring(w->ask, ASK_RING_BYTES);
    unmap_ring(w->told, ASK_RING_BYTES);
    unmap_ring(w->log, LOG_RING_BYTES);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        unmap_ring(w->hand_in[i], HAND_RING_BYTES);
    memory_unmap(w->hands, HANDS_BYTES);
    memory_unmap(w->out.scratch.p, STEP_SCRATCH_BYTES);
    memory_unmap(w->engine_mem, w->engine_mem_bytes);
    if (w->epfd >= 0)
        close(w->epfd);
    if (w->inbox.wake_fd >= 0)
        close(w->inbox.wake_fd);
    memory_unmap(w, sizeof *w);
}

/* ---- stepping and executing ----------------------------------------------------------------- */

void worker_step(struct worker *w, struct event *ev)
{
    if (!actions_have_room(&w->out))
        worker_execute(w);
    ev->wall_ns = w->wall;
    (void)engine_step(w->engine, ev, w->now, &w->out);
}

void worker_execute(struct worker *w)
{
    bool datagrams = false;
    for (uint32_t i = 0; i < w->out.count; i++) {
        struct action *a = &w->out.a[i];
        switch (a->kind) {
        case ACT_SEND:
            datagrams = true;
            break;
        case ACT_SEND_FLOW:
            stream_send(w, i);
            break;
        case ACT_CONNECT:
            stream_connect(w, a);
            break;
        case ACT_CLOSE:
            stream_close(w, a->flow);
            a->kind = ACT_DONE;
            break;
        case ACT_HANDOVER:
            hand_over(w, a);
            break;
        case ACT_RESOLVE:
            resolver_ask(w, a);
            break;
        case ACT_LOG:
            log_record(w, a->text);
            break;
        case ACT_NOTICE:
            log_notice(w, a->notice, a->text);
            break;
        case ACT_REPLY:
            worker_answer(w, a->id, a->cursor, a->error, w->out.iov + a->iov, a->iov_count);
            break;
        default:
            break;
        }
    }
    if (datagrams)
        udp_send(w);
    actions_reset(&w->out);
}

void worker_settle(struct worker *w)
{
    worker_execute(w);
    while (w->udp.failed_count > 0)
        udp_tell_failed(w);
    while (stream_tell_doomed(w)) {
        worker_execute(w);
        while (w->udp.failed_count > 0)
            udp_tell_failed(w);
    }
    w->hands_used = 0;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static mono_ns next_deadline(const struct worker *w)
{
    return mono_min(engine_deadline(w->engine), mono_min(stream_deadline(w), udp_deadline(w)));
}

static int wait_events(struct worker *w, struct epoll_event *events)
{
    static const struct timespec none = {0, 0};
    if (w->again) {
        w->again = false;
        return epoll_pwait2(w->epfd, events, EPOLL_BATCH, &none, NULL);
    }
    mono_ns until = next_deadline(w);
    dur_ns span = mono_since(until, w->now);
    if (w->hot) { /* knocks are looked at every turn: nobody needs to wake it */
        struct timespec t = timespec_of(span < w->gather ? span : w->gather);
        if (w->hot_streams) { /* connections gather like datagrams */
            clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
            t = none;
        }
        return epoll_pwait2(w->epfd, events, EPOLL_BATCH, &t, NULL);
    }
    if (!inbox_may_sleep(&w->inbox))
        return epoll_pwait2(w->epfd, events, EPOLL_BATCH, &none, NULL);
    struct timespec t = timespec_of(span);
    int n = epoll_pwait2(w->epfd, events, EPOLL_BATCH, until == MONO_NONE ? NULL : &t, NULL);
    inbox_awake(&w->inbox);
    return n;
}

/* Decides on the gait: busy pays as soon as more than one message comes per sleep. Two different
 * thresholds keep it from changing with every breath. */
static void close_window(struct worker *w)
{
    dur_ns span = mono_since(w->now, w->window_start);
    if (span < WINDOW_NS)
        return;
    uint64_t messages = (uint64_t)w->window_messages + w->window_streams;
    uint64_t per_gather_x4 = messages * 4 * w->gather / span;
    bool hot = w->gather > 0 && per_gather_x4 >= (w->hot ? 3 : 5);
    w->hot_streams = hot && w->window_streams > w->window_messages;
    udp_window(w, hot);
    w->hot = hot;
    w->window_start = w->now;
    w->window_messages = 0;
    w->window_streams = 0;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void dispatch(struct worker *w, const struct epoll_event *ev)
{
    uint64_t tag = ev->data.u64;
    uint8_t listener = (uint8_t)tag;
    switch (tag >> 56) {
    case EP_WAKE:
        inbox_drain_fd(&w->inbox);
        break;
    case EP_UDP:
        w->udp.sock[listener].ready = true;
        if ((ev->events & EPOLLERR) != 0)
            w->udp.sock[listener].failing = true;
        break;
    case EP_LISTEN:
        stream_accept(w, listener);
        break;
    case EP_CONN:
        stream_event(w, tag, ev->events);
        break;
    default:
        break;
    }
}

static void timers(struct worker *w)
{
    if (stream_deadline(w) <= w->now)
        stream_timers(w);
    if (udp_deadline(w) <= w->now)
        udp_close_farewells(w);
    if (engine_deadline(w->engine) <= w->now) {
        struct event ev = {.kind = EV_TIMER};
        worker_step(w, &ev);
    }
}

static void turn(struct worker *w)
{
    struct epoll_event events[EPOLL_BATCH];
    int n = wait_events(w, events);
    w->now = mono_now();
    w->wall = wall_now();
    w->count.turns++;
    for (int i = 0; i < n; i++)
        dispatch(w, &events[i]);
    udp_receive(w);
    hands_take(w);
    worker_orders(w);
    timers(w);
    worker_settle(w);
    close_window(w);
    if (w->draining)
        atomic_store_explicit(&w->relays_open, engine_load(w->engine).relays_open,
                              memory_order_relaxed);
}

static void *worker_main(void *arg)
{
    struct worker *w = (struct worker *)arg;
    char name[16];
    snprintf(name, sizeof name, "weir-w%u", w->index);
    pthread_setname_np(pthread_self(), name);
    /* Sleeps of some hundred microseconds must not be rounded up by the default 50. */
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    w->window_start = mono_now();
    while (!w->stop)
        turn(w);
    return NULL;
}

int worker_start(struct worker *w, const struct hash_seed *seed, uint32_t generation)
{
    struct rng rng = entropy_rng(&w->entropy);
    struct engine_birth birth = {
        .worker = w->index,
        .workers = w->net->workers,
        .process_generation = generation,
        .shared_seed = *seed,
        .rng = rng,
        .prng_seed = rng_u64(&rng),
    };
    w->now = mono_now();
    w->engine = engine_new(w->engine_mem, w->engine_mem_bytes, &w->config->engine, &birth, w->now);
    if (w->engine == NULL)
        return ENOMEM;
    return pthread_create(&w->thread, NULL, worker_main, w);
}
