/* SPDX-License-Identifier: Apache-2.0
 *
 * One scalar of the file -> one field of a record. Each reader says what is wrong and what would
 * be right, in the words of the person who wrote the file. */
#include "config/config_int.h"

static void store(void *at, size_t size, uint64_t v)
{
    switch (size) {
    case 1: {
        uint8_t x = (uint8_t)v;
        memcpy(at, &x, sizeof x);
        break;
    }
    case 2: {
        uint16_t x = (uint16_t)v;
        memcpy(at, &x, sizeof x);
        break;
    }
    case 4: {
        uint32_t x = (uint32_t)v;
        memcpy(at, &x, sizeof x);
        break;
    }
    default:
        MUST(size == sizeof v);
        memcpy(at, &v, sizeof v);
    }
}

static const char *shown(struct report *r, const struct node *n)
{
    return report_show(r, n->text);
}

/* " or off", for the end of what a number may be. */
static const char *or_zero(struct report *r, const struct field *f)
{
    char room[32];
    struct text t = text_into(room, sizeof room);
    if (f->zero != NULL) {
        TEXT_LIT(&t, " or ");
        text_put(&t, slice_cstr(f->zero));
    }
    return mem_copy(r->mem, text_slice(&t)).p;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static const struct unit {
    struct slice name;
    uint64_t ns;
} units[] = {
    {{"us", 2}, NS_US},    {{"ms", 2}, NS_MS},      {{"s", 1}, NS_S},
    {{"m", 1}, 60 * NS_S}, {{"h", 1}, 3600 * NS_S},
};
enum { UNITS = sizeof units / sizeof units[0] };

void text_put_duration(struct text *t, dur_ns ns)
{
    size_t u = UNITS - 1;
    while (u > 0 && (ns == 0 || ns % units[u].ns != 0))
        u--;
    text_put_u64(t, ns / units[u].ns);
    text_put(t, ns == 0 ? SLICE("s") : units[u].name);
}

static const char *duration_text(struct report *r, dur_ns ns)
{
    char room[32];
    struct text t = text_into(room, sizeof room);
    text_put_duration(&t, ns);
    return mem_copy(r->mem, text_slice(&t)).p;
}

static bool read_duration(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    size_t digits = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    const char *low = duration_text(r, f->min), *high = duration_text(r, f->max);
    uint64_t v;
    if (digits == 0 || text_parse_u64(slice_take(s, digits), UINT32_MAX, &v) != 0) {
        report_at(r, n->at, "`%s` is not a duration; write a whole number and a unit, %s to %s%s",
                  shown(r, n), low, high, or_zero(r, f));
        return false;
    }
    struct slice unit = slice_drop(s, digits);
    const struct unit *u = NULL;
    for (size_t i = 0; i < UNITS; i++)
        if (slice_equal(unit, units[i].name))
            u = &units[i];
    if (u == NULL && unit.n > 0 && unit.p[0] == '.') {
        report_at(r, n->at, "`%s` has a fraction; write a whole number of a smaller unit: 500ms",
                  shown(r, n));
        return false;
    }
    if (u == NULL) {
        report_at(r, n->at, "`%s` has %s; write us, ms, s, m or h behind one whole number: `%.*ss`",
                  shown(r, n), unit.n == 0 ? "no unit" : "an unknown unit", (int)digits, s.p);
        return false;
    }
    if (f->scale != 0 && v * u->ns % f->scale != 0 && v <= f->max / u->ns) {
        report_at(r, n->at, "`%s` is not a whole number of %s; write %s to %s%s", shown(r, n),
                  f->scale == NS_S ? "seconds" : "smaller units", low, high, or_zero(r, f));
        return false;
    }
    if (v > f->max / u->ns || v * u->ns < f->min) {
        report_at(r, n->at, "`%s` is out of range; write %s to %s%s", shown(r, n), low, high,
                  or_zero(r, f));
        return false;
    }
    store(at, f->size, v * u->ns / (f->scale != 0 ? f->scale : 1));
    return true;
}

static const struct size_unit {
    struct slice name;
    uint64_t bytes;
} size_units[] = {
    {{"B", 1}, 1},         {{"KiB", 3}, 1 << 10},           {{"MiB", 3}, 1 << 20},
    {{"GiB", 3}, 1 << 30}, {{"TiB", 3}, (uint64_t)1 << 40},
};
enum { SIZE_UNITS = sizeof size_units / sizeof size_units[0] };

void text_put_size(struct text *t, uint64_t bytes)
{
    size_t u = SIZE_UNITS - 1;
    while (u > 0 && (bytes == 0 || bytes % size_units[u].bytes != 0))
        u--;
    text_put_u64(t, bytes / size_units[u].bytes);
    text_put(t, size_units[u].name);
}

static bool read_size(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    size_t digits = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    char room[64];
    struct text range = text_into(room, sizeof room);
    text_put_size(&range, f->min);
    TEXT_LIT(&range, " to ");
    text_put_size(&range, f->max);
    const struct size_unit *u = NULL;
    for (size_t i = 0; i < SIZE_UNITS; i++)
        if (slice_equal(slice_drop(s, digits), size_units[i].name))
            u = &size_units[i];
    uint64_t v;
    if (u == NULL || text_parse_u64(slice_take(s, digits), UINT32_MAX, &v) != 0) {
        report_at(r, n->at,
                  "`%s` is not a size; write a whole number and B, KiB, MiB, GiB or TiB, %.*s",
                  shown(r, n), SLICE_ARG(text_slice(&range)));
        return false;
    }
    if (v > f->max / u->bytes || v * u->bytes < f->min) {
        report_at(r, n->at, "`%s` is out of range; write %.*s", shown(r, n),
                  SLICE_ARG(text_slice(&range)));
        return false;
    }
    store(at, f->size, v * u->bytes);
    return true;
}

static bool read_int(struct report *r, const struct field *f, const struct node *n, void *at)
{
    uint64_t v;
    if (text_parse_u64(n->text, UINT64_MAX, &v) != 0) {
        report_at(r, n->at, "`%s` is not a whole number; write %llu to %llu%s", shown(r, n),
                  (unsigned long long)f->min, (unsigned long long)f->max, or_zero(r, f));
        return false;
    }
    if (v < f->min || v > f->max) {
        report_at(r, n->at, "%s is out of range; write %llu to %llu%s", shown(r, n),
                  (unsigned long long)f->min, (unsigned long long)f->max, or_zero(r, f));
        return false;
    }
    store(at, f->size, v);
    return true;
}

static bool read_percent(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    uint64_t v;
    bool marked = s.n > 0 && s.p[s.n - 1] == '%';
    if (!marked || text_parse_u64(slice_take(s, s.n - 1), UINT32_MAX, &v) != 0) {
        report_at(r, n->at, "`%s` is not a share; write a whole number and %%, %llu%% to %llu%%",
                  shown(r, n), (unsigned long long)f->min, (unsigned long long)f->max);
        return false;
    }
    if (v < f->min || v > f->max) {
        report_at(r, n->at, "`%s` is out of range; write %llu%% to %llu%%", shown(r, n),
                  (unsigned long long)f->min, (unsigned long long)f->max);
        return false;
    }
    store(at, f->size, v);
    return true;
}

/* ---- words ----------------------------------------------------------------------------------- */

static bool read_bool(struct report *r, const struct field *f, const struct node *n, void *at)
{
    bool yes = slice_equal(n->text, SLICE("true"));
    if (!yes && !slice_equal(n->text, SLICE("false"))) {
        report_at(r, n->at, "`%s` is neither true nor false; write one of the two", shown(r, n));
        return false;
    }
    store(at, f->size, yes);
    return true;
}

static bool read_word(struct report *r, const struct field *f, const struct node *n, void *at)
{
    char room[256];
    struct text all = text_into(room, sizeof room);
    struct guess g = guess_begin(n->text);
    for (const struct word *w = f->words; w->text != NULL; w++) {
        if (slice_equal(n->text, slice_cstr(w->text))) {
            store(at, f->size, w->value);
            return true;
        }
        guess_try(&g, slice_cstr(w->text));
        text_put(&all, w == f->words ? SLICE("") : w[1].text == NULL ? SLICE(" or ") : SLICE(", "));
        text_put(&all, slice_cstr(w->text));
    }
    if (guess_found(&g))
        report_at(r, n->at, "`%s` does not take `%s`; did you mean `%.*s`?", f->key, shown(r, n),
                  SLICE_ARG(g.best));
    else
        report_at(r, n->at, "`%s` does not take `%s`; write %.*s", f->key, shown(r, n),
                  SLICE_ARG(text_slice(&all)));
    return false;
}

static bool is_name_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

static bool read_name(struct report *r, const struct field *f, const struct node *n, void *at)
{
    (void)f;
    struct slice s = n->text;
    bool fine = s.n >= 1 && s.n <= NAME_BYTES_MAX;
    for (size_t i = 0; fine && i < s.n; i++)
        fine = is_name_letter(s.p[i]);
    if (!fine) {
        report_at(r, n->at, "`%s` is not a name; write 1 to %d letters, digits, `-`, `_` or `.`",
                  shown(r, n), NAME_BYTES_MAX);
        return false;
    }
    memcpy(at, &s, sizeof s);
    return true;
}

/* RFC 3261 25.1: token. */
static bool is_token_letter(char c)
{
    return is_name_letter(c) || (c != 0 && strchr("!%*+`'~", c) != NULL);
}

static bool read_method(struct report *r, const struct field *f, const struct node *n, void *at)
{
    static const char *const known[] = {"INVITE", "ACK",       "BYE",    "CANCEL",  "OPTIONS",
                                        "PRACK",  "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO",
                                        "REFER",  "MESSAGE",   "UPDATE", "REGISTER"};
    (void)f;
    struct slice s = n->text;
    struct guess g = guess_begin(s);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct slice method = slice_cstr(known[i]);
        if (slice_equal_nocase(s, method)) {
            g = (struct guess){s, method, slice_equal(s, method) ? UINT32_MAX : 1};
            break;
        }
        guess_try(&g, method);
    }
    bool fine = s.n >= 1 && s.n <= 31;
    for (size_t i = 0; fine && i < s.n; i++)
        fine = is_token_letter(s.p[i]);
    if (!fine) {
        report_at(r, n->at, "`%s` is not a SIP method; write INVITE, REGISTER or another token",
                  shown(r, n));
        return false;
    }
    if (guess_found(&g)) {
        report_at(r, n->at, "no request has the method `%s`; did you mean `%.*s`?", shown(r, n),
                  SLICE_ARG(g.best));
        return false;
    }
    memcpy(at, &s, sizeof s);
    return true;
}

