#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "masks.h"
#include "real.h"
#include "scan.h"
#include "sys.h"
#include "threads.h"
#include "touched.h"
#include "track.h"
#include "unwind.h"

#define STACK_BYTES ((size_t)128 * 1024) // the scan takes 4 KiB; libc keeps the thread-local data of all there
#define SLICE_US INT64_C(50)
#define SHARE INT64_C(100)   // looking takes at most a hundredth of the time, and of a core
#define TICK_MS 1000         // between two rounds; an eighth of PRECLOSE_CLOSE_WAIT where that is less
#define TICK_LEAST_MS 10
#define RETRY_US 1000000     // where a thread can't be made here and now
#define GIVE_UP_US 60000000  // where the system refuses one
#define PATIENCE_US 2000000  // for the thread to go: it never waits for anything but the processor
#define FORK_PATIENCE_US 300000 // of a fork for a step of the thread's work, which may wait for the processor
#define FORK_US 10000000        // more than a fork takes: a handler has jumped out of it
#define LEAVE_PATIENCE_US 20000
#define EXIT_PATIENCE_US 50000

#define SIGSETXID 33 // glibc's: changes the user of a thread (nptl(7))

enum state { NOBODY, STARTING, RUNNING, LEAVING };

static struct {
    enum watch_how how;
    int64_t tick_us;
    _Atomic int state; // of the thread, enum state
    _Atomic pid_t tid, last_tid; // of the thread, and of the one before it, which may not be gone yet
    _Atomic int barred; // by how many
    _Atomic int forking;
    _Atomic int outside; // threads that make system calls of ours without the guard
    _Atomic bool busy;  // the thread is at work in our tables
    _Atomic bool never; // there will be no thread any more
    _Atomic bool ended; // the process is about to end
    _Atomic uint32_t wake;
    _Atomic int64_t next_try_us, next_slice_us;
    _Atomic uint64_t usual[MASKS_USUAL]; // signal masks with which the program has made threads; 0: none
    _Atomic int64_t round_us;      // when the round of the slices under way began; 0: none is
} self;

static uint64_t bit(int sig)
{
    return 1ull << (sig - 1);
}

static uint64_t fault_signals(void)
{
    return bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS);
}

static uint64_t set_mask(uint64_t mask)
{
    uint64_t old = 0;
    sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, (long)&old, sizeof mask);
    return old;
}

void watch_start(const struct settings *settings)
{
    int64_t tick_ms = settings->close_wait_ms / 8;
    self.how = settings->close_wait_ms ? settings->watch : WATCH_OFF;
    self.tick_us = 1000 * (tick_ms > TICK_MS ? TICK_MS : tick_ms < TICK_LEAST_MS ? TICK_LEAST_MS : tick_ms);
    scan_start(settings);
    unwind_start();
}

// --- What can be known of the process's threads without opening a descriptor ---

