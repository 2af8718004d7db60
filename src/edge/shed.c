/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request is worth when not all can be done, what its source has done before, and who goes
 * in circles. Asked once of each new request, before anything is kept of it: what is refused here
 * leaves nothing behind but a count. */
#include "edge/edge_int.h"

/* ---- class ------------------------------------------------------------------------------------
 */

/* Is it sip:NUMBER@ … ? The URI has been found well-formed: it need not be read once more. */
static bool calls_number(struct slice uri, struct slice number)
{
    size_t colon = slice_find(uri, ':');
    struct slice scheme = slice_take(uri, colon), rest = slice_drop(uri, colon + 1);
    return (slice_equal_nocase(scheme, SLICE("sip")) ||
            slice_equal_nocase(scheme, SLICE("sips"))) &&
           rest.n > number.n && rest.p[number.n] == '@' &&
           slice_equal_nocase(slice_take(rest, number.n), number);
}

/* RFC 5031: urn:service:sos and what is below it; and the user part that phones turn it into.
 * Calls, and the messages of RFC 8876. */
bool is_emergency(const struct edge *e, const struct sip_msg *m)
{
    static const struct slice sos = {"urn:service:sos", 15};
    struct slice uri = sip_slice(m, m->uri);
    if (m->method != SIP_M_INVITE && m->method != SIP_M_MESSAGE)
        return false;
    if (uri.n >= sos.n && slice_equal_nocase(slice_take(uri, sos.n), sos))
        return uri.n == sos.n || uri.p[sos.n] == '.' || uri.p[sos.n] == ';';
    for (uint16_t i = 0; i < e->opts->emergency_count; i++)
        if (calls_number(uri, e->opts->emergency[i]))
            return true;
    return false;
}

/* Has it registered before, and from right there? Only what nobody else can pretend counts. */
static bool is_known(struct edge *e, const struct origin *from)
{
    const struct flow *w = from->flow.gen != 0 ? flow_get(e->flows, from->flow) : NULL;
    if (w != NULL && w->registered)
        return true;
    if (from->transport == TP_UDP)
        return phones_at(e->phones, from->listener, &from->source) != 0;
    return guard_is_known(e->guard, &from->source, e->now);
}

/* Half of its registration is done: to refuse it now would throw that away. Asked only when
 * somebody has to be refused, for a MAC is dearer than all the rest here. */
static bool was_challenged(struct edge *e, const struct origin *from)
{
    struct reg_origin o = {
        .source = from->source, .transport = from->transport, .direct = from->side == SIDE_OUTSIDE};
    if (e->registrar == NULL || guard_shed_permille(e->guard) == 0)
        return false;
    if (from->transport != TP_UDP) { /* a nonce from somewhere would do for all the world */
        const struct flow *w = flow_get(e->flows, from->flow);
        if (w == NULL || !w->challenged)
            return false;
    }
    return registrar_was_challenged(e->registrar, &e->msg, &o, e->wall_ns);
}

/* A To tag is quickly invented. All dialogs that go through us have our token in their route set,
 * which only fits their Call-ID: without it, what an outsider sends is as new as any call. The
 * first Route that names somebody is asked, or what a strict router has made of it. */
static bool names_dialog(struct edge *e)
{
    enum { ROUTES_LOOKED_AT = 4 };
    struct sip_values v = sip_values(&e->msg, SIP_H_ROUTE);
    struct slice user = SLICE_NONE;
    for (unsigned i = 0; i < ROUTES_LOOKED_AT && user.n == 0 && sip_next_value(&v); i++) {
        struct sip_nameaddr na;
        struct sip_uri u;
        if (sip_nameaddr_parse(sip_slice(&e->msg, v.value), &na) == 0 &&
            sip_uri_parse(na.uri, &u) == 0)
            user = u.user;
    }
    struct token token;
    user = user.n > 0 ? user : e->facts.uri.user;
    return user.n > 0 && token_verify(e, user, &token) && token.kind == TOKEN_ROUTE;
}

static bool is_in_dialog(struct edge *e, const struct origin *from)
{
    return e->facts.to_tag.n > 0 && (from->side != SIDE_OUTSIDE || names_dialog(e));
}

/* Anybody can call for help. So many a second are believed of strangers, and so many of those who
 * belong here, more than there ever are; what is beyond that is a flood, and calls like all others,
 * lest it drown those who need help. */
static bool is_believed(struct edge *e, const struct origin *from)
{
    static const struct rate rates[2] = {{.every = NS_S / 20, .burst = 100},
                                         {.every = NS_S / 100, .burst = 500}};
    bool known = from->side != SIDE_OUTSIDE || is_known(e, from);
    return rate_take(&e->emergencies[known], rates[known], e->now);
}

