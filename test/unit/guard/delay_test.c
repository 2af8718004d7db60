/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker and its queue on a clock of its own: messages come, wait, and cost more when they are
 * worked on than when they are shed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rig.h"

enum { SHED_US = 2 };

/* Shares of what comes, in permille, by class. */
static const unsigned usual_mix[CLASSES] = {50, 250, 300, 300, 60, 35, 5};

struct outcome {
    uint64_t came[CLASSES], served[CLASSES], shed[CLASSES];
    uint64_t in_window[1024]; /* served in each tenth of a second */
    unsigned windows;
    dur_ns waits_over_250ms, wait_max; /* of the served, after a second */
    mono_ns now;
};

struct load {
    double times; /* of what the worker can do */
    dur_ns cost;  /* of a request that is worked on */
    dur_ns lasts;
    const unsigned *mix;
};

static enum guard_class class_drawn(struct rig *r, const unsigned *mix)
{
    uint64_t at = prng_below(&r->prng, 1000);
    for (unsigned c = 0; c < CLASSES; c++) {
        if (at < mix[c])
            return c;
        at -= mix[c];
    }
    return CLASS_PROBE;
}

/* Offers `load` from `start` on; what still waits at its end is left. The queue needs no list: the
 * gaps between messages are drawn evenly from nothing to twice the average, in order. */
static void offer(struct rig *r, struct load load, struct outcome *o)
{
    mono_ns start = o->now > 0 ? o->now : NS_S, now = start, came = start;
    dur_ns gap = (dur_ns)((double)load.cost / load.times);
    while (now < start + load.lasts) {
        came += prng_below(&r->prng, 2 * gap + 1);
        if (came > now) {
            /* Nothing to do: it sleeps until the next one, at most for a tick. */
            while (came > now + 10 * NS_MS) {
                now += 10 * NS_MS;
                guard_waited(r->g, 0, 0, now);
            }
            now = came;
        }
        dur_ns waited = now - came;
        enum guard_class c = class_drawn(r, load.mix);
        guard_waited(r->g, 0, waited, now);
        o->came[c]++;
        if (guard_sheds(r->g, c, waited, now)) {
            o->shed[c]++;
            now += SHED_US * NS_US;
            continue;
        }
        o->served[c]++;
        now += load.cost;
        dur_ns since = now - start;
        if (since / (100 * NS_MS) < 1024)
            o->in_window[since / (100 * NS_MS)]++;
        if (since > NS_S) {
            o->waits_over_250ms += waited > 250 * NS_MS;
            o->wait_max = waited > o->wait_max ? waited : o->wait_max;
        }
    }
    o->windows = (unsigned)(load.lasts / (100 * NS_MS));
    o->now = now;
}

static uint64_t sum(const uint64_t *of)
{
    uint64_t all = 0;
    for (unsigned c = 0; c < CLASSES; c++)
        all += of[c];
    return all;
}

/* Served per second from the second second on, as a share of what a worker does that never sheds.
 */
static double goodput(const struct outcome *o, dur_ns cost)
{
    uint64_t done = 0;
    for (unsigned w = 10; w < o->windows; w++)
        done += o->in_window[w];
    return (double)done / (o->windows - 10) * 10 * (double)cost / (double)NS_S;
}

/* The share that is left for work when each of the shed costs its 2 µs. */
static double possible(double times, dur_ns cost)
{
    double r = (double)(SHED_US * NS_US) / (double)cost;
    return times <= 1 ? times : (1 - times * r) / (1 - r);
}

/* Goodput at 2, 5 and 10 times the capacity: 95, 90 and 80 % of the peak where the 2 µs of each
 * refusal leave that much, and nearly what they leave in any case. Nobody who is served waited
 * long, and the tenths of a second are alike: nothing swings. */
