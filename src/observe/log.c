/* SPDX-License-Identifier: Apache-2.0
 *
 * A record as one line of text: a JSON object, or logfmt. Two lines a call are written, so this is
 * a straight run over the fields into memory that is known to suffice: no field asks for room.
 *
 *   record ──fields in the order of LOG_FIELDS──▶ key (24 bytes at once) + value ──▶ line
 *
 * What a peer wrote comes out as plain ASCII in both formats, whatever its bytes: `"` and `\` with
 * a backslash, control bytes and DEL as \n, \r, \t or \u00XX, a valid UTF-8 sequence as the \uXXXX
 * of its code point (two of them above U+FFFF), and a byte that is no part of one as the \u00XX of
 * its value. So a line is valid JSON, has one newline, and cannot command a terminal. logfmt uses
 * the same escapes inside quotes, and quotes what is not plain or holds a blank or '='.
 *
 * What did not happen has no field; a count, a flag and the worker always have theirs. */
#include "observe/observe.h"

/* Behind `time`, which comes first and is always there. The order is that of the line. */
#define LOG_FIELDS(X)                                                                              \
    X(node)                                                                                        \
    X(region)                                                                                      \
    X(zone)                                                                                        \
    X(worker)                                                                                      \
    X(method)                                                                                      \
    X(status)                                                                                      \
    X(end)                                                                                         \
    X(call_id)                                                                                     \
    X(cseq)                                                                                        \
    X(ruri)                                                                                        \
    X(from)                                                                                        \
    X(to)                                                                                          \
    X(source)                                                                                      \
    X(transport)                                                                                   \
    X(side)                                                                                        \
    X(dest)                                                                                        \
    X(dest_transport)                                                                              \
    X(dest_side)                                                                                   \
    X(pool)                                                                                        \
    X(tries)                                                                                       \
    X(target_status)                                                                               \
    X(queue_us)                                                                                    \
    X(first_us)                                                                                    \
    X(final_us)                                                                                    \
    X(resent_in)                                                                                   \
    X(resent_out)                                                                                  \
    X(in_dialog)                                                                                   \
    X(via_token)                                                                                   \
    X(reason)

enum field {
#define X(name) F_##name,
    LOG_FIELDS(X)
#undef X
        F__COUNT
};

enum { KEY_BYTES = 24 }; /* copied whole: three moves beat a measured copy */

struct key {
    char text[KEY_BYTES - 1];
    uint8_t n;
};

static const struct key json_keys[F__COUNT] = {
#define X(name) {",\"" #name "\":", sizeof(",\"" #name "\":") - 1},
    LOG_FIELDS(X)
#undef X
};

static const struct key logfmt_keys[F__COUNT] = {
#define X(name) {" " #name "=", sizeof(" " #name "=") - 1},
    LOG_FIELDS(X)
#undef X
};

/* A byte becomes at most six (\u00XX). The names of the process are cut like a record's texts. */
enum {
    STRINGS_BYTES_MAX = (8 + 3) * LOG_TEXT_BYTES_MAX * 6,
    REST_BYTES_MAX = F__COUNT * (KEY_BYTES + 2) + 13 * 10 + 2 * ADDR_TEXT_MAX + 64,
};
_Static_assert(STRINGS_BYTES_MAX + REST_BYTES_MAX <= LOG_LINE_BYTES_MAX, "a line must fit");

/* A line under way. */
struct line {
    char *p;
    const struct key *keys;
    bool json;
};

static const char digits[] = "0001020304050607080910111213141516171819"
                             "2021222324252627282930313233343536373839"
                             "4041424344454647484950515253545556575859"
                             "6061626364656667686970717273747576777879"
                             "8081828384858687888990919293949596979899";

/* ---- strings --------------------------------------------------------------------------------- */

/* Is any of the eight bytes outside 0x20..0x7e, or `"`, or `\`; or, when `bare`, a blank or '='?
 * Each test leaves the top bit of a byte that hits; borrows only run upwards from a hit, so the
 * answer to "any?" is exact. */
