/* SPDX-License-Identifier: Apache-2.0
 *
 * The invariants that are watched at the edges' borders. Each looks only at what a bystander on the
 * wire could see, and keeps what it saw under a hash of who it belongs to. "Edge" in a key means
 * one life of it: nobody remembers anything across a restart.
 *
 *   SAW_REQUEST    edge, upstream branch, method   sources (3 hashes), Max-Forwards
 *   SAW_ANSWERED   edge, our branch, method        when the first response was stepped
 *   SAW_SENT       edge, our branch, method, dest  sends, first and last, by the edge's clock
 *   SAW_TRIES      edge, upstream branch           INVITEs newly sent for it; a refusal
 *   SAW_RINGING    edge, upstream branch, Call-ID  our branch whose provisional went upstream
 *   SAW_CANCELLED  edge, our branch
 *   SAW_CAUSES     edge, Call-ID, CSeq, method     messages in; responses out
 *   SAW_FORWARDS   Call-ID, CSeq                   INVITEs newly sent by all edges
 *   SAW_2XX        edge, our branch                when the first 2xx to INVITE was passed
 *   SAW_FINAL      edge, upstream branch, method   status of the first final sent upstream */
#include <stdlib.h>
#include "sim.h"

enum saw {
    SAW_REQUEST = 1,
    SAW_ANSWERED,
    SAW_SENT,
    SAW_TRIES,
    SAW_RINGING,
    SAW_CANCELLED,
    SAW_CAUSES,
    SAW_FORWARDS,
    SAW_FINAL,
    SAW_2XX,
};

enum {
    SOURCES_MAX = 3,
    INVITE_SENDS_MAX = 7, /* RFC 3261 17.1.1.2: 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s */
    OTHER_SENDS_MAX = 11, /* 17.1.2.2: up to T2 apart */
    FINAL_SENDS_MAX = 12, /* 17.2.1, timer G, and one more */
    FORWARDS_MAX = 70,
};

static const dur_ns t1 = 500 * NS_MS, t2 = 4 * NS_S;
static const dur_ns rounding = NS_MS; /* of the timer wheel */

struct seen {
    uint64_t key; /* 0 = empty cell */
    uint64_t hash[SOURCES_MAX];
    mono_ns first, last;
    uint32_t count;
    uint32_t out;
    int32_t hops;
};

/* What the checks need of one message. */
struct glance {
    bool ok;
    struct sip_msg m;
    struct sip_facts f;
    struct slice branch;     /* of the topmost Via */
    struct slice branch_2nd; /* of the one below it */
    bool udp_2nd;            /* it came from there as a datagram */
    int vias;
};

static uint64_t key_of(struct world *w, enum saw what, unsigned edge, struct slice a,
                       struct slice b, uint64_t number)
{
    uint64_t life = edge < EDGES ? (uint64_t)w->node[NODE_EDGE + edge].life << 8 | edge : 0xff;
    struct hash_seed seed = {life, (uint64_t)what};
    struct slice parts[3] = {a, b, slice_of(&number, sizeof number)};
    return siphash_parts(&seed, parts, 3) | 1;
}

static struct seen *look_up(struct world *w, uint64_t key, bool *ret_is_new)
{
    struct seen_table *t = &w->seen;
    if (t->live * 2 >= t->cap) {
        struct seen_table old = *t;
        t->cap = old.cap == 0 ? 2048 : old.cap * 2;
        t->live = 0;
        t->cells = calloc(t->cap, sizeof *t->cells);
        MUST(t->cells != NULL);
        for (uint32_t i = 0; i < old.cap; i++) {
            if (old.cells[i].key != 0)
                *look_up(w, old.cells[i].key, ret_is_new) = old.cells[i];
        }
        free(old.cells);
    }
    uint64_t i = key >> 7 & (t->cap - 1);
    while (t->cells[i].key != 0 && t->cells[i].key != key)
        i = (i + 1) & (t->cap - 1);
    *ret_is_new = t->cells[i].key == 0;
    if (*ret_is_new) {
        t->cells[i].key = key;
        t->live++;
    }
    return &t->cells[i];
}

static const struct seen *find(struct world *w, uint64_t key)
{
    struct seen_table *t = &w->seen;
    if (t->cap == 0)
        return NULL;
    uint64_t i = key >> 7 & (t->cap - 1);
    while (t->cells[i].key != 0 && t->cells[i].key != key)
        i = (i + 1) & (t->cap - 1);
    return t->cells[i].key != 0 ? &t->cells[i] : NULL;
}

