// Lines → stderr or file, never in the program's way. Only this room writes.
//
// It never blocks, never raises SIGPIPE nor swallows the program's own, and never writes a byte into a
// descriptor that is not the one it opened or was given: before each line it compares fstat's st_dev and
// st_ino with those of the start.
#ifndef PRECLOSE_SINK_H
#define PRECLOSE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings.h"

// Who is told of each number that the sink's own descriptor gets. Called once, before sink_open.
void sink_tell(void (*told)(int fd));

// Opens what s->log says. A file is created 0644, append only, close-on-exec, moved to a high number
// (F_DUPFD_CLOEXEC), with O_NONBLOCK so that a FIFO or a terminal cannot block. stderr is borrowed:
// descriptor 2 is used as it is and never duplicated; where it is closed now it is never written to.
// Returns 0 or -errno (a file that cannot be opened: then stderr is used). Called at start, before
// threads; called again, it lets go of what it had.
int sink_open(const struct settings *s);

// One whole line with its newline, at most LINE_MAX_BYTES, by one write. Returns false if it could not
// be written (full pipe, full disk, closed stderr); the caller counts it. A file that was renamed or
// removed (rotation) is opened anew, under the same number. Async-signal-safe; takes the sink lock.
bool sink_write(const char *line, size_t n);

// One whole line with its newline to stderr, whatever PRECLOSE_LOG says: for what is wrong in the settings,
// before sink_open. As careful as sink_write. What can't be written is dropped.
// Async-signal-safe, no lock.
void sink_complain(const char *line, size_t n);

// The descriptor that the sink keeps for itself, or -1 (stderr is the program's). Async-signal-safe, no lock.
int sink_fd(void);

// Is fd the descriptor that the sink keeps, and still its file? False once the number is the program's
// (closed and reused where no preload sees it). Async-signal-safe; takes the sink lock; the caller blocks
// signals.
bool sink_holds(int fd);

// The program is about to replace or close descriptors first..last, or has done so: what is written to a borrowed stderr
// in between would go to whatever takes its place. Around the program's call; a line that comes meanwhile is not
// written. sink_hold returns what sink_free takes. Async-signal-safe; takes the sink lock where stderr is among them;
// the caller blocks signals.
bool sink_hold(unsigned first, unsigned last);
void sink_free(bool held);

// Moves the sink's own descriptor out of the way of a dup2 of the program's onto it, to another high
// number. Returns false if there is none to be had: the file is then let go. Async-signal-safe; takes the
// sink lock, so that no line is on its way to the old number when it returns; the caller blocks signals, and
// is not a vfork child (guard.h), whose descriptors are not those of the sink.
bool sink_move(void);

// After fork, in the child: the lock may be held by a thread that is not there. Async-signal-safe.
void sink_child(void);

#endif
