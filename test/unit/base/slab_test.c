/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#endif

#if defined(ASAN) && defined(SLAB_OFF)
#include <sanitizer/asan_interface.h>
#define IS_POISONED(p) __asan_address_is_poisoned(p)
#else
#define IS_POISONED(p) ((void)(p), -1) /* this build cannot tell */
#endif

static struct slab slab_of(struct arena *mem, uint32_t size, uint32_t count)
{
    struct slab s;
    *mem = test_arena(slab_memory(size, count));
    assert_int_equal(slab_init(&s, mem, size, count), 0);
    return s;
}

static void test_take_clears_and_release_makes_stale(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 100, 2);
    assert_int_equal(s.size, 112);
    static const char zero[112];
    handle first, second;
    char *a = (char *)slab_take(&s, &first);
    assert_non_null(a);
    assert_int_equal((uintptr_t)a % 16, 0);
    assert_memory_equal(a, zero, s.size);
    assert_ptr_equal(slab_get(&s, first), a);
    assert_true(handle_equal(slab_handle(&s, a), first));
    assert_false(handle_is_none(first));
    for (unsigned i = 0; i < 5; i++) {
        memset(a, 0xee, s.size);
        slab_release(&s, a);
        assert_null(slab_get(&s, first));
        handle again;
        a = (char *)slab_take(&s, &again);
        assert_memory_equal(a, zero, s.size);
        assert_false(handle_equal(first, again));
        assert_null(slab_get(&s, first));
        assert_ptr_equal(slab_get(&s, again), a);
        first = again;
    }
    assert_non_null(slab_take(&s, &second));
    assert_null(slab_take(&s, &second));
    slab_release(&s, NULL);
    slab_done(&s);
    test_arena_free(&mem);
}

static void test_any_bits_are_a_safe_handle(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 16, 64);
    handle live[32];
    for (unsigned i = 0; i < 32; i++)
        assert_non_null(slab_take(&s, &live[i]));
    for (unsigned i = 0; i < 16; i++)
        slab_release(&s, slab_get(&s, live[i]));
    /* A released slot's even generation must not pass either. */
    for (uint32_t slot = 0; slot < 70; slot++) {
        for (uint32_t gen = 0; gen < 6; gen++) {
            handle h = {slot, gen};
            assert_int_equal(slab_get(&s, h) != NULL, slot >= 16 && slot < 32 && gen == 1);
        }
    }
    assert_null(slab_get(&s, HANDLE_NONE));
    s.gen[s.fresh] = 5; /* whatever the memory held before: never taken, so not live */
    assert_null(slab_get(&s, (handle){s.fresh, 5}));
    assert_null(slab_get(&s, (handle){UINT32_MAX, UINT32_MAX}));
    struct prng prng = test_seed();
    for (unsigned i = 0; i < 10000; i++) {
        handle h = {(uint32_t)prng_u64(&prng), (uint32_t)prng_u64(&prng) | 2};
        assert_null(slab_get(&s, h));
    }
    slab_done(&s);
    test_arena_free(&mem);
}

/* After 2^31 lives the generation comes round; it must skip "none". */
static void test_generation_wraps(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 16, 1);
    handle h;
    slab_release(&s, slab_take(&s, &h));
    s.gen[0] = UINT32_MAX - 1;
    void *a = slab_take(&s, &h);
    assert_true(h.gen == UINT32_MAX);
    assert_ptr_equal(slab_get(&s, h), a);
    slab_release(&s, a);
    assert_null(slab_get(&s, h));
    assert_null(slab_get(&s, HANDLE_NONE));
    a = slab_take(&s, &h);
    assert_true(h.gen == 1);
    assert_ptr_equal(slab_get(&s, h), a);
    slab_done(&s);
    test_arena_free(&mem);
}

static void test_exhaustion_is_an_answer(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 40, 5);
    handle h;
    void *taken[5];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 5; i++)
            assert_non_null(taken[i] = slab_take(&s, &h));
        assert_null(slab_take(&s, &h));
        assert_int_equal(s.live, 5);
        for (unsigned i = 0; i < 5; i++)
            slab_release(&s, taken[i]);
        assert_int_equal(s.live, 0);
    }
    assert_int_equal(s.live_max, 5);
    slab_done(&s);
    test_arena_free(&mem);
    s = slab_of(&mem, 40, 0);
    assert_null(slab_take(&s, &h));
    test_arena_free(&mem);
}

