/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "support/support.h"

static struct blocks blocks_of(struct arena *mem, const uint32_t counts[BLOCK_CLASSES])
{
    struct blocks b;
    *mem = test_arena(blocks_memory(counts));
    assert_int_equal(blocks_init(&b, mem, counts), 0);
    return b;
}

static void test_smallest_class_with_room(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        uint32_t class;
    } cases[] = {
        {0, 0},    {1, 0},    {512, 0},  {513, 1},   {2048, 1},
        {2049, 2}, {8192, 2}, {8193, 3}, {98560, 3}, {SIP_MESSAGE_BYTES_MAX, 3},
    };
    static char bytes[98561];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    struct arena mem;
    struct blocks b = blocks_of(&mem, (const uint32_t[]){2, 2, 2, 2});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        block_ref ref = BLOCK_NONE;
        assert_int_equal(blocks_keep(&b, slice_of(bytes, cases[i].n), &ref), 0);
        assert_int_equal(ref.class, cases[i].class);
        assert_true(slice_equal(blocks_slice(&b, ref), slice_of(bytes, cases[i].n)));
        block_ref stale = ref;
        blocks_release(&b, &ref);
        assert_int_equal(ref.class, BLOCK_CLASSES);
        assert_null(blocks_slice(&b, stale).p);
        blocks_release(&b, &stale);
        blocks_release(&b, &ref);
    }
    block_ref ref = {1, 2, 3, 4};
    assert_int_equal(blocks_keep(&b, slice_of(bytes, 98561), &ref), -1);
    assert_int_equal(ref.slot, 1);
    for (unsigned i = 0; i < BLOCK_CLASSES; i++)
        assert_int_equal(b.class[i].live, 0);
    blocks_done(&b);
    test_arena_free(&mem);
}

static void test_full_class_spills_upwards(void **state)
{
    (void)state;
    struct arena mem;
    struct blocks b = blocks_of(&mem, (const uint32_t[]){2, 0, 1, 1});
    block_ref refs[4], more = BLOCK_NONE;
    static const uint32_t class[] = {0, 0, 2, 3};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(blocks_keep(&b, SLICE("BYE"), &refs[i]), 0);
        assert_int_equal(refs[i].class, class[i]);
    }
    assert_int_equal(blocks_keep(&b, SLICE("BYE"), &more), -1);
    assert_int_equal(more.class, BLOCK_CLASSES);
    blocks_release(&b, &refs[2]);
    assert_int_equal(blocks_keep(&b, SLICE("ACK"), &more), 0);
    assert_int_equal(more.class, 2);
    assert_true(slice_equal(blocks_slice(&b, more), SLICE("ACK")));
    assert_true(slice_equal(blocks_slice(&b, refs[3]), SLICE("BYE")));
    blocks_done(&b);
    test_arena_free(&mem);
}

static void test_any_bits_are_a_safe_reference(void **state)
{
    (void)state;
    struct arena mem;
    struct blocks b = blocks_of(&mem, (const uint32_t[]){4, 4, 4, 4});
    block_ref ref;
    assert_int_equal(blocks_keep(&b, SLICE("x"), &ref), 0);
    static const block_ref wrong[] = {
        {0, 0, 0, 0}, {0, 2, 1, 0}, {0, 1, 513, 0},        {0, 1, 1, 1},
        {1, 1, 1, 0}, {0, 1, 1, 4}, {0, 1, 1, UINT32_MAX}, {UINT32_MAX, 1, 1, 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        block_ref copy = wrong[i];
        assert_null(blocks_slice(&b, copy).p);
        blocks_release(&b, &copy);
        assert_int_equal(copy.class, BLOCK_CLASSES);
    }
    assert_null(blocks_slice(&b, BLOCK_NONE).p);
    assert_true(slice_equal(blocks_slice(&b, ref), SLICE("x")));
    blocks_done(&b);
    test_arena_free(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smallest_class_with_room),
        cmocka_unit_test(test_full_class_spills_upwards),
        cmocka_unit_test(test_any_bits_are_a_safe_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