static void goodput_holds(void **state)
{
    (void)state;
    static const struct {
        double times;
        dur_ns cost;
        double least;
    } rows[] = {
        {0.5, 40 * NS_US, 0.495}, {0.9, 40 * NS_US, 0.89}, {1.2, 40 * NS_US, 0.97},
        {2, 40 * NS_US, 0.93},    {5, 40 * NS_US, 0.77},   {10, 40 * NS_US, 0.50},
        {2, 120 * NS_US, 0.95},   {5, 120 * NS_US, 0.90},  {10, 120 * NS_US, 0.80},
        {2, 400 * NS_US, 0.97},   {10, 400 * NS_US, 0.93},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_open(&r);
        /* In-dialog requests do not grow with what is only offered. */
        unsigned mix[CLASSES] = {50, 300, 300, 330, 10, 8, 2};
        struct outcome *o = calloc(1, sizeof *o);
        assert_non_null(o);
        offer(&r, (struct load){rows[i].times, rows[i].cost, 6 * NS_S, mix}, o);
        double got = goodput(o, rows[i].cost), most = possible(rows[i].times, rows[i].cost);
        uint64_t low = UINT64_MAX, high = 0;
        for (unsigned w = 10; w < o->windows; w++) {
            low = o->in_window[w] < low ? o->in_window[w] : low;
            high = o->in_window[w] > high ? o->in_window[w] : high;
        }
        if (getenv("WEIR_TEST_SAYS") != NULL)
            printf(
                "%4.1f x %3u us: goodput %.3f of %.3f possible, wait at most %.0f ms, a tenth of "
                "a second serves %u to %u, shed %u permille\n",
                rows[i].times, (unsigned)(rows[i].cost / NS_US), got, most,
                (double)o->wait_max / 1e6, (unsigned)low, (unsigned)high, guard_shed_permille(r.g));
        assert_true(got >= rows[i].least);
        assert_true(got >= 0.97 * most);
        assert_true(o->wait_max < 200 * NS_MS);
        if (rows[i].times <= 0.9)
            assert_int_equal(sum(o->shed), 0);
        assert_true((double)high - (double)low < 0.25 * (double)high + 20);
        assert_int_equal(o->shed[CLASS_IN_DIALOG] + o->shed[CLASS_FINISHES], 0);
        assert_int_equal(o->shed[CLASS_EMERGENCY], 0);
        free(o);
        rig_close(&r);
    }
}

/* A class is shed only while all below it are. */
static void by_value(void **state)
{
    (void)state;
    for (double times = 1.1; times < 12; times *= 1.4) {
        struct rig r;
        rig_open(&r);
        struct outcome *o = calloc(1, sizeof *o);
        assert_non_null(o);
        offer(&r, (struct load){times, 100 * NS_US, 3 * NS_S, usual_mix}, o);
        memset(o->came, 0, sizeof o->came);
        memset(o->shed, 0, sizeof o->shed);
        offer(&r, (struct load){times, 100 * NS_US, 3 * NS_S, usual_mix}, o);
        for (unsigned c = 1; c < CLASS_IN_DIALOG; c++) {
            double below = (double)o->shed[c - 1] / (double)o->came[c - 1];
            double here = (double)o->shed[c] / (double)o->came[c];
            assert_true(here <= below);
            if (here > 0.15)
                assert_true(below > 0.9);
        }
        uint64_t counted = 0;
        const struct guard_counters *n = guard_counters(r.g);
        for (unsigned c = 0; c < CLASS_IN_DIALOG; c++)
            counted += n->shed[c];
        assert_true(counted >= sum(o->shed));
        assert_int_equal(
            n->shed[CLASS_IN_DIALOG] + n->shed[CLASS_FINISHES] + n->shed[CLASS_EMERGENCY], 0);
        free(o);
        rig_close(&r);
    }
}

/* What may not be shed is more than the worker can do: all else is, and the level does not wind up:
 * when that is over, it is over soon. */
static void all_is_dear(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    r.opts.request_age_max = 0;
    static const unsigned dear[CLASSES] = {10, 10, 10, 10, 480, 480, 0};
    struct outcome o = {0};
    offer(&r, (struct load){1.5, 100 * NS_US, 3 * NS_S, dear}, &o);
    assert_int_equal(o.shed[CLASS_IN_DIALOG] + o.shed[CLASS_FINISHES], 0);
    assert_true(o.shed[CLASS_REFRESH] * 10 > o.came[CLASS_REFRESH] * 8);
    struct outcome after = {.now = o.now};
    offer(&r, (struct load){0.5, 100 * NS_US, NS_S, usual_mix}, &after);
    assert_int_equal(guard_shed_permille(r.g), 0);
    rig_close(&r);
}

/* From ten times the load to half of it: within half a second nothing is shed any more. From
 * nothing to ten times: the queue stays short. */
static void follows_fast(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    struct outcome o = {0}, half = {0}, again = {0};
    offer(&r, (struct load){10, 100 * NS_US, 3 * NS_S, usual_mix}, &o);
    assert_true(guard_shed_permille(r.g) > 850);
    assert_true(guard_delay(r.g) > r.opts.delay_target / 4);
    half.now = o.now;
    offer(&r, (struct load){0.5, 100 * NS_US, 500 * NS_MS, usual_mix}, &half);
    assert_int_equal(guard_shed_permille(r.g), 0);
    assert_true(guard_delay(r.g) < NS_MS);
    again.now = half.now;
    uint64_t before = guard_counters(r.g)->shed[CLASS_CALL];
    offer(&r, (struct load){0.5, 100 * NS_US, NS_S, usual_mix}, &again);
    assert_true(guard_counters(r.g)->shed[CLASS_CALL] == before);
    /* Idle for a while: the same without a message. */
    offer(&r, (struct load){10, 100 * NS_US, NS_S, usual_mix}, &again);
    assert_true(guard_shed_permille(r.g) > 800);
    guard_waited(r.g, 0, 0, again.now + 2 * NS_S);
    assert_int_equal(guard_shed_permille(r.g), 0);
    rig_close(&r);
}

