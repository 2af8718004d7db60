/* SPDX-License-Identifier: Apache-2.0
 *
 * Bans for the whole host: lists of several workers become one, its text, and when a program is
 * run with it. The program is a script here that keeps what it is given.
 *
 * covers: nft.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "net/net_int.h"

#define START (1000 * NS_S)

static struct ban ban_of(const char *text, mono_ns until)
{
    struct ban b = {.until = until};
    assert_int_equal(0, prefix_parse(slice_cstr(text), &b.at));
    return b;
}

static void give(struct ban_list *l, const char *text, mono_ns until)
{
    assert_true(l->count < FILTER_PREFIXES_MAX);
    l->ban[l->count++] = ban_of(text, until);
}

/* ---- many lists become one --------------------------------------------------------------------
 */

static const struct config_nftables filter_bans = {{"inet", 4}, {"filter", 6}, {"weir_bans", 9}};

/* The text for one family, at START. */
static const char *text_of(const struct ban_list *of, uint32_t workers, uint8_t family)
{
    static char bytes[NFT_COMMAND_BYTES];
    struct ban bans[NFT_BANS_MAX];
    struct text t = text_into(bytes, sizeof bytes - 1);
    uint32_t n = nft_merge(of, workers, family, START, bans, NFT_BANS_MAX);
    nft_write(&t, &filter_bans, family, bans, n, START);
    assert_true(text_fits(&t));
    bytes[t.n] = '\0';
    return bytes;
}

static void test_text(void **state)
{
    (void)state;
    struct ban_list of[3] = {0};
    assert_string_equal(text_of(of, 3, 4), "flush set inet filter weir_bans\n");
    assert_string_equal(text_of(of, 3, 6), "flush set inet filter weir_bans_6\n");
    give(&of[0], "192.0.2.9", START + 30 * NS_S);
    assert_string_equal(text_of(of, 3, 4), "flush set inet filter weir_bans\n"
                                           "add element inet filter weir_bans "
                                           "{ 192.0.2.9/32 timeout 30s }\n");
    give(&of[2], "2001:db8:1:2::/64", START + 1);      /* a second at least */
    give(&of[2], "198.51.100.0/24", MONO_NONE);        /* ten minutes at most */
    give(&of[1], "192.0.2.9", START + 31 * NS_S);      /* who bans it longest */
    give(&of[1], "192.0.2.4", START + 599 * NS_S + 1); /* rounded up */
    give(&of[1], "203.0.113.1", START + 1000 * NS_S);  /* ten minutes at most */
    give(&of[1], "203.0.113.2", START);                /* over */
    give(&of[1], "2001:db8::/48", START + 600 * NS_S);
    assert_string_equal(text_of(of, 3, 4),
                        "flush set inet filter weir_bans\n"
                        "add element inet filter weir_bans { 192.0.2.4/32 timeout 600s, "
                        "192.0.2.9/32 timeout 31s, 198.51.100.0/24 timeout 600s, "
                        "203.0.113.1/32 timeout 600s }\n");
    assert_string_equal(text_of(of, 3, 6),
                        "flush set inet filter weir_bans_6\n"
                        "add element inet filter weir_bans_6 { 2001:db8::/48 timeout 600s, "
                        "2001:db8:1:2::/64 timeout 1s }\n");
}

/* No two may overlap, in whatever order they come. */
static void test_the_larger_stands_for_the_smaller(void **state)
{
    (void)state;
    static const char *const in[] = {"192.0.2.9", "192.0.2.0/24", "192.0.2.7", "192.0.0.0/16",
                                     "192.1.0.0"};
    unsigned count = sizeof in / sizeof in[0];
    for (unsigned first = 0; first < count; first++) {
        struct ban_list of[5] = {0};
        struct ban bans[NFT_BANS_MAX];
        for (unsigned i = 0; i < count; i++)
            give(&of[i], in[(first + i) % count], START + (1 + i) * NS_S);
        assert_int_equal(nft_merge(of, 5, 4, START, bans, NFT_BANS_MAX), 2);
        assert_int_equal(bans[0].at.bits, 16);
        assert_int_equal(bans[1].at.bits, 32);
        assert_int_equal(bans[1].at.net.ip[1], 1);
    }
}

