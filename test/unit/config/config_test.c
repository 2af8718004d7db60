/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: load.c, tree.c, value.c, schema.c, read.c, judge.c, report.c, reference.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"

/* Inside, to make memory run out on purpose. */
#include "config/config_int.h"
#include "support/support.h"

static const uint8_t key_a[32] = "0123456789abcdef0123456789abcde";
static const uint8_t key_b[32] = "fedcba9876543210fedcba987654321";

/* The smallest file, in pieces that a case can replace. */
#define NODE   "node: {name: edge-1}\n"
#define LISTEN "listeners: [{bind: \"udp://127.0.0.1:5060\", side: outside}]\n"
#define POOLS  "pools: {border: {targets: [\"udp://127.0.0.1:5070\"]}}\n"
#define ROUTES "routes: [{from: outside, to: border}]\n"
#define SMALL  NODE LISTEN POOLS ROUTES

static struct config *parse(const char *text, const struct config *previous, const uint8_t key[32],
                            char **ret_errors)
{
    size_t size = 0;
    FILE *errors = open_memstream(ret_errors, &size);
    char *guarded = guard_copy(text, strlen(text));
    struct config *c =
        config_parse(slice_of(guarded, strlen(text)), "edge.yaml", previous, key, errors);
    fclose(errors);
    guard_free(guarded);
    return c;
}

static struct config *good(const char *name, const char *text)
{
    char *errors = NULL;
    struct config *c = parse(text, NULL, key_a, &errors);
    if (c == NULL)
        fail_msg("%s: refused: %s", name, errors);
    free(errors);
    return c;
}

static void assert_slice(struct slice s, const char *want)
{
    if (!slice_equal(s, slice_cstr(want)))
        fail_msg("got \"%.*s\", wanted \"%s\"", SLICE_ARG(s), want);
}

/* ---- what is right --------------------------------------------------------------------------- */

static void smallest_file_loads(void **state)
{
    (void)state;
    struct config *c = good("smallest", "node: {name: edge-1}\n"
                                        "listeners:\n"
                                        "  - {bind: \"udp://127.0.0.1:5060\", side: outside}\n"
                                        "  - {bind: \"tcp://127.0.0.1:5060\", side: outside}\n"
                                        "pools:\n"
                                        "  border: {targets: [\"udp://127.0.0.1:5070\"]}\n"
                                        "routes:\n"
                                        "  - {from: outside, to: border}\n");
    const struct edge_opts *o = &c->engine.edge;
    assert_slice(o->node_name, "edge-1");
    assert_true(o->listener[0].used && o->listener[1].used && !o->listener[2].used);
    assert_slice(o->listener[0].name, "udp://127.0.0.1:5060");
    assert_slice(o->listener[0].host, "127.0.0.1");
    assert_int_equal(o->listener[0].port, 5060);
    assert_int_equal(o->listener[0].transport, TP_UDP);
    assert_int_equal(o->listener[1].transport, TP_TCP);
    assert_int_equal(o->listener[1].side, SIDE_OUTSIDE);
    assert_int_equal(o->pool_count, 1);
    assert_slice(o->pools[0].name, "border");
    assert_int_equal(o->pools[0].target_count, 1);
    assert_int_equal(o->pools[0].targets[0].addr.port, 5070);
    assert_true(o->pools[0].targets[0].has_tcp);
    assert_int_equal(o->rule_count, 1);
    assert_int_equal(o->rules[0].from, SIDE_OUTSIDE);
    assert_int_equal(o->rules[0].method.n, 0);
    assert_int_equal(o->rules[0].pool, 0);
    assert_true(c->tokens_are_random);
    assert_int_equal(o->keys.count, 1);
    assert_int_equal(o->timer_c, 185 * NS_S);
    assert_int_equal(o->connect_timeout, 3 * NS_S);
    assert_int_equal(o->hops_max, 70);
    assert_int_equal(o->connections_per_target, 4);
    assert_true(o->log_transactions && c->log.on);
    assert_slice(c->log.path, "stdout");
    assert_int_equal(c->log.format, CONFIG_LOG_JSON);
    assert_int_equal(c->gather_us, 500);
    assert_int_equal(c->drain_within, 30 * NS_S);
    assert_true(c->workers >= 1 && c->workers <= WORKERS_MAX);
    assert_slice(c->control, geteuid() == 0 ? "/run/weir/edge-1.sock" : "/tmp/weir-edge-1.sock");
    config_free(c);
}

/* The tables of this room and the defaults of the rooms below say the same. */
static void defaults_agree(void **state)
{
    (void)state;
    struct config *c = good("defaults", SMALL);
    struct pool_opts want;
    pool_opts_default(&want);
    const struct pool_opts *got = &c->engine.edge.pools[0];
    want.name = got->name;
    want.targets = got->targets;
    want.target_count = got->target_count;
    assert_int_equal(got->balance, want.balance);
    assert_memory_equal(&got->health, &want.health, sizeof want.health);
    assert_memory_equal(&got->outlier, &want.outlier, sizeof want.outlier);
    assert_int_equal(got->failover.on_count, want.failover.on_count);
    assert_memory_equal(got->failover.on, want.failover.on, sizeof want.failover.on);
    assert_int_equal(got->failover.try_timeout, want.failover.try_timeout);
    assert_int_equal(got->failover.within, want.failover.within);
    assert_int_equal(got->failover.tries, want.failover.tries);
    assert_int_equal(got->failover.budget_percent, want.failover.budget_percent);
    assert_int_equal(got->failover.retryable, want.failover.retryable);
    struct edge_limits limits;
    edge_limits_default(&limits);
    assert_int_equal(c->engine.limits.transactions, limits.transactions);
    assert_int_equal(c->engine.limits.flows, limits.flows);
    assert_int_equal(c->engine.limits.target_flows, limits.target_flows);
    assert_int_equal(c->engine.limits.targets, limits.targets);
    assert_int_equal(c->engine.limits.pools, limits.pools);
    assert_memory_equal(c->engine.limits.blocks, limits.blocks, sizeof limits.blocks);
    assert_int_equal(c->engine.limits.guard.sources, limits.guard.sources);
    struct guard_opts guard;
    guard_opts_default(&guard);
    const struct guard_opts *has = &c->engine.edge.guard;
    assert_int_equal(has->ban_first, guard.ban_first);
    assert_int_equal(has->ban_max, guard.ban_max);
    assert_int_equal(has->ban_decay, guard.ban_decay);
    assert_int_equal(has->delay_target, guard.delay_target);
    assert_int_equal(has->drops_unheard, guard.drops_unheard);
    assert_int_equal(has->request_age_max, guard.request_age_max);
    assert_int_equal(has->retry_after_min, guard.retry_after_min);
    assert_int_equal(has->retry_after_max, guard.retry_after_max);
    assert_int_equal(has->session_crossings_max, guard.session_crossings_max);
    assert_int_equal(has->session_within, guard.session_within);
    assert_memory_equal(has->per_source, guard.per_source, sizeof guard.per_source);
    assert_memory_equal(has->per_prefix, guard.per_prefix, sizeof guard.per_prefix);
    assert_memory_equal(has->accepts, guard.accepts, sizeof guard.accepts);
    const struct txn_timers timers = TXN_TIMERS_DEFAULT;
    assert_memory_equal(&c->engine.edge.timers, &timers, sizeof timers);
    config_free(c);
}

