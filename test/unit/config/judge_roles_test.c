/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: judge_roles.c, judge_secure.c, judge_peers.c, users.c, pem.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/config_int.h"
#include "support/support.h"

static const uint8_t key_a[32] = "0123456789abcdef0123456789abcde";
static const uint8_t key_b[32] = "fedcba9876543210fedcba987654321";

#define NODE      "node: {name: edge-1}\n"
#define LISTEN    "listeners: [{bind: \"udp://127.0.0.1:5060\", side: outside}]\n"
#define POOLS     "pools: {border: {targets: [\"udp://127.0.0.1:5070\"]}}\n"
#define ROUTES    "routes: [{from: outside, to: registrar}]\n"
#define SMALL     NODE LISTEN POOLS "routes: [{from: outside, to: border}]\n"
#define ROLE(x)   NODE LISTEN ROUTES "roles: {registrar: {" x "}}\n"
#define REST      "auth: none, state: /s"
#define REG(x)    ROLE("domains: [example.com], " REST ", " x)
#define DOMAIN(x) ROLE("domains: [" x "], " REST)

/* ---- a folder with all that a file names ------------------------------------------------------
 */

struct folder {
    char path[64];
};
static struct folder folder;

static const char *in_folder(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", folder.path, name);
    return path;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(in_folder(name), mode), 0);
}

static void write_pair(const char *cert_name, const char *key_name, const char *passphrase)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert_true(key != NULL && cert != NULL);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"edge.example.com", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_file(cert_name, "", 0644);
    FILE *f = fopen(in_folder(cert_name), "w");
    assert_int_equal(PEM_write_X509(f, cert), 1);
    fclose(f);
    write_file(key_name, "", 0600);
    f = fopen(in_folder(key_name), "w");
    assert_int_equal(PEM_write_PrivateKey(f, key, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
                                          NULL, 0, NULL, (void *)(uintptr_t)passphrase),
                     1);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static const char *const names[] = {"a.pem", "a.key",  "b.pem",   "b.key", "l.pem", "l.key",
                                    "w.key", "tokens", "tokens2", "users", "none",  "edge.yaml",
                                    "open",  "others", "broken",  "many"};

static int make_folder(void **state)
{
    (void)state;
    folder = (struct folder){"/tmp/weir-roles-XXXXXX"};
    if (mkdtemp(folder.path) == NULL)
        return -1;
    write_pair("a.pem", "a.key", NULL);
    write_pair("b.pem", "b.key", NULL);
    write_pair("l.pem", "l.key", "secret");
    write_pair("w.pem", "w.key", NULL);
    unlink(in_folder("w.pem"));
    chmod(in_folder("w.key"), 0604);
    write_file("tokens", "the newest of our secrets\nthe secret before it\n", 0600);
    write_file("tokens2", "the secret before it\n", 0600);
    write_file("none", "# nobody yet\n", 0600);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(in_folder(names[i]));
    return rmdir(folder.path);
}

/* What config_load() says about a file of the folder, without the folder's name. */
static struct config *load(const char *text, const struct config *previous, char said[4096])
{
    char *errors = NULL;
    size_t size = 0;
    write_file("edge.yaml", text, 0600);
    FILE *out = open_memstream(&errors, &size);
    struct config *c =
        config_load(in_folder("edge.yaml"), previous, previous == NULL ? key_a : key_b, out);
    fclose(out);
    const char *from = errors;
    size_t n = 0, skip = strlen(folder.path) + 1;
    while (*from != 0 && n < 4095) {
        if (strncmp(from, folder.path, skip - 1) == 0)
            from += skip;
        else
            said[n++] = *from++;
    }
    said[n] = 0;
    free(errors);
    return c;
}

static struct config *good(const char *text)
{
    char said[4096];
    struct config *c = load(text, NULL, said);
    if (c == NULL)
        fail_msg("refused: %s of\n%s", said, text);
    assert_string_equal(said, "");
    return c;
}

static void assert_slice(struct slice s, const char *want)
{
    if (!slice_equal(s, slice_cstr(want)))
        fail_msg("got \"%.*s\", wanted \"%s\"", SLICE_ARG(s), want);
}

/* A path, which is of the folder. */
static void assert_path(struct slice s, const char *name)
{
    assert_slice(s, in_folder(name));
}

/* ---- what is right --------------------------------------------------------------------------- */

static void smallest_registrar_loads(void **state)
{
    (void)state;
    struct config *c =
        good("node: {name: edge-1}\n"
             "listeners:\n"
             "  - {bind: \"tls://127.0.0.1:5061\", side: outside, cert: a.pem, key: a.key}\n"
             "routes:\n"
             "  - {from: outside, method: REGISTER, to: registrar}\n"
             "  - {from: outside, to: registrar}\n"
             "roles:\n"
             "  registrar: {domains: [example.com], auth: none, state: /var/lib/weir}\n");
    const struct edge_opts *o = &c->engine.edge;
    assert_int_equal(o->listener[0].transport, TP_TLS);
    assert_int_equal(c->listener[0].cert_count, 1);
    assert_path(c->listener[0].certs[0].cert, "a.pem");
    assert_path(c->listener[0].certs[0].key, "a.key");
    assert_int_equal(c->listener[0].client_ca.n, 0);
    assert_false(c->listener[0].client_required);
    assert_int_equal(o->pool_count, 0);
    assert_int_equal(o->rule_count, 2);
    assert_int_equal(o->rules[0].role, ROLE_REGISTRAR);
    assert_slice(o->rules[0].method, "REGISTER");
    assert_int_equal(o->rules[1].role, ROLE_REGISTRAR);
    const struct registrar_opts *r = &o->registrar;
    assert_true(r->on);
    assert_false(r->digest);
    assert_int_equal(r->domain_count, 1);
    assert_slice(r->domains[0], "example.com");
    assert_int_equal(r->expires_min_s, 60);
    assert_int_equal(r->expires_default_s, 600);
    assert_int_equal(r->expires_max_s, 3600);
    assert_int_equal(r->expires_jitter_percent, 10);
    assert_int_equal(r->contacts_max, 10);
    assert_int_equal(r->fork, REGISTRAR_FORK_Q);
    assert_false(r->require_outbound);
    assert_int_equal(r->flow_timer_s, 90);
    assert_int_equal(r->service_route.n, 0);
    assert_ptr_equal(r->keys, &o->keys);
    assert_slice(c->state, "/var/lib/weir");
    assert_true(c->state_bytes_max == (uint64_t)1 << 30);
    assert_int_equal(c->engine.limits.bindings, 100000);
    assert_int_equal(c->handshakes_max, 256);
    assert_int_equal(c->handshake_within, 10 * NS_S);
    assert_int_equal(o->path, PATH_HEADER);
    assert_int_equal(o->keepalive.every, 30 * NS_S);
    assert_int_equal(o->keepalive.max, 120 * NS_S);
    assert_int_equal(o->keepalive.jitter_percent, 20);
    assert_int_equal(o->keepalive.udp, 24 * NS_S);
    assert_int_equal(o->keepalive.mobile_every, 600 * NS_S);
    assert_int_equal(o->keepalive.mobile_agent_count, 0);
    assert_int_equal(o->fleet_count, 0);
    config_free(c);
}

