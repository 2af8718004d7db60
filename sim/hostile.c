/* SPDX-License-Identifier: Apache-2.0
 *
 * An agent that means no good: noise, halves of messages, Routes to places of its choice, tokens
 * lifted from other people's dialogs, answers nobody asked for. */
#include "sim.h"

enum mischief {
    NOISE,
    HALF,
    FOREIGN_ROUTE,
    LIFTED_TOKEN,
    STRAY_RESPONSE,
    STRAY_ACK,
    STRAY_CANCEL,
    STRAY_BYE,
    NO_HOPS,
    BAD_FORM,
    ODD_VIA,
    PINGS,
    OLD_BRANCH,
    MISCHIEFS
};

static size_t put_request_as(struct world *w, unsigned node, char *dst, size_t cap,
                             const char *verb, const char *call_id, const char *more,
                             const char *tag, const char *uri)
{
    const struct agent *a = &w->agent[node - NODE_AGENT];
    unsigned word = ++w->words;
    return (size_t)snprintf(dst, cap,
                            "%s %s SIP/2.0\r\n"
                            "Via: SIP/2.0/%s %s;branch=z9hG4bK.evil.%u;rport\r\n%s"
                            "From: <sip:evil@example.sim>;tag=%s\r\n"
                            "To: <sip:victim@example.sim>%s\r\nCall-ID: %s-%u\r\nCSeq: 1 %s\r\n"
                            "Content-Length: 0\r\n\r\n",
                            verb, uri, a->tcp ? "TCP" : "UDP", a->host, word, more, tag,
                            strcmp(verb, "BYE") == 0 || strcmp(verb, "ACK") == 0 ? ";tag=x" : "",
                            call_id, word, verb);
}

static size_t put_request(struct world *w, unsigned node, char *dst, size_t cap, const char *verb,
                          const char *call_id, const char *more)
{
    return put_request_as(w, node, dst, cap, verb, call_id, more, "e", "sip:victim@example.sim");
}

static size_t put_noise(struct world *w, char *dst, size_t cap)
{
    size_t n = 1 + draw(w, RND_HOSTILE, cap - 1);
    for (size_t i = 0; i < n; i++)
        dst[i] = (char)draw(w, RND_HOSTILE, 256);
    return n;
}

/* With the Routes of an honest agent's dialog, and its tag: anybody on the path could have read
 * them. Only the Call-ID is another. */
static size_t put_lifted(struct world *w, unsigned node, char *dst, size_t cap)
{
    const char *route = "Route: <sip:AAAAAAAAAAAAAAAAAAAA@192.0.2.77:6666;lr>\r\n";
    const char *tag = "e", *uri = "sip:victim@example.sim";
    uint64_t from = draw(w, RND_HOSTILE, w->call_count + 1);
    bool bye = draw(w, RND_HOSTILE, 2) == 0, keeps_tag = draw(w, RND_HOSTILE, 4) == 0;
    for (uint32_t i = 0; i < w->call_count; i++) {
        const struct call *c = &w->call[(from + i) % w->call_count];
        if (c->confirmed && c->dialog.routes[0] != '\0') {
            route = c->dialog.routes;
            tag = keeps_tag ? tag : c->tag;
            uri = c->dialog.target;
            break;
        }
    }
    return put_request_as(w, node, dst, cap, bye ? "BYE" : "INVITE", "evil", route, tag, uri);
}

static size_t put_response(struct world *w, unsigned node, char *dst, size_t cap)
{
    const struct agent *a = &w->agent[node - NODE_AGENT];
    unsigned word = ++w->words;
    return (size_t)snprintf(dst, cap,
                            "SIP/2.0 %u Fine\r\nVia: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bK%08llx%u"
                            "\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK.q.%u\r\n"
                            "From: <sip:a@example.sim>;tag=1\r\nTo: <sip:b@example.sim>;tag=2\r\n"
                            "Call-ID: stray-%u\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
                            word % 2 == 0 ? 200 : 180,
                            (unsigned long long)prng_u64(&w->rnd[RND_HOSTILE]), word, a->host, word,
                            word);
}

