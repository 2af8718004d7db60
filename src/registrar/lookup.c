/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an AOR leads to.
 *
 *   phone    q      ways, newest first
 *   A       900     reg-id 2, reg-id 1        <- both flows of one phone: they count as its best q
 *   B       500     a contact without instance
 */
#include "registrar/registrar_int.h"

/* A way, and what it is sorted by. */
struct way {
    const struct binding *b;
    uint32_t phone;
    uint16_t phone_q;
    uint64_t phone_newest;
};

/* Is it what gr= of the Request-URI names? RFC 5627 3.2, 5.1. */
static bool is_named(const struct registrar *r, const struct binding *b, struct slice gr)
{
    struct slice own = registrar__instance(r, b);
    if (own.n > 2 && own.p[0] == '<')
        own = (struct slice){own.p + 1, own.n - 2};
    if (own.n == 0)
        return false;
    /* As parameters of two URIs: escapes and case do not count. */
    char bytes[REG_INSTANCE_BYTES_MAX * 3 + 8];
    struct text t = text_into(bytes, sizeof bytes);
    registrar__put_gr(&t, own);
    struct sip_uri a = {.params = text_slice(&t)};
    struct sip_uri other = {.params = gr};
    return registrar__uri_equal(&a, &other);
}

static unsigned gather(const struct registrar *r, const struct aor *a, struct slice gr, mono_ns now,
                       struct way *ways)
{
    unsigned n = 0;
    for (uint32_t slot = a->first; slot != REG_SLOT_NONE && n < REG_AOR_BINDINGS_MAX;) {
        const struct binding *b = registrar__binding(r, slot);
        slot = b->next;
        if (b->timer.at > now && (gr.n == 0 || is_named(r, b, gr)))
            ways[n++] = (struct way){.b = b};
    }
    return n;
}

static bool is_same_phone(const struct registrar *r, const struct binding *a,
                          const struct binding *b)
{
    return registrar__instance_equal(registrar__instance(r, a), registrar__instance(r, b));
}

/* Numbers the phones, and gives each of their ways the phone's best q. */
static void find_phones(const struct registrar *r, struct way *ways, unsigned n)
{
    bool is_flat = r->opts->fork == REGISTRAR_FORK_PARALLEL;
    for (unsigned i = 0; i < n; i++) {
        ways[i].phone = i;
        ways[i].phone_q = 0;
        for (unsigned k = 0; k < i; k++)
            if (is_same_phone(r, ways[k].b, ways[i].b)) {
                ways[i].phone = ways[k].phone;
                break;
            }
    }
    for (unsigned i = 0; i < n; i++) {
        struct way *phone = &ways[ways[i].phone];
        uint16_t q = is_flat ? 1000 : ways[i].b->q;
        if (q > phone->phone_q)
            phone->phone_q = q;
        if (ways[i].b->id > phone->phone_newest)
            phone->phone_newest = ways[i].b->id;
    }
    for (unsigned i = 0; i < n; i++) {
        ways[i].phone_q = ways[ways[i].phone].phone_q;
        ways[i].phone_newest = ways[ways[i].phone].phone_newest;
    }
}

static bool is_before(const struct way *a, const struct way *b)
{
    if (a->phone_q != b->phone_q)
        return a->phone_q > b->phone_q;
    if (a->phone != b->phone)
        return a->phone_newest > b->phone_newest;
    return a->b->id > b->b->id;
}

static void sort(struct way *ways, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        struct way w = ways[i];
        unsigned k = i;
        for (; k > 0 && is_before(&w, &ways[k - 1]); k--)
            ways[k] = ways[k - 1];
        ways[k] = w;
    }
}

static struct reg_target target_of(const struct registrar *r, const struct way *w)
{
    const struct binding *b = w->b;
    return (struct reg_target){
        .binding = b->id,
        .phone = w->phone,
        .q = w->phone_q,
        .direct = (b->bits & BIND_DIRECT) != 0,
        .contact = registrar__contact(r, b),
        .path = registrar__path(r, b),
        .flow = b->flow,
        .source = b->source,
        .transport = b->transport,
        .listener = b->listener,
    };
}

unsigned registrar_lookup(struct registrar *r, struct slice aor, const struct sip_uri *uri,
                          mono_ns now, struct reg_target *ret, unsigned max, bool *ret_known)
{
    struct way ways[REG_AOR_BINDINGS_MAX];
    struct slice value, gr = SLICE_NONE;
    char bytes[16 + 3 * REGISTRAR_AOR_BYTES_MAX];
    const struct aor *a = registrar__aor_find(r, aor);
    *ret_known = a != NULL || registrar__user_known(r, aor);
    if (a == NULL)
        return 0;
    if (uri != NULL && sip_uri_param(uri->params, SLICE("gr"), &value)) {
        struct text t = text_into(bytes, sizeof bytes);
        TEXT_LIT(&t, ";gr=");
        text_put(&t, value);
        if (!text_fits(&t))
            return 0;
        gr = text_slice(&t);
    }
    unsigned n = gather(r, a, gr, now, ways);
    find_phones(r, ways, n);
    sort(ways, n);
    if (n > max)
        n = max;
    for (unsigned i = 0; i < n; i++)
        ret[i] = target_of(r, &ways[i]);
    return n;
}
