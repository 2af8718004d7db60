/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources that are refused and go on sending cost a read each, and a wake-up. The kernel drops what
 * they send for the price of a few comparisons, by a filter on our own sockets: a datagram before
 * it is queued, a SYN before there is a connection. No privilege is needed for that.
 *
 *      guard's list, most persistent first ──▶ program ──▶ sockets of outside listeners
 *              v4:  ld source, and mask, jeq net ▶ drop    … for each; at the end: take
 *              v6:  the same for each word that the prefix reaches into
 *
 * The list is asked for when it has changed, and again while there is one: who is dropped there is
 * not seen here any more, and whose ban is over has to be let in. Connections that are open keep
 * none of it. */
#include <linux/filter.h>
#include <string.h>
#include "net/net_int.h"

#define CHANGE_NOT_WITHIN (200 * NS_MS)
#define LOOK_AGAIN        (1 * NS_S)

enum { SOURCE_IP4 = 12, SOURCE_IP6 = 8, TAKE = -1 };

static struct sock_filter statement(uint16_t code, uint32_t k)
{
    return (struct sock_filter){.code = code, .k = k};
}

/* Goes on when equal, else over `skip` instructions. */
static struct sock_filter when_equal(uint32_t k, unsigned skip)
{
    return (struct sock_filter){.code = BPF_JMP | BPF_JEQ | BPF_K, .jf = (uint8_t)skip, .k = k};
}

static uint32_t mask_of(unsigned bits)
{
    return bits >= 32 ? UINT32_MAX : bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One prefix: for each word a load, a mask where it ends within, and a comparison; then the drop.
 */
static unsigned write_prefix(struct sock_filter *code, const struct prefix *p, uint32_t at)
{
    unsigned words = (p->bits + 31u) / 32, n = 0, total = 1;
    for (unsigned i = 0; i < words; i++)
        total += p->bits >= (i + 1) * 32 ? 2 : 3;
    for (unsigned i = 0; i < words; i++) {
        unsigned bits = p->bits - i * 32;
        code[n++] = statement(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + at + i * 4);
        if (bits < 32)
            code[n++] = statement(BPF_ALU | BPF_AND | BPF_K, mask_of(bits));
        code[n] = when_equal(word_at(p->net.ip + i * 4) & mask_of(bits), total - n - 1);
        n++;
    }
    code[n++] = statement(BPF_RET | BPF_K, 0);
    return n;
}

unsigned filter_write(struct sock_filter *code, const struct prefix *prefixes, unsigned count,
                      uint8_t family)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && i < FILTER_PREFIXES_MAX; i++)
        if (prefixes[i].net.family == family)
            n += write_prefix(code + n, &prefixes[i], family == 4 ? SOURCE_IP4 : SOURCE_IP6);
    code[n++] = statement(BPF_RET | BPF_K, (uint32_t)TAKE);
    return n;
}

/* Without a list, or when the kernel takes none, the socket has none. */
static bool apply(int fd, const struct prefix *prefixes, unsigned count, uint8_t family)
{
    struct sock_filter code[FILTER_CODE_MAX];
    unsigned n = filter_write(code, prefixes, count, family);
    struct sock_fprog program = {(unsigned short)n, code};
    int unused = 0;
    if (n > 1 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0)
        return true;
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    return false;
}

void filter_forget(struct worker *w)
{
    w->filter.stale = w->filter.count > 0;
}

/* Leaves out those that hold a trusted source, or lie among trusted ones. Returns how many stay. */
static unsigned spare_trusted(const struct worker *w, struct prefix *prefixes, unsigned count)
{
    const struct edge_opts *o = &w->config->engine.edge;
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++) {
        bool spared = false;
        for (unsigned k = 0; k < o->trusted_count && !spared; k++)
            spared = prefix_holds(&o->trusted[k], &prefixes[i].net) ||
                     prefix_holds(&prefixes[i], &o->trusted[k].net);
        if (!spared)
            prefixes[n++] = prefixes[i];
    }
    return n;
}

static bool is_due(const struct worker *w, uint64_t version)
{
    const struct filter *f = &w->filter;
    dur_ns since = mono_since(w->now, f->asked_at);
    return f->stale || (version != f->version && since >= CHANGE_NOT_WITHIN) ||
           (f->count > 0 && since >= LOOK_AGAIN);
}

static bool is_same(const struct filter *f, const struct prefix *prefixes, unsigned count)
{
    bool same = !f->stale && count == f->count;
    for (unsigned i = 0; i < count && same; i++)
        same = addr_equal(&f->prefix[i].net, &prefixes[i].net) &&
               f->prefix[i].bits == prefixes[i].bits;
    return same;
}

void filter_look(struct worker *w)
{
    struct filter *f = &w->filter;
    struct guard *g = engine_guard(w->engine);
    struct prefix prefixes[FILTER_PREFIXES_MAX];
    uint64_t version = guard_persistent_version(g);
    if (!is_due(w, version))
        return;
    unsigned count = guard_persistent(g, prefixes, FILTER_PREFIXES_MAX, w->now);
    count = spare_trusted(w, prefixes, count);
    f->version = version;
    f->asked_at = w->now;
    if (is_same(f, prefixes, count))
        return;
    udp_note_drops(w);
    w->count.filters++;
    f->stale = false;
    f->count = count;
    memcpy(f->prefix, prefixes, count * sizeof prefixes[0]);
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        struct udp_socket *s = &w->udp.sock[i];
        uint8_t family = w->config->engine.edge.listener[i].bind.family;
        int fd = w->streams.listen_fd[i];
        if (!is_outside(w, (uint8_t)i))
            continue;
        if (s->fd >= 0)
            s->filtered = apply(s->fd, prefixes, count, family);
        if (fd >= 0)
            (void)apply(fd, prefixes, count, family);
    }
}

mono_ns filter_deadline(const struct worker *w)
{
    return w->filter.count > 0 ? mono_add(w->filter.asked_at, LOOK_AGAIN) : MONO_NONE;
}
