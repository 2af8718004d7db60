/* SPDX-License-Identifier: Apache-2.0
 *
 * The bindings' file: what was acknowledged is there, whatever happens to the process; what was not
 * acknowledged says so; and a file that is damaged, foreign or in use is refused with words.
 *
 * covers: store/open.c store/commit.c store/fold.c store/writer.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "registrar/registrar.h"
#include "store/store.h"
#include "support/support.h"

enum { WORKERS = 4, ANSWERS_MAX = 20000, WITHIN_MS = 20000 };
#define BYTES_MAX (64ULL << 20)

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_S + (uint64_t)t.tv_nsec;
}

/* ---- a folder, a store in it, and what it answered --------------------------------------------
 */

struct scene {
    char dir[96];
    struct store *store;
    int knocked; /* eventfd */
    char *said;
    size_t said_n;
    int exit_status;
    unsigned answers;
    int error[ANSWERS_MAX]; /* by id; -1 = not answered */
};

static void knock(void *ctx, uint32_t worker)
{
    struct scene *c = (struct scene *)ctx;
    uint64_t one = 1;
    assert_true(worker < WORKERS);
    assert_int_equal(write(c->knocked, &one, sizeof one), sizeof one);
}

static bool try_open(struct scene *c, uint64_t bytes_max)
{
    free(c->said);
    c->said = NULL;
    c->exit_status = 0;
    FILE *f = open_memstream(&c->said, &c->said_n);
    c->store = store_open(slice_cstr(c->dir), bytes_max, f, &c->exit_status);
    fclose(f);
    return c->store != NULL;
}

static void start(struct scene *c)
{
    const struct store_run run = {.workers = WORKERS, .gather_ns = NS_MS, .knock = knock, .ctx = c};
    assert_int_equal(store_start(c->store, &run), 0);
}

static void opened(struct scene *c, uint64_t bytes_max)
{
    if (!try_open(c, bytes_max))
        fail_msg("%s", c->said);
    start(c);
}

static void closed(struct scene *c)
{
    store_stop(c->store);
    c->store = NULL;
}

static struct scene *scene(void)
{
    struct scene *c = (struct scene *)calloc(1, sizeof *c);
    assert_non_null(c);
    strcpy(c->dir, "/tmp/weir-store-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->knocked = eventfd(0, EFD_NONBLOCK);
    memset(c->error, -1, sizeof c->error);
    return c;
}

static void path_of(const struct scene *c, const char *name, char *path)
{
    snprintf(path, 128, "%s/%s", c->dir, name);
}

static void scene_done(struct scene *c)
{
    static const char *const names[] = {"data.mdb",       "lock.mdb",       "lock",      "kept",
                                        "inner/data.mdb", "inner/lock.mdb", "inner/lock"};
    char path[128];
    store_stop(c->store);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_of(c, names[i], path);
        unlink(path);
    }
    path_of(c, "inner", path);
    rmdir(path);
    assert_int_equal(rmdir(c->dir), 0);
    close(c->knocked);
    free(c->said);
    free(c);
}

/* Puts one record behind `t`. */
static void add(struct text *t, uint8_t op, struct slice key, struct slice value)
{
    uint32_t len = (uint32_t)(4 + key.n + (op == RECORD_PUT ? value.n : 0));
    const char head[] = {(char)(len >> 24), (char)(len >> 16), (char)(len >> 8),   (char)len,
                         RECORD_VERSION,    (char)op,          (char)(key.n >> 8), (char)key.n};
    text_put(t, slice_of(head, sizeof head));
    text_put(t, key);
    if (op == RECORD_PUT)
        text_put(t, value);
    assert_true(text_fits(t));
}

static struct slice key_of(unsigned i, char *bytes)
{
    int n = snprintf(bytes, 64, "u%06u@example.com%c<urn:uuid:%u>%c1", i, 0, i, 0);
    return slice_of(bytes, (size_t)n);
}

static int put_bytes(struct scene *c, uint32_t worker, uint64_t id, struct slice records)
{
    /* In two pieces, as an engine may hand it in. */
    const struct iovec iov[] = {
        {(void *)(uintptr_t)records.p, records.n / 2},
        {(void *)(uintptr_t)(records.p + records.n / 2), records.n - records.n / 2}};
    return store_put(c->store, worker, id, iov, 2, now_ns());
}

static int put(struct scene *c, uint32_t worker, uint64_t id, uint8_t op, unsigned i,
               struct slice value)
{
    char bytes[9000], key[64];
    struct text t = text_into(bytes, sizeof bytes);
    add(&t, op, key_of(i, key), value);
    return put_bytes(c, worker, id, text_slice(&t));
}

