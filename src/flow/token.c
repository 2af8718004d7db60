/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens: see the layout in flow.h.
 *
 * The MAC uses libcrypto's SHA-256 compression through its low-level interface. The EVP interface
 * allocates each time a keyed context is reused, and a token is made or checked for nearly every
 * request: here the state after the key block is kept ready, so that a MAC of a short text costs
 * three compressions and no allocation. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "flow/flow.h"

enum {
    TOKEN_VERSION = 2,
    TOKEN_MAC_BYTES = 12,
    TOKEN_HEAD_BYTES = 6,
    ROUTE_HEAD_BYTES = 8,
    END_BYTES_MAX = 2 + 2 + 2 + 16 + 12,
    TOKEN_BYTES_MAX = TOKEN_HEAD_BYTES + ROUTE_HEAD_BYTES + 2 * END_BYTES_MAX + TOKEN_MAC_BYTES,
    SHA_BLOCK = 64,
};
_Static_assert(TOKEN_TEXT_MAX >= (TOKEN_BYTES_MAX * 4 + 2) / 3, "the longest token has room");

/* Bits of the `bits` byte; of a FLOW token only those of its end. */
enum {
    BIT_CALLER_INSIDE = 1,
    BIT_CALLEE_INSIDE = 2,
    BIT_CALLEE_END = 4,
    BIT_STREAM = 8, /* of the (caller's) end */
    BIT_IPV6 = 16,
    BIT_CALLEE_STREAM = 32,
    BIT_CALLEE_IPV6 = 64,
    BITS_OF_FLOW = BIT_STREAM | BIT_IPV6,
    BITS_OF_CALLEE = BIT_CALLEE_STREAM | BIT_CALLEE_IPV6,
    BITS_KNOWN = 127,
};

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
    struct slice parts[] = {slice_of(body, n), call_id};
    flow_mac(k, parts, body[2] == TOKEN_ROUTE ? 2 : 1, mac); /* the third byte is the kind */
}

/* ---- body ------------------------------------------------------------------------------------ */

static size_t end_size(bool is_stream, bool is_v6)
{
    return 2u + 1 + 1 + 2 + (is_v6 ? 16 : 4) + (is_stream ? 12 : 4);
}

static uint8_t *end_pack(uint8_t *p, const struct token_end *end)
{
    size_t ip = end->addr.family == 6 ? 16 : 4;
    p = bytes_put_be(p, end->flow.worker, 2);
    *p++ = end->listener;
    *p++ = end->transport;
    p = bytes_put_be(p, end->addr.port, 2);
    memcpy(p, end->addr.ip, ip);
    p = bytes_put_be(p + ip, end->flow.slot, 4);
    return end->flow.gen != 0 ? bytes_put_be(p, end->flow.gen, 8) : p;
}

static const uint8_t *end_unpack(const uint8_t *p, bool is_stream, bool is_v6,
                                 struct token_end *end)
{
    size_t ip = is_v6 ? 16 : 4;
    end->flow.worker = (uint32_t)bytes_get_be(&p, 2);
    end->listener = *p++;
    end->transport = *p++;
    end->addr.port = (uint16_t)bytes_get_be(&p, 2);
    end->addr.family = is_v6 ? 6 : 4;
    memcpy(end->addr.ip, p, ip);
    p += ip;
    end->flow.slot = (uint32_t)bytes_get_be(&p, 4);
    if (is_stream)
        end->flow.gen = bytes_get_be(&p, 8);
    return p;
}

static unsigned token_bits(const struct token *t)
{
    unsigned bits =
        (t->end.flow.gen != 0 ? BIT_STREAM : 0u) | (t->end.addr.family == 6 ? BIT_IPV6 : 0u);
    if (t->kind == TOKEN_FLOW)
        return bits;
    bits |= (t->side_caller == SIDE_INSIDE ? BIT_CALLER_INSIDE : 0u) |
            (t->side_callee == SIDE_INSIDE ? BIT_CALLEE_INSIDE : 0u);
    if (t->has_callee)
        bits |= BIT_CALLEE_END | (t->callee_end.flow.gen != 0 ? BIT_CALLEE_STREAM : 0u) |
                (t->callee_end.addr.family == 6 ? BIT_CALLEE_IPV6 : 0u);
    return bits;
}