static const char full_text[] =
    "node: {name: edge-1, id: 7, region: us-east-1, zone: a, workers: 3}\n"
    "listeners:\n"
    "  - {name: phones, bind: \"udp://0.0.0.0:5062\", side: outside, advertise: "
    "\"edge1.example.com\"}\n"
    "  - {name: six, bind: \"udp://[2001:db8::5]\", side: inside}\n"
    "  - {bind: \"tcp://10.0.0.5:5060\", side: inside, advertise: \"[2001:db8::9]:5080\"}\n"
    "trusted: [10.0.0.0/8, \"2001:db8::/32\", 192.0.2.1]\n"
    "pools:\n"
    "  border:\n"
    "    targets: [{uri: \"udp://10.0.1.10:5060\", zone: a, weight: 2, tcp: false},\n"
    "              {uri: \"tcp://[2001:db8::10]\", zone: b}]\n"
    "    balance: call-id\n"
    "    health: {every: 5s, timeout: 500ms, fall: 4, rise: 1}\n"
    "    failover: {on: [503], try: 1s, within: 1m, tries: 5, budget: 0%, on_exhausted: "
    "retryable}\n"
    "    outlier: {eject_after: off, eject_base: 1s, eject_max: 1h, panic: 0%, slow_start: off}\n"
    "  quiet:\n"
    "    targets: [\"udp://10.0.1.11\"]\n"
    "    health: off\n"
    "routes:\n"
    "  - {from: outside, method: REGISTER, to: quiet}\n"
    "  - {to: border}\n"
    "log: {transactions: false, format: logfmt, to: /var/log/weir.log}\n"
    "limits: {transactions: 1024, flows: 16, target_flows: 16, targets: 9, pools: 5,\n"
    "         messages: {small: 100, huge: 9}}\n"
    "timers: {t1: 100ms, t2: 2s, t4: 3s, timer_c: 5m, connect: 1s}\n"
    "policy: {foreign_route: strip, hops_max: 20, connections_per_target: 1}\n"
    "control: weir.sock\n"
    "gather: off\n"
    "drain: {within: 2m}\n";

static void fuller_file_nodes(void **state)
{
    (void)state;
    struct config *c = good("fuller", full_text);
    const struct edge_opts *o = &c->engine.edge;
    assert_int_equal(o->node_id, 7);
    assert_slice(o->region, "us-east-1");
    assert_slice(o->zone, "a");
    assert_int_equal(c->workers, 3);
    assert_slice(o->listener[0].name, "phones");
    assert_slice(o->listener[0].host, "edge1.example.com");
    assert_int_equal(o->listener[0].port, 5062);
    assert_slice(o->listener[1].host, "[2001:db8::5]");
    assert_int_equal(o->listener[1].port, 5060);
    assert_int_equal(o->listener[1].bind.family, 6);
    assert_int_equal(o->listener[1].side, SIDE_INSIDE);
    assert_slice(o->listener[2].host, "[2001:db8::9]");
    assert_int_equal(o->listener[2].port, 5080);
    assert_int_equal(o->trusted_count, 3);
    assert_int_equal(o->trusted[0].bits, 8);
    assert_int_equal(o->trusted[2].bits, 32);
    assert_false(c->log.on || o->log_transactions);
    assert_int_equal(c->log.format, CONFIG_LOG_LOGFMT);
    assert_slice(c->log.path, "/var/log/weir.log");
    assert_true(o->strip_foreign_routes);
    assert_int_equal(o->hops_max, 20);
    assert_int_equal(o->connections_per_target, 1);
    assert_slice(c->control, "weir.sock");
    assert_int_equal(c->gather_us, 0);
    assert_int_equal(c->drain_within, 120 * NS_S);
    config_free(c);
}

static void fuller_file_pools(void **state)
{
    (void)state;
    struct config *c = good("fuller", full_text);
    const struct edge_opts *o = &c->engine.edge;
    assert_int_equal(o->pool_count, 2);
    const struct pool_opts *p = &o->pools[0];
    assert_int_equal(p->target_count, 2);
    assert_slice(p->targets[0].zone, "a");
    assert_int_equal(p->targets[0].weight, 2);
    assert_false(p->targets[0].has_tcp);
    assert_slice(p->targets[1].uri, "tcp://[2001:db8::10]");
    assert_int_equal(p->targets[1].transport, TP_TCP);
    assert_int_equal(p->targets[1].addr.port, 5060);
    assert_int_equal(p->targets[1].weight, 1);
    assert_false(p->targets[1].has_tcp);
    assert_int_equal(p->balance, POOL_CALL_ID);
    assert_true(p->health.on);
    assert_int_equal(p->health.every, 5 * NS_S);
    assert_int_equal(p->health.timeout, 500 * NS_MS);
    assert_int_equal(p->health.fall, 4);
    assert_int_equal(p->health.rise, 1);
    assert_int_equal(p->failover.on_count, 1);
    assert_int_equal(p->failover.on[0], 503);
    assert_int_equal(p->failover.try_timeout, 1 * NS_S);
    assert_int_equal(p->failover.within, 60 * NS_S);
    assert_int_equal(p->failover.tries, 5);
    assert_int_equal(p->failover.budget_percent, 0);
    assert_true(p->failover.retryable);
    assert_int_equal(p->outlier.eject_after, 0);
    assert_int_equal(p->outlier.eject_max, 3600 * NS_S);
    assert_int_equal(p->outlier.panic_percent, 0);
    assert_int_equal(p->outlier.slow_start, 0);
    assert_false(o->pools[1].health.on);
    assert_int_equal(o->pools[1].health.every, 2 * NS_S);
    assert_slice(o->rules[0].method, "REGISTER");
    assert_int_equal(o->rules[0].pool, 1);
    assert_int_equal(o->rules[1].from, RULE_ANY);
    assert_int_equal(o->rules[1].pool, 0);
    const struct edge_limits *l = &c->engine.limits;
    const uint32_t blocks[BLOCK_CLASSES] = {100, 512, 64, 9};
    assert_int_equal(l->transactions, 1024);
    assert_int_equal(l->targets, 9);
    assert_int_equal(l->pools, 5);
    assert_memory_equal(l->blocks, blocks, sizeof blocks);
    const struct txn_timers timers = {100 * NS_MS, 2 * NS_S, 3 * NS_S};
    assert_memory_equal(&o->timers, &timers, sizeof timers);
    assert_int_equal(o->timer_c, 300 * NS_S);
    config_free(c);
}

