/* SPDX-License-Identifier: Apache-2.0
 *
 * flows: the second world of the simulator, of phones that are reachable over one connection only.
 *
 *   phone-0..  ──(NAT, all phones there have the same private address)──▶ edge-1 ─┐
 *   phones call each other by address-of-record                          edge-2 ─┴▶ registrar
 *
 *   one:    a single process is edge and registrar
 *   split:  two edges, and a registrar behind them
 *
 * Connections bring their bytes in pieces and die in the middle of a message, with a reset or
 * without a word; phones write noise; NATs give a port away again; processes stand still, or are
 * killed and come back with what their disk holds; clocks jump; the disk fails, tables are full.
 * What must hold all the time: a call reaches the phone that registered, and no other; a phone
 * never rings twice for one call; what was acknowledged is on disk, and what came over a connection
 * that is gone is not; every call gets a final answer over the connection that it came by, if that
 * lives; and in the end nothing is left. */
#ifndef WEIR_SIM_FLOWS_H
#define WEIR_SIM_FLOWS_H

#include <stdio.h>
#include "engine/engine.h"
#include "queue.h"

enum {
    FL_NODES = 3,
    FL_REGISTRAR = 2, /* node of the split topology */
    FL_WORKERS = 2,
    FL_PHONES = 12,
    FL_NATS = 3,
    FL_CONNS = 512,
    FL_SLOTS = 48,   /* accepted connections of a worker */
    FL_PORTS = 12,   /* of a NAT: few, so that they are used again */
    FL_DISK = 512,   /* records */
    FL_ASKS = 1024,  /* client transactions of phones */
    FL_RINGS = 1024, /* calls that came to phones */
    FL_SENT = 512,
    FL_TEXT = 4096,
    FL_NONE = -1,
};

enum fl_what {
    FL_DATAGRAM, /* at node (a = worker is chosen on arrival) or at a NAT's public side */
    FL_PIECE,    /* a = conn, c = its generation, b = enum fl_way; packet = bytes, none: a pong */
    FL_OPENED,   /* a = conn, c: at the edge */
    FL_CLOSED,   /* a = conn, c, b = 1: the phone is told; 0: the edge; + errno << 1 */
    FL_TICK,
    FL_HANDED,
    FL_STORED,    /* node, a = worker | its life << 8, c = id, b = error; packet = records */
    FL_TOLD,      /* the same, and the engine is told */
    FL_FORGOTTEN, /* node, a = phone, c = when the edge heard that its connection is gone */
    FL_PHONE,     /* a = phone, b = enum fl_step, c = argument */
    FL_FAULT,     /* a = kind, c = draw */
    FL_PHASE
};
enum fl_way { FL_UP, FL_DOWN }; /* towards the edge, towards the phone */
enum fl_step { FL_DO_REGISTER, FL_DO_CALL, FL_DO_ANSWER, FL_DO_BYE, FL_DO_RESEND, FL_DO_CANCEL };
enum fl_phase { FL_STORM, FL_HEALED, FL_FINAL, FL_QUIET, FL_LEFT, FL_OVER };

struct fl_pipe {     /* one way of a connection */
    mono_ns last_at; /* arrivals keep their order */
    char *in;        /* came, and is not framed yet */
    uint32_t n;
    struct sip_framer framer;
    bool deaf; /* what came could not be framed */
};

/* A stream connection between a phone and an edge. */
struct fl_conn {
    bool dying;      /* cut: both ends will hear of it */
    bool spoilt;     /* the phone wrote noise */
    bool used, open; /* open: the edge has it */
    bool phone_has;  /* the phone has not been told that it is gone */
    uint64_t gen;
    uint16_t phone, flow; /* whose, and which of its flows */
    uint16_t node, worker;
    uint8_t listener;
    struct addr source; /* as the edge sees it */
    struct flow_id id;
    struct fl_pipe pipe[2]; /* by enum fl_way */
};

/* One way between a phone and an edge. */
struct fl_flow {
    int conn; /* FL_NONE, or UDP */
    uint16_t edge;
    uint32_t cseq;
    bool registered; /* a 200 came over this very life of it */
    bool asked;
    char call_id[48];
};

struct fl_phone {
    uint8_t transport;
    uint8_t nat;
    uint8_t flows; /* 1 or 2: with an instance, if any */
    bool instance;
    bool answers; /* else it rings on */
    struct fl_flow flow[2];
};

struct fl_ask { /* a client transaction of a phone */
    bool used, done, rang;
    uint8_t method; /* enum sip_method */
    uint16_t phone, flow;
    int to; /* phone that is called, or FL_NONE */
    uint32_t gen;
    bool must; /* nothing stands in its way */
    char branch[32], call_id[48], tag[16];
    char to_tag[64], remote[256], routes[2048];
    uint32_t cseq;
    uint16_t status;
    uint8_t resends;
    mono_ns at;
    mono_ns until; /* then it has to be over, or is given up */
    struct packet *sent;
};

struct fl_ring { /* an INVITE at a phone */
    bool used, over, answered, acked;
    uint16_t phone, flow;
    uint32_t gen;
    mono_ns at; /* when its call began */
    char branch[64], call_id[64], tag[16];
    struct packet *request, *last;
    uint8_t resends;
};

