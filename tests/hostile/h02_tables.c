// Hazard 2: who shares the descriptor table and who has his own is decided by clone, clone3, unshare and exec, not by
// what is a thread and what a process. What another task has duplicated, inherited or kept lives.
#include "hostile.h"

#include <linux/close_range.h>
#include <linux/sched.h>
#include <spawn.h>

enum { STACK = 1 << 17, OTHER = 500 }; // OTHER: a number for a duplicate
static char stack[STACK] __attribute__((aligned(16)));

static int conn[2]; // conn[0]: what is shared; conn[1]: its peer
static int to[2], from[2];
static char number[12];
static _Atomic int kept = -1;
static _Atomic bool done;

static void begin(void)
{
    tcp_pair(conn);
    must(pipe(to));
    must(pipe(from));
    must(fcntl(conn[1], F_SETFD, FD_CLOEXEC));
    must(fcntl(to[1], F_SETFD, FD_CLOEXEC)); // a program whose starter is gone ends
    snprintf(number, sizeof number, "%d", conn[0]);
}

static void await(int fd)
{
    char byte;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, DEADLINE_MS) < 0 && errno == EINTR) {}
    if (!(p.revents & POLLIN) || raw(SYS_read, fd, (long)&byte, 1) != 1) fail("the other task never said to go on");
}

static void say_go(int fd)
{
    raw(SYS_write, fd, (long)"g", 1);
}

// The parent lets go of conn[0]; another still holds it as fd of this table, or in a table of its own.
static void close_ours(const char *who)
{
    must(close(conn[0]));
    if (peer_sees(conn[1], 10) != '-') fail("close cut the connection that %s holds", who);
}

// --- A process that shares the table (clone with CLONE_FILES and without CLONE_THREAD) ---

static int duplicates(void *arg)
{
    (void)arg;
    return fcntl(conn[0], F_DUPFD, OTHER) == OTHER ? 0 : 2;
}

static pid_t clone_how(int (*fn)(void *), unsigned long flags, bool by_number)
{
    if (!by_number) return must(clone(fn, stack + STACK, (int)flags | SIGCHLD, NULL));
    // A child with memory of its own may return into the middle of this function.
    pid_t pid = must(syscall(SYS_clone, (long)flags | SIGCHLD, NULL, NULL, NULL, 0L));
    if (!pid) raw_exit(fn(NULL));
    return pid;
}

// The child duplicates the connection in the table that both have. When it has ended, we use the duplicate.
static void table_shared(long how)
{
    unsigned long flags = CLONE_FILES | (how & 1 ? CLONE_VM | CLONE_VFORK : 0);
    begin();
    pid_t pid = clone_how(duplicates, flags, how & 2);
    reap(pid, "the child that duplicates", DEADLINE_MS);
    must(close(conn[0]));
    if (!both_ways(OTHER, conn[1])) fail("close cut a duplicate that a process with our table had made");
    must(close(OTHER));
    expect(peer_sees(conn[1], DEADLINE_MS) == 'e');
}

static int becomes(void *arg)
{
    (void)arg;
    char *argv[] = {(char[]){"self"}, (char[]){"hold"}, number, NULL};
    char in[12], out[12];
    snprintf(in, sizeof in, "%d", to[0]);
    snprintf(out, sizeof out, "%d", from[1]);
    char *all[] = {argv[0], argv[1], argv[2], in, out, NULL};
    execv("/proc/self/exe", all);
    return 126;
}

// Until its exec the child has our table, from then on a copy.
static void exec_from_shared(long how)
{
    begin();
    pid_t pid = must(clone(becomes, stack + STACK, CLONE_FILES | CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
    await(from[0]);
    (void)how;
    close_ours("a program that a clone with CLONE_FILES has started");
    say_go(to[1]);
    expect(peer_sees(conn[1], DEADLINE_MS) == 'd');
    expect(send(conn[1], "y", 1, MSG_NOSIGNAL) == 1);
    reap(pid, "the program", DEADLINE_MS);
}

static int hold(char **argv)
{
    char byte;
    int fd = atoi(argv[2]), in = atoi(argv[3]), out = atoi(argv[4]);
    if (write(out, "r", 1) != 1 || read(in, &byte, 1) != 1) return 3;
    if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) return 4;
    return recv(fd, &byte, 1, 0) == 1 ? 0 : 5;
}

// --- Threads with a table of their own, that libc knows nothing of ---

static int parts(void *how)
{
    int ret = 0;
    switch ((uintptr_t)how) {
    case 0:
        ret = unshare(CLONE_FILES);
        break;
    case 1:
        ret = (int)syscall(SYS_unshare, CLONE_FILES);
        break;
    case 2: // nothing is open there
        ret = close_range(900000, 900001, CLOSE_RANGE_UNSHARE);
        break;
    default:
        ret = (int)syscall(SYS_close_range, 900000, 900001, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC);
    }
    atomic_store(&kept, ret < 0 ? -errno : conn[0]);
    await(to[0]);
    if (raw6(SYS_sendto, conn[0], (long)"x", 1, MSG_NOSIGNAL, 0, 0) == 1) atomic_store(&done, true);
    say_go(from[1]);
    for (;;) raw(SYS_exit, 0, 0, 0);
    return 0;
}

static void *parts_in_thread(void *how)
{
    parts(how);
    return NULL;
}

static void parted(long how)
{
    begin();
    void *arg = (void *)(how & 3);
    if (how & 4) start_thread(parts_in_thread, arg);
    else must(clone(parts, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, arg));
    while (atomic_load(&kept) == -1) look_again();
    if (atomic_load(&kept) < 0) fail("a thread cannot have a table of its own: %s", strerror(-atomic_load(&kept)));
    close_ours(how & 4 ? "a thread in a table of its own" : "a thread by clone(2) in a table of its own");
    say_go(to[1]);
    await(from[0]);
    expect(atomic_load(&done));
    expect(peer_sees(conn[1], DEADLINE_MS) == 'd');
}

// --- clone3 ---

static pid_t clone3_by_number(unsigned long flags)
{
    struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &a, sizeof a);
}

