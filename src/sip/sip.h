/* SPDX-License-Identifier: Apache-2.0
 *
 * sip: RFC 3261 messages as an element in the middle reads them. Four stages, each paid for only
 * when it is needed, none of which allocates:
 *
 *   bytes ──frame──▶ one message ──index──▶ start line + header lines ──decode──▶ values
 *                                                    │
 *                                                    └──check──▶ struct sip_facts: past this point
 *                                                                no mandatory header is missing,
 *                                                                doubled or unread
 *   message + edits ──serialise──▶ iovec
 *
 * A message is never changed: what leaves is the bytes that came in plus an ordered list of edits.
 */
#ifndef WEIR_SIP_H
#define WEIR_SIP_H

#include <sys/uio.h>
#include "base/base.h"

/* ---- results --------------------------------------------------------------------------------- */

/* Negative results. Everything at or below SIP_E_FATAL means: on a stream, answer and close,
 * for the place of the next message is unknown. */
enum sip_err {
    SIP_OK = 0,
    SIP_E_SYNTAX = -110, /* grammar of a part; the message can be answered */
    SIP_E_LIMIT = -111,  /* a documented maximum was passed */
    SIP_E_ABSENT = -112, /* asked for something that is not there */
    SIP_E_ROOM = -113,   /* the caller's output is too small */
    SIP_E_FATAL = -190,
    SIP_E_START_LINE = -191, /* first line is not SIP: another protocol, or out of step */
    SIP_E_LENGTH = -192,     /* Content-Length absent, doubled, not digits, contradicting */
    SIP_E_TOO_LONG = -193,   /* head, header count or body above the maximum: 513 */
    SIP_E_HEAD = -194,       /* header section cannot be split in lines (NUL, bare CR, …) */
};

/* What is wrong with a message: the status to answer and a reason phrase that names the fault
 * ("Missing Call-ID", "Bad CSeq number"). The text is static. */
struct sip_fault {
    int status;          /* 400, 416, 420, 482, 483, 505, 513 … */
    struct slice reason; /* static text */
    uint32_t offset;     /* byte of the message where it was noticed */
};

/* ---- frame ----------------------------------------------------------------------------------- */

/* State of one stream's framing. All zero is the start. It remembers how far it has looked, so
 * a message that comes a byte at a time costs no more than one that comes whole. */
struct sip_framer {
    uint32_t scanned;    /* bytes of the current message already looked at */
    uint32_t line_start; /* offset of the header line under way */
    uint32_t head_bytes; /* start line + headers + blank line; 0 = not found yet */
    uint32_t body_bytes;
    uint16_t lines;            /* header lines so far */
    uint8_t has_length;        /* what Content-Length was seen so far */
    uint8_t start_is_possible; /* the first word of the start line has passed */
    uint8_t blanks;            /* 1: the last result was SIP_FRAME_SKIP */
};

enum sip_frame {
    SIP_FRAME_MORE = 0,    /* not whole yet: feed the same bytes and more */
    SIP_FRAME_MESSAGE = 1, /* *ret_len bytes are one message */
    SIP_FRAME_PING = 2, /* *ret_len bytes ended a double CRLF: RFC 5626 keep-alive, answer CRLF */
    SIP_FRAME_SKIP = 3, /* *ret_len bytes of blank line before a start line: ignore (7.5) */
};
/* A double CRLF gives SKIP, then PING, two bytes each: a lone CRLF (a pong) never waits. */

/* Looks at `n` bytes at `buf`, which begin where the last result ended (same bytes plus more
 * after MORE). On a result other than MORE the framer is ready for the next message and *ret_len
 * bytes are consumed. Property: the sequence of results is the same for every cut of a stream.
 * After a negative result nothing more may be read from that stream: there is no resync;
 * *ret_len then tells how many bytes can be indexed to build an answer.
 * A stream message without Content-Length has no body. RFC 3261 18.3, 7.5. */
MUST_USE int sip_frame(struct sip_framer *f, const char *buf, size_t n, size_t *ret_len);

/* The answer to a negative result of sip_frame(): 400 or 513 with its phrase. */
void sip_frame_fault(int err, struct sip_fault *ret_fault);

/* ---- index ----------------------------------------------------------------------------------- */

#include "header_ids.h" /* generated: enum sip_header_id */

