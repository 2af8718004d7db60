/* SPDX-License-Identifier: Apache-2.0
 *
 * Digest authentication: the examples of RFC 7616, nonces that the fleet believes, counts that must
 * grow, and users who do not exist and cannot be told from those who do.
 * covers: digest.c */
#include <openssl/evp.h>

#include "registrar/registrar_int.h"
#include "desk.h"

#define REALM "example.com"

/* ---- the sums -------------------------------------------------------------------------------- */

static struct slice hash_hex(const EVP_MD *md, const char *text, char dst[65])
{
    uint8_t raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    assert_int_equal(EVP_Digest(text, strlen(text), raw, &n, md, NULL), 1);
    return registrar__hex(raw, n, dst);
}

/* RFC 7616 3.9.1: the same request, in both algorithms. */
static void rfc7616_3_9_1(void **state)
{
    (void)state;
    static const struct {
        enum digest_algorithm algorithm;
        const char *header, *response;
    } cases[] = {
        {DIGEST_MD5,
         "Digest username=\"Mufasa\",\r\n realm=\"http-auth@example.org\",\r\n"
         " uri=\"/dir/index.html\", algorithm=MD5,\r\n"
         " nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\",\r\n nc=00000001,\r\n"
         " cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\",\r\n qop=auth,\r\n"
         " response=\"8ca523f5e9506fed4657c9700eebdbec\",\r\n"
         " opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
         "8ca523f5e9506fed4657c9700eebdbec"},
        {DIGEST_SHA256,
         "Digest username=\"Mufasa\", realm=\"http-auth@example.org\","
         " uri=\"/dir/index.html\", algorithm=SHA-256,"
         " nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001,"
         " cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth,"
         " response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\"",
         "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct credentials c;
        char ha1[65], got[DIGEST_HEX_MAX];
        const EVP_MD *md = cases[i].algorithm == DIGEST_MD5 ? EVP_md5() : EVP_sha256();
        assert_true(registrar__credentials_parse(slice_cstr(cases[i].header), &c));
        struct slice key = hash_hex(md, "Mufasa:http-auth@example.org:Circle of Life", ha1);
        struct slice response = registrar__digest(cases[i].algorithm, key, SLICE("GET"), &c, got);
        assert_true(slice_equal(response, slice_cstr(cases[i].response)));
        assert_true(slice_equal(c.response, response));
    }
}

static void authorizations(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        bool is_fine;
        const char *username, *qop;
    } cases[] = {
        {"plain", "Digest username=\"a\", qop=auth", true, "a", "auth"},
        {"no blanks", "digest username=\"a\",qop=auth", true, "a", "auth"},
        {"blanks", "DIGEST   username = \"a\" , qop = \"auth\" ", true, "a", "auth"},
        {"quoted pair", "Digest username=\"a\\\"b\", qop=auth", true, "a\\\"b", "auth"},
        {"comma within", "Digest username=\"a,b=c\", qop=auth", true, "a,b=c", "auth"},
        {"strangers", "Digest foo=bar, username=\"a\", x=\"\", qop=auth", true, "a", "auth"},
        {"empty elements", "Digest ,, username=\"a\",, qop=auth,", true, "a", "auth"},
        {"nothing", "Digest", true, "", ""},
        {"empty", "", false, "", ""},
        {"Basic", "Basic YTpi", false, "", ""},
        {"open quote", "Digest username=\"a", false, "", ""},
        {"open pair", "Digest username=\"a\\", false, "", ""},
        {"no value", "Digest username", false, "", ""},
        {"no name", "Digest =\"a\"", false, "", ""},
        {"two values", "Digest username=\"a\" \"b\"", false, "", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = strlen(cases[i].text);
        char *copy = guard_copy(cases[i].text, n);
        struct credentials c = {.username = SLICE("")};
        bool is_fine = registrar__credentials_parse(slice_of(copy, n), &c);
        if (is_fine != cases[i].is_fine ||
            (is_fine && (!slice_equal(c.username, slice_cstr(cases[i].username)) ||
                         !slice_equal(c.qop, slice_cstr(cases[i].qop)))))
            fail_msg("%s", cases[i].name);
        /* In every cut: nothing is read behind the end. */
        for (size_t k = 0; k < n; k++) {
            char *part = guard_copy(cases[i].text, k);
            (void)registrar__credentials_parse(slice_of(part, k), &c);
            guard_free(part);
        }
        guard_free(copy);
    }
}

/* ---- a client -------------------------------------------------------------------------------- */

struct client {
    const char *username, *password, *realm, *uri, *algorithm, *qop, *nonce, *more;
    unsigned nc;
    bool guesses_key; /* that H(user:realm:password) is zero */
    char lines[4096];
};

static struct client client_new(const char *username, const char *password)
{
    return (struct client){.username = username,
                           .password = password,
                           .realm = REALM,
                           .uri = "sip:example.com",
                           .algorithm = "SHA-256",
                           .qop = "auth",
                           .more = "",
                           .nc = 1};
}

static const char *client_lines(struct client *k)
{
    const EVP_MD *md = strcmp(k->algorithm, "MD5") == 0 ? EVP_md5() : EVP_sha256();
    enum digest_algorithm algorithm = strcmp(k->algorithm, "MD5") == 0 ? DIGEST_MD5 : DIGEST_SHA256;
    char text[512], ha1[65], nc[9], response[DIGEST_HEX_MAX];
    snprintf(text, sizeof text, "%s:%s:%s", k->username, k->realm, k->password);
    snprintf(nc, sizeof nc, "%08x", k->nc);
    struct credentials c = {.nonce = slice_cstr(k->nonce),
                            .uri = slice_cstr(k->uri),
                            .cnonce = SLICE("0a4f113b"),
                            .nc = slice_cstr(nc),
                            .qop = slice_cstr(k->qop)};
    struct slice key = hash_hex(md, text, ha1);
    if (k->guesses_key)
        memset(ha1, '0', key.n);
    struct slice r = registrar__digest(algorithm, key, SLICE("REGISTER"), &c, response);
    snprintf(k->lines, sizeof k->lines,
             "%sAuthorization: Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"%s\", "
             "response=\"%.*s\", algorithm=%s, cnonce=\"0a4f113b\", qop=%s, nc=%s\r\n"
             "Contact: <sip:a@192.0.2.1>\r\n",
             k->more, k->username, k->realm, k->nonce, k->uri, SLICE_ARG(r), k->algorithm, k->qop,
             nc);
    return k->lines;
}

struct office {
    struct desk *d;
    struct token_keys keys;
    struct registrar_user users[3];
    struct reg_origin from;
    unsigned cseq;
    char nonce[128];
};

static void set_user(struct registrar_user *u, const char *name, const char *password)
{
    char text[256];
    unsigned n;
    snprintf(text, sizeof text, "%s:" REALM ":%s", name, password);
    u->name = slice_cstr(name);
    u->has_md5 = u->has_sha256 = true;
    assert_int_equal(EVP_Digest(text, strlen(text), u->ha1_md5, &n, EVP_md5(), NULL), 1);
    assert_int_equal(EVP_Digest(text, strlen(text), u->ha1_sha256, &n, EVP_sha256(), NULL), 1);
}

static struct office *office_open(void)
{
    struct office *o = calloc(1, sizeof *o);
    assert_non_null(o);
    o->d = desk_open(20);
    o->from = desk_flow(1);
    set_user(&o->users[0], "alice", "secret");
    set_user(&o->users[1], "b\"b", "p\\w");
    set_user(&o->users[2], "carol", "");
    o->keys.count = 1;
    assert_int_equal(token_key_init(&o->keys.key[0], SLICE("the first key of our fleet")), 0);
    o->d->opts.digest = true;
    o->d->opts.realm = SLICE(REALM);
    o->d->opts.nonce_life_s = 300;
    o->d->opts.users = o->users;
    o->d->opts.user_count = 3;
    o->d->opts.keys = &o->keys;
    registrar_adopt(o->d->r, &o->d->opts);
    return o;
}

static void office_close(struct office *o)
{
    desk_close(o->d);
    free(o);
}

static int send(struct office *o, const char *aor, const char *lines)
{
    return desk_register(o->d, aor, "c", ++o->cseq, lines, &o->from);
}

/* A nonce, as a client gets one. */
static const char *ask_nonce(struct office *o)
{
    assert_int_equal(send(o, ALICE, "Contact: <sip:a@192.0.2.1>\r\n"), 401);
    const char *at = strstr(o->d->extra, "nonce=\"");
    assert_non_null(at);
    desk_copy(o->nonce, sizeof o->nonce, slice_of(at + 7, strcspn(at + 7, "\"")));
    return o->nonce;
}

static bool is_stale(const struct office *o)
{
    return strstr(o->d->extra, "stale=true") != NULL;
}

static void challenge(void **state)
{
    (void)state;
    struct office *o = office_open();
    assert_int_equal(send(o, ALICE, ""), 401); /* a query, too, tells who one is */
    const char *sha = strstr(o->d->extra, "algorithm=SHA-256, qop=\"auth\"\r\n");
    const char *md5 = strstr(o->d->extra, "algorithm=MD5, qop=\"auth\"\r\n");
    assert_true(sha != NULL && md5 != NULL && sha < md5);
    desk_wants("401", o->d->extra, "WWW-Authenticate: Digest realm=\"" REALM "\", nonce=\"");
    assert_false(is_stale(o));
    /* What not everybody can answer is not offered. */
    o->users[1].has_sha256 = false;
    registrar_adopt(o->d->r, &o->d->opts);
    assert_int_equal(send(o, ALICE, ""), 401);
    desk_wants_no("one without", o->d->extra, "SHA-256");
    o->users[0].has_md5 = false;
    registrar_adopt(o->d->r, &o->d->opts);
    assert_int_equal(send(o, ALICE, ""), 401);
    desk_wants("none for all", o->d->extra, "SHA-256");
    desk_wants("none for all", o->d->extra, "MD5");
    o->keys.count = 0;
    assert_int_equal(send(o, ALICE, ""), 500);
    office_close(o);
}

/* Some phones answer the topmost challenge whatever it says. */
static void offers_as_told(void **state)
{
    (void)state;
    static const struct {
        uint8_t offer[DIGEST_ALGORITHMS], count;
        const char *first, *second; /* NULL: not offered, and not taken */
    } rows[] = {{{DIGEST_MD5, DIGEST_SHA256}, 2, "MD5", "SHA-256"},
                {{DIGEST_SHA256, DIGEST_MD5}, 2, "SHA-256", "MD5"},
                {{DIGEST_SHA256}, 1, "SHA-256", NULL},
                {{DIGEST_MD5}, 1, "MD5", NULL}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct office *o = office_open();
        memcpy(o->d->opts.offer, rows[i].offer, sizeof rows[i].offer);
        o->d->opts.offer_count = rows[i].count;
        registrar_adopt(o->d->r, &o->d->opts);
        assert_int_equal(send(o, ALICE, ""), 401);
        const char *sha = strstr(o->d->extra, "algorithm=SHA-256,");
        const char *md5 = strstr(o->d->extra, "algorithm=MD5,");
        bool md5_first = rows[i].first[0] == 'M';
        const char *first = md5_first ? md5 : sha, *second = md5_first ? sha : md5;
        assert_non_null(first);
        assert_int_equal(second != NULL, rows[i].second != NULL);
        assert_true(second == NULL || first < second);
        struct client k = client_new("alice", "secret");
        k.algorithm = rows[i].first;
        k.nonce = ask_nonce(o);
        assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
        k.algorithm = md5_first ? "SHA-256" : "MD5";
        k.nonce = ask_nonce(o);
        assert_int_equal(send(o, ALICE, client_lines(&k)), rows[i].second != NULL ? 200 : 401);
        office_close(o);
    }
}

static void lets_in(void **state)
{
    (void)state;
    static const char *const algorithms[] = {"SHA-256", "MD5"};
    for (size_t i = 0; i < COUNT(algorithms); i++) {
        struct office *o = office_open();
        struct client k = client_new("alice", "secret");
        k.algorithm = algorithms[i];
        k.nonce = ask_nonce(o);
        assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
        k.nc = 2;
        assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
        /* Another's credentials before ours are passed over. */
        k.nc = 3;
        k.more = "Authorization: Digest realm=\"elsewhere\", username=\"x\"\r\n"
                 "Authorization: Basic abc\r\n";
        assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
        office_close(o);
    }
}

/* Fields of `k` that are not given are those of a client that is let in. */
static const struct outsider {
    const char *name;
    struct client k;
    const char *aor;
    int status;
    bool is_stale;
} outsiders[] = {
    {"password", {.username = "alice", .password = "Secret"}, ALICE, 401, false},
    {"nobody", {.username = "nobody", .password = "secret"}, ALICE, 401, false},
    {"nobody's own", {.username = "nobody", .password = "x"}, "sip:nobody@example.com", 401, false},
    {"another's AOR",
     {.username = "alice", .password = "secret"},
     "sip:carol@example.com",
     403,
     false},
    {"realm",
     {.username = "alice", .password = "secret", .realm = "example.org"},
     ALICE,
     401,
     false},
    {"auth-int", {.username = "alice", .password = "secret", .qop = "auth-int"}, ALICE, 401, false},
    {"algorithm",
     {.username = "alice", .password = "secret", .algorithm = "SHA-512-256"},
     ALICE,
     401,
     false},
    {"session",
     {.username = "alice", .password = "secret", .algorithm = "MD5-sess"},
     ALICE,
     401,
     false},
    {"nonce of another",
     {.username = "alice", .password = "secret", .nonce = "AGqykICAAAAAAAAAAAAAAAAAAAAA"},
     ALICE,
     401,
     true},
    {"nonce of nobody",
     {.username = "alice", .password = "secret", .nonce = "!"},
     ALICE,
     401,
     true},
    {"nonce of nobody, wrong password",
     {.username = "alice", .password = "x", .nonce = "!"},
     ALICE,
     401,
     false},
    {"URI",
     {.username = "alice", .password = "secret", .uri = "sip:example.net"},
     ALICE,
     400,
     false},
    {"URI of ours",
     {.username = "alice", .password = "secret", .uri = "sip:chicago.example"},
     ALICE,
     200,
     false},
    {"count 0", {.username = "alice", .password = "secret", .nc = 0xffffffff}, ALICE, 401, false},
    {"quotes", {.username = "b\\\"b", .password = "p\\w"}, "sip:b%22b@example.com", 401, false},
};

static void keeps_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(outsiders); i++) {
        struct office *o = office_open();
        struct client k = client_new(outsiders[i].k.username, outsiders[i].k.password);
        k.nonce = outsiders[i].k.nonce != NULL ? outsiders[i].k.nonce : ask_nonce(o);
        if (outsiders[i].k.realm != NULL)
            k.realm = outsiders[i].k.realm;
        if (outsiders[i].k.qop != NULL)
            k.qop = outsiders[i].k.qop;
        if (outsiders[i].k.algorithm != NULL)
            k.algorithm = outsiders[i].k.algorithm;
        if (outsiders[i].k.uri != NULL)
            k.uri = outsiders[i].k.uri;
        if (outsiders[i].k.nc != 0)
            k.nc = 0;
        int status = send(o, outsiders[i].aor, client_lines(&k));
        if (status != outsiders[i].status || is_stale(o) != outsiders[i].is_stale)
            fail_msg("%s: %d %d, not %d %d", outsiders[i].name, status, is_stale(o),
                     outsiders[i].status, outsiders[i].is_stale);
        office_close(o);
    }
}

