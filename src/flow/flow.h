/* SPDX-License-Identifier: Apache-2.0
 *
 * flow: who is reachable over which connection, and the tokens that say so in our own URIs. A token
 * can be read by anybody and made by nobody else:
 *
 *      base64url( version | key id | kind | bits | node | …  | MAC )
 *
 *      kind     …                                               stands in
 *      ROUTE    from-tag hash | callee hash | caller's end      Record-Route of a dialog
 *                                          [| callee's end]
 *      FLOW     end                                             Path, or the user of a Contact
 *
 *      end      worker | listener | transport | port | ip | slot, generation   (stream)
 *                                                         | phone              (UDP)
 *
 *      MAC = HMAC-SHA-256( key, everything before it, Call-ID ) cut to 96 bits
 *
 * The Call-ID of a ROUTE token takes part in the MAC but not in the text: lifted into another
 * dialog it does not verify. A FLOW token outlives the call that brought it: its Call-ID is empty.
 * The kind stands under the MAC, so neither can pose as the other. Keys are shared by a fleet; the
 * first signs, all verify, so that keys can rotate. */
#ifndef WEIR_FLOW_H
#define WEIR_FLOW_H

#include "base/base.h"
#include "step/step.h"

enum side { SIDE_OUTSIDE = 0, SIDE_INSIDE = 1 };

enum { TOKEN_KEY_BYTES_MIN = 16, TOKEN_KEY_BYTES_MAX = 64, TOKEN_TEXT_MAX = 128 };

/* A key made ready: the two halves of an HMAC after its key block, so that signing costs two
 * compressions less and allocates nothing. Filled by token_key_init() only. */
struct token_key {
    uint8_t id;
    uint32_t inner[8], outer[8];
};
struct token_keys {
    uint8_t count;
    struct token_key key[TOKEN_KEYS_MAX];
};

/* `secret` of TOKEN_KEY_BYTES_MIN..MAX bytes. Its id is the first byte of SHA-256(secret).
 * Returns 0, or -1 on another length. */
MUST_USE int token_key_init(struct token_key *k, struct slice secret);

/* HMAC-SHA-256 over `count` parts one behind the other, for others who sign with a key of the
 * fleet. What they sign begins with a label of theirs in letters: no token does. */
void flow_mac(const struct token_key *k, const struct slice *parts, unsigned count,
              uint8_t ret_mac[32]);
/* Are the first `n` bytes equal? In a time that does not depend on where they differ. */
bool flow_mac_equal(const uint8_t *a, const uint8_t *b, size_t n);

enum token_kind { TOKEN_ROUTE = 1, TOKEN_FLOW = 2 };

/* One end: a connection and no other, or an address over UDP. */
struct token_end {
    struct addr addr;
    struct flow_id flow; /* gen 0: UDP, `slot` is then phone_hash() of who is there, or 0; `worker`
                            is always the one that hears it */
    uint8_t listener;    /* that it came in on */
    uint8_t transport;
};

struct token {
    uint8_t kind;
    uint8_t side_caller;  /* ROUTE: where the request that began the dialog came from */
    uint8_t side_callee;  /* ROUTE: where it went */
    bool has_callee;      /* ROUTE: callee_end is there */
    uint16_t node;        /* node id of the edge that made it */
    uint32_t from_tag;    /* ROUTE: hash of the caller's tag: tells the direction */
    uint32_t callee;      /* ROUTE: token_host_hash() of where it was sent: the dialog may reach it
                             again */
    struct token_end end; /* FLOW: the flow; ROUTE: the caller's */
    struct token_end callee_end; /* where the callee is an outside flow */
};

/* Appends the token's text. `call_id` is left out of a TOKEN_FLOW. `from_tag` is hashed into
 * token->from_tag's place by the caller with token_tag_hash(). */
void token_put(struct text *t, const struct token_keys *keys, const struct token *token,
               struct slice call_id);

enum token_err { TOKEN_E_FORM = -401, TOKEN_E_KEY = -402, TOKEN_E_MAC = -403 };

/* Reads and verifies a token of either kind: who asks looks at ret_token->kind. Constant time in
 * the MAC. Returns 0 or a token_err; untouched on failure. */
MUST_USE int token_parse(const struct token_keys *keys, struct slice text, struct slice call_id,
                         struct token *ret_token);

/* The same for every edge that shares nothing but the algorithm. */
uint32_t token_tag_hash(struct slice tag);
uint32_t token_host_hash(const struct addr *host); /* the port does not count */
/* Who registers: by its +sip.instance (`is_instance`: a bit of it says so), else by the
 * address-of-record. Never 0. */
enum { PHONE_BY_INSTANCE = 1 << 30 };
uint32_t phone_hash(struct slice identity, bool is_instance);

