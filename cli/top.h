// What top knows of each process, over time, and the rows that it shows.
#ifndef PRECLOSE_CLI_TOP_H
#define PRECLOSE_CLI_TOP_H

#include <uthash.h>

#include "log.h"
#include "owners.h"
#include "scan.h"
#include "trend.h"

enum column {
#define COLUMN(id, title, width, order, what) COLUMN_##id,
#include "columns.def"
#undef COLUMN
    COLUMN_COUNT
};

enum { EVENTS_SHOWN = 32, PACE_WINDOW = 10, CELL_BYTES = 64 };

// A process is told by its number and name: a log may come from a container, where numbers are others.
struct top_key {
    int32_t pid; // 0: nobody that can be seen
    char comm[PROC_NAME_MAX];
};

struct top_process {
    struct top_key key;
    uint64_t started; // proc_started
    char user[NUMBER_MAX];
    int64_t connections, waiting, base; // base: what growth counts from
    uint64_t unread;
    int64_t oldest_ms;
    struct trend trend;
    struct pace pace;
    bool seen; // in the last scan
    UT_hash_handle hh;
};

struct top_event {
    char name[32];
    uint64_t n;
    struct pace pace;
};

struct top_table {
    struct scan scan;
    struct owners owners;
    int scanned; // 0 or -errno
    unsigned looks;
    struct top_process *all; // by key
    struct top_process **row;
    size_t n, room;
    enum column sort;
    bool inverted;
    char filter[64];
    int64_t connections, base; // each counted once
    size_t ghosts;
    struct trend trend;
    uint64_t findings; // in the logs, those held back included
    struct pace pace;
    struct top_event event[EVENTS_SHOWN]; // the last of them: any other
    unsigned events;
    int64_t now_s; // since 1970
    struct log_memory memory;
    struct finding finding;
};

// Looks at all sockets, and brings the rows up to date.
void top_look(struct top_table *t);

// Sorts and filters the rows anew.
void top_arrange(struct top_table *t);

// Growth counts from now on.
void top_restart(struct top_table *t);

// Adds a line of a log; a lines_take with the table as its context.
void top_line(void *table, const char *line, size_t n);

// What a row has in a column.
void top_cell(const struct top_table *t, const struct top_process *p, enum column column,
              char out[CELL_BYTES]);

// "1.2M", "+3", "+0.5", "3h12m": in few columns.
void top_bytes(char out[CELL_BYTES], uint64_t n);
void top_growth(char out[CELL_BYTES], int64_t n);
void top_age(char out[CELL_BYTES], int64_t ms);

const char *column_title(enum column column);
const char *column_says(enum column column);
int column_width(enum column column);

// The column of this title, in any case; COLUMN_COUNT if there is none.
enum column column_named(const char *title);

#endif
