// timeout: 60
// beside: after hook
// Hazard 14: from the moment a process puts itself into a sandbox, preclose makes no system call of its own: here any
// that the program did not ask for is death. An attempt that fails changes nothing, nor does a filter that was there
// at the start.
#include "hostile.h"

#include <sys/timerfd.h>

// What every program needs to end.
static void allow_the_least(struct filter *f)
{
    static const long least[] = {SYS_read, SYS_write, SYS_close, SYS_exit_group, SYS_exit, SYS_rt_sigreturn};
    *f = filter_new();
    for (unsigned i = 0; i < sizeof least / sizeof *least; i++) filter_call(f, least[i], SECCOMP_RET_ALLOW);
}

enum entering { PRCTL, SECCOMP, PRCTL_BY_NUMBER, TSYNC, STRICT, ENTERINGS };

static void enter(enum entering how, struct filter *f)
{
    struct sock_fprog p = filter_end(f, SECCOMP_RET_KILL_PROCESS);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    switch (how) {
    case PRCTL:
        must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
        break;
    case SECCOMP:
        must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));
        break;
    case PRCTL_BY_NUMBER:
        must(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0));
        break;
    case TSYNC:
        must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &p));
        break;
    default:
        must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    }
}

// --- Sockets in states that there is much to ask and tell about ---

static int plain[2], unread[2], lingering[2], watched[2], listener, set, spare[2], over_it[2], closed_one, file, log_fd;
static struct sockaddr_in at;
static struct receiver receiver;
static int received_on[2];

static void prepare_sockets(bool with_thread)
{
    struct linger l = {.l_onoff = 1};
    struct epoll_event e = {.events = EPOLLIN};
    pair(plain);
    tcp_pair(unread);
    expect(send(unread[1], "abc", 3, 0) == 3);
    tcp_pair(lingering);
    must(setsockopt(lingering[0], SOL_SOCKET, SO_LINGER, &l, sizeof l));
    pair(watched);
    set = must(epoll_create1(0));
    must(epoll_ctl(set, EPOLL_CTL_ADD, watched[0], &e));
    listener = listener_on(&at);
    int c = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(c, (struct sockaddr *)&at, sizeof at));
    pair(spare);
    pair(over_it);
    closed_one = must(socket(AF_INET, SOCK_DGRAM, 0));
    must(close(closed_one));
    closed_one = must(fcntl(closed_one == 0 ? 1 : 0, F_DUPFD, 300)) + 1; // a number that is free and stays it
    file = must(open("/dev/null", O_RDWR));
    pair(received_on);
    if (with_thread) start_receiver(&receiver, received_on[0]);
    const char *path = getenv("PRECLOSE_LOG");
    log_fd = path ? log_descriptor(path) : -1;
}

static void close_all(void)
{
    const int fds[] = {plain[0], unread[0], lingering[0], watched[0], listener, set, spare[0], over_it[1], received_on[0]};
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
        if (close(fds[i])) raw_exit(20);
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
        if (close(fds[i]) != -1 || errno != EBADF) raw_exit(21);
}

static void entered(long how)
{
    struct filter f;
    prepare_sockets(how != STRICT);
    allow_the_least(&f);
    enter((enum entering)how, &f);
    if (how != STRICT) close_all(); // strict mode allows read, write and exit alone
    if (write(file, "x", 1) == 1) raw(how == STRICT ? SYS_exit : SYS_exit_group, 0, 0, 0);
    raw_exit(22);
}

static void ended_by(long how)
{
    struct filter f;
    allow_the_least(&f);
    prepare_sockets(true);
    must(close(plain[0]));
    must(close(unread[0])); // something to tell at the end
    enter(SECCOMP, &f);
    if (how == 0) exit(0);
    if (how == 1) _exit(0);
    if (how == 2) _Exit(0);
    if (how == 3) quick_exit(0);
    syscall(SYS_exit_group, 0);
}

// --- One call that the filter allows, and all that comes with it ---

static char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
static char byte = 'b';
static struct iovec part = {&byte, 1};
static struct msghdr message;
static struct mmsghdr messages[1];
static FILE *stream;

static void prepare_message(int fd)
{
    message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    messages[0].msg_hdr = message;
}

static void do_dup2(void)
{
    dup2(file, unread[0]);
    dup2(unread[1], plain[0]);
    dup2(file, log_fd);
    dup2(file, 2);
    dup2(file, closed_one);
}

