/* SPDX-License-Identifier: Apache-2.0
 *
 * config: one YAML file becomes one immutable snapshot, or a list of errors with exact places.
 * A schema table drives reading, validation, did-you-mean, and the reference manual. */
#ifndef WEIR_CONFIG_H
#define WEIR_CONFIG_H

#include <stdio.h>
#include "engine/engine.h"

enum config_log_format { CONFIG_LOG_JSON, CONFIG_LOG_LOGFMT };

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
    struct slice path;      /* of the file, for messages */
    void *memory;           /* config's own */
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
