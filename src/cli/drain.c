/* SPDX-License-Identifier: Apache-2.0
 *
 * weir drain, weir undrain: begin and end a drain, and tell how far it is:
 *
 *      draining ▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░ 62 %  5,712 of 15,000 phones left, 12 calls, ends in 3:48
 *
 * On a terminal that line is written anew, elsewhere another one is written when it changes. */
#include <sys/ioctl.h>
#include <time.h>
#include "cli/common.h"
#include "net/net.h"

static const char drain_help[] =
    "usage: weir drain [--within TIME] [--wait] [-s SOCKET | -c FILE]\n"
    "\n"
    "Takes a running weir out of service without losing a call. New dialogs are refused (503), "
    "and\n"
    "so are probes; requests inside dialogs go on. Connections of phones are closed at an even "
    "pace,\n"
    "those with a call when their call or the time is over; phones that register are sent to\n"
    "`drain.move_to` (302), or away (503). It does not stop: send it TERM for that. `weir "
    "undrain`\n"
    "ends it, and so does a restart.\n"
    "\n"
    "      --within TIME       all phones are gone by then: 30s, 10m, 2h (drain.phones_within)\n"
    "  -w, --wait              show how far it is; return when no phone is connected and no "
    "request\n"
    "                          is open any more. Who interrupts it does not end the drain\n"
    "  -s, --socket SOCKET     the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE       the file that names it\n"
    "  -h, --help              write this\n"
    "\n"
    "Exit status: 0 done, 1 failed, or (--wait) ended before it was empty, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir drain --within 10m --wait && systemctl stop weir\n";

static const char undrain_help[] =
    "usage: weir undrain [-s SOCKET | -c FILE]\n"
    "\n"
    "Ends a drain of a running weir: it takes new dialogs again, and answers probes. Phones that\n"
    "have left come back when they choose to.\n"
    "\n"
    "  -s, --socket SOCKET   the control socket ($WEIR_SOCKET)\n"
    "  -c, --config FILE     the file that names it\n"
    "  -h, --help            write this\n"
    "\n"
    "Exit status: 0 done, 1 failed, 69 no weir answers.\n"
    "\n"
    "Example:\n"
    "  weir undrain\n";

/* ---- how far it is ---------------------------------------------------------------------------
 */

struct progress {
    bool draining; /* every worker */
    uint64_t at_start, phones, calls, transactions, moved, left_ms;
};

static struct progress progress_of(const struct rows *rows)
{
    struct progress p = {.draining = rows->count > 0};
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *r = &rows->row[i];
        uint64_t left = row_number(r, "left_ms");
        p.draining &= row_true(r, "draining");
        p.at_start += row_number(r, "flows_at_start");
        p.phones += row_number(r, "flows");
        p.calls += row_number(r, "calls");
        p.transactions += row_number(r, "transactions");
        p.moved += row_number(r, "moved");
        p.left_ms = left > p.left_ms ? left : p.left_ms;
    }
    return p;
}

static bool is_empty(const struct progress *p)
{
    return p->phones == 0 && p->transactions == 0;
}

/* As much of the change as a line of its own is worth. */
static bool same_progress(const struct progress *a, const struct progress *b)
{
    return a->draining == b->draining && a->phones == b->phones && a->calls == b->calls &&
           a->transactions == b->transactions;
}

static void put_what_is_left(struct text *t, const struct progress *p)
{
    people_count(t, p->phones);
    TEXT_LIT(t, " of ");
    people_things(t, p->at_start > p->phones ? p->at_start : p->phones, "phone");
    TEXT_LIT(t, " left");
    if (p->calls > 0) {
        TEXT_LIT(t, ", ");
        people_things(t, p->calls, "call");
    }
    if (p->transactions > 0) {
        TEXT_LIT(t, ", ");
        people_things(t, p->transactions, "request");
        TEXT_LIT(t, " open");
    }
    if (p->phones > 0 && p->left_ms > 0) {
        TEXT_LIT(t, ", ends in ");
        people_clock(t, p->left_ms);
    }
}

static void put_progress(struct text *t, const struct progress *p, bool bar)
{
    uint64_t all = p->at_start > p->phones ? p->at_start : p->phones;
    if (!p->draining) {
        TEXT_LIT(t, "not draining: ");
        people_things(t, p->phones, "phone");
        TEXT_LIT(t, ", ");
        people_things(t, p->calls, "call");
        return;
    }
    if (is_empty(p)) {
        TEXT_LIT(t, "drained: no phone is connected, no request is open");
        return;
    }
    TEXT_LIT(t, "draining ");
    if (bar) {
        people_bar(t, all - p->phones, all);
        text_put_char(t, ' ');
    }
    text_put_u64(t, all > 0 ? (all - p->phones) * 100 / all : 100);
    TEXT_LIT(t, " %  ");
    put_what_is_left(t, p);
}

