/* SPDX-License-Identifier: Apache-2.0
 *
 * Judging a REGISTER: RFC 3261 10.3, step by step, with what 3327, 5626 and 5627 add. Nothing is
 * changed here but what is remembered of nonces: what would change leaves as records.
 *
 *   Request-URI ─▶ Require ─▶ To is an AOR ─▶ who are you? ─▶ Contacts, Path ─▶ 439, 423
 *      403          420          404            401, 403       400
 *                                       ─▶ CSeq ─▶ limits ─▶ records
 *                                           500     403, 503
 *
 * All or nothing: the records of one REGISTER are stored together. */
#include "registrar/registrar_int.h"

struct request {
    struct registrar *r;
    const struct sip_msg *m;
    const struct sip_facts *f;
    const struct reg_origin *from;
    mono_ns now;
    uint64_t wall_ns;
    struct arena *scratch;
    struct reg_answer *ret;
    struct slice aor, path;
    struct aor *a; /* NULL: none yet */
    uint64_t call_id;
    bool is_star;
    unsigned count;
    struct contact c[REG_CONTACTS_MAX];
};

static int refuse(struct reg_answer *ret, int status, struct slice reason)
{
    *ret = (struct reg_answer){.status = status, .reason = reason};
    return status;
}

static int refuse_with(struct request *q, int status, struct slice name, uint64_t value)
{
    struct text t = registrar__scratch_text(q->scratch, 64);
    text_put(&t, name);
    TEXT_LIT(&t, ": ");
    text_put_u64(&t, value);
    TEXT_LIT(&t, "\r\n");
    (void)refuse(q->ret, status, SLICE_NONE);
    q->ret->extra = registrar__scratch_keep(q->scratch, &t);
    return status;
}

/* ---- whose, and what ------------------------------------------------------------------------- */

static bool is_known_option(struct slice s)
{
    return slice_equal_nocase(s, SLICE("path")) || slice_equal_nocase(s, SLICE("outbound")) ||
           slice_equal_nocase(s, SLICE("gruu"));
}

/* RFC 3261 8.2.2.3. */
static int judge_require(struct request *q)
{
    struct text t = registrar__scratch_text(q->scratch, q->m->n + (size_t)64);
    struct sip_values v = sip_values(q->m, SIP_H_REQUIRE);
    unsigned unknown = 0;
    while (sip_next_value(&v)) {
        struct slice option = sip_slice(q->m, v.value);
        if (is_known_option(option))
            continue;
        text_put(&t, unknown++ == 0 ? SLICE("Unsupported: ") : SLICE(", "));
        text_put(&t, option);
    }
    TEXT_LIT(&t, "\r\n");
    if (v.err != 0)
        return refuse(q->ret, 400, SLICE("Bad Require"));
    if (unknown == 0)
        return 0;
    (void)refuse(q->ret, 420, SLICE_NONE);
    q->ret->extra = registrar__scratch_keep(q->scratch, &t);
    return 420;
}

static bool is_our_domain(const struct registrar_opts *opts, const struct sip_uri *uri)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    struct sip_uri domain = *uri;
    domain.user = SLICE("x");
    return registrar_aor(opts, &domain, &t) == 0;
}

static int judge_address(struct request *q, struct text *aor)
{
    struct sip_uri to;
    if (!is_our_domain(q->r->opts, &q->f->uri))
        return refuse(q->ret, 403, SLICE("Not A Domain Of This Registrar"));
    if (sip_uri_parse(q->f->to_uri, &to) != 0 || registrar_aor(q->r->opts, &to, aor) != 0)
        return refuse(q->ret, 404, SLICE_NONE);
    q->aor = text_slice(aor);
    q->a = registrar__aor_find(q->r, q->aor);
    return 0;
}

static int judge_user(struct request *q)
{
    if (!q->r->opts->digest)
        return 0;
    size_t at = q->aor.n;
    while (q->aor.p[at - 1] != '@')
        at--;
    return registrar__authenticate(q->r, q->m, slice_take(q->aor, at - 1), q->from, q->wall_ns,
                                   q->scratch, q->ret);
}

/* ---- Contacts -------------------------------------------------------------------------------- */

/* What holds for Contacts that say nothing themselves. */
static uint32_t header_expires(const struct request *q)
{
    uint32_t seconds = q->r->opts->expires_default_s;
    (void)registrar__seconds_parse(sip_header_value(q->m, SIP_H_EXPIRES), &seconds);
    return seconds;
}

