/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "net/net_int.h"

enum { EXIT_FAILED = 1, EXIT_UNAVAILABLE = 69, LINE_MAX_BYTES = 256 * 1024 };
enum { SILENCE_S_MAX = 30 }; /* a reload waits for workers and for names */

static int control_connect(const char *path, FILE *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path) {
        fprintf(err, "weir: the path of the control socket is too long: %s\n", path);
        return -1;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
        int error = errno;
        if (error == EACCES)
            fprintf(err, "weir: %s may not be opened: root may, and members of its group\n", path);
        else
            fprintf(err, "weir: no running weir answers at %s: %s\n", path, strerror(error));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    const struct timeval patience = {.tv_sec = SILENCE_S_MAX};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* Undoes the JSON escapes that control.c writes into an error's text. */
static void put_unescaped(struct slice s, FILE *err)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\\' || i + 1 == s.n) {
            fputc(s.p[i], err);
            continue;
        }
        i++;
        if (s.p[i] == 'n')
            fputc('\n', err);
        else if (s.p[i] == 'u' && s.n - i > 4)
            i += 4;
        else
            fputc(s.p[i], err);
    }
}

static void tell_error(struct slice line, FILE *err)
{
    static const char key[] = "\"error\":\"";
    const char *at = (const char *)memmem(line.p, line.n, key, sizeof key - 1);
    if (at == NULL)
        return;
    struct slice rest = slice_drop(line, (size_t)(at - line.p) + sizeof key - 1);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '"')
        n += rest.p[n] == '\\' ? 2 : 1;
    struct slice text = slice_trim(slice_take(rest, n));
    /* Whole lines are for people already; a few words are not. */
    bool is_lines = text.n >= 2 && memcmp(text.p + text.n - 2, "\\n", 2) == 0;
    if (!is_lines)
        fputs("weir: ", err);
    put_unescaped(text, err);
    if (!is_lines)
        fputc('\n', err);
}

/* Copies lines up to the last one, which is for us. */
static int copy_answer(FILE *from, FILE *out, FILE *err)
{
    static char line[LINE_MAX_BYTES];
    static const char end[] = "{\"end\":true,\"ok\":";
    errno = 0;
    while (fgets(line, sizeof line, from) != NULL) {
        size_t n = strlen(line);
        if (n < sizeof end || memcmp(line, end, sizeof end - 1) != 0) {
            fputs(line, out);
            continue;
        }
        if (line[sizeof end - 1] == 't')
            return 0;
        tell_error(slice_of(line, n), err);
        return EXIT_FAILED;
    }
    if (errno == EAGAIN) {
        fprintf(err, "weir: it runs, and has said nothing for %d s: it hangs\n", SILENCE_S_MAX);
        return EXIT_UNAVAILABLE;
    }
    fprintf(err, "weir: the answer broke off\n");
    return EXIT_FAILED;
}

int control_call(const char *socket_path, const char *request, FILE *out, FILE *err)
{
    int fd = control_connect(socket_path, err);
    if (fd < 0)
        return EXIT_UNAVAILABLE;
    FILE *f = fdopen(fd, "r+");
    if (f == NULL) {
        close(fd);
        return EXIT_FAILED;
    }
    char line[2048];
    int n = snprintf(line, sizeof line, "%s\n", request);
    MUST(n > 0 && (size_t)n < sizeof line);
    /* One that has no time for us says so and hangs up: what it said is still there to read. */
    (void)!send(fd, line, (size_t)n, MSG_NOSIGNAL);
    int status = copy_answer(f, out, err);
    fclose(f);
    return status;
}
