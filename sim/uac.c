/* SPDX-License-Identifier: Apache-2.0
 *
 * An agent's calls: INVITE, perhaps CANCEL, ACK, something in the middle, BYE by either side.
 *
 *      waits ─▶ inviting ─ 2xx ▶ talks ─ BYE ▶ leaves ─▶ over
 *                  └─ failure, own timeout ─────────────▶ over                                   */
#include <stdlib.h>
#include "sim.h"

static void finish(struct world *w, struct call *c)
{
    if (c->state != CALL_OVER)
        TRACE(w, c->agent, "call %s is over: %u, BYE %u", c->dialog.call_id, c->status,
              c->bye_status);
    c->state = CALL_OVER;
}

static void later(struct world *w, const struct call *c, dur_ns after, enum call_step step)
{
    world_at(w, w->now + after, W_CALL, c->agent, (uint32_t)(c - w->call), step, 0, NULL);
}

/* ---- the first request ------------------------------------------------------------------------
 */

static size_t put_body(struct world *w, const struct call *c, char *dst, size_t cap)
{
    unsigned rnd = RND_AGENT + (unsigned)(c->agent - NODE_AGENT);
    uint64_t manner = draw(w, rnd, 100);
    size_t want = manner < 85 ? 120 + manner : manner < 97 ? 900 + manner * 20 : 9000 + manner * 90;
    size_t n = (size_t)snprintf(dst, cap,
                                "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n"
                                "t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n");
    for (unsigned i = 1; n < want && n + 80 < cap; i++)
        n += (size_t)snprintf(dst + n, cap - n, "a=candidate:%u 1 udp %u 192.0.2.1 %u typ host\r\n",
                              i, 1000000 - i, 4000 + i);
    return n;
}

static void start_call(struct world *w, unsigned call)
{
    static char body[SIP_BODY_BYTES_MAX], rest[SIP_MESSAGE_BYTES_MAX];
    struct call *c = &w->call[call];
    const struct agent *a = &w->agent[c->agent - NODE_AGENT];
    const struct addr *edge = &w->node[NODE_EDGE + a->edge].addr[0];
    enum sip_method method = c->kind == CALL_INVITE    ? SIP_M_INVITE
                             : c->kind == CALL_OPTIONS ? SIP_M_OPTIONS
                                                       : SIP_M_MESSAGE;
    const char *name = w->node[c->agent].name;
    bool compact = call % 4 == 3, sip_body = c->kind == CALL_INVITE;
    struct slice verb = sip_method_name(method);
    char start[128], contact[256] = "", hops[32] = "";
    size_t n = sip_body ? put_body(w, c, body, sizeof body) : 0;
    snprintf(start, sizeof start, "%.*s sip:%s@example.sim SIP/2.0\r\n", SLICE_ARG(verb),
             c->hangs_up ? "i-hang-up" : "you-hang-up");
    c->body_hash = check_hash(slice_of(body, n));
    if (sip_body)
        snprintf(contact, sizeof contact,
                 "%s: <sip:%s@%s%s>\r\n" ODD_HEADER_NAME ": " ODD_HEADER_VALUE "\r\n",
                 compact ? "m" : "Contact", name, a->host, a->tcp ? ";transport=tcp" : "");
    if (call % 5 != 4)
        snprintf(hops, sizeof hops, "Max-Forwards: %u\r\n", call % 7 == 6 ? 100 : 70);
    snprintf(rest, sizeof rest,
             "%s%s: <sip:%s@example.sim>;tag=%s\r\n%s: <sip:service@example.sim>\r\n%s: %s\r\n"
             "CSeq: %u %.*s\r\n%s%s%s: %zu\r\n\r\n%.*s",
             hops, compact ? "f" : "From", name, c->tag, compact ? "t" : "To",
             compact ? "i" : "Call-ID", c->dialog.call_id, c->dialog.cseq, SLICE_ARG(verb), contact,
             sip_body ? "Content-Type: application/sdp\r\n" : "", compact ? "l" : "Content-Length",
             n, (int)n, body);
    c->dialog.invite_cseq = c->dialog.cseq;
    c->state = CALL_INVITING;
    w->sum.calls_tried++;
    c->invite = client_start(w, c->agent, method, sip_body ? FOR_INVITE : FOR_OTHER, edge, a->tcp,
                             start, rest, (int)call);
}

