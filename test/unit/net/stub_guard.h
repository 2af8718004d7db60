/* SPDX-License-Identifier: Apache-2.0
 *
 * The one guard of a test with one worker: a real one, which stands before the outside. */
#ifndef WEIR_TEST_NET_STUB_GUARD_H
#define WEIR_TEST_NET_STUB_GUARD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "net/net_int.h"

static struct guard *the_guard;
static struct guard_opts guard_opts;

struct guard *engine_guard(struct engine *e)
{
    (void)e;
    return the_guard;
}

/* A new one, with the defaults. */
static inline void new_guard(uint32_t sources, mono_ns now)
{
    const struct guard_limits limits = {.sources = sources};
    static _Alignas(64) char memory[2 << 20];
    memset(memory, 0, sizeof memory);
    struct arena mem = arena_over(memory, sizeof memory);
    guard_opts_default(&guard_opts);
    the_guard = guard_new(&mem, &guard_opts, &limits, 1, (struct hash_seed){1, 2}, 1, now);
    assert_non_null(the_guard);
}

#endif
