/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket, served by main. A client sends one line; what it asks goes to one worker
 * after another, a page at a time, and the next page is asked for when the last has left: a client
 * that does not read holds up nobody.
 *
 *      client ─ "show flows" ─▶ main ─ order(cursor) ─▶ worker 0 ─ rows, cursor ─▶ main ─▶ client
 *                                   ─ order(cursor) ─▶ worker 0 …               until cursor 0
 *                                   ─ order ─▶ worker 1 …                       until the last
 *                                                                     {"end":true,"ok":true} */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "net/net_int.h"

enum { CLIENTS_MAX = CONTROL_POLL_MAX - 1, REQUEST_BYTES_MAX = 1024 };
#define CLIENT_WITHIN (10 * NS_S) /* for a worker to answer, for a client to read */

enum client_state { CLIENT_FREE, CLIENT_ASKING, CLIENT_RUNNING, CLIENT_ENDING };

struct client {
    uint8_t state;
    uint8_t order;   /* enum order_kind */
    uint8_t command; /* enum command_kind */
    bool waiting;    /* an order is under way */
    int fd;
    uint32_t worker;
    uint64_t id; /* of the order under way */
    uint64_t cursor;
    mono_ns until;
    struct slice argument; /* points into `request` */
    size_t request_len;
    char request[REQUEST_BYTES_MAX];
    char *out; /* grows; bytes off..len wait for the client */
    size_t out_off, out_len, out_cap;
};

struct control {
    struct net *net;
    int fd;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    struct stat file; /* what we made there */
    struct client client[CLIENTS_MAX];
};

/* ---- output ---------------------------------------------------------------------------------- */

static void client_end(struct client *c)
{
    close(c->fd);
    free(c->out);
    *c = (struct client){.state = CLIENT_FREE, .fd = -1};
}

static void put(struct client *c, struct slice s)
{
    if (c->out_off == c->out_len)
        c->out_off = c->out_len = 0;
    if (c->out_cap - c->out_len < s.n) {
        size_t cap = (c->out_len + s.n) * 2 + 4096;
        char *grown = (char *)realloc(c->out, cap);
        if (grown == NULL)
            return; /* the answer breaks off, and the client says so */
        c->out = grown;
        c->out_cap = cap;
    }
    if (s.n > 0)
        memcpy(c->out + c->out_len, s.p, s.n);
    c->out_len += s.n;
}

static void put_json_string(struct client *c, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char b = (unsigned char)s.p[i];
        char escape[6] = {'\\', 'u', '0', '0', hex[b >> 4], hex[b & 15]};
        if (b == '"' || b == '\\')
            put(c, slice_of((char[2]){'\\', (char)b}, 2));
        else if (b == '\n')
            put(c, SLICE("\\n"));
        else if (b < 0x20)
            put(c, slice_of(escape, sizeof escape));
        else
            put(c, slice_of(&s.p[i], 1));
    }
}

static void flush(struct client *c)
{
    while (c->out_off < c->out_len) {
        ssize_t n =
            send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            client_end(c);
            return;
        }
        c->out_off += (size_t)n;
    }
    if (c->state == CLIENT_ENDING)
        client_end(c);
}

/* What was done by command stands where the rest of the story stands. */
static void tell_done(const struct client *c)
{
    char bytes[REQUEST_BYTES_MAX * 4];
    struct text t = text_into(bytes, sizeof bytes);
    text_put_escaped(&t, c->argument, REQUEST_BYTES_MAX);
    if (c->command == CMD_DRAIN)
        fprintf(stderr, "weir: draining: new dialogs are refused\n");
    else if (c->command == CMD_UNDRAIN)
        fprintf(stderr, "weir: not draining any more: everybody is welcome\n");
    else if (c->command == CMD_GUARD)
        fprintf(stderr, "weir: by an operator: guard %.*s\n", SLICE_ARG(text_slice(&t)));
    else if (c->command == CMD_TARGET)
        fprintf(stderr, "weir: by an operator: target %.*s\n", SLICE_ARG(text_slice(&t)));
    else if (c->command == CMD_UNBIND)
        fprintf(stderr, "weir: by an operator: unbind %.*s\n", SLICE_ARG(text_slice(&t)));
}

