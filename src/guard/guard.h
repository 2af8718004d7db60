/* SPDX-License-Identifier: Apache-2.0
 *
 * guard: who may come in, and what is done first when not all can be done. Addresses, numbers and
 * slices only. One guard per worker; nothing is shared.
 *
 *      a connection ──▶ guard_accept ── lists, totals, per source, per prefix, pace ──▶ in, or why
 *      a handshake  ──▶ guard_handshake ─ pace of its own; known sources before strangers
 *      a message    ──▶ guard_charge ── what its source does too often ─────────────▶ fine, or why
 *                   └─▶ guard_sheds ─── by class, when the worker's own delay is over its target
 *
 * Limits of a process are split over its workers, as the kernel spreads connections over them:
 * evenly what is of all together; of a source's or a prefix's share each worker allows three times
 * the square root more, for chance is not even, and who keeps to his limit must not be refused.
 * What a source does (but for its connects) is counted in each worker by itself: its datagrams come
 * to one only. In report-only mode every answer is "come in", and what would have been refused is
 * counted by why and by source; bans begin and end, and refuse nobody. An operator's deny is his
 * word, not a limit's: it is heeded in this mode as well. */
#ifndef WEIR_GUARD_H
#define WEIR_GUARD_H

#include "base/base.h"

/* ---- loops (loop.c) --------------------------------------------------------------------------
 */

/* Max-Forwards to send on: missing (-1) becomes `cap`, more than `cap` is lowered to it, else one
 * less. Never raised. Returns the new value, or -1: it was 0, answer 483. RFC 3261 16.6.3. */
int guard_hops(int received, int cap);

/* Hash over what decides where a request goes (RFC 5393 4.2): Request-URI, From and To tags,
 * Call-ID, CSeq number, Route, Proxy-Require, Proxy-Authorization. `parts` in a fixed order, absent
 * ones empty. A request that comes back with the same hash in our own Via branch is a loop; one
 * that comes back changed is a spiral, and welcome. */
uint64_t guard_loop_hash(const struct hash_seed *seed, const struct slice *parts, unsigned count);

/* ---- rates (rate.c) --------------------------------------------------------------------------
 *
 * A token bucket as one point in time (GCRA): the moment at which it would be full again.
 *
 *      now ──────────▶ full_at ────────▶ now + burst × every       full_at beyond that: empty
 *
 * `every` 0: no limit. */
struct rate {
    dur_ns every;   /* between two tokens */
    uint32_t burst; /* tokens that a rested bucket holds, at least 1 */
};
/* `per_second` 0: no limit. `share`: 1/share of the rate and the burst, at least one token. */
struct rate rate_of(uint32_t per_second, uint32_t burst, uint32_t share);
/* Takes one; false when it is empty, and nothing is taken. */
bool rate_take(mono_ns *full_at, struct rate r, mono_ns now);
/* When rate_take() would succeed; `now` if at once. (Sooner, if the rate is a faster one since the
 * last take: only rate_take() can forgive what was owed to a slower one.) */
mono_ns rate_ready_at(mono_ns full_at, struct rate r, mono_ns now);

/* ---- options ---------------------------------------------------------------------------------
 */

/* What a source may do too often. */
enum guard_what {
    GUARD_CONNECTS,  /* connections begun */
    GUARD_REQUESTS,  /* SIP requests that begin something, or belong to nothing: no repeat */
    GUARD_AUTH,      /* failed authentications */
    GUARD_MALFORMED, /* messages that could not be read, garbage on a port */
    GUARD_SCANS,     /* requests to users and places that do not exist: 404 */
    GUARD_WHATS
};

/* Why one is refused. */
enum guard_why {
    GUARD_FINE = 0,
    GUARD_DENIED,      /* an operator's deny list */
    GUARD_BANNED,      /* refused for a while, for what it did */
    GUARD_FULL,        /* all connections together */
    GUARD_SOURCE_FULL, /* its connections */
    GUARD_PREFIX_FULL, /* those of its neighbourhood: /24, /48 */
    GUARD_SOURCE_RATE, /* it does this too often */
    GUARD_PREFIX_RATE, /* its neighbourhood does */
    GUARD_PACE,        /* all together do: for a connection, "not yet" */
    GUARD_WHYS
};
/* "denied", "banned", … for counters, logs and rows. */
struct slice guard_why_name(enum guard_why why);
struct slice guard_what_name(enum guard_what what);

