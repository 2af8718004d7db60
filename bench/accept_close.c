/* SPDX-License-Identifier: Apache-2.0
 *
 * The yardstick of refused connections: one thread that accepts and closes, and does nothing else.
 * On TERM it writes how many.
 *
 *      accept_close IP PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static volatile sig_atomic_t over;

static void on_term(int number)
{
    (void)number;
    over = 1;
}

static int listen_at(const char *ip, const char *port)
{
    static const int yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (inet_pton(AF_INET, ip, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, BACKLOG) != 0) {
        perror("accept_close: bind");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: accept_close IP PORT\n");
        return 2;
    }
    struct sigaction act = {.sa_handler = on_term};
    sigaction(SIGTERM, &act, NULL);
    int listener = listen_at(argv[1], argv[2]), epfd = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    unsigned long long count = 0;
    epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev);
    while (!over) {
        if (epoll_wait(epfd, &ev, 1, -1) < 0 && errno != EINTR)
            return 1;
        for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
            close(fd);
            count++;
        }
    }
    printf("%llu\n", count);
    return 0;
}
