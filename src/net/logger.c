/* SPDX-License-Identifier: Apache-2.0
 *
 * The log writer: one thread that turns the workers' records into lines.
 *
 *      worker 0 ─ ring ─┐
 *      worker 1 ─ ring ─┼─▶ every 50 ms, or when a ring is half full ─▶ lines ─▶ one write(2)
 *      worker 2 ─ ring ─┘
 *
 * It sleeps for good when nothing was said, so that an idle process is idle. A disk that stands
 * still stops this thread and no other: rings fill, and what does not fit is counted. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "net/net_int.h"

enum { LINES_BYTES = 256 * 1024, LINE_BYTES_MAX = 16 * 1024 };
enum { NOTICE_KINDS = 16, NOTICES_PER_SECOND = 10, NOTICE_TEXT_MAX = 512 };
enum { SAID_MAX = 16 };
#define SAID_WITHIN (10 * NS_S)
enum { DRAIN_EVERY_MS = 50, QUIET_ROUNDS = 3, LOG_NAMES_BYTES = 256 };

struct notice_rate {
    mono_ns window;
    uint32_t count, suppressed;
};

/* Each worker finds out for itself that a target is down: one line is enough. */
struct said {
    uint64_t hash;
    uint32_t worker;
    mono_ns at;
};

struct logger {
    struct net *net;
    pthread_t thread;
    int wake_fd;
    _Atomic uint32_t dreaming; /* sleeps until woken, not just for its interval */
    _Atomic bool stop;
    pthread_mutex_t lock; /* for what a switch replaces */
    int fd;
    bool own_fd;
    enum config_log_format format;
    struct log_names names; /* point into name_bytes */
    char name_bytes[3][LOG_NAMES_BYTES];
    bool losing;         /* lines are being lost */
    bool torn;           /* the last write ended within a line */
    uint64_t bytes_lost; /* not yet told */
    mono_ns told_lost_at;
    uint64_t overruns_told; /* records that found a full ring */
    mono_ns overruns_told_at;
    struct notice_rate rate[NOTICE_KINDS];
    struct said said[SAID_MAX];
    unsigned said_next;
    struct text lines;
};

/* ---- worker's side --------------------------------------------------------------------------- */

static void wake(struct logger *l)
{
    uint64_t one = 1;
    (void)!write(l->wake_fd, &one, sizeof one);
}

/* True once for every eighth of the ring that is filled while it is more than half full. */
static bool is_filling(struct ring *r, uint64_t before, uint64_t after)
{
    if (after - r->head_seen <= LOG_RING_BYTES / 2 ||
        before / (LOG_RING_BYTES / 8) == after / (LOG_RING_BYTES / 8))
        return false;
    r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
    return after - r->head_seen > LOG_RING_BYTES / 2;
}

static void push(struct worker *w, const struct log_head *head, struct slice text)
{
    struct logger *l = w->net->logger;
    uint64_t before = atomic_load_explicit(&w->log->tail, memory_order_relaxed);
    char *p = (char *)ring_reserve(w->log, (uint32_t)(sizeof *head + text.n));
    if (p == NULL)
        return; /* counted by the ring */
    memcpy(p, head, sizeof *head);
    if (text.n > 0)
        memcpy(p + sizeof *head, text.p, text.n);
    ring_push(w->log, (uint32_t)(sizeof *head + text.n));
    uint64_t after = atomic_load_explicit(&w->log->tail, memory_order_relaxed);
    /* A read-modify-write on both sides: either we see that it dreams, or it sees our record. */
    bool dreams = atomic_fetch_add(&l->dreaming, 0) != 0 && atomic_exchange(&l->dreaming, 0) != 0;
    if (dreams || is_filling(w->log, before, after))
        wake(l);
}

void log_record(struct worker *w, struct slice record)
{
    const struct log_head head = {.piece = LOG_PIECE_RECORD};
    push(w, &head, record);
}

void log_notice(struct worker *w, uint16_t notice, struct slice text)
{
    const struct log_head head = {.piece = LOG_PIECE_NOTICE, .notice = notice};
    if (w->net->logger == NULL)
        return; /* a worker that is tried alone */
    push(w, &head, slice_take(text, NOTICE_TEXT_MAX));
}

/* ---- notices --------------------------------------------------------------------------------- */

