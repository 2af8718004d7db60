/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator sees of the guard, as rows of JSON lines: one of totals, the lists, then sources
 * and prefixes of note. The cursor is the number of the next row: 1 + items of the lists + places
 * of the table. A page looks at so many places at most; it may be empty with more to come. */
#include "guard/guard_int.h"

enum { ROW_BYTES = 1024, PLACES_A_PAGE = 65536, BUSIEST = 32, ALIKE = 1024 };

static void put_prefix(struct text *t, const char *name, const struct prefix *p)
{
    char bytes[ADDR_TEXT_MAX];
    struct text host = text_into(bytes, sizeof bytes);
    addr_put_host(&host, &p->net);
    struct slice s = text_slice(&host);
    if (s.n > 2 && s.p[0] == '[')
        s = slice_of(s.p + 1, s.n - 2);
    json_key(t, name);
    text_put_char(t, '"');
    text_put(t, s);
    text_put_char(t, '/');
    text_put_u64(t, p->bits);
    text_put_char(t, '"');
}

static void put_shed(struct text *t, const struct guard_counters *c)
{
    static const char *const names[CLASSES] = {"probes",    "calls",    "registers", "refreshes",
                                               "in_dialog", "finishes", "emergency"};
    json_key(t, "shed");
    text_put_char(t, '{');
    for (unsigned i = 0; i < CLASSES; i++)
        json_u64(t, names[i], c->shed[i]);
    text_put_char(t, '}');
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void totals_row(const struct guard *g, struct text *t)
{
    const struct guard_counters *c = &g->count;
    text_put_char(t, '{');
    json_text(t, "row", SLICE("totals"));
    json_bool(t, "report_only", g->opts->report_only);
    json_u64(t, "connections", g->door.connections);
    json_u64(t, "connections_max", g->door.connections_max);
    json_u64(t, "let_in", c->refused[GUARD_FINE]);
    json_key(t, "refused");
    text_put_char(t, '{');
    for (unsigned i = GUARD_FINE + 1; i < GUARD_WHYS; i++)
        json_u64(t, guard_why_name((enum guard_why)i).p, c->refused[i]);
    text_put_char(t, '}');
    json_key(t, "over");
    text_put_char(t, '{');
    for (unsigned i = 0; i < GUARD_WHATS; i++)
        json_u64(t, guard_what_name((enum guard_what)i).p, c->over[i]);
    text_put_char(t, '}');
    json_u64(t, "bans", c->bans);
    json_u64(t, "sources", g->sources.used);
    json_u64(t, "sources_max", (uint64_t)g->sources.sets * SOURCE_WAYS);
    json_u64(t, "sources_forgotten", c->sources_forgotten);
    json_u64(t, "delay_us", guard_delay(g) / NS_US);
    json_u64(t, "shed_permille", guard_shed_permille(g));
    put_shed(t, c);
    json_u64(t, "aged", c->aged);
    TEXT_LIT(t, "}\n");
}

static void list_row(const struct list_item *item, struct text *t, mono_ns now)
{
    text_put_char(t, '{');
    json_text(t, "row", SLICE("list"));
    json_text(t, "list", item->deny ? SLICE("deny") : SLICE("allow"));
    put_prefix(t, "prefix", &item->at);
    if (item->until != MONO_NONE)
        json_u64(t, "for_s", mono_since(item->until, now) / NS_S);
    if (item->deny)
        json_u64(t, "refused", item->refused);
    TEXT_LIT(t, "}\n");
}

static void source_row(const struct guard *g, const struct source *x, struct text *t, mono_ns now)
{
    struct prefix p = source__prefix(g, x);
    bool host = p.bits == 32 || p.bits == 64;
    text_put_char(t, '{');
    json_text(t, "row", host ? SLICE("source") : SLICE("prefix"));
    put_prefix(t, "prefix", &p);
    json_u64(t, "connections", x->connections);
    json_u64(t, "refused", x->refused);
    if (host)
        json_bool(t, "known", source__is_known(g, x, now));
    if (source__is_banned(g, x, false, now)) {
        uint64_t ticks = x->ban_ends - source__tick(g, now);
        json_u64(t, "banned_for_ms", (ticks << SOURCE_TICK_SHIFT) / NS_MS);
        json_u64(t, "ban_level", x->ban_level);
        json_bool(t, "proven", source__is_banned(g, x, true, now));
        json_u64(t, "persistence", x->persistence);
    }
    TEXT_LIT(t, "}\n");
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* From how many connections on it is one of the busiest, of addresses or of prefixes: about 32; but
 * of many that are alike at the top, up to 1,024. */
static uint32_t busy_from(const struct sources *s, bool net)
{
    uint64_t above = 0;
    for (unsigned i = SOURCE_BUSY - 1; i > 1; i--) {
        uint32_t here = s->busy[net][i];
        if (above + here > (above == 0 ? ALIKE : BUSIEST))
            return i < 32 ? 1U << i : UINT32_MAX;
        above += here;
    }
    return 2;
}

static bool is_of_note(const struct guard *g, const struct source *x, const uint32_t busy[2],
                       mono_ns now)
{
    enum source_kind kind = source__kind(g, x);
    if (kind == SOURCE_NONE)
        return false;
    bool net = kind == SOURCE_NET4 || kind == SOURCE_NET6;
    return x->refused > 0 || x->connections >= busy[net] || source__is_banned(g, x, false, now);
}

static uint64_t show_sources(const struct guard *g, uint64_t at, struct text *t, mono_ns now)
{
    const struct sources *s = &g->sources;
    uint64_t places = (uint64_t)s->sets * SOURCE_WAYS;
    uint64_t end = places - at > PLACES_A_PAGE ? at + PLACES_A_PAGE : places;
    uint32_t busy[2] = {busy_from(s, false), busy_from(s, true)};
    for (; at < end; at++) {
        if (!is_of_note(g, &s->all[at], busy, now))
            continue;
        if (t->n + ROW_BYTES > t->cap)
            break;
        source_row(g, &s->all[at], t, now);
    }
    return at;
}

void guard_show(struct guard *g, uint64_t *cursor, struct text *t, mono_ns now)
{
    const struct list *l = &g->lists.operators;
    uint64_t at = *cursor;
    if (at == 0 && t->n + ROW_BYTES <= t->cap) {
        totals_row(g, t);
        at = 1;
    }
    for (; at >= 1 && at <= l->count && t->n + ROW_BYTES <= t->cap; at++)
        if (l->item[at - 1].until > now)
            list_row(&l->item[at - 1], t, now);
    uint64_t first = 1 + (uint64_t)LIST_ITEMS_MAX, places = (uint64_t)g->sources.sets * SOURCE_WAYS;
    if (at > l->count && at < first)
        at = first;
    if (at >= first && at - first < places)
        at = first + show_sources(g, at - first, t, now);
    *cursor = at >= first && at - first >= places ? 0 : at;
}
