/* SPDX-License-Identifier: Apache-2.0
 *
 * An edge of the avalanche: one worker and what waits for it. See avalanche.h.
 *
 * By default its turn is that of a worker: what was read, then connections, then handshakes for
 * some milliseconds, newest first in a crowd, as who came last has the most patience left. Without
 * admission all is served in the order in which it came. */
#include <stdlib.h>
#include "avalanche.h"

/* What a worker's CPU needs, measured. */
#define HANDSHAKE_COST (330 * NS_US)
#define REGISTER_COST  (25 * NS_US) /* each of the two */
#define CALL_COST      (40 * NS_US) /* a request that is forwarded, with its answer */
#define ACCEPT_COST    (10 * NS_US) /* and close */
#define PING_COST      (3 * NS_US)
#define SHED_COST      (2 * NS_US)

enum {
    BACKLOG = 4096,            /* connections */
    DATAGRAMS_MAX = 4096,      /* that wait in the socket's buffer */
    CONNECTIONS_MAX = 1 << 17, /* that wait for their handshake */
    MESSAGES_MAX = 1 << 18,
    SYN_AGAIN_MS = 1000, /* the first of TCP's own repeats, RFC 6298 2 */
    CALLS_PER_S = 100,   /* of each edge; three requests each */
    TURN_MESSAGES = 192, /* 64 datagrams, 128 connections */
    TURN_ACCEPTS = 256,
    TURN_SHAKES = 12, /* 4 ms */
    PATIENT_MS = 1000,
    RETRY_SAME_S = 10,
    T1_MS = 500,
};

/* ---- what waits ------------------------------------------------------------------------------ */

static void waits_open(struct av_ring *r, uint32_t cap)
{
    r->all = malloc(sizeof *r->all * cap);
    r->cap = cap;
    MUST(r->all != NULL);
}

static struct av_waits *waits_at(struct av_ring *r, uint32_t i)
{
    return &r->all[(r->head + i) & (r->cap - 1)];
}

static bool waits_push(struct av_ring *r, struct av_waits what, uint32_t most)
{
    if (r->count >= most)
        return false;
    *waits_at(r, r->count++) = what;
    return true;
}

static struct av_waits waits_oldest(struct av_ring *r)
{
    struct av_waits what = *waits_at(r, 0);
    r->head++;
    r->count--;
    return what;
}

static struct av_waits waits_newest(struct av_ring *r)
{
    return *waits_at(r, --r->count);
}

/* ---- a life ---------------------------------------------------------------------------------- */

static bool has_admission(const struct av_world *w)
{
    return w->setup.mode != AV_NO_ADMISSION;
}

void av_edge_open(struct av_world *w, unsigned i)
{
    struct av_edge *e = &w->edge[i];
    struct guard_opts *o = &e->opts.edge.guard;
    guard_opts_default(o);
    if (w->setup.mode == AV_NO_SPREADING)
        o->retry_after_min = o->retry_after_max = RETRY_SAME_S * NS_S;
    if (!has_admission(w))
        o->delay_target = o->request_age_max = 0;
    av_engine_open(w, e, i, NS_S);
    e->clock = NS_S;
    waits_open(&e->messages, MESSAGES_MAX);
    waits_open(&e->backlog, BACKLOG);
    waits_open(&e->shakes, CONNECTIONS_MAX);
}

void av_edge_done(struct av_edge *e)
{
    av_engine_close(e);
    free(e->messages.all);
    free(e->backlog.all);
    free(e->shakes.all);
}

/* The world's milliseconds as the guard's clock, which begins at one second. */
static mono_ns clock_of(uint32_t ms)
{
    return NS_S + ms * NS_MS;
}

static uint32_t ms_of(mono_ns clock)
{
    return (uint32_t)((clock - NS_S) / NS_MS);
}

static void takes(struct av_world *w, struct av_edge *e, dur_ns cost)
{
    e->clock += cost * w->setup.slower;
}

void av_edge_closed(struct av_world *w, struct av_edge *e, uint32_t phone)
{
    (void)w;
    struct addr a = av_address(phone);
    if (!e->dead)
        guard_closed(e->guard, &a);
}

/* Calls come from inside, by a socket of their own. */
static bool is_datagram(const struct av_world *w, const struct av_waits *m)
{
    return m->phone != AV_NOBODY && !w->phone[m->phone].tls;
}

/* ---- arrivals -------------------------------------------------------------------------------- */

