/* SPDX-License-Identifier: Apache-2.0
 *
 * The keys of the flood guard, and of moving phones elsewhere: see schema.c. */
#include "config/config_int.h"

#define PUT(member)                                                                                \
    .offset = offsetof(struct draft, member), .size = sizeof((struct draft *)0)->member
#define SECTION(table) .fields = table, .count = sizeof(table) / sizeof(table)[0]
#define GUARD(member)  PUT(c.engine.edge.guard.member)

/* Events per second; `off`: no limit. */
#define RATE(name, member, text)                                                                   \
    {                                                                                              \
        .key = name, .type = V_INT, PUT(member), .min = 1, .max = 1000000, .standard = "off",      \
        .zero = "off", .help = text                                                                \
    }

static const struct field connections_fields[] = {
    {.key = "max",
     .type = V_INT,
     GUARD(connections_max),
     .min = 1,
     .max = 1 << 26,
     .standard = "off",
     .zero = "off",
     .help = "All connections from outside together. `limits.flows` holds per worker in any case."},
    {.key = "per_source",
     .type = V_INT,
     GUARD(per_source_max),
     .min = 1,
     .max = 1 << 20,
     .standard = "off",
     .zero = "off",
     .help = "Connections of one IPv4 address, or one IPv6 /64. An office behind one NAT is one "
             "source: look with `report_only` before you set it."},
    {.key = "per_prefix",
     .type = V_INT,
     GUARD(per_prefix_max),
     .min = 1,
     .max = 1 << 24,
     .standard = "off",
     .zero = "off",
     .help = "Connections of one neighbourhood: an IPv4 /24, an IPv6 /48."},
};
static const struct schema connections_schema = {.what = "connections",
                                                 SECTION(connections_fields)};

static const struct field accepts_fields[] = {
    RATE("tcp", guard.accepts[TP_TCP], "Connections taken per second over `tcp`, …"),
    RATE("tls", guard.accepts[TP_TLS], "… over `tls`, …"),
    RATE("ws", guard.accepts[TP_WS], "… over `ws`, …"),
    RATE("wss", guard.accepts[TP_WSS], "… and over `wss`. The others wait in the kernel."),
    RATE("handshakes", guard.handshakes,
         "TLS handshakes begun per second. At most `tls.handshakes` are under way at a time; those "
         "who came last, and those who have registered before, go first in a crowd."),
};
static const struct schema accepts_schema = {.what = "accepts", SECTION(accepts_fields)};

#define WHATS(of)                                                                                  \
    RATE("connects", guard.of[GUARD_CONNECTS], "Connections begun per second."),                   \
        RATE("requests", guard.of[GUARD_REQUESTS],                                                 \
             "Requests per second that begin something: none within a dialog, no ACK or CANCEL "   \
             "but those that belong to nothing."),                                                 \
        RATE("auth", guard.of[GUARD_AUTH], "Failed authentications per second."),                  \
        RATE("scans", guard.of[GUARD_SCANS],                                                       \
             "Requests per second to what is not there (404): somebody is looking for users.")

static const struct field source_fields[] = {
    WHATS(per_source),
    {.key = "malformed",
     .type = V_INT,
     PUT(guard.per_source[GUARD_MALFORMED]),
     .min = 1,
     .max = 1000000,
     .standard = "100",
     .zero = "off",
     .help = "Messages per second that cannot be read, garbage included."},
};
static const struct schema source_schema = {.what = "per_source", SECTION(source_fields)};
static const struct field prefix_fields[] = {
    WHATS(per_prefix),
    RATE("malformed", guard.per_prefix[GUARD_MALFORMED],
         "Messages per second that cannot be read, garbage included."),
};
static const struct schema prefix_schema = {.what = "per_prefix", SECTION(prefix_fields)};

static const struct field ban_fields[] = {
    {.key = "first",
     .type = V_DURATION,
     GUARD(ban_first),
     .min = 1 * NS_S,
     .max = 24 * 3600 * NS_S,
     .standard = "10s",
     .zero = "off",
     .help = "A source over one of its rates (but `connects`) is refused everything for so long, "
             "twice as long the next time, …"},
    {.key = "max",
     .type = V_DURATION,
     GUARD(ban_max),
     .min = 1 * NS_S,
     .max = 30 * 24 * 3600 * NS_S,
     .standard = "1h",
     .help = "… and never longer than this."},
    {.key = "decay",
     .type = V_DURATION,
     GUARD(ban_decay),
     .min = 1 * NS_S,
     .max = 30 * 24 * 3600 * NS_S,
     .standard = "10m",
     .help = "So much good conduct takes one doubling back."},
};
static const struct schema ban_schema = {.what = "ban", SECTION(ban_fields)};

