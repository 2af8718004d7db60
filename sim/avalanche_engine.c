/* SPDX-License-Identifier: Apache-2.0
 *
 * The real engine of an edge, and the phones that speak with it: one in so many of those over UDP.
 * Their REGISTERs are messages: written here, read, challenged, checked, stored and answered there;
 * what the engine refuses is refused, and its own Retry-After is what the phone hears. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/md5.h>
#include <stdlib.h>
#include "avalanche.h"
#include "memory.h"

enum { LISTENER = 0, SLOTS = 64, HEX = 32 };
#define REALM "example.com"

static struct actions actions;
static char *scratch;

/* ---- an engine ------------------------------------------------------------------------------- */

static void fill_random(void *ctx, void *dst, size_t n)
{
    struct av_world *w = ctx;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)dst)[i] = (uint8_t)prng_u64(&w->rnd);
}

static void fill_limits(const struct av_world *w, struct edge_limits *l)
{
    edge_limits_default(l);
    l->transactions = 16384;
    l->flows = SLOTS;
    l->target_flows = 16;
    l->blocks[0] = l->blocks[1] = 16384;
    l->blocks[2] = 512;
    l->blocks[3] = 8;
    l->targets = 8;
    l->pools = 2;
    l->bindings = w->sample_count + 16;
    l->guard.sources = 2 * (w->setup.phones / w->setup.edges_per_region / 3);
}

static void fill_registrar(const struct av_world *w, struct av_edge *e, struct registrar_opts *r)
{
    static const struct slice domain[] = {{REALM, sizeof REALM - 1}};
    *r = (struct registrar_opts){
        .on = true,
        .domains = domain,
        .domain_count = 1,
        .expires_min_s = 60,
        .expires_max_s = 3600,
        .expires_default_s = 3600,
        .contacts_max = 8,
        .digest = true,
        .realm = domain[0],
        .offer = {DIGEST_MD5},
        .offer_count = 1,
        .nonce_life_s = 300,
        .users = w->user,
        .user_count = w->sample_count,
        .keys = &e->opts.edge.keys,
    };
}

static void fill(struct av_world *w, struct av_edge *e, unsigned i)
{
    static const char secret[] = "one key that all edges of the fleet share";
    struct edge_opts *o = &e->opts.edge;
    fill_limits(w, &e->opts.limits);
    o->node_name = SLICE("edge");
    o->node_id = (uint16_t)(i + 1);
    o->listener[LISTENER] = (struct edge_listener){
        .used = true,
        .name = SLICE("udp"),
        .uri = SLICE("udp"),
        .bind = {.ip = {192, 0, 2, (uint8_t)(i + 1)}, .port = 5060, .family = 4},
        .transport = TP_UDP,
        .side = SIDE_OUTSIDE,
        .host = SLICE("edge." REALM),
        .port = 5060,
    };
    e->rule = (struct edge_rule){.from = RULE_ANY, .role = ROLE_REGISTRAR};
    o->rules = &e->rule;
    o->rule_count = 1;
    o->keys.count = 1;
    MUST(token_key_init(&o->keys.key[0], slice_of(secret, sizeof secret - 1)) == 0);
    o->hops_max = 70;
    o->timers = TXN_TIMERS_DEFAULT;
    o->timer_c = 185 * NS_S;
    o->trying_delay = 100 * NS_MS;
    o->connect_timeout = 3 * NS_S;
    o->connections_per_target = 2;
    fill_registrar(w, e, &o->registrar);
}

