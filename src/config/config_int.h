/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a file, one pass a file of this folder:
 *
 *      text ──tree──▶ nodes with places ──read──▶ draft ──judge──▶ struct config
 *                          ${ENV}           ▲                ids, names, cross-checks
 *                                        schema ──reference──▶ Markdown, JSON schema
 *
 * Every pass reports what it finds and goes on with what is left, so that one run shows all
 * errors. What an earlier pass found bad is not judged again by a later one. */
#ifndef WEIR_CONFIG_INT_H
#define WEIR_CONFIG_INT_H

#include "config/config.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    MEMORY_BYTES_MAX = 64 << 20, /* of one snapshot and its reading */
    SECRETS_BYTES_MAX = 1 << 16,
    PEM_BYTES_MAX = 4 << 20, /* a bundle of all authorities has a quarter of a MiB */
    DEPTH_MAX = 16,          /* nested lists and mappings; the schema needs six */
    NODES_MAX = 1 << 16,
    MAP_KEYS_MAX = 1024, /* keeps the search for duplicate keys cheap */
    ENV_NAME_BYTES_MAX = 255,
    EXPANDED_BYTES_MAX = 1 << 20, /* all that ${NAME} put in, together */
    ERRORS_MAX = 200,             /* shown; the rest is counted */
    SHOWN_BYTES_MAX = 64,         /* of the file's own text in a message */
    NAME_BYTES_MAX = POOL_NAME_BYTES_MAX,
    PATH_BYTES_MAX = 4095,
    SOCKET_PATH_BYTES_MAX = 107, /* sun_path without its NUL */
    PORT_DEFAULT = 5060,         /* of udp and tcp; others: port_default() */
    REALM_BYTES_MAX = 128,
    ORIGIN_BYTES_MAX = 255,
    ROUTE_BYTES_MAX = 512,
    USERS_MAX = 1 << 20,
    USER_BYTES_MAX = 128,
    USERS_FILE_BYTES_MAX = 256 << 20, /* a million lines of 250 bytes */
    TICKET_SECRET_BYTES = 32,
};

/* ---- memory: a chain of chunks, released as a whole with the snapshot ------------------------ */

struct chunk;
struct mem {
    struct chunk *first;
    size_t taken, max; /* bytes; max 0 = MEMORY_BYTES_MAX */
    bool exhausted;    /* an allocation failed: the load fails, whatever else came of it */
};

/* Zeroed, aligned for anything. NULL when there is none left; mem->exhausted says so at the end,
 * so that a caller needs no message of its own. */
void *mem_take(struct mem *m, size_t n);
struct slice mem_copy(struct mem *m, struct slice s);
void mem_free(struct chunk *first);

#define MEM_NEW(m, type)          ((type *)mem_take((m), sizeof(type)))
#define MEM_ARRAY(m, type, count) ((type *)mem_take((m), sizeof(type) * (size_t)(count)))

/* ---- errors ---------------------------------------------------------------------------------- */

struct place {
    uint32_t line, column; /* from 1; columns count characters, not bytes */
};

struct report_line {
    struct report_line *next;
    struct slice file;
    struct place at;
    const char *text;
};

struct report {
    struct mem *mem;
    struct slice file;
    struct report_line *first, **last;
    uint32_t count;
};

void report_at(struct report *r, struct place at, const char *what, ...)
    __attribute__((format(printf, 3, 4)));
void report_in(struct report *r, struct slice file, struct place at, const char *what, ...)
    __attribute__((format(printf, 4, 5)));

/* Foreign text made harmless for a terminal and cut, as a C string; for %s. */
const char *report_show(struct report *r, struct slice s);

/* Writes all lines, by file and place. */
void report_write(struct report *r, FILE *errors);

/* The candidate that `typed` was most likely meant to be, or NULL when none is near. */
struct guess {
    struct slice typed;
    struct slice best;
    unsigned distance;
};
struct guess guess_begin(struct slice typed);
void guess_try(struct guess *g, struct slice candidate);
bool guess_found(const struct guess *g);

/* ---- tree ------------------------------------------------------------------------------------ */

/*      map                      first ─▶ node(key "node") ─▶ node(key "pools") ─▶ …
 *      list                     first ─▶ node ─▶ node
 *      scalar                   text, ${NAME} replaced */
enum node_kind {
    NODE_BAD, /* reported already */
    NODE_SCALAR,
    NODE_LIST,
    NODE_MAP
};

struct node {
    uint8_t kind;
    bool plain;       /* a scalar without quotes */
    struct place at;  /* of the value */
    struct slice key; /* in a mapping */
    struct place key_at;
    struct slice text;
    struct node *first, *last, *next;
    struct node *parent;
    uint32_t count; /* of children */
};

