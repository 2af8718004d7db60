/* SPDX-License-Identifier: Apache-2.0
 *
 * cli: the command. main() finds the subcommand by name and hands it the rest of the command line;
 * each subcommand is one file with one entry. Data goes to stdout, everything else to stderr. */
#ifndef WEIR_CLI_H
#define WEIR_CLI_H

/* Exit statuses, as sysexits(3) numbers them, so that a service manager can tell a file that needs
 * a person (78: do not restart) from trouble that may pass. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1, /* the command was understood and could not be carried out */
    CLI_USAGE = 64,
    CLI_UNAVAILABLE = 69, /* no running weir answers on the control socket */
    CLI_CONFIG = 78,
};

/* Subcommands: argv[0] is the subcommand's own name ("check"). Each returns an exit status and
 * answers --help on stdout with at least one example. */
int cli_run(int argc, char **argv);     /* run -c FILE */
int cli_check(int argc, char **argv);   /* check -c FILE | --reference | --json-schema */
int cli_show(int argc, char **argv);    /* show pools|bindings|store|… */
int cli_reload(int argc, char **argv);  /* reload */
int cli_drain(int argc, char **argv);   /* drain */
int cli_undrain(int argc, char **argv); /* undrain */
int cli_guard(int argc, char **argv);   /* guard allow|deny|forget PREFIX */
int cli_target(int argc, char **argv);  /* target POOL URI ready|drain|maint */
int cli_unbind(int argc, char **argv);  /* unbind AOR */
int cli_token(int argc, char **argv);   /* token -c FILE TOKEN */
int cli_load(int argc, char **argv);    /* load calls|phones|flood --to URI */

/* Says on stderr "weir COMMAND: WHAT" (printf-like) and "try: weir COMMAND --help".
 * Returns CLI_USAGE. Defined beside main(). */
int cli_usage_error(const char *command, const char *what, ...)
    __attribute__((format(printf, 2, 3)));

#endif
