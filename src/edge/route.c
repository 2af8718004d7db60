/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a request goes, and who may say so (RFC 3261 16.4 to 16.6, RFC 3263).
 *
 *   from outside   only our own Record-Route tokens are believed; everything else that the message
 *                  says about its way is refused (or taken off, by configuration)
 *   from inside    Route and Request-URI are followed as RFC 3261 asks
 *   then           a flow token names a connection, and that of a dialog its other end; else the
 *                  first matching rule names a pool; else, from inside, the next Route or the
 *                  Request-URI
 *
 * What leads to a phone leads down the very connection that the token names, or nowhere (430). When
 * that is one of another edge of the fleet, the request goes to that edge with its Route as it is.
 */
#include "edge/edge_int.h"

struct route_set {
    unsigned count;
    unsigned popped; /* leading values that were ours */
    bool stripped;   /* what is left is not believed */
    bool has_token, bad_token;
    bool has_flow;  /* a flow token on top: `flow` */
    bool elsewhere; /* the value at `popped` leads to a flow of another edge: `node` */
    bool outsider;  /* the sender is held to what outsiders may do */
    uint16_t node;
    struct token token; /* of the dialog */
    struct token flow;
    struct slice token_text;
    struct slice uri;      /* Request-URI to send; p NULL = as it came */
    struct slice appended; /* strict next hop: the old Request-URI goes last */
    struct sip_span value[SIP_ROUTE_VALUES_MAX];
};

static void refuse(struct where *w, int status, struct slice reason)
{
    w->kind = WHERE_REFUSED;
    w->refused = (struct sip_fault){.status = status, .reason = reason};
}

static int collect(const struct edge *e, struct route_set *s)
{
    unsigned lines = 0;
    for (uint8_t i = e->msg.first[SIP_H_ROUTE]; i != SIP_NO_HEADER; i = e->msg.h[i].next)
        if (++lines > SIP_ROUTE_VALUES_MAX)
            return -1;
    struct sip_values v = sip_values(&e->msg, SIP_H_ROUTE);
    while (sip_next_value(&v)) {
        if (s->count == SIP_ROUTE_VALUES_MAX)
            return -1;
        s->value[s->count++] = v.value;
    }
    return v.err ? -1 : 0;
}

static int route_uri(const struct edge *e, struct sip_span value, struct slice *ret_text,
                     struct sip_uri *ret_uri)
{
    struct sip_nameaddr na;
    if (sip_nameaddr_parse(sip_slice(&e->msg, value), &na) != 0 ||
        sip_uri_parse(na.uri, ret_uri) != 0)
        return -1;
    *ret_text = na.uri;
    return 0;
}

/* Is it a token of ours, and of this dialog if it is of one? The guard asks for what a Route says
 * as well: within a step the same bytes are verified once. */
bool token_verify(struct edge *e, struct slice user, struct token *ret_token)
{
    struct verified *v = &e->verified;
    bool known = user.n > 0 && v->user.p == user.p && v->user.n == user.n &&
                 v->call_id.p == e->facts.call_id.p;
    if (!known) {
        if (token_parse(&e->opts->keys, user, e->facts.call_id, &v->token) != 0)
            return false;
        v->user = user;
        v->call_id = e->facts.call_id;
    }
    *ret_token = v->token;
    return true;
}

/* A user part at one of our own addresses: is it a token of this dialog, or of a flow? */
static bool take_token(struct edge *e, struct route_set *s, struct slice user)
{
    if (s->has_token && slice_equal(user, s->token_text))
        return true;
    struct token token;
    if (!token_verify(e, user, &token))
        return false;
    if (token.kind == TOKEN_FLOW) {
        s->has_flow = true;
        s->flow = token;
        return true;
    }
    s->has_token = true;
    s->token = token;
    s->token_text = user;
    return true;
}

/* The From tag tells which end of a dialog speaks, so the other one is meant. */
static bool to_callee(const struct edge *e, const struct token *t)
{
    return t->from_tag == token_tag_hash(e->facts.from_tag);
}

/* The outside end that the dialog's token leads to; NULL when it leads to none that it knows. */
static const struct token_end *end_meant(const struct edge *e, const struct token *t)
{
    if (to_callee(e, t))
        return t->has_callee && t->side_callee == SIDE_OUTSIDE ? &t->callee_end : NULL;
    return t->side_caller == SIDE_OUTSIDE ? &t->end : NULL;
}

