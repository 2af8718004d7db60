/* SPDX-License-Identifier: Apache-2.0
 *
 * Random programs for a registrar; see register_program.h for what must hold. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#define PROGRAM_CHECK(c) assert_true(c)
#include "fuzz/register_program.h"
#include "support/support.h"

static void random_programs(void **state)
{
    (void)state;
    struct prng p = test_seed();
    for (unsigned i = 0; i < 1500; i++) {
        uint8_t data[1200];
        size_t n = (size_t)prng_below(&p, sizeof data);
        for (size_t k = 0; k < n; k++)
            data[k] = (uint8_t)prng_u64(&p);
        run_register_program(data, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_programs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