/* Without the role nothing of it is there. */
static void an_edge_alone_has_no_registrar(void **state)
{
    (void)state;
    struct config *c = good(SMALL);
    const struct registrar_opts none = {0};
    assert_memory_equal(&c->engine.edge.registrar, &none, sizeof none);
    assert_int_equal(c->state.n, 0);
    assert_int_equal(c->engine.limits.bindings, 0);
    assert_int_equal(c->engine.edge.rules[0].role, ROLE_NONE);
    config_free(c);
}

static const char full_text[] =
    "node: {name: edge-1, id: 1}\n"
    "secrets: {tokens: tokens}\n"
    "fleet: [{id: 2, inside: \"udp://10.0.0.6\"}, {id: 65535, inside: \"tcp://10.0.0.7:5080\"}]\n"
    "listeners:\n"
    "  - {bind: \"tls://127.0.0.1\", side: outside, cert: a.pem, key: a.key, client_ca: b.pem,\n"
    "     certs: [{cert: b.pem, key: b.key}, {cert: a.pem, key: a.key}]}\n"
    "  - {bind: \"ws://127.0.0.1\", side: outside,\n"
    "     origins: [\"HTTPS://App.Example.com\", \"http://localhost:8080\"]}\n"
    "  - {bind: \"wss://127.0.0.1\", side: outside, cert: b.pem, key: b.key, client_ca: a.pem,\n"
    "     client_cert: optional, origins: [\"https://a.example:443\", "
    "\"https://[2001:DB8::1]:8\"]}\n"
    "  - {bind: \"tls://127.0.0.2:5061\", side: inside, cert: b.pem, key: b.key, client_ca: "
    "a.pem,\n"
    "     client_cert: none}\n"
    "  - {bind: \"udp://10.0.0.5\", side: inside}\n"
    "pools: {border: {targets: [\"udp://10.0.1.10\"]}}\n"
    "routes: [{from: outside, method: REGISTER, to: registrar}, {to: border}]\n"
    "roles:\n"
    "  registrar:\n"
    "    domains: [Example.COM, \"[2001:db8::1]\", 192.0.2.1]\n"
    "    auth: {digest: users, realm: sip users, nonce_life: 1m, offer: [md5, sha-256]}\n"
    "    state: state\n"
    "    state_size: 512MiB\n"
    "    expires: {min: 30s, default: 1m, max: 24h, jitter: 0%}\n"
    "    contacts: 32\n"
    "    fork: parallel\n"
    "    require_outbound: true\n"
    "    flow_timer: off\n"
    "    service_route: \"<sip:edge.example.com;lr>, <sips:a,b@c.example;lr>\"\n"
    "limits: {bindings: 2000}\n"
    "outbound: {path: contact}\n"
    "keepalive: {every: 10s, max: 10s, jitter: 0%, udp: 2m,\n"
    "  mobile: {every: 12h, agents: [iOS, Linphone-Android_4.6]}}\n"
    "tls: {handshakes: 8, within: 2s}\n";

static void fuller_listeners(void **state)
{
    (void)state;
    write_file("users", "alice:sip users:00112233445566778899AABBCCDDEEFF\n", 0600);
    struct config *c = good(full_text);
    const struct edge_listener *e = c->engine.edge.listener;
    static const uint16_t ports[] = {5061, 80, 443, 5061, 5060};
    static const uint8_t transports[] = {TP_TLS, TP_WS, TP_WSS, TP_TLS, TP_UDP};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(e[i].port, ports[i]);
        assert_int_equal(e[i].bind.port, ports[i]);
        assert_int_equal(e[i].transport, transports[i]);
    }
    const struct config_listener *l = c->listener;
    assert_int_equal(l[0].cert_count, 3);
    assert_path(l[0].certs[1].cert, "b.pem");
    assert_path(l[0].certs[1].key, "b.key");
    assert_path(l[0].certs[2].key, "a.key");
    assert_path(l[0].client_ca, "b.pem");
    assert_true(l[0].client_required);
    assert_int_equal(l[0].origin_count, 0);
    assert_int_equal(l[1].cert_count, 0);
    assert_int_equal(l[1].origin_count, 2);
    assert_slice(l[1].origins[0], "https://app.example.com");
    assert_slice(l[1].origins[1], "http://localhost:8080");
    assert_path(l[2].client_ca, "a.pem");
    assert_false(l[2].client_required);
    assert_slice(l[2].origins[0], "https://a.example");
    assert_slice(l[2].origins[1], "https://[2001:db8::1]:8");
    assert_int_equal(l[3].client_ca.n, 0);
    assert_false(l[3].client_required);
    assert_int_equal(l[4].cert_count, 0);
    config_free(c);
}