static void environment_is_put_in(void **state)
{
    (void)state;
    setenv("WEIR_TEST_HOST", "127.0.0.9", 1);
    setenv("WEIR_TEST_KEY", "name", 1);
    struct config *c =
        good("env", "node: {\"${WEIR_TEST_KEY}\": a${WEIR_TEST_HOST}.b}\n" LISTEN
                    "pools: {border: {targets: ['udp://${WEIR_TEST_HOST}:50${X_}70']}}\n" ROUTES);
    assert_slice(c->engine.edge.node_name, "a127.0.0.9.b");
    assert_slice(c->engine.edge.pools[0].targets[0].uri, "udp://127.0.0.9:5070");
    config_free(c);
    /* Braces inside of braces, without quotes. */
    c = good("env in a flow",
             "node: {name: ${WEIR_TEST_KEY}-1, zone: z${X_}}\n" LISTEN POOLS ROUTES);
    assert_slice(c->engine.edge.node_name, "name-1");
    assert_slice(c->engine.edge.zone, "z");
    config_free(c);
    c = good("escape", SMALL "control: /tmp/$${HOME}/$x$\n");
    assert_slice(c->control, "/tmp/${HOME}/$x$");
    config_free(c);
    unsetenv("WEIR_TEST_HOST");
    unsetenv("WEIR_TEST_KEY");
}

/* ---- what is wrong --------------------------------------------------------------------------- */

#define LISTENER(line) NODE "listeners:\n  - " line "\n" POOLS ROUTES
#define POOL(line)     NODE LISTEN "pools:\n  border: " line "\n" ROUTES
#define TARGET(uri)    NODE LISTEN "pools: {border: {targets: [" uri "]}}\n" ROUTES
#define ROUTE(line)    NODE LISTEN POOLS "routes:\n  - " line "\n"