/* Reads the whole text. NULL when it is no YAML at all (reported). */
struct node *tree_read(struct report *r, struct slice text);

/* The value of a key, or NULL. */
const struct node *node_get(const struct node *map, const char *key);

/* Where to point for `key` of `map`: at its value, else at the mapping. */
struct place node_place(const struct node *map, const char *key);

/* Is it an empty scalar without quotes, `~` or `null`? */
bool node_is_null(const struct node *n);

/* ---- schema ---------------------------------------------------------------------------------- */

enum value_type {
    V_BOOL,
    V_INT,
    V_PERCENT,
    V_DURATION,
    V_WORD,     /* one of `words` */
    V_NAME,     /* letters, digits, - _ . */
    V_METHOD,   /* a SIP method */
    V_PATH,     /* a file; relative to the configuration file's folder */
    V_SIZE,     /* 64KiB */
    V_URI,      /* udp://host:port -> struct endpoint */
    V_HOSTPORT, /* host:port -> struct endpoint */
    V_PREFIX,   /* 10.0.0.0/8 -> struct prefix */
    V_HOST,     /* a name or an address, in small letters, IPv6 in brackets */
    V_ORIGIN,   /* scheme://host[:port], in small letters (RFC 6454 6.2) */
    V_REALM,    /* text that can stand between quotes and colons */
    V_ROUTE,    /* values of a Route header */
    V_CONTACT,  /* a SIP URI in <> */
    V_NFT_SET,  /* family, table and set of nftables -> struct config_nftables */
    V_MAP,      /* of the keys of `sub` */
    V_LIST,     /* of `item` -> struct list */
    V_NAMED,    /* NAME: item -> struct list */
    V_LATER,    /* a key of a later release: refused with `help` */
};

enum field_flags {
    F_REQUIRED = 1 << 0,
    F_LISTEN = 1 << 1,  /* V_URI: an address of ours, no name; all transports */
    F_DERIVED = 1 << 2, /* `standard` describes in words what judge works out */
    F_ABSENT = 1 << 3,  /* V_MAP: not there unless the file has it; a bool says so */
};

struct word {
    const char *text; /* NULL ends a list */
    uint64_t value;
    const char *help;
};

struct schema;

/* One key. `standard` is read by the very code that reads the file, so what the manual says is
 * what happens. Offsets count from the record that the surrounding schema fills: mappings inside
 * of mappings share one record, items of lists have their own. */
struct field {
    const char *key;
    uint8_t type;
    uint8_t flags;
    uint16_t size; /* bytes of the number, or of an item of a list */
    uint32_t offset;
    uint64_t min, max;    /* V_INT, V_DURATION (ns), V_PERCENT; lists: how many */
    uint64_t scale;       /* V_DURATION: ns per unit stored; 0 = 1 */
    const char *standard; /* default */
    const char *zero;     /* word that stands for 0, or for a mapping switched off */
    const struct word *words;
    const struct schema *sub;
    const struct field *item;
    const char *help;
    const char *example; /* F_REQUIRED: what could be written */
};

struct schema {
    const char *what; /* "a listener" */
    const struct field *fields;
    uint16_t count;
    uint16_t size;         /* of the record; 0 = shares the surrounding one */
    uint16_t name_offset;  /* V_NAMED: where the record keeps its name */
    const char *shorthand; /* a scalar in its place is the value of this key; NULL = none */
};

struct list {
    void *items;
    uint32_t count;
};

struct endpoint {
    struct slice text; /* as written */
    struct slice host; /* IPv6 in brackets */
    struct addr addr;  /* family 0: host is a name */
    uint16_t port;     /* 0: none written (V_HOSTPORT) */
    uint8_t transport;
};

/* What the schema fills; judge turns it into the snapshot. Each record begins with a head. */
struct head {
    const struct node *node;
    bool broken; /* something in it could not be read: its fields are not the file's last word */
};
struct draft_cert {
    struct head head;
    struct slice cert, key;
};
struct draft_client { /* a `tls` section: of the file, or of a pool */
    struct slice ca, cert, key;
    bool verify;
};
enum client_cert { CLIENT_CERT_NONE, CLIENT_CERT_OPTIONAL, CLIENT_CERT_REQUIRED };
struct draft_listener {
    struct head head;
    struct slice name;
    struct endpoint bind, advertise;
    uint8_t side;
    struct slice cert, key, client_ca;
    uint8_t client_cert;
    struct list certs, origins;
    bool proxy;
    uint32_t backlog;
};
struct draft_neighbour {
    struct head head;
    uint16_t id;
    struct endpoint inside;
    struct slice name;
};
struct draft_target {
    struct head head;
    struct endpoint uri;
    struct slice zone, name;
    uint16_t weight;
    bool tcp;
};
struct draft_pool {
    struct head head;
    struct pool_opts opts;
    struct list targets;
    struct list on;
    struct draft_client tls;
};
struct draft_route {
    struct head head;
    uint8_t from;
    struct slice method, to;
};
struct draft {
    struct head head;
    struct config c;
    struct list listeners, trusted, pools, routes, fleet, domains, mobile_agents;
    struct list offer; /* of uint8_t: enum digest_algorithm */
    struct slice tokens, users;
    struct draft_client tls;
    struct list exempt, emergency, agents;
    struct { /* per second; 0 = no limit */
        uint32_t accepts[TP__COUNT], handshakes, per_source[GUARD_WHATS], per_prefix[GUARD_WHATS];
        dur_ns burst;
    } guard;
};

