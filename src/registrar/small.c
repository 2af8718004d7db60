/* SPDX-License-Identifier: Apache-2.0
 *
 * Small things that several files of this room do. */
#include "registrar/registrar_int.h"

struct text registrar__scratch_text(struct arena *a, size_t cap)
{
    size_t left = a->cap - a->used;
    return text_into(a->p + a->used, cap < left ? cap : left);
}

struct slice registrar__scratch_keep(struct arena *a, struct text *t)
{
    if (!text_fits(t))
        return SLICE_NONE;
    a->used += t->n;
    return t->n > 0 ? text_slice(t) : SLICE_NONE;
}

void registrar__put_user(struct text *t, struct slice user)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < user.n; i++) {
        unsigned char c = (unsigned char)user.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        /* unreserved and user-unreserved of RFC 3261 25.1, without what a list or a quoted string
         * could trip over. */
        if (is_alnum || (c != '\0' && memchr("-_.!~*'()&=+$/", c, 14) != NULL)) {
            text_put_char(t, (char)c);
        } else {
            text_put_char(t, '%');
            text_put_char(t, digits[c >> 4]);
            text_put_char(t, digits[c & 15]);
        }
    }
}

struct slice registrar__path_of(const struct sip_msg *m, struct arena *scratch, int *ret_status)
{
    struct sip_values v = sip_values(m, SIP_H_PATH);
    struct text t = registrar__scratch_text(scratch, REG_PATH_BYTES_MAX);
    struct sip_uri last;
    unsigned count = 0;
    while (sip_next_value(&v)) {
        if (count++ > 0)
            TEXT_LIT(&t, ", ");
        text_put(&t, sip_slice(m, v.value));
    }
    *ret_status = v.err != 0 || count > REG_PATHS_MAX || !text_fits(&t) ||
                          !registrar__path_is_clean(text_slice(&t), &last)
                      ? 400
                      : 0;
    return *ret_status == 0 ? registrar__scratch_keep(scratch, &t) : SLICE_NONE;
}

uint64_t registrar__call_id_hash(struct slice call_id)
{
    static const struct hash_seed seed = {0x77656972726567ULL, 0x63616c6c2d6964ULL};
    return siphash(&seed, call_id.p, call_id.n);
}
