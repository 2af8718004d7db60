/* SPDX-License-Identifier: Apache-2.0
 *
 * Every key that there is. Reading, defaults, ranges, did-you-mean, the manual page and the JSON
 * schema all come from these tables and from nothing else. */
#include "config/config_int.h"

#define PUT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define SECTION(table)    .fields = table, .count = sizeof(table) / sizeof(table)[0]

/* What a connection of ours needs; the same words in the file's `tls` and in that of a pool. */
#define CLIENT_FIELDS(record, ca_standard, verify_standard, cert_standard)                         \
    {.key = "ca",                                                                                  \
     .type = V_PATH,                                                                               \
     PUT(record, tls.ca),                                                                          \
     .max = PATH_BYTES_MAX,                                                                        \
     .flags = F_DERIVED,                                                                           \
     .standard = ca_standard,                                                                      \
     .help = "PEM file of those who may sign the certificates of `tls://` servers."},              \
        {.key = "verify",                                                                          \
         .type = V_BOOL,                                                                           \
         PUT(record, tls.verify),                                                                  \
         .flags = F_DERIVED,                                                                       \
         .standard = verify_standard,                                                              \
         .help = "Whether such a server must prove its name. `false`: whoever is there will do, "  \
                 "which hides what is said from listeners and from nobody else."},                 \
        {.key = "cert",                                                                            \
         .type = V_PATH,                                                                           \
         PUT(record, tls.cert),                                                                    \
         .max = PATH_BYTES_MAX,                                                                    \
         .flags = F_DERIVED,                                                                       \
         .standard = cert_standard,                                                                \
         .help = "PEM file of a certificate that we show to them (mutual TLS), and behind it "     \
                 "those between it and its root. Needs `key`."},                                   \
    {                                                                                              \
        .key = "key", .type = V_PATH, PUT(record, tls.key), .max = PATH_BYTES_MAX,                 \
        .flags = F_DERIVED, .standard = cert_standard,                                             \
        .help = "PEM file of its private key, without a passphrase. Others must not be able to "   \
                "read it."                                                                         \
    }

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
     .help =
         "File of the secrets that sign our tokens in `Record-Route` and `Path`, the challenges "
         "of `roles.registrar`, and from which the keys of TLS session tickets are made: one a "
         "line, 16 to 64 bytes, `#` begins a comment. The first signs, all verify, so that they "
         "can be changed one after another. Others must not be able to read it. Without it a "
         "random secret is made at start: dialogs that are open then do not survive a restart, "
         "phones behind it have to register anew, and no other edge can carry on with them."},
};
static const struct schema secrets_schema = {.what = "secrets", SECTION(secrets_fields)};

/* ---- listeners ------------------------------------------------------------------------------- */

static const struct word side_words[] = {
    {"outside", SIDE_OUTSIDE, "phones, carriers, the Internet: nothing that they say is believed"},
    {"inside", SIDE_INSIDE, "our own servers: their Route headers are followed"},
    {0},
};

static const struct word client_cert_words[] = {
    {"none", CLIENT_CERT_NONE, "nobody is asked"},
    {"optional", CLIENT_CERT_OPTIONAL, "who shows one that verifies has its names, others none"},
    {"required", CLIENT_CERT_REQUIRED, "no handshake ends well without one that verifies"},
    {0},
};

static const struct field cert_fields[] = {
    {.key = "cert",
     .type = V_PATH,
     .flags = F_REQUIRED,
     .example = "edge2.pem",
     PUT(struct draft_cert, cert),
     .max = PATH_BYTES_MAX,
     .help = "PEM file: the certificate, and behind it those between it and its root."},
    {.key = "key",
     .type = V_PATH,
     .flags = F_REQUIRED,
     .example = "edge2.key",
     PUT(struct draft_cert, key),
     .max = PATH_BYTES_MAX,
     .help = "PEM file: its private key."},
};
static const struct schema cert_schema = {
    .what = "a certificate",
    SECTION(cert_fields),
    .size = sizeof(struct draft_cert),
};
static const struct field cert_item = {.key = "certificate", .type = V_MAP, .sub = &cert_schema};
static const struct field origin_item = {
    .key = "origin", .type = V_ORIGIN, .size = sizeof(struct slice)};

