/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of this room share: a sound request in parts, so that a case can say which part
 * is different, and ways to index a text against an unreadable page. */
#ifndef WEIR_TEST_UNIT_SIP_SAMPLE_H
#define WEIR_TEST_UNIT_SIP_SAMPLE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "sip/sip.h"
#include "support/support.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define SAMPLE_START "INVITE sip:bob@example.net;transport=tcp SIP/2.0\r\n"
#define SAMPLE_VIA   "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa1;rport\r\n"
#define SAMPLE_REST                                                                                \
    "Max-Forwards: 70\r\n"                                                                         \
    "From: \"Alice\" <sip:alice@example.org>;tag=f1\r\n"                                           \
    "To: <sip:bob@example.net>\r\n"                                                                \
    "Call-ID: c1@192.0.2.1\r\n"                                                                    \
    "CSeq: 7 INVITE\r\n"
#define SAMPLE_END "Content-Length: 4\r\n\r\nbody"
#define SAMPLE     SAMPLE_START SAMPLE_VIA SAMPLE_REST SAMPLE_END

/* A text against an unreadable page, and what became of it. */
struct indexed {
    char *p;
    int rc;
    struct sip_fault fault;
    struct sip_msg m;
};

static inline void index_text(struct indexed *x, struct slice s, bool is_datagram)
{
    x->p = guard_copy(s.p, s.n);
    x->fault = (struct sip_fault){0, SLICE_NONE, 0};
    x->rc = sip_index(&x->m, x->p, s.n, is_datagram, &x->fault);
}

static inline void index_done(struct indexed *x)
{
    guard_free(x->p);
}

/* Compares and says what differs, and in which case. */
static inline void want_text(const char *name, struct slice got, const char *want)
{
    struct slice w = slice_cstr(want);
    if (!slice_equal(got, w))
        fail_msg("%s: \"%.*s\", not \"%s\"", name, SLICE_ARG(got), want);
}

static inline void want_int(const char *name, long long got, long long want)
{
    if (got != want)
        fail_msg("%s: %lld, not %lld", name, got, want);
}

#endif
