/* SPDX-License-Identifier: Apache-2.0 */
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

static bool is_word(const char *s)
{
    return s[0] != '\0' && strpbrk(s, " \t\r\n") == NULL;
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
    if (!is_word(pool) || !is_word(uri) || n < 0 || (size_t)n >= sizeof request)
        return cli_usage_error("target", "POOL and URI are words without blanks");
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    return status != CLI_OK ? status : control_call(path, request, stdout, stderr);
}
