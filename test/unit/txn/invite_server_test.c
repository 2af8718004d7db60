/* SPDX-License-Identifier: Apache-2.0
 *
 * The INVITE server transaction: RFC 3261 17.2.1, figure 7, as RFC 6026 corrected it. */
#include "machine.h"

/* clang-format off */
static const struct row rows[] = {
    {"proceeding, udp", false, {0}, false, TXN_PROCEEDING, NEVER, NEVER,
     {[E_100] = STAY(TXN_DO_SEND),
      [E_199] = STAY(TXN_DO_SEND),
      [E_200] = GO(TXN_DO_SEND, TXN_ACCEPTED, NEVER, 32200),
      [E_299] = GO(TXN_DO_SEND, TXN_ACCEPTED, NEVER, 32200),
      [E_300] = GO(TXN_DO_SEND, TXN_COMPLETED, 700, 32200),
      [E_408] = GO(TXN_DO_SEND, TXN_COMPLETED, 700, 32200),
      [E_699] = GO(TXN_DO_SEND, TXN_COMPLETED, 700, 32200),
      [E_REQUEST] = STAY(TXN_DO_RESEND)}},
    {"proceeding, stream", true, {180}, false, TXN_PROCEEDING, NEVER, NEVER,
     {[E_100] = STAY(TXN_DO_SEND),
      [E_199] = STAY(TXN_DO_SEND),
      [E_200] = GO(TXN_DO_SEND, TXN_ACCEPTED, NEVER, 32200),
      [E_299] = GO(TXN_DO_SEND, TXN_ACCEPTED, NEVER, 32200),
      [E_300] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_408] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_699] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_REQUEST] = STAY(TXN_DO_RESEND)}},
    {"accepted, udp", false, {180, 200}, false, TXN_ACCEPTED, NEVER, 32100,
     {[E_200] = STAY(TXN_DO_SEND),
      [E_299] = STAY(TXN_DO_SEND),
      [E_ACK] = STAY(TXN_DO_PASS),
      [E_END] = GONE(0)}},
    {"accepted, stream", true, {200}, false, TXN_ACCEPTED, NEVER, 32100,
     {[E_200] = STAY(TXN_DO_SEND),
      [E_299] = STAY(TXN_DO_SEND),
      [E_ACK] = STAY(TXN_DO_PASS),
      [E_END] = GONE(0)}},
    {"completed, udp", false, {180, 486}, false, TXN_COMPLETED, 600, 32100,
     {[E_REQUEST] = STAY(TXN_DO_RESEND),
      [E_ACK] = GO(0, TXN_CONFIRMED, NEVER, 5200),
      [E_ERROR] = GONE(0),
      [E_AGAIN] = GO(TXN_DO_RESEND, TXN_COMPLETED, 1600, 32100),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"completed, stream", true, {486}, false, TXN_COMPLETED, NEVER, 32100,
     {[E_REQUEST] = STAY(TXN_DO_RESEND),
      [E_ACK] = GONE(0),
      [E_ERROR] = GONE(0),
      [E_END] = GONE(TXN_DO_TIMEOUT)}},
    {"confirmed, udp", false, {486}, true, TXN_CONFIRMED, NEVER, 5150, {[E_END] = GONE(0)}},
    {"terminated, stream", true, {486}, true, TXN_TERMINATED, NEVER, NEVER, {{0}}},
};
/* clang-format on */

static void test_every_event_in_every_state(void **state)
{
    (void)state;
    check_rows(TXN_INVITE_SERVER, rows, sizeof rows / sizeof rows[0]);
}

static void test_final_goes_eleven_times_without_an_ack(void **state)
{
    (void)state;
    static const int resends_ms[] = {500,   1500,  3500,  7500,  11500,
                                     15500, 19500, 23500, 27500, 31500};
    struct txn t;
    txn_start(&t, TXN_INVITE_SERVER, false, &timers, origin - NS_S);
    assert_int_equal(txn_reply(&t, 486, &timers, origin), TXN_DO_SEND);
    check_schedule(&t, resends_ms, 10, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_stream_final_goes_once(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_SERVER, true, &timers, origin);
    assert_int_equal(txn_reply(&t, 503, &timers, origin), TXN_DO_SEND);
    check_schedule(&t, NULL, 0, TXN_DO_TIMEOUT | TXN_DO_GONE, 32000);
}

static void test_repeat_does_not_move_timer_g(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_SERVER, false, &timers, origin);
    assert_int_equal(txn_reply(&t, 486, &timers, origin), TXN_DO_SEND);
    assert_int_equal(txn_recv_request(&t, false, &timers, at_ms(499)), TXN_DO_RESEND);
    assert_int_equal(txn_deadline(&t), at_ms(500));
    assert_int_equal(t.resends, 0);
}

static void test_late_call_resends_once_and_counts_from_there(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_INVITE_SERVER, false, &timers, origin);
    assert_int_equal(txn_reply(&t, 486, &timers, origin), TXN_DO_SEND);
    assert_int_equal(txn_expire(&t, &timers, at_ms(10000)), TXN_DO_RESEND);
    assert_int_equal(txn_deadline(&t), at_ms(11000));
}

static void test_random_programs(void **state)
{
    (void)state;
    check_programs(TXN_INVITE_SERVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_in_every_state),
        cmocka_unit_test(test_final_goes_eleven_times_without_an_ack),
        cmocka_unit_test(test_stream_final_goes_once),
        cmocka_unit_test(test_repeat_does_not_move_timer_g),
        cmocka_unit_test(test_late_call_resends_once_and_counts_from_there),
        cmocka_unit_test(test_random_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
