// Which rooms have something that a forked child must begin anew. A child copies each page that it writes, and pays a
// fault for each that it reads for the first time; so it leaves alone what its parent has not used.
#ifndef PRECLOSE_TOUCHED_H
#define PRECLOSE_TOUCHED_H

#include <stdatomic.h>
#include <stdbool.h>

// For large variables that few calls need: behind all others (.bss.apart is sorted last).
#define TOUCHED_APART __attribute__((section(".bss.apart")))

extern struct touched {
    _Atomic bool report; // a line was written or held back
    _Atomic bool sink;   // a line was written, or stderr was held
    _Atomic bool drain;
    _Atomic bool ghosts;
    _Atomic bool scan, scan_anew; // that, and the child has not begun anew yet
    _Atomic bool unwind;
} touched;

static inline void touch(_Atomic bool *what)
{
    if (!atomic_load_explicit(what, memory_order_relaxed)) atomic_store(what, true);
}

// Has it been used? Not any more.
static inline bool touched_anew(_Atomic bool *what)
{
    return atomic_load_explicit(what, memory_order_relaxed) && atomic_exchange(what, false);
}

#endif
