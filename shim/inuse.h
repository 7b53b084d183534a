// Why a bind has failed with EADDRINUSE: which sockets stand in its way.
#ifndef PRECLOSE_INUSE_H
#define PRECLOSE_INUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "diag.h"
#include "probe.h"

// The sockets whose local address and port a new socket cannot have too.
struct in_use {
    bool known;         // the kernel was asked
    bool whole;         // all of them were looked at
    bool any_port;      // the program asked for any port: no free one is left
    bool reuse;         // SO_REUSEADDR is on for the new socket
    uint32_t uid;       // of this process (effective)
    unsigned listeners; // those that accept connections
    unsigned others;    // those that a process has and that do not
    unsigned waiting;   // connections in TIME_WAIT
    unsigned closing;   // connections that no process has any more, and that are not there yet
    struct diag_socket first; // a listener, or another; if there is one
    int fd;                   // by which this process has that one itself, or -1
};

// bind has refused fd, a TCP socket, this address: fills in *u from sock_diag(7). Async-signal-safe, takes the
// table lock.
void inuse_ask(int fd, enum kind kind, const struct address *wanted, struct in_use *u);

// Can a TCP socket not have the address a while another has b, as far as addresses go? only6: IPV6_V6ONLY of
// each. As net/ipv4/inet_connection_sock.c inet_rcv_saddr_equal with wildcards matching. Pure.
bool inuse_overlap(const struct address *a, bool a_only6, const struct address *b, bool b_only6);

#endif
