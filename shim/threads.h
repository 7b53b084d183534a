// Which threads of this process are blocked on a descriptor, and in which call.
//
// /proc/self/task/TID/syscall shows the call a thread is blocked in and its arguments (proc(5); kernel
// fs/proc/base.c proc_pid_syscall). It costs several microseconds a thread, so a scan is bounded.
#ifndef PRECLOSE_THREADS_H
#define PRECLOSE_THREADS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define THREADS_TOLD 8 // threads that a finding names; further ones are counted

struct blocked_thread {
    pid_t tid;
    char name[16]; // comm, NUL-terminated; "" if unknown
    char call[16]; // "recvfrom", "accept4", "poll" ...: the system call's name
};

struct blocked {
    bool known;   // false: the scan could not be made or was not finished; n is then a lower bound
    bool sending; // at least one is blocked sending
    bool waiting; // at least one is blocked otherwise: receiving, accepting, connecting, polling
    bool sigpipe; // at least one of these would get SIGPIPE with an EPIPE: it did not say MSG_NOSIGNAL
    unsigned n;   // how many threads are blocked on the descriptor
    unsigned running; // other threads that ran when they were looked at: in which call, the kernel does not show
    struct blocked_thread thread[THREADS_TOLD]; // the first of them
};

// Looks for threads of this process, other than the caller, that are blocked in a call on fd: reading,
// writing, accepting, connecting, or waiting in poll, ppoll, select or pselect with fd among the
// descriptors (their arrays are read from /proc/self/mem, since they may be gone). epoll_wait is not a call
// on fd. A thread to which the number means another socket, in a descriptor table of its own, is left out.
// Nor is one that threads_left has been told of and that has not run since.
// Not known in a process that has dropped its privileges without exec: its own files in /proc are not for it
// (prctl(2), PR_SET_DUMPABLE). Stops after limit_us microseconds (procfs.h, procfs_limit) and says so
// in known. Returns how many it has spent. Async-signal-safe, no lock, no memory of the program's.
uint64_t threads_blocked_on(int fd, uint64_t limit_us, struct blocked *b);

// A *b that says nothing, not even that nothing is blocked. Pure.
static inline void threads_none(struct blocked *b)
{
    b->known = b->sending = b->waiting = b->sigpipe = false;
    b->n = b->running = 0;
}

// The threads of b stay blocked on a socket that has been closed as fd: while none of them has run (the third number of
// /proc/PID/task/TID/schedstat), it is not on the next socket of that number. Remembers the last 64. For callers that
// hold no lock; async-signal-safe, takes a lock of its own.
void threads_left(int fd, const struct blocked *b);

// In a forked child: the threads are not there.
void threads_child(void);

// Thread tid is preclose's own and left out from now on; 0: none is. Async-signal-safe, no lock.
void threads_own(pid_t tid);

// Does SIGPIPE end this process? (Its action is SIG_DFL; whether a thread blocks it is not looked at.)
// Async-signal-safe, no lock.
bool threads_die_of_sigpipe(void);

// The program has changed the action of SIGPIPE. Async-signal-safe, no lock.
void threads_sigpipe_changes(void);

// The name (comm) of thread tid of this process into name, which is "" if there is no such thread.
// Async-signal-safe, no lock.
void thread_name(pid_t tid, char name[16]);

// The same, asked once until thread_names_forget: a line names a thread more than once. The caller serialises (report
// lock), and forgets before each line.
const char *thread_name_once(pid_t tid);
void thread_names_forget(void);

#endif
