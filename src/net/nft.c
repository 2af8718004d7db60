/* SPDX-License-Identifier: Apache-2.0
 *
 * Bans for the whole host: those of outside sources that are refused and go on are put into a set
 * of nftables, and a rule of the operator's drops what they send before it is anybody's. It is main
 * that does so, for it takes a process, and no worker waits for one.
 *
 *      worker 0 ─ its list, when it changes ─┐
 *      worker 1 ─ …  (answers, BANS_ID)      ├─▶ merged, sorted ─ another than before? ─▶ nft -f -
 *      worker 2 ─ …                          ┘        one list for each family
 *
 * A run always says all: it empties the set and fills it, and the kernel takes both at once or
 * nothing. So nothing has to be known of what the set held (a former process, a ruleset that was
 * loaded anew, elements whose time was over), and a prefix can take the place of its addresses,
 * which nft refuses to see otherwise.
 *
 * Elements end by themselves with the ban, and after TIMEOUT_MAX at the latest: whatever becomes of
 * us, nobody is shut out for long. What lasts longer is written again before that. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "net/net_int.h"

#define TIMEOUT_MAX (600 * NS_S)
#define RUN_WITHIN  (5 * NS_S)
#define RUN_AGAIN   (500 * NS_MS) /* from the end of a run to the next of the same set */
#define LOOK_AGAIN  (50 * NS_MS)  /* is it over? Where the system cannot tell by itself */
#define RETRY_FIRST (1 * NS_S)
#define RETRY_MAX   (300 * NS_S)

enum { SAID_BYTES = 1024, SHOWN_BYTES = 160 };

/* ---- a worker's side ------------------------------------------------------------------------- */

static bool is_same_ban(const struct ban *a, const struct ban *b)
{
    return a->until == b->until && a->at.bits == b->at.bits && addr_equal(&a->at.net, &b->at.net);
}

static bool is_same_list(const struct ban *a, uint32_t a_count, const struct ban *b,
                         uint32_t b_count)
{
    bool same = a_count == b_count;
    for (uint32_t i = 0; i < a_count && same; i++)
        same = is_same_ban(&a[i], &b[i]);
    return same;
}

bool bans_tell(struct worker *w, const struct ban_list *bans)
{
    struct ban_list *told = &w->filter.told;
    uint32_t n = bans->count * (uint32_t)sizeof bans->ban[0];
    const struct answer head = {.id = BANS_ID, .len = n};
    if (is_same_list(bans->ban, bans->count, told->ban, told->count))
        return true;
    char *record = (char *)ring_reserve(w->answers, (uint32_t)sizeof head + n);
    if (record == NULL)
        return false;
    memcpy(record, &head, sizeof head);
    memcpy(record + sizeof head, bans->ban, n);
    ring_push(w->answers, (uint32_t)sizeof head + n);
    inbox_knock_worker(&w->net->inbox, w->index);
    *told = *bans;
    return true;
}

/* ---- what stands in a set -------------------------------------------------------------------- */

static bool holds(const struct prefix *large, const struct prefix *small)
{
    return large->bits <= small->bits && prefix_holds(large, &small->net);
}

/* One more. A set of intervals takes no two that overlap: the larger stands for both. */
static uint32_t add(struct ban *bans, uint32_t n, uint32_t max, const struct ban *b)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!holds(&bans[i].at, &b->at))
            continue;
        if (bans[i].at.bits == b->at.bits && bans[i].until < b->until)
            bans[i].until = b->until;
        return n;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!holds(&b->at, &bans[i].at))
            bans[left++] = bans[i];
    if (left < max)
        bans[left++] = *b;
    return left;
}

static int by_place(const void *a, const void *b)
{
    const struct ban *x = (const struct ban *)a, *y = (const struct ban *)b;
    int order = memcmp(x->at.net.ip, y->at.net.ip, sizeof x->at.net.ip);
    return order != 0 ? order : (int)x->at.bits - (int)y->at.bits;
}

uint32_t nft_merge(const struct ban_list *of, uint32_t workers, uint8_t family, mono_ns now,
                   struct ban *ret_bans, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t rank = 0; rank < FILTER_PREFIXES_MAX; rank++)
        for (uint32_t i = 0; i < workers; i++)
            if (rank < of[i].count && of[i].ban[rank].at.net.family == family &&
                of[i].ban[rank].until > now)
                n = add(ret_bans, n, max, &of[i].ban[rank]);
    if (n > 0)
        qsort(ret_bans, n, sizeof ret_bans[0], by_place);
    return n;
}