/* Methods by exact (case-sensitive) name. Order is ABI of the event log only. */
enum sip_method {
    SIP_M_OTHER = 0,
    SIP_M_INVITE,
    SIP_M_ACK,
    SIP_M_BYE,
    SIP_M_CANCEL,
    SIP_M_OPTIONS,
    SIP_M_REGISTER,
    SIP_M_PRACK,
    SIP_M_UPDATE,
    SIP_M_INFO,
    SIP_M_SUBSCRIBE,
    SIP_M_NOTIFY,
    SIP_M_REFER,
    SIP_M_MESSAGE,
    SIP_M_PUBLISH,
    SIP_M__COUNT
};
enum sip_method sip_method_of(struct slice name);
struct slice sip_method_name(enum sip_method m);

struct sip_span {
    uint32_t off, len;
};

struct sip_header {
    uint32_t line;         /* offset of the name */
    uint32_t line_end;     /* offset just behind the CRLF that ends it, folds included */
    struct sip_span value; /* without blanks around it; may hold folds */
    uint16_t name_len;     /* blanks before the colon not included */
    uint8_t id;            /* enum sip_header_id */
    uint8_t next;          /* index of the next header of the same id; SIP_NO_HEADER ends */
};

enum { SIP_NO_HEADER = 255 };

struct sip_msg {
    const char *p; /* the bytes; the caller's */
    uint32_t n;    /* bytes of this message */
    bool is_request;
    uint8_t method; /* enum sip_method; of a response: that of CSeq once checked */
    uint8_t header_count;
    uint16_t status; /* responses: 100..699 */
    struct sip_span method_name;
    struct sip_span uri;    /* Request-URI */
    struct sip_span reason; /* of a response; may be empty */
    uint32_t headers_off;   /* just behind the start line */
    uint32_t headers_end;   /* just before the blank line; 0 when it was not reached */
    uint64_t seen;          /* bit per id: it is there */
    uint64_t doubled;       /* bit per id: on more than one line */
    struct sip_span body;
    uint8_t first[SIP_H__COUNT]; /* index of the first header of an id, or SIP_NO_HEADER */
    uint8_t last[SIP_H__COUNT];
    struct sip_header h[SIP_HEADERS_MAX];
};

/* One pass over one whole message: splits the start line and every header line. `is_datagram`:
 * bytes behind the body that Content-Length names are ignored (RFC 3261 18.3, "dblreq"); a
 * Content-Length larger than what is there is a fault.
 * Returns 0, or a negative sip_err with *ret_fault set and as much of `m` filled as could be
 * read, so that an answer can still be built. Never writes outside `m`; keeps no state. */
MUST_USE int sip_index(struct sip_msg *m, const char *p, size_t n, bool is_datagram,
                       struct sip_fault *ret_fault);

static inline struct slice sip_slice(const struct sip_msg *m, struct sip_span s)
{
    DCHECK(s.off <= m->n && s.len <= m->n - s.off);
    return (struct slice){m->p + s.off, s.len};
}

/* Value of the first header with this id; empty slice with p NULL when absent. */
static inline struct slice sip_header_value(const struct sip_msg *m, enum sip_header_id id)
{
    uint8_t i = m->first[id];
    return i == SIP_NO_HEADER ? SLICE_NONE : sip_slice(m, m->h[i].value);
}
static inline bool sip_has(const struct sip_msg *m, enum sip_header_id id)
{
    return m->first[id] != SIP_NO_HEADER;
}

/* Canonical long name ("Call-ID"), and the exact matcher behind the index (compact forms
 * included, case-insensitive). */
struct slice sip_header_name(enum sip_header_id id);
enum sip_header_id sip_header_id_of(struct slice name);

/* ---- decode ---------------------------------------------------------------------------------- */

/* One value of a comma list, across several header lines of the same id:
 *      struct sip_values v = sip_values(m, SIP_H_ROUTE);
 *      while (sip_next_value(&v)) use(v.value);
 * Quoted strings and <…> are respected (no list of RFC 3261 holds comments). `value` is trimmed.
 * `whole` says that the value is alone on its line. A malformed line ends the walk with v.err set.
 */
struct sip_values {
    const struct sip_msg *m;
    uint8_t header; /* index of the line that holds `value` */
    uint8_t err;    /* not 0: the list is malformed at this value */
    bool whole;
    struct sip_span value;
    uint32_t at; /* next byte to look at within the line */
};
struct sip_values sip_values(const struct sip_msg *m, enum sip_header_id id);
bool sip_next_value(struct sip_values *v);

/* A parameter of `params` (";a=b;c") by name, case-insensitive. Returns whether it is there;
 * *ret_value is empty for a flag; quotes are kept. `ret_value` may be NULL. */
bool sip_param(struct slice params, struct slice name, struct slice *ret_value);

/* The same for the parameters of a URI, where "%6C%72" is a way to write "lr" (RFC 3261 19.1.4).
 * The value is as written. */