struct guard_opts {
    bool report_only;
    /* Of the process; 0 = no limit. Connections from outside. */
    uint32_t connections_max, per_source_max, per_prefix_max;
    struct rate_opts {
        uint32_t per_second, burst; /* 0 = no limit */
    } accepts[TP__COUNT],           /* of the process, by transport */
        handshakes,                 /* TLS handshakes begun, of the process */
        per_source[GUARD_WHATS], per_prefix[GUARD_WHATS];
    /* A source that is over a rate is refused everything for `ban_first`, doubled each time up to
     * `ban_max`; forgotten step by step, one per `ban_decay` of good conduct. 0 = never banned. */
    dur_ns ban_first, ban_max, ban_decay;
    const struct prefix *exempt; /* never limited nor banned; at most GUARD_EXEMPT_MAX */
    uint16_t exempt_count;
    dur_ns delay_target;    /* a worker's own delay above which it sheds */
    bool drops_unheard;     /* see guard_unheard() */
    dur_ns request_age_max; /* T1: an older request is not worked on */
    dur_ns retry_after_min, retry_after_max;
    uint16_t session_crossings_max; /* of one Session-ID, as new requests, within session_within */
    dur_ns session_within;
};
enum { GUARD_EXEMPT_MAX = 256 };
/* What is off by default is a limit that could cut off an office behind one NAT. */
void guard_opts_default(struct guard_opts *o);

struct guard_limits {
    uint32_t sources; /* that are remembered, per worker; the least important are forgotten */
};

/* ---- lifetime (guard.c) ----------------------------------------------------------------------
 */

struct guard;
/* Boot memory, in bytes. */
size_t guard_memory(const struct guard_limits *l);
/* NULL when `mem` is too small; it is zeroed, as fresh pages are, and stays untouched until sources
 * come. `opts` lives until guard_adopt() replaces it. */
struct guard *guard_new(struct arena *mem, const struct guard_opts *opts,
                        const struct guard_limits *l, uint32_t workers, struct hash_seed seed,
                        uint64_t prng_seed, mono_ns now);
/* New options; what is known of sources stays, and bans go on (or begin to be heeded). */
void guard_adopt(struct guard *g, const struct guard_opts *opts);

/* ---- connections (door.c) --------------------------------------------------------------------
 */

/* May this connection come in? It counts when the answer is GUARD_FINE: tell guard_closed() of its
 * end. Lists, ban, totals, source, prefix, rates, pace, in this order. GUARD_PACE says "later": who
 * asks guard_accept_at() first only hears it for a stranger while known sources come as well, and
 * their share of the tokens is all that is left. A source that connects too often is not banned for
 * it: it may be a crowd behind one NAT that lost its edge. O(1). */
enum guard_why guard_accept(struct guard *g, uint8_t transport, const struct addr *source,
                            mono_ns now);
/* Its end. */
void guard_closed(struct guard *g, const struct addr *source);
/* Before accept(): is there a token for this transport? If not, when to look again. */
mono_ns guard_accept_at(const struct guard *g, uint8_t transport, mono_ns now);
/* A handshake may begin: takes a token; else *ret_at = when, which is counted in report-only mode
 * alone: nobody is refused. Of those who wait the caller begins
 * with the known ones. */
bool guard_handshake(struct guard *g, mono_ns now, mono_ns *ret_at);
/* The source has shown that it belongs here: it registered. A ticket of ours is no such sign, for
 * it may be shown from anywhere. For a day it makes no room for strangers, its neighbours' rates
 * and bans are not held against it, and no datagrams in its name can ban it. Never to be said of
 * what may be a pretence. */
void guard_known(struct guard *g, const struct addr *source, mono_ns now);
bool guard_is_known(const struct guard *g, const struct addr *source, mono_ns now);

/* ---- sources (sources.c) ---------------------------------------------------------------------
 *
 * An IPv4 address, an IPv6 /64; and their prefixes /24, /48, in the same bounded table:
 *
 *      hash(address) ──▶ one set of 8 entries (a few cache lines) ──▶ the entry, or the least
 *                        important of the set makes room: none connected, not banned, longest idle
 *
 * What cannot be remembered because a set is full of more important ones is not limited by itself,
 * only with its prefix and all together. Pretences (datagrams that nothing proves) make room for
 * all others and push out only each other, what is proven pushes out what is proven, what is known
 * only gives way to what is known: a spoofed flood can neither fill the table nor push a connected,
 * banned or known source out of it. */