static void put_set(struct text *t, const struct config_nftables *c, uint8_t family)
{
    text_put(t, c->family);
    text_put_char(t, ' ');
    text_put(t, c->table);
    text_put_char(t, ' ');
    text_put(t, c->set);
    if (family == 6)
        TEXT_LIT(t, "_6");
}

static void put_element(struct text *t, const struct ban *b, mono_ns now)
{
    char bytes[ADDR_TEXT_MAX];
    struct text host = text_into(bytes, sizeof bytes);
    struct slice s;
    dur_ns left = b->until == MONO_NONE ? TIMEOUT_MAX : mono_since(b->until, now);
    left = left < TIMEOUT_MAX ? left : TIMEOUT_MAX;
    addr_put_host(&host, &b->at.net);
    s = text_slice(&host);
    text_put(t, b->at.net.family == 6 ? slice_take(slice_drop(s, 1), s.n - 2) : s);
    text_put_char(t, '/');
    text_put_u64(t, b->at.bits);
    TEXT_LIT(t, " timeout ");
    text_put_u64(t, (left + NS_S - 1) / NS_S);
    text_put_char(t, 's');
}

void nft_write(struct text *t, const struct config_nftables *c, uint8_t family,
               const struct ban *bans, uint32_t count, mono_ns now)
{
    TEXT_LIT(t, "flush set ");
    put_set(t, c, family);
    text_put_char(t, '\n');
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0) {
            TEXT_LIT(t, "add element ");
            put_set(t, c, family);
        }
        text_put(t, i == 0 ? SLICE(" { ") : SLICE(", "));
        put_element(t, &bans[i], now);
    }
    if (count > 0)
        TEXT_LIT(t, " }\n");
}

/* ---- one run --------------------------------------------------------------------------------- */

