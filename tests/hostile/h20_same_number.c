// timeout: 40
// Hazard 20: while a thread closes a socket its number becomes another's, at every single call that preclose makes for
// it, as by a second close and an open that nobody sees. That other loses its descriptor, as it would without preclose,
// but never its connection, which it holds under another number too.
#include "step.h"

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

// One thread stands still in front of a call that preclose makes for its close. Another then does to the number what a
// second close and an open, or Java's dup2 of a marker, would do. Only in front of the shutdown itself is it too late.

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
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned places = 0;
    for (const struct operation *op = operations; op < operations + OPERATIONS; op++)
        if (op->check == woken)
            for (unsigned nth = 0; swap_at(op, nth); nth++) places++;
    printf("note: numbers swapped at %u places\n", places);
    return 0;
}
#endif
