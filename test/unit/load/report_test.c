/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts over time, and the three ways in which they are told.
 * covers: load/stats.c, load/report.c, load/html.c */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "load/load_int.h"

static struct stats s;

static int setup(void **state)
{
    (void)state;
    return load__stats_init(&s, 5 * NS_S);
}

static int teardown(void **state)
{
    (void)state;
    load__stats_done(&s);
    return 0;
}

static void test_slices_of_time(void **state)
{
    (void)state;
    load__stats_count(&s, COUNT_offered, 5 * NS_S);
    load__stats_count(&s, COUNT_offered, 5 * NS_S + 99 * NS_MS);
    load__stats_count(&s, COUNT_offered, 5 * NS_S + 100 * NS_MS);
    load__stats_up(&s, 1, 5 * NS_S + 150 * NS_MS);
    load__stats_count(&s, COUNT_pings, 5 * NS_S + 150 * NS_MS); /* not drawn */
    load__stats_count(&s, COUNT_ok, 5 * NS_S + 450 * NS_MS);
    assert_int_equal(s.series.count, 5);
    assert_int_equal(s.series.at[0].n[COUNT_offered], 2);
    assert_int_equal(s.series.at[1].n[COUNT_offered], 1);
    assert_int_equal(s.series.at[0].up, 0);
    assert_int_equal(s.series.at[3].up, 1); /* nothing happened: it stays */
    assert_int_equal(s.series.at[4].n[COUNT_ok], 1);
    assert_int_equal(s.n[COUNT_offered], 3);
    assert_int_equal(s.n[COUNT_pings], 1);
}

/* However long it runs: no more slices than there are, and nothing lost. */
static void test_long_runs_have_wide_slices(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms < 250000; ms += 50) {
        load__stats_count(&s, COUNT_offered, 5 * NS_S + ms * NS_MS);
        load__stats_latency(&s, ms * NS_US, 5 * NS_S + ms * NS_MS);
    }
    assert_true(s.series.count <= SERIES_MAX);
    assert_int_equal(s.series.width, 800 * NS_MS);
    uint64_t offered = 0, latencies = 0;
    for (uint32_t i = 0; i < s.series.count; i++) {
        offered += s.series.at[i].n[COUNT_offered];
        latencies += s.series.at[i].latency.count;
    }
    assert_int_equal(offered, 5000);
    assert_int_equal(latencies, 5000);
    assert_int_equal(s.series.at[0].n[COUNT_offered], 16);
    /* A day later, at one stroke. */
    load__stats_count(&s, COUNT_offered, 5 * NS_S + 86400 * NS_S);
    assert_true(s.series.count <= SERIES_MAX);
    assert_int_equal(s.series.at[0].n[COUNT_offered], 4096); /* 204.8 s */
    assert_int_equal(s.series.at[1].n[COUNT_offered], 5000 - 4096);
    assert_int_equal(s.series.at[s.series.count - 1].n[COUNT_offered], 1);
}

static char *told(void (*fn)(const struct load_opts *, const struct stats *, const struct outcome *,
                             FILE *),
                  enum load_kind kind)
{
    struct load_opts o = {.kind = kind, .expect_permille = 1000};
    struct outcome u = {.wanted = 10, .reached = 9, .took = 3 * NS_S, .cpu_user_s = 0.25};
    char *bytes = NULL;
    size_t n = 0;
    for (int i = 0; i < 5; i++)
        u.reached_at[i] = MONO_NONE;
    u.reached_at[0] = NS_S;
    u.reached_at[1] = 2 * NS_S;
    assert_int_equal(load__place(SLICE("tcp://127.0.0.1:5060"), &o.to), 0);
    FILE *f = open_memstream(&bytes, &n);
    fn(&o, &s, &u, f);
    fclose(f);
    return bytes;
}

static void fill(void)
{
    for (unsigned i = 0; i < 10; i++) {
        mono_ns at = 5 * NS_S + i * 200 * NS_MS;
        load__stats_count(&s, COUNT_offered, at);
        load__stats_latency(&s, (i + 1) * NS_MS, at);
        load__stats_status(&s, i == 0 ? 503 : 200);
    }
    load__stats_status(&s, 700);
    load__stats_status(&s, UINT32_MAX);
}

static void wants(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no %s in:\n%s", part, text);
}

static void test_table(void **state)
{
    (void)state;
    fill();
    char *text = told(load__report_table, LOAD_PHONES);
    wants(text, "phones to tcp://127.0.0.1:5060, 3.00s");
    wants(text, "registrations tried                     10");
    wants(text, "503 Service Unavailable                  1");
    wants(text, "REGISTERED  50% 1.00s  90% 2.00s  99% never");
    wants(text, "9 of 10 went well: less than");
    free(text);
    text = told(load__report_table, LOAD_CALLS);
    wants(text, "INVITE to 200");
    wants(text, "calls offered                           10");
    free(text);
    text = told(load__report_table, LOAD_FLOOD);
    wants(text, "packets that came back");
    free(text);
}

static void test_json(void **state)
{
    (void)state;
    fill();
    char *text = told(load__report_json, LOAD_PHONES);
    wants(text, "{\"kind\":\"phones\",\"to\":\"tcp://127.0.0.1:5060\",\"seconds\":3.000,");
    wants(text, "\"met\":false");
    wants(text, "\"status\":{\"200\":9,\"503\":1}");
    wants(text, "\"latency_us\":{\"count\":10,\"p50\":5");
    wants(text, "\"registered_s\":{\"50\":1.000,\"90\":2.000,\"99\":null,");
    wants(text, "\"series\":{\"every_ms\":100,\"offered\":[1,0,1,0,");
    int depth = 0;
    for (const char *p = text; *p != '\0'; p++)
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
    assert_int_equal(depth, 0);
    free(text);
}

static void test_html(void **state)
{
    (void)state;
    fill();
    for (int k = 0; k < 2; k++) {
        char *text = told(load__report_html, k == 0 ? LOAD_PHONES : LOAD_CALLS);
        wants(text, "<!doctype html>");
        wants(text, "prefers-color-scheme:dark");
        wants(text, k == 0 ? "Phones registered" : "Calls open");
        assert_null(strstr(text, "<script"));
        assert_null(strstr(text, "http"));
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf"));
        int svg = 0;
        for (const char *p = text; (p = strstr(p, "<svg ")) != NULL; p++)
            svg++;
        assert_int_equal(svg, 3);
        free(text);
    }
}

/* A run that ended before anything happened. */
static void test_nothing_happened(void **state)
{
    (void)state;
    free(told(load__report_table, LOAD_CALLS));
    free(told(load__report_json, LOAD_CALLS));
    char *text = told(load__report_html, LOAD_CALLS);
    assert_null(strstr(text, "nan"));
    free(text);
}

static void test_spans_are_readable(void **state)
{
    char bytes[24];
    (void)state;
    assert_string_equal(load__report_us(999, bytes), "999us");
    assert_string_equal(load__report_us(1500, bytes), "1.5ms");
    assert_string_equal(load__report_us(2500000, bytes), "2.50s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_slices_of_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_runs_have_wide_slices, setup, teardown),
        cmocka_unit_test_setup_teardown(test_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_html, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_happened, setup, teardown),
        cmocka_unit_test(test_spans_are_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
