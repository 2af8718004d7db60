/* SPDX-License-Identifier: Apache-2.0
 *
 * Spans, rates, shares, places, sources, which addresses may be loaded, and the back-off.
 * covers: load/words.c, load/backoff.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "load/load_int.h"
#include "support/support.h"

static void test_spans(void **state)
{
    static const struct {
        const char *text;
        dur_ns ns;
        int r;
    } cases[] = {
        {"500ms", 500 * NS_MS, 0},
        {"250us", 250 * NS_US, 0},
        {"2s", 2 * NS_S, 0},
        {"10m", 600 * NS_S, 0},
        {"1h", 3600 * NS_S, 0},
        {"0s", 0, 0},
        {"1000000h", 3600000000ULL * NS_S, 0},
        {"", 0, -1},
        {"s", 0, -1},
        {"5", 0, -1},
        {"-1s", 0, -1},
        {"5 s", 0, -1},
        {"1000001h", 0, -1},
        {"99999999999999999999s", 0, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dur_ns ns = 77;
        if (load__span(slice_cstr(cases[i].text), &ns) != cases[i].r ||
            ns != (cases[i].r == 0 ? cases[i].ns : 77))
            fail_msg("%s: %llu", cases[i].text, (unsigned long long)ns);
    }
}

static void test_rates_and_shares(void **state)
{
    uint32_t n = 77;
    (void)state;
    assert_int_equal(load__rate(SLICE("200"), &n), 0);
    assert_int_equal(n, 200);
    assert_int_equal(load__rate(SLICE("7/s"), &n), 0);
    assert_int_equal(n, 7);
    assert_int_equal(load__rate(SLICE("max"), &n), 0);
    assert_int_equal(n, 0);
    static const char *const bad_rates[] = {"0", "/s", "2/m", "-1", "10000001", ""};
    for (size_t i = 0; i < sizeof bad_rates / sizeof bad_rates[0]; i++)
        assert_int_equal(load__rate(slice_cstr(bad_rates[i]), &n), -1);
    assert_int_equal(load__permille(SLICE("99%"), &n), 0);
    assert_int_equal(n, 990);
    assert_int_equal(load__permille(SLICE("99.5"), &n), 0);
    assert_int_equal(n, 995);
    assert_int_equal(load__permille(SLICE("100%"), &n), 0);
    assert_int_equal(n, 1000);
    static const char *const bad_shares[] = {"101%", "100.1%", "99.55%", "%", "", "x"};
    for (size_t i = 0; i < sizeof bad_shares / sizeof bad_shares[0]; i++)
        assert_int_equal(load__permille(slice_cstr(bad_shares[i]), &n), -1);
}

static void test_places(void **state)
{
    static const struct {
        const char *text;
        const char *shown; /* NULL: refused */
    } cases[] = {
        {"udp://127.0.0.1:5070", "udp://127.0.0.1:5070"},
        {"tls://127.0.0.1", "tls://127.0.0.1:5061"},
        {"wss://127.0.0.1", "wss://127.0.0.1:443"},
        {"tcp://[::1]:5060", "tcp://[::1]:5060"},
        {"tcp://[::1]", "tcp://[::1]:5060"},
        {"127.0.0.1:5062", "udp://127.0.0.1:5062"},
        {"tcp://localhost:5063", "tcp://127.0.0.1:5063"},
        {"localhost", "udp://127.0.0.1:5060"},
        {"sip:bob@127.0.0.1", "udp://127.0.0.1:5060"},
        {"sip:bob@127.0.0.1:5064;transport=tcp", "tcp://127.0.0.1:5064"},
        {"sips:bob@127.0.0.1", "tls://127.0.0.1:5061"},
        {"upd://127.0.0.1", NULL},
        {"tls://example.com:5061", NULL},
        {"sip:bob@example.com", NULL},
        {"udp://127.0.0.1:65536", NULL},
        {"sip:bob@127.0.0.1;transport=sctp", NULL},
        {"", NULL},
        {"udp://", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct load_place p;
        char bytes[128];
        struct text t = text_into(bytes, sizeof bytes - 1);
        int r = load__place(slice_cstr(cases[i].text), &p);
        if (r == 0)
            load__put_place(&t, &p);
        bytes[t.n] = '\0';
        if ((r == 0) != (cases[i].shown != NULL) || (r == 0 && strcmp(bytes, cases[i].shown) != 0))
            fail_msg("%s: %d %s", cases[i].text, r, bytes);
    }
}