void av_engine_open(struct av_world *w, struct av_edge *e, unsigned i, mono_ns now)
{
    fill(w, e, i);
    e->mem_size = engine_memory(&e->opts);
    e->mem = mmap(NULL, e->mem_size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(e->mem != MAP_FAILED);
    struct engine_birth birth = {.workers = 1,
                                 .process_generation = i + 1,
                                 .shared_seed = {prng_u64(&w->rnd), prng_u64(&w->rnd)},
                                 .rng = {fill_random, w},
                                 .prng_seed = prng_u64(&w->rnd)};
    e->engine = engine_new(e->mem, e->mem_size, &e->opts, &birth, now);
    MUST(e->engine != NULL);
    e->guard = engine_guard(e->engine);
}

void av_engine_close(struct av_edge *e)
{
    sim_unmap(e->mem, e->mem_size);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static size_t flatten(const struct action *a, char *dst, size_t cap)
{
    size_t n = 0;
    for (uint32_t i = 0; i < a->iov_count; i++) {
        const struct iovec *v = &actions.iov[a->iov + i];
        MUST(v->iov_len <= cap - n);
        if (v->iov_len > 0)
            memcpy(dst + n, v->iov_base, v->iov_len);
        n += v->iov_len;
    }
    return n;
}

/* Steps, and again for what was to be stored, which is at once. The last message that was sent goes
 * to `answer`. Returns its length. */
static size_t step(struct av_edge *e, struct event *ev, char *answer, size_t cap)
{
    size_t n = 0;
    uint64_t stored = 0;
    if (scratch == NULL) {
        scratch = malloc(STEP_SCRATCH_BYTES);
        MUST(scratch != NULL);
    }
    actions.scratch = arena_over(scratch, STEP_SCRATCH_BYTES);
    do {
        actions_reset(&actions);
        ev->wall_ns = e->clock + 1700000000ULL * NS_S;
        (void)engine_step(e->engine, ev, e->clock, &actions);
        stored = 0;
        for (uint32_t i = 0; i < actions.count; i++) {
            const struct action *a = &actions.a[i];
            if (a->kind == ACT_SEND)
                n = flatten(a, answer, cap);
            else if (a->kind == ACT_STORE && a->id != 0)
                stored = a->id;
        }
        *ev = (struct event){.kind = EV_STORED, .id = stored};
    } while (stored != 0);
    return n;
}

void av_engine_ticks(struct av_edge *e)
{
    static char unused[SIP_MESSAGE_BYTES_MAX + 65536];
    struct event ev = {.kind = EV_TIMER};
    if (engine_deadline(e->engine) <= e->clock)
        (void)step(e, &ev, unused, sizeof unused);
}

/* ---- its phones ------------------------------------------------------------------------------ */

static struct slice hex(const uint8_t raw[MD5_DIGEST_LENGTH], char dst[HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < MD5_DIGEST_LENGTH; i++) {
        dst[2 * i] = digits[raw[i] >> 4];
        dst[2 * i + 1] = digits[raw[i] & 15];
    }
    return slice_of(dst, HEX);
}

static struct slice md5_of(const char *text, char dst[HEX])
{
    uint8_t raw[MD5_DIGEST_LENGTH];
    MD5((const uint8_t *)text, strlen(text), raw);
    return hex(raw, dst);
}

void av_phone_enrols(struct av_world *w, uint32_t k)
{
    struct av_sample *s = &w->sample[k];
    char text[64];
    snprintf(s->name, sizeof s->name, "p%08u", k); /* so the table is sorted */
    w->user[k] = (struct registrar_user){.name = slice_cstr(s->name), .has_md5 = true};
    snprintf(text, sizeof text, "%s:" REALM ":secret", s->name);
    MD5((const uint8_t *)text, strlen(text), w->user[k].ha1_md5);
}

/* RFC 7616 3.4: with the nonce that it was given last. */
static void put_credentials(const struct av_world *w, uint32_t k, char *dst, size_t cap)
{
    const struct av_sample *s = &w->sample[k];
    char ha1[HEX], ha2[HEX], response[HEX], text[512];
    hex(w->user[k].ha1_md5, ha1);
    md5_of("REGISTER:sip:" REALM, ha2);
    snprintf(text, sizeof text, "%.32s:%s:00000001:c:auth:%.32s", ha1, s->nonce, ha2);
    md5_of(text, response);
    snprintf(dst, cap,
             "Authorization: Digest username=\"%s\", realm=\"" REALM "\", nonce=\"%s\", "
             "uri=\"sip:" REALM "\", qop=auth, nc=00000001, cnonce=\"c\", algorithm=MD5, "
             "response=\"%.32s\"\r\n",
             s->name, s->nonce, response);
}

static size_t write_register(const struct av_world *w, uint32_t k, uint32_t phone, bool credentials,
                             char *dst, size_t cap)
{
    const struct av_sample *s = &w->sample[k];
    struct addr a = av_address(phone);
    char host[ADDR_TEXT_MAX + 1] = "", line[1024] = "";
    struct text t = text_into(host, ADDR_TEXT_MAX);
    addr_put(&t, &a);
    host[text_slice(&t).n] = '\0';
    if (credentials)
        put_credentials(w, k, line, sizeof line);
    int n = snprintf(dst, cap,
                     "REGISTER sip:" REALM " SIP/2.0\r\n"
                     "Via: SIP/2.0/UDP %s;branch=z9hG4bK%u-%u-%d;rport\r\n"
                     "Max-Forwards: 70\r\n"
                     "From: <sip:%s@" REALM ">;tag=f\r\n"
                     "To: <sip:%s@" REALM ">\r\n"
                     "Call-ID: %s-%u\r\n"
                     "CSeq: %u REGISTER\r\n"
                     "Contact: <sip:%s@%s>\r\n"
                     "Expires: 3600\r\n%s"
                     "Content-Length: 0\r\n\r\n",
                     host, k, w->phone[phone].attempt, credentials, s->name, s->name, s->name,
                     w->phone[phone].attempt, credentials ? 2U : 1U, s->name, host, line);
    MUST(n > 0 && (size_t)n < cap);
    return (size_t)n;
}

static void keep_nonce(struct av_sample *s, const struct sip_msg *m)
{
    struct slice v = sip_header_value(m, SIP_H_WWW_AUTHENTICATE);
    const char *at = v.n > 0 ? memmem(v.p, v.n, "nonce=\"", 7) : NULL;
    MUST(at != NULL);
    struct slice rest = slice_drop(v, (size_t)(at - v.p) + 7);
    struct slice nonce = slice_take(rest, slice_find(rest, '"'));
    MUST(nonce.n < sizeof s->nonce);
    memcpy(s->nonce, nonce.p, nonce.n);
    s->nonce[nonce.n] = '\0';
}

unsigned av_engine_register(struct av_world *w, struct av_edge *e, const struct av_waits *m,
                            dur_ns waited, uint32_t *ret_retry_after_s)
{
    static char request[4096], answer[SIP_MESSAGE_BYTES_MAX + 65536];
    static struct sip_msg msg;
    uint32_t k = w->phone[m->phone].sample - 1;
    struct sip_fault fault;
    struct event ev = {.kind = EV_DATAGRAM,
                       .listener = LISTENER,
                       .transport = TP_UDP,
                       .source = av_address(m->phone),
                       .waited = waited};
    size_t n = write_register(w, k, m->phone, m->what == AV_CREDENTIALS, request, sizeof request);
    ev.bytes = slice_of(request, n);
    n = step(e, &ev, answer, sizeof answer);
    w->steps++;
    if (n == 0)
        return 0;
    MUST(sip_index(&msg, answer, n, true, &fault) == 0 && !msg.is_request);
    if (msg.status == 401)
        keep_nonce(&w->sample[k], &msg);
    uint64_t s = 0;
    if (msg.status == 503)
        MUST(text_parse_u64(sip_header_value(&msg, SIP_H_RETRY_AFTER), UINT32_MAX, &s) == 0);
    *ret_retry_after_s = (uint32_t)s;
    return msg.status;
}
