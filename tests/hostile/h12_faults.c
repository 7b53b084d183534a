// timeout: 90
// env: LD_BIND_NOW=1
// Hazard 12: every system call that preclose makes for itself, from its constructor to the end of the process, fails once
// with each error that it can have, also those of its thread that looks into /proc. The program's call has its result all
// the same, nothing is cut that should live, no epoll set shows an event, no descriptor is left over, the signal mask is
// as it was, and the next calls work. In the time that a test has, the first and the last call that each place in the code
// makes fail once or more in each operation; HOSTILE_FAULTS=all takes the time for every call and every error.
#include "step.h"

#include <link.h>
#include <sys/mount.h>
#include <sys/personality.h>

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

enum { CALLS_MAX = 600, ERRORS_MAX = 8, SECONDS = 16, TRACEES = 8, MASK = 100000 };

// --- What can fail, and how. EBADF only where a descriptor is not open ---

static const struct fault {
    long nr;
    bool done; // the kernel has done it all the same
    int errors[ERRORS_MAX];
} faults[] = {
    {SYS_clone, false, {EAGAIN, ENOMEM, EPERM, ENOSYS}},
    {SYS_clock_gettime, false, {EINVAL, EPERM}},
    {SYS_close, true, {EINTR, EIO}},
    {SYS_close_range, false, {ENOSYS, EINVAL, EMFILE, ENOMEM}},
    {SYS_connect, false, {EBUSY, EINPROGRESS, EAFNOSUPPORT, EPERM}},
    {SYS_dup, false, {EMFILE}},
    {SYS_dup3, false, {EMFILE, EBUSY, EINTR}},
    {SYS_epoll_ctl, false, {ENOENT, EPERM, EINVAL, ENOMEM}},
    {SYS_fcntl, false, {EMFILE, EINVAL, EINTR}},
    {SYS_fstat, false, {EOVERFLOW, ENOMEM, ESTALE}},
    {SYS_fstatfs, false, {EIO, ENOSYS, EINTR}},
    {SYS_futex, false, {EINTR, EAGAIN, ENOMEM}},
    {SYS_getcwd, false, {ENOENT, ERANGE}},
    {SYS_getdents64, false, {ENOENT, ESRCH, EINVAL, ENOTDIR}},
    {SYS_getpeername, false, {ENOTCONN, ENOBUFS, EINVAL}},
    {SYS_getsockname, false, {ENOBUFS, EINVAL}},
    {SYS_getsockopt, false, {ENOPROTOOPT, EOPNOTSUPP, EACCES, EINVAL, ENOTSOCK}},
    {SYS_ioctl, false, {ENOTTY, EINVAL, ENOMEM}},
    {SYS_kcmp, false, {EPERM, ENOSYS, ESRCH, EINVAL}},
    {SYS_lseek, false, {EINVAL, ESPIPE}},
    {SYS_madvise, false, {EINVAL, ENOMEM, EAGAIN}},
    {SYS_mmap, false, {ENOMEM, EAGAIN, EPERM}},
    {SYS_munmap, false, {ENOMEM, EINVAL}},
    {SYS_nanosleep, false, {EINTR}},
    {SYS_newfstatat, false, {ENOENT, EACCES, ENOMEM}},
    {SYS_openat, false, {EMFILE, ENOENT, EACCES, ENFILE, ENOMEM, EINTR, EPERM}},
    {SYS_ppoll, false, {EINTR, ENOMEM, EINVAL}},
    {SYS_prctl, false, {EINVAL, EPERM, EFAULT}},
    {SYS_pread64, false, {EIO, ESRCH, EPERM, EINTR, EAGAIN, EISDIR}},
    {SYS_preadv2, false, {EAGAIN, EOPNOTSUPP, EIO}},
    {SYS_prlimit64, false, {EPERM, EINVAL}},
    {SYS_process_vm_readv, false, {EPERM, ENOSYS, ESRCH, EFAULT, ENOMEM}},
    {SYS_pwritev2, false, {EAGAIN, EPIPE, EOPNOTSUPP, ENOSPC, EIO, EINTR, ENOSYS}},
    {SYS_read, false, {EIO, ESRCH, EINTR, EAGAIN}},
    {SYS_readlink, false, {ENOENT, EACCES, EINVAL}},
    {SYS_readlinkat, false, {ENOENT, EACCES, ENOMEM, EINVAL}},
    {SYS_recvfrom, false, {EINTR, EAGAIN, ENOBUFS, ENOMEM}},
    {SYS_recvmsg, false, {EINTR, EAGAIN, ENOBUFS}},
    {SYS_rt_sigaction, false, {EINVAL}},
    {SYS_rt_sigpending, false, {EFAULT}},
    {SYS_rt_sigprocmask, false, {EPERM, ENOSYS}}, // where it asks whether memory can be read
    {SYS_rt_sigtimedwait, false, {EAGAIN, EINTR}},
    {SYS_sendmsg, false, {EAGAIN, EPIPE, ENOTCONN, ENOBUFS}},
    {SYS_sendto, false, {ENOBUFS, EPERM, EAGAIN, ECONNREFUSED, EINTR}},
    {SYS_setsockopt, false, {ENOPROTOOPT, EINVAL, EPERM, ENOMEM}},
    {SYS_shutdown, false, {ENOTCONN, EOPNOTSUPP, EINVAL}},
    {SYS_shutdown, true, {ENOTCONN}},
    {SYS_socket, false, {EMFILE, EPROTONOSUPPORT, EACCES, ENFILE, ENOBUFS, EAFNOSUPPORT}},
    {SYS_tgkill, false, {EPERM, EAGAIN}},
    {SYS_write, false, {EAGAIN, EPIPE, ENOSPC, EIO, EINTR, EFBIG}},
    {SYS_writev, false, {EAGAIN, EPIPE, ENOSPC, EIO, EINTR, EFBIG}},
};

