/* SPDX-License-Identifier: Apache-2.0
 *
 * WebSocket frames: every rule of RFC 6455 5, each stream whole, in single bytes, and cut in two at
 * every place, with the buffer at the end of a page. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "support/support.h"
#include "wire/wire.h"

enum { STREAM_MAX = 1 << 18, SAID_MAX = 4096, BYTES_MAX = 70000 };

struct bytes {
    size_t n;
    char p[STREAM_MAX];
};

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hex digits are bytes, 'letters' stand for themselves, *N repeats the byte before N times,
 * blanks separate. */
static void spell(struct bytes *b, const char *s)
{
    b->n = 0;
    while (*s != '\0') {
        if (*s == '\'') {
            for (s++; *s != '\''; s++)
                b->p[b->n++] = *s;
            s++;
        } else if (*s == '*') {
            size_t times = 0;
            for (s++; *s >= '0' && *s <= '9'; s++)
                times = times * 10 + (size_t)(*s - '0');
            assert_in_range(b->n + times, 1, STREAM_MAX);
            memset(b->p + b->n, b->p[b->n - 1], times - 1);
            b->n += times - 1;
        } else if (*s == ' ') {
            s++;
        } else {
            assert_true(digit(s[0]) >= 0 && digit(s[1]) >= 0);
            b->p[b->n++] = (char)(digit(s[0]) << 4 | digit(s[1]));
            s += 2;
        }
    }
}

/* What a reader said, as text. */
struct said {
    struct text t;
    char p[SAID_MAX];
};

static void say(struct said *s, int result, struct slice payload)
{
    static const char *const names[] = {"more", "message", "ping", "pong", "close"};
    if (s->t.n > 0)
        TEXT_LIT(&s->t, "; ");
    if (result < 0) {
        TEXT_LIT(&s->t, "error ");
        text_put_u64(&s->t, (uint64_t)-result);
        return;
    }
    text_put(&s->t, slice_cstr(names[result]));
    if (result == WS_CLOSE) {
        TEXT_LIT(&s->t, " ");
        text_put_u64(&s->t, ws_close_code(payload));
        payload = slice_drop(payload, 2);
    }
    if (payload.n > 0)
        TEXT_LIT(&s->t, " ");
    if (payload.n <= 64) {
        text_put_escaped(&s->t, payload, 64);
        return;
    }
    text_put_u64(&s->t, payload.n);
    if (memcmp(payload.p, payload.p + 1, payload.n - 1) == 0) {
        TEXT_LIT(&s->t, " times ");
        text_put_char(&s->t, payload.p[0]);
        return;
    }
    TEXT_LIT(&s->t, " bytes, hash ");
    text_put_u64(&s->t, siphash(&(struct hash_seed){1, 2}, payload.p, payload.n));
}

static bool is_inside(struct slice part, const char *p, size_t n)
{
    return part.p >= p && part.n <= n && (size_t)(part.p - p) <= n - part.n;
}

/* Feeds pieces of `piece` bytes, the first one of `first`; the buffer is made anew for each, of
 * exactly the size that is needed, and ends at a page that nobody may touch. */
