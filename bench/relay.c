/* SPDX-License-Identifier: Apache-2.0
 *
 * The yardstick: a UDP relay that does nothing but pass datagrams on. It receives many at once,
 * swaps the address, and sends many at once; it looks into none of them. What Weir costs is told
 * in multiples of this.
 *
 *      caller ──▶ bind address ──▶ target          relay BIND-IP PORT TARGET-IP PORT
 *      caller ◀── (same socket) ◀── target */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, DATAGRAM_BYTES_MAX = 65536, SOCKET_BYTES = 8 << 20 };

static struct sockaddr_in address(const char *ip, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
        fprintf(stderr, "relay: %s is no IPv4 address\n", ip);
        exit(2);
    }
    return a;
}

static int open_socket(const struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = SOCKET_BYTES;
    if (fd < 0 || bind(fd, (const struct sockaddr *)at, sizeof *at) != 0) {
        perror("relay: bind");
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    return fd;
}

static bool same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_addr.s_addr == b->sin_addr.s_addr && a->sin_port == b->sin_port;
}

static void send_all(int fd, struct mmsghdr *m, unsigned count)
{
    for (unsigned done = 0; done < count;) {
        int n = sendmmsg(fd, m + done, count - done, 0);
        done += n > 0 ? (unsigned)n : 1; /* one that cannot be sent is left out */
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: relay BIND-IP PORT TARGET-IP PORT\n");
        return 2;
    }
    static char bytes[BATCH][DATAGRAM_BYTES_MAX];
    static struct sockaddr_in source[BATCH];
    static struct iovec iov[BATCH];
    static struct mmsghdr m[BATCH];
    struct sockaddr_in at = address(argv[1], argv[2]), target = address(argv[3], argv[4]);
    struct sockaddr_in caller = target;
    int fd = open_socket(&at);
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            iov[i] = (struct iovec){bytes[i], sizeof bytes[i]};
            m[i].msg_hdr = (struct msghdr){.msg_name = &source[i],
                                           .msg_namelen = sizeof source[i],
                                           .msg_iov = &iov[i],
                                           .msg_iovlen = 1};
        }
        int n = recvmmsg(fd, m, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < n; i++) {
            bool back = same(&source[i], &target);
            if (!back)
                caller = source[i];
            source[i] = back ? caller : target;
            iov[i].iov_len = m[i].msg_len;
        }
        if (n > 0)
            send_all(fd, m, (unsigned)n);
    }
}
