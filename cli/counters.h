// Findings, counted by event, severity and program: what metrics exports, in memory that does not grow with
// the log.
#ifndef PRECLOSE_CLI_COUNTERS_H
#define PRECLOSE_CLI_COUNTERS_H

#include <stdint.h>
#include <uthash.h>

#include "log.h"

// Different sets of labels that are told apart; those that come then are counted together, by event and
// severity, under the program name OTHER_PROGRAMS. (An event or a severity that is none of the library's is
// OTHER_PROGRAMS then as well.)
enum { COUNTERS_MAX = 1000 };
#define OTHER_PROGRAMS "(other)"

struct counter {
    const char *event, *level, *comm; // in key; level is "" in what summaries say
    uint64_t n;
    UT_hash_handle hh;
    size_t key_n;
    char key[]; // event, level and comm, each with a 0 behind it
};

enum line_kind { KIND_FINDING, KIND_OTHER, KIND_BROKEN, KIND_EMPTY, KIND_COUNT };

struct counters {
    struct counter *findings;  // written, and held back (PRECLOSE_RATE) as later lines say; no summaries
    struct counter *summaries; // what processes have counted when they ended, written or not
    uint64_t lines[KIND_COUNT];
    int64_t last_us; // the latest finding; LOG_UNKNOWN: none
    struct log_memory memory;
    struct finding finding;
};

// malloc.
struct counters *counters_new(void);

// Adds a line of a log; a lines_take with the counters as its context.
void counters_line(void *counters, const char *line, size_t n);

// "finding", "other" ...
const char *line_kind_name(enum line_kind kind);

#endif