static void fuller_roles(void **state)
{
    (void)state;
    write_file("users", "alice:sip users:00112233445566778899AABBCCDDEEFF\n", 0600);
    struct config *c = good(full_text);
    const struct edge_opts *o = &c->engine.edge;
    const struct registrar_opts *r = &o->registrar;
    assert_int_equal(r->domain_count, 3);
    assert_slice(r->domains[0], "example.com");
    assert_slice(r->domains[1], "[2001:db8::1]");
    assert_slice(r->domains[2], "192.0.2.1");
    assert_true(r->digest);
    assert_int_equal(r->offer_count, 2);
    assert_int_equal(r->offer[0], DIGEST_MD5);
    assert_int_equal(r->offer[1], DIGEST_SHA256);
    assert_slice(r->realm, "sip users");
    assert_int_equal(r->nonce_life_s, 60);
    assert_int_equal(r->user_count, 1);
    assert_path(c->state, "state");
    assert_true(c->state_bytes_max == 512u << 20);
    assert_int_equal(r->expires_min_s, 30);
    assert_int_equal(r->expires_default_s, 60);
    assert_int_equal(r->expires_max_s, 86400);
    assert_int_equal(r->expires_jitter_percent, 0);
    assert_int_equal(r->contacts_max, 32);
    assert_int_equal(r->fork, REGISTRAR_FORK_PARALLEL);
    assert_true(r->require_outbound);
    assert_int_equal(r->flow_timer_s, 0);
    assert_slice(r->service_route, "<sip:edge.example.com;lr>, <sips:a,b@c.example;lr>");
    assert_int_equal(c->engine.limits.bindings, 2000);
    assert_int_equal(o->path, PATH_CONTACT);
    assert_int_equal(o->keepalive.every, 10 * NS_S);
    assert_int_equal(o->keepalive.jitter_percent, 0);
    assert_int_equal(o->keepalive.udp, 120 * NS_S);
    assert_int_equal(o->keepalive.mobile_every, 12 * 3600 * NS_S);
    assert_int_equal(o->keepalive.mobile_agent_count, 2);
    assert_slice(o->keepalive.mobile_agents[1], "Linphone-Android_4.6");
    assert_int_equal(c->handshakes_max, 8);
    assert_int_equal(c->handshake_within, 2 * NS_S);
    assert_int_equal(o->fleet_count, 2);
    assert_int_equal(o->fleet[0].id, 2);
    assert_int_equal(o->fleet[0].transport, TP_UDP);
    assert_int_equal(o->fleet[0].addr.port, 5060);
    assert_int_equal(o->fleet[1].id, 65535);
    assert_int_equal(o->fleet[1].transport, TP_TCP);
    assert_int_equal(o->fleet[1].addr.ip[3], 7);
    assert_int_equal(o->rules[0].role, ROLE_REGISTRAR);
    assert_int_equal(o->rules[1].role, ROLE_NONE);
    config_free(c);
}

static void words_stand_for_nothing(void **state)
{
    (void)state;
    struct config *c = good(SMALL "keepalive: {every: off, udp: off}\noutbound: {path: off}\n");
    assert_int_equal(c->engine.edge.keepalive.every, 0);
    assert_int_equal(c->engine.edge.keepalive.udp, 0);
    assert_int_equal(c->engine.edge.path, PATH_OFF);
    config_free(c);
}

#define SECURE(targets, rest)                                                                      \
    NODE LISTEN "pools: {border: {targets: [" targets "]" rest "}}\n"                              \
                "routes: [{from: outside, to: border}]\n"

static const struct edge_peer *peer_of_target(const struct config *c, unsigned pool, unsigned i)
{
    uint32_t at = c->engine.edge.pools[pool].targets[i].peer;
    return at > 0 ? &c->engine.edge.peers[at - 1] : NULL;
}

static void who_is_expected_over_tls(void **state)
{
    (void)state;
    struct config *c = good(
        "node: {name: edge-1, id: 1}\n"
        "secrets: {tokens: tokens}\n"
        "tls: {ca: a.pem, cert: b.pem, key: b.key}\n"
        "listeners:\n"
        "  - {bind: \"tls://127.0.0.1\", side: inside, cert: b.pem, key: b.key, client_ca: a.pem}\n"
        "  - {bind: \"udp://127.0.0.1\", side: outside}\n"
        "pools:\n"
        "  one: {targets: [\"udp://10.0.0.9\", {uri: \"tls://10.0.0.2\", name: PBX.Example.com},\n"
        "                  {uri: \"tls://10.0.0.1:5071\", name: \"[2001:db8::1]\"}]}\n"
        "  two: {targets: [{uri: \"tls://10.0.0.2\", name: pbx.example.com}, \"tls://10.0.0.3\"],\n"
        "        tls: {ca: b.pem}}\n"
        "  any: {targets: [\"tls://10.0.0.4\"], tls: {verify: false, cert: a.pem, key: a.key}}\n"
        "routes: [{from: outside, to: one}]\n"
        "fleet: [{id: 2, inside: \"tls://10.0.0.8\", name: e2.example.com}]\n");
    const struct edge_opts *o = &c->engine.edge;
    assert_int_equal(o->peer_count, 6);
    for (uint32_t i = 1; i < o->peer_count; i++)
        assert_true(memcmp(&o->peers[i - 1].addr, &o->peers[i].addr, sizeof(struct addr)) <= 0);
    assert_null(peer_of_target(c, 0, 0));
    const struct edge_peer *pbx = peer_of_target(c, 0, 1), *six = peer_of_target(c, 0, 2);
    const struct edge_peer *other = peer_of_target(c, 1, 0), *plain = peer_of_target(c, 1, 1);
    const struct edge_peer *any = peer_of_target(c, 2, 0), *fleet = &o->peers[5];
    assert_slice(pbx->name, "pbx.example.com");
    assert_int_equal(pbx->addr.port, 5061);
    assert_true(pbx->shows_cert);
    assert_slice(six->name, "2001:db8::1");
    assert_slice(plain->name, "10.0.0.3");
    /* By the file, by the pool, by nobody. */
    assert_true(pbx->vouchers == o->listener[0].vouchers && pbx->vouchers != 0);
    assert_int_equal(o->listener[1].vouchers, 0);
    assert_true(other->vouchers != pbx->vouchers && other->vouchers != 0);
    assert_true(any->vouchers == 0 && any->shows_cert);
    /* The same name at the same address is another peer when others may vouch for it. */
    assert_true(other->expects != pbx->expects && pbx->expects != 0);
    assert_int_equal(c->tls_client_count, 4);
    const struct config_tls_client *all = c->tls_clients;
    assert_path(all[pbx->client].ca, "a.pem");
    assert_path(all[pbx->client].cert, "b.pem");
    assert_path(all[other->client].ca, "b.pem");
    assert_path(all[other->client].key, "b.key");
    assert_true(all[other->client].verify);
    assert_false(all[any->client].verify);
    assert_path(all[any->client].key, "a.key");
    assert_slice(fleet->name, "e2.example.com");
    assert_int_equal(fleet->client, 0);
    assert_slice(all[other->client].where, "pool two: tls");
    config_free(c);

    c = good(SECURE("\"tls://10.0.0.1\"", ""));
    assert_true(c->tls_clients[1].verify); /* by those of the system */
    assert_int_equal(c->tls_clients[1].ca.n, 0);
    assert_int_equal(c->engine.edge.peers[0].vouchers, 0);
    config_free(c);
    c = good(SMALL);
    assert_int_equal(c->tls_client_count, 0);
    config_free(c);
}

/* ---- what is wrong --------------------------------------------------------------------------- */

#define LISTENER(line)                                                                             \
    NODE "listeners:\n  - " line "\n" ROUTES "roles: {registrar: {" DOMAINS "}}\n"
