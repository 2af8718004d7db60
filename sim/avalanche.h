/* SPDX-License-Identifier: Apache-2.0
 *
 * avalanche: the third world of the simulator: a region dies, and all its phones come to the
 * others.
 *
 *   1,000,000 phones ──DNS order: home, next, …──▶ six regions of a few edges, one worker each
 *
 *   an edge:  SYNs ─▶ [ backlog ] ─accept─▶ [ waiting for a handshake ] ─▶ connections
 *             REGISTER, pings, calls ─▶ [ messages that wait ] ─▶ answered, or shed
 *
 * Each edge has the real guard of src/guard, asked where a worker asks it. Of the phones one in
 * `engine_every` is answered by a real engine, with messages and digests; of the others only the
 * cost is reckoned, which was measured. CPU is the one thing that is short: each piece of work
 * takes the worker its time, and what waits, waits.
 *
 * Phones are what is out there. Hasty ones reconnect at once, give up after two seconds and try the
 * next address; deaf ones do so and heed no Retry-After either; patient ones back off as RFC 5626
 * 4.5 says. All of them ping, and take a flow whose ping stays without answer for lost. */
#ifndef WEIR_SIM_AVALANCHE_H
#define WEIR_SIM_AVALANCHE_H

#include <stdio.h>
#include "engine/engine.h"

enum {
    AV_REGIONS = 6,
    AV_EDGES_MAX = 24,
    AV_SECONDS_MAX = 600,
    AV_DEATH_S = 10, /* then the first region dies */
    AV_NOBODY = UINT32_MAX,
};

/* What an operator can switch off, to see what it is good for. */
enum av_mode {
    AV_DEFAULTS,
    AV_NO_ADMISSION, /* first come, first served: no shedding, oldest handshake first */
    AV_NO_SPREADING, /* all who are refused hear the same Retry-After */
    AV_MODES
};

struct av_setup {
    uint64_t seed;
    uint32_t phones;
    uint32_t edges_per_region;
    uint32_t seconds;
    uint32_t slower;       /* than the machine on which the costs were measured: for few phones */
    uint32_t engine_every; /* 0: no phone is answered by an engine */
    enum av_mode mode;
};

/* One second of all edges together. */
struct av_second {
    uint32_t offered;    /* attempts begun: a connection, or a REGISTER over UDP or after a wait */
    uint32_t handshakes; /* done */
    uint32_t wasted;     /* of them for somebody who had given up */
    uint32_t done;       /* registrations */
    uint32_t refused;    /* 503 */
    uint32_t lost;       /* flows whose ping stayed without an answer */
    uint32_t registered; /* phones that are, at its end */
    uint32_t calls, calls_served; /* requests of calls; answered within T1 */
    uint32_t wait_ms;             /* longest of a message that was worked on */
};

/* ---- phones and their calendar (avalanche.c) --------------------------------------------------
 */

enum av_what {
    AV_GONE,    /* to a phone: its flow is no more */
    AV_TRY,     /* it tries the next address */
    AV_AGAIN,   /* it comes back as Retry-After said */
    AV_GIVE_UP, /* it has waited long enough for this attempt */
    AV_RESEND,  /* over UDP: `arg` is which of its messages, and how often */
    AV_PING,
    AV_PING_CHECK,
    AV_SHAKEN, /* the handshake is done */
    AV_CHALLENGED,
    AV_REGISTERED,
    AV_REFUSED, /* `arg`: seconds */
    AV_CLOSED,
    AV_AT_EDGE, /* a message or a SYN comes to the phone's edge; `arg`: enum av_message */
};

enum av_message {
    AV_SYN,
    AV_REGISTER,    /* without credentials */
    AV_CREDENTIALS, /* the same with */
    AV_PINGS,
    AV_CALL,
    AV_IN_DIALOG,
    AV_BYE,
};

struct av_phone {
    uint8_t manner; /* enum av_manner */
    bool tls;
    uint8_t state; /* enum av_state */
    uint8_t home, turn, edge;
    uint8_t failures;
    uint8_t said; /* AV_REGISTER, AV_CREDENTIALS: what it waits for an answer to; 0: nothing */
    bool shaken;  /* its connection is through the handshake */
    bool ponged;
    uint16_t attempt; /* what comes of an earlier one is void */
    uint32_t sample;  /* of those that an engine answers; 1 + its place, 0 = it is none */
};
/* A phone that speaks SIP. */
struct av_sample {
    char name[16];
    char nonce[256];
};
enum av_manner { AV_HASTY, AV_DEAF, AV_PATIENT };
enum av_state { AV_WAITING, AV_TRYING, AV_IS_REGISTERED };