/* A burst that is worked off within an interval is none of its business; nor is a worker that stood
 * still taken for an idle one. */
static void bursts_and_stalls(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = NS_S;
    for (unsigned i = 0; i < 200; i++) {
        now += 20 * NS_MS;
        for (unsigned k = 0; k < 100; k++) {
            guard_waited(r.g, 0, (100 - k) * NS_MS, now);
            assert_false(guard_sheds(r.g, CLASS_PROBE, (100 - k) * NS_MS, now));
        }
        guard_waited(r.g, 0, 0, now + NS_MS);
    }
    assert_int_equal(guard_shed_permille(r.g), 0);
    struct outcome o = {.now = now};
    offer(&r, (struct load){10, 100 * NS_US, 2 * NS_S, usual_mix}, &o);
    uint32_t level = guard_shed_permille(r.g);
    assert_true(level > 800);
    now = o.now + 3 * NS_S;
    guard_waited(r.g, 0, 3 * NS_S, now);
    assert_true(guard_shed_permille(r.g) >= level - 60);
    rig_close(&r);
}

static void age(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = 10 * NS_S;
    dur_ns t1 = 500 * NS_MS;
    for (unsigned c = 0; c < CLASSES; c++) {
        assert_false(guard_sheds(r.g, c, t1, now));
        bool goes = c < CLASS_IN_DIALOG;
        assert_int_equal(guard_sheds(r.g, c, t1 + NS_MS, now), goes);
        assert_int_equal(guard_sheds(r.g, c, 9 * t1, now), c <= CLASS_IN_DIALOG);
    }
    assert_int_equal(guard_counters(r.g)->aged, 4 + 5);
    r.opts.report_only = true;
    assert_false(guard_sheds(r.g, CLASS_CALL, 2 * t1, now));
    assert_int_equal(guard_counters(r.g)->aged, 10);
    r.opts.report_only = false;
    r.opts.request_age_max = 0;
    assert_false(guard_sheds(r.g, CLASS_CALL, 2 * t1, now));
    rig_close(&r);
}

/* Report-only counts what it would have shed, and sheds nothing. Without a target: nothing at all.
 */
static void report_only_and_off(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    r.opts.report_only = true;
    struct outcome o = {0};
    offer(&r, (struct load){1.3, 100 * NS_US, NS_S, usual_mix}, &o);
    assert_int_equal(sum(o.shed), 0);
    assert_true(guard_counters(r.g)->shed[CLASS_PROBE] > 100);
    rig_close(&r);
    rig_open(&r);
    r.opts.delay_target = 0;
    r.opts.request_age_max = 0;
    struct outcome off = {0};
    offer(&r, (struct load){3, 100 * NS_US, 2 * NS_S, usual_mix}, &off);
    assert_int_equal(sum(off.shed), 0);
    assert_int_equal(guard_shed_permille(r.g), 0);
    rig_close(&r);
}

/* Neighbours that keep back what they are asked to: the worker must hardly say no any more, what
 * they are told does not swing, and it ends with the overload. Its sequence grows. */
static void told_to_neighbours(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    struct outcome o = {0};
    uint64_t seq = 0, last_seq = 0;
    uint32_t told = 0, least = 100, most = 0;
    uint64_t came = 0, shed = 0;
    for (unsigned step = 0; step < 80; step++) {
        memset(o.came, 0, sizeof o.came);
        memset(o.shed, 0, sizeof o.shed);
        double kept = 3.0 * (100 - told) / 100;
        offer(&r, (struct load){kept, 100 * NS_US, 250 * NS_MS, usual_mix}, &o);
        uint32_t before = told;
        told = guard_loss_percent(r.g, &seq);
        assert_true(told <= 95 && seq >= last_seq);
        assert_true(told == before || seq > last_seq);
        last_seq = seq;
        if (step >= 60) {
            least = told < least ? told : least;
            most = told > most ? told : most;
            came += sum(o.came);
            shed += sum(o.shed);
        }
    }
    if (getenv("WEIR_TEST_SAYS") != NULL)
        printf("told %u to %u %%, shed %u of %u\n", least, most, (unsigned)shed, (unsigned)came);
    assert_true(least >= 45 && most <= 66 && most - least <= 15);
    assert_true(shed * 100 < came * 35);
    for (unsigned step = 0; step < 80; step++)
        offer(&r, (struct load){0.3, 100 * NS_US, 250 * NS_MS, usual_mix}, &o);
    assert_int_equal(guard_loss_percent(r.g, &seq), 0);
    assert_true(seq > last_seq);
    rig_close(&r);
}