static const char *find_program(void)
{
    static const char *const places[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

static void close_run(struct nft *nft)
{
    int *fds[] = {&nft->in_fd, &nft->said_fd, &nft->pidfd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

/* What it reads is a file in memory, and so is what it says: nothing has to be fed to it, nor read
 * while it runs, and more than SAID_BYTES it cannot say. */
static int open_files(struct nft *nft, struct slice commands)
{
    nft->in_fd = memfd_create("weir-bans", MFD_CLOEXEC);
    nft->said_fd = memfd_create("weir-bans-said", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (nft->in_fd < 0 || nft->said_fd < 0)
        return errno;
    if (write(nft->in_fd, commands.p, commands.n) != (ssize_t)commands.n ||
        lseek(nft->in_fd, 0, SEEK_SET) != 0 || ftruncate(nft->said_fd, SAID_BYTES) != 0 ||
        fcntl(nft->said_fd, F_ADD_SEALS, F_SEAL_GROW) != 0)
        return errno != 0 ? errno : EIO;
    return 0;
}

/* 0 or an errno. The signals that main blocks or ignores are nothing for a child to inherit. */
static int spawn(struct nft *nft, const char *program)
{
    char *const argv[] = {(char[]){"nft"}, (char[]){"-f"}, (char[]){"-"}, NULL};
    char *const env[] = {(char[]){"LC_ALL=C"}, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    sigaddset(&usual, SIGUSR1);
    int error = posix_spawn_file_actions_init(&files);
    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attr);
    if (error != 0) {
        posix_spawn_file_actions_destroy(&files);
        return error;
    }
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &usual);
    error = posix_spawn_file_actions_adddup2(&files, nft->in_fd, STDIN_FILENO);
    error = error != 0
                ? error
                : posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    error =
        error != 0 ? error : posix_spawn_file_actions_adddup2(&files, nft->said_fd, STDERR_FILENO);
    error = error != 0 ? error : posix_spawn(&nft->pid, program, &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/* ---- what came of it ------------------------------------------------------------------------- */

static void say(const struct nft *nft, const struct nft_set *s, struct slice what, struct slice why)
{
    char bytes[1024];
    struct text t = text_into(bytes, sizeof bytes);
    TEXT_LIT(&t, "weir: notice: ");
    text_put(&t, what);
    TEXT_LIT(&t, ": ");
    put_set(&t, &nft->target, s->family);
    if (why.n > 0)
        TEXT_LIT(&t, ": ");
    text_put_escaped(&t, why, SHOWN_BYTES);
    text_put_char(&t, '\n');
    (void)fwrite(bytes, 1, text_slice(&t).n, stderr);
}

/* Told once, until it works again; tried again ever more seldom. */
static void fail(struct nft *nft, struct nft_set *s, mono_ns now, struct slice why)
{
    dur_ns pause = s->failures < 16 ? RETRY_FIRST << s->failures : RETRY_MAX;
    if (s->failures == 0)
        say(nft, s, SLICE("bans are not in nftables"), why);
    s->failures++;
    s->stale = true;
    s->is_written = false;
    s->not_before = mono_add(now, pause < RETRY_MAX ? pause : RETRY_MAX);
}

static void succeed(struct nft *nft, struct nft_set *s, mono_ns now)
{
    if (s->failures > 0)
        say(nft, s, SLICE("bans are in nftables again"), SLICE_NONE);
    s->failures = 0;
    s->is_written = true;
    s->not_before = mono_add(now, RUN_AGAIN);
    s->again_at = MONO_NONE;
    s->count = nft->next_count;
    memcpy(s->ban, nft->next, sizeof nft->next[0] * nft->next_count);
    for (uint32_t i = 0; i < s->count; i++)
        if (mono_since(s->ban[i].until, nft->began) > TIMEOUT_MAX)
            s->again_at = mono_add(nft->began, TIMEOUT_MAX / 2);
}

/* The first line, without the place in what it was given. */
static struct slice why_of(const char *said)
{
    struct slice line = slice_cstr(said);
    const char *error = strstr(said, "Error: ");
    line = slice_take(line, slice_find(line, '\n'));
    if (error != NULL && error < line.p + line.n)
        line = slice_drop(line, (size_t)(error - said) + strlen("Error: "));
    return line;
}

static void end_run(struct nft *nft, int status, mono_ns now)
{
    struct nft_set *s = nft->running;
    char said[SAID_BYTES + 1] = "";
    (void)!pread(nft->said_fd, said, SAID_BYTES, 0);
    nft->running = NULL;
    close_run(nft);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        succeed(nft, s, now);
    else if (nft->killed)
        fail(nft, s, now, SLICE("nft did not end within 5 s"));
    else if (said[0] != '\0')
        fail(nft, s, now, why_of(said));
    else
        fail(nft, s, now, SLICE("nft failed, and did not say why"));
}

static void watch_run(struct nft *nft, mono_ns now)
{
    int status = 0;
    pid_t pid = waitpid(nft->pid, &status, WNOHANG);
    if (pid == nft->pid || (pid < 0 && errno == ECHILD)) {
        end_run(nft, pid < 0 ? 1 << 8 : status, now);
    } else if (!nft->killed && now >= nft->until) {
        nft->killed = true;
        (void)kill(nft->pid, SIGKILL);
    }
}

static void begin_run(struct nft *nft, struct nft_set *s, mono_ns now)
{
    const char *program = nft->program != NULL ? nft->program : find_program();
    struct text t = text_into(nft->commands, sizeof nft->commands);
    nft_write(&t, &nft->target, s->family, nft->next, nft->next_count, now);
    if (program == NULL) {
        fail(nft, s, now, SLICE("there is no nft in /usr/sbin, /sbin or /usr/bin"));
        return;
    }
    int error = open_files(nft, text_slice(&t));
    if (error == 0)
        error = spawn(nft, program);
    if (error != 0) {
        close_run(nft);
        fail(nft, s, now, slice_cstr(strerror(error)));
        return;
    }
    nft->running = s;
    nft->killed = false;
    nft->began = now;
    nft->until = mono_add(now, RUN_WITHIN);
    nft->pidfd = pidfd_open(nft->pid, 0);
    s->stale = false; /* what comes from now on is of the next run */
}

/* ---- main's side ----------------------------------------------------------------------------- */

struct nft *nft_new(uint32_t workers)
{
    struct nft *nft = (struct nft *)calloc(1, sizeof *nft + workers * sizeof nft->of[0]);
    if (nft == NULL)
        return NULL;
    nft->workers = workers;
    nft->in_fd = nft->said_fd = nft->pidfd = -1;
    nft->set[0].family = 4;
    nft->set[1].family = 6;
    return nft;
}

void nft_free(struct nft *nft)
{
    if (nft == NULL)
        return;
    if (nft->running != NULL) {
        (void)kill(nft->pid, SIGKILL);
        (void)waitpid(nft->pid, NULL, 0);
    }
    close_run(nft);
    free(nft);
}

void nft_take(struct nft *nft, uint32_t worker, struct slice bans)
{
    struct ban_list *l = &nft->of[worker];
    MUST(worker < nft->workers && bans.n <= sizeof l->ban);
    l->count = (uint32_t)(bans.n / sizeof l->ban[0]);
    if (bans.n > 0)
        memcpy(l->ban, bans.p, bans.n);
    nft->set[0].stale = nft->set[1].stale = true;
}

static bool is_target(const struct nft *nft, const struct config_nftables *c)
{
    return slice_equal(nft->target.family, c->family) && slice_equal(nft->target.table, c->table) &&
           slice_equal(nft->target.set, c->set);
}

static struct slice keep_word(char *to, struct slice s)
{
    MUST(s.n <= CONFIG_NFT_NAME_MAX);
    if (s.n > 0)
        memcpy(to, s.p, s.n);
    return slice_of(to, s.n);
}

/* The configuration goes, these words stay. */
static void adopt(struct nft *nft, const struct config_nftables *c)
{
    nft->target.family = keep_word(nft->words[0], c->family);
    nft->target.table = keep_word(nft->words[1], c->table);
    nft->target.set = keep_word(nft->words[2], c->set);
    for (unsigned i = 0; i < NFT_SETS; i++)
        nft->set[i] =
            (struct nft_set){.family = nft->set[i].family, .stale = true, .again_at = MONO_NONE};
}

/* A set is written when somebody of its family can come in, and its table can hold it. */
static void look_at_listeners(struct nft *nft, const struct config *c)
{
    bool any = slice_equal(nft->target.family, SLICE("inet"));
    bool used[NFT_SETS] = {false};
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        const struct edge_listener *l = &c->engine.edge.listener[i];
        if (l->used && l->side == SIDE_OUTSIDE)
            used[l->bind.family == 6] = true;
    }
    nft->set[0].wanted = used[0] && (any || slice_equal(nft->target.family, SLICE("ip")));
    nft->set[1].wanted = used[1] && (any || slice_equal(nft->target.family, SLICE("ip6")));
}

static mono_ns due_at(const struct nft_set *s)
{
    mono_ns at = s->stale ? 0 : s->again_at;
    return !s->wanted ? MONO_NONE : at > s->not_before ? at : s->not_before;
}

/* Writes one set when it has to be. */
static void serve(struct nft *nft, struct nft_set *s, mono_ns now)
{
    if (due_at(s) > now)
        return;
    nft->next_count = nft_merge(nft->of, nft->workers, s->family, now, nft->next, NFT_BANS_MAX);
    bool same = is_same_list(nft->next, nft->next_count, s->ban, s->count);
    if (s->is_written && same && s->again_at > now)
        s->stale = false;
    else
        begin_run(nft, s, now);
}

/* Nobody writes it any more: it is left empty, if that works. */
static bool leave(struct nft *nft, struct nft_set *s, mono_ns now)
{
    if (!s->is_written || s->count == 0)
        return true;
    if (s->not_before > now)
        return false;
    nft->next_count = 0;
    begin_run(nft, s, now);
    s->stale = true; /* should it be the one that is written after all */
    return nft->running == NULL;
}

void nft_tick(struct nft *nft, const struct config *c, mono_ns now)
{
    if (nft->running != NULL)
        watch_run(nft, now);
    if (nft->running != NULL)
        return;
    nft->leaving = !is_target(nft, &c->nftables);
    if (nft->leaving) {
        for (unsigned i = 0; i < NFT_SETS; i++)
            if (!leave(nft, &nft->set[i], now))
                return;
        nft->leaving = false;
        adopt(nft, &c->nftables);
    }
    if (nft->target.family.n == 0)
        return;
    look_at_listeners(nft, c);
    for (unsigned i = 0; i < NFT_SETS && nft->running == NULL; i++)
        serve(nft, &nft->set[i], now);
}

struct pollfd nft_poll(const struct nft *nft)
{
    return (struct pollfd){.fd = nft->running != NULL ? nft->pidfd : -1, .events = POLLIN};
}

mono_ns nft_deadline(const struct nft *nft, mono_ns now)
{
    if (nft->running != NULL)
        return nft->pidfd < 0 || nft->killed ? mono_add(now, LOOK_AGAIN) : nft->until;
    if (nft->leaving)
        return mono_add(now, LOOK_AGAIN);
    return nft->target.family.n == 0 ? MONO_NONE
                                     : mono_min(due_at(&nft->set[0]), due_at(&nft->set[1]));
}
