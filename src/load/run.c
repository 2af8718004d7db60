/* SPDX-License-Identifier: Apache-2.0
 *
 * One run: epoll, a timer wheel, signals, the line that shows how it goes. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include "load/load_int.h"

enum {
    EVENTS = 256,
    SPARE_DESCRIPTORS = 64,
    TIMERS_PER_TURN = 64, /* a crowd that begins must not keep those from going on who have begun */
};

const unsigned load__outcome_permille[5] = {500, 900, 990, 999, 1000};

/* ---- time, memory, epoll -----------------------------------------------------------------------
 */

static uint64_t clock_ns(clockid_t which)
{
    struct timespec t;
    (void)clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * NS_S + (uint64_t)t.tv_nsec;
}

uint64_t load__wall(void)
{
    return clock_ns(CLOCK_REALTIME);
}

void load__now(struct load *l)
{
    l->now = clock_ns(CLOCK_MONOTONIC);
}

void load__arm(struct load *l, struct timer *t, mono_ns at)
{
    wheel_arm(&l->wheel, &t->node, at);
}

void load__local_failure(struct load *l)
{
    if (l->stats.n[COUNT_local]++ == 0)
        fprintf(l->err, "weir load: this machine refuses a socket: %s\n", strerror(errno));
}

int load__watch(struct load *l, int fd, struct io *io, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = io};
    return epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e);
}

void *load__map(size_t n)
{
    void *p =
        mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* ---- progress -----------------------------------------------------------------------------------
 */

static const struct role *role_of(const struct load_opts *o)
{
    return o->kind == LOAD_CALLS    ? &load__calls_role
           : o->kind == LOAD_PHONES ? &load__phones_role
                                    : &load__flood_role;
}

static void show(struct load *l, bool is_last)
{
    char bytes[256];
    struct text t = text_into(bytes, sizeof bytes);
    bool is_terminal = isatty(fileno(l->err)) == 1;
    if (l->o->is_quiet)
        return;
    text_put_u64(&t, mono_since(l->now, l->began) / NS_S);
    TEXT_LIT(&t, "s ");
    role_of(l->o)->progress(l, &t);
    struct slice s = text_slice(&t);
    if (is_terminal)
        fprintf(l->err, "\r\033[K%.*s%s", SLICE_ARG(s), is_last ? "\n" : "");
    else
        fprintf(l->err, "weir load: %.*s\n", SLICE_ARG(s));
    fflush(l->err);
}

static void on_tick(struct load *l, struct timer *t)
{
    (void)load__stats_moment(&l->stats, l->now);
    show(l, false);
    load__arm(l, t, mono_add(l->now, NS_S));
}

/* ---- signals ------------------------------------------------------------------------------------
 */

static void on_signal(struct load *l, struct io *io, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)io;
    (void)events;
    if (read(l->signals, &info, sizeof info) == (ssize_t)sizeof info)
        l->over = l->interrupted = true;
}

static int open_signals(struct load *l, struct io *io, sigset_t *ret_old)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    io->fn = on_signal;
    if (sigprocmask(SIG_BLOCK, &set, ret_old) != 0)
        return -1;
    l->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return l->signals < 0 ? -1 : load__watch(l, l->signals, io, EPOLLIN);
}

/* ---- a run --------------------------------------------------------------------------------------
 */

static int raise_descriptors(const struct load_opts *o, FILE *err)
{
    struct rlimit limit;
    uint64_t wanted = SPARE_DESCRIPTORS;
    wanted += o->kind == LOAD_PHONES ? o->count : o->kind == LOAD_CALLS ? o->lanes + 1000 : 1000;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (o->kind != LOAD_PHONES || limit.rlim_cur >= wanted)
        return 0;
    fprintf(err,
            "weir load: %u phones want %llu descriptors, and this process may have %llu; raise "
            "`ulimit -n`\n",
            o->count, (unsigned long long)wanted, (unsigned long long)limit.rlim_cur);
    return -1;
}

static int begin_tls(struct load *l)
{
    char why[TLS_WHY_BYTES_MAX];
    if (l->o->to.transport != TP_TLS && l->o->to.transport != TP_WSS)
        return 0;
    if (tls_codec_init(&l->codec) != 0) {
        fputs("weir load: OpenSSL lacks the ciphers of TLS\n", l->err);
        return -1;
    }
    const struct config_tls_client whom = {.ca = slice_cstr(l->o->ca), .verify = !l->o->insecure};
    l->client = tls_client_new(&whom, why);
    if (l->o->insecure)
        l->hello = load__hello_env_new(slice_cstr(l->o->server));
    if (l->client != NULL)
        return 0;
    fprintf(l->err, "weir load: %s\n", why);
    return -1;
}