#define DOMAINS   "domains: [example.com], " REST
#define TLS(rest) LISTENER("{bind: \"tls://10.0.0.1\", side: outside" rest "}")
#define FLEET(list)                                                                                \
    "node: {name: edge-1, id: 1}\nsecrets: {tokens: tokens}\n" LISTEN POOLS                        \
    "routes: [{from: outside, to: border}]\nfleet: [" list "]\n"

struct bad {
    const char *name, *text;
    const char *want; /* all of the errors, or how they begin when it ends without a newline */
};

static void check_bad(const struct bad *bad, size_t count)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++) {
        char said[4096];
        struct config *c = load(bad[i].text, NULL, said);
        char want[2048];
        snprintf(want, sizeof want, "edge.yaml:%s", bad[i].want);
        size_t n = strlen(want);
        bool whole = want[n - 1] == '\n';
        if (c != NULL || (whole ? strcmp(said, want) : strncmp(said, want, n)) != 0) {
            print_error("%s:\n got    %s wanted %s\n", bad[i].name, said, want);
            wrong++;
        }
        config_free(c);
    }
    if (wrong > 0)
        fail_msg("%u cases", wrong);
}

static const struct bad bad_listeners[] = {
    {"tls without", TLS(""),
     "3:5: a tls listener has no `cert`; add cert: edge.pem\n"
     "edge.yaml:3:5: a tls listener has no `key`; add key: edge.key\n"},
    {"wss without a key", LISTENER("{bind: \"wss://10.0.0.1\", side: outside, cert: a.pem}"),
     "3:5: a wss listener has no `key`; add key: edge.key\n"},
    {"certificates elsewhere",
     LISTENER("{bind: \"udp://10.0.0.1\", side: outside, cert: a.pem, key: a.key, certs: [],\n"
              "     client_ca: a.pem, client_cert: none, origins: []}"),
     "3:45: `cert` belongs to tls and wss listeners; take it out, or change `bind`\n"
     "edge.yaml:3:58: `key` belongs to tls and wss listeners; take it out, or change `bind`\n"
     "edge.yaml:3:70: `certs` belongs to tls and wss listeners; take it out, or change `bind`\n"
     "edge.yaml:4:6: `client_ca` belongs to tls and wss listeners; take it out, or change `bind`\n"
     "edge.yaml:4:24: `client_cert` belongs to tls and wss listeners; take it out, or change "
     "`bind`\n"
     "edge.yaml:4:43: `origins` belongs to ws and wss listeners; take it out, or change `bind`\n"},
    {"ws with a certificate", LISTENER("{bind: \"ws://10.0.0.1\", side: outside, cert: a.pem}"),
     "3:44: `cert` belongs to tls and wss listeners; take it out, or change `bind`\n"},
    {"tls with origins", TLS(", cert: a.pem, key: a.key, origins: [\"https://a.b\"]"),
     "3:70: `origins` belongs to ws and wss listeners"},
    {"no such certificate", TLS(", cert: x.pem, key: a.key"),
     "3:51: `x.pem` cannot be read: No such file or directory; write the path of a PEM file of "
     "certificates\n"},
    {"no such key", TLS(", cert: a.pem, key: x.key"),
     "3:63: `x.key` cannot be read: No such file or directory; write the path of a PEM file of a "
     "private key\n"},
    {"another key", TLS(", cert: a.pem, key: b.key"),
     "3:63: `b.key` is not the key of `a.pem`; write the two that were made together\n"},
    {"the two changed about", TLS(", cert: a.key, key: a.pem"),
     "3:51: `a.key` begins with no certificate; write a PEM file, -----BEGIN CERTIFICATE-----\n"
     "edge.yaml:3:63: `a.pem` is open to every user of this machine (mode 644); chmod o= it, and "
     "change it for a new one\n"},
    {"a key that all can read", TLS(", cert: a.pem, key: w.key"),
     "3:63: `w.key` is open to every user of this machine (mode 604); chmod o= it, and change it "
     "for a new one\n"},
    {"no key in it", TLS(", cert: a.pem, key: tokens"),
     "3:63: `tokens` holds no private key; write a PEM file, -----BEGIN PRIVATE KEY-----\n"},
    {"a key with a passphrase", TLS(", cert: l.pem, key: l.key"),
     "3:63: `l.key` asks for a passphrase, and nobody is there to type one; write a PEM file, "
     "-----BEGIN PRIVATE KEY-----\n"},
    {"another certificate without its key",
     TLS(", cert: a.pem, key: a.key, certs: [{cert: b.pem}]"),
     "3:78: a certificate has no `key`; add key: edge2.key\n"},
    {"another certificate with another key",
     TLS(", cert: a.pem, key: a.key, certs: [{cert: b.pem, key: a.key}]"),
     "3:97: `a.key` is not the key of `b.pem`; write the two that were made together\n"},
    {"no such authority", TLS(", cert: a.pem, key: a.key, client_ca: /dev/null"),
     "3:81: `/dev/null` cannot be read: not a regular file; write the path of a PEM file of "
     "certificates\n"},
    {"clients without an authority", TLS(", cert: a.pem, key: a.key, client_cert: required"),
     "3:83: nobody could sign such a certificate; add client_ca: FILE\n"},
    {"clients in another word",
     TLS(", cert: a.pem, key: a.key, client_ca: b.pem, client_cert: maybe"),
     "3:101: `client_cert` does not take `maybe`; write none, optional or required\n"},
    {"origin with a path",
     LISTENER("{bind: \"ws://10.0.0.1\", side: outside, origins: [\"https://a.b/\"]}"),
     "3:54: `https://a.b/` has a path, which no Origin has; write `https://a.b`\n"},
    {"origin without a scheme",
     LISTENER("{bind: \"ws://10.0.0.1\", side: outside, origins: [app.example.com]}"),
     "3:54: `app.example.com` is not an origin; write https://app.example.com\n"},
    {"origin of nobody",
     LISTENER("{bind: \"ws://10.0.0.1\", side: outside, origins: [\"https://\", \"*\"]}"),
     "3:54: `` is neither an address nor a host name"},
    {"a port of TCP twice",
     NODE "listeners:\n  - {bind: \"tcp://10.0.0.1:443\", side: outside}\n"
          "  - {bind: \"ws://10.0.0.1:443\", side: outside}\n" ROUTES "roles: {registrar: {" DOMAINS
          "}}\n",
     "4:12: `ws://10.0.0.1:443` is bound by the listener on line 3 already; take one of them "
     "out\n"},
    {"transport misspelt", LISTENER("{bind: \"tsl://10.0.0.1\", side: outside}"),
     "3:12: `tsl://10.0.0.1` begins with no transport; did you mean `tls://`?\n"},
    {"no transport", LISTENER("{bind: \"sctp4://10.0.0.1\", side: outside}"),
     "3:12: `sctp4://10.0.0.1` begins with no transport; write udp://HOST:PORT or tcp://, tls://, "
     "ws:// or wss://\n"},
    {"listener by name", LISTENER("{bind: \"wss://localhost\", side: outside}"),
     "3:12: `localhost` is a name; a listener needs an address of this machine, such as "
     "wss://10.0.0.5:443\n"},
};

