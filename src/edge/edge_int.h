/* SPDX-License-Identifier: Apache-2.0
 *
 * edge_int: what the files of this room share. Never included from outside it. */
#ifndef WEIR_EDGE_INT_H
#define WEIR_EDGE_INT_H

#include "edge/edge.h"
#include "guard/guard.h"

enum { NO_POOL = UINT16_MAX, NO_TRY = UINT32_MAX, RESOLVED_MAX = EVENT_ADDRS_MAX };

/* Where something came from, and so where its answer goes. */
struct origin {
    struct flow_id flow; /* gen 0 for datagrams */
    struct addr source;
    uint8_t listener;
    uint8_t transport;
    uint8_t side;
};

/* What a call to a registered user has come to; its ways lie in relay.hops. See fork.c. */
struct fork {
    block_ref best;       /* the best final so far, as it would go up */
    uint32_t spent;       /* bit per way: tried, or not to be tried any more */
    uint32_t resolving;   /* bit per way: its name is asked for */
    uint16_t best_status; /* 0: none came */
    uint16_t q;           /* of the group under way */
    uint8_t ways;
    uint8_t abreast; /* branches at a time, … */
    uint8_t breadth; /* … each with this Max-Breadth (RFC 5393 5.3.3) */
};
enum { NO_WAY = 255, WAY_BITS = 5 };
_Static_assert((int)REGISTRAR_TARGETS_MAX <= 1 << WAY_BITS, "a bit each in fork.spent");

/* A phone whose address a NAT may give to another one: see flow.h. */
static inline bool is_phone_by_udp(const struct origin *from)
{
    return from->transport == TP_UDP && from->side == SIDE_OUTSIDE;
}

static inline bool is_sip(const struct sip_uri *u)
{
    return u->scheme == SIP_SCHEME_SIP || u->scheme == SIP_SCHEME_SIPS;
}

/* One request on its way. What it keeps of messages lies in blocks and goes as soon as nobody can
 * ask for it any more; then relay, try and a small block come to 1 KiB. */
struct relay {
    struct wheel_node timer;
    struct txn server;
    struct txn_key key;
    uint64_t merge; /* half of a key is enough here; 0: takes no part */
    struct origin from;
    block_ref request;  /* as it left last (or as it will leave); gone after the final */
    block_ref response; /* last response sent upstream, while it can be asked for again */
    block_ref log;      /* record under way */
    block_ref hops;     /* struct resolved[]: next hops by DNS that are left; of a fork: its ways;
                           of a REGISTER: its records, until they are stored */
    mono_ns arrived;
    mono_ns give_up_at; /* one deadline over all tries; MONO_NONE once it rings */
    mono_ns timer_c_at;
    uint64_t loop_hash;
    uint64_t call_hash;
    union {
        struct pool_tried tried;
        struct fork fork; /* where `forks` */
    };
    uint32_t flow_next, flow_prev; /* other relays that the same connection waits for */
    uint32_t first_try;            /* slot of the newest try; the others follow by `older` */
    union {
        uint32_t from_tag; /* hash */
        uint32_t phone;    /* of a REGISTER over UDP from outside: who registers; else 0 */
    };
    uint16_t pool; /* NO_POOL: one hop, or those of `hops` */
    uint8_t method;
    uint8_t tries;
    uint8_t own_vias, own_routes; /* lines of ours on top of `request` */
    uint8_t side_out;
    uint8_t hop_count, hop_next; /* in `hops` */
    uint8_t resent_in, resent_out;
    uint8_t transport_out;
    bool record_route : 1;
    bool ringing : 1;   /* a provisional above 100 went upstream: never fail over */
    bool cancelled : 1; /* by upstream */
    bool answered : 1;  /* a final went upstream */
    bool on_flow : 1;
    bool trying_due : 1; /* a 100 of ours, trying_delay after arrival, if nothing else goes first */
    bool caller_gone : 1; /* its connection broke: nobody is left to answer */
    bool resolving : 1;
    bool in_dialog : 1, by_token : 1;
    bool own_path : 1, own_contacts : 1; /* `request` has them (path.c) */
    bool inside_only : 1;
    bool forks : 1;
    bool fork_due : 1; /* there was no room in the step for more branches */
    bool storing : 1;  /* what `hops` holds is on its way to the store */
    uint16_t target_status;
    uint32_t first_us;
    uint32_t queue_us;
    struct addr dest; /* of the newest try, for the log */
};

