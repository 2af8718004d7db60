/* SPDX-License-Identifier: Apache-2.0
 *
 * The keys of the flood guard and of moving phones: what they become, and what is wrong.
 * covers: schema_guard.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/config.h"
#include "support/support.h"

#define SMALL                                                                                      \
    "node: {name: edge-1}\n"                                                                       \
    "listeners: [{bind: \"tcp://127.0.0.1:5060\", side: outside, proxy: true, backlog: 100}]\n"    \
    "pools: {border: {targets: [\"tcp://127.0.0.1:5070\"]}}\n"                                     \
    "routes: [{from: outside, to: border}]\n"

static struct config *parse(const char *text, char **ret_errors)
{
    static const uint8_t key[32] = {1};
    size_t n = 0;
    FILE *errors = open_memstream(ret_errors, &n);
    assert_non_null(errors);
    char *copy = guard_copy(text, strlen(text));
    struct config *c = config_parse(slice_of(copy, strlen(text)), "edge.yaml", NULL, key, errors);
    guard_free(copy);
    fclose(errors);
    return c;
}

static void numbers_become_tokens(void **state)
{
    (void)state;
    char *errors;
    struct config *c = parse(SMALL "guard:\n"
                                   "  report_only: true\n"
                                   "  connections: {max: 1000, per_source: 10, per_prefix: 100}\n"
                                   "  accepts: {tcp: 500, handshakes: 1000}\n"
                                   "  per_source: {requests: 20, auth: 1, malformed: off}\n"
                                   "  per_prefix: {scans: 7}\n"
                                   "  burst: 5s\n"
                                   "  ban: {first: off}\n"
                                   "  exempt: [192.0.2.0/24, \"2001:db8::/32\"]\n"
                                   "  shed: {delay: 10ms, age: off}\n"
                                   "  emergency: [\"110\"]\n"
                                   "  loops: {crossings: 4, session_id: false}\n"
                                   "  overload_control: false\n"
                                   "  sources: 2048\n"
                                   "  nftables: inet  my-filter b23456789012345678901234567890_2\n",
                             &errors);
    if (c == NULL)
        fail_msg("%s", errors);
    const struct edge_opts *e = &c->engine.edge;
    const struct guard_opts *o = &e->guard;
    assert_true(o->report_only);
    assert_int_equal(o->connections_max, 1000);
    assert_int_equal(o->per_source_max, 10);
    assert_int_equal(o->per_prefix_max, 100);
    assert_int_equal(o->accepts[TP_TCP].per_second, 500);
    assert_int_equal(o->accepts[TP_TCP].burst, 100); /* a fifth of a second */
    assert_int_equal(o->accepts[TP_TLS].per_second, 0);
    assert_int_equal(o->handshakes.per_second, 1000);
    assert_int_equal(o->per_source[GUARD_REQUESTS].per_second, 20);
    assert_int_equal(o->per_source[GUARD_REQUESTS].burst, 100);
    assert_int_equal(o->per_source[GUARD_AUTH].burst, 5);
    assert_int_equal(o->per_source[GUARD_MALFORMED].per_second, 0);
    assert_int_equal(o->per_prefix[GUARD_SCANS].per_second, 7);
    assert_int_equal(o->ban_first, 0);
    assert_int_equal(o->exempt_count, 2);
    assert_int_equal(o->exempt[1].bits, 32);
    assert_int_equal(o->delay_target, 10 * NS_MS);
    assert_int_equal(o->request_age_max, 0);
    assert_int_equal(o->session_crossings_max, 4);
    assert_false(e->session_id);
    assert_false(e->overload);
    assert_int_equal(e->emergency_count, 1);
    assert_memory_equal(e->emergency[0].p, "110", 3);
    assert_int_equal(c->engine.limits.guard.sources, 2048);
    assert_true(slice_equal(c->nftables.family, SLICE("inet")));
    assert_true(slice_equal(c->nftables.table, SLICE("my-filter")));
    assert_true(slice_equal(c->nftables.set, SLICE("b23456789012345678901234567890_2")));
    assert_true(c->listener[0].proxy);
    assert_int_equal(c->listener[0].backlog, 100);
    config_free(c);
    free(errors);
}

