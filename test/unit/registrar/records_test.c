/* SPDX-License-Identifier: Apache-2.0
 *
 * Records: what is stored comes back, and nothing else is believed. */
#include "registrar/registrar_int.h"
#include "desk.h"

#define PHONE "+sip.instance=\"<urn:uuid:1>\""

/* ---- the head -------------------------------------------------------------------------------- */

static void heads(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[16];
        size_t n;
        int want;
    } cases[] = {
        {"nothing", {0}, 0, 0},
        {"put", {0, 0, 0, 6, 1, 1, 0, 1, 'k', 'v'}, 10, 1},
        {"delete without a value", {0, 0, 0, 5, 1, 2, 0, 1, 'k'}, 9, 1},
        {"more behind", {0, 0, 0, 5, 1, 2, 0, 1, 'k', 9}, 10, 1},
        {"version", {0, 0, 0, 6, 2, 1, 0, 1, 'k', 'v'}, 10, -1},
        {"op", {0, 0, 0, 6, 1, 3, 0, 1, 'k', 'v'}, 10, -1},
        {"op 0", {0, 0, 0, 6, 1, 0, 0, 1, 'k', 'v'}, 10, -1},
        {"no key", {0, 0, 0, 6, 1, 1, 0, 0, 'k', 'v'}, 10, -1},
        {"key longer than all", {0, 0, 0, 6, 1, 1, 0, 3, 'k', 'v'}, 10, -1},
        {"key too long", {0, 0, 0, 6, 1, 1, 1, 0xe1, 'k', 'v'}, 10, -1},
        {"cut", {0, 0, 0, 7, 1, 1, 0, 1, 'k', 'v'}, 10, -1},
        {"short", {0, 0, 0, 3, 1, 1, 0, 1}, 8, -1},
        {"huge", {255, 255, 255, 255, 1, 1, 0, 1, 'k', 'v'}, 10, -1},
        {"above the maximum", {0, 0, 0x20, 0, 1, 1, 0, 1, 'k', 'v'}, 10, -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *copy = guard_copy(cases[i].bytes, cases[i].n);
        struct slice rest = slice_of(copy, cases[i].n);
        struct record r = {.op = 77};
        int got = record_next(&rest, &r);
        if (got != cases[i].want)
            fail_msg("%s: %d, not %d", cases[i].name, got, cases[i].want);
        if (got == 1) {
            assert_true(slice_equal(r.key, SLICE("k")));
            assert_int_equal(r.whole.n + rest.n, cases[i].n);
        } else {
            assert_int_equal(r.op, 77);
            assert_int_equal(rest.n, cases[i].n);
        }
        guard_free(copy);
    }
}

/* ---- round trips ----------------------------------------------------------------------------- */