static bool read_path(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    for (const struct word *w = f->words; w != NULL && w->text != NULL; w++) {
        if (slice_equal(s, slice_cstr(w->text))) {
            memcpy(at, &s, sizeof s);
            return true;
        }
    }
    if (s.n == 0 || s.n > f->max || memchr(s.p, 0, s.n) != NULL) {
        report_at(r, n->at, "`%s` is not a path; write 1 to %llu bytes", shown(r, n),
                  (unsigned long long)f->max);
        return false;
    }
    size_t folder = s.p[0] == '/' ? 0 : r->file.n;
    while (folder > 0 && r->file.p[folder - 1] != '/')
        folder--;
    if (folder > 0) {
        if (folder + s.n > f->max) {
            report_at(r, n->at,
                      "`%s` is too long together with the folder of %s; write a path of "
                      "at most %llu bytes",
                      shown(r, n), report_show(r, r->file), (unsigned long long)f->max);
            return false;
        }
        char *joined = (char *)mem_take(r->mem, folder + s.n + 1);
        if (joined == NULL)
            return false;
        memcpy(joined, r->file.p, folder);
        memcpy(joined + folder, s.p, s.n);
        s = slice_of(joined, folder + s.n);
    }
    memcpy(at, &s, sizeof s);
    return true;
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* RFC 1123 2.1: labels of letters, digits and inner hyphens. Underscores are in use. */
static bool is_host_name(struct slice s)
{
    if (s.n == 0 || s.n > 253)
        return false;
    size_t label = 0;
    bool digits_only = true; /* the last label: then it was meant as an IPv4 address */
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '.') {
            if (label == 0 || (i + 1 < s.n && s.p[i + 1] == '-') || s.p[i - 1] == '-')
                return false;
            label = 0;
            digits_only = i + 1 < s.n;
            continue;
        }
        if (!is_name_letter(c) || ++label > 63)
            return false;
        digits_only = digits_only && c >= '0' && c <= '9';
    }
    return s.p[0] != '-' && s.p[s.n - 1] != '-' && !digits_only;
}

