/* SPDX-License-Identifier: Apache-2.0
 *
 * DNS answers as RFC 3263 needs them, without a resolver in it: reading raw packets, ordering
 * what came of a name, and remembering it. No system calls; the resolver thread drives it. */
#ifndef WEIR_NET_DNS_H
#define WEIR_NET_DNS_H

#include "base/base.h"
#include "step/step.h"

enum {
    DNS_NAME_BYTES_MAX = 255,
    DNS_RECORDS_MAX = 16, /* of one answer; more are left out */
    DNS_RESULTS_MAX = 16,
};

/* Presentation form without the last dot; length 0 is the root ("."). */
struct dns_name {
    uint8_t len;
    char text[DNS_NAME_BYTES_MAX + 1]; /* NUL-terminated */
};

/* A service record (RFC 2782), or a NAPTR with flag "s" (RFC 3403) that leads to one: there
 * `priority` is order, `weight` is preference. */
struct dns_record {
    uint16_t priority, weight, port;
    uint8_t transport; /* NAPTR: of its service field */
    struct dns_name name;
};

struct dns_answer {
    unsigned count;
    uint32_t ttl_s;  /* the least of the records; of nothing: for how long (RFC 2308) */
    bool exists_not; /* NXDOMAIN, or no record of this type */
    bool refuses;    /* SRV with target ".": decidedly not offered */
    struct dns_record record[DNS_RECORDS_MAX];
};

enum dns_type { DNS_SRV = 33, DNS_NAPTR = 35 };

/* Reads a whole answer packet. Records of other types are skipped, NAPTR of services that are not
 * "SIP+D2U" or "SIP+D2T" too. Names with bytes that no host name has are skipped.
 * Returns 0, or -1 when the packet is malformed or says that the server failed. */
MUST_USE int dns_parse(struct slice packet, enum dns_type type, struct dns_answer *ret_answer);

/* Letters, digits, '-', '_' and '.' only, 1 to 253 bytes, no empty label. */
bool dns_name_is_sane(struct slice name);

/* One address that a name led to. */
struct dns_result {
    struct resolved to;
    uint16_t group;            /* before all of a higher group: NAPTR's order */
    uint16_t priority, weight; /* RFC 2782 */
};

/* Fills at most `max` addresses in the order in which they are to be tried: by group, priority,
 * IPv4 first; among equals drawn by weight. Returns the count. */
unsigned dns_order(const struct dns_result *results, unsigned count, struct prng *prng,
                   struct resolved *ret_addrs, unsigned max);

/* ---- what was learnt, for its time to live ----------------------------------------------------
 */

struct dns_key {
    uint16_t port;
    uint8_t transport;
    struct dns_name name; /* lower case */
};

struct dns_entry {
    mono_ns until; /* 0 = empty */
    struct dns_key key;
    uint8_t count; /* 0 = known to lead nowhere */
    struct dns_result result[DNS_RESULTS_MAX];
};

enum { DNS_CACHE_SETS = 256, DNS_CACHE_WAYS = 4 };

/* Bounded: a set that is full forgets the entry that would have ended first. */
struct dns_cache {
    struct hash_seed seed;
    struct dns_entry entry[DNS_CACHE_SETS][DNS_CACHE_WAYS];
};

/* What was asked, comparable: `name` (at most DNS_NAME_BYTES_MAX bytes of it) in lower case. */
void dns_key_init(struct dns_key *k, struct slice name, uint16_t port, uint8_t transport);
/* The same question? */
bool dns_key_equal(const struct dns_key *a, const struct dns_key *b);

/* What is known of `k` and still holds at `now`, or NULL. Valid until the next dns_cache_put(). */
const struct dns_entry *dns_cache_find(struct dns_cache *c, const struct dns_key *k, mono_ns now);

/* Remembers for `live` from `now` on that `k` leads to these (0 = nowhere), in place of what was
 * known of it before. */
void dns_cache_put(struct dns_cache *c, const struct dns_key *k, const struct dns_result *results,
                   unsigned count, dur_ns live, mono_ns now);

#endif
