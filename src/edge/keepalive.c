/* SPDX-License-Identifier: Apache-2.0
 *
 * Keep-alives that we send, and signs of life that are not SIP (RFC 5626 4.4, 5.4). */
#include "edge/edge_int.h"

void edge_on_alive(struct edge *e, const struct event *ev)
{
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w != NULL)
        w->last_in = e->now;
}

mono_ns keepalive_deadline(const struct edge *e)
{
    (void)e;
    return MONO_NONE;
}

void keepalive_run(struct edge *e)
{
    (void)e;
}
