// Threads are blocked in every call that threads.c knows, and seen in it.
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "threads.h"
#include "wait.h"

#define AMPLE_US 5000000

struct sleeper;
typedef void sleep_in(struct sleeper *s);

struct sleeper {
    sleep_in *call;
    int fd, listener;
    struct pollfd *polled;
    unsigned n_polled;
    _Atomic pid_t tid;
    pthread_t thread;
};

static char big[1 << 18];
static struct iovec iov = {big, sizeof big};

static void in_read(struct sleeper *s)
{
    read(s->fd, big, 1);
}
static void in_readv(struct sleeper *s)
{
    readv(s->fd, &iov, 1);
}
static void in_preadv2(struct sleeper *s)
{
    preadv2(s->fd, &iov, 1, -1, 0);
}
static void in_recv(struct sleeper *s)
{
    recv(s->fd, big, 1, 0);
}
static void in_recvmsg(struct sleeper *s)
{
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    (void)recvmsg(s->fd, &m, 0);
}
static void in_recvmmsg(struct sleeper *s)
{
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
    recvmmsg(s->fd, &m, 1, 0, NULL);
}
static void in_accept(struct sleeper *s)
{
    (void)accept(s->fd, NULL, NULL);
}
static void in_accept4(struct sleeper *s)
{
    (void)accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
}
static void in_write(struct sleeper *s)
{
    while (write(s->fd, big, sizeof big) > 0) continue;
}
static void in_writev(struct sleeper *s)
{
    while (writev(s->fd, &iov, 1) > 0) continue;
}
static void in_pwritev2(struct sleeper *s)
{
    while (pwritev2(s->fd, &iov, 1, -1, 0) > 0) continue;
}
static void in_send(struct sleeper *s)
{
    while (send(s->fd, big, sizeof big, 0) > 0) continue;
}
static void in_sendmsg(struct sleeper *s)
{
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    while (sendmsg(s->fd, &m, 0) > 0) continue;
}
static void in_sendmmsg(struct sleeper *s)
{
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
    while (sendmmsg(s->fd, &m, 1, 0) > 0) continue;
}
static void in_sendfile(struct sleeper *s)
{
    int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    while (sendfile(s->fd, file, NULL, sizeof big) > 0) continue;
    close(file);
}
static void in_splice_from(struct sleeper *s)
{
    int pipes[2];
    if (!pipe2(pipes, O_CLOEXEC)) splice(s->fd, NULL, pipes[1], NULL, 1, 0);
    close(pipes[0]), close(pipes[1]);
}
static void in_splice_to(struct sleeper *s)
{
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC)) return;
    while (write(pipes[1], big, 4096) > 0 && splice(pipes[0], NULL, s->fd, NULL, 4096, 0) > 0) continue;
    close(pipes[0]), close(pipes[1]);
}
static void in_poll(struct sleeper *s)
{
    struct pollfd one = {.fd = s->fd, .events = POLLIN};
    if (s->polled)
        poll(s->polled, s->n_polled, -1);
    else
        poll(&one, 1, -1);
}
static void in_ppoll(struct sleeper *s)
{
    struct pollfd entries[100];
    for (int i = 0; i < 100; i++) entries[i] = (struct pollfd){.fd = i == 90 ? s->fd : -1, .events = POLLIN};
    ppoll(entries, 100, NULL, NULL);
}
// Where the kernel has no poll and select, the C library makes do with their successors.
#ifdef SYS_select
#define POLL "poll"
#define SELECT "select"
#define SELECT_NUMBER SYS_select
#else
#define POLL "ppoll"
#define SELECT "pselect6"
#define SELECT_NUMBER SYS_pselect6
#endif

static void in_select(struct sleeper *s)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(s->fd, &set);
    syscall(SELECT_NUMBER, s->n_polled ? (int)s->n_polled : s->fd + 1, &set, NULL, NULL, NULL, NULL);
}
static void in_pselect(struct sleeper *s)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(s->fd, &set);
    pselect(s->fd + 1, NULL, NULL, &set, NULL, NULL);
}

static void *sleeps(void *p)
{
    struct sleeper *s = p;
    s->tid = (pid_t)syscall(SYS_gettid);
    s->call(s);
    return NULL;
}

static void start(struct sleeper *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, sleeps, s), 0);
    assert_true(WAIT_UNTIL(s->tid && is_blocked(getpid(), s->tid)));
}

static void stop(struct sleeper *s)
{
    assert_true(interrupt_and_join(s->thread));
}

static unsigned blocked_on(int fd, struct blocked *b)
{
    threads_blocked_on(fd, AMPLE_US, b);
    return b->n;
}

