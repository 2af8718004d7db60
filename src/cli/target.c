/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "cli/common.h"
#include "net/net.h"

static const char help[] =
    "usage: weir target [-s SOCKET | -c FILE] POOL URI ready|drain|maint\n"
    "\n"
    "Takes a target of a pool out of service, or puts it back. URI is as in the configuration; "
    "'*'\n"
    "means every target of the pool. It holds until the next word, also over a reload.\n"
    "\n"
    "  ready   takes new calls again\n"
    "  drain   only requests inside calls that it has already\n"
    "  maint   nothing at all\n"
    "\n"
    "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE     the file that names it\n"
    "  -h, --help            write this\n"
    "\n"
    "Exit status: 0 done, 1 there is no such pool or target, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir target border udp://10.0.1.10:5060 drain\n";

enum { NAMES_MAX = 64 };

/* Distinct values of `key` in the rows of `text`, of one pool or (NULL) of all: strings to free. */
static size_t collect(struct slice text, const char *pool, const char *key, char **names)
{
    size_t count = 0;
    for (struct slice rest = text; rest.n > 0 && count < NAMES_MAX;) {
        size_t line = slice_find(rest, '\n');
        struct row row;
        bool known = row_parse(slice_take(rest, line), &row) != 0;
        rest = slice_drop(rest, line + 1);
        if (known || (pool != NULL && !slice_equal(row_get(&row, "pool"), slice_cstr(pool))))
            continue;
        struct slice name = row_get(&row, key);
        for (size_t i = 0; i < count && !known; i++)
            known = slice_equal(name, slice_cstr(names[i]));
        if (!known && (names[count] = strndup(name.p, name.n)) != NULL)
            count++;
    }
    return count;
}

/* The answer was no: which of the two words is wrong, and what there is instead. */
static void say_unknown(struct slice rows, const char *pool, const char *uri)
{
    char *names[NAMES_MAX];
    size_t targets = collect(rows, pool, "target", names);
    if (targets > 0) {
        fprintf(stderr, "weir: pool '%s' has no target '%s'; it has\n", pool, uri);
        for (size_t i = 0; i < targets; i++)
            fprintf(stderr, "  %s\n", names[i]);
    }
    for (size_t i = 0; i < targets; i++)
        free(names[i]);
    if (targets > 0)
        return;
    size_t pools = collect(rows, NULL, "pool", names);
    const char *near = cli_nearest(pool, (const char *const *)names, pools);
    fprintf(stderr, "weir: there is no pool '%s'", pool);
    if (near != NULL)
        fprintf(stderr, ": did you mean '%s'?", near);
    for (size_t i = 0; i < pools; i++) {
        if (near == NULL)
            fprintf(stderr, "%s%s", i == 0 ? "; there is " : ", ", names[i]);
        free(names[i]);
    }
    fputc('\n', stderr);
}

static int set_target(const char *path, const char *request, const char *pool, const char *uri)
{
    char *why = NULL, *rows = NULL;
    size_t why_len = 0, rows_len = 0;
    FILE *err = open_memstream(&why, &why_len);
    FILE *out = open_memstream(&rows, &rows_len);
    int status = err != NULL && out != NULL ? control_call(path, request, stdout, err) : CLI_FAILED;
    if (err != NULL)
        fclose(err);
    bool unknown = status == CLI_FAILED && why != NULL && strstr(why, "no such pool") != NULL;
    bool has_rows = unknown && control_call(path, "show pools", out, stderr) == CLI_OK;
    if (out != NULL)
        fclose(out);
    if (has_rows)
        say_unknown(slice_of(rows, rows_len), pool, uri);
    else if (why != NULL)
        fputs(why, stderr);
    free(why);
    free(rows);
    return status;
}

int cli_target(int argc, char **argv)
{
    static const char *const states[] = {"ready", "drain", "maint"};
    struct cli_ask ask = {.command = "target", .help = help};
    char path[256], request[1024];
    int status = cli_ask_options(&ask, argc, argv);
    if (status >= 0)
        return status;
    if (argc - ask.first != 3)
        return cli_usage_error("target", "it takes POOL, URI and ready, drain or maint");
    const char *pool = argv[ask.first], *uri = argv[ask.first + 1], *state = argv[ask.first + 2];
    if (strcmp(state, "ready") != 0 && strcmp(state, "drain") != 0 && strcmp(state, "maint") != 0) {
        const char *near = cli_nearest(state, states, 3);
        return cli_usage_error("target", "'%s' is no state%s%s%s", state,
                               near != NULL ? ": did you mean '" : "", near != NULL ? near : "",
                               near != NULL ? "'?" : ": ready, drain or maint");
    }
    int n = snprintf(request, sizeof request, "target %s %s %s", pool, uri, state);
    if (!cli_is_word(pool) || !cli_is_word(uri) || n < 0 || (size_t)n >= sizeof request)
        return cli_usage_error("target", "POOL and URI are words without blanks");
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    return status != CLI_OK ? status : set_target(path, request, pool, uri);
}
