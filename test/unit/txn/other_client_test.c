/* SPDX-License-Identifier: Apache-2.0
 *
 * The client transaction of every other method: RFC 3261 17.1.2, figure 6. */
#include "machine.h"

/* clang-format off */
static const struct row rows[] = {
    {"trying, udp", false, {0}, false, TXN_TRYING, 500, 32000,
     {[E_100] = GO(TXN_DO_PASS, TXN_PROCEEDING, 500, 32000),
      [E_199] = GO(TXN_DO_PASS, TXN_PROCEEDING, 500, 32000),
      [E_200] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_299] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_300] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_408] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_699] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT),
      [E_AGAIN] = GO(TXN_DO_RESEND, TXN_TRYING, 1500, 32000),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"trying, stream", true, {0}, false, TXN_TRYING, NEVER, 32000,
     {[E_100] = GO(TXN_DO_PASS, TXN_PROCEEDING, NEVER, 32000),
      [E_199] = GO(TXN_DO_PASS, TXN_PROCEEDING, NEVER, 32000),
      [E_200] = GONE(TXN_DO_PASS),
      [E_299] = GONE(TXN_DO_PASS),
      [E_300] = GONE(TXN_DO_PASS),
      [E_408] = GONE(TXN_DO_PASS),
      [E_699] = GONE(TXN_DO_PASS),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"proceeding, udp", false, {100}, false, TXN_PROCEEDING, 500, 32000,
     {[E_100] = STAY(TXN_DO_PASS),
      [E_199] = STAY(TXN_DO_PASS),
      [E_200] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_299] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_300] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_408] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_699] = GO(TXN_DO_PASS, TXN_COMPLETED, NEVER, 5200),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT),
      [E_AGAIN] = GO(TXN_DO_RESEND, TXN_PROCEEDING, 4500, 32000),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"proceeding, stream", true, {100}, false, TXN_PROCEEDING, NEVER, 32000,
     {[E_100] = STAY(TXN_DO_PASS),
      [E_199] = STAY(TXN_DO_PASS),
      [E_200] = GONE(TXN_DO_PASS),
      [E_299] = GONE(TXN_DO_PASS),
      [E_300] = GONE(TXN_DO_PASS),
      [E_408] = GONE(TXN_DO_PASS),
      [E_699] = GONE(TXN_DO_PASS),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"completed, udp", false, {100, 200}, false, TXN_COMPLETED, NEVER, 5100, {[E_END] = GONE(0)}},
    {"terminated, stream", true, {200}, false, TXN_TERMINATED, NEVER, NEVER, {{0}}},
};
/* clang-format on */

static void test_every_event_in_every_state(void **state)
{
    (void)state;
    check_rows(TXN_OTHER_CLIENT, rows, sizeof rows / sizeof rows[0]);
}

static void test_eleven_sends_in_32_seconds(void **state)
{
    (void)state;
    static const int resends_ms[] = {500,   1500,  3500,  7500,  11500,
                                     15500, 19500, 23500, 27500, 31500};
    struct txn t;
    txn_start(&t, TXN_OTHER_CLIENT, false, &timers, origin);
    check_schedule(&t, resends_ms, 10, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_proceeding_resends_every_t2(void **state)
{
    (void)state;
    static const int resends_ms[] = {500, 4500, 8500, 12500, 16500, 20500, 24500, 28500};
    struct txn t;
    txn_start(&t, TXN_OTHER_CLIENT, false, &timers, origin);
    assert_int_equal(txn_recv_response(&t, 100, &timers, at_ms(10)), TXN_DO_PASS);
    check_schedule(&t, resends_ms, 8, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_stream_sends_once(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_OTHER_CLIENT, true, &timers, origin);
    check_schedule(&t, NULL, 0, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_late_call_resends_once_and_counts_from_there(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_OTHER_CLIENT, false, &timers, origin);
    assert_int_equal(txn_expire(&t, &timers, at_ms(31999)), TXN_DO_RESEND);
    assert_int_equal(t.retransmit_at, at_ms(32999));
    assert_int_equal(txn_expire(&t, &timers, at_ms(31999)), 0);
    assert_int_equal(txn_expire(&t, &timers, at_ms(40000)), TXN_DO_TIMEOUT | TXN_DO_GONE);
}

static void test_t1_below_a_millisecond_still_waits_one(void **state)
{
    (void)state;
    static const struct txn_timers odd = {NS_US, 0, 0};
    struct txn t;
    txn_start(&t, TXN_OTHER_CLIENT, false, &odd, origin);
    assert_int_equal(t.retransmit_at, at_ms(1));
    assert_int_equal(t.timeout_at, origin + 64 * NS_US);
}

static void test_random_programs(void **state)
{
    (void)state;
    check_programs(TXN_OTHER_CLIENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_in_every_state),
        cmocka_unit_test(test_eleven_sends_in_32_seconds),
        cmocka_unit_test(test_proceeding_resends_every_t2),
        cmocka_unit_test(test_stream_sends_once),
        cmocka_unit_test(test_late_call_resends_once_and_counts_from_there),
        cmocka_unit_test(test_t1_below_a_millisecond_still_waits_one),
        cmocka_unit_test(test_random_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
