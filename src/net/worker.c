/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker: a loop that waits, reads everything that has come, steps the engine, and sends
 * everything that it wants sent.
 *
 *      ┌─▶ wait ─▶ datagrams ─▶ streams ─▶ hand-overs, orders ─▶ timers ─▶ execute ─┐
 *      └────────────────────────────────────────────────────────────────────────────┘
 *
 * What waiting costs decides what a call costs, so this was measured (1,000 to 3,000 calls/s, one
 * worker, strace -c and schedstat):
 *   - A wake-up by a message costs about 2 us, and brings more than one message under load.
 *   - A timer that is started for a wait costs 1 us on bare metal and 13 us in a virtual machine,
 *     where each write of the deadline register leaves the machine. So a wait has no time limit:
 *     one timerfd stays armed across waits, and while messages come it is armed coarsely, for the
 *     deadlines are looked at after every batch anyway.
 *   - Letting messages gather (`gather:`) means such a timer. It is done only where it pays: when
 *     more messages are to be expected within `gather` than a sleep costs wake-ups, which each
 *     worker finds out by trying a few sleeps when it starts. Then its datagram sockets leave
 *     epoll, and it sleeps that long whatever comes.
 *   - Datagram sockets are watched edge-triggered: a batch that was not full has emptied the
 *     socket, and level-triggered epoll would ask it once more before every sleep. */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "net/net_int.h"

enum { EPOLL_BATCH = 128 };

enum {
    BUSY_PER_SECOND = 500,
    NAPS = 16,
    NAP_NS = 20000,
    WAKE_UP_NS = 3000, /* 2 us of the system, and caches that went cold meanwhile */
    GATHER_X4_MIN = 5, /* even where sleeping is cheap, more than one message must come of it */
};
#define LONG_TURN_NS (5 * NS_MS)
#define WINDOW_NS    (20 * NS_MS)
#define LATE_CALM_NS (500 * NS_US)
#define LATE_BUSY_NS (10 * NS_MS) /* SIP's shortest timer is 500 ms */

/* ---- birth and death ------------------------------------------------------------------------- */

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
    w->tls = net->tls;
    w->gather = c->gather_us * NS_US;
    w->now = mono_now();
    atomic_init(&w->relays_open, UINT32_MAX); /* not known before the first look */
    void *scratch = memory_map(STEP_SCRATCH_BYTES);
    w->out.scratch = arena_over(scratch, STEP_SCRATCH_BYTES);
    w->engine_mem_bytes = engine_memory(&c->engine);
    w->engine_mem = memory_map(w->engine_mem_bytes);
    w->epfd = epoll_create1(EPOLL_CLOEXEC);
    w->inbox.wake_fd = -1;
    w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ep_tag(EP_WAKE, 0, 0)};
    struct epoll_event tick = {.events = EPOLLIN | EPOLLET, .data.u64 = ep_tag(EP_TIMER, 0, 0)};
    int failed = udp_init(w);
    failed |= streams_init(w, c, accepted_max);
    if (failed != 0 || scratch == NULL || w->engine_mem == NULL || w->epfd < 0 ||
        map_rings(w, c->workers) != 0 || inbox_init(&w->inbox) != 0 ||
        epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->inbox.wake_fd, &ev) != 0 ||
        epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->timer_fd, &tick) != 0) {
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
    if (w->timer_fd >= 0)
        close(w->timer_fd);
    memory_unmap(w, sizeof *w);
}

/* ---- stepping and executing ------------------------------------------------------------------ */

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
        case ACT_PING:
            stream_ping(w, a->flow);
            break;
        case ACT_HANDOVER:
            hand_over(w, a);
            break;
        case ACT_RESOLVE:
            resolver_ask(w, a);
            break;
        case ACT_STORE:
            keep(w, a);
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

static void tell_failed(struct worker *w)
{
    while (w->udp.failed_count > 0 || w->unkept_count > 0) {
        udp_tell_failed(w);
        keep_tell_refused(w);
    }
}