static const struct field listener_fields[] = {
    {.key = "name",
     .type = V_NAME,
     PUT(struct draft_listener, name),
     .flags = F_DERIVED,
     .standard = "the text of `bind`",
     .help = "For logs."},
    {.key = "bind",
     .type = V_URI,
     .flags = F_REQUIRED | F_LISTEN,
     .example = "\"udp://10.0.0.5:5060\"",
     PUT(struct draft_listener, bind),
     .help = "Transport, address and port to listen on: `udp://10.0.0.5:5060`, "
             "`tcp://[2001:db8::5]:5060`, `tls://10.0.0.5:5061`, `ws://10.0.0.5:80`, "
             "`wss://10.0.0.5:443`; those ports are the defaults. It is also what a listener is "
             "known by across reloads."},
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
    {.key = "cert",
     .type = V_PATH,
     PUT(struct draft_listener, cert),
     .max = PATH_BYTES_MAX,
     .help = "`tls` and `wss`, required: PEM file of the certificate, and behind it those between "
             "it and its root. Clients that name no server, or none that we have, get this one."},
    {.key = "key",
     .type = V_PATH,
     PUT(struct draft_listener, key),
     .max = PATH_BYTES_MAX,
     .help = "`tls` and `wss`, required: PEM file of its private key, without a passphrase. Others "
             "must not be able to read it."},
    {.key = "certs",
     .type = V_LIST,
     PUT(struct draft_listener, certs),
     .item = &cert_item,
     .max = CONFIG_CERTS_MAX - 1,
     .help = "`tls` and `wss`: certificates for clients that name another server (SNI)."},
    {.key = "client_ca",
     .type = V_PATH,
     PUT(struct draft_listener, client_ca),
     .max = PATH_BYTES_MAX,
     .help = "`tls` and `wss`: PEM file of those who sign the certificates of clients, of trunks "
             "for example."},
    {.key = "client_cert",
     .type = V_WORD,
     PUT(struct draft_listener, client_cert),
     .words = client_cert_words,
     .flags = F_DERIVED,
     .standard = "`required` with `client_ca`, else `none`",
     .help = "Whether a client must show a certificate that `client_ca` signed."},
    {.key = "origins",
     .type = V_LIST,
     PUT(struct draft_listener, origins),
     .item = &origin_item,
     .max = CONFIG_ORIGINS_MAX,
     .help = "`ws` and `wss`: the web pages that may connect, by their `Origin`: "
             "`https://app.example.com`. Others are refused with 403; without the key all may."},
    {.key = "proxy",
     .type = V_BOOL,
     PUT(struct draft_listener, proxy),
     .standard = "false",
     .help = "Not `udp`: a balancer in front puts a PROXY protocol v2 header before each "
             "connection, and who that names is the source. Only it must be able to reach this "
             "listener."},
    {.key = "backlog",
     .type = V_INT,
     PUT(struct draft_listener, backlog),
     .min = 16,
     .max = 1 << 20,
     .standard = "4096",
     .help = "Not `udp`: connections that may wait in the kernel, each worker's (at most "
             "`net.core.somaxconn`)."},
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
     .help = "`udp://HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`; ports 5060 and 5061 when "
             "none is given. A name is resolved when the file is read, to its first IPv4 address, "
             "else its first IPv6 one. When no name server answers then, the target keeps the "
             "address that it had, or else takes no calls until a reload. It is also what a target "
             "is known by across reloads and in `weir target`."},
    {.key = "name",
     .type = V_HOST,
     PUT(struct draft_target, name),
     .flags = F_DERIVED,
     .standard = "the host of `uri`",
     .help = "`tls://`: whom its certificate must name (RFC 5922: the host of a SIP URI or a DNS "
             "name in its subjectAltName, or an IP address there). For a target whose `uri` is an "
             "address, mostly."},
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