static inline bool word_is_special(uint64_t w, bool bare)
{
    const uint64_t ones = 0x0101010101010101ULL;
    uint64_t hit = w | (w + ones) | (w - ones * (bare ? 0x21 : 0x20)) | ((w ^ ones * '"') - ones) |
                   ((w ^ ones * '\\') - ones);
    if (bare)
        hit |= (w ^ ones * '=') - ones;
    return (hit & ones * 0x80) != 0;
}

static inline bool byte_is_special(unsigned char c, bool bare)
{
    return c < (bare ? 0x21 : 0x20) || c >= 0x7f || c == '"' || c == '\\' || (bare && c == '=');
}

/* Copies the longest beginning of `s` that needs no escape. Returns its length. */
static inline size_t copy_plain(char *dst, struct slice s, bool bare)
{
    size_t i = 0;
    uint64_t w;
    while (s.n - i >= sizeof w) {
        memcpy(&w, s.p + i, sizeof w);
        if (word_is_special(w, bare))
            break;
        memcpy(dst + i, &w, sizeof w);
        i += sizeof w;
    }
    for (; i < s.n && !byte_is_special((unsigned char)s.p[i], bare); i++)
        dst[i] = s.p[i];
    return i;
}

static char *put_u16_escape(char *p, uint32_t v)
{
    static const char hex[] = "0123456789abcdef";
    memcpy(p, "\\u", 2);
    for (unsigned i = 0; i < 4; i++)
        p[2 + i] = hex[v >> (12 - 4 * i) & 0xf];
    return p + 6;
}

/* Length of the valid UTF-8 sequence at the start of `s` that is not ASCII, with its code point;
 * 0 when there is none: a stray or cut sequence, an overlong one, a surrogate, above U+10FFFF
 * (RFC 3629 4). */
static size_t utf8_take(struct slice s, uint32_t *ret_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char lead = (unsigned char)s.p[0];
    size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || s.n < n)
        return 0;
    uint32_t code = lead & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (c & 0x3f);
    }
    if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    *ret_code = code;
    return n;
}

/* Escapes what stands at the start of `s` and moves it on. */
static char *put_escape(char *p, struct slice *s)
{
    unsigned char c = (unsigned char)s->p[0];
    uint32_t code = c;
    size_t n = c >= 0x80 ? utf8_take(*s, &code) : 1;
    *s = slice_drop(*s, n > 0 ? n : 1);
    if (code >= 0x10000) {
        p = put_u16_escape(p, 0xd800 | (code - 0x10000) >> 10);
        return put_u16_escape(p, 0xdc00 | (code & 0x3ff));
    }
    char brief = 0;
    if (c == '"' || c == '\\')
        brief = (char)c;
    else if (c == '\n')
        brief = 'n';
    else if (c == '\r')
        brief = 'r';
    else if (c == '\t')
        brief = 't';
    if (brief == 0)
        return put_u16_escape(p, code);
    *p++ = '\\';
    *p++ = brief;
    return p;
}

/* The rest of a string inside quotes, and the closing one. */
static char *put_quoted(char *p, struct slice s)
{
    for (;;) {
        size_t n = copy_plain(p, s, false);
        p += n;
        s = slice_drop(s, n);
        if (s.n == 0)
            break;
        p = put_escape(p, &s);
    }
    *p++ = '"';
    return p;
}

/* ---- values ---------------------------------------------------------------------------------- */

static inline void put_key(struct line *l, enum field f)
{
    const struct key *k = &l->keys[f];
    memcpy(l->p, k->text, sizeof k->text);
    l->p += k->n;
}

/* Bytes of anybody. Nothing when empty. */
static void put_string(struct line *l, enum field f, struct slice s)
{
    if (s.n == 0)
        return;
    s = slice_take(s, LOG_TEXT_BYTES_MAX);
    put_key(l, f);
    char *p = l->p;
    if (!l->json) {
        size_t n = copy_plain(p, s, true);
        if (n == s.n) {
            l->p = p + n;
            return;
        }
    }
    *p++ = '"';
    l->p = put_quoted(p, s);
}

/* A word of ours, of letters. */
static void put_word(struct line *l, enum field f, struct slice s)
{
    put_key(l, f);
    *l->p = '"';
    l->p += l->json;
    memcpy(l->p, s.p, s.n);
    l->p += s.n;
    *l->p = '"';
    l->p += l->json;
}