static unsigned take_answers(struct scene *c)
{
    struct store_answer a;
    unsigned count = 0;
    for (uint32_t w = 0; w < WORKERS; w++) {
        while (store_answered(c->store, w, &a)) {
            assert_true(a.id > 0 && a.id < ANSWERS_MAX);
            assert_int_equal(c->error[a.id], -1); /* once */
            assert_true(a.put <= now_ns());
            c->error[a.id] = a.error;
            count++;
        }
    }
    c->answers += count;
    return count;
}

static void wait_answers(struct scene *c, unsigned count)
{
    uint64_t until = now_ns() + WITHIN_MS * NS_MS;
    while (c->answers < count) {
        struct pollfd p = {.fd = c->knocked, .events = POLLIN};
        uint64_t n;
        assert_true(now_ns() < until);
        poll(&p, 1, 100);
        (void)!read(c->knocked, &n, sizeof n);
        take_answers(c);
    }
}

/* Once nothing came for a moment, the log is folded. */
static void wait_entries(struct scene *c, uint64_t count)
{
    uint64_t until = now_ns() + WITHIN_MS * NS_MS;
    while (store_counters(c->store).entries != count) {
        assert_true(now_ns() < until);
        usleep(5000);
    }
}

/* What is stored: by the number in the key, the value's length + 1; 0 = not there. */
static unsigned stored[ANSWERS_MAX];

static unsigned forgets; /* every so many is of no use; 0 = none */

static bool note(void *ctx, struct slice record)
{
    struct record r;
    uint64_t i = 0;
    assert_int_equal(record_next(&record, &r), 1);
    assert_int_equal(record.n, 0);
    assert_int_equal(text_parse_u64(slice_of(r.key.p + 1, 6), 999999, &i), 0);
    if (forgets > 0 && i % forgets == 0)
        return false;
    if (i < ANSWERS_MAX)
        stored[i] = (unsigned)r.value.n + 1;
    ++*(uint64_t *)ctx;
    return true;
}

static uint64_t load(struct scene *c)
{
    uint64_t count = 0;
    memset(stored, 0, sizeof stored);
    if (c->store == NULL && !try_open(c, BYTES_MAX))
        fail_msg("%s", c->said);
    int64_t said = store_load(c->store, note, &count, stderr);
    assert_int_equal(said, count);
    return count;
}

#define VALUE(n) slice_of(big, n)
static char big[8000];

/* ---- putting and finding again ----------------------------------------------------------------
 */

static void what_was_answered_is_there(void **state)
{
    (void)state;
    struct scene *c = scene();
    opened(c, BYTES_MAX);
    for (unsigned i = 1; i <= 2000; i++)
        assert_int_equal(put(c, i % WORKERS, i, RECORD_PUT, i, VALUE(i % 500)), 0);
    wait_answers(c, 2000);
    for (unsigned i = 1; i <= 2000; i++)
        assert_int_equal(c->error[i], 0);
    struct store_counters n = store_counters(c->store);
    assert_int_equal(n.requests, 2000);
    assert_int_equal(n.records, 2000);
    assert_true(n.commits < 1000); /* many at a time */
    assert_true(n.batch_max > 1);
    assert_true(n.file_bytes > 0 && n.commit_max_us > 0);
    wait_entries(c, 2000);
    assert_in_range(store_counters(c->store).folds, 1, 3);
    closed(c);
    assert_int_equal(load(c), 2000);
    for (unsigned i = 1; i <= 2000; i++)
        assert_int_equal(stored[i], i % 500 + 1);
    scene_done(c);
}

static void the_last_word_about_a_key_counts(void **state)
{
    (void)state;
    struct scene *c = scene();
    char bytes[2048], key[64];
    struct text t = text_into(bytes, sizeof bytes);
    opened(c, BYTES_MAX);
    add(&t, RECORD_PUT, key_of(1, key), VALUE(10));
    add(&t, RECORD_PUT, key_of(2, key), VALUE(20));
    add(&t, RECORD_DELETE, key_of(1, key), SLICE_NONE);
    add(&t, RECORD_PUT, key_of(2, key), VALUE(21));
    add(&t, RECORD_DELETE, key_of(3, key), SLICE_NONE); /* was never there */
    assert_int_equal(put_bytes(c, 0, 1, text_slice(&t)), 0);
    wait_answers(c, 1);
    assert_int_equal(c->error[1], 0);
    assert_int_equal(put(c, 1, 0, RECORD_PUT, 4, VALUE(40)), 0); /* nobody asks: no answer */
    assert_int_equal(put(c, 1, 2, RECORD_PUT, 5, VALUE(0)), 0);
    wait_answers(c, 2);
    closed(c);
    assert_int_equal(load(c), 3);
    assert_int_equal(stored[1], 0);
    assert_int_equal(stored[2], 22);
    assert_int_equal(stored[4], 41);
    assert_int_equal(stored[5], 1);
    scene_done(c);
}

