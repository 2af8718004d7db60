/* SPDX-License-Identifier: Apache-2.0
 *
 * Between workers and the store, with engines of our own: each order makes one store something, and
 * notes what it is told.
 *
 *      order "N BYTES"     N changes, ids from the order's id on, each of one record of BYTES
 *      order "quiet N"     the same with id 0
 *
 * Two workers: what was stored by either is told at the next start to the one that owns it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"
#include "registrar/registrar.h"
#include "stub_engine.h"

enum { WORKERS = 2, IDS = 2000, VALUE_BYTES_MAX = 8000, PIECES = 25 };

/* ---- the engines ----------------------------------------------------------------------------- */

struct engine {
    uint32_t index;
    pthread_mutex_t lock;
    unsigned told[IDS]; /* times */
    int error[IDS];
    unsigned answers;
    unsigned loaded[IDS]; /* records of this number, by EV_BINDING */
    unsigned loads;       /* events */
    bool started;         /* another event came before */
    uint64_t wall;
    struct guard *guard;
    char record[PIECES * 2][VALUE_BYTES_MAX + 128];
};

static struct engine engines[WORKERS];

struct engine *engine_new(void *mem, size_t size, const struct engine_opts *opts,
                          const struct engine_birth *birth, mono_ns now)
{
    static const struct guard_limits limits = {.sources = 64};
    static _Alignas(64) char memory[WORKERS][2 << 20];
    static struct guard_opts guard_opts;
    struct engine *e = &engines[birth->worker];
    (void)mem, (void)size, (void)opts;
    memset(memory[birth->worker], 0, sizeof memory[0]);
    struct arena for_guard = arena_over(memory[birth->worker], sizeof memory[0]);
    guard_opts_default(&guard_opts);
    e->guard = guard_new(&for_guard, &guard_opts, &limits, WORKERS, birth->shared_seed, 1, now);
    assert_non_null(e->guard);
    return e;
}

bool engine_flow_is_spare(struct engine *e, struct flow_id flow, mono_ns *ret_last_in)
{
    (void)e, (void)flow, (void)ret_last_in;
    return false;
}

struct guard *engine_guard(struct engine *e)
{
    return e->guard;
}

/* A whole record of the binding with this number. */
static struct slice record_of(unsigned number, size_t value, char *bytes, size_t cap)
{
    struct text t = text_into(bytes, cap);
    char key[64];
    int k = snprintf(key, sizeof key, "u%u@example.com%csip:x%c0", number, 0, 0);
    uint32_t len = (uint32_t)(4 + (size_t)k + value);
    const char head[] = {(char)(len >> 24),
                         (char)(len >> 16),
                         (char)(len >> 8),
                         (char)len,
                         RECORD_VERSION,
                         RECORD_PUT,
                         0,
                         (char)k};
    text_put(&t, slice_of(head, sizeof head));
    text_put(&t, slice_of(key, (size_t)k));
    while (value-- > 0)
        text_put_char(&t, 'v');
    assert_true(text_fits(&t));
    return text_slice(&t);
}

static void store_some(struct engine *e, const struct event *ev, struct actions *out)
{
    uint64_t count = 0, bytes = 0;
    struct slice s = ev->bytes;
    bool quiet = slice_starts_with(s, SLICE("quiet "));
    s = slice_drop(s, quiet ? 6 : 0);
    size_t n = slice_find(s, ' ');
    assert_int_equal(text_parse_u64(slice_take(s, n), 200, &count), 0);
    if (!quiet)
        assert_int_equal(text_parse_u64(slice_drop(s, n + 1), VALUE_BYTES_MAX, &bytes), 0);
    for (uint64_t i = 0; i < count; i++) {
        struct action *a = &out->a[out->count++];
        memset(a, 0, sizeof *a);
        a->kind = ACT_STORE;
        a->id = quiet ? 0 : ev->id + i;
        a->iov = out->iov_count;
        a->iov_count = bytes > 0 ? 1 : 2;
        char *p = (char *)arena_take(&out->scratch, VALUE_BYTES_MAX + 128, 1);
        assert_non_null(p);
        struct slice r = record_of((unsigned)(ev->id + i), (size_t)bytes, p, VALUE_BYTES_MAX + 128);
        size_t first = bytes > 0 ? r.n : 7;
        out->iov[out->iov_count++] = (struct iovec){p, first};
        if (bytes == 0)
            out->iov[out->iov_count++] = (struct iovec){p + first, r.n - first};
    }
    (void)e;
}

