// Which descriptors of this process are sockets, which of them are the same socket, and who else may
// hold it.
//
// A socket here is an open file description (open(2)): what dup shares. Its record is found by descriptor in a table of
// two levels under one lock, and by cookie in a uthash index, which is made when first needed; whether a descriptor is
// tracked at all is answered from an array without the lock. Epoll sets are tracked too, since a socket must be taken
// out of them. One socket takes 100 bytes.
#ifndef PRECLOSE_TRACK_H
#define PRECLOSE_TRACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "place.h"
#include "probe.h"

#define TRACK_FD_MAX (1 << 20) // descriptors from here on are not tracked; nothing is done for them
#define TRACK_SETS_MAX 8       // a socket in more epoll sets than this is left alone

// What fd_state says of a descriptor. 0: nothing to do, whatever happens to it.
enum {
    FD_SOCKET = 1,   // a tracked socket
    FD_EPOLL = 2,    // a tracked epoll set
    FD_CLOSED = 4,   // was a tracked socket; preclose saw it closed, and nothing that it saw has reopened it
    FD_DOUBT = 8,    // something happened to it that could not be recorded: never the last hold
    FD_GIVEN = 16,   // named in a posix_spawn file action: a child may get it
    FD_OURS = 32,    // perhaps preclose's log (sink.h), or one that it drains a connection on (drain.h)
    FD_CLOSING = 64, // retired, and the program's call that closes it has not returned yet
    FD_ACTING = 128, // and it is being shut down
    FD_CARRIER = 256, // a tracked socket whose messages can carry descriptors
    FD_LEAKED = 512, // a child in this process's memory (vfork) has made it survive an exec
    FD_TCP = 1024,   // with FD_SOCKET: a TCP socket that this process, or one that it was forked from, has opened
    FD_LOOKING = 2048, // with FD_CLOSING: whoever closes it looks into /proc, and no handler leads him away from there
};

#define FD_FLAGS UINT32_C(0xffff) // the bits of these; above them, how often a socket of this number has been closed

extern _Atomic uint32_t fd_state[TRACK_FD_MAX];

// The state of any number, also one that is no descriptor. Async-signal-safe, no lock.
static inline uint32_t track_state(int fd)
{
    if ((unsigned)fd >= TRACK_FD_MAX) return 0;
    return atomic_load_explicit(&fd_state[fd], memory_order_acquire) & FD_FLAGS;
}

// Changes the state where the table can't be reached (a signal handler that interrupted us).
// Async-signal-safe, no lock.
void track_mark(int fd, uint32_t set, uint32_t clear);

// Who else may hold a socket, besides the descriptors of this process.
enum share {
    SHARE_NONE,      // nobody
    SHARE_FORK,      // a child or the parent, since a fork or a spawn
    SHARE_PASSED,    // anyone: it went through SCM_RIGHTS
    SHARE_INHERITED, // whoever started this program
};

// What happened to a socket that decides what may be done about it later.
enum {
    SOCK_SHUT_RD = 1,   // the program has shut it down for reading
    SOCK_SHUT_WR = 2,   // and for writing
    SOCK_ASYNC = 4,     // O_ASYNC has been set
    SOCK_HANDS_OFF = 8, // its protocol would turn a shutdown into lost data (kTLS) or into packets (TCP_REPAIR)
    SOCK_CONNECTED = 16, // TCP: it was accepted, or its connect has succeeded or is under way
    SOCK_TOLD = 32,      // and that its peer has closed it long ago is told
    SOCK_ASK = 64,       // it may have options that close depends on (SO_LINGER), or be more than its kind says (MPTCP)
};

struct ofd; // an open file description: what duplicates share

struct opening {
    struct place place;
    uint64_t cookie;
    enum kind kind;
    enum share share; // SHARE_PASSED, SHARE_INHERITED, or SHARE_NONE for one that this process has made
    bool cloexec;
    bool connected; // it was accepted, or came connected from another process
    bool asks;      // SOCK_ASK
};

// What was known of a descriptor that has been retired.
struct retired {
    uint64_t cookie;
    uint64_t opened_ms; // CLOCK_BOOTTIME
    struct place opened;
    enum kind kind;
    enum share share;
    unsigned flags;          // SOCK_*
    unsigned others;         // descriptors of this process that still hold it
    bool forefathers;        // a process that this one was forked from had opened it
    bool leaky;              // a program that a child runs gets it too
    bool exposed;            // it has been so at a fork or a spawn, or is
    uint32_t execs;          // family_execs() when it was opened
    uint32_t closing;        // what track_closed takes
    uint64_t forks;          // track_forks() at that moment
    bool epoll;              // it was an epoll set, not a socket
    bool stuck;              // it is in an epoll set that it can't be taken out of
    int set[TRACK_SETS_MAX]; // the epoll sets it must be taken out of first
    unsigned sets;
};

// All that follow are async-signal-safe between guard_enter and guard_leave and take the table lock.

// fd is a new socket. Whatever was recorded for the number is gone.
void track_open(int fd, const struct opening *o);

// The same for one that was accepted from listener, which says what kind it is, and whether SOCK_ASK, as the options
// of a listener are those of what is accepted (net/core/sock.c sk_clone_lock). Returns false, and has done nothing, if
// the listener is not known or was not opened here.
bool track_accepted(int fd, int listener, struct opening *o);

