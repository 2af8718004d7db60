/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the workers and the store: what is to be kept goes there, what was kept is told to the
 * engine, and at start each engine is told what it must know of before.
 *
 *      ACT_STORE ─▶ store_put() ─ ring ─▶ store's thread ─ ring ─▶ EV_STORED 0 or errno
 *                        └ no room: remembered here ─────────────▶ EV_STORED ENOBUFS, this turn */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include "net/net_int.h"
#include "registrar/registrar.h"

enum { LOAD_BYTES = 64 * 1024 }; /* records given to an engine at once */

/* ---- a worker's side ------------------------------------------------------------------------- */

void keep(struct worker *w, const struct action *a)
{
    struct store *s = w->net->store;
    int error = s == NULL
                    ? ENOTSUP
                    : store_put(s, w->index, a->id, w->out.iov + a->iov, a->iov_count, w->now);
    w->count.stores++;
    if (error == 0)
        return;
    w->count.stores_refused++;
    /* Beyond this many the phone gets no answer, and asks again: nothing was promised. */
    if (a->id != 0 && w->unkept_count < UNKEPT_MAX)
        w->unkept[w->unkept_count++] = (struct unkept){a->id, error};
}

void keep_tell_refused(struct worker *w)
{
    while (w->unkept_count > 0) {
        struct unkept u = w->unkept[--w->unkept_count];
        struct event ev = {.kind = EV_STORED, .id = u.id, .error = u.error};
        worker_step(w, &ev);
        worker_execute(w);
    }
}

void keep_tell_stored(struct worker *w)
{
    struct store_answer a;
    while (w->net->store != NULL && store_answered(w->net->store, w->index, &a)) {
        struct event ev = {.kind = EV_STORED, .id = a.id, .error = a.error};
        histogram_add(&w->kept_us, mono_since(w->now, a.put) / NS_US);
        worker_step(w, &ev);
    }
}

/* ---- main's ---------------------------------------------------------------------------------- */

int keeping_open(struct net *net, FILE *errors)
{
    const struct config *c = net->config;
    int status = EXIT_FAILURE;
    if (c->state.n == 0)
        return 0;
    net->store = store_open(c->state, c->state_bytes_max, errors, &status);
    return net->store != NULL ? 0 : status;
}

struct loading {
    struct net *net;
    uint64_t wall;
    char *bytes; /* LOAD_BYTES of each worker */
    size_t used[WORKERS_MAX];
};

static void give(struct loading *l, uint32_t i)
{
    struct worker *w = l->net->worker[i];
    struct event ev = {
        .kind = EV_BINDING,
        .bytes = slice_of(l->bytes + (size_t)i * LOAD_BYTES, l->used[i]),
    };
    if (l->used[i] == 0)
        return;
    worker_step(w, &ev);
    worker_execute(w);
    l->used[i] = 0;
}

static bool load_record(void *ctx, struct slice whole)
{
    struct loading *l = (struct loading *)ctx;
    struct slice rest = whole;
    struct record r;
    if (record_next(&rest, &r) != 1)
        return false; /* the store has checked it */
    if (record_is_over(&r, l->wall))
        return false;
    for (uint32_t i = 0; i < l->net->workers; i++) { /* each takes what concerns it */
        if (l->used[i] + whole.n > LOAD_BYTES)
            give(l, i);
        memcpy(l->bytes + (size_t)i * LOAD_BYTES + l->used[i], whole.p, whole.n);
        l->used[i] += whole.n;
    }
    return true;
}

static void knock(void *ctx, uint32_t worker)
{
    struct net *net = (struct net *)ctx;
    inbox_knock_other(&net->worker[worker]->inbox, INBOX_STORE);
}

int keeping_start(struct net *net, FILE *errors)
{
    struct loading l = {.net = net, .wall = wall_now()};
    const struct store_run run = {
        .workers = net->workers, .gather_ns = STORE_GATHER, .knock = knock, .ctx = net};
    if (net->store == NULL)
        return 0;
    l.bytes = (char *)malloc((size_t)net->workers * LOAD_BYTES);
    if (l.bytes == NULL)
        return EXIT_FAILURE;
    net->loaded = store_load(net->store, load_record, &l, errors);
    for (uint32_t i = 0; i < net->workers; i++)
        give(&l, i);
    free(l.bytes);
    if (net->loaded < 0)
        return EX_CONFIG;
    int error = store_start(net->store, &run);
    if (error != 0)
        fprintf(errors, "weir: state: cannot start: %s\n", strerror(error));
    return error != 0 ? EXIT_FAILURE : 0;
}

/* ---- what is shown --------------------------------------------------------------------------- */

static void put_counter(struct text *t, const char *name, uint64_t value, const char *help)
{
    text_put_char(t, '{');
    json_text(t, "counter", slice_cstr(name));
    json_u64(t, "value", value);
    json_text(t, "meaning", slice_cstr(help));
    TEXT_LIT(t, "}\n");
}

void keeping_show(const struct net *net, struct text *t)
{
    if (net->store == NULL)
        return;
    struct store_counters c = store_counters(net->store);
#define X(name, help) put_counter(t, #name, c.name, help);
    STORE_COUNTERS(X)
#undef X
    put_counter(t, "last_error", (uint64_t)c.last_error,
                c.last_error == 0 ? "the last transaction was committed" : strerror(c.last_error));
}
