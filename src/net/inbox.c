/* SPDX-License-Identifier: Apache-2.0
 *
 * Knocking costs one atomic or, and a system call only when the consumer said that it sleeps. The
 * two sides cannot miss each other: the producer sets its bit before it looks at `asleep`, the
 * consumer sets `asleep` before it looks at the bits, and both are sequentially consistent. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "net/net_int.h"

int inbox_init(struct inbox *b)
{
    atomic_init(&b->from_workers, 0);
    atomic_init(&b->from_others, 0);
    atomic_init(&b->asleep, 0);
    b->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return b->wake_fd < 0 ? -1 : 0;
}

static void wake(struct inbox *b)
{
    if (atomic_load(&b->asleep) == 0 || atomic_exchange(&b->asleep, 0) == 0)
        return;
    uint64_t one = 1;
    /* A full counter means that it is readable, which is all that is wanted. */
    (void)!write(b->wake_fd, &one, sizeof one);
}

void inbox_knock_worker(struct inbox *b, uint32_t worker)
{
    atomic_fetch_or(&b->from_workers, 1ULL << worker);
    wake(b);
}

void inbox_knock_other(struct inbox *b, uint32_t who)
{
    atomic_fetch_or(&b->from_others, who);
    wake(b);
}

bool inbox_may_sleep(struct inbox *b)
{
    atomic_store(&b->asleep, 1);
    if (atomic_load(&b->from_workers) == 0 && atomic_load(&b->from_others) == 0)
        return true;
    atomic_store(&b->asleep, 0);
    return false;
}

void inbox_awake(struct inbox *b)
{
    if (atomic_load_explicit(&b->asleep, memory_order_relaxed) != 0)
        atomic_store(&b->asleep, 0);
}

void inbox_drain_fd(struct inbox *b)
{
    uint64_t count;
    (void)!read(b->wake_fd, &count, sizeof count);
}
