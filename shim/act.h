// The only room that changes a socket.
#ifndef PRECLOSE_ACT_H
#define PRECLOSE_ACT_H

#include <stdbool.h>

#include "decide.h"
#include "track.h"

// Takes fd out of the epoll sets of r (epoll_ctl(2), EPOLL_CTL_DEL). Returns false if it may still be in
// one: then nothing may be done that the set would show. Async-signal-safe, no lock of ours.
bool act_leave_epoll(int fd, const struct retired *r);

// Does what v says to the socket fd. ACTION_SHUTDOWN: shutdown(SHUT_RDWR); where v->read_only, SHUT_RD, which
// wakes all but senders and which the peer does not see. ACTION_ABORT: shutdown(SHUT_RD), which leaves close its
// reset; where v->disconnect, connect(AF_UNSPEC), which wakes senders and resets at once (net/ipv4/tcp.c
// tcp_disconnect); where v->shut_both, SHUT_RDWR instead. ACTION_DRAIN: shutdown(SHUT_WR), which wakes senders
// (net/ipv4/af_inet.c inet_shutdown); nothing yet where v->fin_later.
// Returns false if the disconnect was refused (EBUSY while a thread waits: Linux 6.4 to 6.6). Other errors
// are of no consequence: the program's own call follows. Async-signal-safe, no lock of ours.
bool act(int fd, const struct verdict *v);

// Reads at most max bytes of what the stream socket fd has received, without waiting, and drops them. Returns how many
// these were; *end: 0 if there is nothing more for now or max was reached, 1 at the end of the stream, or the
// error (-errno) of the connection. Async-signal-safe, no lock.
int64_t act_discard(int fd, enum kind kind, int64_t max, int *end);

// shutdown(SHUT_WR): tells the peer that all is sent. Async-signal-safe, no lock of ours.
void act_stop_sending(int fd);

// shutdown(SHUT_RD): wakes receivers that may still wait. Async-signal-safe, no lock.
void act_stop_receiving(int fd);

#endif
