/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/slice.h"
#include "base/text.h"

/* The one system call below `net`: a process that is about to abort says why. */
_Noreturn void base_die(const char *cond, const char *file, int line)
{
    char line_bytes[512];
    struct text t = text_into(line_bytes, sizeof line_bytes);
    text_put(&t, slice_cstr(file));
    text_put_char(&t, ':');
    text_put_u64(&t, line > 0 ? (uint64_t)line : 0);
    TEXT_LIT(&t, ": broken: ");
    text_put(&t, slice_take(slice_cstr(cond), 256));
    text_put_char(&t, '\n');
    struct slice said = text_slice(&t);
    if (write(STDERR_FILENO, said.p, said.n) < 0)
        abort();
    abort();
}
