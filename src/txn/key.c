/* SPDX-License-Identifier: Apache-2.0
 *
 * Identities of transactions: RFC 3261 17.2.3, 8.2.2.2. Each key hashes a first part that says
 * which rule made it, so that no text can be spelled to look like another rule's.
 *
 *   z9hG4bK branch   'b' method port │ branch │ sent-by host │ name of an unknown method
 *   RFC 2543         'o' method CSeq │ URI │ From tag │ Call-ID │ top Via │ name │ To tag
 *   merged           'm' method CSeq │ URI │ From tag │ Call-ID │ name
 *
 * Compared byte by byte, but for the host of sent-by, which is folded to lower case: a repeat is
 * the same bytes, and where 17.2.3 asks for equality of URIs a stricter rule can only find fewer
 * repeats among RFC 2543 elements, never a false one. */
#include "txn/txn.h"

enum { HOST_BYTES_MAX = 255 }; /* RFC 1035 2.3.4 */

static struct txn_key key_of(const struct hash_seed *seed, const struct slice *parts,
                             unsigned count)
{
    /* The second half is the same hash under another key: independent, as long as the seed is
     * secret. */
    struct hash_seed other = {seed->k0 ^ 0x9e3779b97f4a7c15ULL, seed->k1 ^ 0xc2b2ae3d27d4eb4fULL};
    return (struct txn_key){siphash_parts(seed, parts, count), siphash_parts(&other, parts, count)};
}

/* Only a method that has no number needs its name. */
static struct slice name_of(const struct sip_facts *f, enum sip_method as)
{
    return as == SIP_M_OTHER ? f->method_name : SLICE_NONE;
}

/* Numbers in one order of bytes, so that a key is the same on every machine. */
static struct slice head(char *dst, char rule, enum sip_method as, uint32_t number)
{
    dst[0] = rule;
    dst[1] = (char)as;
    for (unsigned i = 0; i < 4; i++)
        dst[2 + i] = (char)(number >> (8 * i) & 0xff);
    return slice_of(dst, 6);
}

/* `dst` holds HOST_BYTES_MAX. What is longer is no host name and stays as it is. */
static struct slice folded(char *dst, struct slice host)
{
    if (host.n > HOST_BYTES_MAX)
        return host;
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        dst[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return slice_of(dst, host.n);
}

struct txn_key txn_server_key(const struct hash_seed *seed, const struct sip_msg *m,
                              const struct sip_facts *f, enum sip_method as)
{
    char first[6], host[HOST_BYTES_MAX];
    if (f->via.is_rfc3261) {
        struct slice parts[] = {head(first, 'b', as, f->via.port), f->via.branch,
                                folded(host, f->via.host), name_of(f, as)};
        return key_of(seed, parts, sizeof parts / sizeof parts[0]);
    }
    /* An ACK carries the To tag of the answer, its INVITE did not: 17.2.3 leaves it out there. */
    struct slice to_tag = as == SIP_M_INVITE ? SLICE_NONE : f->to_tag;
    struct slice parts[] = {
        head(first, 'o', as, f->cseq), sip_slice(m, m->uri), f->from_tag, f->call_id,
        sip_slice(m, f->via_value),    name_of(f, as),       to_tag};
    return key_of(seed, parts, sizeof parts / sizeof parts[0]);
}

struct txn_key txn_merge_key(const struct hash_seed *seed, const struct sip_msg *m,
                             const struct sip_facts *f, enum sip_method as)
{
    char first[6];
    struct slice parts[] = {head(first, 'm', as, f->cseq), sip_slice(m, m->uri), f->from_tag,
                            f->call_id, name_of(f, as)};
    return key_of(seed, parts, sizeof parts / sizeof parts[0]);
}
