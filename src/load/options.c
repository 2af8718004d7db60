/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of `weir load`: one table of options, from which the help is written, too. */
#include <stdarg.h>
#include "load/load_int.h"

enum { BOTH = LOAD_CALLS | LOAD_PHONES, ALL = BOTH | LOAD_FLOOD };

enum type {
    FLAG,
    SPAN,
    COUNT,
    RATE,
    WORDS,
    PLACE,
    PLACES,
    PREFIX,
    PERMILLE,
    BEHAVIOUR,
    FLOOD,
    FORMAT,
    AT_ONCE,
};

#define AT(field) offsetof(struct load_opts, field)

static const struct option {
    const char *name;
    const char *argument; /* as the help says it; NULL for a flag */
    unsigned kinds;
    enum type type;
    size_t at;
    uint64_t max; /* COUNT: most; 1 is least */
    const char *help;
} options[] = {
    {"to", "URI", ALL, PLACE, AT(to), 0, "where: tls://127.0.0.1:5061, sip:a@127.0.0.1:5060"},
    {"count", "N", LOAD_PHONES, COUNT, AT(count), LOAD_PHONES_MAX, "how many phones (100)"},
    {"count", "N", LOAD_CALLS, COUNT, AT(count), UINT32_MAX, "so many calls, and then an end"},
    {"rate", "N/s", LOAD_PHONES, RATE, AT(rate), 0, "phones that begin each second (500/s)"},
    {"rate", "N/s", LOAD_CALLS, RATE, AT(rate), 0, "calls that begin each second (10/s)"},
    {"rate", "N/s", LOAD_FLOOD, RATE, AT(rate), 0, "packets each second, or max (max)"},
    {"at-once", NULL, LOAD_PHONES, AT_ONCE, AT(rate), 0, "all phones begin at once"},
    {"for", "SPAN", ALL, SPAN, AT(lasts), 0, "the whole run: 500ms, 60s, 10m"},
    {"behaviour", "KIND", LOAD_PHONES, BEHAVIOUR, AT(behaviour), 0,
     "good: RFC 5626 back-off, Retry-After, 302; naive: at once, every 2 s"},
    {"domain", "NAME", LOAD_PHONES, WORDS, AT(domain), 0, "that they register in (example.com)"},
    {"user", "NAME", BOTH, WORDS, AT(user), 0, "users are NAME0, NAME1, … (phone)"},
    {"password", "WORD", LOAD_PHONES, WORDS, AT(password), 0, "of all of them, for Digest"},
    {"expires", "SPAN", LOAD_PHONES, SPAN, AT(expires), 0, "asked for (600s)"},
    {"refresh", "SPAN", LOAD_PHONES, SPAN, AT(refresh), 0, "register again so often (by expires)"},
    {"ping", "SPAN", LOAD_PHONES, SPAN, AT(ping), 0, "CRLF so often (RFC 5626 4.4.1)"},
    {"hold", NULL, LOAD_PHONES, FLAG, AT(holds), 0, "stay when all are registered"},
    {"hold", "SPAN", LOAD_CALLS, SPAN, AT(talk), 0, "from ACK to BYE (1s)"},
    {"answer", NULL, LOAD_PHONES, FLAG, AT(answers), 0, "answer calls with 180 and 200"},
    {"answer", "URI", LOAD_CALLS, PLACES, AT(answer), 0,
     "be the called party at udp://… or tcp://…; up to 8 times"},
    {"uri", "URI", LOAD_CALLS, WORDS, AT(uri), 0, "Request-URI (sip:load@ what --to says)"},
    {"connections", "N", LOAD_CALLS, COUNT, AT(lanes), LOAD_LANES_MAX, "sockets of callers (1)"},
    {"storm-at", "SPAN", LOAD_PHONES, SPAN, AT(storm_at), 0, "cut all connections then"},
    {"base", "SPAN", LOAD_PHONES, SPAN, AT(base), 0, "base of the back-off (30s)"},
    {"cap", "SPAN", LOAD_PHONES, SPAN, AT(cap), 0, "most of the back-off (30m)"},
    {"spread", "SPAN", LOAD_PHONES, SPAN, AT(spread), 0,
     "good phones wait at random up to this before they come back (5s)"},
    {"sources", "NET", BOTH, PREFIX, AT(sources), 0, "send from these, in turn: 127.1.0.0/16"},
    {"source", "ADDRESS", LOAD_FLOOD, PREFIX, AT(sources), 0, "send from this one"},
    {"kind", "KIND", LOAD_FLOOD, FLOOD, AT(flood), 0, "garbage, invite, ack, register or connect"},
    {"user-agent", "TEXT", BOTH, WORDS, AT(user_agent), 0, "User-Agent (weir-load)"},
    {"ca", "FILE", BOTH, WORDS, AT(ca), 0, "who may have signed the server, in PEM"},
    {"server-name", "NAME", BOTH, WORDS, AT(server), 0, "in its certificate (its address)"},
    {"insecure", NULL, BOTH, FLAG, AT(insecure), 0, "believe any certificate"},
    {"resume", NULL, LOAD_PHONES, FLAG, AT(resume), 0,
     "come back with the TLS session that there was; wants --insecure"},
    {"expect-ok", "PERCENT", BOTH, PERMILLE, AT(expect_permille), 0,
     "status 1 when less went well (100%)"},
    {"seed", "N", ALL, COUNT, AT(seed), UINT32_MAX, "of all that is random"},
    {"output", "FORMAT", ALL, FORMAT, AT(is_json), 0, "table or json"},
    {"report", "FILE", BOTH, WORDS, AT(report), 0, "write curves as one HTML file"},
    {"quiet", NULL, ALL, FLAG, AT(is_quiet), 0, "no progress on standard error"},
    {"i-own-this-network", NULL, ALL, FLAG, AT(anywhere), 0,
     "let --to be an address that is not private"},
};
enum { OPTIONS = sizeof options / sizeof options[0] };

