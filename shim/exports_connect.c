// The ways a program gives a socket an address or a peer.
#include "exports.h"

#include <netinet/in.h>

#include "guard.h"
#include "options.h"
#include "watch.h"

// Is this an address of TCP with a port? The program may hand in anything and expect EFAULT or EINVAL.
static bool names_port(const struct sockaddr *address, socklen_t length)
{
    if (length < sizeof(struct sockaddr_in) || !is_readable(address, sizeof(struct sockaddr_in))) return false;
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
    return (in->sin_family == AF_INET || in->sin_family == AF_INET6) && in->sin_port; // the same place in both
}

void bind_begin(int fd, const struct sockaddr *address, socklen_t length)
{
    struct guard g;
    if (!options_for_bind() || !names_port(address, length) || guard_enter(&g) != ENTRY_OK) return;
    options_before_bind(fd);
    guard_leave(&g);
}

int bound(int fd, const struct sockaddr *address, socklen_t length, int ret, uintptr_t pc)
{
    if (ret == 0) return ret;
    if (errno == EBADF) misuse_use(fd, CALL_BIND, pc);
    if (errno == EADDRINUSE) misuse_bind(fd, address, length, pc); // the kernel has read the address
    return ret;
}

void got_connection(int fd)
{
    struct guard g;
    if (!options_for_connections() || guard_enter(&g) != ENTRY_OK) return;
    options_on_connection(fd);
    guard_leave(&g);
}

static void note_connection(int fd)
{
    struct guard g;
    if (!(track_state(fd) & FD_TCP) || guard_enter(&g) != ENTRY_OK) return;
    track_connected(fd);
    watch_leave(&g);
}

int connected(int fd, int ret, uintptr_t pc)
{
    bool made = ret == 0 || errno == EINPROGRESS || errno == EINTR; // the last two: under way
    if (made) got_connection(fd);
    if (made) note_connection(fd);
    else if (errno == EBADF) misuse_use(fd, CALL_CONNECT, pc);
    return ret;
}

// glibc declares the address as a union of pointers (sys/socket.h).
EXPORT int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    bind_begin(fd, address.__sockaddr__, length);
    int ret = real()->bind(fd, address.__sockaddr__, length);
    return bound(fd, address.__sockaddr__, length, ret, CALLER);
}

EXPORT int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    return connected(fd, real()->connect(fd, address.__sockaddr__, length), CALLER);
}

EXPORT int __connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    return connected(fd, real()->connect(fd, address.__sockaddr__, length), CALLER);
}