static void do_dup3(void)
{
    dup3(file, unread[0], O_CLOEXEC);
    syscall(SYS_dup3, file, plain[0], 0);
    dup3(file, log_fd, 0);
}

static void do_close(void)
{
    close_all();
    close(log_fd);
    close(-1);
    for (int fd = 3; fd < 1100; fd++) close(fd);
}

static void do_syscall_close(void)
{
    syscall(SYS_close, unread[0]);
    syscall(SYS_close, unread[0]);
    syscall(SYS_close, log_fd);
}

static void do_close_range(void)
{
    close_range((unsigned)unread[0], (unsigned)unread[0], 0);
    close_range(3, 4000, CLOSE_RANGE_CLOEXEC);
    syscall(SYS_close_range, 3, 4000, 0);
}

static void do_closefrom(void)
{
    closefrom(3);
}

static void do_fclose(void)
{
    fclose(stream);
}

static void do_dup(void)
{
    dup(unread[0]);
    syscall(SYS_dup, plain[0]);
    dup(closed_one);
}

static void do_fcntl(void)
{
    fcntl(plain[0], F_DUPFD_CLOEXEC, 0);
    fcntl(unread[0], F_SETFD, FD_CLOEXEC);
    fcntl(unread[0], F_SETFL, O_ASYNC);
    syscall(SYS_fcntl, unread[0], F_DUPFD, 10);
    fcntl(closed_one, F_GETFD);
}

static void do_socket(void)
{
    int sv[2];
    socket(AF_INET, SOCK_STREAM, 0);
    syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
}

static void do_accept(void)
{
    accept(listener, NULL, NULL);
    for (int i = 0; i < 1500; i++) accept(closed_one, NULL, NULL);
    syscall(SYS_accept4, closed_one, NULL, NULL, 0);
}

static void do_accept4(void)
{
    accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static void do_sendmsg(void)
{
    sendmsg(over_it[0], &message, MSG_DONTWAIT);
    syscall(SYS_sendmsg, over_it[0], &message, MSG_DONTWAIT);
    sendmsg(file, &message, 0);
}

static void do_sendmmsg(void)
{
    sendmmsg(over_it[0], messages, 1, MSG_DONTWAIT);
}

static void do_recvmsg(void)
{
    recvmsg(over_it[1], &message, MSG_DONTWAIT);
}

static void do_recvmmsg(void)
{
    recvmmsg(over_it[1], messages, 1, MSG_DONTWAIT, NULL);
}

static void do_shutdown(void)
{
    shutdown(unread[0], SHUT_RDWR);
    shutdown(closed_one, SHUT_RDWR);
}

static void do_setsockopt(void)
{
    int one = 1;
    setsockopt(unread[0], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(unread[0], IPPROTO_TCP, TCP_ULP, "tls", 3);
    setsockopt(closed_one, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
}

static void do_epoll(void)
{
    struct epoll_event e = {.events = EPOLLIN};
    int other = epoll_create1(0);
    epoll_ctl(other, EPOLL_CTL_ADD, unread[0], &e);
    epoll_ctl(set, EPOLL_CTL_DEL, watched[0], &e);
    syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, plain[0], &e);
}

static void do_ioctl(void)
{
    int one = 1;
    ioctl(unread[0], FIOCLEX);
    ioctl(unread[0], FIOASYNC, &one);
}

static void do_fork(void)
{
    if (_Fork() == 0) {
        close_all();
        raw_exit(0);
    }
}

static void do_syscall_fork(void)
{
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) {
        close_all();
        raw_exit(0);
    }
}

static void do_clone3(void)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = {.exit_signal = SIGCHLD};
    if (syscall(SYS_clone3, &args, sizeof args) == 0) {
        close_all();
        raw_exit(0);
    }
}

static void do_unshare(void)
{
    unshare(CLONE_FILES);
    syscall(SYS_unshare, CLONE_FILES);
}

static void do_prctl(void)
{
    prctl(PR_SET_SECCOMP, 77, 0, 0, 0); // fails
    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    syscall(SYS_seccomp, 77, 0, 0);
    close_all();
}

static void do_pidfd_getfd(void)
{
    syscall(SYS_pidfd_getfd, file, unread[0], 0);
}

