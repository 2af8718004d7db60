/* SPDX-License-Identifier: Apache-2.0
 *
 * A program of events for one transaction machine, spelled as bytes, and what must hold after each
 * of them. Unit tests draw the bytes at random; the fuzzer chooses them.
 *
 *   byte 0   kind (2 bits), stream (1 bit), timers (the rest)
 *   then     op (3 bits) and argument (5 bits)
 */
#ifndef WEIR_FUZZ_TXN_PROGRAM_H
#define WEIR_FUZZ_TXN_PROGRAM_H

#include "txn/txn.h"

#ifndef PROGRAM_CHECK
#define PROGRAM_CHECK(c) MUST(c)
#endif

struct program {
    struct txn t;
    struct txn_timers tm;
    bool standard; /* T2 >= 8·T1, whole ms: RFC 3261's number of sends holds */
    mono_ns now;
    mono_ns last_input;
    mono_ns resent_at;    /* by a timer; MONO_NONE: not yet in this state */
    dur_ns interval;      /* between the last two of them */
    unsigned timer_sends; /* by a timer, in all */
    int final;            /* the first final that was passed or sent */
    bool gave_up;         /* a 408 that a non-INVITE server swallowed */
};

static inline bool program_is_client(const struct program *g)
{
    return g->t.kind == TXN_INVITE_CLIENT || g->t.kind == TXN_OTHER_CLIENT;
}

static inline dur_ns program_life(const struct program *g)
{
    dur_ns life = 64 * g->tm.t1;
    life = life > g->tm.t4 ? life : g->tm.t4;
    return life > 32 * NS_S ? life : 32 * NS_S;
}

/* After every call: `before` is the machine as it was, `status` what was given or 0. */
static void program_check(struct program *g, const struct txn *before, unsigned bits, int status)
{
    const struct txn *t = &g->t;
    bool ended = t->state == TXN_TERMINATED;
    PROGRAM_CHECK(t->kind == before->kind && t->reliable == before->reliable);
    PROGRAM_CHECK(ended || before->state != TXN_TERMINATED);
    PROGRAM_CHECK(((bits & TXN_DO_GONE) != 0) == (ended && before->state != TXN_TERMINATED));
    PROGRAM_CHECK(before->state != TXN_TERMINATED || bits == 0);
    PROGRAM_CHECK(!ended || txn_deadline(t) == MONO_NONE);
    PROGRAM_CHECK(t->state >= before->state);
    PROGRAM_CHECK((bits & TXN_DO_GONE) == 0 || program_is_client(g) || g->final != 0 ||
                  status >= 200 || g->gave_up);
    PROGRAM_CHECK(t->timeout_at == MONO_NONE || t->timeout_at <= g->now + program_life(g));
    PROGRAM_CHECK(t->retransmit_at == MONO_NONE || !t->reliable);
    if (program_is_client(g))
        PROGRAM_CHECK((bits & TXN_DO_SEND) == 0);
    else
        PROGRAM_CHECK((bits & TXN_DO_PASS) == 0 || before->state == TXN_ACCEPTED);
    PROGRAM_CHECK((bits & TXN_DO_ACK) == 0 || t->kind == TXN_INVITE_CLIENT);
    if ((bits & (TXN_DO_PASS | TXN_DO_SEND)) != 0 && status != 0) {
        bool invite = t->kind == TXN_INVITE_CLIENT || t->kind == TXN_INVITE_SERVER;
        bool both_2xx = invite && status / 100 == 2 && g->final / 100 == 2;
        PROGRAM_CHECK(g->final == 0 || both_2xx);
        PROGRAM_CHECK(t->kind != TXN_OTHER_SERVER || status != 408);
        g->final = status >= 200 ? status : 0;
    }
}

static void program_status(struct program *g, unsigned arg)
{
    static const int statuses[] = {100, 180, 183, 199, 200, 202, 299, 300, 404, 408, 486, 503, 699};
    int status = statuses[arg % (sizeof statuses / sizeof statuses[0])];
    struct txn before = g->t;
    unsigned bits = program_is_client(g) ? txn_recv_response(&g->t, status, &g->tm, g->now)
                                         : txn_reply(&g->t, status, &g->tm, g->now);
    if (g->t.kind == TXN_OTHER_SERVER && status == 408)
        g->gave_up = true;
    g->last_input = g->now;
    program_check(g, &before, bits, status);
}

static void program_request(struct program *g, bool is_ack)
{
    if (program_is_client(g))
        return;
    struct txn before = g->t;
    unsigned bits = txn_recv_request(&g->t, is_ack, &g->tm, g->now);
    g->last_input = g->now;
    PROGRAM_CHECK((bits & TXN_DO_SEND) == 0);
    PROGRAM_CHECK((bits & TXN_DO_RESEND) == 0 || !is_ack);
    program_check(g, &before, bits, 0);
}

static void program_error(struct program *g)
{
    struct txn before = g->t;
    unsigned bits = txn_transport_error(&g->t, g->now);
    g->last_input = g->now;
    PROGRAM_CHECK((bits & TXN_DO_TIMEOUT) == 0 || (program_is_client(g) && g->final == 0));
    program_check(g, &before, bits, 0);
}

