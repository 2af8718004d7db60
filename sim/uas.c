/* SPDX-License-Identifier: Apache-2.0
 *
 * A server: answers INVITE with 100, 180 and 200 or with a failure, at times that it draws, sends
 * finals again until they are acknowledged, and answers what comes within its dialogs.
 *
 *      INVITE ─▶ (100) ─▶ 180 ─▶ 200 ─ again until ACK ─▶ dialog ─▶ BYE from either side
 *                   └──────┴──▶ 4xx-6xx, again until ACK         CANCEL before: 487 */
#include <stdlib.h>
#include "sim.h"

static const dur_ns t1 = 500 * NS_MS, t2 = 4 * NS_S;

static uint64_t dialog_key(struct slice call_id, struct slice local_tag, struct slice remote_tag)
{
    static const struct hash_seed seed = {7, 8};
    struct slice parts[3] = {call_id, local_tag, remote_tag};
    return siphash_parts(&seed, parts, 3);
}

static void release(struct serving *s)
{
    free(s->request);
    free(s->last);
    *s = (struct serving){.gen = s->gen + 1};
}

static void arm(struct world *w, struct serving *s)
{
    mono_ns at = mono_min(mono_min(s->ring_at, s->final_at), mono_min(s->resend_at, s->give_up_at));
    at = mono_min(mono_min(at, s->info_at), mono_min(s->hang_up_at, s->forget_at));
    if (at != MONO_NONE)
        world_at(w, at, W_SERVING, s->node, (uint32_t)(s - w->serving), 0, s->gen, NULL);
}

static struct serving *find(struct world *w, unsigned node, uint64_t key)
{
    for (uint32_t i = 0; i < w->servings; i++) {
        struct serving *s = &w->serving[i];
        if (s->used && s->node == node && s->key == key)
            return s;
    }
    return NULL;
}

static struct serving *find_dialog(struct world *w, unsigned node, const struct sip_facts *f)
{
    uint64_t key = dialog_key(f->call_id, f->to_tag, f->from_tag);
    for (uint32_t i = 0; i < w->servings; i++) {
        struct serving *s = &w->serving[i];
        if (s->used && s->node == node && s->invite && !s->within && s->dialog_key == key)
            return s;
    }
    return NULL;
}

static struct serving *take(struct world *w, unsigned node)
{
    for (uint32_t i = 0; i < SERVINGS_MAX; i++) {
        struct serving *s = &w->serving[i];
        if (!s->used) {
            w->servings = i >= w->servings ? i + 1 : w->servings;
            *s = (struct serving){.used = true, .gen = s->gen, .node = (uint16_t)node};
            s->ring_at = s->final_at = s->resend_at = MONO_NONE;
            s->give_up_at = s->hang_up_at = s->forget_at = s->info_at = MONO_NONE;
            return s;
        }
    }
    world_fail(w, "the simulated servers ran out of transactions");
    return NULL;
}

/* RFC 3261 18.2.2, RFC 3581 4. */
static struct addr answer_to(struct world *w, const struct serving *s, const struct sip_facts *f)
{
    struct addr a = s->source;
    if (node_is_server(s->node) && w->server[s->node - NODE_SERVER].uses_sent_by &&
        s->conn.i == NONE &&
        addr_parse_host(f->via.host, f->via.port != 0 ? f->via.port : SIP_PORT, &a) != 0)
        return s->source;
    return a;
}

static void send_last(struct world *w, struct serving *s)
{
    if (s->last != NULL)
        endpoint_send(w, s->node, &s->last->dst, false, s->conn, s->last->bytes, s->last->n);
}

