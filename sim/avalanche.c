/* SPDX-License-Identifier: Apache-2.0
 *
 * Phones, and the calendar of what they do: see avalanche.h. The calendar has a list for each
 * millisecond, so that a million phones cost no more each than a few. */
#include <stdlib.h>
#include "avalanche.h"

enum {
    GIVES_UP_MS = 2000,          /* hasty ones */
    GIVES_UP_PATIENT_MS = 32000, /* Timer F, RFC 3261 17.1.2.2 */
    BASE_S = 30,
    BACKOFF_MAX_S = 1800, /* RFC 5626 4.5, no flow left */
    PING_EVERY_MS = 120000,
    PING_LOST_MS = 10000, /* RFC 5626 4.4.1 */
    RESEND_MS = 500,
    RESEND_MAX_MS = 4000, /* T1, T2 */
    OF_FOUR_PATIENT = 1,  /* phones of four */
    DEAF_OF_100 = 5,
    UDP_OF_100 = 50, /* and those that an engine answers: of all, three fifths */
    LATE_MS = 200,   /* for a Retry-After: phones count well */
    PINGS_MAX = 7,   /* RFC 5389 7.2.1: over UDP it is repeated */
};

uint32_t av_latency_ms(const struct av_world *w, uint32_t phone)
{
    const struct av_phone *p = &w->phone[phone];
    uint32_t own = 5 + (phone * 2654435761U >> 16) % 40;
    return p->turn == 0 ? own : own + 40;
}

struct addr av_address(uint32_t phone)
{
    /* The halves of a number are spread over prefixes, as real ones are. */
    struct addr a = {.family = 4, .port = 5060};
    a.ip[0] = (uint8_t)(20 + (phone >> 20));
    a.ip[1] = (uint8_t)phone;
    a.ip[2] = (uint8_t)(phone >> 8);
    a.ip[3] = (uint8_t)(phone >> 16 & 15);
    return a;
}

struct av_second *av_now(struct av_world *w)
{
    return &w->second[w->now_ms / 1000];
}

/* ---- the calendar ---------------------------------------------------------------------------- */

void av_at(struct av_world *w, uint32_t at_ms, enum av_what what, uint32_t phone, uint32_t arg)
{
    if (at_ms <= w->now_ms)
        at_ms = w->now_ms + 1;
    if (at_ms >= w->buckets)
        return; /* after the end of this history */
    uint32_t i = w->event_free;
    if (i != AV_NOBODY) {
        w->event_free = w->event[i].next;
    } else {
        if (w->event_count == w->event_cap) {
            w->event_cap = w->event_cap == 0 ? 1 << 16 : 2 * w->event_cap;
            w->event = realloc(w->event, sizeof *w->event * w->event_cap);
            MUST(w->event != NULL);
        }
        i = w->event_count++;
    }
    w->event[i] = (struct av_event){AV_NOBODY, phone, arg, w->phone[phone].attempt, (uint8_t)what};
    if (w->bucket_head[at_ms] == AV_NOBODY)
        w->bucket_head[at_ms] = i;
    else
        w->event[w->bucket_tail[at_ms]].next = i;
    w->bucket_tail[at_ms] = i;
}

/* ---- phones ---------------------------------------------------------------------------------- */

static uint32_t below(struct av_world *w, uint32_t n)
{
    return (uint32_t)prng_below(&w->rnd, n);
}

/* It does no longer what it did: what was on its way is void. */
static void turns_to(struct av_phone *p, enum av_state state)
{
    p->attempt++;
    p->state = (uint8_t)state;
    p->said = 0;
}

static void hangs_up(struct av_world *w, uint32_t i)
{
    struct av_phone *p = &w->phone[i];
    if (p->shaken)
        av_edge_closed(w, &w->edge[p->edge], i);
    p->shaken = false;
}

/* RFC 5626 4.5: 50 to 100 % of 30 s × 2^failures. */
static uint32_t backoff_ms(struct av_world *w, const struct av_phone *p)
{
    uint64_t s = (uint64_t)BASE_S << (p->failures < 6 ? p->failures : 6);
    s = s < BACKOFF_MAX_S ? s : BACKOFF_MAX_S;
    return (uint32_t)(s * 500) + below(w, (uint32_t)(s * 500));
}

static void comes_later_or_at_once(struct av_world *w, uint32_t i)
{
    struct av_phone *p = &w->phone[i];
    hangs_up(w, i);
    turns_to(p, AV_WAITING);
    if (p->failures < UINT8_MAX)
        p->failures++;
    av_at(w, w->now_ms + (p->manner == AV_PATIENT ? backoff_ms(w, p) : 1), AV_TRY, i, 0);
}

static void loses_flow(struct av_world *w, uint32_t i)
{
    struct av_phone *p = &w->phone[i];
    if (p->state == AV_IS_REGISTERED)
        w->registered--;
    p->failures = 0;
    p->turn = w->edge[p->edge].dead ? 1 : 0;
    comes_later_or_at_once(w, i);
}

