/* SPDX-License-Identifier: Apache-2.0
 *
 * Callers. A call is a slot, named by its Call-ID, with one timer; callers share a few sockets,
 * their lanes. Calls begin at the rate whatever the answers do.
 *
 *      CALLING ── 1xx ──▶ RINGING ── 200 ──▶ TALKING ── hold ──▶ LEAVING ── 200 ──▶ gone
 *         │ A: again, UDP     │               │ ACK; again for       │ E: again, UDP
 *         │ B: 64·T1          │ 180 s         │ a 200 that repeats   │ F: 64·T1
 *         └───────────────────┴── refused, timed out: gone ◀─────────┘
 *
 * A final that refuses is acknowledged from itself alone, so that nothing is kept of such calls
 * (RFC 3261 17.1.1.3); timers A, B, E and F are those of RFC 3261 17.1. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "load/load_int.h"

#define T1_NS      (500 * NS_MS)
#define T2_NS      (4 * NS_S)
#define TIMEOUT_NS (64 * T1_NS)
#define RING_NS    (180 * NS_S) /* RFC 3261 16.6: what a proxy waits at least */
#define TICK_NS    NS_MS
#define REOPEN_NS  (500 * NS_MS)
/* Calls begin when all lanes are open, or after this. Those of a lane that is not fail. */
#define PATIENCE_NS (5 * NS_S)

enum { OPEN_MAX = 1 << 20, OPEN_MIN = 1024, TO_BYTES_MAX = 256 };

enum call_state { CALLING, RINGING, TALKING, LEAVING };

struct call {
    struct timer timer;
    mono_ns began, until, resend;
    dur_ns wait;
    uint64_t sent_wall, came_wall, answered_wall; /* of the INVITE, at both ends, and its 200 */
    handle self;
    uint32_t lane, life;
    struct addr next; /* where requests of the dialog go, over UDP */
    uint8_t state;
    bool rang;
    uint16_t to_n, target_n, routes_n;
    char to[TO_BYTES_MAX];
    char target[TARGET_BYTES_MAX];
    char routes[ROUTES_BYTES_MAX];
};

struct lane {
    struct conn conn; /* first */
    struct timer timer;
};

struct calls {
    struct slab open;
    void *memory;
    size_t bytes;
    struct lane *lanes;
    uint32_t lane_count, lanes_open, next_lane;
    uint64_t begun;
    mono_ns since; /* when the first began */
    struct timer pace;
    bool is_closing; /* no more begin */
    char uri[LOAD_TEXT_BYTES_MAX + 1];
};

static const struct conn_user lane_user;

static struct calls *all(const struct load *l)
{
    return (struct calls *)l->role;
}

static struct call *call_of_timer(struct timer *t)
{
    return (struct call *)((char *)t - offsetof(struct call, timer));
}

/* ---- identifiers --------------------------------------------------------------------------------
 */

static void put_call_id(struct text *t, const struct load *l, const struct call *c)
{
    text_put_u64(t, c->self.slot);
    text_put_char(t, '-');
    text_put_u64(t, c->self.gen);
    text_put_char(t, '-');
    text_put_u64(t, l->run);
}

static bool take_number(struct slice *s, uint64_t *ret_n)
{
    size_t at = slice_find(*s, '-');
    if (text_parse_u64(slice_take(*s, at), UINT32_MAX, ret_n) != 0)
        return false;
    *s = slice_drop(*s, at + 1);
    return true;
}

/* The call that a Call-ID names; NULL when it is gone, or another's. */
static struct call *call_of(const struct load *l, struct slice id)
{
    uint64_t slot, gen, run;
    if (l->o->kind != LOAD_CALLS || !take_number(&id, &slot) || !take_number(&id, &gen) ||
        !take_number(&id, &run) || run != l->run)
        return NULL;
    return (struct call *)slab_get(&all(l)->open, (handle){(uint32_t)slot, (uint32_t)gen});
}

void load__calls_saw_invite(struct load *l, struct slice call_id, uint64_t came_ns,
                            uint64_t sent_ns)
{
    struct call *c = call_of(l, call_id);
    if (c == NULL || c->came_wall != 0)
        return;
    c->came_wall = came_ns;
    c->answered_wall = sent_ns;
}

/* ---- requests -----------------------------------------------------------------------------------
 */