void check_init(struct world *w)
{
    w->seen = (struct seen_table){0};
}

void check_done(struct world *w)
{
    free(w->seen.cells);
    w->seen = (struct seen_table){0};
}

static void look(struct glance *g, const char *p, size_t n, bool is_datagram)
{
    struct sip_fault fault;
    struct sip_via via;
    g->ok = false;
    g->vias = 0;
    g->branch = g->branch_2nd = SLICE_NONE;
    if (sip_index(&g->m, p, n, is_datagram, &fault) != 0)
        return;
    int r = g->m.is_request ? sip_check_request(&g->m, &g->f, &fault)
                            : sip_check_response(&g->m, &g->f, &fault);
    struct sip_values v = sip_values(&g->m, SIP_H_VIA);
    while (sip_next_value(&v)) {
        if (g->vias < 2 && sip_via_parse(sip_slice(&g->m, v.value), &via) == 0) {
            *(g->vias == 0 ? &g->branch : &g->branch_2nd) = via.branch;
            g->udp_2nd = via.transport == TP_UDP;
        }
        g->vias++;
    }
    g->ok = r == 0;
}

static bool is_2xx_of_invite(const struct glance *g)
{
    return g->ok && !g->m.is_request && g->f.method == SIP_M_INVITE && g->m.status >= 200 &&
           g->m.status < 300;
}

static uint64_t hash_of_place(const struct addr *a, struct flow_id flow)
{
    static const struct hash_seed seed = {1, 2};
    struct slice parts[2] = {slice_of(a, sizeof *a), slice_of(&flow.gen, sizeof flow.gen)};
    return siphash_parts(&seed, parts, 2);
}

uint64_t check_hash(struct slice s)
{
    static const struct hash_seed seed = {3, 4};
    return siphash(&seed, s.p, s.n);
}

static uint64_t call_key(struct world *w, enum saw what, unsigned edge, const struct glance *g)
{
    return key_of(w, what, edge, g->f.call_id, g->f.from_tag,
                  (uint64_t)g->f.cseq << 8 | (what == SAW_CAUSES ? g->f.method : 0));
}

static struct glance glance_in, glance_out;

/* The message inside an event, or false. */
static bool message_of(const struct event *ev, struct slice *ret_bytes, struct addr *ret_source,
                       struct flow_id *ret_flow, bool *ret_is_datagram)
{
    uint8_t kind = ev->kind;
    *ret_bytes = ev->bytes;
    *ret_source = ev->source;
    *ret_flow = ev->flow;
    if (kind == EV_HANDED) {
        struct hand h;
        memcpy(&h, ev->bytes.p, sizeof h);
        kind = h.kind;
        *ret_bytes = slice_drop(ev->bytes, sizeof h);
        *ret_source = h.source;
        *ret_flow = h.flow;
    }
    *ret_is_datagram = kind == EV_DATAGRAM;
    return kind == EV_DATAGRAM || kind == EV_MESSAGE;
}

static void see_request(struct world *w, unsigned edge, const struct addr *source,
                        struct flow_id flow)
{
    bool is_new;
    struct seen *s = look_up(
        w, key_of(w, SAW_REQUEST, edge, glance_in.branch, SLICE_NONE, glance_in.m.method), &is_new);
    uint64_t place = hash_of_place(source, flow);
    int hops = glance_in.f.max_forwards < 0 ? FORWARDS_MAX + 1 : glance_in.f.max_forwards;
    s->hops = is_new || hops > s->hops ? hops : s->hops;
    for (uint32_t i = 0; i < s->count && i < SOURCES_MAX; i++) {
        if (s->hash[i] == place)
            return;
    }
    if (s->count < SOURCES_MAX)
        s->hash[s->count] = place;
    s->count++;
}

/* The newest try was answered with a failure that is no reason to ask anybody else. */
static void see_refusal(struct world *w, unsigned edge)
{
    bool is_new;
    uint16_t status = glance_in.m.status;
    if (status < 300 || status == 408 || status == 430 || status == 503 ||
        glance_in.f.method != SIP_M_INVITE || glance_in.branch_2nd.n == 0)
        return;
    struct seen *tries = look_up(
        w, key_of(w, SAW_TRIES, edge, glance_in.branch_2nd, glance_in.f.call_id, glance_in.f.cseq),
        &is_new);
    if (tries->hash[0] == check_hash(glance_in.branch)) {
        tries->hops = status;
        tries->last = edge_now(w, edge);
    }
}

