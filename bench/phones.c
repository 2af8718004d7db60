/* SPDX-License-Identifier: Apache-2.0
 *
 * Many phones: each has one connection and registers over it. Told what to do by lines on stdin,
 * and says what came of it in JSON lines on stdout:
 *
 *     phones tls|tcp|wss ADDRESS PORT AT_ONCE
 *     open N      connect and register until there are N
 *     refresh     each registers again
 *     close       all hang up
 *     resume N    as open, with the TLS sessions of those that hung up
 *     pace FIRST RATE FILE   over the connections there are, register address after address, from
 *                 number FIRST on, RATE each second, until all connections are gone; the number of
 *                 each that is acknowledged is written to FILE at once
 *
 * `seconds` is from the first step to the last answer. A phone that is refused, or closed, counts
 * as failed; nothing is tried again. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PHONES_MAX = 64000, TEXT_MAX = 2048, EVENTS = 256, WAIT_S = 60 };

enum state { IDLE, CONNECTING, SHAKING, UPGRADING, REGISTERING, REGISTERED, FAILED };

struct phone {
    int fd;
    enum state state;
    unsigned number; /* of the address that it registers */
    unsigned cseq;
    SSL *ssl;
    SSL_SESSION *session;
    size_t in_n;
    char in[TEXT_MAX];
};

static struct phone *phones;
static SSL_CTX *ctx;
static struct sockaddr_in dest;
static bool tls, ws;
static int epfd;
static unsigned under_way, failed, resumed, refused, acknowledged;
static int acknowledged_fd = -1;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void settle(struct phone *p, enum state state)
{
    p->state = state;
    under_way--;
    if (state != FAILED)
        return;
    failed++;
    SSL_free(p->ssl);
    p->ssl = NULL;
    close(p->fd);
    p->fd = -1;
}

static int put(struct phone *p, const char *bytes, size_t n)
{
    if (tls)
        return SSL_write(p->ssl, bytes, (int)n) == (int)n ? 0 : -1;
    return send(p->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

/* A masked text frame with a mask of zeros. */
static int put_message(struct phone *p, const char *bytes, size_t n)
{
    char frame[TEXT_MAX + 8] = {(char)0x81, (char)(0x80 | 126), (char)(n >> 8), (char)n};
    if (!ws)
        return put(p, bytes, n);
    memcpy(frame + 8, bytes, n);
    return put(p, frame, n + 8);
}

static void send_register(struct phone *p)
{
    unsigned i = p->number;
    const char *up = ws ? "WSS" : tls ? "TLS" : "TCP", *low = ws ? "ws" : tls ? "tls" : "tcp";
    char text[TEXT_MAX];
    p->cseq++;
    int n = snprintf(text, sizeof text,
                     "REGISTER sip:example.com SIP/2.0\r\n"
                     "Via: SIP/2.0/%s 192.168.0.10:5060;branch=z9hG4bK%u-%u;rport\r\n"
                     "Max-Forwards: 70\r\n"
                     "From: <sip:u%u@example.com>;tag=f%u\r\n"
                     "To: <sip:u%u@example.com>\r\n"
                     "Call-ID: %04x-%u@192.168.0.10\r\n"
                     "CSeq: %u REGISTER\r\n"
                     "Contact: <sip:u%u@192.168.0.10:5060;transport=%s>"
                     ";+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-%012u>\";reg-id=1\r\n"
                     "Supported: path, outbound\r\n"
                     "User-Agent: Phone/1.0\r\n"
                     "Expires: 3600\r\n"
                     "Content-Length: 0\r\n\r\n",
                     up, i, p->cseq, i, i, i, (unsigned)getpid() & 0xffff, i, p->cseq, i, low, i);
    p->state = REGISTERING;
    if (put_message(p, text, (size_t)n) != 0)
        settle(p, FAILED);
}

static void send_upgrade(struct phone *p)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                               "Sec-WebSocket-Protocol: sip\r\n\r\n";
    p->state = UPGRADING;
    if (put(p, text, sizeof text - 1) != 0)
        settle(p, FAILED);
}

static void begin(struct phone *p)
{
    static const int yes = 1;
    under_way++;
    p->in_n = 0;
    p->number = (unsigned)(p - phones);
    p->state = CONNECTING;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0 ||
        (connect(p->fd, (struct sockaddr *)&dest, sizeof dest) != 0 && errno != EINPROGRESS)) {
        settle(p, FAILED);
        return;
    }
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = p};
    epoll_ctl(epfd, EPOLL_CTL_ADD, p->fd, &ev);
    if (!tls)
        return;
    p->ssl = SSL_new(ctx);
    SSL_set_fd(p->ssl, p->fd);
    SSL_set_connect_state(p->ssl);
    if (p->session != NULL)
        SSL_set_session(p->ssl, p->session);
}

static void shake(struct phone *p)
{
    int r = SSL_do_handshake(p->ssl);
    if (r == 1) {
        resumed += SSL_session_reused(p->ssl) != 0;
        if (ws)
            send_upgrade(p);
        else
            send_register(p);
        return;
    }
    int e = SSL_get_error(p->ssl, r);
    if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
        settle(p, FAILED);
}

static void note(const struct phone *p, bool fine)
{
    char line[16];
    refused += !fine;
    acknowledged += fine;
    if (!fine || acknowledged_fd < 0)
        return;
    int n = snprintf(line, sizeof line, "%u\n", p->number);
    if (write(acknowledged_fd, line, (size_t)n) != n)
        exit(74);
}