static const char *notice_words(uint32_t notice)
{
    switch ((enum notice)notice) {
    case NOTICE_TARGET_DOWN:
        return "target down";
    case NOTICE_TARGET_UP:
        return "target up";
    case NOTICE_TARGET_EJECTED:
        return "target ejected";
    case NOTICE_POOL_PANIC:
        return "pool in panic: all its targets are used";
    case NOTICE_POOL_CALM:
        return "pool calm again";
    case NOTICE_LOOP:
        return "loop";
    case NOTICE_ROUTE_REFUSED:
        return "foreign Route refused";
    case NOTICE_TABLE_FULL:
        return "table full";
    case NOTICE_POOL_EMPTY:
        return "pool has no target to ask";
    case NOTICE_SESSION_CIRCLES:
        return "a session goes in circles: refused with 482";
    case NOTICE_TLS_FAILED:
        return "TLS towards a server failed";
    }
    return "notice";
}

static void say(uint32_t notice, struct slice text, uint32_t suppressed)
{
    char bytes[NOTICE_TEXT_MAX * 4 + 256];
    struct text t = text_into(bytes, sizeof bytes);
    TEXT_LIT(&t, "weir: notice: ");
    text_put(&t, slice_cstr(notice_words(notice)));
    if (suppressed > 0) {
        TEXT_LIT(&t, ": suppressed ");
        text_put_u64(&t, suppressed);
        TEXT_LIT(&t, " more");
    } else if (text.n > 0) {
        TEXT_LIT(&t, ": ");
        text_put_escaped(&t, text, NOTICE_TEXT_MAX);
    }
    text_put_char(&t, '\n');
    struct slice line = text_slice(&t);
    (void)!write(STDERR_FILENO, line.p, line.n);
}

/* A kind that comes too often is counted for the rest of its second. */
static void notice(struct logger *l, uint32_t kind, struct slice text)
{
    struct notice_rate *r = &l->rate[kind % NOTICE_KINDS];
    mono_ns now = mono_now();
    if (now >= mono_add(r->window, NS_S))
        *r = (struct notice_rate){.window = now, .suppressed = r->suppressed};
    if (r->count == NOTICES_PER_SECOND) {
        r->suppressed++;
        return;
    }
    if (r->suppressed > 0 && r->count == 0) {
        say(kind, SLICE_NONE, r->suppressed);
        r->suppressed = 0;
    }
    r->count++;
    say(kind, text, 0);
}

/* Has another worker just said the same? */
static bool is_echo(struct logger *l, uint32_t worker, uint32_t kind, struct slice text)
{
    static const struct hash_seed seed; /* own words, no table: nobody gains by a collision */
    uint64_t hash = siphash(&seed, text.p, text.n) ^ kind;
    mono_ns now = mono_now();
    for (unsigned i = 0; i < SAID_MAX; i++)
        if (l->said[i].hash == hash && l->said[i].worker != worker && l->said[i].at != 0 &&
            now < mono_add(l->said[i].at, SAID_WITHIN))
            return true;
    l->said[l->said_next++ % SAID_MAX] = (struct said){hash, worker, now};
    return false;
}

/* What was counted is told even when no other of its kind follows. */
static void tell_suppressed(struct logger *l)
{
    mono_ns now = mono_now();
    for (uint32_t i = 0; i < NOTICE_KINDS; i++) {
        struct notice_rate *r = &l->rate[i];
        if (r->suppressed == 0 || now < mono_add(r->window, NS_S))
            continue;
        say(i, SLICE_NONE, r->suppressed);
        *r = (struct notice_rate){0};
    }
}

