// The same calls by number, through syscall(2): Node.js closes that way.
#include "exports.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "family.h"
#include "guard.h"
#include "life.h"
#include "probe.h"
#include "sys.h"
#include "threads.h"
#include "watch.h"

static int next_close(int fd)
{
    return (int)real()->syscall(SYS_close, fd);
}

static long next(long nr, const long a[6])
{
    return real()->syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// A fork by number: no atfork handler runs.
static long do_fork(long nr, const long a[6], unsigned long flags)
{
    if (flags & (CLONE_VM | CLONE_FILES)) {
        note_clone(flags);
        return next(nr, a);
    }
    life_before_fork();
    long ret = next(nr, a);
    life_after_fork(ret == 0);
    return ret;
}

static unsigned long clone3_flags(const long a[6])
{
    // An address that cannot be read is the kernel's to complain about: the call will fail.
    const struct clone_args *args = (const struct clone_args *)a[0];
    return is_readable(args, sizeof *args < (size_t)a[1] ? sizeof *args : (size_t)a[1]) ? args->flags : CLONE_FILES;
}

static long sandbox(long nr, const long a[6])
{
    life_sandbox_begin();
    long ret = next(nr, a);
    life_sandbox_end(ret >= 0);
    return ret;
}

static long move(long nr, const long a[6])
{
    if (nr == SYS_unshare) note_unshare((unsigned long)a[0]);
    bool barred = watch_bar();
    long ret = next(nr, a);
    watch_unbar(barred);
    return ret;
}

static long get(long nr, const long a[6], uintptr_t pc)
{
    struct ofd *pinned;
    long ret;
    switch (nr) {
    case SYS_socket:
        ret = next(nr, a);
        if (ret >= 0) got_socket((int)ret, (int)a[0], (int)a[1], (int)a[2], CALL_SOCKET, pc);
        return ret;
    case SYS_socketpair:
        ret = next(nr, a);
        if (ret == 0) got_socketpair((const int *)a[3], (int)a[0], (int)a[1], (int)a[2], pc);
        return ret;
    case SYS_accept:
        return got_accepted((int)next(nr, a), (int)a[0], false, CALL_ACCEPT, pc);
    case SYS_accept4:
        return got_accepted((int)next(nr, a), (int)a[0], a[3] & SOCK_CLOEXEC, CALL_ACCEPT4, pc);
    case SYS_pidfd_getfd:
        return got_from((int)next(nr, a), pc);
    case SYS_dup:
        pinned = duplicate_begin((int)a[0]);
        return duplicated(pinned, (int)a[0], (int)next(nr, a), false, CALL_DUP, pc);
    default: // SYS_fcntl
        if (a[1] == F_DUPFD || a[1] == F_DUPFD_CLOEXEC) {
            pinned = duplicate_begin((int)a[0]);
            return duplicated(pinned, (int)a[0], (int)next(nr, a), a[1] == F_DUPFD_CLOEXEC, CALL_FCNTL, pc);
        }
        ret = next(nr, a);
        if (ret >= 0) fcntl_done((int)a[0], (int)a[1], a[2]);
        return ret;
    }
}

static long message(long nr, const long a[6], uintptr_t pc)
{
    const bool one = nr == SYS_sendmsg, sends = one || nr == SYS_sendmmsg;
    const size_t size = one ? sizeof(struct msghdr) : sizeof(struct mmsghdr);
    bool begun = sends && pass_begin((int)a[0], (const void *)a[1], one ? 1 : (unsigned)a[2], size);
    long ret = next(nr, a);
    if (sends) pass_end(begun, (const void *)a[1], one ? ret >= 0 : ret, size);
    if (nr == SYS_recvmsg && ret >= 0) got_message((const struct msghdr *)a[1], (int)a[2], CALL_RECVMSG, pc);
    for (long i = 0; nr == SYS_recvmmsg && i < ret; i++)
        got_message(&((const struct mmsghdr *)a[1])[i].msg_hdr, (int)a[3], CALL_RECVMMSG, pc);
    return ret;
}

static long name(long nr, const long a[6], uintptr_t pc)
{
    if (nr == SYS_connect) return connected((int)a[0], (int)next(nr, a), pc);
    const struct sockaddr *address = (const struct sockaddr *)a[1];
    bind_begin((int)a[0], address, (socklen_t)a[2]);
    return bound((int)a[0], address, (socklen_t)a[2], (int)next(nr, a), pc);
}

// Calls that change what is known of a descriptor, once they have succeeded.
static long change(long nr, const long a[6], uintptr_t pc)
{
    if (nr == SYS_ioctl) ioctl_begin((unsigned long)a[1], (const void *)a[2]);
    if (nr == SYS_setsockopt) option_begin((int)a[0], (int)a[1], (int)a[2]);
    struct ofd *pinned = nr == SYS_epoll_ctl ? epoll_begin((int)a[0], (int)a[1], (int)a[2]) : NULL;
    long ret = next(nr, a);
    if (nr == SYS_epoll_ctl) epoll_end(pinned, (int)a[0], (int)a[1], (int)a[2], (int)ret);
    if (ret < 0) {
        if (errno == EBADF && nr == SYS_shutdown) misuse_use((int)a[0], CALL_SHUTDOWN, pc);
        if (errno == EBADF && nr == SYS_setsockopt) misuse_use((int)a[0], CALL_SETSOCKOPT, pc);
        return ret;
    }
    if (nr == SYS_ioctl) ioctl_done((int)a[0], (unsigned long)a[1]);
    if (nr == SYS_shutdown) shut((int)a[0], (int)a[1]);
    if (nr == SYS_setsockopt) option_set((int)a[0], (int)a[1], (int)a[2]);
    if (nr == SYS_epoll_create1) got_epoll((int)ret, a[0] & EPOLL_CLOEXEC);
    struct guard g;
    if ((nr == SYS_io_uring_setup || nr == SYS_io_setup) && guard_enter(&g) == ENTRY_OK) { // not a vfork child's
        life_io_uring();
        guard_leave(&g);
    }
    return ret;
}

static long act_on_signal(long nr, const long a[6])
{
    if (a[1]) guard_handlers();
    long ret = next(nr, a);
    if (a[0] == SIGPIPE) threads_sigpipe_changes();
    return ret;
}

// What changes how the process goes on, or nothing that is known here.
static long run_on(long nr, const long a[6])
{
    if (nr == SYS_rt_sigaction) return act_on_signal(nr, a);
    if (nr == SYS_execve || nr == SYS_execveat) family_exec();
    if (nr != SYS_exit_group) return next(nr, a);
    life_end();
    return real()->syscall(nr, (long)life_status((int)a[0]));
}

static bool enters_sandbox(long nr, long operation)
{
    if (nr == SYS_prctl) return operation == PR_SET_SECCOMP;
    return operation == SECCOMP_SET_MODE_STRICT || operation == SECCOMP_SET_MODE_FILTER;
}

static long dispatch(long nr, const long a[6], uintptr_t pc)
{
    switch (nr) {
    case SYS_close:
        return let_go_close((int)a[0], pc, next_close);
    case SYS_close_range:
        return let_go_close_range((unsigned)a[0], (unsigned)a[1], (int)a[2], pc, true);
#ifdef SYS_dup2
    case SYS_dup2:
        return let_go_dup3((int)a[0], (int)a[1], 0, CALL_DUP2, pc, true);
#endif
    case SYS_dup3:
        return let_go_dup3((int)a[0], (int)a[1], (int)a[2], CALL_DUP3, pc, true);
    case SYS_socket:
    case SYS_socketpair:
    case SYS_accept:
    case SYS_accept4:
    case SYS_pidfd_getfd:
    case SYS_dup:
    case SYS_fcntl:
        return get(nr, a, pc);
    case SYS_bind:
    case SYS_connect:
        return name(nr, a, pc);
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_recvmsg:
    case SYS_recvmmsg:
        return message(nr, a, pc);
    case SYS_shutdown:
    case SYS_setsockopt:
    case SYS_ioctl:
    case SYS_epoll_ctl:
    case SYS_epoll_create1:
    case SYS_io_uring_setup:
    case SYS_io_setup:
        return change(nr, a, pc);
#ifdef SYS_fork
    case SYS_fork:
        return do_fork(nr, a, 0);
#endif
    case SYS_clone:
        return do_fork(nr, a, (unsigned long)a[0]);
    case SYS_clone3:
        return do_fork(nr, a, clone3_flags(a));
    case SYS_unshare:
    case SYS_setns:
        return move(nr, a);
    case SYS_seccomp:
    case SYS_prctl:
        return enters_sandbox(nr, a[0]) ? sandbox(nr, a) : next(nr, a);
    default:
        return run_on(nr, a);
    }
}

EXPORT long syscall(long nr, ...)
{
    long a[6];
    va_list more;
    va_start(more, nr);
    for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
    va_end(more);
    return dispatch(nr, a, CALLER);
}
