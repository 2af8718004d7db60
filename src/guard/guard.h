/* SPDX-License-Identifier: Apache-2.0
 *
 * guard: rules that keep requests from going in circles. Addresses, numbers and slices only. */
#ifndef WEIR_GUARD_H
#define WEIR_GUARD_H

#include "base/base.h"

/* Max-Forwards to send on: missing (-1) becomes `cap`, more than `cap` is lowered to it, else one
 * less. Never raised. Returns the new value, or -1: it was 0, answer 483. RFC 3261 16.6.3. */
int guard_hops(int received, int cap);

/* Hash over what decides where a request goes (RFC 5393 4.2): Request-URI, From and To tags,
 * Call-ID, CSeq number, Route, Proxy-Require, Proxy-Authorization. `parts` in a fixed order, absent
 * ones empty. A request that comes back with the same hash in our own Via branch is a loop; one
 * that comes back changed is a spiral, and welcome. */
uint64_t guard_loop_hash(const struct hash_seed *seed, const struct slice *parts, unsigned count);

#endif
