/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "net/dns.h"
#include "support/support.h"

static struct dns_result result(const char *addr, uint16_t group, uint16_t priority,
                                uint16_t weight)
{
    struct dns_result r = {.group = group, .priority = priority, .weight = weight};
    assert_int_equal(0, addr_parse(slice_cstr(addr), &r.to.addr));
    return r;
}

static void test_order_by_rank(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    const struct dns_result in[] = {
        result("10.0.0.5:1", 1, 0, 0),      result("[2001:db8::1]:1", 0, 10, 9),
        result("10.0.0.2:1", 0, 10, 0),     result("10.0.0.1:1", 0, 5, 0),
        result("[2001:db8::2]:1", 0, 5, 0),
    };
    static const unsigned want[] = {3, 4, 2, 1, 0};
    struct resolved out[8];
    for (unsigned run = 0; run < 50; run++) {
        assert_int_equal(5, dns_order(in, 5, &prng, out, 8));
        for (unsigned i = 0; i < 5; i++)
            assert_true(addr_equal(&out[i].addr, &in[want[i]].to.addr));
        assert_int_equal(2, dns_order(in, 5, &prng, out, 2));
    }
    assert_int_equal(0, dns_order(in, 0, &prng, out, 8));
}

/* RFC 2782: the first place falls to each in proportion to its weight. */
static void test_order_by_weight(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    const struct dns_result in[] = {result("10.0.0.1:1", 0, 0, 10), result("10.0.0.2:1", 0, 0, 30),
                                    result("10.0.0.3:1", 0, 0, 60)};
    unsigned first[3] = {0};
    struct resolved out[3];
    enum { RUNS = 20000 };
    for (unsigned run = 0; run < RUNS; run++) {
        assert_int_equal(3, dns_order(in, 3, &prng, out, 3));
        for (unsigned i = 0; i < 3; i++)
            first[i] += addr_equal(&out[0].addr, &in[i].to.addr);
    }
    assert_in_range(first[0], RUNS * 8 / 100, RUNS * 12 / 100);
    assert_in_range(first[1], RUNS * 27 / 100, RUNS * 33 / 100);
    assert_in_range(first[2], RUNS * 57 / 100, RUNS * 63 / 100);
}

static void test_equal_weights_share(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    const struct dns_result in[] = {result("10.0.0.1:1", 0, 0, 0), result("10.0.0.2:1", 0, 0, 0)};
    unsigned first = 0;
    struct resolved out[2];
    for (unsigned run = 0; run < 10000; run++) {
        assert_int_equal(2, dns_order(in, 2, &prng, out, 2));
        first += addr_equal(&out[0].addr, &in[0].to.addr);
    }
    assert_in_range(first, 4700, 5300);
}

static struct dns_cache cache;

static void test_cache_holds_and_forgets(void **state)
{
    (void)state;
    struct dns_result r = result("10.0.0.1:5060", 0, 0, 0);
    struct dns_key key, other;
    memset(&cache, 0, sizeof cache);
    dns_key_init(&key, SLICE("Example.COM"), 0, TP_UDP);
    dns_cache_put(&cache, &key, &r, 1, 5 * NS_S, 100);
    dns_key_init(&other, SLICE("example.com"), 0, TP_UDP);
    const struct dns_entry *e = dns_cache_find(&cache, &other, 100 + 5 * NS_S - 1);
    assert_non_null(e);
    assert_int_equal(1, e->count);
    assert_null(dns_cache_find(&cache, &other, 100 + 5 * NS_S));
    dns_key_init(&other, SLICE("example.com"), 0, TP_TCP);
    assert_null(dns_cache_find(&cache, &other, 200));
    dns_key_init(&other, SLICE("example.com"), 5060, TP_UDP);
    assert_null(dns_cache_find(&cache, &other, 200));
    dns_cache_put(&cache, &key, NULL, 0, NS_S, 200);
    e = dns_cache_find(&cache, &key, 300);
    assert_non_null(e);
    assert_int_equal(0, e->count);
}

/* However many names there are, what is found is what was put, and the newest is always there. */
static void test_cache_is_bounded(void **state)
{
    (void)state;
    memset(&cache, 0, sizeof cache);
    unsigned found = 0;
    enum { NAMES = 4000 };
    for (unsigned i = 0; i < NAMES; i++) {
        char name[32];
        struct dns_key key;
        struct dns_result r = result("10.0.0.1:5060", 0, 0, (uint16_t)i);
        int n = snprintf(name, sizeof name, "host-%u.example", i);
        dns_key_init(&key, slice_of(name, (size_t)n), 0, 255);
        dns_cache_put(&cache, &key, &r, 1, NS_S, 1);
        const struct dns_entry *e = dns_cache_find(&cache, &key, 2);
        assert_non_null(e);
        assert_int_equal(i, e->result[0].weight);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        char name[32];
        struct dns_key key;
        int n = snprintf(name, sizeof name, "host-%u.example", i);
        dns_key_init(&key, slice_of(name, (size_t)n), 0, 255);
        const struct dns_entry *e = dns_cache_find(&cache, &key, 2);
        if (e == NULL)
            continue;
        assert_int_equal(i, e->result[0].weight);
        found++;
    }
    assert_in_range(found, DNS_CACHE_SETS, DNS_CACHE_SETS * DNS_CACHE_WAYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_by_rank),       cmocka_unit_test(test_order_by_weight),
        cmocka_unit_test(test_equal_weights_share), cmocka_unit_test(test_cache_holds_and_forgets),
        cmocka_unit_test(test_cache_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