/* Who does not exist is answered, byte for byte, like who has another password, but for nonces. */
static void no_enumeration(void **state)
{
    (void)state;
    struct office *o = office_open();
    char first[2048];
    struct client k = client_new("alice", "wrong");
    k.nonce = ask_nonce(o);
    char nonce[128];
    desk_copy(nonce, sizeof nonce, slice_cstr(k.nonce));
    k.nonce = nonce;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    desk_copy(first, sizeof first, slice_cstr(o->d->extra));
    k.username = "nobody";
    assert_int_equal(send(o, "sip:nobody@example.com", client_lines(&k)), 401);
    assert_int_equal(strlen(first), strlen(o->d->extra));
    char *a = first, *b = o->d->extra;
    while ((a = strstr(a, "nonce=\"")) != NULL && (b = strstr(b, "nonce=\"")) != NULL) {
        size_t n = strcspn(a + 7, "\"");
        assert_true(memcmp(a + 7, b + 7, n) != 0);
        memset(a, '-', n + 7);
        memset(b, '-', n + 7);
    }
    assert_string_equal(first, o->d->extra);
    office_close(o);
}

static void counts_grow(void **state)
{
    (void)state;
    static const struct {
        unsigned nc;
        bool is_fine;
    } steps[] = {{5, true},  {5, false},  {4, false},         {6, true},          {6, false},
                 {16, true}, {15, false}, {0xffffffff, true}, {0xffffffff, false}};
    struct office *o = office_open();
    struct client k = client_new("alice", "secret");
    char nonce[128];
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    k.nonce = nonce;
    for (size_t i = 0; i < COUNT(steps); i++) {
        k.nc = steps[i].nc;
        int status = send(o, ALICE, client_lines(&k));
        if (status != (steps[i].is_fine ? 200 : 401))
            fail_msg("step %zu: %d", i, status);
        assert_int_equal(is_stale(o), !steps[i].is_fine);
    }
    office_close(o);
}

