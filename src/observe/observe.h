/* SPDX-License-Identifier: Apache-2.0
 *
 * observe: what a worker counts and tells, as numbers and short byte strings. No text is made here
 * on the worker's time: a finished transaction becomes one fixed record in a ring, and another
 * thread (or the simulator's trace) turns records into lines. */
#ifndef WEIR_OBSERVE_H
#define WEIR_OBSERVE_H

#include "base/base.h"

/* ---- counters -------------------------------------------------------------------------------- */

/* name, help. One table for the struct, `show`, and the documentation. */
#define OBSERVE_COUNTERS(X)                                                                        \
    X(datagrams_in, "datagrams received")                                                          \
    X(messages_in, "SIP messages received")                                                        \
    X(messages_out, "SIP messages sent")                                                           \
    X(requests_in, "requests received")                                                            \
    X(responses_in, "responses received")                                                          \
    X(requests_repeated, "requests absorbed as retransmissions")                                   \
    X(resends, "messages that we sent again because of a timer")                                   \
    X(acks_forwarded, "ACKs of 2xx forwarded without a transaction")                               \
    X(acks_unmatched, "ACKs that match nothing and carry no route of ours: dropped")               \
    X(responses_stray, "responses that match no transaction: dropped")                             \
    X(responses_bad, "responses that could not be read: dropped")                                  \
    X(requests_bad, "requests refused because of their form")                                      \
    X(requests_bad_dropped, "requests so broken that no answer was safe: dropped")                 \
    X(frames_bad, "streams closed because their framing failed")                                   \
    X(loops, "requests refused as loops (482)")                                                    \
    X(merged, "requests refused as merged (482)")                                                  \
    X(hops_exhausted, "requests refused with Max-Forwards 0 (483)")                                \
    X(breadth_exhausted, "requests refused because of Max-Breadth (440)")                          \
    X(routes_refused, "requests with a foreign Route from outside (403)")                          \
    X(routes_stripped, "requests whose foreign Route was taken off")                               \
    X(tokens_bad, "tokens of ours that did not verify")                                            \
    X(flows_failed, "tokens that named a flow that is gone (430)")                                 \
    X(to_fleet, "requests sent to the edge that holds the flow")                                   \
    X(registrations, "REGISTERs answered with 200")                                                \
    X(registrations_refused, "REGISTERs refused, those without credentials included")              \
    X(registrations_unstored, "REGISTERs answered with 500, for the store failed or was silent")   \
    X(calls_to_phones, "requests delivered to the phones of a registered user")                    \
    X(ways_failed, "ways to a phone that failed: another one of it had its turn")                  \
    X(unroutable, "requests that no rule took (404)")                                              \
    X(transactions, "server transactions begun")                                                   \
    X(transactions_refused, "requests refused because a table was full (503)")                     \
    X(requests_shed, "requests refused because there was too much to do (503)")                    \
    X(requests_limited, "requests refused because their source sends too many (503)")              \
    X(sessions_circling, "requests refused because their session came by too often (482)")         \
    X(flows_moved, "connections of phones closed because of a drain or of their age")              \
    X(phones_moved, "REGISTERs answered with 302: another edge shall have that phone")             \
    X(overloads_heard, "answers of targets that asked for less (RFC 7339)")                        \
    X(requests_held_back, "tries not made because the target had asked for less")                  \
    X(failovers, "tries moved to another target")                                                  \
    X(failovers_denied, "tries not moved because the retry budget was spent")                      \
    X(pools_exhausted, "requests for which every option was tried")                                \
    X(cancels, "CANCELs received")                                                                 \
    X(cancels_unmatched, "CANCELs that matched nothing (481)")                                     \
    X(handed_over, "messages handed to another worker")                                            \
    X(sends_failed, "messages that the transport refused")                                         \
    X(connects, "connections opened to targets")                                                   \
    X(connects_failed, "connections that could not be opened")                                     \
    X(connections_reused, "requests sent on a connection that their target opened (RFC 5923)")     \
    X(flows_accepted, "stream connections accepted")                                               \
    X(pings, "keep-alives answered")                                                               \
    X(pings_sent, "keep-alives sent on connections of phones")                                     \
    X(udp_pings, "keep-alives sent to phones that registered over UDP")                            \
    X(udp_pongs, "answers to them")                                                                \
    X(probes, "health probes sent")                                                                \
    X(probes_failed, "health probes without a good answer")                                        \
    X(udp_to_tcp, "requests moved to TCP because of their size")                                   \
    X(log_records, "log records given to the writer")                                              \
    X(log_dropped, "log records lost because the writer was behind")

struct counters {
#define X(name, help) uint64_t name;
    OBSERVE_COUNTERS(X)
#undef X
};

/* ---- the record of a finished transaction ---------------------------------------------------- */

