/* SPDX-License-Identifier: Apache-2.0
 *
 * The registrar's life: its memory, its indexes, and how a binding comes and goes. The drawing of
 * what points where stands in registrar_int.h. */
#include "registrar/registrar_int.h"

/* Places beyond what registrar_register() gives out: for those that were judged before others'
 * records came back from the store. */
static uint32_t slots_of(uint32_t bindings_max)
{
    uint32_t spare = bindings_max / 16;
    return bindings_max + (spare > 64 ? spare : 64);
}

size_t registrar_memory(uint32_t bindings_max)
{
    uint32_t slots = slots_of(bindings_max);
    return sizeof(struct registrar) + _Alignof(struct registrar) +
           slab_memory(sizeof(struct binding), slots) + slab_memory(sizeof(struct aor), slots) +
           registrar__texts_memory(slots) + 2 * map_memory(slots) +
           sizeof(struct nonce_cell) * NONCE_CELLS + sizeof(struct pending_cell) * PENDING_CELLS +
           64;
}

struct registrar *registrar_new(struct arena *mem, uint32_t bindings_max, struct hash_seed seed,
                                uint64_t prng_seed_value)
{
    if (bindings_max == 0 || bindings_max > REGISTRAR_BINDINGS_MAX)
        return NULL;
    uint32_t slots = slots_of(bindings_max);
    struct registrar *r = ARENA_NEW(mem, struct registrar);
    if (r == NULL)
        return NULL;
    memset(r, 0, sizeof *r);
    r->nonces = ARENA_ARRAY(mem, struct nonce_cell, NONCE_CELLS);
    r->pending = ARENA_ARRAY(mem, struct pending_cell, PENDING_CELLS);
    if (r->nonces == NULL || r->pending == NULL ||
        slab_init(&r->bindings, mem, sizeof(struct binding), slots) != 0 ||
        slab_init(&r->aors, mem, sizeof(struct aor), slots) != 0 ||
        registrar__texts_init(&r->texts, mem, slots) != 0 ||
        map_init(&r->by_aor, mem, slots) != 0 || map_init(&r->by_flow, mem, slots) != 0)
        return NULL;
    memset(r->nonces, 0, sizeof(struct nonce_cell) * NONCE_CELLS);
    memset(r->pending, 0, sizeof(struct pending_cell) * PENDING_CELLS);
    r->seed = seed;
    r->boot = siphash(&seed, "boot", 4);
    r->bindings_max = bindings_max;
    r->idle_first = r->idle_last = REG_SLOT_NONE;
    prng_seed(&r->prng, prng_seed_value);
    wheel_init(&r->wheel, 0);
    return r;
}

void registrar_fault(struct registrar *r, struct fault *f)
{
    r->bindings.fault = f;
    r->aors.fault = f;
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        r->texts.class[c].fault = f;
}

void registrar_done(struct registrar *r)
{
    slab_done(&r->bindings);
    slab_done(&r->aors);
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        slab_done(&r->texts.class[c]);
}

void registrar_adopt(struct registrar *r, const struct registrar_opts *opts)
{
    r->opts = opts;
    /* An algorithm is offered when every user can answer it: who cannot would be locked out, and to
     * offer by user would tell who exists. When there is none for all, each. */
    bool has[DIGEST_ALGORITHMS] = {true, true};
    for (uint32_t i = 0; i < opts->user_count; i++) {
        has[DIGEST_MD5] &= opts->users[i].has_md5;
        has[DIGEST_SHA256] &= opts->users[i].has_sha256;
    }
    unsigned count;
    const uint8_t *algorithms = registrar__algorithms(opts, &count);
    r->offer_count = 0;
    for (unsigned i = 0; i < count; i++)
        if (has[algorithms[i]])
            r->offer[r->offer_count++] = algorithms[i];
    if (r->offer_count == 0) {
        memcpy(r->offer, algorithms, count);
        r->offer_count = (uint8_t)count;
    }
}

