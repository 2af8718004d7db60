/* SPDX-License-Identifier: Apache-2.0
 *
 * Where one message ends and the next begins, on a stream. One module for every stream transport.
 *
 *      ┌──────────┬──────────────┬──────────────────┬────┬──────┐
 *      │start line│ header line  │ header line, fold│CRLF│ body │
 *      └──────────┴──────────────┴──────────────────┴────┴──────┘
 *                 ▲ line_start       ▲ scanned      head_bytes  + body_bytes
 *
 * Every decision hangs on a byte's place in the stream and on nothing else: not on how the stream
 * was cut, nor on how much is there already. So the same stream gives the same results, always.
 *
 * Lines of the head end in CRLF and in nothing else. A lone LF or CR that one element takes for a
 * line end and the next one does not is how headers are smuggled; no client is known to need it,
 * and the torture messages that hold one (the archive's copies of RFC 5118) are damaged copies.
 *
 * After a fault there is no search for the next message: the place where it would begin was chosen
 * by whoever caused the fault. */
#include "sip/sip_int.h"

enum { LENGTH_NONE, LENGTH_GOOD, LENGTH_BAD, LENGTH_TOO_LONG };

/* Ends this message's (or blank line's) framing; keeps nothing but `blanks`. */
static int done(struct sip_framer *f, int result, uint8_t blanks)
{
    *f = (struct sip_framer){.blanks = blanks};
    return result;
}

/* CRLF where a start line is due: RFC 3261 7.5 says skip, RFC 5626 3.5.1 says that two of them
 * are a ping. Each is reported when it is whole: waiting for a second one would leave a peer's
 * pong (one CRLF) standing in the buffer as if a message had begun. */
static int take_blank(struct sip_framer *f, const char *buf, size_t n, size_t *ret_len)
{
    if (n < 2)
        return SIP_FRAME_MORE;
    if (buf[1] != '\n')
        return SIP_E_START_LINE;
    *ret_len = 2;
    return f->blanks > 0 ? done(f, SIP_FRAME_PING, 0) : done(f, SIP_FRAME_SKIP, 1);
}

/* Notes what a whole header line, folds included, says about the length. A fault is held back
 * until the head is whole, so that the answer can carry what the head says. */
static void note_length(struct sip_framer *f, const char *line, const char *end)
{
    char c = (char)(*line | 0x20);
    if (c != 'c' && c != 'l')
        return;
    size_t name_len;
    enum sip_header_id id;
    const char *p = sip__header_colon(line, end, &name_len, &id);
    if (p == NULL || id != SIP_H_CONTENT_LENGTH)
        return;
    struct slice value = slice_trim((struct slice){p, (size_t)(end - p)});
    int rc = sip__content_length(value, &f->body_bytes);
    if (f->has_length != LENGTH_NONE || rc == SIP_E_LENGTH)
        f->has_length = LENGTH_BAD; /* a second one is a fault even when it says the same */
    else
        f->has_length = rc == SIP_OK ? LENGTH_GOOD : LENGTH_TOO_LONG;
}

static int first_line(struct sip_framer *f, const char *buf, size_t n)
{
    size_t cap = n < SIP_START_LINE_BYTES_MAX ? n : SIP_START_LINE_BYTES_MAX;
    if (!f->start_is_possible) {
        if (!sip__start_is_possible(buf, cap))
            return SIP_E_START_LINE;
        f->start_is_possible = cap > SIP__METHOD_BYTES_MAX + 1;
    }
    const char *end = buf + cap;
    const char *q = sip__line_stop(buf + f->scanned, end);
    f->scanned = (uint32_t)(q - buf);
    if (q < end && *q != '\r')
        return SIP_E_START_LINE;
    if (end - q < 2)
        return cap == SIP_START_LINE_BYTES_MAX ? SIP_E_TOO_LONG : SIP_FRAME_MORE;
    if (q[1] != '\n' || !sip__start_is_sip(buf, f->scanned))
        return SIP_E_START_LINE;
    f->scanned += 2;
    f->line_start = f->scanned;
    return SIP_FRAME_MESSAGE;
}

/* Header lines up to the blank one. SIP_FRAME_MESSAGE: the head is whole. */
static int header_lines(struct sip_framer *f, const char *buf, size_t n)
{
    size_t cap = n < SIP_HEAD_BYTES_MAX ? n : SIP_HEAD_BYTES_MAX;
    const char *end = buf + cap;
    const char *q = buf + f->scanned;
    for (;;) {
        const char *line = buf + f->line_start;
        q = sip__line_stop(q, end);
        f->scanned = (uint32_t)(q - buf);
        if (q < end && *q == '\0' && sip__nul_is_quoted(line, q)) {
            q++;
            continue;
        }
        if (q < end && *q != '\r')
            return SIP_E_HEAD;
        if (end - q < 2)
            break;
        if (q[1] != '\n')
            return SIP_E_HEAD;
        if (q == line) {
            f->head_bytes = f->scanned + 2;
            return SIP_FRAME_MESSAGE;
        }
        if (sip__is_blank(*line))
            return SIP_E_HEAD; /* a fold of the start line: it has none (RFC 3261 7.1) */
        if (end - q < 3)
            break;
        q += 2;
        if (sip__is_blank(*q))
            continue; /* folded: the line goes on */
        if (f->lines == SIP_HEADERS_MAX)
            return SIP_E_TOO_LONG;
        f->lines++;
        note_length(f, line, q);
        f->line_start = (uint32_t)(q - buf);
    }
    return cap == SIP_HEAD_BYTES_MAX ? SIP_E_TOO_LONG : SIP_FRAME_MORE;
}

int sip_frame(struct sip_framer *f, const char *buf, size_t n, size_t *ret_len)
{
    *ret_len = 0;
    if (f->head_bytes == 0) {
        if (n == 0)
            return SIP_FRAME_MORE;
        if (buf[0] == '\r' && f->line_start == 0)
            return take_blank(f, buf, n, ret_len);
        int rc = SIP_FRAME_MESSAGE;
        if (f->line_start == 0)
            rc = first_line(f, buf, n);
        if (rc == SIP_FRAME_MESSAGE)
            rc = header_lines(f, buf, n);
        if (rc != SIP_FRAME_MESSAGE) {
            if (rc < 0)
                *ret_len = f->line_start; /* whole lines before the fault */
            return rc;
        }
        if (f->has_length == LENGTH_BAD || f->has_length == LENGTH_TOO_LONG) {
            *ret_len = f->head_bytes;
            return f->has_length == LENGTH_BAD ? SIP_E_LENGTH : SIP_E_TOO_LONG;
        }
    }
    size_t whole = (size_t)f->head_bytes + f->body_bytes;
    if (n < whole)
        return SIP_FRAME_MORE;
    *ret_len = whole;
    return done(f, SIP_FRAME_MESSAGE, 0);
}

void sip_frame_fault(int err, struct sip_fault *ret_fault)
{
    static const struct sip_fault start = {400, {"Not SIP", 7}, 0};
    static const struct sip_fault length = {400, {"Bad Content-Length", 18}, 0};
    static const struct sip_fault too_long = {513, {"Message Too Large", 17}, 0};
    static const struct sip_fault head = {400, {"Bad line in header section", 26}, 0};
    *ret_fault = err == SIP_E_START_LINE ? start
                 : err == SIP_E_LENGTH   ? length
                 : err == SIP_E_TOO_LONG ? too_long
                                         : head;
}
