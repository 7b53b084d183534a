// timeout: 90
// env: PRECLOSE_CLOSE_WAIT=400ms
// Hazard 27: the library's own thread. It is there only while the program has a thread and a connection of its own,
// has no signal of the program's, the program's user, and is gone whenever a process must be alone.
#include "watcher.h"

// --- When it is there ---

static void comes_and_goes(long arg)
{
    int sv[2], un[2];
    struct sockaddr_in at;
    (void)arg;
    int l = listener_on(&at);
    pair(un);
    tcp_pair(sv);
    never_comes("a connection, no thread");
    close_pair(sv);
    pthread_t t = start_worker();
    int s = must(socket(AF_INET, SOCK_STREAM, 0));
    never_comes("a thread, and no connection but of unix sockets");
    must(close(s));
    tcp_pair(sv); // a connection after the thread: a socket call starts it
    wait_watcher("a thread, then a connection");
    close_pair(sv);
    wait_none("the connection is closed");
    end_worker(t);
    tcp_pair(sv);
    t = start_worker(); // a thread after the connection
    wait_watcher("a connection, then a thread");
    end_worker(t);
    wait_none("the thread has ended");
    t = start_worker();
    wait_watcher("a thread again");
    close_pair(sv);
    wait_none("the connection is closed, too");
    for (int i = 0; i < 200; i++) { // at the very moment that it leaves
        tcp_pair(sv);
        if (i % 2) wait_watcher("one more connection");
        close_pair(sv);
    }
    tcp_pair(sv);
    wait_watcher("the last connection");
    close_pair(sv);
    end_worker(t);
    wait_none("the end");
    must(close(l));
}

// --- Who it is ---

static _Atomic unsigned handled;
static _Atomic pid_t handled_by;

static void handle(int sig)
{
    (void)sig;
    if (tid_now() != getpid()) atomic_store(&handled_by, tid_now());
    atomic_fetch_add(&handled, 1);
}

static void *blocked_worker(void *arg)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    return worker(arg);
}

static void has_no_signals(long arg)
{
    int sv[2];
    (void)arg;
    struct sigaction sa = {.sa_handler = handle};
    must(sigaction(SIGUSR1, &sa, NULL));
    tcp_pair(sv);
    atomic_store(&end_all, false);
    pthread_t t = start_thread(blocked_worker, NULL);
    pid_t tid = wait_watcher("the test's");
    const uint64_t none = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1), libc = 3ull << 31;
    for (int64_t end = now_ms() + SOON_MS;; look_again()) { // at work it blocks those of libc as well, for a moment
        uint64_t mask = status_of(tid, "\nSigBlk:", 16);
        if ((mask | none) == ~libc) break;
        if (now_ms() > end) fail("it blocks %" PRIx64, mask);
    }
    for (unsigned i = 0; i < 200; i++) {
        must(kill(getpid(), SIGUSR1));
        for (int64_t end = now_ms() + SOON_MS; atomic_load(&handled) <= i;)
            if (now_ms() > end) fail("signal %u is lost", i);
    }
    if (atomic_load(&handled_by)) fail("thread %d, not main, has handled a signal", (int)handled_by);
    end_worker(t);
}

static void *change_user(void *arg)
{
    while (!atomic_load(&end_all)) {
        if (seteuid(65534) || seteuid(0)) fail("seteuid: %s", strerror(errno));
        look_again();
    }
    return arg;
}

// Whoever sets the user of a process does so in every thread, also in one that is just coming or going.
static void has_the_programs_user(long arg)
{
    int sv[2];
    (void)arg;
    if (geteuid()) return;
    atomic_store(&end_all, false);
    pthread_t t = start_thread(change_user, NULL);
    for (int i = 0; i < 60; i++) {
        tcp_pair(sv);
        if (i % 3) wait_watcher("among changes of the user");
        close_pair(sv);
        if (i % 4 == 0) wait_none("among changes of the user");
    }
    tcp_pair(sv);
    wait_watcher("among changes of the user");
    for (int i = 0; i < 3000; i++) must(unshare(0)); // it goes and comes, each time
    end_worker(t);
    t = start_worker();
    pid_t tid = wait_watcher("the test's");
    must(setresuid(65534, 65534, 65534));
    if (status_of(tid, "\nUid:", 10) != 65534) fail("it is still root");
    end_worker(t);
}

