/* SPDX-License-Identifier: Apache-2.0
 *
 * A ClientHello is vectors within vectors, each with its length in front: each must fill the one
 * that holds it to the last byte. */
#include "wire/client_hello.h"

enum {
    HEAD_BYTES = 5,
    TYPE_HANDSHAKE = 22,
    CLIENT_HELLO = 1,
    VERSION_12 = 0x0303, /* in each hello of TLS 1.2 and 1.3 */
    RANDOM_BYTES = 32,
    SESSION_ID_BYTES_MAX = 32,
    EXT_SESSION_TICKET = 35,
    EXT_PRE_SHARED_KEY = 41,
    AGE_BYTES = 4,
    BINDER_BYTES_MIN = 32,
};

/* Takes the next `n` bytes. */
static bool take(struct slice *from, size_t n, struct slice *ret_bytes)
{
    if (n > from->n)
        return false;
    *ret_bytes = slice_take(*from, n);
    *from = slice_drop(*from, n);
    return true;
}

static bool take_number(struct slice *from, int bytes, uint64_t *ret_number)
{
    struct slice s;
    if (!take(from, (size_t)bytes, &s))
        return false;
    const uint8_t *p = (const uint8_t *)s.p;
    *ret_number = bytes_get_be(&p, bytes);
    return true;
}

/* Takes a vector whose length stands in the next `bytes` bytes. */
static bool take_vector(struct slice *from, int bytes, struct slice *ret_vector)
{
    uint64_t n;
    return take_number(from, bytes, &n) && take(from, n, ret_vector);
}

/* RFC 8446 4.2.11: as many binders as identities. */
static bool first_identity(struct slice key, struct slice *ret_ticket)
{
    struct slice identities, binders, first = SLICE_NONE, each, age;
    if (!take_vector(&key, 2, &identities) || !take_vector(&key, 2, &binders) || key.n > 0)
        return false;
    while (identities.n > 0) {
        struct slice binder;
        if (!take_vector(&identities, 2, &each) || each.n == 0 ||
            !take(&identities, AGE_BYTES, &age) || !take_vector(&binders, 1, &binder) ||
            binder.n < BINDER_BYTES_MIN)
            return false;
        if (first.n == 0)
            first = each;
    }
    if (first.n == 0 || binders.n > 0)
        return false;
    *ret_ticket = first;
    return true;
}

static struct slice ticket_of(struct slice extensions)
{
    struct slice ticket = SLICE_NONE, data;
    bool has_ticket = false;
    while (extensions.n > 0) {
        uint64_t type;
        if (!take_number(&extensions, 2, &type) || !take_vector(&extensions, 2, &data))
            return SLICE_NONE;
        if (type == EXT_PRE_SHARED_KEY) /* the last, or it is none */
            return extensions.n == 0 && first_identity(data, &ticket) ? ticket : SLICE_NONE;
        if (type != EXT_SESSION_TICKET)
            continue;
        if (has_ticket)
            return SLICE_NONE;
        has_ticket = true;
        ticket = data;
    }
    return ticket.n > 0 ? ticket : SLICE_NONE;
}

/* The body of the one handshake message of the one record. */
static bool hello_body(struct slice bytes, struct slice *ret_body)
{
    struct slice record;
    uint64_t head, type;
    if (!take_number(&bytes, 2, &head) || head >> 8 != TYPE_HANDSHAKE || (head & 0xff) != 3 ||
        !take_number(&bytes, 1, &head) || !take_vector(&bytes, 2, &record) ||
        record.n > CLIENT_HELLO_BYTES_MAX - HEAD_BYTES)
        return false;
    return take_number(&record, 1, &type) && type == CLIENT_HELLO &&
           take_vector(&record, 3, ret_body) && record.n == 0;
}

struct slice client_hello_ticket(const char *p, size_t n)
{
    struct slice body, random, session_id, suites, compressions, extensions;
    uint64_t version;
    if (!hello_body(slice_of(p, n), &body) || !take_number(&body, 2, &version) ||
        version != VERSION_12 || !take(&body, RANDOM_BYTES, &random) ||
        !take_vector(&body, 1, &session_id) || session_id.n > SESSION_ID_BYTES_MAX ||
        !take_vector(&body, 2, &suites) || suites.n == 0 || suites.n % 2 != 0 ||
        !take_vector(&body, 1, &compressions) || compressions.n == 0 ||
        !take_vector(&body, 2, &extensions) || body.n > 0)
        return SLICE_NONE;
    return ticket_of(extensions);
}