static const struct field pool_tls_fields[] = {
    CLIENT_FIELDS(struct draft_pool, "that of the file's `tls`", "that of the file's `tls`",
                  "that of the file's `tls`"),
};
static const struct schema pool_tls_schema = {.what = "tls", SECTION(pool_tls_fields)};

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
     .help = "Probes by OPTIONS. A target that answers requests is up, whatever its probes say. "
             "`off`: nothing tells a target that works on a call from one that died after its 100; "
             "such a call waits until `timers.timer_c`."},
    {.key = "failover",
     .type = V_MAP,
     .sub = &failover_schema,
     .help = "When and how often a request moves on to another target."},
    {.key = "outlier",
     .type = V_MAP,
     .sub = &outlier_schema,
     .help = "What live traffic says about a target."},
    {.key = "tls",
     .type = V_MAP,
     .sub = &pool_tls_schema,
     .help = "How its `tls://` targets are met, where that differs from the file's `tls`."},
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
     .help = "Who takes them: the name of a pool, or `registrar` when `roles` says that this "
             "process runs one."},
};
static const struct schema route_schema = {
    .what = "a route",
    SECTION(route_fields),
    .size = sizeof(struct draft_route),
};
static const struct field route_item = {.key = "route", .type = V_MAP, .sub = &route_schema};

/* ---- fleet ----------------------------------------------------------------------------------- */

static const struct field neighbour_fields[] = {
    {.key = "id",
     .type = V_INT,
     .flags = F_REQUIRED,
     .example = "2",
     PUT(struct draft_neighbour, id),
     .min = 1,
     .max = 65535,
     .help = "Its `node.id`."},
    {.key = "inside",
     .type = V_URI,
     .flags = F_REQUIRED,
     .example = "\"udp://10.0.0.6:5060\"",
     PUT(struct draft_neighbour, inside),
     .help = "Address of a listener of its with `side: inside`, `udp://`, `tcp://` or `tls://`."},
    {.key = "name",
     .type = V_HOST,
     PUT(struct draft_neighbour, name),
     .flags = F_DERIVED,
     .standard = "the host of `inside`",
     .help = "`tls://`: whom its certificate must name."},
};
static const struct schema neighbour_schema = {
    .what = "a neighbour",
    SECTION(neighbour_fields),
    .size = sizeof(struct draft_neighbour),
};
static const struct field neighbour_item = {
    .key = "neighbour", .type = V_MAP, .sub = &neighbour_schema};

/* ---- flows ----------------------------------------------------------------------------------- */

static const struct field tls_fields[] = {
    {.key = "handshakes",
     .type = V_INT,
     PUT(struct draft, c.handshakes_max),
     .min = 1,
     .max = 65536,
     .standard = "256",
     .help = "Handshakes that each worker has under way at most; further connections wait for "
             "their turn."},
    {.key = "within",
     .type = V_DURATION,
     PUT(struct draft, c.handshake_within),
     .min = 100 * NS_MS,
     .max = 300 * NS_S,
     .standard = "10s",
     .help = "How long a client may take from its connect to the end of its handshake, and of its "
             "WebSocket upgrade."},
    CLIENT_FIELDS(struct draft, "the system's", "`true`", "none is shown"),
};
static const struct schema tls_schema = {.what = "tls", SECTION(tls_fields)};

static const struct field agent_item = {
    .key = "agent", .type = V_NAME, .size = sizeof(struct slice)};

static const struct field mobile_fields[] = {
    {.key = "every",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.keepalive.mobile_every),
     .min = 1 * NS_S,
     .max = 12 * 3600 * NS_S,
     .standard = "10m",
     .help = "How long a connection of a mobile client may be silent before we send something: "
             "each time wakes its radio. Always the same (± `jitter`), and never shorter than "
             "`keepalive.every`. Mobile is who has itself woken by pushes (RFC 8599: `pn-provider` "
             "or `pn-prid` in the `Contact` that it registers)."},
    {.key = "agents",
     .type = V_LIST,
     PUT(struct draft, mobile_agents),
     .item = &agent_item,
     .max = MOBILE_AGENTS_MAX,
     .help = "Mobile is, too, who registers with one of these words anywhere in its `User-Agent`, "
             "capitals or not."},
};
static const struct schema mobile_schema = {.what = "keepalive.mobile", SECTION(mobile_fields)};

