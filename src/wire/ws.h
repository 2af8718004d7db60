/* SPDX-License-Identifier: Apache-2.0
 *
 * WebSocket (RFC 6455) as SIP uses it (RFC 7118): the opening handshake of a server, and frames
 * both ways. Text and binary messages are alike; no extension is ever agreed to.
 *
 * A reader works inside the buffer that the bytes were received into. It takes frame heads out and
 * masks off, and puts the payloads of a message's fragments side by side, so that a whole message
 * is one piece at the front. `kept` and `raw` are offsets into that buffer:
 *
 *      p            kept      raw                        n
 *      ┌────────────┬─────────┬──────────────────────────┬──────────────┐
 *      │ message so │ heads   │ bytes as they came:      │ free         │
 *      │ far, plain │ removed │ not looked at yet        │              │
 *      └────────────┴─────────┴──────────────────────────┴──────────────┘
 *
 * Each byte is moved once, with its unmasking, so many small frames cost no more than one large.
 * How the bytes are cut into reads never changes what comes out. */
#ifndef WEIR_WIRE_WS_H
#define WEIR_WIRE_WS_H

#include "base/base.h"

/* ---- opening handshake ------------------------------------------------------------------- */

enum {
    WS_UPGRADE_BYTES_MAX = 8192, /* of the whole request: a browser's cookies are in it */
    WS_UPGRADE_LINES_MAX = 100,
    WS_ANSWER_BYTES_MAX = 512, /* any answer of ws_upgrade() fits */
};

/* Only browsers send Origin, and they always do: with a list, a request without one is no browser's
 * and is refused as well. Other programs get a listener of their own, without a list. */
struct ws_policy {
    const struct slice *origins; /* "scheme://host[:port]", lower case */
    uint16_t origin_count;       /* 0 = any Origin, or none */
};

enum ws_upgrade {
    WS_UPGRADE_MORE = 0, /* call again from the same start with more bytes */
    WS_UPGRADE_OPEN,     /* send `answer`; frames begin at p + *ret_used */
    WS_UPGRADE_REFUSED,  /* send `answer`, then close; what else the peer sent is not read */
};

/* Reads a client's opening handshake (RFC 6455 4.2.1) that begins at `p`. With OPEN and REFUSED the
 * whole HTTP answer is put into `answer` (give it WS_ANSWER_BYTES_MAX bytes): 101; 400 what is no
 * such request; 403 Origin; 405 another HTTP method; 426 no upgrade to version 13 asked for; 431
 * too large; 505 HTTP version. What is plainly no HTTP GET (SIP, TLS, other methods) is refused at
 * its first wrong byte, and a wrong line as soon as it ended, not when a head ends that may
 * never end. `ret_used` is the size of the request, and only set with OPEN. Returns an
 * enum ws_upgrade. */
MUST_USE int ws_upgrade(const char *p, size_t n, const struct ws_policy *policy,
                        struct text *answer, size_t *ret_used);

/* ---- frames: reading --------------------------------------------------------------------- */

enum ws_opcode {
    WS_OP_CONTINUATION = 0,
    WS_OP_TEXT = 1,
    WS_OP_BINARY = 2,
    WS_OP_CLOSE = 8,
    WS_OP_PING = 9,
    WS_OP_PONG = 10,
};

/* RFC 6455 7.4.1. */
enum ws_code {
    WS_CODE_NORMAL = 1000,
    WS_CODE_GOING_AWAY = 1001,
    WS_CODE_PROTOCOL = 1002,
    WS_CODE_NONE = 1005, /* never sent: a close frame without a code */
    WS_CODE_POLICY = 1008,
    WS_CODE_TOO_BIG = 1009,
};

enum {
    WS_HEAD_BYTES_MAX = 14,
    WS_CONTROL_BYTES_MAX = 125, /* payload of ping, pong, close (RFC 6455 5.5) */
    WS_FRAMES_MAX = 256,        /* of one message; more is WS_CODE_POLICY */
    /* What a reader may leave unread behind the message so far: a control frame but for one byte.
     */
    WS_REST_BYTES_MAX = 6 + WS_CONTROL_BYTES_MAX - 1,
};

