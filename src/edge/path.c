/* SPDX-License-Identifier: Apache-2.0
 *
 * How a registrar behind us learns the way back to a phone: by Path (RFC 3327, RFC 5626 5.1), or,
 * for one that knows no Path, by a Contact of ours that stands for what the phone wrote:
 *
 *      phone   Contact: <sip:alice@192.168.1.9:5060>;expires=600
 *      inside  Contact: <sip:TOKEN@edge:5060;wc=c2lwOmFsaWNl…>;expires=600
 *
 * The latter is taken back in the 200, and in the Request-URI of what comes for the phone. Both
 * carry the token of the very flow that the REGISTER came over. */
#include "edge/edge_int.h"

enum { URI_BYTES_MAX = 1024 };

/* ---- who registers --------------------------------------------------------------------------- */

/* For phone_hash(): the instance, which all lines of a phone share, else the address-of-record. A
 * proxy of others speaks for many phones, all of whom its one address leads to. */
uint32_t phone_of(const struct sip_msg *m)
{
    struct sip_values v = sip_values(m, SIP_H_VIA);
    if (sip_next_value(&v) && sip_next_value(&v))
        return phone_hash(SLICE("proxy"), false);
    v = sip_values(m, SIP_H_CONTACT);
    struct sip_nameaddr na;
    struct slice instance;
    while (sip_next_value(&v))
        if (sip_nameaddr_parse(sip_slice(m, v.value), &na) == 0 &&
            sip_param(na.params, SLICE("+sip.instance"), &instance) && instance.n > 0)
            return phone_hash(instance, true);
    if (sip_nameaddr_parse(sip_header_value(m, SIP_H_TO), &na) != 0)
        return phone_hash(SLICE_NONE, false);
    return phone_hash(na.uri, false);
}

/* A registration has succeeded: e->msg says so. If it came over UDP, this phone is there now. */
void phone_registered(struct edge *e, struct relay *r)
{
    if (!is_phone_by_udp(&r->from))
        return;
    phone_is_at(e, r->from.listener, &r->from.source, r->phone);
    if (relay_index_kept(e, r))
        keepalive_phone(e, r->from.listener, &r->from.source, keepalive_life(&e->kept, &e->msg));
}

/* ---- what we write --------------------------------------------------------------------------- */

static struct slice flow_token(struct edge *e, const struct relay *r, char buf[TOKEN_TEXT_MAX])
{
    struct token token = {
        .kind = TOKEN_FLOW, .node = e->opts->node_id, .end = end_of_origin(e, &r->from)};
    if (is_phone_by_udp(&r->from))
        token.end.flow.slot = r->phone;
    struct text t = text_into(buf, TOKEN_TEXT_MAX);
    token_put(&t, &e->opts->keys, &token, SLICE_NONE);
    return text_slice(&t);
}

/* sip:TOKEN@host:port;transport=…, of the listener that faces the registrar. */
static void put_flow_uri(struct edge *e, struct text *t, struct slice token, uint8_t listener)
{
    const struct edge_listener *l = &e->opts->listener[listener];
    TEXT_LIT(t, "sip:");
    text_put(t, token);
    text_put_char(t, '@');
    put_listener(t, l);
    if (l->transport != TP_UDP) {
        TEXT_LIT(t, ";transport=");
        text_put(t, transport_name((enum transport)l->transport));
    }
}

static void push_path_line(struct edge *e, struct slice token, uint8_t listener)
{
    struct text t = scratch_text(e, 512);
    TEXT_LIT(&t, "Path: <");
    put_flow_uri(e, &t, token, listener);
    TEXT_LIT(&t, ";lr;ob>\r\n");
    scratch_keep(e, &t);
    const struct sip_msg *m = e->edits.m;
    uint8_t top = m->first[SIP_H_PATH];
    if (top != SIP_NO_HEADER)
        sip_edit_insert(&e->edits, m->h[top].line, text_slice(&t));
    else
        sip_push_header(&e->edits, text_slice(&t));
}

/* One Contact value. `ours`: it stands there as we wrote it for the try before. */
static void wrap_contact(struct edge *e, struct slice value, bool ours, struct slice token,
                         uint8_t listener)
{
    struct sip_nameaddr na;
    struct sip_uri u;
    if (sip_nameaddr_parse(value, &na) != 0 || sip_uri_parse(na.uri, &u) != 0 || !is_sip(&u))
        return;
    struct slice original = na.uri;
    if (ours && (!contact_original(e, &u, &original) || original.n == 0))
        return;
    if (original.n > URI_BYTES_MAX)
        return;
    char text[(URI_BYTES_MAX * 4 + 2) / 3 + 1];
    text_base64url_encode(original.p, original.n, text);
    struct text t = scratch_text(e, sizeof text + 512);
    if (!na.bracketed)
        text_put_char(&t, '<');
    put_flow_uri(e, &t, token, listener);
    TEXT_LIT(&t, ";wc=");
    text_put(&t, slice_of(text, text_base64url_size(original.n)));
    if (!na.bracketed)
        text_put_char(&t, '>');
    scratch_keep(e, &t);
    struct sip_span at = {(uint32_t)(na.uri.p - e->edits.m->p), (uint32_t)na.uri.n};
    sip_edit_replace(&e->edits, at, text_slice(&t));
}

