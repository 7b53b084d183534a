// What only sock_diag(7) tells of a unix socket. Each question opens a netlink socket and closes it again.
#ifndef PRECLOSE_DIAG_H
#define PRECLOSE_DIAG_H

#include <stdbool.h>
#include <stdint.h>

// How many connections wait in the accept queue of the unix listener with this inode number and cookie
// (UDIAG_SHOW_RQLEN; net/unix/diag.c sk_diag_show_rqlen). Returns -1 if the kernel can't tell: no unix_diag,
// no descriptor left, or the socket belongs to another network namespace. Async-signal-safe, no lock.
int64_t diag_unix_backlog(uint64_t inode, uint64_t cookie);

// Has the peer of this connected unix socket been closed? The kernel then shows a peer without an inode
// (UDIAG_SHOW_PEER; net/unix/diag.c sk_diag_dump_peer). Returns 1, 0, or -1 if it can't tell.
// Async-signal-safe, no lock.
int diag_unix_peer_gone(uint64_t inode, uint64_t cookie);

#endif
