// The PRECLOSE_ variables: what each value means, and what is said of a bad one.
#include "unit.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"

static char told[4096];
static int lines;

static void note(void *context, const char *line)
{
    (void)context;
    assert_null(strpbrk(line, "\n\r\t\033"));
    assert_true(strlen(line) < 400);
    strncat(told, line, sizeof told - strlen(told) - 1);
    lines++;
}

static struct settings read_env(const char *a, const char *b)
{
    char *env[] = {"PATH=/bin", (char *)(uintptr_t)a, (char *)(uintptr_t)b, NULL};
    struct settings s;
    told[0] = '\0';
    lines = 0;
    settings_read(&s, env, 4242, note, NULL);
    return s;
}

static void assert_defaults(const struct settings *s)
{
    assert_int_equal(s->shutdown, ACT_ALWAYS);
    assert_int_equal(s->unread, UNREAD_SHUTDOWN);
    assert_int_equal(s->log, LOG_STDERR);
    assert_int_equal(s->format, FORMAT_TEXT);
    assert_int_equal(s->level, LEVEL_WARNING);
    assert_int_equal(s->report, REPORT_AUTO);
    assert_int_equal(s->stack, 1);
    assert_int_equal(s->rate, 10);
    assert_string_equal(s->only, "*");
    assert_int_equal(s->drain_ms, 1000);
    assert_int_equal(s->close_wait_ms, 60000);
    assert_int_equal(s->watch, WATCH_AUTO);
    assert_int_equal(s->slow_close_ms, 100);
    assert_int_equal(s->exit_code, 0);
    assert_int_equal(s->sigpipe, SIGPIPE_DEFAULT);
    assert_int_equal(s->reuseaddr, 0);
    assert_int_equal(s->keepalive.idle, 0);
    assert_int_equal(s->recv_timeout_ms, 0);
}

static void test_defaults(void **state)
{
    (void)state;
    struct settings s = read_env("HOME=/", NULL);
    assert_defaults(&s);
    assert_int_equal(lines, 0);
    memset(&s, 0xff, sizeof s);
    settings_read(&s, NULL, 1, NULL, NULL);
    assert_defaults(&s);
}

#define FIELD(name) offsetof(struct settings, name)

static const struct {
    const char *variable;
    size_t field;
    unsigned value;
} values[] = {
    {"PRECLOSE_SHUTDOWN=always", FIELD(shutdown), ACT_ALWAYS},
    {"PRECLOSE_SHUTDOWN=blocked", FIELD(shutdown), ACT_BLOCKED},
    {"PRECLOSE_SHUTDOWN=never", FIELD(shutdown), ACT_NEVER},
    {"PRECLOSE_UNREAD=shutdown", FIELD(unread), UNREAD_SHUTDOWN},
    {"PRECLOSE_UNREAD=reset", FIELD(unread), UNREAD_RESET},
    {"PRECLOSE_LOG=stderr", FIELD(log), LOG_STDERR},
    {"PRECLOSE_LOG=none", FIELD(log), LOG_NONE},
    {"PRECLOSE_LOG=/tmp/x", FIELD(log), LOG_FILE},
    {"PRECLOSE_FORMAT=text", FIELD(format), FORMAT_TEXT},
    {"PRECLOSE_FORMAT=json", FIELD(format), FORMAT_JSON},
    {"PRECLOSE_LEVEL=warning", FIELD(level), LEVEL_WARNING},
    {"PRECLOSE_LEVEL=notice", FIELD(level), LEVEL_NOTICE},
    {"PRECLOSE_LEVEL=info", FIELD(level), LEVEL_INFO},
    {"PRECLOSE_REPORT=auto", FIELD(report), REPORT_AUTO},
    {"PRECLOSE_REPORT=always", FIELD(report), REPORT_ALWAYS},
    {"PRECLOSE_REPORT=never", FIELD(report), REPORT_NEVER},
    {"PRECLOSE_STACK=0", FIELD(stack), 0},
    {"PRECLOSE_STACK=1", FIELD(stack), 1},
    {"PRECLOSE_STACK=32", FIELD(stack), 32},
    {"PRECLOSE_RATE=0", FIELD(rate), 0},
    {"PRECLOSE_RATE=007", FIELD(rate), 7},
    {"PRECLOSE_RATE=4294967295", FIELD(rate), 4294967295u},
    {"PRECLOSE_UNREAD=drain", FIELD(unread), UNREAD_DRAIN},
    {"PRECLOSE_UNREAD=drain", FIELD(drain_ms), 1000},
    {"PRECLOSE_UNREAD=drain:0", FIELD(unread), UNREAD_DRAIN},
    {"PRECLOSE_UNREAD=drain:0", FIELD(drain_ms), 0},
    {"PRECLOSE_UNREAD=drain:250", FIELD(drain_ms), 250},
    {"PRECLOSE_UNREAD=drain:60000", FIELD(drain_ms), 60000},
    {"PRECLOSE_EXIT_CODE=0", FIELD(exit_code), 0},
    {"PRECLOSE_EXIT_CODE=99", FIELD(exit_code), 99},
    {"PRECLOSE_WATCH=auto", FIELD(watch), WATCH_AUTO},
    {"PRECLOSE_WATCH=thread", FIELD(watch), WATCH_THREAD},
    {"PRECLOSE_WATCH=calls", FIELD(watch), WATCH_CALLS},
    {"PRECLOSE_WATCH=off", FIELD(watch), WATCH_OFF},
    {"PRECLOSE_EXIT_CODE=255", FIELD(exit_code), 255},
    {"PRECLOSE_SIGPIPE=default", FIELD(sigpipe), SIGPIPE_DEFAULT},
    {"PRECLOSE_SIGPIPE=ignore", FIELD(sigpipe), SIGPIPE_IGNORE},
    {"PRECLOSE_REUSEADDR=0", FIELD(reuseaddr), 0},
    {"PRECLOSE_REUSEADDR=1", FIELD(reuseaddr), 1},
    {"PRECLOSE_KEEPALIVE=off", FIELD(keepalive.idle), 0},
    {"PRECLOSE_KEEPALIVE=60,10,5", FIELD(keepalive.idle), 60},
    {"PRECLOSE_KEEPALIVE=60,10,5", FIELD(keepalive.interval), 10},
    {"PRECLOSE_KEEPALIVE=60,10,5", FIELD(keepalive.count), 5},
    {"PRECLOSE_KEEPALIVE=32767,32767,127", FIELD(keepalive.idle), 32767},
    {"PRECLOSE_KEEPALIVE=1,1,1", FIELD(keepalive.count), 1},
};