/* Where not all have room, the first of each list have it; and the longest text fits. */
static void test_bounds(void **state)
{
    (void)state;
    struct ban_list of[8] = {0};
    struct ban bans[NFT_BANS_MAX];
    for (unsigned i = 0; i < 8; i++)
        for (unsigned k = 0; k < FILTER_PREFIXES_MAX; k++) {
            give(&of[i], "2111:1111:1111:1111:1111:1111:1111:0", START + 600 * NS_S);
            of[i].ban[k].at.net.ip[14] = (uint8_t)(0x10 + i);
            of[i].ban[k].at.net.ip[15] = (uint8_t)(0x10 + k);
        }
    assert_int_equal(nft_merge(of, 8, 6, START, bans, NFT_BANS_MAX), NFT_BANS_MAX);
    for (unsigned i = 0; i < NFT_BANS_MAX; i++)
        assert_true(bans[i].at.net.ip[15] < 0x10 + NFT_BANS_MAX / 8);
    assert_int_equal(nft_merge(of, 8, 6, START, bans, 7), 7);
    const struct config_nftables longest = {
        {"inet", 4},
        {"t_______________________________", CONFIG_NFT_NAME_MAX},
        {"s_______________________________", CONFIG_NFT_NAME_MAX},
    };
    char bytes[NFT_COMMAND_BYTES];
    struct text t = text_into(bytes, sizeof bytes);
    (void)nft_merge(of, 8, 6, START, bans, NFT_BANS_MAX);
    nft_write(&t, &longest, 6, bans, NFT_BANS_MAX, START);
    assert_true(text_fits(&t));
    assert_true(t.n > (size_t)NFT_BANS_MAX * 50);
}

/* ---- runs -------------------------------------------------------------------------------------
 */

struct place {
    struct nft *nft;
    struct config *config;
    char folder[64], program[96], given[96], said[96];
    int stderr_fd;
    mono_ns now;
};

static void set_program(struct place *p, const char *script)
{
    char text[512];
    int fd = open(p->program, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    int n = snprintf(text, sizeof text, "#!/bin/sh\ncat >> %s\n%s\n", p->given, script);
    assert_true(fd >= 0 && write(fd, text, (size_t)n) == n);
    close(fd);
}

static void place_begin(struct place *p, uint32_t workers)
{
    *p = (struct place){.now = START};
    snprintf(p->folder, sizeof p->folder, "/tmp/weir-nft-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->program, sizeof p->program, "%s/nft", p->folder);
    snprintf(p->given, sizeof p->given, "%s/given", p->folder);
    snprintf(p->said, sizeof p->said, "%s/said", p->folder);
    set_program(p, "exit 0");
    fflush(stderr);
    p->stderr_fd = dup(STDERR_FILENO);
    int fd = open(p->said, O_RDWR | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0 && dup2(fd, STDERR_FILENO) == STDERR_FILENO);
    close(fd);
    p->nft = nft_new(workers);
    p->config = (struct config *)calloc(1, sizeof *p->config);
    assert_true(p->nft != NULL && p->config != NULL);
    p->nft->program = p->program;
    struct edge_listener *l = &p->config->engine.edge.listener[3];
    l->used = true;
    l->side = SIDE_OUTSIDE;
    l->bind.family = 4;
    p->config->nftables = filter_bans;
}

static void place_end(struct place *p)
{
    nft_free(p->nft);
    free(p->config);
    fflush(stderr);
    (void)dup2(p->stderr_fd, STDERR_FILENO);
    close(p->stderr_fd);
    (void)unlink(p->program);
    (void)unlink(p->given);
    (void)unlink(p->said);
    assert_int_equal(rmdir(p->folder), 0);
}

/* What stands in a file, which is empty from then on. */
static const char *taken(const char *path)
{
    static char text[NFT_COMMAND_BYTES * 4];
    fflush(stderr);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ssize_t n = read(fd, text, sizeof text - 1);
    assert_true(fd >= 0 && n >= 0);
    text[n] = '\0';
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    return text;
}

/* All runs that are due now, to their ends, while the clock stands still. */
static void settle(struct place *p)
{
    for (unsigned i = 0; i < 100; i++) {
        nft_tick(p->nft, p->config, p->now);
        if (p->nft->running == NULL)
            return;
        struct pollfd fd = nft_poll(p->nft);
        assert_true(fd.fd >= 0);
        assert_int_equal(poll(&fd, 1, 20000), 1);
    }
    fail_msg("it runs and runs");
}

static const char *ran(struct place *p)
{
    settle(p);
    return taken(p->given);
}

static void tell(struct place *p, uint32_t worker, const struct ban_list *l)
{
    nft_take(p->nft, worker, slice_of((const char *)l->ban, l->count * sizeof l->ban[0]));
}

#define FLUSH "flush set inet filter weir_bans\n"
#define ADD   "add element inet filter weir_bans "

static void test_runs_when_something_is_new(void **state)
{
    (void)state;
    struct place p;
    struct ban_list one = {0}, two = {0}, none = {0};
    place_begin(&p, 2);
    assert_string_equal(ran(&p), FLUSH); /* at start: what a former process left */
    assert_true(nft_deadline(p.nft, p.now) == MONO_NONE);
    p.now += NS_S;
    give(&one, "192.0.2.9", p.now + 60 * NS_S);
    give(&one, "192.0.2.8", p.now + 61 * NS_S);
    tell(&p, 1, &one);
    assert_true(nft_deadline(p.nft, p.now) <= p.now);
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.8/32 timeout 61s, "
                                           "192.0.2.9/32 timeout 60s }\n");
    /* In another order, and by another worker as well: nothing new. */
    give(&two, "192.0.2.8", START + 62 * NS_S);
    give(&two, "192.0.2.9", START + 61 * NS_S);
    p.now += NS_S;
    tell(&p, 0, &two);
    tell(&p, 1, &two);
    assert_string_equal(ran(&p), "");
    assert_true(nft_deadline(p.nft, p.now) == MONO_NONE);
    /* One leaves; not at once after another run. */
    tell(&p, 0, &none);
    two.count = 1;
    tell(&p, 1, &two);
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.8/32 timeout 60s }\n");
    tell(&p, 1, &none);
    assert_string_equal(ran(&p), "");
    mono_ns at = nft_deadline(p.nft, p.now);
    assert_true(at > p.now && at <= p.now + NS_S);
    p.now = at;
    assert_string_equal(ran(&p), FLUSH);
    assert_string_equal(taken(p.said), "");
    place_end(&p);
}

