/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <sanitizer/asan_interface.h> /* its macros do nothing without -fsanitize=address */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* One mapping of guard_copy():
 *
 *      ┌──────────────┬─────────────────────┬────────────┐
 *      │ struct guard │         … the copy  │ unreadable │
 *      └──────────────┴─────────────────────┴────────────┘
 *       one page       pages                 one page       */
struct guard {
    struct guard *next;
    char *copy;
    size_t bytes; /* of the whole mapping */
};

static struct guard *guards;

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void *map_or_die(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        abort();
    }
    return p;
}

char *guard_copy(const void *p, size_t n)
{
    size_t page = page_bytes();
    size_t body = (n + page - 1) / page * page;
    size_t bytes = page + body + page;
    char *base = (char *)map_or_die(bytes);
    if (mprotect(base + page + body, page, PROT_NONE) != 0) {
        perror("mprotect");
        abort();
    }
    struct guard *g = (struct guard *)base;
    *g = (struct guard){guards, base + page + body - n, bytes};
    guards = g;
    if (n > 0)
        memcpy(g->copy, p, n);
    return g->copy;
}

void guard_free(char *copy)
{
    for (struct guard **at = &guards; *at != NULL; at = &(*at)->next) {
        struct guard *g = *at;
        if (g->copy == copy) {
            *at = g->next;
            munmap(g, g->bytes);
            return;
        }
    }
    fprintf(stderr, "guard_free: not a guard_copy()\n");
    abort();
}

struct prng test_seed(void)
{
    uint64_t seed = 20261;
    const char *text = getenv("SEED");
    if (text != NULL && text_parse_u64(slice_cstr(text), UINT64_MAX, &seed) != 0) {
        fprintf(stderr, "SEED: a decimal number, not '%s'\n", text);
        abort();
    }
    printf("# SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    struct prng p;
    prng_seed(&p, seed);
    return p;
}

static _Noreturn void child(void (*fn)(void *ctx), void *ctx, int err)
{
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGABRT, SIG_DFL);
    dup2(err, STDERR_FILENO);
    fn(ctx);
    _exit(0);
}

bool dies(void (*fn)(void *ctx), void *ctx, char *said, size_t cap)
{
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) {
        perror("pipe");
        abort();
    }
    pid_t pid = fork();
    if (pid == 0)
        child(fn, ctx, ends[1]);
    close(ends[1]);
    char all[1024];
    size_t n = 0;
    for (ssize_t got; n < sizeof all && (got = read(ends[0], all + n, sizeof all - n)) > 0;)
        n += (size_t)got;
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    if (said != NULL && cap > 0) {
        size_t kept = n < cap - 1 ? n : cap - 1;
        memcpy(said, all, kept);
        said[kept] = '\0';
    }
    return pid > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

struct arena test_arena(size_t n)
{
    size_t page = page_bytes();
    return arena_over(map_or_die((n + page) / page * page), n);
}

void test_arena_free(struct arena *a)
{
    size_t page = page_bytes();
    ASAN_UNPOISON_MEMORY_REGION(a->p, a->cap); /* what a slab left behind */
    munmap(a->p, (a->cap + page) / page * page);
    *a = (struct arena){0};
}