static const struct {
    const char *name;
    void (*run)(void);
    long allowed[5];
} routes[] = {
    {"close", do_close, {0}},
    {"syscall(SYS_close)", do_syscall_close, {0}},
    {"dup2", do_dup2, {SYS_dup2}},
    {"dup3", do_dup3, {SYS_dup3}},
    {"close_range", do_close_range, {SYS_close_range}},
    {"closefrom", do_closefrom, {SYS_close_range}},
    {"fclose", do_fclose, {SYS_lseek}},
    {"dup", do_dup, {SYS_dup}},
    {"fcntl", do_fcntl, {SYS_fcntl}},
    {"socket", do_socket, {SYS_socket, SYS_socketpair}},
    {"accept", do_accept, {SYS_accept, SYS_accept4}},
    {"accept4", do_accept4, {SYS_accept4}},
    {"sendmsg", do_sendmsg, {SYS_sendmsg}},
    {"sendmmsg", do_sendmmsg, {SYS_sendmmsg}},
    {"recvmsg", do_recvmsg, {SYS_recvmsg}},
    {"recvmmsg", do_recvmmsg, {SYS_recvmmsg}},
    {"shutdown", do_shutdown, {SYS_shutdown}},
    {"setsockopt", do_setsockopt, {SYS_setsockopt}},
    {"epoll_ctl", do_epoll, {SYS_epoll_ctl, SYS_epoll_create1}},
    {"ioctl", do_ioctl, {SYS_ioctl}},
    {"_Fork", do_fork, {SYS_clone, SYS_set_robust_list, SYS_gettid, SYS_rt_sigprocmask, SYS_rseq}},
    {"syscall(SYS_clone)", do_syscall_fork, {SYS_clone}},
    {"syscall(SYS_clone3)", do_clone3, {SYS_clone3}},
    {"unshare", do_unshare, {SYS_unshare}},
    {"prctl", do_prctl, {SYS_prctl, SYS_seccomp}},
    {"pidfd_getfd", do_pidfd_getfd, {SYS_pidfd_getfd}},
};

static void allowed(long n)
{
    struct filter f;
    prepare_sockets(true);
    prepare_message(plain[0]);
    stream = fdopen(unread[0], "r+");
    if (routes[n].run == do_recvmsg || routes[n].run == do_recvmmsg)
        for (int i = 0; i < 3; i++) must(sendmsg(over_it[0], &message, 0));
    allow_the_least(&f);
    for (int i = 0; i < 5 && (i == 0 || routes[n].allowed[i]); i++)
        if (routes[n].allowed[i]) filter_call(&f, routes[n].allowed[i], SECCOMP_RET_ALLOW);
    enter((enum entering)(n % 4), &f);
    routes[n].run();
    raw_exit(0);
}

// --- Threads inside preclose while the filter comes down over all of them ---

static _Atomic bool filter_is_there;
static _Atomic unsigned rounds, started;

static void *work(void *arg)
{
    int sv[2];
    atomic_fetch_add(&started, 1);
    for (;;) {
        // No library of ours, and none of libc's, needs any other call for this.
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) continue;
        int d = dup(sv[0]);
        close(sv[0]);
        close(d);
        dup2(file, sv[1]);
        close(sv[1]);
        atomic_fetch_add(&rounds, 1);
    }
    return arg;
}

static void over_all_threads(long n)
{
    struct filter f;
    uint64_t seed = (uint64_t)n * 977 + 5;
    file = must(open("/dev/null", O_RDWR));
    allow_the_least(&f);
    const long needed[] = {SYS_socketpair, SYS_dup, SYS_dup2, SYS_sched_yield};
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++) filter_call(&f, needed[i], SECCOMP_RET_ALLOW);
    for (int i = 0; i < 3; i++) start_thread(work, NULL);
    while (atomic_load(&started) < 3 || atomic_load(&rounds) < 10) sched_yield();
    for (uint64_t spin = next_random(&seed) % 20000; spin; spin--) __asm__ volatile("" ::: "memory");
    enter(TSYNC, &f);
    for (unsigned before = atomic_load(&rounds); atomic_load(&rounds) < before + 200;) sched_yield();
    raw_exit(0);
}

// --- Attempts that fail ---

