/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of the driver have in place of an engine, as far as it says nothing: they add what
 * theirs does with an event. */
#ifndef WEIR_TEST_NET_STUB_ENGINE_H
#define WEIR_TEST_NET_STUB_ENGINE_H

#include "net/net_int.h"

size_t engine_memory(const struct engine_opts *opts)
{
    (void)opts;
    return 64;
}

mono_ns engine_deadline(const struct engine *e)
{
    (void)e;
    return MONO_NONE;
}

struct engine_load engine_load(const struct engine *e)
{
    (void)e;
    return (struct engine_load){0};
}

const struct counters *engine_counters(const struct engine *e)
{
    (void)e;
    return NULL;
}

#endif