static const struct edge_neighbour *neighbour(const struct edge *e, uint16_t node)
{
    for (int i = 0; i < e->opts->fleet_count; i++)
        if (e->opts->fleet[i].id == node)
            return &e->opts->fleet[i];
    return NULL;
}

/* Does what was read last lead to a connection that another edge holds? */
static bool leads_elsewhere(const struct edge *e, const struct origin *from, struct route_set *s)
{
    const struct token *t = s->has_flow ? &s->flow : &s->token;
    if (t->node == e->opts->node_id || (s->has_flow && from->side == SIDE_OUTSIDE))
        return false;
    if (!s->has_flow && end_meant(e, t) == NULL)
        return false;
    s->node = t->node;
    return neighbour(e, t->node) != NULL;
}

/* A phone may name the flow that it speaks on (RFC 5626 5.3), and no other. It leads nowhere then:
 * the rules say where. */
static void leave_own_flow(struct edge *e, const struct origin *from, struct route_set *s)
{
    const struct token *t = &s->flow;
    bool same = t->node == e->opts->node_id && t->end.transport == from->transport;
    if (from->transport == TP_UDP)
        same = same && t->end.listener == from->listener && addr_equal(&t->end.addr, &from->source);
    else
        same = same && flow_id_equal(t->end.flow, from->flow);
    s->has_flow = false;
    if (!same)
        s->bad_token = true;
}

/* RFC 3261 16.4: a strict router in front of us put our Record-Route URI into the Request-URI and
 * the real one at the end of the Route. */
static int undo_strict_router(struct edge *e, const struct origin *from, struct route_set *s)
{
    const struct sip_uri *u = &e->facts.uri;
    struct slice original;
    if (s->count == 0 || u->user.n == 0 || !is_sip(u) || !is_own_host(e, u->host, u->port) ||
        contact_original(e, u, &original) || !take_token(e, s, u->user))
        return 0;
    struct sip_uri last;
    if (route_uri(e, s->value[s->count - 1], &s->uri, &last) != 0)
        return -1;
    s->count--;
    if (s->has_flow && from->side == SIDE_OUTSIDE)
        leave_own_flow(e, from, s);
    return 0;
}

/* A neighbour passes on what names this edge by a token, and the neighbour by its address. */
static bool is_own_token(struct edge *e, struct slice user)
{
    struct token token;
    return e->opts->fleet_count > 0 && user.n > 0 && token_verify(e, user, &token) &&
           token.node == e->opts->node_id;
}

static int pop_own_routes(struct edge *e, const struct origin *from, struct route_set *s)
{
    while (s->popped < s->count && !s->has_flow) {
        struct slice text;
        struct sip_uri u;
        if (route_uri(e, s->value[s->popped], &text, &u) != 0)
            return -1;
        /* A token that has verified says that this line is ours, even where the listener that it
         * names went with a reload. */
        bool verified =
            (s->has_token && slice_equal(u.user, s->token_text)) || is_own_token(e, u.user);
        if (!is_sip(&u) || (!verified && !is_own_host(e, u.host, u.port)))
            break;
        if (u.user.n > 0 && !take_token(e, s, u.user))
            s->bad_token = true;
        else if (u.user.n > 0 && leads_elsewhere(e, from, s)) {
            s->elsewhere = true;
            return 0;
        }
        s->popped++;
        if (s->has_flow && from->side == SIDE_OUTSIDE)
            leave_own_flow(e, from, s);
    }
    return 0;
}

/* ---- next hops ---------------------------------------------------------------------------------
 */

static void to_address(struct edge *e, struct where *w, const struct addr *a, uint8_t transport)
{
    if (!addr_is_unicast(a)) {
        refuse(w, 403, SLICE("Address Not Allowed"));
        return;
    }
    if (w->inside_only &&
        (is_own_address(e, a) || (!is_inside(e, a) && token_host_hash(a) != w->callee))) {
        e->count.routes_refused++;
        refuse(w, 403, SLICE("Not Inside"));
        return;
    }
    w->kind = WHERE_HOP;
    w->hop = (struct hop){
        .addr = *a, .transport = transport, .side = hop_side(e, a), .listener = LISTENER_NONE};
}

