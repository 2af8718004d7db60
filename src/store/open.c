/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening: who may, whether the file is sound, and what to do when not.
 *
 * LMDB believes what is in its pages: a file that was cut or overwritten makes it read where
 * nothing is, and the process dies of it. So a child process reads every entry first, and tries a
 * change that it takes back. When it dies, the file is damaged, and we can say so. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include "store/store_int.h"

enum {
    WHY_BYTES = 256,
    TRIAL_BYTES = 64,
    CHECK_WITHIN_S = 60,
    MAP_SPARE_BYTES = 32 * 1024 * 1024,
    MMAP_FROM_BYTES = 128 * 1024,
};

#define ADVICE_DAMAGED                                                                             \
    "move data.mdb and lock.mdb out of the folder, or put a copy of before there; without them "   \
    "the "                                                                                         \
    "phones are known again as they register"

mono_ns store_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_S + (uint64_t)t.tv_nsec;
}

/* ---- entries --------------------------------------------------------------------------------- */

static uint64_t checksum(struct slice bytes)
{
    static const struct hash_seed seed = {0x776569722d626e64, 0x2d73746f72652d31};
    return siphash(&seed, bytes.p, bytes.n);
}

int store_value(const MDB_val *value, struct slice *ret_bytes)
{
    uint64_t sum;
    struct slice all = slice_of(value->mv_data, value->mv_size);
    struct slice bytes = slice_drop(all, sizeof sum);
    if (all.n <= sizeof sum)
        return -1;
    memcpy(&sum, all.p, sizeof sum);
    if (sum != checksum(bytes))
        return -1;
    *ret_bytes = bytes;
    return 0;
}

int store_put_value(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const struct slice *pieces,
                    uint32_t count)
{
    uint64_t sum;
    size_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        n += pieces[i].n;
    MDB_val value = {sizeof sum + n, NULL};
    int rc = mdb_put(txn, dbi, key, &value, MDB_RESERVE);
    if (rc != 0)
        return rc;
    char *p = (char *)value.mv_data + sizeof sum;
    for (uint32_t i = 0; i < count; p += pieces[i++].n)
        memcpy(p, pieces[i].p, pieces[i].n);
    sum = checksum(slice_of(p - n, n));
    memcpy(value.mv_data, &sum, sizeof sum);
    return 0;
}

int store_entry_record(const MDB_val *key, const MDB_val *value, struct slice *ret_record)
{
    struct slice whole, rest;
    struct record r;
    if (store_value(value, &whole) != 0)
        return -1;
    rest = whole;
    if (record_next(&rest, &r) != 1 || rest.n != 0 || r.op != RECORD_PUT ||
        !slice_equal(r.key, slice_of(key->mv_data, key->mv_size)))
        return -1;
    *ret_record = whole;
    return 0;
}

/* ---- the environment ------------------------------------------------------------------------- */

/* The format of what is there; writes it into what is new. */
static int open_database(MDB_env *env, MDB_dbi *ret_dbi)
{
    MDB_val key = {sizeof STORE_FORMAT_KEY - 1, (void *)(uintptr_t)STORE_FORMAT_KEY};
    MDB_val want = {sizeof STORE_FORMAT - 1, (void *)(uintptr_t)STORE_FORMAT};
    MDB_val have;
    MDB_stat stat;
    MDB_txn *txn;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, ret_dbi);
    if (rc == 0)
        rc = mdb_get(txn, *ret_dbi, &key, &have);
    if (rc == 0 && !slice_equal(slice_of(have.mv_data, have.mv_size), SLICE(STORE_FORMAT)))
        rc = MDB_INCOMPATIBLE;
    if (rc == MDB_NOTFOUND && (rc = mdb_stat(txn, *ret_dbi, &stat)) == 0)
        rc = stat.ms_entries == 0 ? mdb_put(txn, *ret_dbi, &key, &want, 0) : MDB_INCOMPATIBLE;
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

int store_env_open(const char *dir, uint64_t bytes_max, MDB_env **ret_env, MDB_dbi *ret_dbi)
{
    MDB_env *env;
    MDB_dbi dbi;
    int rc = mdb_env_create(&env);
    if (rc != 0)
        return rc;
    /* Pages that change are written elsewhere first: the limit is kept by counting, not by this. */
    rc = mdb_env_set_mapsize(env, 2 * bytes_max + MAP_SPARE_BYTES);
    if (rc == 0)
        rc = mdb_env_open(env, dir, MDB_NOMETASYNC | MDB_NOTLS, 0600);
    if (rc == 0)
        rc = open_database(env, &dbi);
    if (rc != 0) {
        mdb_env_close(env);
        return rc;
    }
    *ret_env = env;
    *ret_dbi = dbi;
    return 0;
}

int store_env_again(struct store *s)
{
    if (s->env != NULL)
        mdb_env_close(s->env);
    s->env = NULL;
    (void)malloc_trim(0);
    return store_env_open(s->dir, s->bytes_max, &s->env, &s->dbi);
}

