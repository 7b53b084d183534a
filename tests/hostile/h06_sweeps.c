// Hazard 6: sweeps over all descriptors in a forked child, close-on-exec for a range, and threads that part from the
// others with a descriptor table of their own: another holder, that no fork shows.
#include "hostile.h"

#include <linux/close_range.h>

enum { CONNECTIONS = 20 };
static int near[CONNECTIONS], far[CONNECTIONS];

static void connect_all(void)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        int sv[2];
        if (i & 1) tcp_pair(sv);
        else pair(sv);
        near[i] = sv[0];
        far[i] = sv[1];
    }
}

static void expect_alive(const char *after)
{
    for (int i = 0; i < CONNECTIONS; i++)
        if (!both_ways(near[i], far[i])) fail("connection %d was cut by %s", i, after);
}

static void sweep(long how)
{
    switch (how) {
    case 0:
        for (int fd = 3; fd < 3000; fd++) close(fd);
        break;
    case 1:
        for (int fd = 3000; fd >= 0; fd--) close(fd);
        break;
    case 2:
        closefrom(0);
        break;
    case 3:
        close_range(3, ~0u, 0);
        break;
    case 4:
        close_range(0, ~0u, CLOSE_RANGE_UNSHARE);
        break;
    case 5:
        syscall(SYS_close_range, 3, ~0u, 0);
        break;
    case 6:
        for (int fd = 3; fd < 3000; fd++) syscall(SYS_close, fd);
        break;
    default:
        closefrom(-5);
    }
}

// The child of a daemon that tidies up; and its child.
static void swept_by_child(long how)
{
    connect_all();
    pid_t pid = must(fork());
    if (!pid) {
        sweep(how);
        pid_t again = fork();
        if (!again) {
            sweep((how + 1) % 8);
            _exit(0);
        }
        while (waitpid(again, NULL, 0) < 0 && errno == EINTR) {}
        _exit(0);
    }
    reap(pid, "the child", DEADLINE_MS);
    expect_alive("a sweep in a child");
    still_works("a child's sweep");
}

// The program's own sweep is one: everything is let go of, and what was shared before lives.
static void own_sweep(long how)
{
    connect_all();
    int go[2];
    must(pipe(go));
    pid_t pid = must(fork());
    if (!pid) {
        char byte;
        must(close(go[1]));
        expect(read(go[0], &byte, 1) == 0); // the parent has swept
        expect_alive("the parent's sweep");
        _exit(0);
    }
    verdict_fd = must(fcntl(STDOUT_FILENO, F_DUPFD, 3500));
    sweep(how);
    reap(pid, "the child", DEADLINE_MS);
}

static void cloexec(long by_number)
{
    connect_all();
    if (by_number) must(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC));
    else must(close_range(3, ~0u, CLOSE_RANGE_CLOEXEC));
    expect_alive("CLOSE_RANGE_CLOEXEC");
    expect(fcntl(near[0], F_GETFD) == FD_CLOEXEC);
    must(close(near[0]));
    expect(peer_sees(far[0], DEADLINE_MS) == 'e');
}

static void fails(long arg)
{
    (void)arg;
    connect_all();
    expect(close_range(10, 3, 0) == -1 && errno == EINVAL);
    expect(close_range(3, ~0u, 64) == -1 && errno == EINVAL);
    expect(syscall(SYS_close_range, 3, ~0u, 1u << 31) == -1 && errno == EINVAL);
    expect_alive("a close_range that failed");
}

// Under a filter that close_range does not get through: what fails cuts nothing. closefrom has other ways.
static void without_close_range(int error)
{
    int sv[2];
    connect_all();
    expect(close_range((unsigned)near[0], ~0u, 0) == -1 && errno == error);
    expect(syscall(SYS_close_range, near[0], ~0u, 0) == -1 && errno == error);
    expect(close_range((unsigned)near[0], ~0u, CLOSE_RANGE_UNSHARE) == -1 && errno == error);
    expect_alive("a close_range that failed");
    pair(sv);
    must(dup2(sv[0], 2000));
    raw_close(sv[0]);
    closefrom(2000);
    expect(!is_open(2000) && peer_sees(sv[1], DEADLINE_MS) == 'e');
    expect_alive("closefrom");
    raw_exit(0);
}

