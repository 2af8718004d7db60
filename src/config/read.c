/* SPDX-License-Identifier: Apache-2.0
 *
 * The schema's tables applied to a tree: unknown keys, missing keys, wrong shapes, defaults. */
#include "config/config_int.h"

static const char *kind_name(const struct node *n)
{
    switch (n->kind) {
    case NODE_LIST:
        return "a list";
    case NODE_MAP:
        return "a mapping";
    default:
        return "a single value";
    }
}

static void *at_offset(void *record, size_t offset)
{
    return (char *)record + offset;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void report_unknown_key(struct report *r, const struct schema *s, const struct node *n)
{
    struct guess g = guess_begin(n->key);
    char room[512];
    struct text all = text_into(room, sizeof room);
    for (unsigned i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->type == V_LATER)
            continue;
        guess_try(&g, slice_cstr(f->key));
        text_put(&all, all.n == 0 ? SLICE("") : SLICE(", "));
        text_put(&all, slice_cstr(f->key));
    }
    const char *key = report_show(r, n->key);
    if (guess_found(&g))
        report_at(r, n->key_at, "`%s` is not a key of %s; did you mean `%.*s`?", key, s->what,
                  SLICE_ARG(g.best));
    else
        report_at(r, n->key_at, "`%s` is not a key of %s; there are %.*s", key, s->what,
                  SLICE_ARG(text_slice(&all)));
}

static void check_keys(struct report *r, const struct schema *s, const struct node *map)
{
    for (const struct node *n = map->first; n != NULL; n = n->next) {
        const struct field *f = NULL;
        for (unsigned i = 0; i < s->count && f == NULL; i++)
            if (slice_equal(n->key, slice_cstr(s->fields[i].key)))
                f = &s->fields[i];
        if (f == NULL)
            report_unknown_key(r, s, n);
        else if (f->type == V_LATER)
            report_at(r, n->key_at, "`%s` is not in this version: it %s", f->key, f->help);
    }
}

/* What would be right, for a value of the wrong shape. */
static const char *shape_of(const struct field *f)
{
    switch (f->type) {
    case V_LIST:
        return "a list: [ITEM, ITEM]";
    case V_MAP:
        return f->zero != NULL ? "a mapping, {KEY: VALUE}, or " : "a mapping: {KEY: VALUE}";
    case V_NAMED:
        return "a mapping: {NAME: {KEY: VALUE}}";
    default:
        return "a single value";
    }
}