static const struct field keepalive_fields[] = {
    {.key = "every",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.keepalive.every),
     .min = 1 * NS_S,
     .max = 3600 * NS_S,
     .standard = "30s",
     .zero = "off",
     .help = "How long a connection from outside may be silent before we send something: CRLF CRLF "
             "on `tcp` and `tls`, a ping on `ws` and `wss`. A client that does not answer is not "
             "cut off for it."},
    {.key = "max",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.keepalive.max),
     .min = 1 * NS_S,
     .max = 12 * 3600 * NS_S,
     .standard = "2m",
     .help = "The pause grows by half each time while the connection lives, up to this."},
    {.key = "jitter",
     .type = V_PERCENT,
     PUT(struct draft, c.engine.edge.keepalive.jitter_percent),
     .max = 50,
     .standard = "20%",
     .help = "Each pause is longer or shorter by up to this share, so that connections that came "
             "together are not kept alive together. Those of `udp` are only shorter."},
    {.key = "mobile",
     .type = V_MAP,
     .sub = &mobile_schema,
     .help = "The same for clients that run on batteries."},
    {.key = "udp",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.keepalive.udp),
     .min = 1 * NS_S,
     .max = 3600 * NS_S,
     .standard = "24s",
     .zero = "off",
     .help = "How long a phone that registered over UDP from outside may be silent before it gets "
             "an `OPTIONS`, whose answer keeps its NAT open. Many NATs forget after 30s."},
};
static const struct schema keepalive_schema = {.what = "keepalive", SECTION(keepalive_fields)};

static const struct word path_words[] = {
    {"header", PATH_HEADER, "`Path` (RFC 3327)"},
    {"contact", PATH_CONTACT,
     "in the `Contact`, for registrars that know no `Path`; taken out of "
     "what comes back"},
    {"off", PATH_OFF, "not at all: calls do not find the connections of phones"},
    {0},
};

static const struct field outbound_fields[] = {
    {.key = "path",
     .type = V_WORD,
     PUT(struct draft, c.engine.edge.path),
     .words = path_words,
     .standard = "header",
     .help = "How a registrar behind us is told which connection a REGISTER came over."},
};
static const struct schema outbound_schema = {.what = "outbound", SECTION(outbound_fields)};

/* ---- roles ----------------------------------------------------------------------------------- */

static const struct field domain_item = {
    .key = "domain", .type = V_HOST, .size = sizeof(struct slice)};

static const struct word algorithm_words[] = {
    {"sha-256", DIGEST_SHA256, "RFC 8760"},
    {"md5", DIGEST_MD5, "what every phone knows"},
    {0},
};
static const struct field algorithm_item = {
    .key = "algorithm", .type = V_WORD, .size = sizeof(uint8_t), .words = algorithm_words};

static const struct field digest_fields[] = {
    {.key = "digest",
     .type = V_PATH,
     .flags = F_REQUIRED,
     .example = "users.txt",
     PUT(struct draft, users),
     .max = PATH_BYTES_MAX,
     .help = "File of credentials, one a line: `USER:REALM:HA1`, as htdigest writes it, or "
             "`USER:REALM:HA1-MD5:HA1-SHA-256`; `#` begins a comment. HA1 is the hash of "
             "`USER:REALM:PASSWORD` in hex; no password stands in the file. Lines of other realms "
             "are passed over. Others must not be able to read it."},
    {.key = "realm",
     .type = V_REALM,
     .flags = F_DERIVED,
     PUT(struct draft, c.engine.edge.registrar.realm),
     .max = REALM_BYTES_MAX,
     .standard = "the first of `domains`",
     .help = "What phones are asked to log in to. It is part of every HA1."},
    {.key = "offer",
     .type = V_LIST,
     PUT(struct draft, offer),
     .item = &algorithm_item,
     .min = 1,
     .max = DIGEST_ALGORITHMS,
     .standard = "[sha-256, md5]",
     .help = "What phones are asked for, the first one on top, each when every user has its hash. "
             "`[md5, sha-256]` is for phones that answer the topmost challenge whatever it says, "
             "`[md5]` for those that give up at one that they do not know. "
             "What is not in the list is not taken, either."},
    {.key = "nonce_life",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.registrar.nonce_life_s),
     .min = 10 * NS_S,
     .max = 24 * 3600 * NS_S,
     .scale = NS_S,
     .standard = "5m",
     .help = "How long a challenge can be answered. Every registrar with the same `secrets.tokens` "
             "takes it."},
};
static const struct schema digest_schema = {.what = "auth", SECTION(digest_fields)};

