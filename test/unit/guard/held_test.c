/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: held.c: who is held off by the kernel for connecting too often, and how long. */
#include "place.h"

static unsigned held(struct place *p, struct prefix *ret)
{
    return guard_persistent(p->g, ret, 8, p->now);
}

static void limit(struct place *p, uint32_t per_second, uint32_t burst, bool report_only)
{
    p->opts.per_source[GUARD_CONNECTS] = (struct rate_opts){per_second, burst};
    p->opts.report_only = report_only;
    guard_adopt(p->g, &p->opts);
}

static void who_goes_on_is_held_off(void **state)
{
    (void)state;
    struct prefix got[8];
    struct place p;
    place_begin(&p, 1000, 1);
    limit(&p, 10, 100, false);
    assert_int_equal(come_all(&p, ip4(1), 100 + 63), 100);
    assert_int_equal(held(&p, got), 0);
    uint64_t version = guard_persistent_version(p.g);
    assert_int_equal(come(&p, ip4(1)), GUARD_SOURCE_RATE);
    assert_true(guard_persistent_version(p.g) != version);
    assert_int_equal(held(&p, got), 1);
    assert_int_equal(got[0].bits, 32);
    struct addr source = ip4(1);
    assert_true(addr_same_host(&got[0].net, &source));
    assert_int_equal(guard_persistent_datagrams(p.g, got, 8, p.now), 0);
    assert_true(guard_persistent_until(p.g, &got[0], p.now) == 0); /* it is not banned */
    p.now += 5 * NS_S; /* half of the bucket is full: so many come in */
    assert_int_equal(held(&p, got), 0);
    assert_int_equal(come_all(&p, ip4(1), 60), 50);
    place_end(&p);
}

static void report_only_holds_nobody_off(void **state)
{
    (void)state;
    struct prefix got[8];
    struct place p;
    place_begin(&p, 1000, 1);
    limit(&p, 10, 100, true);
    assert_int_equal(come_all(&p, ip4(1), 1000), 1000);
    assert_int_equal(held(&p, got), 0);
    limit(&p, 10, 100, false);
    (void)come_all(&p, ip4(1), 1000);
    assert_int_equal(held(&p, got), 1);
    limit(&p, 10, 100, true);
    assert_int_equal(held(&p, got), 0);
    place_end(&p);
}

/* A few now and then are no flood. */
static void who_slows_down_is_not(void **state)
{
    (void)state;
    struct prefix got[8];
    struct place p;
    place_begin(&p, 1000, 1);
    limit(&p, 1, 1, false);
    for (unsigned i = 0; i < 1000; i++) {
        (void)come(&p, ip4(1));
        p.now += 20 * NS_MS;
    }
    assert_int_equal(held(&p, got), 0);
    place_end(&p);
}

/* Places are few: those who are held keep theirs, and all others are refused as before. */
static void places_are_few(void **state)
{
    (void)state;
    struct prefix got[2 * HELD_MAX];
    struct place p;
    place_begin(&p, 1000, 1);
    limit(&p, 10, 10, false);
    for (uint32_t i = 0; i < 2 * HELD_MAX; i++)
        (void)come_all(&p, ip4(i << 8 | 1), 200);
    assert_int_equal(guard_persistent(p.g, got, 2 * HELD_MAX, p.now), HELD_MAX);
    assert_int_equal(guard_persistent(p.g, got, 3, p.now), 3);
    p.now += NS_S;
    assert_int_equal(guard_persistent(p.g, got, 8, p.now), 0);
    (void)come_all(&p, addr_of("2001:db8::1"), 200);
    assert_int_equal(held(&p, got), 1);
    assert_int_equal(got[0].bits, 64);
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_goes_on_is_held_off),
        cmocka_unit_test(report_only_holds_nobody_off),
        cmocka_unit_test(who_slows_down_is_not),
        cmocka_unit_test(places_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