static const struct {
    const char *name, *text;
    const char *want; /* the errors begin with this */
} bad[] = {
    {"nothing", "", "1:1: nothing is in it"},
    {"only comments", "# nothing\n", "1:1: nothing is in it"},
    {"no mapping", "hello\n", "1:1: the file is a mapping: {KEY: VALUE}; this is a single value"},
    {"a list", "- a\n", "1:1: the file is a mapping: {KEY: VALUE}; this is a list"},
    {"open bracket", "node: {name: a\n",
     "2:1: not YAML: did not find expected ',' or '}', while parsing a flow mapping that began on "
     "line 1; look for"},
    {"tab", "node:\n\tname: a\n",
     "2:1: not YAML: found character that cannot start any token, while scanning for the next "
     "token that began on line 2; indent with spaces"},
    {"not UTF-8", "node: {name: \xff}\n", "1:14: not UTF-8 text"},
    {"control character", "node:\n  name: \x01\n", "2:9: not UTF-8 text"},
    {"anchor", "node: &a {name: x}\n" LISTEN POOLS ROUTES,
     "1:7: anchors are not taken; write the value where it is needed\n"},
    {"alias alone", "node: {name: *b}\n" LISTEN POOLS ROUTES, "1:14: aliases are not taken"},
    {"tag", "node: {name: !!str x}\n" LISTEN POOLS ROUTES, "1:14: tags are not taken"},
    {"two documents", SMALL "---\nnode: {}\n", "5:1: a second document begins"},
    {"key is a list", "[a, b]: c\n", "1:1: a key must be plain text"},
    {"too deep", "a: [[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]\n", "1:19: nested more than 16 deep"},
    {"duplicate key", NODE LISTEN POOLS ROUTES "node: {name: b}\n",
     "5:1: `node` stands here twice, first on line 1; keep one of them\n"},
    {"duplicate pool",
     NODE LISTEN "pools:\n  border: {targets: [\"udp://10.0.0.1\"]}\n  border: {}\n" ROUTES,
     "5:3: `border` stands here twice, first on line 4"},

    {"unset variable", "node: {name: \"x${WEIR_NOT_SET}\"}\n" LISTEN POOLS ROUTES,
     "1:16: environment variable WEIR_NOT_SET is not set; set it before the start"},
    {"unset variable, plain", "node:\n  name: ab${WEIR_NOT_SET}\n" LISTEN POOLS ROUTES,
     "2:11: environment variable WEIR_NOT_SET"},
    {"unset variable behind other characters",
     "node: {name: \"\xc3\xa4${WEIR_NOT_SET}\"}\n" LISTEN POOLS ROUTES,
     "1:16: environment variable WEIR_NOT_SET"},
    {"variable without end", "node: {name: \"${HOME\"}\n" LISTEN POOLS ROUTES,
     "1:15: `${` without its `}`"},
    {"unset variable in a flow, plain", "node: {name: a${WEIR_NOT_SET}}\n" LISTEN POOLS ROUTES,
     "1:15: environment variable WEIR_NOT_SET"},
    {"places behind a variable", "node: {name: a${WEIR_NOT_SET}, zon: b}\n" LISTEN POOLS ROUTES,
     "1:15: environment variable WEIR_NOT_SET is not set; set it before the start, or write the "
     "value here\nedge.yaml:1:32: `zon` is not a key of node; did you mean `zone`?\n"},
    {"variable without name", "node: {name: \"${}\"}\n" LISTEN POOLS ROUTES,
     "1:15: `${}` names no environment variable"},

    {"unknown key", "nod: {name: a}\n" LISTEN POOLS ROUTES,
     "1:1: `nod` is not a key of the file; did you mean `node`?\n"
     "edge.yaml:1:1: the file has no `node`; add node: {name: edge-1}\n"},
    {"unknown key, nothing near", SMALL "xyzzy: 1\n",
     "5:1: `xyzzy` is not a key of the file; there are node, secrets, listeners"},
    {"unknown key of a section", "node: {name: a, zon: b}\n" LISTEN POOLS ROUTES,
     "1:17: `zon` is not a key of node; did you mean `zone`?\n"},
    {"unknown key cut short", SMALL "limits: {trans: 1}\n",
     "5:10: `trans` is not a key of limits; did you mean `transactions`?\n"},
    {"missing name", "node: {id: 1}\n" LISTEN POOLS ROUTES,
     "1:7: node has no `name`; add name: edge-1\n"},
    {"value missing", "node: {name: }\n" LISTEN POOLS ROUTES,
     "1:14: `name` has no value; write a single value\n"},
    {"list for a value", "node: {name: [a]}\n" LISTEN POOLS ROUTES,
     "1:14: `name` is a list; write a single value\n"},
    {"value for a mapping", "node: edge\n" LISTEN POOLS ROUTES,
     "1:7: `node` is a single value; write a mapping: {KEY: VALUE}\n"},
    {"mapping for a list", NODE "listeners: {bind: x}\n" POOLS ROUTES,
     "2:12: `listeners` is a mapping; write a list: [ITEM, ITEM]\n"},
    {"name with a blank", "node: {name: \"edge 1\"}\n" LISTEN POOLS ROUTES,
     "1:14: `edge 1` is not a name; write 1 to 63"},
    {"terminal escapes are not obeyed", "node: {name: \"\\e[31m\"}\n" LISTEN POOLS ROUTES,
     "1:14: `\\x1b[31m` is not a name"},
    {"workers", "node: {name: a, workers: 65}\n" LISTEN POOLS ROUTES,
     "1:26: 65 is out of range; write 1 to 64 or auto\n"},
    {"workers in words", "node: {name: a, workers: all}\n" LISTEN POOLS ROUTES,
     "1:26: `all` is not a whole number; write 1 to 64 or auto\n"},
    {"huge number", "node: {name: a, id: 99999999999999999999999}\n" LISTEN POOLS ROUTES,
     "1:21: `99999999999999999999999` is not a whole number; write 0 to 65535\n"},

    {"later: border", SMALL "roles: {border: {}}\n", "5:9: `border` is not in this version"},
    {"later: admin", SMALL "admin: {}\n", "5:1: `admin` is not in this version"},
    {"later: capture", SMALL "capture: {}\n", "5:1: `capture` is not in this version"},
    {"ws towards a server", TARGET("\"ws://10.0.0.1\""),
     "3:28: ws:// is how browsers come, no way to a server; write udp://, tcp:// or tls://\n"},
    {"wss towards a server", TARGET("\"wss://10.0.0.1\""),
     "3:28: wss:// is how browsers come, no way to a server"},

    {"listener without side", LISTENER("{bind: \"udp://127.0.0.1:5060\"}"),
     "3:5: a listener has no `side`; add side: outside, or inside\n"},
    {"side misspelt", LISTENER("{bind: \"udp://127.0.0.1:5060\", side: outsid}"),
     "3:42: `side` does not take `outsid`; did you mean `outside`?\n"},
    {"side of another kind", LISTENER("{bind: \"udp://127.0.0.1:5060\", side: wan}"),
     "3:42: `side` does not take `wan`; write outside or inside\n"},
    {"no transport", LISTENER("{bind: \"127.0.0.1:5060\", side: outside}"),
     "3:12: `127.0.0.1:5060` names no transport; write udp://127.0.0.1:5060 or tcp://"},
    {"unknown transport", LISTENER("{bind: \"upd://127.0.0.1:5060\", side: outside}"),
     "3:12: `upd://127.0.0.1:5060` begins with no transport; did you mean `udp://`?\n"},
    {"sip uri", LISTENER("{bind: \"sip:127.0.0.1:5060\", side: outside}"),
     "3:12: `sip:127.0.0.1:5060` is not an address; write udp://HOST:PORT"},
    {"listener by name", LISTENER("{bind: \"udp://localhost:5060\", side: outside}"),
     "3:12: `localhost` is a name; a listener needs an address"},
    {"wildcard", LISTENER("{bind: \"udp://0.0.0.0:5060\", side: outside}"),
     "3:12: `udp://0.0.0.0:5060` is every address of this machine, and others need one of them to "
     "answer to; add advertise: \"HOST:5060\""},
    {"multicast", LISTENER("{bind: \"udp://224.0.1.75:5060\", side: outside}"),
     "3:12: `udp://224.0.1.75:5060` is no address of a machine"},
    {"port 0", LISTENER("{bind: \"udp://127.0.0.1:0\", side: outside}"),
     "3:12: `udp://127.0.0.1:0` does not end in a port; write udp://127.0.0.1:5060 with"},
    {"port too large", LISTENER("{bind: \"udp://127.0.0.1:65536\", side: outside}"),
     "3:12: `udp://127.0.0.1:65536` does not end in a port"},
    {"IPv6 without brackets", LISTENER("{bind: \"udp://2001:db8::1\", side: outside}"),
     "3:12: `udp://2001:db8::1` has an IPv6 address without brackets; write "
     "udp://[2001:db8::1]:5060\n"},
    {"bracket", LISTENER("{bind: \"udp://[::1\", side: outside}"),
     "3:12: `udp://[::1` opens a bracket and never closes it"},
    {"advertise with a transport",
     LISTENER("{bind: \"udp://127.0.0.1\", side: outside, advertise: \"udp://a.b:1\"}"),
     "3:57: `udp://a.b:1` has a transport, which is the listener's own; write `a.b:1`\n"},
    {"advertise the wildcard",
     LISTENER("{bind: \"udp://127.0.0.1\", side: outside, advertise: \"0.0.0.0:5060\"}"),
     "3:57: nobody can send to `0.0.0.0:5060`"},
    {"bound twice",
     LISTENER("{bind: \"udp://127.0.0.1:5060\", side: outside}\n"
              "  - {bind: \"udp://127.0.0.1\", side: inside}"),
     "4:12: `udp://127.0.0.1` is bound by the listener on line 3 already"},
    {"named twice",
     LISTENER("{name: a, bind: \"udp://127.0.0.1:5060\", side: outside}\n"
              "  - {name: a, bind: \"udp://127.0.0.1:5061\", side: inside}"),
     "4:12: a listener on line 3 has the name `a` already"},

    {"no listeners", NODE "listeners: []\n" POOLS ROUTES,
     "2:12: `listeners` is empty; at least one listener is needed\n"},
    {"no targets", POOL("{targets: []}"), "4:21: `targets` is empty; at least one target"},
    {"targets left out", POOL("{}"),
     "4:11: a pool has no `targets`; add targets: [\"udp://10.0.1.10:5060\"]\n"},
    {"null pool", POOL(""), "4:10: a pool is a mapping: {KEY: VALUE}; this is nothing\n"},
    {"pool name", NODE LISTEN "pools: {\"a b\": {targets: [\"udp://10.0.0.1\"]}}\n" ROUTES,
     "3:9: `a b` is not a name"},
    {"target twice", TARGET("\"udp://10.0.0.1\", \"udp://10.0.0.1:5060\""),
     "3:46: `udp://10.0.0.1:5060` is in this pool already, on line 3"},
    {"target is ourselves", TARGET("\"udp://127.0.0.1:5060\""),
     "3:28: `udp://127.0.0.1:5060` is our own listener of line 2: requests would run in a circle"},
    {"target is the wildcard", TARGET("\"udp://0.0.0.0:5060\""),
     "3:28: nobody can be reached at `udp://0.0.0.0:5060`"},
    {"target is broadcast", TARGET("\"udp://255.255.255.255\""), "3:28: nobody can be reached at"},
    {"target of another family", TARGET("\"udp://[2001:db8::1]\""),
     "3:28: no listener can send to `udp://[2001:db8::1]`; add one for udp over IPv6"},
    {"target is nearly an address", TARGET("\"udp://10.0.0.256\""),
     "3:28: `10.0.0.256` is neither an address nor a host name"},
    {"target with a path", TARGET("\"udp://10.0.0.1:5060/x\""),
     "3:28: `udp://10.0.0.1:5060/x` does not end in a port"},
    {"target with parameters", TARGET("\"udp://10.0.0.1;lr\""), "3:28: `10.0.0.1;lr` is neither"},
    {"target weight", TARGET("{uri: \"udp://10.0.0.1\", weight: 0}"),
     "3:60: 0 is out of range; write 1 to 1000\n"},
    {"target key", TARGET("{url: \"udp://10.0.0.1\"}"),
     "3:28: a target has no `uri`; add uri: \"udp://10.0.1.10:5060\"\n"
     "edge.yaml:3:29: `url` is not a key of a target; did you mean `uri`?\n"},
    {"target in words", TARGET("{uri: \"udp://10.0.0.1\", tcp: yes}"),
     "3:57: `yes` is neither true nor false"},
    {"name that is not", TARGET("\"udp://does-not-exist.invalid\""),
     "3:28: `does-not-exist.invalid` cannot be resolved: "},
    {"balance", POOL("{targets: [\"udp://10.0.0.1\"], balance: least_busy}"),
     "4:50: `balance` does not take `least_busy`; did you mean `least-busy`?\n"},
    {"duration without unit", POOL("{targets: [\"udp://10.0.0.1\"], health: {every: 2}}"),
     "4:57: `2` has no unit; write us, ms, s, m or h behind one whole number: `2s`\n"},
    {"duration with a fraction", POOL("{targets: [\"udp://10.0.0.1\"], health: {every: 0.5s}}"),
     "4:57: `0.5s` has a fraction; write a whole number of a smaller unit: 500ms\n"},
    {"duration in other units", POOL("{targets: [\"udp://10.0.0.1\"], health: {every: 2sec}}"),
     "4:57: `2sec` has an unknown unit; write us, ms, s, m or h behind one whole number: `2s`\n"},
    {"duration that overflows",
     POOL("{targets: [\"udp://10.0.0.1\"], health: {every: 4294967295h}}"),
     "4:57: `4294967295h` is out of range; write 100ms to 1h\n"},
    {"health", POOL("{targets: [\"udp://10.0.0.1\"], health: on}"),
     "4:49: `health` is a single value; write a mapping, {KEY: VALUE}, or off\n"},
    {"health times", POOL("{targets: [\"udp://10.0.0.1\"], health: {timeout: 3s}}"),
     "4:59: `timeout` is longer than `every`; write at most 2s, or a longer `every`\n"},
    {"failover times", POOL("{targets: [\"udp://10.0.0.1\"], failover: {within: 1s}}"),
     "4:60: `try` is longer than `within`; write at most 1s, or a longer `within`\n"},
    {"outlier times", POOL("{targets: [\"udp://10.0.0.1\"], outlier: {eject_max: 1s}}"),
     "4:62: `eject_base` is longer than `eject_max`"},
    {"budget", POOL("{targets: [\"udp://10.0.0.1\"], failover: {budget: 20}}"),
     "4:60: `20` is not a share; write a whole number and %, 0% to 100%\n"},
    {"budget too large", POOL("{targets: [\"udp://10.0.0.1\"], failover: {budget: 101%}}"),
     "4:60: `101%` is out of range; write 0% to 100%\n"},
    {"status", POOL("{targets: [\"udp://10.0.0.1\"], failover: {on: [408, 200]}}"),
     "4:62: 200 is out of range; write 300 to 699\n"},
    {"too many statuses",
     POOL("{targets: [\"udp://10.0.0.1\"], failover: {on: [401,402,403,404,405,406,407,408,409]}}"),
     "4:56: `on` has 9 entries; at most 8 are taken\n"},
    {"tries", POOL("{targets: [\"udp://10.0.0.1\"], failover: {tries: 17}}"),
     "4:59: 17 is out of range; write 1 to 16\n"},

    {"unknown pool", ROUTE("{from: outside, to: boarder}"),
     "5:25: no pool is called `boarder`; did you mean `border`?\n"},
    {"unknown pool, nothing near", ROUTE("{from: outside, to: sales}"),
     "5:25: no pool is called `sales`; there are: border\n"},
    {"a role", ROUTE("{from: outside, to: registrar}"),
     "5:25: no registrar runs here; add roles: {registrar: {...}}, or write the name of a pool\n"},
    {"method in small letters", ROUTE("{from: outside, method: invite, to: border}"),
     "5:29: no request has the method `invite`; did you mean `INVITE`?\n"},
    {"method misspelt", ROUTE("{from: outside, method: REGSITER, to: border}"),
     "5:29: no request has the method `REGSITER`; did you mean `REGISTER`?\n"},
    {"method is no token", ROUTE("{from: outside, method: \"A B\", to: border}"),
     "5:29: `A B` is not a SIP method"},
    {"nothing inside", ROUTE("{from: inside, to: border}"),
     "5:12: no request comes from inside: no listener has side: inside, and `trusted` is empty"},
    {"nothing outside",
     NODE "listeners: [{bind: \"udp://127.0.0.1:5060\", side: inside}]\n" POOLS ROUTES,
     "4:17: no request comes from outside: every listener has side: inside"},
    {"route never reached", ROUTE("{to: border}\n  - {from: outside, method: BYE, to: border}"),
     "6:5: this route is never reached: the one on line 5 takes all that it could"},
    {"no routes", NODE LISTEN POOLS "routes: []\n", "4:9: `routes` is empty"},

    {"trusted host bits", SMALL "trusted: [10.0.0.1/8]\n",
     "5:11: `10.0.0.1/8` has bits set behind its length"},
    {"trusted length", SMALL "trusted: [10.0.0.0/33]\n", "5:11: `10.0.0.0/33` has no valid length"},
    {"trusted name", SMALL "trusted: [example.com]\n", "5:11: `example.com` is not a network"},
    {"timer C", SMALL "timers: {timer_c: 180s}\n",
     "5:19: `180s` is out of range; write 181s to 1h\n"},
    {"t1 over t2", SMALL "timers: {t1: 5s}\n", "5:14: `t1` is longer than `t2`"},
    {"hops", SMALL "policy: {hops_max: 71}\n", "5:20: 71 is out of range; write 1 to 70\n"},
    {"gather", SMALL "gather: 1s\n", "5:9: `1s` is out of range; write 10us to 10ms or off\n"},
    {"control", SMALL "control: \"\"\n", "5:10: `` is not a path; write 1 to 107 bytes\n"},
    {"limits of targets",
     SMALL "limits: {pools: 1, targets: 1}\n" /* as many as there are */
           "gather: 1\n",
     "6:9: `1` has no unit"},
    {"too many targets", TARGET("\"udp://10.0.0.1\", \"udp://10.0.0.2\"") "limits: {targets: 1}\n",
     "3:8: 2 targets are more than limits.targets"},
    {"no tokens file", SMALL "secrets: {tokens: /does/not/exist}\n",
     "5:19: `/does/not/exist` cannot be read: No such file or directory"},
    {"tokens are no file", SMALL "secrets: {tokens: /dev/null}\n",
     "5:19: `/dev/null` cannot be read: not a regular file"},
};

