/* SPDX-License-Identifier: Apache-2.0
 *
 * A program for a registrar, spelled as bytes: REGISTERs, a store that is slow, flows that die,
 * time that passes, restarts. Unit tests draw the bytes at random; the fuzzer chooses them.
 *
 *   op, argument, argument, …     two or more bytes each, see reg_step()
 *
 * What must hold after each step: an AOR leads only to contacts that were registered for it, by the
 * phone that registered them, over flows of this process that this phone used. After a restart
 * everything that was acknowledged is there. In the end nothing is left. */
#ifndef WEIR_FUZZ_REGISTER_PROGRAM_H
#define WEIR_FUZZ_REGISTER_PROGRAM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registrar/registrar_int.h"

#ifndef PROGRAM_CHECK
#define PROGRAM_CHECK(c) MUST(c)
#endif

enum {
    REG_USERS = 6,
    REG_PHONES = 4,
    REG_FLOWS = 6,
    REG_GENS = 2048,
    REG_ROWS = 512,
    REG_QUEUE = 4,
    REG_BINDINGS = 40,
    REG_SCRATCH = 256 * 1024,
    REG_QUEUED_BYTES = 160 * 1024,
};

struct reg_row {
    char *bytes; /* a whole put record; NULL: none */
    size_t n;
};

struct reg_program {
    const uint8_t *data;
    size_t size;
    struct arena mem;
    struct registrar *r;
    struct registrar_opts opts;
    struct slice domain;
    struct token_keys keys;
    struct registrar_user user;
    mono_ns now;
    uint64_t wall_ns;
    uint64_t seed;
    unsigned cseq;
    uint64_t gen[REG_FLOWS], gen_next;
    uint32_t users_of[REG_GENS]; /* bit user × REG_PHONES + phone: sent a REGISTER over it */
    struct reg_row row[REG_ROWS];
    unsigned rows;
    struct {
        char *bytes;
        size_t n;
    } queue[REG_QUEUE]; /* stored, and not yet committed here */
    unsigned queued;
    char *scratch;
    char message[16384];
};

static unsigned reg_byte(struct reg_program *g)
{
    if (g->size == 0)
        return 0;
    g->size--;
    return *g->data++;
}

static void reg_birth(struct reg_program *g)
{
    g->mem.used = 0;
    g->seed++;
    g->r = registrar_new(&g->mem, REG_BINDINGS, (struct hash_seed){g->seed, 7}, g->seed);
    PROGRAM_CHECK(g->r != NULL);
    registrar_adopt(g->r, &g->opts);
    g->gen_next = 1;
    memset(g->users_of, 0, sizeof g->users_of);
    for (unsigned i = 0; i < REG_FLOWS; i++)
        g->gen[i] = g->gen_next++;
}

static void reg_start(struct reg_program *g, const uint8_t *data, size_t size)
{
    memset(g, 0, sizeof *g);
    g->data = data;
    g->size = size;
    g->domain = SLICE("d");
    PROGRAM_CHECK(token_key_init(&g->keys.key[0], SLICE("a secret of programs")) == 0);
    g->keys.count = 1;
    g->user = (struct registrar_user){.name = SLICE("u0"), .has_md5 = true, .has_sha256 = true};
    g->opts = (struct registrar_opts){
        .on = true,
        .domains = &g->domain,
        .domain_count = 1,
        .expires_min_s = 30,
        .expires_max_s = 4000,
        .expires_default_s = 600,
        .expires_jitter_percent = 10,
        .contacts_max = 6,
        .realm = SLICE("d"),
        .nonce_life_s = 60,
        .users = &g->user,
        .user_count = 1,
        .keys = &g->keys,
    };
    g->now = 1000 * NS_S;
    g->wall_ns = 1790000000 * NS_S;
    size_t bytes = registrar_memory(REG_BINDINGS);
    g->mem = arena_over(malloc(bytes), bytes);
    g->scratch = malloc(REG_SCRATCH);
    PROGRAM_CHECK(g->mem.p != NULL && g->scratch != NULL);
    reg_birth(g);
}

/* ---- the store ------------------------------------------------------------------------------- */

static struct slice reg_key(const struct reg_row *row)
{
    struct slice rest = slice_of(row->bytes, row->n);
    struct record record;
    PROGRAM_CHECK(record_next(&rest, &record) == 1 && rest.n == 0);
    return record.key;
}

