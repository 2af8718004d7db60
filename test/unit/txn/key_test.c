/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys of transactions: RFC 3261 17.2.3, 8.2.2.2. Each case changes one thing about a request and
 * says which keys must follow. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "txn/txn.h"

static const struct hash_seed seed = {0x0123456789abcdefULL, 0xfedcba9876543210ULL};

/* What the keys look at; NULL stands for the request of the base. */
struct request {
    enum sip_method method;
    const char *name, *uri, *via, *host, *branch, *from_tag, *to_tag, *call_id;
    uint16_t port;
    uint32_t cseq;
};

static const struct request base = {
    .method = SIP_M_INVITE,
    .name = "INVITE",
    .uri = "sip:bob@example.com",
    .via = "SIP/2.0/UDP pc33.example.com:5066;branch=z9hG4bK77",
    .host = "pc33.example.com",
    .branch = "z9hG4bK77",
    .from_tag = "f1",
    .to_tag = "",
    .call_id = "c1@pc33",
    .port = 5066,
    .cseq = 7,
};

/* The parts of a message that the keys read, in a buffer of its own. */
struct built {
    struct sip_msg m;
    struct sip_facts f;
    char bytes[512];
};

static struct sip_span append(struct built *b, const char *s)
{
    struct sip_span at = {b->m.n, (uint32_t)strlen(s)};
    assert_true(b->m.n + at.len <= sizeof b->bytes);
    memcpy(b->bytes + at.off, s, at.len);
    b->m.n += at.len;
    return at;
}

static void build(struct built *b, const struct request *r, bool is_rfc3261)
{
    memset(b, 0, sizeof *b);
    b->m.p = b->bytes;
    b->m.is_request = true;
    b->m.method = (uint8_t)r->method;
    b->m.uri = append(b, r->uri);
    b->f.via_value = append(b, r->via);
    b->f.via.host = slice_cstr(r->host);
    b->f.via.port = r->port;
    b->f.via.branch = slice_cstr(r->branch);
    b->f.via.is_rfc3261 = is_rfc3261;
    b->f.call_id = slice_cstr(r->call_id);
    b->f.from_tag = slice_cstr(r->from_tag);
    b->f.to_tag = slice_cstr(r->to_tag);
    b->f.cseq = r->cseq;
    b->f.method = (uint8_t)r->method;
    b->f.method_name = slice_cstr(r->name);
}

static struct txn_key server_key(const struct request *r, bool is_rfc3261, enum sip_method as)
{
    static struct built b;
    build(&b, r, is_rfc3261);
    return txn_server_key(&seed, &b.m, &b.f, as);
}

static struct txn_key merge_key(const struct request *r)
{
    static struct built b;
    build(&b, r, true);
    return txn_merge_key(&seed, &b.m, &b.f, (enum sip_method)b.f.method);
}

/* Is the key the same as the base's? */
enum { DIFFERS = 0, SAME = 1 };

static struct request with(const struct request *change)
{
    struct request r = base;
#define CHANGE(field)                                                                              \
    if (change->field != NULL)                                                                     \
    r.field = change->field
    CHANGE(name);
    CHANGE(uri);
    CHANGE(via);
    CHANGE(host);
    CHANGE(branch);
    CHANGE(from_tag);
    CHANGE(to_tag);
    CHANGE(call_id);
#undef CHANGE
    r.method = change->method != SIP_M_OTHER || change->name != NULL ? change->method : r.method;
    r.port = change->port != 0 ? change->port : r.port;
    r.cseq = change->cseq != 0 ? change->cseq : r.cseq;
    return r;
}

static void test_one_change(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct request change;
        int branch_key, old_key, merged;
    } cases[] = {
        {"nothing", {0}, SAME, SAME, SAME},
        {"branch", {.branch = "z9hG4bK78"}, DIFFERS, SAME, SAME},
        {"case of branch", {.branch = "z9hG4bk77"}, DIFFERS, SAME, SAME},
        {"sent-by host", {.host = "pc34.example.com"}, DIFFERS, SAME, SAME},
        {"case of sent-by", {.host = "PC33.Example.COM"}, SAME, SAME, SAME},
        {"sent-by port", {.port = 5067}, DIFFERS, SAME, SAME},
        {"sent-by port, high byte", {.port = 5066 + 256}, DIFFERS, SAME, SAME},
        {"top Via as a whole", {.via = "SIP/2.0/UDP pc33.example.com"}, SAME, DIFFERS, SAME},
        {"Request-URI", {.uri = "sip:bob@example.org"}, SAME, DIFFERS, DIFFERS},
        {"From tag", {.from_tag = "f2"}, SAME, DIFFERS, DIFFERS},
        {"no From tag", {.from_tag = ""}, SAME, DIFFERS, DIFFERS},
        {"To tag of an INVITE", {.to_tag = "t1"}, SAME, SAME, SAME},
        {"Call-ID", {.call_id = "c2@pc33"}, SAME, DIFFERS, DIFFERS},
        {"CSeq", {.cseq = 8}, SAME, DIFFERS, DIFFERS},
        {"CSeq, top byte", {.cseq = 7 + (1U << 30)}, SAME, DIFFERS, DIFFERS},
        {"method", {.method = SIP_M_BYE, .name = "BYE"}, DIFFERS, DIFFERS, DIFFERS},
        {"unknown method", {.method = SIP_M_OTHER, .name = "DANCE"}, DIFFERS, DIFFERS, DIFFERS},
        {"a byte moved between parts",
         {.from_tag = "f1c", .call_id = "1@pc33"},
         SAME,
         DIFFERS,
         DIFFERS},
    };
    struct txn_key new_base = server_key(&base, true, base.method);
    struct txn_key old_base = server_key(&base, false, base.method);
    struct txn_key merge_base = merge_key(&base);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request r = with(&cases[i].change);
        if (txn_key_equal(server_key(&r, true, r.method), new_base) != cases[i].branch_key)
            fail_msg("%s: key by branch", cases[i].what);
        if (txn_key_equal(server_key(&r, false, r.method), old_base) != cases[i].old_key)
            fail_msg("%s: key of RFC 2543", cases[i].what);
        if (txn_key_equal(merge_key(&r), merge_base) != cases[i].merged)
            fail_msg("%s: merge key", cases[i].what);
    }
}

