/* SPDX-License-Identifier: Apache-2.0
 *
 * One batch, one transaction: all of it, or none and the reason to each. Only deletes get a second
 * chance when there is no room, in a map that is a little larger for this moment: nothing else
 * makes room. */
#include <errno.h>
#include <string.h>
#include "store/store_int.h"

/* An errno for whoever asked. */
static int errno_of(int rc)
{
    if (rc >= 0)
        return rc;
    return rc == MDB_MAP_FULL ? ENOSPC : EIO;
}

static bool is_sound(struct slice records)
{
    struct record r;
    int more;
    while ((more = record_next(&records, &r)) == 1)
        if (r.key.n == 0 || r.key.p[0] == '\0' || r.key.n > RECORD_KEY_BYTES_MAX)
            return false;
    return more == 0;
}

static bool only_deletes(struct slice records)
{
    struct record r;
    while (record_next(&records, &r) == 1)
        if (r.op != RECORD_DELETE)
            return false;
    return true;
}

static int put(MDB_txn *txn, MDB_dbi dbi, const struct record *r)
{
    MDB_val key = {r->key.n, (void *)(uintptr_t)r->key.p};
    MDB_val value = {STORE_CHECKSUM_BYTES + r->whole.n, NULL};
    int rc = mdb_put(txn, dbi, &key, &value, MDB_RESERVE);
    if (rc != 0)
        return rc;
    uint64_t sum = store_checksum(r->whole);
    memcpy(value.mv_data, &sum, sizeof sum);
    memcpy((char *)value.mv_data + sizeof sum, r->whole.p, r->whole.n);
    return 0;
}

static int apply(MDB_txn *txn, MDB_dbi dbi, struct slice records, uint64_t *count)
{
    struct record r;
    int rc = 0;
    while (rc == 0 && record_next(&records, &r) == 1) {
        MDB_val key = {r.key.n, (void *)(uintptr_t)r.key.p};
        rc = r.op == RECORD_PUT ? put(txn, dbi, &r) : mdb_del(txn, dbi, &key, NULL);
        if (rc == MDB_NOTFOUND)
            rc = 0;
        ++*count;
    }
    return rc;
}

static void count_up(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static void count_most(_Atomic uint64_t *counter, uint64_t value)
{
    if (value > atomic_load_explicit(counter, memory_order_relaxed))
        atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Everything that is still in progress, or of that the deletes alone. Sets their error to 0 and
 * returns 0, or a code, and nothing has changed. */
static int commit_once(struct store *s, bool deletes)
{
    MDB_txn *txn;
    uint64_t records = 0, requests = 0;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < s->count; i++) {
        struct store_request *q = &s->request[i];
        if (q->error != EINPROGRESS || (deletes && !only_deletes(q->records)))
            continue;
        rc = apply(txn, s->dbi, q->records, &records);
        if (rc != 0) {
            mdb_txn_abort(txn);
            return rc;
        }
        requests++;
    }
    rc = mdb_txn_commit(txn);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < s->count; i++) {
        struct store_request *q = &s->request[i];
        if (q->error == EINPROGRESS && (!deletes || only_deletes(q->records)))
            q->error = 0;
    }
    s->unsynced = true;
    count_up(&s->counter.commits, 1);
    count_up(&s->counter.requests, requests);
    count_up(&s->counter.records, records);
    count_most(&s->counter.batch_max, requests);
    return 0;
}

/* After some failures LMDB takes no more transactions until it is opened anew. */
static int open_again(struct store *s)
{
    if (s->env != NULL)
        mdb_env_close(s->env);
    s->env = NULL;
    return store_env_open(s->dir, s->bytes_max, &s->env, &s->dbi);
}

static int set_map(struct store *s, uint64_t bytes)
{
    int rc = mdb_env_set_mapsize(s->env, bytes);
    if (rc == 0)
        return 0;
    /* It let go of the old map before it failed to get the new one. */
    (void)open_again(s);
    return rc;
}

static void make_room(struct store *s)
{
    if (set_map(s, s->bytes_max + STORE_RESERVE_BYTES) == 0)
        (void)commit_once(s, true);
    if (s->env != NULL)
        (void)set_map(s, s->bytes_max);
}

static int commit_or_why(struct store *s)
{
    int rc = s->env == NULL ? open_again(s) : 0;
    if (rc == 0)
        rc = commit_once(s, false);
    if (rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT)
        make_room(s);
    else if (rc < 0)
        (void)open_again(s);
    return errno_of(rc);
}

void store_commit(struct store *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        s->request[i].error = is_sound(s->request[i].records) ? EINPROGRESS : EINVAL;
    mono_ns began = store_now();
    int error = commit_or_why(s);
    uint64_t us = mono_since(store_now(), began) / NS_US;
    count_up(&s->counter.commit_us, us);
    count_most(&s->counter.commit_max_us, us);
    if (error != 0)
        count_up(&s->counter.failures, 1);
    atomic_store_explicit(&s->last_error, error, memory_order_relaxed);
    uint64_t refused = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct store_request *q = &s->request[i];
        if (q->error == EINPROGRESS)
            q->error = error;
        refused += q->error != 0;
    }
    count_up(&s->counter.refused, refused);
    store_measure(s);
}

void store_sync(struct store *s)
{
    if (s->env != NULL && s->unsynced && mdb_env_sync(s->env, 1) == 0)
        s->unsynced = false;
}

void store_trim(struct store *s)
{
    if (s->env != NULL)
        (void)set_map(s, s->bytes_max);
}

void store_measure(struct store *s)
{
    MDB_stat stat;
    MDB_envinfo info;
    if (s->env == NULL || mdb_env_stat(s->env, &stat) != 0 || mdb_env_info(s->env, &info) != 0)
        return;
    uint64_t entries = stat.ms_entries > 0 ? stat.ms_entries - 1 : 0; /* without the format */
    atomic_store_explicit(&s->counter.entries, entries, memory_order_relaxed);
    atomic_store_explicit(&s->counter.file_bytes, (info.me_last_pgno + 1) * stat.ms_psize,
                          memory_order_relaxed);
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
