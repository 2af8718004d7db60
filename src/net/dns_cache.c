/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

/* ---- order ----------------------------------------------------------------------------------- */

static uint64_t rank(const struct dns_result *r)
{
    return (uint64_t)r->group << 17 | (uint64_t)r->priority << 1 | (r->to.addr.family == 6);
}

/* RFC 2782's draw: each with a chance in proportion to its weight, those of weight 0 with a very
 * small one; when all have 0, evenly. `left` holds indices of equal rank. */
static unsigned draw(const struct dns_result *results, const unsigned *left, unsigned count,
                     struct prng *prng)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += results[left[i]].weight;
    if (sum == 0)
        return (unsigned)prng_below(prng, count);
    uint64_t at = prng_below(prng, sum + 1);
    for (unsigned i = 0; i < count; i++) {
        uint64_t weight = results[left[i]].weight;
        if (at <= weight && (weight > 0 || at == 0))
            return i;
        at -= weight;
    }
    return count - 1;
}

unsigned dns_order(const struct dns_result *results, unsigned count, struct prng *prng,
                   struct resolved *ret_addrs, unsigned max)
{
    bool taken[DNS_RESULTS_MAX] = {false};
    unsigned done = 0;
    if (count > DNS_RESULTS_MAX)
        count = DNS_RESULTS_MAX;
    while (done < max) {
        unsigned left[DNS_RESULTS_MAX], equals = 0;
        for (unsigned i = 0; i < count; i++) {
            if (taken[i])
                continue;
            if (equals > 0 && rank(&results[i]) < rank(&results[left[0]]))
                equals = 0;
            if (equals == 0 || rank(&results[i]) == rank(&results[left[0]]))
                left[equals++] = i;
        }
        if (equals == 0)
            break;
        unsigned pick = left[draw(results, left, equals, prng)];
        taken[pick] = true;
        ret_addrs[done++] = results[pick].to;
    }
    return done;
}

/* ---- cache ----------------------------------------------------------------------------------- */

void dns_key_init(struct dns_key *k, struct slice name, uint16_t port, uint8_t transport)
{
    memset(k, 0, sizeof *k);
    k->port = port;
    k->transport = transport;
    name = slice_take(name, DNS_NAME_BYTES_MAX);
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        k->name.text[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    k->name.len = (uint8_t)name.n;
}

bool dns_key_equal(const struct dns_key *a, const struct dns_key *b)
{
    return a->port == b->port && a->transport == b->transport && a->name.len == b->name.len &&
           memcmp(a->name.text, b->name.text, a->name.len) == 0;
}

static struct dns_entry *set_of(struct dns_cache *c, const struct dns_key *k)
{
    uint64_t h = siphash(&c->seed, k->name.text, k->name.len);
    return c->entry[(h ^ k->port ^ (uint64_t)k->transport << 4) % DNS_CACHE_SETS];
}

const struct dns_entry *dns_cache_find(struct dns_cache *c, const struct dns_key *k, mono_ns now)
{
    struct dns_entry *set = set_of(c, k);
    for (unsigned i = 0; i < DNS_CACHE_WAYS; i++)
        if (set[i].until > now && dns_key_equal(&set[i].key, k))
            return &set[i];
    return NULL;
}

void dns_cache_put(struct dns_cache *c, const struct dns_key *k, const struct dns_result *results,
                   unsigned count, dur_ns live, mono_ns now)
{
    struct dns_entry *set = set_of(c, k);
    struct dns_entry *to = &set[0];
    for (unsigned i = 0; i < DNS_CACHE_WAYS; i++) {
        if (set[i].until > 0 && dns_key_equal(&set[i].key, k)) {
            to = &set[i];
            break;
        }
        if (set[i].until < to->until)
            to = &set[i];
    }
    to->until = mono_add(now, live);
    to->key = *k;
    to->count = (uint8_t)(count < DNS_RESULTS_MAX ? count : DNS_RESULTS_MAX);
    if (count > 0)
        memcpy(to->result, results, to->count * sizeof results[0]);
}
