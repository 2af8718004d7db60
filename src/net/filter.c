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
 * Sockets of datagrams drop more than those of connections: a ban that only datagrams led to may be
 * for what somebody else has sent, and the true owner of the address connects all the same.
 *
 * When there is too much to do, INVITEs are dropped by chance in the same way: see guard_unheard().
 *
 * The lists are asked for when they have changed, and again while there is one: who is dropped
 * there is not seen here any more, and whose ban is over has to be let in. Connections that are
 * open keep none of it. */
#include <linux/filter.h>
#include <string.h>
#include "net/net_int.h"

#define CHANGE_NOT_WITHIN (200 * NS_MS)
#define LOOK_AGAIN        (1 * NS_S)

/* Of an IP header, where the source stands; of a datagram, what stands where. */
enum { SOURCE_IP4 = 12, SOURCE_IP6 = 8, TAKE = -1 };
enum { MESSAGE_AT = 8, URI_AT = MESSAGE_AT + 7, USER_AT = URI_AT + 4, REQUEST_BYTES_MIN = 64 };
#define WORD(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

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

/* Takes it when the user part of its URI is this number:
 *      0        8          15      19
 *      │ UDP    │ INVITE␣  │ sip:  │ 112 │ @ … */
static unsigned write_number(struct sock_filter *code, struct slice number)
{
    unsigned n = 0, total = 2 * ((unsigned)number.n + 1) + 1;
    for (unsigned i = 0; i <= number.n; i++) {
        uint32_t c = i < number.n ? (uint8_t)number.p[i] : '@';
        code[n++] = statement(BPF_LD | BPF_B | BPF_ABS, USER_AT + i);
        code[n] = when_equal(c, total - n - 1);
        n++;
    }
    code[n++] = statement(BPF_RET | BPF_K, (uint32_t)TAKE);
    return n;
}

unsigned filter_write_drop(struct sock_filter *code, const struct slice *numbers, unsigned count,
                           uint32_t share)
{
    const struct sock_filter take = statement(BPF_RET | BPF_K, (uint32_t)TAKE);
    unsigned n = 0;
    /* A load beyond the end would drop: no request is shorter. */
    code[n++] = statement(BPF_LD | BPF_W | BPF_LEN, 0);
    code[n++] = (struct sock_filter){BPF_JMP | BPF_JGE | BPF_K, 1, 0, REQUEST_BYTES_MIN};
    code[n++] = take;
    code[n++] = statement(BPF_LD | BPF_W | BPF_ABS, MESSAGE_AT);
    code[n++] = (struct sock_filter){BPF_JMP | BPF_JEQ | BPF_K, 1, 0, WORD('I', 'N', 'V', 'I')};
    code[n++] = take;
    code[n++] = statement(BPF_LD | BPF_W | BPF_ABS, URI_AT);
    code[n++] = when_equal(WORD('u', 'r', 'n', ':'), 1);
    code[n++] = take;
    for (unsigned i = 0; i < count && i < FILTER_NUMBERS_MAX; i++)
        if (numbers[i].n <= FILTER_NUMBER_CHARS_MAX)
            n += write_number(code + n, numbers[i]);
    code[n++] = statement(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM));
    code[n++] = (struct sock_filter){BPF_JMP | BPF_JGE | BPF_K, 1, 0, share};
    code[n++] = statement(BPF_RET | BPF_K, 0);
    code[n++] = take;
    return n;
}

/* Without anything to drop, or when the kernel takes no program, the socket has none. `o` NULL: no
 * INVITEs. */
