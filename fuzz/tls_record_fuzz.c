/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of TLS records as the input's program says: data, new keys, alerts and messages of any
 * kind, sealed well; bytes that were never sealed; bits that flip on the way. It is opened three
 * times: record by record, and cut in two ways, each piece in memory of its own size.
 *   - However it is cut, the same comes out, and it ends the same.
 *   - What comes out is what was sealed, from its beginning: nothing that was changed is in it.
 *   - An honest stream comes out whole. */
#include <openssl/evp.h>
#include <stdlib.h>
#include "net/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIRE_BYTES_MAX = 1 << 17, STEPS_MAX = 64, ROOM = 20000, PIECES_MAX = 300 };

static struct tls_codec codec;
static char wire[WIRE_BYTES_MAX], said[WIRE_BYTES_MAX];

struct program {
    struct slice in;
    struct tls_flow peer; /* who seals */
    size_t wire_n, said_n;
    bool is_honest; /* all that an honest peer may do */
    size_t quiet;   /* records in a row without data */
    size_t good_n;  /* said until something changed or was over */
    bool is_spoilt;
};

static uint8_t next(struct program *p)
{
    uint8_t c = p->in.n > 0 ? (uint8_t)p->in.p[0] : 0;
    p->in = slice_drop(p->in, 1);
    return c;
}

static struct slice next_bytes(struct program *p, size_t n)
{
    struct slice s = slice_take(p->in, n);
    p->in = slice_drop(p->in, s.n);
    return s;
}