/* RFC 3263 in so far as it needs no look-up; names go to the resolver. */
static void to_uri(struct edge *e, struct where *w, const struct sip_uri *u)
{
    if (!is_sip(u)) {
        refuse(w, 416, SLICE("Unsupported URI Scheme"));
        return;
    }
    int tp = sip_uri_transport(u, TP_UDP);
    if (tp == TP_WS || tp == TP_WSS) {
        /* A browser is reached by the connection that it opened, or not at all (RFC 7118 5). */
        refuse(w, 480, SLICE("No Flow To This Client"));
        return;
    }
    struct slice host = u->host;
    (void)sip_param(u->params, SLICE("maddr"), &host);
    struct addr a;
    if (tp == TP_TLS && peer_named(e, host, u->port != 0 ? u->port : 5061, &a)) {
        to_address(e, w, &a, TP_TLS);
        return;
    }
    if (tp != TP_UDP && tp != TP_TCP) {
        refuse(w, 500, SLICE("Transport Not Available"));
        return;
    }
    bool given = sip_param(u->params, SLICE("transport"), NULL);
    if (addr_parse_host(host, u->port != 0 ? u->port : 5060, &a) == 0) {
        to_address(e, w, &a, (uint8_t)tp);
        w->hop.has_tcp = w->kind == WHERE_HOP && !given;
        return;
    }
    w->kind = WHERE_NAME;
    w->name = host;
    w->port = u->port;
    w->name_transport = given ? (uint8_t)tp : 255;
}

/* Down the very path that requests of this end come up. `node`: of the edge that it is an end of.
 */
static void to_end(struct edge *e, struct where *w, const struct token_end *end, uint16_t node)
{
    w->kind = WHERE_HOP;
    w->hop = (struct hop){.addr = end->addr,
                          .flow = end->flow,
                          .transport = end->transport,
                          .side = SIDE_OUTSIDE,
                          .listener = end->listener,
                          .fixed_flow = end->flow.gen != 0 || end->flow.slot != 0};
    bool listens = end->listener < LISTENERS_MAX && e->opts->listener[end->listener].used &&
                   e->opts->listener[end->listener].transport == end->transport;
    if (!listens)
        w->hop.listener = LISTENER_NONE;
    if (w->hop.fixed_flow && node != e->opts->node_id) /* and of none that we know */
        w->hop.flow = (struct flow_id){.worker = e->worker};
}

/* The flow that the token on top names. */
static void to_flow(struct edge *e, struct where *w, const struct token *t)
{
    w->by_token = true;
    to_end(e, w, &t->end, t->node);
    bool unheard = t->end.transport == TP_UDP && w->hop.listener == LISTENER_NONE;
    if (unheard || t->node != e->opts->node_id)
        refuse(w, 430, SLICE("Flow Failed"));
}

static void to_edge(struct edge *e, struct where *w, const struct edge_neighbour *n)
{
    w->kind = WHERE_HOP;
    w->hop = (struct hop){
        .addr = n->addr, .transport = n->transport, .side = SIDE_INSIDE, .listener = LISTENER_NONE};
    e->count.to_fleet++;
}

/* To the edge that holds the connection, which finds the Route as we did. What an outsider sends
 * there must have no other way to go: that edge believes us. */
static void to_neighbour(struct edge *e, uint8_t side, struct where *w, struct route_set *s)
{
    const struct edge_neighbour *n = neighbour(e, s->node);
    for (unsigned i = s->popped; side == SIDE_OUTSIDE && i < s->count; i++) {
        struct slice text;
        struct sip_uri u;
        if (route_uri(e, s->value[i], &text, &u) == 0 && slice_equal(u.user, s->token_text))
            continue;
        e->count.routes_refused++;
        refuse(w, 403, SLICE("Route Not Allowed"));
        return;
    }
    w->by_token = true;
    to_edge(e, w, n);
}

/* Within a dialog of ours. */
static void to_dialog_peer(struct edge *e, struct where *w, struct route_set *s,
                           const struct sip_uri *target)
{
    const struct token *t = &s->token;
    w->by_token = true;
    bool callee = to_callee(e, t);
    uint8_t side = callee ? t->side_callee : t->side_caller;
    const struct token_end *end = end_meant(e, t);
    if (end != NULL) {
        to_end(e, w, end, t->node);
        return;
    }
    w->inside_only = s->outsider && side == SIDE_INSIDE;
    w->callee = callee ? t->callee : token_host_hash(&t->end.addr);
    to_uri(e, w, target);
    if (w->kind == WHERE_HOP)
        w->hop.side = side;
}

/* A Contact that we rewrote for a registrar without Path comes back as Request-URI: what the phone
 * wrote goes on, down its flow. False when it is none. */
