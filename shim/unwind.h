// The calls that led here: this thread's stack, walked by the call frame information of the modules (cfi.h).
//
// A frame is told only if it is sure. The walk ends, without a word, at what is not: code without call frame
// information (made at run time, Go, some assembly), a return address with no call before it, a stack pointer
// that does not rise, memory that can't be read; and with a function that a signal interrupted elsewhere than
// in a system call, since tables need not be right at every instruction. libc's own unwinder trusts all of
// these. Without _dl_find_object (glibc before 2.35) no table can be found without a lock: there are no
// frames then.
//
// Everything here is async-signal-safe, on little more than 1 KiB of stack.
#ifndef PRECLOSE_UNWIND_H
#define PRECLOSE_UNWIND_H

#include <stdint.h>

// Start: notes where the main thread's stack ends. Called once, before the first walk.
void unwind_start(void);

// In a forked child: no lock of this room is held.
void unwind_child(void);

// The callers of the frame that this call of ours will return to at from + 1: for each, innermost first, an
// address inside its calling instruction (for one that a signal interrupted: the instruction itself). Frames
// between here and there are left out. Returns how many there are, at most max; 0 also where from is not met.
// A frame that was met before costs some tens of nanoseconds, another some microseconds; one system call for
// every page of the stack. Takes a lock for a moment, if it is free: signals must be blocked.
unsigned unwind_callers(uintptr_t from, uintptr_t *callers, unsigned max);

enum unwind_where { UNWIND_UNSURE, UNWIND_OUTSIDE, UNWIND_IN_HANDLER };

// Is this thread in a signal handler? It is not if the walk is sure up to the thread's first function, and meets no
// frame that a signal has made. As above: one system call for every page, and a lock if it is free.
enum unwind_where unwind_where(void);

// A module has been or will be unloaded: what is known of its code is forgotten. No lock, no system call.
void unwind_forget(void);

#endif
