/* SPDX-License-Identifier: Apache-2.0
 *
 * Bindings that come and go: flows that die, time, commands, full tables, and what all that costs.
 * covers: texts.c, show.c, contact.c */
#include "registrar/registrar_int.h"
#include "desk.h"

static struct text into(char *bytes, size_t cap)
{
    return text_into(bytes, cap);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void owners(void **state)
{
    (void)state;
    struct hash_seed seed = {3, 4};
    unsigned count[4] = {0};
    for (unsigned i = 0; i < 4000; i++) {
        char aor[32];
        int n = snprintf(aor, sizeof aor, "u%u@example.com", i);
        uint32_t w = registrar_owner(&seed, slice_of(aor, (size_t)n), 4);
        assert_true(w < 4);
        assert_int_equal(registrar_owner(&seed, slice_of(aor, (size_t)n), 4), w);
        assert_int_equal(registrar_owner(&seed, slice_of(aor, (size_t)n), 1), 0);
        count[w]++;
    }
    for (unsigned w = 0; w < 4; w++)
        assert_in_range(count[w], 900, 1100);
}

static void aor_of_a_uri(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *want; /* NULL: none of ours */
    } cases[] = {
        {"sip:alice@example.com", "alice@example.com"},
        {"sips:alice@EXAMPLE.com:5061;x=y", "alice@example.com"},
        {"sip:%61li%63e:secret@example.com", "alice@example.com"},
        {"sip:a%40b@example.com", "a@b@example.com"},
        {"sip:+49;phone-context=x@example.com", "+49;phone-context=x@example.com"},
        {"sip:alice@[2001:db8::1]", "alice@[2001:db8::1]"},
        {"sip:alice@example.org", NULL},
        {"sip:alice@sub.example.com", NULL},
        {"sip:example.com", NULL},
        {"sip:al%00ce@example.com", NULL},
        {"sip:al%7fce@example.com", NULL},
        {"tel:+1", NULL},
    };
    static const struct slice domains[] = {{"example.com", 11}, {"[2001:db8::1]", 13}};
    struct registrar_opts o = {.domains = domains, .domain_count = 2};
    for (size_t i = 0; i < COUNT(cases); i++) {
        char bytes[64];
        struct sip_uri uri;
        assert_int_equal(sip_uri_parse(slice_cstr(cases[i].uri), &uri), 0);
        struct text t = into(bytes, sizeof bytes);
        TEXT_LIT(&t, "<");
        int rc = registrar_aor(&o, &uri, &t);
        assert_int_equal(rc, cases[i].want != NULL ? 0 : -1);
        if (rc != 0)
            assert_int_equal(t.n, 1);
        else if (!slice_equal(slice_drop(text_slice(&t), 1), slice_cstr(cases[i].want)))
            fail_msg("%s: %.*s", cases[i].uri, SLICE_ARG(text_slice(&t)));
        t = into(bytes, 5);
        assert_int_equal(registrar_aor(&o, &uri, &t), -1); /* does not fit: untouched */
        assert_int_equal(t.n, 0);
    }
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void one_each(struct desk *d, unsigned first, unsigned count, const struct reg_origin *from)
{
    char aor[64];
    for (unsigned i = first; i < first + count; i++) {
        snprintf(aor, sizeof aor, "sip:u%u@example.com", i);
        assert_int_equal(desk_register(d, aor, "c", 1, "Contact: <sip:a@h>\r\n", from), 200);
    }
}

static void a_flow_dies(void **state)
{
    (void)state;
    static char bytes[65536];
    struct desk *d = desk_open(200);
    struct reg_origin trunk = desk_flow(5), other = desk_flow(6), inside = desk_flow(0);
    one_each(d, 0, 50, &trunk);
    one_each(d, 50, 50, &other);
    one_each(d, 100, 10, &inside);
    struct text t = into(bytes, sizeof bytes);
    registrar_flow_gone(d->r, FLOW_NONE, &t);
    registrar_flow_gone(d->r, (struct flow_id){77, 1, 0}, &t);
    assert_int_equal(t.n, 0);
    registrar_flow_gone(d->r, trunk.flow, &t);
    assert_int_equal(desk_count(text_slice(&t)), 50);
    desk_keep(d, text_slice(&t));
    assert_int_equal(registrar_load(d->r).bindings, 60);
    assert_int_equal(desk_stored(d), 60);
    assert_string_equal(desk_lookup(d, "sip:u0@example.com"), "480");
    assert_string_equal(desk_lookup(d, "sip:u50@example.com"), "sip:a@h");
    /* Moved to another flow in time: not of the old one any more. */
    assert_int_equal(
        desk_register(d, "sip:u60@example.com", "c", 2, "Contact: <sip:a@h>\r\n", &trunk), 200);
    t = into(bytes, sizeof bytes);
    registrar_flow_gone(d->r, other.flow, &t);
    assert_int_equal(desk_count(text_slice(&t)), 49);
    assert_int_equal(registrar_load(d->r).bindings, 11);
    desk_close(d);
}

/* Room for three records only: nobody is found any more all the same, and the rest follows. */
static void little_room(void **state)
{
    (void)state;
    char bytes[3 * REGISTRAR_END_BYTES];
    struct desk *d = desk_open(200);
    struct reg_origin trunk = desk_flow(5);
    one_each(d, 0, 50, &trunk);
    struct text t = into(bytes, sizeof bytes);
    registrar_flow_gone(d->r, trunk.flow, &t);
    assert_true(text_fits(&t));
    desk_keep(d, text_slice(&t));
    unsigned first = desk_count(text_slice(&t));
    assert_in_range(first, 3, 49);
    for (unsigned i = 0; i < 50; i++) {
        char uri[64];
        snprintf(uri, sizeof uri, "sip:u%u@example.com", i);
        assert_string_equal(desk_lookup(d, uri), "480");
    }
    while (registrar_deadline(d->r) <= d->now) {
        t = into(bytes, sizeof bytes);
        registrar_expire(d->r, d->now, &t);
        assert_true(t.n > 0 && text_fits(&t));
        desk_keep(d, text_slice(&t));
    }
    assert_int_equal(desk_stored(d), 0);
    assert_int_equal(registrar_load(d->r).bindings, 0);
    assert_int_equal(registrar_load(d->r).aors, 0);
    desk_close(d);
}

static void a_binding_fails(void **state)
{
    (void)state;
    char bytes[1024];
    struct desk *d = desk_open(20);
    struct reg_origin one = desk_flow(1), two = desk_flow(2);
    static const char lines[] = "Supported: outbound\r\nContact: <sip:a@h>;reg-id=1;"
                                "+sip.instance=\"<urn:x:1>\"\r\n";
    assert_int_equal(desk_register(d, ALICE, "c", 1, lines, &one), 200);
    uint64_t old = desk_only(d, "alice@example.com").binding;
    /* A refresh keeps the name, a new way has a new one: who tried the old one cannot end it. */
    assert_int_equal(desk_register(d, ALICE, "c", 2, lines, &one), 200);
    assert_int_equal(desk_only(d, "alice@example.com").binding, old);
    assert_int_equal(desk_register(d, ALICE, "c", 3, lines, &two), 200);
    uint64_t new = desk_only(d, "alice@example.com").binding;
    assert_true(new != old);
    struct text t = into(bytes, sizeof bytes);
    registrar_binding_gone(d->r, old, &t);
    registrar_binding_gone(d->r, 0, &t);
    registrar_binding_gone(d->r, UINT64_MAX, &t);
    assert_int_equal(t.n, 0);
    registrar_binding_gone(d->r, new, &t);
    assert_int_equal(desk_count(text_slice(&t)), 1);
    assert_string_equal(desk_lookup(d, ALICE), "480");
    registrar_binding_gone(d->r, new, &t);
    assert_int_equal(desk_count(text_slice(&t)), 1);
    desk_close(d);
}

static void time_passes(void **state)
{
    (void)state;
    char bytes[4096];
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(registrar_deadline(d->r), MONO_NONE);
    assert_int_equal(desk_register(d, ALICE, "c", 1,
                                   "Contact: <sip:a@h>;expires=60, <sip:b@h>;expires=120\r\n",
                                   &from),
                     200);
    mono_ns start = d->now;
    unsigned ends = 0;
    for (unsigned guard = 0; registrar_deadline(d->r) != MONO_NONE; guard++) {
        assert_true(guard < 100);
        mono_ns at = registrar_deadline(d->r);
        desk_pass(d, at > d->now ? at - d->now : 0);
        struct text t = into(bytes, sizeof bytes);
        registrar_expire(d->r, d->now, &t);
        unsigned n = desk_count(text_slice(&t));
        ends += n;
        if (n > 0) /* never early, at most a tick late */
            assert_in_range(d->now - start, ends * 60 * NS_S, ends * 60 * NS_S + 2 * NS_MS);
    }
    assert_int_equal(ends, 2);
    /* What is left of the time is what is told. */
    assert_int_equal(desk_register(d, ALICE, "c", 2, "Contact: <sip:a@h>;expires=100\r\n", &from),
                     200);
    desk_pass(d, 30 * NS_S + 500 * NS_MS);
    assert_int_equal(desk_register(d, ALICE, "c", 3, "", &from), 200);
    desk_wants("query", d->lines, "expires=70\r\n");
    desk_close(d);
}

static void by_command(void **state)
{
    (void)state;
    char bytes[4096];
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(desk_register(d, ALICE, "c", 1, "Contact: <sip:a@h>, <sip:b@h>\r\n", &from),
                     200);
    one_each(d, 0, 1, &from);
    struct text t = into(bytes, sizeof bytes);
    assert_int_equal(registrar_remove(d->r, SLICE("bob@example.com"), &t), 0);
    assert_int_equal(registrar_remove(d->r, SLICE("alice@example.com"), &t), 2);
    assert_int_equal(desk_count(text_slice(&t)), 2);
    desk_keep(d, text_slice(&t));
    assert_int_equal(desk_stored(d), 1);
    assert_int_equal(registrar_remove(d->r, SLICE("alice@example.com"), &t), 0);
    assert_int_equal(registrar_load(d->r).bindings, 1);
    desk_close(d);
}

/* ---- show ------------------------------------------------------------------------------------ */

static void rows(void **state)
{
    (void)state;
    static char bytes[8192];
    struct desk *d = desk_open(20);
    struct reg_origin from = desk_flow(5);
    uint64_t cursor = 0;
    assert_int_equal(desk_register(d, "sip:a%22b%5c%C3%A4@example.com", "c", 1,
                                   "Supported: outbound\r\nPath: <sip:t@e;lr>\r\n"
                                   "Contact: <sip:a@h>;q=0.5;reg-id=2;"
                                   "+sip.instance=\"<urn:x:1>\"\r\n",
                                   &from),
                     200);
    desk_pass(d, 1500 * NS_MS);
    struct text t = into(bytes, sizeof bytes);
    registrar_show(d->r, SLICE_NONE, &cursor, d->now, &t);
    bytes[t.n] = '\0';
    assert_int_equal(cursor, 0);
    assert_string_equal(
        bytes,
        "{\"aor\":\"a\\\"b\\\\\\u00c3\\u00a4@example.com\",\"contact\":\"sip:a@h\","
        "\"instance\":\"<urn:x:1>\",\"reg_id\":2,\"q\":0.500,\"expires_s\":3598,"
        "\"since\":1790000000,\"direct\":true,\"flow\":\"0/15/5\",\"source\":\"192.0.2.7:40000\","
        "\"transport\":\"tls\",\"path\":\"<sip:t@e;lr>\"}\n");
    desk_close(d);
}

/* All of them, once each, on pages of any size. */
static void pages(void **state)
{
    (void)state;
    static char bytes[8192];
    struct desk *d = desk_open(100);
    struct reg_origin from = desk_flow(5);
    one_each(d, 0, 40, &from);
    assert_int_equal(desk_register(d, ALICE, "c", 1,
                                   "Contact: <sip:1@h>, <sip:2@h>, <sip:3@h>, <sip:4@h>\r\n",
                                   &from),
                     200);
    for (size_t cap = 300; cap < 3000; cap += 97) {
        for (unsigned one = 0; one < 2; one++) {
            uint64_t cursor = 0;
            unsigned seen = 0;
            do {
                struct text t = into(bytes, cap);
                registrar_show(d->r, one ? SLICE("alice@example.com") : SLICE_NONE, &cursor, d->now,
                               &t);
                assert_true(text_fits(&t) && t.n > 0);
                for (size_t i = 0; i < t.n; i++)
                    seen += bytes[i] == '\n';
            } while (cursor != 0);
            assert_int_equal(seen, one ? 4 : 44);
        }
    }
    /* A page that is too small for a row ends, too. */
    uint64_t cursor = 0;
    struct text t = into(bytes, 10);
    registrar_show(d->r, SLICE_NONE, &cursor, d->now, &t);
    assert_int_equal(t.n, 0);
    assert_int_equal(cursor, 0);
    t = into(bytes, 1000);
    registrar_show(d->r, SLICE("nobody@example.com"), &cursor, d->now, &t);
    assert_int_equal(t.n, 0);
    desk_close(d);
}

/* ---- room ------------------------------------------------------------------------------------ */

static size_t slab_used(const struct slab *s)
{
    return (size_t)s->fresh * (s->size + 2 * sizeof(uint32_t));
}

/* Bytes touched: slots that were used, and both maps whole. */
static size_t memory_used(const struct registrar *r)
{
    size_t n = slab_used(&r->bindings) + slab_used(&r->aors);
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        n += slab_used(&r->texts.class[c]);
    n += ((size_t)r->by_aor.mask + 1 + r->by_flow.mask + 1) * sizeof(struct map_cell);
    return n + sizeof *r + sizeof(struct nonce_cell) * NONCE_CELLS +
           sizeof(struct pending_cell) * PENDING_CELLS;
}

#define INSTANCE "+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\""

/* A phone with one flow, alone in its AOR: 0.7 KiB with everything, with a Path of 150 bytes. */
static void memory_of_a_binding(void **state)
{
    (void)state;
    enum { N = 20000 };
    for (unsigned has_path = 0; has_path < 2; has_path++) {
        struct desk *d = desk_open(N);
        char aor[64], lines[1024];
        for (unsigned i = 0; i < N; i++) {
            struct reg_origin from = desk_flow(has_path ? 0 : 1000 + i);
            snprintf(aor, sizeof aor, "sip:user-%06u@example.com", i);
            int n =
                snprintf(lines, sizeof lines, "Supported: outbound\r\n%s%.*s%s",
                         has_path ? "Path: <sip:" : "", has_path ? 117 : 0,
                         "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2"
                         "Nzg5Ojs8PT4_QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xd",
                         has_path ? "@edge-1.example.com;lr;ob>\r\n" : "");
            (void)snprintf(lines + n, sizeof lines - (size_t)n,
                           "Contact: <sip:user-%06u@192.168.100.%u:5%04u;transport=tls;ob;"
                           "x-device=0123456789abcdef0123>;reg-id=1;" INSTANCE "\r\n",
                           i, i % 256, i % 10000);
            struct desk_store *s = &d->store; /* not what is measured here */
            s->rows = 0;
            assert_int_equal(
                desk_register(d, aor, "843817637684230@998sdasdh09-0123456789ab", 1, lines, &from),
                200);
            free(s->row[0].bytes);
            s->row[0].bytes = NULL;
        }
        assert_int_equal(registrar_load(d->r).bindings, N);
        size_t each = memory_used(d->r) / N;
        print_message("a binding%s: %zu bytes (%u reserved)\n", has_path ? " with a Path" : "",
                      each, (unsigned)(registrar_memory(N) / N));
        assert_true(each <= 716); /* 0.7 KiB */
        desk_close(d);
    }
}

static void a_flood_of_aors(void **state)
{
    (void)state;
    struct desk *d = desk_open(50);
    struct reg_origin from = desk_flow(1);
    char aor[64], bytes[4096];
    /* Many more AORs than there is room for come and go: those that are idle for longest are
     * forgotten, and the others are still known. */
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(aor, sizeof aor, "sip:u%u@example.com", i);
        assert_int_equal(desk_register(d, aor, "c", 1, "Contact: <sip:a@h>\r\n", &from), 200);
        struct text t = into(bytes, sizeof bytes);
        assert_int_equal(registrar_remove(d->r, slice_cstr(aor + 4), &t), 1);
        desk_keep(d, text_slice(&t));
    }
    assert_string_equal(desk_lookup(d, "sip:u999@example.com"), "480");
    assert_string_equal(desk_lookup(d, "sip:u950@example.com"), "480");
    assert_string_equal(desk_lookup(d, "sip:u1@example.com"), "404");
    assert_int_equal(registrar_load(d->r).aors, 0);
    desk_close(d);
}