bool av_edge_arrives(struct av_world *w, struct av_edge *e, struct av_waits what)
{
    if (e->dead)
        return false;
    if (what.what == AV_SYN) {
        if (waits_push(&e->backlog, what, BACKLOG / w->setup.slower))
            return true;
        av_at(w, w->now_ms + SYN_AGAIN_MS, AV_AT_EDGE, what.phone, AV_SYN);
        return false;
    }
    bool datagram = is_datagram(w, &what);
    if (datagram && e->datagrams >= DATAGRAMS_MAX / w->setup.slower)
        return false;
    bool fits = waits_push(&e->messages, what, MESSAGES_MAX);
    e->datagrams += datagram && fits;
    return fits;
}

static void calls_arrive(struct av_world *w, struct av_edge *e)
{
    static const uint8_t of_a_call[] = {AV_CALL, AV_IN_DIALOG, AV_BYE};
    e->call_parts += (uint32_t)prng_below(&w->rnd, 2 * CALLS_PER_S / w->setup.slower + 1);
    for (; e->call_parts >= 1000; e->call_parts -= 1000)
        for (unsigned k = 0; k < sizeof of_a_call; k++) {
            av_now(w)->calls++;
            (void)av_edge_arrives(w, e, (struct av_waits){AV_NOBODY, w->now_ms, 0, of_a_call[k]});
        }
}

/* ---- work ------------------------------------------------------------------------------------ */

static enum guard_class class_of(enum av_message what)
{
    switch (what) {
    case AV_CALL:
        return CLASS_CALL;
    case AV_IN_DIALOG:
        return CLASS_IN_DIALOG;
    case AV_BYE:
        return CLASS_FINISHES;
    default:
        return CLASS_REGISTER;
    }
}

/* The answer to a phone that has neither given up nor had it before. */
static void answers(struct av_world *w, struct av_edge *e, struct av_waits m, enum av_what what,
                    uint32_t arg)
{
    struct av_phone *p = &w->phone[m.phone];
    if (m.attempt != p->attempt || p->said != m.what)
        return;
    p->said = 0;
    av_at(w, ms_of(e->clock) + av_latency_ms(w, m.phone), what, m.phone, arg);
}

static void registers(struct av_world *w, struct av_edge *e, struct av_waits m)
{
    struct av_phone *p = &w->phone[m.phone];
    struct addr a = av_address(m.phone);
    takes(w, e, REGISTER_COST);
    if (m.what == AV_REGISTER) {
        answers(w, e, m, AV_CHALLENGED, 0);
        return;
    }
    if (m.attempt == p->attempt && p->said == m.what) {
        av_now(w)->done++;
        if (p->tls)
            guard_known(e->guard, &a, e->clock);
        guard_done(e->guard, CLASS_REGISTER, e->clock);
    }
    answers(w, e, m, AV_REGISTERED, 0);
}

static void refuses(struct av_world *w, struct av_edge *e, struct av_waits m, uint32_t seconds)
{
    takes(w, e, SHED_COST);
    av_now(w)->refused++;
    answers(w, e, m, AV_REFUSED, seconds);
}

/* The engine asks its guard itself. */
static void asks_engine(struct av_world *w, struct av_edge *e, struct av_waits m, dur_ns waited)
{
    uint32_t seconds = 0;
    unsigned status = av_engine_register(w, e, &m, waited, &seconds);
    if (status == 503) {
        refuses(w, e, m, seconds);
        return;
    }
    takes(w, e, REGISTER_COST);
    if (status == 200 && w->phone[m.phone].said == AV_CREDENTIALS)
        av_now(w)->done++;
    if (status == 200 || status == 401)
        answers(w, e, m, status == 200 ? AV_REGISTERED : AV_CHALLENGED, 0);
}

static void takes_call(struct av_world *w, struct av_edge *e, struct av_waits m, dur_ns waited)
{
    av_now(w)->calls_served += waited <= T1_MS * NS_MS;
    takes(w, e, CALL_COST);
    if (m.what == AV_CALL)
        guard_done(e->guard, CLASS_CALL, e->clock);
}

