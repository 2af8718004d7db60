/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "cli/common.h"
#include "net/net.h"

static const char help[] =
    "usage: weir guard allow|deny PREFIX [--for TIME] [-s SOCKET | -c FILE]\n"
    "       weir guard forget PREFIX [-s SOCKET | -c FILE]\n"
    "\n"
    "Says of a network who may come in, whatever the limits of a running weir say. The longest "
    "prefix\n"
    "that holds an address decides. It holds until the next word, over reloads too, and ends with\n"
    "the process: for good it belongs into the file (`guard.exempt`), or into a firewall.\n"
    "\n"
    "  allow    is never limited, nor banned\n"
    "  deny     is refused: connections, datagrams, and what it sends over connections it has\n"
    "  forget   neither; bans and counts of the sources in it are forgotten as well\n"
    "\n"
    "      --for TIME        for so long only: 30s, 10m, 2h, 7d\n"
    "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE     the file that names it\n"
    "  -h, --help            write this\n"
    "\n"
    "Exit status: 0 done, 1 that is no prefix, or the lists are full, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir guard deny 192.0.2.0/24 --for 2h\n"
    "  weir show guard\n"
    "  weir guard forget 192.0.2.0/24\n";

int cli_guard(int argc, char **argv)
{
    static const char *const verbs[] = {"allow", "deny", "forget"};
    struct cli_ask ask = {.command = "guard", .help = help, .has_for = true};
    char path[256], request[256];
    int status = cli_ask_options(&ask, argc, argv);
    if (status >= 0)
        return status;
    if (argc - ask.first != 2)
        return cli_usage_error("guard", "it takes allow, deny or forget, and a prefix");
    const char *verb = argv[ask.first], *prefix = argv[ask.first + 1];
    bool known = false;
    for (size_t i = 0; i < 3; i++)
        known |= strcmp(verb, verbs[i]) == 0;
    if (!known) {
        const char *near = cli_nearest(verb, verbs, 3);
        return cli_usage_error("guard", "'%s' is nothing to do%s%s%s", verb,
                               near != NULL ? ": did you mean '" : "", near != NULL ? near : "",
                               near != NULL ? "'?" : ": allow, deny or forget");
    }
    if (ask.period != NULL && strcmp(verb, "forget") == 0)
        return cli_usage_error("guard", "what is forgotten is forgotten: no --for");
    int n = ask.period != NULL
                ? snprintf(request, sizeof request, "guard %s %s for %s", verb, prefix, ask.period)
                : snprintf(request, sizeof request, "guard %s %s", verb, prefix);
    if (!cli_is_word(prefix) || n < 0 || (size_t)n >= sizeof request)
        return cli_usage_error("guard", "a prefix is one word: 192.0.2.7, 192.0.2.0/24");
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    return status != CLI_OK ? status : control_call(path, request, stdout, stderr);
}
