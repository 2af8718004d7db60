/* SPDX-License-Identifier: Apache-2.0
 *
 * The yardstick of TLS connections: one thread that accepts, lets OpenSSL shake hands, answers
 * each SIP request with a 200 that copies what a response must copy, and holds the connection with
 * its OpenSSL object, buffers released. It looks into nothing else and remembers nothing.
 *
 *      phones ══▶ address port          tls_acceptor IP PORT CERT KEY */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, HEAD_BYTES_MAX = 8192 };

struct connection {
    SSL *ssl;
    int fd;
    bool is_open;
};

static int epfd;

static void end(struct connection *c)
{
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
}

static bool is_copied(const char *line)
{
    static const char *const names[] = {
        "Via:", "v:", "From:", "f:", "To:", "t:", "Call-ID:", "i:", "CSeq:"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncasecmp(line, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Answers the request whose head ends at `end_of_head`. */
static void answer(struct connection *c, const char *head, const char *end_of_head)
{
    static char out[HEAD_BYTES_MAX + 128];
    size_t n = (size_t)sprintf(out, "SIP/2.0 200 OK\r\n");
    for (const char *line = head; line < end_of_head;) {
        const char *next = strstr(line, "\r\n") + 2;
        if (is_copied(line)) {
            memcpy(out + n, line, (size_t)(next - line));
            n += (size_t)(next - line);
        }
        line = next;
    }
    n += (size_t)sprintf(out + n, "Content-Length: 0\r\n\r\n");
    (void)SSL_write(c->ssl, out, (int)n);
}

/* Reads what there is; each whole head is a request. False when the connection has ended. */
static bool serve(struct connection *c)
{
    static char in[HEAD_BYTES_MAX + 1];
    for (;;) {
        int n = SSL_read(c->ssl, in, HEAD_BYTES_MAX);
        if (n <= 0)
            return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        in[n] = '\0';
        for (const char *head = in; *head != '\0';) {
            const char *gap = strstr(head, "\r\n\r\n");
            if (gap == NULL)
                break;
            answer(c, head, gap + 2);
            head = gap + 4;
        }
    }
}

static void on_ready(struct connection *c)
{
    ERR_clear_error();
    if (!c->is_open) {
        int r = SSL_accept(c->ssl);
        if (r != 1) {
            if (SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_READ)
                end(c);
            return;
        }
        c->is_open = true;
    }
    if (!serve(c))
        end(c);
}

static void accept_all(int listener, SSL_CTX *ctx)
{
    static const int yes = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = (struct connection *)calloc(1, sizeof *c);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        c->fd = fd;
        c->ssl = SSL_new(ctx);
        SSL_set_fd(c->ssl, fd);
        SSL_set_accept_state(c->ssl);
        epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
    }
}

static int listen_at(const char *ip, const char *port)
{
    static const int yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (inet_pton(AF_INET, ip, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1024) != 0) {
        perror("tls_acceptor: bind");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: tls_acceptor IP PORT CERT KEY\n");
        return 2;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(ctx, argv[3]) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, argv[4], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    int listener = listen_at(argv[1], argv[2]);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epfd = epoll_create1(0);
    epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        int n = epoll_wait(epfd, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            return 1;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listener, ctx);
            else
                on_ready((struct connection *)events[i].data.ptr);
        }
    }
}
