/* SPDX-License-Identifier: Apache-2.0
 *
 * Any text as a configuration: it is taken or refused with errors, never both, and what is taken
 * keeps what the engine relies on. The world stays closed: no name is resolved, no file read. */
#include <stdio.h>
#include <stdlib.h>

#include "config/config_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[32] = "a key that is used for fuzzing";
static const struct world closed = {.closed = true};

static struct config *parse(struct slice text, const struct config *previous, size_t *ret_said)
{
    char *said = NULL;
    FILE *errors = open_memstream(&said, ret_said);
    if (errors == NULL)
        return NULL;
    struct config *c = config_parse_in(text, "f", previous, key, errors, &closed);
    fclose(errors);
    for (size_t i = 0; i < *ret_said; i++)
        MUST(said[i] == '\n' || (said[i] >= 0x20 && said[i] < 0x7f));
    free(said);
    return c;
}

static void check_pool(const struct pool_opts *p)
{
    MUST(p->name.n > 0 && p->name.n <= POOL_NAME_BYTES_MAX);
    MUST(p->target_count > 0 && p->target_count <= POOL_TARGETS_MAX);
    MUST(p->failover.tries >= 1 && p->failover.tries <= TRIES_MAX);
    MUST(p->failover.on_count <= 8);
    MUST(p->failover.try_timeout <= p->failover.within);
    MUST(!p->health.on || (p->health.timeout > 0 && p->health.timeout <= p->health.every));
    for (unsigned i = 0; i < p->target_count; i++) {
        const struct pool_target_opts *t = &p->targets[i];
        MUST(addr_is_unicast(&t->addr) && t->weight > 0);
        MUST(t->transport == TP_UDP || t->transport == TP_TCP);
    }
}

static void check_listener(const struct edge_listener *l, const struct config_listener *more)
{
    bool tls = l->transport == TP_TLS || l->transport == TP_WSS;
    MUST(l->name.n > 0 && l->host.n > 0 && l->port > 0 && l->bind.port > 0);
    MUST(l->side == SIDE_OUTSIDE || l->side == SIDE_INSIDE);
    MUST(l->transport < TP__COUNT);
    MUST(tls ? more->cert_count > 0 && more->cert_count <= CONFIG_CERTS_MAX
             : more->cert_count == 0 && more->client_ca.n == 0);
    for (unsigned i = 0; i < more->cert_count; i++)
        MUST(more->certs[i].cert.n > 0 && more->certs[i].key.n > 0);
    MUST(!more->client_required || more->client_ca.n > 0);
    MUST(more->origin_count <= CONFIG_ORIGINS_MAX);
    MUST(more->origin_count == 0 || l->transport == TP_WS || l->transport == TP_WSS);
    for (unsigned i = 0; i < more->origin_count; i++)
        for (size_t k = 0; k < more->origins[i].n; k++)
            MUST(more->origins[i].p[k] < 'A' || more->origins[i].p[k] > 'Z');
}

static void check_registrar(const struct config *c)
{
    const struct registrar_opts *o = &c->engine.edge.registrar;
    if (!o->on) {
        MUST(c->engine.limits.bindings == 0 && c->state.n == 0 && o->domain_count == 0);
        return;
    }
    MUST(c->engine.limits.bindings > 0 && c->state.n > 0 && c->state_bytes_max > 0);
    MUST(o->domain_count > 0 && o->domain_count <= REGISTRAR_DOMAINS_MAX);
    for (unsigned i = 0; i < o->domain_count; i++)
        MUST(o->domains[i].n > 0);
    MUST(o->expires_min_s > 0 && o->expires_min_s <= o->expires_default_s);
    MUST(o->expires_default_s <= o->expires_max_s && o->expires_jitter_percent <= 50);
    MUST(o->contacts_max > 0 && o->contacts_max <= REGISTRAR_TARGETS_MAX);
    MUST(o->keys == &c->engine.edge.keys);
    MUST(!o->digest || (o->realm.n > 0 && o->nonce_life_s > 0));
    for (size_t i = 0; i < o->service_route.n; i++)
        MUST(o->service_route.p[i] >= 0x20 && o->service_route.p[i] < 0x7f);
}

static void check_config(const struct config *c)
{
    const struct edge_opts *o = &c->engine.edge;
    unsigned listeners = 0;
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        const struct edge_listener *l = &o->listener[i];
        if (!l->used)
            continue;
        listeners++;
        check_listener(l, &c->listener[i]);
    }
    MUST(listeners > 0 && o->node_name.n > 0);
    MUST(o->keys.count == 1 && c->tokens_are_random);
    MUST(c->ticket_secret.n == TICKET_SECRET_BYTES);
    MUST(o->pool_count <= c->engine.limits.pools && o->rule_count > 0);
    MUST(o->keepalive.every <= o->keepalive.max && o->path <= PATH_OFF);
    MUST(o->fleet_count == 0); /* which needs a file of secrets */
    MUST(c->handshakes_max > 0 && c->handshake_within > 0);
    check_registrar(c);
    MUST(o->timer_c > 180 * NS_S && o->timers.t1 > 0 && o->timers.t1 <= o->timers.t2);
    MUST(o->hops_max >= 1 && o->hops_max <= SIP_HOPS_MAX);
    MUST(c->workers >= 1 && c->workers <= WORKERS_MAX);
    MUST(c->control.n > 0 && c->log.path.n > 0);
    for (unsigned i = 0; i < o->pool_count; i++)
        check_pool(&o->pools[i]);
    for (unsigned i = 0; i < o->rule_count; i++)
        MUST(o->rules[i].role == ROLE_REGISTRAR ? o->registrar.on
                                                : o->rules[i].pool < o->pool_count);
    for (unsigned i = 0; i < BLOCK_CLASSES; i++)
        MUST(c->engine.limits.blocks[i] > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t said = 0;
    struct slice text = slice_of(data, size);
    struct config *c = parse(text, NULL, &said);
    MUST((c == NULL) == (said > 0));
    if (c == NULL)
        return 0;
    check_config(c);
    /* What was taken once is taken again, and changes nothing. */
    struct config *again = parse(text, c, &said);
    MUST(again != NULL && said == 0);
    check_config(again);
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        MUST(slice_equal(again->engine.edge.listener[i].uri, c->engine.edge.listener[i].uri));
    config_free(again);
    config_free(c);
    return 0;
}
