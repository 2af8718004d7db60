/* SPDX-License-Identifier: Apache-2.0
 *
 * Client transaction of every method but INVITE and ACK: RFC 3261 17.1.2.
 *
 *   E  Trying      UDP: the request again after T1, 2·T1 … at most T2 apart.
 *      Proceeding  UDP: the one under way, then every T2: a provisional does not stop it, for no
 *                  other message makes the server repeat its final (17.1.2.2).
 *   F  both        64·T1 from the start, then TIMEOUT. A provisional does not stop it either.
 *   K  Completed   UDP: T4, to absorb repeats of the final. Stream: 0. */
#include "txn/txn_int.h"

static unsigned on_final(struct txn *t, const struct txn_input *in)
{
    if (t->reliable)
        return txn__end(t, TXN_DO_PASS);
    txn__enter(t, TXN_COMPLETED, mono_add(in->now, in->tm->t4));
    return TXN_DO_PASS;
}

/* 17.1.2.2: no response yet. */
static unsigned on_trying(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_START:
        txn__retransmit_start(t, in);
        t->timeout_at = mono_add(in->now, txn__64_t1(in->tm));
        return 0;
    case TXN_IN_RESPONSE:
        if (in->status >= 200)
            return on_final(t, in);
        t->state = TXN_PROCEEDING; /* E and F run on */
        return TXN_DO_PASS;
    case TXN_IN_RETRANSMIT:
        return txn__resend(t, txn__doubled_ms(t, in->tm->t2), in->now);
    case TXN_IN_TIMEOUT:
    case TXN_IN_ERROR:
        return txn__end(t, TXN_DO_TIMEOUT);
    default:
        return 0;
    }
}

/* 17.1.2.2: the server has it, but only we keep the answer coming. */
static unsigned on_proceeding(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_RESPONSE:
        return in->status >= 200 ? on_final(t, in) : TXN_DO_PASS;
    case TXN_IN_RETRANSMIT:
        return txn__resend(t, txn__ms(in->tm->t2), in->now);
    case TXN_IN_TIMEOUT:
    case TXN_IN_ERROR:
        return txn__end(t, TXN_DO_TIMEOUT);
    default:
        return 0;
    }
}

/* 17.1.2.2: repeats of the final are absorbed until K. Nothing is sent, so nothing can fail. */
static unsigned on_completed(struct txn *t, const struct txn_input *in)
{
    return in->what == TXN_IN_TIMEOUT ? txn__end(t, 0) : 0;
}

unsigned txn__other_client(struct txn *t, const struct txn_input *in)
{
    switch (t->state) {
    case TXN_TRYING:
        return on_trying(t, in);
    case TXN_PROCEEDING:
        return on_proceeding(t, in);
    case TXN_COMPLETED:
        return on_completed(t, in);
    default:
        return 0;
    }
}
