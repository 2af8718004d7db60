/* SPDX-License-Identifier: Apache-2.0
 *
 * txn: the four transaction machines of RFC 3261 section 17 as RFC 6026 and RFC 4320 corrected
 * them. A machine is a few bytes of state: it stores no message and no address, sends nothing and
 * arms nothing. Each call returns what the owner has to do now, as bits, and the owner asks for
 * the next deadline when it likes.
 *
 *   INVITE client     Calling ─1xx▶ Proceeding ─2xx▶ Accepted ─M▶ gone
 *                        └─B, error▶ timeout      └─3xx+▶ Completed ─D▶ gone
 *   other client      Trying ─1xx▶ Proceeding ─final▶ Completed ─K▶ gone      (F: timeout)
 *   INVITE server     Proceeding ─2xx▶ Accepted ─L▶ gone
 *                        └─3xx+▶ Completed ─ACK▶ Confirmed ─I▶ gone           (H: no ACK came)
 *   other server      Trying ─1xx▶ Proceeding ─final▶ Completed ─J▶ gone
 *
 *   timer  what                                   UDP         stream
 *   A      INVITE sent again                      T1, ×2      -
 *   B      INVITE gives up                        64·T1       64·T1
 *   D      absorbs repeats of a final             32 s        0
 *   E      request sent again                     T1, ×2, ≤T2 -
 *   F      request gives up                       64·T1       64·T1
 *   G      final response sent again              T1, ×2, ≤T2 -
 *   H      waits for the ACK                      64·T1       64·T1
 *   I      absorbs repeats of the ACK             T4          0
 *   J      absorbs repeats of the request         64·T1       0
 *   K      absorbs repeats of the response        T4          0
 *   L, M   Accepted lasts (RFC 6026)              64·T1       64·T1
 */
#ifndef WEIR_TXN_H
#define WEIR_TXN_H

#include "base/base.h"
#include "sip/sip.h"

enum txn_kind { TXN_INVITE_CLIENT, TXN_OTHER_CLIENT, TXN_INVITE_SERVER, TXN_OTHER_SERVER };

enum txn_state {
    TXN_CALLING,    /* INVITE client: sent, nothing heard */
    TXN_TRYING,     /* other: no response yet */
    TXN_PROCEEDING, /* a provisional was seen (client) or the request is under way (server) */
    TXN_ACCEPTED,   /* a 2xx to INVITE passed; more of them may (RFC 6026) */
    TXN_COMPLETED,  /* final seen or sent */
    TXN_CONFIRMED,  /* INVITE server: ACK came */
    TXN_TERMINATED
};

struct txn_timers {
    dur_ns t1, t2, t4;
};
#define TXN_TIMERS_DEFAULT ((struct txn_timers){500 * NS_MS, 4 * NS_S, 5 * NS_S})

struct txn {
    uint8_t kind;
    uint8_t state;
    bool reliable;
    uint8_t resends;       /* retransmissions that a timer caused; saturates */
    uint32_t interval_ms;  /* of the retransmission under way */
    mono_ns retransmit_at; /* MONO_NONE: nothing to send again */
    mono_ns timeout_at;    /* end of the state */
};

/* What the owner does, in this order, then forgets. */
enum txn_do {
    TXN_DO_RESEND = 1 << 0,  /* client: the request again; server: the last response again */
    TXN_DO_ACK = 1 << 1,     /* INVITE client: ACK this non-2xx final (built anew or resent) */
    TXN_DO_PASS = 1 << 2,    /* the message goes to the user: upstream, or the routing */
    TXN_DO_SEND = 1 << 3,    /* server: send the response just given, and keep it if asked again */
    TXN_DO_TIMEOUT = 1 << 4, /* tell the user: B, F or H fired, or the request could not be sent */
    TXN_DO_GONE = 1 << 5,    /* the machine ended: release it and what it kept */
};

/* Starts a machine. A client has just sent its request; a server has just received one.
 * `reliable`: the transport is a stream. A T1 below 1 ms counts as 1 ms between repeats.
 * An INVITE client in Proceeding and a server without a final answer have no deadline: Timer C
 * and the user's own patience belong to the owner, who may release a machine at any time. */
