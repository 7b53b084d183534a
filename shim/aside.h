// Work that needs descriptors of its own, kept out of the program's table.
//
// A descriptor that preclose has open in the program's table, for however short a time, is in the way: a stray close of
// another thread can hit it and the program's next descriptor get its number, a dup2 can land on it, a fork copy
// it, and a program that counts on the lowest free number get another one.
#ifndef PRECLOSE_ASIDE_H
#define PRECLOSE_ASIDE_H

#include <stdbool.h>

// Runs work(arg) on a thread of its own, whose descriptor table begins empty (close_range(2), CLOSE_RANGE_UNSHARE,
// Linux 5.9), and waits for its end. work may use raw system calls and at most 8 KiB of stack; thread-local variables
// are those of the caller. Costs about as much as the blocked-thread scan of four threads.
// Returns false if work has not run: the kernel is too old, the process lives under a filter of system calls, or
// there is no memory or no thread to be had. The caller then works in the program's table, or does without.
// Signals are blocked in the thread. Async-signal-safe, no lock.
bool aside(void (*work)(void *arg), void *arg);

// In the child of a fork: the stacks of the threads that were aside in the parent are free. Async-signal-safe, no lock.
void aside_child(void);

// Is this work that runs aside? Async-signal-safe, no lock.
bool aside_here(void);

// Finds out, once, what aside_unfiltered wants to know, and whether the process has signal handlers, which may have been
// set up by no call of libc's (SigCgt in /proc/self/status; those of libc itself and of faults do not count). Returns
// whether it has, or it can't be told. That takes a descriptor in the program's table: better done while there are no
// other threads to close it. Async-signal-safe, no lock.
bool aside_prepare(void);

// May calls be tried that few programs make? There are filters of system calls that kill for them: not under any
// filter (/proc/self/status, asked once; prctl(2) PR_GET_SECCOMP). Async-signal-safe, no lock.
bool aside_unfiltered(void);

#endif
