/* SPDX-License-Identifier: Apache-2.0
 *
 * REGISTERs, judged: RFC 3261 10.3 with its neighbours.
 * covers: small.c, answer.c, lookup.c */
#include "desk.h"

struct judged {
    const char *name;
    const char *lines;
    int status;
    const char *reason; /* a part of it; NULL: any */
    const char *extra;  /* a part of it; NULL: none */
};

static const struct judged judged[] = {
    {"query", "", 200, NULL, NULL},
    {"one contact", "Contact: <sip:a@192.0.2.1>\r\n", 200, NULL, NULL},
    {"addr-spec", "Contact: sip:a@192.0.2.1;expires=600\r\n", 200, NULL, NULL},
    {"sips", "Contact: <sips:a@192.0.2.1>\r\n", 200, NULL, NULL},
    {"star", "Contact: *\r\nExpires: 0\r\n", 200, NULL, NULL},
    {"star without Expires", "Contact: *\r\n", 400, "Bad Contact *", NULL},
    {"star with Expires", "Contact: *\r\nExpires: 60\r\n", 400, "Bad Contact *", NULL},
    {"star and bad Expires", "Contact: *\r\nExpires: x\r\n", 400, "Bad Contact *", NULL},
    {"star and another", "Contact: *\r\nContact: <sip:a@192.0.2.1>\r\nExpires: 0\r\n", 400, NULL,
     NULL},
    {"another and star", "Contact: <sip:a@192.0.2.1>\r\nContact: *\r\nExpires: 0\r\n", 400, NULL,
     NULL},
    {"two stars", "Contact: *\r\nContact: *\r\nExpires: 0\r\n", 400, NULL, NULL},
    {"tel", "Contact: <tel:+123>\r\n", 400, "No SIP URI", NULL},
    {"mailto", "Contact: <mailto:a@example.com>\r\n", 400, "No SIP URI", NULL},
    {"headers", "Contact: <sip:a@192.0.2.1?Subject=x>\r\n", 400, "Headers", NULL},
    {"broken URI", "Contact: <sip:a@@192.0.2.1>\r\n", 400, "Bad Contact", NULL},
    {"q", "Contact: <sip:a@192.0.2.1>;q=0.501\r\n", 200, NULL, NULL},
    {"q 1.", "Contact: <sip:a@192.0.2.1>;q=1.\r\n", 200, NULL, NULL},
    {"q above one", "Contact: <sip:a@192.0.2.1>;q=1.001\r\n", 400, "q", NULL},
    {"q with four digits", "Contact: <sip:a@192.0.2.1>;q=0.1234\r\n", 400, "q", NULL},
    {"q of letters", "Contact: <sip:a@192.0.2.1>;q=high\r\n", 400, "q", NULL},
    {"q negative", "Contact: <sip:a@192.0.2.1>;q=-1\r\n", 400, "q", NULL},
    {"q empty", "Contact: <sip:a@192.0.2.1>;q=\r\n", 400, "q", NULL},
    {"too brief", "Contact: <sip:a@192.0.2.1>;expires=59\r\n", 423, NULL, "Min-Expires: 60\r\n"},
    {"brief enough", "Contact: <sip:a@192.0.2.1>;expires=60\r\n", 200, NULL, NULL},
    {"too brief by header", "Expires: 1\r\nContact: <sip:a@192.0.2.1>\r\n", 423, NULL,
     "Min-Expires: 60\r\n"},
    {"parameter beats header", "Expires: 1\r\nContact: <sip:a@192.0.2.1>;expires=100\r\n", 200,
     NULL, NULL},
    {"unreadable expires", "Contact: <sip:a@192.0.2.1>;expires=soon\r\n", 200, NULL, NULL},
    {"reg-id 0", "Contact: <sip:a@192.0.2.1>;+sip.instance=\"<urn:x:y>\";reg-id=0\r\n", 400,
     "reg-id", NULL},
    {"reg-id above 2^31 - 1",
     "Contact: <sip:a@192.0.2.1>;+sip.instance=\"<urn:x:y>\";reg-id=2147483648\r\n", 400, "reg-id",
     NULL},
    {"reg-id without instance", "Contact: <sip:a@192.0.2.1>;reg-id=1\r\n", 200, NULL, NULL},
    {"instance with a quote", "Contact: <sip:a@192.0.2.1>;+sip.instance=\"<a\\\"b>\"\r\n", 400,
     "Instance", NULL},
    {"instance empty", "Contact: <sip:a@192.0.2.1>;+sip.instance=\"\"\r\n", 400, "Instance", NULL},
    {"require known", "Require: path, gruu\r\nRequire: outbound\r\n", 200, NULL, NULL},
    {"require unknown", "Require: path, x-ray, pref\r\n", 420, NULL,
     "Unsupported: x-ray, pref\r\n"},
    {"path", "Supported: path\r\nPath: <sip:p1.example.com;lr>\r\nContact: <sip:a@10.0.0.1>\r\n",
     200, NULL, NULL},
    {"path unasked", "Path: <sip:p1.example.com;lr>\r\nContact: <sip:a@10.0.0.1>\r\n", 200, NULL,
     NULL},
    {"broken path", "Path: <sip:p1@@;lr>\r\nContact: <sip:a@10.0.0.1>\r\n", 400, "Path", NULL},
    {"path without brackets", "Path: sip:p1.example.com;lr\r\nContact: <sip:a@10.0.0.1>\r\n", 400,
     "Path", NULL},
    {"path to a phone", "Path: <tel:112>\r\nContact: <sip:a@10.0.0.1>\r\n", 400, "Path", NULL},
    {"one bad of two", "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>;q=7\r\n", 400, "q", NULL},
    {"the AOR itself", "Contact: <sip:alice@example.com>\r\n", 403, "AOR", NULL},
    {"the AOR on a port", "Contact: <sip:alice@127.0.0.1:5070>\r\n", 200, NULL, NULL},
};