static void feed(struct said *said, const struct bytes *b, size_t first, size_t piece,
                 bool is_client, uint32_t max, size_t *ret_left)
{
    struct ws_reader r;
    ws_reader_init(&r, is_client);
    said->t = text_into(said->p, sizeof said->p);
    char *kept = NULL;
    size_t n = 0;
    for (size_t at = 0, more = first; at < b->n; at += more, more = piece) {
        if (more > b->n - at)
            more = b->n - at;
        static char whole[STREAM_MAX + 1];
        if (n > 0)
            memcpy(whole, kept, n);
        memcpy(whole + n, b->p + at, more);
        if (kept != NULL)
            guard_free(kept);
        kept = guard_copy(whole, n + more);
        n += more;
        size_t before = n;
        for (;;) {
            struct slice payload = SLICE_NONE;
            int result = ws_read(&r, kept, &n, max, &payload);
            if (result == WS_MORE)
                break;
            assert_int_equal(n, before);
            assert_true(result < 0 || is_inside(payload, kept, n));
            say(said, result, payload);
        }
        assert_true(n <= before && r.kept <= n && r.kept <= max);
        assert_true(n - r.kept <= WS_REST_BYTES_MAX);
        assert_int_equal(r.raw, r.kept);
    }
    if (kept != NULL)
        guard_free(kept);
    assert_true(text_fits(&said->t));
    said->p[said->t.n < SAID_MAX ? said->t.n : SAID_MAX - 1] = '\0';
    *ret_left = ws_is_idle(&r, n) ? 0 : n + 1;
}

struct row {
    const char *name;
    const char *bytes;
    const char *said;
    bool is_client;
    uint32_t max; /* 0 = BYTES_MAX */
    bool is_open; /* something is still to come at the end */
};