static const struct field shed_fields[] = {
    {.key = "delay",
     .type = V_DURATION,
     GUARD(delay_target),
     .min = 1 * NS_MS,
     .max = 10 * NS_S,
     .standard = "20ms",
     .zero = "off",
     .help = "When messages wait for a worker longer than this, a share of what is new is refused "
             "with 503, the least worth first: probes, calls, registrations, refreshes. Dialogs, "
             "BYE, CANCEL and emergency calls are not."},
    {.key = "drop",
     .type = V_BOOL,
     GUARD(drops_unheard),
     .standard = "true",
     .help =
         "When more than a quarter has to be refused for long, whether the kernel drops a share of "
         "INVITEs over UDP from outside before they are read: to answer each would leave no time "
         "for anything else. Callers send again. Emergency calls pass."},
    {.key = "age",
     .type = V_DURATION,
     GUARD(request_age_max),
     .min = 10 * NS_MS,
     .max = 32 * NS_S,
     .standard = "500ms",
     .zero = "off",
     .help = "A new request that has waited for so long (T1: it has been sent again) is not worked "
             "on."},
};
static const struct schema shed_schema = {.what = "shed", SECTION(shed_fields)};

static const struct field retry_fields[] = {
    {.key = "min",
     .type = V_DURATION,
     GUARD(retry_after_min),
     .min = 1 * NS_S,
     .max = 3600 * NS_S,
     .standard = "2s",
     .help = "Who is refused is told when to come back: as early as this, …"},
    {.key = "max",
     .type = V_DURATION,
     GUARD(retry_after_max),
     .min = 1 * NS_S,
     .max = 24 * 3600 * NS_S,
     .standard = "5m",
     .help = "… as late as this, and spread so that they come as fast as work was done lately."},
};
static const struct schema retry_schema = {.what = "retry_after", SECTION(retry_fields)};

static const struct field loops_fields[] = {
    {.key = "session_id",
     .type = V_BOOL,
     PUT(c.engine.edge.session_id),
     .standard = "true",
     .help = "Whether a request that begins something gets a `Session-ID` (RFC 7989) when it has "
             "none. An agent behind us has to pass it on, or its circles are not seen."},
    {.key = "crossings",
     .type = V_INT,
     GUARD(session_crossings_max),
     .min = 1,
     .max = 1000,
     .standard = "10",
     .zero = "off",
     .help = "How often one session may come by as a new call to the same user, counted by each "
             "worker; after that it is answered 482."},
    {.key = "within",
     .type = V_DURATION,
     GUARD(session_within),
     .min = 1 * NS_S,
     .max = 3600 * NS_S,
     .standard = "1m",
     .help = "In this time."},
};
static const struct schema loops_schema = {.what = "loops", SECTION(loops_fields)};

static const struct field exempt_item = {
    .key = "exempt", .type = V_PREFIX, .size = sizeof(struct prefix)};
static const struct field emergency_item = {
    .key = "emergency", .type = V_NAME, .size = sizeof(struct slice)};

