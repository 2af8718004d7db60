/* SPDX-License-Identifier: Apache-2.0
 *
 * sim --avalanche: runs histories, says what their curves say, and draws them. */
#include <stdlib.h>
#include "avalanche.h"

enum {
    MEAN_S = 5,    /* seconds over which what is offered is averaged */
    WAVE_PART = 4, /* a later wave counts from a quarter of the first on */
    EXIT_BROKEN = 1,
    EXIT_USAGE = 64,
};

static const char *const mode_name[AV_MODES] = {"defaults", "no admission", "one Retry-After"};
static const char *const mode_file[AV_MODES] = {"with", "without", "one-retry-after"};

/* ---- what the curves say --------------------------------------------------------------------- */

static uint32_t mean_offered(const struct av_world *w, uint32_t s)
{
    uint64_t sum = 0;
    for (uint32_t i = s; i < s + MEAN_S; i++)
        sum += w->second[i].offered;
    return (uint32_t)(sum / MEAN_S);
}

/* A wave that comes again: it had fallen to less than half of what it rises to. */
static void judge_waves(const struct av_world *w, struct av_verdict *v)
{
    uint32_t least = UINT32_MAX, last = w->setup.seconds - MEAN_S;
    v->first_peak = mean_offered(w, AV_DEATH_S);
    for (uint32_t s = AV_DEATH_S + 1; s <= last; s++) {
        uint32_t m = mean_offered(w, s);
        least = m < least ? m : least;
        if (m / 2 > least || m > v->first_peak)
            v->second_peak = m > v->second_peak ? m : v->second_peak;
    }
    v->second_wave = v->second_peak > v->first_peak / WAVE_PART;
}

struct av_verdict av_judge(const struct av_world *w)
{
    struct av_verdict v = {0};
    uint64_t calls = 0, served = 0;
    uint32_t most = 0;
    judge_waves(w, &v);
    for (uint32_t s = 0; s < w->setup.seconds; s++) {
        const struct av_second *at = &w->second[s];
        calls += at->calls;
        served += at->calls_served;
        v.lost += at->lost;
        if (s < AV_DEATH_S + 1)
            continue;
        if (at->registered < most && most - at->registered > v.fallen)
            v.fallen = most - at->registered;
        most = at->registered > most ? at->registered : most;
        if (v.in_99_s == 0 && at->registered >= w->setup.phones / 100 * 99)
            v.in_99_s = s + 1 - AV_DEATH_S;
        if (v.all_s == 0 && at->registered == w->setup.phones)
            v.all_s = s + 1 - AV_DEATH_S;
    }
    v.calls_failed_permille = calls > 0 ? (uint32_t)((calls - served) * 1000 / calls) : 0;
    return v;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void write_table(const struct av_world *w, uint32_t every)
{
    printf("%6s %10s %10s %10s %9s %9s %9s %8s %8s %8s\n", "second", "registered", "offered/s",
           "regist./s", "handsh./s", "wasted/s", "503/s", "lost/s", "calls %", "wait ms");
    for (uint32_t s = 0; s + every <= w->setup.seconds; s += every) {
        struct av_second sum = {0};
        for (uint32_t i = s; i < s + every; i++) {
            const struct av_second *at = &w->second[i];
            sum.offered += at->offered, sum.done += at->done, sum.handshakes += at->handshakes;
            sum.wasted += at->wasted, sum.refused += at->refused, sum.lost += at->lost;
            sum.calls += at->calls, sum.calls_served += at->calls_served;
            sum.wait_ms = at->wait_ms > sum.wait_ms ? at->wait_ms : sum.wait_ms;
            sum.registered = at->registered;
        }
        printf("%6d %10u %10u %10u %9u %9u %9u %8u %8.1f %8u\n", (int)s - AV_DEATH_S,
               sum.registered, sum.offered / every, sum.done / every, sum.handshakes / every,
               sum.wasted / every, sum.refused / every, sum.lost / every,
               100.0 * sum.calls_served / (sum.calls > 0 ? sum.calls : 1), sum.wait_ms);
    }
}

static void write_verdict(const struct av_world *w, const struct av_verdict *v)
{
    printf("%s: ", mode_name[w->setup.mode]);
    if (v->all_s > 0)
        printf("99 %% registered after %u s, all after %u s", v->in_99_s, v->all_s);
    else
        printf("not all are registered after %u s (%u of %u)", w->setup.seconds - AV_DEATH_S,
               w->registered, w->setup.phones);
    printf("; first wave %u/s, ", v->first_peak);
    if (v->second_wave)
        printf("SECOND WAVE of %u/s", v->second_peak);
    else
        printf("no second wave");
    printf("; %u flows lost, %.1f %% of call requests late or refused (%llu engine steps, trace "
           "%016llx)\n",
           v->lost, v->calls_failed_permille / 10.0, (unsigned long long)w->steps,
           (unsigned long long)w->hash);
}

static int write_csv(const struct av_world *w, const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        perror(path);
        return -1;
    }
    fputs("second,registered,offered,done,handshakes,wasted,refused,lost,calls,calls_served,"
          "wait_ms\n",
          f);
    for (uint32_t s = 0; s < w->setup.seconds; s++) {
        const struct av_second *a = &w->second[s];
        fprintf(f, "%d,%u,%u,%u,%u,%u,%u,%u,%u,%u,%u\n", (int)s - AV_DEATH_S, a->registered,
                a->offered, a->done, a->handshakes, a->wasted, a->refused, a->lost, a->calls,
                a->calls_served, a->wait_ms);
    }
    return fclose(f) == 0 ? 0 : -1;
}

