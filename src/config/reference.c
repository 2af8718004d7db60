/* SPDX-License-Identifier: Apache-2.0
 *
 * The schema's tables written out for people (Markdown) and for editors (JSON schema). */
#include "config/config_int.h"

/* ---- what a value may be, in words ----------------------------------------------------------- */

static void put_range(struct text *t, const struct field *f)
{
    if (f->type == V_DURATION) {
        text_put_duration(t, f->min);
        TEXT_LIT(t, " to ");
        text_put_duration(t, f->max);
        return;
    }
    if (f->type == V_SIZE) {
        text_put_size(t, f->min);
        TEXT_LIT(t, " to ");
        text_put_size(t, f->max);
        return;
    }
    struct slice unit = f->type == V_PERCENT ? SLICE("%") : SLICE("");
    text_put_u64(t, f->min);
    text_put(t, unit);
    TEXT_LIT(t, " to ");
    text_put_u64(t, f->max);
    text_put(t, unit);
}

static void put_code(struct text *t, const char *s)
{
    TEXT_LIT(t, "`");
    text_put(t, slice_cstr(s));
    TEXT_LIT(t, "`");
}

static void put_words(struct text *t, const struct word *words)
{
    for (const struct word *w = words; w->text != NULL; w++) {
        text_put(t, w == words ? SLICE("") : w[1].text == NULL ? SLICE(" or ") : SLICE(", "));
        put_code(t, w->text);
    }
}

static void put_type(struct text *t, const struct field *f)
{
    static const char *const names[] = {
        [V_BOOL] = "`true` or `false`",
        [V_INT] = "number, ",
        [V_PERCENT] = "share, ",
        [V_DURATION] = "duration, ",
        [V_SIZE] = "size, ",
        [V_WORD] = "",
        [V_NAME] = "name",
        [V_METHOD] = "SIP method",
        [V_PATH] = "path",
        [V_URI] = "address",
        [V_HOSTPORT] = "host and port",
        [V_PREFIX] = "network",
        [V_HOST] = "host name or address",
        [V_ORIGIN] = "origin",
        [V_REALM] = "text",
        [V_ROUTE] = "route",
        [V_CONTACT] = "contact",
        [V_NFT_SET] = "family, table and set",
        [V_MAP] = "mapping",
        [V_LIST] = "list of ",
        [V_NAMED] = "mapping of names to ",
        [V_LATER] = "",
    };
    text_put(t, slice_cstr(names[f->type]));
    switch (f->type) {
    case V_INT:
    case V_PERCENT:
    case V_DURATION:
    case V_SIZE:
        put_range(t, f);
        break;
    case V_PATH:
        if (f->words != NULL)
            TEXT_LIT(t, ", ");
        /* fallthrough */
    case V_WORD:
        if (f->words != NULL)
            put_words(t, f->words);
        break;
    case V_LIST:
    case V_NAMED:
        if (f->item->type == V_MAP) {
            text_put(t, slice_cstr(f->item->key));
            TEXT_LIT(t, "s");
        } else {
            put_type(t, f->item);
        }
        TEXT_LIT(t, ", at most ");
        text_put_u64(t, f->max);
        break;
    default:
        break;
    }
    if (f->zero != NULL) {
        TEXT_LIT(t, " or ");
        put_code(t, f->zero);
    }
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static const char reference_head[] =
    "# weir.yaml(5): the configuration of Weir\n"
    "\n"
    "One YAML file says everything. It is read by `weir run -c FILE`, and again on HUP or\n"
    "`weir reload`; `weir check -c FILE` reads it and does nothing else. A file with an error is\n"
    "refused as a whole, with every error as `FILE:LINE:COLUMN: what is wrong; what would be\n"
    "right`. On a reload the old one then stays in force.\n"
    "\n"
    "The smallest file that works:\n"
    "\n"
    "```yaml\n"
    "node: {name: edge-1}\n"
    "listeners:\n"
    "  - {bind: \"udp://127.0.0.1:5060\", side: outside}\n"
    "  - {bind: \"tcp://127.0.0.1:5060\", side: outside}\n"
    "pools:\n"
    "  border: {targets: [\"udp://127.0.0.1:5070\"]}\n"
    "routes:\n"
    "  - {from: outside, to: border}\n"
    "```\n"
    "\n"
    "## How values are written\n"
    "\n"
    "| kind | form |\n"
    "| --- | --- |\n"
    "| duration | a whole number and `us`, `ms`, `s`, `m` or `h`: `500ms`, `2s`, `1m` |\n"
    "| share | a whole number and `%`: `20%` |\n"
    "| size | a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`: `1GiB` |\n"
    "| name | 1 to 63 letters, digits, `-`, `_`, `.` |\n"
    "| address | `udp://HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`, of listeners as well "
    "`tls://`, `ws://` and `wss://`; IPv6 in brackets |\n"
    "| network | `10.0.0.0/8`, `2001:db8::/32`, or one address |\n"
    "| path | of a file; a relative one counts from the folder of the configuration file |\n"
    "\n"
    "`${NAME}` anywhere in a value stands for the environment variable NAME, which must be set;\n"
    "`$${` stands for `${` itself. Keys that do not exist, and keys that stand twice, are errors.\n"
    "Anchors, aliases and tags are not taken. In the tables below, a default in code is what is\n"
    "used when the key is left out; other defaults are described.\n";

static const char reference_foot[] =
    "\n"
    "## Reload\n"
    "\n"
    "A reload takes effect as a whole, between two messages, and loses no transaction and no\n"
    "connection. A listener is the same as before when its `bind` is, a target when its pool's\n"
    "name and its `uri` are. `node.id`, `node.workers`, `limits`, `control`, whether there is a\n"
    "`roles.registrar`, its `state` and its `state_size` cannot change while Weir runs: a file\n"
    "that changes them is refused. `${NAME}` and the names of targets are looked up anew;\n"
    "certificates, keys, credentials and `secrets.tokens` are read anew, for what begins then.\n"
    "\n"
    "## See also\n"
    "\n"
    "`weir check --reference` writes this page, `weir check --json-schema` the same for editors.\n";

/* A cell of a table: "|" would end it. */
static void write_cell(FILE *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '|')
            fputc('\\', out);
        fputc(s.p[i], out);
    }
}

