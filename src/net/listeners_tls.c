/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates of listeners, and of connections of ours: read as a whole with each configuration,
 * so that a reload brings new ones, and a file that cannot be read leaves everything as it was.
 * Flows whose handshake is done have no part in it; handshakes under way hold a count of the server
 * that they began with. */
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

/* Whether a target or a neighbour is met by it: the system's list of authorities is large. */
static bool is_used(const struct config *c, unsigned client)
{
    for (unsigned i = 0; i < c->engine.edge.peer_count; i++)
        if (c->engine.edge.peers[i].client == client)
            return true;
    return false;
}

static int load_client(struct listeners_tls *t, const struct config *c, unsigned i, FILE *errors)
{
    char why[TLS_WHY_BYTES_MAX] = "";
    t->client[i] = tls_client_new(&c->tls_clients[i], why);
    if (why[0] != '\0')
        fprintf(errors, "weir: %s%.*s: %s\n", t->client[i] != NULL ? "notice: " : "",
                SLICE_ARG(c->tls_clients[i].where), why);
    return t->client[i] != NULL ? 0 : -1;
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
    if (failed == 0 && c->tls_client_count > 0) {
        t->client = (struct tls_client **)calloc(c->tls_client_count, sizeof(struct tls_client *));
        failed = t->client == NULL ? -1 : 0;
        t->client_count = failed == 0 ? c->tls_client_count : 0;
    }
    for (unsigned i = 0; t != NULL && i < t->client_count; i++)
        if (is_used(c, i))
            failed |= load_client(t, c, i, errors);
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
    for (unsigned i = 0; i < t->client_count; i++)
        tls_client_release(t->client[i]);
    free(t->client);
    free(t);
}
