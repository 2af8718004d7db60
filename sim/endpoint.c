/* SPDX-License-Identifier: Apache-2.0
 *
 * What agents and servers have in common: sending, client transactions (RFC 3261 17.1), and the
 * requests of a dialog (12.2). A branch is "z9hG4bK.<slot>.<word>": the slot finds the transaction,
 * the whole text proves it. */
#include <stdlib.h>
#include "sim.h"

static const dur_ns t1 = 500 * NS_MS, t2 = 4 * NS_S;
static const dur_ns remembered = 40 * NS_S; /* after a final answer: longer than anybody repeats */

bool endpoint_is_tcp(const struct world *w, unsigned node)
{
    return node_is_server(node) ? w->plan.target_tcp == 1 : w->agent[node - NODE_AGENT].tcp;
}

void endpoint_hosts(const struct world *w, unsigned node, char *dst, size_t cap)
{
    if (!node_is_server(node)) {
        snprintf(dst, cap, "%s", w->agent[node - NODE_AGENT].host);
        return;
    }
    struct text t = text_into(dst, cap - 1);
    addr_put(&t, &w->node[node].addr[0]);
    dst[text_slice(&t).n] = '\0';
}

/* ---- sending ----------------------------------------------------------------------------------
 */

/* The connection from this node to `dest` that is there or on its way, or a new one. */
static int connection_to(struct world *w, unsigned node, const struct addr *dest)
{
    for (int i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &w->conn[i];
        if ((c->state == CONN_SYN || c->state == CONN_OPEN) && c->end[0].node == node &&
            !c->end[0].gone && !c->end[0].deaf && addr_equal(&c->end[1].addr, dest))
            return i;
    }
    struct addr src = w->node[node].addr[0];
    src.port = (uint16_t)(30000 + w->node[node].port_next++ % 10000);
    return stream_connect(w, node, &src, dest, 10 * NS_S);
}

void endpoint_send(struct world *w, unsigned node, const struct addr *dest, bool tcp,
                   struct conn_ref conn, const void *p, size_t n)
{
    if (stream_is_open(w, conn)) {
        struct conn *c = &w->conn[conn.i];
        trace_message(w, node, "=>", dest, p, n);
        stream_send(w, (unsigned)conn.i, c->end[0].node == node ? 0 : 1, p, n);
        return;
    }
    if (conn.i != NONE) /* it came on a connection that is gone: so is whoever waits */
        return;
    if (!tcp) {
        net_datagram(w, node, 0, 0, packet_new(&w->node[node].addr[0], dest, p, n));
        return;
    }
    trace_message(w, node, "=>", dest, p, n);
    int i = connection_to(w, node, dest);
    if (i != NONE)
        stream_send(w, (unsigned)i, 0, p, n);
}

int endpoint_locate(struct slice uri, struct addr *ret_addr, bool *ret_tcp)
{
    struct sip_uri u;
    if (sip_uri_parse(uri, &u) != 0 || u.scheme != SIP_SCHEME_SIP)
        return -1;
    if (addr_parse_host(u.host, u.port != 0 ? u.port : SIP_PORT, ret_addr) != 0)
        return -1;
    *ret_tcp = sip_uri_transport(&u, TP_UDP) == TP_TCP;
    return 0;
}

/* ---- client transactions ----------------------------------------------------------------------
 */

static void forget(struct client *c)
{
    free(c->sent);
    *c = (struct client){.gen = c->gen + 1};
}

/* One occurrence for whatever comes next; those that come too early find nothing due. */
static void arm(struct world *w, struct client *c)
{
    mono_ns at = mono_min(c->resend_at, mono_min(c->give_up_at, c->forget_at));
    if (at != MONO_NONE)
        world_at(w, at, W_CLIENT, c->node, (uint32_t)(c - w->client), 0, c->gen, NULL);
}

static struct client *take(struct world *w)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &w->client[w->client_next++ % CLIENTS_MAX];
        if (!c->used) {
            *c = (struct client){.used = true, .gen = c->gen, .cancel = NONE};
            return c;
        }
    }
    world_fail(w, "the simulated phones ran out of client transactions");
    return NULL;
}

static void send_client(struct world *w, struct client *c)
{
    endpoint_send(w, c->node, &c->dest, c->reliable, (struct conn_ref){NONE, 0}, c->sent->bytes,
                  c->sent->n);
}