static void what_was_stored_comes_back(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin flow = desk_flow(7), inside = desk_flow(0), udp = desk_flow(0);
    udp.transport = TP_UDP;
    udp.direct = true;
    udp.flow.slot = 4711;
    udp.source = desk_addr("[2001:db8::7]:5090");
    assert_int_equal(desk_register(d, ALICE, "c", 1,
                                   "Supported: outbound, path\r\nContact: <sip:a@10.0.0.1;ob>;"
                                   "q=0.25;reg-id=3;" PHONE "\r\n",
                                   &flow),
                     200);
    assert_int_equal(desk_register(d, "sip:bob@example.com", "c", 1,
                                   "Path: <sip:t@edge;lr>\r\nContact: <sip:b@10.0.0.2>\r\n",
                                   &inside),
                     200);
    assert_int_equal(desk_register(d, "sip:carol@example.com", "c", 5,
                                   "Contact: <sip:c@10.0.0.3>;expires=100\r\n", &udp),
                     200);
    for (unsigned again = 0; again < 2; again++) {
        desk_pass(d, 10 * NS_S);
        desk_restart(d, d->seed + 1);
        assert_int_equal(registrar_load(d->r).bindings, 3);
        struct reg_target t = desk_only(d, "alice@example.com");
        assert_true(slice_equal(t.contact, SLICE("sip:a@10.0.0.1;ob")));
        assert_int_equal(t.q, 250);
        assert_true(t.direct);
        assert_int_equal(t.flow.gen, REG_FLOW_LOST_GEN); /* never another's */
        t = desk_only(d, "bob@example.com");
        assert_false(t.direct);
        assert_true(slice_equal(t.path, SLICE("<sip:t@edge;lr>")));
        t = desk_only(d, "carol@example.com");
        assert_true(t.direct);
        assert_int_equal(t.flow.gen, 0);
        assert_int_equal(t.flow.slot, 4711);
        assert_true(addr_equal(&t.source, &udp.source));
        assert_int_equal(t.transport, TP_UDP);
        assert_int_equal(t.listener, 1);
    }
    /* The order of a Call-ID survives as well. */
    assert_int_equal(
        desk_register(d, "sip:carol@example.com", "c", 5, "Contact: <sip:c@10.0.0.3>\r\n", &udp),
        500);
    /* The flow of an earlier process dies in this one: nobody is touched. */
    char bytes[1024];
    struct text t = text_into(bytes, sizeof bytes);
    registrar_flow_gone(d->r, flow.flow, &t);
    assert_int_equal(t.n, 0);
    assert_int_equal(registrar_load(d->r).bindings, 3);
    /* 20 s have passed of carol's 100. */
    desk_pass(d, 79 * NS_S);
    assert_int_not_equal(strcmp(desk_lookup(d, "sip:carol@example.com"), "480"), 0);
    desk_pass(d, NS_S);
    assert_string_equal(desk_lookup(d, "sip:carol@example.com"), "480");
    desk_restart(d, 99);
    assert_int_equal(registrar_load(d->r).bindings, 2);
    desk_close(d);
}

/* The same process reads its own records: flows are what they were. */
static void own_flows_are_known(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin flow = desk_flow(7);
    assert_int_equal(desk_register(d, ALICE, "c", 1, "Contact: <sip:a@h>\r\n", &flow), 200);
    desk_restart(d, d->seed);
    struct reg_target t = desk_only(d, "alice@example.com");
    assert_true(flow_id_equal(t.flow, flow.flow));
    desk_close(d);
}

static void long_contacts(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    char uri[600], lines[700];
    memset(uri, 'x', sizeof uri);
    memcpy(uri, "sip:a@h;p=", 10);
    for (size_t n = 190; n <= 520; n += 5) {
        snprintf(lines, sizeof lines, "Contact: <%.*s>\r\n", (int)n, uri);
        int want = n <= REG_CONTACT_BYTES_MAX ? 200 : 400;
        assert_int_equal(desk_register(d, ALICE, "c", (unsigned)n, lines, &from), want);
        if (want != 200)
            continue;
        desk_restart(d, d->seed);
        assert_int_equal(desk_only(d, "alice@example.com").contact.n, n);
        snprintf(lines, sizeof lines, "Contact: <%.*s>;expires=0\r\n", (int)n, uri);
        assert_int_equal(desk_register(d, ALICE, "c", (unsigned)n + 1, lines, &from), 200);
        assert_int_equal(desk_stored(d), 0);
    }
    desk_close(d);
}

