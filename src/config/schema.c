/* SPDX-License-Identifier: Apache-2.0
 *
 * Every key that there is. Reading, defaults, ranges, did-you-mean, the manual page and the JSON
 * schema all come from these tables and from nothing else. */
#include "config/config_int.h"

#define PUT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define SECTION(table)    .fields = table, .count = sizeof(table) / sizeof(table)[0]

/* ---- node, secrets --------------------------------------------------------------------------- */

static const struct field node_fields[] = {
    {.key = "name",
     .type = V_NAME,
     .flags = F_REQUIRED,
     .example = "edge-1",
     PUT(struct draft, c.engine.edge.node_name),
     .help = "What this edge calls itself in logs, `Warning` headers and its control socket."},
    {.key = "id",
     .type = V_INT,
     PUT(struct draft, c.engine.edge.node_id),
     .max = 65535,
     .standard = "0",
     .help = "Number of this edge inside its tokens. Edges that share `secrets.tokens` need "
             "different ones. A change needs a restart."},
    {.key = "region",
     .type = V_NAME,
     PUT(struct draft, c.engine.edge.region),
     .help = "Where it runs; for logs."},
    {.key = "zone",
     .type = V_NAME,
     PUT(struct draft, c.engine.edge.zone),
     .help = "Its zone within the region: targets of the same zone are preferred."},
    {.key = "workers",
     .type = V_INT,
     PUT(struct draft, c.workers),
     .min = 1,
     .max = WORKERS_MAX,
     .standard = "auto",
     .zero = "auto",
     .help = "Threads that carry messages. `auto` is one for each processor that the process may "
             "use. A change needs a restart."},
};
static const struct schema node_schema = {.what = "node", SECTION(node_fields)};

static const struct field secrets_fields[] = {
    {.key = "tokens",
     .type = V_PATH,
     PUT(struct draft, tokens),
     .max = PATH_BYTES_MAX,
     .help = "File of the secrets that sign our tokens in `Record-Route`: one a line, 16 to 64 "
             "bytes, `#` begins a comment. The first signs, all verify, so that they can be "
             "changed one after another. Others must not be able to read it. Without it a random "
             "secret is made at start: dialogs that are open then do not survive a restart, and "
             "no other edge can carry on with them."},
};
static const struct schema secrets_schema = {.what = "secrets", SECTION(secrets_fields)};

/* ---- listeners ------------------------------------------------------------------------------- */

static const struct word side_words[] = {
    {"outside", SIDE_OUTSIDE, "phones, carriers, the Internet: nothing that they say is believed"},
    {"inside", SIDE_INSIDE, "our own servers: their Route headers are followed"},
    {0},
};

static const char later_listener[] =
    "belongs to tls, ws and wss listeners, which come with a later "
    "release; leave it out";

static const struct field listener_fields[] = {
    {.key = "name",
     .type = V_NAME,
     PUT(struct draft_listener, name),
     .flags = F_DERIVED,
     .standard = "the text of `bind`",
     .help = "For logs."},
    {.key = "bind",
     .type = V_URI,
     .flags = F_REQUIRED | F_NUMERIC,
     .example = "\"udp://10.0.0.5:5060\"",
     PUT(struct draft_listener, bind),
     .help = "Transport, address and port to listen on: `udp://10.0.0.5:5060`, "
             "`tcp://[2001:db8::5]:5060`. It is also what a listener is known by across reloads."},
    {.key = "side",
     .type = V_WORD,
     .flags = F_REQUIRED,
     .example = "outside, or inside",
     PUT(struct draft_listener, side),
     .words = side_words,
     .help = "Who is on the other side of it."},
    {.key = "advertise",
     .type = V_HOSTPORT,
     PUT(struct draft_listener, advertise),
     .flags = F_DERIVED,
     .standard = "the address and port of `bind`",
     .help = "`HOST:PORT` by which others reach this listener; written into our `Via` and "
             "`Record-Route`. Required when `bind` is `0.0.0.0` or `[::]`."},
    {.key = "cert", .type = V_LATER, .help = later_listener},
    {.key = "key", .type = V_LATER, .help = later_listener},
    {.key = "origins", .type = V_LATER, .help = later_listener},
};
static const struct schema listener_schema = {
    .what = "a listener",
    SECTION(listener_fields),
    .size = sizeof(struct draft_listener),
};
static const struct field listener_item = {
    .key = "listener", .type = V_MAP, .sub = &listener_schema};

