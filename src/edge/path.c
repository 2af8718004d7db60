/* SPDX-License-Identifier: Apache-2.0
 *
 * How a registrar behind us learns the way back to a phone (RFC 3327, RFC 5626 5.1). */
#include "edge/edge_int.h"

void push_path(struct edge *e, struct relay *r, const struct try *t)
{
    (void)e;
    (void)r;
    (void)t;
}

void drop_path(struct edge *e, const struct relay *r)
{
    (void)e;
    (void)r;
}

void restore_contacts(struct edge *e)
{
    (void)e;
}
