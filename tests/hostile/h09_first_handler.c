// timeout: 60
// env: LD_BIND_NOW=1
// Hazard 9: however a program gets its first handler, and be it by a system call of its own before its first socket, or while
// its threads are at work: the handler comes at a high rate and leaves by siglongjmp, out of calls that open, duplicate and
// close. The other threads go on, and none loses its connection.
#include "hostile.h"

enum { OTHERS = 2, SIGNALS = 1500, FEW = 50, GOES_ON = 20 };

// glibc has them for old programs, and says so.
sighandler_t old_signal(int, sighandler_t) __asm__("sysv_signal");
sighandler_t old_set(int, sighandler_t) __asm__("sigset");

static volatile sig_atomic_t over;
static _Atomic unsigned signals, rounds[OTHERS];
static __thread sigjmp_buf back __attribute__((tls_model("initial-exec")));
static __thread volatile sig_atomic_t may_jump __attribute__((tls_model("initial-exec")));
static _Atomic bool jumper_is_ready;
static pthread_t jumper;
static int numbers; // of descriptors

static void on_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&signals, 1);
    if (!may_jump) return;
    may_jump = 0;
    siglongjmp(back, 1);
}

// The kernel's struct sigaction (include/linux/signal_types.h).
struct kernel_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

#if defined(__x86_64__)
__asm__(".text\nback_from_handler:\n\tmov $15, %eax\n\tsyscall\n");
void back_from_handler(void);
#define KERNEL_ACTION {on_signal, 0x04000000 | SA_NODEFER, back_from_handler, 0} // SA_RESTORER
#else
#define KERNEL_ACTION {on_signal, SA_NODEFER, NULL, 0}
#endif

static void by_sigaction(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    must(sigaction(SIGUSR1, &sa, NULL));
}

static void on_siginfo(int sig, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    on_signal(sig);
}

static void by_siginfo(void)
{
    struct sigaction sa = {.sa_sigaction = on_siginfo, .sa_flags = SA_NODEFER | SA_SIGINFO};
    must(sigaction(SIGUSR1, &sa, NULL));
}

static void by_signal(void)
{
    expect(signal(SIGUSR1, on_signal) != SIG_ERR);
}

static void by_sysv_signal(void)
{
    expect(old_signal(SIGUSR1, on_signal) != SIG_ERR);
}

static void by_sigset(void)
{
    expect(old_set(SIGUSR1, on_signal) != SIG_ERR);
}

static void by_number(void)
{
    struct kernel_action a = KERNEL_ACTION;
    must(syscall(SYS_rt_sigaction, SIGUSR1, &a, NULL, sizeof a.mask));
}

static void unseen(void)
{
    struct kernel_action a = KERNEL_ACTION;
    must(raw6(SYS_rt_sigaction, SIGUSR1, (long)&a, 0, sizeof a.mask, 0, 0));
}

static const struct way {
    const char *name;
    void (*install)(void);
} ways[] = {
    {"sigaction", by_sigaction}, {"sigaction with SA_SIGINFO", by_siginfo},
    {"signal", by_signal},       {"sysv_signal", by_sysv_signal},
    {"sigset", by_sigset},       {"rt_sigaction by number", by_number},
    {"rt_sigaction unseen", unseen},
};
enum { WAYS = sizeof ways / sizeof *ways };

// What a call that was left had opened stays open; some numbers are left to the other threads.
static void churn(void)
{
    int sv[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) return;
    int d = sv[1] < numbers - 100 ? dup(sv[0]) : -1;
    close(sv[0]);
    close(sv[1]);
    close(d);
}

static void *jump(void *arg)
{
    volatile unsigned turn = 0;
    int a[2];
    pair(a);
    atomic_store(&jumper_is_ready, true);
    while (!over) {
        if (sigsetjmp(back, 1) == 0) {
            may_jump = 1;
            churn();
        }
        may_jump = 0;
        if (++turn % 16 == 0) expect(both_ways(a[0], a[1]));
    }
    still_works("jumps of this thread's own");
    return arg;
}

static void *go_on(void *arg)
{
    _Atomic unsigned *mine = &rounds[(uintptr_t)arg];
    int a[2];
    pair(a);
    while (!over) {
        exercise();
        expect(both_ways(a[0], a[1]));
        atomic_fetch_add(mine, 1);
    }
    return NULL;
}

// Signals as fast as they are taken, for a while; on a busy machine until some have been.
static void bombard(const struct way *way)
{
    int64_t begun = now_ms();
    bool anew = way->install == by_sysv_signal; // it is installed for one signal
    for (unsigned n = 1; n <= SIGNALS && (n < FEW || now_ms() < begun + 2000); n++) {
        if (anew) way->install();
        pthread_kill(jumper, SIGUSR1);
        while (atomic_load(&signals) < n) {
            if (now_ms() > begun + 3 * DEADLINE_MS) fail("signal %u is never taken", n);
            sched_yield();
        }
    }
}

static void attack(long n)
{
    const struct way *way = &ways[n % WAYS];
    bool late = n / WAYS; // with the threads at work
    pthread_t others[OTHERS];
    if (!late) way->install();
    for (uintptr_t i = 0; i < OTHERS; i++) others[i] = start_thread(go_on, (void *)i);
    jumper = start_thread(jump, NULL);
    while (!atomic_load(&jumper_is_ready)) sched_yield();
    if (late) way->install();
    bombard(way);
    for (int i = 0; i < OTHERS; i++) {
        unsigned before = atomic_load(&rounds[i]);
        for (int64_t end = now_ms() + DEADLINE_MS; atomic_load(&rounds[i]) < before + GOES_ON; look_again())
            if (now_ms() > end) fail("another thread does not go on");
    }
    over = 1;
    for (int i = 0; i < OTHERS; i++) pthread_join(others[i], NULL);
    pthread_join(jumper, NULL);
    still_works("signals");
}

int main(void)
{
    struct rlimit limit;
    need_library();
    must(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max < 20000 ? limit.rlim_max : 20000;
    must(setrlimit(RLIMIT_NOFILE, &limit));
    numbers = (int)limit.rlim_cur;
    for (long n = 0; n < 2 * WAYS; n++) {
        bool late = n / WAYS;
        if (late && ways[n % WAYS].install == unseen) continue; // nobody can know
        char what[64];
        snprintf(what, sizeof what, "%s, %s", ways[n % WAYS].name, late ? "with threads at work" : "at the start");
        in_child(what, 25000, attack, n);
    }
    return 0;
}
