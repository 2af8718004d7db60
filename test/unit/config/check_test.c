/* SPDX-License-Identifier: Apache-2.0
 *
 * covers: cli/check.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* Compiled in: the command's objects are no part of the rooms' library. */
#include "cli/check.c"

int cli_usage_error(const char *command, const char *what, ...)
{
    fprintf(stderr, "usage error of %s: ", command);
    va_list args;
    va_start(args, what);
    vfprintf(stderr, what, args);
    va_end(args);
    return CLI_USAGE;
}

/* What a command wrote to one of the two streams. */
struct said {
    FILE *file;
    int saved, fd;
    char text[4096];
};

static struct said capture(FILE *stream)
{
    struct said s = {.file = tmpfile(), .fd = fileno(stream)};
    assert_non_null(s.file);
    fflush(stream);
    s.saved = dup(s.fd);
    dup2(fileno(s.file), s.fd);
    return s;
}

static void release(struct said *s, FILE *stream)
{
    fflush(stream);
    dup2(s->saved, s->fd);
    close(s->saved);
    rewind(s->file);
    s->text[fread(s->text, 1, sizeof s->text - 1, s->file)] = 0;
    fclose(s->file);
}

static const char small[] = "node: {name: edge-1, workers: 2}\n"
                            "listeners: [{bind: \"udp://127.0.0.1:5060\", side: outside}]\n"
                            "pools: {border: {targets: [\"udp://127.0.0.1:5070\"]}}\n"
                            "routes: [{from: outside, to: border}]\n";

static const struct {
    const char *name;
    const char *file; /* text of the file behind -c FILE; NULL: no such file is given */
    const char *args[3];
    int status;
    const char *out, *err; /* begin with, behind the file's name */
} cases[] = {
    {"fine",
     small,
     {"-c", "FILE"},
     CLI_OK,
     ": fine: 1 listener, 1 pool with 1 target, 1 route, 2 workers\n",
     ": note: no secrets.tokens: "},
    {"bad",
     "node: {nam: x}\n",
     {"--config", "FILE"},
     CLI_CONFIG,
     "",
     ":1:1: the file has no `listeners`"},
    {"no file",
     NULL,
     {"-c", "/does/not/exist"},
     CLI_CONFIG,
     "",
     "/does/not/exist:1:1: cannot be read: No such file or directory"},
    {"nothing", NULL, {NULL}, CLI_USAGE, "", "usage error of check: which file? -c FILE"},
    {"no value", NULL, {"-c"}, CLI_USAGE, "", "usage error of check: -c needs a value"},
    {"unknown option",
     NULL,
     {"--nope"},
     CLI_USAGE,
     "",
     "usage error of check: there is no option --nope"},
    {"unknown letter", NULL, {"-x"}, CLI_USAGE, "", "usage error of check: there is no option -x"},
    {"file without -c",
     NULL,
     {"edge.yaml"},
     CLI_USAGE,
     "",
     "usage error of check: unexpected: edge.yaml"},
    {"help", NULL, {"--help"}, CLI_OK, "usage: weir check -c FILE\n", ""},
    {"reference", NULL, {"--reference"}, CLI_OK, "# weir.yaml(5)", ""},
    {"schema", NULL, {"--json-schema"}, CLI_OK, "{\"$schema\": ", ""},
};

static bool begins(const char *text, const char *file, const char *want)
{
    if (*want == 0)
        return *text == 0;
    if (file != NULL && strncmp(text, file, strlen(file)) == 0)
        text += strlen(file);
    return strncmp(text, want, strlen(want)) == 0;
}

static void check_does_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[] = "/tmp/weir-check-XXXXXX", command[] = "check";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        const char *text = cases[i].file != NULL ? cases[i].file : "";
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
        char words[3][64];
        char *argv[5] = {command, NULL, NULL, NULL, NULL};
        int argc = 1;
        for (; argc < 4 && cases[i].args[argc - 1] != NULL; argc++) {
            const char *word = cases[i].args[argc - 1];
            snprintf(words[argc - 1], sizeof words[0], "%s",
                     strcmp(word, "FILE") == 0 ? path : word);
            argv[argc] = words[argc - 1];
        }
        struct said out = capture(stdout), err = capture(stderr);
        int status = cli_check(argc, argv);
        release(&out, stdout);
        release(&err, stderr);
        unlink(path);
        const char *file = cases[i].file != NULL ? path : NULL;
        if (status != cases[i].status || !begins(out.text, file, cases[i].out) ||
            !begins(err.text, file, cases[i].err))
            fail_msg("%s: status %d\n stdout %s\n stderr %s", cases[i].name, status, out.text,
                     err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(check_does_what_it_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
