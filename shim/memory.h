// Memory that may not be there: what a stack, a table or a program's argument points to is looked at only
// after the kernel has been asked whether it can be read.
#ifndef PRECLOSE_MEMORY_H
#define PRECLOSE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_PAGE ((uintptr_t)4096) // the smallest page: what can be read is asked once for each

// Can n bytes be read at this address, at this moment, on every page? Returns 0 if so, -EFAULT if not (also
// if the range wraps around), another -errno if the kernel would not say. One system call a page:
// rt_sigprocmask with a how that there is not. It copies the set that it is given, 8 bytes, before it looks
// at how (kernel/signal.c), so the answer is EINVAL, or EFAULT where they can't be read. preclose makes that
// call anyway: a filter that lets it work allows this. Async-signal-safe, no lock.
int memory_check(uintptr_t at, size_t n);

static inline bool memory_readable(uintptr_t at, size_t n)
{
    return memory_check(at, n) == 0;
}

// A byte and a word of memory that was found readable. Not by memcpy: it may be that of a sanitizer in the
// program, which would end the program over what it knows nothing of.
uint8_t memory_byte(uintptr_t at);
uintptr_t memory_word(uintptr_t at);

#endif