__attribute__((format(printf, 2, 3))) static int fail(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, LOAD_WHY_BYTES_MAX, format, args);
    va_end(args);
    return -1;
}

/* ---- help ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    enum load_kind kind;
    const char *usage, *what, *example;
} kinds[] = {
    {"calls", LOAD_CALLS, "calls --to URI [OPTION …]",
     "Calls at a rate: INVITE, ACK, hold, BYE. With --answer it is the called party as well, and\n"
     "tells how much of the delay lay between.",
     "weir load calls --to udp://127.0.0.1:5060 --rate 200/s --for 60s \\\n"
     "    --answer udp://127.0.0.10:5060"},
    {"phones", LOAD_PHONES, "phones --to URI [OPTION …]",
     "Phones: each has its own connection, registers, answers, and comes back by its kind when\n"
     "it is refused or cut. It ends when all are registered, unless --hold or --for says more.",
     "weir load phones --to tls://127.0.0.1:5061 --insecure --count 15000 --at-once \\\n"
     "    --behaviour naive --sources 127.1.0.0/16 --report avalanche.html"},
    {"flood", LOAD_FLOOD, "flood --to URI --kind KIND [OPTION …]",
     "An attacker: packets of one kind as fast as possible, whatever is answered.",
     "weir load flood --to udp://127.0.0.1:5060 --kind invite --source 127.9.9.9 --for 10s"},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void help_line(const struct option *o, FILE *out)
{
    char word[64];
    (void)snprintf(word, sizeof word, "%s--%s%s%s", o->type == FORMAT ? "-o, " : "", o->name,
                   o->argument != NULL ? " " : "", o->argument != NULL ? o->argument : "");
    fprintf(out, "  %-22s %s\n", word, o->help);
}

static void help_of(size_t k, FILE *out)
{
    fprintf(out, "usage: weir load %s\n\n%s\n\n", kinds[k].usage, kinds[k].what);
    for (size_t i = 0; i < OPTIONS; i++)
        if ((options[i].kinds & kinds[k].kind) != 0)
            help_line(&options[i], out);
    fprintf(out, "  %-22s %s\n", "-h, --help", "write this");
    fprintf(out, "\nExample:\n  %s\n", kinds[k].example);
}

void load_help(const char *word, FILE *out)
{
    static const struct {
        const char *name;
        unsigned kinds;
    } groups[] = {{"Calls", LOAD_CALLS},
                  {"Phones", LOAD_PHONES},
                  {"Flood", LOAD_FLOOD},
                  {"Calls and phones", BOTH},
                  {"All", ALL}};
    for (size_t k = 0; word != NULL && k < KINDS; k++)
        if (strcmp(word, kinds[k].name) == 0) {
            help_of(k, out);
            return;
        }
    fputs("usage: weir load calls|phones|flood --to URI [OPTION …]\n\n"
          "Makes traffic for a SIP server, weir or another, and tells what came of it.\n\n",
          out);
    for (size_t k = 0; k < KINDS; k++)
        fprintf(out, "  weir load %s\n", kinds[k].usage);
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        fprintf(out, "\n%s:\n", groups[g].name);
        for (size_t i = 0; i < OPTIONS; i++)
            if (options[i].kinds == groups[g].kinds)
                help_line(&options[i], out);
    }
    fprintf(out, "  %-22s %s\n", "-h, --help", "write this, or with a kind what it has alone");
    fputs("\nAddresses are numbers. Only loopback and private addresses are\n"
          "loaded, unless --i-own-this-network is said. Control-C ends a run with what came so\n"
          "far.\n\n"
          "Exit status: 0 as much as expected went well, 1 less did, 64 wrong usage.\n\n"
          "Example:\n",
          out);
    fprintf(out, "  %s\n", kinds[0].example);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int word_of(struct slice v, const char *const *words, uint8_t count)
{
    for (uint8_t i = 0; i < count; i++)
        if (slice_equal(v, slice_cstr(words[i])))
            return i;
    return -1;
}

static int set_word(const struct option *o, struct slice v, uint8_t *at, char *why)
{
    static const char *const behaviours[] = {"good", "naive"};
    static const char *const floods[] = {"garbage", "invite", "ack", "register", "connect"};
    int i = o->type == BEHAVIOUR ? word_of(v, behaviours, 2) : word_of(v, floods, 5);
    if (i < 0)
        return fail(why, "--%s %.*s: one of %s", o->name, SLICE_ARG(v),
                    o->type == BEHAVIOUR ? "good, naive"
                                         : "garbage, invite, ack, register, connect");
    *at = (uint8_t)i;
    return 0;
}

static int set_place(const struct option *o, struct slice v, struct load_opts *opts, char *why)
{
    struct load_place *p = &opts->to;
    if (o->type == PLACES) {
        if (opts->answer_count == LOAD_ANSWERS_MAX)
            return fail(why, "--%s: %d of them at most", o->name, LOAD_ANSWERS_MAX);
        p = &opts->answer[opts->answer_count];
    }
    if (load__place(v, p) != 0)
        return fail(why,
                    "--%s %.*s: not a place; write a scheme, a numeric address and a port, such as "
                    "tls://127.0.0.1:5061",
                    o->name, SLICE_ARG(v));
    if (o->type == PLACES) {
        if (p->transport > TP_TCP)
            return fail(why, "--%s %.*s: calls are answered over udp and tcp", o->name,
                        SLICE_ARG(v));
        opts->answer_count++;
    }
    return 0;
}

static int set_prefix(const struct option *o, struct slice v, struct load_opts *opts, char *why)
{
    switch (prefix_parse(v, &opts->sources)) {
    case 0:
        return 0;
    case -3:
        return fail(why, "--%s %.*s: bits are set behind the length of the network", o->name,
                    SLICE_ARG(v));
    default:
        return fail(why, "--%s %.*s: not a network such as 127.1.0.0/16", o->name, SLICE_ARG(v));
    }
}

static int set_words(const struct option *o, const char *word, struct slice v,
                     struct load_opts *opts, char *why)
{
    bool is_file = o->at == AT(report) || o->at == AT(ca);
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < ' ' || v.p[i] == '\177' ||
            (!is_file && o->at != AT(user_agent) && o->at != AT(password) &&
             (v.p[i] == ' ' || v.p[i] == '<' || v.p[i] == '>' || v.p[i] == '"')))
            return fail(why, "--%s: that would not be one word in a message", o->name);
    if (v.n == 0 || v.n > (is_file ? 4095 : LOAD_TEXT_BYTES_MAX))
        return fail(why, "--%s: 1 to %d bytes", o->name, LOAD_TEXT_BYTES_MAX);
    memcpy((char *)opts + o->at, &word, sizeof word);
    return 0;
}

static int set_number(const struct option *o, struct slice v, void *at, char *why)
{
    uint64_t n = 0;
    uint32_t n32 = 0;
    dur_ns span = 0;
    switch (o->type) {
    case SPAN:
        if (load__span(v, &span) != 0)
            return fail(why, "--%s %.*s: not a span; write a number and ms, s, m or h", o->name,
                        SLICE_ARG(v));
        memcpy(at, &span, sizeof span);
        return 0;
    case RATE:
        if (load__rate(v, &n32) != 0)
            return fail(why, "--%s %.*s: not a rate such as 200/s, or max", o->name, SLICE_ARG(v));
        break;
    case PERMILLE:
        if (load__permille(v, &n32) != 0)
            return fail(why, "--%s %.*s: not a share such as 99.5%%", o->name, SLICE_ARG(v));
        break;
    default:
        if (text_parse_u64(v, o->max, &n) != 0 || n == 0)
            return fail(why, "--%s %.*s: not a number from 1 to %llu", o->name, SLICE_ARG(v),
                        (unsigned long long)o->max);
        n32 = (uint32_t)n;
        break;
    }
    memcpy(at, &n32, sizeof n32);
    return 0;
}

static int set(const struct option *o, const char *word, struct load_opts *opts, char *why)
{
    void *at = (char *)opts + o->at;
    struct slice v = slice_cstr(word);
    static const bool yes = true;
    static const uint32_t zero = 0;
    switch (o->type) {
    case FLAG:
        memcpy(at, &yes, sizeof yes);
        return 0;
    case AT_ONCE:
        memcpy(at, &zero, sizeof zero);
        return 0;
    case PLACE:
    case PLACES:
        return set_place(o, v, opts, why);
    case PREFIX:
        return set_prefix(o, v, opts, why);
    case WORDS:
        return set_words(o, word, v, opts, why);
    case BEHAVIOUR:
    case FLOOD:
        return set_word(o, v, (uint8_t *)at, why);
    case FORMAT:
        if (!slice_equal(v, SLICE("json")) && !slice_equal(v, SLICE("table")))
            return fail(why, "--output %s: table or json", word);
        opts->is_json = slice_equal(v, SLICE("json"));
        return 0;
    default:
        return set_number(o, v, at, why);
    }
}

/* ---- the whole line -------------------------------------------------------------------------- */

