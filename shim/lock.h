// A lock of one word (futex(2); the three states of U. Drepper, "Futexes Are Tricky", mutex2).
//
// Async-signal-safe as long as signals are blocked while it is held, which guard.h sees to: a handler
// can then never meet it held by its own thread.
#ifndef PRECLOSE_LOCK_H
#define PRECLOSE_LOCK_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/single_threaded.h>

#include "sys.h"

typedef _Atomic uint32_t lock_t; // 0 free, 1 held, 2 held and others wait

// There are threads that libc does not know of.
extern _Atomic bool lock_crowded;

// Is there no thread but this one? Then no instruction need lock the bus. It stays so while this thread is at work for
// a call of the program's (libc, sys/single_threaded.h).
static inline bool lock_alone(void)
{
    return __libc_single_threaded && !atomic_load_explicit(&lock_crowded, memory_order_relaxed);
}

static inline bool lock_try(lock_t *l)
{
    uint32_t free = 0;
    if (lock_alone() && atomic_load_explicit(l, memory_order_relaxed) == 0) {
        atomic_store_explicit(l, 1, memory_order_relaxed);
        return true;
    }
    return atomic_compare_exchange_strong_explicit(l, &free, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline void lock_take(lock_t *l)
{
    if (lock_try(l)) return;
    for (int spin = 0; spin < 100; spin++)
        if (atomic_load_explicit(l, memory_order_relaxed) == 0 && lock_try(l)) return;
    while (atomic_exchange_explicit(l, 2, memory_order_acquire) != 0)
        sys_call4(SYS_futex, (long)l, FUTEX_WAIT_PRIVATE, 2, 0);
}

static inline void lock_give(lock_t *l)
{
    if (lock_alone() && atomic_load_explicit(l, memory_order_relaxed) == 1) {
        atomic_store_explicit(l, 0, memory_order_release);
        return;
    }
    if (atomic_exchange_explicit(l, 0, memory_order_release) == 2)
        sys_call(SYS_futex, (long)l, FUTEX_WAKE_PRIVATE, 1);
}

// In the child of a fork, where the holder may be a thread that is not there. Returns whether it was held.
static inline bool lock_reset(lock_t *l)
{
    return atomic_load(l) && atomic_exchange(l, 0);
}

#endif
