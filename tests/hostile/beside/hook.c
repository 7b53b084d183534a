// The next in line behind the library: what the library calls comes here, then goes to libc. A test hooks in before
// and after, and so runs what other threads would just when the kernel has answered and the library does not know yet.
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

void (*beside_before)(const char *call, int fd);
void (*beside_after)(const char *call, int ret);

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define HOOKED(name, fd, types, ...)                         \
    {                                                        \
        static int(*real) types;                             \
        if (!real) *(void **)&real = next(#name);            \
        if (beside_before) beside_before(#name, fd);         \
        int ret = real(__VA_ARGS__);                         \
        if (beside_after) beside_after(#name, ret);          \
        return ret;                                          \
    }

int close(int fd) HOOKED(close, fd, (int), fd)
int dup(int fd) HOOKED(dup, fd, (int), fd)
int dup2(int from, int to) HOOKED(dup2, to, (int, int), from, to)
int dup3(int from, int to, int flags) HOOKED(dup3, to, (int, int, int), from, to, flags)
int socket(int domain, int type, int protocol) HOOKED(socket, -1, (int, int, int), domain, type, protocol)
int socketpair(int domain, int type, int protocol, int sv[2])
    HOOKED(socketpair, -1, (int, int, int, int *), domain, type, protocol, sv)
int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict n)
    HOOKED(accept, fd, (int, struct sockaddr *, socklen_t *), fd, address, n)
int shutdown(int fd, int how) HOOKED(shutdown, fd, (int, int), fd, how)
int prctl(int option, ...)
{
    unsigned long a[4];
    va_list more;
    va_start(more, option);
    for (int i = 0; i < 4; i++) a[i] = va_arg(more, unsigned long);
    va_end(more);
    HOOKED(prctl, option, (int, ...), option, a[0], a[1], a[2], a[3])
}
int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
    HOOKED(epoll_ctl, fd, (int, int, int, struct epoll_event *), set, op, fd, event)
