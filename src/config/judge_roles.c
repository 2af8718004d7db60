/* SPDX-License-Identifier: Apache-2.0
 *
 * Roles that a process can have beside its edge, and the edges beside it. */
#include "config/config_int.h"

static void check_domains(struct judgement *j)
{
    const struct node *roles = judge__section(j->draft->head.node, "roles");
    const struct node *n = node_get(judge__section(roles, "registrar"), "domains");
    const struct slice *domains = (const struct slice *)j->draft->domains.items;
    const struct node *child = n != NULL ? n->first : NULL;
    for (uint32_t i = 0; i < j->draft->domains.count && child != NULL; i++, child = child->next)
        for (uint32_t k = 0; k < i; k++)
            if (domains[i].n > 0 && slice_equal(domains[i], domains[k])) {
                report_at(j->report, child->at, "`%s` stands here twice; keep one of them",
                          report_show(j->report, domains[i]));
                break;
            }
}

static void judge_users(struct judgement *j, const struct node *registrar)
{
    struct registrar_opts *o = &j->draft->c.engine.edge.registrar;
    const struct node *auth = judge__section(registrar, "auth");
    if (j->draft->users.p == NULL || o->realm.n == 0 || j->world->closed)
        return;
    users_read(j->report, j->draft->users, node_place(auth, "digest"), o);
}

static void judge_offer(struct judgement *j, const struct node *registrar)
{
    struct registrar_opts *o = &j->draft->c.engine.edge.registrar;
    const struct list *offer = &j->draft->offer;
    const struct node *n = node_get(judge__section(registrar, "auth"), "offer");
    const struct node *first = n != NULL ? n->first : NULL;
    const uint8_t *algorithms = (const uint8_t *)offer->items;
    if (first != NULL && first->next != NULL && slice_equal(first->text, first->next->text))
        report_at(j->report, first->next->at, "`%s` stands here twice; keep one of them",
                  report_show(j->report, first->text));
    for (uint32_t i = 0; i < offer->count; i++)
        o->offer[i] = algorithms[i];
    o->offer_count = (uint8_t)offer->count;
}

void judge__registrar(struct judgement *j)
{
    struct config *c = &j->draft->c;
    struct registrar_opts *o = &c->engine.edge.registrar;
    if (!o->on)
        return;
    const struct node *roles = judge__section(j->draft->head.node, "roles");
    const struct node *registrar = judge__section(roles, "registrar");
    const struct node *expires = judge__section(registrar, "expires");
    o->domains = (const struct slice *)j->draft->domains.items;
    o->domain_count = (uint16_t)j->draft->domains.count;
    o->keys = &c->engine.edge.keys;
    check_domains(j);
    judge__order(j, expires, "min", o->expires_min_s * NS_S, "default",
                 o->expires_default_s * NS_S);
    judge__order(j, expires, "default", o->expires_default_s * NS_S, "max",
                 o->expires_max_s * NS_S);
    if (!o->digest)
        return;
    bool unread = node_get(judge__section(registrar, "auth"), "realm") != NULL;
    if (o->realm.n == 0 && o->domain_count > 0 && !unread)
        o->realm = o->domains[0];
    judge_offer(j, registrar);
    judge_users(j, registrar);
}

void judge__fleet(struct judgement *j)
{
    struct edge_opts *o = &j->draft->c.engine.edge;
    const struct draft_neighbour *all = (const struct draft_neighbour *)j->draft->fleet.items;
    uint32_t count = j->draft->fleet.count;
    const struct node *root = j->draft->head.node, *fleet = node_get(root, "fleet");
    struct edge_neighbour *out = MEM_ARRAY(j->report->mem, struct edge_neighbour, count);
    if (count == 0 || out == NULL)
        return;
    if (o->node_id == 0 && node_get(node_get(root, "node"), "id") == NULL)
        report_at(j->report, fleet->key_at,
                  "with `fleet` this edge needs a number of its own; add node: {id: 1}, another "
                  "number on each edge");
    else if (o->node_id == 0)
        report_at(j->report, node_place(node_get(root, "node"), "id"),
                  "0 is nobody's number in a fleet; write 1 to 65535");
    if (node_get(node_get(root, "secrets"), "tokens") == NULL)
        report_at(j->report, fleet->key_at,
                  "edges of a fleet read each other's tokens; add secrets: {tokens: FILE}, the "
                  "same file on all");
    for (uint32_t i = 0; i < count; i++) {
        struct endpoint e = all[i].inside;
        struct place at = node_place(all[i].head.node, "id");
        if (all[i].id != 0 && all[i].id == o->node_id)
            report_at(j->report, at, "%u is our own node.id; take us out of the list", all[i].id);
        for (uint32_t k = 0; k < i; k++)
            if (all[i].id != 0 && all[i].id == all[k].id) {
                report_at(j->report, at, "the neighbour on line %u has the id %u already",
                          node_place(all[k].head.node, "id").line, all[i].id);
                break;
            }
        if (e.text.p != NULL)
            judge__address(j, node_place(all[i].head.node, "inside"), &e);
        out[i] = (struct edge_neighbour){.id = all[i].id, .transport = e.transport, .addr = e.addr};
    }
    o->fleet = out;
    o->fleet_count = (uint16_t)count;
}
