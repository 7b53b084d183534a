// A place in the program: which call, by which thread, from which instruction.
#ifndef PRECLOSE_PLACE_H
#define PRECLOSE_PLACE_H

#include <stdint.h>
#include <sys/types.h>

enum call {
#define CALL(id, name) CALL_##id,
#include "calls.def"
#undef CALL
};

struct place {
    uintptr_t pc; // an address inside the calling instruction; 0 if unknown
    pid_t tid;    // 0 if unknown
    enum call call;
};

// The name of a call as findings print it ("close"). Async-signal-safe, no lock.
const char *call_name(enum call call);

#endif