/* A flood of nonces pushes old ones out, and nothing else. */
static void many_nonces(void **state)
{
    (void)state;
    struct office *o = office_open();
    struct client k = client_new("alice", "secret");
    for (unsigned i = 0; i < 3 * NONCE_CELLS; i++) {
        k.nonce = ask_nonce(o);
        assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
        assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    }
    office_close(o);
}

static void age_and_keys(void **state)
{
    (void)state;
    struct office *o = office_open();
    struct client k = client_new("alice", "secret");
    char nonce[128];
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    k.nonce = nonce;
    desk_pass(o->d, 300 * NS_S);
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    desk_pass(o->d, NS_S);
    k.nc = 2;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    assert_true(is_stale(o));
    k.password = "wrong";
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    assert_false(is_stale(o));
    k.password = "secret";
    /* Made a little later than now: another machine's clock. */
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    o->d->wall_ns -= 60 * NS_S;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    o->d->wall_ns -= NS_S;
    k.nc = 3;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    o->d->wall_ns += 61 * NS_S;
    /* A new key signs; the old one still verifies. Then it is gone. */
    o->keys.key[1] = o->keys.key[0];
    assert_int_equal(token_key_init(&o->keys.key[0], SLICE("the second key of our fleet")), 0);
    o->keys.count = 2;
    k.nc = 4;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    o->keys.count = 1;
    k.nc = 5;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    assert_true(is_stale(o));
    office_close(o);
}

