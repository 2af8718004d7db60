/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of headers, read when somebody asks. Every reader takes (p, end), never looks behind
 * `end`, and leaves each field of its result either valid or empty. Blanks between the parts may
 * hold folds; the index has checked that every CR in a value belongs to one. */
#include "sip/sip_int.h"

const char *sip__quoted(const char *p, const char *end, const char *limit)
{
    for (p++;; p++) {
        p = sip__until(p, end, limit, SIP__UNTIL_QUOTE_END);
        if (p == end)
            return NULL;
        if (*p == '"')
            return p + 1;
        p++; /* quoted-pair: any byte but CR and LF */
        if (p == end || *p == '\r' || *p == '\n')
            return NULL;
    }
}

/* ---- comma lists ----------------------------------------------------------------------------- */

/* The end of the list value at p: a comma, `end`, or NULL when a quote or bracket stays open. No
 * list of RFC 3261 holds comments, so a '(' is a byte like others (of a user part, mostly). */
static const char *value_end(const char *p, const char *end)
{
    while (p != NULL && p < end) {
        if (*p == ',')
            return p;
        if (*p == '"')
            p = sip__quoted(p, end, end);
        else if (*p == '<')
            p = memchr(p, '>', (size_t)(end - p));
        else
            p++;
    }
    return p;
}

struct sip_values sip_values(const struct sip_msg *m, enum sip_header_id id)
{
    struct sip_values v = {.m = m, .header = m->first[id]};
    if (v.header != SIP_NO_HEADER)
        v.at = m->h[v.header].value.off;
    return v;
}

bool sip_next_value(struct sip_values *v)
{
    const struct sip_msg *m = v->m;
    if (v->header == SIP_NO_HEADER || v->err != 0)
        return false;
    struct sip_span line = m->h[v->header].value;
    /* Done with this line, or it holds no value at all ("Supported:"): on to the next. */
    while (line.len == 0 || (v->value.len > 0 && v->at >= line.off + line.len)) {
        v->header = m->h[v->header].next;
        v->value.len = 0;
        if (v->header == SIP_NO_HEADER)
            return false;
        line = m->h[v->header].value;
        v->at = line.off;
    }
    const char *begin = m->p + line.off;
    const char *end = begin + line.len;
    const char *p = sip__skip_blanks(m->p + v->at, end);
    const char *comma = value_end(p, end);
    const char *stop = comma;
    while (stop != NULL && stop > p && sip__is(stop[-1], SIP__BLANK))
        stop--;
    v->value = (struct sip_span){(uint32_t)(p - m->p), stop != NULL ? (uint32_t)(stop - p) : 0};
    v->whole = p == begin && comma == end;
    /* An empty element, a comma at the end, or an open quote: not a list. */
    if (stop == NULL || stop == p || (comma < end && comma + 1 == end)) {
        v->err = 1;
        return false;
    }
    v->at = (uint32_t)(comma < end ? comma + 1 - m->p : end - m->p);
    return true;
}

/* ---- parameters ------------------------------------------------------------------------------ */

int sip__next_param(const char **pp, const char *end, const char *limit,
                    struct sip__param *ret_param)
{
    const char *p = sip__skip_blanks(*pp, end);
    if (p == end || *p != ';') {
        *pp = p;
        return 0;
    }
    p = sip__skip_blanks(p + 1, end);
    const char *name = p;
    p = sip__skip(p, end, SIP__TOKEN);
    if (p == name)
        return SIP_E_SYNTAX;
    ret_param->name = (struct slice){name, (size_t)(p - name)};
    ret_param->value = (struct slice){p, 0};
    ret_param->stop = p;
    p = sip__skip_blanks(p, end);
    if (p < end && *p == '=') {
        const char *equals = p + 1;
        p = sip__skip_blanks(equals, end);
        const char *value = p;
        p = p < end && *p == '"' ? sip__quoted(p, end, limit)
                                 : sip__until(p, end, limit, SIP__UNTIL_PARAM_END);
        if (p == NULL)
            return SIP_E_SYNTAX;
        ret_param->value = (struct slice){value, (size_t)(p - value)};
        ret_param->stop = p > value ? p : equals; /* blanks behind "branch=" are not its own */
    }
    *pp = p;
    return 1;
}

bool sip_param(struct slice params, struct slice name, struct slice *ret_value)
{
    if (params.n == 0)
        return false;
    const char *p = params.p;
    const char *end = params.p + params.n;
    struct sip__param a;
    while (sip__next_param(&p, end, end, &a) == 1) {
        if (a.name.n == name.n && slice_equal_nocase(a.name, name)) {
            if (ret_value != NULL)
                *ret_value = a.value;
            return true;
        }
    }
    return false;
}

/* ---- Via ------------------------------------------------------------------------------------- */

