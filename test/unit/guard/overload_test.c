/* SPDX-License-Identifier: Apache-2.0
 *
 * RFC 7339, the side that sends; what is told to others is tested with the delay it follows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "guard/guard.h"

struct sums {
    unsigned asked[CLASSES], sent[CLASSES];
};

/* Asks for 40,000 requests of this mix (permille by class). */
static struct sums ask(struct overload *o, const unsigned *mix, mono_ns now)
{
    struct prng prng;
    prng_seed(&prng, 5);
    struct sums sums = {0};
    for (unsigned i = 0; i < 44000; i++) {
        uint64_t at = prng_below(&prng, 1000);
        unsigned c = 0;
        for (; c < CLASSES - 1 && at >= mix[c]; c++)
            at -= mix[c];
        bool sent = overload_admits(o, c, prng_u64(&prng), now);
        if (i < 4000)
            continue; /* until the mix is known */
        sums.asked[c]++;
        sums.sent[c] += sent;
    }
    return sums;
}

static unsigned percent_kept_back(const struct sums *s, unsigned from, unsigned to)
{
    unsigned asked = 0, sent = 0;
    for (unsigned c = from; c <= to; c++) {
        asked += s->asked[c];
        sent += s->sent[c];
    }
    return asked == 0 ? 0 : (100 * (asked - sent) + asked / 2) / asked;
}

/* The asked part of all is kept back, of what begins something as long as that suffices. */
static void as_much_as_asked(void **state)
{
    (void)state;
    static const unsigned mostly_new[CLASSES] = {100, 400, 200, 150, 100, 40, 10};
    static const unsigned mostly_old[CLASSES] = {20, 100, 50, 30, 500, 290, 10};
    for (uint32_t loss = 0; loss <= 100; loss += 5) {
        struct overload o = {0};
        overload_heard(&o, loss, 1000, 1, NS_S);
        struct sums s = ask(&o, mostly_new, NS_S);
        unsigned all = percent_kept_back(&s, 0, CLASSES - 1);
        if (loss <= 80) {
            assert_in_range(all + 1, loss, loss + 2);
            assert_int_equal(percent_kept_back(&s, CLASS_IN_DIALOG, CLASS_EMERGENCY), 0);
        }
        assert_int_equal(percent_kept_back(&s, CLASS_FINISHES, CLASS_EMERGENCY), 0);
        struct overload q = {0};
        overload_heard(&q, loss, 1000, 1, NS_S);
        s = ask(&q, mostly_old, NS_S);
        unsigned low = percent_kept_back(&s, 0, CLASS_REFRESH);
        unsigned in_dialog = percent_kept_back(&s, CLASS_IN_DIALOG, CLASS_IN_DIALOG);
        if (loss <= 10)
            assert_int_equal(in_dialog, 0);
        if (loss >= 30)
            assert_true(low >= 95 && in_dialog > 0);
        if (loss == 100)
            assert_true(low == 100 && in_dialog >= 99);
        if (loss > 0 && loss < 100)
            assert_true(low > in_dialog);
        assert_int_equal(percent_kept_back(&s, CLASS_FINISHES, CLASS_EMERGENCY), 0);
    }
}

/* What is heard holds for its time; an old answer that was overtaken changes nothing; 0 ms ends it;
 * more than 100 % is 100. */
static void what_was_heard(void **state)
{
    (void)state;
    struct overload o = {0};
    mono_ns now = 10 * NS_S;
    assert_true(overload_admits(&o, CLASS_PROBE, 0, now));
    overload_heard(&o, 50, 500, 7000, now);
    assert_false(overload_admits(&o, CLASS_PROBE, 0, now + 499 * NS_MS));
    assert_true(overload_admits(&o, CLASS_PROBE, 0, now + 500 * NS_MS));
    overload_heard(&o, 50, 500, 7000, now); /* the same again */
    overload_heard(&o, 0, 500, 6999, now);  /* overtaken */
    assert_false(overload_admits(&o, CLASS_PROBE, 0, now));
    overload_heard(&o, 0, 500, 7001, now);
    assert_true(overload_admits(&o, CLASS_PROBE, 0, now));
    overload_heard(&o, 100, 500, 7002, now);
    assert_false(overload_admits(&o, CLASS_REFRESH, UINT64_MAX, now));
    overload_heard(&o, 100, 0, 7003, now);
    assert_true(overload_admits(&o, CLASS_PROBE, 0, now));
    overload_heard(&o, 4000000000U, 4000000000U, 8000, now);
    assert_int_equal(o.loss_percent, 100);
    assert_false(overload_admits(&o, CLASS_PROBE, UINT64_MAX, now + 3599 * NS_S));
    assert_true(overload_admits(&o, CLASS_PROBE, 0, now + 3601 * NS_S));
    /* It began anew, its numbers with it. */
    overload_heard(&o, 30, 500, 1, now + 3601 * NS_S);
    assert_int_equal(o.loss_percent, 30);
}

static void is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct overload) <= 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_much_as_asked),
        cmocka_unit_test(what_was_heard),
        cmocka_unit_test(is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
