/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the four machines share: a table of state × event, in which a cell that is not
 * written means "absorbed: no state, no deadline, nothing to do"; exact schedules; and random
 * programs. */
#ifndef WEIR_TEST_TXN_MACHINE_H
#define WEIR_TEST_TXN_MACHINE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "txn/txn.h"

#define PROGRAM_CHECK(c) assert_true(c)
#include "fuzz/txn_program.h"

/* Clients are given the status as a response, servers as the user's reply. */
enum event_id {
    E_100,
    E_199,
    E_200,
    E_299,
    E_300,
    E_408,
    E_699,
    E_REQUEST, /* servers only, and E_ACK */
    E_ACK,
    E_ERROR,
    E_EARLY, /* expire, 1 ns before the deadline */
    E_AGAIN, /* expire, when the retransmission is due */
    E_END,   /* expire, when the state ends */
    E__COUNT
};

static const char *const event_names[E__COUNT] = {
    "100",     "199", "200",   "299",   "300",   "408", "699",
    "request", "ACK", "error", "early", "again", "end",
};

enum { NEVER = -1 };

/* Expected: bits, then the state and when it sends again and ends, in ms after the start. */
struct cell {
    enum { ABSORBED, STAYS, GOES } what;
    unsigned bits;
    enum txn_state to;
    int again_ms, until_ms;
};
#define STAY(b)                                                                                    \
    {                                                                                              \
        STAYS, b, 0, 0, 0                                                                          \
    }
#define GO(b, s, again, until)                                                                     \
    {                                                                                              \
        GOES, b, s, again, until                                                                   \
    }
#define GONE(b)                                                                                    \
    {                                                                                              \
        GOES, (b) | TXN_DO_GONE, TXN_TERMINATED, NEVER, NEVER                                      \
    }

/* One row: how to come to the state (statuses at +100 ms; 0 = none), then what each event does
 * at +200 ms. */
struct row {
    const char *name;
    bool reliable;
    int way[2];
    bool acked; /* an ACK at +150 ms */
    enum txn_state state;
    int again_ms, until_ms;
    struct cell cell[E__COUNT];
};

static const struct txn_timers timers = TXN_TIMERS_DEFAULT;
static const mono_ns origin = 1000 * NS_S;

static mono_ns at_ms(int ms)
{
    return ms == NEVER ? MONO_NONE : origin + (unsigned)ms * NS_MS;
}

static bool is_client(enum txn_kind kind)
{
    return kind == TXN_INVITE_CLIENT || kind == TXN_OTHER_CLIENT;
}

static unsigned give_status(struct txn *t, int status, mono_ns now)
{
    return is_client((enum txn_kind)t->kind) ? txn_recv_response(t, status, &timers, now)
                                             : txn_reply(t, status, &timers, now);
}

static struct txn reach(enum txn_kind kind, const struct row *r)
{
    struct txn t;
    memset(&t, 0xee, sizeof t);
    txn_start(&t, kind, r->reliable, &timers, origin);
    for (unsigned i = 0; i < 2 && r->way[i] != 0; i++)
        (void)give_status(&t, r->way[i], at_ms(100));
    if (r->acked)
        assert_int_equal(txn_recv_request(&t, true, &timers, at_ms(150)) | TXN_DO_GONE,
                         TXN_DO_GONE);
    return t;
}

/* Returns false when the event cannot happen to this machine in this state. */
static bool happen(struct txn *t, enum event_id e, unsigned *ret_bits)
{
    static const int status[] = {100, 199, 200, 299, 300, 408, 699};
    mono_ns now = at_ms(200);
    if (e <= E_699)
        *ret_bits = give_status(t, status[e], now);
    else if (e == E_ERROR)
        *ret_bits = txn_transport_error(t, now);
    else if (e == E_REQUEST || e == E_ACK) {
        if (is_client((enum txn_kind)t->kind))
            return false;
        *ret_bits = txn_recv_request(t, e == E_ACK, &timers, now);
    } else {
        now = e == E_EARLY ? txn_deadline(t) : e == E_AGAIN ? t->retransmit_at : t->timeout_at;
        if (now == MONO_NONE && e != E_EARLY)
            return false;
        *ret_bits = txn_expire(t, &timers, e == E_EARLY ? now - 1 : now);
    }
    return true;
}

static void check_cell(enum txn_kind kind, const struct row *r, enum event_id e)
{
    struct txn t = reach(kind, r), before = t;
    const struct cell *c = &r->cell[e];
    unsigned bits = 0;
    if (!happen(&t, e, &bits)) {
        if (c->what != ABSORBED)
            fail_msg("%s × %s: the table expects what cannot happen", r->name, event_names[e]);
        return;
    }
    bool goes = c->what == GOES;
    enum txn_state to = goes ? c->to : r->state;
    mono_ns again = goes ? at_ms(c->again_ms) : before.retransmit_at;
    mono_ns until = goes ? at_ms(c->until_ms) : before.timeout_at;
    if (bits != c->bits || t.state != to || t.retransmit_at != again || t.timeout_at != until)
        fail_msg("%s × %s: bits %#x not %#x, state %s not %s, again %+lld ns, until %+lld ns",
                 r->name, event_names[e], bits, c->bits, txn_state_name((enum txn_state)t.state),
                 txn_state_name(to), (long long)(t.retransmit_at - again),
                 (long long)(t.timeout_at - until));
}

static void check_rows(enum txn_kind kind, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct row *r = &rows[i];
        struct txn t = reach(kind, r);
        if (t.state != r->state || t.retransmit_at != at_ms(r->again_ms) ||
            t.timeout_at != at_ms(r->until_ms))
            fail_msg("%s: came to %s", r->name, txn_state_name((enum txn_state)t.state));
        for (unsigned e = 0; e < E__COUNT; e++)
            check_cell(kind, r, (enum event_id)e);
    }
}

/* The resends of a machine that is left alone, expired `late` behind each deadline, as ms after
 * the start; then `last` is expected, at `end_ms`. */
static void check_schedule(struct txn *t, const int *resends_ms, size_t count, unsigned last,
                           int end_ms)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(txn_deadline(t), at_ms(resends_ms[i]));
        assert_int_equal(txn_expire(t, &timers, txn_deadline(t)), TXN_DO_RESEND);
        assert_int_equal(t->resends, i + 1);
        assert_int_equal(txn_expire(t, &timers, at_ms(resends_ms[i])), 0);
    }
    assert_int_equal(t->timeout_at, at_ms(end_ms));
    assert_true(t->retransmit_at >= t->timeout_at);
    assert_int_equal(txn_expire(t, &timers, t->timeout_at), last);
    assert_int_equal(txn_deadline(t), MONO_NONE);
}

/* Many seeded programs of one kind; see txn_program.h for what must hold. */
static void check_programs(enum txn_kind kind)
{
    struct prng p;
    prng_seed(&p, 20260501 + kind);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t data[80];
        for (size_t k = 0; k < sizeof data; k++)
            data[k] = (uint8_t)prng_below(&p, 256);
        data[0] = (uint8_t)((data[0] & ~3U) | kind);
        run_program(data, 2 + (size_t)prng_below(&p, sizeof data - 1));
    }
}

#endif
