/* SPDX-License-Identifier: Apache-2.0
 *
 * Keep-alives that we send to phones (RFC 5626 4.4 the other way round), and signs of life that are
 * not SIP. A phone is pinged after a silence, so that a client which pings by itself never is.
 *
 * A connection gets CRLF CRLF, or a ping of WebSocket; each ping that it lives through makes the
 * next pause longer. Nobody is cut off for not answering: an old client does not, and TCP knows
 * better whether it is there.
 *
 * An address over UDP gets an OPTIONS, which every phone answers with something (RFC 3261 11):
 *
 *      REGISTER ──▶ 200 ─┬─ 24 s ─▶ OPTIONS ──▶ 200, 404, 481 … ─┬─ 24 s ─▶ OPTIONS ─▶ …
 *                        └ heard meanwhile: 24 s from then on    └ nothing: again after 2 s, …
 *
 * It has no transaction: what is known of it stands in its branch, and an answer does no more than
 * any datagram from there, which is that somebody was heard. */
#include "edge/edge_int.h"

/* The pause until the next ping, in seconds, with its jitter: phones that came together shall not
 * be called together. */
static uint16_t jittered(struct edge *e, uint32_t pause_s)
{
    uint64_t spread = (uint64_t)pause_s * e->opts->keepalive.jitter_percent / 100;
    uint64_t s = pause_s - spread + rng_u64(&e->rng) % (2 * spread + 1);
    return (uint16_t)(s < 1 ? 1 : s < UINT16_MAX ? s : UINT16_MAX);
}

static uint32_t whole_seconds(dur_ns d)
{
    uint64_t s = d / NS_S;
    return (uint32_t)(s < 1 ? 1 : s < UINT16_MAX ? s : UINT16_MAX);
}

/* ---- connections: who is mobile -------------------------------------------------------------- */

enum { CONTACTS_LOOKED_AT = 4, AGENT_BYTES_LOOKED_AT = 256 };

static bool contains_nocase(struct slice s, struct slice word)
{
    for (size_t i = 0; i + word.n <= s.n; i++)
        if (slice_equal_nocase(slice_take(slice_drop(s, i), word.n), word))
            return true;
    return false;
}

/* Does a REGISTER say that pushes wake this client (RFC 8599 4.1)? */
static bool asks_for_pushes(const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_CONTACT);
    struct sip_nameaddr na;
    struct sip_uri u;
    for (unsigned i = 0; i < CONTACTS_LOOKED_AT && sip_next_value(&v); i++)
        if (sip_nameaddr_parse(sip_slice(m, v.value), &na) == 0 && sip_uri_parse(na.uri, &u) == 0 &&
            (sip_uri_param(u.params, SLICE("pn-provider"), NULL) ||
             sip_uri_param(u.params, SLICE("pn-prid"), NULL)))
            return true;
    return false;
}

static bool is_mobile(const struct edge *e, const struct sip_msg *m)
{
    const struct edge_keepalive *k = &e->opts->keepalive;
    struct slice agent = slice_take(sip_header_value(m, SIP_H_USER_AGENT), AGENT_BYTES_LOOKED_AT);
    for (uint16_t i = 0; i < k->mobile_agent_count; i++)
        if (contains_nocase(agent, k->mobile_agents[i]))
            return true;
    return asks_for_pushes(m);
}

/* ---- connections: pings ---------------------------------------------------------------------- */

/* The pause that `longer` leads to. A mobile client has one and the same: it is as long as the NATs
 * of its network are known to wait, and half as long again is not known of them. */
static uint16_t pause_of(struct edge *e, const struct flow *w, uint32_t longer)
{
    const struct edge_keepalive *k = &e->opts->keepalive;
    uint32_t every = whole_seconds(k->every), max = whole_seconds(k->max);
    if (w->mobile) {
        uint32_t mobile = whole_seconds(k->mobile_every);
        return jittered(e, mobile > every ? mobile : every);
    }
    return jittered(e, longer < max ? longer : max);
}

/* Without pings it is only looked at when its age may end it. */
static void look_again(struct edge *e, struct flow *w)
{
    uint32_t s = recycle_look_s(e, w);
    if (s > 0)
        flow_ping_in(e->flows, w, s, e->now);
}

/* A connection from outside has said something in SIP, e->msg: from now on it is kept open. What it
 * says when it registers tells whether it is mobile. */
