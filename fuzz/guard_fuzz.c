/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a program for the guard's door: connections that come and go, charges, questions, edits
 * of an operator, new options, a clock that jumps; a few sources in a table that is too small for
 * them, beside a model that is too simple to be wrong. No count is above what is true or below 0,
 * who is connected or banned is not forgotten, report-only refuses nobody, rows fit their page. */
#include "guard/guard_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SOURCES = 32, STEPS_MAX = 3000, OPEN_MAX = 255 };

struct play {
    const uint8_t *data;
    size_t size, at;
    struct guard *g;
    struct guard_opts opts[2];
    unsigned current;
    struct prefix exempt[2];
    mono_ns now;
    uint32_t open[SOURCES];
    uint32_t kept[SOURCES];     /* connections that its place in the table had */
    uint32_t ban_ends[SOURCES]; /* tick, of a ban that is proven */
};

static _Alignas(64) char memory[2 << 20];

static uint8_t byte(struct play *g)
{
    return g->at < g->size ? g->data[g->at++] : 0;
}

/* Eight in each of two /24 and two /48. */
static struct addr source(unsigned i)
{
    struct addr a = {.port = 5060, .family = i & 16 ? 6 : 4};
    static const uint8_t ip4[4] = {192, 0, 2, 0}, ip6[4] = {0x20, 0x01, 0x0d, 0xb8};
    memcpy(a.ip, i & 16 ? ip6 : ip4, 4);
    a.ip[i & 16 ? 5 : 2] = (uint8_t)(i & 8);
    a.ip[i & 16 ? 7 : 3] = (uint8_t)(i & 7);
    return a;
}

/* ---- what must hold -------------------------------------------------------------------------- */

static void check_table(struct play *g)
{
    const struct sources *s = &g->g->sources;
    uint32_t used = 0, busy = 0, connected = 0;
    for (uint32_t i = 0; i < s->sets * SOURCE_WAYS; i++) {
        enum source_kind kind = source__kind(g->g, &s->all[i]);
        MUST(kind <= SOURCE_NET6);
        used += kind != SOURCE_NONE;
        connected += kind != SOURCE_NONE && s->all[i].connections > 0;
    }
    for (unsigned i = 0; i < SOURCE_BUSY; i++)
        busy += s->busy[0][i] + s->busy[1][i];
    MUST(used == s->used && busy == connected);
    MUST(s->persistent_count <= PERSISTENT_MAX);
    MUST(g->g->lists.operators.count <= LIST_ITEMS_MAX);
}

static void check_sources(struct play *g)
{
    uint32_t tick = source__tick(g->g, g->now), all = 0;
    for (unsigned i = 0; i < SOURCES; i++) {
        struct addr a = source(i);
        const struct source *x = source__find(g->g, &a).self;
        all += g->open[i];
        MUST((x != NULL ? x->connections : 0) <= g->open[i]);
        MUST(g->kept[i] == 0 || (x != NULL && x->connections == g->kept[i]));
        MUST(g->ban_ends[i] <= tick || (x != NULL && source__is_banned(g->g, x, true, g->now)));
    }
    MUST(g->g->door.connections == all);
}

/* Remembers what must not be forgotten. */
static void note(struct play *g, unsigned i)
{
    struct addr a = source(i);
    const struct source *x = source__find(g->g, &a).self;
    g->kept[i] = x != NULL ? x->connections : 0;
    bool banned = x != NULL && source__is_banned(g->g, x, true, g->now);
    g->ban_ends[i] = banned ? x->ban_ends : 0;
}