static void test_values(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct settings s = read_env(values[i].variable, NULL);
        unsigned got;
        memcpy(&got, (char *)&s + values[i].field, sizeof got);
        if (got != values[i].value || lines) fail_msg("%s: %u, %s", values[i].variable, got, told);
    }
}

static const struct {
    const char *variable;
    size_t field;
    int64_t ms;
} times[] = {
    {"PRECLOSE_CLOSE_WAIT=0", FIELD(close_wait_ms), 0},
    {"PRECLOSE_CLOSE_WAIT=250ms", FIELD(close_wait_ms), 250},
    {"PRECLOSE_SLOW_CLOSE=0", FIELD(slow_close_ms), 0},
    {"PRECLOSE_SLOW_CLOSE=1s", FIELD(slow_close_ms), 1000},
    {"PRECLOSE_SLOW_CLOSE=9223372036854775807ms", FIELD(slow_close_ms), INT64_MAX},
    {"PRECLOSE_RECV_TIMEOUT=0", FIELD(recv_timeout_ms), 0},
    {"PRECLOSE_RECV_TIMEOUT=5m", FIELD(recv_timeout_ms), 300000},
};

static void test_times(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct settings s = read_env(times[i].variable, NULL);
        int64_t got;
        memcpy(&got, (char *)&s + times[i].field, sizeof got);
        if (got != times[i].ms || lines) fail_msg("%s: %lld, %s", times[i].variable, (long long)got, told);
    }
}

#define UNREAD_TAKES "takes shutdown, reset, drain or drain:MS (up to 60000); using shutdown"
#define KEEPALIVE_TAKES \
    "takes off or IDLE,INTERVAL,COUNT (seconds, seconds, probes: up to 32767,32767,127); using off"

