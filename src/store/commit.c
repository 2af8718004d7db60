/* SPDX-License-Identifier: Apache-2.0
 *
 * One batch, one transaction, one entry of the log: all of it, or none and the reason to each.
 *
 * The limit of the file counts what is in it, and is looked at before: who only deletes always
 * passes, for nothing else makes room. (LMDB's own limit is the map's size, and would refuse
 * deletes as well, as they write pages too.) */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store/store_int.h"

/* What a record will take in the tree, against its bytes: pages are not full, and what is in the
 * log must find room twice. */
enum { ROOM_FACTOR = 2 };

/* An errno for whoever asked. */
static int errno_of(int rc)
{
    if (rc >= 0)
        return rc;
    return rc == MDB_MAP_FULL ? ENOSPC : EIO;
}

void store_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

void store_count_most(_Atomic uint64_t *counter, uint64_t value)
{
    if (value > atomic_load_explicit(counter, memory_order_relaxed))
        atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* ---- who may ----------------------------------------------------------------------------------
 */

/* Counts its records. Returns 1 when it puts something, 0 when it only deletes, -1 when it is no
 * list of records. */
static int look_at(struct slice records, uint64_t *count)
{
    struct record r;
    int more, puts = 0;
    while ((more = record_next(&records, &r)) == 1) {
        if (r.key.n == 0 || r.key.p[0] == '\0' || r.key.n > RECORD_KEY_BYTES_MAX)
            return -1;
        puts |= r.op == RECORD_PUT;
        ++*count;
    }
    return more == 0 ? puts : -1;
}

/* Sets the error of those that cannot be stored, EINPROGRESS of the others. Returns how many found
 * no room. */
static uint32_t judge(struct store *s, uint64_t *ret_records)
{
    uint64_t used = atomic_load_explicit(&s->counter.file_bytes, memory_order_relaxed);
    used += (ROOM_FACTOR - 1) * s->log_bytes;
    uint64_t left = s->bytes_max > used ? s->bytes_max - used : 0;
    uint32_t refused = 0;
    *ret_records = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct store_request *q = &s->request[i];
        uint64_t need = ROOM_FACTOR * (uint64_t)q->records.n, records = 0;
        int puts = look_at(q->records, &records);
        q->error = puts < 0 ? EINVAL : puts > 0 && need > left ? ENOSPC : EINPROGRESS;
        refused += q->error == ENOSPC;
        if (q->error != EINPROGRESS)
            continue;
        left -= need < left ? need : left;
        *ret_records += records;
    }
    return refused;
}

/* ---- the transaction --------------------------------------------------------------------------
 */

static int put_entry(struct store *s, MDB_txn *txn, uint32_t count)
{
    char bytes[STORE_LOG_KEY_BYTES];
    MDB_val key = {sizeof bytes, bytes};
    size_t name = sizeof STORE_LOG_KEY - 1;
    memcpy(bytes, STORE_LOG_KEY, name);
    for (size_t i = 0; i < 8; i++)
        bytes[name + i] = (char)(uint8_t)(s->log_next >> (56 - 8 * i));
    return store_put_value(txn, s->dbi, &key, s->piece, count);
}

/* The first `count` of s->piece. 0, or a code, and nothing has changed. */
static int commit_once(struct store *s, uint32_t count)
{
    MDB_txn *txn;
    int rc = s->env == NULL ? store_env_again(s) : 0;
    if (rc == 0)
        rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    rc = put_entry(s, txn, count);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* Returns an errno. */
static int commit_all(struct store *s, uint64_t records)
{
    uint32_t count = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->request[i].error != EINPROGRESS || s->request[i].records.n == 0)
            continue;
        s->piece[count++] = s->request[i].records;
        bytes += s->request[i].records.n;
    }
    if (count == 0)
        return 0;
    int rc = commit_once(s, count);
    if (rc < 0 && rc != MDB_MAP_FULL) /* then LMDB takes no more until it is opened anew */
        (void)store_env_again(s);
    if (rc != 0) {
        store_count(&s->counter.failures, 1);
        return errno_of(rc);
    }
    s->log_next++;
    s->log_count++;
    s->log_bytes += bytes;
    s->unsynced = true;
    store_count(&s->counter.commits, 1);
    store_count(&s->counter.requests, count);
    store_count(&s->counter.records, records);
    store_count_most(&s->counter.batch_max, count);
    return 0;
}

