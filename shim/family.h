// What the processes that were forked from one program tell each other of the sockets they share: a page that all of
// them have. Who holds a socket can be read in /proc; what a child did with it before it ended can't.
#ifndef PRECLOSE_FAMILY_H
#define PRECLOSE_FAMILY_H

#include <stdint.h>

enum told {
    TOLD_NOTHING,
    TOLD_LEAKED, // a program that one of them runs may have got it
    TOLD_PASSED, // one of them has given it away over SCM_RIGHTS: it may be anywhere
};

// Maps the page (16 KiB, of which what is told is touched), to be shared by every fork from here on. An exec begins
// anew. Called once.
void family_start(void);

// The socket with this cookie is about to be passed or leaked, by this process. Async-signal-safe, no lock.
void family_tell(uint64_t cookie, enum told what);

// The same of every socket that exists now: what this process does with them will not be seen. Async-signal-safe,
// no lock.
void family_tell_of_all(enum told what);

// The worst that was told of a socket that existed from opened_ms on (CLOCK_BOOTTIME milliseconds). What was told long
// ago may be remembered as of all sockets of that time. TOLD_PASSED if there is no page. Async-signal-safe, no lock.
enum told family_told(uint64_t cookie, uint64_t opened_ms);

#endif
