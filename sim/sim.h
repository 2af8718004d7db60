/* SPDX-License-Identifier: Apache-2.0
 *
 * sim: the second driver of the engine. One process, one thread, one seed: user agents, two edges,
 * three servers, and a network that loses, doubles, reorders, delays, cuts and resets, in integer
 * nanoseconds. The same seed has the same history, byte for byte.
 *
 *      agents ── outside links ──▶ edge-a ─┐            (flat: both edges face the servers)
 *                                  edge-b ─┴─ inside links ──▶ srv-1 srv-2 srv-3
 *      agents ──▶ edge-a ──▶ edge-b ──▶ servers         (chain)
 *      agents ──▶ edge-a ⇄ edge-b                       (facing: what is asked of one is asked of
 *                                                        the other: every request is a loop)
 *
 *      0 s            heal_at           final_from                quiet_at            end
 *      │ calls, faults   │ all is mended   │ calls that must succeed  │ nothing new     │ all zero?
 *
 * Every component draws from a stream of its own, so that one more draw here moves nothing there.
 */
#ifndef WEIR_SIM_H
#define WEIR_SIM_H

#include <stdio.h>
#include "engine/engine.h"
#include "queue.h"

enum {
    EDGES = 2,
    EDGE_WORKERS_MAX = 2,
    SERVERS = 3,
    AGENTS_MAX = 10,
    NODE_EDGE = 0,
    NODE_SERVER = EDGES,
    NODE_AGENT = EDGES + SERVERS,
    NODES_MAX = NODE_AGENT + AGENTS_MAX,
    CONNS_MAX = 256,
    CLIENTS_MAX = 1024,  /* client transactions of agents and servers that are remembered */
    SERVINGS_MAX = 1024, /* server transactions of theirs */
    CALLS_MAX = 96,
    FAULTS_MAX = 16,
    FLOW_SLOTS = 64, /* accepted connections of one worker */
    SIP_PORT = 5060,
    TEXT_MAX = 4096,  /* a message that an agent or a server writes */
    TRAP_PORT = 6666, /* of places that only strangers name */
    NONE = -1,
};

/* ---- the world's streams of chance ---------------------------------------------------------- */

enum stream {
    RND_PLAN, /* topology, configuration, who does what and when */
    RND_FAULTS,
    RND_STREAMS, /* cuts of TCP */
    RND_HOSTILE,
    RND_OPERATOR, /* commands and reloads */
    RND_RESOLVER,
    RND_EDGE, /* one for each edge from here: what its engines are born with */
    RND_SERVER = RND_EDGE + EDGES,
    RND_AGENT = RND_SERVER + SERVERS,
    RND__COUNT = RND_AGENT + AGENTS_MAX
};

/* ---- what can happen ------------------------------------------------------------------------- */

enum what {
    W_DATAGRAM, /* packet arrives at node */
    W_ICMP,     /* packet (as sent by edge `node`, worker a, listener b) could not be delivered */
    W_SYN,      /* a = conn, c = its generation */
    W_SYN_ACK,
    W_REFUSED,
    W_CONNECT_LATE, /* the connecting end's patience ends */
    W_SEGMENT,      /* a = conn, b = number << 1 | side that it arrives at */
    W_HUNG_UP,      /* a = conn, b = errno << 1 | side */
    W_TICK,         /* edge `node`, worker a: its deadline */
    W_HANDED,       /* edge `node`, worker a; packet = struct hand and the message */
    W_RESOLVED,     /* edge `node`, worker a; c = id; packet = name */
    W_CLIENT,       /* a = client transaction, c = generation */
    W_SERVING,      /* a = server transaction, c = generation */
    W_CALL,         /* a = call, b = enum call_step */
    W_HOSTILE,      /* agent `node` does some mischief */
    W_FAULT,        /* a = fault, b = 1 at its end */
    W_PHASE,        /* a = enum phase */
    W_OPERATOR,     /* a command for edge `node` */
    W__COUNT
};

