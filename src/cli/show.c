/* SPDX-License-Identifier: Apache-2.0
 *
 * weir show: rows of the control socket, as they come (-o json) or as tables for people. What
 * workers tell each of their own is put together here: one row per target, one sum per counter. */
#include <stdlib.h>
#include <string.h>
#include "cli/common.h"
#include "net/net.h"
#include "observe/observe.h"

static const char help[] =
    "usage: weir show pools|transactions|flows|bindings [AOR]|counters|workers|store|\n"
    "                 guard|drain [-o table|json] [-s SOCKET | -c FILE]\n"
    "\n"
    "Looks into a running weir.\n"
    "\n"
    "  pools          every target, whether it takes calls, and why\n"
    "  transactions   requests that are open or linger\n"
    "  flows          stream connections\n"
    "  bindings       who is registered where; of one address-of-record, or all\n"
    "  counters       what was counted since the start, and what it means\n"
    "  workers        the load of each worker thread\n"
    "  store          what was written to the file of bindings\n"
    "  guard          what comes in, what is refused and to whom, what is shed\n"
    "  drain          how far a drain is\n"
    "\n"
    "  -o, --output FORMAT   table, or json: one object per line, one per worker where workers\n"
    "                        count apart\n"
    "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE     the file that names it\n"
    "  -h, --help            write this\n"
    "\n"
    "Exit status: 0 done, 1 failed, 64 wrong usage, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir show pools\n"
    "  weir show bindings alice@example.com\n"
    "  weir show transactions -o json | jq 'select(.age_ms > 10000)'\n";

/* "1.2 s", "3 min", "5 h": how long ago, for people. */
static void add_age(struct table *t, uint64_t ms)
{
    char text[32];
    if (ms < 100 * 1000)
        snprintf(text, sizeof text, "%llu.%llu s", (unsigned long long)ms / 1000,
                 (unsigned long long)ms % 1000 / 100);
    else if (ms < 100 * 60000)
        snprintf(text, sizeof text, "%llu min", (unsigned long long)ms / 60000);
    else
        snprintf(text, sizeof text, "%llu h", (unsigned long long)ms / 3600000);
    table_add(t, slice_cstr(text));
}

static void add_or_dash(struct table *t, struct slice s)
{
    table_add(t, s.n > 0 ? s : SLICE("-"));
}

/* ---- pools ----------------------------------------------------------------------------------- */

static bool same_target(const struct row *a, const struct row *b)
{
    return slice_equal(row_get(a, "pool"), row_get(b, "pool")) &&
           slice_equal(row_get(a, "target"), row_get(b, "target"));
}

static bool is_first_of_target(const struct rows *a, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (same_target(&a->row[i], &a->row[at]))
            return false;
    return true;
}

static void add_state(struct table *t, const struct row *worst, unsigned fit, unsigned workers)
{
    char text[48];
    /* In the order of pool_explain(), so that STATE and WHY speak of the same. */
    const char *word = !slice_equal(row_get(worst, "admin"), SLICE("ready")) ? "unfit"
                       : !row_true(worst, "up")                              ? "down"
                       : row_true(worst, "ejected")                          ? "ejected"
                                                                             : "unfit";
    if (fit == workers) {
        bool panic = row_true(worst, "panic");
        table_add(t, panic ? SLICE("up, pool panics") : SLICE("up"));
        table_mark(t, panic ? MARK_ODD : MARK_GOOD);
    } else if (fit == 0) {
        table_add(t, slice_cstr(word));
        table_mark(t, MARK_BAD);
    } else {
        snprintf(text, sizeof text, "%s at %u of %u workers", word, workers - fit, workers);
        table_add(t, slice_cstr(text));
        table_mark(t, MARK_ODD);
    }
}

/* One line for a target, put together from all workers; its words are those of a worker that sees
 * it unfit, if there is one. */
