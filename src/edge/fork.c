/* SPDX-License-Identifier: Apache-2.0
 *
 * A call to a registered user (RFC 3261 16.6, 16.7): to all phones of the highest q at once, then
 * to those of the next. A phone may have several ways (RFC 5626): they are alternatives, one at a
 * time.
 *
 *      INVITE alice@… ──▶ relay ──┬── phone 1 ── way 0   430, gone, silent ─▶ way 1
 *                                 │               rings: way 1 is never tried
 *                                 ├── phone 2 ── way 2   486 ┐
 *                                 └── phone 3 ── way 3   603 ┴ the best of all finals goes up
 *
 * Each branch has its own Request-URI and Route, so it keeps its own bytes (try.sent).
 * relay.request holds the request as it came, for answers and for branches to come. */
#include "edge/edge_int.h"

/* One struct reg_target as it is kept; the text of its Contact and Path follows. */
struct way {
    uint64_t binding;
    struct flow_id flow;
    struct addr source;
    uint32_t phone;
    uint32_t contact_bytes, path_bytes;
    uint16_t q;
    uint8_t transport;
    uint8_t listener;
    bool direct;
};

struct ways {
    unsigned count;
    struct way way[REGISTRAR_TARGETS_MAX];
    struct slice contact[REGISTRAR_TARGETS_MAX];
    struct slice path[REGISTRAR_TARGETS_MAX];
};

/* A flow that is up, and a phone that does not even say 100: after this long the next way of that
 * phone has its turn, if it has one. */
static const dur_ns silence_ends_way = 5 * NS_S;

enum { BREADTH_DEFAULT = 60, LAUNCH_ACTIONS_ROOM = 12, LAUNCH_SCRATCH_ROOM = 160 * 1024 };

/* What a 401 or 407 may grow to by the challenges of other phones. */
enum { MERGED_BYTES_MAX = 8192, MERGED_LINES_MAX = 96 };
_Static_assert((int)MERGED_LINES_MAX < (int)SIP_HEADERS_MAX, "the next hop has to read it");

/* ---- ways ------------------------------------------------------------------------------------ */

static bool keep_ways(struct edge *e, struct relay *r, const struct reg_target *target, unsigned n)
{
    struct text t = scratch_text(e, block_class_bytes[BLOCK_CLASSES - 1]);
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct reg_target *from = &target[i];
        size_t before = t.n;
        struct way w;
        memset(&w, 0, sizeof w);
        w.binding = from->binding;
        w.flow = from->flow;
        w.source = from->source;
        w.phone = from->phone;
        w.contact_bytes = (uint32_t)from->contact.n;
        w.path_bytes = (uint32_t)from->path.n;
        w.q = from->q;
        w.transport = from->transport;
        w.listener = from->listener;
        w.direct = from->direct;
        text_put(&t, slice_of(&w, sizeof w));
        text_put(&t, from->contact);
        text_put(&t, from->path);
        if (!text_fits(&t)) {
            t.n = before;
            break;
        }
        kept++;
    }
    r->fork.ways = (uint8_t)kept;
    return kept > 0 && blocks_keep(&e->blocks, text_slice(&t), &r->hops) == 0;
}

/* Reads them again: good as long as the block is. None after the final. */
static void read_ways(const struct edge *e, const struct relay *r, struct ways *ret)
{
    struct slice rest = r->answered ? SLICE_NONE : blocks_slice(&e->blocks, r->hops);
    ret->count = 0;
    for (unsigned i = 0; i < r->fork.ways && rest.n >= sizeof(struct way); i++) {
        struct way *w = &ret->way[i];
        memcpy(w, rest.p, sizeof *w);
        rest = slice_drop(rest, sizeof *w);
        ret->contact[i] = slice_take(rest, w->contact_bytes);
        rest = slice_drop(rest, w->contact_bytes);
        ret->path[i] = slice_take(rest, w->path_bytes);
        rest = slice_drop(rest, w->path_bytes);
        if (i > 0 && ret->way[i - 1].phone == w->phone)
            w->q = ret->way[i - 1].q; /* a phone rings with its best */
        ret->count = i + 1;
    }
}

static uint32_t bit(unsigned way)
{
    return way < REGISTRAR_TARGETS_MAX ? 1U << way : 0;
}

static uint32_t phone_bits(const struct ways *all, unsigned way)
{
    uint32_t bits = 0;
    for (unsigned i = 0; way < all->count && i < all->count; i++)
        if (all->way[i].phone == all->way[way].phone)
            bits |= bit(i);
    return bits;
}