static void errors_have_places(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *errors = NULL;
        struct config *c = parse(bad[i].text, NULL, key_a, &errors);
        char want[1024];
        snprintf(want, sizeof want, "edge.yaml:%s", bad[i].want);
        if (c != NULL || strncmp(errors, want, strlen(want)) != 0) {
            print_error("%s:\n got    %s wanted %s\n", bad[i].name, errors, want);
            wrong++;
        }
        config_free(c);
        free(errors);
    }
    if (wrong > 0)
        fail_msg("%u cases", wrong);
}

static unsigned lines_of(const char *text)
{
    unsigned lines = 0;
    for (; *text != 0; text++)
        lines += *text == '\n';
    return lines;
}

static void all_errors_are_reported(void **state)
{
    (void)state;
    char *errors = NULL;
    assert_null(parse("node: {name: a, id: x, zone: ' '}\n"
                      "listeners: [{bind: x, side: y}]\n"
                      "pools: {p: {targets: ['udp://10.0.0.1:x'], balance: z}}\n"
                      "routes: [{from: q, to: zzzzz}]\n",
                      NULL, key_a, &errors));
    if (lines_of(errors) != 8)
        fail_msg("%u errors, wanted 8:\n%s", lines_of(errors), errors);
    free(errors);
}

/* By place, whichever pass found them. */
static void errors_are_sorted(void **state)
{
    (void)state;
    char *errors = NULL;
    assert_null(parse(NODE LISTEN POOLS "routes: [{from: outside, to: nowhere}]\n"
                                        "gathr: 1ms\n"
                                        "log: {format: x, on: true}\n",
                      NULL, key_a, &errors));
    assert_string_equal(errors,
                        "edge.yaml:4:30: no pool is called `nowhere`; there are: border\n"
                        "edge.yaml:5:1: `gathr` is not a key of the file; did you mean `gather`?\n"
                        "edge.yaml:6:15: `format` does not take `x`; write json or logfmt\n"
                        "edge.yaml:6:18: `on` is not a key of log; there are transactions, format, "
                        "to\n");
    free(errors);
}

