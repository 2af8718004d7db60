/* SPDX-License-Identifier: Apache-2.0
 *
 * What happened, twice over: as a rolling hash that two runs of one seed are compared by, and, when
 * somebody wants to read it, as lines. Only values go into the hash, never addresses of memory. */
#include <stdarg.h>
#include "sim.h"

void trace_mix(struct world *w, uint64_t v)
{
    uint64_t h = (w->hash ^ v) * 0x9e3779b97f4a7c15ULL;
    w->hash = h ^ h >> 29;
}

void trace_mix_bytes(struct world *w, const void *p, size_t n)
{
    const char *at = p;
    trace_mix(w, n);
    for (; n >= 8; at += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, at, 8);
        trace_mix(w, v);
    }
    uint64_t rest = 0;
    if (n > 0)
        memcpy(&rest, at, n);
    trace_mix(w, rest);
}

static void write_head(struct world *w, unsigned node)
{
    fprintf(w->trace, "%4llu.%09llu %-7s ", w->now / NS_S, w->now % NS_S,
            node < NODES_MAX ? w->node[node].name : "world");
}

void trace_line(struct world *w, unsigned node, const char *format, ...)
{
    write_head(w, node);
    va_list args;
    va_start(args, format);
    vfprintf(w->trace, format, args);
    va_end(args);
    fputc('\n', w->trace);
}

void trace_message(struct world *w, unsigned node, const char *what, const struct addr *peer,
                   const char *p, size_t n)
{
    if (w->trace == NULL)
        return;
    char text[256];
    struct text t = text_into(text, sizeof text - 1);
    addr_put(&t, peer);
    TEXT_LIT(&t, " ");
    struct slice all = slice_of(p, n);
    text_put_escaped(&t, slice_take(all, slice_find(all, '\r')), 60);
    text[text_slice(&t).n] = '\0';

    struct sip_msg m;
    struct sip_fault fault;
    struct slice call_id = SLICE_NONE, cseq = SLICE_NONE, branch = SLICE_NONE;
    struct sip_via via;
    if (sip_index(&m, p, n, true, &fault) == 0) {
        call_id = sip_header_value(&m, SIP_H_CALL_ID);
        cseq = sip_header_value(&m, SIP_H_CSEQ);
        struct sip_values v = sip_values(&m, SIP_H_VIA);
        if (sip_next_value(&v) && sip_via_parse(sip_slice(&m, v.value), &via) == 0)
            branch = via.branch;
    }
    write_head(w, node);
    fprintf(w->trace, "%s %s | %.*s | %.*s | %.*s\n", what, text, SLICE_ARG(call_id),
            SLICE_ARG(cseq), SLICE_ARG(branch));
}
