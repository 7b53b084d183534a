// timeout: 60
// env: LD_BIND_NOW=1
// Hazard 9: a signal arrives at every single instruction of a call, and its handler closes, opens, duplicates,
// accepts and forks. The call does its work, and so does the handler. Each of three passes takes every third of the
// instructions, beginning with another.
#include "step.h"

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

enum { ACTIONS = 5, PASSES = 3 };
static volatile unsigned turn; // of the handler: which of its actions comes next
static unsigned first_turn;
static bool closes_only;
static int handler_listener;
static struct sockaddr_in handler_at;

static void act_close(void)
{
    int sv[2];
    pair(sv);
    expect(flows(sv[0], sv[1]));
    expect(close(sv[0]) == 0 && peer_sees(sv[1], 1000) == 'e' && close(sv[1]) == 0);
}

static void act_dup2(void)
{
    int a[2], b[2];
    pair(a);
    pair(b);
    must(dup2(a[0], b[0]));
    expect(peer_sees(b[1], 1000) == 'e'); // dup2 has closed its other end
    expect(both_ways(b[0], a[1]));
    must(close(a[0]));
    expect(both_ways(b[0], a[1]));
    must(close(b[0]));
    must(close(a[1]));
    must(close(b[1]));
}

static void act_accept(void)
{
    int c = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(c, (struct sockaddr *)&handler_at, sizeof handler_at));
    int s = must(accept4(handler_listener, NULL, NULL, SOCK_CLOEXEC));
    expect(both_ways(c, s));
    must(close(s));
    must(close(c));
}

static void act_fork(void)
{
    int sv[2], status = 0;
    pair(sv);
    pid_t pid = must(fork());
    if (!pid) raw_exit(close(sv[0]) || close(sv[1]));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect(both_ways(sv[0], sv[1]));
    must(close(sv[0]));
    must(close(sv[1]));
}

static void act_syscalls(void)
{
    int fd = must(syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0));
    int d = must(syscall(SYS_dup, fd));
    must(syscall(SYS_close, fd));
    must(close_range((unsigned)d, (unsigned)d, 0));
    pid_t pid = must(_Fork());
    if (!pid) raw_exit(0);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

static void (*const actions[ACTIONS])(void) = {act_close, act_dup2, act_accept, act_fork, act_syscalls};

static void on_signal(int sig)
{
    (void)sig;
    int saved = errno;
    unsigned now = turn;
    turn = now + 1;
    actions[closes_only ? 0 : now % ACTIONS]();
    errno = saved;
    raw(SYS_tgkill, getpid(), tid_now(), SIGSTOP); // for the tracer: the handler is through
}

static void in_traced(const struct operation *op)
{
    turn = first_turn;
    handler_listener = listener_on(&handler_at);
    run_marked(op);
    if (op->check) op->check();
    exercise();
    still_works(op->name);
}

// Delivers the signal here, and steps behind the handler.
static void interrupt(void)
{
    const struct user_regs_struct here = traced.regs;
    int stop = deliver(SIGUSR1, on_signal);
    while ((stop = go_on(PTRACE_CONT, stop == SIGTRAP ? 0 : stop)) != SIGSTOP) {}
    do {
        go_on(PTRACE_SINGLESTEP, 0);
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
    } while (traced.regs.rip != here.rip || traced.regs.rsp != here.rsp);
}

int main(void)
{
    unsigned total = 0;
    need_library();
    for (unsigned pass = 0; pass < PASSES; pass++)
        for (unsigned o = 0; o < OPERATIONS; o++) {
            first_turn = 2 * pass;
            closes_only = pass == PASSES - 1;
            forks_meanwhile = !closes_only;
            trace(&operations[o], on_signal, SIGUSR1, in_traced);
            while (step(SIGUSR1)) {
                if ((traced.index + o + pass) % PASSES && !everything_asked()) continue;
                interrupt();
                total++;
            }
            let_run(0);
        }
    printf("note: %u interruptions of %d operations\n", total, OPERATIONS);
    return 0;
}
#endif
