/* SPDX-License-Identifier: Apache-2.0
 *
 * The door: who comes in, who goes for it, and whose handshake is next. What costs least is asked
 * first, and what costs most (a handshake) is bounded in each turn, so that calls go on whatever
 * stands before the door:
 *
 *      backlog ─ pace? ─▶ accept ─ guard? ─▶ a slot, or who is least worth one
 *                                              │ PROXY header, where one has to come
 *                                              ▼
 *                        first bytes of TLS: room, pace and time in this turn? ─▶ handshake
 *                                              └ no: waits, unread ─▶ known ones first,
 *                                                                     newest first in a crowd
 *
 * Newest first: a client that hears nothing for some seconds leaves, and comes back with a new
 * connection. Once the queue is longer than its patience, whoever is served in order has just left,
 * and nobody gets in at all. Who waits costs a slot and no memory of TLS, and is watched only for
 * its leaving. Listeners are watched edge-triggered: to rest, and to go on, takes no system call.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

enum {
    ACCEPTS_PER_TURN = 64,
    LEFT_PER_TURN = 128,   /* of those who wait: found to have left */
    WAITS_WITHIN_MAX = 10, /* handshakes' times that one may wait for its turn */
    PATIENT_MS = 1000,     /* nobody leaves sooner than that */
    EVICT_LOOKS = 16,
    SPARE_LOOKS = 64,
    SILENT_MS_MIN = 1000, /* nobody is evicted before it could have said something */
};
#define SPARE_IDLE      (10 * NS_S)
#define SPARE_PAUSE     (100 * NS_MS)
#define ACCEPT_PAUSE_NS (100 * NS_MS)
/* Of a turn, for handshakes that begin; and for all. A handshake takes some 300 us. */
#define SHAKES_BEGIN_NS (2 * NS_MS)
#define SHAKES_TURN_NS  (4 * NS_MS)

/* ---- lists -----------------------------------------------------------------------------------
 */

static void list_push(struct streams *s, enum conn_list_id id, enum conn_link_id link,
                      struct conn *c)
{
    struct conn_list *l = &s->list[id];
    c->link[link] = (struct conn_link){.prev = l->last};
    if (l->last != 0)
        s->accepted[l->last - 1].link[link].next = c->slot + 1;
    else
        l->first = c->slot + 1;
    l->last = c->slot + 1;
    l->count++;
}

static void list_remove(struct streams *s, enum conn_list_id id, enum conn_link_id link,
                        const struct conn *c)
{
    struct conn_list *l = &s->list[id];
    struct conn_link k = c->link[link];
    if (k.prev != 0)
        s->accepted[k.prev - 1].link[link].next = k.next;
    else
        l->first = k.next;
    if (k.next != 0)
        s->accepted[k.next - 1].link[link].prev = k.prev;
    else
        l->last = k.prev;
    l->count--;
}

static uint32_t waiting(const struct streams *s)
{
    return s->list[LIST_KNOWN].count + s->list[LIST_TICKETS].count + s->list[LIST_STRANGERS].count;
}

static void leave_queue(struct worker *w, struct conn *c)
{
    if (c->waits)
        list_remove(&w->streams, (enum conn_list_id)c->queue, LINK_WAITS, c);
    c->waits = false;
}

void conn_spoke(struct worker *w, struct conn *c)
{
    if (c->is_silent)
        list_remove(&w->streams, LIST_SILENT, LINK_SILENT, c);
    c->is_silent = false;
}

void conn_leave_lists(struct worker *w, struct conn *c)
{
    leave_queue(w, c);
    conn_spoke(w, c);
}

static uint32_t now_ms(const struct worker *w)
{
    return (uint32_t)(w->now / NS_MS);
}

static void begin_silence(struct worker *w, struct conn *c)
{
    c->since_ms = now_ms(w);
    c->is_silent = true;
    list_push(&w->streams, LIST_SILENT, LINK_SILENT, c);
}

static uint32_t age_ms(const struct worker *w, const struct conn *c)
{
    return now_ms(w) - c->since_ms;
}

