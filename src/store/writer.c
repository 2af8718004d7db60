/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that writes, and the rings between it and the workers.
 *
 *      ┌─▶ sleep until somebody knocks ─▶ wait for the next commit's time ─▶ take all ─┐
 *      └───────────── answer each ◀── commit ◀────────────────────────────────────────┘
 *
 * A lone request finds the time come and is committed at once. While the thread waits for the time
 * it is not asleep in the sense of knocking: workers that put something meanwhile need no system
 * call. Where the gap brings nobody else (one phone after another), it is left out for a while.
 * An answer always finds room: a worker does not put more than the answers' ring holds. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include "store/store_int.h"

/* Commits without a gap after a gap that nobody used: who registers one by one need not wait. */
enum { HASTE = 32 };

/* What lies in the ring in front of the records. */
struct put_head {
    uint64_t id;
    mono_ns put;
};

/* ---- rings ----------------------------------------------------------------------------------- */

static size_t ring_bytes(uint32_t size)
{
    return (sizeof(struct ring) + 63) / 64 * 64 + size;
}

static struct ring *ring_new(uint32_t size)
{
    size_t head = ring_bytes(0);
    void *p = mmap(NULL, head + size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    struct ring *r = (struct ring *)p;
    ring_init(r, (char *)p + head, size);
    return r;
}

static void ring_free(struct ring *r, uint32_t size)
{
    if (r != NULL)
        (void)munmap(r, ring_bytes(size));
}

/* ---- a worker's side ------------------------------------------------------------------------- */

static void wake(struct store *s)
{
    uint64_t one = 1;
    if (atomic_load(&s->asleep) != 0 && atomic_exchange(&s->asleep, 0) != 0)
        (void)!write(s->wake_fd, &one, sizeof one);
}

int store_put(struct store *s, uint32_t worker, uint64_t id, const struct iovec *iov,
              uint32_t iov_count, mono_ns now)
{
    struct store_lane *lane = &s->lane[worker];
    struct put_head head = {.id = id, .put = now};
    size_t n = 0;
    for (uint32_t i = 0; i < iov_count; i++)
        n += iov[i].iov_len;
    if (n > STORE_REQUEST_BYTES_MAX)
        return EMSGSIZE;
    if (id != 0 && lane->waiting == STORE_WAITING_MAX)
        return ENOBUFS;
    char *p = (char *)ring_reserve(lane->in, (uint32_t)(sizeof head + n));
    if (p == NULL)
        return ENOBUFS;
    memcpy(p, &head, sizeof head);
    char *to = p + sizeof head;
    for (uint32_t i = 0; i < iov_count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    ring_push(lane->in, (uint32_t)(sizeof head + n));
    lane->waiting += id != 0;
    atomic_fetch_or(&s->pending, 1ULL << worker);
    wake(s);
    return 0;
}

bool store_answered(struct store *s, uint32_t worker, struct store_answer *ret)
{
    struct store_lane *lane = &s->lane[worker];
    struct slice r = ring_peek(lane->out);
    if (r.p == NULL)
        return false;
    MUST(r.n == sizeof *ret);
    memcpy(ret, r.p, sizeof *ret);
    ring_pop(lane->out);
    lane->waiting--;
    return true;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* A record leaves the ring for the batch; false when the batch is full. */
static bool take_one(struct store *s, uint32_t worker, struct slice r)
{
    struct put_head head;
    size_t n = r.n - sizeof head;
    if (s->count == STORE_BATCH_REQUESTS_MAX || n > STORE_BATCH_BYTES_MAX - s->bytes_used)
        return false;
    memcpy(&head, r.p, sizeof head);
    char *copy = s->bytes + s->bytes_used;
    memcpy(copy, r.p + sizeof head, n);
    s->bytes_used += n;
    s->request[s->count++] = (struct store_request){
        .id = head.id, .put = head.put, .worker = worker, .records = slice_of(copy, n)};
    return true;
}

static void take_all(struct store *s)
{
    s->count = 0;
    s->bytes_used = 0;
    uint64_t from = atomic_exchange(&s->pending, 0);
    for (; from != 0; from &= from - 1) {
        uint32_t worker = (uint32_t)__builtin_ctzll(from);
        for (struct slice r; (r = ring_peek(s->lane[worker].in)).p != NULL;) {
            if (!take_one(s, worker, r)) { /* the rest is for the next batch */
                atomic_fetch_or(&s->pending, 1ULL << worker);
                break;
            }
            ring_pop(s->lane[worker].in);
        }
    }
}

static void answer_all(struct store *s)
{
    uint64_t knock = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct store_request *q = &s->request[i];
        if (q->id == 0)
            continue;
        const struct store_answer a = {.id = q->id, .put = q->put, .error = q->error};
        struct ring *out = s->lane[q->worker].out;
        void *p = ring_reserve(out, sizeof a);
        MUST(p != NULL);
        memcpy(p, &a, sizeof a);
        ring_push(out, sizeof a);
        knock |= 1ULL << q->worker;
    }
    for (; knock != 0; knock &= knock - 1)
        s->run.knock(s->run.ctx, (uint32_t)__builtin_ctzll(knock));
}

/* Until somebody knocks, or nobody did for so long that the last commit shall be forced out. */
static void wait_for_work(struct store *s)
{
    while (atomic_load(&s->pending) == 0 && !atomic_load(&s->stop)) {
        struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
        uint64_t count;
        atomic_store(&s->asleep, 1);
        bool idle = atomic_load(&s->pending) == 0 && !atomic_load(&s->stop);
        int timeout = s->unsynced ? (int)(STORE_SYNC_WITHIN / NS_MS) : -1;
        int n = idle ? poll(&p, 1, timeout) : 0;
        atomic_store(&s->asleep, 0);
        if (n > 0) {
            (void)!read(s->wake_fd, &count, sizeof count);
        } else if (idle && n == 0) {
            (void)store_fold(s);
            store_trim(s);
            store_sync(s);
        }
    }
}

/* Whether it was in the future. */
static bool wait_until(struct store *s, mono_ns at)
{
    if (atomic_load(&s->stop) || store_now() >= at)
        return false;
    struct timespec t = {.tv_sec = (time_t)(at / NS_S), .tv_nsec = (long)(at % NS_S)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    return true;
}

static void *writer_main(void *arg)
{
    struct store *s = (struct store *)arg;
    mono_ns began = 0;
    unsigned haste = 0;
    (void)pthread_setname_np(pthread_self(), "weir-store");
    for (;;) {
        wait_for_work(s);
        if (atomic_load(&s->pending) == 0)
            break; /* it was told to stop, and nothing is left */
        bool waited = haste == 0 && wait_until(s, mono_add(began, s->run.gather_ns));
        began = store_now();
        take_all(s);
        if (s->count == 0)
            continue;
        haste = s->count > 1 ? 0 : waited ? HASTE : haste > 0 ? haste - 1 : 0;
        store_commit(s);
        answer_all(s);
        store_fold_if_long(s, began);
    }
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

int store_start(struct store *s, const struct store_run *run)
{
    MUST(run->workers <= WORKERS_MAX);
    s->run = *run;
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bool whole = s->wake_fd >= 0;
    for (uint32_t i = 0; i < run->workers && whole; i++) {
        s->lane[i].in = ring_new(STORE_IN_RING_BYTES);
        s->lane[i].out = ring_new(STORE_OUT_RING_BYTES);
        whole = s->lane[i].in != NULL && s->lane[i].out != NULL;
    }
    int error = whole ? pthread_create(&s->thread, NULL, writer_main, s) : ENOMEM;
    s->started = error == 0;
    return error;
}

void store_stop(struct store *s)
{
    if (s == NULL)
        return;
    if (s->started) {
        atomic_store(&s->stop, true);
        wake(s);
        pthread_join(s->thread, NULL);
    }
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        ring_free(s->lane[i].in, STORE_IN_RING_BYTES);
        ring_free(s->lane[i].out, STORE_OUT_RING_BYTES);
    }
    (void)store_fold(s);
    store_sync(s);
    if (s->env != NULL)
        mdb_env_close(s->env);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->bytes);
    free(s);
}