static const struct field trusted_item = {
    .key = "network", .type = V_PREFIX, .size = sizeof(struct prefix)};

/* ---- pools ----------------------------------------------------------------------------------- */

static const struct field target_fields[] = {
    {.key = "uri",
     .type = V_URI,
     .flags = F_REQUIRED,
     .example = "\"udp://10.0.1.10:5060\"",
     PUT(struct draft_target, uri),
     .help = "`udp://HOST:PORT` or `tcp://HOST:PORT`; port 5060 when none is given. A name is "
             "resolved when the file is read, to its first IPv4 address, else its first IPv6 one. "
             "It is also what a target is known by across reloads and in `weir target`."},
    {.key = "zone",
     .type = V_NAME,
     PUT(struct draft_target, zone),
     .help = "Where it runs. Targets of `node.zone` come first; without a zone a target belongs "
             "to every zone."},
    {.key = "weight",
     .type = V_INT,
     PUT(struct draft_target, weight),
     .min = 1,
     .max = 1000,
     .standard = "1",
     .help = "Its share, relative to the other targets."},
    {.key = "tcp",
     .type = V_BOOL,
     PUT(struct draft_target, tcp),
     .standard = "true",
     .help = "A `udp://` target that also listens on TCP at the same port, as RFC 3261 18 asks of "
             "all: requests over 1300 bytes go there by TCP, and by UDP when nothing answers "
             "there. Says nothing about a `tcp://` target."},
};
static const struct schema target_schema = {
    .what = "a target",
    SECTION(target_fields),
    .size = sizeof(struct draft_target),
    .shorthand = "uri",
};
static const struct field target_item = {.key = "target", .type = V_MAP, .sub = &target_schema};

static const struct word balance_words[] = {
    {"least-busy", POOL_LEAST_BUSY, "the less busy of two picked at random, by open transactions"},
    {"round-robin", POOL_ROUND_ROBIN, "one after another, by weight"},
    {"call-id", POOL_CALL_ID,
     "the same target for the same Call-ID; when one of n targets goes, "
     "1/n of the calls move"},
    {0},
};

static const struct field health_fields[] = {
    {.key = "every",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.health.every),
     .min = 100 * NS_MS,
     .max = 3600 * NS_S,
     .standard = "2s",
     .help = "One OPTIONS to each target in this time."},
    {.key = "timeout",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.health.timeout),
     .min = 50 * NS_MS,
     .max = 60 * NS_S,
     .standard = "1s",
     .help = "No answer for this long is a failed probe. At most `every`."},
    {.key = "fall",
     .type = V_INT,
     PUT(struct draft_pool, opts.health.fall),
     .min = 1,
     .max = 100,
     .standard = "3",
     .help = "Failed probes in a row that mark a target down."},
    {.key = "rise",
     .type = V_INT,
     PUT(struct draft_pool, opts.health.rise),
     .min = 1,
     .max = 100,
     .standard = "2",
     .help = "Answered probes in a row that mark it up again."},
};
static const struct schema health_schema = {.what = "health", SECTION(health_fields)};

static const struct word exhausted_words[] = {
    {"final", false, "500: nobody upstream repeats the work"},
    {"retryable", true, "503: upstream may try another edge"},
    {0},
};

static const struct field status_item = {
    .key = "status", .type = V_INT, .size = sizeof(uint16_t), .min = 300, .max = 699};

