/* SPDX-License-Identifier: Apache-2.0
 *
 * A registrar's desk: one registrar with a clock and a store that never fails, and REGISTERs that
 * are given as their header lines. What the tests of this room share. */
#ifndef WEIR_TEST_REGISTRAR_DESK_H
#define WEIR_TEST_REGISTRAR_DESK_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registrar/registrar.h"
#include "support/support.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { DESK_SCRATCH = 512 * 1024, DESK_MESSAGE = 32768, DESK_TEXT = 65536, DESK_KEYS = 4096 };

#define DESK_WALL_S 1790000000ULL

/* The newest put of each key, as a store keeps it. */
struct desk_store {
    struct {
        char *bytes; /* the whole record; NULL: none */
        size_t n;
    } row[DESK_KEYS];
    unsigned rows;
};

struct desk {
    struct arena mem;
    struct registrar *r;
    struct registrar_opts opts;
    struct slice domains[3];
    mono_ns now;
    uint64_t wall_ns;
    uint32_t bindings_max;
    uint64_t seed;
    struct desk_store store;
    struct arena scratch;
    char *scratch_bytes;
    char message[DESK_MESSAGE];
    char *copy; /* of the last one, at the end of a page: `m` points into it */
    /* What came of the last REGISTER. */
    struct sip_msg m;
    struct sip_facts f;
    struct reg_answer answer;
    char reason[128], extra[2048], lines[DESK_TEXT];
    unsigned records, taken;
};

static inline void desk_birth(struct desk *d)
{
    d->mem = test_arena(registrar_memory(d->bindings_max));
    d->r = registrar_new(&d->mem, d->bindings_max, (struct hash_seed){d->seed, 2}, 3);
    assert_non_null(d->r);
    registrar_adopt(d->r, &d->opts);
}

static inline struct desk *desk_open(uint32_t bindings_max)
{
    struct desk *d = calloc(1, sizeof *d);
    assert_non_null(d);
    d->domains[0] = SLICE("example.com");
    d->domains[1] = SLICE("chicago.example");
    d->domains[2] = SLICE("127.0.0.1");
    d->opts = (struct registrar_opts){
        .on = true,
        .domains = d->domains,
        .domain_count = 3,
        .expires_min_s = 60,
        .expires_max_s = 7200,
        .expires_default_s = 3600,
        .contacts_max = 10,
    };
    d->bindings_max = bindings_max;
    d->seed = 1;
    d->now = 5000 * NS_S;
    d->wall_ns = DESK_WALL_S * NS_S;
    d->scratch_bytes = malloc(DESK_SCRATCH);
    assert_non_null(d->scratch_bytes);
    d->scratch = arena_over(d->scratch_bytes, DESK_SCRATCH);
    desk_birth(d);
    return d;
}

static inline void desk_death(struct desk *d)
{
    registrar_done(d->r);
    test_arena_free(&d->mem);
}

static inline void desk_close(struct desk *d)
{
    desk_death(d);
    for (unsigned i = 0; i < d->store.rows; i++)
        free(d->store.row[i].bytes);
    free(d->scratch_bytes);
    if (d->copy != NULL)
        guard_free(d->copy);
    free(d);
}

static inline void desk_pass(struct desk *d, dur_ns span)
{
    d->now += span;
    d->wall_ns += span;
}

/* ---- the store ------------------------------------------------------------------------------- */

static inline struct slice desk_key(const char *bytes, size_t n)
{
    struct slice rest = slice_of(bytes, n);
    struct record r;
    assert_int_equal(record_next(&rest, &r), 1);
    return r.key;
}

static inline void desk_keep(struct desk *d, struct slice records)
{
    struct record r;
    int found;
    while ((found = record_next(&records, &r)) == 1) {
        unsigned at = 0;
        while (at < d->store.rows &&
               (d->store.row[at].bytes == NULL ||
                !slice_equal(desk_key(d->store.row[at].bytes, d->store.row[at].n), r.key)))
            at++;
        if (at < d->store.rows)
            free(d->store.row[at].bytes);
        else if (r.op == RECORD_PUT)
            assert_true(++d->store.rows <= DESK_KEYS);
        else
            continue;
        d->store.row[at].bytes = NULL;
        if (r.op == RECORD_DELETE)
            continue;
        d->store.row[at].bytes = malloc(r.whole.n);
        assert_non_null(d->store.row[at].bytes);
        memcpy(d->store.row[at].bytes, r.whole.p, r.whole.n);
        d->store.row[at].n = r.whole.n;
    }
    assert_int_equal(found, 0);
}

static inline unsigned desk_stored(const struct desk *d)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->store.rows; i++)
        n += d->store.row[i].bytes != NULL;
    return n;
}

/* Another process (or, with the same seed, the same one) reads what is stored. */
static inline void desk_restart(struct desk *d, uint64_t seed)
{
    desk_death(d);
    d->seed = seed;
    desk_birth(d);
    for (unsigned i = 0; i < d->store.rows; i++)
        if (d->store.row[i].bytes != NULL)
            assert_int_equal(registrar_commit(d->r,
                                              slice_of(d->store.row[i].bytes, d->store.row[i].n),
                                              d->now, d->wall_ns),
                             1);
}

/* ---- REGISTERs ------------------------------------------------------------------------------- */

