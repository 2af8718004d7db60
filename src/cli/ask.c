/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "cli/common.h"
#include "config/config.h"

static int copy_path(struct slice from, char *path, size_t cap)
{
    if (from.n >= cap) {
        fprintf(stderr, "weir: the path of the control socket is too long\n");
        return CLI_USAGE;
    }
    memcpy(path, from.p, from.n);
    path[from.n] = '\0';
    return CLI_OK;
}

static int socket_of_file(const char *file, char *path, size_t cap)
{
    static const uint8_t key[32]; /* asking needs no secret */
    struct config *c = config_load(file, NULL, key, stderr);
    if (c == NULL)
        return CLI_CONFIG;
    int status = copy_path(c->control, path, cap);
    config_free(c);
    return status;
}

/* A killed weir leaves its socket file behind; one that we may not open may be a live one. */
static bool is_dead(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n >= sizeof sa.sun_path)
        return false;
    memcpy(sa.sun_path, path, n + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool dead = fd >= 0 && connect(fd, (const struct sockaddr *)&sa, sizeof sa) != 0 &&
                errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return dead;
}

/* Puts those that are alive in front and counts them; one alone is not asked. */
static size_t count_alive(glob_t *found)
{
    size_t kept = 0;
    for (size_t i = 0; found->gl_pathc > 1 && i < found->gl_pathc; i++) {
        char *path = found->gl_pathv[i];
        if (is_dead(path))
            continue;
        found->gl_pathv[i] = found->gl_pathv[kept];
        found->gl_pathv[kept++] = path;
    }
    return kept > 0 ? kept : found->gl_pathc;
}

/* The one that runs on this machine, by the places where config puts sockets. */
static int socket_by_place(char *path, size_t cap)
{
    glob_t found = {0};
    /* An unreadable folder finds nothing, like an empty one. */
    (void)glob("/run/weir/*.sock", 0, NULL, &found);
    (void)glob("/tmp/weir-*.sock", GLOB_APPEND, NULL, &found);
    size_t count = count_alive(&found);
    int status = CLI_UNAVAILABLE;
    if (count == 0) {
        fputs("weir: no running weir found: say which with -s SOCKET or -c FILE\n", stderr);
    } else if (count > 1) {
        fputs("weir: which one? say -s SOCKET or -c FILE; there are\n", stderr);
        for (size_t i = 0; i < count; i++)
            fprintf(stderr, "  %s\n", found.gl_pathv[i]);
    } else {
        status = copy_path(slice_cstr(found.gl_pathv[0]), path, cap);
    }
    globfree(&found);
    return status;
}

int cli_socket(const char *socket, const char *file, char *path, size_t cap)
{
    if (socket != NULL)
        return copy_path(slice_cstr(socket), path, cap);
    if (file != NULL)
        return socket_of_file(file, path, cap);
    const char *env = getenv("WEIR_SOCKET");
    if (env != NULL && env[0] != '\0')
        return copy_path(slice_cstr(env), path, cap);
    return socket_by_place(path, cap);
}

static int set_output(struct cli_ask *a, const char *value)
{
    a->json = strcmp(value, "json") == 0;
    if (a->json || strcmp(value, "table") == 0)
        return -1;
    return cli_usage_error(a->command, "-o is json or table, not '%s'", value);
}

static int set_within(struct cli_ask *a, const char *value)
{
    if (people_parse_span(value, &a->within_ms) == 0 && a->within_ms <= UINT32_MAX)
        return -1;
    return cli_usage_error(a->command, "--within is a time as 30s, 10m or 2h, not '%s'", value);
}

static int set_period(struct cli_ask *a, const char *value)
{
    uint64_t ms;
    a->period = value;
    if (people_parse_span(value, &ms) == 0 && ms >= 1000)
        return -1;
    return cli_usage_error(a->command, "--for is a time as 30s, 10m, 2h or 7d, not '%s'", value);
}

int cli_ask_options(struct cli_ask *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'}, {"config", required_argument, NULL, 'c'},
        {"output", required_argument, NULL, 'o'}, {"wait", no_argument, NULL, 'w'},
        {"within", required_argument, NULL, 'W'}, {"for", required_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":s:c:o:wh", options, NULL)) != -1;) {
        int status = -1;
        if (c == 's')
            a->socket = optarg;
        else if (c == 'c')
            a->file = optarg;
        else if (c == 'o' && a->has_output)
            status = set_output(a, optarg);
        else if (c == 'w' && a->has_wait)
            a->wait = true;
        else if (c == 'W' && a->has_within)
            status = set_within(a, optarg);
        else if (c == 'F' && a->has_for)
            status = set_period(a, optarg);
        else if (c == 'h') {
            fputs(a->help, stdout);
            return CLI_OK;
        } else if (c == ':')
            return cli_usage_error(a->command, "%s needs a value", argv[optind - 1]);
        else
            return cli_usage_error(a->command, "there is no option %s", argv[optind - 1]);
        if (status >= 0)
            return status;
    }
    a->first = optind;
    return -1;
}

bool cli_is_word(const char *s)
{
    return s[0] != '\0' && strpbrk(s, " \t\r\n") == NULL;
}

const char *cli_nearest(const char *word, const char *const *words, size_t count)
{
    const char *best = NULL;
    unsigned best_distance = 3; /* further away is another word */
    size_t length = strlen(word);
    for (size_t i = 0; i < count; i++) {
        unsigned d = text_distance(slice_cstr(word), slice_cstr(words[i]));
        bool begins = length >= 2 && strncmp(word, words[i], length) == 0;
        if (begins || (d < best_distance && d < length)) {
            best = words[i];
            best_distance = begins ? 0 : d;
        }
    }
    return best;
}
