/* SPDX-License-Identifier: Apache-2.0
 *
 * Bindings as records. A key names one binding of one AOR; the store replaces what has the same.
 *
 *   key    aor \0 instance \0 reg-id            a flow of a phone (RFC 5626)
 *          aor \0 contact  \0                   a contact as RFC 3261 knows it; a long one as
 *                                               "sha256:" and 64 hex digits
 *   value  boot 8 | expires 8 (Unix ms) | call-id 8 | flow: gen 8 slot 4 worker 4
 *          | source: ip 16 scope 4 port 2 family 1 | since 4 (Unix s) | cseq 4 | reg-id 4 | q 2
 *          | transport 1 | listener 1 | bits 1 | bytes of contact 2, instance 2, Path 2 | spare
 *          | contact | instance | Path
 *
 * `boot` tells the process that wrote it: a flow of another one is nobody's, for a number that was
 * given out twice could ring a stranger. The user of a UDP contact is found by address and can be
 * called at once. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "registrar/registrar_int.h"

int record_next(struct slice *rest, struct record *ret)
{
    if (rest->n == 0)
        return 0;
    if (rest->n < RECORD_HEAD_BYTES)
        return -1;
    const uint8_t *p = (const uint8_t *)rest->p;
    uint64_t n = bytes_get_be(&p, 4);
    uint8_t version = *p++;
    uint8_t op = *p++;
    uint64_t key_n = bytes_get_be(&p, 2);
    if (n < RECORD_HEAD_BYTES - 4 || n > RECORD_BYTES_MAX - 4 || n > rest->n - 4 ||
        version != RECORD_VERSION || (op != RECORD_PUT && op != RECORD_DELETE) || key_n == 0 ||
        key_n > RECORD_KEY_BYTES_MAX || key_n > n - (RECORD_HEAD_BYTES - 4))
        return -1;
    struct slice whole = slice_take(*rest, 4 + (size_t)n);
    *ret = (struct record){
        .op = op,
        .key = slice_take(slice_drop(whole, RECORD_HEAD_BYTES), (size_t)key_n),
        .value = slice_drop(whole, RECORD_HEAD_BYTES + (size_t)key_n),
        .whole = whole,
    };
    *rest = slice_drop(*rest, whole.n);
    return 1;
}

bool record_is_over(const struct record *r, uint64_t wall_ns)
{
    if (r->op != RECORD_PUT || r->value.n < RECORD_VALUE_HEAD_BYTES)
        return false;
    const uint8_t *p = (const uint8_t *)r->value.p + 8; /* behind `boot` */
    return bytes_get_be(&p, 8) <= wall_ns / NS_MS;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void put_long_contact(struct text *t, struct slice contact)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t hash[SHA256_DIGEST_LENGTH];
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, contact.p, contact.n);
    SHA256_Final(hash, &c);
    TEXT_LIT(t, "sha256:");
    for (size_t i = 0; i < sizeof hash; i++) {
        text_put_char(t, digits[hash[i] >> 4]);
        text_put_char(t, digits[hash[i] & 15]);
    }
}

/* The key behind the AOR. */
static void put_key_tail(struct text *t, struct slice instance, struct slice contact,
                         uint32_t reg_id)
{
    text_put_char(t, '\0');
    if (reg_id != 0)
        text_put(t, instance);
    else if (contact.n <= REG_KEY_CONTACT_BYTES_MAX)
        text_put(t, contact);
    else
        put_long_contact(t, contact);
    text_put_char(t, '\0');
    if (reg_id != 0)
        text_put_u64(t, reg_id);
}

void registrar__key_put(struct text *t, struct slice aor, struct slice instance,
                        struct slice contact, uint32_t reg_id)
{
    text_put(t, aor);
    put_key_tail(t, instance, contact, reg_id);
}

bool registrar__key_is(const struct registrar *r, const struct binding *b, struct slice instance,
                       struct slice contact, uint32_t reg_id)
{
    uint32_t own = b->bits & BIND_OUTBOUND ? b->reg_id : 0;
    if (own != reg_id)
        return false;
    return reg_id != 0 ? slice_equal(registrar__instance(r, b), instance)
                       : slice_equal(registrar__contact(r, b), contact);
}