/* RFC 6026 7.2: for 64·T1 after the first, every 2xx of an INVITE is passed. (Over a stream, there
 * may be nobody left to pass it to.) */
static void see_2xx(struct world *w, unsigned edge)
{
    if (!is_2xx_of_invite(&glance_in) || !glance_in.udp_2nd)
        return;
    const struct seen *s =
        find(w, key_of(w, SAW_2XX, edge, glance_in.branch, SLICE_NONE, SIP_M_INVITE));
    w->owes_2xx = s != NULL && edge_now(w, edge) < s->first + 63 * t1;
}

/* RFC 3261 9.1: a CANCEL waits for the first provisional of what it is for. The caller's has come;
 * so has the provisional: the step that takes it sends ours, if it has not left already. */
static void see_cancel_due(struct world *w, unsigned edge)
{
    const struct glance *g = &glance_in;
    w->owes_cancel = false;
    if (g->m.status >= 200 || g->f.method != SIP_M_INVITE || w->plan.workers != 1)
        return;
    const struct seen *by_caller =
        find(w, key_of(w, SAW_REQUEST, edge, g->branch_2nd, SLICE_NONE, SIP_M_CANCEL));
    const struct seen *final =
        find(w, key_of(w, SAW_FINAL, edge, g->branch_2nd, g->f.from_tag, SIP_M_INVITE));
    const struct seen *tries =
        find(w, key_of(w, SAW_TRIES, edge, g->branch_2nd, g->f.call_id, g->f.cseq));
    uint64_t branch = check_hash(g->branch);
    bool cancelled =
        find(w, key_of(w, SAW_CANCELLED, edge, SLICE_NONE, SLICE_NONE, branch)) != NULL;
    w->owes_cancel = by_caller != NULL && final == NULL && tries != NULL &&
                     tries->hash[0] == branch && !cancelled;
}

void check_step_end(struct world *w, unsigned edge)
{
    if (w->owes_cancel)
        world_fail(w, "CANCEL: %s lets %.*s ring on though its caller has gone",
                   w->node[NODE_EDGE + edge].name, SLICE_ARG(glance_in.f.call_id));
    w->owes_cancel = false;
    if (w->owes_2xx)
        world_fail(w, "forward: %s keeps a 2xx of %.*s to itself", w->node[NODE_EDGE + edge].name,
                   SLICE_ARG(glance_in.f.call_id));
    w->owes_2xx = false;
}

/* Where nothing is lost, every INVITE that an edge gave up, or that was given up behind it, gets
 * its CANCEL: no phone rings for ever. */
void check_left_ringing(struct world *w, const struct serving *s)
{
    bool may_be_deaf = s->node == NODE_SERVER; /* the one that fails in a clean plan */
    if (w->plan.clean && s->invite && s->status < 200 && !w->plan.tiny && !may_be_deaf)
        world_fail(w, "left ringing: %s, call %s", w->node[s->node].name, s->dialog.call_id);
}

void check_edge_in(struct world *w, unsigned edge, const struct event *ev)
{
    struct slice bytes;
    struct addr source;
    struct flow_id flow;
    bool is_datagram, is_new;
    glance_in.ok = false;
    w->owes_2xx = w->owes_cancel = false;
    if (!message_of(ev, &bytes, &source, &flow, &is_datagram))
        return;
    look(&glance_in, bytes.p, bytes.n, is_datagram);
    if (!glance_in.ok)
        return;
    look_up(w, call_key(w, SAW_CAUSES, edge, &glance_in), &is_new)->count++;
    if (glance_in.m.is_request) {
        see_request(w, edge, &source, flow);
        return;
    }
    /* With two workers a response may be at the wrong one yet; then the hand-over tells. */
    if (w->plan.workers == 1 || ev->kind == EV_HANDED) {
        see_refusal(w, edge);
        see_2xx(w, edge);
        see_cancel_due(w, edge);
        struct seen *s = look_up(
            w, key_of(w, SAW_ANSWERED, edge, glance_in.branch, SLICE_NONE, glance_in.f.method),
            &is_new);
        if (is_new)
            s->first = edge_now(w, edge);
    }
}

