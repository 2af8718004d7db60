/* SPDX-License-Identifier: Apache-2.0
 *
 * engine: one worker's brain. Pure: no system calls, no clock, no randomness, no threads, no
 * malloc. A driver owns it, feeds it events and executes its actions. */
#ifndef WEIR_ENGINE_H
#define WEIR_ENGINE_H

#include "base/base.h"
#include "edge/edge.h"
#include "observe/observe.h"
#include "step/step.h"

struct engine;

struct engine_opts {
    struct edge_opts edge;
    struct edge_limits limits;
};

/* What a process gives each of its engines at birth. */
struct engine_birth {
    uint32_t worker, workers;
    uint32_t process_generation;  /* random per process: old branches and tokens are recognised */
    struct hash_seed shared_seed; /* same for all workers of a process, secret */
    struct rng rng;               /* unpredictable */
    uint64_t prng_seed;
    struct fault *fault; /* NULL in life */
};

/* Bytes of zeroed memory (a private mapping, touched lazily) that engine_new() needs. */
size_t engine_memory(const struct engine_opts *opts);

/* Builds an engine in `mem`. `opts` must live until an EV_CONFIG has been stepped that replaces it.
 * Returns NULL when the memory is too small or the options do not fit. */
struct engine *engine_new(void *mem, size_t size, const struct engine_opts *opts,
                          const struct engine_birth *birth, mono_ns now);

/* Takes one event. `out` must have room (actions_have_room). `now` never goes back.
 * Returns 0. EV_CONFIG: 0, or -1 when the new options do not fit the tables (the old ones stay). */
int engine_step(struct engine *e, const struct event *ev, mono_ns now, struct actions *out);

/* Step with EV_TIMER at this time at the latest; MONO_NONE = nothing is due, ever. */
mono_ns engine_deadline(const struct engine *e);

/* Whether an accepted connection may go when there is no place left: see edge_flow_is_spare(). */
bool engine_flow_is_spare(struct engine *e, struct flow_id flow, mono_ns *ret_last_in);

/* This worker's guard: the driver asks it at the door, before there is anything to step with. */
struct guard *engine_guard(struct engine *e);

/* What was counted since birth; it goes on counting. */
const struct counters *engine_counters(const struct engine *e);

/* What is alive, for the simulator's invariants and for drain: all zero when everything ended. */
struct engine_load {
    uint32_t relays, tries, blocks, flows;
    uint32_t relays_open; /* relays without a final answer upstream */
};
struct engine_load engine_load(const struct engine *e);

#endif