/* `hops`: a REGISTER that another worker has let in is worth as much as any: who sent it is known
 * there. */
static enum guard_class class_of(struct edge *e, const struct origin *from, unsigned hops)
{
    uint8_t method = e->msg.method;
    if (method == SIP_M_REGISTER)
        return hops > 0 || is_known(e, from) || was_challenged(e, from) ? CLASS_REFRESH
                                                                        : CLASS_REGISTER;
    if (is_in_dialog(e, from))
        return method == SIP_M_BYE || method == SIP_M_PRACK ? CLASS_FINISHES : CLASS_IN_DIALOG;
    if (method == SIP_M_OPTIONS) /* a neighbour's probe costs less than being shunned */
        return from->side == SIDE_OUTSIDE ? CLASS_PROBE : CLASS_IN_DIALOG;
    return is_emergency(e, &e->msg) && is_believed(e, from) ? CLASS_EMERGENCY : CLASS_CALL;
}

/* ---- refusing -------------------------------------------------------------------------------- */

/* A line for each would cost more than all that is saved: what is shed is counted by its class. */
static void answer_shed(struct edge *e, const struct origin *from, uint64_t retry_after_s)
{
    static const struct sip_fault fault = {.status = 503, .reason = {"Overloaded", 10}};
    answer_stateless(e, from, &fault, retry_after(e, retry_after_s));
}

/* Whose address is no pretence. Whoever sits at the address of a datagram, and has registered from
 * there, need not have sent it. */
static bool is_proven(const struct origin *from)
{
    return from->transport != TP_UDP;
}

static bool is_limited(const struct origin *from)
{
    return from->side == SIDE_OUTSIDE;
}

void shed_note(struct edge *e, const struct origin *from, enum guard_what what)
{
    if (is_limited(from))
        (void)guard_charge(e->guard, &from->source, what, is_proven(from), e->now);
}

/* What its source does too often. True: refused. It gets no place in the line of those who are
 * refused for others: a line that one source makes as long as it likes would keep all away. */
static bool is_over_limit(struct edge *e, const struct origin *from)
{
    uint64_t least_s = (e->opts->guard.retry_after_min + NS_S - 1) / NS_S;
    enum guard_why why =
        guard_charge(e->guard, &from->source, GUARD_REQUESTS, is_proven(from), e->now);
    if (why == GUARD_FINE)
        return false;
    if (why == GUARD_BANNED || why == GUARD_DENIED)
        return true; /* it was told before; an answer to each would serve who pretends to be it */
    e->count.requests_limited++;
    answer_shed(e, from, least_s > 0 ? least_s : 1);
    return true;
}

/* The worker that answers for a user counts failures to log in and users that are not there, of
 * sources that other workers hear: who is banned for them is so here as well. */
static bool is_banned_here(struct edge *e, const struct origin *from)
{
    enum guard_why why = is_proven(from) ? guard_refused_connected(e->guard, &from->source, e->now)
                                         : guard_refused(e->guard, &from->source, e->now);
    return why != GUARD_FINE;
}

/* Is this new request refused for what its source does, or because there is too much to do? Then it
 * is answered, or not worth an answer. */
bool shed_request(struct edge *e, const struct origin *from, const struct event *ev, unsigned hops)
{
    enum guard_class class = class_of(e, from, hops);
    if (is_limited(from) && hops > 0 && is_banned_here(e, from))
        return true;
    if (is_limited(from) && hops == 0 && class < CLASS_IN_DIALOG && is_over_limit(e, from))
        return true;
    if (!guard_sheds(e->guard, class, ev->waited, e->now))
        return false;
    e->count.requests_shed++;
    answer_shed(e, from, guard_retry_after_s(e->guard, class, e->now));
    return true;
}

/* ---- what was done well -----------------------------------------------------------------------
 */

static void flow_has_registered(struct edge *e, const struct flow_id id)
{
    struct flow *w = id.gen != 0 ? flow_get(e->flows, id) : NULL;
    if (w == NULL || w->registered)
        return;
    w->registered = true;
    if (w->side == SIDE_OUTSIDE) /* over UDP anybody may write a source: no word of it is kept */
        guard_known(e->guard, &w->peer, e->now);
}

/* A relay got its success: so much can be done, and who registered over this connection may come
 * back before those that nobody knows. */
void shed_done(struct edge *e, const struct relay *r)
{
    if (r->method == SIP_M_REGISTER)
        flow_has_registered(e, r->from.flow);
    if (!r->in_dialog) /* a BYE is no second call that was asked for */
        guard_done(e->guard, r->method == SIP_M_REGISTER ? CLASS_REGISTER : CLASS_CALL, e->now);
}

