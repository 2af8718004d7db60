/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transport needs, and what it has no use for: certificates for tls and wss, origins for ws
 * and wss. */
#include "config/config_int.h"

static bool is_tls(uint8_t transport)
{
    return transport == TP_TLS || transport == TP_WSS;
}
static bool is_ws(uint8_t transport)
{
    return transport == TP_WS || transport == TP_WSS;
}

/* A key that the listener's transport has no use for. */
static void refuse(struct judgement *j, const struct draft_listener *l, const char *key,
                   const char *which)
{
    const struct node *n = node_get(l->head.node, key);
    if (n != NULL)
        report_at(j->report, n->key_at, "`%s` belongs to %s; take it out, or change `bind`", key,
                  which);
}

static void require(struct judgement *j, const struct draft_listener *l, const char *key,
                    const char *example)
{
    struct slice tp = transport_name((enum transport)l->bind.transport);
    if (node_get(l->head.node, key) == NULL)
        report_at(j->report, l->head.node->at, "a %.*s listener has no `%s`; add %s: %s",
                  SLICE_ARG(tp), key, key, example);
}

static void check_pair(struct judgement *j, const struct node *record, struct slice cert,
                       struct slice key)
{
    if (!j->world->closed)
        pem_check(j->report, cert, node_place(record, "cert"), key, node_place(record, "key"));
}

static void judge_certs(struct judgement *j, const struct draft_listener *l,
                        struct config_listener *ret)
{
    require(j, l, "cert", "edge.pem");
    require(j, l, "key", "edge.key");
    const struct draft_cert *more = (const struct draft_cert *)l->certs.items;
    struct config_cert *out = MEM_ARRAY(j->report->mem, struct config_cert, l->certs.count + 1);
    if (out == NULL)
        return;
    out[0] = (struct config_cert){l->cert, l->key};
    check_pair(j, l->head.node, l->cert, l->key);
    for (uint32_t i = 0; i < l->certs.count; i++) {
        out[i + 1] = (struct config_cert){more[i].cert, more[i].key};
        check_pair(j, more[i].head.node, more[i].cert, more[i].key);
    }
    ret->certs = out;
    ret->cert_count = (uint16_t)(l->certs.count + 1);
}

static void judge_clients(struct judgement *j, const struct draft_listener *l,
                          struct config_listener *ret)
{
    const struct node *asked = node_get(l->head.node, "client_cert");
    if (l->client_ca.p == NULL) {
        if (asked != NULL && l->client_cert != CLIENT_CERT_NONE &&
            node_get(l->head.node, "client_ca") == NULL)
            report_at(j->report, asked->at,
                      "nobody could sign such a certificate; add client_ca: FILE");
        return;
    }
    if (!j->world->closed)
        pem_check(j->report, l->client_ca, node_place(l->head.node, "client_ca"), SLICE_NONE,
                  (struct place){0});
    if (asked != NULL && l->client_cert == CLIENT_CERT_NONE)
        return;
    ret->client_ca = l->client_ca;
    ret->client_required = asked == NULL || l->client_cert == CLIENT_CERT_REQUIRED;
}

void judge__secure(struct judgement *j, const struct draft_listener *l, struct config_listener *ret)
{
    static const char *const keys[] = {"cert", "key", "certs", "client_ca", "client_cert"};
    if (is_tls(l->bind.transport)) {
        judge_certs(j, l, ret);
        judge_clients(j, l, ret);
    } else {
        for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
            refuse(j, l, keys[i], "tls and wss listeners");
    }
    ret->proxy = l->proxy;
    ret->backlog = l->backlog;
    if (l->bind.transport == TP_UDP) {
        refuse(j, l, "proxy", "listeners for connections");
        refuse(j, l, "backlog", "listeners for connections");
    }
    if (is_ws(l->bind.transport)) {
        ret->origins = (struct slice *)l->origins.items;
        ret->origin_count = (uint16_t)l->origins.count;
    } else {
        refuse(j, l, "origins", "ws and wss listeners");
    }
}