static void put_number(struct line *l, enum field f, uint32_t v)
{
    char reversed[10];
    unsigned at = sizeof reversed;
    put_key(l, f);
    for (; v >= 100; v /= 100) {
        at -= 2;
        memcpy(reversed + at, digits + 2 * (v % 100), 2);
    }
    if (v >= 10) {
        at -= 2;
        memcpy(reversed + at, digits + 2 * v, 2);
    } else {
        reversed[--at] = (char)('0' + v);
    }
    memcpy(l->p, reversed + at, sizeof reversed - at);
    l->p += sizeof reversed - at;
}

static void put_bool(struct line *l, enum field f, bool v)
{
    struct slice s = v ? SLICE("true") : SLICE("false");
    put_key(l, f);
    memcpy(l->p, s.p, s.n);
    l->p += s.n;
}

static void put_time_us(struct line *l, enum field f, uint32_t us)
{
    if (us != UINT32_MAX)
        put_number(l, f, us);
}

static void put_address(struct line *l, enum field f, const struct addr *a)
{
    if (a->family == 0)
        return;
    put_key(l, f);
    *l->p = '"';
    l->p += l->json;
    struct text t = text_into(l->p, ADDR_TEXT_MAX);
    addr_put(&t, a);
    l->p += text_slice(&t).n;
    *l->p = '"';
    l->p += l->json;
}

static void put_transport(struct line *l, enum field f, uint8_t tp)
{
    if (tp < TP__COUNT)
        put_word(l, f, transport_name((enum transport)tp));
}

static void put_side(struct line *l, enum field f, uint8_t side)
{
    if (side <= 1)
        put_word(l, f, side == 1 ? SLICE("inside") : SLICE("outside"));
}

/* ---- time ------------------------------------------------------------------------------------ */

static char *put_two(char *p, uint32_t v, char behind)
{
    memcpy(p, digits + 2 * v, 2);
    p[2] = behind;
    return p + 3;
}

/* RFC 3339 in UTC with microseconds, 27 bytes. Days are counted from 1 March of the year 0, so
 * that the leap day is the last of a year, and of a 4, 100 and 400 year cycle: each of the
 * divisions below then only has to correct for the cycle's one odd day. 64 bits of nanoseconds
 * end in 2554: four digits suffice, and the calendar had no other rule since 1970. */
static char *put_rfc3339(char *p, uint64_t wall_ns)
{
    uint64_t us = wall_ns / 1000;
    uint32_t frac = (uint32_t)(us % 1000000);
    uint64_t secs = us / 1000000;
    uint32_t clock = (uint32_t)(secs % 86400);
    uint32_t day = (uint32_t)(secs / 86400) + 719468; /* 0000-03-01 to 1970-01-01 */
    uint32_t era = day / 146097;                      /* of 400 years */
    uint32_t doe = day % 146097;
    uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint32_t month = (5 * doy + 2) / 153; /* 0 = March: 31 30 31 30 31 │ 31 30 31 30 31 │ … */
    uint32_t mday = doy - (153 * month + 2) / 5 + 1;
    uint32_t year = era * 400 + yoe + (month >= 10);
    month = month < 10 ? month + 3 : month - 9;

    memcpy(p, digits + 2 * (year / 100), 2);
    p = put_two(p + 2, year % 100, '-');
    p = put_two(p, month, '-');
    p = put_two(p, mday, 'T');
    p = put_two(p, clock / 3600, ':');
    p = put_two(p, clock / 60 % 60, ':');
    p = put_two(p, clock % 60, '.');
    memcpy(p, digits + 2 * (frac / 10000), 2);
    memcpy(p + 2, digits + 2 * (frac / 100 % 100), 2);
    return put_two(p + 4, frac % 100, 'Z');
}

/* ---- records --------------------------------------------------------------------------------- */

/* In the order of enum sip_method, which this room cannot see. */
static const struct slice method_names[] = {
    {"", 0},          {"INVITE", 6},   {"ACK", 3},   {"BYE", 3},     {"CANCEL", 6},
    {"OPTIONS", 7},   {"REGISTER", 8}, {"PRACK", 5}, {"UPDATE", 6},  {"INFO", 4},
    {"SUBSCRIBE", 9}, {"NOTIFY", 6},   {"REFER", 5}, {"MESSAGE", 7}, {"PUBLISH", 7},
};