static void listeners_must_be_good(void **state)
{
    (void)state;
    check_bad(bad_listeners, sizeof bad_listeners / sizeof bad_listeners[0]);
}

static const struct bad bad_roles[] = {
    {"nothing", ROLE(""),
     "4:20: roles.registrar has no `domains`; add domains: [example.com]\n"
     "edge.yaml:4:20: roles.registrar has no `auth`; add auth: {digest: users.txt}, or none\n"
     "edge.yaml:4:20: roles.registrar has no `state`; add state: /var/lib/weir\n"},
    {"switched on", NODE LISTEN ROUTES "roles: {registrar: on}\n",
     "4:20: `registrar` is a single value; write a mapping: {KEY: VALUE}"},
    {"another role", SMALL "roles: {registar: {}}\n",
     "5:9: `registar` is not a key of roles; did you mean `registrar`?\n"},
    {"border", SMALL "roles: {border: {}}\n", "5:9: `border` is not in this version"},
    {"a route to nobody", NODE LISTEN POOLS ROUTES,
     "4:30: no registrar runs here; add roles: {registrar: {...}}, or write the name of a pool\n"},
    {"a route to nobody, no pools", NODE LISTEN ROUTES, "3:30: no registrar runs here; add roles"},
    {"a route misspelt",
     NODE LISTEN "routes: [{to: registar}]\nroles: {registrar: {" DOMAINS "}}\n",
     "3:15: no pool is called `registar`; did you mean `registrar`?\n"},
    {"no pools at all", NODE LISTEN "routes: [{to: border}]\nroles: {registrar: {" DOMAINS "}}\n",
     "3:15: no pool is called `border`; add pools: {border: {targets: [\"udp://...\"]}}, or write "
     "registrar\n"},
    {"a pool like a role",
     NODE LISTEN "pools:\n  registrar: {targets: [\"udp://10.0.0.1\"]}\n" ROUTES
                 "roles: {registrar: {" DOMAINS "}}\n",
     "4:3: `registrar` is the name of a role, and a route could mean either; write another\n"},
    {"a pool like a role that does not run",
     NODE LISTEN "pools:\n  registrar: {targets: [\"udp://10.0.0.1\"]}\n" ROUTES,
     "4:3: `registrar` is the name of a role, and a route could mean either; write another\n"},

    {"no domain", DOMAIN(""), "4:30: `domains` is empty; at least one domain is needed\n"},
    {"a domain twice", DOMAIN("example.com, a.example, EXAMPLE.com"),
     "4:55: `example.com` stands here twice; keep one of them\n"},
    {"a domain with a port", DOMAIN("\"example.com:5060\""),
     "4:31: `example.com:5060` is more than a domain; write example.com, without user or port\n"},
    {"a domain with a user", DOMAIN("a@example.com"),
     "4:31: `a@example.com` is more than a domain"},
    {"a domain with a star", DOMAIN("\"*.example.com\""),
     "4:31: `*.example.com` is not a domain; write example.com\n"},
    {"a bare IPv6 domain", DOMAIN("\"2001:db8::1\""),
     "4:31: `2001:db8::1` has an IPv6 address without brackets; write [2001:db8::1]\n"},

    {"auth off", ROLE("domains: [example.com], state: /s, auth: off"),
     "4:62: `auth` is a single value; write a mapping, {KEY: VALUE}, or none\n"},
    {"auth by nothing", ROLE("domains: [example.com], state: /s, auth: {}"),
     "4:62: auth has no `digest`; add digest: users.txt\n"},
    {"realm", ROLE("domains: [example.com], state: /s, auth: {digest: none, realm: \"a:b\"}"),
     "4:84: `a:b` is not a realm; write 1 to 128 letters of ASCII without quotes, backslashes and "
     "colons\n"},
    {"nonces", ROLE("domains: [example.com], state: /s, auth: {digest: none, nonce_life: 1s}"),
     "4:89: `1s` is out of range; write 10s to 24h\n"},
    {"an algorithm twice",
     ROLE("domains: [example.com], state: /s, auth: {digest: none, offer: [md5, md5]}"),
     "4:90: `md5` stands here twice; keep one of them\n"},
    {"an unknown algorithm",
     ROLE("domains: [example.com], state: /s, auth: {digest: none, offer: [md4]}"),
     "4:85: `algorithm` does not take `md4`; did you mean `md5`?\n"},
    {"no algorithm", ROLE("domains: [example.com], state: /s, auth: {digest: none, offer: []}"),
     "4:"},
    {"no users", ROLE("domains: [example.com], state: /s, auth: {digest: x}"),
     "4:71: `x` cannot be read: No such file or directory; write a readable file of "
     "USER:REALM:HA1 lines\n"},

    {"size without a unit", REG("state_size: 1000000"),
     "4:80: `1000000` is not a size; write a whole number and B, KiB, MiB, GiB or TiB, 1MiB to "
     "1TiB\n"},
    {"size of another unit", REG("state_size: 1GB"), "4:80: `1GB` is not a size"},
    {"size too small", REG("state_size: 1KiB"),
     "4:80: `1KiB` is out of range; write 1MiB to 1TiB\n"},
    {"size too large", REG("state_size: 4294967295TiB"), "4:80: `4294967295TiB` is out of range"},
    {"parts of seconds", REG("expires: {min: 1500ms}"),
     "4:83: `1500ms` is not a whole number of seconds; write 1s to 24h\n"},
    {"min over default", REG("expires: {default: 30s}"),
     "4:87: `min` is longer than `default`; write at most 30s, or a longer `default`\n"},
    {"default over max", REG("expires: {max: 5m}"),
     "4:83: `default` is longer than `max`; write at most 5m, or a longer `max`\n"},
    {"jitter", REG("expires: {jitter: 51%}"), "4:86: `51%` is out of range; write 0% to 50%\n"},
    {"contacts", REG("contacts: 33"), "4:78: 33 is out of range; write 1 to 32\n"},
    {"fork", REG("fork: paralel"), "4:74: `fork` does not take `paralel`; did you mean `parallel`"},
    {"flow timer", REG("flow_timer: 1s"), "4:80: `1s` is out of range; write 10s to 1h or off\n"},
    {"no route", REG("service_route: \"\""),
     "4:83: `` is empty or too long; write \"<sip:edge.example.com;lr>\", more with commas\n"},
    {"route without brackets", REG("service_route: \"sip:edge.example.com;lr\""),
     "4:83: `sip:edge.example.com;lr` is no address in < >"},
    {"route without lr", REG("service_route: \"<sip:a.example;lr>, <sip:b.example>\""),
     "4:83: `<sip:a.example;lr>, <sip:b.example>` has no ;lr"},
    {"route with nothing behind", REG("service_route: \"<sip:a.example;lr>,\""),
     "4:83: `<sip:a.example;lr>,` is no address in < >"},
    {"route to a telephone", REG("service_route: \"<tel:+1>\""), "4:83: `<tel:+1>` holds no sip:"},
    {"route with a line break", REG("service_route: \"<sip:a.example;lr>\\r\\nX: y\""),
     "4:83: `<sip:a.example;lr>\\x0d\\x0aX: y` holds more than ASCII"},
    {"a key of the registrar", REG("domain: x"),
     "4:68: `domain` is not a key of roles.registrar; did you mean `domains`?\n"},
    {"bindings", SMALL "limits: {bindings: 1}\n", "5:20: 1 is out of range; write 16 to 8388608"},

    {"keepalive", SMALL "keepalive: {every: 3m}\n",
     "5:20: `every` is longer than `max`; write at most 2m, or a longer `max`\n"},
    {"keepalive too often", SMALL "keepalive: {every: 500ms}\n",
     "5:20: `500ms` is out of range; write 1s to 1h or off\n"},
    {"keepalive of UDP", SMALL "keepalive: {udp: 2h}\n",
     "5:18: `2h` is out of range; write 1s to 1h or off\n"},
    {"mobile without an end", SMALL "keepalive: {mobile: {every: off}}\n", "5:29: `off` is"},
    {"an agent of two words", SMALL "keepalive: {mobile: {agents: [\"a b\"]}}\n",
     "5:31: `a b` is not a name"},
    {"path", SMALL "outbound: {path: contacts}\n",
     "5:18: `path` does not take `contacts`; did you mean `contact`?\n"},
    {"handshakes", SMALL "tls: {handshakes: 0}\n", "5:19: 0 is out of range; write 1 to 65536\n"},
    {"handshakes without end", SMALL "tls: {within: 1h}\n",
     "5:15: `1h` is out of range; write 100ms to 5m\n"},
};