void keepalive_begin(struct edge *e, struct flow *w)
{
    uint32_t every = whole_seconds(e->opts->keepalive.every);
    if (w->side != SIDE_OUTSIDE || (w->id.slot & FLOW_OUT))
        return;
    if (e->opts->keepalive.every == 0) {
        if (w->ping_cell == FLOW_PING_NONE)
            look_again(e, w);
        return;
    }
    bool registers = e->msg.is_request && e->msg.method == SIP_M_REGISTER;
    bool mobile = registers ? is_mobile(e, &e->msg) : w->mobile;
    if (w->ping_s != 0 && mobile == w->mobile)
        return;
    w->mobile = mobile;
    w->ping_s = pause_of(e, w, every);
    flow_ping_in(e->flows, w, w->ping_s, e->now);
}

void edge_on_alive(struct edge *e, const struct event *ev)
{
    if (ev->flow.gen == 0) {
        phones_heard(e->phones, ev->listener, &ev->source, e->now);
        return;
    }
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w != NULL)
        w->last_in = e->now;
}

static void ping(struct edge *e, struct flow *w)
{
    emit(e, ACT_PING)->flow = w->id;
    e->count.pings_sent++;
    if (w->pings < UINT16_MAX)
        w->pings++;
    w->ping_s = pause_of(e, w, w->ping_s + w->ping_s / 2u);
    flow_ping_in(e->flows, w, w->ping_s, e->now);
}

static void run_flows(struct edge *e)
{
    struct flow *w;
    while (actions_have_room(e->out) && (w = flow_ping_due(e->flows, e->now)) != NULL) {
        uint32_t silent = whole_seconds(mono_since(e->now, w->last_in));
        if (recycle_flow(e, w))
            continue;
        if (e->opts->keepalive.every == 0 || w->closing) {
            w->ping_s = 0; /* switched off; a message may begin it again */
            look_again(e, w);
        } else if (silent < w->ping_s) {
            flow_ping_in(e->flows, w, w->ping_s - silent, e->now);
        } else {
            ping(e, w);
        }
    }
}

/* ---- UDP: who is registered, and for how long ------------------------------------------------ */

/* What a binding lives for when nobody says so (RFC 3261 10.2.1.1), and the most that counts: it is
 * refreshed long before. */
enum { LIFE_DEFAULT_S = 3600, LIFE_MAX_S = 30 * 86400, CONTACTS_GRANTED = 64 };

/* Delta-seconds; what is not readable counts as if it were not there (RFC 3261 20.19). */
static uint32_t seconds_in(struct slice s, uint32_t fallback_s)
{
    uint64_t n;
    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
        s = slice_of(s.p + 1, s.n - 2);
    if (text_parse_u64(s, UINT32_MAX, &n) != 0)
        return fallback_s;
    return (uint32_t)(n < LIFE_MAX_S ? n : LIFE_MAX_S);
}

/* The next Contact that is an address: its URI and what it asks for, or is granted. */
static bool next_contact(struct sip_values *v, uint32_t fallback_s, struct slice *ret_uri,
                         uint32_t *ret_s)
{
    struct sip_nameaddr na;
    struct slice expires;
    if (!sip_next_value(v))
        return false;
    *ret_uri = SLICE_NONE;
    *ret_s = 0;
    if (sip_nameaddr_parse(sip_slice(v->m, v->value), &na) != 0)
        return true; /* "*", or what the registrar has to judge */
    *ret_uri = na.uri;
    *ret_s = sip_param(na.params, SLICE("expires"), &expires) ? seconds_in(expires, fallback_s)
                                                              : fallback_s;
    return true;
}

/* An address-of-record as our registrar has it, however it is dressed up: user@host. */
static uint32_t aor_hash(struct slice uri)
{
    struct sip_uri u;
    if (sip_uri_parse(uri, &u) == 0 && u.user.n > 0 && u.host.n > 0)
        uri = slice_of(u.user.p, (size_t)(u.host.p + u.host.n - u.user.p));
    return phone_hash(uri, false);
}

/* What the 200 to a REGISTER says of the life of what was registered: a hash of the
 * address-of-record above, seconds below (0: it is not registered any more). 0: nothing was asked
 * for. A 200 tells of everybody's bindings: those count that the REGISTER asked for, or where the
 * registrar has written them anew, all, but no more than was asked for. */
