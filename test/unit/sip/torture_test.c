/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of RFC 4475 and RFC 5118 as far as this room treats them: what is accepted, what is
 * answered with which status, what is dropped; as a datagram and on a stream. Their texts are not
 * ours: they are read from the folder that WEIR_TORTURE names ("../shared/torture" by default),
 * and the program is skipped where that is not. test/corpus/sip has our own for the same lessons.
 *
 * What only the roles further in can do with a message (404, 401, 415, 483 …) begins with "accept"
 * here: that is what makes it their matter. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sip/sip.h"
#include "support/support.h"

enum treatment {
    ACCEPT = 0,
    DROP = 1, /* a response with a fault, or one that may not be sent where it wants to go */
    /* 400 …: the status of the answer */
};

enum stream_result {
    WHOLE = 0,      /* one message, and the same treatment */
    WAITS,          /* never whole: its sender's time runs out */
    FATAL,          /* refused by the framing; the head can be answered with the same status */
    WHOLE_BODILESS, /* whole, but without the body: only a datagram can do without a length */
};

struct torture {
    const char *name;
    int treatment;
    enum stream_result stream;
};

static const struct torture rfc4475[] = {
    {"wsinv", ACCEPT, WHOLE},
    {"intmeth", ACCEPT, WHOLE},
    {"esc01", ACCEPT, WHOLE},
    {"escnull", ACCEPT, WHOLE},
    {"esc02", ACCEPT, WHOLE},
    {"lwsdisp", ACCEPT, WHOLE},
    {"longreq", ACCEPT, WHOLE},
    {"dblreq", ACCEPT, WHOLE}, /* on a stream the trailing octets are the next message */
    {"semiuri", ACCEPT, WHOLE},
    {"transports", ACCEPT, WHOLE},
    {"mpart01", ACCEPT, WHOLE},
    {"unreason", ACCEPT, WHOLE},
    {"noreason", ACCEPT, WHOLE},
    {"badinv01", 400, WHOLE},
    {"clerr", 400, WAITS},
    {"ncl", 400, FATAL},
    {"scalar02", 400, WHOLE},
    {"scalarlg", DROP, WHOLE},
    {"quotbal", 400, WHOLE},
    {"ltgtruri", 400, WHOLE},
    {"lwsruri", 400, WHOLE},
    {"lwsstart", 400, WHOLE},
    {"trws", 400, WHOLE},
    {"escruri", 400, WHOLE},
    {"baddate", ACCEPT, WHOLE}, /* "ignore header": no forwarder reads a Date */
    {"regbadct", 400, WHOLE},
    {"badaspec", 400, WHOLE},
    {"baddn", 400, WAITS}, /* the archive's bytes lack the blank line */
    {"badvers", 505, WHOLE},
    {"mismatch01", 400, WHOLE},
    {"mismatch02", 400, WHOLE},
    {"bigcode", DROP, WHOLE},
    {"badbranch", ACCEPT, WHOLE}, /* as RFC 2543: its own test below */
    {"insuf", 400, WHOLE},
    {"unkscm", 416, WHOLE},
    {"novelsc", 416, WHOLE},
    {"unksm2", ACCEPT, WHOLE},
    {"bext01", 420, WHOLE},
    {"invut", ACCEPT, WHOLE},
    {"regaut01", ACCEPT, WHOLE},
    {"multi01", 400, WHOLE},
    {"mcl01", 400, FATAL},
    {"bcast", DROP, WHOLE},
    {"zeromf", ACCEPT, WHOLE},
    {"cparam01", ACCEPT, WHOLE},
    {"cparam02", ACCEPT, WHOLE},
    {"regescrt", ACCEPT, WHOLE},
    {"sdp01", ACCEPT, WHOLE},
    {"inv2543", ACCEPT, WHOLE_BODILESS},
};

static const struct torture rfc4475_extra[] = {
    {"baddn-with-blank-line", 400, WHOLE},
    {"test", 400, FATAL}, /* a Request-Line without a version is not SIP/2.0 (RFC 3261 7.1) */
};

