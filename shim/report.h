// A finding → one line, text or JSON; what is told, what is held back, what is counted.
#ifndef PRECLOSE_REPORT_H
#define PRECLOSE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decide.h"
#include "drain.h"
#include "inuse.h"
#include "leaks.h"
#include "place.h"
#include "probe.h"
#include "settings.h"
#include "threads.h"

struct finding {
    enum event event;
    int fd;                        // UNKNOWN (-1): none
    const struct facts *facts;     // NULL: nothing is known of the socket
    const struct blocked *blocked; // NULL: not asked
    enum action action;
    enum reason reason;            // REASON_NONE: action says all
    bool acted;                    // action and reason are meaningful for this finding
    bool deadly;                   // waking a sender could end the process by SIGPIPE: shut down for reading only
    int holder;                    // left-blocked: the pid that shares the socket; 0 unknown
    const struct drained *drained; // ACTION_DRAIN: how that went
    int64_t age_ms;                // since the socket was opened; UNKNOWN
    int64_t blocked_ms;            // how long the call was held, by a close that lingers or by a drain; 0: not told
    int64_t close_wait_ms;         // in CLOSE_WAIT for at least that; 0: not, or not known
    bool shared;                   // close-wait, open-at-exit: another process may hold it too
    bool grave;                    // open-at-exit: a warning, as something is lost or left
    unsigned more;                 // open-at-exit, of no socket: it stands for so many
    struct place opened, closed;   // pc 0 and tid 0: unknown
    struct place used;             // the call that failed: double-close, use-after-close, address-in-use...
    const struct in_use *in_use;   // address-in-use: what stands in the way
};

// Everything that a line says beside the finding itself, gathered by report() and given by tests.
struct line_context {
    int64_t time_us; // CLOCK_REALTIME microseconds
    int pid;
    const char *comm;
    uint64_t held_back; // repeats of this event from this place that were held back since its last line;
                        // summary: all that were
    uint64_t lost;      // lines that could not be written since the last that was; summary: all
    const uint64_t *counts; // summary: how many findings of each event, EVENT_COUNT numbers
    const struct leak *leak; // summary: who opened what is in CLOSE_WAIT
    unsigned leaks;
};

#define LINE_MAX_BYTES 4096 // at most; PIPE_BUF, so that a line into a pipe is never torn (pipe(7))

// Writes the finding as one line with its newline into line (size bytes, at least 512). Arrays and
// text are shortened before the line is torn: it is always whole, and valid JSON in that format.
// Returns its length. No locale, no allocation; asks /proc/self/task for thread names and the loader for
// modules. Async-signal-safe; the caller serialises (report lock).
size_t report_line(char *line, size_t size, enum format format, const struct finding *f,
                   const struct line_context *c);

// Start: which settings apply, and the program's name. Called at start, before threads; called again (by
// tests), it begins anew.
void report_start(const struct settings *settings, const char *comm);

// After fork, in the child: its counts and its rate limits start anew, and no lock of this room or of the
// sink is held.
void report_child(void);

// Counts the finding; writes it if its severity and PRECLOSE_RATE let it (per event and place: where it
// was used, else closed, else opened; EVENT_CLOSE without limit). Takes the report lock (signals are blocked by the
// caller's guard), then the sink lock; safe in a handler that did not interrupt it.
void report(const struct finding *f);

// Counts one that report_wants says no one will read. Async-signal-safe, no lock.
void report_count(enum event event);

// Has this process found anything of severity warning, written or not? Async-signal-safe, no lock.
bool report_warned(void);

// Would report_summary write something? Async-signal-safe, no lock, no system call.
bool report_summary_due(void);

// The summary, if PRECLOSE_REPORT asks for it, with n places of the leak table; only the first call of a process
// does anything. Takes the same locks.
void report_summary(const struct leak *leak, unsigned n);

// How severe a finding is. Pure.
enum level finding_level(const struct finding *f);

// Is a finding of this event, of its usual severity, written at all? Lets callers skip gathering what no one will read. Async-
// signal-safe, no lock.
bool report_wants(enum event event);

#endif
