/* SPDX-License-Identifier: Apache-2.0
 *
 * What we write into a request so that the rest of its dialog comes by here again, and finds the
 * very connections of both ends (RFC 3261 16.6 step 4, RFC 5658, RFC 5626 5.3). */
#include "edge/edge_int.h"

void put_listener(struct text *t, const struct edge_listener *l)
{
    text_put(t, l->host);
    text_put_char(t, ':');
    text_put_u64(t, l->port);
}

/* The transport is that of the listener: a stream of ours may have left by a host where we take no
 * streams (see egress_for()), and what is recorded must lead to us. */
static void put_record_route(struct edge *e, struct text *t, uint8_t listener, struct slice token)
{
    uint8_t transport = e->opts->listener[listener].transport;
    TEXT_LIT(t, "Record-Route: <sip:");
    text_put(t, token);
    text_put_char(t, '@');
    put_listener(t, &e->opts->listener[listener]);
    if (transport != TP_UDP) {
        TEXT_LIT(t, ";transport=");
        text_put(t, transport_name((enum transport)transport));
    }
    TEXT_LIT(t, ";lr>\r\n");
}

/* Where a request came from, as a token says it. */
struct token_end end_of_origin(const struct edge *e, const struct origin *from)
{
    struct token_end end = {.addr = from->source,
                            .flow = from->flow,
                            .listener = from->listener,
                            .transport = from->transport};
    bool heard_here = from->flow.worker == e->worker; /* else handed over: see role.c */
    if (from->transport == TP_UDP && heard_here)
        end.flow = (struct flow_id){.slot = phones_at(e->phones, from->listener, &from->source),
                                    .worker = e->worker};
    return end;
}

/* One line when both ends of the dialog meet the same listener, else two (RFC 5658): the one that
 * faces the next hop on top. */
void push_record_routes(struct edge *e, struct relay *r, const struct try *t)
{
    struct token token = {.kind = TOKEN_ROUTE,
                          .side_caller = r->from.side,
                          .side_callee = t->hop.side,
                          .node = e->opts->node_id,
                          .from_tag = r->from_tag,
                          .callee = token_host_hash(&t->hop.addr),
                          .end = end_of_origin(e, &r->from)};
    if (t->hop.fixed_flow && t->hop.side == SIDE_OUTSIDE) {
        token.has_callee = true;
        token.callee_end = (struct token_end){.addr = t->hop.addr,
                                              .flow = t->hop.flow,
                                              .listener = t->hop.listener,
                                              .transport = t->hop.transport};
    }
    char buf[TOKEN_TEXT_MAX];
    struct text text = text_into(buf, sizeof buf);
    token_put(&text, &e->opts->keys, &token, sip_header_value(e->edits.m, SIP_H_CALL_ID));

    struct text lines = scratch_text(e, 1024);
    e->edits_routes = 1;
    put_record_route(e, &lines, t->hop.listener, text_slice(&text));
    uint8_t in = r->from.listener;
    if (in == LISTENER_NONE && (r->from.flow.slot & FLOW_OUT) == 0) /* it outlives its listener */
        in = egress_for(e, &r->from.source, r->from.transport, r->from.side);
    if (in != LISTENER_NONE && in != t->hop.listener) {
        put_record_route(e, &lines, in, text_slice(&text));
        e->edits_routes = 2;
    }
    scratch_keep(e, &lines);
    sip_push_record_route(&e->edits, text_slice(&lines));
}
