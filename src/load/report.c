/* SPDX-License-Identifier: Apache-2.0
 *
 * What came of a run, as a table to read and as one object of JSON. */
#include "load/load_int.h"

static const unsigned quantiles[] = {500, 900, 990, 999, 1000};
static const char *const quantile_names[] = {"p50", "p90", "p99", "p99.9", "max"};
enum { QUANTILES = 5 };

const char *load__report_us(uint64_t us, char bytes[24])
{
    if (us < 1000)
        (void)snprintf(bytes, 24, "%lluus", (unsigned long long)us);
    else if (us < 1000000)
        (void)snprintf(bytes, 24, "%.1fms", (double)us / 1e3);
    else
        (void)snprintf(bytes, 24, "%.2fs", (double)us / 1e6);
    return bytes;
}

static double per_second(uint64_t n, dur_ns took)
{
    return took > 0 ? (double)n / ((double)took / 1e9) : 0.0;
}

/* ---- a table ------------------------------------------------------------------------------------
 */

static void put_latency(FILE *out, const char *what, const struct histogram *h)
{
    char bytes[24];
    if (h->count == 0)
        return;
    fprintf(out, "%-22s", what);
    for (int i = 0; i < QUANTILES; i++)
        fprintf(out, " %9s", load__report_us(histogram_quantile(h, quantiles[i]), bytes));
    fprintf(out, " %9llu\n", (unsigned long long)h->count);
}

static void put_latencies(const struct load_opts *o, const struct stats *s, FILE *out)
{
    if (s->latency.count + s->connected.count == 0)
        return;
    fprintf(out, "\n%-22s", "LATENCY");
    for (int i = 0; i < QUANTILES; i++)
        fprintf(out, " %9s", quantile_names[i]);
    fprintf(out, " %9s\n", "count");
    put_latency(out, "connection", &s->connected);
    put_latency(out, o->kind == LOAD_PHONES ? "REGISTER to 200" : "INVITE to 200", &s->latency);
    put_latency(out, "added by what lies between", &s->added);
}

static void put_counts(const struct load_opts *o, const struct stats *s, FILE *out)
{
    for (int i = 0; i < COUNTS; i++)
        if (s->n[i] > 0 || i < COUNTS_DRAWN)
            fprintf(out, "%-32s %9llu\n", load__count_text(o, i), (unsigned long long)s->n[i]);
    for (unsigned i = 0; i < 700; i++)
        if (s->status[i] > 0)
            fprintf(out, "%-3u %-28.*s %9llu\n", i, SLICE_ARG(sip_reason((int)i)),
                    (unsigned long long)s->status[i]);
}

static void put_reached(const struct load_opts *o, const struct outcome *u, FILE *out)
{
    char bytes[24];
    if (o->kind != LOAD_PHONES)
        return;
    fputs("\nREGISTERED", out);
    for (int i = 0; i < 5; i++)
        fprintf(out, "  %g%% %s", load__outcome_permille[i] / 10.0,
                u->reached_at[i] == MONO_NONE ? "never"
                                              : load__report_us(u->reached_at[i] / NS_US, bytes));
    fputc('\n', out);
}

void load__report_table(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                        FILE *out)
{
    char bytes[24], place[128];
    struct text t = text_into(place, sizeof place);
    load__put_place(&t, &o->to);
    fprintf(out, "%s %.*s, %s%s\n\n",
            o->kind == LOAD_PHONES  ? "phones to"
            : o->kind == LOAD_CALLS ? "calls to"
                                    : "flood to",
            SLICE_ARG(text_slice(&t)), load__report_us(u->took / NS_US, bytes),
            u->interrupted ? ", interrupted" : "");
    if (o->kind == LOAD_FLOOD) {
        fprintf(out, "%-32s %9llu  %.0f/s\n%-32s %9llu\n", "sent", (unsigned long long)u->wire_out,
                per_second(u->wire_out, u->took), "packets that came back",
                (unsigned long long)u->wire_in);
    } else {
        put_counts(o, s, out);
        put_latencies(o, s, out);
        put_reached(o, u, out);
        fprintf(out, "\n%llu of %llu went well: %s of what was expected\n",
                (unsigned long long)u->reached, (unsigned long long)u->wanted,
                u->is_met ? "as much as or more than" : "less than");
    }
    fprintf(out, "this program: %.2f s of CPU (%.2f user, %.2f system), %.1f MB\n",
            u->cpu_user_s + u->cpu_system_s, u->cpu_user_s, u->cpu_system_s,
            (double)u->memory_bytes / 1e6);
}

