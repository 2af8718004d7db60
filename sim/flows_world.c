/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of phones: time, NATs, connections, faults, phases. See flows.h. */
#include <stdarg.h>
#include <stdlib.h>
#include "flows.h"

void fl_fail(struct fl_world *w, const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    int n = snprintf(w->why, sizeof w->why, "at %llu ms: ", (unsigned long long)(w->now / NS_MS));
    va_list args;
    va_start(args, format);
    vsnprintf(w->why + n, sizeof w->why - (size_t)n, format, args);
    va_end(args);
}

void fl_trace(struct fl_world *w, const char *format, ...)
{
    if (w->trace == NULL)
        return;
    fprintf(w->trace, "%4llu.%06llu ", w->now / NS_S, w->now % NS_S / NS_US);
    va_list args;
    va_start(args, format);
    vfprintf(w->trace, format, args);
    va_end(args);
    fputc('\n', w->trace);
}

uint64_t fl_below(struct fl_world *w, uint64_t n)
{
    return prng_below(&w->rnd, n);
}

bool fl_chance(struct fl_world *w, unsigned permille)
{
    return prng_below(&w->rnd, 1000) < permille;
}

struct packet *fl_packet(const struct addr *src, const struct addr *dst, struct slice bytes)
{
    struct packet *p = calloc(1, sizeof *p + bytes.n);
    MUST(p != NULL);
    if (src != NULL)
        p->src = *src;
    if (dst != NULL)
        p->dst = *dst;
    p->n = (uint32_t)bytes.n;
    if (bytes.n > 0)
        memcpy(p->bytes, bytes.p, bytes.n);
    return p;
}

void fl_at(struct fl_world *w, dur_ns in, enum fl_what what, unsigned node, uint32_t a, uint32_t b,
           uint64_t c, struct packet *packet)
{
    struct occurrence o = {.at = w->now + in,
                           .what = (uint16_t)what,
                           .node = (uint16_t)node,
                           .a = a,
                           .b = b,
                           .c = c,
                           .packet = packet};
    queue_push(&w->queue, &o);
}

/* ---- plan ------------------------------------------------------------------------------------ */

static struct addr address(unsigned a, unsigned b, unsigned c, unsigned d, uint16_t port)
{
    return (struct addr){
        .ip = {(uint8_t)a, (uint8_t)b, (uint8_t)c, (uint8_t)d}, .port = port, .family = 4};
}

static void plan_phones(struct fl_world *w)
{
    static const uint8_t transports[] = {TP_UDP, TP_TCP, TP_TLS, TP_TLS, TP_WSS};
    for (unsigned i = 0; i < w->phones; i++) {
        struct fl_phone *p = &w->phone[i];
        p->transport = transports[fl_below(w, sizeof transports)];
        p->nat = (uint8_t)fl_below(w, FL_NATS);
        p->instance = fl_chance(w, 700);
        p->flows = p->instance && p->transport != TP_UDP && fl_chance(w, 600) ? 2 : 1;
        p->answers = fl_chance(w, 900);
        for (unsigned f = 0; f < 2; f++) {
            p->flow[f].conn = FL_NONE;
            p->flow[f].edge = (uint16_t)(w->split ? f ^ (i & 1) : 0);
            snprintf(p->flow[f].call_id, sizeof p->flow[f].call_id, "reg-%u-%u", i, f);
        }
        fl_at(w, fl_below(w, 3 * NS_S), FL_PHONE, 0, i, FL_DO_REGISTER, 0, NULL);
        if (p->flows == 2)
            fl_at(w, fl_below(w, 3 * NS_S), FL_PHONE, 0, i, FL_DO_REGISTER, 1, NULL);
    }
}

static void plan_calls(struct fl_world *w, mono_ns from, mono_ns to, unsigned count, bool must)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned caller = (unsigned)fl_below(w, w->phones);
        unsigned callee = (unsigned)fl_below(w, w->phones);
        fl_at(w, from + fl_below(w, to - from), FL_PHONE, 0, caller, FL_DO_CALL,
              callee | (must ? 1u << 16 : 0), NULL);
    }
}