static void begin(struct world *w, struct client *c)
{
    c->interval = t1;
    c->resend_at = c->reliable ? MONO_NONE : w->now + t1;
    c->give_up_at = w->now + 64 * t1;
    c->forget_at = MONO_NONE;
    arm(w, c);
    send_client(w, c);
}

int client_start(struct world *w, unsigned node, enum sip_method method, enum purpose purpose,
                 const struct addr *dest, bool tcp, const char *start, const char *rest, int call)
{
    static char text[2 * SIP_MESSAGE_BYTES_MAX];
    char host[64];
    struct client *c = take(w);
    if (c == NULL)
        return NONE;
    endpoint_hosts(w, node, host, sizeof host);
    c->node = (uint16_t)node;
    c->life = w->node[node].life;
    c->method = (uint8_t)method;
    c->purpose = (uint8_t)purpose;
    c->reliable = tcp;
    c->dest = *dest;
    c->call = call;
    snprintf(c->branch, sizeof c->branch, "z9hG4bK.%u.%u", (unsigned)(c - w->client), ++w->words);
    int n = snprintf(text, sizeof text, "%sVia: SIP/2.0/%s %s;rport;branch=%s\r\n%s", start,
                     tcp ? "TCP" : "UDP", host, c->branch, rest);
    MUST(n > 0 && (size_t)n < sizeof text);
    c->sent = packet_new(&w->node[node].addr[0], dest, text, (size_t)n);
    begin(w, c);
    return (int)(c - w->client);
}

/* RFC 3261 9.1: the same branch, so that it finds the INVITE's transaction. */
int client_cancel(struct world *w, unsigned client)
{
    char buf[TEXT_MAX];
    struct sip_msg m;
    struct sip_fault fault;
    struct client *inv = &w->client[client];
    struct text t = text_into(buf, sizeof buf);
    if (sip_index(&m, inv->sent->bytes, inv->sent->n, true, &fault) != 0 ||
        sip_write_cancel(&t, &m, SLICE_NONE) != 0) {
        world_fail(w, "a phone could not write its CANCEL");
        return NONE;
    }
    struct client *c = take(w);
    if (c == NULL)
        return NONE;
    c->node = inv->node;
    c->life = inv->life;
    c->method = SIP_M_CANCEL;
    c->purpose = FOR_CANCEL;
    c->reliable = inv->reliable;
    c->dest = inv->dest;
    c->call = inv->call;
    memcpy(c->branch, inv->branch, sizeof c->branch);
    c->sent = packet_new(&inv->sent->src, &inv->dest, buf, text_slice(&t).n);
    inv->cancel = (int32_t)(c - w->client);
    begin(w, c);
    return (int)(c - w->client);
}

void client_resend(struct world *w, unsigned client)
{
    if (w->client[client].used && w->node[w->client[client].node].up)
        send_client(w, &w->client[client]);
}

void client_timer(struct world *w, unsigned client, uint64_t gen)
{
    struct client *c = &w->client[client];
    if (!c->used || c->gen != gen)
        return;
    if (w->now >= c->forget_at || w->node[c->node].life != c->life) {
        forget(c);
    } else if (w->now >= c->give_up_at) {
        TRACE(w, c->node, "gives up on %s", c->branch);
        c->give_up_at = c->resend_at = MONO_NONE;
        c->forget_at = w->now;
        arm(w, c);
        if (!node_is_server(c->node))
            uac_timeout(w, client);
    } else if (w->now >= c->resend_at) {
        c->interval = c->method == SIP_M_INVITE || c->interval * 2 < t2 ? c->interval * 2 : t2;
        c->resend_at = w->now + c->interval;
        arm(w, c);
        send_client(w, c);
    }
}

static struct client *client_of(struct world *w, unsigned node, const struct sip_facts *f)
{
    struct slice b = f->via.branch;
    uint64_t slot;
    if (!slice_starts_with(b, SLICE("z9hG4bK.")))
        return NULL;
    struct slice rest = slice_drop(b, 8);
    if (text_parse_u64(slice_take(rest, slice_find(rest, '.')), CLIENTS_MAX - 1, &slot) != 0)
        return NULL;
    struct client *c = &w->client[slot];
    if (!c->used || c->node != node || !slice_equal(slice_cstr(c->branch), b))
        return NULL;
    /* A CANCEL has its INVITE's branch. */
    if (f->method == SIP_M_CANCEL && c->method == SIP_M_INVITE)
        c = c->cancel != NONE ? &w->client[c->cancel] : NULL;
    return c != NULL && c->used && c->method == f->method ? c : NULL;
}