void worker_settle(struct worker *w)
{
    worker_execute(w);
    tell_failed(w);
    while (stream_tell_doomed(w)) {
        worker_execute(w);
        tell_failed(w);
    }
    w->hands_used = 0;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static mono_ns next_deadline(const struct worker *w)
{
    return mono_min(engine_deadline(w->engine), mono_min(stream_deadline(w), udp_deadline(w)));
}

/* Has the timer fire at the next deadline, or so soon after it that nobody minds; leaves it alone
 * when it does so already. */
static void arm_timer(struct worker *w, mono_ns until)
{
    dur_ns late = w->busy ? LATE_BUSY_NS : LATE_CALM_NS;
    if (until == MONO_NONE || (w->armed_at > w->now && w->armed_at <= mono_add(until, late)))
        return;
    mono_ns soonest = mono_add(w->now, late);
    w->armed_at = until > soonest ? until : soonest;
    struct itimerspec t = {.it_value = timespec_of(w->armed_at)};
    (void)timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static int wait_events(struct worker *w, struct epoll_event *events)
{
    static const struct timespec none = {0, 0};
    mono_ns until = next_deadline(w);
    if (w->again || until <= w->now) {
        w->again = false;
        return epoll_wait(w->epfd, events, EPOLL_BATCH, 0);
    }
    if (w->hot) { /* knocks are looked at every turn: nobody needs to wake it */
        dur_ns span = mono_since(until, w->now);
        struct timespec t = timespec_of(span < w->gather ? span : w->gather);
        if (w->hot_streams) { /* connections gather like datagrams */
            clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
            t = none;
        }
        return epoll_pwait2(w->epfd, events, EPOLL_BATCH, &t, NULL);
    }
    arm_timer(w, until);
    int n = epoll_wait(w->epfd, events, EPOLL_BATCH, inbox_may_sleep(&w->inbox) ? -1 : 0);
    inbox_awake(&w->inbox);
    return n;
}

/* Messages per `gather`, times 4, from which on gathering pays: a sleep must not cost more than the
 * wake-ups that it saves. */
static uint32_t gather_threshold(void)
{
    static const struct timespec nap = {0, NAP_NS};
    uint64_t least = UINT64_MAX; /* the others met something else that was going on */
    for (unsigned i = 0; i < NAPS; i++) {
        uint64_t before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
        uint64_t cost = clock_ns(CLOCK_THREAD_CPUTIME_ID) - before;
        least = cost < least ? cost : least;
    }
    uint64_t x4 = least * 4 / WAKE_UP_NS;
    return x4 < GATHER_X4_MIN ? GATHER_X4_MIN : x4 > UINT16_MAX ? UINT16_MAX : (uint32_t)x4;
}

/* Decides on the gait. Two different thresholds keep it from changing with every breath. */
static void close_window(struct worker *w)
{
    dur_ns span = mono_since(w->now, w->window_start);
    if (span < WINDOW_NS)
        return;
    uint64_t messages = (uint64_t)w->window_messages + w->window_streams;
    uint64_t per_gather_x4 = messages * 4 * w->gather / span;
    uint64_t threshold = w->hot ? w->gather_x4 * 3 / 5 : w->gather_x4;
    bool hot = w->gather > 0 && per_gather_x4 >= threshold;
    w->hot_streams = hot && w->window_streams > w->window_messages;
    if (hot || w->hot)
        udp_window(w, hot);
    w->hot = hot;
    w->busy = messages * NS_S / span >= BUSY_PER_SECOND;
    w->window_start = w->now;
    w->window_messages = 0;
    w->window_streams = 0;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void dispatch(struct worker *w, const struct epoll_event *ev)
{
    uint64_t tag = ev->data.u64;
    uint8_t listener = (uint8_t)tag;
    switch (tag >> 56) {
    case EP_WAKE:
        inbox_drain_fd(&w->inbox);
        break;
    case EP_TIMER: /* edge-triggered: nothing needs to be read */
        break;
    case EP_UDP:
        w->udp.sock[listener].ready = true;
        if ((ev->events & EPOLLERR) != 0)
            w->udp.sock[listener].failing = true;
        break;
    case EP_LISTEN:
        w->streams.ready |= 1ULL << listener;
        w->streams.accept_at = 0;
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
    w->crowded = n == EPOLL_BATCH;
    if (w->crowded)
        w->pressed_until = mono_add(w->now, PRESSED_FOR);
    for (int i = 0; i < n; i++)
        dispatch(w, &events[i]);
    door_accept(w);
    door_shake(w);
    hands_take(w); /* first: what another worker knows of a phone may be news to a datagram of it */
    udp_receive(w);
    worker_orders(w);
    timers(w);
    worker_settle(w);
    filter_look(w);
    if (mono_since(mono_now(), w->now) > LONG_TURN_NS)
        w->pressed_until = mono_add(w->now, PRESSED_FOR);
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
    w->gather_x4 = gather_threshold();
    w->window_start = mono_now();
    while (!w->stop)
        turn(w);
    return NULL;
}

int worker_birth(struct worker *w, const struct hash_seed *seed, uint32_t generation)
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
    w->wall = wall_now();
    w->engine = engine_new(w->engine_mem, w->engine_mem_bytes, &w->config->engine, &birth, w->now);
    return w->engine != NULL ? 0 : ENOMEM;
}

int worker_start(struct worker *w)
{
    return pthread_create(&w->thread, NULL, worker_main, w);
}