static struct reg_row *reg_row_of(struct reg_program *g, struct slice key)
{
    struct reg_row *empty = NULL;
    for (unsigned i = 0; i < g->rows; i++) {
        if (g->row[i].bytes == NULL)
            empty = &g->row[i];
        else if (slice_equal(reg_key(&g->row[i]), key))
            return &g->row[i];
    }
    if (empty == NULL && g->rows < REG_ROWS)
        empty = &g->row[g->rows++];
    PROGRAM_CHECK(empty != NULL);
    return empty;
}

static void reg_keep(struct reg_program *g, struct slice records)
{
    struct record record;
    int found;
    while ((found = record_next(&records, &record)) == 1) {
        struct reg_row *row = reg_row_of(g, record.key);
        free(row->bytes);
        row->bytes = NULL;
        if (record.op == RECORD_DELETE)
            continue;
        row->n = record.whole.n;
        row->bytes = malloc(row->n);
        PROGRAM_CHECK(row->bytes != NULL);
        memcpy(row->bytes, record.whole.p, row->n);
    }
    PROGRAM_CHECK(found == 0);
}

static void reg_commit_first(struct reg_program *g)
{
    if (g->queued == 0)
        return;
    (void)registrar_commit(g->r, slice_of(g->queue[0].bytes, g->queue[0].n), g->now, g->wall_ns);
    free(g->queue[0].bytes);
    g->queued--;
    memmove(&g->queue[0], &g->queue[1], g->queued * sizeof g->queue[0]);
}

static void reg_flush(struct reg_program *g)
{
    while (g->queued > 0)
        reg_commit_first(g);
}

static void reg_store(struct reg_program *g, struct slice records)
{
    if (records.n == 0)
        return;
    reg_keep(g, records);
    if (g->queued == REG_QUEUE)
        reg_commit_first(g);
    char *copy = malloc(records.n);
    PROGRAM_CHECK(copy != NULL);
    memcpy(copy, records.p, records.n);
    g->queue[g->queued].bytes = copy;
    g->queue[g->queued++].n = records.n;
}

/* ---- what must hold -------------------------------------------------------------------------- */

static struct slice reg_aor(unsigned user, char dst[16])
{
    int n = snprintf(dst, 16, "u%u@d", user);
    return slice_of(dst, (size_t)n);
}

/* "sip:u3p2v…@h": of user 3, phone 2. */
static void reg_check_target(const struct reg_program *g, unsigned user, const struct reg_target *t)
{
    PROGRAM_CHECK(t->q <= 1000 && t->contact.n >= 4);
    if (t->contact.n < 9 || memcmp(t->contact.p, "sip:u", 5) != 0 || t->contact.p[6] != 'p')
        return; /* of a REGISTER that the fuzzer wrote itself, by user REG_USERS */
    unsigned owner = (unsigned)(t->contact.p[5] - '0'), phone = (unsigned)(t->contact.p[7] - '0');
    if (user == REG_USERS)
        return;
    PROGRAM_CHECK(owner == user && phone < REG_PHONES);
    if (!t->direct || t->flow.gen == 0 || t->flow.gen == REG_FLOW_LOST_GEN)
        return;
    PROGRAM_CHECK(t->flow.gen < REG_GENS);
    PROGRAM_CHECK(g->users_of[t->flow.gen] & 1u << (user * REG_PHONES + phone));
}

static unsigned reg_targets(struct reg_program *g, unsigned user, struct reg_target *ret)
{
    char aor[16];
    bool is_known;
    unsigned n = registrar_lookup(g->r, reg_aor(user, aor), NULL, g->now, ret,
                                  REGISTRAR_TARGETS_MAX, &is_known);
    PROGRAM_CHECK(n <= REGISTRAR_TARGETS_MAX && (is_known || n == 0));
    return n;
}

