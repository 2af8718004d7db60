/* SPDX-License-Identifier: Apache-2.0
 *
 * Route tokens: what goes in comes out, and nothing else does. The MAC is checked against HMAC as
 * libcrypto computes it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "flow/flow.h"
#include "support/support.h"

enum { MAC_BYTES = 12 };

static const char secret[] = "twenty-four byte secret!";

static struct token_keys keys_of(const char *text)
{
    struct token_keys keys = {.count = 1};
    assert_int_equal(token_key_init(&keys.key[0], slice_cstr(text)), 0);
    return keys;
}

static struct addr address(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse(slice_cstr(text), &a), 0);
    return a;
}

static struct token sample(unsigned which)
{
    struct token t;
    memset(&t, 0, sizeof t);
    t.kind = TOKEN_ROUTE;
    t.side_caller = which & 1 ? SIDE_INSIDE : SIDE_OUTSIDE;
    t.side_callee = which & 2 ? SIDE_INSIDE : SIDE_OUTSIDE;
    t.listener = (uint8_t)(which * 7 % 64);
    t.transport = which & 4 ? TP_TCP : TP_UDP;
    t.node = (uint16_t)(which * 8191 + 1);
    t.worker = (uint16_t)(which % 64);
    t.from_tag = 0x89abcdef + which;
    t.caller = address(which & 8 ? "[2001:db8::ff00:42:8329]:65535" : "198.51.100.254:5060");
    if (which & 4)
        t.flow = (struct flow_id){0xfedcba9876543210ULL - which, 0x7fffffff - which, t.worker};
    return t;
}

static struct slice put(char *dst, size_t cap, const struct token_keys *keys, const struct token *t,
                        struct slice call_id)
{
    struct text text = text_into(dst, cap);
    token_put(&text, keys, t, call_id);
    assert_true(text_fits(&text));
    return text_slice(&text);
}

static void assert_same(const struct token *a, const struct token *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->side_caller, b->side_caller);
    assert_int_equal(a->side_callee, b->side_callee);
    assert_int_equal(a->listener, b->listener);
    assert_int_equal(a->transport, b->transport);
    assert_int_equal(a->node, b->node);
    assert_int_equal(a->worker, b->worker);
    assert_int_equal(a->from_tag, b->from_tag);
    assert_true(addr_equal(&a->caller, &b->caller));
    assert_int_equal(a->flow.gen, b->flow.gen);
    if (a->flow.gen != 0)
        assert_true(flow_id_equal(a->flow, b->flow));
}

/* Every field, over IPv4, IPv6, with and without a connection. */
static void round_trip(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    struct slice call_id = SLICE("a84b4c76e66710@pc33.atlanta.com");
    for (unsigned which = 0; which < 16; which++) {
        char text[TOKEN_TEXT_MAX];
        struct token in = sample(which), out;
        memset(&out, 0xaa, sizeof out);
        struct slice s = put(text, sizeof text, &keys, &in, call_id);
        for (size_t i = 0; i < s.n; i++)
            assert_non_null(memchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789-_",
                                   s.p[i], 64));
        assert_int_equal(token_parse(&keys, s, call_id, &out), 0);
        assert_same(&in, &out);
    }
}

static void mac_is_hmac_sha256(void **state)
{
    (void)state;
    static const char *const secrets[] = {
        "sixteen bytes...", secret,
        "a secret of exactly sixty-four bytes, which is a block of SHA-25"};
    for (size_t k = 0; k < 3; k++) {
        for (unsigned n = 0; n < 200; n += 13) {
            struct token_keys keys = keys_of(secrets[k]);
            char text[TOKEN_TEXT_MAX], call_id[200];
            memset(call_id, 'c', sizeof call_id);
            struct token t = sample(n);
            struct slice s = put(text, sizeof text, &keys, &t, slice_of(call_id, n));
            unsigned char raw[128], mac[EVP_MAX_MD_SIZE];
            unsigned mac_n = 0;
            int raw_n = text_base64url_decode(s, raw, sizeof raw);
            assert_true(raw_n > MAC_BYTES);
            unsigned char message[512];
            size_t body = (size_t)raw_n - MAC_BYTES;
            memcpy(message, raw, body);
            memcpy(message + body, call_id, n);
            assert_non_null(HMAC(EVP_sha256(), secrets[k], (int)strlen(secrets[k]), message,
                                 body + n, mac, &mac_n));
            assert_memory_equal(raw + body, mac, MAC_BYTES);
        }
    }
}

