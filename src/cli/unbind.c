/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "cli/common.h"
#include "net/net.h"

static const char help[] =
    "usage: weir unbind [-s SOCKET | -c FILE] AOR\n"
    "\n"
    "Ends all bindings of an address-of-record, and says how many there were. Calls to it find\n"
    "nobody until its phones register again, which no command keeps them from.\n"
    "\n"
    "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE     the file that names it\n"
    "  -h, --help            write this\n"
    "\n"
    "Exit status: 0 done, 1 there were none, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir unbind alice@example.com\n";

/* Every worker answers; the one that owns the AOR has removed something. */
static uint64_t count_removed(struct slice rows)
{
    uint64_t removed = 0;
    while (rows.n > 0) {
        size_t line = slice_find(rows, '\n');
        struct row row;
        if (row_parse(slice_take(rows, line), &row) == 0)
            removed += row_number(&row, "removed");
        rows = slice_drop(rows, line + 1);
    }
    return removed;
}

static int unbind(const char *path, const char *aor)
{
    char request[512], *rows = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&rows, &n);
    if (out == NULL)
        return CLI_FAILED;
    snprintf(request, sizeof request, "unbind %s", aor);
    int status = control_call(path, request, out, stderr);
    fclose(out);
    uint64_t removed = status == CLI_OK ? count_removed(slice_of(rows, n)) : 0;
    free(rows);
    if (status != CLI_OK)
        return status;
    if (removed == 0) {
        fprintf(stderr, "weir: %s has no bindings\n", aor);
        return CLI_FAILED;
    }
    fprintf(stderr, "weir: %llu binding%s of %s removed\n", (unsigned long long)removed,
            removed == 1 ? "" : "s", aor);
    return CLI_OK;
}

int cli_unbind(int argc, char **argv)
{
    struct cli_ask ask = {.command = "unbind", .help = help};
    char path[256];
    int status = cli_ask_options(&ask, argc, argv);
    if (status >= 0)
        return status;
    if (argc - ask.first != 1)
        return cli_usage_error("unbind", "whose? One address-of-record, as alice@example.com");
    if (!cli_is_word(argv[ask.first]) || strlen(argv[ask.first]) > CLI_AOR_MAX)
        return cli_usage_error("unbind", "an address-of-record is one word of at most %d bytes",
                               CLI_AOR_MAX);
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    return status != CLI_OK ? status : unbind(path, argv[ask.first]);
}
