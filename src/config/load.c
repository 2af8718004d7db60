/* SPDX-License-Identifier: Apache-2.0
 *
 * Files in, snapshot out. */
#include "config/config_int.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ----------------------------------------------------------------------------------- */

static int read_all(struct mem *m, int fd, size_t max, struct slice *ret_text, unsigned *ret_mode)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -1;
    if (!S_ISREG(st.st_mode))
        return -2;
    if ((uint64_t)st.st_size > max)
        return -3;
    char *p = (char *)mem_take(m, (size_t)st.st_size + 1);
    if (p == NULL) {
        errno = ENOMEM;
        return -1;
    }
    size_t n = 0;
    while (n < (size_t)st.st_size) {
        ssize_t got = read(fd, p + n, (size_t)st.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *ret_text = slice_of(p, n);
    *ret_mode = st.st_mode;
    return 0;
}

int file_read(struct mem *m, const char *path, size_t max, struct slice *ret_text,
              unsigned *ret_mode)
{
    /* Not blocking: a path that turns out to be a FIFO must not hold us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    int error = read_all(m, fd, max, ret_text, ret_mode);
    int why = errno;
    close(fd);
    errno = why;
    return error;
}

const char *file_trouble(int error)
{
    return error == -1 ? strerror(errno) : error == -2 ? "not a regular file" : "too large";
}

/* ---- secrets --------------------------------------------------------------------------------- */

/* Never the secret itself: what is found out about tickets must not tell anything about tokens. */
void secret_for_tickets(struct slice secret, uint8_t ret[TICKET_SECRET_BYTES])
{
    static const unsigned char label[] = "weir: TLS session tickets, 1";
    unsigned n = 0;
    MUST(HMAC(EVP_sha256(), secret.p, (int)secret.n, label, sizeof label - 1, ret, &n) != NULL);
    MUST(n == TICKET_SECRET_BYTES);
}

static void add_secret(struct report *r, struct slice file, struct place at, struct slice secret,
                       struct token_keys *keys, uint8_t ret_tickets[][TICKET_SECRET_BYTES])
{
    if (keys->count == TOKEN_KEYS_MAX) {
        report_in(r, file, at, "more than %d secrets; take the oldest out", TOKEN_KEYS_MAX);
        return;
    }
    struct token_key *k = &keys->key[keys->count];
    if (token_key_init(k, secret) != 0) {
        report_in(r, file, at,
                  "this secret has %zu bytes; write %d to %d, for example what `openssl rand -hex "
                  "32` says",
                  secret.n, TOKEN_KEY_BYTES_MIN, TOKEN_KEY_BYTES_MAX);
        return;
    }
    for (unsigned i = 0; i < keys->count; i++) {
        if (keys->key[i].id != k->id)
            continue;
        /* The id is one byte of a hash: by chance 1 in 256 pairs share it. */
        report_in(r, file, at,
                  "this secret is the same as secret %u, or has the same id; make a "
                  "new one",
                  i + 1);
        return;
    }
    secret_for_tickets(secret, ret_tickets[keys->count]);
    keys->count++;
}

void secrets_read(struct report *r, struct slice path, struct place at, struct token_keys *keys,
                  uint8_t ret_tickets[][TICKET_SECRET_BYTES])
{
    struct slice text;
    unsigned mode;
    int error = file_read(r->mem, path.p, SECRETS_BYTES_MAX, &text, &mode);
    if (error != 0) {
        const char *why = file_trouble(error);
        report_at(r, at, "`%s` cannot be read: %s; write a readable file of one secret a line",
                  report_show(r, path), why);
        return;
    }
    if ((mode & S_IRWXO) != 0) {
        report_at(r, at,
                  "`%s` is open to every user of this machine (mode %03o); chmod o= it, and "
                  "change its secrets",
                  report_show(r, path), mode & 0777);
        return;
    }
    uint32_t errors_before = r->count;
    struct slice whole = text;
    for (struct place here = {1, 1}; text.n > 0; here.line++) {
        size_t end = slice_find(text, '\n');
        struct slice line = slice_trim(slice_take(text, end));
        text = slice_drop(text, end + 1);
        if (line.n > 0 && line.p[0] != '#')
            add_secret(r, path, here, line, keys, ret_tickets);
    }
    explicit_bzero((void *)(uintptr_t)whole.p, whole.n); /* what is kept are keys, not secrets */
    if (keys->count == 0 && r->count == errors_before)
        report_at(r, at, "`%s` holds no secret; write one of %d to %d bytes into it",
                  report_show(r, path), TOKEN_KEY_BYTES_MIN, TOKEN_KEY_BYTES_MAX);
}

/* ---- the snapshot ---------------------------------------------------------------------------- */

/* The last step of every way: the snapshot, or the errors and nothing. */
static struct config *finish(struct report *r, struct draft *d, FILE *errors)
{
    report_write(r, errors);
    if (r->mem->exhausted)
        fprintf(errors, "%.*s:1:1: out of memory; nothing was changed\n", SLICE_ARG(r->file));
    if (r->count > 0 || r->mem->exhausted || d == NULL) {
        mem_free(r->mem->first);
        return NULL;
    }
    d->c.path = r->file;
    d->c.memory = r->mem->first;
    return &d->c;
}

static struct draft *read_text(struct report *r, struct slice text, const struct config *previous,
                               const uint8_t random_key[32], const struct world *world)
{
    struct draft *d = MEM_NEW(r->mem, struct draft);
    const struct node *root = d != NULL ? tree_read(r, text) : NULL;
    if (root == NULL)
        return NULL;
    schema_read(r, &schema_root, root, d);
    if (root->kind == NODE_MAP)
        judge(r, d, previous, random_key, world);
    return d;
}

struct config *config_parse_in(struct slice text, const char *name, const struct config *previous,
                               const uint8_t random_key[32], FILE *errors,
                               const struct world *world)
{
    struct mem m = {.max = world->memory_max};
    struct report r = {.mem = &m, .last = &r.first, .file = mem_copy(&m, slice_cstr(name))};
    struct draft *d = NULL;
    if (text.n > FILE_BYTES_MAX)
        report_at(&r, (struct place){1, 1}, "more than 1 MiB; a configuration is smaller");
    else
        d = read_text(&r, text, previous, random_key, world);
    return finish(&r, d, errors);
}

struct config *config_parse(struct slice text, const char *name, const struct config *previous,
                            const uint8_t random_key[32], FILE *errors)
{
    static const struct world open_world = {0};
    return config_parse_in(text, name, previous, random_key, errors, &open_world);
}

struct config *config_load(const char *path, const struct config *previous,
                           const uint8_t random_key[32], FILE *errors)
{
    struct mem m = {0};
    struct slice text;
    unsigned mode;
    int error = file_read(&m, path, FILE_BYTES_MAX, &text, &mode);
    struct config *c = NULL;
    if (error == 0)
        c = config_parse(text, path, previous, random_key, errors);
    else
        fprintf(errors, "%s:1:1: cannot be read: %s; write the path of a configuration file\n",
                path, file_trouble(error));
    mem_free(m.first);
    return c;
}

void config_free(struct config *c)
{
    if (c != NULL)
        mem_free((struct chunk *)c->memory);
}
