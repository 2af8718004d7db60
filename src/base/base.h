/* SPDX-License-Identifier: Apache-2.0
 *
 * base: the containers and primitives that every other room stands on. This is the room's only
 * door; the pieces below are one small file each. Nothing here allocates, reads a clock, draws
 * randomness or talks to the system: memory, time and random bytes are handed in. */
#ifndef WEIR_BASE_H
#define WEIR_BASE_H

#include "check.h"
#include "limits.h"
#include "slice.h"
#include "time.h"
#include "bytes.h"
#include "text.h"
#include "addr.h"
#include "json.h"
#include "siphash.h"
#include "prng.h"
#include "arena.h"
#include "slab.h"
#include "blocks.h"
#include "map.h"
#include "wheel.h"
#include "ring.h"

#endif
