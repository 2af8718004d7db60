/* SPDX-License-Identifier: Apache-2.0
 *
 * Prefixes that an operator allows or denies while the process runs, and those that are exempt by
 * configuration: see guard.h. Both have the same form:
 *
 *      lengths: /8 /24 /32 ── longest first ──▶ cell[hash(address cut to it)] ──▶ item, or go on
 *
 * so that a lookup costs by how many lengths there are, not by how many prefixes. */
#include "guard/guard_int.h"

/* ---- the form -------------------------------------------------------------------------------- */

static struct addr cut(const struct addr *a, unsigned bits)
{
    struct addr out = {.family = a->family};
    memcpy(out.ip, a->ip, bits / 8);
    if (bits % 8 != 0)
        out.ip[bits / 8] = (uint8_t)(a->ip[bits / 8] & (0xff00u >> bits % 8));
    return out;
}

/* What stands in the cells is an operator's choice: nobody else can make them collide. */
static uint32_t cell_of(const struct addr *net, unsigned bits)
{
    uint64_t high, low;
    memcpy(&high, net->ip, 8);
    memcpy(&low, net->ip + 8, 8);
    uint64_t h = (high * 0x9e3779b97f4a7c15ULL) ^ (low + bits) * 0xbf58476d1ce4e5b9ULL;
    h ^= h >> 31;
    h *= 0x94d049bb133111ebULL;
    return (uint32_t)(h >> 40) % LIST_CELLS;
}

static uint64_t *lengths_of(struct list *l, const struct addr *a)
{
    return l->lengths[a->family == 6];
}

static struct list_item *exact(struct list *l, const struct addr *net, unsigned bits)
{
    for (uint32_t at = cell_of(net, bits); l->cell[at] != 0; at = (at + 1) % LIST_CELLS) {
        struct list_item *item = &l->item[l->cell[at] - 1];
        if (item->at.bits == bits && addr_same_host(&item->at.net, net))
            return item;
    }
    return NULL;
}

/* The longest prefix that holds it and is in force. */
static struct list_item *longest(struct list *l, const struct addr *a, mono_ns now)
{
    if (l->count == 0 || (a->family != 4 && a->family != 6))
        return NULL;
    const uint64_t *lengths = lengths_of(l, a);
    for (unsigned word = 3; word-- > 0;) {
        for (uint64_t left = lengths[word]; left != 0;) {
            unsigned bit = 63 - (unsigned)__builtin_clzll(left);
            left &= ~(1ULL << bit);
            struct addr net = cut(a, word * 64 + bit);
            struct list_item *item = exact(l, &net, word * 64 + bit);
            if (item != NULL && item->until > now)
                return item;
        }
    }
    return NULL;
}

static void build(struct list *l)
{
    memset(l->cell, 0, sizeof l->cell);
    memset(l->lengths, 0, sizeof l->lengths);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct prefix *p = &l->item[i].at;
        uint32_t at = cell_of(&p->net, p->bits);
        while (l->cell[at] != 0)
            at = (at + 1) % LIST_CELLS;
        l->cell[at] = (uint16_t)(i + 1);
        lengths_of(l, &p->net)[p->bits / 64] |= 1ULL << p->bits % 64;
    }
}

/* ---- questions ------------------------------------------------------------------------------- */

enum list_word list__word(struct guard *g, const struct addr *a, mono_ns now)
{
    struct list_item *item = longest(&g->lists.operators, a, now);
    if (item == NULL)
        return longest(&g->lists.exempt, a, now) != NULL ? LIST_ALLOWS : LIST_SILENT;
    if (!item->deny)
        return LIST_ALLOWS;
    item->refused++;
    g->lists.persistent_version += item->refused == PERSISTENT_FROM;
    return LIST_DENIES;
}

void list__exempt(struct guard *g)
{
    struct list *l = &g->lists.exempt;
    MUST(g->opts->exempt_count <= GUARD_EXEMPT_MAX);
    l->count = 0;
    for (uint16_t i = 0; i < g->opts->exempt_count; i++) {
        struct prefix p = g->opts->exempt[i];
        p.net = cut(&p.net, p.bits);
        l->item[l->count++] = (struct list_item){.at = p, .until = MONO_NONE};
    }
    build(l);
}

/* ---- edits ----------------------------------------------------------------------------------- */

static struct slice next_word(struct slice *rest)
{
    *rest = slice_trim(*rest);
    size_t n = slice_find(*rest, ' ');
    struct slice word = slice_take(*rest, n);
    *rest = slice_drop(*rest, n);
    return word;
}

/* "30s", "10m", "2h", "7d". */
static int parse_span(struct slice s, dur_ns *ret_span)
{
    static const struct {
        char unit;
        uint32_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t count;
    if (s.n < 2 || text_parse_u64(slice_take(s, s.n - 1), 100000, &count) != 0 || count == 0)
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (s.p[s.n - 1] != units[i].unit)
            continue;
        *ret_span = count * units[i].seconds * NS_S;
        return 0;
    }
    return -1;
}

static void drop_item(struct list *l, uint32_t at)
{
    l->item[at] = l->item[--l->count];
}

/* Those whose time is over, and the one for `p` if there is one. */
static void clean(struct guard *g, const struct prefix *p, mono_ns now)
{
    struct list *l = &g->lists.operators;
    for (uint32_t i = l->count; i-- > 0;) {
        const struct list_item *item = &l->item[i];
        if (item->until <= now ||
            (item->at.bits == p->bits && addr_same_host(&item->at.net, &p->net)))
            drop_item(l, i);
    }
    build(l);
    g->lists.persistent_version++;
}

static int add(struct guard *g, const struct prefix *p, bool deny, mono_ns until, mono_ns now,
               struct slice *ret_why)
{
    struct list *l = &g->lists.operators;
    clean(g, p, now);
    if (l->count == LIST_ITEMS_MAX) {
        *ret_why = SLICE("the lists are full: 256 prefixes");
        return -1;
    }
    l->item[l->count++] = (struct list_item){.at = *p, .until = until, .deny = deny};
    build(l);
    return 0;
}

int guard_edit(struct guard *g, struct slice order, mono_ns now, struct slice *ret_why)
{
    struct slice verb = next_word(&order), where = next_word(&order), word = next_word(&order);
    bool deny = slice_equal(verb, SLICE("deny")), forget = slice_equal(verb, SLICE("forget"));
    struct prefix p;
    dur_ns span = 0;
    if (!deny && !forget && !slice_equal(verb, SLICE("allow"))) {
        *ret_why = SLICE("allow PREFIX, deny PREFIX or forget PREFIX");
        return -1;
    }
    if (prefix_parse(where, &p) != 0) {
        *ret_why = SLICE("that is no prefix: 192.0.2.7, 192.0.2.0/24, 2001:db8::/32");
        return -1;
    }
    if (word.n > 0 && (forget || !slice_equal(word, SLICE("for")) ||
                       parse_span(next_word(&order), &span) != 0 || slice_trim(order).n > 0)) {
        *ret_why = SLICE("behind the prefix stands nothing, or: for 30s, for 10m, for 2h, for 7d");
        return -1;
    }
    if (!forget)
        return add(g, &p, deny, span > 0 ? mono_add(now, span) : MONO_NONE, now, ret_why);
    clean(g, &p, now);
    source__forget(g, &p);
    source__review(g, now);
    return 0;
}
