/* SPDX-License-Identifier: Apache-2.0
 *
 * The server transaction of every other method: RFC 3261 17.2.2, figure 8; RFC 4320. */
#include "machine.h"

/* clang-format off */
static const struct row rows[] = {
    {"trying, udp", false, {0}, false, TXN_TRYING, NEVER, NEVER,
     {[E_100] = GO(TXN_DO_SEND, TXN_PROCEEDING, NEVER, NEVER),
      [E_199] = GO(TXN_DO_SEND, TXN_PROCEEDING, NEVER, NEVER),
      [E_200] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_299] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_300] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_408] = GO(0, TXN_TRYING, NEVER, 32200),
      [E_699] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200)}},
    {"trying, stream", true, {0}, false, TXN_TRYING, NEVER, NEVER,
     {[E_100] = GO(TXN_DO_SEND, TXN_PROCEEDING, NEVER, NEVER),
      [E_199] = GO(TXN_DO_SEND, TXN_PROCEEDING, NEVER, NEVER),
      [E_200] = GONE(TXN_DO_SEND),
      [E_299] = GONE(TXN_DO_SEND),
      [E_300] = GONE(TXN_DO_SEND),
      [E_408] = GO(0, TXN_TRYING, NEVER, 32200),
      [E_699] = GONE(TXN_DO_SEND)}},
    {"trying, given up", false, {408}, false, TXN_TRYING, NEVER, 32100,
     {[E_100] = GO(TXN_DO_SEND, TXN_PROCEEDING, NEVER, 32100),
      [E_199] = GO(TXN_DO_SEND, TXN_PROCEEDING, NEVER, 32100),
      [E_200] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_299] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_300] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_699] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_END] = GONE(0)}},
    {"proceeding, udp", false, {100}, false, TXN_PROCEEDING, NEVER, NEVER,
     {[E_100] = STAY(TXN_DO_SEND),
      [E_199] = STAY(TXN_DO_SEND),
      [E_200] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_299] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_300] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_408] = GO(0, TXN_PROCEEDING, NEVER, 32200),
      [E_699] = GO(TXN_DO_SEND, TXN_COMPLETED, NEVER, 32200),
      [E_REQUEST] = STAY(TXN_DO_RESEND)}},
    {"proceeding, stream", true, {100}, false, TXN_PROCEEDING, NEVER, NEVER,
     {[E_100] = STAY(TXN_DO_SEND),
      [E_199] = STAY(TXN_DO_SEND),
      [E_200] = GONE(TXN_DO_SEND),
      [E_299] = GONE(TXN_DO_SEND),
      [E_300] = GONE(TXN_DO_SEND),
      [E_408] = GO(0, TXN_PROCEEDING, NEVER, 32200),
      [E_699] = GONE(TXN_DO_SEND),
      [E_REQUEST] = STAY(TXN_DO_RESEND)}},
    {"completed, udp", false, {100, 200}, false, TXN_COMPLETED, NEVER, 32100,
     {[E_REQUEST] = STAY(TXN_DO_RESEND), [E_ERROR] = GONE(0), [E_END] = GONE(0)}},
    {"terminated, stream", true, {200}, false, TXN_TERMINATED, NEVER, NEVER, {{0}}},
};
/* clang-format on */

static void test_every_event_in_every_state(void **state)
{
    (void)state;
    check_rows(TXN_OTHER_SERVER, rows, sizeof rows / sizeof rows[0]);
}

static void test_nothing_is_sent_by_a_timer(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_OTHER_SERVER, false, &timers, origin - NS_S);
    assert_int_equal(txn_reply(&t, 404, &timers, origin), TXN_DO_SEND);
    check_schedule(&t, NULL, 0, TXN_DO_GONE, 32000);
}

static void test_second_408_does_not_lengthen_the_life(void **state)
{
    (void)state;
    struct txn t;
    txn_start(&t, TXN_OTHER_SERVER, false, &timers, origin);
    assert_int_equal(txn_reply(&t, 408, &timers, at_ms(1000)), 0);
    assert_int_equal(txn_reply(&t, 408, &timers, at_ms(9000)), 0);
    assert_int_equal(txn_deadline(&t), at_ms(33000));
    assert_int_equal(txn_recv_request(&t, false, &timers, at_ms(9500)), 0);
    assert_int_equal(txn_expire(&t, &timers, at_ms(33000)), TXN_DO_GONE);
}

static void test_random_programs(void **state)
{
    (void)state;
    check_programs(TXN_OTHER_SERVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_in_every_state),
        cmocka_unit_test(test_nothing_is_sent_by_a_timer),
        cmocka_unit_test(test_second_408_does_not_lengthen_the_life),
        cmocka_unit_test(test_random_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