/* The ways that are waited for. */
static uint32_t live_ways(const struct edge *e, const struct relay *r)
{
    uint32_t live = r->fork.resolving;
    for (uint32_t slot = r->first_try; slot != NO_TRY;) {
        const struct try *t = try_at(e, slot);
        slot = t->older;
        if (try_is_live(t))
            live |= bit(t->way);
    }
    return live;
}

/* The way whose turn it is; NO_WAY when it is nobody's now. */
static unsigned next_way(const struct edge *e, struct relay *r, const struct ways *all)
{
    uint32_t live = live_ways(e, r), busy = 0;
    unsigned abreast = 0;
    for (unsigned i = 0; i < all->count; i++) {
        if ((live & bit(i)) == 0)
            continue;
        busy |= phone_bits(all, i);
        abreast++;
    }
    if (abreast >= r->fork.abreast)
        return NO_WAY;
    uint32_t open = ~r->fork.spent;
    unsigned best = NO_WAY;
    for (unsigned i = 0; i < all->count; i++)
        if ((open & bit(i)) != 0 && (live == 0 || all->way[i].q >= r->fork.q) &&
            (busy & bit(i)) == 0 && (best == NO_WAY || all->way[i].q > all->way[best].q))
            best = i;
    if (best != NO_WAY && live == 0)
        r->fork.q = all->way[best].q;
    return best;
}

bool fork_has_alternative(struct edge *e, const struct relay *r, const struct try *t)
{
    struct ways all;
    read_ways(e, r, &all);
    return (phone_bits(&all, t->way) & ~r->fork.spent) != 0;
}

static void spend_phone(struct edge *e, struct relay *r, unsigned way)
{
    struct ways all;
    read_ways(e, r, &all);
    r->fork.spent |= phone_bits(&all, way) | bit(way);
}

/* ---- the best final -------------------------------------------------------------------------- */

/* RFC 3261 16.7 step 6, the best first. What says that only a way has failed comes last. */
static unsigned rank_of(int status)
{
    if (status >= 600)
        return 0;
    switch (status) {
    case 401:
    case 407:
    case 415:
    case 420:
    case 484:
        return 2;
    case 408:
    case 430:
    case 503:
        return 9;
    default:
        return status < 400 ? 1 : status < 500 ? 3 : 4;
    }
}

static bool is_challenge(int status)
{
    return status == 401 || status == 407;
}

/* The challenges of `m` go behind those of `best`: as many as `t` has room for, and `lines`. */
static void put_challenges(struct text *t, const struct sip_msg *m, unsigned lines)
{
    for (unsigned i = 0; i < m->header_count && lines > 0; i++) {
        const struct sip_header *h = &m->h[i];
        size_t before = t->n;
        if (h->id != SIP_H_WWW_AUTHENTICATE && h->id != SIP_H_PROXY_AUTHENTICATE)
            continue;
        text_put(t, slice_of(m->p + h->line, h->line_end - h->line));
        if (!text_fits(t)) {
            t->n = before;
            return;
        }
        lines--;
    }
}

/* RFC 3261 16.7 step 7: whoever is to log in at several phones needs the challenges of all, and
 * each in the words of its phone. e->msg is a 401 or 407 that is not the best; the best is one. */
static void merge_challenges(struct edge *e, struct relay *r)
{
    struct slice best = blocks_slice(&e->blocks, r->fork.best);
    struct sip_fault fault;
    if (sip_index(&e->kept, best.p, best.n, true, &fault) != 0 || best.n >= MERGED_BYTES_MAX ||
        e->kept.header_count >= MERGED_LINES_MAX)
        return;
    struct text lines = scratch_text(e, MERGED_BYTES_MAX - best.n);
    put_challenges(&lines, &e->msg, MERGED_LINES_MAX - e->kept.header_count);
    scratch_keep(e, &lines);
    if (lines.n == 0)
        return;
    sip_edits_init(&e->edits, &e->kept);
    sip_push_header(&e->edits, text_slice(&lines));
    struct slice merged = serialise_edited(e);
    block_ref both;
    if (merged.n == 0 || blocks_keep(&e->blocks, merged, &both) != 0)
        return;
    blocks_release(&e->blocks, &r->fork.best);
    r->fork.best = both;
}

