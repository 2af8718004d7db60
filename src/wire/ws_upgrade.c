/* SPDX-License-Identifier: Apache-2.0
 *
 * The opening handshake of a WebSocket server (RFC 6455 4.2, RFC 7118 3).
 *
 * Only as much HTTP as that needs, and no more leniency than that: the port is open to everybody,
 * and to every web page. Lines are judged in their order, each when it is whole, and what is
 * missing when the head is whole: so the answer does not depend on how the bytes were cut. Nothing
 * is remembered between calls: a head of at most 8 KiB is cheap to read again.
 *
 * SHA-1 is no secret-keeper here, only proof that the other end knows WebSocket. Its low-level
 * interface allocates nothing. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "wire/ws.h"

enum { KEY_CHARS = 24, KEY_LETTERS = 22 }; /* 16 bytes in base64; two '=' end it */

enum refusal {
    FINE = 0,
    BAD_REQUEST,
    BAD_HOST,
    BAD_BODY,
    BAD_KEY,
    BAD_PROTOCOL,
    BAD_ORIGIN,
    BAD_METHOD,
    BAD_UPGRADE,
    BAD_VERSION,
    TOO_LARGE,
    BAD_HTTP_VERSION,
};

/* What is to be sent for each: status line, headers of its own, and a line for a human reader. */
static const struct {
    struct slice status;
    struct slice headers;
    struct slice body;
} refusals[] = {
#define ROW(status, headers, body)                                                                 \
    {                                                                                              \
        {status, sizeof status - 1}, {headers, sizeof headers - 1},                                \
        {                                                                                          \
            body "\n", sizeof body                                                                 \
        }                                                                                          \
    }
    [BAD_REQUEST] = ROW("400 Bad Request", "", "Not an HTTP request that can be read."),
    [BAD_HOST] = ROW("400 Bad Request", "", "Exactly one Host is required."),
    [BAD_BODY] = ROW("400 Bad Request", "", "No body is allowed."),
    [BAD_KEY] = ROW("400 Bad Request", "", "Sec-WebSocket-Key must be 16 bytes in base64."),
    [BAD_PROTOCOL] = ROW("400 Bad Request", "", "Sec-WebSocket-Protocol must offer sip."),
    [BAD_ORIGIN] = ROW("403 Forbidden", "", "This Origin is not allowed."),
    [BAD_METHOD] = ROW("405 Method Not Allowed", "Allow: GET\r\n", "Only GET is allowed."),
    [BAD_UPGRADE] =
        ROW("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "This is a WebSocket server for SIP."),
    [BAD_VERSION] =
        ROW("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "WebSocket version 13 is required."),
    [TOO_LARGE] = ROW("431 Request Header Fields Too Large", "", "The request is too large."),
    [BAD_HTTP_VERSION] = ROW("505 HTTP Version Not Supported", "", "HTTP/1.1 is required."),
#undef ROW
};

struct request {
    struct slice host, key, version, origin;
    struct slice protocol; /* "sip" as the client spelt it: browsers compare with case */
    uint8_t hosts, keys, versions, origins;
    bool has_upgrade, has_connection, has_body;
};

static bool is_letter(unsigned char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 9110 5.6.2. */
static bool is_token(struct slice s)
{
    static const struct slice marks = {"!#$%&'*+-.^_`|~", 15};
    for (size_t i = 0; i < s.n; i++)
        if (!is_letter((unsigned char)s.p[i]) && !is_digit((unsigned char)s.p[i]) &&
            slice_find(marks, s.p[i]) == marks.n)
            return false;
    return s.n > 0;
}

/* Whether the bytes so far can still become "GET ". Other methods of HTTP get an answer of their
 * own; what begins in any other way does not speak HTTP at all. `ret_more` tells when a longer
 * beginning decides. */
static enum refusal method_check(struct slice s, bool *ret_more)
{
    static const struct slice methods[] = {
        {"GET ", 4},   {"HEAD ", 5},     {"POST ", 5},    {"PUT ", 4},   {"DELETE ", 7},
        {"PATCH ", 6}, {"OPTIONS /", 9}, {"CONNECT ", 8}, {"TRACE ", 6},
    };
    *ret_more = false;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (slice_starts_with(s, methods[i]))
            return i == 0 ? FINE : BAD_METHOD;
        if (s.n < methods[i].n && slice_starts_with(methods[i], s)) {
            *ret_more = true;
            return FINE;
        }
    }
    return BAD_REQUEST;
}

static enum refusal request_line(struct slice line)
{
    struct slice target = slice_drop(line, 4); /* "GET " was there */
    size_t blank = slice_find(target, ' ');
    struct slice version = slice_drop(target, blank + 1);
    target = slice_take(target, blank);
    bool is_target = slice_starts_with(target, SLICE("/")) ||
                     slice_starts_with(target, SLICE("http://")) ||
                     slice_starts_with(target, SLICE("https://"));
    if (!is_target || version.n != 8 || !slice_starts_with(version, SLICE("HTTP/")) ||
        !is_digit((unsigned char)version.p[5]) || version.p[6] != '.' ||
        !is_digit((unsigned char)version.p[7]))
        return BAD_REQUEST;
    return version.p[5] == '1' && version.p[7] >= '1' ? FINE : BAD_HTTP_VERSION;
}

/* The element of a comma-separated list that equals `name` without case; empty when none does. */
static struct slice list_find(struct slice list, struct slice name)
{
    while (list.n > 0) {
        size_t comma = slice_find(list, ',');
        struct slice one = slice_trim(slice_take(list, comma));
        if (slice_equal_nocase(one, name))
            return one;
        list = slice_drop(list, comma + 1);
    }
    return SLICE_NONE;
}

static void once(struct slice value, struct slice *place, uint8_t *count)
{
    *place = value;
    (*count)++; /* at most WS_UPGRADE_LINES_MAX */
}

static enum refusal header_line(struct slice line, struct request *r)
{
    size_t colon = slice_find(line, ':');
    struct slice name = slice_take(line, colon), value = slice_trim(slice_drop(line, colon + 1));
    if (colon == line.n || !is_token(name))
        return BAD_REQUEST; /* a folded line too (RFC 9112 5.2) */
    if (slice_equal_nocase(name, SLICE("Host")))
        once(value, &r->host, &r->hosts);
    else if (slice_equal_nocase(name, SLICE("Sec-WebSocket-Key")))
        once(value, &r->key, &r->keys);
    else if (slice_equal_nocase(name, SLICE("Sec-WebSocket-Version")))
        once(value, &r->version, &r->versions);
    else if (slice_equal_nocase(name, SLICE("Origin")))
        once(value, &r->origin, &r->origins);
    else if (slice_equal_nocase(name, SLICE("Upgrade")))
        r->has_upgrade |= list_find(value, SLICE("websocket")).n > 0;
    else if (slice_equal_nocase(name, SLICE("Connection")))
        r->has_connection |= list_find(value, SLICE("Upgrade")).n > 0;
    else if (slice_equal_nocase(name, SLICE("Content-Length")))
        r->has_body |= !slice_equal(value, SLICE("0"));
    else if (slice_equal_nocase(name, SLICE("Transfer-Encoding")))
        r->has_body = true;
    else if (slice_equal_nocase(name, SLICE("Sec-WebSocket-Protocol")) && r->protocol.n == 0)
        r->protocol = list_find(value, SLICE("sip"));
    return FINE;
}

/* Printable, blank, tab, or a byte of UTF-8: nothing else in any line. */
static bool is_clean(struct slice line)
{
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool key_is_sound(struct slice key)
{
    if (key.n != KEY_CHARS || key.p[KEY_LETTERS] != '=' || key.p[KEY_LETTERS + 1] != '=')
        return false;
    for (size_t i = 0; i < KEY_LETTERS; i++) {
        unsigned char c = (unsigned char)key.p[i];
        if (!is_letter(c) && !is_digit(c) && c != '+' && c != '/')
            return false;
    }
    return true;
}

static bool origin_is_allowed(const struct request *r, const struct ws_policy *policy)
{
    if (policy->origin_count == 0)
        return true;
    for (unsigned i = 0; i < policy->origin_count; i++)
        if (slice_equal_nocase(r->origin, policy->origins[i]))
            return true;
    return false; /* and so when there was none: it is empty */
}

/* A head that is whole: RFC 6455 4.2.1 and 4.2.2. */
static enum refusal judge(const struct request *r, const struct ws_policy *policy)
{
    if (r->hosts != 1 || r->host.n == 0)
        return BAD_HOST;
    if (r->has_body)
        return BAD_BODY;
    if (!r->has_upgrade || !r->has_connection)
        return BAD_UPGRADE;
    if (r->versions != 1 || !slice_equal(r->version, SLICE("13")))
        return BAD_VERSION;
    if (r->keys != 1 || !key_is_sound(r->key))
        return BAD_KEY;
    if (r->origins > 1 || !origin_is_allowed(r, policy))
        return BAD_ORIGIN;
    return r->protocol.n > 0 ? FINE : BAD_PROTOCOL;
}

static void refuse(struct text *t, enum refusal why)
{
    TEXT_LIT(t, "HTTP/1.1 ");
    text_put(t, refusals[why].status);
    TEXT_LIT(t, "\r\n");
    text_put(t, refusals[why].headers);
    TEXT_LIT(t, "Connection: close\r\nContent-Type: text/plain\r\nContent-Length: ");
    text_put_u64(t, refusals[why].body.n);
    TEXT_LIT(t, "\r\n\r\n");
    text_put(t, refusals[why].body);
}

/* RFC 6455 4.2.2 (5.4): base64 of the SHA-1 of the key and a fixed text. */
static void accept_put(struct text *t, struct slice key)
{
    static const struct slice fixed = {"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36};
    uint8_t digest[SHA_DIGEST_LENGTH];
    char out[28];
    SHA_CTX c;
    SHA1_Init(&c);
    SHA1_Update(&c, key.p, key.n);
    SHA1_Update(&c, fixed.p, fixed.n);
    SHA1_Final(digest, &c);
    text_base64url_encode(digest, sizeof digest, out);
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(out[i] == '-' ? '+' : out[i] == '_' ? '/' : out[i]);
    out[sizeof out - 1] = '=';
    text_put(t, slice_of(out, sizeof out));
}

static void open_put(struct text *t, const struct request *r)
{
    TEXT_LIT(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: ");
    accept_put(t, r->key);
    TEXT_LIT(t, "\r\nSec-WebSocket-Protocol: ");
    text_put(t, r->protocol);
    TEXT_LIT(t, "\r\n\r\n");
}

/* Reads lines until the empty one: FINE with *ret_used = 0 when that has not come yet. */
static enum refusal head_read(struct slice head, struct request *r, size_t *ret_used)
{
    *ret_used = 0;
    size_t at = 0;
    for (unsigned lines = 0;; lines++) {
        struct slice line = slice_drop(head, at);
        size_t end = slice_find(line, '\n');
        if (end == line.n)
            return head.n < WS_UPGRADE_BYTES_MAX ? FINE : TOO_LARGE;
        if (end == 0 || line.p[end - 1] != '\r')
            return BAD_REQUEST; /* a bare LF is where two readers disagree */
        line.n = end - 1;
        at += end + 1;
        if (line.n == 0) {
            *ret_used = at;
            return FINE;
        }
        if (lines == WS_UPGRADE_LINES_MAX)
            return TOO_LARGE;
        if (!is_clean(line))
            return BAD_REQUEST;
        enum refusal why = lines == 0 ? request_line(line) : header_line(line, r);
        if (why != FINE)
            return why;
    }
}

int ws_upgrade(const char *p, size_t n, const struct ws_policy *policy, struct text *answer,
               size_t *ret_used)
{
    struct slice head = slice_take(slice_of(p, n), WS_UPGRADE_BYTES_MAX);
    struct request r = {.hosts = 0};
    size_t used = 0;
    bool is_short;
    enum refusal why = method_check(head, &is_short);
    if (why == FINE && is_short)
        return WS_UPGRADE_MORE;
    if (why == FINE)
        why = head_read(head, &r, &used);
    if (why == FINE && used == 0)
        return WS_UPGRADE_MORE;
    if (why == FINE)
        why = judge(&r, policy);
    if (why != FINE) {
        refuse(answer, why);
        return WS_UPGRADE_REFUSED;
    }
    open_put(answer, &r);
    *ret_used = used;
    return WS_UPGRADE_OPEN;
}
