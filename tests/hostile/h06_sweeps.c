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

int main(void)
{
    need_library();
    for (long how = 0; how < 8; how++) in_child("swept by a child", 10000, swept_by_child, how);
    for (long how = 0; how < 8; how++) in_child("swept by its owner", 10000, own_sweep, how);
    in_child("CLOSE_RANGE_CLOEXEC", 10000, cloexec, 0);
    in_child("CLOSE_RANGE_CLOEXEC by number", 10000, cloexec, 1);
    in_child("close_range that fails", 10000, fails, 0);
    for (long how = 0; how < 3; how++) in_child("a thread that has parted", 10000, parted_thread, how);
    return 0;
}
