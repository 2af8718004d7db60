/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the registrar share.
 *
 *   aors (map: hash of the AOR)            flows (map: generation of the flow)
 *     │                                      │
 *     ▼ slot                                 ▼ slot of the first
 *   aor ──first──▶ binding ──next──▶ …     binding ◀─flow_prev, flow_next─▶ binding
 *    │ text          │ text  (one block: contact | instance | Path)
 *    ▼               ▼
 *   text slabs: 64, 128, 192, 256, 336, 512, 1024, 3072 bytes
 *
 * A typical binding (contact 90 bytes, instance 45, Path 150, alone in its AOR) costs 128 + 336 +
 * 48 + 64 bytes, its share of the maps and 8 bytes of each slab: less than 0.7 KiB.
 *
 * An AOR that has lost its last binding stays, idle, until its place is needed: 480 tells more than
 * 404. */
#ifndef WEIR_REGISTRAR_REGISTRAR_INT_H
#define WEIR_REGISTRAR_REGISTRAR_INT_H

#include "registrar/registrar.h"

enum {
    REG_AOR_BINDINGS_MAX = 64, /* whatever the options say: an answer lists them all */
    REG_CONTACTS_MAX = 32,     /* values in one REGISTER */
    REG_CONTACT_BYTES_MAX = 512,
    REG_INSTANCE_BYTES_MAX = 128,
    REG_PATH_BYTES_MAX = 2048,
    REG_PATHS_MAX = 16,
    REG_KEY_CONTACT_BYTES_MAX = 200, /* a longer contact stands in the key as its SHA-256 */
    REG_ID_MAX = INT32_MAX,          /* RFC 5626 4.2: 1 to 2^31 - 1 */
    REG_SLOT_BITS = 24,              /* of a binding's id */
    REG_RETRY_AFTER_S = 30,
    TEXT_CLASSES = 8,
    NONCE_CELLS = 4096, /* nonces whose count is remembered */
    NONCE_WAYS = 4,
    PENDING_CELLS = 4096, /* counts of records under way, by hash of the AOR */
    PENDING_S = 60,       /* after twice as long nothing is under way any more */
};
#define REG_SLOT_NONE UINT32_MAX

/* The flow of a binding that was stored by another process: it is nobody's. */
#define REG_FLOW_LOST_GEN UINT64_MAX

struct text_ref {
    handle block;
    uint8_t class;
};

struct texts {
    struct slab class[TEXT_CLASSES];
};

enum {
    BIND_DIRECT = 1,
    BIND_OUTBOUND = 2, /* its key is (instance, reg-id): RFC 5626 */
    BIND_BITS = BIND_DIRECT | BIND_OUTBOUND,
};

struct binding {
    struct wheel_node timer; /* .at is when it expires; first: the wheel gives it back */
    uint64_t id;             /* serial << REG_SLOT_BITS | slot; a new way gets a new one */
    uint64_t call_id;        /* call_id_hash() */
    struct flow_id flow;
    struct addr source;
    handle block; /* contact, instance, Path, one behind the other */
    uint32_t aor; /* slot */
    uint32_t next;
    uint32_t flow_prev, flow_next;
    uint32_t cseq;
    uint32_t reg_id;  /* 0 = none that counts */
    uint32_t since_s; /* Unix time of the first REGISTER */
    uint16_t q;
    uint16_t contact_n, path_n;
    uint8_t instance_n;
    uint8_t class;
    uint8_t transport;
    uint8_t listener;
    uint8_t bits;
};

struct aor {
    uint64_t hash;
    handle block;
    uint32_t first; /* newest binding first */
    uint32_t idle_prev, idle_next;
    uint16_t count;
    uint8_t name_n;
    uint8_t class;
};

/* What is remembered of a nonce: its highest count. An empty cell has `nc` 0. */
struct nonce_cell {
    uint64_t hash;
    uint32_t nc;
    uint32_t made_s; /* low bits of its timestamp: the oldest of a set gives way */
};

/* Puts that were given to the store and have not come back, of the AORs with one hash. */
struct pending_cell {
    uint16_t count[2]; /* given in this span of PENDING_S seconds, and in the one before */
    uint32_t span;     /* which */
};

