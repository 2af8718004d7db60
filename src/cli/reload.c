/* SPDX-License-Identifier: Apache-2.0 */
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
    if (status != CLI_OK)
        return status;
    status = control_call(path, "reload", stdout, stderr);
    if (status == CLI_OK)
        fputs("weir: reloaded\n", stderr);
    return status;
}
