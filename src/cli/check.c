/* SPDX-License-Identifier: Apache-2.0
 *
 * weir check: reads a configuration as `weir run` would, and says what it found. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

#include "config/config.h"
#include "net/net.h"

static const char help[] =
    "usage: weir check -c FILE\n"
    "       weir check --reference | --json-schema\n"
    "\n"
    "Reads a configuration exactly as `weir run` does, and starts nothing. Every error is written\n"
    "to stderr as FILE:LINE:COLUMN: what is wrong; what would be right.\n"
    "\n"
    "  -c, --config FILE   the file to check\n"
    "      --reference     write the reference of all keys (Markdown)\n"
    "      --json-schema   write a JSON schema, for editors\n"
    "  -h, --help          write this\n"
    "\n"
    "Exit status: 0 the file is fine, 78 it is not, 64 wrong usage.\n"
    "\n"
    "Example:\n"
    "  weir check -c /etc/weir/edge.yaml && weir reload\n";

static void say_count(const char *before, unsigned n, const char *what)
{
    printf("%s%u %s%s", before, n, what, n == 1 ? "" : "s");
}

static void say_fine(const char *path, const struct config *c)
{
    const struct edge_opts *e = &c->engine.edge;
    unsigned listeners = 0, targets = 0;
    for (unsigned i = 0; i < LISTENERS_MAX; i++)
        listeners += e->listener[i].used;
    for (unsigned i = 0; i < e->pool_count; i++)
        targets += e->pools[i].target_count;
    printf("%s: fine", path);
    say_count(": ", listeners, "listener");
    if (e->pool_count > 0) {
        say_count(", ", e->pool_count, "pool");
        say_count(" with ", targets, "target");
    }
    if (e->registrar.on) {
        printf(", a registrar of %.*s", SLICE_ARG(e->registrar.domains[0]));
        if (e->registrar.domain_count > 1)
            printf(" and %u more", e->registrar.domain_count - 1U);
        if (e->registrar.digest)
            say_count(" with ", e->registrar.user_count, "user");
    }
    say_count(", ", e->rule_count, "route");
    say_count(", ", c->workers, "worker");
    putchar('\n');
}

static void say_names(const char *path, const struct edge_opts *o)
{
    for (uint16_t i = 0; i < o->pool_count; i++)
        for (uint16_t k = 0; k < o->pools[i].target_count; k++) {
            const struct pool_target_opts *t = &o->pools[i].targets[k];
            if (t->addr.family == 0)
                fprintf(stderr,
                        "%s: note: pool %.*s: nobody can resolve the name of %.*s now: it would "
                        "take no calls until a reload finds its address\n",
                        path, SLICE_ARG(o->pools[i].name), SLICE_ARG(t->uri));
        }
}

static void say_notes(const char *path, const struct config *c)
{
    const struct registrar_opts *r = &c->engine.edge.registrar;
    if (c->tokens_are_random)
        fprintf(stderr,
                "%s: note: no secrets.tokens: a random secret at start; open dialogs do "
                "not survive a restart\n",
                path);
    if (r->on && !r->digest)
        fprintf(stderr,
                "%s: note: roles.registrar.auth is none: everybody may register as anybody, and "
                "so take anybody's calls\n",
                path);
    if (r->on && r->digest && r->user_count == 0)
        fprintf(stderr, "%s: note: the credentials file has no users: nobody can register\n", path);
    say_names(path, &c->engine.edge);
}

static int check_file(const char *path)
{
    /* Only a running edge needs keys that nobody can guess. */
    static const uint8_t key[32];
    struct config *c = config_load(path, NULL, key, stderr);
    if (c == NULL)
        return CLI_CONFIG;
    if (net_check_certificates(c, stderr) != 0) {
        config_free(c);
        return CLI_CONFIG;
    }
    say_fine(path, c);
    say_notes(path, c);
    config_free(c);
    return CLI_OK;
}

int cli_check(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"reference", no_argument, NULL, 'r'},
        {"json-schema", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *path = NULL;
    opterr = 0;
    optind = 0; /* GNU: forget an earlier command line, not only its place */
    for (int c; (c = getopt_long(argc, argv, "+:c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            path = optarg;
            break;
        case 'r':
            config_write_reference(stdout);
            return CLI_OK;
        case 'j':
            config_write_json_schema(stdout);
            return CLI_OK;
        case 'h':
            fputs(help, stdout);
            return CLI_OK;
        case ':':
            return cli_usage_error("check", "%s needs a value", argv[optind - 1]);
        default:
            return cli_usage_error("check", "there is no option %s", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return cli_usage_error("check", "unexpected: %s (the file goes behind -c)", argv[optind]);
    if (path == NULL)
        return cli_usage_error("check", "which file? -c FILE");
    return check_file(path);
}
