// The cells of top, and what it takes from logs.
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../cli/top.h"

static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *text;
    } rows[] = {{0, "0"},         {999, "999"},     {1000, "1.0k"},    {9940, "9.9k"},     {9960, "10k"},
                {999499, "999k"}, {999500, "1.0M"}, {1500000, "1.5M"}, {UINT64_MAX, "18E"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[CELL_BYTES];
        top_bytes(out, rows[i].n);
        assert_string_equal(out, rows[i].text);
    }
}

static void test_ages(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{-1, "-"},          {0, "0s"},         {99999, "99s"},       {100000, "1m40"},
                {3599000, "59m59"}, {3600000, "1h00"}, {172799000, "47h59"}, {172800000, "2d00"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[CELL_BYTES];
        top_age(out, rows[i].ms);
        assert_string_equal(out, rows[i].text);
    }
}

static void test_columns(void **state)
{
    (void)state;
    assert_int_equal(column_named("CONN"), COLUMN_CONN);
    assert_int_equal(column_named("find/s"), COLUMN_FINDINGS);
    assert_int_equal(column_named(""), COLUMN_COUNT);
    assert_int_equal(column_named("CONNS"), COLUMN_COUNT);
}

static void add(struct top_table *t, const char *event, const char *comm, int pid, int64_t seconds_ago)
{
    char line[512], when[40];
    const time_t then = time(NULL) - seconds_ago;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&then));
    const int n = snprintf(line, sizeof line, "{\"time\":\"%s\",\"pid\":%d,\"comm\":\"%s\",\"event\":\"%s\"}",
                           when, pid, comm, event);
    top_line(t, line, (size_t)n);
}

// Findings of a pid under two names are two programs': a log may come from a container.
static void test_findings(void **state)
{
    (void)state;
    struct top_table *t = calloc(1, sizeof *t);
    for (int i = 0; i < 5; i++) add(t, "unread-reset", "a", 7, 0);
    add(t, "close-wait", "b", 7, 2);
    add(t, "close-wait", "old", 8, 3600);
    add(t, "close", "a", 7, 0);
    add(t, "summary", "a", 7, 0);
    top_line(t, "output", 6);
    t->now_s = time(NULL);
    t->sort = COLUMN_FINDINGS;
    top_arrange(t);
    assert_int_equal(t->findings, 7);
    assert_int_equal(t->events, 2);
    assert_int_equal(t->n, 2);
    assert_string_equal(t->row[0]->key.comm, "a");
    assert_string_equal(t->row[1]->key.comm, "b");
    t->inverted = true;
    top_arrange(t);
    assert_string_equal(t->row[0]->key.comm, "b");
    snprintf(t->filter, sizeof t->filter, "A");
    top_arrange(t);
    assert_int_equal(t->n, 1);
    assert_string_equal(t->row[0]->key.comm, "a");
}

static void test_bounds(void **state)
{
    (void)state;
    struct top_table *t = calloc(1, sizeof *t);
    char event[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(event, sizeof event, "event-%d", i);
        add(t, event, "x", i, 0);
    }
    assert_int_equal(t->findings, 20000);
    assert_int_equal(t->events, EVENTS_SHOWN);
    uint64_t sum = 0;
    for (unsigned i = 0; i < t->events; i++) sum += t->event[i].n;
    assert_int_equal(sum, 20000);
    assert_string_equal(t->event[EVENTS_SHOWN - 1].name, "other");
    assert_true(HASH_COUNT(t->all) <= 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),    cmocka_unit_test(test_ages),   cmocka_unit_test(test_columns),
        cmocka_unit_test(test_findings), cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
