/* SPDX-License-Identifier: Apache-2.0
 *
 * The report as one page: curves as SVG in it, light or dark as the reader's machine is. No script,
 * no other file, nothing that a peer chose. */
#include "load/load_int.h"

enum { WIDTH = 860, HEIGHT = 240, LEFT = 62, RIGHT = 12, TOP = 10, BOTTOM = 28, LINES_MAX = 6 };

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--soft:#5c6675;--grid:#e3e7ee;"
    "--c0:#2f6fde;--c1:#12a594;--c2:#3a9a3a;--c3:#d9480f;--c4:#c2255c;--c5:#8a63d2}"
    "@media(prefers-color-scheme:dark){:root{--bg:#12161d;--fg:#e6eaf0;--soft:#98a3b3;"
    "--grid:#28303c;--c0:#6ea8fe;--c1:#38d9c0;--c2:#69db7c;--c3:#ff922b;--c4:#f783ac;"
    "--c5:#b197fc}}"
    "body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;"
    "max-width:900px;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;margin:0}h2{font-size:1rem;margin:1.6rem 0 .3rem}"
    "p{color:var(--soft);margin:.2rem 0}table{border-collapse:collapse;margin:.6rem 0}"
    "td,th{padding:.15rem .8rem .15rem 0;text-align:left;border-bottom:1px solid var(--grid)}"
    "td+td,th+th{text-align:right;font-variant-numeric:tabular-nums}"
    "svg{width:100%;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}"
    "svg .g{stroke:var(--grid)}svg path{fill:none;stroke-width:1.6;stroke-linejoin:round}"
    ".k{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .35em 0 1em}";

/* One line of a chart: a value of each slice of time. */
struct curve {
    const char *name;
    double (*value)(const struct series *t, uint32_t i, int which);
    int which;
};

static double each_second(const struct series *t, uint32_t i, int which)
{
    return (double)t->at[i].n[which] / ((double)t->width / 1e9);
}

static double up_of(const struct series *t, uint32_t i, int which)
{
    (void)which;
    return (double)t->at[i].up;
}

static double latency_ms_of(const struct series *t, uint32_t i, int which)
{
    const struct histogram *h = &t->at[i].latency;
    return h->count == 0 ? -1 : (double)histogram_quantile(h, (unsigned)which) / 1e3;
}

/* The least of 1, 2, 5 times a power of ten that four steps of reach `max`. */
static double step_for(double max)
{
    double step = 1.0;
    while (step * 4 > max && step > 1e-3)
        step /= 10;
    while (step * 4 < max) {
        if (step * 8 >= max)
            return step * 2;
        if (step * 20 >= max)
            return step * 5;
        step *= 10;
    }
    return step;
}

static double x_of(double at, double span)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (span > 0 ? at / span : 0);
}

static double y_of(double v, double top)
{
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / top);
}

/* log10(1 + v), a bit of the result for each squaring: an avalanche and what trickles after it, in
 * one chart. */
static double decades(double v)
{
    double d = 0, part = 0.5;
    for (v += 1; v >= 10; v /= 10)
        d += 1;
    for (int i = 0; i < 16; i++, part /= 2) {
        v *= v;
        if (v >= 10) {
            v /= 10;
            d += part;
        }
    }
    return d;
}

/* What a chart shows: its curves, and whether they stand by decades. */
struct chart {
    const char *title;
    const struct curve *curves;
    int count;
    bool by_decades;
};

static double height_of(const struct chart *c, double v, double top)
{
    return c->by_decades ? y_of(decades(v), decades(top)) : y_of(v, top);
}

static void grid(FILE *out, const struct chart *c, double top, double seconds)
{
    double across = step_for(seconds * 0.6), step = c->by_decades ? 1 : step_for(top);
    for (double v = 0; v <= top * 1.001; v = c->by_decades && v > 0 ? v * 10 : v + step)
        fprintf(out, "<path class=g d='M%d %.1fH%d'/><text x=%d y=%.1f text-anchor=end>%g</text>\n",
                LEFT, height_of(c, v, top), WIDTH - RIGHT, LEFT - 6, height_of(c, v, top) + 4, v);
    for (double s = 0; s <= seconds; s += across)
        fprintf(out, "<text x=%.1f y=%d text-anchor=middle>%g s</text>\n", x_of(s, seconds),
                HEIGHT - 8, s);
}

static void draw(FILE *out, const struct series *t, const struct chart *c, int k, double top)
{
    const struct curve *curve = &c->curves[k];
    double span = (double)t->count * (double)t->width / 1e9;
    bool begins = true;
    fprintf(out, "<path style='stroke:var(--c%d)' d='", k);
    for (uint32_t i = 0; i < t->count; i++) {
        double v = curve->value(t, i, curve->which);
        if (v < 0) { /* nothing is known of this slice */
            begins = true;
            continue;
        }
        double x = x_of(((double)i + 0.5) * (double)t->width / 1e9, span);
        fprintf(out, "%c%.1f %.1f", begins ? 'M' : 'L', x, height_of(c, v, top));
        if (begins) /* a slice alone is to be seen, too */
            fputs("h.1", out);
        begins = false;
    }
    fprintf(out, "'><title>%s</title></path>\n", curve->name);
}

static double curve_max(const struct series *t, const struct curve *curve)
{
    double max = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        double v = curve->value(t, i, curve->which);
        max = v > max ? v : max;
    }
    return max;
}

