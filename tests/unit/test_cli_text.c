// How numbers and strange bytes are shown; counts over time.
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "../../cli/series.h"
#include "../../cli/text.h"

static void test_numbers(void **state)
{
    (void)state;
    char out[NUMBER_MAX];
    assert_string_equal(text_count(out, 0), "0");
    assert_string_equal(text_count(out, 999), "999");
    assert_string_equal(text_count(out, 1000), "1,000");
    assert_string_equal(text_count(out, 1234567), "1,234,567");
    assert_string_equal(text_count(out, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(text_bytes(out, 1), "1 byte");
    assert_string_equal(text_bytes(out, 9999), "9999 bytes");
    assert_string_equal(text_bytes(out, 10000), "10 kB");
    assert_string_equal(text_bytes(out, 3900000), "3.9 MB");
    assert_string_equal(text_bytes(out, 999600), "1.0 MB");
    assert_string_equal(text_bytes(out, UINT64_MAX), "18 EB");
    assert_string_equal(text_ms(out, 0), "0 ms");
    assert_string_equal(text_ms(out, 9999), "9999 ms");
    assert_string_equal(text_ms(out, 61000), "61 s");
    assert_string_equal(text_ms(out, 7380000), "2 h 3 min");
    assert_string_equal(text_ms(out, INT64_C(300) * 3600 * 1000), "12 days 12 h");
    assert_string_equal(text_time(out, INT64_C(1795270240023362)), "2026-11-21 14:10:40");
}

static void test_slice_number(void **state)
{
    (void)state;
    int64_t n;
    assert_true(slice_number(slice_of("9223372036854775807"), &n) && n == INT64_MAX);
    assert_true(slice_number(slice_of("-5"), &n) && n == -5);
    static const char *const bad[] = {"",   "-",   "9223372036854775808",    "1.5", "1e3",
                                      " 1", "0x1", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(slice_number(slice_of(bad[i]), &n));
}

static char *written(void (*put)(FILE *, struct slice), struct slice s)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    put(out, s);
    fclose(out);
    return text;
}

static void test_safe(void **state)
{
    (void)state;
    static const struct {
        const char *in, *safe, *json;
    } rows[] = {
        {"plain", "plain", "\"plain\""},
        {"a\"b\\c", "a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\x1b[31m\n\x7f", "\\u001b[31m\\u000a\\u007f", "\"\\u001b[31m\\u000a\\u007f\""},
        {"\xc3\xa9\xff\xc3", "\xc3\xa9\\ufffd\\ufffd", "\"\xc3\xa9\\ufffd\\ufffd\""},
        {"\xc2\x9b", "\\u009b", "\"\\u009b\""}, // a C1 control: an escape sequence to some terminals
        {"", "", "\"\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = written(put_safe, slice_of(rows[i].in));
        assert_string_equal(text, rows[i].safe);
        free(text);
        text = written(put_json, slice_of(rows[i].in));
        assert_string_equal(text, rows[i].json);
        free(text);
    }
}

// Long strings are written in pieces, and no character is cut by that.
static void test_long(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char in[4096];
        size_t n = 0;
        while (n < shift) in[n++] = 'x';
        while (n + 4 < sizeof in) {
            memcpy(in + n, "\xf0\x9f\x98\x80", 4);
            n += 4;
        }
        char *text = written(put_safe, (struct slice){in, n});
        assert_int_equal(strlen(text), n);
        assert_memory_equal(text, in, n);
        free(text);
    }
}

// Random times, against what a sum over all of them says.
static void test_series(void **state)
{
    (void)state;
    srandom(4711);
    for (int round = 0; round < 200; round++) {
        struct series s = {0};
        int64_t time[300];
        const int64_t span = INT64_C(1) << (random() % 50);
        for (int i = 0; i < 300; i++) {
            time[i] =
                INT64_C(1795270240000000) +
                (random() % 2 ? 1 : -1) * (int64_t)((uint64_t)random() * (uint64_t)random() % (uint64_t)span);
            series_add(&s, time[i], 1);
        }
        uint32_t total = 0;
        for (int b = 0; b < SERIES_BUCKETS; b++) {
            uint32_t wanted = 0;
            for (int i = 0; i < 300; i++) {
                const int64_t second = time[i] / 1000000 - (time[i] % 1000000 < 0);
                const int64_t bucket = second / s.second - (second % s.second < 0);
                wanted += bucket == s.first + b;
            }
            assert_int_equal(s.n[b], wanted);
            total += s.n[b];
        }
        assert_int_equal(total, 300);
    }
}

static void test_series_ends(void **state)
{
    (void)state;
    struct series s = {0};
    series_add(&s, INT64_C(-62167219200000000), UINT32_MAX); // the year 0
    series_add(&s, INT64_C(253402300799000000), 7);          // the year 9999
    series_add(&s, INT64_C(253402300799000000), UINT32_MAX);
    uint64_t total = 0;
    for (int b = 0; b < SERIES_BUCKETS; b++) total += s.n[b];
    assert_int_equal(total, 2 * (uint64_t)UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_slice_number),
        cmocka_unit_test(test_safe),    cmocka_unit_test(test_long),
        cmocka_unit_test(test_series),  cmocka_unit_test(test_series_ends),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
