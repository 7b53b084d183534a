// Metrics of any log: one sample a line, labels that end where they should, UTF-8 without control characters.
#include "fuzz.h"

#include "../../cli/counters.h"
#include "../../cli/exposition.h"

// A label's value at its opening quote: returns where its closing one is.
static const char *value_end(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\' && (++at == end || (*at != '\\' && *at != '"' && *at != 'n')))
            wrong("a bad escape in %s", at);
        if ((unsigned char)*at < 0x20 || *at == 0x7f) wrong("a control character, %d", *at);
    }
    if (at == end) wrong("%s", "a label without an end");
    return at;
}

static void look_at(const char *line, const char *end)
{
    const char *at = memchr(line, '{', (size_t)(end - line));
    int labels = 0;
    if (!at) wrong("%s", "a sample without labels");
    while (*at == '{' || *at == ',') {
        at = memchr(at, '=', (size_t)(end - at));
        if (!at || at[1] != '"') wrong("no value in %.*s", (int)(end - line), line);
        at = value_end(at + 1, end) + 1;
        labels++;
    }
    if (labels != 3 || at[0] != '}' || at[1] != ' ' || at[2] < '0' || at[2] > '9')
        wrong("no sample: %.*s", (int)(end - line), line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct counters *c;
    char *text;
    size_t n;
    if (!c) c = counters_new();
    while (size) {
        const uint8_t *newline = memchr(data, '\n', size);
        const size_t length = newline ? (size_t)(newline - data) : size;
        if (length <= LINE_BYTES_MAX) counters_line(c, (const char *)data, length);
        data += length + (newline ? 1 : 0);
        size -= length + (newline ? 1 : 0);
    }
    FILE *out = open_memstream(&text, &n);
    struct exposition e = {.out = out, .dialect = DIALECT_COMMON, .name = "x", .suffix = "_total"};
    for (const struct counter *one = c->findings; one; one = one->hh.next) {
        expose_sample(&e);
        expose_label(&e, "event", slice_of(one->event));
        expose_label(&e, "level", slice_of(one->level));
        expose_label(&e, "comm", slice_of(one->comm));
        expose_count(&e, one->n);
    }
    fclose(out);
    for (const char *at = text, *end; at < text + n; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + n - at));
        if (!end) wrong("%s", "a line without an end");
        look_at(at, end);
    }
    if (HASH_COUNT(c->findings) > COUNTERS_MAX + 100) wrong("%u counters", HASH_COUNT(c->findings));
    struct counter *one, *next;
    HASH_ITER(hh, c->findings, one, next)
    {
        HASH_DEL(c->findings, one);
        free(one);
    }
    HASH_ITER(hh, c->summaries, one, next)
    {
        HASH_DEL(c->summaries, one);
        free(one);
    }
    free(text);
    return 0;
}