/* ---- the check in a child -------------------------------------------------------------------- */

static bool is_sound_log(const MDB_val *value)
{
    struct slice records;
    struct record r;
    int more = -1;
    if (store_value(value, &records) == 0)
        while ((more = record_next(&records, &r)) == 1)
            continue;
    return more == 0;
}

static int check_entries(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    struct slice record;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        bool sound = store_is_log(&key)          ? is_sound_log(&value)
                     : store_is_about_file(&key) ? true
                                                 : store_entry_record(&key, &value, &record) == 0;
        rc = sound ? 0 : MDB_CORRUPTED;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The list of free pages is read by writers only: so this is one, and leaves no trace. */
static int check_writing(MDB_txn *txn, MDB_dbi dbi)
{
    static const char trial[TRIAL_BYTES] = "\0trial";
    MDB_val key = {sizeof "\0trial" - 1, (void *)(uintptr_t)trial};
    MDB_val value = {sizeof trial, (void *)(uintptr_t)trial};
    return mdb_put(txn, dbi, &key, &value, 0);
}

static int check_file(const char *dir, uint64_t bytes_max)
{
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;
    int rc = store_env_open(dir, bytes_max, &env, &dbi);
    if (rc == 0)
        rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc == 0)
        rc = check_entries(txn, dbi);
    return rc == 0 ? check_writing(txn, dbi) : rc;
}

/* 0, an errno, or a code of LMDB: MDB_CORRUPTED when it died of the file. */
static int check_in_child(const char *dir, uint64_t bytes_max)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    pid_t pid = fork();
    if (pid == 0) {
        static const struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)alarm(CHECK_WITHIN_S); /* pages that lead in a circle */
        (void)signal(SIGBUS, SIG_DFL);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGABRT, SIG_DFL);
        int silent = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(silent, STDERR_FILENO); /* LMDB's last words */
        int rc = check_file(dir, bytes_max);
        _exit(write(ends[1], &rc, sizeof rc) == (ssize_t)sizeof rc ? 0 : 1);
    }
    int error = pid < 0 ? errno : 0, rc = MDB_CORRUPTED;
    close(ends[1]);
    if (pid > 0) {
        if (read(ends[0], &rc, sizeof rc) != (ssize_t)sizeof rc)
            rc = MDB_CORRUPTED;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    close(ends[0]);
    return error != 0 ? error : rc;
}

/* ---- saying what is wrong -------------------------------------------------------------------- */

static int say(const char *dir, FILE *errors, int status, const char *what, const char *advice)
{
    fprintf(errors, "weir: state %s: %s%s%s\n", dir, what, advice[0] != '\0' ? ": " : "", advice);
    return status;
}

/* Returns the exit status. */
static int say_errno(const char *dir, FILE *errors, const char *doing, int error)
{
    char what[WHY_BYTES];
    (void)snprintf(what, sizeof what, "cannot %s: %s", doing, strerror(error));
    switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
        return say(dir, errors, EX_CONFIG, what,
                   "the folder must belong to the user that weir runs as, and be writable");
    case ENOENT:
        return say(dir, errors, EX_CONFIG, what, "the folder above it must exist");
    case ENOTDIR:
        return say(dir, errors, EX_CONFIG, what, "it must be a folder");
    case ENOSPC:
    case EDQUOT:
        return say(dir, errors, EXIT_FAILURE, what, "make room on its disk");
    default:
        return say(dir, errors, EXIT_FAILURE, what, "");
    }
}

static int say_lmdb(const char *dir, FILE *errors, int rc)
{
    char what[WHY_BYTES];
    switch (rc) {
    case MDB_INCOMPATIBLE:
    case MDB_VERSION_MISMATCH:
        return say(
            dir, errors, EX_CONFIG, "data.mdb is not of this version of weir",
            "run the version that wrote it, or move data.mdb and lock.mdb out of the folder");
    case MDB_MAP_FULL:
        return say(dir, errors, EX_CONFIG, "data.mdb is larger than the configuration allows",
                   "raise state_size");
    default:
        if (rc > 0)
            return say_errno(dir, errors, "open data.mdb", rc);
        (void)snprintf(what, sizeof what, "data.mdb is damaged (%s)",
                       rc == MDB_INVALID ? "not a database" : "its contents contradict each other");
        return say(dir, errors, EX_CONFIG, what, ADVICE_DAMAGED);
    }
}

/* ---- the folder ------------------------------------------------------------------------------ */

static int say_busy(const char *dir, int fd, FILE *errors)
{
    char pid[24] = "", what[WHY_BYTES];
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    struct slice digits = slice_trim(slice_of(pid, n > 0 ? (size_t)n : 0));
    (void)snprintf(what, sizeof what, "another weir%s%.*s%s has it", digits.n > 0 ? " (pid " : "",
                   SLICE_ARG(digits), digits.n > 0 ? ")" : "");
    return say(dir, errors, EXIT_FAILURE, what, "stop that one, or give each a folder of its own");
}

