/* SPDX-License-Identifier: Apache-2.0
 *
 * RFC 3263 in a thread of its own. One look-up is a walk:
 *
 *      port given ─────────────────────────────────────────────┐
 *      transport given ─────────────▶ SRV of that transport ──▶ A + AAAA of each host ─▶ answer
 *      neither ─▶ NAPTR ─ something ─▶ SRV of what it names ───┘            ▲
 *                   └─ nothing ─▶ SRV of udp, then of tcp ─ nothing ─ the name itself, 5060
 *
 * Those who ask for what is being looked up already wait with the first. NAPTR and SRV come as raw
 * packets (the library's own structures lack the time to live); addresses come from
 * ares_getaddrinfo(), which knows /etc/hosts and "localhost" too. Servers are those of
 * /etc/resolv.conf, or of $WEIR_NAMESERVERS ("10.0.0.2,[2001:db8::2]:5353"). */
#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "net/dns.h"
#include "net/net_int.h"

enum {
    LOOKUPS_MAX = 256,
    WAITERS_MAX = 32,
    HOSTS_MAX = EVENT_ADDRS_MAX,
    SERVICES_MAX = 4,
    TRANSPORT_ANY = 255,
    QUERY_TIMEOUT_MS = 1000, /* of the first try at a server; it doubles */
    QUERY_TRIES = 2,
    TTL_MAX_S = 3600,
    TTL_NEGATIVE_MAX_S = 60,
    QUERY_CLASS_IN = 1,
    SOCKETS_MAX = 15, /* one less than ares_getsock() knows: its last bit is int's sign */
    TTL_FAILED_S = 2, /* a server that fails is asked again soon */
};

struct host {
    uint16_t group, priority, weight, port;
    uint8_t transport;
    struct dns_name name;
};

struct service {
    uint8_t transport;
    struct dns_name name;
};

struct waiter {
    uint32_t worker;
    uint64_t id;
};

struct lookup {
    bool used;
    struct resolver *r;
    struct dns_key key;
    uint32_t ttl_s;
    bool refused; /* an SRV said: not offered */
    bool failed;  /* a server did not answer or failed */
    unsigned waiter_count;
    struct waiter waiter[WAITERS_MAX];
    unsigned service_count, service_at;
    struct service service[SERVICES_MAX];
    unsigned host_count, host_at;
    struct host host[HOSTS_MAX];
    unsigned count;
    struct dns_result result[DNS_RESULTS_MAX];
};

struct resolver {
    struct net *net;
    pthread_t thread;
    struct inbox inbox;
    _Atomic bool stop;
    ares_channel channel;
    struct prng prng;
    struct dns_cache cache;
    struct lookup lookup[LOOKUPS_MAX];
};

struct inbox *resolver_inbox(struct resolver *r)
{
    return &r->inbox;
}

/* ---- worker's side --------------------------------------------------------------------------- */

void resolver_ask(struct worker *w, const struct action *a)
{
    struct ask head = {.id = a->id, .port = a->port, .transport = a->transport};
    struct slice name = slice_take(a->text, DNS_NAME_BYTES_MAX);
    head.len = (uint8_t)name.n;
    char *p = (char *)ring_reserve(w->ask, (uint32_t)(sizeof head + name.n));
    if (p == NULL) {
        w->count.asks_lost++;
        return;
    }
    memcpy(p, &head, sizeof head);
    if (name.n > 0)
        memcpy(p + sizeof head, name.p, name.n);
    ring_push(w->ask, (uint32_t)(sizeof head + name.n));
    inbox_knock_worker(&w->net->resolver->inbox, w->index);
}

/* ---- answering ------------------------------------------------------------------------------- */

static void tell(struct resolver *r, struct waiter to, int error, const struct dns_result *results,
                 unsigned count)
{
    struct worker *w = r->net->worker[to.worker];
    struct told t;
    memset(&t, 0, sizeof t);
    t.id = to.id;
    t.error = error;
    t.count = dns_order(results, count, &r->prng, t.addr, EVENT_ADDRS_MAX);
    char *p = (char *)ring_reserve(w->told, sizeof t);
    if (p == NULL)
        return; /* the transaction's timer ends the wait */
    memcpy(p, &t, sizeof t);
    ring_push(w->told, sizeof t);
    inbox_knock_other(&w->inbox, INBOX_RESOLVER);
}

static dur_ns time_to_live(const struct lookup *l)
{
    uint32_t ttl = l->ttl_s, max = l->count > 0 ? TTL_MAX_S : TTL_NEGATIVE_MAX_S;
    if (l->count == 0 && l->failed)
        max = TTL_FAILED_S;
    if (ttl > max)
        ttl = max;
    return (ttl > 0 ? ttl : 1) * NS_S;
}

