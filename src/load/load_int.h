/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this room share. */
#ifndef WEIR_LOAD_INT_H
#define WEIR_LOAD_INT_H

#include "load/load.h"
#include "net/net.h"
#include "observe/observe.h"
#include "sip/sip.h"
#include "wire/wire.h"

/* ---- words.c: words of a command line, and places -----------------------------------------------
 */

/* "500ms", "2s", "10m", "1h". 0, or -1. */
MUST_USE int load__span(struct slice s, dur_ns *ret_span);

/* "200", "200/s", "max" (0). 0, or -1. */
MUST_USE int load__rate(struct slice s, uint32_t *ret_rate);

/* "99%", "99.5%", "0". 0, or -1. */
MUST_USE int load__permille(struct slice s, uint32_t *ret_permille);

/* "tls://127.0.0.1:5061", "sip:bob@127.0.0.1;transport=tcp", "127.0.0.1:5060"; the port is that of
 * the transport when none stands there. 0, or -1: a name, or a scheme of nobody's. */
MUST_USE int load__place(struct slice s, struct load_place *ret_place);

/* Whether an address is of this machine or of a private network: 127/8, ::1, RFC 1918, RFC 4193,
 * link-local ones. */
bool load__is_private(const struct addr *a);

/* The address number `n` of a prefix. The first and the last of an IPv4 network are nobody's, and
 * left out where there are others; beyond the end it begins again. */
struct addr load__source(const struct prefix *p, uint64_t n);

/* "udp://127.0.0.1:5060". */
void load__put_place(struct text *t, const struct load_place *p);

/* ---- backoff.c ----------------------------------------------------------------------------------
 */

/* RFC 5626 4.5: how long to wait after `failures` (from 1 on) in a row: the upper bound is base
 * doubled that often, at most `cap`, and the wait 50 to 100 % of it. `failures` 0: no wait. */
dur_ns load__backoff(unsigned failures, dur_ns base, dur_ns cap, struct prng *prng);

/* A uniformly random span below `span`. */
dur_ns load__some_of(dur_ns span, struct prng *prng);

/* ---- stats.c ------------------------------------------------------------------------------------
 */

enum { SERIES_MAX = 600 };

/* What is counted, for all kinds; name of the JSON field, and what it is called for phones and
 * calls. The first six are drawn over time, too. */
#define LOAD_COUNTS(X)                                                                             \
    X(offered, "registrations tried", "calls offered")                                             \
    X(admitted, "connections made", "calls ringing")                                               \
    X(ok, "registrations acknowledged", "calls answered")                                          \
    X(refused, "refused with 503", "refused with 503")                                             \
    X(failed, "attempts failed", "calls failed")                                                   \
    X(retries, "tries again", "requests sent again")                                               \
    X(closed, "connections closed by the server", "connections closed by the server")              \
    X(timeouts, "answers that never came", "answers that never came")                              \
    X(moved, "phones that followed a 302", "calls redirected")                                     \
    X(challenged, "challenges answered", "calls challenged")                                       \
    X(in_dialog, "requests in dialogs", "requests in dialogs")                                     \
    X(in_dialog_ok, "of them answered with 2xx", "of them answered with 2xx")                      \
    X(resumed, "TLS sessions resumed", "TLS sessions resumed")                                     \
    X(local, "attempts that this machine refused", "sockets that this machine refused")            \
    X(pings, "pings sent", "pings sent")                                                           \
    X(requests_in, "requests received", "requests received")                                       \
    X(unread, "messages that could not be read", "messages that could not be read")

enum load_count {
#define X(name, phones, calls) COUNT_##name,
    LOAD_COUNTS(X)
#undef X
        COUNTS,
    COUNTS_DRAWN = COUNT_retries + 1,
};

/* One slice of time. */
struct moment {
    uint32_t n[COUNTS_DRAWN];
    uint32_t up; /* registered, or calls open, at its end */
    struct histogram latency;
};

/* Time so far in at most SERIES_MAX slices of one width: when there would be more, two and two
 * become one, and slices are twice as wide from then on.
 *
 *      width 100 ms   │0│1│2│3│ … │598│599│          after 60 s
 *      width 200 ms   │0 1│2 3│ … │598 599│ … │      until 120 s */
struct series {
    dur_ns width;
    mono_ns began;
    uint32_t count; /* slices that were begun */
    struct moment *at;
};

