/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is expected at the other end when it is us who connect over TLS, who may vouch for it, and
 * whom we say to be: for each tls:// target and neighbour one peer, for each pool that has some one
 * client, which takes from the file's `tls` what its own does not say. */
#include "config/config_int.h"

#include <stdlib.h>

static const struct hash_seed everywhere_the_same;

uint64_t vouchers_hash(struct slice path)
{
    return path.n > 0 ? siphash(&everywhere_the_same, path.p, path.n) | 1 : 0;
}

/* ---- clients --------------------------------------------------------------------------------- */

static void check_files(struct judgement *j, const struct node *section,
                        const struct draft_client *d)
{
    struct place none = {0};
    const struct node *verify = node_get(section, "verify"), *ca = node_get(section, "ca");
    const struct node *cert = node_get(section, "cert"), *key = node_get(section, "key");
    if (cert != NULL && key == NULL)
        report_at(j->report, cert->key_at, "`cert` has no `key` beside it; add key: edge.key");
    if (key != NULL && cert == NULL)
        report_at(j->report, key->key_at, "`key` has no `cert` beside it; add cert: edge.pem");
    if (verify != NULL && !d->verify && ca != NULL)
        report_at(j->report, ca->key_at,
                  "with verify: false nobody is asked for who signed; take `ca` or `verify` out");
    if (j->world->closed)
        return;
    if (d->ca.p != NULL)
        pem_check(j->report, d->ca, node_place(section, "ca"), SLICE_NONE, none);
    if (d->cert.p != NULL && d->key.p != NULL)
        pem_check(j->report, d->cert, node_place(section, "cert"), d->key,
                  node_place(section, "key"));
}

/* What the section of a record says, and for the rest what stands in *ret already. */
static void judge_client(struct judgement *j, const struct node *record,
                         const struct draft_client *d, struct config_tls_client *ret)
{
    const struct node *section = node_get(record, "tls");
    if (section == NULL)
        return;
    check_files(j, section, d);
    if (node_get(section, "ca") != NULL)
        ret->ca = d->ca;
    if (node_get(section, "verify") != NULL)
        ret->verify = d->verify;
    else if (node_get(section, "ca") != NULL)
        ret->verify = true;
    if (node_get(section, "cert") != NULL) {
        ret->cert = d->cert;
        ret->key = d->key;
    }
}

static struct slice where_of(struct judgement *j, struct slice pool)
{
    char room[NAME_BYTES_MAX + 16];
    struct text t = text_into(room, sizeof room);
    TEXT_LIT(&t, "pool ");
    text_put(&t, pool);
    TEXT_LIT(&t, ": tls");
    return mem_copy(j->report->mem, text_slice(&t));
}

/* ---- peers ----------------------------------------------------------------------------------- */

struct found {
    struct edge_peer peer;
    struct pool_target_opts *target; /* NULL: a neighbour */
};

static int by_address(const void *a, const void *b)
{
    return memcmp(&((const struct found *)a)->peer.addr, &((const struct found *)b)->peer.addr,
                  sizeof(struct addr));
}

/* In small letters, and without the brackets that only a URI needs. */
static struct slice plain_name(struct judgement *j, struct slice name)
{
    struct slice copy = mem_copy(j->report->mem, name);
    char *p = (char *)(uintptr_t)copy.p;
    for (size_t i = 0; i < copy.n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + ('a' - 'A'));
    if (copy.n > 2 && copy.p[0] == '[')
        copy = slice_of(copy.p + 1, copy.n - 2);
    if (copy.n > 1 && copy.p[copy.n - 1] == '.') /* no certificate has the dot of the root */
        copy.n--;
    return copy;
}

static struct edge_peer peer_at(struct judgement *j, const struct addr *addr, struct slice name,
                                uint16_t client)
{
    const struct config_tls_client *c = &j->draft->c.tls_clients[client];
    struct edge_peer p = {.addr = *addr,
                          .name = plain_name(j, name),
                          .vouchers = c->verify ? vouchers_hash(c->ca) : 0,
                          .client = client,
                          .shows_cert = c->cert.n > 0};
    const char how[2] = {(char)c->verify, 0};
    struct slice between = slice_of("", 1);
    struct slice parts[] = {slice_of(how, 2), p.name,  between, c->ca,
                            between,          c->cert, between, c->key};
    p.expects = siphash_parts(&everywhere_the_same, parts, sizeof parts / sizeof parts[0]) | 1;
    return p;
}

