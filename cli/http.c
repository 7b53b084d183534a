#include "http.h"

#include <string.h>
#include <strings.h>

const char *http_reason(enum http_status status)
{
    switch (status) {
    case HTTP_OK:
        return "OK";
    case HTTP_BAD_REQUEST:
        return "Bad Request";
    case HTTP_NOT_FOUND:
        return "Not Found";
    case HTTP_METHOD_NOT_ALLOWED:
        return "Method Not Allowed";
    case HTTP_TOO_LARGE:
        return "Request Header Fields Too Large";
    case HTTP_UNAVAILABLE:
        return "Service Unavailable";
    }
    return "Unknown";
}

// A line ends in CR LF, or LF alone (RFC 9112 section 2.2).
static struct slice line_of(struct slice *text)
{
    struct slice line = slice_cut(text, '\n');
    if (line.n && line.at[line.n - 1] == '\r') line.n--;
    return line;
}

size_t http_head(struct slice text)
{
    const char *start = text.at;
    while (text.n) {
        const char *newline = memchr(text.at, '\n', text.n);
        if (!newline) return 0;
        const struct slice line = line_of(&text);
        // An empty line before the request is no end of it (RFC 9112 section 2.2).
        if (!line.n && line.at > start + 2) return (size_t)(newline + 1 - start);
    }
    return 0;
}

static bool same_ignoring_case(struct slice s, const char *text)
{
    return s.n == strlen(text) && strncasecmp(s.at, text, s.n) == 0;
}

static struct slice trimmed(struct slice s)
{
    while (s.n && (s.at[0] == ' ' || s.at[0] == '\t')) s.at++, s.n--;
    while (s.n && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t')) s.n--;
    return s;
}

// "q=0", "q=0.000": not wanted (RFC 9110 section 12.4.2).
static bool is_refused(struct slice parameters)
{
    while (parameters.n) {
        struct slice value = trimmed(slice_cut(&parameters, ';'));
        const struct slice name = trimmed(slice_cut(&value, '='));
        if (!same_ignoring_case(name, "q")) continue;
        value = trimmed(value);
        size_t zeros = 0;
        while (zeros < value.n && (value.at[zeros] == '0' || value.at[zeros] == '.')) zeros++;
        return value.n && zeros == value.n;
    }
    return false;
}

static bool accepts_openmetrics(struct slice accept)
{
    while (accept.n) {
        struct slice range = slice_cut(&accept, ',');
        const struct slice type = trimmed(slice_cut(&range, ';'));
        if (same_ignoring_case(type, "application/openmetrics-text") && !is_refused(range)) return true;
    }
    return false;
}

// "/metrics?a=b", or "http://host/metrics" as a proxy is asked.
static struct slice path_of(struct slice target)
{
    if (slice_begins(target, "http://")) {
        target.at += strlen("http://");
        target.n -= strlen("http://");
        const char *slash = target.n ? memchr(target.at, '/', target.n) : NULL;
        if (!slash) return slice_of("/");
        target.n -= (size_t)(slash - target.at);
        target.at = slash;
    }
    return slice_cut(&target, '?');
}

enum http_status http_read(struct slice head, struct http_request *r)
{
    *r = (struct http_request){0};
    struct slice line = line_of(&head);
    while (!line.n && head.n) line = line_of(&head);
    const struct slice method = slice_cut(&line, ' ');
    const struct slice target = slice_cut(&line, ' ');
    if (!method.n || !target.n || !slice_begins(line, "HTTP/1.") || line.n != strlen("HTTP/1.1"))
        return HTTP_BAD_REQUEST;
    while (head.n) {
        struct slice field = line_of(&head);
        const struct slice name = slice_cut(&field, ':');
        if (same_ignoring_case(name, "accept") && accepts_openmetrics(field)) r->openmetrics = true;
    }
    r->path = path_of(target);
    r->head = slice_is(method, "HEAD");
    if (!r->head && !slice_is(method, "GET")) return HTTP_METHOD_NOT_ALLOWED;
    return HTTP_OK;
}
