// The ways a program gets a descriptor, and what it does to it that matters at close.
#include "exports.h"

#include <fcntl.h>
#include <linux/nbd.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guard.h"
#include "life.h"
#include "release.h"
#include "sys.h"
#include "watch.h"

static bool is_connected(int fd, enum kind kind)
{
    enum tcp_state state = probe_state(fd, kind);
    return state == TCP_STATE_ESTABLISHED || state == TCP_STATE_CLOSE_WAIT;
}

static struct opening opening(int fd, enum kind kind, bool cloexec, enum call call, uintptr_t pc)
{
    return (struct opening){
        .place = place_here(call, pc),
        .cookie = probe_identity(fd),
        .kind = kind,
        .cloexec = cloexec,
    };
}

// Where the number has been closed again, unseen, there is no cookie.
static void opened(int fd, const struct opening *o)
{
    if (o->cookie) track_open(fd, o);
    else track_unpin(NULL, fd, false);
}

static bool begin(struct guard *g, const int *fds, unsigned n)
{
    enum entry entry = guard_enter(g);
    for (unsigned i = 0; entry == ENTRY_NESTED && i < n; i++) track_mark(fds[i], 0, FD_SOCKET | FD_EPOLL | FD_CLOSED);
    if (entry != ENTRY_OK) return false;
    misuse_flush_own();
    if (life_has_socket()) guard_mask(g);
    return true;
}

// It came from another process, and may be anything, with any options.
static void got_foreign(int fd, bool cloexec, enum call call, uintptr_t pc)
{
    struct guard g;
    if (!begin(&g, &fd, 1)) return;
    struct opening o = opening(fd, probe_kind(fd), cloexec, call, pc);
    o.share = SHARE_PASSED;
    o.asks = true;
    o.connected = is_connected(fd, o.kind);
    opened(fd, &o);
    watch_leave(&g);
}

void got_socket(int fd, int domain, int type, int protocol, enum call call, uintptr_t pc)
{
    struct guard g;
    if (!begin(&g, &fd, 1)) return;
    struct opening o = opening(fd, kind_of(domain, type, protocol), type & SOCK_CLOEXEC, call, pc);
    o.asks = protocol == IPPROTO_MPTCP;
    opened(fd, &o);
    watch_leave(&g);
}

void got_socketpair(const int sv[2], int domain, int type, int protocol, uintptr_t pc)
{
    struct guard g;
    if (!begin(&g, sv, 2)) return;
    struct opening o = opening(sv[0], kind_of(domain, type, protocol), type & SOCK_CLOEXEC, CALL_SOCKETPAIR, pc);
    opened(sv[0], &o);
    o.cookie = probe_identity(sv[1]);
    opened(sv[1], &o);
    watch_leave(&g);
}

static void accepted(int fd, int listener, bool cloexec, enum call call, uintptr_t pc)
{
    struct guard g;
    if (!begin(&g, &fd, 1)) return;
    struct opening o = opening(fd, KIND_OTHER, cloexec, call, pc);
    o.connected = true;
    if (!o.cookie || !track_accepted(fd, listener, &o)) {
        o.kind = probe_kind(fd);
        o.asks = true;
        opened(fd, &o);
    }
    watch_leave(&g);
}

int got_accepted(int fd, int listener, bool cloexec, enum call call, uintptr_t pc)
{
    if (fd < 0) {
        if (errno == EBADF) {
            misuse_use(listener, call, pc);
            misuse_accept(listener, call, pc);
        }
        return fd;
    }
    accepted(fd, listener, cloexec, call, pc);
    got_connection(fd);
    return fd;
}

int got_from(int fd, uintptr_t pc)
{
    if (fd < 0) return fd;
    struct guard g;
    int same = -1;
    if (guard_enter(&g) == ENTRY_OK) {
        same = track_find(probe_identity(fd)); // the process that it came from may be this one
        if (same >= 0) {
            track_passed(same);
            track_unpin(track_pin(same), fd, true);
        }
        guard_leave(&g);
    }
    if (same < 0) got_foreign(fd, true, CALL_PIDFD_GETFD, pc);
    return fd;
}

void got_epoll(int set, bool cloexec)
{
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_NESTED) track_mark(set, 0, FD_SOCKET | FD_EPOLL | FD_CLOSED);
    if (entry != ENTRY_OK) return;
    track_open_epoll(set, cloexec);
    guard_leave(&g);
}

struct ofd *duplicate_begin(int from)
{
    if (!(track_state(from) & (FD_SOCKET | FD_EPOLL | FD_CLOSING))) return NULL;
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_NESTED) track_mark(from, FD_DOUBT, 0);
    if (entry == ENTRY_OFF) track_mark(from, FD_LEAKED, 0); // a vfork child, before its exec
    if (entry != ENTRY_OK) return NULL;
    struct ofd *pinned = track_pin(from);
    if (!pinned) release_disturb(from);
    guard_leave(&g);
    return pinned;
}

