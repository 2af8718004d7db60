/* SPDX-License-Identifier: Apache-2.0
 *
 * What many tests need: inputs against an unreadable page, seeded randomness, a child that is
 * expected to die, and boot memory. */
#ifndef WEIR_TEST_SUPPORT_H
#define WEIR_TEST_SUPPORT_H

#include "base/base.h"

/* A copy of `n` bytes that ends right before an unreadable page: reading one byte too far
 * crashes. n may be 0. Freed with guard_free(). Not for several threads. */
char *guard_copy(const void *p, size_t n);
void guard_free(char *copy);

/* A generator seeded from the environment's SEED (decimal), else the same one in each run. The
 * seed is printed, so that a failure can be repeated. */
struct prng test_seed(void);

/* Runs `fn(ctx)` in a child process: true when the child aborted, as a broken MUST() does. What
 * it said is kept in `said` (`cap` bytes, NUL-terminated); both may be empty. */
bool dies(void (*fn)(void *ctx), void *ctx, char *said, size_t cap);

/* Zeroed memory of `n` bytes, mapped and not yet touched; unmapped by test_arena_free(). */
struct arena test_arena(size_t n);
void test_arena_free(struct arena *a);

#endif
