// Calls that fail for what was done before: double close, use after close, a bind to an address in use.
#ifndef PRECLOSE_MISUSE_H
#define PRECLOSE_MISUSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "place.h"

// The closes of this thread: the last number and how long a run of neighbours it ends. waits: a double close of this
// thread's may be waiting for what comes next.
struct misuse_closes {
    int last;
    unsigned run;
    bool down; // the run goes to lower numbers
    bool waits;
};
extern __thread struct misuse_closes misuse_closes __attribute__((visibility("hidden"), tls_model("initial-exec")));

#define MISUSE_SWEEP_LENGTH 4 // closes of so many neighbouring numbers, one after the other, are a sweep
#define MISUSE_SWEEP_STEP 4   // as far as the next of a sweep that leaves some open

// Every close of this thread passes here first: a run over neighbouring numbers is a sweep over all descriptors (daemons
// do that), and what it meets is not a double close. Returns whether fd goes on with one. No system call, no lock.
static inline bool misuse_count_close(int fd)
{
    struct misuse_closes *c = &misuse_closes;
    long step = (long)fd - c->last;
    bool neighbour = step == 1 || step == -1;
    if (c->run >= MISUSE_SWEEP_LENGTH)
        neighbour = c->down ? step < 0 && step >= -MISUSE_SWEEP_STEP : step > 0 && step <= MISUSE_SWEEP_STEP;
    c->down = step < 0;
    c->last = fd;
    c->run = neighbour ? c->run + 1 : 1;
    return neighbour;
}

// The same, and looks after what waits. No system call where nothing does; takes a lock of its own where something does.
void misuse_note_close(int fd);

// close(fd) has failed with EBADF although preclose saw a socket of that number closed. The finding waits
// until it is clear that it is not part of a sweep. Async-signal-safe; takes the table lock.
void misuse_double_close(int fd, uintptr_t pc);

// call on fd has failed with EBADF. Does nothing unless preclose saw a socket of that number closed.
// Keeps errno. Async-signal-safe; takes the table lock and the report lock.
void misuse_use(int fd, enum call call, uintptr_t pc);

// accept on fd has failed with EBADF, by misuse_use's conditions. A thread that was woken by a close and
// calls again for ever is told once, and after 1,000 failures in a second held 10 ms at each: without us it
// would sleep in the kernel. Keeps errno. Async-signal-safe.
void misuse_accept(int fd, enum call call, uintptr_t pc);

// bind of fd to this address, which is readable, has failed with EADDRINUSE: tells what stands in the way of a
// TCP socket. Keeps errno. Async-signal-safe; takes the table lock, then the report lock.
void misuse_bind(int fd, const struct sockaddr *address, socklen_t length, uintptr_t pc);

// Tells what this thread has waiting, as it is clearly not in a sweep. Between guard_enter and guard_leave.
void misuse_flush_own(void);

// Does anything wait? No system call, no lock.
bool misuse_waiting(void);

// Tells what waits, at exit. Between guard_enter and guard_leave.
void misuse_flush(void);

// In a forked child: what waits is the parent's.
void misuse_child(void);

#endif
