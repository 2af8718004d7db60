/* SPDX-License-Identifier: Apache-2.0
 *
 * The client of Digest authentication: RFC 7616 3.4, qop=auth or none (RFC 2617), MD5 or SHA-256.
 * The first challenge that we can answer is answered (RFC 8760 2.4: they stand in the server's
 * order). */
#include <openssl/evp.h>
#include "load/load_int.h"

enum { HEX_MAX = 2 * EVP_MAX_MD_SIZE };

struct challenge {
    const EVP_MD *md;
    struct slice algorithm; /* as it was written; empty = MD5 and not said */
    struct slice realm, nonce, opaque;
    bool has_qop;
};

/* H of all parts with a colon between each two, in hexadecimal. */
static struct slice hash(const EVP_MD *md, const struct slice *parts, unsigned count,
                         char dst[HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t raw[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1;
    for (unsigned i = 0; ok && i < count; i++)
        ok = (i == 0 || EVP_DigestUpdate(ctx, ":", 1) == 1) &&
             EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) == 1;
    ok = ok && EVP_DigestFinal_ex(ctx, raw, &n) == 1;
    EVP_MD_CTX_free(ctx);
    for (unsigned i = 0; ok && i < n; i++) {
        dst[2 * i] = digits[raw[i] >> 4];
        dst[2 * i + 1] = digits[raw[i] & 15];
    }
    return slice_of(dst, ok ? 2 * (size_t)n : 0);
}

/* The value of a parameter without its quotes; a backslash in it stays as it is. */
static struct slice unquote(struct slice s)
{
    s = slice_trim(s);
    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
        s = slice_of(s.p + 1, s.n - 2);
    return s;
}

/* The first piece of a comma list in which quotes hold commas; drops it from *rest. */
static struct slice take_piece(struct slice *rest)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < rest->n && (quoted || rest->p[i] != ','); i++) {
        if (quoted && rest->p[i] == '\\' && i + 1 < rest->n)
            i++;
        else if (rest->p[i] == '"')
            quoted = !quoted;
    }
    struct slice piece = slice_trim(slice_take(*rest, i));
    *rest = slice_drop(*rest, i + 1);
    return piece;
}

static bool offers_auth(struct slice qop)
{
    while (qop.n > 0)
        if (slice_equal_nocase(take_piece(&qop), SLICE("auth")))
            return true;
    return false;
}

static bool read_challenge(struct slice value, struct challenge *c)
{
    static const struct slice scheme = {"Digest ", 7};
    *c = (struct challenge){.md = EVP_md5()};
    if (value.n < scheme.n || !slice_equal_nocase(slice_take(value, scheme.n), scheme))
        return false;
    struct slice rest = slice_drop(value, scheme.n);
    while (rest.n > 0) {
        struct slice piece = take_piece(&rest);
        size_t at = slice_find(piece, '=');
        struct slice name = slice_trim(slice_take(piece, at));
        struct slice v = unquote(slice_drop(piece, at + 1));
        if (slice_equal_nocase(name, SLICE("realm")))
            c->realm = v;
        else if (slice_equal_nocase(name, SLICE("nonce")))
            c->nonce = v;
        else if (slice_equal_nocase(name, SLICE("opaque")))
            c->opaque = v;
        else if (slice_equal_nocase(name, SLICE("algorithm")))
            c->algorithm = v;
        else if (slice_equal_nocase(name, SLICE("qop"))) {
            if (!offers_auth(v))
                return false;
            c->has_qop = true;
        }
    }
    if (slice_equal_nocase(c->algorithm, SLICE("SHA-256")))
        c->md = EVP_sha256();
    else if (c->algorithm.n > 0 && !slice_equal_nocase(c->algorithm, SLICE("MD5")))
        return false;
    return c->nonce.n > 0;
}

static void put_param(struct text *t, const char *name, struct slice value, bool quoted)
{
    text_put(t, slice_cstr(name));
    text_put_char(t, '=');
    if (quoted)
        text_put_char(t, '"');
    text_put(t, value);
    if (quoted)
        text_put_char(t, '"');
}

static void put_answer(struct text *t, const struct challenge *c, struct slice method,
                       struct slice uri, struct slice user, struct slice password,
                       struct slice cnonce)
{
    char a1[HEX_MAX], a2[HEX_MAX], all[HEX_MAX];
    struct slice ha1 = hash(c->md, (struct slice[]){user, c->realm, password}, 3, a1);
    struct slice ha2 = hash(c->md, (struct slice[]){method, uri}, 2, a2);
    struct slice response =
        c->has_qop
            ? hash(c->md,
                   (struct slice[]){ha1, c->nonce, SLICE("00000001"), cnonce, SLICE("auth"), ha2},
                   6, all)
            : hash(c->md, (struct slice[]){ha1, c->nonce, ha2}, 3, all);
    TEXT_LIT(t, "Digest ");
    put_param(t, "username", user, true);
    put_param(t, ", realm", c->realm, true);
    put_param(t, ", nonce", c->nonce, true);
    put_param(t, ", uri", uri, true);
    put_param(t, ", response", response, true);
    if (c->algorithm.n > 0)
        put_param(t, ", algorithm", c->algorithm, false);
    if (c->opaque.n > 0)
        put_param(t, ", opaque", c->opaque, true);
    if (c->has_qop) {
        put_param(t, ", qop", SLICE("auth"), false);
        put_param(t, ", nc", SLICE("00000001"), false);
        put_param(t, ", cnonce", cnonce, true);
    }
    TEXT_LIT(t, "\r\n");
}

int load__authorize(struct text *t, const struct sip_msg *m, struct slice method, struct slice uri,
                    struct slice user, struct slice password, uint64_t cnonce)
{
    bool is_proxy = m->status == 407;
    char bytes[24];
    struct text nonce = text_into(bytes, sizeof bytes);
    text_put_u64(&nonce, cnonce);
    /* A line is a challenge: its commas are those of its parameters. */
    uint8_t i = m->first[is_proxy ? SIP_H_PROXY_AUTHENTICATE : SIP_H_WWW_AUTHENTICATE];
    for (; i != SIP_NO_HEADER; i = m->h[i].next) {
        struct challenge c;
        if (!read_challenge(sip_slice(m, m->h[i].value), &c))
            continue;
        if (is_proxy)
            TEXT_LIT(t, "Proxy-Authorization: ");
        else
            TEXT_LIT(t, "Authorization: ");
        put_answer(t, &c, method, uri, user, password, text_slice(&nonce));
        return 0;
    }
    return -1;
}
