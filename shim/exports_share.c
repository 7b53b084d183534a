// The ways another process gets a descriptor.
#include "exports.h"

#include <limits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "family.h"
#include "guard.h"
#include "life.h"
#include "memory.h"
#include "release.h"
#include "sys.h"
#include "watch.h"

#define CONTROL_MAX ((size_t)1 << 20) // the kernel takes no more (net.core.optmem_max)

// Can the kernel read n bytes of the program's memory here? The program may hand in anything and expect EFAULT.
static bool readable(const void *from, size_t n)
{
    return n <= CONTROL_MAX && memory_check((uintptr_t)from, n) != -EFAULT;
}

bool is_readable(const void *at, size_t n)
{
    struct guard g;
    if (n < sizeof(uint64_t) || guard_enter(&g) != ENTRY_OK) return false;
    bool can = readable(at, n);
    guard_leave(&g);
    return can;
}

static void pass_descriptors(const struct cmsghdr *c, bool nested)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        bool known = track_state(fd) & (FD_SOCKET | FD_EPOLL | FD_CLOSING);
        if (nested ? known : track_is_lost()) family_tell(probe_identity(fd), TOLD_PASSED);
        if (known && nested) track_mark(fd, FD_DOUBT, 0);
        else if (known && !track_passed(fd)) release_disturb(fd);
    }
}

static void pass_control(const struct msghdr *m, bool nested)
{
    if (m->msg_controllen < CMSG_LEN(sizeof(int)) || !readable(m->msg_control, m->msg_controllen)) return;
    // By hand: CMSG_NXTHDR trusts what a header says of its length.
    const char *at = m->msg_control, *end = at + m->msg_controllen;
    while (end - at >= (ptrdiff_t)CMSG_LEN(0)) {
        const struct cmsghdr *c = (const struct cmsghdr *)(const void *)at;
        if (c->cmsg_len < CMSG_LEN(0) || c->cmsg_len > (size_t)(end - at)) return;
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) pass_descriptors(c, nested);
        if (CMSG_ALIGN(c->cmsg_len) > (size_t)(end - at)) return;
        at += CMSG_ALIGN(c->cmsg_len);
    }
}

static void pass_messages(const struct mmsghdr *m, unsigned n, size_t size)
{
    struct guard g;
    enum entry entry = guard_enter(&g);
    if (entry == ENTRY_OFF) return;
    if (n > 1024) n = 1024; // the kernel sends no more at once (UIO_MAXIOV)
    for (unsigned i = 0; i < n && readable(&m[i], size); i++)
        pass_control(&m[i].msg_hdr, entry == ENTRY_NESTED);
    if (entry == ENTRY_OK) guard_leave(&g);
}

bool pass_begin(int over, const void *m, unsigned n, size_t size)
{
    if ((track_state(over) & (FD_SOCKET | FD_CARRIER)) == FD_SOCKET) return false;
    pass_messages(m, n, size);
    return true;
}

void pass_end(bool begun, const void *messages, long n, size_t size)
{
    const struct mmsghdr *m = messages;
    if (begun) return;
    for (long i = 0; i < n; i++)
        if (m[i].msg_hdr.msg_controllen >= CMSG_LEN(sizeof(int))) pass_messages(&m[i], 1, size);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    bool begun = pass_begin(fd, m, 1, sizeof *m);
    ssize_t ret = real()->sendmsg(fd, m, flags);
    pass_end(begun, m, ret >= 0, sizeof *m);
    return ret;
}

static int send_messages(int fd, struct mmsghdr *m, unsigned n, int flags)
{
    bool begun = pass_begin(fd, m, n, sizeof *m);
    int ret = real()->sendmmsg(fd, m, n, flags);
    pass_end(begun, m, ret, sizeof *m);
    return ret;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags)
{
    return send_messages(fd, m, n, flags);
}

EXPORT int __sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags)
{
    return send_messages(fd, m, n, flags);
}

EXPORT pid_t _Fork(void)
{
    life_before_fork();
    pid_t pid = real()->_Fork();
    life_after_fork(pid == 0);
    return pid;
}

// Called by vfork (exports_vfork.S) before it jumps to the real one. The child may hand any descriptor on.
__attribute__((visibility("hidden"), used)) void before_vfork(void)
{
    real();
    guard_lends_memory(true);
    track_forked();
    release_wait_acting();
}

static void tell_of_unseen(void)
{
    struct guard g;
    if (guard_enter(&g) != ENTRY_OK) return;
    family_tell_of_all(TOLD_UNSEEN);
    guard_leave(&g);
}

