/* SPDX-License-Identifier: Apache-2.0
 *
 * flow: who is reachable over which connection, and the tokens that say so in our own Record-Route
 * URIs. A token can be read by anybody and made by nobody else:
 *
 *      base64url( version | key id | kind | sides | node | worker | listener | transport |
 *                 from-tag hash | callee hash | family, port, ip   (UDP: the caller's address)
 *                               | slot, generation   (stream: the caller's very connection)
 *                 | MAC )
 *      MAC = HMAC-SHA-256( key, everything before it, Call-ID ) cut to 96 bits
 *
 * The Call-ID takes part in the MAC but not in the text: a token lifted into another dialog does
 * not verify. Keys are shared by a fleet; the first signs, all verify, so that keys can rotate. */
#ifndef WEIR_FLOW_H
#define WEIR_FLOW_H

#include "base/base.h"
#include "step/step.h"

enum side { SIDE_OUTSIDE = 0, SIDE_INSIDE = 1 };

enum { TOKEN_KEY_BYTES_MIN = 16, TOKEN_KEY_BYTES_MAX = 64, TOKEN_TEXT_MAX = 96 };

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

enum token_kind { TOKEN_ROUTE = 1 };

struct token {
    uint8_t kind;
    uint8_t side_caller; /* where the request that began the dialog came from */
    uint8_t side_callee; /* where it went */
    uint8_t listener;    /* that it came in on */
    uint8_t transport;   /* it came over */
    uint16_t node;       /* node id of the edge that made it */
    uint16_t worker;
    uint32_t from_tag;   /* low bits of a hash of the caller's tag: tells the direction */
    uint32_t callee;     /* token_host_hash() of where it was sent: the dialog may reach it again */
    struct addr caller;  /* its source address */
    struct flow_id flow; /* its connection; gen 0 for UDP */
};

/* Appends the token's text. `from_tag` is hashed into token->from_tag's place by the caller with
 * token_tag_hash(). */
void token_put(struct text *t, const struct token_keys *keys, const struct token *token,
               struct slice call_id);

enum token_err { TOKEN_E_FORM = -401, TOKEN_E_KEY = -402, TOKEN_E_MAC = -403 };

/* Reads and verifies. Constant time in the MAC. Returns 0 or a token_err; untouched on failure. */
MUST_USE int token_parse(const struct token_keys *keys, struct slice text, struct slice call_id,
                         struct token *ret_token);

/* The same for every edge that shares nothing but the algorithm. */
uint32_t token_tag_hash(struct slice tag);
uint32_t token_host_hash(const struct addr *host); /* the port does not count */

/* ---- flows ----------------------------------------------------------------------------------- */

/* A stream connection as the engine sees it. */
struct flow {
    struct flow_id id;
    struct addr peer;
    uint8_t listener; /* LISTENER_NONE: we opened it without one */
    uint8_t transport;
    uint8_t side;
    bool connecting;
    bool closing;
    handle target;   /* pool target that it leads to, if we opened it for one */
    uint32_t next;   /* next of the same peer; FLOW_END ends */
    uint32_t users;  /* head of the edge's list of tries on it; FLOW_END ends */
    uint32_t askers; /* head of the edge's list of relays that wait on it for an answer */
    uint32_t open;   /* how many those are */
    mono_ns opened;
    uint64_t messages_in, messages_out;
    mono_ns last_in;
};
enum { FLOW_END = UINT32_MAX };

struct flows; /* table: by slot, and by (transport, peer) for those that we opened */

/* Boot memory, in bytes. */
size_t flows_memory(uint32_t accepted_max, uint32_t opened_max);
/* `worker` goes into the ids of the flows that it opens. NULL when `mem` is too small. */
struct flows *flows_new(struct arena *mem, uint32_t accepted_max, uint32_t opened_max,
                        struct hash_seed seed, uint32_t worker);

/* Records an accepted connection. NULL when its slot is beyond the table (our driver's bug is
 * caught by MUST; a full table by the driver's own limit). */
struct flow *flow_accepted(struct flows *f, struct flow_id id, const struct addr *peer,
                           uint8_t listener, uint8_t transport, uint8_t side, mono_ns now);

/* A new flow of ours, connecting, with a fresh id; NULL when the table is full. */
struct flow *flow_open(struct flows *f, const struct addr *peer, uint8_t listener,
                       uint8_t transport, uint8_t side, mono_ns now);

/* The very connection, or NULL: gone, or never was. Safe on any id from a token. */
struct flow *flow_get(struct flows *f, struct flow_id id);

/* Among flows that we opened to this peer: the one with the fewest open tries; NULL if none.
 * *ret_count = how many there are. */
struct flow *flow_to(struct flows *f, const struct addr *peer, uint8_t transport,
                     uint32_t *ret_count);

/* When the table is full: one that we opened and that nobody uses; of the few that are looked at
 * the one that has been silent for longest; NULL if none. To be closed, for the next one's sake. */
struct flow *flow_idle(struct flows *f);

/* It is gone: its id finds nothing from now on. NULL is ignored. */
void flow_forget(struct flows *f, struct flow *flow);

/* Back-off of connects, per peer: after a failure none is tried for 100 ms, doubling up to 5 s.
 * flow_may_connect() asks, flow_connect_result() tells. The memory is bounded: when more than four
 * failing peers meet in one set of it, the one whose time is over first is forgotten. */
bool flow_may_connect(const struct flows *f, const struct addr *peer, uint8_t transport,
                      mono_ns now);
void flow_connect_result(struct flows *f, const struct addr *peer, uint8_t transport,
                         bool connected, mono_ns now);

/* Iteration for `show`: *cursor = 0 at first. */
struct flow *flow_next(struct flows *f, uint32_t *cursor);
uint32_t flows_live(const struct flows *f);

#endif