/* `bytes` empty: a final that nobody sent. */
static void note_final(struct edge *e, struct relay *r, int status, struct slice bytes)
{
    if (is_challenge(status) && is_challenge(r->fork.best_status) && bytes.n > 0 &&
        blocks_slice(&e->blocks, r->fork.best).n > 0) {
        merge_challenges(e, r);
        return;
    }
    if (r->fork.best_status != 0 && rank_of(r->fork.best_status) <= rank_of(status))
        return;
    blocks_release(&e->blocks, &r->fork.best);
    r->fork.best_status = (uint16_t)status;
    if (bytes.n > 0 && blocks_keep(&e->blocks, bytes, &r->fork.best) != 0)
        r->fork.best = BLOCK_NONE; /* then its status alone goes up */
}

static void answer_unavailable(struct edge *e, struct relay *r, int cause)
{
    if (r->method != SIP_M_INVITE && e->now >= mono_add(r->arrived, 64 * e->opts->timers.t1)) {
        /* RFC 4320: whoever asked has given up already. */
        log_end(e, r, 0, 'T', phase_of(e, r), SLICE("No Answer"));
        relay_ends_silently(e, r);
        return;
    }
    struct text t = scratch_text(e, 64);
    TEXT_LIT(&t, "Reason: SIP;cause=");
    text_put_u64(&t, (uint64_t)cause);
    TEXT_LIT(&t, "\r\n");
    scratch_keep(e, &t);
    char who = cause == 408 ? 'T' : cause == 430 ? 'N' : 'S';
    log_end(e, r, 480, who, phase_of(e, r), SLICE("No Phone Answered"));
    relay_answer(e, r, 480, SLICE_NONE, text_slice(&t));
}

/* Nothing is left to wait for. */
static void fork_ends(struct edge *e, struct relay *r)
{
    int status = r->fork.best_status;
    if (r->cancelled) {
        log_end(e, r, 487, 'C', phase_of(e, r), SLICE_NONE);
        relay_answer(e, r, 487, SLICE_NONE, SLICE_NONE);
        return;
    }
    if (status == 503 && r->tries == 0) {
        answer_no_room(e, r);
        return;
    }
    if (status == 0 || rank_of(status) == 9) {
        answer_unavailable(e, r, status == 0 ? 408 : status);
        return;
    }
    r->target_status = (uint16_t)status;
    log_end(e, r, status, 'S', phase_of(e, r), SLICE_NONE);
    struct slice bytes = scratch_copy(e, blocks_slice(&e->blocks, r->fork.best));
    if (bytes.n == 0) {
        relay_answer(e, r, status, SLICE_NONE, SLICE_NONE);
        return;
    }
    relay_send_up(e, r, status, bytes);
    relay_settle(e, r);
}

/* ---- launching ------------------------------------------------------------------------------- */

/* The Request-URI is the Contact without what does not belong there (RFC 3261 19.1.1). */
static struct slice request_uri(struct slice contact)
{
    struct sip_uri u;
    if (sip_uri_parse(contact, &u) != 0)
        return SLICE_NONE;
    return u.headers.n > 0 ? slice_take(contact, contact.n - u.headers.n - 1) : contact;
}

static void edit_route(struct edge *e, struct slice path)
{
    sip_drop_headers(&e->edits, SIP_H_ROUTE);
    if (path.n == 0)
        return;
    struct text t = scratch_text(e, SIP_HEAD_BYTES_MAX);
    TEXT_LIT(&t, "Route: ");
    text_put(&t, path);
    TEXT_LIT(&t, "\r\n");
    scratch_keep(e, &t);
    sip_push_header(&e->edits, text_fits(&t) ? text_slice(&t) : SLICE_NONE);
}

static void edit_breadth(struct edge *e, const struct relay *r)
{
    struct text t = scratch_text(e, 4);
    text_put_u64(&t, r->fork.breadth);
    scratch_keep(e, &t);
    sip_set_header(&e->edits, SIP_H_MAX_BREADTH, text_slice(&t), &e->out->scratch);
}

static struct try *newest_of(struct edge *e, const struct relay *r, unsigned way)
{
    struct try *t = newest_try(e, r);
    return t != NULL && t->way == way ? t : NULL;
}

