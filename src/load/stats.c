/* SPDX-License-Identifier: Apache-2.0
 *
 * What is counted, and how it went over time. */
#include <stdlib.h>
#include "load/load_int.h"

enum { WIDTH_FIRST_MS = 100 };

const char *load__count_key(int count)
{
    static const char *const keys[COUNTS] = {
#define X(name, phones, calls) #name,
        LOAD_COUNTS(X)
#undef X
    };
    return keys[count];
}

const char *load__count_text(const struct load_opts *o, int count)
{
    static const char *const texts[COUNTS][2] = {
#define X(name, phones, calls) {phones, calls},
        LOAD_COUNTS(X)
#undef X
    };
    return texts[count][o->kind != LOAD_PHONES];
}

void load__put_count(struct text *t, struct slice what, uint64_t n)
{
    TEXT_LIT(t, "  ");
    text_put(t, what);
    text_put_char(t, ' ');
    text_put_u64(t, n);
}

int load__stats_init(struct stats *s, mono_ns now)
{
    memset(s, 0, sizeof *s);
    s->series.width = WIDTH_FIRST_MS * NS_MS;
    s->series.began = now;
    s->series.at = (struct moment *)calloc(SERIES_MAX, sizeof *s->series.at);
    return s->series.at != NULL ? 0 : -1;
}

void load__stats_done(struct stats *s)
{
    free(s->series.at);
    s->series.at = NULL;
}

static void merge(struct moment *into, const struct moment *a, const struct moment *b)
{
    struct moment m = *a;
    for (int i = 0; i < COUNTS_DRAWN; i++)
        m.n[i] += b->n[i];
    m.up = b->up;
    histogram_merge(&m.latency, &b->latency);
    *into = m;
}

static void widen(struct series *t)
{
    static const struct moment empty;
    for (uint32_t i = 0; i < t->count; i += 2) {
        struct moment none = empty;
        none.up = t->at[i].up;
        merge(&t->at[i / 2], &t->at[i], i + 1 < t->count ? &t->at[i + 1] : &none);
    }
    t->count = (t->count + 1) / 2;
    t->width *= 2;
}

struct moment *load__stats_moment(struct stats *s, mono_ns now)
{
    struct series *t = &s->series;
    uint64_t at = mono_since(now, t->began) / t->width;
    while (at >= SERIES_MAX) {
        widen(t);
        at = mono_since(now, t->began) / t->width;
    }
    while (t->count <= at) {
        struct moment *m = &t->at[t->count++];
        memset(m, 0, sizeof *m);
        m->up = s->up;
    }
    return &t->at[t->count - 1];
}

void load__stats_count(struct stats *s, enum load_count what, mono_ns now)
{
    s->n[what]++;
    if (what < COUNTS_DRAWN)
        load__stats_moment(s, now)->n[what]++;
}

void load__stats_up(struct stats *s, int by, mono_ns now)
{
    struct moment *m = load__stats_moment(s, now);
    s->up = (uint32_t)((int64_t)s->up + by);
    if (s->up > s->up_max)
        s->up_max = s->up;
    m->up = s->up;
}

void load__stats_latency(struct stats *s, dur_ns took, mono_ns now)
{
    histogram_add(&s->latency, took / NS_US);
    histogram_add(&load__stats_moment(s, now)->latency, took / NS_US);
}

void load__stats_status(struct stats *s, unsigned status)
{
    if (status < sizeof s->status / sizeof s->status[0])
        s->status[status]++;
    else
        s->other_status++;
}
