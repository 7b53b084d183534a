// What the command says beside its output: one line on stderr that names what was wrong and what to do.
#ifndef PRECLOSE_CLI_SAY_H
#define PRECLOSE_CLI_SAY_H

#include <stdbool.h>

// Exit statuses of the command itself. A program that can't be run: 126 and 127, as from a shell
// (POSIX.1-2017, Shell 2.8.2), and 125 where the fault is in preclose's own options, as from env(1) and
// timeout(1).
enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1,       // a log that can't be read, output that can't be written
    STATUS_USAGE = 2,        // options that won't do
    STATUS_RUN_FAILED = 125, // preclose itself failed
    STATUS_CANNOT_RUN = 126, // found, and can't be run with the library
    STATUS_NOT_FOUND = 127,
};

// Writes "preclose: " and the message as one line to stderr, by one write. Control characters in it, as a
// file name may hold, become '?'.
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

// From now on complaints go to take, each a line without "preclose: " and newline: where stderr is the screen
// that something else is drawn on. NULL: to stderr again.
void complain_to(void (*take)(const char *line));

// p, or the end of the process with a complaint if malloc has given NULL.
void *need(void *p);

// Ends what was written to standard output: false, with a complaint, if not all of it could be written.
bool output_done(void);

#endif
