/* SPDX-License-Identifier: Apache-2.0
 *
 * The door of the room: turns a call into an input and hands it to the machine, and the few lines
 * of timer arithmetic that the machines share. */
#include "txn/txn_int.h"

_Static_assert(sizeof(struct txn) <= 32, "a transaction is held by the hundred thousand");

static unsigned step(struct txn *t, const struct txn_input *in)
{
    switch ((enum txn_kind)t->kind) {
    case TXN_INVITE_CLIENT:
        return txn__invite_client(t, in);
    case TXN_OTHER_CLIENT:
        return txn__other_client(t, in);
    case TXN_INVITE_SERVER:
        return txn__invite_server(t, in);
    case TXN_OTHER_SERVER:
        return txn__other_server(t, in);
    }
    MUST(false);
    return 0;
}

void txn_start(struct txn *t, enum txn_kind kind, bool reliable, const struct txn_timers *tm,
               mono_ns now)
{
    *t = (struct txn){.kind = (uint8_t)kind,
                      .state = TXN_TRYING,
                      .reliable = reliable,
                      .retransmit_at = MONO_NONE,
                      .timeout_at = MONO_NONE};
    if (kind == TXN_INVITE_CLIENT)
        t->state = TXN_CALLING;
    else if (kind == TXN_INVITE_SERVER)
        t->state = TXN_PROCEEDING;
    (void)step(t, &(struct txn_input){.what = TXN_IN_START, .tm = tm, .now = now});
}

unsigned txn_recv_request(struct txn *t, bool is_ack, const struct txn_timers *tm, mono_ns now)
{
    DCHECK(t->kind >= TXN_INVITE_SERVER);
    return step(
        t, &(struct txn_input){.what = is_ack ? TXN_IN_ACK : TXN_IN_REQUEST, .tm = tm, .now = now});
}

unsigned txn_recv_response(struct txn *t, int status, const struct txn_timers *tm, mono_ns now)
{
    DCHECK(t->kind < TXN_INVITE_SERVER);
    return step(
        t, &(struct txn_input){.what = TXN_IN_RESPONSE, .status = status, .tm = tm, .now = now});
}

unsigned txn_reply(struct txn *t, int status, const struct txn_timers *tm, mono_ns now)
{
    DCHECK(t->kind >= TXN_INVITE_SERVER);
    return step(t,
                &(struct txn_input){.what = TXN_IN_REPLY, .status = status, .tm = tm, .now = now});
}

unsigned txn_transport_error(struct txn *t, mono_ns now)
{
    return step(t, &(struct txn_input){.what = TXN_IN_ERROR, .now = now});
}

unsigned txn_expire(struct txn *t, const struct txn_timers *tm, mono_ns now)
{
    struct txn_input in = {.tm = tm, .now = now};
    /* A late call may find both due. The state is over then: one more copy on the wire would find
     * nobody waiting for its answer. */
    if (t->timeout_at <= now)
        in.what = TXN_IN_TIMEOUT;
    else if (t->retransmit_at <= now)
        in.what = TXN_IN_RETRANSMIT;
    else
        return 0;
    return step(t, &in);
}

const char *txn_state_name(enum txn_state s)
{
    static const char *const names[] = {"calling",   "trying",    "proceeding", "accepted",
                                        "completed", "confirmed", "terminated"};
    return (unsigned)s < sizeof names / sizeof names[0] ? names[s] : "?";
}

/* ---- shared by the machines ------------------------------------------------------------------ */

dur_ns txn__64_t1(const struct txn_timers *tm)
{
    return tm->t1 < MONO_NONE / 64 ? 64 * tm->t1 : MONO_NONE - 1;
}

uint32_t txn__ms(dur_ns d)
{
    uint64_t ms = d / NS_MS;
    if (ms == 0)
        return 1; /* an interval of nothing would send for ever at one `now` */
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

uint32_t txn__doubled_ms(const struct txn *t, dur_ns max)
{
    uint32_t limit = txn__ms(max);
    return t->interval_ms < limit / 2 ? 2 * t->interval_ms : limit;
}

void txn__retransmit_start(struct txn *t, const struct txn_input *in)
{
    t->retransmit_at = MONO_NONE;
    if (t->reliable)
        return;
    t->interval_ms = txn__ms(in->tm->t1);
    t->retransmit_at = mono_add(in->now, t->interval_ms * NS_MS);
}

unsigned txn__resend(struct txn *t, uint32_t interval_ms, mono_ns now)
{
    t->interval_ms = interval_ms;
    t->retransmit_at = mono_add(now, interval_ms * NS_MS);
    if (t->resends < UINT8_MAX)
        t->resends++;
    return TXN_DO_RESEND;
}

void txn__enter(struct txn *t, enum txn_state state, mono_ns timeout_at)
{
    t->state = (uint8_t)state;
    t->retransmit_at = MONO_NONE;
    t->timeout_at = timeout_at;
}

unsigned txn__end(struct txn *t, unsigned bits)
{
    txn__enter(t, TXN_TERMINATED, MONO_NONE);
    return bits | TXN_DO_GONE;
}
