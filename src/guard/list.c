/* SPDX-License-Identifier: Apache-2.0
 *
 * An operator's lists: see guard.h. */
#include "guard/guard_int.h"

int guard_edit(struct guard *g, struct slice order, mono_ns now, struct slice *ret_why)
{
    (void)g;
    (void)order;
    (void)now;
    *ret_why = SLICE("allow PREFIX, deny PREFIX or forget PREFIX");
    return -1;
}
