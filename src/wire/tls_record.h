/* SPDX-License-Identifier: Apache-2.0
 *
 * The TLS record layer after the handshake, TLS 1.3 (RFC 8446 5) and TLS 1.2 with AEAD suites
 * (RFC 5246 6.2, RFC 5288, RFC 7905). A flow is plain data: it can be copied, written down and read
 * back. Ciphers live in a codec, one for each thread, which every flow borrows for a record.
 *
 *      struct tls_flow (a connection)               struct tls_codec (a thread)
 *      ┌───────────────────────────────┐            ┌──────────────────────────┐
 *      │ open: seq key iv secret       │  a record  │ 3 ciphers × open, seal,  │
 *      │ seal: seq key iv secret       │ ─────────▶ │ each with the key that   │
 *      │ suite, version, what is owed  │            │ it was last given        │
 *      └───────────────────────────────┘            └──────────────────────────┘
 *
 * The handshake is not here: it belongs to net/tls.h, which fills a flow when it is done. */
#ifndef WEIR_WIRE_TLS_RECORD_H
#define WEIR_WIRE_TLS_RECORD_H

#include <sys/uio.h>
#include "base/base.h"

enum {
    TLS_HEAD_BYTES = 5,
    TLS_PLAIN_BYTES_MAX = 16384,                   /* of a record: RFC 8446 5.1 */
    TLS_RECORD_BYTES_MAX = 5 + 16384 + 256,        /* RFC 8446 5.2; TLS 1.2's are smaller */
    TLS_EXTRA_BYTES_MAX = 5 + 8 + 16,              /* what sealing adds to a record */
    TLS_IDLE_RECORDS_MAX = 32,                     /* in a row without a byte of data */
    TLS_ALERT_BYTES_MAX = TLS_EXTRA_BYTES_MAX + 2, /* what tls_alert() writes */
    /* A KeyUpdate that tls_seal() may have to put first. */
    TLS_UPDATE_BYTES_MAX = TLS_EXTRA_BYTES_MAX + 5,
};

enum tls_suite {
    TLS_AES_128_GCM_SHA256 = 0,
    TLS_AES_256_GCM_SHA384,
    TLS_CHACHA20_POLY1305_SHA256,
    TLS_SUITES,
};

/* RFC 8446 6: the ones that we send, and what the API below returns negated. */
enum tls_alert {
    TLS_A_CLOSE_NOTIFY = 0,
    TLS_A_UNEXPECTED_MESSAGE = 10,
    TLS_A_BAD_RECORD_MAC = 20,
    TLS_A_RECORD_OVERFLOW = 22,
    TLS_A_ILLEGAL_PARAMETER = 47,
    TLS_A_DECODE_ERROR = 50,
    TLS_A_PROTOCOL_VERSION = 70,
    TLS_A_INTERNAL_ERROR = 80,
    TLS_A_USER_CANCELED = 90,
    TLS_A_NO_RENEGOTIATION = 100,
};

/* One direction. */
struct tls_keys {
    uint64_t seq;       /* of the next record */
    uint8_t key[32];    /* 16 of them for AES-128 */
    uint8_t iv[12];     /* TLS 1.2 GCM: 4 of salt, then what seq is added to for explicit nonces */
    uint8_t secret[48]; /* TLS 1.3: the traffic secret, for the next keys (RFC 8446 7.2) */
};

/* A connection behind its handshake. No pointers; 224 bytes. */
struct tls_flow {
    struct tls_keys open; /* from the peer */
    struct tls_keys seal; /* to the peer */
    uint64_t sealed;      /* bytes under the present seal key, with what sealing added */
    uint16_t record_max;  /* plain bytes of a record that we send (RFC 6066 4) */
    uint8_t suite;        /* enum tls_suite */
    uint8_t minor;        /* 3 = TLS 1.2, 4 = TLS 1.3 */
    uint8_t idle;         /* records in a row that brought no data */
    bool is_client;
    bool owes_update; /* the peer asked for new keys: sent before the next data */
    bool is_over;     /* closed, or failed: nothing more is opened */
};

/* The ciphers of one thread. net's tls_codec_init() makes it, tls_codec_done() wipes it. */
struct tls_codec {
    struct evp_cipher_ctx_st *cipher[TLS_SUITES][2]; /* opening, sealing */
    uint8_t key[TLS_SUITES][2][32];                  /* that each has now */
    bool has_key[TLS_SUITES][2];
};

/* ---- a flow's beginning and end --------------------------------------------------------------
 */

/* TLS 1.3: from the two traffic secrets (32 bytes, 48 for SHA-384; RFC 8446 7.3). Sequence numbers
 * are 0 both ways: who sent records with these keys already adds them to flow->seal.seq. */