static void judges(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(judged); i++) {
        const struct judged *c = &judged[i];
        struct desk *d = desk_open(100);
        struct reg_origin from = desk_flow(0);
        int status = desk_register(d, ALICE, "c1", 1, c->lines, &from);
        /* What the check of messages refuses already is refused as well. */
        if (status < 0)
            status = -status;
        else if (c->reason != NULL)
            desk_wants(c->name, d->reason, c->reason);
        if (status != c->status)
            fail_msg("%s: %d, not %d", c->name, status, c->status);
        if (c->extra != NULL)
            desk_wants(c->name, d->extra, c->extra);
        if (status != 200)
            assert_int_equal(registrar_load(d->r).bindings, 0);
        desk_close(d);
    }
}

static void of_whom(void **state)
{
    (void)state;
    static const struct {
        const char *name, *uri, *to;
        int status;
    } cases[] = {
        {"ours", "sip:example.com", "sip:alice@example.com", 200},
        {"another of ours", "sip:example.com", "sip:alice@chicago.example", 200},
        {"case of a host", "sip:EXAMPLE.com", "sip:alice@Example.COM", 200},
        {"with port", "sip:example.com:5060", "sip:alice@example.com:5060", 200},
        {"sips", "sips:example.com", "sips:alice@example.com", 200},
        {"foreign Request-URI", "sip:example.net", "sip:alice@example.com", 403},
        {"foreign To", "sip:example.com", "sip:alice@example.net", 404},
        {"no user", "sip:example.com", "sip:example.com", 404},
        {"only a password", "sip:example.com", "sip::pw@example.com", 404},
        {"NUL in the user", "sip:example.com", "sip:al%00ice@example.com", 404},
        {"line break in the user", "sip:example.com", "sip:al%0d%0aice@example.com", 404},
        {"tel", "sip:example.com", "tel:+123", 404},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct desk *d = desk_open(10);
        struct reg_origin from = desk_flow(1);
        snprintf(d->message, sizeof d->message,
                 "REGISTER %s SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.7;branch=z9hG4bKx\r\n"
                 "Max-Forwards: 70\r\nFrom: <%s>;tag=f\r\nTo: <%s>\r\nCall-ID: c\r\n"
                 "CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.1>\r\n\r\n",
                 cases[i].uri, cases[i].to, cases[i].to);
        int status = desk_message(d, d->message, &from);
        if (status != cases[i].status)
            fail_msg("%s: %d, not %d", cases[i].name, status, cases[i].status);
        desk_close(d);
    }
}