/* What is wrong once is said once: a later pass does not judge what an earlier one refused. */
static void errors_do_not_breed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        NODE LISTEN POOLS "routes: [{from: x, to: border}, {from: outside, to: border}]\n",
        NODE LISTEN POOLS "routes: [{method: \"\", to: border}, {from: outside, to: border}]\n",
        NODE LISTEN POOLS "routes: [{method: \"${WEIR_NOT_SET}\", to: border}, {to: border}]\n",
        NODE "listeners: [{bind: \"udp://127.0.0.1:5060\", side: x}]\n" POOLS
             "routes: [{from: inside, to: border}]\n",
        NODE "listeners: [{bind: \"udp//127.0.0.1:5060\", side: outside}]\n" POOLS ROUTES,
        NODE LISTEN "pools: {border: {targets: [\"udp://10.0.0.x\", x]}}\nx: 1\n" ROUTES,
        NODE LISTEN "pools: []\n" ROUTES,
        NODE "listeners: {}\n" POOLS ROUTES,
        SMALL "limits: {transactions: 1}\n",
        SMALL "timers: {t2: 1}\n",
    };
    static const unsigned want[] = {1, 1, 1, 1, 1, 3, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *errors = NULL;
        assert_null(parse(texts[i], NULL, key_a, &errors));
        if (lines_of(errors) != want[i])
            fail_msg("text %zu: %u errors, wanted %u:\n%s", i, lines_of(errors), want[i], errors);
        free(errors);
    }
}

/* As many errors as a file can hold do not flood the terminal. */
static void errors_are_bounded(void **state)
{
    (void)state;
    struct arena a = test_arena(1 << 16);
    struct text t = text_into(a.p, a.cap);
    TEXT_LIT(&t, SMALL "log: {");
    for (unsigned i = 0; i < 500; i++) {
        TEXT_LIT(&t, "k");
        text_put_u64(&t, i);
        TEXT_LIT(&t, ": 1, ");
    }
    TEXT_LIT(&t, "}\n");
    text_put_char(&t, 0);
    char *errors = NULL;
    assert_null(parse(a.p, NULL, key_a, &errors));
    assert_non_null(strstr(errors, "edge.yaml: and 300 errors more\n"));
    free(errors);
    test_arena_free(&a);
}

