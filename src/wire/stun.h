/* SPDX-License-Identifier: Apache-2.0
 *
 * STUN as a keep-alive of SIP over UDP (RFC 5626 4.4.2, RFC 5389): a phone asks which address we
 * see, keeps its NAT open by asking, and notices by the answer that the NAT gave it another. Only
 * Binding requests are answered; nothing is authenticated (RFC 5626 8). */
#ifndef WEIR_WIRE_STUN_H
#define WEIR_WIRE_STUN_H

#include "base/base.h"

enum { STUN_HEAD_BYTES = 20, STUN_ANSWER_BYTES_MAX = 64 };

/* Whether a datagram is STUN, and so no SIP, which begins with a letter: the two highest bits zero,
 * the magic cookie, and a length that is a multiple of 4 and exactly the datagram's
 * (RFC 5389 6). Classic STUN without the cookie (RFC 3489) is not. */
bool stun_is(const char *p, size_t n);

/* Writes the answer to a Binding request that came from `source` to `dst`, which has `cap` bytes
 * (STUN_ANSWER_BYTES_MAX is enough for all): a success with XOR-MAPPED-ADDRESS, or an error 420
 * that names the attributes that we had to understand and did not. FINGERPRINT is answered with
 * FINGERPRINT. Returns its size, or 0 when there is nothing to answer: no STUN, an indication, a
 * response, another method, attributes that do not add up, a wrong FINGERPRINT, `cap` too small. An
 * answer has at most 24 bytes more than its request: nobody is flooded through us. */
MUST_USE int stun_answer(const char *p, size_t n, const struct addr *source, char *dst, size_t cap);

#endif