void duplicate_end(struct ofd *pinned, int from, int to, bool cloexec)
{
    if (!pinned && (to < 0 || !track_state(to))) return;
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_NESTED) {
        track_mark(from, FD_DOUBT, 0);
        track_mark(to, 0, FD_SOCKET | FD_EPOLL | FD_CLOSED);
    }
    if (entry != ENTRY_OK) return;
    track_unpin(pinned, to, cloexec);
    guard_leave(&g);
}

int duplicated(struct ofd *pinned, int from, int to, bool cloexec, enum call call, uintptr_t pc)
{
    if (to < 0 && errno == EBADF) misuse_use(from, call, pc);
    duplicate_end(pinned, from, to, cloexec);
    return to;
}

static void got_descriptors(const struct cmsghdr *c, int flags, enum call call, uintptr_t pc)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        if (fd >= 0) got_foreign(fd, flags & MSG_CMSG_CLOEXEC, call, pc);
    }
}

void got_message(const struct msghdr *m, int flags, enum call call, uintptr_t pc)
{
    if (m->msg_controllen < CMSG_LEN(sizeof(int))) return;
    struct msghdr copy = *m; // CMSG_NXTHDR wants one that may change
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(0))
            got_descriptors(c, flags, call, pc);
}

struct ofd *epoll_begin(int set, int op, int fd)
{
    if (op != EPOLL_CTL_ADD || !(track_state(fd) & (FD_SOCKET | FD_CLOSING))) return NULL;
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_NESTED) track_mark(fd, FD_DOUBT, 0);
    if (entry != ENTRY_OK) return NULL;
    struct ofd *pinned = track_pin(fd);
    if (pinned) track_epoll_add(set, fd);
    else release_disturb(fd);
    guard_leave(&g);
    return pinned;
}

// An addition that failed stays noted, as the number may be another socket's by now: that socket is left alone.
void epoll_end(struct ofd *pinned, int set, int op, int fd, int ret)
{
    bool gone = op == EPOLL_CTL_DEL && ret == 0 && track_state(fd) & FD_SOCKET;
    if (!pinned && !gone) return;
    struct guard g;
    if (guard_enter(&g) != ENTRY_OK) return;
    if (pinned) track_unpin(pinned, -1, false);
    if (gone) track_epoll_del(set, fd);
    guard_leave(&g);
}

static void flag(int fd, unsigned flags)
{
    if (!(track_state(fd) & FD_SOCKET)) return;
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_NESTED) track_mark(fd, FD_DOUBT, 0);
    if (entry != ENTRY_OK) return;
    track_flags(fd, flags);
    guard_leave(&g);
}

void shut(int fd, int how)
{
    flag(fd, how == SHUT_RD ? SOCK_SHUT_RD : how == SHUT_WR ? SOCK_SHUT_WR : SOCK_SHUT_RD | SOCK_SHUT_WR);
}

void option_begin(int fd, int level, int name)
{
    if (level == SOL_SOCKET && name == SO_LINGER) flag(fd, SOCK_ASK);
}

void option_set(int fd, int level, int name)
{
    if (level == IPPROTO_TCP && (name == TCP_ULP || name == TCP_REPAIR)) flag(fd, SOCK_HANDS_OFF);
}

static void cloexec_set(int fd, bool on)
{
    if (!(track_state(fd) & (FD_SOCKET | FD_EPOLL | FD_CLOSING))) return;
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_NESTED) track_mark(fd, FD_DOUBT, 0);
    if (entry == ENTRY_OFF && !on) track_mark(fd, FD_LEAKED, 0);
    if (entry != ENTRY_OK) return;
    if (!track_cloexec(fd, on) && !on) release_disturb(fd); // the next program that is run gets it
    guard_leave(&g);
}

void fcntl_done(int fd, int cmd, long arg)
{
    if (cmd == F_SETFD) cloexec_set(fd, arg & FD_CLOEXEC);
    else if (cmd == F_SETFL && arg & O_ASYNC) flag(fd, SOCK_ASYNC);
}

EXPORT int socket(int domain, int type, int protocol)
{
    int fd = real()->socket(domain, type, protocol);
    if (fd >= 0) got_socket(fd, domain, type, protocol, CALL_SOCKET, CALLER);
    return fd;
}

EXPORT int socketpair(int domain, int type, int protocol, int sv[2])
{
    int ret = real()->socketpair(domain, type, protocol, sv);
    if (ret == 0) got_socketpair(sv, domain, type, protocol, CALLER);
    return ret;
}

