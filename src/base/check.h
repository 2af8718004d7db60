/* SPDX-License-Identifier: Apache-2.0
 *
 * Three grades of check.
 *   MUST(c)    our own bug: always compiled, aborts with file and line. Never on a peer's bytes.
 *   DCHECK(c)  expensive: only in builds with SELF_CHECK (asan, tsan, debug, fuzz, sim).
 *   UNLIKELY   a hint, not a check. */
#ifndef WEIR_BASE_CHECK_H
#define WEIR_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(c)   __builtin_expect(!!(c), 1)
#define UNLIKELY(c) __builtin_expect(!!(c), 0)

/* Prints the failed condition to descriptor 2 and aborts. Does not return. */
_Noreturn void base_die(const char *cond, const char *file, int line);

#define MUST(c) (LIKELY(c) ? (void)0 : base_die(#c, __FILE__, __LINE__))

#ifdef SELF_CHECK
#define DCHECK(c) MUST(c)
#else
#define DCHECK(c) ((void)sizeof(!!(c)))
#endif

#define MUST_USE __attribute__((warn_unused_result))

#endif
