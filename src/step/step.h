/* SPDX-License-Identifier: Apache-2.0
 *
 * step: the values that cross the border between a worker's brain and the world. A driver (net or
 * sim) turns what happened into an event, steps the engine, and then does what the actions say.
 * Effects are values: nothing calls back, nothing re-enters.
 *
 *        driver                         engine
 *      ┌─────────┐  event + now       ┌────────┐
 *      │ sockets │ ─────────────────▶ │ decide │
 *      │ clock   │ ◀───────────────── │        │
 *      └─────────┘  actions           └────────┘
 */
#ifndef WEIR_STEP_H
#define WEIR_STEP_H

#include <sys/uio.h>
#include "base/base.h"

/* A connection, and no other: never an address, never anything that the peer wrote. The driver
 * numbers connections that it accepted (slots from 0); the engine numbers those that it asks for
 * (slots from FLOW_OUT). A generation is never used twice in a process. */
struct flow_id {
    uint64_t gen; /* 0 = none */
    uint32_t slot;
    uint32_t worker;
};
enum { FLOW_OUT = 1 << 30 };
#define FLOW_NONE ((struct flow_id){0, 0, 0})

static inline bool flow_id_equal(struct flow_id a, struct flow_id b)
{
    return a.gen == b.gen && a.slot == b.slot && a.worker == b.worker;
}

/* ---- events ---------------------------------------------------------------------------------- */

enum event_kind {
    EV_TIMER,          /* the deadline came (or just: time passed) */
    EV_DATAGRAM,       /* bytes = one datagram; listener, source */
    EV_MESSAGE,        /* bytes = one framed message of a stream; flow, listener, source */
    EV_FRAME_FAULT,    /* bytes = what came before framing failed; error = enum sip_err; flow … */
    EV_PING,           /* double CRLF, on a stream or as a datagram; flow or source */
    EV_FLOW_OPENED,    /* accepted, or a connect of ours succeeded; flow, listener, source = peer */
    EV_FLOW_CLOSED,    /* flow is gone; error = errno or 0 */
    EV_CONNECT_FAILED, /* flow (of ours) never came to be; error = errno */
    EV_UNREACHABLE,    /* a datagram could not be delivered: bytes = its beginning as sent,
                          source = where it was to go; error = errno */
    EV_RESOLVED,       /* id of ACT_RESOLVE; addrs, addr_count (0 = no such name), error */
    EV_HANDED,         /* from another worker: an event of above inside; hops */
    EV_CONFIG,         /* opts = new const struct engine_opts *, already validated */
    EV_COMMAND,        /* from the control socket: command, bytes = its argument, id */
    EV_ALIVE,          /* flow: the peer is there, but said nothing in SIP (a pong, a lone CRLF) */
    EV_STORED,         /* id of ACT_STORE: error 0 = durable, else errno and nothing is stored */
    EV_BINDING,        /* at start, before anything else: bytes = records read from the store; to
                          every worker all of them */
};

enum { EVENT_ADDRS_MAX = 8 };

struct resolved {
    struct addr addr;
    uint8_t transport; /* enum transport */
};

enum command_kind {
    CMD_SHOW_POOLS,
    CMD_SHOW_TRANSACTIONS,
    CMD_SHOW_FLOWS,
    CMD_SHOW_COUNTERS,
    CMD_TARGET,        /* bytes = "pool uri ready|drain|maint" */
    CMD_DRAIN,         /* refuse new dialogs, move phones away; in-dialog goes on. bytes = within
                          how many ms the phones shall be gone, or nothing: as configured */
    CMD_SHOW_BINDINGS, /* bytes = an AOR, or nothing for all */
    CMD_UNBIND,        /* bytes = an AOR: its bindings end */
    CMD_UNDRAIN,       /* everything is welcome again */
    CMD_SHOW_DRAIN,    /* one row: how far it is */
    CMD_SHOW_GUARD,    /* totals, lists, sources */
    CMD_GUARD,         /* bytes = guard_edit()'s order */
};

struct event {
    uint8_t kind;
    uint8_t listener;  /* id of the listener it came in on; LISTENER_NONE for ours */
    uint8_t transport; /* enum transport */
    uint8_t command;   /* EV_COMMAND */
    uint16_t hops;     /* EV_HANDED: workers that it has passed already */
    uint16_t addr_count;
    int error;
    struct flow_id flow;
    struct addr source;
    dur_ns waited;      /* EV_DATAGRAM, EV_MESSAGE: from its arrival at this machine to now, as far
                           as the driver knows */
    struct slice bytes; /* the driver's; valid until the actions have been executed */
    uint64_t id;
    uint64_t cursor;  /* CMD_SHOW_*: where to go on; 0 = start */
    uint64_t wall_ns; /* Unix time; only for log records */
    const struct resolved *addrs;
    const void *opts;
};
enum { LISTENER_NONE = 255 };

