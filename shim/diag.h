// What only sock_diag(7) tells. Each question opens a netlink socket and closes it again.
#ifndef PRECLOSE_DIAG_H
#define PRECLOSE_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#include "probe.h"

// How many connections wait in the accept queue of the unix listener with this inode number and cookie
// (UDIAG_SHOW_RQLEN; net/unix/diag.c sk_diag_show_rqlen). Returns -1 if the kernel can't tell: no unix_diag,
// no descriptor left, or the socket belongs to another network namespace. Async-signal-safe, no lock.
int64_t diag_unix_backlog(uint64_t inode, uint64_t cookie);

// Has the peer of this connected unix socket been closed? The kernel then shows a peer without an inode
// (UDIAG_SHOW_PEER; net/unix/diag.c sk_diag_dump_peer). Returns 1, 0, or -1 if it can't tell.
// Async-signal-safe, no lock.
int diag_unix_peer_gone(uint64_t inode, uint64_t cookie);

// A TCP socket of this network namespace.
struct diag_socket {
    enum tcp_state state;
    bool orphan; // no process has it: the kernel is still closing it
    bool only6;  // IPV6_V6ONLY; known of listeners
    uint32_t uid;
    uint64_t cookie;
    struct address local, peer; // peer: len 0 unless connected
};

typedef void diag_visitor(void *context, const struct diag_socket *s);

// Shows visit the TCP sockets of a family (AF_INET, AF_INET6) that have this local port (host byte order, not 0)
// and are in one of the states (1 << enum tcp_state), listeners first. Those that are bound and neither listen nor
// are connected are TCP_STATE_CLOSED, and are shown from Linux 6.8 on (net/ipv4/inet_diag.c
// inet_diag_dump_icsk). Stops after some thousands. Returns 0; 1 if it stopped early; -1 if the kernel can't
// tell. Takes 32 KiB from the kernel meanwhile. Async-signal-safe, no lock.
int diag_tcp_port(int family, uint16_t port, unsigned states, diag_visitor *visit, void *context);

#endif