// These can't fail, whatever happens.
static bool is_exempt(long nr)
{
    return nr == SYS_getpid || nr == SYS_gettid || nr == SYS_geteuid || nr == MASK || nr == SYS_sched_yield ||
           nr == SYS_exit || nr == SYS_exit_group;
}

// To be told from the one with which memory is looked at: that has a how that there is not.
static long number_of(const struct user_regs_struct *regs)
{
    return regs->orig_rax == SYS_rt_sigprocmask && (int)regs->rdi >= 0 ? MASK : (long)regs->orig_rax;
}

// The nth way for this call to fail; NULL if it has fewer.
static const struct fault *fault_of(long nr, unsigned nth, int *error)
{
    for (const struct fault *f = faults; f < faults + sizeof faults / sizeof *faults; f++) {
        if (f->nr != nr) continue;
        unsigned n = 0;
        while (n < ERRORS_MAX && f->errors[n]) n++;
        if (nth < n) {
            *error = f->errors[nth];
            return f;
        }
        nth -= n;
    }
    return NULL;
}

static bool is_known(long nr)
{
    int error;
    return is_exempt(nr) || fault_of(nr, 0, &error);
}

// --- What it happens to, besides the operations of step.h ---

static int hold[2], child_says[2];
static pid_t holder;

// Somebody else holds it, a thread of ours is blocked on it.
static void prepare_shared(void)
{
    prepare_thread();
    must(pipe(hold));
    must(pipe(child_says));
    holder = must(fork());
    char byte = 'h';
    if (holder) {
        must(read(child_says[0], &byte, 1));
        return;
    }
    raw_close(socket_pair[1]);
    raw(SYS_dup3, socket_pair[0], 500, 0); // not at the number where it is looked for first
    raw_close(socket_pair[0]);
    raw(SYS_write, child_says[1], (long)&byte, 1);
    raw(SYS_read, hold[0], (long)&byte, 1);
    if (raw(SYS_read, 500, (long)&byte, 1) == 1) raw(SYS_write, 500, (long)&byte, 1);
    raw_exit(0);
}