static void roles_must_be_good(void **state)
{
    (void)state;
    check_bad(bad_roles, sizeof bad_roles / sizeof bad_roles[0]);
}

static const struct bad bad_fleets[] = {
    {"no number of our own, no secrets", SMALL "fleet: [{id: 2, inside: \"udp://10.0.0.6\"}]\n",
     "5:1: with `fleet` this edge needs a number of its own; add node: {id: 1}, another number on "
     "each edge\n"
     "edge.yaml:5:1: edges of a fleet read each other's tokens; add secrets: {tokens: FILE}, the "
     "same file on all\n"},
    {"number 0",
     "node: {name: edge-1, id: 0}\nsecrets: {tokens: tokens}\n" LISTEN POOLS
     "routes: [{to: border}]\nfleet: [{id: 2, inside: \"udp://10.0.0.6\"}]\n",
     "1:26: 0 is nobody's number in a fleet; write 1 to 65535\n"},
    {"ourselves", FLEET("{id: 1, inside: \"udp://10.0.0.6\"}"),
     "6:14: 1 is our own node.id; take us out of the list\n"},
    {"twice", FLEET("{id: 2, inside: \"udp://10.0.0.6\"},\n  {id: 2, inside: \"udp://10.0.0.7\"}"),
     "7:8: the neighbour on line 6 has the id 2 already\n"},
    {"number 0 of another", FLEET("{id: 0, inside: \"udp://10.0.0.6\"}"),
     "6:14: 0 is out of range; write 1 to 65535\n"},
    {"our own address", FLEET("{id: 2, inside: \"udp://127.0.0.1\"}"),
     "6:25: `udp://127.0.0.1` is our own listener of line 3: requests would run in a circle"},
    {"nobody's address", FLEET("{id: 2, inside: \"udp://224.0.0.1\"}"),
     "6:25: nobody can be reached at `udp://224.0.0.1`"},
    {"out of reach", FLEET("{id: 2, inside: \"udp://[2001:db8::1]\"}"),
     "6:25: no listener can send to `udp://[2001:db8::1]`"},
    {"wss", FLEET("{id: 2, inside: \"wss://10.0.0.6\"}"),
     "6:25: wss:// is how browsers come, no way to a server; write udp://, tcp:// or tls://\n"},
    {"a name that nobody is asked for",
     FLEET("{id: 2, inside: \"udp://10.0.0.6\", name: e2.example.com}"),
     "6:43: nobody is asked for a name over udp; take `name` out, or write tls://\n"},
    {"no address", FLEET("{id: 2}"),
     "6:9: a neighbour has no `inside`; add inside: \"udp://10.0.0.6:5060\"\n"},
    {"only an address", FLEET("\"udp://10.0.0.6\""),
     "6:9: a neighbour is a mapping: {KEY: VALUE}; this is a single value\n"},
};

static const struct bad bad_clients[] = {
    {"no such authority", SECURE("\"tls://10.0.0.1\"", ", tls: {ca: x.pem}"),
     "3:57: `x.pem` cannot be read: No such file or directory; write the path of a PEM file of "
     "certificates\n"},
    {"no certificate in it", SECURE("\"tls://10.0.0.1\"", ", tls: {ca: tokens}"),
     "3:57: `tokens` begins with no certificate"},
    {"another key", SECURE("\"tls://10.0.0.1\"", ", tls: {cert: a.pem, key: b.key}"),
     "3:71: `b.key` is not the key of `a.pem`; write the two that were made together\n"},
    {"a key that all can read", SECURE("\"tls://10.0.0.1\"", ", tls: {cert: a.pem, key: w.key}"),
     "3:71: `w.key` is open to every user of this machine (mode 604)"},
    {"no key", SECURE("\"tls://10.0.0.1\"", ", tls: {cert: a.pem}"),
     "3:53: `cert` has no `key` beside it; add key: edge.key\n"},
    {"no certificate", SECURE("\"tls://10.0.0.1\"", ", tls: {key: a.key}"),
     "3:53: `key` has no `cert` beside it; add cert: edge.pem\n"},
    {"nobody to sign for nobody", SECURE("\"tls://10.0.0.1\"", ", tls: {verify: false, ca: a.pem}"),
     "3:68: with verify: false nobody is asked for who signed; take `ca` or `verify` out\n"},
    {"a section without use", SECURE("\"udp://10.0.0.1\"", ", tls: {ca: a.pem}"),
     "3:47: no target of this pool is tls://; take `tls` out, or write tls://HOST:PORT\n"},
    {"a name without use", SECURE("{uri: \"tcp://10.0.0.1\", name: a.b}", ""),
     "3:52: nobody is asked for a name over tcp; take `name` out, or write tls://\n"},
    {"a name with a port", SECURE("{uri: \"tls://10.0.0.1\", name: \"a.b:1\"}", ""),
     "3:58: `a.b:1` is more than a name; write example.com, without user or port\n"},
    {"of the file", SMALL "tls: {ca: x.pem}\n", "5:11: `x.pem` cannot be read"},
    {"of the file, in two", SMALL "tls: {cert: a.pem}\n", "5:7: `cert` has no `key` beside it"},
    {"ourselves",
     NODE "listeners: [{bind: \"tls://127.0.0.1\", side: inside, cert: a.pem, key: "
          "a.key},\n  {bind: \"udp://127.0.0.1\", side: outside}]\n"
          "pools: {border: {targets: [\"tls://127.0.0.1\"]}}\n"
          "routes: [{from: outside, to: border}]\n",
     "4:28: `tls://127.0.0.1` is our own listener of line 2"},
};