static void test_private_addresses(void **state)
{
    static const struct {
        const char *text;
        bool is_private;
    } cases[] = {
        {"127.0.0.1", true},
        {"127.255.255.255", true},
        {"10.0.0.1", true},
        {"172.16.0.1", true},
        {"172.31.255.255", true},
        {"172.32.0.1", false},
        {"172.15.0.1", false},
        {"192.168.7.7", true},
        {"192.169.0.1", false},
        {"169.254.1.1", true},
        {"8.8.8.8", false},
        {"192.0.2.1", false},
        {"128.0.0.1", false},
        {"::1", true},
        {"::2", false},
        {"fd00::1", true},
        {"fc00::1", true},
        {"fe80::1", true},
        {"fec0::1", false},
        {"2001:db8::1", false},
        {"::ffff:10.0.0.1", true},
        {"::ffff:8.8.8.8", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct addr a;
        assert_int_equal(addr_parse_host(slice_cstr(cases[i].text), 5060, &a), 0);
        if (load__is_private(&a) != cases[i].is_private)
            fail_msg("%s", cases[i].text);
    }
}

static void test_sources(void **state)
{
    static const struct {
        const char *net;
        uint64_t n;
        const char *address;
    } cases[] = {
        {"127.1.0.0/16", 0, "127.1.0.1"},
        {"127.1.0.0/16", 255, "127.1.1.0"},
        {"127.1.0.0/16", 65533, "127.1.255.254"},
        {"127.1.0.0/16", 65534, "127.1.0.1"},
        {"127.9.9.9", 0, "127.9.9.9"},
        {"127.9.9.9", 5, "127.9.9.9"},
        {"10.0.0.2/31", 1, "10.0.0.3"},
        {"fd00::/64", 41, "[fd00::2a]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct prefix p;
        char bytes[64];
        struct text t = text_into(bytes, sizeof bytes - 1);
        assert_int_equal(prefix_parse(slice_cstr(cases[i].net), &p), 0);
        struct addr a = load__source(&p, cases[i].n);
        addr_put_host(&t, &a);
        bytes[t.n] = '\0';
        assert_string_equal(bytes, cases[i].address);
    }
}

/* RFC 5626, appendix A: 30-60 s, 1-2 min, 2-4, 4-8, 8-16, and 15-30 min from then on. */
static void test_backoff(void **state)
{
    static const unsigned upper_s[] = {0, 60, 120, 240, 480, 960, 1800, 1800, 1800};
    struct prng prng;
    (void)state;
    prng_seed(&prng, 7);
    for (unsigned failures = 0; failures < 9; failures++) {
        dur_ns least = UINT64_MAX, most = 0, upper = upper_s[failures] * NS_S;
        for (int i = 0; i < 2000; i++) {
            dur_ns w = load__backoff(failures, 30 * NS_S, 1800 * NS_S, &prng);
            least = w < least ? w : least;
            most = w > most ? w : most;
        }
        assert_true(least >= upper / 2);
        assert_true(most <= upper);
        assert_true(least <= upper / 2 + upper / 50); /* and all between is used */
        assert_true(most >= upper - upper / 50);
    }
    assert_true(load__backoff(60000, NS_MS, 3600000000ULL * NS_S, &prng) > 0);
    assert_int_equal(load__some_of(0, &prng), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),   cmocka_unit_test(test_rates_and_shares),
        cmocka_unit_test(test_places),  cmocka_unit_test(test_private_addresses),
        cmocka_unit_test(test_sources), cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
