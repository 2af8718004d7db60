/* SPDX-License-Identifier: Apache-2.0
 *
 * Birth, memory, names, new options. */
#include "place.h"

static void birth_needs_its_memory(void **state)
{
    (void)state;
    struct guard_opts opts;
    guard_opts_default(&opts);
    static const uint32_t sources[] = {0, 1, 7, 8, 1000, 131072};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        struct guard_limits l = {sources[i]};
        size_t size = guard_memory(&l);
        struct arena mem = test_arena(size);
        assert_non_null(guard_new(&mem, &opts, &l, 1, (struct hash_seed){1, 2}, 3, NS_S));
        test_arena_free(&mem);
        for (size_t k = 1; k < 32; k++) {
            mem = test_arena(size * k / 32);
            (void)guard_new(&mem, &opts, &l, 1, (struct hash_seed){1, 2}, 3, NS_S);
            assert_true(mem.used <= mem.cap);
            test_arena_free(&mem);
        }
        mem = test_arena(sizeof(struct guard) / 2);
        assert_null(guard_new(&mem, &opts, &l, 1, (struct hash_seed){1, 2}, 3, NS_S));
        test_arena_free(&mem);
    }
    /* Two places of a cache line for each source, and a quarter of one beside them. */
    struct guard_limits none = {0}, many = {100000};
    assert_in_range(guard_memory(&many) - guard_memory(&none), 100000 * 140, 100000 * 150);
}

static void names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < GUARD_WHYS; i++) {
        struct slice name = guard_why_name((enum guard_why)i);
        assert_true(name.n > 0 && strlen(name.p) == name.n);
        for (unsigned k = 0; k < i; k++)
            assert_false(slice_equal(name, guard_why_name((enum guard_why)k)));
    }
    for (unsigned i = 0; i < GUARD_WHATS; i++) {
        struct slice name = guard_what_name((enum guard_what)i);
        assert_true(name.n > 0 && strlen(name.p) == name.n);
        for (unsigned k = 0; k < i; k++)
            assert_false(slice_equal(name, guard_what_name((enum guard_what)k)));
    }
}

/* What is known of sources stays when the options change. */
static void new_options(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1000, 1);
    assert_int_equal(come_all(&p, ip4(1), 5), 5);
    struct guard_opts next = p.opts;
    next.per_source_max = 6;
    guard_adopt(p.g, &next);
    assert_int_equal(come_all(&p, ip4(1), 5), 1);
    next.per_source_max = 3;
    guard_adopt(p.g, &next);
    go(&p, ip4(1));
    assert_int_equal(come(&p, ip4(1)), GUARD_SOURCE_FULL);
    for (int i = 0; i < 5; i++)
        go(&p, ip4(1));
    assert_int_equal(come_all(&p, ip4(1), 5), 3);
    edit(&p, "deny 0.0.0.1");
    guard_adopt(p.g, &p.opts);
    assert_int_equal(come(&p, ip4(1)), GUARD_DENIED);
    place_end(&p);
}

static void too_many_exempt(void *ctx)
{
    struct place *p = ctx;
    p->opts.exempt_count = GUARD_EXEMPT_MAX + 1;
    guard_adopt(p->g, &p->opts);
}

static void as_many_exempt_as_there_may_be(void **state)
{
    (void)state;
    static struct prefix exempt[GUARD_EXEMPT_MAX + 1];
    struct place p;
    char said[256];
    place_begin(&p, 1000, 1);
    for (uint32_t i = 0; i <= GUARD_EXEMPT_MAX; i++)
        exempt[i] = (struct prefix){.net = {.family = 4, .ip = {10, (uint8_t)i}}, .bits = 16};
    p.opts.exempt = exempt;
    p.opts.exempt_count = GUARD_EXEMPT_MAX;
    p.opts.per_source_max = 1;
    guard_adopt(p.g, &p.opts);
    for (uint32_t i = 0; i < GUARD_EXEMPT_MAX; i++)
        assert_int_equal(come_all(&p, ip4(0x0a000001 + (i << 16)), 3), 3);
    assert_int_equal(come_all(&p, ip4(0x0b000001), 3), 1);
    assert_true(dies(too_many_exempt, &p, said, sizeof said));
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(birth_needs_its_memory),
        cmocka_unit_test(names),
        cmocka_unit_test(new_options),
        cmocka_unit_test(as_many_exempt_as_there_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