static const struct {
    const char *variable, *complaint;
} bad[] = {
    {"PRECLOSE_LEVEL=loud", "PRECLOSE_LEVEL=loud: takes warning, notice or info; using warning"},
    {"PRECLOSE_LEVEL=", "PRECLOSE_LEVEL=\"\": takes warning, notice or info; using warning"},
    {"PRECLOSE_LEVEL=warn", "PRECLOSE_LEVEL=warn: takes warning, notice or info; using warning"},
    {"PRECLOSE_LEVEL=Warning", "PRECLOSE_LEVEL=Warning: takes warning, notice or info; using warning"},
    {"PRECLOSE_LEVEL=warning|notice",
     "PRECLOSE_LEVEL=warning|notice: takes warning, notice or info; using warning"},
    {"PRECLOSE_FORMAT=xml", "PRECLOSE_FORMAT=xml: takes text or json; using text"},
    {"PRECLOSE_SHUTDOWN=yes", "PRECLOSE_SHUTDOWN=yes: takes always, blocked or never; using always"},
    {"PRECLOSE_UNREAD=drop", "PRECLOSE_UNREAD=drop: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:", "PRECLOSE_UNREAD=drain:: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:x", "PRECLOSE_UNREAD=drain:x: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:5s", "PRECLOSE_UNREAD=drain:5s: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:-1", "PRECLOSE_UNREAD=drain:-1: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:60001", "PRECLOSE_UNREAD=drain:60001: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:MS", "PRECLOSE_UNREAD=drain:MS: " UNREAD_TAKES},
    {"PRECLOSE_UNREAD=drain:MS (up to 60000)",
     "PRECLOSE_UNREAD=\"drain:MS (up to 60000)\": " UNREAD_TAKES},
    {"PRECLOSE_REPORT=1", "PRECLOSE_REPORT=1: takes auto, always or never; using auto"},
    {"PRECLOSE_RATE=ten", "PRECLOSE_RATE=ten: takes a number of lines a minute or 0 for no limit; using 10"},
    {"PRECLOSE_RATE=-1", "PRECLOSE_RATE=-1: takes a number of lines a minute or 0 for no limit; using 10"},
    {"PRECLOSE_RATE=10 ",
     "PRECLOSE_RATE=\"10 \": takes a number of lines a minute or 0 for no limit; using 10"},
    {"PRECLOSE_RATE=4294967296",
     "PRECLOSE_RATE=4294967296: takes a number of lines a minute or 0 for no limit; using 10"},
    {"PRECLOSE_RATE=18446744073709551617",
     "PRECLOSE_RATE=18446744073709551617: takes a number of lines a minute or 0 for no limit; using 10"},
    {"PRECLOSE_ONLY=", "PRECLOSE_ONLY=\"\": takes a glob or several with ',' (up to 255 bytes); using *"},
    {"PRECLOSE_LOG=", "PRECLOSE_LOG=\"\": takes stderr, none or a path (up to 1023 bytes); using stderr"},
    {"PRECLOSE_CLOSE_WAIT=60",
     "PRECLOSE_CLOSE_WAIT=60: takes a duration (such as 500ms, 60s, 5m or 2h) or 0 for off; using 60s"},
    {"PRECLOSE_WATCH=on", "PRECLOSE_WATCH=on: takes auto, thread, calls or off; using auto"},
    {"PRECLOSE_STACK=33", "PRECLOSE_STACK=33: takes 0 to 32; using 1"},
    {"PRECLOSE_STACK=-1", "PRECLOSE_STACK=-1: takes 0 to 32; using 1"},
    {"PRECLOSE_STACK=", "PRECLOSE_STACK=\"\": takes 0 to 32; using 1"},
    {"PRECLOSE_STACK=8x", "PRECLOSE_STACK=8x: takes 0 to 32; using 1"},
    {"PRECLOSE_STACK=all", "PRECLOSE_STACK=all: takes 0 to 32; using 1"},
    {"PRECLOSE_STACK=18446744073709551617", "PRECLOSE_STACK=18446744073709551617: takes 0 to 32; using 1"},
    {"PRECLOSE_SLOW_CLOSE=100",
     "PRECLOSE_SLOW_CLOSE=100: takes a duration (such as 500ms, 60s, 5m or 2h) or 0 for off; using 100ms"},
    {"PRECLOSE_EXIT_CODE=256", "PRECLOSE_EXIT_CODE=256: takes 0 to 255; using 0"},
    {"PRECLOSE_EXIT_CODE=-1", "PRECLOSE_EXIT_CODE=-1: takes 0 to 255; using 0"},
    {"PRECLOSE_EXIT_CODE=9x", "PRECLOSE_EXIT_CODE=9x: takes 0 to 255; using 0"},
    {"PRECLOSE_SIGPIPE=ignored", "PRECLOSE_SIGPIPE=ignored: takes default or ignore; using default"},
    {"PRECLOSE_REUSEADDR=yes", "PRECLOSE_REUSEADDR=yes: takes 0 or 1; using 0"},
    {"PRECLOSE_KEEPALIVE=on", "PRECLOSE_KEEPALIVE=on: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60", "PRECLOSE_KEEPALIVE=60: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60,10", "PRECLOSE_KEEPALIVE=60,10: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60,10,5,1", "PRECLOSE_KEEPALIVE=60,10,5,1: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=0,10,5", "PRECLOSE_KEEPALIVE=0,10,5: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60,0,5", "PRECLOSE_KEEPALIVE=60,0,5: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60,10,0", "PRECLOSE_KEEPALIVE=60,10,0: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=32768,10,5", "PRECLOSE_KEEPALIVE=32768,10,5: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60,32768,5", "PRECLOSE_KEEPALIVE=60,32768,5: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=60,10,128", "PRECLOSE_KEEPALIVE=60,10,128: " KEEPALIVE_TAKES},
    {"PRECLOSE_KEEPALIVE=", "PRECLOSE_KEEPALIVE=\"\": " KEEPALIVE_TAKES},
    {"PRECLOSE_RECV_TIMEOUT=5",
     "PRECLOSE_RECV_TIMEOUT=5: takes a duration (such as 500ms, 60s, 5m or 2h) or 0 for off; using 0"},
    {"PRECLOSE_LEVLE=info", "PRECLOSE_LEVLE=info: there is no such setting; did you mean PRECLOSE_LEVEL?"},
    {"PRECLOSE_LOGS=x", "PRECLOSE_LOGS=x: there is no such setting; did you mean PRECLOSE_LOG?"},
    {"PRECLOSE_level=x", "PRECLOSE_level=x: there is no such setting; did you mean PRECLOSE_LEVEL?"},
    {"PRECLOSE_WACH=x", "PRECLOSE_WACH=x: there is no such setting; did you mean PRECLOSE_WATCH?"},
    {"PRECLOSE_RECV_TIMEOUTS=x",
     "PRECLOSE_RECV_TIMEOUTS=x: there is no such setting; did you mean PRECLOSE_RECV_TIMEOUT?"},
    {"PRECLOSE_COLOUR=red", "PRECLOSE_COLOUR=red: there is no such setting"},
    {"PRECLOSE_=x", "PRECLOSE_\"\"=x: there is no such setting"},
    {"PRECLOSE_LEVEL=a\nb\033[31m\"\xff",
     "PRECLOSE_LEVEL=\"a\\u000ab\\u001b[31m\\\"\\ufffd\": takes warning, notice or info; using warning"},
    {"PRECLOSE_A\nB=x", "PRECLOSE_\"A\\u000aB\"=x: there is no such setting"},
};

