// Processes, from /proc: their names, descriptors, network namespaces, and the calls that their threads are
// in.
#ifndef PRECLOSE_CLI_PROC_H
#define PRECLOSE_CLI_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROC_NAME_MAX = 16 };

// The numbers in a directory of /proc: processes ("/proc"), threads, descriptors. malloc; *n how many. NULL
// with errno if it can't be read.
int *proc_numbers(const char *directory, int *n);

// The name (comm) of a process or thread; "" if it is gone.
void proc_comm(pid_t pid, char out[PROC_NAME_MAX]);

// The real user of a process; -1 if it is gone.
int64_t proc_uid(pid_t pid);

// The process that started it, or that has taken it over; 0 if there is none or it can't be told.
pid_t proc_parent(pid_t pid);

// When it was started, in ticks since boot; 0 if it is gone. A number that is used again has another.
uint64_t proc_started(pid_t pid);

// The inode number of its network namespace; 0 if that can't be read.
uint64_t proc_net(pid_t pid);

// Are all processes to be seen: is this the first process namespace? (include/linux/proc_ns.h
// PROC_PID_INIT_INO)
bool proc_sees_all(void);

// Tells each socket among the descriptors of a process, and of its threads that have a table of their own
// (unshare(2) CLONE_FILES): tid is 0 for the process's. Returns 0, or -errno if its descriptors can't be read
// (-EACCES), or it is gone (-ENOENT).
int proc_sockets(pid_t pid, void (*take)(void *context, pid_t pid, pid_t tid, int fd, uint32_t inode),
                 void *context);

// The inode of the socket behind a thread's descriptor: 0 if it is something else, -ENOENT if it is closed,
// or another -errno if that can't be read.
int64_t proc_socket(pid_t pid, pid_t tid, int fd);

// Does SIGPIPE end the process, as far as can be told: is it neither ignored nor handled?
bool proc_dies_of_sigpipe(pid_t pid);

// How many descriptors lie in messages that no one has read, in the queues of the unix sockets of a process
// (scm_fds in /proc/PID/fdinfo, Linux 5.7). Returns -errno if that can't be read.
int64_t proc_in_flight(pid_t pid);

// The inode number of a process's cgroup (version 2); 0 if it can't be told. The root of all has 1.
uint64_t proc_cgroup(pid_t pid);

// A thread in a call on a descriptor.
struct proc_call {
    const char *name; // of blocking.def
    bool listens;     // it is one on a listener
    bool sends;
    int fd;
    uint64_t runs; // how often the thread has been given a processor: while that stays, so does the call
};

// The call that a thread is blocked in, if its first argument is a descriptor; false if it isn't, or it can't
// be told (that needs the right to trace it, ptrace(2)).
bool proc_blocked(pid_t pid, pid_t tid, struct proc_call *call);

#endif
