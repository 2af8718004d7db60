/* SPDX-License-Identifier: Apache-2.0
 *
 * Bindings as rows of JSON lines. A cursor is the place of the next row, counted from 1: a slot, or
 * with an AOR a step along its list. */
#include "registrar/registrar_int.h"

static void put_q(struct text *t, uint16_t q)
{
    json_key(t, "q");
    text_put_u64(t, q / 1000);
    text_put_char(t, '.');
    for (unsigned weight = 100; weight > 0; weight /= 10)
        text_put_char(t, (char)('0' + q % 1000 / weight % 10));
}

static void put_flow(struct text *t, const struct binding *b)
{
    if (b->flow.gen == 0)
        return;
    TEXT_LIT(t, ",\"flow\":\"");
    if (b->flow.gen == REG_FLOW_LOST_GEN) {
        TEXT_LIT(t, "lost\"");
        return;
    }
    text_put_u64(t, b->flow.worker);
    text_put_char(t, '/');
    text_put_u64(t, b->flow.slot);
    text_put_char(t, '/');
    text_put_u64(t, b->flow.gen);
    text_put_char(t, '"');
}

static void put_row(struct registrar *r, const struct binding *b, mono_ns now, struct text *t)
{
    struct slice instance = registrar__instance(r, b), path = registrar__path(r, b);
    text_put_char(t, '{');
    json_text(t, "aor", registrar__aor_name(r, registrar__aor(r, b->aor)));
    json_text(t, "contact", registrar__contact(r, b));
    if (instance.n > 0)
        json_text(t, "instance", instance);
    if (b->reg_id != 0)
        json_u64(t, "reg_id", b->reg_id);
    put_q(t, b->q);
    json_u64(t, "expires_s", mono_since(b->timer.at, now) / NS_S);
    json_u64(t, "since", b->since_s);
    json_bool(t, "direct", (b->bits & BIND_DIRECT) != 0);
    put_flow(t, b);
    json_addr(t, "source", &b->source);
    json_text(t, "transport", transport_name((enum transport)b->transport));
    if (path.n > 0)
        json_text(t, "path", path);
    TEXT_LIT(t, "}\n");
}

/* Whether it found room; a row that fills a page by itself is left out. */
static bool put_whole_row(struct registrar *r, const struct binding *b, mono_ns now, struct text *t)
{
    size_t at = t->n;
    if (b->timer.at <= now)
        return true;
    put_row(r, b, now, t);
    if (text_fits(t))
        return true;
    t->n = at;
    return at == 0;
}

static void show_one(struct registrar *r, struct slice aor, uint64_t *cursor, mono_ns now,
                     struct text *t)
{
    const struct aor *a = registrar__aor_find(r, aor);
    uint64_t at = 1;
    for (uint32_t slot = a != NULL ? a->first : REG_SLOT_NONE; slot != REG_SLOT_NONE; at++) {
        const struct binding *b = registrar__binding(r, slot);
        slot = b->next;
        if (at >= *cursor && !put_whole_row(r, b, now, t)) {
            *cursor = at;
            return;
        }
    }
    *cursor = 0;
}

void registrar_show(struct registrar *r, struct slice aor, uint64_t *cursor, mono_ns now,
                    struct text *t)
{
    if (aor.n > 0) {
        show_one(r, aor, cursor, now, t);
        return;
    }
    uint32_t slot = *cursor == 0 || *cursor > UINT32_MAX ? 0 : (uint32_t)*cursor - 1;
    const struct binding *b;
    while ((b = slab_next(&r->bindings, &slot)) != NULL) {
        if (put_whole_row(r, b, now, t))
            continue;
        *cursor = slot; /* slab_next() has gone one on: of this one, counted from 1 */
        return;
    }
    *cursor = 0;
}
