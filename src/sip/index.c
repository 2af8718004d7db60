/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass over one whole message: where the start line's parts are, where each header line is,
 * which header it is, where its value is. Nothing is copied, nothing is judged but the shape.
 *
 *      m->h[]     0        1        2        3          first[SIP_H_VIA] = 0, last[…] = 3
 *               ┌──────┬────────┬────────┬──────┐
 *               │ Via  │ From   │ X-Some │ Via  │        h[0].next = 3, h[3].next = SIP_NO_HEADER
 *               └──────┴────────┴────────┴──────┘
 *
 * h[] is not cleared: header_count says how much of it is true.
 *
 * A fault of one line does not end the pass, so that an answer can be built from the others. A
 * fault that makes the line ends themselves doubtful does. */
#include "sip/sip_int.h"

struct pass {
    struct sip_msg *m;
    const char *p;   /* next byte */
    const char *end; /* of what may be head */
    bool is_cut;     /* `end` is the maximum of a head, not the end of what is there */
    int rc;
    uint32_t length; /* Content-Length */
    struct sip_fault *fault;
};

/* Notes a fault: the first one of its grade; a graver one replaces it. */
static void note(struct pass *s, int err, int status, struct slice reason, const char *at)
{
    if (s->rc != SIP_OK && (err > SIP_E_FATAL || s->rc <= SIP_E_FATAL))
        return;
    s->rc = err;
    *s->fault = (struct sip_fault){status, reason, (uint32_t)(at - s->m->p)};
}
#define NOTE(s, err, status, lit, at) note((s), (err), (status), SLICE(lit), (at))

static struct sip_span span(const struct pass *s, const char *p, const char *end)
{
    return (struct sip_span){(uint32_t)(p - s->m->p), (uint32_t)(end - p)};
}

/* "SIP/2.0" in any case; true for other digits too, with *ret_is_2_0 false. */
static bool is_version(const char *p, size_t n, bool *ret_is_2_0)
{
    if (n < 7 || (p[0] | 0x20) != 's' || (p[1] | 0x20) != 'i' || (p[2] | 0x20) != 'p' ||
        p[3] != '/')
        return false;
    *ret_is_2_0 = n == 7 && p[4] == '2' && p[5] == '.' && p[6] == '0';
    size_t i = 4;
    while (i < n && sip__is_digit(p[i]))
        i++;
    if (i == 4 || i + 1 >= n || p[i] != '.')
        return false;
    for (i++; i < n; i++)
        if (!sip__is_digit(p[i]))
            return false;
    return true;
}

/* SIP-Version SP 3DIGIT SP Reason-Phrase. The last SP is often forgotten when the phrase is
 * empty; nothing hangs on it. */