static size_t put_extra(struct world *w, const struct serving *s, const struct sip_msg *m,
                        uint16_t status, char *dst, size_t cap)
{
    char host[64];
    size_t n = 0;
    dst[0] = '\0';
    if (s->invite && status > 100 && status < 300) {
        struct sip_values v = sip_values(m, SIP_H_RECORD_ROUTE);
        while (sip_next_value(&v))
            n += (size_t)snprintf(dst + n, cap - n, "Record-Route: %.*s\r\n",
                                  SLICE_ARG(sip_slice(m, v.value)));
        endpoint_hosts(w, s->node, host, sizeof host);
        const char *name = w->node[s->node].name;
        bool named = node_is_server(s->node) && w->server[s->node - NODE_SERVER].has_name;
        n += (size_t)snprintf(dst + n, cap - n, "Contact: <sip:%s@%s%s%s>\r\n", name,
                              named ? name : host, named ? ".sim" : "",
                              endpoint_is_tcp(w, s->node) ? ";transport=tcp" : "");
    }
    if (status == 503 && s->retry_after > 0)
        n += (size_t)snprintf(dst + n, cap - n, "Retry-After: %u\r\n", s->retry_after);
    MUST(n < cap);
    return n;
}

/* Writes, remembers and sends an answer. */
static void answer(struct world *w, struct serving *s, uint16_t status)
{
    static struct sip_msg m;
    static struct sip_facts f;
    char buf[2 * TEXT_MAX], extra[TEXT_MAX];
    struct sip_fault fault;
    struct text t = text_into(buf, sizeof buf);
    if (sip_index(&m, s->request->bytes, s->request->n, true, &fault) != 0 ||
        sip_check_request(&m, &f, &fault) != 0)
        return;
    size_t n = put_extra(w, s, &m, status, extra, sizeof extra);
    struct sip_reply r = {
        .status = status,
        .to_tag = status > 100 ? slice_cstr(s->tag) : SLICE_NONE,
        .extra = slice_of(extra, n),
    };
    if (sip_write_reply(&t, &m, &r) != 0) {
        world_fail(w, "%s could not write an answer", w->node[s->node].name);
        return;
    }
    struct addr to = answer_to(w, s, &f);
    free(s->last);
    s->last = packet_new(&w->node[s->node].addr[0], &to, buf, text_slice(&t).n);
    s->status = status;
    send_last(w, s);
}

/* As a forking proxy downstream would pass them on: two 2xx of two dialogs. */
static void answer_as_fork(struct world *w, struct serving *s)
{
    char tag[sizeof s->tag];
    memcpy(tag, s->tag, sizeof tag);
    snprintf(s->tag, sizeof s->tag, "f%u", ++w->words);
    answer(w, s, 200);
    memcpy(s->tag, tag, sizeof tag);
}

