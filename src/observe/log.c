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
    const char *text; /* the next string of the record: they are written in the order of packing */
    bool json;
};

/* A word of ours, copied whole like a key. */
enum { WORD_BYTES = 16 };
struct word {
    char text[WORD_BYTES - 1];
    uint8_t n;
};
#define WORD(lit)                                                                                  \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }

/* In the order of enum sip_method, which this room cannot see. */
static const struct word methods[] = {
    WORD(""),          WORD("INVITE"),   WORD("ACK"),   WORD("BYE"),     WORD("CANCEL"),
    WORD("OPTIONS"),   WORD("REGISTER"), WORD("PRACK"), WORD("UPDATE"),  WORD("INFO"),
    WORD("SUBSCRIBE"), WORD("NOTIFY"),   WORD("REFER"), WORD("MESSAGE"), WORD("PUBLISH"),
};

static const struct word transports[TP__COUNT] = {WORD("udp"), WORD("tcp"), WORD("tls"), WORD("ws"),
                                                  WORD("wss")};
static const struct word sides[] = {WORD("outside"), WORD("inside")};
static const struct word booleans[] = {WORD("false"), WORD("true")};

static const char digits[] = "0001020304050607080910111213141516171819"
                             "2021222324252627282930313233343536373839"
                             "4041424344454647484950515253545556575859"
                             "6061626364656667686970717273747576777879"
                             "8081828384858687888990919293949596979899";

/* ---- strings --------------------------------------------------------------------------------- */

/* Sixteen bytes at a time, in the compiler's own vectors: signed, so that what is above ASCII lies
 * below the blank. */
typedef signed char chunk __attribute__((vector_size(16)));

/* `bare` is a constant at each call: two loops are made of one. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Is any byte outside 0x20..0x7e, or `"`, or `\`; or, when `bare`, a blank or '='? */
static ALWAYS_INLINE bool chunk_is_special(chunk c, bool bare)
{
    chunk hit = (c < (signed char)(bare ? 0x21 : 0x20)) | (c == 0x7f) | (c == '"') | (c == '\\');
    if (bare)
        hit |= c == '=';
    uint64_t half[2];
    memcpy(half, &hit, sizeof half);
    return (half[0] | half[1]) != 0;
}

static ALWAYS_INLINE bool byte_is_special(char c, bool bare)
{
    return (signed char)c < (bare ? 0x21 : 0x20) || c == 0x7f || c == '"' || c == '\\' ||
           (bare && c == '=');
}

/* Copies a string shorter than a chunk if none of its bytes is special. Two words that overlap
 * make one chunk: a byte that is looked at twice is no worse for it. */
static ALWAYS_INLINE bool copy_short(char *dst, struct slice s, bool bare)
{
    uint64_t word[2];
    uint32_t half[4];
    chunk c;
    if (s.n >= sizeof word[0]) {
        memcpy(&word[0], s.p, sizeof word[0]);
        memcpy(&word[1], s.p + s.n - sizeof word[1], sizeof word[1]);
        memcpy(&c, word, sizeof c);
        memcpy(dst, &word[0], sizeof word[0]);
        memcpy(dst + s.n - sizeof word[1], &word[1], sizeof word[1]);
        return !chunk_is_special(c, bare);
    }
    if (s.n >= sizeof half[0]) {
        memcpy(&half[0], s.p, sizeof half[0]);
        memcpy(&half[1], s.p + s.n - sizeof half[1], sizeof half[1]);
        memcpy(&half[2], half, 2 * sizeof half[0]);
        memcpy(&c, half, sizeof c);
        memcpy(dst, &half[0], sizeof half[0]);
        memcpy(dst + s.n - sizeof half[1], &half[1], sizeof half[1]);
        return !chunk_is_special(c, bare);
    }
    for (size_t i = 0; i < s.n; i++) {
        if (byte_is_special(s.p[i], bare))
            return false;
        dst[i] = s.p[i];
    }
    return true;
}

