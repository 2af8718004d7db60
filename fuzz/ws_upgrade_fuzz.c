/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as an opening handshake. Holds: what is said of all bytes is said of each beginning
 * from some size on, and "more" before that; an answer fits and is HTTP; what is let in is a GET
 * that ends where it says. The first byte chooses the policy and a stride. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct verdict {
    int result;
    size_t used;
    struct text answer;
    char p[WS_ANSWER_BYTES_MAX];
};

static void ask(struct slice s, size_t n, const struct ws_policy *policy, struct verdict *v)
{
    char *copy = malloc(n > 0 ? n : 1);
    MUST(copy != NULL);
    memcpy(copy, s.p, n);
    v->used = 0;
    v->answer = text_into(v->p, sizeof v->p);
    v->result = ws_upgrade(copy, n, policy, &v->answer, &v->used);
    MUST(text_fits(&v->answer));
    free(copy);
}

static void check(struct slice s, const struct verdict *v)
{
    struct slice answer = text_slice(&v->answer);
    if (v->result == WS_UPGRADE_MORE) {
        MUST(answer.n == 0 && s.n < WS_UPGRADE_BYTES_MAX);
        return;
    }
    bool is_open = v->result == WS_UPGRADE_OPEN;
    MUST(slice_starts_with(answer, SLICE("HTTP/1.1 ")));
    MUST(slice_starts_with(answer, SLICE("HTTP/1.1 101 ")) == is_open);
    MUST(memmem(answer.p, answer.n, "\r\n\r\n", 4) != NULL);
    if (is_open) {
        MUST(v->used <= s.n && v->used <= WS_UPGRADE_BYTES_MAX && v->used > 4);
        MUST(memcmp(s.p, "GET ", 4) == 0 && memcmp(s.p + v->used - 4, "\r\n\r\n", 4) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct slice origins[] = {{"https://a.example", 17}, {"http://b", 8}};
    static struct verdict whole, part;
    if (size < 1)
        return 0;
    const struct ws_policy policy = {.origins = origins, .origin_count = data[0] & 3 ? 2 : 0};
    size_t stride = 1 + (data[0] >> 2) % 8;
    struct slice s = slice_of(data + 1, size - 1);
    ask(s, s.n, &policy, &whole);
    check(s, &whole);
    bool is_decided = false;
    for (size_t n = 0; n < s.n; n += stride + n / 64) {
        ask(s, n, &policy, &part);
        if (part.result == WS_UPGRADE_MORE) {
            MUST(!is_decided);
            continue;
        }
        is_decided = true;
        MUST(part.result == whole.result && part.used == whole.used);
        MUST(slice_equal(text_slice(&part.answer), text_slice(&whole.answer)));
    }
    return 0;
}