static const struct field failover_fields[] = {
    {.key = "on",
     .type = V_LIST,
     PUT(struct draft_pool, on),
     .item = &status_item,
     .max = sizeof(((struct pool_opts *)0)->failover.on) / sizeof(uint16_t),
     .standard = "[408, 503, 430]",
     .help = "Final answers that move a request on to the next target. No answer and a refused "
             "connection always do; after a provisional answer above 100 nothing does."},
    {.key = "try",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.failover.try_timeout),
     .min = 50 * NS_MS,
     .max = 60 * NS_S,
     .standard = "2s",
     .help = "How long a target may stay without any answer before the next one is tried. At most "
             "`within`."},
    {.key = "within",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.failover.within),
     .min = 100 * NS_MS,
     .max = 180 * NS_S,
     .standard = "8s",
     .help = "One deadline over all tries of a request."},
    {.key = "tries",
     .type = V_INT,
     PUT(struct draft_pool, opts.failover.tries),
     .min = 1,
     .max = TRIES_MAX,
     .standard = "3",
     .help = "Targets tried for one request, the first included. 1 is no failover."},
    {.key = "budget",
     .type = V_PERCENT,
     PUT(struct draft_pool, opts.failover.budget_percent),
     .max = 100,
     .standard = "20%",
     .help = "Retries for each 100 requests, so that a pool in trouble is not buried under them; "
             "10 in a burst are always free."},
    {.key = "on_exhausted",
     .type = V_WORD,
     PUT(struct draft_pool, opts.failover.retryable),
     .words = exhausted_words,
     .standard = "final",
     .help = "The answer when every option is spent."},
};
static const struct schema failover_schema = {.what = "failover", SECTION(failover_fields)};

static const struct field outlier_fields[] = {
    {.key = "eject_after",
     .type = V_INT,
     PUT(struct draft_pool, opts.outlier.eject_after),
     .min = 1,
     .max = 10000,
     .standard = "5",
     .zero = "off",
     .help = "Failures in a row (refused, no answer, 408, 503) after which a target is left out "
             "for a while."},
    {.key = "eject_base",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.outlier.eject_base),
     .min = 100 * NS_MS,
     .max = 3600 * NS_S,
     .standard = "5s",
     .help = "How long the first time; twice as long each further time. At most `eject_max`."},
    {.key = "eject_max",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.outlier.eject_max),
     .min = 100 * NS_MS,
     .max = 24 * 3600 * NS_S,
     .standard = "1m",
     .help = "How long at most."},
    {.key = "panic",
     .type = V_PERCENT,
     PUT(struct draft_pool, opts.outlier.panic_percent),
     .max = 100,
     .standard = "20%",
     .help = "When less than this share of the targets is fit, all are used: then the fault is "
             "more likely ours. `0%` never."},
    {.key = "slow_start",
     .type = V_DURATION,
     PUT(struct draft_pool, opts.outlier.slow_start),
     .min = 100 * NS_MS,
     .max = 3600 * NS_S,
     .standard = "10s",
     .zero = "off",
     .help = "A target that came back gets a tenth of its share at first and all of it after this "
             "time."},
};
static const struct schema outlier_schema = {.what = "outlier", SECTION(outlier_fields)};

static const struct field pool_fields[] = {
    {.key = "targets",
     .type = V_LIST,
     .flags = F_REQUIRED,
     .example = "[\"udp://10.0.1.10:5060\"]",
     PUT(struct draft_pool, targets),
     .item = &target_item,
     .min = 1,
     .max = POOL_TARGETS_MAX,
     .help = "Servers that can do the same work. A target that needs nothing but its `uri` may be "
             "written as just that."},
    {.key = "balance",
     .type = V_WORD,
     PUT(struct draft_pool, opts.balance),
     .words = balance_words,
     .standard = "least-busy",
     .help = "Which target takes the next request."},
    {.key = "health",
     .type = V_MAP,
     PUT(struct draft_pool, opts.health.on),
     .sub = &health_schema,
     .zero = "off",
     .help = "Probes by OPTIONS. A target that answers requests is up, whatever its probes say."},
    {.key = "failover",
     .type = V_MAP,
     .sub = &failover_schema,
     .help = "When and how often a request moves on to another target."},
    {.key = "outlier",
     .type = V_MAP,
     .sub = &outlier_schema,
     .help = "What live traffic says about a target."},
};
static const struct schema pool_schema = {
    .what = "a pool",
    SECTION(pool_fields),
    .size = sizeof(struct draft_pool),
    .name_offset = offsetof(struct draft_pool, opts.name),
};
static const struct field pool_item = {.key = "pool", .type = V_MAP, .sub = &pool_schema};

