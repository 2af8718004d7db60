/* SPDX-License-Identifier: Apache-2.0
 *
 * The two clocks. Read once per batch by a worker; nobody below `net` reads any. */
#ifndef WEIR_NET_CLOCK_H
#define WEIR_NET_CLOCK_H

#include <time.h>
#include "base/base.h"

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_S + (uint64_t)t.tv_nsec;
}

static inline mono_ns mono_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* Unix time. */
static inline uint64_t wall_now(void)
{
    return clock_ns(CLOCK_REALTIME);
}

static inline struct timespec timespec_of(dur_ns span)
{
    return (struct timespec){.tv_sec = (time_t)(span / NS_S), .tv_nsec = (long)(span % NS_S)};
}

#endif
