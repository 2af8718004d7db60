/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
/* The simulator is a program, not a room that tests link with. */
#include "sim/queue.c"

static void test_empty_gives_nothing(void **state)
{
    (void)state;
    struct queue q;
    struct occurrence o;
    queue_init(&q);
    assert_false(queue_pop(&q, &o));
    queue_done(&q);
}

static void test_comes_out_by_time_then_by_order(void **state)
{
    (void)state;
    struct queue q;
    struct prng p;
    enum { COUNT = 5000 };
    queue_init(&q);
    prng_seed(&p, 7);
    for (uint32_t i = 0; i < COUNT; i++)
        queue_push(&q, &(struct occurrence){.at = prng_below(&p, 300), .a = i});
    struct occurrence before = {0}, o;
    uint32_t count = 0;
    while (queue_pop(&q, &o)) {
        assert_true(o.at >= before.at);
        if (count > 0 && o.at == before.at)
            assert_true(o.a > before.a);
        before = o;
        count++;
    }
    assert_int_equal(count, COUNT);
    queue_done(&q);
}

static void test_pushes_between_pops_keep_the_order(void **state)
{
    (void)state;
    struct queue q;
    struct prng p;
    queue_init(&q);
    prng_seed(&p, 11);
    mono_ns now = 0;
    struct occurrence o;
    for (uint32_t i = 0; i < 64; i++)
        queue_push(&q, &(struct occurrence){.at = prng_below(&p, 100)});
    for (uint32_t i = 0; i < 2000; i++) {
        assert_true(queue_pop(&q, &o));
        assert_true(o.at >= now);
        now = o.at;
        queue_push(&q, &(struct occurrence){.at = now + prng_below(&p, 50)});
    }
    queue_done(&q);
}

static void test_done_frees_what_never_happened(void **state)
{
    (void)state;
    struct queue q;
    queue_init(&q);
    queue_push(&q, &(struct occurrence){.at = 1, .packet = malloc(sizeof(struct packet))});
    queue_done(&q);
    assert_int_equal(q.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_gives_nothing),
        cmocka_unit_test(test_comes_out_by_time_then_by_order),
        cmocka_unit_test(test_pushes_between_pops_keep_the_order),
        cmocka_unit_test(test_done_frees_what_never_happened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