struct registrar {
    const struct registrar_opts *opts;
    struct hash_seed seed;
    struct prng prng;
    uint64_t boot; /* the same for all workers of a process, of no other process */
    uint64_t serial;
    uint32_t bindings_max;
    struct slab bindings, aors;
    struct texts texts;
    struct map by_aor, by_flow;
    struct wheel wheel;
    uint32_t idle_first, idle_last; /* AORs without a binding, the longest idle first */
    uint32_t aors_live;             /* with a binding */
    uint64_t bad_records;
    uint8_t offer[DIGEST_ALGORITHMS]; /* enum digest_algorithm: challenges from the top on */
    uint8_t offer_count;
    struct nonce_cell *nonces;
    struct pending_cell *pending;
    mono_ns now; /* of the last call that told it */
};

/* ---- texts ----------------------------------------------------------------------------------- */

size_t registrar__texts_memory(uint32_t count);
int registrar__texts_init(struct texts *t, struct arena *mem, uint32_t count);
/* The parts, one behind the other, in the smallest block with room. 0, or -1. */
int registrar__texts_keep(struct texts *t, const struct slice *parts, unsigned count,
                          struct text_ref *ret_ref);
bool registrar__texts_have(const struct texts *t, size_t n);
void registrar__texts_release(struct texts *t, struct text_ref ref);

/* ---- bindings -------------------------------------------------------------------------------- */

struct binding *registrar__binding(const struct registrar *r, uint32_t slot);
struct aor *registrar__aor(const struct registrar *r, uint32_t slot);
uint32_t registrar__binding_slot(const struct registrar *r, const struct binding *b);

struct slice registrar__aor_name(const struct registrar *r, const struct aor *a);
struct slice registrar__contact(const struct registrar *r, const struct binding *b);
struct slice registrar__instance(const struct registrar *r, const struct binding *b);
struct slice registrar__path(const struct registrar *r, const struct binding *b);

struct aor *registrar__aor_find(const struct registrar *r, struct slice name);
/* Adds one without a binding, idle; NULL when there is no room. */
struct aor *registrar__aor_add(struct registrar *r, struct slice name);

/* A binding as a record tells it: what registrar__binding_put() makes one of. */
struct binding_facts {
    struct slice aor, contact, instance, path;
    uint64_t expires_wall_ms;
    uint64_t call_id;
    struct flow_id flow;
    struct addr source;
    uint32_t cseq, reg_id, since_s;
    uint16_t q;
    uint8_t transport, listener, bits;
};
/* Adds it, or puts it in the place of `old` (NULL: none). False when there is no room: `old` is
 * gone then, too. */
bool registrar__binding_put(struct registrar *r, struct aor *a, struct binding *old,
                            const struct binding_facts *f, mono_ns at);
/* Takes it out of everything. */
void registrar__binding_drop(struct registrar *r, struct binding *b);

/* ---- contacts -------------------------------------------------------------------------------- */

struct contact {
    struct slice uri, instance; /* instance: without its quotes; empty = none */
    struct sip_uri parsed;
    uint32_t expires_s;
    uint32_t reg_id; /* 0: none, or without an instance */
    uint16_t q;
    bool outbound;
    bool superseded; /* a later value of the same REGISTER says something else of it */
    struct binding *old;
};

/* One Contact value. 0, or -1 with *ret_why. Expires: `fallback_s` when it says nothing readable.
 * RFC 3261 20.10, 5626 4.1. */
int registrar__contact_parse(struct slice value, uint32_t fallback_s, struct contact *ret_contact,
                             struct slice *ret_why);
/* delta-seconds; what is too large is UINT32_MAX. 0, or -1: no digits. */
int registrar__seconds_parse(struct slice s, uint32_t *ret_seconds);
/* RFC 3261 19.1.4. */
bool registrar__uri_equal(const struct sip_uri *a, const struct sip_uri *b);
bool registrar__instance_equal(struct slice a, struct slice b);
/* Is it what we let into a header of our own: visible, no quote, no backslash? */
bool registrar__instance_is_clean(struct slice s);
/* Every value of a Path list: readable, sip or sips. *ret_last: the last one's URI. */
bool registrar__path_is_clean(struct slice path, struct sip_uri *ret_last);

