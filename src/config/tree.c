/* SPDX-License-Identifier: Apache-2.0
 *
 * YAML text -> tree. libyaml's events carry the place of every value, which its callers usually
 * throw away. Refused, because a configuration is easier to trust without them: anchors and aliases
 * (they also let a small file unfold into gigabytes), tags, more than one document, keys that are
 * not plain text. */
#include "config/config_int.h"

#include <stdlib.h>
#include <yaml.h>

struct builder {
    struct report *report;
    struct slice text;
    yaml_parser_t yaml;
    struct node *root;
    struct node *stack[DEPTH_MAX]; /* open lists and mappings, outermost first */
    unsigned depth;
    bool has_key; /* a key was read, its value comes next */
    struct slice key;
    struct place key_at;
    uint32_t nodes;
    size_t expanded_bytes;
};

static struct place place_of(yaml_mark_t mark)
{
    return (struct place){(uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

/* ---- ${NAME} --------------------------------------------------------------------------------- */

static bool is_env_letter(char c, bool first)
{
    return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (!first && c >= '0' && c <= '9');
}

static bool is_env_name(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_env_letter(s.p[i], i == 0))
            return false;
    return s.n > 0 && s.n <= ENV_NAME_BYTES_MAX;
}

/* The braces of ${NAME} mean something else to YAML, which would end a value of [ ] or { } at
 * them. While it reads, two characters of Unicode's private use area stand in their places: one
 * character each, like the braces, so that columns stay true. */
#define OPEN  "\xee\x80\x80" /* U+E000 */
#define CLOSE "\xee\x80\x81" /* U+E001 */
enum { MARK_BYTES = sizeof OPEN - 1 };

/* Next "${" or "$${" from `at` on, or s.n; as well with OPEN for the brace. */
static size_t find_marker(struct slice s, size_t at)
{
    for (; at + 1 < s.n; at++) {
        if (s.p[at] != '$')
            continue;
        struct slice rest = slice_drop(s, at + 1);
        if (rest.p[0] == '{' || slice_starts_with(rest, SLICE("${")) ||
            slice_starts_with(rest, SLICE(OPEN)))
            return at;
    }
    return s.n;
}

/* The text with the braces of every ${NAME} out of YAML's way. */
static struct slice hide_braces(struct mem *m, struct slice s)
{
    size_t count = 0;
    for (size_t at = 0; (at = find_marker(s, at)) < s.n; at += 2)
        count++;
    size_t cap = s.n + count * 2 * (MARK_BYTES - 1);
    char *p = count > 0 ? (char *)mem_take(m, cap) : NULL;
    if (p == NULL)
        return s;
    struct text t = text_into(p, cap);
    size_t from = 0, at = 0;
    while ((at = find_marker(s, at)) < s.n) {
        struct slice name = slice_take(slice_drop(s, at + 2), ENV_NAME_BYTES_MAX + 1);
        name = slice_take(name, slice_find(name, '}'));
        if (s.p[at + 1] == '{' && is_env_name(name) && at + 2 + name.n < s.n) {
            text_put(&t, slice_of(s.p + from, at + 1 - from));
            TEXT_LIT(&t, OPEN);
            text_put(&t, name);
            TEXT_LIT(&t, CLOSE);
            from = at + 2 + name.n + 1;
            at = from;
        } else {
            at += s.p[at + 1] == '$' ? 3 : 2;
        }
    }
    text_put(&t, slice_drop(s, from));
    return text_slice(&t);
}

/* How many characters the first n bytes hold. */
static uint32_t characters(struct slice s, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n && i < s.n; i++)
        count += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return count;
}

/* A "${" that hide_braces() left as it was; `name` is what follows. */
static void report_marker(struct report *r, struct place at, struct slice name)
{
    size_t end = slice_find(name, '}');
    if (end == name.n)
        report_at(r, at,
                  "`${` without its `}`; write ${NAME}, or $${ for the characters themselves");
    else
        report_at(r, at,
                  "`${%s}` names no environment variable; write ${NAME} with letters, digits and "
                  "_, or $${ for the characters themselves",
                  report_show(r, slice_take(name, end)));
}

/* The value of a variable; NULL is reported. */
static const char *env_value(struct report *r, struct slice name, struct place at)
{
    struct slice copy = mem_copy(r->mem, name); /* with the NUL that getenv wants */
    const char *value = getenv(copy.p);
    if (value == NULL)
        report_at(r, at,
                  "environment variable %s is not set; set it before the start, or write the "
                  "value here",
                  report_show(r, name));
    return value;
}

/* Writes `s` with every ${NAME} replaced. `at` is where its first character stands; `exact` = its
 * characters stand in the file one by one, so that a place inside of it can be told. False when a
 * part could not be replaced: reported. */
static bool expand_into(struct builder *b, struct slice s, struct place at, bool exact,
                        struct text *t)
{
    bool fine = true;
    struct place here = at;
    size_t from = 0, counted = 0;
    for (size_t marker; (marker = find_marker(s, from)) < s.n;) {
        text_put(t, slice_of(s.p + from, marker - from));
        if (exact)
            here.column += characters(slice_drop(s, counted), marker - counted);
        counted = marker;
        if (s.p[marker + 1] == '$') {
            TEXT_LIT(t, "${");
            from = marker + 3;
            continue;
        }
        if (s.p[marker + 1] == '{') {
            report_marker(b->report, here, slice_drop(s, marker + 2));
            return false;
        }
        struct slice name = slice_drop(s, marker + 1 + MARK_BYTES);
        name = slice_take(name, slice_find(name, CLOSE[0]));
        const char *value = env_value(b->report, name, here);
        fine = fine && value != NULL;
        text_put(t, slice_cstr(value));
        from = marker + 1 + MARK_BYTES + name.n + MARK_BYTES;
    }
    text_put(t, slice_drop(s, from));
    return fine;
}

/* Replaces every ${NAME} in *s: once to measure and to complain, once to write. */
static bool expand(struct builder *b, struct slice *s, struct place at, bool exact)
{
    if (find_marker(*s, 0) == s->n)
        return true;
    struct text measure = text_into(NULL, 0);
    if (!expand_into(b, *s, at, exact, &measure))
        return false;
    if (measure.n > EXPANDED_BYTES_MAX - b->expanded_bytes) {
        report_at(b->report, at, "environment variables make more than 1 MiB out of this file");
        return false;
    }
    b->expanded_bytes += measure.n;
    char *p = (char *)mem_take(b->report->mem, measure.n + 1);
    if (p == NULL)
        return false;
    struct text written = text_into(p, measure.n);
    (void)expand_into(b, *s, at, exact, &written);
    *s = text_slice(&written);
    return true;
}

/* ---- building -------------------------------------------------------------------------------- */

static struct node *add_node(struct builder *b, enum node_kind kind, yaml_mark_t mark)
{
    struct node *n = MEM_NEW(b->report->mem, struct node);
    if (n == NULL)
        return NULL;
    n->kind = (uint8_t)kind;
    n->at = place_of(mark);
    if (b->depth == 0) {
        b->root = n;
        return n;
    }
    struct node *parent = b->stack[b->depth - 1];
    n->parent = parent;
    if (parent->kind == NODE_MAP) {
        n->key = b->key;
        n->key_at = b->key_at;
        b->has_key = false;
        if (n->key.p == NULL) /* a key that was refused: its value is read, and forgotten */
            return n;
    }
    if (parent->last != NULL)
        parent->last->next = n;
    else
        parent->first = n;
    parent->last = n;
    parent->count++;
    return n;
}

/* Is a key of the mapping on top of the stack due? */
static bool wants_key(const struct builder *b)
{
    return b->depth > 0 && b->stack[b->depth - 1]->kind == NODE_MAP && !b->has_key;
}

/* Notes the key, as none when it stands in the mapping already. */
static int take_key(struct builder *b, struct slice text, struct place at)
{
    struct node *map = b->stack[b->depth - 1];
    if (map->count >= MAP_KEYS_MAX) {
        report_at(b->report, at, "more than %d keys in one mapping", MAP_KEYS_MAX);
        return -1;
    }
    for (const struct node *n = map->first; n != NULL; n = n->next) {
        if (!slice_equal(n->key, text))
            continue;
        report_at(b->report, at, "`%s` stands here twice, first on line %u; keep one of them",
                  report_show(b->report, text), n->key_at.line);
        text = SLICE_NONE;
        break;
    }
    b->key = text;
    b->key_at = at;
    b->has_key = true;
    return 0;
}

static int on_scalar(struct builder *b, const yaml_event_t *e)
{
    struct report *r = b->report;
    struct slice raw = slice_of(e->data.scalar.value, e->data.scalar.length);
    struct slice text = mem_copy(r->mem, raw);
    struct place at = place_of(e->start_mark);
    size_t quotes = e->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
                    e->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    bool exact = e->start_mark.line == e->end_mark.line &&
                 e->end_mark.column - e->start_mark.column == characters(raw, raw.n) + 2 * quotes;
    struct place first = at;
    if (exact)
        first.column += (uint32_t)quotes;
    bool fine = expand(b, &text, first, exact);
    if (wants_key(b))
        return take_key(b, fine ? text : SLICE_NONE, at);
    struct node *n = add_node(b, fine ? NODE_SCALAR : NODE_BAD, e->start_mark);
    if (n == NULL)
        return -1;
    n->text = text;
    n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return 0;
}

static int on_open(struct builder *b, enum node_kind kind, yaml_mark_t mark)
{
    if (wants_key(b)) {
        report_at(b->report, place_of(mark),
                  "a key must be plain text, not a list or a mapping; "
                  "write KEY: VALUE");
        return -1;
    }
    if (b->depth == DEPTH_MAX) {
        report_at(b->report, place_of(mark), "nested more than %d deep", DEPTH_MAX);
        return -1;
    }
    struct node *n = add_node(b, kind, mark);
    if (n == NULL)
        return -1;
    b->stack[b->depth++] = n;
    return 0;
}

static void refuse_extras(struct builder *b, const yaml_event_t *e, const yaml_char_t *anchor,
                          const yaml_char_t *tag)
{
    if (anchor != NULL)
        report_at(b->report, place_of(e->start_mark),
                  "anchors are not taken; write the value where it is needed");
    /* "!" alone only says "text": the schema decides what a value is. */
    if (tag != NULL && strcmp((const char *)tag, "!") != 0)
        report_at(b->report, place_of(e->start_mark),
                  "tags are not taken; write the value without `%s`",
                  report_show(b->report, slice_cstr((const char *)tag)));
}

/* An alias stands for nothing here. */
static int on_alias(struct builder *b, const yaml_event_t *e)
{
    report_at(b->report, place_of(e->start_mark), "aliases are not taken; write the value out");
    if (wants_key(b))
        return take_key(b, SLICE_NONE, place_of(e->start_mark));
    return add_node(b, NODE_BAD, e->start_mark) == NULL ? -1 : 0;
}

/* Returns 1 at the end of the document, 0 to go on, -1 to stop. */
static int on_event(struct builder *b, const yaml_event_t *e)
{
    if (b->nodes++ > NODES_MAX) {
        report_at(b->report, place_of(e->start_mark), "more than %d values in one file", NODES_MAX);
        return -1;
    }
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return on_alias(b, e);
    case YAML_SCALAR_EVENT:
        refuse_extras(b, e, e->data.scalar.anchor, e->data.scalar.tag);
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        refuse_extras(b, e, e->data.sequence_start.anchor, e->data.sequence_start.tag);
        return on_open(b, NODE_LIST, e->start_mark);
    case YAML_MAPPING_START_EVENT:
        refuse_extras(b, e, e->data.mapping_start.anchor, e->data.mapping_start.tag);
        return on_open(b, NODE_MAP, e->start_mark);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        if (b->root == NULL)
            return 0;
        report_at(b->report, place_of(e->start_mark),
                  "a second document begins; one file is one document");
        return -1;
    case YAML_STREAM_END_EVENT:
        return 1;
    default:
        return 0;
    }
}

