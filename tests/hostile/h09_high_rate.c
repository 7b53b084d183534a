// timeout: 40
// env: LD_BIND_NOW=1
// Hazard 9: signals at a high rate in threads that open, duplicate and close, with handlers that do the same and
// fork; and handlers that leave by siglongjmp. No thread hangs, none loses its connection.
#include "hostile.h"

enum { WORKERS = 3, SECONDS = 2, JUMPS_MAX = 500 };

static volatile sig_atomic_t over;
static _Atomic unsigned signals, jumps;
static __thread sigjmp_buf back __attribute__((tls_model("initial-exec")));
static __thread volatile sig_atomic_t may_jump __attribute__((tls_model("initial-exec")));
static __thread timer_t timer __attribute__((tls_model("initial-exec")));
static __thread uint64_t seed __attribute__((tls_model("initial-exec")));
static __thread volatile unsigned turn __attribute__((tls_model("initial-exec")));

static void act(unsigned what)
{
    int sv[2], status;
    pid_t pid;
    pair(sv);
    switch (what % 6) {
    case 0:
        break;
    case 1:
        must(dup2(sv[0], sv[1]));
        break;
    case 2:
        must(close(must(dup(sv[0]))));
        must(close_range((unsigned)sv[1], (unsigned)sv[1], 0));
        sv[1] = -1;
        break;
    case 3:
        pid = must(_Fork());
        if (!pid) raw_exit(close(sv[0]) || close(sv[1]));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        expect(both_ways(sv[0], sv[1]));
        break;
    case 4:
        pid = (pid_t)must(syscall(SYS_fork));
        if (!pid) raw_exit(close(sv[0]) || close(sv[1]));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        expect(both_ways(sv[0], sv[1]));
        break;
    default:
        must(syscall(SYS_close, sv[1]));
        sv[1] = -1;
        must(sv[1] = (int)syscall(SYS_dup, sv[0]));
        break;
    }
    must(close(sv[0]));
    if (sv[1] >= 0) must(close(sv[1]));
}

// The next one comes a moment after this one's handler is through, so that the thread gets on.
static void next_signal(void)
{
    const long ns = over ? 0 : 20000 + (long)(next_random(&seed) % 100000);
    struct itimerspec t = {.it_value = {.tv_nsec = ns}};
    must(timer_settime(timer, 0, &t, NULL));
}

static void on_signal(int sig)
{
    (void)sig;
    int saved = errno;
    atomic_fetch_add(&signals, 1);
    if (may_jump && turn % 7 == 0 && atomic_load(&jumps) < JUMPS_MAX) {
        turn++;
        atomic_fetch_add(&jumps, 1);
        next_signal();
        siglongjmp(back, 1);
    }
    act(turn++);
    next_signal();
    errno = saved;
}

static void start_signals(void)
{
    struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    e._sigev_un._tid = tid_now();
    seed = (uint64_t)tid_now() * 2654435769u + 1;
    must(timer_create(CLOCK_MONOTONIC, &e, &timer));
    next_signal();
}

static void *work(void *arg)
{
    int a[2];
    turn = (unsigned)(uintptr_t)arg;
    pair(a);
    start_signals();
    while (!over) {
        exercise();
        expect(both_ways(a[0], a[1])); // no one cuts what is ours
    }
    return NULL;
}

// Leaves by siglongjmp now and then: whatever it had just opened stays open.
static void *jump(void *arg)
{
    int a[2];
    (void)arg;
    pair(a);
    start_signals();
    while (!over) {
        if (sigsetjmp(back, 1) == 0) {
            may_jump = 1;
            exercise();
        }
        may_jump = 0;
        expect(both_ways(a[0], a[1]));
    }
    return NULL;
}

static void enter_sandbox(void)
{
    struct filter f = filter_new();
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

static void attack(long jumping)
{
    pthread_t t[WORKERS];
    struct sigaction sa = {.sa_handler = on_signal};
    must(sigaction(SIGRTMIN, &sa, NULL));
    for (uintptr_t i = 0; i < WORKERS; i++) t[i] = start_thread(jumping && i ? jump : work, (void *)i);
    // On a machine that is busy otherwise as long as it takes for some to come.
    for (int64_t start = now_ms(), past = 0; past < SECONDS * 1000 || (atomic_load(&signals) < 100 && past < 9000);
         past = now_ms() - start)
        look_again();
    over = 1;
    for (int i = 0; i < WORKERS; i++) pthread_join(t[i], NULL);
    still_works("signals");
    enter_sandbox();
    if (atomic_load(&signals) < 100) fail("only %u signals came", atomic_load(&signals));
    printf("note: %u signals, %u jumps\n", atomic_load(&signals), atomic_load(&jumps));
    fflush(stdout);
}

int main(void)
{
    need_library();
    in_child("handlers that return", 12000, attack, 0);
    in_child("handlers that jump", 12000, attack, 1);
    return 0;
}