static const struct torture rfc5118[] = {
    {"ipv6-good", ACCEPT, WHOLE},
    {"ipv6-bad", 400, WHOLE},
    {"port-ambiguous", ACCEPT, WHOLE},
    {"port-unambiguous", ACCEPT, WHOLE},
    {"via-received-param-with-delim", ACCEPT, WHOLE},
    {"via-received-param-no-delim", ACCEPT, WHOLE},
    {"ipv6-in-sdp", ACCEPT, WHOLE},
    {"mult-ip-in-header", ACCEPT, WHOLE},
    {"mult-ip-in-sdp", ACCEPT, WHOLE},
    {"ipv4-mapped-ipv6", ACCEPT, WHOLE},
    {"ipv6-bug-abnf-3-colons", ACCEPT, WHOLE},
    {"ipv6-correct-abnf-2-colons", ACCEPT, WHOLE},
};

static const char *torture_dir(void)
{
    const char *dir = getenv("WEIR_TORTURE");
    return dir != NULL && dir[0] != '\0' ? dir : "../shared/torture";
}

/* The file's bytes against an unreadable page. */
static char *load(const char *folder, const char *name, const char *suffix, size_t *ret_n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s%s", torture_dir(), folder, name, suffix);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    static char room[16384];
    size_t n = fread(room, 1, sizeof room, f);
    fclose(f);
    *ret_n = n;
    return guard_copy(room, n);
}

/* Does the response that is left after our own Via name a place where nothing may be sent? */
static bool next_via_is_unsendable(const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_VIA);
    if (!sip_next_value(&v) || !sip_next_value(&v))
        return false;
    struct sip_via via;
    struct addr a;
    return sip_via_parse(sip_slice(m, v.value), &via) != SIP_OK ||
           (addr_parse_host(via.host, 5060, &a) == 0 && !addr_is_unicast(&a));
}

static int treat(const char *name, struct sip_msg *m, struct sip_facts *facts, const char *p,
                 size_t n, bool is_datagram)
{
    struct sip_fault fault = {0, SLICE_NONE, 0};
    int rc = sip_index(m, p, n, is_datagram, &fault);
    if (rc == SIP_OK)
        rc = m->is_request ? sip_check_request(m, facts, &fault)
                           : sip_check_response(m, facts, &fault);
    if (rc == SIP_OK)
        return !m->is_request && next_via_is_unsendable(m) ? DROP : ACCEPT;
    print_message("    %s: %d %.*s\n", name, fault.status, SLICE_ARG(fault.reason));
    assert_true(fault.reason.n > 0);
    return m->is_request || fault.status == 513 || rc <= SIP_E_FATAL ? fault.status : DROP;
}

/* An answer to whatever it is can be written and read again. */
static void answer(const struct sip_msg *m, int status)
{
    char room[8192];
    struct text t = text_into(room, sizeof room);
    struct addr source;
    assert_int_equal(addr_parse(SLICE("192.0.2.77:5999"), &source), 0);
    struct sip_reply r = {.status = status, .to_tag = SLICE("t1"), .received = &source};
    assert_int_equal(sip_write_reply(&t, m, &r), SIP_OK);
    struct sip_msg again;
    struct sip_fault fault;
    assert_int_equal(sip_index(&again, room, t.n, false, &fault), SIP_OK);
    assert_int_equal(again.status, status);
}

static void run_datagram(const struct torture *c, const char *p, size_t n)
{
    static struct sip_msg m;
    struct sip_facts facts;
    int got = treat(c->name, &m, &facts, p, n, true);
    if (got != c->treatment)
        fail_msg("%s as a datagram: %d, not %d", c->name, got, c->treatment);
    if (m.is_request)
        answer(&m, got >= 400 ? got : 100);
    if (got != ACCEPT)
        return;
    static struct sip_edits e;
    static char out[16384];
    sip_edits_init(&e, &m);
    int k = sip_serialise_flat(&e, out, sizeof out);
    assert_int_equal(k, m.n);
    assert_memory_equal(out, p, m.n);
}

static void run_stream(const struct torture *c, const char *p, size_t n)
{
    static struct sip_msg m;
    struct sip_facts facts;
    struct sip_framer f = {0};
    size_t len = 0;
    int rc = sip_frame(&f, p, n, &len);
    if (c->stream == WAITS) {
        assert_int_equal(rc, SIP_FRAME_MORE);
        return;
    }
    if (c->stream == FATAL) {
        assert_true(rc <= SIP_E_FATAL);
        struct sip_fault fault;
        sip_frame_fault(rc, &fault);
        assert_int_equal(fault.status, c->treatment);
        return;
    }
    if (rc != SIP_FRAME_MESSAGE)
        fail_msg("%s on a stream: %d", c->name, rc);
    if (c->stream == WHOLE_BODILESS)
        assert_true(len < n);
    int got = treat(c->name, &m, &facts, p, len, false);
    if (got != c->treatment)
        fail_msg("%s on a stream: %d, not %d", c->name, got, c->treatment);
}

