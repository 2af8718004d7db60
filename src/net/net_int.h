/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this room share. Threads and what runs between them:
 *
 *            ┌──────── orders ───────▶┌──────────┐──── requests ──▶┌──────────┐
 *            │  main                  │ worker i │                 │ resolver │
 *            └◀─────── answers ───────└──────────┘◀─── answers ────└──────────┘
 *                                       ▲  │   │ ▲
 *                     hands (each pair) │  │   │ └── answers ── store (its own rings)
 *                                worker j  │   └─── records ───▶
 *                                          └── log records ──▶ logger
 *
 * Every arrow is one `struct ring` (one producer, one consumer) and a bit in the consumer's
 * `struct inbox`. Nothing else is shared but configuration, which is never written. */
#ifndef WEIR_NET_INT_H
#define WEIR_NET_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include "base/base.h"
#include "config/config.h"
#include "engine/engine.h"
#include "net/net.h"
#include "net/clock.h"
#include "net/tls.h"
#include "sip/sip.h"
#include "step/step.h"
#include "store/store.h"
#include "wire/wire.h"

enum {
    HAND_RING_BYTES = 256 * 1024, /* holds two of the largest messages */
    ORDER_RING_BYTES = 64 * 1024,
    ANSWER_RING_BYTES = 4 * 1024 * 1024, /* a page of rows is at most STEP_SCRATCH_ROOM */
    ASK_RING_BYTES = 64 * 1024,
    LOG_RING_BYTES = 1024 * 1024,
};

/* ---- os.c: the system calls that everybody needs ----------------------------------------------
 */

/* Zeroed private memory, touched lazily, kept in small pages; NULL when refused. Never unmapped
 * but by memory_unmap(). */
void *memory_map(size_t n);
void memory_unmap(void *p, size_t n);

/* A ring in memory of its own; NULL when refused. */
struct ring *ring_map(uint32_t size);

/* Bound non-blocking sockets. `shared`: SO_REUSEPORT. Return the descriptor or -1 with errno. */
int udp_open(const struct addr *bind_to, bool shared);
int tcp_listen(const struct addr *bind_to, bool shared);

/* How long ago that is, by arrival_of(); 0 when that cannot be. */
dur_ns waited_since(uint64_t wall_ns);

/* Unpredictable bytes, bought 4 KiB at a time. */
struct entropy {
    size_t left;
    unsigned char bytes[4096];
};
struct rng entropy_rng(struct entropy *e);

/* Room for `want` descriptors: raises the limit as far as it goes. Returns what there is. */
uint64_t descriptors_raise(uint64_t want);
/* The longest backlog that the system grants; UINT32_MAX when it does not say. */
uint32_t backlog_max(void);

/* ---- inbox: knocking on a thread that may be asleep -------------------------------------------
 */

struct inbox {
    _Alignas(64) _Atomic uint64_t from_workers; /* bit i: ring from worker i holds something */
    _Atomic uint32_t from_others;
    _Atomic uint32_t asleep; /* consumer waits for wake_fd */
    int wake_fd;             /* eventfd */
};
enum { INBOX_MAIN = 1, INBOX_RESOLVER = 2, INBOX_STORE = 4 };

int inbox_init(struct inbox *b);
void inbox_knock_worker(struct inbox *b, uint32_t worker);
void inbox_knock_other(struct inbox *b, uint32_t who);

/* Consumer. Says that it is about to sleep; false when there is something to do instead. */
bool inbox_may_sleep(struct inbox *b);
void inbox_awake(struct inbox *b);
void inbox_drain_fd(struct inbox *b);

/* ---- bufpool.c: buffers of streams ------------------------------------------------------------
 */

/* For what a connection holds while it must: the beginning of a message, or bytes that the peer
 * does not take. An idle connection holds none.
 *      4 KiB × 4096    20 KiB × 1024    128 KiB × 256    256 KiB × 64      touched when used
 * The second holds a whole TLS record. */
enum { BUF_CLASSES = 4 };
struct buf {
    char *p; /* NULL = none */
    uint32_t len;
    uint32_t off; /* first byte that still counts (write queues) */
    uint32_t cap;
    uint32_t class;
};
struct bufpool {
    struct slab class[BUF_CLASSES];
    void *memory;
};
MUST_USE int bufpool_init(struct bufpool *b);
void bufpool_done(struct bufpool *b);

/* Makes room for `more` bytes behind buf->len, moving what is there if need be. Returns 0, or -1
 * when that is above `max` bytes or no buffer is left; the buffer is as before then. */
MUST_USE int buf_room(struct bufpool *b, struct buf *buf, size_t more, size_t max);
void buf_release(struct bufpool *b, struct buf *buf);

/* ---- streams ----------------------------------------------------------------------------------
 */

