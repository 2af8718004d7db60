/* SPDX-License-Identifier: Apache-2.0
 *
 * What open.c, commit.c, fold.c and writer.c share.
 *
 *      LMDB's only database, by key
 *      ┌──────────────────────────┬────────────────────────────────────────────────────┐
 *      │ "\0format"               │ STORE_FORMAT                                       │
 *      │ "\0log" number, 8 bytes  │ checksum, 8 bytes, records of one commit as put    │ ── a
 * commit │ "\0log" …                │ …                                                  │    adds
 * one │ "aor\0instance\0reg-id"  │ checksum, the whole record                         │ ◀─ folding
 *      └──────────────────────────┴────────────────────────────────────────────────────┘
 *
 * Bindings that change together lie all over the tree, and each would cost a page of 4 KiB to be
 * written; so a commit writes them one behind the other, and now and then all those commits are
 * folded into the tree: each of its pages is then written once for many changes. (Measured, 16,000
 * bindings, 2,000 changes a second in random order: 17 us of CPU a change without the log.) */
#ifndef WEIR_STORE_STORE_INT_H
#define WEIR_STORE_STORE_INT_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include "registrar/registrar.h"
#include "store/store.h"

#define STORE_FORMAT     "weir bindings 1"
#define STORE_FORMAT_KEY "\0format"
#define STORE_LOG_KEY    "\0log"

enum {
    STORE_PATH_BYTES_MAX = 4096,
    STORE_IN_RING_BYTES = 1024 * 1024,
    STORE_OUT_RING_BYTES = 512 * 1024, /* holds STORE_WAITING_MAX answers */
    STORE_BATCH_REQUESTS_MAX = 4096,
    STORE_BATCH_BYTES_MAX = 2 * 1024 * 1024,
    STORE_CHECKSUM_BYTES = 8,
    STORE_LOG_KEY_BYTES = sizeof STORE_LOG_KEY - 1 + 8,
    STORE_FOLD_BYTES = 4 * 1024 * 1024, /* the log is folded when it is longer */
    STORE_TRIM_RECORDS = 100,           /* a folding of more leaves memory to be given back */
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
    bool untrimmed;
    uint64_t log_next; /* number of the next entry */
    uint64_t log_count, log_bytes;
    mono_ns fold_after; /* the last one failed: not before */
    mono_ns told_at;    /* that nothing is kept; 0 = all is well */
    mono_ns failed_at;  /* last */
    mono_ns gone_told_at;
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
    struct slice piece[STORE_BATCH_REQUESTS_MAX]; /* of the log's next entry */
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
/* Lets go of it and opens it anew: some failures want that, and it gives memory back: LMDB keeps
 * each page that it ever changed, and what was read stays mapped in. */
int store_env_again(struct store *s);

/* What stands behind an entry's checksum; -1 when it does not match. */
int store_value(const MDB_val *value, struct slice *ret_bytes);
/* The record of an entry; -1 when it is not whole. */
int store_entry_record(const MDB_val *key, const MDB_val *value, struct slice *ret_record);
/* Puts `n` bytes in pieces behind their checksum. 0 or a code. */
int store_put_value(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const struct slice *pieces,
                    uint32_t count);

/* Whether an entry is one of ours about the file itself. */
static inline bool store_is_about_file(const MDB_val *key)
{
    return key->mv_size == 0 || *(const char *)key->mv_data == '\0';
}

static inline bool store_is_log(const MDB_val *key)
{
    return key->mv_size == STORE_LOG_KEY_BYTES &&
           memcmp(key->mv_data, STORE_LOG_KEY, sizeof STORE_LOG_KEY - 1) == 0;
}

/* ---- commit.c ---------------------------------------------------------------------------------
 */

/* Commits s->request[0..count), and sets the error of each. */
void store_commit(struct store *s);
/* Forces the last commit's meta page to the disk. */
void store_sync(struct store *s);
/* Looks up how much there is. */
void store_measure(struct store *s);
void store_count(_Atomic uint64_t *counter, uint64_t by);
void store_count_most(_Atomic uint64_t *counter, uint64_t value);

/* ---- fold.c -----------------------------------------------------------------------------------
 */

/* Puts what the log says where it belongs, and empties it; all or nothing. 0 or a code. */
int store_fold(struct store *s);
/* The same when it is long enough, and the last time did not fail just now. */
void store_fold_if_long(struct store *s, mono_ns now);
/* Gives memory back when a folding has taken much. */
void store_trim(struct store *s);

mono_ns store_now(void);

#endif