/* The longest of everything fits a key and a record. */
static void the_longest(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(0);
    char user[300], aor[400], lines[8192], instance[200], path[2200];
    memset(user, 'u', sizeof user);
    memset(instance, 'i', sizeof instance);
    memset(path, 'p', sizeof path);
    int user_n = REGISTRAR_AOR_BYTES_MAX - 12;
    snprintf(lines, sizeof lines,
             "Supported: outbound\r\nPath: <sip:%.*s@edge;lr;ob>\r\n"
             "Contact: <sip:%.*s@h>;reg-id=2147483647;+sip.instance=\"<%.*s>\"\r\n",
             REG_PATH_BYTES_MAX - 17, path, REG_CONTACT_BYTES_MAX - 6, path,
             REG_INSTANCE_BYTES_MAX - 2, instance);
    snprintf(aor, sizeof aor, "sip:%.*s@example.com", user_n + 1, user);
    assert_int_equal(desk_register(d, aor, "c", 1, lines, &from), 404);
    snprintf(aor, sizeof aor, "sip:%.*s@example.com", user_n, user);
    assert_int_equal(desk_register(d, aor, "c", 1, lines, &from), 200);
    desk_wants("outbound", d->lines, "Require: outbound");
    desk_restart(d, 50);
    assert_int_equal(registrar_load(d->r).bindings, 1);
    /* One byte more of each. */
    static const struct {
        int path, contact, instance;
    } more[] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    for (size_t i = 0; i < COUNT(more); i++) {
        snprintf(
            lines, sizeof lines,
            "Path: <sip:%.*s@edge;lr;ob>\r\nContact: <sip:%.*s@h>;+sip.instance=\"<%.*s>\"\r\n",
            REG_PATH_BYTES_MAX - 17 + more[i].path, path,
            REG_CONTACT_BYTES_MAX - 6 + more[i].contact, path,
            REG_INSTANCE_BYTES_MAX - 2 + more[i].instance, instance);
        assert_int_equal(desk_register(d, aor, "d", 2, lines, &from), 400);
    }
    desk_close(d);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Every byte of a record changed to every of a few values, and every cut: taken or not, nothing
 * breaks, and a clean text comes out. */
static void damaged(void **state)
{
    (void)state;
    static const uint8_t values[] = {0, 1, 0x0d, 0x0a, 0x22, 0x3c, 0x7f, 0x80, 0xff};
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(
        desk_register(d, ALICE, "c", 1,
                      "Supported: outbound\r\nPath: <sip:t@e;lr>\r\nContact: <sip:a@h>;"
                      "reg-id=1;" PHONE "\r\n",
                      &from),
        200);
    size_t n = d->store.row[0].n;
    char record[1024];
    assert_true(n < sizeof record);
    memcpy(record, d->store.row[0].bytes, n);
    for (size_t cut = 0; cut < n; cut++) {
        char *copy = guard_copy(record, cut);
        assert_int_equal(registrar_commit(d->r, slice_of(copy, cut), d->now, d->wall_ns), 0);
        guard_free(copy);
    }
    uint64_t bad = d->r->bad_records;
    assert_int_equal(bad, n - 1);
    for (size_t i = 0; i < n; i++)
        for (size_t v = 0; v < COUNT(values); v++) {
            desk_restart(d, 9);
            char was = record[i];
            record[i] = (char)values[v];
            char *copy = guard_copy(record, n);
            (void)registrar_commit(d->r, slice_of(copy, n), d->now, d->wall_ns);
            guard_free(copy);
            record[i] = was;
            desk_answer_lines(d, &from);
            for (char *p = d->lines; *p != '\0'; p++)
                assert_true(*p == '\r' || *p == '\n' || ((uint8_t)*p >= 0x20 && *p != 0x7f));
        }
    desk_close(d);
}

/* One that is broken does not keep the next from being taken. */
static void others_are_taken(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(desk_register(d, ALICE, "c", 1, "Contact: <sip:a@h>, <sip:b@h>\r\n", &from),
                     200);
    char all[4096];
    size_t a = d->store.row[0].n, b = d->store.row[1].n;
    memcpy(all, d->store.row[0].bytes, a);
    memcpy(all + a, d->store.row[1].bytes, b);
    all[RECORD_HEAD_BYTES] = '\n'; /* in the AOR of the first */
    desk_death(d);
    desk_birth(d);
    assert_int_equal(registrar_commit(d->r, slice_of(all, a + b), d->now, d->wall_ns), 1);
    assert_int_equal(d->r->bad_records, 1);
    assert_int_equal(registrar_load(d->r).bindings, 1);
    desk_close(d);
}

/* ---- under way ------------------------------------------------------------------------------- */

/* A REGISTER is with the store when the old flow of its binding dies: the delete that follows must
 * not take what the 200 will acknowledge. */
static void no_delete_behind_a_put(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin one = desk_flow(1), two = desk_flow(2);
    static const char lines[] = "Supported: outbound\r\nContact: <sip:a@h>;reg-id=1;" PHONE "\r\n";
    char bytes[1024];
    assert_int_equal(desk_register(d, ALICE, "c", 1, lines, &one), 200);
    /* Judged, not committed. */
    snprintf(d->message, sizeof d->message,
             "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/TLS h;branch=z9hG4bKx\r\n"
             "From: <" ALICE ">;tag=f\r\nTo: <" ALICE
             ">\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n%s\r\n",
             lines);
    struct sip_fault fault;
    arena_reset(&d->scratch);
    assert_int_equal(sip_index(&d->m, d->message, strlen(d->message), true, &fault), 0);
    assert_int_equal(sip_check_request(&d->m, &d->f, &fault), 0);
    registrar_register(d->r, &d->m, &d->f, &two, d->now, d->wall_ns, &d->scratch, &d->answer);
    assert_int_equal(d->answer.status, 200);
    desk_keep(d, d->answer.records);
    struct text t = text_into(bytes, sizeof bytes);
    d->now += PENDING_S * NS_S; /* into the next span */
    registrar_expire(d->r, d->now, &t);
    registrar_flow_gone(d->r, one.flow, &t);
    assert_int_equal(t.n, 0);
    assert_int_equal(registrar_load(d->r).bindings, 0);
    assert_int_equal(registrar_commit(d->r, d->answer.records, d->now, d->wall_ns), 1);
    desk_restart(d, d->seed);
    assert_true(flow_id_equal(desk_only(d, "alice@example.com").flow, two.flow));
    /* With nothing under way, its end is written. */
    registrar_flow_gone(d->r, two.flow, &t);
    assert_int_equal(desk_count(text_slice(&t)), 1);
    /* A put that never comes back is forgotten after two minutes. */
    assert_int_equal(desk_register(d, ALICE, "y", 1, lines, &two), 200);
    d->now += NS_S;
    d->f.cseq++;
    registrar_register(d->r, &d->m, &d->f, &two, d->now, d->wall_ns, &d->scratch, &d->answer);
    d->now += 2 * PENDING_S * NS_S;
    t = text_into(bytes, sizeof bytes);
    registrar_expire(d->r, d->now, &t);
    registrar_flow_gone(d->r, two.flow, &t);
    assert_int_equal(desk_count(text_slice(&t)), 1);
    desk_close(d);
}

/* The store refused a put once, and the phone goes on registering as phones do. */
static void a_lost_put_costs_deletes_for_a_while_only(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    static const char lines[] = "Supported: outbound\r\nContact: <sip:a@h>;reg-id=1;" PHONE "\r\n";
    char bytes[1024];
    assert_int_equal(desk_register(d, ALICE, "c", 1, lines, &from), 200);
    d->f.cseq++;
    registrar_register(d->r, &d->m, &d->f, &from, d->now, d->wall_ns, &d->scratch, &d->answer);
    assert_int_equal(d->answer.status, 200); /* judged, never committed */
    for (unsigned i = 0; i < 5; i++) {
        desk_pass(d, PENDING_S * NS_S / 2);
        assert_int_equal(desk_register(d, ALICE, "c", 3 + i, lines, &from), 200);
    }
    struct text t = text_into(bytes, sizeof bytes);
    registrar_flow_gone(d->r, from.flow, &t);
    assert_int_equal(desk_count(text_slice(&t)), 1);
    desk_close(d);
}

/* A removal of what is not there: it may be on its way. */
static void removal_is_always_written(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(desk_register(d, ALICE, "c", 1, "Contact: <sip:a@h>;expires=0\r\n", &from),
                     200);
    assert_int_equal(d->records, 1);
    assert_int_equal(d->taken, 1);
    desk_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(what_was_stored_comes_back),
        cmocka_unit_test(own_flows_are_known),
        cmocka_unit_test(long_contacts),
        cmocka_unit_test(the_longest),
        cmocka_unit_test(damaged),
        cmocka_unit_test(others_are_taken),
        cmocka_unit_test(no_delete_behind_a_put),
        cmocka_unit_test(a_lost_put_costs_deletes_for_a_while_only),
        cmocka_unit_test(removal_is_always_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
