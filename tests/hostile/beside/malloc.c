// A malloc that opens and closes sockets whenever it is called, as one that reports to a profiler would.
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *at, size_t n);
extern void __libc_free(void *at);

static __thread int inside __attribute__((tls_model("initial-exec")));

static void use_sockets(void)
{
    int sv[2], saved = errno;
    if (inside) return;
    inside = 1;
    if (!socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) {
        int d = dup(sv[0]);
        close(sv[0]);
        close(sv[1]);
        close(d);
    }
    inside = 0;
    errno = saved;
}

void *malloc(size_t n)
{
    use_sockets();
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    use_sockets();
    return __libc_calloc(n, size);
}

void *realloc(void *at, size_t n)
{
    use_sockets();
    return __libc_realloc(at, n);
}

void free(void *at)
{
    use_sockets();
    __libc_free(at);
}