static const struct option *find(struct slice name, unsigned kind)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if ((options[i].kinds & kind) != 0 && slice_equal(slice_cstr(options[i].name), name))
            return &options[i];
    return NULL;
}

static int unknown(struct slice name, unsigned kind, char *why)
{
    const char *near = NULL;
    unsigned best = 3;
    for (size_t i = 0; i < OPTIONS; i++) {
        unsigned d = text_distance(name, slice_cstr(options[i].name));
        if ((options[i].kinds & kind) != 0 && d < best) {
            best = d;
            near = options[i].name;
        }
    }
    if (near != NULL)
        return fail(why, "there is no option --%.*s here: did you mean --%s?", SLICE_ARG(name),
                    near);
    return fail(why, "there is no option --%.*s here", SLICE_ARG(name));
}

static int judge(struct load_opts *o, bool has_kind, char *why)
{
    if (o->to.addr.family == 0)
        return fail(why, "--to is missing: where should it go?");
    if (o->to.addr.port == 0)
        return fail(why, "--to: port 0 is none");
    if (!o->anywhere && !load__is_private(&o->to.addr))
        return fail(why,
                    "--to: not a loopback or private address; load on somebody else's network is "
                    "an attack. If it is yours, say --i-own-this-network");
    if (o->sources.net.family != 0 && o->sources.net.family != o->to.addr.family)
        return fail(why, "the source and --to are not of one family, IPv4 or IPv6");
    if (o->kind == LOAD_FLOOD && !has_kind)
        return fail(why, "--kind is missing: garbage, invite, ack, register or connect");
    if (o->kind == LOAD_FLOOD && o->to.transport != (o->flood == LOAD_CONNECT ? TP_TCP : TP_UDP))
        return fail(why, "a flood of this kind goes to %s://",
                    o->flood == LOAD_CONNECT ? "tcp" : "udp");
    if (o->kind == LOAD_CALLS && o->rate == 0)
        return fail(why, "--rate: calls have a rate, such as 200/s");
    if (o->kind == LOAD_FLOOD && o->lasts == 0)
        return fail(why, "--for is missing: how long?");
    if (o->resume && !o->insecure)
        return fail(why, "--resume wants --insecure: only such handshakes are resumed");
    if (o->expires % NS_S != 0 || o->expires == 0)
        return fail(why, "--expires: whole seconds");
    if (o->cap < o->base)
        return fail(why, "--cap is below --base");
    if (o->kind == LOAD_CALLS && o->count == 0 && o->lasts == 0)
        o->lasts = 10 * NS_S;
    return 0;
}

