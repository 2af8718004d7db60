/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames as another implementation sees them: libwslay reads the same streams, with the same
 * verdicts, reads what we write, and writes what we read. covers: ws.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <wslay/wslay.h>

#include "support/support.h"
#include "wire/wire.h"

enum { STREAM_MAX = 1 << 18, EVENTS_MAX = 512, MAX = 70000 };

struct events {
    size_t count;
    struct {
        int what; /* WS_MESSAGE ...; negative: the code of an error */
        size_t n;
        uint64_t hash;
    } e[EVENTS_MAX];
};

/* A stream in memory, and what a reader made of it. */
struct stream {
    size_t n;
    size_t at;
    char p[STREAM_MAX];
    struct events events;
};

static void note(struct events *events, int what, const void *p, size_t n)
{
    assert_true(events->count < EVENTS_MAX);
    events->e[events->count].what = what;
    events->e[events->count].n = n;
    events->e[events->count++].hash = siphash(&(struct hash_seed){1, 2}, p, n);
}

/* ---- wslay's side ------------------------------------------------------------------------ */

static ssize_t pull(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, int flags, void *user)
{
    (void)flags;
    struct stream *s = user;
    if (n > s->n - s->at)
        n = s->n - s->at;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(buf, s->p + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static ssize_t push(wslay_event_context_ptr ctx, const uint8_t *p, size_t n, int flags, void *user)
{
    (void)ctx;
    (void)flags;
    struct stream *s = user;
    assert_true(n <= STREAM_MAX - s->n);
    memcpy(s->p + s->n, p, n);
    s->n += n;
    return (ssize_t)n;
}

static ssize_t drop(wslay_event_context_ptr ctx, const uint8_t *p, size_t n, int flags, void *user)
{
    (void)ctx;
    (void)p;
    (void)flags;
    (void)user;
    return (ssize_t)n;
}

static int new_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, void *user)
{
    (void)ctx;
    (void)user;
    memcpy(buf, "\x9a\x01\xfe\x55", n);
    return 0;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user)
{
    (void)ctx;
    struct stream *s = user;
    int what = arg->opcode == WSLAY_PING               ? WS_PING
               : arg->opcode == WSLAY_PONG             ? WS_PONG
               : arg->opcode == WSLAY_CONNECTION_CLOSE ? WS_CLOSE
                                                       : WS_MESSAGE;
    note(&s->events, what, arg->msg, arg->msg_length);
}

/* Reads all of `s` as a server or client. */
static void wslay_reads(struct stream *s, bool is_client, uint32_t max)
{
    const struct wslay_event_callbacks calls = {.recv_callback = pull,
                                                .send_callback = drop,
                                                .genmask_callback = new_mask,
                                                .on_msg_recv_callback = on_message};
    wslay_event_context_ptr ctx;
    assert_int_equal(is_client ? wslay_event_context_client_init(&ctx, &calls, s)
                               : wslay_event_context_server_init(&ctx, &calls, s),
                     0);
    wslay_event_config_set_max_recv_msg_length(ctx, max);
    s->at = s->events.count = 0;
    int result = wslay_event_recv(ctx);
    if (result == WSLAY_ERR_CALLBACK_FAILURE) { /* so it says when a head is no frame's at all */
        note(&s->events, -WS_CODE_PROTOCOL, "", 0);
        wslay_event_context_free(ctx);
        return;
    }
    assert_int_equal(result, 0);
    if (!wslay_event_get_read_enabled(ctx) && !wslay_event_get_close_received(ctx)) {
        assert_int_equal(wslay_event_send(ctx), 0);
        note(&s->events, -(int)wslay_event_get_status_code_sent(ctx), "", 0);
    }
    wslay_event_context_free(ctx);
}

/* ---- our side ---------------------------------------------------------------------------- */

static void we_read(const struct stream *s, bool is_client, uint32_t max, struct events *events)
{
    static char p[STREAM_MAX];
    memcpy(p, s->p, s->n);
    size_t n = s->n;
    struct ws_reader r;
    ws_reader_init(&r, is_client);
    events->count = 0;
    for (;;) {
        struct slice payload = SLICE_NONE;
        int result = ws_read(&r, p, &n, max, &payload);
        if (result == WS_MORE)
            return;
        note(events, result, payload.p, payload.n);
    }
}

static bool is_equal(const struct events *a, const struct events *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->e[i].what != b->e[i].what || a->e[i].n != b->e[i].n || a->e[i].hash != b->e[i].hash)
            return false;
    return true;
}