static int a_listener(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(l, 1), 0);
    return l;
}

static void every_call(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sleep_in *call;
        bool sending;
    } rows[] = {
        {"read", in_read, false},          {"readv", in_readv, false},      {"preadv2", in_preadv2, false},
        {"recvfrom", in_recv, false},      {"recvmsg", in_recvmsg, false},  {"recvmmsg", in_recvmmsg, false},
        {"accept", in_accept, false},      {"accept4", in_accept4, false},  {"write", in_write, true},
        {"writev", in_writev, true},       {"pwritev2", in_pwritev2, true}, {"sendto", in_send, true},
        {"sendmsg", in_sendmsg, true},     {"sendmmsg", in_sendmmsg, true}, {"sendfile", in_sendfile, true},
        {"splice", in_splice_from, false}, {"splice", in_splice_to, true},  {POLL, in_poll, false},
        {"ppoll", in_ppoll, false},        {SELECT, in_select, false},      {"pselect6", in_pselect, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int sv[2];
        struct blocked b;
        bool accepts = !strncmp(rows[i].name, "accept", 6);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
        struct sleeper s = {.fd = accepts ? a_listener() : sv[0], .call = rows[i].call};
        assert_int_equal(pthread_create(&s.thread, NULL, sleeps, &s), 0);
        if (!WAIT_UNTIL(blocked_on(s.fd, &b) == 1)) fail_msg("%s: not seen", rows[i].name);
        if (!b.known || b.sending != rows[i].sending || strcmp(b.thread[0].call, rows[i].name) ||
            b.thread[0].tid != s.tid)
            fail_msg("%s: seen as %s", rows[i].name, b.thread[0].call);
        // accept has neither of them; every other call has not the other end.
        assert_int_equal(blocked_on(sv[1], &b), 0);
        assert_true(b.known);
        stop(&s);
        if (accepts) close(s.fd);
        close(sv[0]), close(sv[1]);
    }
}

static void *connects(void *p)
{
    struct sleeper *s = p;
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    s->tid = (pid_t)syscall(SYS_gettid);
    getsockname(s->listener, (struct sockaddr *)&a, &n);
    (void)connect(s->fd, (struct sockaddr *)&a, n);
    return NULL;
}

// A connect blocks when the listener's queue is full.
static void connect_too(void **state)
{
    (void)state;
    struct blocked b;
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    int l = a_listener(), full[8], k = 0;
    getsockname(l, (struct sockaddr *)&a, &n);
    for (;; k++) {
        assert_true(k < 8);
        full[k] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(full[k], (struct sockaddr *)&a, n)) break;
    }
    struct sleeper s = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .listener = l};
    assert_int_equal(pthread_create(&s.thread, NULL, connects, &s), 0);
    assert_true(WAIT_UNTIL(blocked_on(s.fd, &b) == 1));
    assert_string_equal(b.thread[0].call, "connect");
    close(l);
    pthread_join(s.thread, NULL);
    for (; k >= 0; k--) close(full[k]);
    close(s.fd);
}

static void the_crowd_is_counted_and_bounded(void **state)
{
    (void)state;
    enum { CROWD = 40 };
    static struct sleeper s[CROWD];
    struct blocked b;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    for (int i = 0; i < CROWD; i++) {
        s[i] = (struct sleeper){.fd = sv[i % 4 == 0], .call = in_recv};
        start(&s[i]);
    }
    assert_int_equal(blocked_on(sv[0], &b), CROWD * 3 / 4);
    assert_true(b.known);
    for (int i = 0; i < THREADS_TOLD; i++) assert_string_equal(b.thread[i].call, "recvfrom");
    assert_int_equal(blocked_on(sv[1], &b), CROWD / 4);
    uint64_t took = threads_blocked_on(sv[0], 0, &b);
    assert_false(b.known);
    assert_true(b.n < CROWD * 3 / 4);
    assert_true(took < AMPLE_US);
    for (int i = 0; i < CROWD; i++) stop(&s[i]);
    close(sv[0]), close(sv[1]);
}

static void names(void **state)
{
    (void)state;
    struct blocked b;
    char name[16];
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    struct sleeper s = {.fd = sv[0], .call = in_recv};
    start(&s);
    pthread_setname_np(s.thread, "a) 15 (bytes of");
    assert_int_equal(blocked_on(sv[0], &b), 1);
    assert_string_equal(b.thread[0].name, "a) 15 (bytes of");
    thread_name(s.tid, name);
    assert_string_equal(name, "a) 15 (bytes of");
    pid_t gone = s.tid;
    stop(&s);
    assert_true(WAIT_UNTIL(!process_state(gone)));
    thread_name(gone, name);
    assert_string_equal(name, "");
    close(sv[0]), close(sv[1]);
}