/* Over UDP a nonce is good where it was heard, so no forged source brings a binding. */
static void a_nonce_is_for_who_hears_it(void **state)
{
    (void)state;
    struct office *o = office_open();
    struct client k = client_new("alice", "secret");
    char nonce[128];
    o->from.transport = TP_UDP;
    o->from.flow.gen = 0;
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    k.nonce = nonce;
    o->from.source.ip[3] ^= 1; /* somebody else's address */
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    assert_true(is_stale(o));
    o->from.source.ip[3] ^= 1;
    o->from.source.port ^= 1; /* a NAT may give another port */
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    /* Over a connection nobody forges it, and through another edge it is that edge's. */
    o->from.transport = TP_TLS;
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    o->from.source.ip[3] ^= 1;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    o->from.transport = TP_UDP;
    k.nc = 2;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    o->from.direct = false;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    office_close(o);
}

static bool was_challenged(struct office *o)
{
    return registrar_was_challenged(o->d->r, &o->d->m, &o->from, o->d->wall_ns);
}

/* Whoever answers our challenge is half in already, right or wrong; who invents one is not. */
static void who_was_challenged(void **state)
{
    (void)state;
    struct office *o = office_open();
    struct client k = client_new("alice", "wrong");
    char nonce[128];
    o->from.transport = TP_UDP;
    o->from.flow.gen = 0;
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    assert_false(was_challenged(o)); /* it came without */
    k.nonce = nonce;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    assert_true(was_challenged(o));
    o->from.source.ip[3] ^= 1;
    assert_false(was_challenged(o)); /* not given to that address */
    o->from.source.ip[3] ^= 1;
    nonce[3] = nonce[3] == 'A' ? 'B' : 'A';
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    assert_false(was_challenged(o));
    office_close(o);
}

