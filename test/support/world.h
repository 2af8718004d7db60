/* SPDX-License-Identifier: Apache-2.0
 *
 * One engine, a manual clock, and SIP written by hand: what a test says happens, and what the
 * engine does about it is a list of short lines.
 *
 *      test ──"INVITE sip:…"──▶ ┌────────┐ ──actions──▶ lines: "0 udp0 alice 100 INVITE"
 *           ──world_run(ms)───▶ │ engine │                    "0 udp2 a INVITE"
 *           ──faults──────────▶ └────────┘              and messages, kept by receiver
 *
 *   line                         meaning
 *   "<ms> udp<l> <peer> <what>"  datagram from listener <l>; <what> = "INVITE" or "180 INVITE"
 *   "<ms> tcp <peer> <what>"     message on a connection with <peer>
 *   "<ms> connect <peer>"        "<ms> close <peer>"
 *   "<ms> resolve <name>:<port>/<transport>"
 *   "<ms> hand <worker> <what>"
 *   "<ms> ping <peer>"           our keep-alive
 *   "<ms> store" for a REGISTER, "<ms> store end" for what waits for nobody
 *   "<ms> log <method> <status> <end> <tries>"    only with `show_log`
 *   "<ms> notice <number>"                        only with `show_notices`
 *
 * Four listeners: 0 udp and 1 tcp outside at 192.0.2.1:5060, 2 udp and 3 tcp inside at
 * 10.0.0.1:5060; 4 and 5 udp on [2001:db8::1] and [fd00::1]. Peers have names: alice, bob, carol
 * (198.51.100.*) outside; a, b, c, d the pool's targets; proxy (10.1.0.99) a trusted host; mallory
 * outside. */
#ifndef WEIR_TEST_WORLD_H
#define WEIR_TEST_WORLD_H

#include "engine/engine.h"

enum {
    WORLD_LINES_MAX = 4096,
    WORLD_LINE_BYTES = 160,
    WORLD_MESSAGES_MAX = 4096,
    WORLD_PEERS = 16,
    WORLD_TARGETS_MAX = 8,
    WORLD_HANDED_MAX = 16,
    WORLD_STORES_MAX = 16,
};

struct world_message {
    struct addr peer;
    struct flow_id flow; /* gen 0: a datagram */
    char *p;
    size_t n;
};

struct world {
    struct engine *engine;
    struct engine_opts opts; /* what world_start() and world_adopt() take a copy of */
    struct {
        struct engine_opts opts;
        struct pool_opts pool;
        struct pool_target_opts target[WORLD_TARGETS_MAX];
    } snapshot[4];
    unsigned snapshot_count;
    struct pool_opts pool;
    struct pool_target_opts target[WORLD_TARGETS_MAX];
    struct edge_rule rule[4];
    struct prefix trusted[2];
    struct fault fault;
    struct arena memory, scratch;
    struct actions *out;
    mono_ns now, began;
    uint64_t seed;
    uint64_t next_gen;
    uint32_t worker, workers;
    bool show_log, show_notices;
    bool is_its_own_peer; /* requests with Vias of ours come from others, too */
    bool connects_fail;   /* each ACT_CONNECT is answered by EV_CONNECT_FAILED */
    bool connects_hang;   /* nothing answers it; else EV_FLOW_OPENED follows at once */
    bool batch_is_full;   /* each step has the least room that a driver may leave it */
    bool store_hangs;     /* ACT_STORE is answered by world_stored(), not at once */
    int store_error;      /* what EV_STORED says */
    dur_ns waited;        /* what the driver says of each message */
    uint64_t store_id[WORLD_STORES_MAX];
    unsigned store_count;
    char line[WORLD_LINES_MAX][WORLD_LINE_BYTES];
    unsigned line_count;
    struct world_message message[WORLD_MESSAGES_MAX];
    unsigned message_count;
    struct {
        uint8_t worker;
        size_t n;
        char *p; /* struct hand, then the bytes */
    } handed[WORLD_HANDED_MAX];
    unsigned handed_count;
    struct {
        struct flow_id id;
        struct addr peer;
        uint8_t listener;
        bool open;
    } flow[512];
    unsigned flow_count;
    uint64_t resolve_id, resolve_id_before; /* of the last ACT_RESOLVE, and the one before */
    char end[4];                                   /* of the last log record, "-D" */
    _Alignas(8) char record[LOG_RECORD_BYTES_MAX]; /* the last one: see world_record() */
    uint64_t records;
    char *page; /* what the last command answered */
    size_t page_n;
    int page_error;
    uint64_t page_cursor;
};