static const struct field expires_fields[] = {
    {.key = "min",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.registrar.expires_min_s),
     .min = 1 * NS_S,
     .max = 24 * 3600 * NS_S,
     .scale = NS_S,
     .standard = "60s",
     .help = "Who asks for less is answered 423 with this."},
    {.key = "default",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.registrar.expires_default_s),
     .min = 1 * NS_S,
     .max = 31 * 24 * 3600 * NS_S,
     .scale = NS_S,
     .standard = "10m",
     .help = "Who asks for nothing gets this."},
    {.key = "max",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.registrar.expires_max_s),
     .min = 1 * NS_S,
     .max = 31 * 24 * 3600 * NS_S,
     .scale = NS_S,
     .standard = "1h",
     .help = "Who asks for more gets this."},
    {.key = "jitter",
     .type = V_PERCENT,
     PUT(struct draft, c.engine.edge.registrar.expires_jitter_percent),
     .max = 50,
     .standard = "10%",
     .help = "What is granted is shorter by up to this share (never below `min`), so that phones "
             "that came together do not come back together."},
};
static const struct schema expires_schema = {.what = "expires", SECTION(expires_fields)};

static const struct word fork_words[] = {
    {"q", REGISTRAR_FORK_Q, "those with the highest q first, then the next"},
    {"parallel", REGISTRAR_FORK_PARALLEL, "all at once"},
    {0},
};

static const struct field registrar_fields[] = {
    {.key = "domains",
     .type = V_LIST,
     .flags = F_REQUIRED,
     .example = "[example.com]",
     PUT(struct draft, domains),
     .item = &domain_item,
     .min = 1,
     .max = REGISTRAR_DOMAINS_MAX,
     .help = "Whose users register here: the host part of their addresses."},
    {.key = "auth",
     .type = V_MAP,
     .flags = F_REQUIRED,
     .example = "{digest: users.txt}, or none",
     PUT(struct draft, c.engine.edge.registrar.digest),
     .sub = &digest_schema,
     .zero = "none",
     .help = "Who may register. `none`: everybody, as anybody."},
    {.key = "state",
     .type = V_PATH,
     .flags = F_REQUIRED,
     .example = "/var/lib/weir",
     PUT(struct draft, c.state),
     .max = PATH_BYTES_MAX,
     .help = "Folder in which bindings are kept; made when it is missing. One process has it at a "
             "time. A change needs a restart."},
    {.key = "state_size",
     .type = V_SIZE,
     PUT(struct draft, c.state_bytes_max),
     .min = 1 << 20,
     .max = (uint64_t)1 << 40,
     .standard = "1GiB",
     .help = "What may be stored there at most; taken from the disk as it is needed. A change "
             "needs a restart."},
    {.key = "expires",
     .type = V_MAP,
     .sub = &expires_schema,
     .help = "How long a registration lasts."},
    {.key = "contacts",
     .type = V_INT,
     PUT(struct draft, c.engine.edge.registrar.contacts_max),
     .min = 1,
     .max = REGISTRAR_TARGETS_MAX,
     .standard = "10",
     .help = "Bindings of one address; a REGISTER that would make more is answered 403."},
    {.key = "fork",
     .type = V_WORD,
     PUT(struct draft, c.engine.edge.registrar.fork),
     .words = fork_words,
     .standard = "q",
     .help = "Which phones of one address ring when."},
    {.key = "require_outbound",
     .type = V_BOOL,
     PUT(struct draft, c.engine.edge.registrar.require_outbound),
     .standard = "false",
     .help = "439 for a REGISTER with `reg-id` that came through a proxy without outbound "
             "(RFC 5626 6). Some phones then never register: leave it off unless you know that "
             "yours do."},
    {.key = "flow_timer",
     .type = V_DURATION,
     PUT(struct draft, c.engine.edge.registrar.flow_timer_s),
     .min = 10 * NS_S,
     .max = 3600 * NS_S,
     .scale = NS_S,
     .standard = "90s",
     .zero = "off",
     .help = "`Flow-Timer` of answers: how often a phone with outbound is asked to say that its "
             "connection lives (RFC 5626 4.4)."},
    {.key = "service_route",
     .type = V_ROUTE,
     PUT(struct draft, c.engine.edge.registrar.service_route),
     .max = ROUTE_BYTES_MAX,
     .help = "`Service-Route` of answers, as it is to be written (RFC 3608): "
             "`\"<sip:edge.example.com;lr>\"`."},
};
static const struct schema registrar_schema = {.what = "roles.registrar",
                                               SECTION(registrar_fields)};

