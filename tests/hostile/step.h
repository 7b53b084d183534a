// Single-stepping through one call of the program, and interrupting it at every instruction (ptrace(2)).
//
// The child runs prepare(), then one operation between two marks. The tracer steps through it. Where signals are
// blocked no handler can come: there it goes from system call to system call, so that a run is short.
#ifndef HOSTILE_STEP_H
#define HOSTILE_STEP_H

#include "hostile.h"

#include <linux/perf_event.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#if !defined(__x86_64__)
#define STEP_UNKNOWN "knows the registers of x86-64 only"
#else

#define MARK_BEGIN 0x5afec105e0e00001l
#define MARK_END 0x5afec105e0e00002l

// --- What is interrupted ---

HELPER int socket_pair[2], spare_pair[2], listening, set, waiting_client;
HELPER struct sockaddr_in listening_at;
HELPER struct receiver stuck_receiver;

// Everything that an operation may need, in the child.
HELPER void prepare(void)
{
    pair(socket_pair);
    pair(spare_pair);
    listening = listener_on(&listening_at);
    waiting_client = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(waiting_client, (struct sockaddr *)&listening_at, sizeof listening_at));
    set = must(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    must(epoll_ctl(set, EPOLL_CTL_ADD, socket_pair[0], &event));
}

// With threads, libc's fork holds locks of its own that a fork in a handler would wait for.
HELPER void prepare_thread(void)
{
    start_receiver(&stuck_receiver, socket_pair[0]);
}

HELPER bool forks_meanwhile; // the socket may then be shared, and the thread be left

HELPER void woken(void)
{
    if (forks_meanwhile || !library_here()) must(close(socket_pair[1]));
    if (library_here() && !comes_back(&stuck_receiver, DEADLINE_MS)) fail("the thread in recv was not woken");
}

HELPER void op_close(void)
{
    must(close(socket_pair[0]));
}

HELPER void op_dup2_onto(void)
{
    must(dup2(STDERR_FILENO, socket_pair[0]));
}

HELPER void op_close_range(void)
{
    must(close_range((unsigned)socket_pair[0], (unsigned)socket_pair[0], 0));
}

HELPER void op_syscall_close(void)
{
    must(syscall(SYS_close, socket_pair[0]));
}

HELPER int got[2] = {-1, -1};

HELPER void op_socketpair(void)
{
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, got));
}

HELPER void check_socketpair(void)
{
    expect(both_ways(got[0], got[1]));
}

HELPER void op_accept(void)
{
    got[0] = must(accept(listening, NULL, NULL));
}

HELPER void check_accept(void)
{
    expect(both_ways(got[0], waiting_client));
}

HELPER void op_dup(void)
{
    got[0] = must(dup(spare_pair[0]));
}

HELPER void check_dup(void)
{
    must(close(got[0]));
    expect(both_ways(spare_pair[0], spare_pair[1]));
    must(close(spare_pair[0]));
    expect(peer_sees(spare_pair[1], DEADLINE_MS) == 'e');
}

HELPER void op_epoll_add(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    must(epoll_ctl(set, EPOLL_CTL_ADD, spare_pair[0], &event));
}

HELPER void op_fork(void)
{
    pid_t pid = must(fork());
    if (!pid) raw_exit(close(spare_pair[0]) || close(spare_pair[1]));
    got[0] = (int)pid;
}

HELPER void op_fork_alone(void)
{
    pid_t pid = must(_Fork());
    if (!pid) raw_exit(close(spare_pair[0]) || close(spare_pair[1]));
    got[0] = (int)pid;
}

HELPER void check_fork(void)
{
    int status;
    while (waitpid(got[0], &status, 0) < 0 && errno == EINTR) {}
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect(both_ways(spare_pair[0], spare_pair[1]));
}

static char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));

HELPER void op_pass(void)
{
    char byte = 'p';
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &waiting_client, sizeof waiting_client);
    must(sendmsg(spare_pair[0], &m, 0));
}

HELPER void check_pass(void)
{
    int client = accept(listening, NULL, NULL);
    must(close(waiting_client)); // in flight: its connection lives on
    expect(peer_sees(client, 50) == '-');
}

HELPER void prepare_receive(void)
{
    prepare_thread();
    op_pass();
}

HELPER void op_receive(void)
{
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    must(recvmsg(spare_pair[1], &m, 0));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c) fail("no descriptor came");
    memcpy(got, CMSG_DATA(c), sizeof(int));
}