uint64_t keepalive_life(const struct sip_msg *request, const struct sip_msg *answer)
{
    struct slice mine[CONTACTS_LOOKED_AT], uri;
    unsigned count = 0;
    uint32_t asked_s = 0, granted_s = 0, any_s = 0, s;
    uint32_t fallback_s = seconds_in(sip_header_value(request, SIP_H_EXPIRES), LIFE_DEFAULT_S);
    struct sip_values v = sip_values(request, SIP_H_CONTACT);
    while (count < CONTACTS_LOOKED_AT && next_contact(&v, fallback_s, &uri, &s)) {
        mine[count++] = uri;
        asked_s = s > asked_s ? s : asked_s;
    }
    struct sip_nameaddr to;
    if (count == 0 || sip_nameaddr_parse(sip_header_value(request, SIP_H_TO), &to) != 0)
        return 0;
    fallback_s = seconds_in(sip_header_value(answer, SIP_H_EXPIRES), asked_s);
    v = sip_values(answer, SIP_H_CONTACT);
    for (unsigned i = 0; i < CONTACTS_GRANTED && next_contact(&v, fallback_s, &uri, &s); i++) {
        any_s = s > any_s ? s : any_s;
        for (unsigned k = 0; k < count; k++)
            if (uri.n > 0 && slice_equal(uri, mine[k]))
                granted_s = s > granted_s ? s : granted_s;
    }
    if (granted_s == 0)
        granted_s = any_s < asked_s ? any_s : asked_s;
    return (uint64_t)aor_hash(to.uri) << 32 | granted_s;
}

/* The same by the header lines of a 200 that is yet to be written. Takes e->msg. */
uint64_t keepalive_life_by(struct edge *e, const struct sip_msg *request, struct slice lines)
{
    struct sip_fault fault;
    if (e->opts->keepalive.udp == 0)
        return 0;
    struct text t = scratch_text(e, lines.n + 32);
    TEXT_LIT(&t, "SIP/2.0 200 OK\r\n");
    text_put(&t, lines);
    TEXT_LIT(&t, "\r\n");
    scratch_keep(e, &t);
    struct slice answer = text_slice(&t);
    if (!text_fits(&t) || sip_index(&e->msg, answer.p, answer.n, true, &fault) != 0)
        return 0;
    return keepalive_life(request, &e->msg);
}

/* A registration from an address that this worker hears has succeeded: see keepalive_life(). */
void keepalive_phone(struct edge *e, uint8_t listener, const struct addr *a, uint64_t life)
{
    if (e->opts->keepalive.udp != 0 && life != 0)
        phones_keep(e->phones, listener, a, (uint32_t)(life >> 32), (uint32_t)life, e->now);
}

/* At start: what was stored by another process, of a user of this worker's. Which worker hears the
 * phone nobody knows before it registers again; until then this one pings it, and is handed what it
 * answers. When it was heard is not known either: they are all begun within one pause. */
void keepalive_claim(struct edge *e, const struct reg_phone *phone, struct slice aor)
{
    dur_ns pause = e->opts->keepalive.udp, ago = pause > 0 ? rng_u64(&e->rng) % pause : 0;
    mono_ns heard = mono_since(e->now, ago);
    uint64_t left_s = mono_since(phone->expires_wall_ms, e->wall_ns / NS_MS) / 1000;
    bool is_there = phones_at(e->phones, phone->listener, &phone->source) != 0;
    if (pause > 0 && is_there && left_s > 0)
        phones_keep(e->phones, phone->listener, &phone->source, aor_hash(aor),
                    (uint32_t)(left_s < LIFE_MAX_S ? left_s : LIFE_MAX_S), heard);
}

/* ---- UDP: pings ------------------------------------------------------------------------------ */

/* A lost datagram is made good while the NAT still waits: twice after a short pause. Who has said
 * nothing to so many is not asked again before he says something by himself: his NAT may have given
 * his address to somebody else by then. Who has never answered one is asked less, and again only
 * when he registers: where everybody may, the source of a REGISTER may be a victim. */
static const dur_ns repeat_after = 2 * NS_S;
enum { SHORT_REPEATS = 2, UNANSWERED_MAX = 5, UNPROVED_MAX = 2 };

/* No try has it: slabs are smaller. */
enum { PING_SLOT = 0x50696e67 };