static void what_waits_at_the_end_is_committed(void **state)
{
    (void)state;
    struct scene *c = scene();
    opened(c, BYTES_MAX);
    for (unsigned i = 1; i <= 1000; i++)
        assert_int_equal(put(c, 0, i, RECORD_PUT, i, VALUE(100)), 0);
    closed(c);
    assert_int_equal(load(c), 1000);
    scene_done(c);
}

static void what_is_of_no_use_is_deleted_at_start(void **state)
{
    (void)state;
    struct scene *c = scene();
    opened(c, BYTES_MAX);
    for (unsigned i = 1; i <= 900; i++)
        assert_int_equal(put(c, 0, i, RECORD_PUT, i, VALUE(100)), 0);
    wait_answers(c, 900);
    closed(c);
    forgets = 3;
    assert_int_equal(load(c), 600);
    assert_int_equal(store_counters(c->store).entries, 600);
    start(c);
    assert_int_equal(put(c, 0, 901, RECORD_PUT, 3, VALUE(7)), 0); /* and may come back */
    wait_answers(c, 901);
    closed(c);
    forgets = 0;
    assert_int_equal(load(c), 601);
    assert_int_equal(stored[3], 8);
    assert_int_equal(stored[6], 0);
    assert_int_equal(stored[7], 101);
    scene_done(c);
}

static void no_record_is_no_entry(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice bytes;
    } cases[] = {
        {"too short", {"\0\0\0", 3}},
        {"cut", {"\0\0\0\x20\1\1\0\1x", 9}},
        {"key from NUL", {"\0\0\0\x0b\1\1\0\7\0format", 15}},
        {"unknown version", {"\0\0\0\5\x7f\1\0\1x", 9}},
    };
    struct scene *c = scene();
    opened(c, BYTES_MAX);
    uint64_t id = 0;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char bytes[256], key[64];
        struct text t = text_into(bytes, sizeof bytes);
        add(&t, RECORD_PUT, key_of(i, key), VALUE(1)); /* must not stay either */
        text_put(&t, cases[i].bytes);
        assert_int_equal(put_bytes(c, 0, ++id, text_slice(&t)), 0);
        assert_int_equal(put(c, 0, ++id, RECORD_PUT, 100 + i, VALUE(1)), 0);
        wait_answers(c, (unsigned)id);
        if (c->error[id - 1] != EINVAL || c->error[id] != 0)
            fail_msg("%s: %d, and the next %d", cases[i].name, c->error[id - 1], c->error[id]);
    }
    closed(c);
    assert_int_equal(load(c), 4);
    assert_int_equal(stored[100], 2);
    scene_done(c);
}

static void too_much_is_refused_at_once(void **state)
{
    (void)state;
    static char huge[STORE_REQUEST_BYTES_MAX + 1];
    struct scene *c = scene();
    const struct iovec iov = {huge, sizeof huge};
    if (!try_open(c, BYTES_MAX))
        fail_msg("%s", c->said);
    const struct store_run run = {
        .workers = WORKERS, .gather_ns = 20 * NS_MS, .knock = knock, .ctx = c};
    assert_int_equal(store_start(c->store, &run), 0);
    assert_int_equal(store_put(c->store, 0, 1, &iov, 1, now_ns()), EMSGSIZE);
    unsigned taken = 0, refused = 0;
    for (unsigned i = 1; i < 15000 && refused == 0; i++) { /* faster than any disk */
        int error = put(c, 2, i, RECORD_PUT, i, VALUE(50));
        taken += error == 0;
        if (error != 0) {
            assert_int_equal(error, ENOBUFS);
            refused++;
        }
    }
    assert_int_equal(refused, 1);
    wait_answers(c, taken);
    take_answers(c);
    assert_int_equal(c->answers, taken); /* what was refused is not answered as well */
    c->error[1] = -1;
    assert_int_equal(put(c, 2, 1, RECORD_PUT, 1, VALUE(50)), 0);
    wait_answers(c, taken + 1);
    scene_done(c);
}