enum phase { PHASE_FAULTS, PHASE_HEALED, PHASE_FINAL, PHASE_QUIET, PHASE_HUNG_UP, PHASE_END };

/* Beside those of enum command_kind: a new configuration. */
enum { COMMAND_RELOAD = 100, COMMAND_RELOAD_WITHOUT };

enum topology { TOPO_FLAT, TOPO_CHAIN, TOPO_FACING };

/* ---- nodes and links ------------------------------------------------------------------------- */

struct node {
    char name[12];
    struct addr addr[2]; /* an edge: outside, inside; others: [0] */
    bool up;
    bool silent;        /* while down: a black hole instead of a closed port */
    uint32_t life;      /* counts restarts */
    uint16_t port_next; /* ephemeral */
};

struct link { /* one direction between two nodes */
    struct prng rnd;
    dur_ns latency, jitter;
    uint16_t lost_permille, doubled_permille, late_permille;
    uint8_t cuts; /* partitions that lie on it now */
};

/* ---- TCP --------------------------------------------------------------------------------------
 */

struct conn_end {
    uint16_t node;
    uint8_t worker; /* edges */
    uint8_t listener;
    bool gone; /* hung up, or told that the other did */
    bool deaf; /* its framing failed: nothing more is read */
    struct addr addr;
    struct flow_id flow; /* edges */
    mono_ns last_at;     /* arrival of the latest segment on its way here */
    uint32_t sent, seen; /* segments to this end */
    struct sip_framer framer;
    char *in; /* bytes that are not a whole message yet */
    uint32_t in_n, in_cap;
};

enum conn_state { CONN_FREE, CONN_SYN, CONN_OPEN, CONN_DEAD };

struct conn { /* end[0] asked for it */
    uint32_t gen;
    uint8_t state;
    mono_ns opened_at;
    struct conn_end end[2];
    char *early; /* what end[0] wrote before it was open */
    uint32_t early_n;
};

struct conn_ref {
    int32_t i; /* NONE = UDP */
    uint32_t gen;
};

/* ---- edges ------------------------------------------------------------------------------------
 */

struct conf { /* what a configuration file would have said */
    struct engine_opts opts;
    struct edge_rule rule[2];
    struct pool_opts pool[1];
    struct pool_target_opts target[SERVERS];
    struct prefix trusted[1];
    char text[2048];
    size_t text_n;
};

struct sim_worker {
    struct engine *engine;
    void *mem;
    size_t mem_size;
    struct fault fault;
    mono_ns tick_at; /* world time for which a W_TICK is scheduled; MONO_NONE */
    mono_ns last_now;
    uint64_t ticks_ms; /* the millisecond in which `ticks` were counted */
    uint32_t ticks;
    uint32_t idle_ticks;
    uint64_t flow_gen;
    bool slot_taken[FLOW_SLOTS];
};

struct edge_node {
    struct conf conf[2];
    uint8_t conf_now;
    uint32_t generation;   /* of the process */
    dur_ns skew;           /* its clock is ahead of the world's by this */
    mono_ns stalled_until; /* 0: it runs */
    struct sim_worker worker[EDGE_WORKERS_MAX];
};

/* ---- the ends of calls ------------------------------------------------------------------------
 */

struct dialog {
    uint32_t cseq;
    uint32_t invite_cseq;
    char call_id[64];
    char local[96], remote[96]; /* From/To values as they stand in our requests */
    char target[160];           /* remote Contact URI */
    char routes[1024];          /* whole Route lines, in order */
    char next_hop[160];         /* URI of the first Route, or the target */
};

/* FOR_SURE: nothing stands in its way, so it must be answered 200. */
enum purpose { FOR_INVITE, FOR_CANCEL, FOR_BYE, FOR_OTHER, FOR_REINVITE, FOR_NOTHING, FOR_SURE };