static int via_transport(struct slice t)
{
    if (t.n == 3) {
        if (SIP__EQUAL(t, "udp"))
            return TP_UDP;
        if (SIP__EQUAL(t, "tcp"))
            return TP_TCP;
        if (SIP__EQUAL(t, "tls"))
            return TP_TLS;
    }
    if (SIP__EQUAL(t, "ws"))
        return TP_WS;
    return SIP__EQUAL(t, "wss") ? TP_WSS : -1;
}

/* "SIP" SLASH "2.0" SLASH, blanks allowed around each (RFC 4475 3.1.1.1). The place behind, or
 * NULL. */
static const char *via_protocol(const char *p, const char *end)
{
    if (LIKELY(end - p >= 8 && memcmp(p, "SIP/2.0/", 8) == 0))
        return sip__skip_blanks(p + 8, end);
    static const struct slice words[2] = {{"SIP", 3}, {"2.0", 3}};
    for (unsigned i = 0; i < 2; i++) {
        const char *q = sip__skip(p, end, SIP__TOKEN);
        if (!slice_equal_nocase((struct slice){p, (size_t)(q - p)}, words[i]))
            return NULL;
        q = sip__skip_blanks(q, end);
        if (q == end || *q != '/')
            return NULL;
        p = sip__skip_blanks(q + 1, end);
    }
    return p;
}

/* host [COLON port]. The place behind, or NULL. */
static const char *via_sent_by(const char *p, const char *end, struct sip_via *v)
{
    const char *host = p;
    if (p < end && *p == '[') {
        host = p + 1;
        p = memchr(host, ']', (size_t)(end - host));
        if (p == NULL)
            return NULL;
        v->host_is_ipv6 = true;
    } else {
        p = sip__skip(p, end, SIP__HOST);
    }
    v->host = (struct slice){host, (size_t)(p - host)};
    if (v->host.n == 0 || (v->host_is_ipv6 && !sip__is_ipv6_text(v->host)))
        return NULL;
    if (v->host_is_ipv6)
        p++;
    const char *colon = sip__skip_blanks(p, end);
    if (colon == end || *colon != ':')
        return p;
    p = sip__skip_blanks(colon + 1, end);
    uint64_t port = 0;
    if (sip__take_digits(&p, end, 65535, &port) != SIP_OK || port == 0)
        return NULL;
    v->port = (uint16_t)port;
    return p;
}

/* The parameters that we read; each may stand once, or two readers could differ on which counts. */
static int via_param(struct sip_via *v, const struct sip__param *a)
{
    if (SIP__EQUAL(a->name, "branch")) {
        if (v->branch.p != NULL)
            return SIP_E_SYNTAX;
        v->branch = a->value;
        v->is_rfc3261 = a->value.n > 7 && memcmp(a->value.p, "z9hG4bK", 7) == 0;
    } else if (SIP__EQUAL(a->name, "rport")) {
        if (v->has_rport)
            return SIP_E_SYNTAX;
        v->has_rport = true;
        v->rport_param = (struct slice){a->name.p, (size_t)(a->stop - a->name.p)};
    } else if (SIP__EQUAL(a->name, "received")) {
        if (v->received_param.p != NULL)
            return SIP_E_SYNTAX;
        v->received_param = (struct slice){a->name.p, (size_t)(a->stop - a->name.p)};
    }
    return SIP_OK;
}

int sip__via(const char *p, const char *end, const char *limit, struct sip_via *ret_via,
             const char **ret_span_end, const char **ret_stop)
{
    struct sip_via *v = ret_via;
    *v = (struct sip_via){.transport = -1};
    p = via_protocol(p, end);
    if (p == NULL)
        return SIP_E_SYNTAX;
    const char *q = sip__skip(p, end, SIP__TOKEN);
    v->transport_name = (struct slice){p, (size_t)(q - p)};
    v->transport = via_transport(v->transport_name);
    p = sip__skip_blanks(q, end);
    if (v->transport_name.n == 0 || p == q)
        return SIP_E_SYNTAX;
    p = via_sent_by(p, end, v);
    if (p == NULL)
        return SIP_E_SYNTAX;
    struct sip__param a = {.stop = p};
    p = sip__skip_blanks(p, end);
    const char *params = p;
    int rc;
    while ((rc = sip__next_param(&p, end, limit, &a)) == 1) {
        if (via_param(v, &a) != SIP_OK)
            return SIP_E_SYNTAX;
    }
    if (rc != 0 || (p != end && *p != ','))
        return SIP_E_SYNTAX;
    if (a.stop > params)
        v->params = (struct slice){params, (size_t)(a.stop - params)};
    *ret_span_end = a.stop;
    *ret_stop = p;
    return SIP_OK;
}

int sip_via_parse(struct slice s, struct sip_via *ret_via)
{
    struct sip_via v;
    const char *span_end;
    const char *stop;
    s = slice_trim(s);
    if (s.n == 0 || sip__via(s.p, s.p + s.n, s.p + s.n, &v, &span_end, &stop) != SIP_OK ||
        stop != s.p + s.n)
        return SIP_E_SYNTAX;
    *ret_via = v;
    return SIP_OK;
}

