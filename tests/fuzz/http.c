// Heads of HTTP requests: any is read within its bytes, and what is found in it lies in it.
#include "fuzz.h"

#include "../../cli/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1); // of exact size, so that a byte too far is seen
    memcpy(text, data, size);
    const size_t n = http_head((struct slice){text, size});
    if (n > size) wrong("a head of %zu of %zu bytes", n, size);
    if (n) {
        struct http_request r;
        const enum http_status status = http_read((struct slice){text, n}, &r);
        const bool within = r.path.at >= text && r.path.at + r.path.n <= text + n;
        if (status == HTTP_OK && !within && !slice_is(r.path, "/"))
            wrong("a path of %zu bytes that is nowhere", r.path.n);
    }
    free(text);
    return 0;
}