static void fails(long how)
{
    struct filter f = filter_new();
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    if (how == 0) expect(prctl(PR_SET_SECCOMP, 77, 0, 0, 0) == -1);
    if (how == 1) expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EFAULT);
    if (how == 2) expect(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1u << 30, &p) == -1 && errno == EINVAL);
    if (how == 3) expect(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL) == -1 && errno == EINVAL);
    if (how == 4) {
        if (geteuid()) skip("needs root to become someone else");
        must(setresuid(65534, 65534, 65534));
        expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == -1 && errno == EACCES);
    }
    exercise();
    if (how != 4) still_works("an attempt that failed"); // a process that changed its user can't look at its threads
}

static _Atomic bool entered_meanwhile;

static void *enter_meanwhile(void *arg)
{
    struct filter f;
    allow_the_least(&f);
    filter_call(&f, SYS_futex, SECCOMP_RET_ALLOW);
    filter_call(&f, SYS_sched_yield, SECCOMP_RET_ALLOW);
    filter_call(&f, SYS_nanosleep, SECCOMP_RET_ALLOW);
    filter_call(&f, SYS_clock_nanosleep, SECCOMP_RET_ALLOW);
    enter(PRCTL, &f);
    atomic_store(&entered_meanwhile, true);
    while (!atomic_load(&filter_is_there)) sched_yield();
    close_all(); // in this thread any call of preclose's own is death
    raw_exit(0);
    return arg;
}

static void before_prctl(const char *call, int option)
{
    static _Atomic bool once;
    if (strcmp(call, "prctl") || option != PR_SET_SECCOMP || atomic_exchange(&once, true)) return;
    start_thread(enter_meanwhile, NULL);
    while (!atomic_load(&entered_meanwhile)) sched_yield();
}

// While one thread's attempt is failing, another's succeeds.
static void fails_meanwhile(long arg)
{
    (void)arg;
    void (**hook)(const char *, int);
    *(void **)(void *)&hook = dlsym(RTLD_DEFAULT, "beside_before");
    if (!hook) skip("beside/hook.so is not preloaded");
    prepare_sockets(true);
    *hook = before_prctl;
    expect(prctl(PR_SET_SECCOMP, 77, 0, 0, 0) == -1);
    atomic_store(&filter_is_there, true);
    for (;;) pause();
}

// --- Where preclose is not wanted, or a filter was there first ---

static void attempt_where_inert(void)
{
    int sv[2];
    struct receiver r;
    expect(prctl(PR_SET_SECCOMP, 77, 0, 0, 0) == -1);
    exercise();
    pair(sv);
    start_receiver(&r, sv[0]);
    must(close(sv[0]));
    for (int i = 0; i < 100; i++) look_again();
    if (atomic_load(&r.back)) fail("preclose acts in a program that it is not meant for");
    raw_exit(0);
}

static void inert(long arg)
{
    const char *log = getenv("PRECLOSE_LOG");
    struct again a = {"inert", NULL, log ? log : "none", "PRECLOSE_ONLY", "some-other-program", -1};
    (void)arg;
    become((long)&a);
}

static void inherited(long arg)
{
    const char *log = getenv("PRECLOSE_LOG");
    struct again a = {"inherited", NULL, log ? log : "none", NULL, NULL, -1};
    struct filter f = filter_new();
    filter_call(&f, SYS_reboot, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    (void)arg;
    filter_inherit(&p);
    become((long)&a);
}

int main(int argc, char **argv)
{
    need_library();
    if (argc > 1 && !strcmp(argv[1], "inert")) attempt_where_inert();
    if (argc > 1) {
        exercise();
        still_works("a filter that was inherited");
        _exit(0);
    }
    for (long how = 0; how < ENTERINGS; how++) in_child("entered, then closed", 10000, entered, how);
    for (long how = 0; how < 5; how++) in_child("entered, then ended", 10000, ended_by, how);
    for (long n = 0; n < (long)(sizeof routes / sizeof *routes); n++) in_child(routes[n].name, 10000, allowed, n);
    for (long n = 0; n < 60; n++) in_child("over all threads", 10000, over_all_threads, n);
    for (long how = 0; how < 5; how++) in_child("an attempt that fails", 10000, fails, how);
    in_child("fails while another succeeds", 10000, fails_meanwhile, 0);
    in_child("fails where preclose is inert", 10000, inert, 0);
    in_child("an inherited filter", 10000, inherited, 0);
    return 0;
}