/* ---- records --------------------------------------------------------------------------------- */

enum {
    RECORD_HEAD_BYTES = 8,
    RECORD_DELETE_BYTES_MAX = REGISTRAR_END_BYTES,
    RECORD_VALUE_HEAD_BYTES = 88,
};
void registrar__record_put(struct registrar *r, struct text *t, const struct binding_facts *f);
/* `reg_id` 0: the key is the contact. */
void registrar__record_delete(struct text *t, struct slice aor, struct slice instance,
                              struct slice contact, uint32_t reg_id);
/* The delete record of a binding. */
void registrar__record_end(struct registrar *r, struct text *t, const struct binding *b);
/* A put of this AOR goes to the store; it came back; is one under way? */
void registrar__pending_add(struct registrar *r, uint64_t aor_hash);
void registrar__pending_done(struct registrar *r, uint64_t aor_hash);
bool registrar__pending(const struct registrar *r, uint64_t aor_hash);
/* Appends the key (without its length). */
void registrar__key_put(struct text *t, struct slice aor, struct slice instance,
                        struct slice contact, uint32_t reg_id);
/* Is the key of `b` the same as of these? */
bool registrar__key_is(const struct registrar *r, const struct binding *b, struct slice instance,
                       struct slice contact, uint32_t reg_id);

/* ---- digest ---------------------------------------------------------------------------------- */

enum { DIGEST_HEX_MAX = 64 };

/* One Authorization: slices of it, without their quotes, quoted pairs as written. */
struct credentials {
    struct slice username, realm, nonce, uri, response, algorithm, cnonce, nc, qop;
};
/* What `o` lets be asked for, in order of preference; *ret_count: how many. */
const uint8_t *registrar__algorithms(const struct registrar_opts *o, unsigned *ret_count);

/* False when it is no Digest, or not readable. What is absent is empty; algorithm: MD5. */
bool registrar__credentials_parse(struct slice value, struct credentials *ret);
struct slice registrar__hex(const uint8_t *raw, size_t n, char dst[DIGEST_HEX_MAX]);
/* The response that `c` should hold, in hex. */
struct slice registrar__digest(enum digest_algorithm algorithm, struct slice ha1_hex,
                               struct slice method, const struct credentials *c,
                               char dst[DIGEST_HEX_MAX]);

/* Judges the Authorization of a REGISTER for `user` (unescaped user part of the AOR). 0: let in;
 * else a status, with ret->extra and ret->reason. RFC 7616, 8760. */
int registrar__authenticate(struct registrar *r, const struct sip_msg *m, struct slice user,
                            const struct reg_origin *from, uint64_t wall_ns, struct arena *scratch,
                            struct reg_answer *ret);
bool registrar__user_known(const struct registrar *r, struct slice aor);

/* ---- small ----------------------------------------------------------------------------------- */

/* A writer over all of the scratch that is left, up to `cap`; what was written is kept by
 * registrar__scratch_keep(). */
struct text registrar__scratch_text(struct arena *a, size_t cap);
/* Ends it: what was written, or nothing when it did not fit. */
struct slice registrar__scratch_keep(struct arena *a, struct text *t);
/* Does a list of option tags (Supported, Require) hold it? */
bool registrar__has_option(const struct sip_msg *m, enum sip_header_id id, struct slice option);
/* Appends a user part with what must be escaped escaped. */
void registrar__put_user(struct text *t, struct slice user);
/* ";gr=" and the instance (without its brackets) as a parameter of a URI. */
void registrar__put_gr(struct text *t, struct slice instance);
/* All Path values of a REGISTER in one list. Empty with *ret_status 0 when there are none, or
 * with the status to answer. */
struct slice registrar__path_of(const struct sip_msg *m, struct arena *scratch, int *ret_status);
/* Public and unkeyed: what another process stored must compare. */
uint64_t registrar__call_id_hash(struct slice call_id);
static inline uint64_t registrar__flow_hash(uint64_t gen)
{
    return gen * 0x9e3779b97f4a7c15ULL;
}

#endif