static const struct field guard_fields[] = {
    {.key = "report_only",
     .type = V_BOOL,
     GUARD(report_only),
     .standard = "false",
     .help =
         "Count what the limits would refuse, and whom (`weir show guard`), and refuse nothing."},
    {.key = "connections",
     .type = V_MAP,
     .sub = &connections_schema,
     .help = "How many at a time, of the process. Each worker has its share."},
    {.key = "accepts",
     .type = V_MAP,
     .sub = &accepts_schema,
     .help = "How fast they are taken, of the process."},
    {.key = "per_source",
     .type = V_MAP,
     .sub = &source_schema,
     .help = "What one source may do. Each worker counts for itself."},
    {.key = "per_prefix",
     .type = V_MAP,
     .sub = &prefix_schema,
     .help = "What a neighbourhood may do together."},
    {.key = "burst",
     .type = V_DURATION,
     PUT(guard.burst),
     .min = 1 * NS_S,
     .max = 3600 * NS_S,
     .standard = "10s",
     .help = "What may come at once after a rest: as much as the rates allow in this time. Accepts "
             "and handshakes: in a fifth of a second."},
    {.key = "ban", .type = V_MAP, .sub = &ban_schema, .help = "What follows from too much."},
    {.key = "exempt",
     .type = V_LIST,
     PUT(exempt),
     .item = &exempt_item,
     .max = GUARD_EXEMPT_MAX,
     .help = "Networks that are never limited nor banned. `trusted` ones and what comes in on "
             "inside listeners are not, either."},
    {.key = "nftables",
     .type = V_NFT_SET,
     PUT(c.nftables),
     .standard = "off",
     .zero = "off",
     .help =
         "Family, table and set of nftables that bans are put into, for the whole host: "
         "`inet filter weir_bans`. IPv6 networks go into the set of that name with `_6` behind. "
         "Both are Weir's alone; a rule of yours drops what they hold. [How to make "
         "them](operating.md#bans-for-the-whole-host). Not what datagrams alone led to, and "
         "with `report_only` only what an operator denied."},
    {.key = "shed", .type = V_MAP, .sub = &shed_schema, .help = "When there is too much to do."},
    {.key = "emergency",
     .type = V_LIST,
     PUT(emergency),
     .item = &emergency_item,
     .max = 32,
     .standard = "[112, 911, sos]",
     .help = "User parts that are emergency calls, beside `urn:service:sos`."},
    {.key = "retry_after",
     .type = V_MAP,
     .sub = &retry_schema,
     .help = "What stands in `Retry-After`."},
    {.key = "overload_control",
     .type = V_BOOL,
     PUT(c.engine.edge.overload),
     .standard = "true",
     .help = "RFC 7339: targets are asked to say how much less they want, and those inside who ask "
             "are told. Who does not know it ignores it."},
    {.key = "loops",
     .type = V_MAP,
     .sub = &loops_schema,
     .help = "Circles through an agent that makes everything new."},
    {.key = "sources",
     .type = V_INT,
     PUT(c.engine.limits.guard.sources),
     .min = 1024,
     .max = 1 << 24,
     .standard = "131072",
     .help = "Sources and neighbourhoods that a worker remembers, some 64 bytes each. A change "
             "needs a restart."},
};
const struct schema schema_guard = {.what = "guard", SECTION(guard_fields)};

/* ---- moving phones ----------------------------------------------------------------------------
 */

static const struct field agent_item = {
    .key = "agent", .type = V_NAME, .size = sizeof(struct slice)};

static const struct field drain_fields[] = {
    {.key = "within",
     .type = V_DURATION,
     PUT(c.drain_within),
     .min = 1 * NS_MS,
     .max = 24 * 3600 * NS_S,
     .standard = "30s",
     .zero = "off",
     .help = "After TERM: how long open transactions may take to end. `off` does not wait."},
    {.key = "phones_within",
     .type = V_DURATION,
     PUT(c.engine.edge.moving.within),
     .min = 1 * NS_S,
     .max = 24 * 3600 * NS_S,
     .standard = "10m",
     .help = "`weir drain`: how long until the connections of all phones are closed, at an even "
             "pace; those with a call last."},
    {.key = "move_to",
     .type = V_CONTACT,
     PUT(c.engine.edge.moving.to),
     .max = ROUTE_BYTES_MAX,
     .help =
         "Another edge, as a `Contact`: `\"<sip:edge2.example.com:5061;transport=tls>\"`. While "
         "this one drains, a phone that registers is answered 302 with it, if it is known to "
         "follow."},
    {.key = "agents",
     .type = V_LIST,
     PUT(agents),
     .item = &agent_item,
     .max = 64,
     .help = "What begins the `User-Agent` of phones that follow a 302 to REGISTER."},
    {.key = "learn",
     .type = V_BOOL,
     PUT(c.engine.edge.moving.learn),
     .standard = "true",
     .help = "Try it with other agents too: one whose phones come back regardless is left alone. "
             "They are answered 503 and find another edge by themselves."},
};
const struct schema schema_drain = {.what = "drain", SECTION(drain_fields)};

static const struct field recycle_fields[] = {
    {.key = "after",
     .type = V_DURATION,
     PUT(c.engine.edge.moving.recycle_after),
     .min = 60 * NS_S,
     .max = 30 * 24 * 3600 * NS_S,
     .standard = "off",
     .zero = "off",
     .help = "How long a phone's connection lives before it is closed, so that phones spread over "
             "edges that came later. Never during a call."},
    {.key = "jitter",
     .type = V_PERCENT,
     PUT(c.engine.edge.moving.recycle_jitter_percent),
     .max = 50,
     .standard = "20%",
     .help = "Longer or shorter by up to this share."},
};
const struct schema schema_recycle = {.what = "recycle", SECTION(recycle_fields)};
