/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of JSON for the control socket: an object of a line, field by field.
 *
 *      text_put_char(t, '{');
 *      json_u64(t, "worker", 3);      {"worker":3
 *      json_text(t, "why", why);      {"worker":3,"why":"a \"b\""
 *      TEXT_LIT(t, "}\n"); */
#ifndef WEIR_BASE_JSON_H
#define WEIR_BASE_JSON_H

#include "addr.h"
#include "text.h"

/* The name of a field, with the comma before it unless it is the first of its object; its value is
 * to follow. `name` is a word of ours: nothing in it needs an escape. */
void json_key(struct text *t, const char *name);

/* Whole fields. Of a text every byte that is not printable ASCII becomes an escape. */
void json_u64(struct text *t, const char *name, uint64_t v);
void json_bool(struct text *t, const char *name, bool v);
void json_text(struct text *t, const char *name, struct slice s);
/* host:port; "-" for none. */
void json_addr(struct text *t, const char *name, const struct addr *a);

#endif