// How many there are: each is a link of this directory (fs/proc/base.c proc_task_getattr). 0: unknown.
static unsigned count_threads(void)
{
    struct stat st = {0};
    if (sys_call4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/task", (long)&st, 0) < 0) return 0;
    return st.st_nlink > 2 ? (unsigned)st.st_nlink - 2 : 0;
}

// A main thread that has ended has no program any more (fs/proc/base.c proc_exe_link).
static bool main_has_ended(void)
{
    char text[8];
    return sys_call(SYS_readlink, (long)"/proc/self/exe", (long)text, sizeof text) == -ENOENT;
}

// --- The thread ---

static bool has_reason(void)
{
    if (atomic_load(&self.barred) || atomic_load(&self.ended) || track_is_split()) return false;
    return track_connections() != 0;
}

static bool may_stay(void)
{
    if (!has_reason()) return false;
    unsigned threads = count_threads();
    if (self.how == WATCH_AUTO && threads < 3) return false; // the program's main thread, one more, and this
    if (self.how == WATCH_THREAD && threads > 2) track_threads();
    if (self.how == WATCH_THREAD && main_has_ended()) atomic_store(&self.never, true);
    return !atomic_load(&self.never);
}

static void pause_us(long us)
{
    struct timespec t = {.tv_nsec = us * 1000};
    sys_call(SYS_nanosleep, (long)&t, 0, 0);
}

// At work only while no thread forks. Returns false if it is to stop.
static bool begin_work(void)
{
    for (int64_t end = 0;;) {
        atomic_store(&self.busy, true);
        if (atomic_load(&self.barred) || atomic_load(&self.ended)) break;
        if (atomic_load(&self.forking) <= 0) return true;
        atomic_store(&self.busy, false);
        pause_us(1000);
        int64_t now = clock_monotonic_us();
        if (!end) end = now + FORK_US;
        if (now > end) atomic_store(&self.forking, 0);
    }
    atomic_store(&self.busy, false);
    return false;
}

static bool look_around(void)
{
    enum scan result = SCAN_MORE;
    while (result != SCAN_DONE) {
        struct guard g;
        if (!begin_work()) return false;
        bool in = guard_enter(&g) == ENTRY_OK;
        if (in) {
            result = scan_step(0);
            guard_leave(&g);
        }
        atomic_store(&self.busy, false);
        if (!in) return false; // a sandbox
    }
    return true;
}

static void sleep_us(int64_t us)
{
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    uint32_t now = atomic_load(&self.wake);
    if (atomic_load(&self.barred) || atomic_load(&self.ended)) return;
    sys_call4(SYS_futex, (long)&self.wake, FUTEX_WAIT_PRIVATE, (long)now, (long)&t);
}

// A connection may have come just when there was none: whoever made it saw the thread still there.
static bool leave(void)
{
    atomic_store(&self.state, LEAVING);
    if (may_stay()) {
        atomic_store(&self.state, RUNNING);
        return false;
    }
    threads_own(0);
    atomic_store(&self.last_tid, atomic_load(&self.tid));
    atomic_store(&self.state, NOBODY);
    return true;
}

static void *watch(void *unused)
{
    set_mask(~MASKS_LIBC);
    sys_call(SYS_prctl, PR_SET_NAME, (long)"preclose", 0);
    pid_t tid = (pid_t)sys_call(SYS_gettid, 0, 0, 0);
    threads_own(tid);
    atomic_store(&self.tid, tid);
    atomic_store(&self.state, RUNNING);
    for (;;) {
        int64_t start = clock_thread_us();
        bool whole = may_stay() && look_around();
        if (!whole && leave()) return unused;
        int64_t rest = (clock_thread_us() - start) * SHARE;
        sleep_us(rest > self.tick_us ? rest : self.tick_us);
    }
}

// --- Its start ---

// Born with the mask of its maker: a signal of the program's never finds it, and the one that changes the user of
// every thread always does.
static int make_thread(size_t stack)
{
    pthread_attr_t attr;
    pthread_t thread;
    int err = pthread_attr_init(&attr);
    if (err) return err;
    if (stack) err = pthread_attr_setstacksize(&attr, stack);
    if (!err) err = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (!err) err = real()->pthread_create(&thread, &attr, watch, NULL);
    pthread_attr_destroy(&attr);
    return err;
}

static void start_thread(void)
{
    int from = NOBODY, saved = errno;
    if (!atomic_compare_exchange_strong(&self.state, &from, STARTING)) return;
    if (!has_reason() || atomic_load(&self.never)) {
        atomic_store(&self.state, NOBODY);
        return;
    }
    track_own_thread();
    int err = make_thread(STACK_BYTES);
    if (err == EINVAL) err = make_thread(0); // thread-local data that does not fit
    if (err) {
        atomic_store(&self.next_try_us, clock_monotonic_us() + GIVE_UP_US);
        atomic_store(&self.state, NOBODY);
    }
    errno = saved;
}

// Leaves the guard, to work with libc or to wait for it: malloc may be the program's, and use sockets; and the
// signal by which another thread changes the user of all must be let in, as until it is answered that thread
// holds a lock of libc's by which threads come and go (nptl/nptl_setxid.c). Handlers stay out, and a cancellation.
// Returns what come_back takes.
static uint64_t step_outside(struct guard *g)
{
    guard_mask(g);
    uint64_t mask = g->mask;
    atomic_fetch_add(&self.outside, 1);
    g->mask = ~(bit(SIGSETXID) | fault_signals());
    guard_leave(g);
    return mask;
}

static void come_back(uint64_t mask)
{
    atomic_fetch_sub(&self.outside, 1);
    set_mask(mask);
}

static void leave_and_start(struct guard *g, bool starts)
{
    if (!starts) {
        guard_leave(g);
        return;
    }
    uint64_t mask = step_outside(g);
    start_thread();
    come_back(mask);
}

// What each handler of the program adds to the mask (sigaction(2)).
static void read_handlers(struct masks *m)
{
    struct {
        uint64_t handler;
        uint64_t flags;
#if defined(__x86_64__)
        uint64_t restorer;
#endif
        uint64_t mask;
    } action = {0}; // the kernel's struct sigaction
    for (int sig = 1; sig <= 64; sig++) {
        if (sys_call4(SYS_rt_sigaction, sig, 0, (long)&action, sizeof action.mask) < 0) continue;
        if (action.handler == (uint64_t)(uintptr_t)SIG_DFL || action.handler == (uint64_t)(uintptr_t)SIG_IGN) continue;
        if (MASKS_LIBC & bit(sig)) continue;
        m->added[sig - 1] = action.mask | (action.flags & SA_NODEFER ? 0 : bit(sig));
        m->lax |= !m->added[sig - 1];
    }
}

// Where the stack does not tell whether a handler is at work, the signal mask may.
static bool may_start_here(uint64_t mask)
{
    struct masks m = {0};
    enum unwind_where where = unwind_where();
    if (where != UNWIND_UNSURE) return where == UNWIND_OUTSIDE;
    for (; m.n < MASKS_USUAL && atomic_load(&self.usual[m.n]); m.n++) m.usual[m.n] = atomic_load(&self.usual[m.n]);
    read_handlers(&m);
    return masks_outside(&m, mask);
}

// It does not see any more, on its way out, what has come since it decided to go: that takes no time, and is
// waited for.
static bool is_nobody(void)
{
    int64_t end = 0;
    for (;;) {
        int state = atomic_load(&self.state);
        if (state != LEAVING) return state == NOBODY;
        int64_t now = clock_monotonic_us();
        if (!end) end = now + LEAVE_PATIENCE_US;
        if (now > end) return false;
        sys_call(SYS_sched_yield, 0, 0, 0);
    }
}

static bool wants_thread(void)
{
    if (self.how != WATCH_THREAD && (self.how != WATCH_AUTO || !track_has_threads())) return false;
    return !atomic_load(&self.never) && has_reason();
}

// Does the process have the threads that one more needs? Where they can't be counted there is no other.
static bool has_company(void)
{
    unsigned threads = count_threads();
    return self.how == WATCH_THREAD ? threads >= 1 : threads >= 2;
}

static void note_usual(uint64_t mask)
{
    for (unsigned i = 0; mask && i < MASKS_USUAL; i++) {
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&self.usual[i], &there, mask) || there == mask) return;
    }
}