/* The next take in the order of release: last first, so that it is warm; in a build that looks
 * for uses after release, as late as possible. */
static void test_order_of_reuse(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 16, 4);
    handle h;
    void *taken[4];
    for (unsigned i = 0; i < 4; i++)
        taken[i] = slab_take(&s, &h);
    slab_release(&s, taken[2]);
    slab_release(&s, taken[0]);
    slab_release(&s, taken[3]);
#ifdef SLAB_OFF
    static const unsigned order[] = {2, 0, 3};
#else
    static const unsigned order[] = {3, 0, 2};
#endif
    for (unsigned i = 0; i < 3; i++)
        assert_ptr_equal(slab_take(&s, &h), taken[order[i]]);
    assert_null(slab_take(&s, &h));
    slab_done(&s);
    test_arena_free(&mem);
}

/* What is not taken cannot be read, in the build that is for finding just that. */
static void test_poison(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 64, 2);
    handle h;
    int poisoned = IS_POISONED(s.objects);
    if (poisoned < 0) {
        test_arena_free(&mem);
        skip();
    }
    assert_int_equal(poisoned, 1);
    char *a = (char *)slab_take(&s, &h);
    assert_int_equal(IS_POISONED(a), 0);
    assert_int_equal(IS_POISONED(a + 63), 0);
    assert_int_equal(IS_POISONED(a + 64), 1);
    slab_release(&s, a);
    assert_int_equal(IS_POISONED(a), 1);
    assert_int_equal(IS_POISONED(a + 63), 1);
    slab_done(&s);
    assert_int_equal(IS_POISONED(a), 0);
    test_arena_free(&mem);
}

static void test_fault_ladder(void **state)
{
    (void)state;
    for (unsigned forever = 0; forever < 2; forever++) {
        for (uint64_t rung = 0; rung < 6; rung++) {
            struct arena mem;
            struct slab s = slab_of(&mem, 16, 8);
            struct fault f = {.countdown = rung, .forever = forever != 0};
            s.fault = &f;
            handle h;
            for (uint64_t take = 0; take < 4; take++) {
                bool fails = forever != 0 ? take >= rung : take == rung;
                assert_int_equal(slab_take(&s, &h) == NULL, fails);
            }
            assert_int_equal(f.spent, rung < 4); /* the ladder ends when a run did not reach it */
            slab_done(&s);
            test_arena_free(&mem);
        }
    }
    assert_false(fault_hits(NULL));
}

static void test_small_arena_is_refused(void **state)
{
    (void)state;
    struct slab s;
    struct arena mem = test_arena(4096);
    struct arena part = arena_over(mem.p, 10 * 32 + 10 * 8 - 1);
    assert_int_equal(slab_init(&s, &part, 24, 10), -1);
    part = arena_over(mem.p, mem.cap);
    assert_int_equal(slab_init(&s, &part, UINT32_MAX, 1), -1);
    assert_int_equal(slab_init(&s, &part, 1 << 20, 1 << 20), -1);
    /* From any place in the arena what slab_memory() says must do. */
    for (size_t at = 0; at < 64; at++) {
        part = (struct arena){mem.p, at, at + slab_memory(24, 10)};
        assert_int_equal(slab_init(&s, &part, 24, 10), 0);
        slab_done(&s);
    }
    test_arena_free(&mem);
}

struct twice {
    struct slab *s;
    void *object;
};

static void release_twice(void *ctx)
{
    struct twice *t = (struct twice *)ctx;
    slab_release(t->s, t->object);
    slab_release(t->s, t->object);
}

static void release_foreign(void *ctx)
{
    struct twice *t = (struct twice *)ctx;
    slab_release(t->s, t);
}

