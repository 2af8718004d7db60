/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows that an operator sees, in pages of whatever size. */
#include "place.h"

enum { ALL_BYTES = 4 << 20 };

/* All pages, one after another, of `page` bytes each; how many rows. */
static unsigned show(struct place *p, size_t page, char *all, size_t *ret_n)
{
    uint64_t cursor = 0;
    unsigned rows = 0, pages = 0;
    char *bytes = test_malloc(page);
    *ret_n = 0;
    do {
        struct text t = text_into(bytes, page);
        guard_show(p->g, &cursor, &t, p->now);
        assert_true(text_fits(&t));
        struct slice s = text_slice(&t);
        assert_true(*ret_n + s.n < ALL_BYTES);
        memcpy(all + *ret_n, s.p, s.n);
        *ret_n += s.n;
        assert_true(++pages < 100000);
    } while (cursor != 0);
    test_free(bytes);
    for (size_t i = 0; i < *ret_n; i++)
        rows += all[i] == '\n';
    all[*ret_n] = '\0';
    return rows;
}

static bool has(const char *all, const char *row)
{
    return strstr(all, row) != NULL;
}

static void what_is_shown(void **state)
{
    (void)state;
    char *all = test_malloc(ALL_BYTES);
    size_t n;
    struct place p;
    place_begin(&p, 1000, 1);
    assert_int_equal(show(&p, 16384, all, &n), 1);
    assert_true(has(all, "{\"row\":\"totals\",\"report_only\":false,\"connections\":0,"));
    assert_true(has(all, "\"refused\":{\"denied\":0,\"banned\":0,\"full\":0,\"source_full\":0,"
                         "\"prefix_full\":0,\"source_rate\":0,\"prefix_rate\":0,\"pace\":0}"));
    p.opts.per_source_max = 5;
    p.opts.per_source[GUARD_AUTH] = (struct rate_opts){1, 1};
    guard_adopt(p.g, &p.opts);
    edit(&p, "deny 192.0.2.0/24 for 10m");
    edit(&p, "allow 2001:db8::/32");
    assert_int_equal(come(&p, addr_of("192.0.2.1")), GUARD_DENIED);
    assert_int_equal(come_all(&p, addr_of("10.0.0.1"), 7), 5);
    assert_int_equal(come_all(&p, addr_of("10.0.9.1"), 1), 1); /* of no note */
    assert_int_equal(come_all(&p, addr_of("2001:db8:1:2::3"), 3), 3);
    for (int i = 0; i < 2; i++)
        (void)did(&p, addr_of("10.0.8.1"), GUARD_AUTH, true);
    p.now += NS_S;
    assert_int_equal(show(&p, 16384, all, &n), 8);
    assert_true(has(all, "\"connections\":9,"));
    assert_true(has(all, "\"let_in\":9,\"refused\":{\"denied\":1,\"banned\":0,\"full\":0,"
                         "\"source_full\":2,"));
    assert_true(has(all, "\"over\":{\"connects\":0,\"requests\":0,\"auth\":1,"));
    assert_true(has(all, "{\"row\":\"list\",\"list\":\"deny\",\"prefix\":\"192.0.2.0/24\","
                         "\"for_s\":599,\"refused\":1}\n"));
    assert_true(has(all, "{\"row\":\"list\",\"list\":\"allow\",\"prefix\":\"2001:db8::/32\"}\n"));
    assert_true(has(all, "{\"row\":\"source\",\"prefix\":\"10.0.0.1/32\",\"connections\":5,"
                         "\"refused\":2,\"known\":false}\n"));
    assert_true(has(all, "{\"row\":\"prefix\",\"prefix\":\"10.0.0.0/24\",\"connections\":5,"
                         "\"refused\":0}\n"));
    assert_true(has(all, "\"prefix\":\"2001:db8:1:2::/64\",\"connections\":3,"));
    assert_true(has(all, "\"prefix\":\"2001:db8:1::/48\",\"connections\":3,"));
    assert_true(has(all, "\"prefix\":\"10.0.8.1/32\",\"connections\":0,\"refused\":1,"
                         "\"known\":false,\"banned_for_ms\":9"));
    assert_true(has(all, ",\"ban_level\":1,\"proven\":true,\"persistence\":0}\n"));
    assert_false(has(all, "10.0.9.1"));
    p.now += 600 * NS_S; /* the ban and the denial are over */
    (void)show(&p, 16384, all, &n);
    assert_false(has(all, "banned_for_ms"));
    assert_false(has(all, "192.0.2.0/24"));
    place_end(&p);
    test_free(all);
}