static void test_bad(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct settings s = read_env(bad[i].variable, NULL);
        assert_string_equal(told, bad[i].complaint);
        assert_int_equal(lines, 1);
        assert_defaults(&s);
    }
}

static void test_not_ours(void **state)
{
    (void)state;
    struct settings s = read_env("PRECLOSE=1", "PRECLOSE_LEVEL");
    assert_defaults(&s);
    assert_int_equal(lines, 0);
    read_env("XPRECLOSE_LEVEL=loud", "preclose_level=loud");
    assert_int_equal(lines, 0);
}

static void test_long_values(void **state)
{
    (void)state;
    static char variable[5000];
    const char *const names[] = {"PRECLOSE_LOG=", "PRECLOSE_ONLY=", "PRECLOSE_LEVEL=", "PRECLOSE_"};
    for (unsigned i = 0; i < 4; i++) {
        memset(variable, i % 2 ? '\1' : 'x', 4000);
        memcpy(variable, names[i], strlen(names[i]));
        strcpy(variable + 4000, "=y");
        struct settings s = read_env(variable, NULL);
        assert_defaults(&s);
        assert_int_equal(lines, 1);
        assert_non_null(strstr(told, "..."));
    }
}

static void test_first_counts(void **state)
{
    (void)state;
    struct settings s = read_env("PRECLOSE_LEVEL=info", "PRECLOSE_LEVEL=loud");
    assert_int_equal(s.level, LEVEL_INFO);
    assert_int_equal(lines, 0);
    s = read_env("PRECLOSE_LEVEL=loud", "PRECLOSE_RATE=3");
    assert_int_equal(s.rate, 3);
    assert_int_equal(lines, 1);
}

static const struct {
    const char *variable, *path;
} logs[] = {
    {"PRECLOSE_LOG=/var/log/x.log", "/var/log/x.log"},
    {"PRECLOSE_LOG=x.%p.log", "x.4242.log"},
    {"PRECLOSE_LOG=%p%p", "42424242"},
    {"PRECLOSE_LOG=%", "%"},
    {"PRECLOSE_LOG=100%%p", "100%4242"},
    {"PRECLOSE_LOG=%q/none", "%q/none"},
    {"PRECLOSE_LOG=./stderr", "./stderr"},
};