bool sip_uri_param(struct slice params, struct slice name, struct slice *ret_value);

enum sip_scheme { SIP_SCHEME_OTHER, SIP_SCHEME_SIP, SIP_SCHEME_SIPS, SIP_SCHEME_TEL };

struct sip_uri {
    enum sip_scheme scheme;
    struct slice scheme_name;
    struct slice user; /* with password, as written; p NULL when there is no '@' */
    struct slice host; /* without the brackets of an IPv6 reference */
    bool host_is_ipv6;
    uint16_t port;        /* 0 = none */
    struct slice params;  /* from the first ';' on, headers excluded */
    struct slice headers; /* behind '?' */
};

/* Parses a whole URI. For tel: and unknown schemes only scheme_name is set (and `host` is empty).
 * Returns 0 or SIP_E_SYNTAX. RFC 3261 19.1, 25.1. */
MUST_USE int sip_uri_parse(struct slice s, struct sip_uri *ret_uri);

/* transport= of a URI as an enum (sips or transport=tls means TLS); -1 when it is none of ours;
 * `fallback` when there is no such parameter. */
int sip_uri_transport(const struct sip_uri *u, enum transport fallback);

/* name-addr / addr-spec with header parameters (From, To, Contact, Route, Record-Route, Path). */
struct sip_nameaddr {
    struct slice display; /* with quotes, if any */
    struct slice uri;     /* inside <> if there are any */
    struct slice params;  /* header parameters from the first ';' on */
    bool bracketed;
};
MUST_USE int sip_nameaddr_parse(struct slice s, struct sip_nameaddr *ret_na);

struct sip_via {
    struct slice transport_name; /* "UDP" */
    int transport;               /* enum transport, or -1 for one that we do not know */
    struct slice host;           /* sent-by, without brackets */
    bool host_is_ipv6;
    uint16_t port; /* 0 = none */
    struct slice params;
    struct slice branch;         /* empty when absent */
    struct slice rport_param;    /* "rport" or "rport=5060"; p NULL when absent */
    struct slice received_param; /* "received=…"; p NULL when absent */
    bool has_rport;
    bool is_rfc3261; /* the branch begins with z9hG4bK and something follows */
};

/* One Via value. RFC 3261 20.42, RFC 3581. */
MUST_USE int sip_via_parse(struct slice s, struct sip_via *ret_via);

/* ---- check ----------------------------------------------------------------------------------- */

/* What every later stage may rely on. Spans point into the message. */
struct sip_facts {
    struct sip_via via;        /* topmost */
    struct sip_span via_value; /* where it stands */
    struct sip_uri uri;        /* Request-URI (requests) */
    struct slice call_id;
    struct slice from; /* whole values */
    struct slice to;
    struct slice from_uri;
    struct slice to_uri;
    struct slice from_tag; /* empty when absent (RFC 2543) */
    struct slice to_tag;   /* empty outside a dialog */
    uint32_t cseq;         /* < 2^31 */
    int16_t max_forwards;  /* 0..255; -1 = absent */
    int32_t max_breadth;   /* -1 = absent (RFC 5393 5.3.3) */
    uint8_t method;        /* enum sip_method of the transaction (CSeq) */
    struct slice method_name;
};

/* Sanity of a request as a whole: everything that RFC 3261 16.3 asks of a proxy about the
 * message itself, plus what the torture messages teach: mandatory headers once and readable
 * (Via, From, To, Call-ID, CSeq; Max-Forwards at most once), CSeq method equal to the method,
 * scheme known (416), Proxy-Require (420; the caller adds Unsupported), version (505, by index),
 * scalar limits, single-value headers single, Contact readable where present in REGISTER/INVITE.
 * Values that only their final reader cares about are not judged.
 * Returns 0, or SIP_E_SYNTAX with *ret_fault; then *ret_facts holds what was read before the fault
 * (the Via first: `via_value.len` is 0 when there is none to answer by) and is empty otherwise.
 * RFC 3261 16.3, 8.2; RFC 4475. */
MUST_USE int sip_check_request(const struct sip_msg *m, struct sip_facts *ret_facts,
                               struct sip_fault *ret_fault);

/* The same of a response: what matching and forwarding need. A fault means: drop and count. */
MUST_USE int sip_check_response(struct sip_msg *m, struct sip_facts *ret_facts,
                                struct sip_fault *ret_fault);

/* ---- edit ------------------------------------------------------------------------------------ */