// It stays in recv on a socket whose number another gets, and is not on that one.
static void left_on_an_older_socket(void **state)
{
    (void)state;
    struct blocked b;
    int old[2], sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, old), 0);
    struct sleeper ghost = {.fd = old[0], .call = in_recv};
    start(&ghost);
    assert_int_equal(blocked_on(old[0], &b), 1);
    threads_left(old[0], &b);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(dup2(sv[0], old[0]), old[0]);
    assert_int_equal(blocked_on(old[0], &b), 0);
    assert_true(b.known);
    struct sleeper s = {.fd = old[0], .call = in_recv};
    start(&s);
    assert_int_equal(blocked_on(old[0], &b), 1);
    assert_int_equal(b.thread[0].tid, s.tid);
    stop(&s);
    pid_t tid = ghost.tid;
    stop(&ghost);
    assert_true(WAIT_UNTIL(!process_state(tid)));
    assert_int_equal(blocked_on(old[0], &b), 0);
    struct sleeper again = {.fd = old[0], .call = in_recv};
    start(&again);
    threads_left(old[0] + 1, &b); // another number's
    assert_int_equal(blocked_on(old[0], &b), 1);
    stop(&again);
    close(old[0]), close(old[1]), close(sv[0]), close(sv[1]);
}

static void long_arrays_and_gaps(void **state)
{
    (void)state;
    enum { MANY = 5000 };
    static struct pollfd entries[MANY];
    struct blocked b;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    for (int i = 0; i < MANY; i++) entries[i].fd = -1;
    entries[4000] = (struct pollfd){.fd = sv[0], .events = POLLIN};
    entries[4500] = (struct pollfd){.fd = sv[1], .events = POLLIN};
    struct sleeper s = {.call = in_poll, .polled = entries, .n_polled = 4096};
    start(&s);
    assert_int_equal(blocked_on(sv[0], &b), 1);
    assert_true(b.known);
    assert_int_equal(blocked_on(sv[1], &b), 0);
    assert_true(b.known);
    stop(&s);
    s = (struct sleeper){.call = in_poll, .polled = entries, .n_polled = MANY};
    start(&s);
    assert_int_equal(blocked_on(sv[1], &b), 0);
    assert_false(b.known); // it is behind the part that is read
    stop(&s);
    struct sleeper far = {.fd = fcntl(sv[0], F_DUPFD_CLOEXEC, 200), .call = in_select};
    start(&far);
    assert_int_equal(blocked_on(far.fd, &b), 1);
    assert_int_equal(blocked_on(far.fd + 1, &b), 0);
    assert_int_equal(blocked_on(900, &b), 0);
    stop(&far);
    struct sleeper beyond = {.fd = far.fd, .call = in_select, .n_polled = (unsigned)far.fd};
    start(&beyond);
    assert_int_equal(blocked_on(far.fd, &b), 0); // in its set, but not looked at
    stop(&beyond);
    close(far.fd), close(sv[0]), close(sv[1]);
}

static void an_array_that_is_gone(void **state)
{
    (void)state;
    struct blocked b;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    char *pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    struct pollfd *p = (struct pollfd *)(void *)(pages + 4096); // a gap that is too small for another mapping
    p[0] = (struct pollfd){.fd = sv[0], .events = POLLIN};
    struct sleeper s = {.call = in_poll, .polled = p, .n_polled = 1};
    start(&s);
    assert_int_equal(blocked_on(sv[0], &b), 1);
    munmap(p, 4096);
    assert_int_equal(blocked_on(sv[0], &b), 0);
    assert_false(b.known);
    stop(&s);
    close(sv[0]), close(sv[1]);
}

static void parts_then_sleeps(struct sleeper *s)
{
    char byte;
    if (unshare(CLONE_FILES)) return;
    if (s->n_polled) { // its number means another socket from now on
        int other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        dup2(other, s->fd);
    }
    recv(s->fd, &byte, 1, 0);
}

// hazard 6
static void a_thread_with_a_table_of_its_own(void **state)
{
    (void)state;
    struct blocked b;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    struct sleeper same = {.fd = sv[0], .call = parts_then_sleeps};
    struct sleeper different = {.fd = sv[0], .call = parts_then_sleeps, .n_polled = 1};
    start(&different);
    assert_int_equal(blocked_on(sv[0], &b), 0);
    start(&same);
    assert_int_equal(blocked_on(sv[0], &b), 1);
    assert_int_equal(b.thread[0].tid, same.tid);
    stop(&same), stop(&different);
    close(sv[0]), close(sv[1]);
}

