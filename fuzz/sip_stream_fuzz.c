/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of any bytes, cut in any way. Holds: whole, in single bytes and in random pieces, the
 * results are the same; what is framed as a message is one to the index too; where the framing
 * gives up, the index finds a fault as well. */
#include "sip_fuzz.h"

enum { STEPS_MAX = 512 };

struct steps {
    unsigned count;
    struct {
        int result;
        size_t len;
    } s[STEPS_MAX];
};

static void check_message(const char *p, size_t n, int framed)
{
    static struct sip_msg m;
    struct sip_fault fault;
    int rc = sip_index(&m, p, n, false, &fault);
    if (framed == SIP_FRAME_MESSAGE)
        HOLDS(rc > SIP_E_FATAL && m.n == n);
    else
        HOLDS(rc <= SIP_E_FATAL);
}

/* Pieces of `piece` bytes; 0: as `c` chooses. */
static void run(struct slice s, size_t piece, struct choices c, struct steps *ret_steps)
{
    struct sip_framer f = {0};
    size_t at = 0;
    ret_steps->count = 0;
    for (size_t end = 0; end < s.n;) {
        size_t more = piece > 0 ? piece : 1 + choose(&c, 64);
        end = s.n - end < more || (piece == 0 && c.n == 0) ? s.n : end + more;
        for (;;) {
            size_t len = 0;
            int rc = sip_frame(&f, s.p + at, end - at, &len);
            HOLDS(len <= end - at);
            if (rc == SIP_FRAME_MORE || ret_steps->count == STEPS_MAX)
                break;
            ret_steps->s[ret_steps->count].result = rc;
            ret_steps->s[ret_steps->count++].len = len;
            if (piece == s.n && (rc < 0 || rc == SIP_FRAME_MESSAGE))
                check_message(s.p + at, len, rc);
            if (rc < 0)
                return;
            HOLDS(len > 0);
            at += len;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct steps whole, pieces;
    size_t cuts = size > 0 ? data[0] % 32 : 0;
    if (size < cuts + 1)
        return 0;
    struct choices c = {data + 1, cuts};
    struct slice s = {(const char *)data + 1 + cuts, size - 1 - cuts};
    run(s, s.n, c, &whole);
    for (size_t piece = 0; piece < 8; piece++) {
        run(s, piece, c, &pieces);
        HOLDS(pieces.count == whole.count);
        for (unsigned i = 0; i < whole.count; i++)
            HOLDS(pieces.s[i].result == whole.s[i].result && pieces.s[i].len == whole.s[i].len);
    }
    return 0;
}