struct av_event {
    uint32_t next, phone, arg;
    uint16_t attempt;
    uint8_t what;
};

struct av_waits { /* what waits at an edge */
    uint32_t phone, at_ms;
    uint16_t attempt;
    uint8_t what; /* enum av_message */
};
struct av_ring {
    struct av_waits *all;
    uint32_t head, count, cap; /* cap: a power of two */
};

struct av_edge {
    bool dead;
    struct engine_opts opts;
    struct edge_rule rule;
    struct engine *engine;
    struct guard *guard; /* the engine's */
    void *mem;
    size_t mem_size;
    mono_ns clock; /* until when its worker is busy */
    struct av_ring messages, backlog, shakes;
    uint32_t datagrams;    /* among the messages: the socket's buffer is bounded */
    uint32_t turn_left[3]; /* of this turn: messages, accepts, handshakes */
    uint8_t turn_at;
    uint32_t call_parts; /* calls to come, in thousandths */
};

struct av_world {
    struct av_setup setup;
    struct prng rnd;
    uint32_t now_ms;
    struct av_phone *phone;
    struct av_sample *sample;
    struct registrar_user *user; /* by sample */
    uint32_t sample_count;
    uint64_t steps; /* of engines */
    struct av_event *event;
    uint32_t event_count, event_cap, event_free;
    uint32_t *bucket_head, *bucket_tail;
    uint32_t buckets;
    struct av_edge edge[AV_EDGES_MAX];
    unsigned edges;
    uint32_t registered;
    struct av_second second[AV_SECONDS_MAX];
    uint64_t hash; /* of all that happened: one seed, one history */
};

/* Runs one history; the caller frees it with av_free(). */
struct av_world *av_run(const struct av_setup *setup);
void av_free(struct av_world *w);

void av_at(struct av_world *w, uint32_t at_ms, enum av_what what, uint32_t phone, uint32_t arg);
uint32_t av_latency_ms(const struct av_world *w, uint32_t phone);
struct addr av_address(uint32_t phone);
struct av_second *av_now(struct av_world *w);

/* ---- edges (avalanche_edge.c) ------------------------------------------------------------------
 */
void av_edge_open(struct av_world *w, unsigned i);
void av_edge_done(struct av_edge *e);
/* False: there was no room. */
bool av_edge_arrives(struct av_world *w, struct av_edge *e, struct av_waits what);
/* Works until the end of this millisecond. */
void av_edge_works(struct av_world *w, struct av_edge *e);
void av_edge_closed(struct av_world *w, struct av_edge *e, uint32_t phone);

/* ---- engines (avalanche_engine.c) --------------------------------------------------------------
 */

/* With the guard's options in place. */
void av_engine_open(struct av_world *w, struct av_edge *e, unsigned i, mono_ns now);
void av_engine_close(struct av_edge *e);
void av_engine_ticks(struct av_edge *e);
/* A sampled phone gets its name and password. */
void av_phone_enrols(struct av_world *w, uint32_t k);
/* Its message comes to the engine. Returns the status of the answer, 0: none. */
unsigned av_engine_register(struct av_world *w, struct av_edge *e, const struct av_waits *m,
                            dur_ns waited, uint32_t *ret_retry_after_s);

/* ---- what is shown (avalanche_show.c) ----------------------------------------------------------
 */

/* What the curves say. */
struct av_verdict {
    uint32_t first_peak;  /* offered per second in the wave, mean of five seconds */
    uint32_t second_peak; /* highest of a later one: after the wave had fallen to less than half
                             of what comes then */
    uint32_t in_99_s;     /* seconds after the death until 99 % are registered; 0: never */
    uint32_t all_s;       /* until all are; 0: never */
    uint32_t fallen;      /* most that the number of registered fell after the wave began */
    uint32_t lost;        /* flows of phones that nothing had happened to */
    uint32_t calls_failed_permille;
    bool second_wave;
};
struct av_verdict av_judge(const struct av_world *w);

/* sim --avalanche …: 0, or an exit status. */
int av_main(int argc, char **argv);

#endif
