// timeout: 60
// Hazard 25: a socket that may be shared, with a thread blocked on it: the library looks whether anyone else holds it. Here
// someone always does, and hides: moves it from number to number, hands it on from process to process, keeps it in
// one thread's table, behind a leader that has ended, in another namespace, where we may not look. It is never cut.
#include "hostile.h"

#include <grp.h>

static int conn[2];    // conn[0] is held by the holder too
static int verdict[2]; // the holder's end: a byte when it holds
static _Atomic bool *stop;

static void holds_now(void)
{
    must(write(verdict[1], "h", 1));
}

static void wait_stop(void)
{
    while (!atomic_load(stop)) look_again();
}

// The connection is alive as the holder sees it.
static void check(int fd)
{
    if (!both_ways(fd, conn[1])) fail("the connection was cut under its other holder");
    must(write(verdict[1], "a", 1));
    raw_exit(0);
}

static void plain(void)
{
    holds_now();
    wait_stop();
    check(conn[0]);
}

// Where nobody who knows the number would look.
static void elsewhere(void)
{
    int at = must(dup2(conn[0], 77));
    must(close(conn[0]));
    holds_now();
    wait_stop();
    check(at);
}

// dup2 to another number, then close of the old: a scan that reads the numbers one by one may meet neither.
static void moving(void)
{
    int at = conn[0], numbers[] = {200, 70, 150, 60, 180, 90};
    holds_now();
    for (unsigned i = 0; !atomic_load(stop); i++) {
        int to = numbers[i % 6];
        if (to == at) continue;
        must(dup2(at, to));
        must(close(at));
        at = to;
    }
    check(at);
}

// Each process forks the next and ends: none is there for long.
static void handed_on(void)
{
    holds_now();
    while (!atomic_load(stop)) {
        pid_t pid = raw_fork();
        if (pid > 0) raw_exit(0);
        if (pid < 0) look_again();
    }
    check(conn[0]);
}

static void *part(void *arg)
{
    must(unshare(CLONE_FILES));
    atomic_store((_Atomic bool *)arg, true);
    wait_stop();
    check(conn[0]);
    return NULL;
}

// Only a thread's own table has it: that of its process does not.
static void in_a_threads_table(void)
{
    static _Atomic bool parted;
    start_thread(part, (void *)&parted);
    while (!atomic_load(&parted)) look_again();
    raw_close(conn[0]);
    holds_now();
    for (;;) pause();
}

static void *stay(void *arg)
{
    char path[64], *text;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)getpid());
    do text = text_of(path);
    while (!strstr(text, ") Z ")); // the leader shows as a zombie from here on
    holds_now();
    wait_stop();
    check(conn[0]);
    return arg;
}

static void behind_a_zombie(void)
{
    start_thread(stay, NULL);
    raw(SYS_exit, 0, 0, 0);
}

// Orphaned, in a session of its own.
static void daemonised(void)
{
    if (raw_fork()) raw_exit(0);
    setsid();
    if (raw_fork()) raw_exit(0);
    holds_now();
    wait_stop();
    check(conn[0]);
}

static void in_a_pid_namespace(void)
{
    if (unshare(CLONE_NEWPID)) skip("no process namespace: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        holds_now();
        wait_stop();
        check(conn[0]);
    }
    reap(pid, "the first process of a namespace", 20000);
    raw_exit(0);
}

static const struct {
    const char *name;
    void (*run)(void);
    unsigned rounds;
    bool as_nobody; // the closing process drops its privileges, the holder does not
} holders[] = {
    {"a child", plain, 2, false},
    {"a child, under another number", elsewhere, 4, false},
    {"a child that moves it", moving, 12, false},
    {"one that is handed on", handed_on, 12, false},
    {"a thread's own table", in_a_threads_table, 2, false},
    {"a thread behind a zombie", behind_a_zombie, 2, false},
    {"an orphan", daemonised, 2, false},
    {"a process namespace", in_a_pid_namespace, 2, false},
    {"a process that may not be looked into", plain, 2, true},
};

static void become_nobody(void)
{
    if (geteuid()) skip("needs root");
    must(setgroups(0, NULL));
    must(setresgid(65534, 65534, 65534));
    must(setresuid(65534, 65534, 65534));
    must(prctl(PR_SET_DUMPABLE, 1)); // its own threads may be looked at again
}

static void scenario(long n)
{
    struct receiver r;
    bool tcp = n & 1;
    n /= 2;
    stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(pipe(verdict));
    if (tcp) tcp_pair(conn);
    else pair(conn);
    pid_t pid = must(fork());
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        holders[n].run();
        raw_exit(0);
    }
    char byte;
    struct pollfd p = {.fd = verdict[0], .events = POLLIN};
    if (poll(&p, 1, DEADLINE_MS) != 1 || read(verdict[0], &byte, 1) != 1) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 77) raw_exit(77);
        fail("the holder does not run");
    }
    if (holders[n].as_nobody) become_nobody();
    start_receiver(&r, conn[0]);
    int64_t start = now_ms();
    must(close(conn[0]));
    if (now_ms() - start > 2000) fail("close took %d ms", (int)(now_ms() - start));
    if (peer_sees(conn[1], 20) != '-') fail("cut, though %s holds it", holders[n].name);
    expect(send(conn[1], "x", 1, MSG_NOSIGNAL) == 1 && comes_back(&r, DEADLINE_MS));
    atomic_store(stop, true);
    if (poll(&p, 1, 2 * DEADLINE_MS) != 1 || read(verdict[0], &byte, 1) != 1 || byte != 'a') fail("it has lost it");
    raw_exit(0);
}

int main(void)
{
    need_library();
    for (long n = 0; n < (long)(sizeof holders / sizeof *holders); n++)
        for (unsigned round = 0; round < holders[n].rounds; round++)
            in_child(holders[n].name, 20000, scenario, n * 2 + (round & 1));
    return 0;
}