static void check_shared(void)
{
    expect(send(socket_pair[1], "r", 1, MSG_NOSIGNAL) == 1);
    if (!comes_back(&stuck_receiver, DEADLINE_MS) || stuck_receiver.got != 1) fail("it was cut under its other holder");
    must(write(hold[1], "g", 1));
    expect(send(socket_pair[1], "x", 1, MSG_NOSIGNAL) == 1 && peer_sees(socket_pair[1], DEADLINE_MS) == 'd');
    reap(holder, "the holder", DEADLINE_MS);
}

// Nobody does any more, which has to be proven. If it can't be, the thread stays.
static void prepare_proof(void)
{
    prepare_thread();
    pid_t pid = must(fork());
    if (!pid) raw_exit(0);
    reap(pid, "the child", DEADLINE_MS);
}

static void check_proof(void)
{
    if (peer_sees(socket_pair[1], 0) == '-') must(send(socket_pair[1], "r", 1, MSG_NOSIGNAL) < 0 ? 0 : 1);
    if (!comes_back(&stuck_receiver, DEADLINE_MS)) fail("the thread in recv hangs");
}

static void op_close_duplicate(void)
{
    must(close(spare_pair[0]));
}

static void prepare_duplicate(void)
{
    got[0] = must(dup(spare_pair[0]));
}

static void check_duplicate(void)
{
    expect(both_ways(got[0], spare_pair[1]));
}

static void op_close_twice(void)
{
    must(close(spare_pair[0]));
    errno = 0;
    expect(close(spare_pair[0]) == -1 && errno == EBADF);
    expect(shutdown(spare_pair[0], SHUT_RD) == -1 && errno == EBADF);
}

static void op_close_listener(void)
{
    must(close(listening));
}

static void check_listener(void)
{
    expect(peer_sees(waiting_client, DEADLINE_MS) == 'r');
}

static FILE *stream;

static void prepare_stream(void)
{
    stream = fdopen(spare_pair[0], "w");
    if (!stream || fputs("in the buffer", stream) < 0) fail("no stream");
}

static void op_fclose(void)
{
    expect(fclose(stream) == 0);
}

static void check_stream(void)
{
    char text[20] = "";
    expect(read(spare_pair[1], text, sizeof text) == 13 && !strcmp(text, "in the buffer"));
    expect(peer_sees(spare_pair[1], DEADLINE_MS) == 'e');
}

static void op_unread(void)
{
    must(close(waiting_client)); // bytes lie there, and some of ours are on their way
}

static void prepare_unread(void)
{
    got[0] = must(accept(listening, NULL, NULL));
    expect(send(got[0], "unread", 6, 0) == 6 && send(waiting_client, "x", 1, 0) == 1);
}

static void op_sweep(void)
{
    must(close_range(3, UINT_MAX, 0));
    socket_pair[0] = socket_pair[1] = spare_pair[0] = spare_pair[1] = listening = waiting_client = -1;
}

static void op_spawn(void)
{
    expect(system("exit 7") == 7 << 8);
}

// What runs from here on is without us.
static void op_sandbox(void)
{
    struct filter f = filter_new();
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

static void check_sandbox(void)
{
    must(close(socket_pair[1]));
    expect(comes_back(&stuck_receiver, DEADLINE_MS));
}

// A program from its first instruction to its last.
static void op_program(void)
{
    char *argv[] = {(char[]){"self"}, (char[]){"whole life"}, NULL};
    execv("/proc/self/exe", argv);
    fail("cannot run myself: %s", strerror(errno));
}

static int whole_life(void)
{
    int sv[2];
    pair(sv);
    if (fcntl(3, F_GETFD) < 0) fail("what was open is not");
    exercise();
    must(close(sv[0]));
    errno = 0;
    expect(close(sv[0]) == -1 && errno == EBADF);
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
    return 7;
}

static const struct operation more[] = {
    {"close of a shared socket", prepare_shared, op_close, check_shared, false},
    {"close of one that was shared", prepare_proof, op_close, check_proof, false},
    {"close of a duplicate", prepare_duplicate, op_close_duplicate, check_duplicate, false},
    {"a second close", prepare_thread, op_close_twice, NULL, false},
    {"close of a listener", prepare_thread, op_close_listener, check_listener, false},
    {"close with bytes unread", prepare_unread, op_unread, NULL, false},
    {"fclose", prepare_stream, op_fclose, check_stream, false},
    {"close_range of all", NULL, op_sweep, NULL, false},
    {"system", prepare_thread, op_spawn, NULL, false},
    {"prctl(PR_SET_SECCOMP)", prepare_thread, op_sandbox, check_sandbox, false},
    {"a whole program", NULL, op_program, NULL, false},
};
enum { MORE = sizeof more / sizeof *more, ALL = OPERATIONS + MORE };

static const struct operation *operation(unsigned i)
{
    return i < OPERATIONS ? &operations[i] : &more[i - OPERATIONS];
}

static unsigned index_of(const struct operation *op)
{
    return op >= more && op < more + MORE ? OPERATIONS + (unsigned)(op - more) : (unsigned)(op - operations);
}

// --- In the child ---

static struct shared {
    int descriptors[ALL]; // open when the operation is over
    int wrong;            // there are so many now
    char what[160];
} *shared;

static bool counts;

static int count_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1100; fd++) n += is_open(fd);
    return n;
}