// glibc declares the address as a union of pointers (sys/socket.h).
EXPORT int accept(int fd, __SOCKADDR_ARG address, socklen_t *length)
{
    int new = real()->accept(fd, address.__sockaddr__, length);
    return got_accepted(new, fd, false, CALL_ACCEPT, CALLER);
}

EXPORT int accept4(int fd, __SOCKADDR_ARG address, socklen_t *length, int flags)
{
    int new = real()->accept4(fd, address.__sockaddr__, length, flags);
    return got_accepted(new, fd, flags & SOCK_CLOEXEC, CALL_ACCEPT4, CALLER);
}

EXPORT int dup(int fd)
{
    if (!track_state(fd)) {
        int to = real_functions.dup(fd);
        if (to >= 0 && track_state(to)) duplicate_end(NULL, fd, to, false);
        return to;
    }
    struct ofd *pinned = duplicate_begin(fd);
    return duplicated(pinned, fd, real()->dup(fd), false, CALL_DUP, CALLER);
}

typedef int fcntl_function(int, int, ...);

static int do_fcntl(fcntl_function *next, int fd, int cmd, long arg, uintptr_t pc)
{
    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) {
        struct ofd *pinned = duplicate_begin(fd);
        return duplicated(pinned, fd, next(fd, cmd, arg), cmd == F_DUPFD_CLOEXEC, CALL_FCNTL, pc);
    }
    int ret = next(fd, cmd, arg);
    if (ret >= 0) fcntl_done(fd, cmd, arg);
    return ret;
}

EXPORT int fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    return do_fcntl(real()->fcntl, fd, cmd, arg, CALLER);
}

EXPORT int __fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    return do_fcntl(real()->fcntl, fd, cmd, arg, CALLER);
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    return do_fcntl(real()->fcntl64, fd, cmd, arg, CALLER);
}

// Requests that hand a socket on: to the process that a seccomp supervisor serves, to a block device.
void ioctl_begin(unsigned long request, const void *arg)
{
    int fd = -1;
    if (request == NBD_SET_SOCK) fd = (int)(uintptr_t)arg;
    if (request == SECCOMP_IOCTL_NOTIF_ADDFD && is_readable(arg, sizeof(struct seccomp_notif_addfd)))
        fd = (int)((const struct seccomp_notif_addfd *)arg)->srcfd;
    struct guard g;
    if (!(track_state(fd) & FD_SOCKET) || guard_enter(&g) != ENTRY_OK) return;
    track_passed(fd);
    guard_leave(&g);
}

void ioctl_done(int fd, unsigned long request)
{
    if (request == FIOCLEX || request == FIONCLEX) cloexec_set(fd, request == FIOCLEX);
    else if (request == FIOASYNC) flag(fd, SOCK_ASYNC);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    ioctl_begin(request, arg);
    int ret = real()->ioctl(fd, request, arg);
    if (ret >= 0) ioctl_done(fd, request);
    return ret;
}

EXPORT int shutdown(int fd, int how)
{
    int ret = real()->shutdown(fd, how);
    if (ret == 0) shut(fd, how);
    else if (errno == EBADF) misuse_use(fd, CALL_SHUTDOWN, CALLER);
    return ret;
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    option_begin(fd, level, name);
    int ret = real()->setsockopt(fd, level, name, value, length);
    if (ret == 0) option_set(fd, level, name);
    else if (errno == EBADF) misuse_use(fd, CALL_SETSOCKOPT, CALLER);
    return ret;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    ssize_t ret = real()->recvmsg(fd, m, flags);
    if (ret >= 0) got_message(m, flags, CALL_RECVMSG, CALLER);
    return ret;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout)
{
    int ret = real()->recvmmsg(fd, m, n, flags, timeout);
    for (int i = 0; i < ret; i++) got_message(&m[i].msg_hdr, flags, CALL_RECVMMSG, CALLER);
    return ret;
}

EXPORT int epoll_create(int size)
{
    int set = real()->epoll_create(size);
    if (set >= 0) got_epoll(set, false);
    return set;
}

EXPORT int epoll_create1(int flags)
{
    int set = real()->epoll_create1(flags);
    if (set >= 0) got_epoll(set, flags & EPOLL_CLOEXEC);
    return set;
}

EXPORT int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    struct ofd *pinned = epoll_begin(set, op, fd);
    int ret = real()->epoll_ctl(set, op, fd, event);
    epoll_end(pinned, set, op, fd, ret);
    return ret;
}

EXPORT int pidfd_getfd(int pidfd, int target, unsigned flags)
{
    return got_from(real()->pidfd_getfd(pidfd, target, flags), CALLER);
}
