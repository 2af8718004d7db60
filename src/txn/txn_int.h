/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the room: what the four machines share. Never included from outside.
 *
 *   txn.c ──input──▶ txn__<machine>() ──by state──▶ on_<state>() ──▶ bits of enum txn_do
 */
#ifndef WEIR_TXN_INT_H
#define WEIR_TXN_INT_H

#include "txn/txn.h"

/* What can happen to a machine. */
enum txn_what {
    TXN_IN_START,      /* a client has sent its request, a server has received one */
    TXN_IN_RESPONSE,   /* client: `status` came */
    TXN_IN_REQUEST,    /* server: the request came again */
    TXN_IN_ACK,        /* INVITE server */
    TXN_IN_REPLY,      /* server: the user wants to send `status` */
    TXN_IN_ERROR,      /* the owner could not send */
    TXN_IN_RETRANSMIT, /* retransmit_at is due: A, E, G */
    TXN_IN_TIMEOUT,    /* timeout_at is due: the rest */
};

struct txn_input {
    enum txn_what what;
    int status;
    const struct txn_timers *tm;
    mono_ns now;
};

unsigned txn__invite_client(struct txn *t, const struct txn_input *in);
unsigned txn__other_client(struct txn *t, const struct txn_input *in);
unsigned txn__invite_server(struct txn *t, const struct txn_input *in);
unsigned txn__other_server(struct txn *t, const struct txn_input *in);

/* 64·T1: the life of a transaction (B, F, H, J, L, M). */
dur_ns txn__64_t1(const struct txn_timers *tm);

/* Starts A, E or G: first after T1. Nothing over a stream. */
void txn__retransmit_start(struct txn *t, const struct txn_input *in);

/* One retransmission goes out now; the next is one interval from now. */
unsigned txn__resend(struct txn *t, uint32_t interval_ms, mono_ns now);

/* The interval after this one: doubled, at most `max`. */
uint32_t txn__doubled_ms(const struct txn *t, dur_ns max);
uint32_t txn__ms(dur_ns d);

/* Enters `state`, with nothing to send again, until `timeout_at`. */
void txn__enter(struct txn *t, enum txn_state state, mono_ns timeout_at);

/* Ends the machine: `bits` and GONE. */
unsigned txn__end(struct txn *t, unsigned bits);

#endif
