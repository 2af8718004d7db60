/* SPDX-License-Identifier: Apache-2.0
 *
 * registrar: who is reachable where (RFC 3261 10, 3327, 5626, 5627). Each worker has one; it owns
 * the addresses-of-record whose hash falls to it (registrar_owner), so nothing is shared.
 *
 *   AOR "alice@example.com"
 *    └▶ phone (+sip.instance)        one thing that rings: its flows are alternatives
 *    │   ├▶ binding reg-id 1  contact, Path, the very flow it came over
 *    │   └▶ binding reg-id 2
 *    └▶ phone (a contact without an instance)
 *        └▶ binding
 *
 * Nothing is acknowledged before it is stored. A REGISTER becomes a list of records; the driver
 * makes them durable; only then do they count here, and only then does a 200 leave:
 *
 *   registrar_register() ──records──▶ ACT_STORE ──EV_STORED──▶ registrar_commit() ──▶ 200
 */
#ifndef WEIR_REGISTRAR_H
#define WEIR_REGISTRAR_H

#include "base/base.h"
#include "flow/flow.h"
#include "sip/sip.h"
#include "step/step.h"

/* ---- options (part of the snapshot) ---------------------------------------------------------- */

struct registrar_user {
    struct slice name; /* user part, as in the credentials file */
    bool has_md5, has_sha256;
    uint8_t ha1_md5[16]; /* H(user ":" realm ":" password), RFC 7616 */
    uint8_t ha1_sha256[32];
};

enum registrar_fork { REGISTRAR_FORK_Q, REGISTRAR_FORK_PARALLEL };

enum digest_algorithm { DIGEST_MD5, DIGEST_SHA256 };
enum { DIGEST_ALGORITHMS = 2 };

struct registrar_opts {
    bool on;
    const struct slice *domains; /* lower case, no port */
    uint16_t domain_count;
    uint32_t expires_min_s, expires_max_s, expires_default_s;
    uint8_t expires_jitter_percent; /* what is granted is shortened by 0..this, so that phones that
                                       came together do not come back together */
    uint16_t contacts_max;          /* bindings of one AOR */
    uint8_t fork;                   /* enum registrar_fork */
    bool require_outbound;          /* 439 when the first hop knows no outbound (RFC 5626 6) */
    uint32_t flow_timer_s;          /* Flow-Timer of answers; 0 = none */
    struct slice service_route;     /* a whole Service-Route value (RFC 3608); empty = none */
    bool digest;                    /* else everybody is believed */
    struct slice realm;             /* without quotes and backslashes */
    uint8_t offer[DIGEST_ALGORITHMS]; /* enum digest_algorithm: challenges from the top on; no other
                                         is taken, either */
    uint8_t offer_count;              /* 0: SHA-256, then MD5 */
    uint32_t nonce_life_s;
    const struct registrar_user *users; /* sorted by name */
    uint32_t user_count;
    const struct token_keys *keys; /* sign nonces: the fleet's, so every registrar verifies them */
};

enum {
    REGISTRAR_DOMAINS_MAX = 256,
    REGISTRAR_AOR_BYTES_MAX = 255,
    REGISTRAR_TARGETS_MAX = 32,
    REGISTRAR_CONTACTS_MAX = 64, /* contacts_max has no effect above it */
    REGISTRAR_BINDINGS_MAX = 1 << 23,
};

/* ---- one worker's registrar ------------------------------------------------------------------ */

struct registrar;

/* Boot memory, in bytes, for `bindings_max` bindings (0: no registrar; registrar_new is then not
 * called). */
size_t registrar_memory(uint32_t bindings_max);
/* `seed` is the one that all workers of this process share: it also tells bindings of this process
 * from those that an earlier one stored, whose flows are gone. NULL when `mem` is too small, or
 * `bindings_max` is 0 or above REGISTRAR_BINDINGS_MAX. */
struct registrar *registrar_new(struct arena *mem, uint32_t bindings_max, struct hash_seed seed,
                                uint64_t prng_seed);
/* Takes fail as `f` says; NULL in life. */
void registrar_fault(struct registrar *r, struct fault *f);
/* Before the memory is used for something else; see slab_done(). */
void registrar_done(struct registrar *r);
/* Between events; `opts` lives until the next adopt. */
void registrar_adopt(struct registrar *r, const struct registrar_opts *opts);

/* The canonical AOR of a URI: unescaped user, "@", lower-case host without port or parameters.
 * 0; -1 when it is none of `opts`' domains (or has no user, or does not fit `t`): t is untouched.
 * RFC 3261 10.3 step 5. */
MUST_USE int registrar_aor(const struct registrar_opts *opts, const struct sip_uri *uri,
                           struct text *t);
/* The worker that owns it: the same for every worker of a process. */
uint32_t registrar_owner(const struct hash_seed *shared, struct slice aor, uint32_t workers);

/* Where a REGISTER came from, beside what it says. */
struct reg_origin {
    struct flow_id flow; /* gen 0: a datagram (`slot` and `worker` are kept as they are), or not
                            straight from a client */
    struct addr source;
    uint8_t transport;
    uint8_t listener;
    bool direct; /* over an outside flow of this process: calls go down that flow, no Path needed */
};

/* What to do about a REGISTER. */
struct reg_answer {
    int status;           /* 200: with records, answer after they are stored */
    struct slice reason;  /* empty = standard */
    struct slice extra;   /* header lines, in scratch */
    struct slice records; /* empty: nothing to store, answer now */
    bool failed_auth;     /* it came with credentials, and they are wrong */
};