static void ack_failure(struct world *w, struct client *c, const struct sip_facts *f)
{
    char buf[TEXT_MAX];
    struct sip_msg sent;
    struct sip_fault fault;
    struct text t = text_into(buf, sizeof buf);
    if (sip_index(&sent, c->sent->bytes, c->sent->n, true, &fault) != 0 ||
        sip_write_ack(&t, &sent, SLICE_NONE, f->to) != 0) {
        world_fail(w, "a phone could not write its ACK");
        return;
    }
    struct slice s = text_slice(&t);
    endpoint_send(w, c->node, &c->dest, c->reliable, (struct conn_ref){NONE, 0}, s.p, s.n);
}

static void on_response(struct world *w, unsigned node, const struct sip_msg *m,
                        const struct sip_facts *f)
{
    struct client *c = client_of(w, node, f);
    if (c == NULL || (c->forget_at != MONO_NONE && c->status == 0))
        return;
    check_response_in(w, node, m);
    uint16_t status = m->status;
    if (status < 200) {
        c->provisional = true;
        c->rang = c->rang || status > 100;
        if (c->status == 0 && c->method == SIP_M_INVITE)
            c->resend_at = c->give_up_at = MONO_NONE;
        else
            c->interval = t2;
    } else if (c->status == 0) {
        c->status = status;
        c->resend_at = c->give_up_at = MONO_NONE;
        c->forget_at = w->now + remembered;
        arm(w, c);
    }
    if (status >= 300 && c->method == SIP_M_INVITE)
        ack_failure(w, c, f);
    if (status >= 300 && c->purpose == FOR_SURE)
        world_fail(w, "liveness: %s in a dialog that began when all was well ended with %u",
                   c->branch, status);
    if (!node_is_server(node))
        uac_response(w, (unsigned)(c - w->client), m, f);
}

void endpoint_message(struct world *w, unsigned node, const char *p, size_t n,
                      const struct addr *source, struct conn_ref conn)
{
    /* Handlers send, and sending never comes back here: one of each is enough. */
    static struct sip_msg m;
    static struct sip_facts f;
    struct sip_fault fault;
    trace_message(w, node, conn.i == NONE ? "<-" : "<=", source, p, n);
    if (sip_index(&m, p, n, conn.i == NONE, &fault) != 0)
        return;
    if (!m.is_request) {
        if (sip_check_response(&m, &f, &fault) == 0)
            on_response(w, node, &m, &f);
        return;
    }
    if (sip_check_request(&m, &f, &fault) != 0)
        return;
    if (node_is_server(node)) {
        check_server_in(w, node, &m, &f);
        uas_request(w, node, &m, &f, source, conn);
    } else {
        uac_request(w, node, &m, &f, source, conn);
    }
}

void endpoint_died(struct world *w, unsigned node)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (w->client[i].used && w->client[i].node == node)
            forget(&w->client[i]);
    }
    for (uint32_t i = 0; i < SERVINGS_MAX; i++) {
        struct serving *s = &w->serving[i];
        if (s->used && s->node == node) {
            free(s->request);
            free(s->last);
            *s = (struct serving){.gen = s->gen + 1};
        }
    }
}

uint64_t endpoint_key(const struct sip_facts *f, enum sip_method as)
{
    static const struct hash_seed seed = {5, 6};
    uint64_t numbers[2] = {(uint64_t)as, f->via.port};
    struct slice parts[3] = {f->via.branch, f->via.host, slice_of(numbers, sizeof numbers)};
    return siphash_parts(&seed, parts, 3);
}

/* ---- dialogs ----------------------------------------------------------------------------------
 */

static void put(char *dst, size_t cap, struct slice s)
{
    snprintf(dst, cap, "%.*s", SLICE_ARG(s));
}

/* The URI inside a Contact or Route value. */
static void put_uri(char *dst, size_t cap, struct slice value)
{
    struct sip_nameaddr na;
    dst[0] = '\0';
    if (sip_nameaddr_parse(value, &na) == 0)
        put(dst, cap, na.uri);
}