/* ---- what is no YAML ------------------------------------------------------------------------- */

static struct place place_of_byte(struct slice text, size_t byte)
{
    struct place at = {1, 1};
    for (size_t i = 0; i < byte && i < text.n; i++) {
        if (text.p[i] == '\n')
            at = (struct place){at.line + 1, 1};
        else
            at.column += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    }
    return at;
}

/* The character that stands at a place; 0 behind the end of its line. */
static char char_at(struct slice text, struct place at)
{
    while (at.line > 1 && text.n > 0) {
        text = slice_drop(text, slice_find(text, '\n') + 1);
        at.line--;
    }
    struct slice line = slice_take(text, slice_find(text, '\n'));
    size_t i = 0;
    while (i < line.n && characters(line, i + 1) < at.column)
        i++;
    return i < line.n ? line.p[i] : 0;
}

static const char *syntax_hint(const struct builder *b, struct place at)
{
    switch (char_at(b->text, at)) {
    case '\t':
        return "; indent with spaces, not with tabs";
    case '@':
    case '`':
    case '%':
        return "; put text that begins with this character into quotes";
    case ':':
        return "; put text that holds `: ` into quotes";
    default:
        return "; look for a missing bracket, quote, comma or colon just before";
    }
}

static void report_syntax(struct builder *b)
{
    const yaml_parser_t *y = &b->yaml;
    const char *problem = y->problem != NULL ? y->problem : "unreadable";
    if (y->error == YAML_MEMORY_ERROR) {
        b->report->mem->exhausted = true;
    } else if (y->error == YAML_READER_ERROR) {
        report_at(b->report, place_of_byte(b->text, y->problem_offset),
                  "not UTF-8 text: %s; save the file as UTF-8 without control characters", problem);
    } else {
        struct place at = place_of(y->problem_mark);
        const char *hint = syntax_hint(b, at);
        if (y->context != NULL)
            report_at(b->report, at, "not YAML: %s, %s that began on line %u%s", problem,
                      y->context, (unsigned)y->context_mark.line + 1, hint);
        else
            report_at(b->report, at, "not YAML: %s%s", problem, hint);
    }
}

