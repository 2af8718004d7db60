/* SPDX-License-Identifier: Apache-2.0
 *
 * Moving phones to another edge: all of them when this one is drained, each now and then when
 * connections are recycled. A phone cannot be asked at any time, only answered:
 *
 *      its connection is closed, ──▶ it comes back ──▶ REGISTER ──▶ 302 to another edge: it goes
 *      at an even pace, out of                             └──────▶ 503, for one that would not
 *      calls                                                        follow: it uses its second flow
 *                                                                   or another address of ours
 *
 *      flows │▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
 *            │        ▓▓▓▓▓▓▓▓▓▓▓▓▓▓       as many are left as time is:
 *            └──────────────────────▶ t    others see a slope, not a step
 *
 * Which User-Agents follow a 302 to REGISTER is configured, or tried out on a few of them: one that
 * comes back regardless does not. */
#include "edge/edge_int.h"

/* A close is no work; that everybody comes somewhere else at one moment is. */
#define DRAIN_STEP_NS (20 * NS_MS)

bool flow_is_phone(const struct flow *w)
{
    return (w->id.slot & FLOW_OUT) == 0 && w->side == SIDE_OUTSIDE && !w->closing;
}

/* One that was there when the drain began. Who came since is told to go by an answer; to close its
 * connection would only bring it back, and take the turn of another. */
static bool is_to_leave(const struct edge *e, const struct flow *w)
{
    return flow_is_phone(w) && w->opened_s <= e->drain.began / NS_S;
}

/* It carries a call, or one that may become one. */
static bool is_in_a_call(const struct flow *w)
{
    return w->calls > 0 || w->open > 0 || w->askers != FLOW_END;
}

/* ---- calls on a connection --------------------------------------------------------------------
 */

static void count_call(struct flow *w, bool begins)
{
    if (begins && w->calls < UINT16_MAX)
        w->calls++;
    if (!begins && w->calls > 0)
        w->calls--;
}

/* A call has begun or ended that goes over this connection, which may be another worker's. */
void flow_call(struct edge *e, struct flow_id id, bool begins)
{
    if (id.gen == 0)
        return;
    if (id.worker == e->worker || id.worker >= e->workers) {
        edge_on_call(e, id, begins);
        return;
    }
    struct hand head = {.kind = HAND_CALL, .reserved = begins, .flow = id};
    emit_hand(e, id.worker, head, SLICE_NONE);
}

void edge_on_call(struct edge *e, struct flow_id flow, bool begins)
{
    struct flow *w = flow_get(e->flows, flow);
    if (w != NULL)
        count_call(w, begins);
}

/* The answer to an INVITE or BYE has been passed up: both its ends may be phones' connections. */
void drain_note_answer(struct edge *e, const struct relay *r, const struct try *t)
{
    bool begins = r->method == SIP_M_INVITE && !r->in_dialog;
    if (!begins && r->method != SIP_M_BYE)
        return;
    if (r->from.side == SIDE_OUTSIDE)
        flow_call(e, r->from.flow, begins);
    if (t->hop.fixed_flow && t->hop.transport != TP_UDP)
        flow_call(e, t->hop.flow, begins);
}

/* ---- which phones follow a 302? ---------------------------------------------------------------
 */

static struct moved_agent *agent_of(struct edge *e, struct slice name)
{
    uint64_t hash = siphash(&e->seed, name.p, name.n) | 1;
    struct moved_agent *a = &e->drain.agent[hash % DRAIN_AGENTS];
    if (a->hash != hash)
        *a = (struct moved_agent){.hash = hash};
    return a;
}

static bool is_listed(const struct edge *e, struct slice name)
{
    for (uint16_t i = 0; i < e->opts->moving.agent_count; i++) {
        struct slice s = e->opts->moving.agents[i];
        if (s.n <= name.n && slice_equal_nocase(s, slice_take(name, s.n)))
            return true;
    }
    return false;
}

/* Was this phone sent away lately? Then it does not follow, or the other edge is not there. */
static bool came_back(struct edge *e, uint32_t phone)
{
    const struct moved_phone *m = &e->drain.moved[phone % DRAIN_MOVED];
    return m->phone == phone && mono_since(e->now, m->at) < 64 * e->opts->timers.t1;
}

static bool follows(struct edge *e, uint32_t phone)
{
    enum { TRIED_MIN = 4 };
    struct slice name = sip_header_value(&e->msg, SIP_H_USER_AGENT);
    if (came_back(e, phone)) {
        struct moved_agent *a = agent_of(e, name);
        if (a->came_back < UINT16_MAX)
            a->came_back++;
        return false;
    }
    if (is_listed(e, name))
        return true;
    const struct moved_agent *a = agent_of(e, name);
    return e->opts->moving.learn && (a->sent < TRIED_MIN || a->came_back * 2u < a->sent);
}

