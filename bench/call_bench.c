/* SPDX-License-Identifier: Apache-2.0
 *
 * The brain alone: whole calls (INVITE 100 180 200 ACK BYE 200) through engine_step() without a
 * socket. Prints nanoseconds a call; under callgrind with --toggle-collect=run_calls it gives the
 * instructions a call. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/engine.h"

struct world {
    struct engine *engine;
    struct actions *out;
    mono_ns now;
    char up[4096], down[4096]; /* last message that went each way */
    size_t up_n, down_n;
};

static struct addr address(const char *text)
{
    struct addr a;
    MUST(addr_parse(slice_cstr(text), &a) == 0);
    return a;
}

static void fill_random(void *ctx, void *dst, size_t n)
{
    struct prng *p = ctx;
    uint8_t *d = dst;
    for (size_t i = 0; i < n; i++)
        d[i] = (uint8_t)prng_u64(p);
}

static void execute(struct world *w)
{
    for (uint32_t i = 0; i < w->out->count; i++) {
        const struct action *a = &w->out->a[i];
        if (a->kind != ACT_SEND)
            continue;
        bool down = a->dest.port == 5070;
        char *to = down ? w->down : w->up;
        size_t n = 0;
        for (uint32_t k = 0; k < a->iov_count; k++) {
            const struct iovec *v = &w->out->iov[a->iov + k];
            MUST(n + v->iov_len <= sizeof w->up);
            memcpy(to + n, v->iov_base, v->iov_len);
            n += v->iov_len;
        }
        *(down ? &w->down_n : &w->up_n) = n;
    }
    actions_reset(w->out);
}

static void feed(struct world *w, const char *from, const char *text, size_t n)
{
    struct event ev = {.kind = EV_DATAGRAM,
                       .listener = 0,
                       .transport = TP_UDP,
                       .source = address(from),
                       .bytes = slice_of(text, n)};
    w->now += 20 * NS_US;
    (void)engine_step(w->engine, &ev, w->now, w->out);
    execute(w);
    if (engine_deadline(w->engine) <= w->now) {
        struct event timer = {.kind = EV_TIMER};
        (void)engine_step(w->engine, &timer, w->now, w->out);
        execute(w);
    }
}

/* The value of a header line in a message that we made or that came out of the engine. */
static struct slice line_of(const char *p, size_t n, const char *name, int nth)
{
    size_t k = strlen(name);
    const char *at = p;
    while ((at = memmem(at, n - (size_t)(at - p), name, k)) != NULL) {
        const char *end = memchr(at, '\r', n - (size_t)(at - p));
        if (nth-- == 0)
            return slice_of(at, (size_t)(end - at));
        at = end;
    }
    return SLICE_NONE;
}

static int answer(struct world *w, char *dst, size_t cap, const char *status, const char *body)
{
    char vias[1024] = "";
    size_t used = 0;
    for (int i = 0; i < 2; i++) {
        struct slice via = line_of(w->down, w->down_n, "Via:", i);
        if (via.n > 0)
            used += (size_t)snprintf(vias + used, sizeof vias - used, "%.*s\r\n", SLICE_ARG(via));
    }
    struct slice rr = line_of(w->down, w->down_n, "Record-Route:", 0),
                 from = line_of(w->down, w->down_n, "From:", 0),
                 call = line_of(w->down, w->down_n, "Call-ID:", 0),
                 cseq = line_of(w->down, w->down_n, "CSeq:", 0);
    return snprintf(dst, cap,
                    "SIP/2.0 %s\r\n%s%.*s%s%.*s\r\nTo: <sip:bob@127.0.0.1:5060>;tag=uas\r\n%.*s\r\n"
                    "%.*s\r\nContact: <sip:127.0.0.1:5070;transport=UDP>\r\n"
                    "Content-Type: application/sdp\r\nContent-Length: %zu\r\n\r\n%s",
                    status, vias, SLICE_ARG(rr), rr.n > 0 ? "\r\n" : "", SLICE_ARG(from),
                    SLICE_ARG(call), SLICE_ARG(cseq), strlen(body), body);
}

static const char sdp[] = "v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\n"
                          "c=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
                          "a=rtpmap:0 PCMU/8000\r\n";

