/* SPDX-License-Identifier: Apache-2.0
 *
 * Phones. Each is one struct with one connection and one timer, and comes back by its kind.
 *
 *      WAITING ── its time ──▶ TRYING ── 200 ──▶ REGISTERED ── refresh ─▶ (TRYING, on its flow)
 *         ▲                      │ refused, closed,      │ closed
 *         │                      │ no answer             │
 *         └── back-off ──────────┴───────────────────────┘        GONE: told "never" (403 …)
 *
 *      what happened          good                                     naive
 *      the flow broke         a random wait, then RFC 5626 4.5         at once
 *      no answer              after 32 s, RFC 5626 4.5                 after 2 s, at once again
 *      refused, closed        RFC 5626 4.5                             2 s after it began
 *      503 Retry-After: n     n seconds, on the same flow              2 s after it began
 *      302                    follows the Contact                      as refused
 *      4xx of its own         gone                                     as refused */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "load/load_int.h"

#define NAIVE_NS     (2 * NS_S)
#define T1_NS        (500 * NS_MS)
#define T2_NS        (4 * NS_S)
#define ANSWER_NS    (64 * T1_NS) /* RFC 3261 17.1.2.2: Timer F */
#define PONG_NS      (10 * NS_S)  /* RFC 5626 4.4.1 */
#define TICK_NS      NS_MS        /* how often phones begin */
#define PING_NS      (95 * NS_S)  /* RFC 5626 4.4.1: 95 to 120 s */
#define PING_MORE_NS (25 * NS_S)
#define UDP_PING_NS  (24 * NS_S) /* RFC 5626 4.4.2: 24 to 29 s */

enum {
    MOVES_MAX = 5,
    RETRY_AFTER_SPREAD = 10, /* a tenth more at most */
    BEGIN_PER_TURN = 64,
};

enum phone_state { IDLE, WAITING, TRYING, REGISTERED, GONE };

struct phone {
    struct conn conn;   /* first: a connection is its phone */
    struct timer timer; /* what it means stands in `state` */
    struct load_place at;
    mono_ns began;  /* of the attempt: where a naive phone counts its 2 s from */
    mono_ns sent;   /* the REGISTER */
    mono_ns resend; /* over UDP; MONO_NONE */
    mono_ns refresh, ping, pong;
    dur_ns wait;  /* until it is sent again */
    dur_ns every; /* of pings */
    char *text;   /* over UDP: the REGISTER, until it is answered */
    uint32_t text_n;
    uint32_t cseq;
    uint32_t expires_s;
    uint16_t failures;
    uint8_t state;
    uint8_t moves;
    bool is_up;        /* counts as registered */
    bool was_tried;    /* the next attempt is one more */
    bool has_answered; /* a challenge, in this transaction */
    bool is_refresh;
};

struct phones {
    struct phone *at;
    size_t bytes;
    uint32_t count, begun, gone;
    uint64_t ever; /* highest number registered at one time */
    mono_ns since; /* the beginning, or the storm */
    mono_ns reached_at[5];
    struct timer begin, storm, end;
    bool is_stormed;
};

static const struct conn_user phone_user;
static void attempt(struct load *l, struct phone *p);
static void send_register(struct load *l, struct phone *p, const struct sip_msg *challenge);

static struct phones *all(const struct load *l)
{
    return (struct phones *)l->role;
}

static uint32_t number_of(const struct load *l, const struct phone *p)
{
    return (uint32_t)(p - all(l)->at);
}

static struct phone *phone_of_timer(struct timer *t)
{
    return (struct phone *)((char *)t - offsetof(struct phone, timer));
}

static bool is_naive(const struct load *l)
{
    return l->o->behaviour == LOAD_NAIVE;
}

/* ---- how many are up ----------------------------------------------------------------------------
 */

static void maybe_over(struct load *l)
{
    const struct phones *a = all(l);
    bool is_all = l->stats.up + a->gone >= a->count && a->begun == a->count;
    if (is_all && !l->o->holds && (l->o->storm_at == 0 || a->is_stormed))
        l->over = true;
}

static void up(struct load *l, struct phone *p)
{
    struct phones *a = all(l);
    if (p->is_up)
        return;
    p->is_up = true;
    load__stats_up(&l->stats, 1, l->now);
    for (int i = 0; i < 5; i++)
        if (a->reached_at[i] == MONO_NONE &&
            (uint64_t)l->stats.up * 1000 >= (uint64_t)a->count * load__outcome_permille[i])
            a->reached_at[i] = l->now;
    maybe_over(l);
}