// --- Where nobody else may be ---

static bool enters(long how)
{
    long ret = how % 2 ? syscall(SYS_unshare, CLONE_NEWUSER) : unshare(CLONE_NEWUSER);
    if (ret < 0 && errno != EINVAL) skip("no user namespaces here: %s", strerror(errno));
    return ret == 0;
}

static void enters_a_namespace(long how)
{
    int sv[2];
    if (how < 2) { // it never had a thread
        tcp_pair(sv);
        expect(enters(how));
        expect(both_ways(sv[0], sv[1]));
        return;
    }
    tcp_pair(sv);
    pthread_t t = start_worker();
    if (library_here()) wait_watcher("before unshare");
    expect(!enters(how)); // not with a thread of its own
    expect(both_ways(sv[0], sv[1]));
    if (library_here() && how < 6) wait_watcher("after unshare has failed");
    end_worker(t);
    expect(enters(how));
    if (tasks() != 1) fail("%u threads in the namespace", tasks());
    t = start_worker();
    if (library_here()) wait_watcher("in the namespace");
    end_worker(t);
}

static void *moves_in(void *arg)
{
    (void)arg;
    return setns(-1, CLONE_NEWUSER) == -1 && errno == EBADF ? NULL : (void *)1;
}

static void setns_sends_it_away(long arg)
{
    int sv[2];
    (void)arg;
    tcp_pair(sv);
    pthread_t t = start_worker();
    pid_t tid = wait_watcher("before setns");
    expect(!moves_in(NULL));
    if (raw(SYS_tgkill, getpid(), tid, 0) != -ESRCH) fail("it was there during setns");
    wait_watcher("after setns");
    end_worker(t);
}

// A table that only it would still hold: the descriptors in it would never be closed.
static void keeps_no_table(long how)
{
    int sv[2], ends[2];
    tcp_pair(sv);
    pthread_t t = start_worker();
    wait_watcher("before the table is parted");
    must(pipe(ends));
    if (how == 0) must(unshare(CLONE_FILES));
    if (how == 1) must((int)syscall(SYS_close_range, (unsigned)ends[1], (unsigned)ends[1], 2 /* CLOSE_RANGE_UNSHARE */));
    if (how == 1) must((int)raw(SYS_fcntl, ends[0], F_GETFD, 0));
    if (how == 0) must(close(ends[1]));
    end_worker(t); // it had the old table, and nobody has it now
    expect(peer_sees(ends[0], SOON_MS) == '?'); // a pipe: read, not recv, says EOF
    char byte;
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    if (poll(&p, 1, SOON_MS) != 1 || read(ends[0], &byte, 1) != 0) fail("way %ld: the pipe has a writer still", how);
    never_comes("tables that were parted");
}

// --- A sandbox ---

static void in_a_sandbox(long how)
{
    static const long allowed[] = {SYS_read, SYS_write, SYS_close, SYS_exit_group, SYS_exit, SYS_nanosleep, SYS_clock_nanosleep,
                                   SYS_rt_sigreturn};
    int sv[2];
    struct filter f = filter_new();
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) filter_call(&f, allowed[i], SECCOMP_RET_ALLOW);
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_KILL_PROCESS);
    tcp_pair(sv);
    pthread_t t = start_worker();
    pid_t tid = wait_watcher("before the sandbox");
    if (how) { // an attempt that fails
        expect(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0x4000, &p) == -1);
        if (raw(SYS_tgkill, getpid(), tid, 0) != -ESRCH) fail("it was there during the attempt");
        wait_watcher("after an attempt that has failed");
    }
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    long ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &p);
    if (ret) raw_exit(20);
    raw6(SYS_nanosleep, (long)&(struct timespec){.tv_nsec = 6 * TICK_MS * 1000000}, 0, 0, 0, 0, 0);
    (void)t;
    raw_exit(0);
}

