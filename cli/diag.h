// TCP and UDP sockets as the kernel knows them, over sock_diag(7).
#ifndef PRECLOSE_CLI_DIAG_H
#define PRECLOSE_CLI_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#define DIAG_ADDRESS_MAX 80

struct diag_socket {
    uint8_t family;   // AF_INET or AF_INET6
    uint8_t protocol; // IPPROTO_TCP or IPPROTO_UDP
    uint8_t state;    // as in states.def
    uint32_t inode;   // 0: no file stands behind it: not accepted yet, or closed
    uint32_t uid;     // of who made it
    uint64_t cookie;  // SO_COOKIE: no other socket since boot has the same
    uint64_t cgroup;  // of who made it: the inode number of its directory; 0 unknown
    uint32_t queued;  // bytes received and not read, the end (FIN) counted as one; of a listener: connections
                      // that wait
    int64_t quiet_ms; // since the peer was last heard of; -1 unknown. In CLOSE_WAIT: it is in that state for
                      // at least so long, as the packet that closed it was one that is counted here
    unsigned char local[16], peer[16]; // 4 or 16 bytes
    uint16_t local_port, peer_port;
    uint32_t device; // that it is bound to; 0: none
};

// Tells each socket of a protocol in the thread's network namespace that is in one of the states (bit 1 <<
// state; an unconnected UDP socket is "closed"). Returns 0, or -errno (no sock_diag: -ENOENT or so).
// *interrupted, if the table changed while it was read: some may be missing. (include/uapi/linux/inet_diag.h;
// net/ipv4/inet_diag.c)
int diag_dump(int protocol, uint32_t states, void (*take)(void *context, const struct diag_socket *s),
              void *context, bool *interrupted);

// Aborts a socket of the thread's network namespace: calls on it fail with ECONNABORTED, the peer gets a
// reset (SOCK_DESTROY; net/ipv4/tcp.c tcp_abort, net/ipv4/udp.c udp_abort). Only the one with this cookie.
// Returns 0 or -errno: -EPERM without CAP_NET_ADMIN, -EOPNOTSUPP without CONFIG_INET_DIAG_DESTROY, -ENOENT if
// it is gone.
int diag_destroy(const struct diag_socket *s);

// "10.0.0.1:8080" or "[::1]:8080", as findings have it.
const char *diag_address(char out[DIAG_ADDRESS_MAX], const struct diag_socket *s, bool peer);

// "tcp", "tcp6", "udp" or "udp6"; "close-wait", "listen" ...
const char *diag_type(const struct diag_socket *s);
const char *diag_state(unsigned state);

// The bit of a state by its name, with capitals and '_' for '-' too (CLOSE_WAIT); 0 if there is none.
uint32_t diag_state_bit(const char *name);

// Bytes that were received and never read.
uint32_t diag_unread(const struct diag_socket *s);

#endif