static inline struct addr desk_addr(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse(slice_cstr(text), &a), 0);
    return a;
}

/* Over a flow of its own, or (0) from a proxy inside. */
static inline struct reg_origin desk_flow(uint64_t gen)
{
    struct reg_origin o = {.transport = TP_TLS, .listener = 1};
    o.source = desk_addr("192.0.2.7:40000");
    if (gen != 0)
        o.flow = (struct flow_id){gen, (uint32_t)gen + 10, 0};
    o.direct = gen != 0;
    return o;
}

static inline void desk_copy(char *dst, size_t cap, struct slice s)
{
    assert_true(s.n < cap);
    if (s.n > 0)
        memcpy(dst, s.p, s.n);
    dst[s.n] = '\0';
}

static inline unsigned desk_count(struct slice records)
{
    struct record r;
    unsigned n = 0;
    while (record_next(&records, &r) == 1)
        n++;
    return n;
}

static inline void desk_answer_lines(struct desk *d, const struct reg_origin *from)
{
    struct slice lines =
        registrar_answer_lines(d->r, &d->m, &d->f, from, d->now, d->wall_ns, &d->scratch);
    desk_copy(d->lines, sizeof d->lines, lines);
}

/* Judges a whole message, stores, commits. Returns the status. */
static inline int desk_message(struct desk *d, const char *text, const struct reg_origin *from)
{
    struct sip_fault fault;
    size_t n = strlen(text);
    char *copy = guard_copy(text, n);
    if (d->copy != NULL)
        guard_free(d->copy);
    d->copy = copy;
    arena_reset(&d->scratch);
    d->records = d->taken = 0;
    d->lines[0] = '\0';
    int rc = sip_index(&d->m, copy, n, true, &fault);
    if (rc == 0)
        rc = sip_check_request(&d->m, &d->f, &fault);
    if (rc != 0)
        return -fault.status; /* the stack before us refused it */
    registrar_register(d->r, &d->m, &d->f, from, d->now, d->wall_ns, &d->scratch, &d->answer);
    desk_copy(d->reason, sizeof d->reason, d->answer.reason);
    desk_copy(d->extra, sizeof d->extra, d->answer.extra);
    if (d->answer.status == 200) {
        d->records = desk_count(d->answer.records);
        desk_keep(d, d->answer.records);
        d->taken = registrar_commit(d->r, d->answer.records, d->now, d->wall_ns);
        desk_answer_lines(d, from);
    } else {
        assert_int_equal(d->answer.records.n, 0);
    }
    return d->answer.status;
}

/* REGISTER of `aor` ("sip:alice@example.com") with `lines` (whole header lines). */
static inline int desk_register(struct desk *d, const char *aor, const char *call_id, unsigned cseq,
                                const char *lines, const struct reg_origin *from)
{
    int n = snprintf(d->message, sizeof d->message,
                     "REGISTER sip:example.com SIP/2.0\r\n"
                     "Via: SIP/2.0/TLS 192.0.2.7;branch=z9hG4bK%s-%u\r\n"
                     "Max-Forwards: 70\r\nFrom: <%s>;tag=f\r\nTo: <%s>\r\nCall-ID: %s\r\n"
                     "CSeq: %u REGISTER\r\n%sContent-Length: 0\r\n\r\n",
                     call_id, cseq, aor, aor, call_id, cseq, lines);
    assert_true(n > 0 && (size_t)n < sizeof d->message);
    return desk_message(d, d->message, from);
}

#define ALICE "sip:alice@example.com"

/* Who is rung, as "contact contact | contact": '|' between phones. */
static inline const char *desk_lookup(struct desk *d, const char *uri_text)
{
    static char out[8192];
    struct reg_target target[REGISTRAR_TARGETS_MAX];
    char aor_bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text aor = text_into(aor_bytes, sizeof aor_bytes);
    struct sip_uri uri;
    bool is_known;
    assert_int_equal(sip_uri_parse(slice_cstr(uri_text), &uri), 0);
    assert_int_equal(registrar_aor(&d->opts, &uri, &aor), 0);
    unsigned n = registrar_lookup(d->r, text_slice(&aor), &uri, d->now, target,
                                  REGISTRAR_TARGETS_MAX, &is_known);
    struct text t = text_into(out, sizeof out - 1);
    for (unsigned i = 0; i < n; i++) {
        if (i > 0)
            text_put(&t, target[i].phone == target[i - 1].phone ? SLICE(" ") : SLICE(" | "));
        text_put(&t, target[i].contact);
    }
    if (n == 0)
        text_put(&t, is_known ? SLICE("480") : SLICE("404"));
    assert_true(text_fits(&t));
    out[t.n] = '\0';
    return out;
}

/* The one way to an AOR. */
static inline struct reg_target desk_only(struct desk *d, const char *aor)
{
    struct reg_target target[REGISTRAR_TARGETS_MAX];
    bool is_known;
    assert_int_equal(registrar_lookup(d->r, slice_cstr(aor), NULL, d->now, target,
                                      REGISTRAR_TARGETS_MAX, &is_known),
                     1);
    return target[0];
}

static inline void desk_wants(const char *name, const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("%s: no \"%s\" in \"%s\"", name, part, text);
}

static inline void desk_wants_no(const char *name, const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("%s: \"%s\" in \"%s\"", name, part, text);
}

#endif