enum conn_state {
    CONN_FREE = 0,
    CONN_CONNECTING,
    CONN_SHAKING, /* TLS handshake, then WebSocket upgrade: the engine knows nothing of it yet */
    CONN_OPEN,
    CONN_FLUSHING,  /* to be closed once its queue has left; what comes in is thrown away */
    CONN_LINGERING, /* our side is shut; waits for the peer's end so that no RST eats the answer */
    CONN_DOOMED,    /* on the worker's list: the engine has yet to be told */
};

enum {
    STUB_BYTES_MAX = 4,              /* of CR and LF: half a keep-alive is no message under way */
    STREAM_READ_BYTES_MAX = 32768,   /* per connection and turn: no peer starves the others */
    STREAM_QUEUE_BYTES_MAX = 262144, /* unsent bytes of a connection; above it is closed */
    STREAM_DISCARD_BYTES_MAX = 1 << 20,
    STREAM_SEAL_PLAIN_MAX = 128 * 1024, /* plain bytes that become records together */
    STREAM_SEAL_BYTES = 256 * 1024,     /* those records: the smallest have 64 bytes of data */
};
#define STREAM_MESSAGE_WITHIN  (20 * NS_S) /* first byte of a message to its last */
#define STREAM_SENSIBLE_WITHIN (30 * NS_S) /* open to a first message or keep-alive */
#define STREAM_CLOSE_WITHIN    (2 * NS_S)
#define STREAM_UNACKED_MS      30000

/* What a connection holds while bytes of it are under way. An idle one has none: most connections
 * of a phone edge are idle nearly always. */
struct conn_work {
    struct sip_framer framer;
    struct ws_reader ws;
    /*      in.off                    + plain                   in.len
     *      ┌─────────────────────────┬─────────────────────────┐
     *      │ beginning of a message, │ TLS: beginning of a     │
     *      │ a frame, an upgrade     │ record, as it came      │
     *      └─────────────────────────┴─────────────────────────┘ */
    struct buf in;
    struct buf out;  /* what the kernel did not take */
    struct buf held; /* of ours over TLS: messages that wait, plain, for the handshake's end */
    uint32_t plain;
    struct tls_handshake *shake;
    mono_ns began; /* first byte of the message or record under way; MONO_NONE */
};

/* Lists of accepted connections, oldest first. A connection is in any of them, or none:
 *
 *      silent      has said no message yet: the first that goes when there is no place left
 *      strangers   wait for their handshake
 *      known       the same, but their source belongs here: they are served before */
/* Those that wait for their handshake, the first to be served last. */
enum conn_list_id { LIST_SILENT, LIST_STRANGERS, LIST_TICKETS, LIST_KNOWN, CONN_LISTS };
enum conn_link_id { LINK_SILENT, LINK_WAITS, CONN_LINKS }; /* who is known is no stranger */
struct conn_link {
    uint32_t prev, next; /* slot + 1; 0 = none */
};
struct conn_list {
    uint32_t first, last; /* the same */
    uint32_t count;
};

struct conn {
    struct wheel_node node; /* first: the wheel gives it back */
    uint64_t gen;
    mono_ns until;          /* the deadline of connect, handshake, first message, close */
    struct conn_work *work; /* NULL when idle */
    struct tls_flow *tls;   /* NULL: plain, or not yet */
    struct conn *next;      /* free or doomed list */
    struct addr peer;
    int fd;
    uint32_t slot; /* as in flow_id: FLOW_OUT and above are ours */
    int error;     /* errno, once doomed */
    uint32_t discarded;
    uint32_t since_ms; /* accepted, by the monotonic clock; it may wrap */
    struct conn_link link[CONN_LINKS];
    char stub[STUB_BYTES_MAX];
    uint16_t armed; /* what epoll watches: EPOLLIN, EPOLLOUT, EPOLLRDHUP */
    uint8_t state;  /* enum conn_state */
    uint8_t listener;
    uint8_t transport;
    uint8_t stub_len;
    uint8_t queue;      /* enum conn_list_id in which it waits */
    bool deaf : 1;      /* framing failed: nothing more is read as SIP */
    bool sensible : 1;  /* has sent a message or a keep-alive */
    bool announced : 1; /* the engine has seen EV_FLOW_OPENED */
    bool blank : 1;     /* the last thing on it was a lone CRLF: one more makes a ping */
    bool waits : 1;     /* its handshake has not begun: others come first */

    bool is_silent : 1; /* it is in the list of those */
    bool counted : 1;   /* by the guard, as its peer's */
    bool proxied : 1;   /* a PROXY header has to come first */
};