static int read_contacts(struct request *q)
{
    uint32_t fallback_s = header_expires(q);
    struct sip_values v = sip_values(q->m, SIP_H_CONTACT);
    while (sip_next_value(&v)) {
        struct slice value = sip_slice(q->m, v.value), why;
        if (q->count == REG_CONTACTS_MAX || (q->is_star && q->count > 0))
            return refuse(q->ret, 400, SLICE("Too Many Contacts"));
        if (slice_equal(value, SLICE("*"))) {
            q->is_star = true;
            q->count++;
            continue;
        }
        if (registrar__contact_parse(value, fallback_s, &q->c[q->count], &why) != 0)
            return refuse(q->ret, 400, why);
        q->count++;
    }
    if (v.err != 0)
        return refuse(q->ret, 400, SLICE("Bad Contact"));
    if (!q->is_star)
        return 0;
    /* Alone, and with Expires: 0, and nothing less will do (RFC 3261 10.2.2). */
    uint32_t seconds = 1;
    (void)registrar__seconds_parse(sip_header_value(q->m, SIP_H_EXPIRES), &seconds);
    if (q->count != 1 || seconds != 0)
        return refuse(q->ret, 400, SLICE("Bad Contact *"));
    q->count = 0;
    return 0;
}

/* Straight from a client, we are the first hop, and we know outbound. Else it is the one that
 * wrote the last Path value (RFC 5626 6). */
static bool first_hop_knows_outbound(const struct request *q)
{
    struct sip_uri last = {.params = SLICE_NONE};
    if (q->from->direct)
        return true;
    return q->path.n > 0 && registrar__path_is_clean(q->path, &last) &&
           sip_uri_param(last.params, SLICE("ob"), NULL);
}

static int judge_outbound(struct request *q)
{
    if (!registrar__has_option(q->m, SIP_H_SUPPORTED, SLICE("outbound")))
        return 0;
    bool first_hop = first_hop_knows_outbound(q);
    for (unsigned i = 0; i < q->count; i++) {
        if (q->c[i].reg_id == 0)
            continue;
        if (!first_hop && q->r->opts->require_outbound)
            return refuse(q->ret, 439, SLICE_NONE);
        q->c[i].outbound = first_hop;
    }
    return 0;
}

/* A binding of one's own AOR would send each call back here, round and round. */
static bool leads_back(const struct request *q, const struct contact *c)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text t = text_into(bytes, sizeof bytes);
    return !q->from->direct && q->path.n == 0 && c->parsed.port == 0 && c->expires_s > 0 &&
           registrar_aor(q->r->opts, &c->parsed, &t) == 0 && slice_equal(text_slice(&t), q->aor);
}

static int judge_contacts(struct request *q)
{
    const struct registrar_opts *o = q->r->opts;
    for (unsigned i = 0; i < q->count; i++) {
        struct contact *c = &q->c[i];
        if (leads_back(q, c))
            return refuse(q->ret, 403, SLICE("Contact Is The AOR Itself"));
        if (c->expires_s == 0)
            continue;
        if (c->expires_s < o->expires_min_s)
            return refuse_with(q, 423, SLICE("Min-Expires"), o->expires_min_s);
        if (c->expires_s > o->expires_max_s)
            c->expires_s = o->expires_max_s;
    }
    return 0;
}

/* ---- against what there is ------------------------------------------------------------------- */

static bool names(const struct registrar *r, const struct binding *b, const struct contact *c)
{
    bool is_outbound = b->bits & BIND_OUTBOUND;
    struct sip_uri own;
    if (is_outbound != c->outbound)
        return false;
    if (is_outbound)
        return b->reg_id == c->reg_id &&
               registrar__instance_equal(registrar__instance(r, b), c->instance);
    return sip_uri_parse(registrar__contact(r, b), &own) == 0 &&
           registrar__uri_equal(&own, &c->parsed);
}

static bool name_the_same(const struct contact *a, const struct contact *b)
{
    if (a->outbound != b->outbound)
        return false;
    return a->outbound
               ? a->reg_id == b->reg_id && registrar__instance_equal(a->instance, b->instance)
               : registrar__uri_equal(&a->parsed, &b->parsed);
}

/* Of two values that name one binding the later one counts. */
static void match_contacts(struct request *q)
{
    for (unsigned i = 0; i < q->count; i++)
        for (unsigned k = i + 1; k < q->count; k++)
            if (!q->c[i].superseded && name_the_same(&q->c[i], &q->c[k]))
                q->c[i].superseded = true;
    for (uint32_t slot = q->a != NULL ? q->a->first : REG_SLOT_NONE; slot != REG_SLOT_NONE;) {
        struct binding *b = registrar__binding(q->r, slot);
        slot = b->next;
        if (b->timer.at <= q->now)
            continue;
        for (unsigned i = 0; i < q->count; i++)
            if (!q->c[i].superseded && q->c[i].old == NULL && names(q->r, b, &q->c[i])) {
                q->c[i].old = b;
                break;
            }
    }
}