/* Sends one branch. `path`: what is left of the way's Path. */
static enum launch launch_way(struct edge *e, struct relay *r, const struct ways *all, unsigned i,
                              const struct hop *hop, struct slice path)
{
    struct slice uri = request_uri(all->contact[i]);
    if (uri.n == 0)
        return LAUNCH_UNREACHABLE;
    if (!relay_index_kept(e, r))
        return LAUNCH_NO_ROOM;
    edits_begin(e, &e->kept, r->own_vias);
    sip_edit_replace(&e->edits, e->kept.uri, uri);
    edit_route(e, path);
    edit_breadth(e, r);
    enum launch result = launch(e, r, hop, (uint8_t)i);
    struct try *t = newest_of(e, r, i);
    if (result != LAUNCHED || t == NULL)
        return result;
    if ((phone_bits(all, i) & ~r->fork.spent) != 0) {
        t->no_answer_at = mono_add(e->now, silence_ends_way);
        try_arm(e, t);
    }
    return result;
}

/* What a way that could not be taken says. */
static void note_launch(struct edge *e, struct relay *r, const struct way *w, enum launch result)
{
    /* Over UDP: somebody else has registered from there. */
    bool over = w->flow.gen != 0 ||
                (w->flow.worker == e->worker && phones_at(e->phones, w->listener, &w->source) != 0);
    if (result == LAUNCH_UNREACHABLE && w->direct && over) {
        e->count.flows_failed++;
        role_binding_gone(e, w->binding);
    }
    e->count.ways_failed++;
    int status = result == LAUNCH_UNREACHABLE ? 430 : result == LAUNCH_TOO_LARGE ? 513 : 503;
    note_final(e, r, status, SLICE_NONE);
}

/* Down the very flow that the phone registered over. */
static struct hop direct_hop(struct edge *e, const struct way *w)
{
    const struct edge_listener *l = &e->opts->listener[w->listener % LISTENERS_MAX];
    bool listens = w->listener < LISTENERS_MAX && l->used && l->transport == w->transport;
    return (struct hop){.addr = w->source,
                        .flow = w->flow,
                        .transport = w->transport,
                        .side = side_of(e, w->listener, &w->source, w->flow),
                        .fixed_flow = true,
                        .listener = listens ? w->listener : LISTENER_NONE};
}

/* The first value of a Path as it was kept, a comma list; *path: what follows it. */
static struct slice take_value(struct slice *path)
{
    bool quoted = false, bracketed = false;
    size_t n = 0;
    for (; n < path->n; n++) {
        char c = path->p[n];
        if (quoted && c == '\\')
            n++;
        else if (c == '"' && !bracketed)
            quoted = !quoted;
        else if (!quoted && (c == '<' || c == '>'))
            bracketed = c == '<';
        else if (!quoted && !bracketed && c == ',')
            break;
    }
    struct slice value = slice_trim(slice_take(*path, n));
    *path = slice_trim(slice_drop(*path, n + 1));
    return value;
}

/* Where a binding that is not ours alone leads: by its Path, or else by its Contact. */
static void where_by_path(struct edge *e, struct where *w, struct slice contact, struct slice *path)
{
    struct sip_uri u;
    struct slice first = contact, rest = *path;
    memset(w, 0, sizeof *w);
    w->kind = WHERE_REFUSED;
    if (path->n > 0) {
        struct sip_nameaddr na;
        if (sip_nameaddr_parse(take_value(&rest), &na) != 0)
            return;
        first = na.uri;
    }
    if (sip_uri_parse(first, &u) == 0 && route_to_uri(e, w, &u))
        *path = rest;
}

/* True: it is under way. */
static bool start_way(struct edge *e, struct relay *r, const struct ways *all, unsigned i)
{
    const struct way *w = &all->way[i];
    enum launch result = LAUNCH_UNREACHABLE;
    r->fork.spent |= bit(i);
    if (w->direct) {
        struct hop hop = direct_hop(e, w);
        bool stream = w->transport != TP_UDP;
        if (stream ? w->flow.gen != 0 : hop.listener != LISTENER_NONE)
            result = launch_way(e, r, all, i, &hop, SLICE_NONE);
    } else {
        struct where to;
        struct slice path = all->path[i];
        where_by_path(e, &to, all->contact[i], &path);
        if (to.kind == WHERE_NAME) {
            r->fork.resolving |= bit(i);
            relay_resolve(e, r, &to, i);
            return true;
        }
        if (to.kind == WHERE_HOP)
            result = launch_way(e, r, all, i, &to.hop, path);
    }
    if (result != LAUNCHED)
        note_launch(e, r, w, result);
    return result == LAUNCHED;
}