static size_t put_bad_form(struct world *w, unsigned node, char *dst, size_t cap)
{
    static const char *const lines[] = {
        "Call-ID: twice\r\n",  "Proxy-Require: magic\r\n", "CSeq: 99999999999 INVITE\r\n",
        "Max-Forwards: x\r\n", "Content-Length: 77\r\n",   "Broken line\r\n",
        "Via: nonsense\r\n",
    };
    return put_request(w, node, dst, cap, "INVITE", "bad",
                       lines[draw(w, RND_HOSTILE, sizeof lines / sizeof lines[0])]);
}

static size_t put_mischief(struct world *w, unsigned node, enum mischief what, char *dst,
                           size_t cap)
{
    size_t n;
    switch (what) {
    case NOISE:
        return put_noise(w, dst, cap / 8);
    case HALF:
        n = put_request(w, node, dst, cap, "INVITE", "half", "Max-Forwards: 70\r\n");
        return 1 + draw(w, RND_HOSTILE, n - 1);
    case FOREIGN_ROUTE:
        return put_request(w, node, dst, cap, "INVITE", "evil",
                           "Route: <sip:192.0.2.66:6666;lr>\r\n");
    case LIFTED_TOKEN:
        return put_lifted(w, node, dst, cap);
    case STRAY_RESPONSE:
        return put_response(w, node, dst, cap);
    case STRAY_ACK:
        return put_request(w, node, dst, cap, "ACK", "stray", "Max-Forwards: 70\r\n");
    case STRAY_CANCEL:
        return put_request(w, node, dst, cap, "CANCEL", "stray", "Max-Forwards: 70\r\n");
    case STRAY_BYE:
        return put_request(w, node, dst, cap, "BYE", "stray", "Max-Forwards: 70\r\n");
    case NO_HOPS:
        return put_request(w, node, dst, cap, "INVITE", "hops", "Max-Forwards: 0\r\n");
    case BAD_FORM:
        return put_bad_form(w, node, dst, cap);
    case PINGS: /* no mischief, but they get between the messages of a stream */
        memcpy(dst, "\r\n\r\n\r\n\r\n", 8);
        return draw(w, RND_HOSTILE, 2) == 0 ? 8 : 4;
    case ODD_VIA:
        /* Sent-by of somebody else: the answer comes to us all the same. */
        return put_request(w, node, dst, cap, "OPTIONS", "via",
                           "Via: SIP/2.0/UDP 192.0.2.66:6666;branch=z9hG4bK.trap\r\n");
    default:
        return (size_t)snprintf(dst, cap,
                                "OPTIONS sip:a@example.sim SIP/2.0\r\nVia: SIP/2.0/UDP "
                                "192.0.2.66:6666\r\nFrom: <sip:e@example.sim>\r\n"
                                "To: <sip:a@example.sim>\r\nCall-ID: old-%u\r\nCSeq: 1 OPTIONS\r\n"
                                "Content-Length: 0\r\n\r\n",
                                ++w->words);
    }
}

void hostile_act(struct world *w, unsigned node)
{
    char text[TEXT_MAX];
    const struct agent *a = &w->agent[node - NODE_AGENT];
    enum mischief what = (enum mischief)draw(w, RND_HOSTILE, MISCHIEFS);
    size_t n = put_mischief(w, node, what, text, sizeof text);
    MUST(n < sizeof text);
    TRACE(w, node, "mischief %d", what);
    endpoint_send(w, node, &w->node[NODE_EDGE + a->edge].addr[0], a->tcp,
                  (struct conn_ref){NONE, 0}, text, n);
    if (w->phase < PHASE_HEALED)
        world_at(w, w->now + draw_between(w, RND_HOSTILE, 50 * NS_MS, 4 * NS_S), W_HOSTILE, node, 0,
                 0, 0, NULL);
}
