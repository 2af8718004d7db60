/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens of dialogs and of flows: what goes in comes out, and nothing else does. The MAC is checked
 * against HMAC as libcrypto computes it. */
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

enum { SAMPLES = 64, ROUTE_SAMPLES = 48 };

static struct token_end sample_end(unsigned which, bool stream, bool v6)
{
    struct token_end end;
    memset(&end, 0, sizeof end);
    end.listener = (uint8_t)(which * 7 % 64);
    end.transport = stream ? TP_TCP + which % 4 : TP_UDP;
    end.addr = address(v6 ? "[2001:db8::ff00:42:8329]:65535" : "198.51.100.254:5060");
    end.flow = (struct flow_id){stream ? 0xfedcba9876543210ULL - which : 0,
                                stream ? 0x7fffffff - which : 0xcafe0000 + which, which % 64};
    return end;
}

/* Of dialogs without and with a callee's end, then of flows. */
static struct token sample(unsigned which)
{
    struct token t;
    memset(&t, 0, sizeof t);
    t.node = (uint16_t)(which * 8191 + 1);
    t.end = sample_end(which, which & 4, which & 8);
    if (which >= ROUTE_SAMPLES) {
        t.kind = TOKEN_FLOW;
        return t;
    }
    t.kind = TOKEN_ROUTE;
    t.side_caller = which & 1 ? SIDE_INSIDE : SIDE_OUTSIDE;
    t.side_callee = which & 2 ? SIDE_INSIDE : SIDE_OUTSIDE;
    t.from_tag = 0x89abcdef + which;
    t.callee = 0x76543210 + which;
    t.has_callee = which >= 16;
    if (t.has_callee)
        t.callee_end = sample_end(which + 3, which & 16, which & 32);
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

static void assert_same_end(const struct token_end *a, const struct token_end *b)
{
    assert_true(addr_equal(&a->addr, &b->addr));
    assert_true(flow_id_equal(a->flow, b->flow));
    assert_int_equal(a->listener, b->listener);
    assert_int_equal(a->transport, b->transport);
}

static void assert_same(const struct token *a, const struct token *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->side_caller, b->side_caller);
    assert_int_equal(a->side_callee, b->side_callee);
    assert_int_equal(a->has_callee, b->has_callee);
    assert_int_equal(a->node, b->node);
    assert_int_equal(a->from_tag, b->from_tag);
    assert_int_equal(a->callee, b->callee);
    assert_same_end(&a->end, &b->end);
    if (a->has_callee)
        assert_same_end(&a->callee_end, &b->callee_end);
}

/* Every field, over IPv4, IPv6, with and without a connection. */
static void round_trip(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    struct slice call_id = SLICE("a84b4c76e66710@pc33.atlanta.com");
    for (unsigned which = 0; which < SAMPLES; which++) {
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
            struct token t = sample(n % ROUTE_SAMPLES);
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
    for (unsigned which = 0; which < SAMPLES; which++) {
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
    struct token in = sample(44), out, before;
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

/* A flow's token is of no call, and no call's token is of a flow: with the kind's byte changed and
 * the MAC of the other computation it still does not verify. */
static void kinds_are_never_mixed_up(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    for (unsigned which = 0; which < SAMPLES; which++) {
        char text[TOKEN_TEXT_MAX], changed[TOKEN_TEXT_MAX];
        struct token in = sample(which), out;
        struct slice s = put(text, sizeof text, &keys, &in, SLICE_NONE);
        assert_int_equal(token_parse(&keys, s, SLICE_NONE, &out), 0);
        assert_int_equal(out.kind, in.kind);
        /* Any Call-ID does for a flow, only its own for a dialog. */
        int elsewhere = token_parse(&keys, s, SLICE("call@host"), &out);
        assert_true(elsewhere == (in.kind == TOKEN_FLOW ? 0 : TOKEN_E_MAC));
        unsigned char raw[128];
        int n = text_base64url_decode(s, raw, sizeof raw);
        for (unsigned kind = 0; kind < 256; kind++) {
            if (kind == in.kind)
                continue;
            raw[2] = (unsigned char)kind;
            text_base64url_encode(raw, (size_t)n, changed);
            assert_int_not_equal(token_parse(&keys, slice_of(changed, s.n), SLICE_NONE, &out), 0);
        }
    }
}

/* The bytes of a flow's token as the beginning of a dialog's, the rest as its Call-ID. */
static void a_dialog_does_not_sign_for_a_flow(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    char text[TOKEN_TEXT_MAX], forged[TOKEN_TEXT_MAX];
    unsigned char flow[128], dialog[128];
    struct token wanted = sample(ROUTE_SAMPLES), in = sample(0), out;
    struct slice s = put(text, sizeof text, &keys, &wanted, SLICE_NONE);
    int n = text_base64url_decode(s, flow, sizeof flow);
    s = put(text, sizeof text, &keys, &in, slice_of(flow, (size_t)n - MAC_BYTES));
    int m = text_base64url_decode(s, dialog, sizeof dialog);
    memcpy(flow + n - MAC_BYTES, dialog + m - MAC_BYTES, MAC_BYTES);
    text_base64url_encode(flow, (size_t)n, forged);
    assert_int_equal(
        token_parse(&keys, slice_of(forged, text_base64url_size((size_t)n)), SLICE_NONE, &out),
        TOKEN_E_MAC);
}

static void others_sign_with_the_same_key(void **state)
{
    (void)state;
    struct token_keys keys = keys_of(secret);
    struct slice parts[3] = {SLICE("nonce "), SLICE_NONE, SLICE("1234567890")};
    uint8_t ours[32];
    unsigned char theirs[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    flow_mac(&keys.key[0], parts, 3, ours);
    assert_non_null(HMAC(EVP_sha256(), secret, (int)strlen(secret),
                         (const unsigned char *)"nonce 1234567890", 16, theirs, &n));
    assert_int_equal(n, 32);
    assert_memory_equal(ours, theirs, 32);
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
        cmocka_unit_test(kinds_are_never_mixed_up),
        cmocka_unit_test(a_dialog_does_not_sign_for_a_flow),
        cmocka_unit_test(others_sign_with_the_same_key),
        cmocka_unit_test(secrets_have_a_length),
        cmocka_unit_test(tag_hashes_are_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