/* RFC 3261 16.7 step 5: there is one final answer to a request, but every 2xx to an INVITE passes,
 * whatever went before: who sent it has a dialog that must be ended. An edge that had no room to
 * remember a request refused it without a transaction; when it comes again it may fare better. A
 * CANCEL lives as long as its INVITE's transaction: 200 before, 481 after. */
static void check_finals(struct world *w, unsigned edge)
{
    bool is_new;
    uint16_t status = glance_out.m.status;
    if (status < 200 || glance_out.branch.n == 0 || glance_out.f.method == SIP_M_CANCEL)
        return;
    struct seen *s = look_up(
        w,
        key_of(w, SAW_FINAL, edge, glance_out.branch, glance_out.f.from_tag, glance_out.f.method),
        &is_new);
    bool no_room =
        slice_equal(sip_slice(&glance_out.m, glance_out.m.reason), SLICE("Too Many Transactions"));
    bool passes = glance_out.f.method == SIP_M_INVITE && status < 300;
    mono_ns now = edge_now(w, edge);
    if (s->count > 0 && now < s->first + 64 * t1) {
        if (s->hops != status && !passes)
            world_fail(w, "two finals: branch %.*s is answered with %d and then with %u",
                       SLICE_ARG(glance_out.branch), s->hops, status);
    } else if (!no_room) {
        s->first = now;
        s->hops = status;
        s->count = 1;
    }
}

/* RFC 3261 16.7, 18.2.2: a response goes to where its request came from, and nowhere else. */
static void check_response_out(struct world *w, unsigned edge, const struct addr *dest,
                               struct flow_id flow)
{
    bool is_new;
    uint64_t place = hash_of_place(dest, flow);
    if (!glance_out.ok) {
        if (!addr_equal(dest, &w->event_source))
            world_fail(w, "response: an unreadable one goes to somebody else");
        return;
    }
    check_finals(w, edge);
    if (is_2xx_of_invite(&glance_in) && is_2xx_of_invite(&glance_out)) {
        w->owes_2xx = false;
        struct seen *passed = look_up(
            w, key_of(w, SAW_2XX, edge, glance_in.branch, SLICE_NONE, SIP_M_INVITE), &is_new);
        passed->first = is_new ? edge_now(w, edge) : passed->first;
    }
    /* RFC 3261 16.7: upstream would shun us for a server's trouble. */
    if (glance_out.m.status == 503 &&
        slice_equal(sip_slice(&glance_out.m, glance_out.m.reason), SLICE("Service Unavailable")))
        world_fail(w, "response: a server's 503 is passed on (%.*s)",
                   SLICE_ARG(glance_out.f.call_id));
    struct seen *causes = look_up(w, call_key(w, SAW_CAUSES, edge, &glance_out), &is_new);
    if (++causes->out > 2 * causes->count + FINAL_SENDS_MAX)
        world_fail(w, "response: %u sent for %u messages that came (Call-ID %.*s)", causes->out,
                   causes->count, SLICE_ARG(glance_out.f.call_id));
    if (addr_equal(dest, &w->event_source))
        return;
    const struct seen *s =
        find(w, key_of(w, SAW_REQUEST, edge, glance_out.branch, SLICE_NONE, glance_out.f.method));
    bool known = s != NULL && s->count > SOURCES_MAX;
    for (uint32_t i = 0; s != NULL && i < s->count && i < SOURCES_MAX; i++)
        known = known || s->hash[i] == place;
    if (!known)
        world_fail(w, "response: %u to branch %.*s goes where no such request came from",
                   glance_out.m.status, SLICE_ARG(glance_out.branch));
}

/* A provisional above 100 went upstream: from now on this try is the one. */
static void see_ringing(struct world *w, unsigned edge)
{
    bool is_new;
    if (!glance_out.ok || glance_out.f.method != SIP_M_INVITE || glance_out.m.status <= 100 ||
        glance_out.m.status >= 200)
        return;
    if (!glance_in.ok || glance_in.m.is_request ||
        !slice_equal(glance_in.f.call_id, glance_out.f.call_id))
        return;
    struct seen *s = look_up(
        w, key_of(w, SAW_RINGING, edge, glance_out.branch, glance_out.f.call_id, glance_out.f.cseq),
        &is_new);
    s->hash[0] = check_hash(glance_in.branch);
    s->last = edge_now(w, edge);
}