/* ---- phones over UDP --------------------------------------------------------------------------
 *
 * A connection ends with its phone; an address over UDP does not. A NAT may give it to another
 * phone, and nothing says so but the REGISTER of that other one:
 *
 *      (listener, 203.0.113.9:40001) ──▶ heard 12 s ago | alice's phone
 *                 bob's phone registers from there, after a silence ──▶ | bob's phone
 *
 * A phone with several lines registers each from the same address, but without a silence as long as
 * NATs wait: then they are all there. One that has an instance says the same one for each of its
 * lines, so another instance, or none, is another phone without any silence. What names another
 * phone than the one that is there is not sent. The table is bounded; of an address that it does
 * not know it says that anybody may be there. */
struct phones;
size_t phones_memory(uint32_t max);
/* `mem` is all zero, as boot memory is. NULL when it is too small. */
struct phones *phones_new(struct arena *mem, uint32_t max, struct hash_seed seed, mono_ns now);
/* Something came from there. */
void phones_heard(struct phones *p, uint8_t listener, const struct addr *a, mono_ns now);
/* A registration from there succeeded. What other workers should know of it: nothing new, a line
 * more, or that this phone alone is there now. */
enum phones_news { PHONES_SAME, PHONES_ADDED, PHONES_ALONE };
enum phones_news phones_note(struct phones *p, uint8_t listener, const struct addr *a,
                             uint32_t phone, mono_ns now);
/* What another worker, which hears that address, has noted. */
void phones_copy(struct phones *p, uint8_t listener, const struct addr *a, uint32_t phone,
                 enum phones_news news, mono_ns now);
/* At start: what was stored by another process says that it was there once. When it says so of two
 * phones, neither is believed before it registers. */
void phones_claim(struct phones *p, uint8_t listener, const struct addr *a, uint32_t phone);
/* May `phone` (0: whoever) be there still? */
bool phones_match(const struct phones *p, uint8_t listener, const struct addr *a, uint32_t phone);
/* One that is there; 0 = unknown. */
uint32_t phones_at(const struct phones *p, uint8_t listener, const struct addr *a);

/* Pings of those addresses, at O(1) each. A NAT forgets an address over UDP within half a minute:
 * what is registered from there, and heard by this worker, is pinged until nothing is any more.
 *
 *      (listener, 203.0.113.9:40001) ──▶ timer | heard 12 s ago | unanswered 0
 *                                        alice@… until 600 s | work@… until 90 s
 *
 * An entry lives and dies with that of the address in the table: who is forgotten, or displaced by
 * another phone (PHONES_ALONE), is pinged no more. */
enum { PHONE_LINES_KEPT = 4 };
struct phone_ping {
    struct wheel_node timer; /* not armed: nothing is due before something is heard from there */
    mono_ns heard;           /* the last of anything from there */
    struct addr addr;
    uint32_t aor[PHONE_LINES_KEPT];     /* hashes of what is registered; … */
    uint32_t until_s[PHONE_LINES_KEPT]; /* … 0: free */
    uint8_t listener;
    uint8_t unanswered; /* pings, since it registered, or was heard and has proved itself */
    bool proved;        /* it has answered a ping: what comes from there is sent from there */
};
/* A registration of `aor` from there succeeded, for `life_s` seconds; 0: it ended. Only where
 * phones_note() or phones_claim() was called before. More lines than are kept: that with the least
 * time left is forgotten, whose phone is still pinged for the others. */
void phones_keep(struct phones *p, uint8_t listener, const struct addr *a, uint32_t aor,
                 uint32_t life_s, mono_ns now);
/* Another worker pings it from now on. */
void phones_unkeep(struct phones *p, uint8_t listener, const struct addr *a);
/* It has answered a ping. */
void phones_answered(struct phones *p, uint8_t listener, const struct addr *a, mono_ns now);
/* One whose timer has come and that is still registered, disarmed; NULL when there is none. To be
 * armed again with phones_ping_at(), put to sleep by doing nothing until it registers or, if
 * it has proved itself, is heard; or forgotten. */
struct phone_ping *phones_ping_due(struct phones *p, mono_ns now);
void phones_ping_at(struct phones *p, struct phone_ping *ping, mono_ns at);
void phones_ping_forget(struct phones *p, struct phone_ping *ping);
/* When to ask phones_ping_due() next; MONO_NONE when none is armed. */
mono_ns phones_ping_deadline(const struct phones *p);

/* ---- flows ----------------------------------------------------------------------------------- */

/* A stream connection as the engine sees it: 104 bytes, for there are many. */
struct flow {
    struct flow_id id;
    struct addr peer;
    bool mobile;      /* the edge's: each ping costs its battery */
    uint8_t listener; /* LISTENER_NONE: we opened it without one */
    uint8_t transport;
    uint8_t side;
    bool connecting : 1, closing : 1;
    bool registered : 1;     /* a phone has registered over it */
    bool challenged : 1;     /* a REGISTER over it was asked for credentials */
    bool asked_register : 1; /* another worker was handed a REGISTER of its */
    uint16_t calls;          /* over it, as far as their beginnings and ends came by */
    mono_ns last_in;         /* when the peer last showed a sign of life */
    uint64_t owners;   /* bit per worker that was handed what came over it: it hears of the end */
    uint32_t opened_s; /* on the monotonic clock */
    uint32_t users;    /* head of the edge's list of tries on it; FLOW_END ends */
    uint32_t askers;   /* head of the edge's list of relays that wait on it for an
                          answer */
    uint32_t open;     /* how many tries those are */
    uint32_t messages_in, messages_out;
    union {
        struct {                           /* accepted */
            uint32_t ping_next, ping_prev; /* others whose ping comes in the same second */
        };
        uint64_t expects; /* opened: whom, as a hash of the name and of who may vouch for it; 0 =
                             nobody is looked at (no TLS) */
    };
    uint16_t ping_cell; /* that second; FLOW_PING_NONE: none is due */
    uint16_t ping_s;    /* the edge's: pause before the next ping; 0 = never began */
    uint16_t pings;     /* that we sent */
    uint16_t name;      /* flow_name(); 0 = none */
};
enum { FLOW_END = UINT32_MAX, FLOW_PING_NONE = UINT16_MAX, FLOW_NAME_BYTES_MAX = 255 };