/* A message of ours: is it an answer to a REGISTER? */
static bool answers_register(struct slice m)
{
    static const struct slice method = {"REGISTER", 8};
    while (m.n > 2) {
        struct slice line = slice_take(m, slice_find(m, '\n'));
        struct slice name = slice_trim(slice_take(line, slice_find(line, ':')));
        m = slice_drop(m, line.n + 1);
        line = slice_trim(line);
        if (line.n == 0)
            return false;
        if (slice_equal_nocase(name, SLICE("cseq")))
            return line.n > method.n && slice_equal(slice_drop(line, line.n - method.n), method);
    }
    return false;
}

/* Another worker answers on a connection of ours. Who has asked to be registered may have been
 * refused, and have called somebody who answers. */
void shed_done_elsewhere(struct edge *e, struct flow_id flow, struct slice answer)
{
    struct flow *w = flow_get(e->flows, flow);
    if (w != NULL && w->asked_register && !w->registered &&
        slice_starts_with(answer, SLICE("SIP/2.0 2")) && answers_register(answer))
        flow_has_registered(e, flow);
}

/* ---- circles ---------------------------------------------------------------------------------
 *
 * A back-to-back agent begins a new Call-ID, new tags and Max-Forwards 70 with each leg: a circle
 * through it looks like call after call. The Session-ID (RFC 7989) is what it has to keep. */

enum { UUID_CHARS = 32 };

static bool is_uuid(struct slice s)
{
    bool some = false;
    if (s.n != UUID_CHARS)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
        some |= c != '0';
    }
    return some;
}

/* The caller's half of the session's name as it stands in the message; empty when there is none
 * that can be read. */
static struct slice session_of(const struct sip_msg *m)
{
    struct slice v = sip_header_value(m, SIP_H_SESSION_ID);
    struct slice local = slice_trim(slice_take(v, slice_find(v, ';')));
    return is_uuid(local) ? local : SLICE_NONE;
}

static bool counts_as_crossing(const struct edge *e)
{
    const struct sip_facts *f = &e->facts;
    return f->to_tag.n == 0 && (f->method == SIP_M_INVITE || f->method == SIP_M_REFER ||
                                f->method == SIP_M_SUBSCRIBE || f->method == SIP_M_MESSAGE);
}

/* Where it is going takes part: an agent may ring a dozen phones of a group in one session, but not
 * the same one a dozen times. */
bool session_circles(struct edge *e)
{
    const struct sip_uri *uri = &e->facts.uri;
    struct slice session = counts_as_crossing(e) ? session_of(&e->msg) : SLICE_NONE;
    if (session.n == 0)
        return false;
    char lower[UUID_CHARS];
    for (size_t i = 0; i < UUID_CHARS; i++)
        lower[i] = (char)(session.p[i] | 0x20); /* digits have that bit already */
    bool has_host = uri->host.n > 0;
    struct slice parts[] = {slice_of(lower, UUID_CHARS),
                            has_host ? uri->user : sip_slice(&e->msg, e->msg.uri),
                            has_host ? uri->host : SLICE_NONE};
    uint64_t hash = siphash_parts(&e->seed, parts, sizeof parts / sizeof parts[0]);
    if (!guard_session_crosses(e->guard, hash, e->now))
        return false;
    e->count.sessions_circling++;
    emit_notice(e, NOTICE_SESSION_CIRCLES, session);
    return true;
}

/* Gives a request that begins something a Session-ID if it has none: every edge makes the same of
 * one Call-ID, so that what went around and lost nothing but this header is the same session. */
void edit_session(struct edge *e)
{
    static const struct hash_seed halves[2] = {{0x7765697273657373ULL, 0x696f6e2d69642d30ULL},
                                               {0x7765697273657373ULL, 0x696f6e2d69642d31ULL}};
    static const char hex[] = "0123456789abcdef";
    if (!e->opts->session_id || e->facts.to_tag.n > 0 || e->facts.method == SIP_M_REGISTER ||
        sip_has(&e->msg, SIP_H_SESSION_ID))
        return;
    char uuid[UUID_CHARS];
    for (unsigned half = 0; half < 2; half++) {
        uint64_t h = siphash(&halves[half], e->facts.call_id.p, e->facts.call_id.n);
        for (unsigned i = 0; i < 16; i++)
            uuid[half * 16 + i] = hex[h >> (60 - 4 * i) & 15];
    }
    struct text t = scratch_text(e, 96);
    text_put(&t, slice_of(uuid, UUID_CHARS));
    TEXT_LIT(&t, ";remote=00000000000000000000000000000000");
    scratch_keep(e, &t);
    sip_set_header(&e->edits, SIP_H_SESSION_ID, text_slice(&t), &e->out->scratch);
}
