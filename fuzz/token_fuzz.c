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

static struct token_end end_from(const uint8_t raw[32])
{
    struct token_end end;
    memset(&end, 0, sizeof end);
    bool v6 = raw[0] & 1;
    end.listener = raw[1];
    end.transport = raw[2] % TP__COUNT;
    end.addr.family = v6 ? 6 : 4;
    memcpy(end.addr.ip, raw + 3, v6 ? 16 : 4);
    end.addr.port = (uint16_t)(raw[19] << 8 | raw[20]);
    end.flow.worker = raw[21];
    memcpy(&end.flow.slot, raw + 22, 4);
    if (raw[0] & 2)
        end.flow.gen = (uint64_t)raw[26] << 32 | raw[27] | 1;
    return end;
}

static bool same_end(const struct token_end *a, const struct token_end *b)
{
    return addr_equal(&a->addr, &b->addr) && flow_id_equal(a->flow, b->flow) &&
           a->listener == b->listener && a->transport == b->transport;
}

static void own(const uint8_t *data, size_t size)
{
    struct token in, out;
    memset(&in, 0, sizeof in);
    uint8_t raw[96] = {0};
    memcpy(raw, data, size < sizeof raw ? size : sizeof raw);
    in.kind = raw[0] & 1 ? TOKEN_FLOW : TOKEN_ROUTE;
    in.node = (uint16_t)(raw[3] << 8 | raw[4]);
    in.end = end_from(raw + 8);
    if (in.kind == TOKEN_ROUTE) {
        in.side_caller = raw[0] >> 1 & 1;
        in.side_callee = raw[0] >> 2 & 1;
        in.has_callee = raw[0] >> 3 & 1;
        memcpy(&in.from_tag, raw + 5, 3);
        in.callee = raw[1];
    }
    if (in.has_callee)
        in.callee_end = end_from(raw + 40);
    struct slice call_id = slice_of(raw + 72, raw[72] % 16);
    char buf[TOKEN_TEXT_MAX];
    struct text t = text_into(buf, sizeof buf);
    token_put(&t, &keys, &in, call_id);
    MUST(text_fits(&t));
    MUST(token_parse(&keys, text_slice(&t), call_id, &out) == 0);
    MUST(out.kind == in.kind && out.node == in.node && out.from_tag == in.from_tag);
    MUST(out.side_caller == in.side_caller && out.side_callee == in.side_callee);
    MUST(out.callee == in.callee && out.has_callee == in.has_callee);
    MUST(same_end(&out.end, &in.end));
    MUST(!in.has_callee || same_end(&out.callee_end, &in.callee_end));
    char changed = (char)raw[94];
    char *at = &buf[raw[95] % text_slice(&t).n];
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
