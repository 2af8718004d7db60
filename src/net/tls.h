/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS handshakes. OpenSSL does them over memory; when one is done, its secrets become a struct
 * tls_flow (wire/tls_record.h) and the OpenSSL object goes.
 *
 *      socket ──▶ tls_handshake_step() ──▶ MORE   send `out`, read on
 *                                     ──▶ DONE   send `out`; tls_handshake_flow(), then free
 *                                     ──▶ FAILED send `out` (an alert, or nothing), close
 *
 * Not one byte behind the peer's last handshake message is taken from the caller's. */
#ifndef WEIR_NET_TLS_H
#define WEIR_NET_TLS_H

#include "base/base.h"
#include "config/config.h"
#include "wire/wire.h"

/* ---- a thread's ciphers -----------------------------------------------------------------------
 */

/* Fetches the ciphers of a thread. 0, or -1 when OpenSSL has them not. */
MUST_USE int tls_codec_init(struct tls_codec *codec);

/* Frees and wipes them; fine on zeroed memory. */
void tls_codec_done(struct tls_codec *codec);

/* ---- who we are -------------------------------------------------------------------------------
 */

/* A listener's certificates and rules: never changed after it is made, shared by all threads and
 * counted, so that a reload can drop it while handshakes of it are under way. */
struct tls_server;

enum tls_use {
    TLS_USE_SIP,  /* ALPN sip/2 or sip */
    TLS_USE_HTTP, /* wss: ALPN http/1.1 */
};

enum { TLS_TICKET_SECRET_BYTES = 32, TLS_WHY_BYTES_MAX = 512 };

/* Reads the PEM files of `l`. `ticket_secret`: secrets of 32 bytes each, newest first; the newest
 * seals tickets, all of them open; empty = no tickets. Returns it with one count, and in `why`
 * (TLS_WHY_BYTES_MAX bytes) a warning, such as an expired certificate, or ""; or NULL and in `why`
 * what is wrong, with the file's name. */
struct tls_server *tls_server_new(const struct config_listener *l, enum tls_use use,
                                  struct slice ticket_secret, char *why);

/* One count more; one less, and the last frees it. From any thread; NULL is fine for the second. */
struct tls_server *tls_server_take(struct tls_server *s);
void tls_server_release(struct tls_server *s);

/* Whom we ask when we connect, and whom we believe; counted like a server. */
struct tls_client;

/* Reads the PEM files of `c`. NULL and `why` as above. */
struct tls_client *tls_client_new(const struct config_tls_client *c, char *why);
struct tls_client *tls_client_take(struct tls_client *c);
void tls_client_release(struct tls_client *c);

/* Whether this ticket, from a client's first message, was sealed with a key that the server has
 * now, by its name and MAC. Its age, and whether the client may use it at all, are not looked at:
 * who has seen a ticket can show it. Allocates nothing, and takes a time that does not depend on
 * where a wrong MAC differs. */
bool tls_ticket_is_ours(const struct tls_server *s, struct slice ticket);

/* ---- handshakes -------------------------------------------------------------------------------
 */

/* One connection's handshake: half a KB until its first record's head came, then some 45 KB while
 * it waits for the peer, and 75 KB with half a record. A thread's own. */
struct tls_handshake;

enum tls_step { TLS_STEP_MORE = 0, TLS_STEP_DONE, TLS_STEP_FAILED };

enum tls_failure {
    TLS_FAIL_NONE = 0,
    TLS_FAIL_GARBAGE,  /* no TLS at all */
    TLS_FAIL_HTTP,     /* an HTTP request on a TLS port */
    TLS_FAIL_PLAIN,    /* SIP without TLS on a TLS port */
    TLS_FAIL_VERSION,  /* TLS 1.1 or older */
    TLS_FAIL_CIPHER,   /* no suite, group or signature that both know */
    TLS_FAIL_PEER,     /* the peer's certificate: none, not signed by ours, expired, ... */
    TLS_FAIL_REFUSED,  /* the peer sent an alert: mostly, it does not believe our certificate */
    TLS_FAIL_PROTOCOL, /* all else that a peer may do wrong */
    TLS_FAIL_MEMORY,
    TLS_FAILURES,
};

/* Begins. Takes a count of the server. NULL when memory is short. */
struct tls_handshake *tls_handshake_new(struct tls_server *s);

/* The same for a connection of ours: `name` is sent as SNI and, unless the client believes
 * everybody, must be in the certificate; as an address ("192.0.2.1") only the latter. */
struct tls_handshake *tls_handshake_connect(struct tls_client *c, struct slice name);

/* Goes on with `n` bytes of the peer (0 to begin as a client); *ret_used of them are taken, which
 * is less than `n` only with DONE and FAILED. *ret_out is to be sent, in any case and before
 * anything else; it is valid until the next call. Returns an enum tls_step. */
MUST_USE int tls_handshake_step(struct tls_handshake *h, const char *in, size_t n, size_t *ret_used,
                                struct slice *ret_out);

/* After DONE: the record layer's state. */
void tls_handshake_flow(const struct tls_handshake *h, struct tls_flow *ret_flow);

/* What is known of a handshake; slices are valid until it is freed. */
struct tls_info {
    /* The peer's names that its certificate proves, by RFC 5922 7.1: the hosts of its SIP URIs, or
     * without any its DNS names, or without any subjectAltName its CN; lower case, a blank between
     * them. Empty: no certificate was shown. Only after DONE. */
    struct slice peer_names;
    struct slice server_name; /* SNI; may be empty */
    enum tls_failure failure;
    const char *failure_text; /* for a log: "no shared cipher"; never NULL */
    bool is_resumed;
    bool alpn; /* an application protocol was agreed upon */
};
struct tls_info tls_handshake_info(const struct tls_handshake *h);

/* A name of a failure for counters: "garbage", "http", ... */
const char *tls_failure_name(enum tls_failure f);

/* Ends at any point, wipes what it knew. NULL is fine. */
void tls_handshake_free(struct tls_handshake *h);

#endif