static size_t token_pack(uint8_t *body, const struct token_key *k, const struct token *t)
{
    uint8_t *p = body;
    *p++ = TOKEN_VERSION;
    *p++ = k->id;
    *p++ = t->kind;
    *p++ = (uint8_t)token_bits(t);
    p = bytes_put_be(p, t->node, 2);
    if (t->kind == TOKEN_ROUTE) {
        p = bytes_put_be(p, t->from_tag, 4);
        p = bytes_put_be(p, t->callee, 4);
    }
    p = end_pack(p, &t->end);
    if (t->kind == TOKEN_ROUTE && t->has_callee)
        p = end_pack(p, &t->callee_end);
    return (size_t)(p - body);
}

/* 0: no kind of ours has these bits. */
static size_t token_body_size(uint8_t kind, unsigned bits)
{
    size_t end = end_size(bits & BIT_STREAM, bits & BIT_IPV6);
    if (kind == TOKEN_FLOW)
        return (bits & ~(unsigned)BITS_OF_FLOW) == 0 ? TOKEN_HEAD_BYTES + end : 0;
    if (kind != TOKEN_ROUTE || (bits & ~(unsigned)BITS_KNOWN) != 0)
        return 0;
    size_t n = TOKEN_HEAD_BYTES + ROUTE_HEAD_BYTES + end;
    if (bits & BIT_CALLEE_END)
        return n + end_size(bits & BIT_CALLEE_STREAM, bits & BIT_CALLEE_IPV6);
    return (bits & BITS_OF_CALLEE) == 0 ? n : 0;
}

static void token_unpack(const uint8_t *body, struct token *t)
{
    const uint8_t *p = body + 2;
    memset(t, 0, sizeof *t);
    t->kind = *p++;
    unsigned bits = *p++;
    t->node = (uint16_t)bytes_get_be(&p, 2);
    if (t->kind == TOKEN_ROUTE) {
        t->side_caller = bits & BIT_CALLER_INSIDE ? SIDE_INSIDE : SIDE_OUTSIDE;
        t->side_callee = bits & BIT_CALLEE_INSIDE ? SIDE_INSIDE : SIDE_OUTSIDE;
        t->has_callee = (bits & BIT_CALLEE_END) != 0;
        t->from_tag = (uint32_t)bytes_get_be(&p, 4);
        t->callee = (uint32_t)bytes_get_be(&p, 4);
    }
    p = end_unpack(p, bits & BIT_STREAM, bits & BIT_IPV6, &t->end);
    if (t->has_callee)
        (void)end_unpack(p, bits & BIT_CALLEE_STREAM, bits & BIT_CALLEE_IPV6, &t->callee_end);
}

/* ---- text --------------------------------------------------------------------------------------
 */

void token_put(struct text *t, const struct token_keys *keys, const struct token *token,
               struct slice call_id)
{
    MUST(keys->count > 0 && (token->kind == TOKEN_ROUTE || token->kind == TOKEN_FLOW));
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

bool flow_mac_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
    unsigned differ = 0;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned)(a[i] ^ b[i]);
    return differ == 0;
}

int token_parse(const struct token_keys *keys, struct slice text, struct slice call_id,
                struct token *ret_token)
{
    uint8_t raw[TOKEN_BYTES_MAX];
    if (text.n > TOKEN_TEXT_MAX)
        return TOKEN_E_FORM;
    int n = text_base64url_decode(text, raw, sizeof raw);
    if (n < TOKEN_HEAD_BYTES || raw[0] != TOKEN_VERSION)
        return TOKEN_E_FORM;
    size_t body = token_body_size(raw[2], raw[3]);
    if (body == 0 || (size_t)n != body + TOKEN_MAC_BYTES)
        return TOKEN_E_FORM;

    int result = TOKEN_E_KEY;
    for (unsigned i = 0; i < keys->count; i++) {
        if (keys->key[i].id != raw[1])
            continue; /* ids may collide: then each key of that id is asked */
        uint8_t mac[SHA256_DIGEST_LENGTH];
        token_mac(&keys->key[i], raw, body, call_id, mac);
        if (flow_mac_equal(mac, raw + body, TOKEN_MAC_BYTES)) {
            struct token token;
            token_unpack(raw, &token);
            if (token.end.transport >= TP__COUNT || token.callee_end.transport >= TP__COUNT)
                return TOKEN_E_FORM; /* of an edge that knows more than we do */
            *ret_token = token;
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

uint32_t phone_hash(struct slice identity, bool is_instance)
{
    uint32_t h = public_hash(identity.p, identity.n) & ~(uint32_t)PHONE_BY_INSTANCE;
    if (is_instance)
        return h | PHONE_BY_INSTANCE;
    return h != 0 ? h : 1;
}

uint32_t token_host_hash(const struct addr *host)
{
    return public_hash(host->ip, sizeof host->ip);
}