static void test_ack_and_cancel_meet_their_invite(void **state)
{
    (void)state;
    struct request ack = with(&(struct request){.method = SIP_M_ACK, .name = "ACK", .to_tag = "t"});
    struct request cancel = with(&(struct request){.method = SIP_M_CANCEL, .name = "CANCEL"});
    for (int is_rfc3261 = 0; is_rfc3261 < 2; is_rfc3261++) {
        struct txn_key invite = server_key(&base, is_rfc3261 != 0, SIP_M_INVITE);
        assert_true(txn_key_equal(server_key(&ack, is_rfc3261 != 0, SIP_M_INVITE), invite));
        assert_true(txn_key_equal(server_key(&cancel, is_rfc3261 != 0, SIP_M_INVITE), invite));
        assert_false(txn_key_equal(server_key(&cancel, is_rfc3261 != 0, SIP_M_CANCEL), invite));
    }
}

static void test_unknown_methods_are_told_apart_by_name(void **state)
{
    (void)state;
    struct request a = with(&(struct request){.method = SIP_M_OTHER, .name = "DANCE"});
    struct request b = with(&(struct request){.method = SIP_M_OTHER, .name = "SING"});
    assert_false(txn_key_equal(server_key(&a, true, SIP_M_OTHER), server_key(&b, true, 0)));
    assert_false(txn_key_equal(server_key(&a, false, SIP_M_OTHER), server_key(&b, false, 0)));
    assert_false(txn_key_equal(merge_key(&a), merge_key(&b)));
    assert_true(txn_key_equal(server_key(&a, true, 0), server_key(&a, true, SIP_M_OTHER)));
}

static void test_to_tag_counts_for_other_methods_of_rfc2543(void **state)
{
    (void)state;
    struct request a = with(&(struct request){.method = SIP_M_BYE, .name = "BYE", .to_tag = "t1"});
    struct request b = with(&(struct request){.method = SIP_M_BYE, .name = "BYE", .to_tag = "t2"});
    assert_false(txn_key_equal(server_key(&a, false, SIP_M_BYE), server_key(&b, false, SIP_M_BYE)));
    assert_true(txn_key_equal(server_key(&a, true, SIP_M_BYE), server_key(&b, true, SIP_M_BYE)));
}

static void test_rules_never_meet(void **state)
{
    (void)state;
    struct txn_key n = server_key(&base, true, SIP_M_INVITE);
    struct txn_key o = server_key(&base, false, SIP_M_INVITE);
    struct txn_key m = merge_key(&base);
    assert_false(txn_key_equal(n, o));
    assert_false(txn_key_equal(n, m));
    assert_false(txn_key_equal(o, m));
}

static void test_halves_and_seeds_are_independent(void **state)
{
    (void)state;
    static struct built b;
    struct hash_seed other = {seed.k0 + 1, seed.k1};
    build(&b, &base, true);
    struct txn_key x = txn_server_key(&seed, &b.m, &b.f, SIP_M_INVITE);
    struct txn_key y = txn_server_key(&other, &b.m, &b.f, SIP_M_INVITE);
    assert_true(x.a != x.b);
    assert_true(x.a != y.a && x.b != y.b);
    assert_true(txn_key_equal(x, txn_server_key(&seed, &b.m, &b.f, SIP_M_INVITE)));
}

static void test_host_longer_than_any_name(void **state)
{
    (void)state;
    static char host[300], upper[300];
    memset(host, 'h', sizeof host - 1);
    memset(upper, 'H', sizeof upper - 1);
    for (size_t n = 254; n < 258; n++) {
        host[n] = upper[n] = '\0';
        struct request a = with(&(struct request){.host = host});
        struct request b = with(&(struct request){.host = upper});
        struct txn_key x = server_key(&a, true, SIP_M_INVITE);
        struct txn_key y = server_key(&b, true, SIP_M_INVITE);
        assert_int_equal(txn_key_equal(x, y), n <= 255);
        assert_true(txn_key_equal(x, server_key(&a, true, SIP_M_INVITE)));
        host[n] = 'h';
        upper[n] = 'H';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_change),
        cmocka_unit_test(test_ack_and_cancel_meet_their_invite),
        cmocka_unit_test(test_unknown_methods_are_told_apart_by_name),
        cmocka_unit_test(test_to_tag_counts_for_other_methods_of_rfc2543),
        cmocka_unit_test(test_rules_never_meet),
        cmocka_unit_test(test_halves_and_seeds_are_independent),
        cmocka_unit_test(test_host_longer_than_any_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