static void frame_add(struct stream *s, uint8_t first, const char *payload, size_t n, bool masks)
{
    uint8_t head[WS_HEAD_BYTES_MAX], mask[4] = {0xa5, (uint8_t)n, 0x17, first};
    size_t head_n = masks ? ws_put_head_masked(head, WS_OP_BINARY, n, mask)
                          : ws_put_head(head, WS_OP_BINARY, n);
    head[0] = first;
    assert_true(head_n + n <= STREAM_MAX - s->n);
    memcpy(s->p + s->n, head, head_n);
    if (masks)
        ws_mask(s->p + s->n + head_n, payload, n, mask);
    else
        memcpy(s->p + s->n + head_n, payload, n);
    s->n += head_n + n;
}

/* One random frame: one that may stand here, mostly; in some, one bit of its head is wrong. */
static void random_add(struct stream *s, struct prng *rng, bool *in_message)
{
    static const uint8_t controls[] = {0x89, 0x8a, 0x88};
    uint64_t dice = prng_u64(rng);
    char payload[256];
    size_t n = dice % 5 == 0 ? dice >> 8 & 255 : dice >> 8 & 15;
    bool is_control = (dice >> 16) % 4 == 0, is_last = (dice >> 20) % 2 == 0;
    uint8_t first = (uint8_t)((is_last ? 0x80 : 0) | (*in_message ? 0 : WS_OP_BINARY));
    for (size_t i = 0; i < n; i++)
        payload[i] = (char)('a' + (i + n) % 26);
    if (is_control) {
        first = controls[(dice >> 28) % 30 == 0 ? 2 : dice >> 28 & 1];
        n %= WS_CONTROL_BYTES_MAX + 1;
        if (first == 0x88) { /* wslay knows no code of 1012 to 1014 */
            (void)bytes_put_be((uint8_t *)payload, 992 + prng_u64(rng) % 20, 2);
        }
    } else {
        *in_message = !is_last;
    }
    size_t at = s->n;
    frame_add(s, first, payload, n, true);
    if ((dice >> 40) % 150 == 0)
        s->p[at + (dice >> 50 & 1)] ^= (char)(1 << (dice >> 52) % 8);
}

static void test_we_read_as_wslay_reads(void **state)
{
    (void)state;
    static struct stream s;
    static struct events ours;
    struct prng rng = test_seed();
    unsigned messages = 0, errors = 0, closes = 0;
    for (int round = 0; round < 20000; round++) {
        bool in_message = false;
        for (s.n = 0; s.n < 600;)
            random_add(&s, &rng, &in_message);
        memset(s.p + s.n, 0, 24); /* wslay wants a whole head before it judges it */
        s.n += 24;
        we_read(&s, false, 400, &ours);
        wslay_reads(&s, false, 400);
        size_t end = s.events.count;
        int last = end > 0 ? s.events.e[end - 1].what : 0;
        if (last == -1007 || (last == WS_CLOSE && s.events.e[end - 1].n == 1))
            continue; /* wslay looks into texts; and takes half a code, which 5.5.1 forbids */
        if (!is_equal(&ours, &s.events))
            fail_msg("round %d: %zu events, the last %d; wslay: %zu, %d", round, ours.count,
                     ours.count > 0 ? ours.e[ours.count - 1].what : 0, s.events.count, last);
        for (size_t i = 0; i < ours.count; i++) {
            messages += ours.e[i].what == WS_MESSAGE;
            closes += ours.e[i].what == WS_CLOSE;
            errors += ours.e[i].what < 0;
        }
    }
    assert_true(messages > 20000 && errors > 1000 && closes > 1000);
}

static const size_t sizes[] = {0, 1, 124, 125, 126, 127, 1000, 65535, 65536, MAX};

