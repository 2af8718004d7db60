/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a header of the PROXY protocol. Holds: a source is one that can be sent to; what is
 * asked for is more than there is, and bounded; an error at a cut is the error of the whole, and a
 * cut of what is whole is neither whole nor wrong. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_copy(const uint8_t *data, size_t n, size_t *ret_need, struct addr *ret_source)
{
    char *p = malloc(n > 0 ? n : 1);
    MUST(p != NULL);
    if (n > 0)
        memcpy(p, data, n);
    int r = proxy_read(p, n, ret_need, ret_source);
    free(p);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct addr source = {0}, of_cut = {0};
    size_t need = 0;
    int whole = read_copy(data, size, &need, &source);
    MUST(whole <= PROXY_BYTES_MAX && whole <= (int64_t)size);
    MUST(whole > 0 || source.family == 0);
    MUST(whole <= 0 || source.family == 0 || addr_is_unicast(&source));
    MUST(whole != 0 || (need > size && need <= PROXY_BYTES_MAX));
    size_t cuts = size < PROXY_BYTES_MAX ? size : PROXY_BYTES_MAX;
    bool is_bad = false;
    for (size_t n = 0; n < cuts; n++) {
        int r = read_copy(data, n, &need, &of_cut);
        MUST(!is_bad || r == whole);
        MUST(r <= 0 || (r == whole && addr_equal(&of_cut, &source)));
        MUST(r >= 0 || r == whole);
        MUST(r != 0 || (need > n && need <= PROXY_BYTES_MAX));
        is_bad = r < 0;
    }
    return 0;
}