static const struct row rows[] = {
    {.name = "RFC 6455 5.7: a masked text",
     .bytes = "818537fa213d7f9f4d5158",
     .said = "message Hello"},
    {.name = "RFC 6455 5.7: unmasked, to a client",
     .bytes = "810548656c6c6f",
     .said = "message Hello",
     .is_client = true},
    {.name = "RFC 6455 5.7: two unmasked fragments",
     .bytes = "010348656c 80026c6f",
     .said = "message Hello",
     .is_client = true},
    {.name = "RFC 6455 5.7: ping",
     .bytes = "890548656c6c6f",
     .said = "ping Hello",
     .is_client = true},
    {.name = "RFC 6455 5.7: masked pong", .bytes = "8a8537fa213d7f9f4d5158", .said = "pong Hello"},
    {.name = "RFC 6455 5.7: 256 bytes",
     .bytes = "827e0100 'x'*256",
     .said = "message 256 times x",
     .is_client = true},
    {.name = "RFC 6455 5.7: 64 KiB",
     .bytes = "827f0000000000010000 'x'*65536",
     .said = "message 65536 times x",
     .is_client = true},
    {.name = "nothing", .bytes = "", .said = ""},
    {.name = "an empty message", .bytes = "8180 01020304", .said = "message"},
    {.name = "binary is like text", .bytes = "8283 00000000 'abc'", .said = "message abc"},
    {.name = "two messages in one piece",
     .bytes = "8183 00000000 'abc' 8283 00000000 'def'",
     .said = "message abc; message def"},
    {.name = "three fragments, one empty",
     .bytes = "0182 00000000 'ab' 0080 00000000 8081 00000000 'c'",
     .said = "message abc"},
    {.name = "each fragment has its own mask",
     .bytes = "0183 01010101 '``b' 8084 20202020 'ABCD'",
     .said = "message aacabcd"},
    {.name = "a ping between fragments",
     .bytes = "0182 00000000 'ab' 8983 00000000 '123' 8082 00000000 'cd' 8180 00000000",
     .said = "ping 123; message abcd; message"},
    {.name = "all control frames between fragments",
     .bytes = "0182 00000000 'ab' 8983 00000000 '123' 8a80 00000000 89fd 00000000 'p'*125"
              " 8082 00000000 'cd'",
     .said = "ping 123; pong; ping 125 times p; message abcd"},
    {.name = "an empty ping and pong",
     .bytes = "8980 00000000 8a80 00000000",
     .said = "ping; pong"},
    {.name = "CRLF CRLF is a message",
     .bytes = "8184 00000000 0d0a0d0a",
     .said = "message \\x0d\\x0a\\x0d\\x0a"},
    {.name = "126 bytes: two bytes of length",
     .bytes = "81fe 007e 00000000 'a'*126",
     .said = "message 126 times a"},
    {.name = "65535 bytes: still two",
     .bytes = "81fe ffff 00000000 'a'*65535",
     .said = "message 65535 times a"},
    {.name = "65536 bytes: eight",
     .bytes = "81ff 0000000000010000 00000000 'a'*65536",
     .said = "message 65536 times a"},

    {.name = "close without a code", .bytes = "8880 00000000", .said = "close 1005"},
    {.name = "close 1000", .bytes = "8882 00000000 03e8", .said = "close 1000"},
    {.name = "close with a reason", .bytes = "8885 00000000 03e9 'bye'", .said = "close 1001 bye"},
    {.name = "close 4999", .bytes = "8882 00000000 1387", .said = "close 4999"},
    {.name = "close 1014", .bytes = "8882 00000000 03f6", .said = "close 1014"},
    {.name = "nothing counts behind a close",
     .bytes = "8880 00000000 8183 00000000 'abc' ff ff ff",
     .said = "close 1005"},
    {.name = "a close ends an unfinished message",
     .bytes = "0182 00000000 'ab' 8880 00000000 ff",
     .said = "close 1005"},
    {.name = "close with half a code", .bytes = "8881 00000000 03", .said = "error 1002"},
    {.name = "close 999", .bytes = "8882 00000000 03e7", .said = "error 1002"},
    {.name = "close 1004", .bytes = "8882 00000000 03ec", .said = "error 1002"},
    {.name = "close 1005 is never sent", .bytes = "8882 00000000 03ed", .said = "error 1002"},
    {.name = "close 1006 is never sent", .bytes = "8882 00000000 03ee", .said = "error 1002"},
    {.name = "close 1015 is never sent", .bytes = "8882 00000000 03f7", .said = "error 1002"},
    {.name = "close 2999", .bytes = "8882 00000000 0bb7", .said = "error 1002"},
    {.name = "close 5000", .bytes = "8882 00000000 1388", .said = "error 1002"},

    {.name = "a client that does not mask", .bytes = "8103 'abc'", .said = "error 1002"},
    {.name = "a ping that is not masked", .bytes = "8900", .said = "error 1002"},
    {.name = "a server that masks",
     .bytes = "8183 00000000 'abc'",
     .said = "error 1002",
     .is_client = true},
    {.name = "RSV1", .bytes = "c183 00000000 'abc'", .said = "error 1002"},
    {.name = "RSV2", .bytes = "a183 00000000 'abc'", .said = "error 1002"},
    {.name = "RSV3", .bytes = "9183 00000000 'abc'", .said = "error 1002"},
    {.name = "RSV1 of a ping", .bytes = "c980 00000000", .said = "error 1002"},
    {.name = "opcode 3", .bytes = "8383 00000000 'abc'", .said = "error 1002"},
    {.name = "opcode 7", .bytes = "8783 00000000 'abc'", .said = "error 1002"},
    {.name = "opcode 11", .bytes = "8b80 00000000", .said = "error 1002"},
    {.name = "opcode 15", .bytes = "8f80 00000000", .said = "error 1002"},
    {.name = "a ping in fragments", .bytes = "0983 00000000 'abc'", .said = "error 1002"},
    {.name = "a close in fragments", .bytes = "0880 00000000", .said = "error 1002"},
    {.name = "a ping of 126 bytes", .bytes = "89fe 007e 00000000 'a'*126", .said = "error 1002"},
    {.name = "a ping with eight bytes of length",
     .bytes = "89ff 0000000000000001 00000000 'a'",
     .said = "error 1002"},
    {.name = "a continuation of nothing", .bytes = "8083 00000000 'abc'", .said = "error 1002"},
    {.name = "a continuation of a whole message",
     .bytes = "8181 00000000 'a' 8081 00000000 'b'",
     .said = "message a; error 1002"},
    {.name = "a message inside of a message",
     .bytes = "0181 00000000 'a' 8181 00000000 'b'",
     .said = "error 1002"},
    {.name = "two bytes of length for 125",
     .bytes = "81fe 007d 00000000 'a'*125",
     .said = "error 1002"},
    {.name = "two bytes of length for 0", .bytes = "81fe 0000 00000000", .said = "error 1002"},
    {.name = "eight bytes of length for 65535",
     .bytes = "81ff 000000000000ffff 00000000 'a'*65535",
     .said = "error 1002"},
    {.name = "a length with its highest bit",
     .bytes = "81ff 8000000000000000 00000000",
     .said = "error 1002"},
    {.name = "the first fault counts", .bytes = "8103 'a' ff", .said = "error 1002"},

    {.name = "exactly the maximum",
     .bytes = "8183 00000000 'abc'",
     .said = "message abc",
     .max = 3},
    {.name = "one more", .bytes = "8184 00000000", .said = "error 1009", .max = 3},
    {.name = "no mask is waited for", .bytes = "8184", .said = "error 1009", .max = 3},
    {.name = "the maximum in fragments",
     .bytes = "0182 00000000 'ab' 8081 00000000 'c'",
     .said = "message abc",
     .max = 3},
    {.name = "one more in fragments",
     .bytes = "0182 00000000 'ab' 8082 00000000 'cd'",
     .said = "error 1009",
     .max = 3},
    {.name = "the maximum is of each message",
     .bytes = "8183 00000000 'abc' 8183 00000000 'def'",
     .said = "message abc; message def",
     .max = 3},
    {.name = "a control frame does not count",
     .bytes = "8185 00000000 'abcde' 8985 00000000 '12345'",
     .said = "error 1009",
     .max = 3},
    {.name = "a ping may be longer than messages",
     .bytes = "8985 00000000 '12345'",
     .said = "ping 12345",
     .max = 3},
    {.name = "2^32 + 3 bytes",
     .bytes = "81ff 0000000100000003 00000000 'abc'",
     .said = "error 1009"},
    {.name = "2^63 - 1 bytes",
     .bytes = "81ff 7fffffffffffffff 00000000 'abc'",
     .said = "error 1009"},
    {.name = "fragments that sum up to 2^63",
     .bytes = "0181 00000000 'a' 80ff 7fffffffffffffff",
     .said = "error 1009"},

    {.name = "half a head", .bytes = "81", .said = "", .is_open = true},
    {.name = "a head without its mask", .bytes = "8183 000000", .said = "", .is_open = true},
    {.name = "half a payload", .bytes = "8184 00000000 'ab'", .said = "", .is_open = true},
    {.name = "a fragment", .bytes = "0182 00000000 'ab'", .said = "", .is_open = true},
    {.name = "an empty fragment", .bytes = "0180 00000000", .said = "", .is_open = true},
    {.name = "half a ping", .bytes = "8984 00000000 'ab'", .said = "", .is_open = true},
    {.name = "half a ping in a message",
     .bytes = "0182 00000000 'ab' 89fd 00000000 'p'*124",
     .said = "",
     .is_open = true},
    {.name = "TLS on the port", .bytes = "160301 0200 0100", .said = "error 1002"},
    {.name = "SIP without frames",
     .bytes = "'REGISTER sip:example.com SIP/2.0' 0d0a",
     .said = "error 1002"},
};

