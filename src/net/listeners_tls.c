/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates of listeners: read as a whole with each configuration, so that a reload brings new
 * ones, and a file that cannot be read leaves everything as it was. Flows whose handshake is done
 * have no part in it; handshakes under way hold a count of the server that they began with. */
#include <stdlib.h>
#include "net/net_int.h"

static int load_server(struct listeners_tls *t, const struct config *c, unsigned id, FILE *errors)
{
    char why[TLS_WHY_BYTES_MAX] = "";
    const struct edge_listener *l = &c->engine.edge.listener[id];
    enum tls_use use = l->transport == TP_WSS ? TLS_USE_HTTP : TLS_USE_SIP;
    t->server[id] = tls_server_new(&c->listener[id], use, c->ticket_secret, why);
    if (why[0] != '\0')
        fprintf(errors, "weir: %slistener %.*s: %s\n", t->server[id] != NULL ? "notice: " : "",
                SLICE_ARG(l->name), why);
    return t->server[id] != NULL ? 0 : -1;
}

static bool has_tls_targets(const struct config *c)
{
    for (unsigned i = 0; i < c->engine.edge.pool_count; i++)
        for (unsigned k = 0; k < c->engine.edge.pools[i].target_count; k++)
            if (transport_has_tls(c->engine.edge.pools[i].targets[k].transport))
                return true;
    return false;
}

struct listeners_tls *listeners_tls_load(const struct config *c, FILE *errors)
{
    struct listeners_tls *t = (struct listeners_tls *)calloc(1, sizeof *t);
    int failed = t == NULL ? -1 : 0;
    for (unsigned id = 0; t != NULL && id < LISTENERS_MAX; id++) {
        const struct edge_listener *l = &c->engine.edge.listener[id];
        if (l->used && transport_has_tls(l->transport))
            failed |= load_server(t, c, id, errors);
    }
    if (failed == 0 && has_tls_targets(c)) { /* the system's list of authorities is large */
        char why[TLS_WHY_BYTES_MAX] = "";
        t->client = tls_client_new(SLICE_NONE, why);
        if (t->client == NULL)
            fprintf(errors, "weir: tls:// targets: %s\n", why);
        failed |= t->client == NULL ? -1 : 0;
    }
    if (failed == 0)
        return t;
    listeners_tls_free(t);
    return NULL;
}

int net_check_certificates(const struct config *c, FILE *errors)
{
    struct listeners_tls *t = listeners_tls_load(c, errors);
    listeners_tls_free(t);
    return t != NULL ? 0 : -1;
}

void listeners_tls_free(struct listeners_tls *t)
{
    if (t == NULL)
        return;
    for (unsigned id = 0; id < LISTENERS_MAX; id++)
        tls_server_release(t->server[id]);
    tls_client_release(t->client);
    free(t);
}