/* One attempt at one next hop; also our CANCEL of it, and a health probe (no relay). */
enum try_kind { TRY_REQUEST, TRY_CANCEL, TRY_PROBE };

struct hop {
    struct addr addr;
    handle target;       /* none: not of a pool */
    struct flow_id flow; /* gen 0: none fixed */
    uint8_t transport;
    uint8_t side;
    bool has_tcp;
    bool alias;       /* our Via says that the connection may be used for requests to us as well */
    bool fixed_flow;  /* this very connection or nothing (430); over UDP: this phone (see
                         phone.c: flow = {0, its hash, the worker that hears it}) at this address,
                         from this listener */
    uint8_t listener; /* LISTENER_NONE: choose */
};

struct
try {
    struct wheel_node timer;
    struct txn client;
    struct hop hop;
    handle relay;   /* none for probes */
    handle cancel;  /* our CANCEL of this try */
    block_ref sent; /* bytes to send again: ACK, CANCEL or probe; a request's own bytes are
                       relay.request while it is the newest try, but stand here in a fork */
    uint64_t nonce; /* 48 bits in the branch */
    mono_ns sent_at;
    mono_ns no_answer_at;          /* try timeout; MONO_NONE once it is moot */
    uint32_t older;                /* next try of the relay */
    uint32_t flow_next, flow_prev; /* other tries on the same connection */
    uint8_t kind;
    uint8_t method;
    uint8_t way; /* of a fork; NO_WAY: not one of its branches */
    bool acked;  /* of a fork: `sent` holds the ACK by now, and no longer the request */
    bool on_flow;
    bool heard_100;
    bool rings;       /* a provisional above 100 came */
    bool abandoned;   /* the relay has moved on */
    bool want_cancel; /* CANCEL as soon as a provisional allows it */
    bool cancel_sent; /* once, whether or not there was room for its transaction */
    bool broken;      /* its connection is gone, or never came: judged by the timer */
    bool judged;      /* pool_end was called */
    bool tcp_by_size; /* may fall back to UDP */
};

/* A listener of ours as others name it, ready to be compared with. */
struct own_name {
    struct addr bind;
    struct addr named; /* `host` if it is numeric, with the advertised port; else family 0 */
    struct slice host;
    uint16_t port;
    uint16_t port_default; /* of its transport */
};

/* A token that has been verified in this step, of the message at hand. */
struct verified {
    struct slice user, call_id; /* p NULL: none */
    struct token token;
};

struct egress {
    uint8_t listener[TP__COUNT][2][2]; /* [transport][family 6][side] */
};

/* Connections of other workers that tries and relays of this one hang on, by generation. */
enum { REMOTE_FLOWS = 64 };
struct remote {
    uint32_t users, askers; /* heads of lists, as in struct flow */
};

/* A drain under way, and what was learnt of who follows a 302. See drain.c. */
enum { DRAIN_AGENTS = 64, DRAIN_MOVED = 4096 };
struct moved_agent {
    uint64_t hash; /* of its name; 0 = none */
    uint16_t sent, came_back;
};
struct moved_phone {
    mono_ns at;
    uint32_t phone;
};
struct drain {
    mono_ns began, next_at;
    dur_ns within;
    uint32_t phones; /* connections of phones when it began */
    uint32_t closed; /* of these */
    uint32_t cursor;
    mono_ns recycled; /* the pace of recycling, see rate_take() */
    struct moved_agent agent[DRAIN_AGENTS];
    struct moved_phone moved[DRAIN_MOVED];
};