struct stats {
    uint64_t n[COUNTS];
    uint64_t status[700]; /* answers by their code; finals only */
    uint64_t other_status;
    uint32_t up, up_max;
    struct histogram latency;   /* µs: REGISTER to 200, or INVITE to 200 */
    struct histogram added;     /* µs: calls that we answer ourselves: what lay between */
    struct histogram connected; /* µs: connect() to the end of the TLS handshake */
    struct series series;
};

/* A count's name in JSON, and for people, who call the same thing otherwise when it is of calls. */
const char *load__count_key(int count);
const char *load__count_text(const struct load_opts *o, int count);
/* Appends "  answered 12", for the line of progress. */
void load__put_count(struct text *t, struct slice what, uint64_t n);

/* Begins; takes memory for the series. 0, or -1 when there is none. */
MUST_USE int load__stats_init(struct stats *s, mono_ns now);
void load__stats_done(struct stats *s);

/* One more of something. */
void load__stats_count(struct stats *s, enum load_count what, mono_ns now);
/* Registered phones or open calls: one more, or one less. */
void load__stats_up(struct stats *s, int by, mono_ns now);
void load__stats_latency(struct stats *s, dur_ns took, mono_ns now);
void load__stats_status(struct stats *s, unsigned status);

/* Brings the series up to `now`, and returns its slice of it. */
struct moment *load__stats_moment(struct stats *s, mono_ns now);

/* ---- report.c, html.c ---------------------------------------------------------------------------
 */

/* What came of it, beside the counts. */
struct outcome {
    uint64_t wanted, reached; /* for the bar of `expect_permille` */
    dur_ns took;
    dur_ns reached_at[5];            /* phones: 50, 90, 99, 99.9 and 100 % registered; MONO_NONE */
    double cpu_user_s, cpu_system_s; /* of ourselves */
    uint64_t memory_bytes;           /* resident, of ourselves */
    uint64_t wire_out, wire_in;      /* packets of a flood, answers to it */
    bool interrupted, is_met;
};
extern const unsigned load__outcome_permille[5];

void load__report_table(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                        FILE *out);
void load__report_json(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                       FILE *out);
/* A page of its own: no script, no other file. */
void load__report_html(const struct load_opts *o, const struct stats *s, const struct outcome *u,
                       FILE *out);
/* "12.3ms". */
const char *load__report_us(uint64_t us, char bytes[24]);

/* ---- hello.c ------------------------------------------------------------------------------------
 */

enum hello_step {
    HELLO_MORE = 0, /* whole records were taken; what is left is half of one */
    HELLO_DONE,     /* send what was written; then load__hello_flow() */
    HELLO_FAILED,
    HELLO_OTHER, /* the server wants what we do not do: connect again, and let OpenSSL do it */
};
enum { HELLO_OUT_BYTES_MAX = 58, TICKET_BYTES_MAX = 512 };

/* A session to go on with (RFC 8446 4.6.1): n is 0 until the server has given one. */
struct ticket {
    uint8_t resumption[32]; /* of the connection that it came over */
    uint8_t key[32];
    mono_ns came;
    uint32_t age_add;
    uint16_t n;
    uint8_t bytes[TICKET_BYTES_MAX];
};

struct hello;
struct hello_env;

/* What all handshakes of a run share; `name` for SNI, or empty. NULL when OpenSSL lacks something.
 */
struct hello_env *load__hello_env_new(struct slice name);
void load__hello_env_free(struct hello_env *e);

/* Begins one, offering `t` when it is not NULL and there is one; *ret_out is to be sent, and valid
 * until the next begins. NULL without memory. */
struct hello *load__hello_new(struct hello_env *e, struct prng *prng, const struct ticket *t,
                              mono_ns now, struct slice *ret_out);

/* Goes on with in[0, n), which it changes; *ret_used bytes are done with. What is to be sent is
 * written to `out`, *ret_out bytes. Returns an enum hello_step. */
MUST_USE int load__hello_step(struct hello *h, char *in, size_t n, size_t *ret_used,
                              uint8_t out[HELLO_OUT_BYTES_MAX], size_t *ret_out);

/* After DONE: the record layer's state. */
void load__hello_flow(const struct hello *h, struct tls_flow *ret_flow);
bool load__hello_is_resumed(const struct hello *h);
/* What tickets of this connection are read with; one that there is stays until another comes. */
void load__hello_ticket(const struct hello *h, struct ticket *ret_ticket);
/* Takes a NewSessionTicket; anything else, and one that is too long, is left alone. */
void load__ticket_take(struct ticket *t, struct slice message, mono_ns now);
void load__hello_free(struct hello *h);