/* Memory that runs out at any point leaves an error and nothing else. */
static void memory_may_run_out(void **state)
{
    (void)state;
    static const char faulty[] = SMALL "gather: 1\ntrusted: [\"${HOME}x\", 1, 2]\nlogg: 3\n";
    const char *const texts[] = {full_text, faulty};
    for (size_t i = 0; i < 2; i++) {
        bool done = false;
        size_t max = 16;
        for (; !done; max += 16) {
            char *errors = NULL;
            size_t size = 0;
            FILE *out = open_memstream(&errors, &size);
            struct world world = {.closed = true, .memory_max = max};
            struct config *c =
                config_parse_in(slice_cstr(texts[i]), "edge.yaml", NULL, key_a, out, &world);
            fclose(out);
            done = strstr(errors, "out of memory") == NULL;
            if (!done)
                assert_null(c);
            else if ((c == NULL) != (i == 1))
                fail_msg("text %zu with %zu bytes: %s", i, max, errors);
            config_free(c);
            free(errors);
        }
        assert_true(max > 4096);
    }
}

/* A name server that does not answer stops no start, and takes from no target what it has. */
static void names_that_nobody_can_resolve_now(void **state)
{
    (void)state;
    static const char named[] = NODE LISTEN
        "pools: {border: {targets: [\"udp://127.0.0.1:5071\", \"udp://localhost:5070\"]}}\n" ROUTES;
    static const char fleet[] = "node: {name: edge-1, id: 1}\n" LISTEN POOLS ROUTES
                                "fleet: [{id: 2, inside: \"udp://localhost:5070\"}]\n";
    static const struct world away = {.dns_away = true};
    char *errors = NULL;
    size_t size = 0;
    struct config *before = parse(named, NULL, key_a, &errors);
    assert_non_null(before);
    assert_int_equal(before->engine.edge.pools[0].targets[1].addr.port, 5070);
    free(errors);
    for (unsigned reload = 0; reload < 2; reload++) {
        FILE *out = open_memstream(&errors, &size);
        struct config *c = config_parse_in(slice_cstr(named), "edge.yaml", reload ? before : NULL,
                                           key_a, out, &away);
        fclose(out);
        assert_string_equal(errors, "");
        assert_non_null(c);
        const struct pool_target_opts *t = c->engine.edge.pools[0].targets;
        assert_int_equal(t[0].addr.family, 4);
        assert_int_equal(t[1].addr.family != 0, reload);
        if (reload)
            assert_true(addr_equal(&t[1].addr, &before->engine.edge.pools[0].targets[1].addr));
        config_free(c);
        free(errors);
    }
    /* A neighbour's address is part of every token: no start without it. */
    FILE *out = open_memstream(&errors, &size);
    assert_null(config_parse_in(slice_cstr(fleet), "edge.yaml", before, key_a, out, &away));
    fclose(out);
    assert_non_null(strstr(errors, "`localhost` cannot be resolved: "));
    free(errors);
    config_free(before);
}

/* ---- secrets --------------------------------------------------------------------------------- */

struct folder {
    char path[64], tokens[96], config[96];
};

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static struct folder make_folder(void)
{
    struct folder f = {.path = "/tmp/weir-config-XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    snprintf(f.tokens, sizeof f.tokens, "%s/tokens", f.path);
    snprintf(f.config, sizeof f.config, "%s/edge.yaml", f.path);
    write_file(f.config, SMALL "secrets: {tokens: tokens}\n", 0600);
    return f;
}

static void drop_folder(const struct folder *f)
{
    unlink(f->tokens);
    unlink(f->config);
    rmdir(f->path);
}

/* What config_load() says about the folder's file, without the folder's name. */
static struct config *load_folder(const struct folder *f, char said[1024])
{
    char *errors = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&errors, &size);
    struct config *c = config_load(f->config, NULL, key_a, out);
    fclose(out);
    const char *from = errors;
    size_t n = 0;
    while (*from != 0 && n < 1023) {
        if (strncmp(from, f->path, strlen(f->path)) == 0)
            from += strlen(f->path);
        else
            said[n++] = *from++;
    }
    said[n] = 0;
    free(errors);
    return c;
}

#define SECRET_1 "0123456789abcdef"
#define SECRET_2 "the second secret of this file"

static void secrets_are_read(void **state)
{
    (void)state;
    struct folder f = make_folder();
    write_file(f.tokens, "# first signs\n" SECRET_1 "\n\n  " SECRET_2 "  \r\n", 0640);
    char said[1024];
    struct config *c = load_folder(&f, said);
    assert_string_equal(said, "");
    assert_non_null(c);
    assert_false(c->tokens_are_random);
    assert_int_equal(c->engine.edge.keys.count, 2);
    struct token_key want;
    assert_int_equal(token_key_init(&want, SLICE(SECRET_2)), 0);
    assert_int_equal(c->engine.edge.keys.key[1].id, want.id);
    assert_memory_equal(c->engine.edge.keys.key[1].inner, want.inner, sizeof want.inner);
    config_free(c);
    drop_folder(&f);
}

static void secrets_must_be_good(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *want;
        mode_t mode;
    } cases[] = {
        {"open to all", SECRET_1 "\n",
         "/edge.yaml:5:19: `/tokens` is open to every user of this machine (mode 644); chmod o= "
         "it, and change its secrets\n",
         0644},
        {"empty", "# nothing\n", "/edge.yaml:5:19: `/tokens` holds no secret", 0600},
        {"short", SECRET_1 "\nshort\n", "/tokens:2:1: this secret has 5 bytes; write 16 to 64",
         0600},
        {"twice", SECRET_1 "\n" SECRET_1 "\n", "/tokens:2:1: this secret is the same as secret 1",
         0600},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct folder f = make_folder();
        write_file(f.tokens, cases[i].text, cases[i].mode);
        char said[1024];
        struct config *c = load_folder(&f, said);
        drop_folder(&f);
        if (c != NULL || strncmp(said, cases[i].want, strlen(cases[i].want)) != 0)
            fail_msg("%s:\n got    %s\n wanted %s", cases[i].name, said, cases[i].want);
    }
}

static void missing_file_is_said(void **state)
{
    (void)state;
    struct folder f = make_folder();
    unlink(f.config);
    char said[1024];
    assert_null(load_folder(&f, said));
    assert_string_equal(said, "/edge.yaml:1:1: cannot be read: No such file or directory; write "
                              "the path of a configuration file\n");
    drop_folder(&f);
}

/* ---- reload ---------------------------------------------------------------------------------- */

static struct config *reload(const struct config *previous, const char *text, char **ret_errors)
{
    return parse(text, previous, key_b, ret_errors);
}

