// Metrics as text: OpenMetrics 1.0, the older text format of Prometheus, and what both have in common.
//
// They differ in one thing that is written here: a counter's TYPE and HELP lines name its family, "x", in
// OpenMetrics, and its sample, "x_total", in the other. A file that either may read has no TYPE line for
// counters, which makes them "unknown" (OpenMetrics) and "untyped" (Prometheus), and is valid in both.
// (https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md;
// https://prometheus.io/docs/instrumenting/exposition_formats/)
#ifndef PRECLOSE_CLI_EXPOSITION_H
#define PRECLOSE_CLI_EXPOSITION_H

#include <stdint.h>
#include <stdio.h>

#include "text.h"

enum dialect { DIALECT_COMMON, DIALECT_OPENMETRICS, DIALECT_PROMETHEUS };

struct exposition {
    FILE *out;
    enum dialect dialect;
    const char *name; // of the family
    const char *suffix;
    bool labels; // some are written
};

// Begins a family, of counters or gauges. Its samples follow, and no other family's. help is plain ASCII.
void expose_family(struct exposition *e, bool counter, const char *name, const char *help);

// Writes one sample: its name, its labels, then its value.
void expose_sample(struct exposition *e);
void expose_label(struct exposition *e, const char *name, struct slice value);
void expose_count(struct exposition *e, uint64_t value);
void expose_seconds(struct exposition *e, int64_t us);

// Ends the text, with the line that OpenMetrics wants and that is a comment to Prometheus.
void expose_end(struct exposition *e);

// The Content-Type of a dialect.
const char *dialect_type(enum dialect dialect);

#endif
