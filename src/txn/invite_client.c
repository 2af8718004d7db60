/* SPDX-License-Identifier: Apache-2.0
 *
 * INVITE client transaction: RFC 3261 17.1.1 as RFC 6026 7.2 corrected it.
 *
 *   A  Calling    UDP: the INVITE again after T1, 2·T1, 4·T1 … without a ceiling (17.1.1.2).
 *                 A stream repeats by itself.
 *   B  Calling    64·T1, then TIMEOUT: nobody there.
 *   C             not here. It is a rule of the proxy core (16.6 step 11, 16.8), started anew by
 *                 each provisional above 100, and ends in a CANCEL.
 *   D  Completed  UDP: 32 s, for the server repeats its final until our ACK reaches it. Stream: 0.
 *   M  Accepted   64·T1: 2xx of other forks and repeats of a 2xx come through (RFC 6026 8.4). */
#include "txn/txn_int.h"

static const dur_ns timer_d = 32 * NS_S;

static unsigned on_final(struct txn *t, const struct txn_input *in)
{
    if (in->status < 300) {
        txn__enter(t, TXN_ACCEPTED, mono_add(in->now, txn__64_t1(in->tm)));
        return TXN_DO_PASS;
    }
    if (t->reliable)
        return txn__end(t, TXN_DO_ACK | TXN_DO_PASS);
    txn__enter(t, TXN_COMPLETED, mono_add(in->now, timer_d));
    return TXN_DO_ACK | TXN_DO_PASS;
}

/* 17.1.1.2: sent, nothing heard. */
static unsigned on_calling(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_START:
        txn__retransmit_start(t, in);
        t->timeout_at = mono_add(in->now, txn__64_t1(in->tm));
        return 0;
    case TXN_IN_RESPONSE:
        if (in->status >= 200)
            return on_final(t, in);
        txn__enter(t, TXN_PROCEEDING, MONO_NONE);
        return TXN_DO_PASS;
    case TXN_IN_RETRANSMIT:
        return txn__resend(t, txn__doubled_ms(t, MONO_NONE), in->now);
    case TXN_IN_TIMEOUT:
    case TXN_IN_ERROR:
        return txn__end(t, TXN_DO_TIMEOUT);
    default:
        return 0;
    }
}

/* 17.1.1.2: a provisional came, so the server has the request: neither A nor B. */
static unsigned on_proceeding(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_RESPONSE:
        return in->status >= 200 ? on_final(t, in) : TXN_DO_PASS;
    case TXN_IN_ERROR:
        return txn__end(t, TXN_DO_TIMEOUT);
    default:
        return 0;
    }
}

/* RFC 6026 7.2: every 2xx is the user's, who ACKs it end to end. Nothing else is anybody's. */
static unsigned on_accepted(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_RESPONSE:
        return in->status >= 200 && in->status < 300 ? TXN_DO_PASS : 0;
    case TXN_IN_TIMEOUT:
        return txn__end(t, 0);
    default:
        return 0;
    }
}

/* 17.1.1.2: a repeated final means that our ACK was lost. */
static unsigned on_completed(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_RESPONSE:
        return in->status >= 300 ? TXN_DO_ACK : 0;
    case TXN_IN_TIMEOUT:
    case TXN_IN_ERROR:
        return txn__end(t, 0);
    default:
        return 0;
    }
}

unsigned txn__invite_client(struct txn *t, const struct txn_input *in)
{
    switch (t->state) {
    case TXN_CALLING:
        return on_calling(t, in);
    case TXN_PROCEEDING:
        return on_proceeding(t, in);
    case TXN_ACCEPTED:
        return on_accepted(t, in);
    case TXN_COMPLETED:
        return on_completed(t, in);
    default:
        return 0;
    }
}
