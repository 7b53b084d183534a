// The graceful close (RFC 9112 section 9.6): what a connection has received, and what it still receives, is read and
// dropped until the peer has finished too, so that close sends no reset and the peer gets all that was sent to it.
//
// It goes on behind the program's own close, on a descriptor of ours, before that call returns: the number is free
// for its next owner at once, as with any close, and no fork need wait for it.
#ifndef PRECLOSE_DRAIN_H
#define PRECLOSE_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "probe.h"

#define DRAIN_BYTES_MAX ((int64_t)64 << 20) // more than this is not read

// A connection that is to be drained.
struct drain {
    int fd;   // our descriptor of it
    int slot; // in the list of those
    enum kind kind;
    bool lingers; // SO_LINGER is on: its close can wait
    bool fin_later; // SHUT_WR is still to come: when no thread of the program's can be in the middle of sending
    int64_t calm_ms, unsent; // since when nobody is seen to be, and what was unsent then
};

enum drain_end {
    DRAIN_FINISHED, // the peer has ended its side, and all that it sent was read
    DRAIN_BROKEN,   // the connection broke off: the peer has reset it
    DRAIN_TIME,     // the time was over
    DRAIN_BYTES,    // DRAIN_BYTES_MAX had come
    DRAIN_GONE,     // our descriptor was taken from us
};

struct drained {
    enum drain_end end;
    int64_t bytes;    // that were dropped
    int64_t ms;       // that it took
    int64_t close_ms; // that the last close took, which waits where SO_LINGER is on
    bool unread;      // bytes were left unread: that close has reset the connection
    bool child;       // a handler has forked, and this is the child: the rest is its parent's
};

// Takes hold of the socket of fd for drain(). Returns false if there is no descriptor to be had (EMFILE), or too many
// are drained at once. Between guard_enter and guard_leave; async-signal-safe, no lock.
bool drain_begin(struct drain *d, int fd, enum kind kind, bool lingers);

// Lets go of it at once.
void drain_drop(struct drain *d);

// Reads and drops for ms milliseconds at most, or for first_ms if nothing has come by then, and lets go. The program's handlers run meanwhile, and may never come
// back: what they leave is closed at a later drain_begin.
// Returns false if preclose is off since then: nothing more may be done, not even guard_leave. Between guard_enter
// and guard_leave; async-signal-safe, no lock.
bool drain(struct drain *d, struct guard *g, int64_t ms, int64_t first_ms, struct drained *out);

// Is fd a descriptor of ours, on which a connection is being drained? Such a one has FD_OURS (track.h).
// Async-signal-safe, no lock.
bool drain_holds(int fd);

// In a forked child: lets go of what its parent drains.
void drain_child(void);

#endif