static void check_cut(const struct row *row, const struct bytes *b, size_t first, size_t piece,
                      const char *want)
{
    static struct said said;
    size_t left;
    feed(&said, b, first, piece, row->is_client, row->max > 0 ? row->max : BYTES_MAX, &left);
    if (strcmp(said.p, want) != 0 || (left > 0) != row->is_open)
        fail_msg("%s (cut at %zu, then %zu): '%s', wanted '%s'; %zu left", row->name, first, piece,
                 said.p, want, left);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct bytes b;
        spell(&b, rows[i].bytes);
        check_cut(&rows[i], &b, b.n, b.n, rows[i].said);
        check_cut(&rows[i], &b, 1, b.n > 300 ? 97 : 1, rows[i].said);
        for (size_t cut = 1; cut < b.n; cut += cut < 300 ? 1 : 4999)
            check_cut(&rows[i], &b, cut, b.n, rows[i].said);
    }
}

/* Appends a frame with a random mask and payload: one that may stand here, mostly. */
static void frame_add(struct bytes *b, struct prng *rng, bool *in_message)
{
    static const uint8_t controls[] = {0x89, 0x8a, 0x88};
    uint64_t dice = prng_u64(rng);
    size_t payload = dice % 5 == 0 ? dice >> 8 & 255 : dice >> 8 & 15;
    bool is_control = (dice >> 16) % 4 == 0, is_last = (dice >> 20) % 2 == 0;
    uint8_t first = (uint8_t)((is_last ? 0x80 : 0) | (*in_message ? 0 : 1 + (dice >> 24) % 2));
    if (is_control) {
        first = controls[(dice >> 28) % 40 == 0 ? 2 : dice >> 28 & 1];
        payload %= WS_CONTROL_BYTES_MAX + 1;
    } else {
        *in_message = !is_last;
    }
    uint8_t head[WS_HEAD_BYTES_MAX], mask[4];
    memcpy(mask, &(uint32_t){(uint32_t)prng_u64(rng)}, 4);
    size_t n = ws_put_head_masked(head, WS_OP_TEXT, payload, mask);
    head[0] = first;
    if ((dice >> 40) % 40 == 0)
        head[dice >> 50 & 1] ^= (uint8_t)(1 << (dice >> 52) % 8);
    memcpy(b->p + b->n, head, n);
    for (size_t i = 0; i < payload; i++)
        b->p[b->n + n + i] = (char)prng_u64(rng);
    b->n += n + payload;
}