static void test_what_lasts_is_written_again(void **state)
{
    (void)state;
    struct place p;
    struct ban_list l = {0};
    place_begin(&p, 1);
    give(&l, "192.0.2.9", START + 1000 * NS_S);
    tell(&p, 0, &l);
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.9/32 timeout 600s }\n");
    p.now += 299 * NS_S;
    assert_string_equal(ran(&p), "");
    assert_true(nft_deadline(p.nft, p.now) == START + 300 * NS_S);
    p.now += NS_S;
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.9/32 timeout 600s }\n");
    p.now += 300 * NS_S;
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.9/32 timeout 400s }\n");
    assert_true(nft_deadline(p.nft, p.now) == MONO_NONE);
    place_end(&p);
}

static void test_failures(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1);
    set_program(&p, "echo '/dev/stdin:1:23-28: Error: No such file or directory' >&2\n"
                    "echo 'flush set' >&2; exit 1");
    assert_string_equal(ran(&p), FLUSH);
    assert_string_equal(taken(p.said), "weir: notice: bans are not in nftables: inet filter "
                                       "weir_bans: No such file or directory\n");
    /* Ever more seldom, in silence. */
    mono_ns before = p.now;
    for (unsigned i = 0; i < 20; i++) {
        dur_ns pause = (i < 9 ? 1u << i : 300u) * NS_S;
        assert_true(nft_deadline(p.nft, p.now) ==
                    before + (pause < 300 * NS_S ? pause : 300 * NS_S));
        p.now = nft_deadline(p.nft, p.now) - 1;
        assert_string_equal(ran(&p), "");
        before = ++p.now;
        assert_string_equal(ran(&p), FLUSH);
    }
    assert_string_equal(taken(p.said), "");
    set_program(&p, "exit 0");
    p.now += 300 * NS_S;
    assert_string_equal(ran(&p), FLUSH);
    assert_string_equal(taken(p.said),
                        "weir: notice: bans are in nftables again: inet filter weir_bans\n");
    place_end(&p);
}

/* Each is one notice: what it says is a terminal's to show, and not to obey; nothing is too long.
 */
