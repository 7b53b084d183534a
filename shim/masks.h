// What a thread's signal mask says about where it is: at work, or in a signal handler? Pure.
//
// Masks are as the kernel has them: bit n - 1 for signal n.
#ifndef PRECLOSE_MASKS_H
#define PRECLOSE_MASKS_H

#include <stdbool.h>
#include <stdint.h>

// The signals that glibc keeps for itself (nptl(7)): for cancellation, and to change the user of every thread.
#define MASKS_LIBC (1ull << 31 | 1ull << 32)
#define MASKS_USUAL 8

struct masks {
    uint64_t usual[MASKS_USUAL]; // with which the program has worked outside of handlers; the empty one is one too
    unsigned n;
    uint64_t added[64]; // by the handler of each signal (sigaction(2)); 0: it has none
    bool lax;           // one adds nothing (SA_NODEFER): in it the mask is as outside
};

// Is a thread with this mask surely in no handler? Only with a usual mask, out of which or of another usual one no
// handler makes it. (Unless a handler has changed its mask itself.)
bool masks_outside(const struct masks *m, uint64_t mask);

#endif