static bool apply(int fd, const struct filter_list *l, uint8_t family, const struct edge_opts *o,
                  uint32_t unheard)
{
    struct sock_filter code[FILTER_CODE_MAX];
    unsigned n = filter_write(code, l->prefix, l->count, family);
    if (o != NULL && unheard > 0)
        n += filter_write_drop(code + n - 1, o->emergency, o->emergency_count, unheard) - 1;
    struct sock_fprog program = {(unsigned short)n, code};
    int unused = 0;
    if (n > 1 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0)
        return true;
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    return false;
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

static bool is_in_use(const struct filter *f)
{
    return f->list[FILTER_DATAGRAMS].count + f->list[FILTER_STREAMS].count + f->unheard > 0;
}

void filter_forget(struct worker *w)
{
    w->filter.stale = is_in_use(&w->filter);
}

static bool is_due(const struct worker *w, uint64_t version)
{
    const struct filter *f = &w->filter;
    dur_ns since = mono_since(w->now, f->asked_at);
    return f->stale || (version != f->version && since >= CHANGE_NOT_WITHIN) ||
           ((is_in_use(f) || f->untold) && since >= LOOK_AGAIN);
}

static bool is_same(const struct filter_list *a, const struct filter_list *b)
{
    bool same = a->count == b->count;
    for (unsigned i = 0; i < a->count && same; i++)
        same = addr_equal(&a->prefix[i].net, &b->prefix[i].net) &&
               a->prefix[i].bits == b->prefix[i].bits;
    return same;
}

static void apply_all(struct worker *w)
{
    const struct filter_list *datagrams = &w->filter.list[FILTER_DATAGRAMS];
    const struct filter_list *streams = &w->filter.list[FILTER_STREAMS];
    udp_note_drops(w); /* those so far had the reason of before */
    for (unsigned i = 0; i < LISTENERS_MAX; i++) {
        struct udp_socket *s = &w->udp.sock[i];
        uint8_t family = w->config->engine.edge.listener[i].bind.family;
        int fd = w->streams.listen_fd[i];
        if (!is_outside(w, (uint8_t)i))
            continue;
        if (s->fd >= 0)
            s->filtered =
                apply(s->fd, datagrams, family, &w->config->engine.edge, w->filter.unheard);
        if (fd >= 0)
            (void)apply(fd, streams, family, NULL, 0);
    }
}

static void tell_bans(struct worker *w, const struct filter_list *l)
{
    const struct guard *g = engine_guard(w->engine);
    struct ban_list bans = {0};
    for (unsigned i = 0; i < l->count; i++) {
        const struct ban ban = {l->prefix[i], guard_persistent_until(g, &l->prefix[i], w->now)};
        if (ban.until > 0)
            bans.ban[bans.count++] = ban;
    }
    w->filter.untold = !bans_tell(w, &bans);
}

void filter_look(struct worker *w)
{
    struct filter *f = &w->filter;
    struct guard *g = engine_guard(w->engine);
    struct filter_list lists[FILTER_LISTS];
    uint64_t version = guard_persistent_version(g);
    uint32_t unheard = guard_unheard(g, w->now);
    if (!is_due(w, version) && unheard == f->unheard)
        return;
    for (unsigned i = 0; i < FILTER_LISTS; i++) {
        struct filter_list *l = &lists[i];
        l->count = i == FILTER_STREAMS
                       ? guard_persistent(g, l->prefix, FILTER_PREFIXES_MAX, w->now)
                       : guard_persistent_datagrams(g, l->prefix, FILTER_PREFIXES_MAX, w->now);
        l->count = spare_trusted(w, l->prefix, l->count);
    }
    bool same = !f->stale && unheard == f->unheard && is_same(&lists[0], &f->list[0]) &&
                is_same(&lists[1], &f->list[1]);
    f->version = version;
    f->asked_at = w->now;
    tell_bans(w, &lists[FILTER_STREAMS]);
    if (same)
        return;
    memcpy(f->list, lists, sizeof lists);
    f->unheard = unheard;
    f->stale = false;
    w->count.filters++;
    apply_all(w);
}

mono_ns filter_deadline(const struct worker *w)
{
    const struct filter *f = &w->filter;
    if (f->unheard > 0) /* when nobody comes any more, nobody says that it is over */
        return mono_add(w->now, CHANGE_NOT_WITHIN);
    return is_in_use(f) || f->untold ? mono_add(f->asked_at, LOOK_AGAIN) : MONO_NONE;
}