/* An ordered list of edits on one message: at offset `off`, drop `del` bytes and put `ins` there.
 * Inserted text lives in the caller's arena until the message is sent. Kept sorted; edits at one
 * offset keep the order in which they were made. Overlapping deletions are our bug (MUST). */
struct sip_edit {
    uint32_t off, del;
    struct slice ins;
};
struct sip_edits {
    const struct sip_msg *m;
    uint32_t count;
    bool overflow; /* an edit did not fit; serialising then fails */
    struct sip_edit e[SIP_EDITS_MAX];
};

/* No edits yet. `m` is indexed without a fault and outlives `e`. */
void sip_edits_init(struct sip_edits *e, const struct sip_msg *m);
/* Puts `ins` at `off`, or in the place of the bytes `at` (of the message as it came in). */
void sip_edit_insert(struct sip_edits *e, uint32_t off, struct slice ins);
void sip_edit_replace(struct sip_edits *e, struct sip_span at, struct slice ins);

/* Typed helpers. `line` is a whole header line with CRLF, already written to the arena. Of two
 * lines pushed to one place, the one pushed first stands on top. */
void sip_push_via(struct sip_edits *e, struct slice line);          /* above all Vias */
void sip_push_record_route(struct sip_edits *e, struct slice line); /* above all Record-Routes */
void sip_push_header(struct sip_edits *e, struct slice line);       /* behind the last header */
void sip_drop_header(struct sip_edits *e, uint8_t header);          /* a whole line */
void sip_drop_headers(struct sip_edits *e, enum sip_header_id id);  /* every line of an id */
/* Drops the value that `v` stands on; the line too when it becomes empty. Successive drops from
 * the top of one list are allowed. */
void sip_drop_value(struct sip_edits *e, const struct sip_values *v);
/* Drops the topmost Via value (responses). */
void sip_pop_via(struct sip_edits *e, const struct sip_facts *f);
/* Sets a header's value if it is there, else adds the line. */
void sip_set_header(struct sip_edits *e, enum sip_header_id id, struct slice value,
                    struct arena *a);
/* RFC 3261 18.2.1 and RFC 3581: writes received= and rport= into the topmost Via. received= is
 * added when sent-by is not the numeric source (or whenever rport is asked for); a received= or
 * rport value that the peer wrote is replaced. */
void sip_stamp_via(struct sip_edits *e, const struct sip_facts *f, const struct addr *source,
                   struct arena *a);

/* Bytes that will come out. */
size_t sip_edits_size(const struct sip_edits *e);

/* Fills at most `cap` entries with pieces of the message and of the inserts, in order.
 * Returns the count, or SIP_E_ROOM. The pieces point into both; nothing is copied. */
MUST_USE int sip_serialise(const struct sip_edits *e, struct iovec *iov, int cap);

/* The same, copied flat. Returns the bytes written or SIP_E_ROOM. */
MUST_USE int sip_serialise_flat(const struct sip_edits *e, char *dst, size_t cap);

/* ---- write ----------------------------------------------------------------------------------- */

/* A response of our own to `m` (which may be faulty: what could be read is copied): every Via,
 * From, To (with `to_tag` appended when it has none and to_tag is not empty), Call-ID, CSeq;
 * Timestamp into 100; `extra` = zero or more whole header lines; Content-Length: 0.
 * `skip_vias` topmost Via *lines* are left out (our own, when `m` is a forwarded copy).
 * `received`: when not NULL, the top remaining Via is stamped as sip_stamp_via() would.
 * RFC 3261 8.2.6, 16.7. Returns 0 or SIP_E_ROOM (t does not fit). */
struct sip_reply {
    int status;
    struct slice reason; /* empty: the standard phrase */
    struct slice to_tag;
    struct slice extra;
    unsigned skip_vias;
    const struct addr *received;
};
MUST_USE int sip_write_reply(struct text *t, const struct sip_msg *m, const struct sip_reply *r);

/* ACK to a non-2xx final (RFC 3261 17.1.1.3), or CANCEL (9.1), for a request that we forwarded:
 * `sent` is that request as it left; its top Via line is replaced by `via_line` (whole line with
 * CRLF; empty: the one in `sent` is used); `to` is the To value to use (from the response for an
 * ACK; empty: that of the request). Route headers are copied. Returns 0 or SIP_E_ROOM. */
MUST_USE int sip_write_ack(struct text *t, const struct sip_msg *sent, struct slice via_line,
                           struct slice to);
MUST_USE int sip_write_cancel(struct text *t, const struct sip_msg *sent, struct slice via_line);

/* Standard reason phrase of a status ("Busy Here"), or "Unknown". */
struct slice sip_reason(int status);

#endif
