/* SPDX-License-Identifier: Apache-2.0
 *
 * What a REGISTER says of one contact, and when two of them are the same. */
#include "registrar/registrar_int.h"

#define EQUAL(s, lit) slice_equal_nocase((s), SLICE(lit))

int registrar__seconds_parse(struct slice s, uint32_t *ret_seconds)
{
    uint64_t v = 0;
    if (text_parse_u64(s, UINT32_MAX, &v) != 0) {
        for (size_t i = 0; i < s.n; i++)
            if (s.p[i] < '0' || s.p[i] > '9')
                return -1;
        if (s.n == 0)
            return -1;
        v = UINT32_MAX;
    }
    *ret_seconds = (uint32_t)v;
    return 0;
}

/* qvalue: "0" or "1" with at most three decimals, none above 1.000 (RFC 3261 25.1). */
static int q_parse(struct slice s, uint16_t *ret_q)
{
    if (s.n == 0 || s.n > 5 || (s.p[0] != '0' && s.p[0] != '1') || (s.n > 1 && s.p[1] != '.'))
        return -1;
    unsigned q = (unsigned)(s.p[0] - '0') * 1000;
    unsigned weight = 100;
    for (size_t i = 2; i < s.n; i++, weight /= 10) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        q += (unsigned)(s.p[i] - '0') * weight;
    }
    if (q > 1000)
        return -1;
    *ret_q = (uint16_t)q;
    return 0;
}

bool registrar__instance_is_clean(struct slice s)
{
    if (s.n == 0 || s.n > REG_INSTANCE_BYTES_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f || s.p[i] == '"' || s.p[i] == '\\')
            return false;
    return true;
}

static struct slice without_quotes(struct slice s)
{
    return s.n >= 2 && s.p[0] == '"' ? (struct slice){s.p + 1, s.n - 2} : s;
}

/* "<urn:uuid:…>" in quotes; those who forget the brackets are understood. */
static int instance_parse(struct slice params, struct contact *c, struct slice *ret_why)
{
    struct slice s;
    if (!sip_param(params, SLICE("+sip.instance"), &s))
        return 0;
    s = without_quotes(s);
    if (!registrar__instance_is_clean(s)) {
        *ret_why = SLICE("Bad Instance");
        return -1;
    }
    c->instance = s;
    return 0;
}

static int numbers_parse(struct slice params, struct contact *c, struct slice *ret_why)
{
    struct slice s;
    uint64_t id = 0;
    if (sip_param(params, SLICE("q"), &s) && q_parse(s, &c->q) != 0) {
        *ret_why = SLICE("Bad q Value");
        return -1;
    }
    /* What is not readable counts as if it were not there (RFC 3261 10.2.1.1, 20.19). */
    if (sip_param(params, SLICE("expires"), &s))
        (void)registrar__seconds_parse(without_quotes(s), &c->expires_s);
    if (!sip_param(params, SLICE("reg-id"), &s))
        return 0;
    if (text_parse_u64(s, REG_ID_MAX, &id) != 0 || id == 0) {
        *ret_why = SLICE("Bad reg-id");
        return -1;
    }
    /* Without an instance it says nothing (RFC 5626 6). */
    if (c->instance.n > 0)
        c->reg_id = (uint32_t)id;
    return 0;
}

int registrar__contact_parse(struct slice value, uint32_t fallback_s, struct contact *ret_contact,
                             struct slice *ret_why)
{
    struct contact c = {.q = 1000, .expires_s = fallback_s};
    struct sip_nameaddr na;
    *ret_why = SLICE("Bad Contact");
    if (sip_nameaddr_parse(value, &na) != 0 || sip_uri_parse(na.uri, &c.parsed) != 0)
        return -1;
    c.uri = na.uri;
    if (c.parsed.scheme != SIP_SCHEME_SIP && c.parsed.scheme != SIP_SCHEME_SIPS) {
        *ret_why = SLICE("Contact Is No SIP URI");
        return -1;
    }
    /* It becomes a Request-URI, which has none (RFC 3261 19.1.1). */
    if (c.parsed.headers.p != NULL) {
        *ret_why = SLICE("Contact With Headers");
        return -1;
    }
    if (c.uri.n > REG_CONTACT_BYTES_MAX) {
        *ret_why = SLICE("Contact Too Long");
        return -1;
    }
    if (instance_parse(na.params, &c, ret_why) != 0 || numbers_parse(na.params, &c, ret_why) != 0)
        return -1;
    *ret_contact = c;
    return 0;
}

/* ---- the same? ------------------------------------------------------------------------------- */