struct node *tree_read(struct report *r, struct slice text)
{
    text = hide_braces(r->mem, text);
    struct builder b = {.report = r, .text = text};
    if (!yaml_parser_initialize(&b.yaml)) {
        r->mem->exhausted = true;
        return NULL;
    }
    yaml_parser_set_encoding(&b.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.yaml, (const unsigned char *)text.p, text.n);
    int step = 0;
    while (step == 0) {
        yaml_event_t event;
        if (!yaml_parser_parse(&b.yaml, &event)) {
            report_syntax(&b);
            step = -1;
            break;
        }
        step = on_event(&b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&b.yaml);
    if (step < 0)
        return NULL;
    if (b.root == NULL || node_is_null(b.root)) {
        report_at(r, (struct place){1, 1},
                  "nothing is in it; it needs at least node, listeners and routes");
        return NULL;
    }
    return b.root;
}

/* ---- looking into it ------------------------------------------------------------------------- */

const struct node *node_get(const struct node *map, const char *key)
{
    if (map == NULL || map->kind != NODE_MAP)
        return NULL;
    for (const struct node *n = map->first; n != NULL; n = n->next)
        if (slice_equal(n->key, slice_cstr(key)))
            return n;
    return NULL;
}

struct place node_place(const struct node *map, const char *key)
{
    const struct node *n = node_get(map, key);
    return n != NULL ? n->at : map->at;
}

bool node_is_null(const struct node *n)
{
    return n->kind == NODE_SCALAR && n->plain &&
           (n->text.n == 0 || slice_equal(n->text, SLICE("~")) ||
            slice_equal(n->text, SLICE("null")));
}
