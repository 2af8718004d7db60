/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers of name servers: the first byte chooses the type, the rest is the packet. What comes out
 * must be names that we would ask for ourselves, each with its length and end. */
#include <stdlib.h>
#include "net/dns.h"

static void check(const struct dns_answer *a)
{
    if (a->count > DNS_RECORDS_MAX || (a->count > 0 && a->exists_not))
        abort();
    for (unsigned i = 0; i < a->count; i++) {
        const struct dns_name *n = &a->record[i].name;
        if (n->text[n->len] != '\0' || strlen(n->text) != n->len ||
            !dns_name_is_sane(slice_of(n->text, n->len)))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_answer a;
    if (size == 0)
        return 0;
    enum dns_type type = data[0] & 1 ? DNS_NAPTR : DNS_SRV;
    if (dns_parse(slice_of(data + 1, size - 1), type, &a) == 0)
        check(&a);
    return 0;
}
