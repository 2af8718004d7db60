/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker's brain: takes an event, gives it to the room that it concerns, and leaves actions. */
#include "engine/engine.h"

struct engine {
    struct edge *edge;
    struct edge_limits limits;
    uint32_t worker;
    mono_ns now;
};

enum { SHOW_BYTES = 256 * 1024 };

size_t engine_memory(const struct engine_opts *opts)
{
    return sizeof(struct engine) + edge_memory(&opts->limits) + 4096;
}

struct engine *engine_new(void *mem, size_t size, const struct engine_opts *opts,
                          const struct engine_birth *birth, mono_ns now)
{
    struct arena boot = arena_over(mem, size);
    struct engine *e = ARENA_NEW(&boot, struct engine);
    if (e == NULL)
        return NULL;
    struct edge_birth b = {.worker = birth->worker,
                           .workers = birth->workers,
                           .process_generation = birth->process_generation,
                           .seed = birth->shared_seed,
                           .rng = birth->rng,
                           .prng_seed = birth->prng_seed,
                           .fault = birth->fault};
    e->limits = opts->limits;
    e->worker = birth->worker;
    e->now = now;
    e->edge = edge_new(&boot, &opts->edge, &e->limits, &b, now);
    return e->edge != NULL ? e : NULL;
}

/* ---- hand-over ------------------------------------------------------------------------------- */

static void on_handed(struct engine *e, const struct event *ev)
{
    struct hand head;
    if (ev->bytes.n < sizeof head)
        return;
    memcpy(&head, ev->bytes.p, sizeof head);
    struct slice bytes = slice_drop(ev->bytes, sizeof head);
    if (head.len > bytes.n)
        return;
    struct event inner = {.kind = head.kind,
                          .listener = head.listener,
                          .transport = head.transport,
                          .flow = head.flow,
                          .source = head.source,
                          .bytes = slice_take(bytes, head.len),
                          .wall_ns = head.arrived_wall_ns};
    if (head.kind == HAND_SEND)
        edge_on_send(e->edge, &inner);
    else if (head.kind == HAND_FLOW_GONE)
        edge_on_flow_gone(e->edge, head.flow, head.arrived_wall_ns);
    else if (head.kind == HAND_PHONE)
        edge_on_phone(e->edge, &inner, head.reserved, head.arrived_wall_ns);
    else if (head.kind == HAND_CALL)
        edge_on_call(e->edge, head.flow, head.reserved != 0);
    else if (head.kind == EV_UNREACHABLE)
        edge_on_unreachable(e->edge, &inner);
    else
        edge_on_message(e->edge, &inner, head.hops);
}

/* ---- control --------------------------------------------------------------------------------- */

static void reply(struct actions *out, const struct event *ev, struct slice rows, uint64_t cursor,
                  int error)
{
    MUST(out->count < STEP_ACTIONS_MAX && out->iov_count < STEP_IOV_MAX);
    struct action *a = &out->a[out->count++];
    memset(a, 0, sizeof *a);
    a->kind = ACT_REPLY;
    a->id = ev->id;
    a->cursor = cursor;
    a->error = error;
    a->iov = out->iov_count;
    a->iov_count = 1;
    out->iov[out->iov_count++] = (struct iovec){(void *)(uintptr_t)rows.p, rows.n};
}

static void on_command(struct engine *e, const struct event *ev, struct actions *out)
{
    uint64_t cursor = ev->cursor;
    struct slice why = SLICE_NONE;
    if (ev->command == CMD_DRAIN) {
        uint64_t within_ms = 0;
        if (ev->bytes.n > 0 && text_parse_u64(ev->bytes, UINT32_MAX, &within_ms) != 0)
            within_ms = 0;
        edge_drain(e->edge, within_ms * NS_MS);
        reply(out, ev, SLICE_NONE, 0, 0);
        return;
    }
    if (ev->command == CMD_UNDRAIN) {
        edge_undrain(e->edge);
        reply(out, ev, SLICE_NONE, 0, 0);
        return;
    }
    if (ev->command == CMD_GUARD) {
        int err = guard_edit(engine_guard(e), ev->bytes, e->now, &why);
        reply(out, ev, why, 0, err);
        return;
    }
    if (ev->command == CMD_TARGET) {
        int err = edge_set_target(e->edge, ev->bytes, &why);
        reply(out, ev, why, 0, err);
        return;
    }
    char *page = arena_take(&out->scratch, SHOW_BYTES, 8);
    MUST(page != NULL);
    struct text t = text_into(page, SHOW_BYTES);
    if (ev->command == CMD_UNBIND)
        edge_unbind(e->edge, ev->bytes, &t);
    else
        edge_show(e->edge, (enum command_kind)ev->command, ev->bytes, &cursor, &t);
    reply(out, ev, text_slice(&t), cursor, 0);
}

static int on_config(struct engine *e, const struct event *ev, mono_ns now)
{
    const struct engine_opts *opts = ev->opts;
    return edge_adopt(e->edge, &opts->edge, now);
}

int engine_step(struct engine *e, const struct event *ev, mono_ns now, struct actions *out)
{
    MUST(now >= e->now);
    DCHECK(actions_have_room(out));
    e->now = now;
    edge_step_begin(e->edge, now, ev->wall_ns, out);
    switch ((enum event_kind)ev->kind) {
    case EV_TIMER:
        edge_on_timer(e->edge);
        break;
    case EV_DATAGRAM:
    case EV_MESSAGE:
        edge_on_message(e->edge, ev, 0);
        break;
    case EV_FRAME_FAULT:
        edge_on_frame_fault(e->edge, ev);
        break;
    case EV_PING:
        edge_on_ping(e->edge, ev);
        break;
    case EV_FLOW_OPENED:
        edge_on_flow_opened(e->edge, ev);
        break;
    case EV_FLOW_CLOSED:
        edge_on_flow_closed(e->edge, ev);
        break;
    case EV_CONNECT_FAILED:
        edge_on_connect_failed(e->edge, ev);
        break;
    case EV_UNREACHABLE:
        edge_on_unreachable(e->edge, ev);
        break;
    case EV_RESOLVED:
        edge_on_resolved(e->edge, ev);
        break;
    case EV_HANDED:
        on_handed(e, ev);
        break;
    case EV_ALIVE:
        edge_on_alive(e->edge, ev);
        break;
    case EV_STORED:
        edge_on_stored(e->edge, ev);
        break;
    case EV_BINDING:
        edge_on_binding(e->edge, ev);
        break;
    case EV_CONFIG:
        return on_config(e, ev, now);
    case EV_COMMAND:
        on_command(e, ev, out);
        break;
    }
    return 0;
}

mono_ns engine_deadline(const struct engine *e)
{
    return edge_deadline(e->edge);
}

bool engine_flow_is_spare(struct engine *e, struct flow_id flow, mono_ns *ret_last_in)
{
    return edge_flow_is_spare(e->edge, flow, ret_last_in);
}

struct guard *engine_guard(struct engine *e)
{
    return edge_guard(e->edge);
}

const struct counters *engine_counters(const struct engine *e)
{
    return edge_counters(e->edge);
}

struct engine_load engine_load(const struct engine *e)
{
    struct edge_load l = edge_load(e->edge);
    return (struct engine_load){.relays = l.relays,
                                .tries = l.tries,
                                .blocks = l.blocks,
                                .flows = l.flows,
                                .relays_open = l.relays_open};
}