/* Judges one REGISTER of an AOR that is ours: authentication, Contacts, Expires, CSeq, limits.
 * Changes no binding; what is remembered are counts of nonces, and that puts are under way: records
 * go to the store at once and in this order, or nowhere. `m`, `f` have passed sip_check_request().
 * RFC 3261 10.3, 5626 6, 7616. */
void registrar_register(struct registrar *r, const struct sip_msg *m, const struct sip_facts *f,
                        const struct reg_origin *from, mono_ns now, uint64_t wall_ns,
                        struct arena *scratch, struct reg_answer *ret);

/* Does it answer a challenge that we gave to it lately? Whether the password is right, nobody knows
 * yet: it is only not here for the first time, and over UDP its source is no pretence. */
bool registrar_was_challenged(const struct registrar *r, const struct sip_msg *m,
                              const struct reg_origin *from, uint64_t wall_ns);

/* The records are durable: they count from now on. Also loads a record at start. Anything that is
 * not a whole record of a version we know is counted and skipped. Returns how many were taken: one
 * of a binding that has expired meanwhile counts; one less than there are means that the table ran
 * full after registrar_register() had looked (answer 503 then). */
unsigned registrar_commit(struct registrar *r, struct slice records, mono_ns now, uint64_t wall_ns);

/* The header lines of the 200 to a REGISTER: Contact with what is left of each binding's time,
 * Path, Service-Route, Supported, Require: outbound, Flow-Timer, GRUUs, Date. From the state after
 * registrar_commit(). */
struct slice registrar_answer_lines(struct registrar *r, const struct sip_msg *m,
                                    const struct sip_facts *f, const struct reg_origin *from,
                                    mono_ns now, uint64_t wall_ns, struct arena *scratch);

/* One way to reach one phone. Slices are the registrar's: valid until that binding ends, or
 * anything is committed. */
struct reg_target {
    uint64_t binding; /* id, never used twice by its registrar; a refresh over the same way keeps
                         it, another way is a new one */
    uint32_t phone;   /* same number: alternatives, only one of them may ring */
    uint16_t q;       /* thousandths */
    bool direct;      /* `flow` (or, gen 0, datagrams from `listener` to `source`) leads there */
    struct slice contact; /* the URI that goes into the Request-URI, as the phone wrote it */
    struct slice path;    /* Path values, comma list; empty = none */
    struct flow_id flow;
    struct addr source;
    uint8_t transport;
    uint8_t listener;
};
/* Everything that an AOR leads to: highest q first (with REGISTRAR_FORK_PARALLEL all q count as
 * one: 1000), the ways of one phone behind each other, its newest flow first. `uri`: the
 * Request-URI, whose gr= parameter narrows it to one instance (RFC 5627). 0 targets: 404 when the
 * AOR was never seen and *ret_known is false, else 480. */
unsigned registrar_lookup(struct registrar *r, struct slice aor, const struct sip_uri *uri,
                          mono_ns now, struct reg_target *ret, unsigned max, bool *ret_known);

/* Bindings that end by themselves. Each appends delete records to `records`, and takes effect at
 * once; what does not fit follows with the next registrar_expire(), for which there is a deadline
 * then. With less room than REGISTRAR_END_BYTES none fits. A lost delete is only a binding that
 * comes back at a restart and fails with 430. */
enum { REGISTRAR_END_BYTES = 8 + 480 };
void registrar_flow_gone(struct registrar *r, struct flow_id flow, struct text *records);
void registrar_binding_gone(struct registrar *r, uint64_t binding, struct text *records);
void registrar_expire(struct registrar *r, mono_ns now, struct text *records);
/* By command: all bindings of an AOR. Returns how many there were. */
unsigned registrar_remove(struct registrar *r, struct slice aor, struct text *records);
mono_ns registrar_deadline(const struct registrar *r);

/* Rows of JSON lines, as edge_show(): all bindings, or those of `aor` when it is not empty. */
void registrar_show(struct registrar *r, struct slice aor, uint64_t *cursor, mono_ns now,
                    struct text *t);

struct registrar_load {
    uint32_t aors, bindings;
};
/* What is alive now: AORs with a binding, and bindings. */
struct registrar_load registrar_load(const struct registrar *r);

/* ---- records ---------------------------------------------------------------------------------
 *
 *   u32 bytes of the rest | u8 version | u8 op (1 put, 2 delete) | u16 key bytes | key | value
 * Big endian. The key is "aor\0instance-or-contact\0reg-id"; the value is registrar's own. The
 * store knows this head and nothing else. */
enum {
    RECORD_VERSION = 1,
    RECORD_PUT = 1,
    RECORD_DELETE = 2,
    RECORD_KEY_BYTES_MAX = 480,
    RECORD_BYTES_MAX = 8192
};
struct record {
    uint8_t op;
    struct slice key, value;
    struct slice whole;
};
/* Takes one record off the front of *rest. 1, 0 at the end, -1 when it is no record. */
int record_next(struct slice *rest, struct record *ret);
/* Whether it puts a binding whose time is over at `wall_ns`. */
bool record_is_over(const struct record *r, uint64_t wall_ns);

/* Who is at an address over UDP, as a record says it. False: it says nothing of the kind. */
struct reg_phone {
    struct addr source;
    uint32_t phone; /* reg_origin.flow.slot */
    uint8_t listener;
    uint64_t expires_wall_ms;
};
bool registrar_record_phone(const struct registrar *r, const struct record *one,
                            struct reg_phone *ret);

#endif
