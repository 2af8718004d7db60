/* SPDX-License-Identifier: Apache-2.0
 *
 * Our Via branch names the try that a response belongs to, so that a response is matched by one
 * look into a slab, on whatever worker it lands:
 *
 *      z9hG4bK + base64url( worker 1 | process generation 4 | slot 4 | generation 4 |
 *                           nonce 6 | loop hash 8 )                       = 7 + 36 characters
 *
 * The nonce is unpredictable and kept in the try: an outsider cannot answer for a target. The loop
 * hash (RFC 5393) tells a request that came back unchanged from one that was changed on its way. */
#include "edge/edge_int.h"

enum { BRANCH_BYTES = 27 };
#define BRANCH_COOKIE SLICE("z9hG4bK")

void branch_put(struct text *t, const struct branch *b)
{
    uint8_t raw[BRANCH_BYTES], *p = raw;
    p = bytes_put_be(p, b->worker, 1);
    p = bytes_put_be(p, b->process_generation, 4);
    p = bytes_put_be(p, b->of.slot, 4);
    p = bytes_put_be(p, b->of.gen, 4);
    p = bytes_put_be(p, b->nonce, 6);
    p = bytes_put_be(p, b->loop_hash, 8);
    char out[BRANCH_TEXT_BYTES - 7];
    text_base64url_encode(raw, sizeof raw, out);
    text_put(t, BRANCH_COOKIE);
    text_put(t, slice_of(out, sizeof out));
}

int branch_parse(struct slice s, struct branch *ret_branch)
{
    uint8_t raw[BRANCH_BYTES];
    if (s.n != BRANCH_TEXT_BYTES || !slice_starts_with(s, BRANCH_COOKIE) ||
        text_base64url_decode(slice_drop(s, 7), raw, sizeof raw) != BRANCH_BYTES)
        return -1;
    const uint8_t *p = raw;
    ret_branch->worker = (uint32_t)bytes_get_be(&p, 1);
    ret_branch->process_generation = (uint32_t)bytes_get_be(&p, 4);
    ret_branch->of.slot = (uint32_t)bytes_get_be(&p, 4);
    ret_branch->of.gen = (uint32_t)bytes_get_be(&p, 4);
    ret_branch->nonce = bytes_get_be(&p, 6);
    ret_branch->loop_hash = bytes_get_be(&p, 8);
    return 0;
}

uint64_t loop_hash_of(const struct edge *e, const struct sip_msg *m, const struct sip_facts *f)
{
    char number[12];
    struct text cseq = text_into(number, sizeof number);
    text_put_u64(&cseq, f->cseq);
    struct slice parts[] = {sip_slice(m, m->uri),
                            f->from_tag,
                            f->to_tag,
                            f->call_id,
                            text_slice(&cseq),
                            sip_header_value(m, SIP_H_ROUTE),
                            sip_header_value(m, SIP_H_PROXY_REQUIRE),
                            sip_header_value(m, SIP_H_PROXY_AUTHORIZATION)};
    return guard_loop_hash(&e->seed, parts, sizeof parts / sizeof parts[0]);
}

/* The branch of the next Via that is spelled as ours are. */
static bool next_own_branch(struct sip_values *v, struct branch *b)
{
    while (sip_next_value(v)) {
        struct slice value = sip_slice(v->m, v->value), text;
        if (sip_param(slice_drop(value, slice_find(value, ';')), SLICE("branch"), &text) &&
            branch_parse(text, b) == 0)
            return true;
    }
    return false;
}

/* Has this request been here before, unchanged? The hash is keyed: a Via that carries it is ours.
 */
bool loops_here(const struct sip_msg *m, uint64_t loop_hash)
{
    struct sip_values v = sip_values(m, SIP_H_VIA);
    struct branch b;
    while (next_own_branch(&v, &b))
        if (b.loop_hash == loop_hash)
            return true;
    return false;
}

/* Has it been here at all? Then it is no merge of two ways, but one way that leads by here twice.
 */
bool passed_here(const struct edge *e, const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_VIA);
    struct branch b;
    while (next_own_branch(&v, &b))
        if (b.process_generation == e->process_generation)
            return true;
    return false;
}