/* ---- run.c --------------------------------------------------------------------------------------
 */

struct load;

struct timer {
    struct wheel_node node; /* first: the wheel knows nothing else */
    void (*fn)(struct load *l, struct timer *t);
};

/* What epoll points at. */
struct io {
    void (*fn)(struct load *l, struct io *io, uint32_t events);
};

/* A message, and a read behind it (RECEIVE_BYTES), and half a TLS record before it. */
enum { BUFFER_BYTES = 192 * 1024, RECEIVE_BYTES = 32 * 1024 };

struct load {
    const struct load_opts *o;
    FILE *out, *err;
    int ep, signals;
    struct wheel wheel;
    struct prng prng;
    mono_ns now, began;
    uint32_t run; /* part of all identifiers: no request of one run repeats one of another */
    bool over, interrupted;
    struct stats stats;
    struct tls_codec codec;
    struct tls_client *client;  /* NULL without TLS */
    struct hello_env *hello;    /* NULL: OpenSSL makes the handshakes */
    bool is_plain_hello;        /* the server wanted something else: no more of hello.c */
    char *raw, *plain, *sealed; /* BUFFER_BYTES each: what is being read, and written */
    void *role;                 /* struct phones, struct calls, struct flood */
    struct answers *answers;
    struct timer tick;
    uint64_t wire_out, wire_in;
    uint64_t arrival; /* wall clock: when what is in hand came, a datagram to the kernel */
};

void load__arm(struct load *l, struct timer *t, mono_ns at);
/* Reads the clock. */
void load__now(struct load *l);
/* The system refused a socket, errno says why: counted, and told once. */
void load__local_failure(struct load *l);
MUST_USE int load__watch(struct load *l, int fd, struct io *io, uint32_t events);
/* Bytes that `n` objects need and that cost nothing until they are touched; NULL. Never given
 * back. */
void *load__map(size_t n);

/* One kind of load. `begin` returns 0 or -1 after saying why; `report` fills what it knows. */
struct role {
    int (*begin)(struct load *l);
    void (*progress)(struct load *l, struct text *t);
    void (*report)(struct load *l, struct outcome *u);
    void (*end)(struct load *l);
};
extern const struct role load__phones_role, load__calls_role, load__flood_role;

/* ---- conn.c -------------------------------------------------------------------------------------
 */

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_SHAKING, CONN_UPGRADING, CONN_OPEN };

enum conn_end {
    CONN_REFUSED,  /* it never opened: nobody listens, or it was closed before it was open */
    CONN_TLS,      /* the handshake failed */
    CONN_BROKEN,   /* an open one was closed or reset by the peer */
    CONN_PROTOCOL, /* what came was no SIP, or no TLS record */
};

struct conn;

/* What a connection tells its owner. Each call may close it, or open it again. */
struct conn_user {
    void (*opened)(struct load *l, struct conn *c);
    void (*message)(struct load *l, struct conn *c, struct slice bytes, const struct addr *from);
    void (*pong)(struct load *l, struct conn *c);
    void (*closed)(struct load *l, struct conn *c, enum conn_end end);
};

/* A way to a server over any transport. Over UDP it is a socket, and open at once.
 *
 *      recv ─▶ raw ─▶ TLS records ─▶ plain ─▶ WebSocket frames ─▶ messages
 *               │                      │
 *               └── half of one ───────┴── half of one: `kept`, until more comes */
struct conn {
    struct io io;
    const struct conn_user *user;
    int fd;
    uint32_t life; /* counts openings: a callback sees whether it is still the same */
    struct addr peer, local;
    uint8_t transport, state;
    bool is_connected_udp;
    bool awaits_pong; /* on a stream of SIP: the next blank line is one, and no half of a ping */
    struct sip_framer framer;
    struct ws_reader ws;
    uint32_t kept_raw, kept_plain; /* bytes at `kept`: raw ones first */
    uint32_t out_n;
    char *kept;
    char *out;                   /* sealed bytes that the socket did not take */
    struct tls_handshake *shake; /* one of the two, while it shakes hands */
    struct hello *hello;
    struct ticket *ticket; /* NULL unless it may resume; outlives the connection, the owner's */
    struct tls_flow flow;
};

/* Begins to connect to `to`, from `source` (family 0: whatever). 0, or -1 with errno. `opened` is
 * called later, for UDP too. */