/* ---- who goes --------------------------------------------------------------------------------
 */

/* The engine hears of those that are doomed, and their slots are free. */
static void release_doomed(struct worker *w)
{
    while (stream_tell_doomed(w))
        worker_execute(w);
}

/* Of those that have said no message yet the oldest, but strangers before those whose source
 * belongs here. */
static struct conn *oldest_silent(struct worker *w)
{
    struct streams *s = &w->streams;
    struct conn *found = NULL;
    uint32_t at = s->list[LIST_SILENT].first;
    for (unsigned i = 0; i < EVICT_LOOKS && at != 0; i++) {
        struct conn *c = &s->accepted[at - 1];
        bool is_stranger = !guard_is_known(engine_guard(w->engine), &c->peer, w->now);
        if (age_ms(w, c) < SILENT_MS_MIN) /* and so are all behind it */
            break;
        if (found == NULL || is_stranger)
            found = c;
        if (is_stranger)
            break;
        at = c->link[LINK_SILENT].next;
    }
    return found;
}

/* Of some that have spoken, the one that has been idle for longest and is of no use to the engine:
 * nobody registered over it, and no call is on it. */
static struct conn *longest_spare(struct worker *w)
{
    struct streams *s = &w->streams;
    struct conn *found = NULL;
    mono_ns oldest = 0;
    if (s->spare_again > w->now)
        return NULL;
    for (uint32_t i = 0; i < SPARE_LOOKS && i < s->fresh; i++) {
        struct conn *c = &s->accepted[s->spare_next++ % s->fresh];
        mono_ns last_in;
        if (c->state != CONN_OPEN || c->is_silent || !c->counted || c->work != NULL ||
            !engine_flow_is_spare(w->engine, conn_id(w, c), &last_in) ||
            mono_since(w->now, last_in) < SPARE_IDLE || (found != NULL && last_in >= oldest))
            continue;
        found = c;
        oldest = last_in;
    }
    if (found == NULL) /* a flood before a full table does not look each time */
        s->spare_again = mono_add(w->now, SPARE_PAUSE);
    return found;
}

/* Ends the least valuable connection. False when all have a value. */
static bool evict(struct worker *w)
{
    struct conn *found = oldest_silent(w);
    if (found == NULL)
        found = longest_spare(w);
    if (found == NULL)
        return false;
    w->count.evicted++;
    conn_doom(w, found, ECONNABORTED);
    release_doomed(w);
    return true;
}

static struct conn *free_slot(struct worker *w)
{
    struct streams *s = &w->streams;
    if (s->free == NULL && s->fresh == s->accepted_max) {
        release_doomed(w);
        if (s->free == NULL)
            (void)evict(w);
    }
    struct conn *c = s->free;
    if (c != NULL) {
        s->free = c->next;
        return c;
    }
    if (s->fresh == s->accepted_max)
        return NULL;
    c = &s->accepted[s->fresh];
    c->slot = s->fresh++;
    return c;
}

static void give_back_slot(struct streams *s, struct conn *c)
{
    c->next = s->free;
    s->free = c;
}

/* ---- who comes in ----------------------------------------------------------------------------
 */

int stream_adopt(struct worker *w, uint8_t listener, int fd)
{
    struct streams *s = &w->streams;
    MUST(listener < LISTENERS_MAX && s->listen_fd[listener] < 0);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET,
                             .data.u64 = ep_tag(EP_LISTEN, 0, listener)};
    s->listen_fd[listener] = fd;
    set_stream_options(fd); /* what it accepts has them, too: six calls less for each */
    filter_forget(w);
    streams_set_backlogs(w);
    return epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev);
}

/* listen(2) once more changes the backlog of a socket, and nothing else. */
void streams_set_backlogs(struct worker *w)
{
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        uint32_t backlog = w->config->listener[i].backlog;
        if (w->streams.listen_fd[i] >= 0 && backlog > 0)
            (void)listen(w->streams.listen_fd[i], (int)backlog);
    }
}