/* One retransmission by a timer: only over datagrams, never closer than T1 nor closer than the
 * one before it in the same state, never more than the RFC's number. */
static void program_resent(struct program *g, const struct txn *before)
{
    PROGRAM_CHECK(!g->t.reliable);
    g->timer_sends++;
    if (g->resent_at != MONO_NONE) {
        dur_ns gap = g->now - g->resent_at;
        dur_ns least =
            g->interval < g->tm.t2 || g->t.kind == TXN_INVITE_CLIENT ? g->interval : g->tm.t2;
        PROGRAM_CHECK(gap >= NS_MS && gap + NS_MS > least);
    }
    g->resent_at = g->now;
    g->interval = before->interval_ms * NS_MS;
    if (g->standard)
        PROGRAM_CHECK(g->timer_sends <= (g->t.kind == TXN_INVITE_CLIENT ? 6 : 10));
}

static void program_expire(struct program *g)
{
    unsigned calls = 0;
    while (txn_deadline(&g->t) <= g->now) {
        struct txn before = g->t;
        unsigned bits = txn_expire(&g->t, &g->tm, g->now);
        PROGRAM_CHECK(bits != 0 && (bits & (TXN_DO_PASS | TXN_DO_SEND | TXN_DO_ACK)) == 0);
        PROGRAM_CHECK(++calls == 1); /* however late: one resend, or the end */
        if ((bits & TXN_DO_RESEND) != 0)
            program_resent(g, &before);
        program_check(g, &before, bits, 0);
    }
    struct txn before = g->t;
    PROGRAM_CHECK(txn_expire(&g->t, &g->tm, g->now) == 0);
    PROGRAM_CHECK(memcmp(&before, &g->t, sizeof before) == 0);
}

/* Left alone, the machine ends: but for the states that wait for their user. */
static void program_finish(struct program *g)
{
    mono_ns latest = mono_add(g->now > g->last_input ? g->now : g->last_input, program_life(g));
    for (unsigned guard = 0; txn_deadline(&g->t) != MONO_NONE; guard++) {
        PROGRAM_CHECK(guard < 100000);
        if (g->now < txn_deadline(&g->t))
            g->now = txn_deadline(&g->t);
        PROGRAM_CHECK(g->now <= latest);
        program_expire(g);
    }
    bool waits = g->t.state == TXN_PROCEEDING && g->t.kind != TXN_OTHER_CLIENT;
    waits = waits || (g->t.kind == TXN_OTHER_SERVER && g->t.state == TXN_TRYING);
    PROGRAM_CHECK(g->t.state == TXN_TERMINATED || (waits && !g->gave_up));
}

static void program_step(struct program *g, unsigned op, unsigned arg)
{
    static const dur_ns jumps[] = {NS_MS, 90 * NS_MS, NS_S, 7 * NS_S, 31 * NS_S, 3600 * NS_S};
    switch (op) {
    case 0: /* time passes, unnoticed */
        g->now += arg * 50 * NS_MS;
        break;
    case 1: /* and is noticed when it should be */
        if (txn_deadline(&g->t) != MONO_NONE && txn_deadline(&g->t) > g->now)
            g->now = txn_deadline(&g->t) + arg % 4 * NS_MS;
        program_expire(g);
        break;
    case 2: /* the clock jumps */
        g->now += jumps[arg % (sizeof jumps / sizeof jumps[0])];
        program_expire(g);
        break;
    case 3:
    case 4:
        program_status(g, arg);
        break;
    case 5:
        program_request(g, false);
        break;
    case 6:
        program_request(g, true);
        break;
    default:
        if (arg == 0)
            program_error(g);
        program_expire(g);
        break;
    }
}

static void run_program(const uint8_t *data, size_t size)
{
    static const struct txn_timers choice[] = {
        {500 * NS_MS, 4 * NS_S, 5 * NS_S},    {500 * NS_MS, 4 * NS_S, 5 * NS_S},
        {2 * NS_S, 16 * NS_S, 17 * NS_S},     {10 * NS_MS, 80 * NS_MS, NS_S},
        {500 * NS_MS, 100 * NS_MS, 5 * NS_S}, {NS_US, 4 * NS_MS, 0},
        {1500 * NS_US, 9 * NS_MS, NS_MS},     {600 * NS_S, 600 * NS_S, 600 * NS_S},
    };
    if (size == 0)
        return;
    struct program g = {.resent_at = MONO_NONE, .now = NS_S + data[0] * NS_MS};
    g.tm = choice[data[0] >> 3 & 7];
    g.standard = g.tm.t2 >= 8 * g.tm.t1 && g.tm.t1 % NS_MS == 0;
    txn_start(&g.t, (enum txn_kind)(data[0] & 3), (data[0] & 4) != 0, &g.tm, g.now);
    g.last_input = g.now;
    for (size_t i = 1; i < size; i++) {
        unsigned state = g.t.state;
        program_step(&g, data[i] >> 5, data[i] & 31);
        if (g.t.state != state)
            g.resent_at = MONO_NONE;
    }
    program_finish(&g);
}

#endif