static void on_signal(int sig)
{
    (void)sig;
}

static void in_traced(const struct operation *op)
{
    sigset_t before, after;
    struct epoll_event event;
    memset(&before, 0, sizeof before);
    memset(&after, 0, sizeof after);
    forks_meanwhile = true;
    within = shared->what;
    sigprocmask(SIG_SETMASK, NULL, &before);
    errno = 4242;
    run_marked(op);
    sigprocmask(SIG_SETMASK, NULL, &after);
    if (memcmp(&before, &after, sizeof before)) fail("the signal mask is another");
    if (op->run != op_sweep && op->run != op_spawn && epoll_wait(set, &event, 1, 0)) fail("the epoll set shows an event");
    int n = count_descriptors();
    int *usual = &shared->descriptors[index_of(op)];
    if (counts) *usual = n;
    else if (n > *usual || (n < *usual && op->run != op_sweep)) shared->wrong = n; // a sweep may take our log too
    if (op->check) op->check();
    if (op->run == op_sandbox) return;
    exercise();
}

// --- The tracer of all its threads ---

static unsigned long begin, end; // of the library's code
static unsigned long there_begin, there_end; // in the program that is being run, where it is known

static int find_code(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libpreclose")) return 0;
    begin = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) end = begin + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    return 1;
}

// The library in a program that has just been run lies elsewhere.
static void find_library_there(void)
{
    char path[64], *text, *line;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)traced.pid);
    text = text_of(path);
    there_begin = there_end = 0;
    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long from, to;
        if (!strstr(line, "libpreclose") || sscanf(line, "%lx-%lx", &from, &to) != 2) continue;
        if (!there_begin) there_begin = from;
        there_end = to;
    }
    free(text);
}

struct tracee {
    pid_t tid;
    bool inside; // a system call
};

// The calls that an operation makes.
struct plan {
    unsigned n;
    struct {
        long nr;
        unsigned long place;
        bool first, last; // at that place
        unsigned way;     // in which it fails next
    } call[CALLS_MAX];
};

struct hunt {
    struct tracee tracee[TRACEES];
    unsigned n, seen;   // threads; calls of the library's own until now
    unsigned nth;       // which of them fails
    unsigned way;       // and how
    bool execs, over;   // it has become another program; the operation has ended
    struct plan *plan;  // is written, and nothing fails
    long nr;            // the call that it was, or -1
    int error;          // 0: it has no such way to fail
    pid_t failing;      // its thread, until the call has returned
    int status;         // of the process at its end
};

static struct tracee *tracee_of(struct hunt *h, pid_t tid)
{
    for (unsigned i = 0; i < h->n; i++)
        if (h->tracee[i].tid == tid) return &h->tracee[i];
    if (h->n == TRACEES) fail_here("too many threads");
    h->tracee[h->n] = (struct tracee){.tid = tid};
    return &h->tracee[h->n++];
}

static void drop_tracee(struct hunt *h, pid_t tid)
{
    for (unsigned i = 0; i < h->n; i++)
        if (h->tracee[i].tid == tid) h->tracee[i] = h->tracee[--h->n];
}

