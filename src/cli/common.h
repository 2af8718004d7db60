/* SPDX-License-Identifier: Apache-2.0
 *
 * What the subcommands share beside cli.h: where the running weir is, rows of JSON, tables. */
#ifndef WEIR_CLI_COMMON_H
#define WEIR_CLI_COMMON_H

#include <stdbool.h>
#include <stdio.h>
#include "base/base.h"
#include "cli/cli.h"

#define WEIR_VERSION "0.1.0"

/* ---- which socket -----------------------------------------------------------------------------
 */

/* Fills `path` (`cap` bytes) with the control socket to use: -s SOCKET if given, else what `-c
 * FILE` says, else $WEIR_SOCKET, else the only one that is at the default places. Returns CLI_OK or
 * an exit status after saying why. */
int cli_socket(const char *socket, const char *file, char *path, size_t cap);

/* Options that every subcommand with a socket takes: -s, -c, -h. */
struct cli_ask {
    const char *command; /* its name, for messages */
    const char *help;
    const char *socket;
    const char *file;
    bool json; /* -o json, where `has_output` */
    bool has_output;
    bool has_wait;
    bool wait;
    bool has_within;
    uint64_t within_ms; /* --within; 0 = was not said */
    bool has_for;
    const char *period; /* --for, a span of time as it was written; NULL = was not said */
    int first;          /* index of the first argument that is no option */
};

/* Reads the options. Returns -1 to go on, else an exit status (help, wrong usage). */
int cli_ask_options(struct cli_ask *a, int argc, char **argv);

/* Whether it can be sent as one word of a request. */
bool cli_is_word(const char *s);
enum { CLI_AOR_MAX = 255 };

/* The word of `words` (`count` of them) nearest to `word` when it is near enough to be meant, or
 * NULL. */
const char *cli_nearest(const char *word, const char *const *words, size_t count);

/* ---- rows -------------------------------------------------------------------------------------
 */

enum { ROW_FIELDS_MAX = 64 };

/* One line of JSON: an object. Keys and values point into the line; strings are without their
 * quotes and still escaped, numbers and words as written, and so is an object within: to be parsed
 * in its turn. */
struct row {
    unsigned count;
    struct slice key[ROW_FIELDS_MAX];
    struct slice value[ROW_FIELDS_MAX];
};

/* 0, or -1 when the line is no such object. */
MUST_USE int row_parse(struct slice line, struct row *ret_row);

/* The value of a key; empty with p NULL when it is absent. */
struct slice row_get(const struct row *r, const char *key);
uint64_t row_number(const struct row *r, const char *key);
bool row_true(const struct row *r, const char *key);

/* All rows of an answer. */
struct rows {
    char *text;
    size_t count;
    struct row *row;
};

/* Asks the running weir. Returns CLI_OK, or an exit status after saying why; to be freed with
 * rows_free() in either case. */
int rows_fetch(const char *path, const char *request, struct rows *ret_rows);
void rows_free(struct rows *r);

/* ---- for people -------------------------------------------------------------------------------
 */

/* "15,000" */
void people_count(struct text *t, uint64_t v);
/* "1 phone", "15,000 phones" */
void people_things(struct text *t, uint64_t v, const char *thing);
/* "3:48", "1:02:09": minutes or hours, and seconds, rounded up. */
void people_clock(struct text *t, uint64_t ms);
/* Twenty cells of which as many are full as are done; of nothing all are. */
void people_bar(struct text *t, uint64_t done, uint64_t all);
/* Columns of UTF-8 text without control characters. */
size_t people_width(struct slice s);
/* Whether `out` is a terminal that can write a line anew; and wants colours (NO_COLOR). */
bool people_redraws(FILE *out);
bool people_wants_colours(FILE *out);
/* "500ms", "30s", "10m", "2h", "7d"; 0, or -1 when it is none. */
MUST_USE int people_parse_span(const char *word, uint64_t *ret_ms);

/* ---- tables -----------------------------------------------------------------------------------
 */

struct table;

/* A table with these column heads; numbers go to the right. Ends with table_print(). */
struct table *table_new(const char *const *heads, unsigned columns);
void table_add(struct table *t, struct slice cell);
void table_add_u64(struct table *t, uint64_t v);
/* Marks the last cell: green or red for those who want colours. */
enum mark { MARK_NONE, MARK_GOOD, MARK_BAD, MARK_ODD };
void table_mark(struct table *t, enum mark m);

/* Prints all rows aligned (with colours on a terminal unless NO_COLOR is set), or the text `empty`
 * when there is none, and frees the table. */
void table_print(struct table *t, FILE *out, const char *empty);

/* ---- topics of `weir show` beside show.c ------------------------------------------------------
 */

/* Print the rows of "show drain" and "show guard" on stdout. */
void show_drain(const struct rows *rows);
void show_guard(const struct rows *rows);

#endif
