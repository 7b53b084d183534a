#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "clock.h"
#include "life.h"
#include "lock.h"
#include "sys.h"

#define INSIDE 1
#define BARE (1 << 16)
#define CANARY 0x70726563u
#define PATIENCE_MS 2000 // for the threads inside: none stays for long, but on a busy machine it waits for a processor

static _Atomic int phase = NOT_STARTED; // enum phase
static _Atomic int inside_count; // INSIDE for each thread that is, and BARE if a handler could come to it there
static _Atomic pid_t owner;

// A page that the kernel wipes in every child with memory of its own, however it was forked
// (madvise(2) MADV_WIPEONFORK): the child finds out without a system call. NULL: not there yet, or not to be had.
static volatile uint32_t *_Atomic canary;

static _Atomic bool handlers; // the program has some
static _Atomic bool lends;    // a process that is not this one may run in its memory at any time

static __thread struct {
    int depth;
    int counted; // in inside_count
    bool vforked; // a child with this thread's memory, this structure too, may run
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

// Signals are blocked: a handler that found the process its own, and the locks still held by threads that
// are not here, would wait for ever. For the same reason the canary comes last.
__attribute__((noinline)) static void take_over(void)
{
    uint64_t mask = block_signals();
    int depth = self.depth;
    self.depth = 1; // for a synchronous signal's handler
    atomic_store(&owner, (pid_t)sys_call(SYS_getpid, 0, 0, 0));
    atomic_store(&inside_count, 0);
    self.counted = 0;
    life_forked_child();
    volatile uint32_t *armed = canary;
    if (armed) *armed = CANARY;
    self.depth = depth;
    restore_signals(mask);
}

static bool has_own_pid(void)
{
    return sys_call(SYS_getpid, 0, 0, 0) == atomic_load_explicit(&owner, memory_order_relaxed);
}

// Is this the process whose table we see? A child by a fork that nobody told us of takes the table over;
// a child that runs in its parent's memory (vfork) must leave it alone.
static inline bool own_process(void)
{
    volatile const uint32_t *armed = atomic_load_explicit(&canary, memory_order_acquire);
    if (armed && *armed != CANARY) {
        take_over();
        return true;
    }
    if (armed && !self.vforked && !atomic_load_explicit(&lends, memory_order_relaxed)) return true;
    bool own = has_own_pid();
    if (own) self.vforked = false; // its parent goes on when the child has a memory of its own, or has ended
    return own;
}

bool guard_sure(void)
{
    if (has_own_pid()) return true;
    self.vforked = true;
    return false;
}

void guard_lends_memory(bool waits)
{
    if (waits) self.vforked = true;
    else atomic_store(&lends, true);
}

// Bounded: a handler that jumped out at the wrong instruction can leave a thread counted that is not inside.
static void wait_for_others(int which)
{
    int64_t end = clock_monotonic_us() / 1000 + PATIENCE_MS;
    while (atomic_load(&inside_count) - self.counted >= which && clock_monotonic_us() / 1000 < end)
        sys_call(SYS_sched_yield, 0, 0, 0);
}

void guard_handlers(void)
{
    if (atomic_load_explicit(&handlers, memory_order_relaxed)) return;
    atomic_store(&handlers, true);
    // Who is inside and has not seen that is met by no handler if there is none before they have left.
    if (atomic_load(&phase) == ON && !self.depth && !lock_alone()) wait_for_others(BARE);
}

void guard_forked_child(void)
{
    // From a handler that has interrupted us, the table is this thread's own half-done work: it ends first,
    // and the next to enter takes over.
    if (atomic_load(&phase) != ON || self.depth) return;
    if (!has_own_pid()) take_over();
}

static inline void add(int n)
{
    if (lock_alone())
        atomic_store_explicit(&inside_count, atomic_load_explicit(&inside_count, memory_order_relaxed) + n,
                              memory_order_relaxed);
    else
        atomic_fetch_add(&inside_count, n);
}

// A handler that jumps out in between leaves the thread counted: its next entry finds that, and keeps it.
static inline void count(int as)
{
    if (self.counted == as) return;
    add(as - self.counted);
    self.counted = as;
}

// Counted before the phase and the handlers are looked at and before any system call, so that guard_shut and
// guard_handlers wait for them.
static enum entry enter(struct guard *g, bool masked)
{
    if (atomic_load_explicit(&phase, memory_order_acquire) != ON) return ENTRY_OFF;
    if (self.depth) return ENTRY_NESTED;
    int as = masked || atomic_load_explicit(&handlers, memory_order_relaxed) ? INSIDE : INSIDE + BARE;
    count(as);
    if (atomic_load(&phase) != ON || !own_process()) {
        count(0);
        return ENTRY_OFF;
    }
    if (!self.counted) count(as); // in a child, own_process has begun to count anew
    g->masked = false;
    if (masked || atomic_load(&handlers)) guard_mask(g);
    self.depth = 1;
    return ENTRY_OK;
}

enum entry guard_enter(struct guard *g)
{
    if (atomic_load_explicit(&phase, memory_order_acquire) == NOT_STARTED) life_start();
    return enter(g, false);
}

enum entry guard_enter_masked(struct guard *g)
{
    if (atomic_load_explicit(&phase, memory_order_acquire) == NOT_STARTED) life_start();
    return enter(g, true);
}

void guard_mask(struct guard *g)
{
    if (g->masked) return;
    g->mask = block_signals();
    g->masked = true;
    count(INSIDE);
}

void guard_leave(struct guard *g)
{
    self.depth = 0;
    if (g->masked) restore_signals(g->mask);
    count(0);
}

// The thread stays counted, so that guard_shut waits for the call.
bool guard_call(struct guard *g, long *ret, long nr, const long a[6])
{
    int saved = errno;
    self.depth = 0;
    count(INSIDE);
    if (g->masked) restore_signals(g->mask);
    *ret = sys_call6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    enum entry entry = enter(g, g->masked);
    errno = saved;
    return entry == ENTRY_OK;
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

void guard_arm(void)
{
    long page = sys_call6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page <= 0 && page > -4096) return;
    volatile uint32_t *armed = (volatile uint32_t *)page;
    *armed = CANARY;
    if (sys_call(SYS_madvise, page, 4096, MADV_WIPEONFORK) == 0) canary = armed;
    else sys_call(SYS_munmap, page, 4096, 0);
}

void guard_open(pid_t pid)
{
    atomic_store(&owner, pid);
    int from = NOT_STARTED; // not OFF: a sandbox may have come first
    atomic_compare_exchange_strong(&phase, &from, ON);
}

enum phase guard_shut(void)
{
    // No filter is there yet: asking is allowed. What a vfork child does to itself is not its parent's.
    if (atomic_load(&phase) == ON && (!own_process() || !guard_sure())) return OFF;
    enum phase before = (enum phase)atomic_exchange(&phase, OFF);
    if (before != ON) return before;
    wait_for_others(INSIDE);
    return before;
}

void guard_reopen(enum phase before)
{
    atomic_store(&phase, before);
}