static void see_cancel(struct world *w, unsigned edge)
{
    bool is_new;
    uint64_t branch = check_hash(glance_out.branch);
    (void)look_up(w, key_of(w, SAW_CANCELLED, edge, SLICE_NONE, SLICE_NONE, branch), &is_new);
    w->owes_cancel = w->owes_cancel && branch != check_hash(glance_in.branch);
}

/* An INVITE with a branch that was not sent there before: a new try. */
static void check_new_try(struct world *w, unsigned edge)
{
    bool is_new;
    struct slice id = glance_out.f.call_id;
    const struct seen *ringing =
        find(w, key_of(w, SAW_RINGING, edge, glance_out.branch_2nd, id, glance_out.f.cseq));
    /* Who was cancelled does not ring any more. After Timer L an INVITE that comes once more is
     * another one. */
    bool cancelled = ringing != NULL && find(w, key_of(w, SAW_CANCELLED, edge, SLICE_NONE,
                                                       SLICE_NONE, ringing->hash[0])) != NULL;
    if (ringing != NULL && !cancelled && edge_now(w, edge) < ringing->last + 64 * t1)
        world_fail(w, "ringing twice: %.*s rang at one target and is sent to another",
                   SLICE_ARG(id));
    if (glance_out.branch_2nd.n > 0) {
        struct seen *tries = look_up(
            w, key_of(w, SAW_TRIES, edge, glance_out.branch_2nd, id, glance_out.f.cseq), &is_new);
        /* A stream that was chosen for the size alone may fall back to a datagram. */
        unsigned sends_each = w->plan.target_tcp == 2 ? 2 : 1;
        if (++tries->count > w->plan.pool.tries * sends_each)
            world_fail(w, "tries: %.*s is tried %u times", SLICE_ARG(id), tries->count);
        if (tries->hops != 0 && edge_now(w, edge) < tries->last + 64 * t1)
            world_fail(w, "failover: %.*s is sent on though it was answered %d", SLICE_ARG(id),
                       tries->hops);
        tries->hash[0] = check_hash(glance_out.branch);
    }
    if (w->plan.topology == TOPO_FACING) {
        struct seen *forwards =
            look_up(w, key_of(w, SAW_FORWARDS, EDGES, id, SLICE_NONE, glance_out.f.cseq), &is_new);
        if (++forwards->count > FORWARDS_MAX)
            world_fail(w, "loop: %.*s was forwarded %u times", SLICE_ARG(id), forwards->count);
    }
}

/* RFC 3261 17.1: when a request may be sent again. Lateness is forgiven, haste is not. */
static void check_resend(struct world *w, unsigned edge, struct seen *s, bool is_stream)
{
    bool invite = glance_out.m.method == SIP_M_INVITE;
    mono_ns now = edge_now(w, edge);
    struct slice branch = glance_out.branch;
    dur_ns gap = t1 << (s->count - 1 < 10 ? s->count - 1 : 10);
    if (!invite && gap > t2)
        gap = t2;
    if (is_stream)
        world_fail(w, "retransmission: %.*s is sent again on a stream", SLICE_ARG(branch));
    if (now + rounding < s->last + gap)
        world_fail(w, "retransmission: %.*s, send %u, comes %llu ms after the last instead of %llu",
                   SLICE_ARG(branch), s->count + 1, (now - s->last) / NS_MS, gap / NS_MS);
    if (s->count + 1 > (invite ? INVITE_SENDS_MAX : OTHER_SENDS_MAX))
        world_fail(w, "retransmission: %.*s is sent %u times", SLICE_ARG(branch), s->count + 1);
    if (now > s->first + 64 * t1 + rounding)
        world_fail(w, "retransmission: %.*s is sent again after timer B or F", SLICE_ARG(branch));
    const struct seen *answered =
        find(w, key_of(w, SAW_ANSWERED, edge, branch, SLICE_NONE, glance_out.m.method));
    if (invite && answered != NULL)
        world_fail(w, "retransmission: %.*s is sent again after it was answered",
                   SLICE_ARG(branch));
}

static void check_hops(struct world *w, unsigned edge)
{
    if (glance_out.branch_2nd.n == 0)
        return;
    const struct seen *came = find(
        w, key_of(w, SAW_REQUEST, edge, glance_out.branch_2nd, SLICE_NONE, glance_out.m.method));
    if (came == NULL) {
        world_fail(w, "forward: %.*s never came with branch %.*s",
                   SLICE_ARG(glance_out.m.method_name.len > 0
                                 ? sip_slice(&glance_out.m, glance_out.m.method_name)
                                 : SLICE_NONE),
                   SLICE_ARG(glance_out.branch_2nd));
        return;
    }
    if (glance_out.f.max_forwards < 0 || glance_out.f.max_forwards >= came->hops)
        world_fail(w, "Max-Forwards: came with %d, left with %d (Call-ID %.*s)", came->hops,
                   glance_out.f.max_forwards, SLICE_ARG(glance_out.f.call_id));
}