/* Does this tail of a key name `b`? Most are told apart without writing anything. */
static bool tail_is(const struct registrar *r, const struct binding *b, struct slice tail)
{
    char bytes[RECORD_KEY_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    put_key_tail(&t, registrar__instance(r, b), registrar__contact(r, b),
                 b->bits & BIND_OUTBOUND ? b->reg_id : 0);
    return slice_equal(text_slice(&t), tail);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_be(struct text *t, uint64_t v, int bytes)
{
    uint8_t b[8];
    (void)bytes_put_be(b, v, bytes);
    text_put(t, slice_of(b, (size_t)bytes));
}

/* Room for the head; what follows is measured by end_record(). */
static size_t begin_record(struct text *t)
{
    size_t at = t->n;
    put_be(t, 0, RECORD_HEAD_BYTES);
    return at;
}

static void end_record(struct text *t, size_t at, uint8_t op, size_t key_n)
{
    if (!text_fits(t))
        return;
    uint8_t *p = (uint8_t *)t->p + at;
    p = bytes_put_be(p, t->n - at - 4, 4);
    *p++ = RECORD_VERSION;
    *p++ = op;
    (void)bytes_put_be(p, key_n, 2);
}

static void put_value(struct registrar *r, struct text *t, const struct binding_facts *f)
{
    size_t at = t->n;
    put_be(t, r->boot, 8);
    put_be(t, f->expires_wall_ms, 8);
    put_be(t, f->call_id, 8);
    put_be(t, f->flow.gen, 8);
    put_be(t, f->flow.slot, 4);
    put_be(t, f->flow.worker, 4);
    text_put(t, slice_of(f->source.ip, 16));
    put_be(t, f->source.scope, 4);
    put_be(t, f->source.port, 2);
    put_be(t, f->source.family, 1);
    put_be(t, f->since_s, 4);
    put_be(t, f->cseq, 4);
    put_be(t, f->reg_id, 4);
    put_be(t, f->q, 2);
    put_be(t, f->transport, 1);
    put_be(t, f->listener, 1);
    put_be(t, f->bits & BIND_BITS, 1);
    put_be(t, f->contact.n, 2);
    put_be(t, f->instance.n, 2);
    put_be(t, f->path.n, 2);
    while (t->n - at < RECORD_VALUE_HEAD_BYTES)
        text_put_char(t, '\0');
    text_put(t, f->contact);
    text_put(t, f->instance);
    text_put(t, f->path);
}

void registrar__record_put(struct registrar *r, struct text *t, const struct binding_facts *f)
{
    size_t at = begin_record(t);
    size_t key = t->n;
    registrar__key_put(t, f->aor, f->instance, f->contact, f->bits & BIND_OUTBOUND ? f->reg_id : 0);
    size_t key_n = t->n - key;
    put_value(r, t, f);
    end_record(t, at, RECORD_PUT, key_n);
}

void registrar__record_delete(struct text *t, struct slice aor, struct slice instance,
                              struct slice contact, uint32_t reg_id)
{
    size_t at = begin_record(t);
    size_t key = t->n;
    registrar__key_put(t, aor, instance, contact, reg_id);
    end_record(t, at, RECORD_DELETE, t->n - key);
}

void registrar__record_end(struct registrar *r, struct text *t, const struct binding *b)
{
    registrar__record_delete(t, registrar__aor_name(r, registrar__aor(r, b->aor)),
                             registrar__instance(r, b), registrar__contact(r, b),
                             b->bits & BIND_OUTBOUND ? b->reg_id : 0);
}

/* A delete behind a put that is under way would take from the store what that one acknowledges. So
 * puts are counted until they come back, by a hash of their AOR: two AORs in one cell, or a put
 * that the store refused and that never comes, only cost a delete, and that is harmless. */
static struct pending_cell *pending_cell(const struct registrar *r, uint64_t aor_hash)
{
    return &r->pending[aor_hash % PENDING_CELLS];
}

/* The cell as of now: what is older than two spans counts no more. */
static struct pending_cell pending_now(const struct registrar *r, const struct pending_cell *c)
{
    struct pending_cell n = {.span = (uint32_t)(r->now / (PENDING_S * NS_S))};
    if (c->span == n.span)
        return *c;
    if (c->span + 1 == n.span)
        n.count[1] = c->count[0];
    return n;
}

bool registrar__pending(const struct registrar *r, uint64_t aor_hash)
{
    struct pending_cell n = pending_now(r, pending_cell(r, aor_hash));
    return n.count[0] > 0 || n.count[1] > 0;
}

void registrar__pending_add(struct registrar *r, uint64_t aor_hash)
{
    struct pending_cell *c = pending_cell(r, aor_hash);
    *c = pending_now(r, c);
    if (c->count[0] < UINT16_MAX)
        c->count[0]++;
}

void registrar__pending_done(struct registrar *r, uint64_t aor_hash)
{
    struct pending_cell *c = pending_cell(r, aor_hash);
    *c = pending_now(r, c);
    /* The newest first: one that never comes back must stay in its span, to be forgotten with it.
     */
    uint16_t *count = &c->count[c->count[0] == 0];
    if (*count > 0)
        --*count;
}

/* ---- reading --------------------------------------------------------------------------------- */

static struct slice cut(struct slice *rest, size_t n)
{
    struct slice s = slice_take(*rest, n);
    *rest = slice_drop(*rest, s.n);
    return s;
}

/* Bytes of a store are believed no more than bytes of a wire: they go into header lines. */
static bool texts_are_clean(const struct binding_facts *f)
{
    struct sip_uri u;
    return f->contact.n > 0 && f->contact.n <= REG_CONTACT_BYTES_MAX &&
           sip_uri_parse(f->contact, &u) == 0 &&
           (u.scheme == SIP_SCHEME_SIP || u.scheme == SIP_SCHEME_SIPS) && u.headers.p == NULL &&
           (f->instance.n == 0 || registrar__instance_is_clean(f->instance)) &&
           f->path.n <= REG_PATH_BYTES_MAX && registrar__path_is_clean(f->path, &u);
}

static bool numbers_are_sane(const struct binding_facts *f)
{
    bool is_outbound = f->bits & BIND_OUTBOUND;
    bool has_source = f->source.family == 4 || f->source.family == 6 || f->source.family == 0;
    return f->q <= 1000 && f->transport < TP__COUNT && has_source && f->reg_id <= REG_ID_MAX &&
           (f->bits & ~(unsigned)BIND_BITS) == 0 &&
           (!is_outbound || (f->instance.n > 0 && f->reg_id != 0));
}

static bool read_value(const struct registrar *r, struct slice value, struct binding_facts *f)
{
    if (value.n < RECORD_VALUE_HEAD_BYTES)
        return false;
    const uint8_t *p = (const uint8_t *)value.p;
    uint64_t boot = bytes_get_be(&p, 8);
    f->expires_wall_ms = bytes_get_be(&p, 8);
    f->call_id = bytes_get_be(&p, 8);
    f->flow.gen = bytes_get_be(&p, 8);
    f->flow.slot = (uint32_t)bytes_get_be(&p, 4);
    f->flow.worker = (uint32_t)bytes_get_be(&p, 4);
    memset(&f->source, 0, sizeof f->source);
    memcpy(f->source.ip, p, 16);
    p += 16;
    f->source.scope = (uint32_t)bytes_get_be(&p, 4);
    f->source.port = (uint16_t)bytes_get_be(&p, 2);
    f->source.family = *p++;
    f->since_s = (uint32_t)bytes_get_be(&p, 4);
    f->cseq = (uint32_t)bytes_get_be(&p, 4);
    f->reg_id = (uint32_t)bytes_get_be(&p, 4);
    f->q = (uint16_t)bytes_get_be(&p, 2);
    f->transport = *p++;
    f->listener = *p++;
    f->bits = *p++;
    size_t contact_n = (size_t)bytes_get_be(&p, 2), instance_n = (size_t)bytes_get_be(&p, 2),
           path_n = (size_t)bytes_get_be(&p, 2);
    struct slice rest = slice_drop(value, RECORD_VALUE_HEAD_BYTES);
    if (contact_n + instance_n + path_n != rest.n)
        return false;
    f->contact = cut(&rest, contact_n);
    f->instance = cut(&rest, instance_n);
    f->path = cut(&rest, path_n);
    if (boot != r->boot && f->flow.gen != 0)
        f->flow = (struct flow_id){.gen = REG_FLOW_LOST_GEN};
    return numbers_are_sane(f) && texts_are_clean(f);
}

/* The AOR of a key, and what stands behind it; the separators are there. */
static bool split_key(struct slice key, struct slice *ret_aor, struct slice *ret_tail)
{
    size_t n = slice_find(key, '\0');
    struct slice tail = slice_drop(key, n);
    if (n == 0 || n > REGISTRAR_AOR_BYTES_MAX || tail.n < 3 ||
        slice_find(slice_drop(tail, 1), '\0') == tail.n - 1)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)key.p[i] < 0x20 || key.p[i] == 0x7f)
            return false;
    *ret_aor = slice_take(key, n);
    *ret_tail = tail;
    return true;
}