/* Everything that a test may want to be different, before the engine is born:
 *      struct world *w = world_plan(); w->pool.… = …; world_start(w);
 * Health checks and slow start are off, targets a, b, c by round-robin. */
struct world *world_plan(void);
void world_start(struct world *w);
struct world *world_new(void); /* both */
/* Fails the test when the engine was left with a deadline that makes no headway. */
void world_free(struct world *w);

/* The clock goes on, and whatever becomes due is stepped at its time. */
void world_run(struct world *w, uint64_t ms);
/* Until nothing is alive any more: fails after `ms`. */
void world_drain(struct world *w, uint64_t ms);

struct addr world_peer(const char *name);

/* A datagram. LF in `text` becomes CRLF; Content-Length is added when there is none. */
void world_udp(struct world *w, uint8_t listener, const char *from, const char *text);
/* A connection of a peer; then messages on it. */
struct flow_id world_accept(struct world *w, uint8_t listener, const char *from);
void world_tcp(struct world *w, struct flow_id flow, const char *text);
void world_close(struct world *w, struct flow_id flow, int error);
void world_connected(struct world *w, struct flow_id flow);
void world_connect_failed(struct world *w, struct flow_id flow);
/* The flow that the engine opened last; that to a peer. */
struct flow_id world_last_flow(const struct world *w);
struct flow_id world_flow_to(const struct world *w, const char *peer);
/* The last message to `peer` could not be delivered. */
void world_unreachable(struct world *w, const char *peer);
void world_resolved(struct world *w, const char *const *peers, unsigned count);
/* The store's answer to all that waits for one. */
void world_stored(struct world *w);
void world_adopt(struct world *w, int expected);
void world_command(struct world *w, uint8_t command, const char *argument);
/* Gives what this one handed over to another. */
void world_hand(struct world *from, struct world *to);
/* The last log record. */
const struct log_record *world_record(const struct world *w);
/* Any event, as it is. */
int world_step(struct world *w, const struct event *ev);

/* Requests. `extra` = header lines, LF-ended, or NULL. Branches are "z9hG4bK-<branch>". */
char *world_request(const char *method, const char *uri, const char *from, const char *branch,
                    const char *extra); /* to be freed */
void world_invite(struct world *w, const char *from, const char *branch);
void world_send(struct world *w, const char *from, const char *method, const char *branch,
                const char *extra);
/* ACK and CANCEL of the INVITE with this branch, To as in the last final that the peer got. */
void world_ack(struct world *w, const char *from, const char *branch);
void world_cancel(struct world *w, const char *from, const char *branch);
/* A request within the dialog of the last 2xx that `peer` (the caller) got, or of the last INVITE
 * that it (the callee) got and answered; route set and target as RFC 3261 12 says. */
char *world_in_dialog(struct world *w, const char *caller, const char *callee, bool by_caller,
                      const char *method, const char *branch);

/* Answers the last request of `method` (NULL: any) that `peer` got. `extra` as above. The To tag is
 * the peer's name. */
void world_answer(struct world *w, const char *peer, const char *method, int status,
                  const char *extra);
char *world_response(struct world *w, const char *peer, const char *method, int status,
                     const char *tag, const char *extra);              /* to be freed */
void world_reply(struct world *w, const char *peer, const char *text); /* by the way it came */

/* The last message to `peer`, NULL when there is none; the last with this first word. */
const char *world_last(const struct world *w, const char *peer);
const char *world_last_request(const struct world *w, const char *peer, const char *method);
/* Value of the n-th header of this name in a message; "" when absent. Static, until next call. */
const char *world_header(const char *message, const char *name, unsigned n);
bool world_has(const char *message, const char *needle);

/* Compares what was done since the last time with these lines, in order, then forgets it. */
void world_expect(struct world *w, const char *file, int line, const char *const *lines);
#define EXPECT(w, ...)                                                                             \
    world_expect((w), __FILE__, __LINE__, (const char *const[]){__VA_ARGS__, NULL})
#define EXPECT_NOTHING(w) world_expect((w), __FILE__, __LINE__, (const char *const[]){NULL})
void world_forget(struct world *w); /* lines only */
/* The scene's time zero. */
void world_restart_clock(struct world *w);

#endif