static void test_ways_to_fail(void **state)
{
    (void)state;
    static const struct {
        const char *script, *why;
    } cases[] = {
        {"exit 3", "nft failed, and did not say why"},
        {"kill -9 $$", "nft failed, and did not say why"},
        {"printf 'a\\033[1mb' >&2; exit 1", "a\\x1b[1mb"},
        {NULL, "Exec format error"},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct place p;
        place_begin(&p, 1);
        if (cases[i].script != NULL) {
            set_program(&p, cases[i].script);
        } else {
            int fd = open(p.program, O_WRONLY | O_TRUNC | O_CLOEXEC);
            assert_true(fd >= 0 && write(fd, "\1\2\3\4", 4) == 4);
            close(fd);
        }
        if (cases[i].why == NULL) {
            (void)unlink(p.program);
            settle(&p);
            assert_non_null(strstr(taken(p.said), "weir_bans: No such file or directory\n"));
        } else {
            char want[256];
            settle(&p);
            snprintf(want, sizeof want,
                     "weir: notice: bans are not in nftables: inet filter weir_bans: %s\n",
                     cases[i].why);
            assert_string_equal(taken(p.said), want);
        }
        place_end(&p);
    }
}

/* It says more than is kept. */
static void test_a_talker(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1);
    set_program(&p, "head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1");
    nft_tick(p.nft, p.config, p.now);
    struct pollfd fd = nft_poll(p.nft);
    struct stat st;
    assert_int_equal(poll(&fd, 1, 20000), 1);
    assert_int_equal(fstat(p.nft->said_fd, &st), 0);
    assert_true(st.st_size <= 4096);
    settle(&p);
    size_t n = strlen(taken(p.said));
    assert_true(n > 100 && n < 400);
    place_end(&p);
}

/* What main ignores is not for a child to ignore. */
static void test_signals_are_as_usual(void **state)
{
    (void)state;
    struct place p;
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    place_begin(&p, 1);
    set_program(&p, "kill -PIPE $$; exit 0");
    settle(&p);
    assert_non_null(strstr(taken(p.said), "bans are not in nftables"));
    place_end(&p);
    (void)signal(SIGPIPE, before);
}

static void test_one_that_hangs_is_killed(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p, 1);
    set_program(&p, "exec sleep 1000");
    nft_tick(p.nft, p.config, p.now);
    assert_non_null(p.nft->running);
    pid_t pid = p.nft->pid;
    assert_true(nft_deadline(p.nft, p.now) == p.now + 5 * NS_S);
    p.now += 5 * NS_S - 1;
    nft_tick(p.nft, p.config, p.now);
    assert_int_equal(kill(pid, 0), 0);
    p.now++;
    settle(&p);
    assert_int_equal(kill(pid, 0), -1); /* it is no zombie either */
    assert_non_null(strstr(taken(p.said), "weir_bans: nft did not end within 5 s\n"));
    /* Nobody is left behind at the end. */
    p.now += NS_S;
    nft_tick(p.nft, p.config, p.now);
    assert_non_null(p.nft->running);
    pid = p.nft->pid;
    place_end(&p);
    assert_int_equal(kill(pid, 0), -1);
}

static void test_off(void **state)
{
    (void)state;
    struct place p;
    struct ban_list l = {0};
    place_begin(&p, 1);
    p.config->nftables = (struct config_nftables){0};
    give(&l, "192.0.2.9", MONO_NONE);
    tell(&p, 0, &l);
    assert_string_equal(ran(&p), "");
    assert_true(nft_deadline(p.nft, p.now) == MONO_NONE);
    /* What was told meanwhile counts when it is switched on. */
    p.config->nftables = filter_bans;
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.9/32 timeout 600s }\n");
    /* Off: the set is left empty. And another name: the new one is written after that. */
    p.config->nftables = (struct config_nftables){0};
    p.now += NS_S;
    assert_string_equal(ran(&p), FLUSH);
    p.config->nftables = filter_bans;
    assert_string_equal(ran(&p), FLUSH ADD "{ 192.0.2.9/32 timeout 600s }\n");
    p.config->nftables.set = SLICE("other");
    assert_string_equal(ran(&p), ""); /* too soon after another run */
    assert_true(nft_deadline(p.nft, p.now) != MONO_NONE);
    p.now += NS_S;
    assert_string_equal(ran(&p), FLUSH "flush set inet filter other\nadd element inet filter other "
                                       "{ 192.0.2.9/32 timeout 600s }\n");
    /* It is the same again before the old one is empty. */
    p.now += NS_S;
    p.config->nftables = filter_bans;
    nft_tick(p.nft, p.config, p.now);
    assert_non_null(p.nft->running);
    p.config->nftables.set = SLICE("other");
    assert_string_equal(ran(&p), "flush set inet filter other\n");
    p.now += NS_S;
    assert_string_equal(ran(&p), "flush set inet filter other\nadd element inet filter other "
                                 "{ 192.0.2.9/32 timeout 600s }\n");
    /* One that cannot be emptied holds nobody up. */
    set_program(&p, "exit 1");
    p.now += NS_S;
    p.config->nftables.set = SLICE("third");
    (void)ran(&p);
    p.config->nftables = (struct config_nftables){0};
    (void)ran(&p);
    assert_true(nft_deadline(p.nft, p.now) == MONO_NONE);
    place_end(&p);
}

