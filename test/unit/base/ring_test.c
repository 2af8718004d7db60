/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/base.h"
#include "support/support.h"

enum { SIZE = 256 };

static void push(struct ring *r, struct slice s)
{
    void *room = ring_reserve(r, (uint32_t)s.n);
    assert_non_null(room);
    assert_int_equal((uintptr_t)room % 8, 0);
    memcpy(room, s.p, s.n);
    ring_push(r, (uint32_t)s.n);
}

static void test_first_in_first_out(void **state)
{
    (void)state;
    _Alignas(8) char bytes[SIZE];
    struct ring r;
    ring_init(&r, bytes, SIZE);
    assert_true(ring_is_empty(&r));
    assert_null(ring_peek(&r).p);
    push(&r, SLICE("one"));
    push(&r, slice_of("", 0));
    push(&r, SLICE("three three"));
    assert_false(ring_is_empty(&r));
    assert_true(slice_equal(ring_peek(&r), SLICE("one")));
    assert_true(slice_equal(ring_peek(&r), SLICE("one")));
    ring_pop(&r);
    struct slice empty = ring_peek(&r);
    assert_non_null(empty.p);
    assert_int_equal(empty.n, 0);
    ring_pop(&r);
    assert_true(slice_equal(ring_peek(&r), SLICE("three three")));
    ring_pop(&r);
    assert_null(ring_peek(&r).p);
    assert_true(ring_is_empty(&r));
    assert_true(r.refused == 0);
}

static void test_full_ring_refuses_and_counts(void **state)
{
    (void)state;
    _Alignas(8) char bytes[SIZE];
    struct ring r;
    ring_init(&r, bytes, SIZE);
    char record[120] = {0};
    for (unsigned i = 0; i < SIZE / 32; i++)
        push(&r, slice_of(record, 24));
    assert_null(ring_reserve(&r, 0));
    assert_true(r.refused == 1);
    assert_int_equal(ring_peek(&r).n, 24);
    ring_pop(&r);
    push(&r, slice_of(record, 24));
    assert_null(ring_reserve(&r, 1));
    assert_true(r.refused == 2);
    while (ring_peek(&r).p != NULL)
        ring_pop(&r);
    /* Half the ring, with its length word, is the most; more never fits. */
    assert_null(ring_reserve(&r, SIZE / 2 - 7));
    assert_null(ring_reserve(&r, UINT32_MAX));
    assert_true(r.refused == 4);
    for (unsigned i = 0; i < 40; i++) { /* from any place in an empty ring */
        push(&r, slice_of(record, 120));
        assert_int_equal(ring_peek(&r).n, 120);
        ring_pop(&r);
        push(&r, slice_of(record, i % 17));
        assert_int_equal(ring_peek(&r).n, i % 17);
        ring_pop(&r);
    }
}

static void test_reserve_without_push_leaves_nothing(void **state)
{
    (void)state;
    _Alignas(8) char bytes[SIZE];
    struct ring r;
    ring_init(&r, bytes, SIZE);
    for (unsigned i = 0; i < 100; i++) {
        assert_non_null(ring_reserve(&r, 100));
        assert_null(ring_peek(&r).p);
        char *room = (char *)ring_reserve(&r, 60);
        memset(room, 'x', 60);
        ring_push(&r, 40); /* shorter than reserved */
        assert_int_equal(ring_peek(&r).n, 40);
        ring_pop(&r);
        assert_null(ring_peek(&r).p);
    }
    assert_true(r.refused == 0);
}

/* Random pushes and pops against a count: each record carries its number and its own length. */
static void test_against_a_count(void **state)
{
    (void)state;
    struct prng prng = test_seed();
    _Alignas(8) char bytes[SIZE];
    struct ring r;
    ring_init(&r, bytes, SIZE);
    unsigned pushed = 0, popped = 0, refused = 0;
    for (unsigned step = 0; step < 200000; step++) {
        if (prng_below(&prng, 2) == 0) {
            uint32_t n = 4 + (uint32_t)prng_below(&prng, 117);
            char *room = (char *)ring_reserve(&r, n);
            if (room == NULL) {
                refused++;
                assert_true(pushed > popped); /* an empty ring takes everything */
                continue;
            }
            memset(room, (int)(n & 0xff), n);
            memcpy(room, &pushed, 4);
            ring_push(&r, n);
            pushed++;
            continue;
        }
        struct slice s = ring_peek(&r);
        assert_int_equal(s.p != NULL, pushed > popped);
        if (s.p == NULL)
            continue;
        assert_memory_equal(s.p, &popped, 4);
        for (size_t i = 4; i < s.n; i++)
            assert_int_equal((unsigned char)s.p[i], s.n & 0xff);
        ring_pop(&r);
        popped++;
    }
    assert_true(r.refused == refused);
    assert_true(refused > 1000);
}

enum { RECORDS = 100000 };

static void *produce(void *ctx)
{
    struct ring *r = (struct ring *)ctx;
    struct prng prng;
    prng_seed(&prng, 1);
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint32_t n = 4 + (uint32_t)prng_below(&prng, 60);
        char *room;
        while ((room = (char *)ring_reserve(r, n)) == NULL)
            sched_yield();
        memset(room, (int)(i & 0xff), n);
        memcpy(room, &i, 4);
        ring_push(r, n);
    }
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    _Alignas(8) static char bytes[1024];
    static struct ring r;
    ring_init(&r, bytes, sizeof bytes);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, &r), 0);
    struct prng prng;
    prng_seed(&prng, 1);
    unsigned wrong = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct slice s;
        while ((s = ring_peek(&r)).p == NULL)
            sched_yield();
        uint32_t number;
        memcpy(&number, s.p, 4);
        wrong += number != i || s.n != 4 + prng_below(&prng, 60);
        for (size_t k = 4; k < s.n; k++)
            wrong += (unsigned char)s.p[k] != (i & 0xff);
        ring_pop(&r);
    }
    pthread_join(producer, NULL);
    assert_int_equal(wrong, 0);
    assert_true(ring_is_empty(&r));
}

static void push_more(void *ctx)
{
    struct ring *r = (struct ring *)ctx;
    if (ring_reserve(r, 8) != NULL)
        ring_push(r, 9);
}

static void pop_nothing(void *ctx)
{
    ring_pop((struct ring *)ctx);
}

static void test_misuse_aborts(void **state)
{
    (void)state;
    _Alignas(8) char bytes[SIZE];
    struct ring r;
    ring_init(&r, bytes, SIZE);
    assert_true(dies(push_more, &r, NULL, 0));
    assert_true(dies(pop_nothing, &r, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_first_out),
        cmocka_unit_test(test_full_ring_refuses_and_counts),
        cmocka_unit_test(test_reserve_without_push_leaves_nothing),
        cmocka_unit_test(test_against_a_count),
        cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_misuse_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