static void check_request_out(struct world *w, unsigned edge, const struct addr *dest,
                              bool is_stream, struct flow_id flow)
{
    bool is_new;
    uint8_t method = glance_out.m.method;
    if (!glance_out.ok) {
        world_fail(w, "request: an edge sends one that cannot be read");
        return;
    }
    if (method == SIP_M_CANCEL)
        see_cancel(w, edge);
    else
        check_hops(w, edge);
    if (method == SIP_M_ACK)
        return;
    struct seen *s = look_up(w,
                             key_of(w, SAW_SENT, edge, glance_out.branch, SLICE_NONE,
                                    hash_of_place(dest, flow) ^ method),
                             &is_new);
    mono_ns now = edge_now(w, edge);
    if (is_new) {
        s->first = now;
        if (method == SIP_M_INVITE)
            check_new_try(w, edge);
    } else {
        check_resend(w, edge, s, is_stream);
    }
    /* The table may have moved under `s`. */
    s = look_up(w,
                key_of(w, SAW_SENT, edge, glance_out.branch, SLICE_NONE,
                       hash_of_place(dest, flow) ^ method),
                &is_new);
    s->last = now;
    s->count++;
}

void check_edge_out(struct world *w, unsigned edge, const struct addr *dest, bool is_stream,
                    struct flow_id flow, const char *p, size_t n)
{
    if (slice_trim(slice_of(p, n)).n == 0) /* a pong */
        return;
    if (net_node_at(w, dest) == NONE && dest->port == TRAP_PORT)
        world_fail(w, "trap: an edge sends where only a stranger's Route or Via points");
    look(&glance_out, p, n, !is_stream);
    if (glance_out.m.is_request) {
        check_request_out(w, edge, dest, is_stream, flow);
        return;
    }
    check_response_out(w, edge, dest, flow);
    see_ringing(w, edge);
}

/* RFC 3261 16.7 step 3: all Vias but the asker's own are gone. */
void check_response_in(struct world *w, unsigned node, const struct sip_msg *m)
{
    unsigned vias = 0;
    struct sip_values v = sip_values(m, SIP_H_VIA);
    while (sip_next_value(&v))
        vias++;
    if (vias != 1)
        world_fail(w, "response: %s gets one with %u Vias", w->node[node].name, vias);
}

/* An INVITE arrives as it left, but for the lines that edges must write. */
static void check_unchanged(struct world *w, const struct sip_msg *m, const struct sip_facts *f)
{
    uint64_t call;
    struct slice rest = slice_drop(f->call_id, 1);
    if (!slice_starts_with(f->call_id, SLICE("c")) ||
        text_parse_u64(slice_take(rest, slice_find(rest, '-')), CALLS_MAX - 1, &call) != 0)
        return;
    if (w->call[call].body_hash != check_hash(sip_slice(m, m->body)))
        world_fail(w, "forward: the body of %.*s arrives changed", SLICE_ARG(f->call_id));
    unsigned odd = 0;
    for (unsigned i = 0; i < m->header_count; i++) {
        const struct sip_header *h = &m->h[i];
        odd += slice_equal(slice_of(m->p + h->line, h->name_len), SLICE(ODD_HEADER_NAME)) &&
               slice_equal(sip_slice(m, h->value), SLICE(ODD_HEADER_VALUE));
    }
    if (odd != 1)
        world_fail(w, "forward: a header of %.*s that no edge knows arrives changed",
                   SLICE_ARG(f->call_id));
}

void check_server_in(struct world *w, unsigned node, const struct sip_msg *m,
                     const struct sip_facts *f)
{
    if (slice_starts_with(f->call_id, SLICE("evil")) && !w->plan.strip_routes)
        world_fail(w, "route trust: %s was reached by a Route that a stranger wrote (%.*s)",
                   w->node[node].name, SLICE_ARG(f->call_id));
    if (sip_has(m, SIP_H_ROUTE) && slice_starts_with(f->call_id, SLICE("evil")))
        world_fail(w, "route trust: a stranger's Route was passed on (%.*s)",
                   SLICE_ARG(f->call_id));
    if (m->method == SIP_M_INVITE && f->to_tag.n == 0)
        check_unchanged(w, m, f);
}