static bool owes_suppressed(const struct logger *l)
{
    for (uint32_t i = 0; i < NOTICE_KINDS; i++)
        if (l->rate[i].suppressed > 0)
            return true;
    return false;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* The first loss is told at once, what follows is counted and told every ten seconds: a full disk
 * may stay full until the morning. */
static void tell_lost(struct logger *l, const char *why)
{
    mono_ns now = mono_now();
    if (l->told_lost_at != 0 && now < mono_add(l->told_lost_at, SAID_WITHIN))
        return;
    dprintf(STDERR_FILENO,
            "weir: notice: log lines lost: the log cannot be written: %s (%llu bytes)\n", why,
            (unsigned long long)l->bytes_lost);
    l->bytes_lost = 0;
    l->told_lost_at = now;
}

static void tell_written(struct logger *l)
{
    dprintf(STDERR_FILENO, "weir: notice: log lines written again (%llu bytes more were lost)\n",
            (unsigned long long)l->bytes_lost);
    l->losing = false;
    l->bytes_lost = 0;
    l->told_lost_at = 0;
}

/* Records that found no room while the file did not take any: the writer can say so only now. */
static void tell_overruns(struct logger *l)
{
    mono_ns now = mono_now();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->net->workers; i++)
        sum += atomic_load_explicit(&l->net->worker[i]->log->refused, memory_order_relaxed);
    if (sum == l->overruns_told ||
        (l->overruns_told_at != 0 && now < mono_add(l->overruns_told_at, SAID_WITHIN)))
        return;
    dprintf(STDERR_FILENO,
            "weir: notice: log lines lost: the log takes them too slowly (%llu lines)\n",
            (unsigned long long)(sum - l->overruns_told));
    l->overruns_told = sum;
    l->overruns_told_at = now;
}

static void lose(struct logger *l, struct slice rest, int error)
{
    size_t at = (size_t)(rest.p - l->lines.p);
    l->torn = l->torn || (at > 0 && l->lines.p[at - 1] != '\n');
    l->losing = true;
    l->bytes_lost += rest.n;
    tell_lost(l, strerror(error));
}

static void write_lines(struct logger *l)
{
    struct slice rest = text_slice(&l->lines);
    if (l->torn && write(l->fd, "\n", 1) == 1)
        l->torn = false;
    while (rest.n > 0 && l->fd >= 0) {
        ssize_t n = write(l->fd, rest.p, rest.n);
        if (n >= 0) {
            rest = slice_drop(rest, (size_t)n);
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = l->fd, .events = POLLOUT};
            (void)poll(&p, 1, 1000);
            if (atomic_load(&l->stop))
                break;
        } else if (errno != EINTR) {
            break; /* a full disk, a closed pipe: these lines are lost, the next may not be */
        }
    }
    if (rest.n > 0)
        lose(l, rest, errno);
    else if (l->losing && l->fd >= 0)
        tell_written(l);
    l->lines.n = 0;
}

static void put_record(struct logger *l, struct slice bytes)
{
    const struct log_record *r = (const struct log_record *)(const void *)bytes.p;
    if (l->fd < 0)
        return;
    if (l->lines.cap - l->lines.n < LINE_BYTES_MAX)
        write_lines(l);
    size_t before = l->lines.n;
    int failed = l->format == CONFIG_LOG_JSON ? log_write_json(&l->lines, r, &l->names)
                                              : log_write_logfmt(&l->lines, r, &l->names);
    if (failed != 0) { /* longer than any line can be: LINE_BYTES_MAX is wrong */
        l->lines.n = before;
        l->bytes_lost += LINE_BYTES_MAX;
    }
}

/* Empties every ring; returns whether there was anything. */
static bool drain(struct logger *l)
{
    bool any = false;
    for (uint32_t i = 0; i < l->net->workers; i++) {
        struct ring *ring = l->net->worker[i]->log;
        for (struct slice r; (r = ring_peek(ring)).p != NULL; ring_pop(ring)) {
            struct log_head head;
            memcpy(&head, r.p, sizeof head);
            any = true;
            if (head.piece == LOG_PIECE_RECORD)
                put_record(l, slice_drop(r, sizeof head));
            else if (!is_echo(l, i, head.notice, slice_drop(r, sizeof head)))
                notice(l, head.notice, slice_drop(r, sizeof head));
        }
    }
    if (l->lines.n > 0)
        write_lines(l);
    tell_suppressed(l);
    tell_overruns(l);
    return any;
}

static void wait_woken(struct logger *l, int timeout_ms)
{
    struct pollfd p = {.fd = l->wake_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&p, 1, timeout_ms) > 0)
        (void)!read(l->wake_fd, &count, sizeof count);
}

static bool rings_are_empty(const struct logger *l)
{
    for (uint32_t i = 0; i < l->net->workers; i++)
        if (!ring_is_empty(l->net->worker[i]->log))
            return false;
    return true;
}