void txn_start(struct txn *t, enum txn_kind kind, bool reliable, const struct txn_timers *tm,
               mono_ns now);

/* Server: the same request came again, or (INVITE) its ACK. In Accepted, an ACK is passed
 * (it is a 2xx's ACK of RFC 2543 style) and repeats are absorbed. */
MUST_USE unsigned txn_recv_request(struct txn *t, bool is_ack, const struct txn_timers *tm,
                                   mono_ns now);

/* Client: a response with this status matched. A 1xx or final that the machine has no use for
 * returns 0: absorb it. In Accepted every 2xx is passed, other finals are absorbed. */
MUST_USE unsigned txn_recv_response(struct txn *t, int status, const struct txn_timers *tm,
                                    mono_ns now);

/* Server: the user wants to send this status. 0 = not allowed any more (a final went already;
 * or a late 408 to a non-INVITE, RFC 4320): send nothing. In Accepted only 2xx pass.
 * A 408 that a non-INVITE server swallowed starts its last 64·T1: it goes on absorbing repeats,
 * then ends by itself with GONE. */
MUST_USE unsigned txn_reply(struct txn *t, int status, const struct txn_timers *tm, mono_ns now);

/* The owner could not send, and what came of it:
 *   client before a final    TIMEOUT|GONE: the user fails over
 *   INVITE client Completed  GONE: the ACK cannot go, the user has its answer (RFC 3261 17.1.1.2)
 *   server Completed         GONE (17.2.4)
 *   else                     0: what failed was a provisional, or (Accepted, RFC 6026) a 2xx,
 *                            of which the next one may go */
MUST_USE unsigned txn_transport_error(struct txn *t, mono_ns now);

/* Something is due (now >= txn_deadline); 0 when nothing is. Call again while the deadline is not
 * later than now. However late it is called, one retransmission comes out at one `now`: the next is
 * counted from here, so a clock that jumped makes no burst. A timeout that is due goes first. */
MUST_USE unsigned txn_expire(struct txn *t, const struct txn_timers *tm, mono_ns now);

static inline mono_ns txn_deadline(const struct txn *t)
{
    return mono_min(t->retransmit_at, t->timeout_at);
}

static inline bool txn_is_final(const struct txn *t)
{
    return t->state >= TXN_ACCEPTED;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A transaction's identity: 128 bits of keyed hash over everything that RFC 3261 17.2.3 compares.
 * The seed is secret and random per process, so equal keys mean equal transactions (chance of a
 * mistake: 2^-128 a pair), and no text has to be kept. */
struct txn_key {
    uint64_t a, b;
};
static inline bool txn_key_equal(struct txn_key x, struct txn_key y)
{
    return x.a == y.a && x.b == y.b;
}

/* Key of the server transaction that a request belongs to. `as` = the method to match as:
 * SIP_M_INVITE for an ACK, the cancelled method's for a CANCEL, else the request's own.
 * With an RFC 3261 branch: branch + sent-by + method. Without: Request-URI, From tag, Call-ID,
 * CSeq number, top Via, and the method (17.2.3's old rule; the To tag takes part only where both
 * would have it: never for INVITE, ACK or CANCEL). */
struct txn_key txn_server_key(const struct hash_seed *seed, const struct sip_msg *m,
                              const struct sip_facts *f, enum sip_method as);

/* Key under which merged requests meet (RFC 3261 8.2.2.2): From tag, Call-ID, CSeq, Request-URI,
 * method. Only for requests without To tag. `as` = SIP_M_INVITE finds the INVITE that an ACK of a
 * 2xx belongs to, where the client sends both to one Request-URI. */
struct txn_key txn_merge_key(const struct hash_seed *seed, const struct sip_msg *m,
                             const struct sip_facts *f, enum sip_method as);

/* "calling", "trying" …; "?" for what is no state. */
const char *txn_state_name(enum txn_state s);

#endif
