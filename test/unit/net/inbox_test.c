/* SPDX-License-Identifier: Apache-2.0
 *
 * No knock is lost: producers push into rings and knock, the consumer sleeps whenever it may. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "net/net_int.h"

enum { PRODUCERS = 3, RECORDS = 20000 };

struct producer {
    pthread_t thread;
    struct inbox *inbox;
    struct ring *ring;
    uint32_t index;
    uint64_t refused;
};

static void *produce(void *arg)
{
    struct producer *p = (struct producer *)arg;
    for (uint64_t i = 0; i < RECORDS; i++) {
        void *to;
        while ((to = ring_reserve(p->ring, sizeof i)) == NULL) {
            p->refused++;
            sched_yield();
        }
        memcpy(to, &i, sizeof i);
        ring_push(p->ring, sizeof i);
        inbox_knock_worker(p->inbox, p->index);
        if (i % 64 == 0)
            usleep(20);
    }
    return NULL;
}

static uint64_t take_all(struct inbox *b, struct producer *p, uint64_t *next)
{
    uint64_t taken = 0;
    uint64_t from = atomic_exchange(&b->from_workers, 0);
    for (; from != 0; from &= from - 1) {
        unsigned i = (unsigned)__builtin_ctzll(from);
        for (struct slice r; (r = ring_peek(p[i].ring)).p != NULL; ring_pop(p[i].ring)) {
            uint64_t got;
            memcpy(&got, r.p, sizeof got);
            if (got != next[i])
                return UINT64_MAX;
            next[i]++;
            taken++;
        }
    }
    return taken;
}

static void test_no_knock_is_lost(void **state)
{
    (void)state;
    static struct inbox inbox;
    struct producer p[PRODUCERS] = {0};
    uint64_t next[PRODUCERS] = {0}, taken = 0, sleeps = 0;
    assert_int_equal(0, inbox_init(&inbox));
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        p[i] = (struct producer){.inbox = &inbox, .ring = ring_map(4096), .index = i};
        assert_int_equal(0, pthread_create(&p[i].thread, NULL, produce, &p[i]));
    }
    while (taken < (uint64_t)PRODUCERS * RECORDS) {
        uint64_t n = take_all(&inbox, p, next);
        assert_true(n != UINT64_MAX);
        taken += n;
        if (taken == (uint64_t)PRODUCERS * RECORDS || !inbox_may_sleep(&inbox))
            continue;
        struct pollfd fd = {.fd = inbox.wake_fd, .events = POLLIN};
        int woken = poll(&fd, 1, 10000);
        assert_int_equal(1, woken); /* else it would have slept for ever */
        inbox_awake(&inbox);
        inbox_drain_fd(&inbox);
        sleeps++;
    }
    assert_true(sleeps > 0);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        pthread_join(p[i].thread, NULL);
        memory_unmap(p[i].ring, (sizeof *p[i].ring + 63) / 64 * 64 + 4096);
    }
    close(inbox.wake_fd);
}

static void test_awake_costs_no_call(void **state)
{
    (void)state;
    static struct inbox inbox;
    assert_int_equal(0, inbox_init(&inbox));
    inbox_knock_other(&inbox, INBOX_MAIN);
    struct pollfd fd = {.fd = inbox.wake_fd, .events = POLLIN};
    assert_int_equal(0, poll(&fd, 1, 0)); /* it was not asleep */
    assert_false(inbox_may_sleep(&inbox));
    atomic_store(&inbox.from_others, 0);
    assert_true(inbox_may_sleep(&inbox));
    inbox_knock_other(&inbox, INBOX_MAIN);
    inbox_knock_other(&inbox, INBOX_MAIN);
    uint64_t count = 0;
    assert_int_equal(sizeof count, read(inbox.wake_fd, &count, sizeof count));
    assert_int_equal(1, count);
    close(inbox.wake_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_knock_is_lost),
        cmocka_unit_test(test_awake_costs_no_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