struct streams {
    struct conn *accepted, *ours;
    uint32_t accepted_max, ours_max;
    uint32_t fresh; /* accepted slots never used so far */
    uint32_t live;
    struct conn *free;
    struct conn *doomed, **doomed_end;
    uint64_t next_gen;
    struct slab work, tls_flows; /* one of each for every connection, touched when used */
    void *memory;                /* theirs */
    struct bufpool pool;
    uint32_t evict_next; /* accepted slot that is looked at next when no buffer is left */
    uint32_t spare_next; /* the same when no slot is left and all have said something */
    mono_ns spare_again; /* and not sooner than that: there was none */
    struct wheel wheel;
    char *read_area;        /* STREAM_READ_BYTES_MAX + STUB_BYTES_MAX */
    char *seal_area;        /* records on their way out */
    struct tls_codec codec; /* opens and seals the records of all flows */
    uint32_t shaking;       /* TLS handshakes under way */
    struct conn_list list[CONN_LISTS];
    dur_ns shaken;                /* time that handshakes have taken in this turn */
    mono_ns shake_at;             /* the pace of handshakes lets the next begin; 0 = at once */
    int listen_fd[LISTENERS_MAX]; /* -1 = none */
    uint64_t ready;               /* listeners in whose backlog there may be somebody */
    uint64_t resting;             /* those that the guard's pace holds back */
    mono_ns accept_at;            /* when it is worth to look there */
    mono_ns accept_again;         /* out of descriptors: listeners rest until then */
    uint64_t came_wall;           /* when the bytes that are being read came; 0 = not known */
};

/* What an action becomes once it has been carried out out of turn. */
enum { ACT_DONE = 255 };

/* ---- datagrams --------------------------------------------------------------------------------
 */

#define FAREWELL_NS (32 * NS_S) /* 64 × T1: nothing that was begun waits longer */

enum {
    UDP_BATCH = 64,
    /* Not a multiple of a page: else all slots would fight for the same few cache sets. */
    UDP_SLOT_BYTES = 65536 + 4096 + 192,
    UDP_CONTROL_BYTES = CMSG_SPACE(sizeof(struct timespec)),
    UDP_FAILED_MAX = 16,
    UDP_FAILED_BYTES = 1024,
    UDP_FLAT_BYTES = 512 * 1024,
};

struct udp_socket {
    int fd;          /* -1 = none */
    bool hot;        /* read every turn, not watched by epoll */
    bool ready;      /* epoll said so */
    bool failing;    /* its error queue may hold something */
    bool filtered;   /* the kernel drops some for us: it is no loss */
    uint32_t recent; /* messages in this window */
    uint32_t drops;  /* the kernel's count, as last seen */
    uint64_t lost;   /* of these: because its buffer was full */
};

/* A datagram that the kernel refused at once: told to the engine like an ICMP error. */
struct udp_failed {
    struct addr dest;
    uint8_t listener;
    int error;
    uint32_t len;
    char bytes[UDP_FAILED_BYTES];
};

/* A removed listener's socket: sends what its transactions still have to say, hears nothing. */
struct udp_farewell {
    int fd;
    mono_ns close_at;
};

struct udp {
    struct udp_socket sock[LISTENERS_MAX];
    uint32_t high; /* sockets are below this index */
    struct udp_farewell bye[LISTENERS_MAX];
    bool bye_any; /* there is one: look for its deadline */
    char *slots;  /* UDP_BATCH × UDP_SLOT_BYTES */
    char *flat;
    uint32_t failed_count;
    struct mmsghdr in[UDP_BATCH];
    struct iovec in_iov[UDP_BATCH];
    struct sockaddr_in6 in_name[UDP_BATCH];
    _Alignas(struct cmsghdr) char in_control[UDP_BATCH][UDP_CONTROL_BYTES];
    struct mmsghdr out[STEP_ACTIONS_MAX];
    struct iovec out_iov[STEP_ACTIONS_MAX];
    struct sockaddr_in6 out_name[STEP_ACTIONS_MAX];
    uint32_t out_action[STEP_ACTIONS_MAX];
    struct udp_failed failed[UDP_FAILED_MAX];
};

/* ---- worker -----------------------------------------------------------------------------------
 */

