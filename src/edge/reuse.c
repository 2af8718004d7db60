/* SPDX-License-Identifier: Apache-2.0
 *
 * Whom we meet over TLS, and on whose connection: RFC 5923, by names alone.
 *
 *      trunk ── its connection, its certificate: pbx.example.com ──▶ us
 *            ── INVITE, Via: SIP/2.0/TLS ...:5061;alias ──────────▶   remembers
 *                                                                     (pbx.example.com, 5061, who
 *                                                                      vouched for it)
 *            ◀── INVITE for tls://pbx.example.com:5061 ───────────   on the same connection
 *
 * Who vouched takes part, so that a certificate counts for a target's requests only if it would
 * have counted had we opened the connection. The address takes no part at all. */
#include "edge/edge_int.h"

/* ---- peers ----------------------------------------------------------------------------------- */

/* The first peer at an address, or NULL. */
static const struct edge_peer *peer_at(const struct edge *e, const struct addr *a)
{
    const struct edge_peer *all = e->opts->peers;
    uint32_t low = 0, high = e->opts->peer_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (memcmp(&all[middle].addr, a, sizeof *a) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < e->opts->peer_count && addr_equal(&all[low].addr, a) ? &all[low] : NULL;
}

/* Who is expected where this hop leads: at a target, or at its address within a dialog of its. */
const struct edge_peer *peer_of(const struct edge *e, const struct hop *hop)
{
    uint32_t at = pool_target_peer(e->pools, hop->target);
    return at != 0 ? &e->opts->peers[at - 1] : peer_at(e, &hop->addr);
}

/* Where a URI of a dialog leads to over TLS: to a peer that we know, by its address or by its name.
 * Nobody else: we would not know whom to believe. */
bool peer_named(const struct edge *e, struct slice host, uint16_t port, struct addr *ret_addr)
{
    if (addr_parse_host(host, port, ret_addr) == 0)
        return peer_at(e, ret_addr) != NULL;
    for (uint32_t i = 0; i < e->opts->peer_count; i++) {
        const struct edge_peer *p = &e->opts->peers[i];
        if (p->addr.port == port && slice_equal_nocase(p->name, host)) {
            *ret_addr = p->addr;
            return true;
        }
    }
    return false;
}

/* ---- connections of others ------------------------------------------------------------------- */

enum { PORT_DEFAULT = 5061 };

/* `name` is in small letters: those of certificates and those of the configuration are. */
static uint64_t alias_hash(const struct edge *e, struct slice name, uint16_t port,
                           uint64_t vouchers)
{
    struct slice parts[3] = {slice_of(&port, sizeof port), slice_of(&vouchers, sizeof vouchers),
                             name};
    return siphash_parts(&e->seed, parts, 3);
}

/* A request with `alias` came down a connection whose peer has proven who he is: it is good for
 * requests to that name, at the port where he says that he listens. A name in sent-by must be one
 * of those proven (RFC 5923 8.1), and is then the only one; an address says nothing. */
void reuse_note(struct edge *e, const struct event *ev)
{
    const struct sip_via *via = &e->facts.via;
    struct flow *w = flow_get(e->flows, ev->flow);
    if (w == NULL || w->name == 0 || (ev->flow.slot & FLOW_OUT) != 0 ||
        ev->listener >= LISTENERS_MAX || via->transport != TP_TLS ||
        flow_aliases(e->flows, w) == FLOW_ALIASES_MAX)
        return;
    uint64_t vouchers = e->opts->listener[ev->listener].vouchers;
    if (vouchers == 0 || !sip_param(via->params, SLICE("alias"), NULL))
        return;
    struct addr numeric;
    bool is_name = addr_parse_host(via->host, 0, &numeric) != 0 && !via->host_is_ipv6;
    struct slice rest = flow_name(e->flows, w);
    while (rest.n > 0) {
        struct slice name = slice_take(rest, slice_find(rest, ' '));
        rest = slice_drop(rest, name.n + 1);
        if (!is_name || slice_equal_nocase(name, via->host))
            flow_add_alias(
                e->flows, w,
                alias_hash(e, name, via->port != 0 ? via->port : PORT_DEFAULT, vouchers));
    }
}

/* The connection that this very peer opened to us; NULL if there is none. */
struct flow *reuse_for(struct edge *e, const struct edge_peer *peer)
{
    if (peer->vouchers == 0)
        return NULL;
    struct flow *w =
        flow_of_alias(e->flows, alias_hash(e, peer->name, peer->addr.port, peer->vouchers));
    e->count.connections_reused += w != NULL;
    return w;
}
