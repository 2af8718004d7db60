/* SPDX-License-Identifier: Apache-2.0
 *
 * config: one YAML file becomes one immutable snapshot, or a list of errors with exact places.
 * A schema table drives reading, validation, did-you-mean, and the reference manual. */
#ifndef WEIR_CONFIG_H
#define WEIR_CONFIG_H

#include <stdio.h>
#include "engine/engine.h"

/* What a tls or wss listener needs for handshakes, and a ws or wss one for upgrades. */
struct config_cert {
    struct slice cert, key; /* PEM files: chain, leaf first; private key */
};
enum { CONFIG_CERTS_MAX = 64, CONFIG_ORIGINS_MAX = 64 };
struct config_listener {
    struct config_cert *certs; /* the first is for clients that name nobody that we have */
    uint16_t cert_count;
    struct slice client_ca; /* PEM of those who sign clients; empty = no client is asked */
    bool client_required;   /* without a certificate that verifies no handshake ends well */
    struct slice *origins;  /* scheme://host[:port], lower case; none = any Origin, or none */
    uint16_t origin_count;
    bool proxy;       /* PROXY protocol v2 comes first, and names the true source */
    uint32_t backlog; /* of listen(2) */
};

/* Whom we believe, and whom we say to be, when it is us who connect over TLS. */
struct config_tls_client {
    struct slice where;     /* for messages: "tls", "pool border: tls" */
    struct slice ca;        /* PEM of those who may sign; empty = the system's */
    struct slice cert, key; /* PEM; empty = we show none */
    bool verify;            /* else whoever is there will do */
};

enum config_log_format { CONFIG_LOG_JSON, CONFIG_LOG_LOGFMT };

/* Sets of nftables that bans are put into: `set` for IPv4, the same name with _6 behind for IPv6.
 */
enum { CONFIG_NFT_NAME_MAX = 32 };
struct config_nftables {
    struct slice family; /* inet, ip, ip6; empty = off */
    struct slice table, set;
};

/* A snapshot. Read-only once loaded; everything that it points to lives and dies with it. */
struct config {
    struct engine_opts engine;
    uint32_t workers; /* `auto` is resolved to the number of usable cores */
    struct {
        bool on;
        enum config_log_format format;
        struct slice path; /* "stdout", "stderr" or a file (appended, reopened on HUP) */
    } log;
    struct slice control;   /* path of the control socket */
    bool tokens_are_random; /* no secrets.tokens: a notice is due at start */
    uint32_t gather_us;     /* how long a busy worker may let messages gather; 0 = never */
    dur_ns drain_within;    /* TERM: how long to wait for open transactions */
    struct config_listener listener[LISTENERS_MAX]; /* by the id of the engine's listeners */
    struct config_tls_client *tls_clients; /* edge_peer.client is a place in it; the first is that
                                              of the top-level tls */
    uint16_t tls_client_count;             /* 0: no target is tls:// */
    struct slice ticket_secret; /* what session tickets are sealed with: derived from the fleet's
                                   secrets.tokens, newest first, 32 bytes each */
    struct config_nftables nftables;
    uint32_t handshakes_max;  /* TLS handshakes under way, per worker */
    dur_ns handshake_within;  /* accepted to handshake (and upgrade) done */
    struct slice state;       /* folder of the registrar's bindings; empty = no registrar */
    uint64_t state_bytes_max; /* LMDB map size */
    struct slice path;        /* of the file, for messages */
    void *memory;             /* config's own */
};

/* Reads, expands ${ENV}, validates completely, resolves target names. Every error goes to `errors`
 * as "file:line:col: what is wrong, and what would be right\n" (all of them, not only the first).
 * `previous` (may be NULL): listeners with the same bind uri keep their id, random token keys are
 * kept, and changes that need a restart (limits, workers, control) are refused with an error.
 * `random_key`: 32 unpredictable bytes, used as the token key when none is configured.
 * Returns NULL when there was any error. */
struct config *config_load(const char *path, const struct config *previous,
                           const uint8_t random_key[32], FILE *errors);

/* The same from memory; `name` stands for the file in messages. */
struct config *config_parse(struct slice text, const char *name, const struct config *previous,
                            const uint8_t random_key[32], FILE *errors);

/* Releases a snapshot and all that it points to. NULL is fine. */
void config_free(struct config *c);

/* The reference from the schema table: every key with type, default, unit, meaning. Markdown for
 * people, a JSON schema (2020-12) for editors. */
void config_write_reference(FILE *out);
void config_write_json_schema(FILE *out);

#endif