struct edge {
    const struct edge_opts *opts;
    struct edge_limits limits;
    struct slab relays, tries;
    struct map by_key, by_merge;
    struct blocks blocks;
    struct flows *flows;
    struct phones *phones;
    struct pools *pools;
    struct registrar *registrar; /* NULL: this process runs none */
    struct guard *guard;
    struct overload *overload; /* of each target, by its slot */
    struct remote remote[REMOTE_FLOWS];
    uint32_t storing; /* head of the relays that wait for the store; FLOW_END ends */
    struct wheel wheel;
    struct egress egress;
    struct own_name own[LISTENERS_MAX]; /* the first own_count */
    uint32_t own_count;
    struct counters count;

    uint32_t worker, workers, process_generation;
    struct hash_seed seed;
    struct rng rng;
    bool draining;
    struct drain drain;
    mono_ns emergencies[2]; /* of strangers, of the known: see rate_take() */
    uint32_t relays_open;

    /* The step under way. */
    struct actions *out;
    mono_ns now;
    uint64_t wall_ns;
    struct sip_msg msg; /* the event's message */
    struct sip_facts facts;
    struct verified verified;
    struct sip_msg kept; /* a kept request, read again */
    struct sip_edits edits;
    uint8_t edits_vias, edits_routes; /* lines of ours that the edits put on top … */
    bool edits_path, edits_contacts;  /* a Path line, or Contacts, of ours */
    uint8_t edits_drop_vias;          /* … and Via lines of ours that they take off */
};

/* ---- edge.c: lifetime ------------------------------------------------------------------------ */
uint32_t target_slots(const struct edge_limits *l);
struct relay *relay_of(const struct edge *e, const struct try *t);
uint32_t since_us(mono_ns later, mono_ns earlier);
bool relay_is_over(const struct relay *r);
void relay_arm(struct edge *e, struct relay *r);
void relay_arm_exactly(struct edge *e, struct relay *r);
void try_arm_exactly(struct edge *e, struct try *t);
void relay_free(struct edge *e, struct relay *r);
void relay_settle(struct edge *e, struct relay *r);
void try_arm(struct edge *e, struct try *t);
struct try *try_new(struct edge *e, struct relay *r, enum try_kind kind, handle *ret_handle);
void try_free(struct edge *e, struct try *t);
void try_outlive(struct edge *e, struct try *t);
void try_judge(struct edge *e, struct try *t, enum pool_outcome o, dur_ns retry_after);
void relay_join_flow(struct edge *e, struct relay *r);
void relay_leave_flow(struct edge *e, struct relay *r);
struct relay *relay_at(const struct edge *e, uint32_t slot);
void try_join_flow(struct edge *e, struct try *t, struct flow *w);
void try_leave_flow(struct edge *e, struct try *t);
void try_join_remote(struct edge *e, struct try *t);
bool try_is_live(const struct try *t);
struct try *newest_try(struct edge *e, const struct relay *r);
struct try *try_at(const struct edge *e, uint32_t slot);

/* ---- address.c: who is who ------------------------------------------------------------------- */
bool is_own_host(const struct edge *e, struct slice host, uint16_t port);
bool is_trusted(const struct edge *e, const struct addr *a);
bool is_inside(const struct edge *e, const struct addr *a);
uint8_t hop_side(const struct edge *e, const struct addr *a);
bool is_own_address(const struct edge *e, const struct addr *a);
bool outsider_may_reach(const struct edge *e, const struct addr *a);
uint8_t egress_for(const struct edge *e, const struct addr *dest, uint8_t transport, uint8_t side);
void egress_build(struct edge *e);
void own_names_build(struct edge *e);
uint8_t side_of(struct edge *e, uint8_t listener, const struct addr *source, struct flow_id flow);

/* ---- branch.c -------------------------------------------------------------------------------- */
struct branch {
    uint32_t worker;
    uint32_t process_generation;
    handle of; /* the try */
    uint64_t nonce;
    uint64_t loop_hash;
    bool alias; /* not of its text: the Via says that the connection may be used for requests to us
                   as well (RFC 5923) */
};
enum { BRANCH_TEXT_BYTES = 43 };
void branch_put(struct text *t, const struct branch *b);
MUST_USE int branch_parse(struct slice s, struct branch *ret_branch);
uint64_t loop_hash_of(const struct edge *e, const struct sip_msg *m, const struct sip_facts *f);
bool passed_here(const struct edge *e, const struct sip_msg *m);
bool loops_here(const struct sip_msg *m, uint64_t loop_hash);

