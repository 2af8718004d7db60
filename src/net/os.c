/* SPDX-License-Identifier: Apache-2.0
 *
 * The system calls that need care in one place each: sockets, entropy, lazily touched memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include "net/net_int.h"

#define WAITED_MAX (60 * NS_S)

enum { SOCKET_BUFFER_BYTES = 8 * 1024 * 1024, LISTEN_BACKLOG = 4096 };

void *memory_map(size_t n)
{
    void *p =
        mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* Tables are touched sparsely: one huge page for one object would cost 2 MiB. A kernel
     * without huge pages refuses this, and needs it not. */
    (void)madvise(p, n, MADV_NOHUGEPAGE);
    return p;
}

void memory_unmap(void *p, size_t n)
{
    if (p != NULL)
        (void)munmap(p, n);
}

struct ring *ring_map(uint32_t size)
{
    size_t head = (sizeof(struct ring) + 63) / 64 * 64;
    char *p = (char *)memory_map(head + size);
    if (p == NULL)
        return NULL;
    struct ring *r = (struct ring *)p;
    ring_init(r, p + head, size);
    return r;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_in6 *ret_sa)
{
    if (a->family == 4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&in.sin_addr, a->ip, 4);
        memcpy(ret_sa, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_scope_id = a->scope};
    memcpy(&in6.sin6_addr, a->ip, 16);
    *ret_sa = in6;
    return sizeof in6;
}

struct addr addr_from_sockaddr(const struct sockaddr_in6 *sa)
{
    struct addr a = {0};
    if (sa->sin6_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        memcpy(a.ip, &in.sin_addr, 4);
        a.port = ntohs(in.sin_port);
        a.family = 4;
    } else if (sa->sin6_family == AF_INET6) {
        a = addr_from_ip6(sa->sin6_addr.s6_addr, sa->sin6_scope_id, ntohs(sa->sin6_port));
    }
    return a;
}

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

static int close_with(int fd, int error)
{
    close(fd);
    errno = error;
    return -1;
}

/* As root the buffer may be larger than net.core.?mem_max allows to others. */
static void set_buffer(int fd, int name, int name_force)
{
    if (set_int(fd, SOL_SOCKET, name_force, SOCKET_BUFFER_BYTES) != 0)
        (void)set_int(fd, SOL_SOCKET, name, SOCKET_BUFFER_BYTES);
}

static int bound_socket(const struct addr *bind_to, int type, bool shared)
{
    int family = bind_to->family == 4 ? AF_INET : AF_INET6;
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    struct sockaddr_in6 sa;
    socklen_t len = addr_to_sockaddr(bind_to, &sa);
    if ((shared && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0) ||
        (type == SOCK_STREAM && set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0) ||
        (family == AF_INET6 && set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0) ||
        bind(fd, (struct sockaddr *)&sa, len) != 0)
        return close_with(fd, errno);
    return fd;
}

int udp_open(const struct addr *bind_to, bool shared)
{
    int fd = bound_socket(bind_to, SOCK_DGRAM, shared);
    if (fd < 0)
        return -1;
    int failed = bind_to->family == 4 ? set_int(fd, IPPROTO_IP, IP_RECVERR, 1)
                                      : set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if (failed != 0)
        return close_with(fd, errno);
    (void)set_int(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1); /* asked for only under pressure */
    set_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE);
    set_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE);
    return fd;
}

int tcp_listen(const struct addr *bind_to, bool shared)
{
    int fd = bound_socket(bind_to, SOCK_STREAM, shared);
    if (fd < 0)
        return -1;
    if (listen(fd, LISTEN_BACKLOG) != 0)
        return close_with(fd, errno);
    return fd;
}

uint64_t arrival_of(struct msghdr *h)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
        struct timespec t;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        memcpy(&t, CMSG_DATA(c), sizeof t);
        return (uint64_t)t.tv_sec * NS_S + (uint64_t)t.tv_nsec;
    }
    return 0;
}

dur_ns waited_since(uint64_t wall_ns)
{
    uint64_t now = wall_now();
    /* No queue is that long: somebody has set the clock. */
    return wall_ns == 0 || now <= wall_ns || now - wall_ns > WAITED_MAX ? 0 : now - wall_ns;
}

static void entropy_fill(void *ctx, void *dst, size_t n)
{
    struct entropy *e = (struct entropy *)ctx;
    char *to = (char *)dst;
    while (n > 0) {
        if (e->left == 0) {
            /* Up to 256 bytes never fail once the system's pool is ready; more may be cut short
             * by a signal, which workers do not take. */
            ssize_t got = getrandom(e->bytes, sizeof e->bytes, 0);
            if (got < 0 && errno == EINTR)
                continue;
            MUST(got > 0); /* without randomness nothing may run */
            e->left = (size_t)got;
        }
        size_t k = n < e->left ? n : e->left;
        unsigned char *from = e->bytes + (e->left - k);
        memcpy(to, from, k);
        memset(from, 0, k); /* what was handed out is kept nowhere */
        e->left -= k;
        to += k;
        n -= k;
    }
}

struct rng entropy_rng(struct entropy *e)
{
    return (struct rng){entropy_fill, e};
}

uint32_t backlog_max(void)
{
    char text[16] = "";
    uint64_t n;
    int fd = open("/proc/sys/net/core/somaxconn", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    struct slice digits = slice_of(text, got > 0 ? (size_t)got : 0);
    digits = slice_take(digits, slice_find(digits, '\n'));
    return text_parse_u64(digits, UINT32_MAX, &n) == 0 ? (uint32_t)n : UINT32_MAX;
}

uint64_t descriptors_raise(uint64_t want)
{
    struct rlimit now;
    if (getrlimit(RLIMIT_NOFILE, &now) != 0)
        return 1024;
    if (now.rlim_cur >= want)
        return now.rlim_cur;
    struct rlimit more = {want, now.rlim_max > want ? now.rlim_max : want};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0)
        return want;
    more = (struct rlimit){now.rlim_max < want ? now.rlim_max : want, now.rlim_max};
    return setrlimit(RLIMIT_NOFILE, &more) == 0 ? more.rlim_cur : now.rlim_cur;
}