// fd is a new epoll set.
void track_open_epoll(int fd, bool cloexec);

// As far as is known, does no other descriptor hold what fd is?
bool track_is_last(int fd);

// The program lets go of fd: its record is retired, and the number is free for its next owner. Call
// before the program's own call. Returns false if it was not tracked.
bool track_retire(int fd, const struct place *closed, struct retired *out);

// A duplicate of fd is about to be made: until track_unpin its socket (or epoll set) has one holder more.
// Returns what to give to track_unpin; NULL if fd is not tracked.
struct ofd *track_pin(int fd);

// The duplicate has been made: to is now the same as what was pinned, or as something that is not tracked
// (pinned NULL). to < 0: making it failed.
void track_unpin(struct ofd *pinned, int to, bool cloexec);

// FD_CLOEXEC of fd has been set or cleared. Returns false if fd is not tracked.
bool track_cloexec(int fd, bool on);

// Descriptors first..last have been made close-on-exec.
void track_cloexec_range(unsigned first, unsigned last);

// The program did something to the socket of fd: SOCK_* flags to set.
void track_flags(int fd, unsigned set);

// fd has become FD_GIVEN: those who share it by a fork are told.
void track_given(int fd);

// fd is on its way to another process, or came from one, over SCM_RIGHTS; those who share it by a fork are told.
// Returns false if it is not tracked.
bool track_passed(int fd);

// A descriptor of the socket with this cookie, or -1. The first call makes an index of all sockets, which is kept up
// from then on, at 80 bytes for each; without memory for it every call walks the whole table.
int track_find(uint64_t cookie);

// Any socket may have been duplicated unseen.
void track_doubt(void);

// fd is in the epoll set (added again: still once), or is no longer.
void track_epoll_add(int set, int fd);
void track_epoll_del(int set, int fd);

// The call that closes what track_retire has retired has returned. No lock.
void track_closed(int fd, uint32_t closing);

// The same for the call of thread tid that closes first..last.
void track_closed_range(unsigned first, unsigned last, pid_t tid);

// The cookie of the socket that a thread other than tid is closing under this number; 0 if none is.
uint64_t track_closing(int fd, pid_t tid);

// That close does not go on: fd is closed by nobody now.
void track_give_up(int fd, uint64_t cookie);

// The lowest number in first..last, or from first on, whose state has one of these bits, or -1. No lock.
int track_next_in(unsigned first, unsigned last, uint32_t bits);
int track_next_with(unsigned first, uint32_t bits);

// What is known of a TCP socket of this process's own (FD_TCP).
struct connection {
    uint64_t cookie;
    uint64_t opened_ms; // CLOCK_BOOTTIME
    struct place opened;
    enum kind kind;
    enum share share;
    unsigned flags;      // SOCK_*
    uint32_t wait;       // what track_wait has noted; 0: nothing
    bool representative; // of all descriptors of the socket, the one by which it is to be looked at
};

// Fills in *c for fd. Returns false if it is no such socket.
bool track_connection(int fd, struct connection *c);

// fd, a socket, has been connected, or is about to be: what was noted of an earlier connection is forgotten.
void track_connected(int fd);

// Notes since when the socket is in CLOSE_WAIT, in the caller's units, if fd is still that socket.
void track_wait(int fd, uint64_t cookie, uint32_t wait);

// Sets SOCK_TOLD. Returns false if fd is another socket now, or was told already.
bool track_tell(int fd, uint64_t cookie);

// How many connections this process has: sockets with SOCK_CONNECTED that it has opened itself. No lock.
unsigned track_connections(void);

// Where fd was last closed and where that socket had been opened. Returns false unless it is FD_CLOSED.
bool track_closed_at(int fd, struct place *opened, struct place *closed);

// The lowest tracked descriptor in first..last, or -1. No lock.
int track_next(unsigned first, unsigned last);

// How many forks and spawns have been noted: changes with each. No lock.
uint64_t track_forks(void);

// Whether a fork or a spawn that r does not know of may have given its socket to a child. No lock.
bool track_shared_since(const struct retired *r);

// From now on every socket that exists may be held by a child with a copy of the table (fork), or, of
// those that are not close-on-exec or were given to it, by a child with a new program (spawn). No lock.
void track_forked(void);
void track_spawned(void);

// The process may have threads that libc does not know of (clone(2)). Has it any, as far as is known? No lock.
void track_threads(void);
bool track_has_threads(void);

// A thread of preclose's own is about to be made: where libc knows of no other, the process counts as having none.
void track_own_thread(void);

// A thread has a descriptor table of its own from now on: nothing that this room knows is the whole truth.
void track_split(void);
bool track_is_split(void);

// In a forked child: every socket is possibly shared, and a table that was being changed by another thread of
// the parent is given up.
void track_fork_recover(void);

// FD_TCP from now on for connections that this process has opened itself, not one that it was forked from.
void track_own_connections(void);

// Was this process forked from the one that started? Has its table been given up then? No lock.
bool track_is_child(void);
bool track_is_lost(void);

// Bytes of memory that the table holds.
uint64_t track_memory(void);

#endif