/* End state, two letters in the log: who ended it, and in which phase it was.
 *   who    - it went well            C the client (CANCEL, gone)   S the server (its final answer)
 *          T a timeout               N the network (refused, reset, no connection)
 *          P the edge by its rules   R resources of the edge (a table was full)
 *   phase  R receiving/checking  Q choosing a target  C connecting  H waiting for a first answer
 *          P in progress (a provisional passed)       D after the final answer */
struct log_record {
    uint64_t wall_ns; /* Unix time of arrival, filled by the driver */
    mono_ns arrived;
    uint32_t first_us;      /* arrival to first answer of a target above 100; UINT32_MAX none */
    uint32_t final_us;      /* arrival to final answer sent; UINT32_MAX none */
    uint32_t queue_us;      /* arrival to first forward; UINT32_MAX none */
    uint16_t status;        /* final answer upstream; 0 none */
    uint16_t target_status; /* last final from a target; 0 none */
    uint8_t method;         /* enum sip_method as a number; `method_name` rules when 0 */
    uint8_t tries;
    uint8_t resent_in; /* retransmissions received, saturating */
    uint8_t resent_out;
    char end_who, end_phase;
    uint8_t transport_in, transport_out; /* enum transport; 255 none */
    uint8_t side_in, side_out;           /* 0 outside, 1 inside, 255 none */
    uint8_t worker;
    uint8_t flags;            /* LOG_IN_DIALOG … */
    struct addr source, dest; /* dest.family 0 = never forwarded */
    uint16_t len[8];          /* lengths of the strings packed behind, enum log_text order */
    char text[];
};

enum { LOG_IN_DIALOG = 1, LOG_FROM_TOKEN = 2 };

/* Strings of a record, in the order they are packed; each is cut at LOG_TEXT_BYTES_MAX. */
enum log_text {
    LOG_METHOD_NAME, /* only when method is 0 */
    LOG_CALL_ID,
    LOG_CSEQ,
    LOG_RURI,
    LOG_FROM, /* URI */
    LOG_TO,   /* URI */
    LOG_POOL,
    LOG_REASON /* of our own refusal: what was wrong */
};
enum { LOG_TEXT_BYTES_MAX = 128, LOG_RECORD_BYTES_MAX = sizeof(struct log_record) + 8 * 128 };

/* ---- notices: things that an operator should know -------------------------------------------- */

enum notice {
    NOTICE_TARGET_DOWN = 1, /* a = pool, b = target; text = why */
    NOTICE_TARGET_UP,
    NOTICE_TARGET_EJECTED,
    NOTICE_POOL_PANIC,
    NOTICE_POOL_CALM,
    NOTICE_LOOP,            /* text = Call-ID */
    NOTICE_ROUTE_REFUSED,   /* text = who, which call, the Route */
    NOTICE_TABLE_FULL,      /* text = which */
    NOTICE_POOL_EMPTY,      /* text = the pool: no target may be asked */
    NOTICE_SESSION_CIRCLES, /* text = the Session-ID */
    NOTICE_TLS_FAILED,      /* text = where, whom we expected there, what is wrong */
};

/* ---- writing --------------------------------------------------------------------------------- */

struct log_names { /* constant for a process */
    struct slice node, region, zone;
};

/* With this much room left in `t` any record can be written, and it is written fastest. */
enum { LOG_LINE_BYTES_MAX = 10240 };

/* Appends one line (with newline) for a record, as a JSON object or as logfmt, same names and
 * order: time node region zone worker method status end call_id cseq ruri from to source transport
 * side dest dest_transport dest_side pool tries target_status queue_us first_us final_us resent_in
 * resent_out in_dialog via_token reason. What is absent has no field. Names are cut at
 * LOG_TEXT_BYTES_MAX. Whatever bytes a peer chose, the line is ASCII, and the JSON valid; log.c
 * tells how they are escaped. Returns 0, or -1 when `t` is too small: it is as before then. */
MUST_USE int log_write_json(struct text *t, const struct log_record *r,
                            const struct log_names *names);
MUST_USE int log_write_logfmt(struct text *t, const struct log_record *r,
                              const struct log_names *names);

/* A string of a record; points into it. Its packer keeps each within LOG_TEXT_BYTES_MAX. */
struct slice log_text_of(const struct log_record *r, enum log_text which);

/* ---- histogram ------------------------------------------------------------------------------- */

/* Log-linear: 16 steps per octave, exact below 32, error at most 6.25 % up to 2^35 (9.5 h in µs).
 * All zero is empty; cells saturate. */
enum { HISTOGRAM_CELLS = 32 * 16 };
struct histogram {
    uint64_t count;
    uint64_t max;
    uint32_t cell[HISTOGRAM_CELLS];
};
void histogram_add(struct histogram *h, uint64_t value);
/* The value that `permille` of the samples do not pass: the upper edge of its cell, never above the
 * largest sample; 0 when empty. 0 permille asks for the smallest sample, 1000 for the largest. */
uint64_t histogram_quantile(const struct histogram *h, unsigned permille);
void histogram_merge(struct histogram *into, const struct histogram *from);

#endif
