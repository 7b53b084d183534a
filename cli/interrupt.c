#include "interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_MS = 1000 };

static bool is_open(pid_t pid, int fd)
{
    char path[64], target[16];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    return readlink(path, target, sizeof target) >= 0 || errno != ENOENT;
}

// Returns whether it has stopped; one that dies meanwhile has not. *signal: what it is about to get, or 0.
static bool has_stopped(pid_t tid, int *signal)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    for (int ms = 0; ms < STOP_MS; ms++) {
        int status;
        const pid_t got = waitpid(tid, &status, __WALL | WNOHANG);
        if (got == tid) {
            *signal =
                WIFSTOPPED(status) && status >> 16 == 0 ? WSTOPSIG(status) : 0; // else PTRACE_EVENT_STOP
            return WIFSTOPPED(status);
        }
        if (got < 0) return false;
        nanosleep(&nap, NULL);
    }
    return false;
}

// Keeps the call from beginning anew: it fails with EINTR (arch/x86/kernel/signal.c
// arch_do_signal_or_restart).
static void give_up_call(pid_t tid)
{
#if defined(__x86_64__)
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) != 0) return;
    regs.orig_rax = UINT64_MAX;
    regs.rax = (unsigned long long)-EINTR;
    ptrace(PTRACE_SETREGS, tid, NULL, &regs);
#else
    (void)tid;
#endif
}

int interrupt_call(pid_t pid, pid_t tid, int fd)
{
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) return -errno;
    int result = is_open(pid, fd) ? -EBUSY : 0;
    if (!result && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0) result = -errno;
    int signal = 0;
    if (result || !has_stopped(tid, &signal)) return result ? result : -ETIMEDOUT; // our end ends the tracing
    if (is_open(pid, fd)) {
        give_up_call(tid);
        result = -EBUSY;
    }
    ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)signal);
    return result;
}
