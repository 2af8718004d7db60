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
#include "observe/observe.h"
#include "pool/pool.h"
#include "sip/sip.h"
#include "step/step.h"
#include "txn/txn.h"

/* ---- options (an immutable snapshot, filled by config) --------------------------------------- */

struct edge_listener {
    bool used;
    struct slice name;       /* for logs; never empty */
    struct slice uri;        /* as configured: identity across reloads */
    struct addr bind;
    uint8_t transport;
    uint8_t side;            /* enum side */
    struct slice host;       /* advertised sent-by host, IPv6 in brackets */
    uint16_t port;           /* advertised */
};

enum { RULE_ANY = 255 };

struct edge_rule {
    uint8_t from;            /* enum side, or RULE_ANY */
    struct slice method;     /* empty = any */
    uint16_t pool;           /* index into pools */
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
    bool strip_foreign_routes;      /* instead of 403 */
    uint8_t hops_max;               /* Max-Forwards cap, 70 */
    struct txn_timers timers;
    dur_ns timer_c;                 /* > 180 s (RFC 3261 16.6.11) */
    dur_ns connect_timeout;
    uint16_t connections_per_target;
    bool log_transactions;
};

/* Sizes of the tables, per worker. Fixed for the life of a process. */
struct edge_limits {
    uint32_t transactions;          /* relays, lingering ones included */
    uint32_t flows;                 /* accepted stream connections */
    uint32_t target_flows;          /* stream connections that we open */
    uint32_t blocks[BLOCK_CLASSES]; /* kept messages by size class */
    uint32_t targets;               /* of all pools together */
    uint16_t pools;
};
void edge_limits_default(struct edge_limits *l);

#endif