#define DRIVER_COUNTERS(X)                                                                         \
    X(turns, "rounds of the loop")                                                                 \
    X(udp_in, "datagrams read")                                                                    \
    X(udp_reads, "recvmmsg calls")                                                                 \
    X(udp_out, "datagrams sent")                                                                   \
    X(udp_writes, "sendmmsg calls")                                                                \
    X(udp_refused, "datagrams that the kernel did not take")                                       \
    X(udp_errors, "ICMP errors read")                                                              \
    X(dest_refused, "sends to an address that is no host's")                                       \
    X(sends_lost, "sends on a connection that was gone")                                           \
    X(accepts_refused, "connections refused for want of a slot or descriptor")                     \
    X(accepts_denied, "connections refused by the guard")                                          \
    X(accepts_paced, "times that listeners rested because of the guard's pace")                    \
    X(evicted, "connections of no use that made room for others")                                  \
    X(proxy_taken, "PROXY headers taken")                                                          \
    X(proxy_bad, "connections closed because no good PROXY header came first")                     \
    X(proxy_text, "of these: headers of version 1, in text")                                       \
    X(udp_denied, "datagrams dropped unread because their source is refused")                      \
    X(filters, "times that the kernel's list of refused sources was changed")                      \
    X(filtered, "datagrams that the kernel dropped: of refused sources, INVITEs in an overload")   \
    X(streams_overrun, "connections closed because the peer did not read")                         \
    X(buffers_refused, "connections closed because no buffer was left")                            \
    X(streams_slow, "messages that did not come whole in time")                                    \
    X(hands_lost, "hand-overs lost because a ring was full")                                       \
    X(asks_lost, "look-ups lost because the resolver's ring was full")                             \
    X(stun_answered, "STUN binding requests answered")                                             \
    X(tls_handshakes, "TLS handshakes done")                                                       \
    X(tls_resumed, "TLS handshakes done that resumed a session")                                   \
    X(tls_failed, "TLS handshakes that failed")                                                    \
    X(tls_alerts, "TLS connections that the peer ended with an alert")                             \
    X(tls_bad, "TLS connections ended because of a record that was wrong or out of place")         \
    X(handshakes_slow, "connections closed because handshake and upgrade were not done in time")   \
    X(handshakes_waited, "TLS handshakes that waited for their turn")                              \
    X(handshakes_left, "clients that left before their handshake began")                           \
    X(ws_upgrades, "WebSocket upgrades granted")                                                   \
    X(ws_refused, "WebSocket upgrades refused")                                                    \
    X(ws_bad, "WebSocket connections ended because of a bad frame or message")                     \
    X(stores, "changes of bindings to be stored")                                                  \
    X(stores_refused, "of these: refused at once, for want of room in the ring")

struct driver_counters {
#define X(name, help) uint64_t name;
    DRIVER_COUNTERS(X)
#undef X
};

struct net;

/* What the store did not take: the engine is told at the end of the turn. */
struct unkept {
    uint64_t id;
    int error;
};
enum { UNKEPT_MAX = 4096 };

/* What the kernel drops for us: see filter.c. */
enum {
    FILTER_PREFIXES_MAX = 64,
    FILTER_NUMBERS_MAX = 32, /* emergency numbers, each of at most … */
    FILTER_NUMBER_CHARS_MAX = 8,
    FILTER_DROP_CODE_MAX = 12 + FILTER_NUMBERS_MAX * (2 * FILTER_NUMBER_CHARS_MAX + 3),
    FILTER_CODE_MAX = FILTER_PREFIXES_MAX * 9 + FILTER_DROP_CODE_MAX + 1,
};
enum { FILTER_DATAGRAMS, FILTER_STREAMS, FILTER_LISTS };
/* What a worker has told main of FILTER_STREAMS: see nft.c. */
struct ban {
    struct prefix at;
    mono_ns until; /* MONO_NONE: for ever */
};
struct ban_list {
    uint32_t count;
    struct ban ban[FILTER_PREFIXES_MAX];
};
struct filter {
    uint64_t version; /* of the guard's lists */
    mono_ns asked_at;
    bool stale; /* a socket lacks its list */
    struct filter_list {
        uint32_t count; /* 0: no socket has one */
        struct prefix prefix[FILTER_PREFIXES_MAX];
    } list[FILTER_LISTS];
    uint32_t unheard; /* share of INVITEs that are dropped, in 2^-32 */
    bool untold;      /* main's ring had no room for the last change */
    struct ban_list told;
};

struct worker {
    struct net *net;
    uint32_t index;
    pthread_t thread;
    struct inbox inbox;
    int epfd;
    struct engine *engine;
    void *engine_mem;
    size_t engine_mem_bytes;
    const struct config *config; /* that the engine has adopted */
    mono_ns now;
    uint64_t wall;
    dur_ns gather;         /* 0 = never */
    uint32_t gather_x4;    /* messages per gather ×4 from which on it pays */
    bool hot, hot_streams; /* it gathers; mostly on connections */
    bool busy;             /* messages come all the time */
    mono_ns pressed_until; /* more came lately than a turn takes: arrivals are looked at */
    int timer_fd;
    mono_ns armed_at;
    bool again;   /* a batch was full: do not sleep */
    bool crowded; /* more is ready than epoll could tell this turn */
    bool draining, stop;
    mono_ns window_start;
    uint32_t window_messages, window_streams;
    struct driver_counters count;
    struct entropy entropy;
    _Atomic uint32_t relays_open;  /* published while draining */
    struct ring *orders, *answers; /* from and to main */
    struct ring *ask, *told;       /* to and from the resolver */
    struct ring *log;
    struct ring *hand_in[WORKERS_MAX]; /* from worker i */
    char *hands;                       /* copies of records under way in this batch */
    size_t hands_used;
    struct listeners_tls *tls; /* of `config` */
    struct streams streams;
    struct udp udp;
    struct filter filter;
    struct histogram kept_us; /* from a change to its being stored */
    uint32_t unkept_count;
    struct unkept unkept[UNKEPT_MAX];
    struct actions out;
};

