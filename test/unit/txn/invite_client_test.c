/* SPDX-License-Identifier: Apache-2.0
 *
 * The INVITE client transaction: RFC 3261 17.1.1, figure 5, as RFC 6026 corrected it. The dispatch
 * and the timer arithmetic are tested with the machines. covers: txn.c */
#include "machine.h"

#define ACK_PASS (TXN_DO_ACK | TXN_DO_PASS)

/* clang-format off */
static const struct row rows[] = {
    {"calling, udp", false, {0}, false, TXN_CALLING, 500, 32000,
     {[E_100] = GO(TXN_DO_PASS, TXN_PROCEEDING, NEVER, NEVER),
      [E_199] = GO(TXN_DO_PASS, TXN_PROCEEDING, NEVER, NEVER),
      [E_200] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_299] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_300] = GO(ACK_PASS, TXN_COMPLETED, NEVER, 32200),
      [E_408] = GO(ACK_PASS, TXN_COMPLETED, NEVER, 32200),
      [E_699] = GO(ACK_PASS, TXN_COMPLETED, NEVER, 32200),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT),
      [E_AGAIN] = GO(TXN_DO_RESEND, TXN_CALLING, 1500, 32000),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"calling, stream", true, {0}, false, TXN_CALLING, NEVER, 32000,
     {[E_100] = GO(TXN_DO_PASS, TXN_PROCEEDING, NEVER, NEVER),
      [E_199] = GO(TXN_DO_PASS, TXN_PROCEEDING, NEVER, NEVER),
      [E_200] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_299] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_300] = GONE(ACK_PASS),
      [E_408] = GONE(ACK_PASS),
      [E_699] = GONE(ACK_PASS),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"proceeding, udp", false, {100}, false, TXN_PROCEEDING, NEVER, NEVER,
     {[E_100] = STAY(TXN_DO_PASS),
      [E_199] = STAY(TXN_DO_PASS),
      [E_200] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_299] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_300] = GO(ACK_PASS, TXN_COMPLETED, NEVER, 32200),
      [E_408] = GO(ACK_PASS, TXN_COMPLETED, NEVER, 32200),
      [E_699] = GO(ACK_PASS, TXN_COMPLETED, NEVER, 32200),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT)}},
    {"proceeding, stream", true, {180}, false, TXN_PROCEEDING, NEVER, NEVER,
     {[E_100] = STAY(TXN_DO_PASS),
      [E_199] = STAY(TXN_DO_PASS),
      [E_200] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_299] = GO(TXN_DO_PASS, TXN_ACCEPTED, NEVER, 32200),
      [E_300] = GONE(ACK_PASS),
      [E_408] = GONE(ACK_PASS),
      [E_699] = GONE(ACK_PASS),
      [E_ERROR] = GONE(TXN_DO_TIMEOUT)}},
    {"accepted, udp", false, {180, 200}, false, TXN_ACCEPTED, NEVER, 32100,
     {[E_200] = STAY(TXN_DO_PASS), [E_299] = STAY(TXN_DO_PASS), [E_END] = GONE(0)}},
    {"accepted, stream", true, {200}, false, TXN_ACCEPTED, NEVER, 32100,
     {[E_200] = STAY(TXN_DO_PASS), [E_299] = STAY(TXN_DO_PASS), [E_END] = GONE(0)}},
    {"completed, udp", false, {486}, false, TXN_COMPLETED, NEVER, 32100,
     {[E_300] = STAY(TXN_DO_ACK),
      [E_408] = STAY(TXN_DO_ACK),
      [E_699] = STAY(TXN_DO_ACK),
      [E_ERROR] = GONE(0),
      [E_END] = GONE(0)}},
    {"terminated, stream", true, {486}, false, TXN_TERMINATED, NEVER, NEVER, {{0}}},
};
/* clang-format on */

static void test_every_event_in_every_state(void **state)
{
    (void)state;
    check_rows(TXN_INVITE_CLIENT, rows, sizeof rows / sizeof rows[0]);
}

static void test_seven_sends_in_32_seconds(void **state)
{
    (void)state;
    static const int resends_ms[] = {500, 1500, 3500, 7500, 15500, 31500};
    struct txn t;
    txn_start(&t, TXN_INVITE_CLIENT, false, &timers, origin);
    check_schedule(&t, resends_ms, 6, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_stream_sends_once(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_CLIENT, true, &timers, origin);
    check_schedule(&t, NULL, 0, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_late_call_resends_once_and_counts_from_there(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_CLIENT, false, &timers, origin);
    assert_int_equal(txn_expire(&t, &timers, at_ms(20000)), TXN_DO_RESEND);
    assert_int_equal(txn_deadline(&t), at_ms(21000));
    assert_int_equal(txn_expire(&t, &timers, at_ms(20000)), 0);
    assert_int_equal(t.resends, 1);
}

static void test_timeout_goes_before_a_resend(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_CLIENT, false, &timers, origin);
    assert_int_equal(txn_expire(&t, &timers, at_ms(3600000)), TXN_DO_TIMEOUT | TXN_DO_GONE);
}

static void test_timer_d_is_32_s_whatever_t1(void **state)
{
    (void)state;
    static const struct txn_timers slow = {2 * NS_S, 16 * NS_S, 17 * NS_S};
    struct txn t;
    txn_start(&t, TXN_INVITE_CLIENT, false, &slow, origin);
    assert_int_equal(t.timeout_at, at_ms(128000));
    assert_int_equal(txn_recv_response(&t, 503, &slow, at_ms(1000)), ACK_PASS);
    assert_int_equal(t.timeout_at, at_ms(33000));
}

static void test_clock_near_its_end_saturates(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_CLIENT, false, &timers, MONO_NONE - 2);
    assert_int_equal(t.timeout_at, MONO_NONE - 1);
    assert_int_equal(txn_deadline(&t), MONO_NONE - 1);
}

static void test_random_programs(void **state)
{
    (void)state;
    check_programs(TXN_INVITE_CLIENT);
}

static void test_state_names(void **state)
{
    (void)state;
    assert_string_equal(txn_state_name(TXN_CALLING), "calling");
    assert_string_equal(txn_state_name(TXN_TERMINATED), "terminated");
    assert_string_equal(txn_state_name((enum txn_state)99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_in_every_state),
        cmocka_unit_test(test_seven_sends_in_32_seconds),
        cmocka_unit_test(test_stream_sends_once),
        cmocka_unit_test(test_late_call_resends_once_and_counts_from_there),
        cmocka_unit_test(test_timeout_goes_before_a_resend),
        cmocka_unit_test(test_timer_d_is_32_s_whatever_t1),
        cmocka_unit_test(test_clock_near_its_end_saturates),
        cmocka_unit_test(test_random_programs),
        cmocka_unit_test(test_state_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