static double top_of(const struct chart *c, double max)
{
    double top = 1, step = step_for(max);
    if (c->by_decades) {
        while (top < max)
            top *= 10;
        return top;
    }
    for (top = step; top < max;)
        top += step;
    return top;
}

static void put_chart(FILE *out, const struct series *t, const struct chart *c)
{
    double max = 1e-3;
    for (int k = 0; k < c->count; k++) {
        double v = curve_max(t, &c->curves[k]);
        max = v > max ? v : max;
    }
    double top = top_of(c, max);
    fprintf(out, "<h2>%s</h2><p>", c->title);
    for (int k = 0; k < c->count; k++)
        fprintf(out, "<span class=k style='background:var(--c%d)'></span>%s", k, c->curves[k].name);
    fprintf(out, "</p>\n<svg viewBox='0 0 %d %d' role=img aria-label='%s'>\n", WIDTH, HEIGHT,
            c->title);
    grid(out, c, top, (double)t->count * (double)t->width / 1e9);
    for (int k = 0; k < c->count; k++)
        if (curve_max(t, &c->curves[k]) > 0)
            draw(out, t, c, k, top);
    fputs("</svg>\n", out);
}

static void charts(const struct load_opts *o, const struct stats *s, FILE *out)
{
    const bool phones = o->kind == LOAD_PHONES;
    const struct curve rates[LINES_MAX] = {
        {phones ? "tried" : "offered", each_second, COUNT_offered},
        {phones ? "connected" : "ringing", each_second, COUNT_admitted},
        {phones ? "registered" : "answered", each_second, COUNT_ok},
        {"refused (503)", each_second, COUNT_refused},
        {"failed", each_second, COUNT_failed},
        {"again", each_second, COUNT_retries},
    };
    const struct curve ups[] = {{phones ? "registered" : "open", up_of, 0}};
    const struct curve latencies[] = {{"p50", latency_ms_of, 500}, {"p99", latency_ms_of, 990}};
    const struct chart all[] = {
        {phones ? "Each second, logarithmic" : "Calls each second, logarithmic", rates, LINES_MAX,
         true},
        {phones ? "Phones registered" : "Calls open", ups, 1, false},
        {phones ? "REGISTER to 200, ms" : "INVITE to 200, ms", latencies, 2, false},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        put_chart(out, &s->series, &all[i]);
}

static void put_row(FILE *out, const char *name, uint64_t n)
{
    fprintf(out, "<tr><td>%s</td><td>%llu</td></tr>\n", name, (unsigned long long)n);
}

static void tables(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                   FILE *out)
{
    static const unsigned quantiles[] = {500, 900, 990, 999, 1000};
    const struct histogram *h[] = {&s->connected, &s->latency, &s->added};
    static const char *const names[] = {"connection", "to 200", "added by what lies between"};
    char bytes[24];
    fputs("<h2>Latency</h2><table><tr><th><th>p50<th>p90<th>p99<th>p99.9<th>max<th>count</tr>\n",
          out);
    for (int k = 0; k < 3; k++) {
        if (h[k]->count == 0)
            continue;
        fprintf(out, "<tr><td>%s</td>", names[k]);
        for (int i = 0; i < 5; i++)
            fprintf(out, "<td>%s</td>",
                    load__report_us(histogram_quantile(h[k], quantiles[i]), bytes));
        fprintf(out, "<td>%llu</td></tr>\n", (unsigned long long)h[k]->count);
    }
    fputs("</table>\n<h2>Counts</h2><table>\n", out);
    for (int i = 0; i < COUNTS; i++)
        if (s->n[i] > 0 || i < COUNTS_DRAWN)
            put_row(out, load__count_text(o, i), s->n[i]);
    for (unsigned i = 0; i < 700; i++)
        if (s->status[i] > 0) {
            (void)snprintf(bytes, sizeof bytes, "answers %u", i);
            put_row(out, bytes, s->status[i]);
        }
    fputs("</table>\n", out);
    for (int i = 0; o->kind == LOAD_PHONES && i < 5; i++)
        if (u->reached_at[i] != MONO_NONE)
            fprintf(out, "<p>%g%% registered after %s</p>\n", load__outcome_permille[i] / 10.0,
                    load__report_us(u->reached_at[i] / NS_US, bytes));
}

void load__report_html(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                       FILE *out)
{
    char place[128], took[24];
    struct text t = text_into(place, sizeof place);
    load__put_place(&t, &o->to);
    const char *what = o->kind == LOAD_PHONES ? "Phones" : "Calls";
    fprintf(out,
            "<!doctype html>\n<html lang=en><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width'>\n<title>%s to %.*s</title>\n"
            "<style>%s</style>\n<h1>%s to %.*s</h1>\n",
            what, SLICE_ARG(text_slice(&t)), style, what, SLICE_ARG(text_slice(&t)));
    fprintf(out, "<p>%llu of %llu went well in %s%s. The load itself took %.2f s of CPU.</p>\n",
            (unsigned long long)u->reached, (unsigned long long)u->wanted,
            load__report_us(u->took / NS_US, took), u->interrupted ? ", interrupted" : "",
            u->cpu_user_s + u->cpu_system_s);
    charts(o, s, out);
    tables(o, s, u, out);
    fputs("</html>\n", out);
}