/* Can each SIP Contact be written over? One that stayed as it is would tell the registrar to send
 * calls wherever an outsider likes. Each takes an edit of the message. */
bool path_has_room(struct edge *e, const struct origin *from)
{
    enum { CONTACTS_MAX = 32 };
    unsigned count = 0;
    if (e->facts.method != SIP_M_REGISTER || from->side != SIDE_OUTSIDE ||
        e->opts->path != PATH_CONTACT)
        return true;
    struct sip_values v = sip_values(&e->msg, SIP_H_CONTACT);
    while (sip_next_value(&v)) {
        struct slice value = sip_slice(&e->msg, v.value);
        struct sip_nameaddr na;
        struct sip_uri u;
        if (++count > CONTACTS_MAX)
            return false;
        if (!slice_equal(value, SLICE("*")) &&
            (sip_nameaddr_parse(value, &na) != 0 || sip_uri_parse(na.uri, &u) != 0 ||
             (is_sip(&u) && na.uri.n > URI_BYTES_MAX)))
            return false;
    }
    return v.err == 0;
}

/* Puts the way back into a REGISTER that came from a phone. */
void push_path(struct edge *e, struct relay *r, const struct try *t)
{
    if (e->edits_drop_vias == 0) /* as it came; else what it was for the try before */
        r->phone = is_phone_by_udp(&r->from) ? phone_of(e->edits.m) : 0;
    bool again = r->own_path || r->own_contacts; /* as begun, whatever a reload says */
    if (!again && r->from.side != SIDE_OUTSIDE)
        return;
    bool writes_path = again ? r->own_path : e->opts->path == PATH_HEADER;
    if (!writes_path) /* what an outsider says would lead calls anywhere; ours goes before it */
        sip_drop_headers(&e->edits, SIP_H_PATH);
    if (!again && e->opts->path == PATH_OFF)
        return;
    char buf[TOKEN_TEXT_MAX];
    struct slice token = flow_token(e, r, buf);
    if (writes_path) {
        push_path_line(e, token, t->hop.listener);
        e->edits_path = true;
        return;
    }
    struct sip_values v = sip_values(e->edits.m, SIP_H_CONTACT);
    while (sip_next_value(&v))
        wrap_contact(e, sip_slice(e->edits.m, v.value), again, token, t->hop.listener);
    e->edits_contacts = true;
}

/* The Path of the try before goes; Contacts of ours are written over by push_path(). */
void drop_path(struct edge *e, const struct relay *r)
{
    uint8_t top = e->edits.m->first[SIP_H_PATH];
    if (r->own_path && top != SIP_NO_HEADER)
        sip_drop_header(&e->edits, top);
}

/* ---- what comes back ------------------------------------------------------------------------- */

/* May it stand in a Request-URI and between <>? */
static bool is_plain(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7f || c == '<' || c == '>' || c == '"')
            return false;
    }
    return true;
}

/* Is this a Contact as we write it? Then *ret_original is what the phone wrote, in scratch; empty
 * when nobody can have written that. */
bool contact_original(struct edge *e, const struct sip_uri *u, struct slice *ret_original)
{
    struct slice coded;
    *ret_original = SLICE_NONE;
    if (!sip_uri_param(u->params, SLICE("wc"), &coded))
        return false;
    char *p = coded.n <= (URI_BYTES_MAX * 4 + 2) / 3 + 1
                  ? arena_take(&e->out->scratch, URI_BYTES_MAX + 1, 1)
                  : NULL;
    int n = p != NULL ? text_base64url_decode(coded, p, URI_BYTES_MAX) : -1;
    struct sip_uri original;
    if (n <= 0 || !is_plain(slice_of(p, (size_t)n)) ||
        sip_uri_parse(slice_of(p, (size_t)n), &original) != 0 || !is_sip(&original))
        return true;
    *ret_original = slice_of(p, (size_t)n);
    return true;
}

/* In an answer to a REGISTER, edits of which have begun: the phone sees what it wrote. Contacts
 * that another edge of the fleet wrote as well: the phone may have registered over both. */
void restore_contacts(struct edge *e)
{
    enum { RESTORED_MAX = 64 };
    if (e->facts.method != SIP_M_REGISTER)
        return;
    struct sip_values v = sip_values(&e->msg, SIP_H_CONTACT);
    for (unsigned i = 0; i < RESTORED_MAX && sip_next_value(&v); i++) {
        struct sip_nameaddr na;
        struct sip_uri u;
        struct slice original;
        struct token token;
        if (sip_nameaddr_parse(sip_slice(&e->msg, v.value), &na) != 0 ||
            sip_uri_parse(na.uri, &u) != 0 || !is_sip(&u) || u.user.n == 0 ||
            !contact_original(e, &u, &original) || original.n == 0 ||
            token_parse(&e->opts->keys, u.user, SLICE_NONE, &token) != 0 ||
            token.kind != TOKEN_FLOW)
            continue;
        struct sip_span at = {(uint32_t)(na.uri.p - e->msg.p), (uint32_t)na.uri.n};
        sip_edit_replace(&e->edits, at, original);
    }
}