static bool step_has_room(const struct edge *e)
{
    const struct actions *out = e->out;
    return out->count + LAUNCH_ACTIONS_ROOM <= STEP_ACTIONS_MAX &&
           out->iov_count + LAUNCH_ACTIONS_ROOM <= STEP_IOV_MAX &&
           out->scratch.cap - out->scratch.used >= LAUNCH_SCRATCH_ROOM;
}

/* Launches whatever may be launched now, and ends when nothing is waited for. */
void fork_go(struct edge *e, struct relay *r)
{
    struct ways all;
    r->fork_due = false;
    if (r->answered)
        return;
    if (relay_is_late(e, r))
        r->fork.spent = UINT32_MAX; /* nobody new is asked */
    read_ways(e, r, &all);
    for (;;) {
        unsigned i = next_way(e, r, &all);
        if (i == NO_WAY)
            break;
        if (!step_has_room(e)) {
            r->fork_due = true;
            relay_arm(e, r);
            return;
        }
        (void)start_way(e, r, &all, i);
    }
    if (live_ways(e, r) == 0)
        fork_ends(e, r);
}

/* RFC 5393 5.3.3: what one branch may spread to, and how many go abreast. */
static void share_breadth(struct edge *e, struct relay *r, const struct reg_target *target,
                          unsigned n)
{
    unsigned phones = 0;
    for (unsigned i = 0; i < n; i++)
        phones += i == 0 || target[i].phone != target[i - 1].phone;
    int breadth = e->facts.max_breadth >= 0 ? e->facts.max_breadth : BREADTH_DEFAULT;
    if (breadth > UINT8_MAX)
        breadth = UINT8_MAX;
    if ((unsigned)breadth < phones) {
        r->fork.abreast = (uint8_t)breadth;
        r->fork.breadth = 1;
    } else {
        r->fork.abreast = (uint8_t)phones;
        r->fork.breadth = (uint8_t)((unsigned)breadth / phones);
    }
}

/* e->msg is for somebody whom we know. e->edits are ready. */
void fork_begin(struct edge *e, struct relay *r, const struct where *w)
{
    struct reg_target target[REGISTRAR_TARGETS_MAX];
    bool known = true;
    unsigned n = registrar_lookup(e->registrar, w->aor, &w->target, e->now, target,
                                  REGISTRAR_TARGETS_MAX, &known);
    if (!keep_prepared(e, r)) {
        refuse_unkept(e, r);
        return;
    }
    r->forks = true;
    r->fork = (struct fork){.best = BLOCK_NONE};
    if (n == 0) {
        int status = known ? 480 : 404;
        log_end(e, r, status, 'P', phase_of(e, r), SLICE("Not Registered"));
        relay_answer(e, r, status, SLICE_NONE, SLICE_NONE);
        return;
    }
    if (!keep_ways(e, r, target, n)) {
        answer_no_room(e, r);
        return;
    }
    share_breadth(e, r, target, n);
    e->count.calls_to_phones++;
    fork_go(e, r);
}

static void ends_resolving(struct relay *r, uint32_t ways)
{
    r->fork.resolving &= ~ways;
    r->resolving = r->fork.resolving != 0;
    if (!r->resolving && !r->cancelled)
        r->give_up_at = MONO_NONE;
}

void fork_resolved(struct edge *e, struct relay *r, unsigned way, const struct event *ev)
{
    struct ways all;
    unsigned i = way;
    if ((r->fork.resolving & bit(i)) == 0)
        return;
    ends_resolving(r, bit(i));
    enum launch result = LAUNCH_UNREACHABLE;
    read_ways(e, r, &all);
    for (unsigned k = 0; i < all.count && k < ev->addr_count && result != LAUNCHED; k++) {
        const struct resolved *to = &ev->addrs[k];
        if (!addr_is_unicast(&to->addr) || r->cancelled)
            continue;
        struct hop hop = {.addr = to->addr,
                          .transport = to->transport,
                          .side = hop_side(e, &to->addr),
                          .has_tcp = true,
                          .listener = LISTENER_NONE};
        result = launch_way(e, r, &all, i, &hop, all.path[i]);
    }
    if (result != LAUNCHED && i < all.count)
        note_launch(e, r, &all.way[i], result);
    fork_go(e, r);
}

