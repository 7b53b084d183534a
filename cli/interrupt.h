// Has a call that a thread is blocked in begin anew, as a signal without a handler does (signal(7)): the kernel then looks
// its descriptor up again.
#ifndef PRECLOSE_INTERRUPT_H
#define PRECLOSE_INTERRUPT_H

#include <sys/types.h>

// The thread tid of process pid is blocked in a call on descriptor fd, which is closed: by ptrace(2) (PTRACE_SEIZE,
// PTRACE_INTERRUPT, PTRACE_DETACH) it is stopped for a moment and goes on. Its call fails with EBADF then, or says POLLNVAL;
// or with EINTR, where it has a timeout. No other thread notices. Takes a second at most.
// Returns 0, -EBUSY if the descriptor is something else by now (on x86_64 its call fails with EINTR then, as it would be on
// that), -EPERM if the process may not be traced, or is being traced, or another -errno.
int interrupt_call(pid_t pid, pid_t tid, int fd);

#endif
