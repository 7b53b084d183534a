// Start, fork, exit: what is set up when.
#ifndef PRECLOSE_LIFE_H
#define PRECLOSE_LIFE_H

#include <stdbool.h>

#include "settings.h"

// Starts everything, once: from the constructor, or from the first call of the program that comes before it.
void life_start(void);

// The process is about to have its first socket: what that needs is set up, once. Better done while there are no other
// threads. Between guard_enter and guard_leave, or at start. Returns true if it has found handlers that nobody told of: what
// is done from here on wants signals blocked (guard_mask). Async-signal-safe, no lock.
bool life_has_socket(void);

// What the user asked for. Valid once started.
const struct settings *life_settings(void);

// In a forked child, once: everything that was the parent's alone starts anew. Called by guard.h, also for
// a fork that no handler told of.
void life_forked_child(void);

// Around a fork that runs no atfork handlers (_Fork, a raw system call). child: in which of the two processes.
// Async-signal-safe.
void life_before_fork(void);
void life_after_fork(bool child);

// The process has an io_uring: from now on nothing is shut down, since its completions would show it.
void life_io_uring(void);
bool life_has_io_uring(void);

// The process is about to put itself into a sandbox: from here on we make no system call.
void life_sandbox_begin(void);
// The attempt has ended; where it failed we go on, and what was known of the sockets is in doubt.
void life_sandbox_end(bool entered);

// The process is about to end without running destructors (_exit): the summary is written now.
void life_end(void);

// The status to end with, where the program wants to end with this one: PRECLOSE_EXIT_CODE instead of 0 if this
// process has found a warning. Call after life_end. Async-signal-safe.
int life_status(int status);

#endif
