/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a ClientHello, and what they bring as a ticket. Holds: a ticket lies within the
 * record, right behind its own length; no cut of the record has one; what stands behind the record
 * changes nothing. And a ticket is ours when OpenSSL's HMAC says so, which allocates and is slow.
 */
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "net/tls_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_server server;

/* In memory of its own size. *ret_at: where the ticket stands. */
static size_t find(const uint8_t *data, size_t n, size_t *ret_at, bool *ret_is_ours)
{
    char *p = (char *)malloc(n > 0 ? n : 1);
    MUST(p != NULL);
    if (n > 0)
        memcpy(p, data, n);
    struct slice ticket = client_hello_ticket(p, n);
    MUST(ticket.n == 0 || (ticket.p > p && ticket.p + ticket.n <= p + n));
    *ret_at = ticket.n > 0 ? (size_t)(ticket.p - p) : 0;
    *ret_is_ours = tls_ticket_is_ours(&server, ticket);
    free(p);
    return ticket.n;
}

static bool is_ours(const uint8_t *ticket, size_t n)
{
    const struct tls_ticket_key *k = &server.tickets.key[0];
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (n < 80 || n % 16 != 0 || memcmp(ticket, k->name, 16) != 0)
        return false;
    MUST(HMAC(EVP_sha256(), k->mac_key, sizeof k->mac_key, ticket, n - 32, mac, &size) != NULL);
    return size == 32 && memcmp(mac, ticket + n - 32, 32) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0, again = 0;
    bool ours = false, same = false;
    if (server.tickets.count == 0)
        MUST(tls_tickets_init(&server.tickets, SLICE("0123456789abcdef0123456789abcdef")) == 0);
    size_t n = find(data, size, &at, &ours);
    if (n == 0) {
        MUST(!ours);
        return 0;
    }
    MUST(ours == is_ours(data + at, n));
    size_t record = TLS_HEAD_BYTES + ((size_t)data[3] << 8 | data[4]);
    MUST(record <= size && record <= CLIENT_HELLO_BYTES_MAX && at + n <= record);
    MUST(n == ((size_t)data[at - 2] << 8 | data[at - 1]));
    for (size_t cut = 0; cut < record; cut += cut + 64 < record ? 1 + record / 64 : 1)
        MUST(find(data, cut, &again, &same) == 0 && !same);
    MUST(find(data, record, &again, &same) == n && again == at && same == ours);
    return 0;
}