void watch_new_thread(void)
{
    struct guard g;
    if (guard_enter_masked(&g) != ENTRY_OK) return;
    track_threads();
    bool starts = false;
    if (self.how != WATCH_OFF && self.how != WATCH_CALLS) {
        note_usual(g.mask);
        atomic_store(&self.next_try_us, 0);
        starts = is_nobody() && wants_thread() && has_company();
    }
    leave_and_start(&g, starts);
}

// --- Slices ---

static void slice(int64_t now)
{
    if (now < atomic_load(&self.next_slice_us)) return;
    atomic_store(&self.next_slice_us, now + SLICE_US * SHARE); // for the other threads
    int64_t none = 0;
    atomic_compare_exchange_strong(&self.round_us, &none, now);
    enum scan result = SCAN_MORE;
    int64_t end = now;
    while (result == SCAN_MORE && end < now + SLICE_US / 5) {
        result = scan_step(now + SLICE_US * 2 / 3);
        end = clock_monotonic_us();
    }
    int64_t took = end - now < SLICE_US * 20 ? end - now : SLICE_US * 20; // where another process ran meanwhile
    int64_t next = end + took * SHARE;
    if (result == SCAN_DONE) {
        int64_t round = atomic_exchange(&self.round_us, 0) + self.tick_us;
        if (round > next) next = round;
    }
    atomic_store(&self.next_slice_us, next);
}

// Returns whether the thread is to be started, outside of the guard.
static bool work(struct guard *g)
{
    if (self.how == WATCH_OFF || !track_connections() || atomic_load(&self.ended)) return false;
    if (!is_nobody()) return false;
    int64_t now = clock_monotonic_us();
    if (wants_thread() && now >= atomic_load(&self.next_try_us)) {
        guard_mask(g);
        if (has_company() && may_start_here(g->mask)) return true;
        atomic_store(&self.next_try_us, now + RETRY_US);
    }
    slice(now);
    return false;
}

void watch_leave(struct guard *g)
{
    leave_and_start(g, work(g));
}

// --- Its end ---

static bool is_there(pid_t tid)
{
    pid_t pid = (pid_t)sys_call(SYS_getpid, 0, 0, 0);
    return tid && sys_call(SYS_tgkill, pid, tid, 0) != -ESRCH;
}

static void wake(void)
{
    atomic_fetch_add(&self.wake, 1);
    sys_call(SYS_futex, (long)&self.wake, FUTEX_WAKE_PRIVATE, INT_MAX);
}

