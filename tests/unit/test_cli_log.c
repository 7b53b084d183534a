// A line → a finding: from JSON and from text, whole and broken.
#include "unit.h"

#include <string.h>

#include "../../cli/log.h"

static struct log_memory memory;
static struct finding f;

static enum log_line read_line(const char *line)
{
    return log_read(&memory, line, strlen(line), &f);
}

static void assert_slice(struct slice s, const char *text)
{
    if (!slice_is(s, text)) fail_msg("\"%.*s\" is not \"%s\"", (int)s.n, s.at, text);
}

#define JSON                                                                                                 \
    "{\"time\":\"2026-11-21T14:10:40.023362Z\",\"pid\":9674,\"comm\":\"victim\",\"level\":\"warning\","      \
    "\"event\":\"blocked-threads\",\"fd\":5,\"cookie\":38892544,\"type\":\"tcp\",\"state\":\"established\"," \
    "\"local\":\"127.0.0.1:58001\",\"peer\":\"[::1]:34884\",\"unread\":3,\"age_ms\":12,\"action\":\"none\"," \
    "\"reason\":\"shared\",\"threads\":[{\"tid\":9675,\"name\":\"wait:recv\",\"call\":\"recvfrom\"},"        \
    "{\"tid\":9676,\"call\":\"accept\"}],\"opened\":{\"call\":\"accept\",\"tid\":1,\"thread\":\"victim\","   \
    "\"at\":[\"/a b/x+0x53d3\",\"/a,b/y+0x1\"]},\"closed\":{\"call\":\"close\",\"at\":[\"/x+0x2\"]},"        \
    "\"used\":{\"call\":\"dup2\",\"tid\":2,\"at\":[\"/x+0x3\"]},\"held_back\":17,"                               \
    "\"text\":\"fd 5 \\\"closed\\\"; 17 more from here held back since the last line\"}"
#define TEXT                                                                                                 \
    "preclose: warning: blocked-threads: fd 5 \"closed\"; 17 more from here held back since the last line "  \
    "time=2026-11-21T14:10:40.023362Z pid=9674 comm=victim fd=5 cookie=38892544 type=tcp state=established " \
    "local=127.0.0.1:58001 peer=[::1]:34884 unread=3 age_ms=12 action=none reason=shared "                   \
    "threads=9675:wait:recv:recvfrom,9676::accept opened.call=accept opened.tid=1 opened.thread=victim "     \
    "opened.at=\"/a b/x+0x53d3,/a,b/y+0x1\" closed.call=close closed.at=/x+0x2 used.call=dup2 used.tid=2 "       \
    "used.at=/x+0x3 held_back=17"

static void test_formats(void **state)
{
    (void)state;
    static const char *const lines[] = {JSON,          TEXT,           "Nov 21 host x[1]: " JSON,
                                        "output" TEXT, "\t" JSON "\r", TEXT " \r"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(read_line(lines[i]), LOG_FINDING);
        assert_int_equal(f.time_us, INT64_C(1795270240023362));
        assert_int_equal(f.pid, 9674);
        assert_int_equal(f.fd, 5);
        assert_int_equal(f.cookie, 38892544);
        assert_int_equal(f.held, 17);
        assert_int_equal(f.measure[MEASURE_UNREAD], 3);
        assert_int_equal(f.measure[MEASURE_AGE], 12);
        assert_int_equal(f.measure[MEASURE_UNSENT], LOG_UNKNOWN);
        assert_slice(f.comm, "victim");
        assert_slice(f.level, "warning");
        assert_slice(f.event, "blocked-threads");
        assert_slice(f.peer, "[::1]:34884");
        assert_slice(f.reason, "shared");
        assert_slice(f.text, "fd 5 \"closed\"; 17 more from here held back since the last line");
        assert_int_equal(f.threads, 2);
        assert_slice(f.thread[0].name, "wait:recv");
        assert_slice(f.thread[0].call, "recvfrom");
        assert_slice(f.thread[1].name, "");
        assert_slice(f.thread[1].call, "accept");
        assert_slice(f.place[PLACE_OPENED].call, "accept");
        assert_slice(f.place[PLACE_OPENED].at, "/a b/x+0x53d3\n/a,b/y+0x1");
        assert_slice(f.place[PLACE_CLOSED].at, "/x+0x2");
        assert_slice(f.place[PLACE_USED].call, "dup2");
        assert_slice(f.place[PLACE_USED].at, "/x+0x3");
    }
}