// --- Forks ---

static void a_child_has_its_own(long arg)
{
    int sv[2], own[2];
    (void)arg;
    pthread_t t = start_worker();
    tcp_pair(sv);
    wait_watcher("the parent's");
    pid_t pid = must(fork());
    if (!pid) {
        within = "the child";
        never_comes("it has neither thread nor connection");
        pthread_t mine = start_worker();
        never_comes("it has a thread, and its parent's connection");
        tcp_pair(own);
        wait_watcher("it has both");
        end_worker(mine);
        raw_exit(0);
    }
    reap(pid, "a child", 3 * SOON_MS);
    if (watchers(NULL) != 1) fail("the parent's is gone");
    end_worker(t);
}

// --- Handlers ---

static pthread_t main_thread;
static _Atomic bool connected_in_handler;
static struct sockaddr_in server;

static void connect_in_handler(int sig)
{
    (void)sig;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || connect(s, (struct sockaddr *)&server, sizeof server)) fail("the handler can't connect");
    atomic_store(&connected_in_handler, true);
}

static _Atomic bool ready;

static void *poke(void *arg)
{
    while (!atomic_load(&ready)) look_again(); // main is not in pthread_create any more, where it may start
    pthread_kill(main_thread, SIGUSR1);
    return worker(arg);
}

// Making a thread calls malloc, which the handler may have interrupted: whatever it blocks or does not.
static void not_in_a_handler(long how)
{
    struct sigaction sa = {.sa_handler = connect_in_handler};
    sigset_t mask;
    listener_on(&server);
    main_thread = pthread_self();
    if (how == 1) sa.sa_flags = SA_NODEFER;
    if (how == 2) sigfillset(&sa.sa_mask);
    must(sigaction(SIGUSR1, &sa, NULL));
    if (how == 2) { // it makes threads with everything blocked, as many do
        sigfillset(&mask);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
    }
    atomic_store(&end_all, false);
    pthread_t t = start_thread(poke, NULL);
    if (how == 2) {
        sigemptyset(&mask);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
    }
    atomic_store(&ready, true);
    for (void *at = NULL; !atomic_load(&connected_in_handler); at = realloc(at, (size_t)(random() % 4096))) {}
    if (watchers(NULL)) fail("way %ld: started in the handler", how);
    int s = must(socket(AF_INET, SOCK_STREAM, 0));
    int64_t end = now_ms() + 1300; // it tries again after a second
    while (now_ms() < end) look_again();
    must(connect(s, (struct sockaddr *)&server, sizeof server));
    wait_watcher("outside of the handler");
    end_worker(t);
}

// Servers block signals in their threads, each in its own way.
static void *connect_with_odd_mask(void *arg)
{
    int sv[2];
    sigset_t mask;
    sigfillset(&mask);
    sigdelset(&mask, SIGHUP);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    tcp_pair(sv);
    return worker(arg);
}

static void with_any_mask(long arg)
{
    (void)arg;
    struct sigaction sa = {.sa_handler = handle};
    must(sigaction(SIGTERM, &sa, NULL));
    must(sigaction(SIGHUP, &sa, NULL));
    pthread_t t = start_thread(connect_with_odd_mask, NULL);
    wait_watcher("a connection made with most signals blocked");
    end_worker(t);
}

// --- Many, and at the limit ---

static void *nothing(void *arg)
{
    return arg;
}