static void says(struct av_world *w, uint32_t i, enum av_message what)
{
    struct av_phone *p = &w->phone[i];
    p->said = (uint8_t)what;
    av_at(w, w->now_ms + av_latency_ms(w, i), AV_AT_EDGE, i, what);
    if (!p->tls)
        av_at(w, w->now_ms + RESEND_MS, AV_RESEND, i, (uint32_t)what << 16 | RESEND_MS);
}

static void begins(struct av_world *w, uint32_t i, enum av_message what)
{
    struct av_phone *p = &w->phone[i];
    turns_to(p, AV_TRYING);
    av_now(w)->offered++;
    av_at(w, w->now_ms + (p->manner == AV_PATIENT ? GIVES_UP_PATIENT_MS : GIVES_UP_MS), AV_GIVE_UP,
          i, 0);
    if (what == AV_SYN)
        av_at(w, w->now_ms + av_latency_ms(w, i), AV_AT_EDGE, i, AV_SYN);
    else
        says(w, i, what);
}

/* The next address that DNS named; those of the dead region refuse at once. */
static void tries(struct av_world *w, uint32_t i)
{
    struct av_phone *p = &w->phone[i];
    unsigned per = w->setup.edges_per_region;
    for (;; p->turn = (uint8_t)((p->turn + 1) % AV_REGIONS)) {
        unsigned region = ((unsigned)p->home + p->turn) % AV_REGIONS;
        p->edge = (uint8_t)(region * per + below(w, per));
        if (!w->edge[p->edge].dead)
            break;
    }
    begins(w, i, p->tls ? AV_SYN : AV_REGISTER);
}

static void gives_up(struct av_world *w, uint32_t i)
{
    w->phone[i].turn = (uint8_t)((w->phone[i].turn + 1) % AV_REGIONS);
    comes_later_or_at_once(w, i);
}

static void resends(struct av_world *w, uint32_t i, uint32_t arg)
{
    uint32_t what = arg >> 16, gap = arg & 0xffff;
    if (w->phone[i].said != what)
        return; /* it was answered */
    gap = 2 * gap < RESEND_MAX_MS ? 2 * gap : RESEND_MAX_MS;
    av_at(w, w->now_ms + av_latency_ms(w, i), AV_AT_EDGE, i, what);
    av_at(w, w->now_ms + gap, AV_RESEND, i, what << 16 | gap);
}

static void is_registered(struct av_world *w, uint32_t i)
{
    struct av_phone *p = &w->phone[i];
    turns_to(p, AV_IS_REGISTERED);
    p->failures = 0;
    w->registered++;
    av_at(w, w->now_ms + PING_EVERY_MS / 10 * 8 + below(w, PING_EVERY_MS / 5), AV_PING, i, 0);
}

static void is_refused(struct av_world *w, uint32_t i, uint32_t seconds)
{
    struct av_phone *p = &w->phone[i];
    if (p->manner == AV_DEAF)
        return; /* it waits until it gives up */
    turns_to(p, AV_WAITING);
    av_at(w, w->now_ms + seconds * 1000 + below(w, LATE_MS), AV_AGAIN, i, 0);
}

static void happens(struct av_world *w, const struct av_event *ev)
{
    struct av_phone *p = &w->phone[ev->phone];
    struct av_edge *e = &w->edge[p->edge];
    uint32_t i = ev->phone;
    if (p->attempt != ev->attempt)
        return;
    w->hash = (w->hash ^ ((uint64_t)w->now_ms << 32 | i) ^ (uint64_t)ev->what << 24) *
              0x9e3779b97f4a7c15ULL;
    switch ((enum av_what)ev->what) {
    case AV_GONE:
        loses_flow(w, i);
        break;
    case AV_TRY:
        tries(w, i);
        break;
    case AV_AGAIN:
        begins(w, i, AV_REGISTER);
        break;
    case AV_GIVE_UP:
    case AV_CLOSED:
        gives_up(w, i);
        break;
    case AV_RESEND:
        resends(w, i, ev->arg);
        break;
    case AV_PING:
        p->ponged = false;
        if (!av_edge_arrives(w, e, (struct av_waits){i, w->now_ms, p->attempt, AV_PINGS}) &&
            ev->arg < PINGS_MAX)
            av_at(w, w->now_ms + RESEND_MS, AV_PING, i, ev->arg + 1);
        else
            av_at(w, w->now_ms + PING_LOST_MS, AV_PING_CHECK, i, 0);
        break;
    case AV_PING_CHECK:
        if (p->ponged) {
            av_at(w, w->now_ms + PING_EVERY_MS - PING_LOST_MS, AV_PING, i, 0);
            break;
        }
        av_now(w)->lost++;
        loses_flow(w, i);
        break;
    case AV_SHAKEN:
        says(w, i, AV_REGISTER);
        break;
    case AV_CHALLENGED:
        says(w, i, AV_CREDENTIALS);
        break;
    case AV_REGISTERED:
        is_registered(w, i);
        break;
    case AV_REFUSED:
        is_refused(w, i, ev->arg);
        break;
    case AV_AT_EDGE:
        (void)av_edge_arrives(w, e, (struct av_waits){i, w->now_ms, p->attempt, (uint8_t)ev->arg});
        break;
    }
}