/* ---- JSON ---------------------------------------------------------------------------------------
 */

static void json_latency(FILE *out, const char *name, const struct histogram *h)
{
    fprintf(out, ",\"%s\":{\"count\":%llu", name, (unsigned long long)h->count);
    for (int i = 0; i < QUANTILES; i++)
        fprintf(out, ",\"%s\":%llu", quantile_names[i],
                (unsigned long long)histogram_quantile(h, quantiles[i]));
    fputc('}', out);
}

static void json_series(const struct series *t, FILE *out)
{
    fprintf(out, ",\"series\":{\"every_ms\":%llu", (unsigned long long)(t->width / NS_MS));
    for (int k = 0; k < COUNTS_DRAWN; k++) {
        fprintf(out, ",\"%s\":[", load__count_key(k));
        for (uint32_t i = 0; i < t->count; i++)
            fprintf(out, "%s%u", i > 0 ? "," : "", t->at[i].n[k]);
        fputc(']', out);
    }
    fputs(",\"up\":[", out);
    for (uint32_t i = 0; i < t->count; i++)
        fprintf(out, "%s%u", i > 0 ? "," : "", t->at[i].up);
    fputs("],\"p99_us\":[", out);
    for (uint32_t i = 0; i < t->count; i++)
        fprintf(out, "%s%llu", i > 0 ? "," : "",
                (unsigned long long)histogram_quantile(&t->at[i].latency, 990));
    fputs("]}", out);
}

static void json_counts(const struct stats *s, FILE *out)
{
    bool first = true;
    for (int i = 0; i < COUNTS; i++)
        fprintf(out, ",\"%s\":%llu", load__count_key(i), (unsigned long long)s->n[i]);
    fputs(",\"status\":{", out);
    for (unsigned i = 0; i < 700; i++)
        if (s->status[i] > 0) {
            fprintf(out, "%s\"%u\":%llu", first ? "" : ",", i, (unsigned long long)s->status[i]);
            first = false;
        }
    fputc('}', out);
}

void load__report_json(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                       FILE *out)
{
    static const char *const reached[] = {"50", "90", "99", "99.9", "100"};
    char place[128];
    struct text t = text_into(place, sizeof place);
    load__put_place(&t, &o->to);
    fprintf(out, "{\"kind\":\"%s\",\"to\":\"%.*s\",\"seconds\":%.3f,\"interrupted\":%s",
            o->kind == LOAD_PHONES  ? "phones"
            : o->kind == LOAD_CALLS ? "calls"
                                    : "flood",
            SLICE_ARG(text_slice(&t)), (double)u->took / 1e9, u->interrupted ? "true" : "false");
    fprintf(out, ",\"wanted\":%llu,\"reached\":%llu,\"met\":%s", (unsigned long long)u->wanted,
            (unsigned long long)u->reached, u->is_met ? "true" : "false");
    fprintf(out, ",\"cpu_user_s\":%.3f,\"cpu_system_s\":%.3f,\"memory_bytes\":%llu", u->cpu_user_s,
            u->cpu_system_s, (unsigned long long)u->memory_bytes);
    if (o->kind == LOAD_FLOOD) {
        fprintf(out, ",\"sent\":%llu,\"came_back\":%llu}\n", (unsigned long long)u->wire_out,
                (unsigned long long)u->wire_in);
        return;
    }
    fprintf(out, ",\"up\":%u,\"up_max\":%u", s->up, s->up_max);
    json_counts(s, out);
    json_latency(out, "latency_us", &s->latency);
    json_latency(out, "connection_us", &s->connected);
    json_latency(out, "added_us", &s->added);
    if (o->kind == LOAD_PHONES) {
        fputs(",\"registered_s\":{", out);
        for (int i = 0; i < 5; i++) {
            fprintf(out, "%s\"%s\":", i > 0 ? "," : "", reached[i]);
            if (u->reached_at[i] == MONO_NONE)
                fputs("null", out);
            else
                fprintf(out, "%.3f", (double)u->reached_at[i] / 1e9);
        }
        fputc('}', out);
    }
    json_series(&s->series, out);
    fputs("}\n", out);
}