extern const struct schema schema_root, schema_guard, schema_drain, schema_recycle;

/* "2s", "1500ms": the largest unit without a fraction. */
void text_put_duration(struct text *t, dur_ns ns);
/* "1GiB", likewise. */
void text_put_size(struct text *t, uint64_t bytes);

/* ---- passes ---------------------------------------------------------------------------------- */

/* Reads one scalar into `at`. Reports and returns false when it is not what the field wants. */
bool value_read(struct report *r, const struct field *f, const struct node *n, void *at);

/* Fills a record from a mapping: every field of the schema, from the file or from its default. */
void schema_read(struct report *r, const struct schema *s, const struct node *n, void *record);

/* How the outside world is met. Zeroes are life; tests bound it. */
struct world {
    bool closed;       /* no name is resolved, no file is read */
    bool dns_away;     /* whoever could resolve a name does not answer */
    size_t memory_max; /* bytes; 0 = MEMORY_BYTES_MAX */
};

struct judgement {
    struct report *report;
    struct draft *draft;
    const struct config *previous;
    const struct world *world;
};

/* Fills d->c from the rest of the draft, or reports. */
void judge(struct report *r, struct draft *d, const struct config *previous,
           const uint8_t random_key[32], const struct world *world);

/* Parts of it, in files of their own: what transports need, and roles with their neighbours. */
void judge__secure(struct judgement *j, const struct draft_listener *l,
                   struct config_listener *ret);
/* Of the file of those who sign: the same for the same file, never 0. */
uint64_t vouchers_hash(struct slice path);
void judge__registrar(struct judgement *j);
void judge__fleet(struct judgement *j);
/* judge_guard.c */
void judge__guard(struct judgement *j);

/* judge_peers.c: who is expected at targets and neighbours over TLS. After the two above it. */
void judge__peers(struct judgement *j);

/* Shared by them. The first points to a section, or to the record when it is not in the file. The
 * second: `small` must not be longer than `large`; 0 = reported by an earlier pass. The third
 * looks a name up, reports that it is none, and whether a socket can send there. */
const struct node *judge__section(const struct node *record, const char *key);
void judge__order(struct judgement *j, const struct node *section, const char *small_key,
                  dur_ns small, const char *large_key, dur_ns large);
void judge__address(struct judgement *j, struct place at, struct endpoint *e);

/* Reads the file of secrets, one a line. `ret_tickets`: what session tickets are sealed with,
 * derived from each; TOKEN_KEYS_MAX places. */
void secrets_read(struct report *r, struct slice path, struct place at, struct token_keys *keys,
                  uint8_t ret_tickets[][TICKET_SECRET_BYTES]);
void secret_for_tickets(struct slice secret, uint8_t ret[TICKET_SECRET_BYTES]);

/* Reads the file of credentials into `o`: those of its realm, by name. */
void users_read(struct report *r, struct slice path, struct place at, struct registrar_opts *o);

/* Certificates and keys: can they be read, are they what they are meant to be, and does the key
 * belong to the certificate? Reports what is not so. `key_at` and `key` may be those of no file:
 * then only certificates are looked at. */
void pem_check(struct report *r, struct slice cert, struct place cert_at, struct slice key,
               struct place key_at);

/* Why file_read() failed; `error` is what it returned, errno still what it left. */
const char *file_trouble(int error);

struct config *config_parse_in(struct slice text, const char *name, const struct config *previous,
                               const uint8_t random_key[32], FILE *errors,
                               const struct world *world);

/* All of a regular file, at most `max` bytes. Returns 0; -1 with errno; -2 it is not a regular
 * file; -3 it is too large. `ret_mode` is its mode. */
int file_read(struct mem *m, const char *path, size_t max, struct slice *ret_text,
              unsigned *ret_mode);

#endif
