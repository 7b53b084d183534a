// What the exports_*.c files share. An export says what the program did, never what follows from it.
#ifndef PRECLOSE_EXPORTS_H
#define PRECLOSE_EXPORTS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "misuse.h"
#include "place.h"
#include "real.h"
#include "track.h"

#define EXPORT __attribute__((visibility("default")))

// The place of the call that the program made: an address inside the calling instruction.
#define CALLER ((uintptr_t)__builtin_return_address(0) - 1)

// The logic behind names that also come through syscall(2). raw: by syscall(), whose next in line is called
// with the same numbers.
int let_go_close(int fd, uintptr_t pc, int (*next)(int));
int let_go_dup3(int from, int to, int flags, enum call call, uintptr_t pc, bool raw);
int let_go_close_range(unsigned first, unsigned last, int flags, uintptr_t pc, bool raw);

// fd is a new socket of the program, or sv are two. Keep errno.
void got_socket(int fd, int domain, int type, int protocol, enum call call, uintptr_t pc);
void got_socketpair(const int sv[2], int domain, int type, int protocol, uintptr_t pc);
// fd was accepted from listener, or the accept failed (fd < 0).
int got_accepted(int fd, int listener, bool cloexec, enum call call, uintptr_t pc);
// fd is what pidfd_getfd returned: a duplicate of some process's, or -1.
int got_from(int fd, uintptr_t pc);
void got_epoll(int set, bool cloexec);
// fd is about to be bound to the address, which need not be readable; and how that ended. Keeps errno.
void bind_begin(int fd, const struct sockaddr *address, socklen_t length);
int bound(int fd, const struct sockaddr *address, socklen_t length, int ret, uintptr_t pc);
// How a connect of fd ended. Keeps errno.
int connected(int fd, int ret, uintptr_t pc);
// fd is, or is becoming, a connection of the program's. Keeps errno.
void got_connection(int fd);
// A duplicate is about to be made, and has been made.
struct ofd *duplicate_begin(int from);
void duplicate_end(struct ofd *pinned, int from, int to, bool cloexec);
int duplicated(struct ofd *pinned, int from, int to, bool cloexec, enum call call, uintptr_t pc);
// A message has come: descriptors in it are the program's from now on.
void got_message(const struct msghdr *m, int flags, enum call call, uintptr_t pc);
// n messages of size bytes each are about to go over a socket: what they carry is another process's too. A socket that
// is known to carry none is believed, and the messages looked at when the kernel has read them: the record may be stale.
// Returns whether they have been looked at. Then: n have gone.
bool pass_begin(int over, const void *messages, unsigned n, size_t size);
void pass_end(bool begun, const void *messages, long n, size_t size);
// Can n bytes (at least 8) of the program's memory be read? False also where we may not ask.
bool is_readable(const void *at, size_t n);
// epoll_ctl is about to be called: an addition is noted now, as its first event may close the socket before it
// returns, and until it has ended the socket counts as held. Returns what epoll_end takes. Then how it ended
// (ret 0 or -1). Keeps errno.
struct ofd *epoll_begin(int set, int op, int fd);
void epoll_end(struct ofd *pinned, int set, int op, int fd, int ret);
// A clone with these flags is about to happen, or has.
void note_clone(unsigned long flags);
// An unshare with these flags is about to happen.
void note_unshare(unsigned long flags);
void shut(int fd, int how);
// An option is about to be set, and has been set.
void option_begin(int fd, int level, int name);
void option_set(int fd, int level, int name);
void fcntl_done(int fd, int cmd, long arg);
void ioctl_begin(unsigned long request, const void *arg);
void ioctl_done(int fd, unsigned long request);

#endif