/* ---- emit.c: actions ------------------------------------------------------------------------- */
struct action *emit(struct edge *e, enum action_kind kind);
struct text scratch_text(struct edge *e, size_t cap);
void scratch_keep(struct edge *e, const struct text *t);
struct slice scratch_copy(struct edge *e, struct slice bytes);
void emit_bytes(struct edge *e, struct action *a, struct slice bytes);
void emit_to(struct edge *e, const struct origin *to, struct slice bytes);
void emit_udp(struct edge *e, uint8_t listener, const struct addr *dest, struct slice bytes);
void emit_flow(struct edge *e, struct flow_id flow, struct slice bytes);
void emit_hand(struct edge *e, uint32_t to, struct hand head, struct slice bytes);
void emit_phone(struct edge *e, const struct hop *hop, struct slice bytes);
void emit_close(struct edge *e, struct flow_id flow);
void emit_notice(struct edge *e, enum notice n, struct slice text);

/* ---- answer.c: answers of our own, and the log ------------------------------------------------
 */
struct slice retry_after(struct edge *e, uint64_t seconds);
void answer_stateless(struct edge *e, const struct origin *to, const struct sip_fault *fault,
                      struct slice extra);
void answer_edited(struct edge *e, const struct origin *to, const struct sip_fault *fault,
                   struct slice extra);
bool acks_our_refusal(const struct edge *e);
void relay_answer(struct edge *e, struct relay *r, int status, struct slice reason,
                  struct slice extra);
bool relay_resend(struct edge *e, struct relay *r);
void relay_ends_silently(struct edge *e, struct relay *r);
void relay_answer_100(struct edge *e, struct relay *r);
void relay_send_up(struct edge *e, struct relay *r, int status, struct slice bytes);
void log_begin(struct edge *e, struct relay *r);
void log_end(struct edge *e, struct relay *r, int status, char who, char phase,
             struct slice reason);
void log_refused(struct edge *e, const struct origin *from, const struct sip_fault *fault,
                 char who);
void log_answered(struct edge *e, const struct origin *from, int status, struct slice reason,
                  char who);
char phase_of(const struct edge *e, const struct relay *r);

/* ---- request.c, route.c ------------------------------------------------------------------------
 */
enum where_kind { WHERE_POOL, WHERE_HOP, WHERE_NAME, WHERE_ROLE, WHERE_REFUSED };
struct where {
    enum where_kind kind;
    uint16_t pool;
    struct hop hop;
    struct slice name; /* WHERE_NAME */
    uint16_t port;
    uint8_t name_transport; /* 255: not given */
    struct sip_fault refused;
    bool by_token;
    bool inside_only;      /* an outsider's dialog: may lead nowhere but inside, … */
    uint32_t callee;       /* … or, if not 0, to the host with this hash */
    struct sip_uri target; /* WHERE_ROLE: the Request-URI that counts, … */
    struct slice aor;      /* … and whose it is (role.c) */
};
void edge_on_request(struct edge *e, const struct origin *from, const struct event *ev,
                     unsigned hops);
void edit_hops(struct edge *e);
bool token_verify(struct edge *e, struct slice user, struct token *ret_token);
void route_request(struct edge *e, const struct origin *from, struct where *w);
bool route_to_uri(struct edge *e, struct where *w, const struct sip_uri *u);

/* ---- shed.c ------------------------------------------------------------------------------------
 */
bool shed_request(struct edge *e, const struct origin *from, const struct event *ev, unsigned hops);
bool is_emergency(const struct edge *e, const struct sip_msg *m);
void shed_note(struct edge *e, const struct origin *from, enum guard_what what);
void shed_done(struct edge *e, const struct relay *r);
void shed_done_elsewhere(struct edge *e, struct flow_id flow, struct slice answer);
bool session_circles(struct edge *e);
void edit_session(struct edge *e);

