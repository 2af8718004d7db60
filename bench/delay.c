/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a proxy holds messages: caller and server of the same calls in one process, so that one
 * clock sees both ends. Calls begin at a fixed rate whatever the answers do.
 *
 *      caller ── INVITE ──▶ proxy ──▶ server      way up:   sent by the caller to kernel's arrival
 *      caller ◀── 200 ──── proxy ◀── server       way down: sent by the server to kernel's arrival
 *
 *      delay CALLER-IP SERVER-IP PROXY-IP PORT RATE CALLS [SOURCES]     prints one line of JSON
 *
 * All at port PORT; callers take turns in SOURCES addresses from CALLER-IP on. The delay of a call
 * is both ways together. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    DATAGRAM_BYTES_MAX = 4096,
    CALLS_MAX = 1 << 20,
    TEXT_BYTES = 2048,
    SOCKET_BYTES = 8 << 20,
    CALLERS_MAX = 100
};

struct call {
    uint64_t invite_sent, invite_came, ok_sent, ok_came;
    bool done;
};

static struct call *calls;
static unsigned calls_wanted, calls_done;
static int caller[CALLERS_MAX], server;
static char caller_ip[CALLERS_MAX][INET_ADDRSTRLEN];
static unsigned callers = 1;
static struct sockaddr_in proxy;
static const char *server_ip;
static int port;
static unsigned run; /* part of all identifiers: no request of one run repeats one of another */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in address(const char *ip)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, ip, &a.sin_addr) != 1)
        exit(2);
    return a;
}

static int open_socket(const char *ip)
{
    struct sockaddr_in at = address(ip);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1, size = SOCKET_BYTES;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        perror("delay: bind");
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    return fd;
}

static void send_text(int fd, const struct sockaddr_in *to, const char *text, int n)
{
    if (n > 0 && n < DATAGRAM_BYTES_MAX)
        sendto(fd, text, (size_t)n, 0, (const struct sockaddr *)to, sizeof *to);
}

/* One datagram, NUL-terminated, and the kernel's time of its arrival; 0 when there is none. */
static uint64_t receive(int fd, char text[DATAGRAM_BYTES_MAX], struct sockaddr_in *from)
{
    char control[256];
    struct iovec iov = {text, DATAGRAM_BYTES_MAX - 1};
    struct msghdr m = {.msg_name = from,
                       .msg_namelen = sizeof *from,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    if (n < 0)
        return 0;
    text[n] = '\0';
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        }
    }
    return now_ns();
}

/* The number of the call, from "Call-ID: N-delay-RUN". */
static struct call *call_of(const char *text, unsigned *ret_number)
{
    const char *at = strstr(text, "\r\nCall-ID: ");
    unsigned long n = at != NULL ? strtoul(at + 11, NULL, 10) : calls_wanted;
    *ret_number = (unsigned)n;
    return n < calls_wanted ? &calls[n] : NULL;
}

/* Copies the header lines whose name is `name`; as `as`, in the given or the reverse order. */
static int copy_lines(char *out, int n, const char *text, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *line = strstr(text, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncmp(line + 2, name, name_len) != 0)
            continue;
        const char *end = strstr(line + 2, "\r\n");
        if (end == NULL || n + (end - line) >= TEXT_BYTES)
            break;
        memcpy(out + n, line + 2, (size_t)(end - line));
        n += (int)(end - line);
    }
    return n;
}

/* Record-Route lines become Route lines, last first (RFC 3261 12.1.2). */
static int reverse_routes(char *out, const char *text)
{
    const char *value[8];
    int count = 0, n = 0;
    for (const char *at = strstr(text, "\r\nRecord-Route: "); at != NULL && count < 8;
         at = strstr(at + 2, "\r\nRecord-Route: "))
        value[count++] = at + 16;
    while (count-- > 0) {
        int len = (int)strcspn(value[count], "\r");
        n += snprintf(out + n, (size_t)(TEXT_BYTES - n), "Route: %.*s\r\n", len, value[count]);
    }
    out[n] = '\0';
    return n;
}

static void send_invite(unsigned i)
{
    char text[TEXT_BYTES];
    int n = snprintf(text, sizeof text,
                     "INVITE sip:callee@example.com SIP/2.0\r\n"
                     "Via: SIP/2.0/UDP %s:%d;rport;branch=z9hG4bKi%u.%u\r\n"
                     "Max-Forwards: 70\r\nFrom: <sip:caller@example.com>;tag=f%u\r\n"
                     "To: <sip:callee@example.com>\r\nCall-ID: %u-delay-%u\r\n"
                     "CSeq: 1 INVITE\r\n"
                     "Contact: <sip:caller@%s:%d>\r\nContent-Length: 0\r\n\r\n",
                     caller_ip[i % callers], port, i, run, i, i, run, caller_ip[i % callers], port);
    calls[i].invite_sent = now_ns();
    send_text(caller[i % callers], &proxy, text, n);
}

static void send_in_dialog(const char *ok, unsigned i, const char *method, int cseq)
{
    char text[TEXT_BYTES], routes[TEXT_BYTES];
    reverse_routes(routes, ok);
    int n = snprintf(text, sizeof text,
                     "%s sip:callee@%s:%d SIP/2.0\r\n"
                     "Via: SIP/2.0/UDP %s:%d;rport;branch=z9hG4bK%c%u.%u\r\n%s"
                     "Max-Forwards: 70\r\nFrom: <sip:caller@example.com>;tag=f%u\r\n"
                     "To: <sip:callee@example.com>;tag=t\r\nCall-ID: %u-delay-%u\r\n"
                     "CSeq: %d %s\r\nContent-Length: 0\r\n\r\n",
                     method, server_ip, port, caller_ip[i % callers], port, method[0], i, run,
                     routes, i, i, run, cseq, method);
    send_text(caller[i % callers], &proxy, text, n);
}

