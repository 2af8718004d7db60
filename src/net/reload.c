/* SPDX-License-Identifier: Apache-2.0
 *
 * From one configuration to the next without losing anything, or not at all:
 *
 *      load ─▶ open new listeners ─▶ try the log ─▶ worker 0 adopts ─▶ the others ─▶ old one freed
 *        └──────────────┴─────────────────┴───────────────┴─ on failure: as if never asked
 *
 * All workers' tables have the same sizes and hold the same targets, so the first one's word is
 * everybody's. New sockets exist before the switch; those of removed listeners go with it. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

#define ADOPT_WITHIN (5 * NS_S)

/* ---- listeners ------------------------------------------------------------------------------- */

static bool is_kept(const struct config *from, const struct config *to, unsigned id)
{
    if (from == NULL)
        return false;
    const struct edge_listener *a = &from->engine.edge.listener[id];
    const struct edge_listener *b = &to->engine.edge.listener[id];
    return a->used && b->used && a->transport == b->transport && addr_equal(&a->bind, &b->bind);
}

static int open_socket(const struct edge_listener *l, bool shared)
{
    return l->transport == TP_UDP ? udp_open(&l->bind, shared) : tcp_listen(&l->bind, shared);
}

/* Sockets that share a port would silently share it with another process of ours too: a first one
 * that does not share tells whether the port is free. */
static int open_for_all(const struct config *c, unsigned id, struct switching *s)
{
    const struct edge_listener *l = &c->engine.edge.listener[id];
    bool shared = c->workers > 1;
    if (shared) {
        int probe = open_socket(l, false);
        if (probe < 0)
            return errno;
        close(probe);
    }
    for (uint32_t i = 0; i < c->workers; i++) {
        s->fd[i][id] = open_socket(l, shared);
        if (s->fd[i][id] < 0)
            return errno;
    }
    return 0;
}

void listeners_close(struct switching *s, uint32_t workers)
{
    for (uint32_t i = 0; i < workers; i++) {
        for (unsigned id = 0; id < LISTENERS_MAX; id++) {
            if (s->fd[i][id] >= 0)
                close(s->fd[i][id]);
            s->fd[i][id] = -1;
        }
    }
}

/* The listener that had this address a moment ago and whose sockets still say farewell there. */
static uint8_t farewell_at(const struct net *net, const struct edge_listener *l)
{
    mono_ns soon = mono_add(mono_now(), NS_S);
    for (unsigned id = 0; id < LISTENERS_MAX && l->transport == TP_UDP; id++)
        if (net->farewell[id].until > soon && addr_equal(&net->farewell[id].bind, &l->bind))
            return (uint8_t)id;
    return LISTENER_NONE;
}

static void note_farewells(struct net *net, const struct config *old, const struct switching *s)
{
    for (unsigned id = 0; id < LISTENERS_MAX; id++) {
        if (s->revive[id] != LISTENER_NONE)
            net->farewell[s->revive[id]].until = 0;
        if (s->fd[0][id] >= 0)
            net->farewell[id].until = 0; /* the number has a new tenant */
    }
    for (unsigned id = 0; id < LISTENERS_MAX; id++) {
        const struct edge_listener *l = &old->engine.edge.listener[id];
        if (s->drop[id] && l->transport == TP_UDP)
            net->farewell[id] = (struct farewell){l->bind, mono_add(mono_now(), FAREWELL_NS)};
    }
}

static const char *advice(int error)
{
    switch (error) {
    case EADDRINUSE:
        return " (another process has it)";
    case EADDRNOTAVAIL:
        return " (no interface of this machine has it)";
    case EACCES:
        return " (ports below 1024 need CAP_NET_BIND_SERVICE)";
    default:
        return "";
    }
}

int listeners_open(const struct net *net, const struct config *c, const struct config *previous,
                   struct switching *s, FILE *errors)
{
    s->config = c;
    memset(s->fd, -1, sizeof s->fd);
    memset(s->revive, LISTENER_NONE, sizeof s->revive);
    int failed = 0;
    for (unsigned id = 0; id < LISTENERS_MAX; id++) {
        const struct edge_listener *l = &c->engine.edge.listener[id];
        bool kept = is_kept(previous, c, id);
        s->drop[id] = previous != NULL && previous->engine.edge.listener[id].used && !kept;
        if (!l->used || kept)
            continue;
        s->revive[id] = farewell_at(net, l);
        if (s->revive[id] != LISTENER_NONE)
            continue;
        int error = open_for_all(c, id, s);
        if (error == 0)
            continue;
        fprintf(errors, "weir: listener %.*s: cannot bind %.*s: %s%s\n", SLICE_ARG(l->name),
                SLICE_ARG(l->uri), strerror(error), advice(error));
        failed = -1;
    }
    if (failed != 0)
        listeners_close(s, c->workers);
    return failed;
}

/* ---- orders ---------------------------------------------------------------------------------- */