/* One user under all the ways to write it; another where it is another. */
static void one_aor(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(desk_register(d, "sip:%61lice:pw@EXAMPLE.com;x=y", "c", 1,
                                   "Contact: <sip:a@192.0.2.1>\r\n", &from),
                     200);
    assert_string_equal(desk_lookup(d, "sip:alice@example.com"), "sip:a@192.0.2.1");
    assert_string_equal(desk_lookup(d, "sips:alic%65@example.com:5061"), "sip:a@192.0.2.1");
    assert_string_equal(desk_lookup(d, "sip:Alice@example.com"), "404");
    assert_string_equal(desk_lookup(d, "sip:alice@chicago.example"), "404");
    desk_close(d);
}

/* RFC 3261 24.1, F1 and F2. */
static void rfc3261_24_1(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin from = {.transport = TP_UDP, .listener = 0};
    from.source = desk_addr("192.0.2.4:5060");
    d->domains[0] = SLICE("biloxi.com");
    static const char f1[] = "REGISTER sip:registrar.biloxi.com SIP/2.0\r\n"
                             "Via: SIP/2.0/UDP bobspc.biloxi.com:5060;branch=z9hG4bKnashds7\r\n"
                             "Max-Forwards: 70\r\n"
                             "To: Bob <sip:bob@biloxi.com>\r\n"
                             "From: Bob <sip:bob@biloxi.com>;tag=456248\r\n"
                             "Call-ID: 843817637684230@998sdasdh09\r\n"
                             "CSeq: 1826 REGISTER\r\n"
                             "Contact: <sip:bob@192.0.2.4>\r\n"
                             "Expires: 7200\r\n"
                             "Content-Length: 0\r\n\r\n";
    assert_int_equal(desk_message(d, f1, &from), 403); /* not our domain by its whole name */
    d->domains[1] = SLICE("registrar.biloxi.com");
    assert_int_equal(desk_message(d, f1, &from), 200);
    desk_wants("F2", d->lines, "Contact: <sip:bob@192.0.2.4>;expires=7200\r\n");
    assert_string_equal(desk_lookup(d, "sip:bob@biloxi.com"), "sip:bob@192.0.2.4");
    desk_close(d);
}