static void test_wslay_reads_what_we_write(void **state)
{
    (void)state;
    static struct stream s;
    static char payload[MAX];
    memset(payload, 'x', sizeof payload);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int masks = 0; masks < 2; masks++) {
            s.n = 0;
            frame_add(&s, 0x80 | WS_OP_TEXT, payload, sizes[i], masks);
            frame_add(&s, 0x80 | WS_OP_PING, payload, 0, masks);
            frame_add(&s, 0x80 | WS_OP_PONG, payload, WS_CONTROL_BYTES_MAX, masks);
            wslay_reads(&s, !masks, MAX);
            assert_int_equal(s.events.count, 3);
            assert_int_equal(s.events.e[0].what, WS_MESSAGE);
            assert_int_equal(s.events.e[0].n, sizes[i]);
            assert_int_equal(s.events.e[0].hash,
                             siphash(&(struct hash_seed){1, 2}, payload, sizes[i]));
            assert_int_equal(s.events.e[1].what, WS_PING);
            assert_int_equal(s.events.e[2].what, WS_PONG);
            assert_int_equal(s.events.e[2].n, WS_CONTROL_BYTES_MAX);
        }
    }
    s.n = ws_put_close((uint8_t *)s.p, WS_CODE_TOO_BIG);
    wslay_reads(&s, true, MAX);
    assert_int_equal(s.events.count, 1);
    assert_int_equal(s.events.e[0].what, WS_CLOSE);
    s.n = ws_put_close((uint8_t *)s.p, WS_CODE_NONE);
    wslay_reads(&s, true, MAX);
    assert_int_equal(s.events.count, 1);
    assert_int_equal(s.events.e[0].what, WS_CLOSE);
}

static ssize_t fragments(wslay_event_context_ptr ctx, uint8_t *buf, size_t n,
                         const union wslay_event_msg_source *source, int *eof, void *user)
{
    (void)ctx;
    (void)user;
    size_t *left = source->data;
    if (n > 1000)
        n = 1000;
    if (n > *left)
        n = *left;
    memset(buf, 'x', n);
    *left -= n;
    *eof = *left == 0;
    return (ssize_t)n;
}

static void test_we_read_what_wslay_writes(void **state)
{
    (void)state;
    static struct stream s;
    static struct events ours;
    static uint8_t payload[MAX];
    memset(payload, 'x', sizeof payload);
    const struct wslay_event_callbacks calls = {.send_callback = push,
                                                .genmask_callback = new_mask};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int is_client = 0; is_client < 2; is_client++) {
            wslay_event_context_ptr ctx;
            s.n = 0;
            assert_int_equal(is_client ? wslay_event_context_client_init(&ctx, &calls, &s)
                                       : wslay_event_context_server_init(&ctx, &calls, &s),
                             0);
            size_t left = sizes[i];
            struct wslay_event_msg whole = {WSLAY_BINARY_FRAME, payload, sizes[i]},
                                   ping = {WSLAY_PING, payload, sizes[i] < 125 ? sizes[i] : 125};
            struct wslay_event_fragmented_msg parts = {
                WSLAY_BINARY_FRAME, {.data = &left}, fragments};
            assert_int_equal(wslay_event_queue_msg(ctx, &whole), 0);
            assert_int_equal(wslay_event_queue_fragmented_msg(ctx, &parts), 0);
            assert_int_equal(wslay_event_queue_msg(ctx, &ping), 0);
            assert_int_equal(wslay_event_send(ctx), 0); /* a close would overtake them all */
            assert_int_equal(wslay_event_queue_close(ctx, 1001, payload, 3), 0);
            assert_int_equal(wslay_event_send(ctx), 0);
            wslay_event_context_free(ctx);
            we_read(&s, !is_client, MAX, &ours);
            assert_int_equal(ours.count, 4);
            assert_int_equal(ours.e[3].what, WS_CLOSE);
            assert_int_equal(ours.e[3].n, 5);
            unsigned messages = 0;
            for (int at = 0; at < 3; at++) { /* a ping may overtake messages */
                bool is_ping = ours.e[at].what == WS_PING;
                assert_int_equal(ours.e[at].n, is_ping ? ping.msg_length : sizes[i]);
                messages += ours.e[at].what == WS_MESSAGE;
            }
            assert_int_equal(messages, 2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_we_read_as_wslay_reads),
        cmocka_unit_test(test_wslay_reads_what_we_write),
        cmocka_unit_test(test_we_read_what_wslay_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