static void begin(struct world *w, unsigned call)
{
    struct call *c = &w->call[call];
    start_call(w, call);
    if (c->kind != CALL_INVITE)
        return;
    if (c->again)
        later(w, c, 30 * NS_MS, STEP_AGAIN);
    if (c->cancel_after != 0)
        later(w, c, c->cancel_after, STEP_CANCEL);
    later(w, c, c->patience, STEP_PATIENCE);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static void hang_up(struct world *w, unsigned call)
{
    struct call *c = &w->call[call];
    c->state = CALL_LEAVES;
    c->is_long = c->is_long && w->phase >= PHASE_FINAL; /* it did not live that long */
    if (dialog_request(w, c->agent, &c->dialog, SIP_M_BYE, FOR_BYE, (int)call) == NONE)
        finish(w, c);
}

/* Another 2xx of the same INVITE: a fork that answered as well. It is acknowledged and ended. */
static void end_fork(struct world *w, struct call *c, const struct sip_msg *m,
                     const struct sip_facts *f)
{
    struct dialog d = c->dialog;
    dialog_from(&d, m, f, true, "");
    dialog_ack(w, c->agent, &d, c->dialog.invite_cseq);
    for (unsigned i = 0; i < c->extras; i++) {
        if (slice_equal(slice_cstr(c->extra_tag[i]), f->to_tag))
            return;
    }
    if (c->extras < 3)
        snprintf(c->extra_tag[c->extras++], 64, "%.*s", SLICE_ARG(f->to_tag));
    (void)dialog_request(w, c->agent, &d, SIP_M_BYE, FOR_NOTHING, (int)(c - w->call));
}

static void on_answer(struct world *w, unsigned call, const struct sip_msg *m,
                      const struct sip_facts *f)
{
    struct call *c = &w->call[call];
    char tag[64];
    if (c->confirmed) {
        snprintf(tag, sizeof tag, ";tag=%.*s", SLICE_ARG(f->to_tag));
        if (strstr(c->dialog.remote, tag) != NULL)
            dialog_ack(w, c->agent, &c->dialog, c->dialog.invite_cseq);
        else
            end_fork(w, c, m, f);
        return;
    }
    c->confirmed = true;
    c->status = m->status;
    w->sum.calls_answered++;
    dialog_from(&c->dialog, m, f, true, "");
    dialog_ack(w, c->agent, &c->dialog, c->dialog.invite_cseq);
    if (c->cancel_after != 0 || c->state == CALL_OVER) { /* it crossed the CANCEL */
        hang_up(w, call);
        return;
    }
    c->state = CALL_TALKS;
    if (c->middle != 0)
        later(w, c, c->talk / 2, STEP_MIDDLE);
    later(w, c, c->hangs_up ? c->talk : 60 * NS_S, STEP_HANG_UP);
}

void uac_response(struct world *w, unsigned client, const struct sip_msg *m,
                  const struct sip_facts *f)
{
    const struct client *t = &w->client[client];
    if (t->call == NONE)
        return;
    struct call *c = &w->call[t->call];
    if (m->status < 200) {
        c->rang = c->rang || (t->purpose == FOR_INVITE && t->rang);
        return;
    }
    switch (t->purpose) {
    case FOR_INVITE:
        if (m->status < 300) {
            on_answer(w, (unsigned)t->call, m, f);
        } else if (c->state == CALL_INVITING) {
            c->status = m->status;
            check_set_up(w, c);
            finish(w, c);
        }
        break;
    case FOR_OTHER:
        if (c->kind != CALL_INVITE) {
            c->status = c->status == 0 ? m->status : c->status;
            finish(w, c);
        }
        break;
    case FOR_REINVITE:
        if (m->status < 300)
            dialog_ack(w, c->agent, &c->dialog, f->cseq);
        break;
    case FOR_BYE:
        c->bye_status = c->bye_status == 0 ? m->status : c->bye_status;
        finish(w, c);
        break;
    default:
        break;
    }
}

void uac_timeout(struct world *w, unsigned client)
{
    const struct client *t = &w->client[client];
    if (t->call == NONE)
        return;
    struct call *c = &w->call[t->call];
    if (t->purpose == FOR_INVITE || t->purpose == FOR_BYE ||
        (t->purpose == FOR_OTHER && c->kind != CALL_INVITE))
        finish(w, c);
    if (w->plan.clean && !c->confirmed && t->purpose != FOR_CANCEL)
        world_fail(w, "answers: %s got none to %s though nothing was lost", w->node[t->node].name,
                   t->branch);
}

/* ---- time -------------------------------------------------------------------------------------
 */

static void cancel(struct world *w, struct call *c)
{
    if (c->state != CALL_INVITING || c->invite == NONE)
        return;
    struct client *t = &w->client[c->invite];
    if (!t->used || t->call != c - w->call || t->status != 0 || t->cancel != NONE)
        return;
    if (!t->provisional) /* RFC 3261 9.1: not before a provisional */
        later(w, c, 200 * NS_MS, STEP_CANCEL);
    else
        (void)client_cancel(w, (unsigned)c->invite);
}

static void lose_patience(struct world *w, struct call *c)
{
    if (c->state != CALL_INVITING)
        return;
    const struct client *t = &w->client[c->invite];
    if (w->plan.clean)
        world_fail(w, "answers: call %s has no final answer after %llu s though nothing was lost",
                   c->dialog.call_id, c->patience / NS_S);
    if (c->cancel_after == 0 && t->cancel == NONE) {
        c->cancel_after = c->patience;
        cancel(w, c);
        later(w, c, 70 * NS_S, STEP_PATIENCE);
        return;
    }
    finish(w, c);
}

void uac_step(struct world *w, unsigned call, enum call_step step)
{
    struct call *c = &w->call[call];
    switch (step) {
    case STEP_START:
        begin(w, call);
        break;
    case STEP_CANCEL:
        cancel(w, c);
        break;
    case STEP_AGAIN:
        if (c->state == CALL_INVITING && !w->agent[c->agent - NODE_AGENT].tcp)
            client_resend(w, (unsigned)c->invite);
        break;
    case STEP_MIDDLE:
        if (c->state == CALL_TALKS && c->middle == 1)
            (void)dialog_request(w, c->agent, &c->dialog, SIP_M_INFO,
                                 c->must_succeed && c->hangs_up && c->talk > 2 * NS_S ? FOR_SURE
                                                                                      : FOR_OTHER,
                                 (int)call);
        else if (c->state == CALL_TALKS)
            (void)dialog_request(w, c->agent, &c->dialog, SIP_M_INVITE, FOR_REINVITE, (int)call);
        break;
    case STEP_HANG_UP:
        if (c->state == CALL_TALKS)
            hang_up(w, call);
        break;
    default:
        lose_patience(w, c);
        break;
    }
}

/* ---- requests from the other side -------------------------------------------------------------
 */

void uac_request(struct world *w, unsigned node, const struct sip_msg *m, const struct sip_facts *f,
                 const struct addr *source, struct conn_ref conn)
{
    char buf[TEXT_MAX];
    struct text t = text_into(buf, sizeof buf);
    struct sip_reply r = {.status = 481};
    if (m->method == SIP_M_ACK)
        return;
    for (uint32_t i = 0; i < w->call_count; i++) {
        struct call *c = &w->call[i];
        if (c->agent != node || !slice_equal(slice_cstr(c->dialog.call_id), f->call_id) ||
            !slice_equal(slice_cstr(c->tag), f->to_tag))
            continue;
        r.status = 200;
        if (m->method == SIP_M_BYE) {
            c->bye_came = true;
            if (c->state == CALL_TALKS)
                finish(w, c);
        }
    }
    if (r.status == 481 && !w->agent[node - NODE_AGENT].hostile)
        world_fail(w, "delivery: %s gets a request of somebody else's dialog (%.*s)",
                   w->node[node].name, SLICE_ARG(f->call_id));
    if (sip_write_reply(&t, m, &r) == 0)
        endpoint_send(w, node, source, false, conn, buf, text_slice(&t).n);
}