/* ---- taking ---------------------------------------------------------------------------------- */

static struct binding *find_tail(const struct registrar *r, const struct aor *a, struct slice tail)
{
    for (uint32_t slot = a->first; slot != REG_SLOT_NONE;) {
        struct binding *b = registrar__binding(r, slot);
        if (tail_is(r, b, tail))
            return b;
        slot = b->next;
    }
    return NULL;
}

/* More of one AOR than an answer can list came at once: the oldest gives way. Its record stays
 * until it expires, which is harmless. */
static void make_room(struct registrar *r, struct aor *a)
{
    while (a->count >= REG_AOR_BINDINGS_MAX) {
        struct binding *oldest = registrar__binding(r, a->first);
        while (oldest->next != REG_SLOT_NONE)
            oldest = registrar__binding(r, oldest->next);
        registrar__binding_drop(r, oldest);
    }
}

/* When a moment of the wall's clock is on ours; `now` when it has passed. No further away than any
 * REGISTER could ask for. */
static mono_ns mono_of(uint64_t wall_ms, mono_ns now, uint64_t wall_ns)
{
    uint64_t wall_now_ms = wall_ns / NS_MS;
    uint64_t left_ms = wall_ms > wall_now_ms ? wall_ms - wall_now_ms : 0;
    if (left_ms > UINT32_MAX * UINT64_C(1000))
        left_ms = UINT32_MAX * UINT64_C(1000);
    return mono_add(now, left_ms * NS_MS);
}

