/* SPDX-License-Identifier: Apache-2.0
 *
 * Takes a share of a core and does nothing with it, until it is killed: what an attacker is
 * compared with, who takes as much.
 *
 *      burn PERMILLE */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { PERIOD_NS = 2000000 };

static uint64_t clock_ns(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t permille = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    uint64_t start = clock_ns(CLOCK_MONOTONIC), used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (permille == 0 || permille > 1000)
        return 2;
    for (;;) {
        uint64_t due = (clock_ns(CLOCK_MONOTONIC) - start) / 1000 * permille;
        if (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - used >= due) {
            struct timespec nap = {.tv_nsec = PERIOD_NS - (long)(PERIOD_NS * permille / 1000) + 1};
            nanosleep(&nap, NULL);
        }
    }
}