static void without(long error)
{
    char text[12];
    snprintf(text, sizeof text, "%ld", error);
    struct filter f = filter_new();
    filter_call(&f, SYS_close_range, SECCOMP_RET_ERRNO | (unsigned)error);
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    filter_inherit(&p);
    struct again a = {.mode = "without", .arg = text, .log = "none", .stderr_fd = -1};
    become((long)&a);
}

// --- A thread with a table of its own ---

static _Atomic bool parted, may_end;
static long parting;

static void *part(void *arg)
{
    switch (parting) {
    case 0:
        must(unshare(CLONE_FILES));
        break;
    case 1:
        must(syscall(SYS_unshare, CLONE_FILES));
        break;
    default:
        must(close_range(4000, 4001, CLOSE_RANGE_UNSHARE));
    }
    atomic_store(&parted, true);
    while (!atomic_load(&may_end)) look_again();
    expect_alive("the close of a thread with another table");
    for (int i = 0; i < CONNECTIONS; i++) raw_close(near[i]);
    return arg;
}

// After that one number is a socket here and another there.
static void *opens_there(void *arg)
{
    int sv[2];
    must(unshare(CLONE_FILES));
    pair(sv);
    near[2] = must(dup2(sv[0], 600)); // in this thread's table only
    near[3] = must(dup(near[2]));
    far[2] = sv[1];
    raw_close(sv[0]);
    atomic_store(&parted, true);
    while (!atomic_load(&may_end)) look_again();
    must(close(near[2])); // its duplicate lives
    if (!both_ways(near[3], far[2])) fail("the close of a thread with another table has cut a duplicate");
    return arg;
}

static void same_numbers(long how)
{
    int sv[2];
    (void)how;
    pthread_t t = start_thread(opens_there, NULL);
    while (!atomic_load(&parted)) look_again();
    // Here the duplicate's number is another socket's, opened and closed again.
    pair(sv);
    must(dup2(sv[0], near[3]));
    if (how) must(close(near[3]));
    atomic_store(&may_end, true);
    pthread_join(t, NULL);
    expect(both_ways(sv[0], sv[1]));
}

static void parted_thread(long how)
{
    struct receiver r;
    connect_all();
    parting = how;
    pthread_t t = start_thread(part, NULL);
    while (!atomic_load(&parted)) look_again();
    // With a thread blocked on it the library looks who else holds it, and must find that thread's table.
    start_receiver(&r, near[0]);
    for (int i = 0; i < CONNECTIONS; i++) {
        must(close(near[i]));
        if (peer_sees(far[i], i ? 0 : 10) != '-') fail("connection %d was cut, though another thread holds it", i);
    }
    expect(send(far[0], "x", 1, MSG_NOSIGNAL) == 1);
    expect(comes_back(&r, DEADLINE_MS));
    atomic_store(&may_end, true);
    pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
    need_library();
    if (argc > 2) without_close_range(atoi(argv[2]));
    for (long how = 0; how < 8; how++) in_child("swept by a child", 10000, swept_by_child, how);
    for (long how = 0; how < 8; how++) in_child("swept by its owner", 10000, own_sweep, how);
    in_child("CLOSE_RANGE_CLOEXEC", 10000, cloexec, 0);
    in_child("CLOSE_RANGE_CLOEXEC by number", 10000, cloexec, 1);
    in_child("close_range that fails", 10000, fails, 0);
    for (long how = 0; how < 3; how++) in_child("a thread that has parted", 10000, parted_thread, how);
    for (long how = 0; how < 2; how++) in_child("one number in two tables", 10000, same_numbers, how);
    in_child("without close_range", 10000, without, EPERM);
    in_child("without close_range", 10000, without, ENOSYS);
    return 0;
}