static void one_call(struct world *w, unsigned i)
{
    char m[4096];
    int n = snprintf(m, sizeof m,
                     "INVITE sip:bob@127.0.0.1:5060 SIP/2.0\r\n"
                     "Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-%u-1-0\r\n"
                     "From: alice <sip:alice@127.0.0.1:5061>;tag=%uSIPpTag001\r\n"
                     "To: bob <sip:bob@127.0.0.1:5060>\r\nCall-ID: %u-4711@127.0.0.1\r\n"
                     "CSeq: 1 INVITE\r\nContact: sip:alice@127.0.0.1:5061\r\nMax-Forwards: 70\r\n"
                     "Subject: Performance Test\r\nContent-Type: application/sdp\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     i, i, i, sizeof sdp - 1, sdp);
    feed(w, "127.0.0.1:5061", m, (size_t)n);
    n = answer(w, m, sizeof m, "100 Trying", "");
    feed(w, "127.0.0.1:5070", m, (size_t)n);
    n = answer(w, m, sizeof m, "180 Ringing", "");
    feed(w, "127.0.0.1:5070", m, (size_t)n);
    n = answer(w, m, sizeof m, "200 OK", sdp);
    feed(w, "127.0.0.1:5070", m, (size_t)n);
    struct slice rr = line_of(w->up, w->up_n, "Record-Route:", 0);
    static const char *method[] = {"ACK", "BYE"};
    for (int k = 0; k < 2; k++) {
        n = snprintf(m, sizeof m,
                     "%s sip:127.0.0.1:5070;transport=UDP SIP/2.0\r\n"
                     "Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-%u-1-%d\r\n%.*s\r\n"
                     "From: alice <sip:alice@127.0.0.1:5061>;tag=%uSIPpTag001\r\n"
                     "To: bob <sip:bob@127.0.0.1:5060>;tag=uas\r\nCall-ID: %u-4711@127.0.0.1\r\n"
                     "CSeq: %d %s\r\nContact: sip:alice@127.0.0.1:5061\r\nMax-Forwards: 70\r\n"
                     "Content-Length: 0\r\n\r\n",
                     method[k], i, 5 + k, SLICE_ARG(slice_drop(rr, 7)), i, i, 1 + k, method[k]);
        feed(w, "127.0.0.1:5061", m, (size_t)n);
    }
    n = answer(w, m, sizeof m, "200 OK", "");
    feed(w, "127.0.0.1:5070", m, (size_t)n);
    w->now += 300 * NS_US;
}

__attribute__((noinline)) void run_calls(struct world *w, unsigned from, unsigned count);
void run_calls(struct world *w, unsigned from, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        one_call(w, from + i);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20000;
    static struct engine_opts opts;
    static struct pool_target_opts target;
    static struct pool_opts pool;
    static struct edge_rule rule;
    target = (struct pool_target_opts){
        .uri = SLICE("udp://127.0.0.1:5070"), .addr = address("127.0.0.1:5070"), .weight = 1};
    pool_opts_default(&pool);
    pool.name = SLICE("border");
    pool.targets = &target;
    pool.target_count = 1;
    pool.health.on = false;
    rule = (struct edge_rule){.from = RULE_ANY, .pool = 0};
    struct edge_opts *e = &opts.edge;
    e->node_name = SLICE("bench");
    e->listener[0] = (struct edge_listener){.used = true,
                                            .name = SLICE("udp"),
                                            .uri = SLICE("udp://127.0.0.1:5060"),
                                            .bind = address("127.0.0.1:5060"),
                                            .transport = TP_UDP,
                                            .host = SLICE("127.0.0.1"),
                                            .port = 5060};
    e->rules = &rule;
    e->rule_count = 1;
    e->pools = &pool;
    e->pool_count = 1;
    e->keys.count = 1;
    MUST(token_key_init(&e->keys.key[0], SLICE("0123456789abcdef0123456789abcdef")) == 0);
    e->hops_max = 70;
    e->timers = TXN_TIMERS_DEFAULT;
    e->timer_c = 185 * NS_S;
    e->trying_delay = 100 * NS_MS;
    e->log_transactions = true;
    edge_limits_default(&opts.limits);

    size_t size = engine_memory(&opts);
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(mem != MAP_FAILED);
    struct prng prng;
    prng_seed(&prng, 1);
    struct engine_birth birth = {.workers = 1,
                                 .process_generation = 7,
                                 .shared_seed = {1, 2},
                                 .rng = {fill_random, &prng},
                                 .prng_seed = 3};
    struct world w = {.now = NS_S, .out = malloc(sizeof(struct actions))};
    w.engine = engine_new(mem, size, &opts, &birth, w.now);
    MUST(w.engine != NULL && w.out != NULL);
    w.out->scratch = arena_over(malloc(STEP_SCRATCH_BYTES), STEP_SCRATCH_BYTES);
    actions_reset(w.out);

    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    run_calls(&w, 1, count);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    const struct counters *c = engine_counters(w.engine);
    printf("%.0f ns a call (messages made by the bench included), %llu transactions, %llu log "
           "records, %llu acks\n",
           ns / count, (unsigned long long)c->transactions, (unsigned long long)c->log_records,
           (unsigned long long)c->acks_forwarded);
    return c->transactions == 2ULL * count && c->acks_forwarded == count ? 0 : 1;
}