static void check_answer(const struct play *g, enum guard_why why)
{
    MUST((unsigned)why < GUARD_WHYS);
    MUST(!g->opts[g->current].report_only || why == GUARD_FINE || why == GUARD_DENIED);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void come(struct play *g, unsigned i)
{
    struct addr a = source(i);
    uint8_t tp = byte(g) % TP__COUNT;
    mono_ns at = guard_accept_at(g->g, tp, g->now);
    MUST(at >= g->now);
    if (g->open[i] == OPEN_MAX)
        return;
    enum guard_why why = guard_accept(g->g, tp, &a, g->now);
    check_answer(g, why);
    g->open[i] += why == GUARD_FINE;
}

static void go(struct play *g, unsigned i)
{
    struct addr a = source(i);
    if (g->open[i] == 0)
        return;
    guard_closed(g->g, &a);
    g->open[i]--;
}

static void charge(struct play *g, unsigned i)
{
    struct addr a = source(i);
    uint8_t how = byte(g);
    for (unsigned n = 1 + (how >> 4); n > 0; n--) {
        check_answer(g, guard_charge(g->g, &a, (enum guard_what)(how % GUARD_WHATS), (how & 8) != 0,
                                     g->now));
        check_answer(g, how & 8 ? guard_refused_connected(g->g, &a, g->now)
                                : guard_refused(g->g, &a, g->now));
    }
}

/* Text of the program's own, or a word and one of the sources. */
static void edit(struct play *g, unsigned i)
{
    static const struct slice verbs[] = {{"allow ", 6}, {"deny ", 5}, {"forget ", 7}, {"", 0}};
    char bytes[128];
    struct text t = text_into(bytes, sizeof bytes);
    uint8_t how = byte(g);
    text_put(&t, verbs[how & 3]);
    if (how & 4) {
        struct addr a = source(i);
        addr_put_host(&t, &a);
    } else {
        for (unsigned n = how >> 4; n > 0; n--)
            text_put_char(&t, (char)byte(g));
    }
    if (how & 8)
        TEXT_LIT(&t, " for 30s");
    struct slice why = SLICE_NONE;
    int err = guard_edit(g->g, text_slice(&t), g->now, &why);
    MUST((err == 0) == (why.n == 0));
    if ((how & 3) >= 2) /* forgotten is forgotten */
        for (unsigned k = 0; k < SOURCES; k++)
            note(g, k);
}

static void adopt(struct play *g)
{
    struct guard_opts *o = &g->opts[g->current ^ 1];
    uint8_t how = byte(g), what = byte(g);
    guard_opts_default(o);
    o->report_only = (how & 7) == 0;
    o->connections_max = how & 8 ? byte(g) : 0;
    o->per_source_max = how & 16 ? byte(g) % 8 : 0;
    o->per_prefix_max = how & 32 ? byte(g) % 16 : 0;
    for (unsigned i = 0; i < GUARD_WHATS; i++)
        o->per_source[i] = o->per_prefix[i] = (struct rate_opts){what % 8, what >> 4};
    o->accepts[TP_TCP] = (struct rate_opts){what % 4, what % 3};
    o->handshakes = o->accepts[TP_TCP];
    o->ban_first = how & 64 ? NS_S : 0;
    o->ban_decay = what & 1 ? 0 : 60 * NS_S;
    o->exempt = g->exempt;
    o->exempt_count = how >> 7;
    g->current ^= 1;
    guard_adopt(g->g, o);
}

static void look(struct play *g)
{
    static char page[2048];
    struct prefix out[8];
    uint64_t cursor = byte(g);
    struct text t = text_into(page, 1024 + 4 * (size_t)byte(g));
    guard_show(g->g, &cursor, &t, g->now);
    MUST(text_fits(&t));
    MUST(guard_persistent(g->g, out, 8, g->now) <= 8);
    mono_ns at = 0;
    MUST(guard_handshake(g->g, g->now, &at) || at > g->now);
}

static void step(struct play *g)
{
    static const dur_ns spans[8] = {
        0, NS_MS, 100 * NS_MS, NS_S, 11 * NS_S, 700 * NS_S, 90000 * NS_S, 40000000 * NS_S,
    };
    uint8_t op = byte(g);
    unsigned i = byte(g) % SOURCES;
    struct addr a = source(i);
    if (op < 80)
        come(g, i);
    else if (op < 130)
        go(g, i);
    else if (op < 190)
        charge(g, i);
    else if (op < 210)
        guard_known(g->g, &a, g->now);
    else if (op < 220)
        edit(g, i);
    else if (op < 230)
        look(g);
    else if (op < 240)
        adopt(g);
    else
        g->now = mono_add(g->now, spans[op % 8]);
    note(g, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play play;
    struct guard_limits l = {8};
    struct play *g = &play;
    memset(g, 0, sizeof *g);
    MUST(guard_memory(&l) <= sizeof memory);
    memset(memory, 0, guard_memory(&l) - sessions_memory());
    g->data = data;
    g->size = size;
    g->now = NS_S;
    MUST(prefix_parse(SLICE("192.0.2.0/29"), &g->exempt[0]) == 0);
    guard_opts_default(&g->opts[0]);
    struct arena mem = arena_over(memory, sizeof memory);
    g->g = guard_new(&mem, &g->opts[0], &l, 1, (struct hash_seed){1, 2}, 3, g->now);
    MUST(g->g != NULL);
    for (unsigned i = 0; i < STEPS_MAX && g->at < g->size; i++) {
        step(g);
        check_sources(g);
        check_table(g);
    }
    for (unsigned i = 0; i < SOURCES; i++)
        while (g->open[i] > 0)
            go(g, i);
    MUST(g->g->door.connections == 0);
    for (unsigned i = 0; i < g->g->sources.sets * SOURCE_WAYS; i++)
        MUST(g->g->sources.all[i].connections == 0);
    return 0;
}