static void on_caller(int fd)
{
    char text[DATAGRAM_BYTES_MAX];
    struct sockaddr_in from;
    unsigned i;
    for (uint64_t at; (at = receive(fd, text, &from)) != 0;) {
        struct call *c = call_of(text, &i);
        if (c == NULL || strncmp(text, "SIP/2.0 200", 11) != 0)
            continue;
        if (strstr(text, "CSeq: 1 INVITE") != NULL) {
            if (c->ok_came == 0)
                c->ok_came = at;
            send_in_dialog(text, i, "ACK", 1);
            send_in_dialog(text, i, "BYE", 2);
        } else if (!c->done) {
            c->done = true;
            calls_done++;
        }
    }
}

static void on_server(void)
{
    char text[DATAGRAM_BYTES_MAX], out[TEXT_BYTES];
    struct sockaddr_in from;
    unsigned i;
    for (uint64_t at; (at = receive(server, text, &from)) != 0;) {
        struct call *c = call_of(text, &i);
        bool invite = strncmp(text, "INVITE", 6) == 0;
        if (c == NULL || (!invite && strncmp(text, "BYE", 3) != 0))
            continue;
        int n = snprintf(out, sizeof out, "SIP/2.0 200 OK\r\n");
        n = copy_lines(out, n, text, "Via:");
        if (invite)
            n = copy_lines(out, n, text, "Record-Route:");
        n = copy_lines(out, n, text, "From:");
        n = copy_lines(out, n, text, "To:");
        if (invite) /* the tag goes before the line's end */
            n += snprintf(out + n - 2, (size_t)(TEXT_BYTES - n), ";tag=t\r\n") - 2;
        n = copy_lines(out, n, text, "Call-ID:");
        n = copy_lines(out, n, text, "CSeq:");
        n += snprintf(out + n, (size_t)(TEXT_BYTES - n),
                      "Contact: <sip:callee@%s:%d>\r\nContent-Length: 0\r\n\r\n", server_ip, port);
        if (invite && c->invite_came == 0) {
            c->invite_came = at;
            c->ok_sent = now_ns();
        }
        send_text(server, &from, out, n);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static void report(void)
{
    uint64_t *both = calloc(calls_wanted, sizeof *both);
    unsigned n = 0;
    for (unsigned i = 0; both != NULL && i < calls_wanted; i++) {
        const struct call *c = &calls[i];
        if (c->ok_came != 0)
            both[n++] = (c->invite_came - c->invite_sent) + (c->ok_came - c->ok_sent);
    }
    if (n > 0)
        qsort(both, n, sizeof *both, compare);
    printf("{\"calls\": %u, \"done\": %u, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
           calls_wanted, calls_done, n > 0 ? (double)both[n / 2] / 1e3 : 0.0,
           n > 0 ? (double)both[(uint64_t)n * 99 / 100] / 1e3 : 0.0,
           n > 0 ? (double)both[n - 1] / 1e3 : 0.0);
    free(both);
}

/* CALLER-IP and the addresses behind it. */
static void open_callers(const char *first)
{
    struct in_addr a;
    if (inet_pton(AF_INET, first, &a) != 1)
        exit(2);
    for (unsigned i = 0; i < callers; i++) {
        struct in_addr one = {.s_addr = htonl(ntohl(a.s_addr) + i)};
        inet_ntop(AF_INET, &one, caller_ip[i], sizeof caller_ip[i]);
        caller[i] = open_socket(caller_ip[i]);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 8)
        return 2;
    port = atoi(argv[4]);
    unsigned rate = (unsigned)atoi(argv[5]);
    calls_wanted = (unsigned)atoi(argv[6]);
    if (rate == 0 || calls_wanted == 0 || calls_wanted > CALLS_MAX)
        return 2;
    callers = argc == 8 ? (unsigned)atoi(argv[7]) : 1;
    if (callers == 0 || callers > CALLERS_MAX)
        return 2;
    server_ip = argv[2];
    proxy = address(argv[3]);
    calls = calloc(calls_wanted, sizeof *calls);
    open_callers(argv[1]);
    server = open_socket(server_ip);
    if (calls == NULL)
        return 1;
    run = (unsigned)(now_ns() / 1000000);
    uint64_t start = now_ns(), end = start + (uint64_t)calls_wanted * 1000000000u / rate;
    unsigned begun = 0;
    while (calls_done < calls_wanted && now_ns() < end + 5000000000u) {
        while (begun < calls_wanted && now_ns() >= start + (uint64_t)begun * 1000000000u / rate)
            send_invite(begun++);
        struct pollfd fds[CALLERS_MAX + 1] = {{.fd = server, .events = POLLIN}};
        for (unsigned i = 0; i < callers; i++)
            fds[i + 1] = (struct pollfd){.fd = caller[i], .events = POLLIN};
        struct timespec wait = {.tv_nsec = 200000};
        ppoll(fds, callers + 1, &wait, NULL);
        on_server();
        for (unsigned i = 0; i < callers; i++)
            if ((fds[i + 1].revents & POLLIN) != 0)
                on_caller(caller[i]);
    }
    report();
    return calls_done == calls_wanted ? 0 : 1;
}
