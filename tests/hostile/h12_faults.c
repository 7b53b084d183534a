// timeout: 60
// env: LD_BIND_NOW=1
// Hazard 12: every system call that preclose makes for itself fails once, with one error after another. The program's
// call has its result all the same, no descriptor is left over, the signal mask is as it was, nothing is cut that
// should live, and the next calls work.
#include "step.h"

#include <link.h>

#ifdef STEP_UNKNOWN
int main(void)
{
    skip(STEP_UNKNOWN);
}
#else

enum { CALLS_MAX = 400 };

static const int errors[] = {ENOSYS, EPERM, EINTR, ENOMEM, EAGAIN, EMFILE, EINVAL, ENOENT, EACCES};
enum { ERRORS = sizeof errors / sizeof *errors };

static struct shared {
    int descriptors; // open when the operation is over
    int wrong;       // 1: there are others now
    char what[100];
} *shared;

static unsigned long begin, end; // of the library's code

static int find_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libpreclose")) return 0;
    begin = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) end = begin + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    return 1;
}

static int count_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1100; fd++) n += is_open(fd);
    return n;
}

static bool counts;

static void on_signal(int sig)
{
    (void)sig;
}

static void in_traced(const struct operation *op)
{
    sigset_t before, after;
    memset(&before, 0, sizeof before);
    memset(&after, 0, sizeof after);
    forks_meanwhile = true;
    within = shared->what;
    sigprocmask(SIG_SETMASK, NULL, &before);
    run_marked(op);
    sigprocmask(SIG_SETMASK, NULL, &after);
    if (memcmp(&before, &after, sizeof before)) fail("%s: the signal mask is another", op->name);
    int n = count_descriptors();
    if (counts) shared->descriptors = n;
    else shared->wrong = n != shared->descriptors;
    if (op->check) op->check();
    exercise();
}

// These can't fail, or not in a way that a program survives; and to close is what tidies up.
static bool is_exempt(long nr)
{
    bool asks = nr == SYS_rt_sigprocmask && (int)traced.regs.rdi == -1; // whether memory can be read
    return nr == SYS_getpid || nr == SYS_gettid || (nr == SYS_rt_sigprocmask && !asks) || nr == SYS_clock_gettime ||
           nr == SYS_close || nr == SYS_sched_yield || nr == SYS_exit_group;
}

// Goes to the nth call of the library's own; returns its number, -1 if there are fewer.
static long go_to_call(unsigned nth)
{
    for (unsigned n = 0;;) {
        go_on(PTRACE_SYSCALL, 0); // in front of a call
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
        traced.here = traced.regs.rip;
        if (traced.regs.rdi == (unsigned long)MARK_END) return -1;
        if (traced.regs.rip >= begin && traced.regs.rip < end && n++ == nth) return (long)traced.regs.orig_rax;
        go_on(PTRACE_SYSCALL, 0); // behind it
    }
}

static unsigned faults;

// Returns false if op makes fewer calls.
static bool run_with_fault(const struct operation *op, unsigned nth, int error)
{
    trace(op, on_signal, SIGUSR1, in_traced);
    traced.index = nth;
    long nr = go_to_call(nth);
    if (nr >= 0 && !is_exempt(nr)) {
        traced.regs.orig_rax = (unsigned long)-1;
        ptrace(PTRACE_SETREGS, traced.pid, 0, &traced.regs);
        go_on(PTRACE_SYSCALL, 0);
        ptrace(PTRACE_GETREGS, traced.pid, 0, &traced.regs);
        traced.regs.rax = (unsigned long)-(long)error;
        ptrace(PTRACE_SETREGS, traced.pid, 0, &traced.regs);
        faults++;
    }
    shared->wrong = 0;
    snprintf(shared->what, sizeof shared->what, "%s, whose call %u (number %ld) fails with %s", op->name, nth, nr,
             strerrorname_np(error));
    let_run(0);
    if (shared->wrong) fail("%s: there are not %d descriptors open, as without the fault", shared->what, shared->descriptors);
    return nr >= 0;
}

int main(void)
{
    need_library();
    dl_iterate_phdr(find_library, NULL);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (const struct operation *op = operations; op < operations + OPERATIONS; op++) {
        if (!strncmp(op->name, "fork", 4) || !strncmp(op->name, "syscall", 7)) continue;
        counts = true;
        trace(op, on_signal, SIGUSR1, in_traced);
        let_run(0);
        counts = false;
        for (unsigned nth = 0; nth < CALLS_MAX; nth++) {
            bool more = true;
            for (unsigned e = 0; e < 3; e++) more = run_with_fault(op, nth, errors[(nth + 3 * e) % ERRORS]);
            if (!more) break;
        }
    }
    printf("note: %u faults\n", faults);
    return 0;
}
#endif
