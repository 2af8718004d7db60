/* SPDX-License-Identifier: Apache-2.0
 *
 * The registrar among the workers (RFC 3261 10.3). Each address-of-record has one worker, which
 * alone answers for it; what reaches another is handed on once, as it came.
 *
 *      REGISTER ──▶ judged ──┬──▶ 401, 423 …: answered, nothing kept
 *                            └──▶ records ─▶ ACT_STORE ┄┄ EV_STORED ─▶ committed ─▶ 200
 *                                               └┄┄ an error, or silence for 5 s ─▶ 500
 *
 * What is not stored is not acknowledged. Other requests go to the phones: fork.c. */
#include "edge/edge_int.h"

enum { RECORDS_BYTES = 64 * 1024 };

/* A store that is silent has not failed: what it may still hold counts once it says so. After the
 * second span it has; then only a restart brings those bindings back. */
static const dur_ns store_answers_within = 5 * NS_S, store_ends_within = 60 * NS_S;

/* ---- whose is it? ---------------------------------------------------------------------------- */

/* Is it a request to the domain itself? */
bool role_has_domain(const struct edge *e, const struct sip_uri *uri)
{
    const struct registrar_opts *o = &e->opts->registrar;
    if (e->registrar == NULL)
        return false;
    for (uint16_t i = 0; i < o->domain_count; i++)
        if (slice_equal_nocase(o->domains[i], uri->host))
            return true;
    return false;
}

static void refuse(struct edge *e, const struct origin *from, int status, struct slice reason)
{
    struct sip_fault fault = {.status = status, .reason = reason};
    answer_stateless(e, from, &fault, SLICE_NONE);
    log_refused(e, from, &fault, 'P');
}

static void hand_to(struct edge *e, const struct event *ev, uint32_t owner)
{
    struct flow *w = ev->flow.gen != 0 ? flow_get(e->flows, ev->flow) : NULL;
    struct event mine = *ev;
    if (w != NULL) {
        w->owners |= 1ULL << owner;
        w->asked_register |= e->msg.method == SIP_M_REGISTER;
    }
    if (ev->kind == EV_DATAGRAM) /* who hears it, and whom it heard there */
        mine.flow = (struct flow_id){.slot = phones_at(e->phones, ev->listener, &ev->source),
                                     .worker = e->worker};
    emit_handover(e, &mine, owner, 1);
}

/* Finds the address-of-record that e->msg is about: w->aor. False when it is none of ours, and then
 * answered, or another worker's, and then handed on. */
bool role_is_here(struct edge *e, const struct origin *from, const struct event *ev, unsigned hops,
                  struct where *w)
{
    struct sip_uri uri = w->target;
    struct text t = scratch_text(e, REGISTRAR_AOR_BYTES_MAX);
    if ((e->msg.method == SIP_M_REGISTER && sip_uri_parse(e->facts.to_uri, &uri) != 0) ||
        e->registrar == NULL || registrar_aor(&e->opts->registrar, &uri, &t) != 0) {
        e->count.unroutable++;
        shed_note(e, from, GUARD_SCANS);
        refuse(e, from, 404, SLICE("Not Registered Here"));
        return false;
    }
    scratch_keep(e, &t);
    w->aor = text_slice(&t);
    uint32_t owner = registrar_owner(&e->seed, w->aor, e->workers);
    if (owner == e->worker || hops > 0)
        return true;
    hand_to(e, ev, owner);
    return false;
}

/* The ACK of a final that another worker gave finds nothing here; its Request-URI, that of the
 * INVITE, leads to that worker. */
bool role_takes_ack(struct edge *e, const struct event *ev, unsigned hops)
{
    if (e->registrar == NULL || e->workers < 2 || hops > 0)
        return false;
    char aor[REGISTRAR_AOR_BYTES_MAX];
    struct text t = text_into(aor, sizeof aor);
    if (registrar_aor(&e->opts->registrar, &e->facts.uri, &t) != 0)
        return false;
    uint32_t owner = registrar_owner(&e->seed, text_slice(&t), e->workers);
    if (owner == e->worker)
        return false;
    hand_to(e, ev, owner);
    return true;
}

/* ---- REGISTER -------------------------------------------------------------------------------- */

/* Straight from a phone, however many proxies of its own it has: what an outsider says about its
 * way is not believed. From inside it is straight when no other edge has put itself into the Path,
 * and nobody else into the Via. */
static bool is_direct(const struct origin *from, const struct sip_msg *m)
{
    if (from->side == SIDE_OUTSIDE)
        return true;
    struct sip_values v = sip_values(m, SIP_H_VIA);
    return !sip_has(m, SIP_H_PATH) && sip_next_value(&v) && !sip_next_value(&v);
}