static void down(struct load *l, struct phone *p)
{
    if (!p->is_up)
        return;
    p->is_up = false;
    load__stats_up(&l->stats, -1, l->now);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

static void settle(struct phone *p)
{
    free(p->text);
    p->text = NULL;
    p->text_n = 0;
    p->resend = MONO_NONE;
}

static void wait_until(struct load *l, struct phone *p, mono_ns at)
{
    settle(p);
    p->state = WAITING;
    p->was_tried = true;
    load__arm(l, &p->timer, at);
}

/* Whatever it tried did not work. */
static void missed(struct load *l, struct phone *p)
{
    load__stats_count(&l->stats, COUNT_failed, l->now);
    if (is_naive(l)) {
        mono_ns next = mono_add(p->began, NAIVE_NS);
        wait_until(l, p, next > l->now ? next : l->now);
        return;
    }
    if (p->failures < UINT16_MAX)
        p->failures++;
    wait_until(l, p, mono_add(l->now, load__backoff(p->failures, l->o->base, l->o->cap, &l->prng)));
}

static void give_up(struct load *l, struct phone *p)
{
    load__stats_count(&l->stats, COUNT_failed, l->now);
    load__conn_close(l, &p->conn, true);
    settle(p);
    down(l, p);
    p->state = GONE;
    all(l)->gone++;
    load__arm(l, &p->timer, MONO_NONE);
    maybe_over(l);
}

/* ---- REGISTER -----------------------------------------------------------------------------------
 */

static void put_aor(struct text *t, const struct load *l, uint32_t number)
{
    text_put(t, slice_cstr(l->o->user));
    text_put_u64(t, number);
    text_put_char(t, '@');
    text_put(t, slice_cstr(l->o->domain));
}

/* Phone N is urn:uuid:00000000-0000-4000-8000-N in 12 digits, in each run. */
static void put_contact(struct text *t, const struct load *l, const struct phone *p)
{
    char digits[16];
    uint32_t number = number_of(l, p);
    TEXT_LIT(t, "Contact: <sip:");
    text_put(t, slice_cstr(l->o->user));
    text_put_u64(t, number);
    text_put_char(t, '@');
    addr_put(t, &p->conn.local);
    TEXT_LIT(t, ";transport=");
    text_put(t, load__uri_name(p->conn.transport));
    TEXT_LIT(t, ";ob>;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-");
    int n = snprintf(digits, sizeof digits, "%012u", number);
    text_put(t, slice_of(digits, (size_t)n));
    TEXT_LIT(t, ">\";reg-id=1\r\n");
}

static void put_ids(struct text *t, const struct load *l, const struct phone *p)
{
    uint32_t number = number_of(l, p);
    load__put_via(t, &p->conn);
    TEXT_LIT(t, "z9hG4bKr");
    text_put_u64(t, l->run);
    text_put_char(t, '.');
    text_put_u64(t, number);
    text_put_char(t, '.');
    text_put_u64(t, p->cseq);
    TEXT_LIT(t, "\r\nMax-Forwards: 70\r\nFrom: <sip:");
    put_aor(t, l, number);
    TEXT_LIT(t, ">;tag=f");
    text_put_u64(t, p->cseq);
    TEXT_LIT(t, "\r\nTo: <sip:");
    put_aor(t, l, number);
    TEXT_LIT(t, ">\r\nCall-ID: r");
    text_put_u64(t, l->run);
    text_put_char(t, '.');
    text_put_u64(t, number);
    TEXT_LIT(t, "\r\nCSeq: ");
    text_put_u64(t, p->cseq);
    TEXT_LIT(t, " REGISTER\r\n");
}

/* 0, or -1 when the challenge cannot be answered. */
static int write_register(struct load *l, struct phone *p, const struct sip_msg *challenge,
                          struct text *t)
{
    char uri[LOAD_TEXT_BYTES_MAX + 8], user[LOAD_TEXT_BYTES_MAX + 16];
    struct text u = text_into(uri, sizeof uri), who = text_into(user, sizeof user);
    TEXT_LIT(&u, "sip:");
    text_put(&u, slice_cstr(l->o->domain));
    text_put(&who, slice_cstr(l->o->user));
    text_put_u64(&who, number_of(l, p));
    TEXT_LIT(t, "REGISTER ");
    text_put(t, text_slice(&u));
    TEXT_LIT(t, " SIP/2.0\r\n");
    put_ids(t, l, p);
    put_contact(t, l, p);
    if (challenge != NULL &&
        load__authorize(t, challenge, SLICE("REGISTER"), text_slice(&u), text_slice(&who),
                        slice_cstr(l->o->password), prng_u64(&l->prng)) != 0)
        return -1;
    TEXT_LIT(t, "Supported: path, outbound\r\nUser-Agent: ");
    text_put(t, slice_cstr(l->o->user_agent));
    TEXT_LIT(t, "\r\nExpires: ");
    text_put_u64(t, p->expires_s);
    TEXT_LIT(t, "\r\nContent-Length: 0\r\n\r\n");
    return 0;
}

static void arm_try(struct load *l, struct phone *p)
{
    mono_ns until = mono_add(p->began, is_naive(l) ? NAIVE_NS : ANSWER_NS);
    load__arm(l, &p->timer, mono_min(until, p->resend));
}

/* Keeps what was sent over UDP, to send it again (RFC 3261 17.1.2.2: Timer E). */
static void keep_text(struct load *l, struct phone *p, struct slice bytes)
{
    settle(p);
    if (p->conn.transport != TP_UDP)
        return;
    p->text = (char *)malloc(bytes.n);
    if (p->text == NULL)
        return;
    memcpy(p->text, bytes.p, bytes.n);
    p->text_n = (uint32_t)bytes.n;
    p->wait = T1_NS;
    p->resend = mono_add(l->now, p->wait);
}

static void send_register(struct load *l, struct phone *p, const struct sip_msg *challenge)
{
    char bytes[MESSAGE_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    p->cseq++;
    if (write_register(l, p, challenge, &t) != 0 || !text_fits(&t)) {
        give_up(l, p);
        return;
    }
    p->has_answered = challenge != NULL;
    if (!p->has_answered)
        p->sent = l->now;
    p->state = TRYING;
    keep_text(l, p, text_slice(&t));
    if (load__conn_send(l, &p->conn, text_slice(&t), NULL) != 0 && p->conn.transport != TP_UDP) {
        load__conn_close(l, &p->conn, true);
        down(l, p);
        missed(l, p);
        return;
    }
    arm_try(l, p);
}

/* Once more, on the flow that there is. */
static void register_again(struct load *l, struct phone *p, bool is_refresh)
{
    p->began = l->now;
    p->is_refresh = is_refresh;
    load__stats_count(&l->stats, COUNT_offered, l->now);
    if (!is_refresh)
        load__stats_count(&l->stats, COUNT_retries, l->now);
    send_register(l, p, NULL);
}

static void attempt(struct load *l, struct phone *p)
{
    struct addr source = {0};
    load__stats_count(&l->stats, COUNT_offered, l->now);
    if (p->was_tried)
        load__stats_count(&l->stats, COUNT_retries, l->now);
    if (l->o->sources.net.family != 0)
        source = load__source(&l->o->sources, number_of(l, p));
    load__conn_close(l, &p->conn, true);
    if (l->o->resume && p->conn.ticket == NULL)
        p->conn.ticket = (struct ticket *)calloc(1, sizeof *p->conn.ticket);
    p->state = TRYING;
    p->is_refresh = false;
    p->began = p->sent = l->now;
    p->resend = MONO_NONE;
    if (load__conn_open(l, &p->conn, &p->at, &source, &phone_user) == 0) {
        arm_try(l, p);
        return;
    }
    load__local_failure(l);
    missed(l, p);
}

/* ---- answers to REGISTER ------------------------------------------------------------------------
 */

/* What was granted: of our Contact, which carries our instance, or of all, or what we asked for. */
static uint32_t granted_s(const struct sip_msg *m, uint32_t asked)
{
    struct sip_values v = sip_values(m, SIP_H_CONTACT);
    struct sip_nameaddr na;
    struct slice s;
    uint64_t n = 0, least = UINT32_MAX;
    while (sip_next_value(&v))
        if (sip_nameaddr_parse(sip_slice(m, v.value), &na) == 0 &&
            sip_param(na.params, SLICE("expires"), &s) && text_parse_u64(s, UINT32_MAX, &n) == 0 &&
            n < least)
            least = n;
    if (least < UINT32_MAX)
        return (uint32_t)least;
    if (text_parse_u64(sip_header_value(m, SIP_H_EXPIRES), UINT32_MAX, &n) == 0)
        return (uint32_t)n;
    return asked;
}

static void arm_registered(struct load *l, struct phone *p)
{
    load__arm(l, &p->timer, mono_min(p->refresh, mono_min(p->ping, p->pong)));
}

static void plan_ping(struct load *l, struct phone *p)
{
    dur_ns every = l->o->ping;
    if (every == 0 && p->every != 0)
        every = p->every - load__some_of(p->every / 5, &l->prng);
    else if (every == 0 && p->conn.transport == TP_UDP)
        every = UDP_PING_NS + load__some_of(5 * NS_S, &l->prng);
    else if (every == 0)
        every = PING_NS + load__some_of(PING_MORE_NS, &l->prng);
    p->ping = mono_add(l->now, every);
}

static void on_registered(struct load *l, struct phone *p, const struct sip_msg *m)
{
    uint64_t flow_timer_s = 0;
    dur_ns life = granted_s(m, p->expires_s) * NS_S;
    settle(p);
    load__stats_count(&l->stats, COUNT_ok, l->now);
    load__stats_latency(&l->stats, mono_since(l->now, p->sent), l->now);
    p->state = REGISTERED;
    p->failures = 0;
    p->moves = 0;
    if (text_parse_u64(sip_header_value(m, SIP_H_FLOW_TIMER), 86400, &flow_timer_s) == 0)
        p->every = flow_timer_s * NS_S; /* RFC 5626 4.4.1: 80 to 100 % of it */
    p->refresh = l->o->refresh != 0
                     ? mono_add(l->now, l->o->refresh)
                     : mono_add(l->now, life / 2 + load__some_of(life * 2 / 5 + 1, &l->prng));
    p->pong = MONO_NONE;
    plan_ping(l, p);
    arm_registered(l, p);
    up(l, p);
}

/* 302: the first Contact says where (RFC 3261 8.1.3.4). False when it says nothing that we follow.
 */
static bool follow(struct load *l, struct phone *p, const struct sip_msg *m)
{
    struct load_place to;
    if (is_naive(l) || p->moves >= MOVES_MAX || load__place(load__contact(m), &to) != 0 ||
        (!l->o->anywhere && !load__is_private(&to.addr)) ||
        ((to.transport == TP_TLS || to.transport == TP_WSS) && l->client == NULL))
        return false;
    p->moves++;
    p->at = to;
    load__stats_count(&l->stats, COUNT_moved, l->now);
    load__conn_close(l, &p->conn, false);
    down(l, p);
    wait_until(l, p, l->now);
    return true;
}

static void on_refused(struct load *l, struct phone *p, const struct sip_msg *m)
{
    uint32_t after = load__retry_after(m);
    settle(p);
    if (!p->is_refresh)
        down(l, p);
    if (is_naive(l) || after == 0) {
        missed(l, p);
        return;
    }
    load__stats_count(&l->stats, COUNT_failed, l->now);
    dur_ns wait = after * NS_S;
    wait_until(l, p, mono_add(l->now, wait + load__some_of(wait / RETRY_AFTER_SPREAD, &l->prng)));
}

static void on_answer(struct load *l, struct phone *p, const struct sip_msg *m)
{
    uint64_t least = 0;
    load__stats_status(&l->stats, m->status);
    if (m->status == 503)
        load__stats_count(&l->stats, COUNT_refused, l->now);
    if (m->status < 300) {
        on_registered(l, p, m);
    } else if ((m->status == 401 || m->status == 407) && l->o->password != NULL &&
               !p->has_answered) {
        load__stats_count(&l->stats, COUNT_challenged, l->now);
        send_register(l, p, m);
    } else if (m->status == 423 &&
               text_parse_u64(sip_header_value(m, SIP_H_MIN_EXPIRES), 86400, &least) == 0 &&
               least > p->expires_s) {
        p->expires_s = (uint32_t)least;
        send_register(l, p, NULL);
    } else if (m->status < 400 && follow(l, p, m)) {
        return;
    } else if (m->status >= 500 || is_naive(l) || m->status == 408 || m->status == 480) {
        on_refused(l, p, m);
    } else {
        give_up(l, p);
    }
}

/* ---- what a connection tells --------------------------------------------------------------------
 */

static void on_opened(struct load *l, struct conn *c)
{
    struct phone *p = (struct phone *)c;
    load__stats_count(&l->stats, COUNT_admitted, l->now);
    histogram_add(&l->stats.connected, mono_since(l->now, p->began) / NS_US);
    send_register(l, p, NULL);
}

static void on_message(struct load *l, struct conn *c, struct slice bytes, const struct addr *from)
{
    struct phone *p = (struct phone *)c;
    struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    if (sip_index(&m, bytes.p, bytes.n, c->transport == TP_UDP, &fault) != 0 ||
        (!m.is_request && sip_check_response(&m, &f, &fault) != 0)) {
        l->stats.n[COUNT_unread]++;
        return;
    }
    if (m.is_request)
        load__answers_take(l, l->answers, c, &m, c->transport == TP_UDP ? &c->peer : from,
                           l->o->answers ? 200 : 480);
    else if (p->state == TRYING && f.method == SIP_M_REGISTER && f.cseq == p->cseq &&
             m.status >= 200)
        on_answer(l, p, &m);
}

static void on_pong(struct load *l, struct conn *c)
{
    struct phone *p = (struct phone *)c;
    if (p->state != REGISTERED)
        return;
    p->pong = MONO_NONE;
    arm_registered(l, p);
}

static void flow_broke(struct load *l, struct phone *p)
{
    down(l, p);
    p->failures = 0;
    p->began = l->now;
    wait_until(l, p,
               is_naive(l) ? l->now : mono_add(l->now, load__some_of(l->o->spread + 1, &l->prng)));
}

static void on_closed(struct load *l, struct conn *c, enum conn_end end)
{
    struct phone *p = (struct phone *)c;
    load__stats_count(&l->stats, COUNT_closed, l->now);
    (void)end;
    if (p->state == WAITING) /* told to wait, and then cut: its time stays */
        return;
    if (p->state == REGISTERED || (p->state == TRYING && p->is_refresh)) {
        flow_broke(l, p);
        return;
    }
    missed(l, p);
}

static const struct conn_user phone_user = {on_opened, on_message, on_pong, on_closed};

/* ---- its timer ----------------------------------------------------------------------------------
 */

static void on_try(struct load *l, struct phone *p)
{
    mono_ns until = mono_add(p->began, is_naive(l) ? NAIVE_NS : ANSWER_NS);
    if (l->now < until && p->text != NULL && l->now >= p->resend) {
        load__stats_count(&l->stats, COUNT_retries, l->now);
        (void)load__conn_send(l, &p->conn, slice_of(p->text, p->text_n), NULL);
        p->wait = 2 * p->wait < T2_NS ? 2 * p->wait : T2_NS;
        p->resend = mono_add(l->now, p->wait);
    }
    if (l->now < until) {
        arm_try(l, p);
        return;
    }
    load__stats_count(&l->stats, COUNT_timeouts, l->now);
    load__conn_close(l, &p->conn, true);
    down(l, p);
    missed(l, p);
}

static void on_quiet(struct load *l, struct phone *p)
{
    if (l->now >= p->pong) { /* RFC 5626 4.4.1: the flow is dead */
        load__stats_count(&l->stats, COUNT_timeouts, l->now);
        load__conn_close(l, &p->conn, true);
        flow_broke(l, p);
        return;
    }
    if (l->now >= p->refresh) {
        register_again(l, p, true);
        return;
    }
    if (l->now >= p->ping) {
        l->stats.n[COUNT_pings]++;
        plan_ping(l, p);
        if (p->conn.transport != TP_UDP && !is_naive(l) && p->pong == MONO_NONE)
            p->pong = mono_add(l->now, PONG_NS);
        (void)load__conn_ping(l, &p->conn);
    }
    arm_registered(l, p);
}

static void on_timer(struct load *l, struct timer *t)
{
    struct phone *p = phone_of_timer(t);
    switch (p->state) {
    case WAITING:
        if (p->conn.state == CONN_OPEN)
            register_again(l, p, false);
        else
            attempt(l, p);
        break;
    case TRYING:
        on_try(l, p);
        break;
    case REGISTERED:
        on_quiet(l, p);
        break;
    default:
        break;
    }
}

/* ---- the crowd ----------------------------------------------------------------------------------
 */

static void on_begin(struct load *l, struct timer *t)
{
    struct phones *a = all(l);
    uint64_t due = a->count;
    if (l->o->rate != 0)
        due = 1 + mono_since(l->now, l->began) / NS_US * l->o->rate / 1000000;
    for (unsigned i = 0; i < BEGIN_PER_TURN && a->begun < a->count && a->begun < due; i++) {
        load__now(l); /* each has a clock of its own, which its patience is counted by */
        attempt(l, &a->at[a->begun++]);
    }
    if (a->begun < a->count)
        load__arm(l, t, a->begun < due ? l->now : mono_add(l->now, TICK_NS));
}

/* As if their edge had died: every connection is cut at one moment. */
static void on_storm(struct load *l, struct timer *t)
{
    struct phones *a = all(l);
    (void)t;
    a->is_stormed = true;
    a->since = l->now;
    for (int i = 0; i < 5; i++)
        a->reached_at[i] = MONO_NONE;
    for (uint32_t i = 0; i < a->begun; i++) {
        struct phone *p = &a->at[i];
        if (p->state == GONE || p->conn.state == CONN_CLOSED)
            continue;
        load__conn_close(l, &p->conn, true);
        flow_broke(l, p);
    }
}

static void on_end(struct load *l, struct timer *t)
{
    (void)t;
    l->over = true;
}

static int begin(struct load *l)
{
    struct phones *a = (struct phones *)calloc(1, sizeof *a);
    l->role = a;
    if (a == NULL)
        return -1;
    a->count = l->o->count;
    a->bytes = a->count * sizeof(struct phone);
    a->at = (struct phone *)load__map(a->bytes);
    l->answers = load__answers_new(l);
    if (a->at == NULL || l->answers == NULL) {
        fputs("weir load: no memory for so many phones\n", l->err);
        return -1;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        struct phone *p = &a->at[i];
        p->conn.fd = -1;
        p->timer.fn = on_timer;
        p->timer.node.at = MONO_NONE;
        p->at = l->o->to;
        p->resend = MONO_NONE;
        p->expires_s = (uint32_t)(l->o->expires / NS_S);
    }
    for (int i = 0; i < 5; i++)
        a->reached_at[i] = MONO_NONE;
    a->since = l->now;
    a->begin.fn = on_begin;
    a->storm.fn = on_storm;
    a->end.fn = on_end;
    load__arm(l, &a->begin, l->now);
    if (l->o->storm_at != 0)
        load__arm(l, &a->storm, mono_add(l->began, l->o->storm_at));
    if (l->o->lasts != 0)
        load__arm(l, &a->end, mono_add(l->began, l->o->lasts));
    return 0;
}

static void progress(struct load *l, struct text *t)
{
    const struct stats *s = &l->stats;
    char bytes[24];
    text_put_u64(t, s->up);
    text_put_char(t, '/');
    text_put_u64(t, all(l)->count);
    TEXT_LIT(t, " registered");
    load__put_count(t, SLICE("tried"), s->n[COUNT_offered]);
    load__put_count(t, SLICE("connected"), s->n[COUNT_admitted]);
    load__put_count(t, SLICE("503"), s->n[COUNT_refused]);
    load__put_count(t, SLICE("failed"), s->n[COUNT_failed]);
    load__put_count(t, SLICE("again"), s->n[COUNT_retries]);
    TEXT_LIT(t, "  p99 ");
    text_put(t, slice_cstr(load__report_us(histogram_quantile(&s->latency, 990), bytes)));
}

static void report(struct load *l, struct outcome *u)
{
    const struct phones *a = all(l);
    u->wanted = a->count;
    u->reached = l->stats.up;
    for (int i = 0; i < 5; i++)
        if (a->reached_at[i] != MONO_NONE)
            u->reached_at[i] = mono_since(a->reached_at[i], a->since);
}

static void end(struct load *l)
{
    struct phones *a = all(l);
    for (uint32_t i = 0; a != NULL && a->at != NULL && i < a->count; i++) {
        load__conn_close(l, &a->at[i].conn, true);
        free(a->at[i].conn.ticket);
        settle(&a->at[i]);
    }
    load__answers_free(l, l->answers);
    if (a != NULL && a->at != NULL)
        (void)munmap(a->at, a->bytes);
    free(a);
}

const struct role load__phones_role = {begin, progress, report, end};
