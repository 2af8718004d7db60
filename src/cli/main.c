/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cli/common.h"

static int cli_version(int argc, char **argv);
static int cli_help(int argc, char **argv);

/* The one table of commands. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
    const char *what;
} commands[] = {
    {"run", cli_run, "run -c FILE", "carry calls, until TERM"},
    {"check", cli_check, "check -c FILE", "say what is wrong with a configuration"},
    {"show", cli_show, "show pools|flows|bindings|counters|…", "look into a running weir"},
    {"reload", cli_reload, "reload", "read the configuration again, without losing a call"},
    {"drain", cli_drain, "drain [--within TIME] [--wait]", "move phones elsewhere, let calls end"},
    {"undrain", cli_undrain, "undrain", "end a drain: everybody is welcome again"},
    {"guard", cli_guard, "guard allow|deny|forget PREFIX",
     "say who may come in, whatever limits say"},
    {"target", cli_target, "target POOL URI ready|drain|maint", "take a target out, put it back"},
    {"unbind", cli_unbind, "unbind AOR", "end the bindings of an address-of-record"},
    {"token", cli_token, "token -c FILE TOKEN", "verify a token, and say what it means"},
    {"load", cli_load, "load calls|phones|flood --to URI", "make traffic for a SIP server"},
    {"version", cli_version, "version", "print the version"},
    {"help", cli_help, "help [COMMAND]", "print this, or a command's help"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

int cli_usage_error(const char *command, const char *what, ...)
{
    const char *gap = command[0] != '\0' ? " " : "";
    va_list args;
    fprintf(stderr, "weir%s%s: ", gap, command);
    va_start(args, what);
    vfprintf(stderr, what, args);
    va_end(args);
    fprintf(stderr, "\ntry: weir%s%s --help\n", gap, command);
    return CLI_USAGE;
}

static void print_help(FILE *out)
{
    fputs("usage: weir COMMAND [OPTION …]\n\n"
          "weir is a SIP edge: a load balancer for SIP that fails over by transaction, holds the\n"
          "connections of phones, and can be their registrar.\n\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  weir %-47s %s\n", commands[i].usage, commands[i].what);
    fputs(
        "\n"
        "Commands that talk to a running weir find it by -s SOCKET, by -c FILE, by $WEIR_SOCKET,\n"
        "or at the default place. Every command has --help.\n"
        "\n"
        "Exit status: 0 done, 1 failed, 64 wrong usage, 69 no running weir answers,\n"
        "78 the configuration is wrong.\n"
        "\n"
        "Example:\n"
        "  weir check -c edge.yaml && weir run -c edge.yaml\n",
        out);
}

static int unknown(const char *word)
{
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    const char *near = cli_nearest(word, names, COMMANDS);
    if (near != NULL)
        return cli_usage_error("", "there is no command '%s': did you mean '%s'?", word, near);
    return cli_usage_error("", "there is no command '%s'", word);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int cli_version(int argc, char **argv)
{
    if (argc > 1 && is_help(argv[1])) {
        puts("usage: weir version\n\nPrints the version of this program.\n\n"
             "Example:\n  weir version");
        return CLI_OK;
    }
    if (argc > 1)
        return cli_usage_error("version", "unexpected: %s", argv[1]);
    puts("weir " WEIR_VERSION);
    return CLI_OK;
}

static int run_command(const char *name, int argc, char **argv)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc, argv);
    return unknown(name);
}

static int cli_help(int argc, char **argv)
{
    char help_option[] = "--help";
    if (argc < 2 || is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    char *ask[] = {argv[1], help_option, NULL};
    return run_command(argv[1], 2, ask);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (is_help(argv[1])) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return cli_version(1, argv + 1);
    int status = run_command(argv[1], argc - 1, argv + 1);
    /* A full disk under a redirected stdout must not look like success. */
    if (fflush(stdout) != 0 && status == CLI_OK) {
        perror("weir: stdout");
        return CLI_FAILED;
    }
    return status;
}
