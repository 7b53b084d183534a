// The heads of requests, good and bad.
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "../../cli/http.h"

static void test_head(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
    } rows[] = {
        {"", 0},
        {"GET / HTTP/1.1", 0},
        {"GET / HTTP/1.1\r\n", 0},
        {"GET / HTTP/1.1\r\n\r", 0},
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"GET / HTTP/1.1\n\n", 16},
        {"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\r\n\r\n", 24},
        {"\r\nGET / HTTP/1.1\r\n\r\n", 20},
        {"\r\n\r\n", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (http_head(slice_of(rows[i].text)) != rows[i].n) fail_msg("%s: not %zu", rows[i].text, rows[i].n);
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum http_status status;
        const char *path;
        bool head, openmetrics;
    } rows[] = {
        {"GET /metrics HTTP/1.1\r\n\r\n", HTTP_OK, "/metrics", false, false},
        {"GET /metrics HTTP/1.0\n\n", HTTP_OK, "/metrics", false, false},
        {"\r\nHEAD /metrics?a=b&c HTTP/1.1\r\n\r\n", HTTP_OK, "/metrics", true, false},
        {"GET http://host:9/metrics?x HTTP/1.1\r\n\r\n", HTTP_OK, "/metrics", false, false},
        {"GET http://host HTTP/1.1\r\n\r\n", HTTP_OK, "/", false, false},
        {"GET / HTTP/1.1\r\nACCEPT: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n",
         HTTP_OK, "/", false, true},
        {"GET / HTTP/1.1\r\naccept:text/plain , Application/OpenMetrics-Text ; q=0.75\r\n\r\n", HTTP_OK, "/",
         false, true},
        {"GET / HTTP/1.1\r\nAccept: application/openmetrics-text;q=0.000\r\n\r\n", HTTP_OK, "/", false,
         false},
        {"GET / HTTP/1.1\r\nAccept: */*\r\nX: application/openmetrics-text\r\n\r\n", HTTP_OK, "/", false,
         false},
        {"GET / HTTP/1.1\r\nAccept: text/plain\r\nAccept: application/openmetrics-text\r\n\r\n", HTTP_OK, "/",
         false, true},
        {"GET / HTTP/1.1\r\nAccept:\r\n:\r\nx\r\n\r\n", HTTP_OK, "/", false, false},
        {"POST / HTTP/1.1\r\n\r\n", HTTP_METHOD_NOT_ALLOWED, "/", false, false},
        {"get / HTTP/1.1\r\n\r\n", HTTP_METHOD_NOT_ALLOWED, "/", false, false},
        {"GET /\r\n\r\n", HTTP_BAD_REQUEST, NULL, false, false},
        {"GET  / HTTP/1.1\r\n\r\n", HTTP_BAD_REQUEST, NULL, false, false},
        {"GET / HTTP/2.0\r\n\r\n", HTTP_BAD_REQUEST, NULL, false, false},
        {"GET / HTTP/1.1 x\r\n\r\n", HTTP_BAD_REQUEST, NULL, false, false},
        {"\x16\x03\x01\x02\n\n", HTTP_BAD_REQUEST, NULL, false, false},
        {"\n\n\n\n", HTTP_BAD_REQUEST, NULL, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http_request r;
        const enum http_status status = http_read(slice_of(rows[i].text), &r);
        if (status != rows[i].status)
            fail_msg("%s: is %d, not %d", rows[i].text, (int)status, (int)rows[i].status);
        if (!rows[i].path) continue;
        if (!slice_is(r.path, rows[i].path) || r.head != rows[i].head || r.openmetrics != rows[i].openmetrics)
            fail_msg("%s: %.*s %d %d", rows[i].text, (int)r.path.n, r.path.at, r.head, r.openmetrics);
    }
}

// Every beginning of a request, in memory of exact size: what the sanitizers look at.
static void test_every_prefix(void **state)
{
    (void)state;
    static const char whole[] =
        "\r\nGET http://h/metrics?q HTTP/1.1\r\nAccept: a;q=, application/openmetrics-text; q\r\n\r\n";
    for (size_t n = 0; n < sizeof whole; n++) {
        struct http_request r;
        char *copy = malloc(n + 1);
        memcpy(copy, whole, n);
        char *exact = realloc(copy, n ? n : 1);
        const struct slice s = {exact, n};
        assert_int_equal(http_head(s), n == sizeof whole - 1 ? n : 0);
        http_read(s, &r);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