MUST_USE int load__conn_open(struct load *l, struct conn *c, const struct load_place *to,
                             const struct addr *source, const struct conn_user *user);

/* Sends a whole message; over UDP to `to`, or to the peer when it is NULL. 0, or -1: then it is as
 * good as closed, and told so by the next event. */
int load__conn_send(struct load *l, struct conn *c, struct slice bytes, const struct addr *to);

/* A keep-alive: CRLF CRLF. */
int load__conn_ping(struct load *l, struct conn *c);

/* Closes without a word to the owner. `hard`: with a reset, which leaves no port behind. */
void load__conn_close(struct load *l, struct conn *c, bool hard);

/* A connection that `listen`ed and was accepted, or a bound UDP socket: open at once. */
MUST_USE int load__conn_adopt(struct load *l, struct conn *c, int fd, uint8_t transport,
                              const struct conn_user *user);

/* Binds (and listens, over TCP). The descriptor, or -1 with errno. */
MUST_USE int load__conn_listen(const struct load_place *at, struct addr *ret_at);

/* A socket that is being connected to `to`, from `source` (family 0: whatever), without blocking.
 * The descriptor, or -1 with errno. */
MUST_USE int load__conn_begin(const struct load_place *to, const struct addr *source);
/* The address that a socket is bound to; family 0. */
struct addr load__conn_local(int fd);

/* The address that packets to `to` leave from, port 0. 0, or -1 with errno. */
MUST_USE int load__conn_route(const struct addr *to, struct addr *ret_source);

/* ---- message.c ----------------------------------------------------------------------------------
 */

enum { MESSAGE_BYTES_MAX = 8192, ROUTES_BYTES_MAX = 1024, TARGET_BYTES_MAX = 256 };

/* "UDP", as a Via says it; "tls", as a URI does (wss is ws there: RFC 7118). */
struct slice load__via_name(uint8_t transport);
struct slice load__uri_name(uint8_t transport);

/* The Route lines of a dialog whose INVITE was answered by `m`: its Record-Route values, last first
 * (RFC 3261 12.1.2). Empty when they are too many. */
void load__routes(const struct sip_msg *m, struct text *t);

/* The URI of the first Contact; empty. */
struct slice load__contact(const struct sip_msg *m);

/* The beginning of a Via line, up to "branch=". */
void load__put_via(struct text *t, const struct conn *c);

/* The end of a message: Content-Type, Content-Length, and an offer or answer of one stream of
 * audio, as most calls carry it. */
void load__put_sdp(struct text *t, const struct conn *c);

/* ACK to a final answer that is none of 2xx, from nothing but the answer (RFC 3261 17.1.1.3). */
void load__write_ack(struct text *t, const struct sip_msg *m, const struct sip_facts *f,
                     struct slice uri, const struct conn *c);

/* Retry-After in seconds; 0 when there is none (RFC 3261 20.33). */
uint32_t load__retry_after(const struct sip_msg *m);

/* ---- digest.c -----------------------------------------------------------------------------------
 */

/* Writes an Authorization (or Proxy-Authorization) line for the challenge of `m`, RFC 7616 and
 * RFC 8760, MD5 or SHA-256. 0, or -1: no challenge, or one that we cannot answer. */
MUST_USE int load__authorize(struct text *t, const struct sip_msg *m, struct slice method,
                             struct slice uri, struct slice user, struct slice password,
                             uint64_t cnonce);

/* ---- answer.c -----------------------------------------------------------------------------------
 */

struct answers;

/* What answers calls, and repeats its 200s over UDP until they are acknowledged (RFC 3261
 * 13.3.1.4). Listens at all places of the options. NULL after saying why. */
struct answers *load__answers_new(struct load *l);
void load__answers_free(struct load *l, struct answers *a);

/* Answers any request that came over `c`: INVITE with 180 and then `status`, ACK by silence,
 * CANCEL, OPTIONS, BYE and others with 200. The answers go to `from`. */
void load__answers_take(struct load *l, struct answers *a, struct conn *c, const struct sip_msg *m,
                        const struct addr *from, int status);

/* ---- calls.c ------------------------------------------------------------------------------------
 */

/* Tells the caller in this process when its INVITE came, and when the 200 went, by the wall clock:
 * for the delay that lies between. Call-IDs of others are ignored. */
void load__calls_saw_invite(struct load *l, struct slice call_id, uint64_t came_ns,
                            uint64_t sent_ns);
/* The wall clock. */
uint64_t load__wall(void);

#endif