/* ---- pictures -------------------------------------------------------------------------------- */

enum {
    WIDE = 720,
    HIGH = 340,
    LEFT = 72,
    RIGHT = 16,
    SHARE_TOP = 48, /* upper panel: in percent */
    SHARE_HIGH = 100,
    RATE_TOP = 184, /* lower: per second, in powers of ten */
    RATE_HIGH = 126,
    DECADES_FROM = 1,
    DECADES_TO = 6,
    SMOOTH_S = 2, /* hasty phones come every two seconds, all at once */
};

static const char style[] =
    "<style>text{fill:#57606a}.t{font-size:13px;font-weight:600}.r{text-anchor:end}"
    ".m{text-anchor:middle}.g{stroke:#8886;stroke-width:.5}.d{stroke:#888;stroke-dasharray:3 3}"
    ".c{fill:none;stroke-width:1.6}path.p{stroke:#2da44e}path.o{stroke:#d1762c}"
    "path.w{stroke:#cf222e;stroke-width:1}path.n{stroke:#2f81f7}path.k{stroke:#8250df}"
    "tspan.p{fill:#2da44e}tspan.o{fill:#d1762c}tspan.w{fill:#cf222e}tspan.n{fill:#2f81f7}"
    "tspan.k{fill:#8250df}"
    "@media(prefers-color-scheme:dark){text{fill:#9da7b3}path.k{stroke:#a371f7}"
    "tspan.k{fill:#a371f7}}</style>\n";

static double x_of(const struct av_world *w, uint32_t s)
{
    return LEFT + (double)s * (WIDE - LEFT - RIGHT) / (w->setup.seconds - 1);
}

static double y_of_share(double share)
{
    return SHARE_TOP + SHARE_HIGH * (1 - share);
}

/* log10 without a library, for a picture: ln v = 2 atanh((v − 1) / (v + 1)) near 1. */
static double log10_of(double v)
{
    double whole = 0, ln = 0;
    for (; v >= 10; v /= 10)
        whole++;
    for (; v > 1.5; v /= 2)
        ln += 0.69314718056;
    double z = (v - 1) / (v + 1), zz = z * z;
    ln += 2 * z * (1 + zz * (1.0 / 3 + zz * (1.0 / 5 + zz / 7)));
    return whole + ln / 2.30258509299;
}

static double y_of_decade(double d)
{
    d = d < DECADES_FROM ? DECADES_FROM : d > DECADES_TO ? DECADES_TO : d;
    return RATE_TOP + RATE_HIGH - RATE_HIGH * (d - DECADES_FROM) / (DECADES_TO - DECADES_FROM);
}

static double y_of_rate(double v)
{
    return y_of_decade(v < 10 ? DECADES_FROM : log10_of(v));
}

static void draw_line(FILE *f, double y, const char *says)
{
    fprintf(f,
            "<path class=\"g\" d=\"M%d %.1fH%d\"/>"
            "<text x=\"%d\" y=\"%.1f\" class=\"r\">%s</text>\n",
            LEFT, y, WIDE - RIGHT, LEFT - 6, y + 4, says);
}