/* ---- overload.c --------------------------------------------------------------------------------
 */
void put_oc(struct text *t);
void oc_forget(struct edge *e);
void oc_heard(struct edge *e, const struct try *t, const struct event *ev);
bool oc_admits(struct edge *e, const struct relay *r, handle target);
struct slice oc_answer(struct edge *e, const struct origin *to, struct slice bytes);

/* ---- drain.c -----------------------------------------------------------------------------------
 */
bool flow_is_phone(const struct flow *w);
void flow_call(struct edge *e, struct flow_id id, bool begins);
void drain_note_answer(struct edge *e, const struct relay *r, const struct try *t);
bool drain_takes_register(struct edge *e, const struct origin *from);
mono_ns drain_deadline(const struct edge *e);
void drain_run(struct edge *e);
void drain_show(struct edge *e, struct text *t);
uint32_t recycle_look_s(const struct edge *e, const struct flow *w);
bool recycle_flow(struct edge *e, struct flow *w);

/* ---- reuse.c: whom we meet over TLS -----------------------------------------------------------
 */
const struct edge_peer *peer_of(const struct edge *e, const struct hop *hop);
bool peer_named(const struct edge *e, struct slice host, uint16_t port, struct addr *ret_addr);
void reuse_note(struct edge *e, const struct event *ev);
struct flow *reuse_for(struct edge *e, const struct edge_peer *peer);

/* ---- record.c, path.c -------------------------------------------------------------------------
 */
void put_listener(struct text *t, const struct edge_listener *l);
void push_record_routes(struct edge *e, struct relay *r, const struct try *t);
struct token_end end_of_origin(const struct edge *e, const struct origin *from);
bool path_has_room(struct edge *e, const struct origin *from);
void push_path(struct edge *e, struct relay *r, const struct try *t);
void drop_path(struct edge *e, const struct relay *r);
bool contact_original(struct edge *e, const struct sip_uri *u, struct slice *ret_original);
uint32_t phone_of(const struct sip_msg *m);
void restore_contacts(struct edge *e);
void phone_registered(struct edge *e, struct relay *r);

/* ---- keepalive.c ------------------------------------------------------------------------------
 */
void keepalive_begin(struct edge *e, struct flow *w);
mono_ns keepalive_deadline(const struct edge *e);
void keepalive_run(struct edge *e);
uint64_t keepalive_life(const struct sip_msg *request, const struct sip_msg *answer);
uint64_t keepalive_life_by(struct edge *e, const struct sip_msg *request, struct slice lines);
void keepalive_phone(struct edge *e, uint8_t listener, const struct addr *a, uint64_t life);
void keepalive_claim(struct edge *e, const struct reg_phone *phone, struct slice aor);
bool keepalive_takes_pong(struct edge *e, const struct event *ev, unsigned hops);

/* ---- forward.c --------------------------------------------------------------------------------
 */
void relay_begin(struct edge *e, struct relay *r, const struct where *w);
bool relay_retry_udp(struct edge *e, struct relay *r, struct try *t);
bool relay_is_late(const struct edge *e, const struct relay *r);
void relay_next(struct edge *e, struct relay *r, struct slice why, int status);
enum launch { LAUNCHED, LAUNCH_UNREACHABLE, LAUNCH_HELD_BACK, LAUNCH_NO_ROOM, LAUNCH_TOO_LARGE };
enum launch launch(struct edge *e, struct relay *r, const struct hop *hop, uint8_t way);
bool keep_prepared(struct edge *e, struct relay *r);
void refuse_unkept(struct edge *e, struct relay *r);
void answer_no_room(struct edge *e, struct relay *r);
bool relay_index_kept(struct edge *e, struct relay *r);
bool try_index_sent(struct edge *e, struct relay *r, const struct try *t);
void edit_length(struct edge *e);
void edits_begin(struct edge *e, const struct sip_msg *m, uint8_t own_vias);
void try_resend(struct edge *e, struct try *t);
void try_failed(struct edge *e, struct try *t, enum pool_outcome o, dur_ns retry_after, int status);
bool edits_from_kept(struct edge *e, struct relay *r);
struct slice serialise_edited(struct edge *e);
MUST_USE int keep_edited(struct edge *e, struct relay *r, struct slice *ret_bytes);
struct flow *flow_for(struct edge *e, struct hop *hop);
void put_via(struct edge *e, struct text *t, uint8_t transport, uint8_t listener,
             const struct branch *b);