/* Any frames, valid ones and broken ones: the cuts never matter. */
static void test_cuts_do_not_matter(void **state)
{
    (void)state;
    struct prng rng = test_seed();
    for (int round = 0; round < 2000; round++) {
        static struct bytes b;
        static struct said whole, cut;
        bool in_message = false;
        for (b.n = 0; b.n < 600;)
            frame_add(&b, &rng, &in_message);
        size_t left, left_cut;
        feed(&whole, &b, b.n, b.n, false, 400, &left);
        feed(&cut, &b, 1 + prng_u64(&rng) % b.n, 1 + prng_u64(&rng) % 40, false, 400, &left_cut);
        assert_string_equal(cut.p, whole.p);
        assert_int_equal(left, left_cut);
    }
}

static void test_too_many_fragments(void **state)
{
    (void)state;
    static struct bytes b;
    static struct said said;
    size_t left;
    for (int last = 0; last < 2; last++) {
        b.n = 0;
        for (unsigned i = 0; i < WS_FRAMES_MAX + (last ? 0u : 1u); i++) {
            char frame[7] = {(char)(i == 0 ? 0x01 : 0x00), (char)0x81, 0, 0, 0, 0, 'a'};
            if (last && i == WS_FRAMES_MAX - 1)
                frame[0] = (char)0x80;
            memcpy(b.p + b.n, frame, sizeof frame);
            b.n += sizeof frame;
        }
        feed(&said, &b, b.n, b.n, false, BYTES_MAX, &left);
        assert_string_equal(said.p, last ? "message 256 times a" : "error 1008");
    }
}

/* The smallest frames, with as many behind them: none of them moves the others. */
static void test_many_small_messages_are_cheap(void **state)
{
    (void)state;
    static char p[STREAM_MAX];
    size_t n = sizeof p / 6 * 6, count = 0;
    for (size_t i = 0; i < n; i += 6)
        memcpy(p + i, "\x81\x80\1\2\3\4", 6);
    struct ws_reader r;
    ws_reader_init(&r, false);
    struct slice payload;
    int result;
    while ((result = ws_read(&r, p, &n, BYTES_MAX, &payload)) == WS_MESSAGE) {
        assert_int_equal(payload.n, 0);
        count++;
    }
    assert_int_equal(result, WS_MORE);
    assert_int_equal(count, sizeof p / 6);
    assert_true(ws_is_idle(&r, n));
}