/* It did `what` once more: GUARD_FINE, or why it is too much (and, over its rate, a ban). `proven`:
 * its address is no pretence (a connection, or it answered): else no ban of a prefix and no ban
 * longer than ban_first follows from it, none at all of a known source, and it takes no more than
 * the upper half of a prefix's tokens. While a ban is in force nothing is charged: GUARD_BANNED. */
enum guard_why guard_charge(struct guard *g, const struct addr *source, enum guard_what what,
                            bool proven, mono_ns now);
/* Is it refused altogether now: denied or banned? The cheap question, before anything is read. */
enum guard_why guard_refused(struct guard *g, const struct addr *source, mono_ns now);
/* The same for what comes over a connection: a ban that only datagrams led to, which anybody may
 * have sent, does not concern it (nor guard_accept()). */
enum guard_why guard_refused_connected(struct guard *g, const struct addr *source, mono_ns now);

/* Sources and denied prefixes that are refused and go on sending (64 times and more), most
 * persistent first, for a filter in the kernel. Returns how many of at most `max`. Never a ban that
 * only datagrams led to, for the filter would stop the true owner's connections; in report-only
 * mode no ban at all. guard_refused() and guard_accept() count the persistence. Behind them stand
 * those who connect too often and do not stop: held off for some seconds, banned they are not. */
unsigned guard_persistent(const struct guard *g, struct prefix *ret_prefixes, unsigned max,
                          mono_ns now);
/* The same and those that only datagrams led to, for a filter of datagrams alone: it drops what
 * guard_refused() refuses. */
unsigned guard_persistent_datagrams(const struct guard *g, struct prefix *ret_prefixes,
                                    unsigned max, mono_ns now);
/* When the refusal of such a prefix ends, for connections as well: its ban, or what an operator
 * said, whichever lasts longer; MONO_NONE: it has no end. For who would shut all of it out of a
 * whole host, so 0 also when somebody in it may come in: he is allowed or exempt, or it is a
 * neighbourhood's ban, which known sources do not feel; and when it is only held off. */
mono_ns guard_persistent_until(const struct guard *g, const struct prefix *p, mono_ns now);
/* Changes whenever these lists have to be asked for again. */
uint64_t guard_persistent_version(const struct guard *g);

/* ---- an operator's lists (list.c) ------------------------------------------------------------
 */

/* "allow PREFIX [for 10m]", "deny PREFIX [for 7d]", "forget PREFIX": the latter also forgets bans
 * and counts of sources in it, and of the neighbourhood that it is in. The longest prefix that
 * holds an address decides; who is allowed is exempt; a denial stands above an exemption by
 * configuration. At most 256. 0, or -1 with *ret_why (static). */
MUST_USE int guard_edit(struct guard *g, struct slice order, mono_ns now, struct slice *ret_why);

/* ---- show (show.c) ---------------------------------------------------------------------------
 */

/* Rows of JSON lines from *cursor on (0 = start), as many as fit; *cursor = 0 at the end: totals
 * and shed level first, then lists, then sources that are banned, limited or busiest. */
void guard_show(struct guard *g, uint64_t *cursor, struct text *t, mono_ns now);

/* What was refused, or would have been in report-only mode. */
struct guard_counters {
    uint64_t refused[GUARD_WHYS]; /* by why; index GUARD_FINE: connections let in */
    uint64_t over[GUARD_WHATS];   /* charges over a rate */
    uint64_t bans;                /* begun */
    uint64_t shed[8];             /* by class, enum guard_class */
    uint64_t aged;                /* requests older than request_age_max: not worked on */
    uint64_t sessions_broken;
    uint64_t sources_forgotten; /* to make room */
};
const struct guard_counters *guard_counters(const struct guard *g);

/* ---- shedding by value (delay.c) -------------------------------------------------------------
 *
 * The worker's delay is how long messages waited before it read them. As long as the shortest wait
 * of each interval (CoDel's idea: a standing queue, not a burst) is over the target, a share of the
 * load is shed, lowest class first; the share follows the delay up and down:
 *
 *      shed level 0 ─────────────────────────────────────────────────────▶ 1
 *      [ probes | new calls | new registrations | refreshes ] [ in dialog, ACK/BYE/CANCEL, sos ]
 *        shed from here on ──▶                                   never by level, only by age  */