static void finish(struct lookup *l)
{
    struct resolver *r = l->r;
    int error = l->count == 0 && l->failed ? EAGAIN : 0;
    dns_cache_put(&r->cache, &l->key, l->result, l->count, time_to_live(l), mono_now());
    for (unsigned i = 0; i < l->waiter_count; i++)
        tell(r, l->waiter[i], error, l->result, l->count);
    l->used = false;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static void next_host(struct lookup *l);
static void next_service(struct lookup *l);

static void note_ttl(struct lookup *l, uint32_t ttl_s)
{
    if (ttl_s < l->ttl_s)
        l->ttl_s = ttl_s;
}

static void note_status(struct lookup *l, int status)
{
    if (status != ARES_SUCCESS && status != ARES_ENODATA && status != ARES_ENOTFOUND)
        l->failed = true;
}

static void add_result(struct lookup *l, const struct host *h, const struct sockaddr *sa)
{
    struct sockaddr_in6 name;
    if (l->count == DNS_RESULTS_MAX)
        return;
    memset(&name, 0, sizeof name);
    memcpy(&name, sa, sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof name);
    struct dns_result *res = &l->result[l->count];
    *res = (struct dns_result){.group = h->group, .priority = h->priority, .weight = h->weight};
    res->to.addr = addr_from_sockaddr(&name);
    res->to.addr.port = h->port;
    res->to.transport = h->transport;
    if (addr_is_unicast(&res->to.addr))
        l->count++;
}

static void on_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct lookup *l = (struct lookup *)arg;
    (void)timeouts;
    if (status == ARES_EDESTRUCTION)
        return;
    note_status(l, status);
    if (status == ARES_ENODATA || status == ARES_ENOTFOUND)
        note_ttl(l, TTL_NEGATIVE_MAX_S);
    if (info != NULL) {
        for (struct ares_addrinfo_node *n = info->nodes; n != NULL; n = n->ai_next) {
            if (n->ai_family != AF_INET && n->ai_family != AF_INET6)
                continue;
            add_result(l, &l->host[l->host_at], n->ai_addr);
            note_ttl(l, n->ai_ttl > 0 ? (uint32_t)n->ai_ttl : 1);
        }
        ares_freeaddrinfo(info);
    }
    l->host_at++;
    next_host(l);
}

static void next_host(struct lookup *l)
{
    if (l->host_at == l->host_count) {
        finish(l);
        return;
    }
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
    ares_getaddrinfo(l->r->channel, l->host[l->host_at].name.text, NULL, &hints, on_addresses, l);
}

static void add_host(struct lookup *l, const struct host *h)
{
    if (l->host_count < HOSTS_MAX)
        l->host[l->host_count++] = *h;
}

/* No service record leads anywhere: the name itself, at the default port (RFC 3263 4.2). */
static void use_name_itself(struct lookup *l)
{
    struct host h = {.port = l->key.port, .transport = l->key.transport, .name = l->key.name};
    if (h.transport == TRANSPORT_ANY)
        h.transport = TP_UDP;
    if (h.port == 0)
        h.port = h.transport == TP_TLS || h.transport == TP_WSS ? 5061 : 5060;
    add_host(l, &h);
}

static void sort_records(struct dns_answer *a)
{
    for (unsigned i = 1; i < a->count; i++) {
        for (unsigned k = i; k > 0; k--) {
            struct dns_record *x = &a->record[k - 1], *y = &a->record[k];
            if (x->priority <= y->priority)
                break;
            struct dns_record swapped = *x;
            *x = *y;
            *y = swapped;
        }
    }
}

static void on_services(void *arg, int status, int timeouts, unsigned char *packet, int len)
{
    struct lookup *l = (struct lookup *)arg;
    struct dns_answer a;
    (void)timeouts;
    if (status == ARES_EDESTRUCTION)
        return;
    note_status(l, status);
    if (packet != NULL && dns_parse(slice_of(packet, (size_t)len), DNS_SRV, &a) == 0) {
        sort_records(&a);
        note_ttl(l, a.ttl_s);
        l->refused |= a.refuses;
        for (unsigned i = 0; i < a.count; i++) {
            struct dns_record *rec = &a.record[i];
            struct host h = {.group = (uint16_t)l->service_at,
                             .priority = rec->priority,
                             .weight = rec->weight,
                             .port = rec->port,
                             .transport = l->service[l->service_at].transport,
                             .name = rec->name};
            add_host(l, &h);
        }
    }
    l->service_at++;
    next_service(l);
}

static void next_service(struct lookup *l)
{
    if (l->service_at < l->service_count) {
        ares_query(l->r->channel, l->service[l->service_at].name.text, QUERY_CLASS_IN, DNS_SRV,
                   on_services, l);
        return;
    }
    if (l->host_count == 0 && !l->refused)
        use_name_itself(l);
    next_host(l);
}

