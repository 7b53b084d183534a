// What the kernel knows of a socket now. Only this room asks the kernel about a socket.
#ifndef PRECLOSE_PROBE_H
#define PRECLOSE_PROBE_H

#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum kind {
#define KIND(id, name, family, type, protocols, wakes, asks) KIND_##id,
#include "kinds.def"
#undef KIND
};

enum tcp_state {
    TCP_STATE_UNKNOWN = 0, // or not TCP
    TCP_STATE_ESTABLISHED = 1,
    TCP_STATE_SYN_SENT,
    TCP_STATE_SYN_RECV,
    TCP_STATE_FIN_WAIT1,
    TCP_STATE_FIN_WAIT2,
    TCP_STATE_TIME_WAIT,
    TCP_STATE_CLOSED,
    TCP_STATE_CLOSE_WAIT,
    TCP_STATE_LAST_ACK,
    TCP_STATE_LISTEN,
    TCP_STATE_CLOSING,
};

#define UNKNOWN (-1) // a count that the kernel did not give

// An address of any family that findings print; len 0 when unknown or unnamed.
struct address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
};

struct facts {
    uint64_t cookie; // SO_COOKIE, the identity of the socket; 0 if the kernel has none
    enum kind kind;
    enum tcp_state state;
    bool listening;    // it accepts connections (TCP, unix or vsock)
    bool linger_reset; // TCP: SO_LINGER is on with 0 s
    int linger_s;      // TCP: SO_LINGER is on with so many seconds, which close waits at most; else 0
    bool peer_gone;    // unix: bytes are unread, but the peer is closed, so that no one sees a reset
    bool peer_behind;  // unix: bytes are unread here, and bytes of ours by the peer
    int64_t unread;    // bytes received and not read, for datagrams those of the next one; or UNKNOWN
    int64_t unsent;    // TCP: bytes of ours that the peer has not acknowledged; or UNKNOWN
    int64_t backlog;   // a listener's connections that no one accepted; or UNKNOWN
    int busy_ms;       // of probe_busy, if that was asked
    struct address local, peer;
};

// The cookie of the socket behind fd (SO_COOKIE, Linux 4.12; net/core/sock_diag.c sock_gen_cookie): the
// same for every duplicate, never used again while the system runs.
// Returns it, or 0 if fd is not a socket or the kernel has no cookies. Async-signal-safe, no lock.
uint64_t probe_cookie(int fd);

// The kind of the socket behind fd, from SO_DOMAIN, SO_TYPE and SO_PROTOCOL; KIND_OTHER if unknown.
// Async-signal-safe, no lock.
enum kind probe_kind(int fd);

// The kind of a socket made with these arguments of socket(2); type may hold SOCK_CLOEXEC and SOCK_NONBLOCK.
// Pure.
enum kind kind_of(int family, int type, int protocol);

// Fills in *f for fd, which is of the given kind and cookie (0: unknown): everything that decides what close
// will do (state, unread, unsent, linger, backlog). What the kernel does not answer is unknown, never an
// error. unread is what close resets a connection for, also where SIOCINQ says something else (see probe.c);
// not in state CLOSED. A unix socket with a backlog or with a doubtful peer costs a netlink socket for the
// time of a question. Addresses are left empty: see probe_addresses. Async-signal-safe, no lock.
void probe_facts(int fd, enum kind kind, uint64_t cookie, struct facts *f);

// What tells one socket from every other: its cookie, or where the kernel has none its inode number with
// PROBE_NO_COOKIE. 0: fd is not a socket. Async-signal-safe, no lock.
#define PROBE_NO_COOKIE (1ull << 63)
uint64_t probe_identity(int fd);

// A quicker look, at what a decision rests on. Fills in *f and returns true if there is nothing unusual: nothing
// received and unread, no listener; f->state only where asks_state, f->unsent only if it is 0. False: ask probe_facts.
// For TCP it takes the word of SO_MEMINFO, which counts what the queues of the socket hold (net/core/sock.c
// sk_get_meminfo): it must be plain TCP, as MPTCP's own queue is not the whole. SO_LINGER is not asked for.
// Async-signal-safe, no lock.
bool probe_idle(int fd, enum kind kind, bool asks_state, struct facts *f);

// A *f that says only the kind. Pure.
void facts_clear(struct facts *f, enum kind kind);

// May the peer of this TCP connection be in the middle of sending? It has sent bytes within the last second, has got some
// from us, has not ended its side, and the socket is a blocking one (of the others an event loop takes care).
// Returns how many milliseconds what it sends may take to come; 0: no, or not known. Async-signal-safe, no lock.
int probe_busy(int fd);

// How many bytes the stream socket fd has received that were not read; UNKNOWN. Async-signal-safe, no lock.
int64_t probe_unread(int fd);

// How many bytes the stream socket fd has sent that were not acknowledged, with its FIN; UNKNOWN. And can it take more,
// so that no thread is blocked sending on it? (POLLOUT, net/ipv4/tcp.c tcp_poll.) Async-signal-safe, no lock.
int64_t probe_unsent(int fd);
bool probe_has_room(int fd);

// The TCP state that fd is in now (TCP_INFO); TCP_STATE_UNKNOWN for other kinds. Async-signal-safe, no lock.
enum tcp_state probe_state(int fd, enum kind kind);

// Of each descriptor in p (at most 1,024), into revents: POLLRDHUP if the peer has sent its FIN or this side was
// shut down for reading, POLLHUP if both directions are shut or it is not connected (net/ipv4/tcp.c tcp_poll), and
// those of events that hold. Waits for nothing. Async-signal-safe, no lock.
void probe_hangups(struct pollfd *p, unsigned n);

// What TCP_INFO says of the end of a connection, in milliseconds ago.
struct silence {
    enum tcp_state state;
    int64_t ack_ms;  // the peer's last acknowledgement: its FIN was one, and each later packet is
    int64_t data_ms; // the peer's last data, or the connection's beginning: not later than its FIN
};

// Fills in *s for a TCP socket. Returns false if it is none. Async-signal-safe, no lock.
bool probe_silence(int fd, struct silence *s);

// Fills in f->local and f->peer (getsockname, getpeername) of IPv4, IPv6 and unix sockets; an unbound one has
// no address. Async-signal-safe, no lock.
void probe_addresses(int fd, struct facts *f);

// Is fd open? (F_GETFD.) Async-signal-safe, no lock.
bool probe_is_open(int fd);

// The inode number of the socket behind fd, by which /proc/PID/fd shows it ("socket:[N]"); 0 if fd is not a
// socket.
uint64_t probe_inode(int fd);

// The name of a kind ("tcp6"), of a state ("close-wait"; "" if unknown); and whether shutdown wakes
// threads blocked on a socket of this kind. Pure.
const char *kind_name(enum kind kind);
const char *state_name(enum tcp_state state);
bool kind_wakes(enum kind kind);

// Can a message on a socket of this kind carry descriptors? (unix(7), SCM_RIGHTS; true if unknown.) Pure.
bool kind_carries(enum kind kind);

// Does shutdown wake threads blocked on this socket? As its kind says, but not those in accept on a vsock
// listener (ENOTCONN, and they stay blocked: net/vmw_vsock/af_vsock.c vsock_shutdown, vsock_accept). Pure.
bool facts_wake(const struct facts *f);


#endif
