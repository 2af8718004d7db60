/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a program for a registrar: REGISTERs, flows that die, a slow store, restarts. The
 * grammar and what must hold are those of the unit tests. */
#include "register_program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run_register_program(data, size < 2048 ? size : 2048);
    return 0;
}