static void refuse_name(struct judgement *j, const struct node *record, uint8_t transport)
{
    const struct node *name = node_get(record, "name");
    if (name != NULL && transport != TP_TLS)
        report_at(j->report, name->key_at,
                  "nobody is asked for a name over %.*s; take `name` out, or write tls://",
                  SLICE_ARG(transport_name((enum transport)transport)));
}

static uint32_t pool_peers(struct judgement *j, const struct draft_pool *p, uint16_t client,
                           struct found *ret)
{
    const struct draft_target *all = (const struct draft_target *)p->targets.items;
    uint32_t count = 0;
    bool unread = p->targets.count == 0;
    for (uint32_t i = 0; i < p->targets.count && p->opts.targets != NULL; i++) {
        const struct endpoint *e = &all[i].uri;
        unread |= e->text.p == NULL;
        if (e->text.p == NULL)
            continue;
        refuse_name(j, all[i].head.node, e->transport);
        if (e->transport != TP_TLS)
            continue;
        ret[count++] = (struct found){
            .peer = peer_at(j, &e->addr, all[i].name.n > 0 ? all[i].name : e->host, client),
            .target = (struct pool_target_opts *)(uintptr_t)&p->opts.targets[i]};
    }
    const struct node *section = node_get(p->head.node, "tls");
    if (section != NULL && count == 0 && !unread)
        report_at(j->report, section->key_at,
                  "no target of this pool is tls://; take `tls` out, or write tls://HOST:PORT");
    return count;
}

static uint32_t fleet_peers(struct judgement *j, struct found *ret)
{
    const struct draft_neighbour *all = (const struct draft_neighbour *)j->draft->fleet.items;
    const struct edge_opts *o = &j->draft->c.engine.edge;
    uint32_t count = 0;
    for (uint32_t i = 0; i < j->draft->fleet.count && o->fleet != NULL; i++) {
        const struct endpoint *e = &all[i].inside;
        if (e->text.p == NULL)
            continue;
        refuse_name(j, all[i].head.node, e->transport);
        if (e->transport == TP_TLS)
            ret[count++] =
                (struct found){.peer = peer_at(j, &o->fleet[i].addr,
                                               all[i].name.n > 0 ? all[i].name : e->host, 0)};
    }
    return count;
}

void judge__peers(struct judgement *j)
{
    struct draft *d = j->draft;
    const struct draft_pool *pools = (const struct draft_pool *)d->pools.items;
    uint32_t max = d->fleet.count;
    for (uint32_t i = 0; i < d->pools.count; i++)
        max += pools[i].targets.count;
    struct config_tls_client *clients =
        MEM_ARRAY(j->report->mem, struct config_tls_client, d->pools.count + 1);
    struct found *found = MEM_ARRAY(j->report->mem, struct found, max + 1);
    if (clients == NULL || found == NULL)
        return;
    d->c.tls_clients = clients;
    clients[0] = (struct config_tls_client){.where = SLICE("tls"), .verify = true};
    judge_client(j, d->head.node, &d->tls, &clients[0]);
    uint32_t count = fleet_peers(j, found);
    for (uint32_t i = 0; i < d->pools.count; i++) {
        clients[i + 1] = clients[0];
        clients[i + 1].where = where_of(j, pools[i].opts.name);
        judge_client(j, pools[i].head.node, &pools[i].tls, &clients[i + 1]);
        count += pool_peers(j, &pools[i], (uint16_t)(i + 1), found + count);
    }
    d->c.tls_client_count = (uint16_t)(count > 0 ? d->pools.count + 1 : 0);
    struct edge_peer *out = MEM_ARRAY(j->report->mem, struct edge_peer, count + 1);
    if (out == NULL)
        return;
    qsort(found, count, sizeof *found, by_address);
    for (uint32_t i = 0; i < count; i++) {
        out[i] = found[i].peer;
        if (found[i].target != NULL)
            found[i].target->peer = i + 1;
    }
    d->c.engine.edge.peers = out;
    d->c.engine.edge.peer_count = count;
}
