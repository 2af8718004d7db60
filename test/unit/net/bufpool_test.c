/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "net/net_int.h"
#include "support/support.h"

static int begin(void **state)
{
    static struct bufpool pool;
    memset(&pool, 0, sizeof pool);
    *state = &pool;
    return bufpool_init(&pool);
}

static int end(void **state)
{
    bufpool_done((struct bufpool *)*state);
    return 0;
}

static unsigned live(const struct bufpool *b)
{
    unsigned n = 0;
    for (unsigned i = 0; i < BUF_CLASSES; i++)
        n += b->class[i].live;
    return n;
}

/* Bytes put in at the end and taken off the front, at random, against a plain array. */
static void test_as_a_queue(void **state)
{
    struct bufpool *pool = (struct bufpool *)*state;
    struct prng prng = test_seed();
    static char model[400000];
    struct buf b = {0};
    size_t first = 0, last = 0;
    for (unsigned step = 0; step < 3000; step++) {
        size_t n = prng_below(&prng, 3000);
        if (prng_below(&prng, 5) < 3 && last + n < sizeof model) {
            if (buf_room(pool, &b, n, 100000) != 0) {
                assert_true(last - first + n > 100000);
                continue;
            }
            for (size_t i = 0; i < n; i++)
                b.p[b.len + i] = model[last + i] = (char)prng_u64(&prng);
            b.len += (uint32_t)n;
            last += n;
        } else {
            n = n < last - first ? n : last - first;
            b.off += (uint32_t)n;
            first += n;
        }
        assert_int_equal(last - first, b.len - b.off);
        assert_true(b.len <= b.cap);
        if (b.p != NULL)
            assert_memory_equal(b.p + b.off, model + first, last - first);
        if (last == first) {
            buf_release(pool, &b);
            assert_int_equal(0, live(pool));
            first = last = 0;
        }
    }
    buf_release(pool, &b);
    assert_int_equal(0, live(pool));
}

static void test_bounds(void **state)
{
    struct bufpool *pool = (struct bufpool *)*state;
    struct buf b = {0};
    assert_int_equal(0, buf_room(pool, &b, 100, 100));
    b.len = 100;
    assert_int_equal(-1, buf_room(pool, &b, 1, 100));
    assert_int_equal(100, b.len);
    assert_int_equal(-1, buf_room(pool, &b, SIZE_MAX, SIZE_MAX));
    assert_int_equal(-1, buf_room(pool, &b, 300000, SIZE_MAX)); /* above the largest class */
    assert_int_equal(0, buf_room(pool, &b, 262144 - 100, SIZE_MAX));
    buf_release(pool, &b);
    buf_release(pool, &b); /* none is harmless */
    assert_int_equal(0, live(pool));
}

/* A class that is empty spills into the next; when all are, the answer is no. */
static void test_runs_out(void **state)
{
    struct bufpool *pool = (struct bufpool *)*state;
    enum { ALL = 4096 + 1024 + 256 + 64 };
    static struct buf held[ALL + 1];
    unsigned n = 0;
    memset(held, 0, sizeof held);
    while (n <= ALL && buf_room(pool, &held[n], 1, SIZE_MAX) == 0)
        n++;
    assert_int_equal(ALL, n);
    assert_null(held[ALL].p);
    for (unsigned i = 0; i < n; i++)
        buf_release(pool, &held[i]);
    assert_int_equal(0, live(pool));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_as_a_queue, begin, end),
        cmocka_unit_test_setup_teardown(test_bounds, begin, end),
        cmocka_unit_test_setup_teardown(test_runs_out, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