static void whatever_the_page(void **state)
{
    (void)state;
    char *whole = test_malloc(ALL_BYTES), *cut = test_malloc(ALL_BYTES);
    size_t n, k;
    struct place p;
    place_begin(&p, 40000, 1);
    p.opts.per_source[GUARD_AUTH] = (struct rate_opts){1, 1};
    guard_adopt(p.g, &p.opts);
    for (uint32_t i = 0; i < 1000; i++) {
        (void)did(&p, ip4(i << 8), GUARD_AUTH, true);
        (void)did(&p, ip4(i << 8), GUARD_AUTH, true);
    }
    char bytes[64];
    for (unsigned i = 0; i < LIST_ITEMS_MAX; i++) {
        struct text t = text_into(bytes, sizeof bytes);
        TEXT_LIT(&t, "allow 10.0.0.");
        text_put_u64(&t, i);
        struct slice why;
        assert_int_equal(guard_edit(p.g, text_slice(&t), p.now, &why), 0);
    }
    assert_int_equal(show(&p, 1 << 20, whole, &n), 1 + LIST_ITEMS_MAX + 1000);
    static const size_t pages[] = {1024, 1025, 1500, 4096, 65536};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        assert_int_equal(show(&p, pages[i], cut, &k), 1 + LIST_ITEMS_MAX + 1000);
        assert_int_equal(k, n);
        assert_memory_equal(whole, cut, n);
    }
    /* Cursors that nobody was given. */
    for (uint64_t c = 1; c != 0; c <<= 1) {
        uint64_t cursor = c;
        struct text t = text_into(cut, 4096);
        guard_show(p.g, &cursor, &t, p.now);
        assert_true(text_fits(&t));
    }
    place_end(&p);
    test_free(whole);
    test_free(cut);
}

/* However many are connected: the busiest, some dozens of them. */
static void the_busiest(void **state)
{
    (void)state;
    char *all = test_malloc(ALL_BYTES);
    size_t n;
    struct place p;
    place_begin(&p, 40000, 1);
    for (uint32_t i = 0; i < 3000; i++)
        (void)come_all(&p, ip4(i << 8), 2 + i % 3);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(come_all(&p, ip4(0x7f000001 + (i << 8)), 100 + i), 100 + i);
    assert_int_equal(show(&p, 16384, all, &n), 1 + 10 + 10);
    assert_true(has(all, "\"prefix\":\"127.0.9.1/32\",\"connections\":109,"));
    for (uint32_t i = 0; i < 10; i++)
        for (uint32_t k = 0; k < 100 + i; k++)
            go(&p, ip4(0x7f000001 + (i << 8)));
    for (uint32_t i = 0; i < 3000; i++)
        for (uint32_t k = 0; k < 2 + i % 3; k++)
            go(&p, ip4(i << 8));
    assert_int_equal(show(&p, 16384, all, &n), 1);
    for (unsigned row = 0; row < 2; row++)
        for (unsigned i = 0; i < SOURCE_BUSY; i++)
            assert_int_equal(p.g->sources.busy[row][i], 0);
    place_end(&p);
    test_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shown),
        cmocka_unit_test(whatever_the_page),
        cmocka_unit_test(the_busiest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
