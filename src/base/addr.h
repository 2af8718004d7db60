/* SPDX-License-Identifier: Apache-2.0
 *
 * An IP address and port as a value. An IPv4-mapped IPv6 address is stored as IPv4, so that no
 * access list can be walked around by spelling. */
#ifndef WEIR_BASE_ADDR_H
#define WEIR_BASE_ADDR_H

#include "check.h"
#include "slice.h"
#include "text.h"

enum transport { TP_UDP, TP_TCP, TP_TLS, TP_WS, TP_WSS, TP__COUNT };

struct addr {
    uint8_t ip[16];   /* IPv4 in the first four bytes, the rest zero */
    uint32_t scope;   /* IPv6 link-local scope id, else 0 */
    uint16_t port;    /* host order */
    uint8_t family;   /* 4, 6, or 0 for "none" */
    uint8_t spare;    /* zero, so that memcmp compares whole addresses */
};

enum { ADDR_TEXT_MAX = 56 }; /* "[" + 45 + "]" + ":" + 5, rounded up */

static inline bool addr_equal(const struct addr *a, const struct addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Same host, whatever the port. */
static inline bool addr_same_host(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, 16) == 0;
}

/* The address of 16 bytes in network order as a socket gives them: IPv4 when they are mapped
 * (::ffff:0:0/96). */
struct addr addr_from_ip6(const uint8_t ip[16], uint32_t scope, uint16_t port);

/* Parses a numeric host: IPv4, IPv6, or [IPv6]. Strict: four decimal parts without leading
 * zeros; RFC 4291 text for IPv6 (one "::", embedded IPv4 allowed; the three-colon form of
 * RFC 5118 4.10 is tolerated: "2001:db8:::192.0.2.1" reads as "::"). A scope id is
 * refused. `port` is stored as is.
 * Returns 0, or -1 when `host` is not numeric. */
MUST_USE int addr_parse_host(struct slice host, uint16_t port, struct addr *ret_addr);

/* Parses "host:port", "[v6]:port" with a numeric host, port 0 to 65535. Returns 0 or -1. */
MUST_USE int addr_parse(struct slice s, struct addr *ret_addr);

/* Appends the host, in brackets when IPv6 (RFC 5952 form); "-" for none. A scope id is not
 * written: it means nothing to another machine. */
void addr_put_host(struct text *t, const struct addr *a);

/* Appends host:port. */
void addr_put(struct text *t, const struct addr *a);

/* May we send there at all? False for 0.0.0.0, ::, 255.255.255.255, multicast, port 0, class E.
 * (A directed broadcast cannot be told from an address; the kernel refuses it: no SO_BROADCAST.) */
bool addr_is_unicast(const struct addr *a);

/* A prefix for `trusted:` lists. */
struct prefix {
    struct addr net; /* port 0 */
    uint8_t bits;
};

/* Parses "10.0.0.0/8", "2001:db8::/32" or a bare address. Host bits must be zero.
 * Returns 0, -1 (not an address), -2 (length), -3 (host bits set). */
MUST_USE int prefix_parse(struct slice s, struct prefix *ret_prefix);
bool prefix_holds(const struct prefix *p, const struct addr *a);

/* "udp", "tcp", "tls", "ws", "wss". */
struct slice transport_name(enum transport tp);
static inline bool transport_is_reliable(enum transport tp)
{
    return tp != TP_UDP;
}

#endif