static void put_common(struct text *t, const struct load *l, const struct call *c,
                       const struct conn *via, struct slice method, unsigned cseq)
{
    TEXT_LIT(t, " SIP/2.0\r\n");
    load__put_via(t, via);
    TEXT_LIT(t, "z9hG4bK");
    text_put(t, method);
    put_call_id(t, l, c);
    TEXT_LIT(t, "\r\nMax-Forwards: 70\r\n");
    if (cseq > 1 || method.p[0] == 'A')
        text_put(t, slice_of(c->routes, c->routes_n));
    TEXT_LIT(t, "From: <sip:");
    text_put(t, slice_cstr(l->o->user));
    TEXT_LIT(t, "@");
    addr_put(t, &via->local);
    TEXT_LIT(t, ">;tag=f");
    text_put_u64(t, c->self.slot);
    TEXT_LIT(t, "\r\nTo: ");
    if (c->to_n > 0) {
        text_put(t, slice_of(c->to, c->to_n));
    } else {
        text_put_char(t, '<');
        text_put(t, slice_cstr(all(l)->uri));
        text_put_char(t, '>');
    }
    TEXT_LIT(t, "\r\nCall-ID: ");
    put_call_id(t, l, c);
    TEXT_LIT(t, "\r\nCSeq: ");
    text_put_u64(t, cseq);
    text_put_char(t, ' ');
    text_put(t, method);
    TEXT_LIT(t, "\r\n");
}

static struct conn *lane_of(const struct load *l, const struct call *c)
{
    struct conn *conn = &all(l)->lanes[c->lane].conn;
    return conn->life == c->life ? conn : NULL;
}

static void send_text(struct load *l, const struct call *c, struct text *t, bool in_dialog)
{
    struct conn *conn = lane_of(l, c);
    if (conn != NULL && text_fits(t))
        (void)load__conn_send(l, conn, text_slice(t), in_dialog ? &c->next : &l->o->to.addr);
}

