/* SPDX-License-Identifier: Apache-2.0
 *
 * net: the driver that meets the world: sockets, epoll, clocks, entropy, the resolver, the log
 * writer and the control socket. One thread per worker, each with its own sockets and engine;
 * workers meet only through bounded rings.
 *
 *   worker 0..N-1   epoll ─▶ recvmmsg / read + frame ─▶ engine_step ─▶ sendmmsg / writev
 *   log writer      ring per worker ─▶ lines ─▶ file
 *   resolver        c-ares, off the message path
 *   main            signals, control socket, reload */
#ifndef WEIR_NET_H
#define WEIR_NET_H

#include <netinet/in.h>
#include <sys/socket.h>
#include "config/config.h"
#include "net/tls.h"

/* ---- addresses of sockets ---------------------------------------------------------------------
 */

/* What bind(2) and connect(2) want, IPv4 too; returns its length. And back: family 0 for what is
 * neither. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_in6 *ret_sa);
struct addr addr_from_sockaddr(const struct sockaddr_in6 *sa);
/* When what recvmsg(2) brought came, in Unix time; 0 = the socket does not say (SO_TIMESTAMPNS). */
uint64_t arrival_of(struct msghdr *h);

/* ---- running ----------------------------------------------------------------------------------
 */

/* Whether the certificates and keys of all listeners can be used. 0, or -1 with the reasons written
 * to `errors`, as `weir run` would give them; what is only odd, such as a certificate that has
 * expired, is a notice there. */
int net_check_certificates(const struct config *c, FILE *errors);

/* Runs until TERM. `load` is called for HUP / `weir reload`: returns a new snapshot or NULL with
 * the errors written. Returns the process's exit status. */
struct net_run {
    struct config *config; /* taken over */
    struct config *(*load)(void *ctx, const struct config *previous, FILE *errors);
    void *ctx;
};
int net_run(const struct net_run *run);

/* ---- the control socket, client side ----------------------------------------------------------
 */

/* Sends one request line ("show pools") and copies what comes back to `out`. The protocol: one line
 * in; lines of JSON out, then a last line {"end":true,"ok":true|false,"error":"…"}.
 * Returns 0, or an exit status after writing why to `err`. */
int control_call(const char *socket_path, const char *request, FILE *out, FILE *err);

#endif