int order_send(struct net *net, uint32_t worker, const struct order *o, struct slice argument)
{
    struct worker *w = net->worker[worker];
    struct order head = *o;
    MUST(argument.n <= UINT16_MAX);
    head.len = (uint16_t)argument.n;
    char *p = (char *)ring_reserve(w->orders, (uint32_t)(sizeof head + argument.n));
    if (p == NULL)
        return -1;
    memcpy(p, &head, sizeof head);
    if (argument.n > 0)
        memcpy(p + sizeof head, argument.p, argument.n);
    ring_push(w->orders, (uint32_t)(sizeof head + argument.n));
    inbox_knock_other(&w->inbox, INBOX_MAIN);
    return 0;
}

bool answers_take(struct net *net, uint64_t want, int *ret_error)
{
    bool came = false;
    uint64_t from = atomic_exchange(&net->inbox.from_workers, 0);
    for (; from != 0; from &= from - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(from);
        struct ring *ring = net->worker[i]->answers;
        for (struct slice r; (r = ring_peek(ring)).p != NULL; ring_pop(ring)) {
            struct answer a;
            memcpy(&a, r.p, sizeof a);
            if (want != 0 && a.id == want) {
                came = true;
                *ret_error = a.error;
            } else if (a.id == BANS_ID) {
                nft_take(net->nft, i, slice_of(r.p + sizeof a, a.len));
            } else if (net->control != NULL) {
                control_answer(net->control, i, &a, slice_of(r.p + sizeof a, a.len));
            }
        }
    }
    return came;
}

int order_wait(struct net *net, uint32_t worker, const struct order *o)
{
    struct order mine = *o;
    mono_ns until = mono_add(mono_now(), ADOPT_WITHIN);
    int error = 0;
    mine.id = ++net->next_id;
    if (order_send(net, worker, &mine, SLICE_NONE) != 0)
        return EBUSY;
    for (;;) {
        if (answers_take(net, mine.id, &error))
            return error;
        dur_ns left = mono_since(until, mono_now());
        if (left == 0)
            return ETIMEDOUT;
        struct pollfd p = {.fd = net->inbox.wake_fd, .events = POLLIN};
        int wait = inbox_may_sleep(&net->inbox) ? (int)(left / NS_MS) + 1 : 0;
        (void)poll(&p, 1, wait);
        inbox_awake(&net->inbox);
        inbox_drain_fd(&net->inbox);
    }
}

/* ---- the switch ------------------------------------------------------------------------------ */

/* Hands the snapshot to every worker. 0; -1 when the first refused (nothing has changed); 1 when a
 * later one did not follow, which our sizes rule out unless it hangs. */
static int switch_workers(struct net *net, struct switching *s, FILE *errors)
{
    struct order o = {.kind = ORDER_CONFIG, .switching = s};
    for (uint32_t i = 0; i < net->workers; i++) {
        int error = order_wait(net, i, &o);
        if (error == 0)
            continue;
        if (i == 0 && error == ENOSPC) {
            fprintf(errors, "weir: reload: the new pools do not fit the tables that this process "
                            "was started with (limits: need a restart)\n");
            return -1;
        }
        fprintf(errors, "weir: reload: worker %u: %s\n", i, strerror(error));
        return 1;
    }
    return 0;
}

void tell_about_users(const struct config *c, FILE *out)
{
    const struct registrar_opts *r = &c->engine.edge.registrar;
    if (!r->on || (r->digest && r->user_count > 0))
        return;
    fprintf(out, "weir: notice: %s\n",
            r->digest ? "the credentials file has no users: nobody can register"
                      : "roles.registrar.auth is none: everybody may register as anybody, and so "
                        "take anybody's calls");
}

void tell_about_names(const struct config *c, FILE *out)
{
    const struct edge_opts *o = &c->engine.edge;
    for (uint16_t i = 0; i < o->pool_count; i++)
        for (uint16_t k = 0; k < o->pools[i].target_count; k++) {
            const struct pool_target_opts *t = &o->pools[i].targets[k];
            if (t->addr.family == 0)
                fprintf(
                    out,
                    "weir: notice: pool %.*s: nobody can resolve the name of %.*s now: it takes "
                    "no calls until a reload finds its address\n",
                    SLICE_ARG(o->pools[i].name), SLICE_ARG(t->uri));
        }
}

int net_reload(struct net *net, FILE *errors)
{
    struct config *old = net->config;
    struct config *c = net->run->load(net->run->ctx, old, errors);
    if (c == NULL)
        return -1;
    struct switching *s = (struct switching *)calloc(1, sizeof *s);
    struct listeners_tls *tls = listeners_tls_load(c, errors);
    if (s == NULL || tls == NULL || c->workers != net->workers || logger_try(c, errors) != 0 ||
        listeners_open(net, c, old, s, errors) != 0) {
        free(s);
        listeners_tls_free(tls);
        config_free(c);
        return -1;
    }
    s->tls = tls;
    int result = switch_workers(net, s, errors);
    if (result < 0) {
        listeners_close(s, net->workers);
        free(s);
        listeners_tls_free(tls);
        config_free(c);
        return -1;
    }
    struct listeners_tls *old_tls = net->tls;
    net->config = c;
    net->tls = tls;
    note_farewells(net, old, s);
    (void)logger_switch(net->logger, c, errors);
    tell_about_users(c, errors);
    tell_about_names(c, errors);
    if (result > 0)
        return -1; /* somebody may still hold the old one, and the order: both stay */
    free(s);
    listeners_tls_free(old_tls);
    config_free(old);
    return 0;
}