/* Splits "host", "host:port", "[v6]", "[v6]:port". Reports what is wrong with it. `scheme` is put
 * before what would be right. */
static bool read_host_port(struct report *r, const struct node *n, struct slice s,
                           const char *scheme, struct endpoint *e)
{
    bool bracketed = s.n > 0 && s.p[0] == '[';
    size_t colon = bracketed ? slice_find(s, ']') + 1 : slice_find(s, ':');
    if (bracketed && colon > s.n) {
        report_at(r, n->at, "`%s` opens a bracket and never closes it; write %s[::1]:5060",
                  shown(r, n), scheme);
        return false;
    }
    struct slice host = slice_take(s, colon), rest = slice_drop(s, colon);
    struct addr bare;
    if (!bracketed && addr_parse_host(s, 0, &bare) == 0 && colon < s.n) {
        report_at(r, n->at, "`%s` has an IPv6 address without brackets; write %s[%.*s]:5060",
                  shown(r, n), scheme, SLICE_ARG(s));
        return false;
    }
    uint64_t port = 0;
    if (rest.n > 0 &&
        (rest.p[0] != ':' || text_parse_u64(slice_drop(rest, 1), 65535, &port) != 0 || port == 0)) {
        report_at(r, n->at,
                  "`%s` does not end in a port; write %s%s:5060 with a port of 1 to 65535",
                  shown(r, n), scheme, host.n > 0 ? report_show(r, host) : "HOST");
        return false;
    }
    e->host = host;
    e->port = (uint16_t)port;
    if (addr_parse_host(host, 0, &e->addr) != 0) {
        e->addr = (struct addr){0};
        if (bracketed || !is_host_name(host)) {
            report_at(r, n->at,
                      "`%s` is neither an address nor a host name; write %s10.0.0.1:5060, "
                      "%s[2001:db8::1]:5060 or %ssip.example.com:5060",
                      report_show(r, host), scheme, scheme, scheme);
            return false;
        }
    } else if (e->addr.family == 6 && !bracketed) {
        report_at(r, n->at, "`%s` has an IPv6 address without brackets; write %s[%.*s]:5060",
                  shown(r, n), scheme, SLICE_ARG(host));
        return false;
    }
    return true;
}

