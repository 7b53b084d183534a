// timeout: 60
// env: LD_BIND_NOW=1
// Hazard 9: signals that preclose does not block, since the kernel raises them for what a thread does: a trap at every
// instruction, inside the critical sections too, whose handler closes, opens, duplicates and forks. And SIGABRT, which
// only a call sends: its handler leaves by siglongjmp, and the other threads still get on.
#include "step.h"

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

static volatile unsigned traps, acted;
static bool everything;

static void act(unsigned now)
{
    int sv[2], status;
    pair(sv);
    if (now % 3 == 0) must(dup2(sv[0], sv[1]));
    if (now % 3 == 1) {
        must(close(must(dup(sv[0]))));
        expect(both_ways(sv[0], sv[1]));
    }
    if (now % 67 == 0) {
        pid_t pid = must(fork());
        if (!pid) raw_exit(close(sv[0]) || close(sv[1]));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        if (now % 3) expect(both_ways(sv[0], sv[1]));
    }
    must(close(sv[0]));
    must(close(sv[1]));
}

// In a loop (a line is formatted with thousands of instructions) the handler acts the first times, and then now and then.
static void on_trap(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    int saved = errno;
    unsigned now = traps++;
    if (visits((unsigned long)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]) < 2 || now % 53 == 0 || everything)
        act(acted++);
    errno = saved;
}

// The trap flag (Intel SDM volume 3, section 17.3.1.4), set and cleared behind the red zone.
__attribute__((noinline)) static void run_trapped(const struct operation *op)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::: "cc", "memory");
    op->run();
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::: "cc", "memory");
}

static void trap(long o)
{
    const struct operation *op = &operations[o];
    struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    everything = everything_asked();
    forks_meanwhile = true;
    prepare();
    // With a thread blocked, close does all that it can do; but libc's own fork does not bear a fork in a handler
    // where there are threads.
    if (op->before && op->before != prepare_thread) op->before();
    must(sigaction(SIGTRAP, &sa, NULL));
    run_trapped(op);
    struct sigaction plain = {.sa_handler = SIG_DFL};
    must(sigaction(SIGTRAP, &plain, NULL));
    if (traps < 10) fail("%s: only %u traps", op->name, traps);
    if (op->check && op->check != woken) op->check();
    exercise();
    still_works(op->name);
}

static sigjmp_buf back;

static void on_abort(int sig)
{
    (void)sig;
    siglongjmp(back, 1);
}

static void *work(void *arg)
{
    (void)arg;
    exercise();
    return NULL;
}

static void in_traced(const struct operation *op)
{
    if (sigsetjmp(back, 1) == 0) run_marked(op);
    exercise();
    pthread_t t = start_thread(work, NULL);
    pthread_join(t, NULL);
    still_works("SIGABRT and siglongjmp");
}

static void abort_in(const struct operation *op)
{
    for (unsigned at = 5; at < 20000; at += at < 200 ? 10 : 211) {
        trace(op, on_abort, SIGABRT, in_traced);
        while (traced.index < at && step(SIGABRT)) {}
        bool over = traced.index < at;
        let_run(over ? 0 : SIGABRT);
        if (over) break;
    }
}

int main(void)
{
    need_library();
    for (long o = 0; o < OPERATIONS; o++) {
        if (operations[o].run == op_close_range || operations[o].run == op_syscall_close) continue; // as close
        char what[100];
        snprintf(what, sizeof what, "%s, trapped at every instruction", operations[o].name);
        in_child(what, 20000, trap, o);
    }
    for (const struct operation *op = operations; op < operations + OPERATIONS; op++)
        if (op->run == op_close || op->run == op_socketpair || op->run == op_dup) abort_in(op);
    return 0;
}
#endif