static int begin(struct load *l)
{
    uint64_t seed = l->o->seed;
    uint32_t run = 0;
    if (getrandom(&run, sizeof run, 0) != (ssize_t)sizeof run ||
        (seed == 0 && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed))
        return -1;
    l->run = run;
    prng_seed(&l->prng, seed);
    load__now(l);
    l->began = l->now;
    wheel_init(&l->wheel, l->now);
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    l->raw = (char *)malloc(BUFFER_BYTES);
    l->plain = (char *)malloc(BUFFER_BYTES);
    l->sealed = (char *)malloc(BUFFER_BYTES);
    if (l->ep < 0 || l->raw == NULL || l->plain == NULL || l->sealed == NULL ||
        load__stats_init(&l->stats, l->now) != 0) {
        fputs("weir load: no memory\n", l->err);
        return -1;
    }
    return begin_tls(l);
}

static int wait_ms(struct load *l)
{
    mono_ns at = wheel_deadline(&l->wheel);
    if (at == MONO_NONE)
        return -1;
    dur_ns left = mono_since(at, l->now);
    return left > 3600 * NS_S ? 3600 * 1000 : (int)((left + NS_MS - 1) / NS_MS);
}

static void turn(struct load *l)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->ep, events, EVENTS, wait_ms(l));
    for (int i = 0; i < n; i++) {
        struct io *io = (struct io *)events[i].data.ptr;
        load__now(l);
        io->fn(l, io, events[i].events);
    }
    load__now(l);
    struct wheel_node *node;
    for (unsigned i = 0; i < TIMERS_PER_TURN && !l->over; i++) {
        if ((node = wheel_expire(&l->wheel, l->now)) == NULL)
            break;
        struct timer *t = (struct timer *)node;
        load__now(l);
        t->fn(l, t);
    }
}

static void run(struct load *l)
{
    l->tick.fn = on_tick;
    load__arm(l, &l->tick, mono_add(l->now, NS_S));
    while (!l->over)
        turn(l);
    (void)load__stats_moment(&l->stats, l->now);
    show(l, true);
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static uint64_t resident(void)
{
    char bytes[128];
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    size_t n = fread(bytes, 1, sizeof bytes - 1, f);
    fclose(f);
    struct slice s = slice_of(bytes, n);
    s = slice_drop(s, slice_find(s, ' ') + 1);
    uint64_t pages = 0;
    if (text_parse_u64(slice_take(s, slice_find(s, ' ')), UINT32_MAX, &pages) != 0)
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int write_report(const struct load *l, const struct outcome *u)
{
    if (l->o->report == NULL)
        return 0;
    FILE *f = fopen(l->o->report, "we");
    if (f != NULL)
        load__report_html(l->o, &l->stats, u, f);
    if (f == NULL || (fclose(f) != 0)) {
        fprintf(l->err, "weir load: %s: %s\n", l->o->report, strerror(errno));
        return -1;
    }
    return 0;
}

static int finish(struct load *l)
{
    struct rusage usage;
    struct outcome u = {.took = mono_since(l->now, l->began), .interrupted = l->interrupted};
    for (int i = 0; i < 5; i++)
        u.reached_at[i] = MONO_NONE;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        u.cpu_user_s = seconds(usage.ru_utime);
        u.cpu_system_s = seconds(usage.ru_stime);
    }
    u.memory_bytes = resident();
    u.wire_out = l->wire_out;
    u.wire_in = l->wire_in;
    role_of(l->o)->report(l, &u);
    u.is_met = u.reached * 1000 >= u.wanted * l->o->expect_permille;
    if (l->o->is_json)
        load__report_json(l->o, &l->stats, &u, l->out);
    else
        load__report_table(l->o, &l->stats, &u, l->out);
    fflush(l->out);
    return write_report(l, &u) != 0 ? -1 : u.is_met ? 0 : 1;
}

int load_run(const struct load_opts *o, FILE *out, FILE *err)
{
    struct io signals;
    sigset_t old;
    struct load *l = (struct load *)calloc(1, sizeof *l);
    int status = -1;
    bool is_masked = false;
    if (l == NULL)
        return -1;
    l->o = o;
    l->out = out;
    l->err = err;
    l->ep = l->signals = -1;
    if (raise_descriptors(o, err) == 0 && begin(l) == 0) {
        is_masked = open_signals(l, &signals, &old) == 0;
        if (is_masked && role_of(o)->begin(l) == 0) {
            run(l);
            status = finish(l);
        }
        role_of(o)->end(l);
    }
    if (is_masked)
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
    tls_client_release(l->client);
    load__hello_env_free(l->hello);
    tls_codec_done(&l->codec);
    load__stats_done(&l->stats);
    free(l->raw);
    free(l->plain);
    free(l->sealed);
    if (l->signals >= 0)
        close(l->signals);
    if (l->ep >= 0)
        close(l->ep);
    free(l);
    return status;
}
