// A line of a log → a finding, from JSON or text alike. Fields that are not known are skipped.
#ifndef PRECLOSE_CLI_LOG_H
#define PRECLOSE_CLI_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "lines.h"
#include "text.h"

#define LOG_UNKNOWN INT64_MIN // a number that the finding does not have

enum measure {
#define NUMBER(key, member)
#define MEASURE(id, key, unit) MEASURE_##id,
#define STRING(key, member)
#define PLACE(id, key)
#include "fields.def"
#undef NUMBER
#undef MEASURE
#undef STRING
#undef PLACE
    MEASURE_COUNT
};

enum place {
#define NUMBER(key, member)
#define MEASURE(id, key, unit)
#define STRING(key, member)
#define PLACE(id, key) PLACE_##id,
#include "fields.def"
#undef NUMBER
#undef MEASURE
#undef STRING
#undef PLACE
    PLACE_COUNT
};

enum { THREADS_READ = 8, COUNTS_READ = 32, LEAKS_READ = 64 };

struct log_place {
    struct slice call, thread;
    struct slice at; // "module+0xoffset", the innermost frame first, each on a line of its own
};

struct finding {
    int64_t time_us; // since 1970
    int64_t pid, fd, cookie, held;
    int64_t measure[MEASURE_COUNT];
    struct slice comm, level, event, type, state, local, peer, action, reason, text;
    struct log_place place[PLACE_COUNT];
    unsigned threads; // as many as the line tells; the first of them:
    struct {
        struct slice name, call;
    } thread[THREADS_READ];
    unsigned counts; // summary: how many findings of each event
    struct {
        struct slice event;
        int64_t n;
    } count[COUNTS_READ];
    unsigned leaks; // summary: places that opened what is in CLOSE_WAIT
    struct log_leak {
        struct slice call, at, trend;
        int64_t now, most, oldest_ms;
    } leak[LEAKS_READ];
};

enum log_line {
    LOG_FINDING,
    LOG_BROKEN, // begins as a finding, and is not one: torn, or damaged
    LOG_OTHER,  // something else: output of the program, a message of preclose's
    LOG_EMPTY,
};

// What a finding's strings are put into where they can't stay in the line: they last until the next line.
struct log_memory {
    size_t n, frames_n;
    char bytes[LINE_BYTES_MAX];      // without their escapes
    char frames[2 * LINE_BYTES_MAX]; // side by side
};

// Reads a line of at most LINE_BYTES_MAX bytes. The finding's strings point into the line and into m.
enum log_line log_read(struct log_memory *m, const char *line, size_t n, struct finding *f);

#endif