void relay_resolve(struct edge *e, struct relay *r, const struct where *w, unsigned way);
void ack_forward(struct edge *e, const struct origin *from);
void ack_follow(struct edge *e, const struct origin *from, const struct hop *hop);
void ack_resolved(struct edge *e, struct relay *r, const struct event *ev);
void relay_resolved(struct edge *e, const struct event *ev);
struct slice via_line(struct edge *e, const struct try *t);
void try_send_bytes(struct edge *e, struct try *t, struct slice bytes);
MUST_USE int hop_open(struct edge *e, struct try *t);

/* ---- role.c, fork.c: the registrar ------------------------------------------------------------
 */
bool role_is_here(struct edge *e, const struct origin *from, const struct event *ev, unsigned hops,
                  struct where *w);
bool role_takes_ack(struct edge *e, const struct event *ev, unsigned hops);
bool role_has_domain(const struct edge *e, const struct sip_uri *uri);
bool role_judge(struct edge *e, const struct origin *from, struct slice *ret_records);
void role_store(struct edge *e, struct relay *r, struct slice records);
void role_unlink(struct edge *e, struct relay *r);
void role_store_silent(struct edge *e, struct relay *r);
void role_flow_gone(struct edge *e, struct flow_id flow);
void role_binding_gone(struct edge *e, uint64_t binding);
void role_expire(struct edge *e);
/* The AOR that a person means who typed `alice@Example.com`, `sip:alice@example.com` or that in
 * brackets: canonical, in `t` of REGISTRAR_AOR_BYTES_MAX bytes; what is none of our domains' (any
 * more) as it stands. */
struct slice role_typed_aor(struct edge *e, struct slice typed, struct text *t);
void phone_is_at(struct edge *e, uint8_t listener, const struct addr *a, uint32_t phone);
void fork_begin(struct edge *e, struct relay *r, const struct where *w);
void fork_go(struct edge *e, struct relay *r);
void fork_failed(struct edge *e, struct relay *r, const struct try *t, struct slice bytes);
void fork_way_failed(struct edge *e, struct relay *r, struct try *t, int status);
void fork_rings(struct edge *e, struct relay *r, const struct try *t);
bool fork_has_alternative(struct edge *e, const struct relay *r, const struct try *t);
void fork_cancelled(struct edge *e, struct relay *r);
void fork_gives_up(struct edge *e, struct relay *r);
void fork_resolved(struct edge *e, struct relay *r, unsigned way, const struct event *ev);
bool fork_retry_udp(struct edge *e, struct relay *r, struct try *t);

/* ---- response.c, cancel.c, probe.c, timer.c -----------------------------------------------------
 */
void edge_on_response(struct edge *e, const struct event *ev, unsigned hops);
void edge_on_cancel(struct edge *e, const struct origin *from, const struct event *ev,
                    unsigned hops);
void relay_cancelled(struct edge *e, struct relay *r);
void relay_cancel_tries(struct edge *e, struct relay *r, const struct try *except);
void try_cancel(struct edge *e, struct try *t);
void put_options(struct text *t, const struct addr *to, uint8_t transport, struct slice via,
                 struct slice user, struct slice host, uint64_t tag, uint64_t call_id);
void probes_run(struct edge *e);
void probe_answered(struct edge *e, struct try *t, int status);
void probe_failed(struct edge *e, struct try *t);
void emit_handover(struct edge *e, const struct event *ev, uint32_t to, unsigned hops);

#endif