/* Copies the longest beginning of `s` that needs no escape. Returns its length. */
static ALWAYS_INLINE size_t copy_plain(char *dst, struct slice s, bool bare)
{
    size_t i = 0;
    chunk c;
    if (s.n < sizeof c) {
        if (LIKELY(copy_short(dst, s, bare)))
            return s.n;
    } else {
        for (;;) {
            memcpy(&c, s.p + i, sizeof c);
            if (UNLIKELY(chunk_is_special(c, bare)))
                break;
            memcpy(dst + i, &c, sizeof c);
            i += sizeof c;
            if (i == s.n)
                return i;
            if (s.n - i < sizeof c)
                i = s.n - sizeof c; /* the last chunk overlaps the one before */
        }
    }
    for (; i < s.n && !byte_is_special(s.p[i], bare); i++)
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

/* What is left of a string inside quotes, from its first special byte on. */
static char *put_escaped(char *p, struct slice s)
{
    while (s.n > 0) {
        p = put_escape(p, &s);
        size_t n = copy_plain(p, s, false);
        p += n;
        s = slice_drop(s, n);
    }
    return p;
}

/* ---- values ---------------------------------------------------------------------------------- */

static inline void put_key(struct line *l, enum field f)
{
    const struct key *k = &l->keys[f];
    memcpy(l->p, k->text, sizeof k->text);
    l->p += k->n;
}

static char *put_quoted(char *p, struct slice s)
{
    *p++ = '"';
    size_t n = copy_plain(p, s, false);
    p += n;
    if (UNLIKELY(n < s.n))
        p = put_escaped(p, slice_drop(s, n));
    *p = '"';
    return p + 1;
}

/* Bytes of anybody. Nothing when empty. */
static void put_string(struct line *l, enum field f, struct slice s)
{
    if (s.n == 0)
        return;
    s = slice_take(s, LOG_TEXT_BYTES_MAX);
    put_key(l, f);
    size_t n = l->json ? 0 : copy_plain(l->p, s, true);
    l->p = n == s.n ? l->p + n : put_quoted(l->p, s);
}

/* The record's next string. */
static void put_text(struct line *l, enum field f, size_t n)
{
    struct slice s = slice_of(l->text, n);
    l->text += n;
    put_string(l, f, s);
}

static inline char *put_bare_word(char *p, const struct word *w)
{
    memcpy(p, w->text, sizeof w->text);
    return p + w->n;
}

static void put_word(struct line *l, enum field f, const struct word *w)
{
    put_key(l, f);
    *l->p = '"';
    l->p = put_bare_word(l->p + l->json, w);
    *l->p = '"';
    l->p += l->json;
}

static void put_bool(struct line *l, enum field f, bool v)
{
    put_key(l, f);
    l->p = put_bare_word(l->p, &booleans[v]);
}

static inline char *put_small(char *p, uint32_t v) /* below 100 */
{
    if (v < 10) {
        *p = (char)('0' + v);
        return p + 1;
    }
    memcpy(p, digits + 2 * v, 2);
    return p + 2;
}

static char *put_u32(char *p, uint32_t v)
{
    if (v < 100)
        return put_small(p, v);
    if (v < 10000) {
        p = put_small(p, v / 100);
    } else {
        p = v < 1000000 ? put_small(p, v / 10000) : put_u32(p, v / 10000);
        memcpy(p, digits + 2 * (v / 100 % 100), 2);
        p += 2;
    }
    memcpy(p, digits + 2 * (v % 100), 2);
    return p + 2;
}

static inline void put_number(struct line *l, enum field f, uint32_t v)
{
    put_key(l, f);
    l->p = put_u32(l->p, v);
}

static void put_time_us(struct line *l, enum field f, uint32_t us)
{
    if (us != UINT32_MAX)
        put_number(l, f, us);
}

static char *put_ipv4(char *p, const struct addr *a)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t v = a->ip[i];
        if (v >= 100) {
            *p++ = v < 200 ? '1' : '2';
            memcpy(p, digits + 2 * (v < 200 ? v - 100 : v - 200), 2);
            p += 2;
        } else {
            p = put_small(p, v);
        }
        *p++ = i < 3 ? '.' : ':';
    }
    return put_u32(p, a->port);
}

static void put_address(struct line *l, enum field f, const struct addr *a)
{
    if (a->family == 0)
        return;
    put_key(l, f);
    *l->p = '"';
    l->p += l->json;
    if (LIKELY(a->family == 4)) {
        l->p = put_ipv4(l->p, a);
    } else {
        struct text t = text_into(l->p, ADDR_TEXT_MAX);
        addr_put(&t, a);
        l->p += text_slice(&t).n;
    }
    *l->p = '"';
    l->p += l->json;
}

static void put_transport(struct line *l, enum field f, uint8_t tp)
{
    if (tp < TP__COUNT)
        put_word(l, f, &transports[tp]);
}

static void put_side(struct line *l, enum field f, uint8_t side)
{
    if (side <= 1)
        put_word(l, f, &sides[side]);
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

struct slice log_text_of(const struct log_record *r, enum log_text which)
{
    size_t off = 0;
    for (unsigned i = 0; i < (unsigned)which; i++)
        off += r->len[i];
    return slice_of(r->text + off, r->len[which]);
}

static void put_method(struct line *l, const struct log_record *r)
{
    if (r->method > 0 && r->method < sizeof methods / sizeof methods[0]) {
        put_word(l, F_method, &methods[r->method]);
        l->text += r->len[LOG_METHOD_NAME];
    } else {
        put_text(l, F_method, r->len[LOG_METHOD_NAME]);
    }
}

static void put_who(struct line *l, const struct log_record *r)
{
    if (r->status != 0)
        put_number(l, F_status, r->status);
    if (r->end_who != 0)
        put_string(l, F_end, slice_of((char[]){r->end_who, r->end_phase}, 2));
    put_text(l, F_call_id, r->len[LOG_CALL_ID]);
    put_text(l, F_cseq, r->len[LOG_CSEQ]);
    put_text(l, F_ruri, r->len[LOG_RURI]);
    put_text(l, F_from, r->len[LOG_FROM]);
    put_text(l, F_to, r->len[LOG_TO]);
    put_address(l, F_source, &r->source);
    put_transport(l, F_transport, r->transport_in);
    put_side(l, F_side, r->side_in);
}

static void put_where(struct line *l, const struct log_record *r)
{
    put_address(l, F_dest, &r->dest);
    put_transport(l, F_dest_transport, r->transport_out);
    put_side(l, F_dest_side, r->side_out);
    put_text(l, F_pool, r->len[LOG_POOL]);
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
    put_text(l, F_reason, r->len[LOG_REASON]);
}

/* `p` holds LOG_LINE_BYTES_MAX. Returns the bytes of the line. */
static size_t write_line(char *p, bool json, const struct log_record *r,
                         const struct log_names *names)
{
    struct line l = {p, json ? json_keys : logfmt_keys, r->text, json};
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
