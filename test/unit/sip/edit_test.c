/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sip/sample.h"

static struct indexed x;
static struct sip_edits e;
static struct sip_facts facts;
static char scratch[1024];

/* Indexes and checks; `text` is a request without body. */
static void begin(const char *text)
{
    index_text(&x, slice_cstr(text), true);
    assert_int_equal(x.rc, SIP_OK);
    struct sip_fault fault;
    assert_int_equal(sip_check_request(&x.m, &facts, &fault), SIP_OK);
    sip_edits_init(&e, &x.m);
}

/* What comes out, compared both ways of serialising; then it is over. */
static void end(const char *name, const char *want)
{
    char flat[4096];
    int n = sip_serialise_flat(&e, flat, sizeof flat);
    assert_true(n >= 0);
    want_text(name, slice_of(flat, (size_t)n), want);
    assert_int_equal(sip_edits_size(&e), (size_t)n);
    struct iovec iov[SIP_IOV_MAX];
    int count = sip_serialise(&e, iov, SIP_IOV_MAX);
    assert_true(count >= 0);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        assert_true(iov[i].iov_len > 0);
        assert_memory_equal(flat + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    assert_int_equal(at, (size_t)n);
    assert_int_equal(sip_serialise(&e, iov, count), count);
    assert_int_equal(sip_serialise(&e, iov, count - 1), SIP_E_ROOM);
    assert_int_equal(sip_serialise_flat(&e, flat, (size_t)n), n);
    assert_int_equal(sip_serialise_flat(&e, flat, (size_t)n - 1), SIP_E_ROOM);
    index_done(&x);
}

#define START  "A sip:b SIP/2.0\r\n"
#define VIA    "Via: SIP/2.0/UDP h;branch=1\r\n"
#define COMMON "f: sip:a@b\r\nt: sip:a@b\r\ni: 1\r\nCSeq: 1 A\r\n"

static void nothing(void **state)
{
    (void)state;
    begin(START VIA COMMON "X : y\r\n\r\nbody");
    end("nothing", START VIA COMMON "X : y\r\n\r\nbody");
}

static void raw_edits(void **state)
{
    (void)state;
    begin(START VIA COMMON "\r\n");
    uint32_t off = x.m.headers_off;
    sip_edit_insert(&e, off, SLICE("2"));
    sip_edit_insert(&e, 0, SLICE("1"));
    sip_edit_insert(&e, off, SLICE("3"));
    sip_edit_replace(&e, (struct sip_span){off, 3}, SLICE("VIA"));
    sip_edit_insert(&e, off + 3, SLICE("4"));
    sip_edit_insert(&e, off, SLICE("5"));
    sip_edit_insert(&e, x.m.n, SLICE("6"));
    end("raw edits", "1" START "23VIA54: SIP/2.0/UDP h;branch=1\r\n" COMMON "\r\n6");
}

static void pushes(void **state)
{
    (void)state;
    begin(START "P: q\r\n" VIA COMMON "v: SIP/2.0/UDP g\r\nZ: z\r\n\r\nbody");
    sip_push_header(&e, SLICE("H: 1\r\n"));
    sip_push_record_route(&e, SLICE("Record-Route: <sip:me>\r\n"));
    sip_push_via(&e, SLICE("Via: mine\r\n"));
    sip_push_header(&e, SLICE("H: 2\r\n"));
    end("pushes",
        START "P: q\r\nVia: mine\r\n" VIA COMMON
              "v: SIP/2.0/UDP g\r\nRecord-Route: <sip:me>\r\nZ: z\r\nH: 1\r\nH: 2\r\n\r\nbody");
    begin(START VIA COMMON "Record-Route: <sip:b>\r\nP: q\r\nRecord-Route: <sip:a>\r\n\r\n");
    sip_push_record_route(&e, SLICE("Record-Route: <sip:c>\r\n"));
    sip_push_record_route(&e, SLICE("Record-Route: <sip:d>\r\n"));
    end("record routes", START VIA COMMON
        "Record-Route: <sip:c>\r\nRecord-Route: <sip:d>\r\nRecord-Route: <sip:b>\r\nP: q\r\n"
        "Record-Route: <sip:a>\r\n\r\n");
}

static void drops(void **state)
{
    (void)state;
    begin(START VIA COMMON
          "P: 1\r\n 2\r\nRoute: <sip:a>\r\nP:\r\nroute : <sip:b>,\r\n <sip:c>\r\n\r\n");
    sip_drop_headers(&e, SIP_H_ROUTE);
    sip_drop_headers(&e, SIP_H_RECORD_ROUTE);
    sip_drop_header(&e, 5);
    end("whole lines", START VIA COMMON "P:\r\n\r\n");
}

/* Drops the values whose place in the list is a 'x' in `which`. */
static void drop_values(void **state)
{
    (void)state;
    static const struct {
        const char *routes, *which, *want;
    } cases[] = {
        {"Route: <sip:a>\r\n", "x", ""},
        {"Route: <sip:a>, <sip:b>\r\n", "x", "Route: <sip:b>\r\n"},
        {"Route: <sip:a>, <sip:b>\r\n", ".x", "Route: <sip:a>\r\n"},
        {"Route: <sip:a>, <sip:b>\r\n", "xx", ""},
        {"Route:<sip:a> ,\r\n\t<sip:b> , <sip:c> \r\n", "xx", "Route:<sip:c> \r\n"},
        {"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "xxx", ""},
        {"Route: <sip:a>,<sip:b>,<sip:c>\r\n", ".x", "Route: <sip:a>,<sip:c>\r\n"},
        {"Route: <sip:a>, <sip:b>, <sip:c>\r\n", "..x", "Route: <sip:a>, <sip:b>\r\n"},
        {"Route: <sip:a> , <sip:b> , <sip:c>\r\n", ".xx", "Route: <sip:a> \r\n"},
        {"Route: <sip:a>, <sip:b>, <sip:c>\r\n", "x.x", "Route: <sip:b>\r\n"},
        {"Route: <sip:a>\r\nRoute: <sip:b>, <sip:c>\r\n", "xx", "Route: <sip:c>\r\n"},
        {"Route: <sip:a>, <sip:b>\r\nP: q\r\nRoute: <sip:c>\r\n", "xxx", "P: q\r\n"},
        {"Route: <sip:a,b>;x=\",\", <sip:c>\r\n", "x", "Route: <sip:c>\r\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[512];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, START VIA COMMON);
        text_put(&t, slice_cstr(cases[i].routes));
        TEXT_LIT(&t, "Z: z\r\n\r\n");
        text_put_char(&t, '\0');
        begin(text);
        struct sip_values v = sip_values(&x.m, SIP_H_ROUTE);
        for (const char *w = cases[i].which; *w != '\0'; w++) {
            assert_true(sip_next_value(&v));
            if (*w == 'x')
                sip_drop_value(&e, &v);
        }
        t = text_into(text, sizeof text);
        TEXT_LIT(&t, START VIA COMMON);
        text_put(&t, slice_cstr(cases[i].want));
        TEXT_LIT(&t, "Z: z\r\n\r\n");
        text_put_char(&t, '\0');
        end(cases[i].routes, text);
    }
}

static void pop_via(void **state)
{
    (void)state;
    static const struct {
        const char *vias, *want;
    } cases[] = {
        {VIA, ""},
        {VIA "Via: SIP/2.0/UDP g\r\n", "Via: SIP/2.0/UDP g\r\n"},
        {"Via: SIP/2.0/UDP h;a=\",\" , SIP/2.0/UDP g\r\n", "Via: SIP/2.0/UDP g\r\n"},
        {"v\t: SIP/2.0/UDP h,\r\n SIP/2.0/UDP g\r\n", "v\t: SIP/2.0/UDP g\r\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[512];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, START COMMON);
        text_put(&t, slice_cstr(cases[i].vias));
        TEXT_LIT(&t, "\r\n");
        text_put_char(&t, '\0');
        begin(text);
        sip_pop_via(&e, &facts);
        t = text_into(text, sizeof text);
        TEXT_LIT(&t, START COMMON);
        text_put(&t, slice_cstr(cases[i].want));
        TEXT_LIT(&t, "\r\n");
        text_put_char(&t, '\0');
        end(cases[i].vias, text);
    }
}

static void set_header(void **state)
{
    (void)state;
    struct arena a = arena_over(scratch, sizeof scratch);
    begin(START VIA COMMON "Max-Forwards: 70\r\n\r\n");
    sip_set_header(&e, SIP_H_MAX_FORWARDS, SLICE("69"), &a);
    end("replaced", START VIA COMMON "Max-Forwards: 69\r\n\r\n");
    begin(START VIA COMMON "\r\n");
    sip_set_header(&e, SIP_H_MAX_FORWARDS, SLICE("69"), &a);
    end("added", START VIA COMMON "Max-Forwards: 69\r\n\r\n");
    begin(START VIA COMMON "Server:\r\nP: q\r\nServer: x\r\n\r\n");
    sip_set_header(&e, SIP_H_SERVER, SLICE("s"), &a);
    end("filled, and single now", START VIA COMMON "Server:s\r\nP: q\r\n\r\n");
}

static void stamps(void **state)
{
    (void)state;
    static const struct {
        const char *via, *source, *want;
    } cases[] = {
        {"SIP/2.0/UDP 192.0.2.1;branch=1", "192.0.2.1:5060", "SIP/2.0/UDP 192.0.2.1;branch=1"},
        {"SIP/2.0/UDP 192.0.2.1:9;branch=1", "192.0.2.1:5070", "SIP/2.0/UDP 192.0.2.1:9;branch=1"},
        {"SIP/2.0/UDP h;branch=1", "192.0.2.1:5060", "SIP/2.0/UDP h;branch=1;received=192.0.2.1"},
        {"SIP/2.0/UDP 10.0.0.1", "192.0.2.1:5060", "SIP/2.0/UDP 10.0.0.1;received=192.0.2.1"},
        {"SIP/2.0/UDP 192.0.2.1;rport", "192.0.2.1:5077",
         "SIP/2.0/UDP 192.0.2.1;rport=5077;received=192.0.2.1"},
        {"SIP/2.0/UDP h;rport;branch=1", "192.0.2.1:5077",
         "SIP/2.0/UDP h;rport=5077;branch=1;received=192.0.2.1"},
        {"SIP/2.0/UDP h;rport=1;received=6.6.6.6;x", "192.0.2.1:5077",
         "SIP/2.0/UDP h;rport=5077;received=192.0.2.1;x"},
        {"SIP/2.0/UDP h;received=\"6.6.6.6\";rport = 1;x", "192.0.2.1:5077",
         "SIP/2.0/UDP h;received=192.0.2.1;rport=5077;x"},
        {"SIP/2.0/UDP 192.0.2.1;received", "192.0.2.1:5077",
         "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1"},
        {"SIP/2.0/UDP [2001:db8::1];rport", "[2001:db8::1]:5077",
         "SIP/2.0/UDP [2001:db8::1];rport=5077;received=2001:db8::1"},
        {"SIP/2.0/UDP [2001:DB8:0::1]", "[2001:db8::1]:5077", "SIP/2.0/UDP [2001:DB8:0::1]"},
        {"SIP/2.0/UDP [::ffff:192.0.2.1]", "192.0.2.1:5077", "SIP/2.0/UDP [::ffff:192.0.2.1]"},
        {"SIP/2.0/UDP h ;\r\n rport , SIP/2.0/UDP g;rport", "192.0.2.1:5077",
         "SIP/2.0/UDP h ;\r\n rport=5077;received=192.0.2.1 , SIP/2.0/UDP g;rport"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct addr source;
        assert_int_equal(addr_parse(slice_cstr(cases[i].source), &source), 0);
        struct arena a = arena_over(scratch, sizeof scratch);
        char text[512];
        struct text t = text_into(text, sizeof text);
        TEXT_LIT(&t, START "Via: ");
        text_put(&t, slice_cstr(cases[i].via));
        TEXT_LIT(&t, "\r\n" COMMON "\r\n");
        text_put_char(&t, '\0');
        begin(text);
        sip_stamp_via(&e, &facts, &source, &a);
        t = text_into(text, sizeof text);
        TEXT_LIT(&t, START "Via: ");
        text_put(&t, slice_cstr(cases[i].want));
        TEXT_LIT(&t, "\r\n" COMMON "\r\n");
        text_put_char(&t, '\0');
        end(cases[i].via, text);
    }
}

/* All that a forwarded request goes through, and read again. */
static void a_forward(void **state)
{
    (void)state;
    struct arena a = arena_over(scratch, sizeof scratch);
    struct addr source;
    assert_int_equal(addr_parse(SLICE("192.0.2.9:5099"), &source), 0);
    begin(START VIA "Route: <sip:me;lr>, <sip:next;lr>\r\nMax-Forwards: 3\r\n" COMMON "\r\nbody");
    sip_push_via(&e, SLICE("Via: SIP/2.0/UDP me;branch=z9hG4bKq\r\n"));
    sip_stamp_via(&e, &facts, &source, &a);
    struct sip_values v = sip_values(&x.m, SIP_H_ROUTE);
    assert_true(sip_next_value(&v));
    sip_drop_value(&e, &v);
    sip_push_record_route(&e, SLICE("Record-Route: <sip:me;lr>\r\n"));
    sip_set_header(&e, SIP_H_MAX_FORWARDS, SLICE("2"), &a);
    end("a forward",
        START "Via: SIP/2.0/UDP me;branch=z9hG4bKq\r\n"
              "Via: SIP/2.0/UDP h;branch=1;received=192.0.2.9\r\nRecord-Route: <sip:me;lr>\r\n"
              "Route: <sip:next;lr>\r\nMax-Forwards: 2\r\n" COMMON "\r\nbody");
}

static void no_room(void **state)
{
    (void)state;
    struct iovec iov[SIP_IOV_MAX];
    struct addr source;
    assert_int_equal(addr_parse(SLICE("192.0.2.9:5099"), &source), 0);
    struct arena none = arena_over(scratch, 3);
    begin(START VIA COMMON "\r\n");
    sip_set_header(&e, SIP_H_MAX_FORWARDS, SLICE("2"), &none);
    assert_int_equal(sip_serialise(&e, iov, SIP_IOV_MAX), SIP_E_ROOM);
    sip_edits_init(&e, &x.m);
    sip_stamp_via(&e, &facts, &source, &none);
    assert_int_equal(sip_serialise(&e, iov, SIP_IOV_MAX), SIP_E_ROOM);
    sip_edits_init(&e, &x.m);
    for (unsigned i = 0; i < SIP_EDITS_MAX; i++)
        sip_edit_insert(&e, i, SLICE("x"));
    assert_true(sip_serialise(&e, iov, SIP_IOV_MAX) > 0);
    sip_edit_insert(&e, 0, SLICE("x"));
    assert_int_equal(sip_serialise(&e, iov, SIP_IOV_MAX), SIP_E_ROOM);
    index_done(&x);
}

static void overlap(void *which)
{
    sip_edit_replace(&e, (struct sip_span){10, 5}, SLICE("x"));
    sip_edit_replace(&e, *(const struct sip_span *)which, SLICE("y"));
}

static void overlaps_are_our_bug(void **state)
{
    (void)state;
    static struct sip_span bad[] = {{10, 5}, {12, 1}, {14, 5}, {8, 3}, {12, 0}, {5, 20}};
    static struct sip_span good[] = {{10, 0}, {15, 5}, {8, 2}, {15, 0}, {0, 0}};
    begin(START VIA COMMON "\r\n");
    char said[256];
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_true(dies(overlap, &bad[i], said, sizeof said));
    for (size_t i = 0; i < COUNT(good); i++) {
        sip_edits_init(&e, &x.m);
        overlap(&good[i]);
        assert_int_equal(e.count, 2);
    }
    index_done(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),
        cmocka_unit_test(raw_edits),
        cmocka_unit_test(pushes),
        cmocka_unit_test(drops),
        cmocka_unit_test(drop_values),
        cmocka_unit_test(pop_via),
        cmocka_unit_test(set_header),
        cmocka_unit_test(stamps),
        cmocka_unit_test(a_forward),
        cmocka_unit_test(no_room),
        cmocka_unit_test(overlaps_are_our_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
