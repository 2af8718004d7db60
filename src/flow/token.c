/* SPDX-License-Identifier: Apache-2.0
 *
 * Route tokens: see the layout in flow.h.
 *
 * The MAC uses libcrypto's SHA-256 compression through its low-level interface. The EVP interface
 * allocates each time a keyed context is reused, and a token is made or checked for nearly every
 * request: here the state after the key block is kept ready, so that a MAC of a short text costs
 * three compressions and no allocation. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "flow/flow.h"

enum {
    TOKEN_VERSION = 1,
    TOKEN_MAC_BYTES = 12,
    TOKEN_HEAD_BYTES = 18,
    TOKEN_BYTES_MAX = TOKEN_HEAD_BYTES + 2 + 16 + 12 + TOKEN_MAC_BYTES,
    SHA_BLOCK = 64,
};

/* Bits of the `sides` byte. */
enum { BIT_CALLER_INSIDE = 1, BIT_CALLEE_INSIDE = 2, BIT_FLOW = 4, BIT_IPV6 = 8, BITS_KNOWN = 15 };

static void half_key(uint32_t state[8], const uint8_t block[SHA_BLOCK], uint8_t pad)
{
    uint8_t padded[SHA_BLOCK];
    for (int i = 0; i < SHA_BLOCK; i++)
        padded[i] = block[i] ^ pad;
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, padded, SHA_BLOCK);
    for (int i = 0; i < 8; i++)
        state[i] = c.h[i];
}

int token_key_init(struct token_key *k, struct slice secret)
{
    if (secret.n < TOKEN_KEY_BYTES_MIN || secret.n > TOKEN_KEY_BYTES_MAX)
        return -1;
    uint8_t block[SHA_BLOCK] = {0};
    memcpy(block, secret.p, secret.n);
    half_key(k->inner, block, 0x36);
    half_key(k->outer, block, 0x5c);

    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, secret.p, secret.n);
    SHA256_Final(digest, &c);
    k->id = digest[0];
    return 0;
}

/* Continues a hash whose first block is already in `state`. */
static void resume(SHA256_CTX *c, const uint32_t state[8])
{
    SHA256_Init(c);
    for (int i = 0; i < 8; i++)
        c->h[i] = state[i];
    c->Nl = SHA_BLOCK * 8;
}

void flow_mac(const struct token_key *k, const struct slice *parts, unsigned count,
              uint8_t ret_mac[32])
{
    SHA256_CTX c;
    resume(&c, k->inner);
    for (unsigned i = 0; i < count; i++)
        SHA256_Update(&c, parts[i].p, parts[i].n);
    SHA256_Final(ret_mac, &c);
    resume(&c, k->outer);
    SHA256_Update(&c, ret_mac, SHA256_DIGEST_LENGTH);
    SHA256_Final(ret_mac, &c);
}

static void token_mac(const struct token_key *k, const uint8_t *body, size_t n,
                      struct slice call_id, uint8_t mac[SHA256_DIGEST_LENGTH])
{
    flow_mac(k, (struct slice[]){slice_of(body, n), call_id}, 2, mac);
}

static size_t token_pack(uint8_t *body, const struct token_key *k, const struct token *t)
{
    bool v6 = t->caller.family == 6;
    unsigned bits = (t->side_caller == SIDE_INSIDE ? BIT_CALLER_INSIDE : 0u) |
                    (t->side_callee == SIDE_INSIDE ? BIT_CALLEE_INSIDE : 0u) |
                    (t->flow.gen != 0 ? BIT_FLOW : 0u) | (v6 ? BIT_IPV6 : 0u);
    uint8_t *p = body;
    *p++ = TOKEN_VERSION;
    *p++ = k->id;
    *p++ = t->kind;
    *p++ = (uint8_t)bits;
    p = bytes_put_be(p, t->node, 2);
    p = bytes_put_be(p, t->worker, 2);
    *p++ = t->listener;
    *p++ = t->transport;
    p = bytes_put_be(p, t->from_tag, 4);
    p = bytes_put_be(p, t->callee, 4);
    p = bytes_put_be(p, t->caller.port, 2);
    memcpy(p, t->caller.ip, v6 ? 16 : 4);
    p += v6 ? 16 : 4;
    if (t->flow.gen != 0) {
        p = bytes_put_be(p, t->flow.slot, 4);
        p = bytes_put_be(p, t->flow.gen, 8);
    }
    return (size_t)(p - body);
}

