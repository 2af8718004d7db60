/* SPDX-License-Identifier: Apache-2.0
 *
 * sim --seed N [--trace]        one history; run twice, for it must be the same twice
 * sim --seeds FROM:COUNT        many; stops at the first that breaks an invariant
 *     --first FROM --seeds COUNT    the same
 *     --keep-going              does not stop
 *     --counters                at the end: what the edges counted, to see what was exercised
 *     --flows                   the world of phones, NATs and a registrar instead of that of calls
 * sim --avalanche [OPTIONS]     a region dies, and a million phones come: avalanche.h
 *
 * Exit status 0: nothing broke. 1: something did; the seed says what, each time. 64: bad usage. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "avalanche.h"
#include "flows.h"
#include "sim.h"

enum { EXIT_BROKEN = 1, EXIT_USAGE = 64, TWICE_EVERY = 16, SEED_SECONDS_MAX = 60 };

struct outcome {
    bool failed;
    uint64_t hash;
    char why[512];
};

struct sums {
    uint64_t tried, answered, steps;
    struct counters counters;
};

static struct outcome run_flows(uint64_t seed, FILE *trace, struct sums *sums)
{
    struct fl_world *w = fl_new(seed, trace);
    fl_run(w);
    struct outcome o = {.failed = w->failed, .hash = w->hash};
    memcpy(o.why, w->why, sizeof o.why);
    sums->tried += w->sum.calls;
    sums->answered += w->sum.answered;
    sums->steps += w->sum.steps;
    fl_free(w, &sums->counters);
    return o;
}

static struct outcome run_calls(uint64_t seed, FILE *trace, struct sums *sums)
{
    struct world *w = world_new(seed, trace);
    world_run(w);
    struct outcome o = {.failed = w->failed, .hash = w->hash};
    memcpy(o.why, w->why, sizeof o.why);
    sums->tried += w->sum.calls_tried;
    sums->answered += w->sum.calls_answered;
    sums->steps += w->sum.steps;
    world_free(w, &sums->counters);
    return o;
}

/* A step that never returns is a broken invariant, too. */
static volatile uint64_t seed_under_way;

static void on_alarm(int signal_number)
{
    (void)signal_number;
    char said[64];
    struct text t = text_into(said, sizeof said);
    TEXT_LIT(&t, "seed ");
    text_put_u64(&t, seed_under_way);
    TEXT_LIT(&t, ": a step does not return\n");
    if (write(STDOUT_FILENO, said, text_slice(&t).n) < 0)
        _exit(EXIT_BROKEN + 1);
    _exit(EXIT_BROKEN);
}

typedef struct outcome run_fn(uint64_t seed, FILE *trace, struct sums *sums);

/* One seed; `twice` compares two runs of it. */
static bool is_fine(run_fn *run, uint64_t seed, FILE *trace, bool twice, struct sums *sums,
                    uint64_t *hash)
{
    seed_under_way = seed;
    (void)alarm(SEED_SECONDS_MAX);
    struct outcome o = run(seed, trace, sums);
    *hash = (*hash ^ o.hash) * 0x9e3779b97f4a7c15ULL;
    if (twice && !o.failed) {
        struct sums ignored = {0};
        struct outcome again = run(seed, NULL, &ignored);
        if (again.hash != o.hash) {
            o.failed = true;
            snprintf(o.why, sizeof o.why, "determinism: hash %016llx, then %016llx",
                     (unsigned long long)o.hash, (unsigned long long)again.hash);
        }
    }
    if (o.failed)
        printf("seed %llu: %s\n", (unsigned long long)seed, o.why);
    return !o.failed;
}

static void write_counters(const struct counters *c)
{
#define X(name, help) printf("%12llu  %-22s %s\n", (unsigned long long)c->name, #name, help);
    OBSERVE_COUNTERS(X)
#undef X
}

static int usage(void)
{
    fputs("usage: sim --seed N [--trace]\n"
          "       sim --seeds FROM:COUNT [--keep-going] [--counters] [--flows]\n"
          "example: sim --seeds 1:200\n",
          stderr);
    return EXIT_USAGE;
}

static bool read_number(struct slice s, uint64_t *ret)
{
    return text_parse_u64(s, UINT64_MAX - 1, ret) == 0;
}

/* "FROM:COUNT", or a COUNT from seed 1. */
static bool read_range(const char *text, uint64_t *ret_from, uint64_t *ret_count)
{
    struct slice s = slice_cstr(text);
    size_t colon = slice_find(s, ':');
    *ret_from = 1;
    if (colon == s.n)
        return read_number(s, ret_count);
    return read_number(slice_take(s, colon), ret_from) &&
           read_number(slice_drop(s, colon + 1), ret_count);
}

int main(int argc, char **argv)
{
    uint64_t first = 0, from = 1, count = 0, failed = 0, done = 0, hash = 0;
    run_fn *run = run_calls;
    bool trace = false, keep_going = false, one = false, counters = false;
    struct sums sums = {0};
    if (argc > 1 && strcmp(argv[1], "--avalanche") == 0)
        return av_main(argc - 2, argv + 2);
    for (int i = 1; i < argc; i++) {
        const char *more = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--seed") == 0 && read_number(slice_cstr(more), &from)) {
            one = true;
            count = 1;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0 && read_range(more, &from, &count)) {
            i++;
        } else if (strcmp(argv[i], "--first") == 0 && read_number(slice_cstr(more), &first)) {
            i++;
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--keep-going") == 0) {
            keep_going = true;
        } else if (strcmp(argv[i], "--flows") == 0) {
            run = run_flows;
        } else if (strcmp(argv[i], "--counters") == 0) {
            counters = true;
        } else {
            return usage();
        }
    }
    if (count == 0)
        return usage();
    from = first != 0 ? first : from;
    signal(SIGALRM, on_alarm);
    for (uint64_t seed = from; seed < from + count; seed++) {
        bool twice = one || seed % TWICE_EVERY == 0;
        done++;
        if (!is_fine(run, seed, trace ? stdout : NULL, twice, &sums, &hash)) {
            failed++;
            if (!keep_going)
                break;
        }
    }
    printf("%llu seeds, %llu failed (%llu calls tried, %llu answered, %llu steps, trace %016llx)\n",
           (unsigned long long)done, (unsigned long long)failed, (unsigned long long)sums.tried,
           (unsigned long long)sums.answered, (unsigned long long)sums.steps,
           (unsigned long long)hash);
    if (counters)
        write_counters(&sums.counters);
    return failed > 0 ? EXIT_BROKEN : 0;
}