static bool is_ours(const struct hunt *h, unsigned long at)
{
    return h->execs ? at >= there_begin && at < there_end : at >= begin && at < end;
}

static void note_call(struct plan *p, long nr, unsigned long place)
{
    bool first = true;
    if (p->n == CALLS_MAX) return;
    if (!is_known(nr)) fail("%s: call number %ld is not in the table of what can fail", traced.op->name, nr);
    for (unsigned i = 0; i < p->n; i++) {
        if (p->call[i].place != place) continue;
        first = p->call[i].last = false;
    }
    p->call[p->n].nr = nr;
    p->call[p->n].place = place;
    p->call[p->n].first = first;
    p->call[p->n].last = true;
    p->call[p->n++].way = 0;
}

// Where in the code a call is made, and on whose behalf: what looks like the next return addresses counts too.
static unsigned long place_of(const struct hunt *h, pid_t tid, const struct user_regs_struct *regs)
{
    unsigned long base = h->execs ? there_begin : begin, place = regs->rip - base, stack[40] = {0};
    struct iovec here = {stack, sizeof stack}, there = {(void *)regs->rsp, sizeof stack};
    raw6(SYS_process_vm_readv, tid, (long)&here, 1, (long)&there, 1, 0);
    for (unsigned i = 0, found = 0; i < 40 && found < 2; i++)
        if (is_ours(h, stack[i])) place = place * 31 + stack[i] - base, found++;
    return place;
}

static void before_call(struct hunt *h, pid_t tid, struct user_regs_struct *regs)
{
    if (regs->rdi == (unsigned long)MARK_END) h->over = true;
    if (h->execs && !there_end && regs->orig_rax == SYS_getpid) find_library_there();
    if (h->over || h->nr >= 0 || !is_ours(h, regs->rip)) return;
    if (h->plan) note_call(h->plan, number_of(regs), place_of(h, tid, regs));
    if (h->seen++ != h->nth) return;
    h->nr = number_of(regs);
    traced.here = regs->rip;
    const struct fault *f = fault_of(h->nr, h->way, &h->error);
    // A holder lives: the kernel does not say that it is gone.
    if (traced.op->check == check_shared && (h->error == ENOENT || h->error == ESRCH)) h->error = 0;
    if (!f || !h->error) return;
    snprintf(shared->what, sizeof shared->what, "%s, whose call %u (number %ld, at libpreclose.so+0x%lx) fails with %s",
             traced.op->name, h->nth, h->nr, (unsigned long)regs->rip - (h->execs ? there_begin : begin),
             strerrorname_np(h->error));
    h->failing = tid;
    if (f->done) return;
    regs->orig_rax = (unsigned long)-1;
    ptrace(PTRACE_SETREGS, tid, 0, regs);
}

static void after_call(struct hunt *h, pid_t tid, struct user_regs_struct *regs)
{
    if (h->failing != tid) return;
    h->failing = 0;
    regs->rax = (unsigned long)-(long)h->error;
    ptrace(PTRACE_SETREGS, tid, 0, regs);
}

// One stop of one thread. Returns the signal that it is to go on with.
static int at_stop(struct hunt *h, pid_t tid, int status)
{
    struct user_regs_struct regs;
    struct tracee *t = tracee_of(h, tid);
    int stop = WSTOPSIG(status);
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8)) h->execs = true, there_end = 0;
    if (stop == SIGTRAP) return 0;
    if (stop == SIGSTOP) return 0; // a thread begins
    if (stop != (SIGTRAP | 0x80)) return stop;
    ptrace(PTRACE_GETREGS, tid, 0, &regs);
    t->inside = !t->inside;
    if (t->inside) before_call(h, tid, &regs);
    else after_call(h, tid, &regs);
    return 0;
}