static void status_line(struct pass *s, const char *p, const char *end)
{
    bool is_2_0 = false;
    const char *sp = memchr(p, ' ', (size_t)(end - p));
    if (sp == NULL || !is_version(p, (size_t)(sp - p), &is_2_0)) {
        NOTE(s, SIP_E_SYNTAX, 400, "Bad Status-Line", p);
        return;
    }
    if (!is_2_0)
        NOTE(s, SIP_E_SYNTAX, 505, "Version Not Supported", p);
    const char *code = sp + 1;
    if (end - code < 3 || !sip__is_digit(code[0]) || !sip__is_digit(code[1]) ||
        !sip__is_digit(code[2]) || (end - code > 3 && code[3] != ' ') || code[0] < '1' ||
        code[0] > '6') {
        NOTE(s, SIP_E_SYNTAX, 400, "Bad Status-Code", code);
        return;
    }
    s->m->status = (uint16_t)((code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0'));
    const char *reason = end - code > 3 ? code + 4 : end;
    s->m->reason = span(s, reason, end);
}

/* Method SP Request-URI SP SIP-Version. The elements are divided by exactly one SP: a URI with a
 * blank in it is cut elsewhere by the next one who reads it (RFC 4475 3.1.2.8 to 3.1.2.10). */
static void request_line(struct pass *s, const char *p, const char *end)
{
    struct sip_msg *m = s->m;
    const char *sp = sip__skip(p, end, SIP__TOKEN);
    m->is_request = true;
    m->method_name = span(s, p, sp);
    m->method = (uint8_t)sip_method_of(sip_slice(m, m->method_name));
    const char *last = end;
    while (last > sp && sip__is_blank(last[-1]))
        last--;
    if (last != end)
        NOTE(s, SIP_E_SYNTAX, 400, "Blank behind SIP-Version", last);
    const char *word = last;
    while (word > sp && !sip__is_blank(word[-1]))
        word--;
    bool is_2_0 = false;
    if (!is_version(word, (size_t)(last - word), &is_2_0))
        NOTE(s, SIP_E_SYNTAX, 400, "Bad SIP-Version", word);
    else if (!is_2_0)
        NOTE(s, SIP_E_SYNTAX, 505, "Version Not Supported", word);
    if (word - sp < 2 || sip__is_blank(sp[1]) || word[-1] != ' ' || sip__is_blank(word[-2])) {
        NOTE(s, SIP_E_SYNTAX, 400, "Bad Request-Line", sp);
        return;
    }
    m->uri = span(s, sp + 1, word - 1);
    if (slice_find(sip_slice(m, m->uri), ' ') != m->uri.len)
        NOTE(s, SIP_E_SYNTAX, 400, "Blank in Request-URI", sp + 1);
}

/* The head breaks off, or holds a byte that may not be there, at `at`. */
static const char *no_line(struct pass *s, const char *line, const char *at)
{
    if (s->is_cut && s->end - at < 2)
        NOTE(s, SIP_E_TOO_LONG, 513, "Message Too Large", line);
    else
        NOTE(s, SIP_E_HEAD, 400, "Bad line in header section", line);
    return NULL;
}

/* The Request-Line as nearly everyone writes it. False: look closer. */
static bool plain_request_line(struct pass *s, const char *p, const char *end)
{
    struct sip_msg *m = s->m;
    if (end - p < 12 || memcmp(end - 8, " SIP/2.0", 8) != 0 || sip__is_blank(end[-9]))
        return false;
    const char *sp = sip__skip(p, end, SIP__TOKEN);
    const char *uri = sp + 1;
    const char *uri_end = end - 8;
    if (*sp != ' ' || sp == p || sp - p > SIP__METHOD_BYTES_MAX || uri >= uri_end || *uri == ' ' ||
        *uri == '/' || memchr(uri, ' ', (size_t)(uri_end - uri)) != NULL)
        return false;
    m->is_request = true;
    m->method_name = span(s, p, sp);
    m->method = (uint8_t)sip_method_of((struct slice){p, (size_t)(sp - p)});
    m->uri = span(s, uri, uri_end);
    return true;
}

/* Returns whether there is a first line to go on behind. */
static bool start_line(struct pass *s)
{
    const char *p = s->p;
    const char *q = sip__line_stop(p, s->end);
    bool is_line = s->end - q >= 2 && q[0] == '\r' && q[1] == '\n';
    bool is_done = is_line && plain_request_line(s, p, q);
    if (!is_line || (!is_done && !sip__start_is_sip(p, (size_t)(q - p)))) {
        NOTE(s, SIP_E_START_LINE, 400, "Not SIP", p);
        return false;
    }
    if (q - p > SIP_START_LINE_BYTES_MAX - 2) {
        NOTE(s, SIP_E_TOO_LONG, 513, "Message Too Large", p);
        return false;
    }
    if (!is_done && p[3] == '/')
        status_line(s, p, q);
    else if (!is_done)
        request_line(s, p, q);
    s->p = q + 2;
    s->m->headers_off = (uint32_t)(s->p - s->m->p);
    if (s->p < s->end && sip__is_blank(*s->p))
        return no_line(s, s->p, s->p) != NULL; /* a fold: this line has none (RFC 3261 7.1) */
    return true;
}

/* The end of the header line at `line`, looked for at `from`, folds included: just behind its
 * CRLF; or NULL. */
static const char *line_end(struct pass *s, const char *line, const char *from)
{
    for (const char *q = from;; q++) {
        q = sip__line_stop(q, s->end);
        if (s->end - q < 2)
            return no_line(s, line, q);
        if (*q == '\r' && q[1] == '\n') {
            q += 2;
            if (LIKELY(q == s->end || !sip__is_blank(*q)))
                return q;
        } else if (*q != '\0' || !sip__nul_is_quoted(line, q)) {
            return no_line(s, line, q);
        }
    }
}

/* Takes m->h[header_count], whose id is set, into the list of its id. */
static void link_header(struct sip_msg *m)
{
    uint8_t i = m->header_count++;
    unsigned id = m->h[i].id;
    uint64_t bit = UINT64_C(1) << id;
    m->h[i].next = SIP_NO_HEADER;
    if ((m->seen & bit) == 0) {
        m->seen |= bit;
        m->first[id] = i;
    } else {
        m->doubled |= bit;
        m->h[m->last[id]].next = i;
    }
    m->last[id] = i;
}

static void content_length(struct pass *s, const struct sip_header *h)
{
    const char *at = s->m->p + h->value.off;
    if (sip_has(s->m, SIP_H_CONTENT_LENGTH)) {
        NOTE(s, SIP_E_LENGTH, 400, "Repeated Content-Length", at);
        return;
    }
    int rc = sip__content_length(sip_slice(s->m, h->value), &s->length);
    if (rc == SIP_E_LENGTH)
        NOTE(s, SIP_E_LENGTH, 400, "Bad Content-Length", at);
    else if (rc != SIP_OK)
        NOTE(s, SIP_E_TOO_LONG, 513, "Message Too Large", at);
}

/* One header line at s->p. Returns false when the pass cannot go on. */
static bool header_line(struct pass *s)
{
    struct sip_msg *m = s->m;
    const char *line = s->p;
    size_t name_len;
    enum sip_header_id id = SIP_H_OTHER;
    const char *colon = sip__header_colon(line, s->end, &name_len, &id);
    const char *end = line_end(s, line, colon != NULL ? colon : line);
    if (end == NULL)
        return false;
    s->p = end;
    if (colon == NULL || name_len > SIP_HEADER_NAME_BYTES_MAX) {
        NOTE(s, colon == NULL ? SIP_E_SYNTAX : SIP_E_LIMIT, 400, "Bad header name", line);
        return true;
    }
    if (m->header_count == SIP_HEADERS_MAX) {
        NOTE(s, SIP_E_TOO_LONG, 513, "Too many header fields", line);
        return false;
    }
    /* CRLF and the colon stand guard: neither look leaves the line. */
    const char *value_end = end - 2;
    const char *value = colon;
    if (LIKELY(*value == ' ' && (uint8_t)value[1] > ' '))
        value++;
    else
        value = sip__skip(colon, value_end, SIP__BLANK);
    if (UNLIKELY(value == value_end))
        value = value_end = colon; /* empty: where a value could be put */
    while (UNLIKELY((uint8_t)value_end[-1] <= ' ') && sip__is(value_end[-1], SIP__BLANK))
        value_end--;
    struct sip_header *h = &m->h[m->header_count];
    h->line = (uint32_t)(line - m->p);
    h->line_end = (uint32_t)(end - m->p);
    h->value = span(s, value, value_end);
    h->name_len = (uint16_t)name_len;
    h->id = (uint8_t)id;
    if (UNLIKELY(id == SIP_H_CONTENT_LENGTH))
        content_length(s, h);
    link_header(m);
    return true;
}

/* What follows the head. RFC 3261 18.3: of a datagram, what is behind the body is not ours
 * (RFC 4475 3.1.1.8), and without Content-Length all of it is body; a stream's message has none
 * then. */
static void body(struct pass *s, size_t n, bool is_datagram)
{
    struct sip_msg *m = s->m;
    size_t head = (size_t)(s->p - m->p);
    size_t rest = n - head;
    size_t want = s->length;
    if (!sip_has(m, SIP_H_CONTENT_LENGTH))
        want = is_datagram ? rest : 0;
    if (want > rest || (!is_datagram && want < rest)) {
        NOTE(s, SIP_E_LENGTH, 400, "Content-Length contradicts the message", s->p);
        want = want < rest ? want : rest;
    }
    if (want > SIP_BODY_BYTES_MAX) {
        NOTE(s, SIP_E_TOO_LONG, 513, "Message Too Large", s->p);
        want = SIP_BODY_BYTES_MAX;
    }
    m->body = (struct sip_span){(uint32_t)head, (uint32_t)want};
    m->n = (uint32_t)(head + want);
}

int sip_index(struct sip_msg *m, const char *p, size_t n, bool is_datagram,
              struct sip_fault *ret_fault)
{
    memset(m, 0, offsetof(struct sip_msg, first));
    memset(m->first, SIP_NO_HEADER, sizeof m->first);
    memset(m->last, SIP_NO_HEADER, sizeof m->last);
    if (n == 0)
        p = ""; /* for p may be NULL then */
    size_t cap = n < SIP_HEAD_BYTES_MAX ? n : SIP_HEAD_BYTES_MAX;
    struct pass s = {.m = m, .p = p, .end = p + cap, .is_cut = cap < n, .fault = ret_fault};
    m->p = p;
    m->n = (uint32_t)(n < SIP_MESSAGE_BYTES_MAX ? n : SIP_MESSAGE_BYTES_MAX);
    if (!start_line(&s))
        return s.rc;
    for (;;) {
        if (UNLIKELY(s.end - s.p < 2)) {
            if (cap < n)
                NOTE(&s, SIP_E_TOO_LONG, 513, "Message Too Large", s.p);
            else
                NOTE(&s, SIP_E_HEAD, 400, "No blank line behind the headers", s.p);
            return s.rc;
        }
        if (UNLIKELY(s.p[0] == '\r') && s.p[1] == '\n')
            break;
        if (!header_line(&s))
            return s.rc;
    }
    m->headers_end = (uint32_t)(s.p - p);
    s.p += 2;
    body(&s, n, is_datagram);
    return s.rc;
}

/* ---- methods --------------------------------------------------------------------------------- */

static const struct slice methods[SIP_M__COUNT] = {
    [SIP_M_OTHER] = {"", 0},
    [SIP_M_INVITE] = {"INVITE", 6},
    [SIP_M_ACK] = {"ACK", 3},
    [SIP_M_BYE] = {"BYE", 3},
    [SIP_M_CANCEL] = {"CANCEL", 6},
    [SIP_M_OPTIONS] = {"OPTIONS", 7},
    [SIP_M_REGISTER] = {"REGISTER", 8},
    [SIP_M_PRACK] = {"PRACK", 5},
    [SIP_M_UPDATE] = {"UPDATE", 6},
    [SIP_M_INFO] = {"INFO", 4},
    [SIP_M_SUBSCRIBE] = {"SUBSCRIBE", 9},
    [SIP_M_NOTIFY] = {"NOTIFY", 6},
    [SIP_M_REFER] = {"REFER", 5},
    [SIP_M_MESSAGE] = {"MESSAGE", 7},
    [SIP_M_PUBLISH] = {"PUBLISH", 7},
};

enum sip_method sip_method_of(struct slice name)
{
    if (name.n == 6 && memcmp(name.p, "INVITE", 6) == 0)
        return SIP_M_INVITE;
    for (unsigned i = 1; i < SIP_M__COUNT; i++)
        if (name.n == methods[i].n && memcmp(name.p, methods[i].p, name.n) == 0)
            return (enum sip_method)i;
    return SIP_M_OTHER;
}

struct slice sip_method_name(enum sip_method m)
{
    return (unsigned)m < SIP_M__COUNT ? methods[m] : methods[SIP_M_OTHER];
}