static void reads(struct av_world *w, struct av_edge *e)
{
    struct av_waits m = waits_oldest(&e->messages);
    e->datagrams -= is_datagram(w, &m);
    dur_ns waited = mono_since(e->clock, clock_of(m.at_ms));
    struct av_second *s = av_now(w);
    struct av_phone *p = m.phone != AV_NOBODY ? &w->phone[m.phone] : NULL;
    bool is_old = p != NULL && m.attempt != p->attempt;
    guard_waited(e->guard, 0, waited, e->clock);
    if (m.what == AV_PINGS) {
        takes(w, e, PING_COST);
        p->ponged |= !is_old;
        return;
    }
    uint32_t ms = (uint32_t)(waited / NS_MS);
    s->wait_ms = ms > s->wait_ms ? ms : s->wait_ms;
    if (p != NULL && p->sample > 0 && !is_old)
        asks_engine(w, e, m, waited);
    else if (!guard_sheds(e->guard, class_of(m.what), waited, e->clock))
        p != NULL ? registers(w, e, m) : takes_call(w, e, m, waited);
    else if (p != NULL)
        refuses(w, e, m, guard_retry_after_s(e->guard, CLASS_REGISTER, e->clock));
    else
        takes(w, e, SHED_COST);
}

static void accepts(struct av_world *w, struct av_edge *e)
{
    struct av_waits m = waits_oldest(&e->backlog);
    struct addr a = av_address(m.phone);
    takes(w, e, ACCEPT_COST);
    if (guard_accept(e->guard, TP_TLS, &a, e->clock) != GUARD_FINE)
        return; /* closed; the phone finds out when its time is over */
    if (!waits_push(&e->shakes, m, CONNECTIONS_MAX))
        av_edge_closed(w, e, m.phone);
}

/* Oldest first, and newest first once the oldest has waited for longer than some are patient. */
static struct av_waits next_shake(const struct av_world *w, struct av_edge *e)
{
    uint32_t age = ms_of(e->clock) - waits_at(&e->shakes, 0)->at_ms;
    return has_admission(w) && age >= PATIENT_MS ? waits_newest(&e->shakes)
                                                 : waits_oldest(&e->shakes);
}

/* Who has given up has left. With admission the worker looks before it begins; without, the
 * client's first message lies before the end of the connection, and is worked on. */
static void shakes_hands(struct av_world *w, struct av_edge *e)
{
    struct av_waits m = next_shake(w, e);
    struct av_phone *p = &w->phone[m.phone];
    bool left = p->attempt != m.attempt;
    if (left)
        av_edge_closed(w, e, m.phone);
    if (left && has_admission(w)) {
        takes(w, e, ACCEPT_COST);
        return;
    }
    takes(w, e, HANDSHAKE_COST);
    av_now(w)->handshakes++;
    av_now(w)->wasted += left;
    if (left)
        return;
    p->shaken = true;
    av_at(w, ms_of(e->clock) + av_latency_ms(w, m.phone), AV_SHAKEN, m.phone, 0);
}

typedef void work_fn(struct av_world *w, struct av_edge *e);
static work_fn *const work[] = {reads, accepts, shakes_hands};

static struct av_ring *waiting(struct av_edge *e, unsigned kind)
{
    return kind == 0 ? &e->messages : kind == 1 ? &e->backlog : &e->shakes;
}

/* Which kind of work is next: 0 to 2, or 3: nothing waits. */
static unsigned next_in_turn(const struct av_world *w, struct av_edge *e)
{
    static const uint32_t quota[] = {TURN_MESSAGES, TURN_ACCEPTS, TURN_SHAKES};
    for (unsigned i = 0; i <= 3; i++) {
        if (e->turn_left[e->turn_at] > 0 && waiting(e, e->turn_at)->count > 0) {
            e->turn_left[e->turn_at]--;
            return e->turn_at;
        }
        e->turn_at = (uint8_t)((e->turn_at + 1) % 3);
        uint32_t left = quota[e->turn_at] / w->setup.slower;
        e->turn_left[e->turn_at] = left > 0 ? left : 1;
    }
    return 3;
}

/* Accepted is at once; the rest in the order in which it came. */
static unsigned first_come(struct av_edge *e)
{
    unsigned first = e->backlog.count > 0 ? 1 : 3;
    for (unsigned k = 0; k < 3 && first != 1; k += 2)
        if (waiting(e, k)->count > 0 && (first == 3 || waits_at(waiting(e, k), 0)->at_ms <
                                                           waits_at(waiting(e, first), 0)->at_ms))
            first = k;
    return first;
}

void av_edge_works(struct av_world *w, struct av_edge *e)
{
    mono_ns begin = clock_of(w->now_ms), end = begin + NS_MS;
    calls_arrive(w, e);
    if (e->clock < begin)
        e->clock = begin;
    av_engine_ticks(e);
    while (e->clock < end) {
        unsigned kind = has_admission(w) ? next_in_turn(w, e) : first_come(e);
        if (kind == 3) {
            guard_waited(e->guard, 0, 0, e->clock);
            return;
        }
        work[kind](w, e);
    }
}
