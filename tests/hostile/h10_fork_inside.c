// timeout: 60
// Hazard 10: one thread stands still inside preclose, at one instruction after another, with whatever it holds there.
// Another thread forks, and the child closes, opens, duplicates, forks and exits. A few hundred places: one in so many of
// the instructions that are met for the first time, and of all that are executed.
#include "step.h"

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

enum { NEW_STRIDE = 13, STRIDE = 997 };

// Shared with the tracer.
static struct shared {
    _Atomic unsigned asked, done;
    _Atomic int how;
    _Atomic bool end;
} *shared;

static void in_child_of_fork(void)
{
    exercise();
    int sv[2];
    pair(sv);
    must(close(sv[0]));
    must(close(spare_pair[0]));
    must(close(set));
    pid_t pid = must(_Fork());
    if (!pid) {
        exercise();
        raw_exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (status) raw_exit(9);
    raw_exit(0);
}

// The other thread of the traced process: forks when it is told to.
static void *fork_when_asked(void *arg)
{
    while (!atomic_load(&shared->end)) {
        if (atomic_load(&shared->done) == atomic_load(&shared->asked)) {
            look_again();
            continue;
        }
        int how = atomic_load(&shared->how), status;
        pid_t pid = how == 0 ? fork() : how == 1 ? _Fork() : raw_fork();
        if (!pid) in_child_of_fork();
        int64_t stop = now_ms() + DEADLINE_MS;
        while (waitpid(pid, &status, WNOHANG) == 0) {
            if (now_ms() > stop) {
                char where[200];
                where_it_hangs(pid, where, sizeof where);
                kill(pid, SIGKILL);
                fail("the child of fork kind %d hangs (%s)", how, where);
            }
            look_again();
        }
        if (status) fail("the child of fork kind %d ended with status %#x", how, (unsigned)status);
        atomic_fetch_add(&shared->done, 1);
    }
    return arg;
}

static pthread_t forker;

static void on_signal(int sig)
{
    (void)sig;
}

static void in_traced(const struct operation *op)
{
    forks_meanwhile = true;
    forker = start_thread(fork_when_asked, NULL);
    run_marked(op);
    atomic_store(&shared->end, true);
    pthread_join(forker, NULL);
    if (op->check) op->check();
    exercise();
}

static void fork_here(int how)
{
    int status;
    atomic_store(&shared->how, how);
    atomic_fetch_add(&shared->asked, 1);
    for (int64_t stop = now_ms() + 2 * DEADLINE_MS; atomic_load(&shared->done) != atomic_load(&shared->asked);) {
        if (waitpid(traced.pid, &status, __WALL | WNOHANG) > 0) {
            if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
                char text[300];
                snprintf(text, sizeof text, "%s, standing still at %s", traced.op->name, place());
                fail("%s: see above", text);
            }
            fail_here("stopped while its other thread forked");
        }
        if (now_ms() > stop) fail_here("the fork in another thread hangs");
        look_again();
    }
}

int main(void)
{
    unsigned forks = 0, met = 0;
    need_library();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (const struct operation *op = operations; op < operations + OPERATIONS; op++) {
        if (!op->may_jump) continue;
        memset(shared, 0, sizeof *shared);
        trace(op, on_signal, SIGUSR1, in_traced);
        for (unsigned at = 0;; at++) {
            go_on(PTRACE_SINGLESTEP, 0);
            ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
            if (traced.regs.rdi == (unsigned long)MARK_END) break;
            traced.index = at;
            traced.here = traced.regs.rip;
            bool chosen = !visits(traced.here) && (met++ % NEW_STRIDE == 0 || everything_asked());
            if (chosen || at % STRIDE == 0) fork_here((int)(forks++ % 3));
        }
        let_run(0);
    }
    printf("note: %u forks\n", forks);
    return 0;
}
#endif