static void clients_must_be_good(void **state)
{
    (void)state;
    check_bad(bad_clients, sizeof bad_clients / sizeof bad_clients[0]);
}

static void fleet_must_be_good(void **state)
{
    (void)state;
    check_bad(bad_fleets, sizeof bad_fleets / sizeof bad_fleets[0]);
}

/* ---- credentials ----------------------------------------------------------------------------- */

#define DIGEST                                                                                     \
    NODE LISTEN ROUTES                                                                             \
        "roles: {registrar: {domains: [example.com], state: /s, auth: {digest: users}}}\n"
#define MD5_A "00112233445566778899aabbccddeeff"
#define MD5_B "ffeeddccbbaa99887766554433221100"
#define SHA   MD5_A MD5_B

static void users_are_read(void **state)
{
    (void)state;
    write_file("users",
               "# USER:REALM:HA1\n"
               "zoe:example.com:" MD5_B "\n"
               "\n"
               "  alice:example.com:" MD5_A ":" SHA "\r\n"
               "bob:elsewhere.example:" MD5_A "\n"
               "J\xc3\xbcrgen x:example.com::" SHA "\n"
               "al:example.com:" MD5_A ":",
               0640);
    struct config *c = good(DIGEST);
    const struct registrar_opts *o = &c->engine.edge.registrar;
    assert_slice(o->realm, "example.com");
    assert_int_equal(o->nonce_life_s, 300);
    assert_int_equal(o->user_count, 4);
    static const char *const want[] = {"J\xc3\xbcrgen x", "al", "alice", "zoe"};
    for (unsigned i = 0; i < 4; i++)
        assert_slice(o->users[i].name, want[i]);
    static const uint8_t md5[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                    0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    assert_false(o->users[0].has_md5);
    assert_true(o->users[0].has_sha256);
    assert_true(o->users[1].has_md5);
    assert_false(o->users[1].has_sha256);
    assert_true(o->users[2].has_md5 && o->users[2].has_sha256);
    assert_memory_equal(o->users[2].ha1_md5, md5, 16);
    assert_memory_equal(o->users[2].ha1_sha256, md5, 16);
    assert_int_equal(o->users[2].ha1_sha256[16], 0xff);
    assert_int_equal(o->users[3].ha1_md5[0], 0xff);
    config_free(c);

    write_file("users", "# nobody yet\n", 0600);
    c = good(DIGEST);
    assert_true(c->engine.edge.registrar.digest);
    assert_int_equal(c->engine.edge.registrar.user_count, 0);
    config_free(c);
}

static void users_must_be_good(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *want;
        mode_t mode;
    } cases[] = {
        {"open to all", "a:example.com:" MD5_A "\n",
         "edge.yaml:4:71: `users` is open to every user of this machine (mode 604); chmod o= it, "
         "and change its passwords\n",
         0604},
        {"a password", "# x\na:example.com:hunter2\n",
         "users:2:15: the hash is not one of MD5; write 32 hex digits, never a password\n", 0600},
        {"no hash", "a:example.com:\n", "users:1:15: a user without a hash; write USER:REALM:HA1\n",
         0600},
        {"no hash at all", "a:example.com\n", "users:1:1: no credentials; write USER:REALM:HA1\n",
         0600},
        {"one word", "alice\n", "users:1:1: no credentials; write USER:REALM:HA1\n", 0600},
        {"nobody", ":example.com:" MD5_A "\n", "users:1:1: `` is not a user; write 1 to 128", 0600},
        {"a quote", "a\"b:example.com:" MD5_A "\n", "users:1:1: `a\"b` is not a user", 0600},
        {"another letter", "a:example.com:" MD5_A "g\n", "users:1:15: the hash is not one", 0600},
        {"not hex", "a:example.com:g0112233445566778899aabbccddeeff\n",
         "users:1:15: the hash is not one of MD5", 0600},
        {"a short second", "a:example.com:" MD5_A ":" MD5_A "\n",
         "users:1:15: the second hash is not one of SHA-256; write 64 hex digits, or nothing\n",
         0600},
        {"too many", "a:example.com:" MD5_A ":" SHA ":x\n", "users:1:15: the second hash", 0600},
        {"twice", "b:example.com:" MD5_A "\na:example.com:" MD5_A "\nb:example.com:" MD5_B "\n",
         "users:3:1: `b` has a line already, line 1; keep one of them\n", 0600},
        {"thrice", "b:example.com:" MD5_A "\nb:example.com:" MD5_A "\nb:example.com:" MD5_B "\n",
         "users:2:1: `b` has a line already, line 1; keep one of them\n"
         "users:3:1: `b` has a line already, line 2; keep one of them\n",
         0600},
        {"another realm", "b:exmaple.com:" MD5_A "\n",
         "edge.yaml:4:71: `users` has nobody of the realm `example.com`, its first line is of "
         "`exmaple.com`; correct one of them\n",
         0600},
        {"all are told", "x\nb:example.com:1\n:\n",
         "users:1:1: no credentials; write USER:REALM:HA1\n"
         "users:2:15: the hash is not one of MD5; write 32 hex digits, never a password\n"
         "users:3:1: no credentials; write USER:REALM:HA1\n",
         0600},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char said[4096];
        write_file("users", cases[i].text, cases[i].mode);
        struct config *c = load(DIGEST, NULL, said);
        size_t n = strlen(cases[i].want);
        bool whole = cases[i].want[n - 1] == '\n';
        if (c != NULL || (whole ? strcmp(said, cases[i].want) : strncmp(said, cases[i].want, n)))
            fail_msg("%s:\n got    %s\n wanted %s", cases[i].name, said, cases[i].want);
        if (strstr(said, "hunter2") != NULL || strstr(said, MD5_A) != NULL)
            fail_msg("%s: a secret is shown: %s", cases[i].name, said);
    }
}