static bool by_contact(struct edge *e, struct where *w, struct route_set *s,
                       const struct sip_uri *target)
{
    struct slice original;
    if (!is_sip(target) || !contact_original(e, target, &original) ||
        (!is_own_host(e, target->host, target->port) && !is_own_token(e, target->user)))
        return false;
    if (original.n == 0 || !take_token(e, s, target->user) || !s->has_flow) {
        e->count.tokens_bad++;
        refuse(w, 430, SLICE("Flow Failed"));
        return true;
    }
    s->node = s->flow.node;
    if (s->node != e->opts->node_id && neighbour(e, s->node) != NULL) {
        to_neighbour(e, SIDE_INSIDE, w, s);
        return true;
    }
    s->uri = original;
    to_flow(e, w, &s->flow);
    return true;
}

static bool by_rule(const struct edge *e, const struct origin *from, struct where *w)
{
    for (int i = 0; i < e->opts->rule_count; i++) {
        const struct edge_rule *rule = &e->opts->rules[i];
        if (rule->from != RULE_ANY && rule->from != from->side)
            continue;
        if (rule->method.n > 0 && !slice_equal(rule->method, e->facts.method_name))
            continue;
        w->kind = rule->role != ROLE_NONE ? WHERE_ROLE : WHERE_POOL;
        w->pool = rule->pool;
        return true;
    }
    return false;
}

static void to_next_route(struct edge *e, struct where *w, struct route_set *s)
{
    struct slice text;
    struct sip_uri u;
    if (route_uri(e, s->value[s->popped], &text, &u) != 0) {
        refuse(w, 400, SLICE("Bad Route"));
        return;
    }
    w->by_token = s->has_token;
    w->inside_only = s->outsider;
    w->callee = s->has_token ? s->token.callee : 0;
    if (!sip_param(u.params, SLICE("lr"), NULL)) {
        /* A strict router comes next (RFC 3261 16.6.6). */
        s->appended = s->uri.p != NULL ? s->uri : sip_slice(&e->msg, e->msg.uri);
        s->uri = text;
        s->popped++;
    }
    to_uri(e, w, &u);
}

static void decide(struct edge *e, const struct origin *from, struct where *w, struct route_set *s)
{
    struct sip_uri target = e->facts.uri;
    if (s->uri.p != NULL && sip_uri_parse(s->uri, &target) != 0) {
        refuse(w, 400, SLICE("Bad Route"));
        return;
    }
    if (s->elsewhere && !s->stripped) {
        to_neighbour(e, from->side, w, s);
        return;
    }
    if (s->has_flow) {
        to_flow(e, w, &s->flow);
        return;
    }
    if (s->popped < s->count && !s->stripped) {
        to_next_route(e, w, s);
        return;
    }
    if (s->has_token) {
        to_dialog_peer(e, w, s, &target);
        return;
    }
    if (from->side == SIDE_INSIDE && by_contact(e, w, s, &target))
        return;
    /* Our users' addresses-of-record are our own matter: no name to be looked up. */
    bool follow_uri =
        from->side == SIDE_INSIDE && e->facts.to_tag.n > 0 && !role_has_domain(e, &target);
    if (!follow_uri && by_rule(e, from, w)) {
        w->target = target;
        return;
    }
    if (from->side == SIDE_OUTSIDE ||
        (is_sip(&target) && is_own_host(e, target.host, target.port))) {
        e->count.unroutable++;
        refuse(w, 404, SLICE("No Route For This Request"));
        return;
    }
    to_uri(e, w, &target);
}

/* ---- edits -------------------------------------------------------------------------------------
 */

/* The Route header as it goes on: what is left of it in one line. */
static void edit_routes(struct edge *e, const struct route_set *s, bool was_strict)
{
    unsigned first = s->stripped ? s->count : s->popped;
    if (s->uri.p != NULL)
        sip_edit_replace(&e->edits, e->msg.uri, s->uri);
    if (first == 0 && !was_strict)
        return;
    sip_drop_headers(&e->edits, SIP_H_ROUTE);
    if (first == s->count && s->appended.n == 0)
        return;
    struct text t = scratch_text(e, SIP_HEAD_BYTES_MAX);
    TEXT_LIT(&t, "Route: ");
    for (unsigned i = first; i < s->count; i++) {
        if (i > first)
            TEXT_LIT(&t, ", ");
        text_put(&t, sip_slice(&e->msg, s->value[i]));
    }
    if (s->appended.n > 0) {
        if (first < s->count)
            TEXT_LIT(&t, ", ");
        TEXT_LIT(&t, "<");
        text_put(&t, s->appended);
        TEXT_LIT(&t, ">");
    }
    TEXT_LIT(&t, "\r\n");
    scratch_keep(e, &t);
    sip_push_header(&e->edits, text_slice(&t));
}