static void test_a_smaller_maximum_counts_at_once(void **state)
{
    (void)state;
    char p[] = "\x01\x83\0\0\0\0abc\x80\x80\0\0\0\0";
    struct ws_reader r = {0};
    struct slice payload;
    size_t n = 9;
    assert_int_equal(ws_read(&r, p, &n, 3, &payload), WS_MORE);
    memcpy(p + n, "\x80\x80\0\0\0\0", 6);
    n += 6;
    assert_int_equal(ws_read(&r, p, &n, 2, &payload), -WS_CODE_TOO_BIG);
    assert_int_equal(ws_read(&r, p, &n, 2, &payload), WS_MORE);
    assert_int_equal(n, 0);
}

static void test_mask(void **state)
{
    (void)state;
    static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
    char plain[64], out[96];
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (char)(i * 37);
    for (size_t n = 0; n <= sizeof plain; n++) {
        for (size_t gap = 0; gap < 18; gap++) {
            memset(out, 0x55, sizeof out);
            memcpy(out + gap, plain, n);
            ws_mask(out, out + gap, n, mask);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(out[i], (char)(plain[i] ^ mask[i % 4]));
            assert_int_equal(out[n + gap], 0x55);
        }
    }
}

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        uint64_t payload;
        enum ws_opcode op;
        size_t n;
        const char *bytes;
    } heads[] = {
        {0, WS_OP_PONG, 2, "\x8a\x00"},
        {5, WS_OP_TEXT, 2, "\x81\x05"},
        {125, WS_OP_PING, 2, "\x89\x7d"},
        {126, WS_OP_BINARY, 4, "\x82\x7e\x00\x7e"},
        {65535, WS_OP_TEXT, 4, "\x81\x7e\xff\xff"},
        {65536, WS_OP_TEXT, 10, "\x81\x7f\0\0\0\0\0\1\0\0"},
        {(uint64_t)1 << 62, WS_OP_TEXT, 10, "\x81\x7f\x40\0\0\0\0\0\0\0"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        uint8_t head[WS_HEAD_BYTES_MAX], mask[4] = {9, 8, 7, 6};
        assert_int_equal(ws_put_head(head, heads[i].op, heads[i].payload), heads[i].n);
        assert_memory_equal(head, heads[i].bytes, heads[i].n);
        assert_int_equal(ws_put_head_masked(head, heads[i].op, heads[i].payload, mask),
                         heads[i].n + 4);
        assert_int_equal(head[1], (uint8_t)heads[i].bytes[1] | 0x80);
        assert_memory_equal(head + 2, heads[i].bytes + 2, heads[i].n - 2);
        assert_memory_equal(head + heads[i].n, mask, 4);
    }
    uint8_t frame[4];
    assert_int_equal(ws_put_close(frame, WS_CODE_TOO_BIG), 4);
    assert_memory_equal(frame, "\x88\x02\x03\xf1", 4);
    assert_int_equal(ws_put_close(frame, WS_CODE_NONE), 2);
    assert_memory_equal(frame, "\x88\x00", 2);
}

/* A connection carries one of these for hours. */
static void test_state_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct ws_reader) <= 20);
    struct ws_reader zero = {0}, made;
    ws_reader_init(&made, false);
    assert_memory_equal(&made, &zero, sizeof zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_cuts_do_not_matter),
        cmocka_unit_test(test_too_many_fragments),
        cmocka_unit_test(test_many_small_messages_are_cheap),
        cmocka_unit_test(test_a_smaller_maximum_counts_at_once),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_state_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