/* Another registrar, born with other seeds, believes our nonce. */
static void the_fleet_believes(void **state)
{
    (void)state;
    struct office *o = office_open();
    struct client k = client_new("alice", "secret");
    k.nonce = ask_nonce(o);
    desk_restart(o->d, 77);
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    /* Not for another realm. */
    o->d->opts.realm = SLICE("example.org");
    o->d->opts.digest = true;
    k.realm = "example.org";
    k.nc = 2;
    assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
    office_close(o);
}

/* The key that stands in for one that is not there opens nothing. */
static void no_key_is_no_key(void **state)
{
    (void)state;
    static const char *const algorithms[] = {"SHA-256", "MD5"};
    for (size_t i = 0; i < COUNT(algorithms); i++) {
        struct office *o = office_open();
        struct client k = client_new("nobody", "");
        k.guesses_key = true;
        k.algorithm = algorithms[i];
        k.nonce = ask_nonce(o);
        assert_int_equal(send(o, "sip:nobody@example.com", client_lines(&k)), 401);
        assert_false(is_stale(o));
        struct registrar_user *alice = &o->users[0];
        alice->has_md5 = alice->has_sha256 = false;
        memset(alice->ha1_md5, 0, sizeof alice->ha1_md5);
        memset(alice->ha1_sha256, 0, sizeof alice->ha1_sha256);
        k.username = "alice";
        assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
        assert_false(is_stale(o));
        office_close(o);
    }
}