static void expires(void **state)
{
    (void)state;
    static const struct {
        const char *name, *lines, *want;
    } cases[] = {
        {"default", "Contact: <sip:a@h>\r\n", "<sip:a@h>;expires=3600\r\n"},
        {"header", "Expires: 90\r\nContact: <sip:a@h>\r\n", "<sip:a@h>;expires=90\r\n"},
        {"own", "Expires: 90\r\nContact: <sip:a@h>;expires=100\r\n", "<sip:a@h>;expires=100\r\n"},
        {"unreadable", "Contact: <sip:a@h>;expires=1x\r\n", "<sip:a@h>;expires=3600\r\n"},
        {"unreadable header", "Expires: 1x\r\nContact: <sip:a@h>\r\n",
         "<sip:a@h>;expires=3600\r\n"},
        {"above the maximum", "Contact: <sip:a@h>;expires=7201\r\n", "<sip:a@h>;expires=7200\r\n"},
        {"2^32", "Contact: <sip:a@h>;expires=4294967296\r\n", "<sip:a@h>;expires=7200\r\n"},
        {"thirty digits", "Expires: 999999999999999999999999999999\r\nContact: <sip:a@h>\r\n",
         "<sip:a@h>;expires=7200\r\n"},
        {"q", "Contact: <sip:a@h>;q=0.07\r\n", "<sip:a@h>;expires=3600;q=0.070\r\n"},
        {"params of a URI", "Contact: <sip:a@h;transport=ws;ob>\r\n",
         "Contact: <sip:a@h;transport=ws;ob>;expires=3600\r\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct desk *d = desk_open(10);
        struct reg_origin from = desk_flow(1);
        assert_int_equal(desk_register(d, ALICE, "c", 1, cases[i].lines, &from), 200);
        desk_wants(cases[i].name, d->lines, cases[i].want);
        desk_close(d);
    }
}

/* Granted is what was asked for less 0 to 20 percent, never below the minimum, and not always the
 * same. */
static void jitter(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin from = desk_flow(1);
    unsigned least = UINT32_MAX, most = 0;
    d->opts.expires_jitter_percent = 20;
    for (unsigned i = 1; i <= 300; i++) {
        assert_int_equal(
            desk_register(d, ALICE, "c", i, "Contact: <sip:a@h>;expires=1000\r\n", &from), 200);
        unsigned s = (unsigned)strtoul(strstr(d->lines, "expires=") + 8, NULL, 10);
        least = s < least ? s : least;
        most = s > most ? s : most;
    }
    assert_in_range(least, 800, 830);
    assert_in_range(most, 970, 1000);
    assert_int_equal(desk_register(d, ALICE, "c", 301, "Contact: <sip:a@h>;expires=60\r\n", &from),
                     200);
    desk_wants("minimum", d->lines, "expires=60\r\n");
    desk_close(d);
}

static void order(void **state)
{
    (void)state;
    static const struct {
        const char *name, *call_id;
        unsigned cseq;
        const char *lines;
        int status;
        const char *after;
    } cases[] = {
        {"newer", "c", 11, "Contact: <sip:a@h>\r\n", 200, "sip:a@h"},
        {"the same", "c", 10, "Contact: <sip:a@h>\r\n", 500, "sip:a@h"},
        {"older", "c", 9, "Contact: <sip:a@h>\r\n", 500, "sip:a@h"},
        {"older removal", "c", 9, "Contact: <sip:a@h>;expires=0\r\n", 500, "sip:a@h"},
        {"older star", "c", 9, "Contact: *\r\nExpires: 0\r\n", 500, "sip:a@h"},
        {"newer star", "c", 11, "Contact: *\r\nExpires: 0\r\n", 200, "480"},
        {"star of another call", "d", 1, "Contact: *\r\nExpires: 0\r\n", 200, "480"},
        {"older of another call", "d", 1, "Contact: <sip:a@h>;expires=0\r\n", 200, "480"},
        {"older of another contact", "c", 9, "Contact: <sip:b@h>\r\n", 200, "sip:b@h | sip:a@h"},
        {"all or nothing", "c", 9, "Contact: <sip:b@h>, <sip:a@h>\r\n", 500, "sip:a@h"},
        {"query", "c", 1, "", 200, "sip:a@h"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct desk *d = desk_open(10);
        struct reg_origin from = desk_flow(1);
        assert_int_equal(desk_register(d, ALICE, "c", 10, "Contact: <sip:a@h>\r\n", &from), 200);
        int status =
            desk_register(d, ALICE, cases[i].call_id, cases[i].cseq, cases[i].lines, &from);
        if (status != cases[i].status)
            fail_msg("%s: %d, not %d", cases[i].name, status, cases[i].status);
        if (strcmp(desk_lookup(d, ALICE), cases[i].after) != 0)
            fail_msg("%s: %s, not %s", cases[i].name, desk_lookup(d, ALICE), cases[i].after);
        if (status == 500)
            desk_wants(cases[i].name, d->reason, "CSeq");
        desk_close(d);
    }
}

static void contacts_compare(void **state)
{
    (void)state;
    static const struct {
        const char *name, *first, *second;
        unsigned count;
    } cases[] = {
        {"the same", "sip:a@h", "sip:a@h", 1},
        {"host without case", "sip:a@h.example", "sip:a@H.Example", 1},
        {"user with case", "sip:a@h", "sip:A@h", 2},
        {"escaped letter", "sip:%61@h", "sip:a@h", 1},
        {"escaped reserved", "sip:a%3bx@h", "sip:a;x@h", 2},
        {"port", "sip:a@h:5060", "sip:a@h", 2},
        {"scheme", "sips:a@h", "sip:a@h", 2},
        {"password", "sip:a:p@h", "sip:a@h", 2},
        {"transport in one", "sip:a@h;transport=tcp", "sip:a@h", 2},
        {"transport of both", "sip:a@h;transport=TCP", "sip:a@h;Transport=tcp", 1},
        {"transports", "sip:a@h;transport=tcp", "sip:a@h;transport=udp", 2},
        {"maddr in one", "sip:a@h;maddr=1.2.3.4", "sip:a@h", 2},
        {"user in one", "sip:a@h;user=phone", "sip:a@h", 2},
        {"unknown in one", "sip:a@h;line=x", "sip:a@h", 1},
        {"unknown differs", "sip:a@h;line=x", "sip:a@h;line=y", 2},
        {"unknown of both", "sip:a@h;line=x;ob", "sip:a@h;ob;LINE=X", 1},
        {"RFC 3261 19.1.4", "sip:%61lice@atlanta.com;transport=TCP",
         "sip:alice@AtLanTa.CoM;Transport=tcp", 1},
        {"RFC 3261 19.1.4, security", "sip:carol@chicago.com;security=on",
         "sip:carol@chicago.com;newparam=5", 1},
        {"IPv6", "sip:a@[2001:db8::1]:5060", "sip:a@[2001:DB8::1]:5060", 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (unsigned both = 0; both < 2; both++) {
            struct desk *d = desk_open(10);
            struct reg_origin from = desk_flow(1);
            char lines[512];
            const char *a = both == 0 ? cases[i].first : cases[i].second;
            const char *b = both == 0 ? cases[i].second : cases[i].first;
            snprintf(lines, sizeof lines, "Contact: <%s>\r\n", a);
            assert_int_equal(desk_register(d, ALICE, "c", 1, lines, &from), 200);
            snprintf(lines, sizeof lines, "Contact: <%s>\r\n", b);
            assert_int_equal(desk_register(d, ALICE, "c", 2, lines, &from), 200);
            if (registrar_load(d->r).bindings != cases[i].count)
                fail_msg("%s: %u bindings", cases[i].name, registrar_load(d->r).bindings);
            assert_int_equal(desk_stored(d), cases[i].count);
            /* In one REGISTER, the later one counts. */
            snprintf(lines, sizeof lines, "Contact: <%s>, <%s>\r\n", a, b);
            assert_int_equal(desk_register(d, "sip:bob@example.com", "c", 3, lines, &from), 200);
            assert_int_equal(registrar_load(d->r).bindings, 2 * cases[i].count);
            desk_close(d);
        }
    }
}

static void limits(void **state)
{
    (void)state;
    struct desk *d = desk_open(100);
    struct reg_origin from = desk_flow(1);
    char lines[8192];
    d->opts.contacts_max = 3;
    assert_int_equal(desk_register(d, ALICE, "c", 1,
                                   "Contact: <sip:a@h>, <sip:b@h>, <sip:c@h>, <sip:d@h>\r\n",
                                   &from),
                     403);
    assert_int_equal(
        desk_register(d, ALICE, "c", 2, "Contact: <sip:a@h>, <sip:b@h>, <sip:c@h>\r\n", &from),
        200);
    assert_int_equal(desk_register(d, ALICE, "c", 3, "Contact: <sip:d@h>\r\n", &from), 403);
    desk_wants("reason", d->reason, "Too Many Contacts");
    /* A refresh, and one for another, are none more. */
    assert_int_equal(desk_register(d, ALICE, "c", 4, "Contact: <sip:b@h>\r\n", &from), 200);
    assert_int_equal(
        desk_register(d, ALICE, "c", 5, "Contact: <sip:d@h>, <sip:a@h>;expires=0\r\n", &from), 200);
    assert_int_equal(registrar_load(d->r).bindings, 3);
    /* Expired ones make room before they are taken away. */
    desk_pass(d, 3600 * NS_S);
    assert_int_equal(desk_register(d, ALICE, "c", 6, "Contact: <sip:e@h>\r\n", &from), 200);

    size_t n = 0;
    for (unsigned i = 0; i <= 32; i++)
        n += (size_t)snprintf(lines + n, sizeof lines - n, "Contact: <sip:u%u@h>;expires=0\r\n", i);
    assert_int_equal(desk_register(d, ALICE, "c", 7, lines, &from), 400);
    desk_close(d);
}

/* A phone that moves and keeps its instance leaves no room-eating traces. */
static void a_phone_moves(void **state)
{
    (void)state;
    struct desk *d = desk_open(100);
    struct reg_origin from = desk_flow(0);
    char lines[256];
    d->opts.contacts_max = 3;
    assert_int_equal(desk_register(d, ALICE, "other", 1, "Contact: <sip:x@h>;q=0.1\r\n", &from),
                     200);
    for (unsigned i = 1; i <= 20; i++) {
        snprintf(lines, sizeof lines,
                 "Contact: <sip:a@192.0.2.%u>;+sip.instance=\"<urn:uuid:1>\"\r\n", i);
        assert_int_equal(desk_register(d, ALICE, "c", i, lines, &from), 200);
    }
    assert_string_equal(desk_lookup(d, ALICE), "sip:a@192.0.2.20 sip:a@192.0.2.19 | sip:x@h");
    assert_int_equal(desk_stored(d), 3);
    desk_close(d);
}

static void full(void **state)
{
    (void)state;
    struct desk *d = desk_open(8);
    struct reg_origin from = desk_flow(1);
    char aor[64];
    for (unsigned i = 0; i < 8; i++) {
        snprintf(aor, sizeof aor, "sip:u%u@example.com", i);
        assert_int_equal(desk_register(d, aor, "c", 1, "Contact: <sip:a@h>\r\n", &from), 200);
    }
    assert_int_equal(desk_register(d, ALICE, "c", 1, "Contact: <sip:a@h>\r\n", &from), 503);
    desk_wants("full", d->extra, "Retry-After: ");
    /* Those who are in stay in. */
    assert_int_equal(desk_register(d, aor, "c", 2, "Contact: <sip:a@h>\r\n", &from), 200);
    assert_int_equal(desk_register(d, aor, "c", 3, "Contact: *\r\nExpires: 0\r\n", &from), 200);
    assert_int_equal(desk_register(d, ALICE, "c", 2, "Contact: <sip:a@h>\r\n", &from), 200);
    desk_close(d);
}

/* ---- outbound, Path, GRUU -------------------------------------------------------------------- */

#define PHONE "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\""

/* RFC 5626 9.1: two flows of one phone. */
static void flows(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin one = desk_flow(101), two = desk_flow(102), three = desk_flow(103);
    d->opts.flow_timer_s = 120;
    assert_int_equal(desk_register(d, ALICE, "16CB75F21C70", 1,
                                   "Supported: path, outbound\r\n"
                                   "Contact: <sip:bob@192.0.2.2;transport=tcp>;reg-id=1;" PHONE
                                   "\r\n",
                                   &one),
                     200);
    desk_wants("200", d->lines, "Require: outbound\r\n");
    desk_wants("200", d->lines, "Flow-Timer: 120\r\n");
    desk_wants("200", d->lines, "reg-id=1");
    assert_int_equal(desk_register(d, ALICE, "16CB75F21C70", 2,
                                   "Supported: outbound\r\n"
                                   "Contact: <sip:bob@192.0.2.2;transport=tcp>;reg-id=2;" PHONE
                                   "\r\n",
                                   &two),
                     200);
    assert_string_equal(desk_lookup(d, ALICE),
                        "sip:bob@192.0.2.2;transport=tcp sip:bob@192.0.2.2;transport=tcp");
    /* A new flow in the place of the first: same reg-id, other Call-ID, other contact, and the
     * UUID in small letters. */
    assert_int_equal(
        desk_register(d, ALICE, "other", 1,
                      "Supported: outbound\r\nContact: <sip:bob@192.0.2.9>;reg-id=1;"
                      "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\"\r\n",
                      &three),
        200);
    assert_string_equal(desk_lookup(d, ALICE), "sip:bob@192.0.2.9 sip:bob@192.0.2.2;transport=tcp");
    assert_int_equal(desk_stored(d), 2);
    desk_close(d);
}

static void outbound_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *name, *lines;
        bool is_direct, is_required, is_used;
        int status;
    } cases[] = {
        {"direct", "Supported: outbound\r\n", true, false, true, 200},
        {"direct, not supported", "Supported: path\r\n", true, true, false, 200},
        {"edge with ob", "Supported: outbound\r\nPath: <sip:p;lr>, <sip:t@e;lr;ob>\r\n", false,
         true, true, 200},
        {"ob of another hop", "Supported: outbound\r\nPath: <sip:p;lr;ob>, <sip:t@e;lr>\r\n", false,
         false, false, 200},
        {"ob of another hop, required",
         "Supported: outbound\r\nPath: <sip:p;lr;ob>, <sip:t@e;lr>\r\n", false, true, false, 439},
        {"no Path", "Supported: outbound\r\n", false, false, false, 200},
        {"no Path, required", "Supported: outbound\r\n", false, true, false, 439},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct desk *d = desk_open(10);
        struct reg_origin from = desk_flow(cases[i].is_direct ? 5 : 0);
        char lines[512];
        d->opts.require_outbound = cases[i].is_required;
        snprintf(lines, sizeof lines, "%sContact: <sip:a@h>;reg-id=1;" PHONE "\r\n",
                 cases[i].lines);
        int status = desk_register(d, ALICE, "c", 1, lines, &from);
        if (status != cases[i].status)
            fail_msg("%s: %d, not %d", cases[i].name, status, cases[i].status);
        if (cases[i].is_used)
            desk_wants(cases[i].name, d->lines, "Require: outbound");
        else
            desk_wants_no(cases[i].name, d->lines, "Require: outbound");
        desk_close(d);
    }
}

static void path_is_kept_and_echoed(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin from = desk_flow(0);
    d->opts.service_route = SLICE("<sip:home.example.com;lr>");
    assert_int_equal(desk_register(d, ALICE, "c", 1,
                                   "Supported: path\r\nPath: <sip:p2.example.com;lr>\r\n"
                                   "Path: <sip:p1.example.com;lr>,<sip:t@edge;lr;ob>\r\n"
                                   "Contact: <sip:a@10.0.0.1>\r\n",
                                   &from),
                     200);
#define PATH "<sip:p2.example.com;lr>, <sip:p1.example.com;lr>, <sip:t@edge;lr;ob>"
    desk_wants("200", d->lines, "Path: " PATH "\r\n");
    desk_wants("200", d->lines, "Service-Route: <sip:home.example.com;lr>\r\n");
    desk_wants("200", d->lines, "Supported: path, outbound, gruu\r\n");
    desk_wants("200", d->lines, "Date: Mon, 21 Sep 2026 14:13:20 GMT\r\n");
    struct reg_target t = desk_only(d, "alice@example.com");
    assert_true(slice_equal(t.path, SLICE(PATH)));
    assert_false(t.direct);
    assert_int_equal(t.flow.gen, 0);
    /* Not asked for, not echoed. */
    assert_int_equal(desk_register(d, ALICE, "c", 2,
                                   "Path: <sip:t@edge;lr>\r\nContact: <sip:a@10.0.0.1>\r\n", &from),
                     200);
    desk_wants_no("200", d->lines, "\nPath: ");
    desk_close(d);
}

/* RFC 5627 9.1, public half. */
static void gruu(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin from = desk_flow(1);
    assert_int_equal(desk_register(d, "sip:c%23llee@example.com", "c", 1,
                                   "Supported: gruu\r\nContact: <sip:callee@192.0.2.1>;"
                                   "+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"
                                   "\"\r\n",
                                   &from),
                     200);
    desk_wants("200", d->lines,
               ";pub-gruu=\"sip:c%23llee@example.com;"
               "gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"\r\n");
    assert_int_equal(desk_register(d, "sip:c%23llee@example.com", "c", 2,
                                   "Contact: <sip:other@192.0.2.1>;+sip.instance=\"<urn:x:2>\"\r\n",
                                   &from),
                     200);
    desk_wants_no("not asked for", d->lines, "gruu=");
#define CALLEE "sip:c%23llee@example.com"
    assert_string_equal(desk_lookup(d, CALLEE ";gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
                        "sip:callee@192.0.2.1");
    assert_string_equal(desk_lookup(d, CALLEE ";GR=urn:uuid:F81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
                        "sip:callee@192.0.2.1");
    assert_string_equal(desk_lookup(d, CALLEE ";gr=urn:x:2"), "sip:other@192.0.2.1");
    assert_string_equal(desk_lookup(d, CALLEE ";gr=urn%3ax%3a2"), "480");
    assert_string_equal(desk_lookup(d, CALLEE ";gr=urn:x:3"), "480");
    assert_string_equal(desk_lookup(d, CALLEE ";gr"), "480");
    desk_close(d);
}

/* ---- looking up ------------------------------------------------------------------------------ */

static void by_q(void **state)
{
    (void)state;
    struct desk *d = desk_open(20);
    struct reg_origin one = desk_flow(1), two = desk_flow(2);
    assert_int_equal(
        desk_register(d, ALICE, "a", 1,
                      "Contact: <sip:low@h>;q=0.2, <sip:high@h>, <sip:mid@h>;q=0.5\r\n", &one),
        200);
    /* Two flows of one phone: one q, the best of both, and the newer way first. */
    assert_int_equal(
        desk_register(d, ALICE, "b", 1,
                      "Supported: outbound\r\nContact: <sip:f1@h>;q=0.7;reg-id=1;" PHONE "\r\n",
                      &one),
        200);
    assert_int_equal(
        desk_register(d, ALICE, "b", 2,
                      "Supported: outbound\r\nContact: <sip:f2@h>;q=0.1;reg-id=2;" PHONE "\r\n",
                      &two),
        200);
    assert_string_equal(desk_lookup(d, ALICE),
                        "sip:high@h | sip:f2@h sip:f1@h | sip:mid@h | sip:low@h");
    /* A refresh over the same way does not make it newer; over another one it does. */
    uint64_t before = registrar_deadline(d->r);
    assert_int_equal(
        desk_register(d, ALICE, "b", 3,
                      "Supported: outbound\r\nContact: <sip:f1@h>;q=0.7;reg-id=1;" PHONE "\r\n",
                      &one),
        200);
    assert_true(before != MONO_NONE);
    assert_string_equal(desk_lookup(d, ALICE),
                        "sip:high@h | sip:f2@h sip:f1@h | sip:mid@h | sip:low@h");
    d->opts.fork = REGISTRAR_FORK_PARALLEL;
    struct reg_target t[3];
    bool is_known;
    assert_int_equal(
        registrar_lookup(d->r, SLICE("alice@example.com"), NULL, d->now, t, 3, &is_known), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(t[i].q, 1000);
    desk_close(d);
}

static void seen_or_never(void **state)
{
    (void)state;
    struct desk *d = desk_open(10);
    struct reg_origin from = desk_flow(1);
    assert_string_equal(desk_lookup(d, ALICE), "404");
    assert_int_equal(desk_register(d, ALICE, "c", 1, "Contact: <sip:a@h>;expires=60\r\n", &from),
                     200);
    desk_pass(d, 60 * NS_S);
    assert_string_equal(desk_lookup(d, ALICE), "480"); /* though nobody has taken it away yet */
    assert_string_equal(desk_lookup(d, "sip:bob@example.com"), "404");
    desk_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges),
        cmocka_unit_test(of_whom),
        cmocka_unit_test(one_aor),
        cmocka_unit_test(rfc3261_24_1),
        cmocka_unit_test(expires),
        cmocka_unit_test(jitter),
        cmocka_unit_test(order),
        cmocka_unit_test(contacts_compare),
        cmocka_unit_test(limits),
        cmocka_unit_test(a_phone_moves),
        cmocka_unit_test(full),
        cmocka_unit_test(flows),
        cmocka_unit_test(outbound_or_not),
        cmocka_unit_test(path_is_kept_and_echoed),
        cmocka_unit_test(gruu),
        cmocka_unit_test(by_q),
        cmocka_unit_test(seen_or_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