static void report_shape(struct report *r, const struct field *f, const struct node *n)
{
    const char *or_word = f->type == V_MAP && f->zero != NULL ? f->zero : "";
    if (node_is_null(n))
        report_at(r, n->at, "`%s` has no value; write %s%s", f->key, shape_of(f), or_word);
    else
        report_at(r, n->at, "`%s` is %s; write %s%s", f->key, kind_name(n), shape_of(f), or_word);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void read_item(struct report *r, const struct field *item, const struct node *n, void *at)
{
    if (item->type == V_MAP)
        schema_read(r, item->sub, n, at);
    else if (n->kind == NODE_BAD)
        return;
    else if (n->kind != NODE_SCALAR || node_is_null(n))
        report_shape(r, item, n);
    else
        (void)value_read(r, item, n, at);
}

/* A name stands in the key's place, and is read by the rules of names. */
static void read_item_name(struct report *r, const struct schema *s, const struct node *n, void *at)
{
    static const struct field name = {.key = "name", .type = V_NAME, .size = sizeof(struct slice)};
    struct node key = {.kind = NODE_SCALAR, .at = n->key_at, .text = n->key};
    (void)value_read(r, &name, &key, at_offset(at, s->name_offset));
}

static void read_list(struct report *r, const struct field *f, const struct node *n, void *record)
{
    const struct field *item = f->item;
    size_t size = item->type == V_MAP ? item->sub->size : item->size;
    if (n->count < f->min) {
        report_at(r, n->at, "`%s` is empty; at least one %s is needed", f->key, item->key);
        return;
    }
    if (n->count > f->max) {
        report_at(r, n->at, "`%s` has %u entries; at most %llu are taken", f->key, n->count,
                  (unsigned long long)f->max);
        return;
    }
    struct list list = {mem_take(r->mem, size * n->count), n->count};
    if (list.items == NULL)
        return;
    char *at = (char *)list.items;
    for (const struct node *child = n->first; child != NULL; child = child->next, at += size) {
        read_item(r, item, child, at);
        if (f->type == V_NAMED)
            read_item_name(r, item->sub, child, at);
    }
    memcpy(at_offset(record, f->offset), &list, sizeof list);
}

/* ---- defaults -------------------------------------------------------------------------------- */

/* "[408, 503]" or "2s" as nodes, so that a default takes the same way as the file. */
static const struct node *standard_node(struct report *r, const struct field *f, struct place at)
{
    struct node *n = MEM_NEW(r->mem, struct node);
    if (n == NULL)
        return NULL;
    struct slice s = slice_cstr(f->standard);
    *n = (struct node){.kind = NODE_SCALAR, .at = at, .text = s};
    if (f->type != V_LIST)
        return n;
    n->kind = NODE_LIST;
    s = slice_of(s.p + 1, s.n - 2);
    while (s.n > 0) {
        size_t comma = slice_find(s, ',');
        struct node *child = MEM_NEW(r->mem, struct node);
        if (child == NULL)
            return NULL;
        *child =
            (struct node){.kind = NODE_SCALAR, .at = at, .text = slice_trim(slice_take(s, comma))};
        if (n->last != NULL)
            n->last->next = child;
        else
            n->first = child;
        n->last = child;
        n->count++;
        s = slice_drop(s, comma + 1);
    }
    return n;
}

/* ---- one field, all fields ------------------------------------------------------------------- */

static void read_map(struct report *r, const struct field *f, const struct node *n, void *record)
{
    bool on = true;
    if (f->zero != NULL) {
        on = n->kind != NODE_SCALAR || !slice_equal(n->text, slice_cstr(f->zero));
        memcpy(at_offset(record, f->offset), &on, sizeof on);
    } else if ((f->flags & F_ABSENT) != 0) {
        memcpy(at_offset(record, f->offset), &on, sizeof on);
    }
    if (on && n->kind != NODE_MAP)
        report_shape(r, f, n);
    else
        schema_read(r, f->sub, n, record);
}

static void read_field(struct report *r, const struct field *f, const struct node *n, void *record)
{
    switch (f->type) {
    case V_MAP:
        read_map(r, f, n, record);
        break;
    case V_LIST:
    case V_NAMED:
        if (n->kind == (f->type == V_LIST ? NODE_LIST : NODE_MAP))
            read_list(r, f, n, record);
        else
            report_shape(r, f, n);
        break;
    default:
        if (n->kind == NODE_SCALAR && !node_is_null(n))
            (void)value_read(r, f, n, at_offset(record, f->offset));
        else
            report_shape(r, f, n);
    }
}

static void read_default(struct report *r, const struct schema *s, const struct field *f,
                         const struct node *map, void *record)
{
    if ((f->flags & F_ABSENT) != 0)
        return;
    if ((f->flags & F_REQUIRED) != 0) {
        report_at(r, map->at, "%s has no `%s`; add %s: %s", s->what, f->key, f->key, f->example);
        return;
    }
    if (f->type == V_MAP) {
        static const struct node empty = {.kind = NODE_MAP};
        struct node here = empty;
        here.at = map->at;
        read_map(r, f, &here, record);
        return;
    }
    if (f->standard == NULL || (f->flags & F_DERIVED) != 0)
        return;
    const struct node *n = standard_node(r, f, map->at);
    if (n != NULL)
        read_field(r, f, n, record);
}

void schema_read(struct report *r, const struct schema *s, const struct node *n, void *record)
{
    struct head *head = s->size > 0 ? (struct head *)record : NULL;
    uint32_t errors_before = r->count;
    if (head != NULL)
        *head = (struct head){n, true};
    if (n->kind == NODE_BAD)
        return;
    struct node wrapped = *n, only;
    if (n->kind == NODE_SCALAR && s->shorthand != NULL && !node_is_null(n)) {
        only = *n;
        only.key = slice_cstr(s->shorthand);
        only.next = NULL;
        wrapped.kind = NODE_MAP;
        wrapped.first = wrapped.last = &only;
        wrapped.count = 1;
        n = &wrapped;
    }
    /* A mapping that is switched off keeps its defaults. */
    bool off = n->kind == NODE_SCALAR && s->size == 0;
    if (n->kind != NODE_MAP && !off) {
        report_at(r, n->at, "%s is a mapping: {KEY: VALUE}; this is %s", s->what,
                  node_is_null(n) ? "nothing" : kind_name(n));
        return;
    }
    if (!off)
        check_keys(r, s, n);
    bool bad = false;
    for (unsigned i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->type == V_LATER)
            continue;
        const struct node *value = off ? NULL : node_get(n, f->key);
        if (off && (f->flags & F_REQUIRED) != 0)
            continue;
        if (value == NULL)
            read_default(r, s, f, n, record);
        else if (value->kind != NODE_BAD)
            read_field(r, f, value, record);
        else if (head != NULL)
            bad = true;
    }
    if (head != NULL)
        head->broken = bad || r->count != errors_before;
}
