// The program lets go of a descriptor: retire its record, ask what the socket is, decide, act. Then the
// program's own call runs, at once, as a thread that has been woken may be closing the same number. Then tell.
#ifndef PRECLOSE_RELEASE_H
#define PRECLOSE_RELEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "decide.h"
#include "drain.h"
#include "place.h"
#include "settings.h"
#include "threads.h"
#include "track.h"

// One release on its way through the rooms.
struct release {
    bool pending; // the descriptor is retired, and its call not made or not ended yet
    bool tells;   // there is something to tell
    bool whole;   // facts are all that there is to know
    int fd;
    struct place closed;
    struct retired r;
    struct facts facts;
    struct blocked blocked;
    struct situation s;
    struct verdict v;
    int holder;
    bool drains;         // ACTION_DRAIN
    struct drain drain;
    bool timed;          // the program's call may block
    int64_t call_us;     // when it began, CLOCK_MONOTONIC microseconds; then how long it took
    struct release *next; // in a range
};

// Which settings apply. Called once.
void release_start(const struct settings *settings);

// In a forked child: its time begins now.
void release_child(void);

// The program is about to let go of fd through call, from the instruction at pc. may_act false: the
// record is retired and nothing is done to the socket. Async-signal-safe; takes the table lock.
void release_begin(struct release *w, int fd, enum call call, uintptr_t pc, bool may_act);

// The program's call has been made: drains what is to be drained, and tells what there is. Keeps errno.
// Async-signal-safe; takes the report lock.
void release_end(struct release *w);

// The same for every descriptor of first..last. What there is to tell is told at once, but for the connections that are
// to be drained or that may block, which are returned: release_range_end takes them.
struct release *release_range(unsigned first, unsigned last, enum call call, uintptr_t pc);
void release_range_end(unsigned first, unsigned last, struct release *kept);

// Is fd still the socket that another thread is closing at this moment? Its close comes first, and is waited for, so
// that this one finds nothing open. Async-signal-safe; takes the table lock.
bool release_under_way(int fd);

// The program is about to give the socket of fd another holder (a duplicate, a message, an epoll set) while another
// thread may be closing it, so that it is not tracked any more: that thread is to leave it alone, and what it has
// begun to do is waited for, so that the holder comes after the close and finds nothing. Between guard_enter and
// guard_leave. Async-signal-safe; takes the table lock.
void release_disturb(int fd);

// Waits until no other thread is closing a number of first..last: something else is about to take their places, and
// what is being done to a socket must not meet it. Async-signal-safe; takes the table lock.
void release_wait(unsigned first, unsigned last);

// Before a fork or a spawn, which gives a child a copy of what another thread is shutting down at this moment: waits
// until that is closed. track_forked() or track_spawned() comes first: a close that does not see it yet is seen
// here. Async-signal-safe; takes the table lock.
void release_wait_acting(void);

#endif
