/* SPDX-License-Identifier: Apache-2.0
 *
 * A guard with everything off, and addresses by number, for the tests of the door. */
#ifndef WEIR_TEST_GUARD_PLACE_H
#define WEIR_TEST_GUARD_PLACE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "guard/guard_int.h"
#include "support/support.h"

struct place {
    struct arena mem;
    struct guard_opts opts;
    struct guard *g;
    mono_ns now;
};

static inline void place_begin(struct place *p, uint32_t sources, uint32_t workers)
{
    struct guard_limits l = {sources};
    struct guard_opts defaults;
    guard_opts_default(&defaults);
    memset(p, 0, sizeof *p);
    p->opts.delay_target = defaults.delay_target;
    p->opts.request_age_max = defaults.request_age_max;
    p->opts.ban_first = 10 * NS_S;
    p->opts.ban_max = 100 * NS_S;
    p->opts.ban_decay = 60 * NS_S;
    p->now = 5000 * NS_S;
    p->mem = test_arena(guard_memory(&l));
    p->g = guard_new(&p->mem, &p->opts, &l, workers, (struct hash_seed){1, 2}, 3, p->now);
    assert_non_null(p->g);
}

static inline void place_end(struct place *p)
{
    test_arena_free(&p->mem);
}

static inline struct addr ip4(uint32_t host)
{
    struct addr a = {.family = 4, .port = 5060};
    (void)bytes_put_be(a.ip, host, 4);
    return a;
}

static inline struct addr addr_of(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse_host(slice_cstr(text), 5060, &a), 0);
    return a;
}

static inline enum guard_why come(struct place *p, struct addr a)
{
    return guard_accept(p->g, TP_TCP, &a, p->now);
}

/* How many of `n` connections come in. */
static inline unsigned come_all(struct place *p, struct addr a, unsigned n)
{
    unsigned in = 0;
    for (unsigned i = 0; i < n; i++)
        in += come(p, a) == GUARD_FINE;
    return in;
}

static inline void go(struct place *p, struct addr a)
{
    guard_closed(p->g, &a);
}

static inline enum guard_why did(struct place *p, struct addr a, enum guard_what what, bool proven)
{
    return guard_charge(p->g, &a, what, proven, p->now);
}

static inline enum guard_why barred(struct place *p, struct addr a)
{
    return guard_refused(p->g, &a, p->now);
}

static inline uint64_t refused(const struct place *p, enum guard_why why)
{
    return guard_counters(p->g)->refused[why];
}

static inline void edit(struct place *p, const char *order)
{
    struct slice why;
    assert_int_equal(guard_edit(p->g, slice_cstr(order), p->now, &why), 0);
}

/* A flood of unproven datagrams is under way: from now on they earn bans. */
static inline void flooded(struct place *p)
{
    p->g->door.excess_full_at = p->now + NS_S;
}

#endif
