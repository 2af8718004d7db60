/* SPDX-License-Identifier: Apache-2.0
 *
 * WebSocket frames (RFC 6455 5). The buffer is drawn in ws.h.
 *
 *       0 1 2 3 4 5 6 7   8 9 ...      then                  then
 *      ┌─┬─────┬───────┐ ┌─┬─────────┐ ┌───────────────────┐ ┌──────────────┐ ┌─────────┐
 *      │F│ RSV │ opcode│ │M│ len, or │ │ 126: 2 byte len   │ │ M: 4 byte    │ │ payload │
 *      │ │ = 0 │       │ │ │126, 127 │ │ 127: 8 byte len   │ │ mask         │ │         │
 *      └─┴─────┴───────┘ └─┴─────────┘ └───────────────────┘ └──────────────┘ └─────────┘
 *
 * A head is judged byte by byte in this order, so that the verdict does not depend on how much of
 * it has come. Payload of data frames is taken as it comes; a control frame is taken whole. */
#include "wire/ws.h"

/* ws_reader.state, as bits. */
enum { IN_PAYLOAD = 1, IS_LAST = 2, IS_OVER = 4 };

enum { FIN = 0x80, RSV = 0x70, OPCODE = 0x0f, IS_CONTROL = 0x08, MASKED = 0x80, LENGTH = 0x7f };

struct head {
    uint64_t payload;
    uint8_t mask[4]; /* zero when the frame is not masked */
    uint8_t bytes;   /* of the head itself */
    uint8_t op;
    bool is_last;
};

void ws_reader_init(struct ws_reader *r, bool is_client)
{
    *r = (struct ws_reader){.is_client = is_client};
}

void ws_mask(char *dst, const char *src, size_t n, const uint8_t mask[4])
{
    uint64_t wide, word;
    memcpy(&wide, mask, 4);
    memcpy((char *)&wide + 4, mask, 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, src + i, 8);
        word ^= wide;
        memcpy(dst + i, &word, 8);
    }
    for (; i < n; i++)
        dst[i] = (char)((uint8_t)src[i] ^ mask[i & 3]);
}

/* Turns the mask so that mask[0] is for the byte that comes `n` bytes later. */
static void mask_turn(uint8_t mask[4], size_t n)
{
    uint8_t was[4];
    memcpy(was, mask, 4);
    for (size_t i = 0; i < 4; i++)
        mask[i] = was[(i + n) & 3];
}

/* May a frame begin like this now? 0, or a negative code. */
static int first_byte_check(const struct ws_reader *r, uint8_t b)
{
    unsigned op = b & OPCODE;
    if ((b & RSV) != 0)
        return -WS_CODE_PROTOCOL; /* only for extensions, and none was agreed to (5.2) */
    if (op > WS_OP_PONG || (op > WS_OP_BINARY && op < WS_OP_CLOSE))
        return -WS_CODE_PROTOCOL;
    if ((op & IS_CONTROL) != 0)
        return (b & FIN) != 0 ? 0 : -WS_CODE_PROTOCOL; /* never fragmented (5.5) */
    if ((op == WS_OP_CONTINUATION) != (r->frames > 0))
        return -WS_CODE_PROTOCOL; /* fragments of two messages do not mix (5.4) */
    return r->frames < WS_FRAMES_MAX ? 0 : -WS_CODE_POLICY;
}

/* Reads the length behind the first two bytes, which must be in its shortest form (5.2). Returns
 * how many bytes it had, -1 when they are not all there, or a negative code. */
static int length_read(const char *p, size_t n, uint8_t length, uint64_t *ret_payload)
{
    const uint8_t *at = (const uint8_t *)p;
    if (length < 126) {
        *ret_payload = length;
        return 0;
    }
    int bytes = length == 126 ? 2 : 8;
    if (n < (size_t)bytes)
        return -1;
    uint64_t v = bytes_get_be(&at, bytes);
    if (v < (bytes == 2 ? 126u : 65536u) || v >> 63 != 0)
        return -WS_CODE_PROTOCOL;
    *ret_payload = v;
    return bytes;
}

/* Reads a head from the `n` bytes at `p`: 1, 0 when not all of it is there, or a negative code. */
static int head_read(const struct ws_reader *r, const char *p, size_t n, uint32_t max_bytes,
                     struct head *ret_head)
{
    if (n < 1)
        return 0;
    uint8_t first = (uint8_t)p[0];
    int error = first_byte_check(r, first);
    if (error != 0)
        return error;
    if (n < 2)
        return 0;
    uint8_t second = (uint8_t)p[1], length = second & LENGTH;
    bool is_masked = (second & MASKED) != 0, is_control = (first & IS_CONTROL) != 0;
    if (is_masked == r->is_client)
        return -WS_CODE_PROTOCOL; /* 5.1: clients always mask, servers never */
    if (is_control && length > WS_CONTROL_BYTES_MAX)
        return -WS_CODE_PROTOCOL;

    struct head h = {.op = first & OPCODE, .is_last = (first & FIN) != 0};
    int more = length_read(p + 2, n - 2, length, &h.payload);
    if (more < 0)
        return more == -1 ? 0 : more;
    if (!is_control && (r->kept > max_bytes || h.payload > max_bytes - r->kept))
        return -WS_CODE_TOO_BIG;
    h.bytes = (uint8_t)(2 + more + (is_masked ? 4 : 0));
    if (n < h.bytes)
        return 0;
    if (is_masked)
        memcpy(h.mask, p + 2 + more, 4);
    *ret_head = h;
    return 1;
}