enum { HANDS_BYTES = 1024 * 1024 };

/* What epoll says of an event: kind, the conn's low generation bits, slot or listener. */
enum { EP_WAKE = 1, EP_TIMER, EP_UDP, EP_LISTEN, EP_CONN };
static inline uint64_t ep_tag(unsigned kind, uint64_t gen, uint32_t slot)
{
    return (uint64_t)kind << 56 | (gen & 0xffffff) << 32 | slot;
}

/* Makes a worker with everything but its sockets and engine. NULL with errno. */
struct worker *worker_new(struct net *net, uint32_t index, const struct config *c,
                          uint32_t accepted_max);
/* Its engine is born; then its thread starts. 0 or an errno. */
static inline bool worker_is_pressed(const struct worker *w)
{
    return w->pressed_until > w->now;
}
#define PRESSED_FOR (1 * NS_S)
int worker_birth(struct worker *w, const struct hash_seed *seed, uint32_t generation);
int worker_start(struct worker *w);
void worker_free(struct worker *w);

/* Gives one event to the engine, executing first when there is no room for its actions. */
void worker_step(struct worker *w, struct event *ev);

/* Executes the actions so far: afterwards the bytes of all events are free to go. */
void worker_execute(struct worker *w);

/* Executes, tells the engine what came of it, and so on until nothing is left to say. */
void worker_settle(struct worker *w);

int udp_init(struct worker *w);
void udp_done(struct worker *w);
int udp_adopt(struct worker *w, uint8_t listener, int fd);
void udp_drop(struct worker *w, uint8_t listener);
/* Listener `to` begins with the socket that `from` left behind. 0, or -1 when it is gone. */
int udp_revive(struct worker *w, uint8_t from, uint8_t to);
void udp_receive(struct worker *w);
void udp_send(struct worker *w);
void udp_tell_failed(struct worker *w);
void udp_close_farewells(struct worker *w);
mono_ns udp_deadline(const struct worker *w);
/* Datagrams that the kernel dropped because a socket's buffer was full. */
uint64_t udp_lost(struct worker *w);
/* Takes note of what it has dropped so far, before the reason for drops changes. */
void udp_note_drops(struct worker *w);
/* Decides which sockets are read every turn. */
void udp_window(struct worker *w, bool hot);

int streams_init(struct worker *w, const struct config *c, uint32_t accepted_max);
void streams_done(struct worker *w);
void stream_drop(struct worker *w, uint8_t listener);
void stream_event(struct worker *w, uint64_t tag, uint32_t events);
void stream_connect(struct worker *w, const struct action *a);
void stream_close(struct worker *w, struct flow_id flow);
void stream_send(struct worker *w, uint32_t first);
void stream_timers(struct worker *w);
bool stream_tell_doomed(struct worker *w);
mono_ns stream_deadline(const struct worker *w);

/* Sends the transport's keep-alive: CRLF CRLF, or a WebSocket ping. */
void stream_ping(struct worker *w, struct flow_id flow);

static inline bool transport_has_tls(uint8_t transport)
{
    return transport == TP_TLS || transport == TP_WSS;
}
static inline bool transport_has_ws(uint8_t transport)
{
    return transport == TP_WS || transport == TP_WSS;
}

/* stream.c, for the others of stream*.c. */
struct conn *conn_find(struct worker *w, struct flow_id flow);
struct flow_id conn_id(const struct worker *w, const struct conn *c);
void conn_doom(struct worker *w, struct conn *c, int error);
void conn_watch(struct worker *w, struct conn *c);
void conn_arm(struct worker *w, struct conn *c);
static inline size_t conn_queued(const struct conn *c)
{
    return c->work != NULL ? c->work->out.len - c->work->out.off : 0;
}
static inline mono_ns conn_began(const struct conn *c)
{
    return c->work != NULL ? c->work->began : MONO_NONE;
}
/* What is under way, made if need be; and given back when there is nothing. */
struct conn_work *conn_work(struct worker *w, struct conn *c);
void conn_rest(struct worker *w, struct conn *c);
/* Handshake and upgrade, if any, are done: tells the engine. `names` of the peer's certificate. */
void conn_opened(struct worker *w, struct conn *c, struct slice names);
/* Ends it by ourselves, with what the transport says at an end: the engine learns it at once. */
void conn_end(struct worker *w, struct conn *c, int error);

/* ---- door.c: who comes in, and whose handshake is next ----------------------------------------
 */

int stream_adopt(struct worker *w, uint8_t listener, int fd);
/* Takes from one listener's backlog what this turn has time for. */
void stream_accept(struct worker *w, uint8_t listener);
/* The same from all that have somebody, and may. */
void door_accept(struct worker *w);
/* When door_accept() or door_shake() has something to do. */
mono_ns door_deadline(const struct worker *w);