bool is_guarded(const struct worker *w, uint8_t listener, const struct addr *source)
{
    const struct edge_opts *o = &w->config->engine.edge;
    bool guarded = is_outside(w, listener);
    for (unsigned i = 0; i < o->trusted_count && guarded; i++)
        guarded = !prefix_holds(&o->trusted[i], source);
    return guarded;
}

/* A reset: neither end keeps anything of it. */
static void refuse(int fd)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static bool guard_admits(struct worker *w, uint8_t transport, const struct addr *peer)
{
    struct guard *g = engine_guard(w->engine);
    enum guard_why why = guard_accept(g, transport, peer, w->now);
    if (why == GUARD_FULL && evict(w))
        why = guard_accept(g, transport, peer, w->now);
    w->count.accepts_denied += why != GUARD_FINE;
    return why == GUARD_FINE;
}

void conn_uncount(struct worker *w, struct conn *c)
{
    if (c->counted)
        guard_closed(engine_guard(w->engine), &c->peer);
    c->counted = false;
}

void conn_charge_garbage(struct worker *w, const struct conn *c)
{
    if (c->slot < FLOW_OUT && !c->proxied && is_guarded(w, c->listener, &c->peer))
        (void)guard_charge(engine_guard(w->engine), &c->peer, GUARD_MALFORMED, true, w->now);
}

/* What was accepted is ready to be read from: now, or when handshake and upgrade are done. */
static void begin_layers(struct worker *w, struct conn *c)
{
    c->state = CONN_SHAKING;
    c->until = mono_add(w->now, w->config->handshake_within);
    if (c->transport == TP_TCP && !c->proxied)
        conn_opened(w, c, SLICE_NONE);
}

static bool watch_new(struct worker *w, const struct conn *c, uint64_t gen, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ep_tag(EP_CONN, gen, c->slot)};
    if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) != 0)
        return false;
    if (w->filter.list[FILTER_STREAMS].count >
        0) { /* it has its listener's, which is for those who are not in yet */
        int unused = 0;
        (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    }
    return true;
}

static void accepted(struct worker *w, uint8_t listener, int fd, const struct sockaddr_in6 *name)
{
    struct streams *s = &w->streams;
    uint8_t transport = w->config->engine.edge.listener[listener].transport;
    struct addr peer = addr_from_sockaddr(name);
    bool proxied = w->config->listener[listener].proxy;
    bool guarded =
        !proxied && is_guarded(w, listener, &peer); /* a balancer is asked who it is for */
    if (guarded && !guard_admits(w, transport, &peer)) {
        refuse(fd);
        return;
    }
    struct conn *c = free_slot(w);
    uint64_t gen = s->next_gen++;
    if (c == NULL || !watch_new(w, c, gen, fd)) {
        w->count.accepts_refused++;
        if (c == NULL)
            log_notice(w, NOTICE_TABLE_FULL, SLICE("connections from others"));
        else
            give_back_slot(s, c);
        if (guarded)
            guard_closed(engine_guard(w->engine), &peer);
        refuse(fd);
        return;
    }
    conn_begin(w, c, fd);
    c->gen = gen;
    c->armed = EPOLLIN;
    c->listener = listener;
    c->transport = transport;
    c->peer = peer;
    c->counted = guarded;
    c->proxied = proxied;
    c->since_ms = now_ms(w);
    if (guarded || proxied)
        begin_silence(w, c);
    begin_layers(w, c);
    conn_arm(w, c);
}

/* No token for this transport: its backlog waits until then. */
static void rest(struct worker *w, uint8_t listener, mono_ns until)
{
    struct streams *s = &w->streams;
    w->count.accepts_paced += (s->resting >> listener & 1) == 0;
    s->resting |= 1ULL << listener;
    s->accept_at = mono_min(s->accept_at, until);
}