static struct reg_origin reg_origin_of(const struct origin *from, const struct sip_msg *m)
{
    struct reg_origin o = {.flow = from->flow,
                           .source = from->source,
                           .transport = from->transport,
                           .listener = from->listener,
                           .direct = is_direct(from, m)};
    if (is_phone_by_udp(from)) /* as a flow token names it */
        o.flow.slot = phone_of(m);
    return o;
}

/* Judges e->msg. True: the records have to be stored first; else it is answered. */
bool role_judge(struct edge *e, const struct origin *from, struct slice *ret_records)
{
    struct reg_answer a = {0};
    struct reg_origin origin = reg_origin_of(from, &e->msg);
    registrar_register(e->registrar, &e->msg, &e->facts, &origin, e->now, e->wall_ns,
                       &e->out->scratch, &a);
    *ret_records = a.records;
    if (a.failed_auth)
        shed_note(e, from, GUARD_AUTH);
    struct flow *w = a.status == 401 && from->flow.gen != 0 ? flow_get(e->flows, from->flow) : NULL;
    if (w != NULL)
        w->challenged = true;
    if (a.records.n > 0)
        return true;
    struct sip_fault answer = {.status = a.status, .reason = a.reason};
    struct slice extra = a.extra;
    if (a.status == 200)
        extra = registrar_answer_lines(e->registrar, &e->msg, &e->facts, &origin, e->now,
                                       e->wall_ns, &e->out->scratch);
    if (a.status == 200)
        e->count.registrations++;
    else
        e->count.registrations_refused++;
    if (a.status == 503)
        emit_notice(e, NOTICE_TABLE_FULL, SLICE("bindings"));
    answer_stateless(e, from, &answer, extra);
    log_answered(e, from, a.status, a.reason, a.status == 200 ? '-' : a.status == 503 ? 'R' : 'P');
    return false;
}

/* ---- storing --------------------------------------------------------------------------------- */

static void emit_store(struct edge *e, struct slice records, uint64_t id)
{
    struct action *a = emit(e, ACT_STORE);
    a->id = id;
    emit_bytes(e, a, records);
}

/* A relay waits for the store: found again when the connection of its phone breaks elsewhere. */
static void role_link(struct edge *e, struct relay *r)
{
    uint32_t slot = slab_handle(&e->relays, r).slot;
    r->storing = true;
    r->flow_prev = FLOW_END;
    r->flow_next = e->storing;
    if (e->storing != FLOW_END)
        relay_at(e, e->storing)->flow_prev = slot;
    e->storing = slot;
}

void role_unlink(struct edge *e, struct relay *r)
{
    if (!r->storing)
        return;
    r->storing = false;
    if (r->flow_prev != FLOW_END)
        relay_at(e, r->flow_prev)->flow_next = r->flow_next;
    else
        e->storing = r->flow_next;
    if (r->flow_next != FLOW_END)
        relay_at(e, r->flow_next)->flow_prev = r->flow_prev;
}

/* Gives the records of a REGISTER to the store. e->edits are made on it. */
void role_store(struct edge *e, struct relay *r, struct slice records)
{
    if (!keep_prepared(e, r)) {
        refuse_unkept(e, r);
        return;
    }
    if (blocks_keep(&e->blocks, records, &r->hops) != 0) {
        answer_no_room(e, r);
        return;
    }
    handle h = slab_handle(&e->relays, r);
    role_link(e, r);
    r->give_up_at = mono_add(e->now, store_answers_within);
    emit_store(e, records, (uint64_t)h.slot << 32 | h.gen);
    relay_arm(e, r);
}

static void answer_unstored(struct edge *e, struct relay *r, struct slice why)
{
    e->count.registrations_unstored++;
    log_end(e, r, 500, 'R', phase_of(e, r), why);
    relay_answer(e, r, 500, SLICE("Bindings Not Stored"), SLICE("Retry-After: 10\r\n"));
}

void role_store_silent(struct edge *e, struct relay *r)
{
    if (r->answered) {
        role_unlink(e, r);
        blocks_release(&e->blocks, &r->hops);
        r->give_up_at = MONO_NONE;
        return;
    }
    r->give_up_at = mono_add(e->now, store_ends_within);
    answer_unstored(e, r, SLICE("No Answer From The Store"));
}

/* ---- phones over UDP ------------------------------------------------------------------------- */

enum { TOLD_AT_ONCE = 8 };

/* Any worker may have to send there, perhaps by what another process has stored: all of them know
 * who is at an address. The last one that a step has room for tells the rest. */
