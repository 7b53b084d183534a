// What scan was asked for, and how it is shown.
#ifndef PRECLOSE_CLI_SCAN_H
#define PRECLOSE_CLI_SCAN_H

#include "census.h"

struct scan {
    uint32_t states;  // bits
    const char *what; // "in CLOSE_WAIT", or "in the states that were asked for"
    int64_t older_ms;
    bool all, json;
    int64_t warn, crit; // -1: not asked for
    const int *pids;    // only these
    int n;
    struct census census;
};

// Does scan show this one? Ghosts are shown apart, whatever their state.
bool scan_wants(const struct scan *s, const struct entry *e);

// How many it shows, ghosts left out.
size_t scan_count(const struct scan *s);

// One socket in words, for a table: each cell as long as it needs.
enum scan_cell { CELL_FD, CELL_STATE, CELL_LOCAL, CELL_PEER, CELL_AGE, CELL_NOTE, SCAN_CELLS };
enum { SCAN_CELL_MAX = 96 };
typedef char scan_cells[SCAN_CELLS][SCAN_CELL_MAX];

// pid: whose descriptor is told, and who are others.
void scan_row(const struct scan *s, const struct entry *e, pid_t pid, scan_cells cell);

void scan_text(const struct scan *s);
void scan_json(const struct scan *s);

// The line of a monitoring plugin; returns its exit status (0 OK, 1 WARNING, 2 CRITICAL).
int scan_plugin(const struct scan *s);

#endif