/* ---- routes ---------------------------------------------------------------------------------- */

static const struct word from_words[] = {
    {"outside", SIDE_OUTSIDE, "requests from the outside"},
    {"inside", SIDE_INSIDE, "requests from the inside"},
    {"any", RULE_ANY, "both"},
    {0},
};

static const struct field route_fields[] = {
    {.key = "from",
     .type = V_WORD,
     PUT(struct draft_route, from),
     .words = from_words,
     .standard = "any",
     .help = "Which side a request came from."},
    {.key = "method",
     .type = V_METHOD,
     PUT(struct draft_route, method),
     .help = "Only requests of this method; without it, all."},
    {.key = "to",
     .type = V_NAME,
     .flags = F_REQUIRED,
     .example = "POOL",
     PUT(struct draft_route, to),
     .help = "Name of the pool that takes them."},
};
static const struct schema route_schema = {
    .what = "a route",
    SECTION(route_fields),
    .size = sizeof(struct draft_route),
};
static const struct field route_item = {.key = "route", .type = V_MAP, .sub = &route_schema};

/* ---- log, limits, timers, policy, drain ------------------------------------------------------ */

static const struct word format_words[] = {
    {"json", CONFIG_LOG_JSON, "one JSON object a line"},
    {"logfmt", CONFIG_LOG_LOGFMT, "name=value pairs, with the same names"},
    {0},
};
static const struct word stream_words[] = {
    {"stdout", 0, "standard output"},
    {"stderr", 0, "standard error"},
    {0},
};

static const struct field log_fields[] = {
    {.key = "transactions",
     .type = V_BOOL,
     PUT(struct draft, c.log.on),
     .standard = "true",
     .help = "One line for each finished transaction."},
    {.key = "format",
     .type = V_WORD,
     PUT(struct draft, c.log.format),
     .words = format_words,
     .standard = "json",
     .help = "How a line is written."},
    {.key = "to",
     .type = V_PATH,
     PUT(struct draft, c.log.path),
     .max = PATH_BYTES_MAX,
     .words = stream_words,
     .standard = "stdout",
     .help = "Where lines go. A file is appended to, and opened anew on HUP."},
};
static const struct schema log_schema = {.what = "log", SECTION(log_fields)};

#define BLOCKS(name, class_, low, text, words)                                                     \
    {                                                                                              \
        .key = name, .type = V_INT, .flags = F_DERIVED,                                            \
        PUT(struct draft, c.engine.limits.blocks[class_]), .min = low, .max = 1 << 22,             \
        .standard = words, .help = text                                                            \
    }

static const struct field messages_fields[] = {
    BLOCKS("small", 0, 16, "Blocks of 512 bytes: final answers of transactions that linger.",
           "as many as `transactions`"),
    BLOCKS("medium", 1, 16, "Blocks of 2 KiB: a request without ICE candidates.",
           "half of `transactions` (131072)"),
    BLOCKS("large", 2, 16, "Blocks of 8 KiB: a request with them.",
           "a sixteenth of `transactions` (16384)"),
    BLOCKS("huge", 3, 8, "Blocks of 96 KiB and a little: the largest message that is taken.",
           "a 512th of `transactions` (512)"),
};
static const struct schema messages_schema = {.what = "limits.messages", SECTION(messages_fields)};