/* ---- no room ----------------------------------------------------------------------------------
 */

static void a_full_file_refuses_but_forgets(void **state)
{
    (void)state;
    struct scene *c = scene();
    unsigned id = 0, kept = 0;
    opened(c, 256 * 1024);
    for (;;) {
        id++;
        assert_int_equal(put(c, 0, id, RECORD_PUT, id, VALUE(1000)), 0);
        wait_answers(c, id);
        if (c->error[id] != 0)
            break;
        kept++;
        assert_true(kept < 1000);
    }
    assert_int_equal(c->error[id], ENOSPC);
    assert_true(kept > 20);
    assert_int_equal(store_counters(c->store).last_error, ENOSPC);
    /* A batch in which somebody wants to be forgotten. */
    unsigned del = ++id;
    assert_int_equal(put(c, 1, del, RECORD_DELETE, 1, SLICE_NONE), 0);
    for (unsigned i = 2; i <= kept; i++)
        assert_int_equal(put(c, 1, i == 2 ? ++id : 0, RECORD_DELETE, i, SLICE_NONE), 0);
    wait_answers(c, id);
    assert_int_equal(c->error[del], 0);
    assert_int_equal(c->error[id], 0);
    for (unsigned i = 1; i <= 5; i++) { /* the pages that came free can be used after a while */
        assert_int_equal(put(c, 0, ++id, RECORD_PUT, 5000 + i, VALUE(1000)), 0);
        wait_answers(c, id);
    }
    assert_int_equal(c->error[id], 0);
    wait_entries(c, 5);
    closed(c);
    assert_int_equal(load(c), 5);
    assert_int_equal(stored[1], 0);
    assert_int_equal(stored[5005], 1001);
    scene_done(c);
}

static void a_batch_is_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    struct scene *c = scene();
    opened(c, 256 * 1024);
    enum { EACH = 24 };
    static char bytes[EACH * 8100];
    unsigned id = 0;
    do {
        struct text t = text_into(bytes, sizeof bytes);
        char key[64];
        for (unsigned k = 0; k < EACH; k++)
            add(&t, RECORD_PUT, key_of(id * EACH + k, key), VALUE(7900));
        assert_int_equal(put_bytes(c, 0, ++id, text_slice(&t)), 0);
        wait_answers(c, id);
    } while (c->error[id] == 0);
    assert_int_equal(c->error[id], ENOSPC);
    closed(c);
    assert_int_equal(load(c), (id - 1) * EACH);
    scene_done(c);
}

/* ---- files that cannot be used ----------------------------------------------------------------
 */

static void expect_refusal(struct scene *c, int status, const char *words)
{
    if (try_open(c, BYTES_MAX))
        fail_msg("opened all the same, expected: %s", words);
    if (strstr(c->said, words) == NULL || strstr(c->said, c->dir) == NULL)
        fail_msg("expected \"%s\", said \"%s\"", words, c->said);
    assert_int_equal(c->exit_status, status);
    assert_int_equal(c->said[c->said_n - 1], '\n');
    assert_ptr_equal(strchr(c->said, '\n'), c->said + c->said_n - 1);
}

static void a_second_opener_is_told_who_has_it(void **state)
{
    (void)state;
    struct scene *c = scene();
    char words[64];
    opened(c, BYTES_MAX);
    struct store *first = c->store;
    snprintf(words, sizeof words, "another weir (pid %ld) has it", (long)getpid());
    expect_refusal(c, 1, words);
    c->store = first;
    assert_int_equal(put(c, 0, 1, RECORD_PUT, 1, VALUE(5)), 0);
    wait_answers(c, 1);
    closed(c);
    assert_int_equal(load(c), 1);
    scene_done(c);
}

