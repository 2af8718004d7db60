/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers of our own, and the line in the log that every transaction leaves behind. */
#include "edge/edge_int.h"

enum { ANSWER_BYTES_MAX = SIP_HEAD_BYTES_MAX + 1024, TAG_BYTES = 13 };

/* The same request always gets the same To tag (RFC 3261 8.2.7), without anything being kept. */
static struct slice stable_tag(const struct edge *e, const struct sip_msg *m, char tag[TAG_BYTES])
{
    struct slice parts[] = {sip_header_value(m, SIP_H_CALL_ID), sip_header_value(m, SIP_H_FROM)};
    uint64_t h = siphash_parts(&e->seed, parts, 2);
    char text[11];
    text_base64url_encode(&h, 8, text);
    tag[0] = 'w';
    tag[1] = '.';
    memcpy(tag + 2, text, 11);
    return slice_of(tag, TAG_BYTES);
}

static void answer_message(struct edge *e, const struct sip_msg *m, unsigned skip_vias,
                           const struct origin *to, const struct sip_fault *fault,
                           struct slice extra)
{
    char tag[TAG_BYTES];
    struct sip_reply reply = {.status = fault->status,
                              .reason = fault->reason,
                              .to_tag = stable_tag(e, m, tag),
                              .extra = extra,
                              .skip_vias = skip_vias,
                              .received = &to->source};
    struct text t = scratch_text(e, ANSWER_BYTES_MAX);
    if (sip_write_reply(&t, m, &reply) != 0)
        return;
    scratch_keep(e, &t);
    emit_to(e, to, oc_answer(e, to, text_slice(&t)));
}

/* Is this the ACK of a refusal that left no transaction behind? */
bool acks_our_refusal(const struct edge *e)
{
    char tag[TAG_BYTES];
    return e->facts.to_tag.n == TAG_BYTES && slice_starts_with(e->facts.to_tag, SLICE("w.")) &&
           slice_equal(e->facts.to_tag, stable_tag(e, &e->msg, tag));
}

/* The header line, in scratch. */
struct slice retry_after(struct edge *e, uint64_t seconds)
{
    struct text t = scratch_text(e, 48);
    TEXT_LIT(&t, "Retry-After: ");
    text_put_u64(&t, seconds);
    TEXT_LIT(&t, "\r\n");
    scratch_keep(e, &t);
    return text_slice(&t);
}

/* Answers e->msg without a transaction: a repeat of the request gets the same answer again. */
void answer_stateless(struct edge *e, const struct origin *to, const struct sip_fault *fault,
                      struct slice extra)
{
    answer_message(e, &e->msg, 0, to, fault, extra);
}

/* The same for the request that e->edits are made on: e->msg may be a response by now, or gone. */
void answer_edited(struct edge *e, const struct origin *to, const struct sip_fault *fault,
                   struct slice extra)
{
    answer_message(e, e->edits.m, e->edits_drop_vias, to, fault, extra);
}

/* Sends a response up and lets the server transaction keep what it may be asked for again. */
void relay_send_up(struct edge *e, struct relay *r, int status, struct slice bytes)
{
    unsigned todo = txn_reply(&r->server, status, &e->opts->timers, e->now);
    if (!(todo & TXN_DO_SEND))
        return;
    bytes = oc_answer(e, &r->from, bytes);
    emit_to(e, &r->from, bytes);
    r->trying_due = false;
    blocks_release(&e->blocks, &r->response);
    bool may_repeat = !r->server.reliable && r->server.state != TXN_ACCEPTED && status > 100;
    /* Without room a repeat of the request is absorbed in silence: the answer itself has left. */
    if (may_repeat && blocks_keep(&e->blocks, bytes, &r->response) != 0)
        r->response = BLOCK_NONE;
    if (status >= 200 && !r->answered) {
        r->answered = true;
        e->relays_open--;
        relay_leave_flow(e, r);
        if (!r->storing)
            blocks_release(&e->blocks, &r->hops);
        if (r->forks)
            blocks_release(&e->blocks, &r->fork.best);
        relay_arm_exactly(e, r);
        return;
    }
    relay_arm(e, r);
}

