/* SPDX-License-Identifier: Apache-2.0
 *
 * Who sends a REGISTER: Digest authentication (RFC 7616, 8760; RFC 3261 22).
 *
 *   nonce = base64url( made, Unix s 5 | salt 4 | MAC 12 )
 *   MAC   = HMAC-SHA-256( fleet's key, "weir-nonce" realm made salt asker ), its first 96 bits
 *
 * asker: over UDP the address that the challenge goes to, else nothing. Calls will go there: who
 * has an account could aim them at anybody by a forged source, but does not hear the nonce.
 *
 * No nonce is kept to be believed: any registrar of the fleet verifies any other's. Against replay
 * the counts of the last few thousand nonces are remembered, and one that does not grow is stale.
 * What is left to somebody who reads a REGISTER off the wire: to send the same credentials, for the
 * same method and URI, to another registrar of the fleet (or to this one after a restart, or when
 * thousands of others have pushed the nonce out) until the nonce's life is over. Over TLS nobody
 * reads it.
 *
 * An unknown user is computed for, compared and answered like a wrong password. */
#include "registrar/registrar_int.h"

#define EQUAL(s, lit) slice_equal_nocase((s), SLICE(lit))

enum {
    NONCE_BODY_BYTES = 9,
    NONCE_MAC_BYTES = 12,
    NONCE_BYTES = NONCE_BODY_BYTES + NONCE_MAC_BYTES,
    CLOCK_SKEW_S = 60, /* between the machines of a fleet */
};

/* ---- Authorization --------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct slice *s)
{
    while (s->n > 0 && is_blank(s->p[0]))
        *s = slice_drop(*s, 1);
}

/* Takes what stands before one of `stops` or a blank. */
static struct slice take_word(struct slice *s, struct slice stops)
{
    size_t n = 0;
    while (n < s->n && !is_blank(s->p[n]) && memchr(stops.p, s->p[n], stops.n) == NULL)
        n++;
    struct slice word = slice_take(*s, n);
    *s = slice_drop(*s, n);
    return word;
}

/* The inside of a quoted string, as written. False when it does not end. */
static bool take_quoted(struct slice *s, struct slice *ret_inside)
{
    for (size_t i = 1; i < s->n; i++) {
        if (s->p[i] == '\\') {
            i++;
        } else if (s->p[i] == '"') {
            *ret_inside = (struct slice){s->p + 1, i - 1};
            *s = slice_drop(*s, i + 1);
            return true;
        }
    }
    return false;
}

/* name = value, up to the next comma. 1, 0 at the end, -1 when it is none. */
static int take_param(struct slice *s, struct slice *ret_name, struct slice *ret_value)
{
    skip_blanks(s);
    while (s->n > 0 && s->p[0] == ',') {
        *s = slice_drop(*s, 1);
        skip_blanks(s);
    }
    if (s->n == 0)
        return 0;
    *ret_name = take_word(s, SLICE("=,\""));
    skip_blanks(s);
    if (ret_name->n == 0 || s->n == 0 || s->p[0] != '=')
        return -1;
    *s = slice_drop(*s, 1);
    skip_blanks(s);
    if (s->n > 0 && s->p[0] == '"') {
        if (!take_quoted(s, ret_value))
            return -1;
    } else {
        *ret_value = take_word(s, SLICE(",\""));
    }
    skip_blanks(s);
    return s->n == 0 || s->p[0] == ',' ? 1 : -1;
}