struct fl_world *fl_new(uint64_t seed, FILE *trace)
{
    struct fl_world *w = calloc(1, sizeof *w);
    MUST(w != NULL);
    w->seed = seed;
    w->trace = trace;
    w->now = NS_S;
    queue_init(&w->queue);
    prng_seed(&w->rnd, seed * 0x9e3779b97f4a7c15ULL + 7);
    w->split = fl_chance(w, 500);
    w->pings_udp = fl_chance(w, 500);
    w->workers = (uint8_t)(1 + fl_below(w, FL_WORKERS));
    w->phones = (uint8_t)(2 + fl_below(w, FL_PHONES - 1));
    w->healed_at = 60 * NS_S;
    w->final_at = 140 * NS_S;
    w->quiet_at = 150 * NS_S;
    w->left_at = 600 * NS_S; /* Timer C has run out for whoever was left ringing */
    w->end_at = 820 * NS_S;
    for (unsigned n = 0; n < FL_NATS; n++) {
        w->nat[n].addr = address(198, 51, 100, 1 + n, 0);
        for (unsigned i = 0; i < FL_PORTS; i++)
            w->nat[n].owner[i] = w->nat[n].spoke[i] = FL_NONE;
    }
    for (unsigned n = 0; n < FL_NODES; n++) {
        w->node[n].outside = address(203, 0, 113, 1 + n, 5060);
        w->node[n].inside = address(10, 0, 1, 1 + n, 5060);
    }
    for (unsigned n = 0; n < (w->split ? FL_NODES : 1); n++)
        fl_boot(w, n);
    plan_phones(w);
    plan_calls(w, 2 * NS_S, w->healed_at, (unsigned)fl_below(w, 60), false);
    plan_calls(w, w->final_at, w->quiet_at - 5 * NS_S, 8, true);
    fl_faults_plan(w);
    for (unsigned p = FL_HEALED; p <= FL_OVER; p++) {
        mono_ns at[] = {0, w->healed_at, w->final_at, w->quiet_at, w->left_at, w->end_at};
        fl_at(w, at[p] - w->now, FL_PHASE, 0, p, 0, 0, NULL);
    }
    return w;
}

/* ---- phases ---------------------------------------------------------------------------------- */

static void on_phase(struct fl_world *w, unsigned phase)
{
    w->phase = (uint8_t)phase;
    fl_trace(w, "phase %u", phase);
    if (phase == FL_HEALED)
        fl_faults_heal(w);
    for (unsigned i = 0; phase == FL_LEFT && i < FL_CONNS; i++)
        fl_reset(w, i, false);
}

/* ---- connections and datagrams --------------------------------------------------------------- */

static void on_closed(struct fl_world *w, struct occurrence *o)
{
    struct fl_conn *c = &w->conn[o->a];
    if (!c->used || c->gen != o->c)
        return;
    if (o->b & 1) {
        if (!c->phone_has)
            return;
        c->phone_has = false;
        fl_phone_lost(w, c->phone, c->flow);
        if (!c->open)
            fl_stream_over(c);
        return;
    }
    fl_node_happen(w, o);
}

/* A datagram that reached the public side of a NAT. */
static void on_nat(struct fl_world *w, struct packet *k)
{
    for (unsigned n = 0; n < FL_NATS; n++) {
        unsigned i = k->dst.port - 1000u;
        if (!addr_same_host(&w->nat[n].addr, &k->dst) || i >= FL_PORTS)
            continue;
        int owner = w->nat[n].owner[i];
        if (owner != FL_NONE)
            fl_phone_message(w, (unsigned)owner, 0, slice_of(k->bytes, k->n));
        return;
    }
}

static void happen(struct fl_world *w, struct occurrence *o)
{
    w->hash = (w->hash ^ o->at ^ (uint64_t)o->what << 56 ^ o->a) * 0x9e3779b97f4a7c15ULL;
    switch ((enum fl_what)o->what) {
    case FL_DATAGRAM:
        if (o->node == FL_NODES)
            on_nat(w, o->packet);
        else
            fl_node_happen(w, o);
        break;
    case FL_PIECE:
        fl_stream_feed(w, o);
        break;
    case FL_CLOSED:
        on_closed(w, o);
        break;
    case FL_PHONE:
        fl_phone_step(w, o->a, (enum fl_step)o->b, o->c);
        break;
    case FL_FAULT:
        fl_faults_happen(w, o);
        break;
    case FL_PHASE:
        on_phase(w, o->a);
        break;
    case FL_OPENED:
    case FL_TICK:
    case FL_HANDED:
    case FL_STORED:
    case FL_TOLD:
    case FL_FORGOTTEN:
        fl_node_happen(w, o);
        break;
    }
}

void fl_run(struct fl_world *w)
{
    struct occurrence o;
    while (!w->failed && w->phase != FL_OVER && queue_pop(&w->queue, &o)) {
        MUST(o.at >= w->now);
        w->now = o.at;
        if (!fl_node_waits(w, &o)) {
            happen(w, &o);
            free(o.packet);
        }
    }
    if (w->failed)
        return;
    fl_phones_end(w);
    for (unsigned n = 0; n < FL_NODES && !w->failed; n++)
        if (w->node[n].up)
            fl_node_end(w, n);
}

void fl_free(struct fl_world *w, struct counters *sums)
{
    for (unsigned n = 0; n < FL_NODES; n++) {
        if (!w->node[n].up)
            continue;
        fl_node_sums(w, n, sums);
        fl_kill(w, n);
    }
    for (unsigned n = 0; n < FL_NODES; n++)
        for (unsigned i = 0; i < FL_DISK; i++)
            free(w->node[n].disk[i].whole);
    for (unsigned i = 0; i < FL_CONNS; i++)
        fl_stream_over(&w->conn[i]);
    for (unsigned i = 0; i < FL_ASKS; i++)
        free(w->ask[i].sent);
    for (unsigned i = 0; i < FL_RINGS; i++) {
        free(w->ring[i].request);
        free(w->ring[i].last);
    }
    queue_done(&w->queue);
    free(w);
}
