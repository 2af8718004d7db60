/* SPDX-License-Identifier: Apache-2.0
 *
 * The sums of Digest: RFC 7616 3.4.1 to 3.4.3, with MD5 or SHA-256, qop=auth.
 *
 *      response = H( H(user:realm:password) : nonce : nc : cnonce : qop : H(method:uri) )
 *
 * The low-level hashes of libcrypto work on a struct of ours and allocate nothing. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/md5.h>
#include <openssl/sha.h>

#include "registrar/registrar_int.h"

struct hash {
    enum digest_algorithm algorithm;
    union {
        MD5_CTX md5;
        SHA256_CTX sha256;
    } of;
};

static void begin(struct hash *h, enum digest_algorithm algorithm)
{
    h->algorithm = algorithm;
    if (algorithm == DIGEST_MD5)
        MD5_Init(&h->of.md5);
    else
        SHA256_Init(&h->of.sha256);
}

static void add(struct hash *h, struct slice s)
{
    if (s.n == 0)
        return;
    if (h->algorithm == DIGEST_MD5)
        MD5_Update(&h->of.md5, s.p, s.n);
    else
        SHA256_Update(&h->of.sha256, s.p, s.n);
}

/* Parts with a colon between each two. */
static void add_all(struct hash *h, const struct slice *parts, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            add(h, SLICE(":"));
        add(h, parts[i]);
    }
}

/* As hex digits. */
static struct slice end(struct hash *h, char dst[DIGEST_HEX_MAX])
{
    uint8_t raw[SHA256_DIGEST_LENGTH];
    if (h->algorithm == DIGEST_MD5)
        MD5_Final(raw, &h->of.md5);
    else
        SHA256_Final(raw, &h->of.sha256);
    return registrar__hex(raw, h->algorithm == DIGEST_MD5 ? 16 : 32, dst);
}

struct slice registrar__hex(const uint8_t *raw, size_t n, char dst[DIGEST_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        dst[2 * i] = digits[raw[i] >> 4];
        dst[2 * i + 1] = digits[raw[i] & 15];
    }
    return slice_of(dst, 2 * n);
}

struct slice registrar__digest(enum digest_algorithm algorithm, struct slice ha1_hex,
                               struct slice method, const struct credentials *c,
                               char dst[DIGEST_HEX_MAX])
{
    char bytes[DIGEST_HEX_MAX];
    struct hash h;
    begin(&h, algorithm);
    add_all(&h, (struct slice[]){method, c->uri}, 2);
    struct slice ha2 = end(&h, bytes);
    begin(&h, algorithm);
    add_all(&h, (struct slice[]){ha1_hex, c->nonce, c->nc, c->cnonce, c->qop, ha2}, 6);
    return end(&h, dst);
}
