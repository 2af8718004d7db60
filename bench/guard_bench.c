/* SPDX-License-Identifier: Apache-2.0
 *
 * What the guard costs at 100 and at 100,000 sources, each with a connection that is open all the
 * while: one more connection comes and goes, from sources in an order that no cache foresees; a
 * request is charged; a datagram is asked about. The last line says how much of a real accept()
 * and close() over loopback the difference is.
 *
 *      guard_bench [ROUNDS] */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "guard/guard.h"

enum { FEW = 100, MANY = 100000, ACCEPTS = 20000, SLICES = 100 };

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_S + (uint64_t)t.tv_nsec;
}

/* Each in a neighbourhood of its own: two places of the table. */
static struct addr source(uint64_t i)
{
    struct addr a = {.family = 4, .port = 5060};
    (void)bytes_put_be(a.ip, 0x0b000000 + i * 257, 4);
    return a;
}

struct cost {
    double accept_ns, charge_ns, refused_ns;
};

static struct guard *birth(struct guard_opts *opts)
{
    struct guard_limits l = {131072};
    guard_opts_default(opts);
    opts->connections_max = opts->per_source_max = opts->per_prefix_max = 1000000;
    for (unsigned i = 0; i < TP__COUNT; i++)
        opts->accepts[i] = (struct rate_opts){100000000, 100000000};
    for (unsigned i = 0; i < GUARD_WHATS; i++)
        opts->per_source[i] = opts->per_prefix[i] = (struct rate_opts){1000000, 100000000};
    size_t size = guard_memory(&l);
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mem != MAP_FAILED);
    struct arena arena = arena_over(mem, size);
    return guard_new(&arena, opts, &l, 1, (struct hash_seed){1, 2}, 3, NS_S);
}

static void one_accept(struct guard *g, const struct addr *a, mono_ns now)
{
    MUST(guard_accept(g, TP_TCP, a, now) == GUARD_FINE);
    guard_closed(g, a);
}

static void one_charge(struct guard *g, const struct addr *a, mono_ns now)
{
    MUST(guard_charge(g, a, GUARD_REQUESTS, true, now) == GUARD_FINE);
}

static void one_question(struct guard *g, const struct addr *a, mono_ns now)
{
    MUST(guard_refused(g, a, now) == GUARD_FINE);
}

/* The best of many slices: the machine has other things to do, too. */
static double best_ns(struct guard *g, uint64_t sources, uint64_t rounds, mono_ns *now,
                      void (*one)(struct guard *g, const struct addr *a, mono_ns now))
{
    struct prng p;
    uint64_t best = UINT64_MAX, slice = rounds / SLICES + 1;
    prng_seed(&p, 7);
    for (unsigned i = 0; i < SLICES; i++) {
        uint64_t begin = clock_ns();
        for (uint64_t k = 0; k < slice; k++) {
            struct addr a = source(prng_below(&p, sources));
            one(g, &a, *now += 1000);
        }
        uint64_t took = clock_ns() - begin;
        best = took < best ? took : best;
    }
    return (double)best / (double)slice;
}

static struct cost measure(uint64_t sources, uint64_t rounds)
{
    struct guard_opts opts;
    struct guard *g = birth(&opts);
    mono_ns now = 2 * NS_S;
    MUST(g != NULL);
    for (uint64_t i = 0; i < sources; i++) {
        struct addr a = source(i);
        MUST(guard_accept(g, TP_TCP, &a, now) == GUARD_FINE);
    }
    /* One of them is banned: else nobody has to be looked up to know that nobody is. */
    struct addr banned = source(sources);
    opts.per_source[GUARD_AUTH] = (struct rate_opts){1, 1};
    guard_adopt(g, &opts);
    while (guard_charge(g, &banned, GUARD_AUTH, true, now) == GUARD_FINE)
        ;
    return (struct cost){best_ns(g, sources, rounds, &now, one_accept),
                         best_ns(g, sources, rounds, &now, one_charge),
                         best_ns(g, sources, rounds, &now, one_question)};
}

/* What the kernel takes for one accept4() and close(): the connections wait in the backlog. */
static double bare_accept_ns(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    socklen_t len = sizeof to;
    uint64_t best = UINT64_MAX;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST(l >= 0 && bind(l, (struct sockaddr *)&to, len) == 0 && listen(l, 128) == 0 &&
         getsockname(l, (struct sockaddr *)&to, &len) == 0);
    for (unsigned done = 0; done < ACCEPTS;) {
        int out[64];
        for (unsigned i = 0; i < 64; i++) {
            out[i] = socket(AF_INET, SOCK_STREAM, 0);
            MUST(out[i] >= 0 && connect(out[i], (struct sockaddr *)&to, len) == 0);
        }
        uint64_t begin = clock_ns();
        for (unsigned i = 0; i < 64; i++, done++) {
            int in = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            MUST(in >= 0);
            close(in);
        }
        uint64_t took = clock_ns() - begin;
        best = took < best ? took : best;
        for (unsigned i = 0; i < 64; i++)
            close(out[i]);
    }
    close(l);
    return (double)best / 64;
}

int main(int argc, char **argv)
{
    uint64_t rounds = 1000000;
    if (argc > 2 || (argc == 2 && text_parse_u64(slice_cstr(argv[1]), 1u << 30, &rounds) != 0))
        return 2;
    struct cost few = measure(FEW, rounds), many = measure(MANY, rounds);
    double bare = bare_accept_ns();
    printf("%-18s %10s %10s %7s\n", "ns", "100", "100,000", "ratio");
    printf("%-18s %10.0f %10.0f %7.2f\n", "accept + closed", few.accept_ns, many.accept_ns,
           many.accept_ns / few.accept_ns);
    printf("%-18s %10.0f %10.0f %7.2f\n", "charge", few.charge_ns, many.charge_ns,
           many.charge_ns / few.charge_ns);
    printf("%-18s %10.0f %10.0f %7.2f\n", "refused?", few.refused_ns, many.refused_ns,
           many.refused_ns / few.refused_ns);
    printf("%-18s %10.0f %10.0f %7.3f\n", "with a bare accept", bare + few.accept_ns,
           bare + many.accept_ns, (bare + many.accept_ns) / (bare + few.accept_ns));
    return 0;
}