/* Where a transport listens unless the file says otherwise: RFC 3261 19.1.2, RFC 7118 8. */
static uint16_t port_default(uint8_t transport)
{
    static const uint16_t ports[TP__COUNT] = {
        [TP_UDP] = PORT_DEFAULT, [TP_TCP] = PORT_DEFAULT, [TP_TLS] = 5061, [TP_WS] = 80,
        [TP_WSS] = 443,
    };
    return ports[transport];
}

static bool takes_transport(const struct field *f, unsigned tp)
{
    return tp == TP_UDP || tp == TP_TCP || tp == TP_TLS || (f->flags & F_LISTEN) != 0;
}

/* "udp" and so on; a target's are told from a listener's. */
static bool read_scheme(struct report *r, const struct field *f, const struct node *n,
                        struct slice scheme, uint8_t *ret_transport)
{
    struct guess g = guess_begin(scheme);
    for (unsigned tp = 0; tp < TP__COUNT; tp++) {
        struct slice name = transport_name((enum transport)tp);
        if (takes_transport(f, tp))
            guess_try(&g, name);
        if (!slice_equal(scheme, name))
            continue;
        *ret_transport = (uint8_t)tp;
        if (takes_transport(f, tp))
            return true;
        report_at(
            r, n->at,
            "%.*s:// is how browsers come, no way to a server; write udp://, tcp:// or tls://",
            SLICE_ARG(scheme));
        return false;
    }
    if (guess_found(&g))
        report_at(r, n->at, "`%s` begins with no transport; did you mean `%.*s://`?", shown(r, n),
                  SLICE_ARG(g.best));
    else
        report_at(
            r, n->at, "`%s` begins with no transport; write udp://HOST:PORT or %s", shown(r, n),
            (f->flags & F_LISTEN) != 0 ? "tcp://, tls://, ws:// or wss://" : "tcp:// or tls://");
    return false;
}