void stream_accept(struct worker *w, uint8_t listener)
{
    struct streams *s = &w->streams;
    uint8_t transport = w->config->engine.edge.listener[listener].transport;
    bool guarded = is_outside(w, listener);
    for (unsigned i = 0; i < ACCEPTS_PER_TURN && s->listen_fd[listener] >= 0; i++) {
        struct sockaddr_in6 name;
        socklen_t len = sizeof name;
        mono_ns at = guarded ? guard_accept_at(engine_guard(w->engine), transport, w->now) : w->now;
        if (at > w->now) {
            rest(w, listener, at);
            return;
        }
        s->resting &= ~(1ULL << listener);
        memset(&name, 0, sizeof name);
        int fd = accept4(s->listen_fd[listener], (struct sockaddr *)&name, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted(w, listener, fd, &name);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The peer stays in the backlog; without a pause this would spin. */
            w->count.accepts_refused++;
            log_notice(w, NOTICE_TABLE_FULL, SLICE("open files of the process or the system"));
            s->accept_again = mono_add(w->now, ACCEPT_PAUSE_NS);
            return;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            s->ready &= ~(1ULL << listener);
            return;
        }
        /* Anything else is that one connection's end (accept(2)): look at the next. */
    }
    s->accept_at = 0; /* there may be more: next turn */
}

void door_accept(struct worker *w)
{
    struct streams *s = &w->streams;
    if (s->ready == 0 || s->accept_at > w->now)
        return;
    if (s->accept_again != MONO_NONE && s->accept_again > w->now)
        return;
    s->accept_again = s->accept_at = MONO_NONE;
    for (uint64_t left = s->ready; left != 0 && s->accept_again == MONO_NONE; left &= left - 1)
        stream_accept(w, (uint8_t)__builtin_ctzll(left));
}

mono_ns door_deadline(const struct worker *w)
{
    const struct streams *s = &w->streams;
    mono_ns at = MONO_NONE;
    if (s->ready != 0)
        at = s->accept_again != MONO_NONE ? s->accept_again : s->accept_at;
    if (waiting(s) > 0 && s->shaking < w->config->handshakes_max)
        at = mono_min(at, s->shake_at);
    return at;
}

/* ---- whose connection it is ------------------------------------------------------------------
 */

static void proxy_failed(struct worker *w, struct conn *c, int error)
{
    w->count.proxy_bad++;
    w->count.proxy_text += error == PROXY_E_TEXT;
    conn_doom(w, c, EPROTO);
}

/* Limits are for whom the header names. That one is not believed to be trusted, either: it is the
 * balancer that says so. */
static bool admits_named(struct worker *w, struct conn *c, const struct addr *source)
{
    c->counted = is_outside(w, c->listener);
    if (c->counted && !guard_admits(w, c->transport, source)) {
        c->counted = false;
        return false;
    }
    c->peer = *source;
    return true;
}

/* The header is there: limits, logs and answers are about its source from now on. */
static void proxy_named(struct worker *w, struct conn *c, const struct addr *source)
{
    w->count.proxy_taken++;
    c->proxied = false;
    buf_release(&w->streams.pool, &c->work->in);
    if (source->family != 0 && !admits_named(w, c, source)) {
        conn_doom(w, c, ECONNREFUSED);
        return;
    }
    begin_layers(w, c);
    conn_arm(w, c);
}