static void write_default(FILE *out, const struct field *f)
{
    if ((f->flags & F_REQUIRED) != 0)
        fputs("required", out);
    else if ((f->flags & F_ABSENT) != 0)
        fputs("none", out);
    else if (f->type == V_MAP && f->zero != NULL)
        fputs("on", out);
    else if (f->type == V_MAP)
        fputs("see below", out);
    else if (f->standard == NULL)
        fputs("none", out);
    else
        fprintf(out, (f->flags & F_DERIVED) != 0 ? "%s" : "`%s`", f->standard);
}

static void write_row(FILE *out, const struct field *f)
{
    char room[512];
    struct text t = text_into(room, sizeof room);
    put_type(&t, f);
    fprintf(out, "| `%s` | ", f->key);
    write_cell(out, text_slice(&t));
    fputs(" | ", out);
    write_default(out, f);
    fputs(" | ", out);
    write_cell(out, slice_cstr(f->help));
    if (f->type == V_WORD)
        for (const struct word *w = f->words; w->text != NULL; w++)
            fprintf(out, " `%s`: %s.", w->text, w->help);
    fputs(" |\n", out);
}

/* The path of a section below `path`: "pools.NAME.health", "listeners[]". */
static void put_path(struct text *t, struct slice path, const struct field *f)
{
    text_put(t, path);
    if (path.n > 0)
        TEXT_LIT(t, ".");
    text_put(t, slice_cstr(f->key));
    if (f->type == V_NAMED)
        TEXT_LIT(t, ".NAME");
    if (f->type == V_LIST)
        TEXT_LIT(t, "[]");
}

static const struct schema *schema_of(const struct field *f)
{
    if (f->type == V_MAP)
        return f->sub;
    if ((f->type == V_LIST || f->type == V_NAMED) && f->item->type == V_MAP)
        return f->item->sub;
    return NULL;
}

static void write_section(FILE *out, const struct schema *s, struct slice path)
{
    if (path.n > 0)
        fprintf(out, "\n## `%.*s`\n\n", SLICE_ARG(path));
    else
        fputs("\n## The file\n\n", out);
    fputs("| key | value | default | meaning |\n| --- | --- | --- | --- |\n", out);
    bool later = false;
    for (unsigned i = 0; i < s->count; i++) {
        later = later || s->fields[i].type == V_LATER;
        if (s->fields[i].type != V_LATER)
            write_row(out, &s->fields[i]);
    }
    if (later)
        fputs("\nNot in this version, and refused:", out);
    for (unsigned i = 0; later && i < s->count; i++)
        if (s->fields[i].type == V_LATER)
            fprintf(out, " `%s`", s->fields[i].key);
    fputs(later ? ".\n" : "", out);
    for (unsigned i = 0; i < s->count; i++) {
        const struct schema *sub = schema_of(&s->fields[i]);
        char room[128];
        struct text t = text_into(room, sizeof room);
        put_path(&t, path, &s->fields[i]);
        if (sub != NULL)
            write_section(out, sub, text_slice(&t));
    }
}

void config_write_reference(FILE *out)
{
    fputs(reference_head, out);
    write_section(out, &schema_root, SLICE(""));
    fputs(reference_foot, out);
}

/* ---- JSON schema ----------------------------------------------------------------------------- */

static void write_string(FILE *out, const char *s)
{
    fputc('"', out);
    for (; *s != 0; s++) {
        if (*s == '"' || *s == '\\')
            fputc('\\', out);
        fputc(*s, out);
    }
    fputc('"', out);
}

static void indent(FILE *out, unsigned depth)
{
    fprintf(out, "\n%*s", (int)(2 * depth), "");
}

static void write_object(FILE *out, const struct schema *s, unsigned depth);