void token_put(struct text *t, const struct token_keys *keys, const struct token *token,
               struct slice call_id)
{
    MUST(keys->count > 0);
    const struct token_key *k = &keys->key[0];
    uint8_t body[TOKEN_BYTES_MAX];
    size_t n = token_pack(body, k, token);
    uint8_t mac[SHA256_DIGEST_LENGTH];
    token_mac(k, body, n, call_id, mac);
    memcpy(body + n, mac, TOKEN_MAC_BYTES);
    n += TOKEN_MAC_BYTES;

    char out[TOKEN_TEXT_MAX];
    text_base64url_encode(body, n, out);
    text_put(t, slice_of(out, text_base64url_size(n)));
}

static bool mac_equal(const uint8_t *a, const uint8_t *b)
{
    unsigned differ = 0;
    for (int i = 0; i < TOKEN_MAC_BYTES; i++)
        differ |= (unsigned)(a[i] ^ b[i]);
    return differ == 0;
}

static size_t token_body_size(unsigned bits)
{
    size_t ip = bits & BIT_IPV6 ? 16 : 4, flow = bits & BIT_FLOW ? 12 : 0;
    return TOKEN_HEAD_BYTES + 2 + ip + flow;
}

static void token_unpack(const uint8_t *body, struct token *t)
{
    const uint8_t *p = body + 2;
    memset(t, 0, sizeof *t);
    t->kind = *p++;
    unsigned bits = *p++;
    t->side_caller = bits & BIT_CALLER_INSIDE ? SIDE_INSIDE : SIDE_OUTSIDE;
    t->side_callee = bits & BIT_CALLEE_INSIDE ? SIDE_INSIDE : SIDE_OUTSIDE;
    t->node = (uint16_t)bytes_get_be(&p, 2);
    t->worker = (uint16_t)bytes_get_be(&p, 2);
    t->listener = *p++;
    t->transport = *p++;
    t->from_tag = (uint32_t)bytes_get_be(&p, 4);
    t->callee = (uint32_t)bytes_get_be(&p, 4);
    t->caller.port = (uint16_t)bytes_get_be(&p, 2);
    t->caller.family = bits & BIT_IPV6 ? 6 : 4;
    memcpy(t->caller.ip, p, bits & BIT_IPV6 ? 16 : 4);
    p += bits & BIT_IPV6 ? 16 : 4;
    if (bits & BIT_FLOW) {
        t->flow.slot = (uint32_t)bytes_get_be(&p, 4);
        t->flow.gen = bytes_get_be(&p, 8);
        t->flow.worker = t->worker;
    }
}

int token_parse(const struct token_keys *keys, struct slice text, struct slice call_id,
                struct token *ret_token)
{
    uint8_t raw[TOKEN_BYTES_MAX];
    if (text.n > TOKEN_TEXT_MAX)
        return TOKEN_E_FORM;
    int n = text_base64url_decode(text, raw, sizeof raw);
    if (n < TOKEN_HEAD_BYTES || raw[0] != TOKEN_VERSION || raw[2] != TOKEN_ROUTE ||
        (raw[3] & ~(unsigned)BITS_KNOWN) != 0)
        return TOKEN_E_FORM;
    size_t body = token_body_size(raw[3]);
    if ((size_t)n != body + TOKEN_MAC_BYTES)
        return TOKEN_E_FORM;

    int result = TOKEN_E_KEY;
    for (unsigned i = 0; i < keys->count; i++) {
        if (keys->key[i].id != raw[1])
            continue; /* ids may collide: then each key of that id is asked */
        uint8_t mac[SHA256_DIGEST_LENGTH];
        token_mac(&keys->key[i], raw, body, call_id, mac);
        if (mac_equal(mac, raw + body)) {
            token_unpack(raw, ret_token);
            return 0;
        }
        result = TOKEN_E_MAC;
    }
    return result;
}

static uint32_t public_hash(const void *p, size_t n)
{
    /* Public and unkeyed on purpose: it only tells the two ends of a dialog apart, it is covered by
     * the MAC, and every edge of a fleet must compute the same. */
    static const struct hash_seed seed = {0x77656972746f6b65ULL, 0x6e66726f6d746167ULL};
    return (uint32_t)siphash(&seed, p, n);
}

uint32_t token_tag_hash(struct slice tag)
{
    return public_hash(tag.p, tag.n);
}

uint32_t token_host_hash(const struct addr *host)
{
    return public_hash(host->ip, sizeof host->ip);
}