static void reg_check(struct reg_program *g)
{
    struct reg_target t[REGISTRAR_TARGETS_MAX];
    unsigned sum = 0;
    for (unsigned user = 0; user <= REG_USERS; user++) {
        unsigned n = reg_targets(g, user, t);
        sum += n;
        for (unsigned i = 0; i < n; i++) {
            reg_check_target(g, user, &t[i]);
            PROGRAM_CHECK(i == 0 || t[i].q <= t[i - 1].q);
            /* The ways of a phone stand behind each other. */
            for (unsigned k = i + 2; k < n; k++)
                PROGRAM_CHECK(t[k].phone != t[i].phone || t[k - 1].phone == t[i].phone);
        }
    }
    struct registrar_load load = registrar_load(g->r);
    PROGRAM_CHECK(sum <= load.bindings && load.aors <= load.bindings);
    PROGRAM_CHECK(g->r->by_aor.live == g->r->aors.live && g->r->by_flow.live <= load.bindings);
    PROGRAM_CHECK(g->r->wheel.armed == load.bindings);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void reg_send(struct reg_program *g, size_t n, const struct reg_origin *from)
{
    struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    struct reg_answer a;
    struct arena scratch = arena_over(g->scratch, REG_SCRATCH);
    if (sip_index(&m, g->message, n, true, &fault) != 0 || sip_check_request(&m, &f, &fault) != 0 ||
        m.method != SIP_M_REGISTER)
        return;
    registrar_register(g->r, &m, &f, from, g->now, g->wall_ns, &scratch, &a);
    PROGRAM_CHECK(a.status == 200 || (a.status >= 400 && a.records.n == 0));
    PROGRAM_CHECK(!g->opts.digest || a.status != 200);
    if (a.status == 200)
        reg_store(g, a.records);
    struct slice lines = registrar_answer_lines(g->r, &m, &f, from, g->now, g->wall_ns, &scratch);
    /* Whole lines, and no line that somebody smuggled in. */
    PROGRAM_CHECK(lines.n > 2 && lines.p[lines.n - 1] == '\n');
    for (size_t i = 0; i < lines.n; i++)
        PROGRAM_CHECK((lines.p[i] == '\n') == (i > 0 && lines.p[i - 1] == '\r') &&
                      lines.p[i] != '\0');
}

static size_t reg_head(struct reg_program *g, unsigned user, unsigned call, unsigned cseq)
{
    int n = snprintf(g->message, sizeof g->message,
                     "REGISTER sip:d SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK%u\r\n"
                     "From: <sip:u%u@d>;tag=f\r\nTo: <sip:u%u@d>\r\nCall-ID: %u\r\n"
                     "CSeq: %u REGISTER\r\n",
                     ++g->cseq, user, user, call, cseq);
    return (size_t)n;
}

static struct reg_origin reg_from(struct reg_program *g, unsigned where)
{
    struct reg_origin o = {.transport = TP_TCP, .listener = 1};
    o.source = (struct addr){.ip = {192, 0, 2, 1}, .family = 4, .port = (uint16_t)(where + 1)};
    if (where < REG_FLOWS) {
        o.flow = (struct flow_id){g->gen[where], where, 0};
        o.direct = true;
    } else if (where == REG_FLOWS) { /* a phone over UDP */
        o.transport = TP_UDP;
        o.flow.slot = 99;
        o.direct = true;
    }
    return o;
}

/* One to three contacts of one phone. */
static void reg_register(struct reg_program *g)
{
    static const char *const expires[] = {
        "",           ";expires=0", ";expires=60",  ";expires=9999",
        ";expires=1", ";expires=x", ";expires=300", ";expires=30"};
    static const char *const host[] = {"h", "H", "h;x=1", "[::1]:5060;ob"};
    unsigned who = reg_byte(g), what = reg_byte(g), how = reg_byte(g);
    unsigned user = who % REG_USERS, phone = who / 8 % REG_PHONES;
    struct reg_origin from = reg_from(g, how % (REG_FLOWS + 2));
    unsigned cseq = how & 0x80 ? 1 : g->cseq + 2;
    size_t n = reg_head(g, user, how & 0x40 ? 100 : phone, cseq);
    if (from.direct && from.flow.gen != 0)
        g->users_of[from.flow.gen] |= 1u << (user * REG_PHONES + phone);
    if (!from.direct)
        n += (size_t)snprintf(g->message + n, sizeof g->message - n, "Path: <sip:t@edge;lr%s>\r\n",
                              what & 1 ? ";ob" : "");
    n += (size_t)snprintf(g->message + n, sizeof g->message - n, "Supported: %s\r\n",
                          what & 2 ? "path, gruu" : "outbound, path, gruu");
    for (unsigned i = 0; i <= what / 64 % 3; i++) {
        unsigned more = reg_byte(g);
        char instance[64] = "";
        if (more & 1)
            snprintf(instance, sizeof instance, ";+sip.instance=\"<urn:uuid:%c%u>\"",
                     more & 0x80 ? 'a' : 'A', phone);
        if (more & 2)
            snprintf(instance + strlen(instance), 16, ";reg-id=%u", 1 + (more >> 2 & 1));
        n += (size_t)snprintf(
            g->message + n, sizeof g->message - n, "Contact: <sip:u%up%u@%s>;q=0.%u%s%s\r\n", user,
            phone, host[more >> 3 & 3], more >> 5 & 3, instance, expires[(what >> 2) & 7]);
    }
    n += (size_t)snprintf(g->message + n, sizeof g->message - n, "\r\n");
    reg_send(g, n, &from);
}

/* Header lines that the program spells itself, of a user of its own; also as an Authorization. */
static void reg_raw(struct reg_program *g, bool is_secret)
{
    size_t want = reg_byte(g);
    struct reg_origin from = reg_from(g, reg_byte(g) % (REG_FLOWS + 2));
    size_t n = reg_head(g, is_secret ? 0 : REG_USERS, 7, g->cseq + 2);
    n += (size_t)snprintf(g->message + n, sizeof g->message - n, "%s",
                          is_secret ? "Authorization: Digest realm=\"d\", username=\"u0\", "
                                    : "Contact: ");
    want = want < g->size ? want : g->size;
    memcpy(g->message + n, g->data, want);
    g->data += want;
    g->size -= want;
    n += want;
    n += (size_t)snprintf(g->message + n, sizeof g->message - n, "\r\n\r\n");
    g->opts.digest = is_secret;
    reg_send(g, n, &from);
    g->opts.digest = false;
}

static void reg_star(struct reg_program *g)
{
    unsigned who = reg_byte(g);
    struct reg_origin from = reg_from(g, 0);
    size_t n = reg_head(g, who % REG_USERS, who & 0x80 ? 100 : 50, g->cseq + 2);
    n +=
        (size_t)snprintf(g->message + n, sizeof g->message - n, "Contact: *\r\nExpires: 0\r\n\r\n");
    reg_send(g, n, &from);
}

/* What ends by itself goes to the store, too; now and then with no room for its record. */
static void reg_end(struct reg_program *g, unsigned what)
{
    char bytes[4096];
    struct text t = text_into(bytes, what & 0x80 ? REGISTRAR_END_BYTES : sizeof bytes);
    struct reg_target target[REGISTRAR_TARGETS_MAX];
    unsigned flow = what % REG_FLOWS;
    switch (what >> 4 & 3) {
    case 0:
        registrar_flow_gone(g->r, (struct flow_id){g->gen[flow], flow, 0}, &t);
        if (g->gen_next < REG_GENS)
            g->gen[flow] = g->gen_next++;
        break;
    case 1: {
        unsigned n = reg_targets(g, what % REG_USERS, target);
        if (n > 0)
            registrar_binding_gone(g->r, target[what / REG_USERS % n].binding, &t);
        break;
    }
    case 2: {
        char aor[16];
        reg_flush(g);
        (void)registrar_remove(g->r, reg_aor(what % REG_USERS, aor), &t);
        PROGRAM_CHECK(reg_targets(g, what % REG_USERS, target) == 0);
        break;
    }
    default:
        registrar_expire(g->r, g->now, &t);
        break;
    }
    PROGRAM_CHECK(text_fits(&t));
    reg_keep(g, text_slice(&t));
}

static void reg_expire_all(struct reg_program *g)
{
    char bytes[4096];
    for (unsigned guard = 0; registrar_deadline(g->r) <= g->now; guard++) {
        struct text t = text_into(bytes, sizeof bytes);
        registrar_expire(g->r, g->now, &t);
        PROGRAM_CHECK(text_fits(&t) && guard < 100000);
        reg_keep(g, text_slice(&t));
    }
}

static uint64_t reg_hash(const struct reg_target *t)
{
    static const struct hash_seed seed = {1, 2};
    struct slice parts[] = {t->contact, t->path};
    return siphash_parts(&seed, parts, 2);
}

/* All that is acknowledged is there again. (More may be: a delete can be lost.) */
static void reg_restart(struct reg_program *g)
{
    static uint64_t before[REG_USERS + 1][REGISTRAR_TARGETS_MAX];
    struct reg_target t[REGISTRAR_TARGETS_MAX];
    unsigned count[REG_USERS + 1];
    reg_flush(g);
    reg_expire_all(g);
    for (unsigned user = 0; user <= REG_USERS; user++) {
        count[user] = reg_targets(g, user, t);
        for (unsigned i = 0; i < count[user]; i++)
            before[user][i] = reg_hash(&t[i]);
    }
    registrar_done(g->r);
    reg_birth(g);
    for (unsigned i = 0; i < g->rows; i++)
        if (g->row[i].bytes != NULL)
            PROGRAM_CHECK(registrar_commit(g->r, slice_of(g->row[i].bytes, g->row[i].n), g->now,
                                           g->wall_ns) == 1);
    for (unsigned user = 0; user <= REG_USERS; user++) {
        unsigned n = reg_targets(g, user, t), found = 0;
        for (unsigned i = 0; i < n; i++)
            for (unsigned k = 0; k < count[user]; k++)
                if (before[user][k] == reg_hash(&t[i])) {
                    before[user][k] = 0;
                    found++;
                    break;
                }
        PROGRAM_CHECK(found == count[user]);
    }
    PROGRAM_CHECK(g->r->bad_records == 0);
}

static void reg_show(struct reg_program *g)
{
    char bytes[2048], aor[16];
    unsigned who = reg_byte(g);
    uint64_t cursor = 0;
    unsigned rows = 0, pages = 0;
    do {
        struct text t = text_into(bytes, sizeof bytes);
        registrar_show(g->r, who & 0x80 ? reg_aor(who % REG_USERS, aor) : SLICE_NONE, &cursor,
                       g->now, &t);
        PROGRAM_CHECK(text_fits(&t) && ++pages < 1000);
        for (size_t i = 0; i < t.n; i++)
            rows += bytes[i] == '\n';
    } while (cursor != 0);
    PROGRAM_CHECK(rows <= registrar_load(g->r).bindings);
}

static void reg_pass(struct reg_program *g, unsigned what)
{
    static const dur_ns spans[] = {NS_MS, NS_S, 29 * NS_S, 61 * NS_S, 600 * NS_S, 4000 * NS_S};
    dur_ns span = spans[what % (sizeof spans / sizeof spans[0])];
    if (span >= NS_S)
        reg_flush(g); /* a store slower than PENDING_S acknowledges nothing */
    g->now += span;
    g->wall_ns += span;
}

static void reg_step(struct reg_program *g)
{
    switch (reg_byte(g) % 16) {
    case 0:
        reg_star(g);
        break;
    case 1:
        reg_commit_first(g);
        break;
    case 2:
        reg_flush(g);
        break;
    case 3:
    case 4:
        reg_end(g, reg_byte(g));
        break;
    case 5:
        reg_pass(g, reg_byte(g));
        break;
    case 6:
        reg_expire_all(g);
        break;
    case 7:
        reg_restart(g);
        break;
    case 8:
        reg_raw(g, false);
        break;
    case 9:
        reg_raw(g, true);
        break;
    case 10:
        reg_show(g);
        break;
    default:
        reg_register(g);
        break;
    }
}

/* Everything ends. */
static void reg_finish(struct reg_program *g)
{
    reg_flush(g);
    g->now += 5000 * NS_S;
    g->wall_ns += 5000 * NS_S;
    reg_expire_all(g);
    struct registrar_load load = registrar_load(g->r);
    PROGRAM_CHECK(load.aors == 0 && load.bindings == 0);
    PROGRAM_CHECK(g->r->by_flow.live == 0 && g->r->wheel.armed == 0);
    /* Texts: those of AORs that were seen. */
    uint32_t texts = 0;
    for (unsigned c = 0; c < TEXT_CLASSES; c++)
        texts += g->r->texts.class[c].live;
    PROGRAM_CHECK(texts == g->r->aors.live);
    registrar_done(g->r);
    for (unsigned i = 0; i < g->rows; i++)
        free(g->row[i].bytes);
    free(g->mem.p);
    free(g->scratch);
}

static void run_register_program(const uint8_t *data, size_t size)
{
    static struct reg_program g;
    reg_start(&g, data, size);
    while (g.size > 0) {
        reg_step(&g);
        reg_check(&g);
    }
    reg_finish(&g);
}

#endif