/* A socket that is always empty says nothing of one where everybody waits. */
static void the_longest_queue_counts(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    mono_ns now = NS_S;
    for (unsigned i = 0; i < 500; i++) {
        now += NS_MS;
        guard_waited(r.g, 3, 0, now);
        guard_waited(r.g, 64, 100 * NS_MS, now);
        (void)guard_sheds(r.g, CLASS_CALL, 0, now);
    }
    assert_int_equal(guard_delay(r.g), 100 * NS_MS);
    assert_true(guard_shed_permille(r.g) > 500);
    rig_close(&r);
}

/* ---- dropped unheard ---------------------------------------------------------------------------
 */

/* New calls at a socket of 25 ms of work: 30 us each, 6 us to refuse one. What it cannot hold is
 * lost before it is read, and so is what the kernel is told to drop. Returns calls per second, in
 * permille of what can be done, after two seconds. */
static unsigned calls_done(struct rig *r, double times, dur_ns lasts)
{
    enum { WORK_US = 30, REFUSE_US = 6 };
    static const dur_ns buffer = 25 * NS_MS;
    mono_ns start = NS_S, now = start, came = start;
    dur_ns gap = (dur_ns)(WORK_US * 1000 / times);
    uint64_t done = 0;
    while (now < start + lasts) {
        uint64_t unheard = guard_unheard(r->g, now);
        came += prng_below(&r->prng, 2 * gap + 1);
        if (came + buffer < now)
            came = now - buffer;
        if (prng_below(&r->prng, 1ULL << 32) < unheard)
            continue;
        now = came > now ? came : now;
        dur_ns waited = now - came;
        guard_waited(r->g, 0, waited, now);
        if (guard_sheds(r->g, CLASS_CALL, waited, now)) {
            now += REFUSE_US * NS_US;
            continue;
        }
        now += WORK_US * NS_US;
        done += now > start + 2 * NS_S;
    }
    return (unsigned)(done * WORK_US * NS_US * 1000 / (lasts - 2 * NS_S));
}

static void what_cannot_even_be_refused_is_dropped(void **state)
{
    (void)state;
    static const struct {
        double times;
        unsigned drops, answers_all; /* permille of the peak: at least, at most */
    } rows[] = {{2, 880, 1000}, {5, 880, 600}, {10, 880, 300}, {30, 880, 300}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_open(&r);
        unsigned done = calls_done(&r, rows[i].times, 6 * NS_S);
        rig_close(&r);
        rig_open(&r);
        r.opts.drops_unheard = false;
        unsigned without = calls_done(&r, rows[i].times, 6 * NS_S);
        rig_close(&r);
        if (done < rows[i].drops || without > rows[i].answers_all)
            fail_msg("at %.0f times: %u, without %u", rows[i].times, done, without);
    }
}

static void nobody_is_unheard_for_long(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    assert_int_equal(guard_unheard(r.g, NS_S), 0);
    (void)calls_done(&r, 1.05, 4 * NS_S);
    assert_int_equal(guard_unheard(r.g, 5 * NS_S), 0); /* answers will do */
    rig_close(&r);
    rig_open(&r);
    (void)calls_done(&r, 20, 4 * NS_S);
    assert_true(guard_unheard(r.g, 5 * NS_S) > 1U << 30);
    assert_int_equal(guard_unheard(r.g, 12 * NS_S), 0); /* and nobody came meanwhile */
    rig_close(&r);
    rig_open(&r);
    r.opts.report_only = true;
    (void)calls_done(&r, 20, 4 * NS_S);
    assert_int_equal(guard_unheard(r.g, 5 * NS_S), 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goodput_holds),
        cmocka_unit_test(by_value),
        cmocka_unit_test(all_is_dear),
        cmocka_unit_test(follows_fast),
        cmocka_unit_test(bursts_and_stalls),
        cmocka_unit_test(age),
        cmocka_unit_test(report_only_and_off),
        cmocka_unit_test(told_to_neighbours),
        cmocka_unit_test(the_longest_queue_counts),
        cmocka_unit_test(what_cannot_even_be_refused_is_dropped),
        cmocka_unit_test(nobody_is_unheard_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
