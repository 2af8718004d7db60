/* SPDX-License-Identifier: Apache-2.0
 *
 * Overload control with neighbours (RFC 7339), by Via parameters:
 *
 *      we ask      Via: …;branch=…;oc;oc-algo="loss"           on what goes to a pool's target
 *      it answers  Via: …;oc=20;oc-validity=500;oc-seq=1.282   send a fifth less for half a second
 *      and the other way round, for who asks us so from inside
 *
 * Nobody outside is told anything: to send less on request is not what an attacker does. */
#include "edge/edge_int.h"

/* ---- what targets say -------------------------------------------------------------------------
 */

void put_oc(struct text *t)
{
    TEXT_LIT(t, ";oc;oc-algo=\"loss\"");
}

/* "1282321615.782" in thousandths; 0 when it is nothing like that. */
static uint64_t seq_of(struct slice s)
{
    uint64_t whole = 0, part = 0;
    size_t dot = slice_find(s, '.');
    struct slice digits = slice_take(slice_drop(s, dot + (dot < s.n)), 3);
    if (text_parse_u64(slice_take(s, dot), UINT64_MAX / 2000, &whole) != 0 ||
        (digits.n > 0 && text_parse_u64(digits, 999, &part) != 0))
        return 0;
    for (size_t n = digits.n; n < 3; n++)
        part *= 10;
    return whole * 1000 + part;
}

/* Is it the target that speaks? Our Via goes down to the callee, who may write into it what he
 * likes (a target that does not know these parameters passes them up as they are), and knows our
 * branch. What no proxy passes on is the target's own: 100 (RFC 3261 16.7 step 5), 503 (step 6),
 * the answer of a registrar, and that to a probe. */
static bool is_its_own(const struct edge *e, const struct try *t, const struct event *ev)
{
    bool hop_by_hop = e->msg.status == 100 || e->msg.status == 503 || t->method == SIP_M_REGISTER ||
                      t->kind == TRY_PROBE;
    if (t->hop.transport != TP_UDP)
        return hop_by_hop && flow_id_equal(ev->flow, t->hop.flow);
    return hop_by_hop && ev->listener == t->hop.listener && ev->transport == TP_UDP &&
           addr_same_host(&ev->source, &t->hop.addr);
}

/* A place that a reload gave to another target says nothing of that one. */
void oc_forget(struct edge *e)
{
    memset(e->overload, 0, target_slots(&e->limits) * sizeof *e->overload);
}

/* The top Via of e->msg, an answer to that try, is what we asked by. */
void oc_heard(struct edge *e, const struct try *t, const struct event *ev)
{
    struct slice params = e->facts.via.params, value, other;
    uint64_t percent, validity_ms = 500, seq = 0;
    mono_ns heard;
    if (!e->opts->overload || !pool_last_heard(e->pools, t->hop.target, &heard) ||
        !sip_param(params, SLICE("oc"), &value) || text_parse_u64(value, 100, &percent) != 0 ||
        !is_its_own(e, t, ev))
        return;
    if (sip_param(params, SLICE("oc-validity"), &other) &&
        text_parse_u64(other, UINT32_MAX, &validity_ms) != 0)
        return;
    if (sip_param(params, SLICE("oc-seq"), &other))
        seq = seq_of(other);
    e->count.overloads_heard++;
    overload_heard(&e->overload[t->hop.target.slot], (uint32_t)percent, (uint32_t)validity_ms, seq,
                   e->now);
}

/* May this relay's request, which e->edits are made on, go to that target, or is it one of those
 * that it wants less of? */
bool oc_admits(struct edge *e, const struct relay *r, handle target)
{
    if (!e->opts->overload)
        return true;
    MUST(target.slot < target_slots(&e->limits));
    struct overload *o = &e->overload[target.slot];
    enum guard_class class = CLASS_CALL;
    if (r->in_dialog)
        class = CLASS_IN_DIALOG;
    else if (r->method == SIP_M_REGISTER)
        class = CLASS_REGISTER;
    else if (is_emergency(e, e->edits.m))
        class = CLASS_EMERGENCY;
    if (r->method == SIP_M_BYE || r->method == SIP_M_PRACK)
        class = CLASS_FINISHES;
    if (overload_admits(o, class, rng_u64(&e->rng), e->now))
        return true;
    e->count.requests_held_back++;
    return false;
}

/* ---- what we say ------------------------------------------------------------------------------
 */

/* The first Via line's value of a message of ours; empty when there is none. */
static struct slice top_via(struct slice bytes)
{
    enum { LINES_MAX = 64 };
    for (unsigned i = 0; i < LINES_MAX && bytes.n > 2; i++) {
        size_t end = slice_find(bytes, '\n');
        struct slice line = slice_take(bytes, end);
        size_t colon = slice_find(line, ':');
        struct slice name = slice_trim(slice_take(line, colon));
        if (i > 0 &&
            (slice_equal_nocase(name, SLICE("via")) || slice_equal_nocase(name, SLICE("v")))) {
            struct slice value = slice_drop(line, colon + 1);
            return slice_trim(slice_take(value, slice_find(value, ',')));
        }
        bytes = slice_drop(bytes, end + 1);
    }
    return SLICE_NONE;
}

/* Where ";oc" stands alone in a Via value, with nothing behind it; p NULL when it does not. */
static struct slice oc_asked(struct slice via)
{
    for (size_t i = 0; i + 3 <= via.n; i++) {
        struct slice at = slice_drop(via, i);
        bool ends = at.n == 3 || at.p[3] == ';' || at.p[3] == ' ';
        if (ends && slice_equal_nocase(slice_take(at, 3), SLICE(";oc")))
            return slice_take(at, 3);
    }
    return SLICE_NONE;
}

/* An answer of ours to `to` as it shall leave: with what it shall send less, if that is anything
 * and it has asked. RFC 7339 4.2, 5.2. */
struct slice oc_answer(struct edge *e, const struct origin *to, struct slice bytes)
{
    uint64_t seq;
    uint32_t percent = guard_loss_percent(e->guard, &seq);
    if (percent == 0 || !e->opts->overload || e->opts->guard.report_only || to->side != SIDE_INSIDE)
        return bytes;
    struct slice asked = oc_asked(top_via(bytes));
    if (asked.p == NULL)
        return bytes;
    size_t before = (size_t)(asked.p - bytes.p);
    struct text t = scratch_text(e, bytes.n + 96);
    text_put(&t, slice_take(bytes, before));
    TEXT_LIT(&t, ";oc=");
    text_put_u64(&t, percent);
    TEXT_LIT(&t, ";oc-validity=500;oc-seq=");
    text_put_u64(&t, seq / 1000);
    text_put_char(&t, '.');
    text_put_char(&t, (char)('0' + seq % 1000 / 100));
    text_put_char(&t, (char)('0' + seq % 100 / 10));
    text_put_char(&t, (char)('0' + seq % 10));
    text_put(&t, slice_drop(bytes, before + asked.n));
    if (!text_fits(&t))
        return bytes;
    scratch_keep(e, &t);
    return text_slice(&t);
}