void check_log(struct world *w, unsigned edge, struct slice record)
{
    struct log_record r;
    if (record.n < sizeof r) {
        world_fail(w, "log: a record of %zu bytes", record.n);
        return;
    }
    memcpy(&r, record.p, sizeof r);
    size_t text = 0;
    for (unsigned i = 0; i < 8; i++)
        text += r.len[i];
    if (record.n < sizeof r + text)
        world_fail(w, "log: %zu bytes of text in a record of %zu", text, record.n);
    if (r.final_us != UINT32_MAX && r.first_us != UINT32_MAX && r.final_us < r.first_us)
        world_fail(w, "log: the final answer came before the first");
    trace_mix(w, (uint64_t)r.status << 32 | (uint64_t)r.tries << 16 |
                     (uint64_t)(uint8_t)r.end_who << 8 | (uint8_t)r.end_phase);
    TRACE(w, NODE_EDGE + edge, "log: %u after %u tries, %c%c", r.status, r.tries, r.end_who,
          r.end_phase);
}

/* Where one server of three is all that may fail, and health is watched, it costs no call: unless
 * it rang there already, or the clock jumped over the deadlines. */
void check_set_up(struct world *w, const struct call *c)
{
    const struct plan *p = &w->plan;
    bool edges_fault = c->status == 408 || c->status >= 500;
    bool jumped = w->edge[0].skew + w->edge[1].skew > 0;
    if (!p->clean || !p->health || p->tiny || p->storm || p->topology == TOPO_FACING || c->rang ||
        jumped || c->cancel_after != 0 || !edges_fault || c->status == 603)
        return;
    for (unsigned i = 1; i < SERVERS; i++) { /* a slow one without a 100 looks like a dead one */
        if (w->server[i].fails_by_nature || w->server[i].skips_trying)
            return;
    }
    /* A server that forgot the call and is alive again looks like one that still thinks. */
    if (c->status == 408 && w->node[NODE_SERVER].life > 0)
        return;
    world_fail(w, "set-up: call %s ended with %u though only one server of three fails",
               c->dialog.call_id, c->status);
}

static void check_call(struct world *w, const struct call *c)
{
    const char *id = c->dialog.call_id;
    if (c->state != CALL_OVER)
        world_fail(w, "liveness: call %s never ended", id);
    if (c->is_long && c->bye_status != 0 && c->bye_status != 200 && c->bye_status != 481)
        world_fail(w, "liveness: the BYE of %s, sent when all was well, ended with %u", id,
                   c->bye_status);
    if (!c->must_succeed)
        return;
    bool fine = w->plan.topology == TOPO_FACING
                    ? c->status == 482 || c->status == 483 || c->status >= 500
                    : c->status == 200 || (c->kind == CALL_OPTIONS && c->status == 501);
    if (!fine)
        world_fail(w, "liveness: call %s began when all was well and ended with %u", id, c->status);
    if (c->kind != CALL_INVITE || c->status != 200)
        return;
    if (c->hangs_up && c->bye_status != 200)
        world_fail(w, "liveness: the BYE of call %s ended with %u", id, c->bye_status);
    if (!c->hangs_up && !c->bye_came)
        world_fail(w, "liveness: no BYE came for call %s", id);
}

void check_end(struct world *w)
{
    for (uint32_t i = 0; i < w->call_count && !w->failed; i++)
        check_call(w, &w->call[i]);
    for (unsigned e = 0; e < EDGES; e++) {
        for (unsigned i = 0; i < w->plan.workers && !w->failed; i++) {
            if (w->edge[e].worker[i].engine == NULL)
                continue;
            struct engine_load l = engine_load(w->edge[e].worker[i].engine);
            if (l.relays != 0 || l.tries != 0 || l.blocks != 0 || l.flows != 0 ||
                l.relays_open != 0)
                world_fail(w,
                           "leak: %s worker %u keeps %u relays (%u open), %u tries, %u blocks, "
                           "%u flows after everything ended",
                           w->node[NODE_EDGE + e].name, i, l.relays, l.relays_open, l.tries,
                           l.blocks, l.flows);
            if (w->failed)
                edge_dump(w, e);
        }
    }
}