static void add_target(struct table *t, const struct rows *a, size_t first)
{
    static const char *const sums[] = {"open", "begun", "answered", "failed"};
    uint64_t sum[4] = {0};
    unsigned workers = 0, fit = 0;
    const struct row *worst = &a->row[first];
    for (size_t i = first; i < a->count; i++) {
        const struct row *r = &a->row[i];
        if (!same_target(r, &a->row[first]))
            continue;
        workers++;
        fit += row_true(r, "fit");
        if (row_true(worst, "fit") && !row_true(r, "fit"))
            worst = r;
        for (unsigned k = 0; k < 4; k++)
            sum[k] += row_number(r, sums[k]);
    }
    table_add(t, row_get(worst, "pool"));
    table_add(t, row_get(worst, "target"));
    add_or_dash(t, row_get(worst, "zone"));
    table_add(t, row_get(worst, "weight"));
    table_add(t, row_get(worst, "admin"));
    table_mark(t, slice_equal(row_get(worst, "admin"), SLICE("ready")) ? MARK_NONE : MARK_ODD);
    add_state(t, worst, fit, workers);
    for (unsigned k = 0; k < 4; k++)
        table_add_u64(t, sum[k]);
    table_add(t, row_get(worst, "why"));
}

static void print_pools(const struct rows *a)
{
    static const char *const heads[] = {"POOL", "TARGET", "ZONE",     "WEIGHT", "ADMIN", "STATE",
                                        "OPEN", "BEGUN",  "ANSWERED", "FAILED", "WHY"};
    struct table *t = table_new(heads, 11);
    for (size_t i = 0; i < a->count; i++)
        if (is_first_of_target(a, i))
            add_target(t, a, i);
    table_print(t, stdout, "no pools");
}

/* ---- transactions, flows, workers ------------------------------------------------------------ */

static void print_transactions(const struct rows *a)
{
    static const char *const heads[] = {"METHOD", "STATE", "AGE",   "FROM",    "SIDE",  "TO",
                                        "POOL",   "TRIES", "NOTES", "CALL-ID", "WORKER"};
    struct table *t = table_new(heads, 11);
    for (size_t i = 0; i < a->count; i++) {
        const struct row *r = &a->row[i];
        table_add(t, row_get(r, "method"));
        table_add(t, row_get(r, "state"));
        add_age(t, row_number(r, "age_ms"));
        table_add(t, row_get(r, "source"));
        table_add(t, row_get(r, "side"));
        add_or_dash(t, row_get(r, "dest"));
        add_or_dash(t, row_get(r, "pool"));
        table_add(t, row_get(r, "tries"));
        table_add(t, row_true(r, "cancelled")  ? SLICE("cancelled")
                     : row_true(r, "answered") ? SLICE("answered")
                     : row_true(r, "ringing")  ? SLICE("ringing")
                                               : SLICE("-"));
        add_or_dash(t, row_get(r, "call_id"));
        table_add(t, row_get(r, "worker"));
    }
    table_print(t, stdout, "no transactions");
}

/* "0/12": worker and slot, which name a connection among those of this moment. */
static void add_flow(struct table *t, struct slice worker, struct slice slot)
{
    char text[48];
    snprintf(text, sizeof text, "%.*s/%.*s", SLICE_ARG(worker), SLICE_ARG(slot));
    table_add(t, slice_cstr(text));
}

static void print_flows(const struct rows *a)
{
    static const char *const heads[] = {"FLOW", "PEER",  "TRANSPORT",  "SIDE", "LISTENER",
                                        "NAME", "STATE", "AGE",        "IDLE", "IN",
                                        "OUT",  "OPEN",  "REGISTERED", "CALLS"};
    struct table *t = table_new(heads, 14);
    for (size_t i = 0; i < a->count; i++) {
        const struct row *r = &a->row[i];
        bool is_ours = slice_equal(row_get(r, "opened_by"), SLICE("us"));
        if (is_ours)
            table_add(t, SLICE("by us"));
        else
            add_flow(t, row_get(r, "worker"), row_get(r, "slot"));
        table_add(t, row_get(r, "peer"));
        table_add(t, row_get(r, "transport"));
        table_add(t, row_get(r, "side"));
        add_or_dash(t, row_get(r, "listener"));
        add_or_dash(t, row_get(r, "name"));
        table_add(t, row_get(r, "state"));
        add_age(t, row_number(r, "age_ms"));
        add_age(t, row_number(r, "idle_ms"));
        table_add(t, row_get(r, "messages_in"));
        table_add(t, row_get(r, "messages_out"));
        table_add(t, row_get(r, "open"));
        table_add(t, row_true(r, "registered") ? SLICE("yes") : SLICE("no"));
        table_add(t, row_get(r, "calls"));
    }
    table_print(t, stdout, "no flows");
}

