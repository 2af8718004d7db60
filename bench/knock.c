/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of those who want nothing good, from many sources:
 *
 *      close   connects and resets, as fast as it goes or at a rate
 *      idle    connects and says nothing
 *      drip    connects and sends a REGISTER, a byte each second
 *      begin   connects and sends the first bytes of a ClientHello
 *      hello   connects, sends a whole ClientHello and waits: the server has done its part of a
 *              handshake, this side nothing
 *
 *      knock IP PORT MODE FIRST-SOURCE SOURCES OPEN RATE SECONDS
 *
 * OPEN are held at a time; one that is closed by the server, or (hello) was answered, is replaced.
 * RATE per second, 0 = as many as possible. Writes one line of JSON at the end or on TERM. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, OPEN_MAX = 200000, BATCH = 64, HELLO_BYTES_MAX = 2048, BEGIN_BYTES = 6 };

enum mode { MODE_CLOSE, MODE_IDLE, MODE_DRIP, MODE_BEGIN, MODE_HELLO };

struct knocker {
    int fd; /* -1: none */
    uint16_t dripped;
    bool said;
};

static struct knocker *all;
static unsigned wanted, sources;
static uint32_t first_source; /* host order */
static struct sockaddr_in server;
static enum mode mode;
static int epfd;
static uint64_t made, refused, ended, answered;
static char hello[HELLO_BYTES_MAX];
static size_t hello_bytes;
static volatile sig_atomic_t over;

static void on_term(int number)
{
    (void)number;
    over = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What a client says first. */
static bool make_hello(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = ctx != NULL ? SSL_new(ctx) : NULL;
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (ssl == NULL || in == NULL || out == NULL)
        return false;
    SSL_set_bio(ssl, in, out);
    (void)SSL_connect(ssl);
    int n = BIO_read(out, hello, sizeof hello);
    hello_bytes = n > 0 ? (size_t)n : 0;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return hello_bytes > 0;
}

static void reset(int fd)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static int knock(uint64_t number)
{
    static const int yes = 1;
    struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(first_source + (uint32_t)(number % sources)),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        (connect(fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS)) {
        close(fd);
        return -1;
    }
    made++;
    return fd;
}

static void drop(struct knocker *k)
{
    reset(k->fd);
    *k = (struct knocker){.fd = -1};
}

static void begin(struct knocker *k)
{
    int fd = knock(made);
    if (fd < 0) {
        refused++;
        return;
    }
    if (mode == MODE_CLOSE) {
        reset(fd);
        return;
    }
    *k = (struct knocker){.fd = fd};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = k};
    (void)epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
}

static void say(struct knocker *k)
{
    if (k->said || (mode != MODE_BEGIN && mode != MODE_HELLO))
        return;
    size_t n = mode == MODE_BEGIN ? BEGIN_BYTES : hello_bytes;
    k->said = send(k->fd, hello, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static void on_event(struct knocker *k, uint32_t events)
{
    if (k->fd < 0)
        return;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        ended++;
        drop(k);
    } else if ((events & EPOLLIN) != 0 && mode == MODE_HELLO) {
        answered++;
        drop(k);
    } else if ((events & EPOLLOUT) != 0) {
        say(k);
    }
}

static void drip(void)
{
    static const char request[] = "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP a;"
                                  "branch=z9hG4bKslow\r\nMax-Forwards: 70\r\nSubject: ";
    for (unsigned i = 0; i < wanted; i++) {
        struct knocker *k = &all[i];
        if (k->fd < 0)
            continue;
        char c = k->dripped < sizeof request - 1 ? request[k->dripped] : 'x';
        if (send(k->fd, &c, 1, MSG_NOSIGNAL) == 1)
            k->dripped++;
    }
}

static void fill(uint64_t due)
{
    static unsigned at;
    unsigned looked = 0;
    for (unsigned n = 0; n < BATCH && made + refused < due && looked < wanted; looked++) {
        struct knocker *k = &all[at];
        at = (at + 1) % wanted;
        if (k->fd >= 0)
            continue;
        begin(k);
        n++;
    }
}

static void run(uint64_t rate, uint64_t lasts_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t start = now_ns(), dripped_at = start, now;
    while (!over && (now = now_ns()) - start < lasts_ns) {
        uint64_t due = rate == 0 ? UINT64_MAX : (now - start) / 1000 * rate / 1000000 + 1;
        fill(due);
        if (mode == MODE_DRIP && now - dripped_at >= 1000000000u) {
            dripped_at = now;
            drip();
        }
        int n = epoll_wait(epfd, events, EVENTS, rate == 0 && mode == MODE_CLOSE ? 0 : 1);
        for (int i = 0; i < n; i++)
            on_event((struct knocker *)events[i].data.ptr, events[i].events);
    }
}

static bool arguments(char **argv)
{
    static const char *const names[] = {"close", "idle", "drip", "begin", "hello"};
    struct in_addr first;
    server = (struct sockaddr_in){.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10))};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(argv[3], names[i]) == 0)
            mode = (enum mode)i;
    sources = (unsigned)strtoul(argv[5], NULL, 10);
    wanted = (unsigned)strtoul(argv[6], NULL, 10);
    if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1 ||
        inet_pton(AF_INET, argv[4], &first) != 1 || sources == 0 || wanted == 0 ||
        wanted > OPEN_MAX)
        return false;
    first_source = ntohl(first.s_addr);
    return true;
}

int main(int argc, char **argv)
{
    struct sigaction act = {.sa_handler = on_term};
    struct rlimit files;
    if (argc != 9 || !arguments(argv) || !make_hello()) {
        fprintf(stderr, "usage: knock IP PORT close|idle|drip|begin|hello FIRST-SOURCE SOURCES "
                        "OPEN RATE SECONDS\n");
        return 2;
    }
    sigaction(SIGTERM, &act, NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    all = (struct knocker *)calloc(wanted, sizeof *all);
    epfd = epoll_create1(0);
    if (all == NULL || epfd < 0)
        return 1;
    for (unsigned i = 0; i < wanted; i++)
        all[i].fd = -1;
    run(strtoull(argv[7], NULL, 10), strtoull(argv[8], NULL, 10) * 1000000000u);
    unsigned open = 0;
    for (unsigned i = 0; i < wanted; i++)
        open += all[i].fd >= 0;
    printf("{\"made\": %llu, \"refused\": %llu, \"ended\": %llu, \"answered\": %llu, "
           "\"open\": %u}\n",
           (unsigned long long)made, (unsigned long long)refused, (unsigned long long)ended,
           (unsigned long long)answered, open);
    return 0;
}