#define TWO_LISTENERS(a, b)                                                                        \
    NODE "listeners: [{bind: \"udp://127.0.0.1:" a "\", side: outside},"                           \
         " {bind: \"udp://127.0.0.1:" b "\", side: outside}]\n" POOLS ROUTES

static void listener_ids_survive(void **state)
{
    (void)state;
    char *errors = NULL;
    struct config *first = good("first", TWO_LISTENERS("5061", "5062"));
    assert_int_equal(first->engine.edge.listener[0].bind.port, 5061);
    assert_int_equal(first->engine.edge.listener[1].bind.port, 5062);

    /* 5062 stays what it was; the new one does not take the place of the one that went. */
    struct config *second = reload(first, TWO_LISTENERS("5063", "5062"), &errors);
    assert_non_null(second);
    free(errors);
    const struct edge_listener *l = second->engine.edge.listener;
    assert_false(l[0].used);
    assert_int_equal(l[1].bind.port, 5062);
    assert_int_equal(l[2].bind.port, 5063);

    struct config *third =
        reload(second,
               NODE "listeners: [{name: b, bind: \"udp://127.0.0.1:5062\", side: outside},"
                    " {name: a, bind: \"udp://127.0.0.1:5063\", side: inside}]\n" POOLS ROUTES,
               &errors);
    assert_non_null(third);
    free(errors);
    l = third->engine.edge.listener;
    assert_int_equal(l[1].bind.port, 5062);
    assert_int_equal(l[2].bind.port, 5063);
    assert_slice(l[2].name, "a");

    struct config *fourth = reload(third, TWO_LISTENERS("5062", "5063"), &errors);
    assert_non_null(fourth);
    free(errors);
    l = fourth->engine.edge.listener;
    assert_int_equal(l[1].bind.port, 5062);
    assert_int_equal(l[2].bind.port, 5063);
    config_free(fourth);
    config_free(third);
    config_free(second);
    config_free(first);
}

static void random_keys_are_kept(void **state)
{
    (void)state;
    char *errors = NULL;
    struct config *first = good("first", SMALL), *second = reload(first, SMALL, &errors);
    assert_non_null(second);
    assert_true(second->tokens_are_random);
    assert_memory_equal(&second->engine.edge.keys, &first->engine.edge.keys,
                        sizeof first->engine.edge.keys);
    free(errors);
    struct config *other = parse(SMALL, NULL, key_b, &errors);
    assert_memory_not_equal(&other->engine.edge.keys.key[0].inner,
                            &first->engine.edge.keys.key[0].inner, 32);
    free(errors);
    config_free(other);
    config_free(second);
    config_free(first);
}

static void restart_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *want;
    } cases[] = {
        {"nothing changed", SMALL, NULL},
        {"drain may change", SMALL "drain: {within: 1s}\n", NULL},
        {"limits", SMALL "limits: {transactions: 1000}\n",
         "edge.yaml:5:24: limits.transactions cannot change while it runs; write 262144 as before, "
         "or restart\n"},
        {"messages", SMALL "limits: {messages: {huge: 100}}\n",
         "edge.yaml:5:27: limits.messages.huge cannot change while it runs; write 512 as before"},
        {"id", "node: {name: edge-1, id: 3}\n" LISTEN POOLS ROUTES,
         "edge.yaml:1:26: node.id cannot change while it runs; write 0 as before, or restart\n"},
        {"workers", "node: {name: edge-1, workers: 61}\n" LISTEN POOLS ROUTES,
         "edge.yaml:1:31: node.workers cannot change while it runs"},
        {"control", SMALL "control: /tmp/x\n", "edge.yaml:5:10: control cannot change while it"},
        {"another error is no change", SMALL "limits: {transactions: x}\n",
         "edge.yaml:5:24: `x` is not a whole number; write 64 to 4194304\n"},
    };
    struct config *first = good("first", SMALL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *errors = NULL;
        struct config *c = reload(first, cases[i].text, &errors);
        if (cases[i].want == NULL && c == NULL)
            fail_msg("%s: refused: %s", cases[i].name, errors);
        if (cases[i].want != NULL &&
            (c != NULL || strncmp(errors, cases[i].want, strlen(cases[i].want)) != 0))
            fail_msg("%s:\n got    %s\n wanted %s", cases[i].name, errors, cases[i].want);
        assert_int_equal(lines_of(errors), cases[i].want != NULL);
        free(errors);
        config_free(c);
    }
    config_free(first);
}

/* ---- documents ------------------------------------------------------------------------------- */

static void manual_is_current(void **state)
{
    (void)state;
    char *want = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&want, &size);
    config_write_reference(out);
    fclose(out);
    FILE *f = fopen("docs/manual/weir.yaml.5.md", "r");
    if (f == NULL)
        fail_msg("docs/manual/weir.yaml.5.md cannot be read");
    char *got = (char *)calloc(1, size + 2);
    size_t n = fread(got, 1, size + 1, f);
    fclose(f);
    if (n != size || memcmp(got, want, size) != 0)
        fail_msg("docs/manual/weir.yaml.5.md is not what `weir check --reference` writes");
    free(got);
    free(want);
}

static void json_schema_closes_what_it_opens(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    config_write_json_schema(out);
    fclose(out);
    int depth = 0;
    bool quoted = false;
    for (const char *p = text; *p != 0; p++) {
        if (*p == '\\')
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        assert_true(depth >= 0);
    }
    assert_int_equal(depth, 0);
    assert_false(quoted);
    assert_non_null(strstr(text, "\"workers\": {\"description\""));
    assert_null(strstr(text, "\"capture\""));
    free(text);
}

int main(void)
{
    setenv("X_", "", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_file_loads),
        cmocka_unit_test(defaults_agree),
        cmocka_unit_test(fuller_file_nodes),
        cmocka_unit_test(fuller_file_pools),
        cmocka_unit_test(environment_is_put_in),
        cmocka_unit_test(errors_have_places),
        cmocka_unit_test(all_errors_are_reported),
        cmocka_unit_test(errors_are_sorted),
        cmocka_unit_test(errors_do_not_breed),
        cmocka_unit_test(names_that_nobody_can_resolve_now),
        cmocka_unit_test(errors_are_bounded),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(secrets_are_read),
        cmocka_unit_test(secrets_must_be_good),
        cmocka_unit_test(missing_file_is_said),
        cmocka_unit_test(listener_ids_survive),
        cmocka_unit_test(random_keys_are_kept),
        cmocka_unit_test(restart_is_asked_for),
        cmocka_unit_test(manual_is_current),
        cmocka_unit_test(json_schema_closes_what_it_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