static void print_workers(const struct rows *a)
{
    static const char *const heads[] = {
        "WORKER",       "RELAYS",        "OPEN",           "TRIES",      "FLOWS",   "DRAINING",
        "DATAGRAMS IN", "DATAGRAMS OUT", "DATAGRAMS LOST", "HANDS LOST", "LOG LOST"};
    static const char *const keys[] = {"worker",   "relays",     "relays_open", "tries",
                                       "flows",    "draining",   "udp_in",      "udp_out",
                                       "udp_lost", "hands_lost", "log_lost"};
    struct table *t = table_new(heads, 11);
    for (size_t i = 0; i < a->count; i++) {
        for (unsigned k = 0; k < 11; k++) {
            struct slice v = row_get(&a->row[i], keys[k]);
            table_add(t, slice_equal(v, SLICE("true"))    ? SLICE("yes")
                         : slice_equal(v, SLICE("false")) ? SLICE("no")
                                                          : v);
        }
    }
    table_print(t, stdout, "no workers");
}

/* ---- bindings, store ------------------------------------------------------------------------- */

/* Of worker/slot/generation the first two, as in the table of flows. */
static void add_flow_of_binding(struct table *t, struct slice flow)
{
    size_t slash = slice_find(flow, '/');
    struct slice rest = slice_drop(flow, slash + 1);
    if (slash < flow.n)
        add_flow(t, slice_take(flow, slash), slice_take(rest, slice_find(rest, '/')));
    else
        add_or_dash(t, flow);
}

static void print_bindings(const struct rows *a)
{
    static const char *const heads[] = {"AOR", "CONTACT",    "TRANSPORT", "SOURCE", "FLOW",
                                        "Q",   "EXPIRES IN", "INSTANCE",  "REG-ID"};
    struct table *t = table_new(heads, 9);
    for (size_t i = 0; i < a->count; i++) {
        const struct row *r = &a->row[i];
        table_add(t, row_get(r, "aor"));
        table_add(t, row_get(r, "contact"));
        add_or_dash(t, row_get(r, "transport"));
        add_or_dash(t, row_get(r, "source"));
        add_flow_of_binding(t, row_get(r, "flow"));
        add_or_dash(t, row_get(r, "q"));
        add_age(t, row_number(r, "expires_s") * 1000);
        add_or_dash(t, row_get(r, "instance"));
        add_or_dash(t, row_get(r, "reg_id"));
    }
    table_print(t, stdout, "no bindings");
}

static void print_store(const struct rows *a)
{
    static const char *const heads[] = {"COUNTER", "VALUE", "MEANING"};
    struct table *t = table_new(heads, 3);
    for (size_t i = 0; i < a->count; i++) {
        table_add(t, row_get(&a->row[i], "counter"));
        table_add(t, row_get(&a->row[i], "value"));
        table_add(t, row_get(&a->row[i], "meaning"));
    }
    table_print(t, stdout, "no store: this weir keeps no bindings");
}

/* ---- counters -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *what;
} meanings[] = {
#define X(name, what) {#name, what},
    OBSERVE_COUNTERS(X)
#undef X
};

/* What is no sum since the start. */
static const struct {
    const char *name, *what;
} at_this_moment[] = {
    {"relays_now", "now: requests held, those that linger included"},
    {"relays_open_now", "now: of these, without a final answer"},
    {"tries_now", "now: client transactions, probes and CANCELs included"},
    {"blocks_now", "now: kept messages"},
    {"flows_now", "now: stream connections"},
    {"aors_now", "now: users with bindings"},
    {"bindings_now", "now: bindings"},
};