static const struct load_opts defaults = {
    .domain = "example.com",
    .user = "phone",
    .user_agent = "weir-load",
    .lanes = 1,
    .expect_permille = 1000,
    .talk = NS_S,
    .expires = 600 * NS_S,
    .base = 30 * NS_S,
    .cap = 1800 * NS_S,
    .spread = 5 * NS_S,
};

int load_options(int argc, char **argv, struct load_opts *ret_opts, char *why)
{
    struct load_opts o = defaults;
    bool has_kind = false;
    if (argc < 1)
        return fail(why, "calls, phones or flood?");
    for (size_t k = 0; k < KINDS; k++)
        if (strcmp(argv[0], kinds[k].name) == 0)
            o.kind = kinds[k].kind;
    if (o.kind == 0)
        return fail(why, "'%s' is no kind of load: calls, phones or flood", argv[0]);
    o.count = o.kind == LOAD_PHONES ? 100 : 0;
    o.rate = o.kind == LOAD_PHONES ? 500 : o.kind == LOAD_CALLS ? 10 : 0;
    for (int i = 1; i < argc; i++) {
        struct slice word = slice_cstr(argv[i]);
        bool is_o = slice_equal(word, SLICE("-o"));
        if (!is_o && !slice_starts_with(word, SLICE("--")))
            return fail(why, "unexpected: %s", argv[i]);
        word = is_o ? SLICE("output") : slice_drop(word, 2);
        size_t equals = slice_find(word, '=');
        const struct option *option = find(slice_take(word, equals), o.kind);
        if (option == NULL)
            return unknown(slice_take(word, equals), o.kind, why);
        const char *value = "";
        if (option->argument == NULL && equals < word.n)
            return fail(why, "--%s takes no value", option->name);
        if (option->argument != NULL && equals < word.n)
            value = word.p + equals + 1;
        else if (option->argument != NULL && ++i < argc)
            value = argv[i];
        else if (option->argument != NULL)
            return fail(why, "--%s wants %s", option->name, option->argument);
        if (set(option, value, &o, why) != 0)
            return -1;
        has_kind = has_kind || option->type == FLOOD;
    }
    if (judge(&o, has_kind, why) != 0)
        return -1;
    *ret_opts = o;
    return 0;
}
