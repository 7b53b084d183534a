// Socket options that the user asked for, where the program leaves them out (PRECLOSE_REUSEADDR,
// PRECLOSE_KEEPALIVE, PRECLOSE_RECV_TIMEOUT). act changes a socket that is being closed; this room one that is
// being bound, accepted or connected.
#ifndef PRECLOSE_OPTIONS_H
#define PRECLOSE_OPTIONS_H

#include <stdbool.h>

#include "settings.h"

// Which options apply. Called once, at start: asks the kernel for the keepalive times that a new socket has.
void options_start(const struct settings *settings);

// Is there anything to set on a socket that is about to be bound, or on a new connection? No system call, no
// lock: what a program pays that has asked for nothing.
bool options_for_bind(void);
bool options_for_connections(void);

// fd is about to be bound to a port: SO_REUSEADDR (socket(7)), if it is a TCP socket. Async-signal-safe, no lock.
void options_before_bind(int fd);

// fd has been accepted, or its connect has succeeded or is under way. Where it is a TCP connection: keepalive
// (SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT; tcp(7)) with those times that are still the
// system's own, and SO_RCVTIMEO if it has none; both may come from the listener (net/core/sock.c
// sk_clone_lock). On a non-blocking one the timeout has no effect until it is made blocking
// (include/net/sock.h sock_rcvtimeo). What the kernel refuses is left. Async-signal-safe, no lock.
void options_on_connection(int fd);

#endif
