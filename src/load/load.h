/* SPDX-License-Identifier: Apache-2.0
 *
 * load: traffic for a SIP server, from one thread: calls at a rate, phones that register and come
 * back by their kind, floods. It reads and writes SIP, WebSocket and TLS records with the rooms of
 * the edge itself.
 *
 *   options ──▶ struct load_opts ──▶ load_run() ── epoll, timer wheel ──▶ phones, calls, answers
 *                                        │                                       │ what happened
 *                                        ▼                                       ▼
 *                             table, JSON, report in HTML  ◀── counts, histograms, a series of time
 */
#ifndef WEIR_LOAD_H
#define WEIR_LOAD_H

#include <stdio.h>
#include "base/base.h"

enum {
    LOAD_WHY_BYTES_MAX = 512,
    LOAD_TEXT_BYTES_MAX = 255, /* of a name, a domain, a URI, a password of the command line */
    LOAD_ANSWERS_MAX = 8,
    LOAD_PHONES_MAX = 1000000,
    LOAD_LANES_MAX = 4096, /* sockets that calls are spread over */
};

enum load_kind { LOAD_CALLS = 1, LOAD_PHONES = 2, LOAD_FLOOD = 4 };

/* What a phone does when its flow breaks or it is refused. */
enum load_behaviour {
    LOAD_GOOD,  /* RFC 5626 4.5, Retry-After, 302, a random wait before it comes back */
    LOAD_NAIVE, /* at once, and then every 2 s, whatever is said to it */
};

enum load_flood { LOAD_GARBAGE, LOAD_INVITE, LOAD_ACK, LOAD_REGISTER, LOAD_CONNECT };

/* A place to send to or to listen at. */
struct load_place {
    struct addr addr;
    uint8_t transport; /* enum transport */
};

struct load_opts {
    enum load_kind kind;
    struct load_place to;
    struct load_place answer[LOAD_ANSWERS_MAX]; /* where calls are answered by us */
    uint32_t answer_count;
    const char *uri;        /* Request-URI of calls; NULL = of `to` */
    const char *domain;     /* of phones */
    const char *user;       /* phone N is USERN */
    const char *password;   /* the same for all; NULL = a challenge is a refusal */
    const char *user_agent; /* never NULL */
    const char *server;     /* name of the server in its certificate; NULL = its address */
    const char *ca;         /* PEM file of those who may sign the server; NULL = the system's */
    const char *report;     /* file of the report; NULL = none */
    struct prefix sources;  /* family 0 = whatever the system takes */
    uint32_t count;         /* phones; calls: 0 = until the time is over */
    uint32_t rate;          /* per second; 0 = as fast as possible */
    uint32_t lanes;         /* sockets of calls */
    uint32_t expect_permille;
    uint32_t seed;     /* of all jitter; 0 = another one each time */
    dur_ns lasts;      /* 0 = until it is done */
    dur_ns talk;       /* of a call, from ACK to BYE */
    dur_ns expires;    /* of registrations, whole seconds */
    dur_ns refresh;    /* 0 = by what was granted */
    dur_ns ping;       /* 0 = by Flow-Timer, or as RFC 5626 4.4.1 says */
    dur_ns storm_at;   /* 0 = never */
    dur_ns base, cap;  /* RFC 5626 4.5 */
    dur_ns spread;     /* of the random wait before the first attempt to come back */
    uint8_t behaviour; /* enum load_behaviour */
    uint8_t flood;     /* enum load_flood */
    bool is_json, is_quiet;
    bool insecure, resume, answers, holds, anywhere;
};

/* Reads the arguments behind `weir load` ("calls", "--to", …): argv[0] is the kind. Returns 0, or
 * -1 with `why` (LOAD_WHY_BYTES_MAX bytes) set. Texts of `ret_opts` point into argv. */
MUST_USE int load_options(int argc, char **argv, struct load_opts *ret_opts, char *why);

/* Writes the help of a kind, or of all when `word` is none. */
void load_help(const char *word, FILE *out);

/* Makes the load, shows how it goes on `err`, and writes what came of it to `out`. INT and TERM end
 * it early, with the results so far. Returns 0, 1 when less went well than `expect_permille`, or -1
 * after writing to `err` why it could not begin. */
MUST_USE int load_run(const struct load_opts *o, FILE *out, FILE *err);

#endif