static void add_service(struct lookup *l, uint8_t transport, struct slice prefix)
{
    struct dns_name *to = &l->service[l->service_count].name;
    if (l->service_count == SERVICES_MAX || prefix.n + l->key.name.len > DNS_NAME_BYTES_MAX - 2)
        return;
    memcpy(to->text, prefix.p, prefix.n);
    memcpy(to->text + prefix.n, l->key.name.text, l->key.name.len);
    to->len = (uint8_t)(prefix.n + l->key.name.len);
    to->text[to->len] = '\0';
    l->service[l->service_count++].transport = transport;
}

static void add_usual_services(struct lookup *l)
{
    uint8_t transport = l->key.transport;
    if (transport == TP_UDP || transport == TRANSPORT_ANY)
        add_service(l, TP_UDP, SLICE("_sip._udp."));
    if (transport == TP_TCP || transport == TRANSPORT_ANY)
        add_service(l, TP_TCP, SLICE("_sip._tcp."));
    if (transport == TP_TLS)
        add_service(l, TP_TLS, SLICE("_sips._tcp."));
}

static void on_pointers(void *arg, int status, int timeouts, unsigned char *packet, int len)
{
    struct lookup *l = (struct lookup *)arg;
    struct dns_answer a;
    (void)timeouts;
    if (status == ARES_EDESTRUCTION)
        return;
    if (packet != NULL && dns_parse(slice_of(packet, (size_t)len), DNS_NAPTR, &a) == 0) {
        if (a.count > 0)
            note_ttl(l, a.ttl_s);
        for (unsigned i = 0; i < a.count; i++) /* order first, then preference (RFC 3403 4.1) */
            for (unsigned k = a.count - 1; k > i; k--) {
                struct dns_record *x = &a.record[k - 1], *y = &a.record[k];
                uint32_t rx = (uint32_t)x->priority << 16 | x->weight;
                uint32_t ry = (uint32_t)y->priority << 16 | y->weight;
                if (rx > ry) {
                    struct dns_record swapped = *x;
                    *x = *y;
                    *y = swapped;
                }
            }
        for (unsigned i = 0; i < a.count && l->service_count < SERVICES_MAX; i++)
            l->service[l->service_count++] =
                (struct service){a.record[i].transport, a.record[i].name};
    }
    if (l->service_count == 0)
        add_usual_services(l);
    next_service(l);
}