HELPER void check_receive(void)
{
    int client = accept(listening, NULL, NULL);
    must(close(got[0]));
    expect(both_ways(client, waiting_client));
}

struct operation {
    const char *name;
    void (*before)(void); // besides prepare()
    void (*run)(void);
    void (*check)(void); // afterwards, when it has run to its end
    bool may_jump;          // is left by siglongjmp too; false where libc itself does not bear it, or to save time
};

HELPER const struct operation operations[] = {
    {"close", prepare_thread, op_close, woken, true},
    {"dup2 onto a socket", prepare_thread, op_dup2_onto, woken, true},
    {"close_range", prepare_thread, op_close_range, woken, false},
    {"syscall(SYS_close)", prepare_thread, op_syscall_close, woken, false},
    {"socketpair", prepare_thread, op_socketpair, check_socketpair, true},
    {"accept", prepare_thread, op_accept, check_accept, true},
    {"dup", prepare_thread, op_dup, check_dup, true},
    {"epoll_ctl", prepare_thread, op_epoll_add, NULL, true},
    {"sendmsg", prepare_thread, op_pass, check_pass, true},
    {"recvmsg", prepare_receive, op_receive, check_receive, true},
    {"fork", NULL, op_fork, check_fork, false},
    {"_Fork", NULL, op_fork_alone, check_fork, false},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

// --- Which instructions ---

// Most runs interrupt an instruction of the code once or twice, however often it is executed; a full one each time.
// How often this has been asked about the instruction at that address before. Async-signal-safe.
HELPER unsigned visits(unsigned long at)
{
    enum { SIZE = 1 << 15 };
    static struct {
        unsigned long at;
        unsigned n;
    } seen[SIZE];
    unsigned slot = (unsigned)(at * 2654435769u) % SIZE;
    for (unsigned tried = 0; seen[slot].at != at; slot = (slot + 1) % SIZE) {
        if (++tried == SIZE) return 0; // full: every one is new
        if (!seen[slot].at) seen[slot].at = at;
        if (seen[slot].at == at) break;
    }
    return seen[slot].n++;
}

// --- The tracer ---

HELPER struct {
    pid_t pid;
    const struct operation *op;
    unsigned index; // instructions of the operation so far, where signals are not blocked
    struct user_regs_struct regs;
    unsigned long here; // the instruction that is, or was last, interrupted
} traced;

// "instruction 17 (libpreclose.so+0x1234)". The child is a fork: its addresses are ours.
HELPER const char *place(void)
{
    static char text[200];
    Dl_info info;
    unsigned long base = 0;
    const char *name = "";
    if (dladdr((void *)traced.here, &info) && info.dli_fname) {
        name = strrchr(info.dli_fname, '/') ? strrchr(info.dli_fname, '/') + 1 : info.dli_fname;
        base = (unsigned long)info.dli_fbase;
    }
    snprintf(text, sizeof text, "instruction %u (%s+0x%lx)", traced.index, name, traced.here - base);
    return text;
}

HELPER volatile sig_atomic_t late;

HELPER void on_alarm(int sig)
{
    (void)sig;
    late = 1;
}

__attribute__((noreturn, unused)) static void fail_here(const char *why)
{
    char where[600];
    where_it_hangs(traced.pid, where, sizeof where);
    kill(traced.pid, SIGKILL);
    fail("%s, interrupted at %s: %s (%s)", traced.op->name, place(), why, where);
}

// Lets it go on; returns the signal that it stopped with, SIGTRAP|0x80 at a system call.
HELPER int go_on(enum __ptrace_request how, int sig)
{
    int status;
    if (ptrace(how, traced.pid, 0, (void *)(long)sig) < 0) fail_here(strerror(errno));
    alarm(10);
    while (waitpid(traced.pid, &status, __WALL) < 0)
        if (errno != EINTR || late) fail_here("hangs");
    alarm(0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1) _exit(1); // it has said why
    if (WIFEXITED(status)) fail("%s, at %s: ended with status %d", traced.op->name, place(), WEXITSTATUS(status));
    if (WIFSIGNALED(status))
        fail("%s, interrupted at %s: killed by signal %d", traced.op->name, place(), WTERMSIG(status));
    return WSTOPSIG(status);
}

HELPER bool is_signal_blocked(int sig)
{
    uint64_t mask = 0;
    ptrace(PTRACE_GETSIGMASK, traced.pid, (void *)sizeof mask, &mask);
    return mask >> (sig - 1) & 1;
}

// The next place where a handler for sig could come; false when the operation is over.
HELPER bool step(int sig)
{
    int stop = go_on(PTRACE_SINGLESTEP, 0);
    for (;;) {
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
        if (traced.regs.rdi == (unsigned long)MARK_END) return false;
        // Only a system call changes the mask; behind one, rcx is where it went on.
        if (traced.regs.rcx != traced.regs.rip || !is_signal_blocked(sig)) break;
        stop = go_on(PTRACE_SYSCALL, stop == SIGTRAP || stop == (SIGTRAP | 0x80) ? 0 : stop);
    }
    traced.index++;
    traced.here = traced.regs.rip;
    return true;
}

// A breakpoint register is an event to the kernel, and the first event of all waits for every CPU (kernel/events/core.c
// account_event): one that stays makes those that follow cheap.
HELPER void warm_up(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_DUMMY};
    raw6(SYS_perf_event_open, (long)&attr, 0, -1, -1, 0, 0);
}