static void *logger_main(void *arg)
{
    struct logger *l = (struct logger *)arg;
    unsigned quiet = 0;
    pthread_setname_np(pthread_self(), "weir-log");
    while (!atomic_load(&l->stop)) {
        pthread_mutex_lock(&l->lock);
        quiet = drain(l) || owes_suppressed(l) ? 0 : quiet + 1;
        pthread_mutex_unlock(&l->lock);
        if (quiet < QUIET_ROUNDS) {
            wait_woken(l, DRAIN_EVERY_MS);
            continue;
        }
        (void)atomic_exchange(&l->dreaming, 1);
        if (rings_are_empty(l) && !atomic_load(&l->stop))
            wait_woken(l, -1);
        (void)atomic_exchange(&l->dreaming, 0);
    }
    pthread_mutex_lock(&l->lock);
    (void)drain(l);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- opening and switching ------------------------------------------------------------------- */

static int open_log(const struct config *c, bool *ret_own, FILE *errors)
{
    char path[4096];
    *ret_own = false;
    if (!c->log.on)
        return -1;
    if (slice_equal(c->log.path, SLICE("stdout")))
        return STDOUT_FILENO;
    if (slice_equal(c->log.path, SLICE("stderr")))
        return STDERR_FILENO;
    if (c->log.path.n >= sizeof path) {
        fprintf(errors, "weir: log: the path is too long\n");
        return -2;
    }
    memcpy(path, c->log.path.p, c->log.path.n);
    path[c->log.path.n] = '\0';
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
        fprintf(errors, "weir: log: cannot open %s: %s\n", path, strerror(errno));
        return -2;
    }
    *ret_own = true;
    return fd;
}

static struct slice keep_name(char *to, struct slice s)
{
    s = slice_take(s, LOG_NAMES_BYTES);
    if (s.n > 0)
        memcpy(to, s.p, s.n);
    return slice_of(to, s.n);
}

static void set_log(struct logger *l, const struct config *c, int fd, bool own)
{
    if (l->own_fd)
        close(l->fd);
    l->fd = fd;
    l->own_fd = own;
    l->format = c->log.format;
    l->names.node = keep_name(l->name_bytes[0], c->engine.edge.node_name);
    l->names.region = keep_name(l->name_bytes[1], c->engine.edge.region);
    l->names.zone = keep_name(l->name_bytes[2], c->engine.edge.zone);
}

int logger_try(const struct config *c, FILE *errors)
{
    bool own;
    int fd = open_log(c, &own, errors);
    if (own)
        close(fd);
    return fd == -2 ? -1 : 0;
}

int logger_switch(struct logger *l, const struct config *c, FILE *errors)
{
    bool own;
    int fd = open_log(c, &own, errors);
    if (fd == -2)
        return -1;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    if (pthread_mutex_timedlock(&l->lock, &until) != 0) {
        fprintf(errors, "weir: log: the writer hangs on the old file\n");
        if (own)
            close(fd);
        return -1;
    }
    set_log(l, c, fd, own);
    pthread_mutex_unlock(&l->lock);
    return 0;
}

struct logger *logger_start(struct net *net, const struct config *c, FILE *errors)
{
    struct logger *l = (struct logger *)memory_map(sizeof *l);
    void *lines = memory_map(LINES_BYTES);
    bool own;
    if (l == NULL || lines == NULL) {
        fprintf(errors, "weir: log: no memory\n");
        return NULL;
    }
    int fd = open_log(c, &own, errors);
    if (fd == -2)
        return NULL;
    l->net = net;
    l->lines = text_into(lines, LINES_BYTES);
    pthread_mutex_init(&l->lock, NULL);
    set_log(l, c, fd, own);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int failed = l->wake_fd < 0 ? errno : pthread_create(&l->thread, NULL, logger_main, l);
    if (failed != 0) {
        fprintf(errors, "weir: log: cannot start: %s\n", strerror(failed));
        return NULL;
    }
    return l;
}

void logger_stop(struct logger *l)
{
    struct timespec until;
    if (l == NULL)
        return;
    atomic_store(&l->stop, true);
    wake(l);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    /* A writer that hangs in write(2) ends with the process. */
    if (pthread_timedjoin_np(l->thread, NULL, &until) != 0)
        return;
    if (l->own_fd)
        close(l->fd);
    close(l->wake_fd);
    pthread_mutex_destroy(&l->lock);
    memory_unmap(l->lines.p, LINES_BYTES);
    memory_unmap(l, sizeof *l);
}