struct client { /* a client transaction of an agent or a server */
    bool used;
    bool reliable;
    bool provisional, rang;
    uint8_t method;
    uint8_t purpose;
    uint16_t node;
    uint32_t gen, life;
    uint16_t status; /* of the final response; 0 = none so far */
    int32_t call;    /* agents: index of the call */
    int32_t cancel;  /* client transaction of its CANCEL */
    struct addr dest;
    char branch[48];
    struct packet *sent;
    dur_ns interval;
    mono_ns resend_at, give_up_at, forget_at;
};

struct serving { /* a server transaction, and (INVITE) its dialog */
    bool used;
    bool invite;
    bool accepted; /* a 2xx went; its ACK is awaited or came */
    bool acked;
    bool ended; /* dialog: BYE came or went */
    bool cancelled;
    bool forks;  /* another 2xx, with a tag of its own, goes before ours */
    bool within; /* a re-INVITE: of a dialog, not the maker of one */
    bool hangs_up;
    bool sure; /* began when all was well */
    uint16_t node;
    uint32_t gen, cseq;
    uint64_t key;        /* of the transaction */
    uint64_t dialog_key; /* Call-ID and both tags */
    uint16_t status;     /* last sent */
    uint16_t final;      /* to be sent */
    struct addr source;
    struct conn_ref conn;
    struct packet *request, *last; /* what came; what was answered last */
    char tag[24];
    mono_ns ring_at, final_at, resend_at, give_up_at, hang_up_at, forget_at, info_at;
    dur_ns interval;
    uint32_t retry_after;
    struct dialog dialog;
};

struct server {
    uint16_t fails_permille; /* INVITEs that it answers with a failure of its own */
    bool fails_by_nature;    /* and did so from the start */
    bool silent;             /* answers nothing */
    bool rejects_options;
    bool skips_trying;
    bool uses_sent_by; /* answers where Via says, not where rport says */
    bool has_name;     /* its Contact names a host instead of an address */
};

enum call_kind { CALL_INVITE, CALL_OPTIONS, CALL_MESSAGE };
enum call_state { CALL_WAITS, CALL_INVITING, CALL_TALKS, CALL_LEAVES, CALL_OVER };
enum call_step { STEP_START, STEP_CANCEL, STEP_AGAIN, STEP_HANG_UP, STEP_PATIENCE, STEP_MIDDLE };

struct call {
    bool used;
    bool must_succeed; /* began after everything was mended */
    uint8_t kind, state;
    uint16_t agent; /* node */
    bool confirmed; /* `dialog` is one */
    bool is_long;   /* lasts until all is well: its BYE must find its way then */
    uint64_t body_hash;
    bool hangs_up;  /* the agent does; else the server */
    bool again;     /* sends the INVITE once more at once, as some do */
    uint8_t middle; /* in the middle of it: 1 an INFO, 2 a re-INVITE */
    mono_ns start;
    dur_ns cancel_after, talk, patience;
    int32_t invite; /* client transaction */
    char tag[24];
    struct dialog dialog;
    char extra_tag[3][64]; /* of other 2xx that were hung up on */
    uint8_t extras;
    uint16_t status; /* final answer of the first request; 0 none */
    uint16_t bye_status;
    bool bye_came;
    bool rang;
};

struct agent {
    bool hostile;
    bool tcp;
    bool nat;             /* Via and Contact tell an address that nobody can reach */
    uint8_t edge;         /* that it calls */
    char host[56];        /* what it writes into Via and Contact */
    char route_seen[512]; /* hostile: a Route line lifted from somebody else's dialog */
};

/* ---- faults -----------------------------------------------------------------------------------
 */

enum fault_kind {
    FAULT_SERVER_DOWN,
    FAULT_EDGE_DOWN,
    FAULT_CUT,
    FAULT_STALL,
    FAULT_JUMP,
    FAULT_SLAB,
    FAULT_RESET,
    FAULT_SERVER_SILENT,
    FAULT_SERVER_FAILS,
    FAULT__COUNT
};
struct planned_fault {
    uint8_t kind;
    uint16_t node, peer;
    bool flag;
    mono_ns from;
    dur_ns lasts;
    uint64_t amount;
};