/* ---- what is said ---------------------------------------------------------------------------- */

#define SAID_WITHIN (10 * NS_S)

/* At once when it begins, then every ten seconds: a full disk may stay full until the morning. That
 * it is over is said when it has been for that long, for deletes pass in between. */
static void tell(struct store *s, int error, mono_ns now)
{
    if (error != 0) {
        s->failed_at = now;
        if (s->told_at != 0 && now < mono_add(s->told_at, SAID_WITHIN))
            return;
        dprintf(STDERR_FILENO,
                "weir: notice: bindings are not kept: %s: %s; REGISTERs are answered 500\n", s->dir,
                strerror(error));
        s->told_at = now;
    } else if (s->told_at != 0 && now >= mono_add(s->failed_at, SAID_WITHIN)) {
        dprintf(STDERR_FILENO, "weir: notice: bindings are kept again: %s\n", s->dir);
        s->told_at = 0;
    }
}

/* A file without a name takes everything, and is gone when the process ends. To refuse phones for
 * it would be worse for them than what may happen at a restart. */
static void tell_if_removed(struct store *s, mono_ns now)
{
    struct stat st;
    int fd = -1;
    if (s->env == NULL || mdb_env_get_fd(s->env, &fd) != 0 || fstat(fd, &st) != 0 ||
        st.st_nlink > 0)
        return;
    if (s->gone_told_at != 0 && now < mono_add(s->gone_told_at, SAID_WITHIN))
        return;
    dprintf(STDERR_FILENO,
            "weir: notice: data.mdb was removed: %s: bindings are lost when weir stops, until "
            "phones register anew; restart it when that hurts least\n",
            s->dir);
    s->gone_told_at = now;
}

void store_commit(struct store *s)
{
    uint64_t records;
    mono_ns began = store_now();
    /* What the log says again takes room for nothing. */
    uint32_t full = judge(s, &records);
    if (full > 0 && s->log_count > 0 && store_fold(s) == 0)
        full = judge(s, &records);
    int error = commit_all(s, records);
    uint64_t us = mono_since(store_now(), began) / NS_US;
    store_count(&s->counter.commit_us, us);
    store_count_most(&s->counter.commit_max_us, us);
    uint64_t refused = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct store_request *q = &s->request[i];
        if (q->error == EINPROGRESS)
            q->error = error;
        refused += q->error != 0;
    }
    store_count(&s->counter.refused, refused);
    if (error == 0 && full > 0)
        error = ENOSPC;
    atomic_store_explicit(&s->last_error, error, memory_order_relaxed);
    tell(s, error, began);
    tell_if_removed(s, began);
    store_measure(s);
}

void store_sync(struct store *s)
{
    if (s->env != NULL && s->unsynced && mdb_env_sync(s->env, 1) == 0)
        s->unsynced = false;
}

void store_measure(struct store *s)
{
    MDB_stat stat;
    if (s->env == NULL || mdb_env_stat(s->env, &stat) != 0)
        return;
    uint64_t others = 1 + s->log_count; /* the format, and the log's */
    uint64_t entries = stat.ms_entries > others ? stat.ms_entries - others : 0;
    uint64_t pages = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    atomic_store_explicit(&s->counter.entries, entries, memory_order_relaxed);
    atomic_store_explicit(&s->counter.file_bytes, pages * stat.ms_psize, memory_order_relaxed);
}

struct store_counters store_counters(const struct store *s)
{
    struct store_counters c;
#define X(name, help) c.name = atomic_load_explicit(&s->counter.name, memory_order_relaxed);
    STORE_COUNTERS(X)
#undef X
    c.last_error = atomic_load_explicit(&s->last_error, memory_order_relaxed);
    return c;
}
