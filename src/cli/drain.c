/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <time.h>
#include "cli/common.h"
#include "net/net.h"

static const char help[] = "usage: weir drain [--wait] [-s SOCKET | -c FILE]\n"
                           "\n"
                           "Makes a running weir refuse new dialogs (503); requests inside dialogs "
                           "go on. It does not stop:\n"
                           "send it TERM for that, which drains by itself. A restart ends it.\n"
                           "\n"
                           "  -w, --wait            return when no transaction is open any more\n"
                           "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
                           "  -c, --config FILE     the file that names it\n"
                           "  -h, --help            write this\n"
                           "\n"
                           "Exit status: 0 done, 1 failed, 69 no weir answers.\n"
                           "\n"
                           "Example:\n"
                           "  weir drain --wait && systemctl stop weir\n";

/* Open transactions of all workers, or -1 with *ret_status set. */
static int64_t open_transactions(const char *path, int *ret_status)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL) {
        *ret_status = CLI_FAILED;
        return -1;
    }
    *ret_status = control_call(path, "show workers", f, stderr);
    fclose(f);
    int64_t sum = *ret_status == CLI_OK ? 0 : -1;
    for (struct slice rest = slice_of(text, n); sum >= 0 && rest.n > 0;) {
        size_t line = slice_find(rest, '\n');
        struct row row;
        if (row_parse(slice_take(rest, line), &row) == 0)
            sum += (int64_t)row_number(&row, "relays_open");
        rest = slice_drop(rest, line + 1);
    }
    free(text);
    return sum;
}

static int wait_until_drained(const char *path)
{
    int64_t told = -1;
    for (;;) {
        int status;
        int64_t open = open_transactions(path, &status);
        if (open <= 0)
            return status;
        if (open != told)
            fprintf(stderr, "weir: %lld open\n", (long long)open);
        told = open;
        const struct timespec pause = {0, 250000000};
        nanosleep(&pause, NULL);
    }
}

int cli_drain(int argc, char **argv)
{
    struct cli_ask ask = {.command = "drain", .help = help, .has_wait = true};
    char path[256];
    int status = cli_ask_options(&ask, argc, argv);
    if (status >= 0)
        return status;
    if (ask.first < argc)
        return cli_usage_error("drain", "unexpected: %s", argv[ask.first]);
    status = cli_socket(ask.socket, ask.file, path, sizeof path);
    if (status == CLI_OK)
        status = control_call(path, "drain", stdout, stderr);
    return status == CLI_OK && ask.wait ? wait_until_drained(path) : status;
}