bool registrar__instance_equal(struct slice a, struct slice b)
{
    /* Hex digits of a UUID have no case (RFC 4122 3); of another URN we know nothing. */
    struct slice uuid = SLICE("<urn:uuid:");
    bool has_no_case = a.n >= uuid.n && slice_equal_nocase(slice_take(a, uuid.n), uuid);
    return a.n > 0 && (has_no_case ? slice_equal_nocase(a, b) : slice_equal(a, b));
}

static unsigned hex(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? (unsigned)(l - 'a' + 10) : 16;
}

/* The next character at *at. One of the reserved set is not the same as its escape (RFC 3261
 * 19.1.4): that comes out above 255. */
static unsigned next_char(struct slice s, size_t *at)
{
    char c = s.p[*at];
    if (c != '%' || s.n - *at < 3 || (hex(s.p[*at + 1]) | hex(s.p[*at + 2])) > 15) {
        (*at)++;
        return (unsigned char)c;
    }
    unsigned v = hex(s.p[*at + 1]) << 4 | hex(s.p[*at + 2]);
    *at += 3;
    return v != 0 && memchr(";/?:@&=+$,", (int)v, 10) != NULL ? v + 256 : v;
}

static bool text_equal(struct slice a, struct slice b, bool has_case)
{
    size_t i = 0, k = 0;
    while (i < a.n && k < b.n) {
        unsigned x = next_char(a, &i), y = next_char(b, &k);
        if (!has_case && x >= 'A' && x <= 'Z')
            x |= 0x20;
        if (!has_case && y >= 'A' && y <= 'Z')
            y |= 0x20;
        if (x != y)
            return false;
    }
    return i == a.n && k == b.n;
}

/* These must be in both or in neither; every other one counts only when both have it. */
static bool must_match(struct slice name)
{
    return EQUAL(name, "user") || EQUAL(name, "ttl") || EQUAL(name, "method") ||
           EQUAL(name, "maddr") || EQUAL(name, "transport");
}

/* Each parameter of `a` against that of `b`. */
static bool params_agree(struct slice a, struct slice b)
{
    while (a.n > 0) {
        if (a.p[0] == ';')
            a = slice_drop(a, 1);
        size_t end = slice_find(a, ';');
        struct slice one = slice_take(a, end), other = SLICE_NONE;
        a = slice_drop(a, end);
        if (one.n == 0)
            continue;
        size_t equals = slice_find(one, '=');
        struct slice name = slice_take(one, equals);
        if (!sip_uri_param(b, name, &other)) {
            if (must_match(name))
                return false;
        } else if (!text_equal(slice_drop(one, equals + 1), other, false)) {
            return false;
        }
    }
    return true;
}

bool registrar__uri_equal(const struct sip_uri *a, const struct sip_uri *b)
{
    return a->scheme == b->scheme && a->port == b->port && text_equal(a->user, b->user, true) &&
           slice_equal_nocase(a->host, b->host) && params_agree(a->params, b->params) &&
           params_agree(b->params, a->params);
}

/* ---- lists ----------------------------------------------------------------------------------- */

bool registrar__has_option(const struct sip_msg *m, enum sip_header_id id, struct slice option)
{
    struct sip_values v = sip_values(m, id);
    while (sip_next_value(&v))
        if (slice_equal_nocase(sip_slice(m, v.value), option))
            return true;
    return false;
}

/* The end of a list value: the first comma that is in no quotes and no brackets. */
static size_t value_end(struct slice s)
{
    bool in_quotes = false, in_brackets = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (in_quotes && c == '\\')
            i++;
        else if (c == '"' && !in_brackets)
            in_quotes = !in_quotes;
        else if (in_quotes)
            continue;
        else if (c == '<' || c == '>')
            in_brackets = c == '<';
        else if (c == ',' && !in_brackets)
            return i;
    }
    return s.n;
}

bool registrar__path_is_clean(struct slice path, struct sip_uri *ret_last)
{
    for (size_t i = 0; i < path.n; i++)
        if ((unsigned char)path.p[i] < 0x20 || path.p[i] == 0x7f)
            return false;
    while (path.n > 0) {
        size_t end = value_end(path);
        struct sip_nameaddr na;
        struct sip_uri u;
        if (sip_nameaddr_parse(slice_take(path, end), &na) != 0 || !na.bracketed ||
            sip_uri_parse(na.uri, &u) != 0 ||
            (u.scheme != SIP_SCHEME_SIP && u.scheme != SIP_SCHEME_SIPS))
            return false;
        *ret_last = u;
        path = end < path.n ? slice_drop(path, end + 1) : SLICE_NONE;
    }
    return true;
}
