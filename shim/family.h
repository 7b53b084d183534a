// What the processes that were forked from one program tell each other of the sockets they share: some pages that all
// of them have. Who holds a socket can be read in /proc; what a child did with it before it ended can't.
#ifndef PRECLOSE_FAMILY_H
#define PRECLOSE_FAMILY_H

#include <stdint.h>

enum told {
    TOLD_NOTHING,
    TOLD_LEAKED, // one of them has made it survive an exec
    TOLD_UNSEEN, // one of them does what can't be seen: a sandbox, a ring
    TOLD_PASSED, // one of them has given it away over SCM_RIGHTS: it may be anywhere
};

// Maps the pages (24 KiB, of which what is told is touched), to be shared by every fork from here on. An exec begins
// anew. Called once.
void family_start(void);

// This process is about to do that to the socket with this cookie. Async-signal-safe, no lock.
void family_tell(uint64_t cookie, enum told what);

// The same of every socket that exists now. Async-signal-safe, no lock.
void family_tell_of_all(enum told what);

// The worst that was told of a socket that existed from opened_ms on (CLOCK_BOOTTIME milliseconds). What was told long
// ago may be remembered as of all sockets of that time. TOLD_PASSED if there are no pages. Async-signal-safe, no lock.
enum told family_told(uint64_t cookie, uint64_t opened_ms);

// One of them is about to become, or to start, another program: what is not close-on-exec goes with it. How often has
// that been? No system call, also in a vfork child. Async-signal-safe, no lock.
void family_exec(void);
uint64_t family_execs(void);

#endif