/* ---- name-addr ------------------------------------------------------------------------------- */

/* An unquoted display name. The grammar says tokens; what phones send is wider and harms no one,
 * save the bytes that another reader could take for structure (RFC 4475 3.1.2.6, 3.1.2.15). */
static bool is_display(const char *p, const char *end)
{
    for (; p < end; p++)
        if (*p == '\\' || (sip__stops(*p, SIP__UNTIL_PARAM_END) && !sip__is(*p, SIP__BLANK)))
            return false;
    return true;
}

/* A scheme, a colon and something. What a scheme of another's means is not ours to judge. */
static bool is_uri(struct slice s)
{
    if (LIKELY(s.n > 4 && memcmp(s.p, "sip:", 4) == 0))
        return true;
    const char *end = s.p + s.n;
    const char *q = sip__skip(s.p, end, SIP__SCHEME);
    return q > s.p && sip__is_alpha(*s.p) && end - q > 1 && *q == ':';
}

/* Reads the display name at p. Returns the '<' behind it; p when an addr-spec begins there; or
 * NULL. */
static const char *display_name(const char *p, const char *end, const char *limit,
                                struct slice *ret_display)
{
    const char *open = p;
    const char *stop;
    if (*p == '"') {
        stop = sip__quoted(p, end, limit);
        if (stop == NULL)
            return NULL;
        open = sip__skip_blanks(stop, end);
        if (open == end || *open != '<')
            return NULL;
    } else if (*p != '<') {
        const char *word_end = sip__until(p, end, limit, SIP__UNTIL_PARAM_END);
        open = sip__skip_blanks(word_end, end);
        if (open == end || *open == ';' || *open == ',')
            return p;
        open = memchr(open, '<', (size_t)(end - open));
        if (open == NULL || !is_display(p, open))
            return NULL;
        for (stop = open; sip__is(stop[-1], SIP__BLANK);)
            stop--;
    } else {
        return p;
    }
    *ret_display = (struct slice){p, (size_t)(stop - p)};
    return open;
}

/* Parts of the value up to its parameters; the place behind, or NULL. `*` is not one of them. */
static const char *nameaddr_uri(const char *p, const char *end, const char *limit,
                                struct sip_nameaddr *na)
{
    const char *q = p < end ? display_name(p, end, limit, &na->display) : NULL;
    if (q == NULL)
        return NULL;
    na->bracketed = *q == '<';
    if (na->bracketed) {
        const char *uri = q + 1;
        q = sip__until(uri, end, limit, SIP__UNTIL_URI_END);
        na->uri = (struct slice){uri, (size_t)(q - uri)};
        if (q == end || *q != '>' || !is_uri(na->uri))
            return NULL;
        return q + 1;
    }
    /* An addr-spec holds no ',' ';' or '?' without brackets (RFC 3261 20): with a '?' it is a
     * fault, not a guess (RFC 4475 3.1.2.13). */
    q = sip__until(p, end, limit, SIP__UNTIL_PARAM_END);
    na->uri = (struct slice){p, (size_t)(q - p)};
    return is_uri(na->uri) && slice_find(na->uri, '?') == na->uri.n ? q : NULL;
}

int sip__nameaddr(const char *p, const char *end, const char *limit, bool in_list,
                  struct sip_nameaddr *ret_na, struct slice *ret_tag, const char **ret_stop)
{
    *ret_na = (struct sip_nameaddr){.bracketed = false};
    *ret_tag = SLICE_NONE;
    p = nameaddr_uri(p, end, limit, ret_na);
    if (p == NULL)
        return SIP_E_SYNTAX;
    p = sip__skip_blanks(p, end);
    const char *params = p;
    struct sip__param a = {.stop = p};
    int rc;
    while ((rc = sip__next_param(&p, end, limit, &a)) == 1) {
        if (!SIP__EQUAL(a.name, "tag"))
            continue;
        if (ret_tag->p != NULL)
            return SIP_E_SYNTAX; /* two tags, two dialogs: whose? (CVE-2018-14767) */
        *ret_tag = a.value;
    }
    if (rc != 0 || (p != end && !(in_list && *p == ',')))
        return SIP_E_SYNTAX;
    if (a.stop > params)
        ret_na->params = (struct slice){params, (size_t)(a.stop - params)};
    *ret_stop = p;
    return SIP_OK;
}

int sip_nameaddr_parse(struct slice s, struct sip_nameaddr *ret_na)
{
    struct sip_nameaddr na;
    struct slice tag;
    const char *stop;
    s = slice_trim(s);
    if (s.n == 0 || sip__nameaddr(s.p, s.p + s.n, s.p + s.n, false, &na, &tag, &stop) != SIP_OK)
        return SIP_E_SYNTAX;
    *ret_na = na;
    return SIP_OK;
}
