/* SPDX-License-Identifier: Apache-2.0
 *
 * An attacker of one source: packets of one kind, many with each system call. Nothing of what comes
 * back is read, but for its number.
 *
 * Connections are opened and given up: a ring holds the last ones, and each new one takes the place
 * of the oldest, which is reset. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "load/load_int.h"

#define TURN_NS (20 * NS_MS)

enum { BATCH = 64, PACKET_BYTES_MAX = 1024, RING = 512 };

struct flood {
    struct timer timer, end;
    int fd;
    uint64_t number; /* of the packet */
    int ring[RING];
    struct load_place from;
    struct addr local;
    struct mmsghdr heads[BATCH];
    struct iovec iov[BATCH];
    char packet[BATCH][PACKET_BYTES_MAX];
};

static struct flood *all(const struct load *l)
{
    return (struct flood *)l->role;
}

/* ---- packets ------------------------------------------------------------------------------------
 */

static size_t write_garbage(struct load *l, char *p)
{
    size_t n = 64 + prng_below(&l->prng, 512);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = prng_u64(&l->prng);
        memcpy(p + i, &v, 8);
    }
    return n;
}

static size_t write_request(struct load *l, char *p, struct slice method, uint64_t number)
{
    struct flood *f = all(l);
    struct text t = text_into(p, PACKET_BYTES_MAX);
    text_put(&t, method);
    TEXT_LIT(&t, " sip:load@");
    addr_put(&t, &l->o->to.addr);
    TEXT_LIT(&t, " SIP/2.0\r\nVia: SIP/2.0/UDP ");
    addr_put(&t, &f->local);
    TEXT_LIT(&t, ";rport;branch=z9hG4bKf");
    text_put_u64(&t, l->run);
    text_put_char(&t, '.');
    text_put_u64(&t, number);
    TEXT_LIT(&t, "\r\nMax-Forwards: 70\r\nFrom: <sip:flood@example.com>;tag=f");
    text_put_u64(&t, number);
    TEXT_LIT(&t, "\r\nTo: <sip:load@example.com>\r\nCall-ID: f");
    text_put_u64(&t, l->run);
    text_put_char(&t, '.');
    text_put_u64(&t, number);
    TEXT_LIT(&t, "\r\nCSeq: 1 ");
    text_put(&t, method);
    TEXT_LIT(&t, "\r\nContact: <sip:flood@");
    addr_put(&t, &f->local);
    TEXT_LIT(&t, ">\r\nContent-Length: 0\r\n\r\n");
    return text_slice(&t).n;
}

static size_t write_packet(struct load *l, char *p, uint64_t number)
{
    switch (l->o->flood) {
    case LOAD_INVITE:
        return write_request(l, p, SLICE("INVITE"), number);
    case LOAD_ACK:
        return write_request(l, p, SLICE("ACK"), number);
    case LOAD_REGISTER:
        return write_request(l, p, SLICE("REGISTER"), number);
    default:
        return write_garbage(l, p);
    }
}

/* ---- sending ------------------------------------------------------------------------------------
 */

static void count_answers(struct load *l, struct flood *f)
{
    char byte;
    while (recv(f->fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) >= 0)
        l->wire_in++;
}

static void send_batch(struct load *l, struct flood *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        f->iov[i] = (struct iovec){f->packet[i], write_packet(l, f->packet[i], f->number + i)};
        f->heads[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &f->iov[i], .msg_iovlen = 1}};
    }
    int sent = sendmmsg(f->fd, f->heads, n, 0);
    f->number += n;
    if (sent > 0)
        l->wire_out += (uint64_t)sent;
    count_answers(l, f);
}

static void connect_some(struct load *l, struct flood *f, unsigned n)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (unsigned i = 0; i < n; i++) {
        int *place = &f->ring[f->number++ % RING];
        if (*place >= 0) {
            (void)setsockopt(*place, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(*place);
        }
        *place = load__conn_begin(&l->o->to, &f->from.addr);
        if (*place >= 0)
            l->wire_out++;
        else
            l->stats.n[COUNT_failed]++;
    }
}

/* Sends what is due; without a rate, as much as TURN_NS take: signals want to be seen, too. */
static void on_turn(struct load *l, struct timer *t)
{
    struct flood *f = all(l);
    const mono_ns until = mono_add(l->now, TURN_NS);
    uint64_t due = UINT64_MAX;
    if (l->o->rate != 0)
        due = mono_since(l->now, l->began) / NS_US * l->o->rate / 1000000;
    while (f->number < due && l->now < until) {
        uint64_t n = due - f->number < BATCH ? due - f->number : BATCH;
        if (l->o->flood == LOAD_CONNECT)
            connect_some(l, f, (unsigned)n);
        else
            send_batch(l, f, (unsigned)n);
        load__now(l);
    }
    load__arm(l, t, l->now);
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

static void on_end(struct load *l, struct timer *t)
{
    (void)t;
    l->over = true;
}

static int begin(struct load *l)
{
    struct flood *f = (struct flood *)calloc(1, sizeof *f);
    l->role = f;
    if (f == NULL)
        return -1;
    for (int i = 0; i < RING; i++)
        f->ring[i] = -1;
    f->fd = -1;
    if (l->o->sources.net.family != 0)
        f->from.addr = load__source(&l->o->sources, 0);
    if (l->o->flood != LOAD_CONNECT) {
        struct load_place to = {l->o->to.addr, TP_UDP};
        f->fd = load__conn_begin(&to, &f->from.addr);
        if (f->fd < 0) {
            fprintf(l->err, "weir load: no socket to send from: %s\n", strerror(errno));
            return -1;
        }
        f->local = load__conn_local(f->fd);
    }
    f->timer.fn = on_turn;
    f->end.fn = on_end;
    load__arm(l, &f->timer, l->now);
    load__arm(l, &f->end, mono_add(l->began, l->o->lasts));
    return 0;
}

static void progress(struct load *l, struct text *t)
{
    text_put_u64(t, l->wire_out);
    TEXT_LIT(t, " sent  ");
    text_put_u64(t, l->wire_in);
    TEXT_LIT(t, " answered");
}

static void report(struct load *l, struct outcome *u)
{
    (void)l;
    u->wanted = u->reached = 1;
}

static void end(struct load *l)
{
    struct flood *f = all(l);
    for (int i = 0; f != NULL && i < RING; i++)
        if (f->ring[i] >= 0)
            close(f->ring[i]);
    if (f != NULL && f->fd >= 0)
        close(f->fd);
    free(f);
}

const struct role load__flood_role = {begin, progress, report, end};