static void a_thousand_short_threads(long arg)
{
    int sv[2];
    (void)arg;
    tcp_pair(sv);
    int64_t start = now_ms();
    for (int i = 0; i < 1000; i++) {
        pthread_join(start_thread(nothing, NULL), NULL);
        if (i % 100 == 0 && watchers(NULL) > 1) fail("%u of ours", watchers(NULL));
    }
    if (now_ms() - start > DEADLINE_MS) fail("1000 threads took %d ms", (int)(now_ms() - start));
    wait_none("no thread is left");
}

static void *canceled(void *arg)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    accept(*(int *)arg, NULL, NULL); // makes it
    for (;;) pause();
    return arg;
}

static void the_maker_is_cancelled(long arg)
{
    (void)arg;
    pthread_t t = start_worker();
    int sv[2], log = log_descriptor(getenv("PRECLOSE_LOG"));
    struct sockaddr_in at;
    for (int i = 0; i < 80; i++) {
        int l = listener_on(&at), p = (int)raw(SYS_socket, AF_INET, SOCK_STREAM, 0);
        must(raw(SYS_connect, p, (long)&at, sizeof at));
        pthread_t c = start_thread(canceled, &l);
        int64_t end = now_ms() + 5;
        while (tasks() < 4 && now_ms() < end) {} // main, the worker, that one and ours
        for (int spin = 0; spin < i * 100; spin++) __asm__ volatile("");
        pthread_cancel(c);
        pthread_join(c, NULL);
        for (int fd = 3; fd < 40; fd++)
            if (fd != log) close(fd);
        wait_none("all are closed");
    }
    tcp_pair(sv);
    wait_watcher("after the cancellations");
    end_worker(t);
}

// A user with one thread left gets it, though it was ours.
static void gives_its_place_away(long arg)
{
    int sv[2];
    (void)arg;
    if (geteuid()) return;
    must(setresuid(54327, 54327, 54327));
    struct rlimit limit = {3, 3};
    must(setrlimit(RLIMIT_NPROC, &limit));
    tcp_pair(sv);
    pthread_t t = start_worker();
    wait_watcher("main, a worker, and ours");
    pthread_join(start_thread(nothing, NULL), NULL);
    never_comes("the place is given away");
    close_pair(sv);
    end_worker(t);
}

// It is no thread that a finding could name, or that a close waits for.
static void is_never_told(long arg)
{
    int sv[2], next[2];
    (void)arg;
    pthread_t t = start_worker();
    tcp_pair(sv);
    wait_watcher("the test's");
    for (int i = 0; i < 2000; i++) {
        tcp_pair(next);
        close_pair(next);
    }
    end_worker(t);
}

static void check_log(void)
{
    const char *path = getenv("PRECLOSE_LOG");
    char *text = path ? text_of(path) : NULL;
    if (!text || !library_here()) return;
    if (count_of(text, "blocked-threads") || count_of(text, "left-blocked")) fail("told as blocked");
    if (strstr(text, "\"name\":\"preclose\"")) fail("told among the threads");
}

int main(void)
{
    need_library();
    in_child("comes and goes", 40000, comes_and_goes, 0);
    in_child("signals", 20000, has_no_signals, 0);
    in_child("user", 30000, has_the_programs_user, 0);
    for (long how = 0; how < 12; how++) in_child("unshare", 12000, enters_a_namespace, how);
    in_child("setns", 12000, setns_sends_it_away, 0);
    for (long how = 0; how < 2; how++) in_child("tables", 12000, keeps_no_table, how);
    for (long how = 0; how < 2; how++) in_child("sandbox", 12000, in_a_sandbox, how);
    in_child("fork", 20000, a_child_has_its_own, 0);
    for (long how = 0; how < 3; how++) in_child("handler", 12000, not_in_a_handler, how);
    in_child("any mask", 12000, with_any_mask, 0);
    in_child("short threads", 20000, a_thousand_short_threads, 0);
    in_child("cancellation", 20000, the_maker_is_cancelled, 0);
    in_child("limit", 20000, gives_its_place_away, 0);
    in_child("not told", 20000, is_never_told, 0);
    check_log();
    return 0;
}