#define LONG_PATH                                                                                  \
    "<sip:a-much-longer-path-than-before@edge-of-somebody.example.com;lr;ob;x=0123456789012345>,"  \
    "<sip:a-much-longer-path-than-before@edge-of-somebody.example.com;lr;ob;x=0123456789012345>"

/* Takes fail one after another, once and for ever: nothing is lost, nothing leaks, and who is not
 * taken is counted. */
static void tables_run_out(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "Contact: <sip:a@h>, <sip:b@h>\r\n",
        "Path: " LONG_PATH "\r\nContact: <sip:a@h>\r\n",
        "Contact: <sip:c@h>, <sip:d@h>\r\n",
    };
    for (unsigned forever = 0; forever < 2; forever++) {
        for (unsigned countdown = 0;; countdown++) {
            struct desk *d = desk_open(20);
            struct reg_origin from = desk_flow(1);
            struct fault fault = {.countdown = countdown, .forever = forever == 1};
            registrar_fault(d->r, &fault);
            for (unsigned i = 0; i < COUNT(lines); i++) {
                assert_int_equal(desk_register(d, ALICE, "c", i + 1, lines[i], &from), 200);
                assert_true(d->taken <= d->records);
                assert_true(d->taken == d->records || fault.spent);
            }
            bool is_over = !fault.spent;
            registrar_fault(d->r, NULL);
            /* What is stored is what counts: a restart has it all. */
            desk_restart(d, 5);
            assert_int_equal(registrar_load(d->r).bindings, 4);
            desk_pass(d, 3601 * NS_S);
            static char bytes[8192];
            struct text t = into(bytes, sizeof bytes);
            registrar_expire(d->r, d->now, &t);
            assert_int_equal(registrar_load(d->r).bindings, 0);
            desk_close(d);
            if (is_over)
                break;
            assert_true(countdown < 100);
        }
    }
}