/* 100,000 users in any order, and as many lines that are wrong. */
static void many_users_load(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    write_file("users", "", 0600);
    FILE *f = fopen(in_folder("users"), "w");
    for (unsigned i = 0; i < MANY; i++)
        fprintf(f, "user-%u:example.com:%032x:%064x\n", (i * 7919u) % MANY, i, i);
    fclose(f);
    clock_t before = clock();
    struct config *c = good(DIGEST);
    double s = (double)(clock() - before) / CLOCKS_PER_SEC;
    const struct registrar_opts *o = &c->engine.edge.registrar;
    assert_int_equal(o->user_count, MANY);
    for (unsigned i = 1; i < MANY; i++)
        assert_true(slice_compare(o->users[i - 1].name, o->users[i].name) < 0);
    config_free(c);
    if (s > 5)
        fail_msg("%d users took %.1f s", MANY, s);

    f = fopen(in_folder("users"), "w");
    for (unsigned i = 0; i < MANY; i++)
        fprintf(f, "user-%u\n", i);
    fclose(f);
    char *said = (char *)calloc(1, 4096);
    assert_null(load(DIGEST, NULL, said));
    assert_string_not_equal(said, "");
    assert_null(strstr(said, "out of memory"));
    free(said);
}

/* ---- secrets --------------------------------------------------------------------------------- */

#define TOKENS(file) SMALL "secrets: {tokens: " file "}\n"

static void tickets_follow_tokens(void **state)
{
    (void)state;
    struct config *both = good(TOKENS("tokens")), *one = good(TOKENS("tokens2"));
    assert_int_equal(both->ticket_secret.n, 64);
    assert_int_equal(one->ticket_secret.n, 32);
    assert_memory_equal(both->ticket_secret.p + 32, one->ticket_secret.p, 32);
    assert_memory_not_equal(both->ticket_secret.p, one->ticket_secret.p, 32);
    uint8_t want[32];
    unsigned n = 0;
    static const unsigned char label[] = "weir: TLS session tickets, 1";
    HMAC(EVP_sha256(), "the newest of our secrets", 25, label, sizeof label - 1, want, &n);
    assert_memory_equal(both->ticket_secret.p, want, 32);
    config_free(both);
    config_free(one);

    /* Without a file they are as random as the key, and as long-lived. */
    char said[4096];
    struct config *first = good(SMALL), *second = load(SMALL, first, said);
    assert_int_equal(first->ticket_secret.n, 32);
    assert_memory_equal(first->ticket_secret.p, second->ticket_secret.p, 32);
    assert_ptr_not_equal(first->ticket_secret.p, second->ticket_secret.p);
    assert_memory_not_equal(first->ticket_secret.p, key_a, 32);
    config_free(first);
    config_free(second);
}

/* ---- reload ---------------------------------------------------------------------------------- */

static void restart_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *want;
    } cases[] = {
        {"nothing changed", REG("contacts: 10"), NULL},
        {"much changed",
         NODE LISTEN ROUTES "roles: {registrar: {domains: [a.example], auth: {digest: none}, "
                            "state: /s, contacts: 3}}\nkeepalive: {every: off}\n",
         NULL},
        {"state", ROLE("domains: [example.com], auth: none, state: /t"),
         "edge.yaml:4:64: roles.registrar.state cannot change while it runs; write `/s` as before, "
         "or restart\n"},
        {"state size", REG("state_size: 2GiB"),
         "edge.yaml:4:80: roles.registrar.state_size cannot change while it runs; write 1GiB as "
         "before, or restart\n"},
        {"bindings", REG("contacts: 1") "limits: {bindings: 16}\n",
         "edge.yaml:5:20: limits.bindings cannot change while it runs; write 100000 as before, or "
         "restart\n"},
        {"no more registrar", SMALL,
         "edge.yaml:1:1: roles.registrar cannot end while it runs; leave it in, or restart\n"},
    };
    struct config *first = good(REG("contacts: 1"));
    char said[4096];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *c = load(cases[i].text, first, said);
        if ((c == NULL) != (cases[i].want != NULL) ||
            strcmp(said, cases[i].want != NULL ? cases[i].want : "") != 0)
            fail_msg("%s:\n got    %s\n wanted %s", cases[i].name, said, cases[i].want);
        config_free(c);
    }
    config_free(first);
    first = good(SMALL);
    assert_null(load(REG("contacts: 1"), first, said));
    assert_string_equal(said, "edge.yaml:4:20: roles.registrar cannot begin while it runs; take it "
                              "out, or restart\n");
    config_free(first);
}

/* What is not read leaves an error and nothing else, wherever memory ends. */
static void memory_may_run_out(void **state)
{
    (void)state;
    write_file("users", "alice:sip users:" MD5_A "\nbob:sip users:" MD5_B "\n", 0600);
    bool done = false;
    struct slice text = slice_cstr(full_text);
    char name[128];
    snprintf(name, sizeof name, "%s/edge.yaml", folder.path);
    for (size_t max = 16; !done; max += 48) {
        char *errors = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&errors, &size);
        struct world world = {.memory_max = max};
        struct config *c = config_parse_in(text, name, NULL, key_a, out, &world);
        fclose(out);
        done = strstr(errors, "out of memory") == NULL;
        if (done != (c != NULL))
            fail_msg("%zu bytes: %s", max, errors);
        config_free(c);
        free(errors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_registrar_loads),
        cmocka_unit_test(an_edge_alone_has_no_registrar),
        cmocka_unit_test(fuller_listeners),
        cmocka_unit_test(fuller_roles),
        cmocka_unit_test(words_stand_for_nothing),
        cmocka_unit_test(listeners_must_be_good),
        cmocka_unit_test(roles_must_be_good),
        cmocka_unit_test(fleet_must_be_good),
        cmocka_unit_test(clients_must_be_good),
        cmocka_unit_test(who_is_expected_over_tls),
        cmocka_unit_test(users_are_read),
        cmocka_unit_test(users_must_be_good),
        cmocka_unit_test(many_users_load),
        cmocka_unit_test(tickets_follow_tokens),
        cmocka_unit_test(restart_is_asked_for),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
