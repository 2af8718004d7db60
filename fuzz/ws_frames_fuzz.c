/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as frames, cut in any way. Holds: the cuts do not matter; results lie inside of the
 * buffer; nothing grows past the maximum; each message, written again, is read again.
 *
 * The first byte is the end that reads (bit 7) and the number of cuts, the second the maximum, then
 * come the cuts and the stream. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EVENTS_MAX = 512 };

struct events {
    unsigned count;
    struct {
        int result;
        uint64_t hash;
        size_t n;
    } e[EVENTS_MAX];
    size_t left;
};

static void write_again(struct slice message, uint32_t max)
{
    uint8_t head[WS_HEAD_BYTES_MAX];
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    for (int is_client = 0; is_client < 2; is_client++) {
        size_t head_n = is_client ? ws_put_head(head, WS_OP_TEXT, message.n)
                                  : ws_put_head_masked(head, WS_OP_TEXT, message.n, mask);
        size_t n = head_n + message.n;
        char *p = malloc(n);
        MUST(p != NULL);
        memcpy(p, head, head_n);
        ws_mask(p + head_n, message.p, message.n, is_client ? (const uint8_t[4]){0} : mask);
        struct ws_reader r;
        struct slice got;
        ws_reader_init(&r, is_client);
        MUST(ws_read(&r, p, &n, max, &got) == WS_MESSAGE && slice_equal(got, message));
        MUST(ws_read(&r, p, &n, max, &got) == WS_MORE && ws_is_idle(&r, n));
        free(p);
    }
}

static void note(struct events *events, int result, struct slice payload)
{
    if (events->count == EVENTS_MAX)
        return;
    events->e[events->count].result = result;
    events->e[events->count].n = payload.n;
    events->e[events->count++].hash = siphash(&(struct hash_seed){1, 2}, payload.p, payload.n);
}

/* Pieces of `piece` bytes; 0: as `cuts` has them. */
static void run(struct slice s, size_t piece, struct slice cuts, bool is_client, uint32_t max,
                struct events *events)
{
    struct ws_reader r;
    ws_reader_init(&r, is_client);
    events->count = 0;
    char *kept = NULL;
    size_t n = 0, cut = 0;
    for (size_t at = 0; at < s.n;) {
        size_t more = piece > 0 ? piece : cut < cuts.n ? 1u + (uint8_t)cuts.p[cut++] : s.n;
        more = more < s.n - at ? more : s.n - at;
        char *p = malloc(n + more); /* of just that size: a byte too far is noticed */
        MUST(p != NULL);
        if (n > 0)
            memcpy(p, kept, n);
        memcpy(p + n, s.p + at, more);
        free(kept);
        kept = p;
        n += more;
        at += more;
        for (;;) {
            struct slice payload = SLICE_NONE;
            int result = ws_read(&r, p, &n, max, &payload);
            if (result == WS_MORE)
                break;
            MUST(payload.n == 0 || (payload.p >= p && payload.p + payload.n <= p + n));
            MUST(result != WS_MESSAGE || payload.n <= max);
            MUST(result == WS_MESSAGE || payload.n <= WS_CONTROL_BYTES_MAX);
            note(events, result, payload);
            if (result == WS_MESSAGE && piece == s.n)
                write_again(payload, max);
        }
        MUST(r.kept == r.raw && r.kept <= n && r.kept <= max && n - r.kept <= WS_REST_BYTES_MAX);
    }
    events->left = ws_is_idle(&r, n) ? 0 : 1 + n;
    free(kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct events whole, pieces;
    size_t cuts = size > 0 ? data[0] % 16 : 0;
    if (size < cuts + 3)
        return 0;
    bool is_client = (data[0] & 0x80) != 0;
    uint32_t max = (uint32_t)data[1] << 4;
    struct slice cut = slice_of(data + 2, cuts), s = slice_of(data + 2 + cuts, size - 2 - cuts);
    run(s, s.n, cut, is_client, max, &whole);
    for (size_t piece = 0; piece < 4; piece++) {
        run(s, piece, cut, is_client, max, &pieces);
        MUST(pieces.count == whole.count && pieces.left == whole.left);
        for (unsigned i = 0; i < whole.count; i++)
            MUST(pieces.e[i].result == whole.e[i].result && pieces.e[i].n == whole.e[i].n &&
                 pieces.e[i].hash == whole.e[i].hash);
    }
    return 0;
}