// Someone has barred it: waits until no thread of ours is there, as far as the kernel knows.
static void wait_until_gone(void)
{
    pid_t own = (pid_t)sys_call(SYS_gettid, 0, 0, 0);
    int64_t end = 0;
    for (;;) {
        bool running = atomic_load(&self.state) != NOBODY; // first: it says whose numbers these are
        pid_t tid = atomic_load(&self.tid), last = atomic_load(&self.last_tid);
        if (!running && (tid == own || !is_there(tid)) && (last == own || !is_there(last))) return;
        int64_t now = clock_monotonic_us();
        if (!end) end = now + PATIENCE_US;
        if (now > end) return;
        if (running) wake();
        pause_us(20);
    }
}


bool watch_bar(void)
{
    struct guard g;
    if (self.how == WATCH_OFF || self.how == WATCH_CALLS || guard_enter(&g) != ENTRY_OK) return false;
    atomic_fetch_add(&self.barred, 1);
    uint64_t mask = step_outside(&g);
    wait_until_gone();
    come_back(mask);
    return true;
}

void watch_quiet(void)
{
    if (!atomic_load(&self.outside)) return;
    int64_t end = clock_monotonic_us() + PATIENCE_US;
    while (atomic_load(&self.outside) && clock_monotonic_us() < end) sys_call(SYS_sched_yield, 0, 0, 0);
}

void watch_unbar(bool barred)
{
    struct guard g;
    if (!barred || atomic_fetch_sub(&self.barred, 1) > 1 || !track_connections()) return;
    if (guard_enter_masked(&g) != ENTRY_OK) return;
    leave_and_start(&g, is_nobody() && wants_thread() && has_company() && may_start_here(g.mask));
}

bool watch_give_way(void)
{
    if (atomic_load(&self.state) == NOBODY) return false;
    atomic_store(&self.never, true); // also for watch_unbar
    bool barred = watch_bar();
    watch_unbar(barred);
    return barred;
}

void watch_thread_exit(void)
{
    struct guard g;
    if (self.how == WATCH_OFF || self.how == WATCH_CALLS || guard_enter(&g) != ENTRY_OK) return;
    bool is_main = sys_call(SYS_getpid, 0, 0, 0) == guard_tid();
    if (is_main) atomic_store(&self.never, true);
    guard_leave(&g);
    if (is_main) watch_unbar(watch_bar());
}

static __thread unsigned forks __attribute__((tls_model("initial-exec"))); // under way, by this thread

void watch_before_fork(void)
{
    struct guard g;
    if (atomic_load(&self.state) == NOBODY || guard_enter(&g) != ENTRY_OK) return;
    bool alone = self.how == WATCH_AUTO && count_threads() == 2; // the program's threads have ended
    if (alone) atomic_fetch_add(&self.barred, 1);
    forks++;
    atomic_fetch_add(&self.forking, 1);
    int64_t end = clock_monotonic_us() + FORK_PATIENCE_US;
    while (atomic_load(&self.busy) && clock_monotonic_us() < end) sys_call(SYS_sched_yield, 0, 0, 0);
    if (!alone) {
        guard_leave(&g);
        return;
    }
    uint64_t mask = step_outside(&g);
    wait_until_gone();
    atomic_fetch_sub(&self.barred, 1);
    come_back(mask);
}

void watch_after_fork(void)
{
    if (!forks) return;
    forks--;
    atomic_fetch_sub(&self.forking, 1);
}

void watch_child(void)
{
    forks = 0;
    if (atomic_exchange(&self.state, NOBODY) != NOBODY) threads_own(0);
    atomic_store(&self.tid, 0);
    atomic_store(&self.last_tid, 0);
    atomic_store(&self.barred, 0);
    atomic_store(&self.forking, 0);
    atomic_store(&self.outside, 0);
    atomic_store(&self.busy, false);
    atomic_store(&self.never, false);
    atomic_store(&self.ended, false);
    atomic_store(&self.next_try_us, 0);
    atomic_store(&self.next_slice_us, 0);
    atomic_store(&self.round_us, 0);
    if (touched_anew(&touched.scan)) atomic_store(&touched.scan_anew, true);
}

bool watch_due(void)
{
    if (atomic_load(&self.ended)) return false;
    return track_connections() || atomic_load(&self.state) != NOBODY;
}

void watch_exit(void)
{
    if (atomic_exchange(&self.ended, true)) return;
    int64_t end = clock_monotonic_us() + EXIT_PATIENCE_US;
    wake();
    while (atomic_load(&self.busy) && clock_monotonic_us() < end) sys_call(SYS_sched_yield, 0, 0, 0);
    if (track_connections()) scan_exit(EXIT_PATIENCE_US);
}