/* Known from what it is, for nothing is kept: 48 bits in the branch. */
static uint64_t ping_nonce(const struct edge *e, uint8_t listener, const struct addr *a,
                           uint32_t number)
{
    struct slice parts[] = {SLICE("ping"), slice_of(a, sizeof *a), slice_of(&listener, 1),
                            slice_of(&number, sizeof number)};
    return siphash_parts(&e->seed, parts, sizeof parts / sizeof parts[0]) & 0xffffffffffffULL;
}

static void ping_phone(struct edge *e, const struct phone_ping *to)
{
    uint64_t fresh = rng_u64(&e->rng);
    uint32_t number = (uint32_t)fresh;
    struct branch b = {.worker = e->worker,
                       .process_generation = e->process_generation,
                       .of = {.slot = PING_SLOT, .gen = number},
                       .nonce = ping_nonce(e, to->listener, &to->addr, number)};
    struct text via = scratch_text(e, 512);
    put_via(e, &via, TP_UDP, to->listener, &b);
    TEXT_LIT(&via, "\r\n");
    scratch_keep(e, &via);
    struct text out = scratch_text(e, 1024);
    put_options(&out, &to->addr, TP_UDP, text_slice(&via), SLICE("ping"),
                e->opts->listener[to->listener].host, fresh >> 32, b.nonce);
    scratch_keep(e, &out);
    e->count.udp_pings++;
    emit_udp(e, to->listener, &to->addr, text_slice(&out));
}

/* Never later than `udp`: NATs wait for so long, and no longer. */
static mono_ns ping_next_at(struct edge *e, mono_ns from)
{
    const struct edge_keepalive *k = &e->opts->keepalive;
    dur_ns spread = k->udp / 100 * k->jitter_percent;
    return mono_add(from, k->udp - rng_u64(&e->rng) % (spread + 1));
}

static void phone_due(struct edge *e, struct phone_ping *to)
{
    dur_ns pause = e->opts->keepalive.udp;
    if (pause == 0 || !e->opts->listener[to->listener].used) {
        phones_ping_forget(e->phones, to); /* a registration may begin it again */
        return;
    }
    mono_ns at = ping_next_at(e, to->heard);
    if (to->unanswered == 0 && at > e->now) {
        phones_ping_at(e->phones, to, at);
        return;
    }
    if (to->unanswered >= (to->proved ? UNANSWERED_MAX : UNPROVED_MAX))
        return; /* sleeps */
    ping_phone(e, to);
    bool soon = to->unanswered++ < SHORT_REPEATS && repeat_after < pause;
    phones_ping_at(e->phones, to, soon ? mono_add(e->now, repeat_after) : ping_next_at(e, e->now));
}

/* An answer to a ping, whatever it says: that somebody was heard was noted when it came; that he
 * gets what we send him is new; and nothing else is done about it. e->msg, e->facts. */
bool keepalive_takes_pong(struct edge *e, const struct event *ev, unsigned hops)
{
    struct branch b;
    if (ev->kind != EV_DATAGRAM || e->facts.method != SIP_M_OPTIONS ||
        branch_parse(e->facts.via.branch, &b) != 0 || b.of.slot != PING_SLOT ||
        b.nonce != ping_nonce(e, ev->listener, &ev->source, b.of.gen))
        return false;
    if (b.worker != e->worker && b.worker < e->workers && hops == 0) {
        emit_handover(e, ev, b.worker, 1); /* see keepalive_claim() */
        return true;
    }
    if (e->msg.status >= 200)
        e->count.udp_pongs++;
    phones_answered(e->phones, ev->listener, &ev->source, e->now);
    guard_known(e->guard, &ev->source, e->now); /* no datagrams in its name shall ban it */
    return true;
}

/* ---- both ------------------------------------------------------------------------------------ */

mono_ns keepalive_deadline(const struct edge *e)
{
    return mono_min(flow_ping_deadline(e->flows), phones_ping_deadline(e->phones));
}

/* At start very many are looked at, though not pinged, in the same instant. */
enum { DUE_AT_ONCE = 256 };

void keepalive_run(struct edge *e)
{
    struct phone_ping *to;
    run_flows(e);
    for (unsigned i = 0; i < DUE_AT_ONCE && actions_have_room(e->out); i++) {
        to = phones_ping_due(e->phones, e->now);
        if (to == NULL)
            return;
        phone_due(e, to);
    }
}
