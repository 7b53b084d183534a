// The head of an HTTP request (RFC 9112), as far as one who serves a page or two needs it. Pure.
#ifndef PRECLOSE_CLI_HTTP_H
#define PRECLOSE_CLI_HTTP_H

#include <stdbool.h>

#include "text.h"

enum { HTTP_HEAD_MAX = 8192 };

enum http_status {
    HTTP_OK = 200,
    HTTP_BAD_REQUEST = 400,
    HTTP_NOT_FOUND = 404,
    HTTP_METHOD_NOT_ALLOWED = 405,
    HTTP_TOO_LARGE = 431,
    HTTP_UNAVAILABLE = 503,
};

struct http_request {
    bool head;         // HEAD: only the head of the answer is wanted
    bool openmetrics;  // Accept names application/openmetrics-text
    struct slice path; // without query; in the request's memory
};

// The length of the head in what has come so far, with the empty line that ends it; 0 if that isn't there
// yet.
size_t http_head(struct slice text);

// Reads a whole head. Returns HTTP_OK, or how it must be refused.
enum http_status http_read(struct slice head, struct http_request *r);

// "Not Found"
const char *http_reason(enum http_status status);

#endif