/* ---- the plan ---------------------------------------------------------------------------------
 */

struct plan {
    uint8_t topology;
    uint8_t workers;
    uint8_t agents;
    uint8_t chain_side; /* side on which edge-b meets edge-a */
    bool ipv6;
    bool clean; /* nothing is lost between agents and edges: every call is answered */
    bool tiny;  /* small tables */
    bool health;
    bool storm;         /* all calls within two seconds */
    uint8_t target_tcp; /* 0 UDP, 1 TCP, 2 UDP that may be reached by TCP */
    bool strip_routes;
    bool one_sided; /* outside listeners are all that the edges have */
    bool trusts;    /* the servers' net is trusted by name */
    uint8_t connections_per_target;
    uint32_t transactions; /* of an edge's worker */
    dur_ns timer_c, connect_timeout;
    struct {
        uint8_t balance, tries, budget_percent;
        bool zones, retryable;
        uint32_t eject_after;
        dur_ns health_every, health_timeout, slow_start, try_timeout, within;
    } pool;
    uint16_t call_count; /* before heal_at */
    uint16_t final_count;
    mono_ns heal_at, final_from, quiet_at, hung_up_at, end_at;
    struct planned_fault fault[FAULTS_MAX];
    uint8_t fault_count;
};

/* ---- checks -----------------------------------------------------------------------------------
 */

struct seen; /* check.c: what was seen of one key */
struct seen_table {
    struct seen *cells;
    uint32_t cap, live;
};

struct world {
    uint64_t seed;
    mono_ns now;
    struct queue queue;
    struct prng rnd[RND__COUNT];
    struct plan plan;
    uint8_t phase;
    struct node node[NODES_MAX];
    struct link link[NODES_MAX][NODES_MAX];
    struct conn conn[CONNS_MAX];
    struct edge_node edge[EDGES];
    struct server server[SERVERS];
    struct agent agent[AGENTS_MAX];
    struct call call[CALLS_MAX];
    uint32_t call_count;
    struct client client[CLIENTS_MAX];
    uint32_t client_next;
    struct serving serving[SERVINGS_MAX];
    uint32_t servings; /* those in use are below */
    uint32_t words;    /* counts what must differ: branches, tags */

    uint64_t hash; /* rolling, over everything that happened */
    FILE *trace;   /* NULL: only the hash */
    bool failed;
    char why[512]; /* the invariant that was broken, and how */
    struct seen_table seen;
    const struct event *event; /* that is being stepped */
    bool owes_cancel;
    bool owes_2xx;            /* the event is a 2xx that must go upstream */
    struct addr event_source; /* of the message behind it, hand-overs looked through */
    struct counters counters; /* of all engines, as they died */
    struct {
        uint64_t occurrences, datagrams, steps, calls_answered, calls_tried;
    } sum;
};

/* A header that every INVITE carries: an edge must not touch what it does not know. */
#define ODD_HEADER_NAME  "X-Odd"
#define ODD_HEADER_VALUE "\"; ,\\\"\" <odd>\r\n\t;Via: SIP/2.0/UDP no.example"

/* ---- trace.c ----------------------------------------------------------------------------------
 */

/* Mixes into the rolling hash. */
void trace_mix(struct world *w, uint64_t v);
void trace_mix_bytes(struct world *w, const void *p, size_t n);
/* One readable line; costs nothing when nobody reads. */
#define TRACE(w, node_, ...)                                                                       \
    do {                                                                                           \
        if ((w)->trace != NULL)                                                                    \
            trace_line((w), (node_), __VA_ARGS__);                                                 \
    } while (0)
