#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdarg.h>
#include <string.h>

#include "sys.h"

_Atomic bool real_loaded;

// vfork cannot be called through C (its child would return through our frame): exports_vfork.S jumps here.
__attribute__((visibility("hidden"))) void *real_vfork;
// Nor can what takes any number of arguments: exports_exec.S.
#define EXEC(name) __attribute__((visibility("hidden"))) void *real_##name;
#include "exec.def"
#undef EXEC

static __thread bool loading __attribute__((tls_model("initial-exec")));

static long result(long ret)
{
    if (ret >= 0 || ret < -4095) return ret;
    errno = (int)-ret;
    return -1;
}

// What serves while the loader looks the functions up.
// Until then, a call that comes before the constructor has them looked up.
static int early_close(int fd)
{
    if (!loading) return real()->close(fd);
    return (int)result(sys_call(SYS_close, fd, 0, 0));
}

static int early_dup(int fd)
{
    if (!loading) return real()->dup(fd);
    return (int)result(sys_call(SYS_dup, fd, 0, 0));
}

static int early_dup3(int from, int to, int flags)
{
    return (int)result(sys_call(SYS_dup3, from, to, flags));
}

static int early_dup2(int from, int to)
{
    if (from == to) return (int)result(sys_call(SYS_fcntl, from, F_GETFD, 0)) < 0 ? -1 : to;
    return early_dup3(from, to, 0);
}

static int early_socket(int domain, int type, int protocol)
{
    return (int)result(sys_call(SYS_socket, domain, type, protocol));
}

static int early_socketpair(int domain, int type, int protocol, int *sv)
{
    return (int)result(sys_call4(SYS_socketpair, domain, type, protocol, (long)sv));
}

static int early_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    return (int)result(sys_call(SYS_bind, fd, (long)address, length));
}

static int early_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    return (int)result(sys_call(SYS_connect, fd, (long)address, length));
}

static int early_fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    return (int)result(sys_call(SYS_fcntl, fd, cmd, arg));
}

static int early_ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    long arg = va_arg(args, long);
    va_end(args);
    return (int)result(sys_call(SYS_ioctl, fd, (long)request, arg));
}

static int early_shutdown(int fd, int how)
{
    return (int)result(sys_call(SYS_shutdown, fd, how, 0));
}

static int early_setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    return (int)result(sys_call6(SYS_setsockopt, fd, level, name, (long)value, n, 0));
}

static ssize_t early_sendmsg(int fd, const struct msghdr *m, int flags)
{
    return result(sys_call(SYS_sendmsg, fd, (long)m, flags));
}

static ssize_t early_recvmsg(int fd, struct msghdr *m, int flags)
{
    return result(sys_call(SYS_recvmsg, fd, (long)m, flags));
}

static int early_epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    return (int)result(sys_call4(SYS_epoll_ctl, set, op, fd, (long)event));
}

static long early_syscall(long nr, ...)
{
    long a[6];
    va_list args;
    va_start(args, nr);
    for (int i = 0; i < 6; i++) a[i] = va_arg(args, long);
    va_end(args);
    return result(sys_call6(nr, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static int early_pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    return (int)result(sys_call(SYS_pidfd_getfd, pidfd, fd, (long)flags));
}

// Absent from this libc: the program cannot have been linked with it. As on a kernel that is too old.
static int absent_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const *argv, char *const *envp)
{
    (void)pidfd, (void)path, (void)actions, (void)attributes, (void)argv, (void)envp;
    return ENOSYS;
}

struct real real_functions = {
    .close = early_close,
    .__close = early_close,
    .dup = early_dup,
    .dup2 = early_dup2,
    .dup3 = early_dup3,
    .socket = early_socket,
    .socketpair = early_socketpair,
    .bind = early_bind,
    .connect = early_connect,
    .fcntl = early_fcntl,
    .fcntl64 = early_fcntl,
    .ioctl = early_ioctl,
    .shutdown = early_shutdown,
    .setsockopt = early_setsockopt,
    .sendmsg = early_sendmsg,
    .recvmsg = early_recvmsg,
    .epoll_ctl = early_epoll_ctl,
    .pidfd_getfd = early_pidfd_getfd,
    .pidfd_spawn = absent_spawn,
    .pidfd_spawnp = absent_spawn,
    .syscall = early_syscall,
};

// A lookup that fails allocates, and the first call that we see may be from a malloc that is just setting itself up
// (jemalloc): what libc is too old for is not looked up.
static bool libc_has(unsigned minor)
{
    const char *version = gnu_get_libc_version(); // "2.36"
    unsigned ours = 0;
    if (version[0] != '2' || version[1] != '.') return true;
    for (const char *c = version + 2; *c >= '0' && *c <= '9'; c++) ours = ours * 10 + (unsigned)(*c - '0');
    return ours >= minor;
}

static void look_up(void *slot, unsigned minor, const char *name)
{
    void *at = real_optional(minor, name);
    if (at) *(void **)slot = at;
}

void real_load(void)
{
    if (loading) return;
    loading = true;
    int saved = errno;
#define REAL(ret, name, params) look_up(&real_functions.name, 0, #name);
#define REAL_SINCE(minor, ret, name, params) look_up(&real_functions.name, minor, #name);
#include "real.def"
#undef REAL
#undef REAL_SINCE
    look_up(&real_vfork, 0, "vfork");
#define EXEC(name) look_up(&real_##name, 0, #name);
#include "exec.def"
#undef EXEC
    atomic_store_explicit(&real_loaded, true, memory_order_release);
    errno = saved;
    loading = false;
}

void *real_optional(unsigned minor, const char *name)
{
    return libc_has(minor) ? dlsym(RTLD_NEXT, name) : NULL;
}

static int is_object(struct dl_phdr_info *info, size_t size, void *part)
{
    (void)size;
    return strstr(info->dlpi_name, part) != NULL;
}

bool real_has_object(const char *part)
{
    return dl_iterate_phdr(is_object, (void *)(uintptr_t)part) != 0;
}
