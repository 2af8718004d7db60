/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a program for one transaction machine: kind, events, statuses, clock jumps. The
 * grammar and what must hold are those of the unit tests. */
#include "txn_program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run_program(data, size < 512 ? size : 512);
    return 0;
}