/* What has come, as far as it matters: a whole answer, and whether it says yes. */
static void judge(struct phone *p)
{
    p->in[p->in_n] = '\0';
    char *end = strstr(p->in, "\r\n\r\n");
    if (end == NULL)
        return;
    bool fine = p->state == UPGRADING ? strstr(p->in, " 101 ") != NULL
                                      : strstr(p->in, "SIP/2.0 200 ") != NULL;
    size_t used = (size_t)(end + 4 - p->in);
    memmove(p->in, p->in + used, p->in_n - used);
    p->in_n -= used;
    if (p->state == REGISTERING)
        note(p, fine);
    if (p->state == UPGRADING && fine)
        send_register(p);
    else if (p->state == REGISTERING || p->state == UPGRADING)
        settle(p, fine ? REGISTERED : FAILED);
}

static void hear(struct phone *p)
{
    for (;;) {
        size_t room = sizeof p->in - 1 - p->in_n;
        int n = tls ? SSL_read(p->ssl, p->in + p->in_n, (int)room)
                    : (int)recv(p->fd, p->in + p->in_n, room, 0);
        if (n > 0) {
            p->in_n += (size_t)n;
            if (p->state == REGISTERED) /* pings */
                p->in_n = 0;
            else
                judge(p);
            if (p->state == FAILED)
                return;
            continue;
        }
        int e = tls ? SSL_get_error(p->ssl, n) : 0;
        bool later =
            tls ? e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE : n < 0 && errno == EAGAIN;
        if (!later) {
            under_way += p->state == REGISTERED; /* which settle() takes off again */
            settle(p, FAILED);
        }
        return;
    }
}

static void on_event(struct phone *p)
{
    if (p->fd < 0 || p->state == IDLE || p->state == FAILED)
        return;
    if (p->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0) {
            settle(p, FAILED);
            return;
        }
        p->state = SHAKING;
        if (!tls)
            send_register(p);
    }
    if (p->state == SHAKING)
        shake(p);
    if (p->fd >= 0 && p->state > SHAKING && p->state != FAILED)
        hear(p);
}

/* Does `each` to phones [from, to), at most `at_once` under way. */
static void run(void (*each)(struct phone *), unsigned from, unsigned to, unsigned at_once,
                const char *what)
{
    double start = now_s();
    unsigned before = failed;
    resumed = 0;
    while (from < to || under_way > 0) {
        while (from < to && under_way < at_once)
            each(&phones[from++]);
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epfd, events, EVENTS, 1000);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
        if (now_s() - start > WAIT_S) {
            failed += under_way;
            under_way = 0;
            break;
        }
    }
    printf("{\"did\":\"%s\",\"phones\":%u,\"failed\":%u,\"resumed\":%u,\"seconds\":%.3f}\n", what,
           to, failed - before, resumed, now_s() - start);
    fflush(stdout);
}

static void refresh(struct phone *p)
{
    if (p->state != REGISTERED)
        return;
    under_way++;
    send_register(p);
}

static void hang_up(struct phone *p)
{
    if (p->fd < 0)
        return;
    if (tls) {
        SSL_SESSION_free(p->session);
        p->session = SSL_get1_session(p->ssl);
        SSL_shutdown(p->ssl);
        SSL_free(p->ssl);
        p->ssl = NULL;
    }
    close(p->fd);
    p->fd = -1;
    p->state = IDLE;
}

/* The next phone after `*at` whose connection is free. NULL when none is. */
static struct phone *free_phone(unsigned *at, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        *at = (*at + 1) % count;
        if (phones[*at].state == REGISTERED)
            return &phones[*at];
    }
    return NULL;
}

static void pace(unsigned first, unsigned rate, unsigned count, const char *path)
{
    double start = now_s(), end = start;
    unsigned before = failed, sent = 0, at = 0;
    refused = acknowledged = 0;
    acknowledged_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (acknowledged_fd < 0)
        exit(73);
    while (failed - before < count && now_s() - start < WAIT_S) {
        struct phone *p;
        while (sent < (now_s() - start) * rate && (p = free_phone(&at, count)) != NULL) {
            p->number = first + sent++;
            under_way++;
            send_register(p);
        }
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epfd, events, EVENTS, 1);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
        if (failed == before)
            end = now_s();
    }
    close(acknowledged_fd);
    acknowledged_fd = -1;
    printf("{\"did\":\"pace\",\"sent\":%u,\"acknowledged\":%u,\"refused\":%u,\"seconds\":%.3f}\n",
           sent, acknowledged, refused, end - start);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: phones tls|tcp|wss ADDRESS PORT AT_ONCE\n", stderr);
        return 64;
    }
    tls = strcmp(argv[1], "tcp") != 0;
    ws = strcmp(argv[1], "wss") == 0;
    dest = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    inet_pton(AF_INET, argv[2], &dest.sin_addr);
    unsigned at_once = (unsigned)atoi(argv[4]), count = 0;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    phones = calloc(PHONES_MAX, sizeof *phones);
    for (unsigned i = 0; i < PHONES_MAX; i++)
        phones[i].fd = -1;
    epfd = epoll_create1(EPOLL_CLOEXEC);
    char line[512], path[400];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned n = 0, rate = 0;
        if (sscanf(line, "open %u", &n) == 1 && n <= PHONES_MAX) {
            run(begin, count, n, at_once, "open");
            count = n;
        } else if (sscanf(line, "resume %u", &n) == 1 && n <= PHONES_MAX) {
            run(begin, 0, n, at_once, "resume");
            count = n;
        } else if (strcmp(line, "refresh\n") == 0) {
            run(refresh, 0, count, at_once, "refresh");
        } else if (strcmp(line, "close\n") == 0) {
            run(hang_up, 0, count, at_once, "close");
        } else if (sscanf(line, "pace %u %u %399s", &n, &rate, path) == 3) {
            pace(n, rate, count, path);
        } else {
            break;
        }
    }
    return 0;
}
