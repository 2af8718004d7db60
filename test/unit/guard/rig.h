/* SPDX-License-Identifier: Apache-2.0
 *
 * A guard with its defaults, born one second after the clock, for the tests of what is shed and of
 * what who is refused is told. */
#ifndef WEIR_TEST_GUARD_RIG_H
#define WEIR_TEST_GUARD_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "guard/guard.h"

struct rig {
    void *mem;
    struct guard_opts opts;
    struct guard *g;
    struct prng prng;
};

static inline void rig_open(struct rig *r)
{
    struct guard_limits limits = {.sources = 64};
    size_t n = guard_memory(&limits);
    *r = (struct rig){.mem = calloc(1, n)};
    assert_non_null(r->mem);
    guard_opts_default(&r->opts);
    struct arena a = arena_over(r->mem, n);
    r->g = guard_new(&a, &r->opts, &limits, 1, (struct hash_seed){1, 2}, 3, NS_S);
    assert_non_null(r->g);
    prng_seed(&r->prng, 11);
}

static inline void rig_close(struct rig *r)
{
    free(r->mem);
}

#endif
