/* SPDX-License-Identifier: Apache-2.0
 *
 * store: the registrar's records on disk, in one LMDB environment that one thread writes to.
 *
 *      worker 0 ── ring ──▶┌───────────────────────────────┐   DIR/data.mdb   key ▶ record
 *      worker 1 ── ring ──▶│ take all that waits,          │──▶     fdatasync
 *      worker N ── ring ──▶│ apply it in one transaction,  │   DIR/lock.mdb   LMDB's own
 *           ▲              │ commit                        │   DIR/lock       held while we run
 *           └── answers ───└───────────────────────────────┘
 *
 * While a commit is under way new records queue, and all of them go into the next: so a record
 * waits for one or two commits, however many there are. Commits begin at least `gather_ns` apart:
 * under load a few milliseconds of patience make many small commits into a large one. A commit
 * writes its records one behind the other; store_int.h says how they come to their places.
 *
 * What an answer of 0 promises: the record is in a committed transaction. It survives the death
 * of the process (kill -9 included) always. Its pages have been forced to the disk as well; the
 * page that makes them count (LMDB's meta page) is forced with the next commit, or within
 * STORE_SYNC_WITHIN when none follows (MDB_NOMETASYNC). So it survives the death of the machine,
 * too, unless that comes within this time; then the state of the commit before is what is found.
 * Never a mixture.
 *
 * Each record is stored as it came, behind a checksum, so that a damaged file is noticed at start
 * instead of ringing a wrong phone. */
#ifndef WEIR_STORE_H
#define WEIR_STORE_H

#include <stdio.h>
#include <sys/uio.h>
#include "base/base.h"

enum {
    STORE_REQUEST_BYTES_MAX = 256 * 1024, /* the records of one request together */
    STORE_WAITING_MAX = 8192,             /* unanswered requests of one worker */
};
#define STORE_GATHER      (8 * NS_MS)
#define STORE_SYNC_WITHIN (200 * NS_MS)

struct store;

/* Opens DIR (made with mode 0700 when it is missing; its parent must exist) and checks every record
 * in it. `bytes_max`: what may be in use in the file, which takes no more of the disk than it
 * needs, and at most about twice that. Only one process at a time has it. NULL after writing "weir:
 * state DIR: what is wrong, what to do" to `errors`; *ret_exit is then the process's exit status
 * (sysexits(3)): 78 when it needs a person, 1 when it may pass. Starts no thread; must be called
 * while there is only one. */
struct store *store_open(struct slice dir, uint64_t bytes_max, FILE *errors, int *ret_exit);

/* Gives every stored record, whole as it was put, to `take`; in the order of keys, so all those of
 * an AOR follow each other. What it returns false for is of no use any more, and deleted (of very
 * many some are left for the next start). Before store_start(). Returns how many are of use, or -1
 * after writing why to `errors`. */
int64_t store_load(struct store *s, bool (*take)(void *ctx, struct slice record), void *ctx,
                   FILE *errors);

/* How the writer is to run. */
struct store_run {
    uint32_t workers;
    dur_ns gather_ns; /* STORE_GATHER */
    /* Called by the writer's thread: worker `worker` has answers to read. */
    void (*knock)(void *ctx, uint32_t worker);
    void *ctx;
};
/* Makes the rings and starts the thread. 0 or an errno. */
int store_start(struct store *s, const struct store_run *run);

/* Commits what waits, stops the thread, forces everything to the disk, closes. NULL is fine. The
 * workers' threads have ended, or put nothing any more. */
void store_stop(struct store *s);

/* ---- a worker's side: its own thread only -----------------------------------------------------
 */

/* Records (as registrar.h's struct record) to be put or deleted, in order, all or none. `id` != 0:
 * one store_answer follows, whatever happens. 0, or an errno at once when there is no room in the
 * ring (ENOBUFS; then nothing follows) or it is longer than STORE_REQUEST_BYTES_MAX (EMSGSIZE). */
MUST_USE int store_put(struct store *s, uint32_t worker, uint64_t id, const struct iovec *iov,
                       uint32_t iov_count, mono_ns now);

struct store_answer {
    uint64_t id;
    mono_ns put; /* the `now` of store_put() */
    int error;   /* 0 = committed; ENOSPC = the file's limit or the disk's; EIO, EINVAL … */
};
/* Takes the oldest answer; false when there is none. */
bool store_answered(struct store *s, uint32_t worker, struct store_answer *ret);

/* ---- anybody ----------------------------------------------------------------------------------
 */

#define STORE_COUNTERS(X)                                                                          \
    X(commits, "transactions committed")                                                           \
    X(requests, "requests of workers committed")                                                   \
    X(records, "records put or deleted")                                                           \
    X(batch_max, "most requests in one transaction")                                               \
    X(commit_us, "microseconds spent in commits, together")                                        \
    X(commit_max_us, "microseconds that the slowest commit took")                                  \
    X(folds, "times that the log was folded into the bindings")                                    \
    X(fold_max_us, "microseconds that the slowest folding took")                                   \
    X(failures, "transactions that could not be committed")                                        \
    X(refused, "requests answered with an error")                                                  \
    X(entries, "bindings in the file, without the log")                                            \
    X(file_bytes, "bytes of the file in use, the log included")

struct store_counters {
#define X(name, help) uint64_t name;
    STORE_COUNTERS(X)
#undef X
    int last_error; /* of the last failed transaction; 0 once one succeeded */
};
/* A copy of what was counted since the start; from any thread. */
struct store_counters store_counters(const struct store *s);

#endif
