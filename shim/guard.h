// May preclose act here at all? Every piece of work for a call of the program runs between guard_enter
// and guard_leave: signals are blocked, this thread is marked as inside, and the process is known to be
// the one whose table this is.
#ifndef PRECLOSE_GUARD_H
#define PRECLOSE_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct guard {
    uint64_t mask; // the thread's signal mask as the program had it, if masked
    bool masked;
};

enum entry {
    ENTRY_OK,     // work; guard_leave must follow
    ENTRY_NESTED, // this thread is inside already: a handler of a synchronous signal (SIGTRAP, SIGSEGV...)
    ENTRY_OFF,    // inert: not started, sandboxed, not selected, or a vfork child in its parent's memory
};

// Asks to work for this thread. Where the program has handlers (guard_handlers), blocks every signal that can be
// blocked without harm: a handler that could leave by siglongjmp must not run while a lock is held, and close must
// stay async-signal-safe (signal-safety(7)). Synchronous signals stay unblocked, since blocking one turns it into
// death (kernel/signal.c force_sig_info_to_task). Notices a fork that no handler told of.
// Async-signal-safe, takes no lock. One system call where there are handlers, otherwise none.
enum entry guard_enter(struct guard *g);

// The same with signals blocked whether there are handlers or not; and blocks them later, if they are not.
enum entry guard_enter_masked(struct guard *g);
void guard_mask(struct guard *g);

// The program is about to have a signal handler, or a thread of it can be cancelled at any instruction: from now on
// signals are blocked while preclose works, as before guard_open. The first time it waits for the threads that work with
// signals not blocked. Async-signal-safe, no lock; system calls only for that.
void guard_handlers(void);

// A child is about to be made that runs in this process's memory: as vfork does, with this thread waiting for it
// (waits), or beside it. What enters from there on asks for its pid first. Async-signal-safe, no lock, no system call.
void guard_lends_memory(bool waits);

// Between guard_enter and guard_leave, before something is done that only this process may do: is it this process, and not
// a child in its memory that nobody told of (a vfork by a system call of the program's own)? Asks for the pid. If it is
// such a child, what it enters from there on is ENTRY_OFF. Async-signal-safe, no lock. One system call.
bool guard_sure(void);

// Ends what guard_enter returned ENTRY_OK for. Async-signal-safe.
void guard_leave(struct guard *g);

// Makes one system call that may wait, between guard_enter and guard_leave, as the program would make it: with its
// signal mask, and its handlers may enter, fork, or never come back. No lock may be held. guard_shut waits for the
// call if that lasts no longer than GUARD_CALL_MS. *ret: what the kernel says. Keeps errno.
// Returns false if preclose is off by then: nothing more may be done, not even guard_leave. Async-signal-safe.
bool guard_call(struct guard *g, long *ret, long nr, const long args[6]);

#define GUARD_CALL_MS 50

// The caller's thread id; cheap after the first call of a thread. Async-signal-safe.
pid_t guard_tid(void);

// Turns preclose on, in the process pid. Called once, when everything else has started.
void guard_open(pid_t pid);

// From here on a child that no handler told of finds out for itself, and a process that is not one need not ask for its
// pid. Called once. Async-signal-safe, no lock.
void guard_arm(void);

enum phase { NOT_STARTED, ON, OFF };

// Turns preclose off (sandbox, not selected): waits until no other thread is inside, so that no system call
// of ours comes after it. Returns what it was before: what guard_reopen takes. Async-signal-safe; must not
// be called between enter and leave.
enum phase guard_shut(void);

// Takes guard_shut back: the program's attempt to enter a sandbox has failed.
void guard_reopen(enum phase before);

// In a child that a fork has made, not in one that runs in its parent's memory: takes the table over, unless
// that has happened. Async-signal-safe.
void guard_forked_child(void);

#endif