// Traces every thread that it starts, until it ends.
static void hunt(struct hunt *h)
{
    h->nr = -1;
    tracee_of(h, traced.pid);
    ptrace(PTRACE_SETOPTIONS, traced.pid, 0,
           PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
    pid_t tid = traced.pid;
    int sig = 0;
    for (;;) {
        // When it has happened, it runs by itself.
        bool found = h->over || (h->nr >= 0 && !h->failing);
        if (ptrace(found ? PTRACE_CONT : PTRACE_SYSCALL, tid, 0, (void *)(long)sig) < 0 && errno != ESRCH)
            fail_here(strerror(errno));
        do {
            alarm(10);
            while ((tid = waitpid(-1, &h->status, __WALL)) < 0)
                if (errno != EINTR || late) fail_here("hangs");
            alarm(0);
            if (WIFSTOPPED(h->status)) break;
            drop_tracee(h, tid);
        } while (tid != traced.pid);
        if (!WIFSTOPPED(h->status)) return;
        sig = at_stop(h, tid, h->status);
    }
}

static unsigned injected;

// Runs the operation with its nth call failing, or none (plan, which is written).
static void run_with_fault(const struct operation *op, unsigned nth, unsigned way, struct plan *plan)
{
    struct hunt h = {.nth = nth, .way = way, .plan = plan};
    int expected = op->run == op_program ? 7 : 0;
    shared->wrong = 0;
    snprintf(shared->what, sizeof shared->what, "%s, without a fault", op->name);
    trace(op, on_signal, SIGUSR1, in_traced);
    traced.index = nth;
    hunt(&h);
    injected += h.error != 0;
    if (WIFSIGNALED(h.status)) fail("%s: killed by signal %d", shared->what, WTERMSIG(h.status));
    if (WEXITSTATUS(h.status) == 1) _exit(1); // it has said why
    if (WEXITSTATUS(h.status) != expected) fail("%s: ended with status %d", shared->what, WEXITSTATUS(h.status));
    if (shared->wrong)
        fail("%s: %d descriptors are open, %d without the fault", shared->what, shared->wrong,
             shared->descriptors[index_of(op)]);
}

static struct plan plans[ALL];

// The next fault of an operation that is worth its time: another place first, then another error. Returns whether
// there was one.
static bool next_fault(const struct operation *op, struct plan *p, unsigned round, bool all)
{
    int error;
    bool any = false;
    for (unsigned n = 0; n < p->n; n++) {
        if (!all && !p->call[n].first && !p->call[n].last) continue;
        if (p->call[n].way > round || !fault_of(p->call[n].nr, p->call[n].way, &error)) continue;
        any = true;
        run_with_fault(op, n, p->call[n].way++, NULL);
    }
    return any;
}

static void all_faults(void)
{
    const char *all = getenv("HOSTILE_FAULTS"), *only = getenv("HOSTILE_ONLY");
    int64_t until = now_ms() + SECONDS * 1000;
    bool any = true;
    unsigned calls = 0, places = 0;
    for (unsigned round = 0; any && (all || !round || now_ms() < until); round++) {
        any = false;
        for (unsigned i = 0; i < ALL && (all || !round || now_ms() < until); i++) {
            const struct operation *op = operation(i);
            struct plan *p = &plans[i];
            if (only && strcmp(only, op->name)) continue;
            counts = true;
            if (!round) run_with_fault(op, CALLS_MAX, 0, p);
            counts = false;
            any |= next_fault(op, p, round, all);
        }
    }
    for (unsigned i = 0; i < ALL; i++)
        for (unsigned n = 0; n < plans[i].n; n++) calls++, places += plans[i].call[n].first;
    printf("note: %u faults in %u operations, which make %u calls at %u places%s\n", injected, (unsigned)ALL, calls, places,
           any ? "" : ", all of them");
    fflush(stdout);
}

// Among few processes, so that a look into all of them is short.
static void among_few(long arg)
{
    (void)arg;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    pid_t pid = must(fork());
    if (!pid) {
        all_faults();
        raw_exit(0);
    }
    int status;
    while (waitpid(-1, &status, 0) != pid) continue;
    raw_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc == 2) return whole_life();
    need_library();
    dl_iterate_phdr(find_code, NULL);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (unshare(CLONE_NEWPID | CLONE_NEWNS)) all_faults();
    else in_child("faults", getenv("HOSTILE_FAULTS") ? 3600000 : 80000, among_few, 0);
    return 0;
}
#endif