/* The last response again, if it was kept. Returns whether it was. */
bool relay_resend(struct edge *e, struct relay *r)
{
    struct slice again = scratch_copy(e, blocks_slice(&e->blocks, r->response));
    if (again.n == 0)
        return false;
    emit_to(e, &r->from, again);
    e->count.resends++;
    return true;
}

/* Nothing can be said any more (what was kept is gone, or there is no room to write): the asker's
 * own timers tell it. */
void relay_ends_silently(struct edge *e, struct relay *r)
{
    log_end(e, r, 0, 'R', phase_of(e, r), SLICE("No Answer Could Be Written"));
    if (!r->answered)
        e->relays_open--;
    r->answered = true;
    relay_leave_flow(e, r);
    r->server.state = TXN_TERMINATED;
    r->server.retransmit_at = MONO_NONE;
    r->server.timeout_at = MONO_NONE;
    relay_arm(e, r);
}

/* A response of our own, built from the kept request. */
void relay_answer(struct edge *e, struct relay *r, int status, struct slice reason,
                  struct slice extra)
{
    if (!relay_index_kept(e, r)) {
        relay_ends_silently(e, r);
        return;
    }
    char tag[TAG_BYTES];
    struct sip_reply reply = {.status = status,
                              .reason = reason,
                              .to_tag = status > 100 ? stable_tag(e, &e->kept, tag) : SLICE_NONE,
                              .extra = extra,
                              .skip_vias = r->own_vias};
    struct text t = scratch_text(e, ANSWER_BYTES_MAX);
    if (sip_write_reply(&t, &e->kept, &reply) != 0) {
        relay_ends_silently(e, r);
        return;
    }
    scratch_keep(e, &t);
    relay_send_up(e, r, status, text_slice(&t));
    relay_settle(e, r);
}

/* 100 from the request at hand: a repeat of the request brings what the 100 is made of. */
void relay_answer_100(struct edge *e, struct relay *r)
{
    struct sip_reply reply = {.status = 100, .received = &r->from.source};
    struct text t = scratch_text(e, ANSWER_BYTES_MAX);
    if (sip_write_reply(&t, &e->msg, &reply) != 0)
        return;
    scratch_keep(e, &t);
    r->trying_due = false;
    unsigned todo = txn_reply(&r->server, 100, &e->opts->timers, e->now);
    if (todo & TXN_DO_SEND)
        emit_to(e, &r->from, text_slice(&t));
}

/* ---- log ---------------------------------------------------------------------------------------
 */

static void log_pack(struct log_record *rec, size_t *used, enum log_text which, struct slice s)
{
    struct slice cut = slice_take(s, LOG_TEXT_BYTES_MAX);
    rec->len[which] = (uint16_t)cut.n;
    if (cut.n > 0)
        memcpy(rec->text + *used, cut.p, cut.n);
    *used += cut.n;
}

/* Fills what a message tells about itself. Returns the record's size. */
static size_t log_fill(struct edge *e, struct log_record *rec, const struct origin *from,
                       const struct sip_msg *m, const struct sip_facts *f, struct slice pool,
                       struct slice reason)
{
    memset(rec, 0, sizeof *rec);
    rec->wall_ns = e->wall_ns;
    rec->arrived = e->now;
    rec->first_us = UINT32_MAX;
    rec->final_us = UINT32_MAX;
    rec->method = m->method;
    rec->transport_in = from->transport;
    rec->side_in = from->side;
    rec->transport_out = 255;
    rec->side_out = 255;
    rec->worker = (uint8_t)e->worker;
    rec->source = from->source;
    size_t used = 0;
    log_pack(rec, &used, LOG_METHOD_NAME,
             m->method == SIP_M_OTHER ? sip_slice(m, m->method_name) : SLICE_NONE);
    log_pack(rec, &used, LOG_CALL_ID, sip_header_value(m, SIP_H_CALL_ID));
    log_pack(rec, &used, LOG_CSEQ, sip_header_value(m, SIP_H_CSEQ));
    log_pack(rec, &used, LOG_RURI, sip_slice(m, m->uri));
    log_pack(rec, &used, LOG_FROM, f != NULL ? f->from_uri : SLICE_NONE);
    log_pack(rec, &used, LOG_TO, f != NULL ? f->to_uri : SLICE_NONE);
    log_pack(rec, &used, LOG_POOL, pool);
    log_pack(rec, &used, LOG_REASON, reason);
    return sizeof *rec + used;
}