void tls_flow_init_13(struct tls_flow *flow, enum tls_suite suite, bool is_client,
                      const uint8_t *client_secret, const uint8_t *server_secret);

/* TLS 1.2: from the master secret and the hellos' randoms (RFC 5246 6.3). Sequence numbers are 1
 * both ways: behind the Finished messages. `sealed_nonce` is the explicit nonce of our Finished,
 * which no later record repeats; without meaning for ChaCha20. */
void tls_flow_init_12(struct tls_flow *flow, enum tls_suite suite, bool is_client,
                      const uint8_t master[48], const uint8_t client_random[32],
                      const uint8_t server_random[32], uint64_t sealed_nonce);

/* Forgets every secret. */
void tls_flow_wipe(struct tls_flow *flow);

/* ---- opening ---------------------------------------------------------------------------------
 */

enum tls_result {
    TLS_MORE = 0, /* no whole record: call again from the same start with more bytes */
    TLS_DATA,     /* ret_plain: SIP's bytes, inside of p; may be empty */
    TLS_CLOSE,    /* close_notify: the peer sends no more; answer it with ours and end */
    TLS_ALERT,    /* a fatal alert, ret_plain.p[1] its code: end without a word */
    TLS_QUIET,    /* a record that needs nothing of the caller: new keys, a warning, a ticket */
};

/* Takes one record off p[0, n), which it decrypts in place. *ret_used is its size; 0 with TLS_MORE.
 * A record is never larger than TLS_RECORD_BYTES_MAX, which its first 5 bytes already tell; a
 * stream that is no TLS fails there too. `ret_plain` lies within p[0, *ret_used).
 *
 * Negative: minus the alert (enum tls_alert) to send with tls_alert() before ending. After that,
 * TLS_CLOSE and TLS_ALERT the flow takes nothing more: all bytes are used, TLS_MORE results.
 *
 * Handled here: new keys of the peer (KeyUpdate; our answer goes out before the next data that
 * tls_seal() writes, RFC 8446 4.6.3), session tickets when we are the client. Refused: any other
 * message of a handshake, so renegotiation too, and change_cipher_spec. How bytes are cut never
 * changes what comes out. */
MUST_USE int tls_open(struct tls_codec *codec, struct tls_flow *flow, char *p, size_t n,
                      size_t *ret_used, struct slice *ret_plain);

/* The same for many records: opens all that lie whole in p[*kept, *n) and moves their data down to
 * p[*kept], so that what was and what came stand side by side, and *kept grows by it. What is left
 * of a record follows right behind; *n is the end of it. 0 = more bytes are needed; else what
 * tls_open() ended with: TLS_CLOSE, TLS_ALERT or negative, with the data before it kept.
 *
 *      p            *kept     *n                           *n (before)
 *      ┌────────────┬─────────┬────────────────────────────┐
 *      │ plain      │ part of │ free now                   │
 *      │            │ a record│                            │
 *      └────────────┴─────────┴────────────────────────────┘ */
MUST_USE int tls_read(struct tls_codec *codec, struct tls_flow *flow, char *p, size_t *kept,
                      size_t *n);

/* ---- sealing ---------------------------------------------------------------------------------
 */

/* How many bytes tls_seal() needs at most for `n` bytes of data. */
size_t tls_seal_room(const struct tls_flow *flow, size_t n);

/* Writes the bytes of all pieces as records of data to `dst`, which has `cap` bytes and overlaps
 * none of them. Everything that it returns must be sent, in the order of the calls. It puts a
 * KeyUpdate first when one is owed or our own key has grown old (RFC 8446 5.5).
 *
 * Returns the bytes written (0 without data), or -1 with nothing written: `cap` is below
 * tls_seal_room(), or the key is worn out and TLS 1.2 has no other: close then. */
MUST_USE int64_t tls_seal(struct tls_codec *codec, struct tls_flow *flow, const struct iovec *iov,
                          size_t iov_count, char *dst, size_t cap);

/* Writes an alert: close_notify and no_renegotiation as warnings, all others as fatal. `dst` has
 * TLS_ALERT_BYTES_MAX bytes. Returns its size. */
size_t tls_alert(struct tls_codec *codec, struct tls_flow *flow, enum tls_alert code, char *dst);

/* TLS 1.3: new keys for what we send, now; `ask`: the peer is to change its own as well. `dst` has
 * TLS_UPDATE_BYTES_MAX bytes. Returns what was written, 0 with TLS 1.2. */
size_t tls_key_update(struct tls_codec *codec, struct tls_flow *flow, bool ask, char *dst);

#endif
