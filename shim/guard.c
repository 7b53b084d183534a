#include "guard.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "life.h"
#include "sys.h"

#define CANARY 0x70726563u
#define PATIENCE_MS 100 // for the threads that are inside; none stays for long

enum { NOT_STARTED, ON, OFF };

static _Atomic int phase = NOT_STARTED;
static _Atomic int inside_count;
static _Atomic pid_t owner;

// A page that the kernel wipes in every child with memory of its own, however it was forked
// (madvise(2) MADV_WIPEONFORK): the child finds out without a system call. NULL: not to be had.
static volatile uint32_t *canary;

static __thread struct {
    int depth;
    pid_t pid, tid; // tid is right while pid is the owner
} self __attribute__((tls_model("initial-exec")));

static uint64_t bit(int sig)
{
    return 1ull << (sig - 1);
}

static uint64_t block_signals(void)
{
    uint64_t all = ~(bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) |
                     bit(SIGSYS));
    uint64_t old = 0;
    sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, sizeof all);
    return old;
}

static void restore_signals(uint64_t mask)
{
    sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask);
}

static void take_over(void)
{
    atomic_store(&owner, (pid_t)sys_call(SYS_getpid, 0, 0, 0));
    atomic_store(&inside_count, 0);
    if (canary) *canary = CANARY;
    life_forked_child();
}

// Is this the process whose table we see? A child by a fork that nobody told us of takes the table over;
// a child that runs in its parent's memory (vfork) must leave it alone.
static bool own_process(void)
{
    if (canary && *canary != CANARY) {
        take_over();
        return true;
    }
    return sys_call(SYS_getpid, 0, 0, 0) == atomic_load_explicit(&owner, memory_order_relaxed);
}

void guard_forked_child(void)
{
    // From a handler that has interrupted us, the table is this thread's own half-done work: it ends first,
    // and the next to enter takes over.
    if (atomic_load(&phase) != ON || self.depth) return;
    if (!own_process()) take_over();
}

enum entry guard_enter(struct guard *g)
{
    int now = atomic_load_explicit(&phase, memory_order_acquire);
    if (now == NOT_STARTED) {
        life_start();
        now = atomic_load_explicit(&phase, memory_order_acquire);
    }
    if (now != ON) return ENTRY_OFF;
    if (self.depth) return ENTRY_NESTED;
    if (!own_process()) return ENTRY_OFF;
    g->mask = block_signals();
    self.depth = 1;
    atomic_fetch_add(&inside_count, 1);
    if (atomic_load(&phase) == ON) return ENTRY_OK;
    // guard_shut came in between: not even the mask may be restored by us if a filter is on its way, but
    // guard_shut waits for inside_count, so the filter is not there yet.
    guard_leave(g);
    return ENTRY_OFF;
}

void guard_leave(struct guard *g)
{
    self.depth = 0;
    restore_signals(g->mask);
    atomic_fetch_sub(&inside_count, 1);
}

pid_t guard_tid(void)
{
    pid_t pid = atomic_load_explicit(&owner, memory_order_relaxed);
    if (self.pid != pid || !self.tid) {
        self.tid = (pid_t)sys_call(SYS_gettid, 0, 0, 0);
        self.pid = pid;
    }
    return self.tid;
}

void guard_open(void)
{
    long page = sys_call6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page > 0) {
        if (sys_call(SYS_madvise, page, 4096, MADV_WIPEONFORK) == 0) canary = (volatile uint32_t *)page;
        else sys_call(SYS_munmap, page, 4096, 0);
    }
    atomic_store(&owner, (pid_t)sys_call(SYS_getpid, 0, 0, 0));
    if (canary) *canary = CANARY;
    atomic_store(&phase, ON);
}

static int64_t now_ms(void)
{
    struct timespec t = {0, 0};
    sys_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool guard_shut(void)
{
    if (atomic_exchange(&phase, OFF) != ON) return false;
    // Bounded: a handler that jumped out of guard_leave, after the mask and before the count, is counted for ever.
    int64_t end = now_ms() + PATIENCE_MS;
    while (atomic_load(&inside_count) > 0 && now_ms() < end) sys_call(SYS_sched_yield, 0, 0, 0);
    return true;
}

void guard_reopen(void)
{
    atomic_store(&phase, ON);
}
