/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as what a store holds: nothing that is not whole and clean is taken, and what is taken
 * can be shown, looked up, put into an answer, and ended. */
#include <stdlib.h>
#include <string.h>

#include "registrar/registrar_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BINDINGS = 30, ANSWER_BYTES = 400 * 1024 };

#define WALL_NS (1790000000ULL * NS_S)

static struct registrar_opts opts;
static struct slice domain;

static void check_lines(struct slice lines)
{
    for (size_t i = 0; i < lines.n; i++)
        MUST((lines.p[i] == '\n') == (i > 0 && lines.p[i - 1] == '\r') && lines.p[i] != '\0');
}

static void look_up(struct registrar *r, struct slice aor, mono_ns now)
{
    struct reg_target t[REGISTRAR_TARGETS_MAX];
    bool is_known;
    unsigned n = registrar_lookup(r, aor, NULL, now, t, REGISTRAR_TARGETS_MAX, &is_known);
    for (unsigned i = 0; i < n; i++) {
        struct sip_uri u;
        MUST(sip_uri_parse(t[i].contact, &u) == 0 && t[i].q <= 1000);
        /* Another process wrote it: its flow is nobody's. */
        MUST(!t[i].direct || t[i].flow.gen == 0 || t[i].flow.gen == REG_FLOW_LOST_GEN);
        MUST(registrar__path_is_clean(t[i].path, &u));
    }
}

/* As a REGISTER's answer tells them. */
static void answer(struct registrar *r, mono_ns now, char *bytes)
{
    static const char query[] = "REGISTER sip:d SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKa\r\n"
                                "From: <sip:u@d>;tag=f\r\nTo: <sip:u@d>\r\nCall-ID: c\r\n"
                                "CSeq: 1 REGISTER\r\nSupported: gruu\r\n\r\n";
    struct sip_msg m;
    struct sip_facts f;
    struct sip_fault fault;
    struct reg_origin from = {.direct = true};
    struct arena scratch = arena_over(bytes, ANSWER_BYTES);
    MUST(sip_index(&m, query, sizeof query - 1, true, &fault) == 0);
    MUST(sip_check_request(&m, &f, &fault) == 0);
    check_lines(registrar_answer_lines(r, &m, &f, &from, now, WALL_NS, &scratch));
}

static void show_all(struct registrar *r, mono_ns now, char *bytes)
{
    uint64_t cursor = 0;
    do {
        struct text t = text_into(bytes, 8192);
        registrar_show(r, SLICE_NONE, &cursor, now, &t);
        MUST(text_fits(&t));
        for (size_t i = 0; i < t.n; i++)
            MUST((unsigned char)bytes[i] < 0x7f && (bytes[i] >= 0x20 || bytes[i] == '\n'));
    } while (cursor != 0);
}

static void end_all(struct registrar *r, char *bytes)
{
    while (registrar_load(r).bindings > 0) {
        struct text t = text_into(bytes, 2048);
        registrar_expire(r, 77 * NS_S + UINT64_C(2) * UINT32_MAX * NS_S, &t);
        struct slice rest = text_slice(&t);
        struct record record;
        while (rest.n > 0)
            MUST(record_next(&rest, &record) == 1 && record.op == RECORD_DELETE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *memory, *bytes;
    size_t need = registrar_memory(BINDINGS);
    mono_ns now = 77 * NS_S;
    if (memory == NULL) {
        memory = malloc(need);
        bytes = malloc(ANSWER_BYTES);
        MUST(memory != NULL && bytes != NULL);
        domain = SLICE("d");
        opts = (struct registrar_opts){.domains = &domain, .domain_count = 1, .contacts_max = 9};
    }
    struct arena mem = arena_over(memory, need);
    struct registrar *r = registrar_new(&mem, BINDINGS, (struct hash_seed){1, 2}, 3);
    MUST(r != NULL);
    registrar_adopt(r, &opts);
    char *copy = malloc(size + 1);
    MUST(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    struct slice all = slice_of(copy, size);
    unsigned taken = registrar_commit(r, all, now, WALL_NS), seen = 0;
    struct record record;
    while (record_next(&all, &record) == 1) {
        MUST(record.key.n > 0 && record.key.n <= RECORD_KEY_BYTES_MAX);
        MUST(record.whole.n == record.key.n + record.value.n + RECORD_HEAD_BYTES);
        look_up(r, slice_take(record.key, slice_find(record.key, '\0')), now);
        seen++;
    }
    MUST(taken <= seen);
    answer(r, now, bytes);
    show_all(r, now, bytes);
    end_all(r, bytes);
    MUST(registrar_load(r).aors == 0);
    registrar_done(r);
    free(copy);
    return 0;
}
