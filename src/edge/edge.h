/* SPDX-License-Identifier: Apache-2.0
 *
 * edge: what a SIP load balancer does with a message. One request is one relay: a server
 * transaction towards whoever asked, and one try after another towards whoever may answer.
 *
 *      upstream                    relay                        targets
 *      ────────▶ server txn ──▶ ┌────────────────┐ ──▶ try 0: client txn ──▶ 10.0.1.10   503
 *                               │ kept request   │ ──▶ try 1: client txn ──▶ 10.0.2.10   180, 200
 *      ◀──────── answer     ◀── │ deadline, pool │
 *                               └────────────────┘
 *
 * Order of decisions: side, sanity, loops, Route trust, where, forward, fail over. */
#ifndef WEIR_EDGE_H
#define WEIR_EDGE_H

#include "base/base.h"
#include "flow/flow.h"
#include "guard/guard.h"
#include "observe/observe.h"
#include "pool/pool.h"
#include "registrar/registrar.h"
#include "sip/sip.h"
#include "step/step.h"
#include "txn/txn.h"

/* ---- options (an immutable snapshot, filled by config) --------------------------------------- */

struct edge_listener {
    bool used;
    struct slice name; /* for logs; never empty */
    struct slice uri;  /* as configured: identity across reloads */
    struct addr bind;
    uint8_t transport;
    uint8_t side;      /* enum side */
    struct slice host; /* advertised sent-by host, IPv6 in brackets */
    uint16_t port;     /* advertised */
    bool proxy;        /* its sources are what a balancer says: they make nobody trusted */
    uint64_t vouchers; /* hash of who may sign the certificates of its clients; 0 = nobody is asked
                        */
};

enum { RULE_ANY = 255 };

enum edge_role { ROLE_NONE, ROLE_REGISTRAR };

struct edge_rule {
    uint8_t from;        /* enum side, or RULE_ANY */
    struct slice method; /* empty = any */
    uint16_t pool;       /* index into pools, when role is ROLE_NONE */
    uint8_t role;        /* enum edge_role: one that this process runs */
};

/* Who is expected at an address over TLS: a target of a pool, or a neighbour. */
struct edge_peer {
    struct addr addr;
    struct slice name; /* that its certificate must prove; an address without brackets */
    uint64_t expects;  /* hash of the name, of who may vouch for it, and of whom we say to be */
    uint64_t vouchers; /* hash of who may vouch for it; 0 = no connection of its is used for ours */
    uint16_t client;   /* the driver's: by which of its clients we connect */
    bool shows_cert;   /* we show a certificate there */
};

/* Another edge of the fleet: a token of its is sent there (its inside address). */
struct edge_neighbour {
    uint16_t id; /* its node.id */
    uint8_t transport;
    struct addr addr;
};

/* How a registrar behind us learns the way back (RFC 3327, or for those that know no Path). */
enum edge_path { PATH_HEADER, PATH_CONTACT, PATH_OFF };

/* Keep-alives that we send on stream flows from outside: first after `every` of silence, the pause
 * growing by half each time up to `max` while the flow lives, each ± jitter. 0 = none. On those of
 * mobile clients always after `mobile_every`. To phones that registered over UDP after `udp` of
 * silence, or sooner by up to the jitter; 0 = none. */
struct edge_keepalive {
    dur_ns every, max;
    uint8_t jitter_percent;
    dur_ns udp;
    dur_ns mobile_every;
    const struct slice *mobile_agents; /* who says one of these in its User-Agent is mobile; so is
                                          who has itself woken by pushes (RFC 8599) */
    uint16_t mobile_agent_count;
};
enum { MOBILE_AGENTS_MAX = 64 };

/* How phones are moved to another edge. */
struct edge_moving {
    struct slice to; /* Contact of a 302 to their REGISTER, in <>; empty: there is none */
    const struct slice *agents; /* what begins the User-Agent of those that follow it */
    uint16_t agent_count;
    bool learn;           /* try others too; who comes back regardless is not asked again */
    dur_ns within;        /* a drain closes all flows within this, at an even pace */
    dur_ns recycle_after; /* a flow lives this long ± jitter, then is moved; 0 = for ever */
    uint8_t recycle_jitter_percent;
};

struct edge_opts {
    struct slice node_name, region, zone;
    uint16_t node_id;
    struct edge_listener listener[LISTENERS_MAX]; /* by id; ids survive reloads */
    const struct prefix *trusted;
    uint16_t trusted_count;
    const struct edge_rule *rules;
    uint16_t rule_count;
    const struct pool_opts *pools;
    uint16_t pool_count;
    struct token_keys keys;
    bool strip_foreign_routes; /* instead of 403 */
    uint8_t hops_max;          /* Max-Forwards cap, 70 */
    struct txn_timers timers;
    dur_ns trying_delay; /* 100 goes after this long without an answer; 0 = at once */
    dur_ns timer_c;      /* > 180 s (RFC 3261 16.6.11) */
    dur_ns connect_timeout;
    uint16_t connections_per_target;
    bool log_transactions;
    const struct edge_neighbour *fleet;
    uint16_t fleet_count;
    uint8_t path; /* enum edge_path */
    struct edge_keepalive keepalive;
    const struct edge_peer *peers; /* sorted by the bytes of addr; pool_target_opts.peer is a
                                      place + 1 */
    uint32_t peer_count;
    struct registrar_opts registrar;
    struct guard_opts guard;
    struct edge_moving moving;
    const struct slice *emergency; /* user parts that are emergency calls: "112" */
    uint16_t emergency_count;
    bool session_id; /* add a Session-ID (RFC 7989) where there is none */
    bool overload;   /* RFC 7339: ask targets for it, answer those inside who ask */
};