/* The next bytes would begin a TLS handshake with a client. */
bool conn_is_before_shake(const struct conn *c);
/* Whether its handshake may not begin, or go on, in this turn. Who has not begun waits in a list,
 * unread, and its turn comes. */
bool conn_must_wait(struct worker *w, struct conn *c);
/* Begins handshakes of those who wait, as far as this turn has time for them. */
void door_shake(struct worker *w);
/* Reads the PROXY header that comes first. True when it is there and nothing else was read. */
bool conn_take_proxy(struct worker *w, struct conn *c);

/* It has said a message; or it ends: it is in no list any more that such leave. */
void conn_spoke(struct worker *w, struct conn *c);
void conn_leave_lists(struct worker *w, struct conn *c);
/* Its end, and that it has sent what is not what it should be, for the guard. */
void conn_uncount(struct worker *w, struct conn *c);
void conn_charge_garbage(struct worker *w, const struct conn *c);
struct conn *conn_at(struct worker *w, uint32_t slot);
void conn_begin(struct worker *w, struct conn *c, int fd);
void set_stream_options(int fd);

/* Whether the guard stands before this listener; and this source of it is none of those that are
 * trusted wherever they come from. */
static inline bool is_outside(const struct worker *w, uint8_t listener)
{
    return listener < LISTENERS_MAX &&
           w->config->engine.edge.listener[listener].side == SIDE_OUTSIDE;
}
bool is_guarded(const struct worker *w, uint8_t listener, const struct addr *source);
/* Backlogs as they are configured; again after a reload. */
void streams_set_backlogs(struct worker *w);

/* ---- filter.c: sources that the kernel drops for us --------------------------------------------
 */

/* Gives the sockets of outside listeners the list of those who are refused and go on, or takes it
 * away; cheap when nothing has changed. */
void filter_look(struct worker *w);
mono_ns filter_deadline(const struct worker *w);
/* A socket is new, or its list was taken from it. */
void filter_forget(struct worker *w);
/* The program for one family. Returns its instructions, at most FILTER_CODE_MAX. */
struct sock_filter;
unsigned filter_write(struct sock_filter *code, const struct prefix *prefixes, unsigned count,
                      uint8_t family);
/* The same for INVITEs over UDP: drops `share` (in 2^-32) of them by chance, but none to a number
 * of `numbers`, nor to a urn. At most FILTER_DROP_CODE_MAX. */
unsigned filter_write_drop(struct sock_filter *code, const struct slice *numbers, unsigned count,
                           uint32_t share);

/* ---- nft.c: bans for the whole host ------------------------------------------------------------
 */

#define BANS_ID                                                                                    \
    UINT64_MAX /* of an answer that nobody asked for: a worker's struct ban, all of them           \
                */

/* Worker's side: sends main the list when it is another than the last. False: no room now. */
bool bans_tell(struct worker *w, const struct ban_list *bans);

enum { NFT_BANS_MAX = 256, NFT_SETS = 2, NFT_COMMAND_BYTES = 32 * 1024 };

/* One set of the kernel's, of one family. */
struct nft_set {
    uint8_t family;
    bool wanted;        /* a listener outside has its family */
    bool stale;         /* a list has changed since it was written, or it never was */
    bool is_written;    /* it holds `ban`; else it may hold anything */
    uint32_t failures;  /* in a row */
    mono_ns not_before; /* the next run */
    mono_ns again_at;   /* elements that end before their ban are written again */
    uint32_t count;
    struct ban ban[NFT_BANS_MAX];
};

struct nft {
    struct config_nftables target; /* in `words`; no family: off */
    char words[3][CONFIG_NFT_NAME_MAX];
    bool leaving; /* the target is another now, and the sets of this one are emptied */
    struct nft_set set[NFT_SETS];
    const char *program;     /* NULL: where distributions have it */
    struct nft_set *running; /* NULL: no process is under way */
    pid_t pid;
    int pidfd, in_fd, said_fd; /* -1 = none */
    bool killed;
    mono_ns began, until;
    uint32_t next_count; /* what this run writes */
    struct ban next[NFT_BANS_MAX];
    char commands[NFT_COMMAND_BYTES];
    uint32_t workers;
    struct ban_list of[]; /* each worker's, as it told last */
};

/* NULL: no memory. */
struct nft *nft_new(uint32_t workers);
void nft_free(struct nft *nft);
/* What a worker told. */
void nft_take(struct nft *nft, uint32_t worker, struct slice bans);
/* Begins, watches and ends runs, as `c` wants it; never waits. When nft_deadline() has come, or the
 * descriptor of nft_poll() (-1 = none) is readable. */
