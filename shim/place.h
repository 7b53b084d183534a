// A place in the program: which call, by which thread, from which instruction, and who called that.
#ifndef PRECLOSE_PLACE_H
#define PRECLOSE_PLACE_H

#include <stdint.h>
#include <sys/types.h>

#include "guard.h"

#define PLACE_FRAMES_MAX 32

enum call {
#define CALL(id, name) CALL_##id,
#include "calls.def"
#undef CALL
};

struct place {
    uintptr_t pc; // an address inside the calling instruction; 0 if unknown
    pid_t tid;    // 0 if unknown
    enum call call : 16;
    unsigned stack : 16; // place_callers knows it; 0: none
};

// The name of a call as findings print it ("close"). Async-signal-safe, no lock.
const char *call_name(enum call call);

// Start: how many frames a place is to have (PRECLOSE_STACK): 0 not even pc, 1 that alone, more also the
// calls that led there. Maps memory for these, at most 1.1 MiB of which what is used is touched; where there
// is none, and for whatever more different stacks there are than 4096, a place has its pc only. Called once,
// before threads.
void place_start(unsigned frames);

// In a forked child: no lock of this room is held.
void place_child(void);

// The place of a call of the program's that this thread is in, made at pc (exports.h CALLER).
// With more than one frame it walks the stack (unwind.h) and takes a lock if that stack is a new one.
// Async-signal-safe between guard_enter and guard_leave.
struct place place_make(enum call call, uintptr_t pc, pid_t tid);

static inline struct place place_here(enum call call, uintptr_t pc)
{
    return place_make(call, pc, guard_tid());
}

// The calls that led to a place, innermost first: what pc is to it, for each. *n: how many. What is returned
// stays. Async-signal-safe, no lock.
const uintptr_t *place_callers(const struct place *p, unsigned *n);

#endif
