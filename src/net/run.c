/* SPDX-License-Identifier: Apache-2.0
 *
 * The main thread: starts everything or says why not, then serves signals and the control socket.
 *
 *      HUP    reload; the log file is opened anew either way
 *      TERM   refuse new dialogs, wait for what is open (at most drain_within), stop
 *      TERM   once more, or INT: stop now */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "net/net_int.h"

enum {
    DESCRIPTORS_SPARE = 64,
    CONNECTIONS_MIN = 16,
    DRAIN_LOOK_MS = 50,
    TICK_MS = 1000,
    LONG_WAIT_MS = 60000
};

/* ---- start ----------------------------------------------------------------------------------- */

static unsigned listener_count(const struct config *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        n += c->engine.edge.listener[i].used;
    return n;
}

/* Accepted connections that each worker may hold, by `limits:` and by what the system grants. */
static int64_t connections_per_worker(const struct config *c)
{
    const struct edge_limits *l = &c->engine.limits;
    uint64_t fixed = DESCRIPTORS_SPARE + (uint64_t)c->workers * (LISTENERS_MAX + 4ULL);
    uint64_t want = fixed + (uint64_t)c->workers * ((uint64_t)l->flows + l->target_flows);
    uint64_t have = descriptors_raise(want);
    if (have >= want)
        return l->flows;
    uint64_t each = have > fixed ? (have - fixed) / c->workers : 0;
    uint64_t ours = l->target_flows < each / 2 ? l->target_flows : each / 2;
    if (each - ours < CONNECTIONS_MIN) {
        fprintf(stderr,
                "weir: only %llu open files are allowed, far below the %llu that "
                "limits: asks for; raise RLIMIT_NOFILE (LimitNOFILE=, ulimit -n)\n",
                (unsigned long long)have, (unsigned long long)want);
        return -1;
    }
    if (each - ours < l->flows)
        fprintf(stderr,
                "weir: notice: %llu open files are allowed: at most %llu connections per "
                "worker instead of %u (RLIMIT_NOFILE)\n",
                (unsigned long long)have, (unsigned long long)(each - ours), l->flows);
    return (int64_t)(each - ours < l->flows ? each - ours : l->flows);
}

static int make_workers(struct net *net, struct switching *s, uint32_t accepted_max)
{
    const struct config *c = net->config;
    for (uint32_t i = 0; i < net->workers; i++) {
        struct worker *w = worker_new(net, i, c, accepted_max);
        if (w == NULL) {
            fprintf(stderr, "weir: worker %u: no memory: %s\n", i, strerror(errno));
            return -1;
        }
        net->worker[i] = w;
        for (unsigned id = 0; id < LISTENERS_MAX; id++) {
            if (s->fd[i][id] < 0)
                continue;
            if (worker_adopt(w, c, (uint8_t)id, s->fd[i][id]) != 0) {
                fprintf(stderr, "weir: worker %u: %s\n", i, strerror(errno));
                return -1;
            }
            s->fd[i][id] = -1;
        }
    }
    return 0;
}

/* Engines first: what is stored must be known before the first request is taken. 0 or an exit
 * status. */
static int start_workers(struct net *net)
{
    struct entropy e = {0};
    struct rng rng = entropy_rng(&e);
    struct hash_seed seed = {rng_u64(&rng), rng_u64(&rng)};
    uint32_t generation = (uint32_t)rng_u64(&rng);
    int error = 0;
    for (uint32_t i = 0; i < net->workers && error == 0; i++)
        error = worker_birth(net->worker[i], &seed, generation);
    int status = error == 0 ? keeping_start(net, stderr) : 0;
    for (uint32_t i = 0; i < net->workers && error == 0 && status == 0; i++) {
        error = worker_start(net->worker[i]);
        net->started += error == 0;
    }
    if (error == 0)
        return status;
    fprintf(stderr, "weir: cannot start the workers: %s\n", strerror(error));
    return EXIT_FAILURE;
}

static int open_listeners(struct net *net)
{
    struct switching *s = (struct switching *)calloc(1, sizeof *s);
    int64_t accepted_max = connections_per_worker(net->config);
    int failed = -1;
    net->tls = listeners_tls_load(net->config, stderr);
    if (s != NULL && net->tls != NULL && accepted_max > 0 &&
        listeners_open(net, net->config, NULL, s, stderr) == 0) {
        failed = make_workers(net, s, (uint32_t)accepted_max);
        listeners_close(s, net->workers);
    }
    free(s);
    return failed;
}

/* 0 or an exit status. The store comes first: its check is another process, and wants no threads
 * beside it. */
static int start(struct net *net)
{
    int status = keeping_open(net, stderr);
    if (status != 0)
        return status;
    net->nft = nft_new(net->workers);
    if (net->nft == NULL || open_listeners(net) != 0 || inbox_init(&net->inbox) != 0)
        return EXIT_FAILURE;
    net->control = control_open(net, net->config->control, stderr);
    if (net->control == NULL)
        return EXIT_FAILURE;
    net->logger = logger_start(net, net->config, stderr);
    net->resolver = net->logger != NULL ? resolver_start(net, stderr) : NULL;
    return net->resolver != NULL ? start_workers(net) : EXIT_FAILURE;
}

static void stop(struct net *net)
{
    const struct order o = {.kind = ORDER_STOP};
    for (uint32_t i = 0; i < net->started; i++)
        while (order_send(net, i, &o, SLICE_NONE) != 0)
            usleep(1000);
    for (uint32_t i = 0; i < net->started; i++)
        pthread_join(net->worker[i]->thread, NULL);
    store_stop(net->store); /* what the workers gave it is committed */
    resolver_stop(net->resolver);
    logger_stop(net->logger);
    control_close(net->control);
    nft_free(net->nft);
    for (uint32_t i = 0; i < net->workers; i++)
        worker_free(net->worker[i]);
    listeners_tls_free(net->tls);
    if (net->inbox.wake_fd >= 0)
        close(net->inbox.wake_fd);
    config_free(net->config);
}

