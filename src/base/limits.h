/* SPDX-License-Identifier: Apache-2.0
 *
 * Every bound that is not a matter of configuration, in one place, with its unit and reason. */
#ifndef WEIR_BASE_LIMITS_H
#define WEIR_BASE_LIMITS_H

enum {
    /* Messages. 64 KiB of SDP (ICE candidates) must pass, and a header in front of it. */
    SIP_BODY_BYTES_MAX = 65536,
    SIP_HEAD_BYTES_MAX = 32768, /* start line + headers; 3 × the largest seen with STIR */
    SIP_MESSAGE_BYTES_MAX = SIP_BODY_BYTES_MAX + SIP_HEAD_BYTES_MAX,
    SIP_HEADERS_MAX = 192, /* header lines; RFC 4475 longreq has 34 Via values */
    SIP_START_LINE_BYTES_MAX = 8192,
    SIP_HEADER_NAME_BYTES_MAX = 256,
    SIP_HOPS_MAX = 70,                         /* Max-Forwards never above (RFC 3261 8.1.1.6) */
    SIP_VIA_VALUES_MAX = 128,                  /* more Vias than hops can exist is an attack */
    SIP_ROUTE_VALUES_MAX = 64,                 /* and lines: some are empty */
    SIP_EDITS_MAX = SIP_ROUTE_VALUES_MAX + 16, /* of one forwarded message: all Routes and ours */
    SIP_IOV_MAX = 2 * SIP_EDITS_MAX + 1,
    UDP_DATAGRAM_BYTES_MAX = 65507,
    UDP_REQUEST_BYTES_SAFE = 1300, /* above: TCP when the target has it (RFC 3261 18.1.1) */

    /* Pools. */
    POOLS_MAX = 256,
    POOL_TARGETS_MAX = 256, /* per pool; bitmap of tried targets is this wide */
    POOL_NAME_BYTES_MAX = 63,
    TRIES_MAX = 16, /* targets tried for one request */

    /* Processes. */
    WORKERS_MAX = 64,
    LISTENERS_MAX = 64,
    ROUTES_MAX = 256,
    TRUSTED_MAX = 256,
    FLEET_MAX = 1024,
    TOKEN_KEYS_MAX = 8,

    /* One step. */
    STEP_ACTIONS_MAX = 256,
    STEP_IOV_MAX = 2048,
};

#endif