struct pollfd;
void nft_tick(struct nft *nft, const struct config *c, mono_ns now);
struct pollfd nft_poll(const struct nft *nft);
mono_ns nft_deadline(const struct nft *nft, mono_ns now);

/* All bans of one family that are in force, sorted, none within another; where there are more than
 * `max`, the most persistent of each worker. Returns how many. */
uint32_t nft_merge(const struct ban_list *of, uint32_t workers, uint8_t family, mono_ns now,
                   struct ban *ret_bans, uint32_t max);
/* The commands that have the set hold just these. */
void nft_write(struct text *t, const struct config_nftables *c, uint8_t family,
               const struct ban *bans, uint32_t count, mono_ns now);

/* stream_read.c: bytes have come; the same when it need not wait for its turn; and a message did
 * not come whole in time. */
void conn_read(struct worker *w, struct conn *c);
void conn_read_on(struct worker *w, struct conn *c);
void conn_too_slow(struct worker *w, struct conn *c);

/* stream_tls.c: the layer of records. conn_shake() goes on with a handshake, of which it takes
 * bytes of the peer's off p[0, n), and returns how many; conn->tls is there when it is done. */
size_t conn_shake(struct worker *w, struct conn *c, const char *p, size_t n);
void conn_drop_shake(struct worker *w, struct conn *c);
/* A connection of ours ends before its handshake has: says so, unless we took it back. */
void conn_tell_shake_broke(struct worker *w, const struct conn *c, int error);
/* What tls_read() ended with: answers, and ends the connection. */
void conn_tls_ended(struct worker *w, struct conn *c, int result);
void conn_send_tls(struct worker *w, struct conn *c, const struct iovec *iov, size_t count);
void conn_send_close_notify(struct worker *w, struct conn *c);

/* stream_ws.c: upgrade and frames. Both return how many of the n bytes they are done with (the
 * upgrade), or how many are left at the front of p (frames). */
size_t conn_take_upgrade(struct worker *w, struct conn *c, const char *p, size_t n);
size_t conn_take_frames(struct worker *w, struct conn *c, char *p, size_t n);
void conn_end_ws(struct worker *w, struct conn *c, uint16_t code, int error);
bool pieces_are_utf8(const struct iovec *iov, size_t count);

/* stream_write.c: plain bytes, down through the layers that this connection has; and bytes as they
 * are. */
void conn_send(struct worker *w, struct conn *c, const struct iovec *iov, size_t count);
void conn_send_raw(struct worker *w, struct conn *c, const struct iovec *iov, size_t count);
/* What waited for the handshake. */
void conn_send_held(struct worker *w, struct conn *c);
void conn_write_queue(struct worker *w, struct conn *c);
/* To be closed once its queue has left. */
void conn_flush(struct worker *w, struct conn *c);

/* Something came up from a connection: one event. */
void conn_step(struct worker *w, struct conn *c, uint8_t kind, struct slice bytes, int error);

/* ---- listeners_tls.c: certificates -------------------------------------------------------------
 */

/* The certificates of one configuration, by listener. Replaced as a whole, with its configuration;
 * handshakes that are under way finish with what they began with. */
struct listeners_tls {
    struct tls_server *server[LISTENERS_MAX]; /* NULL: no TLS there */
    struct tls_client **client;               /* for connections of ours: edge_peer.client; NULL
                                                 where nobody is met by it */
    uint16_t client_count;
};

/* Reads all certificates and keys of `c`. NULL with the reasons written to `errors`. */
struct listeners_tls *listeners_tls_load(const struct config *c, FILE *errors);
void listeners_tls_free(struct listeners_tls *t);

/* ---- handover.c, orders -----------------------------------------------------------------------
 */

enum order_kind { ORDER_COMMAND, ORDER_CONFIG, ORDER_STATUS, ORDER_STOP };

/* A new configuration on its way to the workers; main's, alive until all have answered. */
struct switching {
    const struct config *config;
    struct listeners_tls *tls;          /* its certificates */
    int fd[WORKERS_MAX][LISTENERS_MAX]; /* new sockets, -1 elsewhere */
    bool drop[LISTENERS_MAX];           /* listeners that go */
    uint8_t revive[LISTENERS_MAX];      /* whose farewell socket this one takes; LISTENER_NONE */
};

struct order {
    uint8_t kind;
    uint8_t command; /* enum command_kind */
    uint16_t len;    /* of the argument behind */
    uint64_t id;
    uint64_t cursor;
    struct switching *switching;
};

struct answer {
    uint64_t id;
    uint64_t cursor;
    int error;
    uint32_t len; /* of rows or an error's text behind */
};

struct ask {
    uint64_t id;
    uint16_t port;
    uint8_t transport; /* enum transport, 255 = not given */
    uint8_t len;       /* of the name behind; at most 255 */
};

struct told {
    uint64_t id;
    int error;
    uint32_t count;
    struct resolved addr[EVENT_ADDRS_MAX];
};