static void put_routes(struct dialog *d, const struct sip_msg *m, bool reversed)
{
    enum { ROUTES_KEPT = 12 };
    struct slice route[ROUTES_KEPT];
    unsigned count = 0;
    struct sip_values v = sip_values(m, SIP_H_RECORD_ROUTE);
    while (count < ROUTES_KEPT && sip_next_value(&v))
        route[count++] = sip_slice(m, v.value);
    size_t at = 0;
    d->routes[0] = '\0';
    for (unsigned i = 0; i < count && at < sizeof d->routes; i++) {
        struct slice r = route[reversed ? count - 1 - i : i];
        if (i == 0)
            put_uri(d->next_hop, sizeof d->next_hop, r);
        at += (size_t)snprintf(d->routes + at, sizeof d->routes - at, "Route: %.*s\r\n",
                               SLICE_ARG(r));
    }
    MUST(at < sizeof d->routes);
    if (count == 0)
        memcpy(d->next_hop, d->target, sizeof d->next_hop);
}

void dialog_from(struct dialog *d, const struct sip_msg *m, const struct sip_facts *f, bool as_uac,
                 const char *local_tag)
{
    put(d->call_id, sizeof d->call_id, f->call_id);
    if (as_uac) {
        put(d->local, sizeof d->local, f->from);
        put(d->remote, sizeof d->remote, f->to);
    } else {
        put(d->remote, sizeof d->remote, f->from);
        snprintf(d->local, sizeof d->local, "%.*s%s%s", SLICE_ARG(f->to),
                 f->to_tag.n == 0 ? ";tag=" : "", f->to_tag.n == 0 ? local_tag : "");
    }
    put_uri(d->target, sizeof d->target, sip_header_value(m, SIP_H_CONTACT));
    put_routes(d, m, as_uac);
}

static void in_dialog(const struct dialog *d, enum sip_method method, uint32_t cseq,
                      const char *contact, char start[512], char rest[2048])
{
    struct slice name = sip_method_name(method);
    snprintf(start, 512, "%.*s %s SIP/2.0\r\n", SLICE_ARG(name), d->target);
    int n = snprintf(rest, 2048,
                     "%sMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\n"
                     "CSeq: %u %.*s\r\n%sContent-Length: 0\r\n\r\n",
                     d->routes, d->local, d->remote, d->call_id, cseq, SLICE_ARG(name), contact);
    MUST(n < 2048);
}

int dialog_request(struct world *w, unsigned node, struct dialog *d, enum sip_method method,
                   enum purpose purpose, int call)
{
    char start[512], rest[2048], contact[128], host[64];
    struct addr dest;
    bool tcp;
    if (endpoint_locate(slice_cstr(d->next_hop), &dest, &tcp) != 0) {
        TRACE(w, node, "cannot locate <%s>", d->next_hop);
        return NONE;
    }
    endpoint_hosts(w, node, host, sizeof host);
    snprintf(contact, sizeof contact, "Contact: <sip:%s@%s%s>\r\n", w->node[node].name, host,
             endpoint_is_tcp(w, node) ? ";transport=tcp" : "");
    in_dialog(d, method, ++d->cseq, method == SIP_M_INVITE ? contact : "", start, rest);
    return client_start(w, node, method, purpose, &dest, tcp, start, rest, call);
}

/* The ACK of a 2xx: a request of its own without a transaction (RFC 3261 13.2.2.4). */
void dialog_ack(struct world *w, unsigned node, const struct dialog *d, uint32_t cseq)
{
    char start[512], rest[2048], host[64], text[TEXT_MAX];
    struct addr dest;
    bool tcp;
    if (endpoint_locate(slice_cstr(d->next_hop), &dest, &tcp) != 0)
        return;
    endpoint_hosts(w, node, host, sizeof host);
    in_dialog(d, SIP_M_ACK, cseq, "", start, rest);
    int n = snprintf(text, sizeof text, "%sVia: SIP/2.0/%s %s;rport;branch=z9hG4bK.ack.%u\r\n%s",
                     start, tcp ? "TCP" : "UDP", host, ++w->words, rest);
    MUST((size_t)n < sizeof text);
    endpoint_send(w, node, &dest, tcp, (struct conn_ref){NONE, 0}, text, (size_t)n);
}