/* Of the same Call-ID, and not newer than what is bound already: steps 6 and 7. */
static bool is_out_of_order(const struct request *q, const struct binding *b)
{
    return b->call_id == q->call_id && q->f->cseq <= b->cseq;
}

static int judge_order(struct request *q)
{
    bool is_late = false;
    for (unsigned i = 0; i < q->count; i++)
        is_late |= q->c[i].old != NULL && is_out_of_order(q, q->c[i].old);
    if (q->is_star && q->a != NULL)
        for (uint32_t slot = q->a->first; slot != REG_SLOT_NONE;) {
            struct binding *b = registrar__binding(q->r, slot);
            is_late |= b->timer.at > q->now && is_out_of_order(q, b);
            slot = b->next;
        }
    return is_late ? refuse(q->ret, 500, SLICE("Out-of-order CSeq")) : 0;
}

/* A place that a phone left behind: a contact of the same instance, which moved and does not speak
 * of it any more. The oldest of them. Only asked for when the AOR is full. */
static struct binding *abandoned(const struct request *q, const struct contact *c)
{
    struct binding *found = NULL;
    for (uint32_t slot = q->a != NULL ? q->a->first : REG_SLOT_NONE; slot != REG_SLOT_NONE;) {
        struct binding *b = registrar__binding(q->r, slot);
        slot = b->next;
        bool is_named = false;
        for (unsigned i = 0; i < q->count; i++)
            is_named |= q->c[i].old == b;
        if (!is_named && !(b->bits & BIND_OUTBOUND) && b->timer.at > q->now &&
            registrar__instance_equal(registrar__instance(q->r, b), c->instance))
            found = b;
    }
    return found;
}

static unsigned live_bindings(const struct request *q)
{
    unsigned n = 0;
    for (uint32_t slot = q->a != NULL ? q->a->first : REG_SLOT_NONE; slot != REG_SLOT_NONE;) {
        const struct binding *b = registrar__binding(q->r, slot);
        n += b->timer.at > q->now;
        slot = b->next;
    }
    return n;
}

static int judge_limits(struct request *q)
{
    const struct registrar *r = q->r;
    unsigned max =
        r->opts->contacts_max < REG_AOR_BINDINGS_MAX ? r->opts->contacts_max : REG_AOR_BINDINGS_MAX;
    unsigned count = live_bindings(q);
    uint32_t fresh = 0;
    for (unsigned i = 0; i < q->count; i++) {
        const struct contact *c = &q->c[i];
        if (c->superseded)
            continue;
        if (c->expires_s == 0) {
            count -= c->old != NULL;
            continue;
        }
        count += c->old == NULL;
        fresh += c->old == NULL;
        if (!registrar__texts_have(&r->texts, c->uri.n + c->instance.n + q->path.n))
            return refuse_with(q, 503, SLICE("Retry-After"), REG_RETRY_AFTER_S);
    }
    for (unsigned i = 0; count > max && i < q->count; i++) {
        struct contact *c = &q->c[i];
        if (c->superseded || c->expires_s == 0 || c->old != NULL || c->instance.n == 0)
            continue;
        c->old = abandoned(q, c);
        count -= c->old != NULL;
        fresh -= c->old != NULL;
    }
    /* Another server would say the same: no 503. */
    if (count > max && fresh > 0)
        return refuse(q->ret, 403, SLICE("Too Many Contacts"));
    if (fresh > 0 && r->bindings.live + (uint64_t)fresh > r->bindings_max)
        return refuse_with(q, 503, SLICE("Retry-After"), REG_RETRY_AFTER_S);
    return 0;
}

/* ---- records --------------------------------------------------------------------------------- */

/* What is granted: a little less than asked for, so that those who came together do not come back
 * together. */
static uint32_t granted(struct request *q, uint32_t seconds)
{
    const struct registrar_opts *o = q->r->opts;
    uint64_t spread = (uint64_t)seconds * o->expires_jitter_percent / 100;
    uint64_t cut = prng_below(&q->r->prng, spread + 1);
    uint64_t left = seconds - (cut < seconds ? cut : seconds - 1);
    return left < o->expires_min_s ? o->expires_min_s : (uint32_t)left;
}