/* Sizes of the tables, per worker. Fixed for the life of a process. */
struct edge_limits {
    uint32_t transactions;          /* relays, lingering ones included */
    uint32_t flows;                 /* accepted stream connections */
    uint32_t target_flows;          /* stream connections that we open */
    uint32_t blocks[BLOCK_CLASSES]; /* kept messages by size class */
    uint32_t targets;               /* of all pools together */
    uint16_t pools;
    uint32_t bindings; /* of the registrar; 0 = this process runs none */
    struct guard_limits guard;
};
void edge_limits_default(struct edge_limits *l);

/* ---- one worker's edge ------------------------------------------------------------------------
 */

struct edge;

struct edge_birth {
    uint32_t worker, workers;
    uint32_t process_generation;
    struct hash_seed seed; /* shared by the workers of a process, secret */
    struct rng rng;
    uint64_t prng_seed;
    struct fault *fault; /* NULL in life */
};

/* Boot memory, in bytes. */
size_t edge_memory(const struct edge_limits *l);

/* NULL when the memory is too small or the options do not fit the limits. */
struct edge *edge_new(struct arena *mem, const struct edge_opts *opts, const struct edge_limits *l,
                      const struct edge_birth *birth, mono_ns now);

/* Takes new options between events; those before them may be freed afterwards. 0, or -1 when they
 * do not fit (nothing is changed then). */
MUST_USE int edge_adopt(struct edge *e, const struct edge_opts *opts, mono_ns now);

/* Begins a step: where actions go, what time it is. Every call below belongs to one step. */
void edge_step_begin(struct edge *e, mono_ns now, uint64_t wall_ns, struct actions *out);

/* A datagram, a framed message, a framing fault, a ping: `hops` workers have passed it on so far.
 */
void edge_on_message(struct edge *e, const struct event *ev, unsigned hops);
void edge_on_frame_fault(struct edge *e, const struct event *ev);
void edge_on_ping(struct edge *e, const struct event *ev);
/* A sign of life that is not SIP. */
void edge_on_alive(struct edge *e, const struct event *ev);
/* Connections and datagrams that failed. */
void edge_on_flow_opened(struct edge *e, const struct event *ev);
void edge_on_flow_closed(struct edge *e, const struct event *ev);
void edge_on_connect_failed(struct edge *e, const struct event *ev);
void edge_on_unreachable(struct edge *e, const struct event *ev);
void edge_on_resolved(struct edge *e, const struct event *ev);
/* The store's word on a REGISTER, and what it held at start. */
void edge_on_stored(struct edge *e, const struct event *ev);
void edge_on_binding(struct edge *e, const struct event *ev);
/* A connection of another worker is gone; `others`: bit per worker that has yet to hear of it. */
void edge_on_flow_gone(struct edge *e, struct flow_id flow, uint64_t others);
/* A phone (flow.slot) has registered over UDP from `source`. `how` 0: this worker hears it, and
 * `others` is keepalive_life(); else the one that does says so: enum phones_news; `others`: bit per
 * worker that has yet to hear of it. */
void edge_on_phone(struct edge *e, const struct event *ev, unsigned how, uint64_t others);
/* Another worker had a call begin or end on a connection of ours. */
void edge_on_call(struct edge *e, struct flow_id flow, bool begins);
/* Ends all bindings of an AOR, as a URI or "user@domain"; appends a row that tells how many. */
void edge_unbind(struct edge *e, struct slice argument, struct text *t);
/* Bytes from another worker for `flow`, a connection of ours, or over UDP for the phone that it
 * names at `source`. */
void edge_on_send(struct edge *e, const struct event *ev);
/* Everything that is due. */
void edge_on_timer(struct edge *e);
mono_ns edge_deadline(const struct edge *e);

/* New dialogs are refused from now on, phones are moved away at an even pace within `within` (0: as
 * configured); what is under way goes on. */
void edge_drain(struct edge *e, dur_ns within);
void edge_undrain(struct edge *e);
/* "pool uri ready|drain|maint"; 0, or -1 with *ret_why (static). */
MUST_USE int edge_set_target(struct edge *e, struct slice argument, struct slice *ret_why);

/* Rows of JSON lines for one command_kind, from *cursor on, as many as fit `t`; *cursor = 0 at the
 * end. `argument`: of CMD_SHOW_BINDINGS, an AOR or nothing. */
void edge_show(struct edge *e, enum command_kind what, struct slice argument, uint64_t *cursor,
               struct text *t);

/* Whether an accepted connection from outside is of no use to anybody now: nobody registered over
 * it, no call and nothing else is under way on it, and no certificate named its peer. Then
 * *ret_last_in is when the peer last showed a sign of life. */
bool edge_flow_is_spare(struct edge *e, struct flow_id flow, mono_ns *ret_last_in);

/* Its guard, for the driver to ask at the door. */
struct guard *edge_guard(struct edge *e);

/* What was counted since birth; it goes on counting. */
const struct counters *edge_counters(const struct edge *e);
struct edge_load {
    uint32_t relays, tries, blocks, flows;
    uint32_t relays_open;
};
/* What is alive now: all zero when everything ended and every connection is gone. */
struct edge_load edge_load(const struct edge *e);

#endif
