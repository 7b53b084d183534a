// timeout: 60
// Hazard 20: two threads close the same descriptor, and meanwhile its number becomes another's. That other loses its
// descriptor, as it would without preclose, but never its connection, which it holds under another number too.
#include "step.h"

enum { SECONDS = 3, HIGH = 1500 };

// --- In a loop ---

static _Atomic int victim = -1;
static _Atomic bool over;
static _Atomic unsigned opened, closed;

// A number from one thread, closed by both.
static void *open_and_close(void *arg)
{
    while (!atomic_load(&over)) {
        int sv[2];
        pair(sv);
        atomic_store(&victim, sv[0]);
        for (int spin = 0; spin < 200; spin++) __asm__ volatile("" ::: "memory");
        close(sv[0]);
        close(sv[1]);
        atomic_fetch_add(&closed, 1);
    }
    return arg;
}

static void *close_too(void *arg)
{
    while (!atomic_load(&over)) {
        int fd = atomic_exchange(&victim, -1);
        if (fd >= 0) close(fd);
        else sched_yield();
    }
    return arg;
}

// Only this thread opens UDP sockets. One that is held under a high number and has nevertheless been shut down was
// shut down by preclose: no close does that.
static void *open_others(void *arg)
{
    while (!atomic_load(&over)) {
        struct sockaddr_storage name;
        socklen_t n = sizeof name;
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(9)};
        char byte;
        int low = socket(AF_INET, SOCK_DGRAM, 0);
        connect(low, (struct sockaddr *)&at, sizeof at);
        int high = fcntl(low, F_DUPFD, HIGH);
        if (high < 0) continue;
        for (int spin = 0; spin < 300; spin++) __asm__ volatile("" ::: "memory");
        if (getsockname(high, (struct sockaddr *)&name, &n) == 0 && name.ss_family == AF_INET &&
            recv(high, &byte, 1, MSG_DONTWAIT) == 0)
            fail("a third thread's socket was shut down, after %u sockets and %u closes", opened, closed);
        close(high);
        close(low);
        atomic_fetch_add(&opened, 1);
    }
    return arg;
}

static void loop(long arg)
{
    pthread_t t[4];
    void *(*const what[])(void *) = {open_and_close, close_too, open_others, open_others};
    (void)arg;
    for (int i = 0; i < 4; i++) t[i] = start_thread(what[i], NULL);
    nanosleep(&(struct timespec){.tv_sec = SECONDS}, NULL);
    atomic_store(&over, true);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    still_works("the closes");
}

#ifdef STEP_UNKNOWN
int main(void)
{
    need_library();
    in_child("in a loop", 20000, loop, 0);
    return 0;
}
#else

// --- At every system call ---
//
// One thread stands still in front of a call that preclose makes for its close. Another then does what a second close
// and an open, or Java's dup2 of a marker, would do to the number. Only in front of the shutdown itself is it too late.

static struct shared {
    _Atomic bool swap, swapped, end;
    char what[100];
} *shared;

static int other[2]; // takes the number; other[0] is its own number

static void *swap_when_asked(void *arg)
{
    while (!atomic_load(&shared->end)) {
        if (atomic_load(&shared->swap) && !atomic_load(&shared->swapped)) {
            raw(SYS_dup3, other[0], socket_pair[0], 0);
            atomic_store(&shared->swapped, true);
        }
        sched_yield();
    }
    return arg;
}

static void on_signal(int sig)
{
    (void)sig;
}

static void in_traced(const struct operation *op)
{
    pair(other);
    pthread_t t = start_thread(swap_when_asked, NULL);
    run_marked(op);
    atomic_store(&shared->end, true);
    pthread_join(t, NULL);
    within = shared->what;
    if (!both_ways(other[0], other[1])) fail("the socket that had taken the number was cut");
    raw_exit(0); // the thread in recv stays: its socket was let go of unseen
}

// Returns false if op makes fewer calls.
static bool swap_at(const struct operation *op, unsigned nth)
{
    memset(shared, 0, sizeof *shared);
    trace(op, on_signal, SIGUSR1, in_traced);
    for (unsigned n = 0;; n++) {
        go_on(PTRACE_SYSCALL, 0);
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
        traced.here = traced.regs.rip;
        traced.index = n;
        if (traced.regs.rdi == (unsigned long)MARK_END) {
            let_run(0);
            return false;
        }
        if (n == nth) break;
        go_on(PTRACE_SYSCALL, 0);
    }
    if (traced.regs.orig_rax != SYS_shutdown && traced.regs.orig_rax != SYS_connect) {
        snprintf(shared->what, sizeof shared->what, "%s, in front of its call %u (number %lu)", op->name, nth,
                 (unsigned long)traced.regs.orig_rax);
        atomic_store(&shared->swap, true);
        for (int64_t end = now_ms() + DEADLINE_MS; !atomic_load(&shared->swapped); sched_yield())
            if (now_ms() > end) fail_here("the other thread does not run");
    }
    let_run(0);
    return true;
}

int main(void)
{
    need_library();
    in_child("in a loop", 20000, loop, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned places = 0;
    for (const struct operation *op = operations; op < operations + OPERATIONS; op++)
        if (op->check == woken)
            for (unsigned nth = 0; swap_at(op, nth); nth++) places++;
    printf("note: numbers swapped at %u places\n", places);
    return 0;
}
#endif