struct registrar_load registrar_load(const struct registrar *r)
{
    return (struct registrar_load){.aors = r->aors_live, .bindings = r->bindings.live};
}

/* ---- addresses-of-record --------------------------------------------------------------------- */

static unsigned hex(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? (unsigned)(l - 'a' + 10) : 16;
}

/* The user of a URI without its password, escapes resolved. False when a control character comes
 * out: the NUL ends an AOR in a key, and no user has one. */
static bool put_plain_user(struct text *t, struct slice user)
{
    user = slice_take(user, slice_find(user, ':'));
    for (size_t i = 0; i < user.n; i++) {
        char c = user.p[i];
        if (c == '%' && user.n - i >= 3 && (hex(user.p[i + 1]) | hex(user.p[i + 2])) < 16) {
            c = (char)(hex(user.p[i + 1]) << 4 | hex(user.p[i + 2]));
            i += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return false;
        text_put_char(t, c);
    }
    return user.n > 0;
}

static const struct slice *domain_of(const struct registrar_opts *opts, const struct sip_uri *uri)
{
    for (uint16_t i = 0; i < opts->domain_count; i++) {
        struct slice d = opts->domains[i];
        struct slice bare = d.n > 2 && d.p[0] == '[' ? (struct slice){d.p + 1, d.n - 2} : d;
        if (slice_equal_nocase(bare, uri->host))
            return &opts->domains[i];
    }
    return NULL;
}

int registrar_aor(const struct registrar_opts *opts, const struct sip_uri *uri, struct text *t)
{
    if (uri->scheme != SIP_SCHEME_SIP && uri->scheme != SIP_SCHEME_SIPS)
        return -1;
    const struct slice *domain = domain_of(opts, uri);
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text own = text_into(bytes, sizeof bytes);
    if (domain == NULL || !put_plain_user(&own, uri->user))
        return -1;
    text_put_char(&own, '@');
    text_put(&own, *domain);
    if (!text_fits(&own) || t->n > t->cap || own.n > t->cap - t->n)
        return -1;
    text_put(t, text_slice(&own));
    return 0;
}

uint32_t registrar_owner(const struct hash_seed *shared, struct slice aor, uint32_t workers)
{
    return workers > 1 ? (uint32_t)(siphash(shared, aor.p, aor.n) % workers) : 0;
}

struct binding *registrar__binding(const struct registrar *r, uint32_t slot)
{
    return slot == REG_SLOT_NONE || slot >= r->bindings.fresh
               ? NULL
               : slab_get(&r->bindings, (handle){slot, r->bindings.gen[slot]});
}

struct aor *registrar__aor(const struct registrar *r, uint32_t slot)
{
    return slot == REG_SLOT_NONE || slot >= r->aors.fresh
               ? NULL
               : slab_get(&r->aors, (handle){slot, r->aors.gen[slot]});
}

uint32_t registrar__binding_slot(const struct registrar *r, const struct binding *b)
{
    return slab_handle(&r->bindings, b).slot;
}

static uint32_t aor_slot(const struct registrar *r, const struct aor *a)
{
    return slab_handle(&r->aors, a).slot;
}

static struct slice text_at(const struct registrar *r, uint8_t class, handle block, size_t at,
                            size_t n)
{
    const char *p = slab_get(&r->texts.class[class], block);
    MUST(p != NULL);
    return n > 0 ? slice_of(p + at, n) : SLICE_NONE;
}

struct slice registrar__aor_name(const struct registrar *r, const struct aor *a)
{
    return text_at(r, a->class, a->block, 0, a->name_n);
}

struct slice registrar__contact(const struct registrar *r, const struct binding *b)
{
    return text_at(r, b->class, b->block, 0, b->contact_n);
}

struct slice registrar__instance(const struct registrar *r, const struct binding *b)
{
    return text_at(r, b->class, b->block, b->contact_n, b->instance_n);
}

struct slice registrar__path(const struct registrar *r, const struct binding *b)
{
    return text_at(r, b->class, b->block, (size_t)b->contact_n + b->instance_n, b->path_n);
}

struct aor *registrar__aor_find(const struct registrar *r, struct slice name)
{
    uint64_t hash = siphash(&r->seed, name.p, name.n);
    uint32_t cursor = MAP_END, slot;
    while ((slot = map_find(&r->by_aor, hash, &cursor)) != MAP_END) {
        struct aor *a = registrar__aor(r, slot);
        if (a->hash == hash && slice_equal(registrar__aor_name(r, a), name))
            return a;
    }
    return NULL;
}

static void idle_link(struct registrar *r, struct aor *a)
{
    uint32_t slot = aor_slot(r, a);
    a->idle_prev = r->idle_last;
    a->idle_next = REG_SLOT_NONE;
    if (r->idle_last == REG_SLOT_NONE)
        r->idle_first = slot;
    else
        registrar__aor(r, r->idle_last)->idle_next = slot;
    r->idle_last = slot;
}

static void idle_unlink(struct registrar *r, struct aor *a)
{
    if (a->idle_prev == REG_SLOT_NONE)
        r->idle_first = a->idle_next;
    else
        registrar__aor(r, a->idle_prev)->idle_next = a->idle_next;
    if (a->idle_next == REG_SLOT_NONE)
        r->idle_last = a->idle_prev;
    else
        registrar__aor(r, a->idle_next)->idle_prev = a->idle_prev;
}

static void aor_forget(struct registrar *r, struct aor *a)
{
    MUST(a->count == 0);
    idle_unlink(r, a);
    (void)map_remove(&r->by_aor, a->hash, aor_slot(r, a));
    registrar__texts_release(&r->texts, (struct text_ref){a->block, a->class});
    slab_release(&r->aors, a);
}

/* One that has been idle for longest gives its place. */
static bool idle_evict(struct registrar *r)
{
    struct aor *oldest = registrar__aor(r, r->idle_first);
    if (oldest == NULL)
        return false;
    aor_forget(r, oldest);
    return true;
}

struct aor *registrar__aor_add(struct registrar *r, struct slice name)
{
    struct text_ref text;
    handle h;
    if (r->aors.live == r->aors.count)
        (void)idle_evict(r);
    while (registrar__texts_keep(&r->texts, &name, 1, &text) != 0)
        if (!idle_evict(r))
            return NULL;
    struct aor *a = slab_take(&r->aors, &h);
    if (a == NULL) {
        registrar__texts_release(&r->texts, text);
        return NULL;
    }
    a->hash = siphash(&r->seed, name.p, name.n);
    a->block = text.block;
    a->class = text.class;
    a->name_n = (uint8_t)name.n;
    a->first = REG_SLOT_NONE;
    /* As many entries as slots: there is room. */
    MUST(map_add(&r->by_aor, a->hash, h.slot) == 0);
    idle_link(r, a);
    return a;
}

/* ---- bindings -------------------------------------------------------------------------------- */

/* Workers number their connections each for itself: only all of the id is unique. */
static struct binding *flow_first(const struct registrar *r, struct flow_id flow)
{
    uint32_t cursor = MAP_END, slot;
    while ((slot = map_find(&r->by_flow, registrar__flow_hash(flow.gen), &cursor)) != MAP_END) {
        struct binding *b = registrar__binding(r, slot);
        if (flow_id_equal(b->flow, flow))
            return b;
    }
    return NULL;
}

static bool has_flow(const struct binding *b)
{
    return (b->bits & BIND_DIRECT) && b->flow.gen != 0 && b->flow.gen != REG_FLOW_LOST_GEN;
}

static void flow_link(struct registrar *r, struct binding *b)
{
    b->flow_prev = b->flow_next = REG_SLOT_NONE;
    if (!has_flow(b))
        return;
    uint32_t slot = registrar__binding_slot(r, b);
    struct binding *first = flow_first(r, b->flow);
    if (first == NULL) {
        MUST(map_add(&r->by_flow, registrar__flow_hash(b->flow.gen), slot) == 0);
        return;
    }
    /* Behind the first: the map stays as it is. */
    b->flow_prev = registrar__binding_slot(r, first);
    b->flow_next = first->flow_next;
    if (b->flow_next != REG_SLOT_NONE)
        registrar__binding(r, b->flow_next)->flow_prev = slot;
    first->flow_next = slot;
}

static void flow_unlink(struct registrar *r, struct binding *b)
{
    if (!has_flow(b))
        return;
    uint64_t hash = registrar__flow_hash(b->flow.gen);
    struct binding *next = registrar__binding(r, b->flow_next);
    struct binding *prev = registrar__binding(r, b->flow_prev);
    if (next != NULL)
        next->flow_prev = b->flow_prev;
    if (prev != NULL) {
        prev->flow_next = b->flow_next;
        return;
    }
    (void)map_remove(&r->by_flow, hash, registrar__binding_slot(r, b));
    if (next != NULL)
        MUST(map_add(&r->by_flow, hash, b->flow_next) == 0);
}

static void aor_link(struct registrar *r, struct aor *a, struct binding *b)
{
    if (a->count == 0) {
        idle_unlink(r, a);
        r->aors_live++;
    }
    b->aor = aor_slot(r, a);
    b->next = a->first;
    a->first = registrar__binding_slot(r, b);
    a->count++;
}

static void aor_unlink(struct registrar *r, struct binding *b)
{
    struct aor *a = registrar__aor(r, b->aor);
    uint32_t slot = registrar__binding_slot(r, b);
    uint32_t *at = &a->first;
    while (*at != slot)
        at = &registrar__binding(r, *at)->next;
    *at = b->next;
    if (--a->count == 0) {
        r->aors_live--;
        idle_link(r, a);
    }
}

void registrar__binding_drop(struct registrar *r, struct binding *b)
{
    wheel_disarm(&r->wheel, &b->timer);
    flow_unlink(r, b);
    aor_unlink(r, b);
    registrar__texts_release(&r->texts, (struct text_ref){b->block, b->class});
    slab_release(&r->bindings, b);
}

/* A slot that is linked nowhere yet. */
static struct binding *binding_take(struct registrar *r)
{
    handle h;
    struct binding *b = slab_take(&r->bindings, &h);
    if (b != NULL)
        b->timer.at = MONO_NONE;
    return b;
}

static bool same_way(const struct registrar *r, const struct binding *b,
                     const struct binding_facts *f)
{
    return flow_id_equal(b->flow, f->flow) && addr_equal(&b->source, &f->source) &&
           b->listener == f->listener && slice_equal(registrar__contact(r, b), f->contact) &&
           slice_equal(registrar__path(r, b), f->path);
}

static void binding_fill(struct registrar *r, struct binding *b, const struct binding_facts *f,
                         struct text_ref text)
{
    b->block = text.block;
    b->class = text.class;
    b->contact_n = (uint16_t)f->contact.n;
    b->instance_n = (uint8_t)f->instance.n;
    b->path_n = (uint16_t)f->path.n;
    b->call_id = f->call_id;
    b->flow = f->flow;
    b->source = f->source;
    b->cseq = f->cseq;
    b->reg_id = f->reg_id;
    b->since_s = f->since_s;
    b->q = f->q;
    b->transport = f->transport;
    b->listener = f->listener;
    b->bits = f->bits;
    flow_link(r, b);
}

static void binding_name(struct registrar *r, struct binding *b)
{
    b->id = ++r->serial << REG_SLOT_BITS | registrar__binding_slot(r, b);
}

/* Nothing but its time, as most refreshes. */
static bool is_refresh(const struct registrar *r, const struct binding *b,
                       const struct binding_facts *f)
{
    return same_way(r, b, f) && slice_equal(registrar__instance(r, b), f->instance) &&
           b->bits == f->bits;
}

static bool binding_change(struct registrar *r, struct binding *b, const struct binding_facts *f)
{
    if (is_refresh(r, b, f)) {
        b->call_id = f->call_id;
        b->cseq = f->cseq;
        b->q = f->q;
        return true;
    }
    struct slice parts[] = {f->contact, f->instance, f->path};
    struct text_ref old = {b->block, b->class}, text;
    bool is_same = same_way(r, b, f);
    if (registrar__texts_keep(&r->texts, parts, 3, &text) != 0)
        return false;
    registrar__texts_release(&r->texts, old);
    flow_unlink(r, b);
    binding_fill(r, b, f, text);
    if (!is_same)
        binding_name(r, b);
    return true;
}

bool registrar__binding_put(struct registrar *r, struct aor *a, struct binding *old,
                            const struct binding_facts *f, mono_ns at)
{
    if (old != NULL) {
        if (binding_change(r, old, f)) {
            wheel_arm(&r->wheel, &old->timer, at);
            return true;
        }
        registrar__binding_drop(r, old);
    }
    struct slice parts[] = {f->contact, f->instance, f->path};
    struct text_ref text;
    if (registrar__texts_keep(&r->texts, parts, 3, &text) != 0)
        return false;
    struct binding *b = binding_take(r);
    if (b == NULL) {
        registrar__texts_release(&r->texts, text);
        return false;
    }
    binding_fill(r, b, f, text);
    binding_name(r, b);
    aor_link(r, a, b);
    wheel_arm(&r->wheel, &b->timer, at);
    return true;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static bool has_room_for_end(const struct text *records)
{
    return records->n <= records->cap && records->cap - records->n >= RECORD_DELETE_BYTES_MAX;
}

/* Over at once for everybody who looks; without room for its record, that is written when it
 * expires, which is now. */
static void binding_end(struct registrar *r, struct binding *b, bool is_ordered,
                        struct text *records)
{
    if (has_room_for_end(records)) {
        if (is_ordered || !registrar__pending(r, registrar__aor(r, b->aor)->hash))
            registrar__record_end(r, records, b);
        registrar__binding_drop(r, b);
        return;
    }
    flow_unlink(r, b);
    b->flow = (struct flow_id){.gen = REG_FLOW_LOST_GEN};
    b->flow_prev = b->flow_next = REG_SLOT_NONE;
    wheel_arm(&r->wheel, &b->timer, 0);
}

void registrar_flow_gone(struct registrar *r, struct flow_id flow, struct text *records)
{
    if (flow.gen == 0)
        return;
    struct binding *b;
    while ((b = flow_first(r, flow)) != NULL)
        binding_end(r, b, false, records);
}

void registrar_binding_gone(struct registrar *r, uint64_t binding, struct text *records)
{
    struct binding *b = registrar__binding(r, (uint32_t)(binding & ((1u << REG_SLOT_BITS) - 1)));
    if (b != NULL && b->id == binding)
        binding_end(r, b, false, records);
}

void registrar_expire(struct registrar *r, mono_ns now, struct text *records)
{
    r->now = now;
    while (has_room_for_end(records)) {
        struct wheel_node *n = wheel_expire(&r->wheel, now);
        if (n == NULL)
            return;
        binding_end(r, (struct binding *)n, false, records);
    }
}

unsigned registrar_remove(struct registrar *r, struct slice aor, struct text *records)
{
    struct aor *a = registrar__aor_find(r, aor);
    unsigned count = 0;
    if (a == NULL)
        return 0;
    for (uint32_t slot = a->first; slot != REG_SLOT_NONE; count++) {
        struct binding *b = registrar__binding(r, slot);
        slot = b->next;
        binding_end(r, b, true, records);
    }
    return count;
}

mono_ns registrar_deadline(const struct registrar *r)
{
    return wheel_deadline(&r->wheel);
}