static void begin_walk(struct lookup *l)
{
    if (l->key.port != 0) {
        use_name_itself(l);
        next_host(l);
    } else if (l->key.transport != TRANSPORT_ANY) {
        add_usual_services(l);
        next_service(l);
    } else {
        ares_query(l->r->channel, l->key.name.text, QUERY_CLASS_IN, DNS_NAPTR, on_pointers, l);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

/* RFC 3263 4.1: a numeric host needs no question. */
static bool is_numeric(const struct ask *a, struct slice name, struct dns_result *ret_result)
{
    struct dns_result res = {.to.transport = a->transport == TRANSPORT_ANY ? TP_UDP : a->transport};
    uint16_t usual = res.to.transport == TP_TLS || res.to.transport == TP_WSS ? 5061 : 5060;
    if (addr_parse_host(name, a->port != 0 ? a->port : usual, &res.to.addr) != 0)
        return false;
    *ret_result = res;
    return true;
}

/* The look-up under way for this key, or a new one; NULL when too many are under way. */
static struct lookup *lookup_for(struct resolver *r, const struct dns_key *key, bool *ret_new)
{
    struct lookup *fresh = NULL;
    for (unsigned i = 0; i < LOOKUPS_MAX; i++) {
        struct lookup *l = &r->lookup[i];
        if (l->used && dns_key_equal(&l->key, key)) {
            *ret_new = false;
            return l;
        }
        if (!l->used && fresh == NULL)
            fresh = l;
    }
    *ret_new = true;
    if (fresh != NULL) {
        memset(fresh, 0, sizeof *fresh);
        *fresh = (struct lookup){.used = true, .r = r, .key = *key, .ttl_s = UINT32_MAX};
    }
    return fresh;
}

static void serve(struct resolver *r, uint32_t worker, const struct ask *a, struct slice name)
{
    struct waiter w = {worker, a->id};
    struct dns_result numeric;
    struct dns_key key;
    if (is_numeric(a, name, &numeric)) {
        tell(r, w, 0, &numeric, 1);
        return;
    }
    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (!dns_name_is_sane(name)) {
        tell(r, w, 0, NULL, 0);
        return;
    }
    dns_key_init(&key, name, a->port, a->transport);
    const struct dns_entry *known = dns_cache_find(&r->cache, &key, mono_now());
    if (known != NULL) {
        tell(r, w, 0, known->result, known->count);
        return;
    }
    bool is_new;
    struct lookup *l = lookup_for(r, &key, &is_new);
    if (l == NULL || l->waiter_count == WAITERS_MAX) {
        tell(r, w, EAGAIN, NULL, 0);
        return;
    }
    l->waiter[l->waiter_count++] = w;
    if (is_new)
        begin_walk(l);
}

static void take_asks(struct resolver *r)
{
    uint64_t from = atomic_exchange(&r->inbox.from_workers, 0);
    for (; from != 0; from &= from - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(from);
        struct ring *ring = r->net->worker[i]->ask;
        for (struct slice rec; (rec = ring_peek(ring)).p != NULL; ring_pop(ring)) {
            struct ask a;
            memcpy(&a, rec.p, sizeof a);
            serve(r, i, &a, slice_of(rec.p + sizeof a, a.len));
        }
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static int wait_ms(struct resolver *r)
{
    struct timeval tv;
    struct timeval *next = ares_timeout(r->channel, NULL, &tv);
    if (next == NULL)
        return -1;
    return (int)(next->tv_sec * 1000 + next->tv_usec / 1000 + 1);
}

static void wait_and_process(struct resolver *r)
{
    ares_socket_t socks[SOCKETS_MAX];
    struct pollfd fds[SOCKETS_MAX + 1] = {{.fd = r->inbox.wake_fd, .events = POLLIN}};
    int bits = ares_getsock(r->channel, socks, SOCKETS_MAX);
    nfds_t count = 1;
    for (int i = 0; i < SOCKETS_MAX; i++) {
        short events = 0;
        if (ARES_GETSOCK_READABLE(bits, i))
            events |= POLLIN;
        if (ARES_GETSOCK_WRITABLE(bits, i))
            events |= POLLOUT;
        if (events != 0)
            fds[count++] = (struct pollfd){.fd = socks[i], .events = events};
    }
    int timeout = inbox_may_sleep(&r->inbox) ? wait_ms(r) : 0;
    if (poll(fds, count, timeout) < 0)
        return;
    inbox_awake(&r->inbox);
    if (fds[0].revents != 0)
        inbox_drain_fd(&r->inbox);
    for (nfds_t i = 1; i < count; i++) {
        bool in = (fds[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0;
        bool out = (fds[i].revents & (POLLOUT | POLLERR)) != 0;
        if (in || out)
            ares_process_fd(r->channel, in ? fds[i].fd : ARES_SOCKET_BAD,
                            out ? fds[i].fd : ARES_SOCKET_BAD);
    }
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* timeouts */
}

static void *resolver_main(void *arg)
{
    struct resolver *r = (struct resolver *)arg;
    pthread_setname_np(pthread_self(), "weir-dns");
    while (!atomic_load(&r->stop)) {
        take_asks(r);
        wait_and_process(r);
    }
    return NULL;
}

struct resolver *resolver_start(struct net *net, FILE *errors)
{
    struct resolver *r = (struct resolver *)memory_map(sizeof *r);
    struct ares_options options = {.timeout = QUERY_TIMEOUT_MS, .tries = QUERY_TRIES};
    struct entropy e = {0};
    struct rng rng = entropy_rng(&e);
    if (r == NULL || inbox_init(&r->inbox) != 0 || ares_library_init(ARES_LIB_INIT_ALL) != 0) {
        fprintf(errors, "weir: resolver: cannot start: %s\n", strerror(errno));
        return NULL;
    }
    r->net = net;
    r->cache.seed = (struct hash_seed){rng_u64(&rng), rng_u64(&rng)};
    prng_seed(&r->prng, rng_u64(&rng));
    int status = ares_init_options(&r->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
    const char *servers = getenv("WEIR_NAMESERVERS");
    if (status == ARES_SUCCESS && servers != NULL && servers[0] != '\0')
        status = ares_set_servers_ports_csv(r->channel, servers);
    if (status != ARES_SUCCESS) {
        fprintf(errors, "weir: resolver: cannot start: %s\n", ares_strerror(status));
        return NULL;
    }
    int failed = pthread_create(&r->thread, NULL, resolver_main, r);
    if (failed != 0) {
        fprintf(errors, "weir: resolver: cannot start: %s\n", strerror(failed));
        return NULL;
    }
    return r;
}

void resolver_stop(struct resolver *r)
{
    if (r == NULL)
        return;
    atomic_store(&r->stop, true);
    inbox_knock_other(&r->inbox, INBOX_MAIN);
    pthread_join(r->thread, NULL);
    ares_destroy(r->channel);
    ares_library_cleanup();
    close(r->inbox.wake_fd);
    memory_unmap(r, sizeof *r);
}
