#include "aside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "lock.h"
#include "procfs.h"
#include "sys.h"

#define STACK ((size_t)16 * 1024)
#define STACKS 8 // that are kept, for so many threads at once

struct errand {
    void (*work)(void *);
    void *arg;
    _Atomic uint32_t tid; // of the thread; the kernel clears it at its end (CLONE_CHILD_CLEARTID)
    _Atomic bool done;
};

// The caller waits meanwhile, and has the same thread-local variables.
static __thread bool here __attribute__((tls_model("initial-exec")));

// Not given back, as the child of a fork by another thread would keep what is in use at that moment.
static struct {
    _Atomic bool taken;
    uintptr_t at; // of who has taken it
} stacks[STACKS];

static uint64_t bit(int sig)
{
    return 1ull << (sig - 1);
}

// Blocked, each of them is death where it arises.
static uint64_t fault_signals(void)
{
    return bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS);
}

static _Atomic int filtered; // 0: not asked yet; 1: yes, or it can't be told; 2: no
static bool catches; // the process had signal handlers when that was asked
static _Atomic bool too_old;

// A thread as pthread_create would ask for it, which debuggers and valgrind know, but for libc's knowledge of it.
static const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                   CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

// clone(2): the new thread calls run(e) on that stack and ends. *id is its id while it lives. Returns it, or -errno.
#if defined(__x86_64__)
static long start(long top, struct errand *e, _Atomic uint32_t *id, void (*run)(struct errand *))
{
    long ret;
    register long tid __asm__("r10") = (long)id;
    register long tls __asm__("r8") = 0;
    register long function __asm__("r12") = (long)run;
    register long argument __asm__("r13") = (long)e;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "mov %[end], %%eax\n\t"
                     "xor %%edi, %%edi\n\t"
                     "syscall\n"
                     "1:"
                     : "=a"(ret)
                     : "0"((long)SYS_clone), "D"(flags), "S"(top), "d"(id), "r"(tid), "r"(tls), "r"(function),
                       "r"(argument), [end] "i"(SYS_exit)
                     : "rcx", "r11", "cc", "memory");
    return ret;
}
#elif defined(__aarch64__)
static long start(long top, struct errand *e, _Atomic uint32_t *id, void (*run)(struct errand *))
{
    register long number __asm__("x8") = SYS_clone;
    register long ret __asm__("x0") = (long)flags;
    register long stack __asm__("x1") = top;
    register long parent __asm__("x2") = (long)id;
    register long tls __asm__("x3") = 0;
    register long child __asm__("x4") = (long)id;
    register long function __asm__("x19") = (long)run;
    register long argument __asm__("x20") = (long)e;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, x20\n\t"
                     "blr x19\n\t"
                     "mov x8, %[end]\n\t"
                     "mov x0, xzr\n\t"
                     "svc 0\n"
                     "1:"
                     : "+r"(ret)
                     : "r"(number), "r"(stack), "r"(parent), "r"(tls), "r"(child), "r"(function), "r"(argument),
                       [end] "i"(SYS_exit)
                     : "cc", "memory");
    return ret;
}
#endif

static void run(struct errand *e)
{
    long ret = sys_call(SYS_close_range, 0, UINT_MAX, CLOSE_RANGE_UNSHARE);
    if (ret == -ENOSYS || ret == -EINVAL) atomic_store(&too_old, true);
    if (ret != 0) return;
    here = true;
    e->work(e->arg);
    here = false;
    e->done = true;
}

bool aside_here(void)
{
    return here;
}

// The signals that have handlers, but for those of libc's own, whose handlers come back (nptl(7)), and those that are
// never blocked (guard.h). Unknown: all.
static uint64_t caught(int fd, char *text, size_t size)
{
    const uint64_t not_counted = fault_signals() | bit(32) | bit(33);
    uint64_t set = 0;
    long at = procfs_find(fd, 0, "\nSigCgt:\t", text, size);
    const char *value = text;
    if (at <= 0 || sys_call4(SYS_pread64, fd, (long)text, 17, at) != 17) return ~not_counted;
    return procfs_number(&value, 16, &set) ? set & ~not_counted : ~not_counted;
}

bool aside_prepare(void)
{
    char text[512];
    if (atomic_load_explicit(&filtered, memory_order_acquire)) return catches;
    int fd = procfs_open(AT_FDCWD, "/proc/self/status");
    bool no = fd >= 0 && procfs_find(fd, 0, "\nSeccomp:\t0\n", text, sizeof text) > 0;
    catches = fd < 0 || caught(fd, text, sizeof text);
    if (fd >= 0) procfs_close(fd);
    atomic_store(&filtered, no ? 2 : 1);
    return catches;
}

bool aside_unfiltered(void)
{
    aside_prepare();
    // Where there was none, the program may have set one up itself, unseen.
    return atomic_load(&filtered) == 2 && sys_call(SYS_prctl, PR_GET_SECCOMP, 0, 0) == 0;
}

static uintptr_t map_stack(void)
{
    long at = sys_call6(SYS_mmap, 0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? 0 : (uintptr_t)at;
}

// Its place among those that are kept, or -1; 0 if there is no memory.
static uintptr_t take_stack(int *place)
{
    for (int i = 0; i < STACKS; i++) {
        bool taken = false;
        if (!atomic_compare_exchange_strong(&stacks[i].taken, &taken, true)) continue;
        if (!stacks[i].at) stacks[i].at = map_stack();
        if (!stacks[i].at) atomic_store(&stacks[i].taken, false);
        *place = i;
        return stacks[i].at;
    }
    *place = -1;
    return map_stack();
}

static void give_stack(uintptr_t at, int place)
{
    if (place >= 0) atomic_store(&stacks[place].taken, false);
    else sys_call(SYS_munmap, (long)at, STACK, 0);
}

void aside_child(void)
{
    // Single-stepped, a thread aside may itself have forked, in the handler: then this is its stack.
    const uintptr_t here_at = (uintptr_t)__builtin_frame_address(0);
    for (int i = 0; i < STACKS; i++)
        if (atomic_load(&stacks[i].taken) && here_at - stacks[i].at >= STACK) atomic_store(&stacks[i].taken, false);
}

bool aside(void (*work)(void *), void *arg)
{
    int place;
    if (atomic_load(&too_old) || !aside_unfiltered()) return false;
    uintptr_t stack = take_stack(&place);
    if (!stack) return false;
    struct errand e = {.work = work, .arg = arg};
    long top = (long)(stack + STACK) - 64; // not at its very end, which valgrind would call unmapped
    const uint64_t all = ~fault_signals();
    uint64_t mask = 0; // the new thread begins with that of its maker
    sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&mask, sizeof all);
    long tid = start(top, &e, &e.tid, run);
    sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask);
    // The kernel's wake-up at a thread's end is not a private one (kernel/fork.c mm_release).
    for (uint32_t alive; tid > 0 && (alive = atomic_load(&e.tid)) != 0;)
        sys_call4(SYS_futex, (long)&e.tid, FUTEX_WAIT, (long)alive, 0);
    give_stack(stack, place);
    return tid > 0 && e.done;
}