static void say_backlog(const struct config *c)
{
    uint32_t most = backlog_max(), want = 0;
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        if (c->engine.edge.listener[i].used && c->engine.edge.listener[i].transport != TP_UDP)
            want = c->listener[i].backlog > want ? c->listener[i].backlog : want;
    if (want > most)
        fprintf(stderr,
                "weir: notice: the system grants a backlog of %u connections instead of %u "
                "(sysctl net.core.somaxconn): a crowd that comes at once is dropped beyond that\n",
                most, want);
}

static void say_ready(const struct net *net)
{
    const struct config *c = net->config;
    unsigned count = listener_count(c);
    if (net->store != NULL)
        fprintf(stderr, "weir: state %.*s: %lld bindings\n", SLICE_ARG(c->state),
                (long long)net->loaded);
    fprintf(stderr, "weir: ready: node %.*s, %u worker%s, %u listener%s:",
            SLICE_ARG(c->engine.edge.node_name), net->workers, net->workers == 1 ? "" : "s", count,
            count == 1 ? "" : "s");
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        if (c->engine.edge.listener[i].used)
            fprintf(stderr, " %.*s", SLICE_ARG(c->engine.edge.listener[i].uri));
    fputc('\n', stderr);
    if (c->tokens_are_random)
        fprintf(stderr,
                "weir: notice: no secrets.tokens: the key of this start is random, so "
                "dialogs that cross a restart, or another edge of the fleet, are refused\n");
    say_backlog(c);
    tell_about_users(c, stderr);
    tell_about_names(c, stderr);
}

/* ---- serving --------------------------------------------------------------------------------- */

void net_drain(struct net *net)
{
    const struct order o = {.kind = ORDER_COMMAND, .command = CMD_DRAIN};
    net->draining = true;
    net->drain_until = mono_add(mono_now(), net->config->drain_within);
    fprintf(stderr, "weir: draining: new dialogs are refused\n");
    for (uint32_t i = 0; i < net->workers; i++)
        (void)order_send(net, i, &o, SLICE_NONE);
}

static bool is_drained(const struct net *net)
{
    for (uint32_t i = 0; i < net->workers; i++)
        if (atomic_load(&net->worker[i]->relays_open) != 0)
            return false;
    return true;
}

/* Returns false when it is time to stop. */
static bool take_signal(struct net *net, int fd)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != (ssize_t)sizeof info)
        return true;
    if (info.ssi_signo == SIGHUP) {
        if (net_reload(net, stderr) == 0)
            fprintf(stderr, "weir: reloaded\n");
        else {
            fprintf(stderr, "weir: reload failed: the old configuration stays\n");
            (void)logger_switch(net->logger, net->config, stderr); /* logrotate counts on it */
        }
        return true;
    }
    if (net->draining)
        return false;
    net_drain(net);
    return true;
}

/* How long main may wait, in ms; -1 = until somebody knocks. */
static int wait_of(struct net *net)
{
    int wait = net->draining ? DRAIN_LOOK_MS : control_is_busy(net->control) ? TICK_MS : -1;
    mono_ns now = mono_now(), at = nft_deadline(net->nft, now);
    if (at != MONO_NONE) {
        dur_ns left = mono_since(at, now) / NS_MS + (at > now);
        int ms = left < LONG_WAIT_MS ? (int)left : LONG_WAIT_MS;
        wait = wait < 0 || ms < wait ? ms : wait;
    }
    return inbox_may_sleep(&net->inbox) ? wait : 0;
}

static void serve(struct net *net, int signal_fd)
{
    bool go_on = true;
    while (go_on) {
        nft_tick(net->nft, net->config, mono_now());
        struct pollfd fds[3 + CONTROL_POLL_MAX] = {
            {.fd = signal_fd, .events = POLLIN},
            {.fd = net->inbox.wake_fd, .events = POLLIN},
            nft_poll(net->nft),
        };
        unsigned count = control_poll(net->control, fds + 3);
        int n = poll(fds, 3 + count, wait_of(net));
        inbox_awake(&net->inbox);
        inbox_drain_fd(&net->inbox);
        (void)answers_take(net, 0, NULL);
        if (n > 0)
            control_serve(net->control, fds + 3, count);
        control_tick(net->control, mono_now());
        if (n > 0 && fds[0].revents != 0)
            go_on = take_signal(net, signal_fd);
        if (net->draining && (is_drained(net) || mono_now() >= net->drain_until))
            go_on = false;
    }
}

/* Signals come as readable bytes to main, and to nobody else: threads inherit the mask. */
static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* a parent's SIG_IGN would keep what became of a child from us */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int net_run(const struct net_run *run)
{
    struct net *net = (struct net *)calloc(1, sizeof *net);
    int signal_fd = open_signals();
    if (net == NULL || signal_fd < 0) {
        fprintf(stderr, "weir: cannot start: %s\n", strerror(errno));
        config_free(run->config);
        free(net);
        return EXIT_FAILURE;
    }
    net->run = run;
    net->config = run->config;
    net->workers = run->config->workers;
    net->inbox.wake_fd = -1;
    int status = start(net);
    if (status == 0) {
        say_ready(net);
        serve(net, signal_fd);
    }
    stop(net);
    close(signal_fd);
    free(net);
    return status;
}