static void draw_frame(FILE *f, const struct av_world *w)
{
    static const char *const share[] = {"0 %", "50 %", "100 %"};
    static const char *const rate[] = {"10", "100", "1,000", "10,000", "100,000", "1,000,000"};
    for (unsigned i = 0; i < 3; i++)
        draw_line(f, y_of_share(i / 2.0), share[i]);
    for (unsigned d = DECADES_FROM; d <= DECADES_TO; d++)
        draw_line(f, y_of_decade(d), rate[d - DECADES_FROM]);
    for (uint32_t s = AV_DEATH_S; s < w->setup.seconds; s += 30)
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"m\">%u s</text>\n", x_of(w, s),
                RATE_TOP + RATE_HIGH + 18, s - AV_DEATH_S);
    fprintf(f, "<path class=\"d\" d=\"M%.1f %dV%d\"/>\n", x_of(w, AV_DEATH_S), SHARE_TOP - 4,
            RATE_TOP + RATE_HIGH);
}

/* The mean of this second and those before it. */
static double y_of(const struct av_world *w, char which, uint32_t s)
{
    struct av_second a = {0};
    uint32_t from = s + 1 >= SMOOTH_S ? s + 1 - SMOOTH_S : 0;
    for (uint32_t i = from; i <= s; i++) {
        a.offered += w->second[i].offered;
        a.done += w->second[i].done;
        a.wasted += w->second[i].wasted + w->second[i].refused;
        a.calls += w->second[i].calls;
        a.calls_served += w->second[i].calls_served;
    }
    switch (which) {
    case 'p':
        return y_of_share((double)w->second[s].registered / w->setup.phones);
    case 'k':
        return y_of_share(a.calls_served >= a.calls ? 1 : (double)a.calls_served / a.calls);
    case 'o':
        return y_of_rate((double)a.offered / SMOOTH_S);
    case 'w':
        return y_of_rate((double)a.wasted / SMOOTH_S);
    default:
        return y_of_rate((double)a.done / SMOOTH_S);
    }
}

static void draw_curve(FILE *f, const struct av_world *w, char which)
{
    fprintf(f, "<path class=\"c %c\" d=\"", which);
    for (uint32_t s = 0; s < w->setup.seconds; s++)
        fprintf(f, "%c%.0f %.1f", s == 0 ? 'M' : 'L', x_of(w, s), y_of(w, which, s));
    fputs("\"/>\n", f);
}

static void draw_words(FILE *f, const struct av_world *w, const struct av_verdict *v)
{
    static const char *const title[AV_MODES] = {"With the defaults", "Without admission",
                                                "One Retry-After for all"};
    uint32_t n = w->setup.phones;
    fprintf(f,
            "<text x=\"%d\" y=\"18\" class=\"t\">%s: one of six regions dies, %u,%03u,%03u phones"
            "</text>\n<text x=\"%d\" y=\"36\"><tspan class=\"p\">registered</tspan> (",
            LEFT, title[w->setup.mode], n / 1000000, n / 1000 % 1000, n % 1000, LEFT);
    if (v->all_s > 0)
        fprintf(f, "99 %% after %u s, all after %u s", v->in_99_s, v->all_s);
    else
        fprintf(f, "%.0f %% at the end", 100.0 * w->registered / w->setup.phones);
    fprintf(f,
            "), <tspan class=\"k\">requests of calls answered in time</tspan></text>\n"
            "<text x=\"%d\" y=\"%d\">per second: <tspan class=\"o\">attempts</tspan>, "
            "<tspan class=\"n\">registrations</tspan>, <tspan class=\"w\">refused or in vain"
            "</tspan></text>\n",
            LEFT, RATE_TOP - 12);
}

static int write_svg(const struct av_world *w, const struct av_verdict *v, const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/avalanche-%s.svg", folder, mode_file[w->setup.mode]);
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        perror(path);
        return -1;
    }
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"system-ui,sans-serif\" font-size=\"11\">\n"
            "<!-- make sim AVALANCHE=1 SEED=%llu: %u phones -->\n",
            WIDE, HIGH, WIDE, HIGH, (unsigned long long)w->setup.seed, w->setup.phones);
    fputs(style, f);
    draw_words(f, w, v);
    draw_frame(f, w);
    for (const char *c = "wonkp"; *c != '\0'; c++)
        draw_curve(f, w, *c);
    fputs("</svg>\n", f);
    return fclose(f) == 0 ? 0 : -1;
}