static void test_logs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof logs / sizeof logs[0]; i++) {
        struct settings s = read_env(logs[i].variable, NULL);
        assert_int_equal(s.log, LOG_FILE);
        assert_string_equal(s.log_path, logs[i].path);
        assert_int_equal(lines, 0);
    }
}

static const struct {
    const char *only, *comm;
    bool match;
} programs[] = {
    {"*", "nginx", true},
    {"*", "", true},
    {"nginx", "nginx", true},
    {"nginx", "nginx2", false},
    {"nginx", "ngin", false},
    {"ngin?", "nginx", true},
    {"ngin?", "ngin", false},
    {"n*x", "nginx", true},
    {"*a*b", "xxabab", true},
    {"*a*b", "xxaba", false},
    {"**", "x", true},
    {"[a-n]ginx", "nginx", true},
    {"[a-m]ginx", "nginx", false},
    {"[!n]ginx", "nginx", false},
    {"[^n]ginx", "xginx", true},
    {"[]n]ginx", "nginx", true},
    {"[]n]ginx", "]ginx", true},
    {"[!]]x", "]x", false},
    {"[a-]x", "-x", true},
    {"[n", "[n", true},
    {"[n", "n", false},
    {"\\*", "*", true},
    {"\\*", "x", false},
    {"[\\]]", "]", true},
    {"redis*,nginx", "nginx", true},
    {"redis*,nginx", "redis-server", true},
    {"redis*,nginx", "nginx-redis", false},
    {"redis, nginx", "nginx", true},
    {" nginx ", "nginx", true},
    {"a b", "a b", true},
    {",,nginx", "nginx", true},
    {",", "", false},
    {"x,", "", false},
    {"gnome-terminal-server", "gnome-terminal-", true},
    {"gnome-terminal-server", "gnome-terminal", false},
    {"gnome-terminal-", "gnome-terminal-", true},
    {"gnome-terminal-*", "gnome-terminal-", true},
};

static void test_programs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        struct settings s = {0};
        strcpy(s.only, programs[i].only);
        if (settings_match(&s, programs[i].comm) != programs[i].match)
            fail_msg("\"%s\" and \"%s\"", programs[i].only, programs[i].comm);
    }
}

// Random patterns against libc's.
static void test_globs_like_fnmatch(void **state)
{
    (void)state;
    static const char letters[] = "ab*?[]!-\\";
    srandom(1);
    for (int i = 0; i < 300000; i++) {
        struct settings s = {0};
        char comm[8] = "";
        unsigned pattern_length = 1 + (unsigned)random() % 9, name_length = (unsigned)random() % 6;
        for (unsigned k = 0; k < pattern_length; k++) s.only[k] = letters[random() % 9];
        for (unsigned k = 0; k < name_length; k++) comm[k] = "ab]-"[random() % 4];
        // POSIX leaves open what a trailing backslash, a range that ends in a bracket or runs backwards mean.
        if (strchr(s.only, '[') && strpbrk(s.only, "\\-")) continue;
        if (s.only[pattern_length - 1] == '\\') continue;
        bool expected = fnmatch(s.only, comm, 0) == 0;
        if (settings_match(&s, comm) != expected) fail_msg("\"%s\" and \"%s\"", s.only, comm);
    }
}

// A pattern that makes a backtracking matcher run for ever.
static void test_glob_is_quick(void **state)
{
    (void)state;
    struct settings s = {0};
    for (int i = 0; i < 60; i++) strcat(s.only, "*a");
    strcat(s.only, "*b");
    assert_false(settings_match(&s, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

static const struct {
    const char *text;
    int64_t ms;
} durations[] = {
    {"0", 0},
    {"100ms", 100},
    {"60s", 60000},
    {"2m", 120000},
    {"1h", 3600000},
    {"0s", 0},
    {"9223372036854775807ms", INT64_MAX},
    {"9223372036854775808ms", -1},
    {"9223372036854775807s", -1},
    {"2562047788015h", 9223372036854000000},
    {"2562047788016h", -1},
    {"", -1},
    {"s", -1},
    {"5", -1},
    {"-5s", -1},
    {"5 s", -1},
    {"5d", -1},
    {"5sx", -1},
    {"1.5s", -1},
};

static void test_durations(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof durations / sizeof durations[0]; i++)
        if (settings_duration(durations[i].text) != durations[i].ms)
            fail_msg("\"%s\": %lld", durations[i].text, (long long)settings_duration(durations[i].text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_not_ours),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_first_counts),
        cmocka_unit_test(test_logs),
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_globs_like_fnmatch),
        cmocka_unit_test(test_glob_is_quick),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
