/* SPDX-License-Identifier: Apache-2.0
 *
 * One kind of time in the core: monotonic nanoseconds, handed in as `now`. All sums saturate, so
 * a deadline far away can never wrap into the past. */
#ifndef WEIR_BASE_TIME_H
#define WEIR_BASE_TIME_H

#include <stdint.h>

typedef uint64_t mono_ns; /* a point on the monotonic clock; origin arbitrary */
typedef uint64_t dur_ns;  /* a span */

#define MONO_NONE UINT64_MAX /* "no deadline"; never a real time */

#define NS_US 1000ULL
#define NS_MS 1000000ULL
#define NS_S  1000000000ULL

/* now + span, saturating just below MONO_NONE. */
static inline mono_ns mono_add(mono_ns at, dur_ns span)
{
    return span < MONO_NONE - 1 - at && at < MONO_NONE - 1 ? at + span : MONO_NONE - 1;
}

/* later - earlier, 0 when `later` is not later. */
static inline dur_ns mono_since(mono_ns later, mono_ns earlier)
{
    return later > earlier ? later - earlier : 0;
}

static inline mono_ns mono_min(mono_ns a, mono_ns b)
{
    return a < b ? a : b;
}

#endif