static bool read_uri(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    struct endpoint e = {.text = s};
    size_t colon = slice_find(s, ':');
    if (!slice_starts_with(slice_drop(s, colon), SLICE("://"))) {
        struct addr numeric;
        if (addr_parse(s, &numeric) == 0 || addr_parse_host(s, 0, &numeric) == 0)
            report_at(r, n->at, "`%s` names no transport; write udp://%s or tcp://%s", shown(r, n),
                      shown(r, n), shown(r, n));
        else
            report_at(r, n->at, "`%s` is not an address; write udp://HOST:PORT or tcp://HOST:PORT",
                      shown(r, n));
        return false;
    }
    if (!read_scheme(r, f, n, slice_take(s, colon), &e.transport))
        return false;
    static const char *const schemes[TP__COUNT] = {"udp://", "tcp://", "tls://", "ws://", "wss://"};
    const char *scheme = schemes[e.transport];
    if (!read_host_port(r, n, slice_drop(s, colon + 3), scheme, &e))
        return false;
    if (e.addr.family == 0 && (f->flags & F_LISTEN) != 0) {
        report_at(r, n->at,
                  "`%s` is a name; a listener needs an address of this machine, such as "
                  "%s10.0.0.5:%u",
                  report_show(r, e.host), scheme, port_default(e.transport));
        return false;
    }
    if (e.port == 0)
        e.port = port_default(e.transport);
    e.addr.port = e.addr.family == 0 ? 0 : e.port;
    memcpy(at, &e, sizeof e);
    return true;
}

static bool read_advertised(struct report *r, const struct field *f, const struct node *n, void *at)
{
    (void)f;
    struct slice s = n->text;
    struct endpoint e = {.text = s};
    size_t colon = slice_find(s, ':');
    if (slice_starts_with(slice_drop(s, colon), SLICE("://"))) {
        report_at(r, n->at, "`%s` has a transport, which is the listener's own; write `%s`",
                  shown(r, n), report_show(r, slice_drop(s, colon + 3)));
        return false;
    }
    if (!read_host_port(r, n, s, "", &e))
        return false;
    e.addr.port = e.port != 0 ? e.port : PORT_DEFAULT;
    if (e.addr.family != 0 && !addr_is_unicast(&e.addr)) {
        report_at(r, n->at,
                  "nobody can send to `%s`; write the address that others reach this "
                  "listener by",
                  shown(r, n));
        return false;
    }
    memcpy(at, &e, sizeof e);
    return true;
}

static bool read_prefix(struct report *r, const struct field *f, const struct node *n, void *at)
{
    (void)f;
    struct prefix p;
    switch (prefix_parse(n->text, &p)) {
    case 0:
        memcpy(at, &p, sizeof p);
        return true;
    case -2:
        report_at(r, n->at,
                  "`%s` has no valid length behind its slash; write /0 to /32 for IPv4, "
                  "/0 to /128 for IPv6",
                  shown(r, n));
        return false;
    case -3:
        report_at(r, n->at,
                  "`%s` has bits set behind its length; write the network's first "
                  "address, or a longer length",
                  shown(r, n));
        return false;
    default:
        report_at(r, n->at, "`%s` is not a network; write 10.0.0.0/8, 2001:db8::/32 or an address",
                  shown(r, n));
        return false;
    }
}

/* A copy in small letters; empty when there is no memory. */
static struct slice in_small_letters(struct report *r, struct slice s)
{
    struct slice copy = mem_copy(r->mem, s);
    char *p = (char *)(uintptr_t)copy.p;
    for (size_t i = 0; i < copy.n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + ('a' - 'A'));
    return copy;
}

