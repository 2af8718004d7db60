/* SPDX-License-Identifier: Apache-2.0
 *
 * INVITE server transaction: RFC 3261 17.2.1 as RFC 6026 7.1 corrected it.
 *
 *   G  Completed  UDP: the final again after T1, 2·T1 … at most T2 apart, until the ACK.
 *   H  Completed  64·T1 without an ACK, then TIMEOUT. Over a stream too: the ACK may still be
 *                 lost behind us, and a repeat of the INVITE must not open a second call.
 *   I  Confirmed  UDP: T4, to absorb repeats of the ACK. Stream: 0.
 *   L  Accepted   64·T1: more 2xx may be sent, repeats of the INVITE are absorbed: whoever
 *                 answered repeats the 2xx end to end (RFC 6026 7.1). */
#include "txn/txn_int.h"

/* 17.2.1: the user is at work. No timer: Timer C of the core sees to the end. */
static unsigned on_proceeding(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_REQUEST:
        return TXN_DO_RESEND; /* the last provisional, if the owner keeps it */
    case TXN_IN_REPLY:
        if (in->status < 200)
            return TXN_DO_SEND;
        if (in->status < 300) {
            txn__enter(t, TXN_ACCEPTED, mono_add(in->now, txn__64_t1(in->tm)));
            return TXN_DO_SEND;
        }
        txn__enter(t, TXN_COMPLETED, mono_add(in->now, txn__64_t1(in->tm)));
        txn__retransmit_start(t, in);
        return TXN_DO_SEND;
    default:
        return 0;
    }
}

/* RFC 6026 7.1, 8.7. A transport error stays here: the next 2xx may take another way. */
static unsigned on_accepted(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_ACK:
        return TXN_DO_PASS;
    case TXN_IN_REPLY:
        return in->status >= 200 && in->status < 300 ? TXN_DO_SEND : 0;
    case TXN_IN_TIMEOUT:
        return txn__end(t, 0);
    default:
        return 0;
    }
}

/* 17.2.1: a final above 2xx went, and the ACK is awaited. */
static unsigned on_completed(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_REQUEST:
        return TXN_DO_RESEND;
    case TXN_IN_ACK:
        if (t->reliable)
            return txn__end(t, 0);
        txn__enter(t, TXN_CONFIRMED, mono_add(in->now, in->tm->t4));
        return 0;
    case TXN_IN_RETRANSMIT:
        return txn__resend(t, txn__doubled_ms(t, in->tm->t2), in->now);
    case TXN_IN_TIMEOUT:
        return txn__end(t, TXN_DO_TIMEOUT);
    case TXN_IN_ERROR:
        return txn__end(t, 0);
    default:
        return 0;
    }
}

/* 17.2.1: the ACK came; its repeats are absorbed until I. */
static unsigned on_confirmed(struct txn *t, const struct txn_input *in)
{
    return in->what == TXN_IN_TIMEOUT ? txn__end(t, 0) : 0;
}

unsigned txn__invite_server(struct txn *t, const struct txn_input *in)
{
    switch (t->state) {
    case TXN_PROCEEDING:
        return on_proceeding(t, in);
    case TXN_ACCEPTED:
        return on_accepted(t, in);
    case TXN_COMPLETED:
        return on_completed(t, in);
    case TXN_CONFIRMED:
        return on_confirmed(t, in);
    default:
        return 0;
    }
}