/* In YAML 1.1 `off` is a boolean to some editors. */
static void write_enum(FILE *out, const struct word *words)
{
    fputs("{\"enum\": [", out);
    for (const struct word *w = words; w->text != NULL; w++) {
        fputs(w == words ? "" : ", ", out);
        write_string(out, w->text);
        fputs(strcmp(w->text, "off") == 0 ? ", false" : "", out);
    }
    fputs("]}", out);
}

static void write_pattern(FILE *out, const char *pattern)
{
    fputs("{\"type\": \"string\", \"pattern\": ", out);
    write_string(out, pattern);
    fputc('}', out);
}

/* A value that ${NAME} may stand for cannot be judged before it is put in. */
#define ENV_PATTERN "\\$\\{"

static void write_scalar(FILE *out, const struct field *f)
{
    fputs("{\"anyOf\": [", out);
    switch (f->type) {
    case V_BOOL:
        fputs("{\"type\": \"boolean\"}", out);
        break;
    case V_INT:
        fprintf(out, "{\"type\": \"integer\", \"minimum\": %llu, \"maximum\": %llu}",
                (unsigned long long)f->min, (unsigned long long)f->max);
        break;
    case V_PERCENT:
        write_pattern(out, "^[0-9]+%$");
        break;
    case V_DURATION:
        write_pattern(out, "^[0-9]+(us|ms|s|m|h)$");
        break;
    case V_SIZE:
        write_pattern(out, "^[0-9]+([KMGT]i)?B$");
        break;
    case V_ORIGIN:
        write_pattern(out, "^[A-Za-z][A-Za-z0-9+.-]*://[^/]+$");
        break;
    case V_WORD:
        write_enum(out, f->words);
        break;
    case V_NAME:
        write_pattern(out, "^[A-Za-z0-9._-]{1,63}$");
        break;
    case V_URI:
        write_pattern(out,
                      (f->flags & F_LISTEN) != 0 ? "^(udp|tcp|tls|ws|wss)://" : "^(udp|tcp)://");
        break;
    default:
        fputs("{\"type\": \"string\", \"minLength\": 1}", out);
    }
    if (f->zero != NULL)
        fprintf(out, ", {\"enum\": [\"%s\"%s]}", f->zero,
                strcmp(f->zero, "off") == 0 ? ", false" : "");
    fputs(", ", out);
    write_pattern(out, ENV_PATTERN);
    fputs("]}", out);
}

static void write_type(FILE *out, const struct field *f, unsigned depth)
{
    const struct schema *sub = schema_of(f);
    switch (f->type) {
    case V_MAP: {
        bool other = f->zero != NULL || sub->shorthand != NULL;
        fputs(other ? "{\"anyOf\": [" : "", out);
        write_object(out, sub, depth);
        if (f->zero != NULL)
            fprintf(out, ", {\"enum\": [\"%s\"%s]}", f->zero,
                    strcmp(f->zero, "off") == 0 ? ", false" : "");
        if (sub->shorthand != NULL)
            fputs(", {\"type\": \"string\"}", out);
        fputs(other ? "]}" : "", out);
        break;
    }
    case V_LIST:
        fprintf(out, "{\"type\": \"array\", \"minItems\": %llu, \"maxItems\": %llu, \"items\": ",
                (unsigned long long)f->min, (unsigned long long)f->max);
        write_type(out, f->item, depth);
        fputc('}', out);
        break;
    case V_NAMED:
        fprintf(out,
                "{\"type\": \"object\", \"minProperties\": %llu, \"maxProperties\": %llu, "
                "\"additionalProperties\": ",
                (unsigned long long)f->min, (unsigned long long)f->max);
        write_type(out, f->item, depth);
        fputc('}', out);
        break;
    default:
        write_scalar(out, f);
    }
}

static void write_object(FILE *out, const struct schema *s, unsigned depth)
{
    fputs("{\"type\": \"object\", \"additionalProperties\": false,", out);
    const char *before = " \"required\": [";
    for (unsigned i = 0; i < s->count; i++) {
        if ((s->fields[i].flags & F_REQUIRED) == 0)
            continue;
        fprintf(out, "%s\"%s\"", before, s->fields[i].key);
        before = ", ";
    }
    fputs(before[0] == ',' ? "], \"properties\": {" : " \"properties\": {", out);
    bool first = true;
    for (unsigned i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->type == V_LATER)
            continue;
        fputs(first ? "" : ",", out);
        first = false;
        indent(out, depth + 1);
        fprintf(out, "\"%s\": {\"description\": ", f->key);
        write_string(out, f->help);
        if (f->standard != NULL && f->type != V_LIST && (f->flags & F_DERIVED) == 0) {
            fputs(", \"default\": ", out);
            write_string(out, f->standard);
        }
        fputs(", \"allOf\": [", out);
        write_type(out, f, depth + 1);
        fputs("]}", out);
    }
    indent(out, depth);
    fputs("}}", out);
}

void config_write_json_schema(FILE *out)
{
    fputs("{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
          " \"title\": \"weir.yaml\",\n \"allOf\": [",
          out);
    write_object(out, &schema_root, 0);
    fputs("]}\n", out);
}