/* One for each connection and direction. All zero is a server's reader at its beginning, and what
 * ws_reader_init() makes. */
struct ws_reader {
    uint32_t kept;   /* p[0, kept): payload of an unfinished message */
    uint32_t raw;    /* p[raw, n): bytes not looked at; equal to `kept` after WS_MORE */
    uint32_t left;   /* payload of the current data frame that is still to come */
    uint8_t mask[4]; /* of that frame, turned so that mask[0] is for the next byte */
    uint16_t frames; /* data frames of this message so far */
    uint8_t state;   /* private */
    bool is_client;  /* the peer is a server: its frames must not be masked */
};

enum ws_result {
    WS_MORE = 0,
    WS_MESSAGE, /* ret_payload: a whole text or binary message, at the front of the buffer */
    WS_PING,    /* ret_payload: to be sent back in a pong */
    WS_PONG,    /* ret_payload: as we sent it in a ping, or anything */
    WS_CLOSE,   /* ret_payload: empty, or code and reason: ws_close_code(); answer it and end */
};

/* Begins. `is_client` tells which end we are; clients only exist in tests and tools. */
void ws_reader_init(struct ws_reader *r, bool is_client);

/* Reads from the buffer p[0, *n), which it changes. Call it until WS_MORE, with the same `p` and
 * `n`; then append new bytes at p + *n and call it again. Between calls the buffer may move, as a
 * whole.
 *
 *   WS_MORE      *n has become smaller: p[0, r->kept) is the message so far, and at most
 *                WS_REST_BYTES_MAX unread bytes follow right behind it. *n is 0 between messages,
 *                mostly: the buffer may be given back then.
 *   WS_MESSAGE   ret_payload is the message; valid until the next call, which drops it.
 *   WS_PING ...  ret_payload lies somewhere behind the message so far; valid until the next call.
 *   negative     the peer broke the protocol: minus the code to send in a close frame
 *                (enum ws_code) before ending.
 *
 * A message may have `max_bytes` in all its frames together: the first head that says more is
 * WS_CODE_TOO_BIG, whatever came of its payload. The buffer never needs more than
 * `max_bytes` + WS_HEAD_BYTES_MAX + WS_REST_BYTES_MAX. After WS_CLOSE or an error all bytes are
 * dropped, and the result stays WS_MORE. */
MUST_USE int ws_read(struct ws_reader *r, char *p, size_t *n, uint32_t max_bytes,
                     struct slice *ret_payload);

/* Whether nothing of a frame or message is outstanding: only then a peer may end politely, and no
 * deadline for the rest of a message runs. `n` is what ws_read() left. */
static inline bool ws_is_idle(const struct ws_reader *r, size_t n)
{
    return n == 0 && r->frames == 0;
}

/* The code in the payload of a close frame that ws_read() let through; WS_CODE_NONE when empty. */
uint16_t ws_close_code(struct slice payload);

/* ---- frames: writing --------------------------------------------------------------------- */

/* Writes the head of a server's frame, whole and unmasked, before `payload` bytes. Returns the
 * size of the head, 2 to 10. */
size_t ws_put_head(uint8_t head[WS_HEAD_BYTES_MAX], enum ws_opcode op, uint64_t payload);

/* Writes a server's whole close frame. WS_CODE_NONE makes one without a code. Returns its size,
 * 2 or 4. */
size_t ws_put_close(uint8_t frame[4], uint16_t code);

/* The same as ws_put_head() for a client: masked. The payload is then to be sent through
 * ws_mask(). Returns 6 to 14. */
size_t ws_put_head_masked(uint8_t head[WS_HEAD_BYTES_MAX], enum ws_opcode op, uint64_t payload,
                          const uint8_t mask[4]);

/* Masks or unmasks `n` bytes from `src` to `dst`, which may be the same place or overlap it when
 * `dst` is lower. mask[0] is for src[0]. */
void ws_mask(char *dst, const char *src, size_t n, const uint8_t mask[4]);

#endif