static void key_id_is_the_first_byte_of_its_digest(void **state)
{
    (void)state;
    unsigned char digest[EVP_MAX_MD_SIZE];
    struct token_keys keys = keys_of(secret);
    assert_int_equal(EVP_Digest(secret, strlen(secret), digest, NULL, EVP_sha256(), NULL), 1);
    assert_int_equal(keys.key[0].id, digest[0]);
}

static void every_bit_counts(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    struct slice call_id = SLICE("call@host");
    for (unsigned which = 0; which < 16; which++) {
        char text[TOKEN_TEXT_MAX];
        struct token in = sample(which), out;
        struct slice s = put(text, sizeof text, &keys, &in, call_id);
        unsigned char raw[128];
        int n = text_base64url_decode(s, raw, sizeof raw);
        assert_true(n > 0);
        for (int bit = 0; bit < n * 8; bit++) {
            char changed[TOKEN_TEXT_MAX];
            raw[bit / 8] ^= (unsigned char)(1 << bit % 8);
            text_base64url_encode(raw, (size_t)n, changed);
            raw[bit / 8] ^= (unsigned char)(1 << bit % 8);
            int result = token_parse(&keys, slice_of(changed, s.n), call_id, &out);
            if (result == 0)
                fail_msg("token %u: bit %d may be changed", which, bit);
        }
    }
}

static void another_call_id(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    char text[TOKEN_TEXT_MAX];
    struct token in = sample(5), out;
    struct slice s = put(text, sizeof text, &keys, &in, SLICE("call@host"));
    static const char *const others[] = {"", "call@hos", "call@host ", "Call@host", "call@hosu"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(token_parse(&keys, s, slice_cstr(others[i]), &out), TOKEN_E_MAC);
    assert_int_equal(token_parse(&keys, s, SLICE("call@host"), &out), 0);
}

/* The Call-ID's bytes never count as the body's: a shorter body and a longer Call-ID differ. */
static void bytes_do_not_wander_into_the_call_id(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    char text[TOKEN_TEXT_MAX];
    struct token in = sample(4), out;
    struct slice s = put(text, sizeof text, &keys, &in, SLICE("call@host"));
    unsigned char raw[128];
    char call_id[64], moved[TOKEN_TEXT_MAX];
    int n = text_base64url_decode(s, raw, sizeof raw);
    /* Take the connection's 12 bytes out of the body, and put them before the Call-ID. */
    size_t body = (size_t)n - MAC_BYTES;
    memcpy(call_id, raw + body - 12, 12);
    memcpy(call_id + 12, "call@host", 9);
    memmove(raw + body - 12, raw + body, MAC_BYTES);
    text_base64url_encode(raw, (size_t)n - 12, moved);
    struct slice other = slice_of(moved, text_base64url_size((size_t)n - 12));
    assert_int_not_equal(token_parse(&keys, other, slice_of(call_id, 21), &out), 0);
}

static void other_keys(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret), other = keys_of("another secret of the fleet"), none;
    char text[TOKEN_TEXT_MAX];
    struct token in = sample(1), out;
    memset(&none, 0, sizeof none);
    struct slice s = put(text, sizeof text, &keys, &in, SLICE("c"));
    assert_int_equal(token_parse(&other, s, SLICE("c"), &out), TOKEN_E_KEY);
    assert_int_equal(token_parse(&none, s, SLICE("c"), &out), TOKEN_E_KEY);
    other.key[0].id = keys.key[0].id; /* as ids may meet */
    assert_int_equal(token_parse(&other, s, SLICE("c"), &out), TOKEN_E_MAC);
    other.key[1] = keys.key[0];
    other.count = 2;
    assert_int_equal(token_parse(&other, s, SLICE("c"), &out), 0);
}