enum guard_class {
    CLASS_PROBE,    /* OPTIONS and the like outside of dialogs */
    CLASS_CALL,     /* a new INVITE, SUBSCRIBE, MESSAGE … */
    CLASS_REGISTER, /* a new registration */
    CLASS_REFRESH,  /* REGISTER over a flow that has one, or with a token or ticket of ours */
    CLASS_IN_DIALOG,
    CLASS_FINISHES,  /* ACK, BYE, CANCEL, PRACK: they make the load smaller */
    CLASS_EMERGENCY, /* urn:service:sos, sip:sos@, sip:112@ … by configuration */
    CLASSES
};
/* A message waited this long in front of us, in one of GUARD_QUEUES queues: a socket of datagrams,
 * or all connections of a listener. What waits in a queue is left behind by whoever reads another
 * one, so each has its shortest wait, and the longest of these counts. Called for each message, or
 * for the oldest of a batch; and with 0 when there was nothing to do, for only calls move the
 * level. */
enum { GUARD_QUEUES = LISTENERS_MAX + 1 };
void guard_waited(struct guard *g, unsigned queue, dur_ns waited, mono_ns now);
/* Is this request shed? `waited`: its own. To be asked for each that comes, as the level is shared
 * out by what came. Counts it. In-dialog requests go by age only from 8 × request_age_max on, what
 * finishes and emergencies never. */
bool guard_sheds(struct guard *g, enum guard_class class, dur_ns waited, mono_ns now);
/* The share of new INVITEs over UDP, in 2^-32, that the kernel shall drop before they are read, for
 * to refuse them all would leave no time for anything else. 0 when that is not so, or not wanted.
 */
uint32_t guard_unheard(struct guard *g, mono_ns now);
/* The worker's delay and how much is shed, in permille of what comes, for show and neighbours. */
dur_ns guard_delay(const struct guard *g);
uint32_t guard_shed_permille(const struct guard *g);

/* ---- Retry-After (retry.c) -------------------------------------------------------------------
 *
 * Who is refused is told to come back at a free place of a line that moves as fast as work was
 * really done lately, and no faster:
 *
 *      now ── min ──▶ │▓▓▓▓▓▓▓▓▓▓▓ taken ▓▓▓│ next free ──▶            one place per 1/capacity
 */
/* One more piece of work of this kind ended well: a registration, not its challenge; a call. How
 * much was begun guard_sheds() has counted. */
void guard_done(struct guard *g, enum guard_class class, mono_ns now);
/* Seconds for a Retry-After, between min and max of the options, with jitter. */
uint32_t guard_retry_after_s(struct guard *g, enum guard_class class, mono_ns now);

/* ---- overload control between neighbours, RFC 7339 "loss" (overload.c) ------------------------
 */

/* What a neighbour asked for, at its pool target. 24 bytes, all zero = nothing. */
struct overload {
    mono_ns until; /* oc-validity */
    uint64_t seq;  /* oc-seq as ms.fraction in 1/1000, of the newest heard */
    uint16_t high; /* share of what goes there that is in dialogs or above, in 2^-16 */
    uint8_t loss_percent;
};
/* Takes `oc`, `oc-validity` (ms; 500 if absent), `oc-seq` of the neighbour's answer; old ones are
 * ignored (RFC 7339 4.4). */
void overload_heard(struct overload *o, uint32_t loss_percent, uint32_t validity_ms, uint64_t seq,
                    mono_ns now);
/* May a request of this class be sent there? By `draw`, uniform in [0, 2^64). Asked for each, as it
 * counts the mix. Never refuses CLASS_IN_DIALOG while lower ones can make up for it, and what is
 * above it never (RFC 7339 5.10.1). */
bool overload_admits(struct overload *o, enum guard_class class, uint64_t draw, mono_ns now);
/* What to tell neighbours who speak it: the percentage by which they should send less, 0..100,
 * from this worker's shed level; and its sequence, which grows. */
uint32_t guard_loss_percent(const struct guard *g, uint64_t *ret_seq);

/* ---- circles that reset everything (session.c) -------------------------------------------------
 */

/* A new request of this session (its Session-ID's two UUIDs in either order, hashed) crosses this
 * worker. True when it has done so too often: break the circle (482). Bounded memory; who is
 * counted is only forgotten when `session_within` is over, or when many more cross. The hash is a
 * keyed one: its lower bits choose the place. */
bool guard_session_crosses(struct guard *g, uint64_t session_hash, mono_ns now);

#endif
