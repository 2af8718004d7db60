/* SPDX-License-Identifier: Apache-2.0
 *
 * The header lines of the 200 to a REGISTER. RFC 3261 10.3 step 8, 3327 5.3, 3608 6.4, 5626 6,
 * 5627 5.3. */
#include "registrar/registrar_int.h"

void registrar__put_gr(struct text *t, struct slice instance)
{
    static const char digits[] = "0123456789ABCDEF";
    TEXT_LIT(t, ";gr=");
    for (size_t i = 0; i < instance.n; i++) {
        unsigned char c = (unsigned char)instance.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        /* paramchar of RFC 3261 25.1. */
        if (is_alnum || (c != '\0' && memchr("-_.!~*'()[]/:&+$", c, 16) != NULL)) {
            text_put_char(t, (char)c);
        } else {
            text_put_char(t, '%');
            text_put_char(t, digits[c >> 4]);
            text_put_char(t, digits[c & 15]);
        }
    }
}

/* "sip:user@domain;gr=urn:uuid:…" */
static void put_gruu(struct text *t, struct slice aor, struct slice instance)
{
    size_t at = aor.n;
    while (aor.p[at - 1] != '@')
        at--;
    if (instance.n > 2 && instance.p[0] == '<')
        instance = (struct slice){instance.p + 1, instance.n - 2};
    TEXT_LIT(t, ";pub-gruu=\"sip:");
    registrar__put_user(t, slice_take(aor, at - 1));
    text_put_char(t, '@');
    text_put(t, slice_drop(aor, at));
    registrar__put_gr(t, instance);
    text_put_char(t, '"');
}

static void put_q(struct text *t, uint16_t q)
{
    if (q == 1000)
        return;
    TEXT_LIT(t, ";q=0.");
    for (unsigned weight = 100; weight > 0; weight /= 10)
        text_put_char(t, (char)('0' + q / weight % 10));
}

/* Whole seconds that are left, rounded up: what was granted a moment ago reads as granted. */
static uint64_t seconds_left(const struct binding *b, mono_ns now)
{
    return (mono_since(b->timer.at, now) + NS_S - 1) / NS_S;
}

static void put_contact(struct registrar *r, const struct binding *b, bool has_gruu, mono_ns now,
                        struct text *t)
{
    struct slice instance = registrar__instance(r, b);
    TEXT_LIT(t, "Contact: <");
    text_put(t, registrar__contact(r, b));
    TEXT_LIT(t, ">;expires=");
    text_put_u64(t, seconds_left(b, now));
    put_q(t, b->q);
    if (instance.n > 0) {
        TEXT_LIT(t, ";+sip.instance=\"");
        text_put(t, instance);
        text_put_char(t, '"');
    }
    if (b->reg_id != 0) {
        TEXT_LIT(t, ";reg-id=");
        text_put_u64(t, b->reg_id);
    }
    if (has_gruu && instance.n > 0)
        put_gruu(t, registrar__aor_name(r, registrar__aor(r, b->aor)), instance);
    TEXT_LIT(t, "\r\n");
}

/* ---- Date ------------------------------------------------------------------------------------ */

static void put_two(struct text *t, uint64_t v)
{
    text_put_char(t, (char)('0' + v / 10 % 10));
    text_put_char(t, (char)('0' + v % 10));
}

/* RFC 3261 20.17: "Sat, 13 Nov 2010 23:29:00 GMT". Years begin in March here, so that the odd day
 * is their last. */