struct fl_record {
    char key[RECORD_KEY_BYTES_MAX];
    size_t key_n;
    struct packet *whole; /* NULL = free */
};

struct fl_worker {
    struct engine *engine;
    void *mem;
    size_t mem_size;
    mono_ns tick_at; /* of the world */
    mono_ns last_now;
    struct fault fault;
    uint64_t flow_gen;
    bool slot_taken[FL_SLOTS];
};

struct fl_node {
    bool up;
    uint32_t life;
    struct addr outside, inside; /* port 5060 */
    struct engine_opts opts;
    struct edge_rule rule[3];
    struct pool_opts pool[1];
    struct pool_target_opts target[1];
    struct slice domain[1];
    struct prefix trusted[1];
    struct edge_neighbour fleet[1];
    char text[1024];
    size_t text_n;
    struct fl_worker worker[FL_WORKERS];
    struct fl_record disk[FL_DISK];
    bool disk_fails;
    mono_ns stored_at;     /* its one writer keeps the order */
    mono_ns stalled_until; /* of the world; what comes meanwhile waits */
    dur_ns skew;           /* its clock is ahead of the world's; never less than before */
    int64_t wall_off_s;
};

struct fl_world {
    uint64_t seed;
    mono_ns now;
    struct queue queue;
    struct prng rnd;
    bool split;
    bool pings_udp; /* edges send OPTIONS to phones over UDP */
    uint8_t workers, phones, phase;
    uint32_t words;
    mono_ns upset_at;   /* a process was killed, a NAT forgot, a clock jumped: who rang before may
                           ring in vain; in the future while one stands still */
    mono_ns trouble_at; /* until then something stood in the way of what a process wants stored */
    mono_ns healed_at, final_at, quiet_at, left_at, end_at;
    struct fl_node node[FL_NODES];
    struct fl_phone phone[FL_PHONES];
    struct fl_conn conn[FL_CONNS];
    uint64_t conn_gen;
    struct {
        struct addr addr;
        int16_t owner[FL_PORTS]; /* phone, by port; FL_NONE */
        int16_t spoke[FL_PORTS]; /* phone whose REGISTER was answered last from there */
        mono_ns idle[FL_PORTS];
    } nat[FL_NATS];
    struct fl_ask ask[FL_ASKS];
    struct fl_ring ring[FL_RINGS];
    uint64_t
        sent[FL_SENT]; /* hashes of branches that left for a NAT: what comes again is no news */
    uint32_t sent_next;
    uint64_t hash;
    FILE *trace;
    bool failed;
    char why[512];
    struct {
        uint64_t calls, answered, steps;
    } sum;
};

/* flows_world.c */
struct fl_world *fl_new(uint64_t seed, FILE *trace);
void fl_run(struct fl_world *w);
void fl_free(struct fl_world *w, struct counters *sums);
void fl_fail(struct fl_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fl_at(struct fl_world *w, dur_ns in, enum fl_what what, unsigned node, uint32_t a, uint32_t b,
           uint64_t c, struct packet *packet);
void fl_trace(struct fl_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct packet *fl_packet(const struct addr *src, const struct addr *dst, struct slice bytes);
uint64_t fl_below(struct fl_world *w, uint64_t n);
bool fl_chance(struct fl_world *w, unsigned permille);

/* flows_faults.c */
void fl_faults_plan(struct fl_world *w);
void fl_faults_happen(struct fl_world *w, const struct occurrence *o);
void fl_faults_heal(struct fl_world *w);

/* flows_stream.c */
void fl_stream_send(struct fl_world *w, unsigned conn, enum fl_way way, struct slice bytes);
void fl_stream_feed(struct fl_world *w, struct occurrence *o);
void fl_stream_over(struct fl_conn *c); /* both ends have heard: it may be used again */
void fl_stream_spoil(struct fl_world *w, unsigned conn);
void fl_reset(struct fl_world *w, unsigned conn, bool silent);

/* flows_node.c */
void fl_boot(struct fl_world *w, unsigned node);
void fl_kill(struct fl_world *w, unsigned node);
void fl_node_happen(struct fl_world *w, struct occurrence *o);
/* What sip_frame() said about bytes that came to the edge's end of a connection. */
void fl_node_framed(struct fl_world *w, struct fl_conn *c, int result, struct slice bytes);
/* It looks at its clock, if it moves at all. */
void fl_node_wake(struct fl_world *w, unsigned node);
/* It stands still: this is for later. The packet is its again. */
bool fl_node_waits(struct fl_world *w, struct occurrence *o);
void fl_node_end(struct fl_world *w, unsigned node);
void fl_node_sums(const struct fl_world *w, unsigned node, struct counters *sums);
/* The number of the phone in "sip:p7@…" or "sip:p7-0@…"; FL_NONE. */
int fl_phone_named(struct slice uri);
bool fl_on_disk(const struct fl_world *w, unsigned node, struct slice aor);

/* flows_phone.c */
void fl_phone_step(struct fl_world *w, unsigned phone, enum fl_step step, uint64_t c);
void fl_phone_message(struct fl_world *w, unsigned phone, unsigned flow, struct slice bytes);
void fl_phone_lost(struct fl_world *w, unsigned phone, unsigned flow);
void fl_phones_end(struct fl_world *w);

#endif
