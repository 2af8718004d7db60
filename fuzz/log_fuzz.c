/* SPDX-License-Identifier: Apache-2.0
 *
 * A record of any bytes as both kinds of line: each fits, is printable ASCII and ends in its only
 * newline, has the quotes and braces of an object, and comes out the same in exactly enough room.
 */
#include "observe/observe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD_BYTES = offsetof(struct log_record, len) };

/* The fixed part from the input, then the strings, cut where the packer would cut them. */
static void unpack(struct log_record *r, struct log_names *names, struct slice in)
{
    struct slice s[8 + 3];
    struct slice head = slice_take(in, HEAD_BYTES);
    memset(r, 0, sizeof *r);
    if (head.n > 0)
        memcpy(r, head.p, head.n);
    in = slice_drop(in, HEAD_BYTES);
    for (unsigned i = 0; i < 8 + 3; i++) {
        size_t n = in.n > 0 ? (unsigned char)in.p[0] : 0;
        in = slice_drop(in, 1);
        s[i] = slice_take(in, n < LOG_TEXT_BYTES_MAX || i >= 8 ? n : LOG_TEXT_BYTES_MAX);
        in = slice_drop(in, s[i].n);
    }
    size_t at = 0;
    for (unsigned i = 0; i < 8; i++) {
        r->len[i] = (uint16_t)s[i].n;
        if (s[i].n > 0)
            memcpy(r->text + at, s[i].p, s[i].n);
        at += s[i].n;
    }
    *names = (struct log_names){s[8], s[9], s[10]};
}

static void check_line(struct slice line, bool json)
{
    bool quoted = false;
    MUST(line.n > 0 && line.p[line.n - 1] == '\n');
    for (size_t i = 0; i + 1 < line.n; i++) {
        MUST(line.p[i] >= 0x20 && line.p[i] < 0x7f);
        if (line.p[i] == '"')
            quoted = !quoted;
        else if (line.p[i] == '\\' && quoted)
            i++;
        else
            MUST(!(json && !quoted && line.p[i] == ' '));
    }
    MUST(!quoted);
    MUST(!json || (line.p[0] == '{' && line.p[line.n - 2] == '}'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static union {
        struct log_record r;
        char room[LOG_RECORD_BYTES_MAX];
    } u;
    static char line[LOG_LINE_BYTES_MAX], again[LOG_LINE_BYTES_MAX];
    struct log_names names;
    unpack(&u.r, &names, slice_of(data, size));
    for (int json = 0; json < 2; json++) {
        int (*write)(struct text *, const struct log_record *, const struct log_names *) =
            json ? log_write_json : log_write_logfmt;
        struct text t = text_into(line, sizeof line);
        MUST(write(&t, &u.r, &names) == 0);
        check_line(text_slice(&t), json);
        struct text less = text_into(again, t.n - 1), exact = text_into(again, t.n);
        MUST(write(&less, &u.r, &names) == -1 && less.n == 0);
        MUST(write(&exact, &u.r, &names) == 0);
        MUST(slice_equal(text_slice(&exact), text_slice(&t)));
    }
    return 0;
}
