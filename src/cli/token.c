/* SPDX-License-Identifier: Apache-2.0
 *
 * weir token: what a token of ours says, and whether it is one. Needs no running weir: the file's
 * secrets are enough. */
#include <getopt.h>
#include <string.h>
#include "cli/common.h"
#include "config/config.h"
#include "flow/flow.h"
#include "sip/sip.h"

static const char help[] =
    "usage: weir token [-i CALL-ID] -c FILE TOKEN\n"
    "\n"
    "Verifies a token with the secrets of FILE and says what it means. TOKEN is the user part of "
    "a\n"
    "Path, Record-Route or Route URI of weir's, or that whole URI.\n"
    "\n"
    "  -c, --config FILE       the file; the token must be signed with one of its secrets.tokens\n"
    "  -i, --call-id CALL-ID   of the dialog: the token of a Record-Route verifies with it alone\n"
    "  -h, --help              write this\n"
    "\n"
    "Exit status: 0 it verifies, 1 it does not, 64 wrong usage, 78 FILE is wrong.\n"
    "\n"
    "Example:\n"
    "  weir token -c /etc/weir/edge.yaml '<sip:AQEC…@edge.example.com;lr;ob>'\n";

static void say(const char *name, struct slice value)
{
    printf("%-11s %.*s\n", name, SLICE_ARG(value));
}

static const char *side_name(uint8_t side)
{
    return side == SIDE_OUTSIDE ? "outside" : "inside";
}

static void say_listener(const struct config *c, uint8_t id, bool is_ours)
{
    char bytes[512];
    if (id == LISTENER_NONE) {
        say("listener", SLICE("none: the edge opened it"));
        return;
    }
    int n = snprintf(bytes, sizeof bytes, "%u", id);
    const struct edge_listener *l = id < LISTENERS_MAX ? &c->engine.edge.listener[id] : NULL;
    if (is_ours && l != NULL && l->used)
        n = snprintf(bytes, sizeof bytes, "%u: %.*s %.*s", id, SLICE_ARG(l->name),
                     SLICE_ARG(l->uri));
    say("listener", slice_of(bytes, n > 0 ? (size_t)n : 0));
}

static void say_end(const struct config *c, const char *who, const struct token_end *end,
                    bool is_ours)
{
    char bytes[128];
    struct text t = text_into(bytes, sizeof bytes);
    addr_put(&t, &end->addr);
    TEXT_LIT(&t, " over ");
    text_put(&t, end->transport < TP__COUNT ? transport_name((enum transport)end->transport)
                                            : SLICE("?"));
    say(who, text_slice(&t));
    t = text_into(bytes, sizeof bytes);
    if (end->flow.gen != 0) {
        TEXT_LIT(&t, "generation ");
        text_put_u64(&t, end->flow.gen);
        TEXT_LIT(&t, " in slot ");
        text_put_u64(&t, end->flow.slot);
        TEXT_LIT(&t, " of worker ");
        text_put_u64(&t, end->flow.worker);
        say("connection", text_slice(&t));
    } else {
        TEXT_LIT(&t, "none: datagrams, heard by worker ");
        text_put_u64(&t, end->flow.worker);
        say("connection", text_slice(&t));
    }
    say_listener(c, end->listener, is_ours);
}

static void say_token(const struct config *c, const struct token *token)
{
    char bytes[128];
    bool is_ours = token->node == c->engine.edge.node_id;
    say("kind", token->kind == TOKEN_FLOW ? SLICE("flow: the very way to one phone")
                                          : SLICE("route: one dialog"));
    int n = snprintf(bytes, sizeof bytes, "node %u%s%.*s", token->node,
                     is_ours ? ", that of this file: " : ", not that of this file",
                     is_ours ? (int)c->engine.edge.node_name.n : 0, c->engine.edge.node_name.p);
    say("made by", slice_of(bytes, n > 0 ? (size_t)n : 0));
    if (token->kind == TOKEN_FLOW) {
        say_end(c, "phone", &token->end, is_ours);
        return;
    }
    n = snprintf(bytes, sizeof bytes, "from %s to %s", side_name(token->side_caller),
                 side_name(token->side_callee));
    say("dialog", slice_of(bytes, n > 0 ? (size_t)n : 0));
    say_end(c, "caller", &token->end, is_ours);
    if (token->has_callee)
        say_end(c, "callee", &token->callee_end, is_ours);
}

static int say_failure(int error, const char *file, bool has_call_id)
{
    switch (error) {
    case TOKEN_E_KEY:
        fprintf(stderr, "weir: it is signed with a secret that %s does not have\n", file);
        break;
    case TOKEN_E_MAC:
        fprintf(stderr, "weir: it does not verify: %s\n",
                has_call_id ? "it was made up or changed, or is of another Call-ID"
                            : "it was made up or changed, or is of a Record-Route: then give "
                              "--call-id");
        break;
    default:
        fputs("weir: it has not the form of a token\n", stderr);
        break;
    }
    return CLI_FAILED;
}

/* The user part of a URI, with or without brackets; what is no URI is the token itself. */
static struct slice token_of(struct slice word)
{
    struct sip_uri uri;
    struct slice s = slice_trim(word);
    if (s.n > 1 && s.p[0] == '<' && s.p[s.n - 1] == '>')
        s = slice_of(s.p + 1, s.n - 2);
    return sip_uri_parse(s, &uri) == 0 && uri.user.n > 0 ? uri.user : s;
}

static int show_token(const char *file, const char *call_id, const char *word)
{
    static const uint8_t key[32];
    struct config *c = config_load(file, NULL, key, stderr);
    struct token token;
    if (c == NULL)
        return CLI_CONFIG;
    int status = CLI_OK;
    int error =
        token_parse(&c->engine.edge.keys, token_of(slice_cstr(word)), slice_cstr(call_id), &token);
    if (c->tokens_are_random) {
        fprintf(stderr, "weir: %s has no secrets.tokens: nothing can be verified\n", file);
        status = CLI_FAILED;
    } else if (error != 0) {
        status = say_failure(error, file, call_id != NULL);
    } else {
        say_token(c, &token);
    }
    config_free(c);
    return status;
}

int cli_token(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"call-id", required_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *file = NULL, *call_id = NULL;
    opterr = 0;
    optind = 1;
    for (int o; (o = getopt_long(argc, argv, ":c:i:h", options, NULL)) != -1;) {
        switch (o) {
        case 'c':
            file = optarg;
            break;
        case 'i':
            call_id = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return CLI_OK;
        case ':':
            return cli_usage_error("token", "%s needs a value", argv[optind - 1]);
        default:
            return cli_usage_error("token", "there is no option %s", argv[optind - 1]);
        }
    }
    if (argc - optind != 1)
        return cli_usage_error("token", "which? One TOKEN");
    if (file == NULL)
        return cli_usage_error("token", "whose secrets? -c FILE");
    return show_token(file, call_id, argv[optind]);
}
