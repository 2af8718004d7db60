/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs one fuzz target over files and folders, without a fuzzer: how `make test` replays corpora,
 * in any build and with any compiler. Each input is its own allocation, so that a sanitizer sees a
 * read past its end. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 16 * 1024 * 1024 };

static unsigned long inputs;

static int replay_file(const char *path, size_t size)
{
    if (size > INPUT_BYTES_MAX) {
        fprintf(stderr, "%s: larger than %d bytes\n", path, INPUT_BYTES_MAX);
        return -1;
    }
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size);
    int failed = f == NULL || (data == NULL && size > 0) || fread(data, 1, size, f) != size;
    if (failed) {
        perror(path);
    } else {
        if (getenv("VERBOSE") != NULL)
            fprintf(stderr, "%s\n", path);
        LLVMFuzzerTestOneInput(data, size);
        inputs++;
    }
    free(data);
    if (f != NULL)
        fclose(f);
    return failed ? -1 : 0;
}

static int replay(const char *path, int depth)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path, (size_t)st.st_size);
    struct dirent **names = NULL;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0 || depth == 0) {
        fprintf(stderr, "%s: cannot be listed, or too deep\n", path);
        return -1;
    }
    int failed = 0;
    for (int i = 0; i < count; i++) {
        char below[4096];
        int n = snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && n > 0 && (size_t)n < sizeof below)
            failed |= replay(below, depth - 1);
        free(names[i]);
    }
    free(names);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i], 4);
    printf("%lu inputs\n", inputs);
    return failed ? 1 : 0;
}
