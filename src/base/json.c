/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

void json_key(struct text *t, const char *name)
{
    bool is_first = t->n > 0 && text_fits(t) && t->p[t->n - 1] == '{';
    text_put(t, is_first ? SLICE("\"") : SLICE(",\""));
    text_put(t, slice_cstr(name));
    TEXT_LIT(t, "\":");
}

void json_u64(struct text *t, const char *name, uint64_t v)
{
    json_key(t, name);
    text_put_u64(t, v);
}

void json_bool(struct text *t, const char *name, bool v)
{
    json_key(t, name);
    text_put(t, v ? SLICE("true") : SLICE("false"));
}

void json_text(struct text *t, const char *name, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    json_key(t, name);
    text_put_char(t, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            text_put_char(t, '\\');
            text_put_char(t, (char)c);
        } else if (c < 0x20 || c >= 0x7f) {
            TEXT_LIT(t, "\\u00");
            text_put_char(t, hex[c >> 4]);
            text_put_char(t, hex[c & 15]);
        } else {
            text_put_char(t, (char)c);
        }
    }
    text_put_char(t, '"');
}

void json_addr(struct text *t, const char *name, const struct addr *a)
{
    json_key(t, name);
    text_put_char(t, '"');
    addr_put(t, a);
    text_put_char(t, '"');
}