// Runs body in a child with one thread blocked on a socket; the child's exit status is what body returns.
static pid_t child_with_thread(sleep_in *call, int (*body)(struct sleeper *s, int control), int control)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child) return child;
    static struct sleeper s;
    int sv[2];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv)) _exit(99);
    s = (struct sleeper){.fd = sv[0], .call = call};
    if (pthread_create(&s.thread, NULL, sleeps, &s)) _exit(99);
    if (!WAIT_UNTIL(s.tid && is_blocked(getpid(), s.tid))) _exit(98);
    _exit(body(&s, control));
}

static int status_of(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int drop_and_look(struct sleeper *s, int control)
{
    struct blocked b;
    (void)control;
    if (blocked_on(s->fd, &b) != 1 || !b.known) return 1;
    // The C library signals every thread to change its user too.
    if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) return 2;
    errno = 0;
    if (blocked_on(s->fd, &b) != 0 || b.known) return 3;
    if (errno) return 4;
    prctl(PR_SET_DUMPABLE, 1);
    return WAIT_UNTIL(blocked_on(s->fd, &b) == 1) && b.known ? 0 : 5;
}

// The kernel gives the files of a process that dropped its privileges to root: nothing is claimed then.
static void a_process_that_dropped_its_privileges(void **state)
{
    (void)state;
    if (geteuid()) {
        print_message("         skipped: not root\n");
        skip();
    }
    assert_int_equal(status_of(child_with_thread(in_recv, drop_and_look, -1)), 0);
}

static int tell_and_look(struct sleeper *s, int control)
{
    struct blocked b;
    char byte = 'r';
    write(control, &byte, 1);
    read(control, &byte, 1);
    if (!WAIT_UNTIL(is_blocked(getpid(), s->tid))) return 1;
    return blocked_on(s->fd, &b) == 1 && b.known ? 0 : 2;
}

// A poll that was stopped and goes on is another call to the kernel (restart_syscall(2)).
static void a_poll_that_was_stopped(void **state)
{
    (void)state;
    char byte;
    int control[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
    pid_t child = child_with_thread(in_poll, tell_and_look, control[1]);
    assert_int_equal(read(control[0], &byte, 1), 1);
    kill(child, SIGSTOP);
    assert_true(WAIT_UNTIL(process_state(child) == 'T'));
    kill(child, SIGCONT);
    assert_true(WAIT_UNTIL(process_state(child) == 'S'));
    assert_int_equal(write(control[0], &byte, 1), 1);
    assert_int_equal(status_of(child), 0);
    close(control[0]), close(control[1]);
}

static void *spins(void *p)
{
    _Atomic int *stage = p; // 0 new, 1 spinning, 2 enough
    atomic_store(stage, 1);
    while (atomic_load(stage) == 1) continue;
    return NULL;
}

static void a_thread_that_runs_is_counted(void **state)
{
    (void)state;
    _Atomic int stage = 0;
    pthread_t thread;
    struct blocked b;
    threads_blocked_on(1000, AMPLE_US, &b);
    assert_int_equal(b.running, 0);
    assert_int_equal(pthread_create(&thread, NULL, spins, &stage), 0);
    while (!atomic_load(&stage)) sched_yield();
    threads_blocked_on(1000, AMPLE_US, &b);
    assert_true(b.known);
    assert_int_equal(b.running, 1);
    atomic_store(&stage, 2);
    pthread_join(thread, NULL);
}

static void no_trace_is_left(void **state)
{
    (void)state;
    struct blocked b;
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    errno = 4242;
    threads_blocked_on(0, AMPLE_US, &b);
    threads_blocked_on(-1, AMPLE_US, &b);
    assert_int_equal(errno, 4242);
    assert_true(b.known);
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(before, after);
    close(after);
}

int main(void)
{
    take_interrupts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call),
        cmocka_unit_test(connect_too),
        cmocka_unit_test(the_crowd_is_counted_and_bounded),
        cmocka_unit_test(names),
        cmocka_unit_test(left_on_an_older_socket),
        cmocka_unit_test(long_arrays_and_gaps),
        cmocka_unit_test(an_array_that_is_gone),
        cmocka_unit_test(a_thread_with_a_table_of_its_own),
        cmocka_unit_test(a_process_that_dropped_its_privileges),
        cmocka_unit_test(a_poll_that_was_stopped),
        cmocka_unit_test(a_thread_that_runs_is_counted),
        cmocka_unit_test(no_trace_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