/* ---- the command ------------------------------------------------------------------------------
 */

struct wish {
    struct av_setup setup;
    uint32_t every;
    bool only_one, check;
    const char *csv, *svg;
};

static int usage(void)
{
    fputs(
        "usage: sim --avalanche [--seed N] [--phones N] [--seconds N] [--mode with|without|same]\n"
        "                       [--every SECONDS] [--check] [--csv PREFIX] [--svg FOLDER]\n"
        "example: sim --avalanche --seed 7 --svg docs/images\n",
        stderr);
    return EXIT_USAGE;
}

static bool number(const char *text, uint64_t least, uint64_t most, uint64_t *ret)
{
    return text_parse_u64(slice_cstr(text), most, ret) == 0 && *ret >= least;
}

/* One option and its value; true when it was understood. */
static bool take(struct wish *w, const char *option, const char *value, int *used)
{
    static const char *const modes[AV_MODES] = {"with", "without", "same"};
    uint64_t n;
    *used = 2;
    if (strcmp(option, "--check") == 0) {
        w->check = true;
        *used = 1;
    } else if (strcmp(option, "--seed") == 0 && number(value, 0, UINT64_MAX - 1, &n)) {
        w->setup.seed = n;
    } else if (strcmp(option, "--phones") == 0 && number(value, 6000, 4000000, &n)) {
        w->setup.phones = (uint32_t)n;
    } else if (strcmp(option, "--seconds") == 0 && number(value, 60, AV_SECONDS_MAX, &n)) {
        w->setup.seconds = (uint32_t)n;
    } else if (strcmp(option, "--every") == 0 && number(value, 1, 60, &n)) {
        w->every = (uint32_t)n;
    } else if (strcmp(option, "--csv") == 0 && *value != '\0') {
        w->csv = value;
    } else if (strcmp(option, "--svg") == 0 && *value != '\0') {
        w->svg = value;
    } else if (strcmp(option, "--mode") == 0) {
        w->only_one = true;
        for (unsigned m = 0; m < AV_MODES; m++)
            if (strcmp(value, modes[m]) == 0) {
                w->setup.mode = m;
                return true;
            }
        return false;
    } else {
        return false;
    }
    return true;
}

/* One history; false when it could not be written. */
static bool show(const struct wish *wish, struct av_verdict *ret)
{
    struct av_world *w = av_run(&wish->setup);
    bool fine = true;
    char path[512];
    *ret = av_judge(w);
    if (!wish->check) {
        write_table(w, wish->every);
    }
    write_verdict(w, ret);
    if (wish->csv != NULL) {
        snprintf(path, sizeof path, "%s-%s.csv", wish->csv, mode_file[wish->setup.mode]);
        fine = write_csv(w, path) == 0;
    }
    if (wish->svg != NULL)
        fine = write_svg(w, ret, wish->svg) == 0 && fine;
    av_free(w);
    return fine;
}

int av_main(int argc, char **argv)
{
    struct wish wish = {.setup = {.seed = 1, .phones = 1000000, .seconds = 130}, .every = 5};
    for (int i = 0, used; i < argc; i += used)
        if (!take(&wish, argv[i], i + 1 < argc ? argv[i + 1] : "", &used) || i + used > argc)
            return usage();
    /* As many phones for each worker's second, whatever their number. */
    wish.setup.edges_per_region = wish.setup.phones >= 500000 ? 2 : 1;
    uint32_t usual = 500000 * wish.setup.edges_per_region;
    wish.setup.engine_every = 5;
    wish.setup.slower = wish.setup.phones >= usual ? 1 : usual / wish.setup.phones;
    bool as_it_should = true;
    enum av_mode only = wish.setup.mode;
    for (unsigned m = 0; m < AV_MODES; m++) {
        struct av_verdict v;
        if (wish.only_one && m != (unsigned)only)
            continue;
        wish.setup.mode = m;
        if (!show(&wish, &v))
            return EXIT_BROKEN;
        bool holds = !v.second_wave && v.all_s > 0 && v.lost == 0;
        as_it_should = as_it_should && holds == (m == AV_DEFAULTS);
    }
    return wish.check && !as_it_should ? EXIT_BROKEN : 0;
}