void hand_over(struct worker *w, const struct action *a);
void hands_take(struct worker *w);
void worker_orders(struct worker *w);
/* Takes over a bound socket. 0, or -1 with errno. */
int worker_adopt(struct worker *w, const struct config *c, uint8_t listener, int fd);
void worker_answer(struct worker *w, uint64_t id, uint64_t cursor, int error,
                   const struct iovec *iov, uint32_t iov_count);

/* ---- logger.c ---------------------------------------------------------------------------------
 */

enum log_piece { LOG_PIECE_RECORD = 1, LOG_PIECE_NOTICE = 2 };
struct log_head {
    uint32_t piece;
    uint32_t notice; /* enum notice */
};

struct logger;
/* Opens the log and starts the thread. NULL after writing why to `errors`. */
struct logger *logger_start(struct net *net, const struct config *c, FILE *errors);
/* New format and path; also reopens. 0, or -1 after writing why: the old file stays then. */
int logger_switch(struct logger *l, const struct config *c, FILE *errors);
/* Whether the log could be opened. 0, or -1 after writing why. */
int logger_try(const struct config *c, FILE *errors);
void logger_stop(struct logger *l);

/* Worker's side. */
void log_record(struct worker *w, struct slice record);
void log_notice(struct worker *w, uint16_t notice, struct slice text);

/* ---- resolver.c -------------------------------------------------------------------------------
 */

struct resolver;
struct resolver *resolver_start(struct net *net, FILE *errors);
void resolver_stop(struct resolver *r);
struct inbox *resolver_inbox(struct resolver *r);
void resolver_ask(struct worker *w, const struct action *a);

/* ---- keeping.c --------------------------------------------------------------------------------
 */

/* Worker's side: ACT_STORE; what the store refused at once; what it has answered. */
void keep(struct worker *w, const struct action *a);
void keep_tell_refused(struct worker *w);
void keep_tell_stored(struct worker *w);

/* Opens the store when the configuration has one. 0, or an exit status after writing why. */
int keeping_open(struct net *net, FILE *errors);
/* Tells the engines, whose threads have not started yet, what is stored, and starts the store's
 * thread. 0, or an exit status after writing why. */
int keeping_start(struct net *net, FILE *errors);
/* A row for each of the store's counters; none when there is no store. */
void keeping_show(const struct net *net, struct text *t);

/* ---- net: main's ------------------------------------------------------------------------------
 */

struct control;

/* What main knows of the workers' farewell sockets: a listener that comes back takes them. */
struct farewell {
    struct addr bind;
    mono_ns until; /* 0 = none */
};

struct net {
    const struct net_run *run;
    struct config *config;
    struct listeners_tls *tls; /* of `config` */
    uint32_t workers;
    struct worker *worker[WORKERS_MAX];
    struct inbox inbox; /* answers of workers */
    struct logger *logger;
    struct resolver *resolver;
    struct control *control;
    struct nft *nft;
    struct store *store; /* NULL: this process keeps no bindings */
    int64_t loaded;      /* records that it had at start */
    uint32_t started;    /* workers whose threads run */
    uint64_t next_id;
    bool draining;
    mono_ns drain_until;
    struct farewell farewell[LISTENERS_MAX];
};

/* Sends an order with an argument. 0, or -1 when the worker's ring is full. */
int order_send(struct net *net, uint32_t worker, const struct order *o, struct slice argument);

/* Sends an order to a worker and waits for its answer; other answers that come meanwhile are
 * given to the control socket. Returns the answer's error, or ETIMEDOUT. */
int order_wait(struct net *net, uint32_t worker, const struct order *o);

/* Reads the answers that have come. `want` = id to look for, 0 none; true when it came. */
bool answers_take(struct net *net, uint64_t want, int *ret_error);

struct control *control_open(struct net *net, struct slice path, FILE *errors);
void control_close(struct control *c);
enum { CONTROL_POLL_MAX = 17 };
struct pollfd;
unsigned control_poll(struct control *c, struct pollfd *fds);
void control_serve(struct control *c, const struct pollfd *fds, unsigned count);
void control_answer(struct control *c, uint32_t worker, const struct answer *a, struct slice rows);
bool control_is_busy(const struct control *c);
void control_tick(struct control *c, mono_ns now);

/* Loads and switches. 0, or -1 with the reasons written to `errors`; nothing has changed then. */
int net_reload(struct net *net, FILE *errors);
/* Says so when a registrar believes everybody, or nobody. */
void tell_about_users(const struct config *c, FILE *out);
void tell_about_names(const struct config *c, FILE *out);

/* Opens every listener of `c` that `previous` (may be NULL) does not have, for all workers. */
int listeners_open(const struct net *net, const struct config *c, const struct config *previous,
                   struct switching *s, FILE *errors);
void listeners_close(struct switching *s, uint32_t workers);

void net_drain(struct net *net);

#endif
