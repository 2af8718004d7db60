/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line: what it makes of words, and what it says of wrong ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "load/load.h"

enum { WORDS_MAX = 40 };

static char line[512], why[LOAD_WHY_BYTES_MAX];

/* Words are parted by blanks. Texts of the options point into `line`. */
static int read_line(const char *text, struct load_opts *o)
{
    char *argv[WORDS_MAX + 1];
    int argc = 0;
    size_t n = strlen(text);
    assert_true(n < sizeof line);
    memcpy(line, text, n + 1);
    for (size_t i = 0; i < n; i++) {
        if (line[i] == ' ')
            line[i] = '\0';
        else if (i == 0 || line[i - 1] == '\0')
            argv[argc++] = &line[i];
        assert_true(argc < WORDS_MAX);
    }
    argv[argc] = NULL;
    why[0] = '\0';
    return load_options(argc, argv, o, why);
}

static void test_defaults(void **state)
{
    struct load_opts o;
    (void)state;
    assert_int_equal(read_line("phones --to tls://127.0.0.1:5061", &o), 0);
    assert_int_equal(o.kind, LOAD_PHONES);
    assert_int_equal(o.to.transport, TP_TLS);
    assert_int_equal(o.to.addr.port, 5061);
    assert_int_equal(o.count, 100);
    assert_int_equal(o.rate, 500);
    assert_int_equal(o.expect_permille, 1000);
    assert_int_equal(o.behaviour, LOAD_GOOD);
    assert_true(o.base == 30 * NS_S && o.cap == 1800 * NS_S && o.expires == 600 * NS_S);
    assert_int_equal(read_line("calls --to udp://127.0.0.1:5060", &o), 0);
    assert_true(o.lasts == 10 * NS_S && o.talk == NS_S && o.rate == 10 && o.count == 0);
    assert_int_equal(read_line("calls --to udp://127.0.0.1:5060 --count 5", &o), 0);
    assert_true(o.lasts == 0);
}

static void test_all_of_phones(void **state)
{
    struct load_opts o;
    (void)state;
    assert_int_equal(
        read_line("phones --to wss://127.0.0.1:8443 --count=15000 --at-once --behaviour naive "
                  "--domain a.example --password x --expires 60s --hold --answer --for 60s "
                  "--sources 127.1.0.0/16 --insecure --storm-at 10s -o json --expect-ok 99%",
                  &o),
        0);
    assert_true(o.count == 15000 && o.rate == 0 && o.behaviour == LOAD_NAIVE && o.holds &&
                o.answers && o.insecure && o.is_json);
    assert_string_equal(o.domain, "a.example");
    assert_string_equal(o.password, "x");
    assert_int_equal(o.sources.bits, 16);
    assert_true(o.storm_at == 10 * NS_S && o.lasts == 60 * NS_S && o.expires == 60 * NS_S);
    assert_int_equal(o.expect_permille, 990);
}

/* The same word means one thing for calls and another for phones. */
static void test_words_of_calls(void **state)
{
    struct load_opts o;
    (void)state;
    assert_int_equal(read_line("calls --to 127.0.0.1:5060 --hold 5s --rate 200/s --answer "
                               "udp://127.0.0.1:0 --answer tcp://127.0.0.2:5060 --connections 4",
                               &o),
                     0);
    assert_true(o.talk == 5 * NS_S && !o.holds && o.rate == 200 && o.lanes == 4);
    assert_int_equal(o.answer_count, 2);
    assert_int_equal(o.answer[1].transport, TP_TCP);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *line, *why; /* a part of what is said */
    } cases[] = {
        {"", "calls, phones or flood"},
        {"call --to 127.0.0.1", "'call' is no kind"},
        {"calls", "--to is missing"},
        {"calls --to", "--to wants URI"},
        {"calls --to 127.0.0.1:0", "port 0"},
        {"calls --to example.com", "not a place"},
        {"calls --to 8.8.8.8:5060", "--i-own-this-network"},
        {"calls --to 127.0.0.1 --ratte 5", "did you mean --rate?"},
        {"calls --to 127.0.0.1 --behaviour naive", "no option --behaviour here"},
        {"calls --to 127.0.0.1 --rate fast", "not a rate"},
        {"calls --to 127.0.0.1 --rate max", "calls have a rate"},
        {"calls --to 127.0.0.1 --hold 5", "not a span"},
        {"calls --to 127.0.0.1 --answer tls://127.0.0.1:5061", "over udp and tcp"},
        {"calls --to 127.0.0.1 --uri sip:a>b", "one word"},
        {"calls --to 127.0.0.1 extra", "unexpected: extra"},
        {"calls --to 127.0.0.1 -o xml", "table or json"},
        {"calls --to 127.0.0.1 --insecure=yes", "takes no value"},
        {"phones --to 127.0.0.1 --count 0", "not a number from 1 to 1000000"},
        {"phones --to 127.0.0.1 --count 1000001", "not a number from 1 to 1000000"},
        {"phones --to 127.0.0.1 --behaviour rude", "one of good, naive"},
        {"phones --to 127.0.0.1 --expires 1500ms", "whole seconds"},
        {"phones --to tls://127.0.0.1 --resume", "wants --insecure"},
        {"phones --to 127.0.0.1 --base 1h", "--cap is below --base"},
        {"phones --to 127.0.0.1 --sources 127.1.0.1/16", "bits are set"},
        {"phones --to 127.0.0.1 --sources fd00::/64", "one family"},
        {"phones --to 127.0.0.1 --expect-ok 101%", "not a share"},
        {"flood --to udp://127.0.0.1 --for 1s", "--kind is missing"},
        {"flood --to udp://127.0.0.1 --kind invite", "--for is missing"},
        {"flood --to udp://127.0.0.1 --kind connect --for 1s", "goes to tcp://"},
        {"flood --to tcp://127.0.0.1 --kind ack --for 1s", "goes to udp://"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct load_opts o;
        if (read_line(cases[i].line, &o) != -1 || strstr(why, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].line, why);
    }
}

static void test_own_network(void **state)
{
    struct load_opts o;
    (void)state;
    assert_int_equal(read_line("calls --to 8.8.8.8:5060 --i-own-this-network", &o), 0);
    assert_true(o.anywhere);
}

static void test_too_many_answers(void **state)
{
    struct load_opts o;
    char text[400] = "calls --to 127.0.0.1";
    (void)state;
    for (int i = 0; i < LOAD_ANSWERS_MAX + 1; i++)
        memcpy(text + strlen(text), " --answer 127.0.0.1:0", 22);
    assert_int_equal(read_line(text, &o), -1);
    assert_non_null(strstr(why, "8 of them at most"));
}

/* Each help has an example that can be read back. */
static void test_help(void **state)
{
    static const char *const words[] = {"calls", "phones", "flood", NULL, "nothing"};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        char *bytes = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&bytes, &n);
        load_help(words[i], f);
        fclose(f);
        assert_non_null(strstr(bytes, "usage: weir load"));
        char *example = strstr(bytes, "Example:\n  weir load ");
        assert_non_null(example);
        example += sizeof "Example:\n  weir load " - 1;
        for (char *p = example; *p != '\0'; p++) /* continued lines are one */
            if (*p == '\\' || *p == '\n')
                *p = ' ';
        struct load_opts o;
        size_t used = strlen(example);
        while (used > 0 && example[used - 1] == ' ')
            example[--used] = '\0';
        if (read_line(example, &o) != 0)
            fail_msg("%s: %s", example, why);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_all_of_phones),
        cmocka_unit_test(test_words_of_calls), cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_own_network),    cmocka_unit_test(test_too_many_answers),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
