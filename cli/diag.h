// TCP sockets as the kernel knows them, over sock_diag(7).
#ifndef PRECLOSE_CLI_DIAG_H
#define PRECLOSE_CLI_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#define DIAG_ADDRESS_MAX 80

struct diag_socket {
    uint8_t family;   // AF_INET or AF_INET6
    uint8_t state;    // as in states.def
    uint32_t inode;   // 0: no file stands behind it: not accepted yet, or closed
    uint32_t uid;     // of who made it
    uint64_t cookie;  // SO_COOKIE: no other socket since boot has the same
    uint32_t queued;  // bytes received and not read, the end (FIN) counted as one; of a listener: connections that wait
    int64_t quiet_ms; // since the peer was last heard of; -1 unknown. In CLOSE_WAIT: it is in that state for at
                      // least so long, as the packet that closed it was one that is counted here
    unsigned char local[16], peer[16]; // 4 or 16 bytes
    uint16_t local_port, peer_port;
};

// Tells each TCP socket of the thread's network namespace that is in one of the states (bit 1 << state).
// Returns 0, or -errno (no sock_diag: -ENOENT or so). *interrupted, if the table changed while it was read: some
// may be missing. (include/uapi/linux/inet_diag.h; net/ipv4/inet_diag.c)
int diag_tcp(uint32_t states, void (*take)(void *context, const struct diag_socket *s), void *context,
             bool *interrupted);

// "10.0.0.1:8080" or "[::1]:8080", as findings have it.
const char *diag_address(char out[DIAG_ADDRESS_MAX], const struct diag_socket *s, bool peer);

// "tcp" or "tcp6"; "close-wait", "listen" ...
const char *diag_type(const struct diag_socket *s);
const char *diag_state(unsigned state);

// The bit of a state by its name, with capitals and '_' for '-' too (CLOSE_WAIT); 0 if there is none.
uint32_t diag_state_bit(const char *name);

// Bytes that were received and never read.
uint32_t diag_unread(const struct diag_socket *s);

#endif