static void test_wrong_release_aborts(void **state)
{
    (void)state;
    struct arena mem;
    struct slab s = slab_of(&mem, 16, 4);
    handle h;
    struct twice t = {&s, slab_take(&s, &h)};
    assert_true(dies(release_twice, &t, NULL, 0));
    assert_true(dies(release_foreign, &t, NULL, 0));
    slab_done(&s);
    test_arena_free(&mem);
}

/* Random takes and releases against a plain array. */
static void test_against_a_model(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    struct prng prng = test_seed();
    struct arena mem;
    struct slab s = slab_of(&mem, 8, COUNT);
    handle live[COUNT], dead[COUNT];
    uint64_t value[COUNT], next_value = 1;
    unsigned lives = 0, deaths = 0;
    for (unsigned step = 0; step < 50000; step++) {
        if (prng_below(&prng, 2) == 0) {
            handle h;
            uint64_t *object = (uint64_t *)slab_take(&s, &h);
            assert_int_equal(object != NULL, lives < COUNT);
            if (object != NULL) {
                assert_true(*object == 0);
                *object = value[lives] = next_value++;
                live[lives++] = h;
            }
        } else if (lives > 0) {
            unsigned pick = (unsigned)prng_below(&prng, lives);
            slab_release(&s, slab_get(&s, live[pick]));
            dead[deaths++ % COUNT] = live[pick];
            lives--;
            live[pick] = live[lives];
            value[pick] = value[lives];
        }
        assert_int_equal(s.live, lives);
        if (step % 100 != 0)
            continue;
        for (unsigned i = 0; i < lives; i++)
            assert_true(*(uint64_t *)slab_get(&s, live[i]) == value[i]);
        for (unsigned i = 0; i < deaths && i < COUNT; i++)
            assert_null(slab_get(&s, dead[i]));
        uint32_t cursor = 0;
        unsigned seen = 0;
        uint64_t sum = 0, want = 0;
        for (uint64_t *object; (object = (uint64_t *)slab_next(&s, &cursor)) != NULL; seen++)
            sum += *object;
        for (unsigned i = 0; i < lives; i++)
            want += value[i];
        assert_int_equal(seen, lives);
        assert_true(sum == want);
        assert_null(slab_next(&s, &cursor));
    }
    slab_done(&s);
    test_arena_free(&mem);
}

/* Whether all bytes still are what the test wrote before. */
static bool untouched(const void *p, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)p;
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0xa5)
            return false;
    }
    return true;
}

/* What was never taken costs no memory: neither an object nor an array is written in advance. */
static void test_memory_is_touched_when_first_used(void **state)
{
    (void)state;
    enum { COUNT = 1000, SIZE = 384, USED = 10 };
    struct arena mem = test_arena(slab_memory(SIZE, COUNT));
    memset(mem.p, 0xa5, mem.cap);
    struct slab s;
    assert_int_equal(slab_init(&s, &mem, SIZE, COUNT), 0);
    struct slab before = s;
    slab_done(&s);
    assert_true(untouched(mem.p, mem.cap));
    s = before;
    handle h[USED];
    for (unsigned i = 0; i < USED; i++)
        assert_non_null(slab_take(&s, &h[i]));
    for (unsigned i = 0; i < USED; i++)
        slab_release(&s, slab_get(&s, h[i]));
    assert_int_equal(s.fresh, USED);
    before = s;
    slab_done(&s);
    assert_true(untouched(before.objects + (size_t)USED * SIZE, (size_t)(COUNT - USED) * SIZE));
    assert_true(untouched(before.gen + USED, sizeof(uint32_t) * (COUNT - USED)));
    assert_true(untouched(before.next + USED, sizeof(uint32_t) * (COUNT - USED)));
    test_arena_free(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_clears_and_release_makes_stale),
        cmocka_unit_test(test_any_bits_are_a_safe_handle),
        cmocka_unit_test(test_generation_wraps),
        cmocka_unit_test(test_exhaustion_is_an_answer),
        cmocka_unit_test(test_order_of_reuse),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_fault_ladder),
        cmocka_unit_test(test_small_arena_is_refused),
        cmocka_unit_test(test_wrong_release_aborts),
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_memory_is_touched_when_first_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
