/* SPDX-License-Identifier: Apache-2.0
 *
 * The PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, 2.2): a load balancer of connections
 * in front of us says first of all whose connection it is.
 *
 *      0                          12        13          14       16
 *      ┌──────────────────────────┬─────────┬───────────┬────────┬───────────────────────┬──────┐
 *      │ \r\n\r\n\0\r\nQUIT\n     │ 2 | cmd │ family |  │ length │ source, destination,  │ TLVs │
 *      │                          │         │ transport │        │ their ports           │      │
 *      └──────────────────────────┴─────────┴───────────┴────────┴───────────────────────┴──────┘
 *
 * Taken are LOCAL, and PROXY for TCP over IPv4 and IPv6. What else the header says is skipped. */
#ifndef WEIR_WIRE_PROXY_H
#define WEIR_WIRE_PROXY_H

#include "base/base.h"

enum {
    PROXY_HEAD_BYTES = 16,
    PROXY_BYTES_MAX = 16 + 536, /* more than that fits no packet of all paths (2.2) */
};

enum proxy_err {
    PROXY_E_NONE = -1,   /* no header of this protocol */
    PROXY_E_TEXT = -2,   /* version 1, in text: not taken */
    PROXY_E_FORM = -3,   /* another version, command or kind of address; too short for its kind; a
                            source that is no host's */
    PROXY_E_LENGTH = -4, /* longer than PROXY_BYTES_MAX */
};

/* Reads a header at the front of p[0, n). Returns its length; then *ret_source is whose connection
 * it is, or untouched for LOCAL: the balancer's own. Returns 0 when it is not whole: *ret_need
 * (more than n, at most PROXY_BYTES_MAX) bytes are wanted before it is asked again, all of them the
 * header's. Or an enum proxy_err, as soon as it is sure. */
MUST_USE int proxy_read(const char *p, size_t n, size_t *ret_need, struct addr *ret_source);

#endif
