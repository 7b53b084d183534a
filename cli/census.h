// Sockets and who holds them, at one time: what scan shows and free goes by.
#ifndef PRECLOSE_CLI_CENSUS_H
#define PRECLOSE_CLI_CENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "diag.h"
#include "proc.h"

struct holder {
    pid_t pid, tid; // tid: of a thread that has a descriptor table of its own; else 0
    int fd;
};

enum held {
    HELD,         // by a descriptor of a process
    NOT_ACCEPTED, // a connection that waits at a listener
    GHOST, // has a file, and no descriptor stands for it: closed while a thread was in a call on it, or kept
           // by the kernel, or by a message that no one has read
    LIKELY_GHOST, // the same, as far as can be seen from here, and a thread is in a call that fits
    HIDDEN,       // has a file; who holds it can't be seen from here
    CLOSED,       // let go of: the kernel ends the connection by itself
};

struct entry {
    struct diag_socket s;
    uint64_t net; // network namespace
    enum held held;
    size_t first, holders; // in census.holder; NOT_ACCEPTED: those of the listener
    bool seen_again;       // was still there at the second look
};

// A thread in a call on a descriptor that is closed by now, or no socket that the call can be on.
struct orphan_call {
    pid_t pid, tid;
    uint64_t net;
    struct proc_call call;
    bool closed;
};

// A process that holds one of the sockets, as it was then.
struct process {
    pid_t pid;
    int64_t uid;
    char comm[PROC_NAME_MAX];
};

struct census {
    struct entry *entry;
    size_t entries;
    struct holder *holder;
    size_t holders;
    struct process *process; // by pid
    size_t processes;
    struct orphan_call *orphan; // looked for only if a socket has no descriptor
    size_t orphans;
    bool sees_all;              // the descriptors of every process could be read
    bool interrupted;           // the kernel's table changed while it was read
    unsigned nets, nets_unseen; // network namespaces looked into; and those that could not be
};

// Takes it, of TCP sockets, and of UDP sockets if udp. Returns 0, or -errno if the kernel does not tell of
// sockets at all. malloc: census_free gives it back.
int census_take(struct census *c, bool udp);
void census_free(struct census *c);

// The name and user of a process that holds one of the sockets; NULL if it is none.
const struct process *census_process(const struct census *c, pid_t pid);

// Could the thread be in its call on this socket: in its network namespace, and a call that fits?
bool census_fits(const struct orphan_call *o, const struct entry *e);

#endif