static void a_folder_is_made_but_only_one(void **state)
{
    (void)state;
    struct scene *c = scene();
    char dir[64];
    struct stat st;
    strcpy(dir, c->dir);
    snprintf(c->dir, sizeof c->dir, "%s/inner", dir);
    opened(c, BYTES_MAX);
    assert_int_equal(stat(c->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    closed(c);
    snprintf(c->dir, sizeof c->dir, "%s/no/such", dir);
    expect_refusal(c, 78, "the folder above it must exist");
    snprintf(c->dir, sizeof c->dir, "%s/inner/lock", dir);
    expect_refusal(c, 78, "it must be a folder");
    strcpy(c->dir, dir);
    scene_done(c);
}

/* Bytes of data.mdb after `change` are what is opened. */
static void fill(struct scene *c, unsigned count)
{
    opened(c, BYTES_MAX);
    for (unsigned i = 1; i <= count; i++)
        assert_int_equal(put(c, 0, i, RECORD_PUT, i, VALUE(300)), 0);
    wait_answers(c, count);
    closed(c);
}

static char *read_file(const char *path, size_t *ret_n)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    char *p = (char *)malloc((size_t)st.st_size);
    assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_n = (size_t)st.st_size;
    return p;
}

static void write_file(const char *path, const char *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

static void a_damaged_file_is_refused_with_advice(void **state)
{
    (void)state;
    struct scene *c = scene();
    char path[128];
    size_t n;
    memset(big, 'v', sizeof big);
    fill(c, 400);
    path_of(c, "data.mdb", path);
    char *good = read_file(path, &n), *bad = (char *)malloc(n);
    assert_true(n > 100000);
    /* Another file; one that was cut; pages gone; one bit of one value. */
    write_file(path, "SQLite format 3 and so on, but certainly not what it should be", 62);
    expect_refusal(c, 78, "data.mdb is damaged");
    write_file(path, good, n / 2);
    expect_refusal(c, 78, "data.mdb is damaged");
    memcpy(bad, good, n);
    memset(bad + 8192, 0xa5, n - 8192);
    write_file(path, bad, n);
    expect_refusal(c, 78, "data.mdb is damaged");
    memcpy(bad, good, n);
    memset(bad + 8192, 0, n - 8192);
    write_file(path, bad, n);
    expect_refusal(c, 78, "data.mdb is damaged");
    memcpy(bad, good, n);
    for (size_t at = 0; at + 8 < n; at++) /* every copy of it: old pages keep some */
        if (memcmp(bad + at, "u000123@", 8) == 0)
            bad[at + 100] ^= 1;
    write_file(path, bad, n);
    expect_refusal(c, 78, "data.mdb is damaged");
    assert_non_null(strstr(c->said, "move data.mdb and lock.mdb out of the folder"));
    write_file(path, good, n);
    assert_int_equal(load(c), 400);
    free(good);
    free(bad);
    scene_done(c);
}

static void overwritten_pages_never_kill_us(void **state)
{
    (void)state;
    struct scene *c = scene();
    struct prng p = test_seed();
    char path[128];
    size_t n;
    fill(c, 300);
    path_of(c, "data.mdb", path);
    char *good = read_file(path, &n), *bad = (char *)malloc(n);
    unsigned refused = 0;
    for (unsigned round = 0; round < 40; round++) {
        memcpy(bad, good, n);
        size_t at = (size_t)(prng_u64(&p) % (n - 64)), len = 1 + (size_t)(prng_u64(&p) % 64);
        for (size_t i = 0; i < len; i++)
            bad[at + i] = (char)prng_u64(&p);
        write_file(path, bad, n);
        bool fine = try_open(c, BYTES_MAX);
        refused += !fine;
        if (fine) { /* it hit what is not in use */
            uint64_t count = load(c);
            assert_true(count <= 300);
            closed(c);
        } else {
            assert_true(c->exit_status != 0);
        }
    }
    assert_true(refused > 0);
    free(good);
    free(bad);
    scene_done(c);
}

static void another_format_is_not_touched(void **state)
{
    (void)state;
    struct scene *c = scene();
    char path[128];
    size_t n;
    fill(c, 1);
    path_of(c, "data.mdb", path);
    char *p = read_file(path, &n);
    for (size_t at = 0; at + 15 < n; at++)
        if (memcmp(p + at, "weir bindings 1", 15) == 0)
            p[at + 14] = '2';
    write_file(path, p, n);
    expect_refusal(c, 78, "is not of this version of weir");
    size_t after;
    char *q = read_file(path, &after);
    assert_int_equal(after, n);
    assert_memory_equal(p, q, n);
    free(p);
    free(q);
    scene_done(c);
}

static void a_folder_of_somebody_else_is_refused(void **state)
{
    (void)state;
    struct scene *c = scene();
    bool root = geteuid() == 0; /* who may everything */
    assert_int_equal(chmod(c->dir, 0500), 0);
    assert_int_equal(root ? seteuid(65534) : 0, 0);
    expect_refusal(c, 78, "must belong to the user that weir runs as");
    assert_int_equal(root ? seteuid(0) : 0, 0);
    assert_int_equal(chmod(c->dir, 0700), 0);
    scene_done(c);
}

/* ---- death ------------------------------------------------------------------------------------
 */

enum { KILLED_BINDINGS = 1500, KILLED_BYTES = 7000 }; /* some 600 of them are a folding */

/* A process that registers as fast as it can, and writes the number of each that was answered. */
static void register_until_killed(struct scene *c, int acknowledged, unsigned from)
{
    opened(c, BYTES_MAX);
    unsigned next = from, waiting = 0;
    for (;;) {
        for (; waiting < 200; waiting++, next++)
            if (put(c, next % WORKERS, next % KILLED_BINDINGS + 1, RECORD_PUT,
                    next % KILLED_BINDINGS, VALUE(KILLED_BYTES)) != 0)
                break;
        struct store_answer a;
        struct pollfd p = {.fd = c->knocked, .events = POLLIN};
        uint64_t n;
        poll(&p, 1, 100);
        (void)!read(c->knocked, &n, sizeof n);
        for (uint32_t w = 0; w < WORKERS; w++)
            while (store_answered(c->store, w, &a)) {
                uint32_t number = (uint32_t)a.id - 1;
                waiting--;
                if (a.error != 0 || write(acknowledged, &number, sizeof number) != sizeof number)
                    _exit(1);
            }
    }
}

static void kill_9_loses_nothing_acknowledged(void **state)
{
    (void)state;
    enum { ROUNDS = 10 };
    struct scene *c = scene();
    static bool known[ANSWERS_MAX];
    unsigned from = 1, acknowledged = 0;
    memset(known, 0, sizeof known);
    for (unsigned round = 0; round < ROUNDS; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            register_until_killed(c, ends[1], from);
        }
        close(ends[1]);
        uint32_t number;
        unsigned least = 150 + 167 * round; /* each time somewhere else */
        for (unsigned i = 0; read(ends[0], &number, sizeof number) == sizeof number; i++) {
            assert_true(number < ANSWERS_MAX);
            known[number] = true;
            acknowledged++;
            from = number + 1;
            if (i == least)
                assert_int_equal(kill(pid, SIGKILL), 0);
        }
        int status;
        close(ends[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        (void)load(c);
        for (unsigned i = 0; i < ANSWERS_MAX; i++)
            if (known[i] && stored[i] != KILLED_BYTES + 1)
                fail_msg("round %u: %u was acknowledged and is gone", round, i);
        closed(c);
    }
    assert_true(acknowledged > ROUNDS * 150);
    scene_done(c);
}

static void a_hundred_thousand_are_loaded_quickly(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct scene *c = scene();
    unsigned answered = 0;
    opened(c, 256ULL << 20);
    for (unsigned i = 0; i < COUNT;) {
        struct store_answer a;
        while (i < COUNT && put(c, 0, 1, RECORD_PUT, i, VALUE(300)) == 0)
            i++;
        usleep(1000);
        while (store_answered(c->store, 0, &a))
            answered += a.error == 0;
    }
    closed(c);
    uint64_t before = now_ns();
    if (!try_open(c, 256ULL << 20))
        fail_msg("%s", c->said);
    uint64_t open = now_ns();
    assert_int_equal(load(c), COUNT);
    print_message("100,000 records: checked in %llu ms, loaded in %llu ms\n",
                  (unsigned long long)((open - before) / NS_MS),
                  (unsigned long long)((now_ns() - open) / NS_MS));
    assert_true(answered > 0);
    scene_done(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_answered_is_there),
        cmocka_unit_test(the_last_word_about_a_key_counts),
        cmocka_unit_test(what_waits_at_the_end_is_committed),
        cmocka_unit_test(what_is_of_no_use_is_deleted_at_start),
        cmocka_unit_test(no_record_is_no_entry),
        cmocka_unit_test(too_much_is_refused_at_once),
        cmocka_unit_test(a_full_file_refuses_but_forgets),
        cmocka_unit_test(a_batch_is_taken_whole_or_not_at_all),
        cmocka_unit_test(a_second_opener_is_told_who_has_it),
        cmocka_unit_test(a_folder_is_made_but_only_one),
        cmocka_unit_test(a_damaged_file_is_refused_with_advice),
        cmocka_unit_test(overwritten_pages_never_kill_us),
        cmocka_unit_test(another_format_is_not_touched),
        cmocka_unit_test(a_folder_of_somebody_else_is_refused),
        cmocka_unit_test(kill_9_loses_nothing_acknowledged),
        cmocka_unit_test(a_hundred_thousand_are_loaded_quickly),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