/* See relay_retry_udp(): the same branch, by datagram. */
bool fork_retry_udp(struct edge *e, struct relay *r, struct try *t)
{
    struct ways all;
    struct where to;
    struct hop hop = t->hop;
    unsigned i = t->way;
    read_ways(e, r, &all);
    if (i >= all.count || r->cancelled)
        return false;
    struct slice path = all.path[i];
    where_by_path(e, &to, all.contact[i], &path);
    hop.transport = TP_UDP;
    hop.listener = LISTENER_NONE;
    hop.flow = FLOW_NONE;
    hop.has_tcp = false;
    try_free(e, t);
    r->tries--;
    enum launch result = launch_way(e, r, &all, i, &hop, path);
    if (result != LAUNCHED)
        note_launch(e, r, &all.way[i], result);
    fork_go(e, r);
    return true;
}

/* ---- what becomes of branches ---------------------------------------------------------------- */

/* It is this phone that rings: its other ways must not ring beside it. */
void fork_rings(struct edge *e, struct relay *r, const struct try *t)
{
    spend_phone(e, r, t->way);
}

/* Nobody new is asked, and who was asked is told so. A branch that nothing was heard of cannot be
 * told yet (RFC 3261 9.1), and nobody waits for it: should it be heard of, its CANCEL goes then. */
static void call_back(struct edge *e, struct relay *r)
{
    r->fork.spent = UINT32_MAX;
    r->fork.resolving = 0;
    r->resolving = false;
    for (uint32_t slot = r->first_try; slot != NO_TRY;) {
        struct try *t = try_at(e, slot);
        slot = t->older;
        if (!try_is_live(t))
            continue;
        if (r->method == SIP_M_INVITE)
            try_cancel(e, t);
        mono_ns again = t->client.retransmit_at;
        if (t->client.state != TXN_PROCEEDING || r->method != SIP_M_INVITE)
            try_outlive(e, t);
        if (t->want_cancel) { /* perhaps its provisional was lost: the INVITE asks again */
            t->client.retransmit_at = again;
            try_arm(e, t);
        }
    }
}

/* A branch brought a final that is no success; `bytes`: as it would go up. */
void fork_failed(struct edge *e, struct relay *r, const struct try *t, struct slice bytes)
{
    int status = e->msg.status;
    unsigned way = t->way;
    bool only_the_way = status == 430 || (!t->rings && (status == 408 || status == 503));
    r->target_status = (uint16_t)status;
    note_final(e, r, status, bytes);
    if (status == 430) {
        struct ways all;
        read_ways(e, r, &all);
        if (way < all.count)
            role_binding_gone(e, all.way[way].binding);
    }
    if (only_the_way)
        e->count.ways_failed++;
    else
        spend_phone(e, r, way);
    if (status >= 600)
        call_back(e, r);
    fork_go(e, r);
}

/* A branch came to nothing: `status` 0 no answer, -1 no connection. */
void fork_way_failed(struct edge *e, struct relay *r, struct try *t, int status)
{
    if (status < 0 && t->hop.fixed_flow && t->hop.flow.gen != 0) {
        struct ways all;
        read_ways(e, r, &all);
        e->count.flows_failed++;
        if (t->way < all.count)
            role_binding_gone(e, all.way[t->way].binding);
    }
    try_outlive(e, t);
    if (r->answered)
        return;
    e->count.ways_failed++;
    note_final(e, r, status < 0 ? 430 : 408, SLICE_NONE);
    fork_go(e, r);
}

void fork_cancelled(struct edge *e, struct relay *r)
{
    r->give_up_at = mono_add(e->now, 64 * e->opts->timers.t1);
    call_back(e, r);
    relay_arm(e, r);
    fork_go(e, r);
}

/* Timer C, a CANCEL that nobody heeds, a name that nobody knows. */
void fork_gives_up(struct edge *e, struct relay *r)
{
    bool timer_c = e->now >= r->timer_c_at;
    r->give_up_at = MONO_NONE;
    if (r->resolving && !timer_c && !r->cancelled) {
        ends_resolving(r, UINT32_MAX);
        note_final(e, r, 408, SLICE_NONE);
        fork_go(e, r);
        return;
    }
    r->timer_c_at = MONO_NONE;
    call_back(e, r);
    for (uint32_t slot = r->first_try; slot != NO_TRY;) {
        struct try *t = try_at(e, slot);
        slot = t->older;
        if (try_is_live(t))
            try_outlive(e, t);
    }
    note_final(e, r, 408, SLICE_NONE);
    fork_go(e, r);
}