static void rotation(void **state)
{
    (void)state;
    struct token_keys old = keys_of(secret), both = keys_of("the next secret of the fleet");
    both.key[1] = old.key[0];
    both.count = 2;
    char a[TOKEN_TEXT_MAX], b[TOKEN_TEXT_MAX];
    struct token in = sample(2), out;
    struct slice by_old = put(a, sizeof a, &old, &in, SLICE("c"));
    struct slice by_new = put(b, sizeof b, &both, &in, SLICE("c"));
    assert_int_equal(token_parse(&both, by_old, SLICE("c"), &out), 0);
    assert_int_equal(token_parse(&both, by_new, SLICE("c"), &out), 0);
    assert_int_equal(token_parse(&old, by_new, SLICE("c"), &out), TOKEN_E_KEY);
}

static void forms(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    char text[TOKEN_TEXT_MAX + 8];
    struct token in = sample(12), out, before;
    memset(&out, 0x55, sizeof out);
    before = out;
    struct slice s = put(text, TOKEN_TEXT_MAX, &keys, &in, SLICE("c"));
    for (size_t n = 0; n < s.n; n++) {
        char *cut = guard_copy(text, n);
        assert_int_equal(token_parse(&keys, slice_of(cut, n), SLICE("c"), &out), TOKEN_E_FORM);
        guard_free(cut);
    }
    static const char *const tails[] = {"A", "=", "AAAA", "\r\n"};
    for (size_t i = 0; i < 4; i++) {
        size_t n = strlen(tails[i]);
        memcpy(text + s.n, tails[i], n);
        assert_int_equal(token_parse(&keys, slice_of(text, s.n + n), SLICE("c"), &out),
                         TOKEN_E_FORM);
    }
    char long_text[4096];
    memset(long_text, 'A', sizeof long_text);
    assert_int_equal(token_parse(&keys, slice_of(long_text, sizeof long_text), SLICE("c"), &out),
                     TOKEN_E_FORM);
    assert_int_equal(token_parse(&keys, SLICE_NONE, SLICE("c"), &out), TOKEN_E_FORM);
    assert_memory_equal(&out, &before, sizeof out); /* untouched on failure */
}

static void secrets_have_a_length(void **state)
{
    (void)state;
    struct token_key k;
    char text[128];
    memset(text, 's', sizeof text);
    for (size_t n = 0; n <= sizeof text; n++)
        assert_int_equal(token_key_init(&k, slice_of(text, n)),
                         n >= TOKEN_KEY_BYTES_MIN && n <= TOKEN_KEY_BYTES_MAX ? 0 : -1);
}

static void tag_hashes_are_the_same_everywhere(void **state)
{
    (void)state;
    /* Pinned: every edge of a fleet, of every version, must compute these. */
    assert_int_equal(token_tag_hash(SLICE("")), token_tag_hash(SLICE_NONE));
    assert_int_not_equal(token_tag_hash(SLICE("a")), token_tag_hash(SLICE("b")));
    assert_int_equal(token_tag_hash(SLICE("1928301774")), 0x76bba977);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(mac_is_hmac_sha256),
        cmocka_unit_test(key_id_is_the_first_byte_of_its_digest),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(another_call_id),
        cmocka_unit_test(bytes_do_not_wander_into_the_call_id),
        cmocka_unit_test(other_keys),
        cmocka_unit_test(rotation),
        cmocka_unit_test(forms),
        cmocka_unit_test(secrets_have_a_length),
        cmocka_unit_test(tag_hashes_are_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
