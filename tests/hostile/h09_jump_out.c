// timeout: 120
// env: LD_BIND_NOW=1
// Hazard 9: at every single instruction of a call a signal handler leaves it by siglongjmp. Afterwards this thread
// and others still open, duplicate and close, also the number that this call was about, fork without delay, and the
// process can still put itself into a sandbox.
// Instructions that several calls have in common, and those in loops, are left once, and then each third time.
#include "step.h"

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

static sigjmp_buf back;

static void on_signal(int sig)
{
    (void)sig;
    siglongjmp(back, 1);
}

// Each fork would wait for a close that has been left, for 300 ms, if it were still believed to go on. The first may.
static void fork_often(void)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        int64_t start = now_ms();
        pid_t pid = must(fork());
        if (!pid) raw_exit(0);
        if (now_ms() - start < least) least = now_ms() - start;
        reap(pid, "a child", DEADLINE_MS);
    }
    if (least > 250) fail("a fork takes %d ms", (int)least);
}

static void *work(void *arg)
{
    const struct operation *op = arg;
    exercise();
    bool lets_go = (op->run == op_close || op->run == op_dup2_onto) && is_open(socket_pair[0]);
    if (lets_go && getpid() % 16 == 0) fork_often();
    if (lets_go && getpid() % 8 == 0) expect(close(socket_pair[0]) == 0); // not each time: it may wait for a while
    return NULL;
}

static void enter_sandbox(void)
{
    struct filter f = filter_new();
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

static void in_traced(const struct operation *op)
{
    if (sigsetjmp(back, 1) == 0) run_marked(op);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    expect(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGTERM));
    exercise();
    pthread_t t = start_thread(work, (void *)(uintptr_t)op);
    pthread_join(t, NULL);
    enter_sandbox();
}

static void in_traced_to_the_end(const struct operation *op)
{
    run_marked(op);
}

// Where op can be interrupted, in order; which time of that instruction; and whether it is to be.
static struct {
    unsigned long at;
    unsigned nth;
    bool chosen;
} places[20000];

static unsigned find_places(const struct operation *op)
{
    unsigned n = 0;
    trace(op, on_signal, SIGUSR1, in_traced_to_the_end);
    for (; step(SIGUSR1) && n < sizeof places / sizeof *places; n++) {
        if (n && places[n - 1].at == traced.here) { // repeats itself (rep stos): a breakpoint is met there once
            n--;
            continue;
        }
        places[n].at = traced.here;
        places[n].nth = 1;
        for (unsigned i = 0; i < n; i++)
            if (places[i].at == traced.here) places[n].nth++;
        places[n].chosen = !visits(traced.here) || (n + (unsigned)(op - operations)) % 3 == 0 || everything_asked();
    }
    let_run(0);
    return n;
}

int main(void)
{
    unsigned total = 0;
    need_library();
    warm_up();
    for (const struct operation *op = operations; op < operations + OPERATIONS; op++) {
        if (!op->may_jump) continue;
        unsigned n = find_places(op);
        for (unsigned i = 0; i < n; i++) {
            if (!places[i].chosen) continue;
            total++;
            trace(op, on_signal, SIGUSR1, in_traced);
            traced.index = i + 1;
            run_to(places[i].at, places[i].nth, SIGUSR1);
            let_run(SIGUSR1);
        }
    }
    printf("note: left %u times\n", total);
    return 0;
}
#endif