static void phones_are_moved(void **state)
{
    (void)state;
    char *errors;
    struct config *c =
        parse(SMALL "drain: {phones_within: 1m, move_to: \"<sip:edge2.example.com;transport=tls>\","
                    " agents: [Acme]}\n"
                    "recycle: {after: 12h, jitter: 10%}\n",
              &errors);
    if (c == NULL)
        fail_msg("%s", errors);
    const struct edge_moving *m = &c->engine.edge.moving;
    assert_true(slice_equal(m->to, SLICE("<sip:edge2.example.com;transport=tls>")));
    assert_int_equal(m->agent_count, 1);
    assert_true(slice_equal(m->agents[0], SLICE("Acme")));
    assert_true(m->learn);
    assert_int_equal(m->within, 60 * NS_S);
    assert_int_equal(m->recycle_after, 12 * 3600 * NS_S);
    assert_int_equal(m->recycle_jitter_percent, 10);
    config_free(c);
    free(errors);
}

static void mistakes_have_places(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *error;
    } cases[] = {
        {"an unknown key", "guard: {per_sauce: {}}\n", "5:9: `per_sauce` is not a key"},
        {"ban turned around", "guard: {ban: {first: 1h, max: 10s}}\n", "5:22: "},
        {"retry turned around", "guard: {retry_after: {min: 1h, max: 10s}}\n", "5:28: "},
        {"no URI", "drain: {move_to: \"edge2\"}\n", "5:18: `edge2` is no SIP URI in <>"},
        {"line end in a URI", "drain: {move_to: \"<sip:a\\r\\nX: y>\"}\n", "5:18: "},
        {"a header in a URI", "drain: {move_to: \"<sip:a@b?x=y>\"}\n", "5:18: "},
        {"agents without an aim", "drain: {agents: [Acme]}\n",
         "5:17: `agents` follow to `move_to`"},
        {"a rate of nothing", "guard: {per_source: {auth: 0}}\n", "5:28: "},
        {"half a set", "guard: {nftables: weir_bans}\n",
         "5:19: `weir_bans` is not a family, a table and a set; write inet filter weir_bans"},
        {"more than a set", "guard: {nftables: inet filter weir_bans 6}\n",
         "5:19: `inet filter weir_bans 6` is not a family, a table and a set"},
        {"no family of addresses", "guard: {nftables: bridge filter weir_bans}\n",
         "5:19: `bridge` is not a family of tables with a set of addresses; write inet, ip or ip6"},
        {"commands in a table", "guard: {nftables: \"inet f;flush weir_bans\"}\n",
         "5:19: `f;flush` is not a name of a table; write 1 to 32 letters, digits, `_` or `-`, a "
         "letter or `_` first"},
        {"a line end in a set", "guard: {nftables: \"inet filter a\\nb\"}\n",
         "is not a name of a set"},
        {"a digit first", "guard: {nftables: inet filter 6bans}\n",
         "`6bans` is not a name of a set"},
        {"a dash first", "guard: {nftables: inet -f bans}\n", "`-f` is not a name of a table"},
        {"a dot", "guard: {nftables: inet fil.ter bans}\n", "`fil.ter` is not a name of a table"},
        {"33 letters", "guard: {nftables: inet filter a23456789012345678901234567890123}\n",
         "is not a name of a set; write 1 to 32 letters"},
        {"not a network", "guard: {exempt: [10.0.0.1/8]}\n", "5:18: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *errors, text[1024];
        snprintf(text, sizeof text, "%s%s", SMALL, cases[i].text);
        struct config *c = parse(text, &errors);
        if (c != NULL || strstr(errors, cases[i].error) == NULL)
            fail_msg("%s: expected \"%s\", got \"%s\"", cases[i].name, cases[i].error, errors);
        free(errors);
    }
}

static void off_is_no_set(void **state)
{
    (void)state;
    static const char *const texts[] = {SMALL, SMALL "guard: {nftables: off}\n"};
    for (unsigned i = 0; i < 2; i++) {
        char *errors;
        struct config *c = parse(texts[i], &errors);
        if (c == NULL)
            fail_msg("%s", errors);
        assert_int_equal(c->nftables.family.n, 0);
        assert_int_equal(c->nftables.set.n, 0);
        config_free(c);
        free(errors);
    }
}

static void datagrams_need_no_backlog(void **state)
{
    (void)state;
    char *errors;
    assert_null(parse("node: {name: edge-1}\n"
                      "listeners: [{bind: \"udp://127.0.0.1:5060\", side: outside, proxy: true}]\n"
                      "pools: {border: {targets: [\"udp://127.0.0.1:5070\"]}}\n"
                      "routes: [{from: outside, to: border}]\n",
                      &errors));
    if (strstr(errors, "2:59: `proxy` belongs to listeners for connections") == NULL)
        fail_msg("%s", errors);
    free(errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_become_tokens),     cmocka_unit_test(phones_are_moved),
        cmocka_unit_test(mistakes_have_places),      cmocka_unit_test(off_is_no_set),
        cmocka_unit_test(datagrams_need_no_backlog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