// Goes to an instruction that step() has met before, by a breakpoint register: the nth time that it comes there with
// sig not blocked.
HELPER void run_to(unsigned long instruction, unsigned nth, int sig)
{
    if (ptrace(PTRACE_POKEUSER, traced.pid, offsetof(struct user, u_debugreg[0]), instruction) < 0 ||
        ptrace(PTRACE_POKEUSER, traced.pid, offsetof(struct user, u_debugreg[7]), 1) < 0)
        skip("no breakpoint registers: %s", strerror(errno));
    traced.here = instruction;
    for (unsigned n = 0; n < nth;) {
        int stop = go_on(PTRACE_CONT, 0);
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
        if (stop != SIGTRAP || traced.regs.rip != instruction) fail_here("stopped elsewhere");
        if (!is_signal_blocked(sig)) n++;
    }
    ptrace(PTRACE_POKEUSER, traced.pid, offsetof(struct user, u_debugreg[7]), 0);
}

// Delivers the signal here: the child stands at the first instruction of its handler. Returns the stop.
HELPER int deliver(int sig, void (*handler)(int))
{
    int stop = go_on(PTRACE_SINGLESTEP, sig);
    if (stop == sig) stop = go_on(PTRACE_SINGLESTEP, sig); // behind a system call it is sent, and announced
    ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
    if (memcmp(&traced.regs.rip, &handler, sizeof handler)) fail_here("the signal was not delivered");
    return stop;
}

// A child that stands in front of the first instruction of op.
HELPER void trace(const struct operation *op, void (*handler)(int), int sig, void (*after)(const struct operation *))
{
    struct sigaction alarmed = {.sa_handler = on_alarm}; // no SA_RESTART: waitpid is to come back
    must(sigaction(SIGALRM, &alarmed, NULL));
    traced.op = op;
    traced.index = 0;
    traced.pid = must(fork());
    if (!traced.pid) {
        prepare();
        if (op->before) op->before();
        struct sigaction sa = {.sa_handler = handler};
        must(sigaction(sig, &sa, NULL));
        must(ptrace(PTRACE_TRACEME, 0, 0, 0));
        raw(SYS_tgkill, getpid(), tid_now(), SIGSTOP);
        after(op);
        _exit(0);
    }
    int status;
    must(waitpid(traced.pid, &status, __WALL));
    if (WIFEXITED(status)) _exit(WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
    must(ptrace(PTRACE_SETOPTIONS, traced.pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD));
    do {
        go_on(PTRACE_SYSCALL, 0);
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
    } while (traced.regs.rdi != (unsigned long)MARK_BEGIN);
    go_on(PTRACE_SYSCALL, 0); // its end
}

__attribute__((noinline)) HELPER void run_marked(const struct operation *op)
{
    raw(SYS_getppid, MARK_BEGIN, 0, 0);
    op->run();
    raw(SYS_getppid, MARK_END, 0, 0);
}

// Lets it run to its end by itself.
HELPER void let_run(int sig)
{
    char what[300];
    snprintf(what, sizeof what, "%s, interrupted at %s", traced.op->name, place());
    if (ptrace(PTRACE_DETACH, traced.pid, 0, (void *)(long)sig) < 0) fail_here(strerror(errno));
    reap(traced.pid, what, 10000);
}

#endif
#endif
