// timeout: 40
// Hazard 11: threads are cancelled inside the calls that preclose stands behind: where they wait, with a cancellation
// pending, and asynchronously at any moment. What is known of the descriptors stays right, no lock stays held, and
// the process can still enter a sandbox.
#include "hostile.h"

static _Atomic pid_t tid;
static int on, spare[2];
static long kind;

static void *wait_in_call(void *arg)
{
    char byte, control[64];
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct mmsghdr mm = {.msg_hdr = m};
    atomic_store(&tid, tid_now());
    switch (kind) {
    case 0:
        accept(on, NULL, NULL);
        break;
    case 1:
        accept4(on, NULL, NULL, SOCK_CLOEXEC);
        break;
    case 2:
        recvmsg(on, &m, 0);
        break;
    case 3:
        recvmmsg(on, &mm, 1, 0, NULL);
        break;
    case 4:
        syscall(SYS_accept, on, NULL, NULL);
        break;
    default:
        close(on); // lingers
    }
    return arg;
}

static void after_all(void)
{
    exercise();
    still_works("a cancellation");
    struct filter f = filter_new();
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
    exercise();
}

static void in_call(long how)
{
    static const long number[] = {SYS_accept, SYS_accept4, SYS_recvmsg, SYS_recvmmsg, SYS_accept, SYS_close};
    struct sockaddr_in at;
    int sv[2];
    void *result;
    kind = how;
    pair(spare);
    if (how == 2 || how == 3) {
        pair(sv);
        on = sv[0];
    } else if (how == 5) {
        // A close that lingers, with a peer that never reads.
        static char bytes[1 << 16];
        struct linger l = {.l_onoff = 1, .l_linger = 30};
        tcp_pair(sv);
        on = sv[0];
        must(setsockopt(on, SOL_SOCKET, SO_LINGER, &l, sizeof l));
        while (send(on, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {}
    } else {
        on = listener_on(&at);
    }
    pthread_t t = start_thread(wait_in_call, NULL);
    while (!atomic_load(&tid)) look_again();
    wait_blocked(tid, number[how]);
    pthread_cancel(t);
    if (how == 4) { // syscall() is no cancellation point
        int c = must(socket(AF_INET, SOCK_STREAM, 0));
        must(connect(c, (struct sockaddr *)&at, sizeof at));
    }
    pthread_join(t, &result);
    if (how != 4) expect(result == PTHREAD_CANCELED);
    if (how < 5) {
        expect(is_open(on));
        must(close(on));
    }
    after_all();
}

static void *close_with_cancellation_pending(void *arg)
{
    pthread_cancel(pthread_self());
    switch (kind) {
    case 0:
        close(on);
        break;
    case 1:
        fclose(arg);
        break;
    default:
        syscall(SYS_close, on);
    }
    return NULL;
}

// Cancelled before it could close: what the kernel did not close is not cut either.
static void pending(long how)
{
    int sv[2];
    kind = how;
    pair(sv);
    on = sv[0];
    FILE *f = how == 1 ? fdopen(on, "r+") : NULL;
    pthread_join(start_thread(close_with_cancellation_pending, f), NULL);
    if (is_open(on)) expect(both_ways(sv[0], sv[1]));
    else expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
    if (is_open(on) && how != 1) {
        must(close(on));
        expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
    }
    after_all();
}

static void *run_for_ever(void *arg)
{
    int old;
    atomic_store(&tid, tid_now());
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    for (;;) {
        int sv[2];
        struct epoll_event e = {.events = EPOLLIN};
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) continue;
        int d = dup(sv[0]);
        epoll_ctl(on, EPOLL_CTL_ADD, sv[0], &e);
        close(sv[0]);
        dup2(sv[1], d);
        close(d);
        close(sv[1]);
    }
    return arg;
}

static void asynchronous(long arg)
{
    uint64_t seed = 7;
    (void)arg;
    on = must(epoll_create1(0));
    pair(spare);
    for (int i = 0; i < 1500; i++) {
        void *result;
        atomic_store(&tid, 0);
        pthread_t t = start_thread(run_for_ever, NULL);
        while (!atomic_load(&tid)) sched_yield();
        for (uint64_t spin = next_random(&seed) % 3000; spin; spin--) __asm__ volatile("" ::: "memory");
        pthread_cancel(t);
        pthread_join(t, &result);
        expect(result == PTHREAD_CANCELED);
        if (i % 100 == 0) {
            exercise();
            expect(both_ways(spare[0], spare[1]));
        }
    }
    after_all();
}

static _Atomic bool over;
static _Atomic unsigned rounds[2];

static void *go_on(void *arg)
{
    int a[2];
    pair(a);
    while (!atomic_load(&over)) {
        exercise();
        expect(both_ways(a[0], a[1]));
        atomic_fetch_add((_Atomic unsigned *)arg, 1);
    }
    return NULL;
}

// The same while others are at work: none of them stops, nor loses its connection. The first to ask for it asks late.
static void asynchronous_among_others(long arg)
{
    pthread_t others[2];
    int64_t end = now_ms() + 4000;
    (void)arg;
    on = must(epoll_create1(0));
    for (int i = 0; i < 2; i++) others[i] = start_thread(go_on, &rounds[i]);
    for (int i = 0; i < 1500 && (i < 50 || now_ms() < end); i++) {
        void *result;
        atomic_store(&tid, 0);
        pthread_t t = start_thread(run_for_ever, NULL);
        while (!atomic_load(&tid)) sched_yield();
        pthread_cancel(t);
        pthread_join(t, &result);
        expect(result == PTHREAD_CANCELED);
    }
    for (int i = 0; i < 2; i++) {
        unsigned before = atomic_load(&rounds[i]);
        for (int64_t stop = now_ms() + DEADLINE_MS; atomic_load(&rounds[i]) < before + 20; look_again())
            if (now_ms() > stop) fail("another thread does not go on");
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) pthread_join(others[i], NULL);
    after_all();
}

static void on_signal(int sig)
{
    (void)sig;
    pthread_exit(NULL);
}

static void *work(void *arg)
{
    for (;;) exercise();
    return arg;
}

// A handler that ends its thread: it never comes back either.
static void exit_in_handler(long arg)
{
    (void)arg;
    struct sigaction sa = {.sa_handler = on_signal};
    must(sigaction(SIGUSR1, &sa, NULL));
    for (int i = 0; i < 300; i++) {
        pthread_t t = start_thread(work, NULL);
        for (int j = 0; j < i % 7; j++) sched_yield();
        pthread_kill(t, SIGUSR1);
        pthread_join(t, NULL);
    }
    after_all();
}

int main(void)
{
    need_library();
    for (long how = 0; how < 6; how++) in_child("cancelled in a call that waits", 10000, in_call, how);
    for (long how = 0; how < 3; how++) in_child("a cancellation pending", 10000, pending, how);
    in_child("cancelled at any moment", 20000, asynchronous, 0);
    in_child("cancelled among others", 20000, asynchronous_among_others, 0);
    in_child("pthread_exit in a handler", 20000, exit_in_handler, 0);
    return 0;
}