static const struct field limits_fields[] = {
    {.key = "transactions",
     .type = V_INT,
     PUT(struct draft, c.engine.limits.transactions),
     .min = 64,
     .max = 1 << 22,
     .standard = "262144",
     .help = "Transactions, those that only linger (32 s after a UDP answer) included."},
    {.key = "flows",
     .type = V_INT,
     PUT(struct draft, c.engine.limits.flows),
     .min = 16,
     .max = 1 << 20,
     .standard = "20000",
     .help = "Connections that others open to us."},
    {.key = "target_flows",
     .type = V_INT,
     PUT(struct draft, c.engine.limits.target_flows),
     .min = 16,
     .max = 1 << 16,
     .standard = "1024",
     .help = "Connections that we open."},
    {.key = "targets",
     .type = V_INT,
     PUT(struct draft, c.engine.limits.targets),
     .min = 1,
     .max = POOLS_MAX * POOL_TARGETS_MAX,
     .standard = "4096",
     .help = "Targets of all pools together, now and after any reload."},
    {.key = "pools",
     .type = V_INT,
     PUT(struct draft, c.engine.limits.pools),
     .min = 1,
     .max = POOLS_MAX,
     .standard = "256",
     .help = "Pools, now and after any reload."},
    {.key = "messages",
     .type = V_MAP,
     .sub = &messages_schema,
     .help = "Kept messages by size: a request while it can still fail over, an answer while it "
             "can still be asked for again."},
};
static const struct schema limits_schema = {.what = "limits", SECTION(limits_fields)};

static const struct field timers_fields[] = {
    {.key = "t1",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.timers.t1),
     .min = 10 * NS_MS,
     .max = 10 * NS_S,
     .standard = "500ms",
     .help =
         "T1 of RFC 3261: the first retransmission over UDP; a transaction gives up after 64 of "
         "it."},
    {.key = "t2",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.timers.t2),
     .min = 10 * NS_MS,
     .max = 60 * NS_S,
     .standard = "4s",
     .help = "T2: the longest pause between retransmissions. At least `t1`."},
    {.key = "t4",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.timers.t4),
     .min = 10 * NS_MS,
     .max = 60 * NS_S,
     .standard = "5s",
     .help = "T4: how long a message may stay in the network."},
    {.key = "trying",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.trying_delay),
     .min = 0,
     .max = 200 * NS_MS,
     .standard = "100ms",
     .help = "How long an INVITE may go without any answer before a 100 goes back (RFC 3261 17.2.1 "
             "allows 200 ms). A target that answers sooner makes the 100 needless. `0s`: at once."},
    {.key = "timer_c",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.timer_c),
     .min = 181 * NS_S,
     .max = 3600 * NS_S,
     .standard = "185s",
     .help = "Timer C: how long a call may ring. Over 3 minutes (RFC 3261 16.6)."},
    {.key = "connect",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.connect_timeout),
     .min = 10 * NS_MS,
     .max = 60 * NS_S,
     .standard = "3s",
     .help = "How long a connection to a target may take to open: enough for another continent and "
             "a lost packet, little enough to try another target in time."},
};
static const struct schema timers_schema = {.what = "timers", SECTION(timers_fields)};

static const struct word foreign_words[] = {
    {"refuse", false, "403"},
    {"strip", true, "taken off, then routed as if it had not been there"},
    {0},
};

static const struct field policy_fields[] = {
    {.key = "foreign_route",
     .type = V_WORD,
     PUT(struct draft, c.engine.edge.strip_foreign_routes),
     .words = foreign_words,
     .standard = "refuse",
     .help = "A request from outside with a `Route` that is not our own token."},
    {.key = "hops_max",
     .type = V_INT,
     PUT(struct draft, c.engine.edge.hops_max),
     .min = 1,
     .max = SIP_HOPS_MAX,
     .standard = "70",
     .help = "`Max-Forwards` above this is lowered to it. It is never raised."},
    {.key = "connections_per_target",
     .type = V_INT,
     PUT(struct draft, c.engine.edge.connections_per_target),
     .min = 1,
     .max = 64,
     .standard = "4",
     .help = "Connections that each worker opens at most to one busy target."},
};
static const struct schema policy_schema = {.what = "policy", SECTION(policy_fields)};

static const struct field drain_fields[] = {
    {.key = "within",
     .type = V_DURATION,
     PUT(struct draft, c.drain_within),
     .min = 1 * NS_MS,
     .max = 24 * 3600 * NS_S,
     .standard = "30s",
     .zero = "off",
     .help = "After TERM: how long open transactions may take to end. `off` does "
             "not wait."},
};
static const struct schema drain_schema = {.what = "drain", SECTION(drain_fields)};

