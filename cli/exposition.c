#include "exposition.h"

#include <inttypes.h>
#include <stdlib.h>

#include "say.h"

void expose_family(struct exposition *e, bool counter, const char *name, const char *help)
{
    const char *total = counter ? "_total" : "";
    const char *described = e->dialect == DIALECT_OPENMETRICS ? "" : total;
    const bool typed = !counter || e->dialect != DIALECT_COMMON;
    e->name = name;
    e->suffix = total;
    fprintf(e->out, "# HELP %s%s %s\n", name, described, help);
    if (typed) fprintf(e->out, "# TYPE %s%s %s\n", name, described, counter ? "counter" : "gauge");
}

void expose_sample(struct exposition *e)
{
    fprintf(e->out, "%s%s", e->name, e->suffix);
    e->labels = false;
}

// What put_safe makes of it, so that it is UTF-8 without control characters, and then quotes and backslashes
// escaped.
void expose_label(struct exposition *e, const char *name, struct slice value)
{
    char *safe;
    size_t n;
    FILE *out = need(open_memstream(&safe, &n));
    put_safe(out, value);
    if (fclose(out) != 0) need(NULL);
    fprintf(e->out, "%c%s=\"", e->labels ? ',' : '{', name);
    for (size_t i = 0; i < n; i++) {
        if (safe[i] == '"' || safe[i] == '\\') putc('\\', e->out);
        putc(safe[i], e->out);
    }
    putc('"', e->out);
    free(safe);
    e->labels = true;
}

static void end_labels(struct exposition *e)
{
    fputs(e->labels ? "} " : " ", e->out);
}

void expose_count(struct exposition *e, uint64_t value)
{
    end_labels(e);
    fprintf(e->out, "%" PRIu64 "\n", value);
}

void expose_seconds(struct exposition *e, int64_t us)
{
    const char *sign = us < 0 ? "-" : "";
    const uint64_t size = us < 0 ? (uint64_t)-us : (uint64_t)us;
    end_labels(e);
    fprintf(e->out, "%s%" PRIu64 ".%06" PRIu64 "\n", sign, size / 1000000, size % 1000000);
}

void expose_end(struct exposition *e)
{
    fputs("# EOF\n", e->out);
}

const char *dialect_type(enum dialect dialect)
{
    return dialect == DIALECT_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                          : "text/plain; version=0.0.4; charset=utf-8";
}
