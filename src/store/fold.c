/* SPDX-License-Identifier: Apache-2.0
 *
 * Folding the log into the tree: what the last commits said about each binding goes where it
 * belongs. One transaction: a reader, and a start after a crash, find either all of it in the log
 * or all of it in the tree. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "store/store_int.h"

#define AGAIN_AFTER NS_S

struct fold {
    MDB_txn *txn;
    MDB_dbi dbi;
    char *bytes; /* of the whole log: what lies in pages may move while others change */
    size_t used, cap;
    uint64_t entries, records, last;
};

static int first_of_log(MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
    *key = (MDB_val){sizeof STORE_LOG_KEY - 1, (void *)(uintptr_t)STORE_LOG_KEY};
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    return rc == 0 && !store_is_log(key) ? MDB_NOTFOUND : rc;
}

static int keep_bytes(struct fold *f, struct slice records)
{
    if (f->cap - f->used < records.n) {
        size_t cap = (f->used + records.n) * 2;
        char *grown = (char *)realloc(f->bytes, cap);
        if (grown == NULL)
            return ENOMEM;
        f->bytes = grown;
        f->cap = cap;
    }
    memcpy(f->bytes + f->used, records.p, records.n);
    f->used += records.n;
    return 0;
}

static int read_log(struct fold *f, MDB_cursor *cursor)
{
    MDB_val key, value;
    struct slice records;
    int rc = first_of_log(cursor, &key, &value);
    while (rc == 0) {
        if (store_value(&value, &records) != 0)
            return MDB_CORRUPTED;
        rc = keep_bytes(f, records);
        f->entries++;
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (rc == 0 && !store_is_log(&key))
            rc = MDB_NOTFOUND;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply(struct fold *f)
{
    struct slice rest = slice_of(f->bytes, f->used);
    struct record r;
    int more;
    while ((more = record_next(&rest, &r)) == 1) {
        MDB_val key = {r.key.n, (void *)(uintptr_t)r.key.p};
        int rc = r.op == RECORD_PUT ? store_put_value(f->txn, f->dbi, &key, &r.whole, 1)
                                    : mdb_del(f->txn, f->dbi, &key, NULL);
        if (rc != 0 && rc != MDB_NOTFOUND)
            return rc;
        f->records++;
    }
    return more == 0 ? 0 : MDB_CORRUPTED;
}

static int empty_log(MDB_cursor *cursor)
{
    MDB_val key, value;
    int rc;
    while ((rc = first_of_log(cursor, &key, &value)) == 0)
        if ((rc = mdb_cursor_del(cursor, 0)) != 0)
            return rc;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int fold_in(struct fold *f)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(f->txn, f->dbi, &cursor);
    if (rc != 0)
        return rc;
    rc = read_log(f, cursor);
    if (rc == 0)
        rc = apply(f);
    if (rc == 0)
        rc = empty_log(cursor);
    mdb_cursor_close(cursor);
    return rc;
}

int store_fold(struct store *s)
{
    struct fold f = {.dbi = s->dbi};
    mono_ns began = store_now();
    int rc = s->env != NULL ? mdb_txn_begin(s->env, NULL, 0, &f.txn) : EIO;
    if (rc != 0)
        return rc;
    rc = fold_in(&f);
    free(f.bytes);
    if (rc != 0 || f.entries == 0)
        mdb_txn_abort(f.txn);
    else
        rc = mdb_txn_commit(f.txn);
    if (rc != 0)
        return rc;
    s->log_count = 0;
    s->log_bytes = 0;
    if (f.entries > 0) {
        s->unsynced = true;
        s->untrimmed |= f.records >= STORE_TRIM_RECORDS;
        store_count(&s->counter.folds, 1);
        store_count_most(&s->counter.fold_max_us, mono_since(store_now(), began) / NS_US);
    }
    store_measure(s);
    return 0;
}

void store_fold_if_long(struct store *s, mono_ns now)
{
    if (s->log_bytes < STORE_FOLD_BYTES || now < s->fold_after)
        return;
    if (store_fold(s) != 0)
        s->fold_after = mono_add(now, AGAIN_AFTER);
    store_trim(s);
}

void store_trim(struct store *s)
{
    if (!s->untrimmed)
        return;
    (void)store_env_again(s);
    s->untrimmed = false;
}