/* A family has its set when somebody of it can come in; a table of one family has no other. */
static void test_families(void **state)
{
    (void)state;
    struct place p;
    struct ban_list l = {0};
    place_begin(&p, 1);
    give(&l, "192.0.2.9", MONO_NONE);
    give(&l, "2001:db8::/64", MONO_NONE);
    tell(&p, 0, &l);
    assert_null(strstr(ran(&p), "_6"));
    struct edge_listener *second = &p.config->engine.edge.listener[0];
    second->used = true;
    second->side = SIDE_INSIDE;
    second->bind.family = 6;
    assert_string_equal(ran(&p), "");
    second->side = SIDE_OUTSIDE;
    assert_string_equal(ran(&p), "flush set inet filter weir_bans_6\nadd element inet filter "
                                 "weir_bans_6 { 2001:db8::/64 timeout 600s }\n");
    p.now += NS_S;
    p.config->nftables.family = SLICE("ip6");
    assert_string_equal(ran(&p), FLUSH "flush set inet filter weir_bans_6\n"
                                       "flush set ip6 filter weir_bans_6\nadd element ip6 filter "
                                       "weir_bans_6 { 2001:db8::/64 timeout 600s }\n");
    p.now += NS_S;
    p.config->nftables.family = SLICE("ip");
    assert_string_equal(ran(&p), "flush set ip6 filter weir_bans_6\n"
                                 "flush set ip filter weir_bans\nadd element ip filter "
                                 "weir_bans { 192.0.2.9/32 timeout 600s }\n");
    place_end(&p);
}

/* ---- a worker tells ---------------------------------------------------------------------------
 */

static void test_a_worker_tells(void **state)
{
    (void)state;
    struct net *net = (struct net *)calloc(1, sizeof *net);
    struct worker *w = (struct worker *)calloc(1, sizeof *w);
    struct ban_list l = {0};
    assert_true(net != NULL && w != NULL && inbox_init(&net->inbox) == 0);
    w->net = net;
    net->worker[0] = w;
    net->nft = nft_new(1);
    w->answers = ring_map(8192);
    assert_true(w->answers != NULL && net->nft != NULL);
    int error = 0;
    assert_true(bans_tell(w, &l)); /* nobody ever was: there is nothing to tell */
    assert_true(ring_is_empty(w->answers));
    for (unsigned i = 0; i < FILTER_PREFIXES_MAX; i++) {
        give(&l, "192.0.2.0", START + i);
        l.ban[i].at.net.ip[3] = (uint8_t)i;
    }
    assert_true(bans_tell(w, &l));
    assert_true(bans_tell(w, &l));
    l.ban[63].until++;
    assert_true(bans_tell(w, &l));
    l.ban[62].until++;
    assert_true(bans_tell(w, &l));
    l.ban[61].until++;
    assert_false(bans_tell(w, &l)); /* no room: once more when there is */
    assert_false(answers_take(net, 0, &error));
    assert_int_equal(net->nft->of[0].count, 64);
    assert_true(net->nft->of[0].ban[62].until == l.ban[62].until);
    assert_true(net->nft->of[0].ban[61].until != l.ban[61].until);
    assert_true(bans_tell(w, &l));
    l.count = 1;
    assert_true(bans_tell(w, &l));
    assert_false(answers_take(net, 0, &error));
    assert_int_equal(net->nft->of[0].count, 1);
    l.count = 0;
    assert_true(bans_tell(w, &l));
    assert_false(answers_take(net, 0, &error));
    assert_int_equal(net->nft->of[0].count, 0);
    memory_unmap(w->answers, (sizeof *w->answers + 63) / 64 * 64 + 8192);
    close(net->inbox.wake_fd);
    nft_free(net->nft);
    free(w);
    free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_the_larger_stands_for_the_smaller),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_runs_when_something_is_new),
        cmocka_unit_test(test_what_lasts_is_written_again),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_ways_to_fail),
        cmocka_unit_test(test_a_talker),
        cmocka_unit_test(test_signals_are_as_usual),
        cmocka_unit_test(test_one_that_hangs_is_killed),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_a_worker_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