void trace_line(struct world *w, unsigned node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with a message's first line and the identity of its transaction. */
void trace_message(struct world *w, unsigned node, const char *what, const struct addr *peer,
                   const char *p, size_t n);

/* ---- world.c ----------------------------------------------------------------------------------
 */

/* Draws the plan of a seed and sets the world up; runs it to its end or its first broken
 * invariant. `trace` may be NULL. */
struct world *world_new(uint64_t seed, FILE *trace);
void world_run(struct world *w);
void world_free(struct world *w, struct counters *sums); /* adds to `sums` what its edges counted */

void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_at(struct world *w, mono_ns at, enum what what, unsigned node, uint32_t a, uint32_t b,
              uint64_t c, struct packet *packet);

static inline uint64_t draw(struct world *w, unsigned stream, uint64_t n)
{
    return prng_below(&w->rnd[stream], n);
}
/* Uniform in [from, to]. */
static inline uint64_t draw_between(struct world *w, unsigned stream, uint64_t from, uint64_t to)
{
    return from + prng_below(&w->rnd[stream], to - from + 1);
}
static inline bool draw_chance(struct world *w, unsigned stream, unsigned permille)
{
    return prng_below(&w->rnd[stream], 1000) < permille;
}

static inline bool node_is_edge(unsigned node)
{
    return node < NODE_SERVER;
}
static inline bool node_is_server(unsigned node)
{
    return node >= NODE_SERVER && node < NODE_AGENT;
}

void plan_draw(struct world *w);       /* plan.c: everything that is settled before time begins */
void faults_schedule(struct world *w); /* faults.c */
void faults_happen(struct world *w, unsigned fault, bool ends);
void faults_heal(struct world *w);

/* ---- net_model.c ------------------------------------------------------------------------------
 */

struct packet *packet_new(const struct addr *src, const struct addr *dst, const void *p, size_t n);

/* The node that has this address (port included for edges' two sides), or NONE. */
int net_node_at(const struct world *w, const struct addr *a);

/* Sends a datagram. `sender` is the node, `worker` and `listener` are for ICMP to edges. Takes
 * the packet. */
void net_datagram(struct world *w, unsigned sender, unsigned worker, unsigned listener,
                  struct packet *packet);
void net_arrive(struct world *w, struct occurrence *o);

/* ---- stream.c ---------------------------------------------------------------------------------
 */

/* Asks for a connection; W_* occurrences bring the rest. NONE when the world has no more. */
int stream_connect(struct world *w, unsigned node, const struct addr *src, const struct addr *dst,
                   dur_ns patience);
void stream_send(struct world *w, unsigned conn, unsigned side, const void *p, size_t n);
void stream_close(struct world *w, unsigned conn, unsigned side); /* after what was sent */
void stream_reset(struct world *w, unsigned conn);                /* in the middle of things */
void stream_node_died(struct world *w, unsigned node);
void stream_happen(struct world *w, struct occurrence *o);
bool stream_is_open(const struct world *w, struct conn_ref r);
/* Feeds bytes to an end's framer; `take` is called for each result. */
void stream_feed(struct world *w, unsigned conn, unsigned side, const void *p, size_t n);

/* ---- edge_node.c ------------------------------------------------------------------------------
 */

void edge_boot(struct world *w, unsigned edge);
void edge_kill(struct world *w, unsigned edge);
void edge_reconfigure(struct world *w, unsigned edge, bool health, int without);
mono_ns edge_now(const struct world *w, unsigned edge);
/* Anything for an edge: stepped at once, or when its stall is over. */
void edge_happen(struct world *w, struct occurrence *o);
void edge_stream_opened(struct world *w, unsigned conn, unsigned side);
void edge_stream_failed(struct world *w, unsigned conn, int error);
void edge_stream_closed(struct world *w, unsigned conn, unsigned side, int error);
void edge_stream_result(struct world *w, unsigned conn, unsigned side, int result, const char *p,
                        size_t n);
void edge_wake(struct world *w, unsigned edge);
void edge_dump(struct world *w, unsigned edge);
/* conf.c. `without`: a server that is left out of the pool, or NONE. */
void conf_fill(struct world *w, unsigned edge, struct conf *c, bool health, int without);

/* ---- endpoint.c -------------------------------------------------------------------------------
 */

/* Sends on the connection if it is one and still open; else by UDP, or a connection to `dest`. */
void endpoint_send(struct world *w, unsigned node, const struct addr *dest, bool tcp,
                   struct conn_ref conn, const void *p, size_t n);
/* Where a URI points to: its numeric host and port, and whether by TCP. 0 or -1. */
int endpoint_locate(struct slice uri, struct addr *ret_addr, bool *ret_tcp);

/* Starts a client transaction for a request without its top Via, which is put here:
 * `start` = "INVITE sip:… SIP/2.0\r\n", `rest` = everything behind the Via line. */
int client_start(struct world *w, unsigned node, enum sip_method method, enum purpose purpose,
                 const struct addr *dest, bool tcp, const char *start, const char *rest, int call);
int client_cancel(struct world *w, unsigned client);
void client_timer(struct world *w, unsigned client, uint64_t gen);
/* Sends once more what a client sent. */
void client_resend(struct world *w, unsigned client);

/* A request within a dialog. Returns the client transaction or NONE. */
int dialog_request(struct world *w, unsigned node, struct dialog *d, enum sip_method method,
                   enum purpose purpose, int call);
void dialog_ack(struct world *w, unsigned node, const struct dialog *d, uint32_t cseq);
/* Fills a dialog from the message that made it. `as_uac`: Record-Route is reversed. */
void dialog_from(struct dialog *d, const struct sip_msg *m, const struct sip_facts *f, bool as_uac,
                 const char *local_tag);

/* A whole message came to an agent or a server. */
void endpoint_message(struct world *w, unsigned node, const char *p, size_t n,
                      const struct addr *source, struct conn_ref conn);
void endpoint_died(struct world *w, unsigned node);
uint64_t endpoint_key(const struct sip_facts *f, enum sip_method as);
void endpoint_hosts(const struct world *w, unsigned node, char *dst, size_t cap);
bool endpoint_is_tcp(const struct world *w, unsigned node);

/* ---- uas.c, uac.c, hostile.c ------------------------------------------------------------------
 */

struct sip_msg;
void uas_request(struct world *w, unsigned node, const struct sip_msg *m, const struct sip_facts *f,
                 const struct addr *source, struct conn_ref conn);
void uas_timer(struct world *w, unsigned serving, uint64_t gen);
void uac_response(struct world *w, unsigned client, const struct sip_msg *m,
                  const struct sip_facts *f);
void uac_timeout(struct world *w, unsigned client);
void uac_request(struct world *w, unsigned node, const struct sip_msg *m, const struct sip_facts *f,
                 const struct addr *source, struct conn_ref conn);
void uac_step(struct world *w, unsigned call, enum call_step step);
void hostile_act(struct world *w, unsigned node);

/* ---- check.c ----------------------------------------------------------------------------------
 */

void check_init(struct world *w);
void check_done(struct world *w);
uint64_t check_hash(struct slice s);
/* A message that an edge is about to step, and one that it sends. */
void check_edge_in(struct world *w, unsigned edge, const struct event *ev);
void check_edge_out(struct world *w, unsigned edge, const struct addr *dest, bool is_stream,
                    struct flow_id flow, const char *p, size_t n);
/* A response that reached an agent or a server. */
void check_response_in(struct world *w, unsigned node, const struct sip_msg *m);
/* The event is done with: was everything sent that had to be? */
void check_step_end(struct world *w, unsigned edge);
/* A server forgets an INVITE that nobody ended. */
void check_left_ringing(struct world *w, const struct serving *s);
void check_server_in(struct world *w, unsigned node, const struct sip_msg *m,
                     const struct sip_facts *f);
/* The INVITE of a call was answered with a failure. */
void check_set_up(struct world *w, const struct call *c);
/* A log record that an edge gave away. */
void check_log(struct world *w, unsigned edge, struct slice record);
void check_end(struct world *w);

#endif