static void note_loaded(struct engine *e, struct slice records)
{
    struct record r;
    assert_false(e->started);
    e->loads++;
    while (record_next(&records, &r) == 1) {
        uint64_t number;
        struct slice digits = slice_drop(r.key, 1);
        digits = slice_take(digits, slice_find(digits, '@'));
        assert_int_equal(text_parse_u64(digits, IDS - 1, &number), 0);
        e->loaded[number]++;
    }
    assert_int_equal(records.n, 0);
}

int engine_step(struct engine *e, const struct event *ev, mono_ns now, struct actions *out)
{
    (void)now;
    assert_true(actions_have_room(out));
    pthread_mutex_lock(&e->lock);
    e->wall = ev->wall_ns;
    if (ev->kind == EV_BINDING)
        note_loaded(e, ev->bytes);
    else
        e->started = true;
    if (ev->kind == EV_COMMAND)
        store_some(e, ev, out);
    if (ev->kind == EV_STORED) {
        assert_true(ev->id < IDS);
        e->told[ev->id]++;
        e->error[ev->id] = ev->error;
        e->answers++;
    }
    pthread_mutex_unlock(&e->lock);
    return 0;
}

/* ---- the world around them ------------------------------------------------------------------- */

struct world {
    char dir[64];
    struct net net;
    struct config config;
    struct hash_seed seed;
};

