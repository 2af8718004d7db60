/* SPDX-License-Identifier: Apache-2.0
 *
 * Any datagram as STUN. Holds: only STUN is answered, with the same transaction; an answer is STUN
 * that fits, is not much larger than its request, and is answered by nobody. The first byte chooses
 * the address family and the room. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t n = size - 1, cap = data[0] >> 1 & 63;
    if (cap == 0)
        cap = STUN_ANSWER_BYTES_MAX;
    char *p = malloc(n > 0 ? n : 1), *answer = malloc(cap);
    MUST(p != NULL && answer != NULL);
    memcpy(p, data + 1, n);
    struct addr source = {.port = 5060, .family = data[0] & 1 ? 6 : 4};
    memcpy(source.ip, "\x20\x01\x0d\xb8", 4);
    int got = stun_answer(p, n, &source, answer, cap);
    MUST(got >= 0 && (size_t)got <= cap && (got == 0 || stun_is(p, n)));
    if (got > 0) {
        char again[STUN_ANSWER_BYTES_MAX];
        MUST(stun_is(answer, (size_t)got) && (size_t)got <= n + 24);
        MUST(memcmp(answer + 4, p + 4, STUN_HEAD_BYTES - 4) == 0);
        MUST(stun_answer(answer, (size_t)got, &source, again, sizeof again) == 0);
    }
    free(p);
    free(answer);
    return 0;
}