static void tell_workers(struct edge *e, struct hand head, uint64_t others)
{
    for (unsigned told = 0; others != 0 && told < TOLD_AT_ONCE; told++) {
        uint32_t to = (uint32_t)__builtin_ctzll(others);
        others &= others - 1;
        head.arrived_wall_ns = told + 1 == TOLD_AT_ONCE ? others : 0;
        emit_hand(e, to, head, SLICE_NONE);
    }
}

static struct hand head_of(const struct edge *e, uint8_t listener, const struct addr *a,
                           uint32_t phone)
{
    return (struct hand){.kind = HAND_PHONE,
                         .listener = listener,
                         .transport = TP_UDP,
                         .flow = {.slot = phone, .worker = e->worker},
                         .source = *a};
}

/* A phone has registered from an address that this worker hears. */
void phone_is_at(struct edge *e, uint8_t listener, const struct addr *a, uint32_t phone)
{
    struct hand head = head_of(e, listener, a, phone);
    enum phones_news news = phones_note(e->phones, listener, a, phone, e->now);
    uint64_t all = e->workers < 64 ? (1ULL << e->workers) - 1 : UINT64_MAX;
    head.reserved = (uint16_t)news;
    if (news != PHONES_SAME)
        tell_workers(e, head, all & ~(1ULL << e->worker));
}

void edge_on_phone(struct edge *e, const struct event *ev, unsigned how, uint64_t others)
{
    struct hand head = head_of(e, ev->listener, &ev->source, ev->flow.slot);
    if (how == 0) {
        phone_is_at(e, ev->listener, &ev->source, ev->flow.slot);
        keepalive_phone(e, ev->listener, &ev->source, others);
        return;
    }
    head.reserved = (uint16_t)how;
    phones_copy(e->phones, ev->listener, &ev->source, ev->flow.slot, (enum phones_news)how, e->now);
    tell_workers(e, head, others);
}

