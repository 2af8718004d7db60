/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is who: our own names, the trusted, the inside; and which listener faces an address. */
#include "edge/edge_int.h"

/* RFC 3261 19.1.2, RFC 7118 5.1. */
static const uint16_t port_default[TP__COUNT] = {5060, 5060, 5061, 80, 443};

/* Every request asks who we are, several times: once for each configuration it is worked out. */
void own_names_build(struct edge *e)
{
    e->own_count = 0;
    for (int i = 0; i < LISTENERS_MAX; i++) {
        const struct edge_listener *l = &e->opts->listener[i];
        if (!l->used)
            continue;
        struct own_name *own = &e->own[e->own_count++];
        *own = (struct own_name){.bind = l->bind,
                                 .host = l->host,
                                 .port = l->port,
                                 .port_default = port_default[l->transport]};
        if (addr_parse_host(l->host, l->port, &own->named) != 0)
            own->named.family = 0;
    }
}

/* Does host:port name one of our listeners? Port 0 is the default one of its transport, whatever
 * transport the URI asks for: browsers say "ws" for both. */
bool is_own_host(const struct edge *e, struct slice host, uint16_t port)
{
    struct addr a = {0};
    if (addr_parse_host(host, 0, &a) != 0)
        a.family = 0;
    for (uint32_t i = 0; i < e->own_count; i++) {
        const struct own_name *own = &e->own[i];
        uint16_t wanted = port != 0 ? port : own->port_default;
        if (own->port != wanted && own->bind.port != wanted)
            continue;
        if (a.family == 0 ? slice_equal_nocase(own->host, host)
                          : addr_same_host(&a, &own->bind) || addr_same_host(&a, &own->named))
            return true;
    }
    return false;
}

bool is_trusted(const struct edge *e, const struct addr *a)
{
    for (int i = 0; i < e->opts->trusted_count; i++)
        if (prefix_holds(&e->opts->trusted[i], a))
            return true;
    return false;
}

/* Is it a target of a pool, by `same` (addr_equal or addr_same_host)? */
static bool is_target(const struct edge *e, const struct addr *a,
                      bool (*same)(const struct addr *, const struct addr *))
{
    for (int p = 0; p < e->opts->pool_count; p++) {
        const struct pool_opts *o = &e->opts->pools[p];
        for (int i = 0; i < o->target_count; i++)
            if (same(&o->targets[i].addr, a))
                return true;
    }
    return false;
}

/* A target that we know exactly is inside; so is a trusted address; all else is outside. */
uint8_t hop_side(const struct edge *e, const struct addr *a)
{
    return is_trusted(e, a) || is_target(e, a, addr_equal) ? SIDE_INSIDE : SIDE_OUTSIDE;
}

/* May an outsider's dialog lead there? Trusted networks, and hosts that are targets of a pool. */
bool is_inside(const struct edge *e, const struct addr *a)
{
    return is_trusted(e, a) || is_target(e, a, addr_same_host);
}

/* Is this where we listen ourselves? What we send there comes back from an address of ours, and so
 * perhaps from inside: nobody may have himself introduced that way. A wildcard stands for addresses
 * that we do not know, the loopback ones aside. */
bool is_own_address(const struct edge *e, const struct addr *a)
{
    static const uint8_t any[16], loopback6[16] = {[15] = 1};
    bool is_loopback =
        a->family == 4 ? a->ip[0] == 127 : memcmp(a->ip, loopback6, sizeof loopback6) == 0;
    for (uint32_t i = 0; i < e->own_count; i++) {
        const struct own_name *own = &e->own[i];
        if (own->bind.port == a->port &&
            (addr_same_host(&own->bind, a) ||
             (is_loopback && memcmp(own->bind.ip, any, sizeof any) == 0)))
            return true;
        if (own->port == a->port && addr_same_host(&own->named, a))
            return true;
    }
    return false;
}

/* What a name of an outsider's choice led to. */
bool outsider_may_reach(const struct edge *e, const struct addr *a)
{
    return is_inside(e, a) && !is_own_address(e, a);
}

uint8_t side_of(struct edge *e, uint8_t listener, const struct addr *source, struct flow_id flow)
{
    if (flow.slot & FLOW_OUT) {
        const struct flow *w = flow_get(e->flows, flow);
        if (w != NULL)
            return w->side;
    }
    if (listener < LISTENERS_MAX && e->opts->listener[listener].side == SIDE_INSIDE)
        return SIDE_INSIDE;
    if (listener < LISTENERS_MAX && e->opts->listener[listener].proxy)
        return SIDE_OUTSIDE;
    return is_trusted(e, source) ? SIDE_INSIDE : SIDE_OUTSIDE;
}

/* For each transport, family and side the listener to send from: one of that side when there is
 * one, else any that can reach the family at all. */
void egress_build(struct edge *e)
{
    memset(&e->egress, LISTENER_NONE, sizeof e->egress);
    for (int i = LISTENERS_MAX - 1; i >= 0; i--) {
        const struct edge_listener *l = &e->opts->listener[i];
        if (!l->used)
            continue;
        int v6 = l->bind.family == 6;
        for (int side = 0; side < 2; side++) {
            uint8_t *at = &e->egress.listener[l->transport][v6][side];
            if (*at == LISTENER_NONE || l->side == side || e->opts->listener[*at].side != side)
                *at = (uint8_t)i;
        }
    }
}

/* The listener that faces `dest`; LISTENER_NONE when no socket of ours can. A stream needs no
 * listener of its own transport: the connection is there or ours, and answers come back on it. */
uint8_t egress_for(const struct edge *e, const struct addr *dest, uint8_t transport, uint8_t side)
{
    int v6 = dest->family == 6;
    uint8_t l = e->egress.listener[transport][v6][side];
    for (int other = 0; l == LISTENER_NONE && transport != TP_UDP && other < TP__COUNT; other++)
        l = e->egress.listener[other][v6][side];
    return l;
}
