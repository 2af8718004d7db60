/* SPDX-License-Identifier: Apache-2.0
 *
 * The resolver's thread against a name server of our own on loopback: RFC 3263's ways from a name
 * to addresses, who asks is told, and nothing is asked twice while it holds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"
#include "support/support.h"

/* ---- the name server --------------------------------------------------------------------------
 */

enum { TYPE_A = 1, TYPE_SRV = 33, TYPE_NAPTR = 35 };

/* `data` as in a packet; "\xc0\x0c" is the name that was asked for. Names at the end of an SRV take
 * the literal's own NUL as the root. */
static const struct zone {
    const char *name;
    uint16_t type;
    struct slice data;
} zone[] = {
    {"both.test", TYPE_NAPTR, {"\0\2\0\0\1s\7SIP+D2U\0\4_sip\4_udp\xc0\x0c", 27}},
    {"both.test", TYPE_NAPTR, {"\0\1\0\0\1s\7SIP+D2T\0\4_sip\4_tcp\xc0\x0c", 27}},
    {"_sip._udp.both.test", TYPE_SRV, {"\0\1\0\1\x13\xc4\1u\4test", 14}},
    {"_sip._tcp.both.test", TYPE_SRV, {"\0\1\0\1\x13\xce\1t\4test", 14}},
    {"u.test", TYPE_A, {"\x0a\0\0\1", 4}},
    {"t.test", TYPE_A, {"\x0a\0\0\2", 4}},
    {"plain.test", TYPE_A, {"\x0a\0\0\3", 4}},
    {"_sip._udp.never.test", TYPE_SRV, {"\0\0\0\0\0\0", 7}},
    {"never.test", TYPE_A, {"\x0a\0\0\4", 4}},
};

struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic unsigned asked;
};

static bool name_is(const unsigned char *wire, size_t n, const char *want)
{
    char text[256];
    size_t at = 0, len = 0;
    while (at < n && wire[at] != 0) {
        if (len > 0)
            text[len++] = '.';
        memcpy(text + len, wire + at + 1, wire[at]);
        len += wire[at];
        at += 1u + wire[at];
    }
    return slice_equal_nocase(slice_of(text, len), slice_cstr(want));
}

static size_t answer(unsigned char *p, size_t n)
{
    static const unsigned char head[] = {0xc0, 0x0c, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0};
    size_t at = 12;
    while (p[at] != 0)
        at += 1u + p[at];
    uint16_t type = (uint16_t)(p[at + 1] << 8 | p[at + 2]);
    n = at + 5; /* what follows the question is of no interest */
    bool known = false;
    memset(p + 6, 0, 6);
    for (size_t i = 0; i < sizeof zone / sizeof zone[0]; i++) {
        const struct zone *z = &zone[i];
        bool same = name_is(p + 12, at - 12, z->name);
        known |= same;
        if (!same || z->type != type)
            continue;
        size_t len = z->data.n;
        memcpy(p + n, head, sizeof head);
        p[n + 3] = (unsigned char)type;
        p[n + 11] = (unsigned char)len;
        memcpy(p + n + 12, z->data.p, len);
        n += sizeof head + len;
        p[7]++;
    }
    p[2] = 0x81;
    p[3] = known ? 0x80 : 0x83;
    return n;
}

static void *serve(void *arg)
{
    struct server *s = (struct server *)arg;
    for (;;) {
        unsigned char packet[2048];
        struct sockaddr_in6 from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(s->fd, packet, 512, 0, (struct sockaddr *)&from, &len);
        if (n <= 1) /* one byte: the end */
            return NULL;
        atomic_fetch_add(&s->asked, 1);
        size_t out = answer(packet, (size_t)n);
        (void)!sendto(s->fd, packet, out, 0, (struct sockaddr *)&from, len);
    }
}

/* ---- the world around it ----------------------------------------------------------------------
 */

struct world {
    struct net net;
    struct config config;
    struct server server;
    uint64_t next_id;
};

static int begin(void **state)
{
    struct world *x = (struct world *)calloc(1, sizeof *x);
    struct addr any = {.ip = {127, 0, 0, 1}, .family = 4};
    struct sockaddr_in6 sa;
    socklen_t len = sizeof sa;
    char servers[32];
    x->server.fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(0, bind(x->server.fd, (struct sockaddr *)&sa, addr_to_sockaddr(&any, &sa)));
    assert_int_equal(0, getsockname(x->server.fd, (struct sockaddr *)&sa, &len));
    x->server.port = addr_from_sockaddr(&sa).port;
    assert_int_equal(0, pthread_create(&x->server.thread, NULL, serve, &x->server));
    snprintf(servers, sizeof servers, "127.0.0.1:%u", x->server.port);
    setenv("WEIR_NAMESERVERS", servers, 1);
    x->config.workers = x->net.workers = 1;
    edge_limits_default(&x->config.engine.limits);
    x->config.engine.limits.flows = x->config.engine.limits.target_flows = 4;
    x->net.config = &x->config;
    x->net.worker[0] = worker_new(&x->net, 0, &x->config, 4);
    assert_non_null(x->net.worker[0]);
    x->net.resolver = resolver_start(&x->net, stderr);
    assert_non_null(x->net.resolver);
    *state = x;
    return 0;
}