/* The lock is the file's, not its name's: it ends with the process, however that ends. */
static int lock_folder(struct store *s, FILE *errors)
{
    char path[STORE_PATH_BYTES_MAX + sizeof "/lock"], pid[24];
    (void)snprintf(path, sizeof path, "%s/lock", s->dir);
    if (mkdir(s->dir, 0700) != 0 && errno != EEXIST)
        return say_errno(s->dir, errors, "make the folder", errno);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return say_errno(s->dir, errors, "open its lock", errno);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? say_busy(s->dir, s->lock_fd, errors)
                                    : say_errno(s->dir, errors, "lock it", errno);
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* Only for say_busy(): a full disk shall not be noticed here. */
    if (ftruncate(s->lock_fd, 0) == 0 && n > 0)
        (void)!pwrite(s->lock_fd, pid, (size_t)n, 0);
    return 0;
}

static int open_all(struct store *s, FILE *errors)
{
    int status = lock_folder(s, errors);
    if (status != 0)
        return status;
    int rc = check_in_child(s->dir, s->bytes_max);
    if (rc == 0)
        rc = store_env_again(s);
    if (rc == 0)
        rc = store_fold(s);
    return rc == 0 ? 0 : say_lmdb(s->dir, errors, rc);
}

struct store *store_open(struct slice dir, uint64_t bytes_max, FILE *errors, int *ret_exit)
{
    /* LMDB's lists of some megabytes are hardly ever touched: only as fresh pages they cost
     * nothing. Left alone, malloc() would take them from what was used before, and clear it. */
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_FROM_BYTES);
    struct store *s = (struct store *)aligned_alloc(_Alignof(struct store), sizeof *s);
    int status = EXIT_FAILURE;
    if (s != NULL) {
        memset(s, 0, sizeof *s);
        s->lock_fd = -1;
        s->wake_fd = -1;
        s->bytes_max = bytes_max;
        s->bytes = (char *)malloc(STORE_BATCH_BYTES_MAX);
        (void)snprintf(s->dir, sizeof s->dir, "%.*s", SLICE_ARG(dir));
        if (s->bytes == NULL || dir.n >= sizeof s->dir)
            (void)say_errno(s->dir, errors, "open it", s->bytes == NULL ? ENOMEM : ENAMETOOLONG);
        else
            status = open_all(s, errors);
    }
    if (status == 0) {
        store_measure(s);
        return s;
    }
    store_stop(s);
    *ret_exit = status;
    return NULL;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Notes a delete of an entry for when the reading is over. */
static void forget(struct store *s, const MDB_val *key)
{
    struct text t = text_into(s->bytes + s->bytes_used, STORE_BATCH_BYTES_MAX - s->bytes_used);
    uint32_t rest = (uint32_t)(4 + key->mv_size);
    const uint8_t head[] = {(uint8_t)(rest >> 24),
                            (uint8_t)(rest >> 16),
                            (uint8_t)(rest >> 8),
                            (uint8_t)rest,
                            RECORD_VERSION,
                            RECORD_DELETE,
                            (uint8_t)(key->mv_size >> 8),
                            (uint8_t)key->mv_size};
    text_put(&t, slice_of(head, sizeof head));
    text_put(&t, slice_of(key->mv_data, key->mv_size));
    if (text_fits(&t))
        s->bytes_used += t.n;
}

static int load_all(struct store *s, MDB_cursor *cursor,
                    bool (*take)(void *ctx, struct slice record), void *ctx, int64_t *ret_count)
{
    MDB_val key, value;
    struct slice record;
    int rc;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        if (store_is_about_file(&key))
            continue;
        if (store_entry_record(&key, &value, &record) != 0)
            return MDB_CORRUPTED;
        if (take(ctx, record))
            ++*ret_count;
        else
            forget(s, &key);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int64_t store_load(struct store *s, bool (*take)(void *ctx, struct slice record), void *ctx,
                   FILE *errors)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    int64_t count = 0;
    s->bytes_used = 0;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc == 0) {
        rc = mdb_cursor_open(txn, s->dbi, &cursor);
        if (rc == 0) {
            rc = load_all(s, cursor, take, ctx, &count);
            mdb_cursor_close(cursor);
        }
        mdb_txn_abort(txn); /* never kept open: its pages could not be used again */
    }
    if (rc != 0) {
        (void)say_lmdb(s->dir, errors, rc);
        return -1;
    }
    if (s->bytes_used > 0) {
        s->request[0] = (struct store_request){.records = slice_of(s->bytes, s->bytes_used)};
        s->count = 1;
        store_commit(s); /* when it fails they are there at the next start, which does no harm */
        (void)store_fold(s);
    }
    s->untrimmed = true;
    store_trim(s);
    return count;
}