static void finish(struct client *c, struct slice error)
{
    if (error.n == 0 && c->order == ORDER_COMMAND)
        tell_done(c);
    c->waiting = false;
    c->state = CLIENT_ENDING;
    c->until = mono_add(mono_now(), CLIENT_WITHIN);
    if (error.n == 0) {
        put(c, SLICE("{\"end\":true,\"ok\":true}\n"));
    } else {
        put(c, SLICE("{\"end\":true,\"ok\":false,\"error\":\""));
        put_json_string(c, error);
        put(c, SLICE("\"}\n"));
    }
    flush(c);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void ask_worker(struct control *ctl, struct client *c)
{
    struct net *net = ctl->net;
    if (c->worker == net->workers) {
        finish(c, SLICE_NONE);
        return;
    }
    struct order o = {
        .kind = c->order,
        .command = c->command,
        .id = ++net->next_id,
        .cursor = c->cursor,
    };
    c->id = o.id;
    c->waiting = true;
    c->until = mono_add(mono_now(), CLIENT_WITHIN);
    if (order_send(net, c->worker, &o, c->argument) != 0)
        finish(c, SLICE("a worker has too many orders already"));
}

void control_answer(struct control *ctl, uint32_t worker, const struct answer *a, struct slice rows)
{
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &ctl->client[i];
        if (c->state != CLIENT_RUNNING || !c->waiting || c->id != a->id || c->worker != worker)
            continue;
        c->waiting = false;
        if (a->error != 0) {
            finish(c, rows.n > 0 ? rows : slice_cstr(strerror(a->error)));
            return;
        }
        put(c, rows);
        c->cursor = a->cursor;
        if (c->cursor == 0)
            c->worker++;
        c->until = mono_add(mono_now(), CLIENT_WITHIN);
        flush(c);
        if (c->state == CLIENT_RUNNING && c->out_off == c->out_len)
            ask_worker(ctl, c);
        return;
    }
}

/* What did not stop it stands where the rest of the story stands, and is told to who asked. */
static void tell_notices(struct client *c, struct slice lines)
{
    (void)fwrite(lines.p, 1, lines.n, stderr);
    while (lines.n > 0) {
        size_t n = slice_find(lines, '\n');
        put(c, SLICE("{\"notice\":\""));
        put_json_string(c, slice_take(lines, n));
        put(c, SLICE("\"}\n"));
        lines = slice_drop(lines, n + 1);
    }
}

static void reload(struct control *ctl, struct client *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *errors = open_memstream(&text, &n);
    if (errors == NULL) {
        finish(c, SLICE("no memory"));
        return;
    }
    c->waiting = false; /* answers to others may come meanwhile, none is for it */
    int failed = net_reload(ctl->net, errors);
    fclose(errors);
    fputs(failed != 0 ? "weir: reload failed: the old configuration stays\n" : "weir: reloaded\n",
          stderr);
    if (failed == 0 && n > 0)
        tell_notices(c, slice_of(text, n));
    if (failed != 0)
        finish(c, n > 0 ? slice_of(text, n) : SLICE("the reload failed"));
    else
        finish(c, SLICE_NONE);
    free(text);
}

static void show_store(struct control *ctl, struct client *c)
{
    char bytes[4096];
    struct text t = text_into(bytes, sizeof bytes);
    keeping_show(ctl->net, &t);
    put(c, text_slice(&t));
    finish(c, SLICE_NONE);
}

static const struct {
    struct slice line; /* up to an argument */
    uint8_t order, command;
} requests[] = {
    {{"show pools", 10}, ORDER_COMMAND, CMD_SHOW_POOLS},
    {{"show transactions", 17}, ORDER_COMMAND, CMD_SHOW_TRANSACTIONS},
    {{"show flows", 10}, ORDER_COMMAND, CMD_SHOW_FLOWS},
    {{"show counters", 13}, ORDER_COMMAND, CMD_SHOW_COUNTERS},
    {{"show workers", 12}, ORDER_STATUS, 0},
    {{"show bindings", 13}, ORDER_COMMAND, CMD_SHOW_BINDINGS},
    {{"unbind", 6}, ORDER_COMMAND, CMD_UNBIND},
    {{"target", 6}, ORDER_COMMAND, CMD_TARGET},
    {{"drain", 5}, ORDER_COMMAND, CMD_DRAIN},
    {{"undrain", 7}, ORDER_COMMAND, CMD_UNDRAIN},
    {{"show drain", 10}, ORDER_COMMAND, CMD_SHOW_DRAIN},
    {{"show guard", 10}, ORDER_COMMAND, CMD_SHOW_GUARD},
    {{"guard", 5}, ORDER_COMMAND, CMD_GUARD},
};

static void begin(struct control *ctl, struct client *c, struct slice line)
{
    c->state = CLIENT_RUNNING;
    if (slice_equal(line, SLICE("reload"))) {
        reload(ctl, c);
        return;
    }
    if (slice_equal(line, SLICE("show store"))) {
        show_store(ctl, c);
        return;
    }
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct slice name = requests[i].line;
        bool has_argument = line.n > name.n && line.p[name.n] == ' ';
        if (!slice_starts_with(line, name) || (line.n > name.n && !has_argument))
            continue;
        if (requests[i].command == CMD_UNDRAIN && ctl->net->draining) {
            finish(c, SLICE("it is stopping, after TERM"));
            return;
        }
        c->order = requests[i].order;
        c->command = requests[i].command;
        c->argument = slice_trim(slice_drop(line, name.n));
        ask_worker(ctl, c);
        return;
    }
    finish(c, SLICE("no such request"));
}

