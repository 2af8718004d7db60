/* SPDX-License-Identifier: Apache-2.0
 *
 * What one message costs without any network: index, check, the edits that forwarding an INVITE
 * needs, serialise. Run under callgrind with two counts of rounds; the difference is the cost of
 * the rounds alone.
 *
 *      parse_bench ROUNDS */
#include <stdio.h>
#include <string.h>

#include "sip/sip.h"

/* The INVITE of the talk, with what a phone puts around it. */
static const char invite[] =
    "INVITE sip:hello@example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 62.63.64.65:5678;rport;branch=z9hG4bK-524287-1---7a8f3c21d9e04b55\r\n"
    "Max-Forwards: 70\r\n"
    "Route: <sip:192.168.0.100;transport=udp;lr>\r\n"
    "Contact: <sip:alice@62.63.64.65:5678;transport=udp>\r\n"
    "To: <sip:hello@example.com>\r\n"
    "From: \"Alice\" <sip:alice@example.com>;tag=4fa92c6d\r\n"
    "Call-ID: 84417NzM4ZTk3NzA2ODFjMTJkYjE1MWQ1ZGJlYzQ4MGEwNTQ\r\n"
    "CSeq: 1 INVITE\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, REFER, INFO, NOTIFY, OPTIONS, UPDATE, PRACK, MESSAGE\r\n"
    "Content-Type: application/sdp\r\n"
    "Supported: replaces, outbound, path, gruu\r\n"
    "User-Agent: Phone 5.6.1\r\n"
    "Content-Length: 215\r\n"
    "\r\n"
    "v=0\r\n"
    "o=- 13316239211948297 1 IN IP4 62.63.64.65\r\n"
    "s=call\r\n"
    "c=IN IP4 62.63.64.65\r\n"
    "t=0 0\r\n"
    "m=audio 50602 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\n"
    "a=ptime:20\r\n"
    "a=sendrecv\r\n";

static const char our_via[] =
    "Via: SIP/2.0/UDP 10.36.10.11:5060;branch=z9hG4bKwQ3Jb5r0T2aXc9LkP7mZs.1f\r\n";
static const char our_route[] =
    "Record-Route: <sip:AQEAAAABAAAfkU0iZ3k8pXUAE0oPq1r8cJ0m4vYd9w@10.36.10.11:5060;lr>\r\n";

static char scratch[16384];

/* One message forwarded; returns the bytes that leave, or 0. */
static size_t forward(const struct addr *source, int *ret_pieces)
{
    struct sip_msg m;
    struct sip_facts facts;
    struct sip_fault fault;
    struct sip_edits edits;
    struct iovec iov[SIP_IOV_MAX];
    struct arena arena = arena_over(scratch, sizeof scratch);
    if (sip_index(&m, invite, sizeof invite - 1, true, &fault) < 0 ||
        sip_check_request(&m, &facts, &fault) != 0)
        return 0;
    sip_edits_init(&edits, &m);
    sip_push_via(&edits, slice_of(our_via, sizeof our_via - 1));
    sip_push_record_route(&edits, slice_of(our_route, sizeof our_route - 1));
    sip_stamp_via(&edits, &facts, source, &arena);
    sip_drop_headers(&edits, SIP_H_ROUTE);
    sip_set_header(&edits, SIP_H_MAX_FORWARDS, SLICE("69"), &arena);
    *ret_pieces = sip_serialise(&edits, iov, SIP_IOV_MAX);
    return *ret_pieces > 0 ? sip_edits_size(&edits) : 0;
}

int main(int argc, char **argv)
{
    uint64_t rounds = 1;
    struct addr source;
    if (argc > 2 || (argc == 2 && text_parse_u64(slice_cstr(argv[1]), 1u << 30, &rounds) != 0) ||
        addr_parse_host(SLICE("62.63.64.65"), 5678, &source) != 0)
        return 2;
    size_t bytes = 0;
    int pieces = 0;
    for (uint64_t i = 0; i < rounds; i++)
        bytes = forward(&source, &pieces);
    printf("%zu bytes in, %zu bytes out in %d pieces\n", sizeof invite - 1, bytes, pieces);
    return bytes > 0 ? 0 : 1;
}
