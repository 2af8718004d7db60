/* SPDX-License-Identifier: Apache-2.0
 *
 * weir load: traffic for a SIP server. */
#include <string.h>
#include "cli/common.h"
#include "load/load.h"

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

int cli_load(int argc, char **argv)
{
    char why[LOAD_WHY_BYTES_MAX];
    struct load_opts opts;
    if (wants_help(argc, argv)) {
        load_help(argv[1], stdout);
        return CLI_OK;
    }
    if (load_options(argc - 1, argv + 1, &opts, why) != 0)
        return cli_usage_error("load", "%s", why);
    return load_run(&opts, stdout, stderr) == 0 ? CLI_OK : CLI_FAILED;
}
