/* SPDX-License-Identifier: Apache-2.0
 *
 * What open.c, commit.c and writer.c share.
 *
 *   LMDB's main database:   "\0format"                     ▶ STORE_FORMAT
 *                           "aor\0instance\0reg-id"        ▶ checksum, 8 bytes | the whole record
 */
#ifndef WEIR_STORE_STORE_INT_H
#define WEIR_STORE_STORE_INT_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include "registrar/registrar.h"
#include "store/store.h"

#define STORE_FORMAT     "weir bindings 1"
#define STORE_FORMAT_KEY "\0format"

enum {
    STORE_PATH_BYTES_MAX = 4096,
    STORE_IN_RING_BYTES = 1024 * 1024,
    STORE_OUT_RING_BYTES = 512 * 1024, /* holds STORE_WAITING_MAX answers */
    STORE_BATCH_REQUESTS_MAX = 4096,
    STORE_BATCH_BYTES_MAX = 2 * 1024 * 1024,
    STORE_CHECKSUM_BYTES = 8,
    STORE_RESERVE_BYTES = 1024 * 1024, /* beyond the limit: so that deletes work in a full file */
};

/* One request under way to disk. */
struct store_request {
    uint64_t id;
    mono_ns put;
    uint32_t worker;
    int error; /* EINPROGRESS until it is known */
    struct slice records;
};

/* One worker's pair of rings. The worker alone writes `waiting`. */
struct store_lane {
    struct ring *in, *out;
    uint32_t waiting;
};

struct store {
    char dir[STORE_PATH_BYTES_MAX];
    int lock_fd;
    uint64_t bytes_max;
    MDB_env *env; /* NULL: could not be opened again */
    MDB_dbi dbi;
    bool unsynced; /* the last commit's meta page */
    /* The writer's. */
    struct store_run run;
    pthread_t thread;
    bool started;
    int wake_fd;
    _Alignas(64) _Atomic uint64_t pending; /* bit i: worker i put something */
    _Atomic uint32_t asleep;
    _Atomic bool stop;
    struct store_lane lane[WORKERS_MAX];
    char *bytes; /* of the batch's records */
    size_t bytes_used;
    uint32_t count;
    struct store_request request[STORE_BATCH_REQUESTS_MAX];
    struct {
#define X(name, help) _Atomic uint64_t name;
        STORE_COUNTERS(X)
#undef X
    } counter;
    _Atomic int last_error;
};

/* ---- open.c -----------------------------------------------------------------------------------
 */

/* Opens DIR's environment and its database; makes them when they are not there. 0, an errno, or a
 * code of LMDB; *ret_env is untouched then. */
int store_env_open(const char *dir, uint64_t bytes_max, MDB_env **ret_env, MDB_dbi *ret_dbi);

/* The record of an entry; -1 when it is not whole. */
int store_entry_record(const MDB_val *key, const MDB_val *value, struct slice *ret_record);
uint64_t store_checksum(struct slice record);

/* Whether an entry is one of ours about the file itself. */
static inline bool store_is_about_file(const MDB_val *key)
{
    return key->mv_size == 0 || *(const char *)key->mv_data == '\0';
}

/* ---- commit.c ---------------------------------------------------------------------------------
 */

/* Commits s->request[0..count), and sets the error of each. */
void store_commit(struct store *s);
/* Forces the last commit's meta page to the disk. */
void store_sync(struct store *s);
/* Lets go of the pages that reading and writing have mapped in: they count as memory of the
 * process, and the system has them in its cache anyway. No transaction is open. */
void store_trim(struct store *s);
/* Looks up what `weir show store` tells about the file. */
void store_measure(struct store *s);

mono_ns store_now(void);

#endif
