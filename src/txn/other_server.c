/* SPDX-License-Identifier: Apache-2.0
 *
 * Server transaction of every method but INVITE and ACK: RFC 3261 17.2.2, RFC 4320.
 *
 *   J  Completed           UDP: 64·T1, to answer repeats of the request with the same final.
 *                          Stream: 0.
 *      Trying, Proceeding  no timer of the RFC. When the user wants to send a 408 it comes too
 *                          late: the client has given up already, or would take it for the
 *                          fault of somebody nearer (RFC 4320 4.2). Nothing is sent; the machine
 *                          absorbs repeats for another 64·T1 and is gone. */
#include "txn/txn_int.h"

static unsigned on_reply(struct txn *t, const struct txn_input *in)
{
    if (in->status == 408) {
        t->timeout_at = mono_min(t->timeout_at, mono_add(in->now, txn__64_t1(in->tm)));
        return 0;
    }
    if (in->status < 200) {
        t->state = TXN_PROCEEDING;
        return TXN_DO_SEND;
    }
    if (t->reliable)
        return txn__end(t, TXN_DO_SEND);
    txn__enter(t, TXN_COMPLETED, mono_add(in->now, txn__64_t1(in->tm)));
    return TXN_DO_SEND;
}

/* 17.2.2: nothing was sent yet, so nothing can be sent again: repeats are absorbed. */
static unsigned on_trying(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_REPLY:
        return on_reply(t, in);
    case TXN_IN_TIMEOUT:
        return txn__end(t, 0);
    default:
        return 0;
    }
}

/* 17.2.2: repeats draw the last provisional, if the owner keeps it. */
static unsigned on_proceeding(struct txn *t, const struct txn_input *in)
{
    return in->what == TXN_IN_REQUEST ? TXN_DO_RESEND : on_trying(t, in);
}

/* 17.2.2: repeats draw the final; what else the user says is thrown away. */
static unsigned on_completed(struct txn *t, const struct txn_input *in)
{
    switch (in->what) {
    case TXN_IN_REQUEST:
        return TXN_DO_RESEND;
    case TXN_IN_TIMEOUT:
    case TXN_IN_ERROR:
        return txn__end(t, 0);
    default:
        return 0;
    }
}

unsigned txn__other_server(struct txn *t, const struct txn_input *in)
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