void note_clone(unsigned long flags)
{
    if (flags & CLONE_VM) track_threads();
    if ((flags & (CLONE_VM | CLONE_THREAD)) == CLONE_VM)
        guard_lends_memory((flags & (CLONE_VFORK | CLONE_SETTLS)) == CLONE_VFORK);
    // A process that runs on in our memory: the calls that it makes are not looked at.
    if ((flags & (CLONE_VM | CLONE_THREAD | CLONE_VFORK)) == CLONE_VM) tell_of_unseen();
    // A thread with a table of its own, or a process that shares ours: it opens and closes what we do not see.
    if (!(flags & CLONE_FILES) != !(flags & CLONE_THREAD)) track_split();
    if (flags & CLONE_FILES) return;
    track_forked();
    release_wait_acting();
}

static int do_clone(int (*fn)(void *), void *stack, int flags, void *arg, va_list more)
{
    void *parent_tid = va_arg(more, void *);
    void *tls = va_arg(more, void *);
    void *child_tid = va_arg(more, void *);
    note_clone((unsigned long)flags);
    int ret = real()->clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
    note_clone((unsigned long)flags);
    return ret;
}

EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
    va_list more;
    va_start(more, arg);
    int ret = do_clone(fn, stack, flags, arg, more);
    va_end(more);
    return ret;
}

EXPORT int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
    va_list more;
    va_start(more, arg);
    int ret = do_clone(fn, stack, flags, arg, more);
    va_end(more);
    return ret;
}

// Called by the exec functions (exports_exec.S) before they jump to the real one.
__attribute__((visibility("hidden"), used)) void before_exec(void)
{
    real();
    family_exec();
}

static void before_spawn(void)
{
    family_exec();
    track_spawned();
    release_wait_acting();
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    before_spawn();
    int ret = real()->posix_spawn(pid, path, actions, attributes, argv, envp);
    track_spawned(); // again: for sockets that other threads have opened meanwhile
    return ret;
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    before_spawn();
    int ret = real()->posix_spawnp(pid, file, actions, attributes, argv, envp);
    track_spawned();
    return ret;
}

// glibc 2.39; older headers do not declare them.
int pidfd_spawn(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                char *const[]);
int pidfd_spawnp(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                 char *const[]);

EXPORT int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    before_spawn();
    int ret = real()->pidfd_spawn(pidfd, path, actions, attributes, argv, envp);
    track_spawned();
    return ret;
}

EXPORT int pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    before_spawn();
    int ret = real()->pidfd_spawnp(pidfd, file, actions, attributes, argv, envp);
    track_spawned();
    return ret;
}

EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int to)
{
    struct guard g;
    track_mark(fd, FD_GIVEN, 0);
    if (track_state(fd) & FD_SOCKET && guard_enter(&g) == ENTRY_OK) {
        track_given(fd);
        guard_leave(&g);
    }
    return real()->posix_spawn_file_actions_adddup2(actions, fd, to);
}

EXPORT FILE *popen(const char *command, const char *type)
{
    before_spawn();
    FILE *stream = real()->popen(command, type);
    track_spawned();
    return stream;
}

EXPORT int system(const char *command)
{
    before_spawn();
    return real()->system(command);
}

// Only a process with threads has anyone to part from.
void note_unshare(unsigned long flags)
{
    if (!(flags & CLONE_FILES) || !track_has_threads()) return;
    track_split();
    release_wait_acting();
}

EXPORT int unshare(int flags)
{
    note_unshare((unsigned long)flags);
    bool barred = watch_bar();
    int ret = real()->unshare(flags);
    watch_unbar(barred);
    return ret;
}

EXPORT int prctl(int option, ...)
{
    va_list more;
    va_start(more, option);
    unsigned long a = va_arg(more, unsigned long), b = va_arg(more, unsigned long);
    unsigned long c = va_arg(more, unsigned long), d = va_arg(more, unsigned long);
    va_end(more);
    if (option != PR_SET_SECCOMP) return real()->prctl(option, a, b, c, d);
    life_sandbox_begin();
    int ret = real()->prctl(option, a, b, c, d);
    life_sandbox_end(ret == 0);
    return ret;
}

EXPORT _Noreturn void _exit(int status)
{
    life_end();
    real()->_exit(life_status(status));
    __builtin_unreachable();
}

EXPORT _Noreturn void _Exit(int status)
{
    life_end();
    real()->_Exit(life_status(status));
    __builtin_unreachable();
}

EXPORT _Noreturn void quick_exit(int status)
{
    life_end();
    real()->quick_exit(life_status(status));
    __builtin_unreachable();
}
