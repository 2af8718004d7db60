/* SPDX-License-Identifier: Apache-2.0
 *
 * An operator's lists: words, lengths, spans, bounds. */
#include "place.h"

static int try_edit(struct place *p, struct slice order)
{
    struct slice why = SLICE_NONE;
    int err = guard_edit(p->g, order, p->now, &why);
    assert_true((err == 0) == (why.n == 0));
    return err;
}

static void words(void **state)
{
    (void)state;
    static const struct {
        const char *order;
        int expected;
    } rows[] = {
        {"allow 192.0.2.1", 0},
        {"deny 192.0.2.0/24", 0},
        {"  deny   2001:db8::/32   for   10m  ", 0},
        {"deny 10.0.0.0/8 for 30s", 0},
        {"deny 10.0.0.0/8 for 2h", 0},
        {"deny 0.0.0.0/0 for 100000d", 0},
        {"deny [2001:db8::1]", 0},
        {"forget ::/0", 0},
        {"forget 192.0.2.1", 0},
        {"", -1},
        {"deny", -1},
        {"deny ", -1},
        {"refuse 192.0.2.1", -1},
        {"DENY 192.0.2.1", -1},
        {"deny 192.0.2.1/24", -1},
        {"deny 192.0.2.0/33", -1},
        {"deny example.com", -1},
        {"deny 192.0.2.1 for", -1},
        {"deny 192.0.2.1 for 10", -1},
        {"deny 192.0.2.1 for m", -1},
        {"deny 192.0.2.1 for 0s", -1},
        {"deny 192.0.2.1 for 10w", -1},
        {"deny 192.0.2.1 for 100001s", -1},
        {"deny 192.0.2.1 for 99999999999999999999s", -1},
        {"deny 192.0.2.1 for -1s", -1},
        {"deny 192.0.2.1 for 10m more", -1},
        {"deny 192.0.2.1 until 10m", -1},
        {"deny 192.0.2.1 10m", -1},
        {"forget 192.0.2.1 for 10m", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct place p;
        place_begin(&p, 10, 1);
        size_t n = strlen(rows[i].order);
        char *copy = guard_copy(rows[i].order, n);
        if (try_edit(&p, slice_of(copy, n)) != rows[i].expected)
            fail_msg("%s", rows[i].order);
        guard_free(copy);
        place_end(&p);
    }
}

/* Denied means everywhere, and in report-only mode, and to the exempt as well. */
static void denied(void **state)
{
    (void)state;
    for (int report = 0; report < 2; report++) {
        struct place p;
        struct prefix exempt;
        place_begin(&p, 1000, 1);
        assert_int_equal(prefix_parse(SLICE("192.0.2.128/25"), &exempt), 0);
        p.opts.report_only = report;
        p.opts.exempt = &exempt;
        p.opts.exempt_count = 1;
        guard_adopt(p.g, &p.opts);
        struct addr in = addr_of("192.0.2.1"), out = addr_of("192.0.3.1"),
                    too = addr_of("192.0.2.129");
        assert_int_equal(come(&p, in), GUARD_FINE);
        edit(&p, "deny 192.0.2.0/24");
        assert_int_equal(come(&p, in), GUARD_DENIED);
        assert_int_equal(barred(&p, in), GUARD_DENIED);
        assert_int_equal(guard_refused_connected(p.g, &in, p.now), GUARD_DENIED);
        assert_int_equal(did(&p, in, GUARD_MALFORMED, false), GUARD_DENIED);
        assert_int_equal(come(&p, too), GUARD_DENIED);
        assert_int_equal(refused(&p, GUARD_DENIED), 5);
        assert_int_equal(come(&p, out), GUARD_FINE);
        go(&p, in); /* it came before */
        assert_int_equal(p.g->door.connections, 1);
        edit(&p, "forget 192.0.2.0/24");
        assert_int_equal(come(&p, in), GUARD_FINE);
        place_end(&p);
    }
}

static void allowed(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    p.opts.per_source_max = 1;
    p.opts.per_source[GUARD_AUTH] = (struct rate_opts){1, 1};
    guard_adopt(p.g, &p.opts);
    struct addr a = addr_of("2001:db8::1");
    (void)did(&p, a, GUARD_AUTH, true);
    (void)did(&p, a, GUARD_AUTH, true);
    assert_int_equal(barred(&p, a), GUARD_BANNED);
    edit(&p, "allow 2001:db8::/48 for 10m");
    assert_int_equal(barred(&p, a), GUARD_FINE);
    assert_int_equal(come_all(&p, a, 5), 5);
    for (int i = 0; i < 10; i++)
        assert_int_equal(did(&p, a, GUARD_AUTH, true), GUARD_FINE);
    p.now += 599 * NS_S;
    assert_int_equal(come(&p, a), GUARD_FINE);
    p.now += NS_S;
    assert_int_equal(come(&p, a), GUARD_SOURCE_FULL);
    place_end(&p);
}

static void the_longest_prefix_decides(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    edit(&p, "deny 0.0.0.0/0");
    edit(&p, "allow 10.0.0.0/8");
    edit(&p, "deny 10.1.0.0/16 for 10m");
    edit(&p, "allow 10.1.1.0/29");
    edit(&p, "deny 10.1.1.1");
    edit(&p, "deny 2001:db8::/63");
    edit(&p, "allow 2001:db8::/65");
    edit(&p, "deny 2001:db8::1/128");
    static const struct {
        const char *a;
        enum guard_why before, after; /* the ten minutes */
    } rows[] = {
        {"192.0.2.1", GUARD_DENIED, GUARD_DENIED},
        {"10.9.9.9", GUARD_FINE, GUARD_FINE},
        {"10.1.9.9", GUARD_DENIED, GUARD_FINE},
        {"10.1.1.7", GUARD_FINE, GUARD_FINE},
        {"10.1.1.8", GUARD_DENIED, GUARD_FINE},
        {"10.1.1.1", GUARD_DENIED, GUARD_DENIED},
        {"2001:db8:0:1::1", GUARD_DENIED, GUARD_DENIED},
        {"2001:db8:0:2::1", GUARD_FINE, GUARD_FINE},
        {"2001:db8::2", GUARD_FINE, GUARD_FINE},
        {"2001:db8::8000:0:0:1", GUARD_DENIED, GUARD_DENIED},
        {"2001:db8::1", GUARD_DENIED, GUARD_DENIED},
        {"::ffff:10.1.1.1", GUARD_DENIED, GUARD_DENIED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(barred(&p, addr_of(rows[i].a)), rows[i].before);
    p.now += 600 * NS_S;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(barred(&p, addr_of(rows[i].a)), rows[i].after);
    struct addr none = {0};
    assert_int_equal(barred(&p, none), GUARD_FINE);
    place_end(&p);
}

/* One word for each prefix: the last. */
static void said_again(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    for (int i = 0; i < 1000; i++) {
        edit(&p, "deny 192.0.2.0/24 for 1h");
        edit(&p, "allow 192.0.2.0/24");
        edit(&p, "deny 192.0.2.0/25");
    }
    assert_int_equal(p.g->lists.operators.count, 2);
    assert_int_equal(barred(&p, addr_of("192.0.2.200")), GUARD_FINE);
    assert_int_equal(barred(&p, addr_of("192.0.2.100")), GUARD_DENIED);
    place_end(&p);
}

static void they_are_bounded(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 10, 1);
    char bytes[64];
    for (unsigned i = 0; i <= LIST_ITEMS_MAX; i++) {
        struct text t = text_into(bytes, sizeof bytes);
        TEXT_LIT(&t, "deny 10.0.");
        text_put_u64(&t, i / 256);
        text_put_char(&t, '.');
        text_put_u64(&t, i % 256);
        if (i == 7)
            TEXT_LIT(&t, " for 10m");
        assert_int_equal(try_edit(&p, text_slice(&t)), i < LIST_ITEMS_MAX ? 0 : -1);
    }
    for (uint32_t i = 0; i < LIST_ITEMS_MAX; i++)
        assert_int_equal(barred(&p, ip4(0x0a000000 + i)), GUARD_DENIED);
    assert_int_equal(barred(&p, ip4(0x0a000100)), GUARD_FINE);
    p.now += 600 * NS_S; /* one is over: there is room again */
    assert_int_equal(try_edit(&p, SLICE("deny 10.0.1.0")), 0);
    assert_int_equal(barred(&p, ip4(0x0a000100)), GUARD_DENIED);
    assert_int_equal(barred(&p, ip4(0x0a000007)), GUARD_FINE);
    place_end(&p);
}

static void the_denied_persist_too(void **state)
{
    (void)state;
    struct place p;
    struct prefix out[4];
    place_begin(&p, 10, 1);
    edit(&p, "deny 192.0.2.0/24");
    edit(&p, "deny 198.51.100.0/24");
    uint64_t version = guard_persistent_version(p.g);
    for (uint32_t i = 0; i < 63; i++)
        (void)barred(&p, ip4(0xc0000200 + i));
    assert_int_equal(guard_persistent(p.g, out, 4, p.now), 0);
    assert_true(guard_persistent_version(p.g) == version);
    (void)barred(&p, ip4(0xc0000201));
    assert_true(guard_persistent_version(p.g) != version);
    assert_int_equal(guard_persistent(p.g, out, 4, p.now), 1);
    struct addr a = addr_of("192.0.2.77");
    assert_true(prefix_holds(&out[0], &a) && out[0].bits == 24);
    version = guard_persistent_version(p.g);
    edit(&p, "forget 192.0.2.0/24");
    assert_true(guard_persistent_version(p.g) != version);
    assert_int_equal(guard_persistent(p.g, out, 4, p.now), 0);
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(denied),
        cmocka_unit_test(allowed),
        cmocka_unit_test(the_longest_prefix_decides),
        cmocka_unit_test(said_again),
        cmocka_unit_test(they_are_bounded),
        cmocka_unit_test(the_denied_persist_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