static uint8_t speaker_side(const struct edge *e, const struct token *t)
{
    return to_callee(e, t) ? t->side_caller : t->side_callee;
}

/* The From tag tells which end of the dialog speaks; an end that is inside does not speak to us
 * from outside, whatever an outsider has heard. (With a single listener for both sides, a target is
 * known by its address.) */
static bool may_speak(const struct edge *e, const struct origin *from, const struct token *t)
{
    return speaker_side(e, t) == SIDE_OUTSIDE || is_inside(e, &from->source) ||
           t->callee == token_host_hash(&from->source);
}

/* Believed or not? Returns false when the request is refused. */
static bool trust_routes(struct edge *e, const struct origin *from, struct where *w,
                         struct route_set *s)
{
    if (from->side == SIDE_INSIDE) {
        if (!s->bad_token)
            return true;
        /* Whoever stood for this token is not reached by guessing. */
        e->count.tokens_bad++;
        refuse(w, 430, SLICE("Flow Failed"));
        return false;
    }
    if (s->has_token && !may_speak(e, from, &s->token))
        s->bad_token = true;
    /* That a hash fits lets its owner speak (addresses that fit can be searched for), but not lead
     * the way. */
    s->outsider =
        !s->has_token || speaker_side(e, &s->token) == SIDE_OUTSIDE || !is_inside(e, &from->source);
    if (s->bad_token)
        e->count.tokens_bad++;
    if (!s->bad_token && (s->popped == s->count || s->has_token))
        return true;
    if (e->opts->strip_foreign_routes) {
        e->count.routes_stripped++;
        s->stripped = true;
        s->has_token = false;
        return true;
    }
    e->count.routes_refused++;
    refuse(w, 403, SLICE("Route Not Allowed"));
    struct text t = scratch_text(e, 512);
    text_put(&t, s->bad_token ? SLICE("a token that does not verify, from ") : SLICE("from "));
    addr_put(&t, &from->source);
    TEXT_LIT(&t, ", Call-ID ");
    text_put(&t, slice_take(e->facts.call_id, 64));
    TEXT_LIT(&t, ": ");
    text_put(&t, slice_take(sip_header_value(&e->msg, SIP_H_ROUTE), 256));
    scratch_keep(e, &t);
    emit_notice(e, NOTICE_ROUTE_REFUSED, text_slice(&t));
    return false;
}

/* Decides for e->msg and begins the edits (e->edits) that every forwarding of it needs. */
void route_request(struct edge *e, const struct origin *from, struct where *w)
{
    struct route_set s;
    memset(&s, 0, offsetof(struct route_set, value));
    memset(w, 0, offsetof(struct where, target));
    if (collect(e, &s) != 0 || undo_strict_router(e, from, &s) != 0 ||
        pop_own_routes(e, from, &s) != 0) {
        refuse(w, 400, SLICE("Bad Route"));
        return;
    }
    if (!path_has_room(e, from)) {
        refuse(w, 403, SLICE("Contacts Not Allowed"));
        return;
    }
    bool was_strict = s.uri.p != NULL;
    if (!trust_routes(e, from, w, &s))
        return;
    decide(e, from, w, &s);
    if (w->kind == WHERE_REFUSED)
        return;
    edits_begin(e, &e->msg, 0);
    sip_stamp_via(&e->edits, &e->facts, &from->source, &e->out->scratch);
    edit_routes(e, &s, was_strict);
}

/* Where the Path or the Contact of a binding leads: to a flow of ours or to a neighbour, else as
 * RFC 3263 says. Returns whether the URI was a token of ours, which goes no further. */
bool route_to_uri(struct edge *e, struct where *w, const struct sip_uri *u)
{
    struct token token;
    if (is_sip(u) && u->user.n > 0 &&
        token_parse(&e->opts->keys, u->user, SLICE_NONE, &token) == 0 && token.kind == TOKEN_FLOW) {
        const struct edge_neighbour *n = neighbour(e, token.node);
        if (token.node == e->opts->node_id) {
            to_flow(e, w, &token);
            return true;
        }
        if (n != NULL) {
            to_edge(e, w, n);
            return false;
        }
        /* An edge that `fleet:` does not name: its Path says where it is. */
    }
    to_uri(e, w, u);
    return false;
}