/* ---- actions --------------------------------------------------------------------------------- */

enum action_kind {
    ACT_SEND,      /* a datagram: listener's socket -> dest; iov */
    ACT_SEND_FLOW, /* on a stream: flow; iov. A flow still connecting queues it. */
    ACT_CONNECT,   /* open `flow` to dest by transport, from listener's address if it has one;
                      timeout_ns; over TLS `text` is whom its certificate must name (empty: the
                      address) and `id` which client of the configuration's connects; answered by
                      EV_FLOW_OPENED or EV_CONNECT_FAILED */
    ACT_CLOSE,     /* close `flow` once what was queued has left */
    ACT_HANDOVER,  /* give `hand` to another worker: it gets an EV_HANDED */
    ACT_RESOLVE,   /* RFC 3263: name, port (0 none), transport (255 = not given), id */
    ACT_LOG,       /* record: struct log_record, to the writer */
    ACT_NOTICE,    /* notice id, text */
    ACT_PING,      /* `flow`: the transport's keep-alive (CRLF CRLF; a WebSocket ping) */
    ACT_STORE,     /* make the registrar's records in iov durable, in order; id != 0: answered by
                      EV_STORED */
    ACT_REPLY,     /* to the control socket: id, iov[0] = rows of JSON lines, cursor of the next
                      page or 0, error (0 fine, else an errno-like code with text in iov) */
};

/* What a handed-over event looks like in a ring: this head, then the bytes. */
struct hand {
    uint8_t kind; /* EV_DATAGRAM, EV_MESSAGE, EV_FLOW_CLOSED …, or HAND_SEND */
    uint8_t listener;
    uint8_t transport;
    uint8_t from_worker;
    uint16_t hops;
    uint16_t reserved;
    uint32_t len;        /* bytes that follow */
    struct flow_id flow; /* of the message's arrival; for HAND_SEND: where to send */
    struct addr source;
    uint64_t arrived_wall_ns;
};
enum {
    HAND_SEND = 200, /* "send these bytes on your flow" */
    HAND_FLOW_GONE,  /* "bindings that came over this flow are void"; arrived_wall_ns: bit per
                        worker that has yet to be told */
    HAND_PHONE,      /* "this phone (flow.slot) has registered from `source`, which you hear", or
                        (`reserved` not 0) which somebody hears; arrived_wall_ns: see
                        edge_on_phone() */
    HAND_CALL,       /* "a call begins (`reserved` 1) or ends on your flow" */
};

struct action {
    uint8_t kind;
    uint8_t listener;
    uint8_t transport;
    uint8_t worker;  /* ACT_HANDOVER */
    uint16_t notice; /* ACT_NOTICE: enum notice */
    uint16_t port;
    int error;
    uint32_t iov; /* first entry in actions.iov */
    uint32_t iov_count;
    struct flow_id flow;
    struct addr dest;
    dur_ns timeout_ns;
    uint64_t id;
    uint64_t cursor;
    struct slice text; /* ACT_RESOLVE, ACT_CONNECT: name; ACT_NOTICE: text; ACT_LOG: the record */
    struct hand hand;  /* ACT_HANDOVER; the message is iov */
};

/* The driver's: what a batch of steps produced. iov entries point into the events' bytes and into
 * `scratch`; both live until actions_reset(). */
struct actions {
    uint32_t count;
    uint32_t iov_count;
    struct arena scratch;
    struct action a[STEP_ACTIONS_MAX];
    struct iovec iov[STEP_IOV_MAX];
};

enum {
    /* What one step may need at most; a driver that has less left executes and resets first. */
    STEP_ACTIONS_ROOM = 24,
    STEP_IOV_ROOM = 1024,
    STEP_SCRATCH_ROOM = 512 * 1024,
    STEP_SCRATCH_BYTES = 4 * 1024 * 1024, /* size of the scratch that drivers hand in */
};

static inline void actions_reset(struct actions *out)
{
    out->count = 0;
    out->iov_count = 0;
    arena_reset(&out->scratch);
}

static inline bool actions_have_room(const struct actions *out)
{
    return out->count + STEP_ACTIONS_ROOM <= STEP_ACTIONS_MAX &&
           out->iov_count + STEP_IOV_ROOM <= STEP_IOV_MAX &&
           out->scratch.cap - out->scratch.used >= STEP_SCRATCH_ROOM;
}

#endif
