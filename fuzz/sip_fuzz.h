/* SPDX-License-Identifier: Apache-2.0
 *
 * What the targets of the message room share: an oracle that aborts, and choices drawn from the
 * front of an input. */
#ifndef WEIR_FUZZ_SIP_FUZZ_H
#define WEIR_FUZZ_SIP_FUZZ_H

#include <stdint.h>
#include <stdlib.h>

#include "sip/sip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for every input. */
#define HOLDS(c) MUST(c)

/* Choices: each byte is used once; 0 when there are no more. */
struct choices {
    const uint8_t *p;
    size_t n;
};

static inline unsigned choose(struct choices *c, unsigned below)
{
    if (c->n == 0)
        return 0;
    c->n--;
    return *c->p++ % below;
}

static inline bool is_within(struct slice part, struct slice whole)
{
    return part.p == NULL || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

#endif