/* Writes down at arrival what the line will say at the end: the message will be gone by then. */
void log_begin(struct edge *e, struct relay *r)
{
    if (!e->opts->log_transactions)
        return;
    _Alignas(8) char buf[LOG_RECORD_BYTES_MAX];
    struct log_record *rec = (struct log_record *)(void *)buf;
    struct slice pool = r->pool != NO_POOL ? pools_opts(e->pools, r->pool)->name : SLICE_NONE;
    size_t n = log_fill(e, rec, &r->from, &e->msg, &e->facts, pool, SLICE_NONE);
    rec->flags = (uint8_t)((r->in_dialog ? LOG_IN_DIALOG : 0) | (r->by_token ? LOG_FROM_TOKEN : 0));
    if (blocks_keep(&e->blocks, slice_of(buf, n), &r->log) != 0)
        e->count.log_dropped++;
}

static void log_emit(struct edge *e, const char *record, size_t n)
{
    char *copy = arena_take(&e->out->scratch, n, 8);
    if (copy == NULL) {
        e->count.log_dropped++;
        return;
    }
    memcpy(copy, record, n);
    struct action *a = emit(e, ACT_LOG);
    a->text = slice_of(copy, n);
    e->count.log_records++;
}

/* Who was the relay waiting for? */
char phase_of(const struct edge *e, const struct relay *r)
{
    if (r->answered)
        return 'D';
    if (r->ringing)
        return 'P';
    if (r->resolving || r->first_try == NO_TRY)
        return 'Q';
    const struct try *t = try_at(e, r->first_try);
    const struct flow *w = t->on_flow ? flow_get(e->flows, t->hop.flow) : NULL;
    return w != NULL && w->connecting ? 'C' : 'H';
}

/* Ends the line of a relay; the first call wins. */
void log_end(struct edge *e, struct relay *r, int status, char who, char phase, struct slice reason)
{
    struct slice kept = blocks_slice(&e->blocks, r->log);
    if (kept.n == 0)
        return;
    _Alignas(8) char buf[LOG_RECORD_BYTES_MAX];
    memcpy(buf, kept.p, kept.n);
    struct log_record *rec = (struct log_record *)(void *)buf;
    size_t used = kept.n - sizeof *rec;
    rec->first_us = r->first_us;
    rec->final_us = status != 0 ? since_us(e->now, r->arrived) : UINT32_MAX;
    rec->queue_us = r->queue_us;
    rec->status = (uint16_t)status;
    rec->target_status = r->target_status;
    rec->tries = r->tries;
    rec->resent_in = r->resent_in;
    rec->resent_out = r->resent_out;
    rec->end_who = who;
    rec->end_phase = phase;
    rec->dest = r->dest;
    if (r->dest.family != 0) {
        rec->transport_out = r->transport_out;
        rec->side_out = r->side_out;
    }
    log_pack(rec, &used, LOG_REASON, reason);
    log_emit(e, buf, sizeof *rec + used);
    blocks_release(&e->blocks, &r->log);
}

static void log_at_once(struct edge *e, const struct origin *from, const struct sip_facts *f,
                        int status, struct slice reason, const char end[2])
{
    if (!e->opts->log_transactions)
        return;
    _Alignas(8) char buf[LOG_RECORD_BYTES_MAX];
    struct log_record *rec = (struct log_record *)(void *)buf;
    size_t n = log_fill(e, rec, from, &e->msg, f, SLICE_NONE, reason);
    rec->status = (uint16_t)status;
    rec->final_us = 0;
    rec->end_who = end[0];
    rec->end_phase = end[1];
    log_emit(e, buf, n);
}

/* The line of a request that never became a relay. */
void log_refused(struct edge *e, const struct origin *from, const struct sip_fault *fault, char who)
{
    log_at_once(e, from, NULL, fault->status, fault->reason, (const char[2]){who, 'R'});
}

/* The same of one that was understood, and answered without a relay. */
void log_answered(struct edge *e, const struct origin *from, int status, struct slice reason,
                  char who)
{
    log_at_once(e, from, &e->facts, status, reason, (const char[2]){who, 'D'});
}
