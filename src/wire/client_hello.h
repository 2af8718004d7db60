/* SPDX-License-Identifier: Apache-2.0
 *
 * The first thing that a TLS client says, looked into before anybody has begun a handshake for it
 * (RFC 8446 4.1.2, RFC 5246 7.4.1.2): does it bring a session ticket?
 *
 *      record       22 │ 3 x │ length
 *      handshake       1 │ length (3)          one ClientHello, and nothing else in the record
 *                      3 3 │ random (32) │ session id │ suites │ compressions
 *      extensions      ... 35: a ticket (TLS 1.2) ...
 *                      ... 41, the last: [identity │ age] ... [binder] ...       (TLS 1.3)
 *
 * This decides on nothing but an order: what is odd in any way brings no ticket, and OpenSSL will
 * say later what is wrong with it. */
#ifndef WEIR_WIRE_CLIENT_HELLO_H
#define WEIR_WIRE_CLIENT_HELLO_H

#include "base/base.h"

/* What is worth to be looked at: a hello with a key of a post-quantum group and a ticket that holds
 * a client's certificate fits. */
enum { CLIENT_HELLO_BYTES_MAX = 4096 };

/* The ticket within the ClientHello that p[0, n) begins with: the first identity of its
 * pre_shared_key (RFC 8446 4.2.11), else what its session_ticket holds (RFC 5077 3.2). Empty: there
 * is none, or the record is not whole, longer than CLIENT_HELLO_BYTES_MAX, or odd. What stands
 * behind the record does not count. */
struct slice client_hello_ticket(const char *p, size_t n);

#endif