static void start(struct world *x, uint64_t bytes_max)
{
    memset(engines, 0, sizeof engines);
    memset(&x->net, 0, sizeof x->net);
    x->config.workers = WORKERS;
    x->config.engine.limits = (struct edge_limits){.flows = 8, .target_flows = 2};
    x->config.state = bytes_max > 0 ? slice_cstr(x->dir) : SLICE_NONE;
    x->config.state_bytes_max = bytes_max;
    x->net.config = &x->config;
    x->net.workers = WORKERS;
    assert_int_equal(keeping_open(&x->net, stderr), 0);
    assert_int_equal(inbox_init(&x->net.inbox), 0);
    for (uint32_t i = 0; i < WORKERS; i++) {
        engines[i].index = i;
        pthread_mutex_init(&engines[i].lock, NULL);
        x->net.worker[i] = worker_new(&x->net, i, &x->config, 8);
        assert_non_null(x->net.worker[i]);
        assert_int_equal(worker_birth(x->net.worker[i], &x->seed, 1), 0);
    }
    assert_int_equal(keeping_start(&x->net, stderr), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(worker_start(x->net.worker[i]), 0);
}

static void stop(struct world *x)
{
    const struct order o = {.kind = ORDER_STOP};
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(order_send(&x->net, i, &o, SLICE_NONE), 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(x->net.worker[i]->thread, NULL);
    store_stop(x->net.store);
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker_free(x->net.worker[i]);
        pthread_mutex_destroy(&engines[i].lock);
    }
    close(x->net.inbox.wake_fd);
}

static int begin(void **state)
{
    struct world *x = (struct world *)calloc(1, sizeof *x);
    assert_non_null(x);
    strcpy(x->dir, "/tmp/weir-keeping-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    x->seed = (struct hash_seed){3, 4};
    *state = x;
    return 0;
}

static int end(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock"};
    struct world *x = (struct world *)*state;
    char path[128];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", x->dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(x->dir), 0);
    free(x);
    return 0;
}

static void order(struct world *x, uint32_t worker, uint64_t id, const char *text)
{
    const struct order o = {.kind = ORDER_COMMAND, .command = CMD_UNBIND, .id = id};
    assert_int_equal(order_send(&x->net, worker, &o, slice_cstr(text)), 0);
}

static void await_answers(uint32_t worker, unsigned count)
{
    unsigned have = 0;
    for (unsigned tries = 0; tries < 1000 && have < count; tries++) {
        pthread_mutex_lock(&engines[worker].lock);
        have = engines[worker].answers;
        pthread_mutex_unlock(&engines[worker].lock);
        if (have < count)
            usleep(10000);
    }
    assert_int_equal(have, count);
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void what_is_stored_is_told_once_and_known_after(void **state)
{
    struct world *x = (struct world *)*state;
    start(x, 16 << 20);
    for (unsigned i = 0; i < 5; i++) {
        order(x, 0, 1 + i * 100, "100 300");
        order(x, 1, 1001 + i * 100, "100 0");
    }
    await_answers(0, 500);
    await_answers(1, 500);
    order(x, 1, 1801, "quiet 10");
    for (unsigned i = 1; i <= 500; i++) {
        assert_int_equal(engines[0].told[i], 1);
        assert_int_equal(engines[0].error[i], 0);
        assert_int_equal(engines[1].told[1000 + i], 1);
        assert_int_equal(engines[1].error[1000 + i], 0);
    }
    assert_int_equal(x->net.loaded, 0);
    stop(x);
    assert_int_equal(engines[1].told[0], 0);

    start(x, 16 << 20);
    assert_int_equal(x->net.loaded, 1010);
    for (unsigned i = 0; i < IDS; i++) { /* each worker is told of all, and takes what is its own */
        bool there = (i >= 1 && i <= 500) || (i >= 1001 && i <= 1500) || (i >= 1801 && i <= 1810);
        assert_int_equal(engines[0].loaded[i], there);
        assert_int_equal(engines[1].loaded[i], there);
    }
    assert_true(engines[0].loads > 1); /* more than one batch */
    assert_true(engines[0].wall > 0);
    stop(x);
}

static void a_full_ring_is_told_at_once(void **state)
{
    struct world *x = (struct world *)*state;
    unsigned refused = 0;
    start(x, 64 << 20);
    for (unsigned i = 0; i < 18; i++)
        order(x, 0, 1 + i * 50, "50 7900"); /* 7 MB, and the ring holds one */
    await_answers(0, 900);
    for (unsigned i = 1; i <= 900; i++) {
        assert_int_equal(engines[0].told[i], 1);
        assert_true(engines[0].error[i] == 0 || engines[0].error[i] == ENOBUFS);
        refused += engines[0].error[i] != 0;
    }
    assert_in_range(refused, 1, 899);
    assert_int_equal(x->net.worker[0]->count.stores, 900);
    assert_int_equal(x->net.worker[0]->count.stores_refused, refused);
    stop(x);
    start(x, 64 << 20);
    assert_int_equal(x->net.loaded, 900 - refused);
    stop(x);
}

static void a_full_file_is_told(void **state)
{
    struct world *x = (struct world *)*state;
    unsigned kept = 0;
    start(x, 128 * 1024);
    for (unsigned i = 0; i < 60; i++) {
        order(x, i % 2, 1 + i, "1 7000");
        await_answers(i % 2, i / 2 + 1);
        kept += engines[i % 2].error[1 + i] == 0;
        assert_true(engines[i % 2].error[1 + i] == 0 || engines[i % 2].error[1 + i] == ENOSPC);
    }
    assert_in_range(kept, 1, 20);
    char bytes[4096];
    struct text t = text_into(bytes, sizeof bytes);
    keeping_show(&x->net, &t);
    text_put_char(&t, '\0');
    assert_true(text_fits(&t));
    assert_non_null(strstr(bytes, "{\"counter\":\"refused\",\"value\":"));
    assert_null(strstr(bytes, "{\"counter\":\"refused\",\"value\":0,"));
    assert_non_null(strstr(bytes, "No space left on device"));
    stop(x);
    start(x, 128 * 1024);
    assert_int_equal(x->net.loaded, kept);
    stop(x);
}

static void without_a_store_nothing_is_promised(void **state)
{
    struct world *x = (struct world *)*state;
    char bytes[4096];
    struct text t = text_into(bytes, sizeof bytes);
    start(x, 0);
    assert_null(x->net.store);
    order(x, 0, 1, "3 10");
    order(x, 0, 9, "quiet 2");
    await_answers(0, 3);
    for (unsigned i = 1; i <= 3; i++)
        assert_int_equal(engines[0].error[i], ENOTSUP);
    keeping_show(&x->net, &t);
    assert_int_equal(t.n, 0);
    stop(x);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        CASE(what_is_stored_is_told_once_and_known_after),
        CASE(a_full_ring_is_told_at_once),
        CASE(a_full_file_is_told),
        CASE(without_a_store_nothing_is_promised),
    };
#undef CASE
    return cmocka_run_group_tests_name("keeping", tests, NULL, NULL);
}