static void read_request(struct control *ctl, struct client *c)
{
    ssize_t n = read(c->fd, c->request + c->request_len, sizeof c->request - c->request_len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        client_end(c);
        return;
    }
    c->request_len += (size_t)n;
    struct slice all = slice_of(c->request, c->request_len);
    size_t line = slice_find(all, '\n');
    if (line < all.n)
        begin(ctl, c, slice_trim(slice_take(all, line)));
    else if (c->request_len == sizeof c->request)
        finish(c, SLICE("the request is too long"));
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void accept_client(struct control *ctl)
{
    int fd = accept4(ctl->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        /* The client waits in the queue, so poll would say so again at once: not a busy wait. */
        static const struct timespec pause = {0, 20 * 1000 * 1000};
        (void)nanosleep(&pause, NULL);
    }
    if (fd < 0)
        return;
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &ctl->client[i];
        if (c->state != CLIENT_FREE)
            continue;
        *c = (struct client){.state = CLIENT_ASKING, .fd = fd};
        c->until = mono_add(mono_now(), CLIENT_WITHIN);
        return;
    }
    static const char busy[] =
        "{\"end\":true,\"ok\":false,\"error\":\"too many ask at once; ask again\"}\n";
    (void)!send(fd, busy, sizeof busy - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

unsigned control_poll(struct control *ctl, struct pollfd *fds)
{
    fds[0] = (struct pollfd){.fd = ctl->fd, .events = POLLIN};
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &ctl->client[i];
        short events = c->state == CLIENT_ASKING ? POLLIN : 0;
        if (c->out_off < c->out_len)
            events |= POLLOUT;
        fds[i + 1] = (struct pollfd){.fd = c->state == CLIENT_FREE ? -1 : c->fd, .events = events};
    }
    return CONTROL_POLL_MAX;
}

void control_serve(struct control *ctl, const struct pollfd *fds, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct client *c = &ctl->client[i - 1];
        if (c->state == CLIENT_FREE || fds[i].fd != c->fd || fds[i].revents == 0)
            continue;
        if (c->state == CLIENT_ASKING) {
            read_request(ctl, c);
        } else if ((fds[i].revents & POLLOUT) != 0) {
            flush(c);
            if (c->state == CLIENT_RUNNING && c->out_off == c->out_len && !c->waiting)
                ask_worker(ctl, c);
        } else {
            client_end(c); /* gone: an answer that still comes finds nobody */
        }
    }
    if (count > 0 && fds[0].revents != 0)
        accept_client(ctl);
}

void control_tick(struct control *ctl, mono_ns now)
{
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &ctl->client[i];
        if (c->state == CLIENT_FREE || now < c->until)
            continue;
        if (c->state == CLIENT_RUNNING && c->waiting)
            finish(c, SLICE("a worker does not answer"));
        else
            client_end(c);
    }
}

bool control_is_busy(const struct control *ctl)
{
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (ctl->client[i].state != CLIENT_FREE)
            return true;
    return false;
}

/* A socket file that nobody answers at is what a killed process left behind. */
static bool somebody_answers(const struct sockaddr_un *sa)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answers = fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0;
    if (fd >= 0)
        close(fd);
    return answers;
}

static void make_folder(const char *path)
{
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    (void)mkdir(folder, 0755); /* bind() says what is wrong if this could not help */
}

static int listen_at(const struct sockaddr_un *sa, FILE *errors)
{
    struct stat st;
    if (somebody_answers(sa)) {
        fprintf(errors, "weir: control: %s: another weir is running there\n", sa->sun_path);
        return -1;
    }
    if (stat(sa->sun_path, &st) == 0 && S_ISSOCK(st.st_mode))
        (void)unlink(sa->sun_path);
    make_folder(sa->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t old = umask(0117); /* 0660 from its first moment */
    int failed = fd < 0 || bind(fd, (const struct sockaddr *)sa, sizeof *sa) != 0 ||
                 listen(fd, CLIENTS_MAX) != 0;
    int error = errno;
    (void)umask(old);
    if (failed) {
        fprintf(errors, "weir: control: cannot listen at %s: %s\n", sa->sun_path, strerror(error));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

struct control *control_open(struct net *net, struct slice path, FILE *errors)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (path.n == 0 || path.n >= sizeof sa.sun_path) {
        fprintf(errors, "weir: control: the socket's path must have 1 to %zu bytes\n",
                sizeof sa.sun_path - 1);
        return NULL;
    }
    memcpy(sa.sun_path, path.p, path.n);
    struct control *ctl = (struct control *)calloc(1, sizeof *ctl);
    if (ctl == NULL)
        return NULL;
    ctl->net = net;
    memcpy(ctl->path, sa.sun_path, sizeof ctl->path);
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        ctl->client[i].fd = -1;
    ctl->fd = listen_at(&sa, errors);
    if (ctl->fd < 0) {
        free(ctl);
        return NULL;
    }
    (void)stat(ctl->path, &ctl->file);
    return ctl;
}

void control_close(struct control *ctl)
{
    if (ctl == NULL)
        return;
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (ctl->client[i].state != CLIENT_FREE)
            client_end(&ctl->client[i]);
    close(ctl->fd);
    struct stat now; /* ours may be gone, and another's be there */
    if (stat(ctl->path, &now) == 0 && now.st_dev == ctl->file.st_dev &&
        now.st_ino == ctl->file.st_ino)
        (void)unlink(ctl->path);
    free(ctl);
}
