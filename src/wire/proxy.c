/* SPDX-License-Identifier: Apache-2.0
 *
 * A header of the PROXY protocol is judged byte by byte as it comes: who speaks something else is
 * known for it at the first byte that differs. */
#include "wire/proxy.h"

enum {
    SIGNATURE_BYTES = 12,
    COMMAND_LOCAL = 0x20,
    COMMAND_PROXY = 0x21,
    KIND_TCP4 = 0x11,
    KIND_TCP6 = 0x21,
    TCP4_BYTES = 12, /* two addresses, two ports */
    TCP6_BYTES = 36,
};

static const uint8_t signature[SIGNATURE_BYTES] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                                   '\n', 'Q',  'U',  'I',  'T', '\n'};

static bool begins(const uint8_t *p, size_t n, const void *with, size_t with_n)
{
    return memcmp(p, with, n < with_n ? n : with_n) == 0;
}

/* What can be said of the head's first `n` bytes, of which there is at least one: 0 or an error. */
static int judge_head(const uint8_t *p, size_t n)
{
    if (!begins(p, n, signature, sizeof signature)) {
        if (!begins(p, n, "PROXY", 5))
            return PROXY_E_NONE;
        return n >= 5 ? PROXY_E_TEXT : 0;
    }
    if (n > 12 && p[12] != COMMAND_LOCAL && p[12] != COMMAND_PROXY)
        return PROXY_E_FORM;
    if (n > 13 && p[12] == COMMAND_PROXY && p[13] != KIND_TCP4 && p[13] != KIND_TCP6)
        return PROXY_E_FORM;
    return 0;
}

static struct addr source_of(const uint8_t *p, bool is_ip6)
{
    struct addr a = {.family = 4};
    if (is_ip6)
        return addr_from_ip6(p, 0, (uint16_t)(p[32] << 8 | p[33]));
    memcpy(a.ip, p, 4);
    a.port = (uint16_t)(p[8] << 8 | p[9]);
    return a;
}

int proxy_read(const char *bytes, size_t n, size_t *ret_need, struct addr *ret_source)
{
    const uint8_t *p = (const uint8_t *)bytes;
    int err = n > 0 ? judge_head(p, n) : 0;
    if (err != 0)
        return err;
    if (n < PROXY_HEAD_BYTES) {
        *ret_need = PROXY_HEAD_BYTES;
        return 0;
    }
    size_t rest = (size_t)(p[14] << 8 | p[15]);
    if (rest > PROXY_BYTES_MAX - PROXY_HEAD_BYTES)
        return PROXY_E_LENGTH;
    bool is_proxied = p[12] == COMMAND_PROXY, is_ip6 = p[13] == KIND_TCP6;
    if (is_proxied && rest < (is_ip6 ? (size_t)TCP6_BYTES : (size_t)TCP4_BYTES))
        return PROXY_E_FORM;
    if (n < PROXY_HEAD_BYTES + rest) {
        *ret_need = PROXY_HEAD_BYTES + rest;
        return 0;
    }
    if (is_proxied) {
        struct addr source = source_of(p + PROXY_HEAD_BYTES, is_ip6);
        if (!addr_is_unicast(&source))
            return PROXY_E_FORM;
        *ret_source = source;
    }
    return (int)(PROXY_HEAD_BYTES + rest);
}