static void set_param(struct credentials *c, struct slice name, struct slice value)
{
    static const struct {
        struct slice name;
        size_t at;
    } fields[] = {
        {{"username", 8}, offsetof(struct credentials, username)},
        {{"realm", 5}, offsetof(struct credentials, realm)},
        {{"nonce", 5}, offsetof(struct credentials, nonce)},
        {{"uri", 3}, offsetof(struct credentials, uri)},
        {{"response", 8}, offsetof(struct credentials, response)},
        {{"algorithm", 9}, offsetof(struct credentials, algorithm)},
        {{"cnonce", 6}, offsetof(struct credentials, cnonce)},
        {{"nc", 2}, offsetof(struct credentials, nc)},
        {{"qop", 3}, offsetof(struct credentials, qop)},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (slice_equal_nocase(name, fields[i].name))
            memcpy((char *)c + fields[i].at, &value, sizeof value);
}

bool registrar__credentials_parse(struct slice value, struct credentials *ret)
{
    struct credentials c = {.algorithm = SLICE("MD5")};
    struct slice name, v;
    int found;
    skip_blanks(&value);
    if (!EQUAL(take_word(&value, SLICE(",=\"")), "Digest"))
        return false;
    while ((found = take_param(&value, &name, &v)) == 1)
        set_param(&c, name, v);
    if (found != 0)
        return false;
    *ret = c;
    return true;
}

static bool algorithm_of(struct slice name, enum digest_algorithm *ret)
{
    if (EQUAL(name, "MD5"))
        *ret = DIGEST_MD5;
    else if (EQUAL(name, "SHA-256"))
        *ret = DIGEST_SHA256;
    else
        return false;
    return true;
}

/* Whole, for our realm, with what we ask for: auth-int and RFC 2069's form are refused. */
static bool is_for_us(const struct registrar_opts *o, const struct credentials *c,
                      enum digest_algorithm *ret_algorithm)
{
    return slice_equal(c->realm, o->realm) && c->username.n > 0 && c->nonce.n > 0 &&
           c->cnonce.n > 0 && c->uri.n > 0 && EQUAL(c->qop, "auth") && c->nc.n == 8 &&
           algorithm_of(c->algorithm, ret_algorithm);
}

const uint8_t *registrar__algorithms(const struct registrar_opts *o, unsigned *ret_count)
{
    static const uint8_t usual[] = {DIGEST_SHA256, DIGEST_MD5};
    *ret_count = o->offer_count > 0 ? o->offer_count : sizeof usual;
    return o->offer_count > 0 ? o->offer : usual;
}

/* Who may not use MD5 is not let in with it, although nobody has asked for it: a challenge can be
 * changed on its way. */
static bool is_allowed(const struct registrar_opts *o, enum digest_algorithm algorithm)
{
    unsigned count;
    const uint8_t *algorithms = registrar__algorithms(o, &count);
    return memchr(algorithms, (int)algorithm, count) != NULL;
}

/* The first that is for us of all Authorization lines. */
static bool find_credentials(const struct registrar *r, const struct sip_msg *m,
                             struct credentials *ret, enum digest_algorithm *ret_algorithm)
{
    for (uint8_t i = m->first[SIP_H_AUTHORIZATION]; i != SIP_NO_HEADER; i = m->h[i].next)
        if (registrar__credentials_parse(sip_slice(m, m->h[i].value), ret) &&
            is_for_us(r->opts, ret, ret_algorithm) && is_allowed(r->opts, *ret_algorithm))
            return true;
    return false;
}

/* ---- nonces ---------------------------------------------------------------------------------- */

static struct slice asker_of(const struct reg_origin *from)
{
    bool may_be_forged = from->direct && from->transport == TP_UDP;
    return may_be_forged ? slice_of(from->source.ip, from->source.family == 4 ? 4 : 16)
                         : SLICE_NONE;
}

static void nonce_mac(const struct registrar_opts *o, const struct token_key *k,
                      const uint8_t *body, struct slice asker, uint8_t ret_mac[32])
{
    struct slice parts[] = {SLICE("weir-nonce"), o->realm, slice_of(body, NONCE_BODY_BYTES), asker};
    flow_mac(k, parts, asker.n > 0 ? 4 : 3, ret_mac);
}

static void nonce_put(struct registrar *r, struct text *t, struct slice asker, uint64_t wall_s)
{
    uint8_t raw[NONCE_BYTES], mac[32];
    char text[NONCE_BYTES * 2];
    (void)bytes_put_be(bytes_put_be(raw, wall_s, 5), prng_u64(&r->prng), 4);
    nonce_mac(r->opts, &r->opts->keys->key[0], raw, asker, mac);
    memcpy(raw + NONCE_BODY_BYTES, mac, NONCE_MAC_BYTES);
    text_base64url_encode(raw, sizeof raw, text);
    text_put(t, slice_of(text, text_base64url_size(sizeof raw)));
}

/* Is it of the fleet's making, for this asker, and young enough? */
static bool nonce_is_good(const struct registrar *r, struct slice nonce, struct slice asker,
                          uint64_t wall_s, uint32_t *ret_made_s)
{
    uint8_t raw[NONCE_BYTES], mac[32];
    if (text_base64url_decode(nonce, raw, sizeof raw) != NONCE_BYTES)
        return false;
    bool is_ours = false;
    for (unsigned i = 0; i < r->opts->keys->count; i++) {
        nonce_mac(r->opts, &r->opts->keys->key[i], raw, asker, mac);
        is_ours |= flow_mac_equal(mac, raw + NONCE_BODY_BYTES, NONCE_MAC_BYTES);
    }
    const uint8_t *p = raw;
    uint64_t made_s = bytes_get_be(&p, 5);
    *ret_made_s = (uint32_t)made_s;
    return is_ours && made_s <= wall_s + CLOCK_SKEW_S && wall_s <= made_s + r->opts->nonce_life_s;
}

static bool nc_parse(struct slice s, uint32_t *ret_nc)
{
    uint32_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i], l = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (l >= 'a' && l <= 'f')
            v = v << 4 | (uint32_t)(l - 'a' + 10);
        else
            return false;
    }
    *ret_nc = v;
    return s.n == 8 && v > 0;
}

