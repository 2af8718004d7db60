/* SPDX-License-Identifier: Apache-2.0
 *
 * Any text as a token: nothing verifies that was not made with the key, and what was made comes
 * back as it went in. The first byte chooses: a forgery as it is, or fields to sign, of which one
 * byte may then be changed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct token_keys keys;

static void forgery(struct slice s)
{
    struct token token;
    size_t half = s.n / 4;
    /* Nobody can guess 96 bits: what verifies here is a bug. */
    MUST(token_parse(&keys, slice_drop(s, half), slice_take(s, half), &token) != 0);
}

static void own(const uint8_t *data, size_t size)
{
    struct token in, out;
    memset(&in, 0, sizeof in);
    uint8_t raw[48] = {0};
    memcpy(raw, data, size < sizeof raw ? size : sizeof raw);
    in.kind = TOKEN_ROUTE;
    in.side_caller = raw[0] & 1;
    in.side_callee = raw[0] >> 1 & 1;
    in.listener = raw[1];
    in.transport = raw[2] % TP__COUNT;
    in.node = (uint16_t)(raw[3] << 8 | raw[4]);
    in.worker = raw[5];
    memcpy(&in.from_tag, raw + 6, 4);
    in.caller.family = raw[0] & 4 ? 6 : 4;
    memcpy(in.caller.ip, raw + 10, raw[0] & 4 ? 16 : 4);
    in.caller.port = (uint16_t)(raw[26] << 8 | raw[27]);
    if (raw[0] & 8) {
        memcpy(&in.flow.gen, raw + 28, 8);
        memcpy(&in.flow.slot, raw + 36, 4);
        in.flow.worker = in.worker;
    }
    struct slice call_id = slice_of(raw + 40, raw[40] % 8);
    char buf[TOKEN_TEXT_MAX];
    struct text t = text_into(buf, sizeof buf);
    token_put(&t, &keys, &in, call_id);
    MUST(text_fits(&t));
    MUST(token_parse(&keys, text_slice(&t), call_id, &out) == 0);
    MUST(out.node == in.node && out.worker == in.worker && out.from_tag == in.from_tag);
    MUST(out.listener == in.listener && out.transport == in.transport);
    MUST(out.side_caller == in.side_caller && out.side_callee == in.side_callee);
    MUST(addr_equal(&out.caller, &in.caller));
    MUST(out.flow.gen == in.flow.gen);
    MUST(in.flow.gen == 0 || flow_id_equal(out.flow, in.flow));
    char changed = (char)raw[47];
    char *at = &buf[raw[46] % text_slice(&t).n];
    if (changed == *at)
        return;
    *at = changed;
    MUST(token_parse(&keys, text_slice(&t), call_id, &out) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (keys.count == 0) {
        keys.count = 1;
        MUST(token_key_init(&keys.key[0], SLICE("the secret of the fuzzers")) == 0);
    }
    if (size == 0)
        return 0;
    char *copy = malloc(size);
    MUST(copy != NULL);
    memcpy(copy, data, size);
    if (data[0] % 2 == 0)
        forgery(slice_of(copy + 1, size - 1));
    else
        own(data + 1, size - 1);
    free(copy);
    return 0;
}