struct flows; /* table: by slot; those that we opened by peer as well */

/* Boot memory, in bytes. */
size_t flows_memory(uint32_t accepted_max, uint32_t opened_max);
/* `worker` goes into the ids of the flows that it opens. NULL when `mem` is too small. */
struct flows *flows_new(struct arena *mem, uint32_t accepted_max, uint32_t opened_max,
                        struct hash_seed seed, uint32_t worker);

/* Records an accepted connection. NULL when its slot is beyond the table (our driver's bug is
 * caught by MUST; a full table by the driver's own limit). */
struct flow *flow_accepted(struct flows *f, struct flow_id id, const struct addr *peer,
                           uint8_t listener, uint8_t transport, uint8_t side, mono_ns now);

/* A new flow of ours, connecting, with a fresh id; NULL when the table is full. `expects`: see
 * struct flow. */
struct flow *flow_open(struct flows *f, const struct addr *peer, uint8_t listener,
                       uint8_t transport, uint8_t side, uint64_t expects, mono_ns now);

/* The very connection, or NULL: gone, or never was. Safe on any id from a token. */
struct flow *flow_get(struct flows *f, struct flow_id id);

/* Among flows that we opened to this peer, and to nobody else at its address: the one with the
 * fewest open tries; NULL if none. *ret_count = how many there are. */
struct flow *flow_to(struct flows *f, const struct addr *peer, uint8_t transport, uint64_t expects,
                     uint32_t *ret_count);

/* When the table is full: one that we opened and that nobody uses; of the few that are looked at
 * the one that has been silent for longest; NULL if none. To be closed, for the next one's sake. */
struct flow *flow_idle(struct flows *f);

/* It is gone: its id finds nothing from now on. NULL is ignored. */
void flow_forget(struct flows *f, struct flow *flow);

/* What a certificate proved about the peer (RFC 5922: names, by blanks), whole names of at most
 * FLOW_NAME_BYTES_MAX bytes; empty for the others. No room for more names: it has none. */
void flow_set_name(struct flows *f, struct flow *w, struct slice name);
struct slice flow_name(const struct flows *f, const struct flow *w);

/* Connection reuse (RFC 5923): an accepted flow may also carry requests to whom its certificate
 * proves it to be. `alias` is a hash of that name, the port where the peer listens and who vouched
 * for it: never of an address. Only a flow with a name has any, FLOW_ALIASES_MAX at most; one more
 * is not taken, nor when the table of aliases is full. They end with the flow. */
enum { FLOW_ALIASES_MAX = 4 };
void flow_add_alias(struct flows *f, struct flow *w, uint64_t alias);
/* How many it has. */
unsigned flow_aliases(const struct flows *f, const struct flow *w);
/* The flow with this alias that said something last; NULL if none. Of more than a few only these
 * few are looked at. */
struct flow *flow_of_alias(struct flows *f, uint64_t alias);

/* Pings of accepted connections, at the cost of a list operation each: arms `w` anew, in whole
 * seconds (a long time counts as FLOW_PING_AHEAD_S: it comes up early, and is armed again). */
enum { FLOW_PING_AHEAD_S = 1000 };
void flow_ping_in(struct flows *f, struct flow *w, uint32_t seconds, mono_ns now);
/* Takes one whose second has come; NULL when there is none. */
struct flow *flow_ping_due(struct flows *f, mono_ns now);
/* When to ask flow_ping_due() next; MONO_NONE when none is armed. */
mono_ns flow_ping_deadline(const struct flows *f);

/* Back-off of connects, per peer (address, transport, and who is expected there): after a failure
 * none is tried for 100 ms, doubling up to 5 s. flow_may_connect() asks, flow_connect_result()
 * tells. The memory is bounded: when more than four failing peers meet in one set of it, the one
 * whose time is over first is forgotten. */
bool flow_may_connect(const struct flows *f, const struct addr *peer, uint8_t transport,
                      uint64_t expects, mono_ns now);
void flow_connect_result(struct flows *f, const struct flow *w, bool connected, mono_ns now);

/* Iteration for `show`: *cursor = 0 at first. */
struct flow *flow_next(struct flows *f, uint32_t *cursor);
uint32_t flows_live(const struct flows *f);

#endif
