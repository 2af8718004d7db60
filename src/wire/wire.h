/* SPDX-License-Identifier: Apache-2.0
 *
 * wire: what lies between a socket and SIP, as plain functions over the caller's bytes. No
 * allocation, no clock, no system call: `net` owns the sockets and buffers. */
#ifndef WEIR_WIRE_WIRE_H
#define WEIR_WIRE_WIRE_H

#include "wire/client_hello.h"
#include "wire/proxy.h"
#include "wire/stun.h"
#include "wire/tls_record.h"
#include "wire/ws.h"

#endif
