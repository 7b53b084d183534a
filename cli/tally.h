// Findings, added up: by event and by place in the program, in memory that does not grow with the log.
#ifndef PRECLOSE_CLI_TALLY_H
#define PRECLOSE_CLI_TALLY_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "log.h"
#include "series.h"

enum class {
#define CLASS(id, name, title) CLASS_##id,
#define SORT(event, class, place)
#include "classes.def"
#undef CLASS
#undef SORT
    CLASS_COUNT
};

enum { LEVEL_OF_WARNING, LEVEL_OF_NOTICE, LEVEL_OF_INFO };

// The names that something has had, and how often each. The first NAMES_MAX that come are told apart; further
// ones are counted together.
enum { NAMES_MAX = 32 };

struct name {
    char *name; // malloc
    uint64_t count;
};

struct names {
    struct name *of; // malloc
    unsigned n;
    uint64_t others;
};

struct group {
    char *key; // event, call and frames: what it is found by
    char *event, *call;
    char *at;         // frames, each on a line of its own; "" if unknown
    enum place place; // which place of the finding that is
    enum class class;
    int level;     // the most severe
    uint64_t told; // findings in the log
    uint64_t held; // further ones that PRECLOSE_RATE held back, as later lines say
    int64_t first_us, last_us;
    struct {
        uint64_t n; // findings that have it
        int64_t sum, most;
    } measure[MEASURE_COUNT];
    struct names comms;
    struct names threads; // "worker in recvfrom": who was blocked
    struct names peers;   // addresses without ports
    struct names actions; // what preclose did: "shutdown", "none (shared)"
    struct names others;  // the other places of these findings (view_other)
    char *text;           // the sentence of the first
    struct series series;
    UT_hash_handle hh;
};

struct event_count {
    char *event;
    uint64_t told, held, summed; // summed: what the summaries of processes say, written or not
    UT_hash_handle hh;
};

// What the summaries of processes say of a place that opened connections in CLOSE_WAIT.
struct leak {
    char *key; // call and frame
    char *call, *at;
    uint64_t summaries, growing;  // how many say so
    int64_t now, most, oldest_ms; // in all, in one process, in one process
    UT_hash_handle hh;
};

// One of the last findings, for the page.
struct recent {
    int64_t time_us, pid, fd;
    int level;
    enum class class;
    const char *event, *comm, *peer, *call, *at, *text; // in bytes; at: the frames
    char bytes[2048];
};

struct tally {
    struct group *groups;                // hash by key
    struct group *overflow[CLASS_COUNT]; // places for which there was no room
    struct event_count *events;          // hash by name
    struct leak *leaks;                  // hash by key
    uint64_t findings, warnings;         // lines that are one
    uint64_t broken, other, empty;       // lines that are not
    int64_t first_us, last_us;           // LOG_UNKNOWN: no finding
    uint64_t processes;                  // different process ids, of which PROCESSES_MAX are known
    int64_t *pids;
    bool more_processes;
    struct recent *recent; // a ring of RECENT_MAX; NULL: not wanted
    uint64_t recents;      // how many have been put in
    struct log_memory memory;
    struct finding finding;
};

enum { GROUPS_MAX = 10000, LEAKS_MAX = 1000, EVENTS_MAX = 256, PROCESSES_MAX = 1 << 16, RECENT_MAX = 2000 };

// malloc; keep_recent: the last findings are wanted one by one.
struct tally *tally_new(bool keep_recent);

// Adds a line of a log; a lines_take with the tally as its context.
void tally_line(void *tally, const char *line, size_t n);

// The groups in the order in which a person wants them: by class, then as in classes.def, then by how many.
// malloc; *n how many.
struct group **tally_sorted(const struct tally *t, size_t *n);

// What summaries say of places that opened connections in CLOSE_WAIT, the most connections first. malloc; *n how many.
const struct leak **leaks_sorted(const struct tally *t, size_t *n);

// The frame of a stack (frames with a newline between) that tells most: the first that is not in a directory
// of the system's libraries; else the first.
struct slice frames_main(struct slice at);

// The names, the most frequent first. malloc; n of them.
struct name *names_sorted(const struct names *names);

// How often it was found: told or held back.
uint64_t group_total(const struct group *g);

// How many findings of an event programs have counted in their summaries beyond those that were told or held
// back.
uint64_t event_unwritten(const struct event_count *e);

// Which class an event belongs to.
enum class class_of(const char *event);

const char *class_name(enum class class);
const char *class_title(enum class class);
const char *level_name(int level);

#endif