static void test_summary(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"time\":\"2026-11-21T14:10:40Z\",\"level\":\"notice\",\"event\":\"summary\",\"counts\":{\"close-"
        "wait\":3,\"close\":9},\"leaks\":"
        "[{\"opened\":{\"call\":\"accept4\",\"at\":[\"/s "
        "r+0x1\"]},\"now\":3,\"most\":5,\"oldest_ms\":71000,\"trend\":\"growing\"},"
        "{\"opened\":{\"call\":\"\"},\"now\":1,\"most\":1,\"oldest_ms\":0}],\"text\":\"3 close-wait\"}",
        "preclose: notice: summary: 3 close-wait time=2026-11-21T14:10:40Z counts.close-wait=3 "
        "counts.close=9 leaks=\"accept4 at "
        "\\\"/s r+0x1\\\" now 3 most 5 oldest_ms 71000 growing, elsewhere now 1 most 1 oldest_ms 0\"",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(read_line(lines[i]), LOG_FINDING);
        assert_int_equal(f.counts, 2);
        assert_slice(f.count[0].event, "close-wait");
        assert_int_equal(f.count[1].n, 9);
        assert_int_equal(f.leaks, 2);
        assert_slice(f.leak[0].call, "accept4");
        assert_slice(f.leak[0].at, "/s r+0x1");
        assert_slice(f.leak[0].trend, "growing");
        assert_int_equal(f.leak[0].now, 3);
        assert_int_equal(f.leak[0].most, 5);
        assert_int_equal(f.leak[0].oldest_ms, 71000);
        assert_int_equal(f.leak[1].now, 1);
        assert_int_equal(f.leak[1].at.n, 0);
        assert_int_equal(f.leak[1].trend.n, 0);
    }
}

static const struct {
    const char *line;
    enum log_line is;
} lines[] = {
    {"", LOG_EMPTY},
    {"  \t \r", LOG_EMPTY},
    {"hello", LOG_OTHER},
    {"{}", LOG_OTHER},
    {"{\"a\":1}", LOG_OTHER},
    {"{\"event\":5}", LOG_OTHER},
    {"{\"event\":\"x\"}", LOG_FINDING},
    {"{\"event\":\"x\"", LOG_BROKEN},
    {"{\"event\":\"x\"} {", LOG_BROKEN},
    {"{\"event\":\"x\",\"unread\":\"three\",\"threads\":7,\"opened\":[],\"closed\":{\"at\":5},\"counts\":[1],"
     "\"leaks\":{}}",
     LOG_FINDING},
    {"{\"event\":\"x\",\"threads\":[1,[],{}],\"closed\":{\"at\":[1,\"a+0x1\"]},\"leaks\":[3]}", LOG_FINDING},
    {"[1]", LOG_OTHER},
    {"preclose: ", LOG_OTHER},
    {"preclose: PRECLOSE_LEVEL=loud: takes warning, notice or info; using warning", LOG_OTHER},
    {"preclose: warning: unread-reset: fd 7", LOG_BROKEN},
    {"preclose: warning: unread-reset", LOG_BROKEN},
    {"preclose: warning: ", LOG_OTHER},
    {"preclose: warning: a b: fd 7 time=2026-11-21T14:10:40Z", LOG_BROKEN},
    {"preclose: warning: x: fd 7 time=never", LOG_BROKEN},
    {"preclose: warning: x: fd 7 time=2026-11-21T14:10:40Z pid", LOG_FINDING},
    {"preclose: warning: x: fd 7 time=2026-11-21T14:10:40Z comm=\"torn", LOG_FINDING},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (read_line(lines[i].line) != lines[i].is) fail_msg("%s: is not %d", lines[i].line, lines[i].is);
}

// Each line cut at every byte, in a copy of exact size: what the sanitizers look at.
static void test_every_prefix(void **state)
{
    (void)state;
    static const char *const whole[] = {JSON, TEXT};
    for (size_t i = 0; i < 2; i++) {
        for (size_t n = 0; n < strlen(whole[i]); n++) {
            char *copy = test_malloc(n ? n : 1);
            memcpy(copy, whole[i], n);
            const enum log_line is = log_read(&memory, copy, n, &f);
            if (i == 0) assert_true(is == (n ? LOG_BROKEN : LOG_EMPTY));
            test_free(copy);
        }
    }
}

static void test_sentence_with_time(void **state)
{
    (void)state;
    assert_int_equal(
        read_line("preclose: warning: x: by \"a time=1 \\\" b\" here time=2026-11-21T14:10:40Z pid=3"),
        LOG_FINDING);
    assert_slice(f.text, "by \"a time=1 \\\" b\" here");
    assert_int_equal(f.pid, 3);
}

static const struct {
    const char *text;
    int64_t us;
} times[] = {
    {"1970-01-01T00:00:00Z", 0},
    {"1970-01-01T00:00:00.000001Z", 1},
    {"1969-12-31T23:59:59.5Z", -500000},
    {"2000-02-29T12:00:00Z", INT64_C(951825600000000)},
    {"2026-11-21T15:10:40+01:00", INT64_C(1795270240000000)},
    {"2026-11-21T14:10:40.1234567Z", INT64_C(1795270240123456)},
    {"9999-12-31T23:59:59Z", INT64_C(253402300799000000)},
    {"2026-13-21T14:10:40Z", LOG_UNKNOWN},
    {"2026-11-21T24:10:40Z", LOG_UNKNOWN},
    {"2026-11-21T14:10:40", LOG_UNKNOWN},
    {"2026-11-21T14:10:40.", LOG_UNKNOWN},
    {"2026-11-21T14:10:40X", LOG_UNKNOWN},
    {"yesterday at five o'clock", LOG_UNKNOWN},
    {"", LOG_UNKNOWN},
};

static void test_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char line[128];
        snprintf(line, sizeof line, "{\"event\":\"x\",\"time\":\"%s\"}", times[i].text);
        assert_int_equal(read_line(line), LOG_FINDING);
        if (f.time_us != times[i].us) fail_msg("%s is not %lld", times[i].text, (long long)f.time_us);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_sentence_with_time),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