static void run_all(const char *folder, const char *suffix, const struct torture *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t n;
        char *p = load(folder, c[i].name, suffix, &n);
        run_datagram(&c[i], p, n);
        run_stream(&c[i], p, n);
        guard_free(p);
    }
}

static void rfc4475_all(void **state)
{
    (void)state;
    size_t count = sizeof rfc4475 / sizeof rfc4475[0];
    assert_int_equal(count, 49);
    run_all("rfc4475", ".dat", rfc4475, count);
    run_all("rfc4475/extra", ".dat", rfc4475_extra, sizeof rfc4475_extra / sizeof rfc4475_extra[0]);
}

static void rfc5118_all(void **state)
{
    (void)state;
    size_t count = sizeof rfc5118 / sizeof rfc5118[0];
    assert_int_equal(count, 12);
    run_all("rfc5118/wire", "", rfc5118, count);
}

/* The archive's copies end their lines in a lone LF: damage, not a lesson. Refused as such. */
static void rfc5118_archive_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rfc5118 / sizeof rfc5118[0]; i++) {
        size_t n;
        char *p = load("rfc5118/archive", rfc5118[i].name, "", &n);
        static struct sip_msg m;
        struct sip_fault fault;
        if (memchr(p, '\r', n) == NULL)
            assert_int_equal(sip_index(&m, p, n, true, &fault), SIP_E_START_LINE);
        guard_free(p);
    }
}

/* What must be read out of the valid ones, not only let through. */
static void values(void **state)
{
    (void)state;
    static struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    size_t n;
    char *p = load("rfc4475", "wsinv", ".dat", &n);
    assert_int_equal(sip_index(&m, p, n, true, &fault), SIP_OK);
    assert_int_equal(sip_check_request(&m, &f, &fault), SIP_OK);
    assert_int_equal(f.cseq, 9);
    assert_int_equal(f.max_forwards, 68);
    assert_true(slice_equal(f.to_tag, SLICE("1918181833n")));
    assert_true(slice_equal(f.from_tag, SLICE("98asjd8")));
    assert_true(slice_equal(f.via.host, SLICE("192.0.2.2")));
    assert_true(slice_equal(f.via.branch, SLICE("390skdjuw")));
    assert_false(f.via.is_rfc3261);
    struct sip_values v = sip_values(&m, SIP_H_VIA);
    unsigned vias = 0;
    while (sip_next_value(&v))
        vias++;
    assert_int_equal(vias, 3);
    assert_int_equal(v.err, 0);
    guard_free(p);

    p = load("rfc4475", "semiuri", ".dat", &n);
    assert_int_equal(sip_index(&m, p, n, true, &fault), SIP_OK);
    assert_int_equal(sip_check_request(&m, &f, &fault), SIP_OK);
    assert_true(slice_equal(f.uri.user, SLICE("user;par=u%40example.net")));
    assert_true(slice_equal(f.uri.host, SLICE("example.com")));
    guard_free(p);

    p = load("rfc4475", "badbranch", ".dat", &n);
    assert_int_equal(sip_index(&m, p, n, true, &fault), SIP_OK);
    assert_int_equal(sip_check_request(&m, &f, &fault), SIP_OK);
    assert_false(f.via.is_rfc3261);
    guard_free(p);

    p = load("rfc5118", "wire/port-ambiguous", "", &n);
    assert_int_equal(sip_index(&m, p, n, true, &fault), SIP_OK);
    assert_int_equal(sip_check_request(&m, &f, &fault), SIP_OK);
    assert_true(slice_equal(f.uri.host, SLICE("2001:db8::10:5070")));
    assert_int_equal(f.uri.port, 0);
    guard_free(p);
}

int main(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/README.md", torture_dir());
    if (access(path, R_OK) != 0) {
        printf("1..0 # SKIP no torture messages at %s\n", torture_dir());
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc4475_all),
        cmocka_unit_test(rfc5118_all),
        cmocka_unit_test(rfc5118_archive_is_refused),
        cmocka_unit_test(values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