static void answer_finally(struct world *w, struct serving *s, uint16_t status)
{
    s->ring_at = s->final_at = MONO_NONE;
    if (s->forks && status == 200)
        answer_as_fork(w, s);
    answer(w, s, status);
    s->accepted = s->invite && status < 300;
    if (!s->invite) {
        s->forget_at = w->now + 64 * t1;
    } else {
        s->interval = t1;
        /* 13.3.1.4: a 2xx is sent again end to end, whatever carries it. */
        s->resend_at = s->conn.i == NONE || s->accepted ? w->now + t1 : MONO_NONE;
        s->give_up_at = w->now + 64 * t1;
    }
    arm(w, s);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static void draw_invite(struct world *w, struct serving *s)
{
    /* The first three are the server's own trouble; the others are answers. */
    static const uint16_t failures[] = {503, 503, 408, 500, 480};
    static const uint16_t refusals[] = {486, 404, 603, 302};
    unsigned rnd = RND_SERVER + (unsigned)(s->node - NODE_SERVER);
    const struct server *srv = &w->server[s->node - NODE_SERVER];
    uint64_t manner = draw(w, rnd, 1000);
    bool ring = draw_chance(w, rnd, 900), fails = draw_chance(w, rnd, srv->fails_permille);
    dur_ns ring_after = draw_between(w, rnd, 5 * NS_MS, 800 * NS_MS);
    dur_ns final_after = draw_between(w, rnd, 50 * NS_MS, 4 * NS_S);
    uint64_t which = draw(w, rnd, 60);
    s->forks = draw_chance(w, rnd, 40) && w->phase < PHASE_HEALED;
    s->final = 200;
    if (w->phase < PHASE_HEALED && fails) {
        s->final = failures[which % (w->plan.clean ? 3 : 5)];
        s->retry_after = which % 3 == 0 ? (uint32_t)(1 + which % 4) : 0;
        s->final_at = w->now + ring_after;
        /* Some fail after they rang: nobody else may ring then. */
        if (which % 2 == 0 && !w->plan.clean) {
            s->ring_at = w->now + ring_after;
            s->final_at = s->ring_at + final_after;
        }
        return;
    }
    if (w->phase < PHASE_HEALED && manner < 80)
        s->final = refusals[which % 4];
    bool forever = w->phase < PHASE_HEALED && manner >= 960;
    s->ring_at = ring || forever ? w->now + ring_after : MONO_NONE;
    s->final_at = forever ? MONO_NONE : w->now + ring_after + final_after;
}

static void on_reinvite(struct world *w, struct serving *s, const struct sip_facts *f)
{
    struct serving *dialog = find_dialog(w, s->node, f);
    bool known = dialog != NULL && dialog->accepted && !dialog->ended;
    s->within = true;
    s->dialog_key = dialog_key(f->call_id, f->to_tag, f->from_tag);
    answer_finally(w, s, known ? 200 : 481);
}

static void on_invite(struct world *w, struct serving *s, const struct sip_msg *m,
                      const struct sip_facts *f)
{
    s->invite = true;
    s->cseq = f->cseq;
    s->forget_at = w->now + 300 * NS_S;
    s->sure = w->phase == PHASE_FINAL;
    if (f->to_tag.n > 0) {
        on_reinvite(w, s, f);
        return;
    }
    dialog_from(&s->dialog, m, f, false, s->tag);
    s->dialog.cseq = 100;
    s->hangs_up = slice_equal(f->uri.user, SLICE("you-hang-up"));
    s->dialog_key = dialog_key(f->call_id, slice_cstr(s->tag), f->from_tag);
    draw_invite(w, s);
    if (!w->server[s->node - NODE_SERVER].skips_trying)
        answer(w, s, 100);
    arm(w, s);
}

static void end_repeats(struct world *w, struct serving *s)
{
    s->acked = true;
    s->resend_at = s->give_up_at = MONO_NONE;
    if (!s->accepted)
        s->forget_at = w->now + 40 * NS_S;
    arm(w, s);
}

/* Of a failure: by the INVITE's branch. Of a 2xx: by the dialog and the CSeq number. */
static void on_ack(struct world *w, unsigned node, const struct sip_facts *f)
{
    struct serving *failed = find(w, node, endpoint_key(f, SIP_M_INVITE));
    uint64_t key = dialog_key(f->call_id, f->to_tag, f->from_tag);
    if (failed != NULL && failed->status >= 300)
        end_repeats(w, failed);
    for (uint32_t i = 0; i < w->servings; i++) {
        struct serving *s = &w->serving[i];
        if (s->used && s->node == node && s->accepted && s->dialog_key == key && s->cseq == f->cseq)
            end_repeats(w, s);
    }
}

static void on_cancel(struct world *w, struct serving *s, const struct sip_facts *f)
{
    struct serving *invite = find(w, s->node, endpoint_key(f, SIP_M_INVITE));
    answer_finally(w, s, invite != NULL ? 200 : 481);
    if (invite != NULL && invite->status < 200) {
        invite->cancelled = true;
        answer_finally(w, invite, 487);
    }
}

static void on_other(struct world *w, struct serving *s, const struct sip_facts *f)
{
    struct serving *dialog = f->to_tag.n > 0 ? find_dialog(w, s->node, f) : NULL;
    bool known = dialog != NULL && dialog->accepted && !dialog->ended;
    uint16_t status = known || f->to_tag.n == 0 ? 200 : 481;
    if (f->method == SIP_M_BYE) {
        status = known ? 200 : 481;
        if (known) {
            dialog->ended = true;
            dialog->resend_at = dialog->give_up_at = MONO_NONE;
            dialog->hang_up_at = dialog->info_at = MONO_NONE;
        }
    } else if (f->method == SIP_M_OPTIONS && w->server[s->node - NODE_SERVER].rejects_options) {
        status = 501;
    }
    answer_finally(w, s, status);
}

void uas_request(struct world *w, unsigned node, const struct sip_msg *m, const struct sip_facts *f,
                 const struct addr *source, struct conn_ref conn)
{
    if (w->server[node - NODE_SERVER].silent)
        return;
    if (m->method == SIP_M_ACK) {
        on_ack(w, node, f);
        return;
    }
    uint64_t key = endpoint_key(f, (enum sip_method)m->method);
    struct serving *s = find(w, node, key);
    if (s != NULL) {
        send_last(w, s);
        return;
    }
    s = take(w, node);
    if (s == NULL)
        return;
    s->key = key;
    s->source = *source;
    s->conn = conn;
    s->request = packet_new(source, &w->node[node].addr[0], m->p, m->n);
    snprintf(s->tag, sizeof s->tag, "s%u.%u", node, ++w->words);
    if (m->method == SIP_M_INVITE)
        on_invite(w, s, m, f);
    else if (m->method == SIP_M_CANCEL)
        on_cancel(w, s, f);
    else
        on_other(w, s, f);
    if (m->method == SIP_M_OPTIONS) /* answered alike each time: nothing to remember */
        release(s);
}

/* ---- time -------------------------------------------------------------------------------------
 */

static void hang_up(struct world *w, struct serving *s)
{
    s->hang_up_at = s->info_at = s->resend_at = s->give_up_at = MONO_NONE;
    s->ended = true;
    (void)dialog_request(w, s->node, &s->dialog, SIP_M_BYE, FOR_BYE, NONE);
}

void uas_timer(struct world *w, unsigned serving, uint64_t gen)
{
    struct serving *s = &w->serving[serving];
    if (!s->used || s->gen != gen)
        return;
    if (w->now >= s->forget_at) {
        check_left_ringing(w, s);
        release(s);
    } else if (w->now >= s->give_up_at) {
        s->give_up_at = s->resend_at = MONO_NONE;
        if (s->accepted && s->tag[0] != '\0' && !s->ended)
            hang_up(w, s); /* 13.3.1.4: no ACK, no dialog */
        arm(w, s);
    } else if (w->now >= s->final_at) {
        answer_finally(w, s, s->final);
        if (s->accepted) {
            unsigned rnd = RND_SERVER + (unsigned)(s->node - NODE_SERVER);
            dur_ns talk = draw_between(w, rnd, 2 * NS_S, 12 * NS_S);
            s->hang_up_at = w->now + (s->hangs_up ? talk : 200 * NS_S);
            s->info_at = draw_chance(w, rnd, 300) ? w->now + NS_S : MONO_NONE;
            arm(w, s);
        }
    } else if (w->now >= s->ring_at) {
        s->ring_at = MONO_NONE;
        answer(w, s, 180);
        arm(w, s);
    } else if (w->now >= s->resend_at) {
        s->interval = s->interval * 2 < t2 ? s->interval * 2 : t2;
        s->resend_at = w->now + s->interval;
        send_last(w, s);
        arm(w, s);
    } else if (w->now >= s->info_at) {
        s->info_at = MONO_NONE;
        (void)dialog_request(w, s->node, &s->dialog, SIP_M_INFO, s->sure ? FOR_SURE : FOR_NOTHING,
                             NONE);
        arm(w, s);
    } else if (w->now >= s->hang_up_at) {
        hang_up(w, s);
        arm(w, s);
    }
}