static const char *meaning_of(struct slice name)
{
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++)
        if (slice_equal(name, slice_cstr(meanings[i].name)))
            return meanings[i].what;
    for (size_t i = 0; i < sizeof at_this_moment / sizeof at_this_moment[0]; i++)
        if (slice_equal(name, slice_cstr(at_this_moment[i].name)))
            return at_this_moment[i].what;
    return "";
}

static void print_counters(const struct rows *a)
{
    static const char *const heads[] = {"COUNTER", "VALUE", "MEANING"};
    struct table *t = table_new(heads, 3);
    for (unsigned k = 0; a->count > 0 && k < a->row[0].count; k++) {
        struct slice name = a->row[0].key[k];
        char key[64];
        uint64_t sum = 0;
        if (slice_equal(name, SLICE("worker")) || name.n >= sizeof key)
            continue;
        memcpy(key, name.p, name.n);
        key[name.n] = '\0';
        for (size_t i = 0; i < a->count; i++)
            sum += row_number(&a->row[i], key);
        table_add(t, name);
        table_add_u64(t, sum);
        table_add(t, slice_cstr(meaning_of(name)));
    }
    table_print(t, stdout, "no counters");
}

/* ---- the command ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*print)(const struct rows *a);
} topics[] = {
    {"pools", print_pools},       {"transactions", print_transactions},
    {"flows", print_flows},       {"bindings", print_bindings},
    {"counters", print_counters}, {"workers", print_workers},
    {"store", print_store},       {"guard", show_guard},
    {"drain", show_drain},
};
enum { TOPICS = sizeof topics / sizeof topics[0] };

static int unknown_topic(const char *word)
{
    const char *names[TOPICS];
    for (size_t i = 0; i < TOPICS; i++)
        names[i] = topics[i].name;
    const char *near = cli_nearest(word, names, TOPICS);
    if (near != NULL)
        return cli_usage_error("show", "there is no '%s' to show: did you mean '%s'?", word, near);
    return cli_usage_error("show", "there is no '%s' to show", word);
}

static int show(const char *path, size_t topic, const char *argument, bool json)
{
    char request[512];
    snprintf(request, sizeof request, "show %s %s", topics[topic].name, argument);
    if (json)
        return control_call(path, request, stdout, stderr);
    struct rows rows;
    int status = rows_fetch(path, request, &rows);
    if (status == CLI_OK)
        topics[topic].print(&rows);
    rows_free(&rows);
    return status;
}

int cli_show(int argc, char **argv)
{
    struct cli_ask ask = {.command = "show", .help = help, .has_output = true};
    char path[256];
    int status = cli_ask_options(&ask, argc, argv);
    if (status >= 0)
        return status;
    const char *word = ask.first < argc ? argv[ask.first] : "";
    const char *argument = ask.first + 1 < argc ? argv[ask.first + 1] : "";
    if (word[0] == '\0')
        return cli_usage_error(
            "show",
            "one of pools, transactions, flows, bindings, counters, workers, store, guard, drain");
    size_t topic = 0;
    while (topic < TOPICS && strcmp(word, topics[topic].name) != 0)
        topic++;
    if (topic == TOPICS)
        return unknown_topic(word);
    int most = topics[topic].print == print_bindings ? 2 : 1;
    if (argc - ask.first > most)
        return cli_usage_error("show", "unexpected: %s", argv[ask.first + most]);
    if (argument[0] != '\0' && (!cli_is_word(argument) || strlen(argument) > CLI_AOR_MAX))
        return cli_usage_error("show", "an address-of-record is one word of at most %d bytes",
                               CLI_AOR_MAX);
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    return status != CLI_OK ? status : show(path, topic, argument, ask.json);
}