/* Every byte of a nonce counts. */
static void forged_nonces(void **state)
{
    (void)state;
    struct office *o = office_open();
    struct client k = client_new("alice", "secret");
    char nonce[128];
    desk_copy(nonce, sizeof nonce, slice_cstr(ask_nonce(o)));
    k.nonce = nonce;
    for (size_t i = 0; nonce[i] != '\0'; i++) {
        char was = nonce[i];
        nonce[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(send(o, ALICE, client_lines(&k)), 401);
        assert_true(is_stale(o));
        nonce[i] = was;
    }
    assert_int_equal(send(o, ALICE, client_lines(&k)), 200);
    office_close(o);
}

/* With credentials, somebody who may come but never came is known. */
static void known_by_credentials(void **state)
{
    (void)state;
    struct office *o = office_open();
    assert_string_equal(desk_lookup(o->d, ALICE), "480");
    assert_string_equal(desk_lookup(o->d, "sip:nobody@example.com"), "404");
    office_close(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc7616_3_9_1),
        cmocka_unit_test(authorizations),
        cmocka_unit_test(challenge),
        cmocka_unit_test(offers_as_told),
        cmocka_unit_test(lets_in),
        cmocka_unit_test(keeps_out),
        cmocka_unit_test(no_enumeration),
        cmocka_unit_test(counts_grow),
        cmocka_unit_test(many_nonces),
        cmocka_unit_test(age_and_keys),
        cmocka_unit_test(a_nonce_is_for_who_hears_it),
        cmocka_unit_test(who_was_challenged),
        cmocka_unit_test(the_fleet_believes),
        cmocka_unit_test(no_key_is_no_key),
        cmocka_unit_test(forged_nonces),
        cmocka_unit_test(known_by_credentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
