// Who looks for connections left in CLOSE_WAIT, and when: a thread of preclose's own while there is something to
// watch, else the program's own socket calls, in slices; and the exit.
//
// The thread must not be where the program does not expect one. It is there only while the process has a
// connection and a second thread of its own (PRECLOSE_WATCH=auto), and is gone before unshare, setns, a sandbox
// and the end of the main thread: a process with two threads can't enter a user namespace (unshare(2)), a filter
// laid on every thread would kill it at its next call (seccomp(2), SECCOMP_FILTER_FLAG_TSYNC), and a thread
// that stays would keep a process alive whose last thread has called pthread_exit. It is made by pthread_create,
// so that setuid changes its user too (nptl(7)), and blocks every signal but those by which libc does that.
//
// Making a thread calls malloc, so it happens where no signal handler can be at work: in pthread_create, and in a
// socket call on whose stack there is none, or whose signal mask none can have. Where it can't be made, slices do the
// work.
#ifndef PRECLOSE_WATCH_H
#define PRECLOSE_WATCH_H

#include <stdbool.h>

#include "guard.h"
#include "leaks.h"
#include "settings.h"

// Which settings apply. Called once.
void watch_start(const struct settings *settings);

// Ends a socket call's work, instead of guard_leave: first a slice of looking where it is due (at most about 50
// us, and 1 % of the time), or the start of the thread. Keeps errno. Async-signal-safe: see above.
void watch_leave(struct guard *g);

// The program has made a thread, by pthread_create. Keeps errno. Not async-signal-safe.
void watch_new_thread(void);

// The program could not make a thread: gives its place away, and makes no other one. Returns whether there was
// one. Async-signal-safe.
bool watch_give_way(void);

// From here on there is no thread of ours: waits until it is gone from the kernel too, then keeps it away until
// watch_unbar, which takes what watch_bar returned, and lets it come back. Returns whether it does so; not in a
// child in its parent's memory. Async-signal-safe: see above; keep errno.
bool watch_bar(void);
void watch_unbar(bool barred);

// Before a sandbox, when it is barred: waits until no thread makes system calls of ours for it without the guard.
void watch_quiet(void);

// The calling thread is about to end by pthread_exit. If it is the main thread, no thread of ours may outlive it.
void watch_thread_exit(void);

// Around a fork: the thread is at rest, so that the child's table is whole. Then in the child.
// Async-signal-safe.
void watch_before_fork(void);
void watch_after_fork(void);
void watch_child(void);

// Is there anything to do at exit? No system call, no lock.
bool watch_due(void);

// The process is about to end: the thread stops, and a last look tells what is open. Only the first call of a
// process does anything. Between guard_enter and guard_leave. Async-signal-safe.
void watch_exit(void);
#endif