void show_drain(const struct rows *rows)
{
    static const char *const heads[] = {
        "WORKER", "DRAINING", "PHONES AT START", "PHONES", "CALLS", "REQUESTS", "MOVED"};
    static const char *const keys[] = {"worker", "draining",     "flows_at_start", "flows",
                                       "calls",  "transactions", "moved"};
    char bytes[512];
    struct text line = text_into(bytes, sizeof bytes);
    struct progress p = progress_of(rows);
    put_progress(&line, &p, true);
    printf("%.*s\n", SLICE_ARG(text_slice(&line)));
    struct table *t = table_new(heads, 7);
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *r = &rows->row[i];
        for (unsigned k = 0; k < 7; k++)
            table_add(t, k != 1                 ? row_get(r, keys[k])
                         : row_true(r, keys[k]) ? SLICE("yes")
                                                : SLICE("no"));
    }
    table_print(t, stdout, "no workers");
}

/* ---- waiting ---------------------------------------------------------------------------------
 */

struct telling {
    struct progress told;
    uint64_t told_at_ms;
    bool any;     /* something was told */
    bool redraws; /* on a terminal */
};

static uint64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* One that is too long would not be overwritten, but scroll. */
static bool fits_terminal(struct slice line)
{
    struct winsize size;
    return ioctl(fileno(stderr), TIOCGWINSZ, &size) != 0 || size.ws_col == 0 ||
           people_width(line) < size.ws_col;
}

static void tell(struct telling *t, const struct progress *p, bool last)
{
    enum { PAUSE_MS = 1000 };
    char bytes[512];
    struct text line = text_into(bytes, sizeof bytes);
    uint64_t now = clock_ms();
    bool news = !t->any || last || now - t->told_at_ms >= PAUSE_MS;
    put_progress(&line, p, true);
    if (t->redraws && !fits_terminal(text_slice(&line))) {
        line = text_into(bytes, sizeof bytes);
        put_progress(&line, p, false);
    }
    if (t->redraws) {
        fprintf(stderr, "\r%.*s\033[K%s", SLICE_ARG(text_slice(&line)), last ? "\n" : "");
    } else if (news && (!t->any || !same_progress(p, &t->told))) {
        fprintf(stderr, "%.*s\n", SLICE_ARG(text_slice(&line)));
        t->told_at_ms = now;
        t->told = *p;
    }
    t->any = true;
}

static int look(const char *path, struct progress *ret_progress)
{
    struct rows rows;
    int status = rows_fetch(path, "show drain", &rows);
    *ret_progress = progress_of(&rows);
    rows_free(&rows);
    return status;
}

static int wait_until_empty(const char *path)
{
    struct telling telling = {.redraws = people_redraws(stderr)};
    for (;;) {
        struct progress p;
        int status = look(path, &p);
        if (status != CLI_OK)
            return status;
        bool over = is_empty(&p) || !p.draining;
        tell(&telling, &p, over);
        if (over && !p.draining)
            fputs("weir: the drain was called off\n", stderr);
        if (over)
            return p.draining ? CLI_OK : CLI_FAILED;
        const struct timespec pause = {0, 250000000};
        nanosleep(&pause, NULL);
    }
}

/* ---- the commands ----------------------------------------------------------------------------
 */

static int order(struct cli_ask *ask, int argc, char **argv, char *path, size_t cap)
{
    int status = cli_ask_options(ask, argc, argv);
    if (status >= 0)
        return status;
    if (ask->first < argc)
        return cli_usage_error(ask->command, "unexpected: %s", argv[ask->first]);
    char request[64];
    if (ask->within_ms > 0)
        snprintf(request, sizeof request, "%s %llu", ask->command,
                 (unsigned long long)ask->within_ms);
    else
        snprintf(request, sizeof request, "%s", ask->command);
    status = cli_socket(ask->socket, ask->file, path, cap);
    if (status == CLI_OK)
        status = control_call(path, request, stdout, stderr);
    return status == CLI_OK ? -1 : status;
}

int cli_drain(int argc, char **argv)
{
    struct cli_ask ask = {
        .command = "drain", .help = drain_help, .has_wait = true, .has_within = true};
    char path[256];
    int status = order(&ask, argc, argv, path, sizeof path);
    if (status >= 0)
        return status;
    return ask.wait ? wait_until_empty(path) : CLI_OK;
}

int cli_undrain(int argc, char **argv)
{
    struct cli_ask ask = {.command = "undrain", .help = undrain_help};
    char path[256];
    int status = order(&ask, argc, argv, path, sizeof path);
    return status >= 0 ? status : CLI_OK;
}
