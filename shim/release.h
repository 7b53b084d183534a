// The program lets go of a descriptor: retire its record, ask what the socket is, decide, act, tell.
// Everything here happens before the program's own call.
#ifndef PRECLOSE_RELEASE_H
#define PRECLOSE_RELEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "place.h"
#include "settings.h"

// Which settings apply. Called once.
void release_start(const struct settings *settings);

// In a forked child: its time begins now.
void release_child(void);

// The program is about to let go of fd through call, from the instruction at pc. may_act false: the
// record is retired and nothing is done to the socket. Async-signal-safe; takes the table lock and the report lock.
void release(int fd, enum call call, uintptr_t pc, bool may_act);

// The same for every descriptor of first..last.
void release_range(unsigned first, unsigned last, enum call call, uintptr_t pc);

// What tells one socket from every other: its cookie, or where the kernel has none its inode number
// with the top bit set. 0: fd is not a socket. Async-signal-safe, no lock.
uint64_t release_identity(int fd);

#endif
