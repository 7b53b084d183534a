// A dlsym that opens and closes sockets, as that of an overlay that looks into every lookup would: the library's own lookups
// come through here, when it has nothing yet to call. It jumps to the real one, which must see who asked (RTLD_NEXT).
#include <dlfcn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static __thread int inside __attribute__((tls_model("initial-exec")));
static void *(*real)(void *, const char *);

__attribute__((noinline)) static void use_sockets(void)
{
    int sv[2];
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (inside) return;
    inside = 1;
    if (!real) {
        real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
        if (!real) real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    }
    if (!socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) {
        int d = dup(sv[0]);
        close(sv[0]);
        if (sendmsg(d, &m, MSG_NOSIGNAL) != 1 || recvmsg(sv[1], &m, 0) != 1) _exit(3);
        dup2(d, sv[1]);
        shutdown(d, SHUT_RDWR);
        close(sv[1]);
        close(d);
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd >= 0) close(fd);
    inside = 0;
}

__attribute__((optimize("O2"))) void *dlsym(void *restrict handle, const char *restrict name)
{
    use_sockets();
    return real(handle, name);
}