static void note_phone(struct edge *e, const struct relay *r, uint32_t phone, uint64_t life)
{
    const struct origin *from = &r->from;
    struct hand head = head_of(e, from->listener, &from->source, phone);
    if (!is_phone_by_udp(from))
        return;
    if (from->flow.worker == e->worker || from->flow.worker >= e->workers) {
        phone_is_at(e, from->listener, &from->source, phone);
        keepalive_phone(e, from->listener, &from->source, life);
        return;
    }
    head.arrived_wall_ns = life;
    /* Who hears it knows whether it is alone there, and says so; until then this much is sure. */
    phones_copy(e->phones, from->listener, &from->source, phone, PHONES_ADDED, e->now);
    phones_unkeep(e->phones, from->listener, &from->source);
    emit_hand(e, from->flow.worker, head, SLICE_NONE);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void answer_stored(struct edge *e, struct relay *r)
{
    struct sip_fault fault;
    if (!relay_index_kept(e, r) || sip_check_request(&e->kept, &e->facts, &fault) != 0) {
        relay_ends_silently(e, r);
        return;
    }
    struct reg_origin origin = reg_origin_of(&r->from, &e->kept);
    struct slice lines = registrar_answer_lines(e->registrar, &e->kept, &e->facts, &origin, e->now,
                                                e->wall_ns, &e->out->scratch);
    note_phone(e, r, phone_of(&e->kept), keepalive_life_by(e, &e->kept, lines));
    shed_done(e, r);
    e->count.registrations++;
    log_end(e, r, 200, '-', 'D', SLICE_NONE);
    relay_answer(e, r, 200, SLICE_NONE, lines);
}

static unsigned count_records(struct slice records)
{
    struct record one;
    unsigned n = 0;
    while (record_next(&records, &one) == 1)
        n++;
    return n;
}

/* The connection may have gone while the store was at work. */
static bool phone_left(struct edge *e, const struct relay *r)
{
    struct flow_id flow = r->from.flow;
    return r->caller_gone ||
           (flow.gen != 0 && flow.worker == e->worker && flow_get(e->flows, flow) == NULL);
}

void edge_on_stored(struct edge *e, const struct event *ev)
{
    handle h = {(uint32_t)(ev->id >> 32), (uint32_t)ev->id};
    struct relay *r = slab_get(&e->relays, h);
    if (r == NULL || !r->storing)
        return;
    struct slice records = blocks_slice(&e->blocks, r->hops);
    bool all = ev->error == 0 && registrar_commit(e->registrar, records, e->now, e->wall_ns) ==
                                     count_records(records);
    role_unlink(e, r);
    blocks_release(&e->blocks, &r->hops);
    r->give_up_at = MONO_NONE;
    bool left = phone_left(e, r);
    r->caller_gone = false;
    if (left)
        role_flow_gone(e, r->from.flow);
    if (!r->answered && all)
        answer_stored(e, r);
    else if (!r->answered && ev->error == 0)
        answer_no_room(e, r);
    else if (!r->answered)
        answer_unstored(e, r, SLICE("Store Failed"));
    else
        relay_arm(e, r);
}

/* At start each worker sees every record. It takes those of its own users, and of all of them who
 * was where over UDP: it may be the one that hears them. */
void edge_on_binding(struct edge *e, const struct event *ev)
{
    struct slice rest = ev->bytes;
    struct record one;
    struct reg_phone phone;
    while (e->registrar != NULL && record_next(&rest, &one) == 1) {
        struct slice aor = slice_take(one.key, slice_find(one.key, '\0'));
        bool mine = registrar_owner(&e->seed, aor, e->workers) == e->worker;
        if (registrar_record_phone(e->registrar, &one, &phone) && phone.listener < LISTENERS_MAX) {
            phones_claim(e->phones, phone.listener, &phone.source, phone.phone);
            if (mine)
                keepalive_claim(e, &phone, aor);
        }
        if (mine)
            (void)registrar_commit(e->registrar, one.whole, e->now, e->wall_ns);
    }
}

/* ---- bindings that end ----------------------------------------------------------------------- */

/* Room for the records of what ended. */
static struct text records_text(struct edge *e)
{
    return scratch_text(e, RECORDS_BYTES);
}

/* Nothing waits for a delete: one that is lost is a binding that comes back at a restart and fails
 * with 430. False when there was nothing. */
static bool store_records(struct edge *e, const struct text *t)
{
    struct slice records = text_slice(t);
    if (records.n == 0)
        return false;
    scratch_keep(e, t);
    emit_store(e, records, 0);
    return true;
}

static bool may_store(const struct edge *e)
{
    const struct arena *a = &e->out->scratch;
    return e->out->count + 4 <= STEP_ACTIONS_MAX && e->out->iov_count + 4 <= STEP_IOV_MAX &&
           a->cap - a->used >= RECORDS_BYTES;
}

void role_flow_gone(struct edge *e, struct flow_id flow)
{
    for (uint32_t slot = e->storing; slot != FLOW_END;) {
        struct relay *r = relay_at(e, slot);
        slot = r->flow_next;
        if (flow_id_equal(r->from.flow, flow))
            r->caller_gone = true;
    }
    if (e->registrar == NULL)
        return;
    struct text t = records_text(e);
    registrar_flow_gone(e->registrar, flow, &t);
    (void)store_records(e, &t);
}

void role_binding_gone(struct edge *e, uint64_t binding)
{
    struct text t = records_text(e);
    registrar_binding_gone(e->registrar, binding, &t);
    (void)store_records(e, &t);
}

void role_expire(struct edge *e)
{
    while (e->registrar != NULL && e->now >= registrar_deadline(e->registrar) && may_store(e)) {
        struct text t = records_text(e);
        registrar_expire(e->registrar, e->now, &t);
        if (!store_records(e, &t))
            return;
    }
}

struct slice role_typed_aor(struct edge *e, struct slice typed, struct text *t)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX + 4];
    struct sip_uri uri;
    struct slice aor = slice_trim(typed);
    if (aor.n > 1 && aor.p[0] == '<' && aor.p[aor.n - 1] == '>')
        aor = slice_of(aor.p + 1, aor.n - 2);
    struct text with_scheme = text_into(bytes, sizeof bytes);
    TEXT_LIT(&with_scheme, "sip:");
    text_put(&with_scheme, aor);
    if (!text_fits(&with_scheme))
        return aor;
    if ((sip_uri_parse(aor, &uri) == 0 || sip_uri_parse(text_slice(&with_scheme), &uri) == 0) &&
        registrar_aor(&e->opts->registrar, &uri, t) == 0)
        return text_slice(t);
    return aor;
}

void edge_unbind(struct edge *e, struct slice argument, struct text *t)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text canonical = text_into(bytes, sizeof bytes);
    struct slice aor = role_typed_aor(e, argument, &canonical);
    unsigned removed = 0;
    for (unsigned n = 1; e->registrar != NULL && n > 0 && may_store(e);) {
        struct text records = records_text(e);
        n = registrar_remove(e->registrar, aor, &records);
        removed += n;
        (void)store_records(e, &records);
    }
    text_put_char(t, '{');
    json_u64(t, "removed", removed);
    json_u64(t, "worker", e->worker);
    TEXT_LIT(t, "}\n");
}
