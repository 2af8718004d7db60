/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "cli/common.h"
#include "net/net.h"

static const char help[] =
    "usage: weir reload [-s SOCKET | -c FILE]\n"
    "\n"
    "Makes a running weir read its configuration again. No transaction and no connection is lost.\n"
    "When the new file is wrong, or a new listener cannot be bound, nothing changes, and this "
    "says\n"
    "why.\n"
    "\n"
    "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE     the file that names it\n"
    "  -h, --help            write this\n"
    "\n"
    "Exit status: 0 the new configuration is in force, 1 the old one stays, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir check -c /etc/weir/edge.yaml && weir reload\n";

/* What did not stop the reload: a certificate that has expired, for one. */
static void tell_notices(struct slice rows)
{
    while (rows.n > 0) {
        size_t line = slice_find(rows, '\n');
        struct row row;
        struct slice notice = SLICE_NONE;
        if (row_parse(slice_take(rows, line), &row) == 0)
            notice = row_get(&row, "notice");
        for (size_t i = 0; i < notice.n; i++) { /* JSON's escapes of quotes and backslashes */
            if (notice.p[i] == '\\' && i + 1 < notice.n)
                i++;
            fputc(notice.p[i], stderr);
        }
        if (notice.n > 0)
            fputc('\n', stderr);
        rows = slice_drop(rows, line + 1);
    }
}

static int reload(const char *path)
{
    char *rows = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&rows, &n);
    if (out == NULL)
        return CLI_FAILED;
    int status = control_call(path, "reload", out, stderr);
    fclose(out);
    if (status == CLI_OK) {
        tell_notices(slice_of(rows, n));
        fputs("weir: reloaded\n", stderr);
    }
    free(rows);
    return status;
}

int cli_reload(int argc, char **argv)
{
    struct cli_ask ask = {.command = "reload", .help = help};
    char path[256];
    int status = cli_ask_options(&ask, argc, argv);
    if (status >= 0)
        return status;
    if (ask.first < argc)
        return cli_usage_error("reload", "unexpected: %s", argv[ask.first]);
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    return status != CLI_OK ? status : reload(path);
}