/* And without a restart: what is gone leaves nothing behind. */
static void nothing_leaks(void **state)
{
    (void)state;
    for (unsigned countdown = 0; countdown < 20; countdown++) {
        struct desk *d = desk_open(20);
        struct reg_origin from = desk_flow(1);
        struct fault fault = {.countdown = countdown};
        static char bytes[8192];
        registrar_fault(d->r, &fault);
        for (unsigned i = 0; i < 3; i++)
            (void)desk_register(d, ALICE, "c", i + 1,
                                i == 1 ? "Path: <sip:p;lr>\r\nContact: <sip:a@h>\r\n"
                                       : "Contact: <sip:a@h>, <sip:b@h>\r\n",
                                &from);
        struct text t = into(bytes, sizeof bytes);
        (void)registrar_remove(d->r, SLICE("alice@example.com"), &t);
        assert_int_equal(d->r->bindings.live, 0);
        assert_int_equal(d->r->by_flow.live, 0);
        assert_int_equal(d->r->wheel.armed, 0);
        unsigned texts = 0;
        for (unsigned c = 0; c < TEXT_CLASSES; c++)
            texts += d->r->texts.class[c].live;
        assert_int_equal(texts, d->r->aors.live);
        desk_close(d);
    }
}

static void births(void **state)
{
    (void)state;
    struct hash_seed seed = {1, 2};
    struct arena a = test_arena(registrar_memory(10));
    assert_null(registrar_new(&a, 0, seed, 1));
    assert_null(registrar_new(&a, REGISTRAR_BINDINGS_MAX + 1, seed, 1));
    test_arena_free(&a);
    for (size_t less = 1024; less < registrar_memory(10); less += 4093) {
        a = test_arena(registrar_memory(10) - less);
        assert_null(registrar_new(&a, 10, seed, 1));
        test_arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners),          cmocka_unit_test(aor_of_a_uri),
        cmocka_unit_test(a_flow_dies),     cmocka_unit_test(little_room),
        cmocka_unit_test(a_binding_fails), cmocka_unit_test(time_passes),
        cmocka_unit_test(by_command),      cmocka_unit_test(rows),
        cmocka_unit_test(pages),           cmocka_unit_test(memory_of_a_binding),
        cmocka_unit_test(a_flood_of_aors), cmocka_unit_test(tables_run_out),
        cmocka_unit_test(nothing_leaks),   cmocka_unit_test(births),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