static bool read_host(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    struct addr a;
    size_t scheme = slice_find(s, ':');
    bool numeric = addr_parse_host(s, 0, &a) == 0;
    if (numeric ? a.family == 6 && s.p[0] != '[' : !is_host_name(s)) {
        if (numeric)
            report_at(r, n->at, "`%s` has an IPv6 address without brackets; write [%s]",
                      shown(r, n), shown(r, n));
        else if (scheme < s.n || slice_find(s, '@') < s.n)
            report_at(r, n->at, "`%s` is more than a %s; write example.com, without user or port",
                      shown(r, n), f->key);
        else
            report_at(r, n->at, "`%s` is not a %s; write example.com", shown(r, n), f->key);
        return false;
    }
    s = in_small_letters(r, s);
    memcpy(at, &s, sizeof s);
    return true;
}

/* What a browser writes there: no path, and no port that is the scheme's own (RFC 6454 6.2). */
static bool read_origin(struct report *r, const struct field *f, const struct node *n, void *at)
{
    (void)f;
    struct slice s = n->text;
    size_t colon = slice_find(s, ':');
    struct slice host = slice_drop(s, colon + 3);
    bool fine = s.n <= ORIGIN_BYTES_MAX && colon > 0 &&
                slice_starts_with(slice_drop(s, colon), SLICE("://"));
    for (size_t i = 0; fine && i < colon; i++)
        fine = is_name_letter(s.p[i]) || s.p[i] == '+';
    if (!fine) {
        report_at(r, n->at, "`%s` is not an origin; write https://app.example.com", shown(r, n));
        return false;
    }
    if (slice_find(host, '/') < host.n) {
        report_at(r, n->at, "`%s` has a path, which no Origin has; write `%s`", shown(r, n),
                  report_show(r, slice_take(s, colon + 3 + slice_find(host, '/'))));
        return false;
    }
    struct endpoint e = {0};
    struct slice scheme = in_small_letters(r, slice_take(s, colon + 3));
    if (!read_host_port(r, n, host, mem_copy(r->mem, scheme).p, &e))
        return false;
    bool usual = (e.port == 443 && slice_equal(scheme, SLICE("https://"))) ||
                 (e.port == 80 && slice_equal(scheme, SLICE("http://")));
    s = in_small_letters(r, usual ? slice_take(s, colon + 3 + e.host.n) : s);
    memcpy(at, &s, sizeof s);
    return true;
}

static bool read_realm(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    bool fine = s.n >= 1 && s.n <= f->max && slice_trim(s).n == s.n;
    for (size_t i = 0; fine && i < s.n; i++)
        fine = (unsigned char)s.p[i] >= 0x20 && (unsigned char)s.p[i] < 0x7f && s.p[i] != '"' &&
               s.p[i] != '\\' && s.p[i] != ':';
    if (!fine) {
        report_at(r, n->at,
                  "`%s` is not a realm; write 1 to %llu letters of ASCII without quotes, "
                  "backslashes and colons",
                  shown(r, n), (unsigned long long)f->max);
        return false;
    }
    memcpy(at, &s, sizeof s);
    return true;
}

/* One value of a list of <sip:HOST;lr>: "" when it is fine, else what is wrong. */
static const char *route_trouble(struct slice s)
{
    struct sip_nameaddr na;
    struct sip_uri uri;
    if (sip_nameaddr_parse(s, &na) != 0 || !na.bracketed)
        return "is no address in < >";
    if (sip_uri_parse(na.uri, &uri) != 0 ||
        (uri.scheme != SIP_SCHEME_SIP && uri.scheme != SIP_SCHEME_SIPS))
        return "holds no sip: URI";
    if (!sip_uri_param(uri.params, SLICE("lr"), NULL))
        return "has no ;lr";
    return "";
}

static bool read_route(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text, rest = s;
    const char *trouble = s.n == 0 || s.n > f->max ? "is empty or too long" : "";
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] >= 0x7f)
            trouble = "holds more than ASCII";
    while (trouble[0] == 0 && rest.p != NULL) {
        size_t end = slice_find(rest, '>'); /* a comma may stand inside of < > */
        end = end + slice_find(slice_drop(rest, end), ',');
        trouble = route_trouble(slice_trim(slice_take(rest, end)));
        rest = end < rest.n ? slice_drop(rest, end + 1) : SLICE_NONE;
    }
    if (trouble[0] != 0) {
        report_at(r, n->at, "`%s` %s; write \"<sip:edge.example.com;lr>\", more with commas",
                  shown(r, n), trouble);
        return false;
    }
    memcpy(at, &s, sizeof s);
    return true;
}