/* ---- the whole file -------------------------------------------------------------------------- */

static const struct field root_fields[] = {
    {.key = "node",
     .type = V_MAP,
     .flags = F_REQUIRED,
     .example = "{name: edge-1}",
     .sub = &node_schema,
     .help = "Who this edge is."},
    {.key = "secrets", .type = V_MAP, .sub = &secrets_schema, .help = "What nobody else may know."},
    {.key = "listeners",
     .type = V_LIST,
     .flags = F_REQUIRED,
     .example = "[{bind: \"udp://10.0.0.5:5060\", side: outside}]",
     PUT(struct draft, listeners),
     .item = &listener_item,
     .min = 1,
     .max = LISTENERS_MAX,
     .help = "Where messages come in."},
    {.key = "trusted",
     .type = V_LIST,
     PUT(struct draft, trusted),
     .item = &trusted_item,
     .max = TRUSTED_MAX,
     .help = "Networks whose senders are inside, whatever listener they come in by."},
    {.key = "pools",
     .type = V_NAMED,
     .flags = F_REQUIRED,
     .example = "{border: {targets: [\"udp://10.0.1.10:5060\"]}}",
     PUT(struct draft, pools),
     .item = &pool_item,
     .min = 1,
     .max = POOLS_MAX,
     .help = "Groups of equal servers, by name."},
    {.key = "routes",
     .type = V_LIST,
     .flags = F_REQUIRED,
     .example = "[{from: outside, to: border}]",
     PUT(struct draft, routes),
     .item = &route_item,
     .min = 1,
     .max = ROUTES_MAX,
     .help = "Which pool takes a request: the first route that matches."},
    {.key = "policy",
     .type = V_MAP,
     .sub = &policy_schema,
     .help = "What is taken from others, and how much."},
    {.key = "log", .type = V_MAP, .sub = &log_schema, .help = "What is told about transactions."},
    {.key = "timers",
     .type = V_MAP,
     .sub = &timers_schema,
     .help = "The timers of RFC 3261, and the patience with connections."},
    {.key = "limits",
     .type = V_MAP,
     .sub = &limits_schema,
     .help = "Sizes of the tables of each worker. Memory is reserved at start and used as it is "
             "needed; a full table is answered with 503. A change needs a restart."},
    {.key = "gather",
     .type = V_DURATION,
     PUT(struct draft, c.gather_us),
     .min = 10 * NS_US,
     .max = 10 * NS_MS,
     .scale = NS_US,
     .standard = "500us",
     .zero = "off",
     .help = "How long a busy worker lets messages gather, to take and send them together. Done "
             "only where it pays: each worker tries at start what a short sleep costs (in a "
             "virtual machine often more than it saves). An idle one never waits."},
    {.key = "drain", .type = V_MAP, .sub = &drain_schema, .help = "How it ends."},
    {.key = "control",
     .type = V_PATH,
     .flags = F_DERIVED,
     PUT(struct draft, c.control),
     .max = SOCKET_PATH_BYTES_MAX,
     .standard = "`/run/weir/NODE.sock` for root, else `/tmp/weir-NODE.sock`",
     .help = "Socket that `weir show`, `reload`, `drain` and `target` talk to. A change needs a "
             "restart."},
    {.key = "fleet",
     .type = V_LATER,
     .help = "comes with a later release, and no token is sent to another edge before; leave it "
             "out"},
    {.key = "roles",
     .type = V_LATER,
     .help = "comes with a later release, this one is an edge and nothing else; leave it out, and "
             "put the registrar's servers into a pool"},
    {.key = "guard", .type = V_LATER, .help = "comes with a later release; leave it out"},
    {.key = "capture", .type = V_LATER, .help = "comes with a later release; leave it out"},
    {.key = "admin",
     .type = V_LATER,
     .help = "comes with a later release; leave it out, and use `weir show` over `control`"},
};

const struct schema schema_root = {
    .what = "the file",
    SECTION(root_fields),
    .size = sizeof(struct draft),
};