static void note_sent(struct edge *e, uint32_t phone)
{
    struct moved_agent *a = agent_of(e, sip_header_value(&e->msg, SIP_H_USER_AGENT));
    if (a->sent < UINT16_MAX)
        a->sent++;
    e->drain.moved[phone % DRAIN_MOVED] = (struct moved_phone){.at = e->now, .phone = phone};
}

/* ---- REGISTER while it drains -----------------------------------------------------------------
 */

/* It wants to be gone, and may. Most say so at the Contact itself. */
static bool unregisters(const struct edge *e)
{
    struct sip_values v = sip_values(&e->msg, SIP_H_CONTACT);
    struct slice expires = sip_header_value(&e->msg, SIP_H_EXPIRES);
    struct sip_nameaddr na;
    if (!sip_next_value(&v))
        return false;
    if (slice_equal(sip_slice(&e->msg, v.value), SLICE("*")))
        return true;
    if (sip_nameaddr_parse(sip_slice(&e->msg, v.value), &na) == 0)
        (void)sip_param(na.params, SLICE("expires"), &expires);
    return slice_equal(expires, SLICE("0"));
}

static void answer_moved(struct edge *e, const struct origin *from)
{
    static const struct sip_fault moved = {.status = 302};
    struct text t = scratch_text(e, e->opts->moving.to.n + 64);
    TEXT_LIT(&t, "Contact: ");
    text_put(&t, e->opts->moving.to);
    TEXT_LIT(&t, "\r\n");
    scratch_keep(e, &t);
    e->count.phones_moved++;
    answer_stateless(e, from, &moved, text_slice(&t));
    log_answered(e, from, 302, SLICE("Draining"), 'P');
}

/* Sends a phone that registers elsewhere. False: it is to be served. */
bool drain_takes_register(struct edge *e, const struct origin *from)
{
    if (!e->draining || from->side != SIDE_OUTSIDE || e->facts.method != SIP_M_REGISTER ||
        unregisters(e))
        return false;
    uint32_t phone = phone_of(&e->msg);
    if (e->opts->moving.to.n > 0 && follows(e, phone)) {
        note_sent(e, phone);
        answer_moved(e, from);
        return true;
    }
    const struct flow *w = from->flow.gen != 0 ? flow_get(e->flows, from->flow) : NULL;
    if (w != NULL && w->registered)
        return false; /* its turn comes when its connection is closed */
    static const struct sip_fault draining = {.status = 503, .reason = {"Draining", 8}};
    struct slice later = retry_after(e, guard_retry_after_s(e->guard, CLASS_REGISTER, e->now));
    answer_stateless(e, from, &draining, later);
    log_answered(e, from, 503, SLICE("Draining"), 'P');
    return true;
}

/* ---- the pace ---------------------------------------------------------------------------------
 */

static void move_flow(struct edge *e, struct flow *w)
{
    e->count.flows_moved++;
    emit_close(e, w->id);
}

void edge_drain(struct edge *e, dur_ns within)
{
    struct drain *d = &e->drain;
    e->draining = true;
    d->began = e->now;
    d->within = within > 0 ? within : e->opts->moving.within;
    d->phones = 0;
    uint32_t cursor = 0;
    const struct flow *w;
    while ((w = flow_next(e->flows, &cursor)) != NULL)
        d->phones += flow_is_phone(w);
    d->closed = 0;
    d->cursor = 0;
    d->next_at = e->now;
}

void edge_undrain(struct edge *e)
{
    e->draining = false;
}

mono_ns drain_deadline(const struct edge *e)
{
    return e->draining && e->drain.next_at != MONO_NONE ? e->drain.next_at : MONO_NONE;
}

/* How many may be gone by now. */
static uint32_t due_by_now(const struct drain *d, mono_ns now)
{
    dur_ns passed = mono_since(now, d->began);
    if (d->within == 0 || passed >= d->within)
        return UINT32_MAX;
    uint64_t steps = d->within / DRAIN_STEP_NS + 1;
    return (uint32_t)(((uint64_t)d->phones * (passed / DRAIN_STEP_NS + 1) + steps - 1) / steps);
}

/* At most a round over the table, from where the last one stopped; those with a call are passed
 * over until time is up. Returns how many places it has when all were looked at, else 0. */
