// What is counted, how it is written, and that neither grows without end.
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "../../cli/counters.h"
#include "../../cli/exposition.h"

static uint64_t counted(struct counter *all, const char *event, const char *level, const char *comm)
{
    uint64_t n = 0;
    for (const struct counter *c = all; c; c = c->hh.next)
        if (strcmp(c->event, event) == 0 && strcmp(c->level, level) == 0 && strcmp(c->comm, comm) == 0)
            n += c->n;
    return n;
}

static void add(struct counters *c, const char *line)
{
    counters_line(c, line, strlen(line));
}

static void test_counts(void **state)
{
    (void)state;
    struct counters *c = counters_new();
    assert_int_equal(c->last_us, LOG_UNKNOWN);
    add(c,
        "{\"time\":\"2026-11-21T14:10:40Z\",\"event\":\"close-wait\",\"level\":\"warning\",\"comm\":\"a\"}");
    add(c, "{\"time\":\"2026-11-21T14:10:39Z\",\"event\":\"close-wait\",\"level\":\"warning\",\"comm\":\"a\","
           "\"held_back\":17,\"text\":\"x; 17 more from here held back since the last line\"}");
    add(c, "preclose: warning: close-wait: x time=2026-11-21T14:10:38Z pid=3 comm=b");
    add(c, "{\"event\":\"summary\",\"comm\":\"a\",\"counts\":{\"close-wait\":40,\"close\":-3,\"x\":0}}");
    add(c, "{\"event\":\"close-wait\"");
    add(c, "output");
    add(c, "");
    assert_int_equal(counted(c->findings, "close-wait", "warning", "a"), 19);
    assert_int_equal(counted(c->findings, "close-wait", "warning", "b"), 1);
    assert_int_equal(HASH_COUNT(c->findings), 2);
    assert_int_equal(counted(c->summaries, "close-wait", "", "a"), 40);
    assert_int_equal(HASH_COUNT(c->summaries), 1);
    assert_int_equal(c->lines[KIND_FINDING], 4);
    assert_int_equal(c->lines[KIND_BROKEN], 1);
    assert_int_equal(c->lines[KIND_OTHER], 1);
    assert_int_equal(c->lines[KIND_EMPTY], 1);
    assert_int_equal(c->last_us, INT64_C(1795270240000000));
}

// Labels that never end make no more than so many counters, and each finding is in one of them.
static void test_bounds(void **state)
{
    (void)state;
    struct counters *c = counters_new();
    char line[512];
    uint64_t sum = 0;
    for (int i = 0; i < 3 * COUNTERS_MAX; i++) {
        snprintf(line, sizeof line, "{\"event\":\"%s%d\",\"level\":\"%d\",\"comm\":\"%d\",\"text\":\"\"}",
                 i % 2 ? "e" : "close-wait\\u0000", i, i, i);
        add(c, line);
    }
    for (int i = 0; i < 100; i++)
        add(c, "{\"event\":\"close-wait\",\"level\":\"warning\",\"comm\":\"late\"}");
    for (const struct counter *one = c->findings; one; one = one->hh.next) {
        sum += one->n;
        assert_true(strlen(one->event) <= 64 && strlen(one->comm) <= 64);
    }
    assert_int_equal(sum, 3 * COUNTERS_MAX + 100);
    assert_true(HASH_COUNT(c->findings) <= COUNTERS_MAX + 15 * 5);
    assert_int_equal(counted(c->findings, "close-wait", "warning", OTHER_PROGRAMS), 100);
    assert_true(counted(c->findings, OTHER_PROGRAMS, OTHER_PROGRAMS, OTHER_PROGRAMS) > 0);
}

static void test_numbers(void **state)
{
    (void)state;
    struct counters *c = counters_new();
    add(c, "{\"event\":\"x\",\"held_back\":9223372036854775807}");
    add(c, "{\"event\":\"x\",\"held_back\":-9223372036854775807}");
    add(c, "{\"event\":\"summary\",\"counts\":{\"x\":9223372036854775807}}");
    assert_int_equal(counted(c->findings, "x", "", ""), 2);
    assert_int_equal(counted(c->summaries, "x", "", ""), 0);
}

static char *written(enum dialect dialect, const char *label)
{
    char *text;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    struct exposition e = {.out = out, .dialect = dialect};
    expose_family(&e, true, "a", "It.");
    expose_sample(&e);
    expose_label(&e, "x", slice_of(label));
    expose_label(&e, "y", slice_of(""));
    expose_count(&e, UINT64_MAX);
    expose_family(&e, false, "b_seconds", "They.");
    expose_sample(&e);
    expose_seconds(&e, -1500001);
    expose_end(&e);
    fclose(out);
    return text;
}

static void test_dialects(void **state)
{
    (void)state;
    static const char rest[] = "a_total{x=\"v\",y=\"\"} 18446744073709551615\n"
                               "# HELP b_seconds They.\n# TYPE b_seconds gauge\nb_seconds -1.500001\n# EOF\n";
    static const char *const heads[] = {
        [DIALECT_COMMON] = "# HELP a_total It.\n",
        [DIALECT_OPENMETRICS] = "# HELP a It.\n# TYPE a counter\n",
        [DIALECT_PROMETHEUS] = "# HELP a_total It.\n# TYPE a_total counter\n",
    };
    for (enum dialect d = 0; d <= DIALECT_PROMETHEUS; d++) {
        char whole[512];
        char *text = written(d, "v");
        snprintf(whole, sizeof whole, "%s%s", heads[d], rest);
        assert_string_equal(text, whole);
        free(text);
    }
}

static void test_labels(void **state)
{
    (void)state;
    static const struct {
        const char *value, *written;
    } rows[] = {
        {"plain", "{x=\"plain\","},
        {"a\"b\\c", "{x=\"a\\\"b\\\\c\","},
        {"a\nb", "{x=\"a\\\\u000ab\","},
        {"\xff\xc3\xa9", "{x=\"\\\\ufffd\xc3\xa9\","},
        {"\"} 5\n# EOF\n", "{x=\"\\\"} 5\\\\u000a# EOF\\\\u000a\","},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = written(DIALECT_COMMON, rows[i].value);
        if (!strstr(text, rows[i].written)) fail_msg("%s is not in %s", rows[i].written, text);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),   cmocka_unit_test(test_bounds), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_dialects), cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
