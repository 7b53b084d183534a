// Reading JSON: what is taken, what is refused, and what strings hold.
#include "unit.h"

#include <string.h>

#include "../../cli/json.h"

// A walk through all of it, as a reader of findings makes it.
static bool walk(struct slice text)
{
    struct json j = json_open(text);
    struct json_value v;
    struct slice key;
    const bool object = text.n && *text.at == '{';
    while (object ? json_member(&j, &key, &v) : json_element(&j, &v))
        if ((v.type == JSON_OBJECT || v.type == JSON_ARRAY) && !walk(v.text)) return false;
    return !j.bad;
}

static const struct {
    const char *text;
    bool good;
} texts[] = {
    {"{}", true},
    {"[]", true},
    {"{\"a\":1}", true},
    {"[1,2]", true},
    {"[ 1 , [ ] , { } ]", true},
    {"{\"a\":{\"b\":[{\"c\":null}]}}", true},
    {"[0,-0,1.5,1e5,1E+5,1e-5,-12.0]", true},
    {"[true,false,null]", true},
    {"[\"\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"]", true},
    {"[\"12345678901234567890\"]", true},
    {"{\"a\":1} ", true},
    {"", false},
    {"1", false},
    {"\"a\"", false},
    {"{", false},
    {"[", false},
    {"[1", false},
    {"[1,", false},
    {"[1,]", false},
    {"[,1]", false},
    {"[1 2]", false},
    {"[1]]", false},
    {"[1] x", false},
    {"{\"a\"}", false},
    {"{\"a\":}", false},
    {"{\"a\":1,}", false},
    {"{a:1}", false},
    {"{1:1}", false},
    {"{\"a\" 1}", false},
    {"[}", false},
    {"{]", false},
    {"[01]", false},
    {"[1.]", false},
    {"[.5]", false},
    {"[+1]", false},
    {"[-]", false},
    {"[1e]", false},
    {"[1e+]", false},
    {"[tru]", false},
    {"[nulll]", false},
    {"[True]", false},
    {"[\"a]", false},
    {"[\"\\x\"]", false},
    {"[\"\\u12\"]", false},
    {"[\"\\u123g\"]", false},
    {"[\"\\\"]", false},
    {"[\"\t\"]", false},
    {"[\"12345678\n\"]", false},
    {"[\"1234567\x1f\"]", false},
    {"[\"12345678\x1f\"]", false},
    {"['a']", false},
    {"[\"a\"\"b\"]", false},
};

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (walk(slice_of(texts[i].text)) != texts[i].good)
            fail_msg("%s is %s", texts[i].text, texts[i].good ? "good" : "bad");
}

// The reader stays within the bytes it is given, wherever they end: copies of exact size, for the sanitizer.
static void test_every_prefix(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (size_t n = 0; n < strlen(texts[i].text); n++) {
            char *copy = test_malloc(n ? n : 1);
            memcpy(copy, texts[i].text, n);
            walk((struct slice){copy, n});
            test_free(copy);
        }
    }
}

static void test_depth(void **state)
{
    (void)state;
    char text[400];
    for (int depth = 1; depth < 200; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        struct json j = json_open((struct slice){text, 2 * (size_t)depth});
        struct json_value v;
        while (json_element(&j, &v)) {
        }
        assert_int_equal(j.bad, depth > 65);
    }
}

static const struct {
    const char *written, *meant;
    size_t n;
} strings[] = {
    {"", "", 0},
    {"abc", "abc", 3},
    {"\\n\\t\\b\\f\\r\\/\\\\\\\"", "\n\t\b\f\r/\\\"", 8},
    {"\\u0041", "A", 1},
    {"\\u00e9", "\xc3\xa9", 2},
    {"\\u20AC", "\xe2\x82\xac", 3},
    {"\\ud83d\\ude00", "\xf0\x9f\x98\x80", 4},
    {"\\u0000", "\0", 1},
    {"\\ud83d", "\xef\xbf\xbd", 3},
    {"\\ud83dx", "\xef\xbf\xbdx", 4},
    {"\\ude00", "\xef\xbf\xbd", 3},
    {"\\ud83d\\u0041",
     "\xef\xbf\xbd"
     "A",
     4},
    {"\\ud83d\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7},
};

static void test_unescape(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        char out[64];
        const size_t room = strlen(strings[i].written), n = json_unescape(slice_of(strings[i].written), out);
        assert_int_equal(n, strings[i].n);
        assert_true(n <= room);
        assert_memory_equal(out, strings[i].meant, n);
    }
}

static void test_values(void **state)
{
    (void)state;
    struct json j = json_open(slice_of("{\"a\":\"x\\ny\",\"b\":-5,\"c\":{\"d\":1},\"e\":[1,2],\"f\":null}"));
    static const struct {
        const char *key, *text;
        enum json_type type;
        bool escaped;
    } wanted[] = {{"a", "x\\ny", JSON_STRING, true},
                  {"b", "-5", JSON_NUMBER, false},
                  {"c", "{\"d\":1}", JSON_OBJECT, false},
                  {"e", "[1,2]", JSON_ARRAY, false},
                  {"f", "null", JSON_WORD, false}};
    struct json_value v;
    struct slice key;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_true(json_member(&j, &key, &v));
        assert_true(slice_is(key, wanted[i].key));
        assert_true(slice_is(v.text, wanted[i].text));
        assert_int_equal(v.type, wanted[i].type);
        assert_int_equal(v.escaped, wanted[i].escaped);
    }
    assert_false(json_member(&j, &key, &v));
    assert_false(j.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_every_prefix), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_unescape), cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