static void put_date(struct text *t, uint64_t wall_s)
{
    static const char days[] = "ThuFriSatSunMonTueWed", months[] = "MarAprMayJunJulAugSepOctNovDec"
                                                                   "JanFeb";
    uint64_t day = wall_s / 86400, second = wall_s % 86400;
    uint64_t shifted = day + 719468; /* days since 1 March of the year 0 */
    uint64_t era = shifted / 146097, of_era = shifted % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t month = (5 * of_year + 2) / 153; /* 0 = March */
    uint64_t year = year_of_era + era * 400 + (month >= 10);
    TEXT_LIT(t, "Date: ");
    text_put(t, slice_of(days + day % 7 * 3, 3));
    TEXT_LIT(t, ", ");
    put_two(t, of_year - (153 * month + 2) / 5 + 1);
    text_put_char(t, ' ');
    text_put(t, slice_of(months + month * 3, 3));
    text_put_char(t, ' ');
    put_two(t, year / 100);
    put_two(t, year % 100);
    text_put_char(t, ' ');
    put_two(t, second / 3600);
    text_put_char(t, ':');
    put_two(t, second / 60 % 60);
    text_put_char(t, ':');
    put_two(t, second % 60);
    TEXT_LIT(t, " GMT\r\n");
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Was a flow of RFC 5626 bound by this very REGISTER? */
static bool used_outbound(struct registrar *r, const struct aor *a, const struct sip_msg *m,
                          const struct sip_facts *f)
{
    uint64_t call_id = registrar__call_id_hash(f->call_id);
    if (a == NULL || !registrar__has_option(m, SIP_H_SUPPORTED, SLICE("outbound")))
        return false;
    for (uint32_t slot = a->first; slot != REG_SLOT_NONE;) {
        const struct binding *b = registrar__binding(r, slot);
        if ((b->bits & BIND_OUTBOUND) && b->call_id == call_id && b->cseq == f->cseq)
            return true;
        slot = b->next;
    }
    return false;
}

static void put_path(const struct sip_msg *m, struct text *t)
{
    char bytes[REG_PATH_BYTES_MAX];
    struct arena own = arena_over(bytes, sizeof bytes);
    int status;
    struct slice path = registrar__path_of(m, &own, &status);
    if (path.n == 0 || !registrar__has_option(m, SIP_H_SUPPORTED, SLICE("path")))
        return;
    TEXT_LIT(t, "Path: ");
    text_put(t, path);
    TEXT_LIT(t, "\r\n");
}

static void put_lines(struct registrar *r, const struct aor *a, const struct sip_msg *m,
                      const struct sip_facts *f, mono_ns now, struct text *t)
{
    const struct registrar_opts *o = r->opts;
    bool has_gruu = registrar__has_option(m, SIP_H_SUPPORTED, SLICE("gruu"));
    for (uint32_t slot = a != NULL ? a->first : REG_SLOT_NONE; slot != REG_SLOT_NONE;) {
        const struct binding *b = registrar__binding(r, slot);
        slot = b->next;
        if (b->timer.at > now)
            put_contact(r, b, has_gruu, now, t);
    }
    if (o->service_route.n > 0) {
        TEXT_LIT(t, "Service-Route: ");
        text_put(t, o->service_route);
        TEXT_LIT(t, "\r\n");
    }
    TEXT_LIT(t, "Supported: path, outbound, gruu\r\n");
    if (!used_outbound(r, a, m, f))
        return;
    TEXT_LIT(t, "Require: outbound\r\n");
    if (o->flow_timer_s > 0) {
        TEXT_LIT(t, "Flow-Timer: ");
        text_put_u64(t, o->flow_timer_s);
        TEXT_LIT(t, "\r\n");
    }
}

struct slice registrar_answer_lines(struct registrar *r, const struct sip_msg *m,
                                    const struct sip_facts *f, const struct reg_origin *from,
                                    mono_ns now, uint64_t wall_ns, struct arena *scratch)
{
    char bytes[REGISTRAR_AOR_BYTES_MAX];
    struct text aor = text_into(bytes, sizeof bytes);
    struct sip_uri to;
    const struct aor *a = NULL;
    (void)from;
    if (sip_uri_parse(f->to_uri, &to) == 0 && registrar_aor(r->opts, &to, &aor) == 0)
        a = registrar__aor_find(r, text_slice(&aor));
    struct text t = registrar__scratch_text(scratch, scratch->cap);
    put_lines(r, a, m, f, now, &t);
    put_path(m, &t);
    put_date(&t, wall_ns / NS_S);
    return registrar__scratch_keep(scratch, &t);
}