static bool read_contact(struct report *r, const struct field *f, const struct node *n, void *at)
{
    struct slice s = n->text;
    struct sip_nameaddr na;
    struct sip_uri uri;
    bool fine = s.n > 2 && s.n <= f->max && s.p[0] == '<' && s.p[s.n - 1] == '>' &&
                sip_nameaddr_parse(s, &na) == 0 && sip_uri_parse(na.uri, &uri) == 0 &&
                (uri.scheme == SIP_SCHEME_SIP || uri.scheme == SIP_SCHEME_SIPS) &&
                uri.headers.n == 0;
    for (size_t i = 0; i < s.n; i++)
        fine = fine && (unsigned char)s.p[i] > 0x20 && (unsigned char)s.p[i] < 0x7f;
    if (!fine) {
        report_at(r, n->at,
                  "`%s` is no SIP URI in <>; write \"<sip:edge2.example.com;transport=tls>\"",
                  shown(r, n));
        return false;
    }
    memcpy(at, &s, sizeof s);
    return true;
}

/* What nft reads as a name without quotes. */
static bool is_nft_name(struct slice s)
{
    bool fine =
        s.n >= 1 && s.n <= CONFIG_NFT_NAME_MAX && s.p[0] != '-' && (s.p[0] < '0' || s.p[0] > '9');
    for (size_t i = 0; fine && i < s.n; i++)
        fine = is_name_letter(s.p[i]) && s.p[i] != '.';
    return fine;
}

static bool read_nft_set(struct report *r, const struct field *f, const struct node *n, void *at)
{
    (void)f;
    struct config_nftables c;
    struct slice *const words[] = {&c.family, &c.table, &c.set};
    struct slice rest = slice_trim(n->text);
    for (size_t i = 0; i < 3; i++) {
        *words[i] = slice_take(rest, slice_find(rest, ' '));
        rest = slice_trim(slice_drop(rest, words[i]->n));
    }
    if (c.set.n == 0 || rest.n > 0) {
        report_at(r, n->at, "`%s` is not a family, a table and a set; write inet filter weir_bans",
                  shown(r, n));
        return false;
    }
    if (!slice_equal(c.family, SLICE("inet")) && !slice_equal(c.family, SLICE("ip")) &&
        !slice_equal(c.family, SLICE("ip6"))) {
        report_at(r, n->at,
                  "`%s` is not a family of tables with a set of addresses; write inet, ip "
                  "or ip6",
                  report_show(r, c.family));
        return false;
    }
    if (!is_nft_name(c.table) || !is_nft_name(c.set)) {
        report_at(r, n->at,
                  "`%s` is not a name of a %s; write 1 to %d letters, digits, `_` or `-`, a letter "
                  "or `_` first",
                  report_show(r, is_nft_name(c.table) ? c.set : c.table),
                  is_nft_name(c.table) ? "set" : "table", CONFIG_NFT_NAME_MAX);
        return false;
    }
    memcpy(at, &c, sizeof c);
    return true;
}

/* ---- all ------------------------------------------------------------------------------------- */

bool value_read(struct report *r, const struct field *f, const struct node *n, void *at)
{
    static bool (*const readers[])(struct report *, const struct field *, const struct node *,
                                   void *) = {
        [V_BOOL] = read_bool,           [V_INT] = read_int,         [V_PERCENT] = read_percent,
        [V_DURATION] = read_duration,   [V_WORD] = read_word,       [V_NAME] = read_name,
        [V_METHOD] = read_method,       [V_PATH] = read_path,       [V_URI] = read_uri,
        [V_HOSTPORT] = read_advertised, [V_PREFIX] = read_prefix,   [V_SIZE] = read_size,
        [V_HOST] = read_host,           [V_ORIGIN] = read_origin,   [V_REALM] = read_realm,
        [V_ROUTE] = read_route,         [V_CONTACT] = read_contact, [V_NFT_SET] = read_nft_set,
    };
    MUST(f->type < sizeof readers / sizeof readers[0]);
    if (f->zero != NULL && slice_equal(n->text, slice_cstr(f->zero))) {
        memset(at, 0, f->size);
        return true;
    }
    return readers[f->type](r, f, n, at);
}