static void delete_old(struct request *q, struct text *t, const struct binding *b)
{
    registrar__record_delete(t, q->aor, registrar__instance(q->r, b), registrar__contact(q->r, b),
                             b->bits & BIND_OUTBOUND ? b->reg_id : 0);
}

static void put_contact(struct request *q, struct text *t, const struct contact *c)
{
    uint32_t key_id = c->outbound ? c->reg_id : 0;
    if (c->old != NULL && !registrar__key_is(q->r, c->old, c->instance, c->uri, key_id))
        delete_old(q, t, c->old);
    uint64_t seconds = granted(q, c->expires_s);
    struct binding_facts f = {
        .aor = q->aor,
        .contact = c->uri,
        .instance = c->instance,
        .path = q->path,
        .expires_wall_ms = q->wall_ns / NS_MS + seconds * 1000,
        .call_id = q->call_id,
        .flow = q->from->direct ? q->from->flow : FLOW_NONE,
        .source = q->from->source,
        .cseq = q->f->cseq,
        .reg_id = c->reg_id,
        .since_s = c->old != NULL ? c->old->since_s : (uint32_t)(q->wall_ns / NS_S),
        .q = c->q,
        .transport = q->from->transport,
        .listener = q->from->listener,
        .bits = (uint8_t)((q->from->direct ? BIND_DIRECT : 0) | (c->outbound ? BIND_OUTBOUND : 0)),
    };
    registrar__record_put(q->r, t, &f);
    registrar__pending_add(q->r, siphash(&q->r->seed, q->aor.p, q->aor.n));
}

static void put_end(struct request *q, struct text *t, const struct contact *c)
{
    if (c->old != NULL)
        delete_old(q, t, c->old);
    /* Also when there is none: one may be on its way to the store. */
    else
        registrar__record_delete(t, q->aor, c->instance, c->uri, c->outbound ? c->reg_id : 0);
}

static int write_records(struct request *q)
{
    size_t cap = ((size_t)q->count + (q->a != NULL ? q->a->count : 0)) * RECORD_DELETE_BYTES_MAX;
    for (unsigned i = 0; i < q->count; i++)
        cap += RECORD_DELETE_BYTES_MAX + RECORD_VALUE_HEAD_BYTES + q->c[i].uri.n +
               q->c[i].instance.n + q->path.n;
    struct text t = registrar__scratch_text(q->scratch, cap);
    for (unsigned i = 0; i < q->count; i++) {
        if (q->c[i].superseded)
            continue;
        if (q->c[i].expires_s == 0)
            put_end(q, &t, &q->c[i]);
        else
            put_contact(q, &t, &q->c[i]);
    }
    for (uint32_t slot = q->is_star && q->a != NULL ? q->a->first : REG_SLOT_NONE;
         slot != REG_SLOT_NONE;) {
        const struct binding *b = registrar__binding(q->r, slot);
        delete_old(q, &t, b);
        slot = b->next;
    }
    if (!text_fits(&t))
        return refuse_with(q, 503, SLICE("Retry-After"), REG_RETRY_AFTER_S);
    (void)refuse(q->ret, 200, SLICE_NONE);
    q->ret->records = registrar__scratch_keep(q->scratch, &t);
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int judge_path(struct request *q)
{
    int status = 0;
    q->path = registrar__path_of(q->m, q->scratch, &status);
    return status != 0 ? refuse(q->ret, status, SLICE("Bad Path")) : 0;
}

void registrar_register(struct registrar *r, const struct sip_msg *m, const struct sip_facts *f,
                        const struct reg_origin *from, mono_ns now, uint64_t wall_ns,
                        struct arena *scratch, struct reg_answer *ret)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text aor = text_into(bytes, sizeof bytes);
    struct request q = {.r = r, .m = m, .f = f, .from = from, .now = now};
    q.wall_ns = wall_ns;
    q.scratch = scratch;
    q.ret = ret;
    q.call_id = registrar__call_id_hash(f->call_id);
    r->now = now;
    (void)refuse(ret, 200, SLICE_NONE);
    if (judge_address(&q, &aor) != 0 || judge_require(&q) != 0 || judge_user(&q) != 0 ||
        read_contacts(&q) != 0 || judge_path(&q) != 0 || judge_outbound(&q) != 0 ||
        judge_contacts(&q) != 0)
        return;
    match_contacts(&q);
    if (judge_order(&q) == 0 && judge_limits(&q) == 0)
        (void)write_records(&q);
}