/* 1 taken, 0 no room, -1 no record of ours. */
static int take_put(struct registrar *r, const struct record *record, mono_ns now, uint64_t wall_ns)
{
    struct binding_facts f = {.q = 0};
    struct slice tail;
    if (!split_key(record->key, &f.aor, &tail) || !read_value(r, record->value, &f))
        return -1;
    char bytes[RECORD_KEY_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    put_key_tail(&t, f.instance, f.contact, f.bits & BIND_OUTBOUND ? f.reg_id : 0);
    if (!slice_equal(text_slice(&t), tail))
        return -1;
    registrar__pending_done(r, siphash(&r->seed, f.aor.p, f.aor.n));
    mono_ns at = mono_of(f.expires_wall_ms, now, wall_ns);
    struct aor *a = registrar__aor_find(r, f.aor);
    struct binding *old = a != NULL ? find_tail(r, a, tail) : NULL;
    if (at <= now) {
        if (old != NULL)
            registrar__binding_drop(r, old);
        return 1;
    }
    if (a == NULL)
        a = registrar__aor_add(r, f.aor);
    if (a == NULL)
        return 0;
    if (old == NULL)
        make_room(r, a);
    return registrar__binding_put(r, a, old, &f, at) ? 1 : 0;
}

static int take_delete(struct registrar *r, const struct record *record)
{
    struct slice name, tail;
    if (!split_key(record->key, &name, &tail))
        return -1;
    struct aor *a = registrar__aor_find(r, name);
    struct binding *b = a != NULL ? find_tail(r, a, tail) : NULL;
    if (b != NULL)
        registrar__binding_drop(r, b);
    return 1;
}

unsigned registrar_commit(struct registrar *r, struct slice records, mono_ns now, uint64_t wall_ns)
{
    unsigned taken = 0;
    struct record record;
    int found;
    r->now = now;
    while ((found = record_next(&records, &record)) == 1) {
        int result =
            record.op == RECORD_PUT ? take_put(r, &record, now, wall_ns) : take_delete(r, &record);
        if (result > 0)
            taken++;
        else if (result < 0)
            r->bad_records++;
    }
    if (found < 0)
        r->bad_records++;
    return taken;
}

bool registrar_record_phone(const struct registrar *r, const struct record *one,
                            struct reg_phone *ret)
{
    struct binding_facts f = {0};
    if (one->op != RECORD_PUT || !read_value(r, one->value, &f) || !(f.bits & BIND_DIRECT) ||
        f.transport != TP_UDP || f.flow.gen != 0 || f.flow.slot == 0)
        return false;
    *ret = (struct reg_phone){.source = f.source,
                              .phone = f.flow.slot,
                              .listener = f.listener,
                              .expires_wall_ms = f.expires_wall_ms};
    return true;
}
