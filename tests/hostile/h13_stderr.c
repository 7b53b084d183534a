// timeout: 60
// beside: after hook
// Hazard 13: findings go to a stderr that is the program's: closed, replaced, full, without a reader, stopped. Nothing is
// written into what took its place, nothing waits, no signal comes, and the last reader sees its end.
#include "hostile.h"

#include <pty.h>
#include <termios.h>

static void many(unsigned n)
{
    for (unsigned i = 0; i < n; i++) told_close();
}

static int own_file(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/own.%d", scratch(), (int)getpid());
    return must(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
}

static void expect_empty(int fd, const char *what)
{
    struct stat st;
    must(fstat(fd, &st));
    if (st.st_size) fail("%s: %ld bytes went into the program's file", what, (long)st.st_size);
}

// As long as nothing takes this long, nothing waited for a reader.
static void many_quickly(unsigned n)
{
    int64_t start = now_ms();
    many(n);
    if (now_ms() - start > DEADLINE_MS) fail("%u closes took %d ms", n, (int)(now_ms() - start));
}

// Was closed by whoever started the program: descriptor 2 is the first file that the program opens.
static void closed_at_start(void)
{
    expect(!is_open(2));
    int fd = own_file();
    expect(fd == 2);
    many(50);
    expect_empty(fd, "stderr was closed at the start");
}

static void closed_later(void)
{
    int sv[2];
    many(3);
    must(close(2));
    expect(own_file() == 2);
    many(50);
    expect_empty(2, "close and open");
    must(close(2));
    pair(sv);
    expect(sv[0] == 2);
    many(50);
    expect(peer_sees(sv[1], 0) == '-');
    int mine = own_file();
    must(dup2(mine, 2));
    many(50);
    expect_empty(mine, "dup2");
    expect(freopen("/dev/null", "w", stderr));
    many(50);
}

// fd 2 is a pipe whose reading end is number 100.
static void let_go_as_a_daemon(void)
{
    char bytes[4096];
    many(3);
    int null = must(open("/dev/null", O_RDWR));
    must(dup2(null, 2));
    many(3);
    int64_t end = now_ms() + DEADLINE_MS;
    for (;;) {
        ssize_t n = read(100, bytes, sizeof bytes);
        if (n == 0) break;
        if (n < 0 || now_ms() > end) fail("the reader of the old stderr sees no end: it is held");
    }
}

static void full_pipe(void)
{
    static char bytes[1 << 20];
    int flags = fcntl(2, F_GETFL);
    many_quickly(3000);
    expect(fcntl(2, F_GETFL) == flags); // not switched to O_NONBLOCK
    must(fcntl(100, F_SETFL, O_NONBLOCK));
    ssize_t n = read(100, bytes, sizeof bytes - 1);
    expect(n > 0);
    bytes[n] = '\0';
    expect(bytes[n - 1] == '\n'); // whole lines
    while (read(100, bytes, sizeof bytes) > 0) {}
    many(1);
    n = read(100, bytes, sizeof bytes - 1);
    expect(n > 0);
    bytes[n] = '\0';
    expect(strstr(bytes, "could not be written")); // what was lost is told
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static void no_reader(void)
{
    sigset_t set, pending;
    raw_close(100);
    many(20); // SIGPIPE would end the process
    signal(SIGPIPE, on_signal);
    many(20);
    expect(!signals);
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    must(sigprocmask(SIG_BLOCK, &set, NULL));
    many(20);
    must(sigpending(&pending));
    expect(!sigismember(&pending, SIGPIPE)); // none was left behind
    raise(SIGPIPE);
    many(20);
    must(sigpending(&pending));
    expect(sigismember(&pending, SIGPIPE)); // and the program's own is not taken
    must(sigprocmask(SIG_UNBLOCK, &set, NULL));
    expect(signals == 1);
    kill(getpid(), SIGPIPE);
    expect(signals == 2);
}

static void socket_as_stderr(void)
{
    many_quickly(3000);
    raw_close(100);
    many(20);
    signal(SIGPIPE, on_signal);
    many(20);
    expect(!signals);
}

static void stopped_terminal(void)
{
    many_quickly(3000);
}

// Nobody reads it: it takes what it has room for.
static void unread_terminal(void)
{
    many_quickly(1000);
}

// Another thread has findings all the time, while this one replaces stderr and takes it back.
static _Atomic bool over;

static void *tell(void *arg)
{
    while (!atomic_load(&over)) told_close();
    return arg;
}

// Between what the library does before the kernel's dup2 and that: some microseconds, now more, now less.
static void wait_a_little(const char *call, int to)
{
    static uint64_t seed = 88172645463325252u;
    (void)call;
    if (to == 2)
        for (uint64_t n = next_random(&seed) % 30000; n; n--) __asm__ volatile("" ::: "memory");
}

static void replaced_meanwhile(void)
{
    void (**hook)(const char *, int);
    *(void **)(void *)&hook = dlsym(RTLD_DEFAULT, "beside_before");
    if (!hook) skip("beside/hook.so is not preloaded");
    *hook = wait_a_little;
    int mine = own_file(), kept = must(dup(2));
    pthread_t t = start_thread(tell, NULL);
    for (int64_t end = now_ms() + 500; now_ms() < end;) {
        must(dup2(mine, 2));
        expect_empty(mine, "dup2");
        must(dup2(kept, 2));
        must(dup3(mine, 2, O_CLOEXEC));
        expect_empty(mine, "dup3");
        must(dup2(kept, 2));
        must(syscall(SYS_dup3, mine, 2, 0));
        expect_empty(mine, "dup3 by number");
        must(dup2(kept, 2));
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    expect_empty(mine, "the last");
    many(3);
    struct stat st;
    must(fstat(2, &st));
    expect(st.st_size > 0); // it was written to while it was there
}

static void limited_file(void)
{
    struct rlimit limit = {4000, 4000};
    must(setrlimit(RLIMIT_FSIZE, &limit));
    many(100); // SIGXFSZ would end the process
    signal(SIGXFSZ, on_signal);
    many(100);
    expect(!signals);
}

static void device(void)
{
    many_quickly(500);
}

static const struct {
    const char *name;
    void (*run)(void);
    enum { CLOSED, PIPE, SOCKET, TERMINAL, STOPPED, PLAIN, FULL } what;
} scenarios[] = {
    {"closed at the start", closed_at_start, CLOSED},
    {"closed later", closed_later, PLAIN},
    {"let go of as a daemon does", let_go_as_a_daemon, PIPE},
    {"a full pipe", full_pipe, PIPE},
    {"a pipe without a reader", no_reader, PIPE},
    {"a socket", socket_as_stderr, SOCKET},
    {"a terminal that is stopped", stopped_terminal, STOPPED},
    {"a terminal that nobody reads", unread_terminal, TERMINAL},
    {"replaced meanwhile", replaced_meanwhile, PLAIN},
    {"a file with a limit", limited_file, PLAIN},
    {"a full device", device, FULL},
};

static void start(long n)
{
    int fds[2] = {-1, -1};
    char number[12], path[PATH_MAX];
    snprintf(number, sizeof number, "%ld", n);
    snprintf(path, sizeof path, "%s/stderr.%ld", scratch(), n);
    struct again a = {.mode = "scenario", .arg = number, .log = "stderr", .stderr_fd = -1};
    switch (scenarios[n].what) {
    case CLOSED:
        raw_close(2);
        break;
    case PIPE:
        must(pipe(fds));
        break;
    case SOCKET:
        pair(fds);
        break;
    case TERMINAL:
    case STOPPED:
        must(openpty(&fds[0], &fds[1], NULL, NULL, NULL));
        if (scenarios[n].what == STOPPED) must(tcflow(fds[1], TCOOFF));
        break;
    case PLAIN:
        fds[1] = must(open(path, O_WRONLY | O_CREAT | O_APPEND, 0600));
        break;
    case FULL:
        fds[1] = must(open("/dev/full", O_WRONLY));
    }
    if (fds[0] >= 0) {
        must(dup2(fds[0], 100));
        raw_close(fds[0]);
    }
    if (fds[1] >= 0) {
        must(dup2(fds[1], 2));
        raw_close(fds[1]);
    }
    become((long)&a);
}

int main(int argc, char **argv)
{
    need_library();
    if (argc > 1) {
        within = scenarios[atoi(argv[2])].name;
        scenarios[atoi(argv[2])].run();
        _exit(0);
    }
    for (long n = 0; n < (long)(sizeof scenarios / sizeof *scenarios); n++) in_child(scenarios[n].name, 20000, start, n);
    return 0;
}