bool conn_take_proxy(struct worker *w, struct conn *c)
{
    struct buf *in = &conn_work(w, c)->in;
    while (c->state == CONN_SHAKING && c->proxied) {
        struct addr source = {0};
        size_t need = 0;
        int r = proxy_read(in->p, in->len, &need, &source);
        if (r > 0) {
            proxy_named(w, c, &source);
            break;
        }
        if (r < 0) {
            proxy_failed(w, c, r);
            break;
        }
        if (buf_room(&w->streams.pool, in, PROXY_BYTES_MAX - in->len, PROXY_BYTES_MAX) != 0) {
            w->count.buffers_refused++;
            conn_doom(w, c, ENOBUFS);
            break;
        }
        ssize_t n = read(c->fd, in->p + in->len, need - in->len);
        if (n > 0)
            in->len += (uint32_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            conn_doom(w, c, n == 0 ? 0 : errno);
        else
            break;
    }
    return c->state != CONN_DOOMED && !c->proxied;
}

/* ---- whose handshake is next -----------------------------------------------------------------
 */

static bool is_in_shake(const struct conn *c)
{
    return c->state == CONN_SHAKING && !c->proxied && transport_has_tls(c->transport) &&
           c->tls == NULL;
}

bool conn_is_before_shake(const struct conn *c)
{
    return is_in_shake(c) && (c->work == NULL || c->work->shake == NULL);
}

static bool may_shake(struct worker *w, const struct conn *c)
{
    struct streams *s = &w->streams;
    if (s->shaking >= w->config->handshakes_max || s->shaken >= SHAKES_BEGIN_NS)
        return false;
    s->shake_at = 0;
    return !is_guarded(w, c->listener, &c->peer) ||
           guard_handshake(engine_guard(w->engine), w->now, &s->shake_at);
}

/* Whether its ClientHello, which stays unread, has come whole and brings a ticket of ours. A ticket
 * is bound to nobody, so it is worth a place before strangers, and of the source nothing is kept.
 */
static bool has_ticket(struct worker *w, const struct conn *c)
{
    const struct tls_server *server = w->tls != NULL ? w->tls->server[c->listener] : NULL;
    char *hello = w->streams.read_area;
    ssize_t n = server != NULL ? recv(c->fd, hello, CLIENT_HELLO_BYTES_MAX, MSG_PEEK) : 0;
    return n > 0 && tls_ticket_is_ours(server, client_hello_ticket(hello, (size_t)n));
}

/* Who has registered from there, then who may be somebody of ours, then the others. */
static enum conn_list_id queue_for(struct worker *w, const struct conn *c)
{
    if (!is_guarded(w, c->listener, &c->peer) ||
        guard_is_known(engine_guard(w->engine), &c->peer, w->now))
        return LIST_KNOWN;
    return has_ticket(w, c) ? LIST_TICKETS : LIST_STRANGERS;
}

bool conn_must_wait(struct worker *w, struct conn *c)
{
    struct streams *s = &w->streams;
    if (c->waits) { /* its bytes are there since the last turn: of those nothing more is heard */
        conn_watch(w, c);
        return true;
    }
    if (is_in_shake(c) && s->shaken >= SHAKES_TURN_NS) { /* epoll says it again */
        w->again = true;
        return true;
    }
    if (!conn_is_before_shake(c) || (waiting(s) == 0 && may_shake(w, c)))
        return false;
    w->count.handshakes_waited++;
    c->waits = true;
    c->queue = (uint8_t)queue_for(w, c);
    list_push(s, (enum conn_list_id)c->queue, LINK_WAITS, c);
    c->until = mono_add(w->now, WAITS_WITHIN_MAX * w->config->handshake_within);
    conn_arm(w, c);
    return true;
}

static struct conn *next_waiting(const struct worker *w)
{
    const struct streams *s = &w->streams;
    enum conn_list_id id = LIST_KNOWN;
    while (id > LIST_STRANGERS && s->list[id].count == 0)
        id--;
    const struct conn_list *l = &s->list[id];
    if (l->count == 0)
        return NULL;
    struct conn *oldest = &s->accepted[l->first - 1];
    return age_ms(w, oldest) < PATIENT_MS ? oldest : &s->accepted[l->last - 1];
}

static bool has_left(const struct conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1;
}

void door_shake(struct worker *w)
{
    struct streams *s = &w->streams;
    struct conn *c;
    unsigned left = 0;
    while (left < LEFT_PER_TURN && (c = next_waiting(w)) != NULL) {
        if (has_left(c)) {
            left++;
            w->count.handshakes_left++;
            conn_doom(w, c, ECONNRESET);
            continue;
        }
        if (!may_shake(w, c))
            break;
        leave_queue(w, c);
        c->until = mono_add(w->now, w->config->handshake_within);
        conn_read_on(w, c);
        if (c->state != CONN_DOOMED) {
            conn_watch(w, c);
            conn_arm(w, c);
        }
        conn_rest(w, c);
    }
    s->shaken = 0;
}
