// What metrics was asked for, what it knows, and the page that it makes of that.
#ifndef PRECLOSE_CLI_METRICS_H
#define PRECLOSE_CLI_METRICS_H

#include "counters.h"
#include "exposition.h"
#include "lines.h"
#include "scan.h"

struct metrics {
    const char *output, *listen;
    int64_t every_ms; // 0: once
    enum dialect dialect;
    bool no_scan;
    struct counters *counters;
    struct lines_count lines;
    unsigned open, failed; // logs
    struct scan scan;
    int scanned;     // 0, or -errno: the kernel does not tell
    int64_t took_us; // the scan
};

enum { METRICS_PROCESSES_MAX = 256 }; // that have gauges of their own

// Writes the page. n logs were asked for: without any there are no counters.
void metrics_page(const struct metrics *m, int n, enum dialect dialect, FILE *out);

#endif