static void by_clone3(long flags)
{
    begin();
    pid_t pid = clone3_by_number((unsigned long)flags);
    if (pid < 0 && errno == ENOSYS) return;
    if (!pid) {
        await(to[0]);
        expect(both_ways(conn[0], conn[1]));
        raw_exit(0);
    }
    close_ours("a child by clone3");
    say_go(to[1]);
    reap(must(pid), "a child by clone3", DEADLINE_MS);
}

// --- What a vfork child does must not disarm its parent ---

static void disarmed(long how)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    int pipe_ends[2];
    must(pipe(pipe_ends));
    pid_t pid = vfork();
    if (!pid) {
        switch (how) {
        case 0:
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
            break;
        case 1:
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
            break;
        case 2: {
            char params[256] = {0};
            syscall(SYS_io_uring_setup, 1, params);
            break;
        }
        default:
            unshare(CLONE_FILES);
            close_range(3, 4000, CLOSE_RANGE_UNSHARE);
        }
        _exit(0);
    }
    reap(must(pid), "the vfork child", DEADLINE_MS);
    static const char *const what[] = {"a vfork child with a filter by prctl", "a vfork child with a filter by seccomp",
                                       "a vfork child with an io_uring", "a vfork child that parts its table"};
    still_works(what[how]);
}

// --- Children whose parent is the first process of a process namespace ---

static int takes_numbers(void *arg)
{
    (void)arg;
    // In a table of its own, under the numbers that the parent gives to others.
    for (int i = 0; i < 40; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd >= 0 && i % 2) close(fd);
    }
    atomic_store(&done, true);
    await(to[0]);
    raw_exit(0);
}

static void first_process(void)
{
    static int a[20][2], d[20];
    begin();
    int flags = CLONE_VM | CLONE_NEWPID | SIGCHLD;
    pid_t pid = clone(takes_numbers, stack + STACK, flags, NULL);
    if (pid < 0) fail("clone with CLONE_NEWPID: %s", strerror(errno));
    while (!atomic_load(&done)) sched_yield();
    for (int i = 0; i < 20; i++) pair(a[i]), d[i] = must(dup(a[i][0]));
    atomic_store(&done, false);
    pid_t second = must(clone(takes_numbers, (char *)malloc(STACK) + STACK, flags, NULL));
    while (!atomic_load(&done)) sched_yield();
    for (int i = 0; i < 20; i++) must(close(d[i]));
    for (int i = 0; i < 20; i++)
        if (!both_ways(a[i][0], a[i][1])) fail("a clone in a process namespace of its own cost us a connection");
    say_go(to[1]);
    say_go(to[1]);
    reap(pid, "the clone", DEADLINE_MS);
    reap(second, "the clone", DEADLINE_MS);
    _exit(0);
}

static void in_namespace(long arg)
{
    (void)arg;
    if (unshare(CLONE_NEWPID) < 0) return; // not allowed here
    pid_t pid = must(fork());
    if (!pid) first_process();
    reap(pid, "the first process of a namespace", 2 * DEADLINE_MS);
}

int main(int argc, char **argv)
{
    if (argc > 4) return hold(argv);
    need_library();
    for (long how = 0; how < 4; how++) in_child("vfork children", 10000, disarmed, how);
    for (long how = 0; how < 8; how++) in_child("threads with a table of their own", 10000, parted, how);
    for (long how = 0; how < 3; how++) in_child("processes with one table", 10000, table_shared, how);
    in_child("exec from a shared table", 10000, exec_from_shared, 0);
    in_child("clone3", 10000, by_clone3, 0);
    in_child("clone3 with a cleared handler table", 10000, by_clone3, CLONE_CLEAR_SIGHAND);
    in_child("a process namespace", 20000, in_namespace, 0);
    return 0;
}
