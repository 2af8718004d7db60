/* SPDX-License-Identifier: Apache-2.0
 *
 * Names in certificates: which domains one proves (RFC 5922 7.1), and which SNI chooses it. A name
 * that is no host name is no name: what would go on a log line or into a comparison of ours must
 * not hold blanks, NULs or anything else that a certificate authority let pass. */
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include "net/tls_int.h"

enum { NAME_BYTES_MAX = 255 };

struct visit {
    void (*each)(void *ctx, struct slice name);
    void *ctx;
    bool has_wildcards;
    size_t found;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static void visit_name(struct visit *v, struct slice raw)
{
    char name[NAME_BYTES_MAX];
    if (raw.n == 0 || raw.n > sizeof name)
        return;
    for (size_t i = 0; i < raw.n; i++) {
        name[i] = lower(raw.p[i]);
        bool is_wildcard =
            v->has_wildcards && i == 0 && name[0] == '*' && raw.n > 2 && raw.p[1] == '.';
        if (!is_host_char(name[i]) && !is_wildcard)
            return;
    }
    v->found++;
    v->each(v->ctx, slice_of(name, raw.n));
}

static struct slice string_bytes(const ASN1_STRING *s)
{
    return slice_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

/* The host of a sip: URI without a user; one with a user names a person (RFC 5922 7.1). */
static void visit_sip_uri(struct visit *v, struct slice uri)
{
    if (uri.n < 4 || !slice_equal_nocase(slice_take(uri, 4), SLICE("sip:")) ||
        slice_find(uri, '@') < uri.n)
        return;
    struct slice host = slice_drop(uri, 4);
    host = slice_take(host, slice_find(host, ';'));
    host = slice_take(host, slice_find(host, '?'));
    visit_name(v, slice_take(host, slice_find(host, ':')));
}

static void visit_uris(struct visit *v, const GENERAL_NAMES *names)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type == GEN_URI)
            visit_sip_uri(v, string_bytes(g->d.uniformResourceIdentifier));
    }
}

static void visit_dns(struct visit *v, const GENERAL_NAMES *names)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type == GEN_DNS)
            visit_name(v, string_bytes(g->d.dNSName));
    }
}

static void visit_cn(struct visit *v, X509 *x)
{
    const X509_NAME *subject = X509_get_subject_name(x);
    int last = -1;
    for (int i = -1; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;)
        last = i;
    if (last >= 0)
        visit_name(v, string_bytes(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last))));
}

static GENERAL_NAMES *alt_names(X509 *x)
{
    return (GENERAL_NAMES *)X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
}

void tls_names(X509 *x, void (*each)(void *ctx, struct slice name), void *ctx)
{
    struct visit v = {.each = each, .ctx = ctx};
    GENERAL_NAMES *names = alt_names(x);
    if (names != NULL) {
        visit_uris(&v, names);
        if (v.found == 0)
            visit_dns(&v, names);
        GENERAL_NAMES_free(names);
    } else if (X509_get_ext_by_NID(x, NID_subject_alt_name, -1) < 0) {
        visit_cn(&v, x);
    }
}

void tls_server_names(X509 *x, void (*each)(void *ctx, struct slice name), void *ctx)
{
    struct visit v = {.each = each, .ctx = ctx, .has_wildcards = true};
    GENERAL_NAMES *names = alt_names(x);
    if (names != NULL) {
        visit_uris(&v, names);
        visit_dns(&v, names);
        GENERAL_NAMES_free(names);
    } else if (X509_get_ext_by_NID(x, NID_subject_alt_name, -1) < 0) {
        visit_cn(&v, x);
    }
}

bool tls_name_matches(struct slice pattern, struct slice name)
{
    if (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    if (!slice_starts_with(pattern, SLICE("*.")))
        return slice_equal_nocase(pattern, name);
    size_t dot = slice_find(name, '.');
    return dot > 0 && dot < name.n &&
           slice_equal_nocase(slice_drop(pattern, 1), slice_drop(name, dot));
}

static bool has_sip_domain(X509 *x)
{
    EXTENDED_KEY_USAGE *usage =
        (EXTENDED_KEY_USAGE *)X509_get_ext_d2i(x, NID_ext_key_usage, NULL, NULL);
    bool found = false;
    for (int i = 0; usage != NULL && !found && i < sk_ASN1_OBJECT_num(usage); i++) {
        char text[64];
        int n = OBJ_obj2txt(text, sizeof text, sk_ASN1_OBJECT_value(usage, i), 1);
        found = n > 0 && (size_t)n < sizeof text &&
                slice_equal(slice_of(text, (size_t)n), SLICE("1.3.6.1.5.5.7.3.20"));
    }
    EXTENDED_KEY_USAGE_free(usage);
    return found;
}

bool tls_usage_is_fit(X509 *x)
{
    if ((X509_get_extension_flags(x) & EXFLAG_XKUSAGE) == 0)
        return true;
    uint32_t usage = X509_get_extended_key_usage(x);
    return (usage & (XKU_SSL_CLIENT | XKU_SSL_SERVER | XKU_ANYEKU)) != 0 || has_sip_domain(x);
}