static void send_invite(struct load *l, struct call *c)
{
    char bytes[MESSAGE_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    const struct conn *conn = lane_of(l, c);
    if (conn == NULL)
        return;
    TEXT_LIT(&t, "INVITE ");
    text_put(&t, slice_cstr(all(l)->uri));
    put_common(&t, l, c, conn, SLICE("INVITE"), 1);
    TEXT_LIT(&t, "Contact: <sip:");
    text_put(&t, slice_cstr(l->o->user));
    text_put_char(&t, '@');
    addr_put(&t, &conn->local);
    TEXT_LIT(&t, ";transport=");
    text_put(&t, load__uri_name(conn->transport));
    TEXT_LIT(&t, ">\r\nUser-Agent: ");
    text_put(&t, slice_cstr(l->o->user_agent));
    TEXT_LIT(&t, "\r\n");
    load__put_sdp(&t, conn);
    send_text(l, c, &t, false);
}

static void send_in_dialog(struct load *l, const struct call *c, struct slice method, unsigned cseq)
{
    char bytes[MESSAGE_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    const struct conn *conn = lane_of(l, c);
    if (conn == NULL)
        return;
    text_put(&t, method);
    text_put_char(&t, ' ');
    text_put(&t, slice_of(c->target, c->target_n));
    put_common(&t, l, c, conn, method, cseq);
    TEXT_LIT(&t, "Content-Length: 0\r\n\r\n");
    send_text(l, c, &t, true);
}

/* ---- a call's life ------------------------------------------------------------------------------
 */

static void maybe_over(struct load *l)
{
    if (all(l)->is_closing && all(l)->open.live == 0)
        l->over = true;
}

static void gone(struct load *l, struct call *c)
{
    load__arm(l, &c->timer, MONO_NONE);
    slab_release(&all(l)->open, c);
    load__stats_up(&l->stats, -1, l->now);
    maybe_over(l);
}

static void arm(struct load *l, struct call *c)
{
    load__arm(l, &c->timer, mono_min(c->until, c->resend));
}

/* A request begins to be sent: again after T1 over UDP, and at most 64·T1 long. */
static void begin_request(struct load *l, struct call *c)
{
    bool is_udp = all(l)->lanes[c->lane].conn.transport == TP_UDP;
    c->wait = T1_NS;
    c->resend = is_udp ? mono_add(l->now, c->wait) : MONO_NONE;
    c->until = mono_add(l->now, TIMEOUT_NS);
    arm(l, c);
}

static void on_call_timer(struct load *l, struct timer *t);

static void begin_call(struct load *l)
{
    struct calls *a = all(l);
    handle h;
    load__stats_count(&l->stats, COUNT_offered, l->now);
    struct lane *lane = &a->lanes[a->next_lane];
    uint32_t at = a->next_lane;
    a->next_lane = (a->next_lane + 1) % a->lane_count;
    struct call *c = (struct call *)slab_take_uncleared(&a->open, &h);
    if (c == NULL || lane->conn.state != CONN_OPEN) {
        slab_release(&a->open, c);
        load__stats_count(&l->stats, COUNT_failed, l->now);
        return;
    }
    memset(c, 0, offsetof(struct call, to));
    c->timer.fn = on_call_timer;
    c->timer.node.at = MONO_NONE;
    c->self = h;
    c->lane = at;
    c->life = lane->conn.life;
    c->began = l->now;
    c->sent_wall = load__wall();
    c->state = CALLING;
    load__stats_up(&l->stats, 1, l->now);
    begin_request(l, c);
    send_invite(l, c);
}

static void leave(struct load *l, struct call *c)
{
    c->state = LEAVING;
    load__stats_count(&l->stats, COUNT_in_dialog, l->now);
    begin_request(l, c);
    send_in_dialog(l, c, SLICE("BYE"), 2);
}

static void on_call_timer(struct load *l, struct timer *t)
{
    struct call *c = call_of_timer(t);
    if (c->state == TALKING) {
        leave(l, c);
        return;
    }
    if (l->now >= c->until || lane_of(l, c) == NULL) {
        l->stats.n[COUNT_timeouts]++;
        if (c->state != LEAVING)
            load__stats_count(&l->stats, COUNT_failed, l->now);
        gone(l, c);
        return;
    }
    if (l->now >= c->resend) {
        load__stats_count(&l->stats, COUNT_retries, l->now);
        c->wait *= 2;
        if (c->state == LEAVING && c->wait > T2_NS)
            c->wait = T2_NS;
        c->resend = mono_add(l->now, c->wait);
        if (c->state == LEAVING)
            send_in_dialog(l, c, SLICE("BYE"), 2);
        else
            send_invite(l, c);
    }
    arm(l, c);
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static uint16_t keep(char *dst, size_t cap, struct slice s)
{
    if (s.n > cap)
        return 0;
    memcpy(dst, s.p, s.n);
    return (uint16_t)s.n;
}

/* Over UDP: the first Route, else the remote target, where they are numbers that may be loaded. */
static struct addr next_hop(const struct load *l, const struct sip_msg *m, struct slice target)
{
    struct sip_values v = sip_values(m, SIP_H_RECORD_ROUTE);
    struct sip_nameaddr na;
    struct slice last = target;
    struct load_place to;
    while (sip_next_value(&v))
        if (sip_nameaddr_parse(sip_slice(m, v.value), &na) == 0)
            last = na.uri;
    if (load__place(last, &to) != 0 || (!l->o->anywhere && !load__is_private(&to.addr)) ||
        to.addr.family != l->o->to.addr.family)
        return l->o->to.addr;
    return to.addr;
}

static bool begin_dialog(struct load *l, struct call *c, const struct sip_msg *m)
{
    struct slice target = load__contact(m);
    struct text routes = text_into(c->routes, sizeof c->routes);
    load__routes(m, &routes);
    c->to_n = keep(c->to, sizeof c->to, sip_header_value(m, SIP_H_TO));
    c->target_n = keep(c->target, sizeof c->target, target);
    if (c->to_n == 0 || c->target_n == 0 || !text_fits(&routes))
        return false;
    c->routes_n = (uint16_t)routes.n;
    c->next = next_hop(l, m, target);
    return true;
}

static void on_answered(struct load *l, struct call *c, const struct sip_msg *m)
{
    if (c->state >= TALKING) { /* our ACK was lost (RFC 3261 13.2.2.4) */
        send_in_dialog(l, c, SLICE("ACK"), 1);
        return;
    }
    if (!begin_dialog(l, c, m)) {
        l->stats.n[COUNT_unread]++;
        load__stats_count(&l->stats, COUNT_failed, l->now);
        gone(l, c);
        return;
    }
    const uint64_t came = l->arrival;
    load__stats_status(&l->stats, m->status);
    load__stats_count(&l->stats, COUNT_ok, l->now);
    load__stats_latency(&l->stats, came > c->sent_wall ? came - c->sent_wall : 0, l->now);
    if (c->came_wall > c->sent_wall && came > c->answered_wall)
        histogram_add(&l->stats.added,
                      (c->came_wall - c->sent_wall + came - c->answered_wall) / NS_US);
    c->state = TALKING;
    send_in_dialog(l, c, SLICE("ACK"), 1);
    c->resend = MONO_NONE;
    c->until = mono_add(l->now, l->o->talk);
    arm(l, c);
}

static void on_invite_answer(struct load *l, struct conn *conn, struct call *c,
                             const struct sip_msg *m, const struct sip_facts *f)
{
    char bytes[MESSAGE_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    if (m->status >= 300) {
        load__write_ack(&t, m, f, slice_cstr(all(l)->uri), conn);
        if (text_fits(&t))
            (void)load__conn_send(l, conn, text_slice(&t), &l->o->to.addr);
    }
    if (c == NULL)
        return;
    if (m->status < 200) {
        if (c->state == CALLING) {
            c->state = RINGING;
            c->resend = MONO_NONE;
            c->until = mono_add(l->now, RING_NS);
            arm(l, c);
        }
        if (m->status > 100 && !c->rang) {
            load__stats_count(&l->stats, COUNT_admitted, l->now);
            c->rang = true;
        }
        return;
    }
    if (m->status < 300) {
        on_answered(l, c, m);
        return;
    }
    if (c->state >= TALKING)
        return;
    load__stats_status(&l->stats, m->status);
    load__stats_count(&l->stats, m->status == 503 ? COUNT_refused : COUNT_failed, l->now);
    gone(l, c);
}

static void on_response(struct load *l, struct conn *conn, const struct sip_msg *m,
                        const struct sip_facts *f)
{
    struct call *c = call_of(l, f->call_id);
    if (f->method == SIP_M_INVITE) {
        on_invite_answer(l, conn, c, m, f);
        return;
    }
    if (c == NULL || c->state != LEAVING || f->method != SIP_M_BYE)
        return;
    if (m->status < 200) { /* RFC 3261 17.1.2.2: again, but every T2 */
        c->wait = T2_NS;
        return;
    }
    load__stats_status(&l->stats, m->status);
    if (m->status < 300)
        l->stats.n[COUNT_in_dialog_ok]++;
    gone(l, c);
}

static void on_message(struct load *l, struct conn *c, struct slice bytes, const struct addr *from)
{
    struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    if (sip_index(&m, bytes.p, bytes.n, c->transport == TP_UDP, &fault) != 0 ||
        (!m.is_request && sip_check_response(&m, &f, &fault) != 0)) {
        l->stats.n[COUNT_unread]++;
        return;
    }
    if (m.is_request)
        load__answers_take(l, l->answers, c, &m, from, 486);
    else
        on_response(l, c, &m, &f);
}

/* ---- lanes --------------------------------------------------------------------------------------
 */

static void on_opened(struct load *l, struct conn *c)
{
    struct calls *a = all(l);
    (void)c;
    a->lanes_open++;
    if (a->lanes_open == a->lane_count && a->since == MONO_NONE)
        load__arm(l, &a->pace, l->now);
}

static void on_pong(struct load *l, struct conn *c)
{
    (void)l;
    (void)c;
}

static void on_closed(struct load *l, struct conn *c, enum conn_end end)
{
    struct lane *lane = (struct lane *)c;
    (void)end;
    load__stats_count(&l->stats, COUNT_closed, l->now);
    load__arm(l, &lane->timer, mono_add(l->now, REOPEN_NS));
}

static const struct conn_user lane_user = {on_opened, on_message, on_pong, on_closed};

static struct addr source_of(const struct load *l, uint32_t lane)
{
    struct addr none = {0};
    return l->o->sources.net.family != 0 ? load__source(&l->o->sources, lane) : none;
}

static void open_lane(struct load *l, struct timer *t)
{
    struct lane *lane = (struct lane *)((char *)t - offsetof(struct lane, timer));
    struct addr source = source_of(l, (uint32_t)(lane - all(l)->lanes));
    if (load__conn_open(l, &lane->conn, &l->o->to, &source, &lane_user) == 0)
        return;
    load__local_failure(l);
    load__arm(l, t, mono_add(l->now, REOPEN_NS));
}

/* A socket that hears whoever answers; its address is the one that the route to the server gives.
 */
static int open_udp_lane(struct load *l, struct lane *lane, uint32_t number)
{
    struct load_place at = {.transport = TP_UDP, .addr = source_of(l, number)};
    struct addr bound;
    if (at.addr.family == 0 && load__conn_route(&l->o->to.addr, &at.addr) != 0)
        return -1;
    int fd = load__conn_listen(&at, &bound);
    if (fd < 0)
        return -1;
    lane->conn.peer = l->o->to.addr;
    return load__conn_adopt(l, &lane->conn, fd, TP_UDP, &lane_user);
}

static int begin_lanes(struct load *l, struct calls *a)
{
    for (uint32_t i = 0; i < a->lane_count; i++) {
        struct lane *lane = &a->lanes[i];
        lane->conn.fd = -1;
        lane->timer.fn = open_lane;
        lane->timer.node.at = MONO_NONE;
        if (l->o->to.transport != TP_UDP) {
            open_lane(l, &lane->timer);
        } else if (open_udp_lane(l, lane, i) == 0) {
            on_opened(l, &lane->conn);
        } else {
            fprintf(l->err, "weir load: no socket to call from: %s\n", strerror(errno));
            return -1;
        }
    }
    return 0;
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

static void on_pace(struct load *l, struct timer *t)
{
    struct calls *a = all(l);
    if (a->since == MONO_NONE)
        a->since = l->now;
    mono_ns since = mono_since(l->now, a->since);
    uint64_t due = 1 + since / NS_US * l->o->rate / 1000000;
    if (l->o->lasts != 0 && since >= l->o->lasts)
        a->is_closing = true;
    while (!a->is_closing && a->begun < due) {
        a->begun++;
        begin_call(l);
        if (l->o->count != 0 && a->begun >= l->o->count)
            a->is_closing = true;
    }
    if (a->is_closing)
        maybe_over(l);
    else
        load__arm(l, t, mono_add(l->now, TICK_NS));
}

static void choose_uri(struct load *l, struct calls *a)
{
    struct text t = text_into(a->uri, sizeof a->uri - 1);
    if (l->o->uri != NULL) {
        text_put(&t, slice_cstr(l->o->uri));
    } else {
        TEXT_LIT(&t, "sip:load@");
        addr_put(&t, &l->o->to.addr);
    }
    a->uri[text_slice(&t).n] = '\0';
}

/* As many as may be open at once when each is refused after 64·T1 and none before. */
static uint32_t open_max(const struct load_opts *o)
{
    uint64_t s = (TIMEOUT_NS + o->talk) / NS_S + 2;
    uint64_t n = s * o->rate;
    return n > OPEN_MAX ? OPEN_MAX : n < OPEN_MIN ? OPEN_MIN : (uint32_t)n;
}

static int begin(struct load *l)
{
    struct calls *a = (struct calls *)calloc(1, sizeof *a);
    l->role = a;
    if (a == NULL)
        return -1;
    uint32_t max = open_max(l->o);
    a->since = MONO_NONE;
    a->lane_count = l->o->lanes;
    a->lanes = (struct lane *)calloc(a->lane_count, sizeof *a->lanes);
    a->bytes = slab_memory(sizeof(struct call), max) + 4096;
    a->memory = load__map(a->bytes);
    struct arena arena = arena_over(a->memory, a->bytes);
    if (a->lanes == NULL || a->memory == NULL ||
        slab_init(&a->open, &arena, sizeof(struct call), max) != 0) {
        fputs("weir load: no memory for so many calls\n", l->err);
        return -1;
    }
    choose_uri(l, a);
    a->pace.fn = on_pace;
    load__arm(l, &a->pace, mono_add(l->now, PATIENCE_NS));
    l->answers = load__answers_new(l);
    return l->answers == NULL ? -1 : begin_lanes(l, a);
}

static void progress(struct load *l, struct text *t)
{
    const struct stats *s = &l->stats;
    char bytes[24];
    text_put_u64(t, s->n[COUNT_offered]);
    TEXT_LIT(t, " calls");
    load__put_count(t, SLICE("answered"), s->n[COUNT_ok]);
    load__put_count(t, SLICE("503"), s->n[COUNT_refused]);
    load__put_count(t, SLICE("failed"), s->n[COUNT_failed]);
    load__put_count(t, SLICE("open"), s->up);
    load__put_count(t, SLICE("again"), s->n[COUNT_retries]);
    TEXT_LIT(t, "  p99 ");
    text_put(t, slice_cstr(load__report_us(histogram_quantile(&s->latency, 990), bytes)));
}

/* A call went well when it was answered and, once it was left, its BYE was. */
static void report(struct load *l, struct outcome *u)
{
    const struct stats *s = &l->stats;
    uint64_t unanswered = s->n[COUNT_in_dialog] - s->n[COUNT_in_dialog_ok];
    u->wanted = s->n[COUNT_offered] > 0 ? s->n[COUNT_offered] : 1;
    u->reached = s->n[COUNT_ok] > unanswered ? s->n[COUNT_ok] - unanswered : 0;
}

static void end(struct load *l)
{
    struct calls *a = all(l);
    for (uint32_t i = 0; a != NULL && a->lanes != NULL && i < a->lane_count; i++)
        load__conn_close(l, &a->lanes[i].conn, true);
    load__answers_free(l, l->answers);
    if (a == NULL)
        return;
    slab_done(&a->open);
    if (a->memory != NULL)
        (void)munmap(a->memory, a->bytes);
    free(a->lanes);
    free(a);
}

const struct role load__calls_role = {begin, progress, report, end};