struct slice log_text_of(const struct log_record *r, enum log_text which)
{
    size_t off = 0;
    for (unsigned i = 0; i < (unsigned)which; i++)
        off += r->len[i];
    return slice_of(r->text + off, r->len[which]);
}

static void put_method(struct line *l, const struct log_record *r)
{
    if (r->method > 0 && r->method < sizeof method_names / sizeof method_names[0])
        put_word(l, F_method, method_names[r->method]);
    else
        put_string(l, F_method, log_text_of(r, LOG_METHOD_NAME));
}

static void put_who(struct line *l, const struct log_record *r)
{
    if (r->status != 0)
        put_number(l, F_status, r->status);
    if (r->end_who != 0)
        put_string(l, F_end, slice_of((char[]){r->end_who, r->end_phase}, 2));
    put_string(l, F_call_id, log_text_of(r, LOG_CALL_ID));
    put_string(l, F_cseq, log_text_of(r, LOG_CSEQ));
    put_string(l, F_ruri, log_text_of(r, LOG_RURI));
    put_string(l, F_from, log_text_of(r, LOG_FROM));
    put_string(l, F_to, log_text_of(r, LOG_TO));
    put_address(l, F_source, &r->source);
    put_transport(l, F_transport, r->transport_in);
    put_side(l, F_side, r->side_in);
}

static void put_where(struct line *l, const struct log_record *r)
{
    put_address(l, F_dest, &r->dest);
    put_transport(l, F_dest_transport, r->transport_out);
    put_side(l, F_dest_side, r->side_out);
    put_string(l, F_pool, log_text_of(r, LOG_POOL));
    put_number(l, F_tries, r->tries);
    if (r->target_status != 0)
        put_number(l, F_target_status, r->target_status);
    put_time_us(l, F_queue_us, r->queue_us);
    put_time_us(l, F_first_us, r->first_us);
    put_time_us(l, F_final_us, r->final_us);
    put_number(l, F_resent_in, r->resent_in);
    put_number(l, F_resent_out, r->resent_out);
    put_bool(l, F_in_dialog, (r->flags & LOG_IN_DIALOG) != 0);
    put_bool(l, F_via_token, (r->flags & LOG_FROM_TOKEN) != 0);
    put_string(l, F_reason, log_text_of(r, LOG_REASON));
}

/* `p` holds LOG_LINE_BYTES_MAX. Returns the bytes of the line. */
static size_t write_line(char *p, bool json, const struct log_record *r,
                         const struct log_names *names)
{
    struct line l = {p, json ? json_keys : logfmt_keys, json};
    struct slice time_key = json ? SLICE("{\"time\":\"") : SLICE("time=");
    memcpy(l.p, time_key.p, time_key.n);
    l.p = put_rfc3339(l.p + time_key.n, r->wall_ns);
    *l.p = '"';
    l.p += json;
    put_string(&l, F_node, names->node);
    put_string(&l, F_region, names->region);
    put_string(&l, F_zone, names->zone);
    put_number(&l, F_worker, r->worker);
    put_method(&l, r);
    put_who(&l, r);
    put_where(&l, r);
    *l.p = '}';
    l.p += json;
    *l.p++ = '\n';
    DCHECK((size_t)(l.p - p) <= LOG_LINE_BYTES_MAX);
    return (size_t)(l.p - p);
}

static int write_to(struct text *t, bool json, const struct log_record *r,
                    const struct log_names *names)
{
    if (t->n > t->cap)
        return -1;
    if (LIKELY(t->cap - t->n >= LOG_LINE_BYTES_MAX)) {
        t->n += write_line(t->p + t->n, json, r, names);
        return 0;
    }
    char aside[LOG_LINE_BYTES_MAX];
    size_t n = write_line(aside, json, r, names);
    if (n > t->cap - t->n)
        return -1;
    text_put(t, slice_of(aside, n));
    return 0;
}

int log_write_json(struct text *t, const struct log_record *r, const struct log_names *names)
{
    return write_to(t, true, r, names);
}

int log_write_logfmt(struct text *t, const struct log_record *r, const struct log_names *names)
{
    return write_to(t, false, r, names);
}
