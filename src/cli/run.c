/* SPDX-License-Identifier: Apache-2.0
 *
 * weir run: reads the configuration and hands it to the driver. */
#include <getopt.h>
#include <stdlib.h>
#include <sys/random.h>
#include "cli/common.h"
#include "net/net.h"

static const char help[] =
    "usage: weir run -c FILE\n"
    "\n"
    "Carries calls as FILE says, in the foreground, until it is told to stop. It starts only when\n"
    "everything in FILE can be had: a listener that cannot be bound is an error, not a warning.\n"
    "\n"
    "  -c, --config FILE   the configuration\n"
    "  -h, --help          write this\n"
    "\n"
    "Signals: HUP reads FILE again and opens the log anew. TERM refuses new dialogs, waits for\n"
    "open transactions (drain: in FILE) and stops; a second TERM stops at once.\n"
    "\n"
    "Environment: WEIR_NAMESERVERS=ADDRESS[:PORT],... instead of those of /etc/resolv.conf.\n"
    "\n"
    "Exit status: 0 stopped as told, 1 could not start, 64 wrong usage, 78 FILE is wrong.\n"
    "\n"
    "Example:\n"
    "  weir run -c /etc/weir/edge.yaml\n";

struct source {
    const char *path;
    uint8_t key[32];
};

static struct config *load(void *ctx, const struct config *previous, FILE *errors)
{
    const struct source *s = (const struct source *)ctx;
    return config_load(s->path, previous, s->key, errors);
}

int cli_run(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct source source = {0};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "+:c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            source.path = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return CLI_OK;
        case ':':
            return cli_usage_error("run", "%s needs a value", argv[optind - 1]);
        default:
            return cli_usage_error("run", "there is no option %s", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return cli_usage_error("run", "unexpected: %s (the file goes behind -c)", argv[optind]);
    if (source.path == NULL)
        return cli_usage_error("run", "which file? -c FILE");
    if (getrandom(source.key, sizeof source.key, 0) != (ssize_t)sizeof source.key) {
        perror("weir: getrandom");
        return CLI_FAILED;
    }
    struct config *c = load(&source, NULL, stderr);
    if (c == NULL)
        return CLI_CONFIG;
    const struct net_run run = {.config = c, .load = load, .ctx = &source};
    return net_run(&run);
}