static uint32_t close_due(struct edge *e, uint32_t due)
{
    struct drain *d = &e->drain;
    bool overtime = due == UINT32_MAX, around = false;
    uint32_t first = d->cursor, places = 0;
    while (d->closed < due && actions_have_room(e->out)) {
        struct flow *w = flow_next(e->flows, &d->cursor);
        if (w == NULL) {
            places = d->cursor;
            d->cursor = 0;
            if (around || first == 0)
                return places;
            around = true;
            continue;
        }
        if (is_to_leave(e, w) && (!is_in_a_call(w) || overtime)) {
            move_flow(e, w);
            d->closed++;
        }
        if (around && d->cursor >= first)
            return places;
    }
    return 0;
}

/* To look at a place costs some 20 ns: a large table in which all that is left has calls is looked
 * at less often. */
void drain_run(struct edge *e)
{
    struct drain *d = &e->drain;
    if (!e->draining || d->next_at > e->now)
        return;
    dur_ns pause = close_due(e, due_by_now(d, e->now)) * NS_US;
    d->next_at = mono_add(e->now, pause > DRAIN_STEP_NS ? pause : DRAIN_STEP_NS);
}

/* ---- recycling --------------------------------------------------------------------------------
 *
 * Each connection over which a phone has registered has a life of its own, from its generation:
 *
 *      opened ──────── after − jitter ──────── after ──────── after + jitter
 *                      └── those that came together leave over all of this ─┘
 *
 * and if very many are too old at once, since the option is new, no more of them go than four times
 * what would in the long run. It is looked at whenever the connection may have to be pinged. */

static uint64_t life_s(const struct edge_moving *m, const struct flow *w)
{
    uint64_t after_s = m->recycle_after / NS_S;
    uint64_t spread_s = after_s * m->recycle_jitter_percent / 100;
    /* Numbers that follow each other lie evenly in what is left of the golden section. */
    uint64_t draw = (w->id.gen * 0x9e3779b97f4a7c15ULL) >> 32;
    return after_s - spread_s + (draw * (2 * spread_s + 1) >> 32);
}

/* When to look at it, in seconds from now; 0: it is not recycled. */
uint32_t recycle_look_s(const struct edge *e, const struct flow *w)
{
    enum { AGAIN_S = 60 };
    if (e->opts->moving.recycle_after == 0 || w->closing)
        return 0;
    uint64_t age_s = e->now / NS_S - w->opened_s, whole_s = life_s(&e->opts->moving, w);
    if (age_s >= whole_s)
        return AGAIN_S; /* it is too old: in a call, or others go first */
    return whole_s - age_s < FLOW_PING_AHEAD_S ? (uint32_t)(whole_s - age_s) : FLOW_PING_AHEAD_S;
}

/* Closes it if its time has come; true when it did. */
bool recycle_flow(struct edge *e, struct flow *w)
{
    enum { HURRY = 4, BURST = 4 };
    const struct edge_moving *m = &e->opts->moving;
    if (m->recycle_after == 0 || e->draining || !w->registered || !flow_is_phone(w) ||
        is_in_a_call(w) || e->now / NS_S - w->opened_s < life_s(m, w))
        return false;
    struct rate pace = {.every = m->recycle_after / HURRY / flows_live(e->flows), .burst = BURST};
    if (!rate_take(&e->drain.recycled, pace, e->now))
        return false;
    move_flow(e, w);
    return true;
}

/* ---- rows ------------------------------------------------------------------------------------
 */

/* One row: how far it is. */
void drain_show(struct edge *e, struct text *t)
{
    const struct drain *d = &e->drain;
    uint32_t cursor = 0, phones = 0, calls = 0;
    const struct flow *w;
    while ((w = flow_next(e->flows, &cursor)) != NULL) {
        phones += e->draining ? is_to_leave(e, w) : flow_is_phone(w);
        calls += flow_is_phone(w) ? w->calls : 0;
    }
    dur_ns passed = mono_since(e->now, d->began);
    text_put_char(t, '{');
    json_u64(t, "worker", e->worker);
    json_bool(t, "draining", e->draining);
    json_u64(t, "flows_at_start", e->draining ? d->phones : phones);
    json_u64(t, "flows", phones);
    json_u64(t, "calls", calls);
    json_u64(t, "transactions", e->relays_open);
    json_u64(t, "moved", e->count.phones_moved);
    json_u64(t, "left_ms", e->draining && passed < d->within ? (d->within - passed) / NS_MS : 0);
    TEXT_LIT(t, "}\n");
}