/* Waits for more: what is not looked at moves up to the message so far. */
static int more(struct ws_reader *r, char *p, size_t *n)
{
    size_t rest = *n - r->raw;
    if (r->raw > r->kept && rest > 0)
        memmove(p + r->kept, p + r->raw, rest);
    r->raw = r->kept;
    *n = r->kept + rest;
    return WS_MORE;
}

static int end(struct ws_reader *r, int result)
{
    r->state = IS_OVER;
    r->frames = 0;
    return result;
}

/* Takes what there is of a data frame's payload. True when that was all of the frame. */
static bool payload_take(struct ws_reader *r, char *p, size_t n)
{
    size_t have = n - r->raw;
    uint32_t take = have < r->left ? (uint32_t)have : r->left;
    if (!r->is_client)
        ws_mask(p + r->kept, p + r->raw, take, r->mask);
    else if (r->raw > r->kept)
        memmove(p + r->kept, p + r->raw, take);
    mask_turn(r->mask, take);
    r->kept += take;
    r->raw += take;
    r->left -= take;
    return r->left == 0;
}

/* RFC 6455 7.4.1, 7.4.2: codes that may stand in a frame. */
static bool close_is_sound(struct slice payload)
{
    if (payload.n < 2)
        return payload.n == 0;
    uint16_t code = ws_close_code(payload);
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* Hands out a control frame that is whole. Its bytes stay where they are, behind the message. */
static int control_take(struct ws_reader *r, char *p, const struct head *h,
                        struct slice *ret_payload)
{
    char *at = p + r->raw + h->bytes;
    size_t n = (size_t)h->payload;
    ws_mask(at, at, n, h->mask);
    r->raw += (uint32_t)(h->bytes + n);
    struct slice payload = slice_of(at, n);
    if (h->op == WS_OP_CLOSE && !close_is_sound(payload))
        return end(r, -WS_CODE_PROTOCOL);
    *ret_payload = payload;
    if (h->op == WS_OP_CLOSE)
        return end(r, WS_CLOSE);
    return h->op == WS_OP_PING ? WS_PING : WS_PONG;
}

static int message_take(struct ws_reader *r, const char *p, struct slice *ret_payload)
{
    *ret_payload = slice_of(p, r->kept);
    r->kept = 0;
    r->frames = 0;
    return WS_MESSAGE;
}

int ws_read(struct ws_reader *r, char *p, size_t *n, uint32_t max_bytes, struct slice *ret_payload)
{
    MUST(*n <= UINT32_MAX && r->raw <= *n && r->kept <= r->raw);
    for (;;) {
        if ((r->state & IS_OVER) != 0) {
            r->kept = r->raw = 0;
            *n = 0;
            return WS_MORE;
        }
        if ((r->state & IN_PAYLOAD) != 0) {
            if (!payload_take(r, p, *n))
                return more(r, p, n);
            bool is_last = (r->state & IS_LAST) != 0;
            r->state = 0;
            if (is_last)
                return message_take(r, p, ret_payload);
        }
        struct head h = {0};
        size_t have = *n - r->raw;
        int got = head_read(r, p + r->raw, have, max_bytes, &h);
        if (got < 0)
            return end(r, got);
        if (got == 0)
            return more(r, p, n);
        if ((h.op & IS_CONTROL) != 0)
            return have < h.bytes + h.payload ? more(r, p, n) : control_take(r, p, &h, ret_payload);
        r->raw += h.bytes;
        r->left = (uint32_t)h.payload;
        memcpy(r->mask, h.mask, 4);
        r->frames++;
        r->state = (uint8_t)(IN_PAYLOAD | (h.is_last ? IS_LAST : 0));
    }
}

uint16_t ws_close_code(struct slice payload)
{
    if (payload.n < 2)
        return WS_CODE_NONE;
    const uint8_t *at = (const uint8_t *)payload.p;
    return (uint16_t)bytes_get_be(&at, 2);
}

size_t ws_put_head(uint8_t head[WS_HEAD_BYTES_MAX], enum ws_opcode op, uint64_t payload)
{
    head[0] = (uint8_t)(FIN | (unsigned)op);
    if (payload < 126) {
        head[1] = (uint8_t)payload;
        return 2;
    }
    int bytes = payload < 65536 ? 2 : 8;
    head[1] = bytes == 2 ? 126 : 127;
    return (size_t)(bytes_put_be(head + 2, payload, bytes) - head);
}

size_t ws_put_head_masked(uint8_t head[WS_HEAD_BYTES_MAX], enum ws_opcode op, uint64_t payload,
                          const uint8_t mask[4])
{
    size_t n = ws_put_head(head, op, payload);
    head[1] |= MASKED;
    memcpy(head + n, mask, 4);
    return n + 4;
}

size_t ws_put_close(uint8_t frame[4], uint16_t code)
{
    frame[0] = FIN | WS_OP_CLOSE;
    frame[1] = code == WS_CODE_NONE ? 0 : 2;
    if (code == WS_CODE_NONE)
        return 2;
    (void)bytes_put_be(frame + 2, code, 2);
    return 4;
}