/* One record of any type, by another way than the code under test. */
static void seal_any(struct program *p, uint8_t type, struct slice payload, size_t padding)
{
    static const char *const name[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    struct tls_keys *k = &p->peer.seal;
    const bool is_13 = p->peer.minor == 4;
    const bool is_explicit = !is_13 && p->peer.suite != TLS_CHACHA20_POLY1305_SHA256;
    uint8_t *head = (uint8_t *)wire + p->wire_n, *at = head + 5, nonce[12], seq[8], aad[13];
    size_t n = payload.n;
    int got = 0, aad_n = 5;
    bytes_put_be(seq, k->seq++, 8);
    memcpy(nonce, k->iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = is_explicit ? seq[i] : nonce[4 + i] ^ seq[i];
    if (is_explicit)
        at = (uint8_t *)memcpy(at, nonce + 4, 8) + 8;
    if (n > 0)
        memcpy(at, payload.p, n);
    if (is_13) {
        at[n++] = type;
        memset(at + n, 0, padding);
        n += padding;
    }
    size_t whole = (size_t)(at - head) - 5 + n + 16;
    head[0] = is_13 ? 23 : type;
    head[1] = head[2] = 3;
    bytes_put_be(head + 3, whole, 2);
    memcpy(aad, head, 5);
    if (!is_13) {
        memcpy(aad, seq, 8);
        memcpy(aad + 8, head, 3);
        bytes_put_be(aad + 11, n, 2);
        aad_n = 13;
    }
    static EVP_CIPHER *cipher[TLS_SUITES];
    if (cipher[p->peer.suite] == NULL)
        cipher[p->peer.suite] = EVP_CIPHER_fetch(NULL, name[p->peer.suite], NULL);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    MUST(EVP_EncryptInit_ex(c, cipher[p->peer.suite], NULL, k->key, nonce) == 1);
    MUST(EVP_EncryptUpdate(c, NULL, &got, aad, aad_n) == 1);
    MUST(n == 0 || EVP_EncryptUpdate(c, at, &got, at, (int)n) == 1);
    MUST(EVP_EncryptFinal_ex(c, at + n, &got) == 1);
    MUST(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, at + n) == 1);
    EVP_CIPHER_CTX_free(c);
    p->wire_n += whole + 5;
}

static void say(struct program *p, const char *bytes, size_t n)
{
    memcpy(said + p->said_n, bytes, n);
    p->said_n += n;
    p->good_n += p->is_spoilt ? 0 : n;
    if (n > 0)
        p->quiet = 0;
    else if (++p->quiet > TLS_IDLE_RECORDS_MAX)
        p->is_honest = false;
}

static void say_much(struct program *p, bool is_long)
{
    static char much[ROOM];
    size_t n = (size_t)next(p) << (is_long ? 6 : 2);
    for (size_t i = 0; i < n; i++)
        much[i] = (char)(i + p->said_n);
    struct iovec iov[2] = {{much, n / 3}, {much + n / 3, n - n / 3}};
    int64_t r = tls_seal(&codec, &p->peer, iov, 2, wire + p->wire_n, sizeof wire - p->wire_n);
    MUST(r >= 0 && (size_t)r <= tls_seal_room(&p->peer, n));
    p->wire_n += (size_t)r;
    if (n > 0)
        say(p, much, n);
}

static void step(struct program *p)
{
    const uint8_t op = next(p);
    uint8_t type;
    struct slice s;
    switch (op & 7) {
    case 0:
    case 1:
        say_much(p, (op & 0xf8) == 0xf8);
        break;
    case 2:
        p->wire_n += tls_key_update(&codec, &p->peer, op & 8, wire + p->wire_n);
        say(p, "", 0);
        break;
    case 3: /* data, padded */
        s = next_bytes(p, next(p));
        seal_any(p, 23, s, op);
        say(p, s.p, s.n);
        break;
    case 4: /* any message; a type of 0 would be padding, and the byte before it the type */
        type = next(p);
        type = type != 0 ? type : 1;
        s = next_bytes(p, next(p) & 31);
        seal_any(p, type, s, op & 8);
        if (type == 23)
            say(p, s.p, s.n);
        else
            p->is_honest = false;
        break;
    case 5: /* never sealed */
        s = next_bytes(p, next(p));
        if (s.n > 0)
            memcpy(wire + p->wire_n, s.p, s.n);
        p->wire_n += s.n;
        p->is_honest = s.n == 0 && p->is_honest;
        p->is_spoilt |= s.n > 0;
        break;
    case 6: /* a bit of the next record flips: nothing from there on may come out */
        type = next(p);
        p->is_spoilt = true;
        p->is_honest = false;
        size_t at = p->wire_n;
        s = next_bytes(p, next(p));
        seal_any(p, 23, s, 0);
        say(p, s.p, s.n);
        wire[at + (type * 131U) % (p->wire_n - at)] ^= (char)(1 << (op >> 3 & 7));
        break;
    default:
        p->wire_n += tls_alert(&codec, &p->peer, (enum tls_alert)next(p), wire + p->wire_n);
        p->is_honest = false;
    }
}

/* Opens all of it in pieces of `first`, then `each` bytes. Returns what ended it, and the plain
 * bytes in *ret_plain, to be freed. */
static int open_cut(struct tls_flow flow, size_t n, size_t first, size_t each, char **ret_plain,
                    size_t *ret_kept)
{
    char *buf = (char *)malloc(1);
    size_t have = 0, kept = 0, at = 0;
    int r = 0;
    if (each < n / PIECES_MAX)
        each = n / PIECES_MAX;
    while (at < n && r == 0) {
        size_t more = at == 0 ? first : each;
        more = more < n - at ? more : n - at;
        char *larger = (char *)realloc(buf, have + more);
        MUST(larger != NULL);
        buf = larger;
        memcpy(buf + have, wire + at, more);
        have += more;
        at += more;
        r = tls_read(&codec, &flow, buf, &kept, &have);
        MUST(kept <= have && have <= at);
        MUST(r == 0 || flow.is_over);
    }
    *ret_plain = buf;
    *ret_kept = kept;
    return r;
}

static void check(const struct program *p, const struct tls_flow *flow, size_t first, size_t each)
{
    char *whole, *cut;
    size_t whole_n, cut_n;
    int a = open_cut(*flow, p->wire_n, p->wire_n, 1, &whole, &whole_n);
    int b = open_cut(*flow, p->wire_n, first, each, &cut, &cut_n);
    MUST(a == b && whole_n == cut_n && memcmp(whole, cut, cut_n) == 0);
    MUST(whole_n <= p->good_n && memcmp(whole, said, whole_n) == 0);
    if (p->is_honest)
        MUST(a == 0 && whole_n == p->said_n);
    free(whole);
    free(cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t one[48] = "client", two[48] = "server";
    struct program p = {.in = slice_of(data, size), .is_honest = true};
    struct tls_flow flow;
    if (codec.cipher[0][0] == NULL)
        MUST(tls_codec_init(&codec) == 0);
    const uint8_t kind = next(&p);
    const enum tls_suite suite = (enum tls_suite)(kind % 3);
    const size_t first = 1 + next(&p), each = 1 + next(&p);
    if (kind & 64) {
        tls_flow_init_13(&p.peer, suite, kind & 32, one, two);
        tls_flow_init_13(&flow, suite, !(kind & 32), one, two);
    } else {
        tls_flow_init_12(&p.peer, suite, kind & 32, one, one, two, 7);
        tls_flow_init_12(&flow, suite, !(kind & 32), one, one, two, 7);
    }
    p.peer.record_max = kind & 16 ? 512 : TLS_PLAIN_BYTES_MAX;
    for (int i = 0; i < STEPS_MAX && p.in.n > 0 && p.wire_n < WIRE_BYTES_MAX - 2 * ROOM; i++)
        step(&p);
    check(&p, &flow, first, each);
    return 0;
}
