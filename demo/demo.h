// What the demos share: a TCP connection to look at, the kernel's view of its two ends, and tables.
// A function that cannot do its job says why on stderr and ends the program with status 1.
#ifndef PRECLOSE_DEMO_H
#define PRECLOSE_DEMO_H

#include <stdbool.h>

// Both ends of one TCP connection over 127.0.0.1. The ports name the connection when the
// descriptors are long closed.
struct pair {
    int client;
    int server;
    int client_port;
    int server_port;
};

// One end of a connection as the kernel lists it in /proc/net/tcp.
struct end {
    const char *state; // as TCP names it: "ESTABLISHED", "CLOSE_WAIT"...; "gone" if not listed
    long unread;       // bytes received and not read; of a listener: connections not accepted
    long unsent;       // bytes written that the other end has not acknowledged
};

// What somebody read from a connection until it ended.
struct received {
    long bytes;
    const char *end; // "EOF", or the error: "ECONNRESET"
};

// A table is as many columns as it has widths above 0.
struct table {
    int width[8];
};

// RESULT if it is not negative; otherwise ends the program with what failed and errno.
int must(const char *what, long result);

// A listening TCP socket on 127.0.0.1, on a port that the kernel picks and *PORT receives.
int loopback_listen(int *port);

// A TCP socket connected to that port; -1 with errno if it is refused. *OWN_PORT may be null.
int loopback_connect(int port, int *own_port);

// A UDP socket on 127.0.0.1, on a port that the kernel picks and *PORT receives.
int loopback_udp(int *port);

// A connection with both its ends in this process.
struct pair loopback_pair(void);

// One end, by its own port and the port it talks to (0: a listener). FAMILY is "tcp" or "udp".
// The kernel lists a connection also when no descriptor for it is left (proc(5), /proc/net/tcp).
struct end look(const char *family, int own_port, int peer_port);

// Looks until an end is in STATE, for at most 5 s. Returns the state it is in then.
const char *await_state(int own_port, int peer_port, const char *state);

// Looks until at least BYTES wait to be read at an end, for at most 5 s. Returns how many do.
long await_unread(int own_port, int peer_port, long bytes);

// Looks until the other end has acknowledged or refused all that was written, for at most 5 s.
void await_delivery(int own_port, int peer_port);

// Waits until thread TID of this process is shown blocked in a system call, for at most 5 s.
void await_blocked(int tid);

// Sends until the kernel takes no more: its buffers on both sides are full. Returns the bytes.
long fill(int fd);

// Reads until the connection ends.
struct received read_to_end(int fd);

// A clock, in seconds, and a sleep. A demo sleeps only where it plays somebody slow.
double seconds(void);
void sleep_seconds(double time);

// The result of read, write and their like in a word: "6 bytes", "0", or errno's name: "EPIPE".
const char *outcome(long result);

// printf into a string that lives until the same thread has made 32 more.
__attribute__((format(printf, 1, 2))) const char *text(const char *format, ...);

// A line of a table; the first one underlined. The cells are strings, one for each column.
void table_head(const struct table *table, ...);
void table_row(const struct table *table, ...);

#endif