/* ---- a history ------------------------------------------------------------------------------- */

/* Every so manieth of the phones, whatever else is drawn for it. */
static void enrol(struct av_world *w)
{
    uint32_t every = w->setup.engine_every, n = every > 0 ? w->setup.phones / every : 0;
    w->sample = calloc(n + 1, sizeof *w->sample);
    w->user = calloc(n + 1, sizeof *w->user);
    MUST(w->sample != NULL && w->user != NULL);
    w->sample_count = n;
    for (uint32_t k = 0; k < n; k++) {
        av_phone_enrols(w, k);
        w->phone[k * every].sample = k + 1;
    }
}

static void settle(struct av_world *w, uint32_t i)
{
    struct av_phone *p = &w->phone[i];
    unsigned per = w->setup.edges_per_region;
    p->home = (uint8_t)(i % AV_REGIONS);
    p->edge = (uint8_t)(p->home * per + below(w, per));
    p->tls = below(w, 100) >= UDP_OF_100;
    p->manner = below(w, 4) < OF_FOUR_PATIENT ? AV_PATIENT
                : below(w, 100) < DEAF_OF_100 ? AV_DEAF
                                              : AV_HASTY;
    p->state = AV_IS_REGISTERED;
    w->registered++;
    if (p->sample > 0)
        p->tls = false;
    if (p->tls) {
        struct addr a = av_address(i);
        struct guard *g = w->edge[p->edge].guard;
        MUST(guard_accept(g, TP_TLS, &a, NS_S) == GUARD_FINE);
        guard_known(g, &a, NS_S);
        p->shaken = true;
    }
    av_at(w, 1 + below(w, PING_EVERY_MS), AV_PING, i, 0);
}

/* All who are there hear of it within a fifth of a second. */
static void region_dies(struct av_world *w)
{
    unsigned per = w->setup.edges_per_region;
    for (unsigned k = 0; k < per; k++)
        w->edge[k].dead = true;
    for (uint32_t i = 0; i < w->setup.phones; i++)
        if (w->phone[i].edge < per) {
            w->phone[i].attempt++;
            w->phone[i].shaken = false;
            av_at(w, w->now_ms + 1 + below(w, 200), AV_GONE, i, 0);
        }
}

struct av_world *av_run(const struct av_setup *setup)
{
    struct av_world *w = calloc(1, sizeof *w);
    MUST(w != NULL && setup->seconds <= AV_SECONDS_MAX);
    w->setup = *setup;
    prng_seed(&w->rnd, setup->seed);
    w->event_free = AV_NOBODY;
    w->buckets = setup->seconds * 1000;
    w->phone = calloc(setup->phones, sizeof *w->phone);
    w->bucket_head = malloc(sizeof *w->bucket_head * w->buckets);
    w->bucket_tail = malloc(sizeof *w->bucket_tail * w->buckets);
    MUST(w->phone != NULL && w->bucket_head != NULL && w->bucket_tail != NULL);
    memset(w->bucket_head, 0xff, sizeof *w->bucket_head * w->buckets);
    w->edges = AV_REGIONS * setup->edges_per_region;
    MUST(w->edges <= AV_EDGES_MAX);
    enrol(w);
    for (unsigned i = 0; i < w->edges; i++)
        av_edge_open(w, i);
    for (uint32_t i = 0; i < setup->phones; i++)
        settle(w, i);
    for (; w->now_ms < w->buckets; w->now_ms++) {
        if (w->now_ms == AV_DEATH_S * 1000)
            region_dies(w);
        for (uint32_t at = w->bucket_head[w->now_ms]; at != AV_NOBODY;) {
            struct av_event ev = w->event[at];
            w->event[at].next = w->event_free;
            w->event_free = at;
            happens(w, &ev);
            at = ev.next;
        }
        for (unsigned i = 0; i < w->edges; i++)
            if (!w->edge[i].dead)
                av_edge_works(w, &w->edge[i]);
        av_now(w)->registered = w->registered;
    }
    w->now_ms--;
    return w;
}

void av_free(struct av_world *w)
{
    for (unsigned i = 0; i < w->edges; i++)
        av_edge_done(&w->edge[i]);
    free(w->phone);
    free(w->sample);
    free(w->user);
    free(w->event);
    free(w->bucket_head);
    free(w->bucket_tail);
    free(w);
}