static const struct field roles_fields[] = {
    {.key = "registrar",
     .type = V_MAP,
     .flags = F_ABSENT,
     PUT(struct draft, c.engine.edge.registrar.on),
     .sub = &registrar_schema,
     .help = "Keeps who is reachable where, and delivers requests to them. To begin or to end it "
             "needs a restart."},
    {.key = "border", .type = V_LATER, .help = "comes with a later release; leave it out"},
};
static const struct schema roles_schema = {.what = "roles", SECTION(roles_fields)};

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
    {.key = "bindings",
     .type = V_INT,
     PUT(struct draft, c.engine.limits.bindings),
     .min = 16,
     .max = REGISTRAR_BINDINGS_MAX,
     .standard = "100000",
     .help = "Bindings of `roles.registrar`. Addresses are spread over the workers by a hash: with "
             "several, leave some room."},
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
     .help = "Timer C: how long a call may ring, or stay at 100 without ringing; each provisional "
             "above 100 starts it anew. Then the call is over: CANCEL to who was asked, 408 to the "
             "caller (480 from the registrar), and nobody else is tried. Nor is anybody new tried "
             "once a call is that old and nothing has rung. Over 3 minutes (RFC 3261 16.6)."},
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
     PUT(struct draft, pools),
     .item = &pool_item,
     .min = 1,
     .max = POOLS_MAX,
     .help = "Groups of equal servers, by name. A pool cannot have the name of a role."},
    {.key = "routes",
     .type = V_LIST,
     .flags = F_REQUIRED,
     .example = "[{from: outside, to: border}]",
     PUT(struct draft, routes),
     .item = &route_item,
     .min = 1,
     .max = ROUTES_MAX,
     .help = "Who takes a request: the first route that matches says it."},
    {.key = "roles",
     .type = V_MAP,
     .sub = &roles_schema,
     .help = "What this process is beside an edge."},
    {.key = "fleet",
     .type = V_LIST,
     PUT(struct draft, fleet),
     .item = &neighbour_item,
     .max = FLEET_MAX,
     .help = "The other edges with the same `secrets.tokens`: a request for a connection that one "
             "of them holds is sent there. Needs `node.id` and `secrets.tokens`."},
    {.key = "outbound",
     .type = V_MAP,
     .sub = &outbound_schema,
     .help = "How phones are found again (RFC 5626)."},
    {.key = "keepalive",
     .type = V_MAP,
     .sub = &keepalive_schema,
     .help = "What we send to silent phones, so that no NAT forgets them."},
    {.key = "tls", .type = V_MAP, .sub = &tls_schema, .help = "Patience with handshakes."},
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
    {.key = "drain", .type = V_MAP, .sub = &schema_drain, .help = "How it ends."},
    {.key = "recycle",
     .type = V_MAP,
     .sub = &schema_recycle,
     .help = "Connections of phones that are closed because of their age."},
    {.key = "control",
     .type = V_PATH,
     .flags = F_DERIVED,
     PUT(struct draft, c.control),
     .max = SOCKET_PATH_BYTES_MAX,
     .standard = "`/run/weir/NODE.sock` for root, else `/tmp/weir-NODE.sock`",
     .help = "Socket that `weir show`, `reload`, `drain` and `target` talk to. A change needs a "
             "restart."},
    {.key = "guard",
     .type = V_MAP,
     .sub = &schema_guard,
     .help = "Who may come in, and what is refused first when there is too much to do."},
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