/* Has this count of this nonce not been seen? Then it has, from now on. */
static bool nonce_count(struct registrar *r, struct slice nonce, uint32_t made_s, uint32_t nc)
{
    uint64_t hash = siphash(&r->seed, nonce.p, nonce.n);
    struct nonce_cell *set = &r->nonces[hash % (NONCE_CELLS / NONCE_WAYS) * NONCE_WAYS];
    struct nonce_cell *oldest = set;
    for (unsigned i = 0; i < NONCE_WAYS; i++) {
        if (set[i].nc != 0 && set[i].hash == hash) {
            if (nc <= set[i].nc)
                return false;
            set[i].nc = nc;
            return true;
        }
        if (set[i].nc == 0 || (oldest->nc != 0 && set[i].made_s < oldest->made_s))
            oldest = &set[i];
    }
    *oldest = (struct nonce_cell){hash, nc, made_s};
    return true;
}

/* ---- users ----------------------------------------------------------------------------------- */

/* The same number of steps whoever is asked for. */
static const struct registrar_user *find_user(const struct registrar_opts *o, struct slice name)
{
    uint32_t low = 0, n = o->user_count;
    while (n > 0) {
        uint32_t half = n / 2;
        if (slice_compare(o->users[low + half].name, name) < 0) {
            low += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return low < o->user_count && slice_equal(o->users[low].name, name) ? &o->users[low] : NULL;
}

bool registrar__user_known(const struct registrar *r, struct slice aor)
{
    size_t at = aor.n;
    while (at > 0 && aor.p[at - 1] != '@')
        at--;
    return at > 1 && r->opts->digest && find_user(r->opts, slice_take(aor, at - 1)) != NULL;
}

/* Quoted pairs resolved; empty when it is longer than any user. */
static struct slice plain_username(struct slice s, char dst[REGISTRAR_AOR_BYTES_MAX])
{
    struct text t = text_into(dst, REGISTRAR_AOR_BYTES_MAX);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        text_put_char(&t, s.p[i]);
    }
    return text_fits(&t) ? text_slice(&t) : SLICE_NONE;
}

/* Equal but for the case of hex digits, in a time that does not depend on where they differ. */
static bool response_equal(struct slice got, struct slice want)
{
    unsigned differ = got.n != want.n;
    for (size_t i = 0; i < want.n; i++) {
        unsigned c = i < got.n ? (unsigned char)got.p[i] : 0u;
        c |= c >= 'A' && c <= 'F' ? 0x20u : 0u;
        differ |= c ^ (unsigned char)want.p[i];
    }
    return differ == 0;
}

static bool is_right(const struct registrar *r, const struct sip_msg *m,
                     const struct credentials *c, enum digest_algorithm algorithm,
                     struct slice username)
{
    static const struct registrar_user nobody = {.has_md5 = false};
    const struct registrar_user *u = find_user(r->opts, username);
    bool is_user = u != NULL;
    if (!is_user)
        u = &nobody;
    char ha1[DIGEST_HEX_MAX], want[DIGEST_HEX_MAX];
    bool is_md5 = algorithm == DIGEST_MD5;
    struct slice key = is_md5 ? registrar__hex(u->ha1_md5, sizeof u->ha1_md5, ha1)
                              : registrar__hex(u->ha1_sha256, sizeof u->ha1_sha256, ha1);
    bool can = is_md5 ? u->has_md5 : u->has_sha256;
    bool is_equal = response_equal(
        c->response, registrar__digest(algorithm, key, sip_slice(m, m->method_name), c, want));
    return is_user & can & is_equal;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void put_challenge(struct registrar *r, struct text *t, struct slice algorithm,
                          struct slice asker, bool is_stale, uint64_t wall_s)
{
    TEXT_LIT(t, "WWW-Authenticate: Digest realm=\"");
    text_put(t, r->opts->realm);
    TEXT_LIT(t, "\", nonce=\"");
    nonce_put(r, t, asker, wall_s);
    TEXT_LIT(t, "\", algorithm=");
    text_put(t, algorithm);
    TEXT_LIT(t, ", qop=\"auth\"");
    if (is_stale)
        TEXT_LIT(t, ", stale=true");
    TEXT_LIT(t, "\r\n");
}

static int challenge(struct registrar *r, struct slice asker, bool is_stale, uint64_t wall_s,
                     struct arena *scratch, struct reg_answer *ret)
{
    struct text t = registrar__scratch_text(scratch, 512 + 2 * r->opts->realm.n);
    /* The one that we like better on top (RFC 8760 2.4). */
    for (unsigned i = 0; i < r->offer_count; i++)
        put_challenge(r, &t, r->offer[i] == DIGEST_MD5 ? SLICE("MD5") : SLICE("SHA-256"), asker,
                      is_stale, wall_s);
    *ret = (struct reg_answer){.status = 401, .extra = registrar__scratch_keep(scratch, &t)};
    return 401;
}

static int refuse(struct reg_answer *ret, int status, struct slice reason)
{
    *ret = (struct reg_answer){.status = status, .reason = reason};
    return status;
}

/* What was signed is this request: the same host, or one of our domains when somebody on the way
 * wrote another Request-URI. */
static bool uri_is_ours(const struct registrar_opts *o, const struct sip_msg *m, struct slice uri)
{
    struct sip_uri signed_uri, own;
    if (slice_equal(uri, sip_slice(m, m->uri)))
        return true;
    if (sip_uri_parse(uri, &signed_uri) != 0 || signed_uri.host.n == 0)
        return false;
    if (sip_uri_parse(sip_slice(m, m->uri), &own) == 0 &&
        slice_equal_nocase(own.host, signed_uri.host))
        return true;
    for (uint16_t i = 0; i < o->domain_count; i++)
        if (slice_equal_nocase(o->domains[i], signed_uri.host))
            return true;
    return false;
}

bool registrar_was_challenged(const struct registrar *r, const struct sip_msg *m,
                              const struct reg_origin *from, uint64_t wall_ns)
{
    struct credentials c;
    enum digest_algorithm algorithm;
    uint32_t made_s;
    return r->opts->digest && r->opts->keys != NULL && find_credentials(r, m, &c, &algorithm) &&
           nonce_is_good(r, c.nonce, asker_of(from), wall_ns / NS_S, &made_s);
}

int registrar__authenticate(struct registrar *r, const struct sip_msg *m, struct slice user,
                            const struct reg_origin *from, uint64_t wall_ns, struct arena *scratch,
                            struct reg_answer *ret)
{
    const struct registrar_opts *o = r->opts;
    const struct slice asker = asker_of(from);
    uint64_t wall_s = wall_ns / NS_S;
    struct credentials c;
    enum digest_algorithm algorithm;
    uint32_t made_s, nc;
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    if (o->keys == NULL || o->keys->count == 0)
        return refuse(ret, 500, SLICE("No Key For Nonces"));
    if (!find_credentials(r, m, &c, &algorithm) || !nc_parse(c.nc, &nc))
        return challenge(r, asker, false, wall_s, scratch, ret);
    struct slice username = plain_username(c.username, bytes);
    if (!is_right(r, m, &c, algorithm, username)) {
        (void)challenge(r, asker, false, wall_s, scratch, ret);
        ret->failed_auth = true;
        return ret->status;
    }
    /* Only who knows the password is told that nothing but the nonce is wrong (RFC 7616 3.3). */
    if (!nonce_is_good(r, c.nonce, asker, wall_s, &made_s) || !nonce_count(r, c.nonce, made_s, nc))
        return challenge(r, asker, true, wall_s, scratch, ret);
    if (!uri_is_ours(o, m, c.uri))
        return refuse(ret, 400, SLICE("Digest Of Another URI"));
    if (!slice_equal(username, user))
        return refuse(ret, 403, SLICE("Not Your Address-of-record"));
    return 0;
}