static int end(void **state)
{
    struct world *x = (struct world *)*state;
    struct addr to = {.ip = {127, 0, 0, 1}, .port = x->server.port, .family = 4};
    struct sockaddr_in6 sa;
    resolver_stop(x->net.resolver);
    worker_free(x->net.worker[0]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(1, sendto(fd, "", 1, 0, (struct sockaddr *)&sa, addr_to_sockaddr(&to, &sa)));
    pthread_join(x->server.thread, NULL);
    close(fd);
    close(x->server.fd);
    free(x);
    return 0;
}

static uint64_t ask(struct world *x, const char *name, uint16_t port, uint8_t transport)
{
    struct action a = {.kind = ACT_RESOLVE, .port = port, .transport = transport};
    a.id = ++x->next_id;
    a.text = slice_cstr(name);
    resolver_ask(x->net.worker[0], &a);
    return a.id;
}

static struct told take(struct world *x)
{
    struct told t;
    for (unsigned tries = 0; tries < 800; tries++, usleep(10000)) {
        struct slice r = ring_peek(x->net.worker[0]->told);
        if (r.p == NULL)
            continue;
        memcpy(&t, r.p, sizeof t);
        ring_pop(x->net.worker[0]->told);
        return t;
    }
    fail_msg("no answer came");
    return (struct told){0};
}

enum { ANY = 255 };

static const struct {
    const char *what, *name;
    uint16_t port;
    uint8_t transport;
    int error;
    const char *addr[2]; /* NULL ends */
    uint8_t over[2];
} cases[] = {
    {"a number", "10.9.8.7", 0, ANY, 0, {"10.9.8.7:5060"}, {TP_UDP}},
    {"a number with a port", "10.9.8.7", 99, TP_TCP, 0, {"10.9.8.7:99"}, {TP_TCP}},
    {"a number in brackets", "[2001:db8::1]", 0, TP_TCP, 0, {"[2001:db8::1]:5060"}, {TP_TCP}},
    {"naptr, srv, address",
     "both.test",
     0,
     ANY,
     0,
     {"10.0.0.2:5070", "10.0.0.1:5060"},
     {TP_TCP, TP_UDP}},
    {"a transport: its srv only", "Both.Test.", 0, TP_UDP, 0, {"10.0.0.1:5060"}, {TP_UDP}},
    {"a port: no srv at all", "u.test", 7, ANY, 0, {"10.0.0.1:7"}, {TP_UDP}},
    {"no naptr, no srv", "plain.test", 0, ANY, 0, {"10.0.0.3:5060"}, {TP_UDP}},
    {"srv says never", "never.test", 0, TP_UDP, 0, {NULL}, {0}},
    {"nothing of the kind", "none.test", 0, ANY, 0, {NULL}, {0}},
    {"no name", "a b", 0, ANY, 0, {NULL}, {0}},
    {"an empty name", "", 0, ANY, 0, {NULL}, {0}},
    {"the hosts file", "localhost", 5, TP_TCP, 0, {"127.0.0.1:5"}, {TP_TCP}},
};

static void test_ways(void **state)
{
    struct world *x = (struct world *)*state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t id = ask(x, cases[i].name, cases[i].port, cases[i].transport);
        struct told t = take(x);
        assert_int_equal(id, t.id);
        if (t.error != cases[i].error)
            fail_msg("%s: error %d", cases[i].what, t.error);
        for (unsigned k = 0; k < 2; k++) {
            struct addr want;
            if (cases[i].addr[k] == NULL)
                break;
            assert_int_equal(0, addr_parse(slice_cstr(cases[i].addr[k]), &want));
            if (t.count <= k || !addr_equal(&want, &t.addr[k].addr) ||
                t.addr[k].transport != cases[i].over[k])
                fail_msg("%s: answer %u of %u is another", cases[i].what, k, t.count);
        }
        if (cases[i].addr[0] == NULL && t.count != 0)
            fail_msg("%s: %u addresses", cases[i].what, t.count);
    }
}

/* Also what leads nowhere is remembered, and spelling does not make a name another. */
static void test_nothing_is_asked_twice(void **state)
{
    struct world *x = (struct world *)*state;
    static const char *const names[] = {"both.test", "none.test", "plain.test"};
    for (unsigned i = 0; i < 3; i++) {
        ask(x, names[i], 0, ANY);
        (void)take(x);
    }
    unsigned asked = atomic_load(&x->server.asked);
    assert_true(asked > 0);
    for (unsigned i = 0; i < 3; i++) {
        ask(x, names[i], 0, ANY);
        (void)take(x);
    }
    ask(x, "BOTH.test.", 0, ANY);
    assert_int_equal(2, take(x).count);
    assert_int_equal(asked, atomic_load(&x->server.asked));
}

/* Many who ask at once wait for the same walk, and each is told. */
static void test_those_who_wait_are_all_told(void **state)
{
    struct world *x = (struct world *)*state;
    enum { MANY = 30 };
    bool told[MANY + 1] = {false};
    for (unsigned i = 0; i < MANY; i++)
        (void)ask(x, "both.test", 0, ANY);
    for (unsigned i = 0; i < MANY; i++) {
        struct told t = take(x);
        assert_in_range(t.id, 1, MANY);
        assert_false(told[t.id]);
        told[t.id] = true;
        assert_int_equal(2, t.count);
    }
    assert_true(atomic_load(&x->server.asked) <= 7); /* of one walk: naptr, 2 srv, 2 a + 2 aaaa */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ways),
        TEST(test_nothing_is_asked_twice),
        TEST(test_those_who_wait_are_all_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
