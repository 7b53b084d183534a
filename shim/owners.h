// Does another process hold this socket? Asked only when the answer frees a blocked thread.
#ifndef PRECLOSE_OWNERS_H
#define PRECLOSE_OWNERS_H

#include <stdbool.h>
#include <stdint.h>

enum owners {
    OWNERS_UNKNOWN, // not proven: no /proc, hidepid, out of time, or processes that kept changing
    OWNERS_ALONE,   // proven: no other process, and no thread of ours with a table of its own, holds it
    OWNERS_HELD,    // another process holds it, or could and cannot be looked into
};

struct owners_answer {
    enum owners owners;
    int pid;          // HELD: a process that holds it or could; UNKNOWN: one that kept changing; 0: none
    uint64_t took_us; // microseconds spent, as a struct procfs_limit counts them
};

// Looks for the socket with this inode number in the descriptors, epoll sets and registered io_uring files
// of every process that could hold it, and of the threads of this process that have a table of their own.
// since_ms: when this process itself opened the socket (CLOCK_BOOTTIME milliseconds, taken before the call
// that opened it): only a fork of this process, or of one forked from it, can have shared it, so that a
// process that is older, or that descends from another, cannot hold it. 0: inherited over exec or by fork,
// from a process that may hold it still. Then any process could hold it, also outside of a process namespace,
// and a unix socket with descriptors in flight (scm_fds in fdinfo, Linux 5.6) leaves it unproven.
// leaked: a program that a child ran may have got it, and have passed it on. Then older and unrelated processes count
// too, as far as they can be looked into, and so does every queue of theirs, of the children and of this process.
// fd: the descriptor, in the caller's table, that is about to be closed. limit_us: time after which it gives
// up (procfs.h, procfs_limit).
//
// ALONE is true of one moment of the call. What the caller must know of by other means: a fork, a
// sendmsg(SCM_RIGHTS) or an unshare(CLONE_FILES) of another thread since then; other descriptors of the
// caller's own table; what forked children have passed on (family.h). What no process can see: a socket that a program
// run by a child has passed on, where the receiver can't be looked into; one taken by pidfd_getfd(2); one that a
// request under way in an io_uring, or a part of the kernel (nbd, iSCSI...), keeps.
//
// Async-signal-safe, no lock; uses an anonymous mapping of about 600 KiB, of which a few pages are touched.
void owners_prove(int fd, uint64_t inode, uint64_t since_ms, bool leaked, uint64_t limit_us,
                  struct owners_answer *answer);

#endif
